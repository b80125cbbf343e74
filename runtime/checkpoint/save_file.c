#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "runtime/base/hdf5_use.h"
#include "runtime/checkpoint/save_impl.h"
#include "runtime/comm/comm.h"
#include "runtime/comm/comm_mpi.h"

enum status save_explain(enum status status, int error)
{
    const char *remedy = NULL;
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        remedy = "free space there or keep fewer checkpoints";
        break;
    case EFBIG:
        remedy = "raise the file size limit (ulimit -f)";
        break;
    case EROFS:
    case EACCES:
    case EPERM:
        remedy = "make the folder writable or choose another run folder";
        break;
    default:
        break;
    }
    if (!remedy) return status;
    char message[1024];
    snprintf(message, sizeof message, "%s", status_message());
    return status_fail(status, "%s; %s", message, remedy);
}

void save_layout_fini(struct save_layout *layout)
{
    free(layout->vectors);
    free(layout->blobs);
    memset(layout, 0, sizeof *layout);
}

/* ---- the rows of /parameters ---- */

static int64_t name_bytes(const struct checkpoint_state *state)
{
    size_t longest = 1;
    for (int64_t i = 0; i < state->num_parameters; i++) {
        size_t length = strlen(state->parameters[i].name);
        if (length > longest) longest = length;
    }
    return (int64_t)(longest + 8) / 8 * 8;
}

int64_t save_row_bytes(const struct checkpoint_state *state)
{
    return name_bytes(state) + (int64_t)sizeof(struct checkpoint_row);
}

void save_rows(const struct checkpoint_state *state, uint8_t *bytes)
{
    int64_t names = name_bytes(state);
    for (int64_t i = 0; i < state->num_parameters; i++) {
        const struct checkpoint_parameter *parameter = &state->parameters[i];
        struct checkpoint_row row = {
            .rank = parameter->shape.rank, .offset = parameter->offset, .count = parameter->count};
        for (int d = 0; d < parameter->shape.rank; d++) {
            row.dim[d] = parameter->shape.dim[d];
        }
        memset(bytes, 0, (size_t)names);
        memcpy(bytes, parameter->name, strlen(parameter->name));
        memcpy(bytes + names, &row, sizeof row);
        bytes += names + (int64_t)sizeof row;
    }
}

static hid_t row_type(int64_t names)
{
    hid_t name = H5Tcopy(H5T_C_S1);
    H5Tset_size(name, (size_t)names);
    H5Tset_cset(name, H5T_CSET_UTF8);
    const hsize_t rank = SHAPE_MAX_RANK;
    hid_t shape = H5Tarray_create2(H5T_STD_I64LE, 1, &rank);
    hid_t type = H5Tcreate(H5T_COMPOUND, (size_t)names + sizeof(struct checkpoint_row));
    H5Tinsert(type, "name", 0, name);
    H5Tinsert(type, "rank", (size_t)names + offsetof(struct checkpoint_row, rank), H5T_STD_I64LE);
    H5Tinsert(type, "shape", (size_t)names + offsetof(struct checkpoint_row, dim), shape);
    H5Tinsert(type, "offset", (size_t)names + offsetof(struct checkpoint_row, offset),
              H5T_STD_I64LE);
    H5Tinsert(type, "count", (size_t)names + offsetof(struct checkpoint_row, count), H5T_STD_I64LE);
    H5Tclose(name);
    H5Tclose(shape);
    return type;
}

static hid_t hash_type(void)
{
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof(struct checkpoint_hash));
    H5Tinsert(type, "offset", offsetof(struct checkpoint_hash, offset), H5T_STD_U64LE);
    H5Tinsert(type, "bytes", offsetof(struct checkpoint_hash, bytes), H5T_STD_U64LE);
    H5Tinsert(type, "xxh3", offsetof(struct checkpoint_hash, hash), H5T_STD_U64LE);
    return type;
}

/* ---- the datasets ---- */

