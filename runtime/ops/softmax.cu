/* Softmax and log-softmax on a GPU; softmax.c says what they are. */
#include "runtime/ops/rows.cuh"

/* LOG: of the logarithm. */
template <typename T, int GROUP, int SIZE, bool LOG>
static __device__ __forceinline__ void softmax_row(const T *x, T *y, int64_t rows, int64_t columns)
{
    __shared__ float shared[BLOCK_SHARED];
    int64_t row = group_row<GROUP>();
    if (row >= rows) return;
    x += row * columns;
    y += row * columns;
    float v[SIZE];
    float top = -INFINITY;
    FOR_COLUMNS(c, GROUP, SIZE, columns)
    {
        load_columns<SIZE>(x + c, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            top = max_nan(top, v[i]);
        }
    }
    top = group_max<GROUP>(top, shared);
    float sum = 0.0f;
    FOR_COLUMNS(c, GROUP, SIZE, columns)
    {
        load_columns<SIZE>(x + c, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            sum += expf(v[i] - top);
        }
    }
    sum = group_sum<GROUP>(sum, shared);
    float factor = LOG ? logf(sum) : 1.0f / sum;
    FOR_COLUMNS(c, GROUP, SIZE, columns)
    {
        load_columns<SIZE>(x + c, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            v[i] = LOG ? v[i] - top - factor : expf(v[i] - top) * factor;
        }
        store_columns<SIZE>(y + c, v);
    }
}

template <typename T, int GROUP, int SIZE, bool LOG>
static __device__ __forceinline__ void softmax_grad_row(const T *y, const T *dy, T *dx,
                                                        int64_t rows, int64_t columns)
{
    __shared__ float shared[BLOCK_SHARED];
    int64_t row = group_row<GROUP>();
    if (row >= rows) return;
    y += row * columns;
    dy += row * columns;
    dx += row * columns;
    float a[SIZE];
    float d[SIZE];
    float sum = 0.0f;
    FOR_COLUMNS(c, GROUP, SIZE, columns)
    {
        load_columns<SIZE>(y + c, a);
        load_columns<SIZE>(dy + c, d);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            sum += LOG ? d[i] : a[i] * d[i];
        }
    }
    sum = group_sum<GROUP>(sum, shared);
    FOR_COLUMNS(c, GROUP, SIZE, columns)
    {
        load_columns<SIZE>(y + c, a);
        load_columns<SIZE>(dy + c, d);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            d[i] = LOG ? d[i] - expf(a[i]) * sum : a[i] * (d[i] - sum);
        }
        store_columns<SIZE>(dx + c, d);
    }
}

#define SOFTMAX(name_, LOG)                                                                        \
    template <typename T, int GROUP, int SIZE>                                                     \
    static __global__ void __launch_bounds__(ROW_BLOCK)                                            \
        name_##_kernel(const T *x, T *y, int64_t rows, int64_t columns)                            \
    {                                                                                              \
        softmax_row<T, GROUP, SIZE, LOG>(x, y, rows, columns);                                     \
    }                                                                                              \
    template <typename T, int GROUP, int SIZE>                                                     \
    static __global__ void __launch_bounds__(ROW_BLOCK)                                            \
        name_##_grad_kernel(const T *y, const T *dy, T *dx, int64_t rows, int64_t columns)         \
    {                                                                                              \
        softmax_grad_row<T, GROUP, SIZE, LOG>(y, dy, dx, rows, columns);                           \
    }                                                                                              \
    template <typename T>                                                                          \
    static enum status name_##_typed(const struct kernel *kernel, const struct cuda_run *run)      \
    {                                                                                              \
        const struct shape *shape = &kernel->node->inputs[0]->shape;                               \
        int64_t rows = rows_of(shape);                                                             \
        int64_t columns = columns_of(shape);                                                       \
        const T *x = (const T *)kernel->in[0];                                                     \
        T *y = (T *)kernel->out[0];                                                                \
        return LAUNCH_ROWS(name_##_kernel, T, rows, columns, ADDRESS(x) | ADDRESS(y), run->stream, \
                           x, y, rows, columns);                                                   \
    }                                                                                              \
    template <typename T>                                                                          \
    static enum status name_##_grad_typed(const struct kernel *kernel, const struct cuda_run *run) \
    {                                                                                              \
        const struct shape *shape = &kernel->node->inputs[0]->shape;                               \
        int64_t rows = rows_of(shape);                                                             \
        int64_t columns = columns_of(shape);                                                       \
        const T *y = (const T *)kernel->in[0];                                                     \
        const T *dy = (const T *)kernel->in[1];                                                    \
        T *dx = (T *)kernel->out[0];                                                               \
        return LAUNCH_ROWS(name_##_grad_kernel, T, rows, columns,                                  \
                           ADDRESS(y) | ADDRESS(dy) | ADDRESS(dx), run->stream, y, dy, dx, rows,   \
                           columns);                                                               \
    }                                                                                              \
    CUDA_OP_BY_TYPE(name_, NULL, NULL)                                                             \
    CUDA_OP_BY_TYPE(name_##_grad, NULL, NULL)

SOFTMAX(softmax, false)
SOFTMAX(log_softmax, true)
