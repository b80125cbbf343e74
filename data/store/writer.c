/*
 * How a shard is written in one pass although nobody knows how large images/bytes will be.
 *
 * A contiguous dataset needs its length at creation, and the total is known only after the last
 * picture. So the place of images/bytes is fixed in advance, BULK_OFFSET, and pictures are appended
 * there by pwrite, without libhdf5. At the end libhdf5 builds the file around them: superblock and
 * groups fit in front of BULK_OFFSET, then the dataset is created with early allocation and an
 * alignment that leads to just that place, and the tables follow behind. Early allocation without
 * fill values writes nothing into the range. (Rejected: chunked datasets, which rule out pread at a
 * known offset; spooling to a second file, which doubles the writing.)
 *
 * Tables grow in memory until then: about 100 bytes a row and the texts, for one shard.
 */
#include "data/store/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "data/store/hdf5_file.h"
#include "data/store/seal.h"
#include "runtime/base/file_io.h"

enum { BULK_OFFSET = 4096 };

struct column_buffer {
    uint8_t *bytes;
    int64_t size;
    int64_t capacity;
    bool varied; /* some value differs from what a missing dataset means */
};

struct shard_writer {
    char path[PATH_MAX];
    char temporary[PATH_MAX];
    struct shard_head head;
    int file;
    int64_t bulk_bytes;
    struct column_buffer columns[TABLE_COUNT];
    int64_t rows[GROUP_COUNT];
};

/* ---- column buffers ---- */

static enum status append(struct shard_writer *writer, enum schema_table table, const void *bytes,
                          int64_t size)
{
    struct column_buffer *column = &writer->columns[table];
    if (size > column->capacity - column->size) {
        int64_t wanted = column->capacity + column->capacity / 2 + size + 4096;
        uint8_t *bigger = realloc(column->bytes, (size_t)wanted);
        CHECK(bigger, STATUS_NO_MEMORY, "%s: out of memory for %s", writer->path,
              schema[table].name);
        column->bytes = bigger;
        column->capacity = wanted;
    }
    if (size) memcpy(column->bytes + column->size, bytes, (size_t)size);
    column->size += size;
    return STATUS_OK;
}

static enum status append_int(struct shard_writer *writer, enum schema_table table, int64_t value)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)((uint64_t)value >> (8 * i));
    }
    if (value != schema[table].absent) writer->columns[table].varied = true;
    return append(writer, table, bytes, schema[table].width);
}

/* Appends a string to the bytes dataset `table` and its end to the offset dataset behind it. */
static enum status append_string(struct shard_writer *writer, enum schema_table table,
                                 const char *text, int64_t length)
{
    enum schema_table offsets = (enum schema_table)(table + 1);
    if (writer->columns[offsets].size == 0) TRY(append_int(writer, offsets, 0));
    TRY(append(writer, table, text, length));
    return append_int(writer, offsets, writer->columns[table].size);
}

/* ---- samples ---- */

static enum status add_image(struct shard_writer *writer, const struct sample_image *image,
                             const uint64_t *hash)
{
    const char *key = image->key ? image->key : "";
    TRY(file_write_at(writer->file, writer->temporary, image->bytes, image->size,
                      BULK_OFFSET + writer->bulk_bytes));
    writer->bulk_bytes += image->size;
    TRY(append_int(writer, TABLE_IMAGES_OFFSET, writer->bulk_bytes));
    TRY(append_int(writer, TABLE_IMAGES_HASH,
                   (int64_t)(hash ? *hash : XXH64(image->bytes, (size_t)image->size, 0))));
    TRY(append_int(writer, TABLE_IMAGES_WIDTH, image->width));
    TRY(append_int(writer, TABLE_IMAGES_HEIGHT, image->height));
    TRY(append_string(writer, TABLE_IMAGES_KEY, key, (int64_t)strlen(key)));
    writer->rows[GROUP_IMAGES]++;
    return STATUS_OK;
}

static enum status add_text(struct shard_writer *writer, const struct sample_text *text,
                            int64_t first_image)
{
    const char *key = text->key ? text->key : "";
    TRY(append_string(writer, TABLE_TEXTS_BYTES, text->text, text->length));
    TRY(append_int(writer, TABLE_TEXTS_IMAGE, first_image + text->image));
    TRY(append_int(writer, TABLE_TEXTS_IMAGE2, text->image2 < 0 ? -1 : first_image + text->image2));
    TRY(append_int(writer, TABLE_TEXTS_KIND, text->kind));
    TRY(append_int(writer, TABLE_TEXTS_LABEL, text->label));
    TRY(append_string(writer, TABLE_TEXTS_KEY, key, (int64_t)strlen(key)));
    writer->rows[GROUP_TEXTS]++;
    return STATUS_OK;
}

