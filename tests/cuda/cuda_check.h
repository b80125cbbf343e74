/* For tests of single kernels: arrays on the device, statuses that must be OK. C++. */
#ifndef WEFT_TESTS_CUDA_CUDA_CHECK_H
#define WEFT_TESTS_CUDA_CUDA_CHECK_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}

#include "runtime/backend/cuda/kernel.cuh"
#include "tests/cuda/emulated.h"

#define MUST_CUDA(expression)                                                                      \
    do {                                                                                           \
        if ((expression) != STATUS_OK) fail_msg("%s", status_message());                           \
    } while (0)

/* `count` elements of garbage (NaN in the emulator); an allocation of exactly that size. */
template <typename T> T *device_array(int64_t count)
{
    void *memory = NULL;
    MUST_CUDA(cuda_status(cudaMalloc(&memory, (size_t)count * sizeof(T)), "cudaMalloc"));
    return (T *)memory;
}

template <typename T> T *to_device(const T *values, int64_t count)
{
    T *memory = device_array<T>(count);
    MUST_CUDA(
        cuda_status(cudaMemcpy(memory, values, (size_t)count * sizeof(T), cudaMemcpyHostToDevice),
                    "cudaMemcpy"));
    return memory;
}

/* Waits for the kernels before it. */
template <typename T> void from_device(T *values, const T *memory, int64_t count)
{
    MUST_CUDA(cuda_status(cudaDeviceSynchronize(), "cudaDeviceSynchronize"));
    MUST_CUDA(
        cuda_status(cudaMemcpy(values, memory, (size_t)count * sizeof(T), cudaMemcpyDeviceToHost),
                    "cudaMemcpy"));
}

static inline void device_free(void *memory)
{
    MUST_CUDA(cuda_status(cudaFree(memory), "cudaFree"));
}

#endif
