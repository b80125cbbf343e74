/*
 * Replay on the CPU. See executor.h.
 *
 * Reductions: a bucket of the gradient vector is handed to the comm right after the step that
 * completes it, and the comm is given a chance to move data between kernels; what is left is waited
 * for at the end of the run. With sliced buckets (ZeRO-1) a bucket is reduced to the one rank that
 * owns its slice.
 */
#include "runtime/backend/cpu/executor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/backend/cpu/memory.h"
#include "runtime/backend/cpu/pack.h"
#include "runtime/base/bf16.h"
#include "runtime/base/rng.h"
#include "runtime/comm/comm.h"
#include "runtime/graph/plan_impl.h"

struct executor {
    const struct graph *graph;
    struct plan *plan;
    struct executor_options options;
    void *memory[PLAN_CLASS_COUNT];
    bool owned[PLAN_CLASS_COUNT];
    int *dying_first;             /* poison: by step, first entry in `dying` */
    int *dying;                   /* buffers in the order of their last step */
    struct comm_handle **handles; /* by bucket */
    int64_t *counts;              /* by rank: what it gets of a bucket */
    struct executor_profile *profile;
    uint64_t version;             /* of the parameters */
    uint64_t updated;             /* the version that update-phase values were computed from */
    struct executor_found *found; /* executor_run.nonfinite of the current run */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static enum status cpu_prepare(struct kernel *kernel)
{
    const struct op *op = kernel->node->op;
    CHECK(op->cpu_run, STATUS_INTERNAL, "op '%s' has no CPU kernel", op->name);
    return op->cpu_prepare ? op->cpu_prepare(kernel) : STATUS_OK;
}

static void cpu_release(struct kernel *kernel)
{
    if (kernel->node->op->cpu_release) kernel->node->op->cpu_release(kernel);
}

const struct plan_backend cpu_plan_backend = {
    .prepare = cpu_prepare,
    .release = cpu_release,
    .packs_create = pack_cache_create,
    .packs_destroy = pack_cache_destroy,
};

static char *value_address(const struct executor *e, int value)
{
    const struct plan_value *v = &e->plan->values[value];
    const struct plan_buffer *b = &e->plan->buffers[v->buffer];
    return (char *)e->memory[b->memory_class] + b->offset + v->offset;
}

/* Writes every kernel's pointers, once. */
static void resolve(struct executor *e)
{
    for (int i = 0; i < e->plan->num_steps; i++) {
        struct plan_step *step = &e->plan->steps[i];
        int num_inputs = step->node ? step->node->num_inputs : 1;
        for (int k = 0; k < num_inputs; k++) {
            step->kernel.in[k] = value_address(e, step->in[k]);
        }
        for (int k = 0; step->node && k < step->node->num_outputs; k++) {
            step->kernel.out[k] = value_address(e, step->out[k]);
        }
        if (step->scratch >= 0) {
            const struct plan_buffer *b = &e->plan->buffers[step->scratch];
            step->kernel.scratch = (char *)e->memory[b->memory_class] + b->offset;
        }
    }
}

static enum status allocate(struct executor *e)
{
    static const char *const what[PLAN_CLASS_COUNT] = {"parameters", "gradients", "inputs",
                                                       "cast parameters", "activations"};
    e->memory[PLAN_CLASS_PARAMETER] = e->options.parameters;
    e->memory[PLAN_CLASS_GRADIENT] = e->options.gradients;
    for (int c = 0; c < PLAN_CLASS_COUNT; c++) {
        if (e->memory[c]) continue;
        e->owned[c] = true;
        TRY(memory_map(&e->memory[c], e->plan->class_bytes[c], what[c]));
    }
    return STATUS_OK;
}

/* Lists step buffers by the step after which they are dead. */
static enum status list_dying(struct executor *e)
{
    const struct plan *plan = e->plan;
    e->dying_first = calloc((size_t)plan->num_steps + 2, sizeof(int));
    e->dying = malloc(((size_t)plan->num_buffers + 1) * sizeof(int));
    CHECK(e->dying_first && e->dying, STATUS_NO_MEMORY, "executor: out of memory");
    int count = 0;
    for (int i = 0; i < plan->num_steps; i++) {
        e->dying_first[i] = count;
        for (int b = 0; b < plan->num_buffers; b++) {
            const struct plan_buffer *buffer = &plan->buffers[b];
            if (buffer->memory_class == PLAN_CLASS_STEP && buffer->last == i) e->dying[count++] = b;
        }
    }
    e->dying_first[plan->num_steps] = count;
    return STATUS_OK;
}

/* Collectives were recorded with shapes for some number of ranks; it must be the one that runs. */
static enum status check_world(const struct executor *e)
{
    int64_t size = e->options.comm ? e->options.comm->size : 1;
    for (int i = 0; i < e->plan->num_steps; i++) {
        const struct node *node = e->plan->steps[i].node;
        if (!node || !(node->op->flags & OP_COLLECTIVE)) continue;
        CHECK(graph_world_size(e->graph) == size, STATUS_INVALID,
              "executor: the graph was recorded for %lld ranks, but there are %lld",
              (long long)graph_world_size(e->graph), (long long)size);
    }
    return STATUS_OK;
}

static enum status executor_build(struct executor *e)
{
    TRY(plan_create(&e->plan, e->graph, &e->options.plan, &cpu_plan_backend));
    TRY(check_world(e));
    TRY(allocate(e));
    resolve(e);
    if (e->options.poison) TRY(list_dying(e));
    e->handles = calloc((size_t)e->plan->num_buckets + 1, sizeof(struct comm_handle *));
    e->profile = calloc((size_t)e->plan->num_steps + 1, sizeof *e->profile);
    e->counts = calloc(e->options.comm ? (size_t)e->options.comm->size : 1, sizeof *e->counts);
    CHECK(e->handles && e->profile && e->counts, STATUS_NO_MEMORY, "executor: out of memory");
    e->version = 1;
    return STATUS_OK;
}

enum status executor_create(struct executor **executor, const struct graph *graph,
                            const struct executor_options *options)
{
    *executor = NULL;
    struct executor *e = calloc(1, sizeof *e);
    CHECK(e, STATUS_NO_MEMORY, "executor: out of memory");
    e->graph = graph;
    if (options) e->options = *options;
    enum status status = executor_build(e);
    if (status != STATUS_OK) {
        executor_destroy(&e);
        return status;
    }
    *executor = e;
    return STATUS_OK;
}

void executor_destroy(struct executor **executor)
{
    struct executor *e = *executor;
    if (!e) return;
    for (int c = 0; c < PLAN_CLASS_COUNT && e->plan; c++) {
        if (e->owned[c]) memory_unmap(&e->memory[c], e->plan->class_bytes[c]);
    }
    plan_destroy(&e->plan, &cpu_plan_backend);
    free(e->dying_first);
    free(e->dying);
    free(e->handles);
    free(e->counts);
    free(e->profile);
    free(e);
    *executor = NULL;
}

const struct plan *executor_plan(const struct executor *executor)
{
    return executor->plan;
}

float *executor_parameters(struct executor *executor)
{
    return executor->memory[PLAN_CLASS_PARAMETER];
}

float *executor_gradients(struct executor *executor)
{
    return executor->memory[PLAN_CLASS_GRADIENT];
}

void executor_parameters_changed(struct executor *executor)
{
    executor->version++;
}

/* Normal numbers redrawn (at the next sample index) until they lie within two standard deviations.
 */
static void fill_trunc_normal(struct rng_key key, float scale, float *out, int64_t count)
{
    rng_fill_normal(key, 0, 0, out, count);
    for (int64_t i = 0; i < count; i++) {
        for (uint64_t redraw = 1; fabsf(out[i]) > 2.0f; redraw++) {
            float block[4];
            /* Element i of draw `redraw`: a block of its own, so that its neighbours do not matter.
             */
            rng_fill_normal(key, redraw, (uint64_t)i + 1, block, 4);
            out[i] = block[i % 4];
        }
        out[i] *= scale;
    }
}

static void init_parameter(const struct parameter *parameter, uint64_t seed, float *out)
{
    struct rng_key key = rng_key(seed, RNG_INIT, rng_site(parameter->name));
    float scale = parameter->init.scale;
    switch (parameter->init.kind) {
    case INIT_NORMAL:
        rng_fill_normal(key, 0, 0, out, parameter->count);
        for (int64_t i = 0; i < parameter->count; i++) {
            out[i] *= scale;
        }
        return;
    case INIT_TRUNC_NORMAL:
        fill_trunc_normal(key, scale, out, parameter->count);
        return;
    case INIT_ZEROS:
        scale = 0.0f;
        break;
    case INIT_ONES:
        scale = 1.0f;
        break;
    case INIT_CONSTANT:
        break;
    }
    for (int64_t i = 0; i < parameter->count; i++) {
        out[i] = scale;
    }
}

void executor_init_parameters(struct executor *executor)
{
    const struct graph *graph = executor->graph;
    float *flat = executor_parameters(executor);
    int64_t count = graph_num_parameters(graph);
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < count; i++) {
        const struct parameter *parameter = graph_parameter_at(graph, i);
        init_parameter(parameter, executor->options.seed, flat + parameter->offset);
    }
    executor_parameters_changed(executor);
}

