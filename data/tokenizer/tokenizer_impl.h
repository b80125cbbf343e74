/*
 * What the files of this folder share: the loaded tables. See tokenizer.h for the interface.
 */
#ifndef WEFT_DATA_TOKENIZER_TOKENIZER_IMPL_H
#define WEFT_DATA_TOKENIZER_TOKENIZER_IMPL_H

#include "data/tokenizer/bpe.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/vocab.h"

/* A token that is looked for in the text itself, before any splitting. */
struct added_token {
    int32_t id;
    bool special;     /* only with encode_options.special_in_text */
    bool strip_left;  /* takes the white space before it along */
    bool strip_right; /* and after it */
};

/* BERT's normalisation, applied in this order. */
struct wordpiece {
    bool clean_text;    /* drop control characters and U+FFFD, all white space is a space */
    bool split_cjk;     /* every Chinese character is a word */
    bool strip_accents; /* NFD, then drop nonspacing marks */
    bool lower_case;
    int32_t max_word; /* characters; a longer word is unknown */
};

struct tokenizer {
    enum tokenizer_kind kind;
    struct vocab vocab;
    struct bpe bpe;             /* kind BPE */
    struct wordpiece wordpiece; /* kind WORDPIECE */
    bool prefix_space;          /* BPE: text that starts without white space gets a space */
    int32_t special[TOKENIZER_NUM_ROLES]; /* id or -1 */
    struct added_token *added;            /* [num_added], by first byte, then the longest first */
    int64_t num_added;
    int64_t added_capacity;
    bool has_plain_added;     /* one of them is not special */
    int64_t added_begin[257]; /* added tokens that start with byte b: [added_begin[b], [b + 1]) */
    uint64_t fingerprint;
};

/* Usual names of special tokens by kind and role. */
extern const char *const tokenizer_role_names[2][TOKENIZER_NUM_ROLES];

/* A role in words: "begin", "pad", ... */
extern const char *const tokenizer_role_words[TOKENIZER_NUM_ROLES];

/* An empty tokenizer for the parsers to fill. */
enum status tokenizer_create(struct tokenizer **out);

/*
 * Parsers of file contents. Each fills an empty tokenizer (or the vocabulary in it) from `size`
 * bytes; `file` is for messages. They leave what they filled to tokenizer_destroy on errors.
 * Afterwards tokenizer_finish must be called.
 */

/* vocab.json: an object from token to id. Fills and indexes the vocabulary. */
enum status parse_vocab_json(struct tokenizer *tokenizer, const char *file, const char *bytes,
                             size_t size);

/* merges.txt after vocab.json: one merge a line, "LEFT RIGHT", behind an optional #version line. */
enum status parse_merges_txt(struct tokenizer *tokenizer, const char *file, const char *bytes,
                             size_t size);

/* vocab.txt: one token a line. Fills and indexes the vocabulary, sets BERT's defaults. */
enum status parse_vocab_txt(struct tokenizer *tokenizer, const char *file, const char *bytes,
                            size_t size);

/* tokenizer.json of the Hugging Face library: everything at once. */
enum status parse_tokenizer_json(struct tokenizer *tokenizer, const char *file, const char *bytes,
                                 size_t size);

/*
 * Resolves special tokens (`options` may be NULL), checks that the text can be encoded, and
 * computes what encoding needs. `file` is for messages.
 */
enum status tokenizer_finish(struct tokenizer *tokenizer, const char *file,
                             const struct tokenizer_options *options);

/* Enters a token to be looked for in the text, unless it is entered already. */
enum status tokenizer_add_token(struct tokenizer *tokenizer, struct added_token added);

/* For the byte-level alphabet: works out the bytes of all tokens and the tokens of single bytes. */
enum status tokenizer_map_bytes(struct tokenizer *tokenizer);

/*
 * Enters the merge of two tokens given as text, with the next rank. `where` is for messages, e.g.
 * "merges.txt:17". CORRUPT when one of the three tokens is missing or the pair was there.
 */
enum status tokenizer_add_merge(struct tokenizer *tokenizer, const char *where, const char *left,
                                size_t left_length, const char *right, size_t right_length);

/*
 * Compares the vocabulary with the merges: tokens that no merge makes and that do not look special
 * mean that files do not belong together or that merges were cut off. CORRUPT above 1 % of the
 * vocabulary, a warning below.
 */
enum status tokenizer_check_merges(const struct tokenizer *tokenizer, const char *file);

#endif
