/*
 * plan_create: what is needed, what is stable, and the stages in their order. See plan.h for the
 * ideas.
 */
#include "runtime/graph/plan.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/graph/graph_impl.h"
#include "runtime/graph/plan_impl.h"

static void *grown(void *array, int count, int *capacity, size_t size)
{
    if (count < *capacity) return array;
    int wider = *capacity ? *capacity * 2 : 256;
    void *larger = realloc(array, (size_t)wider * size);
    if (larger) *capacity = wider;
    return larger;
}

int planner_add_value(struct planner *planner, const struct tensor *tensor)
{
    struct plan *plan = planner->plan;
    struct plan_value *values =
        grown(plan->values, plan->num_values, &planner->values_capacity, sizeof *plan->values);
    if (!values) return -1;
    plan->values = values;
    values[plan->num_values] = (struct plan_value){.tensor = tensor, .buffer = -1, .def = -1};
    return plan->num_values++;
}

int planner_add_step(struct planner *planner, const struct plan_step *step)
{
    struct plan *plan = planner->plan;
    struct plan_step *steps =
        grown(plan->steps, plan->num_steps, &planner->steps_capacity, sizeof *plan->steps);
    if (!steps) return -1;
    plan->steps = steps;
    steps[plan->num_steps] = *step;
    return plan->num_steps++;
}

int planner_add_buffer(struct planner *planner, enum plan_class memory_class, size_t size)
{
    struct plan *plan = planner->plan;
    struct plan_buffer *buffers =
        grown(plan->buffers, plan->num_buffers, &planner->buffers_capacity, sizeof *plan->buffers);
    if (!buffers) return -1;
    plan->buffers = buffers;
    buffers[plan->num_buffers] =
        (struct plan_buffer){.memory_class = memory_class, .size = size, .first = -1, .last = -1};
    return plan->num_buffers++;
}

bool step_is_view(const struct plan_step *step)
{
    return step->node && (step->node->op->flags & OP_VIEW);
}

int step_num_outputs(const struct plan_step *step)
{
    return step->node ? step->node->num_outputs + (step->kernel.sums ? 1 : 0) : 0;
}

int plan_value_root(const struct plan *plan, int value)
{
    while (plan->values[value].def >= 0 && step_is_view(&plan->steps[plan->values[value].def])) {
        value = plan->steps[plan->values[value].def].in[0];
    }
    return value;
}

static void need(struct planner *planner, const struct tensor *tensor)
{
    if (tensor) planner->needed[tensor->node->id] = true;
}

/* Marks what outputs and gradients depend on, and which of it depends on parameters alone. */
static void mark_nodes(struct planner *planner)
{
    const struct graph *graph = planner->graph;
    for (int64_t i = 0; i < graph->num_outputs; i++) {
        need(planner, graph->outputs[i].tensor);
        planner->kept[graph->outputs[i].tensor->id] = true;
    }
    for (int64_t i = 0; i < graph->num_parameters; i++) {
        need(planner, graph->parameters[i].gradient);
    }
    for (int64_t i = graph->num_nodes - 1; i >= 0; i--) {
        const struct node *node = graph->nodes[i];
        /* A collective runs on every rank or on none, so it stays even where its result is not
         * read. */
        if (node->op->flags & OP_COLLECTIVE) planner->needed[i] = true;
        for (int k = 0; planner->needed[i] && k < node->num_inputs; k++) {
            need(planner, node->inputs[k]);
        }
    }
    for (int64_t i = 0; i < graph->num_nodes; i++) {
        const struct node *node = graph->nodes[i];
        bool stable = !(node->op->flags & (OP_RANDOM | OP_COLLECTIVE)) && node->op != &op_input;
        for (int k = 0; k < node->num_inputs; k++) {
            stable &= planner->stable[node->inputs[k]->node->id];
        }
        planner->stable[i] = stable;
    }
    /* Gradients go to the flat vector, which every micro-step writes: their nodes are never stable.
     */
    for (int64_t i = 0; i < graph->num_parameters; i++) {
        if (graph->parameters[i].gradient) {
            planner->stable[graph->parameters[i].gradient->node->id] = false;
        }
    }
}

/* Runs of kernels that read `value` just as step `index` does in its input `input`: the same op and
 * attributes, so that a packed copy serves all of them. */
static int count_uses(const struct plan *plan, int index, int input)
{
    const struct plan_step *step = &plan->steps[index];
    int uses = 0;
    for (int i = 0; i < plan->num_steps; i++) {
        const struct plan_step *other = &plan->steps[i];
        if (!other->node || other->node->op != step->node->op || other->node->num_inputs <= input ||
            other->in[input] != step->in[input]) {
            continue;
        }
        uses += memcmp(other->node->attrs.bytes, step->node->attrs.bytes, NODE_ATTRS_SIZE) == 0;
    }
    return uses;
}

