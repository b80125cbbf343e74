/*
 * Rankings, recall and re-ranking against a plain sort of all scores: several texts a picture,
 * ties, odd sizes, more candidates than a tile, any number of ranks.   np=1,3 timeout=60
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launch/eval_impl.h"
#include "runtime/base/rng.h"

enum { WIDTH = 12 };

static struct comm *comm;

struct sized {
    int64_t images, texts;
};

/* Random numbers of the test, the same on every rank. */
static uint32_t draw(const char *what, int64_t index, uint32_t bound)
{
    struct rng_block block = rng_at(rng_key(1, RNG_TEST, rng_site(what)), 0, (uint64_t)index, 0);
    return rng_below(block.word[0], bound);
}

struct fixture {
    struct train_config values;
    struct eval_input input;
    struct evaluation e;
};

/* Small whole numbers: products are exact, and many are equal. `spread` 1: all are equal. */
static void fixture_init(struct fixture *f, struct sized size, int64_t rerank, uint32_t spread)
{
    memset(f, 0, sizeof *f);
    f->input = (struct eval_input){.model = {.values = &f->values, .num_threads = 1}, .comm = comm};
    f->e = (struct evaluation){.in = &f->input,
                               .batch = 4,
                               .width = WIDTH,
                               .length = 3,
                               .rerank = rerank,
                               .top = rerank > 10 ? rerank : 10};
    assert_int_equal(eval_allocate(&f->e, size.images, size.texts), STATUS_OK);
    for (int64_t i = 0; i < size.images * WIDTH; i++) {
        f->e.image_features[i] = (float)draw("image", i, spread) - 1;
    }
    for (int64_t i = 0; i < size.texts * WIDTH; i++) {
        f->e.text_features[i] = (float)draw("text", i, spread) - 1;
    }
    for (int64_t t = 0; t < size.texts; t++) {
        f->e.image_of[t] = t < size.images ? t : (int64_t)draw("owner", t, (uint32_t)size.images);
    }
}

static void fixture_fini(struct fixture *f)
{
    free(f->e.pairs);
    arena_fini(&f->e.arena);
}

/* ---- the plain way ---- */

static float score_of(const struct evaluation *e, bool query_is_text, int64_t query,
                      int64_t candidate)
{
    const float *image = e->image_features + (query_is_text ? candidate : query) * WIDTH;
    const float *text = e->text_features + (query_is_text ? query : candidate) * WIDTH;
    float sum = 0;
    for (int i = 0; i < WIDTH; i++) {
        sum += image[i] * text[i];
    }
    return sum;
}

static bool right(const struct evaluation *e, bool query_is_text, int64_t query, int64_t candidate)
{
    return query_is_text ? e->image_of[query] == candidate : e->image_of[candidate] == query;
}

struct scored {
    float score;
    int64_t number;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *p = a;
    const struct scored *q = b;
    if (p->score != q->score) return p->score > q->score ? -1 : 1;
    return p->number < q->number ? -1 : 1;
}

/* All candidates of a query in order. */
static struct scored *sorted(const struct evaluation *e, bool query_is_text, int64_t query)
{
    int64_t count = query_is_text ? e->num_images : e->num_texts;
    struct scored *list = malloc((size_t)count * sizeof *list);
    assert_non_null(list);
    for (int64_t c = 0; c < count; c++) {
        list[c] = (struct scored){score_of(e, query_is_text, query, c), c};
    }
    qsort(list, (size_t)count, sizeof *list, by_score);
    return list;
}

static int64_t first_right(const struct evaluation *e, bool query_is_text, int64_t query,
                           const struct scored *list)
{
    int64_t count = query_is_text ? e->num_images : e->num_texts;
    for (int64_t i = 0; i < count; i++) {
        if (right(e, query_is_text, query, list[i].number)) return i + 1;
    }
    return INT64_MAX;
}

static void check_ranking(const struct evaluation *e, const struct eval_ranking *r,
                          bool query_is_text)
{
    for (int64_t q = 0; q < r->queries; q++) {
        struct scored *list = sorted(e, query_is_text, q);
        for (int64_t k = 0; k < r->top; k++) {
            assert_int_equal(r->candidate[q * r->top + k], list[k].number);
            assert_float_equal(r->score[q * r->top + k], list[k].score, 0);
        }
        assert_int_equal(r->right[q], first_right(e, query_is_text, q, list));
        free(list);
    }
}

static double metric(const struct eval_numbers *numbers, const char *name)
{
    for (int i = 0; i < numbers->count; i++) {
        if (strcmp(numbers->items[i].name, name) == 0) return numbers->items[i].value;
    }
    fail_msg("no metric %s", name);
    return 0;
}

/* Share of queries whose first right answer is among the first k. */
static double recall(const struct evaluation *e, bool query_is_text, int64_t k)
{
    int64_t queries = query_is_text ? e->num_texts : e->num_images;
    int64_t hits = 0;
    for (int64_t q = 0; q < queries; q++) {
        struct scored *list = sorted(e, query_is_text, q);
        hits += first_right(e, query_is_text, q, list) <= k;
        free(list);
    }
    return (double)hits / (double)queries;
}

