/*
 * Hard negatives, position ids, row numbers, constants of integers: what they draw and count, on
 * any number of ranks.   np=1,2 timeout=60
 */
#include "runtime/comm/comm.h"
#include "tests/runtime/ops/op_check.h"

enum { PAIRS = 4, STEPS = 4000 };

static struct comm *comm;

/* ---- hard negatives ---- */

struct draws {
    struct graph *g;
    struct executor *e;
    struct tensor *logits, *index, *entropy;
    int64_t rows;
    int64_t columns;
    int64_t sample_base;
};

static void draws_make(struct draws *d, struct comm *world, int64_t rows, int64_t columns,
                       bool all_ranks, const char *name)
{
    const struct graph_options options = {.world_size = world ? world->size : 1};
    *d = (struct draws){.rows = rows, .columns = columns};
    MUST(graph_create(&d->g, &options));
    d->logits = graph_input(d->g, "logits", DTYPE_F32, SHAPE(rows, columns));
    d->index = op_draw_negatives(d->g, d->logits, all_ranks, name, &d->entropy);
    graph_output(d->g, "index", d->index);
    graph_output(d->g, "entropy", d->entropy);
    MUST(graph_status(d->g));
    MUST(executor_create(&d->e, d->g, &(struct executor_options){.seed = 3, .comm = world}));
    d->sample_base = world ? world->rank * rows : 0;
}

static void draws_free(struct draws *d)
{
    executor_destroy(&d->e);
    graph_destroy(&d->g);
}

static const int32_t *draw(struct draws *d, uint64_t step)
{
    const struct executor_run run = {.step = step, .sample_base = (uint64_t)d->sample_base};
    MUST(executor_run(d->e, &run));
    return executor_data(d->e, d->index);
}

/* Similarities of global row and column: from even to decided. */
static float logit(int64_t row, int64_t column)
{
    static const float table[] = {0, 1.5f, -1, 0.5f, 2.5f, 0.25f, -0.5f};
    return table[(row * 3 + column * 2) % 7] * (row % 2 ? 1.0f : 0.5f);
}

static void fill_logits(struct draws *d, int64_t first_row)
{
    float *data = executor_data(d->e, d->logits);
    for (int64_t i = 0; i < d->rows * d->columns; i++) {
        data[i] = logit(first_row + i / d->columns, i % d->columns);
    }
}

/* The probability that global row `row` draws `column`, and the entropy of its draw. */
static double probability(int64_t row, int64_t column, int64_t columns, int64_t positive,
                          double *entropy)
{
    double sum = 0;
    *entropy = 0;
    for (int64_t c = 0; c < columns; c++) {
        if (c != positive) sum += exp((double)logit(row, c));
    }
    for (int64_t c = 0; c < columns; c++) {
        double p = exp((double)logit(row, c)) / sum;
        if (c != positive) *entropy -= p * log(p);
    }
    return column == positive ? 0 : exp((double)logit(row, column)) / sum;
}

/* Frequencies over many steps: chi-square of every row, and never the own positive. */
static void test_frequencies(void **state)
{
    (void)state;
    struct draws d;
    int64_t columns = PAIRS * comm->size;
    int64_t first = PAIRS * comm->rank;
    int64_t *counts = calloc((size_t)(PAIRS * columns), sizeof *counts);
    assert_non_null(counts);
    draws_make(&d, comm, PAIRS, columns, true, "image");
    fill_logits(&d, first);
    for (int step = 0; step < STEPS; step++) {
        const int32_t *index = draw(&d, (uint64_t)step);
        for (int64_t r = 0; r < PAIRS; r++) {
            assert_in_range(index[r], 0, columns - 1);
            counts[r * columns + index[r]]++;
        }
    }
    for (int64_t r = 0; r < PAIRS; r++) {
        double chi_square = 0;
        double entropy = 0;
        assert_int_equal(counts[r * columns + first + r], 0);
        for (int64_t c = 0; c < columns; c++) {
            double p = probability(first + r, c, columns, first + r, &entropy);
            if (p == 0) continue;
            double difference = (double)counts[r * columns + c] - STEPS * p;
            chi_square += difference * difference / (STEPS * p);
        }
        /* With k = columns - 2 degrees of freedom, mean k and deviation sqrt(2 k): five of them. */
        double freedom = (double)columns - 2;
        assert_true(chi_square < freedom + 5 * sqrt(2 * freedom) + 5);
        float got = ((const float *)executor_data(d.e, d.entropy))[r];
        assert_true(fabs((double)got - entropy) < 1e-5);
    }
    free(counts);
    draws_free(&d);
}