/* Tells every kernel which inputs are stable and how often they are read between updates. */
static enum status prepare_kernels(struct planner *planner, const struct plan_backend *backend)
{
    struct plan *plan = planner->plan;
    enum status status = STATUS_OK;
    for (int i = 0; i < plan->num_steps && status == STATUS_OK; i++) {
        struct plan_step *step = &plan->steps[i];
        if (!step->node || step_is_view(step)) continue;
        struct kernel *kernel = &step->kernel;
        kernel->node = step->node;
        kernel->num_threads = plan->options.num_threads;
        kernel->packs = plan->packs;
        for (int k = 0; k < step->node->num_inputs; k++) {
            kernel->stable[k] = planner->stable[step->node->inputs[k]->node->id];
            if (!kernel->stable[k]) continue;
            kernel->uses[k] = count_uses(plan, i, k) * plan->options.runs_per_update;
        }
        status = backend->prepare(kernel);
        if (status != STATUS_OK) {
            const char *path = step->node->path;
            status = status_prefix(status, "%s%s%s", path, *path ? ": " : "", step->node->op->name);
        }
    }
    return status;
}

int64_t plan_slice_begin(int64_t elements, int64_t num_slices, int64_t index)
{
    int64_t lines = (elements + PARAMETER_ALIGN - 1) / PARAMETER_ALIGN;
    int64_t begin = lines * index / num_slices * PARAMETER_ALIGN;
    return begin < elements ? begin : elements;
}

static void planner_fini(struct planner *planner)
{
    free(planner->needed);
    free(planner->stable);
    free(planner->kept);
    free(planner->clone);
    free(planner->claim);
    free(planner->removed);
}

static enum status planner_init(struct planner *planner, struct plan *plan,
                                const struct graph *graph)
{
    size_t nodes = (size_t)graph->num_nodes + 1;
    size_t tensors = (size_t)graph->num_tensors + 1;
    *planner = (struct planner){
        .plan = plan,
        .graph = graph,
        .needed = calloc(nodes, sizeof(bool)),
        .stable = calloc(nodes, sizeof(bool)),
        .kept = calloc(tensors, sizeof(bool)),
        .clone = malloc(tensors * sizeof(int)),
    };
    plan->first_value = malloc(tensors * sizeof(int));
    CHECK(planner->needed && planner->stable && planner->kept && planner->clone &&
              plan->first_value,
          STATUS_NO_MEMORY, "plan: out of memory");
    for (size_t i = 0; i < tensors; i++) {
        planner->clone[i] = -1;
        plan->first_value[i] = -1;
    }
    return STATUS_OK;
}

static enum status plan_build(struct planner *planner, struct plan *plan, const struct graph *graph,
                              const struct plan_backend *backend)
{
    TRY(planner_init(planner, plan, graph));
    planner->backend = backend;
    mark_nodes(planner);
    TRY(plan_schedule(planner));
    TRY(plan_fuse(planner));
    TRY(plan_settle(planner));
    TRY(prepare_kernels(planner, backend));
    TRY(plan_memory(planner));
    return plan_buckets(planner);
}

enum status plan_create(struct plan **out, const struct graph *graph,
                        const struct plan_options *options, const struct plan_backend *backend)
{
    *out = NULL;
    TRY(graph_status(graph));
    CHECK(graph->num_outputs > 0 || graph->loss, STATUS_INVALID,
          "plan: the graph has neither an output nor a loss, so there is nothing to compute");
    struct plan *plan = calloc(1, sizeof *plan);
    CHECK(plan, STATUS_NO_MEMORY, "plan: out of memory");
    plan->graph = graph;
    plan->alignment = backend->alignment;
    if (options) plan->options = *options;
    struct plan_options *o = &plan->options;
    if (o->num_threads <= 0) o->num_threads = omp_get_max_threads();
    if (o->bucket_bytes <= 0) o->bucket_bytes = (int64_t)32 << 20;
    if (o->num_slices <= 0) o->num_slices = 1;
    if (o->runs_per_update <= 0) o->runs_per_update = 1;
    if (o->runs_per_update > 1) o->accumulate = true;
    enum status status = STATUS_OK;
    if (backend->packs_create) status = backend->packs_create(&plan->packs);
    struct planner planner = {0};
    if (status == STATUS_OK) status = plan_build(&planner, plan, graph, backend);
    planner_fini(&planner);
    if (status != STATUS_OK) {
        plan_destroy(&plan, backend);
        return status;
    }
    *out = plan;
    return STATUS_OK;
}

void plan_destroy(struct plan **plan, const struct plan_backend *backend)
{
    struct plan *p = *plan;
    if (!p) return;
    for (int i = 0; i < p->num_steps; i++) {
        if (p->steps[i].kernel.node) backend->release(&p->steps[i].kernel);
    }
    if (p->packs) backend->packs_destroy(&p->packs);
    free(p->steps);
    free(p->values);
    free(p->buffers);
    free(p->buckets);
    free(p->first_value);
    free(p);
    *plan = NULL;
}

int plan_value_of(const struct plan *plan, const struct tensor *tensor)
{
    return plan->first_value[tensor->id];
}
