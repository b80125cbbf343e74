/*
 * Losses on a GPU; loss.c says what they are.
 *
 * Cross-entropy reads the logits of a row once, with a running largest value and a sum that is
 * rescaled when it grows; its gradient makes the softmax again from the log-sum-exp and may
 * overwrite the logits.
 */
#include "runtime/ops/rows.cuh"

enum { LOSS_THREADS = 256 };

/* ---- cross-entropy: a block a row ---- */

/* exp(x - top), and 1 for a row of nothing but -infinity. */
static __device__ __forceinline__ float exp_below(float x, float top)
{
    return x == top ? 1.0f : expf(x - top);
}

template <typename T, int SIZE>
static __global__ void __launch_bounds__(LOSS_THREADS)
    cross_entropy_kernel(const T *logits, const int32_t *targets, float *loss, float *lse,
                         float *correct, int64_t columns, int64_t ignore, int32_t *fault,
                         int32_t number)
{
    __shared__ float shared[BLOCK_SHARED];
    int64_t row = blockIdx.x;
    const T *x = logits + row * columns;
    int64_t target = targets[row];
    bool ignored = target == ignore;
    bool bad = !ignored && (target < 0 || target >= columns);
    float wanted = ignored || bad ? NAN : load_f32(x + target);
    float top = -INFINITY;
    float sum = 0.0f;
    float above = 0.0f; /* columns that beat the target */
    for (int64_t c = (int64_t)threadIdx.x * SIZE; c < columns; c += LOSS_THREADS * SIZE) {
        float v[SIZE];
        load_columns<SIZE>(x + c, v);
        float most = top;
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            most = max_nan(most, v[i]);
            above += v[i] > wanted || (v[i] == wanted && c + i < target) ? 1.0f : 0.0f;
        }
        sum *= exp_below(top, most);
        top = most;
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            sum += exp_below(v[i], top);
        }
    }
    float most = block_max(top, shared);
    sum = block_sum(sum * exp_below(top, most), shared);
    above = block_sum(above, shared);
    if (threadIdx.x != 0) return;
    float total = most + logf(sum);
    lse[row] = total;
    loss[row] = ignored || bad ? 0.0f : total - wanted;
    correct[row] = !ignored && !bad && above == 0.0f && total == total ? 1.0f : 0.0f;
    if (bad) atomicMin(fault, number);
}

template <typename T>
static enum status cross_entropy_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    int64_t rows = shape->dim[0];
    int64_t columns = shape->dim[1];
    int64_t ignore = NODE_ATTRS(kernel->node, struct target_attrs)->ignore;
    const T *x = (const T *)kernel->in[0];
    const int32_t *targets = (const int32_t *)kernel->in[1];
    float *loss = (float *)kernel->out[0];
    float *lse = (float *)kernel->out[1];
    float *correct = (float *)kernel->out[2];
    if (rows == 0) return STATUS_OK;
    if (rows_are_wide<T>(ADDRESS(x), columns)) {
        return CUDA_LAUNCH((cross_entropy_kernel<T, pack<T>::size>), (unsigned)rows, LOSS_THREADS,
                           0, run->stream, x, targets, loss, lse, correct, columns, ignore,
                           run->fault, run->number);
    }
    return CUDA_LAUNCH((cross_entropy_kernel<T, 1>), (unsigned)rows, LOSS_THREADS, 0, run->stream,
                       x, targets, loss, lse, correct, columns, ignore, run->fault, run->number);
}

CUDA_OP_BY_TYPE(cross_entropy, NULL, "a target is outside the classes")

/* blockIdx.x: row times pieces of a row. */
template <typename T, int SIZE>
static __global__ void __launch_bounds__(LOSS_THREADS)
    cross_entropy_grad_kernel(const T *logits, const int32_t *targets, const float *lse,
                              const float *dloss, T *dlogits, int64_t columns, int64_t pieces,
                              int64_t ignore)
{
    int64_t row = blockIdx.x / pieces;
    int64_t c = ((blockIdx.x - row * pieces) * LOSS_THREADS + threadIdx.x) * SIZE;
    if (c >= columns) return;
    int64_t target = targets[row];
    bool counts = target != ignore && target >= 0 && target < columns;
    float d = dloss[row];
    float sum = lse[row];
    float v[SIZE];
    load_columns<SIZE>(logits + row * columns + c, v);
#pragma unroll
    for (int i = 0; i < SIZE; i++) {
        v[i] = counts ? (expf(v[i] - sum) - (c + i == target ? 1.0f : 0.0f)) * d : 0.0f;
    }
    store_columns<SIZE>(dlogits + row * columns + c, v);
}

template <typename T, int SIZE>
static enum status cross_entropy_grad_sized(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    int64_t pieces = ceil_div(shape->dim[1], LOSS_THREADS * SIZE);
    int64_t ignore = NODE_ATTRS(kernel->node, struct target_attrs)->ignore;
    if (shape->dim[0] == 0) return STATUS_OK;
    return CUDA_LAUNCH((cross_entropy_grad_kernel<T, SIZE>), (unsigned)(shape->dim[0] * pieces),
                       LOSS_THREADS, 0, run->stream, (const T *)kernel->in[0],
                       (const int32_t *)kernel->in[1], (const float *)kernel->in[2],
                       (const float *)kernel->in[3], (T *)kernel->out[0], shape->dim[1], pieces,
                       ignore);
}

