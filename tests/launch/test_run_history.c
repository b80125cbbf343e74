/* Reading log.jsonl back: resumes, repeated steps, damaged lines, missing values. */
#include "tests/launch/run_fixture.h"

#include <math.h>

#include "launch/run_history.h"

static char folder[PATH_MAX];
static struct run_history history;

static int set_up(void **state)
{
    (void)state;
    folder_make(folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    run_history_fini(&history);
    folder_remove(folder);
    return 0;
}

static void read_text(const char *text)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/log.jsonl", folder);
    file_write(path, text);
    ASSERT_OK(run_history_read(&history, folder));
}

static void test_what_was_written(void **state)
{
    (void)state;
    struct run_log log;
    struct run_log_step step = fixture_step(1);
    struct run_log_start start = {.total_steps = 9,
                                  .ranks = 2,
                                  .hosts = 1,
                                  .threads = 4,
                                  .global_batch = 32,
                                  .host = "a",
                                  .build = "b",
                                  .config_fingerprint = "c"};
    struct run_log_eval eval = {.step = 1, .split = "val", .metrics = {fixture_metrics, 1}};
    struct run_log_checkpoint checkpoint = {
        .step = 1, .path = "p", .seconds = 2, .stall_s = 1, .bytes = 5000000000};
    struct run_log_end end = {.step = 1, .reason = "stopped by SIGUSR1", .exit_code = 75};
    ASSERT_OK(run_log_open(&log, folder));
    ASSERT_OK(run_log_start(&log, &start));
    ASSERT_OK(run_log_step(&log, &step));
    ASSERT_OK(run_log_eval(&log, &eval));
    ASSERT_OK(run_log_checkpoint(&log, &checkpoint));
    ASSERT_OK(run_log_warning(&log, 1, "w"));
    ASSERT_OK(run_log_end(&log, &end));
    ASSERT_OK(run_log_close(&log));
    ASSERT_OK(run_history_read(&history, folder));
    assert_int_equal(history.num_steps, 1);
    for (int i = 0; i < 4; i++) {
        const struct run_series *series =
            run_history_find(&history, "losses", fixture_losses[i].name);
        assert_non_null(series);
        assert_true(series->values[0] == fixture_losses[i].value);
    }
    assert_true(run_history_find(&history, "seconds", "compute")->values[0] == 0.08);
    assert_true(run_history_find(&history, "run", "index")->values[0] == 640);
    assert_null(run_history_find(&history, "losses", "itm_accuracy"));
    assert_string_equal(history.series[0].name, "loss");
    assert_string_equal(history.evals[0].split, "val");
    assert_true(history.evals[0].metrics.items[0].value == 0.75);
    assert_int_equal(history.checkpoints[0].bytes, 5000000000);
    assert_string_equal(history.warnings[0].text, "w");
    assert_int_equal(history.starts[0].start.threads, 4);
    assert_int_equal(history.starts[0].start.global_batch, 32);
    assert_null(history.starts[0].start.resumed_from);
    assert_true(history.ended);
    assert_int_equal(history.end.exit_code, 75);
    assert_string_equal(history.end.reason, "stopped by SIGUSR1");
    assert_int_equal(history.num_bad, 0);
}

#define STEP(step, loss)                                                                           \
    "{\"kind\":\"step\",\"time\":1,\"step\":" #step ",\"losses\":{\"loss\":" #loss "}}\n"

static void test_resume(void **state)
{
    (void)state;
    /* Died at step 4 with a checkpoint of step 2; then one step logged twice. */
    read_text("{\"kind\":\"start\",\"step\":0}\n" STEP(1, 10) STEP(2, 20) STEP(3, 30) STEP(
        4, 40) "{\"kind\":\"eval\",\"step\":4,\"split\":\"val\",\"metrics\":{\"a\":1}}\n"
               "{\"kind\":\"checkpoint\",\"step\":2,\"path\":\"x\"}\n"
               "{\"kind\":\"checkpoint\",\"step\":4,\"path\":\"y\"}\n"
               "{\"kind\":\"end\",\"step\":4,\"reason\":\"r\",\"exit_code\":1}\n"
               "{\"kind\":\"start\",\"step\":2,\"resumed_from\":\"x\"}\n" STEP(3, 31) STEP(3, 32));
    assert_int_equal(history.num_steps, 3);
    const struct run_series *loss = run_history_find(&history, "losses", "loss");
    assert_int_equal(history.steps[2], 3);
    assert_true(loss->values[0] == 10 && loss->values[1] == 20 && loss->values[2] == 32);
    assert_int_equal(history.num_superseded, 3);
    assert_int_equal(history.num_evals, 0);
    assert_int_equal(history.num_checkpoints, 1);
    assert_string_equal(history.checkpoints[0].path, "x");
    assert_int_equal(history.num_starts, 2);
    assert_string_equal(history.starts[1].start.resumed_from, "x");
    assert_false(history.ended);
}

static void test_columns_that_come_later(void **state)
{
    (void)state;
    read_text(STEP(1, 1) "{\"kind\":\"step\",\"step\":2,\"losses\":{\"new\":5,\"loss\":\"nan\"},"
                         "\"metrics\":{\"loss\":\"-inf\"}}\n" STEP(3, 3));
    const struct run_series *loss = run_history_find(&history, "losses", "loss");
    const struct run_series *added = run_history_find(&history, "losses", "new");
    const struct run_series *metric = run_history_find(&history, "metrics", "loss");
    assert_true(isnan(loss->values[1]) && loss->values[2] == 3);
    assert_true(isnan(added->values[0]) && added->values[1] == 5 && isnan(added->values[2]));
    assert_true(isinf(metric->values[1]) && metric->values[1] < 0);
}

static void test_damaged_lines(void **state)
{
    (void)state;
    read_text(STEP(1, 1) "\n{\"kind\":\"st\n[1]\nnonsense \xFF\n{\"kind\":\"later\",\"step\":7}\n"
                         "{\"step\":8}\n{\"kind\":\"step\",\"step\":\"x\",\"losses\":3}\n" STEP(
                             2, 2) "{\"kind\":\"step\",\"ste");
    assert_int_equal(history.num_bad, 4);
    assert_int_equal(history.first_bad, 3);
    assert_int_equal(history.num_steps, 3);
    assert_int_equal(history.steps[0], 0);
}

static void test_nothing_there(void **state)
{
    (void)state;
    ASSERT_FAILS(run_history_read(&history, folder), STATUS_NOT_FOUND,
                 "log.jsonl: No such file or directory; is this the folder of a run?");
    run_history_fini(&history);
    read_text("");
    assert_int_equal(history.num_steps, 0);
    assert_int_equal(history.num_starts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_was_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_resume, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_columns_that_come_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damaged_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_there, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
