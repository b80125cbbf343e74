/* Cases of dropout, drop-path and attention. References draw from rng.h by the documented rule. */
#ifndef WEFT_TESTS_RUNTIME_OPS_CASES_RANDOM_H
#define WEFT_TESTS_RUNTIME_OPS_CASES_RANDOM_H

#include "tests/runtime/ops/attention_naive.h"
#include "tests/runtime/ops/op_case.h"

#define TOLERANCE_DRAW .tolerance = {1e-6, 4e-3}, .gradient_tolerance = {2e-6, 8e-3}
/* Scores, softmax and two products in f32; in bf16 probabilities and score gradients are rounded
 * before the second products. */
#define TOLERANCE_ATTENTION .tolerance = {4e-6, 1.2e-2}, .gradient_tolerance = {2e-5, 3e-2}

/* ---- dropout: f[0] the rate, n[0] the samples ---- */

static inline void dropout_build(const struct case_build *b)
{
    b->out[0] = op_dropout(b->g, b->in[0], b->c->f[0], b->c->n[0], "drop");
}

static inline void dropout_twice_build(const struct case_build *b)
{
    struct tensor *x = op_dropout(b->g, b->in[0], b->c->f[0], b->c->n[0], "drop");
    b->out[0] = op_dropout(b->g, op_tanh(b->g, x), b->c->f[0], b->c->n[0], "again");
}

static inline void drop_path_build(const struct case_build *b)
{
    b->out[0] = op_add_drop_path(b->g, b->in[0], b->in[1], b->c->f[0], b->c->n[0], "path");
}

static inline void drop_path_scoped_build(const struct case_build *b)
{
    graph_random_scope(b->g, "itm");
    b->out[0] = op_add_drop_path(b->g, b->in[0], b->in[0], b->c->f[0], b->c->n[0], "path");
    graph_random_scope(b->g, "");
}

/* The site of a name at CASE_PATH; `scope` may be NULL. */
static inline uint64_t site_of(const char *name, const char *scope)
{
    uint64_t site = rng_site(CASE_PATH) * 31 + rng_site(name);
    return scope ? site * 31 + rng_site(scope) : site;
}

/* 0 or 1 / (1 - p) for element e of sample `row % samples` of this micro-batch. */
static inline double draw(uint64_t site, float p, int64_t sample, int64_t e)
{
    struct rng_block block = rng_at(rng_key(CASE_SEED, RNG_DROPOUT, site), CASE_STEP,
                                    (uint64_t)(CASE_SAMPLE + sample), (uint32_t)(e / 4));
    return rng_uniform(block.word[e % 4]) >= p ? 1 / (1 - (double)p) : 0;
}

static inline double dropout_factor(const struct case_reference *r, const char *name, int64_t i)
{
    int64_t per_row = case_count(r->c, 0) / r->c->in[0].shape.dim[0];
    int64_t row = i / per_row;
    int64_t samples = r->c->n[0];
    if (r->c->f[0] == 0) return 1;
    return draw(site_of(name, NULL), r->c->f[0], row % samples,
                row / samples * per_row + i % per_row);
}

static inline void dropout_reference(const struct case_reference *r)
{
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        r->out[0][i] = r->in[0][i] * dropout_factor(r, "drop", i);
    }
}

static inline void dropout_twice_reference(const struct case_reference *r)
{
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        double x = tanh(r->in[0][i] * dropout_factor(r, "drop", i));
        r->out[0][i] = x * dropout_factor(r, "again", i);
    }
}

static inline void path_reference(const struct case_reference *r, const double *branch,
                                  const char *scope)
{
    int64_t per_row = case_count(r->c, 0) / r->c->in[0].shape.dim[0];
    int64_t samples = r->c->n[0];
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        int64_t row = i / per_row;
        double keep = 1;
        if (r->c->f[0] != 0) {
            keep = draw(site_of("path", scope), r->c->f[0], row % samples, row / samples);
        }
        r->out[0][i] = r->in[0][i] + keep * branch[i];
    }
}

static inline void drop_path_reference(const struct case_reference *r)
{
    path_reference(r, r->in[1], NULL);
}

static inline void drop_path_scoped_reference(const struct case_reference *r)
{
    path_reference(r, r->in[0], "itm");
}

/* ---- attention ---- */

