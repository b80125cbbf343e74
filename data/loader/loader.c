/*
 * The ring of buffers and the threads that fill it.
 *
 * Batches are counted in turns from the start; turn t lies in buffer t modulo their number. Threads
 * claim one slot at a time, in order of turns and slots, so a batch is made by all of them together
 * and the next batch is begun while the last slots of this one are still at work. A buffer may be
 * claimed for turn t once the consumer is past turn t - num_buffers.
 *
 * One lock guards claims, completions and counters; a claim is some hundred instructions against
 * milliseconds of decoding. Rejected: a queue of slots per thread (a giant picture would stall its
 * queue), and processes (no shared tokenizer cache, and forks of an MPI process are not safe).
 *
 * A failure belongs to the batch of its slot. Earlier batches are still given out, later ones are
 * not begun, and of several failures in a batch that of the first slot counts; so the consumer sees
 * the same error at the same batch whatever the number of threads.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/loader/loader_impl.h"

enum { DEFAULT_PREFETCH = 2, MAX_PREFETCH = 1000, MAX_THREADS = 1024, POLL_MS = 100 };

/* ---- options ---- */

static enum status check_sets(const struct loader_options *o)
{
    CHECK(o->num_sets >= 1 && o->num_sets <= SAMPLER_MAX_SETS, STATUS_INVALID,
          "data.sets: 1 to %d sets can be loaded, not %d", SAMPLER_MAX_SETS, o->num_sets);
    for (int i = 0; i < o->num_sets; i++) {
        const struct store *store = o->sets[i].store;
        const char *name = store_name(store)[0] ? store_name(store) : store_shard_path(store, 0);
        CHECK(o->rows == LOADER_IMAGES || store_num_texts(store) > 0, STATUS_INVALID,
              "data.sets.%d: %s holds no texts, only %lld pictures; leave it out, or pack it with "
              "its captions",
              i, name, (long long)store_num_images(store));
        CHECK(store_num_images(store) > 0, STATUS_INVALID, "data.sets.%d: %s holds no pictures", i,
              name);
        CHECK(!o->boxes || store_num_boxes(store) > 0, STATUS_INVALID,
              "data.sets.%d: data.boxes asks for boxes, and %s holds none", i, name);
        CHECK((o->sets[i].weight > 0) == (o->sets[0].weight > 0), STATUS_INVALID,
              "data.sets.%d: give either every set a weight or none", i);
    }
    return STATUS_OK;
}

static enum status check_options(const struct loader_options *o)
{
    CHECK(o->size >= 1 && o->rank >= 0 && o->rank < o->size, STATUS_INVALID,
          "loader: rank %d of %d ranks", o->rank, o->size);
    CHECK(o->batch >= 1 && o->batch <= 1 << 24, STATUS_INVALID,
          "the micro-batch is %lld samples; it must be at least 1", (long long)o->batch);
    CHECK(o->start >= 0, STATUS_INVALID, "loader: cannot start at batch %lld", (long long)o->start);
    CHECK(o->max_rows >= 0 && (o->max_rows == 0 || o->order == LOADER_SEQUENTIAL), STATUS_INVALID,
          "loader: only rows in sequence can be limited");
    CHECK(!o->tokenizer || o->rows == LOADER_TEXTS, STATUS_INVALID,
          "loader: pictures without texts have nothing to tokenise");
    CHECK(!o->tokenizer || (o->text_length >= 3 && o->text_length <= 1 << 20), STATUS_INVALID,
          "data.max_text_len is %lld; it must be at least 3, as the two special tokens count",
          (long long)o->text_length);
    CHECK(!o->mlm || o->tokenizer, STATUS_INVALID, "masking needs a tokenizer");
    CHECK(!o->boxes || o->transform, STATUS_INVALID, "boxes need a transform of their pictures");
    CHECK(o->max_bad_rate >= 0 && o->max_bad_rate <= 1, STATUS_INVALID,
          "data.max_bad_rate is %g; it must be in [0, 1]", o->max_bad_rate);
    CHECK(o->num_threads >= 0 && o->num_threads <= MAX_THREADS, STATUS_INVALID,
          "data.threads is %d; it must be 0 to %d", o->num_threads, MAX_THREADS);
    CHECK(o->prefetch >= 0 && o->prefetch <= MAX_PREFETCH, STATUS_INVALID,
          "data.prefetch is %d; it must be 0 to %d", o->prefetch, MAX_PREFETCH);
    return check_sets(o);
}