/* Rows are drawn apart from each other: two equal rows agree as often as chance has it. */
static void test_rows_are_independent(void **state)
{
    (void)state;
    enum { COLUMNS = 11, EXTRA_FROM = 2 };
    struct draws d;
    draws_make(&d, NULL, 2, COLUMNS, true, "image");
    float *data = executor_data(d.e, d.logits);
    for (int64_t i = 0; i < 2 * COLUMNS; i++) {
        data[i] = i % COLUMNS < EXTRA_FROM ? -100.0f : 0.0f;
    }
    int64_t equal = 0;
    for (int step = 0; step < STEPS; step++) {
        const int32_t *index = draw(&d, (uint64_t)step);
        equal += index[0] == index[1];
    }
    double p = 1.0 / (COLUMNS - EXTRA_FROM);
    assert_true(fabs((double)equal - STEPS * p) < 5 * sqrt(STEPS * p * (1 - p)));
    draws_free(&d);
}

/* One rank with the whole batch draws what the ranks draw with their parts. */
static void test_any_rank_count(void **state)
{
    (void)state;
    struct draws whole;
    struct draws part;
    int64_t columns = PAIRS * comm->size;
    draws_make(&whole, NULL, columns, columns, true, "text");
    draws_make(&part, comm, PAIRS, columns, true, "text");
    fill_logits(&whole, 0);
    fill_logits(&part, PAIRS * comm->rank);
    int64_t different = 0;
    for (int step = 0; step < 200; step++) {
        const int32_t *all = draw(&whole, (uint64_t)step);
        const int32_t *mine = draw(&part, (uint64_t)step);
        assert_memory_equal(all + PAIRS * comm->rank, mine, PAIRS * sizeof *mine);
        different += all[0] != all[1];
    }
    assert_true(different > 0);
    assert_memory_equal((float *)executor_data(whole.e, whole.entropy) + PAIRS * comm->rank,
                        executor_data(part.e, part.entropy), PAIRS * sizeof(float));
    draws_free(&whole);
    draws_free(&part);
}

/* Columns of this rank alone: the result still counts all ranks' rows. */
static void test_own_columns(void **state)
{
    (void)state;
    struct draws d;
    draws_make(&d, comm, PAIRS, PAIRS, false, "image");
    fill_logits(&d, 0);
    for (int step = 0; step < 300; step++) {
        const int32_t *index = draw(&d, (uint64_t)step);
        for (int32_t r = 0; r < PAIRS; r++) {
            assert_in_range(index[r], PAIRS * comm->rank, PAIRS * (comm->rank + 1) - 1);
            assert_int_not_equal(index[r], PAIRS * comm->rank + r);
        }
    }
    draws_free(&d);
}

/* The name is part of the draw: images and texts are drawn apart. */
static void test_names(void **state)
{
    (void)state;
    struct draws image;
    struct draws text;
    draws_make(&image, NULL, PAIRS, PAIRS, true, "image");
    draws_make(&text, NULL, PAIRS, PAIRS, true, "text");
    fill_logits(&image, 0);
    fill_logits(&text, 0);
    int64_t different = 0;
    for (int step = 0; step < 100; step++) {
        const int32_t *a = draw(&image, (uint64_t)step);
        const int32_t *b = draw(&text, (uint64_t)step);
        different += memcmp(a, b, PAIRS * sizeof *a) != 0;
    }
    assert_true(different > 50);
    draws_free(&image);
    draws_free(&text);
}

/* A positive far above the rest, and rows without any weight: still a negative each. */
static void test_extremes(void **state)
{
    (void)state;
    struct draws d;
    draws_make(&d, NULL, 3, 3, true, "image");
    float *data = executor_data(d.e, d.logits);
    static const float logits[9] = {1e4f, -1e4f, -1e4f, 0, 1e30f, 1e-30f, -INFINITY, 5, INFINITY};
    memcpy(data, logits, sizeof logits);
    for (int step = 0; step < 50; step++) {
        const int32_t *index = draw(&d, (uint64_t)step);
        assert_in_range(index[0], 1, 2);
        assert_true(index[1] == 0 || index[1] == 2);
        assert_int_equal(index[2], 1);
    }
    draws_free(&d);
}

