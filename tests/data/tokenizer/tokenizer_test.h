/* What the tests of this folder share: temporary folders, files, and loading. */
#ifndef WEFT_TESTS_DATA_TOKENIZER_TOKENIZER_TEST_H
#define WEFT_TESTS_DATA_TOKENIZER_TOKENIZER_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/tokenizer/tokenizer.h"

#define CASES "tests/data/tokenizer/cases"

#define assert_ok(expression)                                                                      \
    do {                                                                                           \
        if ((expression) != STATUS_OK) fail_msg("%s: %s", #expression, status_message());          \
    } while (0)

#define assert_message(text)                                                                       \
    do {                                                                                           \
        if (!strstr(status_message(), text)) fail_msg("message is: %s", status_message());         \
    } while (0)

struct loaded {
    struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    struct encoding encoding;
};

static inline struct loaded load(const char *path, const struct tokenizer_options *options)
{
    struct loaded loaded = {0};
    assert_ok(tokenizer_load(path, options, &loaded.tokenizer));
    assert_ok(tokenizer_scratch_create(loaded.tokenizer, &loaded.scratch));
    return loaded;
}

static inline void unload(struct loaded *loaded)
{
    encoding_fini(&loaded->encoding);
    tokenizer_scratch_destroy(&loaded->scratch);
    tokenizer_destroy(&loaded->tokenizer);
}

static inline void encode_text(struct loaded *loaded, const char *text,
                               const struct encode_options *options)
{
    assert_ok(tokenizer_encode(loaded->tokenizer, loaded->scratch, text, strlen(text), options,
                               &loaded->encoding));
}

/* A new folder under TMPDIR; removed with its files by folder_remove. */
static inline void folder_make(char *path, size_t size)
{
    const char *base = getenv("TMPDIR");
    snprintf(path, size, "%s/weft-tokenizer-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(path));
}

static inline void folder_remove(const char *path)
{
    static const char *const names[] = {"tokenizer.json", "vocab.json", "merges.txt", "vocab.txt",
                                        "other.bin"};
    char file[4096];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        unlink(file);
    }
    assert_int_equal(rmdir(path), 0);
}

static inline void file_write(const char *folder, const char *name, const char *bytes, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* The contents of a file; freed by the caller. */
static inline char *file_read(const char *folder, const char *name, size_t *size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("cannot open %s", path);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    bytes[*size] = '\0';
    fclose(file);
    return bytes;
}

#endif
