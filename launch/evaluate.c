/*
 * Retrieval in two stages: ranking by features (eval_features.c, eval_ranking.c), then the first
 * candidates scored again as pairs (eval_pairs.c). Numbers (eval_metrics.c) and examples are drawn
 * on rank 0 from what both leave on every rank.
 */
#include "launch/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launch/eval_impl.h"

enum { EXAMPLES = 6, SHOWN = 5 };

/* ---- examples ---- */

static struct eval_image image_ref(const struct evaluation *e, int64_t image)
{
    const struct data_set_config *set =
        &e->in->model.values->data.eval_sets.items[e->set_of[image]];
    return (struct eval_image){.set = set->path ? set->path : set->paths.items[0],
                               .index = e->set_image[image]};
}

static const char *caption(struct evaluation *e, int64_t text)
{
    struct store_text row = {0};
    int set = 0;
    while (text >= store_num_texts(e->in->data->eval_sets[set].store)) {
        text -= store_num_texts(e->in->data->eval_sets[set++].store);
    }
    const char *copy = "";
    if (store_text_read(e->in->data->eval_sets[set].store, text, &row) == STATUS_OK) {
        copy = arena_strndup(&e->arena, row.text, (size_t)row.length);
    }
    store_text_fini(&row);
    return copy ? copy : "";
}

/* The first candidates of a text in the final order. */
static int fill_candidates(struct evaluation *e, int64_t text, struct eval_candidate *out)
{
    const struct eval_ranking *r = &e->of_text;
    int64_t order[SHOWN];
    int count = r->top < SHOWN ? (int)r->top : SHOWN;
    eval_final_order(e, r, true, text, order, count);
    for (int i = 0; i < count; i++) {
        int64_t image = r->candidate[text * r->top + order[i]];
        const struct eval_pair *pair = i < e->rerank ? eval_pair_find(e, image, text) : NULL;
        float score = pair ? pair->match : r->score[text * r->top + order[i]];
        out[i] = (struct eval_candidate){.image = image_ref(e, image),
                                         .score = (double)score,
                                         .correct = image == e->image_of[text]};
    }
    return count;
}

struct ordered {
    double key;
    int64_t text;
};

static int by_key(const void *a, const void *b)
{
    const struct ordered *p = a;
    const struct ordered *q = b;
    if (p->key != q->key) return p->key > q->key ? -1 : 1;
    return p->text < q->text ? -1 : p->text > q->text;
}

static enum status take_examples(struct evaluation *e, enum eval_example_kind kind,
                                 const struct ordered *order, const int64_t *place,
                                 struct eval_example *examples, int *count)
{
    for (int64_t i = 0; i < EXAMPLES && i < e->num_texts; i++) {
        int64_t text = order[i].text;
        if (order[i].key == -INFINITY) break;
        struct eval_candidate *candidates = arena_alloc(&e->arena, SHOWN * sizeof *candidates);
        CHECK(candidates, STATUS_NO_MEMORY, "out of memory");
        int shown = 0;
        if (kind == EVAL_HARD_NEGATIVE) {
            int64_t wrong = eval_hardest_image(e, text);
            const struct eval_pair *true_pair = eval_pair_find(e, e->image_of[text], text);
            candidates[shown++] =
                (struct eval_candidate){.image = image_ref(e, e->image_of[text]),
                                        .score = true_pair ? (double)true_pair->match : 0,
                                        .correct = true};
            candidates[shown++] =
                (struct eval_candidate){.image = image_ref(e, wrong), .score = order[i].key};
        } else {
            shown = fill_candidates(e, text, candidates);
        }
        examples[(*count)++] = (struct eval_example){.kind = kind,
                                                     .query = EVAL_QUERY_CAPTION,
                                                     .caption = caption(e, text),
                                                     .image = image_ref(e, e->image_of[text]),
                                                     .rank = place[text],
                                                     .candidates = candidates,
                                                     .num_candidates = shown};
    }
    return STATUS_OK;
}

/* Best: found first, by the largest lead over the second. Worst: the farthest down. Hard: wrong
 * pairs with the highest score among those taken for a match. */
