/*
 * A test case of the attention kernels: random tensors in packed, padded layouts, the same in f64,
 * and the comparison of a kernel's results with the naive f64 ones.
 */
#ifndef WEFT_TESTS_RUNTIME_OPS_ATTENTION_CASE_H
#define WEFT_TESTS_RUNTIME_OPS_ATTENTION_CASE_H

#include "runtime/base/bf16.h"
#include "runtime/ops/attention_impl.h"
#include "tests/runtime/ops/attention_naive.h"

enum { CASE_THREADS = 2 };
#if !defined(CASE_PAD)
enum { CASE_PAD = 3 }; /* untouched elements after each token */
#endif

/* A tensor of `parts` equal column slices, CASE_PAD elements after each token. */
struct case_packed {
    void *data;
    int64_t batch, tokens, width, parts;
    bool bf16;
};

struct attention_case {
    struct attention_shape shape;
    struct attention_tensors tensors;
    struct naive naive;
    /* With as many keys as queries q, k, v are slices of one tensor, otherwise k, v of one. */
    struct case_packed in, kv, out, dout, din, dkv;
    float *lse, *bias, *dbias;
    int32_t *mask;
    void *scratch;
};

static inline int64_t packed_stride(const struct case_packed *p)
{
    return p->parts * p->width + CASE_PAD;
}

static inline int64_t packed_count(const struct case_packed *p)
{
    return p->batch * p->tokens * packed_stride(p);
}

static inline double packed_get(const struct case_packed *p, int64_t at)
{
    return p->bf16 ? (double)bf16_to_f32(((bf16 *)p->data)[at]) : (double)((float *)p->data)[at];
}

static inline void packed_put(const struct case_packed *p, int64_t at, float value)
{
    if (p->bf16) {
        ((bf16 *)p->data)[at] = bf16_from_f32(value);
    } else {
        ((float *)p->data)[at] = value;
    }
}

static inline void *packed_slice(const struct case_packed *p, int64_t part)
{
    return (char *)p->data + (size_t)(part * p->width) * (p->bf16 ? 2 : 4);
}

/* Fills with NaN, or with normal numbers of deviation `size` when it is above 0. */
static inline void packed_init(struct case_packed *p, int64_t batch, int64_t tokens, int64_t width,
                               int64_t parts, bool is_bf16, float size, uint64_t seed)
{
    const struct case_packed made = {NULL, batch, tokens, width, parts, is_bf16};
    *p = made;
    int64_t count = packed_count(p);
    p->data = malloc((size_t)count * 4);
    float *random = (float *)malloc((size_t)count * 4);
    if (!p->data || !random) abort();
    rng_fill_normal(rng_key(seed, RNG_TEST, 0), 0, 0, random, count);
    for (int64_t i = 0; i < count; i++)
        packed_put(p, i, size > 0 ? size * random[i] : NAN);
    free(random);
}

/* Slice `part` as dense f64 [batch, tokens, width]. */
static inline double *packed_dense(const struct case_packed *p, int64_t part)
{
    double *dense = naive_zeros(p->batch * p->tokens * p->width);
    for (int64_t t = 0; t < p->batch * p->tokens; t++) {
        for (int64_t c = 0; c < p->width; c++) {
            dense[t * p->width + c] = packed_get(p, t * packed_stride(p) + part * p->width + c);
        }
    }
    return dense;
}

static inline struct attention_stride packed_layout(const struct case_packed *p)
{
    const struct attention_stride stride = {p->tokens * packed_stride(p), packed_stride(p)};
    return stride;
}

