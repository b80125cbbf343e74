/*
 * The gradient of layer normalisation on a GPU: dy, x, mean, rstd, gain -> dx, dgain, dbias; norm.c
 * says what it is.
 *
 * Memory is passed over once: a group of threads (a warp, or four) holds a row of dy and x in
 * registers, finds the two sums of the row, writes dx, and adds the row's terms of dgain and dbias
 * to registers as well, as a thread has the same columns in every row. A block takes a run of rows;
 * its groups add up in shared memory in order and leave a part, and a second kernel adds the parts.
 * How rows are cut depends on the sizes alone.
 *
 * Rows that are too long for that, or not aligned, take two kernels: sums down the columns, then
 * rows, each reading dy and x.
 */
#include "runtime/ops/column_sum.cuh"
#include "runtime/ops/rows.cuh"

enum { PART_ROWS = 32, MOST_PARTS = 1024, WIDE_GROUP = 4 * WARP };

template <typename T> struct norm_backward {
    const T *dy, *x, *add; /* add: what dx is added to, or NULL; may be dx */
    const float *mean, *rstd, *gain;
    T *dx;
    int64_t rows, columns;
};

/* ---- one pass ---- */

/* Sums over a group of two numbers at once. `shared` is another in the next call: there is one
 * barrier in each, which all threads of the block must reach. */
template <int GROUP>
static __device__ __forceinline__ void group_sums(float *first, float *second,
                                                  float shared[2][ROW_BLOCK / WARP])
{
    *first = warp_sum(*first);
    *second = warp_sum(*second);
    if constexpr (GROUP > WARP) {
        int warp = (int)threadIdx.x / WARP;
        int begin = (int)threadIdx.x / GROUP * (GROUP / WARP);
        if (lane_id() == 0) {
            shared[0][warp] = *first;
            shared[1][warp] = *second;
        }
        __syncthreads();
        *first = *second = 0.0f;
#pragma unroll
        for (int w = 0; w < GROUP / WARP; w++) {
            *first += shared[0][begin + w];
            *second += shared[1][begin + w];
        }
    }
}

/* The columns of a thread in PIECES times 16 bytes of T; `held` of them. */
template <typename T, int GROUP, int PIECES> struct norm_columns {
    static constexpr int size = pack<T>::size;
    static constexpr int held = PIECES * size;
    static __device__ __forceinline__ int64_t of(int piece, int member)
    {
        return (int64_t)(piece * GROUP + member) * size;
    }
};

/* Adds up what the groups of a block have for each column: a row of `parts`. */
template <typename T, int GROUP, int PIECES>
static __device__ __forceinline__ void add_groups(const float sum[PIECES * pack<T>::size],
                                                  float shared[PIECES * pack<T>::size * ROW_BLOCK],
                                                  float *part, int64_t columns)
{
    using mine = norm_columns<T, GROUP, PIECES>;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < mine::held; i++) {
        shared[i * ROW_BLOCK + (int)threadIdx.x] = sum[i];
    }
    __syncthreads();
    for (int j = (int)threadIdx.x; j < GROUP * mine::held; j += ROW_BLOCK) {
        int i = j / GROUP;
        int member = j % GROUP;
        int64_t column = mine::of(i / mine::size, member) + i % mine::size;
        float total = 0.0f;
#pragma unroll
        for (int g = 0; g < ROW_BLOCK / GROUP; g++) {
            total += shared[i * ROW_BLOCK + g * GROUP + member];
        }
        if (column < columns) part[column] = total;
    }
}

