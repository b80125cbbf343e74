/*
 * One launch updates everything: segments are cut into chunks of equal size at creation, a block
 * takes a chunk, and the multipliers of its segment are in the chunk's row. A step reads gradient,
 * parameter and moments once and writes the last three once.
 */
#include "runtime/optim/optimizer_cuda.h"

#include <stdlib.h>

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
    void *scratch;
    float *square_low;        /* device: the result of sum_all, unused; see square */
    struct device_comm *comm; /* NULL before a gather */
};

static enum status device_copy(void **memory, const void *from, size_t bytes)
{
    CUDA_TRY(cudaMalloc(memory, bytes ? bytes : 256));
    if (from) {
        CUDA_TRY(cudaMemcpy(*memory, from, bytes, cudaMemcpyHostToDevice));
    } else {
        CUDA_TRY(cudaMemset(*memory, 0, bytes));
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
        device_copy((void **)&u->chunks, chunks, (size_t)u->num_chunks * sizeof *chunks);
    free(chunks);
    return status;
}

static enum status build(struct cuda_update *u, const struct cuda_segment *segments,
                         int64_t num_segments, bool ema)
{
    for (int i = 0; i < (ema ? 3 : 2); i++) {
        TRY(device_copy((void **)&u->vector[i], NULL, (size_t)u->count * sizeof(float)));
    }
    TRY(device_copy(&u->scratch, NULL, sum_all_scratch()));
    TRY(device_copy((void **)&u->square_low, NULL, sizeof *u->square_low));
    return make_chunks(u, segments, num_segments);
}

extern "C" enum status cuda_update_create(struct cuda_update **update,
                                          const struct cuda_segment *segments, int64_t num_segments,
                                          int64_t begin, int64_t count, bool ema)
{
    struct cuda_update *u = (struct cuda_update *)calloc(1, sizeof *u);
    *update = u;
    CHECK(u, STATUS_NO_MEMORY, "optimizer: out of memory");
    u->begin = begin;
    u->count = count;
    enum status status = build(u, segments, num_segments, ema);
    if (status != STATUS_OK) cuda_update_destroy(update);
    return status;
}

extern "C" void cuda_update_destroy(struct cuda_update **update)
{
    struct cuda_update *u = *update;
    if (!u) return;
    device_comm_close(&u->comm);
    for (int i = 0; i < 3; i++) {
        cudaFree(u->vector[i]);
    }
    cudaFree(u->chunks);
    cudaFree(u->scratch);
    cudaFree(u->square_low);
    free(u);
    *update = NULL;
}

/* ---- the norm ---- */

template <bool WIDE> struct squares {
    const float *x;
    __device__ double operator()(int64_t begin, int size) const
    {
        float v[4];
        load_some<float, WIDE>(x + begin, size, v);
        double sum = 0.0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sum += (double)v[i] * (double)v[i];
        }
        return sum;
    }
};

/* The parts are added on the host, so that the sum stays f64. */
extern "C" enum status cuda_update_square(struct cuda_update *u, const float *x, int64_t count,
                                          double *square)
{
    double parts[SUM_BLOCKS] = {};
    CUDA_TRY(cudaMemset(u->scratch, 0, sum_all_scratch()));
    if (is_aligned_16(x)) {
        struct squares<true> f = {
            x
        };
        TRY(sum_all<4>(count, f, 1.0, u->square_low, u->scratch, NULL));
    } else {
        struct squares<false> f = {
            x
        };
        TRY(sum_all<4>(count, f, 1.0, u->square_low, u->scratch, NULL));
    }
    CUDA_TRY(cudaMemcpy(parts, u->scratch, sizeof parts, cudaMemcpyDeviceToHost));
    *square = 0;
    for (int i = 0; i < SUM_BLOCKS; i++) {
        *square += parts[i];
    }
    return STATUS_OK;
}

/* ---- AdamW ---- */

struct factors {
    double lr_step; /* lr over the corrections */
    double lr_decay;
    float beta1, beta2, rest1, rest2, eps, v_scale, gradient_scale;
    bool fiber;
};

static __global__ void __launch_bounds__(UPDATE_THREADS)
    adamw_kernel(const struct chunk *chunks, float *p, const float *g, float *m, float *v,
                 int64_t begin, struct factors f)
{
    const struct chunk c = chunks[blockIdx.x];
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
            float d = gradient[k] * f.gradient_scale;
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
    __device__ void operator()(const float *x, float *y) const
    {
        y[0] = decay * x[0] + rest * x[1];
    }
};

extern "C" enum status cuda_update_run(struct cuda_update *u, const struct cuda_update_step *s)
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
    f.gradient_scale = (float)s->gradient_scale;
    f.fiber = s->fiber;
    if (u->num_chunks > 0) {
        TRY(CUDA_LAUNCH(adamw_kernel, (unsigned)u->num_chunks, UPDATE_THREADS, 0, NULL, u->chunks,
                        s->parameters, s->gradients, u->vector[0], u->vector[1], u->begin, f));
    }
    if (u->vector[2]) {
        struct map_pointers<2, 1> p = {
            {u->vector[2], s->parameters + u->begin},
            {
                u->vector[2]
            }
        };
        struct ema_function ema = {(float)s->ema_decay, (float)(1.0 - s->ema_decay)};
        TRY((map_typed<float, 2, 1>(p, u->count, ema, NULL)));
    }
    CUDA_TRY(cudaDeviceSynchronize());
    return STATUS_OK;
}

static __global__ void clamp_element_kernel(float *element, float low, float high)
{
    *element = fminf(fmaxf(*element, low), high);
}

extern "C" enum status cuda_update_gather(struct cuda_update *u, struct comm *comm,
                                          float *parameters, const int64_t *counts)
{
    if (!u->comm) TRY(device_comm_open(&u->comm, comm));
    return device_comm_gather_start(u->comm, "updated parameters", parameters, counts);
}

extern "C" enum status cuda_update_clamp(struct cuda_update *u, float *element, float low,
                                         float high)
{
    if (u->comm) {
        TRY(CUDA_LAUNCH(clamp_element_kernel, 1, 1, 0, device_comm_stream(u->comm), element, low,
                        high));
        return device_comm_gather_extend(u->comm);
    }
    TRY(CUDA_LAUNCH(clamp_element_kernel, 1, 1, 0, NULL, element, low, high));
    CUDA_TRY(cudaDeviceSynchronize());
    return STATUS_OK;
}

extern "C" enum status cuda_update_read(const struct cuda_update *u, int vector, float *host)
{
    CUDA_TRY(cudaMemcpy(host, u->vector[vector], (size_t)u->count * sizeof(float),
                        cudaMemcpyDeviceToHost));
    return STATUS_OK;
}

extern "C" enum status cuda_update_write(struct cuda_update *u, int vector, const float *host)
{
    CUDA_TRY(cudaMemcpy(u->vector[vector], host, (size_t)u->count * sizeof(float),
                        cudaMemcpyHostToDevice));
    return STATUS_OK;
}
