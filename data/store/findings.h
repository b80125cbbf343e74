/*
 * Findings: what weft check found, by kind, with a count and the first place. Thread-safe, and the
 * first place is the same whatever the order in which threads find things.
 */
#ifndef WEFT_DATA_STORE_FINDINGS_H
#define WEFT_DATA_STORE_FINDINGS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { FINDINGS_MAX = 64 };

struct finding {
    const char *kind; /* static text, "box outside its image" */
    bool is_error;    /* false: worth knowing, but the set is sound */
    int64_t count;
    int64_t place; /* orders findings of a kind; the least is kept as the first */
    char first[1024];
};

struct findings {
    pthread_mutex_t mutex;
    struct finding list[FINDINGS_MAX];
    int count;
};

void findings_init(struct findings *findings);
void findings_fini(struct findings *findings);

/* Counts one finding of `kind` (a string that outlives the findings) at `place`; the message says
 * where and what. */
void findings_add(struct findings *findings, bool is_error, const char *kind, int64_t place,
                  const char *format, ...) STATUS_PRINTF(5, 6);

/* Number of kinds that are errors. */
int findings_errors(const struct findings *findings);

/* The finding of a kind, NULL when there is none. */
const struct finding *findings_get(const struct findings *findings, const char *kind);

#endif
