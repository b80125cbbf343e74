/*
 * The interface of a model family: what objectives may ask of any vision-language model.
 *
 * A pass has two halves. The prefix of a tower is what it computes before the modalities meet; it
 * is computed once per distinct input, because asking again finds the same nodes. The rest of a
 * tower runs either alone (a feature for contrastive learning) or together with the other one (a
 * fused pair). Prefixes are batches: objectives pick, repeat and join their rows along the first
 * dimension before fusing.
 *
 * Letters: B samples, S image side, L text tokens, D joint width, T image tokens.
 */
#ifndef WEFT_MODEL_MODEL_H
#define WEFT_MODEL_MODEL_H

#include "runtime/base/config.h"
#include "runtime/ops/ops.h"

/* What every family's config has in common. */
struct model_facts {
    int64_t image_size;   /* S, pixels */
    int64_t max_text_len; /* L, tokens with the special ones */
    int64_t vocab;
    int64_t hidden;  /* D */
    int64_t padding; /* id of the padding token */
    float init_std;  /* standard deviation that matrices start with */
};

struct model;

struct model_text {
    struct tensor *tokens; /* [B,L,width] */
    struct tensor *mask;   /* i32 [B,L], 1 = token */
};

struct model_pair {
    struct tensor *text;  /* [B,L,D] token features */
    struct tensor *image; /* [B,T,D] token features */
    struct tensor *cls;   /* [B,2D] one vector a pair */
};

/* A family: one file, one row in model.c. */
struct model_family {
    const struct config_table *table; /* its name is the family's */
    enum status (*check)(const void *config, struct model_facts *facts);
    struct tensor *(*image_prefix)(const struct model *model, struct graph *g,
                                   struct tensor *pixels);
    struct model_text (*text_prefix)(const struct model *model, struct graph *g, struct tensor *ids,
                                     struct tensor *mask);
    struct tensor *(*image_feature)(const struct model *model, struct graph *g,
                                    struct tensor *prefix);
    struct tensor *(*text_feature)(const struct model *model, struct graph *g,
                                   const struct model_text *prefix);
    struct model_pair (*fuse)(const struct model *model, struct graph *g, struct tensor *image,
                              const struct model_text *text);
};

/* A model to be recorded; filled in by model_init. */
struct model {
    const struct model_family *family;
    const void *config; /* of the family; borrowed */
    struct model_facts facts;
    enum dtype dtype;  /* of activations: f32 or bf16 */
    bool training;     /* dropout and drop-path are on */
    int64_t samples;   /* distinct samples of a batch, see op_dropout */
    const char *trace; /* non-NULL: the next pass keeps the result of every block as an output
                          called TRACE/image/... and TRACE/text/...; for verification */
};

/* Choices of a `model:` section, by the key `family`; ended by NULL. */
extern const struct config_table *const model_choices[];

/*
 * Prepares `model` for the chosen family and config (borrowed), for evaluation in f32 of batches of
 * `samples`. Errors: STATUS_INVALID for sizes that do not fit together.
 */
enum status model_init(struct model *model, const struct config_variant *choice, int64_t samples);

/* Pixels, normalised, float [B,3,S,S] -> the image prefix [B,...]. */
struct tensor *model_image_prefix(const struct model *model, struct graph *g,
                                  struct tensor *pixels);

/* ids i32 [B,L], mask i32 [B,L] -> the text prefix. */
struct model_text model_text_prefix(const struct model *model, struct graph *g, struct tensor *ids,
                                    struct tensor *mask);

/* The rest of a tower alone -> f32 [B,D], L2-normalised. */
struct tensor *model_image_feature(const struct model *model, struct graph *g,
                                   struct tensor *prefix);
struct tensor *model_text_feature(const struct model *model, struct graph *g,
                                  const struct model_text *prefix);

/* Both towers from their prefixes on, row by row. */
struct model_pair model_fuse(const struct model *model, struct graph *g, struct tensor *image,
                             const struct model_text *text);

/* For families: keeps `tensor` as the output TRACE/<format> while tracing. */
void model_keep(const struct model *model, struct graph *g, struct tensor *tensor,
                const char *format, ...) STATUS_PRINTF(4, 5);

#endif
