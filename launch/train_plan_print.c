#include <inttypes.h>
#include <string.h>

#include "launch/train_plan.h"

static const char *const memory_names[TRAIN_MEMORY_COUNT] = {
    "parameters", "gradients", "moments",     "ema",   "casts",
    "packed",     "inputs",    "activations", "queue", "loader"};
static const char *const memory_helps[TRAIN_MEMORY_COUNT] = {
    "f32",
    "f32",
    "first and second, f32",
    "moving average of the parameters",
    "of parameters, once per update",
    "weights in the layout of the matrix library",
    "of a micro-batch",
    "with everything kept for the backward pass",
    "numbers of earlier samples; their features are inputs",
    "batches made ahead",
};

/* ---- modules ---- */

enum { MAX_MODULES = 256, MODULE_NAME = 96 };

struct module {
    char name[MODULE_NAME];
    int64_t parameters;
    int64_t frozen; /* of them */
};

struct modules {
    struct module items[MAX_MODULES];
    int count;
};

/* Length of the first `parts` components of a dotted name, the last one never counted. */
static size_t prefix_length(const char *name, int parts)
{
    const char *last = strrchr(name, '.');
    const char *at = name;
    for (int i = 0; i < parts; i++) {
        const char *dot = strchr(at, '.');
        if (!dot) break;
        if (dot == last || i == parts - 1) return (size_t)(dot - name);
        at = dot + 1;
    }
    return last ? (size_t)(last - name) : strlen(name);
}

static void add_parameter(struct modules *modules, const struct parameter *p, size_t length)
{
    int i = 0;
    if (length >= MODULE_NAME) length = MODULE_NAME - 1;
    while (i < modules->count && (strncmp(modules->items[i].name, p->name, length) != 0 ||
                                  modules->items[i].name[length] != '\0')) {
        i++;
    }
    if (i == MAX_MODULES) i--; /* what is beyond goes into the last one */
    if (i == modules->count) {
        memcpy(modules->items[i].name, p->name, length);
        modules->items[i].name[length] = '\0';
        modules->count++;
    }
    modules->items[i].parameters += p->count;
    modules->items[i].frozen += p->trainable ? 0 : p->count;
}

static void find_modules(const struct graph *graph, int parts, struct modules *modules)
{
    memset(modules, 0, sizeof *modules);
    for (int64_t i = 0; i < graph_num_parameters(graph); i++) {
        const struct parameter *p = graph_parameter_at(graph, i);
        add_parameter(modules, p, prefix_length(p->name, parts));
    }
}

static void sum_modules(const struct modules *modules, int64_t *parameters, int64_t *frozen)
{
    *parameters = *frozen = 0;
    for (int i = 0; i < modules->count; i++) {
        *parameters += modules->items[i].parameters;
        *frozen += modules->items[i].frozen;
    }
}

static void print_module(const struct module *m, const char *indent, FILE *file)
{
    fprintf(file, "  %s%-*s %13" PRId64, indent, 36 - (int)strlen(indent), m->name, m->parameters);
    if (m->frozen) fprintf(file, "   %" PRId64 " frozen", m->frozen);
    fputc('\n', file);
}

static void print_modules(const struct graph *graph, FILE *file)
{
    static struct modules tops;
    static struct modules parts;
    int64_t all;
    int64_t frozen;
    find_modules(graph, 1, &tops);
    find_modules(graph, 2, &parts);
    sum_modules(&tops, &all, &frozen);
    fprintf(file, "parameters by module\n");
    for (int i = 0; i < tops.count; i++) {
        size_t length = strlen(tops.items[i].name);
        print_module(&tops.items[i], "", file);
        for (int k = 0; k < parts.count && tops.items[i].parameters > all / 100; k++) {
            const char *name = parts.items[k].name;
            if (strncmp(name, tops.items[i].name, length) == 0 && name[length] == '.') {
                print_module(&parts.items[k], "  ", file);
            }
        }
    }
    fprintf(file, "  %-36s %13" PRId64 "   %" PRId64 " trained, %" PRId64 " frozen\n", "all", all,
            all - frozen, frozen);
}

/* ---- text ---- */

