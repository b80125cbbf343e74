/*
 * Attention in f32 arithmetic, forward and backward: for f32 tensors, where results equal the
 * CPU's up to the order of sums, and for bf16 tensors whose head size or layout the tensor-core
 * kernels do not take. Every size and feature of attention_kernel.h.
 *
 * A warp owns some rows (queries, or keys where dk and dv are computed), and meets the rows
 * of the other side 32 at a time in shared memory: a lane computes the products with one of them.
 * Then lanes change roles, to one channel each, and sum over the 32. As in attention_backward.cuh
 * each sum belongs to one warp, and what is needed in another direction is computed again.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_EXACT_CUH
#define WEFT_RUNTIME_OPS_ATTENTION_EXACT_CUH

#include "runtime/ops/attention_device.cuh"

enum { EXACT_WARPS = 4, EXACT_THREADS = EXACT_WARPS * WARP };

/* Row strides in shared memory: of rows read whole by one lane each, four floats more than the
 * padded head size, so that lanes meet different banks. */
template <int SLOTS> struct exact_sizes {
    static constexpr int stride = SLOTS * WARP + 4;
    static constexpr int tile = WARP * stride;
    static constexpr int rows = SLOTS > 2 ? 4 : 8; /* that a warp owns */
    static constexpr int block_rows = EXACT_WARPS * rows;
    static constexpr int own = block_rows * stride;
};

/* Copies head rows to shared memory as f32, zeros where there are none: rows [first, first + rows)
 * of `count`. */
template <typename T, int SLOTS>
static __device__ __forceinline__ void
exact_load(const struct attention_problem &p, const struct attention_place &at, const void *tensor,
           struct attention_stride stride, int first, int rows, int count, float *tile)
{
    int dim = (int)p.shape.head_dim;
    const T *source = static_cast<const T *>(tensor);
    for (int row = (int)threadIdx.x / WARP; row < rows; row += (int)blockDim.x / WARP) {
        bool real = first + row < count;
        int64_t from = real ? place_of(p, stride, at, find_position(p, at, first + row).token) : 0;
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) {
            int d = slot * WARP + lane_id();
            tile[row * exact_sizes<SLOTS>::stride + d] =
                real && d < dim ? load_f32(source + from + d) : 0.0f;
        }
    }
}

/* Products of the warp's rows at `rows` with this lane's row of `tile`. */
template <int SLOTS>
static __device__ __forceinline__ void exact_products(const struct attention_problem &p,
                                                      const float *rows, const float *tile,
                                                      float *product)
{
    const int stride = exact_sizes<SLOTS>::stride;
#pragma unroll
    for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
        product[r] = 0.0f;
    }
    for (int d = 0; d < (int)p.shape.head_dim; d += 4) {
        float other[4];
        load_pack(tile + lane_id() * stride + d, other);
#pragma unroll
        for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
            float own[4];
            load_pack(rows + r * stride + d, own);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                product[r] = fmaf(own[i], other[i], product[r]);
            }
        }
    }
}

/* sum[r][slot] += weights [exact_sizes<SLOTS>::rows, 32] x tile, for this lane's channels. */
template <int SLOTS>
static __device__ __forceinline__ void exact_weigh(const float *weights, const float *tile,
                                                   float (*sum)[SLOTS])
{
    for (int n = 0; n < WARP; n += 4) {
        float value[4][SLOTS];
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int slot = 0; slot < SLOTS; slot++) {
                value[i][slot] =
                    tile[(n + i) * exact_sizes<SLOTS>::stride + slot * WARP + lane_id()];
            }
        }
#pragma unroll
        for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
            float weight[4];
            load_pack(weights + r * WARP + n, weight);
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int slot = 0; slot < SLOTS; slot++) {
                    sum[r][slot] = fmaf(weight[i], value[i][slot], sum[r][slot]);
                }
            }
        }
    }
}

/* Writes sums times scale[r] to the rows of a tensor. */
template <typename T, int SLOTS>
static __device__ __forceinline__ void
exact_store(const struct attention_problem &p, const struct attention_place &at, void *tensor,
            struct attention_stride stride, int first, int count, const float (*sum)[SLOTS],
            const float *scale)
{
    T *target = static_cast<T *>(tensor);
#pragma unroll
    for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
        if (first + r >= count) break;
        int64_t to = place_of(p, stride, at, find_position(p, at, first + r).token);
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) {
            int d = slot * WARP + lane_id();
            if (d < (int)p.shape.head_dim) store_f32(target + to + d, sum[r][slot] * scale[r]);
        }
    }
}

