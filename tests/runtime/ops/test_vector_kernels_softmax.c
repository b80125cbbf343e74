/*
 * Softmax, log-softmax, cross-entropy: every instruction set and dtype against double precision.
 * timeout=60
 */
#include "tests/runtime/ops/vector_check.h"

static const int64_t shapes[][2] = {{0, 5},  {1, 1},     {3, 1},    {1, 17},   {5, 3},    {7, 16},
                                    {4, 33}, {130, 144}, {2, 1025}, {3, 8193}, {2, 50265}};
enum { NUM_SHAPES = sizeof shapes / sizeof shapes[0] };

static void exact_softmax(const struct tensor *x, double scale, int64_t rows, int64_t cols,
                          double *y, double *log_y, double *lse)
{
    for (int64_t r = 0; r < rows; r++) {
        double top = -INFINITY;
        double sum = 0;
        for (int64_t c = 0; c < cols; c++) {
            top = fmax(top, scale * tensor_get(x, r * cols + c));
        }
        for (int64_t c = 0; c < cols; c++) {
            sum += exp(scale * tensor_get(x, r * cols + c) - top);
        }
        lse[r] = top + log(sum);
        for (int64_t c = 0; c < cols; c++) {
            log_y[r * cols + c] = scale * tensor_get(x, r * cols + c) - lse[r];
            y[r * cols + c] = exp(log_y[r * cols + c]);
        }
    }
}

static void softmax(enum vector_dtype dtype)
{
    for (int s = 0; s < NUM_SHAPES; s++) {
        for (int k = 0; k < 3; k++) {
            const double scales[] = {1, 0.25, -2};
            const double scale = scales[k];
            const int64_t rows = shapes[s][0];
            const int64_t cols = shapes[s][1];
            const int64_t count = rows * cols;
            struct tensor x = tensor_random(count, dtype, 1, -9, 9);
            struct tensor dy = tensor_random(count, dtype, 2, -1, 1);
            struct tensor y = tensor_create(count, dtype);
            struct tensor dx = tensor_create(count, dtype);
            struct tensor once = tensor_create(count, dtype);
            double *want = doubles(count);
            double *want_log = doubles(count);
            double *lse = doubles(rows);
            exact_softmax(&x, scale, rows, cols, want, want_log, lse);
            omp_set_num_threads(3);
            softmax_fwd_cpu(x.data, y.data, rows, cols, (float)scale, dtype);
            /* The argument scale * x - max has an absolute error of 36 * 2^-24 at most. */
            check_tensor("softmax", &y, want, 4e-6, 1e-38);
            softmax_bwd_cpu(y.data, dy.data, dx.data, rows, cols, (float)scale, dtype);
            for (int64_t r = 0; r < rows; r++) {
                double dot = 0;
                for (int64_t i = r * cols; i < (r + 1) * cols; i++) {
                    dot += tensor_get(&y, i) * tensor_get(&dy, i);
                }
                for (int64_t i = r * cols; i < (r + 1) * cols; i++) {
                    want[i] = scale * tensor_get(&y, i) * (tensor_get(&dy, i) - dot);
                }
            }
            check_tensor("softmax dx", &dx, want, 1e-6, 1e-6);
            omp_set_num_threads(1);
            softmax_bwd_cpu(y.data, dy.data, once.data, rows, cols, (float)scale, dtype);
            check_same("softmax_bwd", &dx, &once);

            log_softmax_fwd_cpu(x.data, y.data, rows, cols, (float)scale, dtype);
            check_tensor("log_softmax", &y, want_log, 1e-6, 4e-6);
            log_softmax_bwd_cpu(y.data, dy.data, dx.data, rows, cols, (float)scale, dtype);
            for (int64_t r = 0; r < rows; r++) {
                double sum = 0;
                for (int64_t i = r * cols; i < (r + 1) * cols; i++) {
                    sum += tensor_get(&dy, i);
                }
                for (int64_t i = r * cols; i < (r + 1) * cols; i++) {
                    want[i] = scale * (tensor_get(&dy, i) - exp(tensor_get(&y, i)) * sum);
                }
            }
            check_tensor("log_softmax dx", &dx, want, 2e-6, 5e-6);
            softmax_fwd_cpu(x.data, once.data, rows, cols, (float)scale, dtype);
            softmax_fwd_cpu(x.data, x.data, rows, cols, (float)scale, dtype);
            check_same("softmax_fwd in place", &x, &once);
            free(want);
            free(want_log);
            free(lse);
            tensor_destroy(&x);
            tensor_destroy(&dy);
            tensor_destroy(&y);
            tensor_destroy(&dx);
            tensor_destroy(&once);
        }
    }
}

