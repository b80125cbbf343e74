/*
 * Collectives as nodes, forward and backward, against sums over what every rank holds, in every
 * dtype and under the options of the plan.   np=1,2,3 timeout=60
 */
#include "runtime/comm/comm.h"
#include "tests/runtime/ops/op_check.h"

enum { ROWS = 3, COLUMNS = 5, SLICE = ROWS * COLUMNS };

static struct comm *comm;

/* Small integers over 8: sums over a few ranks are exact in bf16. */
static double value_at(int rank, int64_t i, int what)
{
    return (double)((i * 7 + rank * 3 + what * 5) % 16 - 8) / 8;
}

struct program {
    struct graph *g;
    struct tensor *x, *zero, *r, *y, *loss;
};

static void program_make(struct program *p, struct tensor *(*op)(struct graph *, struct tensor *),
                         int64_t x_rows, int64_t y_rows, enum dtype dtype)
{
    const struct graph_options options = {.world_size = comm->size};
    *p = (struct program){0};
    MUST(graph_create(&p->g, &options));
    p->x = graph_parameter(p->g, "x", SHAPE(x_rows, COLUMNS), INIT(INIT_ZEROS, 0));
    p->zero = graph_input(p->g, "zero", DTYPE_F32, SHAPE(x_rows, COLUMNS));
    p->r = graph_input(p->g, "r", DTYPE_F32, SHAPE(y_rows, COLUMNS));
    graph_push(p->g, "exchange");
    graph_block_begin(p->g, "block");
    struct tensor *x = op_cast(p->g, op_add(p->g, p->x, p->zero), dtype);
    p->y = op_cast(p->g, op(p->g, op_tanh(p->g, op_scale(p->g, x, 0))), DTYPE_F32);
    p->y = op_add(p->g, p->y, op_cast(p->g, op(p->g, x), DTYPE_F32));
    graph_block_end(p->g);
    graph_pop(p->g);
    p->loss = op_sum(p->g, op_mul(p->g, p->y, p->r), 0, 2);
    graph_output(p->g, "y", p->y);
    MUST(graph_differentiate(p->g, p->loss));
}

static void program_run(const struct program *p, const struct plan_options *plan, float *y,
                        float *gradient)
{
    struct executor *e = NULL;
    const struct executor_options options = {
        .plan = *plan, .poison = true, .comm = comm, .device = CHECK_DEVICE};
    MUST(executor_create(&e, p->g, &options));
    for (int64_t i = 0; i < shape_count(&p->x->shape); i++) {
        executor_parameters(e)[i] = (float)value_at(comm->rank, i, 0);
    }
    float *r = executor_data(e, p->r);
    for (int64_t i = 0; i < shape_count(&p->r->shape); i++) {
        r[i] = (float)value_at(comm->rank, i, 1);
    }
    executor_parameters_changed(e);
    const struct executor_run run = {.step = 1};
    MUST(executor_run(e, &run));
    MUST(executor_wait(e));
    MUST(executor_gradients_fetch(e));
    memcpy(y, executor_data(e, p->y), tensor_bytes(p->y));
    memcpy(gradient, executor_gradients(e), tensor_bytes(p->x));
    executor_destroy(&e);
}

static double sum_over_ranks(int64_t i, int what)
{
    double sum = 0;
    for (int rank = 0; rank < comm->size; rank++) {
        sum += value_at(rank, i, what);
    }
    return sum;
}

/* tanh of zeros goes through the same collective: its gradient is scaled by 0, its value is 0. */
static double expect_y(int kind, int64_t i)
{
    if (kind == 0) return value_at((int)(i / SLICE), i % SLICE, 0);
    return sum_over_ranks(kind == 1 ? comm->rank * SLICE + i : i, 0);
}

static double expect_gradient(int kind, int64_t i)
{
    if (kind == 0) return sum_over_ranks(comm->rank * SLICE + i, 1);
    if (kind == 1) return value_at((int)(i / SLICE), i % SLICE, 1);
    return sum_over_ranks(i, 1);
}

static void check_kind(int kind, enum dtype dtype)
{
    static struct tensor *(*const ops[])(struct graph *, struct tensor *) = {
        op_all_gather, op_reduce_scatter, op_all_reduce};
    static const struct plan_options ways[] = {
        {0}, {.no_reuse = true}, {.no_fusion = true}, {.recompute = PLAN_RECOMPUTE_BLOCKS}};
    int64_t x_rows = kind == 1 ? ROWS * comm->size : ROWS;
    int64_t y_rows = kind == 0 ? ROWS * comm->size : ROWS;
    struct program p;
    program_make(&p, ops[kind], x_rows, y_rows, dtype);
    float *y = malloc((size_t)(y_rows * COLUMNS) * sizeof *y);
    float *gradient = malloc((size_t)(x_rows * COLUMNS) * sizeof *gradient);
    if (!y || !gradient) abort();
    for (size_t w = 0; w < CASES(ways); w++) {
        program_run(&p, &ways[w], y, gradient);
        for (int64_t i = 0; i < y_rows * COLUMNS; i++) {
            assert_true((double)y[i] == expect_y(kind, i));
        }
        for (int64_t i = 0; i < x_rows * COLUMNS; i++) {
            assert_true((double)gradient[i] == expect_gradient(kind, i));
        }
    }
    free(y);
    free(gradient);
    graph_destroy(&p.g);
}

