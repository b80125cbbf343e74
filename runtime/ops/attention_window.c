/*
 * What an attention item needs to know about its place: which tokens its window holds, which of
 * them the shift and the key mask hide from each other, and the bias of its head spread out over
 * pairs.
 *
 * All of this is kept per thread and made anew only when the window, batch row or head changes;
 * items are ordered so that heads, whose bias is the largest of these, change least.
 *
 * The bias table is turned around on the way: for a query position i and a row y of key positions
 * the table rows run backwards through x, so one segment of `window` scores is one stretch of a
 * table that is mirrored in both directions, and spreading and its transpose move whole segments.
 */
#include <math.h>
#include <string.h>

#include "runtime/ops/attention_impl.h"

static const float log2e = 1.44269504088896341f;

/* Reserves space for `count` elements of owner->field, and sets it when there is memory. */
#define TAKE(owner, field, count)                                                                  \
    do {                                                                                           \
        if (base) (owner)->field = (void *)((char *)base + used);                                  \
        used += ((size_t)(count) * sizeof *(owner)->field + 63) / 64 * 64;                         \
    } while (0)

size_t attention_thread_init(const struct attention_job *job, struct attention_thread *thread,
                             void *base)
{
    size_t used = 0;
    const struct attention_tensors *t = job->tensors;
    int64_t block = ATTENTION_BLOCK * job->keys;
    int64_t window = job->shape->window ? job->nq * job->keys : 0;
    TAKE(thread, plain, job->keys);
    TAKE(thread, mask, job->keys);
    TAKE(thread, add, ATTENTION_SLOTS * job->keys);
    TAKE(thread, keep, ATTENTION_SLOTS * (job->keys + ATTENTION_KEEP_PAD));
    TAKE(thread, bias, window);
    TAKE(thread, dbias, window);
    TAKE(thread, table, job->shape->heads * job->table);
    TAKE(thread, k, job->deep_keys * job->dim);
    TAKE(thread, v, job->deep_keys * job->dim);
    TAKE(thread, k_pairs, job->deep_keys * job->dim);
    TAKE(thread, v_pairs, job->deep_keys * job->dim);
    TAKE(thread, kt, job->deep_keys * job->dim);
    TAKE(thread, vt, job->deep_keys * job->dim);
    TAKE(thread, dk, job->deep_keys * job->dim);
    TAKE(thread, dv, job->deep_keys * job->dim);
    TAKE(thread, q, ATTENTION_BLOCK * job->dim);
    TAKE(thread, dout, ATTENTION_BLOCK * job->dim);
    TAKE(thread, q_pairs, ATTENTION_BLOCK * job->dim);
    TAKE(thread, dout_pairs, ATTENTION_BLOCK * job->dim);
    TAKE(thread, q_t, ATTENTION_BLOCK * job->dim);
    TAKE(thread, dout_t, ATTENTION_BLOCK * job->dim);
    TAKE(thread, s, block);
    TAKE(thread, dp, block);
    TAKE(thread, p_pairs, block);
    TAKE(thread, ds_pairs, block);
    TAKE(thread, rows16, ATTENTION_ROWS * job->deep_keys);
    TAKE(thread, out, ATTENTION_ROWS * job->dim);
    TAKE(thread, row_a, ATTENTION_ROWS);
    TAKE(thread, row_b, ATTENTION_ROWS);
    if (base && !(t && t->bias_table)) thread->bias = NULL;
    return used;
}

/* Which of the three shift mask bands a coordinate of the rolled grid is in. */
static int64_t band(int64_t at, int64_t length, const struct attention_shape *s)
{
    return (at >= length - s->window) + (at >= length - s->shift);
}

/* Tokens and regions of one window, whose upper left corner in the rolled grid is (top, left). */
static void map_window(const struct attention_job *job, int64_t window, int64_t top, int64_t left)
{
    const struct attention_shape *s = job->shape;
    int32_t *token = job->token + window * job->tokens;
    float *region = job->region + window * job->keys;
    job->divided[window] = 0;
    for (int64_t y = top; y < top + s->window; y++) {
        int64_t from_y = y + s->shift < s->grid_h ? y + s->shift : y + s->shift - s->grid_h;
        for (int64_t x = left; x < left + s->window; x++) {
            int64_t from_x = x + s->shift < s->grid_w ? x + s->shift : x + s->shift - s->grid_w;
            *token++ = (int32_t)(from_y * s->grid_w + from_x);
            *region = s->shift ? (float)(3 * band(y, s->grid_h, s) + band(x, s->grid_w, s)) : 0;
            job->divided[window] |= *region++ != job->region[window * job->keys];
        }
    }
    for (int64_t i = job->nk; i < job->keys; i++) {
        *region++ = 0;
    }
}

