/*
 * Replay on the CPU: a loop over the plan's steps, each a function call. See executor.h.
 *
 * Reductions: a bucket of the gradient vector is handed to the comm right after the step that
 * completes it, and the comm is given a chance to move data between kernels; what is left is waited
 * for at the end of the run. With sliced buckets (ZeRO-1) a bucket is reduced to the one rank that
 * owns its slice.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/backend/cpu/memory.h"
#include "runtime/backend/cpu/pack.h"
#include "runtime/backend/executor_impl.h"
#include "runtime/comm/comm.h"
#include "runtime/graph/plan_impl.h"

struct cpu_state {
    bool owned[PLAN_CLASS_COUNT];
    struct comm_handle **handles; /* by bucket */
    int64_t *counts;              /* by rank: what it gets of a bucket */
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
    .alignment = 64,
    .prepare = cpu_prepare,
    .release = cpu_release,
    .packs_create = pack_cache_create,
    .packs_destroy = pack_cache_destroy,
};

static enum status cpu_allocate(struct executor *e)
{
    static const char *const what[PLAN_CLASS_COUNT] = {"parameters", "gradients", "inputs",
                                                       "cast parameters", "activations"};
    struct cpu_state *state = calloc(1, sizeof *state);
    CHECK(state, STATUS_NO_MEMORY, "executor: out of memory");
    e->state = state;
    state->handles = calloc((size_t)e->plan->num_buckets + 1, sizeof(struct comm_handle *));
    state->counts =
        calloc(e->options.comm ? (size_t)e->options.comm->size : 1, sizeof *state->counts);
    CHECK(state->handles && state->counts, STATUS_NO_MEMORY, "executor: out of memory");
    e->memory[PLAN_CLASS_PARAMETER] = e->options.parameters;
    e->memory[PLAN_CLASS_GRADIENT] = e->options.gradients;
    for (int c = 0; c < PLAN_CLASS_COUNT; c++) {
        if (e->memory[c]) continue;
        state->owned[c] = true;
        TRY(memory_map(&e->memory[c], e->plan->class_bytes[c], what[c]));
    }
    /* Of exactly their sizes, so that ASan sees their ends. */
    for (int b = 0; e->separate && b < e->plan->num_buffers; b++) {
        const struct plan_buffer *buffer = &e->plan->buffers[b];
        if (buffer->memory_class < PLAN_CLASS_INPUT) continue;
        int failed = posix_memalign((void **)&e->separate[b], 64, buffer->size ? buffer->size : 1);
        CHECK(!failed, STATUS_NO_MEMORY, "executor: out of memory");
        memset(e->separate[b], 0, buffer->size); /* as mapped memory is */
    }
    return STATUS_OK;
}

static void cpu_release_all(struct executor *e)
{
    struct cpu_state *state = e->state;
    if (!state) return;
    for (int c = 0; c < PLAN_CLASS_COUNT; c++) {
        if (state->owned[c]) memory_unmap(&e->memory[c], e->plan->class_bytes[c]);
    }
    for (int b = 0; e->separate && b < e->plan->num_buffers; b++) {
        free(e->separate[b]);
    }
    free(state->handles);
    free(state->counts);
    free(state);
    e->state = NULL;
}

/* A final gradient that was computed elsewhere goes to its slot of the flat vector. */
static void store_gradient(const struct executor *e, const struct plan_step *step, bool accumulate)
{
    const struct parameter *p = graph_parameter_at(e->graph, step->store);
    const float *from = step->kernel.in[0];
    float *to = (float *)e->memory[PLAN_CLASS_GRADIENT] + p->offset;
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
        TRY(executor_check_finite(step, tensor, k, step->kernel.out[k]));
    }
    return STATUS_OK;
}

static void poison(struct executor *e, int index)
{
    for (int i = e->dying_first[index]; i < e->dying_first[index + 1]; i++) {
        const struct plan_buffer *b = &e->plan->buffers[e->dying[i]];
        memset(executor_buffer_address(e, e->dying[i]), 0xFF, b->size);
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
    struct cpu_state *state = e->state;
    struct comm *comm = e->options.comm;
    float *data = (float *)e->memory[PLAN_CLASS_GRADIENT] + bucket->offset;
    if (e->plan->options.num_slices == 1) {
        return comm_allreduce_start(comm, "gradient bucket", data, bucket->count, COMM_F32,
                                    COMM_SUM, &state->handles[index]);
    }
    /* The whole bucket is the owner's slice; the others get nothing. */
    memset(state->counts, 0, (size_t)comm->size * sizeof *state->counts);
    state->counts[bucket->slice] = bucket->count;
    const struct comm_call call = {
        .kind = COMM_REDUCE_SCATTER,
        .label = "gradient bucket",
        .dtype = COMM_F32,
        .reduction = COMM_SUM,
        .send = data,
        .recv = data,
        .recv_counts = state->counts,
    };
    return comm_start(comm, &call, &state->handles[index]);
}

static enum status wait_buckets(struct executor *e)
{
    struct cpu_state *state = e->state;
    for (int i = 0; i < e->plan->num_buckets; i++) {
        TRY(comm_wait(e->options.comm, &state->handles[i]));
    }
    return STATUS_OK;
}

static enum status cpu_run(struct executor *e, const struct executor_run *run)
{
    const struct plan *plan = e->plan;
    struct comm *comm = e->options.comm;
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

/* ---- what is the same memory here ---- */

static enum status cpu_wait(struct executor *e)
{
    (void)e;
    return STATUS_OK;
}

static double cpu_seconds(struct executor *e)
{
    (void)e;
    return 0;
}

static void *cpu_data(struct executor *e, int value)
{
    return executor_value_address(e, value);
}

static float *cpu_flat(struct executor *e, enum plan_class memory_class)
{
    return e->memory[memory_class];
}

static enum status cpu_fetch(struct executor *e, enum plan_class memory_class)
{
    (void)e;
    (void)memory_class;
    return STATUS_OK;
}

static void cpu_stale(struct executor *e, bool host_is_newer)
{
    (void)e;
    (void)host_is_newer;
}

static size_t cpu_bytes(const struct executor *e)
{
    return pack_cache_bytes(e->plan->packs);
}

static struct CUstream_st *cpu_stream(const struct executor *e)
{
    (void)e;
    return NULL;
}

const struct backend cpu_backend = {
    .plan = {.alignment = 64,
             .prepare = cpu_prepare,
             .release = cpu_release,
             .packs_create = pack_cache_create,
             .packs_destroy = pack_cache_destroy},
    .allocate = cpu_allocate,
    .release = cpu_release_all,
    .run = cpu_run,
    .wait = cpu_wait,
    .inputs_wait = cpu_wait,
    .inputs_send = cpu_wait,
    .seconds = cpu_seconds,
    .data = cpu_data,
    .flat = cpu_flat,
    .fetch = cpu_fetch,
    .stale = cpu_stale,
    .settle = cpu_wait,
    .bytes = cpu_bytes,
    .stream = cpu_stream,
};
