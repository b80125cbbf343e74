/* Constants, casts and elementwise arithmetic on a GPU; basic.c says what they are. */
#include "runtime/ops/elementwise.cuh"

/* ---- fill ---- */

template <typename T> static __global__ void fill_kernel(T *y, T value, int64_t count)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = value;
}

static enum status fill_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct tensor *y = &kernel->node->outputs[0];
    double value = NODE_ATTRS(kernel->node, struct fill_attrs)->value;
    int64_t count = shape_count(&y->shape);
    if (y->dtype == DTYPE_I32) {
        return LAUNCH_EACH(fill_kernel<int32_t>, count, run->stream, (int32_t *)kernel->out[0],
                           (int32_t)value, count);
    }
    if (y->dtype == DTYPE_F32) {
        return LAUNCH_EACH(fill_kernel<float>, count, run->stream, (float *)kernel->out[0],
                           (float)value, count);
    }
    return LAUNCH_EACH(fill_kernel<uint16_t>, count, run->stream, (uint16_t *)kernel->out[0],
                       bf16_from_f32((float)value), count);
}

const struct cuda_op cuda_op_fill = {&op_row_fill, NULL, fill_cuda, NULL, NULL};

/* ---- cast: 8 elements a thread ---- */

enum { CAST_SIZE = 8 };

template <typename A, typename B>
static __global__ void __launch_bounds__(MAP_THREADS)
    cast_kernel(const A *x, B *y, int64_t count, bool wide)
{
    int64_t begin = ((int64_t)blockIdx.x * MAP_THREADS + threadIdx.x) * CAST_SIZE;
    if (begin >= count) return;
    if (!wide || begin + CAST_SIZE > count) {
        for (int64_t i = begin; i < count && i < begin + CAST_SIZE; i++) {
            store_f32(y + i, load_f32(x + i));
        }
        return;
    }
    float v[CAST_SIZE];
#pragma unroll
    for (int i = 0; i < CAST_SIZE; i += pack<A>::size) {
        load_pack(x + begin + i, v + i);
    }
#pragma unroll
    for (int i = 0; i < CAST_SIZE; i += pack<B>::size) {
        store_pack(y + begin + i, v + i);
    }
}

static enum status cast_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    int64_t count = count_of(kernel);
    int64_t threads = ceil_div(count, CAST_SIZE);
    bool wide = is_aligned_16(kernel->in[0]) && is_aligned_16(kernel->out[0]);
    if (dtype_of(kernel) == DTYPE_F32) {
        return LAUNCH_EACH((cast_kernel<float, uint16_t>), threads, run->stream,
                           (const float *)kernel->in[0], (uint16_t *)kernel->out[0], count, wide);
    }
    return LAUNCH_EACH((cast_kernel<uint16_t, float>), threads, run->stream,
                       (const uint16_t *)kernel->in[0], (float *)kernel->out[0], count, wide);
}

const struct cuda_op cuda_op_cast = {&op_row_cast, NULL, cast_cuda, NULL, NULL};

/* ---- arithmetic ---- */

struct combine_function {
    float alpha, beta;
    __device__ void operator()(const float *x, float *y) const
    {
        y[0] = alpha * x[0] + beta * x[1];
    }
};

static enum status combine_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct combine_attrs *attrs = NODE_ATTRS(kernel->node, struct combine_attrs);
    struct combine_function f = {attrs->alpha, attrs->beta};
    return map_kernel_call<2, 1>(kernel, run, f);
}

const struct cuda_op cuda_op_combine = {&op_row_combine, NULL, combine_cuda, NULL, NULL};

struct mul_function {
    __device__ void operator()(const float *x, float *y) const
    {
        y[0] = x[0] * x[1];
    }
};

static enum status mul_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    return map_kernel_call<2, 1>(kernel, run, mul_function());
}

const struct cuda_op cuda_op_mul = {&op_row_mul, NULL, mul_cuda, NULL, NULL};

struct scale_function {
    float factor;
    __device__ void operator()(const float *x, float *y) const
    {
        y[0] = factor * x[0];
    }
};

static enum status scale_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    struct scale_function f = {NODE_ATTRS(kernel->node, struct scale_attrs)->factor};
    return map_kernel_call<1, 1>(kernel, run, f);
}

