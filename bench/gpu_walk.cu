/*
 * Every op of a plan, timed where it stands: the step is run op by op on the device's memory of an
 * executor, and the first of each kind (op, types, shapes, what is fused to it) is run several
 * times before the next. So inputs are what they are in training. Ops that work in place compute
 * on their own results then, which changes numbers but no work.
 *
 * An op's ceiling is what its bytes take at copy bandwidth, or its FLOPs at the rate of a large
 * product, whichever is longer; rows say which. Bars: 0.85 for ops bound by memory, 0.6 and 0.5 for
 * attention forward and backward; for products see gpu_products.cu. Ops whose ceiling is below
 * 10 microseconds have none: a launch takes as long.
 */
#include <algorithm>
#include <stdio.h>
#include <string.h>
#include <string>
#include <vector>

#include "bench/gpu_bench.h"
#include "runtime/backend/cuda/cuda_op.h"
#include "runtime/backend/cuda/kernel.cuh"
#include "runtime/backend/executor_impl.h"

extern "C" bool step_is_view(const struct plan_step *step);

/* One kind of op. */
struct entry {
    std::string name;
    const struct node *node;
    double flops, bytes; /* of one run */
    double seconds;
    int64_t runs; /* in the step */
};

struct walk {
    struct gpu_bench *bench;
    struct executor *executor;
    struct cuda_values *values;
    int32_t *fault;
    struct cuda_host host;
    std::vector<entry> entries;
};

static void fill_run(const struct walk *walk, int index, struct cuda_run *run)
{
    memset(run, 0, sizeof *run);
    run->stream = walk->bench->stream;
    run->values = walk->values;
    run->fault = walk->fault;
    run->number = index;
    run->seed = walk->executor->options.seed;
    run->host = const_cast<struct cuda_host *>(&walk->host);
}

struct one {
    const struct walk *walk;
    int index;
};

static enum status enqueue_one(void *user, cudaStream_t stream)
{
    const struct one *one = (const struct one *)user;
    struct plan_step *step = &one->walk->executor->plan->steps[one->index];
    struct cuda_run run;
    fill_run(one->walk, one->index, &run);
    run.stream = stream;
    return cuda_op_find(step->node->op)->run(&step->kernel, &run);
}

static std::string describe(const struct plan_step *step)
{
    const struct node *node = step->node;
    char text[SHAPE_TEXT];
    std::string name = node->op->name;
    name += std::string(" ") + dtype_name(node->outputs[0].dtype);
    for (int i = 0; i < node->num_inputs && i < 3; i++) {
        name += std::string(" ") + shape_format(&node->inputs[i]->shape, text);
    }
    name += std::string(" to ") + shape_format(&node->outputs[0].shape, text);
    if (step->kernel.epilogue) {
        name += std::string(", ") + (step->kernel.adds ? "sum" : step->kernel.epilogue->op->name);
    }
    return name;
}

static int find(const struct walk *walk, const std::string &name)
{
    for (size_t i = 0; i < walk->entries.size(); i++) {
        if (walk->entries[i].name == name) return (int)i;
    }
    return -1;
}

static void mark(struct gpu_bench *bench, const struct op *op)
{
    for (int i = 0; i < op_count() && i < (int)(sizeof bench->timed); i++) {
        if (op_at(i) == op) bench->timed[i] = true;
    }
}

/* Runs step `index` of the plan, several times when nothing like it was timed before. */
static enum status walk_step(struct walk *walk, int index)
{
    struct plan_step *step = &walk->executor->plan->steps[index];
    struct one one = {walk, index};
    if (!step->node || step_is_view(step)) return STATUS_OK;
    std::string name = describe(step);
    int at = find(walk, name);
    if (at >= 0) {
        walk->entries[at].runs++;
        return enqueue_one(&one, walk->bench->stream);
    }
    entry e = {};
    e.name = name;
    e.node = step->node;
    e.runs = 1;
    struct op_cost cost = node_cost(step->node);
    e.flops = cost.flops;
    e.bytes = cost.bytes;
    TRY(gpu_bench_time(walk->bench, gpu_work{enqueue_one, &one}, walk->bench->repeats, &e.seconds));
    walk->entries.push_back(e);
    mark(walk->bench, step->node->op);
    return STATUS_OK;
}

static enum status walk_phases(struct walk *walk)
{
    const struct plan *plan = walk->executor->plan;
    for (int update = 1; update >= 0; update--) {
        for (int i = 0; i < plan->num_steps; i++) {
            if ((plan->steps[i].phase == PLAN_PHASE_UPDATE) != (update == 1)) continue;
            enum status status = walk_step(walk, i);
            if (status != STATUS_OK) {
                return status_prefix(status, "step %d of the plan", i);
            }
        }
    }
    CUDA_TRY(cudaStreamSynchronize(walk->bench->stream));
    int32_t fault = 0;
    CUDA_TRY(cudaMemcpy(&fault, walk->fault, sizeof fault, cudaMemcpyDeviceToHost));
    CHECK(fault == CUDA_NO_FAULT, STATUS_INTERNAL, "step %d of the plan reports bad data", fault);
    return STATUS_OK;
}

