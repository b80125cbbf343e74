/*
 * Reading rows of a store (store.h). Each function finds the shard, reads ranges of its tables by
 * pread, and verifies: ranges before they are used, picture bytes by their hash after.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "data/store/store_impl.h"

/* ---- memory that outputs keep ---- */

static enum status reserve(void **memory, int64_t *capacity, int64_t size)
{
    if (size <= *capacity) return STATUS_OK;
    int64_t wanted = size + size / 4;
    void *bigger = realloc(*memory, (size_t)wanted);
    CHECK(bigger, STATUS_NO_MEMORY, "out of memory for %lld bytes of a sample", (long long)size);
    *memory = bigger;
    *capacity = wanted;
    return STATUS_OK;
}

#define RESERVE(pointer, capacity, size, status)                                                   \
    do {                                                                                           \
        void *reserve_memory = (pointer);                                                          \
        (status) = reserve(&reserve_memory, &(capacity), (size));                                  \
        (pointer) = reserve_memory;                                                                \
    } while (0)

/* ---- naming a row in messages ---- */

static enum status name_row(enum status status, const struct shard *shard,
                            enum schema_table key_offset, const char *what, int64_t row)
{
    char key[128] = "";
    int64_t begin = 0;
    int64_t end = 0;
    char message[1024];
    size_t length = strnlen(status_message(), sizeof message - 1);
    memcpy(message, status_message(), length);
    message[length] = '\0';
    if (shard->columns[key_offset].present &&
        shard_read_range(shard, key_offset, row, &begin, &end) == STATUS_OK) {
        int64_t size = end - begin < (int64_t)sizeof key ? end - begin : (int64_t)sizeof key - 1;
        if (shard_read_bytes(shard, (enum schema_table)(key_offset - 1), begin, size, key) !=
            STATUS_OK) {
            key[0] = '\0';
        }
    }
    /* Messages of the shard begin with its path already. */
    size_t path = strlen(shard->path);
    const char *rest = message;
    if (strncmp(message, shard->path, path) == 0 && strncmp(message + path, ": ", 2) == 0) {
        rest = message + path + 2;
    }
    return status_fail(status, "%s: %s %lld%s%s%s: %s", shard->path, what, (long long)row,
                       key[0] ? " ('" : "", key, key[0] ? "')" : "", rest);
}

static enum status locate_image(const struct store *store, int64_t image, struct shard **shard,
                                int64_t *row)
{
    CHECK(image >= 0 && image < store->rows[GROUP_IMAGES], STATUS_INVALID,
          "image %lld does not exist in a set of %lld", (long long)image,
          (long long)store->rows[GROUP_IMAGES]);
    int number = 0;
    store_locate_image(store, image, &number, row);
    *shard = &store->shards[number];
    return store_recheck(store, *shard);
}

static enum status locate_text(const struct store *store, int64_t text, struct shard **shard,
                               int64_t *row)
{
    CHECK(text >= 0 && text < store->rows[GROUP_TEXTS], STATUS_INVALID,
          "text %lld does not exist in a set of %lld", (long long)text,
          (long long)store->rows[GROUP_TEXTS]);
    int number = 0;
    store_locate_text(store, text, &number, row);
    *shard = &store->shards[number];
    return store_recheck(store, *shard);
}

static int64_t first_image(const struct store *store, const struct shard *shard)
{
    return store->image_begin[shard - store->shards];
}

static int64_t first_text(const struct store *store, const struct shard *shard)
{
    return store->text_begin[shard - store->shards];
}

/* ---- images ---- */