template <typename T>
static enum status cross_entropy_grad_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    int64_t columns = kernel->node->inputs[0]->shape.dim[1];
    if (rows_are_wide<T>(ADDRESS(kernel->in[0]) | ADDRESS(kernel->out[0]), columns)) {
        return cross_entropy_grad_sized<T, pack<T>::size>(kernel, run);
    }
    return cross_entropy_grad_sized<T, 1>(kernel, run);
}

CUDA_OP_BY_TYPE(cross_entropy_grad, NULL, NULL)

/* ---- weights of the rows that count: one block, the targets are few ---- */

static __global__ void __launch_bounds__(LOSS_THREADS)
    target_weights_kernel(const int32_t *targets, float *weights, int64_t rows, int64_t ignore)
{
    __shared__ float shared[BLOCK_SHARED];
    float valid = 0.0f;
    for (int64_t i = threadIdx.x; i < rows; i += LOSS_THREADS) {
        valid += targets[i] != ignore ? 1.0f : 0.0f;
    }
    valid = block_sum(valid, shared);
    for (int64_t i = threadIdx.x; i < rows; i += LOSS_THREADS) {
        weights[i] = targets[i] != ignore ? 1.0f / valid : 0.0f;
    }
}

static enum status target_weights_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    return CUDA_LAUNCH(target_weights_kernel, 1, LOSS_THREADS, 0, run->stream,
                       (const int32_t *)kernel->in[0], (float *)kernel->out[0], count_of(kernel),
                       NODE_ATTRS(kernel->node, struct target_attrs)->ignore);
}

const struct cuda_op cuda_op_target_weights = {&op_row_target_weights, NULL, target_weights_cuda,
                                               NULL, NULL};

/* ---- binary cross-entropy: x of T, targets, loss and its gradient f32 ---- */

template <typename T>
static __global__ void __launch_bounds__(MAP_THREADS)
    bce_kernel(const T *x, const float *target, float *loss, int64_t count)
{
    int64_t i = (int64_t)blockIdx.x * MAP_THREADS + threadIdx.x;
    if (i >= count) return;
    float v = load_f32(x + i);
    loss[i] = max_nan(v, 0.0f) - v * target[i] + log1pf(expf(-fabsf(v)));
}

template <typename T>
static __global__ void __launch_bounds__(MAP_THREADS)
    bce_grad_kernel(const T *x, const float *target, const float *dloss, T *dx, int64_t count)
{
    int64_t i = (int64_t)blockIdx.x * MAP_THREADS + threadIdx.x;
    if (i >= count) return;
    float v = load_f32(x + i);
    store_f32(dx + i, (1.0f / (1.0f + expf(-v)) - target[i]) * dloss[i]);
}

template <typename T>
static enum status bce_with_logits_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    int64_t count = count_of(kernel);
    return LAUNCH_EACH(bce_kernel<T>, count, run->stream, (const T *)kernel->in[0],
                       (const float *)kernel->in[1], (float *)kernel->out[0], count);
}

template <typename T>
static enum status bce_with_logits_grad_typed(const struct kernel *kernel,
                                              const struct cuda_run *run)
{
    int64_t count = count_of(kernel);
    return LAUNCH_EACH(bce_grad_kernel<T>, count, run->stream, (const T *)kernel->in[0],
                       (const float *)kernel->in[1], (const float *)kernel->in[2],
                       (T *)kernel->out[0], count);
}

CUDA_OP_BY_TYPE(bce_with_logits, NULL, NULL)
CUDA_OP_BY_TYPE(bce_with_logits_grad, NULL, NULL)

/* ---- mean squared error ---- */

template <typename T, bool WIDE> struct square_function {
    const T *a;
    const T *b;
    __device__ double operator()(int64_t begin, int size) const
    {
        float x[pack<T>::size];
        float y[pack<T>::size];
        load_some<T, WIDE>(a + begin, size, x);
        load_some<T, WIDE>(b + begin, size, y);
        double sum = 0.0;
#pragma unroll
        for (int i = 0; i < pack<T>::size; i++) {
            double d = (double)x[i] - (double)y[i];
            sum += d * d;
        }
        return sum;
    }
};

static enum status mse_prepare(struct kernel *kernel)
{
    kernel->scratch_size = sum_all_scratch();
    return STATUS_OK;
}

template <typename T>
static enum status mse_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    int64_t count = count_of(kernel);
    const T *a = (const T *)kernel->in[0];
    const T *b = (const T *)kernel->in[1];
    return sum_all_packs<square_function, T>(count, ADDRESS(a) | ADDRESS(b), 1.0 / (double)count,
                                             (float *)kernel->out[0], kernel->scratch, run->stream,
                                             a, b);
}