/* n: */
enum { ATT_PACKING, ATT_HEADS, ATT_CAUSAL, ATT_WINDOW, ATT_SHIFT, ATT_MASK, ATT_BIAS, ATT_SAMPLES };
/* f: */
enum { ATT_SCALE, ATT_MASK_VALUE, ATT_DROPOUT };

static inline void attention_build(const struct case_build *b)
{
    const int64_t *n = b->c->n;
    int packing = (int)n[ATT_PACKING];
    struct tensor **in = b->in;
    struct tensor *mask = n[ATT_MASK] ? in[packing] : NULL;
    const struct attention_options options = {
        .heads = n[ATT_HEADS],
        .scale = b->c->f[ATT_SCALE],
        .causal = n[ATT_CAUSAL],
        .mask_value = b->c->f[ATT_MASK_VALUE],
        .dropout = b->c->f[ATT_DROPOUT],
        .samples = n[ATT_SAMPLES],
    };
    if (n[ATT_WINDOW]) {
        b->out[0] = op_window_attention(b->g, in[0], n[ATT_BIAS] ? in[1] : NULL, n[ATT_HEADS],
                                        n[ATT_WINDOW], n[ATT_SHIFT]);
    } else if (packing == 1) {
        b->out[0] = op_attention_qkv(b->g, in[0], mask, &options);
    } else if (packing == 2) {
        b->out[0] = op_attention_kv(b->g, in[0], in[1], mask, &options);
    } else {
        b->out[0] = op_attention(b->g, in[0], in[1], in[2], mask, &options);
    }
}

/* The same tensor as queries, keys and values. */
static inline void attention_self_build(const struct case_build *b)
{
    const struct attention_options options = {.heads = b->c->n[ATT_HEADS]};
    b->out[0] = op_attention(b->g, b->in[0], b->in[0], b->in[0], NULL, &options);
}

/* Columns [part * width, (part + 1) * width) of rows of parts * width. */
static inline double *attention_part(const double *packed, int64_t rows, int64_t width,
                                     int64_t parts, int64_t part)
{
    double *dense = case_doubles(rows * width);
    for (int64_t i = 0; i < rows * width; i++) {
        dense[i] = packed[i / width * width * parts + part * width + i % width];
    }
    return dense;
}

static inline struct attention_shape attention_case_shape(const struct op_case *c)
{
    const int64_t *n = c->n;
    const struct shape *q = &c->in[0].shape;
    const struct shape *k = &c->in[c->in[1].kind && n[ATT_PACKING] > 1 ? 1 : 0].shape;
    const struct shape *o = &c->out[0];
    int64_t head_dim = o->dim[o->rank - 1] / n[ATT_HEADS];
    float mask_value = c->f[ATT_MASK_VALUE];
    struct attention_shape s = {
        .batch = q->dim[0],
        .query_len = q->rank == 4 ? q->dim[1] * q->dim[2] : q->dim[1],
        .heads = n[ATT_HEADS],
        .head_dim = head_dim,
        .scale = c->f[ATT_SCALE] != 0 ? c->f[ATT_SCALE] : 1 / sqrtf((float)head_dim),
        .causal = n[ATT_CAUSAL],
        .mask_value = mask_value != 0 ? mask_value : -10000,
        .window = n[ATT_WINDOW],
        .shift = n[ATT_SHIFT],
        .dropout = c->f[ATT_DROPOUT],
    };
    s.key_len = n[ATT_PACKING] > 1 ? k->dim[1] : s.query_len;
    s.grid_h = s.window ? q->dim[1] : 0;
    s.grid_w = s.window ? q->dim[2] : 0;
    return s;
}

static inline void attention_run_naive(const struct case_reference *r, double *q, double *k,
                                       double *v)
{
    const struct op_case *c = r->c;
    struct attention_shape s = attention_case_shape(c);
    int64_t packing = c->n[ATT_PACKING];
    int64_t samples = c->n[ATT_SAMPLES] ? c->n[ATT_SAMPLES] : s.batch;
    struct naive naive = {
        .shape = s,
        .q = q,
        .k = k,
        .v = v,
        .o = r->out[0],
        .lse = case_doubles(s.batch * s.heads * s.query_len),
        .bias = c->n[ATT_BIAS] ? r->in[1] : NULL,
        .random = {rng_key(CASE_SEED, RNG_DROPOUT, site_of("attention", NULL)), CASE_STEP,
                   CASE_SAMPLE, samples},
    };
    int32_t *mask = NULL;
    if (c->n[ATT_MASK]) {
        mask = malloc((size_t)(s.batch * s.key_len) * sizeof *mask);
        if (!mask) abort();
        for (int64_t i = 0; i < s.batch * s.key_len; i++) {
            mask[i] = (int32_t)r->in[packing][i];
        }
        naive.mask = mask;
    }
    naive_run(&naive);
    free(naive.lse);
    free(mask);
}

