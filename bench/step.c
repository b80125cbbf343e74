#include "bench/step.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/backend/cpu/threads.h"
#include "runtime/base/rng.h"

static const char whole[] = "run: nowhere\n"
                            "model: {family: fiber}\n"
                            "data: {sets: [{path: nowhere}], image_size: 384, max_text_len: 40}\n"
                            "tokenizer: {path: nowhere}\n"
                            "objectives: {list: [{type: mlm}, {type: itc}, {type: itm}]}\n"
                            "batch: {global: 2}\n"
                            "optimizer: {lr: 1e-5}\n"
                            "train: {steps: 100000}\n";

static const char miniature[] =
    "run: nowhere\n"
    "model: {family: fiber, image_size: 32, embed_dim: 16, depths: [1, 1, 2, 1], \n"
    "  heads: [1, 1, 2, 2], window: 2, text_layers: 2, hidden: 32, text_heads: 2, ffn: 64, \n"
    "  vocab: 300, max_text_len: 16, positions: 18, num_fuse: 2, init_std: 0.1}\n"
    "data: {sets: [{path: nowhere}], image_size: 32, max_text_len: 16}\n"
    "tokenizer: {path: nowhere}\n"
    "objectives: {list: [{type: mlm}, {type: itc}, {type: itm}]}\n"
    "batch: {global: 2}\n"
    "optimizer: {lr: 1e-5}\n"
    "train: {steps: 100000}\n";

static enum status read_config(struct bench_step *b, const struct bench_step_options *options)
{
    enum { OVERRIDES = 4 };
    char overrides[OVERRIDES][64];
    const char *texts[OVERRIDES];
    snprintf(overrides[0], sizeof overrides[0], "train.precision=%s", options->precision);
    snprintf(overrides[1], sizeof overrides[1], "train.recompute=%s", options->recompute);
    snprintf(overrides[2], sizeof overrides[2], "objectives.share=%s",
             options->share ? options->share : "true");
    snprintf(overrides[3], sizeof overrides[3], "batch.global=%lld", (long long)options->micro);
    for (int i = 0; i < OVERRIDES; i++) {
        texts[i] = overrides[i];
    }
    const char *recipe = options->tiny ? miniature : whole;
    return config_read_text(&train_table, "bench", recipe, strlen(recipe), texts, OVERRIDES,
                            &b->values, &b->config);
}

/* Texts of three quarters of their length, with up to six tokens masked in each. */
static void feed(struct bench_step *b)
{
    const struct step *s = &b->step;
    struct rng_key key = rng_key(0, RNG_TEST, rng_site("bench"));
    uint8_t *pixels = executor_data(b->executor, s->pixels);
    int32_t *ids[2] = {executor_data(b->executor, s->ids), executor_data(b->executor, s->mlm_ids)};
    int32_t *mask = executor_data(b->executor, s->mask);
    int64_t length = s->model.facts.max_text_len;
    int64_t used = length * 3 / 4;
    uint32_t words = (uint32_t)s->model.facts.vocab - 6;
    for (size_t i = 0; i < tensor_bytes(s->pixels); i++) {
        pixels[i] = (uint8_t)rng_at(key, 0, i, 0).word[0];
    }
    for (int64_t i = 0; i < b->micro * length; i++) {
        mask[i] = i % length < used;
        ids[0][i] = mask[i]
                        ? (int32_t)(5 + rng_below(rng_at(key, 1, (uint64_t)i, 0).word[0], words))
                        : (int32_t)s->model.facts.padding;
        ids[1][i] = ids[0][i];
    }
    int32_t *index = executor_data(b->executor, s->mlm_index);
    int32_t *targets = executor_data(b->executor, s->mlm_targets);
    float *weights = executor_data(b->executor, s->mlm_weights);
    int64_t rows = s->mlm_index->shape.dim[0];
    int64_t masked = rows / b->micro < 6 ? rows / b->micro : 6;
    for (int64_t i = 0; i < rows; i++) {
        bool is_used = i < masked * b->micro;
        index[i] = is_used ? (int32_t)(i / masked * length + 3 + i % masked * 4 % used) : 0;
        targets[i] = is_used ? ids[0][index[i]] : -100;
        weights[i] = is_used;
        if (is_used) ids[1][index[i]] = (int32_t)s->model.facts.vocab - 1;
    }
}

enum status bench_step_init(struct bench_step *b, const struct bench_step_options *options)
{
    struct cpu_threads threads;
    *b = (struct bench_step){.micro = options->micro};
    TRY(cpu_threads_start(0, 1, &threads));
    b->num_threads = threads.num_threads;
    TRY(read_config(b, options));
    const struct step_options step = train_step_options(&b->values, options->micro, 1);
    TRY(step_init(&b->step, &step));
    const struct executor_options executor = {
        .plan = train_plan_options(&b->values, 1, 1, threads.num_threads),
        .device = options->device,
        .profile = options->profile};
    TRY(executor_create(&b->executor, b->step.graph, &executor));
    TRY(optimizer_create(&b->optimizer, b->step.graph, &b->values.optimizer, NULL,
                         executor_stream(b->executor)));
    TRY(executor_init_parameters(b->executor));
    feed(b);
    return STATUS_OK;
}

void bench_step_fini(struct bench_step *b)
{
    optimizer_destroy(&b->optimizer);
    executor_destroy(&b->executor);
    step_fini(&b->step);
    config_destroy(&b->config);
}

enum status bench_step_run(struct bench_step *b, int64_t update)
{
    struct optimizer_report report;
    TRY(executor_run(b->executor, &(struct executor_run){.step = (uint64_t)update}));
    float *parameters = executor_device_parameters(b->executor);
    CHECK(parameters, STATUS_INTERNAL, "%s", status_message());
    TRY(optimizer_start(b->optimizer, parameters, executor_device_gradients(b->executor), 1, update,
                        b->values.train.steps));
    executor_device_parameters_changed(b->executor);
    TRY(executor_wait(b->executor));
    TRY(optimizer_finish(b->optimizer, &report));
    float loss = *(const float *)executor_data(b->executor, b->step.loss);
    CHECK(isfinite(loss) && !report.skipped, STATUS_CORRUPT, "the step's loss is %g%s",
          (double)loss, report.skipped ? ", and its gradient not finite" : "");
    return STATUS_OK;
}
