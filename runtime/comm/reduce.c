/*
 * Reductions in a fixed order.
 *
 * Parts are read block by block, so that the accumulator of a block stays in the first-level cache
 * and every part is read once. All parts of a block are read before the block of `out` is written,
 * so `out` may be one of the parts.
 */
#include <assert.h>

#include "runtime/base/bf16.h"
#include "runtime/comm/comm_impl.h"

enum { BLOCK = 512 };

/* Integers wrap around; a NaN wins every comparison, wherever it stands. */
#define SAME(x)       (x)
#define ADD(a, x)     ((a) + (x))
#define ADD_I64(a, x) ((int64_t)((uint64_t)(a) + (uint64_t)(x)))
#define ADD_I32(a, x) ((int32_t)((uint32_t)(a) + (uint32_t)(x)))
#define LESSER(a, x)  ((x) < (a) || (x) != (x) ? (x) : (a))
#define GREATER(a, x) ((x) > (a) || (x) != (x) ? (x) : (a))

#define FOLD(combine, load)                                                                        \
    for (int64_t i = 0; i < length; i++) {                                                         \
        sum[i] = combine(sum[i], load(x[i]));                                                      \
    }

/* A function that reduces one block. `element` is how a value is stored, `wide` how it is added. */
#define DEFINE_REDUCE_BLOCK(name, element, wide, add, load, store)                                 \
    static void name(enum comm_reduction reduction, void *out, const void *const *parts,           \
                     int num_parts, int64_t begin, int64_t length)                                 \
    {                                                                                              \
        wide sum[BLOCK];                                                                           \
        const element *first = (const element *)parts[0] + begin;                                  \
        for (int64_t i = 0; i < length; i++) {                                                     \
            sum[i] = load(first[i]);                                                               \
        }                                                                                          \
        for (int part = 1; part < num_parts; part++) {                                             \
            const element *x = (const element *)parts[part] + begin;                               \
            if (reduction == COMM_SUM) {                                                           \
                FOLD(add, load)                                                                    \
            } else if (reduction == COMM_MIN) {                                                    \
                FOLD(LESSER, load)                                                                 \
            } else {                                                                               \
                FOLD(GREATER, load)                                                                \
            }                                                                                      \
        }                                                                                          \
        element *y = (element *)out + begin;                                                       \
        for (int64_t i = 0; i < length; i++) {                                                     \
            y[i] = store(sum[i]);                                                                  \
        }                                                                                          \
    }

DEFINE_REDUCE_BLOCK(reduce_f32, float, float, ADD, SAME, SAME)
DEFINE_REDUCE_BLOCK(reduce_bf16, bf16, float, ADD, bf16_to_f32, bf16_from_f32)
DEFINE_REDUCE_BLOCK(reduce_f64, double, double, ADD, SAME, SAME)
DEFINE_REDUCE_BLOCK(reduce_i64, int64_t, int64_t, ADD_I64, SAME, SAME)
DEFINE_REDUCE_BLOCK(reduce_i32, int32_t, int32_t, ADD_I32, SAME, SAME)

void comm_reduce(enum comm_dtype dtype, enum comm_reduction reduction, void *out,
                 const void *const *parts, int num_parts, int64_t n)
{
    static void (*const reduce_block[COMM_NUM_DTYPES])(
        enum comm_reduction, void *, const void *const *, int, int64_t, int64_t) = {
        [COMM_F32] = reduce_f32, [COMM_BF16] = reduce_bf16, [COMM_F64] = reduce_f64,
        [COMM_I64] = reduce_i64, [COMM_I32] = reduce_i32,
    };
    assert(reduce_block[dtype]);
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t length = n - begin < BLOCK ? n - begin : BLOCK;
        reduce_block[dtype](reduction, out, parts, num_parts, begin, length);
    }
}
