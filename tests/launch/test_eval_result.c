/* Evaluation results as JSON: written, read back, refused when damaged. */
#include "tests/launch/run_fixture.h"

#include <math.h>

#include "launch/eval_result.h"

static char folder[PATH_MAX];
static char path[PATH_MAX + 32];

static int set_up(void **state)
{
    (void)state;
    folder_make(folder);
    snprintf(path, sizeof path, "%s/eval/step-00001000.json", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static void test_round_trip(void **state)
{
    (void)state;
    const struct run_value metrics[] = {{"dual/tr@1", 0.1}, {"itm_accuracy", NAN}};
    const struct run_value chance[] = {{"tr@1", 0.002}};
    const struct eval_candidate candidates[] = {
        {.image = {"a-*.h5", 3}, .score = 0.75, .correct = false},
        {.caption = "a <b> \"c\"\n\xC3\xA4", .score = -1e-3, .correct = true}};
    const struct eval_example examples[] = {
        {.kind = EVAL_HARD_NEGATIVE,
         .query = EVAL_QUERY_IMAGE,
         .caption = "two dogs",
         .image = {"b.h5", 9},
         .rank = 2,
         .candidates = candidates,
         .num_candidates = 2},
        {.kind = EVAL_RETRIEVAL_BEST, .query = EVAL_QUERY_CAPTION, .caption = "none"}};
    const struct eval_result result = {.step = 1000,
                                       .split = "val",
                                       .set = "a-*.h5",
                                       .num_images = 500,
                                       .num_texts = 2500,
                                       .rerank = 64,
                                       .metrics = {metrics, 2},
                                       .chance = {chance, 1},
                                       .examples = examples,
                                       .num_examples = 2};
    struct arena arena = {0};
    struct eval_result back;
    ASSERT_OK(eval_result_save(&result, folder));
    ASSERT_OK(eval_result_save(&result, folder));
    ASSERT_OK(eval_result_read(path, &arena, &back));
    assert_int_equal(back.step, 1000);
    assert_string_equal(back.split, "val");
    assert_string_equal(back.set, "a-*.h5");
    assert_int_equal(back.num_images, 500);
    assert_int_equal(back.num_texts, 2500);
    assert_int_equal(back.rerank, 64);
    assert_int_equal(back.metrics.count, 2);
    assert_string_equal(back.metrics.items[0].name, "dual/tr@1");
    assert_true(back.metrics.items[0].value == 0.1);
    assert_true(isnan(back.metrics.items[1].value));
    assert_int_equal(back.chance.count, 1);
    assert_int_equal(back.num_examples, 2);
    const struct eval_example *example = &back.examples[0];
    assert_int_equal(example->kind, EVAL_HARD_NEGATIVE);
    assert_int_equal(example->query, EVAL_QUERY_IMAGE);
    assert_int_equal(example->rank, 2);
    assert_string_equal(example->caption, "two dogs");
    assert_string_equal(example->image.set, "b.h5");
    assert_int_equal(example->image.index, 9);
    assert_int_equal(example->num_candidates, 2);
    assert_string_equal(example->candidates[0].image.set, "a-*.h5");
    assert_null(example->candidates[0].caption);
    assert_false(example->candidates[0].correct);
    assert_string_equal(example->candidates[1].caption, candidates[1].caption);
    assert_true(example->candidates[1].score == -1e-3);
    assert_true(example->candidates[1].correct);
    assert_null(example->candidates[1].image.set);
    assert_int_equal(back.examples[1].num_candidates, 0);
    arena_fini(&arena);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum status status;
        const char *part;
    } rows[] = {
        {"{\"step\": 1", STATUS_CORRUPT, "bad.json"},
        {"[1]", STATUS_INVALID, "bad.json: must be an object, not"},
        {"{}", STATUS_INVALID, "step"},
        {"{\"step\": 1, \"metrics\": {\"a\": \"b\"}}", STATUS_INVALID,
         "bad.json: 'a' must be a number, not a string"},
        {"{\"step\": 1, \"metrics\": 3}", STATUS_INVALID, "'metrics' must be an object"},
        {"{\"step\": 1, \"split\": 3}", STATUS_INVALID, "'split' must be a string"},
        {"{\"step\": 1, \"examples\": [{\"kind\": \"best\"}]}", STATUS_INVALID,
         "bad.json: example 0: 'kind' is 'best', which is none of its values"},
        {"{\"step\": 1, \"examples\": [{\"kind\": \"hard_negative\", \"query\": \"image\", "
         "\"candidates\": [{}]}]}",
         STATUS_INVALID, "a candidate has no 'score'"},
        {"{\"step\": 1, \"examples\": [{\"kind\": \"hard_negative\", \"query\": \"image\", "
         "\"image\": {\"set\": 1}}]}",
         STATUS_INVALID, "set"},
    };
    struct arena arena = {0};
    struct eval_result result;
    char bad[PATH_MAX + 16];
    snprintf(bad, sizeof bad, "%s/bad.json", folder);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        file_write(bad, rows[i].text);
        ASSERT_FAILS(eval_result_read(bad, &arena, &result), rows[i].status, rows[i].part);
    }
    ASSERT_FAILS(eval_result_read("/no/such", &arena, &result), STATUS_NOT_FOUND, "/no/such");
    result = (struct eval_result){.step = 1, .split = "val"};
    ASSERT_FAILS(eval_result_save(&result, "/no/such"), STATUS_IO,
                 "/no/such/eval: cannot create: No such file");
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