static void map_tokens(const struct attention_job *job)
{
    const struct attention_shape *s = job->shape;
    if (!s->window) {
        for (int64_t i = 0; i < job->tokens; i++) {
            job->token[i] = (int32_t)i;
        }
        memset(job->region, 0, (size_t)job->keys * sizeof *job->region);
        job->divided[0] = 0;
        return;
    }
    int64_t across = s->grid_w / s->window;
    for (int64_t window = 0; window < job->windows; window++) {
        map_window(job, window, window / across * s->window, window % across * s->window);
    }
}

size_t attention_job_init(struct attention_job *job, void *base)
{
    size_t used = 0;
    TAKE(job, token, job->windows * job->tokens);
    TAKE(job, region, job->windows * job->keys);
    TAKE(job, divided, job->windows);
    if (base) map_tokens(job);
    return used;
}

static void enter_mask(const struct attention_job *job, struct attention_thread *thread, int64_t b)
{
    const int32_t *kept = job->tensors->key_mask;
    if (kept) kept += b * job->shape->key_len;
    thread->first_kept = job->nk;
    for (int64_t j = job->keys - 1; j >= 0; j--) {
        bool real = j < job->nk;
        bool hidden = real && kept && !kept[thread->token[j]];
        thread->plain[j] = real ? 0 : -INFINITY;
        thread->mask[j] = real ? (hidden ? job->mask2 : 0) : -INFINITY;
        if (real && !hidden) thread->first_kept = j;
    }
}

/* The stretch of the mirrored table of query position i and key row y. */
static int64_t stretch(const struct attention_shape *s, int64_t i, int64_t y)
{
    int64_t w = s->window;
    return (y - i / w + w - 1) * (2 * w - 1) + w - 1 - i % w;
}

/* Spreads the bias of a head; thread->table is free to hold the mirrored table: its part for this
 * head is written after. */
static void enter_head(const struct attention_job *job, struct attention_thread *thread,
                       int64_t head)
{
    const struct attention_shape *s = job->shape;
    float *mirrored = thread->table + head * job->table;
    for (int64_t row = 0; row < job->table; row++) {
        mirrored[job->table - 1 - row] = job->tensors->bias_table[row * s->heads + head] * log2e;
    }
    for (int64_t i = 0; i < job->nq; i++) {
        float *out = thread->bias + i * job->keys;
        for (int64_t y = 0; y < s->window; y++) {
            const float *in = mirrored + stretch(s, i, y);
            for (int64_t x = 0; x < s->window; x++) {
                out[y * s->window + x] = in[x];
            }
        }
        for (int64_t j = job->nk; j < job->keys; j++) {
            out[j] = -INFINITY;
        }
    }
    memset(mirrored, 0, (size_t)job->table * sizeof *mirrored);
}

void attention_leave_head(const struct attention_job *job, struct attention_thread *thread)
{
    if (thread->head < 0) return;
    const struct attention_shape *s = job->shape;
    float *table = thread->table + thread->head * job->table;
    for (int64_t i = 0; i < job->nq; i++) {
        const float *in = thread->dbias + i * job->keys;
        for (int64_t y = 0; y < s->window; y++) {
            float *out = table + stretch(s, i, y);
            for (int64_t x = 0; x < s->window; x++) {
                out[x] += in[y * s->window + x];
            }
        }
    }
    for (int64_t a = 0, b = job->table - 1; a < b; a++, b--) {
        float swap = table[a];
        table[a] = table[b];
        table[b] = swap;
    }
}

void attention_enter_item(const struct attention_job *job, struct attention_thread *thread,
                          struct attention_item item)
{
    const struct attention_tensors *t = job->tensors;
    const int32_t *token = job->token + item.window * job->tokens;
    bool moved = thread->token != token;
    thread->token = token;
    thread->region = job->region + item.window * job->keys;
    thread->has_regions = job->divided[item.window];
    if (thread->batch < 0 || (t->key_mask && (moved || thread->batch != item.b))) {
        enter_mask(job, thread, item.b);
    }
    thread->batch = item.b;
    if (thread->head == item.head) return;
    if (job->want_dbias) {
        attention_leave_head(job, thread);
        memset(thread->dbias, 0, (size_t)(job->nq * job->keys) * sizeof *thread->dbias);
    }
    if (t->bias_table) enter_head(job, thread, item.head);
    thread->head = item.head;
}
