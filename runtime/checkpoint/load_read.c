#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/file_io.h"
#include "runtime/checkpoint/load_impl.h"

const char *checkpoint_path(const struct checkpoint *checkpoint)
{
    return checkpoint->path;
}

int64_t checkpoint_step(const struct checkpoint *checkpoint)
{
    return checkpoint->step;
}

int64_t checkpoint_bytes(const struct checkpoint *checkpoint)
{
    return checkpoint->bytes;
}

static const struct load_array *find(const struct load_array *arrays, int count, const char *name)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(arrays[i].name, name) == 0) return &arrays[i];
    }
    return NULL;
}

int64_t checkpoint_elements(const struct checkpoint *checkpoint, const char *vector)
{
    const struct load_array *array = find(checkpoint->vectors, checkpoint->num_vectors, vector);
    return array ? array->elements : -1;
}

int64_t checkpoint_num_parameters(const struct checkpoint *checkpoint)
{
    return checkpoint->num_parameters;
}

const struct checkpoint_parameter *checkpoint_parameter_at(const struct checkpoint *checkpoint,
                                                           int64_t index)
{
    return &checkpoint->parameters[index];
}

const char *checkpoint_vector_name(const struct checkpoint *checkpoint, int index)
{
    return index < checkpoint->num_vectors ? checkpoint->vectors[index].name : NULL;
}

const char *checkpoint_blob_name(const struct checkpoint *checkpoint, int index)
{
    return index < checkpoint->num_blobs ? checkpoint->blobs[index].name : NULL;
}

int64_t checkpoint_blob_size(const struct checkpoint *checkpoint, const char *name)
{
    const struct load_array *array = find(checkpoint->blobs, checkpoint->num_blobs, name);
    return array ? array->elements : -1;
}

enum status checkpoint_blob_read(const struct checkpoint *checkpoint, const char *name,
                                 void **bytes, int64_t *size)
{
    *bytes = NULL;
    const struct load_array *array = find(checkpoint->blobs, checkpoint->num_blobs, name);
    CHECK(array, STATUS_NOT_FOUND, "%s: holds no '%s'", checkpoint->path, name);
    char *block = malloc((size_t)array->elements + 1);
    CHECK(block, STATUS_NO_MEMORY, "%s: no memory for '%s'", checkpoint->path, name);
    enum status status =
        file_read_at(checkpoint->file, checkpoint->path, block, array->elements, array->offset);
    if (status != STATUS_OK) {
        free(block);
        return status;
    }
    block[array->elements] = '\0';
    *bytes = block;
    *size = array->elements;
    return STATUS_OK;
}

/* ---- the model ---- */

static const struct checkpoint_parameter *find_parameter(const struct checkpoint *checkpoint,
                                                         const char *name)
{
    int64_t low = 0;
    int64_t high = checkpoint->num_parameters;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        const struct checkpoint_parameter *row =
            &checkpoint->parameters[checkpoint->by_name[middle]];
        int order = strcmp(row->name, name);
        if (order == 0) return row;
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

enum status checkpoint_check_model(const struct checkpoint *checkpoint,
                                   const struct checkpoint_parameter *parameters, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const struct checkpoint_parameter *row = find_parameter(checkpoint, parameters[i].name);
        CHECK(row, STATUS_INVALID,
              "%s: of another model: it has no parameter '%s'; use the config it was trained with",
              checkpoint->path, parameters[i].name);
        char theirs[SHAPE_TEXT];
        char ours[SHAPE_TEXT];
        CHECK(shape_equal(&row->shape, &parameters[i].shape) && row->count == parameters[i].count,
              STATUS_INVALID,
              "%s: of another model: '%s' is %s there and %s here; use the config it was trained "
              "with",
              checkpoint->path, row->name, shape_format(&row->shape, theirs),
              shape_format(&parameters[i].shape, ours));
    }
    if (checkpoint->num_parameters == count) return STATUS_OK;
    for (int64_t i = 0; i < checkpoint->num_parameters; i++) {
        const char *name = checkpoint->parameters[i].name;
        bool known = false;
        for (int64_t k = 0; k < count && !known; k++) {
            known = strcmp(name, parameters[k].name) == 0;
        }
        CHECK(known, STATUS_INVALID,
              "%s: of another model: its parameter '%s' does not exist here; use the config it was "
              "trained with",
              checkpoint->path, name);
    }
    return status_fail(STATUS_INVALID, "%s: of another model: a name occurs twice",
                       checkpoint->path);
}

/* ---- values ---- */

static enum status read_elements(const struct checkpoint *checkpoint,
                                 const struct load_array *array, int64_t begin, int64_t count,
                                 float *out)
{
    CHECK(begin >= 0 && count >= 0 && count <= array->elements - begin, STATUS_INVALID,
          "%s: elements %" PRId64 " to %" PRId64 " are asked of '%s', which has %" PRId64,
          checkpoint->path, begin, begin + count, array->name, array->elements);
    return file_read_at(checkpoint->file, checkpoint->path, out, count * (int64_t)sizeof *out,
                        array->offset + begin * (int64_t)sizeof *out);
}

enum status checkpoint_read_flat(const struct checkpoint *checkpoint, const char *vector,
                                 int64_t begin, int64_t count, float *out)
{
    const struct load_array *array = find(checkpoint->vectors, checkpoint->num_vectors, vector);
    CHECK(array, STATUS_NOT_FOUND, "%s: holds no vector '%s'", checkpoint->path, vector);
    return read_elements(checkpoint, array, begin, count, out);
}

enum status checkpoint_read(const struct checkpoint *checkpoint, const char *vector,
                            const struct checkpoint_parameter *parameters, int64_t num_parameters,
                            int64_t begin, int64_t count, float *out)
{
    const struct load_array *array = find(checkpoint->vectors, checkpoint->num_vectors, vector);
    CHECK(array, STATUS_NOT_FOUND, "%s: holds no vector '%s'", checkpoint->path, vector);
    memset(out, 0, (size_t)count * sizeof *out);
    for (int64_t i = 0; i < num_parameters; i++) {
        const struct checkpoint_parameter *ours = &parameters[i];
        int64_t from = ours->offset > begin ? ours->offset : begin;
        int64_t ours_end = ours->offset + ours->count;
        int64_t to = ours_end < begin + count ? ours_end : begin + count;
        if (from >= to) continue;
        const struct checkpoint_parameter *theirs = find_parameter(checkpoint, ours->name);
        CHECK(theirs && theirs->count == ours->count, STATUS_INVALID,
              "%s: of another model: no '%s' of this size", checkpoint->path, ours->name);
        TRY(read_elements(checkpoint, array, theirs->offset + (from - ours->offset), to - from,
                          out + (from - begin)));
    }
    return STATUS_OK;
}
