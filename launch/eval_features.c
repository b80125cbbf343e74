/*
 * Features of all pictures and texts, and who is near whom: each rank encodes its part, features
 * are gathered, and each rank ranks everything for its part of the queries, tile by tile.
 */
#include <stdlib.h>
#include <string.h>

#include "launch/eval_impl.h"

enum { TILE_QUERIES = 128, TILE_CANDIDATES = 1024 };

/* ---- passes ---- */

enum status eval_pass_init(struct evaluation *e, struct eval_pass *pass)
{
    const struct train_config *values = &e->t->values;
    const struct step_options options = {.config = &values->objectives,
                                         .model = values->model,
                                         .dtype = values->train.precision == TRAIN_BF16 ? DTYPE_BF16
                                                                                        : DTYPE_F32,
                                         .batch = e->batch,
                                         .world_size = 1,
                                         .parameters_only = true};
    *pass = (struct eval_pass){0};
    return step_init(&pass->step, &options);
}

enum status eval_pass_ready(struct evaluation *e, struct eval_pass *pass)
{
    TRY(graph_status(pass->step.graph));
    CHECK(graph_flat_elements(pass->step.graph) == graph_flat_elements(e->t->step.graph),
          STATUS_INTERNAL, "evaluation records other parameters than training");
    const struct executor_options options = {.plan = {.num_threads = e->t->threads.num_threads},
                                             .seed = (uint64_t)e->t->values.train.seed,
                                             .parameters = executor_parameters(e->t->executor)};
    return executor_create(&pass->executor, pass->step.graph, &options);
}

void eval_pass_fini(struct eval_pass *pass)
{
    executor_destroy(&pass->executor);
    step_fini(&pass->step);
}

enum status eval_pass_run(struct eval_pass *pass, const char *output, const float **values)
{
    TRY(executor_run(pass->executor, &(struct executor_run){0}));
    *values = executor_data(pass->executor, graph_tensor_find(pass->step.graph, output));
    return STATUS_OK;
}

/* ---- parts ---- */

static void part_of(int64_t rows, int rank, int size, int64_t *first, int64_t *count)
{
    *first = rows * rank / size;
    *count = rows * (rank + 1) / size - *first;
}

enum status eval_gather(struct evaluation *e, const char *label, void *data, int64_t rows,
                        int64_t row_bytes)
{
    struct comm *comm = e->t->comm;
    int64_t *counts = arena_alloc(&e->arena, (size_t)comm->size * sizeof *counts);
    CHECK(counts, STATUS_NO_MEMORY, "out of memory");
    int64_t own = 0;
    for (int r = 0; r < comm->size; r++) {
        int64_t first;
        part_of(rows, r, comm->size, &first, &counts[r]);
        counts[r] *= row_bytes;
        if (r == comm->rank) own = first * row_bytes;
    }
    return comm_allgather(comm, label, (char *)data + own, data, 0, counts, COMM_U8);
}

enum status eval_loader(struct evaluation *e, enum loader_rows rows, struct loader **loader)
{
    struct loader_options options = data_eval_options(&e->t->data, rows);
    options.rank = e->t->comm->rank;
    options.size = e->t->comm->size;
    options.batch = e->batch;
    options.seed = (uint64_t)e->t->values.train.seed;
    options.tokenizer = rows == LOADER_TEXTS ? e->t->tokenizer : NULL;
    if (rows == LOADER_TEXTS) options.transform = NULL;
    return loader_create(loader, &options);
}

/* ---- encoding ---- */

static enum status take_images(struct evaluation *e, struct eval_pass *pass, struct loader *loader)
{
    const struct loader_batch *batch;
    const float *features;
    const struct tensor *pixels = pass->step.pixels;
    for (int64_t at = e->first_image;;) {
        TRY(loader_next(loader, &batch));
        if (batch->count == 0) return STATUS_OK;
        memcpy(executor_data(pass->executor, pixels), batch->pixels, tensor_bytes(pixels));
        TRY(eval_pass_run(pass, "eval/image", &features));
        memcpy(e->image_features + at * e->width, features,
               (size_t)(batch->count * e->width) * sizeof *features);
        for (int64_t i = 0; i < batch->count; i++, at++) {
            e->set_image[at] = batch->row[i];
            e->set_of[at] = batch->set[i];
        }
    }
}