static enum status init_picture(struct loader *loader)
{
    if (!loader->options.transform) return STATUS_OK;
    loader->transform = *loader->options.transform;
    loader->options.transform = &loader->transform;
    loader->side = transform_side(&loader->transform);
    CHECK(loader->side > 0 && loader->side <= 1 << 15, STATUS_INVALID,
          "the transform gives pictures of %lld pixels a side; batches need 1 to %d",
          (long long)loader->side, 1 << 15);
    return STATUS_OK;
}

static enum status init_masking(struct loader *loader)
{
    struct loader_options *o = &loader->options;
    int32_t id = 0;
    if (o->tokenizer) {
        TRY(tokenizer_require(o->tokenizer, TOKENIZER_BEGIN, &id));
        TRY(tokenizer_require(o->tokenizer, TOKENIZER_END, &id));
        TRY(tokenizer_require(o->tokenizer, TOKENIZER_PAD, &id));
    }
    if (!o->mlm) return STATUS_OK;
    loader->mlm_options = *o->mlm;
    loader->mlm_options.seed = o->seed;
    o->mlm = &loader->mlm_options;
    return mlm_init(&loader->mlm, o->tokenizer, o->mlm);
}

/* ---- threads ---- */

/* Takes the next slot; the lock is held. Waits while all buffers are in use. False at the end. */
static bool claim(struct loader *loader, struct loader_buffer **buffer, int64_t *slot)
{
    for (;;) {
        if (loader->stopping || loader->claim_turn > loader->last_turn ||
            loader->claim_turn >= loader->num_turns) {
            return false;
        }
        if (loader->claim_turn >= loader->held + loader->num_buffers) {
            pthread_cond_wait(&loader->work, &loader->lock);
            continue;
        }
        *buffer = &loader->buffers[loader->claim_turn % loader->num_buffers];
        if (loader->claim_slot == 0) {
            order_describe(loader, loader->claim_turn, &(*buffer)->batch);
            (*buffer)->turn = loader->claim_turn;
            (*buffer)->remaining = (*buffer)->batch.count;
            (*buffer)->status = STATUS_OK;
        }
        *slot = loader->claim_slot++;
        bool empty = (*buffer)->batch.count == 0;
        if (loader->claim_slot >= (*buffer)->batch.count) {
            loader->claim_slot = 0;
            loader->claim_turn++;
        }
        if (!empty) return true;
        pthread_cond_signal(&loader->done);
    }
}

/* Reports a slot as done; the lock is held. */
static void complete(struct loader *loader, struct loader_buffer *buffer, int64_t slot,
                     enum status status, int64_t num_bad)
{
    buffer->batch.num_bad += num_bad;
    if (status != STATUS_OK && (buffer->status == STATUS_OK || slot < buffer->failed_slot)) {
        buffer->status = status;
        buffer->failed_slot = slot;
        strncpy(buffer->message, status_message(), MESSAGE_SIZE - 1);
        if (buffer->turn < loader->last_turn) loader->last_turn = buffer->turn;
    }
    if (--buffer->remaining == 0) pthread_cond_signal(&loader->done);
}

