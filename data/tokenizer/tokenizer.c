/* Loading, special tokens, and the small questions about a loaded tokenizer. */
#include "data/tokenizer/tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "data/tokenizer/tokenizer_impl.h"

enum { MAX_FILE = 1 << 28 };

const char *const tokenizer_role_names[2][TOKENIZER_NUM_ROLES] = {
    [TOKENIZER_BPE] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"},
    [TOKENIZER_WORDPIECE] = {"[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"},
};

const char *const tokenizer_role_words[TOKENIZER_NUM_ROLES] = {"begin", "pad", "end", "unknown",
                                                               "mask"};

enum status tokenizer_create(struct tokenizer **out)
{
    *out = calloc(1, sizeof **out);
    CHECK(*out, STATUS_NO_MEMORY, "no memory for a tokenizer");
    for (int role = 0; role < TOKENIZER_NUM_ROLES; role++) {
        (*out)->special[role] = -1;
    }
    return STATUS_OK;
}

void tokenizer_destroy(struct tokenizer **tokenizer)
{
    if (!*tokenizer) return;
    vocab_fini(&(*tokenizer)->vocab);
    bpe_fini(&(*tokenizer)->bpe);
    free((*tokenizer)->added);
    free(*tokenizer);
    *tokenizer = NULL;
}

/* ---- after parsing -------------------------------------------------------------------------- */

enum status tokenizer_add_token(struct tokenizer *tokenizer, struct added_token added)
{
    if (tokenizer->vocab.tokens[added.id].added) return STATUS_OK;
    if (tokenizer->num_added == tokenizer->added_capacity) {
        int64_t capacity = tokenizer->added_capacity ? 2 * tokenizer->added_capacity : 8;
        struct added_token *grown = realloc(tokenizer->added, (size_t)capacity * sizeof added);
        CHECK(grown, STATUS_NO_MEMORY, "no memory for %" PRId64 " added tokens", capacity);
        tokenizer->added = grown;
        tokenizer->added_capacity = capacity;
    }
    tokenizer->vocab.tokens[added.id].added = true;
    tokenizer->added[tokenizer->num_added++] = added;
    return STATUS_OK;
}

/* Finds or adds the token of one role, unless the file named it. */
static enum status resolve_role(struct tokenizer *tokenizer, const char *file,
                                const struct tokenizer_options *options, enum tokenizer_role role)
{
    const char *given = options ? options->special[role] : NULL;
    int32_t *id = &tokenizer->special[role];
    if (!given && *id >= 0) return STATUS_OK;
    const char *name = given ? given : tokenizer_role_names[tokenizer->kind][role];
    *id = vocab_find(&tokenizer->vocab, name, strlen(name));
    if (*id >= 0) return STATUS_OK;
    if (options && options->add_special && *name) {
        return vocab_append(&tokenizer->vocab, name, strlen(name), id);
    }
    CHECK(!given, STATUS_NOT_FOUND,
          "%s: has no token '%s', which is to be the %s token; name another or add it", file, name,
          tokenizer_role_words[role]);
    return STATUS_OK;
}

/* Marks a role's token special, and lets it be found in text when that is asked for. */
static enum status register_role(struct tokenizer *tokenizer, enum tokenizer_role role)
{
    int32_t id = tokenizer->special[role];
    if (id < 0) return STATUS_OK;
    tokenizer->vocab.tokens[id].special = true;
    /* RoBERTa's mask stands for a word with its space, so a space before it goes. */
    bool strip_left = role == TOKENIZER_MASK && tokenizer->kind == TOKENIZER_BPE;
    struct added_token added = {.id = id, .special = true, .strip_left = strip_left};
    return tokenizer_add_token(tokenizer, added);
}

static enum status check_bytes(struct tokenizer *tokenizer, const char *file)
{
    struct bpe *bpe = &tokenizer->bpe;
    int missing = 0;
    while (missing < 256 && bpe->byte_id[missing] >= 0) {
        missing++;
    }
    bpe->complete = missing == 256;
    CHECK(
        bpe->complete || tokenizer->special[TOKENIZER_UNKNOWN] >= 0, STATUS_UNSUPPORTED,
        "%s: has no token for byte 0x%02X and no unknown token, so not every text can be encoded; "
        "name an unknown token",
        file, (unsigned)missing);
    return STATUS_OK;
}

