/*
 * What the attention kernels of every device are tested on: one table of sizes and features, with
 * what their results may be off by. C and C++.
 */
#ifndef WEFT_TESTS_RUNTIME_OPS_ATTENTION_ROWS_H
#define WEFT_TESTS_RUNTIME_OPS_ATTENTION_ROWS_H

#include "tests/runtime/ops/attention_case.h"

/*
 * Largest error allowed relative to the largest magnitude of the result, by dtype (f32, bf16). f32:
 * sums of up to 600 products in any order and an exponential of 2^-22, a few units of 2^-24 times
 * the square root of that. bf16: results are rounded (2^-9), and so are the softmax and the score
 * gradients as operands.
 */
static const double case_tolerance[2][CASE_RESULTS] = {
    /* o     lse   dq    dk    dv    dbias */
    {4e-6, 2e-6, 8e-6, 8e-6, 8e-6, 8e-6},
    {8e-3, 2e-6, 1.5e-2, 1.5e-2, 1e-2, 1.5e-2},
};

/* Sizes and features of a case; one with a window has a bias table. */
struct case_row {
    const char *name;
    int64_t batch, query_len, key_len, heads, head_dim;
    int64_t window, shift, grid_h, grid_w;
    bool causal, masked;
    float dropout;
};

/* At the edges of tiles, with remainders, and every feature alone and with others. */
static const struct case_row case_rows[] = {
    {"one token", 1, 1, 1, 1, 1, 0, 0, 0, 0, false, false, 0},
    {"one token of 32", 2, 1, 1, 2, 32, 0, 0, 0, 0, false, false, 0},
    {"one key", 2, 5, 1, 2, 16, 0, 0, 0, 0, false, false, 0},
    {"one query", 2, 1, 7, 2, 32, 0, 0, 0, 0, false, true, 0},
    {"text", 2, 40, 40, 3, 64, 0, 0, 0, 0, false, true, 0.1f},
    {"text, causal", 2, 40, 40, 2, 64, 0, 0, 0, 0, true, false, 0},
    {"causal, masked, dropout", 3, 37, 37, 2, 32, 0, 0, 0, 0, true, true, 0.25f},
    {"64 tokens", 1, 64, 64, 1, 16, 0, 0, 0, 0, false, false, 0},
    {"65 tokens", 1, 65, 65, 1, 32, 0, 0, 0, 0, false, true, 0},
    {"145 tokens", 1, 145, 145, 1, 32, 0, 0, 0, 0, false, false, 0},
    {"image to text", 2, 100, 40, 2, 32, 0, 0, 0, 0, false, true, 0},
    {"image to text, whole tiles", 2, 144, 50, 2, 32, 0, 0, 0, 0, false, true, 0},
    {"text to image", 2, 19, 131, 2, 64, 0, 0, 0, 0, false, false, 0.1f},
    {"text to image, whole tiles", 2, 50, 144, 1, 64, 0, 0, 0, 0, false, false, 0.1f},
    {"long", 1, 65, 577, 1, 64, 0, 0, 0, 0, false, true, 0},
    {"long queries, causal", 1, 300, 300, 1, 64, 0, 0, 0, 0, true, true, 0},
    {"odd head", 2, 13, 21, 3, 7, 0, 0, 0, 0, false, true, 0.5f},
    {"head 24", 1, 33, 17, 1, 24, 0, 0, 0, 0, false, false, 0},
    {"head 40", 2, 33, 17, 2, 40, 0, 0, 0, 0, false, false, 0},
    {"head 80", 1, 17, 35, 2, 80, 0, 0, 0, 0, false, true, 0},
    {"head 256", 1, 9, 18, 1, 256, 0, 0, 0, 0, false, false, 0},
    {"window 7", 2, 49, 49, 2, 32, 7, 0, 7, 7, false, false, 0},
    {"window 7, oblong", 2, 294, 294, 2, 16, 7, 3, 14, 21, false, false, 0},
    {"window 8", 1, 64, 64, 1, 64, 8, 4, 8, 8, false, false, 0},
    {"window 12", 1, 576, 576, 1, 32, 12, 0, 24, 24, false, false, 0},
    {"window 12 shifted", 2, 576, 576, 1, 32, 12, 6, 24, 24, false, false, 0},
    {"window 12, one window", 2, 144, 144, 2, 32, 12, 0, 12, 12, false, false, 0},
    {"window 2", 2, 24, 24, 3, 32, 2, 1, 4, 6, false, false, 0},
    {"window 1", 2, 6, 6, 2, 32, 1, 0, 2, 3, false, false, 0},
    {"window 5, all", 3, 150, 150, 2, 24, 5, 2, 10, 15, false, true, 0.2f},
    {"window 18", 1, 324, 324, 1, 32, 18, 0, 18, 18, false, false, 0},
    {"window 24", 1, 576, 576, 1, 32, 24, 0, 24, 24, false, false, 0},
};
enum { CASE_ROWS = sizeof case_rows / sizeof case_rows[0] };

