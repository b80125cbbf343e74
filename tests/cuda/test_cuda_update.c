/*
 * The update of a GPU is work behind a run that the host has not waited for: it gives the bits that
 * waiting before it gives, sharded or not; a gradient that is not finite changes nothing; state
 * goes to the host and back; and a fault of the run is told all the same.   np=1,2 timeout=200
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/comm/comm.h"
#include "runtime/optim/optimizer.h"
#include "tests/cuda/emulated.h"
#include "tests/runtime/tiny_model.h"

enum { BATCH = 2, UPDATES = 3, NONE = -1 };

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if ((expression) != STATUS_OK) fail_msg("%s", status_message());                           \
    } while (0)

static struct comm *comm;
static double betas[] = {0.9, 0.98};

struct setting {
    bool waits; /* for the run before the update, and for the update */
    bool shard;
    int bad;     /* an update whose gradient is not finite; NONE */
    int resumes; /* after so many updates, with another executor and optimizer; NONE */
};

/* What an update leaves. */
struct made {
    struct optimizer_report report[UPDATES + 1];
    float *vector[4]; /* parameters, first and second moment, EMA; the latter of the slice */
    int64_t count, slice;
    int64_t applied, skipped;
};

struct job {
    struct setting setting;
    struct tiny tiny;
    struct executor *e;
    struct optimizer_config config;
    struct optimizer *o;
};

static void job_open(struct job *j, struct setting setting)
{
    *j = (struct job){.setting = setting,
                      .config = {.lr = 2e-3,
                                 .betas = {betas, 2},
                                 .eps = 1e-4,
                                 .weight_decay = 0.01,
                                 .clip_norm = 0.5,
                                 .ema_decay = 0.9,
                                 .shard = setting.shard,
                                 .schedule = {.kind = SCHEDULE_CONSTANT}}};
    tiny_build(&j->tiny,
               &(struct tiny_options){.batch = BATCH, .world_size = comm->size, .dropout = 0.1f});
    MUST(graph_differentiate(j->tiny.graph, j->tiny.loss));
    struct executor_options options = {.seed = 3, .device = DEVICE_CUDA, .comm = comm};
    options.plan.bucket_bytes = 32768;
    options.plan.num_slices = setting.shard ? comm->size : 1;
    MUST(executor_create(&j->e, j->tiny.graph, &options));
    MUST(optimizer_create(&j->o, j->tiny.graph, &j->config, comm, executor_stream(j->e)));
}

static void job_close(struct job *j)
{
    optimizer_destroy(&j->o);
    executor_destroy(&j->e);
    graph_destroy(&j->tiny.graph);
}

static float *copy_of(const float *values, int64_t count)
{
    float *copy = malloc((size_t)count * sizeof *copy + 1);
    if (!copy) abort();
    memcpy(copy, values, (size_t)count * sizeof *copy);
    return copy;
}

static void fetch(struct made *out, struct job *j)
{
    MUST(executor_parameters_fetch(j->e));
    MUST(optimizer_fetch(j->o));
    struct optimizer_state s = optimizer_state(j->o);
    out->count = graph_flat_elements(j->tiny.graph);
    out->slice = s.count;
    out->applied = *s.applied;
    out->skipped = *s.skipped;
    out->vector[0] = copy_of(executor_parameters(j->e), out->count);
    out->vector[1] = copy_of(s.first_moment, s.count);
    out->vector[2] = copy_of(s.second_moment, s.count);
    out->vector[3] = copy_of(s.ema, s.count);
}

static void made_free(struct made *m)
{
    for (int i = 0; i < 4; i++) {
        free(m->vector[i]);
    }
}

static void restore(struct job *j, const struct made *from)
{
    struct optimizer_state s = optimizer_state(j->o);
    size_t bytes = (size_t)s.count * sizeof(float);
    memcpy(executor_parameters(j->e), from->vector[0], (size_t)from->count * sizeof(float));
    executor_parameters_changed(j->e);
    memcpy(s.first_moment, from->vector[1], bytes);
    memcpy(s.second_moment, from->vector[2], bytes);
    memcpy(s.ema, from->vector[3], bytes);
    *s.applied = from->applied;
    *s.skipped = from->skipped;
    MUST(optimizer_restored(j->o));
}

/* Inputs and noise of batch `number`; with `bad` rank 0's gradient is not finite. */
static void run(struct job *j, int number, bool bad)
{
    int64_t first = (number * comm->size + comm->rank) * BATCH;
    tiny_fill(&j->tiny, j->e, first);
    if (bad && comm->rank == 0) ((float *)executor_data(j->e, j->tiny.pixels))[7] = INFINITY;
    MUST(executor_run(j->e, &(struct executor_run){.step = (uint64_t)number,
                                                   .sample_base = (uint64_t)first,
                                                   .reduce = true}));
}

static void start(struct job *j)
{
    float *parameters = executor_device_parameters(j->e);
    assert_non_null(parameters);
    MUST(optimizer_start(j->o, parameters, executor_device_gradients(j->e), 1.0 / comm->size, 0,
                         UPDATES));
    MUST(optimizer_clamp(j->o, parameters, 0, -0.01f, 0.01f));
    executor_device_parameters_changed(j->e);
}

