/*
 * The report in a browser: it draws, its script runs, light and dark. WEFT_KEEP=FOLDER leaves page
 * and pictures there to look at.   needs=chromium timeout=180
 */
#include "tests/launch/made_run.h"

#include "launch/report.h"

static char run[PATH_MAX];

static int set_up(void **state)
{
    (void)state;
    const char *keep = getenv("WEFT_KEEP");
    if (keep) {
        snprintf(run, sizeof run, "%s", keep);
        folder_remove(run);
        assert_int_equal(mkdir(run, 0777), 0);
    } else {
        folder_make(run);
    }
    made_run(run);
    ASSERT_OK(report_write(run, NULL));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!getenv("WEFT_KEEP")) folder_remove(run);
    return 0;
}

/* Runs the browser on the page; its profile lies in the run's folder and goes with it. */
static void browse(const char *options)
{
    char command[10 * PATH_MAX];
    snprintf(
        command, sizeof command,
        "HOME='%s' timeout 100 chromium --headless --no-sandbox --disable-gpu "
        "--disable-dev-shm-usage --hide-scrollbars --no-first-run --user-data-dir='%s/browser' "
        "%s 'file://%s/report.html' >'%s/said' 2>'%s/errors'",
        run, run, options, run, run, run);
    if (system(command) != 0) fail_msg("chromium failed: %s", command);
}

/* The picture has `width` and is neither blank nor one colour: share of pixels that differ from
 * the first one. */
static void read_picture(const char *name, int64_t width, struct image *image, double *busy)
{
    char path[PATH_MAX + 64];
    size_t size = 0;
    snprintf(path, sizeof path, "%s/%s", run, name);
    char *bytes = file_text(path, &size);
    ASSERT_OK(image_decode(bytes, size, NULL, image));
    free(bytes);
    assert_int_equal(image->width, width);
    int64_t other = 0;
    for (int64_t i = 0; i < image->width * image->height; i++) {
        other += memcmp(image->pixels + 3 * i, image->pixels, 3) != 0;
    }
    *busy = (double)other / (double)(image->width * image->height);
}

static void test_light_and_dark(void **state)
{
    (void)state;
    char options[PATH_MAX + 200];
    struct image image = {0};
    double busy = 0;
    snprintf(options, sizeof options, "--window-size=1360,6200 --screenshot='%s/light.png'", run);
    browse(options);
    read_picture("light.png", 1360, &image, &busy);
    assert_true(image.pixels[0] > 200);
    assert_true(busy > 0.3);
    snprintf(options, sizeof options,
             "--blink-settings=preferredColorScheme=0 --window-size=1360,6200 "
             "--screenshot='%s/dark.png'",
             run);
    browse(options);
    read_picture("dark.png", 1360, &image, &busy);
    assert_true(image.pixels[0] < 60);
    assert_true(busy > 0.3);
    image_fini(&image);
}

/* After the script has run, curves are drawn at its smoothing and nothing asks for the network. */
static void test_script(void **state)
{
    (void)state;
    char path[PATH_MAX + 16];
    browse("--dump-dom");
    snprintf(path, sizeof path, "%s/said", run);
    char *dom = file_text(path, NULL);
    assert_non_null(strstr(dom, "<html lang=\"en\" class=\"js\">"));
    assert_non_null(strstr(dom, "<div id=\"tip\">"));
    assert_null(strstr(dom, ">NaN"));
    assert_null(strstr(dom, "LNaN"));
    assert_null(strstr(dom, " NaN"));
    assert_null(strstr(dom, "src=\"http"));
    free(dom);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_light_and_dark),
        cmocka_unit_test(test_script),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
