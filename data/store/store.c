/*
 * A set of shards seen as one.
 *
 * Invariants after opening: shards are in the order of their positions, all of one set, none
 * missing unless `partial`; image_begin and text_begin are running sums over the shards, the only
 * memory that grows with the set (16 bytes a shard beside struct shard). Row numbers inside a shard
 * become global by adding its begin; rows never refer across shards.
 */
#include "data/store/store.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include <xxhash.h>

#include "data/store/shard.h"
#include "data/store/store_impl.h"
#include "runtime/base/log.h"
#include "runtime/base/strbuf.h"

/* ---- finding files ---- */

static enum status expand_pattern(const char *pattern, glob_t *found)
{
    struct stat info;
    struct strbuf inside = {0};
    const char *wanted = pattern;
    bool folder = stat(pattern, &info) == 0 && S_ISDIR(info.st_mode);
    if (folder) {
        strbuf_printf(&inside, "%s/*.h5", pattern);
        wanted = inside.text;
    }
    CHECK(wanted, STATUS_NO_MEMORY, "%s: out of memory", pattern);
    size_t before = found->gl_pathc;
    int result = glob(wanted, before ? GLOB_APPEND : 0, NULL, found);
    strbuf_fini(&inside);
    CHECK(result != GLOB_NOSPACE, STATUS_NO_MEMORY, "%s: out of memory", pattern);
    CHECK(result == 0 && found->gl_pathc > before, STATUS_NOT_FOUND,
          folder ? "%s: the folder holds no *.h5 files"
                 : "%s: no such file, and as a pattern it matches nothing",
          pattern);
    return STATUS_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Takes the names over from glob, sorts them and drops those that two patterns gave. */
static enum status take_paths(const glob_t *found, char ***paths, int *count)
{
    CHECK(found->gl_pathc < INT_MAX, STATUS_INVALID, "%zu files are too many", found->gl_pathc);
    char **list = calloc(found->gl_pathc, sizeof *list);
    CHECK(list, STATUS_NO_MEMORY, "out of memory for %zu shards", found->gl_pathc);
    int kept = 0;
    qsort(found->gl_pathv, found->gl_pathc, sizeof *found->gl_pathv, by_name);
    for (size_t i = 0; i < found->gl_pathc; i++) {
        if (kept && strcmp(list[kept - 1], found->gl_pathv[i]) == 0) continue;
        list[kept] = strdup(found->gl_pathv[i]);
        if (!list[kept]) {
            store_expand_free(list, kept);
            return status_fail(STATUS_NO_MEMORY, "out of memory for %zu shards", found->gl_pathc);
        }
        kept++;
    }
    *paths = list;
    *count = kept;
    return STATUS_OK;
}

enum status store_expand(const char *const *patterns, int num_patterns, char ***paths, int *count)
{
    CHECK(num_patterns > 0, STATUS_INVALID, "no data files were named");
    glob_t found = {0};
    enum status status = STATUS_OK;
    for (int i = 0; i < num_patterns && status == STATUS_OK; i++) {
        status = expand_pattern(patterns[i], &found);
    }
    if (status == STATUS_OK) status = take_paths(&found, paths, count);
    globfree(&found);
    return status;
}

void store_expand_free(char **paths, int count)
{
    for (int i = 0; i < count; i++) {
        free(paths[i]);
    }
    free(paths);
}

static atomic_int num_open; /* shards of all stores of this process */

/* Every shard keeps a descriptor; the usual soft limit of 1024 is raised when that is too few. */
static enum status reserve_descriptors(int count)
{
    enum { OTHERS = 256 }; /* for the rest of the program */
    struct rlimit limit;
    rlim_t wanted = (rlim_t)(atomic_load(&num_open) + count + OTHERS);
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return STATUS_OK;
    CHECK(limit.rlim_max >= wanted, STATUS_INVALID,
          "the set has %d shards and this process may open %llu files; raise the limit (ulimit -n "
          "%llu), or pack with a larger --shard-size",
          count, (unsigned long long)limit.rlim_max, (unsigned long long)wanted);
    limit.rlim_cur = wanted;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, STATUS_IO,
          "cannot raise the limit of open files to %llu: %s", (unsigned long long)wanted,
          strerror(errno));
    return STATUS_OK;
}

static enum status open_shards(struct store *store, char **paths, int count)
{
    TRY(reserve_descriptors(count));
    CHECK(count > 0, STATUS_NOT_FOUND, "no shards were found");
    store->shards = calloc((size_t)count, sizeof *store->shards);
    CHECK(store->shards, STATUS_NO_MEMORY, "out of memory for %d shards", count);
    for (int i = 0; i < count; i++) {
        TRY(shard_open(&store->shards[i], paths[i], !store->options.unverified));
        store->num_shards++;
        atomic_fetch_add(&num_open, 1);
    }
    return STATUS_OK;
}

