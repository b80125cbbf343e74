/*
 * Threads of this rank: how many, and on which processors.
 *
 * The processors this process may use (affinity mask: cgroup, mpirun binding, taskset) are divided
 * among the ranks of the host that share them; each OpenMP thread is pinned to one.
 * OMP_NUM_THREADS, when set, gives the number instead; more threads than processors are not pinned.
 */
#ifndef WEFT_RUNTIME_BACKEND_CPU_THREADS_H
#define WEFT_RUNTIME_BACKEND_CPU_THREADS_H

#include <stdbool.h>

#include "runtime/base/status.h"

struct cpu_threads {
    int num_threads;
    int num_processors; /* this process may use */
    bool pinned;
};

/*
 * Sizes and pins the OpenMP threads of this process, the `local_rank`-th of `local_size` on its
 * host. Call once, before the first parallel region. Not collective. Errors: STATUS_INVALID for an
 * OMP_NUM_THREADS that is not a number above 0.
 */
enum status cpu_threads_start(int local_rank, int local_size, struct cpu_threads *threads);

#endif