static enum status add_box(struct shard_writer *writer, const struct sample_box *box,
                           int64_t first_image, int64_t first_text)
{
    TRY(append(writer, TABLE_BOXES_XYXY, box->xyxy, sizeof box->xyxy));
    TRY(append_int(writer, TABLE_BOXES_IMAGE, first_image + box->image));
    TRY(append_int(writer, TABLE_BOXES_TEXT, box->text < 0 ? -1 : first_text + box->text));
    TRY(append_int(writer, TABLE_BOXES_CATEGORY, box->category));
    TRY(append_int(writer, TABLE_BOXES_CROWD, box->crowd));
    writer->rows[GROUP_BOXES]++;
    return STATUS_OK;
}

static enum status add_span(struct shard_writer *writer, const struct sample_span *span,
                            int64_t first_box)
{
    TRY(append_int(writer, TABLE_SPANS_BOX, first_box + span->box));
    TRY(append_int(writer, TABLE_SPANS_BEGIN, span->begin));
    TRY(append_int(writer, TABLE_SPANS_END, span->end));
    writer->rows[GROUP_SPANS]++;
    return STATUS_OK;
}

static enum status add_answer(struct shard_writer *writer, const struct sample_answer *answer,
                              int64_t first_text)
{
    TRY(append_string(writer, TABLE_ANSWERS_BYTES, answer->answer, answer->length));
    TRY(append_int(writer, TABLE_ANSWERS_TEXT, first_text + answer->text));
    TRY(append(writer, TABLE_ANSWERS_SCORE, &answer->score, sizeof answer->score));
    writer->rows[GROUP_ANSWERS]++;
    return STATUS_OK;
}

enum status shard_writer_add(struct shard_writer *writer, const struct sample *sample,
                             const uint64_t *hashes)
{
    int64_t image = writer->rows[GROUP_IMAGES];
    int64_t text = writer->rows[GROUP_TEXTS];
    int64_t box = writer->rows[GROUP_BOXES];
    for (int32_t i = 0; i < sample->num_images; i++) {
        TRY(add_image(writer, &sample->images[i], hashes ? &hashes[i] : NULL));
    }
    for (int32_t i = 0; i < sample->num_texts; i++) {
        TRY(add_text(writer, &sample->texts[i], image));
    }
    for (int32_t i = 0; i < sample->num_boxes; i++) {
        TRY(add_box(writer, &sample->boxes[i], image, text));
    }
    for (int32_t i = 0; i < sample->num_spans; i++) {
        TRY(add_span(writer, &sample->spans[i], box));
    }
    for (int32_t i = 0; i < sample->num_answers; i++) {
        TRY(add_answer(writer, &sample->answers[i], text));
    }
    return STATUS_OK;
}

/* ---- the HDF5 file around the pictures ---- */

/* Whether a table goes into the file: not when its group has no rows, or when all rows say the same
 * as a missing dataset would. */
static bool table_is_stored(const struct shard_writer *writer, int table)
{
    const struct schema_row *row = &schema[table];
    if (row->group == GROUP_IMAGES && row->required) return true;
    if (writer->rows[row->group] == 0) return false;
    if (row->required || table == TABLE_IMAGES_HASH) return true;
    if (row->type == SCHEMA_BYTES) return writer->columns[table].size > 0;
    if (row->type == SCHEMA_OFFSET) return writer->columns[table - 1].size > 0;
    return writer->columns[table].varied;
}

static int64_t stored_elements(const struct shard_writer *writer, int table)
{
    if (table == TABLE_IMAGES_BYTES) return writer->bulk_bytes;
    return writer->columns[table].size / schema[table].width;
}

/* 128 bits of everything that the shard says, as text: two shards with one name are told apart. */
static void make_uuid(const struct shard_writer *writer, char uuid[33])
{
    XXH64_hash_t half[2] = {XXH64(writer->head.set_id, strlen(writer->head.set_id), 0),
                            (uint64_t)writer->head.shard};
    for (int i = 0; i < TABLE_COUNT; i++) {
        const struct column_buffer *column = &writer->columns[i];
        for (int j = 0; j < 2; j++) {
            half[j] = XXH64(column->bytes, (size_t)column->size, half[j] + (uint64_t)j);
        }
    }
    snprintf(uuid, 33, "%016llx%016llx", (unsigned long long)half[0], (unsigned long long)half[1]);
}