/* Text is only text: no merges may lead to a special token. */
static enum status check_special(const struct tokenizer *tokenizer, const char *file)
{
    for (uint32_t i = 0; i < tokenizer->bpe.num_slots; i++) {
        const struct merge *merge = &tokenizer->bpe.slots[i];
        CHECK(merge->pair == UINT64_MAX || !tokenizer->vocab.tokens[merge->id].special,
              STATUS_UNSUPPORTED,
              "%s: the merges make the special token '%s' out of plain text; name another", file,
              tokenizer->vocab.tokens[merge->id].text);
    }
    return STATUS_OK;
}

static uint64_t hash_tables(const struct tokenizer *tokenizer)
{
    int32_t head[] = {(int32_t)tokenizer->kind,           tokenizer->vocab.count,
                      tokenizer->bpe.num_merges,          tokenizer->prefix_space,
                      tokenizer->wordpiece.clean_text,    tokenizer->wordpiece.split_cjk,
                      tokenizer->wordpiece.strip_accents, tokenizer->wordpiece.lower_case,
                      tokenizer->wordpiece.max_word};
    uint64_t hash = XXH3_64bits(head, sizeof head);
    hash = XXH3_64bits_withSeed(tokenizer->special, sizeof tokenizer->special, hash);
    for (int32_t id = 0; id < tokenizer->vocab.count; id++) {
        const struct token *token = &tokenizer->vocab.tokens[id];
        hash = XXH3_64bits_withSeed(token->text, token->text_length, hash);
    }
    uint64_t merges = 0; /* a sum: the table has no order, and each entry tells its rank */
    for (uint32_t i = 0; i < tokenizer->bpe.num_slots; i++) {
        const struct merge *merge = &tokenizer->bpe.slots[i];
        if (merge->pair != UINT64_MAX) merges += XXH3_64bits(merge, sizeof *merge);
    }
    return XXH3_64bits_withSeed(&merges, sizeof merges, hash);
}

/* By first byte, the longest first, so that the first match is the longest. */
static int compare_added(const void *a, const void *b, void *context)
{
    const struct token *tokens = context;
    const struct token *left = &tokens[((const struct added_token *)a)->id];
    const struct token *right = &tokens[((const struct added_token *)b)->id];
    if (left->text[0] != right->text[0]) {
        return (uint8_t)left->text[0] < (uint8_t)right->text[0] ? -1 : 1;
    }
    if (left->text_length != right->text_length) {
        return left->text_length > right->text_length ? -1 : 1;
    }
    return left < right ? -1 : left > right;
}

static void index_added(struct tokenizer *tokenizer)
{
    const struct token *tokens = tokenizer->vocab.tokens;
    if (tokenizer->num_added > 0) {
        qsort_r(tokenizer->added, (size_t)tokenizer->num_added, sizeof *tokenizer->added,
                compare_added, tokenizer->vocab.tokens);
    }
    int64_t i = 0;
    for (int byte = 0; byte < 256; byte++) {
        tokenizer->added_begin[byte] = i;
        while (i < tokenizer->num_added &&
               (uint8_t)tokens[tokenizer->added[i].id].text[0] == byte) {
            i++;
        }
    }
    tokenizer->added_begin[256] = i;
    for (i = 0; i < tokenizer->num_added; i++) {
        if (!tokenizer->added[i].special) tokenizer->has_plain_added = true;
    }
}

enum status tokenizer_finish(struct tokenizer *tokenizer, const char *file,
                             const struct tokenizer_options *options)
{
    for (int role = 0; role < TOKENIZER_NUM_ROLES; role++) {
        TRY(resolve_role(tokenizer, file, options, (enum tokenizer_role)role));
        TRY(register_role(tokenizer, (enum tokenizer_role)role));
    }
    if (tokenizer->kind == TOKENIZER_BPE) {
        TRY(check_bytes(tokenizer, file));
        TRY(check_special(tokenizer, file));
    }
    CHECK(tokenizer->kind == TOKENIZER_BPE || tokenizer->special[TOKENIZER_UNKNOWN] >= 0,
          STATUS_NOT_FOUND, "%s: has no token [UNK], which WordPiece needs; is it a vocab.txt?",
          file);
    index_added(tokenizer);
    tokenizer->fingerprint = hash_tables(tokenizer);
    return STATUS_OK;
}

/* ---- files ---------------------------------------------------------------------------------- */

