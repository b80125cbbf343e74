/* The data and tokenizer sections: defaults, refusals with their place, and the loader made of
 * them. */
#include "tests/data/loader/loader_fixture.h"

#include "data/loader/loader_config.h"

static struct fixture f; /* 20 pictures with 27 captions in set.h5 */

static int set_up(void **state)
{
    (void)state;
    fixture_open(&f, &(struct set_options){.count = 20});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_close(&f);
    return 0;
}

struct whole {
    struct data_config data;
    struct tokenizer_config tokenizer;
};

static const struct config_option whole_options[] = {
    CONFIG_SECTION(struct whole, data, data_table, .help = "Data."),
    CONFIG_SECTION(struct whole, tokenizer, tokenizer_table, .help = "Tokenizer."),
};
static const struct config_table whole_table = {CONFIG_TABLE(struct whole, whole_options),
                                                .name = "whole", .help = "Both."};

static struct whole whole;
static struct config *config;

/* Reads "data:" with `lines` indented by two, and a tokenizer. */
static enum status read_config(const char *lines)
{
    char text[PATH_MAX * 4];
    snprintf(text, sizeof text, "tokenizer: {path: %s}\ndata:\n  %s\n", TOKENIZER, lines);
    config_destroy(&config);
    return config_read_text(&whole_table, "x.yaml", text, strlen(text), NULL, 0, &whole, &config);
}

static enum status read_set(const char *more)
{
    char lines[PATH_MAX + 2048];
    snprintf(lines, sizeof lines, "sets: [{path: %s}]\n  %s", f.path, more);
    return read_config(lines);
}

static void test_tables(void **state)
{
    (void)state;
    ASSERT_OK(config_table_check(&data_table));
    ASSERT_OK(config_table_check(&tokenizer_table));
    int count = 0;
    while (data_transform_names[count]) {
        assert_string_equal(data_transform_names[count], image_transform_name(count));
        count++;
    }
    assert_null(image_transform_name(count));
}

static void test_defaults(void **state)
{
    (void)state;
    struct data data;
    ASSERT_OK(read_set(""));
    ASSERT_OK(data_open(&whole.data, config, "data", true, &data));
    struct loader_options o = data_loader_options(&data);
    assert_int_equal(o.num_sets, 1);
    assert_int_equal(o.text_length, 50);
    assert_int_equal(o.text_kinds, 1 << TEXT_CAPTION);
    assert_int_equal(o.on_bad, LOADER_FAIL);
    assert_int_equal(o.tail, SAMPLER_TAIL_DROP);
    assert_int_equal(o.prefetch, 2);
    assert_int_equal(o.chunk_rows, 0);
    assert_int_equal(data.transform.num_steps, 1);
    assert_int_equal(data.transform.steps[0].size, 384);
    data_close(&data);
}

static void test_options(void **state)
{
    (void)state;
    struct data data;
    ASSERT_OK(read_set("transform: albef_randaug\n  image_size: 24\n  crop_scale: [0.2, 0.9]\n"
                       "  flip: 0\n  randaug_ops: 3\n  randaug_level: 9\n  texts: any\n"
                       "  boxes: true\n  on_bad: replace\n  max_bad_rate: 0.2\n  tail: wrap\n"
                       "  chunk_rows: 4\n  window_chunks: 2\n  threads: 3\n  prefetch: 5\n"
                       "  max_text_len: 9\n"));
    ASSERT_OK(data_open(&whole.data, config, "data", true, &data));
    struct loader_options o = data_loader_options(&data);
    const struct image_step *steps = o.transform->steps;
    assert_int_equal(o.transform->num_steps, 3);
    assert_int_equal(steps[0].size, 24);
    assert_true(steps[0].scale[0] == 0.2 && steps[0].scale[1] == 0.9);
    assert_true(steps[1].probability == 0);
    assert_int_equal(steps[2].num_ops, 3);
    assert_true(steps[2].level == 9);
    assert_int_equal(o.text_kinds, 0);
    assert_true(o.boxes);
    assert_int_equal(o.on_bad, LOADER_REPLACE);
    assert_true(o.max_bad_rate == 0.2);
    assert_int_equal(o.tail, SAMPLER_TAIL_WRAP);
    assert_int_equal(o.chunk_rows, 4);
    assert_int_equal(o.window_chunks, 2);
    assert_int_equal(o.num_threads, 3);
    assert_int_equal(o.prefetch, 5);
    assert_int_equal(o.text_length, 9);
    data_close(&data);
    ASSERT_OK(read_set("transform: fine\n  short_sides: [30, 40]\n  max_long_side: 70\n"));
    ASSERT_OK(data_open(&whole.data, config, "data", true, &data));
    assert_int_equal(data.transform.steps[0].num_sides, 2);
    assert_int_equal(data.transform.steps[0].sides[1], 40);
    assert_int_equal(data.transform.steps[0].max_long, 70);
    assert_int_equal(data.eval_transform.num_steps, 1);
    assert_false(image_transform_is_random(&data.eval_transform));
    data_close(&data);
}