static enum status read_image(const struct store *store, const struct shard *shard, int64_t row,
                              struct store_image *out)
{
    int64_t begin = 0;
    int64_t end = 0;
    int64_t width = 0;
    int64_t height = 0;
    int64_t hash = 0;
    TRY(shard_read_range(shard, TABLE_IMAGES_OFFSET, row, &begin, &end));
    TRY(shard_read_ints(shard, TABLE_IMAGES_WIDTH, row, 1, &width));
    TRY(shard_read_ints(shard, TABLE_IMAGES_HEIGHT, row, 1, &height));
    CHECK(width >= 0 && width <= INT32_MAX && height >= 0 && height <= INT32_MAX, STATUS_CORRUPT,
          "the stored size is %lld x %lld; pack it again", (long long)width, (long long)height);
    enum status status = STATUS_OK;
    RESERVE(out->bytes, out->capacity, end - begin, status);
    TRY(status);
    TRY(shard_read_bytes(shard, TABLE_IMAGES_BYTES, begin, end - begin, out->bytes));
    out->size = end - begin;
    out->width = (int32_t)width;
    out->height = (int32_t)height;
    bool stored = shard->columns[TABLE_IMAGES_HASH].present;
    if (stored) TRY(shard_read_ints(shard, TABLE_IMAGES_HASH, row, 1, &hash));
    if (stored && store->options.no_hash) {
        out->hash = (uint64_t)hash;
        return STATUS_OK;
    }
    out->hash = XXH64(out->bytes, (size_t)out->size, 0);
    CHECK(!stored || out->hash == (uint64_t)hash, STATUS_CORRUPT,
          "the picture's bytes are damaged (hash %016llx, stored as %016llx); copy or pack the "
          "shard again",
          (unsigned long long)out->hash, (unsigned long long)hash);
    return STATUS_OK;
}

enum status store_image_read(const struct store *store, int64_t image, struct store_image *out)
{
    struct shard *shard = NULL;
    int64_t row = 0;
    TRY(locate_image(store, image, &shard, &row));
    out->index = image;
    enum status status = read_image(store, shard, row, out);
    if (status != STATUS_OK) {
        return name_row(status, shard, TABLE_IMAGES_KEY_OFFSET, "image", row);
    }
    return STATUS_OK;
}

/* ---- texts ---- */

/* Reads row `row` of a bytes dataset as a string with a NUL behind. */
static enum status read_string(const struct shard *shard, enum schema_table offsets, int64_t row,
                               char **text, int64_t *capacity, int64_t *length)
{
    int64_t begin = 0;
    int64_t end = 0;
    TRY(shard_read_range(shard, offsets, row, &begin, &end));
    enum status status = STATUS_OK;
    RESERVE(*text, *capacity, end - begin + 1, status);
    TRY(status);
    TRY(shard_read_bytes(shard, (enum schema_table)(offsets - 1), begin, end - begin, *text));
    (*text)[end - begin] = '\0';
    *length = end - begin;
    return STATUS_OK;
}

static enum status read_text(const struct store *store, const struct shard *shard, int64_t row,
                             struct store_text *out)
{
    int64_t kind = 0;
    int64_t label = 0;
    int64_t image = 0;
    int64_t image2 = 0;
    TRY(read_string(shard, TABLE_TEXTS_OFFSET, row, &out->text, &out->capacity, &out->length));
    TRY(shard_read_ints(shard, TABLE_TEXTS_KIND, row, 1, &kind));
    TRY(shard_read_ints(shard, TABLE_TEXTS_LABEL, row, 1, &label));
    TRY(shard_read_ints(shard, TABLE_TEXTS_IMAGE, row, 1, &image));
    TRY(shard_read_ints(shard, TABLE_TEXTS_IMAGE2, row, 1, &image2));
    int64_t images = shard->rows[GROUP_IMAGES];
    CHECK(kind >= 0 && kind < TEXT_NUM_KINDS, STATUS_CORRUPT,
          "texts/kind is %lld and must be below %d", (long long)kind, TEXT_NUM_KINDS);
    CHECK(label >= -1 && label <= 1, STATUS_CORRUPT, "texts/label is %lld and must be -1, 0 or 1",
          (long long)label);
    CHECK(image >= 0 && image < images, STATUS_CORRUPT,
          "texts/image is %lld and there are %lld images", (long long)image, (long long)images);
    CHECK(image2 >= -1 && image2 < images, STATUS_CORRUPT,
          "texts/image2 is %lld and there are %lld images", (long long)image2, (long long)images);
    out->kind = (enum text_kind)kind;
    out->label = (int8_t)label;
    out->image = first_image(store, shard) + image;
    out->image2 = image2 < 0 ? -1 : first_image(store, shard) + image2;
    return STATUS_OK;
}

