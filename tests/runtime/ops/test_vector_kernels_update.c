/*
 * AdamW in both forms, EMA, sum of squares: against double precision and hand-worked steps.
 * timeout=60
 */
#include "tests/runtime/ops/vector_check.h"

/* One update of one parameter, in double precision, written from the formulas. */
static void reference(const struct adamw *a, double g, double *p, double *m, double *v)
{
    g *= a->gradient_scale;
    *m = a->beta1 * *m + (1 - a->beta1) * g;
    *v = a->beta2 * *v + (1 - a->beta2) * g * g;
    double c1 = 1 - pow(a->beta1, (double)a->step);
    double c2 = 1 - pow(a->beta2, (double)a->step);
    if (a->form == ADAMW_FIBER) {
        *p -= a->lr * sqrt(c2) / c1 * *m / (sqrt(*v) + a->eps);
        *p -= a->lr * a->weight_decay * *p;
    } else {
        *p -= a->lr * a->weight_decay * *p;
        *p -= a->lr * (*m / c1) / (sqrt(*v / c2) + a->eps);
    }
}

static void adamw(enum vector_dtype dtype)
{
    for (int s = 0; s < NUM_VECTOR_SIZES; s++) {
        for (int form = 0; form < 2; form++) {
            const int64_t n = vector_sizes[s];
            struct tensor p = tensor_random(n, VECTOR_F32, 1, -1, 1);
            struct tensor m = tensor_random(n, VECTOR_F32, 2, 0, 0);
            struct tensor v = tensor_random(n, VECTOR_F32, 3, 0, 0);
            struct tensor p1 = tensor_copy(&p);
            struct tensor m1 = tensor_copy(&m);
            struct tensor v1 = tensor_copy(&v);
            struct tensor shadow = tensor_create(n, VECTOR_BF16);
            double *want_p = doubles(n);
            double *want_m = doubles(n);
            double *want_v = doubles(n);
            for (int64_t i = 0; i < n; i++) {
                want_p[i] = tensor_get(&p, i);
            }
            struct adamw a = {.m = m.data,
                              .v = v.data,
                              .shadow = dtype == VECTOR_BF16 ? shadow.data : NULL,
                              .count = n,
                              .lr = 1e-2,
                              .beta1 = 0.9,
                              .beta2 = 0.98,
                              .eps = 1e-8,
                              .weight_decay = 0.01,
                              .gradient_scale = 0.25,
                              .form = (enum adamw_form)form};
            for (int64_t step = 1; step <= 3; step++) {
                struct tensor g = tensor_random(n, VECTOR_F32, 10 + (uint64_t)step, -1e-3, 1e-3);
                a.step = step;
                a.g = g.data;
                for (int64_t i = 0; i < n; i++) {
                    reference(&a, tensor_get(&g, i), &want_p[i], &want_m[i], &want_v[i]);
                }
                omp_set_num_threads(3);
                a.p = p.data;
                a.m = m.data;
                a.v = v.data;
                adamw_cpu(&a);
                omp_set_num_threads(1);
                a.p = p1.data;
                a.m = m1.data;
                a.v = v1.data;
                adamw_cpu(&a);
                tensor_destroy(&g);
            }
            check_tensor("adamw p", &p, want_p, 3e-7, 2e-7);
            check_tensor("adamw m", &m, want_m, 1e-6, 1e-11);
            check_tensor("adamw v", &v, want_v, 1e-6, 1e-16);
            check_same("adamw", &p, &p1);
            check_same("adamw", &v, &v1);
            for (int64_t i = 0; i < n && dtype == VECTOR_BF16; i++) {
                assert_int_equal(((bf16 *)shadow.data)[i], bf16_from_f32(((float *)p.data)[i]));
            }
            free(want_p);
            free(want_m);
            free(want_v);
            tensor_destroy(&p);
            tensor_destroy(&m);
            tensor_destroy(&v);
            tensor_destroy(&p1);
            tensor_destroy(&m1);
            tensor_destroy(&v1);
            tensor_destroy(&shadow);
        }
    }
}

