/*
 * Lifetimes, buffers and offsets.
 *
 * A buffer is the memory of one value, of its views, and of values that overwrite it in place. Step
 * buffers get offsets greedily by size: the largest first, each at the lowest offset that is free
 * during its whole life. That is within a few per cent of the lower bound (the largest sum of live
 * bytes) on transformer steps; plan_print shows both.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/graph/graph_impl.h"
#include "runtime/graph/plan_impl.h"

static size_t aligned(const struct plan *plan, size_t size)
{
    return (size + plan->alignment - 1) / plan->alignment * plan->alignment;
}

static int step_num_inputs(const struct plan_step *step)
{
    return step->node ? step->node->num_inputs : 1;
}

void plan_lifetimes(struct plan *plan)
{
    for (int i = 0; i < plan->num_values; i++) {
        plan->values[i].def = -1;
        plan->values[i].last = -1;
    }
    for (int i = 0; i < plan->num_steps; i++) {
        const struct plan_step *step = &plan->steps[i];
        for (int k = 0; k < step_num_outputs(step); k++) {
            plan->values[step->out[k]].def = i;
            plan->values[step->out[k]].last = i;
        }
        for (int k = 0; k < step_num_inputs(step); k++) {
            plan->values[step->in[k]].last = i;
        }
        if (step->extra >= 0) plan->values[step->extra].last = i;
    }
    const struct graph *graph = plan->graph;
    for (int64_t i = 0; i < graph->num_outputs; i++) {
        plan->values[plan->first_value[graph->outputs[i].tensor->id]].last = plan->num_steps;
    }
}

/* Puts a value into a buffer and stretches the buffer's life over the value's. */
static void join(struct plan *plan, int value, int buffer, size_t offset)
{
    struct plan_value *v = &plan->values[value];
    struct plan_buffer *b = &plan->buffers[buffer];
    v->buffer = buffer;
    v->offset = offset;
    if (v->last > b->last) b->last = v->last;
}

static int new_buffer(struct planner *planner, int value, enum plan_class memory_class)
{
    struct plan *plan = planner->plan;
    int buffer =
        planner_add_buffer(planner, memory_class, tensor_bytes(plan->values[value].tensor));
    if (buffer < 0) return -1;
    plan->buffers[buffer].first = plan->values[value].def;
    join(plan, value, buffer, 0);
    return buffer;
}

/*
 * Whether another input of the step is a part of `buffer` (a view of some rows). Kernels that work
 * in place read each element before they write it, but know nothing of such an overlap.
 */
static bool has_part_of(const struct plan *plan, const struct plan_step *step, int buffer)
{
    for (int k = 0; k < step->node->num_inputs; k++) {
        const struct plan_value *input = &plan->values[step->in[k]];
        if (input->buffer == buffer && tensor_bytes(input->tensor) != plan->buffers[buffer].size) {
            return true;
        }
    }
    return false;
}

/* A dying input that output 0 may overwrite: its buffer, or -1. */
static int inplace_buffer(const struct plan *plan, const struct plan_step *step, int index)
{
    if (plan->options.no_fusion) return -1;
    size_t size = tensor_bytes(plan->values[step->out[0]].tensor);
    for (int k = 0; k < 2; k++) {
        unsigned flag = k == 0 ? OP_INPLACE_0 : OP_INPLACE_1;
        if (!(step->node->op->flags & flag) || k >= step->node->num_inputs) continue;
        const struct plan_value *input = &plan->values[step->in[k]];
        const struct plan_buffer *buffer = &plan->buffers[input->buffer];
        if (buffer->memory_class == PLAN_CLASS_STEP && buffer->last == index &&
            buffer->size == size && input->offset == 0 && !has_part_of(plan, step, input->buffer)) {
            return input->buffer;
        }
    }
    return -1;
}

static enum status place_output(struct planner *planner, int index, int k)
{
    struct plan *plan = planner->plan;
    struct plan_step *step = &plan->steps[index];
    int value = step->out[k];
    if (step_is_view(step)) {
        const struct plan_value *base = &plan->values[step->in[0]];
        size_t offset = step->node->op->view_offset ? step->node->op->view_offset(step->node) : 0;
        join(plan, value, base->buffer, base->offset + offset);
        return STATUS_OK;
    }
    int buffer = -1;
    if (planner->claim[value] >= 0) {
        buffer = new_buffer(planner, value, PLAN_CLASS_GRADIENT);
        if (buffer >= 0) {
            const struct parameter *p = &planner->graph->parameters[planner->claim[value]];
            plan->buffers[buffer].offset = (size_t)p->offset * sizeof(float);
            plan->buffers[buffer].last = plan->num_steps;
        }
    } else if (k == 0 && step->extra >= 0) {
        buffer = plan->values[step->extra].buffer;
        join(plan, value, buffer, plan->values[step->extra].offset);
    } else if (step->phase == PLAN_PHASE_UPDATE) {
        buffer = new_buffer(planner, value, PLAN_CLASS_UPDATE);
    } else {
        buffer = k == 0 ? inplace_buffer(plan, step, index) : -1;
        if (buffer >= 0) {
            join(plan, value, buffer, 0);
        } else {
            buffer = new_buffer(planner, value, PLAN_CLASS_STEP);
        }
    }
    CHECK(buffer >= 0, STATUS_NO_MEMORY, "plan: out of memory");
    return STATUS_OK;
}