static enum status read_file(const char *path, char **bytes, size_t *size)
{
    *bytes = NULL;
    FILE *file = fopen(path, "rb");
    CHECK(file, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s", path, strerror(errno));
    enum status status = STATUS_OK;
    struct stat info;
    CHECK_GOTO(fstat(fileno(file), &info) == 0 && S_ISREG(info.st_mode), status, done, STATUS_IO,
               "%s: is not a file", path);
    CHECK_GOTO(info.st_size <= MAX_FILE, status, done, STATUS_UNSUPPORTED,
               "%s: has %lld bytes, a tokenizer file has at most %d", path, (long long)info.st_size,
               MAX_FILE);
    *size = (size_t)info.st_size;
    *bytes = malloc(*size + 1);
    CHECK_GOTO(*bytes, status, done, STATUS_NO_MEMORY, "%s: no memory to read it", path);
    CHECK_GOTO(fread(*bytes, 1, *size, file) == *size, status, done, STATUS_IO,
               "%s: cannot be read: %s", path, ferror(file) ? strerror(errno) : "it got shorter");
    CHECK_GOTO(*size > 0, status, done, STATUS_CORRUPT, "%s: is empty", path);
done:
    fclose(file);
    if (status != STATUS_OK) {
        free(*bytes);
        *bytes = NULL;
    }
    return status;
}

/* A tokenizer.json has "model": {; in a vocab.json every value is a number. */
static bool has_model(const char *bytes, size_t size)
{
    const char *end = bytes + size;
    const char *at = bytes;
    while ((at = memmem(at, (size_t)(end - at), "\"model\"", 7))) {
        at += 7;
        const char *next = at;
        while (next < end && strchr(" \t\r\n:", *next) && *next) {
            next++;
        }
        if (next > at && next < end && *next == '{') return true;
    }
    return false;
}

static enum status load_merges(struct tokenizer *tokenizer, const char *vocab, const char *given)
{
    char path[4096];
    const char *slash = strrchr(vocab, '/');
    snprintf(path, sizeof path, "%.*smerges.txt", slash ? (int)(slash + 1 - vocab) : 0, vocab);
    const char *merges = given ? given : path;
    CHECK(given || access(path, F_OK) == 0, STATUS_NOT_FOUND,
          "%s: there is no merges.txt beside it; byte-level BPE needs both", vocab);
    char *bytes;
    size_t size;
    TRY(read_file(merges, &bytes, &size));
    enum status status = parse_merges_txt(tokenizer, merges, bytes, size);
    free(bytes);
    return status;
}

static enum status load_json(struct tokenizer *tokenizer, const char *path,
                             const struct tokenizer_options *options, bool *merges_used)
{
    char *bytes;
    size_t size;
    TRY(read_file(path, &bytes, &size));
    bool whole = has_model(bytes, size);
    enum status status = whole ? parse_tokenizer_json(tokenizer, path, bytes, size)
                               : parse_vocab_json(tokenizer, path, bytes, size);
    free(bytes);
    TRY(status);
    *merges_used = !whole;
    return whole ? STATUS_OK : load_merges(tokenizer, path, options ? options->merges : NULL);
}

static enum status load_txt(struct tokenizer *tokenizer, const char *path,
                            const struct tokenizer_options *options)
{
    char *bytes;
    size_t size;
    TRY(read_file(path, &bytes, &size));
    enum status status;
    if (size >= 8 && memcmp(bytes, "#version", 8) == 0) {
        status = status_fail(STATUS_INVALID,
                             "%s: is a list of merges; give its vocab.json or the folder", path);
    } else {
        status = parse_vocab_txt(tokenizer, path, bytes, size);
    }
    free(bytes);
    if (options && options->cased) {
        tokenizer->wordpiece.lower_case = false;
        tokenizer->wordpiece.strip_accents = false;
    }
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);
    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

/* Turns a folder into the file to start from. */
static enum status find_file(const char *path, char *file, size_t size)
{
    struct stat info;
    CHECK(stat(path, &info) == 0, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s", path,
          strerror(errno));
    CHECK(strlen(path) + 32 < size, STATUS_INVALID, "the path of the tokenizer is too long");
    snprintf(file, size, "%s", path);
    if (!S_ISDIR(info.st_mode)) return STATUS_OK;
    static const char *const names[] = {"tokenizer.json", "vocab.json", "vocab.txt"};
    bool found[3];
    for (int i = 0; i < 3; i++) {
        snprintf(file, size, "%s/%s", path, names[i]);
        found[i] = access(file, F_OK) == 0;
    }
    CHECK(found[0] || !found[1] || !found[2], STATUS_INVALID,
          "%s: holds both vocab.json (BPE) and vocab.txt (WordPiece); name the file", path);
    CHECK(found[0] || found[1] || found[2], STATUS_NOT_FOUND,
          "%s: holds no tokenizer.json, no vocab.json with merges.txt and no vocab.txt", path);
    snprintf(file, size, "%s/%s", path, names[found[0] ? 0 : found[1] ? 1 : 2]);
    return STATUS_OK;
}

/* An option without effect on this kind of file is a mistake, not passed over. */
static enum status check_options(const struct tokenizer *tokenizer, const char *file,
                                 const struct tokenizer_options *options, bool merges_used)
{
    if (!options) return STATUS_OK;
    bool cased = tokenizer->kind == TOKENIZER_WORDPIECE && !tokenizer->wordpiece.lower_case;
    CHECK(!options->merges || merges_used, STATUS_INVALID,
          "%s: takes no other file of merges (%s); that goes with a vocab.json", file,
          options->merges);
    CHECK(!options->cased || cased, STATUS_INVALID,
          "%s: cannot be loaded as cased; that is for a vocab.txt", file);
    return STATUS_OK;
}

enum status tokenizer_load(const char *path, const struct tokenizer_options *options,
                           struct tokenizer **out)
{
    *out = NULL;
    char file[4096];
    TRY(find_file(path, file, sizeof file));
    struct tokenizer *tokenizer;
    TRY(tokenizer_create(&tokenizer));
    enum status status;
    bool merges_used = false;
    if (ends_with(file, ".json")) {
        status = load_json(tokenizer, file, options, &merges_used);
    } else if (ends_with(file, ".txt")) {
        status = load_txt(tokenizer, file, options);
    } else {
        status =
            status_fail(STATUS_INVALID,
                        "%s: is neither a folder nor a .json or .txt file of a tokenizer", file);
    }
    if (status == STATUS_OK) status = check_options(tokenizer, file, options, merges_used);
    if (status == STATUS_OK) status = tokenizer_finish(tokenizer, file, options);
    if (status != STATUS_OK) tokenizer_destroy(&tokenizer);
    *out = tokenizer;
    return status;
}

/* ---- questions ------------------------------------------------------------------------------ */

enum tokenizer_kind tokenizer_kind(const struct tokenizer *tokenizer)
{
    return tokenizer->kind;
}

int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab.count;
}