/* From YAML to a batch, and to an evaluation. */
static void test_batches(void **state)
{
    (void)state;
    struct data data;
    struct tokenizer *tokenizer = NULL;
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    char lines[3 * PATH_MAX];
    snprintf(lines, sizeof lines,
             "sets: [{paths: [%s]}]\n  eval_sets: [{path: %s}]\n  image_size: 16\n"
             "  transform: albef_crop\n  max_text_len: 8",
             f.path, f.folder);
    ASSERT_OK(read_config(lines));
    ASSERT_OK(data_open(&whole.data, config, "data", true, &data));
    ASSERT_OK(tokenizer_config_load(&whole.tokenizer, config, "tokenizer", &tokenizer));
    struct loader_options o = data_loader_options(&data);
    o.size = 1;
    o.batch = 5;
    o.tokenizer = tokenizer;
    o.mlm = &mlm_defaults;
    ASSERT_OK(loader_create(&loader, &o));
    ASSERT_OK(loader_next(loader, &batch));
    assert_int_equal(batch->side, 16);
    assert_int_equal(batch->text_length, 8);
    loader_destroy(&loader);
    for (int rows = LOADER_TEXTS; rows <= LOADER_IMAGES; rows++) {
        o = data_eval_options(&data, (enum loader_rows)rows);
        o.size = 1;
        o.batch = 30;
        o.tokenizer = rows == LOADER_TEXTS ? tokenizer : NULL;
        ASSERT_OK(loader_create(&loader, &o));
        ASSERT_OK(loader_next(loader, &batch));
        assert_int_equal(batch->count, rows == LOADER_TEXTS ? 27 : 20);
        assert_int_equal(batch->pixels != NULL, rows == LOADER_IMAGES);
        loader_destroy(&loader);
    }
    data_close(&data);
    tokenizer_destroy(&tokenizer);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        const char *place;
        const char *part;
    } cases[] = {
        {"max_text_len: 2", "x.yaml:4:17: data.max_text_len", "out of range"},
        {"image_size: 0", "x.yaml:4:15: data.image_size", "out of range"},
        {"image_size: -3", "x.yaml:4:15: data.image_size", "out of range"},
        {"transform: albef_randag", "x.yaml:4:14: data.transform", "albef_randaug"},
        {"randaug_ops: 3", "x.yaml:4:16: data.randaug_ops", "used only if"},
        {"on_bad: ignore", "x.yaml:4:11: data.on_bad", "replace"},
        {"max_bad_rate: 0.1", "x.yaml:4:17: data.max_bad_rate", "used only if"},
        {"epoch_samples: 5", "x.yaml:4:18: data.epoch_samples", "weights"},
        {"transform: albef_crop\n  crop_scale: [0.9, 0.5]", "x.yaml:5:15: data.crop_scale",
         "above the greatest"},
        {"eval_sets: [{path: a.h5, weight: 1}]", "x.yaml:4:14: data.eval_sets", "no effect"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ASSERT_FAILS(read_set(cases[i].line), STATUS_INVALID, cases[i].place);
        if (!strstr(status_message(), cases[i].part)) fail_msg("%s", status_message());
    }
    ASSERT_FAILS(read_config("sets: []"), STATUS_INVALID, "x.yaml:3:9: data.sets");
    ASSERT_FAILS(read_config("sets: [{weight: 1}]"), STATUS_INVALID, "path and paths");
    ASSERT_FAILS(read_config("sets: [{path: a, paths: [b]}]"), STATUS_INVALID, "path and paths");
    ASSERT_FAILS(read_config("sets: [{path: a, weight: 1}, {path: b}]"), STATUS_INVALID,
                 "x.yaml:3:9: data.sets: sets 0 and 1 differ");
}

/* What only opening can tell still names file, line and key. */
static void test_opening(void **state)
{
    (void)state;
    struct data data;
    struct tokenizer *tokenizer = NULL;
    char lines[3 * PATH_MAX];
    snprintf(lines, sizeof lines, "sets:\n    - path: %s\n    - path: %s/none-*.h5", f.path,
             f.folder);
    ASSERT_OK(read_config(lines));
    ASSERT_FAILS(data_open(&whole.data, config, "data", true, &data), STATUS_NOT_FOUND,
                 "x.yaml:5:13: data.sets.1: ");
    assert_non_null(strstr(status_message(), "none-*.h5"));
    assert_int_equal(data.num_sets, 0);
    assert_null(data.stores[0]);
    ASSERT_OK(read_set("boxes: true"));
    whole.tokenizer.kind = TOKENIZER_WANT_WORDPIECE;
    ASSERT_FAILS(tokenizer_config_load(&whole.tokenizer, config, "tokenizer", &tokenizer),
                 STATUS_INVALID, "x.yaml:1:19: tokenizer.path: ");
    assert_non_null(strstr(status_message(), "byte-level BPE and not WordPiece"));
    assert_null(tokenizer);
    whole.tokenizer.path = "nowhere";
    ASSERT_FAILS(tokenizer_config_load(&whole.tokenizer, config, "tokenizer", &tokenizer),
                 STATUS_NOT_FOUND, "nowhere");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),   cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_options),  cmocka_unit_test(test_batches),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_opening),
    };
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    config_destroy(&config);
    return failed;
}
