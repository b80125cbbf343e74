/*
 * Golden files: a small model's config, weights, inputs, and every value that another
 * implementation computed from them, in one HDF5 file (layout: docs/verify.md).
 */
#ifndef WEFT_LAUNCH_GOLDEN_H
#define WEFT_LAUNCH_GOLDEN_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/graph/tensor.h"

struct golden;

/* Opens `path` for reading. Errors: STATUS_NOT_FOUND, STATUS_CORRUPT (not HDF5). */
enum status golden_open(struct golden **golden, const char *path);
void golden_close(struct golden **golden);

/* A text attribute of the root group; *text is NULL when it has none. The caller frees it. */
enum status golden_text(struct golden *golden, const char *name, char **text);

/* Whether the object exists. */
bool golden_has(struct golden *golden, const char *name);

/* The shape of a dataset. Errors: STATUS_CORRUPT when it is missing or has too many dimensions. */
enum status golden_shape(struct golden *golden, const char *name, struct shape *shape);

/* Reads a whole dataset, converted by HDF5. Errors: STATUS_CORRUPT naming file and dataset when it
 * is missing or has another shape. */
enum status golden_read_f32(struct golden *golden, const char *name, float *out,
                            const struct shape *shape);
enum status golden_read_f64(struct golden *golden, const char *name, double *out,
                            const struct shape *shape);
enum status golden_read_i32(struct golden *golden, const char *name, int32_t *out,
                            const struct shape *shape);

/* Calls `visit` with the name of every dataset below `group`, relative to it, in alphabetical
 * order. A group that does not exist has none. Stops at the first status that is not STATUS_OK. */
enum status golden_each(struct golden *golden, const char *group,
                        enum status (*visit)(void *context, const char *name), void *context);

#endif