static void test_softmax(void **state)
{
    (void)state;
    for_each_case(softmax);
}

static void cross_entropy(enum vector_dtype dtype)
{
    for (int s = 0; s < NUM_SHAPES; s++) {
        const int64_t rows = shapes[s][0];
        const int64_t cols = shapes[s][1];
        const int64_t count = rows * cols;
        struct tensor x = tensor_random(count, dtype, 1, -30, 30);
        struct tensor g = tensor_random(rows, VECTOR_F32, 2, 0.1, 1);
        struct tensor loss = tensor_create(rows, VECTOR_F32);
        struct tensor lse = tensor_create(rows, VECTOR_F32);
        struct tensor d = tensor_create(count, dtype);
        int32_t *targets = malloc((size_t)rows * sizeof *targets + 1);
        uint8_t *correct = malloc((size_t)rows + 1);
        double *y = doubles(count);
        double *log_y = doubles(count);
        double *want_lse = doubles(rows);
        double *want_loss = doubles(rows);
        for (int64_t r = 0; r < rows; r++) {
            targets[r] = (int32_t)((r * 7919 + 3) % cols);
            if (r % 3 == 1) targets[r] = -100;
            if (r % 3 == 2) { /* hit: the largest, twice; the first one counts */
                targets[r] = (int32_t)(cols / 2);
                tensor_set(&x, r * cols + cols / 2, 31);
                tensor_set(&x, r * cols + cols - 1, 31);
            }
        }
        exact_softmax(&x, 1, rows, cols, y, log_y, want_lse);
        struct cross_entropy_fwd fwd = {.logits = x.data,
                                        .targets = targets,
                                        .loss = loss.data,
                                        .lse = lse.data,
                                        .correct = correct,
                                        .rows = rows,
                                        .cols = cols,
                                        .ignore_index = -100,
                                        .dtype = dtype};
        assert_int_equal(cross_entropy_fwd_cpu(&fwd), -1);
        for (int64_t r = 0; r < rows; r++) {
            bool ignored = targets[r] == -100;
            want_loss[r] = ignored ? 0 : -log_y[r * cols + targets[r]];
            int64_t best = 0;
            for (int64_t c = 0; c < cols; c++) {
                if (tensor_get(&x, r * cols + c) > tensor_get(&x, r * cols + best)) best = c;
                double hot = c == targets[r] ? 1 : 0;
                y[r * cols + c] =
                    ignored ? 0 : (y[r * cols + c] - hot) * (double)((float *)g.data)[r];
            }
            assert_int_equal(correct[r], !ignored && best == targets[r]);
            if (cols > 2 && r % 3 == 2) assert_int_equal(correct[r], 1);
        }
        check_tensor("cross-entropy lse", &lse, want_lse, 3e-7, 1e-6);
        check_tensor("cross-entropy loss", &loss, want_loss, 3e-7, 4e-6);
        struct cross_entropy_bwd bwd = {.logits = x.data,
                                        .targets = targets,
                                        .lse = lse.data,
                                        .dloss = g.data,
                                        .dlogits = d.data,
                                        .rows = rows,
                                        .cols = cols,
                                        .ignore_index = -100,
                                        .dtype = dtype};
        cross_entropy_bwd_cpu(&bwd);
        check_tensor("cross-entropy dlogits", &d, y, 8e-6, 4e-6);
        bwd.dlogits = x.data;
        cross_entropy_bwd_cpu(&bwd);
        check_same("cross_entropy_bwd in place", &d, &x);
        free(targets);
        free(correct);
        free(y);
        free(log_y);
        free(want_lse);
        free(want_loss);
        tensor_destroy(&x);
        tensor_destroy(&g);
        tensor_destroy(&loss);
        tensor_destroy(&lse);
        tensor_destroy(&d);
    }
}

