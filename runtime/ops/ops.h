/*
 * Builders of every op: what model and objective code is written in.
 *
 * Each records one node (or finds the same one) and returns its value, borrowed from the graph;
 * NULL in, NULL out; shapes that do not fit set the graph's error. Letters: B batch, T tokens, C
 * channels, H heads, N rows, R table rows. "float" means f32 or bf16; unless said otherwise all
 * float inputs have one dtype and the result has it too. Statistics and sums are f32 inside.
 * Parameters (gains, biases, scalars) stay f32 beside bf16 activations; weight matrices are cast by
 * the builder, once per update.
 */
#ifndef WEFT_RUNTIME_OPS_OPS_H
#define WEFT_RUNTIME_OPS_OPS_H

#include "runtime/graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- values and types ---- */

/* `value` everywhere; f32, bf16 or i32. */
struct tensor *op_fill(struct graph *g, enum dtype dtype, struct shape shape, float value);

/* x in another float dtype; x itself when it has that dtype. */
struct tensor *op_cast(struct graph *g, struct tensor *x, enum dtype dtype);

/* x, without a gradient. */
struct tensor *op_stop_gradient(struct graph *g, struct tensor *x);

/* ---- shapes: reshape, and slices of leading rows, cost nothing; the others copy ---- */

/* The same elements in another shape of equal count. */
struct tensor *op_reshape(struct graph *g, struct tensor *x, struct shape shape);

/* Dimension i of the result is dimension axes[i] of x. */
struct tensor *op_permute(struct graph *g, struct tensor *x, const int *axes);

/* x[..., begin:end, ...] on `axis`. */
struct tensor *op_slice(struct graph *g, struct tensor *x, int axis, int64_t begin, int64_t end);

/* The reverse of op_slice: zeros of size `size` on `axis`, with x from `begin` on. */
struct tensor *op_pad(struct graph *g, struct tensor *x, int axis, int64_t begin, int64_t size);

/* Joins `count` tensors (1 to 8) along `axis`. */
struct tensor *op_concat(struct graph *g, struct tensor *const *inputs, int count, int axis);

/* x repeated along every dimension where x has size 1 and `shape` has more. Ranks are equal. */
struct tensor *op_broadcast(struct graph *g, struct tensor *x, struct shape shape);

/* x [B,Y,X,C] rolled: result[b, (y+dy) mod Y, (x+dx) mod X] = x[b, y, x]. */
struct tensor *op_roll(struct graph *g, struct tensor *x, int64_t dy, int64_t dx);

/*
 * Swin's window maps as explicit copies; op_window_attention needs neither. x [B,Y,X,C] is rolled
 * by (-shift,-shift) and cut into windows, batch-major, then window row, then window column: [B *
 * (Y/w) * (X/w), w*w, C]. Y and X are multiples of `window`. The reverse takes the windows back to
 * [B,Y,X,C].
 */
struct tensor *op_window_partition(struct graph *g, struct tensor *x, int64_t window,
                                   int64_t shift);
struct tensor *op_window_reverse(struct graph *g, struct tensor *windows, int64_t window,
                                 int64_t shift, int64_t height, int64_t width);

/* Four neighbours into channels, x [B,Y,X,C] -> [B,Y/2,X/2,4C] in Swin's order (row, column
 * parity): 00, 10, 01, 11. */
struct tensor *op_patch_merge(struct graph *g, struct tensor *x);

/* ---- arithmetic ---- */

struct tensor *op_add(struct graph *g, struct tensor *a, struct tensor *b);

/* alpha * a + beta * b with host constants. */
struct tensor *op_combine(struct graph *g, struct tensor *a, float alpha, struct tensor *b,
                          float beta);
struct tensor *op_mul(struct graph *g, struct tensor *a, struct tensor *b);

/* factor * x with a host constant. */
struct tensor *op_scale(struct graph *g, struct tensor *x, float factor);

/* x * s with a device scalar, s f32 of one element. */
struct tensor *op_scale_by(struct graph *g, struct tensor *x, struct tensor *s);

/* a + s * b with a device scalar: the gated residual of FIBER's fusion. */
struct tensor *op_add_gated(struct graph *g, struct tensor *a, struct tensor *b, struct tensor *s);

/* x [..., C] + bias [C] (f32). */
struct tensor *op_bias(struct graph *g, struct tensor *x, struct tensor *bias);

/* Elementwise functions. */
struct tensor *op_gelu(struct graph *g, struct tensor *x);       /* exact, by erf */
struct tensor *op_quick_gelu(struct graph *g, struct tensor *x); /* x * sigmoid(1.702 x) */
struct tensor *op_tanh(struct graph *g, struct tensor *x);
struct tensor *op_relu(struct graph *g, struct tensor *x);
struct tensor *op_sigmoid(struct graph *g, struct tensor *x);
struct tensor *op_exp(struct graph *g, struct tensor *x);
struct tensor *op_log(struct graph *g, struct tensor *x);
struct tensor *op_reciprocal(struct graph *g, struct tensor *x);

