/*
 * Rows of other ranks, between GPUs: exchange.c on the device.
 *
 * How many rows travel between two ranks depends on what was drawn, and NCCL wants to know it on
 * the host. So what all ranks ask for is gathered on the device, and the host waits for these few
 * integers: the one place where a step stops for the host, and the reason why a step of several
 * ranks is recorded in pieces. From them the host knows all rounds at once; kernels then copy
 * rows by lists that it sends, and grouped messages go between buffers of the plan. What one wait
 * brings serves all kernels with the same index (other values of the same draw, and gradients), and
 * every index that is there by then comes with it.
 *
 * The gradient runs the rounds backwards. A row's owner adds what comes in, in the order of
 * requests, in f32 from zero: the bits of the CPU.
 */
#include "runtime/ops/exchange_ranks.h"

#include <stdlib.h>

#include "runtime/backend/cuda/device_comm.h"
#include "runtime/ops/exchange_rounds.h"
#include "runtime/ops/rows.cuh"

enum { THREADS = 256 };

/* What all ranks ask for by one index tensor, on the host; shared by the kernels that read it. */
struct asked {
    const struct tensor *tensor;
    int32_t *device; /* [size * M], not of the plan: it lives from the wait before to this one */
    int32_t *index;  /* pinned [size * M] */
    const void *run; /* the executor and the number of the run that it holds, or will */
    uint64_t number;
    bool is_coming; /* behind the next wait */
    int users;
    struct asked *next;
};

static struct asked *all_asked;

struct state {
    struct asked *asked;
    struct exchange_rounds rounds;
    int64_t *counts; /* [3 size]: of a round to each rank, from each rank, and rounds.asked */
    int32_t *lists;  /* pinned [size * M + M]: rows given as owner, then places as requester */
    int64_t columns; /* of a row */
    int64_t row_bytes;
    size_t lists_at, out_at, in_at, sums_at; /* in the scratch */
};

static size_t align(size_t value)
{
    return (value + 255) & ~(size_t)255;
}

/* ---- planning ---- */

static enum status share_index(struct state *s, const struct tensor *tensor, size_t count)
{
    struct asked *a = all_asked;
    while (a && a->tensor != tensor) {
        a = a->next;
    }
    if (!a) {
        a = (struct asked *)calloc(1, sizeof *a);
        CHECK(a, STATUS_NO_MEMORY, "exchange_rows: out of memory");
        a->tensor = tensor;
        a->next = all_asked;
        all_asked = a;
        s->asked = a;
        a->users = 1;
        CUDA_TRY(cudaMallocHost((void **)&a->index, count * sizeof *a->index));
        CUDA_TRY(cudaMalloc((void **)&a->device, count * sizeof *a->device));
        return STATUS_OK;
    }
    a->users++;
    s->asked = a;
    return STATUS_OK;
}

static void lay_out(struct state *s, struct kernel *kernel)
{
    const struct exchange_rounds *r = &s->rounds;
    size_t asked = (size_t)(r->size * r->requests);
    size_t row = (size_t)s->row_bytes;
    bool backward = kernel->node->op == &op_row_exchange_rows_grad;
    size_t as_owner = (size_t)r->capacity * row;
    size_t as_requester = (size_t)r->requests * row;
    s->lists_at = 0;
    s->out_at = align((asked + (size_t)r->requests) * sizeof(int32_t));
    s->in_at = s->out_at + align(backward ? as_requester : as_owner);
    s->sums_at = s->in_at + align(backward ? as_owner : as_requester);
    bool sums = backward && kernel->node->outputs[0].dtype != DTYPE_F32;
    kernel->scratch_size = s->sums_at + (sums ? (size_t)(r->rows * s->columns) * sizeof(float) : 0);
}

