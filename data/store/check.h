/* Checking: proves shards sound, row by row, and says what is wrong and where. */
#ifndef WEFT_DATA_STORE_CHECK_H
#define WEFT_DATA_STORE_CHECK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "data/store/findings.h"
#include "runtime/base/status.h"

struct check_options {
    const char *const *files; /* [num_files] files, globs, folders: one set */
    int num_files;
    const char *const *against; /* [num_against] another set that must share no picture with it */
    int num_against;
    bool no_decode;  /* do not decode the pictures, which takes most of the time */
    bool partial;    /* shards may be missing */
    int num_threads; /* 0: one per CPU */
    void (*progress)(void *user, int64_t done, int64_t total); /* in the calling thread; or NULL */
    void *user;
    const volatile sig_atomic_t *stop; /* non-zero: stop with STATUS_CANCELLED; may be NULL */
};

/* Kinds of findings that are not rules of a row (rules.h gives those). */
#define FOUND_FILE      "file that cannot be opened"
#define FOUND_SET       "files that are not one whole set"
#define FOUND_OFFSET    "offset out of order"
#define FOUND_REFERENCE "reference to a row that is not there"
#define FOUND_ORDER     "rows out of order"
#define FOUND_VALUE     "value out of range"
#define FOUND_HASH      "damaged picture"
#define FOUND_PICTURE   "picture that does not decode"
#define FOUND_SIZE      "picture of another size than stored"
#define FOUND_ROW       "row that cannot be read"
#define FOUND_KEY       "key that is not valid UTF-8"
#define FOUND_DUPLICATE "duplicate picture"
#define FOUND_OVERLAP   "picture that is also in the other set"
#define FOUND_NO_HASH   "shard without picture hashes"
#define FOUND_NO_SEAL   "shard without a seal"

/*
 * Checks every row. `findings` (initialised by the caller) receives what is wrong; a set with
 * findings is not a failure of this function. Memory: 16 bytes an image. Errors: STATUS_NOT_FOUND
 * when a pattern matches nothing, STATUS_NO_MEMORY, STATUS_CANCELLED, and what opening `against`
 * says.
 */
enum status check_run(const struct check_options *options, struct findings *findings);

#endif
