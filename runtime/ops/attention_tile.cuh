/*
 * Tiles of q, k, v and dout in shared memory as bf16, and the tensor-core operands made of them.
 *
 * A tile has rows of DIM elements (head_dim filled up with zeros to 16, 32 or 64). The 16-byte
 * chunks of a row are permuted by the row number, so that the eight rows of a matrix that ldmatrix
 * reads lie in different banks without padding.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_TILE_CUH
#define WEFT_RUNTIME_OPS_ATTENTION_TILE_CUH

#include "runtime/ops/attention_device.cuh"

/* Element of chunk `chunk` (8 elements) of a row. */
template <int DIM> static __device__ __forceinline__ int tile_at(int row, int chunk)
{
    const int chunks = DIM / 8;
    const int rows_a_line = 64 / DIM; /* rows in 128 bytes */
    return row * DIM + ((chunk ^ ((row / rows_a_line) & (chunks - 1))) * 8);
}

/*
 * Starts the copies of rows `token[0..count)` into a tile of `rows` rows, zeros in the others.
 * `from` is element 0 of the head in the batch row.
 */
template <int DIM>
static __device__ __forceinline__ void tile_load(uint16_t *tile, const void *from, int64_t stride,
                                                 const int *token, int count, int rows,
                                                 int head_dim)
{
    const int chunks = DIM / 8;
    const uint16_t *source = static_cast<const uint16_t *>(from);
#pragma unroll 1
    for (int n = (int)threadIdx.x; n < rows * chunks; n += (int)blockDim.x) {
        int row = n / chunks;
        int chunk = n % chunks;
        bool real = row < count && chunk * 8 < head_dim;
        const uint16_t *place = real ? source + token[row] * stride + chunk * 8 : source;
        cp_async_16(tile + tile_at<DIM>(row, chunk), place, real);
    }
}

/* Rows row.. row + 15 as left operands [16, DIM]: one per 16 columns. */
template <int DIM>
static __device__ __forceinline__ void tile_rows(const uint16_t *tile, int row,
                                                 uint32_t (*operand)[4])
{
    int lane = lane_id();
#pragma unroll
    for (int k = 0; k < DIM / 16; k++) {
        ldmatrix_x4(operand[k], tile + tile_at<DIM>(row + lane % 16, 2 * k + lane / 16));
    }
}

/*
 * sum += rows [16, DIM] x (tile rows first .. first + 15)^T: sum[0] are the products with the first
 * eight tile rows, sum[1] with the others.
 */
template <int DIM>
static __device__ __forceinline__ void tile_product(float (*sum)[4], const uint32_t (*rows)[4],
                                                    const uint16_t *tile, int first)
{
    int lane = lane_id();
    int row = first + lane % 8 + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < DIM / 16; k++) {
        uint32_t right[4];
        ldmatrix_x4(right, tile + tile_at<DIM>(row, 2 * k + lane / 8 % 2));
        mma_m16n8k16_bf16(sum[0], rows[k], right, sum[0]);
        mma_m16n8k16_bf16(sum[1], rows[k], right + 2, sum[1]);
    }
}

/* sum [16, DIM] += weights [16, 16] x (tile rows first .. first + 15). */
template <int DIM>
static __device__ __forceinline__ void tile_weigh(float (*sum)[4], const uint32_t weights[4],
                                                  const uint16_t *tile, int first)
{
    int lane = lane_id();
    int row = first + lane % 16;
#pragma unroll
    for (int d = 0; d < DIM / 16; d++) {
        uint32_t right[4];
        ldmatrix_x4_transposed(right, tile + tile_at<DIM>(row, 2 * d + lane / 16));
        mma_m16n8k16_bf16(sum[2 * d], weights, right, sum[2 * d]);
        mma_m16n8k16_bf16(sum[2 * d + 1], weights, right + 2, sum[2 * d + 1]);
    }
}

/* Two products of eight columns each, as the left operand of 16 columns. */
static __device__ __forceinline__ void operand_of(uint32_t operand[4], const float (*x)[4])
{
    operand[0] = pair_of_f32(x[0][0], x[0][1]);
    operand[1] = pair_of_f32(x[0][2], x[0][3]);
    operand[2] = pair_of_f32(x[1][0], x[1][1]);
    operand[3] = pair_of_f32(x[1][2], x[1][3]);
}

/*
 * Writes a product [16, DIM], its rows g and g + 8 times scale[0] and scale[1], to rows token[0 ..
 * count) of a tensor; through `stage`, a tile of this warp's own, so that memory sees 16 bytes a
 * lane.
 */
template <int DIM>
static __device__ __forceinline__ void tile_store(void *to, int64_t stride, const int *token,
                                                  int count, int head_dim, const float (*x)[4],
                                                  const float scale[2], uint16_t *stage)
{
    const int chunks = DIM / 8;
    int lane = lane_id();
    int row = lane / 4;
    int column = lane % 4 * 2;
    __syncwarp();
#pragma unroll
    for (int n = 0; n < chunks; n++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t pair =
                pair_of_f32(x[n][2 * half] * scale[half], x[n][2 * half + 1] * scale[half]);
            *reinterpret_cast<uint32_t *>(stage + tile_at<DIM>(row + 8 * half, n) + column) = pair;
        }
    }
    __syncwarp();
    uint16_t *target = static_cast<uint16_t *>(to);
#pragma unroll
    for (int n = lane; n < 16 * chunks; n += WARP) {
        int r = n / chunks;
        int chunk = n % chunks;
        if (r < count && chunk * 8 < head_dim) {
            store_16(target + token[r] * stride + chunk * 8,
                     load_16(stage + tile_at<DIM>(r, chunk)));
        }
    }
}