static enum status write_head(const struct shard_writer *writer, hid_t file, int64_t skipped)
{
    const char *path = writer->temporary;
    const struct shard_head *head = &writer->head;
    char uuid[33];
    make_uuid(writer, uuid);
    TRY(hdf5_write_text(file, path, "format", SCHEMA_FORMAT));
    TRY(hdf5_write_int(file, path, "schema", SCHEMA_VERSION));
    TRY(hdf5_write_text(file, path, "set", head->set));
    TRY(hdf5_write_text(file, path, "set_id", head->set_id));
    TRY(hdf5_write_int(file, path, "shard", head->shard));
    TRY(hdf5_write_int(file, path, "shards", head->shards));
    TRY(hdf5_write_text(file, path, "uuid", uuid));
    TRY(hdf5_write_text(file, path, "origin", head->origin));
    return hdf5_write_int(file, path, "skipped", skipped);
}

static enum status create_tables(const struct shard_writer *writer, hid_t file,
                                 int64_t offsets[TABLE_COUNT])
{
    for (int i = 0; i < GROUP_COUNT; i++) {
        if (i == GROUP_IMAGES || writer->rows[i] == 0) continue;
        TRY(hdf5_create_group(file, writer->temporary, schema_group_names[i]));
    }
    for (int i = 0; i < TABLE_COUNT; i++) {
        if (i == TABLE_IMAGES_BYTES || !table_is_stored(writer, i)) continue;
        TRY(hdf5_create_table(file, writer->temporary, (enum schema_table)i,
                              stored_elements(writer, i), &offsets[i]));
    }
    return STATUS_OK;
}

static hid_t access_plan(void)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    H5Pset_file_locking(access, false, true);
    return access;
}

enum { EMPTY_MAX = BULK_OFFSET };

/* The bytes of a file with one empty group. Made in memory: libhdf5 does not survive a disk that is
 * full when it creates a file. (H5Fget_file_image would be the call for this, but leaves a wrong
 * checksum in the superblock, in 1.10.8.) */
static enum status make_empty(const char *path, uint8_t bytes[EMPTY_MAX], int64_t *size)
{
    hid_t access = access_plan();
    H5Pset_fapl_core(access, EMPTY_MAX, false);
    hid_t plan = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_obj_track_times(plan, false);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, plan, access);
    H5Pclose(plan);
    H5Pclose(access);
    CHECK(file >= 0, STATUS_NO_MEMORY, "%s: no memory for an empty HDF5 file", path);
    enum status status = hdf5_create_group(file, path, schema_group_names[GROUP_IMAGES]);
    hsize_t length = 0;
    void *memory = NULL;
    bool made = status == STATUS_OK && H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0 &&
                H5Fget_filesize(file, &length) >= 0 && length <= EMPTY_MAX &&
                H5Fget_vfd_handle(file, H5P_DEFAULT, &memory) >= 0;
    if (made) memcpy(bytes, *(void **)memory, length); /* it gives the address of its pointer */
    H5Fclose(file);
    TRY(status);
    CHECK(made, STATUS_INTERNAL, "%s: cannot make an empty HDF5 file", path);
    *size = (int64_t)length;
    return STATUS_OK;
}

/* libhdf5 opens the temporary file twice: to place images/bytes, and to add the rest. */
enum build_step { BUILD_BULK, BUILD_TABLES };

static enum status build(const struct shard_writer *writer, enum build_step step, int64_t skipped,
                         int64_t offsets[TABLE_COUNT])
{
    const char *path = writer->temporary;
    hdf5_lock();
    hid_t access = access_plan();
    if (step == BUILD_BULK) H5Pset_alignment(access, BULK_OFFSET, BULK_OFFSET);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, access);
    enum status status = STATUS_OK;
    if (file < 0) {
        status = status_fail(STATUS_IO, "%s: cannot open: %s", path, hdf5_reason());
    } else if (step == BUILD_BULK) {
        status = hdf5_create_table(file, path, TABLE_IMAGES_BYTES, writer->bulk_bytes,
                                   &offsets[TABLE_IMAGES_BYTES]);
    } else {
        status = write_head(writer, file, skipped);
        if (status == STATUS_OK) status = create_tables(writer, file, offsets);
    }
    if (file >= 0 && H5Fclose(file) < 0 && status == STATUS_OK) {
        status = status_fail(STATUS_IO, "%s: cannot write: %s", path, hdf5_reason());
    }
    H5Pclose(access);
    hdf5_unlock();
    return status;
}

/* libhdf5 does not survive a disk that fills while it closes a file, so the space it will need is
 * taken before. It cuts off what is too much. */
static enum status reserve_space(const struct shard_writer *writer)
{
    enum { METADATA = 1 << 16 };
    int64_t bytes = BULK_OFFSET + writer->bulk_bytes + METADATA;
    for (int i = 0; i < TABLE_COUNT; i++) {
        bytes += writer->columns[i].size;
    }
    int error = posix_fallocate(writer->file, 0, bytes);
    CHECK(error == 0, STATUS_IO, "%s: cannot write: %s", writer->temporary, strerror(error));
    return STATUS_OK;
}

