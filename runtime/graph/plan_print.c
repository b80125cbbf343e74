/* The plan as text and as JSON. */
#include <inttypes.h>
#include <stdlib.h>

#include "runtime/base/strbuf.h"
#include "runtime/graph/graph_impl.h"
#include "runtime/graph/plan_impl.h"

static const char *const class_names[PLAN_CLASS_COUNT] = {"parameters", "gradients", "inputs",
                                                          "per_update", "activations"};
static const char *const phase_names[] = {"update", "forward", "backward"};

struct plan_totals plan_totals(const struct plan *plan)
{
    struct plan_totals totals = {0};
    for (int i = 0; i < plan->num_steps; i++) {
        const struct plan_step *step = &plan->steps[i];
        if (!step->node || step->phase == PLAN_PHASE_UPDATE) continue;
        struct op_cost cost = node_cost(step->node);
        totals.bytes += cost.bytes;
        if (step->recomputed) {
            totals.recompute_flops += cost.flops;
        } else if (step->phase == PLAN_PHASE_FORWARD) {
            totals.forward_flops += cost.flops;
        } else {
            totals.backward_flops += cost.flops;
        }
    }
    totals.distinct_flops = totals.forward_flops + totals.backward_flops;
    totals.reduce_bytes =
        plan->graph->loss ? plan->graph->flat_elements * (int64_t)sizeof(float) : 0;
    return totals;
}

/* Sums over the steps of one op; returns their number. */
static int sum_op(const struct plan *plan, const struct op *op, struct op_cost *sum)
{
    int runs = 0;
    *sum = (struct op_cost){0};
    for (int i = 0; i < plan->num_steps; i++) {
        if (!plan->steps[i].node || plan->steps[i].node->op != op) continue;
        struct op_cost cost = node_cost(plan->steps[i].node);
        sum->flops += cost.flops;
        sum->bytes += cost.bytes;
        runs++;
    }
    return runs;
}

static void print_step(const struct plan *plan, int index, FILE *file)
{
    const struct plan_step *step = &plan->steps[index];
    if (!step->node) {
        fprintf(file, "%5d %-8s store gradient of %s\n", index, "backward",
                graph_parameter_at(plan->graph, step->store)->name);
        return;
    }
    char text[SHAPE_TEXT];
    const struct tensor *out = plan->values[step->out[0]].tensor;
    struct op_cost cost = node_cost(step->node);
    const struct plan_value *value = &plan->values[step->out[0]];
    const struct plan_buffer *buffer = &plan->buffers[value->buffer];
    fprintf(file, "%5d %-8s %-20s %-5s%-22s %9.3f MFLOP %9.3f MB  %s+%zu  %s%s%s%s\n", index,
            step->recomputed ? "again" : phase_names[step->phase], step->node->op->name,
            dtype_name(out->dtype), shape_format(&out->shape, text), cost.flops * 1e-6,
            cost.bytes * 1e-6, class_names[buffer->memory_class], buffer->offset + value->offset,
            step->kernel.adds ? "[adds] " : "",
            step->kernel.epilogue && !step->kernel.adds ? step->kernel.epilogue->op->name : "",
            step->kernel.epilogue && !step->kernel.adds ? " " : "", step->node->path);
}

/* ---- what is alive where memory is fullest ---- */

enum { PEAK_LINES = 40 };

struct live {
    size_t size;
    int buffer;
};

static int by_size(const void *a, const void *b)
{
    const struct live *p = a;
    const struct live *q = b;
    if (p->size != q->size) return p->size > q->size ? -1 : 1;
    return p->buffer - q->buffer;
}

static bool is_live(const struct plan_buffer *buffer, int step)
{
    return buffer->memory_class == PLAN_CLASS_STEP && buffer->first <= step && step <= buffer->last;
}

