/*
 * Threads: workers claim items in order and prepare them into a ring of slots; the calling thread
 * takes the slots in order and writes. The ring bounds memory: a worker waits until its slot is
 * free. The only shared state is `struct line`, under one mutex.
 *
 * What makes a stopped run go on: a shard is either whole under its final name, with the hash of
 * source and options in its set_id, or not there. The lock on the output is an flock, which the
 * kernel drops with the process, so no stale lock survives a kill.
 */
#include "data/store/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "data/image/flatten.h"
#include "data/store/prepare.h"
#include "data/store/schema.h"
#include "data/store/shard.h"
#include "data/store/writer.h"
#include "runtime/base/strbuf.h"

/* ---- names ---- */

enum status pack_shard_path(const char *output, int64_t shard, char *path, int64_t size)
{
    const char *mark = strchr(output, '%');
    const char *end = mark;
    int digits = 0;
    if (mark) {
        for (end = mark + 1; *end >= '0' && *end <= '9' && digits < 10; end++) {
            digits = digits * 10 + (*end - '0');
        }
        CHECK(*end == 'd' && digits < 20 && !strchr(end, '%'), STATUS_INVALID,
              "-o %s: the name may hold one %%d or %%05d, where the shard's number goes", output);
        end++;
    }
    int length = mark ? snprintf(path, (size_t)size, "%.*s%0*lld%s", (int)(mark - output), output,
                                 digits, (long long)shard, end)
                      : snprintf(path, (size_t)size, "%s", output);
    CHECK(length > 0 && length < size, STATUS_INVALID, "-o %s: the path is too long", output);
    return STATUS_OK;
}

/* "coco-train" out of "/data/coco-train-%05d.h5". */
static void set_name(const char *output, char *name, size_t size)
{
    const char *slash = strrchr(output, '/');
    snprintf(name, size, "%s", slash ? slash + 1 : output);
    char *end = strchr(name, '%');
    if (!end) end = strstr(name, ".h5");
    if (end) *end = '\0';
    size_t length = strlen(name);
    while (length > 0 && strchr("-_.", name[length - 1])) {
        name[--length] = '\0';
    }
}

/* ---- one pack at a time ---- */

struct lock {
    int file;
    char path[PATH_MAX];
};

static bool lock_is_current(const struct lock *lock)
{
    struct stat held;
    struct stat named;
    return fstat(lock->file, &held) == 0 && stat(lock->path, &named) == 0 &&
           held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

static enum status lock_take(struct lock *lock, const char *output)
{
    const char *slash = strrchr(output, '/');
    int folder = slash ? (int)(slash - output) + 1 : 0;
    int length =
        snprintf(lock->path, sizeof lock->path, "%.*s.%s.lock", folder, output, output + folder);
    CHECK(length < (int)sizeof lock->path, STATUS_INVALID, "-o %s: the path is too long", output);
    for (;;) {
        lock->file = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        CHECK(lock->file >= 0, STATUS_IO, "-o %s: cannot create %s: %s", output, lock->path,
              strerror(errno));
        int result = flock(lock->file, LOCK_EX | LOCK_NB);
        int error = errno;
        if (result == 0 && lock_is_current(lock)) return STATUS_OK;
        close(lock->file);
        lock->file = -1;
        /* The one who had it has just removed it: try again with a new file. */
        if (result == 0) continue;
        CHECK(error != EWOULDBLOCK, STATUS_INVALID,
              "-o %s: another weft pack is writing there; wait for it, or choose another name",
              output);
        return status_fail(STATUS_IO, "%s: cannot lock: %s", lock->path, strerror(error));
    }
}

static void lock_drop(struct lock *lock)
{
    if (lock->file < 0) return;
    unlink(lock->path); /* while it is held, so nobody else can hold this file */
    close(lock->file);
    lock->file = -1;
}

/* ---- the line of workers ---- */

struct slot {
    bool done;
    enum status status;
    char message[1024];
    struct sample sample;
    uint64_t *hashes;
};

struct line {
    const struct pack_options *options;
    const struct import_source *source;
    const int64_t *todo; /* [num_todo] shards to make, ascending */
    int64_t num_items;   /* in those */
    pthread_mutex_t mutex;
    pthread_cond_t slot_done;
    pthread_cond_t slot_free;
    struct slot *slots; /* [num_slots] */
    int64_t num_slots;
    int64_t claimed; /* items that workers have taken */
    int64_t taken;   /* items that the writer is through with */
    bool quit;
};

/* The source's number of the n-th item to do. */
static int64_t line_item(const struct line *line, int64_t n)
{
    int64_t size = line->options->shard_size;
    return line->todo[n / size] * size + n % size;
}

static bool line_claim(struct line *line, int64_t *n)
{
    pthread_mutex_lock(&line->mutex);
    while (!line->quit && line->claimed < line->num_items &&
           line->claimed - line->taken >= line->num_slots) {
        pthread_cond_wait(&line->slot_free, &line->mutex);
    }
    bool more = !line->quit && line->claimed < line->num_items;
    if (more) *n = line->claimed++;
    pthread_mutex_unlock(&line->mutex);
    return more;
}

static void *work(void *argument)
{
    struct line *line = argument;
    struct prepare_scratch scratch = {0};
    int64_t n = 0;
    while (line_claim(line, &n)) {
        struct slot *slot = &line->slots[n % line->num_slots];
        slot->status = prepare_item(line->options, line->source, line_item(line, n), &scratch,
                                    &slot->sample, &slot->hashes);
        if (slot->status != STATUS_OK) {
            snprintf(slot->message, sizeof slot->message, "%s", status_message());
        }
        pthread_mutex_lock(&line->mutex);
        slot->done = true;
        pthread_cond_signal(&line->slot_done);
        pthread_mutex_unlock(&line->mutex);
    }
    prepare_scratch_fini(&scratch);
    return NULL;
}

static bool stop_wanted(const struct pack_options *options)
{
    return options->stop && *options->stop;
}

/* Waits for the next slot in order. */
static enum status line_next(struct line *line, struct slot **slot)
{
    *slot = &line->slots[line->taken % line->num_slots];
    pthread_mutex_lock(&line->mutex);
    while (!(*slot)->done && !stop_wanted(line->options)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&line->slot_done, &line->mutex, &until);
    }
    bool done = (*slot)->done;
    pthread_mutex_unlock(&line->mutex);
    CHECK(done && !stop_wanted(line->options), STATUS_CANCELLED, "stopped");
    return STATUS_OK;
}

