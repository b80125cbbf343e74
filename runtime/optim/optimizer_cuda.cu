/*
 * One launch updates everything: segments are cut into chunks of equal size at creation, a block
 * takes a chunk, and the multipliers of its segment are in the chunk's row. A step reads gradient,
 * parameter and moments once and writes the last three once.
 *
 * The host enqueues an update before it knows the gradient's norm. A kernel of one thread decides,
 * from the same sums in the same order as the host would, and what comes after reads its decision;
 * a copy of that goes to pinned memory, behind which there is an event for the host to wait for.
 *
 * Sharded, the slices are gathered on the communicator's own stream. Rejected: gathering in pieces,
 * beside the AdamW of the next piece. On R ranks the update of a slice of N/R parameters moves
 * 28 N/R bytes at the speed of memory, and the gathering 4 N at that of the links, at best a tenth
 * of it: R = 8 would save a tenth of what the host's work between two steps hides anyway.
 */
#include "runtime/optim/optimizer_cuda.h"

#include <stdlib.h>

#include "runtime/backend/cuda/device.h"
#include "runtime/backend/cuda/device_comm.h"
#include "runtime/ops/elementwise.cuh"

enum { UPDATE_THREADS = 256, CHUNK = 8192 };

struct chunk {
    int64_t begin; /* of the flat vectors */
    int32_t count;
    double lr, decay;
};

struct cuda_update {
    float *vector[3]; /* device, [count]; the third NULL without EMA */
    struct chunk *chunks;
    int64_t num_chunks;
    int64_t begin, count;
    int slices, own;
    int64_t *bounds;                     /* device [slices + 1] */
    int64_t *counts;                     /* host [slices] */
    double *parts;                       /* device [slices or 1, SUM_BLOCKS]: sums of squares */
    double *squares;                     /* device [slices] */
    struct cuda_decision *decision;      /* device */
    struct cuda_decision *decision_host; /* pinned */
    cudaStream_t stream;
    cudaEvent_t decided; /* decision_host is there */
    cudaEvent_t updated; /* for the other stream */
    struct comm *world;
    struct device_comm *comm; /* NULL for one rank */
    uint32_t call;            /* of the last update, to the watchdog */
};

/* ---- memory ---- */

/* Until all that is on the stream is done. */
static enum status finish(struct cuda_update *u, const char *what)
{
    if (u->comm) return device_comm_wait(u->comm, u->stream, u->call, what);
    return cuda_device_blame(u->world, cuda_status(cudaStreamSynchronize(u->stream), what));
}

/* `from` NULL: zeros. On the stream, which does not wait for others. */
static enum status device_copy(struct cuda_update *u, void **memory, const void *from, size_t bytes)
{
    CUDA_TRY(cudaMalloc(memory, bytes ? bytes : 256));
    if (from) {
        CUDA_TRY(cudaMemcpyAsync(*memory, from, bytes, cudaMemcpyHostToDevice, u->stream));
    } else {
        CUDA_TRY(cudaMemsetAsync(*memory, 0, bytes, u->stream));
    }
    return STATUS_OK;
}

static enum status make_chunks(struct cuda_update *u, const struct cuda_segment *segments,
                               int64_t num_segments)
{
    for (int64_t i = 0; i < num_segments; i++) {
        u->num_chunks += ceil_div(segments[i].end - segments[i].begin, CHUNK);
    }
    struct chunk *chunks = (struct chunk *)calloc((size_t)u->num_chunks + 1, sizeof *chunks);
    CHECK(chunks, STATUS_NO_MEMORY, "optimizer: out of memory");
    int64_t n = 0;
    for (int64_t i = 0; i < num_segments; i++) {
        const struct cuda_segment *s = &segments[i];
        for (int64_t at = s->begin; at < s->end; at += CHUNK) {
            int64_t rest = s->end - at;
            chunks[n].begin = at;
            chunks[n].count = rest < CHUNK ? (int32_t)rest : (int32_t)CHUNK;
            chunks[n].lr = s->lr;
            chunks[n++].decay = s->decay;
        }
    }
    enum status status =
        device_copy(u, (void **)&u->chunks, chunks, (size_t)u->num_chunks * sizeof *chunks);
    if (status == STATUS_OK) status = finish(u, "optimizer state");
    free(chunks);
    return status;
}

