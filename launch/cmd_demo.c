/*
 * weft demo: a placeholder for training, until the FIBER model is in.
 *
 * A network of two layers learns labels that a random teacher of the same shape gives to random
 * vectors. Nothing about it is a model of images or text; everything under it is real: recording,
 * planning, the CPU kernels, gradient reduction over ranks, AdamW, schedules, the watchdog. It ends
 * with an accuracy on vectors it has not seen, and a small HTML report.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "launch/command.h"
#include "runtime/backend/cpu/executor.h"
#include "runtime/backend/cpu/threads.h"
#include "runtime/base/log.h"
#include "runtime/base/rng.h"
#include "runtime/comm/comm.h"
#include "runtime/ops/ops.h"
#include "runtime/optim/optimizer.h"

enum { FEATURES = 32, HIDDEN = 256, CLASSES = 8, GLOBAL_BATCH = 256, STEPS = 300 };

struct demo {
    const char *folder; /* of the report */
    struct comm *comm;
    struct graph *graph;
    struct tensor *x;       /* f32 [B,FEATURES] */
    struct tensor *target;  /* i32 [B] */
    struct tensor *loss;    /* f32 */
    struct tensor *correct; /* f32 [B] */
    struct executor *executor;
    struct optimizer *optimizer;
    float teacher[CLASSES * FEATURES];
    float losses[STEPS];
};

static double demo_betas[] = {0.9, 0.98};
static const struct optimizer_config demo_optimizer = {
    .lr = 3e-3,
    .betas = {demo_betas, 2},
    .eps = 1e-8,
    .weight_decay = 0.01,
    .schedule = {.kind = SCHEDULE_COSINE, .warmup = 20},
};

static struct tensor *layer(struct graph *g, const char *name, struct tensor *x, int64_t k,
                            int64_t n, bool gelu)
{
    graph_push(g, "%s", name);
    struct tensor *w = graph_parameter(g, "weight", SHAPE(n, k), INIT(INIT_TRUNC_NORMAL, 0.1f));
    struct tensor *b = graph_parameter(g, "bias", SHAPE(n), INIT(INIT_ZEROS, 0));
    struct tensor *y = gelu ? op_linear_gelu(g, x, w, b) : op_linear(g, x, w, b);
    graph_pop(g);
    return y;
}

static enum status demo_record(struct demo *d)
{
    int64_t batch = GLOBAL_BATCH / d->comm->size;
    TRY(graph_create(&d->graph, &(struct graph_options){.world_size = d->comm->size}));
    struct graph *g = d->graph;
    d->x = graph_input(g, "x", DTYPE_F32, SHAPE(batch, FEATURES));
    d->target = graph_input(g, "target", DTYPE_I32, SHAPE(batch));
    struct tensor *y = layer(g, "fc1", d->x, FEATURES, HIDDEN, true);
    y = layer(g, "fc2", y, HIDDEN, CLASSES, false);
    d->loss = op_mean(g, op_cross_entropy(g, y, d->target, -100, &d->correct), 0, 1);
    graph_output(g, "loss", d->loss);
    graph_output(g, "correct", d->correct);
    TRY(graph_differentiate(g, d->loss));
    TRY(graph_check_parameters(g));
    struct executor_options options = {.seed = 1, .comm = d->comm};
    TRY(executor_create(&d->executor, g, &options));
    executor_init_parameters(d->executor);
    return optimizer_create(&d->optimizer, g, &demo_optimizer, d->comm);
}

/* Vectors and teacher labels of the global samples that are this rank's at `step`. */
static void demo_fill(struct demo *d, int64_t step)
{
    int64_t batch = GLOBAL_BATCH / d->comm->size;
    float *x = executor_data(d->executor, d->x);
    int32_t *target = executor_data(d->executor, d->target);
    for (int64_t i = 0; i < batch; i++) {
        uint64_t sample = (uint64_t)(step * GLOBAL_BATCH + d->comm->rank * batch + i);
        rng_fill_normal(rng_key(1, RNG_TEST, 1), 0, sample, x + i * FEATURES, FEATURES);
        float best = -1e30f;
        for (int c = 0; c < CLASSES; c++) {
            float score = 0;
            for (int k = 0; k < FEATURES; k++) {
                score += d->teacher[c * FEATURES + k] * x[i * FEATURES + k];
            }
            if (score > best) target[i] = c;
            if (score > best) best = score;
        }
    }
}

/* One run of the step; the mean loss and accuracy over all ranks. */
static enum status demo_run(struct demo *d, int64_t step, bool reduce, float *mean)
{
    demo_fill(d, step);
    TRY(executor_run(d->executor,
                     &(struct executor_run){.step = (uint64_t)step, .reduce = reduce}));
    int64_t batch = GLOBAL_BATCH / d->comm->size;
    const float *correct = executor_data(d->executor, d->correct);
    mean[0] = *(float *)executor_data(d->executor, d->loss) / (float)d->comm->size;
    mean[1] = 0;
    for (int64_t i = 0; i < batch; i++) {
        mean[1] += correct[i] / GLOBAL_BATCH;
    }
    return comm_allreduce(d->comm, "metrics", mean, 2, COMM_F32, COMM_SUM);
}

