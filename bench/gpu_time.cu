/* Timing, the device, and the copy bandwidth: see gpu_bench.h. */
#include <algorithm>
#include <stdio.h>
#include <string.h>
#include <vector>

#include "bench/gpu_bench.h"
#include "runtime/backend/cuda/device.h"
#include "runtime/backend/cuda/kernel.cuh"

/* Dense bf16 FLOP/s with f32 sums, of the vendor's data sheets. */
static const struct {
    const char *part; /* of the device's name; the first that fits */
    double peak;
} known_devices[] = {
    {"B200", 2250e12},  {"GB200", 2250e12},  {"H200", 989.4e12},   {"H100 PCIe", 756e12},
    {"H100", 989.4e12}, {"GH200", 989.4e12}, {"A100", 312e12},     {"A800", 312e12},
    {"L40S", 362e12},   {"A10G", 70e12},     {"RTX 4090", 165e12},
};

extern "C" enum status gpu_bench_init(struct gpu_bench *bench)
{
    enum { MOST = 64 };
    struct cuda_device devices[MOST];
    int count = 0;
    TRY(cuda_device_ready());
    TRY(cuda_device_list(devices, MOST, &count));
    TRY(cuda_device_ready());
    snprintf(bench->device, sizeof bench->device, "%s", devices[0].name);
    for (size_t i = 0; i < sizeof known_devices / sizeof known_devices[0] && !bench->peak; i++) {
        if (strstr(bench->device, known_devices[i].part)) bench->peak = known_devices[i].peak;
    }
    bench->repeats = bench->quick ? 1 : 15;
    bench->flush_bytes = bench->quick ? 4096 : (size_t)256 << 20;
    CUDA_TRY(cudaStreamCreateWithFlags(&bench->stream, cudaStreamNonBlocking));
    CUDA_TRY(cudaMalloc(&bench->flush, bench->flush_bytes));
    return STATUS_OK;
}

extern "C" void gpu_bench_fini(struct gpu_bench *bench)
{
    if (bench->stream) cudaStreamDestroy(bench->stream);
    cudaFree(bench->flush);
}

extern "C" enum status gpu_bench_used(size_t *bytes)
{
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    /* What a step that did not fit left behind is no failure of what comes next. */
    cudaGetLastError();
    CUDA_TRY(cudaMemGetInfo(&free_bytes, &total_bytes));
    *bytes = total_bytes - free_bytes;
    return STATUS_OK;
}

/* ---- timing ---- */

struct events {
    cudaEvent_t start, end;
};

static void events_destroy(std::vector<events> *all)
{
    for (events &e : *all) {
        if (e.start) cudaEventDestroy(e.start);
        if (e.end) cudaEventDestroy(e.end);
    }
}

static enum status time_all(struct gpu_bench *bench, struct gpu_work work, std::vector<events> *all,
                            std::vector<float> *milliseconds)
{
    for (events &e : *all) {
        CUDA_TRY(cudaEventCreateWithFlags(&e.start, 0));
        CUDA_TRY(cudaEventCreateWithFlags(&e.end, 0));
    }
    for (events &e : *all) {
        CUDA_TRY(cudaMemsetAsync(bench->flush, 0, bench->flush_bytes, bench->stream));
        CUDA_TRY(cudaEventRecord(e.start, bench->stream));
        TRY(work.enqueue(work.user, bench->stream));
        CUDA_TRY(cudaEventRecord(e.end, bench->stream));
    }
    CUDA_TRY(cudaStreamSynchronize(bench->stream));
    for (size_t i = 0; i < all->size(); i++) {
        CUDA_TRY(cudaEventElapsedTime(&(*milliseconds)[i], (*all)[i].start, (*all)[i].end));
    }
    return STATUS_OK;
}