static enum status make_slices(struct cuda_update *u, const int64_t *bounds)
{
    size_t slices = (size_t)u->slices;
    size_t parts = (u->own < 0 ? slices : 1) * SUM_BLOCKS * sizeof(double);
    u->counts = (int64_t *)calloc(slices, sizeof *u->counts);
    CHECK(u->counts, STATUS_NO_MEMORY, "optimizer: out of memory");
    for (int i = 0; i < u->slices; i++) {
        u->counts[i] = bounds[i + 1] - bounds[i];
    }
    TRY(device_copy(u, (void **)&u->bounds, bounds, (slices + 1) * sizeof *bounds));
    TRY(device_copy(u, (void **)&u->parts, NULL, parts));
    TRY(device_copy(u, (void **)&u->squares, NULL, slices * sizeof *u->squares));
    TRY(device_copy(u, (void **)&u->decision, NULL, sizeof *u->decision));
    CUDA_TRY(cudaMallocHost((void **)&u->decision_host, sizeof *u->decision_host));
    return STATUS_OK;
}

static enum status build(struct cuda_update *u, const struct cuda_update_options *options)
{
    CUDA_TRY(cudaEventCreateWithFlags(&u->decided, cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&u->updated, cudaEventDisableTiming));
    for (int i = 0; i < (options->ema ? 3 : 2); i++) {
        TRY(device_copy(u, (void **)&u->vector[i], NULL, (size_t)u->count * sizeof(float)));
    }
    TRY(make_slices(u, options->bounds));
    return make_chunks(u, options->segments, options->num_segments);
}

extern "C" enum status cuda_update_create(struct cuda_update **update,
                                          const struct cuda_update_options *options)
{
    struct cuda_update *u = (struct cuda_update *)calloc(1, sizeof *u);
    const int64_t *bounds = options->bounds;
    *update = u;
    CHECK(u, STATUS_NO_MEMORY, "optimizer: out of memory");
    u->stream = options->stream;
    u->world = options->comm;
    u->slices = options->slices;
    u->own = options->own;
    u->begin = bounds[u->own < 0 ? 0 : u->own];
    u->count = bounds[u->own < 0 ? u->slices : u->own + 1] - u->begin;
    bool is_many = u->world && u->world->size > 1;
    enum status status = is_many ? device_comm_open(&u->comm, u->world) : STATUS_OK;
    if (status == STATUS_OK) status = build(u, options);
    if (status != STATUS_OK) cuda_update_destroy(update);
    return status;
}

extern "C" void cuda_update_destroy(struct cuda_update **update)
{
    struct cuda_update *u = *update;
    if (!u) return;
    /* AdamW may go on, and whether cudaFree waits for it CUDA leaves open. */
    cudaStreamSynchronize(u->stream);
    device_comm_close(&u->comm);
    for (int i = 0; i < 3; i++) {
        cudaFree(u->vector[i]);
    }
    cudaFree(u->chunks);
    cudaFree(u->bounds);
    cudaFree(u->parts);
    cudaFree(u->squares);
    cudaFree(u->decision);
    cudaFreeHost(u->decision_host);
    if (u->decided) cudaEventDestroy(u->decided);
    if (u->updated) cudaEventDestroy(u->updated);
    free(u->counts);
    free(u);
    *update = NULL;
}

/* ---- the norm, and what follows from it ---- */

/* Sums of squares of slice blockIdx.y from `bounds` on, in parts that depend on its size alone;
 * those of blocks that it has no use for are zeros. */
static __global__ void __launch_bounds__(SUM_THREADS)
    square_parts_kernel(const float *x, const int64_t *bounds, double *parts)
{
    __shared__ double shared[BLOCK_SHARED];
    int64_t count = bounds[blockIdx.y + 1] - bounds[blockIdx.y];
    int64_t blocks = (count + 4 * SUM_THREADS - 1) / (4 * SUM_THREADS);
    int64_t stride = (blocks < SUM_BLOCKS ? blocks : (int64_t)SUM_BLOCKS) * 4 * SUM_THREADS;
    int64_t begin = ((int64_t)blockIdx.x * SUM_THREADS + threadIdx.x) * 4;
    double sum = 0.0;
    x += bounds[blockIdx.y];
    /* Slices begin at multiples of 16 elements. */
    for (; begin < count; begin += stride) {
        float v[4];
        double four = 0.0;
        load_some<float, true>(x + begin, count - begin < 4 ? (int)(count - begin) : 4, v);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            four += (double)v[i] * (double)v[i];
        }
        sum += four;
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) parts[(int64_t)blockIdx.y * SUM_BLOCKS + blockIdx.x] = sum;
}

