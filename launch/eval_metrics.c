/*
 * Numbers from what ranking and matching leave.
 *
 * tr@k: share of pictures with one of their texts among the first k; ir@k: share of texts whose
 * picture is. Matching accuracy is that of the two-class decision on all true pairs
 * (accuracy_match), on one drawn wrong picture for each text (accuracy_random), and on the wrong
 * picture nearest to each text (accuracy_hard); `itm/accuracy` is the mean of the first two. With a
 * single picture there are no wrong ones, and only accuracy_match.
 */
#include <math.h>
#include <stdio.h>

#include "launch/eval_impl.h"

enum { TOP_KS = 3 };
static const int64_t top_ks[TOP_KS] = {1, 5, 10};

static void add_number(struct eval_numbers *numbers, const char *group, const char *name,
                       double value)
{
    char *text = numbers->names[numbers->count];
    snprintf(text, sizeof numbers->names[0], "%s%s%s", group, *group ? "/" : "", name);
    numbers->items[numbers->count++] = (struct run_value){text, value};
}

/* Share of the queries with an answer whose answer is among the first k. */
static double recall(const int64_t *places, int64_t count, int64_t k)
{
    int64_t hits = 0;
    int64_t asked = 0;
    for (int64_t i = 0; i < count; i++) {
        asked += places[i] != INT64_MAX;
        hits += places[i] <= k;
    }
    return asked ? (double)hits / (double)asked : 0;
}

static void add_recalls(struct eval_numbers *numbers, const char *group, const char *direction,
                        const int64_t *places, int64_t count)
{
    for (int i = 0; i < TOP_KS; i++) {
        char name[32];
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

static int64_t num_matched(const struct evaluation *e, const struct eval_ranking *r)
{
    return e->rerank < r->top ? e->rerank : r->top;
}

int64_t eval_final_place(const struct evaluation *e, const struct eval_ranking *r,
                         bool query_is_text, int64_t query)
{
    const int64_t *candidates = r->candidate + query * r->top;
    int64_t matched = num_matched(e, r);
    int64_t best = -1;
    float best_score = -INFINITY;
    for (int64_t k = 0; k < matched; k++) {
        if (!is_right(e, query_is_text, query, candidates[k])) continue;
        float score = match_score(e, query_is_text, query, candidates[k]);
        if (best >= 0 && !(score > best_score)) continue;
        best = k;
        best_score = score;
    }
    if (best < 0) return r->right[query];
    int64_t place = 1;
    for (int64_t k = 0; k < matched; k++) {
        float score = match_score(e, query_is_text, query, candidates[k]);
        place += score > best_score || (score == best_score && k < best);
    }
    return place;
}

void eval_final_order(const struct evaluation *e, const struct eval_ranking *r, bool query_is_text,
                      int64_t query, int64_t *order, int64_t count)
{
    const int64_t *candidates = r->candidate + query * r->top;
    int64_t matched = num_matched(e, r);
    bool taken[EVAL_MAX_TOP] = {false};
    for (int64_t i = 0; i < count; i++) {
        order[i] = i;
        float best_score = -INFINITY;
        int64_t best = -1;
        for (int64_t k = 0; k < matched && i < matched; k++) {
            float score = match_score(e, query_is_text, query, candidates[k]);
            if (taken[k] || (best >= 0 && !(score > best_score))) continue;
            best = k;
            best_score = score;
        }
        if (best < 0) continue;
        taken[best] = true;
        order[i] = best;
    }
}

int64_t eval_hardest_image(const struct evaluation *e, int64_t text)
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

static void add_accuracies(const struct evaluation *e, struct eval_numbers *numbers)
{
    double sums[3] = {0, 0, 0};
    int64_t counts[3] = {0, 0, 0};
    for (int64_t t = 0; t < e->num_texts; t++) {
        const double right[3] = {decided(e, e->image_of[t], t, true),
                                 decided(e, eval_drawn_image(e, t), t, false),
                                 decided(e, eval_hardest_image(e, t), t, false)};
        for (int i = 0; i < 3; i++) {
            if (isnan(right[i])) continue;
            sums[i] += right[i];
            counts[i]++;
        }
    }
    for (int i = 0; i < 3; i++) {
        if (counts[i]) sums[i] /= (double)counts[i];
    }
    if (counts[1]) add_number(numbers, "itm", "accuracy", (sums[0] + sums[1]) / 2);
    add_number(numbers, "itm", "accuracy_match", sums[0]);
    if (counts[1]) add_number(numbers, "itm", "accuracy_random", sums[1]);
    if (counts[2]) add_number(numbers, "itm", "accuracy_hard", sums[2]);
}

static enum status final_places(struct evaluation *e, const struct eval_ranking *r,
                                bool query_is_text, int64_t **places)
{
    *places = arena_alloc(&e->arena, (size_t)r->queries * sizeof **places);
    CHECK(*places, STATUS_NO_MEMORY, "out of memory");
    for (int64_t q = 0; q < r->queries; q++) {
        (*places)[q] = eval_final_place(e, r, query_is_text, q);
    }
    return STATUS_OK;
}

/* That one of `right` among `all` is among the first k of a random order. */
static double chance_of(double right, double all, int64_t k)
{
    double none = 1;
    for (int64_t i = 0; i < k; i++) {
        none *= fmax(0, 1 - right / fmax(1, all - (double)i));
    }
    return 1 - none;
}

static void add_chance(const struct evaluation *e, struct eval_numbers *chance)
{
    double images = (double)e->num_images;
    double texts = (double)e->num_texts;
    for (int i = 0; i < TOP_KS; i++) {
        char name[32];
        snprintf(name, sizeof name, "tr@%lld", (long long)top_ks[i]);
        add_number(chance, "", name, chance_of(texts / images, texts, top_ks[i]));
        snprintf(name, sizeof name, "ir@%lld", (long long)top_ks[i]);
        add_number(chance, "", name, chance_of(1, images, top_ks[i]));
    }
    add_number(chance, "", "accuracy", 0.5);
}

enum status eval_metrics(struct evaluation *e, struct eval_numbers *metrics,
                         struct eval_numbers *chance, const int64_t **text_places)
{
    metrics->count = chance->count = 0;
    *text_places = e->of_text.right;
    add_recalls(metrics, "dual", "tr", e->of_image.right, e->num_images);
    add_recalls(metrics, "dual", "ir", e->of_text.right, e->num_texts);
    add_chance(e, chance);
    if (e->rerank == 0) return STATUS_OK;
    int64_t *image_places;
    int64_t *places;
    TRY(final_places(e, &e->of_image, false, &image_places));
    TRY(final_places(e, &e->of_text, true, &places));
    add_recalls(metrics, "itm", "tr", image_places, e->num_images);
    add_recalls(metrics, "itm", "ir", places, e->num_texts);
    add_accuracies(e, metrics);
    *text_places = places;
    return STATUS_OK;
}
