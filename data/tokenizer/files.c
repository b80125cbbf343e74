/*
 * The plain files: vocab.json, merges.txt, vocab.txt. tokenizer_json.c reads the Hugging Face
 * library's single file.
 *
 * Nothing is repaired: a file that is damaged, cut off or belongs to another one gives other ids
 * for the same text, which a training run would never notice.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "data/tokenizer/bytemap.h"
#include "data/tokenizer/tokenizer_impl.h"
#include "data/tokenizer/utf8.h"
#include "runtime/base/log.h"

enum { WORDPIECE_MAX_WORD = 100 };

/* ---- vocab.json ----------------------------------------------------------------------------- */

enum status parse_vocab_json(struct tokenizer *tokenizer, const char *file, const char *bytes,
                             size_t size)
{
    json_error_t error;
    json_t *root = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &error);
    CHECK(root, STATUS_CORRUPT, "%s:%d: not valid JSON: %s", file, error.line, error.text);
    enum status status = STATUS_OK;
    CHECK_GOTO(json_is_object(root), status, done, STATUS_CORRUPT,
               "%s: a vocabulary is an object like {\"token\": id, ...}, this is not an object",
               file);
    int64_t limit = (int64_t)json_object_size(root);
    const char *key;
    size_t length;
    json_t *value;
    json_object_keylen_foreach(root, key, length, value)
    {
        CHECK_GOTO(json_is_integer(value), status, done, STATUS_CORRUPT,
                   "%s: the id of token '%s' is not an integer", file, key);
        CHECK_GOTO(length > 0, status, done, STATUS_CORRUPT, "%s: a token is empty", file);
        TRY_GOTO(
            status,
            vocab_place(&tokenizer->vocab, file, key, length, json_integer_value(value), limit),
            done);
    }
    status = vocab_index(&tokenizer->vocab, file);
done:
    json_decref(root);
    return status;
}

/* ---- byte-level BPE ------------------------------------------------------------------------- */

enum status tokenizer_map_bytes(struct tokenizer *tokenizer)
{
    struct vocab *vocab = &tokenizer->vocab;
    uint8_t *scratch = malloc(vocab->max_text + 1);
    CHECK(scratch, STATUS_NO_MEMORY, "no memory for the bytes of %" PRId32 " tokens", vocab->count);
    enum status status = STATUS_OK;
    for (int32_t id = 0; id < vocab->count; id++) {
        struct token *token = &vocab->tokens[id];
        int64_t length = bytemap_decode(token->text, token->text_length, scratch);
        if (length < 0) continue; /* not in the alphabet: an added token, which is literal */
        token->bytes = arena_strndup(&vocab->arena, (const char *)scratch, (size_t)length);
        CHECK_GOTO(token->bytes, status, done, STATUS_NO_MEMORY, "no memory for the vocabulary");
        token->bytes_length = (uint32_t)length;
        if (length == 1) tokenizer->bpe.byte_id[scratch[0]] = id;
    }
done:
    free(scratch);
    return status;
}

static enum status find_token(const struct tokenizer *tokenizer, const char *where,
                              const char *text, size_t length, int32_t *id)
{
    *id = vocab_find(&tokenizer->vocab, text, length);
    CHECK(*id >= 0, STATUS_CORRUPT,
          "%s: token '%.*s' is not in the vocabulary; the merges and the vocabulary do not belong "
          "together, or one is damaged",
          where, length > 200 ? 200 : (int)length, text);
    return STATUS_OK;
}

