/*
 * Training on several GPUs equals training on as many CPU ranks: buckets of the gradient, sharded
 * state, recorded and launched; and what one rank lacks is refused by all.   np=2,3 timeout=240
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/comm/comm.h"
#include "runtime/optim/optimizer.h"
#include "tests/cuda/emulated.h"
#include "tests/runtime/tiny_model.h"

enum { BATCH = 2, STEPS = 3, MICRO = 2 };

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if ((expression) != STATUS_OK) fail_msg("%s", status_message());                           \
    } while (0)

static struct comm *comm;
static double betas[] = {0.9, 0.98};

struct setting {
    enum device_kind device;
    enum dtype dtype;
    bool shard;
    bool poison;
};

struct trained {
    double loss[STEPS], norm[STEPS];
    float *parameters, *ema; /* the latter of this rank's slice */
    int64_t count, slice;
};

static int num_steps(void)
{
    return getenv("WEFT_SANITIZER") ? 2 : STEPS;
}

static struct tiny model(enum dtype dtype)
{
    struct tiny t;
    tiny_build(&t, &(struct tiny_options){
                       .batch = BATCH, .world_size = comm->size, .dtype = dtype, .dropout = 0.1f});
    MUST(graph_differentiate(t.graph, t.loss));
    return t;
}

static struct executor_options options_of(struct setting s)
{
    struct executor_options options = {
        .seed = 3, .device = s.device, .poison = s.poison, .comm = comm};
    options.plan.runs_per_update = MICRO;
    options.plan.bucket_bytes = 32768; /* several */
    options.plan.num_slices = s.shard ? comm->size : 1;
    return options;
}

/* One update; the loss is the mean over micro-steps and ranks. */
static void update(struct trained *out, int i, struct tiny *t, struct executor *e,
                   struct optimizer *o)
{
    double loss = 0;
    for (int m = 0; m < MICRO; m++) {
        int64_t first = ((i * MICRO + m) * comm->size + comm->rank) * BATCH;
        tiny_fill(t, e, first);
        MUST(executor_run(e, &(struct executor_run){.step = (uint64_t)i,
                                                    .sample_base = (uint64_t)first,
                                                    .accumulate = m > 0,
                                                    .reduce = m == MICRO - 1}));
        MUST(executor_wait(e));
        loss += (double)*(float *)executor_data(e, t->loss) / (MICRO * comm->size);
    }
    MUST(comm_allreduce(comm, "loss", &loss, 1, COMM_F64, COMM_SUM));
    struct optimizer_report report;
    float *parameters = executor_device_parameters(e);
    MUST(optimizer_step(o, parameters, executor_device_gradients(e), 1.0 / (MICRO * comm->size), i,
                        STEPS + 1, &report));
    MUST(optimizer_clamp(o, parameters, 0, -0.25f, 0.25f));
    assert_false(report.skipped);
    out->loss[i] = loss;
    out->norm[i] = report.gradient_norm;
    executor_device_parameters_changed(e);
}

static float *copy_of(const float *values, int64_t count)
{
    float *copy = malloc((size_t)count * sizeof *copy + 1);
    if (!copy) abort();
    memcpy(copy, values, (size_t)count * sizeof *copy);
    return copy;
}

static void train(struct trained *out, struct setting s)
{
    struct tiny t = model(s.dtype);
    struct executor_options options = options_of(s);
    struct executor *e = NULL;
    MUST(executor_create(&e, t.graph, &options));
    MUST(executor_init_parameters(e));
    struct optimizer_config config = {.lr = 2e-3,
                                      .betas = {betas, 2},
                                      .eps = 1e-4,
                                      .weight_decay = 0.01,
                                      .clip_norm = 0.5,
                                      .ema_decay = 0.9,
                                      .shard = s.shard,
                                      .schedule = {.kind = SCHEDULE_LINEAR, .warmup = 2}};
    struct optimizer *o = NULL;
    MUST(optimizer_create(&o, t.graph, &config, comm, executor_stream(e)));
    optimizer_ema_start(o, executor_parameters(e));
    MUST(optimizer_restored(o));
    for (int i = 0; i < num_steps(); i++) {
        update(out, i, &t, e, o);
    }
    MUST(executor_parameters_fetch(e));
    MUST(optimizer_fetch(o));
    struct optimizer_state state = optimizer_state(o);
    assert_true(!s.shard || state.count < graph_flat_elements(t.graph));
    out->count = graph_flat_elements(t.graph);
    out->slice = state.count;
    out->parameters = copy_of(executor_parameters(e), out->count);
    out->ema = copy_of(state.ema, state.count);
    optimizer_destroy(&o);
    executor_destroy(&e);
    graph_destroy(&t.graph);
}

static void trained_free(struct trained *t)
{
    free(t->parameters);
    free(t->ema);
}

static double distance(const float *a, const float *b, int64_t count)
{
    double difference = 0;
    double size = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / size);
}

