#include "runtime/checkpoint/background.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static void *run(void *argument)
{
    struct background *background = argument;
    background->status = background->work(background->argument);
    if (background->status != STATUS_OK) {
        snprintf(background->message, sizeof background->message, "%s", status_message());
    }
    atomic_store(&background->done, true);
    return NULL;
}

enum status background_start(struct background *background, enum status (*work)(void *argument),
                             void *argument)
{
    background->work = work;
    background->argument = argument;
    background->status = STATUS_OK;
    atomic_store(&background->done, false);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&background->thread, NULL, run, background);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    CHECK(error == 0, STATUS_NO_MEMORY, "cannot start a thread: %s", strerror(error));
    background->running = true;
    return STATUS_OK;
}

bool background_is_done(const struct background *background)
{
    return !background->running || atomic_load(&background->done);
}

enum status background_join(struct background *background)
{
    if (!background->running) return STATUS_OK;
    pthread_join(background->thread, NULL);
    background->running = false;
    if (background->status == STATUS_OK) return STATUS_OK;
    return status_fail(background->status, "%s", background->message);
}
