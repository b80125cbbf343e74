/*
 * Where the wall time of training goes. One stopwatch that never stands still: whoever has done
 * something says what it was, and gets all the time since anybody last did. So nothing is counted
 * twice, and nothing left out.
 */
#ifndef WEFT_LAUNCH_TRAINER_CLOCK_H
#define WEFT_LAUNCH_TRAINER_CLOCK_H

#include "launch/run_log.h"

struct comm;

struct trainer_clock {
    struct run_seconds seconds; /* of the step at hand */
    double begun;               /* when it began */
    double last;                /* when time was last given to something */
    double communicated;        /* seconds inside calls of the comm until then */
};

/* Starts the first step. Not collective, as all of these. */
void trainer_clock_start(struct trainer_clock *clock, const struct comm *comm);

/* The time since the last call was for `part`, one of clock->seconds; what of it was spent in calls
 * of the comm goes to `communicate`. */
void trainer_clock_part(struct trainer_clock *clock, const struct comm *comm, double *part);

/* The same, with communication as part of `part`. */
void trainer_clock_whole(struct trainer_clock *clock, const struct comm *comm, double *part);

/* Seconds that nothing was given yet. */
double trainer_clock_since(const struct trainer_clock *clock);

/* Ends the step, with the time since the last call as `other`, and starts the next. */
struct run_seconds trainer_clock_step(struct trainer_clock *clock, const struct comm *comm);

#endif
