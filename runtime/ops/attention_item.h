/*
 * Forward and backward of one attention item (one head of one window), for the instruction set of
 * the including file. That file defines ATTENTION_KERNELS, the name of the table it exports, and
 * ATTENTION_UNIT_BF16 when it multiplies bf16 (then tensors are bf16; otherwise either).
 *
 * Keys and values of an item are packed once, as the right-hand operands of attention_gemm.h. Query
 * rows are then taken in blocks of ATTENTION_ROWS, so that the scores of a block stay in the first
 * level cache from the product that makes them to the products that use them. Softmax and its
 * gradient are passes over that block. Scores are in units of log 2, so that exponentials are 2^x
 * and scale, bias and masks cost one multiply-add.
 */
#include <math.h>

#include "runtime/ops/attention_gemm.h"
#include "runtime/ops/attention_impl.h"
#if defined(ATTENTION_AMX)
#include "runtime/ops/attention_tiles.h"
#endif

#if defined(ATTENTION_UNIT_BF16)
enum { UNIT = 2 }; /* elements of a unit */
#else
enum { UNIT = 1 };
#endif

static const float log2e = 1.44269504088896341f;
static const float ln2 = 0.693147180559945309f;

/* ---- products ---- */

#if defined(ATTENTION_AMX)
/* C = A B, A by rows. */
static void gemm_rows(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t lda,
                      const float *b, float *c)
{
    rows = (rows + TILE - 1) / TILE * TILE;
    depth = (depth + TILE - 1) / TILE * TILE;
    tile_gemm(false, rows, columns, depth, a, lda, b, columns, c, columns);
}

/* C^T += B^T A, for A[depth, rows] and B^T[columns, ATTENTION_ROWS / 2] with zeros beyond depth. */
static void gemm_columns(int64_t rows, int64_t columns, int64_t depth, const float *a,
                         const float *bt, float *ct)
{
    int64_t lda = (rows + TILE - 1) / TILE * TILE;
    depth = (depth + TILE - 1) / TILE * TILE;
    tile_gemm(true, columns, lda, depth, bt, ATTENTION_ROWS / 2, a, lda, ct, lda);
}
#else
/* C = A B, A by rows. */
static void gemm_rows(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t lda,
                      const float *b, float *c)
{
    gemm(false, false, (rows + 3) / 4 * 4, columns, depth, a, lda, b, columns, c, columns);
}

/* C += A^T B, for A[depth, rows padded to VF] and B[depth, columns]. */
static void gemm_columns(int64_t rows, int64_t columns, int64_t depth, const float *a,
                         const float *b, float *c)
{
    int64_t lda = (rows + 15) / 16 * 16;
    gemm(true, true, (rows + 3) / 4 * 4, columns, depth, a, lda, b, columns, c, columns);
}
#endif

/* ---- packing ---- */

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
static void pack_rows(const struct attention_job *job, const struct attention_thread *thread,
                      struct attention_item item, const void *in, struct attention_stride stride,
                      int64_t first, int64_t count, int64_t padded, float *out)
{
    int64_t width = job->dim / UNIT;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = attention_place(job, stride, item, thread->token[first + i]);
        load_row(job, in, at, out + i * width);
    }
    memset(out + count * width, 0, (size_t)((padded - count) * width) * sizeof *out);
}

static void unpack_rows(const struct attention_job *job, const struct attention_thread *thread,
                        struct attention_item item, void *out, struct attention_stride stride,
                        const float *in, float factor)
{
    for (int64_t i = 0; i < job->nk; i++) {
        int64_t at = attention_place(job, stride, item, thread->token[i]);
        store_row(job, out, at, in + i * job->dim, factor);
    }
}

/* Units [rows, width] to [width, rows]. */
static void pack_transposed(const float *in, int64_t rows, int64_t width, float *out)
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
static void pack_pairs(const float *in, int64_t rows, int64_t dim, float *out)
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

/* ---- what is added to the scores ---- */