static void line_release(struct line *line, struct slot *slot)
{
    sample_clear(&slot->sample);
    pthread_mutex_lock(&line->mutex);
    slot->done = false;
    line->taken++;
    pthread_cond_broadcast(&line->slot_free);
    pthread_mutex_unlock(&line->mutex);
}

/* ---- writing in order ---- */

struct packing {
    const struct pack_options *options;
    struct pack_totals *totals;
    struct import_source source;
    struct lock lock;
    struct shard_head head;
    char set[SHARD_NAME_MAX];
    char set_id[17];
    char origin[512];
    int64_t num_shards;
    int64_t *todo; /* owned */
    int64_t num_todo;
};

static enum status bad(struct packing *packing, enum status status, int64_t item,
                       const char *message, int64_t *counter)
{
    char line[1200];
    snprintf(line, sizeof line, "item %lld: %s", (long long)item, message);
    if (packing->options->on_bad == PACK_FAIL) {
        return status_fail(
            status, "%s; --on-bad skip leaves out what is bad, --on-bad report lists it all", line);
    }
    (*counter)++;
    if (packing->options->bad) packing->options->bad(packing->options->user, line);
    return STATUS_OK;
}

static enum status take_slot(struct packing *packing, struct slot *slot, int64_t item,
                             struct shard_writer *writer, int64_t *skipped)
{
    struct pack_totals *totals = packing->totals;
    const struct sample *sample = &slot->sample;
    CHECK(slot->status != STATUS_NO_MEMORY && slot->status != STATUS_CANCELLED, slot->status,
          "item %lld: %s", (long long)item, slot->message);
    totals->items++;
    if (slot->status != STATUS_OK) {
        (*skipped)++;
        return bad(packing, slot->status, item, slot->message, &totals->bad_items);
    }
    for (int32_t i = 0; i < sample->num_rejects; i++) {
        (*skipped)++;
        TRY(bad(packing, STATUS_INVALID, item, sample->rejects[i], &totals->bad_parts));
    }
    if (writer) TRY(shard_writer_add(writer, sample, slot->hashes));
    totals->images += sample->num_images;
    totals->texts += sample->num_texts;
    totals->boxes += sample->num_boxes;
    totals->answers += sample->num_answers;
    for (int32_t i = 0; i < sample->num_images; i++) {
        totals->bytes += sample->images[i].size;
        totals->transparent +=
            image_has_alpha(sample->images[i].bytes, (size_t)sample->images[i].size);
    }
    return STATUS_OK;
}

