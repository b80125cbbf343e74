/* What the benchmarks share: time, memory, and the rows that bench/run puts into its table. */
#ifndef WEFT_BENCH_BENCH_H
#define WEFT_BENCH_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/status.h"

static inline double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline void bench_least(double *least, double value)
{
    if (value < *least) *least = value;
}

static inline void bench_must(enum status status)
{
    if (status == STATUS_OK) return;
    fprintf(stderr, "%s\n", status_message());
    exit(1);
}

/* Zeroed memory that has been touched, 64-byte aligned; free() it. */
static inline void *bench_memory(size_t size)
{
    size = (size + 127) / 64 * 64;
    void *memory = aligned_alloc(64, size);
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    memset(memory, 0, size);
    return memory;
}

/* One row: the figure, and its ratio to a ceiling measured in the same run (0: none). */
static inline void bench_row(const char *name, double value, const char *unit, double ceiling,
                             const char *note)
{
    if (ceiling > 0) {
        printf("%s\t%.1f\t%s\t%.1f\t%.2f\t%s\n", name, value, unit, ceiling, value / ceiling, note);
    } else {
        printf("%s\t%.1f\t%s\t-\t-\t%s\n", name, value, unit, note);
    }
    fflush(stdout);
}

#endif
