/*
 * Everything is arithmetic on (epoch, index).
 *
 * Mixture: the draws of a run are numbered g = epoch * epoch_samples + index and cut into blocks of
 * SAMPLER_BLOCK. In a block, slot j goes to place p = permutation(j); sets own consecutive ranges
 * of places, as many as their share. So the k-th draw of a set is known without counting: k = block
 * * share + (p - first place). Row k mod n of the set's permutation number k / n.
 */
#include "data/sampler/sampler.h"

#include <math.h>
#include <string.h>

#include "runtime/base/rng.h"

/* Streams of permutation keys; parts of a key, so never renumbered. */
enum stream {
    STREAM_EPOCH = 1,
    STREAM_BLOCK = 2,
    STREAM_SET = 3,
    STREAM_CHUNK = 4,
    STREAM_WINDOW = 5
};

static uint64_t stream_key(const struct sampler *sampler, enum stream stream, uint64_t a,
                           uint64_t b)
{
    struct rng_key key = rng_key(sampler->seed, RNG_SHUFFLE, (uint64_t)stream);
    struct rng_block block = rng_at(key, b, a, (uint32_t)(b >> 32));
    return (uint64_t)block.word[0] << 32 | block.word[1];
}

static uint64_t shuffled(const struct sampler *sampler, enum stream stream, uint64_t a, uint64_t b,
                         int64_t count, int64_t index)
{
    struct permutation p = permutation_make(stream_key(sampler, stream, a, b), (uint64_t)count);
    return permutation_at(&p, (uint64_t)index);
}

/* Shares of a block by largest remainders; every set gets at least what rounds down. */
static enum status make_quotas(struct sampler *sampler, const double *weights)
{
    double total = 0;
    for (int s = 0; s < sampler->num_sets; s++) {
        CHECK(isfinite(weights[s]) && weights[s] > 0, STATUS_INVALID,
              "sampler: the weight of set %d is %g; weights must be above 0", s, weights[s]);
        total += weights[s];
    }
    int64_t share[SAMPLER_MAX_SETS];
    double rest[SAMPLER_MAX_SETS];
    int64_t given = 0;
    for (int s = 0; s < sampler->num_sets; s++) {
        double exact = weights[s] / total * SAMPLER_BLOCK;
        share[s] = (int64_t)exact;
        rest[s] = exact - (double)share[s];
        given += share[s];
    }
    for (; given < SAMPLER_BLOCK; given++) {
        int most = 0;
        for (int s = 1; s < sampler->num_sets; s++) {
            if (rest[s] > rest[most]) most = s;
        }
        share[most]++;
        rest[most] = -1;
    }
    for (int s = 0; s < sampler->num_sets; s++) {
        CHECK(share[s] > 0, STATUS_INVALID,
              "sampler: the weight of set %d is below 1/%d of all; raise it or leave the set out",
              s, SAMPLER_BLOCK);
        sampler->quota[s + 1] = sampler->quota[s] + share[s];
    }
    return STATUS_OK;
}

static enum status check_options(const struct sampler_options *o)
{
    CHECK(o->num_sets >= 1 && o->num_sets <= SAMPLER_MAX_SETS, STATUS_INVALID,
          "sampler: 1 to %d sets can be drawn from, not %d", SAMPLER_MAX_SETS, o->num_sets);
    CHECK(o->global_batch >= 1, STATUS_INVALID, "sampler: the global batch must be at least 1");
    for (int s = 0; s < o->num_sets; s++) {
        CHECK(o->set_rows[s] >= 1 && o->set_rows[s] < INT64_MAX / SAMPLER_MAX_SETS / 4,
              STATUS_INVALID, "sampler: set %d has %lld rows", s, (long long)o->set_rows[s]);
    }
    CHECK(o->chunk_rows >= 0 && (o->chunk_rows == 0 || o->window_chunks >= 1), STATUS_INVALID,
          "sampler: locality needs chunks of at least 1 row and windows of at least 1 chunk");
    CHECK(o->chunk_rows == 0 || !o->set_weights, STATUS_INVALID,
          "sampler: locality works with plain concatenation, not with weights");
    CHECK(o->epoch_samples >= 0 && (o->epoch_samples == 0 || o->set_weights), STATUS_INVALID,
          "sampler: the length of an epoch can be set only for a mixture");
    return STATUS_OK;
}

enum status sampler_init(struct sampler *sampler, const struct sampler_options *options)
{
    memset(sampler, 0, sizeof *sampler);
    TRY(check_options(options));
    sampler->num_sets = options->num_sets;
    sampler->is_mixture = options->set_weights != NULL;
    sampler->seed = options->seed;
    sampler->global_batch = options->global_batch;
    sampler->tail = options->tail;
    sampler->chunk_rows = options->chunk_rows;
    sampler->window_chunks = options->window_chunks;
    for (int s = 0; s < options->num_sets; s++) {
        sampler->set_rows[s] = options->set_rows[s];
        sampler->set_begin[s + 1] = sampler->set_begin[s] + options->set_rows[s];
    }
    sampler->epoch_samples =
        options->epoch_samples ? options->epoch_samples : sampler->set_begin[options->num_sets];
    CHECK(
        sampler->tail == SAMPLER_TAIL_WRAP || sampler->epoch_samples >= sampler->global_batch,
        STATUS_INVALID,
        "sampler: an epoch has %lld samples, fewer than one global batch of %lld; lower the batch "
        "or use the tail policy 'wrap'",
        (long long)sampler->epoch_samples, (long long)sampler->global_batch);
    return sampler->is_mixture ? make_quotas(sampler, options->set_weights) : STATUS_OK;
}

