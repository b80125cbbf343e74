/*
 * The header of a safetensors file. What is accepted must lie within the file, in order.
 * runs=800000
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "runtime/checkpoint/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *file;
    /* The data are not needed to judge the header: the file may be larger than the input. */
    int64_t file_bytes = (int64_t)size + 4096;
    if (safetensors_parse(&file, "x.safetensors", data, (int64_t)size, file_bytes) != STATUS_OK) {
        assert(!file);
        return 0;
    }
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_entry *entry = safetensors_at(file, i);
        assert(entry->offset >= 8 && entry->bytes >= 0);
        assert(entry->offset <= file_bytes && entry->bytes <= file_bytes - entry->offset);
        assert(entry->count == 0 || entry->bytes >= entry->count);
        assert(entry->shape.rank >= 0 && entry->shape.rank <= SHAPE_MAX_RANK);
        assert(shape_count(&entry->shape) == entry->count);
        assert(safetensors_find(file, entry->name) == entry);
    }
    safetensors_close(&file);
    return 0;
}