/* Sets strides, allocates and fills everything. Only the logical fields of `shape` are read. */
static inline void case_init(struct attention_case *c, struct attention_shape shape, bool bias,
                             bool masked, uint64_t seed)
{
    memset(c, 0, sizeof *c);
    struct attention_shape *s = &c->shape;
    *s = shape;
    int64_t C = s->heads * s->head_dim;
    bool self = s->query_len == s->key_len;
    packed_init(&c->in, s->batch, s->query_len, C, self ? 3 : 1, s->bf16, 1, seed);
    packed_init(&c->kv, s->batch, s->key_len, C, 2, s->bf16, 1, seed + 1);
    packed_init(&c->out, s->batch, s->query_len, C, 1, s->bf16, 0, 0);
    packed_init(&c->dout, s->batch, s->query_len, C, 1, s->bf16, 1, seed + 2);
    packed_init(&c->din, s->batch, s->query_len, C, self ? 3 : 1, s->bf16, 0, 0);
    packed_init(&c->dkv, s->batch, s->key_len, C, 2, s->bf16, 0, 0);
    const struct case_packed *kv = self ? &c->in : &c->kv, *dkv = self ? &c->din : &c->dkv;
    int part = self ? 1 : 0;
    s->q = packed_layout(&c->in);
    s->k = s->v = packed_layout(kv);
    s->o = packed_layout(&c->out);
    s->dout = packed_layout(&c->dout);
    s->dq = packed_layout(&c->din);
    s->dk = s->dv = packed_layout(dkv);
    int64_t rows = s->window ? (2 * s->window - 1) * (2 * s->window - 1) : 0;
    struct naive *n = &c->naive;
    if (bias) {
        c->bias = (float *)malloc((size_t)(rows * s->heads) * sizeof *c->bias);
        c->dbias = (float *)malloc((size_t)(rows * s->heads) * sizeof *c->dbias);
        if (!c->bias || !c->dbias) abort();
        rng_fill_normal(rng_key(seed, RNG_TEST, 1), 0, 0, c->bias, rows * s->heads);
        n->bias = naive_zeros(rows * s->heads);
        n->dbias = naive_zeros(rows * s->heads);
        for (int64_t i = 0; i < rows * s->heads; i++)
            n->bias[i] = c->bias[i];
    }
    if (masked) {
        c->mask = (int32_t *)malloc((size_t)(s->batch * s->key_len) * sizeof *c->mask);
        float *random = (float *)malloc((size_t)(s->batch * s->key_len) * sizeof *random);
        if (!c->mask || !random) abort();
        rng_fill_uniform(rng_key(seed, RNG_TEST, 2), 0, 0, random, s->batch * s->key_len);
        for (int64_t i = 0; i < s->batch * s->key_len; i++) {
            /* The last batch row is hidden whole. */
            c->mask[i] = random[i] < 0.6f && (i / s->key_len < s->batch - 1 || s->batch == 1);
        }
        free(random);
    }
    c->lse = (float *)malloc((size_t)(s->batch * s->heads * s->query_len) * sizeof *c->lse);
    if (!c->lse) abort();
    struct attention_random random = {rng_key(seed, RNG_DROPOUT, 7), 5, 1000 + seed,
                                      s->batch > 1 ? s->batch / 2 : 1};
    struct attention_tensors *t = &c->tensors;
    t->q = c->in.data;
    t->k = packed_slice(kv, part);
    t->v = packed_slice(kv, part + 1);
    t->key_mask = c->mask;
    t->bias_table = c->bias;
    t->o = c->out.data;
    t->lse = c->lse;
    t->dout = c->dout.data;
    t->dq = c->din.data;
    t->dk = packed_slice(dkv, part);
    t->dv = packed_slice(dkv, part + 1);
    t->dbias_table = c->dbias;
    t->random = random;
    size_t size = attention_scratch_size(s, CASE_THREADS);
    c->scratch = aligned_alloc(64, size); /* a multiple of 64 */
    if (!c->scratch) abort();
    memset(c->scratch, 0xff, size); /* NaN: nothing may be taken from before */
    c->tensors.scratch = c->scratch;
    n->shape = *s;
    n->q = packed_dense(&c->in, 0);
    n->k = packed_dense(kv, part);
    n->v = packed_dense(kv, part + 1);
    n->dout = packed_dense(&c->dout, 0);
    n->o = naive_zeros(s->batch * s->query_len * C);
    n->dq = naive_zeros(s->batch * s->query_len * C);
    n->dk = naive_zeros(s->batch * s->key_len * C);
    n->dv = naive_zeros(s->batch * s->key_len * C);
    n->lse = naive_zeros(s->batch * s->heads * s->query_len);
    n->mask = c->mask;
    n->random = random;
}

