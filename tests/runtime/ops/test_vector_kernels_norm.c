/*
 * Layer and L2 normalisation: every instruction set and dtype against double precision. timeout=60
 */
#include "tests/runtime/ops/vector_check.h"

struct moments {
    double mean;
    double rstd;
};

static struct moments row_moments(const struct tensor *x, int64_t row, int64_t cols, double eps)
{
    double mean = 0;
    double variance = 0;
    for (int64_t c = 0; c < cols; c++) {
        mean += tensor_get(x, row * cols + c) / (double)cols;
    }
    for (int64_t c = 0; c < cols; c++) {
        double d = tensor_get(x, row * cols + c) - mean;
        variance += d * d / (double)cols;
    }
    return (struct moments){mean, 1 / sqrt(variance + eps)};
}

static void layernorm_forward(enum vector_dtype dtype)
{
    for (int s = 0; s < NUM_VECTOR_SHAPES; s++) {
        for (int variant = 0; variant < 3; variant++) { /* plain, no parameters, residual */
            const int64_t rows = vector_shapes[s][0];
            const int64_t cols = vector_shapes[s][1];
            const int64_t count = rows * cols;
            struct tensor x = tensor_random(count, dtype, 1, -2, 3);
            struct tensor r = tensor_random(count, dtype, 2, -2, 3);
            struct tensor gamma = tensor_random(cols, VECTOR_F32, 3, 0.5, 1.5);
            struct tensor beta = tensor_random(cols, VECTOR_F32, 4, -1, 1);
            struct tensor sum = tensor_create(count, dtype);
            struct tensor y = tensor_create(count, dtype);
            struct tensor mean = tensor_create(rows, VECTOR_F32);
            struct tensor rstd = tensor_create(rows, VECTOR_F32);
            struct layernorm_fwd args = {.x = x.data,
                                         .gamma = gamma.data,
                                         .beta = beta.data,
                                         .y = y.data,
                                         .mean = mean.data,
                                         .rstd = rstd.data,
                                         .rows = rows,
                                         .cols = cols,
                                         .eps = 1e-5F,
                                         .dtype = dtype};
            if (variant == 1) args.gamma = args.beta = NULL;
            if (variant == 2) {
                args.residual = r.data;
                args.sum = sum.data;
            }
            omp_set_num_threads(3);
            layernorm_fwd_cpu(&args);
            double *want = doubles(count);
            double *want_mean = doubles(rows);
            double *want_rstd = doubles(rows);
            struct tensor *in = &x;
            if (variant == 2) {
                for (int64_t i = 0; i < count; i++) {
                    want[i] = tensor_get(&x, i) + tensor_get(&r, i);
                }
                check_tensor("layernorm sum", &sum, want, 0, 0);
                in = &sum;
            }
            for (int64_t i = 0; i < rows; i++) {
                struct moments m = row_moments(in, i, cols, 1e-5F);
                want_mean[i] = m.mean;
                want_rstd[i] = m.rstd;
                for (int64_t c = 0; c < cols; c++) {
                    double v = (tensor_get(in, i * cols + c) - m.mean) * m.rstd;
                    if (args.gamma) v = v * tensor_get(&gamma, c) + tensor_get(&beta, c);
                    want[i * cols + c] = v;
                }
            }
            /* bf16 values lie on a coarse grid, so their rounding errors in a sum do not cancel. */
            check_tensor("layernorm mean", &mean, want_mean, 2e-7, 2e-6);
            /* One column: the variance is 0, rstd 1 / sqrt(eps) magnifies its rounding. */
            check_tensor("layernorm rstd", &rstd, want_rstd, 1e-6, 0);
            check_tensor("layernorm y", &y, want, 1e-6, 2e-6);
            struct tensor once = tensor_create(count, dtype);
            args.y = once.data;
            omp_set_num_threads(1);
            layernorm_fwd_cpu(&args);
            check_same("layernorm_fwd", &y, &once);
            if (variant != 2) {
                args.y = x.data;
                layernorm_fwd_cpu(&args);
                check_same("layernorm_fwd in place", &y, &x);
            } else {
                args.sum = x.data;
                layernorm_fwd_cpu(&args);
                check_same("layernorm_fwd sum in place", &sum, &x);
            }
            free(want);
            free(want_mean);
            free(want_rstd);
            tensor_destroy(&x);
            tensor_destroy(&r);
            tensor_destroy(&gamma);
            tensor_destroy(&beta);
            tensor_destroy(&sum);
            tensor_destroy(&y);
            tensor_destroy(&once);
            tensor_destroy(&mean);
            tensor_destroy(&rstd);
        }
    }
}

