/*
 * Reading one shard.
 *
 * Every table is read by pread, also the offsets: a few system calls of 0.3 us a sample. Mapping
 * the file would save those, and was rejected because a file that shrinks under a mapping kills the
 * process with SIGBUS.
 *
 * No entry of a table is trusted, sealed or not: a row's range is checked against its bytes before
 * anything is allocated or read.
 */
#include "data/store/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/store/hdf5_file.h"
#include "data/store/seal.h"
#include "runtime/base/file_io.h"

/* ---- opening ---- */

static enum status check_column(struct shard *shard, int table)
{
    const struct schema_row *row = &schema[table];
    struct shard_column *column = &shard->columns[table];
    int64_t rows = shard->rows[row->group];
    if (!column->present) {
        CHECK(!row->required || rows == 0, STATUS_INVALID,
              "%s: the dataset %s is missing (docs/data-format.md)", shard->path, row->name);
        return STATUS_OK;
    }
    if (row->type != SCHEMA_BYTES) {
        int64_t expected = row->type == SCHEMA_OFFSET ? rows + 1 : rows * row->columns;
        CHECK(column->elements == expected, STATUS_INVALID,
              "%s: %s has %lld elements and must have %lld, as there are %lld %s", shard->path,
              row->name, (long long)column->elements, (long long)expected, (long long)rows,
              schema_group_names[row->group]);
    } else {
        const struct shard_column *offsets = &shard->columns[table + 1];
        CHECK(offsets->present, STATUS_INVALID, "%s: %s is there but %s is missing", shard->path,
              row->name, schema[table + 1].name);
    }
    CHECK(column->offset >= 0 && column->elements >= 0 && column->offset <= shard->file_bytes &&
              column->elements <= (shard->file_bytes - column->offset) / column->width,
          STATUS_CORRUPT, "%s: %s reaches beyond the end of the file; copy or pack it again",
          shard->path, row->name);
    return STATUS_OK;
}

static enum status count_rows(struct shard *shard)
{
    memset(shard->rows, 0, sizeof shard->rows);
    for (int i = 0; i < TABLE_COUNT; i++) {
        const struct shard_column *column = &shard->columns[i];
        if (!schema[i].counts || !column->present) continue;
        int64_t extra = schema[i].type == SCHEMA_OFFSET ? 1 : 0;
        CHECK(column->elements >= extra && column->elements % schema[i].columns == 0,
              STATUS_INVALID, "%s: %s must have at least one element", shard->path, schema[i].name);
        shard->rows[schema[i].group] = column->elements / schema[i].columns - extra;
    }
    return STATUS_OK;
}

enum status shard_check_tables(struct shard *shard)
{
    CHECK(shard->columns[TABLE_IMAGES_OFFSET].present, STATUS_INVALID,
          "%s: the dataset images/offset is missing (docs/data-format.md)", shard->path);
    TRY(count_rows(shard));
    for (int i = 0; i < TABLE_COUNT; i++) {
        TRY(check_column(shard, i));
    }
    return STATUS_OK;
}

static enum status open_file(struct shard *shard)
{
    shard->file = open(shard->path, O_RDONLY | O_CLOEXEC);
    CHECK(shard->file >= 0, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: cannot open: %s",
          shard->path, strerror(errno));
    CHECK(fstat(shard->file, &shard->identity) == 0, STATUS_IO, "%s: %s", shard->path,
          strerror(errno));
    CHECK(S_ISREG(shard->identity.st_mode), STATUS_INVALID, "%s: not a regular file", shard->path);
    shard->file_bytes = shard->identity.st_size;
    CHECK(shard->file_bytes > 0, STATUS_CORRUPT, "%s: the file is empty; copy or pack it again",
          shard->path);
    return STATUS_OK;
}

static enum status open_checked(struct shard *shard, bool verify)
{
    TRY(open_file(shard));
    struct seal seal;
    TRY(seal_read(shard->file, shard->path, shard->file_bytes, &seal, &shard->sealed));
    if (shard->sealed) {
        shard->file_bytes = seal.file_bytes;
        if (verify) TRY(seal_verify(shard->file, shard->path, &seal));
    }
    TRY(hdf5_read_layout(shard, shard->sealed && verify));
    const struct shard_column *bulk = &shard->columns[TABLE_IMAGES_BYTES];
    CHECK(!shard->sealed || bulk->elements == 0 ||
              (bulk->offset == seal.bulk_offset && bulk->elements == seal.bulk_bytes),
          STATUS_CORRUPT, "%s: the seal and images/bytes disagree; copy or pack it again",
          shard->path);
    return shard_check_tables(shard);
}

