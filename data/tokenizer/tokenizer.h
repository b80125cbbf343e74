/*
 * Text to token ids and back: byte-level BPE (GPT-2, RoBERTa) and WordPiece (BERT).
 *
 * A `struct tokenizer` is the read-only tables; any number of threads may share one. Each thread
 * that encodes has a `struct tokenizer_scratch` of its own (work space and a cache of words), and
 * results go into a `struct encoding` that the caller keeps and reuses, so that after the first
 * few samples nothing is allocated.
 *
 * Positions in text are counted in characters, i.e. Unicode code points, as Python, MDETR's
 * `tokens_positive` and our store count them, never in bytes. Spans are half-open. As in the
 * Hugging Face library, the span of a BPE token excludes the spaces (U+0020) at its ends, a token
 * that holds a part of a character's bytes spans that whole character, and special tokens around
 * the text have the empty span (0, 0).
 *
 * A word, for TOKEN_WORD_START and whole-word masking, is what the tokenizer's own split rule
 * makes: a run of letters with its leading space, a run of digits, of punctuation, of white space,
 * or a contraction such as 's (BPE); letters and digits between spaces and punctuation, or one
 * punctuation character (WordPiece). This is `word_ids()` of the Hugging Face library.
 *
 * Nothing here is collective; errors are in runtime/base/status.h.
 */
#ifndef WEFT_DATA_TOKENIZER_TOKENIZER_H
#define WEFT_DATA_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/base/strbuf.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tokenizer;
struct tokenizer_scratch;

enum tokenizer_kind { TOKENIZER_BPE, TOKENIZER_WORDPIECE };

/* What special tokens are for; the names in the usual vocabularies are on the right. */
enum tokenizer_role {
    TOKENIZER_BEGIN,   /* <s>     [CLS]  first token of a sequence */
    TOKENIZER_PAD,     /* <pad>   [PAD]  fills a batch row up */
    TOKENIZER_END,     /* </s>    [SEP]  last token of a sequence */
    TOKENIZER_UNKNOWN, /* <unk>   [UNK]  stands for what cannot be encoded */
    TOKENIZER_MASK,    /* <mask>  [MASK] hides a token from the model */
    TOKENIZER_NUM_ROLES
};

struct tokenizer_options {
    /* merges.txt, where `path` of tokenizer_load is a vocab.json that has none beside it. */
    const char *merges;
    /* Token names by role, NULL for the usual ones. A name given here must exist in the vocabulary,
     * unless add_special is set. */
    const char *special[TOKENIZER_NUM_ROLES];
    /* Adds the special tokens that are missing behind the last id, in the order of the roles.
     * GPT-2's own vocabulary has none of them. */
    bool add_special;
    /* WordPiece from a vocab.txt, which does not say: true keeps case and accents. */
    bool cased;
};

/*
 * Loads a tokenizer from `path`: a folder or one of the files. Read are
 *   tokenizer.json            of the Hugging Face library, type BPE (byte-level) or WordPiece
 *   vocab.json + merges.txt   byte-level BPE, as GPT-2 and RoBERTa
 *   vocab.txt                 WordPiece, as BERT (one token a line, the id is the line number)
 * In a folder tokenizer.json goes first; one with both vocab.json and vocab.txt and no
 * tokenizer.json is unclear, and an error. `options` may be NULL. `*out` is freed with
 * tokenizer_destroy. Errors: NOT_FOUND, IO, CORRUPT (with file and line or token), UNSUPPORTED (a
 * tokenizer.json of another kind), INVALID.
 */
enum status tokenizer_load(const char *path, const struct tokenizer_options *options,
                           struct tokenizer **out);

/*
 * Writes a byte-level BPE tokenizer as vocab.json, merges.txt and tokenizer.json into `folder`,
 * which is made when it is not there. tokenizer_load and the Hugging Face library read them. Each
 * file appears complete or not at all. Errors: IO, UNSUPPORTED (WordPiece).
 */
enum status tokenizer_save(const struct tokenizer *tokenizer, const char *folder);

/* Frees a tokenizer and sets the pointer to NULL; NULL-safe. */
void tokenizer_destroy(struct tokenizer **tokenizer);

enum tokenizer_kind tokenizer_kind(const struct tokenizer *tokenizer);

/* The number of ids, special and added tokens included: ids are [0, size). */
int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer);

/* The id of a special token, or -1 when this vocabulary has none. */
int32_t tokenizer_special(const struct tokenizer *tokenizer, enum tokenizer_role role);

/* The same, for a caller that cannot do without: NOT_FOUND with the remedy when there is none. */
enum status tokenizer_require(const struct tokenizer *tokenizer, enum tokenizer_role role,
                              int32_t *id);

/* True when `id` is a special token of any role, or marked special in tokenizer.json. */
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);