/* parts [2, gridDim.x, columns]: of dy * xhat and of dy over a block's rows. */
template <typename T, int GROUP, int PIECES>
static __global__ void __launch_bounds__(ROW_BLOCK)
    norm_grad_kernel(struct norm_backward<T> a, float *parts, int64_t part_rows)
{
    using mine = norm_columns<T, GROUP, PIECES>;
    constexpr int GROUPS = ROW_BLOCK / GROUP;
    __shared__ float shared[mine::held * ROW_BLOCK];
    __shared__ float sums[2][2][ROW_BLOCK / WARP];
    int member = group_member<GROUP>();
    int64_t begin = (int64_t)blockIdx.x * part_rows;
    int64_t end = begin + part_rows < a.rows ? begin + part_rows : a.rows;
    float gain_sum[mine::held];
    float bias_sum[mine::held];
#pragma unroll
    for (int i = 0; i < mine::held; i++) {
        gain_sum[i] = bias_sum[i] = 0.0f;
    }
    int turn = 0;
    for (int64_t at = begin; at < end; at += GROUPS, turn ^= 1) {
        int64_t row = at + (int)threadIdx.x / GROUP;
        bool is_row = row < end;
        float mean = is_row ? a.mean[row] : 0.0f;
        float rstd = is_row ? a.rstd[row] : 0.0f;
        float d[mine::held];
        float v[mine::held];
        float first = 0.0f;
        float second = 0.0f;
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            int64_t c = mine::of(p, member);
            if (!is_row || c >= a.columns) continue;
            load_pack(a.dy + row * a.columns + c, d + p * mine::size);
            load_pack(a.x + row * a.columns + c, v + p * mine::size);
        }
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            int64_t c = mine::of(p, member);
            if (!is_row || c >= a.columns) continue;
            float gain[mine::size];
#pragma unroll
            for (int i = 0; i < mine::size; i += pack<float>::size) {
                load_pack(a.gain + c + i, gain + i);
            }
#pragma unroll
            for (int i = 0; i < mine::size; i++) {
                int k = p * mine::size + i;
                v[k] = (v[k] - mean) * rstd;
                gain_sum[k] += d[k] * v[k];
                bias_sum[k] += d[k];
                d[k] *= gain[i];
                first += d[k];
                second += d[k] * v[k];
            }
        }
        group_sums<GROUP>(&first, &second, sums[turn]);
        first /= (float)a.columns;
        second /= (float)a.columns;
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            int64_t c = mine::of(p, member);
            if (!is_row || c >= a.columns) continue;
            float add[mine::size];
            if (a.add) load_pack(a.add + row * a.columns + c, add);
#pragma unroll
            for (int i = 0; i < mine::size; i++) {
                int k = p * mine::size + i;
                d[k] = rstd * (d[k] - first - v[k] * second) + (a.add ? add[i] : 0.0f);
            }
            store_pack(a.dx + row * a.columns + c, d + p * mine::size);
        }
    }
    float *part = parts + (int64_t)blockIdx.x * a.columns;
    add_groups<T, GROUP, PIECES>(gain_sum, shared, part, a.columns);
    add_groups<T, GROUP, PIECES>(bias_sum, shared, part + (int64_t)gridDim.x * a.columns,
                                 a.columns);
}

template <typename T> struct norm_grad_function {
    void (*kernel)(struct norm_backward<T>, float *, int64_t);
};

/* The kernel for rows of so many columns; NULL: they are too long. */
template <typename T> static struct norm_grad_function<T> find_kernel(int64_t columns) {
    constexpr int SIZE = pack<T>::size;
    if (columns <= WARP * SIZE) return {norm_grad_kernel<T, WARP, 1>};
    if (columns <= 2 * WARP * SIZE) return {norm_grad_kernel<T, WARP, 2>};
    if (columns <= 3 * WARP * SIZE) return {norm_grad_kernel<T, WARP, 3>};
    if (columns <= 4 * WARP * SIZE) return {norm_grad_kernel<T, WARP, 4>};
    if (columns <= 2 * WIDE_GROUP * SIZE) return {norm_grad_kernel<T, WIDE_GROUP, 2>};
    if (columns <= 4 * WIDE_GROUP * SIZE) return {norm_grad_kernel<T, WIDE_GROUP, 4>};
    return {NULL};
}

/* ---- two passes ---- */

template <typename T, int GROUP, int SIZE>
static __global__ void __launch_bounds__(ROW_BLOCK) norm_rows_kernel(struct norm_backward<T> a)
{
    __shared__ float shared[BLOCK_SHARED];
    int64_t row = group_row<GROUP>();
    if (row >= a.rows) return;
    const T *dy = a.dy + row * a.columns;
    const T *x = a.x + row * a.columns;
    float mean = a.mean[row];
    float rstd = a.rstd[row];
    float g[SIZE];
    float v[SIZE];
    float first = 0.0f;
    float second = 0.0f;
    FOR_COLUMNS(c, GROUP, SIZE, a.columns)
    {
        load_columns<SIZE>(dy + c, g);
        load_columns<SIZE>(x + c, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            float d = g[i] * a.gain[c + i];
            first += d;
            second += d * (v[i] - mean) * rstd;
        }
    }
    first = group_sum<GROUP>(first, shared) / (float)a.columns;
    second = group_sum<GROUP>(second, shared) / (float)a.columns;
    FOR_COLUMNS(c, GROUP, SIZE, a.columns)
    {
        load_columns<SIZE>(dy + c, g);
        load_columns<SIZE>(x + c, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            v[i] = rstd * (g[i] * a.gain[c + i] - first - (v[i] - mean) * rstd * second);
        }
        if (a.add) {
            load_columns<SIZE>(a.add + row * a.columns + c, g);
#pragma unroll
            for (int i = 0; i < SIZE; i++) {
                v[i] += g[i];
            }
        }
        store_columns<SIZE>(a.dx + row * a.columns + c, v);
    }
}

