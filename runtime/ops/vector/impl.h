/*
 * Inside the vector kernels: how the public functions reach the code of an instruction set.
 *
 * A public function (norm.c, softmax.c, ...) packs its arguments, and vector_run() cuts the work
 * into contiguous slices, one a thread, and calls the op's slice function from the table of the
 * instruction set in use. Slice functions are serial; their source is in *_body.h, compiled once
 * for each level by vector_scalar.c, vector_avx2.c, vector_avx512.c and vector_avx512bf16.c, and
 * twice in each: for f32 and for bf16.
 *
 * A reduction over rows runs over parts instead: the number of parts depends on the sizes only,
 * each part leaves a partial result in scratch, and the caller adds them in order. So no result
 * depends on the number of threads.
 */
#ifndef WEFT_RUNTIME_OPS_VECTOR_IMPL_H
#define WEFT_RUNTIME_OPS_VECTOR_IMPL_H

#include <stdbool.h>

#include "runtime/ops/vector/types.h"

/* Every slice function. The unit of its range is in brackets. */
#define VECTOR_OPS(X)                                                                              \
    X(triad)                 /* elements */                                                        \
    X(add)                   /* elements */                                                        \
    X(sub)                   /* elements */                                                        \
    X(mul)                   /* elements */                                                        \
    X(scale)                 /* elements */                                                        \
    X(axpy)                  /* elements */                                                        \
    X(gated_add_bwd)         /* parts */                                                           \
    X(bias_add)              /* rows */                                                            \
    X(clamp_fwd)             /* elements */                                                        \
    X(clamp_bwd)             /* elements */                                                        \
    X(fill)                  /* elements */                                                        \
    X(cast)                  /* elements */                                                        \
    X(activation_fwd)        /* elements */                                                        \
    X(activation_bwd)        /* elements */                                                        \
    X(activation_both)       /* elements */                                                        \
    X(activation_bwd_output) /* elements */                                                        \
    X(layernorm_fwd)         /* rows */                                                            \
    X(layernorm_bwd)         /* parts */                                                           \
    X(l2norm_fwd)            /* rows */                                                            \
    X(l2norm_bwd)            /* rows */                                                            \
    X(softmax_fwd)           /* rows */                                                            \
    X(softmax_bwd)           /* rows */                                                            \
    X(cross_entropy_fwd)     /* rows */                                                            \
    X(cross_entropy_bwd)     /* rows */                                                            \
    X(bce_fwd)               /* elements */                                                        \
    X(bce_bwd)               /* elements */                                                        \
    X(mse_fwd)               /* parts */                                                           \
    X(mse_bwd)               /* elements */                                                        \
    X(row_dot)               /* rows */                                                            \
    X(row_axpby)             /* rows */                                                            \
    X(cosine_fwd)            /* rows */                                                            \
    X(cosine_bwd)            /* rows */                                                            \
    X(sum_all)               /* parts */                                                           \
    X(dot)                   /* parts */                                                           \
    X(column_sum)            /* parts, or groups of columns */                                     \
    X(sum_middle)            /* groups of VECTOR_GROUP inner elements */                           \
    X(broadcast_middle)      /* groups of VECTOR_GROUP inner elements */                           \
    X(dropout)               /* elements */                                                        \
    X(drop_path)             /* elements */                                                        \
    X(embedding_fwd)         /* rows */                                                            \
    X(gather_rows)           /* rows */                                                            \
    X(scatter_add_rows)      /* rows, or groups of columns */                                      \
    X(adamw)                 /* elements */                                                        \
    X(ema)                   /* elements */                                                        \
    X(sum_squares)           /* parts */

#define VECTOR_OP_NAME(name) VECTOR_OP_##name,
enum vector_op { VECTOR_OPS(VECTOR_OP_NAME) VECTOR_OP_COUNT };
#undef VECTOR_OP_NAME

typedef void (*vector_slice)(const void *args, int64_t begin, int64_t end);

struct vector_table {
    vector_slice slice[VECTOR_OP_COUNT][2]; /* by op and dtype */
};
extern const struct vector_table vector_table_scalar;
#if defined(__x86_64__)
extern const struct vector_table vector_table_avx2;
extern const struct vector_table vector_table_avx512;
extern const struct vector_table vector_table_avx512bf16;
#endif

enum {
    VECTOR_GRAIN = 16384, /* elements of light work that are worth a thread: a few microseconds */
    VECTOR_ALIGN = 64,    /* elementwise slices begin at a multiple of this */
    VECTOR_GROUP = 256,   /* columns of one unit where columns are shared out */
    VECTOR_BLOCK = 1024,  /* elements added in f32 before going over to f64 */
    VECTOR_ROW = 8192     /* longest row kept in a buffer on the stack, in f32 */
};

/*
 * Calls the slice function of `op` over [0, count) with at most one thread for each `grain` units;
 * slices begin at multiples of `align`.
 */
void vector_run(enum vector_op op, enum vector_dtype dtype, const void *args, int64_t count,
                int64_t grain, int64_t align);

/* Over the elements of a tensor. */
static inline void vector_run_elements(enum vector_op op, enum vector_dtype dtype, const void *args,
                                       int64_t count)
{
    vector_run(op, dtype, args, count, VECTOR_GRAIN, VECTOR_ALIGN);
}

/* Over rows of `cols` elements each. */
static inline void vector_run_rows(enum vector_op op, enum vector_dtype dtype, const void *args,
                                   int64_t rows, int64_t cols)
{
    int64_t grain = VECTOR_GRAIN / (cols > 0 ? cols : 1);
    vector_run(op, dtype, args, rows, grain > 0 ? grain : 1, 1);
}

/*
 * True when an output should bypass the caches: it is larger than what a later kernel could find in
 * the second-level caches, and every vector of it is aligned. `y` must not be an input of the call
 * (`in_place`). Rows that are not a multiple of 64 bytes are never aligned; give the bytes
 * of a row, or 64 for elementwise kernels.
 */
bool vector_streams(const void *y, int64_t count, int64_t row_elements, enum vector_dtype dtype,
                    bool in_place);

/* A whole tensor cut for a reduction: parts of `size` elements (the last may be shorter). */
struct vector_parts {
    int64_t count;
    int64_t size;
};
struct vector_parts vector_parts_of(int64_t elements);

/* A matrix cut by rows for a reduction over rows; 1 part when it is small. */
struct vector_parts vector_row_parts(int64_t rows, int64_t cols);

/* Adds `count` partial results in order. */
double vector_parts_sum(const double *partial, int64_t count);

/* out[c] = sum of partial[part, c] over the parts, in order. partial [parts, stride], c < cols. */
void vector_sum_partial_rows(const float *partial, int64_t parts, int64_t stride, int64_t cols,
                             float *out);

/* The arguments of elementwise ops and of reductions to one number. */
struct vector_map {
    const void *a;
    const void *b;
    const void *c;
    void *y;
    void *z;
    float alpha;
    float beta;
    int kind;
    bool stream;
    int64_t count; /* elements, for ops that run over parts */
    int64_t part;  /* elements of a part */
    double *partial;
};

/* The arguments of row-wise ops without a public struct. */
struct vector_rows {
    const void *a;
    const void *b;
    const float *u;
    const float *v;
    const float *w;
    const float *dout;
    void *y;
    void *z;
    float *p;
    float *q;
    float *r;
    int64_t cols;
    float alpha;
    int kind;
    bool stream;
};

#endif
