/*
 * What kernels are written in: launches, warp and block reductions, 16-byte accesses, bf16 pairs,
 * asynchronous copies and tensor-core products.
 *
 * Each PTX instruction that C++ has no word for is one function here, with an emulated twin, so
 * that every kernel also compiles for the host (tests/cuda/emulator/cuda_runtime.h) and is tested
 * without a GPU. Kernels use nothing of the machine but this header and the CUDA C++ that the
 * emulator knows.
 *
 * Conventions of the kernels:
 *  - A tensor is f32 (float) or bf16 (uint16_t), contiguous; arithmetic and statistics are f32.
 *    Kernels are templates over the element type T and use load_f32 and store_f32.
 *  - No float atomics: every sum has a fixed order.
 *  - Warp functions take all 32 lanes. Blocks are multiples of 32 threads.
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_KERNEL_CUH
#define WEFT_RUNTIME_BACKEND_CUDA_KERNEL_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#include "runtime/base/bf16.h"
#include "runtime/base/status.h"

enum { WARP = 32 };

/* ---- host: calls and launches ---- */

/* A CUDA error as a status; `call` says what failed. */
static inline enum status cuda_status(cudaError_t error, const char *call)
{
    if (error == cudaSuccess) return STATUS_OK;
    return status_fail(error == cudaErrorMemoryAllocation ? STATUS_NO_MEMORY : STATUS_INTERNAL,
                       "CUDA: %s: %s", call, cudaGetErrorString(error));
}

/* Calls a function of the CUDA runtime; returns from the calling function when it fails. */
#define CUDA_TRY(call) TRY(cuda_status((call), #call))

/*
 * kernel<<<grid, block, shared_bytes, stream>>>(arguments...), with a status. A template kernel is
 * put in parentheses: CUDA_LAUNCH((scale_kernel<float, 4>), ...).
 */
#if defined(__CUDACC__)
#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                \
    (kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__),                                   \
     cuda_status(cudaPeekAtLastError(), #kernel))
#else
#define CUDA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                \
    cuda_status(emulated_launch(#kernel, stream, grid, block, shared_bytes, kernel, __VA_ARGS__),  \
                #kernel)
#endif

/*
 * Registers a thread of a kernel may have, where the number of blocks on a multiprocessor matters
 * and __launch_bounds__, which rounds warps up to fours, is too coarse. Not together with it.
 */
#if defined(__CUDACC__)
#define KERNEL_REGISTERS(count) __maxnreg__(count)
#else
#define KERNEL_REGISTERS(count)
#endif

/* Lets a kernel use more than 48 KiB of dynamic shared memory. Once, at plan time. */
#define CUDA_ALLOW_SHARED(kernel, bytes)                                                           \
    cuda_status(                                                                                   \
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes)),   \
        #kernel)

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* ---- device: dynamic shared memory ---- */

/* `type *name`: the dynamic shared memory of the block, 128-byte aligned, NaN or garbage. */
#if defined(__CUDACC__)
#define KERNEL_SHARED(type, name)                                                                  \
    extern __shared__ __align__(128) unsigned char kernel_shared_memory[];                         \
    type *name = reinterpret_cast<type *>(kernel_shared_memory)
#else
#define KERNEL_SHARED(type, name) type *name = reinterpret_cast<type *>(emulated_shared())
#endif

#if defined(__CUDACC__) || defined(WEFT_CUDA_EMULATED)

/* ---- device: bf16 ---- */

static __device__ __forceinline__ float f32_of_bf16(uint16_t value)
{
    return __uint_as_float((uint32_t)value << 16);
}

/* The two halves of a register, in order of address. */
static __device__ __forceinline__ float2 f32_of_pair(uint32_t pair)
{
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000u));
}

/* Rounded to nearest even: `low` goes to the lower address. */
static __device__ __forceinline__ uint32_t pair_of_f32(float low, float high)
{
#if defined(__CUDACC__)
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return (uint32_t)bf16_from_f32(low) | (uint32_t)bf16_from_f32(high) << 16;
#endif
}

static __device__ __forceinline__ uint16_t bf16_of_f32(float value)
{
    return (uint16_t)pair_of_f32(value, 0.0f);
}

static __device__ __forceinline__ float load_f32(const float *p)
{
    return *p;
}
static __device__ __forceinline__ float load_f32(const uint16_t *p)
{
    return f32_of_bf16(*p);
}
static __device__ __forceinline__ void store_f32(float *p, float value)
{
    *p = value;
}
static __device__ __forceinline__ void store_f32(uint16_t *p, float value)
{
    *p = bf16_of_f32(value);
}

