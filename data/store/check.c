/*
 * Per shard: the tables are read from end to end (check_tables.c), then threads take images one by
 * one and look at all that hangs on an image: bytes, pixels, boxes, spans, texts, answers. Rows are
 * read through the same functions as in training, so what passes here can be read there.
 *
 * The hash of each image goes into a list of (hash, place); sorting it finds duplicates, and
 * walking it beside the other set's list finds the overlap.
 */
#include "data/store/check.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/image/image.h"
#include "data/store/check_tables.h"
#include "data/store/rules.h"
#include "data/store/store_impl.h"

struct hashed {
    uint64_t hash;
    int64_t image; /* number within all files of the set */
};

struct checking {
    const struct check_options *options;
    struct findings *findings;
    struct store *store;   /* the shard at hand, as a store of its own */
    int64_t first;         /* number of its first image within all files */
    atomic_llong next;     /* image that a thread takes next */
    atomic_llong checked;  /* images done, of all files */
    struct hashed *hashes; /* [num_images] of all files */
    atomic_bool quit;
};

/* What a thread reads into. */
struct rows {
    struct store_image image;
    struct store_text text;
    struct store_boxes boxes;
    struct store_answers answers;
    struct image pixels;
};

static void rows_fini(struct rows *rows)
{
    store_image_fini(&rows->image);
    store_text_fini(&rows->text);
    store_boxes_fini(&rows->boxes);
    store_answers_fini(&rows->answers);
    image_fini(&rows->pixels);
}

/* "FILE: image 12 ('x.jpg')" */
static const char *name_image(struct checking *checking, int64_t image, struct rows *rows,
                              char *text, size_t size)
{
    bool named =
        store_image_key(checking->store, image, &rows->image) == STATUS_OK && rows->image.key[0];
    snprintf(text, size, "%s: image %" PRId64 "%s%.120s%s", store_shard_path(checking->store, 0),
             image, named ? " ('" : "", named ? rows->image.key : "", named ? "')" : "");
    return text;
}

#define ADD(checking, kind, image, ...)                                                            \
    findings_add((checking)->findings, true, (kind), (checking)->first + (image), __VA_ARGS__)

/* ---- one image and what hangs on it ---- */

static void check_pixels(struct checking *checking, int64_t index, struct rows *rows)
{
    char name[512];
    struct store_image *image = &rows->image;
    if (store_image_read(checking->store, index, image) != STATUS_OK) {
        ADD(checking, FOUND_HASH, index, "%s", status_message());
        image->width = 0;
        image->height = 0;
        return;
    }
    checking->hashes[checking->first + index].hash = image->hash;
    struct image_info info;
    enum status status = image_probe(image->bytes, (size_t)image->size, &info);
    if (status == STATUS_OK && !checking->options->no_decode) {
        status = image_decode(image->bytes, (size_t)image->size, NULL, &rows->pixels);
    }
    if (status != STATUS_OK) {
        char reason[512];
        snprintf(reason, sizeof reason, "%s", status_message());
        ADD(checking, FOUND_PICTURE, index, "%s: %s",
            name_image(checking, index, rows, name, sizeof name), reason);
        return;
    }
    if ((image->width && image->width != info.width) ||
        (image->height && image->height != info.height)) {
        ADD(checking, FOUND_SIZE, index, "%s: stored as %d x %d, is %" PRId64 " x %" PRId64,
            name_image(checking, index, rows, name, sizeof name), image->width, image->height,
            info.width, info.height);
    }
    image->width = (int32_t)info.width;
    image->height = (int32_t)info.height;
}

static void check_spans(struct checking *checking, int64_t index, const struct store_box *box,
                        struct rows *rows)
{
    if (box->num_spans == 0) return;
    char name[512];
    struct store_text *text = &rows->text;
    if (box->text < 0) {
        ADD(checking, FOUND_REFERENCE, index, "%s: a box has spans but no text",
            name_image(checking, index, rows, name, sizeof name));
        return;
    }
    if (text->index != box->text || !text->text) {
        if (store_text_read(checking->store, box->text, text) != STATUS_OK) {
            ADD(checking, FOUND_ROW, index, "%s", status_message());
            return;
        }
    }
    int64_t characters = 0;
    if (rule_utf8(text->text, text->length, &characters) >= 0) return; /* found at the text */
    for (int32_t i = 0; i < box->num_spans; i++) {
        const struct store_span *span = &rows->boxes.spans[box->first_span + i];
        const char *kind = rule_span(text->text, text->length, characters, span->begin, span->end);
        if (!kind) continue;
        ADD(checking, kind, index,
            "%s: span [%d, %d) of text %" PRId64 " with %" PRId64 " characters",
            name_image(checking, index, rows, name, sizeof name), span->begin, span->end, box->text,
            characters);
    }
}