static void check_near(const struct trained *a, const struct trained *b, double tolerance)
{
    for (int i = 0; i < num_steps(); i++) {
        double loss = fabs(a->loss[i] - b->loss[i]) / fabs(b->loss[i]);
        double norm = fabs(a->norm[i] - b->norm[i]) / b->norm[i];
        if (!(loss < tolerance && norm < 10 * tolerance))
            fail_msg("update %d: loss %.9g and %.9g, norm %.9g and %.9g", i, a->loss[i], b->loss[i],
                     a->norm[i], b->norm[i]);
    }
    double parameters = distance(a->parameters, b->parameters, a->count);
    if (!(parameters < 10 * tolerance)) fail_msg("parameters differ by %.2e", parameters);
    if (a->slice != b->slice) return;
    double ema = distance(a->ema, b->ema, a->slice);
    if (!(ema < 10 * tolerance)) fail_msg("averages differ by %.2e", ema);
}

/* The same bits on all ranks. */
static void check_alike(const struct trained *t)
{
    MUST(comm_agree_bytes(comm, "parameters", t->parameters, t->count * (int64_t)sizeof(float)));
    MUST(comm_agree_bytes(comm, "norms", t->norm, num_steps() * (int64_t)sizeof(double)));
}

static void compare(enum dtype dtype, double tolerance)
{
    struct trained cpu = {0};
    struct trained whole = {0};
    struct trained sharded = {0};
    train(&cpu, (struct setting){.device = DEVICE_CPU, .dtype = dtype});
    if (dtype == DTYPE_F32) {
        train(&whole, (struct setting){.device = DEVICE_CUDA, .dtype = dtype, .poison = true});
        check_alike(&whole);
        check_near(&whole, &cpu, tolerance);
    }
    train(&sharded, (struct setting){.device = DEVICE_CUDA, .dtype = dtype, .shard = true});
    check_alike(&sharded);
    check_near(&sharded, &cpu, tolerance);
    trained_free(&cpu);
    trained_free(&whole);
    trained_free(&sharded);
}

static void test_f32(void **state)
{
    (void)state;
    compare(DTYPE_F32, 1e-5);
}

static void test_bf16(void **state)
{
    (void)state;
    compare(DTYPE_BF16, 5e-3);
}

/* Again, and op by op in place of recorded graphs. */
static void test_same_bits(void **state)
{
    (void)state;
    struct setting s = {.device = DEVICE_CUDA, .dtype = DTYPE_F32, .shard = true};
    struct trained first = {0};
    struct trained other = {0};
    train(&first, s);
    emulated_seed(77);
    setenv("WEFT_CUDA_SYNC", "1", 1);
    train(&other, s);
    unsetenv("WEFT_CUDA_SYNC");
    size_t bytes = (size_t)first.count * sizeof(float);
    assert_memory_equal(first.parameters, other.parameters, bytes);
    assert_memory_equal(first.norm, other.norm, (size_t)num_steps() * sizeof(double));
    trained_free(&first);
    trained_free(&other);
}

#if defined(WEFT_CUDA_EMULATED)
/* ---- what one rank lacks ---- */

static void check_refused(enum status expected, const char *part)
{
    struct tiny t = model(DTYPE_F32);
    struct executor_options options = options_of((struct setting){.device = DEVICE_CUDA});
    struct executor *e = NULL;
    enum status status = executor_create(&e, t.graph, &options);
    if (status != expected || !strstr(status_message(), part))
        fail_msg("status %d: %s; not '%s'", (int)status, status_message(), part);
    assert_null(e);
    graph_destroy(&t.graph);
}

static void test_memory(void **state)
{
    (void)state;
    if (comm->rank == 1) emulated_memory(1 << 20);
    check_refused(STATUS_NO_MEMORY, "GiB of GPU memory");
    emulated_memory((size_t)1 << 34);
}

static void test_versions(void **state)
{
    (void)state;
    char part[256];
    snprintf(part, sizeof part, "rank 0 on %s has NCCL 2.28.9, and rank 1 on %s has 2.21.5",
             comm->hosts[0], comm->hosts[1]);
    setenv("WEFT_EMULATED_NCCL", "1:22105", 1);
    check_refused(STATUS_UNSUPPORTED, part);
    unsetenv("WEFT_EMULATED_NCCL");
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#if defined(WEFT_CUDA_EMULATED)
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_versions),
#endif
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_same_bits),
    };
    size_t count = sizeof tests / sizeof tests[0];
    setenv("WEFT_EMULATED_DEVICES", "8", 0);
    /* Rank 0 times products for all; what it finds is not the library's first choice. */
    const char *folder = getenv("TMPDIR");
    char path[256];
    snprintf(path, sizeof path, "%s/weft-ranks-%ld", folder ? folder : "/tmp", (long)getpid());
    setenv("WEFT_CUDA_TUNING", path, 1);
    setenv("WEFT_EMULATED_FASTEST", "1", 0);
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    /* The last two take as long as the others, and three ranks add nothing to them. */
    if (comm->size > 2 || getenv("WEFT_SANITIZER")) count -= 2;
    int failed = _cmocka_run_group_tests("ranks", tests, count, NULL, NULL);
    if ((access(path, F_OK) == 0) != (comm->rank == 0)) {
        fprintf(stderr, "%s is there on rank %d, or is not\n", path, comm->rank);
        failed++;
    }
    unlink(path);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