/* A row of either side. */
struct exact_row {
    int at; /* position in the place */
    bool real;
    struct attention_position position;
    bool hidden; /* a key, by the mask */
    float lse;   /* of a query, in units of log 2; backward */
};

static __device__ __forceinline__ struct exact_row exact_query(const struct attention_problem &p,
                                                               const struct attention_place &at,
                                                               int i, bool backward)
{
    struct exact_row row = {i, i < p.nq, {0, 0, 0}, false, 0.0f};
    if (!row.real) return row;
    row.position = find_position(p, at, i);
    if (backward) {
        row.lse = p.tensors.lse[row_of(p, at, row.position.token)] * ATTENTION_LOG2E;
    }
    return row;
}

static __device__ __forceinline__ struct exact_row
exact_key(const struct attention_problem &p, const struct attention_place &at, int j)
{
    struct exact_row row = {j, j < p.nk, {0, 0, 0}, false, 0.0f};
    if (!row.real) return row;
    row.position = find_position(p, at, j);
    row.hidden =
        p.tensors.key_mask && p.tensors.key_mask[at.b * p.shape.key_len + row.position.token] == 0;
    return row;
}

/* Row of the bias table. */
static __device__ __forceinline__ int exact_bias_row(const struct attention_problem &p,
                                                     const struct exact_row &query,
                                                     const struct exact_row &key)
{
    return bias_origin(p) + query.position.base - key.position.base;
}

/* The score of a product, in units of log 2. */
static __device__ __forceinline__ float exact_score(const struct attention_problem &p,
                                                    const struct attention_place &at, float product,
                                                    const struct exact_row &query,
                                                    const struct exact_row &key)
{
    float add = 0.0f;
    if (p.tensors.bias_table) {
        int64_t entry = exact_bias_row(p, query, key) * p.shape.heads + at.head;
        add = p.tensors.bias_table[entry] * ATTENTION_LOG2E;
    }
    if (at.divided && query.position.mark != key.position.mark) add += p.shift2;
    if (is_hidden(p, at, query.at, key.at, key.hidden)) add += p.mask2;
    return fmaf(product, p.scale2, add);
}

/* Bit r: dropout keeps the weight of own row first + r and this lane's row. */
template <int SLOTS, bool KEYS>
static __device__ __forceinline__ uint32_t exact_kept(const struct attention_problem &p,
                                                      const struct attention_place &at, int first,
                                                      const struct exact_row &other)
{
    if (p.shape.dropout == 0) return 0;
    uint32_t kept = 0;
#pragma unroll 1
    for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
        int i = KEYS ? other.at : first + r;
        int j = KEYS ? first + r : other.at;
        if (i >= p.nq || j >= p.nk) continue;
        int token = find_position(p, at, i).token;
        kept |= (uint32_t)is_kept(p, at, token, j) << r;
    }
    return kept;
}

/* First key of the window that is kept, as enter_place finds it without windows. */
static __device__ __forceinline__ void exact_enter(const struct attention_problem &p,
                                                   struct attention_place *at)
{
    if (!p.shape.window || !p.tensors.key_mask) return;
    const int32_t *mask = p.tensors.key_mask + at->b * p.shape.key_len;
    at->first_kept = p.nk;
    for (int first = 0; first < p.nk && at->first_kept == p.nk; first += WARP) {
        int j = first + lane_id();
        unsigned kept = __ballot_sync(
            0xFFFFFFFFu, j < p.nk && mask[find_position(p, *at, j < p.nk ? j : 0).token] != 0);
        if (kept) at->first_kept = first + __ffs((int)kept) - 1;
    }
}

/* ---- forward ---- */

