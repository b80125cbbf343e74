/* Small models for tests: their config from YAML, and weights that differ from each other. */
#ifndef WEFT_TESTS_MODEL_MODEL_CASE_H
#define WEFT_TESTS_MODEL_MODEL_CASE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "objectives/objective.h"
#include "runtime/backend/executor.h"
#include "runtime/base/rng.h"

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if ((expression) != STATUS_OK) fail_msg("%s", status_message());                           \
    } while (0)

#define CASES(table) (sizeof(table) / sizeof((table)[0]))

/* Eleven Swin blocks, seven of them in the last two stages; five text layers. */
#define TINY_FIBER                                                                                 \
    "family: fiber, image_size: 32, patch_size: 2, embed_dim: 8, depths: [2, 2, 5, 2], "           \
    "heads: [1, 2, 2, 4], window: 2, text_layers: 5, hidden: 12, text_heads: 3, ffn: 20, "         \
    "vocab: 31, max_text_len: 7, positions: 9"

struct model_case {
    struct config_variant model;
    struct objectives_config objectives;
    struct config *config;
};

static const struct config_option model_case_options[] = {
    CONFIG_CHOICE(struct model_case, model, "family", model_choices, .help = "The model."),
    CONFIG_SECTION(struct model_case, objectives, objectives_table, .help = "The loss."),
};
static const struct config_table model_case_table = {
    CONFIG_TABLE(struct model_case, model_case_options), .name = "case", .help = "A test's model."};

#define ALL_OBJECTIVES "list: [{type: mlm}, {type: itc}, {type: itm}]"

/* From the inside of both sections in flow style, e.g. "family: fiber, num_fuse: 2", and overrides
 * such as "model.window=4" (ended by NULL; or NULL). */
static inline enum status model_case_read(struct model_case *c, const char *model,
                                          const char *objectives, const char *const *overrides)
{
    char text[2048];
    int num_overrides = 0;
    int length = snprintf(text, sizeof text, "model: {%s}\nobjectives: {%s}\n", model, objectives);
    assert_in_range(length, 1, sizeof text - 1);
    while (overrides && overrides[num_overrides]) {
        num_overrides++;
    }
    struct config *config = NULL;
    enum status status = config_read_text(&model_case_table, "case.yaml", text, (size_t)length,
                                          overrides, num_overrides, c, &config);
    c->config = config;
    return status;
}

static inline void model_case_make(struct model_case *c, const char *model, const char *objectives,
                                   const char *const *overrides)
{
    MUST(model_case_read(c, model, objectives, overrides));
}

static inline void model_case_free(struct model_case *c)
{
    config_destroy(&c->config);
}

/* A number in [-1, 1) that depends on a name and an index. */
static inline float value_at(const char *name, int64_t i)
{
    struct rng_block block = rng_at(rng_key(1, RNG_TEST, rng_site(name)), 0, 0, (uint32_t)(i / 4));
    return 2 * rng_uniform(block.word[i % 4]) - 1;
}

/* Weights at which every part of the model matters: products keep the size of what they get, gains
 * are near 1, gates are `gate`. */
static inline void fill_weights(struct executor *e, const struct graph *g, float gate)
{
    float *flat = executor_parameters(e);
    for (int64_t k = 0; k < graph_num_parameters(g); k++) {
        const struct parameter *p = graph_parameter_at(g, k);
        const struct shape *shape = &p->tensor->shape;
        float scale =
            shape->rank > 1 ? 1.5f / sqrtf((float)shape_span(shape, 1, shape->rank)) : 0.1f;
        bool is_gate = strstr(p->name, "alpha_") != NULL;
        if (p->init.kind == INIT_CONSTANT && !is_gate) continue;
        for (int64_t i = 0; i < p->count; i++) {
            float base = p->init.kind == INIT_ONES ? 1.0f : 0.0f;
            flat[p->offset + i] = base + scale * value_at(p->name, i);
        }
        if (is_gate) flat[p->offset] = gate;
    }
    executor_parameters_changed(e);
}

/* Parameters that are constant at the start (the temperature) take their initial value. */
static inline void init_weights(struct executor *e, const struct graph *g, float gate)
{
    executor_init_parameters(e);
    fill_weights(e, g, gate);
}

static inline void close_to(const char *what, const float *got, const float *want, int64_t count,
                            double tolerance)
{
    double most = 0;
    double difference = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        if (isnan(d)) d = INFINITY;
        if (d > difference) difference = d;
        if (fabs((double)want[i]) > most) most = fabs((double)want[i]);
    }
    if (difference > tolerance * most) {
        fail_msg("%s: differs by %.3g, the largest value is %.3g", what, difference, most);
    }
}

/* Starts the program again with threads that sleep while they wait; see tests/run. */
static inline void wait_passively(char **argv)
{
    if (getenv("OMP_WAIT_POLICY")) return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv);
}

#endif
