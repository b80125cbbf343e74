/*
 * Rows of other ranks by number: values, gradients at the owner, many requests of one rank, and
 * indices out of range.   np=1,2,3,4 timeout=60
 */
#include "runtime/comm/comm.h"
#include "tests/runtime/ops/op_check.h"

enum { ROWS = 3, COLUMNS = 5, REQUESTS = 7 };

static struct comm *comm;

/* Which rows rank `rank` asks for. */
typedef int32_t (*asking)(int rank, int position);

static int32_t global_rows(void)
{
    return ROWS * comm->size;
}

/* The next rank's rows, some of them twice. */
static int32_t ask_next(int rank, int position)
{
    return ((rank + 1) % comm->size) * ROWS + position % ROWS;
}

/* Scattered over all ranks, the order of owners mixed. */
static int32_t ask_mixed(int rank, int position)
{
    return (rank * 5 + position * 11 + position * position) % global_rows();
}

/* Everybody asks the last rank: more than it may send in a round once there are three. */
static int32_t ask_last(int rank, int position)
{
    return global_rows() - 1 - (rank + position) % ROWS;
}

/* One row, by everybody. */
static int32_t ask_one(int rank, int position)
{
    (void)rank, (void)position;
    return 1;
}

static int32_t ask_own(int rank, int position)
{
    return rank * ROWS + position % ROWS;
}

static const asking askings[] = {ask_next, ask_mixed, ask_last, ask_one, ask_own};

/* Small integers: exact in every dtype and in any sum over the requests. */
static int row_value(int32_t row, int64_t column)
{
    return (int)((row * 7 + column * 3) % 23);
}

static int weight_value(int rank, int64_t position, int64_t column)
{
    return (int)((rank * 5 + position * 3 + column) % 7) - 3;
}

static void fill_index(struct executor *e, const struct tensor *index, asking ask)
{
    for (int m = 0; m < REQUESTS; m++) {
        ((int32_t *)executor_data(e, index))[m] = ask(comm->rank, m);
    }
}

/* ---- values of every dtype ---- */

static void set_element(void *data, enum dtype dtype, int64_t i, int value)
{
    if (dtype == DTYPE_F32) ((float *)data)[i] = (float)value;
    if (dtype == DTYPE_BF16) ((uint16_t *)data)[i] = bf16_from_f32((float)value);
    if (dtype == DTYPE_I32) ((int32_t *)data)[i] = value - 11;
    if (dtype == DTYPE_U8) ((uint8_t *)data)[i] = (uint8_t)value;
}

static int element(const void *data, enum dtype dtype, int64_t i)
{
    if (dtype == DTYPE_F32) return (int)((const float *)data)[i];
    if (dtype == DTYPE_BF16) return (int)bf16_to_f32(((const uint16_t *)data)[i]);
    if (dtype == DTYPE_I32) return ((const int32_t *)data)[i] + 11;
    return ((const uint8_t *)data)[i];
}

static void check_values(enum dtype dtype, struct shape shape, asking ask)
{
    const struct graph_options options = {.world_size = comm->size};
    struct graph *g = NULL;
    struct executor *e = NULL;
    MUST(graph_create(&g, &options));
    struct tensor *x = graph_input(g, "x", dtype, shape);
    struct tensor *index = graph_input(g, "index", DTYPE_I32, SHAPE(REQUESTS));
    struct tensor *y = op_exchange_rows(g, x, index);
    graph_output(g, "y", y);
    MUST(graph_status(g));
    assert_int_equal(y->shape.dim[0], REQUESTS);
    assert_int_equal(y->shape.rank, shape.rank);
    MUST(executor_create(
        &e, g, &(struct executor_options){.comm = comm, .poison = true, .device = CHECK_DEVICE}));
    int64_t columns = shape_span(&shape, 1, shape.rank);
    for (int64_t i = 0; i < ROWS * columns; i++) {
        int32_t row = (int32_t)(comm->rank * ROWS + i / columns);
        set_element(executor_data(e, x), dtype, i, row_value(row, i % columns));
    }
    fill_index(e, index, ask);
    for (int repeat = 0; repeat < 3; repeat++) {
        MUST(executor_run(e, &(struct executor_run){0}));
        MUST(executor_wait(e));
        for (int64_t i = 0; i < REQUESTS * columns; i++) {
            int32_t row = ask(comm->rank, (int)(i / columns));
            assert_int_equal(element(executor_data(e, y), dtype, i), row_value(row, i % columns));
        }
    }
    executor_destroy(&e);
    graph_destroy(&g);
}

static void test_values(void **state)
{
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_I32, DTYPE_U8};
    for (size_t a = 0; a < CASES(askings); a++) {
        for (size_t d = 0; d < CASES(dtypes); d++) {
            check_values(dtypes[d], SHAPE(ROWS, COLUMNS), askings[a]);
        }
        check_values(DTYPE_F32, SHAPE(ROWS), askings[a]);
        check_values(DTYPE_U8, SHAPE(ROWS, 2, 1, 3), askings[a]);
    }
}

/* ---- gradients ---- */

/* What row `row` column `column` is asked for, weighted, by all ranks. */
static double expected_gradient(asking ask, int32_t row, int64_t column)
{
    double sum = 0;
    for (int rank = 0; rank < comm->size; rank++) {
        for (int m = 0; m < REQUESTS; m++) {
            if (ask(rank, m) == row) sum += weight_value(rank, m, column);
        }
    }
    return sum;
}

