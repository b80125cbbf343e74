/*
 * Encoding and decoding of arbitrary bytes with two small vocabularies made here: byte-level BPE
 * must give back exactly what went in, cached or not, and truncation must keep a prefix.
 * runs=110000
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer/tokenizer_impl.h"
#include "data/tokenizer/train.h"
#include "data/tokenizer/utf8.h"

struct coder {
    struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    struct encoding encoding;
    struct encoding cut;
};

static struct coder bpe;
static struct coder wordpiece;

static const char *const lines[] = {"a red square is above the blue circle",
                                    "don't we'll they're isn't",
                                    "aaaaaaaaaaaaaaaaaaaaaaaa",
                                    "caf\xC3\xA9 na\xC3\xAFve \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E",
                                    "  two   three    spaces ",
                                    "12 345 6789",
                                    "!!! ... ---"};

static const char words[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nred\n##d\n##e\nr\ncafe\n"
                            "##s\n\xE6\x97\xA5\n!\n'\nt\n##t\n1\n##2\n\xC3\xA9\n##\xC3\xA9\n";

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    struct bpe_trainer *trainer;
    enum status status = bpe_trainer_create(&trainer);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (status == STATUS_OK) status = bpe_trainer_add(trainer, lines[i], strlen(lines[i]));
    }
    if (status == STATUS_OK) status = bpe_trainer_train(trainer, 320, 1, &bpe.tokenizer);
    bpe_trainer_destroy(&trainer);
    assert(status == STATUS_OK);
    status = tokenizer_create(&wordpiece.tokenizer);
    assert(status == STATUS_OK);
    status = parse_vocab_txt(wordpiece.tokenizer, "vocab.txt", words, sizeof words - 1);
    assert(status == STATUS_OK);
    status = tokenizer_finish(wordpiece.tokenizer, "vocab.txt", NULL);
    assert(status == STATUS_OK);
    status = tokenizer_scratch_create(bpe.tokenizer, &bpe.scratch);
    assert(status == STATUS_OK);
    status = tokenizer_scratch_create(wordpiece.tokenizer, &wordpiece.scratch);
    assert(status == STATUS_OK);
    return 0;
}

static void check_spans(const struct encoding *encoding, const char *text, size_t size)
{
    int32_t characters = (int32_t)utf8_count(text, size);
    int32_t begin = 0;
    for (int64_t i = 0; i < encoding->count; i++) {
        struct text_span span = encoding->spans[i];
        if (encoding->flags[i] & TOKEN_SPECIAL && span.begin == span.end) continue;
        assert(span.begin >= begin && span.begin <= span.end && span.end <= characters);
        begin = span.begin;
    }
}

static void encode(struct coder *coder, const char *text, size_t size,
                   struct encode_options options)
{
    enum status status =
        tokenizer_encode(coder->tokenizer, coder->scratch, text, size, &options, &coder->encoding);
    size_t position;
    if (!options.allow_bytes && !utf8_valid(text, size, &position)) {
        assert(status == STATUS_INVALID);
        return;
    }
    assert(status == STATUS_OK);
    check_spans(&coder->encoding, text, size);
    options.max_length = 2 + (int64_t)size / 7;
    status = tokenizer_encode(coder->tokenizer, coder->scratch, text, size, &options, &coder->cut);
    assert(status == STATUS_OK);
    int64_t kept = coder->cut.count - options.add_special;
    assert(coder->cut.count <= options.max_length && kept <= coder->encoding.count);
    if (kept > 0) {
        assert(memcmp(coder->cut.ids, coder->encoding.ids, (size_t)kept * sizeof(int32_t)) == 0);
    }
    assert(coder->cut.truncated == (coder->cut.count < coder->encoding.count));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    struct encode_options options = {
        .add_special = data[0] & 1, .special_in_text = data[0] & 2, .allow_bytes = data[0] & 4};
    size--;
    char *text = malloc(size + 1);
    assert(text);
    memcpy(text, data + 1, size);
    text = realloc(text, size ? size : 1); /* its own size, so that reading past the end is seen */
    assert(text);
    encode(&wordpiece, text, size, options);
    encode(&bpe, text, size, options);
    options = (struct encode_options){.allow_bytes = true};
    encode(&bpe, text, size, options);
    struct strbuf decoded = {0};
    enum status status =
        tokenizer_decode(bpe.tokenizer, bpe.encoding.ids, bpe.encoding.count, false, &decoded);
    assert(status == STATUS_OK && decoded.length == size);
    assert(size == 0 || memcmp(decoded.text, text, size) == 0);
    strbuf_fini(&decoded);
    free(text);
    return 0;
}
