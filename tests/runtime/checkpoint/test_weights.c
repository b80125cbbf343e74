/* Weights by name: exact shapes, resized tables, and nothing missing or left over in silence. */
#include <math.h>
#include <unistd.h>

#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/weights.h"
#include "tests/runtime/checkpoint/fixture.h"

static char folder[256];
static char path[512];

static const float weight[6] = {1, 2, 3, 4, 5, 6};
static const float table[18] = {0, 10, 1, 10, 2, 10, 0, 10, 1, 10, 2, 10, 0, 10, 1, 10, 2, 10};
static const int64_t index_values[2] = {3, 4};

static const struct safetensors_tensor tensors[] = {
    {"layer.weight", SAFETENSORS_F32, {.rank = 2, .dim = {2, 3}}, weight},
    {"attn.relative_position_bias_table", SAFETENSORS_F32, {.rank = 2, .dim = {9, 2}}, table},
    {"attn.relative_position_index", SAFETENSORS_I64, {.rank = 1, .dim = {2}}, index_values},
};

static const struct checkpoint_parameter parameters[] = {
    {"attn.relative_position_bias_table", {.rank = 2, .dim = {9, 2}}, 0, 18},
    {"layer.weight", {.rank = 2, .dim = {2, 3}}, 32, 6},
};
static const struct checkpoint_parameter larger_table = {
    "attn.relative_position_bias_table", {.rank = 2, .dim = {25, 2}}, 0, 50};

static int setup(void **state)
{
    (void)state;
    fixture_folder(folder, NULL);
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    ASSERT_OK(safetensors_write(path, tensors, 3));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_remove(folder, NULL);
    return 0;
}

static struct weights *open_weights(void)
{
    struct weights *weights;
    ASSERT_OK(weights_create(&weights));
    ASSERT_OK(weights_add(weights, path, "parameters"));
    return weights;
}

static void test_exact(void **state)
{
    (void)state;
    struct weights *weights = open_weights();
    struct weights_report report;
    float vector[64] = {0};
    assert_int_equal(weights_count(weights), 3);
    /* The index is left over, which must be allowed, or dropped. */
    ASSERT_FAILS(weights_load(weights, parameters, 2, NULL, 0, vector, &report), STATUS_INVALID,
                 "do not fit the model: unused 'attn.relative_position_index'; allow");
    assert_non_null(strstr(report.text.text, "(not allowed)"));
    weights_report_fini(&report);
    const char *const allow[] = {"*.relative_position_index"};
    ASSERT_OK(weights_load(weights, parameters, 2, allow, 1, vector, &report));
    assert_int_equal(report.unused, 1);
    weights_report_fini(&report);
    for (int64_t i = 0; i < 3; i++) {
        if (!weights_at(weights, i)->is_float) ASSERT_OK(weights_rename(weights, i, NULL));
    }
    memset(vector, 0, sizeof vector);
    ASSERT_OK(weights_load(weights, parameters, 2, NULL, 0, vector, &report));
    assert_int_equal(report.loaded, 2);
    assert_int_equal(report.dropped, 1);
    assert_int_equal(report.fates[1], WEIGHTS_LOADED);
    assert_memory_equal(vector, table, sizeof table);
    assert_memory_equal(vector + 32, weight, sizeof weight);
    assert_true(vector[18] == 0 && vector[38] == 0);
    assert_string_equal(report.text.text, "2 loaded, 0 resized, 0 missing, 0 unused, 1 buffers and "
                                          "heads dropped\n");
    weights_report_fini(&report);
    weights_destroy(&weights);
    assert_null(weights);
}

static void test_missing(void **state)
{
    (void)state;
    const struct checkpoint_parameter more[] = {
        parameters[0], parameters[1], {"head.bias", SHAPE(2), 48, 2}};
    struct weights *weights = open_weights();
    struct weights_report report;
    float vector[64] = {[48] = 8, [49] = 9};
    const char *allow[] = {"relative_position_index", "head."};
    ASSERT_FAILS(weights_load(weights, more, 3, allow, 1, vector, &report), STATUS_INVALID,
                 "missing 'head.bias'");
    weights_report_fini(&report);
    ASSERT_OK(weights_load(weights, more, 3, allow, 2, vector, &report));
    assert_int_equal(report.missing, 1);
    assert_int_equal(report.fates[2], WEIGHTS_MISSING);
    assert_true(vector[48] == 8 && vector[49] == 9); /* as it was */
    assert_non_null(strstr(report.text.text, "missing  head.bias\n"));
    weights_report_fini(&report);
    weights_destroy(&weights);
}

