/*
 * Threads of a loader: what they keep, their clocks, and the processors they run on.
 *
 * The consumer's thread is usually pinned to one processor, and a new thread inherits that. So
 * loader threads are given the processors of the rank: those that threads of this process are
 * pinned to (launch pins one computing thread to each), or, where none is pinned, all that it may
 * use. Helper threads of the MPI library often may use the whole host, and say nothing about this
 * rank.
 */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/loader/loader_impl.h"

double worker_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

enum status worker_init(struct loader_worker *worker, struct loader *loader)
{
    worker->loader = loader;
    worker->since = worker_now();
    pthread_mutex_init(&worker->lock, NULL);
    if (!loader->options.tokenizer) return STATUS_OK;
    return tokenizer_scratch_create(loader->options.tokenizer, &worker->scratch);
}

void worker_fini(struct loader_worker *worker)
{
    if (!worker->loader) return;
    store_image_fini(&worker->image);
    store_text_fini(&worker->text);
    store_boxes_fini(&worker->boxes);
    image_fini(&worker->decoded);
    image_fini(&worker->moved);
    image_workspace_fini(&worker->workspace);
    tokenizer_scratch_destroy(&worker->scratch);
    encoding_fini(&worker->encoding);
    free(worker->corners);
    free(worker->gone);
    pthread_mutex_destroy(&worker->lock);
}

void worker_stage(struct loader_worker *worker, enum loader_stage stage)
{
    pthread_mutex_lock(&worker->lock);
    double now = worker_now();
    worker->seconds[worker->stage] += now - worker->since;
    worker->since = now;
    worker->stage = stage;
    pthread_mutex_unlock(&worker->lock);
}

void worker_seconds(struct loader_worker *worker, double seconds[NUM_STAGES])
{
    pthread_mutex_lock(&worker->lock);
    for (int i = 0; i < NUM_STAGES; i++) {
        seconds[i] += worker->seconds[i];
    }
    seconds[worker->stage] += worker_now() - worker->since;
    pthread_mutex_unlock(&worker->lock);
}

/* The processors of this rank, see above. */
static void process_mask(cpu_set_t *mask)
{
    cpu_set_t pinned;
    CPU_ZERO(&pinned);
    CPU_ZERO(mask);
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; tasks && (entry = readdir(tasks));) {
        cpu_set_t one;
        int id = atoi(entry->d_name);
        if (id <= 0 || sched_getaffinity(id, sizeof one, &one) != 0) continue;
        CPU_OR(mask, mask, &one);
        if (CPU_COUNT(&one) == 1) CPU_OR(&pinned, &pinned, &one);
    }
    if (tasks) closedir(tasks);
    if (CPU_COUNT(&pinned) > 0) *mask = pinned;
    if (CPU_COUNT(mask) == 0) sched_getaffinity(0, sizeof *mask, mask);
}

int worker_processors(void)
{
    cpu_set_t mask;
    process_mask(&mask);
    return CPU_COUNT(&mask) > 0 ? CPU_COUNT(&mask) : 1;
}

enum status worker_start(struct loader_worker *worker, void *(*run)(void *))
{
    sigset_t all;
    sigset_t before;
    pthread_attr_t attributes;
    cpu_set_t mask;
    process_mask(&mask);
    pthread_attr_init(&attributes);
    /* Where the mask is refused the thread shares its creator's processors. */
    if (CPU_COUNT(&mask) > 0) pthread_attr_setaffinity_np(&attributes, sizeof mask, &mask);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&worker->thread, &attributes, run, worker);
    if (error == EINVAL) error = pthread_create(&worker->thread, NULL, run, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    CHECK(error == 0, STATUS_IO, "cannot start a thread for reading data: %s; lower data.threads",
          strerror(error));
    worker->started = true;
    return STATUS_OK;
}
