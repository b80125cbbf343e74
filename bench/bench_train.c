/*
 * A whole training step of FIBER-Base at 384 px: MLM, ITC and ITM over shared prefixes, forward,
 * backward and AdamW, micro-batch 2, on made-up inputs.
 *
 * Every precision and recomputation runs in a process of its own, so that peak resident memory is
 * its own: parameters, gradients, moments, activations and libraries. The ceiling of GFLOP/s is the
 * largest product of the model on oneDNN, taken before and after each step, the best; the bars for
 * seconds and memory are those of the project, given as ceilings. FLOPs are those of the plan:
 * executed ones count recomputation, distinct ones do not.
 *
 * usage: bench_train [--precision f32|bf16] [--recompute none|cheap|blocks] [--steps N] [--detail]
 */
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/step.h"
#include "launch/machine_probe.h"

enum { MICRO = 2 };

struct options {
    const char *precision; /* NULL: both */
    const char *recompute; /* NULL: those of the table */
    int steps;
    bool detail;
};

struct bench {
    struct bench_step step;
    struct machine_probe probe;
};

static void bench_init(struct bench *b, const struct options *options)
{
    const struct bench_step_options step = {.micro = MICRO,
                                            .precision = options->precision,
                                            .recompute = options->recompute,
                                            .profile = options->detail};
    bench_must(bench_step_init(&b->step, &step));
    enum dtype dtype = strcmp(options->precision, "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32;
    b->probe = (struct machine_probe){.m = 3456, .n = 2048, .k = 512, .dtype = dtype};
}

/* Seconds that the processors worked for this process. */
static double processor_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void print_rows(const struct bench *b, const struct options *options, double seconds,
                       double processor)
{
    struct plan_totals totals = plan_totals(executor_plan(b->step.executor));
    bool bf16 = b->probe.dtype == DTYPE_BF16;
    double executed = totals.distinct_flops + totals.recompute_flops;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    char name[96];
    char note[96];
    snprintf(name, sizeof name, "fiber-base step %s, recompute %s", options->precision,
             options->recompute);
    snprintf(note, sizeof note, "executed %.0f GFLOP a sample; ceiling: one product",
             executed / MICRO * 1e-9);
    bench_row(name, executed / seconds * 1e-9, "GFLOP/s", b->probe.flops * 1e-9, note);
    snprintf(note, sizeof note, "distinct %.0f GFLOP a sample",
             totals.distinct_flops / MICRO * 1e-9);
    bench_row(name, totals.distinct_flops / seconds * 1e-9, "GFLOP/s", b->probe.flops * 1e-9, note);
    bench_row(name, executed / processor * 1e-9, "GFLOP/cpu s", b->probe.processor_flops * 1e-9,
              "both by processor time: on a busy machine");
    double bar = bf16 ? 3.2 : 6;
    printf("%s\t%.2f\ts/sample\t%.1f\t%.2f\tceiling: the bar on two idle cores\n", name,
           seconds / MICRO, bar, seconds / MICRO / bar);
    printf("%s\t%.2f\tcpu s/sample\t%.1f\t%.2f\tprocessor time over %d threads, bar as above\n",
           name, processor / MICRO, bar, processor / MICRO / bar, b->step.num_threads);
    double peak = (double)usage.ru_maxrss * 1024 * 1e-9;
    bar = bf16 ? 6 : 8;
    printf("%s\t%.2f\tGB\t%.1f\t%.2f\tpeak resident; ceiling: the bar\n", name, peak, bar,
           peak / bar);
    fflush(stdout);
}

/* ---- which shapes take the time ---- */

enum { MAX_GROUPS = 512, SHOWN_GROUPS = 30 };

struct group {
    char name[256];
    double seconds;
    double flops;
    double bytes;
    int64_t runs;
};

static int by_seconds(const void *a, const void *b)
{
    double p = ((const struct group *)a)->seconds;
    double q = ((const struct group *)b)->seconds;
    return (p < q) - (p > q);
}

static void add_step(const struct bench *b, int index, struct group *groups, int *count)
{
    const struct plan_step *step = &executor_plan(b->step.executor)->steps[index];
    const struct executor_profile *profile = executor_profile(b->step.executor, index);
    char name[256];
    char text[2][SHAPE_TEXT];
    if (!step->node || profile->runs == 0) return;
    const struct node *node = step->node;
    snprintf(name, sizeof name, "%s %s %s", node->op->name,
             node->num_inputs > 0 ? shape_format(&node->inputs[0]->shape, text[0]) : "",
             node->num_inputs > 1 ? shape_format(&node->inputs[1]->shape, text[1]) : "");
    int i = 0;
    while (i < *count && strcmp(groups[i].name, name) != 0)
        i++;
    if (i == MAX_GROUPS) return;
    if (i == *count) memcpy(groups[(*count)++].name, name, sizeof name);
    struct op_cost cost = node_cost(node);
    groups[i].seconds += profile->seconds;
    groups[i].flops += cost.flops * (double)profile->runs;
    groups[i].bytes += cost.bytes * (double)profile->runs;
    groups[i].runs += profile->runs;
}

static void print_groups(const struct bench *b)
{
    static struct group groups[MAX_GROUPS];
    int count = 0;
    double all = 0;
    for (int i = 0; i < executor_plan(b->step.executor)->num_steps; i++) {
        add_step(b, i, groups, &count);
    }
    qsort(groups, (size_t)count, sizeof *groups, by_seconds);
    for (int i = 0; i < count; i++) {
        all += groups[i].seconds;
    }
    printf("#  share    runs  GFLOP/s     GB/s  op and shapes of its first two inputs\n");
    for (int i = 0; i < count && i < SHOWN_GROUPS; i++) {
        const struct group *g = &groups[i];
        printf("# %5.1f %% %7lld %8.1f %8.1f  %s\n", 100 * g->seconds / all, (long long)g->runs,
               g->flops / g->seconds * 1e-9, g->bytes / g->seconds * 1e-9, g->name);
    }
}

static void probe(struct bench *b)
{
    struct machine_probe now = b->probe;
    bench_must(machine_probe_product(&now, 0.2));
    if (now.flops > b->probe.flops) b->probe.flops = now.flops;
    if (now.processor_flops > b->probe.processor_flops) {
        b->probe.processor_flops = now.processor_flops;
    }
}

static void measure(const struct options *options)
{
    struct bench b = {0};
    bench_init(&b, options);
    double best = 1e30;
    double processor = 1e30;
    for (int i = 0; i < options->steps; i++) {
        probe(&b);
        double start = bench_now();
        double cpu = processor_now();
        bench_must(bench_step_run(&b.step, i));
        if (i == 0 && options->steps > 1) continue; /* pages appear */
        bench_least(&best, bench_now() - start);
        bench_least(&processor, (processor_now() - cpu) / b.step.num_threads);
    }
    probe(&b);
    print_rows(&b, options, best, processor);
    if (options->detail) {
        executor_print_profile(b.step.executor, stdout);
        print_groups(&b);
    }
    bench_step_fini(&b.step);
}

/* In a process of its own. */
static int measure_apart(const struct options *options)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        measure(options);
        exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    return status == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const char *const both[2][2] = {{"f32", "none"}, {"bf16", "blocks"}};
    struct options options = {.steps = 2};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--detail") == 0) {
            options.detail = true;
            continue;
        }
        if (strcmp(argv[i], "--precision") == 0) options.precision = value;
        if (strcmp(argv[i], "--recompute") == 0) options.recompute = value;
        if (strcmp(argv[i], "--steps") == 0) options.steps = atoi(value);
        i++;
    }
    if (options.steps < 1) options.steps = 1;
    int failed = 0;
    for (int i = 0; i < 2; i++) {
        struct options one = options;
        if (!one.precision) one.precision = both[i][0];
        if (strcmp(one.precision, both[i][0]) != 0) continue;
        if (!one.recompute) one.recompute = both[i][1];
        failed |= measure_apart(&one);
    }
    return failed;
}