/* squares[slice] = the slice's parts, one after another. */
static __global__ void __launch_bounds__(SUM_BLOCKS)
    square_slices_kernel(const double *parts, double *squares)
{
    __shared__ double shared[SUM_BLOCKS];
    shared[threadIdx.x] = parts[(int64_t)blockIdx.x * SUM_BLOCKS + threadIdx.x];
    __syncthreads();
    if (threadIdx.x > 0) return;
    double sum = 0.0;
    for (int i = 0; i < SUM_BLOCKS; i++) {
        sum += shared[i];
    }
    squares[blockIdx.x] = sum;
}

/* The same arithmetic as optimizer_start's on the host. */
static __global__ void decide_kernel(const double *squares, int slices, double scale, double clip,
                                     struct cuda_decision *decision)
{
    double square = 0.0;
    for (int i = 0; i < slices; i++) {
        square += squares[i];
    }
    double norm = sqrt(square) * scale;
    bool skipped = !isfinite(norm);
    bool clipped = !skipped && clip > 0.0 && norm > clip;
    decision->norm = norm;
    decision->scale = clipped ? scale * (clip / (norm + 1e-6)) : scale;
    decision->clipped = clipped;
    decision->skipped = skipped;
}

static enum status decide(struct cuda_update *u, const struct cuda_update_step *s)
{
    int first = u->own < 0 ? 0 : u->own;
    unsigned slices = u->own < 0 ? (unsigned)u->slices : 1;
    TRY(CUDA_LAUNCH(square_parts_kernel, dim3(SUM_BLOCKS, slices), SUM_THREADS, 0, u->stream,
                    s->gradients, u->bounds + first, u->parts));
    TRY(CUDA_LAUNCH(square_slices_kernel, slices, SUM_BLOCKS, 0, u->stream, u->parts,
                    u->squares + first));
    if (u->own >= 0) {
        TRY(device_comm_all_gather(u->comm, "gradient norm", u->squares + u->own, u->squares, 1,
                                   COMM_F64, u->stream));
    }
    TRY(CUDA_LAUNCH(decide_kernel, 1, 1, 0, u->stream, u->squares, u->slices, s->gradient_scale,
                    s->clip, u->decision));
    CUDA_TRY(cudaMemcpyAsync(u->decision_host, u->decision, sizeof *u->decision,
                             cudaMemcpyDeviceToHost, u->stream));
    CUDA_TRY(cudaEventRecord(u->decided, u->stream));
    return STATUS_OK;
}

/* ---- AdamW ---- */

struct factors {
    double lr_step; /* lr over the corrections */
    double lr_decay;
    float beta1, beta2, rest1, rest2, eps, v_scale;
    bool fiber;
};

static __global__ void __launch_bounds__(UPDATE_THREADS)
    adamw_kernel(const struct chunk *chunks, float *p, const float *g, float *m, float *v,
                 int64_t begin, struct factors f, const struct cuda_decision *decision)
{
    const struct chunk c = chunks[blockIdx.x];
    if (decision->skipped) return;
    float gradient_scale = (float)decision->scale;
    float step_size = (float)(f.lr_step * c.lr);
    double decay = 1.0 - f.lr_decay * c.lr * c.decay;
    float before = f.fiber ? 1.0f : (float)decay;
    float after = f.fiber ? (float)decay : 1.0f;
    p += c.begin;
    g += c.begin;
    m += c.begin - begin;
    v += c.begin - begin;
    /* Segments and slices begin at multiples of 16 elements. */
    for (int i = 4 * (int)threadIdx.x; i < c.count; i += 4 * UPDATE_THREADS) {
        int size = c.count - i < 4 ? c.count - i : 4;
        float gradient[4];
        float first[4];
        float second[4];
        float value[4];
        load_some<float, true>(g + i, size, gradient);
        load_some<float, true>(m + i, size, first);
        load_some<float, true>(v + i, size, second);
        load_some<float, true>(p + i, size, value);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            float d = gradient[k] * gradient_scale;
            first[k] = f.beta1 * first[k] + f.rest1 * d;
            second[k] = f.beta2 * second[k] + f.rest2 * d * d;
            float step = step_size * first[k] / (sqrtf(second[k]) * f.v_scale + f.eps);
            value[k] = (value[k] * before - step) * after;
        }
        store_some<float, true>(m + i, size, first);
        store_some<float, true>(v + i, size, second);
        store_some<float, true>(p + i, size, value);
    }
}

struct ema_function {
    float decay, rest;
    const struct cuda_decision *decision;
    __device__ void operator()(const float *x, float *y) const
    {
        y[0] = decision->skipped ? x[0] : decay * x[0] + rest * x[1];
    }
};

