/*
 * Order of the steps, recomputation, fused epilogues, and stores into the gradient vector.
 *
 * Forward nodes run in creation order, then backward nodes. With recomputation a backward node that
 * reads a dropped forward value is preceded by the clones of the nodes that make it again; random
 * ops draw the same numbers because their numbers are functions of the place, not of the time.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/graph/graph_impl.h"
#include "runtime/graph/plan_impl.h"
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

#define OUT_OF_MEMORY status_fail(STATUS_NO_MEMORY, "plan: out of memory")

/* Marks values that are read outside their recompute block in the forward pass. */
static void mark_kept(struct planner *planner)
{
    const struct graph *graph = planner->graph;
    for (int64_t i = 0; i < graph->num_nodes; i++) {
        const struct node *node = graph->nodes[i];
        if (node->is_backward || !planner->needed[i]) continue;
        for (int k = 0; k < node->num_inputs; k++) {
            if (node->inputs[k]->node->block != node->block) {
                planner->kept[node->inputs[k]->id] = true;
            }
        }
    }
}

/* Whether backward makes `tensor` again instead of reading what forward kept. */
static bool is_dropped(const struct planner *planner, const struct tensor *tensor)
{
    const struct node *node = tensor->node;
    enum plan_recompute recompute = planner->plan->options.recompute;
    if (node->is_backward || planner->stable[node->id]) return false;
    if (node->op->flags & (OP_SOURCE | OP_COLLECTIVE)) return false;
    if (recompute == PLAN_RECOMPUTE_BLOCKS && node->block >= 0) {
        /* A view of a kept value is as good as kept. */
        if (node->op->flags & OP_VIEW) return is_dropped(planner, node->inputs[0]);
        return !planner->kept[tensor->id];
    }
    if (node->op->flags & OP_VIEW) return is_dropped(planner, node->inputs[0]);
    return (node->op->flags & OP_CHEAP) && tensor->output == 0;
}

static enum status add_kernel(struct planner *planner, const struct node *node, const int *in,
                              bool is_clone, enum plan_phase phase)
{
    struct plan *plan = planner->plan;
    struct plan_step step = {
        .node = node, .phase = phase, .recomputed = is_clone, .extra = -1, .scratch = -1};
    step.store = -1;
    if (node->num_inputs) memcpy(step.in, in, (size_t)node->num_inputs * sizeof *in);
    for (int i = 0; i < node->num_outputs; i++) {
        int value = planner_add_value(planner, &node->outputs[i]);
        if (value < 0) return OUT_OF_MEMORY;
        plan->values[value].def = plan->num_steps;
        step.out[i] = value;
        if (is_clone) {
            planner->clone[node->outputs[i].id] = value;
        } else {
            plan->first_value[node->outputs[i].id] = value;
        }
    }
    return planner_add_step(planner, &step) < 0 ? OUT_OF_MEMORY : STATUS_OK;
}

/* The value that a backward step reads for `tensor`; adds the steps that make it again. */
static enum status backward_value(struct planner *planner, const struct tensor *tensor, int *value)
{
    *value = planner->plan->first_value[tensor->id];
    if (planner->plan->options.recompute == PLAN_KEEP || !is_dropped(planner, tensor)) {
        return STATUS_OK;
    }
    if (planner->clone[tensor->id] < 0) {
        const struct node *node = tensor->node;
        int in[OP_MAX_INPUTS];
        for (int i = 0; i < node->num_inputs; i++) {
            TRY(backward_value(planner, node->inputs[i], &in[i]));
        }
        TRY(add_kernel(planner, node, in, true, PLAN_PHASE_BACKWARD));
    }
    *value = planner->clone[tensor->id];
    return STATUS_OK;
}