static void *work(void *argument)
{
    struct loader_worker *worker = argument;
    struct loader *loader = worker->loader;
    struct loader_buffer *buffer = NULL;
    int64_t slot = 0;
    pthread_mutex_lock(&loader->lock);
    while (claim(loader, &buffer, &slot)) {
        int64_t turn = buffer->turn;
        int64_t num_bad = 0;
        pthread_mutex_unlock(&loader->lock);
        enum status status =
            slot_make(worker, order_slot(loader, turn, slot), buffer, slot, &num_bad);
        worker_stage(worker, STAGE_IDLE);
        pthread_mutex_lock(&loader->lock);
        complete(loader, buffer, slot, status, num_bad);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* ---- creating and destroying ---- */

static enum status init_buffers(struct loader *loader)
{
    int prefetch = loader->options.prefetch ? loader->options.prefetch : DEFAULT_PREFETCH;
    loader->buffers = calloc((size_t)prefetch + 1, sizeof *loader->buffers);
    CHECK(loader->buffers, STATUS_NO_MEMORY, "out of memory for %d batches", prefetch + 1);
    loader->bytes = buffer_size(loader);
    while (loader->num_buffers < prefetch + 1) {
        TRY(buffer_init(loader, &loader->buffers[loader->num_buffers++]));
    }
    return STATUS_OK;
}

static enum status start_threads(struct loader *loader)
{
    int count = loader->options.num_threads;
    if (count == 0) count = worker_processors();
    loader->workers = calloc((size_t)count, sizeof *loader->workers);
    CHECK(loader->workers, STATUS_NO_MEMORY, "out of memory for %d threads", count);
    while (loader->num_workers < count) {
        struct loader_worker *worker = &loader->workers[loader->num_workers++];
        TRY(worker_init(worker, loader));
        TRY(worker_start(worker, work));
    }
    return STATUS_OK;
}

static enum status init(struct loader *loader)
{
    TRY(check_options(&loader->options));
    memcpy(loader->sets, loader->options.sets,
           (size_t)loader->options.num_sets * sizeof *loader->sets);
    loader->options.sets = loader->sets;
    TRY(init_picture(loader));
    TRY(init_masking(loader));
    TRY(order_init(loader));
    TRY(init_buffers(loader));
    return start_threads(loader);
}

enum status loader_create(struct loader **loader, const struct loader_options *options)
{
    *loader = NULL;
    struct loader *made = calloc(1, sizeof *made);
    CHECK(made, STATUS_NO_MEMORY, "out of memory for a loader");
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->work, NULL);
    pthread_cond_init(&made->done, &clock);
    pthread_condattr_destroy(&clock);
    made->options = *options;
    made->last_turn = INT64_MAX;
    made->stats.seen = options->seen;
    made->stats.bad = options->bad;
    enum status status = init(made);
    if (status != STATUS_OK) {
        loader_destroy(&made);
        return status;
    }
    *loader = made;
    return STATUS_OK;
}

void loader_destroy(struct loader **loader)
{
    struct loader *old = *loader;
    *loader = NULL;
    if (!old) return;
    pthread_mutex_lock(&old->lock);
    old->stopping = true;
    pthread_cond_broadcast(&old->work);
    pthread_mutex_unlock(&old->lock);
    for (int i = 0; i < old->num_workers; i++) {
        if (old->workers[i].started) pthread_join(old->workers[i].thread, NULL);
        worker_fini(&old->workers[i]);
    }
    worker_fini(&old->single);
    for (int i = 0; i < old->num_buffers; i++) {
        buffer_fini(old, &old->buffers[i]);
    }
    buffer_fini(old, &old->single_buffer);
    pthread_cond_destroy(&old->done);
    pthread_cond_destroy(&old->work);
    pthread_mutex_destroy(&old->lock);
    free(old->workers);
    free(old->buffers);
    free(old);
}

/* ---- taking batches ---- */

static void sum_seconds(struct loader *loader, double seconds[NUM_STAGES])
{
    memset(seconds, 0, NUM_STAGES * sizeof *seconds);
    for (int i = 0; i < loader->num_workers; i++) {
        worker_seconds(&loader->workers[i], seconds);
    }
}

/* Divides a wait by what the threads did meanwhile. */
static void account(struct loader *loader, double waited, const double before[NUM_STAGES])
{
    double now[NUM_STAGES];
    double *parts[NUM_STAGES] = {&loader->stats.wait_other, &loader->stats.wait_read,
                                 &loader->stats.wait_decode, &loader->stats.wait_tokenise};
    double all = 0;
    sum_seconds(loader, now);
    for (int i = STAGE_READ; i < NUM_STAGES; i++) {
        all += now[i] - before[i];
    }
    loader->stats.wait += waited;
    for (int i = STAGE_READ; i < NUM_STAGES && all > 0; i++) {
        *parts[i] += waited * (now[i] - before[i]) / all;
    }
    if (all <= 0) *parts[STAGE_IDLE] += waited;
}

/* Waits until the batch of `turn` is made; the lock is held. */
static enum status wait_batch(struct loader *loader, const struct loader_buffer *buffer,
                              int64_t turn)
{
    double before[NUM_STAGES];
    enum status status = STATUS_OK;
    if (buffer->turn == turn && buffer->remaining == 0) return STATUS_OK;
    double begin = worker_now();
    sum_seconds(loader, before);
    while (buffer->turn != turn || buffer->remaining > 0) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += POLL_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        if (loader->options.stop && *loader->options.stop) {
            status = status_fail(STATUS_CANCELLED, "stopped while waiting for data");
            break;
        }
        pthread_cond_timedwait(&loader->done, &loader->lock, &until);
    }
    account(loader, worker_now() - begin, before);
    return status;
}

