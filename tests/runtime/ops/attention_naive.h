/*
 * Attention in f64 by the shortest definition, for the tests of the kernels: windows by explicit
 * roll, partition, region labels and reverse on arrays, the softmax stored whole.
 */
#ifndef WEFT_TESTS_RUNTIME_OPS_ATTENTION_NAIVE_H
#define WEFT_TESTS_RUNTIME_OPS_ATTENTION_NAIVE_H

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/ops/attention_kernel.h"

/* Dense f64 tensors [batch, tokens, heads * head_dim]; strides of the shape are not used. */
struct naive {
    struct attention_shape shape;
    double *q, *k, *v, *o, *dout, *dq, *dk, *dv;
    double *lse;          /* [batch, heads, query_len] */
    double *bias, *dbias; /* [(2w - 1)^2, heads]; NULL: none */
    const int32_t *mask;  /* [batch, key_len]; NULL: all kept */
    struct attention_random random;
};

static inline double *naive_zeros(int64_t count)
{
    double *data = (double *)calloc((size_t)(count > 0 ? count : 1), sizeof *data);
    if (!data) abort();
    return data;
}

static inline double naive_keep(const struct naive *c, int64_t b, int64_t h, int64_t i, int64_t j,
                                int64_t row_len)
{
    const struct attention_shape *s = &c->shape;
    if (s->dropout == 0) return 1;
    int64_t copy = b / c->random.samples;
    int64_t sample = (int64_t)c->random.sample_base + b % c->random.samples;
    int64_t e = copy * s->heads * s->query_len * row_len + (h * s->query_len + i) * row_len + j;
    struct rng_block block =
        rng_at(c->random.key, c->random.step, (uint64_t)sample, (uint32_t)(e / 4));
    return rng_uniform(block.word[e % 4]) < s->dropout ? 0 : 1 / (1 - (double)s->dropout);
}

/* One head of one window whose rows are dense [tokens, head_dim]; `add` [nq, nk] is bias plus all
 * masks, `keep` [nq, nk] the dropout factors. `dadd` [nq, nk] receives the score gradients. */
struct naive_head {
    int64_t nq, nk, d;
    double scale;
    const double *q, *k, *v, *add, *keep, *dout;
    double *o, *lse, *dq, *dk, *dv, *dadd;
};

static inline void naive_head_run(const struct naive_head *h)
{
    double *p = naive_zeros(h->nk);
    for (int64_t i = 0; i < h->nq; i++) {
        double max = -INFINITY;
        for (int64_t j = 0; j < h->nk; j++) {
            double s = 0;
            for (int64_t d = 0; d < h->d; d++)
                s += h->q[i * h->d + d] * h->k[j * h->d + d];
            p[j] = s * h->scale + h->add[i * h->nk + j];
            max = fmax(max, p[j]);
        }
        double sum = 0;
        for (int64_t j = 0; j < h->nk; j++)
            sum += exp(p[j] - max);
        h->lse[i] = max + log(sum);
        double dot = 0;
        for (int64_t j = 0; j < h->nk; j++) {
            p[j] = exp(p[j] - max) / sum;
            double keep = h->keep[i * h->nk + j];
            for (int64_t d = 0; d < h->d; d++) {
                h->o[i * h->d + d] += p[j] * keep * h->v[j * h->d + d];
                h->dv[j * h->d + d] += p[j] * keep * h->dout[i * h->d + d];
                dot += p[j] * keep * h->v[j * h->d + d] * h->dout[i * h->d + d];
            }
        }
        for (int64_t j = 0; j < h->nk; j++) {
            double dp = 0;
            for (int64_t d = 0; d < h->d; d++)
                dp += h->dout[i * h->d + d] * h->v[j * h->d + d];
            double ds = p[j] * (dp * h->keep[i * h->nk + j] - dot);
            h->dadd[i * h->nk + j] = ds;
            for (int64_t d = 0; d < h->d; d++) {
                h->dq[i * h->d + d] += ds * h->scale * h->k[j * h->d + d];
                h->dk[j * h->d + d] += ds * h->scale * h->q[i * h->d + d];
            }
        }
    }
    free(p);
}

