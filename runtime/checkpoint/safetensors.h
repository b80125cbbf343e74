/*
 * Safetensors: named tensors in one file, an 8-byte length, a JSON header, the bytes one after
 * another. https://github.com/huggingface/safetensors describes it.
 *
 * Reading trusts nothing: every number of the header is checked against the file. Floats of 16, 32
 * and 64 bits become f32. Not collective.
 */
#ifndef WEFT_RUNTIME_CHECKPOINT_SAFETENSORS_H
#define WEFT_RUNTIME_CHECKPOINT_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/graph/tensor.h"

enum safetensors_dtype {
    SAFETENSORS_F32,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_F64,
    SAFETENSORS_I64,
    SAFETENSORS_OTHER /* known to the format, not read here */
};

struct safetensors_entry {
    const char *name;
    enum safetensors_dtype dtype;
    const char *dtype_name; /* as in the file */
    struct shape shape;
    int64_t count;  /* elements */
    int64_t offset; /* of its first byte, in the file */
    int64_t bytes;
};

struct safetensors;

/*
 * Opens a file and reads its header. Entries are in the order of their places. Errors:
 * STATUS_NOT_FOUND, STATUS_IO, STATUS_CORRUPT for a header that does not fit the file,
 * STATUS_INVALID for something that is no safetensors file, STATUS_UNSUPPORTED for more than
 * SHAPE_MAX_RANK dimensions.
 */
enum status safetensors_open(struct safetensors **opened, const char *path);
void safetensors_close(struct safetensors **file); /* NULL-safe, sets NULL */

/*
 * The same without a file: `head` [size] is the beginning of one of `file_bytes` bytes, header
 * included. For safetensors_open and for tests; tensors cannot be read. Errors as above.
 */
enum status safetensors_parse(struct safetensors **parsed, const char *path, const void *head,
                              int64_t size, int64_t file_bytes);

int64_t safetensors_count(const struct safetensors *file);
const struct safetensors_entry *safetensors_at(const struct safetensors *file, int64_t index);
const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name);

/* Whether the tensor is of floats, so that safetensors_read takes it. */
bool safetensors_is_float(const struct safetensors_entry *entry);

/* Reads a tensor as f32 to `out` [entry->count]. Errors: STATUS_UNSUPPORTED when it is not of
 * floats, STATUS_IO. */
enum status safetensors_read(const struct safetensors *file, const struct safetensors_entry *entry,
                             float *out);

/* A tensor to be written: f32 or i64. */
struct safetensors_tensor {
    const char *name;
    enum safetensors_dtype dtype; /* SAFETENSORS_F32 or SAFETENSORS_I64 */
    struct shape shape;
    const void *data; /* borrowed */
};

/*
 * Writes tensors to `path`, which appears whole or not at all. What has 8-byte elements comes
 * first, so that all are aligned; otherwise in the order given. Errors: STATUS_IO, STATUS_INVALID
 * for a name that is given twice.
 */
enum status safetensors_write(const char *path, const struct safetensors_tensor *tensors,
                              int64_t count);

#endif
