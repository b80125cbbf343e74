/*
 * Training through the executor: ranks, micro-steps, bit-identical runs, no allocation while
 * stepping, what a bad step says. np=1,2,4 asan=no (counts calls of malloc; test_plan runs the same
 * kernels under the sanitizers)
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/backend/cpu/matmul.h"
#include "runtime/comm/comm.h"
#include "runtime/optim/optimizer.h"
#include "tests/runtime/tiny_model.h"

/* ---- counting allocations: the program's own malloc comes before the library's ---- */

static _Thread_local volatile bool counting; /* volatile: compilers think malloc never reads it */
static int num_allocations;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static void note(void)
{
    /* oneDNN builds a short argument list per call and frees it before it returns. */
    if (counting && dnnl_depth == 0) num_allocations++;
}

void *malloc(size_t size)
{
    note();
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    note();
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    note();
    return __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    note();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    note();
    *memory = __libc_memalign(alignment, size);
    return *memory ? 0 : 12;
}

/* ---- */

static struct comm *comm;

static void must(enum status status)
{
    if (status != STATUS_OK) fail_msg("%s", status_message());
}

enum { GLOBAL_BATCH = 8, STEPS = 20 };

struct layout {
    int ranks; /* that take part: 1 (every rank for itself) or all */
    int micro_steps;
    bool shard;
    enum dtype dtype;
};

static double betas[] = {0.9, 0.98};

/* Trains 20 steps over the same global batches in the given layout; returns the parameters. */
static float *train(struct layout layout, int64_t *count, double *first_loss, double *last_loss)
{
    struct comm *world = layout.ranks > 1 ? comm : NULL;
    int rank = world ? comm->rank : 0;
    int64_t batch = GLOBAL_BATCH / layout.ranks / layout.micro_steps;
    struct tiny t;
    tiny_build(&t, &(struct tiny_options){.batch = batch,
                                          .world_size = layout.ranks,
                                          .dtype = layout.dtype,
                                          .dropout = 0.1f});
    must(graph_differentiate(t.graph, t.loss));
    struct executor_options options = {.seed = 3, .comm = world};
    options.plan.runs_per_update = layout.micro_steps;
    options.plan.bucket_bytes = 16384;
    options.plan.num_slices = layout.shard ? layout.ranks : 1;
    struct executor *e = NULL;
    must(executor_create(&e, t.graph, &options));
    must(plan_verify(executor_plan(e)));
    must(executor_init_parameters(e));
    struct optimizer_config config = {.lr = 2e-3,
                                      .betas = {betas, 2},
                                      .eps = 1e-4,
                                      .weight_decay = 0.01,
                                      .shard = layout.shard,
                                      .schedule = {.kind = SCHEDULE_LINEAR, .warmup = 3}};
    struct optimizer *o = NULL;
    must(optimizer_create(&o, t.graph, &config, world, NULL));
    for (int s = 0; s < STEPS; s++) {
        *last_loss = 0;
        for (int m = 0; m < layout.micro_steps; m++) {
            int64_t first = s * GLOBAL_BATCH + (m * layout.ranks + rank) * batch;
            tiny_fill(&t, e, first);
            must(executor_run(e, &(struct executor_run){.step = (uint64_t)s,
                                                        .sample_base = (uint64_t)first,
                                                        .accumulate = m > 0,
                                                        .reduce = m == layout.micro_steps - 1}));
            *last_loss += *(float *)executor_data(e, t.loss) / layout.micro_steps;
        }
        if (s == 0) *first_loss = *last_loss;
        struct optimizer_report report;
        must(optimizer_step(o, executor_parameters(e), executor_gradients(e),
                            1.0 / layout.ranks / layout.micro_steps, s, STEPS + 1, &report));
        assert_false(report.skipped);
        executor_parameters_changed(e);
    }
    int64_t n = graph_flat_elements(t.graph);
    float *p = malloc((size_t)n * sizeof *p);
    memcpy(p, executor_parameters(e), (size_t)n * sizeof *p);
    *count = n;
    optimizer_destroy(&o);
    executor_destroy(&e);
    graph_destroy(&t.graph);
    return p;
}

/* |a - b| / |a| over all parameters. */
static double distance(struct layout a, struct layout b)
{
    int64_t n = 0;
    double first = 0;
    double last = 0;
    float *x = train(a, &n, &first, &last);
    float *y = train(b, &n, &first, &last);
    double difference = 0;
    double size = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        size += (double)x[i] * x[i];
    }
    free(x);
    free(y);
    return sqrt(difference / size);
}

static void test_training_lowers_the_loss(void **state)
{
    (void)state;
    int64_t n = 0;
    double first = 0;
    double last = 0;
    for (int d = DTYPE_F32; d <= DTYPE_BF16; d++) {
        struct layout layout = {comm->size, 1, false, (enum dtype)d};
        free(train(layout, &n, &first, &last));
        if (!(last < 0.8 * first)) fail_msg("loss went from %g to %g", first, last);
    }
}