enum status exchange_ranks_prepare(struct kernel *kernel)
{
    const struct exchange_attrs *attrs = NODE_ATTRS(kernel->node, struct exchange_attrs);
    const struct tensor *y = &kernel->node->outputs[0];
    const struct tensor *index = kernel->node->inputs[1];
    if (attrs->world_size == 1) return STATUS_OK;
    struct state *s = (struct state *)calloc(1, sizeof *s);
    CHECK(s, STATUS_NO_MEMORY, "exchange_rows: out of memory");
    kernel->state = s;
    s->columns = shape_span(&y->shape, 1, y->shape.rank);
    s->row_bytes = s->columns * (int64_t)dtype_size(y->dtype);
    s->rounds.size = (int)attrs->world_size;
    s->rounds.rows = attrs->rows;
    s->rounds.requests = index->shape.dim[0];
    s->rounds.capacity = exchange_capacity(s->rounds.requests, attrs->world_size);
    size_t size = (size_t)s->rounds.size;
    size_t requests = (size_t)s->rounds.requests;
    s->counts = (int64_t *)calloc(3 * size, sizeof *s->counts);
    CHECK(s->counts, STATUS_NO_MEMORY, "exchange_rows: out of memory");
    s->rounds.asked = s->counts + 2 * size;
    CUDA_TRY(cudaMallocHost((void **)&s->lists, (size + 1) * requests * sizeof *s->lists));
    TRY(share_index(s, index, size * requests));
    s->rounds.index = s->asked->index;
    lay_out(s, kernel);
    return STATUS_OK;
}

void exchange_ranks_release(struct kernel *kernel)
{
    struct state *s = (struct state *)kernel->state;
    if (!s) return;
    if (s->asked && --s->asked->users == 0) {
        struct asked **at = &all_asked;
        while (*at != s->asked) {
            at = &(*at)->next;
        }
        *at = s->asked->next;
        cudaFreeHost(s->asked->index);
        cudaFree(s->asked->device);
        free(s->asked);
    }
    cudaFreeHost(s->lists);
    free(s->counts);
    free(s);
    kernel->state = NULL;
}

/* ---- what is asked for ---- */

static const char *label(const struct kernel *kernel)
{
    return *kernel->node->path ? kernel->node->path : kernel->node->op->name;
}

static uint8_t *scratch(const struct kernel *kernel, size_t at)
{
    return (uint8_t *)kernel->scratch + at;
}

/* What is wrong is so on all ranks. */
static enum status check_index(const struct exchange_rounds *r)
{
    int64_t all = r->rows * r->size;
    for (int64_t k = 0; k < r->size; k++) {
        int64_t asking = (r->rank + k) % r->size; /* this rank's own mistake before the others' */
        for (int64_t i = 0; i < r->requests; i++) {
            int32_t row = r->index[asking * r->requests + i];
            if (row >= 0 && row < all) continue;
            return k == 0
                       ? status_fail(STATUS_INVALID, "row %d at position %lld is outside 0..%lld",
                                     row, (long long)i, (long long)all - 1)
                       : status_fail(STATUS_INVALID,
                                     "rank %lld: row %d at position %lld is outside 0..%lld",
                                     (long long)asking, row, (long long)i, (long long)all - 1);
        }
    }
    return STATUS_OK;
}

enum status exchange_ranks_ask(struct kernel *kernel, const struct cuda_run *run)
{
    struct state *s = (struct state *)kernel->state;
    struct exchange_rounds *r = &s->rounds;
    struct asked *a = s->asked;
    r->rank = (int)run->rank;
    if (a->run == run->host && a->number == run->run_number) return STATUS_OK;
    size_t bytes = (size_t)(r->size * r->requests) * sizeof *a->index;
    TRY(device_comm_all_gather(run->comm, label(kernel), kernel->in[1], a->device, r->requests,
                               COMM_I32, run->stream));
    CUDA_TRY(cudaMemcpyAsync(a->index, a->device, bytes, cudaMemcpyDeviceToHost, run->stream));
    a->run = run->host;
    a->number = run->run_number;
    a->is_coming = true;
    return STATUS_OK;
}

static enum status fetch_index(struct state *s, struct kernel *kernel, const struct cuda_run *run)
{
    TRY(exchange_ranks_ask(kernel, run));
    if (s->asked->is_coming) {
        TRY(device_comm_wait(run->comm, run->stream, run->call, label(kernel)));
        for (struct asked *a = all_asked; a; a = a->next) {
            if (a->run == run->host) a->is_coming = false;
        }
    }
    return check_index(&s->rounds);
}