static enum status take_items(struct packing *packing, struct line *line, int64_t shard,
                              struct shard_writer *writer, int64_t *skipped)
{
    int64_t size = packing->options->shard_size;
    int64_t end = (shard + 1) * size;
    if (end > packing->source.num_items) end = packing->source.num_items;
    for (int64_t item = shard * size; item < end; item++) {
        struct slot *slot = NULL;
        TRY(line_next(line, &slot));
        TRY(take_slot(packing, slot, item, writer, skipped));
        line_release(line, slot);
        if (packing->options->progress) {
            packing->options->progress(packing->options->user, packing->totals);
        }
    }
    return STATUS_OK;
}

static enum status make_shard(struct packing *packing, struct line *line, int64_t shard)
{
    struct shard_writer *writer = NULL;
    int64_t skipped = 0;
    if (packing->options->on_bad == PACK_REPORT) {
        return take_items(packing, line, shard, NULL, &skipped);
    }
    char path[PATH_MAX];
    TRY(pack_shard_path(packing->options->output, shard, path, sizeof path));
    struct shard_head head = packing->head;
    head.shard = shard;
    TRY(shard_writer_create(&writer, path, &head));
    enum status status = take_items(packing, line, shard, writer, &skipped);
    if (status == STATUS_OK) {
        status = shard_writer_finish(&writer, skipped);
        if (status == STATUS_OK) packing->totals->shards_written++;
    }
    shard_writer_destroy(&writer);
    return status;
}

static enum status make_shards(struct packing *packing, struct line *line)
{
    for (int64_t i = 0; i < packing->num_todo; i++) {
        TRY(make_shard(packing, line, packing->todo[i]));
    }
    return STATUS_OK;
}

/* ---- starting and stopping the line ---- */

static int count_threads(const struct pack_options *options)
{
    if (options->num_threads > 0) return options->num_threads;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online < 1 ? 1 : online > 256 ? 256 : (int)online;
}

static enum status run_line(struct packing *packing, struct line *line, int num_threads)
{
    pthread_t *threads = calloc((size_t)num_threads, sizeof *threads);
    CHECK(threads, STATUS_NO_MEMORY, "out of memory for %d threads", num_threads);
    enum status status = STATUS_OK;
    int started = 0;
    for (; started < num_threads; started++) {
        int error = pthread_create(&threads[started], NULL, work, line);
        if (error == 0) continue;
        if (started == 0) {
            status = status_fail(STATUS_IO, "cannot start a thread: %s", strerror(error));
        }
        break; /* fewer threads do as well */
    }
    if (status == STATUS_OK) status = make_shards(packing, line);
    pthread_mutex_lock(&line->mutex);
    line->quit = true;
    pthread_cond_broadcast(&line->slot_free);
    pthread_mutex_unlock(&line->mutex);
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    free(threads);
    return status;
}

static enum status pack_items(struct packing *packing)
{
    int num_threads = count_threads(packing->options);
    struct line line = {.options = packing->options,
                        .source = &packing->source,
                        .todo = packing->todo,
                        .num_items = packing->totals->num_items,
                        .mutex = PTHREAD_MUTEX_INITIALIZER,
                        .slot_done = PTHREAD_COND_INITIALIZER,
                        .slot_free = PTHREAD_COND_INITIALIZER,
                        .num_slots = 4 * num_threads};
    line.slots = calloc((size_t)line.num_slots, sizeof *line.slots);
    CHECK(line.slots, STATUS_NO_MEMORY, "out of memory for %d threads", num_threads);
    enum status status = run_line(packing, &line, num_threads);
    for (int64_t i = 0; i < line.num_slots; i++) {
        sample_fini(&line.slots[i].sample);
    }
    free(line.slots);
    pthread_mutex_destroy(&line.mutex);
    pthread_cond_destroy(&line.slot_done);
    pthread_cond_destroy(&line.slot_free);
    return status;
}

/* ---- what is there already ---- */

static void identify(struct packing *packing)
{
    const struct pack_options *options = packing->options;
    const struct import_args *args = &options->args;
    int64_t numbers[] = {SCHEMA_VERSION, options->shard_size, options->max_side,
                         options->max_side ? options->quality : 0, packing->source.num_items};
    uint64_t id = import_hash(packing->source.fingerprint, numbers, sizeof numbers);
    if (options->flatten) id = import_hash(id, options->background, sizeof options->background);
    id = import_hash(id, options->importer->name, (int64_t)strlen(options->importer->name));
    for (int i = 0; args->options && args->options[i].name; i++) {
        const char *value = args->values[i] ? args->values[i] : "";
        id = import_hash(id, value, (int64_t)strlen(value) + 1);
    }
    snprintf(packing->set_id, sizeof packing->set_id, "%016llx", (unsigned long long)id);
    set_name(options->output, packing->set, sizeof packing->set);
    struct strbuf origin = {0};
    strbuf_printf(&origin, "weft pack %s", options->importer->name);
    for (int i = 0; i < args->num_sources; i++) {
        const char *slash = strrchr(args->sources[i], '/');
        strbuf_printf(&origin, " %s", slash && slash[1] ? slash + 1 : args->sources[i]);
    }
    snprintf(packing->origin, sizeof packing->origin, "%s", origin.text ? origin.text : "");
    strbuf_fini(&origin);
    packing->head = (struct shard_head){.set = packing->set,
                                        .set_id = packing->set_id,
                                        .origin = packing->origin,
                                        .shards = packing->num_shards,
                                        .categories = packing->source.categories,
                                        .category_ids = packing->source.category_ids,
                                        .num_categories = packing->source.num_categories};
}

