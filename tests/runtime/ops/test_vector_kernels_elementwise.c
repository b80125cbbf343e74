/*
 * Arithmetic, casts, losses per element: every instruction set and dtype against double precision.
 * timeout=60
 */
#include "tests/runtime/ops/vector_check.h"

/* What an elementwise kernel computes from its inputs, in double precision. */
typedef double (*expected)(double a, double b);

static const float host_alpha = -1.75F;
static const float alpha_cell = 0.625F;

static double want_add(double a, double b)
{
    return a + b;
}
static double want_sub(double a, double b)
{
    return a - b;
}
static double want_mul(double a, double b)
{
    return a * b;
}
static double want_scale(double a, double b)
{
    (void)b;
    return (double)host_alpha * a;
}
static double want_scale_by(double a, double b)
{
    (void)b;
    return (double)alpha_cell * a;
}
static double want_gated(double a, double b)
{
    return a + (double)alpha_cell * b;
}
static double want_axpy(double a, double b)
{
    return (double)host_alpha * a + b;
}
static double want_clamp(double a, double b)
{
    (void)b;
    return fmin(fmax(a, -0.5), 1.25);
}
static double want_clamp_bwd(double a, double b)
{
    return a >= -0.5 && a <= 1.25 ? b : 0;
}
static double want_fill(double a, double b)
{
    (void)a, (void)b;
    return (double)host_alpha;
}

enum { ADD, SUB, MUL, SCALE, SCALE_BY, GATED, AXPY, CLAMP, CLAMP_BWD, FILL, NUM_OPS };
static const expected want_of[NUM_OPS] = {want_add,       want_sub,   want_mul,  want_scale,
                                          want_scale_by,  want_gated, want_axpy, want_clamp,
                                          want_clamp_bwd, want_fill};
static const char *const names[NUM_OPS] = {"add",       "sub",       "mul",  "scale",
                                           "scale_by",  "gated_add", "axpy", "clamp_fwd",
                                           "clamp_bwd", "fill"};

/* For axpy `y` holds b on entry. */
static void call(int op, const void *a, const void *b, void *y, int64_t n, enum vector_dtype dtype)
{
    switch (op) {
    case ADD:
        add_cpu(a, b, y, n, dtype);
        break;
    case SUB:
        sub_cpu(a, b, y, n, dtype);
        break;
    case MUL:
        mul_cpu(a, b, y, n, dtype);
        break;
    case SCALE:
        scale_cpu(host_alpha, a, y, n, dtype);
        break;
    case SCALE_BY:
        scale_by_cpu(&alpha_cell, a, y, n, dtype);
        break;
    case GATED:
        gated_add_fwd_cpu(a, b, &alpha_cell, y, n, dtype);
        break;
    case AXPY:
        axpy_cpu(host_alpha, a, y, n, dtype);
        break;
    case CLAMP:
        clamp_fwd_cpu(a, -0.5F, 1.25F, y, n, dtype);
        break;
    case CLAMP_BWD:
        clamp_bwd_cpu(a, -0.5F, 1.25F, b, y, n, dtype);
        break;
    default:
        fill_cpu(host_alpha, y, n, dtype);
    }
}

static void arithmetic(enum vector_dtype dtype)
{
    for (int op = 0; op < NUM_OPS; op++) {
        for (int s = 0; s < NUM_VECTOR_SIZES; s++) {
            const int64_t n = vector_sizes[s];
            struct tensor a = tensor_random(n, dtype, 1, -2, 2);
            struct tensor b = tensor_random(n, dtype, 2, -2, 2);
            struct tensor y = op == AXPY ? tensor_copy(&b) : tensor_create(n, dtype);
            double *want = doubles(n);
            for (int64_t i = 0; i < n; i++) {
                want[i] = want_of[op](tensor_get(&a, i), tensor_get(&b, i));
            }
            if (n > 4 && op != FILL) {
                tensor_set(&a, n - 1, NAN);
                want[n - 1] = NAN;
            }
            omp_set_num_threads(3);
            call(op, a.data, b.data, y.data, n, dtype);
            /* The portable code rounds the product of a multiply-add as well. */
            check_tensor(names[op], &y, want, 0x1p-23, 0x1p-22);
            if (op != AXPY) {
                omp_set_num_threads(1);
                call(op, a.data, b.data, a.data, n, dtype);
                check_same(names[op], &y, &a);
            }
            free(want);
            tensor_destroy(&a);
            tensor_destroy(&b);
            tensor_destroy(&y);
        }
    }
}

static void test_arithmetic(void **state)
{
    (void)state;
    for_each_case(arithmetic);
}