enum status shard_open(struct shard *shard, const char *path, bool verify)
{
    memset(shard, 0, sizeof *shard);
    shard->file = -1;
    shard->path = strdup(path);
    CHECK(shard->path, STATUS_NO_MEMORY, "%s: out of memory", path);
    enum status status = open_checked(shard, verify);
    if (status != STATUS_OK) shard_close(shard);
    return status;
}

void shard_close(struct shard *shard)
{
    if (shard->file >= 0) close(shard->file);
    shard->file = -1;
    free(shard->path);
    shard->path = NULL;
}

enum status shard_check_identity(const struct shard *shard)
{
    struct stat now;
    const struct stat *then = &shard->identity;
    CHECK(stat(shard->path, &now) == 0, STATUS_INVALID,
          "%s: was removed or renamed while it was in use (%s); put it back and resume",
          shard->path, strerror(errno));
    CHECK(now.st_dev == then->st_dev && now.st_ino == then->st_ino &&
              now.st_size == then->st_size && now.st_mtim.tv_sec == then->st_mtim.tv_sec &&
              now.st_mtim.tv_nsec == then->st_mtim.tv_nsec,
          STATUS_INVALID,
          "%s: was replaced or changed while it was in use; put the old file back and resume, or "
          "start a new run with the new one",
          shard->path);
    return STATUS_OK;
}

/* ---- reading ---- */

static enum status check_range(const struct shard *shard, enum schema_table table, int64_t first,
                               int64_t count)
{
    const struct shard_column *column = &shard->columns[table];
    CHECK(first >= 0 && count >= 0 && first <= column->elements &&
              count <= column->elements - first,
          STATUS_CORRUPT, "%s: %s has %lld elements, and [%lld, %lld) are asked for", shard->path,
          schema[table].name, (long long)column->elements, (long long)first,
          (long long)(first + count));
    return STATUS_OK;
}

#define CONVERT(type)                                                                              \
    for (int64_t i = 0; i < count; i++) {                                                          \
        type value;                                                                                \
        memcpy(&value, bytes + i * (int64_t)sizeof value, sizeof value);                           \
        values[i] = (int64_t)value;                                                                \
    }                                                                                              \
    return

/* Little-endian integers in the file are taken as they are: weft runs on little-endian machines. */
static void convert_ints(const uint8_t *bytes, const struct shard_column *column, int64_t count,
                         int64_t *values)
{
    switch (column->width * (column->is_signed ? -1 : 1)) {
    case -1:
        CONVERT(int8_t);
    case -2:
        CONVERT(int16_t);
    case -4:
        CONVERT(int32_t);
    case 1:
        CONVERT(uint8_t);
    case 2:
        CONVERT(uint16_t);
    case 4:
        CONVERT(uint32_t);
    default:
        memcpy(values, bytes, (size_t)count * sizeof *values);
    }
}

/* Elements are read in pieces of this many bytes, so that no request makes us allocate. */
enum { PIECE = 4096 };

enum status shard_read_ints(const struct shard *shard, enum schema_table table, int64_t first,
                            int64_t count, int64_t *values)
{
    const struct shard_column *column = &shard->columns[table];
    if (!column->present) {
        for (int64_t i = 0; i < count; i++) {
            values[i] = schema[table].absent;
        }
        return STATUS_OK;
    }
    TRY(check_range(shard, table, first, count));
    uint8_t piece[PIECE];
    int64_t most = PIECE / column->width;
    while (count > 0) {
        int64_t some = count < most ? count : most;
        TRY(file_read_at(shard->file, shard->path, piece, some * column->width,
                         column->offset + first * column->width));
        convert_ints(piece, column, some, values);
        values += some;
        first += some;
        count -= some;
    }
    return STATUS_OK;
}

