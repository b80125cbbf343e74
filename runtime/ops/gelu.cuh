/* GELU, exact, for the op and for the products that end with it. */
#ifndef WEFT_RUNTIME_OPS_GELU_CUH
#define WEFT_RUNTIME_OPS_GELU_CUH

#include "runtime/backend/cuda/kernel.cuh"

/* 1 / sqrt(2), and 1 / sqrt(2 pi). */
#define ROOT_HALF 0.70710678f
#define DENSITY   0.39894228f

struct gelu_function {
    __device__ void operator()(const float *x, float *y) const
    {
        y[0] = 0.5f * x[0] * (1.0f + erff(x[0] * ROOT_HALF));
    }
};

static __device__ __forceinline__ float gelu_slope(float x)
{
    return 0.5f * (1.0f + erff(x * ROOT_HALF)) + x * DENSITY * expf(-0.5f * x * x);
}

#endif
