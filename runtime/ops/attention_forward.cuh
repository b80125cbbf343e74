/*
 * Attention forward on tensor cores, bf16 with f32 sums.
 *
 * A block computes one head of a group of places, one place after another, so that the bias of the
 * head is fetched once. q, k and v of a place are copied to shared memory once; a warp takes 16
 * query rows at a time and keeps their products with 48 keys in registers, from there to
 * weights of the values without a barrier (FlashAttention-2, Dao 2023: the largest score and the
 * sum of a row are carried along, the division comes last). Several small blocks on a
 * multiprocessor hide each other's copies.
 *
 * Sequences that do not fit: a block takes 16 rows a warp and the keys come in parts.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_FORWARD_CUH
#define WEFT_RUNTIME_OPS_ATTENTION_FORWARD_CUH

#include "runtime/ops/attention_tile.cuh"

enum { FORWARD_THREADS = 256 };

/* What a warp keeps of its 16 rows; a lane has rows g and g + 8. */
template <int DIM> struct forward_rows {
    struct score_side side[2];
    int token[2];
    uint32_t q[DIM / 16][4];
    float o[DIM / 8][4];
    float top[2]; /* largest score so far */
    float sum[2]; /* of this lane's weights */
};

/* GROUPS x 16 keys from `first` on, whose position in the place is key0 later. */
template <int DIM, bool WINDOW, int GROUPS>
static __device__ __forceinline__ void
forward_keys(const struct attention_problem &p, const struct attention_place &at,
             const unsigned char *shared, int first, int key0, struct forward_rows<DIM> *rows)
{
    const uint16_t *k = reinterpret_cast<const uint16_t *>(shared + p.at.k);
    const uint16_t *v = reinterpret_cast<const uint16_t *>(shared + p.at.v);
    const float *bias = reinterpret_cast<const float *>(shared + p.at.bias);
    const int *key_base = reinterpret_cast<const int *>(shared + p.at.key_base);
    const int *key_mark = reinterpret_cast<const int *>(shared + p.at.key_mark);
    int column = lane_id() % 4 * 2;
    float s[2 * GROUPS][4];
    float top[2] = {rows->top[0], rows->top[1]};
#pragma unroll
    for (int n = 0; n < 2 * GROUPS; n++) {
        s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
    }
#pragma unroll
    for (int n = 0; n < GROUPS; n++) {
        tile_product<DIM>(s + 2 * n, rows->q, k, first + 16 * n);
    }
#pragma unroll
    for (int n = 0; n < 2 * GROUPS; n++) {
        int j = first + 8 * n + column;
        int2 base = *reinterpret_cast<const int2 *>(key_base + j);
        int2 mark = *reinterpret_cast<const int2 *>(key_mark + j);
        const struct score_side key[2] = {{key0 + j, base.x, mark.x},
                                          {key0 + j + 1, base.y, mark.y}};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s[n][i] = score_of<WINDOW>(p, at, bias, s[n][i], rows->side[i / 2], key[i % 2]);
        }
    }
    if (key0 + first + 16 * GROUPS > p.nk) {
#pragma unroll
        for (int n = 0; n < 2 * GROUPS; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (key0 + first + 8 * n + column + i % 2 >= p.nk) s[n][i] = -INFINITY;
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int n = 0; n < 2 * GROUPS; n++) {
            top[half] = fmaxf(top[half], fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        }
        top[half] = quad_max(top[half]);
        /* While every key is hidden by -infinity the weights are 0, not NaN. */
        float from = top[half] == -INFINITY ? 0.0f : top[half];
        float shrink = exp2_fast(rows->top[half] - from);
        rows->top[half] = top[half];
        rows->sum[half] *= shrink;
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            rows->o[n][2 * half] *= shrink;
            rows->o[n][2 * half + 1] *= shrink;
        }
#pragma unroll
        for (int n = 0; n < 2 * GROUPS; n++) {
            s[n][2 * half] = exp2_fast(s[n][2 * half] - from);
            s[n][2 * half + 1] = exp2_fast(s[n][2 * half + 1] - from);
            rows->sum[half] += s[n][2 * half] + s[n][2 * half + 1];
        }
    }
    if (!WINDOW && p.shape.dropout > 0) {
        /* Not unrolled: the generator is long, and the registers are needed. */
        uint32_t kept = 0;
#pragma unroll 1
        for (int n = 0; n < 8 * GROUPS; n++) {
            int j = key0 + first + n / 4 * 8 + column + n % 2;
            kept |= (uint32_t)is_kept(p, at, n & 2 ? rows->token[1] : rows->token[0], j) << n;
        }
#pragma unroll
        for (int n = 0; n < 8 * GROUPS; n++) {
            s[n / 4][n % 4] *= kept >> n & 1 ? p.keep_scale : 0.0f;
        }
    }
#pragma unroll
    for (int n = 0; n < GROUPS; n++) {
        uint32_t weights[4];
        operand_of(weights, s + 2 * n);
        tile_weigh<DIM>(rows->o, weights, v, first + 16 * n);
    }
}

