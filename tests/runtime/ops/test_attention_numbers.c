/*
 * What the attention kernels promise about numbers, at every instruction level of this machine:
 * reproducible bits, accurate exponentials, masks that are only added, NaN that stays in its rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/runtime/ops/attention_rows.h"

static struct attention_shape window_shape(bool is_bf16)
{
    return (struct attention_shape){.batch = 3,
                                    .query_len = 144,
                                    .key_len = 144,
                                    .heads = 3,
                                    .head_dim = 32,
                                    .bf16 = is_bf16,
                                    .scale = 0.17f,
                                    .mask_value = -10000,
                                    .window = 6,
                                    .shift = 3,
                                    .grid_h = 12,
                                    .grid_w = 12,
                                    .dropout = 0.1f};
}

static struct attention_shape cross_shape(int64_t queries, int64_t keys, int64_t dim)
{
    return (struct attention_shape){.batch = 1,
                                    .query_len = queries,
                                    .key_len = keys,
                                    .heads = 1,
                                    .head_dim = dim,
                                    .scale = 1,
                                    .mask_value = -10000};
}

static void run_both(struct attention_case *c, int threads, enum cpu_isa isa)
{
    case_reset(c);
    attention_run(&c->shape, &c->tensors, threads, isa, false);
    attention_run(&c->shape, &c->tensors, threads, isa, true);
}

/* Two runs agree in every bit; one thread agrees with two in all but the bias gradient, whose sum
 * over threads is then another. */
static void test_reproducible(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < 2; dtype++) {
        struct attention_case c;
        case_init(&c, window_shape(dtype), true, true, 1);
        size_t rows = (size_t)(11 * 11 * c.shape.heads) * sizeof(float);
        for (enum cpu_isa isa = CPU_ISA_SCALAR; isa <= cpu_isa(); isa++) {
            run_both(&c, 2, isa);
            void *out = copy_of(c.out.data, packed_bytes(&c.out));
            void *din = copy_of(c.din.data, packed_bytes(&c.din));
            void *dbias = copy_of(c.dbias, rows);
            run_both(&c, 2, isa);
            assert_memory_equal(out, c.out.data, packed_bytes(&c.out));
            assert_memory_equal(din, c.din.data, packed_bytes(&c.din));
            assert_memory_equal(dbias, c.dbias, rows);
            run_both(&c, 1, isa);
            assert_memory_equal(out, c.out.data, packed_bytes(&c.out));
            assert_memory_equal(din, c.din.data, packed_bytes(&c.din));
            free(out);
            free(din);
            free(dbias);
        }
        case_fini(&c);
    }
}

/* More threads than items leaves some without work. */
static void test_more_threads_than_items(void **state)
{
    (void)state;
    struct attention_case c;
    struct attention_shape shape = window_shape(false);
    shape.batch = 1;
    shape.heads = 1;
    shape.query_len = shape.key_len = 36;
    shape.grid_h = shape.grid_w = 6;
    case_init(&c, shape, true, false, 2);
    naive_run(&c.naive);
    free(c.scratch);
    c.scratch = aligned_alloc(64, attention_scratch_size(&c.shape, 5));
    assert_non_null(c.scratch);
    c.tensors.scratch = c.scratch;
    double error[CASE_RESULTS];
    run_both(&c, 5, cpu_isa());
    case_errors(&c, error);
    for (int i = 0; i < CASE_RESULTS; i++) {
        assert_true(error[i] < 8e-6);
    }
    case_fini(&c);
}

/* See case_make_even. */
static void test_even_softmax(void **state)
{
    (void)state;
    struct attention_shape shape = cross_shape(40, 40, 64);
    shape.heads = 3;
    shape.bf16 = true;
    shape.scale = 0.125f;
    struct attention_case c;
    case_init(&c, shape, false, false, 9);
    case_make_even(&c);
    naive_run(&c.naive);
    for (enum cpu_isa isa = CPU_ISA_SCALAR; isa <= cpu_isa(); isa++) {
        run_both(&c, 1, isa);
        double dq = packed_norm_error(&c.din, 0, c.naive.dq);
        double dk = packed_norm_error(&c.din, 1, c.naive.dk);
        if (!(dq < CASE_EVEN_ERROR) || !(dk < CASE_EVEN_ERROR))
            fail_msg("%s: dq is off by %.3g, dk by %.3g", cpu_isa_name(isa), dq, dk);
    }
    case_fini(&c);
}

/* Query x against keys 0 and 1 with values 0 and 1: o = e^x / (1 + e^x), so o is as accurate as the
 * exponential. The relative error may be 3e-7: a polynomial of 7.5e-8, and a few roundings of 6e-8;
 * plus that of x log2(e), which has |x| 6e-8 absolute. */
