#include "data/store/hdf5_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- attributes ---- */

enum { ATTRIBUTE_TEXT, ATTRIBUTE_INT };

static enum status read_vlen_text(hid_t attribute, const char *path, const char *name, char *text,
                                  size_t size)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    hid_t stored = H5Aget_type(attribute);
    H5Tset_cset(type, H5Tget_cset(stored));
    char *value = NULL;
    herr_t result = H5Aread(attribute, type, &value);
    const char *reason = result < 0 ? hdf5_reason() : "empty";
    H5Tclose(stored);
    H5Tclose(type);
    CHECK(result >= 0 && value, STATUS_CORRUPT, "%s: cannot read the attribute '%s': %s", path,
          name, reason);
    snprintf(text, size, "%s", value);
    H5free_memory(value);
    return STATUS_OK;
}

static enum status read_fixed_text(hid_t attribute, const char *path, const char *name,
                                   size_t stored, char *text, size_t size)
{
    CHECK(stored < size, STATUS_INVALID, "%s: the attribute '%s' is longer than %zu bytes", path,
          name, size - 1);
    hid_t type = H5Aget_type(attribute);
    memset(text, 0, size);
    herr_t result = H5Aread(attribute, type, text);
    const char *reason = result < 0 ? hdf5_reason() : "";
    H5Tclose(type);
    CHECK(result >= 0, STATUS_CORRUPT, "%s: cannot read the attribute '%s': %s", path, name,
          reason);
    return STATUS_OK;
}

static enum status read_attribute(hid_t attribute, const char *path, const char *name, int kind,
                                  char *text, size_t size, int64_t *number)
{
    hid_t space = H5Aget_space(attribute);
    hssize_t elements = H5Sget_simple_extent_npoints(space);
    H5Sclose(space);
    hid_t type = H5Aget_type(attribute);
    H5T_class_t class = H5Tget_class(type);
    bool variable = class == H5T_STRING && H5Tis_variable_str(type) > 0;
    size_t stored = H5Tget_size(type);
    H5Tclose(type);
    CHECK(elements == 1, STATUS_INVALID, "%s: the attribute '%s' must be a single value", path,
          name);
    if (kind == ATTRIBUTE_INT) {
        CHECK(class == H5T_INTEGER, STATUS_INVALID, "%s: the attribute '%s' must be an integer",
              path, name);
        CHECK(H5Aread(attribute, H5T_NATIVE_INT64, number) >= 0, STATUS_CORRUPT,
              "%s: cannot read the attribute '%s': %s", path, name, hdf5_reason());
        return STATUS_OK;
    }
    CHECK(class == H5T_STRING, STATUS_INVALID, "%s: the attribute '%s' must be a string", path,
          name);
    return variable ? read_vlen_text(attribute, path, name, text, size)
                    : read_fixed_text(attribute, path, name, stored, text, size);
}

/* Leaves the default in place when the attribute does not exist and `needed` is false. */
static enum status attribute(hid_t file, const char *path, const char *name, bool needed, int kind,
                             char *text, size_t size, int64_t *number)
{
    htri_t exists = H5Aexists(file, name);
    if (exists <= 0) {
        CHECK(!needed, STATUS_INVALID,
              "%s: an HDF5 file without the attribute '%s', so not a weft shard; "
              "docs/data-format.md shows how to write one",
              path, name);
        return STATUS_OK;
    }
    hid_t id = H5Aopen(file, name, H5P_DEFAULT);
    CHECK(id >= 0, STATUS_CORRUPT, "%s: cannot open the attribute '%s': %s", path, name,
          hdf5_reason());
    enum status status = read_attribute(id, path, name, kind, text, size, number);
    H5Aclose(id);
    return status;
}