/* image [H, W, C] rolled by (by, by), as torch.roll. */
static inline void naive_roll(const double *in, double *out, int64_t H, int64_t W, int64_t C,
                              int64_t by)
{
    for (int64_t y = 0; y < H; y++) {
        for (int64_t x = 0; x < W; x++) {
            int64_t to = ((y + by + H) % H) * W + (x + by + W) % W;
            memcpy(out + to * C, in + (y * W + x) * C, (size_t)C * sizeof *out);
        }
    }
}

/* image [H, W, C] to windows [nW, w * w, C], or back. */
static inline void naive_partition(double *image, double *windows, int64_t H, int64_t W, int64_t C,
                                   int64_t w, bool back)
{
    for (int64_t y = 0; y < H; y++) {
        for (int64_t x = 0; x < W; x++) {
            double *a = image + (y * W + x) * C;
            int64_t at = (y / w * (W / w) + x / w) * w * w + y % w * w + x % w;
            double *b = windows + at * C;
            memcpy(back ? a : b, back ? b : a, (size_t)C * sizeof *a);
        }
    }
}

/* [T, C] of one batch row to window layout of the rolled grid, or back. Identity without windows.
 */
static inline void naive_windows(const struct attention_shape *s, double *tokens, double *windows,
                                 int64_t T, int64_t C, bool back)
{
    if (!s->window) {
        memcpy(back ? tokens : windows, back ? windows : tokens, (size_t)(T * C) * sizeof *tokens);
        return;
    }
    double *image = naive_zeros(T * C);
    if (back) {
        naive_partition(image, windows, s->grid_h, s->grid_w, C, s->window, true);
        naive_roll(image, tokens, s->grid_h, s->grid_w, C, s->shift);
    } else {
        naive_roll(tokens, image, s->grid_h, s->grid_w, C, -s->shift);
        naive_partition(image, windows, s->grid_h, s->grid_w, C, s->window, false);
    }
    free(image);
}

/* Region labels of the shifted frame in window layout [nW * w * w], as the reference paints them.
 */
static inline double *naive_regions(const struct attention_shape *s)
{
    double *windows = naive_zeros(s->query_len);
    if (!s->window || !s->shift) return windows;
    double *image = naive_zeros(s->query_len);
    int64_t H = s->grid_h, W = s->grid_w;
    int64_t ys[4] = {0, H - s->window, H - s->shift, H};
    int64_t xs[4] = {0, W - s->window, W - s->shift, W};
    int label = 0;
    for (int a = 0; a < 3; a++) {
        for (int b = 0; b < 3; b++, label++) {
            for (int64_t y = ys[a]; y < ys[a + 1]; y++) {
                for (int64_t x = xs[b]; x < xs[b + 1]; x++)
                    image[y * W + x] = label;
            }
        }
    }
    naive_partition(image, windows, H, W, 1, s->window, false);
    free(image);
    return windows;
}

