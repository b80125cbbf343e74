/*
 * Training on the CUDA backend equals training on the CPU: a small network with every mechanism
 * (tests/runtime/tiny_model.h), its optimiser, and what the executor of a GPU adds: recorded
 * graphs, host copies, faults that a run finds, values that are not finite, memory that does not
 * suffice. timeout=200
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/optim/optimizer.h"
#include "tests/cuda/emulated.h"
#include "tests/runtime/tiny_model.h"

enum { BATCH = 4, STEPS = 4, MICRO = 2 };

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if ((expression) != STATUS_OK) fail_msg("%s", status_message());                           \
    } while (0)

struct trained {
    double loss[STEPS], norm[STEPS];
    float *parameters, *ema;
    int64_t count;
};

struct setting {
    enum device_kind device;
    enum dtype dtype;
    enum optimizer_form form;
    double clip;
    bool poison;
    bool tf32;
};

static double betas[] = {0.9, 0.98};

/* Under a sanitizer everything takes ten times as long. */
static bool is_slow(void)
{
    return getenv("WEFT_SANITIZER") != NULL;
}

static int num_steps(void)
{
    return is_slow() ? 2 : STEPS;
}

/* Trains a few updates of two micro-steps each. */
static void train(struct trained *out, struct setting s)
{
    struct tiny t;
    tiny_build(&t, &(struct tiny_options){
                       .batch = BATCH, .world_size = 1, .dtype = s.dtype, .dropout = 0.1f});
    MUST(graph_differentiate(t.graph, t.loss));
    struct executor_options options = {
        .seed = 3, .device = s.device, .poison = s.poison, .tf32 = s.tf32};
    options.plan.runs_per_update = MICRO;
    struct executor *e = NULL;
    MUST(executor_create(&e, t.graph, &options));
    MUST(executor_init_parameters(e));
    struct optimizer_config config = {.form = s.form,
                                      .lr = 2e-3,
                                      .betas = {betas, 2},
                                      .eps = 1e-4,
                                      .weight_decay = 0.01,
                                      .clip_norm = s.clip,
                                      .ema_decay = 0.9,
                                      .schedule = {.kind = SCHEDULE_LINEAR, .warmup = 2}};
    struct optimizer *o = NULL;
    MUST(optimizer_create(&o, t.graph, &config, NULL, executor_stream(e)));
    optimizer_ema_start(o, executor_parameters(e));
    MUST(optimizer_restored(o));
    for (int i = 0; i < num_steps(); i++) {
        out->loss[i] = 0;
        for (int m = 0; m < MICRO; m++) {
            int64_t first = (i * MICRO + m) * BATCH;
            tiny_fill(&t, e, first);
            MUST(executor_run(e, &(struct executor_run){.step = (uint64_t)i,
                                                        .sample_base = (uint64_t)first,
                                                        .accumulate = m > 0}));
            MUST(executor_wait(e));
            out->loss[i] += (double)*(float *)executor_data(e, t.loss) / MICRO;
        }
        struct optimizer_report report;
        MUST(optimizer_step(o, executor_device_parameters(e), executor_device_gradients(e),
                            1.0 / MICRO, i, STEPS + 1, &report));
        assert_false(report.skipped);
        assert_int_equal(report.clipped, s.clip > 0);
        out->norm[i] = report.gradient_norm;
        executor_device_parameters_changed(e);
    }
    MUST(executor_parameters_fetch(e));
    MUST(optimizer_fetch(o));
    out->count = graph_flat_elements(t.graph);
    size_t bytes = (size_t)out->count * sizeof(float);
    out->parameters = malloc(bytes);
    out->ema = malloc(bytes);
    if (!out->parameters || !out->ema) abort();
    memcpy(out->parameters, executor_parameters(e), bytes);
    memcpy(out->ema, optimizer_state(o).ema, bytes);
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
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)a[i] * a[i];
    }
    return sqrt(difference / size);
}

