/* Public argument structs together with what the threads need besides. Inside the vector kernels.
 */
#ifndef WEFT_RUNTIME_OPS_VECTOR_JOBS_H
#define WEFT_RUNTIME_OPS_VECTOR_JOBS_H

#include "runtime/ops/vector/impl.h"
#include "runtime/ops/vector_kernels.h"

struct layernorm_job {
    struct layernorm_fwd fwd;
    struct layernorm_bwd bwd;
    int64_t part; /* rows of a part of the backward pass */
    bool stream;
    bool stream_sum;
};

struct cross_entropy_job {
    struct cross_entropy_fwd fwd;
    struct cross_entropy_bwd bwd;
    bool stream;
};

/*
 * Column sums of x [rows, stride], of its first `cols` columns. Either the unit is a part of `part`
 * rows, with its own row of out [parts, cols]; or, with part 0, it is VECTOR_GROUP columns over all
 * rows, added in order into out [cols].
 */
struct column_sum_job {
    const void *x;
    float *out;
    int64_t rows;
    int64_t cols;
    int64_t stride;
    int64_t part;
};

struct middle_job {
    const void *x;
    void *y;
    float scale;
    int64_t length; /* of the middle axis */
    int64_t inner;
    int64_t groups; /* of VECTOR_GROUP elements in one `inner` */
};

struct dropout_job {
    struct dropout a;
    uint64_t keys[20];  /* of the ten rounds of Philox */
    uint32_t threshold; /* a word is kept when it is at least this */
    float scale;
    bool stream;
};

struct drop_path_job {
    struct drop_path a;
    float scale;
};

struct rows_by_id_job {
    const void *x;
    const int32_t *ids;
    void *y;
    int64_t num_rows;
    int64_t cols;
};

struct scatter_job {
    struct scatter_add_rows a;
    const int32_t *start; /* [num_rows + 1] where the contributions of a row begin in order */
    const int32_t *order; /* [count] row numbers of dy, by destination, then by t */
    bool by_columns;      /* the unit is VECTOR_ALIGN columns, else a destination row */
};

struct adamw_job {
    float *p;
    const float *g;
    float *m;
    float *v;
    bf16 *shadow;
    float gradient_scale;
    float beta1;
    float beta2;
    float one_minus_beta1;
    float one_minus_beta2;
    float eps;
    float v_scale;      /* what sqrt(v) is multiplied with before eps is added */
    float step_size;    /* the factor of m / (sqrt(v) * v_scale + eps) */
    float decay_before; /* factor on p before the step, 1 - lr * weight_decay or 1 */
    float decay_after;  /* the same after the step */
};

#endif