static enum status read_info(hid_t file, const char *path, struct shard_info *info)
{
    char format[SHARD_NAME_MAX] = "";
    int64_t version = 0;
    TRY(attribute(file, path, "format", true, ATTRIBUTE_TEXT, format, sizeof format, NULL));
    CHECK(strcmp(format, SCHEMA_FORMAT) == 0, STATUS_INVALID,
          "%s: the attribute 'format' is '%s' and not '%s', so not a weft shard", path, format,
          SCHEMA_FORMAT);
    TRY(attribute(file, path, "schema", true, ATTRIBUTE_INT, NULL, 0, &version));
    CHECK(version == SCHEMA_VERSION, STATUS_UNSUPPORTED,
          "%s: schema version %lld, and this weft reads version %d; %s", path, (long long)version,
          SCHEMA_VERSION,
          version > SCHEMA_VERSION ? "use a newer weft" : "pack the set again with this weft");
    memset(info, 0, sizeof *info);
    info->shards = 1;
    TRY(attribute(file, path, "set", false, ATTRIBUTE_TEXT, info->set, sizeof info->set, NULL));
    TRY(attribute(file, path, "set_id", false, ATTRIBUTE_TEXT, info->set_id, sizeof info->set_id,
                  NULL));
    TRY(attribute(file, path, "uuid", false, ATTRIBUTE_TEXT, info->uuid, sizeof info->uuid, NULL));
    TRY(attribute(file, path, "origin", false, ATTRIBUTE_TEXT, info->origin, sizeof info->origin,
                  NULL));
    TRY(attribute(file, path, "shard", false, ATTRIBUTE_INT, NULL, 0, &info->shard));
    TRY(attribute(file, path, "shards", false, ATTRIBUTE_INT, NULL, 0, &info->shards));
    TRY(attribute(file, path, "skipped", false, ATTRIBUTE_INT, NULL, 0, &info->skipped));
    CHECK(info->shards >= 1 && info->shard >= 0 && info->shard < info->shards, STATUS_INVALID,
          "%s: says that it is shard %lld of %lld; the attribute 'shard' counts from 0", path,
          (long long)info->shard, (long long)info->shards);
    return STATUS_OK;
}

/* ---- datasets ---- */

static enum status read_type(hid_t dataset, const char *path, const struct schema_row *row,
                             struct shard_column *column)
{
    hid_t type = H5Dget_type(dataset);
    H5T_class_t class = H5Tget_class(type);
    size_t width = H5Tget_size(type);
    if (class == H5T_ENUM) { /* h5py stores booleans so */
        hid_t base = H5Tget_super(type);
        H5Tclose(type);
        type = base;
        class = H5Tget_class(type);
    }
    H5T_order_t order = H5Tget_order(type);
    column->width = (uint8_t)width;
    column->is_signed = class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2;
    column->is_float = class == H5T_FLOAT;
    bool whole = (class != H5T_INTEGER && class != H5T_FLOAT) ||
                 (H5Tget_precision(type) == 8 * width && H5Tget_offset(type) == 0);
    bool ieee = class != H5T_FLOAT || H5Tequal(type, H5T_IEEE_F32LE) > 0 ||
                H5Tequal(type, H5T_IEEE_F64LE) > 0 || order == H5T_ORDER_BE;
    H5Tclose(type);
    CHECK(order != H5T_ORDER_BE || width == 1, STATUS_UNSUPPORTED,
          "%s: %s is big-endian; write it as little-endian (in numpy: .astype('<i8') or '<f4')",
          path, row->name);
    bool known = width == 1 || width == 2 || width == 4 || width == 8;
    switch (row->type) {
    case SCHEMA_BYTES:
        CHECK(class == H5T_INTEGER && width == 1, STATUS_UNSUPPORTED,
              "%s: %s must be of type uint8 (in numpy: np.frombuffer(data, 'u1'))", path,
              row->name);
        break;
    case SCHEMA_FLOAT:
        CHECK(class == H5T_FLOAT && whole && ieee && (width == 4 || width == 8), STATUS_UNSUPPORTED,
              "%s: %s must be of type float32 or float64", path, row->name);
        break;
    default:
        CHECK(class == H5T_INTEGER && whole && known, STATUS_UNSUPPORTED,
              "%s: %s must be of an integer type", path, row->name);
        break;
    }
    return STATUS_OK;
}

static enum status read_storage(hid_t dataset, const char *path, const struct schema_row *row,
                                struct shard_column *column)
{
    hid_t plan = H5Dget_create_plist(dataset);
    H5D_layout_t layout = H5Pget_layout(plan);
    int filters = H5Pget_nfilters(plan);
    int external = layout == H5D_CONTIGUOUS ? H5Pget_external_count(plan) : 0;
    H5Pclose(plan);
    CHECK(layout == H5D_CONTIGUOUS && filters == 0 && external == 0, STATUS_UNSUPPORTED,
          "%s: %s is stored %s, and weft reads contiguous datasets only; write it without chunks, "
          "maxshape and compression, or run: h5repack -l CONTI -f NONE %s NEW.h5",
          path, row->name,
          filters > 0                ? "compressed"
          : layout == H5D_CHUNKED    ? "in chunks"
          : layout == H5D_CONTIGUOUS ? "in another file"
                                     : "in a compact or virtual layout",
          path);
    if (column->elements == 0) return STATUS_OK;
    haddr_t address = H5Dget_offset(dataset);
    CHECK(address != HADDR_UNDEF &&
              H5Dget_storage_size(dataset) == (hsize_t)column->elements * column->width,
          STATUS_CORRUPT, "%s: %s was created but its data were never written", path, row->name);
    column->offset = (int64_t)address;
    return STATUS_OK;
}

