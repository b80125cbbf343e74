/*
 * Integers that objectives need, on a GPU; negatives.c says what they are.
 *
 * A warp draws for a row: lanes take consecutive pieces of the columns, so that the sum before a
 * piece is the sum of the lanes before. Sums are f64, as on the CPU, and draws are equal unless u
 * falls within rounding of a border.
 */
#include "runtime/base/rng.h"
#include "runtime/ops/elementwise.cuh"

#include <stdio.h>
#include <stdlib.h>

enum { DRAW_THREADS = 128 };

static __device__ __forceinline__ bool may_draw(const float *logits, int64_t c, int64_t positive,
                                                float least)
{
    return c != positive && !(logits[c] < least);
}

static __global__ void __launch_bounds__(DRAW_THREADS)
    draw_kernel(const float *all_logits, int32_t *index, float *entropy, int64_t rows,
                int64_t columns, int64_t first, int64_t offset, struct rng_key key,
                const struct cuda_values *values)
{
    const float masked = -5000.0f; /* columns below are left out, as of an unfilled queue */
    int64_t row = (int64_t)blockIdx.x * (DRAW_THREADS / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    const float *logits = all_logits + row * columns;
    int64_t positive = first + row;
    int64_t piece = (columns + WARP - 1) / WARP;
    int64_t begin = lane_id() * piece;
    int64_t end = begin + piece < columns ? begin + piece : columns;
    float high = -INFINITY;
    for (int64_t c = begin; c < end; c++) {
        if (c != positive && logits[c] > high) high = logits[c];
    }
    high = warp_max(high);
    const float least = high < masked ? -INFINITY : masked;
    double sum = 0.0;
    double weighted = 0.0;
    int last = -1;
    for (int64_t c = begin; c < end; c++) {
        if (!may_draw(logits, c, positive, least)) continue;
        double weight = exp((double)(logits[c] - high)) + 1e-9;
        sum += weight;
        weighted += weight * log(weight);
        last = (int)c;
    }
    double total = warp_sum(sum);
    weighted = warp_sum(weighted);
    /* The sum of the lanes before. */
    double before = sum;
    int latest = last;
    for (unsigned step = 1; step < WARP; step *= 2) {
        double other = __shfl_up_sync(0xFFFFFFFFu, before, step);
        if (lane_id() >= (int)step) before += other;
        int others = __shfl_xor_sync(0xFFFFFFFFu, latest, (int)step);
        latest = others > latest ? others : latest;
    }
    uint32_t word = rng_at(key, values->step, values->sample_base + (uint64_t)row, 0).word[0];
    double target = (double)rng_uniform(word) * total;
    unsigned reached = __ballot_sync(0xFFFFFFFFu, before > target && last >= 0);
    int owner = reached ? __ffs((int)reached) - 1 : -1;
    if (owner < 0 && lane_id() == 0) index[row] = (int32_t)(offset + latest);
    if (lane_id() == owner) {
        double below = before - sum;
        int64_t column = last;
        for (int64_t c = begin; c < end; c++) {
            if (!may_draw(logits, c, positive, least)) continue;
            below += exp((double)(logits[c] - high)) + 1e-9;
            if (below > target) {
                column = c;
                break;
            }
        }
        index[row] = (int32_t)(offset + column);
    }
    if (lane_id() == 0) entropy[row] = (float)(log(total) - weighted / total);
}

static enum status draw_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct integer_attrs *attrs = NODE_ATTRS(kernel->node, struct integer_attrs);
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    int64_t rows = shape->dim[0];
    if (rows == 0) return STATUS_OK;
    return CUDA_LAUNCH(draw_kernel, (unsigned)ceil_div(rows, DRAW_THREADS / WARP), DRAW_THREADS, 0,
                       run->stream, (const float *)kernel->in[0], (int32_t *)kernel->out[0],
                       (float *)kernel->out[1], rows, shape->dim[1],
                       attrs->all_ranks ? run->rank * rows : 0,
                       attrs->all_ranks ? 0 : run->rank * rows,
                       rng_key(run->seed, RNG_NEGATIVE, attrs->site), run->values);
}

const struct cuda_op cuda_op_draw_negatives = {&op_row_draw_negatives, NULL, draw_cuda, NULL, NULL};

/* ---- fetch_rows: a call on the host in the middle of the run ---- */

struct fetch {
    struct cuda_host *host;
    int64_t n, offset;
    int32_t *columns; /* pinned [2 n] */
    uint8_t *pixels;  /* pinned */
    int32_t *ids, *mask;
    size_t pixel_bytes, row_bytes; /* of all n */
};

static enum status fetch_prepare(struct kernel *kernel)
{
    struct fetch *f = (struct fetch *)calloc(1, sizeof *f);
    CHECK(f, STATUS_NO_MEMORY, "fetch_rows: out of memory");
    kernel->state = f;
    f->n = kernel->node->inputs[0]->shape.dim[0];
    f->pixel_bytes = tensor_bytes(&kernel->node->outputs[0]);
    f->row_bytes = tensor_bytes(&kernel->node->outputs[1]);
    CUDA_TRY(cudaMallocHost((void **)&f->columns, 2 * (size_t)f->n * sizeof *f->columns));
    CUDA_TRY(cudaMallocHost((void **)&f->pixels, f->pixel_bytes));
    CUDA_TRY(cudaMallocHost((void **)&f->ids, f->row_bytes));
    CUDA_TRY(cudaMallocHost((void **)&f->mask, f->row_bytes));
    return STATUS_OK;
}

