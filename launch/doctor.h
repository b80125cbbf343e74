/*
 * weft doctor: whether this machine can train, one finding a check, each with its remedy.
 *
 * Checks are rows of tables (doctor_system.c, doctor_libraries.c, doctor_launch.c). A check never
 * fails itself: what it cannot find out is its finding.
 */
#ifndef WEFT_LAUNCH_DOCTOR_H
#define WEFT_LAUNCH_DOCTOR_H

#include <stdbool.h>

#include "runtime/base/status.h"

enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };

struct doctor_finding {
    enum doctor_level level;
    char text[600];
    char mend[400]; /* "" when nothing needs mending */
};

struct doctor_options {
    const char *folder;  /* where runs will be written; there are locks, space and speed tested */
    const char *program; /* this executable, for the trial launch; NULL: program_command */
    bool no_launch;      /* do not try mpirun */
};

struct doctor_check {
    const char *name;
    void (*run)(const struct doctor_options *options, struct doctor_finding *finding);
};

/* Tables ended by a row without a name, in the order in which they are printed. */
extern const struct doctor_check doctor_system_checks[];
extern const struct doctor_check doctor_library_checks[];
extern const struct doctor_check doctor_launch_checks[];

/* Fill a finding: what was found, and the remedy. */
void doctor_ok(struct doctor_finding *finding, const char *format, ...) STATUS_PRINTF(2, 3);
void doctor_warn(struct doctor_finding *finding, const char *mend, const char *format, ...)
    STATUS_PRINTF(3, 4);
void doctor_fail(struct doctor_finding *finding, const char *mend, const char *format, ...)
    STATUS_PRINTF(3, 4);

/*
 * What the ranks of the trial launch do: an all-reduce, then a file of parallel HDF5 in `folder`,
 * written and read back by all. Rank 0 prints "probe: ...". Collective. Errors: STATUS_COMM,
 * STATUS_IO, STATUS_CORRUPT.
 */
enum status doctor_probe(const char *folder);

#endif