static inline void attention_reference(const struct case_reference *r)
{
    struct attention_shape s = attention_case_shape(r->c);
    int64_t packing = r->c->n[ATT_PACKING];
    int64_t width = s.heads * s.head_dim;
    int64_t rows = s.batch * s.query_len;
    int64_t keys = s.batch * s.key_len;
    double *q = attention_part(r->in[0], rows, width, packing == 1 ? 3 : 1, 0);
    double *k = packing == 1 ? attention_part(r->in[0], rows, width, 3, 1)
                             : attention_part(r->in[1], keys, width, packing == 2 ? 2 : 1, 0);
    double *v = packing == 1   ? attention_part(r->in[0], rows, width, 3, 2)
                : packing == 2 ? attention_part(r->in[1], keys, width, 2, 1)
                               : attention_part(r->in[2], keys, width, 1, 0);
    attention_run_naive(r, q, k, v);
    free(q);
    free(k);
    free(v);
}

static inline void attention_self_reference(const struct case_reference *r)
{
    attention_run_naive(r, r->in[0], r->in[0], r->in[0]);
}

/* ---- tables ---- */

#define DROPOUT(what, x_, p_, samples_)                                                            \
    {                                                                                              \
        .name = what, .build = dropout_build, .reference = dropout_reference,                      \
        .in = {{INPUT_FLOAT, x_}}, .out = {x_}, .f = {p_}, .n = {samples_}, TOLERANCE_DRAW         \
    }
#define DROP_PATH(what, x_, p_, samples_)                                                          \
    {                                                                                              \
        .name = what, .build = drop_path_build, .reference = drop_path_reference,                  \
        .in = {{INPUT_FLOAT, x_}, {INPUT_FLOAT, x_}}, .out = {x_}, .f = {p_}, .n = {samples_},     \
        TOLERANCE_DRAW                                                                             \
    }
/* Wants .n and further members behind the shapes. */
#define SELF_ATTENTION(what, qkv_, o_, ...)                                                        \
    {                                                                                              \
        .name = what, .build = attention_build, .reference = attention_reference,                  \
        .in = {{INPUT_FLOAT, qkv_}}, .out = {o_}, .checks = 90, TOLERANCE_ATTENTION, __VA_ARGS__   \
    }
#define MASKED_ATTENTION(what, qkv_, mask_, o_, ...)                                               \
    {                                                                                              \
        .name = what, .build = attention_build, .reference = attention_reference,                  \
        .in = {{INPUT_FLOAT, qkv_}, {INPUT_INDEX, mask_, 0, 2}}, .out = {o_}, .checks = 90,        \
        TOLERANCE_ATTENTION, __VA_ARGS__                                                           \
    }
#define WINDOWS(what, qkv_, table_, o_, ...)                                                       \
    {                                                                                              \
        .name = what, .build = attention_build, .reference = attention_reference,                  \
        .in = {{INPUT_FLOAT, qkv_}, {INPUT_F32, table_}}, .out = {o_}, .checks = 60,               \
        TOLERANCE_ATTENTION, __VA_ARGS__                                                           \
    }

static const double some_hidden[] = {1, 1, 0, 1, 0, /* one row hides all */ 0, 0, 0, 0, 0};

