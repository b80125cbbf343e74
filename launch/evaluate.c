/*
 * Retrieval (Karpathy and Fei-Fei, CVPR 2015, section 4.2) in two stages: ranking by features
 * (eval_features.c), then the first candidates scored again as pairs (eval_pairs.c). Numbers are
 * drawn here from what both leave on every rank.
 *
 * tr@k: share of pictures with one of their texts among the first k; ir@k: share of texts whose
 * picture is. Matching accuracy is that of the two-class decision on all true pairs
 * (accuracy_match), on one drawn wrong picture for each text (accuracy_random), and on the wrong
 * picture nearest to each text (accuracy_hard); `itm/accuracy` is the mean of the first two.
 */
#include "launch/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launch/eval_impl.h"
#include "launch/eval_result.h"
#include "runtime/base/log.h"

enum { EXAMPLES = 6, SHOWN = 5, TOP_KS = 3, MAX_METRICS = 24 };
static const int64_t top_ks[TOP_KS] = {1, 5, 10};

struct numbers {
    struct run_value items[MAX_METRICS];
    char names[MAX_METRICS][24];
    int count;
};

static void add_number(struct numbers *numbers, const char *group, const char *name, double value)
{
    char *text = numbers->names[numbers->count];
    snprintf(text, sizeof numbers->names[0], "%s%s%s", group, *group ? "/" : "", name);
    numbers->items[numbers->count++] = (struct run_value){text, value};
}

/* Share of the places that are among the first k. */
static double recall(const int64_t *places, int64_t count, int64_t k)
{
    int64_t hits = 0;
    for (int64_t i = 0; i < count; i++) {
        hits += places[i] <= k;
    }
    return (double)hits / (double)count;
}

static void add_recalls(struct numbers *numbers, const char *group, const char *direction,
                        const int64_t *places, int64_t count)
{
    for (int i = 0; i < TOP_KS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%s@%lld", direction, (long long)top_ks[i]);
        add_number(numbers, group, name, recall(places, count, top_ks[i]));
    }
}

/* ---- after matching ---- */

static float match_score(const struct evaluation *e, bool query_is_text, int64_t query,
                         int64_t candidate)
{
    const struct eval_pair *pair =
        query_is_text ? eval_pair_find(e, candidate, query) : eval_pair_find(e, query, candidate);
    return pair ? pair->match : -INFINITY;
}

static bool is_right(const struct evaluation *e, bool query_is_text, int64_t query,
                     int64_t candidate)
{
    return query_is_text ? e->image_of[query] == candidate : e->image_of[candidate] == query;
}

/*
 * The place of the first right answer when the candidates are ordered by their matching scores;
 * where none of them is right, its place by features stands.
 */
static int64_t place_after_matching(const struct evaluation *e, const struct eval_ranking *r,
                                    bool query_is_text, int64_t query)
{
    float best = -INFINITY;
    const int64_t *candidates = r->candidate + query * r->top;
    for (int64_t k = 0; k < r->top; k++) {
        if (!is_right(e, query_is_text, query, candidates[k])) continue;
        best = fmaxf(best, match_score(e, query_is_text, query, candidates[k]));
    }
    if (best == -INFINITY) return r->right[query];
    int64_t place = 1;
    for (int64_t k = 0; k < r->top; k++) {
        if (is_right(e, query_is_text, query, candidates[k])) continue;
        place += match_score(e, query_is_text, query, candidates[k]) > best;
    }
    return place;
}

static enum status places(struct evaluation *e, const struct eval_ranking *r, bool query_is_text,
                          int64_t **out)
{
    *out = arena_alloc(&e->arena, (size_t)r->queries * sizeof **out);
    CHECK(*out, STATUS_NO_MEMORY, "out of memory");
    for (int64_t q = 0; q < r->queries; q++) {
        (*out)[q] = place_after_matching(e, r, query_is_text, q);
    }
    return STATUS_OK;
}