static enum status create_array(hid_t file, const char *path, const char *group, const char *name,
                                hid_t type, int64_t elements, int64_t *offset)
{
    char full[2 * CHECKPOINT_FOLDER_NAME_MAX];
    snprintf(full, sizeof full, "%s%s%s", group, group[0] ? "/" : "", name);
    hsize_t shape = (hsize_t)elements;
    return hdf5_create_dataset(file, path, full, type, 1, &shape, offset);
}

static enum status create_contents(hid_t file, const char *path,
                                   const struct checkpoint_state *state, struct save_layout *layout)
{
    TRY(hdf5_write_text(file, path, "format", CHECKPOINT_FORMAT));
    TRY(hdf5_write_int(file, path, "version", CHECKPOINT_VERSION));
    TRY(hdf5_write_int(file, path, "step", state->step));
    TRY(hdf5_create_group(file, path, CHECKPOINT_STATE));
    TRY(hdf5_create_group(file, path, CHECKPOINT_BLOBS));
    for (int v = 0; v < state->num_vectors; v++) {
        TRY(create_array(file, path, CHECKPOINT_STATE, state->vectors[v].name, H5T_IEEE_F32LE,
                         state->vectors[v].elements, &layout->vectors[v]));
    }
    for (int b = 0; b < state->num_blobs; b++) {
        TRY(create_array(file, path, CHECKPOINT_BLOBS, state->blobs[b].name, H5T_STD_U8LE,
                         state->blobs[b].size, &layout->blobs[b]));
    }
    hid_t type = row_type(name_bytes(state));
    enum status status = create_array(file, path, "", CHECKPOINT_PARAMETERS, type,
                                      state->num_parameters, &layout->parameters);
    H5Tclose(type);
    TRY(status);
    type = hash_type();
    status =
        create_array(file, path, "", CHECKPOINT_HASHES, type, layout->num_hashes, &layout->hashes);
    H5Tclose(type);
    return status;
}

/* Should the disk fill up between the look at it and libhdf5's last write, some ranks may wait in
 * its collectives for one that has failed: for minutes then, not as long as a checkpoint may take.
 */
static enum status create_hdf5(const char *path, const struct checkpoint_state *state,
                               struct comm *comm, struct save_layout *layout)
{
    if (comm) comm_phase_set(comm, COMM_PHASE_FILE, "creating a checkpoint");
    hdf5_lock();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    H5Pset_alignment(access, CHECKPOINT_ALIGN, CHECKPOINT_ALIGN);
    H5Pset_file_locking(access, false, true); /* the run's lock keeps others out */
    if (comm && comm->size > 1) {
        H5Pset_fapl_mpio(access, comm_mpi_communicator(comm), MPI_INFO_NULL);
    }
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    enum status status = STATUS_OK;
    if (file < 0) status = status_fail(STATUS_IO, "%s: cannot create: %s", path, hdf5_reason());
    H5Pclose(access);
    if (status == STATUS_OK) status = create_contents(file, path, state, layout);
    if (file >= 0 && H5Fclose(file) < 0 && status == STATUS_OK) {
        status = status_fail(STATUS_IO, "%s: cannot write: %s", path, hdf5_reason());
    }
    hdf5_unlock();
    if (comm) comm_phase_set(comm, COMM_PHASE_CHECKPOINT, "checkpoint");
    return status;
}

/* ---- the file ---- */

/*
 * libhdf5 gives poor reasons for a write that fails, and does not survive it: it crashes at the end
 * of the program, or waits for ever for ranks that failed. So every reason for which it could fail
 * is looked for before it is called, by each rank for itself.
 */

/* Takes `bytes` of the disk for the file, or at least looks whether they are there. Gives the errno
 * of a refusal, 0 for none. */
static int take_space(int file, int64_t bytes)
{
    struct statvfs disk;
    if (fallocate(file, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0) return 0;
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) return errno;
    /* A file system that cannot reserve; others may be quicker, and then the writing will tell. */
    if (fstatvfs(file, &disk) != 0) return 0;
    uint64_t blocks = (uint64_t)bytes / disk.f_frsize + 1;
    return disk.f_bavail < blocks ? ENOSPC : 0;
}