/* The entry of `begins` (num + 1 rising numbers) whose range holds `value`. */
static int find_range(const int64_t *begins, int num, int64_t value)
{
    int low = 0;
    int high = num;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (begins[middle] <= value) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Row of an epoch in which chunks are permuted, and rows inside windows of chunks. */
static int64_t local_row(const struct sampler *s, int64_t epoch, int64_t index)
{
    int64_t rows = s->epoch_samples;
    int64_t window_rows =
        s->window_chunks > rows / s->chunk_rows ? rows : s->window_chunks * s->chunk_rows;
    int64_t window = index / window_rows;
    int64_t in_window = rows - window * window_rows;
    if (in_window > window_rows) in_window = window_rows;
    int64_t at = (int64_t)shuffled(s, STREAM_WINDOW, (uint64_t)epoch, (uint64_t)window, in_window,
                                   index % window_rows);
    /* Whole chunks in permuted order; the short one at the end of the set stays last. */
    int64_t whole = rows / s->chunk_rows;
    int64_t chunk = (window * window_rows + at) / s->chunk_rows;
    int64_t offset = (window * window_rows + at) % s->chunk_rows;
    if (chunk < whole) {
        chunk = (int64_t)shuffled(s, STREAM_CHUNK, (uint64_t)epoch, 0, whole, chunk);
    }
    return chunk * s->chunk_rows + offset;
}

static struct sampler_draw mixture_draw(const struct sampler *s, uint64_t number)
{
    uint64_t block = number / SAMPLER_BLOCK;
    int64_t place = (int64_t)shuffled(s, STREAM_BLOCK, block, 0, SAMPLER_BLOCK,
                                      (int64_t)(number % SAMPLER_BLOCK));
    int set = find_range(s->quota, s->num_sets, place);
    uint64_t share = (uint64_t)(s->quota[set + 1] - s->quota[set]);
    uint64_t k = block * share + (uint64_t)(place - s->quota[set]);
    uint64_t rows = (uint64_t)s->set_rows[set];
    int64_t row = (int64_t)shuffled(s, STREAM_SET, (uint64_t)set, k / rows, s->set_rows[set],
                                    (int64_t)(k % rows));
    return (struct sampler_draw){.set = set, .row = row};
}

struct sampler_draw sampler_draw_at(const struct sampler *sampler, int64_t epoch, int64_t index)
{
    uint64_t number = (uint64_t)epoch * (uint64_t)sampler->epoch_samples + (uint64_t)index;
    struct sampler_draw draw;
    if (sampler->is_mixture) {
        draw = mixture_draw(sampler, number);
    } else {
        int64_t row = sampler->chunk_rows
                          ? local_row(sampler, epoch, index)
                          : (int64_t)shuffled(sampler, STREAM_EPOCH, (uint64_t)epoch, 0,
                                              sampler->epoch_samples, index);
        int set = find_range(sampler->set_begin, sampler->num_sets, row);
        draw = (struct sampler_draw){.set = set, .row = row - sampler->set_begin[set]};
    }
    draw.sample = number;
    return draw;
}

int64_t sampler_steps_per_epoch(const struct sampler *sampler)
{
    return sampler->epoch_samples / sampler->global_batch;
}

struct sampler_draw sampler_batch_at(const struct sampler *sampler,
                                     struct sampler_position position, int64_t i)
{
    int64_t index = position.index + i;
    return sampler_draw_at(sampler, position.epoch + index / sampler->epoch_samples,
                           index % sampler->epoch_samples);
}

struct sampler_position sampler_next(const struct sampler *sampler,
                                     struct sampler_position position)
{
    position.index += sampler->global_batch;
    if (sampler->tail == SAMPLER_TAIL_DROP) {
        if (position.index + sampler->global_batch > sampler->epoch_samples) {
            return (struct sampler_position){position.epoch + 1, 0};
        }
        return position;
    }
    position.epoch += position.index / sampler->epoch_samples;
    position.index %= sampler->epoch_samples;
    return position;
}

struct sampler_position sampler_at_step(const struct sampler *sampler, int64_t step)
{
    if (sampler->tail == SAMPLER_TAIL_DROP) {
        int64_t steps = sampler_steps_per_epoch(sampler);
        return (struct sampler_position){step / steps, step % steps * sampler->global_batch};
    }
    /* The product of a long run and a large batch stays far below 2^63. */
    int64_t samples = step * sampler->global_batch;
    return (struct sampler_position){samples / sampler->epoch_samples,
                                     samples % sampler->epoch_samples};
}
