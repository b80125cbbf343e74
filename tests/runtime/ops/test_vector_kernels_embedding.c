/*
 * Embedding, gather, scatter-add: every instruction set and dtype, bad ids, padding. timeout=60
 */
#include "tests/runtime/ops/vector_check.h"

static const int64_t shapes[][3] = {
    {0, 4, 3}, {5, 1, 1}, {7, 4, 1}, {20, 11, 3}, {64, 5, 17}, {40, 200, 130}, {300, 23, 260},
}; /* {count, num_rows, cols} */
enum { NUM_SHAPES = sizeof shapes / sizeof shapes[0] };

static int32_t *random_ids(int64_t count, int64_t num_rows)
{
    int32_t *ids = malloc((size_t)count * sizeof *ids + 1);
    assert_non_null(ids);
    for (int64_t t = 0; t < count; t++) {
        uint32_t word = rng_at(rng_key(1, RNG_TEST, 77), 0, 0, (uint32_t)t).word[0];
        ids[t] = (int32_t)rng_below(word, (uint32_t)num_rows);
    }
    return ids;
}

static void lookups(enum vector_dtype dtype)
{
    for (int s = 0; s < NUM_SHAPES; s++) {
        for (int bad = 0; bad < 2; bad++) {
            const int64_t count = shapes[s][0];
            const int64_t num_rows = shapes[s][1];
            const int64_t cols = shapes[s][2];
            int32_t *ids = random_ids(count, num_rows);
            if (bad && count > 3) {
                ids[3] = (int32_t)num_rows;
                ids[4] = -1;
            }
            const int64_t first_bad = bad && count > 3 ? 3 : -1;
            struct tensor table = tensor_random(num_rows * cols, VECTOR_F32, 1, -1, 1);
            struct tensor x = tensor_random(num_rows * cols, dtype, 2, -1, 1);
            struct tensor y = tensor_create(count * cols, dtype);
            double *want = doubles(count * cols);
            omp_set_num_threads(3);
            assert_int_equal(
                embedding_fwd_cpu(table.data, ids, y.data, count, num_rows, cols, dtype),
                first_bad);
            for (int64_t i = 0; i < count * cols; i++) {
                int64_t id = ids[i / cols];
                bool good = id >= 0 && id < num_rows;
                want[i] = good ? tensor_get(&table, id * cols + i % cols) : 0;
            }
            check_tensor("embedding", &y, want, 0, 0);
            assert_int_equal(gather_rows_cpu(x.data, ids, y.data, count, num_rows, cols, dtype),
                             first_bad);
            for (int64_t i = 0; i < count * cols; i++) {
                int64_t id = ids[i / cols];
                bool good = id >= 0 && id < num_rows;
                want[i] = good ? tensor_get(&x, id * cols + i % cols) : 0;
            }
            check_tensor("gather_rows", &y, want, 0, 0);
            free(ids);
            free(want);
            tensor_destroy(&table);
            tensor_destroy(&x);
            tensor_destroy(&y);
        }
    }
}

static void test_lookups(void **state)
{
    (void)state;
    for_each_case(lookups);
}

static void scatter(enum vector_dtype dtype)
{
    for (int s = 0; s < NUM_SHAPES; s++) {
        for (int variant = 0; variant < 8; variant++) {
            const int accumulate = variant & 1;
            const int64_t padding = variant & 2 ? 1 : -1;
            const enum vector_dtype d_dtype = variant & 4 ? dtype : VECTOR_F32;
            const int64_t count = shapes[s][0];
            const int64_t num_rows = shapes[s][1];
            const int64_t cols = shapes[s][2];
            int32_t *ids = random_ids(count, num_rows);
            int64_t first_bad = -1;
            if (variant >= 6 && count > 3) {
                ids[first_bad = 2] = (int32_t)num_rows + 5;
            }
            struct tensor dy = tensor_random(count * cols, dtype, 1, -1, 1);
            struct tensor d = tensor_random(num_rows * cols, d_dtype, 2, -1, 1);
            struct tensor once = tensor_copy(&d);
            double *want = doubles(num_rows * cols);
            for (int64_t i = 0; i < num_rows * cols && accumulate; i++) {
                want[i] = tensor_get(&d, i);
            }
            for (int64_t t = 0; t < count; t++) {
                if (ids[t] < 0 || ids[t] >= num_rows || ids[t] == padding) continue;
                for (int64_t c = 0; c < cols; c++) {
                    want[ids[t] * cols + c] += tensor_get(&dy, t * cols + c);
                }
            }
            void *scratch = malloc(scatter_add_rows_scratch(count, num_rows));
            struct scatter_add_rows args = {.dy = dy.data,
                                            .ids = ids,
                                            .d = d.data,
                                            .scratch = scratch,
                                            .count = count,
                                            .num_rows = num_rows,
                                            .cols = cols,
                                            .padding = padding,
                                            .accumulate = accumulate,
                                            .dtype = dtype,
                                            .d_dtype = d_dtype};
            omp_set_num_threads(3);
            assert_int_equal(scatter_add_rows_cpu(&args), first_bad);
            check_tensor("scatter_add_rows", &d, want, 0, 1e-5);
            omp_set_num_threads(1);
            args.d = once.data;
            assert_int_equal(scatter_add_rows_cpu(&args), first_bad);
            check_same("scatter_add_rows", &d, &once);
            free(ids);
            free(scratch);
            free(want);
            tensor_destroy(&dy);
            tensor_destroy(&d);
            tensor_destroy(&once);
        }
    }
}

static void test_scatter(void **state)
{
    (void)state;
    for_each_case(scatter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookups),
        cmocka_unit_test(test_scatter),
    };
    return cmocka_run_group_tests_name("embedding", tests, NULL, NULL);
}
