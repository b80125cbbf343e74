/*
 * Runs a case of op_case.h through graph, gradient, plan and executor.
 *
 * A case is recorded four ways: `staged` (values depend on a supplied input, so everything runs in
 * the step), `direct` (parameters go straight into the op: packed weights, once-per-update values),
 * `bare` (only the loss is an output, so the plan may fuse and overwrite more) and `inference`
 * (nothing is differentiated: epilogues). Each is compared with the reference, outputs and central
 * differences. The staged graph runs under every option of the plan; results must have the same
 * bits, except without fusion, where a sum is rounded once more.
 */
#ifndef WEFT_TESTS_RUNTIME_OPS_OP_CHECK_H
#define WEFT_TESTS_RUNTIME_OPS_OP_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/backend/executor.h"
#include "tests/runtime/ops/op_case.h"

/* Tests of another device include this after defining it. */
#if !defined(CHECK_DEVICE)
#define CHECK_DEVICE DEVICE_CPU
#endif

enum recording { RECORD_STAGED, RECORD_DIRECT, RECORD_BARE, RECORD_INFERENCE };

/* A recorded case. */
struct recorded {
    const struct op_case *c;
    enum dtype dtype;
    enum recording recording;
    struct graph *g;
    struct tensor *out[CASE_OUTPUTS];
    struct tensor *loss;
    struct tensor *weight[CASE_OUTPUTS];
    struct tensor *supplied[CASE_INPUTS]; /* what is not a parameter */
    struct parameter *parameter[CASE_INPUTS];
};

/* What a run left: bytes of outputs and of the gradient vector. */
struct outcome {
    void *out[CASE_OUTPUTS];
    float *gradients;
    float loss;
};

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if ((expression) != STATUS_OK) fail_msg("%s", status_message());                           \
    } while (0)

/* ---- recording ---- */

static inline struct tensor *record_input(struct recorded *r, int k)
{
    const struct case_input *in = &r->c->in[k];
    char name[16];
    snprintf(name, sizeof name, "x%d", k);
    if (in->kind == INPUT_INDEX || in->kind == INPUT_BYTES) {
        enum dtype dtype = in->kind == INPUT_INDEX ? DTYPE_I32 : DTYPE_U8;
        return r->supplied[k] = graph_input(r->g, name, dtype, in->shape);
    }
    bool is_f32 = in->kind == INPUT_F32 || in->kind == INPUT_F32_CONSTANT;
    enum dtype dtype = is_f32 ? DTYPE_F32 : r->dtype;
    if (in->kind == INPUT_CONSTANT || in->kind == INPUT_F32_CONSTANT) {
        r->supplied[k] = graph_input(r->g, name, DTYPE_F32, in->shape);
        return op_cast(r->g, r->supplied[k], dtype);
    }
    struct tensor *x = graph_parameter_named(r->g, name, in->shape, INIT(INIT_ZEROS, 0));
    if (r->recording != RECORD_DIRECT) {
        snprintf(name, sizeof name, "zero%d", k);
        x = op_add(r->g, x, graph_input(r->g, name, DTYPE_F32, in->shape));
    }
    return op_cast(r->g, x, dtype);
}

static inline void record_loss(struct recorded *r)
{
    struct graph *g = r->g;
    for (int i = 0; i < case_num_outputs(r->c); i++) {
        if (r->c->is_value[i] || r->c->no_gradient) continue;
        struct tensor *y = op_cast(g, r->out[i], DTYPE_F32);
        char name[16];
        snprintf(name, sizeof name, "r%d", i);
        r->weight[i] = graph_input(g, name, DTYPE_F32, r->c->out[i]);
        struct tensor *part = op_sum(g, op_mul(g, y, r->weight[i]), 0, y ? y->shape.rank : 0);
        r->loss = r->loss ? op_add(g, r->loss, part) : part;
    }
}

