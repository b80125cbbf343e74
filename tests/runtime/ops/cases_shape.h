/* Cases of ops that move elements: reshape, slice, pad, concat, permute, roll, windows, merging,
 * pixels; and of sums, means and broadcasts. */
#ifndef WEFT_TESTS_RUNTIME_OPS_CASES_SHAPE_H
#define WEFT_TESTS_RUNTIME_OPS_CASES_SHAPE_H

#include "tests/runtime/ops/op_case.h"

/* Moving is exact; the loss that tests it sums in f32 and rounds gradients to the dtype. */
#define TOLERANCE_MOVE .tolerance = {0, 0}, .gradient_tolerance = {1e-6, 4e-3}
/* A sum of n terms in f32, rounded once. */
#define TOLERANCE_SUM .tolerance = {4e-6, 4e-3}, .gradient_tolerance = {4e-6, 8e-3}

/* ---- builders: n holds the case's axes and sizes ---- */

static inline void reshape_build(const struct case_build *b)
{
    b->out[0] = op_reshape(b->g, b->in[0], b->c->out[0]);
}

static inline void reshape_chain_build(const struct case_build *b)
{
    int64_t count = shape_count(&b->in[0]->shape);
    struct tensor *x = op_reshape(b->g, b->in[0], SHAPE(count));
    x = op_scale(b->g, op_reshape(b->g, x, SHAPE(1, count)), 2);
    b->out[0] = op_reshape(b->g, op_reshape(b->g, x, SHAPE(count, 1)), b->c->out[0]);
}

static inline void slice_build(const struct case_build *b)
{
    const int64_t *n = b->c->n;
    b->out[0] = op_slice(b->g, b->in[0], (int)n[0], n[1], n[2]);
}

static inline void pad_build(const struct case_build *b)
{
    const int64_t *n = b->c->n;
    b->out[0] = op_pad(b->g, b->in[0], (int)n[0], n[1], n[2]);
}

static inline void concat_build(const struct case_build *b)
{
    int count = case_num_inputs(b->c);
    b->out[0] = op_concat(b->g, b->in, count, (int)b->c->n[0]);
}

static inline void concat_self_build(const struct case_build *b)
{
    struct tensor *inputs[] = {b->in[0], b->in[0], b->in[0]};
    b->out[0] = op_concat(b->g, inputs, 3, (int)b->c->n[0]);
}

/* Both halves of an axis, exchanged: slices that are views feed a join. */
static inline void swap_build(const struct case_build *b)
{
    int axis = (int)b->c->n[0];
    int64_t size = b->in[0]->shape.dim[axis];
    struct tensor *halves[] = {op_slice(b->g, b->in[0], axis, size / 2, size),
                               op_slice(b->g, b->in[0], axis, 0, size / 2)};
    b->out[0] = op_concat(b->g, halves, 2, axis);
}

static inline void permute_build(const struct case_build *b)
{
    int axes[SHAPE_MAX_RANK];
    for (int i = 0; i < SHAPE_MAX_RANK; i++) {
        axes[i] = (int)b->c->n[i];
    }
    b->out[0] = op_permute(b->g, b->in[0], axes);
}

static inline void roll_build(const struct case_build *b)
{
    b->out[0] = op_roll(b->g, b->in[0], b->c->n[0], b->c->n[1]);
}

static inline void partition_build(const struct case_build *b)
{
    b->out[0] = op_window_partition(b->g, b->in[0], b->c->n[0], b->c->n[1]);
}

static inline void window_reverse_build(const struct case_build *b)
{
    const struct shape *y = &b->c->out[0];
    b->out[0] = op_window_reverse(b->g, b->in[0], b->c->n[0], b->c->n[1], y->dim[1], y->dim[2]);
}

static inline void patch_merge_build(const struct case_build *b)
{
    b->out[0] = op_patch_merge(b->g, b->in[0]);
}

static inline void pixels_build(const struct case_build *b)
{
    b->out[0] = op_normalize_pixels(b->g, b->in[0], b->c->f, b->c->f + 3, b->dtype);
}