static void test_all_gather(void **state)
{
    (void)state;
    check_kind(0, DTYPE_F32);
    check_kind(0, DTYPE_BF16);
}

static void test_reduce_scatter(void **state)
{
    (void)state;
    check_kind(1, DTYPE_F32);
    check_kind(1, DTYPE_BF16);
}

static void test_all_reduce(void **state)
{
    (void)state;
    check_kind(2, DTYPE_F32);
    check_kind(2, DTYPE_BF16);
}

/* Indices and bytes are gathered too. */
static void test_gather_integers(void **state)
{
    (void)state;
    const struct graph_options options = {.world_size = comm->size};
    struct graph *g = NULL;
    struct executor *e = NULL;
    MUST(graph_create(&g, &options));
    struct tensor *index = graph_input(g, "index", DTYPE_I32, SHAPE(ROWS));
    struct tensor *bytes = graph_input(g, "bytes", DTYPE_U8, SHAPE(1, ROWS));
    struct tensor *all = op_all_gather(g, index);
    struct tensor *all_bytes = op_all_gather(g, bytes);
    graph_output(g, "all", all);
    graph_output(g, "all_bytes", all_bytes);
    MUST(executor_create(&e, g, &(struct executor_options){.comm = comm, .device = CHECK_DEVICE}));
    for (int i = 0; i < ROWS; i++) {
        ((int32_t *)executor_data(e, index))[i] = comm->rank * 1000 - i;
        ((uint8_t *)executor_data(e, bytes))[i] = (uint8_t)(comm->rank * 10 + i);
    }
    MUST(executor_run(e, &(struct executor_run){0}));
    MUST(executor_wait(e));
    assert_int_equal(all->shape.dim[0], ROWS * comm->size);
    assert_int_equal(all_bytes->shape.dim[0], comm->size);
    for (int i = 0; i < ROWS * comm->size; i++) {
        assert_int_equal(((int32_t *)executor_data(e, all))[i], i / ROWS * 1000 - i % ROWS);
        assert_int_equal(((uint8_t *)executor_data(e, all_bytes))[i], i / ROWS * 10 + i % ROWS);
    }
    executor_destroy(&e);
    graph_destroy(&g);
}

static void test_uneven_rows(void **state)
{
    (void)state;
    const struct graph_options options = {.world_size = 4};
    struct graph *g = NULL;
    MUST(graph_create(&g, &options));
    graph_push(g, "heads");
    assert_null(op_reduce_scatter(g, graph_input(g, "x", DTYPE_F32, SHAPE(6, 2))));
    assert_int_equal(graph_status(g), STATUS_INVALID);
    assert_string_equal(status_message(),
                        "heads: reduce_scatter: f32 [6,2] does not divide over 4 ranks");
    graph_destroy(&g);
    const struct graph_options none = {.world_size = -2};
    assert_int_equal(graph_create(&g, &none), STATUS_INVALID);
    assert_string_equal(status_message(), "graph: world size must be at least 1");
}

/* A graph for another number of ranks than there are would exchange the wrong slices. */
static void test_other_world(void **state)
{
    (void)state;
    const struct graph_options options = {.world_size = comm->size + 1};
    struct graph *g = NULL;
    struct executor *e = NULL;
    MUST(graph_create(&g, &options));
    graph_output(g, "y", op_all_reduce(g, graph_input(g, "x", DTYPE_F32, SHAPE(6, 2))));
    char message[128];
    snprintf(message, sizeof message,
             "executor: the graph was recorded for %d ranks, but there are %d", comm->size + 1,
             comm->size);
    const struct executor_options how = {.comm = comm, .device = CHECK_DEVICE};
    assert_int_equal(executor_create(&e, g, &how), STATUS_INVALID);
    assert_string_equal(status_message(), message);
    graph_destroy(&g);
}

int main(int argc, char **argv)
{
    (void)argc;
    wait_passively(argv);
    show_devices();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_gather),  cmocka_unit_test(test_reduce_scatter),
        cmocka_unit_test(test_all_reduce),  cmocka_unit_test(test_gather_integers),
        cmocka_unit_test(test_uneven_rows), cmocka_unit_test(test_other_world),
    };
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