/* parts [2, parts, columns]: of dy * xhat and of dy over a part of the rows. A block is 32 columns,
 * its 8 warps take every 8th row. */
template <typename T>
static __global__ void __launch_bounds__(COLUMN_THREADS)
    norm_columns_kernel(struct norm_backward<T> a, float *parts, int64_t part_rows)
{
    __shared__ float shared[2][COLUMN_THREADS];
    int lane = lane_id();
    int64_t column = (int64_t)blockIdx.x * WARP + lane;
    int64_t first = (int64_t)blockIdx.y * part_rows;
    int64_t end = first + part_rows < a.rows ? first + part_rows : a.rows;
    float gain = 0.0f;
    float bias = 0.0f;
    for (int64_t r = first + threadIdx.x / WARP; column < a.columns && r < end;
         r += COLUMN_THREADS / WARP) {
        float dy = load_f32(a.dy + r * a.columns + column);
        float x = load_f32(a.x + r * a.columns + column);
        gain += dy * (x - a.mean[r]) * a.rstd[r];
        bias += dy;
    }
    shared[0][threadIdx.x] = gain;
    shared[1][threadIdx.x] = bias;
    __syncthreads();
    if (threadIdx.x >= 2 * WARP || column >= a.columns) return;
    int which = (int)threadIdx.x / WARP;
    float total = 0.0f;
    for (int w = 0; w < COLUMN_THREADS / WARP; w++) {
        total += shared[which][w * WARP + lane];
    }
    parts[((int64_t)which * gridDim.y + blockIdx.y) * a.columns + column] = total;
}

/* ---- both ---- */

/* Rows of a part. */
static int64_t part_rows_of(int64_t rows)
{
    int64_t steps = ceil_div(ceil_div(rows, MOST_PARTS), PART_ROWS);
    return steps > 1 ? steps * PART_ROWS : (int64_t)PART_ROWS;
}

static enum status layer_norm_grad_prepare(struct kernel *kernel)
{
    const struct shape *x = &kernel->node->inputs[0]->shape;
    int64_t parts = ceil_div(rows_of(x), part_rows_of(rows_of(x)));
    kernel->scratch_size = 2 * (size_t)(parts * columns_of(x)) * sizeof(float);
    return STATUS_OK;
}

/* Columns first: dx may overwrite dy. */
template <typename T>
static enum status two_passes(const struct norm_backward<T> &a, float *parts, int64_t num_parts,
                              cudaStream_t stream)
{
    dim3 grid((unsigned)ceil_div(a.columns, WARP), (unsigned)num_parts);
    TRY(CUDA_LAUNCH(norm_columns_kernel<T>, grid, COLUMN_THREADS, 0, stream, a, parts,
                    part_rows_of(a.rows)));
    return LAUNCH_ROWS(norm_rows_kernel, T, a.rows, a.columns,
                       ADDRESS(a.dy) | ADDRESS(a.x) | ADDRESS(a.dx), stream, a);
}

template <typename T>
static enum status layer_norm_grad_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    struct norm_backward<T> a = {
    };
    a.dy = (const T *)kernel->in[0];
    a.x = (const T *)kernel->in[1];
    a.mean = (const float *)kernel->in[2];
    a.rstd = (const float *)kernel->in[3];
    a.gain = (const float *)kernel->in[4];
    a.dx = (T *)kernel->out[0];
    a.add = kernel->adds ? a.dx : NULL;
    a.rows = rows_of(shape);
    a.columns = columns_of(shape);
    if (a.columns == 0) return STATUS_OK;
    float *parts = (float *)kernel->scratch;
    int64_t part_rows = part_rows_of(a.rows);
    int64_t num_parts = ceil_div(a.rows, part_rows);
    struct norm_grad_function<T> one_pass = find_kernel<T>(a.columns);
    bool wide =
        rows_are_wide<T>(ADDRESS(a.dy) | ADDRESS(a.x) | ADDRESS(a.dx) | ADDRESS(a.gain), a.columns);
    if (num_parts > 0 && wide && one_pass.kernel) {
        TRY(CUDA_LAUNCH(one_pass.kernel, (unsigned)num_parts, ROW_BLOCK, 0, run->stream, a, parts,
                        part_rows));
    } else if (num_parts > 0) {
        TRY(two_passes(a, parts, num_parts, run->stream));
    }
    return add_column_parts(parts, (float *)kernel->out[1], (float *)kernel->out[2], a.columns,
                            (int)num_parts, 1.0f, false, run->stream);
}

CUDA_OP_BY_TYPE(layer_norm_grad, layer_norm_grad_prepare, NULL)