static enum status apply(struct cuda_update *u, const struct cuda_update_step *s)
{
    double correction1 = 1.0 - pow(s->beta1, (double)s->step);
    double correction2 = sqrt(1.0 - pow(s->beta2, (double)s->step));
    struct factors f = {};
    f.lr_step = s->lr / correction1 * (s->fiber ? correction2 : 1.0);
    f.lr_decay = s->lr * s->weight_decay;
    f.beta1 = (float)s->beta1;
    f.beta2 = (float)s->beta2;
    f.rest1 = (float)(1.0 - s->beta1);
    f.rest2 = (float)(1.0 - s->beta2);
    f.eps = (float)s->eps;
    f.v_scale = (float)(s->fiber ? 1.0 : 1.0 / correction2);
    f.fiber = s->fiber;
    if (u->num_chunks > 0) {
        TRY(CUDA_LAUNCH(adamw_kernel, (unsigned)u->num_chunks, UPDATE_THREADS, 0, u->stream,
                        u->chunks, s->parameters, s->gradients, u->vector[0], u->vector[1],
                        u->begin, f, u->decision));
    }
    if (u->vector[2]) {
        struct map_pointers<2, 1> p = {
            {u->vector[2], s->parameters + u->begin},
            {
                u->vector[2]
            }
        };
        struct ema_function ema = {(float)s->ema_decay, (float)(1.0 - s->ema_decay), u->decision};
        TRY((map_typed<float, 2, 1>(p, u->count, ema, u->stream)));
    }
    return STATUS_OK;
}

/* ---- an update ---- */

/* The communicator's stream goes on behind the executor's. */
static enum status cross_over(struct cuda_update *u)
{
    CUDA_TRY(cudaEventRecord(u->updated, u->stream));
    CUDA_TRY(cudaStreamWaitEvent(device_comm_stream(u->comm), u->updated, 0));
    return STATUS_OK;
}

static enum status start(struct cuda_update *u, const struct cuda_update_step *s)
{
    if (u->comm) u->call = comm_outside_started(u->world, "update");
    TRY(decide(u, s));
    TRY(apply(u, s));
    if (u->own >= 0) {
        TRY(cross_over(u));
        TRY(device_comm_gather_start(u->comm, "updated parameters", s->parameters, u->counts));
    }
    return cuda_device_is_synchronous() ? finish(u, "the update") : STATUS_OK;
}

extern "C" enum status cuda_update_start(struct cuda_update *u, const struct cuda_update_step *s)
{
    return cuda_device_blame(u->world, start(u, s));
}

extern "C" enum status cuda_update_finish(struct cuda_update *u, struct cuda_decision *decision)
{
    static const char what[] = "the update";
    if (u->comm) {
        TRY(device_comm_wait_event(u->comm, u->decided, u->call, what));
    } else {
        TRY(cuda_device_blame(u->world, cuda_status(cudaEventSynchronize(u->decided), what)));
    }
    *decision = *u->decision_host;
    return STATUS_OK;
}

static __global__ void clamp_element_kernel(float *element, float low, float high)
{
    *element = fminf(fmaxf(*element, low), high);
}

/* Sharded, behind the gathering: the element may be another rank's. */
extern "C" enum status cuda_update_clamp(struct cuda_update *u, float *element, float low,
                                         float high)
{
    if (u->own < 0) {
        return CUDA_LAUNCH(clamp_element_kernel, 1, 1, 0, u->stream, element, low, high);
    }
    TRY(cross_over(u));
    TRY(CUDA_LAUNCH(clamp_element_kernel, 1, 1, 0, device_comm_stream(u->comm), element, low,
                    high));
    return device_comm_gather_extend(u->comm);
}

extern "C" enum status cuda_update_read(struct cuda_update *u, int vector, float *host)
{
    /* Before the copy, which waits for the stream in CUDA where nothing ends it. */
    TRY(finish(u, "optimizer state"));
    CUDA_TRY(cudaMemcpyAsync(host, u->vector[vector], (size_t)u->count * sizeof(float),
                             cudaMemcpyDeviceToHost, u->stream));
    return finish(u, "optimizer state");
}

extern "C" enum status cuda_update_write(struct cuda_update *u, int vector, const float *host)
{
    CUDA_TRY(cudaMemcpyAsync(u->vector[vector], host, (size_t)u->count * sizeof(float),
                             cudaMemcpyHostToDevice, u->stream));
    return finish(u, "optimizer state");
}