enum status shard_read_floats(const struct shard *shard, enum schema_table table, int64_t first,
                              int64_t count, float *values)
{
    const struct shard_column *column = &shard->columns[table];
    TRY(check_range(shard, table, first, count));
    if (column->width == sizeof(float)) {
        return file_read_at(shard->file, shard->path, values, count * column->width,
                            column->offset + first * column->width);
    }
    double piece[PIECE / sizeof(double)];
    int64_t most = PIECE / (int64_t)sizeof(double);
    while (count > 0) {
        int64_t some = count < most ? count : most;
        TRY(file_read_at(shard->file, shard->path, piece, some * column->width,
                         column->offset + first * column->width));
        for (int64_t i = 0; i < some; i++) {
            values[i] = (float)piece[i];
        }
        values += some;
        first += some;
        count -= some;
    }
    return STATUS_OK;
}

enum status shard_read_bytes(const struct shard *shard, enum schema_table table, int64_t first,
                             int64_t count, void *bytes)
{
    TRY(check_range(shard, table, first, count));
    return file_read_at(shard->file, shard->path, bytes, count,
                        shard->columns[table].offset + first);
}

enum status shard_read_range(const struct shard *shard, enum schema_table table, int64_t row,
                             int64_t *begin, int64_t *end)
{
    int64_t pair[2];
    TRY(shard_read_ints(shard, table, row, 2, pair));
    int64_t bytes = shard->columns[table - 1].elements;
    CHECK(pair[0] >= 0 && pair[0] <= pair[1] && pair[1] <= bytes, STATUS_CORRUPT,
          "%s: row %lld of %s is the range [%lld, %lld) of %lld bytes; pack it again", shard->path,
          (long long)row, schema[table].name, (long long)pair[0], (long long)pair[1],
          (long long)bytes);
    *begin = pair[0];
    *end = pair[1];
    return STATUS_OK;
}

/* The first row in [low, high) whose value is not below `value`. */
static enum status lower_bound(const struct shard *shard, enum schema_table table, int64_t value,
                               int64_t low, int64_t high, int64_t *row)
{
    enum { BLOCK = 64 };
    int64_t values[BLOCK];
    while (high - low > BLOCK) {
        int64_t middle = low + (high - low) / 2;
        TRY(shard_read_ints(shard, table, middle, 1, values));
        if (values[0] < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    TRY(shard_read_ints(shard, table, low, high - low, values));
    int64_t i = 0;
    while (i < high - low && values[i] < value) {
        i++;
    }
    *row = low + i;
    return STATUS_OK;
}

/* Children are spread about evenly over their parents, so the answer is looked for first in a
 * window around its expected place: one read instead of some twenty. */
static enum status narrow(const struct shard *shard, enum schema_table table, int64_t value,
                          int64_t parents, int64_t *low, int64_t *high)
{
    enum { WINDOW = 256 };
    int64_t rows = *high;
    if (rows <= WINDOW || parents <= 0) return STATUS_OK;
    int64_t guess = (int64_t)((double)value / (double)parents * (double)rows);
    int64_t first = guess - WINDOW / 2;
    if (first < 0) first = 0;
    if (first > rows - WINDOW) first = rows - WINDOW;
    int64_t values[WINDOW] = {0};
    TRY(shard_read_ints(shard, table, first, WINDOW, values));
    if (values[0] < value) *low = first;
    if (values[WINDOW - 1] >= value) *high = first + WINDOW;
    if (values[0] >= value) *high = first + 1;
    if (values[WINDOW - 1] < value) *low = first + WINDOW;
    return STATUS_OK;
}

enum status shard_find(const struct shard *shard, enum schema_table table, int64_t value,
                       int64_t *first, int64_t *count)
{
    static const enum schema_group parents[GROUP_COUNT] = {[GROUP_TEXTS] = GROUP_IMAGES,
                                                           [GROUP_BOXES] = GROUP_IMAGES,
                                                           [GROUP_SPANS] = GROUP_BOXES,
                                                           [GROUP_ANSWERS] = GROUP_TEXTS};
    enum schema_group group = schema[table].group;
    int64_t rows = shard->rows[group];
    int64_t low = 0;
    int64_t high = rows;
    TRY(narrow(shard, table, value, shard->rows[parents[group]], &low, &high));
    TRY(lower_bound(shard, table, value, low, high, first));
    *count = 0;
    enum { BLOCK = 64 };
    int64_t values[BLOCK];
    for (int64_t row = *first; row < rows;) {
        int64_t some = rows - row < BLOCK ? rows - row : BLOCK;
        TRY(shard_read_ints(shard, table, row, some, values));
        for (int64_t i = 0; i < some; i++) {
            if (values[i] != value) return STATUS_OK;
            (*count)++;
        }
        row += some;
    }
    return STATUS_OK;
}
