#include <cuda_runtime.h>
#include <stdio.h>

#include "runtime/backend/cuda/device.h"

static enum status cuda_check(cudaError_t error, const char *call)
{
    if (error == cudaSuccess) return STATUS_OK;
    return status_fail(STATUS_INTERNAL, "CUDA: %s in %s", cudaGetErrorString(error), call);
}

static enum status read_device(int index, struct cuda_device *device)
{
    cudaDeviceProp properties;
    TRY(cuda_check(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties"));
    TRY(cuda_check(cudaSetDevice(index), "cudaSetDevice"));
    TRY(cuda_check(cudaMemGetInfo(&device->free_bytes, &device->total_bytes), "cudaMemGetInfo"));
    snprintf(device->name, sizeof device->name, "%s", properties.name);
    device->major = properties.major;
    device->minor = properties.minor;
    return STATUS_OK;
}

extern "C" enum status cuda_device_list(struct cuda_device *devices, int capacity, int *count)
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
    for (int i = 0; i < found && i < capacity; i++) {
        TRY(read_device(i, &devices[i]));
        *count = i + 1;
    }
    return STATUS_OK;
}

static int chosen = -1;

extern "C" enum status cuda_device_use(int index)
{
    enum { MOST = 64 };
    struct cuda_device devices[MOST];
    int count = 0;
    TRY(cuda_device_list(devices, MOST, &count));
    CHECK(index >= 0 && index < count, STATUS_INVALID,
          "there is no GPU %d: this process sees %d (CUDA_VISIBLE_DEVICES)", index, count);
    const struct cuda_device *device = &devices[index];
    CHECK(device->major >= 8, STATUS_UNSUPPORTED,
          "GPU %d, %s, has compute capability %d.%d; bf16 needs 8.0 (Ampere) or newer; run on the "
          "CPU, or on another GPU (CUDA_VISIBLE_DEVICES)",
          index, device->name, device->major, device->minor);
    TRY(cuda_check(cudaSetDevice(index), "cudaSetDevice"));
    chosen = index;
    return STATUS_OK;
}

extern "C" enum status cuda_device_ready(void)
{
    if (chosen >= 0) return cuda_check(cudaSetDevice(chosen), "cudaSetDevice");
    return cuda_device_use(0);
}