static void gated_and_bias(enum vector_dtype dtype)
{
    double scratch[VECTOR_PARTS];
    assert_true(reduce_scratch() <= sizeof scratch);
    for (int s = 0; s < NUM_VECTOR_SIZES; s++) {
        const int64_t n = vector_sizes[s];
        struct tensor dy = tensor_random(n, dtype, 1, -1, 2);
        struct tensor b = tensor_random(n, dtype, 2, -1, 2);
        struct tensor db = tensor_create(n, dtype);
        double *want = doubles(n);
        double dot = 0;
        for (int64_t i = 0; i < n; i++) {
            want[i] = (double)alpha_cell * tensor_get(&dy, i);
            dot += tensor_get(&dy, i) * tensor_get(&b, i);
        }
        float dalpha = NAN;
        float again = NAN;
        omp_set_num_threads(3);
        gated_add_bwd_cpu(dy.data, b.data, &alpha_cell, db.data, &dalpha, scratch, n, dtype);
        check_tensor("gated_add db", &db, want, 0, 0);
        assert_true(fabs((double)dalpha - dot) <= 2e-6 * (double)(n + 1));
        omp_set_num_threads(1);
        gated_add_bwd_cpu(dy.data, b.data, &alpha_cell, NULL, &again, scratch, n, dtype);
        assert_true(dalpha == again);
        free(want);
        tensor_destroy(&dy);
        tensor_destroy(&b);
        tensor_destroy(&db);
    }
    for (int s = 0; s < NUM_VECTOR_SHAPES; s++) {
        const int64_t rows = vector_shapes[s][0];
        const int64_t cols = vector_shapes[s][1];
        struct tensor x = tensor_random(rows * cols, dtype, 1, -2, 2);
        struct tensor bias = tensor_random(cols, VECTOR_F32, 2, -2, 2);
        struct tensor y = tensor_create(rows * cols, dtype);
        double *want = doubles(rows * cols);
        for (int64_t i = 0; i < rows * cols; i++) {
            want[i] = tensor_get(&x, i) + tensor_get(&bias, i % cols);
        }
        omp_set_num_threads(3);
        bias_add_cpu(x.data, bias.data, y.data, rows, cols, dtype);
        check_tensor("bias_add", &y, want, 0, 0);
        bias_add_cpu(x.data, bias.data, x.data, rows, cols, dtype);
        check_same("bias_add in place", &y, &x);
        free(want);
        tensor_destroy(&x);
        tensor_destroy(&bias);
        tensor_destroy(&y);
    }
}

static void test_gated_and_bias(void **state)
{
    (void)state;
    for_each_case(gated_and_bias);
}

/* Every bf16 value there and back; and f32 values to bf16 bit by bit as bf16_from_f32 does. */
static void casts(enum vector_dtype dtype)
{
    if (dtype != VECTOR_F32) return;
    enum { COUNT = 1 << 16 };
    const bool flushes = vector_now.isa >= CPU_ISA_AVX512BF16;
    struct tensor h = tensor_create(COUNT, VECTOR_BF16);
    struct tensor f = tensor_create(COUNT, VECTOR_F32);
    struct tensor back = tensor_create(COUNT, VECTOR_BF16);
    for (int i = 0; i < COUNT; i++) {
        ((bf16 *)h.data)[i] = (bf16)i;
    }
    omp_set_num_threads(3);
    cast_cpu(h.data, VECTOR_BF16, f.data, VECTOR_F32, COUNT);
    cast_cpu(f.data, VECTOR_F32, back.data, VECTOR_BF16, COUNT);
    for (int i = 0; i < COUNT; i++) {
        float value = bf16_to_f32((bf16)i);
        assert_memory_equal((float *)f.data + i, &value, sizeof value);
        bf16 want = bf16_from_f32(value);
        if (flushes && fabsf(value) < 0x1p-126F) want &= 0x8000; /* subnormal results are zero */
        assert_int_equal(((bf16 *)back.data)[i], want);
    }
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < COUNT; i++) {
            uint32_t bits =
                rng_at(rng_key(3, RNG_TEST, 9), 0, (uint64_t)round, (uint32_t)i).word[0];
            if (i % 4 == 0) bits = (bits & 0xFFFF0000u) | 0x8000u; /* halfway between two */
            memcpy((float *)f.data + i, &bits, sizeof bits);
        }
        cast_cpu(f.data, VECTOR_F32, back.data, VECTOR_BF16, COUNT);
        for (int i = 0; i < COUNT; i++) {
            float value = ((float *)f.data)[i];
            bf16 want = bf16_from_f32(value);
            if (flushes && fabsf(value) < 0x1p-126F) want &= 0x8000;
            assert_int_equal(((bf16 *)back.data)[i], want);
        }
    }
    for (int s = 0; s < NUM_VECTOR_SIZES; s++) {
        struct tensor a = tensor_random(vector_sizes[s], VECTOR_F32, 1, -1, 1);
        struct tensor b = tensor_create(vector_sizes[s], VECTOR_F32);
        cast_cpu(a.data, VECTOR_F32, b.data, VECTOR_F32, a.count);
        check_same("cast f32 to f32", &a, &b);
        tensor_destroy(&a);
        tensor_destroy(&b);
    }
    tensor_destroy(&h);
    tensor_destroy(&f);
    tensor_destroy(&back);
}

