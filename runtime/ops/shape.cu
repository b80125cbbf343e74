/*
 * Slices, padding, joins, permutations and rolls on a GPU; shape.c and grid.c say what they are.
 *
 * All of them move bytes, in the largest units (16 down to 1) that fit the runs, the strides and
 * the pointers.
 */
#include "runtime/ops/elementwise.cuh"

enum { COPY_THREADS = 256 };

/* The largest unit that divides everything that is or-ed together in `bits`. */
static size_t unit_of(uintptr_t bits)
{
    size_t unit = 16;
    while (bits % unit) {
        unit /= 2;
    }
    return unit;
}

/* Runs a statement with U as the unsigned type of `unit` bytes. */
#define FOR_UNIT(unit, ...)                                                                        \
    do {                                                                                           \
        if ((unit) == 16) {                                                                        \
            using U = uint4;                                                                       \
            __VA_ARGS__;                                                                           \
        } else if ((unit) == 8) {                                                                  \
            using U = uint2;                                                                       \
            __VA_ARGS__;                                                                           \
        } else if ((unit) == 4) {                                                                  \
            using U = uint32_t;                                                                    \
            __VA_ARGS__;                                                                           \
        } else if ((unit) == 2) {                                                                  \
            using U = uint16_t;                                                                    \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            using U = uint8_t;                                                                     \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

/* ---- runs: slice, pad and concat are one copy ---- */

/* Bytes: of a run that is written, from a start to the next one, of a run that is read; `shift` is
 * where in its run the first byte is read, below 0 or beyond the end there are zeros. */
struct runs {
    int64_t runs, written, to_stride, read, shift;
};

template <typename U>
static __global__ void __launch_bounds__(COPY_THREADS)
    copy_runs_kernel(U *to, const U *from, struct runs r)
{
    int64_t i = (int64_t)blockIdx.x * COPY_THREADS + threadIdx.x;
    if (i >= r.runs * r.written) return;
    int64_t run = i / r.written;
    int64_t c = i - run * r.written;
    int64_t source = c + r.shift;
    U value = {};
    if (source >= 0 && source < r.read) value = from[run * r.read + source];
    to[run * r.to_stride + c] = value;
}

static enum status copy_runs(void *to, const void *from, struct runs r, cudaStream_t stream)
{
    if (r.runs * r.written == 0) return STATUS_OK;
    int64_t unit = (int64_t)unit_of((uintptr_t)to | (uintptr_t)from | (uintptr_t)r.written |
                                    (uintptr_t)r.to_stride | (uintptr_t)r.read |
                                    (uintptr_t)(r.shift < 0 ? -r.shift : r.shift));
    r.written /= unit;
    r.to_stride /= unit;
    r.read /= unit;
    r.shift /= unit;
    unsigned blocks = (unsigned)ceil_div(r.runs * r.written, COPY_THREADS);
    FOR_UNIT(unit, return CUDA_LAUNCH(copy_runs_kernel<U>, blocks, COPY_THREADS, 0, stream, (U *)to,
                                      (const U *)from, r));
}

static int64_t inner_bytes(const struct tensor *x, int64_t axis)
{
    return shape_span(&x->shape, (int)axis + 1, x->shape.rank) * (int64_t)dtype_size(x->dtype);
}

static enum status slice_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct slice_attrs *attrs = NODE_ATTRS(kernel->node, struct slice_attrs);
    const struct tensor *x = kernel->node->inputs[0];
    int64_t inner = inner_bytes(x, attrs->axis);
    int64_t written = (attrs->end - attrs->begin) * inner;
    struct runs r = {shape_span(&x->shape, 0, (int)attrs->axis), written, written,
                     x->shape.dim[attrs->axis] * inner, attrs->begin * inner};
    return copy_runs(kernel->out[0], kernel->in[0], r, run->stream);
}

const struct cuda_op cuda_op_slice = {&op_row_slice, NULL, slice_cuda, NULL, NULL};

static enum status pad_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct slice_attrs *attrs = NODE_ATTRS(kernel->node, struct slice_attrs);
    const struct tensor *x = kernel->node->inputs[0];
    int64_t inner = inner_bytes(x, attrs->axis);
    int64_t written = attrs->size * inner;
    struct runs r = {shape_span(&x->shape, 0, (int)attrs->axis), written, written,
                     x->shape.dim[attrs->axis] * inner, -attrs->begin * inner};
    return copy_runs(kernel->out[0], kernel->in[0], r, run->stream);
}

const struct cuda_op cuda_op_pad = {&op_row_pad, NULL, pad_cuda, NULL, NULL};

static enum status concat_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    int64_t axis = NODE_ATTRS(kernel->node, struct slice_attrs)->axis;
    const struct tensor *y = &kernel->node->outputs[0];
    int64_t inner = inner_bytes(y, axis);
    char *to = (char *)kernel->out[0];
    for (int i = 0; i < kernel->node->num_inputs; i++) {
        int64_t length = kernel->node->inputs[i]->shape.dim[axis] * inner;
        struct runs r = {shape_span(&y->shape, 0, (int)axis), length, y->shape.dim[axis] * inner,
                         length, 0};
        TRY(copy_runs(to, kernel->in[i], r, run->stream));
        to += length;
    }
    return STATUS_OK;
}

