/*
 * The measurements of bench/gpu, which formats what this prints: see gpu_bench.h.
 *
 * usage: gpu_bench [--quick] [--batch N] [SECTION...]
 *   sections: copy products layers ops swin step (all)
 * Copy bandwidth and products are always measured, as they are the ceilings of the others.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/gpu_bench.h"

static enum status copy(struct gpu_bench *bench, int batch)
{
    (void)batch;
    return gpu_copy(bench);
}

static enum status products(struct gpu_bench *bench, int batch)
{
    (void)batch;
    return gpu_products(bench);
}

static const struct section {
    const char *name;
    enum status (*run)(struct gpu_bench *bench, int batch);
    int batch;      /* unless --batch says another; ops in f32 take half of it */
    bool is_always; /* others need what it finds */
} sections[] = {
    {"copy", copy, 0, true},     {"products", products, 0, true}, {"layers", gpu_layers, 32, false},
    {"ops", gpu_ops, 16, false}, {"swin", gpu_swin, 64, false},   {"step", gpu_step, 32, false},
};
enum { SECTIONS = sizeof sections / sizeof sections[0] };

void gpu_bench_row(const struct gpu_bench *bench, struct gpu_row row)
{
    double ratio = row.ratio;
    if (ratio == 0 && row.ceiling > 0) ratio = row.figure / row.ceiling;
    printf("row\t%s\t%s\t%.4g\t%s\t", bench->section, row.name, row.figure, row.unit);
    if (row.ceiling > 0) {
        printf("%.4g\t%.3f\t", row.ceiling, ratio);
    } else {
        printf("-\t-\t");
    }
    if (row.bar > 0) printf("at least %.2f\t%s\t", row.bar, ratio >= row.bar ? "met" : "missed");
    if (row.bar < 0) printf("at most %.2f\t%s\t", -row.bar, ratio <= -row.bar ? "met" : "missed");
    if (row.bar == 0) printf("-\t-\t");
    printf("%s\n", row.note ? row.note : "");
    fflush(stdout);
}

static bool is_wanted(const struct section *section, char **names, int count)
{
    if (count == 0 || section->is_always) return true;
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i], section->name) == 0) return true;
    }
    return false;
}

static bool names_are_known(char **names, int count)
{
    for (int i = 0; i < count; i++) {
        int s = 0;
        while (s < SECTIONS && strcmp(names[i], sections[s].name) != 0) {
            s++;
        }
        if (s < SECTIONS) continue;
        fprintf(stderr, "gpu_bench: there is no section '%s'\n", names[i]);
        return false;
    }
    return true;
}

/* A section that fails says why, and the others go on. */
static int run(struct gpu_bench *bench, int batch, char **names, int count)
{
    int failed = 0;
    for (int i = 0; i < SECTIONS; i++) {
        const struct section *section = &sections[i];
        if (!is_wanted(section, names, count)) continue;
        bench->section = section->name;
        double start = bench_now();
        int size = batch > 0 ? batch : bench->quick ? 2 : section->batch;
        if (section->run(bench, size) != STATUS_OK) {
            fprintf(stderr, "gpu_bench: %s: %s\n", section->name, status_message());
            failed = 1;
        }
        printf("# %s took %.1f s\n", section->name, bench_now() - start);
        fflush(stdout);
    }
    return failed;
}

int main(int argc, char **argv)
{
    struct gpu_bench bench = {0};
    int batch = 0;
    int first = 1;
    for (; first < argc && argv[first][0] == '-'; first++) {
        if (strcmp(argv[first], "--quick") == 0) {
            bench.quick = true;
        } else if (strcmp(argv[first], "--batch") == 0 && first + 1 < argc) {
            batch = atoi(argv[++first]);
        } else {
            fprintf(stderr, "usage: gpu_bench [--quick] [--batch N] [SECTION...]\n");
            return 2;
        }
    }
    if (!names_are_known(argv + first, argc - first)) return 2;
    if (gpu_bench_init(&bench) != STATUS_OK) {
        fprintf(stderr, "gpu_bench: %s\n", status_message());
        return 1;
    }
    printf("device\t%s\n", bench.device);
    int failed = run(&bench, batch, argv + first, argc - first);
    gpu_bench_fini(&bench);
    return failed;
}