extern "C" enum status gpu_bench_time(struct gpu_bench *bench, struct gpu_work work, int repeats,
                                      double *seconds)
{
    std::vector<events> all((size_t)repeats + 1);
    std::vector<float> milliseconds(all.size());
    enum status status = time_all(bench, work, &all, &milliseconds);
    events_destroy(&all);
    TRY(status);
    std::sort(milliseconds.begin() + 1, milliseconds.end()); /* the first warms up */
    *seconds = 1e-3 * (double)milliseconds[1 + (size_t)repeats / 2];
    /* Clocks tick coarsely; nothing takes no time. */
    if (*seconds < 1e-7) *seconds = 1e-7;
    return STATUS_OK;
}

/* ---- memory ---- */

static __global__ void fill_kernel(uint32_t *words, int64_t count, bool bf16)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    uint32_t a = (uint32_t)i * 2654435761u;
    a = (a ^ a >> 15) * 2246822519u;
    a ^= a >> 13;
    float low = (float)(a & 0xFFFF) * (1.0f / 32768.0f) - 1.0f;
    float high = (float)(a >> 16) * (1.0f / 32768.0f) - 1.0f;
    words[i] = bf16 ? pair_of_f32(low, high) : __float_as_uint(low);
}

extern "C" enum status gpu_bench_fill(struct gpu_bench *bench, void *memory, size_t bytes,
                                      bool bf16)
{
    int64_t count = (int64_t)bytes / 4;
    if (count == 0) return STATUS_OK;
    return CUDA_LAUNCH(fill_kernel, (unsigned)ceil_div(count, 256), 256, 0, bench->stream,
                       (uint32_t *)memory, count, bf16);
}

struct copy {
    void *to, *from;
    size_t bytes;
};

static enum status enqueue_copy(void *user, cudaStream_t stream)
{
    const struct copy *copy = (const struct copy *)user;
    CUDA_TRY(cudaMemcpyAsync(copy->to, copy->from, copy->bytes, cudaMemcpyDeviceToDevice, stream));
    return STATUS_OK;
}

static __global__ void copy_kernel(char *to, const char *from, int64_t packs)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < packs) store_16(to + 16 * i, load_16(from + 16 * i));
}

static enum status enqueue_copy_kernel(void *user, cudaStream_t stream)
{
    const struct copy *copy = (const struct copy *)user;
    int64_t packs = (int64_t)copy->bytes / 16;
    return CUDA_LAUNCH(copy_kernel, (unsigned)ceil_div(packs, 256), 256, 0, stream,
                       (char *)copy->to, (const char *)copy->from, packs);
}

static enum status measure_copies(struct gpu_bench *bench, struct copy copy)
{
    static const struct {
        const char *name;
        enum status (*enqueue)(void *user, cudaStream_t stream);
    } ways[] = {{"copy by the driver", enqueue_copy},
                {"copy by 16-byte loads", enqueue_copy_kernel}};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        double seconds = 0;
        TRY(gpu_bench_time(bench, gpu_work{ways[i].enqueue, &copy}, bench->repeats, &seconds));
        double rate = 2 * (double)copy.bytes / seconds;
        if (rate > bench->copy) bench->copy = rate;
        char note[64];
        snprintf(note, sizeof note, "%.3f GB to and fro", (double)copy.bytes * 1e-9);
        struct gpu_row row = {ways[i].name, rate * 1e-9, "GB/s", 0, 0, 0, note};
        gpu_bench_row(bench, row);
    }
    return STATUS_OK;
}

extern "C" enum status gpu_copy(struct gpu_bench *bench)
{
    struct copy copy = {NULL, NULL, bench->quick ? (size_t)1 << 16 : (size_t)1 << 30};
    enum status status = cuda_status(cudaMalloc(&copy.to, copy.bytes), "cudaMalloc");
    if (status == STATUS_OK) {
        status = cuda_status(cudaMalloc(&copy.from, copy.bytes), "cudaMalloc");
    }
    if (status == STATUS_OK) status = gpu_bench_fill(bench, copy.from, copy.bytes, true);
    if (status == STATUS_OK) status = measure_copies(bench, copy);
    cudaFree(copy.to);
    cudaFree(copy.from);
    return status;
}