/* The batch of the turn after the one that was held; the lock is held. */
static enum status take(struct loader *loader, const struct loader_batch **batch)
{
    if (loader->has_batch) {
        loader->held++;
        loader->has_batch = false;
        pthread_cond_broadcast(&loader->work);
    }
    struct loader_buffer *buffer = &loader->buffers[loader->held % loader->num_buffers];
    if (loader->held >= loader->num_turns) {
        /* Past the end nothing is in the making, and any buffer can say so. */
        order_describe(loader, loader->held, &buffer->batch);
        buffer->batch.count = 0;
        *batch = &buffer->batch;
        return STATUS_OK;
    }
    TRY(wait_batch(loader, buffer, loader->held));
    if (buffer->status != STATUS_OK) return status_fail(buffer->status, "%s", buffer->message);
    loader->has_batch = true;
    loader->stats.batches++;
    loader->stats.seen += buffer->batch.count;
    loader->stats.bad += buffer->batch.num_bad;
    TRY(bad_rate_check(loader));
    *batch = &buffer->batch;
    return STATUS_OK;
}

enum status loader_next(struct loader *loader, const struct loader_batch **batch)
{
    *batch = NULL;
    if (loader->status != STATUS_OK) return status_fail(loader->status, "%s", loader->message);
    pthread_mutex_lock(&loader->lock);
    enum status status = take(loader, batch);
    pthread_mutex_unlock(&loader->lock);
    if (status != STATUS_OK) {
        loader->status = status;
        strncpy(loader->message, status_message(), MESSAGE_SIZE - 1);
    }
    return status;
}

static enum status make_samples(struct loader *loader, const uint64_t *samples, int64_t count,
                                bool texts, const struct loader_batch **batch)
{
    struct loader_buffer *buffer = &loader->single_buffer;
    struct loader_worker *worker = &loader->single;
    *batch = NULL;
    CHECK(count >= 0 && count <= loader->options.batch, STATUS_INVALID,
          "loader: %lld samples at once, a batch has %lld", (long long)count,
          (long long)loader->options.batch);
    if (!worker->loader) {
        worker->quiet = true;
        TRY(worker_init(worker, loader));
    }
    if (!buffer->memory) TRY(buffer_init(loader, buffer));
    worker->texts = texts;
    buffer->batch.count = count;
    buffer->batch.num_bad = 0;
    for (int64_t i = 0; i < count; i++) {
        CHECK(loader->options.order == LOADER_SHUFFLED ||
                  samples[i] < (uint64_t)loader_num_rows(loader),
              STATUS_INVALID, "loader: there is no sample %llu", (unsigned long long)samples[i]);
        TRY(slot_make(worker, order_sample(loader, samples[i]), buffer, i, &buffer->batch.num_bad));
    }
    *batch = &buffer->batch;
    return STATUS_OK;
}

enum status loader_samples_at(struct loader *loader, const uint64_t *samples, int64_t count,
                              const struct loader_batch **batch)
{
    return make_samples(loader, samples, count, false, batch);
}

enum status loader_texts_at(struct loader *loader, const uint64_t *samples, int64_t count,
                            const struct loader_batch **batch)
{
    return make_samples(loader, samples, count, true, batch);
}

/* ---- numbers ---- */

int64_t loader_position(const struct loader *loader)
{
    return loader->options.start + loader->held + loader->has_batch;
}

size_t loader_buffer_bytes(const struct loader *loader)
{
    return loader->bytes * (size_t)loader->num_buffers;
}

int64_t loader_bytes_of(int64_t batch, int64_t side, int64_t text_length, bool mlm, int prefetch)
{
    /* Only whether these are there is looked at. */
    static const struct mlm_options some = {0};
    const struct loader loader = {.side = side,
                                  .options = {.batch = batch,
                                              .text_length = text_length,
                                              .tokenizer = (const struct tokenizer *)&some,
                                              .mlm = mlm ? &some : NULL}};
    return (int64_t)buffer_size(&loader) * ((prefetch ? prefetch : DEFAULT_PREFETCH) + 1);
}

struct loader_stats loader_stats(struct loader *loader)
{
    double seconds[NUM_STAGES];
    sum_seconds(loader, seconds);
    pthread_mutex_lock(&loader->lock);
    struct loader_stats stats = loader->stats;
    pthread_mutex_unlock(&loader->lock);
    stats.busy_read = seconds[STAGE_READ];
    stats.busy_decode = seconds[STAGE_DECODE];
    stats.busy_tokenise = seconds[STAGE_TOKENISE];
    return stats;
}