/* x limited to [low, high]; no gradient outside. */
struct tensor *op_clamp(struct graph *g, struct tensor *x, float low, float high);

/* ---- matrix products ---- */

/*
 * y = x w^T + bias: x [..., K], w [N,K] f32 or x's dtype, bias [N] f32 or NULL -> [..., N].
 */
struct tensor *op_linear(struct graph *g, struct tensor *x, struct tensor *w, struct tensor *bias);

/* The same with GELU (exact) on the result, fused where nothing needs the value before it. */
struct tensor *op_linear_gelu(struct graph *g, struct tensor *x, struct tensor *w,
                              struct tensor *bias);

/* y = x w: the other orientation, w [K,N]. */
struct tensor *op_linear_transposed(struct graph *g, struct tensor *x, struct tensor *w,
                                    struct tensor *bias);

/*
 * Batched product over equal leading dimensions: a [..., M,K] (or [..., K,M] when `transpose_a`), b
 * [..., K,N] (or
 * [..., N,K] when `transpose_b`) -> [..., M,N].
 */
struct tensor *op_matmul(struct graph *g, struct tensor *a, struct tensor *b, bool transpose_a,
                         bool transpose_b);

/*
 * Patch embedding, a convolution whose stride is its kernel: x [B,3,Y,X] float, w [C,3,p,p], bias
 * [C] -> row-major tokens [B, (Y/p)*(X/p), C].
 */
struct tensor *op_patch_embed(struct graph *g, struct tensor *x, struct tensor *w,
                              struct tensor *bias);

/* u8 pixels [B,Y,X,3] -> float [B,3,Y,X], (x / 255 - mean) / std per channel. */
struct tensor *op_normalize_pixels(struct graph *g, struct tensor *pixels, const float mean[3],
                                   const float std[3], enum dtype dtype);

/* ---- rows ---- */

/* Rows of a table: table [R,C] float, index i32 [...] -> [..., C]. An index outside the table fails
 * the step. */
struct tensor *op_gather(struct graph *g, struct tensor *table, struct tensor *index);

/* The same into `dtype`, with a row `padding` that gets no gradient (-1: none). */
struct tensor *op_embedding(struct graph *g, struct tensor *table, struct tensor *index,
                            int64_t padding, enum dtype dtype);

/*
 * The gradient of op_gather: result [rows,C] holds the sum of the rows of x [..., C] with each
 * index, in the order of x. Rows whose index is `padding` are left out.
 */
struct tensor *op_scatter_add(struct graph *g, struct tensor *x, struct tensor *index, int64_t rows,
                              int64_t padding, enum dtype dtype);

/* ---- normalisation and softmax, over the last dimension ---- */

/* (x - mean) / sqrt(var + eps) * gain + bias, gain and bias f32 [C]. */
struct tensor *op_layer_norm(struct graph *g, struct tensor *x, struct tensor *gain,
                             struct tensor *bias, float eps);

/* LayerNorm of a + b in one pass. *sum, unless NULL, receives a + b. */
struct tensor *op_add_layer_norm(struct graph *g, struct tensor *a, struct tensor *b,
                                 struct tensor *gain, struct tensor *bias, float eps,
                                 struct tensor **sum);

struct tensor *op_softmax(struct graph *g, struct tensor *x);
struct tensor *op_log_softmax(struct graph *g, struct tensor *x);

/* x / max(|x|, eps); eps 0 is the plain quotient of the reference. */
struct tensor *op_l2_normalize(struct graph *g, struct tensor *x, float eps);

/* Cosine of rows: a, b [..., C] -> f32 [...]. */
struct tensor *op_cosine(struct graph *g, struct tensor *a, struct tensor *b, float eps);

/* ---- reductions over the axes [begin, end) ---- */

struct tensor *op_sum(struct graph *g, struct tensor *x, int begin, int end);
struct tensor *op_mean(struct graph *g, struct tensor *x, int begin, int end);

/* ---- random: numbers are a function of (seed, site, step, global sample, element) ---- */

/*
 * Dropout: zero with probability p, otherwise times 1 / (1 - p). The first dimension of x holds
 * `samples` samples once or several times over (copies draw independently). `name` tells sites of
 * one module apart. p = 0 is x itself.
 */
struct tensor *op_dropout(struct graph *g, struct tensor *x, float p, int64_t samples,
                          const char *name);

/* Residual with stochastic depth: x + keep * branch / (1 - p), one draw per row of the first
 * dimension. */
struct tensor *op_add_drop_path(struct graph *g, struct tensor *x, struct tensor *branch, float p,
                                int64_t samples, const char *name);

/* ---- losses: f32 ---- */

/*
 * Cross-entropy of each row: logits float [N,V], target i32 [N] -> f32 [N]; 0 where target is
 * `ignore`. Keeps only the log-sum-exp. *correct, unless NULL, receives f32 [N]: 1 where the target
 * has the largest logit (the first of equals).
 */
struct tensor *op_cross_entropy(struct graph *g, struct tensor *logits, struct tensor *target,
                                int32_t ignore, struct tensor **correct);

