/* The backward of one item; attention_item.h has the plan. */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_BACKWARD_H
#define WEFT_RUNTIME_OPS_ATTENTION_BACKWARD_H

#include "runtime/ops/attention_add.h"
#include "runtime/ops/attention_pack.h"

/* The products of head_dim f32 elements at a and b: in a vector those that fill vectors, the sum of
 * the others in `rest`. */
INLINE vf dot_parts(const struct attention_job *job, const float *a, const float *b, float *rest)
{
    int64_t dim = job->shape->head_dim;
    int64_t d = 0;
    vf sum = vf_set(0);
    *rest = 0;
    for (; d + VF <= dim; d += VF) {
        sum = vf_fma(vf_load(a + d), vf_load(b + d), sum);
    }
    for (; d < dim; d++) {
        *rest += a[d] * b[d];
    }
    return sum;
}

/*
 * Per query row of [first, first + rows): row_a = lse in units of log 2, and of f32 tensors row_b =
 * sum_j p dp, which is the product of o and its gradient (FlashAttention, appendix B.2). Where a
 * softmax is even, ds = p (dp - sum p dp) is a small difference of large numbers; o in bf16 has too
 * few digits for it, so weigh_rows adds up p dp itself.
 */
static void load_statistics(const struct attention_job *job, struct attention_thread *thread,
                            struct attention_item item, int64_t first, int64_t rows)
{
    const struct attention_shape *s = job->shape;
    const struct attention_tensors *t = job->tensors;
    const float *lse = t->lse + (item.b * s->heads + item.head) * s->query_len;
    for (int64_t r = 0; r < rows; r++) {
        thread->row_a[r] = lse[thread->token[first + r]] * log2e;
    }
    for (int64_t r = 0; r < rows && !s->bf16; r += 4) {
        vf sum[4] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
        float rest[4] = {0};
        for (int64_t i = 0; i < 4 && r + i < rows; i++) {
            int64_t token = thread->token[first + r + i];
            int64_t o = attention_place(job, s->o, item, token);
            int64_t dout = attention_place(job, s->dout, item, token);
            sum[i] =
                dot_parts(job, (const float *)t->o + o, (const float *)t->dout + dout, &rest[i]);
        }
        vf_sum_4(sum, thread->row_b + r);
        for (int64_t i = 0; i < 4; i++) {
            thread->row_b[r + i] += rest[i];
        }
    }
}

/* What a row of the softmax gradient is computed from. */
struct gradient_row {
    float *s, *dp; /* the products */
    const float *add, *keep;
    float *dbias;
    float lse2, dot;
};

/* Row r of the current ATTENTION_ROWS, window position i; `slot` as in add_row. */
INLINE struct gradient_row gradient_row(const struct attention_job *job,
                                        struct attention_thread *thread, struct attention_item item,
                                        float *s, float *dp, int64_t r, int64_t i, int64_t slot)
{
    struct gradient_row row = {.s = s + r * job->keys,
                               .dp = dp + r * job->keys,
                               .add = add_row(job, thread, i, slot),
                               .lse2 = thread->row_a[r],
                               .dot = thread->row_b[r]};
    if (job->shape->dropout > 0) row.keep = draw_keep(job, thread, item, i, slot);
    if (job->want_dbias) row.dbias = thread->dbias + i * job->keys;
    read_ahead(job, thread, item, i, true);
    return row;
}

/* p at `count` vectors of keys from j on, of each of `num_rows` rows. */
INLINE void weights_at(const struct attention_job *job, const struct gradient_row *rows,
                       int num_rows, int count, int64_t j, vf *p)
{
    REPEAT (i, num_rows * count) {
        const struct gradient_row *row = &rows[i / count];
        int64_t at = j + i % count * VF;
        p[i] = vf_fma(vf_load(row->s + at), vf_set(job->scale2), vf_load(row->add + at));
    }
    REPEAT (i, num_rows * count)
        p[i] = vf_sub(p[i], vf_set(rows[i / count].lse2));
    vf_exp2(num_rows * count, p, UNIT == 2);
}

/* dp with dropout at a vector of keys. */
INLINE vf dropped(const struct attention_job *job, const struct gradient_row *row, int64_t at, vf x)
{
    if (!row->keep) return x;
    return vf_mul(x, vf_mul(vf_load(row->keep + at), vf_set(job->keep_scale)));
}

