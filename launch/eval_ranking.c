/*
 * Who is near whom: each rank ranks everything for its part of the queries, tile by tile.
 *
 * The order is by score, then by number (a stable sort): deterministic, and a model that gives
 * everything the same feature does not find everything first. So that a tie is a tie, all scores
 * compared come from the same products: one pass over the tiles finds the best right answer of each
 * query, a second one counts what stands before it. Tiles are always whole (zeros fill the last
 * one), so a score does not depend on where in a tile it was computed.
 */
#include <string.h>

#include "launch/eval_impl.h"

enum { TILE_QUERIES = 128, TILE_CANDIDATES = 1024 };

/* ---- parts ---- */

void eval_part(int64_t rows, int rank, int size, int64_t *first, int64_t *count)
{
    *first = rows * rank / size;
    *count = rows * (rank + 1) / size - *first;
}

enum status eval_gather(struct evaluation *e, const char *label, void *data, int64_t rows,
                        int64_t row_bytes)
{
    struct comm *comm = e->in->comm;
    int64_t *counts = e->counts;
    int64_t own = 0;
    for (int r = 0; r < comm->size; r++) {
        int64_t first;
        eval_part(rows, r, comm->size, &first, &counts[r]);
        counts[r] *= row_bytes;
        if (r == comm->rank) own = first * row_bytes;
    }
    return comm_allgather(comm, label, (char *)data + own, data, 0, counts, COMM_U8);
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

enum status eval_allocate(struct evaluation *e, int64_t num_images, int64_t num_texts)
{
    const struct comm *comm = e->in->comm;
    size_t images = (size_t)num_images;
    size_t texts = (size_t)num_texts;
    size_t row = (size_t)e->length * sizeof(int32_t);
    size_t feature = (size_t)e->width * sizeof(float);
    e->num_images = num_images;
    e->num_texts = num_texts;
    eval_part(num_images, comm->rank, comm->size, &e->first_image, &e->part_images);
    eval_part(num_texts, comm->rank, comm->size, &e->first_text, &e->part_texts);
    e->image_features = arena_alloc(&e->arena, images * feature);
    e->text_features = arena_alloc(&e->arena, texts * feature);
    e->ids = arena_alloc(&e->arena, texts * row);
    e->mask = arena_alloc(&e->arena, texts * row);
    e->image_of = arena_alloc(&e->arena, texts * sizeof *e->image_of);
    e->set_image = arena_alloc(&e->arena, images * sizeof *e->set_image);
    e->set_of = arena_alloc(&e->arena, images * sizeof *e->set_of);
    e->counts = arena_alloc(&e->arena, (size_t)comm->size * sizeof *e->counts);
    CHECK(e->counts && e->image_features && e->text_features && e->ids && e->mask && e->image_of &&
              e->set_image && e->set_of,
          STATUS_NO_MEMORY, "out of memory for the features of %lld pictures and %lld texts",
          (long long)num_images, (long long)num_texts);
    TRY(allocate_ranking(e, &e->of_image, num_images, num_texts));
    return allocate_ranking(e, &e->of_text, num_texts, num_images);
}

/* ---- ranking ---- */

/* One direction: this rank's queries against all candidates. */
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

/* Puts a candidate where it belongs among the first `top`; equal scores stay in order. */
static void insert(struct eval_ranking *r, int64_t query, int64_t candidate, float score)
{
    int64_t *names = r->candidate + query * r->top;
    float *scores = r->score + query * r->top;
    int64_t at = candidate < r->top ? candidate : r->top;
    if (at == r->top && !(score > scores[at - 1])) return;
    if (at == r->top) at--;
    for (; at > 0 && score > scores[at - 1]; at--) {
        scores[at] = scores[at - 1];
        names[at] = names[at - 1];
    }
    scores[at] = score;
    names[at] = candidate;
}

/* The tile's products: a [TILE_QUERIES,D] x b [TILE_CANDIDATES,D] -> [.., ..], and the best right
 * answer of each of its queries. */
struct tile {
    struct graph *graph;
    struct executor *executor;
    struct tensor *a;
    struct tensor *b;
    struct tensor *product;
    int64_t query; /* first one */
    int64_t queries;
    float best[TILE_QUERIES];
    int64_t best_candidate[TILE_QUERIES]; /* -1: the query has no right answer */
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
        &(struct executor_options){.plan = {.num_threads = e->in->model.num_threads}});
}

