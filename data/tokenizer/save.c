/* Writing a byte-level BPE tokenizer in the files that everyone else reads. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/tokenizer/tokenizer_impl.h"

/* Writes under a temporary name and renames, so that a crash or a full disk leaves no torn file. */
static enum status write_file(const char *folder, const char *name, const struct strbuf *content)
{
    CHECK(!content->failed, STATUS_NO_MEMORY, "%s/%s: no memory to write it", folder, name);
    char path[4096];
    char temporary[4096];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK(length > 0 && length + 32 < (int)sizeof temporary, STATUS_INVALID,
          "the path of the folder is too long");
    snprintf(temporary, sizeof temporary, "%.*s.%ld.tmp", length, path, (long)getpid());
    FILE *file = fopen(temporary, "wb");
    CHECK(file, STATUS_IO, "%s: %s", temporary, strerror(errno));
    bool written = fwrite(content->text, 1, content->length, file) == content->length;
    written = fflush(file) == 0 && written;
    written = fsync(fileno(file)) == 0 && written;
    int error = errno;
    written = fclose(file) == 0 && written;
    if (written && rename(temporary, path) == 0) return STATUS_OK;
    if (written) error = errno;
    unlink(temporary);
    return status_fail(STATUS_IO, "%s: cannot be written: %s", path, strerror(error));
}

static void put_text(struct strbuf *out, const struct token *token)
{
    strbuf_append_json(out, token->text, token->text_length);
}

static void put_vocab(struct strbuf *out, const struct vocab *vocab)
{
    strbuf_append(out, "{");
    for (int32_t id = 0; id < vocab->count; id++) {
        if (id > 0) strbuf_append(out, ",");
        put_text(out, &vocab->tokens[id]);
        strbuf_printf(out, ":%" PRId32, id);
    }
    strbuf_append(out, "}");
}

/* The merges in the order of their ranks; NULL when memory is out. Freed by the caller. */
static struct merge *sorted_merges(const struct bpe *bpe)
{
    struct merge *merges = calloc((size_t)bpe->num_merges + 1, sizeof *merges);
    for (uint32_t i = 0; merges && i < bpe->num_slots; i++) {
        const struct merge *merge = &bpe->slots[i];
        if (merge->pair != UINT64_MAX) merges[merge->rank] = *merge;
    }
    return merges;
}

static const struct token *left_of(const struct vocab *vocab, const struct merge *merge)
{
    return &vocab->tokens[merge->pair >> 32];
}

static const struct token *right_of(const struct vocab *vocab, const struct merge *merge)
{
    return &vocab->tokens[(uint32_t)merge->pair];
}

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

static void put_added(struct strbuf *out, const struct tokenizer *tokenizer)
{
    const char *separator = "";
    for (int32_t id = 0; id < tokenizer->vocab.count; id++) {
        if (!tokenizer->vocab.tokens[id].added) continue;
        const struct added_token *added = tokenizer->added;
        while (added->id != id) {
            added++;
        }
        strbuf_printf(out, "%s\n    {\"id\": %" PRId32 ", \"content\": ", separator, id);
        put_text(out, &tokenizer->vocab.tokens[id]);
        strbuf_printf(
            out,
            ", \"single_word\": false, \"lstrip\": %s, \"rstrip\": %s, \"normalized\": false, "
            "\"special\": %s}",
            truth(added->strip_left), truth(added->strip_right), truth(added->special));
        separator = ",";
    }
}

static void put_post_processor(struct strbuf *out, const struct tokenizer *tokenizer)
{
    int32_t begin = tokenizer->special[TOKENIZER_BEGIN];
    int32_t end = tokenizer->special[TOKENIZER_END];
    if (begin < 0 || end < 0) {
        strbuf_append(out, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                           "\"trim_offsets\": true, \"use_regex\": true}");
        return;
    }
    strbuf_append(out, "{\"type\": \"RobertaProcessing\", \"sep\": [");
    put_text(out, &tokenizer->vocab.tokens[end]);
    strbuf_printf(out, ", %" PRId32 "], \"cls\": [", end);
    put_text(out, &tokenizer->vocab.tokens[begin]);
    strbuf_printf(out, ", %" PRId32 "], \"trim_offsets\": true, \"add_prefix_space\": %s}", begin,
                  truth(tokenizer->prefix_space));
}

