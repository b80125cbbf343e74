/*
 * Attention backward on tensor cores, bf16 with f32 sums.
 *
 * Two phases. *Rows*: a warp owns 16 queries, and from its weights p and their gradients dp finds
 * delta = sum over keys of p dp, the score gradients ds = p (dp - delta), and dq. *Columns*: a warp
 * owns 16 keys, computes the same products the other way around and finds dk and dv. So every sum
 * is inside one warp: no atomics, no transposes, one order. The second computation of the scores
 * costs tensor-core time, which window attention has to spare: it waits for memory. Where a place
 * fits in shared memory both phases are one kernel and each tensor is read once; otherwise they
 * are two, delta goes through memory, and the side that is not owned comes in parts.
 *
 * delta is summed up from p dp in f32, as on the CPU, and not taken as the product of o and its
 * gradient: o has bf16 digits, and where a softmax is even ds is a small difference of large
 * numbers. Up to 16 * GROUPS keys a row of dp stays in registers for that, and p too where that is
 * not many; longer rows are computed twice.
 *
 * The bias gradient: ds of the rows at hand goes to shared memory; there each (dy mod window, dx
 * mod window) has a thread, which in every row finds exactly one key, and which alone owns the up
 * to four table rows that these offsets stand for. Blocks leave their sums in `partial`, which
 * attention_reduce_kernel adds up in order.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_BACKWARD_CUH
#define WEFT_RUNTIME_OPS_ATTENTION_BACKWARD_CUH

#include "runtime/ops/attention_tile.cuh"

/*
 * Registers a thread: what the kernels need without spilling. Above 168 a quarter of an SM holds
 * two warps instead of three.
 */
template <int DIM, int GROUPS> struct backward_sizes {
    static constexpr int registers = DIM == 64 ? 224 : GROUPS == 4 ? 200 : 168;
};

enum { BACKWARD_THREADS = 256 };

/* The 16 queries or keys that a warp owns; a lane has rows g and g + 8. */
template <int DIM> struct owned_rows {
    struct score_side side[2];
    uint32_t left[DIM / 16][4];  /* q or k */
    uint32_t right[DIM / 16][4]; /* dout or v */
    float lse[2], delta[2];      /* of queries */
};

/* What a warp finds out about its rows and 16 positions of the other side. */
struct score_block {
    float weight[2][4];
    float keep[2][4];  /* dropout: what weights are multiplied with */
    float slope[2][4]; /* gradient of the weights */
};

/* `first` is the row in the tile, row0 the position of the tile's first row in the place. */
template <int DIM, bool KEYS>
static __device__ __forceinline__ void own_rows(const struct attention_problem &p,
                                                const unsigned char *shared, int row0, int first,
                                                struct owned_rows<DIM> *rows)
{
    const int *base =
        reinterpret_cast<const int *>(shared + (KEYS ? p.at.key_base : p.at.query_base));
    const int *mark =
        reinterpret_cast<const int *>(shared + (KEYS ? p.at.key_mark : p.at.query_mark));
    const unsigned char *left = shared + (KEYS ? p.at.k : p.at.q);
    const unsigned char *right = shared + (KEYS ? p.at.v : p.at.dout);
    tile_rows<DIM>(reinterpret_cast<const uint16_t *>(left), first, rows->left);
    tile_rows<DIM>(reinterpret_cast<const uint16_t *>(right), first, rows->right);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int i = first + lane_id() / 4 + 8 * half;
        rows->side[half] = {row0 + i, base[i] + (KEYS ? 0 : bias_origin(p)), mark[i]};
        rows->delta[half] = 0.0f;
        rows->lse[half] = KEYS ? 0.0f : reinterpret_cast<const float *>(shared + p.at.lse)[i];
    }
}

template <int DIM> static __device__ __forceinline__ void clear_rows(float (*sum)[4])
{
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
        sum[n][0] = sum[n][1] = sum[n][2] = sum[n][3] = 0.0f;
    }
}

