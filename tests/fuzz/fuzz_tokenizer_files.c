/*
 * Parsers of tokenizer files. The first byte of the input says which: vocab.json and merges.txt
 * (the two parted by a NUL byte), tokenizer.json, or vocab.txt. What loads must encode any text,
 * and byte-level BPE that has all bytes must give it back.
 * runs=270000
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer/tokenizer_impl.h"
#include "runtime/base/log.h"

static const char sample[] = "A red\xC3\xA9 <s>[UNK] ab'll \xE6\x97\xA5  12\xFF \n\tthe";

static enum status parse_pair(struct tokenizer *tokenizer, const char *bytes, size_t size)
{
    const char *split = memchr(bytes, 0, size);
    size_t first = split ? (size_t)(split - bytes) : size;
    TRY(parse_vocab_json(tokenizer, "vocab.json", bytes, first));
    size_t rest = split ? size - first - 1 : 0;
    return parse_merges_txt(tokenizer, "merges.txt", bytes + size - rest, rest);
}

static enum status parse(struct tokenizer *tokenizer, uint8_t kind, const char *bytes, size_t size)
{
    switch (kind % 3) {
    case 0:
        return parse_pair(tokenizer, bytes, size);
    case 1:
        return parse_tokenizer_json(tokenizer, "tokenizer.json", bytes, size);
    default:
        return parse_vocab_txt(tokenizer, "vocab.txt", bytes, size);
    }
}

static void use(const struct tokenizer *tokenizer)
{
    struct tokenizer_scratch *scratch;
    struct encoding encoding = {0};
    struct strbuf text = {0};
    struct encode_options options = {.allow_bytes = true, .special_in_text = true};
    enum status status = tokenizer_scratch_create(tokenizer, &scratch);
    assert(status == STATUS_OK);
    for (int special = 0; special < 2; special++) {
        options.special_in_text = special;
        status =
            tokenizer_encode(tokenizer, scratch, sample, sizeof sample - 1, &options, &encoding);
        assert(status == STATUS_OK);
        for (int64_t i = 0; i < encoding.count; i++) {
            assert(encoding.ids[i] >= 0 && encoding.ids[i] < tokenizer_vocab_size(tokenizer));
            assert(encoding.spans[i].begin >= 0 && encoding.spans[i].end < (int32_t)sizeof sample);
            assert(encoding.spans[i].begin <= encoding.spans[i].end);
        }
    }
    options.special_in_text = false;
    status = tokenizer_encode(tokenizer, scratch, sample, sizeof sample - 1, &options, &encoding);
    assert(status == STATUS_OK);
    status = tokenizer_decode(tokenizer, encoding.ids, encoding.count, false, &text);
    assert(status == STATUS_OK);
    if (tokenizer->kind == TOKENIZER_BPE && tokenizer->bpe.complete && !tokenizer->prefix_space &&
        !tokenizer->has_plain_added) {
        assert(text.length == sizeof sample - 1 && memcmp(text.text, sample, text.length) == 0);
    }
    strbuf_fini(&text);
    encoding_fini(&encoding);
    tokenizer_scratch_destroy(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    log_set_level(LOG_ERROR);
    struct tokenizer *tokenizer;
    enum status status = tokenizer_create(&tokenizer);
    assert(status == STATUS_OK);
    /* A copy of its own size, so that reading past the end is seen. */
    char *bytes = malloc(size - 1);
    assert(bytes);
    memcpy(bytes, data + 1, size - 1);
    struct tokenizer_options options = {.add_special = data[0] & 0x80};
    status = parse(tokenizer, data[0] & 0x7F, bytes, size - 1);
    if (status == STATUS_OK) status = tokenizer_finish(tokenizer, "file", &options);
    free(bytes);
    if (status == STATUS_OK) {
        use(tokenizer);
    } else {
        assert(status_message()[0] != '\0');
    }
    tokenizer_destroy(&tokenizer);
    return 0;
}