template <typename T, int SLOTS>
static __global__ void __launch_bounds__(EXACT_THREADS, SLOTS > 2 ? 2 : 3)
    attention_exact_forward_kernel(const struct attention_problem p)
{
    KERNEL_SHARED(float, shared);
    const int stride = exact_sizes<SLOTS>::stride;
    float *q = shared;
    float *k = q + exact_sizes<SLOTS>::own;
    float *v = k + exact_sizes<SLOTS>::tile;
    int warp = (int)threadIdx.x / WARP;
    float *weights = v + exact_sizes<SLOTS>::tile + warp * exact_sizes<SLOTS>::rows * WARP;
    int head = (int)(blockIdx.x % (unsigned)p.shape.heads);
    int rest = (int)(blockIdx.x / (unsigned)p.shape.heads);
    int row0 = rest % p.row_blocks * exact_sizes<SLOTS>::block_rows;
    struct attention_place at = enter_place(p, head, rest / p.row_blocks);
    exact_enter(p, &at);
    exact_load<T, SLOTS>(p, at, p.tensors.q, p.shape.q, row0, exact_sizes<SLOTS>::block_rows, p.nq,
                         q);
    int first = row0 + warp * exact_sizes<SLOTS>::rows;
    float o[exact_sizes<SLOTS>::rows][SLOTS];
    float top[exact_sizes<SLOTS>::rows];
    float sum[exact_sizes<SLOTS>::rows]; /* of this lane's keys */
    struct exact_row query[exact_sizes<SLOTS>::rows];
#pragma unroll
    for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
        query[r] = exact_query(p, at, first + r, false);
        top[r] = -INFINITY;
        sum[r] = 0.0f;
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) {
            o[r][slot] = 0.0f;
        }
    }
    for (int key0 = 0; key0 < p.nk; key0 += WARP) {
        __syncthreads();
        exact_load<T, SLOTS>(p, at, p.tensors.k, p.shape.k, key0, WARP, p.nk, k);
        exact_load<T, SLOTS>(p, at, p.tensors.v, p.shape.v, key0, WARP, p.nk, v);
        __syncthreads();
        float s[exact_sizes<SLOTS>::rows];
        exact_products<SLOTS>(p, q + warp * exact_sizes<SLOTS>::rows * stride, k, s);
        struct exact_row key = exact_key(p, at, key0 + lane_id());
        uint32_t kept = exact_kept<SLOTS, false>(p, at, first, key);
#pragma unroll
        for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
            float score = key.real ? exact_score(p, at, s[r], query[r], key) : -INFINITY;
            float most = fmaxf(top[r], score);
#pragma unroll
            for (int bits = WARP / 2; bits > 0; bits /= 2) {
                most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFu, most, bits));
            }
            float from = most == -INFINITY ? 0.0f : most;
            float shrink = exp2f(top[r] - from);
            float weight = exp2f(score - from);
            top[r] = most;
            sum[r] = fmaf(sum[r], shrink, weight);
#pragma unroll
            for (int slot = 0; slot < SLOTS; slot++) {
                o[r][slot] *= shrink;
            }
            if (p.shape.dropout > 0) weight *= kept >> r & 1 ? p.keep_scale : 0.0f;
            weights[r * WARP + lane_id()] = weight;
        }
        __syncwarp();
        exact_weigh<SLOTS>(weights, v, o);
        __syncwarp();
    }
    float scale[exact_sizes<SLOTS>::rows];
#pragma unroll
    for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
        float total = warp_sum(sum[r]);
        scale[r] = 1.0f / total;
        if (query[r].real && lane_id() == 0) {
            p.tensors.lse[row_of(p, at, query[r].position.token)] =
                (top[r] + log2f(total)) * ATTENTION_LN2;
        }
    }
    exact_store<T, SLOTS>(p, at, p.tensors.o, p.shape.o, first, p.nq, o, scale);
}

/* ---- backward ---- */

/* Shared memory of the backward: own rows of two tensors, 32 rows of the other side's, weights and
 * their gradients. */
template <int SLOTS> struct exact_backward_shared {
    float own[2][exact_sizes<SLOTS>::own];
    float other[2][exact_sizes<SLOTS>::tile];
    float weights[EXACT_WARPS][exact_sizes<SLOTS>::rows * WARP];
    float slopes[EXACT_WARPS][exact_sizes<SLOTS>::rows * WARP];
};

/* The weight of a pair, 0 where one of the two is past the end. */
static __device__ __forceinline__ float exact_weight(const struct attention_problem &p,
                                                     const struct attention_place &at,
                                                     const struct exact_row &query,
                                                     const struct exact_row &key, float product)
{
    if (!query.real || !key.real) return 0.0f;
    float x = exact_score(p, at, product, query, key) - query.lse;
    return exp2f(x > 0 ? 0.0f : x);
}

/*
 * delta of the warp's queries: from o and its gradient for f32, whose digits suffice; for bf16 from
 * p and dp of all keys, see attention_backward.cuh.
 */
