/*
 * Scores of picture files against texts by a trained model: the cosine of their features, and the
 * probability that they match.
 *
 * Pictures are decoded and transformed as in evaluation, a batch at a time, so memory does not grow
 * with their number. A picture that cannot be read is told with its reason and the others are
 * scored all the same. Not collective.
 */
#ifndef WEFT_LAUNCH_INFER_H
#define WEFT_LAUNCH_INFER_H

#include "launch/trained.h"

struct infer_options {
    const char *const *texts;
    int64_t num_texts;
    const char *const *paths; /* of pictures: JPEG, PNG, WebP */
    int64_t num_paths;
    int64_t batch; /* pictures, texts or pairs at a time */
};

/* What was found about a picture; lives until the callback returns. */
struct infer_picture {
    const char *path;
    const char *error; /* NULL: it was scored */
    int64_t width;     /* as decoded, pixels */
    int64_t height;
    const float *similarity;  /* [num_texts]; NULL for a model without contrastive learning */
    const float *probability; /* [num_texts] of a match; NULL for one without matching */
};

/* What was found about a text. */
struct infer_text {
    const char *text;
    int64_t num_tokens; /* with the special ones */
    bool truncated;     /* cut off at max_text_len */
};

struct infer_sink {
    enum status (*texts)(void *user, const struct infer_text *texts, int64_t count); /* first */
    enum status (*picture)(void *user, const struct infer_picture *picture);         /* in order */
    void *user;
};

/*
 * Scores every picture with every text. *num_bad receives how many pictures could not be read.
 * Errors: STATUS_INVALID for a text that is not UTF-8 (with its number), or a model whose pictures
 * vary in size or that has neither similarity nor matching; STATUS_CORRUPT for scores that are not
 * finite; what a callback returns.
 */
enum status infer_run(const struct trained *trained, const struct infer_options *options,
                      const struct infer_sink *sink, int64_t *num_bad);

#endif
