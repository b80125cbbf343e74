/* The config reader: every type of option, tables that compose, printing and reading back. */
#include <float.h>

#include "tests/runtime/base/config_assert.h"

static void test_tables_are_well_formed(void **state)
{
    (void)state;
    assert_ok(config_table_check(&recipe_table));
}

static void test_defaults(void **state)
{
    (void)state;
    struct recipe recipe;
    struct config *config = read_text("name: x\n", &recipe);
    assert_string_equal(recipe.name, "x");
    assert_null(recipe.note);
    assert_true(recipe.share);
    assert_int_equal(recipe.seed, 7);
    assert_int_equal(recipe.precision, PRECISION_F32);
    assert_true(recipe.optim.lr == 1e-4);
    assert_int_equal(recipe.optim.warmup, 1000);
    assert_int_equal(recipe.depths.count, 4);
    assert_int_equal(recipe.depths.items[2], 18);
    assert_int_equal(recipe.data.count, 0);
    assert_int_equal(recipe.multipliers.count, 0);
    assert_null(recipe.eval);
    assert_null(recipe.schedule.table);
    config_destroy(&config);
    assert_null(config);
}

static void test_every_type(void **state)
{
    (void)state;
    struct recipe recipe;
    struct config *config = read_text("name: \"a: b\"\n"
                                      "note: 12\n"
                                      "share: false\n"
                                      "seed: 1e6\n"
                                      "precision: bf16\n"
                                      "optim: {lr: 0.5, betas: [0.8, 0.9]}\n"
                                      "depths: [1, 2, 3, 4]\n"
                                      "tags: [one, 'two three', \"4\"]\n"
                                      "multipliers:\n"
                                      "  image.*: 0.1\n"
                                      "  text.*: 2\n"
                                      "schedule:\n"
                                      "  type: cosine\n"
                                      "  floor: 0.1\n"
                                      "eval: {every: 10}\n"
                                      "data:\n"
                                      "  - type: coco\n"
                                      "    path: a.h5\n"
                                      "    weight: 3\n"
                                      "  - type: synthetic\n"
                                      "    samples: 100\n",
                                      &recipe);
    assert_string_equal(recipe.name, "a: b");
    assert_string_equal(recipe.note, "12");
    assert_false(recipe.share);
    assert_int_equal(recipe.seed, 1000000);
    assert_int_equal(recipe.precision, PRECISION_BF16);
    assert_true(recipe.optim.lr == 0.5);
    assert_int_equal(recipe.optim.betas.count, 2);
    assert_true(recipe.optim.betas.items[1] == 0.9);
    assert_int_equal(recipe.depths.items[3], 4);
    assert_int_equal(recipe.tags.count, 3);
    assert_string_equal(recipe.tags.items[1], "two three");
    assert_int_equal(recipe.multipliers.count, 2);
    assert_string_equal(recipe.multipliers.keys[0], "image.*");
    assert_true(recipe.multipliers.items[1] == 2);
    assert_ptr_equal(recipe.schedule.table, &cosine_table);
    assert_true(((const struct cosine *)recipe.schedule.value)->floor == 0.1);
    assert_int_equal(recipe.eval->every, 10);
    assert_int_equal(recipe.data.count, 2);
    const struct coco *coco = recipe.data.items[0].value;
    assert_ptr_equal(recipe.data.items[0].table, &coco_table);
    assert_string_equal(coco->path, "a.h5");
    assert_true(coco->common.weight == 3);
    const struct synthetic *synthetic = recipe.data.items[1].value;
    assert_int_equal(recipe.data.items[1].index, 1);
    assert_int_equal(synthetic->samples, 100);
    assert_true(synthetic->common.weight == 1);
    config_destroy(&config);
}

static void test_print_and_read_back(void **state)
{
    (void)state;
    static const char text[] = "name: \"a\\tb\\u2028c \\\"q\\\" \\\\ \\x85 \xc3\xa9 \\uFEFF\"\n"
                               "seed: -9223372036854775808\n"
                               "optim: {lr: 0.1, betas: [0.1, 0.30000000000000004]}\n"
                               "tags: ['', null_, 'null', '~', 'true', 'a b', '- x', '#', '\n']\n"
                               "multipliers: {'image.*': 5e-324, 'a: b': 1.7976931348623157e308}\n"
                               "schedule: {type: cosine, floor: 1e-7}\n"
                               "eval: {}\n"
                               "data: [{type: synthetic, samples: 3}, {type: coco, path: /x}]\n";
    for (int with_help = 0; with_help < 2; with_help++) {
        struct recipe first;
        struct recipe second;
        struct strbuf once = {0};
        struct strbuf twice = {0};
        struct config *config = read_text(text, &first);
        assert_ok(config_print(&recipe_table, &first, with_help, &once));
        struct config *again = read_text(once.text, &second);
        assert_ok(config_print(&recipe_table, &second, with_help, &twice));
        assert_string_equal(once.text, twice.text);
        assert_string_equal(first.name, second.name);
        assert_int_equal(second.seed, INT64_MIN);
        assert_true(second.multipliers.items[0] == 0x1p-1074);
        assert_true(second.multipliers.items[1] == DBL_MAX);
        assert_true(second.optim.betas.items[1] == 0.1 + 0.2);
        config_destroy(&config);
        config_destroy(&again);
        strbuf_fini(&once);
        strbuf_fini(&twice);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_are_well_formed),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_type),
        cmocka_unit_test(test_print_and_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
