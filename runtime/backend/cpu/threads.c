#include "runtime/backend/cpu/threads.h"

#include <errno.h>
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

/* Pins thread i of a parallel region to the i-th of `count` processors starting at `first` of
 * `mask`. */
static bool pin_threads(const cpu_set_t *mask, int first, int num_threads)
{
    int failures = 0;
#pragma omp parallel num_threads(num_threads) reduction(+ : failures)
    {
        int wanted = first + omp_get_thread_num();
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, mask) || wanted-- > 0) continue;
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            failures += sched_setaffinity(0, sizeof one, &one) != 0;
            break;
        }
    }
    return failures == 0;
}

static enum status threads_from_environment(int *count)
{
    const char *text = getenv("OMP_NUM_THREADS");
    *count = 0;
    if (!text || !*text) return STATUS_OK;
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    /* A list ("4,2") sets nested levels; the first number is ours. */
    CHECK(errno == 0 && end != text && (*end == '\0' || *end == ',') && value >= 1 && value <= 4096,
          STATUS_INVALID, "OMP_NUM_THREADS=%s: set it to a number of threads above 0, or unset it",
          text);
    *count = (int)value;
    return STATUS_OK;
}

enum status cpu_threads_start(int local_rank, int local_size, struct cpu_threads *threads)
{
    cpu_set_t mask;
    CPU_ZERO(&mask);
    int processors = 1;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) processors = CPU_COUNT(&mask);
    int wanted = 0;
    TRY(threads_from_environment(&wanted));
    /* A launcher that binds ranks gives each a mask of its own; without it they all see the host.
     */
    bool shares = local_size > 1 && processors >= (int)sysconf(_SC_NPROCESSORS_ONLN);
    int share = shares ? processors / local_size : processors;
    if (share < 1) share = 1;
    int num_threads = wanted ? wanted : share;
    omp_set_dynamic(0);
    omp_set_num_threads(num_threads);
    int first = shares ? local_rank * share : 0;
    bool fits = first + num_threads <= processors && num_threads <= share;
    *threads = (struct cpu_threads){.num_threads = num_threads, .num_processors = processors};
    threads->pinned = fits && pin_threads(&mask, first, num_threads);
    return STATUS_OK;
}
