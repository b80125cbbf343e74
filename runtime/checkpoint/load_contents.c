#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/file_io.h"
#include "runtime/base/hdf5_use.h"
#include "runtime/checkpoint/load_impl.h"

static enum status read_int(hid_t file, const char *path, const char *name, int64_t *value)
{
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    herr_t result = attribute >= 0 ? H5Aread(attribute, H5T_NATIVE_INT64, value) : -1;
    if (attribute >= 0) H5Aclose(attribute);
    CHECK(result >= 0, STATUS_INVALID, "%s: not a checkpoint: no attribute '%s'", path, name);
    return STATUS_OK;
}

/* The place and length of a contiguous one-dimensional dataset of elements of `size` bytes (0: any,
 * told in *found_size). */
static enum status read_array(const struct checkpoint *checkpoint, hid_t group, const char *name,
                              int64_t size, struct load_array *array, int64_t *found_size)
{
    hid_t dataset = H5Dopen2(group, name, H5P_DEFAULT);
    CHECK(dataset >= 0, STATUS_INVALID, "%s: not a checkpoint: no dataset '%s'", checkpoint->path,
          name);
    hid_t space = H5Dget_space(dataset);
    hid_t type = H5Dget_type(dataset);
    int64_t elements = (int64_t)H5Sget_simple_extent_npoints(space);
    int64_t stored = (int64_t)H5Tget_size(type);
    haddr_t offset = H5Dget_offset(dataset);
    H5Tclose(type);
    H5Sclose(space);
    H5Dclose(dataset);
    bool fits = elements >= 0 && stored > 0 && (size == 0 || stored == size) &&
                elements <= checkpoint->bytes / stored &&
                (elements == 0 || (offset != HADDR_UNDEF &&
                                   (int64_t)offset <= checkpoint->bytes - elements * stored));
    CHECK(fits, STATUS_INVALID, "%s: the dataset '%s' is not as a checkpoint has it",
          checkpoint->path, name);
    array->elements = elements;
    array->offset = elements == 0 ? 0 : (int64_t)offset;
    if (found_size) *found_size = stored;
    return STATUS_OK;
}

/* All datasets of a group, in the order of their names. */
static enum status read_group(struct checkpoint *checkpoint, hid_t file, const char *name,
                              int64_t size, struct load_array **arrays, int *count)
{
    H5G_info_t info;
    hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
    CHECK(group >= 0 && H5Gget_info(group, &info) >= 0, STATUS_INVALID,
          "%s: not a checkpoint: no group '%s'", checkpoint->path, name);
    enum status status = STATUS_OK;
    *arrays = arena_alloc(&checkpoint->arena, ((size_t)info.nlinks + 1) * sizeof **arrays);
    CHECK_GOTO(*arrays, status, done, STATUS_NO_MEMORY, "%s: no memory", checkpoint->path);
    for (hsize_t i = 0; i < info.nlinks; i++) {
        char text[256] = "";
        H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, text, sizeof text,
                           H5P_DEFAULT);
        struct load_array *array = &(*arrays)[i];
        array->name = arena_strdup(&checkpoint->arena, text);
        CHECK_GOTO(array->name, status, done, STATUS_NO_MEMORY, "%s: no memory", checkpoint->path);
        TRY_GOTO(status, read_array(checkpoint, group, text, size, array, NULL), done);
    }
    *count = (int)info.nlinks;
done:
    H5Gclose(group);
    return status;
}

/* ---- the parameters ---- */

static enum status read_row(struct checkpoint *checkpoint, const char *bytes, int64_t names,
                            struct checkpoint_parameter *parameter)
{
    struct checkpoint_row row;
    memcpy(&row, bytes + names, sizeof row);
    parameter->name = arena_strndup(&checkpoint->arena, bytes, strnlen(bytes, (size_t)names));
    CHECK(parameter->name, STATUS_NO_MEMORY, "%s: no memory", checkpoint->path);
    bool fits = row.rank >= 0 && row.rank <= SHAPE_MAX_RANK && row.offset >= 0 && row.count >= 0;
    CHECK(fits, STATUS_INVALID, "%s: the parameter '%s' has no place", checkpoint->path,
          parameter->name);
    parameter->shape.rank = (int)row.rank;
    for (int d = 0; d < parameter->shape.rank; d++) {
        parameter->shape.dim[d] = row.dim[d];
    }
    parameter->offset = row.offset;
    parameter->count = row.count;
    return STATUS_OK;
}

