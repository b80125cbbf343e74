/*
 * A test case of one op: its inputs, a function that records it, and the same mathematics in f64 by
 * plain loops over the definition. op_check.h runs a case; the tables are in cases_*.h.
 *
 * The loss of every case is the sum over its outputs of sum(y * r) with fixed random r, so that a
 * wrong gradient cannot hide behind a symmetric one.
 */
#ifndef WEFT_TESTS_RUNTIME_OPS_OP_CASE_H
#define WEFT_TESTS_RUNTIME_OPS_OP_CASE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/bf16.h"
#include "runtime/base/rng.h"
#include "runtime/graph/op.h"
#include "runtime/ops/ops.h"

/* Rows of the tables leave out what is zero; clang minds where members come before it without
 * names. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

enum { CASE_INPUTS = 8, CASE_OUTPUTS = 4, CASE_INTS = 10, CASE_FLOATS = 8 };

/* What a run draws random numbers from. */
enum { CASE_SEED = 11, CASE_STEP = 3, CASE_SAMPLE = 5 };
#define CASE_PATH "encoder.layer"

/* Shapes in the initialisers of static tables. */
#define DIMS(...)                                                                                  \
    {                                                                                              \
        .rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dim = { __VA_ARGS__ }  \
    }
#define DIMS0                                                                                      \
    {                                                                                              \
        .rank = 0                                                                                  \
    }

enum input_kind {
    INPUT_NONE,
    INPUT_FLOAT,    /* differentiable, in the dtype of the run */
    INPUT_CONSTANT, /* the same, without a gradient */
    INPUT_F32,      /* differentiable, f32 in every run: gains, biases, scalars, masters */
    INPUT_F32_CONSTANT,
    INPUT_INDEX, /* i32 in [low, high) */
    INPUT_BYTES  /* u8 */
};

struct case_input {
    enum input_kind kind;
    struct shape shape;
    double low, high;    /* range of uniform values; both 0: [-2, 2) */
    bool on_grid;        /* floats are odd multiples of 1/16, away from kinks at multiples of 1/8 */
    const double *given; /* the values themselves */
};

struct op_case;

/* What a builder gets: the graph, the inputs, the dtype of the run. Fills `out`. */
struct case_build {
    struct graph *g;
    struct tensor **in;
    struct tensor **out;
    enum dtype dtype;
    const struct op_case *c;
};

/* What a reference gets. `base` are the inputs without the perturbation of a difference. */
struct case_reference {
    const struct op_case *c;
    double *const *in;
    double *const *base;
    double *const *out;
    enum dtype dtype;
};

struct op_case {
    const char *name;
    void (*build)(const struct case_build *b);
    void (*reference)(const struct case_reference *r);
    struct case_input in[CASE_INPUTS];
    struct shape out[CASE_OUTPUTS]; /* expected shapes */
    int num_outputs;                /* 0: one */
    int64_t n[CASE_INTS];           /* the case's own numbers */
    float f[CASE_FLOATS];
    /* Largest difference, relative to the largest value of the tensor; [f32, bf16]. */
    double tolerance[2];
    double gradient_tolerance[2];
    int checks;       /* elements per input that are differenced; 0: up to 256 */
    bool f32_only;    /* the op has no bf16 form, or the case fixes its dtypes */
    bool no_gradient; /* nothing of it is differentiable */
    bool block_fuses; /* with blocks recomputed, forward may fuse what backward reads no more */
    bool is_value[CASE_OUTPUTS]; /* compared, but not part of the loss */
};

static inline int case_num_inputs(const struct op_case *c)
{
    int count = 0;
    while (count < CASE_INPUTS && c->in[count].kind != INPUT_NONE) {
        count++;
    }
    return count;
}

static inline int case_num_outputs(const struct op_case *c)
{
    return c->num_outputs ? c->num_outputs : 1;
}

static inline int64_t case_count(const struct op_case *c, int input)
{
    return shape_count(&c->in[input].shape);
}

static inline bool case_is_differentiable(const struct op_case *c, int input)
{
    enum input_kind kind = c->in[input].kind;
    return !c->no_gradient && (kind == INPUT_FLOAT || kind == INPUT_F32);
}

static inline double *case_doubles(int64_t count)
{
    double *data = calloc((size_t)(count > 0 ? count : 1), sizeof *data);
    if (!data) abort();
    return data;
}

/* The values of an input, exact in the dtype it is stored in. */
static inline double *case_values(const struct op_case *c, int input, enum dtype dtype)
{
    const struct case_input *in = &c->in[input];
    int64_t count = case_count(c, input);
    double *values = case_doubles(count);
    double low = in->low;
    double high = in->high;
    if (low == 0 && high == 0) {
        low = in->kind == INPUT_BYTES ? 0 : -2;
        high = in->kind == INPUT_BYTES ? 256 : 2;
    }
    struct rng_key key = rng_key(7, RNG_TEST, rng_site(c->name) + (uint64_t)input);
    for (int64_t i = 0; i < count; i++) {
        struct rng_block block = rng_at(key, 0, 0, (uint32_t)(i / 4));
        double v = low + (high - low) * (double)rng_uniform(block.word[i % 4]);
        if (in->on_grid) v = floor(v * 8) / 8 + 0.0625;
        if (in->given) v = in->given[i];
        if (in->kind == INPUT_INDEX || in->kind == INPUT_BYTES) {
            values[i] = floor(v);
        } else {
            values[i] = dtype == DTYPE_BF16 ? (double)bf16_to_f32(bf16_from_f32((float)v))
                                            : (double)(float)v;
        }
    }
    return values;
}

/* The weights r of output `output` in the loss, exact in bf16. */
static inline double *case_weights(const struct op_case *c, int output)
{
    int64_t count = shape_count(&c->out[output]);
    double *values = case_doubles(count);
    struct rng_key key = rng_key(8, RNG_TEST, rng_site(c->name) + (uint64_t)output);
    for (int64_t i = 0; i < count; i++) {
        struct rng_block block = rng_at(key, 0, 0, (uint32_t)(i / 4));
        float v = 2 * rng_uniform(block.word[i % 4]) - 1;
        values[i] = (double)bf16_to_f32(bf16_from_f32(v));
    }
    return values;
}

/* Index arithmetic for references: coordinates of element `at` of a shape, and back. */
static inline void case_unravel(const struct shape *shape, int64_t at, int64_t *coordinate)
{
    for (int i = shape->rank - 1; i >= 0; i--) {
        coordinate[i] = at % shape->dim[i];
        at /= shape->dim[i];
    }
}

static inline int64_t case_ravel(const struct shape *shape, const int64_t *coordinate)
{
    int64_t at = 0;
    for (int i = 0; i < shape->rank; i++) {
        at = at * shape->dim[i] + coordinate[i];
    }
    return at;
}

#endif
