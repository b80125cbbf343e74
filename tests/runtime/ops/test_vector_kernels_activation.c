/*
 * Activations: every instruction set and dtype against double precision. timeout=60
 *
 * The accuracy that vec_math.h states is measured here over a dense sweep of arguments.
 */
#include "tests/runtime/ops/vector_check.h"

/* The constant as the kernels have it: 1.702 to f32 precision. */
#define QUICK ((double)1.702F)

static double phi(double x)
{
    return 0.5 * erfc(-x / sqrt(2.0));
}

static double value_of(enum activation kind, double x)
{
    switch (kind) {
    case ACTIVATION_GELU:
        return x * phi(x);
    case ACTIVATION_GELU_QUICK:
        return x / (1 + exp(-QUICK * x));
    case ACTIVATION_TANH:
        return tanh(x);
    case ACTIVATION_RELU:
        return isnan(x) ? x : x > 0 ? x : 0;
    default:
        return 1 / (1 + exp(-x));
    }
}

static double slope_of(enum activation kind, double x)
{
    double s;
    switch (kind) {
    case ACTIVATION_GELU:
        return phi(x) + x * exp(-0.5 * x * x) / sqrt(2 * 3.14159265358979323846);
    case ACTIVATION_GELU_QUICK:
        s = 1 / (1 + exp(-QUICK * x));
        return s + QUICK * x * s / (1 + exp(QUICK * x));
    case ACTIVATION_TANH:
        return 1 / cosh(x) / cosh(x);
    case ACTIVATION_RELU:
        return isnan(x) ? x : x > 0 ? 1 : 0;
    default:
        return 1 / (1 + exp(-x)) / (1 + exp(x));
    }
}

/* In units of 2^-24 of the value: half units in the last place, at most. */
static const struct {
    double value;
    double slope;
} bound[ACTIVATION_COUNT] = {
    [ACTIVATION_GELU] = {8, 12}, [ACTIVATION_GELU_QUICK] = {10, 12}, [ACTIVATION_TANH] = {8, 8},
    [ACTIVATION_RELU] = {0, 0},  [ACTIVATION_SIGMOID] = {8, 8},
};

static void all_functions(enum vector_dtype dtype)
{
    for (int kind = 0; kind < ACTIVATION_COUNT; kind++) {
        for (int s = 0; s < NUM_VECTOR_SIZES; s++) {
            const int64_t count = vector_sizes[s];
            struct tensor x = tensor_random(count, dtype, 1, -6, 6);
            struct tensor dy = tensor_random(count, dtype, 2, 0.5, 2);
            struct tensor y = tensor_create(count, dtype);
            struct tensor dx = tensor_create(count, dtype);
            struct tensor y2 = tensor_create(count, dtype);
            struct tensor dx2 = tensor_create(count, dtype);
            double *value = doubles(count);
            double *slope = doubles(count);
            for (int64_t i = 0; i < count; i++) {
                value[i] = value_of(kind, tensor_get(&x, i));
                slope[i] = slope_of(kind, tensor_get(&x, i)) * tensor_get(&dy, i);
            }
            activation_fwd_cpu(kind, x.data, y.data, count, dtype);
            activation_bwd_cpu(kind, x.data, dy.data, dx.data, count, dtype);
            const bool is_gelu = kind == ACTIVATION_GELU;
            const double abs = !is_gelu ? 1e-38 : dtype == VECTOR_BF16 ? 1.3e-6 : 1e-7;
            check_tensor("activation_fwd", &y, value, bound[kind].value * 0x1p-24, abs);
            /* The slope of both GELUs crosses zero near -0.75: absolute error there. dy is up to 2.
             */
            const double slope_abs = !is_gelu ? 3e-7 : dtype == VECTOR_BF16 ? 2e-6 : 1e-6;
            check_tensor("activation_bwd", &dx, slope, bound[kind].slope * 0x1p-24, slope_abs);
            omp_set_num_threads(1);
            activation_both_cpu(kind, x.data, dy.data, y2.data, dx2.data, count, dtype);
            check_same("activation_both", &y, &y2);
            check_same("activation_both", &dx, &dx2);
            omp_set_num_threads(3);
            activation_fwd_cpu(kind, x.data, x.data, count, dtype);
            check_same("activation_fwd in place", &y, &x);
            if (kind >= ACTIVATION_TANH) {
                for (int64_t i = 0; i < count; i++) {
                    double o = tensor_get(&y, i);
                    double f = kind == ACTIVATION_TANH   ? 1 - o * o
                               : kind == ACTIVATION_RELU ? (o > 0)
                                                         : o * (1 - o);
                    slope[i] = f * tensor_get(&dy, i);
                }
                activation_bwd_output_cpu(kind, y.data, dy.data, dx.data, count, dtype);
                check_tensor("activation_bwd_output", &dx, slope, 2 * 0x1p-24, 1e-7);
            }
            free(value);
            free(slope);
            tensor_destroy(&x);
            tensor_destroy(&dy);
            tensor_destroy(&y);
            tensor_destroy(&dx);
            tensor_destroy(&y2);
            tensor_destroy(&dx2);
        }
    }
}

static void test_functions(void **state)
{
    (void)state;
    for_each_case(all_functions);
}

