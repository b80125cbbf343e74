/*
 * Whole steps: Swin-B at 384 px alone, forward and backward; and FIBER-Base with its objectives and
 * the update.
 *
 * The micro-batch is the largest of a few that fits. Time is that of the host between two runs that
 * have ended, as in training: with it the upload of inputs, and the reading of the loss. MFU is
 * FLOPs over the vendor's dense bf16 rate (over the measured product where we do not know the
 * device): executed FLOPs count recomputation, distinct ones count every different node once.
 * Memory is what the device has less of than before, all of it: library workspaces too.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/gpu_bench.h"
#include "bench/step.h"
#include "model/swin.h"
#include "runtime/ops/ops.h"

enum { MOST_RUNS = 32 };

struct measured {
    int batch;
    double seconds;
    double bytes;
    struct plan_totals totals;
};

static int by_value(const void *a, const void *b)
{
    double p = *(const double *)a;
    double q = *(const double *)b;
    return (p > q) - (p < q);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

/* Runs before those that count: launched, recorded, replayed. */
static int warm_up(const struct gpu_bench *bench)
{
    return bench->quick ? 1 : 4;
}

static int runs(const struct gpu_bench *bench)
{
    return bench->quick ? 2 : 12;
}

static void print_rows(const struct gpu_bench *bench, const char *name, const struct measured *m,
                       double mfu_bar)
{
    double peak = bench->peak > 0 ? bench->peak : bench->product[GPU_BF16];
    const char *of = bench->peak > 0 ? "the data sheet" : "the product measured here";
    double executed =
        m->totals.forward_flops + m->totals.backward_flops + m->totals.recompute_flops;
    char text[192];
    char note[160];
    snprintf(note, sizeof note, "micro-batch %d, %.2f ms", m->batch, 1e3 * m->seconds);
    gpu_bench_row(bench, (struct gpu_row){name, m->batch / m->seconds, "samples/s", 0, 0, 0, note});
    snprintf(text, sizeof text, "%s, executed", name);
    snprintf(note, sizeof note, "%.0f GFLOP a sample; ratio: MFU against %s",
             executed / m->batch * 1e-9, of);
    gpu_bench_row(bench, (struct gpu_row){text, executed / m->seconds * 1e-12, "TFLOP/s",
                                          peak * 1e-12, 0, 0, note});
    snprintf(text, sizeof text, "%s, distinct", name);
    snprintf(note, sizeof note, "%.0f GFLOP a sample; ratio: MFU against %s",
             m->totals.distinct_flops / m->batch * 1e-9, of);
    gpu_bench_row(bench, (struct gpu_row){text, m->totals.distinct_flops / m->seconds * 1e-12,
                                          "TFLOP/s", peak * 1e-12, 0, mfu_bar, note});
    snprintf(text, sizeof text, "%s, memory", name);
    gpu_bench_row(bench, (struct gpu_row){text, m->bytes * 1e-9, "GB", 0, 0, 0,
                                          "of the device, at the end of a step"});
}

/* ---- Swin ---- */

static struct swin swin_of(bool quick)
{
    if (quick) {
        return (struct swin){.image_size = 32,
                             .patch_size = 4,
                             .embed_dim = 16,
                             .depths = {1, 1, 1, 1},
                             .heads = {1, 1, 2, 2},
                             .window = 2,
                             .init_std = 0.02f};
    }
    return (struct swin){.image_size = 384,
                         .patch_size = 4,
                         .embed_dim = 128,
                         .depths = {2, 2, 18, 2},
                         .heads = {4, 8, 16, 32},
                         .window = 12,
                         .init_std = 0.02f};
}

static enum status record_swin(struct graph **graph, const struct gpu_bench *bench, int batch,
                               enum dtype dtype)
{
    struct swin swin = swin_of(bench->quick);
    swin.samples = batch;
    TRY(graph_create(graph, NULL));
    struct graph *g = *graph;
    int64_t side = swin.image_size;
    struct tensor *pixels = graph_input(g, "pixels", DTYPE_F32, SHAPE(batch, 3, side, side));
    struct tensor *x = swin_embed(g, &swin, op_cast(g, pixels, dtype));
    for (int64_t b = 0; b < swin_num_blocks(&swin); b++) {
        x = swin_block(g, &swin, b, x, NULL);
        x = swin_downsample_after(g, &swin, b, x);
    }
    CHECK(x, STATUS_INTERNAL, "%s", status_message());
    struct tensor *direction = graph_input(g, "direction", DTYPE_F32, x->shape);
    struct tensor *y = op_mul(g, op_cast(g, x, DTYPE_F32), direction);
    struct tensor *loss = op_sum(g, y, 0, x->shape.rank);
    graph_output(g, "loss", loss);
    return graph_differentiate(g, loss);
}

