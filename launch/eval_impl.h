/* What the parts of an evaluation share: launch/evaluate.c, eval_features.c, eval_pairs.c. */
#ifndef WEFT_LAUNCH_EVAL_IMPL_H
#define WEFT_LAUNCH_EVAL_IMPL_H

#include "launch/evaluate.h"
#include "runtime/base/arena.h"

/* A graph behind a copy of the training step that keeps nothing, so that the flat vector of
 * parameters has the same layout; it runs on the training's parameters. */
struct eval_pass {
    struct step step;
    struct executor *executor;
};

/* The first candidates of every query, best first. */
struct eval_ranking {
    int64_t queries;
    int64_t top;
    int64_t *candidate; /* [queries, top] */
    float *score;       /* [queries, top] */
    int64_t *right;     /* [queries] place of the first right answer among all, from 1 */
};

struct eval_pair {
    int64_t image;
    int64_t text;
    float match; /* logits of the two classes */
    float other;
};

struct evaluation {
    struct trainer *t;
    struct arena arena;
    int64_t batch;
    int64_t width;  /* D */
    int64_t length; /* L */
    int64_t top;    /* candidates kept of each query */
    int64_t num_images;
    int64_t num_texts;
    int64_t first_image; /* this rank's part */
    int64_t part_images;
    int64_t first_text;
    int64_t part_texts;
    float *image_features;        /* [num_images, D] */
    float *text_features;         /* [num_texts, D] */
    int32_t *ids;                 /* [num_texts, L] */
    int32_t *mask;                /* [num_texts, L] */
    int64_t *image_of;            /* [num_texts] the text's picture */
    int64_t *set_image;           /* [num_images] its index in its set */
    int32_t *set_of;              /* [num_images] */
    struct eval_ranking of_image; /* texts for each picture */
    struct eval_ranking of_text;  /* pictures for each text */
    struct eval_pair *pairs;      /* [num_pairs] all ranks', by picture and text; malloc */
    int64_t num_pairs;
};

/* Records a pass: init, then the caller's outputs, then ready. Release with fini. */
enum status eval_pass_init(struct evaluation *e, struct eval_pass *pass);
enum status eval_pass_ready(struct evaluation *e, struct eval_pass *pass);
void eval_pass_fini(struct eval_pass *pass);

/* Runs it; *values points to the output called `output`. */
enum status eval_pass_run(struct eval_pass *pass, const char *output, const float **values);

/* A loader over all pictures or texts of the evaluation sets, this rank's part. */
enum status eval_loader(struct evaluation *e, enum loader_rows rows, struct loader **loader);

/* Completes `data` [rows, row_bytes], of which this rank has its part in place. Collective. */
enum status eval_gather(struct evaluation *e, const char *label, void *data, int64_t rows,
                        int64_t row_bytes);

/* Fills in features, ids and the two rankings, on all ranks. Collective. */
enum status eval_features(struct evaluation *e);

/* Scores candidate pairs, the true pairs, and for each text one drawn wrong picture; fills in
 * e->pairs on all ranks. Collective. */
enum status eval_pairs(struct evaluation *e);

/* The wrong picture drawn for a text; -1 when there is only one picture. */
int64_t eval_drawn_image(const struct evaluation *e, int64_t text);

/* The pair, NULL when it was not scored. */
const struct eval_pair *eval_pair_find(const struct evaluation *e, int64_t image, int64_t text);

#endif
