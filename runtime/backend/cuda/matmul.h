/*
 * Matrix products on cuBLASLt: c[M,N] = a[M,K] b[K,N] (+ bias[N]) (+ c), row-major, batched or not.
 *
 * f32 and bf16 operands accumulate in f32. Descriptors are made at the first run, when the
 * alignment of the pointers is known. The algorithm is the one that timing chose (cuda_matmul_tune,
 * kept on disk, see tuning.h), and without it the library's first choice. Reductions that depend on
 * the order of arrival are excluded, so results are the same bits every time that the choice is the
 * same.
 *
 * GELU is not an epilogue here: the library's is the tanh form, ours is exact.
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_MATMUL_H
#define WEFT_RUNTIME_BACKEND_CUDA_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/graph/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;
struct cuda_matmul;

struct cuda_matmul_spec {
    int64_t batch; /* 1: a plain product */
    int64_t m, n, k;
    bool transpose_a; /* a is stored [K,M] */
    bool transpose_b; /* b is stored [N,K] */
    enum dtype dtype_ab, dtype_c;
    bool bias; /* f32 [N]; rounded to bf16 where c is bf16, which is what the library adds */
};

/* *scratch_size receives the bytes that a run needs. Errors: STATUS_NO_MEMORY. */
enum status cuda_matmul_create(struct cuda_matmul **matmul, const struct cuda_matmul_spec *spec,
                               size_t *scratch_size);
void cuda_matmul_destroy(struct cuda_matmul **matmul);

/* Device pointers, scratch of the size that was asked for. With `add` adds to what c holds. Errors:
 * STATUS_UNSUPPORTED when the library has no algorithm, STATUS_INTERNAL. */
struct cuda_matmul_run {
    const void *a, *b;
    const float *bias;
    void *c;
    void *scratch;
    bool add;
    bool tf32; /* f32 operands count with 10 bits of mantissa; the same in every run of a product */
    struct CUstream_st *stream;
};
enum status cuda_matmul_run(struct cuda_matmul *matmul, const struct cuda_matmul_run *run);

/*
 * Chooses the algorithm for such a run by time, unless that is known. Overwrites c and the scratch;
 * not while a graph is recorded. Errors: as cuda_matmul_run.
 */
enum status cuda_matmul_tune(struct cuda_matmul *matmul, const struct cuda_matmul_run *run);

struct tuning;

/* The choices of this process, read from disk at the first call. Errors: STATUS_INTERNAL,
 * STATUS_NO_MEMORY. */
enum status cuda_matmul_choices(struct tuning **choices);

/* Products that this process has timed, and the seconds that it took. */
void cuda_matmul_timed(int64_t *products, double *seconds);

#ifdef __cplusplus
}
#endif
#endif