/* ---- features ---- */

static void check_size(struct sized size)
{
    struct fixture f;
    struct eval_numbers metrics;
    struct eval_numbers chance;
    const int64_t *places;
    fixture_init(&f, size, 0, 3);
    assert_int_equal(eval_rank(&f.e), STATUS_OK);
    check_ranking(&f.e, &f.e.of_image, false);
    check_ranking(&f.e, &f.e.of_text, true);
    assert_int_equal(eval_metrics(&f.e, &metrics, &chance, &places), STATUS_OK);
    static const int64_t ks[] = {1, 5, 10};
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "dual/tr@%d", (int)ks[i]);
        assert_float_equal(metric(&metrics, name), recall(&f.e, false, ks[i]), 1e-12);
        snprintf(name, sizeof name, "dual/ir@%d", (int)ks[i]);
        assert_float_equal(metric(&metrics, name), recall(&f.e, true, ks[i]), 1e-12);
    }
    fixture_fini(&f);
}

static void test_against_a_sort(void **state)
{
    (void)state;
    check_size((struct sized){37, 111});
    check_size((struct sized){150, 151});
}

static void test_more_than_a_tile(void **state)
{
    (void)state;
    check_size((struct sized){131, 1100});
}

/* Fewer than ranks, fewer than the ten kept. */
static void test_few(void **state)
{
    (void)state;
    check_size((struct sized){1, 1});
    check_size((struct sized){2, 7});
}

/* What cannot tell anything apart has the recall of chance, not of a perfect model. */
static void test_everything_alike(void **state)
{
    (void)state;
    struct fixture f;
    struct eval_numbers metrics;
    struct eval_numbers chance;
    const int64_t *places;
    fixture_init(&f, (struct sized){40, 40}, 0, 1);
    assert_int_equal(eval_rank(&f.e), STATUS_OK);
    assert_int_equal(eval_metrics(&f.e, &metrics, &chance, &places), STATUS_OK);
    assert_float_equal(metric(&metrics, "dual/ir@1"), 1.0 / 40, 1e-12);
    assert_float_equal(metric(&metrics, "dual/tr@10"), 10.0 / 40, 1e-12);
    assert_float_equal(metric(&chance, "ir@10"), 10.0 / 40, 1e-12);
    assert_float_equal(metric(&chance, "tr@5"), 5.0 / 40, 1e-12);
    fixture_fini(&f);
}

/* Chance with three texts a picture: 1 - C(27,5) / C(30,5). */
static void test_chance_of_several_texts(void **state)
{
    (void)state;
    struct fixture f;
    struct eval_numbers metrics;
    struct eval_numbers chance;
    const int64_t *places;
    fixture_init(&f, (struct sized){10, 30}, 0, 3);
    assert_int_equal(eval_rank(&f.e), STATUS_OK);
    assert_int_equal(eval_metrics(&f.e, &metrics, &chance, &places), STATUS_OK);
    assert_float_equal(metric(&chance, "tr@5"), 1 - 80730.0 / 142506.0, 1e-12);
    assert_float_equal(metric(&chance, "tr@1"), 0.1, 1e-12);
    assert_float_equal(metric(&chance, "ir@5"), 0.5, 1e-12);
    fixture_fini(&f);
}

/* A picture that no text belongs to is never found, however few texts there are. */
static void test_picture_without_texts(void **state)
{
    (void)state;
    struct fixture f;
    struct eval_numbers metrics;
    struct eval_numbers chance;
    const int64_t *places;
    fixture_init(&f, (struct sized){3, 4}, 0, 3);
    for (int64_t t = 0; t < 4; t++) {
        f.e.image_of[t] = t % 2;
    }
    assert_int_equal(eval_rank(&f.e), STATUS_OK);
    assert_true(f.e.of_image.right[2] == INT64_MAX);
    assert_int_equal(eval_metrics(&f.e, &metrics, &chance, &places), STATUS_OK);
    assert_float_equal(metric(&metrics, "dual/tr@10"), 1.0, 1e-12);
    fixture_fini(&f);
}

/* ---- matching ---- */

static int by_pair(const void *a, const void *b)
{
    const struct eval_pair *p = a;
    const struct eval_pair *q = b;
    if (p->image != q->image) return p->image < q->image ? -1 : 1;
    return p->text < q->text ? -1 : p->text > q->text;
}

/* Made-up matching scores of all pairs, many equal. */
static void make_pairs(struct evaluation *e)
{
    e->num_pairs = e->num_images * e->num_texts;
    e->pairs = malloc((size_t)e->num_pairs * sizeof *e->pairs);
    assert_non_null(e->pairs);
    for (int64_t i = 0; i < e->num_pairs; i++) {
        e->pairs[i] = (struct eval_pair){.image = i / e->num_texts,
                                         .text = i % e->num_texts,
                                         .match = (float)draw("match", i, 5) - 2,
                                         .other = 0.5f};
    }
    qsort(e->pairs, (size_t)e->num_pairs, sizeof *e->pairs, by_pair);
}