/* The step during which the buffers alive are largest together. */
static int peak_step(const struct plan *plan, size_t *change)
{
    for (int b = 0; b < plan->num_buffers; b++) {
        const struct plan_buffer *buffer = &plan->buffers[b];
        if (buffer->memory_class != PLAN_CLASS_STEP) continue;
        change[buffer->first < 0 ? 0 : buffer->first] += buffer->size;
        if (buffer->last + 1 < plan->num_steps) change[buffer->last + 1] -= buffer->size;
    }
    int peak = 0;
    size_t live = 0;
    size_t most = 0;
    for (int i = 0; i < plan->num_steps; i++) {
        live += change[i]; /* wraps around where it shrinks */
        if (live <= most) continue;
        most = live;
        peak = i;
    }
    return peak;
}

static const struct node *node_of_buffer(const struct plan *plan, int buffer)
{
    for (int i = 0; i < plan->num_steps; i++) {
        const struct plan_step *step = &plan->steps[i];
        if (step->scratch == buffer) return step->node;
        for (int k = 0; k < step_num_outputs(step); k++) {
            if (step->out[k] >= 0 && plan->values[step->out[k]].buffer == buffer) return step->node;
        }
    }
    return NULL;
}

static void print_live_ops(const struct plan *plan, const struct live *list, int count, FILE *file)
{
    fprintf(file, "by op:");
    for (int o = 0; o < op_count(); o++) {
        size_t size = 0;
        for (int i = 0; i < count; i++) {
            const struct node *node = node_of_buffer(plan, list[i].buffer);
            if (node && node->op == op_at(o)) size += list[i].size;
        }
        if (size > 0) fprintf(file, " %s %.1f", op_at(o)->name, (double)size / (1 << 20));
    }
    fputc('\n', file);
}

static void print_peak(const struct plan *plan, FILE *file)
{
    struct live *list = calloc((size_t)plan->num_buffers + 1, sizeof *list);
    size_t *change = calloc((size_t)plan->num_steps + 1, sizeof *change);
    int count = 0;
    int peak = list && change ? peak_step(plan, change) : 0;
    for (int b = 0; list && change && b < plan->num_buffers; b++) {
        if (is_live(&plan->buffers[b], peak)) {
            list[count++] = (struct live){plan->buffers[b].size, b};
        }
    }
    if (count > 0) {
        qsort(list, (size_t)count, sizeof *list, by_size);
        fprintf(file, "activations are largest at step %d, in %d buffers; the largest of them:\n",
                peak, count);
    }
    for (int i = 0; i < count && i < PEAK_LINES; i++) {
        const struct node *node = node_of_buffer(plan, list[i].buffer);
        const struct plan_buffer *buffer = &plan->buffers[list[i].buffer];
        fprintf(file, "%12.2f MiB  %5d to %5d  %-20s %s\n", (double)list[i].size / (1 << 20),
                buffer->first, buffer->last, node ? node->op->name : "", node ? node->path : "");
    }
    if (count > 0) print_live_ops(plan, list, count, file);
    free(list);
    free(change);
}

void plan_print(const struct plan *plan, FILE *file, bool detail)
{
    struct plan_totals totals = plan_totals(plan);
    size_t sum = 0;
    fprintf(file, "memory (MiB)\n");
    for (int c = 0; c < PLAN_CLASS_COUNT; c++) {
        fprintf(file, "  %-12s %12.2f\n", class_names[c], (double)plan->class_bytes[c] / (1 << 20));
        sum += plan->class_bytes[c];
    }
    fprintf(file, "  %-12s %12.2f   (activations: largest live sum %.2f)\n", "all",
            (double)sum / (1 << 20), (double)plan->step_peak / (1 << 20));
    fprintf(file,
            "FLOPs (G)     forward %.3f, backward %.3f, recomputed %.3f, executed %.3f, distinct "
            "%.3f\n",
            totals.forward_flops * 1e-9, totals.backward_flops * 1e-9,
            totals.recompute_flops * 1e-9, (totals.distinct_flops + totals.recompute_flops) * 1e-9,
            totals.distinct_flops * 1e-9);
    fprintf(file, "traffic       %.3f GB memory, %.3f MB gradients reduced in %d buckets\n",
            totals.bytes * 1e-9, (double)totals.reduce_bytes * 1e-6, plan->num_buckets);
    fprintf(file, "%-20s %7s %12s %12s\n", "op", "runs", "GFLOP", "GB");
    for (int o = 0; o < op_count(); o++) {
        struct op_cost cost;
        int runs = sum_op(plan, op_at(o), &cost);
        if (runs == 0 || (op_at(o)->flags & OP_VIEW)) continue;
        fprintf(file, "%-20s %7d %12.4f %12.4f\n", op_at(o)->name, runs, cost.flops * 1e-9,
                cost.bytes * 1e-9);
    }
    if (detail) print_peak(plan, file);
    for (int i = 0; detail && i < plan->num_steps; i++) {
        print_step(plan, i, file);
    }
}