static void test_layernorm_forward(void **state)
{
    (void)state;
    for_each_case(layernorm_forward);
}

/* Values that share a large offset: the two-pass variance and the corrected mean keep their digits.
 */
static void layernorm_offset(enum vector_dtype dtype)
{
    if (dtype != VECTOR_F32) return;
    enum { COLS = 777 };
    const double offsets[] = {1e3, 1e5, -3e6};
    for (int k = 0; k < 3; k++) {
        struct tensor x = tensor_random(COLS, dtype, 5, offsets[k] - 4, offsets[k] + 4);
        struct tensor y = tensor_create(COLS, dtype);
        struct layernorm_fwd args = {
            .x = x.data, .y = y.data, .rows = 1, .cols = COLS, .eps = 1e-6F, .dtype = dtype};
        layernorm_fwd_cpu(&args);
        struct moments m = row_moments(&x, 0, COLS, 1e-6F);
        double *want = doubles(COLS);
        for (int64_t c = 0; c < COLS; c++) {
            want[c] = (tensor_get(&x, c) - m.mean) * m.rstd;
        }
        check_tensor("layernorm with offset", &y, want, 1e-6, 2e-6);
        free(want);
        tensor_destroy(&x);
        tensor_destroy(&y);
    }
}

static void test_layernorm_offset(void **state)
{
    (void)state;
    for_each_case(layernorm_offset);
}

