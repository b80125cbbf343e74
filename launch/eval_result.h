/*
 * RUN/eval/step-%08d.json: what an evaluation found, for `weft report` and for people's scripts.
 *
 *   {"step": 1000, "split": "val", "set": "data/val-*.h5", "images": 500, "texts": 2500,
 *    "rerank": 64,
 *    "metrics": {"dual/tr@1": 0.61, "itm/tr@1": 0.72, "itm_accuracy": 0.91},
 *    "chance": {"tr@1": 0.002, "itm_accuracy": 0.5},
 *    "examples": [
 *      {"kind": "retrieval_best", "query": "caption", "caption": "...",
 *       "image": {"set": "data/val-*.h5", "index": 7}, "rank": 1,
 *       "candidates": [{"caption": "...", "image": {..}, "score": 0.93, "correct": true}, ...]}]}
 *
 * Metrics are fractions, not percent. Names before a "/" are the method: "dual" by features alone,
 * "itm" after re-ranking. tr@K: given a picture, one of its texts is among the first K; ir@K: given
 * a text, its picture is. `chance` gives the value of a model that knows nothing, under the name
 * with or without the method.
 *
 * A picture is named by the set it is in and its global index there (data/store/store.h); pixels
 * are read when the report is made.
 */
#ifndef WEFT_LAUNCH_EVAL_RESULT_H
#define WEFT_LAUNCH_EVAL_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "launch/run_log.h"
#include "runtime/base/arena.h"
#include "runtime/base/strbuf.h"

/* A picture: `set` is a file, glob or folder as given to store_open; relative to where weft ran. */
struct eval_image {
    const char *set; /* NULL: none */
    int64_t index;
};

enum eval_example_kind {
    EVAL_RETRIEVAL_BEST,  /* a query that the model answered right */
    EVAL_RETRIEVAL_WORST, /* one whose right answer came far down */
    EVAL_HARD_NEGATIVE,   /* a wrong pair that the model took for a match */
    EVAL_NUM_KINDS
};

/* "retrieval_best", "retrieval_worst", "hard_negative". */
const char *eval_example_kind_name(enum eval_example_kind kind);

enum eval_query {
    EVAL_QUERY_CAPTION, /* a text looks for its picture */
    EVAL_QUERY_IMAGE    /* a picture looks for its text */
};

/* One place of a ranking. Give the image for a caption's query, the caption for an image's, or
 * both. */
struct eval_candidate {
    const char *caption; /* NULL: none */
    struct eval_image image;
    double score;
    bool correct;
};

/* A query (caption and image that belong together) and what the model ranked first, best first.
 * For a hard negative the candidates are the right one and the wrong one. */
struct eval_example {
    enum eval_example_kind kind;
    enum eval_query query;
    const char *caption;
    struct eval_image image;
    int64_t rank; /* of the first right answer among all, from 1; 0: not known */
    const struct eval_candidate *candidates;
    int num_candidates;
};

struct eval_result {
    int64_t step;
    const char *split;
    const char *set;
    int64_t num_images;
    int64_t num_texts;
    int64_t rerank; /* how many of the first were scored again by ITM; 0: none */
    struct run_values metrics;
    struct run_values chance;
    const struct eval_example *examples;
    int num_examples;
};

/* Appends `result` as JSON; check out->failed. */
void eval_result_text(const struct eval_result *result, struct strbuf *out);

/* Writes `result` to `path`, replaced as a whole. Not collective. Errors: STATUS_IO,
 * STATUS_NO_MEMORY. */
enum status eval_result_write(const struct eval_result *result, const char *path);

/* Writes it to RUN/eval/step-%08d.json; makes the folder RUN/eval. Errors as above. */
enum status eval_result_save(const struct eval_result *result, const char *run);

/* Reads `path` into `result`, which lives in `arena`. Errors: STATUS_NOT_FOUND, STATUS_IO,
 * STATUS_CORRUPT and STATUS_INVALID naming file and key, STATUS_NO_MEMORY. */
enum status eval_result_read(const char *path, struct arena *arena, struct eval_result *result);

#endif
