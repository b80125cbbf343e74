/* What tests say to the emulator, and nothing where the library and the GPU are real. C and C++. */
#ifndef WEFT_TESTS_CUDA_EMULATED_H
#define WEFT_TESTS_CUDA_EMULATED_H

#include <stdint.h>

#if defined(WEFT_CUDA_EMULATED)
#include "tests/cuda/emulator/emulator.h"
#else
/* A GPU chooses the order of its threads by itself. */
static inline void emulated_seed(uint64_t seed)
{
    (void)seed;
}
#endif

#endif