static inline void sum_build(const struct case_build *b)
{
    b->out[0] = op_sum(b->g, b->in[0], (int)b->c->n[0], (int)b->c->n[1]);
}

static inline void mean_build(const struct case_build *b)
{
    b->out[0] = op_mean(b->g, b->in[0], (int)b->c->n[0], (int)b->c->n[1]);
}

static inline void broadcast_build(const struct case_build *b)
{
    b->out[0] = op_broadcast(b->g, b->in[0], b->c->out[0]);
}

/* ---- references ---- */

static inline void reshape_reference(const struct case_reference *r)
{
    memcpy(r->out[0], r->in[0], (size_t)case_count(r->c, 0) * sizeof(double));
}

static inline void reshape_chain_reference(const struct case_reference *r)
{
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        r->out[0][i] = 2 * r->in[0][i];
    }
}

static inline void slice_reference(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    const struct shape *y = &r->c->out[0];
    int64_t at[SHAPE_MAX_RANK];
    for (int64_t i = 0; i < shape_count(y); i++) {
        case_unravel(y, i, at);
        at[r->c->n[0]] += r->c->n[1];
        r->out[0][i] = r->in[0][case_ravel(x, at)];
    }
}

static inline void pad_reference(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    int64_t at[SHAPE_MAX_RANK];
    for (int64_t i = 0; i < shape_count(x); i++) {
        case_unravel(x, i, at);
        at[r->c->n[0]] += r->c->n[1];
        r->out[0][case_ravel(&r->c->out[0], at)] = r->in[0][i];
    }
}

/* Copies input k to its place; the next begins where it ends. */
static inline void join_reference(const struct case_reference *r, int input, int64_t begin)
{
    const struct shape *x = &r->c->in[input].shape;
    int64_t at[SHAPE_MAX_RANK];
    for (int64_t i = 0; i < shape_count(x); i++) {
        case_unravel(x, i, at);
        at[r->c->n[0]] += begin;
        r->out[0][case_ravel(&r->c->out[0], at)] = r->in[input][i];
    }
}

static inline void concat_reference(const struct case_reference *r)
{
    int64_t begin = 0;
    for (int k = 0; k < case_num_inputs(r->c); k++) {
        join_reference(r, k, begin);
        begin += r->c->in[k].shape.dim[r->c->n[0]];
    }
}

static inline void concat_self_reference(const struct case_reference *r)
{
    int64_t size = r->c->in[0].shape.dim[r->c->n[0]];
    for (int64_t k = 0; k < 3; k++) {
        join_reference(r, 0, k * size);
    }
}

static inline void swap_reference(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    int64_t axis = r->c->n[0];
    int64_t size = x->dim[axis];
    int64_t at[SHAPE_MAX_RANK];
    for (int64_t i = 0; i < shape_count(x); i++) {
        case_unravel(x, i, at);
        at[axis] = (at[axis] + size - size / 2) % size;
        r->out[0][case_ravel(x, at)] = r->in[0][i];
    }
}

static inline void permute_reference(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    const struct shape *y = &r->c->out[0];
    int64_t to[SHAPE_MAX_RANK];
    int64_t from[SHAPE_MAX_RANK];
    for (int64_t i = 0; i < shape_count(y); i++) {
        case_unravel(y, i, to);
        for (int k = 0; k < y->rank; k++) {
            from[r->c->n[k]] = to[k];
        }
        r->out[0][i] = r->in[0][case_ravel(x, from)];
    }
}

static inline int64_t wrap(int64_t i, int64_t size)
{
    return (i % size + size) % size;
}

static inline void roll_reference(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    int64_t at[4];
    for (int64_t i = 0; i < shape_count(x); i++) {
        case_unravel(x, i, at);
        at[1] = wrap(at[1] + r->c->n[0], x->dim[1]);
        at[2] = wrap(at[2] + r->c->n[1], x->dim[2]);
        r->out[0][case_ravel(x, at)] = r->in[0][i];
    }
}

