/* What tables give besides reading: conditions, files written, documentation, their own check. */
#include "tests/runtime/base/config_assert.h"

/* ---- conditions ----------------------------------------------------------------------------- */

enum mode { MODE_A, MODE_B, MODE_C };
static const char *const mode_names[] = {"a", "b", "c", NULL};

struct conditions {
    enum mode mode;
    int64_t count;
    const char *path;
    struct config_variant schedule;
    CONFIG_LIST_OF(int64_t) sizes;
    int64_t for_b;
    int64_t for_a_or_c;
    int64_t not_a;
    int64_t below_for_b;
    int64_t with_path;
    int64_t with_cosine;
    int64_t with_sizes;
    double for_three;
};

static const struct config_option conditions_options[] = {
    CONFIG_ENUM(struct conditions, mode, mode_names, .def = "a", .help = "x"),
    CONFIG_INT(struct conditions, count, .def = "3", .help = "x"),
    CONFIG_STRING_OR_NULL(struct conditions, path, .help = "x"),
    CONFIG_CHOICE_OR_NULL(struct conditions, schedule, "type", schedule_tables, .help = "x"),
    CONFIG_INTS(struct conditions, sizes, .def = "[]", .help = "x"),
    CONFIG_INT(struct conditions, for_b, .def = "1", .only_if = "mode=b", .help = "x"),
    CONFIG_INT(struct conditions, for_a_or_c, .def = "1", .only_if = "mode=a|c", .help = "x"),
    CONFIG_INT(struct conditions, not_a, .def = "1", .only_if = "mode!=a", .help = "x"),
    CONFIG_INT(struct conditions, below_for_b, .def = "1", .only_if = "for_b=1", .help = "x"),
    CONFIG_INT(struct conditions, with_path, .only_if = "path", .help = "x"),
    CONFIG_INT(struct conditions, with_cosine, .def = "1", .only_if = "schedule=cosine",
               .help = "x"),
    CONFIG_INT(struct conditions, with_sizes, .def = "1", .only_if = "sizes", .help = "x"),
    CONFIG_DOUBLE(struct conditions, for_three, .def = "1", .only_if = "count=3", .help = "x"),
};
static const struct config_table conditions_table = {
    CONFIG_TABLE(struct conditions, conditions_options), .name = "conditions", .help = "x"};

static enum status try_conditions(const char *text, struct conditions *value,
                                  struct config **config)
{
    return config_read_text(&conditions_table, "t.yaml", text, strlen(text), NULL, 0, value,
                            config);
}

static void test_conditions(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *refused; /* the key without effect, NULL when accepted */
    } rows[] = {
        {"{}", NULL},
        {"{for_b: 2}", "for_b"},
        {"{for_b: null}", NULL},
        {"{mode: b, for_b: 2}", NULL},
        {"{mode: b, for_a_or_c: 2}", "for_a_or_c"},
        {"{mode: c, for_a_or_c: 2, not_a: 3}", NULL},
        {"{not_a: 3}", "not_a"},
        {"{below_for_b: 3}", "below_for_b"},
        {"{mode: b, below_for_b: 3}", NULL},
        {"{mode: b, for_b: 2, below_for_b: 3}", "below_for_b"},
        {"{with_path: 3}", "with_path"},
        {"{path: p, with_path: 3}", NULL},
        {"{with_cosine: 3}", "with_cosine"},
        {"{schedule: {type: constant}, with_cosine: 3}", "with_cosine"},
        {"{schedule: {type: cosine}, with_cosine: 3}", NULL},
        {"{with_sizes: 1}", "with_sizes"},
        {"{sizes: [1], with_sizes: 1}", NULL},
        {"{count: 4, for_three: 1}", "for_three"},
        {"{for_three: 2}", NULL},
    };
    assert_ok(config_table_check(&conditions_table));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct conditions value;
        struct config *config = NULL;
        enum status status = try_conditions(rows[i].text, &value, &config);
        if (!rows[i].refused) {
            assert_ok(status);
        } else {
            char expected[64];
            snprintf(expected, sizeof expected, ": %s: has no effect here", rows[i].refused);
            assert_int_equal(status, STATUS_INVALID);
            assert_non_null(strstr(status_message(), expected));
        }
        config_destroy(&config);
    }
    struct conditions value;
    struct config *config = NULL;
    /* Required only where it counts; and what does not count holds its default or zero. */
    assert_int_equal(try_conditions("{path: p}", &value, &config), STATUS_INVALID);
    assert_string_equal(status_message(),
                        "t.yaml:1:1: missing key 'with_path': a whole number (x)");
    assert_ok(try_conditions("{}", &value, &config));
    assert_int_equal(value.with_path, 0);
    assert_int_equal(value.for_b, 1);
    struct strbuf text = {0};
    assert_ok(config_print(&conditions_table, &value, false, &text));
    assert_string_equal(text.text, "mode: a\n"
                                   "count: 3\n"
                                   "sizes: []\n"
                                   "for_a_or_c: 1\n"
                                   "for_three: 1\n");
    strbuf_fini(&text);
    config_destroy(&config);
}

