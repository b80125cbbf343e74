/*
 * Which algorithm of cuBLASLt each product takes, as it was found by timing, and the file that
 * keeps it for the next run.
 *
 * Choices hold for one GPU model, driver and library version (the identity): each has a file of its
 * own in $XDG_CACHE_HOME/weft, or ~/.cache/weft. The environment variable WEFT_CUDA_TUNING names
 * another file, or is `off`: then nothing is timed, read or written, and products take the
 * library's first choice. The file is text, with a checksum at its end, and is replaced as a whole.
 *
 * Nothing here calls CUDA. Not thread-safe.
 */
#ifndef WEFT_RUNTIME_BACKEND_CUDA_TUNING_H
#define WEFT_RUNTIME_BACKEND_CUDA_TUNING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct comm;

enum { TUNING_KEY = 128, TUNING_ALGORITHM = 64, TUNING_IDENTITY = 384 };

struct tuning_choice {
    char key[TUNING_KEY]; /* the product: one line of text without tabs */
    uint8_t algorithm[TUNING_ALGORITHM];
    double microseconds; /* of one product; 0: was not timed, and is not kept in the file */
};

struct tuning {
    char identity[TUNING_IDENTITY]; /* one line of text */
    char *path;                     /* owned; NULL: kept nowhere */
    struct tuning_choice *choices;
    int count;
    int capacity;
    bool changed; /* since the file was read or written */
};

/* Whether products are to be timed, by the environment. */
bool tuning_is_on(void);

/*
 * Reads what is known for `identity`. A file that is damaged, or of another identity, is told with
 * a warning and counts as empty; none counts as empty too. Release with tuning_close. Errors:
 * STATUS_NO_MEMORY.
 */
enum status tuning_open(struct tuning *tuning, const char *identity);
void tuning_close(struct tuning *tuning);

/* The choice for a product; NULL when there is none. Valid until the next call that changes. */
const struct tuning_choice *tuning_find(const struct tuning *tuning, const char *key);

/* Adds a choice, or replaces that of the same key. Errors: STATUS_NO_MEMORY. */
enum status tuning_put(struct tuning *tuning, const struct tuning_choice *choice);

/* Writes the file when there is something new; where that fails there is a warning, and no further
 * try. */
void tuning_save(struct tuning *tuning);

/*
 * Makes every rank's choices those of rank 0, so that ranks compute the same bits; *shared tells
 * whether that was possible: not where identities differ, which is told with a warning. Collective.
 * Errors: STATUS_COMM, STATUS_NO_MEMORY.
 */
enum status tuning_share(struct tuning *tuning, struct comm *comm, bool *shared);

#ifdef __cplusplus
}
#endif
#endif