static void compare(struct setting s, double tolerance)
{
    struct trained cpu;
    struct trained cuda;
    s.device = DEVICE_CPU;
    train(&cpu, s);
    s.device = DEVICE_CUDA;
    train(&cuda, s);
    for (int i = 0; i < num_steps(); i++) {
        double loss = fabs(cuda.loss[i] - cpu.loss[i]) / fabs(cpu.loss[i]);
        double norm = fabs(cuda.norm[i] - cpu.norm[i]) / cpu.norm[i];
        if (!(loss <= tolerance) || !(norm <= 20 * tolerance)) {
            fail_msg("step %d: loss %.9g and %.9g, norm %.9g and %.9g", i, cpu.loss[i],
                     cuda.loss[i], cpu.norm[i], cuda.norm[i]);
        }
    }
    double parameters = distance(cpu.parameters, cuda.parameters, cpu.count);
    double ema = distance(cpu.ema, cuda.ema, cpu.count);
    if (!(parameters <= 10 * tolerance) || !(ema <= 10 * tolerance)) {
        fail_msg("parameters differ by %.2e, their averages by %.2e", parameters, ema);
    }
    trained_free(&cpu);
    trained_free(&cuda);
}

static void test_f32(void **state)
{
    (void)state;
    compare((struct setting){.dtype = DTYPE_F32, .form = OPTIMIZER_ADAMW, .clip = 0.5}, 1e-5);
}

static void test_fiber_form(void **state)
{
    (void)state;
    compare((struct setting){.dtype = DTYPE_F32, .form = OPTIMIZER_ADAMW_FIBER, .poison = true},
            1e-5);
}

static void test_bf16(void **state)
{
    (void)state;
    compare((struct setting){.dtype = DTYPE_BF16, .form = OPTIMIZER_ADAMW, .clip = 0.5}, 5e-3);
}

/* Operands with 10 bits of mantissa: near what f32 gives, and not the same. */
static void test_tf32(void **state)
{
    (void)state;
    struct setting s = {.device = DEVICE_CUDA, .dtype = DTYPE_F32};
    struct trained exact;
    struct trained rounded;
    train(&exact, s);
    s.tf32 = true;
    train(&rounded, s);
    double error = fabs(exact.loss[0] - rounded.loss[0]) / exact.loss[0];
    double moved = distance(exact.parameters, rounded.parameters, exact.count);
    if (!(error > 1e-7 && error < 1e-3) || !(moved > 1e-6 && moved < 1e-2)) {
        fail_msg("the loss differs by %.2e, parameters by %.2e", error, moved);
    }
    trained_free(&exact);
    trained_free(&rounded);
}

/* Other orders of the threads, and op by op in place of recorded graphs: the same bits. */
static void test_same_bits(void **state)
{
    (void)state;
    struct setting s = {.device = DEVICE_CUDA, .dtype = DTYPE_BF16};
    struct trained first;
    struct trained other;
    train(&first, s);
    emulated_seed(77);
    setenv("WEFT_CUDA_SYNC", "1", 1);
    train(&other, s);
    unsetenv("WEFT_CUDA_SYNC");
    assert_memory_equal(first.parameters, other.parameters, (size_t)first.count * sizeof(float));
    assert_memory_equal(first.ema, other.ema, (size_t)first.count * sizeof(float));
    trained_free(&first);
    trained_free(&other);
}

/* ---- what goes wrong ---- */

struct fixture {
    struct tiny t;
    struct executor *e;
};

static void fixture_make(struct fixture *f, bool check_finite)
{
    tiny_build(&f->t, &(struct tiny_options){.batch = BATCH, .world_size = 1, .dtype = DTYPE_F32});
    MUST(graph_differentiate(f->t.graph, f->t.loss));
    MUST(executor_create(&f->e, f->t.graph,
                         &(struct executor_options){
                             .seed = 3, .device = DEVICE_CUDA, .check_finite = check_finite}));
    MUST(executor_init_parameters(f->e));
    tiny_fill(&f->t, f->e, 0);
}

static void fixture_free(struct fixture *f)
{
    executor_destroy(&f->e);
    graph_destroy(&f->t.graph);
}

static void test_fault(void **state)
{
    (void)state;
    struct fixture f;
    const struct executor_run run = {.step = 0};
    fixture_make(&f, false);
    int32_t *ids = executor_data(f.e, f.t.ids);
    for (int i = 0; i < 3; i++) {
        /* Launched, recorded, replayed. */
        int32_t kept = ids[5];
        ids[5] = TINY_VOCAB;
        MUST(executor_run(f.e, &run));
        assert_int_equal(executor_wait(f.e), STATUS_INVALID);
        assert_non_null(strstr(status_message(), "gather: an index is outside the table"));
        ids[5] = kept;
        MUST(executor_run(f.e, &run));
        MUST(executor_wait(f.e));
    }
    int32_t *targets = executor_data(f.e, f.t.targets);
    targets[0] = -5;
    MUST(executor_run(f.e, &run));
    assert_int_equal(executor_wait(f.e), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "cross_entropy: a target is outside the classes"));
    fixture_free(&f);
}