/* Rows that this rank gives, in the order of requests; places of the rows it gets, as they come: by
 * owner, and from one owner in the order of requests. Round by round. The copies of the run before
 * are done, as the host has waited since. */
static enum status send_lists(struct state *s, const struct kernel *kernel,
                              const struct cuda_run *run)
{
    const struct exchange_rounds *r = &s->rounds;
    int64_t total = r->size * r->requests;
    int32_t *given = s->lists;
    int32_t *places = s->lists + total;
    for (int64_t begin = 0, end; begin < total; begin = end) {
        end = exchange_round_end(r, begin);
        for (int64_t i = begin; i < end; i++) {
            if (r->index[i] / r->rows == r->rank) *given++ = (int32_t)(r->index[i] % r->rows);
        }
        for (int owner = 0; owner < r->size; owner++) {
            for (int64_t m = 0; m < r->requests; m++) {
                int64_t i = r->rank * r->requests + m;
                bool in_round = i >= begin && i < end;
                if (in_round && r->index[i] / r->rows == owner) *places++ = (int32_t)m;
            }
        }
    }
    size_t bytes = (size_t)(total + r->requests) * sizeof *s->lists;
    CUDA_TRY(cudaMemcpyAsync(scratch(kernel, s->lists_at), s->lists, bytes, cudaMemcpyHostToDevice,
                             run->stream));
    return STATUS_OK;
}

/* ---- rows by lists ---- */

/* Row from_list[k] of `from` becomes row to_list[k] of `to`; NULL: row k. */
template <typename U>
static __global__ void __launch_bounds__(THREADS)
    copy_rows_kernel(const U *from, const int32_t *from_list, U *to, const int32_t *to_list,
                     int64_t count, int64_t units)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count * units) return;
    int64_t k = i / units;
    int64_t unit = i - k * units;
    int64_t source = from_list ? from_list[k] : k;
    int64_t place = to_list ? to_list[k] : k;
    to[place * units + unit] = from[source * units + unit];
}

struct copy {
    const void *from;
    const int32_t *from_list;
    void *to;
    const int32_t *to_list;
    int64_t count, row_bytes;
};

template <typename U> static enum status copy_units(const struct copy *c, cudaStream_t stream)
{
    int64_t units = c->row_bytes / (int64_t)sizeof(U);
    if (c->count * units == 0) return STATUS_OK;
    return CUDA_LAUNCH(copy_rows_kernel<U>, (unsigned)ceil_div(c->count * units, THREADS), THREADS,
                       0, stream, (const U *)c->from, c->from_list, (U *)c->to, c->to_list,
                       c->count, units);
}

static enum status copy_rows(const struct copy *c, cudaStream_t stream)
{
    uintptr_t bits = (uintptr_t)c->row_bytes | (uintptr_t)c->from | (uintptr_t)c->to;
    if (bits % 16 == 0) return copy_units<uint4>(c, stream);
    if (bits % 4 == 0) return copy_units<uint32_t>(c, stream);
    return copy_units<uint8_t>(c, stream);
}

/* A round's counts of rows, as bytes to and from each rank. */
static enum status move_rows(const struct state *s, const struct kernel *kernel,
                             const struct cuda_run *run, int64_t *to, int64_t *from)
{
    for (int r = 0; r < s->rounds.size; r++) {
        to[r] *= s->row_bytes;
        from[r] *= s->row_bytes;
    }
    return device_comm_exchange(run->comm, label(kernel), scratch(kernel, s->out_at), to,
                                scratch(kernel, s->in_at), from, run->stream);
}

static int64_t sum_of(const int64_t *counts, int size)
{
    int64_t sum = 0;
    for (int r = 0; r < size; r++) {
        sum += counts[r];
    }
    return sum;
}

/* ---- forward ---- */