static enum status demo_train(struct demo *d)
{
    for (int64_t step = 0; step < STEPS; step++) {
        float mean[2];
        comm_step_set(d->comm, step);
        TRY(demo_run(d, step, true, mean));
        d->losses[step] = mean[0];
        struct optimizer_report report;
        TRY(optimizer_step(d->optimizer, executor_parameters(d->executor),
                           executor_gradients(d->executor), 1.0 / d->comm->size, step, STEPS,
                           &report));
        executor_parameters_changed(d->executor);
        if (step % 50 == 0 || step == STEPS - 1) {
            log_info("step %3lld  loss %.4f  accuracy %.3f  lr %.2e  gradient norm %.3f",
                     (long long)step, (double)mean[0], (double)mean[1], report.lr,
                     report.gradient_norm);
        }
    }
    return STATUS_OK;
}

static enum status demo_report(const struct demo *d, double accuracy)
{
    char path[4096];
    mkdir(d->folder, 0777);
    snprintf(path, sizeof path, "%s/report.html", d->folder);
    FILE *file = fopen(path, "w");
    CHECK(file, STATUS_IO, "%s: cannot write the report; give another folder with --out", path);
    fprintf(file,
            "<!doctype html><meta charset=utf-8><title>weft demo</title>"
            "<style>body{font:16px sans-serif;max-width:720px;margin:2em auto}</style>"
            "<h1>weft demo (placeholder)</h1><p>Two layers on random vectors, %d ranks, %d steps. "
            "Held-out accuracy <b>%.3f</b> (chance %.3f). The FIBER model replaces this.</p>"
            "<svg viewBox='0 0 640 300' width=640><rect width=640 height=300 fill=#f4f4f4 />"
            "<polyline fill=none stroke=#06c stroke-width=2 points='",
            d->comm->size, STEPS, accuracy, 1.0 / CLASSES);
    for (int i = 0; i < STEPS; i++) {
        fprintf(file, "%.1f,%.1f ", 20 + 600.0 * i / STEPS,
                280 - 260 * (double)(d->losses[i] / d->losses[0]));
    }
    fprintf(file, "'/><text x=24 y=18>loss, from %.3f to %.3f</text></svg>\n", (double)d->losses[0],
            (double)d->losses[STEPS - 1]);
    bool failed = ferror(file);
    failed |= fclose(file) != 0;
    CHECK(!failed, STATUS_IO, "%s: cannot write the report (disk full?)", path);
    log_info("report: %s", path);
    return STATUS_OK;
}

static enum status demo_all(struct demo *d)
{
    CHECK(GLOBAL_BATCH % d->comm->size == 0, STATUS_INVALID,
          "weft demo: a global batch of %d does not divide over %d ranks; use 1, 2, 4, ... ranks",
          GLOBAL_BATCH, d->comm->size);
    struct cpu_threads threads;
    TRY(cpu_threads_start(d->comm->local_rank, d->comm->local_size, &threads));
    rng_fill_normal(rng_key(1, RNG_TEST, 0), 0, 0, d->teacher, CLASSES * FEATURES);
    log_info("PLACEHOLDER: two layers on random vectors, until the FIBER model is in; %d ranks, "
             "%d threads each",
             d->comm->size, threads.num_threads);
    TRY(demo_record(d));
    TRY(demo_train(d));
    float mean[2];
    TRY(demo_run(d, 1000000, false, mean));
    log_info("held out: loss %.4f  accuracy %.3f  (chance %.3f)", (double)mean[0], (double)mean[1],
             1.0 / CLASSES);
    CHECK(mean[1] > 0.6f, STATUS_INTERNAL, "weft demo: accuracy %.3f, expected above 0.6",
          (double)mean[1]);
    return d->comm->rank == 0 ? demo_report(d, (double)mean[1]) : STATUS_OK;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"out", required_argument, NULL, 'o'}, {0}};
    struct demo *d = calloc(1, sizeof *d);
    if (!d) return 1;
    d->folder = "runs/demo";
    int option = 0;
    while ((option = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
        if (option != 'o') {
            free(d);
            return 2;
        }
        d->folder = optarg;
    }
    enum status status =
        comm_create(&(struct comm_options){.require_launched_size = true}, &d->comm);
    if (status == STATUS_OK) status = demo_all(d);
    int code = status_exit_code(status);
    if (status != STATUS_OK && d->comm) comm_abort(d->comm, code, "%s", status_message());
    if (status != STATUS_OK) log_error("%s", status_message());
    optimizer_destroy(&d->optimizer);
    executor_destroy(&d->executor);
    graph_destroy(&d->graph);
    if (d->comm && comm_finish(&d->comm) != STATUS_OK && code == 0) code = 1;
    free(d);
    return code;
}

const struct command command_demo = {
    .name = "demo",
    .summary = "train a two-layer placeholder on random data through the real runtime",
    .usage = "usage: mpirun -np N weft demo [--out FOLDER]\n\n"
             "Trains two layers on random vectors and writes FOLDER/report.html (runs/demo).\n"
             "A placeholder until the FIBER model is in.",
    .run = run,
};
