/*
 * Layer and L2 normalisation on a GPU; norm.c says what they are.
 *
 * Mean and variance take two passes over the row, and the sum of the deviations corrects the mean,
 * so a large common offset does not cost precision. The gradients of gain and bias are sums down
 * the columns, in parts that depend on the sizes alone.
 */
#include "runtime/ops/column_sum.cuh"
#include "runtime/ops/rows.cuh"

enum { NORM_Y, NORM_MEAN, NORM_RSTD, NORM_SUM };

/* A value as a T holds it. */
static __device__ __forceinline__ float rounded(float x, const float *)
{
    return x;
}
static __device__ __forceinline__ float rounded(float x, const uint16_t *)
{
    return f32_of_bf16(bf16_of_f32(x));
}

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
                v[i] = rounded(v[i] + r[i], x);
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
    if (a.rows * a.columns == 0) return STATUS_OK;
    bool wide = rows_are_wide<T>(ADDRESS(a.x) | ADDRESS(a.residual) | ADDRESS(a.y) | ADDRESS(a.sum),
                                 a.columns);
    return LAUNCH_ROWS(layer_norm_kernel, T, a.rows, a.columns, wide, run->stream, a);
}

static enum status layer_norm_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    FOR_FLOAT_TYPE(dtype_of(kernel), return layer_norm_typed<T>(kernel, run));
}

const struct cuda_op cuda_op_layer_norm = {&op_row_layer_norm, NULL, layer_norm_cuda, NULL, NULL};

/* ---- gradient: dy, x, mean, rstd, gain -> dx, dgain, dbias ---- */

template <typename T> struct norm_backward {
    const T *dy, *x, *add; /* add: what dx is added to, or NULL; may be dx */
    const float *mean, *rstd, *gain;
    T *dx;
    int64_t rows, columns;
};

template <typename T, int GROUP, int SIZE>
static __global__ void __launch_bounds__(ROW_BLOCK)
    layer_norm_grad_kernel(struct norm_backward<T> a)
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

/* Parts of the rows; by the sizes alone. */
static int64_t norm_parts(int64_t rows, int64_t columns)
{
    int64_t parts = 2 * COLUMN_BLOCKS / ceil_div(columns, WARP);
    int64_t most = ceil_div(rows, COLUMN_LEAST_ROWS);
    if (parts > most) parts = most;
    if (parts > 2 * COLUMN_PARTS) parts = 2 * COLUMN_PARTS;
    return parts < 1 ? 1 : parts;
}

static enum status layer_norm_grad_prepare(struct kernel *kernel)
{
    const struct shape *x = &kernel->node->inputs[0]->shape;
    kernel->scratch_size =
        2 * (size_t)(norm_parts(rows_of(x), columns_of(x)) * columns_of(x)) * sizeof(float);
    return STATUS_OK;
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
    /* Columns first: dx may overwrite dy. */
    float *parts = (float *)kernel->scratch;
    int64_t num_parts = norm_parts(a.rows, a.columns);
    dim3 grid((unsigned)ceil_div(a.columns, WARP), (unsigned)num_parts);
    TRY(CUDA_LAUNCH(norm_columns_kernel<T>, grid, COLUMN_THREADS, 0, run->stream, a, parts,
                    ceil_div(a.rows, num_parts)));
    for (int i = 0; i < 2; i++) {
        TRY(CUDA_LAUNCH(column_parts_kernel<float>, (unsigned)ceil_div(a.columns, COLUMN_THREADS),
                        COLUMN_THREADS, 0, run->stream, parts + i * num_parts * a.columns,
                        (float *)kernel->out[1 + i], a.columns, (int)num_parts, 1.0f, false));
    }
    if (a.rows == 0) return STATUS_OK;
    bool wide = rows_are_wide<T>(ADDRESS(a.dy) | ADDRESS(a.x) | ADDRESS(a.dx), a.columns);
    return LAUNCH_ROWS(layer_norm_grad_kernel, T, a.rows, a.columns, wide, run->stream, a);
}

static enum status layer_norm_grad_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    FOR_FLOAT_TYPE(dtype_of(kernel), return layer_norm_grad_typed<T>(kernel, run));
}

const struct cuda_op cuda_op_layer_norm_grad = {&op_row_layer_norm_grad, layer_norm_grad_prepare,
                                                layer_norm_grad_cuda, NULL, NULL};

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
static enum status l2_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    int64_t rows = rows_of(shape);
    int64_t columns = columns_of(shape);
    const T *x = (const T *)kernel->in[0];
    T *y = (T *)kernel->out[0];
    float eps = NODE_ATTRS(kernel->node, struct norm_attrs)->eps;
    if (rows == 0) return STATUS_OK;
    bool wide = rows_are_wide<T>(ADDRESS(x) | ADDRESS(y), columns);
    return LAUNCH_ROWS(l2_kernel, T, rows, columns, wide, run->stream, x, y,
                       (float *)kernel->out[1], rows, columns, eps);
}

template <typename T>
static enum status l2_grad_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    int64_t rows = rows_of(shape);
    int64_t columns = columns_of(shape);
    const T *dy = (const T *)kernel->in[0];
    const T *y = (const T *)kernel->in[1];
    T *dx = (T *)kernel->out[0];
    float eps = NODE_ATTRS(kernel->node, struct norm_attrs)->eps;
    if (rows == 0) return STATUS_OK;
    bool wide = rows_are_wide<T>(ADDRESS(dy) | ADDRESS(y) | ADDRESS(dx), columns);
    return LAUNCH_ROWS(l2_grad_kernel, T, rows, columns, wide, run->stream, dy, y,
                       (const float *)kernel->in[2], dx, rows, columns, eps);
}

static enum status l2_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    FOR_FLOAT_TYPE(dtype_of(kernel), return l2_typed<T>(kernel, run));
}

static enum status l2_grad_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    FOR_FLOAT_TYPE(dtype_of(kernel), return l2_grad_typed<T>(kernel, run));
}

const struct cuda_op cuda_op_l2_normalize = {&op_row_l2_normalize, NULL, l2_cuda, NULL, NULL};
const struct cuda_op cuda_op_l2_normalize_grad = {&op_row_l2_normalize_grad, NULL, l2_grad_cuda,
                                                  NULL, NULL};
