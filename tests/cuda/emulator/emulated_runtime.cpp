/*
 * The runtime interface of the emulator: one GPU a process, and everything done when it is asked
 * for, save that a collective waits for other ranks: then what comes after it waits in a queue,
 * whatever its stream. Every call that waits, or asks whether something is done, moves the queue
 * on.
 *
 * Device memory is plain memory, so that ASan sees the ends of allocations. In other builds it is
 * mapped, and readable only while a kernel or copy runs: host code that reads through a device
 * pointer gets a segmentation fault, as it would with a GPU.
 *
 * Under capture, work is recorded in the order of the calls, whatever its stream. That is one of
 * the orders that the events allow.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <vector>

#include "tests/cuda/emulator/cuda_runtime.h"
#include "tests/cuda/emulator/emulator.h"

struct CUstream_st {
    int unused;
};
struct emulated_event {
    double time;
    uint64_t asked, reached; /* how often it was recorded, and how often that was reached */
};
struct emulated_graph {
    std::vector<std::function<bool()>> work;
};

static struct {
    std::map<char *, size_t> allocations;
    size_t used, total;
    int open; /* nesting of code that may touch device memory */
    struct emulated_graph *capturing;
    std::deque<std::function<bool()>> queue; /* submitted and not done */
    bool is_moving;
    int64_t done;       /* pieces of work */
    cudaError_t broken; /* the device failed, and every call says so */
    int device;
    cudaError_t last;
} d;

static cudaError_t result(cudaError_t error)
{
    if (d.broken != cudaSuccess) error = d.broken;
    if (error != cudaSuccess) d.last = error;
    return error;
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
    return *count ? cudaSuccess : result(cudaErrorNoDevice);
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
    if (device < 0 || device >= count) return result(cudaErrorInvalidDevice);
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

/* WEFT_EMULATED_CAPABILITY: 75 for a GPU without bf16. WEFT_EMULATED_UUID: of the first GPU. */
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    const char *text = emulated_setting("WEFT_EMULATED_CAPABILITY");
    int capability = text ? atoi(text) : 90;
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "emulated GPU");
    memcpy(properties->uuid.bytes, "weft emulated 0", 16);
    const char *first = emulated_setting("WEFT_EMULATED_UUID");
    properties->uuid.bytes[14] = (char)('0' + (first ? atoi(first) : 0) + device);
    properties->totalGlobalMem = total();
    properties->major = capability / 10;
    properties->minor = capability % 10;
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

static void enter(void)
{
    if (d.open++ == 0) protect(PROT_READ | PROT_WRITE);
}

static void leave(void)
{
    if (--d.open == 0) protect(PROT_NONE);
}

/*
 * Moves the queue on as far as it goes. WEFT_EMULATED_FAILURE: the device fails after so many
 * pieces of work.
 */
static void move(void)
{
    if (d.is_moving || d.queue.empty()) return;
    const char *text = emulated_setting("WEFT_EMULATED_FAILURE");
    int64_t most = text ? atoll(text) : INT64_MAX;
    d.is_moving = true;
    enter();
    while (!d.queue.empty() && d.queue.front()()) {
        d.queue.pop_front();
        if (++d.done < most) continue;
        d.broken = cudaErrorLaunchFailure;
        d.queue.clear();
    }
    leave();
    d.is_moving = false;
}

/* Waits until all is done. */
static cudaError_t drain(void)
{
    if (d.capturing) return result(cudaErrorStreamCaptureUnsupported);
    for (move(); !d.queue.empty(); move()) {
        usleep(50);
    }
    return result(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void)
{
    return drain();
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    if (d.capturing) return result(cudaErrorStreamCaptureUnsupported);
    *memory = NULL;
    if (bytes == 0) return cudaSuccess;
    if (bytes > total() - d.used) return result(cudaErrorMemoryAllocation);
#if defined(__SANITIZE_ADDRESS__)
    /* Not aligned_alloc: its sizes are multiples of the alignment. */
    if (posix_memalign(memory, 256, bytes) != 0) return result(cudaErrorMemoryAllocation);
#else
    *memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*memory == MAP_FAILED) return result(cudaErrorMemoryAllocation);
#endif
    d.allocations[(char *)*memory] = bytes;
    d.used += bytes;
    /* Nobody may count on zeros. Large allocations keep them: touching all of it takes memory. */
    if (bytes <= 64 << 20) {
        enter();
        memset(*memory, 0xFF, bytes);
        leave();
    }
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    if (!memory) return cudaSuccess;
    auto found = d.allocations.find((char *)memory);
    if (found == d.allocations.end()) return result(cudaErrorInvalidValue);
    drain();
    d.used -= found->second;
#if defined(__SANITIZE_ADDRESS__)
    free(memory);
#else
    munmap(memory, found->second);
#endif
    d.allocations.erase(found);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    *memory = malloc(bytes ? bytes : 1);
    return *memory ? cudaSuccess : result(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *memory)
{
    if (memory) drain();
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

cudaError_t emulated_submit_waiting(cudaStream_t stream, std::function<bool()> work)
{
    (void)stream;
    if (d.broken != cudaSuccess) return result(d.broken);
    if (d.capturing) {
        d.capturing->work.push_back(work);
        return cudaSuccess;
    }
    d.queue.push_back(work);
    move();
    return cudaSuccess;
}

bool emulated_is_capturing(void)
{
    return d.capturing != NULL;
}

cudaError_t emulated_submit(cudaStream_t stream, std::function<void()> work)
{
    return emulated_submit_waiting(stream, [=]() {
        work();
        return true;
    });
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (bytes == 0) return cudaSuccess;
    if (!direction_fits(to, from, kind)) return result(cudaErrorInvalidValue);
    return emulated_submit(stream, [=]() { memcpy(to, from, bytes); });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    if (d.capturing) return result(cudaErrorStreamCaptureUnsupported);
    cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, NULL);
    return error == cudaSuccess ? drain() : error;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    if (bytes == 0) return cudaSuccess;
    if (!on_device(memory)) return result(cudaErrorInvalidValue);
    return emulated_submit(stream, [=]() { memset(memory, value, bytes); });
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
    if (d.capturing) return result(cudaErrorStreamCaptureUnsupported);
    cudaError_t error = cudaMemsetAsync(memory, value, bytes, NULL);
    return error == cudaSuccess ? drain() : error;
}

/* ---- streams, events, graphs ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    *stream = new struct CUstream_st();
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    (void)priority;
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return drain();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)stream;
    (void)event;
    (void)flags;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    *event = new struct emulated_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

static double delayed;

void emulated_delay(double seconds)
{
    delayed += seconds;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    uint64_t number = d.capturing ? 0 : ++event->asked;
    return emulated_submit(stream, [=]() {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        event->time = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec + delayed;
        if (number > event->reached) event->reached = number;
    });
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    move();
    if (d.broken != cudaSuccess) return result(d.broken);
    return event->reached == event->asked ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    (void)event;
    return drain();
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    *milliseconds = (float)(1e3 * (end->time - start->time));
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *user)
{
    return emulated_submit(stream, [=]() {
        leave();
        function(user);
        enter();
    });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)mode;
    if (!stream || d.capturing) return result(cudaErrorStreamCaptureUnsupported);
    d.capturing = new struct emulated_graph();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    (void)stream;
    *graph = d.capturing;
    d.capturing = NULL;
    return *graph ? cudaSuccess : result(cudaErrorInvalidValue);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    *exec = new struct emulated_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    (void)stream;
    if (d.broken != cudaSuccess) return result(d.broken);
    d.queue.insert(d.queue.end(), exec->work.begin(), exec->work.end());
    move();
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}
