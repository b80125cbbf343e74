/*
 * Masking for masked language models (BERT, section 3.1; the collator of the Hugging Face library).
 *
 * Every token that is not special is chosen with `probability`, independently of the others. Of the
 * chosen ones 80 % become the mask token, 10 % a uniformly random id of the whole vocabulary (which
 * may be the same id or a special one), 10 % stay; all of them get their id as the label, the
 * others -100. A row may end up with no label at all: a loss must take its mean over the labels of
 * the batch, and cope with none.
 *
 * Whole-word masking chooses words (TOKEN_WORD_START) with that probability instead, and then every
 * token of a chosen word; what becomes of a token is still drawn per token. A token's chance of
 * being chosen is the same. The reference collator's whole-word mode looks for "##" and so only
 * works with WordPiece; it also draws a fixed number of tokens a row, where this draws each word on
 * its own.
 *
 * The numbers are a function of (seed, site, epoch, sample, place of the token in the row), so that
 * any sample's mask can be drawn again alone, whatever the rank count, batch or length of the rows.
 */
#ifndef WEFT_DATA_TOKENIZER_MLM_H
#define WEFT_DATA_TOKENIZER_MLM_H

#include <stdbool.h>
#include <stdint.h>

#include "data/tokenizer/tokenizer.h"
#include "runtime/base/rng.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MLM_IGNORE = -100 }; /* the label of tokens that take no part in the loss */

struct mlm_options {
    double probability;     /* of a token being chosen, [0, 1] */
    double mask_fraction;   /* of the chosen: becomes the mask token */
    double random_fraction; /* of the chosen: becomes a random id; the rest stays */
    bool whole_word;
    uint64_t seed; /* the run's */
    uint64_t site; /* tells apart maskings of the same sample within one run */
};

/* 0.15, 0.8, 0.1, tokens, seed 0, site 0. */
extern const struct mlm_options mlm_defaults;

/* Read-only after mlm_init, so threads may share it. Nothing to free. */
struct mlm {
    const struct tokenizer *tokenizer; /* borrowed */
    struct rng_key key;
    uint64_t choose;  /* a 32-bit draw below this: chosen */
    uint64_t mask;    /* a second one below this: the mask token, */
    uint64_t replace; /* else below this: a random id */
    bool whole_word;
    int32_t mask_id;
};

/* `options` NULL: the defaults. `tokenizer` must outlive `mlm`. INVALID when a probability is not
 * one, NOT_FOUND when the vocabulary has no mask token. */
enum status mlm_init(struct mlm *mlm, const struct tokenizer *tokenizer,
                     const struct mlm_options *options);

/*
 * Writes the masked row of one sample: ids[row_length] padded as tokenizer_pad does, and
 * labels[row_length]. `epoch` (its lower 32 bits) and `sample`, the global sample index, name the
 * draw. Errors as tokenizer_pad.
 */
enum status mlm_mask(const struct mlm *mlm, uint64_t epoch, uint64_t sample,
                     const struct encoding *encoding, int64_t row_length, int32_t *ids,
                     int32_t *labels);

#ifdef __cplusplus
}
#endif
#endif
