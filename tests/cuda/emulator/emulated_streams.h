/* Between the files of the emulator's runtime interface. */
#ifndef WEFT_TESTS_CUDA_EMULATOR_EMULATED_STREAMS_H
#define WEFT_TESTS_CUDA_EMULATOR_EMULATED_STREAMS_H

#include <stdint.h>

#include "tests/cuda/emulator/cuda_runtime.h"

/* What a call returns: `error`, or that the device is broken; cudaGetLastError has it. */
cudaError_t emulated_result(cudaError_t error);

/* The device fails: every call from now on says so. */
void emulated_break(void);

/* A kernel ran. */
void emulated_ran(const char *kernel);

/* Around what touches device memory. They nest. */
void emulated_enter(void);
void emulated_leave(void);

/* Whether any stream records. */
bool emulated_is_recording(void);

/* Waits until all streams are done. */
cudaError_t emulated_drain(void);

/* The order in which streams take turns. */
void emulated_streams_seed(uint64_t seed);

#endif