/* Makes every output NaN again, for another run. */
static inline void case_reset(struct attention_case *c)
{
    const struct attention_shape *s = &c->shape;
    struct case_packed *outputs[] = {&c->out, &c->din, &c->dkv};
    for (int i = 0; i < 3; i++) {
        int64_t count = packed_count(outputs[i]);
        for (int64_t at = 0; at < count; at++)
            packed_put(outputs[i], at, NAN);
    }
    for (int64_t i = 0; i < s->batch * s->heads * s->query_len; i++)
        c->lse[i] = NAN;
    int64_t side = 2 * s->window - 1;
    for (int64_t i = 0; c->dbias && i < side * side * s->heads; i++)
        c->dbias[i] = NAN;
    memset(c->scratch, 0xff, attention_scratch_size(s, CASE_THREADS));
}

static inline void case_fini(struct attention_case *c)
{
    struct naive *n = &c->naive;
    void *all[] = {c->in.data, c->kv.data, c->out.data, c->dout.data, c->din.data, c->dkv.data,
                   c->lse,     c->bias,    c->dbias,    c->mask,      c->scratch,  n->q,
                   n->k,       n->v,       n->o,        n->dout,      n->dq,       n->dk,
                   n->dv,      n->lse,     n->bias,     n->dbias};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

/* Largest difference over the largest magnitude of `expected` (`least` at least); infinite when a
 * value is NaN. */
static inline double case_error(const double *got, const double *expected, int64_t count,
                                double least)
{
    double worst = 0, size = least;
    for (int64_t i = 0; i < count; i++) {
        double difference = fabs(got[i] - expected[i]);
        if (!(difference <= worst)) worst = isnan(difference) ? INFINITY : difference;
        size = fmax(size, fabs(expected[i]));
    }
    return worst / size;
}

static inline double case_packed_error(const struct case_packed *p, int64_t part,
                                       const double *expected)
{
    double *dense = packed_dense(p, part);
    double error = case_error(dense, expected, p->batch * p->tokens * p->width, 1);
    free(dense);
    return error;
}

static inline double case_f32_error(const float *got, const double *expected, int64_t count,
                                    double least)
{
    double *wide = naive_zeros(count);
    for (int64_t i = 0; i < count; i++)
        wide[i] = got[i];
    double error = case_error(wide, expected, count, least);
    free(wide);
    return error;
}

/* Whether the elements between tokens of an output still are the NaN of packed_init. */
static inline bool packed_gaps_intact(const struct case_packed *p)
{
    for (int64_t t = 0; t < p->batch * p->tokens; t++) {
        for (int64_t i = 0; i < CASE_PAD; i++) {
            if (!isnan(packed_get(p, (t + 1) * packed_stride(p) - 1 - i))) return false;
        }
    }
    return true;
}

enum { CASE_O, CASE_LSE, CASE_DQ, CASE_DK, CASE_DV, CASE_DBIAS, CASE_RESULTS };

/* Errors of a kernel's results, after the naive version and the kernel have run. */
static inline void case_errors(const struct attention_case *c, double error[CASE_RESULTS])
{
    const struct attention_shape *s = &c->shape;
    const struct naive *n = &c->naive;
    bool self = s->query_len == s->key_len;
    const struct case_packed *dkv = self ? &c->din : &c->dkv;
    int64_t rows = s->window ? (2 * s->window - 1) * (2 * s->window - 1) : 0;
    error[CASE_O] = case_packed_error(&c->out, 0, n->o);
    error[CASE_LSE] = case_f32_error(c->lse, n->lse, s->batch * s->heads * s->query_len, 1);
    error[CASE_DQ] = case_packed_error(&c->din, 0, n->dq);
    error[CASE_DK] = case_packed_error(dkv, self ? 1 : 0, n->dk);
    error[CASE_DV] = case_packed_error(dkv, self ? 2 : 1, n->dv);
    error[CASE_DBIAS] = c->dbias ? case_f32_error(c->dbias, n->dbias, rows * s->heads, 1) : 0;
}

#endif