static void test_cross_entropy(void **state)
{
    (void)state;
    for_each_case(cross_entropy);
}

static void bad_targets(enum vector_dtype dtype)
{
    enum { ROWS = 4, COLS = 19 };
    struct tensor x = tensor_random(ROWS * COLS, dtype, 1, -1, 1);
    struct tensor d = tensor_create(ROWS * COLS, dtype);
    float loss[ROWS];
    float lse[ROWS];
    const float g[ROWS] = {1, 1, 1, 1};
    int32_t targets[ROWS] = {3, -100, COLS, -1};
    struct cross_entropy_fwd fwd = {.logits = x.data,
                                    .targets = targets,
                                    .loss = loss,
                                    .lse = lse,
                                    .rows = ROWS,
                                    .cols = COLS,
                                    .ignore_index = -100,
                                    .dtype = dtype};
    assert_int_equal(cross_entropy_fwd_cpu(&fwd), 2);
    assert_false(isnan(loss[0]) || isnan(loss[1]));
    assert_true(isnan(loss[2]) && isnan(loss[3]));
    struct cross_entropy_bwd bwd = {.logits = x.data,
                                    .targets = targets,
                                    .lse = lse,
                                    .dloss = g,
                                    .dlogits = d.data,
                                    .rows = ROWS,
                                    .cols = COLS,
                                    .ignore_index = -100,
                                    .dtype = dtype};
    cross_entropy_bwd_cpu(&bwd);
    for (int i = COLS; i < ROWS * COLS; i++) {
        assert_true(tensor_get(&d, i) == 0);
    }
    targets[3] = -100;
    targets[2] = 0;
    tensor_set(&x, 2 * COLS + 17, NAN);
    assert_int_equal(cross_entropy_fwd_cpu(&fwd), -1);
    assert_true(isnan(loss[2]) && !isnan(loss[0]));
    tensor_destroy(&x);
    tensor_destroy(&d);
}

static void test_bad_targets(void **state)
{
    (void)state;
    for_each_case(bad_targets);
}

/* NaN stays in its row; masked scores (-inf) become 0; a row of -inf only is NaN. */
static void special(enum vector_dtype dtype)
{
    enum { ROWS = 4, COLS = 21, COUNT = ROWS * COLS };
    struct tensor x = tensor_random(COUNT, dtype, 1, -1, 1);
    struct tensor y = tensor_create(COUNT, dtype);
    tensor_set(&x, COLS + 2, NAN);
    tensor_set(&x, 0, -INFINITY);
    tensor_set(&x, COLS - 1, -INFINITY);
    for (int c = 0; c < COLS; c++) {
        tensor_set(&x, 3 * COLS + c, -INFINITY);
    }
    softmax_fwd_cpu(x.data, y.data, ROWS, COLS, 0.5F, dtype);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(isnan(tensor_get(&y, i)), i / COLS == 1 || i / COLS == 3);
    }
    assert_true(tensor_get(&y, 0) == 0 && tensor_get(&y, COLS - 1) == 0);
    log_softmax_fwd_cpu(x.data, y.data, ROWS, COLS, 1, dtype);
    assert_true(tensor_get(&y, 0) == -INFINITY && isnan(tensor_get(&y, COLS)));
    assert_false(isnan(tensor_get(&y, 1)));
    /* Large scores do not overflow. */
    tensor_set(&x, 2 * COLS, 3e38);
    softmax_fwd_cpu(x.data, y.data, ROWS, COLS, 1, dtype);
    assert_true(tensor_get(&y, 2 * COLS) == 1 && tensor_get(&y, 2 * COLS + 1) == 0);
    tensor_destroy(&x);
    tensor_destroy(&y);
}

static void test_special_values(void **state)
{
    (void)state;
    for_each_case(special);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_bad_targets),
        cmocka_unit_test(test_special_values),
    };
    return cmocka_run_group_tests_name("softmax", tests, NULL, NULL);
}