/* Opens the file and takes `bytes` of the disk for it. */
static enum status reserve(const char *path, int flags, int64_t bytes)
{
    int file = open(path, O_WRONLY | O_CLOEXEC | flags, 0666);
    int error = errno;
    if (file < 0) {
        status_fail(STATUS_IO, "%s: cannot create: %s", path, strerror(error));
        return save_explain(STATUS_IO, error);
    }
    error = take_space(file, bytes);
    close(file);
    if (error == 0) return STATUS_OK;
    status_fail(STATUS_IO, "%s: cannot write %lld bytes: %s", path, (long long)bytes,
                strerror(error));
    return save_explain(STATUS_IO, error);
}

/* Whether this rank can write `bytes` to the file that rank 0 made. */
static enum status check_access(const char *path, int64_t bytes)
{
    struct rlimit limit;
    int file = open(path, O_WRONLY | O_CLOEXEC);
    int error = errno;
    if (file < 0) {
        status_fail(STATUS_IO, "%s: cannot open: %s", path, strerror(error));
        return save_explain(STATUS_IO, error);
    }
    close(file);
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
        (int64_t)limit.rlim_cur >= bytes) {
        return STATUS_OK;
    }
    status_fail(STATUS_IO, "%s: cannot write %lld bytes: %s", path, (long long)bytes,
                strerror(EFBIG));
    return save_explain(STATUS_IO, EFBIG);
}

static int64_t data_bytes(const struct checkpoint_state *state, const struct save_layout *layout)
{
    /* HDF5's own bytes: some kilobytes, and the gaps that alignment makes. */
    int64_t bytes = layout->parameters_bytes + (1 << 20) +
                    (state->num_vectors + state->num_blobs) * (int64_t)CHECKPOINT_ALIGN +
                    layout->num_hashes * (int64_t)sizeof(struct checkpoint_hash);
    for (int v = 0; v < state->num_vectors; v++) {
        bytes += state->vectors[v].elements * (int64_t)sizeof(float);
    }
    for (int b = 0; b < state->num_blobs; b++) {
        bytes += state->blobs[b].size;
    }
    return bytes;
}

static enum status agree(struct comm *comm, const char *label, enum status status)
{
    return comm ? comm_agree_status(comm, label, status) : status;
}

/* The length of the finished HDF5 part, and its blocks and the seal's reserved. */
static enum status measure(const char *path, struct save_layout *layout)
{
    struct stat info;
    CHECK(stat(path, &info) == 0, STATUS_IO, "%s: cannot look at it: %s", path, strerror(errno));
    layout->file_bytes = info.st_size;
    return reserve(path, 0, layout->file_bytes + CHECKPOINT_SEAL_BYTES);
}

enum status save_file_create(const char *path, const struct checkpoint_state *state,
                             int64_t num_hashes, struct comm *comm, struct save_layout *layout)
{
    bool is_first = !comm || comm->rank == 0;
    memset(layout, 0, sizeof *layout);
    layout->num_hashes = num_hashes;
    layout->parameters_bytes = state->num_parameters * save_row_bytes(state);
    layout->vectors = calloc((size_t)state->num_vectors + 1, sizeof *layout->vectors);
    layout->blobs = calloc((size_t)state->num_blobs + 1, sizeof *layout->blobs);
    enum status status = STATUS_OK;
    if (!layout->vectors || !layout->blobs) {
        status = status_fail(STATUS_NO_MEMORY, "%s: no memory for its layout", path);
    }
    if (status == STATUS_OK && is_first) {
        status = reserve(path, O_CREAT | O_TRUNC, data_bytes(state, layout));
    }
    status = agree(comm, "checkpoint: reserve the file", status);
    if (status == STATUS_OK) {
        status = agree(comm, "checkpoint: reach the file",
                       check_access(path, data_bytes(state, layout)));
    }
    if (status == STATUS_OK) {
        status = agree(comm, "checkpoint: create the file", create_hdf5(path, state, comm, layout));
    }
    if (status == STATUS_OK) {
        status = agree(comm, "checkpoint: measure the file",
                       is_first ? measure(path, layout) : STATUS_OK);
    }
    if (status != STATUS_OK) {
        if (is_first) (void)unlink(path);
        save_layout_fini(layout);
    }
    return status;
}