/* ---- writing -------------------------------------------------------------------------------- */

static const char minimal[] =
    "name: x\n"
    "eval: {}\n"
    "schedule: {type: constant}\n"
    "suites: {\"a b\": {every: 3}}\n"
    "data: [{type: coco, path: \"p q\"}, {type: synthetic, samples: 2}]\n";

static void test_printed_text(void **state)
{
    (void)state;
    struct recipe recipe;
    struct config *config = read_text(minimal, &recipe);
    struct strbuf text = {0};
    assert_ok(config_print(&recipe_table, &recipe, false, &text));
    assert_string_equal(text.text, "name: x\n"
                                   "share: true\n"
                                   "seed: 7\n"
                                   "precision: f32\n"
                                   "optim:\n"
                                   "  lr: 0.0001\n"
                                   "  warmup: 1000\n"
                                   "  betas: [0.9, 0.98]\n"
                                   "  ema: false\n"
                                   "depths: [2, 2, 18, 2]\n"
                                   "tags: []\n"
                                   "multipliers: {}\n"
                                   "schedule:\n"
                                   "  type: constant\n"
                                   "  warmup: 0\n"
                                   "eval:\n"
                                   "  every: 500\n"
                                   "data:\n"
                                   "  - type: coco\n"
                                   "    path: \"p q\"\n"
                                   "    weight: 1\n"
                                   "  - type: synthetic\n"
                                   "    samples: 2\n"
                                   "    weight: 1\n"
                                   "suites:\n"
                                   "  \"a b\":\n"
                                   "    every: 3\n");
    strbuf_clear(&text);
    assert_ok(config_print(&recipe_table, &recipe, true, &text));
    assert_non_null(strstr(text.text, "# Name of the run. [text]\nname: x\n"));
    assert_non_null(strstr(text.text,
                           "\n# The optimiser.\noptim:\n  # Peak rate. [a number > 0 and "
                           "<= 1; default 1e-4]\n  lr: 0.0001\n"));
    assert_non_null(strstr(text.text, "  - type: coco\n    # The HDF5 file. [text]\n    path: "));
    strbuf_fini(&text);
    config_destroy(&config);
}

static char *read_whole(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, 10000);
    assert_non_null(text);
    assert_true(fread(text, 1, 9999, file) < 9999);
    fclose(file);
    return text;
}

static void test_write_and_read_files(void **state)
{
    (void)state;
    struct folder folder = folder_create();
    char first[128];
    char second[128];
    snprintf(first, sizeof first, "%s/first.yaml", folder.path);
    snprintf(second, sizeof second, "%s/second.yaml", folder.path);
    struct recipe recipe;
    struct recipe again;
    struct config *config = read_text(minimal, &recipe);
    struct config *reread = NULL;
    assert_ok(config_write(&recipe_table, &recipe, true, first));
    assert_ok(config_read(&recipe_table, first, NULL, 0, &again, &reread));
    assert_ok(config_write(&recipe_table, &again, true, second));
    char *once = read_whole(first);
    char *twice = read_whole(second);
    assert_string_equal(once, twice);
    assert_true(strlen(once) > 1000);
    free(once);
    free(twice);
    config_destroy(&reread);
    /* A second write replaces the first; a failed one leaves nothing. */
    assert_ok(config_write(&recipe_table, &recipe, false, first));
    once = read_whole(first);
    assert_true(strlen(once) < 500);
    free(once);
    char message[256];
    snprintf(second, sizeof second, "%s/none/x.yaml", folder.path);
    snprintf(message, sizeof message, "%s: cannot write: No such file or directory", second);
    assert_int_equal(config_write(&recipe_table, &recipe, false, second), STATUS_IO);
    assert_string_equal(status_message(), message);
    snprintf(message, sizeof message, "%s: cannot write: Is a directory", folder.path);
    assert_int_equal(config_write(&recipe_table, &recipe, false, folder.path), STATUS_IO);
    assert_string_equal(status_message(), message);
    config_destroy(&config);
    folder_remove(&folder);
}

static void test_print_without_memory(void **state)
{
    (void)state;
    struct recipe recipe;
    struct config *config = read_text("name: x\n", &recipe);
    struct strbuf text = {.failed = true}; /* as after a failed allocation */
    assert_int_equal(config_print(&recipe_table, &recipe, false, &text), STATUS_NO_MEMORY);
    assert_string_equal(status_message(), "out of memory while printing the config");
    config_destroy(&config);
}

/* ---- documentation -------------------------------------------------------------------------- */