/* f32 [N]: 1 / (number of targets that are not `ignore`), 0 on ignored rows (all 0 when every row
 * is). */
struct tensor *op_target_weights(struct graph *g, struct tensor *target, int32_t ignore);

/* Elementwise binary cross-entropy with logits: x float, target f32 of the same shape -> f32. */
struct tensor *op_bce_with_logits(struct graph *g, struct tensor *x, struct tensor *target);

/* Mean squared error over all elements: a, b float -> f32 scalar. */
struct tensor *op_mse(struct graph *g, struct tensor *a, struct tensor *b);

/* ---- attention: no score matrix is stored ---- */

struct attention_options {
    int64_t heads;
    float scale; /* of the scores; 0 means 1 / sqrt(head size) */
    bool causal;
    float mask_value; /* added to the scores of masked keys; 0 means -10000, as the reference */
    float dropout;    /* on the probabilities */
    int64_t samples;  /* see op_dropout; 0 means the batch size */
};

/*
 * Multi-head attention: q [B,Tq,C], k and v [B,Tk,C], mask i32 [B,Tk] (1 = keep) or NULL ->
 * [B,Tq,C]. Head h owns channels [h * C / heads, (h+1) * C / heads).
 */
struct tensor *op_attention(struct graph *g, struct tensor *q, struct tensor *k, struct tensor *v,
                            struct tensor *mask, const struct attention_options *options);

/* The same with keys and values in one tensor, kv [B,Tk,2C]: keys first. */
struct tensor *op_attention_kv(struct graph *g, struct tensor *q, struct tensor *kv,
                               struct tensor *mask, const struct attention_options *options);

/* Self-attention on packed projections, qkv [B,T,3C]: queries, keys, values. */
struct tensor *op_attention_qkv(struct graph *g, struct tensor *qkv, struct tensor *mask,
                                const struct attention_options *options);

/*
 * Swin's windowed self-attention (models: Liu et al., "Swin Transformer", ICCV 2021, section 3.2):
 * qkv [B,Y,X,3C] with the tokens in image order, bias table f32 [(2w-1)^2, heads] or NULL ->
 * [B,Y,X,C] in image order. Roll, partition, the -100 shift mask and the reverse are index
 * arithmetic.
 */
struct tensor *op_window_attention(struct graph *g, struct tensor *qkv, struct tensor *bias_table,
                                   int64_t heads, int64_t window, int64_t shift);

/* ---- collectives: every rank records and runs the same ones ---- */

/* Rows of all ranks in rank order: x [N,...] -> [size*N,...]. Its gradient is the reduce-scatter
 * sum. */
struct tensor *op_all_gather(struct graph *g, struct tensor *x);

/* Sum over ranks, this rank's slice: x [size*N,...] -> [N,...]. Its gradient is the all-gather. */
struct tensor *op_reduce_scatter(struct graph *g, struct tensor *x);

/* Sum over ranks. Its gradient is the sum over ranks. */
struct tensor *op_all_reduce(struct graph *g, struct tensor *x);

/*
 * Rows of all ranks by number: x [N,...] of any dtype on each rank, index i32 [M] of rows counted
 * in rank order (0 .. size * N - 1) -> [M,...]. Only those rows travel. Its gradient adds up at the
 * owner.
 */
struct tensor *op_exchange_rows(struct graph *g, struct tensor *x, struct tensor *index);

/* ---- integers for objectives ---- */

/*
 * One hard negative per row, drawn from the softmax of its logits without its own column: logits
 * f32 [N,M] -> i32 [N]. Columns are all ranks' rows in rank order (`all_ranks`), or this rank's own
 * first; further columns may follow. Columns below -5000 are never drawn. The result counts the
 * rows of all ranks either way. *entropy, unless NULL, receives f32 [N]: of each draw, nats.
 */
struct tensor *op_draw_negatives(struct graph *g, struct tensor *logits, bool all_ranks,
                                 const char *name, struct tensor **entropy);

/*
 * Raw inputs of drawn samples from outside the step (struct host_rows): images, texts i32 [N] as
 * op_draw_negatives gives them without `all_ranks` -> pixels u8 [N,side,side,3], *ids and *mask i32
 * [N,length]. The caller is asked for columns: 0 .. N - 1 are this rank's own rows.
 */
struct tensor *op_fetch_rows(struct graph *g, struct tensor *images, struct tensor *texts,
                             int64_t side, int64_t length, struct tensor **ids,
                             struct tensor **mask);

/* RoBERTa's positions: ids i32 [B,T] -> i32 [B,T], padding + the count of tokens so far that are
 * not `padding`; `padding` at padding. */
struct tensor *op_position_ids(struct graph *g, struct tensor *ids, int64_t padding);

/* i32 [rows]: 0, 1, 2, ..., or with `all_ranks` the numbers of this rank's rows among all ranks'.
 */
struct tensor *op_row_numbers(struct graph *g, int64_t rows, bool all_ranks);

#ifdef __cplusplus
}
#endif
#endif
