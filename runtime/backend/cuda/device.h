/*
 * The GPUs of this machine. Built only where nvcc is found (WEFT_CUDA).
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_DEVICE_H
#define WEFT_RUNTIME_BACKEND_CUDA_DEVICE_H

#include <stddef.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cuda_device {
    char name[256];
    int major; /* compute capability */
    int minor;
    size_t total_bytes;
    size_t free_bytes;
};

/*
 * Writes up to `capacity` devices and their number to *count. Not collective. Errors:
 * STATUS_UNSUPPORTED when there is no GPU, no driver, or a driver older than the CUDA runtime this
 * was built with; the message says which.
 */
enum status cuda_device_list(struct cuda_device *devices, int capacity, int *count);

#ifdef __cplusplus
}
#endif
#endif