static enum status write_tables(const struct shard_writer *writer,
                                const int64_t offsets[TABLE_COUNT])
{
    for (int i = 0; i < TABLE_COUNT; i++) {
        if (i == TABLE_IMAGES_BYTES || !table_is_stored(writer, i)) continue;
        TRY(file_write_at(writer->file, writer->temporary, writer->columns[i].bytes,
                          writer->columns[i].size, offsets[i]));
    }
    return STATUS_OK;
}

/* Pictures of less than one alignment unit in all are put wherever libhdf5 wants them. */
static enum status place_bulk(const struct shard_writer *writer, int64_t offsets[TABLE_COUNT])
{
    uint8_t small[BULK_OFFSET];
    bool is_small = writer->bulk_bytes < BULK_OFFSET;
    const char *path = writer->temporary;
    if (is_small) TRY(file_read_at(writer->file, path, small, writer->bulk_bytes, BULK_OFFSET));
    TRY(build(writer, BUILD_BULK, 0, offsets));
    int64_t offset = offsets[TABLE_IMAGES_BYTES];
    if (is_small) return file_write_at(writer->file, path, small, writer->bulk_bytes, offset);
    CHECK(offset == BULK_OFFSET, STATUS_INTERNAL,
          "%s: libhdf5 put images/bytes at %lld and not at %d", path, (long long)offset,
          BULK_OFFSET);
    return STATUS_OK;
}

/* ---- the life of a writer ---- */

static enum status start_file(struct shard_writer *writer)
{
    uint8_t empty[EMPTY_MAX];
    int64_t size = 0;
    hdf5_lock();
    enum status status = make_empty(writer->temporary, empty, &size);
    hdf5_unlock();
    TRY(status);
    writer->file = open(writer->temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    CHECK(writer->file >= 0, STATUS_IO, "%s: cannot create: %s", writer->temporary,
          strerror(errno));
    TRY(file_write_at(writer->file, writer->temporary, empty, size, 0));
    for (int64_t i = 0; i < writer->head.num_categories; i++) {
        const char *name = writer->head.categories[i];
        TRY(append_string(writer, TABLE_CATEGORIES_BYTES, name, (int64_t)strlen(name)));
        TRY(append_int(writer, TABLE_CATEGORIES_ID,
                       writer->head.category_ids ? writer->head.category_ids[i] : i));
        writer->rows[GROUP_CATEGORIES]++;
    }
    return append_int(writer, TABLE_IMAGES_OFFSET, 0);
}

enum status shard_writer_create(struct shard_writer **writer, const char *path,
                                const struct shard_head *head)
{
    *writer = NULL;
    struct shard_writer *made = calloc(1, sizeof *made);
    CHECK(made, STATUS_NO_MEMORY, "%s: out of memory", path);
    made->head = *head;
    made->file = -1;
    int length = snprintf(made->temporary, sizeof made->temporary, "%s.tmp", path);
    snprintf(made->path, sizeof made->path, "%s", path);
    enum status status = STATUS_OK;
    if (length >= (int)sizeof made->temporary) {
        status = status_fail(STATUS_INVALID, "%s: the path is too long", path);
        made->temporary[0] = '\0';
    }
    if (status == STATUS_OK) status = start_file(made);
    if (status != STATUS_OK) {
        shard_writer_destroy(&made);
        return status;
    }
    *writer = made;
    return STATUS_OK;
}

static enum status finish(struct shard_writer *writer, int64_t skipped)
{
    int64_t offsets[TABLE_COUNT] = {0};
    TRY(reserve_space(writer));
    TRY(place_bulk(writer, offsets));
    TRY(reserve_space(writer)); /* closing gave it back */
    TRY(build(writer, BUILD_TABLES, skipped, offsets));
    TRY(write_tables(writer, offsets));
    TRY(seal_append(writer->file, writer->temporary, offsets[TABLE_IMAGES_BYTES],
                    writer->bulk_bytes));
    TRY(file_sync(writer->file, writer->temporary));
    return file_rename(writer->temporary, writer->path);
}

enum status shard_writer_finish(struct shard_writer **writer, int64_t skipped)
{
    enum status status = finish(*writer, skipped);
    if (status == STATUS_OK) (*writer)->temporary[0] = '\0';
    shard_writer_destroy(writer);
    return status;
}

void shard_writer_destroy(struct shard_writer **writer)
{
    struct shard_writer *old = *writer;
    *writer = NULL;
    if (!old) return;
    if (old->file >= 0) close(old->file);
    if (old->temporary[0]) unlink(old->temporary);
    for (int i = 0; i < TABLE_COUNT; i++) {
        free(old->columns[i].bytes);
    }
    free(old);
}
