/*
 * What the parts of bench/gpu share: the device's ceilings, how things are timed, and rows.
 *
 * Every figure has its ceiling from the same process: copy bandwidth, and the best product that
 * cuBLASLt has. Times are medians between CUDA events; before each, a buffer larger than the L2
 * cache is written, so that operands come from memory, and the launch that follows hides behind it.
 */
#ifndef WEFT_BENCH_GPU_BENCH_H
#define WEFT_BENCH_GPU_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;
struct executor;

enum gpu_product { GPU_BF16, GPU_TF32, GPU_F32, GPU_PRODUCTS };

struct gpu_bench {
    bool quick;  /* tiny sizes, few repetitions: to see that everything runs */
    int repeats; /* of a timing */
    char device[256];
    double copy;                  /* bytes read and written a second */
    double product[GPU_PRODUCTS]; /* FLOP/s of a large product */
    double peak;                  /* the vendor's dense bf16 FLOP/s; 0: a device we do not know */
    struct CUstream_st *stream;   /* of all timings */
    void *flush;                  /* more than the L2 cache */
    size_t flush_bytes;
    const char *section; /* of the rows that follow */
    bool timed[512];     /* ops of the table that a walk has met */
};

/* Looks at the device that this process uses. Errors: those of cuda_device_use. */
enum status gpu_bench_init(struct gpu_bench *bench);
void gpu_bench_fini(struct gpu_bench *bench);

/* Bytes of the device's memory in use, by anyone. */
enum status gpu_bench_used(size_t *bytes);

/* Work that is timed: enqueues itself and returns. */
struct gpu_work {
    enum status (*enqueue)(void *user, struct CUstream_st *stream);
    void *user;
};

/* Seconds of `work`: the median of `repeats` after one that does not count. */
enum status gpu_bench_time(struct gpu_bench *bench, struct gpu_work work, int repeats,
                           double *seconds);

/* Fills `bytes` of device memory with numbers in [-1, 1), as bf16 pairs or f32. */
enum status gpu_bench_fill(struct gpu_bench *bench, void *memory, size_t bytes, bool bf16);

/*
 * A row: a figure, its ceiling (0: none) and a bar for their ratio (0: none; below 0: the ratio may
 * be at most -bar). Printed as: row TAB section TAB name TAB figure TAB unit TAB ceiling TAB ratio
 * TAB bar TAB met|missed|- TAB note.
 */
struct gpu_row {
    const char *name;
    double figure;
    const char *unit;
    double ceiling;
    double ratio; /* 0: figure / ceiling */
    double bar;
    const char *note;
};
void gpu_bench_row(const struct gpu_bench *bench, struct gpu_row row);

/* The sections. */
enum status gpu_copy(struct gpu_bench *bench);              /* and bench.copy */
enum status gpu_products(struct gpu_bench *bench);          /* large products, and bench.product */
enum status gpu_layers(struct gpu_bench *bench, int batch); /* FIBER-Base's products */
enum status gpu_ops(struct gpu_bench *bench, int batch);    /* every op of a step, and the others */
enum status gpu_swin(struct gpu_bench *bench, int batch);
enum status gpu_step(struct gpu_bench *bench, int batch);

/*
 * Runs a step op by op on real data, timing each distinct one where it stands. `label` is part of
 * the rows' names; at most `rows` of them, those that take the longest, are printed one by one.
 */
enum status gpu_walk(struct gpu_bench *bench, struct executor *executor, const char *label,
                     int rows);

#ifdef __cplusplus
}
#endif
#endif