static void test_exponential(void **state)
{
    (void)state;
    enum { COUNT = 4001 };
    struct attention_case c;
    case_init(&c, cross_shape(COUNT, 2, 1), false, false, 3);
    for (int64_t i = 0; i < COUNT; i++) {
        packed_put(&c.in, i * packed_stride(&c.in), -87.0f * (float)i / (COUNT - 1));
    }
    float *kv = c.kv.data;
    for (int64_t j = 0; j < 2; j++) {
        kv[j * packed_stride(&c.kv)] = (float)j;
        kv[j * packed_stride(&c.kv) + 1] = (float)j;
    }
    for (enum cpu_isa isa = CPU_ISA_SCALAR; isa <= cpu_isa(); isa++) {
        attention_run(&c.shape, &c.tensors, 1, isa, false);
        for (int64_t i = 0; i < COUNT; i++) {
            double x = packed_get(&c.in, i * packed_stride(&c.in));
            double expected = exp(x) / (1 + exp(x));
            double o = packed_get(&c.out, i * packed_stride(&c.out));
            if (fabs(o / expected - 1) <= 3e-7 + fabs(x) * 1.2e-7) continue;
            fail_msg("%s: exp(%g) is off by %g", cpu_isa_name(isa), x, o / expected - 1);
        }
    }
    case_fini(&c);
}

/* Scores far apart, both signs: the largest takes all, and nothing overflows. */
static void test_large_scores(void **state)
{
    (void)state;
    struct attention_case c;
    case_init(&c, cross_shape(3, 5, 1), false, false, 4);
    static const float query[3] = {1e4f, -1e4f, 1e30f};
    static const float key[5] = {-2, -1, 0, 1, 2};
    static const float expected[3] = {5, 1, 5};
    for (int64_t i = 0; i < 3; i++) {
        packed_put(&c.in, i * packed_stride(&c.in), query[i]);
    }
    for (int64_t j = 0; j < 5; j++) {
        packed_put(&c.kv, j * packed_stride(&c.kv), key[j]);
        packed_put(&c.kv, j * packed_stride(&c.kv) + 1, (float)(j + 1));
    }
    for (enum cpu_isa isa = CPU_ISA_SCALAR; isa <= cpu_isa(); isa++) {
        run_both(&c, 1, isa);
        for (int64_t i = 0; i < 3; i++) {
            double o = packed_get(&c.out, i * packed_stride(&c.out));
            assert_true(fabs(o - expected[i]) < 1e-6);
            assert_true(isfinite(packed_get(&c.din, i * packed_stride(&c.din))));
        }
    }
    case_fini(&c);
}

/* Hiding every key of a row gives the bits of hiding none; -infinity hides a key entirely. */
static void test_hidden_rows(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < 2; dtype++) {
        struct attention_shape shape = cross_shape(9, 9, 32);
        shape.batch = 1;
        shape.bf16 = dtype;
        struct attention_case c;
        case_init(&c, shape, false, true, 5);
        for (enum cpu_isa isa = CPU_ISA_SCALAR; isa <= cpu_isa(); isa++) {
            c.tensors.key_mask = NULL;
            run_both(&c, 1, isa);
            void *out = copy_of(c.out.data, packed_bytes(&c.out));
            void *din = copy_of(c.din.data, packed_bytes(&c.din));
            c.tensors.key_mask = memset(c.mask, 0, 9 * sizeof *c.mask);
            run_both(&c, 1, isa);
            assert_memory_equal(out, c.out.data, packed_bytes(&c.out));
            assert_memory_equal(din, c.din.data, packed_bytes(&c.din));
            c.shape.mask_value = -INFINITY;
            run_both(&c, 1, isa);
            assert_memory_equal(out, c.out.data, packed_bytes(&c.out));
            /* Only key 4 left: o is its value. */
            c.mask[4] = 1;
            run_both(&c, 1, isa);
            for (int64_t d = 0; d < 32; d++) {
                double value = packed_get(&c.in, 4 * packed_stride(&c.in) + 64 + d);
                double o = packed_get(&c.out, d);
                assert_true(fabs(o - value) <= 1e-6 * fabs(value));
            }
            c.shape.mask_value = -10000;
            free(out);
            free(din);
        }
        case_fini(&c);
    }
}

/* A NaN in one query spoils its row of o and dq and what sums over rows, and no other row. */
static void test_nan_stays(void **state)
{
    (void)state;
    static const uint32_t bits[2] = {0x7FC00000u, 0xFFFFFFFFu};
    for (int dtype = 0; dtype < 2; dtype++) {
        struct attention_shape shape = cross_shape(20, 37, 32);
        shape.bf16 = dtype;
        struct attention_case c;
        case_init(&c, shape, false, false, 6);
        for (int kind = 0; kind < 2; kind++) {
            float nan_value;
            memcpy(&nan_value, &bits[kind], sizeof nan_value);
            packed_put(&c.in, 7 * packed_stride(&c.in) + 3, nan_value);
            for (enum cpu_isa isa = CPU_ISA_SCALAR; isa <= cpu_isa(); isa++) {
                run_both(&c, 1, isa);
                for (int64_t i = 0; i < 20; i++) {
                    assert_int_equal(isnan(packed_get(&c.out, i * packed_stride(&c.out))), i == 7);
                    assert_int_equal(isnan(packed_get(&c.din, i * packed_stride(&c.din))), i == 7);
                    assert_int_equal(isnan(c.lse[i]), i == 7);
                }
                assert_true(isnan(packed_get(&c.dkv, 0)));
            }
        }
        case_fini(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reproducible), cmocka_unit_test(test_more_threads_than_items),
        cmocka_unit_test(test_even_softmax), cmocka_unit_test(test_exponential),
        cmocka_unit_test(test_large_scores), cmocka_unit_test(test_hidden_rows),
        cmocka_unit_test(test_nan_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