static void check_gradient(enum dtype dtype, asking ask, const struct plan_options *plan)
{
    const struct graph_options options = {.world_size = comm->size};
    struct graph *g = NULL;
    struct executor *e = NULL;
    MUST(graph_create(&g, &options));
    struct tensor *x = graph_parameter(g, "x", SHAPE(ROWS, COLUMNS), INIT(INIT_ZEROS, 0));
    struct tensor *zero = graph_input(g, "zero", DTYPE_F32, SHAPE(ROWS, COLUMNS));
    struct tensor *index = graph_input(g, "index", DTYPE_I32, SHAPE(REQUESTS));
    struct tensor *weight = graph_input(g, "weight", DTYPE_F32, SHAPE(REQUESTS, COLUMNS));
    struct tensor *y = op_exchange_rows(g, op_cast(g, op_add(g, x, zero), dtype), index);
    struct tensor *loss = op_sum(g, op_mul(g, op_cast(g, y, DTYPE_F32), weight), 0, 2);
    graph_output(g, "loss", loss);
    MUST(graph_differentiate(g, loss));
    MUST(executor_create(&e, g,
                         &(struct executor_options){
                             .plan = *plan, .comm = comm, .poison = true, .device = CHECK_DEVICE}));
    for (int64_t i = 0; i < ROWS * COLUMNS; i++) {
        int32_t row = (int32_t)(comm->rank * ROWS + i / COLUMNS);
        executor_parameters(e)[i] = (float)row_value(row, i % COLUMNS);
    }
    executor_parameters_changed(e);
    for (int64_t i = 0; i < REQUESTS * COLUMNS; i++) {
        ((float *)executor_data(e, weight))[i] =
            (float)weight_value(comm->rank, i / COLUMNS, i % COLUMNS);
    }
    fill_index(e, index, ask);
    for (int repeat = 0; repeat < 3; repeat++) {
        MUST(executor_run(e, &(struct executor_run){.step = 1}));
        MUST(executor_wait(e));
    }
    MUST(executor_gradients_fetch(e));
    for (int64_t i = 0; i < ROWS * COLUMNS; i++) {
        int32_t row = (int32_t)(comm->rank * ROWS + i / COLUMNS);
        assert_true((double)executor_gradients(e)[i] == expected_gradient(ask, row, i % COLUMNS));
    }
    executor_destroy(&e);
    graph_destroy(&g);
}

static void test_gradients(void **state)
{
    (void)state;
    static const struct plan_options ways[] = {{0}, {.no_reuse = true}, {.no_fusion = true}};
    for (size_t a = 0; a < CASES(askings); a++) {
        for (size_t w = 0; w < CASES(ways); w++) {
            check_gradient(DTYPE_F32, askings[a], &ways[w]);
            check_gradient(DTYPE_BF16, askings[a], &ways[w]);
        }
    }
}

/* bf16 rows add up in f32: 256 + 1 + 1 is 256 in bf16 after each addition, 258 at the end. */
static void test_sum_is_f32(void **state)
{
    (void)state;
    const struct graph_options options = {.world_size = comm->size};
    static const float weights[3] = {256, 1, 1};
    struct graph *g = NULL;
    struct executor *e = NULL;
    MUST(graph_create(&g, &options));
    struct tensor *x = graph_parameter(g, "x", SHAPE(1, 1), INIT(INIT_ONES, 0));
    struct tensor *index = graph_input(g, "index", DTYPE_I32, SHAPE(3));
    struct tensor *weight = graph_input(g, "weight", DTYPE_F32, SHAPE(3, 1));
    struct tensor *y = op_exchange_rows(g, op_cast(g, x, DTYPE_BF16), index);
    struct tensor *loss = op_sum(g, op_mul(g, op_cast(g, y, DTYPE_F32), weight), 0, 2);
    graph_output(g, "loss", loss);
    MUST(graph_differentiate(g, loss));
    MUST(executor_create(&e, g, &(struct executor_options){.comm = comm, .device = CHECK_DEVICE}));
    for (int m = 0; m < 3; m++) {
        ((int32_t *)executor_data(e, index))[m] = comm->rank;
    }
    memcpy(executor_data(e, weight), weights, sizeof weights);
    MUST(executor_run(e, &(struct executor_run){0}));
    MUST(executor_wait(e));
    MUST(executor_gradients_fetch(e));
    assert_true(executor_gradients(e)[0] == 258);
    executor_destroy(&e);
    graph_destroy(&g);
}

/* ---- what is refused ---- */

/* Every rank has a wrong index, so every rank refuses before the first message. */
static void check_refused(int32_t wrong, int position)
{
    const struct graph_options options = {.world_size = comm->size};
    struct graph *g = NULL;
    struct executor *e = NULL;
    MUST(graph_create(&g, &options));
    graph_push(g, "itm");
    struct tensor *x = graph_input(g, "x", DTYPE_I32, SHAPE(ROWS, 2));
    struct tensor *index = graph_input(g, "index", DTYPE_I32, SHAPE(REQUESTS));
    graph_output(g, "y", op_exchange_rows(g, x, index));
    graph_pop(g);
    MUST(executor_create(&e, g, &(struct executor_options){.comm = comm, .device = CHECK_DEVICE}));
    fill_index(e, index, ask_mixed);
    ((int32_t *)executor_data(e, index))[position] = wrong;
    char message[128];
    snprintf(message, sizeof message, "itm: exchange_rows: row %d at position %d is outside 0..%d",
             wrong, position, global_rows() - 1);
    assert_int_equal(executor_run(e, &(struct executor_run){0}), STATUS_INVALID);
    assert_string_equal(status_message(), message);
    executor_destroy(&e);
    graph_destroy(&g);
}

static void test_refused(void **state)
{
    (void)state;
    check_refused(global_rows(), 0);
    check_refused(-1, REQUESTS - 1);
    check_refused(INT32_MAX, 3);
}

int main(int argc, char **argv)
{
    (void)argc;
    wait_passively(argv);
    show_devices();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_sum_is_f32),
        cmocka_unit_test(test_refused),
    };
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