/* The token as the vocabulary file writes it (a space is Ġ in byte-level BPE), NUL-terminated and
 * owned by the tokenizer; NULL when `id` is outside the vocabulary. */
const char *tokenizer_token(const struct tokenizer *tokenizer, int32_t id);

/* The id of a token as the vocabulary file writes it, -1 when there is none. */
int32_t tokenizer_id(const struct tokenizer *tokenizer, const char *token);

/* A 64-bit fingerprint of everything that decides ids (tokens, merges, special tokens, flags), so
 * that a checkpoint can refuse to go on with another tokenizer. */
uint64_t tokenizer_fingerprint(const struct tokenizer *tokenizer);

/* ---- encoding ---------------------------------------------------------------------------- */

/* Half-open range of characters (Unicode code points) of a text. */
struct text_span {
    int32_t begin, end;
};

enum token_flag {
    TOKEN_WORD_START = 1, /* first token of a word */
    TOKEN_SPECIAL = 2     /* put around the text, or read in it by special_in_text */
};

/* The tokens of one text. Zero-initialise; grown as needed, freed by encoding_fini. */
struct encoding {
    int32_t *ids;            /* [count] */
    struct text_span *spans; /* [count] */
    uint8_t *flags;          /* [count], or-ed enum token_flag */
    int64_t count;
    int64_t capacity;
    bool truncated; /* max_length cut something off */
};

struct encode_options {
    /* The most tokens, special ones included; 0 is no limit. Cuts at the right and keeps the end
     * token. Must leave room for the special tokens. */
    int64_t max_length;
    /* Puts the begin and the end token around the text; both must exist. */
    bool add_special;
    /* Reads "<mask>" and the like in the text as the special token. Off, text is only text: a
     * caption that spells "</s>" cannot end its sequence. (Added tokens that tokenizer.json does
     * not mark special are always matched.) */
    bool special_in_text;
    /* Text that is not UTF-8 is refused with the byte's position. Set, it is encoded all the same:
     * byte-level BPE keeps such bytes (each counts as one character, and decoding gives them
     * back), WordPiece drops them as BERT drops U+FFFD. */
    bool allow_bytes;
};

/* Creates the work space of one thread for this tokenizer (about 1 MB). */
enum status tokenizer_scratch_create(const struct tokenizer *tokenizer,
                                     struct tokenizer_scratch **out);
void tokenizer_scratch_destroy(struct tokenizer_scratch **scratch);

/*
 * Encodes `length` bytes of UTF-8 into `out`, replacing what it held. `options` NULL: everything
 * off. Linear in the length (n log n in the length of one word). Errors: INVALID (not UTF-8, text
 * of 2^31 bytes and more, max_length too small), NOT_FOUND (no begin or end token), NO_MEMORY.
 */
enum status tokenizer_encode(const struct tokenizer *tokenizer, struct tokenizer_scratch *scratch,
                             const char *text, size_t length, const struct encode_options *options,
                             struct encoding *out);

void encoding_fini(struct encoding *encoding);

/*
 * Writes `encoding` as one batch row: ids[row_length] filled up with the pad token,
 * mask[row_length] 1 for tokens and 0 for padding. INVALID when it has more than `row_length`
 * tokens (encode with max_length), NOT_FOUND when the vocabulary has no pad token.
 */
enum status tokenizer_pad(const struct tokenizer *tokenizer, const struct encoding *encoding,
                          int64_t row_length, int32_t *ids, int32_t *mask);

/*
 * Encodes and pads `count` texts: ids and mask are [count, row_length]. options->max_length is
 * taken to be row_length. An error names the row.
 */
enum status tokenizer_encode_batch(const struct tokenizer *tokenizer,
                                   struct tokenizer_scratch *scratch, const char *const *texts,
                                   const size_t *lengths, int64_t count,
                                   const struct encode_options *options, int64_t row_length,
                                   int32_t *ids, int32_t *mask);

/* The first token whose span holds character `position`, or -1 (it is a space, or was cut off). */
int64_t encoding_find_char(const struct encoding *encoding, int64_t position);

/*
 * The tokens [first, last] (inclusive) of characters [begin, end), as the positive maps of MDETR
 * and GLIP find them: the token of `begin`, else of begin + 1, else begin + 2; and of end - 1, else
 * end - 2, else end - 3. False when one of the two is not found or they are out of order.
 */
bool encoding_find_span(const struct encoding *encoding, struct text_span span, int64_t *first,
                        int64_t *last);

/*
 * Appends the text of `count` ids to `out`. BPE gives back exactly the bytes that were encoded.
 * WordPiece joins words with one space and leaves case, accents and the spacing of punctuation
 * lost. `skip_special` leaves special tokens out. INVALID when an id is outside the vocabulary.
 */
enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, int64_t count,
                             bool skip_special, struct strbuf *out);

#ifdef __cplusplus
}
#endif
#endif