static void put_model(struct strbuf *out, const struct tokenizer *tokenizer,
                      const struct merge *merges)
{
    const struct vocab *vocab = &tokenizer->vocab;
    int32_t unknown = tokenizer->special[TOKENIZER_UNKNOWN];
    strbuf_append(out, "{\"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
    if (tokenizer->bpe.complete || unknown < 0) {
        strbuf_append(out, "null");
    } else {
        put_text(out, &vocab->tokens[unknown]);
    }
    strbuf_append(out, ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
                       "\"fuse_unk\": false, \"byte_fallback\": false,\n    \"vocab\": ");
    put_vocab(out, vocab);
    strbuf_append(out, ",\n    \"merges\": [");
    struct strbuf merge = {0};
    for (int32_t i = 0; i < tokenizer->bpe.num_merges; i++) {
        /* "LEFT RIGHT" is read by all versions of the library, [LEFT, RIGHT] only by new ones. */
        strbuf_clear(&merge);
        strbuf_append(&merge, left_of(vocab, &merges[i])->text);
        strbuf_append(&merge, " ");
        strbuf_append(&merge, right_of(vocab, &merges[i])->text);
        if (i > 0) strbuf_append(out, ",");
        if (!merge.failed) strbuf_append_json(out, merge.text, merge.length);
    }
    if (merge.failed) out->failed = true;
    strbuf_fini(&merge);
    strbuf_append(out, "]}");
}

static void put_tokenizer(struct strbuf *out, const struct tokenizer *tokenizer,
                          const struct merge *merges)
{
    strbuf_append(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n"
                       "  \"added_tokens\": [");
    put_added(out, tokenizer);
    strbuf_printf(out,
                  "\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
                  "\"add_prefix_space\": %s, \"trim_offsets\": true, \"use_regex\": true},\n"
                  "  \"post_processor\": ",
                  truth(tokenizer->prefix_space));
    put_post_processor(out, tokenizer);
    strbuf_append(out, ",\n  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
                       "\"trim_offsets\": true, \"use_regex\": true},\n  \"model\": ");
    put_model(out, tokenizer, merges);
    strbuf_append(out, "\n}\n");
}

static void put_merges(struct strbuf *out, const struct tokenizer *tokenizer,
                       const struct merge *merges)
{
    strbuf_append(out, "#version: 0.2\n");
    for (int32_t i = 0; i < tokenizer->bpe.num_merges; i++) {
        strbuf_printf(out, "%s %s\n", left_of(&tokenizer->vocab, &merges[i])->text,
                      right_of(&tokenizer->vocab, &merges[i])->text);
    }
}

enum status tokenizer_save(const struct tokenizer *tokenizer, const char *folder)
{
    CHECK(tokenizer->kind == TOKENIZER_BPE, STATUS_UNSUPPORTED,
          "%s: only byte-level BPE is written; copy the vocab.txt", folder);
    CHECK(mkdir(folder, 0777) == 0 || errno == EEXIST, STATUS_IO, "%s: %s", folder,
          strerror(errno));
    struct merge *merges = sorted_merges(&tokenizer->bpe);
    CHECK(merges, STATUS_NO_MEMORY, "no memory for %" PRId32 " merges", tokenizer->bpe.num_merges);
    struct strbuf out = {0};
    enum status status;
    put_vocab(&out, &tokenizer->vocab);
    strbuf_append(&out, "\n");
    TRY_GOTO(status, write_file(folder, "vocab.json", &out), done);
    strbuf_clear(&out);
    put_merges(&out, tokenizer, merges);
    TRY_GOTO(status, write_file(folder, "merges.txt", &out), done);
    strbuf_clear(&out);
    put_tokenizer(&out, tokenizer, merges);
    status = write_file(folder, "tokenizer.json", &out);
done:
    strbuf_fini(&out);
    free(merges);
    return status;
}