static void print_memory(const struct train_plan *p, FILE *file)
{
    bool on_gpu = p->values->train.device == DEVICE_CUDA;
    fprintf(file, on_gpu ? "memory of a rank's GPU (MiB)\n" : "memory of a rank (MiB)\n");
    for (int i = 0; i < TRAIN_MEMORY_COUNT; i++) {
        bool of_host = i == TRAIN_MEMORY_QUEUE || i == TRAIN_MEMORY_LOADER;
        if (p->memory[i] == 0 || (on_gpu && of_host)) continue;
        fprintf(file, "  %-14s %12.1f   %s\n", memory_names[i], (double)p->memory[i] / (1 << 20),
                memory_helps[i]);
    }
    fprintf(file, "  %-14s %12.1f   %.2f GB; %s come on top\n", "peak", (double)p->peak / (1 << 20),
            (double)p->peak * 1e-9,
            on_gpu ? "the driver's and libraries' own" : "libraries and MPI");
    if (on_gpu) {
        fprintf(file, "  %-14s %12.1f   beside it: batches made ahead, and what is known of them\n",
                "host", (double)p->host / (1 << 20));
    }
    fprintf(file,
            "  %-14s %12.1f   at most, where a checkpoint is still being written when the next "
            "update is due\n",
            "staging", (double)p->staging / (1 << 20));
}

static void print_work(const struct train_plan *p, FILE *file)
{
    struct plan_totals totals = plan_totals(p->plan);
    double executed = totals.distinct_flops + totals.recompute_flops;
    double samples = (double)p->micro;
    double passes = (double)p->accumulate;
    fprintf(file, "work of a rank (GFLOP)    executed     distinct\n");
    fprintf(file, "  %-20s %12.1f %12.1f   recomputation counted, not counted\n", "sample",
            executed / samples * 1e-9, totals.distinct_flops / samples * 1e-9);
    fprintf(file, "  %-20s %12.1f %12.1f   %" PRId64 " samples\n", "micro-batch", executed * 1e-9,
            totals.distinct_flops * 1e-9, p->micro);
    fprintf(file, "  %-20s %12.1f %12.1f   %" PRId64 " micro-batches\n", "update",
            executed * passes * 1e-9, totals.distinct_flops * passes * 1e-9, p->accumulate);
}

static void print_communication(const struct train_plan *p, FILE *file)
{
    double all = p->gradient_bytes + p->parameter_bytes + p->collective_bytes;
    fprintf(file, "communication of a rank and update (MB handed to other ranks)\n");
    if (p->ranks == 1) {
        fprintf(file, "  none: one rank\n");
        return;
    }
    fprintf(file, "  %-14s %12.1f   in %d buckets\n", "gradients", p->gradient_bytes * 1e-6,
            p->plan->num_buckets);
    if (p->parameter_bytes > 0) {
        fprintf(file, "  %-14s %12.1f   gathered after a sharded update\n", "parameters",
                p->parameter_bytes * 1e-6);
    }
    fprintf(file, "  %-14s %12.1f   features, negatives, sums\n", "step",
            p->collective_bytes * 1e-6);
    fprintf(file, "  %-14s %12.1f\n", "all", all * 1e-6);
}

static void print_time(const struct train_plan *p, FILE *file)
{
    if (!p->probed) return;
    const struct machine_probe *probe = &p->probe;
    double seconds = p->pass_seconds + p->update_seconds;
    fprintf(file, "time of an update, estimated from this machine with %d threads\n",
            p->num_threads);
    fprintf(file,
            "  measured now: %s product [%" PRId64 ",%" PRId64 "] x [%" PRId64 ",%" PRId64
            "]: %.1f GFLOP/s; triad of 3 x %" PRId64 " MiB: %.1f GB/s\n",
            dtype_name(probe->dtype), probe->m, probe->k, probe->k, probe->n, probe->flops * 1e-9,
            probe->triad_length * 4 / (1 << 20), probe->bytes * 1e-9);
    fprintf(file, "  %-20s %9.3f s   every op at the rate of whichever binds it\n",
            "forward, backward", p->pass_seconds);
    fprintf(file, "  %-20s %9.3f s\n", "casts, optimiser", p->update_seconds);
    fprintf(file,
            "  %-20s %9.3f s   %.3f s a sample; at best: kernels below these rates and waiting for "
            "other ranks come on top\n",
            "update", seconds, seconds / (double)(p->micro * p->accumulate));
}

