/* The part of checking that reads tables from end to end. Internal to check.c. */
#ifndef WEFT_DATA_STORE_CHECK_TABLES_H
#define WEFT_DATA_STORE_CHECK_TABLES_H

#include "data/store/findings.h"
#include "data/store/shard.h"

/* Offsets rise from 0 to the length of their bytes; references are in range and sorted; kinds,
 * labels and crowd flags are values of the schema. `place` orders the findings of this shard. */
void check_tables(const struct shard *shard, int64_t place, struct findings *findings);

#endif