/* Dropout of a block whose column 0 of this lane is position `column` of the other side. */
template <bool KEYS>
static __device__ __forceinline__ void
block_keep(const struct attention_problem &p, const struct attention_place &at,
           const struct score_side *own, int column, struct score_block *block)
{
    uint32_t kept = 0;
#pragma unroll 1
    for (int n = 0; n < 8; n++) {
        int other = column + n / 4 * 8 + n % 2;
        int mine = n & 2 ? own[1].at : own[0].at;
        kept |= (uint32_t)is_kept(p, at, KEYS ? other : mine, KEYS ? mine : other) << n;
    }
#pragma unroll
    for (int n = 0; n < 8; n++) {
        block->keep[n / 4][n % 4] = kept >> n & 1 ? p.keep_scale : 0.0f;
    }
}

/*
 * The 16 positions of the other side that begin at row `first` of its tile, whose row 0 is position
 * other0. Weights are 0 for keys and queries past the end; `inside` tells that no key is.
 */
template <int DIM, bool WINDOW, bool KEYS>
static __device__ __forceinline__ void
score_block_of(const struct attention_problem &p, const struct attention_place &at,
               const unsigned char *shared, const struct owned_rows<DIM> &own, int first,
               int other0, bool inside, struct score_block *block)
{
    const unsigned char *left = shared + (KEYS ? p.at.q : p.at.k);
    const unsigned char *right = shared + (KEYS ? p.at.dout : p.at.v);
    const float *bias = reinterpret_cast<const float *>(shared + p.at.bias);
    const int *bases =
        reinterpret_cast<const int *>(shared + (KEYS ? p.at.query_base : p.at.key_base));
    const int *marks =
        reinterpret_cast<const int *>(shared + (KEYS ? p.at.query_mark : p.at.key_mark));
    const float *lses = reinterpret_cast<const float *>(shared + p.at.lse);
    int column = first + lane_id() % 4 * 2;
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            block->weight[n][i] = block->slope[n][i] = 0.0f;
            block->keep[n][i] = 1.0f;
        }
    }
    tile_product<DIM>(block->weight, own.left, reinterpret_cast<const uint16_t *>(left), first);
    tile_product<DIM>(block->slope, own.right, reinterpret_cast<const uint16_t *>(right), first);
#pragma unroll
    for (int n = 0; n < 2; n++) {
        int j = column + 8 * n;
        int2 base = *reinterpret_cast<const int2 *>(bases + j);
        int2 mark = *reinterpret_cast<const int2 *>(marks + j);
        float2 lse = KEYS ? *reinterpret_cast<const float2 *>(lses + j) : make_float2(0.0f, 0.0f);
        int origin = KEYS ? bias_origin(p) : 0;
        const struct score_side other[2] = {{other0 + j, base.x + origin, mark.x},
                                            {other0 + j + 1, base.y + origin, mark.y}};
        const float other_lse[2] = {lse.x, lse.y};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const struct score_side &query = KEYS ? other[i % 2] : own.side[i / 2];
            const struct score_side &key = KEYS ? own.side[i / 2] : other[i % 2];
            float score = score_of<WINDOW>(p, at, bias, block->weight[n][i], query, key);
            block->weight[n][i] = weight_of(score - (KEYS ? other_lse[i % 2] : own.lse[i / 2]));
        }
    }
    if (!KEYS && !inside && other0 + first + 16 > p.nk) {
#pragma unroll
        for (int n = 0; n < 2; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (other0 + column + 8 * n + i % 2 >= p.nk) block->weight[n][i] = 0.0f;
            }
        }
    }
    if (!WINDOW && p.shape.dropout > 0) {
        block_keep<KEYS>(p, at, own.side, other0 + column, block);
#pragma unroll
        for (int n = 0; n < 2; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                block->slope[n][i] *= block->keep[n][i];
            }
        }
    }
}

/* ---- rows ---- */

