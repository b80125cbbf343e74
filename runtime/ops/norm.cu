/*
 * Layer and L2 normalisation on a GPU; norm.c says what they are, and norm_grad.cu has the gradient
 * of the first.
 *
 * Mean and variance take two passes over the row, and the sum of the deviations corrects the mean,
 * so a large common offset does not cost precision.
 */
#include "runtime/ops/rows.cuh"

enum { NORM_Y, NORM_MEAN, NORM_RSTD, NORM_SUM };

template <typename T> struct norm_forward {
    const T *x, *residual; /* residual NULL: none */
    const float *gain, *bias;
    T *y, *sum;
    float *mean, *rstd;
    int64_t rows, columns;
    float eps;
};

template <typename T, int GROUP, int SIZE>
static __global__ void __launch_bounds__(ROW_BLOCK) layer_norm_kernel(struct norm_forward<T> a)
{
    __shared__ float shared[BLOCK_SHARED];
    int64_t row = group_row<GROUP>();
    if (row >= a.rows) return;
    const T *x = a.x + row * a.columns;
    float inverse = 1.0f / (float)a.columns;
    float v[SIZE];
    float total = 0.0f;
    FOR_COLUMNS(c, GROUP, SIZE, a.columns)
    {
        load_columns<SIZE>(x + c, v);
        if (a.residual) {
            float r[SIZE];
            load_columns<SIZE>(a.residual + row * a.columns + c, r);
#pragma unroll
            for (int i = 0; i < SIZE; i++) {
                v[i] = rounded<T>(v[i] + r[i]);
            }
            store_columns<SIZE>(a.sum + row * a.columns + c, v);
        }
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            total += v[i];
        }
    }
    float mean = group_sum<GROUP>(total, shared) * inverse;
    if (a.residual) x = a.sum + row * a.columns; /* what this thread wrote */
    float first = 0.0f;
    float second = 0.0f;
    FOR_COLUMNS(c, GROUP, SIZE, a.columns)
    {
        load_columns<SIZE>(x + c, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            float d = v[i] - mean;
            first += d;
            second += d * d;
        }
    }
    float delta = group_sum<GROUP>(first, shared) * inverse;
    float variance = group_sum<GROUP>(second, shared) * inverse - delta * delta;
    float rstd = 1.0f / sqrtf((variance < 0.0f ? 0.0f : variance) + a.eps);
    FOR_COLUMNS(c, GROUP, SIZE, a.columns)
    {
        load_columns<SIZE>(x + c, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            v[i] = (v[i] - mean - delta) * rstd * a.gain[c + i] + a.bias[c + i];
        }
        store_columns<SIZE>(a.y + row * a.columns + c, v);
    }
    if (group_member<GROUP>() == 0) {
        a.mean[row] = mean + delta;
        a.rstd[row] = rstd;
    }
}

template <typename T>
static enum status layer_norm_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct norm_attrs *attrs = NODE_ATTRS(kernel->node, struct norm_attrs);
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    int at = attrs->has_residual ? 2 : 1;
    struct norm_forward<T> a = {
    };
    a.x = (const T *)kernel->in[0];
    a.residual = attrs->has_residual ? (const T *)kernel->in[1] : NULL;
    a.gain = (const float *)kernel->in[at];
    a.bias = (const float *)kernel->in[at + 1];
    a.y = (T *)kernel->out[NORM_Y];
    a.sum = attrs->has_residual ? (T *)kernel->out[NORM_SUM] : NULL;
    a.mean = (float *)kernel->out[NORM_MEAN];
    a.rstd = (float *)kernel->out[NORM_RSTD];
    a.rows = rows_of(shape);
    a.columns = columns_of(shape);
    a.eps = attrs->eps;
    if (a.columns == 0) return STATUS_OK;
    return LAUNCH_ROWS(layer_norm_kernel, T, a.rows, a.columns,
                       ADDRESS(a.x) | ADDRESS(a.residual) | ADDRESS(a.y) | ADDRESS(a.sum),
                       run->stream, a);
}

