/*
 * The runtime interface of the emulator, but for streams (emulated_streams.cpp): one GPU a process,
 * and its memory.
 *
 * Device memory is plain memory, so that ASan sees the ends of allocations. In other builds it is
 * mapped, and readable only while a kernel or copy runs: host code that reads through a device
 * pointer gets a segmentation fault, as it would with a GPU.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <map>

#include "tests/cuda/emulator/cuda_runtime.h"
#include "tests/cuda/emulator/emulated_streams.h"
#include "tests/cuda/emulator/emulator.h"

static struct {
    std::map<char *, size_t> allocations;
    size_t used, total;
    int open;           /* nesting of code that may touch device memory */
    cudaError_t broken; /* the device failed, and every call says so */
    int device;
    cudaError_t last;
} d;

cudaError_t emulated_result(cudaError_t error)
{
    if (d.broken != cudaSuccess) error = d.broken;
    if (error != cudaSuccess) d.last = error;
    return error;
}

void emulated_break(void)
{
    d.broken = cudaErrorLaunchFailure;
}

const char *emulated_setting(const char *name)
{
    const char *text = getenv(name);
    const char *colon = text ? strchr(text, ':') : NULL;
    if (!colon) return text;
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    return atoi(rank ? rank : "0") == atoi(text) ? colon + 1 : NULL;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
        return "cudaErrorInvalidConfiguration";
    case cudaErrorStreamCaptureUnsupported:
        return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureUnjoined:
        return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation:
        return "cudaErrorStreamCaptureIsolation";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    case cudaErrorNotReady:
        return "cudaErrorNotReady";
    default:
        return "another error";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureUnjoined:
        return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation:
        return "dependency created on uncaptured work in another stream";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    case cudaErrorNotReady:
        return "device not ready";
    default:
        return "another error";
    }
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = d.last;
    d.last = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return d.last;
}

/* ---- the device ---- */

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

/* WEFT_EMULATED_DRIVER: another version than the runtime's, 0 for no driver at all. */
cudaError_t cudaDriverGetVersion(int *version)
{
    const char *text = getenv("WEFT_EMULATED_DRIVER");
    *version = text ? atoi(text) : 13000;
    return cudaSuccess;
}

/* WEFT_EMULATED_DEVICES: how many GPUs there are. */
cudaError_t cudaGetDeviceCount(int *count)
{
    const char *text = emulated_setting("WEFT_EMULATED_DEVICES");
    *count = text ? atoi(text) : 1;
    return *count ? cudaSuccess : emulated_result(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = d.device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) return error;
    if (device < 0 || device >= count) return emulated_result(cudaErrorInvalidDevice);
    d.device = device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device)
{
    snprintf(text, (size_t)size, "FFFF:%02X:00.0", (unsigned)device & 0xFF);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    (void)device;
    *value = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 227 * 1024 : 4;
    return cudaSuccess;
}

void emulated_memory(size_t bytes)
{
    d.total = bytes;
}

static size_t total(void)
{
    if (d.total == 0) {
        const char *text = emulated_setting("WEFT_EMULATED_MEMORY");
        d.total = (text ? strtoull(text, NULL, 10) : 16384) << 20;
    }
    return d.total;
}

/* WEFT_EMULATED_CAPABILITY: 75 for a GPU without bf16, 95 for one without code, 120 for PTX. */
static int capability(void)
{
    const char *text = emulated_setting("WEFT_EMULATED_CAPABILITY");
    return text ? atoi(text) : 90;
}

cudaError_t emulated_code(struct cudaFuncAttributes *attributes)
{
    int own = capability();
    if (own < 80 || (own > 90 && own < 100))
        return emulated_result(cudaErrorNoKernelImageForDevice);
    attributes->ptxVersion = own >= 100 ? 100 : own == 90 ? 90 : 80;
    attributes->binaryVersion = own >= 110 ? own : attributes->ptxVersion;
    return cudaSuccess;
}