static enum status read_shape(hid_t dataset, const char *path, const struct schema_row *row,
                              struct shard_column *column)
{
    hid_t space = H5Dget_space(dataset);
    int rank = H5Sget_simple_extent_ndims(space);
    hsize_t shape[2] = {0, 1};
    if (rank == 1 || rank == 2) H5Sget_simple_extent_dims(space, shape, NULL);
    H5Sclose(space);
    int wanted = row->columns > 1 ? 2 : 1;
    CHECK(rank == wanted && shape[1] == (hsize_t)row->columns, STATUS_INVALID,
          "%s: %s must have the shape [rows%s]", path, row->name, wanted == 2 ? ", 4" : "");
    CHECK(shape[0] < (hsize_t)1 << 56, STATUS_CORRUPT, "%s: %s has %llu rows", path, row->name,
          (unsigned long long)shape[0]);
    column->elements = (int64_t)shape[0] * row->columns;
    return STATUS_OK;
}

static enum status read_dataset(hid_t dataset, const char *path, const struct schema_row *row,
                                struct shard_column *column)
{
    TRY(read_type(dataset, path, row, column));
    TRY(read_shape(dataset, path, row, column));
    TRY(read_storage(dataset, path, row, column));
    column->present = true;
    return STATUS_OK;
}

/* Only hard links: a soft or external link could lead out of the file whose bytes were hashed. */
static bool link_is_hard(hid_t file, const char *name)
{
    H5L_info_t info;
    return H5Lexists(file, name, H5P_DEFAULT) > 0 &&
           H5Lget_info(file, name, &info, H5P_DEFAULT) >= 0 && info.type == H5L_TYPE_HARD;
}

static enum status read_columns(hid_t file, struct shard *shard)
{
    for (int i = 0; i < TABLE_COUNT; i++) {
        const struct schema_row *row = &schema[i];
        const char *group = schema_group_names[row->group];
        if (!link_is_hard(file, group) || !link_is_hard(file, row->name)) continue;
        hid_t dataset = H5Dopen2(file, row->name, H5P_DEFAULT);
        CHECK(dataset >= 0, STATUS_CORRUPT, "%s: cannot open %s: %s", shard->path, row->name,
              hdf5_reason());
        enum status status = read_dataset(dataset, shard->path, row, &shard->columns[i]);
        H5Dclose(dataset);
        TRY(status);
    }
    return STATUS_OK;
}

/* The library opened the path by itself; it must be the file whose seal was verified. */
static enum status check_same_file(hid_t file, const struct shard *shard)
{
    void *handle = NULL;
    struct stat info;
    CHECK(H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) >= 0 && fstat(*(int *)handle, &info) == 0,
          STATUS_IO, "%s: cannot look at the open file: %s", shard->path, hdf5_reason());
    CHECK(info.st_dev == shard->identity.st_dev && info.st_ino == shard->identity.st_ino,
          STATUS_INVALID, "%s: was replaced while it was opened; start again", shard->path);
    return STATUS_OK;
}

static enum status read_layout(struct shard *shard)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    /* Read-only sets often lie on file systems without locks, and many ranks open them at once. */
    H5Pset_file_locking(access, false, true);
    hid_t file = H5Fopen(shard->path, H5F_ACC_RDONLY, access);
    const char *reason = file < 0 ? hdf5_reason() : ""; /* any other call would clear it */
    H5Pclose(access);
    CHECK(file >= 0, STATUS_CORRUPT, "%s: not a sound HDF5 file (%s); copy or pack it again",
          shard->path, reason);
    enum status status = check_same_file(file, shard);
    if (status == STATUS_OK) status = read_info(file, shard->path, &shard->info);
    if (status == STATUS_OK) status = read_columns(file, shard);
    H5Fclose(file);
    return status;
}

