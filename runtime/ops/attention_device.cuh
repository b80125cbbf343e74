/*
 * What the CUDA attention kernels share: the call as they see it, places and positions, and what is
 * added to a score. The definition of every term is runtime/ops/attention_kernel.h.
 *
 * A *place* is one window of one batch row (without windows the whole row); a *position* counts the
 * queries or keys of a place; a *token* is where a position is in its batch row. Rolling, window
 * partition and their inverses are only this map from positions to tokens.
 *
 * Scores are kept in units of log 2, so that every exponential is one instruction.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_DEVICE_CUH
#define WEFT_RUNTIME_OPS_ATTENTION_DEVICE_CUH

#include "runtime/backend/cuda/kernel.cuh"
#include "runtime/ops/attention_cuda.h"

/* Byte offsets of what a block keeps in shared memory. */
struct attention_layout {
    int q, dout, k, v;                                   /* bf16 tiles */
    int query_token, query_base, query_mark, lse, delta; /* [query_rows] of 4 bytes */
    int key_token, key_base, key_mark;                   /* [key_rows] */
    int stage;                                           /* a tile per warp, on its way out */
    int bias, dbias;                                     /* [table] f32 */
    int scores;                                          /* [16 * warps, scores_stride] bf16 */
    int bytes;
};

/* A call of a kernel, passed by value. */
struct attention_problem {
    struct attention_shape shape;
    struct attention_tensors tensors;
    const struct cuda_values *values; /* device memory */
    float *delta;                     /* [batch, heads, query_len] sum over keys of p dp */
    float *partial;                   /* [slots, heads, table] sums of the bias gradient */
    int nq, nk;                       /* queries and keys of a place */
    int windows, across;              /* windows of a batch row, and in one row of windows */
    int table;                        /* rows of the bias table, 0 without windows */
    int places;                       /* batch * windows */
    int group;                        /* places that a block computes one after another */
    int row_blocks;                   /* blocks that share the rows of a place */
    int block_rows;                   /* rows of each */
    int query_rows, key_rows;         /* that fit in shared memory; multiples of 16 */
    int scores_stride;                /* elements */
    bool want_rows, want_columns;     /* backward: compute dq and delta; dk and dv */
    float scale2;                     /* scale * log2(e) */
    float mask2;                      /* mask_value * log2(e) */
    float shift2;                     /* ATTENTION_SHIFT_MASK * log2(e) */
    uint32_t drop_below;              /* dropout: a word below this drops */
    float keep_scale;                 /* 1 / (1 - dropout) */
    struct attention_layout at;
};

#define ATTENTION_LOG2E 1.44269504088896341f
#define ATTENTION_LN2   0.693147180559945309f

static __device__ __forceinline__ int lesser(int a, int b)
{
    return a < b ? a : b;
}

static __device__ __forceinline__ int greater(int a, int b)
{
    return a > b ? a : b;
}

/* What a block is computing. */
struct attention_place {
    int head, b;
    int top, left;  /* of the window in the rolled grid */
    bool divided;   /* its shift mask regions differ */
    int first_kept; /* first key that the key mask keeps, nk when none */
};

/* First key of batch row b that is kept; all lanes of a warp get it. */
static __device__ __forceinline__ int find_first_kept(const struct attention_problem &p, int b)
{
    if (!p.tensors.key_mask) return 0;
    const int32_t *mask = p.tensors.key_mask + b * p.shape.key_len;
    for (int first = 0; first < p.nk; first += WARP) {
        int j = first + lane_id();
        unsigned kept = __ballot_sync(0xFFFFFFFFu, j < p.nk && mask[j] != 0);
        if (kept) return first + __ffs((int)kept) - 1;
    }
    return p.nk;
}

