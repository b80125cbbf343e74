/* What the importer tests share: a folder of small files made by the test, and one call that opens
 * an importer on it. */
#ifndef WEFT_TESTS_DATA_IMPORT_FIXTURE_H
#define WEFT_TESTS_DATA_IMPORT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "data/image/image.h"
#include "data/import/import.h"
#include "data/store/clean.h"

static char fixture_folder[256];

/* "FOLDER/name" in one of a few turning buffers. */
static inline const char *fixture_path(const char *name)
{
    static char paths[8][1024];
    static int turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", fixture_folder, name);
    return path;
}

static inline int fixture_setup(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(fixture_folder, sizeof fixture_folder, "%s/weft-import-XXXXXX", base ? base : "/tmp");
    return mkdtemp(fixture_folder) ? 0 : -1;
}

static inline int fixture_teardown(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", fixture_folder);
    return system(command);
}

static inline void fixture_bytes(const char *name, const void *bytes, size_t size)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", fixture_folder, name);
    for (char *slash = strchr(path + strlen(fixture_folder) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static inline void fixture_text(const char *name, const char *text)
{
    fixture_bytes(name, text, strlen(text));
}

/* A picture of one colour, which `shade` tells apart. */
static inline void fixture_png(const char *name, int width, int height, int shade)
{
    uint8_t *rgb = malloc((size_t)width * (size_t)height * 3);
    memset(rgb, shade, (size_t)width * (size_t)height * 3);
    struct strbuf png = {0};
    struct image_view view = {rgb, width, height, (int64_t)width * 3};
    assert_int_equal(image_encode_png(view, 1, &png), STATUS_OK);
    fixture_bytes(name, png.text, png.length);
    strbuf_fini(&png);
    free(rgb);
}

/* An opened importer. */
struct fixture {
    const struct importer *importer;
    struct import_source source;
    struct sample sample;
};

/*
 * Opens `format` on `sources` (ended by NULL); `options` are "name=value" (ended by NULL, or NULL).
 * Returns the status of open; close it with fixture_close either way.
 */
static inline enum status fixture_open(struct fixture *f, const char *format,
                                       const char *const *sources, const char *const *options)
{
    const char *values[32];
    int count = 0;
    memset(f, 0, sizeof *f);
    assert_int_equal(importer_find(format, &f->importer), STATUS_OK);
    struct import_args args = {sources, 0, f->importer->options, values};
    while (sources[args.num_sources]) {
        args.num_sources++;
    }
    for (; f->importer->options && f->importer->options[count].name; count++) {
        const char *name = f->importer->options[count].name;
        values[count] = f->importer->options[count].value;
        for (int i = 0; options && options[i]; i++) {
            size_t length = strlen(name);
            if (strncmp(options[i], name, length) == 0 && options[i][length] == '=') {
                values[count] = options[i] + length + 1;
            }
        }
    }
    return f->importer->open(&f->source, &args);
}

static inline void fixture_close(struct fixture *f)
{
    f->importer->close(&f->source);
    sample_fini(&f->sample);
}

static inline enum status fixture_fetch(struct fixture *f, int64_t item)
{
    sample_clear(&f->sample);
    return f->importer->fetch(&f->source, item, &f->sample);
}

/* Fetches an item that must be good. */
static inline const struct sample *fixture_good(struct fixture *f, int64_t item)
{
    enum status status = fixture_fetch(f, item);
    if (status != STATUS_OK) print_error("item %d: %s\n", (int)item, status_message());
    assert_int_equal(status, STATUS_OK);
    return &f->sample;
}

static inline void assert_text(const struct sample *sample, int32_t text, const char *expected)
{
    assert_in_range(text, 0, sample->num_texts - 1);
    assert_int_equal(sample->texts[text].length, strlen(expected));
    assert_memory_equal(sample->texts[text].text, expected, strlen(expected));
}

static inline void assert_box(const struct sample *sample, int32_t box, float x0, float y0,
                              float x1, float y1)
{
    assert_in_range(box, 0, sample->num_boxes - 1);
    const float expected[4] = {x0, y0, x1, y1};
    for (int i = 0; i < 4; i++) {
        assert_true(sample->boxes[box].xyxy[i] == expected[i]);
    }
}

static inline void assert_span(const struct sample *sample, int32_t span, int32_t box,
                               int32_t begin, int32_t end)
{
    assert_in_range(span, 0, sample->num_spans - 1);
    assert_int_equal(sample->spans[span].box, box);
    assert_int_equal(sample->spans[span].begin, begin);
    assert_int_equal(sample->spans[span].end, end);
}

/* The message of the last failure holds `part`. */
static inline void assert_says(const char *part)
{
    if (!strstr(status_message(), part)) print_error("said: %s\n", status_message());
    assert_non_null(strstr(status_message(), part));
}

static inline void assert_rejects(const struct sample *sample, int32_t reject, const char *part)
{
    assert_in_range(reject, 0, sample->num_rejects - 1);
    if (!strstr(sample->rejects[reject], part)) print_error("said: %s\n", sample->rejects[reject]);
    assert_non_null(strstr(sample->rejects[reject], part));
}

#endif
