/*
 * tokenizer.json of the Hugging Face library: model, added tokens and the pipeline around them.
 *
 * The pipeline is a program of its own with many parts; read are the two that this module
 * implements, as that library writes them for RoBERTa, GPT-2 and BERT. Whatever else would change
 * ids is an error that names the key, never passed over. Left aside without effect on the ids of a
 * text: truncation, padding and the decoder, which are the caller's options here.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "data/tokenizer/tokenizer_impl.h"

struct reader {
    struct tokenizer *tokenizer;
    const char *file;
};

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : json_is_null(object) || !object ? "null" : "without a type";
}

static bool is_absent(const json_t *value)
{
    return !value || json_is_null(value);
}

/* Reads a boolean that may be absent or null. */
static enum status read_flag(const struct reader *reader, const char *place, const json_t *object,
                             const char *key, bool fallback, bool *out)
{
    const json_t *value = json_object_get(object, key);
    *out = fallback;
    CHECK(is_absent(value) || json_is_boolean(value), STATUS_CORRUPT,
          "%s: %s.%s must be true or false", reader->file, place, key);
    if (!is_absent(value)) *out = json_is_true(value);
    return STATUS_OK;
}

/* Refuses an option that changes ids in a way that is not implemented. */
static enum status refuse_option(const struct reader *reader, const json_t *model, const char *key)
{
    const json_t *value = json_object_get(model, key);
    bool off = is_absent(value) || json_is_false(value) ||
               (json_is_string(value) && json_string_length(value) == 0) ||
               (json_is_number(value) && json_number_value(value) == 0);
    CHECK(off, STATUS_UNSUPPORTED, "%s: model.%s is set, which is not supported", reader->file,
          key);
    return STATUS_OK;
}

/* ---- vocabulary and added tokens ------------------------------------------------------------ */

static enum status read_vocab(const struct reader *reader, const json_t *model, const json_t *added)
{
    json_t *vocab = json_object_get(model, "vocab");
    CHECK(json_is_object(vocab), STATUS_CORRUPT,
          "%s: model.vocab must be an object like {\"token\": id, ...}", reader->file);
    int64_t limit = (int64_t)json_object_size(vocab) + (int64_t)json_array_size(added);
    const char *key;
    size_t length;
    json_t *value;
    json_object_keylen_foreach(vocab, key, length, value)
    {
        CHECK(json_is_integer(value) && length > 0, STATUS_CORRUPT,
              "%s: model.vocab: token '%s' must be a text with an integer id", reader->file, key);
        TRY(vocab_place(&reader->tokenizer->vocab, reader->file, key, length,
                        json_integer_value(value), limit));
    }
    return STATUS_OK;
}

/* Places one of added_tokens, or finds it in the vocabulary under the same id. */
static enum status read_added(const struct reader *reader, size_t index, const json_t *entry,
                              int64_t limit)
{
    struct vocab *vocab = &reader->tokenizer->vocab;
    const json_t *id = json_object_get(entry, "id");
    const json_t *content = json_object_get(entry, "content");
    CHECK(json_is_integer(id) && json_is_string(content) && json_string_length(content) > 0,
          STATUS_CORRUPT, "%s: added_tokens[%zu] must have an integer id and a text content",
          reader->file, index);
    const char *text = json_string_value(content);
    size_t length = json_string_length(content);
    int64_t number = json_integer_value(id);
    struct added_token added = {.id = (int32_t)number};
    bool single_word;
    bool normalized;
    TRY(read_flag(reader, "added_tokens", entry, "special", false, &added.special));
    TRY(read_flag(reader, "added_tokens", entry, "lstrip", false, &added.strip_left));
    TRY(read_flag(reader, "added_tokens", entry, "rstrip", false, &added.strip_right));
    TRY(read_flag(reader, "added_tokens", entry, "single_word", false, &single_word));
    TRY(read_flag(reader, "added_tokens", entry, "normalized", false, &normalized));
    CHECK(!single_word, STATUS_UNSUPPORTED,
          "%s: added token '%s' has single_word set, which is not supported", reader->file, text);
    CHECK(!normalized || added.special || reader->tokenizer->kind == TOKENIZER_BPE,
          STATUS_UNSUPPORTED, "%s: added token '%s' has normalized set, which is not supported",
          reader->file, text);
    const struct token *there =
        number >= 0 && number < vocab->count ? &vocab->tokens[number] : NULL;
    bool same = there && there->text && there->text_length == length &&
                memcmp(there->text, text, length) == 0;
    if (!same) TRY(vocab_place(vocab, reader->file, text, length, number, limit));
    vocab->tokens[number].special = added.special;
    return tokenizer_add_token(reader->tokenizer, added);
}

