/* The plan as text and as JSON. */
#include <inttypes.h>

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