static void test_document(void **state)
{
    (void)state;
    struct strbuf text = {0};
    assert_ok(config_document(&recipe_table, &text));
    static const char *const parts[] = {
        "name: text; required\n      Name of the run.\n",
        "note: text; optional\n",
        "optim: a section\n      The optimiser.\n  lr: a number > 0 and <= 1; default 1e-4\n",
        "  warmup: a whole number >= 0 and <= 1000000 (steps); default 1000\n",
        "  ema_decay: a number >= 0 and < 1; default 0.999; only if ema\n",
        "depths: a list of length 4, each a whole number >= 1 and <= 100 (blocks); default [2, 2, "
        "18, 2]\n",
        "  type: synthetic\n        Scenes made up on the fly.\n    samples: a whole number",
        "suites: a section of free keys, count >= 0 and <= 3, each a section; default {}\n"
        "      More evaluations, by name.\n  every: a whole number",
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (!strstr(text.text, parts[i])) fail_msg("not in the documentation: %s", parts[i]);
    }
    strbuf_fini(&text);
}

/* ---- the check of tables -------------------------------------------------------------------- */

struct small {
    int64_t a;
    int64_t b;
    const char *s;
    CONFIG_LIST_OF(int64_t) list;
    struct optim optim;
    char mode;
};

static void check_row(struct config_option row, const char *message)
{
    const struct config_option rows[] = {
        CONFIG_INT(struct small, a, .def = "1", .help = "x"),
        row,
    };
    const struct config_table table = {CONFIG_TABLE(struct small, rows), .name = "small",
                                       .help = "x"};
    assert_int_equal(config_table_check(&table), STATUS_INTERNAL);
    assert_string_equal(status_message(), message);
}

static void test_table_check(void **state)
{
    (void)state;
#define ROW(macro, ...) ((struct config_option)macro(struct small, __VA_ARGS__))
    check_row(ROW(CONFIG_INT, b, .def = "1"),
              "option table 'small', row 'b': has no help of one line");
    check_row(ROW(CONFIG_INT, b, .help = "a\nb"),
              "option table 'small', row 'b': has no help of one line");
    check_row(ROW(CONFIG_INT, a, .help = "x"), "option table 'small', row 'a': is there twice");
    check_row(ROW(CONFIG_INT, b, .range = "0..1", .help = "x"),
              "option table 'small', row 'b': has a range that is not an interval of numbers, such "
              "as [0, 1)");
    check_row(ROW(CONFIG_STRING, s, .range = "[0, 1]", .help = "x"),
              "option table 'small', row 's': has a range that is not an interval of numbers, such "
              "as [0, 1)");
    check_row(
        ROW(CONFIG_INT, b, .length = "[0, 1]", .help = "x"),
        "option table 'small', row 'b': has a length that is not an interval, such as [4, 4]");
    check_row(ROW(CONFIG_INT, b, .range = "[0, 1]", .def = "2", .help = "x"),
              "option table 'small': default of 'b': b: '2' is out of range; expected a whole "
              "number >= 0 and <= 1");
    check_row(ROW(CONFIG_INTS, list, .def = "[1, x]", .help = "x"),
              "option table 'small': default of 'list': list.1: 'x' is not a number; expected a "
              "whole number");
    check_row(ROW(CONFIG_INT, b, .only_if = "c=1", .help = "x"),
              "option table 'small', row 'b': only_if must name an earlier key");
    check_row(ROW(CONFIG_INT, b, .only_if = "b", .help = "x"),
              "option table 'small', row 'b': only_if must name an earlier key");
    check_row(ROW(CONFIG_INT, b, .only_if = "a=", .help = "x"),
              "option table 'small', row 'b': only_if compares with nothing");
    check_row(ROW(CONFIG_STRING_OR_NULL, s, .def = "x", .help = "x"),
              "option table 'small', row 's': cannot have a default");
    check_row(ROW(CONFIG_INT, b, .or_null = true, .help = "x"),
              "option table 'small', row 'b': cannot be null");
    check_row(ROW(CONFIG_SECTION, optim, cosine_table, .help = "x"),
              "option table 'small', row 'optim': its field is not the struct of its table");
    check_row(ROW(CONFIG_ENUM, mode, mode_names, .def = "a", .help = "x"),
              "option table 'small', row 'mode': its field is not an int or enum");
    check_row((struct config_option){.key = "base", .type = CONFIG_TYPE_INT, .help = "x"},
              "option table 'small', row 'base': 'base' names included files");
    check_row((struct config_option){.key = "z",
                                     .type = CONFIG_TYPE_INT,
                                     .size = 8,
                                     .offset = sizeof(struct small),
                                     .help = "x"},
              "option table 'small', row 'z': is outside the struct");
    check_row((struct config_option){.key = "z", .type = CONFIG_TYPE_CHOICE, .help = "x"},
              "option table 'small', row 'z': has no choices");
    const struct config_table nameless = {.size = 1, .help = "x"};
    assert_int_equal(config_table_check(&nameless), STATUS_INTERNAL);
    assert_string_equal(status_message(), "option table '?': has no name or no help of one line");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_printed_text),
        cmocka_unit_test(test_write_and_read_files),
        cmocka_unit_test(test_print_without_memory),
        cmocka_unit_test(test_document),
        cmocka_unit_test(test_table_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