enum status tokenizer_add_merge(struct tokenizer *tokenizer, const char *where, const char *left,
                                size_t left_length, const char *right, size_t right_length)
{
    int32_t ids[3];
    TRY(find_token(tokenizer, where, left, left_length, &ids[0]));
    TRY(find_token(tokenizer, where, right, right_length, &ids[1]));
    size_t length = left_length + right_length;
    char small[256];
    char *joined = length <= sizeof small ? small : malloc(length);
    CHECK(joined, STATUS_NO_MEMORY, "%s: no memory for a token of %zu bytes", where, length);
    memcpy(joined, left, left_length);
    memcpy(joined + left_length, right, right_length);
    enum status status = find_token(tokenizer, where, joined, length, &ids[2]);
    if (joined != small) free(joined);
    TRY(status);
    const struct token *tokens = tokenizer->vocab.tokens;
    CHECK(tokens[ids[2]].bytes_length == tokens[ids[0]].bytes_length + tokens[ids[1]].bytes_length,
          STATUS_CORRUPT, "%s: '%s' and '%s' are not both written in the byte-level alphabet",
          where, tokens[ids[0]].text, tokens[ids[1]].text);
    CHECK(bpe_add_merge(&tokenizer->bpe, ids[0], ids[1], ids[2]), STATUS_CORRUPT,
          "%s: the merge of '%s' and '%s' is there twice", where, tokens[ids[0]].text,
          tokens[ids[1]].text);
    return STATUS_OK;
}

/* <s>, [unused7], <|endoftext|>, madeupword0001: what vocabularies reserve without a merge. */
static bool looks_special(const struct token *token)
{
    char first = token->text[0];
    char last = token->text[token->text_length - 1];
    return (first == '<' && last == '>') || (first == '[' && last == ']') ||
           strncmp(token->text, "madeupword", 10) == 0;
}

enum status tokenizer_check_merges(const struct tokenizer *tokenizer, const char *file)
{
    int32_t count = tokenizer->vocab.count;
    bool *made = calloc((size_t)count, sizeof *made);
    CHECK(made, STATUS_NO_MEMORY, "%s: no memory to check the merges", file);
    for (uint32_t i = 0; i < tokenizer->bpe.num_slots; i++) {
        if (tokenizer->bpe.slots[i].pair != UINT64_MAX) made[tokenizer->bpe.slots[i].id] = true;
    }
    for (int64_t i = 0; i < tokenizer->num_added; i++) {
        made[tokenizer->added[i].id] = true;
    }
    int32_t missing = 0;
    const char *example = "";
    for (int32_t id = 0; id < count; id++) {
        const struct token *token = &tokenizer->vocab.tokens[id];
        if (made[id] || token->bytes_length == 1 || looks_special(token)) continue;
        if (missing++ == 0) example = token->text;
    }
    free(made);
    CHECK(missing <= count / 100, STATUS_CORRUPT,
          "%s: no merge makes %" PRId32 " of the %" PRId32
          " tokens, '%s' first; the merges are cut off, or belong to another vocabulary",
          file, missing, count, example);
    if (missing > 0) {
        log_warning("%s: no merge makes %" PRId32 " of the %" PRId32
                    " tokens, '%s' first; text never becomes these",
                    file, missing, count, example);
    }
    return STATUS_OK;
}

/* ---- lines ---------------------------------------------------------------------------------- */

struct lines {
    const char *file;
    const char *rest;
    size_t size;
    int64_t number; /* of the current line, from 1 */
    const char *line;
    size_t length; /* without the line end */
};

static struct lines lines_open(const char *file, const char *bytes, size_t size)
{
    bool mark = size >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0; /* byte order mark */
    return (struct lines){.file = file, .rest = bytes + 3 * mark, .size = size - 3 * mark};
}

/* Moves to the next line; `*more` is false at the end. CORRUPT when it is not UTF-8 or holds NUL.
 */
