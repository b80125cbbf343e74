/*
 * Saving a checkpoint against writing the same bytes in one go and flushing them, in turns on the
 * same disk, and what the caller loses by it: with a step's computation behind which to write, and
 * with a state that must change at once. Also verifying and reading it back.   np=1
 */
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <unistd.h>

#include "bench/bench.h"
#include "runtime/checkpoint/checkpoint.h"

enum { VECTORS = 3, ROUNDS = 4 };
static const int64_t elements = 48 << 20; /* 192 MiB a vector */
static const double step_seconds = 1.0;

static float *data[VECTORS];
static char folder[PATH_MAX];

static double time_raw(void)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/raw", folder);
    const int64_t part = 16 << 20;
    double begin = bench_now();
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    for (int v = 0; v < VECTORS; v++) {
        for (int64_t at = 0; at < elements * 4; at += part) {
            if (write(file, (char *)data[v] + at, (size_t)part) != part) exit(1);
        }
    }
    if (file < 0 || fsync(file) != 0 || close(file) != 0) exit(1);
    double seconds = bench_now() - begin;
    unlink(path);
    return seconds;
}

/* Works on other memory for the length of a step, as the training does. */
static void compute(double seconds)
{
    static float scratch[1 << 16];
    double begin = bench_now();
    while (bench_now() - begin < seconds) {
        for (int i = 0; i < 1 << 16; i++) {
            scratch[i] = scratch[i] * 0.999f + 1;
        }
    }
}

/* Saves and waits for it. */
static double time_save(struct checkpoint_saver *saver, const struct checkpoint_state *state)
{
    double begin = bench_now();
    bench_must(checkpoint_save(saver, state));
    return bench_now() - begin;
}

/* Seconds the caller loses when it computes for some seconds before it asks for the state, and for
 * some more until the next step boundary. */
static double time_stall(struct checkpoint_saver *saver, const struct checkpoint_state *state,
                         double seconds)
{
    bool finished = false;
    bench_must(checkpoint_begin(saver, state));
    compute(seconds);
    bench_must(checkpoint_settle(saver));
    while (!finished) {
        compute(step_seconds / 10);
        bench_must(checkpoint_progress(saver, &finished));
    }
    return checkpoint_report(saver).stall;
}

static double time_load(const struct checkpoint_report *report)
{
    struct checkpoint *checkpoint;
    double begin = bench_now();
    bench_must(checkpoint_open(&checkpoint, report->path, NULL));
    bench_must(checkpoint_read_flat(checkpoint, "moment1", 0, elements, data[1]));
    checkpoint_close(&checkpoint);
    return bench_now() - begin;
}

int main(void)
{
    static const char *const names[VECTORS] = {"parameters", "moment1", "moment2"};
    struct checkpoint_vector vectors[VECTORS];
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/weft-bench-checkpoint-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder)) return 1;
    for (int v = 0; v < VECTORS; v++) {
        data[v] = bench_memory((size_t)elements * sizeof(float));
        for (int64_t i = 0; i < elements; i++) {
            data[v][i] = (float)(i * 7 + v);
        }
        vectors[v] = (struct checkpoint_vector){names[v], elements, 0, elements, data[v]};
    }
    struct checkpoint_state state = {.vectors = vectors, .num_vectors = VECTORS};
    struct checkpoint_saver_options options = {.keep = 1};
    struct checkpoint_saver *saver;
    bench_must(checkpoint_saver_create(&saver, folder, &options, NULL));
    double raw = 1e9;
    double save = 1e9;
    double hidden_stall = 1e9;
    double bare_stall = 1e9;
    double load = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        bench_least(&raw, time_raw());
        state.step++;
        bench_least(&save, time_save(saver, &state));
        bench_least(&raw, time_raw());
        state.step++;
        bench_least(&save, time_save(saver, &state));
        struct checkpoint_report report = checkpoint_report(saver);
        bench_least(&load, time_load(&report));
        state.step++;
        bench_least(&hidden_stall, time_stall(saver, &state, step_seconds));
        state.step++;
        bench_least(&bare_stall, time_stall(saver, &state, 0));
    }
    double bytes = (double)VECTORS * (double)elements * 4;
    bench_row("checkpoint: write", bytes / save / 1e6, "MB/s", bytes / raw / 1e6,
              "hashed, flushed, renamed; ceiling: sequential write and fsync of the same bytes");
    bench_row("checkpoint: stall behind a step of 1 s", 100 * hidden_stall / save, "% of write", 0,
              "state left alone for the step");
    bench_row("checkpoint: stall without a step", 100 * bare_stall / save, "% of write", 0,
              "state wanted back at once: copied at the speed of memory");
    bench_row("checkpoint: verify and read a third", bytes / load / 1e6, "MB/s", 0,
              "all hashes; page cache");
    checkpoint_saver_destroy(&saver);
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : 1;
}