const struct cuda_op cuda_op_scale = {&op_row_scale, NULL, scale_cuda, NULL, NULL};

struct scale_by_function {
    const float *factor;
    __device__ void operator()(const float *x, float *y) const
    {
        y[0] = *factor * x[0];
    }
};

static enum status scale_by_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    struct scale_by_function f = {(const float *)kernel->in[1]};
    return map_kernel_call<1, 1>(kernel, run, f);
}

const struct cuda_op cuda_op_scale_by = {&op_row_scale_by, NULL, scale_by_cuda, NULL, NULL};

struct add_gated_function {
    const float *gate;
    __device__ void operator()(const float *x, float *y) const
    {
        y[0] = x[0] + *gate * x[1];
    }
};

static enum status add_gated_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    struct add_gated_function f = {(const float *)kernel->in[2]};
    return map_kernel_call<2, 1>(kernel, run, f);
}

const struct cuda_op cuda_op_add_gated = {&op_row_add_gated, NULL, add_gated_cuda, NULL, NULL};

/* ---- sums of products ---- */

/* Adds a[i] * b[i]; with `scaled` also writes scaled[i] = *gate * a[i]. */
template <typename T, bool WIDE> struct dot_function {
    const T *a;
    const T *b;
    T *scaled;
    const float *gate;
    __device__ double operator()(int64_t begin, int size) const
    {
        float x[pack<T>::size];
        float y[pack<T>::size];
        load_some<T, WIDE>(a + begin, size, x);
        load_some<T, WIDE>(b + begin, size, y);
        double sum = 0.0;
        float factor = scaled ? *gate : 0.0f;
#pragma unroll
        for (int i = 0; i < pack<T>::size; i++) {
            sum += (double)x[i] * (double)y[i];
            x[i] *= factor;
        }
        if (scaled) store_some<T, WIDE>(scaled + begin, size, x);
        return sum;
    }
};

static enum status dot_prepare(struct kernel *kernel)
{
    kernel->scratch_size = sum_all_scratch();
    return STATUS_OK;
}

template <typename T>
static enum status dot_of(const struct kernel *kernel, void *scaled, void *out,
                          const struct cuda_run *run)
{
    const T *a = (const T *)kernel->in[0];
    const T *b = (const T *)kernel->in[1];
    const float *gate = scaled ? (const float *)kernel->in[2] : NULL;
    return sum_all_packs<dot_function, T>(
        count_of(kernel), ADDRESS(a) | ADDRESS(b) | ADDRESS(scaled), 1.0, (float *)out,
        kernel->scratch, run->stream, a, b, (T *)scaled, gate);
}

template <typename T>
static enum status dot_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    return dot_of<T>(kernel, NULL, kernel->out[0], run);
}

CUDA_OP_BY_TYPE(dot, dot_prepare, NULL)

/* dy, b, s -> db = s * dy, ds = sum(dy * b). */
template <typename T>
static enum status add_gated_grad_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    return dot_of<T>(kernel, kernel->out[0], kernel->out[1], run);
}

CUDA_OP_BY_TYPE(add_gated_grad, dot_prepare, NULL)

/* ---- row bias ---- */

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(MAP_THREADS)
    bias_kernel(const T *x, const float *bias, T *y, int64_t count, int64_t columns)
{
    constexpr int SIZE = pack<T>::size;
    int64_t begin = ((int64_t)blockIdx.x * MAP_THREADS + threadIdx.x) * SIZE;
    if (begin >= count) return;
    int size = count - begin < SIZE ? (int)(count - begin) : SIZE;
    float v[SIZE];
    load_some<T, WIDE>(x + begin, size, v);
    int64_t column = begin % columns;
#pragma unroll
    for (int i = 0; i < SIZE; i++) {
        v[i] += bias[column];
        if (++column == columns) column = 0;
    }
    store_some<T, WIDE>(y + begin, size, v);
}

template <typename T>
static enum status bias_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    int64_t count = count_of(kernel);
    const T *x = (const T *)kernel->in[0];
    T *y = (T *)kernel->out[0];
    return LAUNCH_PACKS(bias_kernel, T, count, ADDRESS(x) | ADDRESS(y), run->stream, x,
                        (const float *)kernel->in[1], y, count,
                        columns_of(&kernel->node->inputs[0]->shape));
}

CUDA_OP_BY_TYPE(bias, NULL, NULL)