/* ---- device: 16 bytes at once ---- */

/* Elements of T in 16 bytes. */
template <typename T> struct pack {
    static constexpr int size = 16 / (int)sizeof(T);
};

static __device__ __forceinline__ uint4 load_16(const void *p)
{
#if !defined(__CUDACC__)
    emulated_check_aligned(p, 16);
#endif
    return *static_cast<const uint4 *>(p);
}

static __device__ __forceinline__ void store_16(void *p, uint4 value)
{
#if !defined(__CUDACC__)
    emulated_check_aligned(p, 16);
#endif
    *static_cast<uint4 *>(p) = value;
}

/* pack<T>::size consecutive elements as f32; p is 16-byte aligned. */
static __device__ __forceinline__ void load_pack(const float *p, float *x)
{
    uint4 v = load_16(p);
    x[0] = __uint_as_float(v.x);
    x[1] = __uint_as_float(v.y);
    x[2] = __uint_as_float(v.z);
    x[3] = __uint_as_float(v.w);
}

static __device__ __forceinline__ void load_pack(const uint16_t *p, float *x)
{
    uint4 v = load_16(p);
    const uint32_t word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 f = f32_of_pair(word[i]);
        x[2 * i] = f.x;
        x[2 * i + 1] = f.y;
    }
}

static __device__ __forceinline__ void store_pack(float *p, const float *x)
{
    store_16(p, make_uint4(__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]),
                           __float_as_uint(x[3])));
}

static __device__ __forceinline__ void store_pack(uint16_t *p, const float *x)
{
    store_16(p, make_uint4(pair_of_f32(x[0], x[1]), pair_of_f32(x[2], x[3]),
                           pair_of_f32(x[4], x[5]), pair_of_f32(x[6], x[7])));
}

/* ---- device: reductions, the same result in all lanes and threads ---- */

static __device__ __forceinline__ int lane_id(void)
{
    return (int)(threadIdx.x % WARP); /* blocks are one-dimensional where this is used */
}

/* The butterfly adds in one order for all lanes: a + b is b + a. */
template <typename T> static __device__ __forceinline__ T warp_sum(T x)
{
#pragma unroll
    for (int bits = WARP / 2; bits > 0; bits /= 2) {
        x += __shfl_xor_sync(0xFFFFFFFFu, x, bits);
    }
    return x;
}

/* The largest; NaN when there is one. */
static __device__ __forceinline__ float max_nan(float a, float b)
{
    return a != a || a > b ? a : b;
}

static __device__ __forceinline__ float warp_max(float x)
{
#pragma unroll
    for (int bits = WARP / 2; bits > 0; bits /= 2) {
        x = max_nan(x, __shfl_xor_sync(0xFFFFFFFFu, x, bits));
    }
    return x;
}

enum { BLOCK_SHARED = WARP + 1 }; /* length of `shared` */

/*
 * Over all threads of a one-dimensional block; `shared` holds BLOCK_SHARED of them. May be
 * called again with the same `shared` at once.
 */
template <typename T> static __device__ __forceinline__ T block_sum(T x, T *shared)
{
    x = warp_sum(x);
    int warps = (int)(blockDim.x / WARP);
    if (lane_id() == 0) shared[threadIdx.x / WARP] = x;
    __syncthreads();
    if (threadIdx.x < WARP) {
        T part = lane_id() < warps ? shared[lane_id()] : T(0);
        part = warp_sum(part);
        if (threadIdx.x == 0) shared[WARP] = part;
    }
    __syncthreads();
    T sum = shared[WARP];
    __syncthreads();
    return sum;
}

static __device__ __forceinline__ float block_max(float x, float *shared)
{
    x = warp_max(x);
    int warps = (int)(blockDim.x / WARP);
    if (lane_id() == 0) shared[threadIdx.x / WARP] = x;
    __syncthreads();
    if (threadIdx.x < WARP) {
        float part = lane_id() < warps ? shared[lane_id()] : -INFINITY;
        part = warp_max(part);
        if (threadIdx.x == 0) shared[WARP] = part;
    }
    __syncthreads();
    float most = shared[WARP];
    __syncthreads();
    return most;
}

/* ---- device: approximate functions ---- */

