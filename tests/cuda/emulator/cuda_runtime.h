/*
 * Stands in for NVIDIA's header: the project's .cu files compiled by a host C++ compiler, so that
 * every kernel runs, and is tested, on machines without a GPU or nvcc.
 *
 * What is here is what the project uses of the language (types, built-in variables, barriers, warp
 * functions) and of the runtime interface (memory, streams, events, graphs). Kernels get tensor
 * cores and asynchronous copies through runtime/backend/cuda/kernel.cuh, whose emulated side is in
 * emulated_kernel.h. What the emulator is for:
 *
 *   - Numbers: a kernel computes what its thread code says, with fragments laid out over the lanes
 *     of a warp as the PTX manual has them.
 *   - Missing barriers: the threads of a block take turns in a pseudo-random order (set by
 *     emulated_seed) and only where they wait, so a value read before it is written is found by one
 *     seed or another. Shared memory starts as NaN in every block.
 *   - Wrong calls: barriers that not all threads reach, warp functions whose mask and lanes differ,
 *     sizes that no GPU launches, misaligned 16-byte accesses, host code that reads device memory
 *     (a segmentation fault outside sanitizer builds), kernels that write out of bounds (with
 *     ASan).
 *   - Missing order: streams take turns, in a pseudo-random order too, and only when the host waits
 *     or now and then. Work that should have waited for another stream, pinned memory that the host
 *     writes before it was copied, or reads before it is there: found by one seed or another.
 *
 * It does not find races between blocks (they run one after another) or on one word within a warp's
 * instruction, and its speed says nothing.
 */
#ifndef WEFT_TESTS_CUDA_EMULATOR_CUDA_RUNTIME_H
#define WEFT_TESTS_CUDA_EMULATOR_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>

#include "tests/cuda/emulator/emulated_kernel.h"

/* ---- the language ---- */

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__    __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static const
/* One block runs at a time, so static storage is shared by exactly its threads. */
#define __shared__ static

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y)
{
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}
static inline int2 make_int2(int x, int y)
{
    return {x, y};
}

/* Where the running thread is. */
struct emulated_position {
    uint3 thread, block;
    dim3 block_size, grid_size;
    unsigned linear; /* of the thread in its block */
};
extern struct emulated_position emulated_now;
#define threadIdx emulated_now.thread
#define blockIdx  emulated_now.block
#define blockDim  emulated_now.block_size
#define gridDim   emulated_now.grid_size
#define warpSize  32

/* All threads of the block must come here, to the same line. */
void emulated_barrier(const char *file, int line);
#define __syncthreads() emulated_barrier(__FILE__, __LINE__)

/*
 * A function of the warp: returns when all lanes of `mask` have come with the same `apply`, which
 * the last of them has called with what each brought (by lane; NULL outside the mask).
 */
typedef void emulated_apply(void *const payload[32], unsigned mask);
void emulated_warp(const char *what, unsigned mask, emulated_apply *apply, void *payload);

void emulated_apply_nothing(void *const payload[32], unsigned mask);
#define __syncwarp(...)                                                                            \
    emulated_warp("__syncwarp", emulated_mask(__VA_ARGS__), emulated_apply_nothing, NULL)
static inline unsigned emulated_mask(unsigned mask = 0xFFFFFFFFu)
{
    return mask;
}

/* Shuffles: every lane brings a value and the lane that it reads from. */
[[noreturn]] void emulated_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
template <typename T> struct emulated_shuffle {
    T value, result;
    int from;
};
template <typename T> void emulated_apply_shuffle(void *const payload[32], unsigned mask)
{
    for (int lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1)) continue;
        struct emulated_shuffle<T> *own = (struct emulated_shuffle<T> *)payload[lane];
        if (!(mask >> own->from & 1)) {
            emulated_fail("lane %d shuffles from lane %d, which is not in the mask %08x", lane,
                          own->from, mask);
        }
        own->result = ((const struct emulated_shuffle<T> *)payload[own->from])->value;
    }
}
template <typename T> T emulated_shuffle_from(unsigned mask, T value, int from)
{
    struct emulated_shuffle<T> payload = {
        value, value, from
    };
    emulated_warp("a shuffle", mask, emulated_apply_shuffle<T>, &payload);
    return payload.result;
}
static inline int emulated_lane(void)
{
    return (int)(emulated_now.linear % 32);
}
template <typename T> T __shfl_sync(unsigned mask, T value, int lane, int width = 32)
{
    int base = emulated_lane() / width * width;
    return emulated_shuffle_from(mask, value, base + (lane & (width - 1)));
}
template <typename T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32)
{
    int lane = emulated_lane();
    int from = lane ^ bits;
    return emulated_shuffle_from(mask, value, from / width > lane / width ? lane : from);
}
template <typename T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    int lane = emulated_lane();
    int from = lane - (int)by;
    return emulated_shuffle_from(mask, value, from < lane / width * width ? lane : from);
}
template <typename T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    int lane = emulated_lane();
    int from = lane + (int)by;
    return emulated_shuffle_from(mask, value, from >= (lane / width + 1) * width ? lane : from);
}
unsigned __ballot_sync(unsigned mask, int predicate);
static inline int __any_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) != 0;
}
static inline int __all_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) == mask;
}