/* s becomes p, and row_b = sum p dp / sum p, of one or two rows. */
INLINE void weigh_rows(const struct attention_job *job, struct gradient_row *rows, int num_rows)
{
    vf sum[4] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
    float sums[4];
    int64_t j = 0;
    for (; j + 2 * VF <= job->keys; j += 2 * VF) {
        vf p[4];
        weights_at(job, rows, num_rows, 2, j, p);
        REPEAT (i, num_rows * 2) {
            struct gradient_row *row = &rows[i / 2];
            int64_t at = j + i % 2 * VF;
            vf_store(row->s + at, p[i]);
            sum[i / 2] = vf_fma(p[i], dropped(job, row, at, vf_load(row->dp + at)), sum[i / 2]);
            sum[2 + i / 2] = vf_add(sum[2 + i / 2], p[i]);
        }
    }
    for (; j < job->keys; j += VF) {
        vf p[2];
        weights_at(job, rows, num_rows, 1, j, p);
        REPEAT (i, num_rows) {
            struct gradient_row *row = &rows[i];
            vf_store(row->s + j, p[i]);
            sum[i] = vf_fma(p[i], dropped(job, row, j, vf_load(row->dp + j)), sum[i]);
            sum[2 + i] = vf_add(sum[2 + i], p[i]);
        }
    }
    vf_sum_4(sum, sums);
    for (int i = 0; i < num_rows; i++) {
        rows[i].dot = sums[i] / sums[2 + i];
    }
}

/* p and ds at `count` vectors of keys from j on, of each of `num_rows` rows, which weigh_rows has
 * seen or not. */
INLINE void gradient_at(const struct attention_job *job, const struct gradient_row *rows,
                        int num_rows, int count, int64_t j, bool weighed, vf *p, vf *ds)
{
    if (weighed) {
        REPEAT (i, num_rows * count)
            p[i] = vf_load(rows[i / count].s + j + i % count * VF);
    } else {
        weights_at(job, rows, num_rows, count, j, p);
    }
    REPEAT (i, num_rows * count) {
        const struct gradient_row *row = &rows[i / count];
        int64_t at = j + i % count * VF;
        vf dp = dropped(job, row, at, vf_load(row->dp + at));
        ds[i] = vf_mul(p[i], vf_sub(dp, vf_set(row->dot)));
        if (row->dbias) vf_store(row->dbias + at, vf_add(vf_load(row->dbias + at), ds[i]));
        p[i] = dropped(job, row, at, p[i]);
    }
}

#if defined(ATTENTION_UNIT_BF16)
/* `count` vectors of keys of two rows, as bf16: ds by rows for dq, both as units of two rows for dv
 * and dk. Without a second row its part of the units is 0. */
INLINE void gradient_pair(const struct attention_job *job, const struct gradient_row *rows,
                          bool second, int count, int64_t j, float *p_pairs, float *ds_pairs,
                          bf16 *ds_row)
{
    vf p[4];
    vf ds[4];
    gradient_at(job, rows, 2, count, j, true, p, ds);
    REPEAT (i, count) {
        int64_t at = j + i * VF;
        vf other_p = second ? p[count + i] : vf_set(0);
        vf other_ds = second ? ds[count + i] : vf_set(0);
        __m512i p2 = (__m512i)_mm512_cvtne2ps_pbh(other_p, p[i]);
        __m512i ds2 = (__m512i)_mm512_cvtne2ps_pbh(other_ds, ds[i]);
        _mm512_storeu_si512(p_pairs + at, pair_halves(p2));
        _mm512_storeu_si512(ds_pairs + at, pair_halves(ds2));
        _mm256_storeu_si256((__m256i *)(ds_row + at), _mm512_castsi512_si256(ds2));
        _mm256_storeu_si256((__m256i *)(ds_row + job->deep_keys + at),
                            _mm512_extracti64x4_epi64(ds2, 1));
    }
}

/* From the products s and dp of rows [first, first + rows): p and ds as row pairs from `start` / 2
 * on, ds also as rows16. */