static void fetch_release(struct kernel *kernel)
{
    struct fetch *f = (struct fetch *)kernel->state;
    if (!f) return;
    cudaFreeHost(f->columns);
    cudaFreeHost(f->pixels);
    cudaFreeHost(f->ids);
    cudaFreeHost(f->mask);
    free(f);
    kernel->state = NULL;
}

/* Runs on a thread of the driver, which may not call CUDA. */
static void fetch_on_host(void *user)
{
    struct fetch *f = (struct fetch *)user;
    if (f->host->status != STATUS_OK) return;
    for (int64_t i = 0; i < 2 * f->n; i++) {
        f->columns[i] -= (int32_t)f->offset;
    }
    const struct host_rows *rows = f->host->rows;
    enum status status =
        rows ? rows->fetch(rows->user, f->columns, f->columns + f->n, f->n, f->pixels, f->ids,
                           f->mask)
             : status_fail(STATUS_INTERNAL, "fetch_rows: the run has no source of rows");
    if (status == STATUS_OK) return;
    f->host->status = status;
    snprintf(f->host->message, sizeof f->host->message, "%s", status_message());
}

static enum status fetch_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    struct fetch *f = (struct fetch *)kernel->state;
    cudaStream_t stream = run->stream;
    size_t bytes = (size_t)f->n * sizeof *f->columns;
    f->host = run->host;
    f->offset = run->rank * f->n;
    for (int i = 0; i < 2; i++) {
        CUDA_TRY(cudaMemcpyAsync(f->columns + i * f->n, kernel->in[i], bytes,
                                 cudaMemcpyDeviceToHost, stream));
    }
    CUDA_TRY(cudaLaunchHostFunc(stream, fetch_on_host, f));
    CUDA_TRY(
        cudaMemcpyAsync(kernel->out[0], f->pixels, f->pixel_bytes, cudaMemcpyHostToDevice, stream));
    CUDA_TRY(cudaMemcpyAsync(kernel->out[1], f->ids, f->row_bytes, cudaMemcpyHostToDevice, stream));
    CUDA_TRY(
        cudaMemcpyAsync(kernel->out[2], f->mask, f->row_bytes, cudaMemcpyHostToDevice, stream));
    return STATUS_OK;
}

const struct cuda_op cuda_op_fetch_rows = {&op_row_fetch_rows, fetch_prepare, fetch_cuda,
                                           fetch_release, NULL};

/* ---- position_ids: a thread a row; texts are short ---- */

static __global__ void __launch_bounds__(DRAW_THREADS)
    position_kernel(const int32_t *ids, int32_t *positions, int64_t rows, int64_t length,
                    int32_t padding)
{
    int64_t row = (int64_t)blockIdx.x * DRAW_THREADS + threadIdx.x;
    if (row >= rows) return;
    int32_t count = 0;
    for (int64_t t = row * length; t < (row + 1) * length; t++) {
        positions[t] = ids[t] == padding ? padding : padding + ++count;
    }
}

static enum status position_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    if (shape->dim[0] == 0) return STATUS_OK;
    return CUDA_LAUNCH(position_kernel, (unsigned)ceil_div(shape->dim[0], DRAW_THREADS),
                       DRAW_THREADS, 0, run->stream, (const int32_t *)kernel->in[0],
                       (int32_t *)kernel->out[0], shape->dim[0], shape->dim[1],
                       (int32_t)NODE_ATTRS(kernel->node, struct integer_attrs)->parameter);
}

const struct cuda_op cuda_op_position_ids = {&op_row_position_ids, NULL, position_cuda, NULL, NULL};

/* ---- row_numbers ---- */

static __global__ void __launch_bounds__(DRAW_THREADS)
    row_numbers_kernel(int32_t *index, int64_t rows, int64_t first)
{
    int64_t row = (int64_t)blockIdx.x * DRAW_THREADS + threadIdx.x;
    if (row < rows) index[row] = (int32_t)(first + row);
}

static enum status row_numbers_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    int64_t rows = kernel->node->outputs[0].shape.dim[0];
    int64_t all_ranks = NODE_ATTRS(kernel->node, struct integer_attrs)->all_ranks;
    if (rows == 0) return STATUS_OK;
    return CUDA_LAUNCH(row_numbers_kernel, (unsigned)ceil_div(rows, DRAW_THREADS), DRAW_THREADS, 0,
                       run->stream, (int32_t *)kernel->out[0], rows,
                       all_ranks ? run->rank * rows : 0);
}

const struct cuda_op cuda_op_row_numbers = {&op_row_row_numbers, NULL, row_numbers_cuda, NULL,
                                            NULL};