/* Sum and largest over the four lanes that hold a row of a product; NaN is passed over. */
static __device__ __forceinline__ float quad_sum(float x)
{
    x += __shfl_xor_sync(0xFFFFFFFFu, x, 1);
    return x + __shfl_xor_sync(0xFFFFFFFFu, x, 2);
}

static __device__ __forceinline__ float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 2));
}

/* ---- a block's tables ---- */

/* The positions [first, first + count) of one side, of which `rows` are made up. */
static __device__ __forceinline__ void fill_positions(const struct attention_problem &p,
                                                      const struct attention_place &at, int first,
                                                      int count, int rows, int *token, int *base,
                                                      int *mark, bool keys)
{
#pragma unroll 1
    for (int n = (int)threadIdx.x; n < rows; n += (int)blockDim.x) {
        struct attention_position position = {0, 0, 0};
        if (n < count) position = find_position(p, at, first + n);
        if (n < count && keys && p.tensors.key_mask) {
            position.mark = p.tensors.key_mask[at.b * p.shape.key_len + position.token] == 0;
        }
        token[n] = position.token;
        base[n] = position.base;
        mark[n] = position.mark;
    }
}

/* lse in units of log 2, infinite in the rows that are not there: their weights are 0. And delta,
 * where an earlier kernel has left it. */
static __device__ __forceinline__ void fill_statistics(const struct attention_problem &p,
                                                       const struct attention_place &at,
                                                       const int *token, int count, int rows,
                                                       float *lse, float *delta, bool have_delta)
{
#pragma unroll 1
    for (int n = (int)threadIdx.x; n < rows; n += (int)blockDim.x) {
        bool real = n < count;
        int64_t row = real ? row_of(p, at, token[n]) : 0;
        lse[n] = real ? p.tensors.lse[row] * ATTENTION_LOG2E : INFINITY;
        delta[n] = real && have_delta ? p.delta[row] : 0.0f;
    }
}

/* The bias of a head in units of log 2, and zeros for its gradient. */
static __device__ __forceinline__ void fill_bias(const struct attention_problem &p, int head,
                                                 float *bias, float *dbias)
{
#pragma unroll 1
    for (int n = (int)threadIdx.x; n < p.table; n += (int)blockDim.x) {
        bias[n] = p.tensors.bias_table
                      ? p.tensors.bias_table[n * p.shape.heads + head] * ATTENTION_LOG2E
                      : 0.0f;
        if (dbias) dbias[n] = 0.0f;
    }
}

/* Copies rows [0, count) of one tensor to a tile. */
template <int DIM>
static __device__ __forceinline__ void
load_part(const struct attention_problem &p, const struct attention_place &at, const void *tensor,
          struct attention_stride stride, const int *token, int count, unsigned char *tile)
{
    tile_load<DIM>(reinterpret_cast<uint16_t *>(tile),
                   static_cast<const uint16_t *>(tensor) + place_of(p, stride, at, 0), stride.token,
                   token, count, (count + 15) / 16 * 16, (int)p.shape.head_dim);
}

/* Starts the copies of k and v of keys [first, first + count) to shared memory. */
template <int DIM>
static __device__ __forceinline__ void load_keys(const struct attention_problem &p,
                                                 const struct attention_place &at,
                                                 unsigned char *shared, int first, int count)
{
    int *token = reinterpret_cast<int *>(shared + p.at.key_token);
    fill_positions(p, at, first, count, (count + 15) / 16 * 16, token,
                   reinterpret_cast<int *>(shared + p.at.key_base),
                   reinterpret_cast<int *>(shared + p.at.key_mark), true);
    __syncthreads();
    load_part<DIM>(p, at, p.tensors.k, p.shape.k, token, count, shared + p.at.k);
    load_part<DIM>(p, at, p.tensors.v, p.shape.v, token, count, shared + p.at.v);
}

/* The same of q of queries; for the backward also of dout, and lse and, from an earlier kernel,
 * delta. */
template <int DIM>
static __device__ __forceinline__ void
load_queries(const struct attention_problem &p, const struct attention_place &at,
             unsigned char *shared, int first, int count, bool backward)
{
    int *token = reinterpret_cast<int *>(shared + p.at.query_token);
    int rows = (count + 15) / 16 * 16;
    fill_positions(p, at, first, count, rows, token,
                   reinterpret_cast<int *>(shared + p.at.query_base),
                   reinterpret_cast<int *>(shared + p.at.query_mark), false);
    __syncthreads();
    load_part<DIM>(p, at, p.tensors.q, p.shape.q, token, count, shared + p.at.q);
    if (!backward) return;
    load_part<DIM>(p, at, p.tensors.dout, p.shape.dout, token, count, shared + p.at.dout);
    fill_statistics(p, at, token, count, rows, reinterpret_cast<float *>(shared + p.at.lse),
                    reinterpret_cast<float *>(shared + p.at.delta), !p.want_rows);
}

/* Waits for all copies of the block. */
static __device__ __forceinline__ void finish_loads(void)
{
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
}

/* ---- scores ---- */

/* A row or a column of scores: where its query or key is. */
struct score_side {
    int at, base, mark;
};

/*
 * A score from a product, in units of log 2. WINDOW: bias and shift mask by tables, otherwise key
 * mask and causality.
 */
template <bool WINDOW>
static __device__ __forceinline__ float
score_of(const struct attention_problem &p, const struct attention_place &at, const float *bias,
         float product, const struct score_side &query, const struct score_side &key)
{
    float add;
    if (WINDOW) {
        add = bias[query.base - key.base];
        if (at.divided && query.mark != key.mark) add += p.shift2;
    } else {
        add = is_hidden(p, at, query.at, key.at, key.mark) ? p.mask2 : 0.0f;
    }
    return fmaf(product, p.scale2, add);
}

#endif