/* ---- rows ---- */

static double limit_of(const struct gpu_bench *bench, const entry &e, bool *by_memory)
{
    bool is_f32 = e.node->outputs[0].dtype == DTYPE_F32 && e.node->num_inputs > 0 &&
                  e.node->inputs[0]->dtype == DTYPE_F32;
    double product = bench->product[is_f32 ? GPU_F32 : GPU_BF16];
    double memory = bench->copy > 0 ? e.bytes / bench->copy : 0;
    double compute = product > 0 ? e.flops / product : 0;
    *by_memory = memory >= compute;
    return *by_memory ? memory : compute;
}

static bool starts_with(const entry &e, const char *part)
{
    return e.name.compare(0, strlen(part), part) == 0;
}

static double bar_of(const entry &e, double limit, bool by_memory)
{
    if (limit < 10e-6) return 0;
    if (starts_with(e, "attention_grad ")) return 0.5;
    if (starts_with(e, "attention ")) return 0.6;
    if (starts_with(e, "linear") || starts_with(e, "matmul") || !by_memory) return 0;
    return 0.85;
}

static void print_entry(const struct walk *walk, const entry &e, double all)
{
    bool by_memory;
    double limit = limit_of(walk->bench, e, &by_memory);
    char note[96];
    snprintf(note, sizeof note, "%.1f us x %lld, %.1f %% of the step", 1e6 * e.seconds,
             (long long)e.runs, 100 * e.seconds * (double)e.runs / all);
    struct gpu_row row = {};
    row.name = e.name.c_str();
    row.figure = by_memory ? e.bytes / e.seconds * 1e-9 : e.flops / e.seconds * 1e-12;
    row.unit = by_memory ? "GB/s" : "TFLOP/s";
    row.ceiling = limit > 0 ? row.figure * e.seconds / limit : 0;
    row.bar = bar_of(e, limit, by_memory);
    row.note = note;
    gpu_bench_row(walk->bench, row);
}

static void print(struct walk *walk, const char *label, int rows)
{
    double all = 0;
    double limits = 0;
    for (const entry &e : walk->entries) {
        bool by_memory;
        all += e.seconds * (double)e.runs;
        limits += limit_of(walk->bench, e, &by_memory) * (double)e.runs;
    }
    std::sort(walk->entries.begin(), walk->entries.end(), [](const entry &a, const entry &b) {
        return a.seconds * (double)a.runs > b.seconds * (double)b.runs;
    });
    for (size_t i = 0; i < walk->entries.size() && (int)i < rows; i++) {
        print_entry(walk, walk->entries[i], all);
    }
    char name[160];
    char note[96];
    snprintf(name, sizeof name, "%s: all ops, one by one", label);
    snprintf(note, sizeof note, "%zu kinds; ceiling: the sum of theirs", walk->entries.size());
    struct gpu_row row = {name, 1e3 * all, "ms", 1e3 * limits, 0, 0, note};
    row.ratio = all > 0 ? limits / all : 0;
    gpu_bench_row(walk->bench, row);
}

/* ---- the walk ---- */

static enum status prepare(struct walk *walk)
{
    struct cuda_values values = {};
    int32_t fault = CUDA_NO_FAULT;
    CUDA_TRY(cudaMalloc((void **)&walk->values, sizeof values));
    CUDA_TRY(cudaMalloc((void **)&walk->fault, sizeof fault));
    CUDA_TRY(cudaMemcpy(walk->values, &values, sizeof values, cudaMemcpyHostToDevice));
    CUDA_TRY(cudaMemcpy(walk->fault, &fault, sizeof fault, cudaMemcpyHostToDevice));
    /* Brings inputs and parameters to the device, and loads every kernel. */
    struct executor_run run = {};
    TRY(executor_run(walk->executor, &run));
    return executor_wait(walk->executor);
}

extern "C" enum status gpu_walk(struct gpu_bench *bench, struct executor *executor,
                                const char *label, int rows)
{
    struct walk walk = {};
    walk.bench = bench;
    walk.executor = executor;
    enum status status = prepare(&walk);
    if (status == STATUS_OK) status = walk_phases(&walk);
    if (status == STATUS_OK) print(&walk, label, rows);
    cudaFree(walk.values);
    cudaFree(walk.fault);
    return status;
}