template <typename T, int SLOTS>
static __device__ __forceinline__ void
exact_delta(const struct attention_problem &p, const struct attention_place &at,
            const struct exact_row *query, struct exact_backward_shared<SLOTS> *shared,
            bool from_output, float *delta)
{
    const int stride = exact_sizes<SLOTS>::stride;
    int warp = (int)threadIdx.x / WARP;
    const float *q = shared->own[0] + warp * exact_sizes<SLOTS>::rows * stride;
    const float *dout = shared->own[1] + warp * exact_sizes<SLOTS>::rows * stride;
#pragma unroll
    for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
        delta[r] = 0.0f;
    }
    if (from_output) {
        const T *o = static_cast<const T *>(p.tensors.o);
#pragma unroll
        for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
            if (!query[r].real) break;
            int64_t from = place_of(p, p.shape.o, at, query[r].position.token);
#pragma unroll
            for (int slot = 0; slot < SLOTS; slot++) {
                int d = slot * WARP + lane_id();
                if (d < (int)p.shape.head_dim) {
                    delta[r] = fmaf(load_f32(o + from + d), dout[r * stride + d], delta[r]);
                }
            }
            delta[r] = warp_sum(delta[r]);
        }
        return;
    }
    for (int key0 = 0; key0 < p.nk; key0 += WARP) {
        __syncthreads();
        exact_load<T, SLOTS>(p, at, p.tensors.k, p.shape.k, key0, WARP, p.nk, shared->other[0]);
        exact_load<T, SLOTS>(p, at, p.tensors.v, p.shape.v, key0, WARP, p.nk, shared->other[1]);
        __syncthreads();
        float product[exact_sizes<SLOTS>::rows];
        float slope[exact_sizes<SLOTS>::rows];
        exact_products<SLOTS>(p, q, shared->other[0], product);
        exact_products<SLOTS>(p, dout, shared->other[1], slope);
        struct exact_row key = exact_key(p, at, key0 + lane_id());
        uint32_t kept = exact_kept<SLOTS, false>(p, at, query[0].at, key);
#pragma unroll
        for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
            float weight = exact_weight(p, at, query[r], key, product[r]);
            if (p.shape.dropout > 0) weight *= kept >> r & 1 ? p.keep_scale : 0.0f;
            delta[r] = fmaf(weight, slope[r], delta[r]);
        }
    }
#pragma unroll
    for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
        delta[r] = warp_sum(delta[r]);
    }
}