/* ---- reading in a child process ---- */

enum { CHILD_CPU_SECONDS = 2, CHILD_SECONDS = 60 };

/* What the child tells. */
struct layout_reply {
    enum status status;
    char message[2048];
    struct shard_info info;
    struct shard_column columns[TABLE_COUNT];
};

static void reply_from_child(struct shard *shard, int pipe_end)
{
    struct rlimit limit = {CHILD_CPU_SECONDS, CHILD_CPU_SECONDS};
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CPU, &limit);
    setrlimit(RLIMIT_CORE, &no_core);
    /* Handlers of the parent (a sanitizer's, MPI's) would only print about a crash that is
     * expected. */
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof crashes / sizeof crashes[0]; i++) {
        signal(crashes[i], SIG_DFL);
    }
    int silence = open("/dev/null", O_WRONLY);
    if (silence >= 0) dup2(silence, STDERR_FILENO);
    struct layout_reply reply = {.status = read_layout(shard)};
    if (reply.status != STATUS_OK) {
        snprintf(reply.message, sizeof reply.message, "%s", status_message());
    }
    reply.info = shard->info;
    memcpy(reply.columns, shard->columns, sizeof reply.columns);
    const char *bytes = (const char *)&reply;
    size_t left = sizeof reply;
    while (left > 0) {
        ssize_t put = write(pipe_end, bytes, left);
        if (put <= 0) break;
        bytes += put;
        left -= (size_t)put;
    }
    _exit(0);
}

/* Reads the whole reply; false when the child ended or the time was up before. */
static bool read_reply(int pipe_end, struct layout_reply *reply)
{
    char *bytes = (char *)reply;
    size_t left = sizeof *reply;
    while (left > 0) {
        struct pollfd wait = {.fd = pipe_end, .events = POLLIN};
        int ready = poll(&wait, 1, CHILD_SECONDS * 1000);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return false;
        ssize_t got = read(pipe_end, bytes, left);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        bytes += got;
        left -= (size_t)got;
    }
    return true;
}

static enum status read_layout_in_child(struct shard *shard)
{
    struct layout_reply reply;
    int ends[2];
    CHECK(pipe2(ends, O_CLOEXEC) == 0, STATUS_IO, "%s: cannot make a pipe: %s", shard->path,
          strerror(errno));
    pid_t child = fork();
    if (child == 0) reply_from_child(shard, ends[1]);
    int error = errno;
    close(ends[1]);
    bool replied = child > 0 && read_reply(ends[0], &reply);
    close(ends[0]);
    CHECK(child > 0, STATUS_IO, "%s: cannot start a process: %s", shard->path, strerror(error));
    if (!replied) kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
    }
    CHECK(replied, STATUS_CORRUPT,
          "%s: not a sound HDF5 file (its damage makes libhdf5 crash); copy or pack it again",
          shard->path);
    if (reply.status != STATUS_OK) return status_fail(reply.status, "%s", reply.message);
    shard->info = reply.info;
    memcpy(shard->columns, reply.columns, sizeof shard->columns);
    return STATUS_OK;
}

enum status hdf5_read_layout(struct shard *shard, bool verified)
{
    hdf5_lock();
    enum status status = verified ? read_layout(shard) : read_layout_in_child(shard);
    hdf5_unlock();
    return status;
}

/* ---- writing ---- */

static hid_t stored_type(const struct schema_row *row)
{
    if (row->type == SCHEMA_FLOAT) return H5T_IEEE_F32LE;
    if (row->type == SCHEMA_BYTES) return H5T_STD_U8LE;
    switch (row->width) {
    case 1:
        return row->is_signed ? H5T_STD_I8LE : H5T_STD_U8LE;
    case 4:
        return row->is_signed ? H5T_STD_I32LE : H5T_STD_U32LE;
    default:
        return row->is_signed ? H5T_STD_I64LE : H5T_STD_U64LE;
    }
}

enum status hdf5_create_table(hid_t file, const char *path, enum schema_table table,
                              int64_t elements, int64_t *offset)
{
    const struct schema_row *row = &schema[table];
    hsize_t shape[2] = {(hsize_t)(elements / row->columns), (hsize_t)row->columns};
    return hdf5_create_dataset(file, path, row->name, stored_type(row), row->columns > 1 ? 2 : 1,
                               shape, offset);
}