static inline void record(struct recorded *r, const struct op_case *c, enum dtype dtype,
                          enum recording recording, int64_t world_size)
{
    *r = (struct recorded){.c = c, .dtype = dtype, .recording = recording};
    const struct graph_options options = {.world_size = world_size};
    MUST(graph_create(&r->g, &options));
    struct tensor *in[CASE_INPUTS] = {0};
    for (int k = 0; k < case_num_inputs(c); k++) {
        in[k] = record_input(r, k);
    }
    graph_push(r->g, "encoder");
    graph_push(r->g, "layer");
    graph_block_begin(r->g, "block");
    const struct case_build b = {r->g, in, r->out, dtype, c};
    c->build(&b);
    graph_block_end(r->g);
    graph_pop(r->g);
    graph_pop(r->g);
    MUST(graph_status(r->g));
    for (int i = 0; i < case_num_outputs(c); i++) {
        char got[SHAPE_TEXT];
        char want[SHAPE_TEXT];
        assert_non_null(r->out[i]);
        if (!shape_equal(&r->out[i]->shape, &c->out[i])) {
            fail_msg("%s: output %d is %s, not %s", c->name, i,
                     shape_format(&r->out[i]->shape, got), shape_format(&c->out[i], want));
        }
        snprintf(got, sizeof got, "y%d", i);
        if (recording != RECORD_BARE || c->no_gradient) graph_output(r->g, got, r->out[i]);
    }
    if (c->no_gradient || recording == RECORD_INFERENCE) return;
    record_loss(r);
    graph_output(r->g, "loss", r->loss);
    MUST(graph_status(r->g));
    MUST(graph_differentiate(r->g, r->loss));
    for (int k = 0; k < case_num_inputs(c); k++) {
        if (!case_is_differentiable(c, k)) continue;
        char name[16];
        snprintf(name, sizeof name, "x%d", k);
        r->parameter[k] = graph_parameter_find(r->g, name);
        assert_non_null(r->parameter[k]);
        if (!r->parameter[k]->gradient) fail_msg("%s: input %d has no gradient", c->name, k);
    }
}

/* ---- running ---- */

static inline void supply(struct executor *e, const struct tensor *tensor, const double *values)
{
    if (!tensor) return;
    void *to = executor_data(e, tensor);
    assert_non_null(to);
    int64_t count = shape_count(&tensor->shape);
    for (int64_t i = 0; i < count; i++) {
        if (tensor->dtype == DTYPE_F32) ((float *)to)[i] = (float)values[i];
        if (tensor->dtype == DTYPE_I32) ((int32_t *)to)[i] = (int32_t)values[i];
        if (tensor->dtype == DTYPE_U8) ((uint8_t *)to)[i] = (uint8_t)values[i];
    }
}

static inline void supply_all(struct executor *e, const struct recorded *r, double *const *values)
{
    for (int k = 0; k < case_num_inputs(r->c); k++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", k);
        supply(e, r->supplied[k], values[k]);
        const struct parameter *p = graph_parameter_find(r->g, name);
        for (int64_t i = 0; p && i < p->count; i++) {
            executor_parameters(e)[p->offset + i] = (float)values[k][i];
        }
    }
    executor_parameters_changed(e);
    for (int i = 0; i < case_num_outputs(r->c); i++) {
        if (!r->weight[i]) continue;
        double *weights = case_weights(r->c, i);
        supply(e, r->weight[i], weights);
        free(weights);
    }
}

static inline void outcome_read(struct outcome *o, struct executor *e, const struct recorded *r)
{
    *o = (struct outcome){0};
    MUST(executor_wait(e));
    MUST(executor_gradients_fetch(e));
    for (int i = 0; i < case_num_outputs(r->c); i++) {
        const void *data = executor_data(e, r->out[i]);
        if (!data) continue;
        o->out[i] = malloc(tensor_bytes(r->out[i]));
        if (!o->out[i]) abort();
        memcpy(o->out[i], data, tensor_bytes(r->out[i]));
    }
    if (!r->loss) return;
    o->loss = *(const float *)executor_data(e, r->loss);
    size_t bytes = (size_t)graph_flat_elements(r->g) * sizeof(float);
    o->gradients = malloc(bytes);
    if (!o->gradients) abort();
    memcpy(o->gradients, executor_gradients(e), bytes);
}

static inline void outcome_free(struct outcome *o)
{
    for (int i = 0; i < CASE_OUTPUTS; i++) {
        free(o->out[i]);
    }
    free(o->gradients);
}

static inline void spoil_gradients(struct executor *e, const struct recorded *r)
{
    for (int k = 0; k < CASE_INPUTS; k++) {
        const struct parameter *p = r->parameter[k];
        for (int64_t i = 0; p && i < p->count; i++) {
            executor_gradients(e)[p->offset + i] = NAN;
        }
    }
}

static inline void assert_same_bits(const struct recorded *r, const struct outcome *a,
                                    const struct outcome *b, const char *what)
{
    for (int i = 0; i < case_num_outputs(r->c); i++) {
        if (a->out[i] && memcmp(a->out[i], b->out[i], tensor_bytes(r->out[i])) != 0) {
            fail_msg("%s: output %d has other bits %s", r->c->name, i, what);
        }
    }
    for (int k = 0; a->gradients && k < case_num_inputs(r->c); k++) {
        const struct parameter *p = r->parameter[k];
        if (p && memcmp(a->gradients + p->offset, b->gradients + p->offset,
                        (size_t)p->count * sizeof(float)) != 0) {
            fail_msg("%s: the gradient of input %d has other bits %s", r->c->name, k, what);
        }
    }
    if (memcmp(&a->loss, &b->loss, sizeof a->loss) != 0) {
        fail_msg("%s: the loss has other bits %s", r->c->name, what);
    }
}

