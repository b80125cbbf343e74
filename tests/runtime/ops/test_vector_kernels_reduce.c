/*
 * Sums and broadcasts: every instruction set and dtype against double precision. timeout=60
 */
#include "tests/runtime/ops/vector_check.h"

static void whole(enum vector_dtype dtype)
{
    double scratch[VECTOR_PARTS];
    for (int s = 0; s < NUM_VECTOR_SIZES; s++) {
        const int64_t n = vector_sizes[s];
        struct tensor a = tensor_random(n, dtype, 1, -1, 3);
        struct tensor b = tensor_random(n, dtype, 2, -1, 3);
        double sum = 0;
        double dot = 0;
        for (int64_t i = 0; i < n; i++) {
            sum += tensor_get(&a, i);
            dot += tensor_get(&a, i) * tensor_get(&b, i);
        }
        float out[3] = {NAN, NAN, NAN};
        float once[3] = {NAN, NAN, NAN};
        for (int threads = 3; threads >= 1; threads -= 2) {
            float *to = threads == 1 ? once : out;
            omp_set_num_threads(threads);
            sum_all_cpu(a.data, 0.5F, &to[0], scratch, n, dtype);
            dot_cpu(a.data, b.data, &to[1], scratch, n, dtype);
            to[2] = 0;
        }
        assert_true(fabs((double)out[0] - 0.5 * sum) <= 1e-6 * (fabs(sum) + 1));
        assert_true(fabs((double)out[1] - dot) <= 1e-6 * (fabs(dot) + 1));
        assert_true(out[0] == once[0] && out[1] == once[1]);
        tensor_destroy(&a);
        tensor_destroy(&b);
    }
}

static void test_whole(void **state)
{
    (void)state;
    for_each_case(whole);
}

static void columns(enum vector_dtype dtype)
{
    static const int64_t shapes[][2] = {{0, 5},    {1, 1},    {3, 1},  {1, 17},
                                        {5, 3},    {7, 16},   {4, 33}, {501, 37},
                                        {2, 8192}, {63, 513}, {1, 0},  {2000, 12}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        const int64_t rows = shapes[s][0];
        const int64_t cols = shapes[s][1];
        struct tensor x = tensor_random(rows * cols, dtype, 1, -1, 3);
        struct tensor out = tensor_create(cols, VECTOR_F32);
        struct tensor once = tensor_create(cols, VECTOR_F32);
        void *scratch = malloc(column_sum_scratch(rows, cols) + 1);
        double *want = doubles(cols);
        for (int64_t i = 0; i < rows * cols; i++) {
            want[i % cols] += tensor_get(&x, i);
        }
        omp_set_num_threads(3);
        column_sum_cpu(x.data, out.data, scratch, rows, cols, dtype);
        check_tensor("column_sum", &out, want, 2e-6, 1e-5);
        omp_set_num_threads(1);
        column_sum_cpu(x.data, once.data, scratch, rows, cols, dtype);
        check_same("column_sum", &out, &once);
        free(scratch);
        free(want);
        tensor_destroy(&x);
        tensor_destroy(&out);
        tensor_destroy(&once);
    }
}

static void test_columns(void **state)
{
    (void)state;
    for_each_case(columns);
}

static void middle(enum vector_dtype dtype)
{
    static const int64_t shapes[][3] = {{2, 3, 4},    {1, 1, 1},    {3, 7, 1},
                                        {1, 5000, 1}, {4, 0, 3},    {5, 2, 17},
                                        {1, 49, 700}, {40, 9, 130}, {0, 3, 2}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        const int64_t outer = shapes[s][0];
        const int64_t n = shapes[s][1];
        const int64_t inner = shapes[s][2];
        struct tensor x = tensor_random(outer * n * inner, dtype, 1, -1, 3);
        struct tensor y = tensor_create(outer * inner, dtype);
        struct tensor once = tensor_create(outer * inner, dtype);
        struct tensor wide = tensor_create(outer * n * inner, dtype);
        double *want = doubles(outer * inner);
        double *want_wide = doubles(outer * n * inner);
        const double scale = 0.125;
        for (int64_t i = 0; i < outer * n * inner; i++) {
            want[i / (n * inner) * inner + i % inner] += scale * tensor_get(&x, i);
        }
        omp_set_num_threads(3);
        sum_middle_cpu(x.data, (float)scale, y.data, outer, n, inner, dtype);
        check_tensor("sum_middle", &y, want, 2e-6, 2e-6);
        omp_set_num_threads(1);
        sum_middle_cpu(x.data, (float)scale, once.data, outer, n, inner, dtype);
        check_same("sum_middle", &y, &once);
        for (int64_t i = 0; i < outer * n * inner; i++) {
            want_wide[i] = scale * tensor_get(&y, i / (n * inner) * inner + i % inner);
        }
        omp_set_num_threads(3);
        broadcast_middle_cpu(y.data, (float)scale, wide.data, outer, n, inner, dtype);
        check_tensor("broadcast_middle", &wide, want_wide, 0, 0);
        free(want);
        free(want_wide);
        tensor_destroy(&x);
        tensor_destroy(&y);
        tensor_destroy(&once);
        tensor_destroy(&wide);
    }
}

static void test_middle(void **state)
{
    (void)state;
    for_each_case(middle);
}

/* The sum of a million equal values: f32 alone would be off by 900. */
static void test_long_sum(void **state)
{
    (void)state;
    enum { COUNT = 1 << 20 };
    double scratch[VECTOR_PARTS];
    struct tensor x = tensor_random(COUNT, VECTOR_F32, 1, 0.1, 0.1);
    float sum;
    sum_all_cpu(x.data, 1, &sum, scratch, COUNT, VECTOR_F32);
    assert_true(fabs((double)sum - COUNT * (double)0.1F) < 0.2);
    ((float *)x.data)[COUNT - 3] = NAN;
    sum_all_cpu(x.data, 1, &sum, scratch, COUNT, VECTOR_F32);
    assert_true(isnan(sum));
    tensor_destroy(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_middle),
        cmocka_unit_test(test_long_sum),
    };
    return cmocka_run_group_tests_name("reduce", tests, NULL, NULL);
}
