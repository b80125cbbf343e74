/*
 * Rows of tensors as operands of the products, and results back into rows: gathered by token,
 * converted, padded with zeros, and turned the ways that attention_gemm.h wants them.
 *
 * Also reading ahead. Rows of a head lie thousands of bytes apart, where a processor does not
 * expect them; asked for an item ahead, they are in the second level cache when they are packed.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_PACK_H
#define WEFT_RUNTIME_OPS_ATTENTION_PACK_H

#include "runtime/ops/attention_impl.h"
#include "runtime/ops/attention_unit.h"

/* A row of head_dim elements at `in` as `dim / UNIT` units, zero-padded. */
INLINE void load_row(const struct attention_job *job, const void *in, int64_t at, float *out)
{
    int64_t dim = job->shape->head_dim;
    int64_t d = 0;
#if defined(ATTENTION_UNIT_BF16)
    const bf16 *row = (const bf16 *)in + at;
    bf16 *to = (bf16 *)out;
    for (; d + 16 <= dim; d += 16) {
        _mm256_storeu_si256((__m256i *)(to + d), _mm256_loadu_si256((const __m256i *)(row + d)));
    }
    for (; d < dim; d++)
        to[d] = row[d];
    for (; d < job->dim; d++)
        to[d] = 0;
#else
    if (job->shape->bf16) {
        const bf16 *row = (const bf16 *)in + at;
        for (; d + VF <= dim; d += VF)
            vf_store(out + d, vf_load_bf16(row + d));
        for (; d < dim; d++)
            out[d] = bf16_to_f32(row[d]);
    } else {
        const float *row = (const float *)in + at;
        for (; d + VF <= dim; d += VF)
            vf_store(out + d, vf_load(row + d));
        for (; d < dim; d++)
            out[d] = row[d];
    }
    for (; d < job->dim; d++)
        out[d] = 0;
#endif
}

/* factor * row to the tensor. */
INLINE void store_row(const struct attention_job *job, void *out, int64_t at, const float *row,
                      float factor)
{
    int64_t dim = job->shape->head_dim;
    int64_t d = 0;
    vf scale = vf_set(factor);
    if (job->shape->bf16) {
        bf16 *to = (bf16 *)out + at;
        for (; d + VF <= dim; d += VF)
            vf_store_bf16(to + d, vf_mul(vf_load(row + d), scale));
        for (; d < dim; d++)
            to[d] = bf16_from_f32(row[d] * factor);
    } else {
        float *to = (float *)out + at;
        for (; d + VF <= dim; d += VF)
            vf_store(to + d, vf_mul(vf_load(row + d), scale));
        for (; d < dim; d++)
            to[d] = row[d] * factor;
    }
}

/* Rows of positions [first, first + count) of the item, then rows of zeros up to `padded`. */
static inline void pack_rows(const struct attention_job *job, const struct attention_thread *thread,
                             struct attention_item item, const void *in,
                             struct attention_stride stride, int64_t first, int64_t count,
                             int64_t padded, float *out)
{
    int64_t width = job->dim / UNIT;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = attention_place(job, stride, item, thread->token[first + i]);
        load_row(job, in, at, out + i * width);
    }
    memset(out + count * width, 0, (size_t)((padded - count) * width) * sizeof *out);
}

static inline void unpack_rows(const struct attention_job *job,
                               const struct attention_thread *thread, struct attention_item item,
                               void *out, struct attention_stride stride, const float *in,
                               float factor)
{
    for (int64_t i = 0; i < job->nk; i++) {
        int64_t at = attention_place(job, stride, item, thread->token[i]);
        store_row(job, out, at, in + i * job->dim, factor);
    }
}

/* Units [rows, width] to [width, rows]. */
static inline void pack_transposed(const float *in, int64_t rows, int64_t width, float *out)
{
    for (int64_t i = 0; i < rows; i += VF) {
        for (int64_t j = 0; j < width; j += VF) {
            vf_transpose(in + i * width + j, width, out + j * rows + i, rows);
        }
    }
}

#if defined(ATTENTION_UNIT_BF16)
/* Units of (a, b) in order, from a's 16 bf16 in the lower and b's in the upper half. */
INLINE __m512i pair_halves(__m512i halves)
{
    const __m512i order =
        _mm512_set_epi32(0x001F000F, 0x001E000E, 0x001D000D, 0x001C000C, 0x001B000B, 0x001A000A,
                         0x00190009, 0x00180008, 0x00170007, 0x00160006, 0x00150005, 0x00140004,
                         0x00130003, 0x00120002, 0x00110001, 0x00100000);
    return _mm512_permutexvar_epi16(order, halves);
}

/* bf16 rows [rows, dim] (rows even) to units [rows / 2, dim] of two rows. */
static inline void pack_pairs(const float *in, int64_t rows, int64_t dim, float *out)
{
    const bf16 *from = (const bf16 *)in;
    for (int64_t i = 0; i < rows; i += 2) {
        for (int64_t d = 0; d < dim; d += 16) {
            __m256i a = _mm256_loadu_si256((const __m256i *)(from + i * dim + d));
            __m256i b = _mm256_loadu_si256((const __m256i *)(from + (i + 1) * dim + d));
            __m512i halves = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
            _mm512_storeu_si512(out + i / 2 * dim + d, pair_halves(halves));
        }
    }
}
#endif

/*
 * Rows of a head lie thousands of bytes apart, where a processor does not expect them. So while the
 * softmax of query row i is computed, the rows of the next item that its loading will want are
 * asked for, and the rows of this item that its results will go to.
 */
INLINE void touch_row(const struct attention_job *job, const void *tensor,
                      struct attention_stride stride, struct attention_item item, int64_t token)
{
    int64_t size = job->shape->bf16 ? 2 : 4;
    const char *row = (const char *)tensor + attention_place(job, stride, item, token) * size;
    for (int64_t at = 0; at < job->shape->head_dim * size; at += 64) {
        __builtin_prefetch(row + at, 0, 2);
    }
}

/*
 * While the softmax of query row i is computed: asks for the rows of the next item that will be
 * packed, and for those of this item that results will go to. All query rows of an item together
 * touch all key rows.
 */
INLINE void read_ahead(const struct attention_job *job, struct attention_thread *thread,
                       struct attention_item item, int64_t i, bool backward)
{
    const struct attention_shape *s = job->shape;
    const struct attention_tensors *t = job->tensors;
    const int32_t *token = job->token + thread->next.window * job->tokens;
    if (i == 0) thread->next_key = 0;
    touch_row(job, backward ? t->dq : t->o, backward ? s->dq : s->o, item, thread->token[i]);
    if (thread->has_next) {
        touch_row(job, t->q, s->q, thread->next, token[i]);
        if (backward) touch_row(job, t->dout, s->dout, thread->next, token[i]);
        if (backward && !s->bf16) touch_row(job, t->o, s->o, thread->next, token[i]);
    }
    for (; thread->next_key * job->nq < (i + 1) * job->nk; thread->next_key++) {
        int64_t j = thread->next_key;
        if (thread->has_next) {
            touch_row(job, t->k, s->k, thread->next, token[j]);
            touch_row(job, t->v, s->v, thread->next, token[j]);
        }
        if (backward) touch_row(job, t->dk, s->dk, item, thread->token[j]);
        if (backward) touch_row(job, t->dv, s->dv, item, thread->token[j]);
    }
}

#endif
