/*
 * Sums over a range of axes and repetition along it, on a GPU; reduce.c says what they are.
 *
 * Three shapes of [outer, n, inner]: everything (parts, then the parts in order), rows (inner 1: a
 * warp a row), and columns. Column sums cut n into parts by sizes alone, so that there are enough
 * blocks; partial sums are f32 in scratch and are added in order. No atomics.
 */
#include "runtime/ops/column_sum.cuh"
#include "runtime/ops/elementwise.cuh"

/* ---- everything ---- */

template <typename T, bool WIDE> struct sum_function {
    const T *x;
    __device__ double operator()(int64_t begin, int size) const
    {
        float v[pack<T>::size];
        load_some<T, WIDE>(x + begin, size, v);
        double sum = 0.0;
#pragma unroll
        for (int i = 0; i < pack<T>::size; i++) {
            sum += (double)v[i];
        }
        return sum;
    }
};

template <typename T>
static enum status sum_everything(const struct kernel *kernel, const struct range_attrs *attrs,
                                  const struct cuda_run *run)
{
    const T *x = (const T *)kernel->in[0];
    float *y = (float *)kernel->out[0];
    if (is_aligned_16(x)) {
        struct sum_function<T, true> f = {
            x
        };
        return sum_all<pack<T>::size>(attrs->n, f, (double)attrs->scale, y, kernel->scratch,
                                      run->stream);
    }
    struct sum_function<T, false> f = {
        x
    };
    return sum_all<pack<T>::size>(attrs->n, f, (double)attrs->scale, y, kernel->scratch,
                                  run->stream);
}

/* ---- rows ---- */

enum { ROW_THREADS = 256 };

template <typename T, typename U>
static __global__ void __launch_bounds__(ROW_THREADS)
    row_sum_kernel(const T *x, U *y, int64_t rows, int64_t n, float scale)
{
    int64_t row = (int64_t)blockIdx.x * (ROW_THREADS / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    float sum = 0.0f;
    for (int64_t i = lane_id(); i < n; i += WARP) {
        sum += load_f32(x + row * n + i);
    }
    sum = warp_sum(sum);
    if (lane_id() == 0) store_f32(y + row, scale * sum);
}

template <typename T, typename U>
static enum status sum_typed(const struct kernel *kernel, const struct range_attrs *attrs,
                             const struct cuda_run *run)
{
    const T *x = (const T *)kernel->in[0];
    U *y = (U *)kernel->out[0];
    if (attrs->outer * attrs->inner == 0) return STATUS_OK;
    if (attrs->inner == 1) {
        unsigned blocks = (unsigned)ceil_div(attrs->outer, ROW_THREADS / WARP);
        return CUDA_LAUNCH((row_sum_kernel<T, U>), blocks, ROW_THREADS, 0, run->stream, x, y,
                           attrs->outer, attrs->n, attrs->scale);
    }
    return column_sum<T, U>(x, y, attrs->outer, attrs->n, attrs->inner, attrs->scale, false,
                            kernel->scratch, run->stream);
}

static bool sums_everything(const struct range_attrs *attrs)
{
    return attrs->dtype == DTYPE_F32 && attrs->outer == 1 && attrs->inner == 1;
}

static enum status sum_prepare(struct kernel *kernel)
{
    const struct range_attrs *attrs = NODE_ATTRS(kernel->node, struct range_attrs);
    kernel->scratch_size = sums_everything(attrs)
                               ? sum_all_scratch()
                               : column_sum_scratch(attrs->outer, attrs->n, attrs->inner);
    return STATUS_OK;
}

static enum status sum_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct range_attrs *attrs = NODE_ATTRS(kernel->node, struct range_attrs);
    if (sums_everything(attrs)) {
        FOR_FLOAT_TYPE(dtype_of(kernel), return sum_everything<T>(kernel, attrs, run));
    }
    if (attrs->dtype == DTYPE_BF16) return sum_typed<uint16_t, uint16_t>(kernel, attrs, run);
    FOR_FLOAT_TYPE(dtype_of(kernel), return (sum_typed<T, float>(kernel, attrs, run)));
}

const struct cuda_op cuda_op_sum = {&op_row_sum, sum_prepare, sum_cuda, NULL, NULL};

/* ---- repetition: y [outer, n, inner] = scale * x [outer, inner] ---- */

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(MAP_THREADS)
    expand_kernel(const T *x, T *y, int64_t count, int64_t n, int64_t inner, float scale)
{
    constexpr int SIZE = pack<T>::size;
    int64_t begin = ((int64_t)blockIdx.x * MAP_THREADS + threadIdx.x) * SIZE;
    if (begin >= count) return;
    int size = count - begin < SIZE ? (int)(count - begin) : SIZE;
    int64_t row = begin / inner; /* of [outer * n] */
    int64_t column = begin - row * inner;
    const T *from = x + row / n * inner;
    float v[SIZE];
#pragma unroll
    for (int i = 0; i < SIZE; i++) {
        v[i] = i < size ? scale * load_f32(from + column) : 0.0f;
        if (++column == inner && i + 1 < size) {
            column = 0;
            from = x + ++row / n * inner;
        }
    }
    store_some<T, WIDE>(y + begin, size, v);
}

template <typename T>
static enum status expand_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct range_attrs *attrs = NODE_ATTRS(kernel->node, struct range_attrs);
    int64_t count = shape_count(&kernel->node->outputs[0].shape);
    T *y = (T *)kernel->out[0];
    return LAUNCH_PACKS(expand_kernel, T, count, ADDRESS(y), run->stream, (const T *)kernel->in[0],
                        y, count, attrs->n, attrs->inner, attrs->scale);
}

CUDA_OP_BY_TYPE(expand, NULL, NULL)
