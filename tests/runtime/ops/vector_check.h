/*
 * What the tests of the vector kernels share: tensors whose memory ends where they end (so that the
 * sanitizer sees every read past them), their values in double precision, comparisons that name
 * the first difference, and the loop over instruction sets, dtypes and thread counts.
 */
#ifndef WEFT_TESTS_RUNTIME_OPS_VECTOR_CHECK_H
#define WEFT_TESTS_RUNTIME_OPS_VECTOR_CHECK_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <omp.h>

#include "runtime/base/bf16.h"
#include "runtime/base/rng.h"
#include "runtime/ops/vector_kernels.h"

/* The configuration under test, for messages. */
struct vector_case {
    enum cpu_isa isa;
    enum vector_dtype dtype;
    int offset; /* elements by which every tensor misses the alignment of a cache line */
};
static struct vector_case vector_now;

struct tensor {
    void *data; /* what kernels get */
    void *base;
    int64_t count;
    enum vector_dtype dtype;
};

static inline double tensor_get(const struct tensor *t, int64_t i)
{
    return t->dtype == VECTOR_BF16 ? (double)bf16_to_f32(((const bf16 *)t->data)[i])
                                   : (double)((const float *)t->data)[i];
}

static inline void tensor_set(struct tensor *t, int64_t i, double value)
{
    if (t->dtype == VECTOR_BF16) {
        ((bf16 *)t->data)[i] = bf16_from_f32((float)value);
    } else {
        ((float *)t->data)[i] = (float)value;
    }
}

static inline struct tensor tensor_create(int64_t count, enum vector_dtype dtype)
{
    struct tensor t = {.count = count, .dtype = dtype};
    size_t size = vector_dtype_size(dtype);
    size_t bytes = (size_t)(count + vector_now.offset) * size;
    assert_int_equal(posix_memalign(&t.base, 64, bytes ? bytes : 1), 0);
    t.data = (char *)t.base + (size_t)vector_now.offset * size;
    for (int64_t i = 0; i < count; i++) {
        tensor_set(&t, i, NAN); /* what a kernel forgets to write stays visible */
    }
    return t;
}

/* Uniform in [low, high), a function of `site`. */
static inline struct tensor tensor_random(int64_t count, enum vector_dtype dtype, uint64_t site,
                                          double low, double high)
{
    struct tensor t = tensor_create(count, dtype);
    struct rng_key key = rng_key(11, RNG_TEST, site);
    for (int64_t i = 0; i < count; i += 4) {
        struct rng_block block = rng_at(key, 0, 0, (uint32_t)(i / 4));
        for (int64_t k = 0; k < 4 && i + k < count; k++) {
            tensor_set(&t, i + k, low + (high - low) * (double)rng_uniform(block.word[k]));
        }
    }
    return t;
}

static inline struct tensor tensor_copy(const struct tensor *from)
{
    struct tensor t = tensor_create(from->count, from->dtype);
    if (t.count) memcpy(t.data, from->data, (size_t)t.count * vector_dtype_size(t.dtype));
    return t;
}

static inline void tensor_destroy(struct tensor *t)
{
    free(t->base);
    t->base = t->data = NULL;
}

/* The rounding unit of a dtype relative to the value: half a unit in the last place. */
static inline double rounding(enum vector_dtype dtype)
{
    return dtype == VECTOR_BF16 ? 0x1p-8 : 0x1p-24;
}

/*
 * Each element within `rel` of the expected value plus `abs`, plus the rounding of the dtype. NaN
 * must meet NaN, infinity the same infinity.
 */
static inline void check_tensor(const char *what, const struct tensor *t, const double *expected,
                                double rel, double abs)
{
    for (int64_t i = 0; i < t->count; i++) {
        double got = tensor_get(t, i);
        double want = expected[i];
        bool good;
        if (isnan(want) || isinf(want)) {
            good = isnan(want) ? isnan(got) : got == want;
        } else {
            good = fabs(got - want) <= (rel + rounding(t->dtype)) * fabs(want) + abs;
        }
        if (!good) {
            fail_msg(
                "%s, %s %s offset %d: element %lld of %lld is %.9g, expected %.9g (error %.3g)",
                what, cpu_isa_name(vector_now.isa), vector_now.dtype ? "bf16" : "f32",
                vector_now.offset, (long long)i, (long long)t->count, got, want, fabs(got - want));
        }
    }
}

static inline void check_same(const char *what, const struct tensor *a, const struct tensor *b)
{
    assert_int_equal(a->count, b->count);
    if (a->count && memcmp(a->data, b->data, (size_t)a->count * vector_dtype_size(a->dtype)) != 0) {
        fail_msg("%s, %s %s: the result depends on the number of threads", what,
                 cpu_isa_name(vector_now.isa), vector_now.dtype ? "bf16" : "f32");
    }
}

/*
 * Calls `body` for every instruction set of this machine, dtype and alignment. Aligned outputs take
 * the stores that bypass the caches, whatever their size.
 */
static inline void for_each_case(void (*body)(enum vector_dtype dtype))
{
    static const enum cpu_isa levels[] = {CPU_ISA_SCALAR, CPU_ISA_AVX2, CPU_ISA_AVX512,
                                          CPU_ISA_AVX512BF16};
    int64_t stream = vector_stream_use(0);
    for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++) {
        if (vector_isa_use(levels[l]) != levels[l]) break;
        for (int d = 0; d < 2; d++) {
            for (int offset = 0; offset < 4; offset += 3) {
                vector_now = (struct vector_case){levels[l], (enum vector_dtype)d, offset};
                body((enum vector_dtype)d);
            }
        }
    }
    (void)vector_isa_use(CPU_ISA_AMX);
    (void)vector_stream_use(stream);
    vector_now = (struct vector_case){CPU_ISA_SCALAR, VECTOR_F32, 0};
}

/* Sizes that end in every kind of tail, and one that several threads share. */
static const int64_t vector_sizes[] = {0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 100, 70001};
enum { NUM_VECTOR_SIZES = sizeof vector_sizes / sizeof vector_sizes[0] };

/* {rows, cols} */
static const int64_t vector_shapes[][2] = {{0, 5},  {1, 1},  {3, 1},   {1, 17},   {5, 3},
                                           {7, 16}, {4, 33}, {9, 144}, {67, 515}, {2, 8192}};
enum { NUM_VECTOR_SHAPES = sizeof vector_shapes / sizeof vector_shapes[0] };

static inline double *doubles(int64_t count)
{
    double *p = calloc((size_t)count + 1, sizeof *p);
    assert_non_null(p);
    return p;
}

#endif