static void update(struct job *j, int number, bool bad, struct optimizer_report *report)
{
    run(j, number, bad);
    if (j->setting.waits) MUST(executor_wait(j->e));
    start(j);
    if (j->setting.waits) MUST(executor_parameters_fetch(j->e));
    MUST(executor_wait(j->e));
    MUST(optimizer_finish(j->o, report));
}

/* UPDATES updates, and one more where one is bad. */
static void train(struct made *out, struct setting setting)
{
    struct job j;
    int number = 0;
    *out = (struct made){.count = 0};
    job_open(&j, setting);
    executor_init_parameters(j.e);
    optimizer_ema_start(j.o, executor_parameters(j.e));
    MUST(optimizer_restored(j.o));
    for (int i = 0; i < UPDATES + (setting.bad != NONE); i++) {
        if (i == setting.resumes) {
            struct made half;
            fetch(&half, &j);
            job_close(&j);
            job_open(&j, setting);
            restore(&j, &half);
            made_free(&half);
        }
        /* The bad one is beside the others. */
        update(&j, i == setting.bad ? UPDATES : number++, i == setting.bad, &out->report[i]);
    }
    fetch(out, &j);
    job_close(&j);
}

static void check_same(const struct made *a, const struct made *b)
{
    for (int v = 0; v < 4; v++) {
        if (v > 0 && a->slice != b->slice) continue;
        size_t bytes = (size_t)(v ? a->slice : a->count) * sizeof(float);
        if (memcmp(a->vector[v], b->vector[v], bytes) != 0) fail_msg("vector %d differs", v);
    }
    assert_int_equal(a->applied, b->applied);
}

static const struct setting plain = {.bad = NONE, .resumes = NONE};

/* The host of the first waits everywhere. */
static void test_ahead(void **state)
{
    (void)state;
    struct made waited;
    struct setting setting = plain;
    setting.shard = true;
    setting.waits = true;
    train(&waited, setting);
    assert_int_equal(waited.applied, UPDATES);
    assert_true(fabsf(waited.vector[0][0]) <= 0.01f);
    setting.waits = false;
    for (uint64_t seed = 1; seed <= (getenv("WEFT_SANITIZER") ? 1 : 3); seed++) {
        struct made ahead;
        emulated_seed(seed + 10);
        train(&ahead, setting);
        check_same(&waited, &ahead);
        for (int i = 0; i < UPDATES; i++) {
            assert_true(ahead.report[i].clipped);
            assert_true(ahead.report[i].gradient_norm == waited.report[i].gradient_norm);
        }
        made_free(&ahead);
    }
    made_free(&waited);
}

/* The emulator's NCCL adds up in one order whatever the buckets, so that sharding shows no bit. */
static void test_sharded(void **state)
{
    (void)state;
#if defined(WEFT_CUDA_EMULATED)
    struct made whole;
    struct made sharded;
    struct setting setting = plain;
    train(&whole, setting);
    setting.shard = true;
    train(&sharded, setting);
    assert_true((sharded.slice < whole.slice) == (comm->size > 1));
    check_same(&whole, &sharded);
    for (int i = 0; i < UPDATES; i++) {
        assert_true(whole.report[i].gradient_norm == sharded.report[i].gradient_norm);
    }
    made_free(&whole);
    made_free(&sharded);
#else
    skip(); /* NCCL's order depends on the sizes of buckets */
#endif
}

/* As if there had not been the bad one, but for the counter: on ranks whose own gradient is finite,
 * too. And from what was fetched in between it goes on as it would have. */
static void test_skipped_and_resumed(void **state)
{
    (void)state;
    struct made good;
    struct made other;
    struct setting setting = plain;
    setting.shard = true;
    train(&good, setting);
    setting.bad = 1;
    setting.resumes = 2;
    train(&other, setting);
    for (int i = 0; i <= UPDATES; i++) {
        assert_int_equal(other.report[i].skipped, i == setting.bad);
        assert_int_equal(other.report[i].clipped, i != setting.bad);
        assert_int_equal(isfinite(other.report[i].gradient_norm), i != setting.bad);
    }
    assert_int_equal(other.skipped, 1);
    assert_int_equal(good.skipped, 0);
    check_same(&good, &other);
    made_free(&good);
    made_free(&other);
}

/* The run is waited for behind the update, and tells what it found. */
static void test_fault(void **state)
{
    (void)state;
    struct job j;
    if (comm->size > 1) return;
    job_open(&j, plain);
    executor_init_parameters(j.e);
    tiny_fill(&j.tiny, j.e, 0);
    ((int32_t *)executor_data(j.e, j.tiny.ids))[5] = TINY_VOCAB;
    MUST(executor_run(j.e, &(struct executor_run){.reduce = true}));
    start(&j);
    assert_int_equal(executor_wait(j.e), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "gather: an index is outside the table"));
    job_close(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ahead),
        cmocka_unit_test(test_skipped_and_resumed),
        cmocka_unit_test(test_fault),
        cmocka_unit_test(test_sharded),
    };
    setenv("WEFT_EMULATED_DEVICES", "8", 0);
    setenv("WEFT_CUDA_TUNING", "off", 0);
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    /* The last is about several ranks. */
    size_t count = sizeof tests / sizeof tests[0] - (comm->size == 1);
    int failed = _cmocka_run_group_tests("update", tests, count, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