enum status store_text_read(const struct store *store, int64_t text, struct store_text *out)
{
    struct shard *shard = NULL;
    int64_t row = 0;
    TRY(locate_text(store, text, &shard, &row));
    out->index = text;
    enum status status = read_text(store, shard, row, out);
    if (status != STATUS_OK) return name_row(status, shard, TABLE_TEXTS_KEY_OFFSET, "text", row);
    return STATUS_OK;
}

enum status store_image_texts(const struct store *store, int64_t image, int64_t *first,
                              int64_t *count)
{
    struct shard *shard = NULL;
    int64_t row = 0;
    TRY(locate_image(store, image, &shard, &row));
    TRY(shard_find(shard, TABLE_TEXTS_IMAGE, row, first, count));
    *first += first_text(store, shard);
    return STATUS_OK;
}

/* ---- boxes ---- */

enum { BOX_COLUMNS = 3 };

/* Columns of all boxes of the image: text, category, crowd, then xyxy, in the scratch memory. */
static enum status read_box_columns(const struct shard *shard, int64_t first, int64_t count,
                                    struct store_scratch *scratch, int64_t **integers,
                                    float **corners)
{
    static const enum schema_table tables[BOX_COLUMNS] = {TABLE_BOXES_TEXT, TABLE_BOXES_CATEGORY,
                                                          TABLE_BOXES_CROWD};
    enum status status = STATUS_OK;
    int64_t integer_bytes = BOX_COLUMNS * count * (int64_t)sizeof(int64_t);
    RESERVE(scratch->bytes, scratch->capacity, integer_bytes + count * 4 * (int64_t)sizeof(float),
            status);
    TRY(status);
    *integers = scratch->bytes;
    *corners = (float *)((char *)scratch->bytes + integer_bytes);
    for (int i = 0; i < BOX_COLUMNS; i++) {
        TRY(shard_read_ints(shard, tables[i], first, count, *integers + i * count));
    }
    return shard_read_floats(shard, TABLE_BOXES_XYXY, 4 * first, 4 * count, *corners);
}

static enum status reserve_boxes(struct store_boxes *out, int64_t count)
{
    if (count <= out->box_capacity) return STATUS_OK;
    CHECK(count < INT32_MAX / 2, STATUS_CORRUPT, "%lld boxes at one image", (long long)count);
    struct store_box *bigger = realloc(out->boxes, (size_t)count * 2 * sizeof *bigger);
    CHECK(bigger, STATUS_NO_MEMORY, "out of memory for %lld boxes", (long long)count);
    out->boxes = bigger;
    out->box_capacity = (int32_t)(count * 2);
    return STATUS_OK;
}

static enum status reserve_spans(struct store_boxes *out, int64_t count)
{
    if (count <= out->span_capacity) return STATUS_OK;
    CHECK(count < INT32_MAX / 2, STATUS_CORRUPT, "%lld spans at one image", (long long)count);
    struct store_span *bigger = realloc(out->spans, (size_t)count * 2 * sizeof *bigger);
    CHECK(bigger, STATUS_NO_MEMORY, "out of memory for %lld spans", (long long)count);
    out->spans = bigger;
    out->span_capacity = (int32_t)(count * 2);
    return STATUS_OK;
}