static __device__ __forceinline__ struct attention_place
enter_place(const struct attention_problem &p, int head, int place)
{
    struct attention_place at;
    at.head = head;
    at.b = place / p.windows;
    int window = place - at.b * p.windows;
    int side = (int)p.shape.window;
    int row = window / p.across;
    at.top = row * side;
    at.left = (window - row * p.across) * side;
    at.divided = p.shape.shift > 0 &&
                 (at.top + side == (int)p.shape.grid_h || at.left + side == (int)p.shape.grid_w);
    at.first_kept = find_first_kept(p, at.b);
    return at;
}

/* Token, place in the bias table, and mark of a position: its shift mask region; of a key without
 * windows whether it is hidden. */
struct attention_position {
    int token, base, mark;
};

/* Which of the three shift mask bands a coordinate of the rolled grid is in. */
static __device__ __forceinline__ int shift_band(int at, int length, int side, int shift)
{
    return (at >= length - side) + (at >= length - shift);
}

static __device__ __forceinline__ struct attention_position
find_position(const struct attention_problem &p, const struct attention_place &at, int i)
{
    struct attention_position position = {i, 0, 0};
    int side = (int)p.shape.window;
    if (!side) return position;
    int shift = (int)p.shape.shift, height = (int)p.shape.grid_h, width = (int)p.shape.grid_w;
    int y = i / side;
    int x = i - y * side;
    position.base = y * (2 * side - 1) + x;
    y += at.top;
    x += at.left;
    if (shift) {
        position.mark = 3 * shift_band(y, height, side, shift) + shift_band(x, width, side, shift);
        y = y + shift < height ? y + shift : y + shift - height;
        x = x + shift < width ? x + shift : x + shift - width;
    }
    position.token = y * width + x;
    return position;
}

/* Row of the bias table of a query and a key: this plus the difference of their `base`. */
static __device__ __forceinline__ int bias_origin(const struct attention_problem &p)
{
    return p.table / 2;
}

/* Element 0 of (b, token, head), in elements from the start of a tensor. */
static __device__ __forceinline__ int64_t place_of(const struct attention_problem &p,
                                                   struct attention_stride stride,
                                                   const struct attention_place &at, int token)
{
    return at.b * stride.batch + token * stride.token + at.head * p.shape.head_dim;
}

/* Element of lse and delta. */
static __device__ __forceinline__ int64_t row_of(const struct attention_problem &p,
                                                 const struct attention_place &at, int token)
{
    return ((int64_t)at.b * p.shape.heads + at.head) * p.shape.query_len + token;
}

/* Whether key j is hidden from query i by the key mask (`mark`) or causality. Where they would
 * hide every key of a query they hide none. */
static __device__ __forceinline__ bool is_hidden(const struct attention_problem &p,
                                                 const struct attention_place &at, int i, int j,
                                                 int mark)
{
    bool causal = p.shape.causal;
    bool applies = causal ? at.first_kept <= i : at.first_kept < p.nk;
    return applies && (mark || (causal && j > i));
}

/* Whether dropout keeps the weight of key j for the query at `token`. */
static __device__ __forceinline__ bool is_kept(const struct attention_problem &p,
                                               const struct attention_place &at, int token, int j)
{
    const struct attention_random *random = &p.tensors.random;
    int copy = at.b / (int)random->samples;
    uint64_t sample = p.values->sample_base + (uint64_t)(at.b - copy * (int)random->samples);
    int64_t e = ((copy * p.shape.heads + at.head) * p.shape.query_len + token) * p.nk + j;
    struct rng_block block = rng_at(random->key, p.values->step, sample, (uint32_t)(e / 4));
    int at_word = (int)e & 3;
    uint32_t word = at_word < 2 ? (at_word == 0 ? block.word[0] : block.word[1])
                                : (at_word == 2 ? block.word[2] : block.word[3]);
    return word >= p.drop_below;
}

/* 2^x of a difference that is at most 0 but for rounding. NaN stays. */
static __device__ __forceinline__ float weight_of(float x)
{
    return exp2_fast(x > 0 ? 0.0f : x);
}

#endif