/* The order after matching, by sorting the first `rerank` again. */
static void check_final(const struct evaluation *e, const struct eval_ranking *r,
                        bool query_is_text)
{
    for (int64_t q = 0; q < r->queries; q++) {
        const int64_t *before = r->candidate + q * r->top;
        int64_t matched = e->rerank < r->top ? e->rerank : r->top;
        struct scored *list = malloc((size_t)r->top * sizeof *list);
        int64_t *order = malloc((size_t)r->top * sizeof *order);
        assert_non_null(list);
        assert_non_null(order);
        for (int64_t k = 0; k < r->top; k++) {
            int64_t image = query_is_text ? before[k] : q;
            int64_t text = query_is_text ? q : before[k];
            list[k] = (struct scored){e->pairs[image * e->num_texts + text].match, k};
        }
        qsort(list, (size_t)matched, sizeof *list, by_score);
        eval_final_order(e, r, query_is_text, q, order, r->top);
        int64_t place = r->right[q];
        for (int64_t k = r->top - 1; k >= 0; k--) {
            assert_int_equal(order[k], list[k].number);
            if (k < matched && right(e, query_is_text, q, before[order[k]])) place = k + 1;
        }
        assert_int_equal(eval_final_place(e, r, query_is_text, q), place);
        free(list);
        free(order);
    }
}

static void check_rerank(int64_t rerank)
{
    struct fixture f;
    struct eval_numbers metrics;
    struct eval_numbers chance;
    const int64_t *places;
    fixture_init(&f, (struct sized){23, 61}, rerank, 3);
    assert_int_equal(eval_rank(&f.e), STATUS_OK);
    make_pairs(&f.e);
    check_final(&f.e, &f.e.of_image, false);
    check_final(&f.e, &f.e.of_text, true);
    assert_int_equal(eval_metrics(&f.e, &metrics, &chance, &places), STATUS_OK);
    int64_t hits = 0;
    for (int64_t t = 0; t < f.e.num_texts; t++) {
        hits += eval_final_place(&f.e, &f.e.of_text, true, t) <= 1;
        assert_int_equal(places[t], eval_final_place(&f.e, &f.e.of_text, true, t));
    }
    assert_float_equal(metric(&metrics, "itm/ir@1"), (double)hits / 61, 1e-12);
    /* Beyond the candidates that are matched nothing moves: recall there stays what it was. */
    if (rerank == 5) {
        assert_float_equal(metric(&metrics, "itm/ir@5"), metric(&metrics, "dual/ir@5"), 1e-12);
        assert_float_equal(metric(&metrics, "itm/tr@10"), metric(&metrics, "dual/tr@10"), 1e-12);
        assert_true(metric(&metrics, "itm/ir@1") != metric(&metrics, "dual/ir@1"));
    }
    fixture_fini(&f);
}

static void test_rerank(void **state)
{
    (void)state;
    check_rerank(1);
    check_rerank(5);
    check_rerank(16);
    check_rerank(1024);
}

/* Decisions on true pairs: match above other. */
static void test_accuracy(void **state)
{
    (void)state;
    struct fixture f;
    struct eval_numbers metrics;
    struct eval_numbers chance;
    const int64_t *places;
    fixture_init(&f, (struct sized){23, 61}, 5, 3);
    assert_int_equal(eval_rank(&f.e), STATUS_OK);
    make_pairs(&f.e);
    int64_t hits = 0;
    int64_t wrong = 0;
    for (int64_t t = 0; t < 61; t++) {
        int64_t drawn = eval_drawn_image(&f.e, t);
        assert_true(drawn >= 0 && drawn < 23 && drawn != f.e.image_of[t]);
        hits += f.e.pairs[f.e.image_of[t] * 61 + t].match > 0.5f;
        wrong += !(f.e.pairs[drawn * 61 + t].match > 0.5f);
        int64_t hard = eval_hardest_image(&f.e, t);
        int64_t first = f.e.of_text.candidate[t * f.e.of_text.top];
        assert_true(hard != f.e.image_of[t]);
        assert_true(hard == first || first == f.e.image_of[t]);
    }
    assert_int_equal(eval_metrics(&f.e, &metrics, &chance, &places), STATUS_OK);
    assert_float_equal(metric(&metrics, "itm/accuracy_match"), (double)hits / 61, 1e-12);
    assert_float_equal(metric(&metrics, "itm/accuracy_random"), (double)wrong / 61, 1e-12);
    assert_float_equal(metric(&metrics, "itm/accuracy"), (double)(hits + wrong) / 122, 1e-12);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_sort),
        cmocka_unit_test(test_more_than_a_tile),
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_everything_alike),
        cmocka_unit_test(test_chance_of_several_texts),
        cmocka_unit_test(test_picture_without_texts),
        cmocka_unit_test(test_rerank),
        cmocka_unit_test(test_accuracy),
    };
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
