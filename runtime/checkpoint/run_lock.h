/*
 * The lock of a run folder: two jobs cannot write one run.
 *
 * FOLDER/lock is locked by the system for as long as the job's first rank lives, and says who holds
 * it. The system lets go when that process dies, however it dies, so a run is never locked out by a
 * dead job; where the file system has no locks, the text alone decides.
 */
#ifndef WEFT_RUNTIME_CHECKPOINT_RUN_LOCK_H
#define WEFT_RUNTIME_CHECKPOINT_RUN_LOCK_H

#include "runtime/base/status.h"

struct comm;
struct run_lock;

/*
 * Locks the run in `folder` (which must exist) for all ranks of `comm` (NULL: one). Collective.
 * Errors, the same on all ranks: STATUS_INVALID when another job holds it, naming it;
 * STATUS_IO.
 */
enum status run_lock_acquire(struct run_lock **acquired, const char *folder, struct comm *comm);

/* Unlocks. NULL-safe, sets NULL. Not collective. */
void run_lock_release(struct run_lock **lock);

#endif
