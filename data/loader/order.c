/* Which samples a batch holds: the sampler's order, or all rows in sequence. */
#include "data/loader/loader_impl.h"

static int64_t set_rows(const struct loader_options *o, int set)
{
    return o->rows == LOADER_TEXTS ? store_num_texts(o->sets[set].store)
                                   : store_num_images(o->sets[set].store);
}

/* rows * rank / size, without overflow. */
static int64_t part_begin(int64_t rows, int rank, int size)
{
    return rows / size * rank + rows % size * rank / size;
}

enum status order_init(struct loader *loader)
{
    const struct loader_options *o = &loader->options;
    double weights[SAMPLER_MAX_SETS] = {0};
    int64_t rows[SAMPLER_MAX_SETS];
    for (int i = 0; i < o->num_sets; i++) {
        rows[i] = set_rows(o, i);
        weights[i] = o->sets[i].weight;
        loader->row_begin[i + 1] = loader->row_begin[i] + rows[i];
    }
    loader->num_turns = INT64_MAX;
    if (o->order == LOADER_SHUFFLED) {
        const struct sampler_options sampler = {
            .set_rows = rows,
            .set_weights = weights[0] > 0 ? weights : NULL,
            .num_sets = o->num_sets,
            .seed = o->seed,
            .global_batch = o->batch * o->size,
            .tail = o->tail,
            .epoch_samples = o->epoch_samples,
            .chunk_rows = o->chunk_rows,
            .window_chunks = o->window_chunks,
        };
        return sampler_init(&loader->sampler, &sampler);
    }
    int64_t all = loader_num_rows(loader);
    loader->rank_from = part_begin(all, o->rank, o->size);
    loader->rank_to = part_begin(all, o->rank + 1, o->size);
    int64_t batches = loader_num_batches(loader);
    loader->num_turns = batches > o->start ? batches - o->start : 0;
    return STATUS_OK;
}

struct loader_draw order_sample(const struct loader *loader, uint64_t sample)
{
    if (loader->options.order == LOADER_SHUFFLED) {
        int64_t length = loader->sampler.epoch_samples;
        struct sampler_draw draw =
            sampler_draw_at(&loader->sampler, (int64_t)(sample / (uint64_t)length),
                            (int64_t)(sample % (uint64_t)length));
        return (struct loader_draw){draw.set, draw.row, sample};
    }
    int set = 0;
    while ((int64_t)sample >= loader->row_begin[set + 1]) {
        set++;
    }
    return (struct loader_draw){set, (int64_t)sample - loader->row_begin[set], sample};
}

struct loader_draw order_slot(const struct loader *loader, int64_t turn, int64_t slot)
{
    const struct loader_options *o = &loader->options;
    int64_t number = o->start + turn;
    if (o->order == LOADER_SEQUENTIAL) {
        return order_sample(loader, (uint64_t)(loader->rank_from + number * o->batch + slot));
    }
    struct sampler_position position = sampler_at_step(&loader->sampler, number);
    struct sampler_draw draw =
        sampler_batch_at(&loader->sampler, position, o->rank * o->batch + slot);
    return (struct loader_draw){draw.set, draw.row, draw.sample};
}

void order_describe(const struct loader *loader, int64_t turn, struct loader_batch *batch)
{
    const struct loader_options *o = &loader->options;
    batch->number = o->start + turn;
    batch->count = o->batch;
    batch->num_bad = 0;
    if (o->order == LOADER_SHUFFLED) {
        struct sampler_position position = sampler_at_step(&loader->sampler, batch->number);
        batch->epoch = position.epoch;
        batch->index = position.index;
        return;
    }
    int64_t from = loader->rank_from + batch->number * o->batch;
    if (from > loader->rank_to) from = loader->rank_to;
    batch->index = from;
    if (batch->count > loader->rank_to - from) batch->count = loader->rank_to - from;
}

int64_t loader_num_rows(const struct loader *loader)
{
    const struct loader_options *o = &loader->options;
    int64_t rows = loader->row_begin[o->num_sets];
    bool limited = o->order == LOADER_SEQUENTIAL && o->max_rows > 0 && o->max_rows < rows;
    return limited ? o->max_rows : rows;
}

int64_t loader_num_batches(const struct loader *loader)
{
    const struct loader_options *o = &loader->options;
    if (o->order == LOADER_SHUFFLED) return sampler_steps_per_epoch(&loader->sampler);
    /* The largest part of a rank decides. */
    int64_t part = (loader_num_rows(loader) + o->size - 1) / o->size;
    return (part + o->batch - 1) / o->batch;
}

int64_t loader_epoch_samples(const struct loader *loader)
{
    return loader->options.order == LOADER_SHUFFLED ? loader->sampler.epoch_samples
                                                    : loader_num_rows(loader);
}