/* ---- JSON ---- */

static void print_json_string(const char *text, FILE *file)
{
    struct strbuf buffer = {0};
    size_t length = 0;
    while (text[length]) {
        length++;
    }
    strbuf_append_json(&buffer, text, length);
    fputs(buffer.text ? buffer.text : "\"\"", file);
    strbuf_fini(&buffer);
}

static void print_json_step(const struct plan *plan, int index, FILE *file)
{
    const struct plan_step *step = &plan->steps[index];
    if (!step->node) {
        fprintf(file, "{\"op\":\"store_gradient\",\"phase\":\"backward\",\"parameter\":");
        print_json_string(graph_parameter_at(plan->graph, step->store)->name, file);
        fputc('}', file);
        return;
    }
    const struct tensor *out = plan->values[step->out[0]].tensor;
    struct op_cost cost = node_cost(step->node);
    const struct plan_buffer *buffer = &plan->buffers[plan->values[step->out[0]].buffer];
    fprintf(file,
            "{\"op\":\"%s\",\"phase\":\"%s\",\"recomputed\":%s,\"path\":", step->node->op->name,
            phase_names[step->phase], step->recomputed ? "true" : "false");
    print_json_string(step->node->path, file);
    fprintf(file, ",\"dtype\":\"%s\",\"shape\":[", dtype_name(out->dtype));
    for (int i = 0; i < out->shape.rank; i++) {
        fprintf(file, "%s%" PRId64, i ? "," : "", out->shape.dim[i]);
    }
    fprintf(file,
            "],\"flops\":%.0f,\"bytes\":%.0f,\"class\":\"%s\",\"offset\":%zu,\"epilogue\":\"%s\"}",
            cost.flops, cost.bytes, class_names[buffer->memory_class],
            buffer->offset + plan->values[step->out[0]].offset,
            step->kernel.epilogue ? step->kernel.epilogue->op->name : "");
}

void plan_print_json(const struct plan *plan, FILE *file, bool detail)
{
    struct plan_totals totals = plan_totals(plan);
    fprintf(file, "{\"memory\":{");
    for (int c = 0; c < PLAN_CLASS_COUNT; c++) {
        fprintf(file, "\"%s\":%zu,", class_names[c], plan->class_bytes[c]);
    }
    fprintf(file, "\"activations_live_peak\":%zu},", plan->step_peak);
    fprintf(file,
            "\"flops\":{\"forward\":%.0f,\"backward\":%.0f,\"recomputed\":%.0f,\"executed\":%.0f,"
            "\"distinct\":%.0f},",
            totals.forward_flops, totals.backward_flops, totals.recompute_flops,
            totals.distinct_flops + totals.recompute_flops, totals.distinct_flops);
    fprintf(file, "\"bytes_moved\":%.0f,\"reduce_bytes\":%" PRId64 ",\"buckets\":%d,\"ops\":[",
            totals.bytes, totals.reduce_bytes, plan->num_buckets);
    const char *separator = "";
    for (int o = 0; o < op_count(); o++) {
        struct op_cost cost;
        int runs = sum_op(plan, op_at(o), &cost);
        if (runs == 0) continue;
        fprintf(file, "%s{\"op\":\"%s\",\"runs\":%d,\"flops\":%.0f,\"bytes\":%.0f}", separator,
                op_at(o)->name, runs, cost.flops, cost.bytes);
        separator = ",";
    }
    fprintf(file, "]");
    if (detail) {
        fprintf(file, ",\"steps\":[");
        for (int i = 0; i < plan->num_steps; i++) {
            if (i) fputc(',', file);
            print_json_step(plan, i, file);
        }
        fprintf(file, "]");
    }
    fprintf(file, "}\n");
}
