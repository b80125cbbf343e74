/*
 * Matching scores of candidate pairs. A rank takes the pairs of its pictures, so that the part of
 * the image tower below fusion runs once a picture; then scores are gathered.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launch/eval_impl.h"
#include "runtime/base/rng.h"

static int compare_pairs(const void *a, const void *b)
{
    const struct eval_pair *p = a;
    const struct eval_pair *q = b;
    if (p->image != q->image) return p->image < q->image ? -1 : 1;
    return p->text < q->text ? -1 : p->text > q->text;
}

int64_t eval_drawn_image(const struct evaluation *e, int64_t text)
{
    if (e->num_images < 2) return -1;
    struct rng_key key = rng_key(0, RNG_NEGATIVE, rng_site("evaluation"));
    uint32_t word = rng_at(key, 0, (uint64_t)text, 0).word[0];
    int64_t drawn = rng_below(word, (uint32_t)(e->num_images - 1));
    return drawn + (drawn >= e->image_of[text]);
}

const struct eval_pair *eval_pair_find(const struct evaluation *e, int64_t image, int64_t text)
{
    const struct eval_pair key = {.image = image, .text = text};
    if (e->num_pairs == 0) return NULL;
    return bsearch(&key, e->pairs, (size_t)e->num_pairs, sizeof key, compare_pairs);
}

/* Adds the pair if its picture is one of this rank's. */
static void add_pair(struct evaluation *e, int64_t image, int64_t text)
{
    if (image < e->first_image || image >= e->first_image + e->part_images) return;
    e->pairs[e->num_pairs++] = (struct eval_pair){.image = image, .text = text};
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Of each query the candidates that are put in order; of a text at least two, so that the nearest
 * wrong picture is among them. */
static void list_candidates(struct evaluation *e)
{
    int64_t texts = least(e->rerank, e->of_image.top);
    int64_t images = least(e->rerank > 2 ? e->rerank : 2, e->of_text.top);
    for (int64_t i = 0; i < e->num_images; i++) {
        for (int64_t k = 0; k < texts; k++) {
            add_pair(e, i, e->of_image.candidate[i * e->of_image.top + k]);
        }
    }
    for (int64_t t = 0; t < e->num_texts; t++) {
        for (int64_t k = 0; k < images; k++) {
            add_pair(e, e->of_text.candidate[t * e->of_text.top + k], t);
        }
    }
}

static enum status list_pairs(struct evaluation *e)
{
    int64_t most = e->num_images * e->of_image.top + e->num_texts * (e->of_text.top + 2);
    e->pairs = malloc((size_t)most * sizeof *e->pairs);
    CHECK(e->pairs, STATUS_NO_MEMORY, "out of memory for %lld candidate pairs", (long long)most);
    list_candidates(e);
    for (int64_t t = 0; t < e->num_texts; t++) {
        add_pair(e, e->image_of[t], t);
        int64_t drawn = eval_drawn_image(e, t);
        if (drawn >= 0) add_pair(e, drawn, t);
    }
    qsort(e->pairs, (size_t)e->num_pairs, sizeof *e->pairs, compare_pairs);
    int64_t kept = 0;
    for (int64_t i = 0; i < e->num_pairs; i++) {
        if (kept > 0 && compare_pairs(&e->pairs[i], &e->pairs[kept - 1]) == 0) continue;
        e->pairs[kept++] = e->pairs[i];
    }
    e->num_pairs = kept;
    return STATUS_OK;
}

struct pair_passes {
    struct evaluation *e;
    struct loader *loader;
    struct eval_pass image;
    struct eval_pass match;
    size_t prefix_row; /* bytes */
    uint8_t *prefixes; /* [batch] of the pictures at hand */
    int64_t first;     /* the pictures at hand */
    int64_t end;
    int64_t next; /* first pair not scored */
};

static enum status prepare_passes(struct evaluation *e, struct pair_passes *p)
{
    TRY(eval_pass_prefix(&e->in->model, e->batch, &p->image));
    TRY(eval_pass_match(&e->in->model, e->batch, &p->match));
    size_t bytes = tensor_bytes(p->match.prefix);
    p->prefix_row = bytes / (size_t)e->batch;
    p->prefixes = malloc(bytes);
    CHECK(p->prefixes, STATUS_NO_MEMORY, "out of memory");
    return STATUS_OK;
}

/* Up to a batch of the pairs whose pictures are at hand. */
static enum status score_some(struct evaluation *e, struct pair_passes *p)
{
    const struct step *s = &p->match.step;
    uint8_t *prefix = eval_pass_data(&p->match, p->match.prefix);
    int32_t *ids = eval_pass_data(&p->match, s->ids);
    int32_t *mask = eval_pass_data(&p->match, s->mask);
    size_t row = (size_t)e->length * sizeof *ids;
    int64_t used = 0;
    while (used < e->batch && p->next + used < e->num_pairs &&
           e->pairs[p->next + used].image < p->end) {
        const struct eval_pair *pair = &e->pairs[p->next + used];
        memcpy(prefix + (size_t)used * p->prefix_row,
               p->prefixes + (size_t)(pair->image - p->first) * p->prefix_row, p->prefix_row);
        memcpy(ids + used * e->length, e->ids + pair->text * e->length, row);
        memcpy(mask + used * e->length, e->mask + pair->text * e->length, row);
        used++;
    }
    const void *values;
    TRY(eval_pass_run(&p->match, &values));
    const float *logits = values;
    for (int64_t i = 0; i < used; i++) {
        e->pairs[p->next + i].other = logits[2 * i];
        e->pairs[p->next + i].match = logits[2 * i + 1];
        CHECK(isfinite(logits[2 * i]) && isfinite(logits[2 * i + 1]), STATUS_CORRUPT,
              "evaluation: a matching score is not finite; the parameters are damaged or training "
              "diverged - evaluate an earlier checkpoint");
    }
    p->next += used;
    return STATUS_OK;
}

/* The next pictures of this rank; *more: there are some. */
static enum status take_pictures(struct pair_passes *p, bool *more)
{
    const struct loader_batch *batch;
    const void *prefix;
    const struct tensor *pixels = p->image.step.pixels;
    TRY(loader_next(p->loader, &batch));
    *more = batch->count > 0;
    if (!*more) return STATUS_OK;
    memcpy(eval_pass_data(&p->image, pixels), batch->pixels, tensor_bytes(pixels));
    TRY(eval_pass_run(&p->image, &prefix));
    memcpy(p->prefixes, prefix, p->prefix_row * (size_t)p->e->batch);
    p->first = p->end;
    p->end += batch->count;
    return STATUS_OK;
}

static enum status score_batch(void *user, bool *more)
{
    struct pair_passes *p = user;
    const struct evaluation *e = p->e;
    bool at_hand = p->next < e->num_pairs && e->pairs[p->next].image < p->end;
    return at_hand ? score_some(p->e, p) : take_pictures(p, more);
}

static enum status score_part(struct evaluation *e)
{
    struct pair_passes passes = {.e = e, .first = e->first_image, .end = e->first_image};
    enum status status = list_pairs(e);
    if (status == STATUS_OK) status = prepare_passes(e, &passes);
    if (status == STATUS_OK) status = eval_loader(e, LOADER_IMAGES, &passes.loader);
    status = eval_batches(e, "evaluation: pairs", status, score_batch, &passes);
    loader_destroy(&passes.loader);
    eval_pass_fini(&passes.image);
    eval_pass_fini(&passes.match);
    free(passes.prefixes);
    return status;
}

/* The pairs of all ranks, in order of the pictures as the ranks' parts are. */
static enum status gather_pairs(struct evaluation *e)
{
    struct comm *comm = e->in->comm;
    int64_t *counts = e->counts;
    int64_t bytes = e->num_pairs * (int64_t)sizeof *e->pairs;
    TRY(comm_allgather(comm, "numbers of pairs", &bytes, counts, 1, NULL, COMM_I64));
    int64_t total = 0;
    for (int r = 0; r < comm->size; r++) {
        total += counts[r];
    }
    struct eval_pair *all = malloc((size_t)total + 1);
    enum status status = comm_agree_status(
        comm, "evaluation: pairs",
        all ? STATUS_OK : status_fail(STATUS_NO_MEMORY, "out of memory for pairs"));
    if (status == STATUS_OK) {
        status = comm_allgather(comm, "pairs", e->pairs, all, 0, counts, COMM_U8);
    }
    if (status != STATUS_OK) {
        free(all);
        return status;
    }
    free(e->pairs);
    e->pairs = all;
    e->num_pairs = total / (int64_t)sizeof *all;
    return STATUS_OK;
}

enum status eval_pairs(struct evaluation *e)
{
    TRY(score_part(e));
    return gather_pairs(e);
}
