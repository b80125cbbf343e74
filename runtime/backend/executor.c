/* What every device has in common: see executor.h, and executor_impl.h for the rest. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/backend/executor_impl.h"
#if defined(WEFT_CUDA)
#include "runtime/backend/cuda/binding.h"
#endif
#include "runtime/base/bf16.h"
#include "runtime/base/rng.h"
#include "runtime/comm/comm.h"
#include "runtime/graph/plan_impl.h"

char *executor_buffer_address(const struct executor *e, int buffer)
{
    if (e->separate && e->separate[buffer]) return e->separate[buffer];
    const struct plan_buffer *b = &e->plan->buffers[buffer];
    return (char *)e->memory[b->memory_class] + b->offset;
}

char *executor_value_address(const struct executor *e, int value)
{
    const struct plan_value *v = &e->plan->values[value];
    return executor_buffer_address(e, v->buffer) + v->offset;
}

/* Writes every kernel's pointers, once. */
static void resolve(struct executor *e)
{
    for (int i = 0; i < e->plan->num_steps; i++) {
        struct plan_step *step = &e->plan->steps[i];
        int num_inputs = step->node ? step->node->num_inputs : 1;
        for (int k = 0; k < num_inputs; k++) {
            step->kernel.in[k] = executor_value_address(e, step->in[k]);
        }
        for (int k = 0; k < step_num_outputs(step); k++) {
            step->kernel.out[k] = executor_value_address(e, step->out[k]);
        }
        if (step->scratch >= 0) {
            step->kernel.scratch = executor_buffer_address(e, step->scratch);
        }
    }
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

#if !defined(WEFT_CUDA)
static enum status no_cuda(void)
{
    return status_fail(STATUS_UNSUPPORTED,
                       "this weft was built without CUDA; build it where nvcc is found, or run on "
                       "the CPU");
}
#endif

enum status device_bind(enum device_kind device, struct comm *comm, char text[DEVICE_TEXT])
{
    text[0] = '\0';
    if (device == DEVICE_CPU) return STATUS_OK;
#if defined(WEFT_CUDA)
    TRY(cuda_bind(comm, true));
    snprintf(text, DEVICE_TEXT, "%s", cuda_binding_text());
    return STATUS_OK;
#else
    (void)comm;
    return no_cuda();
#endif
}

static enum status find_backend(enum device_kind device, const struct backend **backend)
{
    *backend = &cpu_backend;
    if (device == DEVICE_CPU) return STATUS_OK;
#if defined(WEFT_CUDA)
    *backend = &cuda_backend;
    return STATUS_OK;
#else
    return no_cuda();
#endif
}

static enum status choose_backend(struct executor *e)
{
    TRY(find_backend(e->options.device, &e->backend));
#if defined(WEFT_CUDA)
    if (e->options.device == DEVICE_CUDA) TRY(cuda_bind(e->options.comm, false));
#endif
    return STATUS_OK;
}

enum status executor_plan_backend(enum device_kind device, const struct plan_backend **backend)
{
    const struct backend *found = NULL;
    TRY(find_backend(device, &found));
    *backend = &found->plan;
    return STATUS_OK;
}

static enum status executor_build(struct executor *e)
{
    TRY(choose_backend(e));
    TRY(plan_create(&e->plan, e->graph, &e->options.plan, &e->backend->plan));
    TRY(check_world(e));
    if (e->options.separate) {
        e->separate = calloc((size_t)e->plan->num_buffers + 1, sizeof *e->separate);
        CHECK(e->separate, STATUS_NO_MEMORY, "executor: out of memory");
    }
    TRY(e->backend->allocate(e));
    resolve(e);
    if (e->options.poison) TRY(list_dying(e));
    e->profile = calloc((size_t)e->plan->num_steps + 1, sizeof *e->profile);
    CHECK(e->profile, STATUS_NO_MEMORY, "executor: out of memory");
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
    if (e->plan) e->backend->release(e);
    if (e->backend) plan_destroy(&e->plan, &e->backend->plan);
    free(e->separate);
    free(e->dying_first);
    free(e->dying);
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
    return executor->backend->flat(executor, PLAN_CLASS_PARAMETER);
}

float *executor_gradients(struct executor *executor)
{
    return executor->backend->flat(executor, PLAN_CLASS_GRADIENT);
}

void executor_parameters_changed(struct executor *executor)
{
    executor->version++;
    executor->backend->stale(executor, true);
}

float *executor_device_parameters(struct executor *executor)
{
    if (executor->backend->settle(executor) != STATUS_OK) return NULL;
    return executor->memory[PLAN_CLASS_PARAMETER];
}

float *executor_device_gradients(struct executor *executor)
{
    return executor->memory[PLAN_CLASS_GRADIENT];
}

void executor_device_parameters_changed(struct executor *executor)
{
    executor->version++;
    executor->backend->stale(executor, false);
}

struct CUstream_st *executor_stream(const struct executor *executor)
{
    return executor->backend->stream(executor);
}

enum status executor_parameters_fetch(struct executor *executor)
{
    return executor->backend->fetch(executor, PLAN_CLASS_PARAMETER);
}

enum status executor_gradients_fetch(struct executor *executor)
{
    return executor->backend->fetch(executor, PLAN_CLASS_GRADIENT);
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

enum status executor_init_parameters(struct executor *executor)
{
    const struct graph *graph = executor->graph;
    TRY(executor_parameters_fetch(executor)); /* says whether there is memory for them */
    float *flat = executor_parameters(executor);
    int64_t count = graph_num_parameters(graph);
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < count; i++) {
        const struct parameter *parameter = graph_parameter_at(graph, i);
        init_parameter(parameter, executor->options.seed, flat + parameter->offset);
    }
    executor_parameters_changed(executor);
    return STATUS_OK;
}

void *executor_data(struct executor *executor, const struct tensor *tensor)
{
    int value = plan_value_of(executor->plan, tensor);
    if (value < 0) return NULL;
    /* Asked of the value and not of its buffer: a later value may have overwritten it in place. */
    const struct plan_value *v = &executor->plan->values[value];
    const struct plan_buffer *b = &executor->plan->buffers[v->buffer];
    if (b->memory_class == PLAN_CLASS_STEP && v->last < executor->plan->num_steps) return NULL;
    return executor->backend->data(executor, value);
}

enum status executor_check_finite(const struct plan_step *step, const struct tensor *tensor, int k,
                                  const void *data)
{
    if (!dtype_is_float(tensor->dtype)) return STATUS_OK;
    int64_t count = shape_count(&tensor->shape);
    for (int64_t i = 0; i < count; i++) {
        float value = tensor->dtype == DTYPE_F32 ? ((const float *)data)[i]
                                                 : bf16_to_f32(((const bf16 *)data)[i]);
        CHECK(isfinite(value), STATUS_CORRUPT, "%s: %s: element %lld of output %d is %f%s",
              step->node->path, step->node->op->name, (long long)i, k, (double)value,
              step->phase == PLAN_PHASE_BACKWARD ? " (backward)" : "");
    }
    return STATUS_OK;
}

enum status executor_run(struct executor *executor, const struct executor_run *run)
{
    struct executor *e = executor;
    CHECK(!run->accumulate || e->plan->options.accumulate, STATUS_INVALID,
          "executor: adding to gradients needs a plan with the option accumulate or "
          "runs_per_update above 1");
    e->found = run->nonfinite;
    if (e->found) *e->found = (struct executor_found){.step = -1};
    return e->backend->run(e, run);
}

enum status executor_wait(struct executor *executor)
{
    return executor->backend->wait(executor);
}

enum status executor_inputs_wait(struct executor *executor)
{
    return executor->backend->inputs_wait(executor);
}

enum status executor_inputs_send(struct executor *executor)
{
    return executor->backend->inputs_send(executor);
}

double executor_run_seconds(struct executor *executor)
{
    return executor->backend->seconds(executor);
}

size_t executor_bytes(const struct executor *executor)
{
    size_t bytes = executor->backend->bytes(executor);
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