/* WEFT_EMULATED_UUID: of the first GPU. */
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "emulated GPU");
    memcpy(properties->uuid.bytes, "weft emulated 0", 16);
    const char *first = emulated_setting("WEFT_EMULATED_UUID");
    properties->uuid.bytes[14] = (char)('0' + (first ? atoi(first) : 0) + device);
    properties->totalGlobalMem = total();
    properties->major = capability() / 10;
    properties->minor = capability() % 10;
    properties->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = total();
    *free_bytes = total() - d.used;
    return cudaSuccess;
}

/* ---- memory ---- */

static void protect(int protection)
{
#if !defined(__SANITIZE_ADDRESS__)
    for (const auto &a : d.allocations) {
        mprotect(a.first, a.second, protection);
    }
#else
    (void)protection;
#endif
}

void emulated_enter(void)
{
    if (d.open++ == 0) protect(PROT_READ | PROT_WRITE);
}

void emulated_leave(void)
{
    if (--d.open == 0) protect(PROT_NONE);
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    if (emulated_is_recording()) return emulated_result(cudaErrorStreamCaptureUnsupported);
    *memory = NULL;
    if (bytes == 0) return cudaSuccess;
    if (bytes > total() - d.used) return emulated_result(cudaErrorMemoryAllocation);
#if defined(__SANITIZE_ADDRESS__)
    /* Not aligned_alloc: its sizes are multiples of the alignment. */
    if (posix_memalign(memory, 256, bytes) != 0) return emulated_result(cudaErrorMemoryAllocation);
#else
    *memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*memory == MAP_FAILED) return emulated_result(cudaErrorMemoryAllocation);
#endif
    d.allocations[(char *)*memory] = bytes;
    d.used += bytes;
    /* Nobody may count on zeros. Large allocations keep them: touching all of it takes memory. */
    if (bytes <= 64 << 20) {
        emulated_enter();
        memset(*memory, 0xFF, bytes);
        emulated_leave();
    }
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    if (!memory) return cudaSuccess;
    auto found = d.allocations.find((char *)memory);
    if (found == d.allocations.end()) return emulated_result(cudaErrorInvalidValue);
    emulated_drain();
    d.used -= found->second;
#if defined(__SANITIZE_ADDRESS__)
    free(memory);
#else
    munmap(memory, found->second);
#endif
    d.allocations.erase(found);
    return cudaSuccess;
}

/* WEFT_EMULATED_PINNED: the largest allocation of the host's memory, in bytes. */
cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    const char *most = emulated_setting("WEFT_EMULATED_PINNED");
    *memory = most && bytes > strtoull(most, NULL, 10) ? NULL : malloc(bytes ? bytes : 1);
    return *memory ? cudaSuccess : emulated_result(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *memory)
{
    if (memory) emulated_drain();
    free(memory);
    return cudaSuccess;
}

static bool on_device(const void *memory)
{
    auto next = d.allocations.upper_bound((char *)(uintptr_t)memory);
    if (next == d.allocations.begin()) return false;
    --next;
    return (const char *)memory < next->first + next->second;
}

static bool direction_fits(const void *to, const void *from, enum cudaMemcpyKind kind)
{
    switch (kind) {
    case cudaMemcpyHostToHost:
        return !on_device(to) && !on_device(from);
    case cudaMemcpyHostToDevice:
        return on_device(to) && !on_device(from);
    case cudaMemcpyDeviceToHost:
        return !on_device(to) && on_device(from);
    case cudaMemcpyDeviceToDevice:
        return on_device(to) && on_device(from);
    default:
        return true;
    }
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (bytes == 0) return cudaSuccess;
    if (!direction_fits(to, from, kind)) return emulated_result(cudaErrorInvalidValue);
    return emulated_submit(stream, [=]() { memcpy(to, from, bytes); });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    if (emulated_is_recording()) return emulated_result(cudaErrorStreamCaptureUnsupported);
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, NULL);
    return error == cudaSuccess ? cudaStreamSynchronize(NULL) : error;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    if (bytes == 0) return cudaSuccess;
    if (!on_device(memory)) return emulated_result(cudaErrorInvalidValue);
    return emulated_submit(stream, [=]() { memset(memory, value, bytes); });
}

/* The host does not wait for it, and neither do streams that do not block. */
cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
    if (emulated_is_recording()) return emulated_result(cudaErrorStreamCaptureUnsupported);
    return cudaMemsetAsync(memory, value, bytes, NULL);
}
