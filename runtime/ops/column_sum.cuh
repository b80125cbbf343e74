/*
 * Sums down the columns of [outer, n, inner], deterministic: of a tensor, or of what a function
 * makes on the way.
 *
 * A block is a tile of columns, 16 bytes a thread where alignment allows, times rows that go down
 * together; the rows of a block add up in shared memory. With few tiles, n is cut into parts, whose
 * sums a second kernel adds in order. How it is cut depends on the sizes alone.
 */
#ifndef WEFT_RUNTIME_OPS_COLUMN_SUM_CUH
#define WEFT_RUNTIME_OPS_COLUMN_SUM_CUH

#include "runtime/ops/elementwise.cuh"

enum { COLUMN_THREADS = 256, COLUMN_BLOCKS = 512, COLUMN_PARTS = 128, COLUMN_LEAST_ROWS = 64 };

/* Parts that n is cut into. For tiles of one element a thread, the most there can be. */
static inline int64_t column_sum_parts(int64_t outer, int64_t n, int64_t inner)
{
    int64_t tiles = outer * ceil_div(inner, 256);
    int64_t parts = COLUMN_BLOCKS / (tiles > 0 ? tiles : 1);
    int64_t most = ceil_div(n, COLUMN_LEAST_ROWS);
    if (parts > most) parts = most;
    if (parts > COLUMN_PARTS) parts = COLUMN_PARTS;
    return parts < 1 ? 1 : parts;
}

static inline size_t column_sum_scratch(int64_t outer, int64_t n, int64_t inner)
{
    int64_t parts = column_sum_parts(outer, n, inner);
    return parts == 1 ? 0 : (size_t)(parts * outer * inner) * sizeof(float);
}

/* Threads of a block that lie side by side: enough for the columns, at most a warp. */
static inline int column_sum_width(int64_t inner, int size)
{
    int width = 1;
    while (width < WARP && width * size < inner) {
        width *= 2;
    }
    return width;
}

/* Reads `x` from element `at` on: 16 bytes, or one element. The form of all functions to sum. */
template <typename T, bool WIDE> struct load_function {
    const T *x;
    __device__ void operator()(int64_t at, float *v) const
    {
        if constexpr (WIDE) {
            load_pack(x + at, v);
        } else {
            v[0] = load_f32(x + at);
        }
    }
};

/* blockIdx: tile of columns, part, outer. y [parts, outer, inner]. */
template <typename T, typename U, bool WIDE, typename F>
static __global__ void __launch_bounds__(COLUMN_THREADS)
    column_sum_kernel(F f, U *y, int64_t outer, int64_t n, int64_t inner, int width,
                      int64_t part_rows, float scale, bool adds)
{
    constexpr int SIZE = WIDE ? pack<T>::size : 1;
    __shared__ float shared[COLUMN_THREADS * SIZE];
    int side = (int)threadIdx.x % width;
    int down = (int)threadIdx.x / width;
    int height = COLUMN_THREADS / width;
    int64_t column = ((int64_t)blockIdx.x * width + side) * SIZE;
    int64_t first = (int64_t)blockIdx.y * part_rows;
    int64_t end = first + part_rows < n ? first + part_rows : n;
    int64_t from = (int64_t)blockIdx.z * n * inner + column;
    float sum[SIZE];
#pragma unroll
    for (int i = 0; i < SIZE; i++) {
        sum[i] = 0.0f;
    }
    for (int64_t r = first + down; column < inner && r < end; r += height) {
        float v[SIZE];
        f(from + r * inner, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            sum[i] += v[i];
        }
    }
    /* By column, then by row: side by side columns are in different banks. */
#pragma unroll
    for (int i = 0; i < SIZE; i++) {
        shared[i * COLUMN_THREADS + (int)threadIdx.x] = sum[i];
    }
    __syncthreads();
    for (int c = (int)threadIdx.x; c < width * SIZE; c += COLUMN_THREADS) {
        float total = 0.0f;
        for (int r = 0; r < height; r++) {
            total += shared[c % SIZE * COLUMN_THREADS + r * width + c / SIZE];
        }
        int64_t at = (int64_t)blockIdx.x * width * SIZE + c;
        if (at >= inner) continue;
        U *to = y + ((int64_t)blockIdx.y * outer + blockIdx.z) * inner + at;
        store_f32(to, scale * total + (adds ? load_f32(to) : 0.0f));
    }
}

/*
 * y = scale * the sum of the parts, with `adds` on top of what y holds; parts [gridDim.y,
 * num_parts, count], the second lot for `second`. A warp has a run of the parts of 32 columns; the
 * runs add up in order.
 */