void *executor_data(struct executor *executor, const struct tensor *tensor)
{
    int value = plan_value_of(executor->plan, tensor);
    if (value < 0) return NULL;
    /* Asked of the value and not of its buffer: a later value may have overwritten it in place. */
    const struct plan_value *v = &executor->plan->values[value];
    const struct plan_buffer *b = &executor->plan->buffers[v->buffer];
    if (b->memory_class == PLAN_CLASS_STEP && v->last < executor->plan->num_steps) return NULL;
    return value_address(executor, value);
}

/* ---- one run ---- */

/* A final gradient that was computed elsewhere goes to its slot of the flat vector. */
static void store_gradient(struct executor *e, const struct plan_step *step, bool accumulate)
{
    const struct parameter *p = graph_parameter_at(e->graph, step->store);
    const float *from = step->kernel.in[0];
    float *to = executor_gradients(e) + p->offset;
    if (!accumulate) {
        memcpy(to, from, (size_t)p->count * sizeof *to);
        return;
    }
#pragma omp parallel for schedule(static) if (p->count > 32768)
    for (int64_t i = 0; i < p->count; i++) {
        to[i] += from[i];
    }
}

static enum status check_finite(const struct executor *e, const struct plan_step *step)
{
    for (int k = 0; k < step->node->num_outputs; k++) {
        const struct tensor *tensor = e->plan->values[step->out[k]].tensor;
        if (!dtype_is_float(tensor->dtype)) continue;
        int64_t count = shape_count(&tensor->shape);
        for (int64_t i = 0; i < count; i++) {
            float value = tensor->dtype == DTYPE_F32
                              ? ((const float *)step->kernel.out[k])[i]
                              : bf16_to_f32(((const bf16 *)step->kernel.out[k])[i]);
            CHECK(isfinite(value), STATUS_CORRUPT, "%s: %s: element %lld of output %d is %f%s",
                  step->node->path, step->node->op->name, (long long)i, k, (double)value,
                  step->phase == PLAN_PHASE_BACKWARD ? " (backward)" : "");
        }
    }
    return STATUS_OK;
}

