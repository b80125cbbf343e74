/* Sealing shards that another program wrote. */
#ifndef WEFT_DATA_STORE_RESEAL_H
#define WEFT_DATA_STORE_RESEAL_H

#include <stdbool.h>

#include "runtime/base/status.h"

/*
 * Adds to the shard `path` what it lacks: the hashes of its pictures, a uuid and the seal. Works on
 * a copy beside it, which takes the shard's place at the end, so a kill or a full disk leaves the
 * shard as it was. `sealed` tells whether there was anything to do. The caller has checked that the
 * shard is sound. Errors: as store_open, STATUS_IO.
 */
enum status reseal(const char *path, bool *sealed);

#endif
