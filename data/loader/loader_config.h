/*
 * The sections `data:` and `tokenizer:` of a config, and how they become a loader.
 *
 *     data:
 *       sets:
 *         - {path: "data/coco-train-*.h5"}
 *         - {path: "data/vg-*.h5"}      # weight: 2 in each of them makes a mixture
 *       image_size: 384
 *       transform: albef_randaug
 *       max_text_len: 50
 *     tokenizer:
 *       path: roberta-base            # a folder, or tokenizer.json, vocab.json, vocab.txt
 *
 * The usual order: config_read; tokenizer_config_load; data_open; then for each loader
 * data_loader_options, the caller's own fields (rank, size, batch, start, seed, tokenizer, mlm),
 * and data_loader_create; after cpu_threads_start, so that `threads: 0` finds the rank's
 * processors. Not collective.
 */
#ifndef WEFT_DATA_LOADER_LOADER_CONFIG_H
#define WEFT_DATA_LOADER_LOADER_CONFIG_H

#include "data/loader/loader.h"
#include "runtime/base/config.h"

struct data_set_config {
    const char *path;                   /* a glob, file or folder; NULL when there are paths */
    CONFIG_LIST_OF(const char *) paths; /* several of one set */
    double weight;                      /* 0: none given */
};

enum data_texts { DATA_CAPTION, DATA_QUESTION, DATA_STATEMENT, DATA_EXPRESSION, DATA_ANY };

struct data_config {
    CONFIG_LIST_OF(struct data_set_config) sets;
    CONFIG_LIST_OF(struct data_set_config) eval_sets; /* empty: no evaluation */
    int64_t image_size;
    int transform; /* index of data_transform_name */
    CONFIG_LIST_OF(double) crop_scale;
    double flip;
    int64_t randaug_ops;
    double randaug_level;
    CONFIG_LIST_OF(int64_t) short_sides;
    int64_t max_long_side;
    bool apply_orientation;
    enum data_texts texts;
    int64_t max_text_len;
    bool boxes;
    enum loader_on_bad on_bad;
    double max_bad_rate;
    enum sampler_tail tail;
    int64_t epoch_samples;
    int64_t chunk_rows;
    int64_t window_chunks;
    bool verify;
    int64_t threads;
    int64_t prefetch;
};

enum tokenizer_wanted { TOKENIZER_ANY_KIND, TOKENIZER_WANT_BPE, TOKENIZER_WANT_WORDPIECE };

struct tokenizer_config {
    enum tokenizer_wanted kind;
    const char *path;
    const char *merges; /* NULL: beside the vocabulary */
    bool cased;
    bool add_special;
};

extern const struct config_table data_table;
extern const struct config_table tokenizer_table;

/* The names that data.transform takes, ended by NULL: those of image_transform_name. */
extern const char *const data_transform_names[];

/*
 * Loads the tokenizer of the section whose dotted name is `section` ("tokenizer"). Messages begin
 * with the place in the config that gave the path. Errors: as tokenizer_load, and STATUS_INVALID
 * when it is of another kind than `kind` says.
 */
enum status tokenizer_config_load(const struct tokenizer_config *settings, struct config *config,
                                  const char *section, struct tokenizer **tokenizer);

/* The open sets of a section. Zero-initialise; close with data_close. */
struct data {
    const struct data_config *settings; /* borrowed */
    const char *where;                  /* the section's place in the config; borrowed from it */
    struct store *stores[SAMPLER_MAX_SETS];
    struct loader_set sets[SAMPLER_MAX_SETS];
    int num_sets;
    struct store *eval_stores[SAMPLER_MAX_SETS];
    struct loader_set eval_sets[SAMPLER_MAX_SETS];
    int num_eval_sets;
    struct image_transform transform;
    struct image_transform eval_transform; /* the same sizes without anything random */
};

/*
 * Opens the sets of the section whose dotted name is `section` ("data"). `needs_texts`: a set
 * without texts is refused. Messages begin with the place in the config that named the set. Errors:
 * as store_open and image_transform_find; STATUS_INVALID. On failure nothing stays open.
 */
enum status data_open(const struct data_config *settings, struct config *config,
                      const char *section, bool needs_texts, struct data *data);
void data_close(struct data *data);

/* The same without the sets to train on, which may lie elsewhere. */
enum status data_open_eval(const struct data_config *settings, struct config *config,
                           const char *section, bool needs_texts, struct data *data);

/* Only the transforms, for pictures that come from no set. Errors: those of image_transform_find.
 */
enum status data_find_transforms(const struct data_config *settings, struct data *data);

/*
 * The options for a training loader on data->sets: everything but rank, size, batch, start, seed,
 * tokenizer and mlm, which the caller sets. Borrows from `data`.
 */
struct loader_options data_loader_options(const struct data *data);

/* The same for evaluation: data->eval_sets in sequence, nothing random, no boxes. */
struct loader_options data_eval_options(const struct data *data, enum loader_rows rows);

/* loader_create, with the section's place in the config in front of its messages. */
enum status data_loader_create(const struct data *data, const struct loader_options *options,
                               struct loader **loader);

#endif
