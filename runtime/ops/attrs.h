/* Attribute structs of the ops, which their C file and their CUDA file read. For runtime/ops/ only.
 */
#ifndef WEFT_RUNTIME_OPS_ATTRS_H
#define WEFT_RUNTIME_OPS_ATTRS_H

#include "runtime/graph/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* basic.c */

struct fill_attrs {
    int64_t dtype;
    int64_t rank;
    int64_t dim[SHAPE_MAX_RANK];
    double value;
};

struct cast_attrs {
    int64_t dtype;
};

struct combine_attrs {
    float alpha;
    float beta;
};

struct scale_attrs {
    float factor;
};

/* activation.c */

struct clamp_attrs {
    float low;
    float high;
};

/* shape.c */

struct shape_attrs {
    int64_t rank;
    int64_t dim[SHAPE_MAX_RANK];
};

struct slice_attrs {
    int64_t axis;
    int64_t begin;
    int64_t end;
    int64_t size; /* pad: of the axis in the result */
};

struct permute_attrs {
    int64_t axis[SHAPE_MAX_RANK];
};

/* grid.c */

struct roll_attrs {
    int64_t dy;
    int64_t dx;
};

struct pixel_attrs {
    int64_t dtype;
    float scale[3];  /* 1 / (255 * std) */
    float offset[3]; /* -mean / std */
};

/* reduce.c */

/* The part of a shape that is summed over, or repeated along. */
struct range_attrs {
    int64_t outer;
    int64_t n;
    int64_t inner;
    int64_t rank; /* of the result */
    int64_t dim[SHAPE_MAX_RANK];
    int32_t dtype; /* of the result */
    float scale;
};

/* linear.c */

struct linear_attrs {
    int64_t transposed; /* w is [K,N] */
    int64_t has_bias;
};

/* matmul.c */

struct matmul_attrs {
    int64_t transpose_a;
    int64_t transpose_b;
};

/* gather.c */

struct gather_attrs {
    int64_t rows;    /* of the table */
    int64_t padding; /* index without a gradient, -1: none */
    int64_t dtype;   /* of the result */
    int64_t rank;    /* scatter_add: shape of the result */
    int64_t dim[SHAPE_MAX_RANK];
};

/* norm.c */

struct norm_attrs {
    int64_t has_residual;
    float eps;
    int32_t reserved;
};

/* loss.c */

struct target_attrs {
    int64_t ignore;
};

struct cosine_attrs {
    float eps;
};

/* random.c */

struct random_attrs {
    uint64_t site;
    int64_t samples;
    float p;
    int32_t reserved;
};

/* negatives.c */

struct integer_attrs {
    uint64_t site;     /* draw_negatives */
    int64_t parameter; /* position_ids: padding id; row_numbers: rows */
    int64_t all_ranks; /* draw_negatives: columns are the rows of all ranks; row_numbers */
};

struct fetch_attrs {
    int64_t side;
    int64_t length;
};

/* exchange.c */

struct exchange_attrs {
    int64_t rows;       /* local rows N of the source */
    int64_t world_size; /* ranks */
};

#ifdef __cplusplus
}
#endif
#endif