static void test_not_finite(void **state)
{
    (void)state;
    struct fixture f;
    struct executor_found found;
    fixture_make(&f, false);
    float *pixels = executor_data(f.e, f.t.pixels);
    pixels[7] = INFINITY;
    MUST(executor_run(f.e, &(struct executor_run){.nonfinite = &found}));
    MUST(executor_wait(f.e));
    assert_true(found.step >= 0);
    assert_non_null(strstr(found.text, "permute"));
    fixture_free(&f);
    fixture_make(&f, true);
    pixels = executor_data(f.e, f.t.pixels);
    pixels[7] = NAN;
    assert_int_equal(executor_run(f.e, &(struct executor_run){.step = 0}), STATUS_CORRUPT);
    assert_non_null(strstr(status_message(), "permute"));
    fixture_free(&f);
}

#if defined(WEFT_CUDA_EMULATED)
/* Only the emulator can be told how much memory there is. */
static void test_memory(void **state)
{
    (void)state;
    struct tiny t;
    struct executor *e = NULL;
    tiny_build(&t, &(struct tiny_options){.batch = BATCH, .world_size = 1, .dtype = DTYPE_F32});
    MUST(graph_differentiate(t.graph, t.loss));
    emulated_memory(1 << 20);
    assert_int_equal(
        executor_create(&e, t.graph, &(struct executor_options){.device = DEVICE_CUDA}),
        STATUS_NO_MEMORY);
    assert_non_null(strstr(status_message(), "GiB of GPU memory"));
    assert_non_null(strstr(status_message(), "of this micro-batch would fit"));
    emulated_memory((size_t)1 << 34);
    MUST(executor_create(&e, t.graph, &(struct executor_options){.device = DEVICE_CUDA}));
    setenv("WEFT_EMULATED_PINNED", "10000", 1);
    assert_int_equal(executor_init_parameters(e), STATUS_NO_MEMORY);
    assert_string_equal(status_message(), "no host memory for a copy of the parameters");
    assert_null(executor_parameters(e));
    unsetenv("WEFT_EMULATED_PINNED");
    MUST(executor_init_parameters(e));
    executor_destroy(&e);
    graph_destroy(&t.graph);
}
#endif

/* What the host writes and reads of the parameters. */
static void test_host_copies(void **state)
{
    (void)state;
    struct fixture f;
    fixture_make(&f, false);
    float *parameters = executor_parameters(f.e);
    MUST(executor_run(f.e, &(struct executor_run){.step = 0}));
    MUST(executor_wait(f.e));
    float before = *(float *)executor_data(f.e, f.t.loss);
    int64_t count = graph_flat_elements(f.t.graph);
    float *kept = malloc((size_t)count * sizeof *kept);
    assert_non_null(kept);
    memcpy(kept, parameters, (size_t)count * sizeof *kept);
    for (int64_t i = 0; i < count; i++) {
        parameters[i] *= 0.5f;
    }
    executor_parameters_changed(f.e);
    MUST(executor_run(f.e, &(struct executor_run){.step = 0}));
    MUST(executor_wait(f.e));
    assert_true(*(float *)executor_data(f.e, f.t.loss) != before);
    memset(parameters, 0, (size_t)count * sizeof *parameters);
    executor_device_parameters_changed(f.e);
    MUST(executor_parameters_fetch(f.e));
    for (int64_t i = 0; i < count; i++) {
        assert_true(parameters[i] == 0.5f * kept[i]);
    }
    memcpy(parameters, kept, (size_t)count * sizeof *parameters);
    executor_parameters_changed(f.e);
    assert_non_null(executor_device_parameters(f.e));
    MUST(executor_run(f.e, &(struct executor_run){.step = 0}));
    MUST(executor_wait(f.e));
    assert_true(*(float *)executor_data(f.e, f.t.loss) == before);
    free(kept);
    fixture_free(&f);
}

int main(void)
{
    /* Those that take long are last, and left out under a sanitizer. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_fault),
        cmocka_unit_test(test_host_copies),
#if defined(WEFT_CUDA_EMULATED)
        cmocka_unit_test(test_memory),
#endif
        cmocka_unit_test(test_fiber_form),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_tf32),
    };
    size_t count = sizeof tests / sizeof tests[0];
    return _cmocka_run_group_tests("training", tests, is_slow() ? 4 : count, NULL, NULL);
}