static enum status read_tokens(const struct reader *reader, const json_t *root, const json_t *model)
{
    const json_t *added = json_object_get(root, "added_tokens");
    CHECK(is_absent(added) || json_is_array(added), STATUS_CORRUPT,
          "%s: added_tokens must be a list", reader->file);
    TRY(read_vocab(reader, model, added));
    int64_t limit = (int64_t)json_object_size(json_object_get(model, "vocab")) +
                    (int64_t)json_array_size(added);
    size_t index;
    json_t *entry;
    json_array_foreach(added, index, entry)
    {
        TRY(read_added(reader, index, entry, limit));
    }
    return vocab_index(&reader->tokenizer->vocab, reader->file);
}

/* ---- byte-level BPE ------------------------------------------------------------------------- */

static enum status read_merge(const struct reader *reader, size_t index, const json_t *entry)
{
    char where[512];
    snprintf(where, sizeof where, "%s: model.merges[%zu]", reader->file, index);
    if (json_is_string(entry)) { /* "LEFT RIGHT", until version 0.19 of the library */
        const char *text = json_string_value(entry);
        size_t length = json_string_length(entry);
        const char *space = memchr(text, ' ', length);
        CHECK(space && space > text && space + 1 < text + length &&
                  !memchr(space + 1, ' ', (size_t)(text + length - space - 1)),
              STATUS_CORRUPT, "%s: a merge is two tokens with one space between, not '%.80s'",
              where, text);
        return tokenizer_add_merge(reader->tokenizer, where, text, (size_t)(space - text),
                                   space + 1, (size_t)(text + length - space - 1));
    }
    const json_t *left = json_array_get(entry, 0);
    const json_t *right = json_array_get(entry, 1);
    CHECK(json_array_size(entry) == 2 && json_is_string(left) && json_is_string(right),
          STATUS_CORRUPT, "%s: a merge is a list of two texts", where);
    return tokenizer_add_merge(reader->tokenizer, where, json_string_value(left),
                               json_string_length(left), json_string_value(right),
                               json_string_length(right));
}

static enum status read_bpe_pipeline(const struct reader *reader, const json_t *root)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    CHECK(is_absent(normalizer), STATUS_UNSUPPORTED,
          "%s: normalizer is %s; byte-level BPE is supported without one", reader->file,
          type_of(normalizer));
    const json_t *split = json_object_get(root, "pre_tokenizer");
    CHECK(strcmp(type_of(split), "ByteLevel") == 0, STATUS_UNSUPPORTED,
          "%s: pre_tokenizer is %s; supported is ByteLevel, GPT-2's split rule", reader->file,
          type_of(split));
    bool use_regex;
    TRY(read_flag(reader, "pre_tokenizer", split, "use_regex", true, &use_regex));
    CHECK(use_regex, STATUS_UNSUPPORTED,
          "%s: pre_tokenizer.use_regex is false; only GPT-2's split rule is supported",
          reader->file);
    return read_flag(reader, "pre_tokenizer", split, "add_prefix_space", true,
                     &reader->tokenizer->prefix_space);
}

static enum status read_bpe(const struct reader *reader, const json_t *root, const json_t *model)
{
    static const char *const refused[] = {"dropout", "continuing_subword_prefix",
                                          "end_of_word_suffix", "byte_fallback", "ignore_merges"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        TRY(refuse_option(reader, model, refused[i]));
    }
    reader->tokenizer->kind = TOKENIZER_BPE;
    TRY(read_bpe_pipeline(reader, root));
    TRY(read_tokens(reader, root, model));
    const json_t *merges = json_object_get(model, "merges");
    CHECK(json_is_array(merges), STATUS_CORRUPT, "%s: model.merges must be a list", reader->file);
    TRY(bpe_init(&reader->tokenizer->bpe, (int64_t)json_array_size(merges)));
    TRY(tokenizer_map_bytes(reader->tokenizer));
    size_t index;
    json_t *entry;
    json_array_foreach(merges, index, entry)
    {
        TRY(read_merge(reader, index, entry));
    }
    return tokenizer_check_merges(reader->tokenizer, reader->file);
}

