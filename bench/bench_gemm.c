/*
 * Matrix products of FIBER-Base as the plan runs them, against oneDNN called directly on the same
 * shapes in the same run.
 *
 * One row per layer shape and dtype: forward, input gradient and weight gradient together, 2 FLOPs
 * per multiply-add. The ceiling is the library's own time on plain row-major operands (no bias, no
 * epilogue), taken alternately with ours, the best of both each.
 */
#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "runtime/backend/cpu/dnnl_util.h"
#include "runtime/backend/cpu/matmul.h"
#include "runtime/backend/executor.h"
#include "runtime/ops/ops.h"

struct layer {
    const char *name;
    int64_t m, k, n;
};

/* Micro-batch 2 at 384 px and 40 tokens. */
static const struct layer layers[] = {
    {"stage0 qkv", 18432, 128, 384}, {"stage0 fc1", 18432, 128, 512},
    {"stage1 fc1", 4608, 256, 1024}, {"stage2 qkv", 1152, 512, 1536},
    {"stage2 proj", 1152, 512, 512}, {"stage2 fc1", 1152, 512, 2048},
    {"stage2 fc2", 1152, 2048, 512}, {"stage3 qkv", 288, 1024, 3072},
    {"stage3 fc1", 288, 1024, 4096}, {"text query", 80, 768, 768},
    {"text fc1", 80, 768, 3072},     {"text fc2", 80, 3072, 768},
};

/* A product straight through the library wrapper: plain layouts, nothing fused. */
struct direct {
    struct cpu_matmul *matmul;
    struct cpu_matmul_run run;
};

static struct direct direct_create(int64_t m, int64_t n, int64_t k, bool ta, bool tb,
                                   enum dtype dtype, enum dtype out)
{
    const struct cpu_matmul_spec spec = {.batch = 1,
                                         .m = m,
                                         .n = n,
                                         .k = k,
                                         .transpose_a = ta,
                                         .transpose_b = tb,
                                         .dtype_a = dtype,
                                         .dtype_b = dtype,
                                         .dtype_c = out};
    struct direct d = {0};
    size_t scratch = 0;
    bench_must(cpu_matmul_create(&d.matmul, &spec, &scratch));
    d.run.a = bench_memory((size_t)(m * k) * 4);
    d.run.b = bench_memory((size_t)(k * n) * 4);
    d.run.c = bench_memory((size_t)(m * n) * 4);
    d.run.scratch = bench_memory(scratch + 64);
    return d;
}

static void direct_destroy(struct direct *d)
{
    cpu_matmul_destroy(&d->matmul);
    free(d->run.a);
    free(d->run.b);
    free(d->run.c);
    free(d->run.scratch);
}

static double direct_time(struct direct *d)
{
    double start = bench_now();
    bench_must(cpu_matmul_run(d->matmul, &d->run));
    return bench_now() - start;
}

struct planned {
    struct graph *graph;
    struct executor *executor;
};

static struct planned planned_create(const struct layer *l, enum dtype dtype)
{
    struct planned p = {0};
    bench_must(graph_create(&p.graph, NULL));
    struct graph *g = p.graph;
    struct tensor *x = graph_parameter(g, "x", SHAPE(l->m, l->k), INIT(INIT_NORMAL, 1));
    struct tensor *w = graph_parameter(g, "w", SHAPE(l->n, l->k), INIT(INIT_NORMAL, 0.02f));
    struct tensor *b = graph_parameter(g, "b", SHAPE(l->n), INIT(INIT_ZEROS, 0));
    /* Twice, as the towers are, on different data; nothing is shared and no gradient is constant.
     */
    struct tensor *loss = NULL;
    for (int i = 0; i < 2; i++) {
        struct tensor *data = graph_input(g, i ? "data.1" : "data.0", DTYPE_F32, SHAPE(l->m, l->k));
        struct tensor *direction =
            graph_input(g, i ? "direction.1" : "direction.0", DTYPE_F32, SHAPE(l->m, l->n));
        struct tensor *y = op_linear(g, op_cast(g, op_add(g, x, data), dtype), w, b);
        y = op_sum(g, op_mul(g, op_cast(g, y, DTYPE_F32), direction), 0, 2);
        loss = loss ? op_add(g, loss, y) : y;
    }
    graph_output(g, "loss", loss);
    bench_must(graph_differentiate(g, loss));
    bench_must(executor_create(&p.executor, g, &(struct executor_options){.profile = true}));
    bench_must(executor_init_parameters(p.executor));
    return p;
}

/* Seconds of the products in one run of the step, halved: the layer is recorded twice. */
static double planned_time(struct planned *p)
{
    double before = 0;
    double after = 0;
    const struct plan *plan = executor_plan(p->executor);
    for (int pass = 0; pass < 2; pass++) {
        double *sum = pass ? &after : &before;
        if (pass) bench_must(executor_run(p->executor, &(struct executor_run){0}));
        for (int i = 0; i < plan->num_steps; i++) {
            if (!plan->steps[i].node) continue;
            const char *name = plan->steps[i].node->op->name;
            if (strncmp(name, "linear", 6) == 0) *sum += executor_profile(p->executor, i)->seconds;
        }
    }
    return (after - before) / 2;
}

static void bench_layer(const struct layer *l, enum dtype dtype)
{
    struct planned p = planned_create(l, dtype);
    struct direct forward = direct_create(l->m, l->n, l->k, false, true, dtype, dtype);
    struct direct input = direct_create(l->m, l->k, l->n, false, false, dtype, dtype);
    struct direct weight = direct_create(l->n, l->k, l->m, true, false, dtype, DTYPE_F32);
    double ours = 1e9;
    double best[3] = {1e9, 1e9, 1e9};
    double start = bench_now();
    for (int i = 0; i < 10 || bench_now() - start < 0.7; i++) {
        executor_parameters_changed(p.executor); /* as after an update: packing counts */
        bench_least(&ours, planned_time(&p));
        bench_least(&best[0], direct_time(&forward));
        bench_least(&best[1], direct_time(&input));
        bench_least(&best[2], direct_time(&weight));
    }
    double flops = 6.0 * (double)l->m * (double)l->k * (double)l->n;
    char name[128];
    snprintf(name, sizeof name, "gemm %s %s %lldx%lldx%lld", dtype_name(dtype), l->name,
             (long long)l->m, (long long)l->k, (long long)l->n);
    bench_row(name, flops / ours * 1e-9, "GFLOP/s", flops / (best[0] + best[1] + best[2]) * 1e-9,
              "oneDNN alone, plain layouts");
    direct_destroy(&forward);
    direct_destroy(&input);
    direct_destroy(&weight);
    executor_destroy(&p.executor);
    graph_destroy(&p.graph);
}

int main(void)
{
    for (int d = DTYPE_F32; d <= DTYPE_BF16; d++) {
        for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
            bench_layer(&layers[i], (enum dtype)d);
        }
    }
    return 0;
}
