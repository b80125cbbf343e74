#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "runtime/base/file_io.h"
#include "runtime/base/log.h"
#include "runtime/checkpoint/save_impl.h"

static int compare_rows(const void *a, const void *b)
{
    const struct checkpoint_hash *x = a;
    const struct checkpoint_hash *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Adds a row for what lies between `begin` and `end` of the file, hashing what is there. */
static enum status add_gap(const struct save_finish *job, int file, struct checkpoint_hash *rows,
                           int64_t *num_rows, int64_t begin, int64_t end)
{
    if (end <= begin) return STATUS_OK;
    CHECK(*num_rows < job->plan->num_rows, STATUS_INTERNAL,
          "%s: HDF5 laid it out in more than %" PRId64 " stretches", job->temporary,
          job->plan->num_rows);
    void *bytes = malloc((size_t)(end - begin));
    CHECK(bytes, STATUS_NO_MEMORY, "%s: no memory to hash %" PRId64 " bytes", job->temporary,
          end - begin);
    enum status status = file_read_at(file, job->temporary, bytes, end - begin, begin);
    rows[(*num_rows)++] = (struct checkpoint_hash){
        (uint64_t)begin, (uint64_t)(end - begin),
        status == STATUS_OK ? XXH3_64bits(bytes, (size_t)(end - begin)) : 0};
    free(bytes);
    return status;
}

/* Adds rows for everything that no row covers, except the table itself. */
static enum status add_gaps(const struct save_finish *job, int file, struct checkpoint_hash *rows)
{
    int64_t used = job->plan->num_used;
    int64_t num_rows = used;
    int64_t table = job->layout->hashes;
    int64_t table_end = table + job->layout->num_hashes * (int64_t)sizeof *rows;
    int64_t at = 0;
    qsort(rows, (size_t)used, sizeof *rows, compare_rows);
    for (int64_t i = 0; i <= used; i++) {
        int64_t next = i < used ? (int64_t)rows[i].offset : job->layout->file_bytes;
        if (at <= table && table_end <= next) {
            TRY(add_gap(job, file, rows, &num_rows, at, table));
            at = table_end;
        }
        TRY(add_gap(job, file, rows, &num_rows, at, next));
        if (i < used) at = next + (int64_t)rows[i].bytes;
    }
    return STATUS_OK;
}

static enum status write_end(const struct save_finish *job, int file)
{
    struct checkpoint_hash *rows = job->plan->rows;
    TRY(add_gaps(job, file, rows));
    size_t bytes = (size_t)job->plan->num_rows * sizeof *rows;
    struct checkpoint_seal seal = {.file_bytes = job->layout->file_bytes,
                                   .table_offset = job->layout->hashes,
                                   .table_rows = job->plan->num_rows,
                                   .table_hash = XXH3_64bits(rows, bytes),
                                   .step = job->step};
    uint8_t encoded[CHECKPOINT_SEAL_BYTES];
    checkpoint_seal_encode(&seal, encoded);
    TRY(file_write_at(file, job->temporary, rows, (int64_t)bytes, job->layout->hashes));
    TRY(file_write_at(file, job->temporary, encoded, sizeof encoded, seal.file_bytes));
    return file_sync(file, job->temporary);
}

enum status save_finish(void *finish)
{
    const struct save_finish *job = finish;
    char name[CHECKPOINT_FOLDER_NAME_MAX];
    char path[PATH_MAX];
    checkpoint_file_name(job->step, name);
    snprintf(path, sizeof path, "%s/%s", job->folder, name);
    int file = open(job->temporary, O_RDWR | O_CLOEXEC);
    CHECK(file >= 0, STATUS_IO, "%s: cannot open: %s", job->temporary, strerror(errno));
    errno = 0;
    enum status status = write_end(job, file);
    int error = errno;
    close(file);
    if (status != STATUS_OK) return save_explain(status, error);
    TRY(file_rename(job->temporary, path));
    /* The checkpoint is there; what follows is convenience. */
    if (save_folder_latest(job->folder, job->step) != STATUS_OK)
        log_warning("%s", status_message());
    if (save_folder_thin(job->folder, job->step, job->keep, job->keep_every) != STATUS_OK)
        log_warning("%s", status_message());
    return STATUS_OK;
}