static void test_adamw(void **state)
{
    (void)state;
    for_each_case(adamw);
}

/*
 * Worked by hand, first step from p = 1, g = 2, betas 0.5, 0.75, lr 0.1, decay 0.5, eps 1:
 * m = 1, v = 1, corrections 1/2 and 1/4.
 *   decoupled: p = 1 - 0.05 = 0.95; 0.95 - 0.1 * (1 / 0.5) / (sqrt(1 / 0.25) + 1) = 0.95 - 0.2 / 3
 *   FIBER:     p = 1 - 0.1 * 0.5 / 0.5 * 1 / (1 + 1) = 0.95; 0.95 - 0.05 * 0.95 = 0.9025
 */
static void worked(enum vector_dtype dtype)
{
    (void)dtype;
    const double want[2] = {0.95 - 0.2 / 3, 0.9025};
    for (int form = 0; form < 2; form++) {
        float p = 1;
        float g = 2;
        float m = 0;
        float v = 0;
        struct adamw a = {.p = &p,
                          .g = &g,
                          .m = &m,
                          .v = &v,
                          .count = 1,
                          .step = 1,
                          .lr = 0.1,
                          .beta1 = 0.5,
                          .beta2 = 0.75,
                          .eps = 1,
                          .weight_decay = 0.5,
                          .gradient_scale = 1,
                          .form = (enum adamw_form)form};
        adamw_cpu(&a);
        assert_true(m == 1 && v == 1);
        assert_true(fabs((double)p - want[form]) < 1e-7);
        g = NAN;
        adamw_cpu(&a);
        assert_true(isnan(p) && isnan(m) && isnan(v));
    }
}

static void test_worked(void **state)
{
    (void)state;
    for_each_case(worked);
}

static void ema_and_squares(enum vector_dtype dtype)
{
    if (dtype != VECTOR_F32) return;
    double scratch[VECTOR_PARTS];
    for (int s = 0; s < NUM_VECTOR_SIZES; s++) {
        const int64_t n = vector_sizes[s];
        struct tensor ema = tensor_random(n, VECTOR_F32, 1, -1, 1);
        struct tensor p = tensor_random(n, VECTOR_F32, 2, -1, 1);
        double *want = doubles(n);
        double square = 0;
        for (int64_t i = 0; i < n; i++) {
            want[i] = 0.999 * tensor_get(&ema, i) + (1 - 0.999) * tensor_get(&p, i);
            square += tensor_get(&p, i) * tensor_get(&p, i);
        }
        double out = NAN;
        double once = NAN;
        omp_set_num_threads(3);
        ema_cpu(ema.data, p.data, 0.999, n);
        check_tensor("ema", &ema, want, 2e-7, 2e-8);
        sum_squares_cpu(p.data, &out, scratch, n);
        assert_true(fabs(out - square) <= 1e-12 * square);
        omp_set_num_threads(1);
        sum_squares_cpu(p.data, &once, scratch, n);
        assert_true(out == once);
        if (n > 0) {
            /* The largest floats do not overflow; an infinity or NaN anywhere shows. */
            for (int64_t i = 0; i < n; i++) {
                ((float *)p.data)[i] = i % 2 ? 3e38F : -3e38F;
            }
            sum_squares_cpu(p.data, &out, scratch, n);
            assert_true(isfinite(out));
            ((float *)p.data)[n / 2] = NAN;
            sum_squares_cpu(p.data, &out, scratch, n);
            assert_true(isnan(out));
            ((float *)p.data)[n / 2] = -INFINITY;
            sum_squares_cpu(p.data, &out, scratch, n);
            assert_true(isinf(out));
        } else {
            assert_true(out == 0);
        }
        free(want);
        tensor_destroy(&ema);
        tensor_destroy(&p);
    }
}

static void test_ema_and_squares(void **state)
{
    (void)state;
    for_each_case(ema_and_squares);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_worked),
        cmocka_unit_test(test_ema_and_squares),
    };
    return cmocka_run_group_tests_name("update", tests, NULL, NULL);
}
