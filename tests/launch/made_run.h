/*
 * A made-up run that looks like one: 2,000 steps of three losses with a resume, evaluations every
 * 250 steps, warnings, checkpoints, a configuration and examples on generated scenes.
 */
#ifndef WEFT_TESTS_LAUNCH_MADE_RUN_H
#define WEFT_TESTS_LAUNCH_MADE_RUN_H

#include "tests/launch/run_fixture.h"

#include <fcntl.h>
#include <math.h>

#include "launch/eval_result.h"

enum { MADE_STEPS = 2000, MADE_RESUME = 1200, MADE_DIED = 1266 };

/* A number in [-1, 1) from `seed`, which moves on. */
static inline double made_noise(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(*seed >> 11) / 4503599627370496.0 - 1;
}

static inline void made_step(struct run_log *log, int64_t step, uint64_t *seed)
{
    double n = (double)step;
    double mlm = 1.9 + 5.2 * exp(-n / 260) + 1.3 * exp(-n / 1500) + 0.16 * made_noise(seed);
    double itc = 0.35 + 3.4 / (1 + exp((n - 500) / 170)) + 0.12 * made_noise(seed);
    double itm = 0.18 + 0.46 / (1 + exp((n - 800) / 200)) + 0.05 * made_noise(seed);
    double total = mlm + itc + itm;
    struct run_value losses[] = {{"loss", total}, {"mlm", mlm}, {"itc", itc}, {"itm", itm}};
    struct run_value metrics[] = {
        {"mlm_accuracy", 0.08 + 0.5 * (1 - exp(-n / 700)) + 0.03 * made_noise(seed)},
        {"itc_recall@1", 0.02 + 0.8 / (1 + exp((700 - n) / 180)) + 0.04 * made_noise(seed)},
        {"itc_temperature", 0.07 - 0.02 * n / MADE_STEPS},
        {"itm_accuracy", 0.5 + 0.44 / (1 + exp((800 - n) / 200)) + 0.03 * made_noise(seed)},
    };
    double factor = n < 200 ? n / 200 : (MADE_STEPS - n) / (MADE_STEPS - 200);
    struct run_value rates[] = {
        {"backbone", 1e-4 * factor}, {"heads", 5e-4 * factor}, {"fusion", 5e-4 * factor}};
    bool slow = step > 1500 && step < 1640;
    double decode = slow ? 0.018 + 0.006 * made_noise(seed) : 0.001;
    double compute = 0.11 + 0.004 * made_noise(seed);
    double communicate = 0.014 + 0.003 * made_noise(seed);
    double checkpoint = step % 400 == 0 ? 0.035 : 0;
    struct run_log_step line = {
        .step = step,
        .epoch = step / 157,
        .index = step % 157 * 64,
        .losses = {losses, 4},
        .metrics = {metrics, 4},
        .lr = {rates, 3},
        .gradient_norm = step == 3 ? NAN : 0.8 + 6 * exp(-n / 120) + 0.3 * fabs(made_noise(seed)),
        .seconds = {.wait_read = 0.0008,
                    .wait_decode = decode,
                    .wait_tokenise = 0.0002,
                    .compute = compute,
                    .communicate = communicate,
                    .update = 0.006,
                    .checkpoint = checkpoint},
        .rss_mb = 1180 + 40 * (1 - exp(-n / 50)),
    };
    line.seconds.step = compute + communicate + decode + checkpoint + 0.0075;
    line.samples_per_s = 64 / line.seconds.step;
    ASSERT_OK(run_log_step(log, &line));
}

static inline void made_eval(struct run_log *log, int64_t step, uint64_t *seed,
                             struct run_value metrics[14])
{
    static const char *const names[] = {"dual/tr@1", "dual/tr@5",  "dual/tr@10", "dual/ir@1",
                                        "dual/ir@5", "dual/ir@10", "itm/tr@1",   "itm/tr@5",
                                        "itm/tr@10", "itm/ir@1",   "itm/ir@5",   "itm/ir@10"};
    double skill = 1 / (1 + exp((900 - (double)step) / 260));
    for (int i = 0; i < 12; i++) {
        double best = i % 3 == 0 ? 0.66 : i % 3 == 1 ? 0.9 : 0.96;
        if (i >= 6) best += (1 - best) * 0.4;
        metrics[i] = (struct run_value){names[i], best * skill + 0.01 * made_noise(seed) * skill};
    }
    metrics[12] = (struct run_value){"itm_accuracy", 0.5 + 0.43 * skill};
    metrics[13] = (struct run_value){"itc_loss", 4.1 - 3.6 * skill};
    struct run_log_eval eval = {.step = step, .split = "val", .metrics = {metrics, 14}};
    ASSERT_OK(run_log_eval(log, &eval));
}

static inline void made_steps(struct run_log *log, int64_t first, int64_t last, uint64_t *seed)
{
    struct run_value metrics[14];
    for (int64_t step = first; step <= last; step++) {
        made_step(log, step, seed);
        if (step % 250 == 0) made_eval(log, step, seed, metrics);
        if (step == 3) ASSERT_OK(run_log_warning(log, step, "gradient norm is nan; step skipped"));
        if (step == 1554) {
            ASSERT_OK(run_log_warning(
                log, step,
                "input-bound: the last 50 steps spent 12% of their time waiting for data, mostly "
                "for decoding pictures (11%); raise data.threads"));
        }
        if (step % 400 != 0) continue;
        char path[64];
        snprintf(path, sizeof path, "checkpoints/step-%08lld.h5", (long long)step);
        struct run_log_checkpoint checkpoint = {
            .step = step, .path = path, .seconds = 1.4, .stall_s = 0.035, .bytes = 412316860};
        ASSERT_OK(run_log_checkpoint(log, &checkpoint));
    }
}