static enum status read_spans(const struct shard *shard, int64_t box_row, struct store_box *box,
                              struct store_boxes *out)
{
    int64_t first = 0;
    int64_t count = 0;
    box->first_span = out->num_spans;
    box->num_spans = 0;
    if (shard->rows[GROUP_SPANS] == 0) return STATUS_OK;
    TRY(shard_find(shard, TABLE_SPANS_BOX, box_row, &first, &count));
    TRY(reserve_spans(out, out->num_spans + count));
    for (int64_t i = 0; i < count; i++) {
        int64_t begin = 0;
        int64_t end = 0;
        TRY(shard_read_ints(shard, TABLE_SPANS_BEGIN, first + i, 1, &begin));
        TRY(shard_read_ints(shard, TABLE_SPANS_END, first + i, 1, &end));
        CHECK(begin >= 0 && begin <= end && end <= INT32_MAX, STATUS_CORRUPT,
              "span %lld is [%lld, %lld)", (long long)(first + i), (long long)begin,
              (long long)end);
        out->spans[out->num_spans++] = (struct store_span){(int32_t)begin, (int32_t)end};
    }
    box->num_spans = (int32_t)count;
    return STATUS_OK;
}

static enum status make_box(const struct store *store, const struct shard *shard, int64_t row,
                            const int64_t column[BOX_COLUMNS], const float *xyxy,
                            struct store_box *box)
{
    CHECK(column[0] >= -1 && column[0] < shard->rows[GROUP_TEXTS], STATUS_CORRUPT,
          "boxes/text of box %lld is %lld and there are %lld texts", (long long)row,
          (long long)column[0], (long long)shard->rows[GROUP_TEXTS]);
    CHECK(column[1] >= -1 && column[1] <= INT32_MAX, STATUS_CORRUPT,
          "boxes/category of box %lld is %lld", (long long)row, (long long)column[1]);
    memcpy(box->xyxy, xyxy, sizeof box->xyxy);
    box->text = column[0] < 0 ? -1 : first_text(store, shard) + column[0];
    box->category = (int32_t)column[1];
    box->crowd = column[2] != 0;
    return STATUS_OK;
}

static enum status read_boxes(const struct store *store, const struct shard *shard, int64_t row,
                              int64_t text, struct store_boxes *out)
{
    int64_t first = 0;
    int64_t count = 0;
    int64_t *integers = NULL;
    float *corners = NULL;
    TRY(shard_find(shard, TABLE_BOXES_IMAGE, row, &first, &count));
    if (count == 0) return STATUS_OK;
    TRY(reserve_boxes(out, count));
    TRY(read_box_columns(shard, first, count, &out->scratch, &integers, &corners));
    for (int64_t i = 0; i < count; i++) {
        struct store_box *box = &out->boxes[out->num_boxes];
        int64_t column[BOX_COLUMNS];
        for (int j = 0; j < BOX_COLUMNS; j++) {
            column[j] = integers[j * count + i];
        }
        TRY(make_box(store, shard, first + i, column, corners + 4 * i, box));
        if (text >= 0 && box->text != text) continue;
        TRY(read_spans(shard, first + i, box, out));
        out->num_boxes++;
    }
    return STATUS_OK;
}

enum status store_boxes_read(const struct store *store, int64_t image, int64_t text,
                             struct store_boxes *out)
{
    struct shard *shard = NULL;
    int64_t row = 0;
    TRY(locate_image(store, image, &shard, &row));
    out->num_boxes = 0;
    out->num_spans = 0;
    if (shard->rows[GROUP_BOXES] == 0) return STATUS_OK;
    enum status status = read_boxes(store, shard, row, text, out);
    if (status != STATUS_OK) {
        return name_row(status, shard, TABLE_IMAGES_KEY_OFFSET, "boxes of image", row);
    }
    return STATUS_OK;
}

/* ---- answers ---- */

static enum status reserve_answers(struct store_answers *out, int64_t count)
{
    if (count <= out->answer_capacity) return STATUS_OK;
    CHECK(count < INT32_MAX / 2, STATUS_CORRUPT, "%lld answers to one question", (long long)count);
    struct store_answer *bigger = realloc(out->answers, (size_t)count * 2 * sizeof *bigger);
    CHECK(bigger, STATUS_NO_MEMORY, "out of memory for %lld answers", (long long)count);
    out->answers = bigger;
    out->answer_capacity = (int32_t)(count * 2);
    return STATUS_OK;
}