int32_t tokenizer_special(const struct tokenizer *tokenizer, enum tokenizer_role role)
{
    return tokenizer->special[role];
}

enum status tokenizer_require(const struct tokenizer *tokenizer, enum tokenizer_role role,
                              int32_t *id)
{
    *id = tokenizer->special[role];
    CHECK(*id >= 0, STATUS_NOT_FOUND,
          "the vocabulary has no %s token ('%s'); name the token that serves, or have the special "
          "tokens added",
          tokenizer_role_words[role], tokenizer_role_names[tokenizer->kind][role]);
    return STATUS_OK;
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && id < tokenizer->vocab.count && tokenizer->vocab.tokens[id].special;
}

const char *tokenizer_token(const struct tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && id < tokenizer->vocab.count ? tokenizer->vocab.tokens[id].text : NULL;
}

int32_t tokenizer_id(const struct tokenizer *tokenizer, const char *token)
{
    return vocab_find(&tokenizer->vocab, token, strlen(token));
}

uint64_t tokenizer_fingerprint(const struct tokenizer *tokenizer)
{
    return tokenizer->fingerprint;
}

/* ---- decoding ------------------------------------------------------------------------------- */

static bool continues_word(const struct token *token)
{
    return token->text_length > 2 && token->text[0] == '#' && token->text[1] == '#';
}

enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, int64_t count,
                             bool skip_special, struct strbuf *out)
{
    bool first = true;
    for (int64_t i = 0; i < count; i++) {
        CHECK(ids[i] >= 0 && ids[i] < tokenizer->vocab.count, STATUS_INVALID,
              "token %" PRId64 " has id %" PRId32 ", the vocabulary has ids 0 to %" PRId32, i,
              ids[i], tokenizer->vocab.count - 1);
        const struct token *token = &tokenizer->vocab.tokens[ids[i]];
        if (skip_special && token->special) continue;
        bool wordpiece = tokenizer->kind == TOKENIZER_WORDPIECE;
        int hidden = wordpiece && continues_word(token) && !first ? 2 : 0;
        if (wordpiece && hidden == 0 && !first) strbuf_append(out, " ");
        strbuf_append_bytes(out, token->bytes + hidden, token->bytes_length - (uint32_t)hidden);
        first = false;
    }
    CHECK(!out->failed, STATUS_NO_MEMORY, "no memory for the text of %" PRId64 " tokens", count);
    return STATUS_OK;
}
