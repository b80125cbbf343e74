/* Looking rows up, and adding into them. See runtime/ops/vector_kernels.h. */
#ifndef WEFT_RUNTIME_OPS_VECTOR_EMBEDDING_H
#define WEFT_RUNTIME_OPS_VECTOR_EMBEDDING_H

#include "runtime/ops/vector/types.h"

/*
 * out[t, :] = table[ids[t], :] for t in [0, count). The table is f32 [vocab, cols], out f32 or
 * bf16. Returns the first t whose id is outside [0, vocab), or -1. Bad rows of out are zero.
 */
int64_t embedding_fwd_cpu(const float *table, const int32_t *ids, void *out, int64_t count,
                          int64_t vocab, int64_t cols, enum vector_dtype dtype);

/* y[t, :] = x[ids[t], :] within one dtype; x [num_rows, cols]. Returns as embedding_fwd_cpu. */
int64_t gather_rows_cpu(const void *x, const int32_t *ids, void *y, int64_t count, int64_t num_rows,
                        int64_t cols, enum vector_dtype dtype);

/*
 * Scatter-add, the gradient of both: d[i, :] = sum of dy[t, :] over the t with ids[t] == i, in the
 * order of t, added in f32 and rounded once. Ids are sorted by counting, so each destination row
 * has one owner: no atomics, same result for any number of threads.
 */
struct scatter_add_rows {
    const void *dy;     /* [count, cols] of `dtype` */
    const int32_t *ids; /* [count] */
    void *d;            /* [num_rows, cols] of `d_dtype` */
    void *scratch;      /* scatter_add_rows_scratch(count, num_rows) bytes */
    int64_t count;
    int64_t num_rows;
    int64_t cols;
    int64_t padding; /* rows with this id are left out; -1: none */
    int accumulate;  /* 0: d is overwritten (rows without contribution become 0); 1: added to d */
    enum vector_dtype dtype;
    enum vector_dtype d_dtype; /* VECTOR_F32 with any dtype, or equal to dtype */
};
size_t scatter_add_rows_scratch(int64_t count, int64_t num_rows);

/* Returns the first t whose id is outside [0, num_rows) (and left out), or -1. */
int64_t scatter_add_rows_cpu(const struct scatter_add_rows *args);

#endif