static enum status schedule_node(struct planner *planner, const struct node *node)
{
    if (node->op->flags & OP_SOURCE) {
        int value = planner_add_value(planner, &node->outputs[0]);
        if (value < 0) return OUT_OF_MEMORY;
        planner->plan->first_value[node->outputs[0].id] = value;
        return STATUS_OK;
    }
    enum plan_phase phase = planner->stable[node->id] ? PLAN_PHASE_UPDATE
                            : node->is_backward       ? PLAN_PHASE_BACKWARD
                                                      : PLAN_PHASE_FORWARD;
    int in[OP_MAX_INPUTS];
    for (int i = 0; i < node->num_inputs; i++) {
        if (phase == PLAN_PHASE_BACKWARD) {
            TRY(backward_value(planner, node->inputs[i], &in[i]));
        } else {
            in[i] = planner->plan->first_value[node->inputs[i]->id];
        }
    }
    return add_kernel(planner, node, in, false, phase);
}

enum status plan_schedule(struct planner *planner)
{
    const struct graph *graph = planner->graph;
    mark_kept(planner);
    /* Sources first, then what is computed once per update, then the rest. */
    for (int pass = 0; pass < 3; pass++) {
        for (int64_t i = 0; i < graph->num_nodes; i++) {
            const struct node *node = graph->nodes[i];
            bool is_source = node->op->flags & OP_SOURCE;
            int when = is_source ? 0 : planner->stable[i] ? 1 : 2;
            /* Inputs that nobody reads keep their place, so that they can still be supplied. */
            if (when == pass && (planner->needed[i] || is_source)) {
                TRY(schedule_node(planner, node));
            }
        }
    }
    return STATUS_OK;
}

/* ---- fusion ---- */

/* Who reads a value, itself or through views of it. */
struct readers {
    int count;    /* direct readers; 2 more for values that are kept */
    int reader;   /* the last direct reader */
    int last;     /* the last step that reads it */
    int previous; /* the last but one */
};

static void note_reader(const struct plan *plan, struct readers *readers, int value, int step)
{
    for (;;) {
        if (readers[value].last != step) {
            readers[value].previous = readers[value].last;
            readers[value].last = step;
        }
        int def = plan->values[value].def;
        if (def < 0 || !step_is_view(&plan->steps[def])) return;
        value = plan->steps[def].in[0];
    }
}

static struct readers *list_readers(const struct plan *plan)
{
    struct readers *readers = calloc((size_t)plan->num_values + 1, sizeof *readers);
    if (!readers) return NULL;
    for (int i = 0; i < plan->num_values; i++) {
        readers[i] = (struct readers){.reader = -1, .last = -1, .previous = -1};
    }
    for (int i = 0; i < plan->num_steps; i++) {
        for (int k = 0; k < plan->steps[i].node->num_inputs; k++) {
            int value = plan->steps[i].in[k];
            readers[value].count++;
            readers[value].reader = i;
            note_reader(plan, readers, value, i);
        }
    }
    const struct graph *graph = plan->graph;
    for (int64_t i = 0; i < graph->num_outputs; i++) {
        readers[plan->first_value[graph->outputs[i].tensor->id]].count += 2;
        note_reader(plan, readers, plan->first_value[graph->outputs[i].tensor->id],
                    plan->num_steps);
    }
    for (int64_t i = 0; i < graph->num_parameters; i++) {
        const struct tensor *gradient = graph->parameters[i].gradient;
        if (!gradient) continue;
        readers[plan->first_value[gradient->id]].count += 2;
        note_reader(plan, readers, plan->first_value[gradient->id], plan->num_steps);
    }
    return readers;
}

/*
 * Whether step `index` may overwrite `value` with a sum that step `consumer` was to compute: it
 * exists by then, and everyone else has read it before.
 */
static bool may_add_into(const struct planner *planner, int value, int index, int consumer,
                         const struct readers *readers)
{
    const struct plan *plan = planner->plan;
    int def = plan->values[value].def;
    return def >= 0 && def < index && !step_is_view(&plan->steps[def]) &&
           plan->steps[def].phase != PLAN_PHASE_UPDATE && !planner->removed[def] &&
           readers[value].last == consumer && readers[value].previous < index;
}

