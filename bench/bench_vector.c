/*
 * The memory-bound kernels against STREAM triad: GB/s of the bytes that must move (each input read
 * once, each output written once), at the sizes of FIBER-Base.
 *
 * Every call works on another set of buffers; the sets of a row take WORKING_SET together, more
 * than the second-level caches hold and as much as an activation waits for its backward pass. Triad
 * runs between the kernel's calls, on as many sets of its own, moving the same number of bytes a
 * call. The time of a set is the least over the rounds, of a row the sum over its sets; so other
 * load on the machine disturbs both alike and little. The ceiling is triad with ordinary stores, as
 * STREAM has it; the note gives triad with stores that bypass the caches. With one thread
 * (OMP_NUM_THREADS=1) processor time is measured, which is the way on a machine with other load.
 *
 * usage: bench_vector [NAME-PART]
 */
#include <omp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/bf16.h"
#include "runtime/base/rng.h"
#include "runtime/ops/vector_kernels.h"

enum { WORKING_SET = 192 << 20, ROUNDS = 12 };

enum work {
    LAYERNORM_FWD,
    LAYERNORM_ADD_FWD,
    LAYERNORM_BWD,
    GELU_FWD,
    GELU_BWD,
    GELU_BOTH,
    SOFTMAX_FWD,
    SOFTMAX_BWD,
    CROSS_ENTROPY_FWD,
    CROSS_ENTROPY_BWD,
    DROPOUT,
    ADD,
    BIAS_ADD,
    COLUMN_SUM,
    CAST,
    ADAMW,
    SUM_SQUARES
};

/* Tensors read and written; `extra` f32 vectors of a row or column are small and not counted. */
static const struct {
    const char *name;
    int reads;
    int writes;
} works[] = {
    [LAYERNORM_FWD] = {"layernorm fwd", 1, 1},
    [LAYERNORM_ADD_FWD] = {"add + layernorm fwd", 2, 2},
    [LAYERNORM_BWD] = {"layernorm bwd", 2, 1},
    [GELU_FWD] = {"gelu fwd", 1, 1},
    [GELU_BWD] = {"gelu bwd", 2, 1},
    [GELU_BOTH] = {"gelu bwd + recompute", 2, 2},
    [SOFTMAX_FWD] = {"softmax fwd", 1, 1},
    [SOFTMAX_BWD] = {"softmax bwd", 2, 1},
    [CROSS_ENTROPY_FWD] = {"cross-entropy fwd", 1, 0},
    [CROSS_ENTROPY_BWD] = {"cross-entropy bwd", 1, 1},
    [DROPOUT] = {"dropout", 1, 1},
    [ADD] = {"add", 2, 1},
    [BIAS_ADD] = {"bias add", 1, 1},
    [COLUMN_SUM] = {"column sum", 1, 0},
    [CAST] = {"cast f32 to bf16", 1, 1},
    [ADAMW] = {"adamw", 4, 3},
    [SUM_SQUARES] = {"sum of squares", 1, 0},
};

struct row {
    enum work work;
    int64_t rows;
    int64_t cols;
};

static const struct row table[] = {
    {LAYERNORM_FWD, 2304, 512},     {LAYERNORM_FWD, 9216, 256},     {LAYERNORM_FWD, 36864, 128},
    {LAYERNORM_FWD, 9216, 512},     {LAYERNORM_ADD_FWD, 9216, 512}, {LAYERNORM_BWD, 2304, 512},
    {LAYERNORM_BWD, 9216, 256},     {LAYERNORM_BWD, 36864, 128},    {LAYERNORM_BWD, 9216, 512},
    {GELU_FWD, 2304, 2048},         {GELU_BWD, 2304, 2048},         {GELU_BOTH, 2304, 2048},
    {SOFTMAX_FWD, 36864, 144},      {SOFTMAX_BWD, 36864, 144},      {CROSS_ENTROPY_FWD, 64, 50265},
    {CROSS_ENTROPY_BWD, 64, 50265}, {DROPOUT, 4608, 768},           {ADD, 9216, 512},
    {BIAS_ADD, 9216, 512},          {COLUMN_SUM, 9216, 512},        {CAST, 1, 16 << 20},
    {ADAMW, 1, 16 << 20},           {SUM_SQUARES, 1, 16 << 20},
};

