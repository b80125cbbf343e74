/* Lines of log.jsonl: each kind, numbers bit for bit, torn lines, failures. */
#include "tests/launch/run_fixture.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "launch/json_text.h"
#include "launch/run_log.h"

static char folder[PATH_MAX];
static char path[PATH_MAX + 16];

static int set_up(void **state)
{
    (void)state;
    folder_make(folder);
    snprintf(path, sizeof path, "%s/log.jsonl", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

/* Line `number` (from 0) of the log, parsed; the caller gives it back. */
static json_t *line_of(int number)
{
    char *text = file_text(path, NULL);
    char *at = text;
    for (int i = 0; i < number; i++) {
        at = strchr(at, '\n');
        assert_non_null(at);
        at++;
    }
    char *end = strchr(at, '\n');
    assert_non_null(end);
    json_error_t error;
    json_t *value = json_loadb(at, (size_t)(end - at), JSON_REJECT_DUPLICATES, &error);
    if (!value) fail_msg("line %d: %s: %s", number, error.text, at);
    free(text);
    return value;
}

static void assert_text(const json_t *object, const char *key, const char *text)
{
    const char *found = json_string_value(json_object_get(object, key));
    assert_non_null(found);
    assert_string_equal(found, text);
}

static void assert_number(const json_t *object, const char *key, double value)
{
    const json_t *found = json_object_get(object, key);
    assert_true(json_is_number(found));
    assert_true(json_number_value(found) == value);
}

static void test_kinds(void **state)
{
    (void)state;
    struct run_log log;
    struct run_log_step step = fixture_step(7);
    struct run_log_start start = {.step = 5,
                                  .total_steps = 100,
                                  .global_batch = 64,
                                  .ranks = 2,
                                  .hosts = 1,
                                  .threads = 3,
                                  .host = "node \"7\"",
                                  .build = "0.1.0",
                                  .config_fingerprint = "c0ffee"};
    struct run_log_eval eval = {.step = 7, .split = "val", .metrics = {fixture_metrics, 1}};
    struct run_log_checkpoint checkpoint = {.step = 7,
                                            .path = "checkpoints/step-00000007.h5",
                                            .seconds = 2,
                                            .stall_s = 0.5,
                                            .bytes = 9};
    struct run_log_end end = {.step = 7, .reason = "stopped by \xFF", .exit_code = 75};
    ASSERT_OK(run_log_open(&log, folder));
    ASSERT_OK(run_log_start(&log, &start));
    ASSERT_OK(run_log_step(&log, &step));
    ASSERT_OK(run_log_eval(&log, &eval));
    ASSERT_OK(run_log_checkpoint(&log, &checkpoint));
    ASSERT_OK(run_log_warning(&log, 7, "two\nlines"));
    ASSERT_OK(run_log_end(&log, &end));
    ASSERT_OK(run_log_close(&log));
    ASSERT_OK(run_log_close(&log));

    json_t *line = line_of(0);
    assert_text(line, "kind", "start");
    assert_text(line, "host", "node \"7\"");
    assert_number(line, "step", 5);
    assert_number(line, "ranks", 2);
    assert_number(line, "threads", 3);
    assert_true(json_is_null(json_object_get(line, "resumed_from")));
    assert_true(json_number_value(json_object_get(line, "time")) > 1.7e9);
    json_decref(line);
    line = line_of(1);
    assert_text(line, "kind", "step");
    const json_t *losses = json_object_get(line, "losses");
    for (int i = 0; i < 4; i++) {
        assert_number(losses, fixture_losses[i].name, fixture_losses[i].value);
    }
    assert_number(json_object_get(line, "lr"), "heads", 5e-5);
    assert_number(json_object_get(line, "seconds"), "compute", 0.08);
    assert_number(json_object_get(line, "seconds"), "evaluate", 0);
    assert_int_equal(json_object_size(json_object_get(line, "seconds")), 10);
    assert_number(line, "index", 640);
    assert_number(line, "rss_mb", 512);
    json_decref(line);
    line = line_of(2);
    assert_text(line, "split", "val");
    assert_number(json_object_get(line, "metrics"), "itm_accuracy", 0.75);
    json_decref(line);
    line = line_of(3);
    assert_text(line, "path", "checkpoints/step-00000007.h5");
    assert_number(line, "stall_s", 0.5);
    json_decref(line);
    line = line_of(4);
    assert_text(line, "text", "two\nlines");
    json_decref(line);
    line = line_of(5);
    assert_text(line, "reason", "stopped by \xEF\xBF\xBD");
    assert_number(line, "exit_code", 75);
    json_decref(line);
}

static void test_numbers_come_back(void **state)
{
    (void)state;
    const double values[] = {0.0,        -0.0,        1.0 / 3, (double)(1.0f / 3),
                             5e-324,     1.7e308,     0.1,     (double)0.1f,
                             16777217.0, 123456789.0, -2.5,    0.9999999999999999};
    uint64_t bits = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        double value;
        if (i < (int)(sizeof values / sizeof values[0])) {
            value = values[i];
        } else if (i % 2) {
            memcpy(&value, &bits, sizeof value);
        } else {
            float single;
            uint32_t half = (uint32_t)bits;
            memcpy(&single, &half, sizeof single);
            value = (double)single;
        }
        bits ^= bits << 13, bits ^= bits >> 7, bits ^= bits << 17;
        if (!isfinite(value)) continue;
        struct strbuf out = {0};
        json_append_number(&out, value);
        double back = strtod(out.text, NULL);
        assert_memory_equal(&back, &value, sizeof value);
        strbuf_fini(&out);
    }
    const double odd[] = {NAN, INFINITY, -INFINITY};
    const char *names[] = {"\"nan\"", "\"inf\"", "\"-inf\""};
    for (int i = 0; i < 3; i++) {
        struct strbuf out = {0};
        double back = 0;
        json_append_number(&out, odd[i]);
        assert_string_equal(out.text, names[i]);
        out.text[out.length - 1] = '\0';
        assert_true(json_text_number(out.text + 1, &back));
        assert_true(isnan(odd[i]) ? isnan(back) : back == odd[i]);
        strbuf_fini(&out);
    }
    double unused;
    assert_false(json_text_number("nano", &unused));
}

static void test_appends_after_a_torn_line(void **state)
{
    (void)state;
    struct run_log log;
    file_write(path, "{\"kind\":\"warning\",\"step\":1}\n{\"kind\":\"st");
    ASSERT_OK(run_log_open(&log, folder));
    ASSERT_OK(run_log_warning(&log, 2, "next"));
    ASSERT_OK(run_log_close(&log));
    ASSERT_OK(run_log_open(&log, folder));
    ASSERT_OK(run_log_warning(&log, 3, "and next"));
    ASSERT_OK(run_log_close(&log));
    json_t *line = line_of(2);
    assert_text(line, "text", "next");
    json_decref(line);
    line = line_of(3);
    assert_text(line, "text", "and next");
    json_decref(line);
}

static void test_failures(void **state)
{
    (void)state;
    struct run_log log;
    ASSERT_FAILS(run_log_open(&log, "/nowhere/at/all"), STATUS_IO,
                 "/nowhere/at/all/log.jsonl: cannot open for appending: No such file");
    ASSERT_OK(run_log_close(&log));
    /* A full disk, by the limit on file sizes. */
    struct rlimit before;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 300;
    signal(SIGXFSZ, SIG_IGN);
    ASSERT_OK(run_log_open(&log, folder));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct run_log_step step = fixture_step(1);
    enum status status = run_log_step(&log, &step);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, STATUS_IO);
    assert_non_null(strstr(status_message(), "log.jsonl: cannot write: File too large"));
    ASSERT_OK(run_log_close(&log));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kinds, set_up, tear_down),
        cmocka_unit_test(test_numbers_come_back),
        cmocka_unit_test_setup_teardown(test_appends_after_a_torn_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failures, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