static enum status encode_images(struct evaluation *e, struct loader *loader)
{
    struct eval_pass pass;
    TRY(eval_pass_init(e, &pass));
    struct step *s = &pass.step;
    graph_output(s->graph, "eval/image", model_image_feature(&s->model, s->graph, step_image(s)));
    enum status status = eval_pass_ready(e, &pass);
    if (status == STATUS_OK) status = take_images(e, &pass, loader);
    eval_pass_fini(&pass);
    return status;
}

/* The number of an image of a set among those of all sets. */
static int64_t global_image(const struct evaluation *e, int32_t set, int64_t image)
{
    for (int32_t s = 0; s < set; s++) {
        image += store_num_images(e->t->data.eval_sets[s].store);
    }
    return image;
}

static enum status take_texts(struct evaluation *e, struct eval_pass *pass, struct loader *loader)
{
    const struct loader_batch *batch;
    const float *features;
    const struct step *s = &pass->step;
    size_t row = (size_t)e->length * sizeof(int32_t);
    for (int64_t at = e->first_text;;) {
        TRY(loader_next(loader, &batch));
        if (batch->count == 0) return STATUS_OK;
        memcpy(executor_data(pass->executor, s->ids), batch->ids, tensor_bytes(s->ids));
        memcpy(executor_data(pass->executor, s->mask), batch->mask, tensor_bytes(s->mask));
        TRY(eval_pass_run(pass, "eval/text", &features));
        memcpy(e->text_features + at * e->width, features,
               (size_t)(batch->count * e->width) * sizeof *features);
        memcpy(e->ids + at * e->length, batch->ids, (size_t)batch->count * row);
        memcpy(e->mask + at * e->length, batch->mask, (size_t)batch->count * row);
        for (int64_t i = 0; i < batch->count; i++, at++) {
            e->image_of[at] = global_image(e, batch->set[i], batch->image[i]);
        }
    }
}

static enum status encode_texts(struct evaluation *e, struct loader *loader)
{
    struct eval_pass pass;
    TRY(eval_pass_init(e, &pass));
    struct step *s = &pass.step;
    struct model_text text = step_text(s, s->ids);
    graph_output(s->graph, "eval/text", model_text_feature(&s->model, s->graph, &text));
    enum status status = eval_pass_ready(e, &pass);
    if (status == STATUS_OK) status = take_texts(e, &pass, loader);
    eval_pass_fini(&pass);
    return status;
}

static enum status allocate_ranking(struct evaluation *e, struct eval_ranking *r, int64_t queries,
                                    int64_t candidates)
{
    r->queries = queries;
    r->top = e->top < candidates ? e->top : candidates;
    size_t cells = (size_t)(r->queries * r->top);
    r->candidate = arena_alloc(&e->arena, cells * sizeof *r->candidate);
    r->score = arena_alloc(&e->arena, cells * sizeof *r->score);
    r->right = arena_alloc(&e->arena, (size_t)queries * sizeof *r->right);
    CHECK(r->candidate && r->score && r->right, STATUS_NO_MEMORY, "out of memory for rankings");
    return STATUS_OK;
}

static enum status allocate(struct evaluation *e)
{
    size_t images = (size_t)e->num_images;
    size_t texts = (size_t)e->num_texts;
    size_t row = (size_t)e->length * sizeof(int32_t);
    size_t feature = (size_t)e->width * sizeof(float);
    e->image_features = arena_alloc(&e->arena, images * feature);
    e->text_features = arena_alloc(&e->arena, texts * feature);
    e->ids = arena_alloc(&e->arena, texts * row);
    e->mask = arena_alloc(&e->arena, texts * row);
    e->image_of = arena_alloc(&e->arena, texts * sizeof *e->image_of);
    e->set_image = arena_alloc(&e->arena, images * sizeof *e->set_image);
    e->set_of = arena_alloc(&e->arena, images * sizeof *e->set_of);
    CHECK(e->image_features && e->text_features && e->ids && e->mask && e->image_of &&
              e->set_image && e->set_of,
          STATUS_NO_MEMORY, "out of memory for the features of %lld pictures and %lld texts",
          (long long)e->num_images, (long long)e->num_texts);
    TRY(allocate_ranking(e, &e->of_image, e->num_images, e->num_texts));
    return allocate_ranking(e, &e->of_text, e->num_texts, e->num_images);
}

