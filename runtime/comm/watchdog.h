/*
 * The watchdog: a thread per rank that knows what every rank is doing and gives up when one of them
 * is gone or a phase takes too long. Users set phases and time-outs through comm.h.
 *
 * Giving up means: print one line that says who waits where and which ranks are missing, make
 * waiting calls of this rank fail with that line, and if the process is still there a moment later,
 * end it. It does not use MPI, so it works while the main thread is stuck inside MPI.
 */
#ifndef WEFT_RUNTIME_COMM_WATCHDOG_H
#define WEFT_RUNTIME_COMM_WATCHDOG_H

#include "runtime/comm/comm.h"

struct watchdog;

/* Starts the thread in phase COMM_PHASE_STARTUP, for a rank whose peers are not known yet. It
 * catches SIGTERM while that has its default action (launchers send it when a rank died), to say
 * why before ending. Not collective. Errors: STATUS_NO_MEMORY, STATUS_INTERNAL. */
enum status watchdog_create(const char *host, const double *timeouts, struct watchdog **created);

/* Joins the ranks' watchdogs; `comm` is borrowed until the destruction. Collective. */
enum status watchdog_attach(struct watchdog *watchdog, struct comm *comm);

/* Ends the thread. NULL-safe, sets NULL. */
void watchdog_destroy(struct watchdog **watchdog);

/* ---- told by the main thread; cheap ---- */

void watchdog_step(struct watchdog *watchdog, int64_t step);
void watchdog_phase(struct watchdog *watchdog, enum comm_phase phase, const char *label);
void watchdog_timeout(struct watchdog *watchdog, enum comm_phase phase, double seconds);

/* A collective was started: number `sequence`, named `label`. */
void watchdog_call(struct watchdog *watchdog, uint32_t sequence, const char *label);

/* Around waiting for collective `sequence`; the phase before is back afterwards. */
void watchdog_wait_begin(struct watchdog *watchdog, uint32_t sequence, const char *label);
void watchdog_wait_end(struct watchdog *watchdog);

/* The line it gave up with, or NULL. Valid until the destruction. */
const char *watchdog_verdict(struct watchdog *watchdog);

/* This rank leaves in order; peers that end from now on do not matter. */
void watchdog_finished(struct watchdog *watchdog);

/* This rank is about to end the job with `exit_code`: peers are told, and the process ends within a
 * moment even if the main thread gets stuck on the way out. */
void watchdog_aborting(struct watchdog *watchdog, int exit_code);

#endif
