/* What the parts of an evaluation share: launch/evaluate.c, eval_features.c, eval_ranking.c,
 * eval_pairs.c, eval_metrics.c. */
#ifndef WEFT_LAUNCH_EVAL_IMPL_H
#define WEFT_LAUNCH_EVAL_IMPL_H

#include "launch/evaluate.h"
#include "runtime/base/arena.h"

/* The first candidates of every query, best first; equal scores by their numbers. */
struct eval_ranking {
    int64_t queries;
    int64_t top;
    int64_t *candidate; /* [queries, top] */
    float *score;       /* [queries, top] */
    int64_t *right; /* [queries] place of the first right answer among all, from 1; INT64_MAX: there
                       is none */
};

struct eval_pair {
    int64_t image;
    int64_t text;
    float match; /* logits of the two classes */
    float other;
};

struct evaluation {
    const struct eval_input *in;
    void *user; /* of in->stop */
    struct arena arena;
    int64_t batch;
    int64_t width;  /* D */
    int64_t length; /* L */
    int64_t top;    /* candidates kept of each query, at least `rerank` */
    int64_t rerank; /* how many of them are put in the order of matching; 0: none */
    int64_t num_images;
    int64_t num_texts;
    int64_t first_image; /* this rank's part */
    int64_t part_images;
    int64_t first_text;
    int64_t part_texts;
    int64_t *counts;              /* [size] scratch of eval_gather */
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

/* The part of `rows` that rank `rank` of `size` has. */
void eval_part(int64_t rows, int rank, int size, int64_t *first, int64_t *count);

/* Sets num_images and num_texts with this rank's parts, and allocates what is as long as they are.
 * Errors: STATUS_NO_MEMORY. */
enum status eval_allocate(struct evaluation *e, int64_t num_images, int64_t num_texts);

/*
 * Calls `batch` until it says that there is no *more, on all ranks together: a failure or a `stop`
 * at one of them ends all of them at the same batch. `begun` is how getting ready went here;
 * without STATUS_OK `batch` is not called. Collective. Errors: those of `begun` and `batch`;
 * STATUS_CANCELLED.
 */
typedef enum status (*eval_batch_fn)(void *user, bool *more);
enum status eval_batches(struct evaluation *e, const char *label, enum status begun,
                         eval_batch_fn batch, void *user);

/* A loader over all pictures or texts of the evaluation sets, this rank's part. */
enum status eval_loader(struct evaluation *e, enum loader_rows rows, struct loader **loader);

/* Completes `data` [rows, row_bytes], of which this rank has its part in place. Collective. */
enum status eval_gather(struct evaluation *e, const char *label, void *data, int64_t rows,
                        int64_t row_bytes);

/* Fills in features, ids, and what belongs to what, on all ranks. Collective. */
enum status eval_features(struct evaluation *e);

/* Fills in the two rankings from features and image_of, on all ranks. Collective. */
enum status eval_rank(struct evaluation *e);

/* Scores candidate pairs, the true pairs, and for each text one drawn wrong picture; fills in
 * e->pairs on all ranks. Collective. */
enum status eval_pairs(struct evaluation *e);

/* The wrong picture drawn for a text; -1 when there is only one picture. */
int64_t eval_drawn_image(const struct evaluation *e, int64_t text);

/* The wrong picture nearest to a text, -1 when there is none among the candidates. */
int64_t eval_hardest_image(const struct evaluation *e, int64_t text);

/* The pair, NULL when it was not scored. */
const struct eval_pair *eval_pair_find(const struct evaluation *e, int64_t image, int64_t text);

/*
 * The first `count` candidates of a query in the final order: the first `rerank` by their matching
 * scores, the others by features. `order` [count] receives places in the ranking.
 */
void eval_final_order(const struct evaluation *e, const struct eval_ranking *r, bool query_is_text,
                      int64_t query, int64_t *order, int64_t count);

/* The place of a query's first right answer in the final order. */
int64_t eval_final_place(const struct evaluation *e, const struct eval_ranking *r,
                         bool query_is_text, int64_t query);

enum { EVAL_MAX_METRICS = 24, EVAL_MAX_TOP = 1024 };

struct eval_numbers {
    struct run_value items[EVAL_MAX_METRICS];
    char names[EVAL_MAX_METRICS][40];
    int count;
};

/*
 * All metrics of a finished ranking (and of pairs, when rerank is above 0), and what chance would
 * give. *text_places [num_texts] (in the arena or the ranking) are the final places of the texts'
 * pictures. Not collective.
 */
enum status eval_metrics(struct evaluation *e, struct eval_numbers *metrics,
                         struct eval_numbers *chance, const int64_t **text_places);

#endif
