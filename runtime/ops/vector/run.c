/* Choosing the instruction set, and sharing work among threads. See impl.h. */
#include <assert.h>
#include <omp.h>
#include <stdatomic.h>

#include "runtime/ops/vector/impl.h"

/* The chosen level plus one; 0 until the first use. Racing first uses store the same value. */
static atomic_int chosen;

/*
 * Outputs from this size on bypass the caches. Measured on a chain of kernels that each read what
 * the one before wrote, 2 threads with 2 MiB of second-level cache each: at 2 MiB ordinary stores
 * are 5 % faster, at 3 MiB both are equal, from 12 MiB on bypassing is faster by a third.
 */
static int64_t stream_bytes = 3 << 20;

int64_t vector_stream_use(int64_t bytes)
{
    int64_t before = stream_bytes;
    stream_bytes = bytes;
    return before;
}

static const struct vector_table *table_of(enum cpu_isa isa)
{
    switch (isa) {
#if defined(__x86_64__)
    case CPU_ISA_AVX2:
        return &vector_table_avx2;
    case CPU_ISA_AVX512:
        return &vector_table_avx512;
    case CPU_ISA_AVX512BF16:
    case CPU_ISA_AMX:
        return &vector_table_avx512bf16;
#endif
    default:
        return &vector_table_scalar;
    }
}

enum cpu_isa vector_isa(void)
{
    int level = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (level == 0) {
        level = (int)cpu_isa() + 1;
        atomic_store_explicit(&chosen, level, memory_order_relaxed);
    }
    return (enum cpu_isa)(level - 1);
}

enum cpu_isa vector_isa_use(enum cpu_isa isa)
{
    enum cpu_isa best = cpu_isa();
    enum cpu_isa used = isa < best ? isa : best;
    atomic_store_explicit(&chosen, (int)used + 1, memory_order_relaxed);
    return used;
}

void vector_run(enum vector_op op, enum vector_dtype dtype, const void *args, int64_t count,
                int64_t grain, int64_t align)
{
    assert(count >= 0 && grain > 0 && align > 0);
    if (count <= 0) return;
    vector_slice slice = table_of(vector_isa())->slice[op][dtype];
    int64_t threads = omp_in_parallel() ? 1 : omp_get_max_threads();
    if (threads > count / grain) threads = count / grain;
    if (threads <= 1) {
        slice(args, 0, count);
        return;
    }
    int64_t units = (count + align - 1) / align;
#pragma omp parallel num_threads((int)threads)
    {
        int64_t index = omp_get_thread_num();
        int64_t team = omp_get_num_threads();
        int64_t begin = units * index / team * align;
        int64_t end = units * (index + 1) / team * align;
        if (end > count) end = count;
        if (begin < end) slice(args, begin, end);
    }
}

bool vector_streams(const void *y, int64_t count, int64_t row_elements, enum vector_dtype dtype,
                    bool in_place)
{
    int64_t size = (int64_t)vector_dtype_size(dtype);
    return !in_place && count * size >= stream_bytes && (uintptr_t)y % 64 == 0 &&
           row_elements * size % 64 == 0;
}

struct vector_parts vector_parts_of(int64_t elements)
{
    int64_t blocks = (elements + VECTOR_BLOCK - 1) / VECTOR_BLOCK;
    int64_t size = (blocks + VECTOR_PARTS - 1) / VECTOR_PARTS * VECTOR_BLOCK;
    if (size < VECTOR_GRAIN / 2) size = VECTOR_GRAIN / 2;
    return (struct vector_parts){(elements + size - 1) / size, size};
}

struct vector_parts vector_row_parts(int64_t rows, int64_t cols)
{
    int64_t least = VECTOR_GRAIN / 2 / (cols > 0 ? cols : 1); /* rows worth a part */
    int64_t size = (rows + VECTOR_PARTS - 1) / VECTOR_PARTS;
    /* A part also costs a row of partial results: at least 4 rows each. */
    if (size < least) size = least;
    if (size < 4) size = 4;
    return (struct vector_parts){(rows + size - 1) / size, size};
}

double vector_parts_sum(const double *partial, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += partial[i];
    }
    return sum;
}

void triad_cpu(const float *b, const float *c, float scalar, float *a, int64_t count, int streaming)
{
    struct vector_map args = {.a = b, .b = c, .y = a, .alpha = scalar};
    args.stream = streaming && (uintptr_t)a % 64 == 0;
    vector_run_elements(VECTOR_OP_triad, VECTOR_F32, &args, count);
}
