/* What packing does to one item, in a worker thread: fetch, prove the pictures, re-encode, clean.
 */
#ifndef WEFT_DATA_STORE_PREPARE_H
#define WEFT_DATA_STORE_PREPARE_H

#include "data/image/image.h"
#include "data/image/resize.h"
#include "data/store/pack.h"

/* Memory of one worker. Zero-initialise. */
struct prepare_scratch {
    struct image pixels;
    struct image smaller;
    struct image_scratch resize;
    struct strbuf encoded;
};

void prepare_scratch_fini(struct prepare_scratch *scratch);

/*
 * Makes item `item` of `source` into `sample` (empty at entry), ready for shard_writer_add, and
 * gives the XXH64 of each picture in `hashes`, which lives in the sample. Errors: the item is bad,
 * with the reason; STATUS_NO_MEMORY.
 */
enum status prepare_item(const struct pack_options *options, const struct import_source *source,
                         int64_t item, struct prepare_scratch *scratch, struct sample *sample,
                         uint64_t **hashes);

#endif
