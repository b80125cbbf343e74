/*
 * Arbitrary bytes as a shard, without libhdf5 (which is not built with the fuzzer's
 * instrumentation, and whose own crashes on damaged metadata are met in a child process): first a
 * seal, then where each table lies and how wide it is, then the file those ranges lie in. Every row
 * is read and the whole is checked; whatever the tables say, each call ends in a status.
 * runs=160000
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/store/check_tables.h"
#include "data/store/seal.h"
#include "data/store/sheet.h"
#include "data/store/store_impl.h"
#include "data/store/summary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s; last message: %s\n", __FILE__, __LINE__, #condition,       \
                    status_message());                                                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static const char path[] = "fuzz.h5";

/* A seal that is accepted is one that encodes to the same bytes. */
static void try_seal(const uint8_t *data, size_t size)
{
    if (size < SEAL_BYTES) return;
    struct seal seal;
    bool sealed = false;
    uint8_t bytes[SEAL_BYTES];
    if (seal_decode(data, path, (int64_t)size, &seal, &sealed) != STATUS_OK || !sealed) return;
    seal_encode(&seal, bytes);
    REQUIRE(memcmp(bytes, data, 24) == 0);
    REQUIRE(seal.bulk_offset + seal.bulk_bytes <= (int64_t)size);
}

/* Four bytes a table: presence, width and sign; elements; offset. */
enum { TABLE_BYTES = 4, HEADER_BYTES = TABLE_BYTES * TABLE_COUNT };

static void make_columns(struct shard *shard, const uint8_t *data)
{
    for (int i = 0; i < TABLE_COUNT; i++) {
        const uint8_t *from = data + (size_t)i * TABLE_BYTES;
        struct shard_column *column = &shard->columns[i];
        column->present = from[0] & 1;
        column->is_signed = from[0] & 2;
        column->width = (uint8_t)(1 << (from[0] >> 2 & 3));
        if (schema[i].type == SCHEMA_BYTES) column->width = 1;
        if (schema[i].type == SCHEMA_FLOAT) column->width = from[0] & 4 ? 4 : 8;
        column->is_float = schema[i].type == SCHEMA_FLOAT;
        column->elements = from[1];
        column->offset = (int64_t)from[2] | (int64_t)from[3] << 8;
    }
}

static void read_rows(const struct store *store)
{
    struct store_image image = {0};
    struct store_text text = {0};
    struct store_boxes boxes = {0};
    struct store_answers answers = {0};
    for (int64_t i = 0; i < store_num_images(store); i++) {
        int64_t first = 0;
        int64_t count = 0;
        if (store_image_read(store, i, &image) == STATUS_OK) REQUIRE(image.size >= 0);
        if (store_image_key(store, i, &image) == STATUS_OK) REQUIRE(image.key);
        if (store_boxes_read(store, i, -1, &boxes) == STATUS_OK) {
            for (int32_t j = 0; j < boxes.num_boxes; j++) {
                REQUIRE(boxes.boxes[j].text < store_num_texts(store));
                REQUIRE(boxes.boxes[j].first_span + boxes.boxes[j].num_spans <= boxes.num_spans);
            }
        }
        if (store_image_texts(store, i, &first, &count) == STATUS_OK) {
            REQUIRE(first >= 0 && first + count <= store_num_texts(store));
        }
    }
    for (int64_t i = 0; i < store_num_texts(store); i++) {
        if (store_text_read(store, i, &text) == STATUS_OK) {
            REQUIRE(text.image >= 0 && text.image < store_num_images(store));
            REQUIRE(text.text[text.length] == '\0');
        }
        if (store_text_key(store, i, &text) == STATUS_OK) REQUIRE(text.key);
        if (store_answers_read(store, i, &answers) == STATUS_OK && answers.num_answers) {
            REQUIRE(answers.answers[0].answer);
        }
    }
    store_image_fini(&image);
    store_text_fini(&text);
    store_boxes_fini(&boxes);
    store_answers_fini(&answers);
}

static void try_tables(struct shard *shard)
{
    if (shard_check_tables(shard) != STATUS_OK) {
        REQUIRE(strncmp(status_message(), "fuzz.h5: ", 9) == 0);
        return;
    }
    struct findings findings;
    findings_init(&findings);
    check_tables(shard, 0, &findings);
    findings_fini(&findings);
    int64_t images[2] = {0, shard->rows[GROUP_IMAGES]};
    int64_t texts[2] = {0, shard->rows[GROUP_TEXTS]};
    struct store store = {.options.recheck_every = -1,
                          .shards = shard,
                          .num_shards = 1,
                          .image_begin = images,
                          .text_begin = texts};
    memcpy(store.rows, shard->rows, sizeof store.rows);
    read_rows(&store);
    struct summary summary;
    if (summary_make(&store, &summary) == STATUS_OK) summary_fini(&summary);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_seal(data, size);
    if (size < HEADER_BYTES) return 0;
    static int file = -1;
    if (file < 0) file = memfd_create("fuzz", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, 0) != 0) return 0;
    int64_t bytes = (int64_t)size - HEADER_BYTES;
    if (pwrite(file, data + HEADER_BYTES, (size_t)bytes, 0) != bytes) return 0;
    char name[sizeof path];
    memcpy(name, path, sizeof path);
    struct shard shard = {.path = name, .file = file, .file_bytes = bytes};
    shard.info.shards = 1;
    make_columns(&shard, data);
    try_tables(&shard);
    return 0;
}