static void test_single_pair(void **state)
{
    (void)state;
    struct graph *g = NULL;
    MUST(graph_create(&g, NULL));
    graph_push(g, "itm");
    assert_null(
        op_draw_negatives(g, graph_input(g, "x", DTYPE_F32, SHAPE(1, 1)), true, "image", NULL));
    assert_int_equal(graph_status(g), STATUS_INVALID);
    assert_string_equal(status_message(), "itm: a single pair has no negative to match against; "
                                          "raise the batch to at least 2");
    graph_destroy(&g);
    /* One pair a rank is enough where there are other ranks. */
    const struct graph_options options = {.world_size = 2};
    MUST(graph_create(&g, &options));
    assert_non_null(
        op_draw_negatives(g, graph_input(g, "x", DTYPE_F32, SHAPE(1, 2)), true, "image", NULL));
    assert_null(
        op_draw_negatives(g, graph_input(g, "y", DTYPE_F32, SHAPE(2, 3)), true, "image", NULL));
    assert_int_equal(graph_status(g), STATUS_INVALID);
    assert_string_equal(status_message(), "draw_negatives: [2,3] lacks columns of its positives");
    graph_destroy(&g);
}

/* ---- counted integers ---- */

static void test_position_ids(void **state)
{
    (void)state;
    struct graph *g = NULL;
    struct executor *e = NULL;
    static const int32_t ids[3][5] = {{0, 7, 2, 1, 1}, {0, 1, 5, 1, 2}, {1, 1, 1, 1, 1}};
    static const int32_t by_one[3][5] = {{2, 3, 4, 1, 1}, {2, 1, 3, 1, 4}, {1, 1, 1, 1, 1}};
    static const int32_t by_zero[3][5] = {{0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}, {1, 2, 3, 4, 5}};
    MUST(graph_create(&g, NULL));
    struct tensor *x = graph_input(g, "ids", DTYPE_I32, SHAPE(3, 5));
    struct tensor *one = op_position_ids(g, x, 1);
    struct tensor *zero = op_position_ids(g, x, 0);
    graph_output(g, "one", one);
    graph_output(g, "zero", zero);
    MUST(executor_create(&e, g, NULL));
    memcpy(executor_data(e, x), ids, sizeof ids);
    MUST(executor_run(e, &(struct executor_run){0}));
    assert_memory_equal(executor_data(e, one), by_one, sizeof by_one);
    assert_memory_equal(executor_data(e, zero), by_zero, sizeof by_zero);
    executor_destroy(&e);
    graph_destroy(&g);
}

static void test_row_numbers(void **state)
{
    (void)state;
    const struct graph_options options = {.world_size = comm->size};
    struct graph *g = NULL;
    struct executor *e = NULL;
    MUST(graph_create(&g, &options));
    struct tensor *own = op_row_numbers(g, 6, false);
    struct tensor *all = op_row_numbers(g, 6, true);
    graph_output(g, "own", own);
    graph_output(g, "all", all);
    MUST(executor_create(&e, g, &(struct executor_options){.comm = comm}));
    MUST(executor_run(e, &(struct executor_run){0}));
    for (int32_t i = 0; i < 6; i++) {
        assert_int_equal(((int32_t *)executor_data(e, own))[i], i);
        assert_int_equal(((int32_t *)executor_data(e, all))[i], 6 * comm->rank + i);
    }
    executor_destroy(&e);
    graph_destroy(&g);
}

static void test_fill_integers(void **state)
{
    (void)state;
    struct graph *g = NULL;
    struct executor *e = NULL;
    MUST(graph_create(&g, NULL));
    struct tensor *y = op_fill(g, DTYPE_I32, SHAPE(3, 7), -100.0f);
    struct tensor *one = op_fill(g, DTYPE_I32, SHAPE(1), 1.0f);
    graph_output(g, "y", y);
    graph_output(g, "one", one);
    MUST(executor_create(&e, g, &(struct executor_options){.poison = true}));
    MUST(executor_run(e, &(struct executor_run){0}));
    for (int i = 0; i < 21; i++) {
        assert_int_equal(((int32_t *)executor_data(e, y))[i], -100);
    }
    assert_int_equal(*(int32_t *)executor_data(e, one), 1);
    executor_destroy(&e);
    graph_destroy(&g);
}

int main(int argc, char **argv)
{
    (void)argc;
    wait_passively(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frequencies),    cmocka_unit_test(test_rows_are_independent),
        cmocka_unit_test(test_any_rank_count), cmocka_unit_test(test_own_columns),
        cmocka_unit_test(test_names),          cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_single_pair),    cmocka_unit_test(test_position_ids),
        cmocka_unit_test(test_row_numbers),    cmocka_unit_test(test_fill_integers),
    };
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