static void test_resized(void **state)
{
    (void)state;
    const struct checkpoint_parameter larger[] = {larger_table,
                                                  {"layer.weight", SHAPE(2, 3), 64, 6}};
    struct weights *weights = open_weights();
    struct weights_report report;
    float vector[80] = {0};
    const char *const allow[] = {"relative_position_index"};
    ASSERT_OK(weights_load(weights, larger, 2, allow, 1, vector, &report));
    assert_int_equal(report.resized, 1);
    assert_int_equal(report.fates[0], WEIGHTS_RESIZED);
    assert_non_null(
        strstr(report.text.text, "resized  attn.relative_position_bias_table [9,2] -> [25,2]"));
    weights_report_fini(&report);
    weights_destroy(&weights);
    /* Columns of head 0 are 0, 1, 2; by hand: taps of x = 1 are (-0.108, 0.72, 0.46, -0.072) at
     * (0, 0, 1, 2), of x = 0 (-0.144, 0.208 at edges...) symmetric to x = 4. */
    for (int y = 0; y < 5; y++) {
        assert_float_equal(vector[(y * 5 + 1) * 2], 0.46 - 2 * 0.072, 1e-6);
        assert_float_equal(vector[(y * 5 + 2) * 2], 1, 1e-6);
        assert_float_equal(vector[(y * 5 + 3) * 2], 2 - (0.46 - 2 * 0.072), 1e-6);
        assert_float_equal(vector[y * 5 * 2] + vector[(y * 5 + 4) * 2], 2, 1e-6);
        for (int x = 0; x < 5; x++) {
            assert_float_equal(vector[(y * 5 + x) * 2 + 1], 10, 1e-5); /* a constant stays */
        }
    }
    /* The same size is the same values; rows and columns are not mixed up. */
    float same[18];
    weights_resize_table(table, 3, same, 3, 2);
    assert_memory_equal(same, table, sizeof table);
    float turned[9] = {0, 0, 0, 1, 1, 1, 2, 2, 2};
    float out[25];
    weights_resize_table(turned, 3, out, 5, 1);
    assert_float_equal(out[1 * 5 + 4], 0.46 - 2 * 0.072, 1e-6);
    assert_float_equal(out[2 * 5], 1, 1e-6);
}

static void test_shapes_that_do_not_fit(void **state)
{
    (void)state;
    struct weights *weights = open_weights();
    struct weights_report report;
    float vector[80];
    struct checkpoint_parameter wrong = parameters[1];
    wrong.shape = SHAPE(3, 2);
    ASSERT_FAILS(weights_load(weights, &wrong, 1, NULL, 0, vector, &report), STATUS_INVALID,
                 "'layer.weight' is [2,3] there and [3,2] in the model");
    weights_report_fini(&report);
    wrong = larger_table; /* another number of heads is not a matter of the window */
    wrong.shape = SHAPE(25, 1);
    ASSERT_FAILS(weights_load(weights, &wrong, 1, NULL, 0, vector, &report), STATUS_INVALID,
                 "is [9,2] there and [25,1] in the model");
    weights_report_fini(&report);
    wrong.shape = SHAPE(16, 2); /* no window has an even side */
    ASSERT_FAILS(weights_load(weights, &wrong, 1, NULL, 0, vector, &report), STATUS_INVALID,
                 "is [9,2] there and [16,2] in the model");
    weights_report_fini(&report);
    /* The same name from two files. */
    ASSERT_OK(weights_add(weights, path, "parameters"));
    ASSERT_FAILS(weights_load(weights, parameters, 2, NULL, 0, vector, &report), STATUS_INVALID,
                 "'attn.relative_position_bias_table' comes from");
    weights_report_fini(&report);
    weights_destroy(&weights);
}

static void test_from_a_checkpoint(void **state)
{
    (void)state;
    struct fixture fixture;
    struct checkpoint_saver_options options = {0};
    struct checkpoint_saver *saver;
    fixture_create(&fixture, 80, false, 0, 1);
    ASSERT_OK(checkpoint_saver_create(&saver, folder, &options, NULL));
    ASSERT_OK(checkpoint_save(saver, &fixture.state));
    checkpoint_saver_destroy(&saver);
    struct weights *weights;
    struct weights_report report;
    float vector[80];
    ASSERT_OK(weights_create(&weights));
    ASSERT_FAILS(weights_add(weights, folder, "ema"), STATUS_NOT_FOUND, "holds no vector 'ema'");
    weights_destroy(&weights);
    ASSERT_OK(weights_create(&weights));
    ASSERT_OK(weights_add(weights, folder, "moment1"));
    ASSERT_OK(weights_load(weights, fixture.parameters, 3, NULL, 0, vector, &report));
    assert_int_equal(report.loaded, 3);
    assert_memory_equal(vector, fixture.data[1], 35 * sizeof(float));
    assert_true(vector[64] == fixture_value(1, 64, 0));
    weights_report_fini(&report);
    weights_destroy(&weights);
    fixture_destroy(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resized, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shapes_that_do_not_fit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_from_a_checkpoint, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