static void check_boxes(struct checking *checking, int64_t index, struct rows *rows)
{
    char name[512];
    if (store_boxes_read(checking->store, index, -1, &rows->boxes) != STATUS_OK) {
        ADD(checking, FOUND_ROW, index, "%s", status_message());
        return;
    }
    for (int32_t i = 0; i < rows->boxes.num_boxes; i++) {
        const struct store_box *box = &rows->boxes.boxes[i];
        const char *kind = rule_box(box->xyxy, rows->image.width, rows->image.height);
        if (kind) {
            ADD(checking, kind, index, "%s: box %d [%g, %g, %g, %g] on %d x %d",
                name_image(checking, index, rows, name, sizeof name), i, (double)box->xyxy[0],
                (double)box->xyxy[1], (double)box->xyxy[2], (double)box->xyxy[3], rows->image.width,
                rows->image.height);
        }
        check_spans(checking, index, box, rows);
    }
}

static void check_answers(struct checking *checking, int64_t index, int64_t text, struct rows *rows)
{
    char name[512];
    if (store_answers_read(checking->store, text, &rows->answers) != STATUS_OK) {
        ADD(checking, FOUND_ROW, index, "%s", status_message());
        return;
    }
    for (int32_t i = 0; i < rows->answers.num_answers; i++) {
        const struct store_answer *answer = &rows->answers.answers[i];
        int64_t characters = 0;
        const char *kind = rule_text(answer->answer, answer->length, &characters);
        if (!kind) kind = rule_score(answer->score);
        if (!kind) continue;
        ADD(checking, kind, index, "%s: answer %d to text %" PRId64 ", score %g",
            name_image(checking, index, rows, name, sizeof name), i, text, (double)answer->score);
    }
}

static void check_texts(struct checking *checking, int64_t index, struct rows *rows)
{
    char name[512];
    int64_t first = 0;
    int64_t count = 0;
    if (store_image_texts(checking->store, index, &first, &count) != STATUS_OK) {
        ADD(checking, FOUND_ROW, index, "%s", status_message());
        return;
    }
    for (int64_t text = first; text < first + count; text++) {
        if (store_text_read(checking->store, text, &rows->text) != STATUS_OK) {
            ADD(checking, FOUND_ROW, index, "%s", status_message());
            continue;
        }
        int64_t characters = 0;
        const char *kind = rule_text(rows->text.text, rows->text.length, &characters);
        if (kind) {
            ADD(checking, kind, index, "%s: text %" PRId64,
                name_image(checking, index, rows, name, sizeof name), text);
        }
        if (store_text_key(checking->store, text, &rows->text) == STATUS_OK &&
            rule_utf8(rows->text.key, (int64_t)strlen(rows->text.key), &characters) >= 0) {
            ADD(checking, FOUND_KEY, index, "%s: text %" PRId64,
                name_image(checking, index, rows, name, sizeof name), text);
        }
        check_answers(checking, index, text, rows);
    }
}

static void check_image(struct checking *checking, int64_t index, struct rows *rows)
{
    int64_t characters = 0;
    check_pixels(checking, index, rows);
    check_boxes(checking, index, rows);
    check_texts(checking, index, rows);
    if (store_image_key(checking->store, index, &rows->image) == STATUS_OK &&
        rule_utf8(rows->image.key, (int64_t)strlen(rows->image.key), &characters) >= 0) {
        ADD(checking, FOUND_KEY, index, "%s: image %" PRId64, store_shard_path(checking->store, 0),
            index);
    }
}

/* ---- threads over the images of a shard ---- */

static bool stop_wanted(const struct check_options *options)
{
    return options->stop && *options->stop;
}

static void *work(void *argument)
{
    struct checking *checking = argument;
    struct rows rows = {.text.index = -1};
    int64_t count = store_num_images(checking->store);
    while (!atomic_load(&checking->quit)) {
        int64_t index = atomic_fetch_add(&checking->next, 1);
        if (index >= count) break;
        check_image(checking, index, &rows);
        atomic_fetch_add(&checking->checked, 1);
    }
    rows_fini(&rows);
    return NULL;
}

static void watch(struct checking *checking, int64_t until, int64_t total)
{
    const struct check_options *options = checking->options;
    for (;;) {
        int64_t done = atomic_load(&checking->checked);
        if (options->progress) options->progress(options->user, done, total);
        if (done >= until) return;
        if (stop_wanted(options)) {
            atomic_store(&checking->quit, true);
            return;
        }
        usleep(20000);
    }
}