/* Whether shard `number` was finished by an earlier run of the same pack. */
static enum status shard_is_finished(const struct packing *packing, int64_t number, bool *finished)
{
    char path[PATH_MAX];
    struct stat info;
    TRY(pack_shard_path(packing->options->output, number, path, sizeof path));
    *finished = false;
    if (packing->options->overwrite || stat(path, &info) != 0) return STATUS_OK;
    struct shard shard;
    enum status status = shard_open(&shard, path, true);
    if (status != STATUS_OK) {
        return status_fail(status,
                           "%s; it is in the way of this pack: remove it, or give --overwrite",
                           status_message());
    }
    bool same = strcmp(shard.info.set_id, packing->set_id) == 0 && shard.info.shard == number &&
                shard.info.shards == packing->num_shards;
    shard_close(&shard);
    CHECK(same, STATUS_INVALID,
          "%s exists and was packed from another source or with other options; choose another -o, "
          "or give --overwrite",
          path);
    *finished = true;
    return STATUS_OK;
}

static enum status plan_shards(struct packing *packing)
{
    const struct pack_options *options = packing->options;
    int64_t items = packing->source.num_items;
    CHECK(items > 0, STATUS_INVALID, "%s: there is nothing to pack in it",
          options->args.num_sources ? options->args.sources[0] : options->importer->name);
    packing->num_shards = (items - 1) / options->shard_size + 1;
    CHECK(packing->num_shards == 1 || strchr(options->output, '%') ||
              options->on_bad == PACK_REPORT,
          STATUS_INVALID,
          "-o %s: %lld items make %lld shards of %lld; put %%05d into the name, or raise "
          "--shard-size",
          options->output, (long long)items, (long long)packing->num_shards,
          (long long)options->shard_size);
    identify(packing);
    packing->todo = calloc((size_t)packing->num_shards, sizeof *packing->todo);
    CHECK(packing->todo, STATUS_NO_MEMORY, "out of memory for %lld shards",
          (long long)packing->num_shards);
    for (int64_t i = 0; i < packing->num_shards; i++) {
        bool finished = false;
        if (options->on_bad != PACK_REPORT) TRY(shard_is_finished(packing, i, &finished));
        if (finished) {
            packing->totals->shards_kept++;
            continue;
        }
        int64_t end = (i + 1) * options->shard_size;
        packing->totals->num_items += (end < items ? end : items) - i * options->shard_size;
        packing->todo[packing->num_todo++] = i;
    }
    return STATUS_OK;
}

/* ---- the whole ---- */

static enum status pack_locked(struct packing *packing)
{
    TRY(packing->options->importer->open(&packing->source, &packing->options->args));
    enum status status = plan_shards(packing);
    if (status == STATUS_OK) status = pack_items(packing);
    packing->options->importer->close(&packing->source);
    free(packing->todo);
    return status;
}

enum status pack_run(const struct pack_options *options, struct pack_totals *totals)
{
    memset(totals, 0, sizeof *totals);
    char path[PATH_MAX];
    CHECK(options->shard_size > 0 && options->shard_size <= INT64_C(1) << 40, STATUS_INVALID,
          "--shard-size %lld: must be at least 1", (long long)options->shard_size);
    TRY(pack_shard_path(options->output, 0, path, sizeof path));
    struct packing packing = {.options = options, .totals = totals, .lock = {.file = -1}};
    if (options->on_bad != PACK_REPORT) TRY(lock_take(&packing.lock, options->output));
    enum status status = pack_locked(&packing);
    lock_drop(&packing.lock);
    int64_t whole = totals->shards_written + totals->shards_kept;
    bool begun = packing.num_shards > 0 && options->on_bad != PACK_REPORT;
    if (begun && (status == STATUS_IO || status == STATUS_CANCELLED)) {
        return status_fail(status,
                           "%s; %lld finished shards are kept, and the same command goes on from "
                           "there",
                           status_message(), (long long)whole);
    }
    return status;
}