static void test_casts(void **state)
{
    (void)state;
    for_each_case(casts);
}

static void losses(enum vector_dtype dtype)
{
    double scratch[VECTOR_PARTS];
    for (int s = 0; s < NUM_VECTOR_SIZES; s++) {
        const int64_t n = vector_sizes[s];
        struct tensor x = tensor_random(n, dtype, 1, -20, 20);
        struct tensor b = tensor_random(n, dtype, 2, -20, 20);
        struct tensor t = tensor_random(n, VECTOR_F32, 3, 0, 1);
        struct tensor g = tensor_random(n, VECTOR_F32, 4, 0.5, 1);
        struct tensor loss = tensor_create(n, VECTOR_F32);
        struct tensor dx = tensor_create(n, dtype);
        struct tensor db = tensor_create(n, dtype);
        double *want = doubles(n);
        double *want_d = doubles(n);
        double square = 0;
        for (int64_t i = 0; i < n; i++) {
            double v = tensor_get(&x, i);
            want[i] = fmax(v, 0) - v * tensor_get(&t, i) + log1p(exp(-fabs(v)));
            want_d[i] = (1 / (1 + exp(-v)) - tensor_get(&t, i)) * tensor_get(&g, i);
            square += (v - tensor_get(&b, i)) * (v - tensor_get(&b, i));
        }
        omp_set_num_threads(3);
        bce_fwd_cpu(x.data, t.data, loss.data, n, dtype);
        check_tensor("bce", &loss, want, 2e-7, 2e-6); /* max(x, 0) - x t cancels */
        bce_bwd_cpu(x.data, t.data, g.data, dx.data, n, dtype);
        check_tensor("bce dx", &dx, want_d, 2e-7, 3e-7);
        float sum = NAN;
        const float dout = 0.75F;
        mse_fwd_cpu(x.data, b.data, 0.5F, &sum, scratch, n, dtype);
        assert_true(fabs((double)sum - 0.5 * square) <= 1e-6 * square);
        mse_bwd_cpu(x.data, b.data, 0.5F, &dout, dx.data, db.data, n, dtype);
        for (int64_t i = 0; i < n; i++) {
            want[i] = 2 * 0.5 * 0.75 * (tensor_get(&x, i) - tensor_get(&b, i));
            want_d[i] = -want[i];
        }
        check_tensor("mse da", &dx, want, 2e-7, 0);
        check_tensor("mse db", &db, want_d, 2e-7, 0);
        mse_bwd_cpu(x.data, b.data, 0.5F, &dout, NULL, b.data, n, dtype);
        check_same("mse db in place", &db, &b);
        free(want);
        free(want_d);
        tensor_destroy(&x);
        tensor_destroy(&b);
        tensor_destroy(&t);
        tensor_destroy(&g);
        tensor_destroy(&loss);
        tensor_destroy(&dx);
        tensor_destroy(&db);
    }
    /* Far out the loss is |x| or nothing, never infinite; NaN passes. */
    float x[3] = {1e4F, -1e4F, NAN};
    const float t[3] = {0, 0, 0};
    float loss[3];
    bce_fwd_cpu(x, t, loss, 3, VECTOR_F32);
    assert_true(loss[0] == 1e4F && loss[1] == 0 && isnan(loss[2]));
}

static void test_losses(void **state)
{
    (void)state;
    for_each_case(losses);
}

