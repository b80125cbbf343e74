/*
 * Matrix products on oneDNN: c[M,N] = a[M,K] b[K,N] (+ bias[N]) (+ c), batched or not, any strides.
 *
 * A product is prepared once and run many times. f32 and bf16 operands accumulate in f32. Where the
 * processor has no bf16 products (or the library none for it), operands are widened into scratch,
 * multiplied in f32 and rounded back: slower, said once in the log.
 */
#ifndef WEFT_RUNTIME_BACKEND_CPU_MATMUL_H
#define WEFT_RUNTIME_BACKEND_CPU_MATMUL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/graph/tensor.h"

struct cpu_matmul;
struct pack_cache;

struct cpu_matmul_spec {
    int64_t batch; /* 1: a plain product */
    int64_t m, n, k;
    bool transpose_a; /* a is stored [K,M] */
    bool transpose_b; /* b is stored [N,K] */
    enum dtype dtype_a, dtype_b, dtype_c;
    bool bias;                /* f32 [N] */
    bool gelu;                /* exact GELU on the result */
    bool adds;                /* always adds to what c holds */
    bool may_add;             /* adds when the run asks for it */
    int64_t pack_id;          /* tensor id of b when it changes only with the parameters */
    struct pack_cache *packs; /* NULL: b is used as it is */
};

/* *scratch_size receives the bytes that a run needs. Errors: STATUS_INTERNAL, STATUS_NO_MEMORY. */
enum status cpu_matmul_create(struct cpu_matmul **matmul, const struct cpu_matmul_spec *spec,
                              size_t *scratch_size);
void cpu_matmul_destroy(struct cpu_matmul **matmul);

struct cpu_matmul_run {
    void *a, *b, *c;
    void *bias;
    void *scratch;
    bool add;         /* with may_add: add to c */
    uint64_t version; /* of the parameters, for packed b */
};
enum status cpu_matmul_run(struct cpu_matmul *matmul, const struct cpu_matmul_run *run);

/* Above zero while this thread is inside oneDNN, which allocates small argument lists of its own.
 */
extern _Thread_local int dnnl_depth;

#endif
