/*
 * Collectives on a GPU. Of one rank they are copies, and rows by number; of several, NCCL's, and
 * exchange_ranks.cu. exchange.c and collective.c say what the ops are.
 */
#include "runtime/backend/cuda/device_comm.h"
#include "runtime/ops/exchange_ranks.h"
#include "runtime/ops/rows.cuh"

enum { EXCHANGE_THREADS = 256 };

/* ---- collectives ---- */

static enum comm_dtype comm_type(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_F32:
        return COMM_F32;
    case DTYPE_BF16:
        return COMM_BF16;
    case DTYPE_I32:
        return COMM_I32;
    default:
        return COMM_U8;
    }
}

static const char *label(const struct kernel *kernel)
{
    return *kernel->node->path ? kernel->node->path : kernel->node->op->name;
}

static enum status copy_alone(const struct kernel *kernel, const struct cuda_run *run)
{
    if (kernel->out[0] == kernel->in[0]) return STATUS_OK;
    CUDA_TRY(cudaMemcpyAsync(kernel->out[0], kernel->in[0], tensor_bytes(kernel->node->inputs[0]),
                             cudaMemcpyDeviceToDevice, run->stream));
    return STATUS_OK;
}

static enum status all_gather_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct tensor *x = kernel->node->inputs[0];
    if (!run->comm) return copy_alone(kernel, run);
    return device_comm_all_gather(run->comm, label(kernel), kernel->in[0], kernel->out[0],
                                  shape_count(&x->shape), comm_type(x->dtype), run->stream);
}

static enum status reduce_scatter_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct tensor *y = &kernel->node->outputs[0];
    if (!run->comm) return copy_alone(kernel, run);
    return device_comm_reduce_scatter(run->comm, label(kernel), kernel->in[0], kernel->out[0],
                                      shape_count(&y->shape), comm_type(y->dtype), run->stream);
}

static enum status all_reduce_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct tensor *x = kernel->node->inputs[0];
    if (!run->comm) return copy_alone(kernel, run);
    return device_comm_all_reduce(run->comm, label(kernel), kernel->in[0], kernel->out[0],
                                  shape_count(&x->shape), comm_type(x->dtype), run->stream);
}

const struct cuda_op cuda_op_all_gather = {&op_row_all_gather, NULL, all_gather_cuda, NULL, NULL};
const struct cuda_op cuda_op_reduce_scatter = {&op_row_reduce_scatter, NULL, reduce_scatter_cuda,
                                               NULL, NULL};
const struct cuda_op cuda_op_all_reduce = {&op_row_all_reduce, NULL, all_reduce_cuda, NULL, NULL};

/* ---- rows by number ---- */

template <typename U>
static __global__ void __launch_bounds__(EXCHANGE_THREADS)
    take_rows_kernel(const U *x, const int32_t *index, U *y, int64_t requests, int64_t rows,
                     int64_t columns, int32_t *fault, int32_t number)
{
    int64_t i = (int64_t)blockIdx.x * EXCHANGE_THREADS + threadIdx.x;
    if (i >= requests * columns) return;
    int64_t request = i / columns;
    int32_t row = index[request];
    U value = {};
    if (row >= 0 && row < rows) {
        value = x[row * columns + (i - request * columns)];
    } else {
        atomicMin(fault, number);
    }
    y[i] = value;
}

template <typename U>
static enum status take_rows(const struct kernel *kernel, const struct cuda_run *run,
                             int64_t columns)
{
    int64_t requests = kernel->node->inputs[1]->shape.dim[0];
    if (requests * columns == 0) return STATUS_OK;
    return CUDA_LAUNCH(take_rows_kernel<U>,
                       (unsigned)ceil_div(requests * columns, EXCHANGE_THREADS), EXCHANGE_THREADS,
                       0, run->stream, (const U *)kernel->in[0], (const int32_t *)kernel->in[1],
                       (U *)kernel->out[0], requests, kernel->node->inputs[0]->shape.dim[0],
                       columns, run->fault, run->number);
}

static enum status exchange_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    if (run->comm) return exchange_ranks_run(kernel, run);
    const struct tensor *x = kernel->node->inputs[0];
    int64_t bytes = shape_span(&x->shape, 1, x->shape.rank) * (int64_t)dtype_size(x->dtype);
    uintptr_t bits = (uintptr_t)bytes | ADDRESS(kernel->in[0]) | ADDRESS(kernel->out[0]);
    if (bits % 16 == 0) return take_rows<uint4>(kernel, run, bytes / 16);
    if (bits % 4 == 0) return take_rows<uint32_t>(kernel, run, bytes / 4);
    return take_rows<uint8_t>(kernel, run, bytes);
}

const struct cuda_op cuda_op_exchange_rows = {&op_row_exchange_rows, exchange_ranks_prepare,
                                              exchange_cuda, exchange_ranks_release,
                                              "a row is outside those of all ranks"};

/* Every row of the result looks for its requests, in their order; requests are as many as a
 * micro-batch. */
template <typename T>
static __global__ void __launch_bounds__(EXCHANGE_THREADS)
    give_rows_kernel(const T *dy, const int32_t *index, T *dx, int64_t requests, int64_t rows,
                     int64_t columns, int32_t *fault, int32_t number)
{
    int64_t i = (int64_t)blockIdx.x * EXCHANGE_THREADS + threadIdx.x;
    if (i < requests && (index[i] < 0 || index[i] >= rows)) atomicMin(fault, number);
    if (i >= rows * columns) return;
    int64_t row = i / columns;
    float sum = 0.0f;
    for (int64_t m = 0; m < requests; m++) {
        if (index[m] == row) sum += load_f32(dy + m * columns + (i - row * columns));
    }
    store_f32(dx + i, sum);
}

template <typename T>
static enum status give_rows(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *dx = &kernel->node->outputs[0].shape;
    int64_t columns = shape_span(dx, 1, dx->rank);
    int64_t requests = kernel->node->inputs[1]->shape.dim[0];
    int64_t count = dx->dim[0] * columns > requests ? dx->dim[0] * columns : requests;
    if (count == 0) return STATUS_OK;
    return CUDA_LAUNCH(give_rows_kernel<T>, (unsigned)ceil_div(count, EXCHANGE_THREADS),
                       EXCHANGE_THREADS, 0, run->stream, (const T *)kernel->in[0],
                       (const int32_t *)kernel->in[1], (T *)kernel->out[0], requests, dx->dim[0],
                       columns, run->fault, run->number);
}

static enum status exchange_grad_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    if (run->comm) return exchange_ranks_grad_run(kernel, run);
    FOR_FLOAT_TYPE(dtype_of(kernel), return give_rows<T>(kernel, run));
}

const struct cuda_op cuda_op_exchange_rows_grad = {
    &op_row_exchange_rows_grad, exchange_ranks_prepare, exchange_grad_cuda, exchange_ranks_release,
    "a row is outside those of all ranks"};
