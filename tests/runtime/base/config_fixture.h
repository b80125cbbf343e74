/*
 * A recipe with every kind of option, shared by the tests of the config reader and its fuzzer.
 */
#ifndef WEFT_TESTS_RUNTIME_BASE_CONFIG_FIXTURE_H
#define WEFT_TESTS_RUNTIME_BASE_CONFIG_FIXTURE_H

#include "runtime/base/config.h"

enum precision { PRECISION_F32, PRECISION_BF16 };

struct optim {
    double lr;
    int64_t warmup;
    CONFIG_LIST_OF(double) betas;
    bool ema;
    double ema_decay;
};

struct cosine {
    double floor;
    int64_t period;
};

struct constant {
    int64_t warmup;
};

struct evaluation {
    int64_t every;
};

/* What all kinds of data have in common. */
struct data_common {
    double weight;
};

struct coco {
    struct data_common common;
    const char *path;
    const char *captions;
};

struct synthetic {
    int64_t samples;
    struct data_common common;
};

struct recipe {
    const char *name;
    const char *note;
    bool share;
    int64_t seed;
    enum precision precision;
    struct optim optim;
    CONFIG_LIST_OF(int64_t) depths;
    CONFIG_LIST_OF(const char *) tags;
    CONFIG_MAP_OF(double) multipliers;
    struct config_variant schedule;
    const struct evaluation *eval;
    CONFIG_LIST_OF(struct config_variant) data;
    CONFIG_MAP_OF(struct evaluation) suites;
};

static const struct config_option data_common_options[] = {
    CONFIG_DOUBLE(struct data_common, weight, .def = "1", .range = "(0, inf)",
                  .help = "Share of the samples drawn from here, relative to the others."),
};
static const struct config_table data_common_table = {
    CONFIG_TABLE(struct data_common, data_common_options), .name = "data_common",
    .help = "What all data have."};

static const struct config_option coco_options[] = {
    CONFIG_STRING(struct coco, path, .help = "The HDF5 file."),
    CONFIG_STRING_OR_NULL(struct coco, captions, .help = "Captions in place of the file's own."),
    CONFIG_EMBED(struct coco, common, data_common_table),
};
static const struct config_table coco_table = {CONFIG_TABLE(struct coco, coco_options),
                                               .name = "coco", .help = "COCO captions."};

static const struct config_option synthetic_options[] = {
    CONFIG_INT(struct synthetic, samples, .range = "[1, 1000000]", .unit = "samples",
               .help = "How many are generated."),
    CONFIG_EMBED(struct synthetic, common, data_common_table),
};
static const struct config_table synthetic_table = {
    CONFIG_TABLE(struct synthetic, synthetic_options), .name = "synthetic",
    .help = "Scenes made up on the fly."};
static const struct config_table *const data_tables[] = {&coco_table, &synthetic_table, NULL};

static const struct config_option cosine_options[] = {
    CONFIG_DOUBLE(struct cosine, floor, .def = "0", .range = "[0, 1)", .help = "Final factor."),
    CONFIG_INT(struct cosine, period, .def = "100", .range = "[1, inf)", .unit = "steps",
               .help = "Length of one half wave."),
};
static const struct config_table cosine_table = {CONFIG_TABLE(struct cosine, cosine_options),
                                                 .name = "cosine", .help = "Half a cosine."};

static const struct config_option constant_options[] = {
    CONFIG_INT(struct constant, warmup, .def = "0", .range = "[0, inf)", .unit = "steps",
               .help = "Linear warm-up before."),
};
static const struct config_table constant_table = {CONFIG_TABLE(struct constant, constant_options),
                                                   .name = "constant", .help = "No change."};
static const struct config_table *const schedule_tables[] = {&cosine_table, &constant_table, NULL};

static const struct config_option evaluation_options[] = {
    CONFIG_INT(struct evaluation, every, .def = "500", .range = "[1, inf)", .unit = "steps",
               .help = "Steps between evaluations."),
};
static const struct config_table evaluation_table = {
    CONFIG_TABLE(struct evaluation, evaluation_options), .name = "eval", .help = "Evaluation."};

static inline enum status optim_check(const void *value, const struct config_section *section)
{
    const struct optim *optim = value;
    if (optim->warmup == 13) {
        return config_refuse(section, "warmup", "%lld steps bring bad luck", 13LL);
    }
    if (optim->warmup == 666) return config_refuse(section, NULL, "not like that");
    return STATUS_OK;
}

static const struct config_option optim_options[] = {
    CONFIG_DOUBLE(struct optim, lr, .def = "1e-4", .range = "(0, 1]", .help = "Peak rate."),
    CONFIG_INT(struct optim, warmup, .def = "1000", .range = "[0, 1e6]", .unit = "steps",
               .help = "Length of the linear warm-up."),
    CONFIG_DOUBLES(struct optim, betas, .def = "[0.9, 0.98]", .range = "[0, 1)", .length = "[2, 2]",
                   .help = "Decay of the two moments."),
    CONFIG_BOOL(struct optim, ema, .def = "false", .help = "Keep a moving average of weights."),
    CONFIG_DOUBLE(struct optim, ema_decay, .def = "0.999", .range = "[0, 1)", .only_if = "ema",
                  .help = "Its decay."),
};
static const struct config_table optim_table = {CONFIG_TABLE(struct optim, optim_options),
                                                .name = "optim", .help = "The optimiser.",
                                                .check = optim_check};

static const char *const precision_names[] = {"f32", "bf16", NULL};
static const struct config_option recipe_options[] = {
    CONFIG_STRING(struct recipe, name, .help = "Name of the run."),
    CONFIG_STRING_OR_NULL(struct recipe, note, .help = "Anything."),
    CONFIG_BOOL(struct recipe, share, .def = "true", .help = "Share towers between objectives."),
    CONFIG_INT(struct recipe, seed, .def = "7", .help = "Of all random numbers."),
    CONFIG_ENUM(struct recipe, precision, precision_names, .def = "f32", .help = "Of the weights."),
    CONFIG_SECTION(struct recipe, optim, optim_table, .help = "The optimiser."),
    CONFIG_INTS(struct recipe, depths, .def = "[2, 2, 18, 2]", .range = "[1, 100]",
                .length = "[4, 4]", .unit = "blocks", .help = "Blocks in each stage."),
    CONFIG_STRINGS(struct recipe, tags, .def = "[]", .help = "For the report."),
    CONFIG_DOUBLE_MAP(struct recipe, multipliers, .def = "{}", .range = "[0, inf)",
                      .help = "Factors of the learning rate by parameter name."),
    CONFIG_CHOICE_OR_NULL(struct recipe, schedule, "type", schedule_tables,
                          .help = "Of the learning rate."),
    CONFIG_SECTION_OR_NULL(struct recipe, eval, evaluation_table, .help = "While training."),
    CONFIG_CHOICES(struct recipe, data, "type", data_tables, .def = "[]", .help = "What to read."),
    CONFIG_SECTION_MAP(struct recipe, suites, evaluation_table, .def = "{}", .length = "[0, 3]",
                       .help = "More evaluations, by name."),
};
static const struct config_table recipe_table = {CONFIG_TABLE(struct recipe, recipe_options),
                                                 .name = "recipe", .help = "A whole run."};

#endif