CUDA_OP_BY_TYPE(mse, mse_prepare, NULL)

struct mse_grad_function {
    const float *dloss;
    float factor;
    __device__ void operator()(const float *x, float *y) const
    {
        y[0] = (x[0] - x[1]) * factor * *dloss;
        y[1] = -y[0];
    }
};

static enum status mse_grad_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    struct mse_grad_function f = {(const float *)kernel->in[2], 2.0f / (float)count_of(kernel)};
    return map_kernel_call<2, 2>(kernel, run, f);
}

const struct cuda_op cuda_op_mse_grad = {&op_row_mse_grad, NULL, mse_grad_cuda, NULL, NULL};

/* ---- cosine of rows ---- */

template <typename T> struct cosine {
    const T *a, *b;
    float *cosine, *norm_a, *norm_b;
    const float *dcosine;
    T *da, *db;
    int64_t rows, columns;
    float eps;
};

template <typename T, int GROUP, int SIZE>
static __global__ void __launch_bounds__(ROW_BLOCK) cosine_kernel(struct cosine<T> p)
{
    __shared__ float shared[BLOCK_SHARED];
    int64_t row = group_row<GROUP>();
    if (row >= p.rows) return;
    float x[SIZE];
    float y[SIZE];
    float sum[3] = {0.0f, 0.0f, 0.0f};
    FOR_COLUMNS(c, GROUP, SIZE, p.columns)
    {
        load_columns<SIZE>(p.a + row * p.columns + c, x);
        load_columns<SIZE>(p.b + row * p.columns + c, y);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            sum[0] += x[i] * y[i];
            sum[1] += x[i] * x[i];
            sum[2] += y[i] * y[i];
        }
    }
    float dot = group_sum<GROUP>(sum[0], shared);
    float a = sqrtf(group_sum<GROUP>(sum[1], shared));
    float b = sqrtf(group_sum<GROUP>(sum[2], shared));
    if (group_member<GROUP>() != 0) return;
    p.norm_a[row] = a < p.eps ? p.eps : a;
    p.norm_b[row] = b < p.eps ? p.eps : b;
    p.cosine[row] = dot / (p.norm_a[row] * p.norm_b[row]);
}

/* At a clamped norm only the product depends on the vector. */
template <typename T, int GROUP, int SIZE>
static __global__ void __launch_bounds__(ROW_BLOCK) cosine_grad_kernel(struct cosine<T> p)
{
    int64_t row = group_row<GROUP>();
    if (row >= p.rows) return;
    float a = p.norm_a[row];
    float b = p.norm_b[row];
    float d = p.dcosine[row];
    float cross = d / (a * b);
    float self_a = a > p.eps ? -d * p.cosine[row] / (a * a) : 0.0f;
    float self_b = b > p.eps ? -d * p.cosine[row] / (b * b) : 0.0f;
    float x[SIZE];
    float y[SIZE];
    FOR_COLUMNS(c, GROUP, SIZE, p.columns)
    {
        load_columns<SIZE>(p.a + row * p.columns + c, x);
        load_columns<SIZE>(p.b + row * p.columns + c, y);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            float dx = cross * y[i] + self_a * x[i];
            y[i] = cross * x[i] + self_b * y[i];
            x[i] = dx;
        }
        store_columns<SIZE>(p.da + row * p.columns + c, x);
        store_columns<SIZE>(p.db + row * p.columns + c, y);
    }
}

template <typename T> static struct cosine<T> cosine_of(const struct kernel *kernel) {
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    struct cosine<T> p = {
    };
    p.a = (const T *)kernel->in[0];
    p.b = (const T *)kernel->in[1];
    p.rows = rows_of(shape);
    p.columns = columns_of(shape);
    p.eps = NODE_ATTRS(kernel->node, struct cosine_attrs)->eps;
    return p;
}

template <typename T>
static enum status cosine_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    struct cosine<T> p = cosine_of<T>(kernel);
    p.cosine = (float *)kernel->out[0];
    p.norm_a = (float *)kernel->out[1];
    p.norm_b = (float *)kernel->out[2];
    return LAUNCH_ROWS(cosine_kernel, T, p.rows, p.columns, ADDRESS(p.a) | ADDRESS(p.b),
                       run->stream, p);
}

template <typename T>
static enum status cosine_grad_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    struct cosine<T> p = cosine_of<T>(kernel);
    p.cosine = (float *)kernel->in[2];
    p.norm_a = (float *)kernel->in[3];
    p.norm_b = (float *)kernel->in[4];
    p.dcosine = (const float *)kernel->in[5];
    p.da = (T *)kernel->out[0];
    p.db = (T *)kernel->out[1];
    return LAUNCH_ROWS(cosine_grad_kernel, T, p.rows, p.columns,
                       ADDRESS(p.a) | ADDRESS(p.b) | ADDRESS(p.da) | ADDRESS(p.db), run->stream, p);
}

CUDA_OP_BY_TYPE(cosine, NULL, NULL)
CUDA_OP_BY_TYPE(cosine_grad, NULL, NULL)