/* The wrong picture nearest to a text, -1 when there is none among the candidates. */
static int64_t hardest_image(const struct evaluation *e, int64_t text)
{
    for (int64_t k = 0; k < e->of_text.top; k++) {
        int64_t image = e->of_text.candidate[text * e->of_text.top + k];
        if (image != e->image_of[text]) return image;
    }
    return -1;
}

/* 1 when the pair's decision is `match`, 0 when not; NAN when there is no such pair. */
static double decided(const struct evaluation *e, int64_t image, int64_t text, bool match)
{
    const struct eval_pair *pair = image < 0 ? NULL : eval_pair_find(e, image, text);
    if (!pair) return NAN;
    return (pair->match > pair->other) == match ? 1 : 0;
}

static void add_accuracies(const struct evaluation *e, struct numbers *numbers)
{
    double sums[3] = {0, 0, 0};
    int64_t counts[3] = {0, 0, 0};
    for (int64_t t = 0; t < e->num_texts; t++) {
        const double right[3] = {decided(e, e->image_of[t], t, true),
                                 decided(e, eval_drawn_image(e, t), t, false),
                                 decided(e, hardest_image(e, t), t, false)};
        for (int i = 0; i < 3; i++) {
            if (isnan(right[i])) continue;
            sums[i] += right[i];
            counts[i]++;
        }
    }
    for (int i = 0; i < 3; i++) {
        sums[i] = counts[i] ? sums[i] / (double)counts[i] : 0;
    }
    add_number(numbers, "itm", "accuracy", (sums[0] + sums[1]) / 2);
    add_number(numbers, "itm", "accuracy_match", sums[0]);
    add_number(numbers, "itm", "accuracy_random", sums[1]);
    add_number(numbers, "itm", "accuracy_hard", sums[2]);
}

/* ---- examples ---- */

static struct eval_image image_ref(const struct evaluation *e, int64_t image)
{
    const struct data_set_config *set = &e->t->values.data.eval_sets.items[e->set_of[image]];
    return (struct eval_image){.set = set->path ? set->path : set->paths.items[0],
                               .index = e->set_image[image]};
}

static const char *caption(struct evaluation *e, int64_t text)
{
    struct store_text row = {0};
    int set = 0;
    while (text >= store_num_texts(e->t->data.eval_sets[set].store)) {
        text -= store_num_texts(e->t->data.eval_sets[set++].store);
    }
    const char *copy = "";
    if (store_text_read(e->t->data.eval_sets[set].store, text, &row) == STATUS_OK) {
        copy = arena_strndup(&e->arena, row.text, (size_t)row.length);
    }
    store_text_fini(&row);
    return copy ? copy : "";
}

