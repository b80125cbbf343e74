/*
 * A quick look at what this machine gives one rank: a matrix product and a triad, half a second
 * each, with the threads of this process. Not collective.
 */
#ifndef WEFT_LAUNCH_MACHINE_PROBE_H
#define WEFT_LAUNCH_MACHINE_PROBE_H

#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/graph/tensor.h"

struct machine_probe {
    int64_t m, n, k; /* of the product, set by the caller */
    enum dtype dtype;
    double flops;           /* per second, the best of the runs */
    double processor_flops; /* the mean by processor time over the threads, for a busy machine */
    double bytes;           /* per second of a triad on f32 arrays beyond the caches, the best */
    int64_t triad_length;   /* elements of each array */
};

/* Measures flops alone, for at least `seconds` and three runs. */
enum status machine_probe_product(struct machine_probe *probe, double seconds);

/* Measures flops and bytes of `probe`. Errors: STATUS_NO_MEMORY, those of the matrix library. */
enum status machine_probe_run(struct machine_probe *probe);

#endif