/* 2^x, relative error 2^-22; 0 at -infinity. */
static __device__ __forceinline__ float exp2_fast(float x)
{
#if defined(__CUDACC__)
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

/* ---- device: asynchronous copies from global to shared memory, 16 bytes a thread ---- */

/* Both addresses are 16-byte aligned. With `valid` false writes zeros and reads nothing. */
static __device__ __forceinline__ void cp_async_16(void *shared, const void *global, bool valid)
{
#if defined(__CUDACC__)
    uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes)
                 : "memory");
#else
    emulated_copy_issue(shared, global, 16, valid ? 16 : 0);
#endif
}

/* Makes the copies since the last commit a group. */
static __device__ __forceinline__ void cp_async_commit(void)
{
#if defined(__CUDACC__)
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emulated_copy_commit();
#endif
}

/* Waits until at most PENDING of this thread's groups are on their way. Other threads see the data
 * after a barrier. */
template <int PENDING> static __device__ __forceinline__ void cp_async_wait(void)
{
#if defined(__CUDACC__)
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#else
    emulated_copy_wait(PENDING);
#endif
}

/* ---- device: tensor cores. Layouts: PTX ISA, mma.m16n8k16 and mma.m16n8k8 ---- */

/*
 * d [16,8] = a [16,16] b [16,8] + c, bf16 products and f32 sums; d may be c. With g = lane / 4 and
 * t = lane % 4: a[r] is the pair of row g + 8 (r & 1), columns 2t + 8 (r >> 1) and the next; b[r]
 * the pair of column g, rows 2t + 8r and the next; d[i] row g + 8 (i >> 1), column 2t + (i & 1).
 */
static __device__ __forceinline__ void mma_m16n8k16_bf16(float d[4], const uint32_t a[4],
                                                         const uint32_t b[2], const float c[4])
{
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]),
                   "f"(c[1]), "f"(c[2]), "f"(c[3]));
#else
    emulated_mma_bf16(d, a, b, c);
#endif
}

/*
 * d [16,8] = a [16,8] b [8,8] + c with tf32 operands (f32 words of which 19 bits are read, see
 * tf32_of_f32): a[r] is row g + 8 (r & 1), column t + 4 (r >> 1); b[r] column g, row t + 4r.
 */
static __device__ __forceinline__ void mma_m16n8k8_tf32(float d[4], const uint32_t a[4],
                                                        const uint32_t b[2], const float c[4])
{
#if defined(__CUDACC__)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]),
                   "f"(c[1]), "f"(c[2]), "f"(c[3]));
#else
    emulated_mma_tf32(d, a, b, c);
#endif
}

/* Rounds to tf32 (10 bits of mantissa), to nearest, ties away from zero. */
static __device__ __forceinline__ uint32_t tf32_of_f32(float value)
{
#if defined(__CUDACC__)
    uint32_t word;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(value));
    return word;
#else
    uint32_t word = __float_as_uint(value);
    return (word & 0x7F800000u) == 0x7F800000u ? word : (word + 0x1000u) & 0xFFFFE000u;
#endif
}

/*
 * Four 8x8 matrices of 16-bit elements from shared memory: lane 8m + i gives the address of row i
 * of matrix m (16 bytes, aligned). d[m]: row lane / 4, columns 2 (lane % 4) and the next.
 */
static __device__ __forceinline__ void ldmatrix_x4(uint32_t d[4], const void *row)
{
#if defined(__CUDACC__)
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(at)
                 : "memory");
#else
    emulated_ldmatrix(d, 4, false, row);
#endif
}

/* The same of the transposed matrices: d[m] is column lane / 4, rows 2 (lane % 4) and the next. */
static __device__ __forceinline__ void ldmatrix_x4_transposed(uint32_t d[4], const void *row)
{
#if defined(__CUDACC__)
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(at)
                 : "memory");
#else
    emulated_ldmatrix(d, 4, true, row);
#endif
}

/* Two matrices, by the addresses of lanes 0 to 15; the other lanes give any aligned address. */
static __device__ __forceinline__ void ldmatrix_x2(uint32_t d[2], const void *row)
{
#if defined(__CUDACC__)
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(d[0]), "=r"(d[1])
                 : "r"(at)
                 : "memory");
#else
    emulated_ldmatrix(d, 2, false, row);
#endif
}

static __device__ __forceinline__ void ldmatrix_x2_transposed(uint32_t d[2], const void *row)
{
#if defined(__CUDACC__)
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(d[0]), "=r"(d[1])
                 : "r"(at)
                 : "memory");
#else
    emulated_ldmatrix(d, 2, true, row);
#endif
}

#endif /* __CUDACC__ or emulated */

#endif
