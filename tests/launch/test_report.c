/* The report as text: what a page must hold, of good runs and of broken ones.   timeout=120 */
#include "tests/launch/made_run.h"

#include "launch/report.h"
#include "launch/report_chart.h"

static char run[PATH_MAX];
static char *page;

static int set_up(void **state)
{
    (void)state;
    folder_make(run);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(page);
    page = NULL;
    folder_remove(run);
    return 0;
}

static void write_to(const char *name, const char *text)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", run, name);
    file_write(path, text);
}

static void make_page(void)
{
    char path[PATH_MAX + 16];
    ASSERT_OK(report_write(run, NULL));
    snprintf(path, sizeof path, "%s/report.html", run);
    free(page);
    page = file_text(path, NULL);
}

static void assert_has(const char *part)
{
    if (!strstr(page, part)) fail_msg("'%s' is not in the page", part);
}

static int count_of(const char *part)
{
    int count = 0;
    for (const char *at = page; (at = strstr(at, part)); at++) {
        count++;
    }
    return count;
}

static void test_a_run(void **state)
{
    (void)state;
    made_run(run);
    make_page();
    assert_has("<span class=\"state good\">finished</span>");
    assert_has("<b>2,000</b><span>of 2,000 steps</span>");
    assert_has("ranks \xC3\x97 1 thread on 1 host");
    assert_has("<td>first 64 re-ranked by ITM");
    assert_has("<td>chance<td>0.20 %<td>1.0 %<td>2.0 %");
    assert_has("<td>itc_loss<td>");
    assert_has("# &lt;2 ranks&gt;\n");
    assert_has("66 logged steps were done again after a resume");
    assert_has("gradient norm is nan; step skipped");
    assert_has("<td>412.3 MB<td>1.4 s<td>0.035 s");
    /* 4 losses, 4 metrics, 6 of time and the like, 3 recalls and 2 more of evaluations. */
    assert_int_equal(count_of("<figure class=chart>"), 19);
    assert_int_equal(count_of("\"axes\":["), 19);
    /* Found, missed and fooled: 4 texts and 4 pictures each. One candidate's data set is gone. */
    assert_int_equal(count_of("<div class=\"example wide\">"), 12);
    assert_int_equal(count_of("<div class=example>"), 12);
    assert_int_equal(count_of("<span class=missing>"), 1);
    assert_has("no picture: /moved/away/val-*.h5: no such file");
    assert_int_equal(count_of("data:image/png;base64,"), 4 * 5 - 1 + 4 + 4 * 6 + 4 + 4 * 2 + 4);
    assert_null(strstr(page, "http://"));
    assert_null(strstr(page, "https://"));
    /* The missing picture has no other effect than its own. */
    assert_null(strstr(page, "could not be read"));
}

static void test_moved_data(void **state)
{
    (void)state;
    char command[PATH_MAX + 64];
    made_run(run);
    snprintf(command, sizeof command, "rm -r '%s/data'", run);
    assert_int_equal(system(command), 0);
    make_page();
    assert_int_equal(count_of("data:image/"), 0);
    assert_has("no picture: ");
    assert_has("val-*.h5: no such file");
}

static void test_states(void **state)
{
    (void)state;
    static const char start[] =
        "{\"kind\":\"start\",\"time\":1700000000,\"step\":0,\"total_steps\":100}\n";
    char text[1024];
    write_to("log.jsonl", start);
    make_page();
    assert_has("no end in the log</span> <small>still running, or killed; last line 2023-11-14");
    assert_has("No step has been logged.");
    assert_has("config.yaml: No such file or directory");
    snprintf(text, sizeof text, "%s%s", start,
             "{\"kind\":\"end\",\"time\":1700000001,\"step\":3,\"reason\":\"SIGUSR1\","
             "\"exit_code\":75}\n");
    write_to("log.jsonl", text);
    make_page();
    assert_has("<span class=\"state warn\">saved and stopped, to be continued</span>");
    snprintf(text, sizeof text, "%s%s", start,
             "{\"kind\":\"end\",\"time\":1700000001,\"step\":3,\"reason\":\"rank 3: <b>\","
             "\"exit_code\":1}\nrubbish\n");
    write_to("log.jsonl", text);
    make_page();
    assert_has("<span class=\"state bad\">failed, exit code 1</span> <small>rank 3: &lt;b&gt;");
    assert_has("1 line of log.jsonl could not be read, the first is line 3");
}

/* Names and texts of a run are foreign: none may become markup or end the script. */
static void test_hostile_names(void **state)
{
    (void)state;
    char path[PATH_MAX + 16];
    write_to(
        "log.jsonl",
        "{\"kind\":\"step\",\"step\":1,\"losses\":{\"</script><img src=x>\":\"nan\",\"a\":1}}\n"
        "{\"kind\":\"step\",\"step\":2,\"losses\":{\"</script><img src=x>\":1e300,\"a\":1}}\n"
        "{\"kind\":\"warning\",\"step\":2,\"text\":\"<script>alert(1)</script>\"}\n");
    snprintf(path, sizeof path, "%s/eval", run);
    assert_int_equal(mkdir(path, 0777), 0);
    write_to("eval/step-00000001.json",
             "{\"step\": 1, \"split\": \"<i>\", \"metrics\": {\"<u>/tr@1\": 0.5}}");
    write_to("eval/step-00000002.json", "{\"step\": ");
    make_page();
    assert_null(strstr(page, "<img"));
    assert_null(strstr(page, "<script>alert"));
    assert_null(strstr(page, "<i>"));
    assert_null(strstr(page, "<u>"));
    assert_int_equal(count_of("</script>"), 2);
    assert_has("1 evaluation file could not be read: ");
    assert_has("step-00000002.json");
    assert_has("50.0 %");
}

static void test_failures(void **state)
{
    (void)state;
    ASSERT_FAILS(report_write("/no/such/run", NULL), STATUS_NOT_FOUND,
                 "/no/such/run/log.jsonl: No such file or directory; is this the folder of a run?");
    write_to("log.jsonl", "");
    ASSERT_FAILS(report_write(run, "/no/such/place.html"), STATUS_IO,
                 "/no/such/place.html.tmp: cannot create: No such file or directory; give another "
                 "file with --output");
}

/* Values that differ in the last bit only, large ones and small ones: an axis with a few ticks. */
static void test_flat_charts(void **state)
{
    (void)state;
    static const double x[] = {1, 2, 3};
    static const double bases[] = {1.0 / 3, 1e15 + 1, -7e-30, 0.07, 123456789};
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++) {
        const double y[] = {bases[i], nextafter(bases[i], 1e300), bases[i]};
        struct strbuf html = {0};
        struct chart_page charts = {.html = &html};
        const struct chart chart = {
            .title = "flat", .x = x, .count = 3, .lines = {{"y", y}}, .num_lines = 1};
        chart_append(&charts, &chart);
        int ticks = 0;
        for (const char *at = html.text; (at = strstr(at, "class=tick")); at++) {
            ticks++;
        }
        assert_in_range(ticks, 4, 24);
        strbuf_fini(&html);
        strbuf_fini(&charts.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_moved_data, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_states, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failures, set_up, tear_down),
        cmocka_unit_test(test_flat_charts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