static void print_parameters(const struct train_plan *p, FILE *file)
{
    const struct graph *graph = p->step.graph;
    fprintf(file, "\n%-72s %-20s %12s  %-5s %-5s\n", "parameter", "shape", "elements", "lr x",
            "decay x");
    for (int64_t i = 0; i < graph_num_parameters(graph); i++) {
        const struct parameter *parameter = graph_parameter_at(graph, i);
        char shape[SHAPE_TEXT];
        double lr;
        double decay;
        optimizer_multipliers(&p->values->optimizer, parameter->name, &lr, &decay);
        fprintf(file, "%-72s %-20s %12" PRId64 "  %-5g %-5g%s\n", parameter->name,
                shape_format(&parameter->tensor->shape, shape), parameter->count, lr, decay,
                parameter->trainable ? "" : " frozen");
    }
}

void train_plan_print(const struct train_plan *p, FILE *file, bool detail)
{
    fprintf(file,
            "%s, %s%s; batch %" PRId64 " = %d ranks x %" PRId64 " x %" PRId64 "; %d planned ops\n",
            p->values->model.table->name, p->values->train.precision == TRAIN_BF16 ? "bf16" : "f32",
            p->values->train.device == DEVICE_CUDA ? " on GPUs" : "", p->values->batch.global,
            p->ranks, p->micro, p->accumulate, p->plan->num_steps);
    print_modules(p->step.graph, file);
    print_memory(p, file);
    print_work(p, file);
    print_communication(p, file);
    print_time(p, file);
    if (!detail) return;
    print_parameters(p, file);
    fputs("\nplan of a micro-batch\n", file);
    plan_print(p->plan, file, true);
}

/* ---- JSON ---- */

static void print_json_modules(const struct graph *graph, FILE *file)
{
    static struct modules tops;
    int64_t all;
    int64_t frozen;
    find_modules(graph, 1, &tops);
    sum_modules(&tops, &all, &frozen);
    fprintf(file, "\"parameters\":{\"all\":%" PRId64 ",\"frozen\":%" PRId64 ",\"modules\":{", all,
            frozen);
    for (int i = 0; i < tops.count; i++) {
        fprintf(file, "%s\"%s\":%" PRId64, i ? "," : "", tops.items[i].name,
                tops.items[i].parameters);
    }
    fputs("}},\n", file);
}

static void print_json_time(const struct train_plan *p, FILE *file)
{
    const struct machine_probe *probe = &p->probe;
    if (!p->probed) return;
    fprintf(file,
            "\"probe\":{\"dtype\":\"%s\",\"m\":%" PRId64 ",\"n\":%" PRId64 ",\"k\":%" PRId64
            ",\"flops_per_s\":%.0f,\"triad_bytes_per_s\":%.0f,\"threads\":%d},\n"
            "\"seconds\":{\"pass\":%.6f,\"update\":%.6f,\"all\":%.6f},\n",
            dtype_name(probe->dtype), probe->m, probe->n, probe->k, probe->flops, probe->bytes,
            p->num_threads, p->pass_seconds, p->update_seconds,
            p->pass_seconds + p->update_seconds);
}

void train_plan_print_json(const struct train_plan *p, FILE *file, bool detail)
{
    fprintf(file,
            "{\"ranks\":%d,\"micro\":%" PRId64 ",\"accumulate\":%" PRId64 ",\"global\":%" PRId64
            ",\n",
            p->ranks, p->micro, p->accumulate, p->values->batch.global);
    print_json_modules(p->step.graph, file);
    fputs("\"memory\":{", file);
    for (int i = 0; i < TRAIN_MEMORY_COUNT; i++) {
        fprintf(file, "\"%s\":%" PRId64 ",", memory_names[i], p->memory[i]);
    }
    if (p->values->train.device == DEVICE_CUDA) fprintf(file, "\"host\":%" PRId64 ",", p->host);
    fprintf(file, "\"peak\":%" PRId64 ",\"checkpoint_staging\":%" PRId64 "},\n", p->peak,
            p->staging);
    fprintf(file, "\"communication\":{\"gradients\":%.0f,\"parameters\":%.0f,\"step\":%.0f},\n",
            p->gradient_bytes, p->parameter_bytes, p->collective_bytes);
    print_json_time(p, file);
    fputs("\"micro_batch\":", file);
    plan_print_json(p->plan, file, detail);
    fputs("}\n", file);
}
