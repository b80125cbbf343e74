/* What tests say to the emulator. C and C++. */
#ifndef WEFT_TESTS_CUDA_EMULATOR_EMULATOR_H
#define WEFT_TESTS_CUDA_EMULATOR_EMULATOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The order in which threads take turns from now on; at the start WEFT_EMULATED_SEED, or 1. */
void emulated_seed(uint64_t seed);

/* Device memory from now on; at the start WEFT_EMULATED_MEMORY (MiB), or 16 GiB. */
void emulated_memory(size_t bytes);

/* Kernels run so far. */
int64_t emulated_launches(void);

#ifdef __cplusplus
}
#endif
#endif