static void poison(struct executor *e, int index)
{
    for (int i = e->dying_first[index]; i < e->dying_first[index + 1]; i++) {
        const struct plan_buffer *b = &e->plan->buffers[e->dying[i]];
        memset((char *)e->memory[PLAN_CLASS_STEP] + b->offset, 0xFF, b->size);
    }
}

static enum status run_step(struct executor *e, int index, const struct run_context *context)
{
    struct plan_step *step = &e->plan->steps[index];
    double start = e->options.profile ? now() : 0;
    if (!step->node) {
        store_gradient(e, step, context->accumulate);
    } else if (!step_is_view(step)) {
        enum status status = step->node->op->cpu_run(&step->kernel, context);
        if (status != STATUS_OK) {
            const char *path = step->node->path;
            return status_prefix(status, "%s%s%s", path, *path ? ": " : "", step->node->op->name);
        }
        if (e->options.check_finite) TRY(check_finite(e, step));
        if (e->found && e->found->step < 0 && check_finite(e, step) != STATUS_OK) {
            e->found->step = index;
            snprintf(e->found->text, sizeof e->found->text, "%s", status_message());
        }
    }
    if (e->options.profile) {
        e->profile[index].seconds += now() - start;
        e->profile[index].runs++;
    }
    if (e->options.poison) poison(e, index);
    return STATUS_OK;
}