/*
 * The largest error over [low, high] in units in the last place (of the exact value, in f32), of
 * what exceeds `abs`.
 */
static double sweep(enum activation kind, bool slope, double low, double high, double abs)
{
    enum { COUNT = 1 << 16 };
    static float x[COUNT];
    static float y[COUNT];
    static float one[COUNT];
    double worst = 0;
    for (int pass = 0; pass < 3; pass++) {
        for (int i = 0; i < COUNT; i++) {
            x[i] = (float)(low + (high - low) * (i + pass / 3.0) / COUNT);
            one[i] = 1;
        }
        if (slope) {
            activation_bwd_cpu(kind, x, one, y, COUNT, VECTOR_F32);
        } else {
            activation_fwd_cpu(kind, x, y, COUNT, VECTOR_F32);
        }
        for (int i = 0; i < COUNT; i++) {
            double want = slope ? slope_of(kind, (double)x[i]) : value_of(kind, (double)x[i]);
            double unit = ldexp(1.0, ilogb(want == 0 ? 1e-30 : want) - 23);
            if (unit < 0x1p-149) unit = 0x1p-149;
            if (isnan(y[i])) return INFINITY;
            double error = fmax(fabs((double)y[i] - want) - abs, 0) / unit;
            if (error > worst) worst = error;
        }
    }
    return worst;
}

static void accuracy(enum vector_dtype dtype)
{
    if (dtype != VECTOR_F32 || vector_now.offset) return;
    static const struct {
        const char *name;
        enum activation kind;
        bool slope;
        double low;
        double high;
        double ulp;
        double abs;
    } rows[] = {
        {"gelu", ACTIVATION_GELU, false, -1, 8, 4, 0},
        {"gelu tail", ACTIVATION_GELU, false, -6, -1, 0, 1e-7},
        {"gelu near 0", ACTIVATION_GELU, false, -0.01, 0.01, 3, 0},
        {"quick gelu", ACTIVATION_GELU_QUICK, false, -40, 40, 4, 0},
        {"tanh", ACTIVATION_TANH, false, -12, 12, 3, 0},
        {"tanh near 0", ACTIVATION_TANH, false, -1e-3, 1e-3, 3, 0},
        {"tanh slope", ACTIVATION_TANH, true, -20, 20, 5, 0},
        {"gelu slope", ACTIVATION_GELU, true, -8, 8, 0, 5e-7},
        {"sigmoid", ACTIVATION_SIGMOID, false, -85, 85, 3, 0},
        {"sigmoid slope", ACTIVATION_SIGMOID, true, -80, 80, 5, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double worst = sweep(rows[i].kind, rows[i].slope, rows[i].low, rows[i].high, rows[i].abs);
        print_message("# %-10s %-14s %.2f ulp\n", cpu_isa_name(vector_now.isa), rows[i].name,
                      worst);
        if (!(worst <= rows[i].ulp)) {
            fail_msg("%s %s: %.2f ulp, at most %.0f allowed", cpu_isa_name(vector_now.isa),
                     rows[i].name, worst, rows[i].ulp);
        }
    }
}

static void test_accuracy(void **state)
{
    (void)state;
    for_each_case(accuracy);
}

static void special(enum vector_dtype dtype)
{
    enum { COUNT = 21 };
    for (int kind = 0; kind < ACTIVATION_COUNT; kind++) {
        struct tensor x = tensor_random(COUNT, dtype, 3, -1, 1);
        struct tensor dy = tensor_random(COUNT, dtype, 4, 1, 1);
        struct tensor y = tensor_create(COUNT, dtype);
        struct tensor dx = tensor_create(COUNT, dtype);
        const double inputs[] = {NAN, 1e30, -1e30, 0, INFINITY};
        const double values[] = {
            NAN, kind == ACTIVATION_TANH || kind == ACTIVATION_SIGMOID ? 1 : 1e30,
            kind == ACTIVATION_TANH ? -1 : 0, kind == ACTIVATION_SIGMOID ? 0.5 : 0,
            kind == ACTIVATION_TANH || kind == ACTIVATION_SIGMOID ? 1 : INFINITY};
        for (int i = 0; i < 5; i++) {
            tensor_set(&x, i * 5, inputs[i]); /* the last is in the tail */
        }
        activation_fwd_cpu(kind, x.data, y.data, COUNT, dtype);
        activation_bwd_cpu(kind, x.data, dy.data, dx.data, COUNT, dtype);
        assert_true(isnan(tensor_get(&dx, 0)));
        for (int i = 0; i < 5; i++) {
            double got = tensor_get(&y, i * 5);
            if (isnan(values[i])   ? isnan(got)
                : isinf(values[i]) ? got == values[i]
                                   : fabs(got - values[i]) <= 0.01 * fabs(values[i]))
                continue;
            fail_msg("%s: f%d(%g) is %g, expected %g", cpu_isa_name(vector_now.isa), kind,
                     inputs[i], got, values[i]);
        }
        tensor_destroy(&x);
        tensor_destroy(&dy);
        tensor_destroy(&y);
        tensor_destroy(&dx);
    }
}

static void test_special_values(void **state)
{
    (void)state;
    for_each_case(special);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_accuracy),
        cmocka_unit_test(test_special_values),
    };
    return cmocka_run_group_tests_name("activation", tests, NULL, NULL);
}