/* One (batch row, head): fills o, lse and, when dout is set, dq, dk, dv, and adds to dbias. */
static inline void naive_batch_head(struct naive *c, int64_t b, int64_t h)
{
    const struct attention_shape *s = &c->shape;
    int64_t D = s->head_dim, C = s->heads * D, Tq = s->query_len, Tk = s->key_len, w = s->window;
    int64_t nq = w ? w * w : Tq, nk = w ? w * w : Tk, num = w ? Tq / nq : 1;
    double *in[4], *out[4], *token[2], *token_window[2];
    const double *source[4] = {c->q + b * Tq * C, c->k + b * Tk * C, c->v + b * Tk * C,
                               c->dout ? c->dout + b * Tq * C : NULL};
    double *target[4] = {c->o + b * Tq * C, c->dq ? c->dq + b * Tq * C : NULL,
                         c->dk ? c->dk + b * Tk * C : NULL, c->dv ? c->dv + b * Tk * C : NULL};
    int64_t in_len[4] = {Tq, Tk, Tk, Tq}, out_len[4] = {Tq, Tq, Tk, Tk};
    for (int x = 0; x < 4; x++) {
        double *rows = naive_zeros(in_len[x] * D);
        in[x] = naive_zeros(in_len[x] * D);
        out[x] = naive_zeros(out_len[x] * D);
        for (int64_t t = 0; t < in_len[x]; t++) {
            for (int64_t d = 0; d < D; d++) {
                rows[t * D + d] = source[x] ? source[x][t * C + h * D + d] : 0;
            }
        }
        naive_windows(s, rows, in[x], in_len[x], D, false);
        free(rows);
    }
    for (int x = 0; x < 2; x++) { /* original token of each window position, of q and k */
        token[x] = naive_zeros(x ? Tk : Tq);
        token_window[x] = naive_zeros(x ? Tk : Tq);
        for (int64_t t = 0; t < (x ? Tk : Tq); t++)
            token[x][t] = (double)t;
        naive_windows(s, token[x], token_window[x], x ? Tk : Tq, 1, false);
    }
    double *region = naive_regions(s);
    double *add = naive_zeros(nq * nk), *keep = naive_zeros(nq * nk), *dadd = naive_zeros(nq * nk);
    double *lse_window = naive_zeros(Tq), *lse = naive_zeros(Tq);
    for (int64_t n = 0; n < num; n++) {
        for (int64_t i = 0; i < nq; i++) {
            int64_t visible = 0;
            for (int64_t j = 0; j < nk; j++) {
                bool kept = !c->mask || c->mask[b * Tk + (int64_t)token_window[1][n * nk + j]];
                visible += kept && !(s->causal && j > i);
            }
            for (int64_t j = 0; j < nk; j++) {
                int64_t tq = (int64_t)token_window[0][n * nq + i];
                int64_t tk = (int64_t)token_window[1][n * nk + j];
                double sum = 0;
                if (c->bias) {
                    int64_t at = (i / w - j / w + w - 1) * (2 * w - 1) + (i % w - j % w + w - 1);
                    sum += c->bias[at * s->heads + h];
                }
                if (w && region[n * nq + i] != region[n * nk + j]) sum -= 100;
                bool hidden = (c->mask && !c->mask[b * Tk + tk]) || (s->causal && j > i);
                if (hidden && visible) sum += s->mask_value;
                add[i * nk + j] = sum;
                keep[i * nk + j] = naive_keep(c, b, h, tq, j, nk);
            }
        }
        struct naive_head head = {nq,
                                  nk,
                                  D,
                                  s->scale,
                                  in[0] + n * nq * D,
                                  in[1] + n * nk * D,
                                  in[2] + n * nk * D,
                                  add,
                                  keep,
                                  in[3] + n * nq * D,
                                  out[0] + n * nq * D,
                                  lse_window + n * nq,
                                  out[1] + n * nq * D,
                                  out[2] + n * nk * D,
                                  out[3] + n * nk * D,
                                  dadd};
        naive_head_run(&head);
        for (int64_t i = 0; c->dbias && i < nq; i++) {
            for (int64_t j = 0; j < nk; j++) {
                int64_t at = (i / w - j / w + w - 1) * (2 * w - 1) + (i % w - j % w + w - 1);
                c->dbias[at * s->heads + h] += dadd[i * nk + j];
            }
        }
    }
    naive_windows(s, lse, lse_window, Tq, 1, true);
    memcpy(c->lse + (b * s->heads + h) * Tq, lse, (size_t)Tq * sizeof *lse);
    for (int x = 0; x < 4; x++) {
        double *rows = naive_zeros(out_len[x] * D);
        naive_windows(s, rows, out[x], out_len[x], D, true);
        for (int64_t t = 0; target[x] && t < out_len[x]; t++) {
            memcpy(target[x] + t * C + h * D, rows + t * D, (size_t)D * sizeof *rows);
        }
        free(rows);
        free(in[x]);
        free(out[x]);
    }
    double *rest[] = {
        token[0], token[1], token_window[0], token_window[1], region, add, keep, lse_window,
        lse,      dadd};
    for (size_t x = 0; x < sizeof rest / sizeof rest[0]; x++)
        free(rest[x]);
}

/* Everything: o and lse, and when dout is set dq, dk, dv and dbias. */
static inline void naive_run(struct naive *c)
{
    const struct attention_shape *s = &c->shape;
    if (c->dbias) {
        int64_t rows = (2 * s->window - 1) * (2 * s->window - 1);
        memset(c->dbias, 0, (size_t)(rows * s->heads) * sizeof *c->dbias);
    }
    for (int64_t b = 0; b < s->batch; b++) {
        for (int64_t h = 0; h < s->heads; h++)
            naive_batch_head(c, b, h);
    }
}

#endif
