/*
 * Names of weights in other people's files, and what this project calls them.
 *
 * Parameters have the names of FIBER's public state dict, so its files need no table. Backbones of
 * Hugging Face (RoBERTa) and timm (Swin) are told by their names.
 */
#ifndef WEFT_MODEL_WEIGHT_NAMES_H
#define WEFT_MODEL_WEIGHT_NAMES_H

#include <stddef.h>

#include "runtime/checkpoint/weights.h"

enum weight_names_scheme {
    WEIGHT_NAMES_REFERENCE, /* FIBER's and ours */
    WEIGHT_NAMES_ROBERTA,   /* RobertaForMaskedLM, RobertaModel */
    WEIGHT_NAMES_SWIN,      /* Microsoft's and timm's before 0.9: a stage ends in its merging */
    WEIGHT_NAMES_SWIN_MERGE_FIRST, /* timm from 0.9 on: a stage begins with it */
    WEIGHT_NAMES_COUNT
};

/* "FIBER", "Hugging Face RoBERTa", ... */
const char *weight_names_title(enum weight_names_scheme scheme);

/* Recognises the scheme of `count` names. */
enum weight_names_scheme weight_names_detect(const char *const *names, int64_t count);

/*
 * Writes our name of `name` to `ours` [size] and returns true; false for what a model does not
 * take: heads of other tasks, buffers that are computed, queues. Names the scheme does not know are
 * left as they are. `rank_output` is loaded like a parameter and read by nothing: pairs are ranked
 * by the matching head.
 */
bool weight_names_map(enum weight_names_scheme scheme, const char *name, char *ours, size_t size);

/* Gives all tensors of `weights` our names, file by file. Errors: STATUS_NO_MEMORY. */
enum status weight_names_apply(struct weights *weights);

#endif