/* Takes in p dp of a block. */
static __device__ __forceinline__ void add_delta(const struct score_block &block, float *delta)
{
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            delta[i / 2] = fmaf(block.weight[n][i], block.slope[n][i], delta[i / 2]);
        }
    }
}

/* In `scores`: what operand_of makes of this lane's part of keys first .. first + 15, at i. */
static __device__ __forceinline__ uint32_t *score_pair(const struct attention_problem &p,
                                                       unsigned char *shared, int first, int i)
{
    int row = (int)threadIdx.x / WARP * 16 + lane_id() / 4 + i % 2 * 8;
    int column = first + lane_id() % 4 * 2 + i / 2 * 8;
    return reinterpret_cast<uint32_t *>(reinterpret_cast<uint16_t *>(shared + p.at.scores) +
                                        row * p.scores_stride + column);
}

/* ds of 16 keys into dq, and into `scores`, where the bias gradient is made of it. */
template <int DIM>
static __device__ __forceinline__ void use_gradient(const struct attention_problem &p,
                                                    unsigned char *shared, const float (*ds)[4],
                                                    int first, float (*dq)[4])
{
    uint32_t operand[4];
    operand_of(operand, ds);
    tile_weigh<DIM>(dq, operand, reinterpret_cast<const uint16_t *>(shared + p.at.k), first);
    if (!p.tensors.dbias_table) return;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        *score_pair(p, shared, first, i) = operand[i];
    }
}

/*
 * A whole row at once: up to 16 * GROUPS keys (9: no fewer than 129), all in shared memory. With 9
 * groups the weights, as bf16, wait in `scores`, where their gradients come later. That they leave,
 * and a branch after every third group, keeps the compiler from putting off what can be put off
 * (delta, rounding) until all f32 weights of the row are in registers at once.
 */
template <int DIM, bool WINDOW, int GROUPS>
static __device__ __forceinline__ void
short_rows(const struct attention_problem &p, const struct attention_place &at,
           unsigned char *shared, struct owned_rows<DIM> *own, float (*dq)[4])
{
    uint32_t weights[GROUPS][4];
    float slope[2 * GROUPS][4];
#pragma unroll
    for (int n = 0; n < GROUPS; n++) {
        if ((GROUPS < 9 || n % 3 == 2) && 16 * n >= p.nk) continue;
        struct score_block block;
        score_block_of<DIM, WINDOW, false>(p, at, shared, *own, 16 * n, 0, GROUPS == 9 && n < 8,
                                           &block);
        add_delta(block, own->delta);
        operand_of(weights[n], block.weight);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (GROUPS == 9) *score_pair(p, shared, 16 * n, i) = weights[n][i];
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            slope[2 * n + i / 4][i % 4] = block.slope[i / 4][i % 4];
        }
    }
    own->delta[0] = quad_sum(own->delta[0]);
    own->delta[1] = quad_sum(own->delta[1]);
#pragma unroll
    for (int n = 0; n < GROUPS; n++) {
        if (GROUPS < 9 && 16 * n >= p.nk) continue;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 weight =
                f32_of_pair(GROUPS == 9 ? *score_pair(p, shared, 16 * n, i) : weights[n][i]);
            float *x = &slope[2 * n + i / 2][i % 2 * 2];
            x[0] = weight.x * (x[0] - own->delta[i % 2]);
            x[1] = weight.y * (x[1] - own->delta[i % 2]);
        }
        use_gradient<DIM>(p, shared, slope + 2 * n, 16 * n, dq);
    }
}

