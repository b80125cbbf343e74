/*
 * Rows of tables on a GPU; gather.c says what they are.
 *
 * The scatter-add sorts positions by row without float atomics: rows are counted (integers, whose
 * sum has no order), counts become starts, and one block walks the positions in order, so that a
 * row's positions stand in the order of the input. Then every row of the result has one owner.
 */
#include "runtime/ops/elementwise.cuh"

enum { GATHER_THREADS = 256, SORT_THREADS = 1024 };

/* A position without a row: padding, or an index that is out of range. */
static __device__ __forceinline__ bool is_row(int32_t index, int64_t rows, int64_t padding)
{
    return index >= 0 && index < rows && index != padding;
}

/* ---- gather ---- */

template <typename A, typename B, int SIZE>
static __global__ void __launch_bounds__(GATHER_THREADS)
    gather_kernel(const A *table, const int32_t *index, B *y, int64_t count, int64_t rows,
                  int64_t columns, int32_t *fault, int32_t number)
{
    int64_t begin = ((int64_t)blockIdx.x * GATHER_THREADS + threadIdx.x) * SIZE;
    if (begin >= count * columns) return;
    int64_t position = begin / columns;
    int32_t row = index[position];
    float v[SIZE] = {};
    if (row >= 0 && row < rows) {
        const A *from = table + row * columns + (begin - position * columns);
        for (int i = 0; i < SIZE; i += SIZE < pack<A>::size ? 1 : pack<A>::size) {
            if constexpr (SIZE < pack<A>::size) {
                v[i] = load_f32(from + i);
            } else {
                load_pack(from + i, v + i);
            }
        }
    } else {
        atomicMin(fault, number);
    }
    for (int i = 0; i < SIZE; i += SIZE < pack<B>::size ? 1 : pack<B>::size) {
        if constexpr (SIZE < pack<B>::size) {
            store_f32(y + begin + i, v[i]);
        } else {
            store_pack(y + begin + i, v + i);
        }
    }
}

template <typename A, typename B>
static enum status gather_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct shape *table = &kernel->node->inputs[0]->shape;
    int64_t rows = table->dim[0];
    int64_t columns = shape_span(table, 1, table->rank);
    int64_t count = shape_count(&kernel->node->inputs[1]->shape);
    const A *from = (const A *)kernel->in[0];
    const int32_t *index = (const int32_t *)kernel->in[1];
    B *to = (B *)kernel->out[0];
    if (count * columns == 0) return STATUS_OK;
    if (columns % 8 == 0 && is_aligned_16(from) && is_aligned_16(to)) {
        return CUDA_LAUNCH((gather_kernel<A, B, 8>),
                           (unsigned)ceil_div(count * columns, GATHER_THREADS * 8), GATHER_THREADS,
                           0, run->stream, from, index, to, count, rows, columns, run->fault,
                           run->number);
    }
    return CUDA_LAUNCH((gather_kernel<A, B, 1>),
                       (unsigned)ceil_div(count * columns, GATHER_THREADS), GATHER_THREADS, 0,
                       run->stream, from, index, to, count, rows, columns, run->fault, run->number);
}

static enum status gather_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    bool to_f32 = kernel->node->outputs[0].dtype == DTYPE_F32;
    if (dtype_of(kernel) == DTYPE_BF16) return gather_typed<uint16_t, uint16_t>(kernel, run);
    if (to_f32) return gather_typed<float, float>(kernel, run);
    return gather_typed<float, uint16_t>(kernel, run);
}

const struct cuda_op cuda_op_gather = {&op_row_gather, NULL, gather_cuda, NULL,
                                       "an index is outside the table"};

/* ---- scatter-add ---- */

static __global__ void __launch_bounds__(GATHER_THREADS)
    count_rows_kernel(const int32_t *index, int64_t count, int64_t rows, int64_t padding,
                      int32_t *counts, int32_t *fault, int32_t number)
{
    int64_t i = (int64_t)blockIdx.x * GATHER_THREADS + threadIdx.x;
    if (i >= count) return;
    int32_t row = index[i];
    if (is_row(row, rows, padding)) {
        atomicAdd(counts + row, 1);
    } else if (row != padding) {
        atomicMin(fault, number);
    }
}

/* One block: starts[r] = the positions of rows before r; cursor the same. */
static __global__ void __launch_bounds__(SORT_THREADS)
    start_rows_kernel(const int32_t *counts, int64_t rows, int32_t *starts, int32_t *cursor)
{
    __shared__ int32_t sums[SORT_THREADS];
    int64_t per = (rows + SORT_THREADS - 1) / SORT_THREADS;
    int64_t begin = (int64_t)threadIdx.x * per;
    int64_t end = begin + per < rows ? begin + per : rows;
    int32_t sum = 0;
    for (int64_t r = begin; r < end; r++) {
        sum += counts[r];
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int step = 1; step < SORT_THREADS; step *= 2) {
        int32_t before = (int)threadIdx.x >= step ? sums[threadIdx.x - step] : 0;
        __syncthreads();
        sums[threadIdx.x] += before;
        __syncthreads();
    }
    int32_t at = sums[threadIdx.x] - sum;
    for (int64_t r = begin; r < end; r++) {
        starts[r] = at;
        cursor[r] = at;
        at += counts[r];
    }
}