/* Runs a plan twice; both runs must agree. With `accumulate` the second adds to the first. */
static inline void outcome_make(struct outcome *o, const struct recorded *r,
                                const struct executor_options *options, double *const *values)
{
    struct executor *e = NULL;
    MUST(executor_create(&e, r->g, options));
    MUST(plan_verify(executor_plan(e)));
    supply_all(e, r, values);
    struct executor_run run = {.step = CASE_STEP, .sample_base = CASE_SAMPLE};
    if (r->loss) spoil_gradients(e, r);
    MUST(executor_run(e, &run));
    struct outcome first;
    outcome_read(&first, e, r);
    run.accumulate = options->plan.accumulate;
    MUST(executor_run(e, &run));
    outcome_read(o, e, r);
    if (!run.accumulate) assert_same_bits(r, &first, o, "in a second run");
    outcome_free(&first);
    executor_destroy(&e);
}

/* ---- comparing ---- */

struct expected {
    double *values[CASE_INPUTS];
    double *out[CASE_OUTPUTS];
    double *weights[CASE_OUTPUTS];
    int64_t num_checked[CASE_INPUTS];
    int64_t *checked[CASE_INPUTS]; /* elements whose difference is in `gradient` */
    double *gradient[CASE_INPUTS];
    double loss;
};

static inline double reference_loss(const struct op_case *c, enum dtype dtype, struct expected *x,
                                    double *const *in)
{
    const struct case_reference r = {c, in, x->values, x->out, dtype};
    for (int i = 0; i < case_num_outputs(c); i++) {
        memset(x->out[i], 0, (size_t)shape_count(&c->out[i]) * sizeof(double));
    }
    c->reference(&r);
    double loss = 0;
    for (int i = 0; i < case_num_outputs(c); i++) {
        for (int64_t k = 0; !c->is_value[i] && k < shape_count(&c->out[i]); k++) {
            loss += x->weights[i][k] * x->out[i][k];
        }
    }
    return loss;
}

/* Central differences of the reference's loss. */
static inline void difference(const struct op_case *c, enum dtype dtype, struct expected *x, int k,
                              int limit)
{
    double *in[CASE_INPUTS];
    memcpy(in, x->values, sizeof in);
    int64_t count = case_count(c, k);
    in[k] = case_doubles(count);
    memcpy(in[k], x->values[k], (size_t)count * sizeof(double));
    int64_t checks = count < limit ? count : limit;
    x->num_checked[k] = checks;
    x->checked[k] = malloc((size_t)checks * sizeof(int64_t));
    x->gradient[k] = case_doubles(checks);
    if (!x->checked[k]) abort();
    for (int64_t i = 0; i < checks; i++) {
        /* Spread evenly, the first and the last among them. */
        int64_t at = checks > 1 ? (count - 1) * i / (checks - 1) : 0;
        double h = 1e-4;
        x->checked[k][i] = at;
        in[k][at] = x->values[k][at] + h;
        double above = reference_loss(c, dtype, x, in);
        in[k][at] = x->values[k][at] - h;
        double below = reference_loss(c, dtype, x, in);
        in[k][at] = x->values[k][at];
        x->gradient[k][i] = (above - below) / (2 * h);
    }
    free(in[k]);
}

static inline void expected_make(struct expected *x, const struct op_case *c, enum dtype dtype,
                                 int limit)
{
    *x = (struct expected){0};
    for (int k = 0; k < case_num_inputs(c); k++) {
        x->values[k] = case_values(c, k, dtype);
    }
    for (int i = 0; i < case_num_outputs(c); i++) {
        x->out[i] = case_doubles(shape_count(&c->out[i]));
        x->weights[i] = case_weights(c, i);
    }
    for (int k = 0; k < case_num_inputs(c); k++) {
        if (case_is_differentiable(c, k)) difference(c, dtype, x, k, limit);
    }
    x->loss = reference_loss(c, dtype, x, x->values);
}

static inline void expected_free(struct expected *x)
{
    for (int k = 0; k < CASE_INPUTS; k++) {
        free(x->values[k]);
        free(x->checked[k]);
        free(x->gradient[k]);
    }
    for (int i = 0; i < CASE_OUTPUTS; i++) {
        free(x->out[i]);
        free(x->weights[i]);
    }
}