static inline struct attention_shape case_row_shape(const struct case_row *row, bool is_bf16)
{
    struct attention_shape s;
    memset(&s, 0, sizeof s);
    s.batch = row->batch;
    s.query_len = row->query_len;
    s.key_len = row->key_len;
    s.heads = row->heads;
    s.head_dim = row->head_dim;
    s.bf16 = is_bf16;
    s.scale = 1 / sqrtf((float)row->head_dim);
    s.causal = row->causal;
    s.mask_value = -10000;
    s.window = row->window;
    s.shift = row->shift;
    s.grid_h = row->grid_h;
    s.grid_w = row->grid_w;
    s.dropout = row->dropout;
    return s;
}

/* Fails the test, naming the case and `where` it ran, when a result is off by too much, or what
 * lies between the tokens was written to. */
static inline void case_check(const struct attention_case *c, const char *name, const char *where)
{
    static const char *const names[CASE_RESULTS] = {"o", "lse", "dq", "dk", "dv", "dbias"};
    const double *allowed = case_tolerance[c->shape.bf16];
    double error[CASE_RESULTS];
    case_errors(c, error);
    for (int i = 0; i < CASE_RESULTS; i++) {
        if (error[i] <= allowed[i]) continue;
        fail_msg("%s, %s, %s: %s is off by %.3g, allowed %.3g", name, where,
                 c->shape.bf16 ? "bf16" : "f32", names[i], error[i], allowed[i]);
    }
    assert_true(packed_gaps_intact(&c->out) && packed_gaps_intact(&c->din));
    assert_true(packed_gaps_intact(&c->dkv));
}

/* ---- comparing numbers ---- */

static inline size_t packed_bytes(const struct case_packed *p)
{
    return (size_t)packed_count(p) * (p->bf16 ? 2 : 4);
}

static inline void *copy_of(const void *data, size_t size)
{
    void *copy = malloc(size + 1);
    assert_non_null(copy);
    return memcpy(copy, data, size);
}

/* L2 norm of the difference of a slice, over the norm. */
static inline double packed_norm_error(const struct case_packed *p, int64_t part,
                                       const double *expected)
{
    double *got = packed_dense(p, part);
    double norm = 0;
    double difference = 0;
    for (int64_t i = 0; i < p->batch * p->tokens * p->width; i++) {
        norm += expected[i] * expected[i];
        difference += (got[i] - expected[i]) * (got[i] - expected[i]);
    }
    free(got);
    return sqrt(difference / norm);
}

/*
 * At the start of training all weights of a softmax are alike, and so are the values: ds = p (dp -
 * sum p dp) is a small difference of large numbers. Makes q, k and v of a self-attention case so,
 * out of what is there; in bf16 dq and dk keep the digits of their inputs, and are off by at most
 * CASE_EVEN_ERROR: a few roundings of 2^-9.
 */
#define CASE_EVEN_ERROR 0.01
static inline void case_make_even(struct attention_case *c)
{
    static const float mean[3] = {0, 1, 3};
    static const float size[3] = {0.05f, 0.2f, 0.2f};
    double **dense[3] = {&c->naive.q, &c->naive.k, &c->naive.v};
    int64_t width = c->in.width;
    for (int64_t i = 0; i < c->in.batch * c->in.tokens * 3 * width; i++) {
        int64_t at = i / (3 * width) * packed_stride(&c->in) + i % (3 * width);
        int64_t part = i % (3 * width) / width;
        packed_put(&c->in, at, mean[part] + size[part] * (float)packed_get(&c->in, at));
    }
    for (int64_t part = 0; part < 3; part++) {
        free(*dense[part]);
        *dense[part] = packed_dense(&c->in, part);
    }
}

#endif