static void fuse_step(struct planner *planner, int index, const struct readers *readers)
{
    struct plan *plan = planner->plan;
    struct plan_step *step = &plan->steps[index];
    if (!step->node->op->fuses || step->phase == PLAN_PHASE_UPDATE) return;
    int value = step->out[0];
    if (readers[value].count != 1) return;
    int next = readers[value].reader;
    struct plan_step *consumer = &plan->steps[next];
    if (planner->removed[next] || consumer->recomputed != step->recomputed) return;
    int input = consumer->in[0] == value ? 0 : 1;
    if (!step->node->op->fuses(step->node, consumer->node, input)) return;
    if (consumer->node->num_inputs == 2) {
        int other = consumer->in[1 - input];
        if (!may_add_into(planner, other, index, next, readers)) return;
        step->extra = other;
        step->kernel.adds = true;
    } else if (planner->graph->loss) {
        /* In training the value before the function is read again, unless it is recomputed; the
         * library's own GELU would then make the result depend on what is recomputed. */
        return;
    }
    step->kernel.epilogue = consumer->node;
    step->out[0] = consumer->out[0];
    plan->values[step->out[0]].def = index;
    planner->removed[next] = true;
}

/* Sums over all dimensions but the last, as they are. */
static bool is_column_sum(const struct node *node)
{
    if (node->op != &op_row_sum) return false;
    const struct range_attrs *attrs = NODE_ATTRS(node, struct range_attrs);
    return attrs->outer == 1 && attrs->scale == 1.0f && attrs->dtype == DTYPE_F32 &&
           attrs->inner == shape_columns(&node->inputs[0]->shape);
}

/* Lets the kernel that makes a value add up its columns, where step `index` was to do that. */
static void merge_sum(struct planner *planner, int index)
{
    struct plan *plan = planner->plan;
    const struct plan_step *step = &plan->steps[index];
    if (!planner->backend->sums || !is_column_sum(step->node)) return;
    /* Views keep the columns unless they split or join them. */
    int value = plan_value_root(plan, step->in[0]);
    const struct tensor *whole = plan->values[value].tensor;
    int def = plan->values[value].def;
    if (def < 0 || planner->removed[def]) return;
    struct plan_step *source = &plan->steps[def];
    if (source->out[0] != value || source->phase != step->phase || source->kernel.sums ||
        source->kernel.epilogue || !planner->backend->sums(source->node) ||
        tensor_bytes(whole) != tensor_bytes(step->node->inputs[0]) ||
        shape_columns(&whole->shape) != shape_columns(&step->node->inputs[0]->shape)) {
        return;
    }
    source->kernel.sums = true;
    source->out[source->node->num_outputs] = step->out[0];
    plan->values[step->out[0]].def = def;
    planner->removed[index] = true;
}

enum status plan_fuse(struct planner *planner)
{
    struct plan *plan = planner->plan;
    planner->removed = calloc((size_t)plan->num_steps + 1, sizeof(bool));
    if (!planner->removed) return OUT_OF_MEMORY;
    if (plan->options.no_fusion) return STATUS_OK;
    struct readers *readers = list_readers(plan);
    if (!readers) return OUT_OF_MEMORY;
    for (int i = 0; i < plan->num_steps; i++) {
        if (!planner->removed[i] && !step_is_view(&plan->steps[i])) {
            fuse_step(planner, i, readers);
        }
    }
    free(readers);
    for (int i = 0; i < plan->num_steps; i++) {
        if (!planner->removed[i]) merge_sum(planner, i);
    }
    return STATUS_OK;
}

/* ---- gradients into the flat vector ---- */

