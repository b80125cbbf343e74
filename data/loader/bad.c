/*
 * What becomes of bad rows.
 *
 * A replacement is drawn from (seed, sample number, attempt) alone, so it is the same on any rank,
 * and its picture and mask are keyed by the sample's number like everything else. Each bad row is
 * named once by this process; a table of fixed size remembers which were, and once it is full
 * further ones are only counted.
 */
#include <string.h>

#include "data/loader/loader_impl.h"
#include "runtime/base/log.h"
#include "runtime/base/rng.h"

static bool is_fatal(const struct loader_worker *worker, enum status status)
{
    return worker->fatal || status == STATUS_NO_MEMORY || status == STATUS_CANCELLED ||
           status == STATUS_INTERNAL;
}

enum known { KNOWN_NEW, KNOWN_OLD, KNOWN_FULL };

static enum known remember(struct known_bad *known, const struct loader_draw *draw)
{
    /* Rows are below 2^57 (sampler.c), so a set's number fits above them; +1: 0 is free. */
    uint64_t entry = ((uint64_t)draw->set << 57 | (uint64_t)draw->row) + 1;
    uint64_t at = entry * 0x9E3779B97F4A7C15u >> 32;
    for (;; at++) {
        uint64_t *place = &known->rows[at % KNOWN_BAD_SIZE];
        if (*place == entry) return KNOWN_OLD;
        if (*place) continue;
        if (known->count >= KNOWN_BAD_SIZE / 2) return KNOWN_FULL;
        *place = entry;
        known->count++;
        return KNOWN_NEW;
    }
}

/* Names a bad row, whose reason is this thread's message. */
static void name_bad(struct loader *loader, const struct loader_draw *draw)
{
    static const char *const done[] = {"", "left out", "replaced"};
    pthread_mutex_lock(&loader->lock);
    strncpy(loader->last_bad, status_message(), sizeof loader->last_bad - 1);
    enum known known = remember(&loader->known, draw);
    bool last = known == KNOWN_NEW && loader->known.count == KNOWN_BAD_SIZE / 2;
    pthread_mutex_unlock(&loader->lock);
    if (known != KNOWN_NEW) return;
    log_warning("bad row, %s: %s", done[loader->options.on_bad], status_message());
    if (last)
        log_warning("%d bad rows were named; further ones are only counted", KNOWN_BAD_SIZE / 2);
}

static struct loader_draw replacement(const struct loader *loader, struct loader_draw draw,
                                      int attempt)
{
    struct rng_key key = rng_key(loader->options.seed, RNG_SHUFFLE, rng_site("loader.replacement"));
    struct rng_block block = rng_at(key, (uint64_t)attempt, draw.sample, 0);
    uint64_t word = (uint64_t)block.word[0] << 32 | block.word[1];
    int64_t rows = loader->row_begin[draw.set + 1] - loader->row_begin[draw.set];
    draw.row = (int64_t)(word % (uint64_t)rows);
    return draw;
}

enum status slot_make(struct loader_worker *worker, struct loader_draw draw,
                      struct loader_buffer *buffer, int64_t slot, int64_t *num_bad)
{
    struct loader *loader = worker->loader;
    enum loader_on_bad on_bad = loader->options.on_bad;
    struct loader_draw now = draw;
    for (int attempt = 1;; attempt++) {
        enum status status = row_make(worker, now, buffer, slot);
        if (status == STATUS_OK) return STATUS_OK;
        if (is_fatal(worker, status)) return status;
        ++*num_bad;
        if (on_bad == LOADER_FAIL) {
            return status_fail(status, "%s (data.on_bad: skip or replace would go on)",
                               status_message());
        }
        if (!worker->quiet) name_bad(loader, &now);
        if (on_bad == LOADER_SKIP) return row_blank(worker, buffer, slot);
        CHECK(attempt < LOADER_MAX_ATTEMPTS, status,
              "%d rows drawn in place of one another were all bad, the last: %s; run `weft check`",
              attempt, status_message());
        now = replacement(loader, draw, attempt);
    }
}

enum status bad_rate_check(struct loader *loader)
{
    const struct loader_stats *stats = &loader->stats;
    double limit = loader->options.max_bad_rate;
    if (stats->seen < LOADER_RATE_SAMPLES || (double)stats->bad <= limit * (double)stats->seen) {
        return STATUS_OK;
    }
    return status_fail(STATUS_CORRUPT,
                       "%lld of the last %lld samples of this rank were bad, above "
                       "data.max_bad_rate %g; run `weft check` on the sets; the last: %s",
                       (long long)stats->bad, (long long)stats->seen, limit, loader->last_bad);
}