const struct cuda_op cuda_op_concat = {&op_row_concat, NULL, concat_cuda, NULL, NULL};

/* ---- permute: units of the result, in order ---- */

/* The axes, and the run within the last of them. */
enum { PLACES = SHAPE_MAX_RANK + 1 };

struct places {
    int rank;
    int64_t dim[PLACES];    /* of the result, in units on the last axis */
    int64_t stride[PLACES]; /* of the source, in units */
};

template <typename U>
static __global__ void __launch_bounds__(COPY_THREADS)
    permute_kernel(U *to, const U *from, int64_t count, struct places p)
{
    int64_t i = (int64_t)blockIdx.x * COPY_THREADS + threadIdx.x;
    if (i >= count) return;
    int64_t rest = i;
    int64_t source = 0;
#pragma unroll
    for (int k = PLACES - 1; k >= 0; k--) {
        if (k >= p.rank) continue;
        int64_t next = rest / p.dim[k];
        source += (rest - next * p.dim[k]) * p.stride[k];
        rest = next;
    }
    to[i] = from[source];
}

static enum status permute_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct permute_attrs *attrs = NODE_ATTRS(kernel->node, struct permute_attrs);
    const struct tensor *x = kernel->node->inputs[0];
    const struct shape *out = &kernel->node->outputs[0].shape;
    int64_t size = (int64_t)dtype_size(x->dtype);
    int64_t count = shape_count(out);
    if (count == 0) return STATUS_OK;
    struct places p = {};
    int64_t stride[SHAPE_MAX_RANK];
    for (int i = 0; i < out->rank; i++) {
        stride[i] = shape_span(&x->shape, (int)attrs->axis[i] + 1, out->rank);
    }
    /* Trailing axes that stay together are one run of bytes. */
    int rank = out->rank;
    int64_t length = 1;
    while (rank > 0 && stride[rank - 1] == length) {
        length *= out->dim[--rank];
    }
    int64_t unit = (int64_t)unit_of((uintptr_t)(length * size) | (uintptr_t)kernel->in[0] |
                                    (uintptr_t)kernel->out[0]);
    for (int i = 0; i < rank; i++) {
        p.dim[i] = out->dim[i];
        p.stride[i] = stride[i] * size / unit;
    }
    p.rank = rank + 1;
    p.dim[rank] = length * size / unit;
    p.stride[rank] = 1;
    count = count * size / unit;
    unsigned blocks = (unsigned)ceil_div(count, COPY_THREADS);
    FOR_UNIT(unit, return CUDA_LAUNCH(permute_kernel<U>, blocks, COPY_THREADS, 0, run->stream,
                                      (U *)kernel->out[0], (const U *)kernel->in[0], count, p));
}

const struct cuda_op cuda_op_permute = {&op_row_permute, NULL, permute_cuda, NULL, NULL};

/* ---- roll ---- */

template <typename U>
static __global__ void __launch_bounds__(COPY_THREADS)
    roll_kernel(U *to, const U *from, int64_t count, int64_t height, int64_t width, int64_t pixel,
                int64_t dy, int64_t dx)
{
    int64_t i = (int64_t)blockIdx.x * COPY_THREADS + threadIdx.x;
    if (i >= count) return;
    int64_t at = i / pixel;
    int64_t row = at / width;
    int64_t image = row / height;
    int64_t y = row - image * height - dy;
    int64_t x = at - row * width - dx;
    if (y < 0) y += height;
    if (x < 0) x += width;
    to[i] = from[((image * height + y) * width + x) * pixel + (i - at * pixel)];
}

static enum status roll_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    const struct roll_attrs *attrs = NODE_ATTRS(kernel->node, struct roll_attrs);
    const struct tensor *x = kernel->node->inputs[0];
    int64_t bytes = x->shape.dim[3] * (int64_t)dtype_size(x->dtype);
    int64_t unit =
        (int64_t)unit_of((uintptr_t)bytes | (uintptr_t)kernel->in[0] | (uintptr_t)kernel->out[0]);
    int64_t count = (int64_t)tensor_bytes(x) / unit;
    if (count == 0) return STATUS_OK;
    unsigned blocks = (unsigned)ceil_div(count, COPY_THREADS);
    FOR_UNIT(unit, return CUDA_LAUNCH(roll_kernel<U>, blocks, COPY_THREADS, 0, run->stream,
                                      (U *)kernel->out[0], (const U *)kernel->in[0], count,
                                      x->shape.dim[1], x->shape.dim[2], bytes / unit, attrs->dy,
                                      attrs->dx));
}

const struct cuda_op cuda_op_roll = {&op_row_roll, NULL, roll_cuda, NULL, NULL};