static void layernorm_backward(enum vector_dtype dtype)
{
    for (int s = 0; s < NUM_VECTOR_SHAPES; s++) {
        for (int variant = 0; variant < 4; variant++) {
            /* plain, no gamma, residual, no parameter gradients */
            const int64_t rows = vector_shapes[s][0];
            const int64_t cols = vector_shapes[s][1];
            const int64_t count = rows * cols;
            struct tensor x = tensor_random(count, dtype, 1, -2, 3);
            struct tensor dy = tensor_random(count, dtype, 2, -1, 1);
            struct tensor extra = tensor_random(count, dtype, 3, -1, 1);
            struct tensor gamma = tensor_random(cols, VECTOR_F32, 4, 0.5, 1.5);
            struct tensor mean = tensor_create(rows, VECTOR_F32);
            struct tensor rstd = tensor_create(rows, VECTOR_F32);
            struct tensor dx = tensor_create(count, dtype);
            struct tensor dgamma = tensor_create(cols, VECTOR_F32);
            struct tensor dbeta = tensor_create(cols, VECTOR_F32);
            double *want = doubles(count);
            double *want_dgamma = doubles(cols);
            double *want_dbeta = doubles(cols);
            for (int64_t i = 0; i < rows; i++) {
                struct moments m = row_moments(&x, i, cols, 1e-2);
                tensor_set(&mean, i, m.mean);
                tensor_set(&rstd, i, m.rstd);
                m.mean = tensor_get(&mean, i);
                m.rstd = tensor_get(&rstd, i);
                double c1 = 0;
                double c2 = 0;
                for (int64_t c = 0; c < cols; c++) {
                    double d = tensor_get(&dy, i * cols + c);
                    double g = variant == 1 ? d : d * tensor_get(&gamma, c);
                    double xhat = (tensor_get(&x, i * cols + c) - m.mean) * m.rstd;
                    c1 += g / (double)cols;
                    c2 += g * xhat / (double)cols;
                    want_dgamma[c] += d * xhat;
                    want_dbeta[c] += d;
                }
                for (int64_t c = 0; c < cols; c++) {
                    double d = tensor_get(&dy, i * cols + c);
                    double g = variant == 1 ? d : d * tensor_get(&gamma, c);
                    double xhat = (tensor_get(&x, i * cols + c) - m.mean) * m.rstd;
                    want[i * cols + c] = m.rstd * (g - c1 - xhat * c2);
                    if (variant == 2) want[i * cols + c] += tensor_get(&extra, i * cols + c);
                }
            }
            void *scratch = malloc(layernorm_bwd_scratch(rows, cols) + 1);
            struct layernorm_bwd args = {.dy = dy.data,
                                         .x = x.data,
                                         .mean = mean.data,
                                         .rstd = rstd.data,
                                         .gamma = variant == 1 ? NULL : gamma.data,
                                         .dresidual = variant == 2 ? extra.data : NULL,
                                         .dx = dx.data,
                                         .dgamma = variant == 3 ? NULL : dgamma.data,
                                         .dbeta = variant == 3 ? NULL : dbeta.data,
                                         .scratch = variant == 3 ? NULL : scratch,
                                         .rows = rows,
                                         .cols = cols,
                                         .dtype = dtype};
            omp_set_num_threads(3);
            layernorm_bwd_cpu(&args);
            check_tensor("layernorm dx", &dx, want, 1e-6, 5e-6);
            struct tensor once = tensor_create(count, dtype);
            if (variant != 3) {
                check_tensor("layernorm dgamma", &dgamma, want_dgamma, 1e-6, 1e-5);
                check_tensor("layernorm dbeta", &dbeta, want_dbeta, 1e-6, 1e-5);
                struct tensor dgamma1 = tensor_create(cols, VECTOR_F32);
                args.dgamma = dgamma1.data;
                args.dx = once.data;
                omp_set_num_threads(1);
                layernorm_bwd_cpu(&args);
                check_same("layernorm_bwd dgamma", &dgamma, &dgamma1);
                check_same("layernorm_bwd dx", &dx, &once);
                args.dx = NULL;
                layernorm_bwd_cpu(&args);
                check_same("layernorm_bwd without dx", &dgamma, &dgamma1);
                args.dgamma = dgamma.data;
                tensor_destroy(&dgamma1);
            }
            args.dx = dy.data;
            layernorm_bwd_cpu(&args);
            check_same("layernorm_bwd in place", &dx, &dy);
            free(scratch);
            free(want);
            free(want_dgamma);
            free(want_dbeta);
            tensor_destroy(&x);
            tensor_destroy(&dy);
            tensor_destroy(&extra);
            tensor_destroy(&gamma);
            tensor_destroy(&mean);
            tensor_destroy(&rstd);
            tensor_destroy(&dx);
            tensor_destroy(&once);
            tensor_destroy(&dgamma);
            tensor_destroy(&dbeta);
        }
    }
}

static void test_layernorm_backward(void **state)
{
    (void)state;
    for_each_case(layernorm_backward);
}