/* ---- is this one whole set? ---- */

static int by_position(const void *a, const void *b)
{
    const struct shard *left = a;
    const struct shard *right = b;
    if (left->info.shard != right->info.shard) {
        return left->info.shard < right->info.shard ? -1 : 1;
    }
    return strcmp(left->path, right->path);
}

static enum status check_same_set(const struct shard *first, const struct shard *other)
{
    CHECK(strcmp(first->info.set, other->info.set) == 0 &&
              strcmp(first->info.set_id, other->info.set_id) == 0 &&
              first->info.shards == other->info.shards,
          STATUS_INVALID,
          "%s (set '%s' %s, %lld shards) and %s (set '%s' %s, %lld shards) are of different sets; "
          "name one set here, and list several sets as separate entries of the mixture",
          first->path, first->info.set, first->info.set_id, (long long)first->info.shards,
          other->path, other->info.set, other->info.set_id, (long long)other->info.shards);
    CHECK(first->info.shard != other->info.shard, STATUS_INVALID,
          "%s and %s are both shard %lld of the set; remove one of them", first->path, other->path,
          (long long)other->info.shard);
    return STATUS_OK;
}

static enum status check_complete(const struct store *store)
{
    const struct shard *shards = store->shards;
    for (int i = 1; i < store->num_shards; i++) {
        TRY(check_same_set(&shards[i - 1], &shards[i]));
    }
    int64_t wanted = shards[0].info.shards;
    if (store->num_shards == wanted || store->options.partial) return STATUS_OK;
    int64_t missing = 0;
    while (missing < store->num_shards && shards[missing].info.shard == missing) {
        missing++;
    }
    return status_fail(STATUS_NOT_FOUND,
                       "the set of %s has %lld shards and %d were given: shard %lld is missing; "
                       "give all of them, or finish packing with the same command",
                       shards[0].path, (long long)wanted, store->num_shards, (long long)missing);
}

/* ---- categories ---- */

static enum status read_category(const struct shard *shard, int64_t row, struct arena *arena,
                                 struct store_category *category)
{
    int64_t begin = 0;
    int64_t end = 0;
    TRY(shard_read_range(shard, TABLE_CATEGORIES_OFFSET, row, &begin, &end));
    char *name = arena_alloc(arena, (size_t)(end - begin) + 1);
    CHECK(name, STATUS_NO_MEMORY, "%s: out of memory for category %lld", shard->path,
          (long long)row);
    TRY(shard_read_bytes(shard, TABLE_CATEGORIES_BYTES, begin, end - begin, name));
    category->name = name;
    TRY(shard_read_ints(shard, TABLE_CATEGORIES_ID, row, 1, &category->id));
    if (!shard->columns[TABLE_CATEGORIES_ID].present) category->id = row;
    return STATUS_OK;
}

static enum status read_categories(struct store *store)
{
    const struct shard *first = &store->shards[0];
    store->num_categories = first->rows[GROUP_CATEGORIES];
    size_t room = (size_t)(store->num_categories ? store->num_categories : 1);
    store->categories = arena_alloc(&store->arena, room * sizeof *store->categories);
    CHECK(store->categories, STATUS_NO_MEMORY, "%s: out of memory for its categories", first->path);
    for (int64_t i = 0; i < store->num_categories; i++) {
        TRY(read_category(first, i, &store->arena, &store->categories[i]));
    }
    return STATUS_OK;
}

static enum status check_categories(const struct store *store, const struct shard *shard)
{
    CHECK(shard->rows[GROUP_CATEGORIES] == store->num_categories, STATUS_INVALID,
          "%s has %lld categories and %s has %lld; all shards of a set have the same",
          store->shards[0].path, (long long)store->num_categories, shard->path,
          (long long)shard->rows[GROUP_CATEGORIES]);
    struct arena arena = {0};
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < store->num_categories && status == STATUS_OK; i++) {
        struct store_category other = {0};
        status = read_category(shard, i, &arena, &other);
        if (status == STATUS_OK && (strcmp(other.name, store->categories[i].name) != 0 ||
                                    other.id != store->categories[i].id)) {
            status = status_fail(STATUS_INVALID,
                                 "%s: category %lld is '%s', and '%s' in %s; all shards of a set "
                                 "have the same",
                                 shard->path, (long long)i, other.name, store->categories[i].name,
                                 store->shards[0].path);
        }
    }
    arena_fini(&arena);
    return status;
}

/* ---- opening ---- */

