#include "launch/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hdf5_use.h"

struct golden {
    hid_t file;
    char *path;
};

enum status golden_open(struct golden **golden, const char *path)
{
    *golden = NULL;
    FILE *probe = fopen(path, "rb");
    CHECK(probe, STATUS_NOT_FOUND, "%s: cannot open the golden file", path);
    fclose(probe);
    struct golden *g = calloc(1, sizeof *g);
    CHECK(g, STATUS_NO_MEMORY, "out of memory");
    g->path = strdup(path);
    hdf5_lock();
    g->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hdf5_unlock();
    if (g->file < 0 || !g->path) {
        golden_close(&g);
        return status_fail(STATUS_CORRUPT, "%s: not a readable HDF5 file", path);
    }
    *golden = g;
    return STATUS_OK;
}

void golden_close(struct golden **golden)
{
    if (!*golden) return;
    hdf5_lock();
    if ((*golden)->file >= 0) H5Fclose((*golden)->file);
    hdf5_unlock();
    free((*golden)->path);
    free(*golden);
    *golden = NULL;
}

/* Under the lock. */
static char *read_text(hid_t file, const char *name)
{
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    hid_t type = H5Aget_type(attribute);
    char *text = NULL;
    if (H5Tis_variable_str(type) > 0) {
        char *stored = NULL;
        hid_t memory = H5Tcopy(H5T_C_S1);
        H5Tset_size(memory, H5T_VARIABLE);
        H5Tset_cset(memory, H5Tget_cset(type));
        if (H5Aread(attribute, memory, &stored) >= 0 && stored) text = strdup(stored);
        if (stored) H5free_memory(stored);
        H5Tclose(memory);
    } else if (H5Tget_class(type) == H5T_STRING) {
        text = calloc(1, H5Tget_size(type) + 1);
        if (text && H5Aread(attribute, type, text) < 0) text[0] = '\0';
    }
    H5Tclose(type);
    H5Aclose(attribute);
    return text;
}

enum status golden_text(struct golden *golden, const char *name, char **text)
{
    *text = NULL;
    hdf5_lock();
    bool exists = H5Aexists(golden->file, name) > 0;
    if (exists) *text = read_text(golden->file, name);
    hdf5_unlock();
    CHECK(!exists || *text, STATUS_CORRUPT, "%s: attribute '%s' is not a text", golden->path, name);
    return STATUS_OK;
}

/* Every part of the path is asked for: HDF5 refuses to look below a group that does not exist. */
static bool exists(hid_t file, const char *name)
{
    char part[1024];
    for (const char *at = name; at; at = strchr(at + 1, '/')) {
        const char *end = strchr(at + 1, '/');
        size_t length = end ? (size_t)(end - name) : strlen(name);
        if (length >= sizeof part) return false;
        memcpy(part, name, length);
        part[length] = '\0';
        if (H5Lexists(file, part, H5P_DEFAULT) <= 0) return false;
    }
    return true;
}

bool golden_has(struct golden *golden, const char *name)
{
    hdf5_lock();
    bool found = exists(golden->file, name);
    hdf5_unlock();
    return found;
}

enum status golden_shape(struct golden *golden, const char *name, struct shape *shape)
{
    int rank = -1;
    hsize_t dims[H5S_MAX_RANK];
    hdf5_lock();
    hid_t set = exists(golden->file, name) ? H5Dopen2(golden->file, name, H5P_DEFAULT) : -1;
    if (set >= 0) {
        hid_t space = H5Dget_space(set);
        rank = H5Sget_simple_extent_dims(space, dims, NULL);
        H5Sclose(space);
        H5Dclose(set);
    }
    hdf5_unlock();
    CHECK(set >= 0, STATUS_CORRUPT, "%s: dataset '%s' is missing", golden->path, name);
    CHECK(rank >= 0 && rank <= SHAPE_MAX_RANK, STATUS_CORRUPT,
          "%s: dataset '%s' has %d dimensions, more than %d", golden->path, name, rank,
          SHAPE_MAX_RANK);
    *shape = (struct shape){.rank = rank};
    for (int i = 0; i < rank; i++) {
        shape->dim[i] = (int64_t)dims[i];
    }
    return STATUS_OK;
}

static enum status read_as(struct golden *golden, const char *name, hid_t type, void *out,
                           const struct shape *shape)
{
    struct shape stored;
    char has[SHAPE_TEXT];
    char wanted[SHAPE_TEXT];
    TRY(golden_shape(golden, name, &stored));
    CHECK(shape_equal(&stored, shape), STATUS_CORRUPT,
          "%s: dataset '%s' is %s; by the file's config it is %s", golden->path, name,
          shape_format(&stored, has), shape_format(shape, wanted));
    hdf5_lock();
    hid_t set = H5Dopen2(golden->file, name, H5P_DEFAULT);
    bool ok = H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0;
    H5Dclose(set);
    hdf5_unlock();
    CHECK(ok, STATUS_CORRUPT, "%s: dataset '%s' cannot be read", golden->path, name);
    return STATUS_OK;
}

enum status golden_read_f32(struct golden *golden, const char *name, float *out,
                            const struct shape *shape)
{
    return read_as(golden, name, H5T_NATIVE_FLOAT, out, shape);
}

enum status golden_read_f64(struct golden *golden, const char *name, double *out,
                            const struct shape *shape)
{
    return read_as(golden, name, H5T_NATIVE_DOUBLE, out, shape);
}

enum status golden_read_i32(struct golden *golden, const char *name, int32_t *out,
                            const struct shape *shape)
{
    return read_as(golden, name, H5T_NATIVE_INT32, out, shape);
}

struct names {
    char **items;
    int count;
    int capacity;
};

static herr_t take_name(hid_t group, const char *name, const H5O_info_t *info, void *context)
{
    (void)group;
    struct names *names = context;
    if (info->type != H5O_TYPE_DATASET) return 0;
    if (names->count == names->capacity) {
        int capacity = names->capacity ? 2 * names->capacity : 256;
        char **items = realloc(names->items, (size_t)capacity * sizeof *items);
        if (!items) return -1;
        names->items = items;
        names->capacity = capacity;
    }
    names->items[names->count] = strdup(name);
    return names->items[names->count++] ? 0 : -1;
}

enum status golden_each(struct golden *golden, const char *group,
                        enum status (*visit)(void *context, const char *name), void *context)
{
    struct names names = {0};
    if (!golden_has(golden, group)) return STATUS_OK;
    hdf5_lock();
    hid_t id = H5Oopen(golden->file, group, H5P_DEFAULT);
    herr_t visited = H5Ovisit2(id, H5_INDEX_NAME, H5_ITER_INC, take_name, &names, H5O_INFO_BASIC);
    H5Oclose(id);
    hdf5_unlock();
    enum status status = STATUS_OK;
    if (visited < 0) {
        status = status_fail(STATUS_CORRUPT, "%s: cannot list '%s'", golden->path, group);
    }
    for (int i = 0; i < names.count; i++) {
        if (status == STATUS_OK) status = visit(context, names.items[i]);
        free(names.items[i]);
    }
    free(names.items);
    return status;
}