/* Where pixel (b, y, x, c) of the image lies in its windows, after a roll by (-shift, -shift). */
static inline int64_t window_place(const struct shape *image, const int64_t *at, int64_t window,
                                   int64_t shift)
{
    int64_t y = wrap(at[1] - shift, image->dim[1]);
    int64_t x = wrap(at[2] - shift, image->dim[2]);
    int64_t row = at[0] * (image->dim[1] / window) + y / window;
    int64_t index = row * (image->dim[2] / window) + x / window;
    return ((index * window + y % window) * window + x % window) * image->dim[3] + at[3];
}

static inline void partition_reference(const struct case_reference *r)
{
    const struct shape *image = &r->c->in[0].shape;
    int64_t at[4];
    for (int64_t i = 0; i < shape_count(image); i++) {
        case_unravel(image, i, at);
        r->out[0][window_place(image, at, r->c->n[0], r->c->n[1])] = r->in[0][i];
    }
}

static inline void window_reverse_reference(const struct case_reference *r)
{
    const struct shape *image = &r->c->out[0];
    int64_t at[4];
    for (int64_t i = 0; i < shape_count(image); i++) {
        case_unravel(image, i, at);
        r->out[0][i] = r->in[0][window_place(image, at, r->c->n[0], r->c->n[1])];
    }
}

static inline void patch_merge_reference(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    int64_t at[4];
    for (int64_t i = 0; i < shape_count(x); i++) {
        case_unravel(x, i, at);
        int64_t part = at[1] % 2 + 2 * (at[2] % 2);
        int64_t to[] = {at[0], at[1] / 2, at[2] / 2, part * x->dim[3] + at[3]};
        r->out[0][case_ravel(&r->c->out[0], to)] = r->in[0][i];
    }
}

static inline void pixels_reference(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    int64_t at[4];
    for (int64_t i = 0; i < shape_count(x); i++) {
        case_unravel(x, i, at);
        int64_t to[] = {at[0], at[3], at[1], at[2]};
        r->out[0][case_ravel(&r->c->out[0], to)] =
            (r->in[0][i] / 255 - (double)r->c->f[at[3]]) / (double)r->c->f[3 + at[3]];
    }
}

static inline void sum_reference(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    int64_t at[SHAPE_MAX_RANK];
    int64_t begin = r->c->n[0];
    int64_t end = r->c->n[1];
    for (int64_t i = 0; i < shape_count(x); i++) {
        case_unravel(x, i, at);
        for (int64_t k = end; k < x->rank; k++) {
            at[begin + k - end] = at[k];
        }
        r->out[0][case_ravel(&r->c->out[0], at)] += r->in[0][i];
    }
}

static inline void mean_reference(const struct case_reference *r)
{
    sum_reference(r);
    int64_t outputs = shape_count(&r->c->out[0]);
    for (int64_t i = 0; i < outputs; i++) {
        r->out[0][i] *= (double)outputs / (double)case_count(r->c, 0);
    }
}

static inline void broadcast_reference(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    int64_t at[SHAPE_MAX_RANK];
    for (int64_t i = 0; i < shape_count(&r->c->out[0]); i++) {
        case_unravel(&r->c->out[0], i, at);
        for (int k = 0; k < x->rank; k++) {
            if (x->dim[k] == 1) at[k] = 0;
        }
        r->out[0][i] = r->in[0][case_ravel(x, at)];
    }
}

/* ---- tables ---- */

#define MOVE(what, name_, in_, out_, ...)                                                          \
    {                                                                                              \
        .name = what, .build = name_##_build, .reference = name_##_reference,                      \
        .in = {{INPUT_FLOAT, in_}}, .out = {out_}, .n = {__VA_ARGS__}, TOLERANCE_MOVE              \
    }
#define MOVE_BYTES(what, name_, kind_, in_, out_, ...)                                             \
    {                                                                                              \
        .name = what, .build = name_##_build, .reference = name_##_reference,                      \
        .in = {{kind_, in_, 0, 99}}, .out = {out_}, .n = {__VA_ARGS__}, .no_gradient = true,       \
        .f32_only = true, TOLERANCE_MOVE                                                           \
    }
