/*
 * Attention: checks, the division of work, and a plain C kernel.
 *
 * The unit of work is an item: one head of one window of one batch row (without windows the whole
 * row is the window). Items are numbered head-major, so that a thread, which takes one contiguous
 * range of them, meets few heads and the bias of a head is prepared once for many windows. The
 * ranges depend only on the shape and the thread count; with the fixed order inside an item and the
 * reduction of the bias gradient in thread order this makes results reproducible.
 */
#include "runtime/ops/attention_kernel.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "runtime/base/bf16.h"
#include "runtime/ops/attention_impl.h"

enum { MAX_HEAD_DIM = 256, MAX_WINDOW = 64 };

static int64_t round_up(int64_t value, int64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Tokens that see each other in one item. */
static int64_t item_queries(const struct attention_shape *s)
{
    return s->window ? s->window * s->window : s->query_len;
}

static int64_t item_keys(const struct attention_shape *s)
{
    return s->window ? s->window * s->window : s->key_len;
}

static int64_t num_windows(const struct attention_shape *s)
{
    return s->window ? (s->grid_h / s->window) * (s->grid_w / s->window) : 1;
}

static int64_t table_rows(const struct attention_shape *s)
{
    return s->window ? (2 * s->window - 1) * (2 * s->window - 1) : 0;
}

static enum status check_stride(const char *name, struct attention_stride stride, int64_t tokens,
                                const struct attention_shape *s)
{
    int64_t width = s->heads * s->head_dim;
    CHECK(stride.token >= width, STATUS_INVALID,
          "attention: %s has %lld elements between tokens, less than heads x head_dim = %lld", name,
          (long long)stride.token, (long long)width);
    CHECK(stride.batch >= (tokens - 1) * stride.token + width || s->batch == 1, STATUS_INVALID,
          "attention: %s has %lld elements between batch rows, less than its %lld tokens need",
          name, (long long)stride.batch, (long long)tokens);
    return STATUS_OK;
}

static enum status check_window(const struct attention_shape *s)
{
    CHECK(s->window <= MAX_WINDOW, STATUS_INVALID, "attention: window %lld is above %d",
          (long long)s->window, MAX_WINDOW);
    CHECK(s->grid_h >= 1 && s->grid_w >= 1 && s->grid_h % s->window == 0 &&
              s->grid_w % s->window == 0,
          STATUS_INVALID,
          "attention: grid %lld x %lld is not a multiple of window %lld; pad the grid first",
          (long long)s->grid_h, (long long)s->grid_w, (long long)s->window);
    CHECK(s->query_len == s->grid_h * s->grid_w && s->key_len == s->query_len, STATUS_INVALID,
          "attention: %lld query and %lld key tokens are not the %lld x %lld grid",
          (long long)s->query_len, (long long)s->key_len, (long long)s->grid_h,
          (long long)s->grid_w);
    CHECK(s->shift >= 0 && s->shift < s->window, STATUS_INVALID,
          "attention: shift %lld is outside 0..%lld", (long long)s->shift,
          (long long)s->window - 1);
    CHECK(!s->causal, STATUS_INVALID, "attention: windows cannot be causal");
    return STATUS_OK;
}

enum status attention_shape_check(const struct attention_shape *s)
{
    CHECK(
        s->batch >= 1 && s->query_len >= 1 && s->key_len >= 1 && s->heads >= 1, STATUS_INVALID,
        "attention: batch %lld, query_len %lld, key_len %lld, heads %lld: each must be at least 1",
        (long long)s->batch, (long long)s->query_len, (long long)s->key_len, (long long)s->heads);
    CHECK(s->head_dim >= 1 && s->head_dim <= MAX_HEAD_DIM, STATUS_INVALID,
          "attention: head_dim %lld is outside 1..%d", (long long)s->head_dim, MAX_HEAD_DIM);
    CHECK(s->query_len <= INT32_MAX && s->key_len <= INT32_MAX, STATUS_INVALID,
          "attention: query_len %lld, key_len %lld: at most 2^31 - 1 tokens",
          (long long)s->query_len, (long long)s->key_len);
    CHECK(isfinite(s->scale), STATUS_INVALID, "attention: scale %g is not finite", s->scale);
    CHECK(s->mask_value <= 0, STATUS_INVALID, "attention: mask_value %g is not negative",
          s->mask_value);
    CHECK(s->dropout >= 0 && s->dropout < 1, STATUS_INVALID,
          "attention: dropout %g is outside [0, 1)", s->dropout);
    CHECK(!s->causal || s->query_len == s->key_len, STATUS_INVALID,
          "attention: causal with %lld queries and %lld keys; it needs as many keys as queries",
          (long long)s->query_len, (long long)s->key_len);
    CHECK(s->window >= 0, STATUS_INVALID, "attention: window %lld is negative",
          (long long)s->window);
    if (s->window) TRY(check_window(s));
    if (s->dropout > 0) {
        double words =
            (double)s->batch * (double)s->heads * (double)s->query_len * (double)item_keys(s) / 4;
        CHECK(words < 0x1p32, STATUS_INVALID,
              "attention: dropout of %g probabilities exceeds the generator's 2^34", words * 4);
    }
    TRY(check_stride("q", s->q, s->query_len, s));
    TRY(check_stride("k", s->k, s->key_len, s));
    TRY(check_stride("v", s->v, s->key_len, s));
    TRY(check_stride("o", s->o, s->query_len, s));
    return STATUS_OK;
}

double attention_flops(const struct attention_shape *s)
{
    return 4.0 * (double)s->batch * (double)s->heads * (double)num_windows(s) *
           (double)item_queries(s) * (double)item_keys(s) * (double)s->head_dim;
}

/* ---- plain C kernel ---- */

struct thread_memory {
    float *p, *dp;   /* [keys] */
    float *dk, *dv;  /* [keys, head_dim] */
    float *dbias;    /* [heads, (2 window - 1)^2] */
    int32_t *token;  /* [window^2] token of a window position */
    uint8_t *region; /* [window^2] */
};

static size_t carve(const struct attention_shape *s, char *base, struct thread_memory *m)
{
    size_t used = 0;
#define TAKE(field, count)                                                                         \
    do {                                                                                           \
        if (base) m->field = (void *)(base + used);                                                \
        used += (size_t)round_up((int64_t)sizeof *m->field * (count), 64);                         \
    } while (0)
    int64_t n = item_keys(s);
    TAKE(p, n);
    TAKE(dp, n);
    TAKE(dk, n * s->head_dim);
    TAKE(dv, n * s->head_dim);
    TAKE(dbias, table_rows(s) * s->heads);
    TAKE(token, n);
    TAKE(region, n);
#undef TAKE
    return used;
}

size_t attention_scratch_size(const struct attention_shape *shape, int num_threads)
{
    struct thread_memory unused = {0};
    return carve(shape, NULL, &unused) * (size_t)num_threads;
}

struct item {
    int64_t head, b, window;
};

static struct item item_at(const struct attention_shape *s, int64_t index)
{
    int64_t windows = num_windows(s);
    struct item item = {.window = index % windows, .b = index / windows % s->batch};
    item.head = index / windows / s->batch;
    return item;
}

static int64_t band(int64_t at, int64_t length, const struct attention_shape *s)
{
    return (at >= length - s->window) + (at >= length - s->shift);
}

static void map_tokens(const struct attention_shape *s, int64_t window, struct thread_memory *m)
{
    int64_t n = item_keys(s);
    if (!s->window) {
        for (int64_t i = 0; i < n; i++) {
            m->token[i] = (int32_t)i;
            m->region[i] = 0;
        }
        return;
    }
    int64_t across = s->grid_w / s->window;
    for (int64_t i = 0; i < n; i++) {
        int64_t y = window / across * s->window + i / s->window;
        int64_t x = window % across * s->window + i % s->window;
        m->region[i] = (uint8_t)(s->shift ? 3 * band(y, s->grid_h, s) + band(x, s->grid_w, s) : 0);
        m->token[i] =
            (int32_t)((y + s->shift) % s->grid_h * s->grid_w + (x + s->shift) % s->grid_w);
    }
}

static float get(const void *data, bool is_bf16, int64_t at)
{
    return is_bf16 ? bf16_to_f32(((const bf16 *)data)[at]) : ((const float *)data)[at];
}

static void put(void *data, bool is_bf16, int64_t at, float value)
{
    if (is_bf16) {
        ((bf16 *)data)[at] = bf16_from_f32(value);
    } else {
        ((float *)data)[at] = value;
    }
}

static int64_t bias_index(const struct attention_shape *s, int64_t i, int64_t j)
{
    int64_t w = s->window;
    return (i / w - j / w + w - 1) * (2 * w - 1) + i % w - j % w + w - 1;
}

/* Position of (item, token, channel 0) in a tensor. */
static int64_t place(const struct attention_shape *s, struct attention_stride stride,
                     struct item item, int64_t token)
{
    return item.b * stride.batch + token * stride.token + item.head * s->head_dim;
}

/* Whether any key that query i may see is kept. */
static bool any_visible(const struct attention_shape *s, const struct attention_tensors *t,
                        struct item item, const struct thread_memory *m, int64_t i)
{
    if (!t->key_mask) return true;
    for (int64_t j = 0; j < (s->causal ? i + 1 : item_keys(s)); j++) {
        if (t->key_mask[item.b * s->key_len + m->token[j]]) return true;
    }
    return false;
}

static void score_row(const struct attention_shape *s, const struct attention_tensors *t,
                      struct item item, const struct thread_memory *m, int64_t i)
{
    int64_t query = s->window ? m->token[i] : i;
    int64_t at = place(s, s->q, item, query);
    bool masked = any_visible(s, t, item, m, i);
    for (int64_t j = 0; j < item_keys(s); j++) {
        int64_t key = place(s, s->k, item, m->token[j]);
        float sum = 0;
        for (int64_t d = 0; d < s->head_dim; d++) {
            sum += get(t->q, s->bf16, at + d) * get(t->k, s->bf16, key + d);
        }
        sum *= s->scale;
        if (t->bias_table) sum += t->bias_table[bias_index(s, i, j) * s->heads + item.head];
        if (s->window && m->region[i] != m->region[j]) sum += ATTENTION_SHIFT_MASK;
        bool hidden = (t->key_mask && !t->key_mask[item.b * s->key_len + m->token[j]]) ||
                      (s->causal && j > i);
        if (hidden && masked) sum += s->mask_value;
        m->p[j] = sum;
    }
}

/* 0 or 1 / (1 - dropout). */
static float keep_factor(const struct attention_shape *s, const struct attention_tensors *t,
                         struct item item, int64_t query, int64_t j)
{
    if (s->dropout == 0) return 1;
    const struct attention_random *r = &t->random;
    int64_t copy = item.b / r->samples;
    uint64_t sample = r->sample_base + (uint64_t)(item.b % r->samples);
    int64_t e = ((copy * s->heads + item.head) * s->query_len + query) * item_keys(s) + j;
    struct rng_block block = rng_at(r->key, r->step, sample, (uint32_t)(e / 4));
    return rng_uniform(block.word[e % 4]) >= s->dropout ? 1 / (1 - s->dropout) : 0;
}

static void forward_item(const struct attention_shape *s, const struct attention_tensors *t,
                         struct item item, struct thread_memory *m)
{
    int64_t n = item_keys(s);
    map_tokens(s, item.window, m);
    for (int64_t i = 0; i < item_queries(s); i++) {
        int64_t query = s->window ? m->token[i] : i;
        score_row(s, t, item, m, i);
        float max = -INFINITY;
        for (int64_t j = 0; j < n; j++) {
            max = m->p[j] > max ? m->p[j] : max;
        }
        float sum = 0;
        for (int64_t j = 0; j < n; j++) {
            sum += m->p[j] = expf(m->p[j] - max);
        }
        float out[MAX_HEAD_DIM] = {0};
        for (int64_t j = 0; j < n; j++) {
            float p = m->p[j] / sum * keep_factor(s, t, item, query, j);
            int64_t value = place(s, s->v, item, m->token[j]);
            for (int64_t d = 0; d < s->head_dim; d++) {
                out[d] += p * get(t->v, s->bf16, value + d);
            }
        }
        for (int64_t d = 0; d < s->head_dim; d++) {
            put(t->o, s->bf16, place(s, s->o, item, query) + d, out[d]);
        }
        t->lse[(item.b * s->heads + item.head) * s->query_len + query] = max + logf(sum);
    }
}

static void backward_row(const struct attention_shape *s, const struct attention_tensors *t,
                         struct item item, struct thread_memory *m, int64_t i)
{
    int64_t query = s->window ? m->token[i] : i;
    int64_t dim = s->head_dim;
    score_row(s, t, item, m, i);
    float lse = t->lse[(item.b * s->heads + item.head) * s->query_len + query];
    float dq[MAX_HEAD_DIM] = {0};
    float dout[MAX_HEAD_DIM];
    float dot = 0; /* sum_j p dp = dout . o */
    for (int64_t d = 0; d < dim; d++) {
        dout[d] = get(t->dout, s->bf16, place(s, s->dout, item, query) + d);
        dot += dout[d] * get(t->o, s->bf16, place(s, s->o, item, query) + d);
    }
    int64_t at = place(s, s->q, item, query);
    for (int64_t j = 0; j < item_keys(s); j++) {
        int64_t key = place(s, s->k, item, m->token[j]);
        int64_t value = place(s, s->v, item, m->token[j]);
        float p = expf(m->p[j] - lse);
        float keep = keep_factor(s, t, item, query, j);
        float dp = 0;
        for (int64_t d = 0; d < dim; d++) {
            dp += dout[d] * get(t->v, s->bf16, value + d);
            m->dv[j * dim + d] += p * keep * dout[d];
        }
        float ds = p * (dp * keep - dot);
        for (int64_t d = 0; d < dim; d++) {
            dq[d] += ds * s->scale * get(t->k, s->bf16, key + d);
            m->dk[j * dim + d] += ds * s->scale * get(t->q, s->bf16, at + d);
        }
        if (t->dbias_table) m->dbias[item.head * table_rows(s) + bias_index(s, i, j)] += ds;
    }
    for (int64_t d = 0; d < dim; d++) {
        put(t->dq, s->bf16, place(s, s->dq, item, query) + d, dq[d]);
    }
}

static void backward_item(const struct attention_shape *s, const struct attention_tensors *t,
                          struct item item, struct thread_memory *m)
{
    int64_t n = item_keys(s);
    map_tokens(s, item.window, m);
    memset(m->dk, 0, (size_t)(n * s->head_dim) * sizeof *m->dk);
    memset(m->dv, 0, (size_t)(n * s->head_dim) * sizeof *m->dv);
    for (int64_t i = 0; i < item_queries(s); i++) {
        backward_row(s, t, item, m, i);
    }
    for (int64_t j = 0; j < n; j++) {
        for (int64_t d = 0; d < s->head_dim; d++) {
            put(t->dk, s->bf16, place(s, s->dk, item, m->token[j]) + d, m->dk[j * s->head_dim + d]);
            put(t->dv, s->bf16, place(s, s->dv, item, m->token[j]) + d, m->dv[j * s->head_dim + d]);
        }
    }
}

void attention_run(const struct attention_shape *s, const struct attention_tensors *t,
                   int num_threads, enum cpu_isa isa, bool backward)
{
    (void)isa;
    size_t size = attention_scratch_size(s, 1);
    int64_t items = s->heads * s->batch * num_windows(s);
    int64_t rows = table_rows(s);
    assert(((uintptr_t)t->scratch & 63) == 0);
#pragma omp parallel for schedule(static, 1) num_threads(num_threads)
    for (int thread = 0; thread < num_threads; thread++) {
        struct thread_memory memory = {0};
        carve(s, (char *)t->scratch + (size_t)thread * size, &memory);
        memset(memory.dbias, 0, (size_t)(rows * s->heads) * sizeof *memory.dbias);
        int64_t end = items * (thread + 1) / num_threads;
        for (int64_t i = items * thread / num_threads; i < end; i++) {
            (backward ? backward_item : forward_item)(s, t, item_at(s, i), &memory);
        }
    }
    if (!backward || !t->dbias_table) return;
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t head = 0; head < s->heads; head++) {
            float sum = 0;
            for (int thread = 0; thread < num_threads; thread++) {
                struct thread_memory memory = {0};
                carve(s, (char *)t->scratch + (size_t)thread * size, &memory);
                sum += memory.dbias[head * rows + row];
            }
            t->dbias_table[row * s->heads + head] = sum;
        }
    }
}

void attention_forward(const struct attention_shape *shape, const struct attention_tensors *tensors,
                       int num_threads)
{
    attention_run(shape, tensors, num_threads, cpu_isa(), false);
}

void attention_backward(const struct attention_shape *shape,
                        const struct attention_tensors *tensors, int num_threads)
{
    attention_run(shape, tensors, num_threads, cpu_isa(), true);
}