static inline void made_log(const char *run, uint64_t *seed)
{
    struct run_log log;
    struct run_log_start start = {.total_steps = MADE_STEPS,
                                  .global_batch = 64,
                                  .ranks = 2,
                                  .hosts = 1,
                                  .threads = 1,
                                  .host = "node07",
                                  .build = "weft 0.1.0 avx512bf16",
                                  .config_fingerprint = "3f9a1c77e2b04d58"};
    struct run_log_end end = {.step = MADE_STEPS, .reason = "all steps done"};
    ASSERT_OK(run_log_open(&log, run));
    ASSERT_OK(run_log_start(&log, &start));
    made_steps(&log, 1, MADE_DIED, seed);
    start.step = MADE_RESUME;
    start.ranks = 4;
    start.resumed_from = "checkpoints/step-00001200.h5";
    ASSERT_OK(run_log_start(&log, &start));
    made_steps(&log, MADE_RESUME + 1, MADE_STEPS, seed);
    ASSERT_OK(run_log_end(&log, &end));
    ASSERT_OK(run_log_close(&log));
}

/* The caption of text `index` of the set, in the arena. */
static inline const char *made_caption(struct arena *arena, const struct store *store,
                                       int64_t index)
{
    struct store_text text = {0};
    ASSERT_OK(store_text_read(store, index, &text));
    const char *copy = arena_strdup(arena, text.text);
    assert_non_null(copy);
    store_text_fini(&text);
    return copy;
}

/* An evaluation with four examples of each kind and query, on the scenes of `set`. */
static inline void made_result(const char *run, const char *set, uint64_t *seed)
{
    enum { EACH = 4, SHOWN = 5, NUM = 2 * EVAL_NUM_KINDS * EACH };
    static const char gone[] = "/moved/away/val-*.h5";
    struct eval_example examples[NUM] = {0};
    struct arena arena = {0};
    struct store *store = NULL;
    struct run_value metrics[14];
    struct run_log log = {.fd = -1};
    ASSERT_OK(store_open(&store, &set, 1, NULL));
    int64_t images = store_num_images(store);
    for (int i = 0; i < NUM; i++) {
        struct eval_example *example = &examples[i];
        example->kind = (enum eval_example_kind)(i / (2 * EACH));
        example->query = (enum eval_query)(i / EACH % 2);
        int64_t at = (i * 7 + 3) % images;
        bool negative = example->kind == EVAL_HARD_NEGATIVE;
        example->caption = made_caption(&arena, store, at);
        example->image = (struct eval_image){set, at};
        example->rank = example->kind == EVAL_RETRIEVAL_BEST ? 1 : negative ? 0 : 37 + i;
        example->num_candidates = negative ? 2 : SHOWN;
        struct eval_candidate *list = arena_alloc(&arena, SHOWN * sizeof *list);
        assert_non_null(list);
        for (int j = 0; j < example->num_candidates; j++) {
            bool right = example->kind == EVAL_RETRIEVAL_BEST ? j == 0 : negative && j == 1;
            int64_t other = right ? at : (at + 11 * (j + 1)) % images;
            list[j].correct = right;
            list[j].score = 0.97 - 0.08 * j + 0.02 * made_noise(seed);
            if (example->query == EVAL_QUERY_CAPTION) {
                /* One picture of a set that is not there any more. */
                list[j].image = (struct eval_image){i == 1 && j == 2 ? gone : set, other};
            } else {
                list[j].caption = made_caption(&arena, store, other);
            }
        }
        example->candidates = list;
    }
    log.fd = open("/dev/null", O_WRONLY);
    log.path = (char *)(uintptr_t) "/dev/null";
    made_eval(&log, MADE_STEPS, seed, metrics);
    close(log.fd);
    strbuf_fini(&log.line);
    const struct run_value chance[] = {{"tr@1", 0.002},       {"tr@5", 0.01},      {"tr@10", 0.02},
                                       {"ir@1", 0.002},       {"ir@5", 0.01},      {"ir@10", 0.02},
                                       {"itm_accuracy", 0.5}, {"itc_loss", 6.2146}};
    struct eval_result result = {.step = MADE_STEPS,
                                 .split = "val",
                                 .set = set,
                                 .num_images = 500,
                                 .num_texts = 500,
                                 .rerank = 64,
                                 .metrics = {metrics, 14},
                                 .chance = {chance, 8},
                                 .examples = examples,
                                 .num_examples = NUM};
    ASSERT_OK(eval_result_save(&result, run));
    store_close(&store);
    arena_fini(&arena);
}

/* Makes the run in the folder `run` (which is there) with its data set in RUN/data. */
static inline void made_run(const char *run)
{
    const char *build = getenv("WEFT_BUILD");
    char text[2 * PATH_MAX + 200];
    uint64_t seed = 7;
    made_log(run, &seed);
    snprintf(text, sizeof text, "%s/config.yaml", run);
    file_write(text, "run: {folder: runs/scenes, seed: 7}\n"
                     "model:\n    family: fiber\n    width: 96\n    depths: [2, 2, 6, 2]\n"
                     "objectives:\n    - {type: mlm, weight: 1}\n    - {type: itc, weight: 1}\n"
                     "    - {type: itm, weight: 1}\n"
                     "train: {steps: 2000, global_batch: 64, micro_batch: 32}  # <2 ranks>\n");
    snprintf(text, sizeof text,
             "mkdir -p '%s/data' && '%s/weft' pack scenes --count 60 -q --overwrite -o "
             "'%s/data/val-%%05d.h5' >/dev/null",
             run, build ? build : "build/release", run);
    assert_int_equal(system(text), 0);
    snprintf(text, sizeof text, "%s/data/val-*.h5", run);
    made_result(run, text, &seed);
}

#endif
