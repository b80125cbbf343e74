/* weft inspect --batch: the samples of one micro-batch of a config, as a training step gets them.
 */
#ifndef WEFT_LAUNCH_INSPECT_BATCH_H
#define WEFT_LAUNCH_INSPECT_BATCH_H

#include <stdint.h>

#include "runtime/base/status.h"

enum { INSPECT_MAX_OVERRIDES = 64 };

struct inspect_batch {
    const char *config;                           /* path of the YAML file */
    const char *overrides[INSPECT_MAX_OVERRIDES]; /* of --set */
    int num_overrides;
    int64_t step;  /* of the run, from 0 */
    int64_t micro; /* which of the step's micro-batches */
    int64_t ranks;
    int64_t rank;
    const char *html; /* where the page goes, NULL: none */
};

/* Prints the batch to standard output and writes the page. Errors: those of the config, the sets
 * and the loader; STATUS_IO. */
enum status inspect_batch_run(const struct inspect_batch *arguments);

#endif