static void gradient_rows(const struct attention_job *job, struct attention_thread *thread,
                          struct attention_item item, int64_t first, int64_t rows, int64_t start)
{
    int64_t keys = job->keys;
    for (int64_t r = 0; r < rows; r += 2) {
        bool second = r + 1 < rows;
        struct gradient_row row[2];
        row[0] = gradient_row(job, thread, item, thread->s, thread->dp, r, first + r, 0);
        row[1] = row[0];
        row[1].dbias = NULL;
        if (second) {
            row[1] =
                gradient_row(job, thread, item, thread->s, thread->dp, r + 1, first + r + 1, 1);
        }
        weigh_rows(job, row, 2);
        float *p_pairs = thread->p_pairs + (start + r) / 2 * keys;
        float *ds_pairs = thread->ds_pairs + (start + r) / 2 * keys;
        bf16 *ds_row = (bf16 *)thread->rows16 + r * job->deep_keys;
        int64_t j = 0;
        for (; j + 2 * VF <= keys; j += 2 * VF) {
            gradient_pair(job, row, second, 2, j, p_pairs, ds_pairs, ds_row);
        }
        if (j < keys) gradient_pair(job, row, second, 1, j, p_pairs, ds_pairs, ds_row);
    }
}
#else
/* In the products s and dp of rows [first, first + rows), from row `start` on: s becomes p and dp
 * becomes ds. */
static void gradient_rows(const struct attention_job *job, struct attention_thread *thread,
                          struct attention_item item, int64_t first, int64_t rows, int64_t start)
{
    float *s = thread->s + start * job->keys;
    float *dp = thread->dp + start * job->keys;
    for (int64_t r = 0; r < rows; r++) {
        struct gradient_row row = gradient_row(job, thread, item, s, dp, r, first + r, 0);
        bool weighed = job->shape->bf16;
        if (weighed) weigh_rows(job, &row, 1);
        vf p[4];
        vf ds[4];
        int64_t j = 0;
        for (; j + 4 * VF <= job->keys; j += 4 * VF) {
            gradient_at(job, &row, 1, 4, j, weighed, p, ds);
            REPEAT (i, 4) {
                vf_store(row.s + j + i * VF, p[i]);
                vf_store(row.dp + j + i * VF, ds[i]);
            }
        }
        for (; j < job->keys; j += VF) {
            gradient_at(job, &row, 1, 1, j, weighed, p, ds);
            vf_store(row.s + j, p[0]);
            vf_store(row.dp + j, ds[0]);
        }
    }
}
#endif

/* Packs query rows [first, first + rows) of q and dout from row `start` on, and computes what their
 * softmax needs. */
static void load_rows(const struct attention_job *job, struct attention_thread *thread,
                      struct attention_item item, int64_t first, int64_t rows, int64_t start)
{
    const struct attention_shape *s = job->shape;
    const struct attention_tensors *t = job->tensors;
    int64_t width = job->dim / UNIT;
    float *q = thread->q + start * width;
    float *dout = thread->dout + start * width;
    pack_rows(job, thread, item, t->q, s->q, first, rows, ATTENTION_ROWS, q);
    pack_rows(job, thread, item, t->dout, s->dout, first, rows, ATTENTION_ROWS, dout);
    load_statistics(job, thread, item, first, rows);
}

/* dq of query rows [first, first + rows), which load_rows put at `start`; leaves p and ds. */
static void backward_rows(const struct attention_job *job, struct attention_thread *thread,
                          struct attention_item item, int64_t first, int64_t rows, int64_t start)
{
    const struct attention_shape *s = job->shape;
    int64_t width = job->dim / UNIT;
    int64_t units = (s->head_dim + UNIT - 1) / UNIT;
    int64_t depth = (job->nk + UNIT - 1) / UNIT;
#if defined(ATTENTION_UNIT_BF16)
    float *products = thread->s, *other_products = thread->dp;
    const float *ds = thread->rows16, *key = thread->k_pairs;
#else
    float *products = thread->s + start * job->keys;
    float *other_products = thread->dp + start * job->keys;
    const float *ds = other_products, *key = thread->k;
#endif
    product_rows(rows, job->keys, units, thread->q + start * width, width, thread->kt, products);
    product_rows(rows, job->keys, units, thread->dout + start * width, width, thread->vt,
                 other_products);
    gradient_rows(job, thread, item, first, rows, start);
    product_rows(rows, job->dim, depth, ds, job->deep_keys / UNIT, key, thread->out);
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = attention_place(job, s->dq, item, thread->token[first + r]);
        store_row(job, job->tensors->dq, at, thread->out + r * job->dim, s->scale);
    }
}