static enum status place_sources(struct planner *planner)
{
    struct plan *plan = planner->plan;
    const struct graph *graph = planner->graph;
    for (int64_t i = 0; i < graph->num_parameters; i++) {
        int value = plan->first_value[graph->parameters[i].tensor->id];
        int buffer = new_buffer(planner, value, PLAN_CLASS_PARAMETER);
        CHECK(buffer >= 0, STATUS_NO_MEMORY, "plan: out of memory");
        plan->buffers[buffer].offset = (size_t)graph->parameters[i].offset * sizeof(float);
    }
    for (int64_t i = 0; i < graph->num_inputs; i++) {
        int value = plan->first_value[graph->inputs[i].tensor->id];
        CHECK(new_buffer(planner, value, PLAN_CLASS_INPUT) >= 0, STATUS_NO_MEMORY,
              "plan: out of memory");
    }
    return STATUS_OK;
}

static int by_size(const void *a, const void *b, void *buffers)
{
    int x = *(const int *)a;
    int y = *(const int *)b;
    const struct plan_buffer *all = buffers;
    if (all[x].size != all[y].size) return all[x].size < all[y].size ? 1 : -1;
    return x < y ? -1 : 1;
}

static bool lives_overlap(const struct plan_buffer *a, const struct plan_buffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Gives `buffer` the lowest free offset. `placed` is sorted by offset and gains the buffer. */
static void place_lowest(struct plan *plan, int buffer, int *placed, int count)
{
    struct plan_buffer *b = &plan->buffers[buffer];
    size_t size = aligned(plan, b->size);
    size_t offset = 0;
    for (int i = 0; i < count; i++) {
        const struct plan_buffer *other = &plan->buffers[placed[i]];
        if (!lives_overlap(b, other)) continue;
        if (other->offset >= offset + size) break;
        size_t end = other->offset + aligned(plan, other->size);
        if (end > offset) offset = end;
    }
    b->offset = offset;
    int at = count;
    while (at > 0 && plan->buffers[placed[at - 1]].offset > offset) {
        placed[at] = placed[at - 1];
        at--;
    }
    placed[at] = buffer;
    if (offset + size > plan->class_bytes[PLAN_CLASS_STEP]) {
        plan->class_bytes[PLAN_CLASS_STEP] = offset + size;
    }
}

static enum status place_step_buffers(struct plan *plan)
{
    int *order = malloc(((size_t)plan->num_buffers + 1) * sizeof *order);
    int *placed = malloc(((size_t)plan->num_buffers + 1) * sizeof *placed);
    if (!order || !placed) {
        free(order);
        free(placed);
        return status_fail(STATUS_NO_MEMORY, "plan: out of memory");
    }
    int count = 0;
    for (int i = 0; i < plan->num_buffers; i++) {
        if (plan->buffers[i].memory_class == PLAN_CLASS_STEP) order[count++] = i;
    }
    qsort_r(order, (size_t)count, sizeof *order, by_size, plan->buffers);
    for (int i = 0; i < count; i++) {
        if (plan->options.no_reuse) {
            plan->buffers[order[i]].offset = plan->class_bytes[PLAN_CLASS_STEP];
            plan->class_bytes[PLAN_CLASS_STEP] += aligned(plan, plan->buffers[order[i]].size);
        } else {
            place_lowest(plan, order[i], placed, i);
        }
    }
    free(order);
    free(placed);
    return STATUS_OK;
}

/* The largest sum of live step buffers over all steps. */
static enum status find_peak(struct plan *plan)
{
    int64_t *change = calloc((size_t)plan->num_steps + 2, sizeof *change);
    CHECK(change, STATUS_NO_MEMORY, "plan: out of memory");
    for (int i = 0; i < plan->num_buffers; i++) {
        const struct plan_buffer *b = &plan->buffers[i];
        if (b->memory_class != PLAN_CLASS_STEP) continue;
        change[b->first] += (int64_t)aligned(plan, b->size);
        if (b->last < plan->num_steps) change[b->last + 1] -= (int64_t)aligned(plan, b->size);
    }
    int64_t live = 0;
    for (int i = 0; i < plan->num_steps; i++) {
        live += change[i];
        if ((size_t)live > plan->step_peak) plan->step_peak = (size_t)live;
    }
    free(change);
    return STATUS_OK;
}

enum status plan_memory(struct planner *planner)
{
    struct plan *plan = planner->plan;
    TRY(place_sources(planner));
    for (int i = 0; i < plan->num_steps; i++) {
        struct plan_step *step = &plan->steps[i];
        for (int k = 0; k < step_num_outputs(step); k++) {
            TRY(place_output(planner, i, k));
        }
        if (step->kernel.scratch_size) {
            step->scratch = planner_add_buffer(planner, PLAN_CLASS_STEP, step->kernel.scratch_size);
            CHECK(step->scratch >= 0, STATUS_NO_MEMORY, "plan: out of memory");
            plan->buffers[step->scratch].first = i;
            plan->buffers[step->scratch].last = i;
        }
    }
    for (int i = 0; i < plan->num_buffers; i++) {
        struct plan_buffer *b = &plan->buffers[i];
        if (b->memory_class == PLAN_CLASS_INPUT || b->memory_class == PLAN_CLASS_UPDATE) {
            b->offset = plan->class_bytes[b->memory_class];
            plan->class_bytes[b->memory_class] += aligned(plan, b->size);
        }
    }
    size_t flat = (size_t)planner->graph->flat_elements * sizeof(float);
    plan->class_bytes[PLAN_CLASS_PARAMETER] = flat;
    plan->class_bytes[PLAN_CLASS_GRADIENT] = planner->graph->loss ? flat : 0;
    TRY(place_step_buffers(plan));
    return find_peak(plan);
}

/* ---- gradient buckets ---- */

/* The step that completes the gradient of a parameter, -1 when it has none. */
static int gradient_ready(const struct planner *planner, int64_t index)
{
    const struct plan *plan = planner->plan;
    const struct tensor *gradient = planner->graph->parameters[index].gradient;
    if (!gradient) return -1;
    for (int i = plan->num_steps - 1; i >= 0; i--) {
        if (!plan->steps[i].node && plan->steps[i].store == index) return i;
    }
    return plan->values[plan_value_root(plan, plan->first_value[gradient->id])].def;
}

static int by_ready(const void *a, const void *b)
{
    const struct plan_bucket *x = a;
    const struct plan_bucket *y = b;
    if (x->ready != y->ready) return x->ready < y->ready ? -1 : 1;
    return x->offset > y->offset ? -1 : 1;
}

enum status plan_buckets(struct planner *planner)
{
    struct plan *plan = planner->plan;
    const struct graph *graph = planner->graph;
    if (!graph->loss || graph->flat_elements == 0) return STATUS_OK;
    int64_t elements = graph->flat_elements;
    int64_t size = plan->options.bucket_bytes / (int64_t)sizeof(float);
    size = size < PARAMETER_ALIGN ? PARAMETER_ALIGN : size / PARAMETER_ALIGN * PARAMETER_ALIGN;
    int64_t most = elements / size + plan->options.num_slices + 1;
    plan->buckets = calloc((size_t)most, sizeof *plan->buckets);
    CHECK(plan->buckets, STATUS_NO_MEMORY, "plan: out of memory");
    for (int64_t s = 0; s < plan->options.num_slices; s++) {
        int64_t begin = plan_slice_begin(elements, plan->options.num_slices, s);
        int64_t end = plan_slice_begin(elements, plan->options.num_slices, s + 1);
        for (; begin < end; begin += size) {
            int64_t count = end - begin < size ? end - begin : size;
            plan->buckets[plan->num_buckets++] = (struct plan_bucket){begin, count, (int)s, -1};
        }
    }
    for (int64_t p = 0; p < graph->num_parameters; p++) {
        const struct parameter *parameter = &graph->parameters[p];
        int ready = gradient_ready(planner, p);
        for (int b = 0; b < plan->num_buckets; b++) {
            struct plan_bucket *bucket = &plan->buckets[b];
            if (bucket->offset < parameter->offset + parameter->count &&
                parameter->offset < bucket->offset + bucket->count && ready > bucket->ready) {
                bucket->ready = ready;
            }
        }
    }
    qsort(plan->buckets, (size_t)plan->num_buckets, sizeof *plan->buckets, by_ready);
    return STATUS_OK;
}

/* ---- checks ---- */

static enum status verify_reads(const struct plan *plan, int index)
{
    const struct plan_step *step = &plan->steps[index];
    for (int k = 0; k < step_num_inputs(step); k++) {
        const struct plan_value *value = &plan->values[step->in[k]];
        CHECK(value->def < index, STATUS_INTERNAL, "plan: step %d reads value %d before it exists",
              index, step->in[k]);
        CHECK(plan->buffers[value->buffer].last >= index, STATUS_INTERNAL,
              "plan: step %d reads value %d after its memory was given up", index, step->in[k]);
    }
    return STATUS_OK;
}

enum status plan_verify(const struct plan *plan)
{
    for (int i = 0; i < plan->num_steps; i++) {
        TRY(verify_reads(plan, i));
    }
    for (int i = 0; i < plan->num_buffers; i++) {
        const struct plan_buffer *a = &plan->buffers[i];
        CHECK(a->offset + a->size <= plan->class_bytes[a->memory_class], STATUS_INTERNAL,
              "plan: buffer %d leaves its class", i);
        for (int j = 0; j < i; j++) {
            const struct plan_buffer *b = &plan->buffers[j];
            if (a->memory_class != b->memory_class) continue;
            if (a->memory_class == PLAN_CLASS_STEP && !lives_overlap(a, b)) continue;
            CHECK(a->offset + a->size <= b->offset || b->offset + b->size <= a->offset,
                  STATUS_INTERNAL, "plan: buffers %d and %d overlap while both are live", j, i);
        }
    }
    return STATUS_OK;
}