static const struct op_case cases_random[] = {
    DROPOUT("dropout", DIMS(4, 3, 7), 0.25f, 4),
    DROPOUT("dropout of one element", DIMS(1), 0.5f, 1),
    DROPOUT("dropout of rank 1", DIMS(9), 0.5f, 9),
    DROPOUT("dropout of copies", DIMS(6, 5), 0.5f, 3),
    DROPOUT("dropout of one sample's copies", DIMS(6, 5), 0.5f, 1),
    DROPOUT("dropout at rate 0", DIMS(6, 5), 0, 3),
    DROPOUT("dropout at a high rate", DIMS(6, 50), 0.9f, 6),
    DROPOUT("dropout large", DIMS(12, 50, 67), 0.1f, 6),
    {.name = "dropout at two sites",
     .build = dropout_twice_build,
     .reference = dropout_twice_reference,
     .in = {{INPUT_FLOAT, DIMS(4, 9)}},
     .out = {DIMS(4, 9)},
     .f = {0.5f},
     .n = {2},
     .tolerance = {1e-6, 8e-3},
     .gradient_tolerance = {4e-6, 2e-2}},
    DROP_PATH("add_drop_path", DIMS(8, 3, 5), 0.5f, 8),
    DROP_PATH("add_drop_path of copies", DIMS(8, 5), 0.5f, 2),
    DROP_PATH("add_drop_path of rank 1", DIMS(7), 0.5f, 7),
    DROP_PATH("add_drop_path at rate 0", DIMS(4, 5), 0, 4),
    DROP_PATH("add_drop_path large", DIMS(16, 33, 67), 0.25f, 16),
    {.name = "add_drop_path to itself in a scope",
     .build = drop_path_scoped_build,
     .reference = drop_path_scoped_reference,
     .in = {{INPUT_FLOAT, DIMS(8, 5)}},
     .out = {DIMS(8, 5)},
     .f = {0.5f},
     .n = {8},
     TOLERANCE_DRAW},
    SELF_ATTENTION("attention qkv", DIMS(2, 7, 48), DIMS(2, 7, 16), .n = {1, 2}),
    SELF_ATTENTION("attention of one token", DIMS(2, 1, 48), DIMS(2, 1, 16), .n = {1, 1}),
    SELF_ATTENTION("attention of heads of 1", DIMS(1, 5, 9), DIMS(1, 5, 3), .n = {1, 3}),
    SELF_ATTENTION("attention of heads of 5", DIMS(1, 5, 30), DIMS(1, 5, 10), .n = {1, 2}),
    SELF_ATTENTION("attention of heads of 16", DIMS(1, 33, 96), DIMS(1, 33, 32), .n = {1, 2}),
    SELF_ATTENTION("attention of heads of 32", DIMS(1, 17, 192), DIMS(1, 17, 64), .n = {1, 2}),
    SELF_ATTENTION("attention of heads of 64", DIMS(1, 65, 192), DIMS(1, 65, 64), .n = {1, 1},
                   .f = {0.2f}),
    SELF_ATTENTION("attention causal", DIMS(2, 9, 96), DIMS(2, 9, 32), .n = {1, 2, true}),
    SELF_ATTENTION("attention causal, -infinity", DIMS(2, 9, 96), DIMS(2, 9, 32), .n = {1, 2, true},
                   .f = {0, -INFINITY}),
    SELF_ATTENTION("attention with dropout", DIMS(2, 7, 48), DIMS(2, 7, 16), .n = {1, 2},
                   .f = {0, 0, 0.25f}),
    SELF_ATTENTION("attention with dropout of copies", DIMS(4, 5, 48), DIMS(4, 5, 16),
                   .n = {1, 1, [ATT_SAMPLES] = 2}, .f = {0, 0, 0.5f}),
    MASKED_ATTENTION("attention with a key mask", DIMS(3, 9, 48), DIMS(3, 9), DIMS(3, 9, 16),
                     .n = {1, 2, [ATT_MASK] = true}),
    MASKED_ATTENTION("attention with mask and causal", DIMS(3, 9, 48), DIMS(3, 9), DIMS(3, 9, 16),
                     .n = {1, 2, true, [ATT_MASK] = true}),
    {.name = "attention with a row that hides all",
     .build = attention_build,
     .reference = attention_reference,
     .in = {{INPUT_FLOAT, DIMS(2, 5, 48)}, {INPUT_INDEX, DIMS(2, 5), .given = some_hidden}},
     .out = {DIMS(2, 5, 16)},
     .n = {1, 2, [ATT_MASK] = true},
     .f = {0, -1000},
     .checks = 90,
     TOLERANCE_ATTENTION},
    {.name = "attention q, kv",
     .build = attention_build,
     .reference = attention_reference,
     .in = {{INPUT_FLOAT, DIMS(2, 5, 32)}, {INPUT_FLOAT, DIMS(2, 9, 64)}},
     .out = {DIMS(2, 5, 32)},
     .n = {2, 2},
     .checks = 90,
     TOLERANCE_ATTENTION},
    {.name = "attention q, kv, mask",
     .build = attention_build,
     .reference = attention_reference,
     /* Small scores: where one key takes all, dq is the rounding of o and little else. */
     .in = {{INPUT_FLOAT, DIMS(2, 1, 32), -1, 1},
            {INPUT_FLOAT, DIMS(2, 9, 64), -1, 1},
            {INPUT_INDEX, DIMS(2, 9), 0, 2}},
     .out = {DIMS(2, 1, 32)},
     .n = {2, 1, [ATT_MASK] = true},
     .f = {0.3f, -5},
     .checks = 90,
     TOLERANCE_ATTENTION},
    {.name = "attention q, kv, constant keys",
     .build = attention_build,
     .reference = attention_reference,
     .in = {{INPUT_FLOAT, DIMS(2, 5, 32)}, {INPUT_CONSTANT, DIMS(2, 9, 64)}},
     .out = {DIMS(2, 5, 32)},
     .n = {2, 2},
     .checks = 90,
     TOLERANCE_ATTENTION},
    {.name = "attention q, k, v",
     .build = attention_build,
     .reference = attention_reference,
     .in = {{INPUT_FLOAT, DIMS(2, 5, 32)},
            {INPUT_FLOAT, DIMS(2, 3, 32)},
            {INPUT_FLOAT, DIMS(2, 3, 32)}},
     .out = {DIMS(2, 5, 32)},
     .n = {3, 2},
     .checks = 90,
     TOLERANCE_ATTENTION},
    {.name = "attention q, k, v, mask, dropout",
     .build = attention_build,
     .reference = attention_reference,
     .in = {{INPUT_FLOAT, DIMS(2, 5, 32)},
            {INPUT_FLOAT, DIMS(2, 7, 32)},
            {INPUT_FLOAT, DIMS(2, 7, 32)},
            {INPUT_INDEX, DIMS(2, 7), 0, 2}},
     .out = {DIMS(2, 5, 32)},
     .n = {3, 2, [ATT_MASK] = true},
     .f = {0, 0, 0.25f},
     .checks = 90,
     TOLERANCE_ATTENTION},
    {.name = "attention of x with itself",
     .build = attention_self_build,
     .reference = attention_self_reference,
     .in = {{INPUT_FLOAT, DIMS(2, 5, 32)}},
     .out = {DIMS(2, 5, 32)},
     .n = {3, 2},
     .checks = 90,
     TOLERANCE_ATTENTION},
    SELF_ATTENTION("window attention without bias", DIMS(2, 4, 6, 48), DIMS(2, 4, 6, 16),
                   .n = {1, 2, 0, 2, 0}),
    WINDOWS("window attention", DIMS(2, 4, 6, 48), DIMS(9, 2), DIMS(2, 4, 6, 16),
            .n = {1, 2, 0, 2, 0, 0, true}),
    WINDOWS("window attention shifted", DIMS(2, 6, 9, 48), DIMS(25, 2), DIMS(2, 6, 9, 16),
            .n = {1, 2, 0, 3, 1, 0, true}),
    WINDOWS("window attention of one window", DIMS(1, 4, 4, 96), DIMS(49, 1), DIMS(1, 4, 4, 32),
            .n = {1, 1, 0, 4, 2, 0, true}),
    WINDOWS("window attention of pixels", DIMS(1, 2, 3, 24), DIMS(1, 1), DIMS(1, 2, 3, 8),
            .n = {1, 1, 0, 1, 0, 0, true}),
    WINDOWS("window attention, flat table", DIMS(1, 4, 4, 48), DIMS(18), DIMS(1, 4, 4, 16),
            .n = {1, 2, 0, 2, 1, 0, true}),
    {.name = "window attention of Swin",
     .build = attention_build,
     .reference = attention_reference,
     .in = {{INPUT_FLOAT, DIMS(1, 14, 14, 192)}, {INPUT_F32, DIMS(169, 2)}},
     .out = {DIMS(1, 14, 14, 64)},
     .n = {1, 2, 0, 7, 3, 0, true},
     .checks = 12,
     TOLERANCE_ATTENTION},
};

#endif