/* Processor time where one thread does all the work: it leaves out what other load takes. */
static double now(void)
{
    struct timespec t;
    clock_gettime(omp_get_max_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *allocate(size_t size)
{
    void *data = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    if (!data) {
        fprintf(stderr, "bench_vector: no memory for %zu bytes\n", size);
        exit(1);
    }
    return data;
}

static struct {
    float *column[4];
    float *per_row[4];
    int32_t *targets;
    void *scratch;
} small;

static void small_init(void)
{
    enum { MOST = 1 << 16 };
    for (int i = 0; i < 4; i++) {
        small.column[i] = allocate(MOST * sizeof(float));
        small.per_row[i] = allocate(MOST * sizeof(float));
        for (int k = 0; k < MOST; k++) {
            small.column[i][k] = small.per_row[i][k] = 1;
        }
    }
    small.targets = allocate(MOST * sizeof(int32_t));
    memset(small.targets, 0, MOST * sizeof(int32_t));
    small.scratch = allocate(8 << 20);
}

static void call(const struct row *row, void *const t[], enum vector_dtype dtype)
{
    const int64_t rows = row->rows;
    const int64_t cols = row->cols;
    const int64_t count = rows * cols;
    struct layernorm_fwd norm = {.x = t[0],
                                 .gamma = small.column[0],
                                 .beta = small.column[1],
                                 .y = t[1],
                                 .mean = small.per_row[0],
                                 .rstd = small.per_row[1],
                                 .rows = rows,
                                 .cols = cols,
                                 .eps = 1e-5F,
                                 .dtype = dtype};
    switch (row->work) {
    case LAYERNORM_ADD_FWD:
        norm.residual = t[2];
        norm.sum = t[3];
        layernorm_fwd_cpu(&norm);
        break;
    case LAYERNORM_FWD:
        layernorm_fwd_cpu(&norm);
        break;
    case LAYERNORM_BWD:
        layernorm_bwd_cpu(&(struct layernorm_bwd){.dy = t[0],
                                                  .x = t[1],
                                                  .mean = small.per_row[0],
                                                  .rstd = small.per_row[1],
                                                  .gamma = small.column[0],
                                                  .dx = t[2],
                                                  .dgamma = small.column[2],
                                                  .dbeta = small.column[3],
                                                  .scratch = small.scratch,
                                                  .rows = rows,
                                                  .cols = cols,
                                                  .dtype = dtype});
        break;
    case GELU_FWD:
        activation_fwd_cpu(ACTIVATION_GELU, t[0], t[1], count, dtype);
        break;
    case GELU_BWD:
        activation_bwd_cpu(ACTIVATION_GELU, t[0], t[1], t[2], count, dtype);
        break;
    case GELU_BOTH:
        activation_both_cpu(ACTIVATION_GELU, t[0], t[1], t[2], t[3], count, dtype);
        break;
    case SOFTMAX_FWD:
        softmax_fwd_cpu(t[0], t[1], rows, cols, 1, dtype);
        break;
    case SOFTMAX_BWD:
        softmax_bwd_cpu(t[0], t[1], t[2], rows, cols, 1, dtype);
        break;
    case CROSS_ENTROPY_FWD:
        (void)cross_entropy_fwd_cpu(&(struct cross_entropy_fwd){.logits = t[0],
                                                                .targets = small.targets,
                                                                .loss = small.per_row[0],
                                                                .lse = small.per_row[1],
                                                                .rows = rows,
                                                                .cols = cols,
                                                                .ignore_index = -100,
                                                                .dtype = dtype});
        break;
    case CROSS_ENTROPY_BWD:
        cross_entropy_bwd_cpu(&(struct cross_entropy_bwd){.logits = t[0],
                                                          .targets = small.targets,
                                                          .lse = small.per_row[1],
                                                          .dloss = small.per_row[2],
                                                          .dlogits = t[0],
                                                          .rows = rows,
                                                          .cols = cols,
                                                          .ignore_index = -100,
                                                          .dtype = dtype});
        break;
    case DROPOUT:
        dropout_cpu(&(struct dropout){.x = t[0],
                                      .y = t[1],
                                      .rows = rows,
                                      .per_row = cols,
                                      .samples = 4,
                                      .key = rng_key(1, RNG_DROPOUT, 1),
                                      .p = 0.1F,
                                      .dtype = dtype});
        break;
    case ADD:
        add_cpu(t[0], t[1], t[2], count, dtype);
        break;
    case BIAS_ADD:
        bias_add_cpu(t[0], small.column[0], t[1], rows, cols, dtype);
        break;
    case COLUMN_SUM:
        column_sum_cpu(t[0], small.column[2], small.scratch, rows, cols, dtype);
        break;
    case CAST:
        cast_cpu(t[0], VECTOR_F32, t[1], VECTOR_BF16, count);
        break;
    case ADAMW:
        adamw_cpu(&(struct adamw){.p = t[0],
                                  .g = t[1],
                                  .m = t[2],
                                  .v = t[3],
                                  .count = count,
                                  .step = 10,
                                  .lr = 1e-6,
                                  .beta1 = 0.9,
                                  .beta2 = 0.98,
                                  .eps = 1e-8,
                                  .weight_decay = 0.01,
                                  .gradient_scale = 1});
        break;
    default:
        sum_squares_cpu(t[0], small.scratch, (char *)small.scratch + 64, count);
    }
}

static void least(double *best, double seconds)
{
    if (seconds < *best) *best = seconds;
}

static void measure(const struct row *row, enum vector_dtype dtype, const char *filter)
{
    char name[80];
    snprintf(name, sizeof name, "%s %s [%lld,%lld]", works[row->work].name,
             dtype == VECTOR_BF16 ? "bf16" : "f32", (long long)row->rows, (long long)row->cols);
    if (filter && !strstr(name, filter)) return;
    const int64_t count = row->rows * row->cols;
    const int moved = works[row->work].reads + works[row->work].writes;
    const size_t size = (size_t)count * vector_dtype_size(dtype);
    const size_t bytes = row->work == CAST ? (size_t)count * 6 : size * (size_t)moved;
    int tensors = row->work == ADAMW ? 4 : moved;
    if (row->work == CROSS_ENTROPY_BWD) tensors = 1;
    const size_t stride = (size + 4095) / 4096 * 4096 + 4096; /* not a power of two apart */
    const size_t set = stride * (size_t)tensors;
    int sets = (int)(WORKING_SET / set);
    if (sets < 2) sets = 2;
    const int64_t triad = (int64_t)(bytes / 12);
    const size_t triad_stride = ((size_t)triad * 4 + 4095) / 4096 * 4096 + 4096;
    char *data = allocate(set * (size_t)sets);
    char *other = allocate(triad_stride * 3 * (size_t)sets);
    double *best = allocate((size_t)sets * 3 * sizeof *best);
    if (dtype == VECTOR_BF16 && row->work != CAST) {
        float f = 0;
        for (size_t i = 0; i < set * (size_t)sets / 2; i++) {
            f = f > 3 ? -3 : f + 0.37F;
            ((uint16_t *)data)[i] = bf16_from_f32(f);
        }
    } else {
        float f = 0;
        for (size_t i = 0; i < set * (size_t)sets / 4; i++) {
            f = f > 3 ? 0.01F : f + 0.37F; /* not negative: AdamW's second moment */
            ((float *)data)[i] = row->work == ADAMW ? f : f - 1.5F;
        }
    }
    memset(other, 0, triad_stride * 3 * (size_t)sets);
    for (int i = 0; i < 3 * sets; i++) {
        best[i] = 1e9;
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int s = 0; s < sets; s++) {
            void *t[4];
            for (int i = 0; i < tensors; i++) {
                t[i] = data + set * (size_t)s + stride * (size_t)i;
            }
            char *o = other + triad_stride * 3 * (size_t)s;
            double t0 = now();
            call(row, t, dtype);
            double t1 = now();
            triad_cpu((float *)o, (float *)(o + triad_stride), 0.5F,
                      (float *)(o + 2 * triad_stride), triad, round % 2);
            double t2 = now();
            least(&best[s], t1 - t0);
            least(&best[sets * (1 + round % 2) + s], t2 - t1);
        }
    }
    double seconds[3] = {0, 0, 0};
    for (int i = 0; i < 3 * sets; i++) {
        seconds[i / sets] += best[i] / sets;
    }
    const double rate = 1e-9 * (double)bytes / seconds[0];
    const double ceiling = 1e-9 * (double)triad * 12 / seconds[1];
    printf("%s\t%.1f\tGB/s\t%.1f\t%.2f\t%.1f MB a call, working set %.0f MiB; triad bypassing "
           "caches %.1f\n",
           name, rate, ceiling, rate / ceiling, 1e-6 * (double)bytes,
           (double)(set * (size_t)sets) / (1 << 20), 1e-9 * (double)triad * 12 / seconds[2]);
    fflush(stdout);
    free(data);
    free(other);
    free(best);
}

int main(int argc, char **argv)
{
    small_init();
    printf("# vector kernels, %s, %d threads\n", cpu_isa_name(vector_isa()), omp_get_max_threads());
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        measure(&table[i], VECTOR_F32, argc > 1 ? argv[1] : NULL);
        bool both = table[i].work != CAST && table[i].work != ADAMW && table[i].work != SUM_SQUARES;
        if (both) measure(&table[i], VECTOR_BF16, argc > 1 ? argv[1] : NULL);
    }
    return 0;
}
