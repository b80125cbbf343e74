/*
 * Inputs of the next run sent while one goes on: the numbers of runs whose inputs are written
 * between them, whatever the order that streams take; sent, taken back, or left out.
 *   np=1,2 timeout=120
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/comm/comm.h"
#include "tests/cuda/emulated.h"
#include "tests/runtime/tiny_model.h"

enum { BATCH = 1, RUNS = 12 };

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if ((expression) != STATUS_OK) fail_msg("%s", status_message());                           \
    } while (0)

static struct comm *comm;

enum way {
    WAY_BETWEEN, /* written when the run before is over */
    WAY_AHEAD,
    WAY_TAKEN_BACK, /* others were sent before, by mistake */
    WAY_NOT_SENT,   /* written ahead, and left to the next run */
    WAY_COUNT
};

struct fixture {
    struct tiny t;
    struct executor *e;
};

static void fixture_make(struct fixture *f, bool ahead)
{
    tiny_build(&f->t, &(struct tiny_options){
                          .batch = BATCH, .world_size = comm->size, .dtype = DTYPE_F32});
    MUST(executor_create(&f->e, f->t.graph,
                         &(struct executor_options){
                             .seed = 3, .device = DEVICE_CUDA, .comm = comm, .ahead = ahead}));
    MUST(executor_init_parameters(f->e));
}

static void fixture_free(struct fixture *f)
{
    executor_destroy(&f->e);
    graph_destroy(&f->t.graph);
}

static int64_t first_of(int run)
{
    return (int64_t)(run * comm->size + comm->rank) * BATCH;
}

static void write_ahead(struct fixture *f, enum way way, int next)
{
    if (way == WAY_BETWEEN) return;
    MUST(executor_inputs_wait(f->e));
    if (way == WAY_TAKEN_BACK) {
        tiny_fill(&f->t, f->e, 1000);
        MUST(executor_inputs_send(f->e));
        MUST(executor_inputs_wait(f->e));
    }
    tiny_fill(&f->t, f->e, first_of(next));
    if (way != WAY_NOT_SENT) MUST(executor_inputs_send(f->e));
}

/* The losses of all runs; `ways` [RUNS] tell how the inputs of each come. */
static void run_all(float *losses, const enum way *ways)
{
    struct fixture f;
    fixture_make(&f, true);
    for (int i = 0; i < RUNS; i++) {
        if (ways[i] == WAY_BETWEEN) tiny_fill(&f.t, f.e, first_of(i));
        MUST(executor_run(f.e, &(struct executor_run){.step = (uint64_t)i}));
        if (i + 1 < RUNS) write_ahead(&f, ways[i + 1], i + 1);
        MUST(executor_wait(f.e));
        losses[i] = *(float *)executor_data(f.e, f.t.loss);
    }
    fixture_free(&f);
}

static void test_same_numbers(void **state)
{
    (void)state;
    enum way ways[RUNS] = {WAY_BETWEEN};
    float between[RUNS];
    float ahead[RUNS];
    float mixed[RUNS];
    run_all(between, ways);
    assert_true(between[0] != between[1]);
    for (int i = 1; i < RUNS; i++) {
        ways[i] = WAY_AHEAD;
    }
    for (int seed = 1; seed <= 2; seed++) {
        emulated_seed((uint64_t)seed);
        run_all(ahead, ways);
        assert_memory_equal(ahead, between, sizeof ahead);
    }
    for (int i = 1; i < RUNS; i++) {
        ways[i] = (enum way)(i * i % 7 % WAY_COUNT);
    }
    run_all(mixed, ways);
    assert_memory_equal(mixed, between, sizeof mixed);
    setenv("WEFT_CUDA_SYNC", "1", 1);
    run_all(mixed, ways);
    unsetenv("WEFT_CUDA_SYNC");
    assert_memory_equal(mixed, between, sizeof mixed);
}

/* The memory of it is asked for, and counted. */
static void test_option(void **state)
{
    (void)state;
    struct fixture with;
    struct fixture without;
    fixture_make(&with, true);
    fixture_make(&without, false);
    MUST(executor_inputs_wait(without.e));
    assert_int_equal(executor_inputs_send(without.e), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "need the option `ahead`"));
    assert_int_equal(executor_bytes(with.e) - executor_bytes(without.e),
                     executor_plan(with.e)->class_bytes[PLAN_CLASS_INPUT]);
    fixture_free(&with);
    fixture_free(&without);
}

/* cuBLASLt chooses by the alignment of its operands. */
static void test_alignment(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, false);
    const struct plan *plan = executor_plan(f.e);
    assert_int_equal(plan->alignment, 256);
    for (int i = 0; i < plan->num_buffers; i++) {
        if (plan->buffers[i].memory_class <= PLAN_CLASS_GRADIENT) continue;
        assert_int_equal(plan->buffers[i].offset % 256, 0);
    }
    MUST(plan_verify(plan));
    fixture_free(&f);
}

/* How long the device took is told after the wait. */
static void test_seconds(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, false);
    assert_true(executor_run_seconds(f.e) == 0);
    tiny_fill(&f.t, f.e, 0);
    MUST(executor_run(f.e, &(struct executor_run){.step = 0}));
    MUST(executor_wait(f.e));
    double seconds = executor_run_seconds(f.e);
    assert_true(seconds > 0 && seconds < 60);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_option),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_seconds),
        cmocka_unit_test(test_same_numbers),
    };
    setenv("WEFT_EMULATED_DEVICES", "8", 0);
    setenv("WEFT_CUDA_TUNING", "off", 0);
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    int failed = cmocka_run_group_tests_name("inputs", tests, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