/*
 * The value whose buffer must be the gradient slot so that `gradient` ends up there, or -1 when it
 * has to be stored. That is the start of a chain of sums; with accumulation over micro-steps its
 * kernel has to be able to add to the slot.
 */
static int claimable(const struct planner *planner, int gradient)
{
    const struct plan *plan = planner->plan;
    int value = plan_value_root(plan, gradient);
    if (tensor_bytes(plan->values[value].tensor) != tensor_bytes(plan->values[gradient].tensor) ||
        plan->values[value].tensor->dtype != DTYPE_F32) {
        return -1;
    }
    for (int at = plan->values[value].def; at >= 0; at = plan->values[value].def) {
        if (plan->steps[at].extra < 0 || plan->steps[at].out[0] != value) break;
        value = plan->steps[at].extra;
    }
    int def = plan->values[value].def;
    if (def < 0 || step_is_view(&plan->steps[def]) || planner->claim[value] >= 0) return -1;
    if (plan->steps[def].phase == PLAN_PHASE_UPDATE) return -1;
    bool adds = plan->steps[def].node->op->flags & OP_ACCUMULATES;
    bool is_first = plan->steps[def].out[0] == value;
    return !plan->options.accumulate || (adds && is_first) ? value : -1;
}

/* Rewrites the steps without the merged ones and with a store after each gradient that needs one.
 */
static enum status compact(struct planner *planner, const int64_t *store_after)
{
    struct plan *plan = planner->plan;
    struct plan_step *old = plan->steps;
    int count = plan->num_steps;
    plan->steps = NULL;
    plan->num_steps = 0;
    planner->steps_capacity = 0;
    enum status status = STATUS_OK;
    for (int i = 0; i < count && status == STATUS_OK; i++) {
        if (planner->removed[i]) continue;
        if (planner_add_step(planner, &old[i]) < 0) status = OUT_OF_MEMORY;
        for (int64_t p = store_after[i]; p >= 0 && status == STATUS_OK;
             p = store_after[count + p]) {
            const struct tensor *gradient = planner->graph->parameters[p].gradient;
            struct plan_step store = {.phase = PLAN_PHASE_BACKWARD, .extra = -1, .scratch = -1};
            store.in[0] = plan->first_value[gradient->id];
            store.store = p;
            if (planner_add_step(planner, &store) < 0) status = OUT_OF_MEMORY;
        }
    }
    free(old);
    return status;
}

enum status plan_settle(struct planner *planner)
{
    struct plan *plan = planner->plan;
    const struct graph *graph = planner->graph;
    planner->claim = malloc(((size_t)plan->num_values + 1) * sizeof *planner->claim);
    /* Linked lists of parameters: heads by step, then the next one by parameter. */
    int64_t links = plan->num_steps + graph->num_parameters;
    int64_t *store_after = malloc(((size_t)links + 1) * sizeof *store_after);
    if (!planner->claim || !store_after) {
        free(store_after);
        return OUT_OF_MEMORY;
    }
    for (int i = 0; i < plan->num_values; i++) {
        planner->claim[i] = -1;
    }
    for (int64_t i = 0; i < links; i++) {
        store_after[i] = -1;
    }
    for (int64_t p = 0; p < graph->num_parameters; p++) {
        const struct tensor *gradient = graph->parameters[p].gradient;
        if (!gradient) continue;
        int value = plan->first_value[gradient->id];
        int slot = claimable(planner, value);
        if (slot >= 0) {
            planner->claim[slot] = p;
            struct plan_step *first = &plan->steps[plan->values[slot].def];
            first->kernel.accumulates = first->node->op->flags & OP_ACCUMULATES;
        } else {
            int def = plan->values[value].def;
            if (def < 0) def = plan->num_steps - 1;
            store_after[plan->num_steps + p] = store_after[def];
            store_after[def] = p;
        }
    }
    enum status status = compact(planner, store_after);
    free(store_after);
    if (status == STATUS_OK) plan_lifetimes(plan);
    return status;
}
