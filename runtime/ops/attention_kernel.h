/*
 * Fused multi-head attention on the CPU, forward and backward, on raw pointers.
 *
 *     s[b,h,i,j] = scale * q[b,i,h,:] . k[b,j,h,:] + bias[h, i - j] + masks
 *     o[b,i,h,:] = sum_j dropout(softmax_j(s))[b,h,i,j] * v[b,j,h,:]
 *
 * Neither s nor the softmax is stored: the forward keeps the log-sum-exp of each row, from which
 * the backward recomputes them (Dao et al., "FlashAttention", NeurIPS 2022, section 3.1 and
 * appendix B). One key row fits the cache here, so the softmax is exact per row and not merged from
 * blocks.
 *
 * Tensors are [batch, tokens, heads * head_dim] with a stride per token and per batch row, so q, k
 * and v may be column slices of one packed tensor (qkv [B,T,3C], kv [B,T,2C]), and so may their
 * gradients. Channels of a head are adjacent, heads follow each other. f32: everything in f32.
 * bf16: q, k, v, o and their gradients are bf16, products are summed in f32, the softmax and its
 * statistics are f32; softmax and score gradients are rounded to bf16 as operands of the second
 * products on processors that multiply bf16. The backward reads o in f32 only: in bf16 it has too
 * few digits for the softmax gradient.
 *
 * Windows (Swin): tokens are the row-major positions of an image grid; attention happens inside the
 * window x window tiles of the grid rolled by (-shift, -shift). Nothing is rolled or partitioned in
 * memory. Rows and columns of the rolled grid fall in three bands [0, n - window), [n - window, n -
 * shift), [n - shift, n); pairs of tokens in different bands get ATTENTION_SHIFT_MASK added. The
 * relative position bias of window positions i, j is bias_table[(y_i - y_j + window - 1) *
 * (2 * window - 1) + x_i - x_j + window - 1, head].
 *
 * Masks add to the scores, as the reference models do; -infinity is allowed. A row of which every
 * key is hidden by key mask and causal mask together is left as if none were: adding one number to
 * all scores of a row does not change its softmax, and leaving it out keeps their low bits.
 *
 * All results are bit-identical between runs of one machine, thread count and shape. NaN and
 * infinity in the inputs propagate to the rows that depend on them.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_KERNEL_H
#define WEFT_RUNTIME_OPS_ATTENTION_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/rng.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Added to scores between tokens that only the roll brought together; not -infinity, as in the
 * reference. */
#define ATTENTION_SHIFT_MASK (-100.0f)

/* Where a tensor's elements are: (batch b, token t, head h, channel d) is at
 * b * batch + t * token + h * head_dim + d, in elements. */
struct attention_stride {
    int64_t batch;
    int64_t token;
};

struct attention_shape {
    int64_t batch;
    int64_t query_len; /* tokens of q and o; grid_h * grid_w with windows */
    int64_t key_len;   /* tokens of k and v; equal to query_len with windows or causal */
    int64_t heads;
    int64_t head_dim; /* 1..256; 16, 32 and 64 are fast */
    bool bf16;        /* q, k, v, o and their gradients are bf16 instead of f32 */
    float scale;      /* usually head_dim^-1/2 */
    bool causal;      /* key j > i is hidden from query i; not with windows */
    float mask_value; /* added to scores of hidden keys (key mask, causal): -10000 in RoBERTa */

    int64_t window; /* side of a window, 0: every query sees all keys; 1..64, divides the grid */
    int64_t shift;  /* 0 <= shift < window */
    int64_t grid_h;
    int64_t grid_w;

    float dropout; /* probability to drop a softmax entry, 0 <= dropout < 1 */

    struct attention_stride q, k, v, o;
    struct attention_stride dq, dk, dv, dout; /* not read when only the forward is used */
};

/*
 * What the dropout of this call draws. Entry (h, i, j) of sample s is kept when rng_uniform(word)
 * >= dropout, with word (e % 4) of rng_at(key, step, s, e / 4) and e = ((c * heads + h) * query_len
 * + i)
 * * row_len + j. Batch row b holds copy c = b / samples of sample sample_base + b % samples (so a
 * tensor of several passes over the same samples draws anew for each). row_len is key_len, or
 * window * window with j the position inside the window. The backward draws the same numbers again.
 */
struct attention_random {
    struct rng_key key;
    uint64_t step;
    uint64_t sample_base;
    int64_t samples;
};

/* Tensors of a call. Nothing may overlap, except that slices of one packed tensor interleave. Only
 * scratch has an alignment (64 bytes) beyond that of its elements. */
struct attention_tensors {
    const void *q, *k, *v;
    const int32_t *key_mask; /* [batch, key_len] 0 = hidden, other = kept; NULL: all kept */
    const float *bias_table; /* [(2 * window - 1)^2, heads]; NULL: none */
    void *o;                 /* written by the forward, read by the backward */
    float *lse;              /* [batch, heads, query_len], likewise */

    const void *dout; /* gradient of o */
    void *dq, *dk, *dv;
    float *dbias_table; /* shaped like bias_table; NULL: not wanted */

    void *scratch; /* attention_scratch_size bytes, aligned to 64; contents do not matter */
    struct attention_random random; /* read when dropout > 0 */
};

/* Refuses shapes that the kernels cannot compute; the message names the value. Errors:
 * STATUS_INVALID. */
enum status attention_shape_check(const struct attention_shape *shape);

/* Bytes of scratch that a forward or backward of a checked shape needs. */
size_t attention_scratch_size(const struct attention_shape *shape, int num_threads);

/* Computes o and lse. The shape has passed attention_shape_check; num_threads is that of
 * attention_scratch_size. */
void attention_forward(const struct attention_shape *shape, const struct attention_tensors *tensors,
                       int num_threads);

/* Computes dq, dk, dv and, where wanted, dbias_table, all overwritten, from dout and what the
 * forward left in o and lse. */
void attention_backward(const struct attention_shape *shape,
                        const struct attention_tensors *tensors, int num_threads);

/* Floating point operations of a forward, 2 per multiply-add, both products; a backward counts
 * twice that. */
double attention_flops(const struct attention_shape *shape);

#ifdef __cplusplus
}
#endif
#endif
