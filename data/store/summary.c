#include "data/store/summary.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "data/store/store_impl.h"

enum { BLOCK = 4096, FORMAT_SAMPLE = 1000 };

const char *text_kind_name(enum text_kind kind)
{
    static const char *const names[TEXT_NUM_KINDS] = {
        [TEXT_CAPTION] = "caption",
        [TEXT_QUESTION] = "question",
        [TEXT_STATEMENT] = "statement",
        [TEXT_EXPRESSION] = "expression",
    };
    return kind < TEXT_NUM_KINDS ? names[kind] : "text of unknown kind";
}

typedef void (*value_fn)(struct summary *summary, int64_t num_categories, int64_t value);

/* Calls `take` for each row of an integer dataset, absent ones included. */
static enum status each_value(const struct store *store, const struct shard *shard,
                              enum schema_table table, struct summary *summary, value_fn take)
{
    int64_t values[BLOCK];
    int64_t rows = shard->rows[schema[table].group];
    for (int64_t first = 0; first < rows; first += BLOCK) {
        int64_t count = rows - first < BLOCK ? rows - first : BLOCK;
        TRY(shard_read_ints(shard, table, first, count, values));
        for (int64_t i = 0; i < count; i++) {
            take(summary, store->num_categories, values[i]);
        }
    }
    return STATUS_OK;
}

static void take_side(struct summary *summary, int which, int64_t value)
{
    int32_t side = (int32_t)value;
    if (summary->least_side[which] == 0 || side < summary->least_side[which]) {
        summary->least_side[which] = side;
    }
    if (side > summary->most_side[which]) summary->most_side[which] = side;
}

static void take_width(struct summary *summary, int64_t unused, int64_t value)
{
    (void)unused;
    if (value <= 0 || value > INT32_MAX) return;
    summary->num_sized++;
    take_side(summary, 0, value);
}

static void take_height(struct summary *summary, int64_t unused, int64_t value)
{
    (void)unused;
    if (value > 0 && value <= INT32_MAX) take_side(summary, 1, value);
}

static void take_kind(struct summary *summary, int64_t unused, int64_t value)
{
    (void)unused;
    if (value >= 0 && value < TEXT_NUM_KINDS) summary->num_kind[value]++;
}

static void take_label(struct summary *summary, int64_t unused, int64_t value)
{
    (void)unused;
    if (value == 0 || value == 1) summary->num_label[value]++;
}

static void take_pair(struct summary *summary, int64_t unused, int64_t value)
{
    (void)unused;
    summary->num_pairs += value >= 0;
}

static void take_box_text(struct summary *summary, int64_t unused, int64_t value)
{
    (void)unused;
    summary->num_boxes_with_text += value >= 0;
}

static void take_crowd(struct summary *summary, int64_t unused, int64_t value)
{
    (void)unused;
    summary->num_crowd += value != 0;
}

static void take_category(struct summary *summary, int64_t num_categories, int64_t value)
{
    if (value >= 0 && value < num_categories) summary->num_category[value]++;
}

static enum status take_text_lengths(const struct shard *shard, struct summary *summary)
{
    int64_t values[BLOCK + 1];
    int64_t rows = shard->rows[GROUP_TEXTS];
    for (int64_t first = 0; first < rows; first += BLOCK) {
        int64_t count = rows - first < BLOCK ? rows - first : BLOCK;
        TRY(shard_read_ints(shard, TABLE_TEXTS_OFFSET, first, count + 1, values));
        for (int64_t i = 0; i < count; i++) {
            int64_t length;
            /* A store that was not checked may hold any two numbers here. */
            if (__builtin_sub_overflow(values[i + 1], values[i], &length) || length < 0) {
                return status_fail(STATUS_CORRUPT,
                                   "%s: texts/offset goes down at row %lld; `weft check` "
                                   "names every fault",
                                   shard->path, (long long)(first + i));
            }
            if (length > summary->most_text) summary->most_text = length;
            if (summary->least_text < 0 || length < summary->least_text) {
                summary->least_text = length;
            }
        }
    }
    summary->text_bytes += shard->columns[TABLE_TEXTS_BYTES].elements;
    return STATUS_OK;
}