static inline double output_at(const struct tensor *tensor, const void *data, int64_t i)
{
    switch (tensor->dtype) {
    case DTYPE_BF16:
        return (double)bf16_to_f32(((const bf16 *)data)[i]);
    case DTYPE_I32:
        return ((const int32_t *)data)[i];
    case DTYPE_U8:
        return ((const uint8_t *)data)[i];
    default:
        return (double)((const float *)data)[i];
    }
}

static inline double largest(const double *values, int64_t count)
{
    double most = 0;
    for (int64_t i = 0; i < count; i++) {
        if (isfinite(values[i])) most = fmax(most, fabs(values[i]));
    }
    return most;
}

/* NaN must be NaN; everything else close relative to the tensor's largest value. */
static inline bool is_close(double got, double want, double scale, double tolerance)
{
    if (isnan(want)) return isnan(got);
    if (isinf(want)) return got == want;
    return fabs(got - want) <= tolerance * scale + 1e-12;
}

static inline void compare(const struct recorded *r, const struct outcome *o,
                           const struct expected *x, double passes, const char *what)
{
    const struct op_case *c = r->c;
    int d = r->dtype == DTYPE_BF16;
    for (int i = 0; i < case_num_outputs(c); i++) {
        int64_t count = shape_count(&c->out[i]);
        double scale = largest(x->out[i], count);
        for (int64_t k = 0; o->out[i] && k < count; k++) {
            double got = output_at(r->out[i], o->out[i], k);
            if (is_close(got, x->out[i][k], scale, c->tolerance[d])) continue;
            fail_msg("%s (%s, %s): output %d [%lld] is %.9g, not %.9g (largest %g, allowed %g)",
                     c->name, dtype_name(r->dtype), what, i, (long long)k, got, x->out[i][k], scale,
                     c->tolerance[d]);
        }
    }
    double most = 0;
    for (int k = 0; k < case_num_inputs(c); k++) {
        if (x->gradient[k]) most = fmax(most, largest(x->gradient[k], x->num_checked[k]));
    }
    for (int k = 0; r->loss && k < case_num_inputs(c); k++) {
        if (!r->parameter[k]) continue;
        double scale = largest(x->gradient[k], x->num_checked[k]);
        /* A gradient that is zero by cancellation is measured by the others. */
        if (scale < 1e-9) scale = most;
        /* All of them are: what cancels is of size 1, of which rounding may leave a hundredth. */
        if (scale < 1e-9) scale = 1e-2;
        for (int64_t i = 0; i < x->num_checked[k]; i++) {
            int64_t at = x->checked[k][i];
            double got = (double)o->gradients[r->parameter[k]->offset + at] / passes;
            if (is_close(got, x->gradient[k][i], scale, c->gradient_tolerance[d])) continue;
            fail_msg("%s (%s, %s): gradient of input %d [%lld] is %.9g, not %.9g (largest %g, "
                     "allowed %g)",
                     c->name, dtype_name(r->dtype), what, k, (long long)at, got, x->gradient[k][i],
                     scale, c->gradient_tolerance[d]);
        }
    }
}

/* ---- one case ---- */

/* For repetitions at other instruction sets, and for another device under a sanitizer: one plan and
 * fewer differences. */
static inline bool case_is_quick(void)
{
    return getenv("WEFT_TEST_QUICK") || (CHECK_DEVICE != DEVICE_CPU && getenv("WEFT_SANITIZER"));
}