static double example_key(const struct evaluation *e, enum eval_example_kind kind,
                          const int64_t *place, int64_t text)
{
    if (kind == EVAL_RETRIEVAL_WORST) return place[text] > 1 ? (double)place[text] : -INFINITY;
    const struct eval_pair *own = eval_pair_find(e, e->image_of[text], text);
    int64_t wrong = eval_hardest_image(e, text);
    const struct eval_pair *other = wrong < 0 ? NULL : eval_pair_find(e, wrong, text);
    if (!own || !other) {
        return kind == EVAL_RETRIEVAL_BEST && place[text] == 1
                   ? (double)e->of_text.score[text * e->of_text.top]
                   : -INFINITY;
    }
    if (kind == EVAL_RETRIEVAL_BEST) {
        return place[text] == 1 ? (double)(own->match - other->match) : -INFINITY;
    }
    return other->match > other->other ? (double)other->match : -INFINITY;
}

static enum status make_examples(struct evaluation *e, const int64_t *place,
                                 struct eval_example *examples, int *count)
{
    struct ordered *order = arena_alloc(&e->arena, (size_t)e->num_texts * sizeof *order);
    CHECK(order, STATUS_NO_MEMORY, "out of memory");
    for (int kind = 0; kind < EVAL_NUM_KINDS; kind++) {
        for (int64_t t = 0; t < e->num_texts; t++) {
            order[t] = (struct ordered){example_key(e, (enum eval_example_kind)kind, place, t), t};
        }
        qsort(order, (size_t)e->num_texts, sizeof *order, by_key);
        TRY(take_examples(e, (enum eval_example_kind)kind, order, place, examples, count));
    }
    return STATUS_OK;
}

/* ---- the whole ---- */

static enum status draw_result(struct evaluation *e, eval_report_fn report, void *user)
{
    struct eval_numbers numbers;
    struct eval_numbers chance;
    const int64_t *places;
    TRY(eval_metrics(e, &numbers, &chance, &places));
    struct eval_example examples[EVAL_NUM_KINDS * EXAMPLES];
    int count = 0;
    TRY(make_examples(e, places, examples, &count));
    const struct eval_result result = {
        .step = e->in->step,
        .split = e->in->split,
        .set = image_ref(e, 0).set,
        .num_images = e->num_images,
        .num_texts = e->num_texts,
        .rerank = e->rerank,
        .metrics = {numbers.items, numbers.count},
        .chance = {chance.items, chance.count},
        .examples = examples,
        .num_examples = count,
    };
    return report(user, &result);
}

/* Ranks share the rows: all must see the same sets. */
static enum status agree_sets(const struct evaluation *e)
{
    const struct data *data = e->in->data;
    uint64_t prints[SAMPLER_MAX_SETS + 1] = {tokenizer_fingerprint(e->in->tokenizer)};
    for (int i = 0; i < data->num_eval_sets; i++) {
        prints[i + 1] = store_fingerprint(data->eval_sets[i].store);
    }
    return comm_agree_bytes(e->in->comm, "the evaluation sets and the tokenizer", prints,
                            sizeof prints);
}

static enum status run_all(struct evaluation *e, eval_report_fn report, void *user)
{
    TRY(agree_sets(e));
    TRY(eval_features(e));
    TRY(eval_rank(e));
    if (e->rerank > 0) TRY(eval_pairs(e));
    enum status status = e->in->comm->rank == 0 ? draw_result(e, report, user) : STATUS_OK;
    return comm_agree_status(e->in->comm, "evaluation", status);
}

enum status evaluate(const struct eval_input *input, eval_report_fn report, void *user)
{
    const struct train_config *values = input->model.values;
    CHECK(input->data->num_eval_sets > 0, STATUS_INVALID,
          "there is nothing to evaluate on: data.eval_sets is empty");
    CHECK(
        objectives_find(&values->objectives, "itc"), STATUS_INVALID,
        "retrieval ranks by the features of contrastive learning; add the objective itc, or leave "
        "data.eval_sets empty");
    struct model model;
    TRY(model_init(&model, &values->model, 1));
    int64_t rerank = objectives_find(&values->objectives, "itm") ? values->eval.rerank : 0;
    struct evaluation e = {.in = input,
                           .user = user,
                           .batch = values->eval.batch,
                           .width = model.facts.hidden,
                           .length = model.facts.max_text_len,
                           .rerank = rerank,
                           .top = rerank > 10 ? rerank : 10};
    enum status status = run_all(&e, report, user);
    free(e.pairs);
    arena_fini(&e.arena);
    return status;
}
