/* One piece of work on a thread of its own, whose failure comes back to the thread that joins. */
#ifndef WEFT_RUNTIME_CHECKPOINT_BACKGROUND_H
#define WEFT_RUNTIME_CHECKPOINT_BACKGROUND_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "runtime/base/status.h"

struct background {
    pthread_t thread;
    bool running; /* started and not joined; for the starting thread */
    atomic_bool done;
    enum status (*work)(void *argument);
    void *argument;
    enum status status;
    char message[1024];
};

/* Runs `work(argument)`. The thread takes no signals. Errors: STATUS_NO_MEMORY. */
enum status background_start(struct background *background, enum status (*work)(void *argument),
                             void *argument);

/* Whether the work has ended, or nothing was started. */
bool background_is_done(const struct background *background);

/* Waits for the end and returns the work's status with its message; STATUS_OK when nothing was
 * started. */
enum status background_join(struct background *background);

#endif