/* Keeps the first candidates, and the best right answer. */
static void tile_find(const struct direction *d, struct tile *tile, int64_t i, int64_t candidate,
                      float score)
{
    insert(d->ranking, tile->query + i, candidate, score);
    if (!is_right(d, tile->query + i, candidate)) return;
    if (tile->best_candidate[i] >= 0 && !(score > tile->best[i])) return;
    tile->best[i] = score;
    tile->best_candidate[i] = candidate;
}

/* Counts what stands before the best right answer. */
static void tile_count(const struct direction *d, struct tile *tile, int64_t i, int64_t candidate,
                       float score)
{
    bool before =
        score > tile->best[i] || (score == tile->best[i] && candidate < tile->best_candidate[i]);
    d->ranking->right[tile->query + i] += before;
}

static enum status
tile_pass(const struct evaluation *e, const struct direction *d, struct tile *tile,
          void (*take)(const struct direction *, struct tile *, int64_t, int64_t, float))
{
    float *b = executor_data(tile->executor, tile->b);
    size_t row = (size_t)e->width * sizeof *b;
    for (int64_t c = 0; c < d->num_candidates; c += TILE_CANDIDATES) {
        int64_t count = d->num_candidates - c;
        if (count > TILE_CANDIDATES) count = TILE_CANDIDATES;
        memset(b, 0, TILE_CANDIDATES * row);
        memcpy(b, d->candidates + c * e->width, (size_t)count * row);
        TRY(executor_run(tile->executor, &(struct executor_run){0}));
        const float *product = executor_data(tile->executor, tile->product);
        for (int64_t i = 0; i < tile->queries; i++) {
            for (int64_t k = 0; k < count; k++) {
                take(d, tile, i, c + k, product[i * TILE_CANDIDATES + k]);
            }
        }
    }
    return STATUS_OK;
}

static enum status rank_tile(const struct evaluation *e, const struct direction *d,
                             struct tile *tile)
{
    float *a = executor_data(tile->executor, tile->a);
    size_t row = (size_t)e->width * sizeof *a;
    memset(a, 0, TILE_QUERIES * row);
    memcpy(a, d->queries + tile->query * e->width, (size_t)tile->queries * row);
    for (int64_t i = 0; i < tile->queries; i++) {
        tile->best_candidate[i] = -1;
        d->ranking->right[tile->query + i] = 1;
    }
    TRY(tile_pass(e, d, tile, tile_find));
    TRY(tile_pass(e, d, tile, tile_count));
    for (int64_t i = 0; i < tile->queries; i++) {
        if (tile->best_candidate[i] < 0) d->ranking->right[tile->query + i] = INT64_MAX;
    }
    return STATUS_OK;
}

static enum status rank_direction(const struct evaluation *e, const struct direction *d)
{
    struct tile tile = {0};
    enum status status = tile_init(&tile, e);
    int64_t end = d->first + d->part;
    for (int64_t q = d->first; status == STATUS_OK && q < end; q += TILE_QUERIES) {
        tile.query = q;
        tile.queries = end - q < TILE_QUERIES ? end - q : TILE_QUERIES;
        status = rank_tile(e, d, &tile);
    }
    executor_destroy(&tile.executor);
    graph_destroy(&tile.graph);
    return status;
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

static enum status gather_ranking(struct evaluation *e, struct eval_ranking *r)
{
    TRY(eval_gather(e, "candidates", r->candidate, r->queries,
                    r->top * (int64_t)sizeof *r->candidate));
    TRY(eval_gather(e, "scores", r->score, r->queries, r->top * (int64_t)sizeof *r->score));
    return eval_gather(e, "right answers", r->right, r->queries, sizeof *r->right);
}

enum status eval_rank(struct evaluation *e)
{
    TRY(comm_agree_status(e->in->comm, "evaluation: ranking", rank_all(e)));
    TRY(gather_ranking(e, &e->of_image));
    return gather_ranking(e, &e->of_text);
}
