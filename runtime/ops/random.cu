/*
 * Dropout and drop-path on a GPU: the numbers of runtime/base/rng.h, bit by bit; random.c says what
 * they are. Step and first sample are read from the values of the run.
 */
#include "runtime/base/rng.h"
#include "runtime/ops/column_sum.cuh"
#include "runtime/ops/rows.cuh"

struct draw {
    struct rng_key key;
    const struct cuda_values *values;
    int64_t per_row, samples;
    float p, scale;
};

static struct draw draw_of(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct random_attrs *attrs = NODE_ATTRS(kernel->node, struct random_attrs);
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    struct draw d = {};
    d.key = rng_key(run->seed, RNG_DROPOUT, attrs->site);
    d.values = run->values;
    d.per_row = shape_span(shape, 1, shape->rank);
    d.samples = attrs->samples;
    d.p = attrs->p;
    d.scale = 1.0f / (1.0f - attrs->p);
    return d;
}

/* Whether element `element` of sample `sample` of this rank is kept. A block of four numbers is
 * drawn when the one in `block` is another. */
static __device__ __forceinline__ bool is_kept(const struct draw *d, int64_t sample,
                                               int64_t element, struct rng_block *block,
                                               int64_t *drawn)
{
    if (*drawn != element / 4) {
        *drawn = element / 4;
        *block = rng_at(d->key, d->values->step, d->values->sample_base + (uint64_t)sample,
                        (uint32_t)(element / 4));
    }
    uint32_t word = element % 4 == 0   ? block->word[0]
                    : element % 4 == 1 ? block->word[1]
                    : element % 4 == 2 ? block->word[2]
                                       : block->word[3];
    return rng_uniform(word) >= d->p;
}

template <typename T, bool WIDE>
static __global__ void __launch_bounds__(MAP_THREADS)
    dropout_kernel(const T *x, T *y, int64_t count, struct draw d)
{
    constexpr int SIZE = pack<T>::size;
    int64_t begin = ((int64_t)blockIdx.x * MAP_THREADS + threadIdx.x) * SIZE;
    if (begin >= count) return;
    int size = count - begin < SIZE ? (int)(count - begin) : SIZE;
    float v[SIZE];
    load_some<T, WIDE>(x + begin, size, v);
    int64_t row = begin / d.per_row;
    int64_t column = begin - row * d.per_row;
    struct rng_block block = {};
    int64_t drawn = -1;
#pragma unroll
    for (int i = 0; i < SIZE; i++) {
        int64_t element = row / d.samples * d.per_row + column;
        bool kept = is_kept(&d, row % d.samples, element, &block, &drawn);
        v[i] = kept ? v[i] * d.scale : 0.0f;
        if (++column == d.per_row) {
            column = 0;
            row++;
            drawn = -1; /* another sample */
        }
    }
    store_some<T, WIDE>(y + begin, size, v);
}

template <typename T>
static enum status dropout_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    int64_t count = count_of(kernel);
    const T *x = (const T *)kernel->in[0];
    T *y = (T *)kernel->out[0];
    return LAUNCH_PACKS(dropout_kernel, T, count, ADDRESS(x) | ADDRESS(y), run->stream, x, y, count,
                        draw_of(kernel, run));
}

CUDA_OP_BY_TYPE(dropout, NULL, NULL)

/* ---- drop-path: a draw for each row; x NULL stands for zeros ---- */

static __device__ __forceinline__ bool is_row_kept(const struct draw *d, int64_t row)
{
    struct rng_block block = {};
    int64_t drawn = -1;
    return is_kept(d, row % d->samples, row / d->samples, &block, &drawn);
}

/* Five blocks: with less room for registers some spill. */
template <typename T, bool WIDE>
static __global__ void __launch_bounds__(MAP_THREADS, 5)
    drop_path_kernel(const T *x, const T *branch, T *y, int64_t count, struct draw d)
{
    constexpr int SIZE = pack<T>::size;
    int64_t begin = ((int64_t)blockIdx.x * MAP_THREADS + threadIdx.x) * SIZE;
    if (begin >= count) return;
    int size = count - begin < SIZE ? (int)(count - begin) : SIZE;
    float v[SIZE] = {};
    float b[SIZE];
    if (x) load_some<T, WIDE>(x + begin, size, v);
    load_some<T, WIDE>(branch + begin, size, b);
    int64_t row = begin / d.per_row;
    int64_t end_of_row = (row + 1) * d.per_row;
    bool kept = is_row_kept(&d, row);
#pragma unroll
    for (int i = 0; i < SIZE; i++) {
        if (begin + i == end_of_row) {
            end_of_row += d.per_row;
            kept = is_row_kept(&d, ++row);
        }
        /* What is dropped may be anything, NaN too. */
        if (kept) v[i] += b[i] * d.scale;
    }
    store_some<T, WIDE>(y + begin, size, v);
}

template <typename T>
static enum status drop_path_of(const struct kernel *kernel, const struct cuda_run *run, const T *x,
                                const T *branch)
{
    int64_t count = count_of(kernel);
    T *y = (T *)kernel->out[0];
    return LAUNCH_PACKS(drop_path_kernel, T, count, ADDRESS(x) | ADDRESS(branch) | ADDRESS(y),
                        run->stream, x, branch, y, count, draw_of(kernel, run));
}

template <typename T>
static enum status add_drop_path_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    return drop_path_of<T>(kernel, run, (const T *)kernel->in[0], (const T *)kernel->in[1]);
}

CUDA_OP_BY_TYPE(add_drop_path, NULL, NULL)

/* The gradient of a branch, which also gives what it writes to a sum of columns: the bias of the
 * linear layer at the branch's end has that for a gradient. Rows are whole in 16 bytes. */
template <typename T, bool WIDE> struct drop_path_summed {
    const T *x;
    T *y;
    struct draw d;
    __device__ void operator()(int64_t at, float *v) const
    {
        constexpr int SIZE = WIDE ? pack<T>::size : 1;
        bool kept = is_row_kept(&d, at / d.per_row);
        load_function<T, WIDE>{x}(at, v);
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            v[i] = kept ? rounded<T>(0.0f + v[i] * d.scale) : 0.0f;
        }
        store_columns<SIZE>(y + at, v);
    }
};

static enum status drop_path_prepare(struct kernel *kernel)
{
    const struct shape *shape = &kernel->node->outputs[0].shape;
    if (kernel->sums) {
        kernel->scratch_size = column_sum_scratch(1, rows_of(shape), columns_of(shape));
    }
    return STATUS_OK;
}

template <typename T>
static enum status drop_path_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *shape = &kernel->node->outputs[0].shape;
    const T *x = (const T *)kernel->in[0];
    T *y = (T *)kernel->out[0];
    if (!kernel->sums) return drop_path_of<T>(kernel, run, NULL, x);
    return column_sum_of<drop_path_summed, T>(
        ADDRESS(x) | ADDRESS(y), (float *)kernel->out[1], 1, rows_of(shape), columns_of(shape),
        1.0f, false, kernel->scratch, run->stream, x, y, draw_of(kernel, run));
}

static enum status drop_path_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    FOR_FLOAT_TYPE(dtype_of(kernel), return drop_path_typed<T>(kernel, run));
}

const struct cuda_op cuda_op_drop_path = {
    &op_row_drop_path, drop_path_prepare, drop_path_cuda, NULL, NULL, true};