/* Keys [0, count) of the tile, key0 later in the place: adds to delta, or with it to dq. */
template <int DIM, bool WINDOW>
static __device__ __forceinline__ void long_rows(const struct attention_problem &p,
                                                 const struct attention_place &at,
                                                 unsigned char *shared, struct owned_rows<DIM> *own,
                                                 int key0, int count, bool use, float (*dq)[4])
{
#pragma unroll 1
    for (int first = 0; first < count; first += 16) {
        struct score_block block;
        score_block_of<DIM, WINDOW, false>(p, at, shared, *own, first, key0, false, &block);
        if (!use) {
            add_delta(block, own->delta);
            continue;
        }
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int half = i % 4 / 2;
            block.slope[i / 4][i % 4] =
                block.weight[i / 4][i % 4] * (block.slope[i / 4][i % 4] - own->delta[half]);
        }
        use_gradient<DIM>(p, shared, block.slope, first, dq);
    }
    if (use || key0 + count < p.nk) return;
    own->delta[0] = quad_sum(own->delta[0]);
    own->delta[1] = quad_sum(own->delta[1]);
}

/* Adds the gradients of rows [row0, row0 + count) in `scores` to the block's table. */
static __device__ __forceinline__ void gather_bias(const struct attention_problem &p,
                                                   unsigned char *shared, int row0, int count)
{
    const uint16_t *scores = reinterpret_cast<const uint16_t *>(shared + p.at.scores);
    float *dbias = reinterpret_cast<float *>(shared + p.at.dbias);
    int side = (int)p.shape.window;
    for (int unit = (int)threadIdx.x; unit < side * side; unit += (int)blockDim.x) {
        int dx = unit / side;
        int dy = unit - dx * side;
        float sum[2][2] = {{0.0f, 0.0f}, {0.0f, 0.0f}}; /* [dy < 0][dx < 0] */
        for (int y = row0 / side; y * side < row0 + count; y++) {
            int below = y < dy;
            int begin = greater(row0, y * side);
            int end = lesser(row0 + count, (y + 1) * side);
            int middle = lesser(greater(y * side + dx, begin), end);
            /* Of query (y, x): key (y - dy, x - dx), both modulo `side`. */
            const uint16_t *key =
                scores + (y - dy + below * side) * side - (y * side + dx) - row0 * p.scores_stride;
            float left = 0.0f;
            float right = 0.0f;
            for (int i = begin; i < middle; i++) {
                left += f32_of_bf16(key[i * (p.scores_stride + 1) + side]);
            }
            for (int i = middle; i < end; i++) {
                right += f32_of_bf16(key[i * (p.scores_stride + 1)]);
            }
            if (below) {
                sum[1][1] += left;
                sum[1][0] += right;
            } else {
                sum[0][1] += left;
                sum[0][0] += right;
            }
        }
        int width = 2 * side - 1;
        float *at = dbias + (dy + side - 1) * width + dx + side - 1;
        at[0] += sum[0][0];
        if (dx) at[-side] += sum[0][1];
        if (dy) at[-side * width] += sum[1][0];
        if (dx && dy) at[-side * width - side] += sum[1][1];
    }
}

template <int DIM>
static __device__ __forceinline__ void
rows_end(const struct attention_problem &p, const struct attention_place &at, unsigned char *shared,
         int first, int count, const struct owned_rows<DIM> &own, const float (*dq)[4])
{
    const int *token = reinterpret_cast<const int *>(shared + p.at.query_token);
    float *delta = reinterpret_cast<float *>(shared + p.at.delta);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int i = lane_id() / 4 + 8 * half;
        if (lane_id() % 4 == 0 && i < count) {
            if (p.want_columns) {
                delta[first + i] = own.delta[half];
            } else {
                p.delta[row_of(p, at, token[first + i])] = own.delta[half];
            }
        }
    }
    const float scale[2] = {p.shape.scale, p.shape.scale};
    tile_store<DIM>(static_cast<uint16_t *>(p.tensors.dq) + place_of(p, p.shape.dq, at, 0),
                    p.shape.dq.token, token + first, count, (int)p.shape.head_dim, dq, scale,
                    reinterpret_cast<uint16_t *>(shared + p.at.stage) +
                        (int)threadIdx.x / WARP * 16 * DIM);
}