static void l2norm(enum vector_dtype dtype)
{
    for (int s = 0; s < NUM_VECTOR_SHAPES; s++) {
        for (int clamp = 0; clamp < 2; clamp++) {
            const int64_t rows = vector_shapes[s][0];
            const int64_t cols = vector_shapes[s][1];
            const int64_t count = rows * cols;
            const double eps = clamp ? 0.75 : 0;
            struct tensor x = tensor_random(count, dtype, 1, -1, 1);
            struct tensor dy = tensor_random(count, dtype, 2, -1, 1);
            struct tensor y = tensor_create(count, dtype);
            struct tensor dx = tensor_create(count, dtype);
            struct tensor norm = tensor_create(rows, VECTOR_F32);
            for (int64_t c = 0; c < cols && rows > 1; c++) { /* row 1 below eps */
                tensor_set(&x, cols + c, 0.01 * tensor_get(&x, cols + c));
            }
            l2norm_fwd_cpu(x.data, y.data, norm.data, rows, cols, (float)eps, dtype);
            double *want = doubles(count);
            double *want_dx = doubles(count);
            double *want_norm = doubles(rows);
            for (int64_t r = 0; r < rows; r++) {
                double square = 0;
                double dot = 0;
                for (int64_t c = 0; c < cols; c++) {
                    double v = tensor_get(&x, r * cols + c);
                    square += v * v;
                }
                want_norm[r] = sqrt(square);
                double divisor = fmax(want_norm[r], eps);
                for (int64_t c = 0; c < cols; c++) {
                    want[r * cols + c] = tensor_get(&x, r * cols + c) / divisor;
                    dot += tensor_get(&y, r * cols + c) * tensor_get(&dy, r * cols + c);
                }
                if (want_norm[r] < eps) dot = 0;
                for (int64_t c = 0; c < cols; c++) {
                    want_dx[r * cols + c] =
                        (tensor_get(&dy, r * cols + c) - dot * tensor_get(&y, r * cols + c)) /
                        divisor;
                }
            }
            check_tensor("l2norm norm", &norm, want_norm, 1e-6, 0);
            check_tensor("l2norm y", &y, want, 1e-6, 0);
            l2norm_bwd_cpu(y.data, norm.data, dy.data, dx.data, rows, cols, (float)eps, dtype);
            /* dy - y dot(dy, y) cancels: absolute error in units of dy / norm. */
            double largest = 0;
            for (int64_t i = 0; i < count; i++) {
                largest = fmax(largest, fabs(tensor_get(&dy, i)) / fmax(want_norm[i / cols], eps));
            }
            check_tensor("l2norm dx", &dx, want_dx, 1e-6, 1e-6 * largest);
            l2norm_bwd_cpu(y.data, norm.data, dy.data, dy.data, rows, cols, (float)eps, dtype);
            check_same("l2norm_bwd in place", &dx, &dy);
            free(want);
            free(want_dx);
            free(want_norm);
            tensor_destroy(&x);
            tensor_destroy(&dy);
            tensor_destroy(&y);
            tensor_destroy(&dx);
            tensor_destroy(&norm);
        }
    }
}

static void test_l2norm(void **state)
{
    (void)state;
    for_each_case(l2norm);
}

/* NaN stays in its row; a zero row divided by the plain norm is NaN, with eps it is zero. */
static void special(enum vector_dtype dtype)
{
    enum { ROWS = 3, COLS = 21, COUNT = ROWS * COLS };
    struct tensor x = tensor_random(COUNT, dtype, 1, -1, 1);
    struct tensor y = tensor_create(COUNT, dtype);
    struct tensor norm = tensor_create(ROWS, VECTOR_F32);
    tensor_set(&x, 2 * COLS - 1, NAN);
    struct layernorm_fwd args = {
        .x = x.data, .y = y.data, .rows = ROWS, .cols = COLS, .eps = 1e-5F, .dtype = dtype};
    layernorm_fwd_cpu(&args);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(isnan(tensor_get(&y, i)), i / COLS == 1);
    }
    for (int c = 0; c < COLS; c++) {
        tensor_set(&x, c, 0);
    }
    l2norm_fwd_cpu(x.data, y.data, norm.data, ROWS, COLS, 0, dtype);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(isnan(tensor_get(&y, i)), i / COLS != 2);
    }
    l2norm_fwd_cpu(x.data, y.data, norm.data, ROWS, COLS, 1e-12F, dtype);
    assert_true(tensor_get(&y, 3) == 0);
    assert_true(isnan(tensor_get(&y, COLS)));
    tensor_destroy(&x);
    tensor_destroy(&y);
    tensor_destroy(&norm);
}

static void test_special_values(void **state)
{
    (void)state;
    for_each_case(special);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layernorm_forward),  cmocka_unit_test(test_layernorm_offset),
        cmocka_unit_test(test_layernorm_backward), cmocka_unit_test(test_l2norm),
        cmocka_unit_test(test_special_values),
    };
    return cmocka_run_group_tests_name("norm", tests, NULL, NULL);
}