static enum status check_images(struct checking *checking, int64_t total)
{
    const struct check_options *options = checking->options;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int num_threads = options->num_threads > 0 ? options->num_threads
                      : online > 0             ? (int)online
                                               : 1;
    pthread_t *threads = calloc((size_t)num_threads, sizeof *threads);
    CHECK(threads, STATUS_NO_MEMORY, "out of memory for %d threads", num_threads);
    atomic_store(&checking->next, 0);
    int started = 0;
    while (started < num_threads && pthread_create(&threads[started], NULL, work, checking) == 0) {
        started++;
    }
    enum status status = STATUS_OK;
    if (started == 0) {
        status = status_fail(STATUS_IO, "cannot start a thread");
    } else {
        watch(checking, checking->first + store_num_images(checking->store), total);
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    free(threads);
    CHECK(status != STATUS_OK || !atomic_load(&checking->quit), STATUS_CANCELLED, "stopped");
    return status;
}

static enum status check_shard(struct checking *checking, int64_t total)
{
    const struct shard *shard = &checking->store->shards[0];
    if (shard->rows[GROUP_IMAGES] > 0 && !shard->columns[TABLE_IMAGES_HASH].present) {
        findings_add(checking->findings, false, FOUND_NO_HASH, checking->first,
                     "%s: damage to its pictures cannot be noticed; weft check --seal adds hashes",
                     shard->path);
    } else if (!shard->sealed) {
        findings_add(checking->findings, false, FOUND_NO_SEAL, checking->first,
                     "%s: damage to its tables cannot be noticed; weft check --seal adds a seal",
                     shard->path);
    }
    check_tables(shard, checking->first, checking->findings);
    return check_images(checking, total);
}

/* ---- duplicates and overlap ---- */

static int by_hash(const void *a, const void *b)
{
    const struct hashed *left = a;
    const struct hashed *right = b;
    if (left->hash != right->hash) return left->hash < right->hash ? -1 : 1;
    return left->image < right->image ? -1 : left->image > right->image;
}

/* All files of a set that could be opened, each a store of its own, so that one bad file does not
 * hide the others. */
struct opened {
    struct store **stores; /* [count] */
    int count;
    int64_t num_images;
};

static void opened_fini(struct opened *opened)
{
    for (int i = 0; i < opened->count; i++) {
        store_close(&opened->stores[i]);
    }
    free(opened->stores);
    memset(opened, 0, sizeof *opened);
}

/* "FILE: image 12 ('x.jpg')" of an image number within all files. */
static void name_number(const struct opened *opened, int64_t number, char *text, size_t size)
{
    int file = 0;
    while (file + 1 < opened->count && number >= store_num_images(opened->stores[file])) {
        number -= store_num_images(opened->stores[file++]);
    }
    struct checking at = {.store = opened->stores[file]};
    struct rows rows = {0};
    name_image(&at, number, &rows, text, size);
    rows_fini(&rows);
}

static void find_duplicates(const struct opened *opened, struct hashed *hashes, int64_t count,
                            struct findings *findings)
{
    qsort(hashes, (size_t)count, sizeof *hashes, by_hash);
    int64_t first = 0; /* of a run of equal hashes: its least image */
    for (int64_t i = 1; i < count; i++) {
        if (hashes[i].hash != hashes[i - 1].hash) first = i;
        if (first == i || hashes[i].hash == 0) continue;
        char name[2][512] = {"", ""};
        const struct finding *known = findings_get(findings, FOUND_DUPLICATE);
        if (!known || hashes[i].image < known->place) {
            name_number(opened, hashes[i].image, name[0], sizeof name[0]);
            name_number(opened, hashes[first].image, name[1], sizeof name[1]);
        }
        findings_add(findings, false, FOUND_DUPLICATE, hashes[i].image, "%s is the same as %s",
                     name[0], name[1]);
    }
}

static enum status hash_images(const struct store *store, struct hashed *hashes, int64_t number)
{
    enum { BLOCK = 4096 };
    int64_t block[BLOCK];
    struct store_image image = {0};
    enum status status = STATUS_OK;
    const struct shard *shard = &store->shards[0];
    bool stored = shard->columns[TABLE_IMAGES_HASH].present;
    int64_t count = store_num_images(store);
    for (int64_t i = 0; i < count && status == STATUS_OK; i++) {
        if (stored && i % BLOCK == 0) {
            status = shard_read_ints(shard, TABLE_IMAGES_HASH, i,
                                     count - i < BLOCK ? count - i : BLOCK, block);
        } else if (!stored) {
            status = store_image_read(store, i, &image);
        }
        uint64_t hash = stored ? (uint64_t)block[i % BLOCK] : image.hash;
        hashes[number + i] = (struct hashed){hash, number + i};
    }
    store_image_fini(&image);
    return status;
}

static void walk_beside(const struct opened *ours, const struct hashed *a, int64_t num_a,
                        const struct opened *theirs, const struct hashed *b, int64_t num_b,
                        struct findings *findings)
{
    int64_t j = 0;
    for (int64_t i = 0; i < num_a; i++) {
        while (j < num_b && b[j].hash < a[i].hash) {
            j++;
        }
        if (j == num_b) return;
        if (b[j].hash != a[i].hash) continue;
        char name[2][512] = {"", ""};
        const struct finding *known = findings_get(findings, FOUND_OVERLAP);
        if (!known || a[i].image < known->place) {
            name_number(ours, a[i].image, name[0], sizeof name[0]);
            name_number(theirs, b[j].image, name[1], sizeof name[1]);
        }
        findings_add(findings, true, FOUND_OVERLAP, a[i].image, "%s is also %s", name[0], name[1]);
    }
}

/* ---- opening all files ---- */

static enum status open_all(const char *const *patterns, int num_patterns,
                            struct findings *findings, struct opened *opened)
{
    char **paths = NULL;
    int count = 0;
    TRY(store_expand(patterns, num_patterns, &paths, &count));
    opened->stores = calloc((size_t)count, sizeof(struct store *));
    if (!opened->stores) {
        store_expand_free(paths, count);
        return status_fail(STATUS_NO_MEMORY, "out of memory for %d files", count);
    }
    enum status status = STATUS_OK;
    for (int i = 0; i < count && status == STATUS_OK; i++) {
        const struct store_options options = {.partial = true, .recheck_every = -1};
        struct store *store = NULL;
        const char *path = paths[i];
        enum status result = store_open(&store, &path, 1, &options);
        if (result == STATUS_OK) {
            opened->stores[opened->count++] = store;
            opened->num_images += store_num_images(store);
        } else if (findings && result != STATUS_NO_MEMORY) {
            findings_add(findings, true, FOUND_FILE, i, "%s", status_message());
        } else {
            status = result;
        }
    }
    store_expand_free(paths, count);
    return status;
}

static enum status hash_opened(const struct opened *opened, struct hashed *hashes)
{
    int64_t number = 0;
    for (int i = 0; i < opened->count; i++) {
        TRY(hash_images(opened->stores[i], hashes, number));
        number += store_num_images(opened->stores[i]);
    }
    return STATUS_OK;
}

static enum status check_against(const struct check_options *options, const struct opened *ours,
                                 const struct hashed *hashes, struct findings *findings)
{
    struct opened theirs = {0};
    struct hashed *other = NULL;
    enum status status = open_all(options->against, options->num_against, NULL, &theirs);
    if (status != STATUS_OK) goto done;
    other = calloc((size_t)theirs.num_images + 1, sizeof *other);
    CHECK_GOTO(other, status, done, STATUS_NO_MEMORY, "out of memory for the other set");
    TRY_GOTO(status, hash_opened(&theirs, other), done);
    qsort(other, (size_t)theirs.num_images, sizeof *other, by_hash);
    walk_beside(ours, hashes, ours->num_images, &theirs, other, theirs.num_images, findings);
done:
    free(other);
    opened_fini(&theirs);
    return status;
}

/* Whether the files together are a set, in the words of store_open. */
static void check_set(const struct check_options *options, struct findings *findings)
{
    const struct store_options how = {.partial = options->partial, .unverified = true};
    struct store *store = NULL;
    if (store_open(&store, options->files, options->num_files, &how) != STATUS_OK) {
        findings_add(findings, true, FOUND_SET, 0, "%s", status_message());
    }
    store_close(&store);
}

static enum status check_opened(const struct check_options *options, struct opened *opened,
                                struct hashed *hashes, struct findings *findings)
{
    struct checking checking = {.options = options, .findings = findings, .hashes = hashes};
    for (int64_t i = 0; i < opened->num_images; i++) {
        hashes[i].image = i;
    }
    for (int i = 0; i < opened->count; i++) {
        checking.store = opened->stores[i];
        TRY(check_shard(&checking, opened->num_images));
        checking.first += store_num_images(opened->stores[i]);
    }
    find_duplicates(opened, hashes, opened->num_images, findings);
    return options->num_against ? check_against(options, opened, hashes, findings) : STATUS_OK;
}

enum status check_run(const struct check_options *options, struct findings *findings)
{
    struct opened opened = {0};
    struct hashed *hashes = NULL;
    enum status status = open_all(options->files, options->num_files, findings, &opened);
    if (status != STATUS_OK) goto done;
    hashes = calloc((size_t)opened.num_images + 1, sizeof *hashes);
    CHECK_GOTO(hashes, status, done, STATUS_NO_MEMORY, "out of memory for the hashes");
    if (!findings_get(findings, FOUND_FILE)) check_set(options, findings);
    status = check_opened(options, &opened, hashes, findings);
done:
    free(hashes);
    opened_fini(&opened);
    return status;
}
