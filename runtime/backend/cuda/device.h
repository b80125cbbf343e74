/*
 * The GPUs of this machine. Built only where nvcc is found (WEFT_CUDA).
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_DEVICE_H
#define WEFT_RUNTIME_BACKEND_CUDA_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct comm;

/* What this build has for a GPU. */
enum cuda_code {
    CUDA_CODE_NONE,
    CUDA_CODE_MACHINE,
    CUDA_CODE_DRIVER /* PTX, which the driver compiles when it first runs, and keeps */
};

struct cuda_device {
    char name[256];
    int major; /* compute capability */
    int minor;
    size_t total_bytes;
    size_t free_bytes; /* this and `code`: 0 unless asked for */
    enum cuda_code code;
    char uuid[40]; /* "GPU-6ba7b810-...", as nvidia-smi -L says it */
    char bus[32];  /* "0000:9b:00.0", as in /sys/bus/pci/devices */
};

/*
 * Writes up to `capacity` devices and their number to *count. Uses memory on each of them, to ask
 * how much is free and what runs: for helpers that end soon. Not collective. Errors:
 * STATUS_UNSUPPORTED when there is no GPU, no driver, or a driver older than the CUDA runtime this
 * was built with; the message says which.
 */
enum status cuda_device_list(struct cuda_device *devices, int capacity, int *count);

/* How many GPUs this process sees. Uses none of them. Errors: those of cuda_device_list. */
enum status cuda_device_count(int *count);

/*
 * Makes GPU `index` the one that this process uses, for executors made later. Not collective.
 * Errors: those of cuda_device_list; STATUS_INVALID when there is no such GPU; STATUS_UNSUPPORTED
 * for one without bf16 (below compute capability 8.0), or one that this build has no code for.
 */
enum status cuda_device_use(int index);

/* The GPU in use, -1 before there is one; `device` (unless NULL) receives what it is, without
 * free_bytes. */
int cuda_device_used(struct cuda_device *device);

/* Whether this process has a GPU to use, the first one unless cuda_device_use said another. Errors:
 * those of cuda_device_use. */
enum status cuda_device_ready(void);

/* Whether WEFT_CUDA_SYNC asks that each op, and each update, is waited for. */
bool cuda_device_is_synchronous(void);

/* `status`, with its message telling whose GPU it was, once, where a call failed because of it
 * (STATUS_INTERNAL); `comm` NULL: as it is. */
enum status cuda_device_blame(const struct comm *comm, enum status status);

#ifdef __cplusplus
}
#endif
#endif