/* Copies the answers' bytes one after the other, each with its NUL; pointers are set at the end, as
 * the memory moves while it grows. */
static enum status read_answers(const struct shard *shard, int64_t row, struct store_answers *out)
{
    int64_t first = 0;
    int64_t count = 0;
    int64_t used = 0;
    TRY(shard_find(shard, TABLE_ANSWERS_TEXT, row, &first, &count));
    TRY(reserve_answers(out, count));
    for (int64_t i = 0; i < count; i++) {
        struct store_answer *answer = &out->answers[i];
        int64_t begin = 0;
        int64_t end = 0;
        TRY(shard_read_range(shard, TABLE_ANSWERS_OFFSET, first + i, &begin, &end));
        TRY(shard_read_floats(shard, TABLE_ANSWERS_SCORE, first + i, 1, &answer->score));
        enum status status = STATUS_OK;
        RESERVE(out->text, out->text_capacity, used + end - begin + 1, status);
        TRY(status);
        TRY(shard_read_bytes(shard, TABLE_ANSWERS_BYTES, begin, end - begin, out->text + used));
        answer->length = end - begin;
        used += end - begin;
        out->text[used++] = '\0';
    }
    const char *next = out->text;
    for (int64_t i = 0; i < count; i++) {
        out->answers[i].answer = next;
        next += out->answers[i].length + 1;
    }
    out->num_answers = (int32_t)count;
    return STATUS_OK;
}

enum status store_answers_read(const struct store *store, int64_t text, struct store_answers *out)
{
    struct shard *shard = NULL;
    int64_t row = 0;
    TRY(locate_text(store, text, &shard, &row));
    out->num_answers = 0;
    if (shard->rows[GROUP_ANSWERS] == 0) return STATUS_OK;
    enum status status = read_answers(shard, row, out);
    if (status != STATUS_OK) {
        return name_row(status, shard, TABLE_TEXTS_KEY_OFFSET, "answers to text", row);
    }
    return STATUS_OK;
}

/* ---- keys ---- */

static enum status read_key(const struct shard *shard, enum schema_table offsets, int64_t row,
                            char **key, int64_t *capacity)
{
    int64_t length = 0;
    if (shard->columns[offsets].present) {
        return read_string(shard, offsets, row, key, capacity, &length);
    }
    enum status status = STATUS_OK;
    RESERVE(*key, *capacity, 1, status);
    TRY(status);
    (*key)[0] = '\0';
    return STATUS_OK;
}

enum status store_image_key(const struct store *store, int64_t image, struct store_image *out)
{
    struct shard *shard = NULL;
    int64_t row = 0;
    TRY(locate_image(store, image, &shard, &row));
    return read_key(shard, TABLE_IMAGES_KEY_OFFSET, row, &out->key, &out->key_capacity);
}

enum status store_text_key(const struct store *store, int64_t text, struct store_text *out)
{
    struct shard *shard = NULL;
    int64_t row = 0;
    TRY(locate_text(store, text, &shard, &row));
    return read_key(shard, TABLE_TEXTS_KEY_OFFSET, row, &out->key, &out->key_capacity);
}

/* ---- freeing ---- */

void store_image_fini(struct store_image *image)
{
    free(image->bytes);
    free(image->key);
    memset(image, 0, sizeof *image);
}

void store_text_fini(struct store_text *text)
{
    free(text->text);
    free(text->key);
    memset(text, 0, sizeof *text);
}

void store_boxes_fini(struct store_boxes *boxes)
{
    free(boxes->boxes);
    free(boxes->spans);
    free(boxes->scratch.bytes);
    memset(boxes, 0, sizeof *boxes);
}

void store_answers_fini(struct store_answers *answers)
{
    free(answers->answers);
    free(answers->text);
    memset(answers, 0, sizeof *answers);
}
