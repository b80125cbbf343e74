#include <ctype.h>
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/backend/cuda/device.h"
#include "runtime/comm/comm.h"

static enum status cuda_check(cudaError_t error, const char *call)
{
    if (error == cudaSuccess) return STATUS_OK;
    return status_fail(STATUS_INTERNAL, "CUDA: %s in %s", cudaGetErrorString(error), call);
}

static __global__ void probe_kernel(void)
{
}

/* Ways to say that there is no machine code, and no PTX that this driver compiles. */
static bool is_without_code(cudaError_t error)
{
    return error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
           error == cudaErrorUnsupportedPtxVersion || error == cudaErrorJitCompilerNotFound ||
           error == cudaErrorJitCompilationDisabled;
}

/* What this build has for the current GPU. */
static enum status find_code(enum cuda_code *code)
{
    cudaFuncAttributes kernel;
    cudaError_t error = cudaFuncGetAttributes(&kernel, probe_kernel);
    *code = CUDA_CODE_NONE;
    if (is_without_code(error)) {
        cudaGetLastError();
        return STATUS_OK;
    }
    TRY(cuda_check(error, "cudaFuncGetAttributes"));
    *code = kernel.binaryVersion > kernel.ptxVersion ? CUDA_CODE_DRIVER : CUDA_CODE_MACHINE;
    return STATUS_OK;
}

/* What can be known of a GPU without using it. */
static enum status describe(int index, struct cuda_device *device)
{
    cudaDeviceProp properties;
    TRY(cuda_check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties"));
    memset(device, 0, sizeof *device);
    snprintf(device->name, sizeof device->name, "%s", properties.name);
    device->major = properties.major;
    device->minor = properties.minor;
    device->total_bytes = properties.totalGlobalMem;
    size_t length = (size_t)snprintf(device->uuid, sizeof device->uuid, "GPU-");
    for (int i = 0; i < 16; i++) {
        bool dash = i == 4 || i == 6 || i == 8 || i == 10;
        length += (size_t)snprintf(device->uuid + length, sizeof device->uuid - length, "%s%02x",
                                   dash ? "-" : "", (unsigned char)properties.uuid.bytes[i]);
    }
    TRY(cuda_check(cudaDeviceGetPCIBusId(device->bus, (int)sizeof device->bus, index),
                   "cudaDeviceGetPCIBusId"));
    for (char *at = device->bus; *at; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    return STATUS_OK;
}

extern "C" enum status cuda_device_count(int *count)
{
    int runtime = 0;
    int driver = 0;
    *count = 0;
    TRY(cuda_check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion"));
    TRY(cuda_check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion"));
    CHECK(driver > 0, STATUS_UNSUPPORTED,
          "no NVIDIA driver on this machine; install one, or run on the CPU");
    CHECK(driver >= runtime / 1000 * 1000, STATUS_UNSUPPORTED,
          "the NVIDIA driver speaks CUDA %d.%d, older than the %d.%d this was built with; update "
          "the driver",
          driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    int found = 0;
    cudaError_t error = cudaGetDeviceCount(&found);
    CHECK(error != cudaErrorNoDevice && found > 0, STATUS_UNSUPPORTED,
          "no GPU is visible to this process (%s); check nvidia-smi and CUDA_VISIBLE_DEVICES",
          cudaGetErrorString(error));
    TRY(cuda_check(error, "cudaGetDeviceCount"));
    *count = found;
    return STATUS_OK;
}

extern "C" enum status cuda_device_list(struct cuda_device *devices, int capacity, int *count)
{
    int found = 0;
    *count = 0;
    TRY(cuda_device_count(&found));
    for (int i = 0; i < found && i < capacity; i++) {
        TRY(describe(i, &devices[i]));
        TRY(cuda_check(cudaSetDevice(i), "cudaSetDevice"));
        TRY(cuda_check(cudaMemGetInfo(&devices[i].free_bytes, &devices[i].total_bytes),
                       "cudaMemGetInfo"));
        TRY(find_code(&devices[i].code));
        *count = i + 1;
    }
    return STATUS_OK;
}

static int chosen = -1;
static struct cuda_device chosen_device;

extern "C" enum status cuda_device_use(int index)
{
    int count = 0;
    struct cuda_device device;
    TRY(cuda_device_count(&count));
    CHECK(index >= 0 && index < count, STATUS_INVALID,
          "there is no GPU %d: this process sees %d (CUDA_VISIBLE_DEVICES)", index, count);
    TRY(describe(index, &device));
    CHECK(device.major >= 8, STATUS_UNSUPPORTED,
          "GPU %d, %s, has compute capability %d.%d; bf16 needs 8.0 (Ampere) or newer; run on the "
          "CPU, or on another GPU (CUDA_VISIBLE_DEVICES)",
          index, device.name, device.major, device.minor);
    TRY(cuda_check(cudaSetDevice(index), "cudaSetDevice"));
    TRY(find_code(&device.code));
    CHECK(device.code != CUDA_CODE_NONE, STATUS_UNSUPPORTED,
          "GPU %d, %s, has compute capability %d.%d, which this weft was not built for; build it "
          "without FAST=1, or with CUDA_ARCHS=%d%d",
          index, device.name, device.major, device.minor, device.major, device.minor);
    chosen = index;
    chosen_device = device;
    return STATUS_OK;
}

extern "C" int cuda_device_used(struct cuda_device *device)
{
    if (device) *device = chosen_device;
    return chosen;
}

extern "C" enum status cuda_device_ready(void)
{
    if (chosen >= 0) return cuda_check(cudaSetDevice(chosen), "cudaSetDevice");
    return cuda_device_use(0);
}

extern "C" bool cuda_device_is_synchronous(void)
{
    const char *text = getenv("WEFT_CUDA_SYNC");
    return text && strcmp(text, "0") != 0;
}

extern "C" enum status cuda_device_blame(const struct comm *comm, enum status status)
{
    char whose[512];
    if (status != STATUS_INTERNAL || !comm) return status;
    snprintf(whose, sizeof whose, "rank %d on %s: GPU %d, %s", comm->rank, comm->host, chosen,
             chosen_device.name);
    if (strncmp(status_message(), whose, strlen(whose)) == 0) return status;
    return status_prefix(status, "%s", whose);
}