/* KEYS false: dq, delta and the bias gradient of 32 queries; true: dk and dv of 32 keys. */
template <typename T, int SLOTS, bool KEYS>
static __device__ __forceinline__ void
exact_backward_place(const struct attention_problem &p, const struct attention_place &at, int row0,
                     struct exact_backward_shared<SLOTS> *shared, float *table)
{
    const int stride = exact_sizes<SLOTS>::stride;
    const int block_rows = exact_sizes<SLOTS>::block_rows;
    const struct attention_tensors &t = p.tensors;
    const struct attention_shape &s = p.shape;
    int warp = (int)threadIdx.x / WARP;
    int first = row0 + warp * exact_sizes<SLOTS>::rows;
    int own_count = KEYS ? p.nk : p.nq;
    int other_count = KEYS ? p.nq : p.nk;
    float *weights = shared->weights[warp];
    float *slopes = shared->slopes[warp];
    __syncthreads();
    exact_load<T, SLOTS>(p, at, KEYS ? t.k : t.q, KEYS ? s.k : s.q, row0, block_rows, own_count,
                         shared->own[0]);
    exact_load<T, SLOTS>(p, at, KEYS ? t.v : t.dout, KEYS ? s.v : s.dout, row0, block_rows,
                         own_count, shared->own[1]);
    __syncthreads();
    float delta[exact_sizes<SLOTS>::rows];
    float by_slope[exact_sizes<SLOTS>::rows][SLOTS];  /* dq or dk */
    float by_weight[exact_sizes<SLOTS>::rows][SLOTS]; /* dv */
    float scale[exact_sizes<SLOTS>::rows];
    float one[exact_sizes<SLOTS>::rows];
    struct exact_row own[exact_sizes<SLOTS>::rows];
#pragma unroll
    for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
        own[r] = KEYS ? exact_key(p, at, first + r) : exact_query(p, at, first + r, true);
        scale[r] = s.scale;
        one[r] = 1.0f;
        delta[r] = 0.0f;
#pragma unroll
        for (int slot = 0; slot < SLOTS; slot++) {
            by_slope[r][slot] = by_weight[r][slot] = 0.0f;
        }
    }
    if (!KEYS) {
        exact_delta<T, SLOTS>(p, at, own, shared, !s.bf16, delta);
#pragma unroll
        for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
            if (lane_id() || !own[r].real) continue;
            p.delta[row_of(p, at, own[r].position.token)] = delta[r];
        }
    }
    for (int other0 = 0; other0 < other_count; other0 += WARP) {
        __syncthreads();
        exact_load<T, SLOTS>(p, at, KEYS ? t.q : t.k, KEYS ? s.q : s.k, other0, WARP, other_count,
                             shared->other[0]);
        exact_load<T, SLOTS>(p, at, KEYS ? t.dout : t.v, KEYS ? s.dout : s.v, other0, WARP,
                             other_count, shared->other[1]);
        __syncthreads();
        float product[exact_sizes<SLOTS>::rows];
        float slope[exact_sizes<SLOTS>::rows];
        exact_products<SLOTS>(p, shared->own[0] + warp * exact_sizes<SLOTS>::rows * stride,
                              shared->other[0], product);
        exact_products<SLOTS>(p, shared->own[1] + warp * exact_sizes<SLOTS>::rows * stride,
                              shared->other[1], slope);
        int at_lane = other0 + lane_id();
        struct exact_row other =
            KEYS ? exact_query(p, at, at_lane, true) : exact_key(p, at, at_lane);
        uint32_t kept = exact_kept<SLOTS, KEYS>(p, at, first, other);
        float other_delta = 0.0f;
        if (KEYS && other.real) other_delta = p.delta[row_of(p, at, other.position.token)];
#pragma unroll
        for (int r = 0; r < exact_sizes<SLOTS>::rows; r++) {
            const struct exact_row &query = KEYS ? other : own[r];
            const struct exact_row &key = KEYS ? own[r] : other;
            float weight = exact_weight(p, at, query, key, product[r]);
            float keep = p.shape.dropout > 0 ? (kept >> r & 1 ? p.keep_scale : 0.0f) : 1.0f;
            float ds = weight * (slope[r] * keep - (KEYS ? other_delta : delta[r]));
            weights[r * WARP + lane_id()] = weight * keep;
            slopes[r * WARP + lane_id()] = ds;
            if (KEYS || !table) continue;
            /* Keys of one query have different table rows: no two lanes meet. */
            if (query.real && key.real) table[exact_bias_row(p, query, key)] += ds;
            __syncwarp();
        }
        __syncwarp();
        exact_weigh<SLOTS>(slopes, shared->other[0], by_slope);
        if (KEYS) exact_weigh<SLOTS>(weights, shared->other[1], by_weight);
        __syncwarp();
    }
    exact_store<T, SLOTS>(p, at, KEYS ? t.dk : t.dq, KEYS ? s.dk : s.dq, first, own_count, by_slope,
                          scale);
    if (KEYS) exact_store<T, SLOTS>(p, at, t.dv, s.dv, first, own_count, by_weight, one);
}

/* Grid: heads x row blocks x groups. Shared: exact_backward_shared, then a table a warp. */
template <typename T, int SLOTS, bool KEYS>
static __global__ void __launch_bounds__(EXACT_THREADS, 2)
    attention_exact_backward_kernel(const struct attention_problem p)
{
    KERNEL_SHARED(unsigned char, memory);
    struct exact_backward_shared<SLOTS> *shared =
        reinterpret_cast<struct exact_backward_shared<SLOTS> *>(memory);
    float *tables = reinterpret_cast<float *>(memory + sizeof *shared);
    int head = (int)(blockIdx.x % (unsigned)p.shape.heads);
    int slot = (int)(blockIdx.x / (unsigned)p.shape.heads);
    int row0 = slot % p.row_blocks * exact_sizes<SLOTS>::block_rows;
    int place0 = slot / p.row_blocks * p.group;
    bool want_dbias = !KEYS && p.tensors.dbias_table;
    float *table = want_dbias ? tables + (int)threadIdx.x / WARP * p.table : nullptr;
    for (int n = (int)threadIdx.x; want_dbias && n < EXACT_WARPS * p.table; n += EXACT_THREADS) {
        tables[n] = 0.0f;
    }
    for (int place = place0; place < place0 + p.group && place < p.places; place++) {
        struct attention_place at = enter_place(p, head, place);
        exact_enter(p, &at);
        exact_backward_place<T, SLOTS, KEYS>(p, at, row0, shared, table);
    }
    if (!want_dbias) return;
    __syncthreads();
    float *partial = p.partial + ((int64_t)slot * p.shape.heads + head) * p.table;
    for (int n = (int)threadIdx.x; n < p.table; n += EXACT_THREADS) {
        float sum = 0.0f;
        for (int warp = 0; warp < EXACT_WARPS; warp++) {
            sum += tables[warp * p.table + n];
        }
        partial[n] = sum;
    }
}

#endif