static enum status run_swin(struct gpu_bench *bench, const struct graph *graph,
                            struct executor *executor, struct measured *m)
{
    double seconds[MOST_RUNS];
    size_t used = 0;
    for (int64_t i = 0; i < graph_num_inputs(graph); i++) {
        const struct tensor *input = graph_input_at(graph, i)->tensor;
        float *data = executor_data(executor, input);
        for (int64_t k = 0; k < shape_count(&input->shape); k++) {
            data[k] = (float)(k % 17) * 0.125f - 1;
        }
    }
    for (int i = -warm_up(bench); i < runs(bench); i++) {
        double start = bench_now();
        TRY(executor_run(executor, &(struct executor_run){0}));
        TRY(executor_wait(executor));
        if (i >= 0) seconds[i] = bench_now() - start;
    }
    TRY(gpu_bench_used(&used));
    m->seconds = median(seconds, runs(bench));
    m->bytes = (double)used - m->bytes;
    m->totals = plan_totals(executor_plan(executor));
    return STATUS_OK;
}

static enum status measure_swin(struct gpu_bench *bench, int batch, struct measured *m)
{
    struct graph *graph = NULL;
    struct executor *executor = NULL;
    size_t before = 0;
    enum status status = gpu_bench_used(&before);
    *m = (struct measured){.batch = batch, .bytes = (double)before};
    if (status == STATUS_OK) status = record_swin(&graph, bench, batch, DTYPE_BF16);
    if (status == STATUS_OK) {
        status =
            executor_create(&executor, graph, &(struct executor_options){.device = DEVICE_CUDA});
    }
    if (status == STATUS_OK) status = executor_init_parameters(executor);
    if (status == STATUS_OK) status = run_swin(bench, graph, executor, m);
    executor_destroy(&executor);
    graph_destroy(&graph);
    return status;
}

enum status gpu_swin(struct gpu_bench *bench, int batch)
{
    struct measured m;
    enum status status = measure_swin(bench, batch, &m);
    while (status == STATUS_NO_MEMORY && batch > 1) {
        batch /= 2;
        status = measure_swin(bench, batch, &m);
    }
    TRY(status);
    print_rows(bench, "Swin-B/384 bf16 forward + backward", &m, 0.3);
    return STATUS_OK;
}

/* ---- FIBER-Base ---- */

static enum status measure_step(struct gpu_bench *bench, const struct bench_step_options *options,
                                struct measured *m)
{
    double seconds[MOST_RUNS];
    size_t before = 0;
    size_t used = 0;
    TRY(gpu_bench_used(&before));
    struct bench_step step;
    enum status status = bench_step_init(&step, options);
    for (int i = -warm_up(bench); status == STATUS_OK && i < runs(bench); i++) {
        double start = bench_now();
        status = bench_step_run(&step, i + warm_up(bench));
        if (i >= 0) seconds[i] = bench_now() - start;
    }
    if (status == STATUS_OK) status = gpu_bench_used(&used);
    if (status == STATUS_OK) {
        *m = (struct measured){.batch = (int)options->micro,
                               .seconds = median(seconds, runs(bench)),
                               .bytes = (double)used - (double)before,
                               .totals = plan_totals(executor_plan(step.executor))};
    }
    bench_step_fini(&step);
    return status;
}

enum status gpu_step(struct gpu_bench *bench, int batch)
{
    static const struct {
        const char *name, *recompute, *share;
    } ways[] = {
        {"FIBER-Base step bf16, shared prefixes", "none", "true"},
        {"FIBER-Base step bf16, nothing shared", "none", "false"},
        {"FIBER-Base step bf16, shared prefixes, recomputed blocks", "blocks", "true"},
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct bench_step_options options = {.micro = batch,
                                             .device = DEVICE_CUDA,
                                             .precision = "bf16",
                                             .recompute = ways[i].recompute,
                                             .share = ways[i].share,
                                             .tiny = bench->quick};
        struct measured m;
        enum status status = measure_step(bench, &options, &m);
        while (status == STATUS_NO_MEMORY && options.micro > 1) {
            options.micro /= 2;
            status = measure_step(bench, &options, &m);
        }
        TRY(status);
        print_rows(bench, ways[i].name, &m, 0);
    }
    return STATUS_OK;
}