static enum status start_bucket(struct executor *e, int index)
{
    const struct plan_bucket *bucket = &e->plan->buckets[index];
    struct comm *comm = e->options.comm;
    float *data = executor_gradients(e) + bucket->offset;
    if (e->plan->options.num_slices == 1) {
        return comm_allreduce_start(comm, "gradient bucket", data, bucket->count, COMM_F32,
                                    COMM_SUM, &e->handles[index]);
    }
    /* The whole bucket is the owner's slice; the others get nothing. */
    memset(e->counts, 0, (size_t)comm->size * sizeof *e->counts);
    e->counts[bucket->slice] = bucket->count;
    const struct comm_call call = {
        .kind = COMM_REDUCE_SCATTER,
        .label = "gradient bucket",
        .dtype = COMM_F32,
        .reduction = COMM_SUM,
        .send = data,
        .recv = data,
        .recv_counts = e->counts,
    };
    return comm_start(comm, &call, &e->handles[index]);
}

static enum status wait_buckets(struct executor *e)
{
    for (int i = 0; i < e->plan->num_buckets; i++) {
        TRY(comm_wait(e->options.comm, &e->handles[i]));
    }
    return STATUS_OK;
}

enum status executor_run(struct executor *executor, const struct executor_run *run)
{
    struct executor *e = executor;
    const struct plan *plan = e->plan;
    struct comm *comm = e->options.comm;
    CHECK(!run->accumulate || plan->options.accumulate, STATUS_INVALID,
          "executor: adding to gradients needs a plan with the option accumulate or "
          "runs_per_update above 1");
    bool reduce = run->reduce && comm && comm->size > 1;
    struct run_context context = {
        .seed = e->options.seed,
        .step = run->step,
        .sample_base = run->sample_base,
        .accumulate = run->accumulate,
        .version = e->version,
        .comm = comm,
        .host = run->host,
    };
    int next_bucket = 0;
    e->found = run->nonfinite;
    if (e->found) *e->found = (struct executor_found){.step = -1};
    for (int i = 0; i < plan->num_steps; i++) {
        if (plan->steps[i].phase == PLAN_PHASE_UPDATE && e->updated == e->version) continue;
        TRY(run_step(e, i, &context));
        if (!reduce) continue;
        while (next_bucket < plan->num_buckets && plan->buckets[next_bucket].ready <= i) {
            TRY(start_bucket(e, next_bucket++));
        }
        TRY(comm_progress(comm));
    }
    e->updated = e->version;
    while (reduce && next_bucket < plan->num_buckets) {
        TRY(start_bucket(e, next_bucket++));
    }
    return reduce ? wait_buckets(e) : STATUS_OK;
}

size_t executor_bytes(const struct executor *executor)
{
    size_t bytes = pack_cache_bytes(executor->plan->packs);
    for (int c = 0; c < PLAN_CLASS_COUNT; c++) {
        bytes += executor->plan->class_bytes[c];
    }
    return bytes;
}

const struct executor_profile *executor_profile(const struct executor *executor, int step)
{
    return &executor->profile[step];
}

void executor_print_profile(const struct executor *executor, FILE *file)
{
    const struct plan *plan = executor->plan;
    fprintf(file, "%-24s %6s %10s %10s %10s\n", "op", "runs", "ms", "GFLOP/s", "GB/s");
    for (int o = 0; o < op_count(); o++) {
        double seconds = 0;
        double flops = 0;
        double bytes = 0;
        int64_t runs = 0;
        for (int i = 0; i < plan->num_steps; i++) {
            if (!plan->steps[i].node || plan->steps[i].node->op != op_at(o)) continue;
            const struct executor_profile *p = &executor->profile[i];
            struct op_cost cost = node_cost(plan->steps[i].node);
            seconds += p->seconds;
            flops += cost.flops * (double)p->runs;
            bytes += cost.bytes * (double)p->runs;
            runs += p->runs;
        }
        if (runs == 0 || op_at(o)->flags & OP_VIEW) continue;
        fprintf(file, "%-24s %6lld %10.3f %10.1f %10.1f\n", op_at(o)->name, (long long)runs,
                1e3 * seconds, flops / seconds * 1e-9, bytes / seconds * 1e-9);
    }
}
