/* Small data sets for the store's tests: a temporary folder, samples from a seed, a shard on disk.
 */
#ifndef WEFT_TESTS_DATA_STORE_FIXTURE_H
#define WEFT_TESTS_DATA_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/image/image.h"
#include "data/store/clean.h"
#include "data/store/store.h"
#include "data/store/writer.h"

#define ASSERT_OK(expression)                                                                      \
    do {                                                                                           \
        enum status assert_status = (expression);                                                  \
        if (assert_status != STATUS_OK)                                                            \
            fail_msg("%s: %s", status_name(assert_status), status_message());                      \
    } while (0)

/* The call fails with `code` and its message holds `part`. */
#define ASSERT_FAILS(expression, code, part)                                                       \
    do {                                                                                           \
        enum status assert_status = (expression);                                                  \
        if (assert_status != (code))                                                               \
            fail_msg("status %s, message: %s", status_name(assert_status), status_message());      \
        if (!strstr(status_message(), (part)))                                                     \
            fail_msg("'%s' is not in: %s", (part), status_message());                              \
    } while (0)

/* A new folder under TMPDIR; the caller removes it with folder_remove. */
static inline void folder_make(char folder[PATH_MAX])
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, PATH_MAX, "%s/weft-store-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(folder));
}

static inline int folder_remove_entry(const char *path, const struct stat *info, int type,
                                      struct FTW *place)
{
    (void)info;
    (void)type;
    (void)place;
    return remove(path);
}

static inline void folder_remove(const char *folder)
{
    nftw(folder, folder_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Adds a PNG of width x height whose pixels depend on `seed`. */
static inline void sample_add_png(struct sample *sample, int width, int height, unsigned seed,
                                  const char *key)
{
    uint8_t *pixels = malloc((size_t)width * (size_t)height * 3);
    assert_non_null(pixels);
    for (int i = 0; i < width * height * 3; i++) {
        pixels[i] = (uint8_t)((unsigned)i * 31u + seed * 97u + ((unsigned)i * seed >> 5));
    }
    struct image_view view = {pixels, width, height, (int64_t)width * 3};
    struct strbuf png = {0};
    ASSERT_OK(image_encode_png(view, 1, &png));
    void *bytes = sample_alloc(sample, (int64_t)png.length);
    assert_non_null(bytes);
    memcpy(bytes, png.text, png.length);
    int32_t index = 0;
    ASSERT_OK(sample_add_image(sample, bytes, (int64_t)png.length, key, &index));
    sample->images[index].width = width;
    sample->images[index].height = height;
    strbuf_fini(&png);
    free(pixels);
}

static inline void sample_add_words(struct sample *sample, enum text_kind kind, int32_t image,
                                    const char *text, int32_t *index)
{
    ASSERT_OK(sample_add_text(sample, kind, image, text, (int64_t)strlen(text), NULL, index));
}

/* Sample `number`: 1 image with 2 captions, every third a pair with a statement, every second with
 * a question, boxes with spans and category `number` % 3. */
static inline void sample_make(struct sample *sample, int number)
{
    char key[64];
    snprintf(key, sizeof key, "picture-%d.png", number);
    sample_add_png(sample, 8 + number % 5, 9, (unsigned)number, key);
    int32_t text = 0;
    int32_t box = 0;
    char words[64];
    snprintf(words, sizeof words, "a caf\xC3\xA9 number %d", number);
    sample_add_words(sample, TEXT_CAPTION, 0, words, &text);
    ASSERT_OK(sample_add_box(sample, 0, (float[4]){0, 1, 4.5f, 9}, &box));
    sample->boxes[box].text = text;
    sample->boxes[box].category = number % 3;
    ASSERT_OK(sample_add_span(sample, box, 2, 6));
    ASSERT_OK(sample_add_span(sample, box, 7, 13));
    ASSERT_OK(sample_add_box(sample, 0, (float[4]){1, 1, 3, 3}, &box));
    sample->boxes[box].crowd = true;
    snprintf(words, sizeof words, "caption two of %d", number);
    sample_add_words(sample, TEXT_CAPTION, 0, words, NULL);
    if (number % 2 == 0) {
        sample_add_words(sample, TEXT_QUESTION, 0, "how many?", &text);
        ASSERT_OK(sample_add_answer(sample, text, "two", 3, 1.0f));
        ASSERT_OK(sample_add_answer(sample, text, "2", 1, 0.3f));
    }
    if (number % 3 == 0) {
        snprintf(key, sizeof key, "right-%d.png", number);
        sample_add_png(sample, 5, 5, (unsigned)number + 1000, key);
        sample_add_words(sample, TEXT_STATEMENT, 0, "left equals right", &text);
        sample->texts[text].image2 = 1;
        sample->texts[text].label = (int8_t)(number % 2);
        sample_add_words(sample, TEXT_EXPRESSION, 1, "the right one", NULL);
    }
}

static const char *const fixture_categories[] = {"cat", "dog", "bird"};

/* Writes samples [first, first + count) as shard `shard` of `shards` to `path`. */
static inline void shard_make(const char *path, int first, int count, int shard, int shards)
{
    struct shard_head head = {.set = "small",
                              .set_id = "0123456789abcdef",
                              .origin = "test",
                              .shard = shard,
                              .shards = shards,
                              .categories = fixture_categories,
                              .num_categories = 3};
    struct shard_writer *writer = NULL;
    ASSERT_OK(shard_writer_create(&writer, path, &head));
    struct sample sample = {0};
    for (int i = first; i < first + count; i++) {
        sample_make(&sample, i);
        ASSERT_OK(sample_clean(&sample, 3));
        assert_int_equal(sample.num_rejects, 0);
        ASSERT_OK(shard_writer_add(writer, &sample, NULL));
        sample_clear(&sample);
    }
    ASSERT_OK(shard_writer_finish(&writer, 0));
}

/* Reads a whole file; the caller frees it. */
static inline uint8_t *file_load(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static inline void file_save(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

#endif