/* Adds to dv and dk what `rows` rows of a block give. */
static void add_block(const struct attention_job *job, struct attention_thread *thread,
                      int64_t rows)
{
#if defined(ATTENTION_AMX)
    int64_t padded = (rows + 2 * TILE - 1) / (2 * TILE) * (2 * TILE);
    int64_t pairs = (rows + 1) / 2;
    size_t rest = (size_t)((padded / 2 - pairs) * job->keys) * sizeof *thread->p_pairs;
    memset(thread->p_pairs + pairs * job->keys, 0, rest);
    memset(thread->ds_pairs + pairs * job->keys, 0, rest);
    pack_pairs(thread->dout, padded, job->dim, thread->dout_pairs);
    pack_transposed(thread->dout_pairs, padded / 2, job->dim, thread->dout_t);
    product_columns(job->dim, padded / 2, thread->p_pairs, job->keys, thread->dout_t, thread->dv);
    pack_pairs(thread->q, padded, job->dim, thread->q_pairs);
    pack_transposed(thread->q_pairs, padded / 2, job->dim, thread->q_t);
    product_columns(job->dim, padded / 2, thread->ds_pairs, job->keys, thread->q_t, thread->dk);
#elif defined(ATTENTION_UNIT_BF16)
    int64_t pairs = (rows + 1) / 2;
    pack_pairs(thread->dout, 2 * pairs, job->dim, thread->dout_pairs);
    pack_pairs(thread->q, 2 * pairs, job->dim, thread->q_pairs);
    product_columns(job->nk, job->dim, pairs, thread->p_pairs, job->keys, thread->dout_pairs,
                    thread->dv);
    product_columns(job->nk, job->dim, pairs, thread->ds_pairs, job->keys, thread->q_pairs,
                    thread->dk);
#else
    product_columns(job->nk, job->dim, rows, thread->s, job->keys, thread->dout, thread->dv);
    product_columns(job->nk, job->dim, rows, thread->dp, job->keys, thread->q, thread->dk);
#endif
}

static void load_keys(const struct attention_job *job, struct attention_thread *thread,
                      struct attention_item item)
{
    const struct attention_shape *s = job->shape;
    const struct attention_tensors *t = job->tensors;
    int64_t width = job->dim / UNIT;
    pack_rows(job, thread, item, t->k, s->k, 0, job->nk, job->deep_keys, thread->k);
    pack_rows(job, thread, item, t->v, s->v, 0, job->nk, job->deep_keys, thread->v);
    pack_transposed(thread->k, job->keys, width, thread->kt);
    pack_transposed(thread->v, job->keys, width, thread->vt);
#if defined(ATTENTION_UNIT_BF16)
    pack_pairs(thread->k, job->deep_keys, job->dim, thread->k_pairs);
#endif
    memset(thread->dk, 0, (size_t)(job->keys * job->dim) * sizeof *thread->dk);
    memset(thread->dv, 0, (size_t)(job->keys * job->dim) * sizeof *thread->dv);
}

static void store_keys(const struct attention_job *job, struct attention_thread *thread,
                       struct attention_item item)
{
    const struct attention_shape *s = job->shape;
    const float *dk = thread->dk, *dv = thread->dv;
#if defined(ATTENTION_AMX)
    pack_transposed(thread->dk, job->dim, job->keys, thread->kt);
    pack_transposed(thread->dv, job->dim, job->keys, thread->vt);
    dk = thread->kt;
    dv = thread->vt;
#endif
    unpack_rows(job, thread, item, job->tensors->dk, s->dk, dk, s->scale);
    unpack_rows(job, thread, item, job->tensors->dv, s->dv, dv, 1);
}

static void backward_item(const struct attention_job *job, struct attention_thread *thread,
                          struct attention_item item)
{
    attention_enter_item(job, thread, item);
#if defined(ATTENTION_AMX)
    tiles_begin();
#endif
    load_keys(job, thread, item);
    for (int64_t block = 0; block < job->nq; block += ATTENTION_BLOCK) {
        int64_t end = block + ATTENTION_BLOCK < job->nq ? block + ATTENTION_BLOCK : job->nq;
        for (int64_t first = block; first < end; first += ATTENTION_ROWS) {
            int64_t rows = end - first < ATTENTION_ROWS ? end - first : ATTENTION_ROWS;
            load_rows(job, thread, item, first, rows, first - block);
            backward_rows(job, thread, item, first, rows, first - block);
        }
        add_block(job, thread, end - block);
    }
#if defined(ATTENTION_AMX)
    tiles_end();
#endif
    store_keys(job, thread, item);
}

#endif
