/* For tests of run folders: a step with every field set, and files as text. */
#ifndef WEFT_TESTS_LAUNCH_RUN_FIXTURE_H
#define WEFT_TESTS_LAUNCH_RUN_FIXTURE_H

#include "launch/run_log.h"
#include "tests/data/store/fixture.h"

static const struct run_value fixture_losses[] = {
    {"loss", 3.25}, {"mlm", (double)0.1f}, {"itc", 0.1}, {"itm", 1e-300}};
static const struct run_value fixture_metrics[] = {{"itm_accuracy", 0.75}};
static const struct run_value fixture_lr[] = {{"base", 1e-5}, {"heads", 5e-5}};

static inline struct run_log_step fixture_step(int64_t step)
{
    return (struct run_log_step){
        .step = step,
        .epoch = 2,
        .index = 640,
        .losses = {fixture_losses, 4},
        .metrics = {fixture_metrics, 1},
        .lr = {fixture_lr, 2},
        .gradient_norm = 1.5,
        .samples_per_s = 320,
        .seconds = {.step = 0.1, .compute = 0.08, .communicate = 0.01, .update = 0.01},
        .rss_mb = 512,
    };
}

/* The whole file with a NUL after its end; the caller frees it. */
static inline char *file_text(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s cannot be opened", path);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long length = ftell(file);
    rewind(file);
    char *text = malloc((size_t)length + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)length, file), length);
    text[length] = '\0';
    fclose(file);
    if (size) *size = (size_t)length;
    return text;
}

static inline void file_write(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    if (!file) fail_msg("%s cannot be made", path);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

#endif
