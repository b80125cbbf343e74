/* Elementwise functions on a GPU; activation.c says what they are. */
#include "runtime/ops/column_sum.cuh"
#include "runtime/ops/gelu.cuh"
#include "runtime/ops/rows.cuh"

/* The functions of CUDA's library (erff, expf, tanhf) are good to 2 units in the last place. */
static __device__ __forceinline__ float sigmoid_of(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

#define ONE_INPUT(name_, expression)                                                               \
    struct name_##_function {                                                                      \
        __device__ void operator()(const float *in, float *out) const                              \
        {                                                                                          \
            float x = in[0];                                                                       \
            out[0] = (expression);                                                                 \
        }                                                                                          \
    };                                                                                             \
    static enum status name_##_cuda(struct kernel *kernel, const struct cuda_run *run)             \
    {                                                                                              \
        return map_kernel_call<1, 1>(kernel, run, name_##_function());                             \
    }                                                                                              \
    const struct cuda_op cuda_op_##name_ = {&op_row_##name_, NULL, name_##_cuda, NULL, NULL};

/* x is the forward's input or output, whichever the gradient reads, and d the gradient that comes
 * in. */
#define GRADIENT(name_, expression)                                                                \
    struct name_##_grad_function {                                                                 \
        __device__ void operator()(const float *in, float *out) const                              \
        {                                                                                          \
            float x = in[0];                                                                       \
            float d = in[1];                                                                       \
            out[0] = (expression);                                                                 \
        }                                                                                          \
    };                                                                                             \
    static enum status name_##_grad_cuda(struct kernel *kernel, const struct cuda_run *run)        \
    {                                                                                              \
        return map_kernel_call<2, 1>(kernel, run, name_##_grad_function());                        \
    }                                                                                              \
    const struct cuda_op cuda_op_##name_##_grad = {&op_row_##name_##_grad, NULL,                   \
                                                   name_##_grad_cuda, NULL, NULL};

static enum status gelu_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    return map_kernel_call<1, 1>(kernel, run, gelu_function());
}

const struct cuda_op cuda_op_gelu = {&op_row_gelu, NULL, gelu_cuda, NULL, NULL};

struct gelu_grad_function {
    __device__ void operator()(const float *in, float *out) const
    {
        out[0] = in[1] * gelu_slope(in[0]);
    }
};

/* The same, which also gives what it writes to a sum of columns: the bias of the linear layer
 * before has that for a gradient, and a pass over memory is saved. */
template <typename T, bool WIDE> struct gelu_grad_summed {
    const T *x, *d;
    T *dx;
    __device__ void operator()(int64_t at, float *v) const
    {
        constexpr int SIZE = WIDE ? pack<T>::size : 1;
        float input[SIZE];
        load_function<T, WIDE>{x}(at, input);
        load_function<T, WIDE>{d}(at, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            v[i] = rounded<T>(v[i] * gelu_slope(input[i]));
        }
        store_columns<SIZE>(dx + at, v);
    }
};

static enum status gelu_grad_prepare(struct kernel *kernel)
{
    const struct shape *shape = &kernel->node->outputs[0].shape;
    if (kernel->sums) {
        kernel->scratch_size = column_sum_scratch(1, rows_of(shape), columns_of(shape));
    }
    return STATUS_OK;
}

template <typename T>
static enum status gelu_grad_and_sum(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *shape = &kernel->node->outputs[0].shape;
    const T *x = (const T *)kernel->in[0];
    const T *d = (const T *)kernel->in[1];
    T *dx = (T *)kernel->out[0];
    return column_sum_of<gelu_grad_summed, T>(
        ADDRESS(x) | ADDRESS(d) | ADDRESS(dx), (float *)kernel->out[1], 1, rows_of(shape),
        columns_of(shape), 1.0f, false, kernel->scratch, run->stream, x, d, dx);
}

static enum status gelu_grad_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    if (!kernel->sums) return map_kernel_call<2, 1>(kernel, run, gelu_grad_function());
    FOR_FLOAT_TYPE(dtype_of(kernel), return gelu_grad_and_sum<T>(kernel, run));
}

const struct cuda_op cuda_op_gelu_grad = {
    &op_row_gelu_grad, gelu_grad_prepare, gelu_grad_cuda, NULL, NULL, true};

ONE_INPUT(quick_gelu, x *sigmoid_of(1.702f * x))
GRADIENT(quick_gelu, d *sigmoid_of(1.702f * x) * (1.0f + 1.702f * x * sigmoid_of(-1.702f * x)))
ONE_INPUT(tanh, tanhf(x))
GRADIENT(tanh, d *(1.0f - x * x))
/* NaN stays NaN, in both directions. */
ONE_INPUT(relu, x <= 0.0f ? 0.0f : x)
GRADIENT(relu, x <= 0.0f ? 0.0f : x != x ? x : d)
ONE_INPUT(sigmoid, sigmoid_of(x))
GRADIENT(sigmoid, d *x *(1.0f - x))
ONE_INPUT(exp, expf(x))
ONE_INPUT(log, logf(x))
ONE_INPUT(reciprocal, 1.0f / x)

/* ---- clamp ---- */

struct clamp_function {
    float low, high;
    __device__ void operator()(const float *x, float *y) const
    {
        y[0] = x[0] < low ? low : x[0] > high ? high : x[0];
    }
};

struct clamp_grad_function {
    float low, high;
    __device__ void operator()(const float *x, float *y) const
    {
        y[0] = x[0] < low || x[0] > high ? 0.0f : x[1];
    }
};

static enum status clamp_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct clamp_attrs *attrs = NODE_ATTRS(kernel->node, struct clamp_attrs);
    struct clamp_function f = {attrs->low, attrs->high};
    return map_kernel_call<1, 1>(kernel, run, f);
}

static enum status clamp_grad_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct clamp_attrs *attrs = NODE_ATTRS(kernel->node, struct clamp_attrs);
    struct clamp_grad_function f = {attrs->low, attrs->high};
    return map_kernel_call<2, 1>(kernel, run, f);
}

const struct cuda_op cuda_op_clamp = {&op_row_clamp, NULL, clamp_cuda, NULL, NULL};
const struct cuda_op cuda_op_clamp_grad = {&op_row_clamp_grad, NULL, clamp_grad_cuda, NULL, NULL};
