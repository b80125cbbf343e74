/* The forward of one item; attention_item.h has the plan. */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_FORWARD_H
#define WEFT_RUNTIME_OPS_ATTENTION_FORWARD_H

#include <math.h>

#include "runtime/ops/attention_add.h"
#include "runtime/ops/attention_pack.h"

/* VF keys of softmax row r: in place, or as bf16. */
INLINE void store_p(const struct attention_job *job, struct attention_thread *thread, int64_t r,
                    int64_t j, vf p)
{
#if defined(ATTENTION_UNIT_BF16)
    vf_store_bf16((bf16 *)thread->rows16 + r * job->deep_keys + j, p);
#else
    vf_store(thread->s + r * job->keys + j, p);
#endif
}

/* Rows of a block that softmax takes together. */
enum { GROUP = 4 };

/*
 * Turns GROUP rows of the block's products, from row r on, into 2^(score - top), where top is the
 * largest of a row, and gives their sums. A row of the padding has add = plain.
 */
INLINE void softmax_rows(const struct attention_job *job, struct attention_thread *thread,
                         int64_t r, const float *const *add, const float *const *keep, float *top,
                         float *sum)
{
    int64_t keys = job->keys;
    float *s = thread->s + r * keys;
    vf scale = vf_set(job->scale2);
    vf max[GROUP];
    vf total[GROUP];
    REPEAT (i, GROUP)
        max[i] = vf_set(-INFINITY);
    for (int64_t j = 0; j < keys; j += VF) {
        REPEAT (i, GROUP) {
            vf x = vf_fma(vf_load(s + i * keys + j), scale, vf_load(add[i] + j));
            vf_store(s + i * keys + j, x);
            max[i] = vf_max(max[i], x);
        }
    }
    vf_top_4(max, top);
    REPEAT (i, GROUP) {
        max[i] = vf_set(top[i]);
        total[i] = vf_set(0);
    }
    for (int64_t j = 0; j < keys; j += VF) {
        vf p[GROUP];
        REPEAT (i, GROUP)
            p[i] = vf_sub(vf_load(s + i * keys + j), max[i]);
        vf_exp2(GROUP, p, UNIT == 2);
        REPEAT (i, GROUP) {
            total[i] = vf_add(total[i], p[i]);
            if (keep) p[i] = vf_mul(p[i], vf_load(keep[i] + j));
            store_p(job, thread, r + i, j, p[i]);
        }
    }
    vf_sum_4(total, sum);
}

/* Softmax of query rows [first, first + rows), not divided by its sums: row_a has what to multiply
 * the products with, lse is written. */
static void softmax_block(const struct attention_job *job, struct attention_thread *thread,
                          struct attention_item item, int64_t first, int64_t rows)
{
    const struct attention_shape *s = job->shape;
    float *lse = job->tensors->lse + (item.b * s->heads + item.head) * s->query_len;
    float *top = thread->row_a, *sum = thread->row_b;
    for (int64_t r = 0; r < rows; r += GROUP) {
        const float *add[GROUP];
        const float *keep[GROUP];
        for (int64_t i = 0; i < GROUP; i++) {
            bool real = r + i < rows;
            add[i] = real ? add_row(job, thread, first + r + i, i) : thread->plain;
            keep[i] = thread->mask;
            if (!real) continue;
            read_ahead(job, thread, item, first + r + i, false);
            if (s->dropout > 0) keep[i] = draw_keep(job, thread, item, first + r + i, i);
        }
        softmax_rows(job, thread, r, add, s->dropout > 0 ? keep : NULL, top + r, sum + r);
    }
    for (int64_t r = 0; r < rows; r += VF) {
        vf total = vf_load(sum + r);
        vf_store(sum + r, vf_mul(vf_add(vf_load(top + r), vf_log2(total)), vf_set(ln2)));
        vf_store(top + r, vf_div(vf_set(job->keep_scale), total));
    }
    for (int64_t r = 0; r < rows; r++) {
        lse[thread->token[first + r]] = sum[r];
    }
}

static void forward_item(const struct attention_job *job, struct attention_thread *thread,
                         struct attention_item item)
{
    const struct attention_shape *s = job->shape;
    const struct attention_tensors *t = job->tensors;
    int64_t units = (s->head_dim + UNIT - 1) / UNIT;
    int64_t depth = (job->nk + UNIT - 1) / UNIT;
    int64_t width = job->dim / UNIT;
    attention_enter_item(job, thread, item);
#if defined(ATTENTION_AMX)
    tiles_begin();
#endif
    pack_rows(job, thread, item, t->k, s->k, 0, job->nk, job->deep_keys, thread->k);
    pack_transposed(thread->k, job->keys, width, thread->kt);
    pack_rows(job, thread, item, t->v, s->v, 0, job->nk, job->deep_keys, thread->v);
    const float *value = thread->v;
    const float *p = thread->s;
#if defined(ATTENTION_UNIT_BF16)
    pack_pairs(thread->v, job->deep_keys, job->dim, thread->v_pairs);
    value = thread->v_pairs;
    p = thread->rows16;
#endif
    for (int64_t first = 0; first < job->nq; first += ATTENTION_ROWS) {
        int64_t rows = job->nq - first < ATTENTION_ROWS ? job->nq - first : ATTENTION_ROWS;
        pack_rows(job, thread, item, t->q, s->q, first, rows, ATTENTION_ROWS, thread->q);
        product_rows(rows, job->keys, units, thread->q, width, thread->kt, thread->s);
        softmax_block(job, thread, item, first, rows);
        product_rows(rows, job->dim, depth, p, job->deep_keys / UNIT, value, thread->out);
        for (int64_t r = 0; r < rows; r++) {
            int64_t at = attention_place(job, s->o, item, thread->token[first + r]);
            store_row(job, t->o, at, thread->out + r * job->dim, thread->row_a[r]);
        }
    }
#if defined(ATTENTION_AMX)
    tiles_end();
#endif
}

#endif
