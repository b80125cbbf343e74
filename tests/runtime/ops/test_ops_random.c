/*
 * Dropout, drop-path and attention against f64, and what their draws depend on: not on the split of
 * a batch into micro-batches, but on seed, step, sample, place and scope.   timeout=60
 */
#include "tests/runtime/ops/cases_random.h"
#include "tests/runtime/ops/op_check.h"

enum { SAMPLES = 6, WIDTH = 10 };

/* Dropout of ones, [copies * samples, WIDTH], into `out`; a kept element is not zero. */
static void draw_ones(int64_t copies, int64_t samples, const char *scope, uint64_t seed,
                      uint64_t step, uint64_t sample_base, float *out)
{
    struct graph *g = NULL;
    struct executor *e = NULL;
    MUST(graph_create(&g, NULL));
    struct shape shape = SHAPE(copies * samples, WIDTH);
    struct tensor *x = graph_input(g, "x", DTYPE_F32, shape);
    graph_push(g, "block");
    graph_random_scope(g, scope);
    struct tensor *y = op_dropout(g, x, 0.5f, samples, "drop");
    struct tensor *branch = op_fill(g, DTYPE_F32, shape, 1);
    y = op_add_drop_path(g, y, branch, 0.5f, samples, "path");
    graph_pop(g);
    graph_output(g, "y", y);
    const struct executor_options options = {.seed = seed};
    MUST(executor_create(&e, g, &options));
    float *data = executor_data(e, x);
    for (int64_t i = 0; i < shape_count(&shape); i++) {
        data[i] = 1;
    }
    const struct executor_run run = {.step = step, .sample_base = sample_base};
    MUST(executor_run(e, &run));
    memcpy(out, executor_data(e, y), tensor_bytes(y));
    executor_destroy(&e);
    graph_destroy(&g);
}

static void test_split(void **state)
{
    (void)state;
    float whole[SAMPLES * WIDTH];
    float part[SAMPLES * WIDTH];
    draw_ones(1, SAMPLES, "", 1, 9, 100, whole);
    draw_ones(1, 2, "", 1, 9, 100, part);
    draw_ones(1, 3, "", 1, 9, 102, part + 2 * WIDTH);
    draw_ones(1, 1, "", 1, 9, 105, part + 5 * WIDTH);
    assert_memory_equal(whole, part, sizeof whole);
}

static void test_copies(void **state)
{
    (void)state;
    float once[SAMPLES * WIDTH];
    float twice[2 * SAMPLES * WIDTH];
    float half[2 * 2 * WIDTH];
    draw_ones(1, SAMPLES, "", 1, 9, 100, once);
    draw_ones(2, SAMPLES, "", 1, 9, 100, twice);
    assert_memory_equal(once, twice, sizeof once);
    assert_memory_not_equal(once, twice + SAMPLES * WIDTH, sizeof once);
    /* Both copies of samples 102 and 103, drawn in a smaller micro-batch. */
    draw_ones(2, 2, "", 1, 9, 102, half);
    assert_memory_equal(half, twice + 2 * WIDTH, 2 * WIDTH * sizeof *half);
    assert_memory_equal(half + 2 * WIDTH, twice + (SAMPLES + 2) * WIDTH, 2 * WIDTH * sizeof *half);
}

static void test_dependence(void **state)
{
    (void)state;
    float base[SAMPLES * WIDTH];
    float other[SAMPLES * WIDTH];
    draw_ones(1, SAMPLES, "", 1, 9, 100, base);
    draw_ones(1, SAMPLES, "", 1, 9, 100, other);
    assert_memory_equal(base, other, sizeof base);
    draw_ones(1, SAMPLES, "", 2, 9, 100, other);
    assert_memory_not_equal(base, other, sizeof base);
    draw_ones(1, SAMPLES, "", 1, 10, 100, other);
    assert_memory_not_equal(base, other, sizeof base);
    draw_ones(1, SAMPLES, "mlm", 1, 9, 100, other);
    assert_memory_not_equal(base, other, sizeof base);
}

static void test_rate(void **state)
{
    (void)state;
    enum { MANY = 4000 };
    static float y[MANY * WIDTH];
    draw_ones(1, MANY, "", 3, 1, 0, y);
    int64_t kept = 0;
    int64_t kept_paths = 0;
    for (int64_t i = 0; i < MANY * WIDTH; i++) {
        assert_true(y[i] == 0 || y[i] == 2 || y[i] == 4);
        kept += y[i] == 4;
    }
    for (int64_t r = 0; r < MANY; r++) {
        float least = 4;
        for (int64_t i = 0; i < WIDTH; i++) {
            least = fminf(least, y[r * WIDTH + i]);
        }
        kept_paths += least >= 2;
    }
    /* A quarter of the elements is kept twice; five standard deviations of it. */
    assert_true(fabs((double)kept / (MANY * WIDTH) - 0.25) < 5 * 0.5 / sqrt(MANY) / 2);
    /* Half of the paths, apart from rows of which dropout kept everything. */
    assert_true(fabs((double)kept_paths / MANY - 0.5) < 5 * 0.5 / sqrt(MANY) + 0.001);
}

int main(int argc, char **argv)
{
    (void)argc;
    static const struct op_case *const tables[] = {cases_random};
    static const size_t counts[] = {CASES(cases_random)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_dependence),
        cmocka_unit_test(test_rate),
    };
    int failed = run_cases(argv, "random", tables, counts, 1);
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