template <typename U>
static __global__ void __launch_bounds__(COLUMN_THREADS)
    column_parts_kernel(const float *parts, U *y, U *second, int64_t count, int num_parts,
                        float scale, bool adds)
{
    constexpr int RUNS = COLUMN_THREADS / WARP;
    __shared__ float shared[COLUMN_THREADS];
    int run = (int)threadIdx.x / WARP;
    int64_t i = (int64_t)blockIdx.x * WARP + lane_id();
    int end = num_parts * (run + 1) / RUNS;
    const float *from = parts + (int64_t)blockIdx.y * num_parts * count + i;
    float total = 0.0f;
#pragma unroll 8
    for (int p = num_parts * run / RUNS; p < end; p++) {
        if (i < count) total += from[p * count];
    }
    shared[threadIdx.x] = total;
    __syncthreads();
    if (run > 0 || i >= count) return;
#pragma unroll
    for (int r = 1; r < RUNS; r++) {
        total += shared[r * WARP + lane_id()];
    }
    U *to = (blockIdx.y ? second : y) + i;
    store_f32(to, scale * total + (adds ? load_f32(to) : 0.0f));
}

/* Without a second lot `second` is NULL. */
template <typename U>
static enum status add_column_parts(const float *parts, U *y, U *second, int64_t count,
                                    int num_parts, float scale, bool adds, cudaStream_t stream)
{
    dim3 grid((unsigned)ceil_div(count, WARP), second ? 2 : 1);
    return CUDA_LAUNCH(column_parts_kernel<U>, grid, COLUMN_THREADS, 0, stream, parts, y, second,
                       count, num_parts, scale, adds);
}

template <typename T, typename U, bool WIDE, typename F>
static enum status column_sum_sized(F f, U *y, int64_t outer, int64_t n, int64_t inner, float scale,
                                    bool adds, void *scratch, cudaStream_t stream)
{
    int width = column_sum_width(inner, WIDE ? pack<T>::size : 1);
    int64_t parts = column_sum_parts(outer, n, inner);
    int64_t part_rows = ceil_div(n, parts);
    dim3 grid((unsigned)ceil_div(inner, (int64_t)width * (WIDE ? pack<T>::size : 1)),
              (unsigned)parts, (unsigned)outer);
    if (parts == 1) {
        return CUDA_LAUNCH((column_sum_kernel<T, U, WIDE, F>), grid, COLUMN_THREADS, 0, stream, f,
                           y, outer, n, inner, width, part_rows, scale, adds);
    }
    float *partial = static_cast<float *>(scratch);
    TRY(CUDA_LAUNCH((column_sum_kernel<T, float, WIDE, F>), grid, COLUMN_THREADS, 0, stream, f,
                    partial, outer, n, inner, width, part_rows, 1.0f, false));
    return add_column_parts(partial, y, (U *)NULL, outer * inner, (int)parts, scale, adds, stream);
}

/* The same of F<T, WIDE>{arguments...}, which takes 16 bytes at once where `addresses`, or-ed
 * together, allow. `outer` is at most 65,535, as the third dimension of the grid. */
template <template <typename, bool> class F, typename T, typename U, typename... A>
static enum status column_sum_of(uintptr_t addresses, U *y, int64_t outer, int64_t n, int64_t inner,
                                 float scale, bool adds, void *scratch, cudaStream_t stream,
                                 A... arguments)
{
    if (addresses % 16 == 0 && inner % pack<T>::size == 0) {
        return column_sum_sized<T, U, true>(F<T, true>{arguments...}, y, outer, n, inner, scale,
                                            adds, scratch, stream);
    }
    return column_sum_sized<T, U, false>(F<T, false>{arguments...}, y, outer, n, inner, scale, adds,
                                         scratch, stream);
}

/* y [outer, inner] = scale * sum over n of x [outer, n, inner] (+ y with `adds`). */
template <typename T, typename U>
static enum status column_sum(const T *x, U *y, int64_t outer, int64_t n, int64_t inner,
                              float scale, bool adds, void *scratch, cudaStream_t stream)
{
    /* The grid has at most 65,535 in its third dimension. */
    for (int64_t done = 0; done < outer && outer > 65535; done += 65535) {
        int64_t some = outer - done < 65535 ? outer - done : 65535;
        TRY((column_sum<T, U>(x + done * n * inner, y + done * inner, some, n, inner, scale, adds,
                              scratch, stream)));
    }
    if (outer > 65535) return STATUS_OK;
    return column_sum_of<load_function, T>(ADDRESS(x), y, outer, n, inner, scale, adds, scratch,
                                           stream, x);
}

#endif