CUDA_OP_BY_TYPE(layer_norm, NULL, NULL)

/* ---- L2 ---- */

template <typename T, int GROUP, int SIZE>
static __global__ void __launch_bounds__(ROW_BLOCK)
    l2_kernel(const T *x, T *y, float *norm, int64_t rows, int64_t columns, float eps)
{
    __shared__ float shared[BLOCK_SHARED];
    int64_t row = group_row<GROUP>();
    if (row >= rows) return;
    float v[SIZE];
    float sum = 0.0f;
    FOR_COLUMNS(c, GROUP, SIZE, columns)
    {
        load_columns<SIZE>(x + row * columns + c, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            sum += v[i] * v[i];
        }
    }
    float length = sqrtf(group_sum<GROUP>(sum, shared));
    float divisor = length < eps ? eps : length;
    /* A reciprocal that is not a normal number would lose bits or be infinite. */
    float up = divisor < 1e-30f ? 0x1p64f : divisor > 1e30f ? 0x1p-64f : 1.0f;
    float factor = 1.0f / (divisor * up);
    FOR_COLUMNS(c, GROUP, SIZE, columns)
    {
        load_columns<SIZE>(x + row * columns + c, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            v[i] = v[i] * up * factor;
        }
        store_columns<SIZE>(y + row * columns + c, v);
    }
    if (group_member<GROUP>() == 0) norm[row] = length;
}

/* dx = (dy - y * dot(dy, y)) / norm, and dy / eps where the norm was below eps. */
template <typename T, int GROUP, int SIZE>
static __global__ void __launch_bounds__(ROW_BLOCK)
    l2_grad_kernel(const T *dy, const T *y, const float *norm, T *dx, int64_t rows, int64_t columns,
                   float eps)
{
    __shared__ float shared[BLOCK_SHARED];
    int64_t row = group_row<GROUP>();
    if (row >= rows) return;
    float d[SIZE];
    float v[SIZE];
    float sum = 0.0f;
    FOR_COLUMNS(c, GROUP, SIZE, columns)
    {
        load_columns<SIZE>(dy + row * columns + c, d);
        load_columns<SIZE>(y + row * columns + c, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            sum += d[i] * v[i];
        }
    }
    bool clamped = norm[row] < eps;
    float dot = group_sum<GROUP>(sum, shared);
    if (clamped) dot = 0.0f;
    float divisor = clamped ? eps : norm[row];
    FOR_COLUMNS(c, GROUP, SIZE, columns)
    {
        load_columns<SIZE>(dy + row * columns + c, d);
        load_columns<SIZE>(y + row * columns + c, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            d[i] = (d[i] - v[i] * dot) / divisor;
        }
        store_columns<SIZE>(dx + row * columns + c, d);
    }
}

template <typename T>
static enum status l2_normalize_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    int64_t rows = rows_of(shape);
    int64_t columns = columns_of(shape);
    const T *x = (const T *)kernel->in[0];
    T *y = (T *)kernel->out[0];
    return LAUNCH_ROWS(l2_kernel, T, rows, columns, ADDRESS(x) | ADDRESS(y), run->stream, x, y,
                       (float *)kernel->out[1], rows, columns,
                       NODE_ATTRS(kernel->node, struct norm_attrs)->eps);
}

template <typename T>
static enum status l2_normalize_grad_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    int64_t rows = rows_of(shape);
    int64_t columns = columns_of(shape);
    const T *dy = (const T *)kernel->in[0];
    const T *y = (const T *)kernel->in[1];
    T *dx = (T *)kernel->out[0];
    return LAUNCH_ROWS(l2_grad_kernel, T, rows, columns, ADDRESS(dy) | ADDRESS(y) | ADDRESS(dx),
                       run->stream, dy, y, (const float *)kernel->in[2], dx, rows, columns,
                       NODE_ATTRS(kernel->node, struct norm_attrs)->eps);
}

CUDA_OP_BY_TYPE(l2_normalize, NULL, NULL)
CUDA_OP_BY_TYPE(l2_normalize_grad, NULL, NULL)