#define JOIN(what, axis_, a_, b_, c_, out_)                                                        \
    {                                                                                              \
        .name = what, .build = concat_build, .reference = concat_reference,                        \
        .in = {{INPUT_FLOAT, a_}, {INPUT_CONSTANT, b_}, {INPUT_FLOAT, c_}}, .out = {out_},         \
        .n = {axis_}, TOLERANCE_MOVE                                                               \
    }
#define REDUCE(what, name_, in_, out_, begin_, end_)                                               \
    {                                                                                              \
        .name = what, .build = name_##_build, .reference = name_##_reference,                      \
        .in = {{INPUT_FLOAT, in_}}, .out = {out_}, .n = {begin_, end_}, TOLERANCE_SUM              \
    }
#define BROADCAST(what, in_, out_)                                                                 \
    {                                                                                              \
        .name = what, .build = broadcast_build, .reference = broadcast_reference,                  \
        .in = {{INPUT_FLOAT, in_}}, .out = {out_}, TOLERANCE_SUM                                   \
    }

static const struct op_case cases_shape[] = {
    MOVE("reshape to a vector", reshape, DIMS(3, 5, 2), DIMS(30), 0),
    MOVE("reshape to rank 6", reshape, DIMS(30), DIMS(1, 3, 1, 5, 2, 1), 0),
    MOVE("reshape to a scalar", reshape, DIMS(1, 1), DIMS0, 0),
    MOVE("reshape to itself", reshape, DIMS(3, 2), DIMS(3, 2), 0),
    MOVE("reshape chain", reshape_chain, DIMS(3, 5, 2), DIMS(2, 5, 3), 0),
    MOVE_BYTES("reshape bytes", reshape, INPUT_BYTES, DIMS(4, 3), DIMS(2, 6), 0),
    MOVE("slice of rows", slice, DIMS(7, 5), DIMS(3, 5), 0, 2, 5),
    MOVE("slice of everything", slice, DIMS(7, 5), DIMS(7, 5), 0, 0, 7),
    MOVE("slice of columns", slice, DIMS(7, 5), DIMS(7, 1), 1, 4, 5),
    MOVE("slice in the middle", slice, DIMS(3, 6, 5), DIMS(3, 2, 5), 1, 3, 5),
    MOVE("slice below leading ones", slice, DIMS(1, 1, 9, 3), DIMS(1, 1, 2, 3), 2, 6, 8),
    MOVE("slice last of rank 4", slice, DIMS(2, 3, 4, 5), DIMS(2, 3, 4, 3), 3, 1, 4),
    MOVE("slice large", slice, DIMS(300, 3, 90), DIMS(300, 1, 90), 1, 1, 2),
    MOVE_BYTES("slice of indices", slice, INPUT_INDEX, DIMS(4, 9), DIMS(4, 3), 1, 3, 6),
    MOVE_BYTES("slice of bytes", slice, INPUT_BYTES, DIMS(4, 9), DIMS(2, 9), 0, 1, 3),
    MOVE("pad first axis", pad, DIMS(2, 5), DIMS(7, 5), 0, 3, 7),
    MOVE("pad last axis", pad, DIMS(3, 1), DIMS(3, 4), 1, 3, 4),
    MOVE("pad the middle", pad, DIMS(3, 2, 5), DIMS(3, 4, 5), 1, 0, 4),
    MOVE("pad by nothing", pad, DIMS(3, 2), DIMS(3, 2), 1, 0, 2),
    JOIN("concat first axis", 0, DIMS(2, 3), DIMS(1, 3), DIMS(4, 3), DIMS(7, 3)),
    JOIN("concat last axis", 1, DIMS(3, 2), DIMS(3, 5), DIMS(3, 1), DIMS(3, 8)),
    JOIN("concat middle", 1, DIMS(2, 1, 3), DIMS(2, 4, 3), DIMS(2, 2, 3), DIMS(2, 7, 3)),
    JOIN("concat last of rank 4", 3, DIMS(2, 1, 3, 2), DIMS(2, 1, 3, 1), DIMS(2, 1, 3, 4),
         DIMS(2, 1, 3, 7)),
    JOIN("concat large", 1, DIMS(101, 300), DIMS(101, 7), DIMS(101, 93), DIMS(101, 400)),
    MOVE("concat one", concat, DIMS(2, 3), DIMS(2, 3), 0),
    MOVE("concat with itself", concat_self, DIMS(2, 3), DIMS(2, 9), 1),
    MOVE("swap halves of rows", swap, DIMS(5, 3), DIMS(5, 3), 0),
    MOVE("swap halves of columns", swap, DIMS(3, 7), DIMS(3, 7), 1),
    MOVE("permute 2 identity", permute, DIMS(3, 7), DIMS(3, 7), 0, 1),
    MOVE("permute 2", permute, DIMS(3, 7), DIMS(7, 3), 1, 0),
    MOVE("permute 2 large", permute, DIMS(257, 301), DIMS(301, 257), 1, 0),
    MOVE("permute 3 021", permute, DIMS(2, 3, 5), DIMS(2, 5, 3), 0, 2, 1),
    MOVE("permute 3 102", permute, DIMS(2, 3, 5), DIMS(3, 2, 5), 1, 0, 2),
    MOVE("permute 3 120", permute, DIMS(2, 3, 5), DIMS(3, 5, 2), 1, 2, 0),
    MOVE("permute 3 201", permute, DIMS(2, 3, 5), DIMS(5, 2, 3), 2, 0, 1),
    MOVE("permute 3 210", permute, DIMS(2, 3, 5), DIMS(5, 3, 2), 2, 1, 0),
    MOVE("permute 3 with ones", permute, DIMS(1, 4, 1), DIMS(1, 1, 4), 2, 0, 1),
    MOVE("permute 4 0213", permute, DIMS(2, 3, 4, 5), DIMS(2, 4, 3, 5), 0, 2, 1, 3),
    MOVE("permute 4 3210", permute, DIMS(2, 3, 4, 5), DIMS(5, 4, 3, 2), 3, 2, 1, 0),
    MOVE("permute 4 2301", permute, DIMS(2, 3, 4, 5), DIMS(4, 5, 2, 3), 2, 3, 0, 1),
    MOVE("permute 5 13024", permute, DIMS(2, 3, 1, 4, 3), DIMS(3, 4, 2, 1, 3), 1, 3, 0, 2, 4),
    MOVE("permute 5 43201", permute, DIMS(2, 3, 2, 2, 3), DIMS(3, 2, 2, 2, 3), 4, 3, 2, 0, 1),
    MOVE("permute 6 013245", permute, DIMS(2, 3, 2, 2, 3, 2), DIMS(2, 3, 2, 2, 3, 2), 0, 1, 3, 2, 4,
         5),
    MOVE("permute 6 543210", permute, DIMS(2, 3, 1, 2, 3, 2), DIMS(2, 3, 2, 1, 3, 2), 5, 4, 3, 2, 1,
         0),
    MOVE("permute 6 240351", permute, DIMS(2, 3, 2, 4, 1, 3), DIMS(2, 1, 2, 4, 3, 3), 2, 4, 0, 3, 5,
         1),
    MOVE_BYTES("permute indices", permute, INPUT_INDEX, DIMS(4, 9), DIMS(9, 4), 1, 0),
    MOVE_BYTES("permute bytes", permute, INPUT_BYTES, DIMS(2, 3, 5), DIMS(5, 3, 2), 2, 1, 0),
    MOVE("roll", roll, DIMS(2, 5, 7, 3), DIMS(2, 5, 7, 3), 2, -3),
    MOVE("roll down only", roll, DIMS(1, 4, 3, 2), DIMS(1, 4, 3, 2), -1, 0),
    MOVE("roll right only", roll, DIMS(1, 4, 3, 2), DIMS(1, 4, 3, 2), 0, 1),
    MOVE("roll by more than the size", roll, DIMS(1, 4, 3, 1), DIMS(1, 4, 3, 1), 9, -7),
    MOVE("roll by nothing", roll, DIMS(1, 4, 3, 2), DIMS(1, 4, 3, 2), 4, -3),
    MOVE("partition", partition, DIMS(2, 6, 4, 3), DIMS(12, 4, 3), 2, 0),
    MOVE("partition shifted", partition, DIMS(2, 6, 9, 2), DIMS(12, 9, 2), 3, 1),
    MOVE("partition of one window", partition, DIMS(2, 3, 3, 1), DIMS(2, 9, 1), 3, 2),
    MOVE("partition into pixels", partition, DIMS(1, 2, 3, 2), DIMS(6, 1, 2), 1, 0),
    MOVE("window reverse", window_reverse, DIMS(12, 4, 3), DIMS(2, 6, 4, 3), 2, 0),
    MOVE("window reverse shifted", window_reverse, DIMS(12, 9, 2), DIMS(2, 6, 9, 2), 3, 1),
    MOVE("patch merge", patch_merge, DIMS(2, 4, 6, 3), DIMS(2, 2, 3, 12), 0),
    MOVE("patch merge of one", patch_merge, DIMS(1, 2, 2, 1), DIMS(1, 1, 1, 4), 0),
    {.name = "pixels",
     .build = pixels_build,
     .reference = pixels_reference,
     .in = {{INPUT_BYTES, DIMS(2, 5, 7, 3)}},
     .out = {DIMS(2, 3, 5, 7)},
     .f = {0.485f, 0.456f, 0.406f, 0.229f, 0.224f, 0.225f},
     .no_gradient = true,
     .tolerance = {1e-6, 4e-3}},
    {.name = "pixels large",
     .build = pixels_build,
     .reference = pixels_reference,
     .in = {{INPUT_BYTES, DIMS(2, 101, 103, 3)}},
     .out = {DIMS(2, 3, 101, 103)},
     .f = {0.5f, 0.5f, 0.5f, 0.25f, 1, 2},
     .no_gradient = true,
     .tolerance = {1e-6, 4e-3}},
    REDUCE("sum of [3,5,7] over [0, 3)", sum, DIMS(3, 5, 7), DIMS0, 0, 3),
    REDUCE("mean of [3,5,7] over [0, 3)", mean, DIMS(3, 5, 7), DIMS0, 0, 3),
    REDUCE("sum of [3,5,7] over [0, 1)", sum, DIMS(3, 5, 7), DIMS(5, 7), 0, 1),
    REDUCE("mean of [3,5,7] over [0, 1)", mean, DIMS(3, 5, 7), DIMS(5, 7), 0, 1),
    REDUCE("sum of [3,5,7] over [1, 2)", sum, DIMS(3, 5, 7), DIMS(3, 7), 1, 2),
    REDUCE("mean of [3,5,7] over [1, 2)", mean, DIMS(3, 5, 7), DIMS(3, 7), 1, 2),
    REDUCE("sum of [3,5,7] over [2, 3)", sum, DIMS(3, 5, 7), DIMS(3, 5), 2, 3),
    REDUCE("mean of [3,5,7] over [2, 3)", mean, DIMS(3, 5, 7), DIMS(3, 5), 2, 3),
    REDUCE("sum of [3,5,7] over [0, 2)", sum, DIMS(3, 5, 7), DIMS(7), 0, 2),
    REDUCE("mean of [3,5,7] over [0, 2)", mean, DIMS(3, 5, 7), DIMS(7), 0, 2),
    REDUCE("sum of [3,5,7] over [1, 3)", sum, DIMS(3, 5, 7), DIMS(3), 1, 3),
    REDUCE("mean of [3,5,7] over [1, 3)", mean, DIMS(3, 5, 7), DIMS(3), 1, 3),
    REDUCE("sum of [3,5,7] over [1, 1)", sum, DIMS(3, 5, 7), DIMS(3, 5, 7), 1, 1),
    REDUCE("mean of [3,5,7] over [1, 1)", mean, DIMS(3, 5, 7), DIMS(3, 5, 7), 1, 1),
    REDUCE("sum of [1,5,1] over [0, 1)", sum, DIMS(1, 5, 1), DIMS(5, 1), 0, 1),
    REDUCE("mean of [1,5,1] over [0, 1)", mean, DIMS(1, 5, 1), DIMS(5, 1), 0, 1),
    REDUCE("sum of [4] over [0, 1)", sum, DIMS(4), DIMS0, 0, 1),
    REDUCE("mean of [4] over [0, 1)", mean, DIMS(4), DIMS0, 0, 1),
    REDUCE("sum of [1] over [0, 1)", sum, DIMS(1), DIMS0, 0, 1),
    REDUCE("mean of [1] over [0, 1)", mean, DIMS(1), DIMS0, 0, 1),
    REDUCE("sum of [2,3,2,2,3] over [1, 4)", sum, DIMS(2, 3, 2, 2, 3), DIMS(2, 3), 1, 4),
    REDUCE("mean of [2,3,2,2,3] over [1, 4)", mean, DIMS(2, 3, 2, 2, 3), DIMS(2, 3), 1, 4),
    REDUCE("sum of [2,3,2,2,3,2] over [1, 5)", sum, DIMS(2, 3, 2, 2, 3, 2), DIMS(2, 2), 1, 5),
    REDUCE("mean of [2,3,2,2,3,2] over [1, 5)", mean, DIMS(2, 3, 2, 2, 3, 2), DIMS(2, 2), 1, 5),
    REDUCE("sum of [257,301] over [0, 1)", sum, DIMS(257, 301), DIMS(301), 0, 1),
    REDUCE("mean of [257,301] over [0, 1)", mean, DIMS(257, 301), DIMS(301), 0, 1),
    REDUCE("sum of [257,301] over [1, 2)", sum, DIMS(257, 301), DIMS(257), 1, 2),
    REDUCE("mean of [257,301] over [1, 2)", mean, DIMS(257, 301), DIMS(257), 1, 2),
    REDUCE("sum of [70001] over [0, 1)", sum, DIMS(70001), DIMS0, 0, 1),
    REDUCE("mean of [70001] over [0, 1)", mean, DIMS(70001), DIMS0, 0, 1),
    REDUCE("sum of [33,5,67] over [1, 2)", sum, DIMS(33, 5, 67), DIMS(33, 67), 1, 2),
    REDUCE("mean of [33,5,67] over [1, 2)", mean, DIMS(33, 5, 67), DIMS(33, 67), 1, 2),
    BROADCAST("broadcast [1,5] to [4,5]", DIMS(1, 5), DIMS(4, 5)),
    BROADCAST("broadcast [5,1] to [5,3]", DIMS(5, 1), DIMS(5, 3)),
    BROADCAST("broadcast [1,1] to [3,4]", DIMS(1, 1), DIMS(3, 4)),
    BROADCAST("broadcast [2,1,3] to [2,4,3]", DIMS(2, 1, 3), DIMS(2, 4, 3)),
    BROADCAST("broadcast [1,3,1,2] to [2,3,4,2]", DIMS(1, 3, 1, 2), DIMS(2, 3, 4, 2)),
    BROADCAST("broadcast [1,1,1,1,1,1] to [2,1,3,2,1,2]", DIMS(1, 1, 1, 1, 1, 1),
              DIMS(2, 1, 3, 2, 1, 2)),
    BROADCAST("broadcast [3,4] to [3,4]", DIMS(3, 4), DIMS(3, 4)),
    BROADCAST("broadcast [1] to [70001]", DIMS(1), DIMS(70001)),
    BROADCAST("broadcast [2,1,1,3] to [2,3,2,3]", DIMS(2, 1, 1, 3), DIMS(2, 3, 2, 3)),
};

#endif