enum status exchange_ranks_run(struct kernel *kernel, const struct cuda_run *run)
{
    struct state *s = (struct state *)kernel->state;
    const struct exchange_rounds *r = &s->rounds;
    TRY(fetch_index(s, kernel, run));
    TRY(send_lists(s, kernel, run));
    int64_t total = r->size * r->requests;
    const int32_t *given = (const int32_t *)scratch(kernel, s->lists_at);
    const int32_t *places = given + total;
    int64_t *to = s->counts;
    int64_t *from = s->counts + r->size;
    for (int64_t begin = 0, end; begin < total; begin = end) {
        end = exchange_round_end(r, begin);
        exchange_round_counts(r, begin, end, to, from);
        int64_t out = sum_of(to, r->size);
        int64_t in = sum_of(from, r->size);
        struct copy take = {kernel->in[0], given, scratch(kernel, s->out_at),
                            NULL,          out,   s->row_bytes};
        struct copy place = {
            scratch(kernel, s->in_at), NULL, kernel->out[0], places, in, s->row_bytes};
        TRY(copy_rows(&take, run->stream));
        TRY(move_rows(s, kernel, run, to, from));
        TRY(copy_rows(&place, run->stream));
        given += out;
        places += in;
    }
    return STATUS_OK;
}

/* ---- gradient ---- */

/* Each element of the sums goes through the rows that came in. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    add_rows_kernel(const T *in, const int32_t *list, int64_t count, float *sums, int64_t rows,
                    int64_t columns)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= rows * columns) return;
    int64_t row = i / columns;
    int64_t column = i - row * columns;
    float sum = sums[i];
    for (int64_t k = 0; k < count; k++) {
        if (list[k] == row) sum += load_f32(in + k * columns + column);
    }
    sums[i] = sum;
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    store_rows_kernel(const float *sums, T *dx, int64_t count)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count) store_f32(dx + i, sums[i]);
}

template <typename T>
static enum status give_back(struct state *s, const struct kernel *kernel,
                             const struct cuda_run *run)
{
    const struct exchange_rounds *r = &s->rounds;
    int64_t total = r->size * r->requests;
    int64_t elements = r->rows * s->columns;
    const int32_t *given = (const int32_t *)scratch(kernel, s->lists_at);
    const int32_t *places = given + total;
    int64_t *to = s->counts;
    int64_t *from = s->counts + r->size;
    bool is_f32 = sizeof(T) == sizeof(float);
    float *sums = is_f32 ? (float *)kernel->out[0] : (float *)scratch(kernel, s->sums_at);
    unsigned blocks = (unsigned)ceil_div(elements, THREADS);
    if (elements == 0) return STATUS_OK;
    CUDA_TRY(cudaMemsetAsync(sums, 0, (size_t)elements * sizeof *sums, run->stream));
    for (int64_t begin = 0, end; begin < total; begin = end) {
        end = exchange_round_end(r, begin);
        exchange_round_counts(r, begin, end, from, to);
        int64_t out = sum_of(to, r->size);
        int64_t in = sum_of(from, r->size);
        struct copy take = {kernel->in[0], places, scratch(kernel, s->out_at),
                            NULL,          out,    s->row_bytes};
        TRY(copy_rows(&take, run->stream));
        TRY(move_rows(s, kernel, run, to, from));
        TRY(CUDA_LAUNCH(add_rows_kernel<T>, blocks, THREADS, 0, run->stream,
                        (const T *)scratch(kernel, s->in_at), given, in, sums, r->rows,
                        s->columns));
        places += out;
        given += in;
    }
    if (is_f32) return STATUS_OK;
    return CUDA_LAUNCH(store_rows_kernel<T>, blocks, THREADS, 0, run->stream, (const float *)sums,
                       (T *)kernel->out[0], elements);
}

enum status exchange_ranks_grad_run(struct kernel *kernel, const struct cuda_run *run)
{
    struct state *s = (struct state *)kernel->state;
    TRY(fetch_index(s, kernel, run));
    TRY(send_lists(s, kernel, run));
    if (kernel->node->outputs[0].dtype == DTYPE_F32) return give_back<float>(s, kernel, run);
    return give_back<uint16_t>(s, kernel, run);
}
