/* Pixels to floats on a GPU; grid.c says what they are. */
#include "runtime/ops/elementwise.cuh"

/* A thread takes SIZE pixels of an image, three bytes each, to three planes. */
template <typename T, bool WIDE>
static __global__ void __launch_bounds__(MAP_THREADS)
    pixels_kernel(const uint8_t *from, T *to, int64_t pixels, int64_t plane, struct pixel_attrs a)
{
    constexpr int SIZE = WIDE ? pack<T>::size : 1;
    int64_t begin = ((int64_t)blockIdx.x * MAP_THREADS + threadIdx.x) * SIZE;
    if (begin >= pixels) return;
    int64_t image = begin / plane;
    uint8_t bytes[3 * SIZE];
    if constexpr (WIDE) {
        /* 12 or 24 bytes, at a multiple of as many. */
        const uint32_t *words = reinterpret_cast<const uint32_t *>(from + 3 * begin);
#pragma unroll
        for (int i = 0; i < 3 * SIZE / 4; i++) {
            uint32_t word = words[i];
#pragma unroll
            for (int k = 0; k < 4; k++) {
                bytes[4 * i + k] = (uint8_t)(word >> 8 * k);
            }
        }
    } else {
        for (int i = 0; i < 3; i++) {
            bytes[i] = from[3 * begin + i];
        }
    }
#pragma unroll
    for (int c = 0; c < 3; c++) {
        T *out = to + (image * 3 + c) * plane + (begin - image * plane);
        float v[SIZE];
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            v[i] = (float)bytes[3 * i + c] * a.scale[c] + a.offset[c];
        }
        if constexpr (WIDE) {
            store_pack(out, v);
        } else {
            store_f32(out, v[0]);
        }
    }
}

template <typename T>
static enum status pixels_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    const struct pixel_attrs *attrs = NODE_ATTRS(kernel->node, struct pixel_attrs);
    int64_t plane = shape->dim[1] * shape->dim[2];
    int64_t pixels = shape->dim[0] * plane;
    const uint8_t *from = (const uint8_t *)kernel->in[0];
    T *to = (T *)kernel->out[0];
    if (pixels == 0) return STATUS_OK;
    if (plane % pack<T>::size == 0 && is_aligned_16(from) && is_aligned_16(to)) {
        unsigned blocks = (unsigned)ceil_div(pixels, MAP_THREADS * pack<T>::size);
        return CUDA_LAUNCH((pixels_kernel<T, true>), blocks, MAP_THREADS, 0, run->stream, from, to,
                           pixels, plane, *attrs);
    }
    unsigned blocks = (unsigned)ceil_div(pixels, MAP_THREADS);
    return CUDA_LAUNCH((pixels_kernel<T, false>), blocks, MAP_THREADS, 0, run->stream, from, to,
                       pixels, plane, *attrs);
}

static enum status pixels_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    FOR_FLOAT_TYPE(kernel->node->outputs[0].dtype, return pixels_typed<T>(kernel, run));
}

const struct cuda_op cuda_op_normalize_pixels = {&op_row_normalize_pixels, NULL, pixels_cuda, NULL,
                                                 NULL};