static const struct checkpoint_parameter *sorted_parameters; /* under the lock of libhdf5 */

static int compare_names(const void *a, const void *b)
{
    return strcmp(sorted_parameters[*(const int64_t *)a].name,
                  sorted_parameters[*(const int64_t *)b].name);
}

static enum status read_parameters(struct checkpoint *checkpoint, hid_t file)
{
    struct load_array array;
    int64_t stored;
    TRY(read_array(checkpoint, file, CHECKPOINT_PARAMETERS, 0, &array, &stored));
    int64_t names = stored - (int64_t)sizeof(struct checkpoint_row);
    CHECK(names > 0, STATUS_INVALID, "%s: the dataset '%s' is not as a checkpoint has it",
          checkpoint->path, CHECKPOINT_PARAMETERS);
    size_t count = (size_t)array.elements;
    checkpoint->parameters =
        arena_alloc(&checkpoint->arena, (count + 1) * sizeof *checkpoint->parameters);
    checkpoint->by_name =
        arena_alloc(&checkpoint->arena, (count + 1) * sizeof *checkpoint->by_name);
    char *bytes = malloc(count * (size_t)stored + 1);
    enum status status = STATUS_OK;
    CHECK_GOTO(bytes && checkpoint->parameters && checkpoint->by_name, status, done,
               STATUS_NO_MEMORY, "%s: no memory", checkpoint->path);
    TRY_GOTO(status,
             file_read_at(checkpoint->file, checkpoint->path, bytes, array.elements * stored,
                          array.offset),
             done);
    for (int64_t i = 0; i < array.elements; i++) {
        TRY_GOTO(status,
                 read_row(checkpoint, bytes + i * stored, names, &checkpoint->parameters[i]), done);
        checkpoint->by_name[i] = i;
    }
    checkpoint->num_parameters = array.elements;
    sorted_parameters = checkpoint->parameters;
    qsort(checkpoint->by_name, count, sizeof *checkpoint->by_name, compare_names);
done:
    free(bytes);
    return status;
}

static enum status read_file(struct checkpoint *checkpoint, hid_t file)
{
    int64_t version;
    int64_t step;
    TRY(read_int(file, checkpoint->path, "version", &version));
    TRY(read_int(file, checkpoint->path, "step", &step));
    CHECK(version == CHECKPOINT_VERSION && step == checkpoint->step, STATUS_INVALID,
          "%s: its attributes and its seal do not agree", checkpoint->path);
    TRY(read_group(checkpoint, file, CHECKPOINT_STATE, sizeof(float), &checkpoint->vectors,
                   &checkpoint->num_vectors));
    TRY(read_group(checkpoint, file, CHECKPOINT_BLOBS, 1, &checkpoint->blobs,
                   &checkpoint->num_blobs));
    return read_parameters(checkpoint, file);
}

enum status load_contents(struct checkpoint *checkpoint)
{
    hdf5_lock();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    H5Pset_file_locking(access, false,
                        true); /* it never changes; some file systems have no locks */
    hid_t file = H5Fopen(checkpoint->path, H5F_ACC_RDONLY, access);
    enum status status = STATUS_OK;
    if (file < 0) {
        status = status_fail(STATUS_CORRUPT, "%s: not a sound HDF5 file (%s)", checkpoint->path,
                             hdf5_reason());
    }
    H5Pclose(access);
    if (status == STATUS_OK) status = read_file(checkpoint, file);
    if (file >= 0) H5Fclose(file);
    hdf5_unlock();
    return status;
}