/* The first candidates of a text in the final order. */
static int fill_candidates(struct evaluation *e, int64_t text, struct eval_candidate *out)
{
    int64_t top = e->of_text.top;
    const int64_t *images = e->of_text.candidate + text * top;
    bool taken[1024] = {false};
    int count = 0;
    for (; count < SHOWN && count < top; count++) {
        int64_t best = -1;
        float best_score = -INFINITY;
        for (int64_t k = 0; k < top && k < 1024; k++) {
            float score = e->num_pairs ? match_score(e, true, text, images[k])
                                       : e->of_text.score[text * top + k];
            if (taken[k] || !(score > best_score)) continue;
            best = k;
            best_score = score;
        }
        if (best < 0) break;
        taken[best] = true;
        out[count] = (struct eval_candidate){.image = image_ref(e, images[best]),
                                             .score = (double)best_score,
                                             .correct = images[best] == e->image_of[text]};
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
            int64_t wrong = hardest_image(e, text);
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
    int64_t wrong = hardest_image(e, text);
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

static void add_chance(const struct evaluation *e, struct numbers *chance)
{
    for (int i = 0; i < TOP_KS; i++) {
        char name[16];
        double texts_each = (double)e->num_texts / (double)e->num_images;
        double found = texts_each * (double)top_ks[i] / (double)e->num_texts;
        snprintf(name, sizeof name, "tr@%lld", (long long)top_ks[i]);
        add_number(chance, "", name, fmin(1, found));
        snprintf(name, sizeof name, "ir@%lld", (long long)top_ks[i]);
        add_number(chance, "", name, fmin(1, (double)top_ks[i] / (double)e->num_images));
    }
    add_number(chance, "", "accuracy", 0.5);
}

static void log_numbers(const struct evaluation *e, const struct numbers *numbers)
{
    struct strbuf line = {0};
    strbuf_printf(&line, "evaluation at update %lld on %lld pictures and %lld texts:",
                  (long long)e->t->done, (long long)e->num_images, (long long)e->num_texts);
    for (int i = 0; i < numbers->count; i++) {
        strbuf_printf(&line, "  %s %.3f", numbers->items[i].name, numbers->items[i].value);
    }
    log_info("%s", line.text ? line.text : "");
    strbuf_fini(&line);
}

static enum status report(struct evaluation *e, bool matched)
{
    struct numbers numbers = {.count = 0};
    struct numbers chance = {.count = 0};
    const int64_t *place = e->of_text.right;
    add_recalls(&numbers, "dual", "tr", e->of_image.right, e->num_images);
    add_recalls(&numbers, "dual", "ir", e->of_text.right, e->num_texts);
    if (matched) {
        int64_t *image_places;
        int64_t *text_places;
        TRY(places(e, &e->of_image, false, &image_places));
        TRY(places(e, &e->of_text, true, &text_places));
        add_recalls(&numbers, "itm", "tr", image_places, e->num_images);
        add_recalls(&numbers, "itm", "ir", text_places, e->num_texts);
        add_accuracies(e, &numbers);
        place = text_places;
    }
    add_chance(e, &chance);
    log_numbers(e, &numbers);
    struct eval_example examples[EVAL_NUM_KINDS * EXAMPLES];
    int count = 0;
    TRY(make_examples(e, place, examples, &count));
    const struct eval_result result = {
        .step = e->t->done,
        .split = "eval",
        .set = image_ref(e, 0).set,
        .num_images = e->num_images,
        .num_texts = e->num_texts,
        .rerank = matched ? e->top : 0,
        .metrics = {numbers.items, numbers.count},
        .chance = {chance.items, chance.count},
        .examples = examples,
        .num_examples = count,
    };
    TRY(eval_result_save(&result, e->t->run));
    return run_output_eval(
        &e->t->output,
        &(struct run_log_eval){.step = e->t->done, .split = "eval", .metrics = result.metrics});
}

static enum status evaluate(struct evaluation *e)
{
    bool matched = e->t->values.eval.rerank > 0 && objectives_find(&e->t->values.objectives, "itm");
    TRY(eval_features(e));
    if (matched) TRY(eval_pairs(e));
    enum status status = e->t->comm->rank == 0 ? report(e, matched) : STATUS_OK;
    return comm_agree_status(e->t->comm, "evaluation", status);
}

enum status evaluate_run(struct trainer *trainer)
{
    const struct train_config *values = &trainer->values;
    CHECK(
        objectives_find(&values->objectives, "itc"), STATUS_INVALID,
        "retrieval ranks by the features of contrastive learning; add the objective itc, or leave "
        "data.eval_sets empty");
    struct model model;
    TRY(model_init(&model, &values->model, 1));
    struct evaluation e = {.t = trainer,
                           .batch = values->eval.batch,
                           .width = model.facts.hidden,
                           .length = model.facts.max_text_len,
                           .top = values->eval.rerank > 10 ? values->eval.rerank : 10};
    enum status status = evaluate(&e);
    free(e.pairs);
    arena_fini(&e.arena);
    return status;
}