/* Draws thread->keep for window position i; returns where element 0 is. */
static const float *draw_keep(const struct attention_job *job, struct attention_thread *thread,
                              struct attention_item item, int64_t i, int64_t slot)
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
static const float *add_row(const struct attention_job *job, struct attention_thread *thread,
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

/* ---- forward ---- */

/* VF keys of softmax row r: in place, or as bf16. */
INLINE void store_p(const struct attention_job *job, struct attention_thread *thread, int64_t r,
                    int64_t j, vf p)
{
#if defined(ATTENTION_UNIT_BF16)
    vf_store_bf16((bf16 *)thread->ds_rows + r * job->deep_keys + j, p);
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
    REPEAT (i, GROUP) {
        top[i] = vf_top(max[i]);
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
    REPEAT (i, GROUP)
        sum[i] = vf_sum(total[i]);
}

/* Softmax of query rows [first, first + rows), not divided by its sums: row_a has what to multiply
 * the products with, lse is written. */
static void softmax_block(const struct attention_job *job, struct attention_thread *thread,
                          struct attention_item item, int64_t first, int64_t rows)
{
    const struct attention_shape *s = job->shape;
    float *lse = job->tensors->lse + (item.b * s->heads + item.head) * s->query_len;
    for (int64_t r = 0; r < rows; r += GROUP) {
        const float *add[GROUP];
        const float *keep[GROUP];
        float top[GROUP];
        float sum[GROUP];
        int64_t real = rows - r < GROUP ? rows - r : GROUP;
        for (int64_t i = 0; i < GROUP; i++) {
            add[i] = i < real ? add_row(job, thread, first + r + i, i) : thread->plain;
            keep[i] = add[i];
            if (s->dropout > 0 && i < real)
                keep[i] = draw_keep(job, thread, item, first + r + i, i);
        }
        softmax_rows(job, thread, r, add, s->dropout > 0 ? keep : NULL, top, sum);
        for (int64_t i = 0; i < real; i++) {
            thread->row_a[r + i] = job->keep_scale / sum[i];
            lse[thread->token[first + r + i]] = (top[i] + log2f(sum[i])) * ln2;
        }
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
    p = thread->ds_rows;
#endif
    for (int64_t first = 0; first < job->nq; first += ATTENTION_ROWS) {
        int64_t rows = job->nq - first < ATTENTION_ROWS ? job->nq - first : ATTENTION_ROWS;
        pack_rows(job, thread, item, t->q, s->q, first, rows, ATTENTION_ROWS, thread->q);
        gemm_rows(rows, job->keys, units, thread->q, width, thread->kt, thread->s);
        softmax_block(job, thread, item, first, rows);
        gemm_rows(rows, job->dim, depth, p, job->deep_keys / UNIT, value, thread->out);
        for (int64_t r = 0; r < rows; r++) {
            int64_t at = attention_place(job, s->o, item, thread->token[first + r]);
            store_row(job, t->o, at, thread->out + r * job->dim, thread->row_a[r]);
        }
    }
#if defined(ATTENTION_AMX)
    tiles_end();
#endif
}

/* ---- backward ---- */

/* sum_j p dp of a row: the product of o and its gradient (FlashAttention, appendix B.2). */
INLINE float dot_row(const struct attention_job *job, const void *a, int64_t at_a, const void *b,
                     int64_t at_b)
{
    int64_t dim = job->shape->head_dim;
    int64_t d = 0;
    vf sum = vf_set(0);
    float rest = 0;
    if (job->shape->bf16) {
        const bf16 *x = (const bf16 *)a + at_a;
        const bf16 *y = (const bf16 *)b + at_b;
        for (; d + VF <= dim; d += VF) {
            sum = vf_fma(vf_load_bf16(x + d), vf_load_bf16(y + d), sum);
        }
        for (; d < dim; d++)
            rest += bf16_to_f32(x[d]) * bf16_to_f32(y[d]);
    } else {
        const float *x = (const float *)a + at_a;
        const float *y = (const float *)b + at_b;
        for (; d + VF <= dim; d += VF)
            sum = vf_fma(vf_load(x + d), vf_load(y + d), sum);
        for (; d < dim; d++)
            rest += x[d] * y[d];
    }
    return vf_sum(sum) + rest;
}

/* What a row of the softmax gradient needs besides the products. */
struct gradient_row {
    float *s, *dp; /* become p and ds */
    const float *add, *keep;
    float *dbias;
    float lse2, dot;
};

INLINE void gradient_at(const struct attention_job *job, const struct gradient_row *row, int count,
                        int64_t j)
{
    vf p[4];
    REPEAT (i, count) {
        int64_t at = j + i * VF;
        p[i] = vf_fma(vf_load(row->s + at), vf_set(job->scale2), vf_load(row->add + at));
    }
    REPEAT (i, count)
        p[i] = vf_sub(p[i], vf_set(row->lse2));
    vf_exp2(count, p, UNIT == 2);
    REPEAT (i, count) {
        int64_t at = j + i * VF;
        vf dp = vf_load(row->dp + at);
        vf kept = p[i];
        if (row->keep) {
            vf keep = vf_mul(vf_load(row->keep + at), vf_set(job->keep_scale));
            dp = vf_mul(dp, keep);
            kept = vf_mul(p[i], keep);
        }
        vf ds = vf_mul(p[i], vf_sub(dp, vf_set(row->dot)));
        if (row->dbias) vf_store(row->dbias + at, vf_add(vf_load(row->dbias + at), ds));
        vf_store(row->s + at, kept);
        vf_store(row->dp + at, ds);
    }
}

static struct gradient_row gradient_row(const struct attention_job *job,
                                        struct attention_thread *thread, struct attention_item item,
                                        int64_t first, int64_t r)
{
    struct gradient_row row = {.s = thread->s + r * job->keys,
                               .dp = thread->dp + r * job->keys,
                               .add = add_row(job, thread, first + r, 0),
                               .lse2 = thread->row_a[r],
                               .dot = thread->row_b[r]};
    if (job->shape->dropout > 0) row.keep = draw_keep(job, thread, item, first + r, 0);
    if (job->want_dbias) row.dbias = thread->dbias + (first + r) * job->keys;
    return row;
}

/* s becomes p and dp becomes ds. */
static void gradient_rows(const struct attention_job *job, struct attention_thread *thread,
                          struct attention_item item, int64_t first, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        struct gradient_row row = gradient_row(job, thread, item, first, r);
        int64_t j = 0;
        for (; j + 4 * VF <= job->keys; j += 4 * VF)
            gradient_at(job, &row, 4, j);
        for (; j < job->keys; j += VF)
            gradient_at(job, &row, 1, j);
    }
}

#if defined(ATTENTION_UNIT_BF16)
/* p and ds as bf16: ds by rows for dq, both as units of two rows for dv and dk. */
static void round_gradients(const struct attention_job *job, struct attention_thread *thread,
                            int64_t rows)
{
    int64_t keys = job->keys;
    if (rows % 2) {
        memset(thread->s + rows * keys, 0, (size_t)keys * sizeof *thread->s);
        memset(thread->dp + rows * keys, 0, (size_t)keys * sizeof *thread->dp);
    }
#if defined(ATTENTION_AMX)
    {
        int64_t used = (rows + 1) / 2;
        size_t rest = (size_t)((ATTENTION_ROWS / 2 - used) * keys) * sizeof *thread->p_pairs;
        memset(thread->p_pairs + used * keys, 0, rest);
        memset(thread->ds_pairs + used * keys, 0, rest);
    }
#endif
    for (int64_t r = 0; r < rows; r += 2) {
        const float *p = thread->s + r * keys;
        const float *ds = thread->dp + r * keys;
        bf16 *ds_row = (bf16 *)thread->ds_rows + r * job->deep_keys;
        for (int64_t j = 0; j < keys; j += VF) {
            __m512i p2 = (__m512i)_mm512_cvtne2ps_pbh(vf_load(p + keys + j), vf_load(p + j));
            __m512i ds2 = (__m512i)_mm512_cvtne2ps_pbh(vf_load(ds + keys + j), vf_load(ds + j));
            _mm512_storeu_si512(thread->p_pairs + r / 2 * keys + j, pair_halves(p2));
            _mm512_storeu_si512(thread->ds_pairs + r / 2 * keys + j, pair_halves(ds2));
            _mm256_storeu_si256((__m256i *)(ds_row + j), _mm512_castsi512_si256(ds2));
            _mm256_storeu_si256((__m256i *)(ds_row + job->deep_keys + j),
                                _mm512_extracti64x4_epi64(ds2, 1));
        }
    }
}
#endif

/* Loads query rows [first, first + rows): q, dout, lse and the dot products. */
static void load_block(const struct attention_job *job, struct attention_thread *thread,
                       struct attention_item item, int64_t first, int64_t rows)
{
    const struct attention_shape *s = job->shape;
    const struct attention_tensors *t = job->tensors;
    const float *lse = t->lse + (item.b * s->heads + item.head) * s->query_len;
    pack_rows(job, thread, item, t->q, s->q, first, rows, ATTENTION_ROWS, thread->q);
    pack_rows(job, thread, item, t->dout, s->dout, first, rows, ATTENTION_ROWS, thread->dout);
    for (int64_t r = 0; r < rows; r++) {
        int64_t token = thread->token[first + r];
        thread->row_a[r] = lse[token] * log2e;
        thread->row_b[r] = dot_row(job, t->dout, attention_place(job, s->dout, item, token), t->o,
                                   attention_place(job, s->o, item, token));
    }
#if defined(ATTENTION_UNIT_BF16)
    pack_pairs(thread->q, ATTENTION_ROWS, job->dim, thread->q_pairs);
    pack_pairs(thread->dout, ATTENTION_ROWS, job->dim, thread->dout_pairs);
#endif
#if defined(ATTENTION_AMX)
    pack_transposed(thread->q_pairs, ATTENTION_ROWS / 2, job->dim, thread->q_t);
    pack_transposed(thread->dout_pairs, ATTENTION_ROWS / 2, job->dim, thread->dout_t);
#endif
}

static void backward_item(const struct attention_job *job, struct attention_thread *thread,
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
    pack_rows(job, thread, item, t->v, s->v, 0, job->nk, job->deep_keys, thread->v);
    pack_transposed(thread->k, job->keys, width, thread->kt);
    pack_transposed(thread->v, job->keys, width, thread->vt);
    memset(thread->dk, 0, (size_t)(job->keys * job->dim) * sizeof *thread->dk);
    memset(thread->dv, 0, (size_t)(job->keys * job->dim) * sizeof *thread->dv);
#if defined(ATTENTION_UNIT_BF16)
    pack_pairs(thread->k, job->deep_keys, job->dim, thread->k_pairs);
    const float *key = thread->k_pairs;
#if defined(ATTENTION_AMX)
    const float *query = thread->q_t, *dout = thread->dout_t;
#else
    const float *query = thread->q_pairs, *dout = thread->dout_pairs;
#endif
    const float *p = thread->p_pairs, *ds = thread->ds_pairs, *ds_rows = thread->ds_rows;
#else
    const float *key = thread->k, *query = thread->q, *dout = thread->dout;
    const float *p = thread->s, *ds = thread->dp, *ds_rows = thread->dp;
#endif
    for (int64_t first = 0; first < job->nq; first += ATTENTION_ROWS) {
        int64_t rows = job->nq - first < ATTENTION_ROWS ? job->nq - first : ATTENTION_ROWS;
        load_block(job, thread, item, first, rows);
        gemm_rows(rows, job->keys, units, thread->q, width, thread->kt, thread->s);
        gemm_rows(rows, job->keys, units, thread->dout, width, thread->vt, thread->dp);
        gradient_rows(job, thread, item, first, rows);
#if defined(ATTENTION_UNIT_BF16)
        round_gradients(job, thread, rows);
#endif
        gemm_rows(rows, job->dim, depth, ds_rows, job->deep_keys / UNIT, key, thread->out);
        for (int64_t r = 0; r < rows; r++) {
            int64_t at = attention_place(job, s->dq, item, thread->token[first + r]);
            store_row(job, t->dq, at, thread->out + r * job->dim, s->scale);
        }
        int64_t row_units = (rows + UNIT - 1) / UNIT;
        gemm_columns(job->nk, job->dim, row_units, p, dout, thread->dv);
        gemm_columns(job->nk, job->dim, row_units, ds, query, thread->dk);
    }
    const float *dk = thread->dk, *dv = thread->dv;
#if defined(ATTENTION_AMX)
    pack_transposed(thread->dk, job->dim, job->keys, thread->kt);
    pack_transposed(thread->dv, job->dim, job->keys, thread->vt);
    dk = thread->kt;
    dv = thread->vt;
    tiles_end();
#endif
    unpack_rows(job, thread, item, t->dk, s->dk, dk, s->scale);
    unpack_rows(job, thread, item, t->dv, s->dv, dv, 1);
}

const struct attention_kernels ATTENTION_KERNELS = {
    .forward = forward_item,
    .backward = backward_item,
#if defined(ATTENTION_AMX)
    .deep_key_pad = 32,
#else
    .deep_key_pad = 16,
#endif
    .dim_pad = 16 * UNIT,
};