/* One block, chunk by chunk: a position's place is its row's cursor plus the equal rows before it
 * in the chunk; the last of a row moves the cursor. */
static __global__ void __launch_bounds__(SORT_THREADS)
    place_positions_kernel(const int32_t *index, int64_t count, int64_t rows, int64_t padding,
                           int32_t *cursor, int32_t *order)
{
    __shared__ int32_t chunk[SORT_THREADS];
    for (int64_t first = 0; first < count; first += SORT_THREADS) {
        int64_t i = first + threadIdx.x;
        int32_t row = i < count ? index[i] : -1;
        bool counts = is_row(row, rows, padding);
        chunk[threadIdx.x] = counts ? row : -1;
        __syncthreads();
        int before = 0;
        int size = count - first < SORT_THREADS ? (int)(count - first) : SORT_THREADS;
        bool last = counts;
        for (int k = 0; counts && k < size; k++) {
            if (chunk[k] != row) continue;
            before += k < (int)threadIdx.x;
            last = last && k <= (int)threadIdx.x;
        }
        int32_t place = counts ? cursor[row] + before : 0;
        if (counts) order[place] = (int32_t)i;
        __syncthreads();
        if (last) cursor[row] = place + 1;
        __syncthreads();
    }
}

/* blockIdx: a table row in x, a piece of its columns in y. */
template <typename T, typename U>
static __global__ void __launch_bounds__(GATHER_THREADS)
    sum_rows_kernel(const T *dy, const int32_t *counts, const int32_t *starts, const int32_t *order,
                    U *d, int64_t columns, bool adds)
{
    int64_t row = blockIdx.x;
    int64_t column = (int64_t)blockIdx.y * GATHER_THREADS + threadIdx.x;
    int32_t hits = counts[row];
    if (column >= columns || (adds && hits == 0)) return;
    float sum = adds ? load_f32(d + row * columns + column) : 0.0f;
    const int32_t *positions = order + starts[row];
    for (int32_t i = 0; i < hits; i++) {
        sum += load_f32(dy + positions[i] * columns + column);
    }
    store_f32(d + row * columns + column, sum);
}

/* Scratch: counts, starts and cursors by row, then the positions in order of their rows. */
static enum status scatter_prepare(struct kernel *kernel)
{
    int64_t rows = NODE_ATTRS(kernel->node, struct gather_attrs)->rows;
    int64_t count = shape_count(&kernel->node->inputs[1]->shape);
    kernel->scratch_size = (size_t)(3 * rows + count) * sizeof(int32_t);
    return STATUS_OK;
}

template <typename T, typename U>
static enum status scatter_typed(const struct kernel *kernel, const struct cuda_run *run)
{
    const struct gather_attrs *attrs = NODE_ATTRS(kernel->node, struct gather_attrs);
    const struct tensor *y = &kernel->node->outputs[0];
    int64_t rows = attrs->rows;
    int64_t columns = shape_span(&y->shape, 1, y->shape.rank);
    int64_t count = shape_count(&kernel->node->inputs[1]->shape);
    const int32_t *index = (const int32_t *)kernel->in[1];
    int32_t *counts = (int32_t *)kernel->scratch;
    int32_t *starts = counts + rows;
    int32_t *cursor = starts + rows;
    int32_t *order = cursor + rows;
    bool adds = kernel->adds || (kernel->accumulates && run->accumulate);
    if (rows * columns == 0) return STATUS_OK;
    CUDA_TRY(cudaMemsetAsync(counts, 0, (size_t)rows * sizeof *counts, run->stream));
    if (count > 0) {
        TRY(CUDA_LAUNCH(count_rows_kernel, (unsigned)ceil_div(count, GATHER_THREADS),
                        GATHER_THREADS, 0, run->stream, index, count, rows, attrs->padding, counts,
                        run->fault, run->number));
    }
    TRY(CUDA_LAUNCH(start_rows_kernel, 1, SORT_THREADS, 0, run->stream, counts, rows, starts,
                    cursor));
    TRY(CUDA_LAUNCH(place_positions_kernel, 1, SORT_THREADS, 0, run->stream, index, count, rows,
                    attrs->padding, cursor, order));
    dim3 grid((unsigned)rows, (unsigned)ceil_div(columns, GATHER_THREADS));
    return CUDA_LAUNCH((sum_rows_kernel<T, U>), grid, GATHER_THREADS, 0, run->stream,
                       (const T *)kernel->in[0], counts, starts, order, (U *)kernel->out[0],
                       columns, adds);
}

static enum status scatter_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    bool to_f32 = kernel->node->outputs[0].dtype == DTYPE_F32;
    if (dtype_of(kernel) == DTYPE_F32) return scatter_typed<float, float>(kernel, run);
    if (to_f32) return scatter_typed<uint16_t, float>(kernel, run);
    return scatter_typed<uint16_t, uint16_t>(kernel, run);
}

const struct cuda_op cuda_op_scatter_add = {&op_row_scatter_add, scatter_prepare, scatter_cuda,
                                            NULL, "an index is outside the table"};
