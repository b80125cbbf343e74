/* weft compare: tables as printed, the page, and what is refused.   timeout=120 */
#include "tests/launch/made_run.h"

#include "launch/compare.h"

static char folder[PATH_MAX];
static char said[1 << 16];

static int set_up(void **state)
{
    (void)state;
    const char *keep = getenv("WEFT_KEEP");
    folder_make(folder);
    if (keep) snprintf(folder, sizeof folder, "%s", keep);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!getenv("WEFT_KEEP")) folder_remove(folder);
    return 0;
}

static char *run_path(char path[2 * PATH_MAX], const char *name)
{
    assert_true(snprintf(path, 2 * PATH_MAX, "%s/%s", folder, name) < 2 * PATH_MAX);
    return path;
}

static void write_to(const char *name, const char *text)
{
    char path[2 * PATH_MAX];
    file_write(run_path(path, name), text);
}

/* Runs weft compare in the folder; returns the exit code and fills `said`. */
static int weft_compare(const char *arguments)
{
    const char *build = getenv("WEFT_BUILD");
    char *weft = realpath(build ? build : "build/release", NULL);
    char command[4 * PATH_MAX];
    assert_non_null(weft);
    snprintf(command, sizeof command, "cd '%s' && '%s/weft' compare %s 2>&1", folder, weft,
             arguments);
    free(weft);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t length = fread(said, 1, sizeof said - 1, pipe);
    said[length] = '\0';
    int state = pclose(pipe);
    return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

static void assert_says(const char *part)
{
    if (!strstr(said, part)) fail_msg("'%s' is not in:\n%s", part, said);
}

static void make_small(const char *name, double loss, double recall, const char *config)
{
    char path[2 * PATH_MAX];
    char text[1024];
    assert_int_equal(mkdir(run_path(path, name), 0777), 0);
    snprintf(text, sizeof text,
             "{\"kind\":\"step\",\"step\":1,\"losses\":{\"loss\":9},\"samples_per_s\":10,"
             "\"seconds\":{\"step\":2,\"wait_read\":0.5}}\n"
             "{\"kind\":\"eval\",\"step\":1,\"split\":\"val\",\"metrics\":{\"ir@1\":0.01}}\n"
             "{\"kind\":\"step\",\"step\":60,\"losses\":{\"loss\":%g},\"metrics\":{\"t\":1}}\n"
             "{\"kind\":\"eval\",\"step\":60,\"split\":\"val\",\"metrics\":{\"ir@1\":%g}}\n",
             loss, recall);
    snprintf(path, sizeof path, "%s/log.jsonl", name);
    write_to(path, text);
    if (!config) return;
    snprintf(path, sizeof path, "%s/config.yaml", name);
    write_to(path, config);
}

static void test_tables(void **state)
{
    (void)state;
    make_small("one", 2, 0.5, "a: {b: 1, c: [x, y]}\nd: same\n");
    make_small("two", 3, 0.25, "a: {b: 1, c: [x, z, w], e: {}}\nd: same\n");
    assert_int_equal(weft_compare("one two/"), 0);
    assert_says("one       two\n");
    assert_says("val ir@1              *  50.0 %    25.0 %\n");
    assert_says("loss (training loss)  *     5.5         6\n");
    assert_says("t (training)                  1         1\n");
    assert_says("time waiting for data    25.0 %    25.0 %\n");
    assert_says("configurations differ in 3 keys (3 are the same):\n");
    assert_says("a.c.1  y    z  \n");
    assert_says("a.c.2       w  \n");
    assert_says("a.e         {} \n");
    assert_int_equal(weft_compare("one one"), 0);
    assert_says("the configurations are the same");
    assert_null(strchr(said, '*'));
}

static void test_page(void **state)
{
    (void)state;
    char path[2 * PATH_MAX];
    static const char *const names[] = {"fiber", "fiber-<b>"};
    for (int i = 0; i < 2; i++) {
        uint64_t seed = 7 + (uint64_t)i;
        char file[PATH_MAX];
        assert_int_equal(mkdir(run_path(path, names[i]), 0777), 0);
        made_log(path, &seed);
        snprintf(file, sizeof file, "%s/config.yaml", names[i]);
        write_to(file, i ? "lr: 1e-4\nseed: 8\n" : "lr: 5e-5\nseed: 7\n");
    }
    assert_int_equal(weft_compare("-o page.html fiber 'fiber-<b>'"), 0);
    assert_says("page: page.html");
    char *page = file_text(run_path(path, "page.html"), NULL);
    int charts = 0;
    for (const char *at = page; (at = strstr(at, "<figure class=chart>")); at++) {
        charts++;
    }
    assert_int_equal(charts, 4 + 4 + 14);
    assert_non_null(strstr(page, "<tr><td>lr<td>5e-5<td>1e-4"));
    assert_non_null(strstr(page, "\"label\":\"fiber-&lt;b&gt;\""));
    assert_null(strstr(page, "fiber-<b>"));
    assert_null(strstr(page, "http"));
    free(page);
}

static void test_broken_runs(void **state)
{
    (void)state;
    make_small("one", 2, 0.5, "a: 1\n");
    make_small("two", 2, 0.5, "a: [1\n");
    make_small("three", 2, 0.5, NULL);
    assert_int_equal(weft_compare("one two"), 0);
    assert_says("configurations not compared: two/config.yaml:2: ");
    assert_int_equal(weft_compare("one three"), 0);
    assert_says("configurations not compared: three/config.yaml: No such file or directory");
    assert_int_equal(weft_compare("one four"), 2);
    assert_says("four/log.jsonl: No such file or directory; is this the folder of a run?");
    assert_int_equal(weft_compare("one"), 2);
    assert_says("which runs? two at least");
    assert_int_equal(weft_compare("one one one one one one one one one"), 2);
    assert_says("9 runs; at most 8 can be compared");
    assert_int_equal(weft_compare("--outptu x one two"), 2);
    assert_says("no option --outptu");
    assert_int_equal(weft_compare("-o no/such/place.html one two"), 1);
    assert_says("no/such/place.html.tmp: cannot create");
}

/* Aliases that name each other must not run away. */
static void test_hostile_config(void **state)
{
    (void)state;
    struct arena arena = {0};
    const char *(*pairs)[2] = NULL;
    int count = 0;
    char path[2 * PATH_MAX];
    write_to("bomb.yaml", "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
                          "b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
                          "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\n"
                          "d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
                          "e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\n"
                          "f: [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]\n");
    ASSERT_FAILS(compare_flatten(run_path(path, "bomb.yaml"), &arena, &pairs, &count),
                 STATUS_UNSUPPORTED, "more than 100000 values");
    write_to("cycle.yaml", "a: &a [*a]\n");
    ASSERT_FAILS(compare_flatten(run_path(path, "cycle.yaml"), &arena, &pairs, &count),
                 STATUS_UNSUPPORTED, "nested too deeply");
    write_to("empty.yaml", "");
    ASSERT_OK(compare_flatten(run_path(path, "empty.yaml"), &arena, &pairs, &count));
    assert_int_equal(count, 0);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tables, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_page, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_config, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