static enum status encode(struct evaluation *e)
{
    struct loader *images = NULL;
    struct loader *texts = NULL;
    struct comm *comm = e->t->comm;
    enum status status = eval_loader(e, LOADER_IMAGES, &images);
    if (status == STATUS_OK) status = eval_loader(e, LOADER_TEXTS, &texts);
    if (status == STATUS_OK) {
        e->num_images = loader_num_rows(images);
        e->num_texts = loader_num_rows(texts);
        part_of(e->num_images, comm->rank, comm->size, &e->first_image, &e->part_images);
        part_of(e->num_texts, comm->rank, comm->size, &e->first_text, &e->part_texts);
        status = allocate(e);
    }
    if (status == STATUS_OK) status = encode_images(e, images);
    if (status == STATUS_OK) status = encode_texts(e, texts);
    loader_destroy(&images);
    loader_destroy(&texts);
    return status;
}

static enum status gather_features(struct evaluation *e)
{
    int64_t feature = e->width * (int64_t)sizeof(float);
    int64_t row = e->length * (int64_t)sizeof(int32_t);
    TRY(eval_gather(e, "image features", e->image_features, e->num_images, feature));
    TRY(eval_gather(e, "text features", e->text_features, e->num_texts, feature));
    TRY(eval_gather(e, "ids", e->ids, e->num_texts, row));
    TRY(eval_gather(e, "masks", e->mask, e->num_texts, row));
    TRY(eval_gather(e, "pictures of texts", e->image_of, e->num_texts, sizeof *e->image_of));
    TRY(eval_gather(e, "pictures", e->set_image, e->num_images, sizeof *e->set_image));
    return eval_gather(e, "sets", e->set_of, e->num_images, sizeof *e->set_of);
}

/* ---- ranking ---- */

/* One direction: queries [first, first + part) of q against all candidates. */
struct direction {
    struct eval_ranking *ranking;
    const float *queries;
    const float *candidates;
    int64_t first;
    int64_t part;
    int64_t num_candidates;
    const int64_t *image_of; /* [texts] */
    bool query_is_text;
};

static bool is_right(const struct direction *d, int64_t query, int64_t candidate)
{
    return d->query_is_text ? d->image_of[query] == candidate : d->image_of[candidate] == query;
}

