#include "runtime/base/hdf5_use.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;

void hdf5_lock(void)
{
    pthread_mutex_lock(&library_lock);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void hdf5_unlock(void)
{
    pthread_mutex_unlock(&library_lock);
}

static char reason_text[512];

static herr_t keep_reason(unsigned depth, const H5E_error2_t *error, void *data)
{
    (void)depth;
    (void)data;
    snprintf(reason_text, sizeof reason_text, "%s", error->desc ? error->desc : "no reason given");
    return 0;
}

const char *hdf5_reason(void)
{
    snprintf(reason_text, sizeof reason_text, "no reason given");
    /* Downwards ends where the error began: the last message kept is the innermost. */
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_reason, NULL);
    H5Eclear2(H5E_DEFAULT);
    return reason_text;
}

static enum status write_attribute(hid_t file, const char *path, const char *name, hid_t stored,
                                   hid_t memory, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t id = H5Acreate2(file, name, stored, space, H5P_DEFAULT, H5P_DEFAULT);
    herr_t result = id >= 0 ? H5Awrite(id, memory, value) : -1;
    const char *reason = result < 0 ? hdf5_reason() : "";
    if (id >= 0) H5Aclose(id);
    H5Sclose(space);
    CHECK(result >= 0, STATUS_IO, "%s: cannot write the attribute '%s': %s", path, name, reason);
    return STATUS_OK;
}

enum status hdf5_write_text(hid_t file, const char *path, const char *name, const char *value)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(value) + 1);
    H5Tset_strpad(type, H5T_STR_NULLTERM);
    H5Tset_cset(type, H5T_CSET_UTF8);
    enum status status = write_attribute(file, path, name, type, type, value);
    H5Tclose(type);
    return status;
}

enum status hdf5_write_int(hid_t file, const char *path, const char *name, int64_t value)
{
    return write_attribute(file, path, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

enum status hdf5_create_group(hid_t file, const char *path, const char *name)
{
    hid_t plan = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_obj_track_times(plan, false);
    hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, plan, H5P_DEFAULT);
    const char *reason = group < 0 ? hdf5_reason() : "";
    if (group >= 0) H5Gclose(group);
    H5Pclose(plan);
    CHECK(group >= 0, STATUS_IO, "%s: cannot create the group %s: %s", path, name, reason);
    return STATUS_OK;
}

enum status hdf5_create_dataset(hid_t file, const char *path, const char *name, hid_t type,
                                int rank, const hsize_t *shape, int64_t *offset)
{
    hid_t space = H5Screate_simple(rank, shape, NULL);
    hssize_t elements = H5Sget_simple_extent_npoints(space);
    hid_t plan = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(plan, H5D_CONTIGUOUS);
    H5Pset_alloc_time(plan, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(plan, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(plan, false);
    hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    const char *reason = dataset < 0 ? hdf5_reason() : "";
    haddr_t address = dataset >= 0 ? H5Dget_offset(dataset) : HADDR_UNDEF;
    if (dataset >= 0) H5Dclose(dataset);
    H5Pclose(plan);
    H5Sclose(space);
    CHECK(dataset >= 0, STATUS_IO, "%s: cannot create %s: %s", path, name, reason);
    CHECK(elements == 0 || address != HADDR_UNDEF, STATUS_IO, "%s: %s has no place in the file",
          path, name);
    *offset = elements == 0 ? 0 : (int64_t)address;
    return STATUS_OK;
}