static void row_products(enum vector_dtype dtype)
{
    for (int s = 0; s < NUM_VECTOR_SHAPES; s++) {
        const int64_t rows = vector_shapes[s][0];
        const int64_t cols = vector_shapes[s][1];
        const int64_t n = rows * cols;
        struct tensor a = tensor_random(n, dtype, 1, -1, 1.5);
        struct tensor b = tensor_random(n, dtype, 2, -1, 1.5);
        struct tensor u = tensor_random(rows, VECTOR_F32, 3, -1, 1);
        struct tensor v = tensor_random(rows, VECTOR_F32, 4, -1, 1);
        struct tensor out = tensor_create(rows, VECTOR_F32);
        struct tensor norm_a = tensor_create(rows, VECTOR_F32);
        struct tensor norm_b = tensor_create(rows, VECTOR_F32);
        struct tensor da = tensor_create(n, dtype);
        struct tensor db = tensor_create(n, dtype);
        double *dot = doubles(rows);
        double *aa = doubles(rows);
        double *bb = doubles(rows);
        double *want_a = doubles(n);
        double *want_b = doubles(n);
        for (int64_t i = 0; i < n; i++) {
            dot[i / cols] += tensor_get(&a, i) * tensor_get(&b, i);
            aa[i / cols] += tensor_get(&a, i) * tensor_get(&a, i);
            bb[i / cols] += tensor_get(&b, i) * tensor_get(&b, i);
            want_a[i] = tensor_get(&u, i / cols) * tensor_get(&a, i);
            want_b[i] = want_a[i] + tensor_get(&v, i / cols) * tensor_get(&b, i);
        }
        omp_set_num_threads(3);
        row_dot_cpu(a.data, b.data, out.data, rows, cols, dtype);
        check_tensor("row_dot", &out, dot, 1e-6, 3e-7 * (double)cols);
        row_axpby_cpu(u.data, a.data, NULL, NULL, da.data, rows, cols, dtype);
        check_tensor("row_axpby with one term", &da, want_a, 0, 0);
        row_axpby_cpu(u.data, a.data, v.data, b.data, da.data, rows, cols, dtype);
        check_tensor("row_axpby", &da, want_b, 2e-7, 2e-7);
        const double eps = 1e-8;
        for (int64_t r = 0; r < rows; r++) {
            aa[r] = sqrt(aa[r]);
            bb[r] = sqrt(bb[r]);
            dot[r] /= aa[r] * bb[r];
        }
        cosine_fwd_cpu(a.data, b.data, out.data, norm_a.data, norm_b.data, rows, cols, (float)eps,
                       dtype);
        check_tensor("cosine", &out, dot, 1e-6, 1e-6);
        check_tensor("cosine norm", &norm_a, aa, 1e-6, 0);
        cosine_bwd_cpu(a.data, b.data, out.data, norm_a.data, norm_b.data, u.data, da.data, db.data,
                       rows, cols, (float)eps, dtype);
        double largest = 0;
        for (int64_t i = 0; i < n; i++) {
            int64_t r = i / cols;
            double g = tensor_get(&u, r);
            double c = tensor_get(&out, r);
            double x = tensor_get(&a, i);
            double y = tensor_get(&b, i);
            want_a[i] = g * (y / (aa[r] * bb[r]) - c * x / (aa[r] * aa[r]));
            want_b[i] = g * (x / (aa[r] * bb[r]) - c * y / (bb[r] * bb[r]));
            largest = fmax(largest, fmax(1 / aa[r], 1 / bb[r]) * 2);
        }
        check_tensor("cosine da", &da, want_a, 1e-6, 1e-6 * largest);
        check_tensor("cosine db", &db, want_b, 1e-6, 1e-6 * largest);
        free(dot);
        free(aa);
        free(bb);
        free(want_a);
        free(want_b);
        tensor_destroy(&a);
        tensor_destroy(&b);
        tensor_destroy(&u);
        tensor_destroy(&v);
        tensor_destroy(&out);
        tensor_destroy(&norm_a);
        tensor_destroy(&norm_b);
        tensor_destroy(&da);
        tensor_destroy(&db);
    }
}

static void test_row_products(void **state)
{
    (void)state;
    for_each_case(row_products);
}

/* A zero row: the norm is clamped, the gradient is that of the product alone. */
static void cosine_of_zero(enum vector_dtype dtype)
{
    enum { COLS = 5 };
    struct tensor a = tensor_random(COLS, dtype, 1, 0, 0);
    struct tensor b = tensor_random(COLS, dtype, 2, 1, 1);
    struct tensor da = tensor_create(COLS, dtype);
    float out;
    float norm_a;
    float norm_b;
    const float g = 1;
    cosine_fwd_cpu(a.data, b.data, &out, &norm_a, &norm_b, 1, COLS, 0.5F, dtype);
    assert_true(out == 0 && norm_a == 0.5F);
    cosine_bwd_cpu(a.data, b.data, &out, &norm_a, &norm_b, &g, da.data, NULL, 1, COLS, 0.5F, dtype);
    assert_true(fabs(tensor_get(&da, 4) - 1 / (0.5 * sqrt(5.0))) < 4e-3);
    tensor_destroy(&a);
    tensor_destroy(&b);
    tensor_destroy(&da);
}

static void test_cosine_of_zero(void **state)
{
    (void)state;
    for_each_case(cosine_of_zero);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arithmetic),   cmocka_unit_test(test_gated_and_bias),
        cmocka_unit_test(test_casts),        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_row_products), cmocka_unit_test(test_cosine_of_zero),
    };
    return cmocka_run_group_tests_name("elementwise", tests, NULL, NULL);
}