/* Starts 16 rows whose first is `first` in the tile. */
template <int DIM>
static __device__ __forceinline__ void forward_begin(const struct attention_problem &p,
                                                     const unsigned char *shared, int row0,
                                                     int first, struct forward_rows<DIM> *rows)
{
    const int *token = reinterpret_cast<const int *>(shared + p.at.query_token);
    const int *base = reinterpret_cast<const int *>(shared + p.at.query_base);
    const int *mark = reinterpret_cast<const int *>(shared + p.at.query_mark);
    tile_rows<DIM>(reinterpret_cast<const uint16_t *>(shared + p.at.q), first, rows->q);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int i = first + lane_id() / 4 + 8 * half;
        rows->side[half] = {row0 + i, base[i] + bias_origin(p), mark[i]};
        rows->token[half] = token[i];
        rows->top[half] = -INFINITY;
        rows->sum[half] = 0.0f;
    }
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
        rows->o[n][0] = rows->o[n][1] = rows->o[n][2] = rows->o[n][3] = 0.0f;
    }
}

template <int DIM>
static __device__ __forceinline__ void
forward_end(const struct attention_problem &p, const struct attention_place &at,
            unsigned char *shared, int first, int count, struct forward_rows<DIM> *rows)
{
    const int *token = reinterpret_cast<const int *>(shared + p.at.query_token);
    uint16_t *stage = reinterpret_cast<uint16_t *>(shared + p.at.stage);
    float scale[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = quad_sum(rows->sum[half]);
        scale[half] = 1.0f / sum;
        int i = lane_id() / 4 + 8 * half;
        if (lane_id() % 4 == 0 && i < count) {
            p.tensors.lse[row_of(p, at, rows->token[half])] =
                (rows->top[half] + log2f(sum)) * ATTENTION_LN2;
        }
    }
    tile_store<DIM>(static_cast<uint16_t *>(p.tensors.o) + place_of(p, p.shape.o, at, 0),
                    p.shape.o.token, token + first, count, (int)p.shape.head_dim, rows->o, scale,
                    stage + (int)threadIdx.x / WARP * 16 * DIM);
}

/* All keys that are in shared memory, for 16 rows. */
template <int DIM, bool WINDOW>
static __device__ __forceinline__ void
forward_sweep(const struct attention_problem &p, const struct attention_place &at,
              const unsigned char *shared, int key0, int count, struct forward_rows<DIM> *rows)
{
    int first = 0;
    for (; first + 48 <= (count + 15) / 16 * 16; first += 48) {
        forward_keys<DIM, WINDOW, 3>(p, at, shared, first, key0, rows);
    }
    for (; first < count; first += 16) {
        forward_keys<DIM, WINDOW, 1>(p, at, shared, first, key0, rows);
    }
}

/* Grid: heads x row blocks x groups, heads fastest, so that neighbours read neighbouring memory. */
template <int DIM, bool WINDOW>
static __global__ void __launch_bounds__(FORWARD_THREADS, DIM == 64 ? 1 : 2)
    attention_forward_kernel(const struct attention_problem p)
{
    KERNEL_SHARED(unsigned char, shared);
    int head = (int)(blockIdx.x % (unsigned)p.shape.heads);
    int rest = (int)(blockIdx.x / (unsigned)p.shape.heads);
    int row0 = rest % p.row_blocks * p.block_rows;
    int place0 = rest / p.row_blocks * p.group;
    int count = lesser(p.block_rows, p.nq - row0);
    int warp = (int)threadIdx.x / WARP;
    int warps = (int)blockDim.x / WARP;
    bool whole = p.key_rows >= p.nk;
    for (int place = place0; place < lesser(place0 + p.group, p.places); place++) {
        struct attention_place at = enter_place(p, head, place);
        __syncthreads();
        load_queries<DIM>(p, at, shared, row0, count, false);
        if (whole) load_keys<DIM>(p, at, shared, 0, p.nk);
        /* While the copies are on their way. */
        if (WINDOW && place == place0) {
            fill_bias(p, head, reinterpret_cast<float *>(shared + p.at.bias), nullptr);
        }
        finish_loads();
        /* With keys in parts a block has one pass, in which all warps meet at the barriers. */
        for (int pass = 0; pass * 16 * warps < count; pass++) {
            int first = (pass * warps + warp) * 16;
            bool active = first < count;
            struct forward_rows<DIM> rows;
            /* Without a condition: values that are only sometimes set cost registers everywhere. */
            forward_begin<DIM>(p, shared, row0, active ? first : 0, &rows);
            for (int key0 = 0; key0 < p.nk; key0 += p.key_rows) {
                int keys = lesser(p.key_rows, p.nk - key0);
                if (!whole) {
                    if (key0 > 0) __syncthreads();
                    load_keys<DIM>(p, at, shared, key0, keys);
                    finish_loads();
                }
                if (active) forward_sweep<DIM, WINDOW>(p, at, shared, key0, keys, &rows);
            }
            if (active) forward_end<DIM>(p, at, shared, first, lesser(16, count - first), &rows);
        }
    }
}

#endif
