/*
 * All slice functions for the instruction set of the including file, and their table. The file
 * defines VECTOR_TABLE, the name of the table.
 */
#include "runtime/backend/cpu/vec.h"
#include "runtime/backend/cpu/vec_math.h"
#include "runtime/base/rng.h"
#include "runtime/ops/vector/jobs.h"

/* `half` is a constant: each slice exists for f32 and for bf16. */
#define SLICE(name)                                                                                \
    VEC_INLINE void name##_slice(const void *args, int64_t begin, int64_t end, const bool half)

#include "runtime/ops/vector/row_body.h"

#include "runtime/ops/vector/activation_body.h"
#include "runtime/ops/vector/elementwise_body.h"
#include "runtime/ops/vector/embedding_body.h"
#include "runtime/ops/vector/loss_body.h"
#include "runtime/ops/vector/norm_body.h"
#include "runtime/ops/vector/random_body.h"
#include "runtime/ops/vector/reduce_body.h"
#include "runtime/ops/vector/softmax_body.h"
#include "runtime/ops/vector/update_body.h"

#define DEFINE(name)                                                                               \
    static void name##_f32(const void *args, int64_t begin, int64_t end)                           \
    {                                                                                              \
        name##_slice(args, begin, end, false);                                                     \
    }                                                                                              \
    static void name##_bf16(const void *args, int64_t begin, int64_t end)                          \
    {                                                                                              \
        name##_slice(args, begin, end, true);                                                      \
    }
VECTOR_OPS(DEFINE)
#undef DEFINE

#define ROW(name) [VECTOR_OP_##name] = {name##_f32, name##_bf16},
const struct vector_table VECTOR_TABLE = {{VECTOR_OPS(ROW)}};
#undef ROW