static void test_runs_are_identical(void **state)
{
    (void)state;
    struct layout layout = {comm->size, 1, false, DTYPE_F32};
    assert_true(distance(layout, layout) == 0);
    layout.dtype = DTYPE_BF16;
    assert_true(distance(layout, layout) == 0);
}

static void test_sharding_changes_nothing(void **state)
{
    (void)state;
    struct layout whole = {comm->size, 1, false, DTYPE_F32};
    struct layout sharded = {comm->size, 1, true, DTYPE_F32};
    assert_true(distance(whole, sharded) == 0);
}

/*
 * The contrastive term sees the batch of one micro-step over all ranks, so only the ranks change
 * here, not what it sees: one rank with the whole batch against all ranks with their parts.
 */
static void test_ranks_agree_with_one(void **state)
{
    (void)state;
    double d = distance((struct layout){1, 1, false, DTYPE_F32},
                        (struct layout){comm->size, 1, false, DTYPE_F32});
    if (d > 1e-5) fail_msg("parameters differ by %g", d);
}

/* ---- gradient accumulation: a loss that is a mean over samples ---- */

static float *regress(int64_t batch, int micro_steps, int64_t *count)
{
    struct graph *g = NULL;
    must(graph_create(&g, NULL));
    struct tensor *x = graph_input(g, "x", DTYPE_F32, SHAPE(batch, 24));
    struct tensor *ids = graph_input(g, "ids", DTYPE_I32, SHAPE(batch));
    struct tensor *w = graph_parameter(g, "w", SHAPE(24, 24), INIT(INIT_NORMAL, 0.2f));
    struct tensor *b = graph_parameter(g, "b", SHAPE(24), INIT(INIT_ZEROS, 0));
    struct tensor *table = graph_parameter(g, "table", SHAPE(10, 24), INIT(INIT_NORMAL, 0.2f));
    struct tensor *gain = graph_parameter(g, "gain", SHAPE(24), INIT(INIT_ONES, 0));
    struct tensor *h = op_gelu(g, op_linear(g, x, w, b));
    h = op_layer_norm(g, op_linear(g, h, w, b), gain, b, 1e-5f); /* w and b are tied */
    struct tensor *loss = op_mse(g, h, op_embedding(g, table, ids, -1, DTYPE_F32));
    must(graph_differentiate(g, loss));
    struct executor_options options = {.seed = 5};
    options.plan.runs_per_update = micro_steps;
    struct executor *e = NULL;
    must(executor_create(&e, g, &options));
    must(executor_init_parameters(e));
    int64_t n = graph_flat_elements(g);
    for (int s = 0; s < 5; s++) {
        for (int m = 0; m < micro_steps; m++) {
            for (int64_t i = 0; i < batch; i++) {
                uint64_t sample = (uint64_t)(s * 8 + m * batch + i);
                rng_fill_normal(rng_key(1, RNG_TEST, 0), 0, sample,
                                (float *)executor_data(e, x) + i * 24, 24);
                ((int32_t *)executor_data(e, ids))[i] = (int32_t)(sample * 7 % 10);
            }
            must(executor_run(e, &(struct executor_run){.accumulate = m > 0}));
        }
        for (int64_t i = 0; i < n; i++) {
            executor_parameters(e)[i] -= 0.5f / (float)micro_steps * executor_gradients(e)[i];
        }
        executor_parameters_changed(e);
    }
    float *p = malloc((size_t)n * sizeof *p);
    memcpy(p, executor_parameters(e), (size_t)n * sizeof *p);
    *count = n;
    executor_destroy(&e);
    graph_destroy(&g);
    return p;
}

static void test_accumulation(void **state)
{
    (void)state;
    int64_t n = 0;
    float *once = regress(8, 1, &n);
    for (int micro_steps = 2; micro_steps <= 8; micro_steps *= 2) {
        float *several = regress(8 / micro_steps, micro_steps, &n);
        double difference = 0;
        double size = 0;
        for (int64_t i = 0; i < n; i++) {
            difference += ((double)once[i] - several[i]) * ((double)once[i] - several[i]);
            size += (double)once[i] * once[i];
        }
        assert_true(sqrt(difference / size) < 1e-6);
        free(several);
    }
    free(once);
}

/* ---- a step allocates nothing ---- */

static void test_no_allocation(void **state)
{
    (void)state;
    struct tiny t;
    tiny_build(&t, &(struct tiny_options){4, 1, DTYPE_F32, 0.1f});
    must(graph_differentiate(t.graph, t.loss));
    struct executor *e = NULL;
    must(executor_create(&e, t.graph, &(struct executor_options){.seed = 1}));
    must(executor_init_parameters(e));
    tiny_fill(&t, e, 0);
    for (int s = 0; s < 3; s++) {
        num_allocations = 0;
        counting = s > 0; /* the first step lets the thread pool start */
        enum status status = executor_run(e, &(struct executor_run){.step = (uint64_t)s});
        counting = false;
        must(status);
        executor_parameters_changed(e);
    }
    assert_int_equal(num_allocations, 0);
    counting = true;
    void *volatile memory = malloc(1);
    counting = false;
    free(memory);
    assert_int_equal(num_allocations, 1); /* the counter does count */
    executor_destroy(&e);
    graph_destroy(&t.graph);
}

