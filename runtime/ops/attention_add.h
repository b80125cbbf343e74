/*
 * What is added to a row of scores, and which entries of a softmax row dropout keeps.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_ADD_H
#define WEFT_RUNTIME_OPS_ATTENTION_ADD_H

#include "runtime/ops/attention_impl.h"
#include "runtime/ops/attention_simd.h"

static const float log2e = 1.44269504088896341f;
static const float ln2 = 0.693147180559945309f;

/* Draws thread->keep for window position i; returns where element 0 is. */
static inline const float *draw_keep(const struct attention_job *job,
                                     struct attention_thread *thread, struct attention_item item,
                                     int64_t i, int64_t slot)
{
    const struct attention_shape *s = job->shape;
    const struct attention_random *random = &job->tensors->random;
    int64_t copy = item.b / random->samples;
    uint64_t sample = random->sample_base + (uint64_t)(item.b % random->samples);
    int64_t e = ((copy * s->heads + item.head) * s->query_len + thread->token[i]) * job->nk;
    float *start = thread->keep + slot * (job->keys + ATTENTION_KEEP_PAD);
    float *keep = start;
    for (int64_t at = e / 4 * 4; at < e + job->keys; at += 4 * PHILOX_BLOCKS) {
        philox_keep(random->key, random->step, sample, (uint32_t)(at / 4), job->drop_below, keep);
        keep += 4 * PHILOX_BLOCKS;
    }
    return start + e % 4;
}

/*
 * What is added to the scores of window position i: [keys], -infinity in the padding. Either a row
 * that exists, or one made in thread->add; its rows `slot` < ATTENTION_SLOTS are independent.
 */
static inline const float *add_row(const struct attention_job *job, struct attention_thread *thread,
                                   int64_t i, int64_t slot)
{
    bool causal = job->shape->causal;
    bool masked =
        causal ? thread->first_kept <= i : job->tensors->key_mask && thread->first_kept < job->nk;
    const float *mask = masked ? thread->mask : thread->plain;
    const float *bias = thread->bias ? thread->bias + i * job->keys : NULL;
    if (!bias && !thread->has_regions && !(causal && masked)) return mask;
    if (bias && !thread->has_regions && !masked) return bias;
    float *made = thread->add + slot * job->keys;
    vf region = vf_set(thread->region[i]);
    vf shift = vf_set(ATTENTION_SHIFT_MASK * log2e);
    for (int64_t j = 0; j < job->keys; j += VF) {
        vf sum = vf_load(mask + j);
        if (bias) sum = vf_add(sum, vf_load(bias + j));
        if (thread->has_regions) {
            sum = vf_add(sum, vf_where_differ(region, vf_load(thread->region + j), shift));
        }
        vf_store(made + j, sum);
    }
    if (causal && masked) {
        for (int64_t j = i + 1; j < job->nk; j++)
            made[j] = job->mask2;
    }
    return made;
}

#endif