static enum status take_shard(const struct store *store, const struct shard *shard,
                              struct summary *summary)
{
    static const struct {
        enum schema_table table;
        value_fn take;
    } columns[] = {
        {TABLE_IMAGES_WIDTH, take_width}, {TABLE_IMAGES_HEIGHT, take_height},
        {TABLE_TEXTS_KIND, take_kind},    {TABLE_TEXTS_LABEL, take_label},
        {TABLE_TEXTS_IMAGE2, take_pair},  {TABLE_BOXES_TEXT, take_box_text},
        {TABLE_BOXES_CROWD, take_crowd},  {TABLE_BOXES_CATEGORY, take_category},
    };
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        TRY(each_value(store, shard, columns[i].table, summary, columns[i].take));
    }
    summary->image_bytes += shard->columns[TABLE_IMAGES_BYTES].elements;
    summary->num_spans += shard->rows[GROUP_SPANS];
    summary->num_skipped += shard->info.skipped;
    summary->num_sealed += shard->sealed;
    return take_text_lengths(shard, summary);
}

static int by_value(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Different keys, by their hashes. */
static enum status count_keys(const struct store *store, struct summary *summary)
{
    bool any = false;
    for (int i = 0; i < store->num_shards; i++) {
        any = any || store->shards[i].columns[TABLE_TEXTS_KEY].present;
    }
    if (!any) return STATUS_OK;
    int64_t rows = store_num_texts(store);
    uint64_t *hashes = malloc((size_t)rows * sizeof *hashes);
    CHECK(hashes, STATUS_NO_MEMORY, "out of memory for %lld keys", (long long)rows);
    struct store_text text = {0};
    enum status status = STATUS_OK;
    int64_t count = 0;
    for (int64_t i = 0; i < rows && status == STATUS_OK; i++) {
        status = store_text_key(store, i, &text);
        if (status == STATUS_OK && text.key[0])
            hashes[count++] = XXH64(text.key, strlen(text.key), 0);
    }
    store_text_fini(&text);
    if (status == STATUS_OK) {
        qsort(hashes, (size_t)count, sizeof *hashes, by_value);
        for (int64_t i = 0; i < count; i++) {
            summary->num_text_keys += i == 0 || hashes[i] != hashes[i - 1];
        }
    }
    free(hashes);
    return status;
}

static enum status look_at_formats(const struct store *store, struct summary *summary)
{
    int64_t images = store_num_images(store);
    int64_t count = images < FORMAT_SAMPLE ? images : FORMAT_SAMPLE;
    struct store_image image = {0};
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < count && status == STATUS_OK; i++) {
        struct image_info info = {0};
        int64_t index = (int64_t)((double)i / (double)count * (double)images);
        status = store_image_read(store, index, &image);
        if (status != STATUS_OK) break;
        if (image_probe(image.bytes, (size_t)image.size, &info) != STATUS_OK) {
            info.format = IMAGE_UNKNOWN;
        }
        summary->num_format[info.format]++;
        summary->num_looked_at++;
    }
    store_image_fini(&image);
    return status;
}

static enum status make(const struct store *store, struct summary *summary)
{
    for (int i = 0; i < store->num_shards; i++) {
        TRY(take_shard(store, &store->shards[i], summary));
    }
    TRY(count_keys(store, summary));
    return look_at_formats(store, summary);
}

enum status summary_make(const struct store *store, struct summary *summary)
{
    *summary = (struct summary){.least_text = -1};
    summary->num_category =
        calloc((size_t)store->num_categories + 1, sizeof *summary->num_category);
    CHECK(summary->num_category, STATUS_NO_MEMORY, "out of memory for %lld categories",
          (long long)store->num_categories);
    enum status status = make(store, summary);
    if (status != STATUS_OK) summary_fini(summary);
    return status;
}

void summary_fini(struct summary *summary)
{
    free(summary->num_category);
    summary->num_category = NULL;
}

int64_t summary_top_categories(const struct store *store, const struct summary *summary,
                               int64_t most, int64_t *order)
{
    int64_t count = 0;
    for (int64_t i = 0; i < store->num_categories; i++) {
        int64_t boxes = summary->num_category[i];
        if (boxes == 0) continue;
        int64_t place = count;
        while (place > 0 && summary->num_category[order[place - 1]] < boxes) {
            place--;
        }
        if (place >= most) continue;
        if (count < most) count++;
        memmove(order + place + 1, order + place, (size_t)(count - 1 - place) * sizeof *order);
        order[place] = i;
    }
    return count;
}
