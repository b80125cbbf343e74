/*
 * Dropout and drop-path: the kept elements are exactly those that runtime/base/rng.h says, for
 * every instruction set, dtype, batch layout and thread count. timeout=60
 */
#include "tests/runtime/ops/vector_check.h"

static bool kept(struct rng_key key, uint64_t step, uint64_t sample, int64_t e, float p)
{
    return rng_uniform(rng_at(key, step, sample, (uint32_t)(e / 4)).word[e % 4]) >= p;
}

static const struct {
    int64_t rows;
    int64_t per_row;
    int64_t samples;
    uint64_t base;
} layouts[] = {
    {0, 8, 1, 0},
    {1, 1, 1, 0},
    {3, 5, 3, 7},
    {6, 7, 3, 1},
    {12, 1, 3, 2},
    {4, 64, 2, 9},
    {5, 100, 5, 0x123456789ABCu},
    {6, 8192, 3, 100},
    {9, 2501, 2, 4},
    {2, 33, 1, 0xFFFFFFFFFFFFFFFFu},
};
enum { NUM_LAYOUTS = sizeof layouts / sizeof layouts[0] };

static void dropout_masks(enum vector_dtype dtype)
{
    const float rates[] = {0.1F, 0, 1, 0.5F, 0.99999994F};
    const uint64_t steps[] = {0, 0xFFFFFFFFu};
    for (int l = 0; l < NUM_LAYOUTS; l++) {
        for (int k = 0; k < 5; k++) {
            const int64_t count = layouts[l].rows * layouts[l].per_row;
            struct tensor x = tensor_random(count, dtype, 1, 1, 2);
            struct tensor y = tensor_create(count, dtype);
            struct dropout args = {.x = x.data,
                                   .y = y.data,
                                   .rows = layouts[l].rows,
                                   .per_row = layouts[l].per_row,
                                   .samples = layouts[l].samples,
                                   .sample_base = layouts[l].base,
                                   .key = rng_key(5, RNG_DROPOUT, rng_site("a.b")),
                                   .step = steps[l % 2],
                                   .p = rates[k],
                                   .dtype = dtype};
            omp_set_num_threads(3);
            dropout_cpu(&args);
            double *want = doubles(count);
            for (int64_t i = 0; i < count; i++) {
                int64_t r = i / args.per_row;
                int64_t e = r / args.samples * args.per_row + i % args.per_row;
                uint64_t sample = args.sample_base + (uint64_t)(r % args.samples);
                if (kept(args.key, args.step, sample, e, args.p)) {
                    want[i] = tensor_get(&x, i) / (1 - (double)args.p);
                }
            }
            check_tensor("dropout", &y, want, 2e-7, 0);
            omp_set_num_threads(1);
            args.y = x.data;
            dropout_cpu(&args);
            check_same("dropout in place", &y, &x);
            free(want);
            tensor_destroy(&x);
            tensor_destroy(&y);
        }
    }
}

static void test_dropout(void **state)
{
    (void)state;
    for_each_case(dropout_masks);
}

/* One in ten is dropped. */
static void test_dropout_share(void **state)
{
    (void)state;
    enum { COUNT = 1 << 20 };
    struct tensor x = tensor_random(COUNT, VECTOR_F32, 1, 1, 1);
    struct dropout args = {.x = x.data,
                           .y = x.data,
                           .rows = 16,
                           .per_row = COUNT / 16,
                           .samples = 4,
                           .key = rng_key(6, RNG_DROPOUT, 1),
                           .step = 3,
                           .p = 0.1F,
                           .dtype = VECTOR_F32};
    dropout_cpu(&args);
    double sum = 0;
    for (int64_t i = 0; i < COUNT; i++) {
        sum += tensor_get(&x, i) != 0;
    }
    /* 6 standard deviations of the binomial distribution */
    assert_true(fabs(sum - 0.9 * COUNT) < 6 * sqrt(0.09 * COUNT));
    tensor_destroy(&x);
}

static void drop_path_rows(enum vector_dtype dtype)
{
    const float rates[] = {0.3F, 0, 1};
    for (int l = 0; l < NUM_LAYOUTS; l++) {
        for (int k = 0; k < 6; k++) {
            const bool alone = k >= 3;
            const int64_t count = layouts[l].rows * layouts[l].per_row;
            struct tensor x = tensor_random(count, dtype, 1, 1, 2);
            struct tensor branch = tensor_random(count, dtype, 2, 1, 2);
            struct tensor y = tensor_create(count, dtype);
            struct drop_path args = {.x = alone ? NULL : x.data,
                                     .branch = branch.data,
                                     .y = y.data,
                                     .rows = layouts[l].rows,
                                     .per_row = layouts[l].per_row,
                                     .samples = layouts[l].samples,
                                     .sample_base = layouts[l].base,
                                     .key = rng_key(5, RNG_DROPOUT, rng_site("path")),
                                     .step = 12,
                                     .p = rates[k % 3],
                                     .dtype = dtype};
            omp_set_num_threads(3);
            drop_path_cpu(&args);
            double *want = doubles(count);
            for (int64_t i = 0; i < count; i++) {
                int64_t r = i / args.per_row;
                uint64_t sample = args.sample_base + (uint64_t)(r % args.samples);
                want[i] = alone ? 0 : tensor_get(&x, i);
                if (kept(args.key, args.step, sample, r / args.samples, args.p)) {
                    want[i] += tensor_get(&branch, i) / (1 - (double)args.p);
                }
            }
            check_tensor("drop_path", &y, want, 2e-7, 2e-7);
            omp_set_num_threads(1);
            args.y = alone || k == 1 ? branch.data : x.data;
            drop_path_cpu(&args);
            check_same("drop_path in place", &y, alone || k == 1 ? &branch : &x);
            free(want);
            tensor_destroy(&x);
            tensor_destroy(&branch);
            tensor_destroy(&y);
        }
    }
}

static void test_drop_path(void **state)
{
    (void)state;
    for_each_case(drop_path_rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_dropout_share),
        cmocka_unit_test(test_drop_path),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