static inline void check_staged(const struct op_case *c, enum dtype dtype, const struct expected *x)
{
    static const struct {
        const char *what;
        struct executor_options options;
    } ways[] = {
        {"with poison", {.poison = true}},
        {"without reuse", {.plan.no_reuse = true}},
        {"recomputing one-pass ops", {.plan.recompute = PLAN_RECOMPUTE_CHEAP, .poison = true}},
        {"recomputing blocks", {.plan.recompute = PLAN_RECOMPUTE_BLOCKS, .poison = true}},
        {"with separate buffers", {.separate = true}},
    };
    struct recorded r;
    record(&r, c, dtype, RECORD_STAGED, 1);
    struct executor_options options = {.seed = CASE_SEED, .device = CHECK_DEVICE};
    options.separate = CHECK_DEVICE != DEVICE_CPU && case_is_quick();
    struct outcome base;
    outcome_make(&base, &r, &options, x->values);
    compare(&r, &base, x, 1, "staged");
    for (size_t i = 0; i < sizeof ways / sizeof ways[0] && !case_is_quick(); i++) {
        struct outcome o;
        options = ways[i].options;
        options.seed = CASE_SEED;
        options.device = CHECK_DEVICE;
        /* What this finds on the CPU, a sanitizer finds. */
        if (options.separate && CHECK_DEVICE == DEVICE_CPU && !getenv("WEFT_SANITIZER")) continue;
        outcome_make(&o, &r, &options, x->values);
        if (c->block_fuses && options.plan.recompute == PLAN_RECOMPUTE_BLOCKS) {
            compare(&r, &o, x, 1, ways[i].what);
        } else {
            assert_same_bits(&r, &base, &o, ways[i].what);
        }
        outcome_free(&o);
    }
    outcome_free(&base);
    if (case_is_quick()) {
        graph_destroy(&r.g);
        return;
    }
    options = (struct executor_options){.seed = CASE_SEED, .poison = true, .device = CHECK_DEVICE};
    options.plan.no_fusion = true;
    outcome_make(&base, &r, &options, x->values);
    compare(&r, &base, x, 1, "without fusion");
    outcome_free(&base);
    options.plan.no_fusion = false;
    options.plan.accumulate = true;
    outcome_make(&base, &r, &options, x->values);
    compare(&r, &base, x, 2, "accumulated twice");
    outcome_free(&base);
    graph_destroy(&r.g);
}

static inline void check_recording(const struct op_case *c, enum dtype dtype,
                                   const struct expected *x, enum recording recording,
                                   const char *what)
{
    struct recorded r;
    struct outcome o;
    record(&r, c, dtype, recording, 1);
    const struct executor_options options = {
        .seed = CASE_SEED, .poison = true, .device = CHECK_DEVICE};
    outcome_make(&o, &r, &options, x->values);
    compare(&r, &o, x, 1, what);
    outcome_free(&o);
    graph_destroy(&r.g);
}

static inline void check_case(const struct op_case *c, enum dtype dtype)
{
    int64_t elements = 0;
    for (int i = 0; i < case_num_outputs(c); i++) {
        elements += shape_count(&c->out[i]);
    }
    for (int k = 0; k < case_num_inputs(c); k++) {
        elements += case_count(c, k);
    }
    /* Large tensors are there for remainders and thread borders; few of their differences do. */
    int64_t affordable = 6 + 60000 / elements;
    int limit = c->checks ? c->checks : 256;
    if (case_is_quick() && limit > 24) limit = 24;
    if (limit > affordable) limit = (int)affordable;
    struct expected x;
    expected_make(&x, c, dtype, limit);
    check_staged(c, dtype, &x);
    check_recording(c, dtype, &x, RECORD_DIRECT, "direct");
    if (!case_is_quick()) check_recording(c, dtype, &x, RECORD_BARE, "bare");
    check_recording(c, dtype, &x, RECORD_INFERENCE, "inference");
    expected_free(&x);
}

/* cmocka's form: the state is the case. */
static inline void test_case(void **state)
{
    const struct op_case *c = *state;
    check_case(c, DTYPE_F32);
    if (!c->f32_only) check_case(c, DTYPE_BF16);
}

/* Starts the program again with threads that sleep while they wait: on a busy machine spinning ones
 * take most of the time of these small kernels. OpenMP reads this before main. */
static inline void wait_passively(char **argv)
{
    if (getenv("OMP_WAIT_POLICY")) return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv);
}

/* Enough emulated GPUs for the ranks of a test; a GPU of its own for each, where they are real. */
static inline void show_devices(void)
{
    if (CHECK_DEVICE != DEVICE_CPU) setenv("WEFT_EMULATED_DEVICES", "8", 0);
}

/* Runs tables of cases, one cmocka test each. WEFT_TEST_CASE=text selects by name. */
static inline int run_cases(char **argv, const char *group, const struct op_case *const *tables,
                            const size_t *counts, size_t num_tables)
{
    wait_passively(argv);
    struct CMUnitTest tests[512];
    size_t count = 0;
    const char *only = getenv("WEFT_TEST_CASE");
    for (size_t t = 0; t < num_tables; t++) {
        for (size_t i = 0; i < counts[t] && count < 512; i++) {
            const struct op_case *c = &tables[t][i];
            if (only && !strstr(c->name, only)) continue;
            tests[count++] =
                (struct CMUnitTest){c->name, test_case, NULL, NULL, (void *)(uintptr_t)c};
        }
    }
    return _cmocka_run_group_tests(group, tests, count, NULL, NULL);
}

#define CASES(table) (sizeof(table) / sizeof((table)[0]))

#endif
