#include "launch/machine_probe.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/backend/cpu/matmul.h"

enum { TRIAD_LENGTH = 12 << 20, LEAST_RUNS = 3 };
#define PROBE_SECONDS 0.5

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Room for `count` f32 or bf16 elements, set to 1 so that pages exist and nothing is denormal. */
static void *ones(int64_t count, enum dtype dtype)
{
    size_t size = ((size_t)count * dtype_size(dtype) + 127) / 64 * 64;
    uint16_t *memory = aligned_alloc(64, size);
    for (size_t i = 0; memory && i < size / 2; i++) {
        memory[i] = dtype == DTYPE_BF16 || i % 2 ? 0x3f80 : 0; /* upper half of 1.0f */
    }
    return memory;
}

static enum status run_product(struct machine_probe *probe, struct cpu_matmul *matmul,
                               const struct cpu_matmul_run *run, double duration)
{
    double best = 1e30;
    double start_work = now(CLOCK_PROCESS_CPUTIME_ID);
    int runs = 0;
    double start = now(CLOCK_MONOTONIC);
    for (int i = 0; i < LEAST_RUNS || now(CLOCK_MONOTONIC) - start < duration; i++) {
        double begin = now(CLOCK_MONOTONIC);
        TRY(cpu_matmul_run(matmul, run));
        double seconds = now(CLOCK_MONOTONIC) - begin;
        if (seconds < best) best = seconds;
        runs++;
    }
    double flops = 2.0 * (double)probe->m * (double)probe->n * (double)probe->k;
    probe->flops = flops / best;
    double work = now(CLOCK_PROCESS_CPUTIME_ID) - start_work;
    probe->processor_flops = flops * runs * omp_get_max_threads() / work;
    return STATUS_OK;
}

enum status machine_probe_product(struct machine_probe *probe, double seconds)
{
    const struct cpu_matmul_spec spec = {.batch = 1,
                                         .m = probe->m,
                                         .n = probe->n,
                                         .k = probe->k,
                                         .transpose_b = true,
                                         .dtype_a = probe->dtype,
                                         .dtype_b = probe->dtype,
                                         .dtype_c = probe->dtype};
    struct cpu_matmul *matmul = NULL;
    size_t scratch = 0;
    TRY(cpu_matmul_create(&matmul, &spec, &scratch));
    struct cpu_matmul_run run = {.a = ones(probe->m * probe->k, probe->dtype),
                                 .b = ones(probe->k * probe->n, probe->dtype),
                                 .c = ones(probe->m * probe->n, probe->dtype),
                                 .scratch = aligned_alloc(64, (scratch + 127) / 64 * 64),
                                 .version = 1};
    enum status status =
        run.a && run.b && run.c && run.scratch
            ? run_product(probe, matmul, &run, seconds)
            : status_fail(STATUS_NO_MEMORY, "out of memory for measuring a matrix product");
    free(run.a);
    free(run.b);
    free(run.c);
    free(run.scratch);
    cpu_matmul_destroy(&matmul);
    return status;
}

static void run_triad(struct machine_probe *probe, float *a, const float *b, const float *c)
{
    double best = 1e30;
    double start = now(CLOCK_MONOTONIC);
    for (int run = 0; run < LEAST_RUNS || now(CLOCK_MONOTONIC) - start < PROBE_SECONDS; run++) {
        double begin = now(CLOCK_MONOTONIC);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < TRIAD_LENGTH; i++) {
            a[i] = b[i] + 0.5f * c[i];
        }
        double seconds = now(CLOCK_MONOTONIC) - begin;
        if (seconds < best) best = seconds;
    }
    probe->triad_length = TRIAD_LENGTH;
    probe->bytes = 3.0 * sizeof(float) * (double)TRIAD_LENGTH / best;
}

static enum status probe_triad(struct machine_probe *probe)
{
    float *a = ones(TRIAD_LENGTH, DTYPE_F32);
    float *b = ones(TRIAD_LENGTH, DTYPE_F32);
    float *c = ones(TRIAD_LENGTH, DTYPE_F32);
    bool ready = a && b && c;
    if (ready) run_triad(probe, a, b, c);
    free(a);
    free(b);
    free(c);
    CHECK(ready, STATUS_NO_MEMORY, "out of memory for measuring memory");
    return STATUS_OK;
}

enum status machine_probe_run(struct machine_probe *probe)
{
    TRY(machine_probe_product(probe, PROBE_SECONDS));
    return probe_triad(probe);
}
