/*
 * One Philox block of four words a token: [0] chooses (with whole words, that of the word's first
 * token), [1] decides what becomes of it, [2] is the random id, [3] is not used. Thresholds are
 * kept as 33-bit integers so that 0 and 1 mean never and always.
 */
#include "data/tokenizer/mlm.h"

#include <inttypes.h>

const struct mlm_options mlm_defaults = {
    .probability = 0.15, .mask_fraction = 0.8, .random_fraction = 0.1};

static bool is_probability(double value)
{
    return value >= 0 && value <= 1; /* false for NaN */
}

static uint64_t threshold(double probability)
{
    return (uint64_t)(probability * 0x1p32 + 0.5);
}

enum status mlm_init(struct mlm *mlm, const struct tokenizer *tokenizer,
                     const struct mlm_options *options)
{
    if (!options) options = &mlm_defaults;
    double both = options->mask_fraction + options->random_fraction;
    CHECK(is_probability(options->probability), STATUS_INVALID,
          "the probability of masking is %g, it must be in [0, 1]", options->probability);
    CHECK(is_probability(options->mask_fraction) && is_probability(options->random_fraction) &&
              both <= 1 + 1e-9,
          STATUS_INVALID,
          "of the chosen tokens %g become the mask and %g random; both must be in [0, 1], and so "
          "must their sum",
          options->mask_fraction, options->random_fraction);
    *mlm = (struct mlm){.tokenizer = tokenizer,
                        .key = rng_key(options->seed, RNG_MASK, options->site),
                        .choose = threshold(options->probability),
                        .mask = threshold(options->mask_fraction),
                        .replace = threshold(both),
                        .whole_word = options->whole_word};
    return tokenizer_require(tokenizer, TOKENIZER_MASK, &mlm->mask_id);
}

enum status mlm_mask(const struct mlm *mlm, uint64_t epoch, uint64_t sample,
                     const struct encoding *encoding, int64_t row_length, int32_t *ids,
                     int32_t *labels)
{
    /* The attention mask is not wanted here; the labels, written below, lend it their room. */
    TRY(tokenizer_pad(mlm->tokenizer, encoding, row_length, ids, labels));
    uint32_t vocab_size = (uint32_t)tokenizer_vocab_size(mlm->tokenizer);
    bool word_chosen = false;
    for (int64_t i = 0; i < row_length; i++) {
        labels[i] = MLM_IGNORE;
        if (i >= encoding->count) continue;
        struct rng_block draw = rng_at(mlm->key, epoch, sample, (uint32_t)i);
        bool chosen = draw.word[0] < mlm->choose;
        if (mlm->whole_word) {
            if (i == 0 || encoding->flags[i] & TOKEN_WORD_START) word_chosen = chosen;
            chosen = word_chosen;
        }
        if (!chosen || tokenizer_is_special(mlm->tokenizer, ids[i])) continue;
        labels[i] = ids[i];
        if (draw.word[1] < mlm->mask) {
            ids[i] = mlm->mask_id;
        } else if (draw.word[1] < mlm->replace) {
            ids[i] = (int32_t)rng_below(draw.word[2], vocab_size);
        }
    }
    return STATUS_OK;
}
