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

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

size_t attention_thread_init(const struct attention_job *job, struct attention_thread *thread,
                             void *base)
{
    size_t used = 0;
#define TAKE(field, count)                                                                         \
    do {                                                                                           \
        if (base) thread->field = (void *)((char *)base + used);                                   \
        used += ((size_t)(count) * sizeof *thread->field + 63) / 64 * 64;                          \
    } while (0)
    const struct attention_tensors *t = job->tensors;
    int64_t block = ATTENTION_ROWS * job->keys;
    int64_t window = job->shape->window ? job->nq * job->keys : 0;
    TAKE(token, larger(job->nq, job->nk));
    TAKE(region, job->keys);
    TAKE(plain, job->keys);
    TAKE(mask, job->keys);
    TAKE(add, ATTENTION_SLOTS * job->keys);
    TAKE(keep, ATTENTION_SLOTS * (job->keys + ATTENTION_KEEP_PAD));
    TAKE(bias, window);
    TAKE(dbias, window);
    TAKE(table, job->shape->heads * job->table);
    TAKE(k, job->deep_keys * job->dim);
    TAKE(v, job->deep_keys * job->dim);
    TAKE(k_pairs, job->deep_keys * job->dim);
    TAKE(v_pairs, job->deep_keys * job->dim);
    TAKE(kt, job->deep_keys * job->dim);
    TAKE(vt, job->deep_keys * job->dim);
    TAKE(dk, job->deep_keys * job->dim);
    TAKE(dv, job->deep_keys * job->dim);
    TAKE(q, ATTENTION_ROWS * job->dim);
    TAKE(dout, ATTENTION_ROWS * job->dim);
    TAKE(q_pairs, ATTENTION_ROWS * job->dim);
    TAKE(dout_pairs, ATTENTION_ROWS * job->dim);
    TAKE(q_t, ATTENTION_ROWS * job->dim);
    TAKE(dout_t, ATTENTION_ROWS * job->dim);
    TAKE(s, block);
    TAKE(dp, block);
    TAKE(p_pairs, block);
    TAKE(ds_pairs, block);
    TAKE(ds_rows, ATTENTION_ROWS * job->deep_keys);
    TAKE(out, ATTENTION_ROWS * job->dim);
    TAKE(row_a, ATTENTION_ROWS);
    TAKE(row_b, ATTENTION_ROWS);
#undef TAKE
    if (base && !(t && t->bias_table)) thread->bias = NULL;
    return used;
}

/* Which of the three shift mask bands a coordinate of the rolled grid is in. */
static int64_t band(int64_t at, int64_t length, const struct attention_shape *s)
{
    return (at >= length - s->window) + (at >= length - s->shift);
}

static void enter_window(const struct attention_job *job, struct attention_thread *thread,
                         int64_t window)
{
    const struct attention_shape *s = job->shape;
    int64_t across = s->grid_w / s->window;
    thread->has_regions = false;
    for (int64_t i = 0; i < job->nq; i++) {
        int64_t y = window / across * s->window + i / s->window;
        int64_t x = window % across * s->window + i % s->window;
        int64_t region = s->shift ? 3 * band(y, s->grid_h, s) + band(x, s->grid_w, s) : 0;
        thread->region[i] = (float)region;
        thread->has_regions |= thread->region[i] != thread->region[0];
        y = (y + s->shift) % s->grid_h;
        x = (x + s->shift) % s->grid_w;
        thread->token[i] = (int32_t)(y * s->grid_w + x);
    }
}

static void enter_all(const struct attention_job *job, struct attention_thread *thread)
{
    for (int64_t i = 0; i < larger(job->nq, job->nk); i++) {
        thread->token[i] = (int32_t)i;
    }
    memset(thread->region, 0, (size_t)job->keys * sizeof *thread->region);
    thread->has_regions = false;
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
    bool moved = thread->window != item.window;
    if (moved) {
        if (job->shape->window) {
            enter_window(job, thread, item.window);
        } else {
            enter_all(job, thread);
        }
    }
    if (moved || thread->batch != item.b) enter_mask(job, thread, item.b);
    if (thread->head != item.head && job->shape->window) {
        if (job->want_dbias) {
            attention_leave_head(job, thread);
            memset(thread->dbias, 0, (size_t)(job->nq * job->keys) * sizeof *thread->dbias);
        }
        if (t->bias_table) enter_head(job, thread, item.head);
    }
    thread->window = item.window;
    thread->batch = item.b;
    thread->head = item.head;
}