static enum status sum_rows(struct store *store)
{
    size_t count = (size_t)store->num_shards + 1;
    store->image_begin = arena_alloc(&store->arena, count * sizeof(int64_t));
    store->text_begin = arena_alloc(&store->arena, count * sizeof(int64_t));
    CHECK(store->image_begin && store->text_begin, STATUS_NO_MEMORY, "out of memory for %d shards",
          store->num_shards);
    uint64_t print = 0;
    for (int i = 0; i < store->num_shards; i++) {
        const struct shard *shard = &store->shards[i];
        store->image_begin[i + 1] = store->image_begin[i] + shard->rows[GROUP_IMAGES];
        store->text_begin[i + 1] = store->text_begin[i] + shard->rows[GROUP_TEXTS];
        print = XXH64(shard->rows, sizeof shard->rows, print);
        print = XXH64(shard->info.uuid, strlen(shard->info.uuid), print);
        for (int j = 0; j < GROUP_COUNT; j++) {
            store->rows[j] += shard->rows[j];
        }
    }
    store->fingerprint = print;
    return STATUS_OK;
}

static enum status open_paths(struct store *store, char **paths, int count)
{
    TRY(open_shards(store, paths, count));
    qsort(store->shards, (size_t)store->num_shards, sizeof *store->shards, by_position);
    TRY(check_complete(store));
    TRY(sum_rows(store));
    TRY(read_categories(store));
    for (int i = 1; i < store->num_shards; i++) {
        TRY(check_categories(store, &store->shards[i]));
    }
    return STATUS_OK;
}

enum status store_open(struct store **store, const char *const *patterns, int num_patterns,
                       const struct store_options *options)
{
    *store = NULL;
    char **paths = NULL;
    int count = 0;
    TRY(store_expand(patterns, num_patterns, &paths, &count));
    struct store *made = calloc(1, sizeof *made);
    enum status status = STATUS_OK;
    if (!made) {
        status = status_fail(STATUS_NO_MEMORY, "out of memory for a data set");
    } else {
        if (options) made->options = *options;
        if (made->options.recheck_every == 0) made->options.recheck_every = 10;
        status = open_paths(made, paths, count);
    }
    store_expand_free(paths, count);
    if (status != STATUS_OK) {
        store_close(&made);
        return status;
    }
    *store = made;
    return STATUS_OK;
}

void store_close(struct store **store)
{
    struct store *old = *store;
    *store = NULL;
    if (!old) return;
    for (int i = 0; i < old->num_shards; i++) {
        shard_close(&old->shards[i]);
        atomic_fetch_sub(&num_open, 1);
    }
    free(old->shards);
    arena_fini(&old->arena);
    free(old);
}

/* ---- what is in it ---- */

int64_t store_num_images(const struct store *store)
{
    return store->rows[GROUP_IMAGES];
}

int64_t store_num_texts(const struct store *store)
{
    return store->rows[GROUP_TEXTS];
}

int64_t store_num_boxes(const struct store *store)
{
    return store->rows[GROUP_BOXES];
}

int64_t store_num_answers(const struct store *store)
{
    return store->rows[GROUP_ANSWERS];
}

int store_num_shards(const struct store *store)
{
    return store->num_shards;
}

const char *store_name(const struct store *store)
{
    return store->shards[0].info.set;
}

const char *store_shard_path(const struct store *store, int shard)
{
    return store->shards[shard].path;
}

uint64_t store_fingerprint(const struct store *store)
{
    return store->fingerprint;
}

int64_t store_num_categories(const struct store *store)
{
    return store->num_categories;
}

const char *store_category_name(const struct store *store, int64_t category)
{
    if (category < 0 || category >= store->num_categories) return "";
    return store->categories[category].name;
}

int64_t store_category_id(const struct store *store, int64_t category)
{
    if (category < 0 || category >= store->num_categories) return -1;
    return store->categories[category].id;
}

/* The last shard that begins at or before `row`; shards without rows are passed over. */
static int locate(const int64_t *begin, int num_shards, int64_t row)
{
    int low = 0;
    int high = num_shards;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (begin[middle] <= row) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

void store_locate_image(const struct store *store, int64_t image, int *shard, int64_t *row)
{
    *shard = locate(store->image_begin, store->num_shards, image);
    *row = image - store->image_begin[*shard];
}

void store_locate_text(const struct store *store, int64_t text, int *shard, int64_t *row)
{
    *shard = locate(store->text_begin, store->num_shards, text);
    *row = text - store->text_begin[*shard];
}

enum status store_recheck(const struct store *store, struct shard *shard)
{
    if (store->options.recheck_every < 0) return STATUS_OK;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    int64_t due = atomic_load_explicit(&shard->next_recheck, memory_order_relaxed);
    if (now.tv_sec < due) return STATUS_OK;
    atomic_store_explicit(&shard->next_recheck, now.tv_sec + store->options.recheck_every,
                          memory_order_relaxed);
    return shard_check_identity(shard);
}
