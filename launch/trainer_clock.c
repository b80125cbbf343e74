#include "launch/trainer_clock.h"

#include <time.h>

#include "runtime/comm/comm.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void trainer_clock_start(struct trainer_clock *clock, const struct comm *comm)
{
    *clock = (struct trainer_clock){.communicated = comm->stats.seconds};
    clock->begun = clock->last = now();
}

void trainer_clock_part(struct trainer_clock *clock, const struct comm *comm, double *part)
{
    double communicated = comm->stats.seconds - clock->communicated;
    trainer_clock_whole(clock, comm, part);
    *part -= communicated;
    clock->seconds.communicate += communicated;
}

void trainer_clock_whole(struct trainer_clock *clock, const struct comm *comm, double *part)
{
    double time = now();
    *part += time - clock->last;
    clock->last = time;
    clock->communicated = comm->stats.seconds;
}

double trainer_clock_since(const struct trainer_clock *clock)
{
    return now() - clock->last;
}

struct run_seconds trainer_clock_step(struct trainer_clock *clock, const struct comm *comm)
{
    trainer_clock_whole(clock, comm, &clock->seconds.other);
    struct run_seconds seconds = clock->seconds;
    seconds.step = clock->last - clock->begun;
    clock->seconds = (struct run_seconds){0};
    clock->begun = clock->last;
    return seconds;
}
