/*
 * Kernels that work on rows: a warp a row where rows are short, a block where they are long.
 *
 * A row is read more than once where its sums are needed before its result; the second time it
 * comes from the cache. A thread always takes the same columns of a row, so results may overwrite
 * inputs.
 */
#ifndef WEFT_RUNTIME_OPS_ROWS_CUH
#define WEFT_RUNTIME_OPS_ROWS_CUH

#include "runtime/ops/elementwise.cuh"

enum { ROW_BLOCK = 256, ROW_LONG = 2048 };

/* Threads of a row, GROUP of them: a warp or a block. */
template <int GROUP> static __device__ __forceinline__ int64_t group_row(void)
{
    return (int64_t)blockIdx.x * (ROW_BLOCK / GROUP) + threadIdx.x / GROUP;
}

template <int GROUP> static __device__ __forceinline__ int group_member(void)
{
    return (int)threadIdx.x % GROUP;
}

template <int GROUP>
static __device__ __forceinline__ float group_sum(float x, float shared[BLOCK_SHARED])
{
    if constexpr (GROUP == WARP) {
        (void)shared;
        return warp_sum(x);
    } else {
        return block_sum(x, shared);
    }
}

template <int GROUP>
static __device__ __forceinline__ float group_max(float x, float shared[BLOCK_SHARED])
{
    if constexpr (GROUP == WARP) {
        (void)shared;
        return warp_max(x);
    } else {
        return block_max(x, shared);
    }
}

/* `SIZE` elements: 16 bytes, or one. */
template <int SIZE, typename T>
static __device__ __forceinline__ void load_columns(const T *p, float x[SIZE])
{
    if constexpr (SIZE == 1) {
        x[0] = load_f32(p);
    } else {
        load_pack(p, x);
    }
}

template <int SIZE, typename T>
static __device__ __forceinline__ void store_columns(T *p, const float x[SIZE])
{
    if constexpr (SIZE == 1) {
        store_f32(p, x[0]);
    } else {
        store_pack(p, x);
    }
}

/* for each piece of a row that is this thread's: `c` is its first column. */
#define FOR_COLUMNS(c, GROUP, SIZE, columns)                                                       \
    for (int64_t c = (int64_t)group_member<GROUP>() * (SIZE); c < (columns);                       \
         c += (int64_t)(GROUP) * (SIZE))

/* Whether rows of T can be read 16 bytes at a time from all these addresses, or-ed together. */
template <typename T> static inline bool rows_are_wide(uintptr_t addresses, int64_t columns)
{
    return addresses % 16 == 0 && columns % pack<T>::size == 0;
}

/*
 * Launches kernel<T, GROUP, SIZE> for `rows` rows of `columns` at `addresses`, or-ed together, or
 * nothing for none. `kernel` is the name of a template.
 */
#define LAUNCH_ROWS(kernel, T, rows, columns, addresses, stream, ...)                              \
    ((rows) == 0 ? STATUS_OK                                                                       \
     : rows_are_wide<T>(addresses, columns)                                                        \
         ? LAUNCH_ROWS_BY(kernel, T, pack<T>::size, rows, columns, stream, __VA_ARGS__)            \
         : LAUNCH_ROWS_BY(kernel, T, 1, rows, columns, stream, __VA_ARGS__))
#define LAUNCH_ROWS_BY(kernel, T, SIZE, rows, columns, stream, ...)                                \
    ((columns) > ROW_LONG                                                                          \
         ? CUDA_LAUNCH((kernel<T, ROW_BLOCK, SIZE>), (unsigned)(rows), ROW_BLOCK, 0, stream,       \
                       __VA_ARGS__)                                                                \
         : CUDA_LAUNCH((kernel<T, WARP, SIZE>), (unsigned)ceil_div(rows, ROW_BLOCK / WARP),        \
                       ROW_BLOCK, 0, stream, __VA_ARGS__))

#endif