/* Queries [row0, row0 + count), which are in shared memory. */
template <int DIM, bool WINDOW, int GROUPS>
static __device__ __forceinline__ void rows_phase(const struct attention_problem &p,
                                                  const struct attention_place &at,
                                                  unsigned char *shared, int row0, int count)
{
    int warp = (int)threadIdx.x / WARP;
    int warps = (int)blockDim.x / WARP;
    bool whole = p.key_rows >= p.nk;
    for (int pass = 0; pass * 16 * warps < count; pass++) {
        int first = (pass * warps + warp) * 16;
        bool active = first < count;
        struct owned_rows<DIM> own;
        float dq[DIM / 8][4];
        /* Without a condition: values that are only sometimes set cost registers everywhere. */
        own_rows<DIM, false>(p, shared, row0, active ? first : 0, &own);
        clear_rows<DIM>(dq);
        if (GROUPS > 0) {
            if (active) short_rows<DIM, WINDOW, (GROUPS > 0 ? GROUPS : 1)>(p, at, shared, &own, dq);
        } else {
            for (int sweep = 0; sweep < 2; sweep++) {
                for (int key0 = 0; key0 < p.nk; key0 += p.key_rows) {
                    int keys = lesser(p.key_rows, p.nk - key0);
                    if (!whole) {
                        __syncthreads();
                        load_keys<DIM>(p, at, shared, key0, keys);
                        finish_loads();
                    }
                    if (active) {
                        long_rows<DIM, WINDOW>(p, at, shared, &own, key0, keys, sweep == 1, dq);
                    }
                }
            }
        }
        if (active) rows_end<DIM>(p, at, shared, first, lesser(16, count - first), own, dq);
        if (WINDOW && p.tensors.dbias_table) {
            int pass0 = pass * warps * 16;
            __syncthreads();
            gather_bias(p, shared, row0 + pass0, lesser(warps * 16, count - pass0));
            __syncthreads();
        }
    }
}

/* ---- columns ---- */

/* Queries [0, count) of the tile, query0 later in the place, into dk and dv. */
template <int DIM, bool WINDOW>
static __device__ __forceinline__ void
columns_sweep(const struct attention_problem &p, const struct attention_place &at,
              const unsigned char *shared, const struct owned_rows<DIM> &own, int query0, int count,
              float (*dk)[4], float (*dv)[4])
{
    const uint16_t *q = reinterpret_cast<const uint16_t *>(shared + p.at.q);
    const uint16_t *dout = reinterpret_cast<const uint16_t *>(shared + p.at.dout);
    const float *deltas = reinterpret_cast<const float *>(shared + p.at.delta);
#pragma unroll 1
    for (int first = 0; first < count; first += 16) {
        struct score_block block;
        score_block_of<DIM, WINDOW, true>(p, at, shared, own, first, query0, true, &block);
        uint32_t operand[4];
        float kept[2][4];
#pragma unroll
        for (int n = 0; n < 2; n++) {
            float2 delta =
                *reinterpret_cast<const float2 *>(deltas + first + 8 * n + lane_id() % 4 * 2);
            const float other[2] = {delta.x, delta.y};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                kept[n][i] = WINDOW ? block.weight[n][i] : block.weight[n][i] * block.keep[n][i];
                block.slope[n][i] = block.weight[n][i] * (block.slope[n][i] - other[i % 2]);
            }
        }
        operand_of(operand, kept);
        tile_weigh<DIM>(dv, operand, dout, first);
        operand_of(operand, block.slope);
        tile_weigh<DIM>(dk, operand, q, first);
    }
}

