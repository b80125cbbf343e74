/*
 * Objectives, and the step that is recorded from them.
 *
 * A step holds the inputs of one micro-batch, asks the model for prefixes, and lets every objective
 * of the recipe record its loss in order. Objectives are written independently; what they have in
 * common is the same nodes (`share`), or drawn anew for each of them as in the public code
 * (`share: false`).
 *
 * Losses are means over the micro-batch of all ranks: each rank's loss is scaled such that the mean
 * over ranks of losses and of gradients is that of the whole, so a recipe gives the same numbers on
 * any rank count with the same ranks x micro-batch.
 *
 * Letters: B samples of this rank, S image side, L text tokens, D joint width, P rows that masked
 * language modelling predicts.
 */
#ifndef WEFT_OBJECTIVES_OBJECTIVE_H
#define WEFT_OBJECTIVES_OBJECTIVE_H

#include "model/model.h"

enum { STEP_MAX_METRICS = 32, STEP_MAX_TERMS = 16, STEP_MAX_BOUNDS = 4 };

/* The `objectives:` section. */
struct objectives_config {
    bool share;
    CONFIG_LIST_OF(struct config_variant) list;
};
extern const struct config_table objectives_table;

/* A number that is reported: the sum over ranks and micro-steps of `sum`, over that of `weight`. */
struct step_metric {
    const char *name;
    struct tensor *sum;    /* f32 scalar */
    struct tensor *weight; /* f32 scalar; NULL: `count` */
    double count;
};

/* One term of the loss. */
struct step_term {
    const char *name;
    double weight;
    struct tensor *loss; /* f32 scalar; its mean over ranks is the term */
};

/* A parameter that is kept in a range, applied by the caller before the first step and after every
 * update. */
struct step_bound {
    const char *parameter;
    float low, high;
};

struct step_options {
    const struct objectives_config *config;
    struct config_variant model;
    enum dtype dtype;
    bool training;
    int64_t batch; /* B */
    int64_t world_size;
    /* Verification: the step takes normalised pixels f32 [B,3,S,S] and given negatives i32 [B]
     * (numbers among all ranks' rows), predicts every position, and keeps the fused blocks. */
    bool verify;
    /* Evaluation: nothing of the loss is kept; what was recorded gives the parameters the order
     * they have in training. The caller records what it needs and marks it as outputs. */
    bool parameters_only;
};

struct step {
    struct graph *graph;
    struct model model;
    bool share;
    bool verify;
    bool parameters_only;
    int64_t batch;
    int64_t world_size;

    /* Inputs, to be filled before a run. */
    struct tensor *pixels;      /* u8 [B,S,S,3] */
    struct tensor *ids;         /* i32 [B,L] */
    struct tensor *mask;        /* i32 [B,L] */
    struct tensor *mlm_ids;     /* i32 [B,L]; NULL without masked language modelling */
    struct tensor *mlm_index;   /* i32 [P] rows of [B*L] */
    struct tensor *mlm_targets; /* i32 [P], -100 beyond the last one */
    struct tensor *mlm_weights; /* f32 [P], 1 and 0 */
    struct tensor *image_queue; /* f32 [Q,D]; NULL without a queue */
    struct tensor *text_queue;  /* f32 [Q,D] */
    struct tensor *queue_bias;  /* f32 [Q], for the loss: 0, or -10000 to leave a column out */
    struct tensor *queue_empty; /* f32 [Q], for negatives: 0, or -10000 where nothing was written */

    /* What an objective leaves for later ones; NULL before. */
    struct tensor *image_to_text; /* f32 [B,M] similarities over temperature, own rows first */
    struct tensor *text_to_image;
    bool columns_of_all_ranks;
    struct tensor *negative_image; /* i32 [B] for each text */
    struct tensor *negative_text;  /* i32 [B] for each image */
    struct tensor *image_feature;  /* f32 [B,D] of contrastive learning */
    struct tensor *text_feature;   /* f32 [B,D] */

    struct tensor *loss; /* f32 scalar */
    struct step_term terms[STEP_MAX_TERMS];
    int num_terms;
    struct step_metric metrics[STEP_MAX_METRICS];
    int num_metrics;
    struct step_bound bounds[STEP_MAX_BOUNDS];
    int num_bounds;
};

/* An objective: one file, one row in step.c. `config` is a struct of `table`, whose first field is
 * a `double weight`. */
struct objective {
    const struct config_table *table; /* its name is the objective's */
    void (*record)(struct step *step, const void *config);
};

/*
 * Records the forward pass of all objectives and, when training, the backward pass. Not collective.
 * The caller releases with step_fini. Errors: STATUS_INVALID for sizes that do not fit, with the
 * module path or the objective's name.
 */
enum status step_init(struct step *step, const struct step_options *options);
void step_fini(struct step *step);

/* The config of the objective called `name`, NULL when the recipe has none. */
const void *objectives_find(const struct objectives_config *config, const char *name);

/* Number of rows P for masked language modelling: 8 standard deviations above the mean count. */
int64_t step_mlm_rows(const struct objectives_config *config, int64_t batch, int64_t max_text_len);

/* ---- for objectives ---- */

/* Prefixes of the batch. Without sharing, each objective's own. */
struct tensor *step_pixels(struct step *step); /* normalised, float [B,3,S,S] */
struct tensor *step_normalize(struct step *step, struct tensor *pixels); /* u8 [N,S,S,3] */
struct tensor *step_image(struct step *step);
struct model_text step_text(struct step *step, struct tensor *ids);

/* Adds the objective's term, `loss` being this rank's mean. */
void step_term_add(struct step *step, const char *name, double weight, struct tensor *loss);

/* Reports sum / weight (both f32 scalars) or sum / count. The name is literal. */
void step_metric_add(struct step *step, const char *name, struct tensor *sum, struct tensor *weight,
                     double count);
void step_bound_add(struct step *step, const char *parameter, float low, float high);

/* An extra row of `objectives.list`: every objective begins with it. */
#define OBJECTIVE_WEIGHT(strct)                                                                    \
    CONFIG_DOUBLE(strct, weight, .def = "1", .range = "(0, 1000]",                                 \
                  .help = "Factor of this term in the loss.")

extern const struct objective mlm_objective;
extern const struct objective itc_objective;
extern const struct objective itm_objective;

/* Options that code outside the objective reads: the loader masks, launch keeps the queue. */
struct mlm_config {
    double weight;
    double probability;
    bool whole_word;
};
enum itc_mode { ITC_GATHERED, ITC_FIBER };
struct itc_config {
    double weight;
    enum itc_mode mode;
    double temperature;
    int64_t queue;
    bool mask_unfilled;
};
struct itm_config {
    double weight;
    double hardness;
};

#endif