static enum status lines_next(struct lines *lines, bool *more)
{
    *more = lines->size > 0;
    if (!*more) return STATUS_OK;
    const char *end = memchr(lines->rest, '\n', lines->size);
    lines->line = lines->rest;
    lines->length = end ? (size_t)(end - lines->rest) : lines->size;
    size_t taken = lines->length + (end != NULL);
    lines->rest += taken;
    lines->size -= taken;
    lines->number++;
    if (lines->length > 0 && lines->line[lines->length - 1] == '\r') lines->length--;
    size_t position;
    CHECK(utf8_valid(lines->line, lines->length, &position), STATUS_CORRUPT,
          "%s:%" PRId64 ": byte %zu of the line is not UTF-8", lines->file, lines->number,
          position + 1);
    CHECK(!memchr(lines->line, 0, lines->length), STATUS_CORRUPT,
          "%s:%" PRId64 ": the line holds a NUL byte", lines->file, lines->number);
    return STATUS_OK;
}

static int64_t count_lines(const char *bytes, size_t size)
{
    int64_t count = size > 0 && bytes[size - 1] != '\n';
    for (const char *at = bytes; size > 0 && (at = memchr(at, '\n', size - (size_t)(at - bytes)));
         at++) {
        count++;
    }
    return count;
}

/* ---- merges.txt ----------------------------------------------------------------------------- */

static enum status parse_merge_line(struct tokenizer *tokenizer, const struct lines *lines)
{
    const char *end = lines->line + lines->length;
    const char *space = memchr(lines->line, ' ', lines->length);
    bool two = space && space > lines->line && space + 1 < end &&
               !memchr(space + 1, ' ', (size_t)(end - space - 1));
    int shown = lines->length > 80 ? 80 : (int)lines->length;
    CHECK(two, STATUS_CORRUPT,
          "%s:%" PRId64 ": a merge is two tokens with one space between, not '%.*s'", lines->file,
          lines->number, shown, lines->line);
    char where[512];
    snprintf(where, sizeof where, "%s:%" PRId64, lines->file, lines->number);
    return tokenizer_add_merge(tokenizer, where, lines->line, (size_t)(space - lines->line),
                               space + 1, (size_t)(end - space - 1));
}

enum status parse_merges_txt(struct tokenizer *tokenizer, const char *file, const char *bytes,
                             size_t size)
{
    tokenizer->kind = TOKENIZER_BPE;
    TRY(bpe_init(&tokenizer->bpe, count_lines(bytes, size)));
    TRY(tokenizer_map_bytes(tokenizer));
    struct lines lines = lines_open(file, bytes, size);
    bool more;
    for (;;) {
        TRY(lines_next(&lines, &more));
        if (!more) break;
        bool header =
            lines.number == 1 && lines.length >= 8 && memcmp(lines.line, "#version", 8) == 0;
        bool last = lines.size == 0 && lines.length == 0;
        if (!header && !last) TRY(parse_merge_line(tokenizer, &lines));
    }
    return tokenizer_check_merges(tokenizer, file);
}

/* ---- vocab.txt ------------------------------------------------------------------------------ */

enum status parse_vocab_txt(struct tokenizer *tokenizer, const char *file, const char *bytes,
                            size_t size)
{
    tokenizer->kind = TOKENIZER_WORDPIECE;
    tokenizer->wordpiece = (struct wordpiece){.clean_text = true,
                                              .split_cjk = true,
                                              .strip_accents = true,
                                              .lower_case = true,
                                              .max_word = WORDPIECE_MAX_WORD};
    struct lines lines = lines_open(file, bytes, size);
    bool more;
    for (;;) {
        TRY(lines_next(&lines, &more));
        if (!more) break;
        CHECK(lines.length > 0, STATUS_CORRUPT,
              "%s:%" PRId64 ": the line is empty; each is a token", file, lines.number);
        int shown = lines.length > 200 ? 200 : (int)lines.length;
        int32_t id = vocab_find(&tokenizer->vocab, lines.line, lines.length);
        CHECK(id < 0, STATUS_CORRUPT,
              "%s:%" PRId64 ": token '%.*s' is on line %" PRId32 " already; each is there once",
              file, lines.number, shown, lines.line, id + 1);
        TRY(vocab_append(&tokenizer->vocab, lines.line, lines.length, &id));
    }
    return vocab_index(&tokenizer->vocab, file);
}