/* Keys [row0, row0 + count), which are in shared memory. */
template <int DIM, bool WINDOW>
static __device__ __forceinline__ void columns_phase(const struct attention_problem &p,
                                                     const struct attention_place &at,
                                                     unsigned char *shared, int row0, int count)
{
    int warp = (int)threadIdx.x / WARP;
    int warps = (int)blockDim.x / WARP;
    bool whole = p.query_rows >= p.nq;
    const int *token = reinterpret_cast<const int *>(shared + p.at.key_token);
    uint16_t *stage = reinterpret_cast<uint16_t *>(shared + p.at.stage) + warp * 16 * DIM;
    for (int pass = 0; pass * 16 * warps < count; pass++) {
        int first = (pass * warps + warp) * 16;
        bool active = first < count;
        struct owned_rows<DIM> own;
        float dk[DIM / 8][4];
        float dv[DIM / 8][4];
        own_rows<DIM, true>(p, shared, row0, active ? first : 0, &own);
        clear_rows<DIM>(dk);
        clear_rows<DIM>(dv);
        for (int query0 = 0; query0 < p.nq; query0 += p.query_rows) {
            int queries = lesser(p.query_rows, p.nq - query0);
            if (!whole) {
                __syncthreads();
                load_queries<DIM>(p, at, shared, query0, queries, true);
                finish_loads();
            }
            if (active) {
                columns_sweep<DIM, WINDOW>(p, at, shared, own, query0, queries, dk, dv);
            }
        }
        if (!active) continue;
        int rows = lesser(16, count - first);
        const float one[2] = {1.0f, 1.0f};
        const float scale[2] = {p.shape.scale, p.shape.scale};
        tile_store<DIM>(static_cast<uint16_t *>(p.tensors.dk) + place_of(p, p.shape.dk, at, 0),
                        p.shape.dk.token, token + first, rows, (int)p.shape.head_dim, dk, scale,
                        stage);
        tile_store<DIM>(static_cast<uint16_t *>(p.tensors.dv) + place_of(p, p.shape.dv, at, 0),
                        p.shape.dv.token, token + first, rows, (int)p.shape.head_dim, dv, one,
                        stage);
    }
}

/*
 * Grid: heads x row blocks x groups, heads fastest. Both phases (row_blocks is 1), or one of them:
 * rows with GROUPS 0, or columns.
 */
template <int DIM, bool WINDOW, int GROUPS>
static __global__ void KERNEL_REGISTERS((backward_sizes<DIM, GROUPS>::registers))
    attention_backward_kernel(const struct attention_problem p)
{
    KERNEL_SHARED(unsigned char, shared);
    int head = (int)(blockIdx.x % (unsigned)p.shape.heads);
    int rest = (int)(blockIdx.x / (unsigned)p.shape.heads);
    int row0 = rest % p.row_blocks * p.block_rows;
    int slot = rest;
    int place0 = rest / p.row_blocks * p.group;
    int queries = p.want_rows ? lesser(p.block_rows, p.nq - row0) : p.nq;
    int keys = p.want_columns ? lesser(p.block_rows, p.nk - row0) : p.nk;
    float *dbias = reinterpret_cast<float *>(shared + p.at.dbias);
    bool want_dbias = WINDOW && p.want_rows && p.tensors.dbias_table;
    for (int place = place0; place < lesser(place0 + p.group, p.places); place++) {
        struct attention_place at = enter_place(p, head, place);
        __syncthreads();
        if (queries <= p.query_rows) {
            load_queries<DIM>(p, at, shared, p.want_rows ? row0 : 0, queries, true);
        }
        if (keys <= p.key_rows) {
            load_keys<DIM>(p, at, shared, p.want_columns ? row0 : 0, keys);
        }
        /* While the copies are on their way. */
        if (WINDOW && place == place0) {
            fill_bias(p, head, reinterpret_cast<float *>(shared + p.at.bias),
                      want_dbias ? dbias : nullptr);
        }
        finish_loads();
        if (p.want_rows) rows_phase<DIM, WINDOW, GROUPS>(p, at, shared, row0, queries);
        if (p.want_rows && p.want_columns) __syncthreads();
        if (p.want_columns) columns_phase<DIM, WINDOW>(p, at, shared, row0, keys);
    }
    if (!want_dbias) return;
    __syncthreads();
    float *partial = p.partial + ((int64_t)slot * p.shape.heads + head) * p.table;
    for (int n = (int)threadIdx.x; n < p.table; n += (int)blockDim.x) {
        partial[n] = dbias[n];
    }
}

#endif