/* Threads only change where they wait, so these are atomic as they are. */
template <typename T> T atomicAdd(T *address, T value)
{
    T old = *address;
    *address = old + value;
    return old;
}
template <typename T> T atomicMax(T *address, T value)
{
    T old = *address;
    if (value > old) *address = value;
    return old;
}
template <typename T> T atomicMin(T *address, T value)
{
    T old = *address;
    if (value < old) *address = value;
    return old;
}
template <typename T> T atomicCAS(T *address, T expected, T value)
{
    T old = *address;
    if (old == expected) *address = value;
    return old;
}
static inline void __threadfence(void)
{
}

template <typename T> T __ldg(const T *address)
{
    return *address;
}
template <typename T> T __ldcs(const T *address)
{
    return *address;
}
template <typename T> void __stcs(T *address, T value)
{
    *address = value;
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
/* The C library has these names too. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)
static inline float __fdividef(float x, float y)
{
    return x / y;
}
static inline float __frcp_rn(float x)
{
    return 1.0f / x;
}
static inline float __fmul_rn(float x, float y)
{
    return x * y;
}
static inline float __fadd_rn(float x, float y)
{
    return x + y;
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline unsigned __umulhi(unsigned x, unsigned y)
{
    return (unsigned)((uint64_t)x * y >> 32);
}
static inline float __uint_as_float(unsigned x)
{
    float y;
    memcpy(&y, &x, sizeof y);
    return y;
}
static inline unsigned __float_as_uint(float x)
{
    unsigned y;
    memcpy(&y, &x, sizeof y);
    return y;
}
static inline int __float_as_int(float x)
{
    return (int)__float_as_uint(x);
}
static inline float __int_as_float(int x)
{
    return __uint_as_float((unsigned)x);
}

/* ---- the runtime interface ---- */

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorInvalidDeviceFunction = 98,
    cudaErrorNoDevice = 100,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorJitCompilerNotFound = 221,
    cudaErrorUnsupportedPtxVersion = 222,
    cudaErrorJitCompilationDisabled = 223,
    cudaErrorInvalidDevice = 101,
    cudaErrorNotReady = 600,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureUnjoined = 904,
    cudaErrorStreamCaptureIsolation = 905
} cudaError_t;

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct emulated_graph *cudaGraph_t;
typedef struct emulated_graph *cudaGraphExec_t;
typedef struct emulated_node *cudaGraphNode_t;

enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };

typedef struct CUuuid_st {
    char bytes[16];
} cudaUUID_t;
struct cudaDeviceProp {
    char name[256];
    cudaUUID_t uuid;
    size_t totalGlobalMem;
    int major, minor;
    int multiProcessorCount;
};

typedef void (*cudaHostFn_t)(void *user);

const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device);
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest);

cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMallocHost(void **memory, size_t bytes);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream = NULL);
cudaError_t cudaMemset(void *memory, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream = NULL);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = NULL);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end);
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *user);

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

cudaError_t emulated_allow_shared(const void *kernel, int bytes);

struct cudaFuncAttributes {
    int ptxVersion;
    int binaryVersion;
};

/* As a build for 8.0, 9.0a and 10.0 with PTX of the last has it. */
cudaError_t emulated_code(struct cudaFuncAttributes *attributes);
template <typename T> cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, T *)
{
    return emulated_code(attributes);
}

template <typename T>
cudaError_t cudaFuncSetAttribute(T *kernel, enum cudaFuncAttribute attribute, int value)
{
    (void)attribute;
    return emulated_allow_shared((const void *)kernel, value);
}

/* ---- for the library and the tests ---- */

/* Runs or, under capture, records `work`, which may touch device memory. */
cudaError_t emulated_submit(cudaStream_t stream, std::function<void()> work);

/* The same for a collective, which cannot end yet while it returns false: it is called again, and
 * what was submitted to the stream later waits. Collectives begin and end in the order in which
 * they were submitted, whatever their streams. */
cudaError_t emulated_submit_collective(cudaStream_t stream, std::function<bool()> work);

/* Whether what is submitted to the stream is being recorded. */
bool emulated_is_capturing(cudaStream_t stream);

/* An environment variable. "R:VALUE" is VALUE on rank R, and NULL on the others. */
const char *emulated_setting(const char *name);

/* Lets the clock of events jump ahead. */
void emulated_delay(double seconds);

/* The dynamic shared memory of the running block. */
void *emulated_shared(void);

void emulated_run(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                  const std::function<void()> &thread);
cudaError_t emulated_check(const char *name, const void *kernel, dim3 grid, dim3 block,
                           size_t shared_bytes);

/* kernel<<<grid, block, shared_bytes, stream>>>(arguments...), see CUDA_LAUNCH. */
template <typename... P, typename... A>
cudaError_t emulated_launch(const char *name, cudaStream_t stream, dim3 grid, dim3 block,
                            size_t shared_bytes, void (*kernel)(P...), A... arguments)
{
    const void *address = (const void *)kernel;
    cudaError_t error = emulated_check(name, address, grid, block, shared_bytes);
    if (error != cudaSuccess) return error;
    std::function<void()> thread = [=]() { kernel(arguments...); };
    return emulated_submit(
        stream, [=]() { emulated_run(name, address, grid, block, shared_bytes, thread); });
}

#endif
