/*
 * Kernels that do the same to every element, and sums over all of them: what the .cu files of the
 * op families are made of.
 *
 * A thread takes 16 bytes of each tensor where all pointers are aligned, else one element; the end
 * is done element by element. Arithmetic is f32. Tensors of one call have one element type T.
 */
#ifndef WEFT_RUNTIME_OPS_ELEMENTWISE_CUH
#define WEFT_RUNTIME_OPS_ELEMENTWISE_CUH

#include "runtime/backend/cuda/kernel.cuh"
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_cuda.h"

/* Runs a statement with T as float or as uint16_t (bf16). */
#define FOR_FLOAT_TYPE(dtype, ...)                                                                 \
    do {                                                                                           \
        if ((dtype) == DTYPE_F32) {                                                                \
            using T = float;                                                                       \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            using T = uint16_t;                                                                    \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

/*
 * The row of an op whose kernels are chosen by the dtype of input 0: calls name_typed<T>(kernel,
 * run). `prepare` and `fault` as in struct cuda_op.
 */
#define CUDA_OP_BY_TYPE(name_, prepare, fault)                                                     \
    static enum status name_##_cuda(struct kernel *kernel, const struct cuda_run *run)             \
    {                                                                                              \
        FOR_FLOAT_TYPE(dtype_of(kernel), return name_##_typed<T>(kernel, run));                    \
    }                                                                                              \
    const struct cuda_op cuda_op_##name_ = {&op_row_##name_, prepare, name_##_cuda, NULL, fault};

/* For asking about several pointers at once: their addresses, or-ed together. */
#define ADDRESS(p) ((uintptr_t)(p))

static inline bool is_aligned_16(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

/* Elements of input 0, its dtype, rows and columns (the last dimension; 1 for a scalar). */
static inline int64_t count_of(const struct kernel *kernel)
{
    return shape_count(&kernel->node->inputs[0]->shape);
}
static inline enum dtype dtype_of(const struct kernel *kernel)
{
    return kernel->node->inputs[0]->dtype;
}
static inline int64_t columns_of(const struct shape *shape)
{
    return shape->rank ? shape->dim[shape->rank - 1] : 1;
}
static inline int64_t rows_of(const struct shape *shape)
{
    return shape_span(shape, 0, shape->rank - 1);
}

/* A value as a T holds it. */
template <typename T> static __device__ __forceinline__ float rounded(float x)
{
    if constexpr (sizeof(T) == sizeof(float)) {
        return x;
    } else {
        return f32_of_bf16(bf16_of_f32(x));
    }
}

enum { MAP_THREADS = 256 };

template <int IN, int OUT> struct map_pointers {
    const void *in[IN > 0 ? IN : 1];
    void *out[OUT];
};

/*
 * out[j][i] = y[j] after f(x, y), x[k] = in[k][i]. An output may be an input: a thread reads its
 * elements before it writes them.
 */
template <typename T, int IN, int OUT, bool WIDE, typename F>
__global__ void __launch_bounds__(MAP_THREADS)
    map_kernel(struct map_pointers<IN, OUT> p, int64_t count, F f)
{
    constexpr int SIZE = WIDE ? pack<T>::size : 1;
    int64_t begin = ((int64_t)blockIdx.x * MAP_THREADS + threadIdx.x) * SIZE;
    if (begin >= count) return;
    float in[IN > 0 ? IN : 1][SIZE];
    float out[OUT][SIZE];
    bool whole = WIDE && begin + SIZE <= count;
    int size = whole || count - begin > SIZE ? SIZE : (int)(count - begin);
#pragma unroll
    for (int k = 0; k < IN; k++) {
        const T *from = static_cast<const T *>(p.in[k]) + begin;
        if constexpr (WIDE) {
            if (whole) load_pack(from, in[k]);
        }
        if (!whole) {
#pragma unroll
            for (int i = 0; i < SIZE; i++) {
                in[k][i] = i < size ? load_f32(from + i) : 0.0f;
            }
        }
    }
#pragma unroll
    for (int i = 0; i < SIZE; i++) {
        float x[IN > 0 ? IN : 1];
        float y[OUT];
#pragma unroll
        for (int k = 0; k < IN; k++) {
            x[k] = in[k][i];
        }
        f(x, y);
#pragma unroll
        for (int k = 0; k < OUT; k++) {
            out[k][i] = y[k];
        }
    }
#pragma unroll
    for (int k = 0; k < OUT; k++) {
        T *to = static_cast<T *>(p.out[k]) + begin;
        if constexpr (WIDE) {
            if (whole) store_pack(to, out[k]);
        }
        if (!whole) {
#pragma unroll
            for (int i = 0; i < SIZE; i++) {
                if (i < size) store_f32(to + i, out[k][i]);
            }
        }
    }
}

/* Launches `kernel` with a thread for each of `count` elements, or nothing for none. */
#define LAUNCH_EACH(kernel, count, stream, ...)                                                    \
    ((count) == 0 ? STATUS_OK                                                                      \
                  : CUDA_LAUNCH(kernel, (unsigned)ceil_div(count, MAP_THREADS), MAP_THREADS, 0,    \
                                stream, __VA_ARGS__))

/* Launches kernel<T, WIDE> with a thread for each 16 bytes of `count` elements; WIDE says that
 * `addresses`, or-ed together, are aligned to that. `kernel` is the name of a template. */
#define LAUNCH_PACKS(kernel, T, count, addresses, stream, ...)                                     \
    ((addresses) % 16 == 0 ? LAUNCH_PACKS_AS(kernel, T, true, count, stream, __VA_ARGS__)          \
                           : LAUNCH_PACKS_AS(kernel, T, false, count, stream, __VA_ARGS__))
#define LAUNCH_PACKS_AS(kernel, T, WIDE, count, stream, ...)                                       \
    LAUNCH_EACH((kernel<T, WIDE>), ceil_div(count, pack<T>::size), stream, __VA_ARGS__)

template <typename T, int IN, int OUT, typename F>
static enum status map_typed(struct map_pointers<IN, OUT> p, int64_t count, F f,
                             cudaStream_t stream)
{
    bool wide = true;
    for (int k = 0; k < IN; k++) {
        wide = wide && is_aligned_16(p.in[k]);
    }
    for (int k = 0; k < OUT; k++) {
        wide = wide && is_aligned_16(p.out[k]);
    }
    if (wide) {
        return LAUNCH_EACH((map_kernel<T, IN, OUT, true, F>), ceil_div(count, pack<T>::size),
                           stream, p, count, f);
    }
    return LAUNCH_EACH((map_kernel<T, IN, OUT, false, F>), count, stream, p, count, f);
}

/* Maps the first IN inputs of a planned call to its first OUT outputs. */
template <int IN, int OUT, typename F>
static enum status map_kernel_call(const struct kernel *kernel, const struct cuda_run *run, F f)
{
    struct map_pointers<IN, OUT> p = {
    };
    for (int k = 0; k < IN; k++) {
        p.in[k] = kernel->in[k];
    }
    for (int k = 0; k < OUT; k++) {
        p.out[k] = kernel->out[k];
    }
    const struct tensor *y = &kernel->node->outputs[0];
    int64_t count = shape_count(&y->shape);
    FOR_FLOAT_TYPE(y->dtype, return (map_typed<T, IN, OUT>(p, count, f, run->stream)));
}

/* ---- sums over everything: parts by fixed blocks, then the parts in order ---- */

enum { SUM_THREADS = 256, SUM_BLOCKS = 512 };

/* Bytes of scratch of sum_all. */
static inline size_t sum_all_scratch(void)
{
    return SUM_BLOCKS * sizeof(double);
}

/* f(begin, size) is the contribution of `size` (at most PER) elements from `begin` on. Sums are
 * f64: what cancels here is often all there is, and memory is what it waits for. */
template <int PER, typename F>
__global__ void __launch_bounds__(SUM_THREADS) sum_parts_kernel(int64_t count, F f, double *parts)
{
    __shared__ double shared[BLOCK_SHARED];
    double sum = 0.0;
    int64_t stride = (int64_t)gridDim.x * SUM_THREADS * PER;
    int64_t begin = ((int64_t)blockIdx.x * SUM_THREADS + threadIdx.x) * PER;
    for (; begin < count; begin += stride) {
        sum += f(begin, count - begin < PER ? (int)(count - begin) : PER);
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(SUM_THREADS)
    sum_of_parts_kernel(const double *parts, int count, double scale, float *out)
{
    __shared__ double shared[BLOCK_SHARED];
    double sum = 0.0;
    for (int i = (int)threadIdx.x; i < count; i += SUM_THREADS) {
        sum += parts[i];
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) *out = (float)(scale * sum);
}

/* *out = (float)(scale * sum) of f over [0, count). The same bits every time: the parts depend on
 * `count` alone. */
template <int PER, typename F>
static enum status sum_all(int64_t count, F f, double scale, float *out, void *scratch,
                           cudaStream_t stream)
{
    double *parts = static_cast<double *>(scratch);
    int64_t blocks = ceil_div(count, (int64_t)SUM_THREADS * PER);
    if (blocks > SUM_BLOCKS) blocks = SUM_BLOCKS;
    if (blocks < 1) blocks = 1;
    TRY(CUDA_LAUNCH((sum_parts_kernel<PER, F>), (unsigned)blocks, SUM_THREADS, 0, stream, count, f,
                    parts));
    return CUDA_LAUNCH(sum_of_parts_kernel, 1, SUM_THREADS, 0, stream, parts, (int)blocks, scale,
                       out);
}

/* The same of F<T, WIDE>{arguments...}, which takes 16 bytes at once where `addresses` allow. */
template <template <typename, bool> class F, typename T, typename... A>
static enum status sum_all_packs(int64_t count, uintptr_t addresses, double scale, float *out,
                                 void *scratch, cudaStream_t stream, A... arguments)
{
    if (addresses % 16 == 0) {
        return sum_all<pack<T>::size>(count, F<T, true>{arguments...}, scale, out, scratch, stream);
    }
    return sum_all<pack<T>::size>(count, F<T, false>{arguments...}, scale, out, scratch, stream);
}

/* `size` elements from `p` on, the rest zeros; 16 bytes at once when WIDE and whole. */
template <typename T, bool WIDE>
static __device__ __forceinline__ void load_some(const T *p, int size, float x[pack<T>::size])
{
    if (WIDE && size == pack<T>::size) {
        load_pack(p, x);
        return;
    }
#pragma unroll
    for (int i = 0; i < pack<T>::size; i++) {
        x[i] = i < size ? load_f32(p + i) : 0.0f;
    }
}

template <typename T, bool WIDE>
static __device__ __forceinline__ void store_some(T *p, int size, const float x[pack<T>::size])
{
    if (WIDE && size == pack<T>::size) {
        store_pack(p, x);
        return;
    }
#pragma unroll
    for (int i = 0; i < pack<T>::size; i++) {
        if (i < size) store_f32(p + i, x[i]);
    }
}

#endif