/* ---- WordPiece ------------------------------------------------------------------------------ */

static enum status read_wordpiece(const struct reader *reader, const json_t *root,
                                  const json_t *model)
{
    struct wordpiece *wordpiece = &reader->tokenizer->wordpiece;
    reader->tokenizer->kind = TOKENIZER_WORDPIECE;
    const json_t *normalizer = json_object_get(root, "normalizer");
    CHECK(strcmp(type_of(normalizer), "BertNormalizer") == 0, STATUS_UNSUPPORTED,
          "%s: normalizer is %s; supported is BertNormalizer", reader->file, type_of(normalizer));
    const char *place = "normalizer";
    TRY(read_flag(reader, place, normalizer, "clean_text", true, &wordpiece->clean_text));
    TRY(read_flag(reader, place, normalizer, "handle_chinese_chars", true, &wordpiece->split_cjk));
    TRY(read_flag(reader, place, normalizer, "lowercase", true, &wordpiece->lower_case));
    TRY(read_flag(reader, place, normalizer, "strip_accents", wordpiece->lower_case,
                  &wordpiece->strip_accents));
    const json_t *split = json_object_get(root, "pre_tokenizer");
    CHECK(strcmp(type_of(split), "BertPreTokenizer") == 0, STATUS_UNSUPPORTED,
          "%s: pre_tokenizer is %s; supported is BertPreTokenizer", reader->file, type_of(split));
    const json_t *prefix = json_object_get(model, "continuing_subword_prefix");
    CHECK(is_absent(prefix) ||
              (json_is_string(prefix) && strcmp(json_string_value(prefix), "##") == 0),
          STATUS_UNSUPPORTED, "%s: model.continuing_subword_prefix must be ##", reader->file);
    const json_t *longest = json_object_get(model, "max_input_chars_per_word");
    int64_t max_word = json_is_integer(longest) ? json_integer_value(longest) : 100;
    CHECK(max_word >= 1 && max_word <= 1000, STATUS_UNSUPPORTED,
          "%s: model.max_input_chars_per_word is %" PRId64 ", supported are 1 to 1000",
          reader->file, max_word);
    wordpiece->max_word = (int32_t)max_word;
    return read_tokens(reader, root, model);
}

/* ---- the file ------------------------------------------------------------------------------- */

/* Takes over the token of one role when the file says it. */
static void read_role(const struct reader *reader, enum tokenizer_role role, const json_t *name)
{
    if (!json_is_string(name)) return;
    reader->tokenizer->special[role] =
        vocab_find(&reader->tokenizer->vocab, json_string_value(name), json_string_length(name));
}

static void read_roles(const struct reader *reader, const json_t *root, const json_t *model)
{
    const json_t *post = json_object_get(root, "post_processor");
    read_role(reader, TOKENIZER_BEGIN, json_array_get(json_object_get(post, "cls"), 0));
    read_role(reader, TOKENIZER_END, json_array_get(json_object_get(post, "sep"), 0));
    read_role(reader, TOKENIZER_UNKNOWN, json_object_get(model, "unk_token"));
}

enum status parse_tokenizer_json(struct tokenizer *tokenizer, const char *file, const char *bytes,
                                 size_t size)
{
    struct reader reader = {tokenizer, file};
    json_error_t error;
    json_t *root = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &error);
    CHECK(root, STATUS_CORRUPT, "%s:%d: not valid JSON: %s", file, error.line, error.text);
    enum status status = STATUS_OK;
    const json_t *model = json_object_get(root, "model");
    const char *type = type_of(model);
    CHECK_GOTO(json_is_object(model), status, done, STATUS_CORRUPT,
               "%s: has no \"model\"; this is not a tokenizer.json", file);
    /* Old files leave the type out; only BPE has merges. */
    if (!json_object_get(model, "type")) type = json_object_get(model, "merges") ? "BPE" : type;
    if (strcmp(type, "BPE") == 0) {
        status = read_bpe(&reader, root, model);
    } else if (strcmp(type, "WordPiece") == 0) {
        status = read_wordpiece(&reader, root, model);
    } else {
        status = status_fail(STATUS_UNSUPPORTED,
                             "%s: model.type is %s; supported are BPE (byte-level) and WordPiece",
                             file, type);
    }
    if (status == STATUS_OK) read_roles(&reader, root, model);
done:
    json_decref(root);
    return status;
}