/* ---- what goes wrong ---- */

static void expect_message(const char *part)
{
    if (!strstr(status_message(), part)) {
        fail_msg("expected '%s' in '%s'", part, status_message());
    }
}

static void test_bad_steps(void **state)
{
    (void)state;
    struct tiny t;
    tiny_build(&t, &(struct tiny_options){2, 1, DTYPE_F32, 0});
    must(graph_differentiate(t.graph, t.loss));
    struct executor *e = NULL;
    must(executor_create(&e, t.graph, &(struct executor_options){.check_finite = true}));
    must(executor_init_parameters(e));
    tiny_fill(&t, e, 0);
    ((int32_t *)executor_data(e, t.ids))[9] = TINY_VOCAB;
    assert_int_equal(executor_run(e, &(struct executor_run){0}), STATUS_INVALID);
    expect_message("gather: index 29 at position 9 is outside the table's 0..28");
    tiny_fill(&t, e, 0);
    ((int32_t *)executor_data(e, t.targets))[3] = -7;
    assert_int_equal(executor_run(e, &(struct executor_run){0}), STATUS_INVALID);
    expect_message("target -7 of row 3 is outside the 29 classes");
    tiny_fill(&t, e, 0);
    graph_parameter_find(t.graph, "image.block.1.fc1.weight");
    executor_parameters(e)[graph_parameter_find(t.graph, "image.block.1.fc1.weight")->offset + 5] =
        NAN;
    executor_parameters_changed(e);
    assert_int_equal(executor_run(e, &(struct executor_run){0}), STATUS_CORRUPT);
    expect_message("image.block.1.fc1: linear: element");
    executor_destroy(&e);
    graph_destroy(&t.graph);
}

static void test_unused_parameters(void **state)
{
    (void)state;
    struct graph *g = NULL;
    must(graph_create(&g, NULL));
    struct tensor *x = graph_input(g, "x", DTYPE_F32, SHAPE(4));
    struct tensor *a = graph_parameter(g, "used", SHAPE(4), INIT(INIT_ONES, 0));
    graph_parameter(g, "never.read", SHAPE(4), INIT(INIT_ONES, 0));
    struct tensor *cut = graph_parameter(g, "cut.off", SHAPE(4), INIT(INIT_ONES, 0));
    struct tensor *frozen = graph_parameter(g, "frozen", SHAPE(4), INIT(INIT_ONES, 0));
    graph_parameter_freeze(g, frozen);
    struct tensor *y = op_mul(g, op_add(g, op_mul(g, x, a), op_stop_gradient(g, cut)), frozen);
    must(graph_differentiate(g, op_sum(g, y, 0, 1)));
    int64_t unused[4];
    assert_int_equal(graph_unused_parameters(g, unused, 4), 2);
    assert_string_equal(graph_parameter_at(g, unused[0])->name, "never.read");
    assert_string_equal(graph_parameter_at(g, unused[1])->name, "cut.off");
    assert_int_equal(graph_check_parameters(g), STATUS_INVALID);
    expect_message("never.read: no op reads it");
    graph_destroy(&g);

    must(graph_create(&g, NULL));
    a = graph_parameter(g, "a", SHAPE(4), INIT(INIT_ONES, 0));
    struct tensor *loss = op_sum(g, op_stop_gradient(g, a), 0, 1);
    assert_int_equal(graph_differentiate(g, loss), STATUS_INVALID);
    expect_message("does not depend on any trainable parameter");
    graph_destroy(&g);

    must(graph_create(&g, NULL));
    a = graph_parameter(g, "a", SHAPE(4), INIT(INIT_ONES, 0));
    cut = graph_parameter(g, "cut.off", SHAPE(4), INIT(INIT_ONES, 0));
    loss = op_sum(g, op_mul(g, a, op_stop_gradient(g, cut)), 0, 1);
    must(graph_differentiate(g, loss));
    assert_int_equal(graph_check_parameters(g), STATUS_INVALID);
    expect_message("cut.off: reaches the loss only through 'stop_gradient'");
    graph_destroy(&g);
}

int main(void)
{
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_lowers_the_loss),
        cmocka_unit_test(test_runs_are_identical),
        cmocka_unit_test(test_sharding_changes_nothing),
        cmocka_unit_test(test_ranks_agree_with_one),
        cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_bad_steps),
        cmocka_unit_test(test_unused_parameters),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) return 1;
    return failed;
}