static float dot(const float *a, const float *b, int64_t width)
{
    double sum = 0;
    for (int64_t i = 0; i < width; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return (float)sum;
}

/* Puts a candidate where it belongs among the first `top`; equal scores stay in order. */
static void insert(struct eval_ranking *r, int64_t query, int64_t known, int64_t candidate,
                   float score)
{
    int64_t *names = r->candidate + query * r->top;
    float *scores = r->score + query * r->top;
    int64_t at = known < r->top ? known : r->top;
    if (at == r->top && !(score > scores[at - 1])) return;
    if (at == r->top) at--;
    for (; at > 0 && score > scores[at - 1]; at--) {
        scores[at] = scores[at - 1];
        names[at] = names[at - 1];
    }
    scores[at] = score;
    names[at] = candidate;
}

/* The tile's products: a [TILE_QUERIES,D] x b [TILE_CANDIDATES,D] -> [.., ..]. */
struct tile {
    struct graph *graph;
    struct executor *executor;
    struct tensor *a;
    struct tensor *b;
    struct tensor *product;
};

static enum status tile_init(struct tile *tile, const struct evaluation *e)
{
    TRY(graph_create(&tile->graph, &(struct graph_options){0}));
    struct graph *g = tile->graph;
    tile->a = graph_input(g, "a", DTYPE_F32, SHAPE(TILE_QUERIES, e->width));
    tile->b = graph_input(g, "b", DTYPE_F32, SHAPE(TILE_CANDIDATES, e->width));
    tile->product = op_matmul(g, tile->a, tile->b, false, true);
    graph_output(g, "product", tile->product);
    return executor_create(
        &tile->executor, g,
        &(struct executor_options){.plan = {.num_threads = e->t->threads.num_threads}});
}

static enum status rank_tile(const struct evaluation *e, const struct direction *d,
                             struct tile *tile, int64_t query, int64_t queries, const float *best)
{
    float *a = executor_data(tile->executor, tile->a);
    float *b = executor_data(tile->executor, tile->b);
    size_t row = (size_t)e->width * sizeof *a;
    memset(a, 0, TILE_QUERIES * row);
    memcpy(a, d->queries + query * e->width, (size_t)queries * row);
    for (int64_t c = 0; c < d->num_candidates; c += TILE_CANDIDATES) {
        int64_t count = d->num_candidates - c;
        if (count > TILE_CANDIDATES) count = TILE_CANDIDATES;
        memset(b, 0, TILE_CANDIDATES * row);
        memcpy(b, d->candidates + c * e->width, (size_t)count * row);
        TRY(executor_run(tile->executor, &(struct executor_run){0}));
        const float *product = executor_data(tile->executor, tile->product);
        for (int64_t i = 0; i < queries; i++) {
            for (int64_t k = 0; k < count; k++) {
                float score = product[i * TILE_CANDIDATES + k];
                insert(d->ranking, query + i, c + k, c + k, score);
                if (score > best[i] && !is_right(d, query + i, c + k)) {
                    d->ranking->right[query + i]++;
                }
            }
        }
    }
    return STATUS_OK;
}

/* The best score of a right answer, by plain products; -2 when a query has none. */
static void best_right(const struct evaluation *e, const struct direction *d, int64_t query,
                       int64_t queries, float *best)
{
    for (int64_t i = 0; i < queries; i++) {
        best[i] = -2;
    }
    for (int64_t t = 0; t < e->num_texts; t++) {
        int64_t image = d->image_of[t];
        int64_t q = d->query_is_text ? t : image;
        if (q < query || q >= query + queries) continue;
        float score =
            dot(e->text_features + t * e->width, e->image_features + image * e->width, e->width);
        if (score > best[q - query]) best[q - query] = score;
    }
}

static enum status rank_direction(const struct evaluation *e, const struct direction *d)
{
    struct tile tile = {0};
    float best[TILE_QUERIES];
    enum status status = tile_init(&tile, e);
    int64_t end = d->first + d->part;
    for (int64_t q = d->first; status == STATUS_OK && q < end; q += TILE_QUERIES) {
        int64_t queries = end - q < TILE_QUERIES ? end - q : TILE_QUERIES;
        for (int64_t i = 0; i < queries; i++) {
            d->ranking->right[q + i] = 1;
        }
        best_right(e, d, q, queries, best);
        status = rank_tile(e, d, &tile, q, queries, best);
    }
    executor_destroy(&tile.executor);
    graph_destroy(&tile.graph);
    return status;
}

static enum status gather_ranking(struct evaluation *e, struct eval_ranking *r)
{
    TRY(eval_gather(e, "candidates", r->candidate, r->queries,
                    r->top * (int64_t)sizeof *r->candidate));
    TRY(eval_gather(e, "scores", r->score, r->queries, r->top * (int64_t)sizeof *r->score));
    return eval_gather(e, "right answers", r->right, r->queries, sizeof *r->right);
}

static enum status rank_all(struct evaluation *e)
{
    const struct direction texts = {.ranking = &e->of_image,
                                    .queries = e->image_features,
                                    .candidates = e->text_features,
                                    .first = e->first_image,
                                    .part = e->part_images,
                                    .num_candidates = e->num_texts,
                                    .image_of = e->image_of};
    const struct direction images = {.ranking = &e->of_text,
                                     .queries = e->text_features,
                                     .candidates = e->image_features,
                                     .first = e->first_text,
                                     .part = e->part_texts,
                                     .num_candidates = e->num_images,
                                     .image_of = e->image_of,
                                     .query_is_text = true};
    TRY(rank_direction(e, &texts));
    return rank_direction(e, &images);
}

enum status eval_features(struct evaluation *e)
{
    TRY(comm_agree_status(e->t->comm, "evaluation: features", encode(e)));
    TRY(gather_features(e));
    TRY(comm_agree_status(e->t->comm, "evaluation: ranking", rank_all(e)));
    TRY(gather_ranking(e, &e->of_image));
    return gather_ranking(e, &e->of_text);
}
