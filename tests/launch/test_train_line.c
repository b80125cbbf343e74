/* The progress line of training: what it says, when, and the warning that it waits for data. */
#include "tests/launch/run_fixture.h"

#include <pty.h>

#include "launch/train_line.h"

static struct train_line line;

/* Runs `count` steps whose waits are `seconds` and returns the number of warnings. */
static int run_steps(int64_t first, int count, struct run_seconds seconds, char *warning,
                     size_t size)
{
    int warnings = 0;
    for (int i = 0; i < count; i++) {
        struct run_log_step step = fixture_step(first + i);
        step.seconds = seconds;
        const char *text = train_line_step(&line, &step);
        if (!text) continue;
        warnings++;
        snprintf(warning, size, "%s", text);
    }
    return warnings;
}

static void test_plain_lines(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    train_line_init(&line, &(struct train_line_options){
                               .total_steps = 1120, .every = 50, .out = out, .plain = true});
    struct run_seconds seconds = {
        .step = 0.1, .wait_decode = 0.004, .compute = 0.08, .communicate = 0.009, .update = 0.007};
    assert_int_equal(run_steps(1000, 121, seconds, NULL, 0), 0);
    train_line_fini(&line);
    fclose(out);
    /* Steps 1000 (the first seen), 1050, 1100 and 1120 (the last). */
    const char *expected =
        "step 1,050/1,120  loss 3.2500 mlm 0.1000 itc 0.1000 itm 0.0000  320 samples/s  "
        "decode 4% compute 80% communicate 9% update 7%  left 0:07\n";
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++) {
        lines++;
    }
    assert_int_equal(lines, 4);
    if (!strstr(text, expected)) fail_msg("'%s' is not in:\n%s", expected, text);
    assert_non_null(strstr(text, "step 1,120/1,120"));
    assert_null(strchr(text, '\r'));
    free(text);
}

/* An evaluation has its part, and none in the time that is left. */
static void test_evaluations(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    train_line_init(&line, &(struct train_line_options){
                               .total_steps = 1120, .every = 50, .out = out, .plain = true});
    struct run_seconds seconds = {.step = 0.2, .compute = 0.09, .evaluate = 0.1, .other = 0.01};
    assert_int_equal(run_steps(1000, 51, seconds, NULL, 0), 0);
    train_line_fini(&line);
    fclose(out);
    const char *expected = " samples/s  compute 45% evaluate 50% other 5%  left 0:07\n";
    if (!strstr(text, expected)) fail_msg("'%s' is not in:\n%s", expected, text);
    free(text);
}

static void test_terminal(void **state)
{
    (void)state;
    int master = -1;
    int slave = -1;
    struct winsize size = {.ws_row = 24, .ws_col = 40};
    if (openpty(&master, &slave, NULL, NULL, &size) != 0) skip();
    FILE *out = fdopen(slave, "w");
    assert_non_null(out);
    train_line_init(&line, &(struct train_line_options){.total_steps = 3, .out = out});
    struct run_seconds seconds = {.step = 0.1, .compute = 0.1};
    run_steps(1, 3, seconds, NULL, 0);
    train_line_clear(&line);
    train_line_fini(&line);
    fclose(out);
    /* What was written comes piece by piece; when the other end is closed, reading fails at last.
     */
    char text[4096] = {0};
    size_t length = 0;
    for (;;) {
        ssize_t got = read(master, text + length, sizeof text - 1 - length);
        if (got <= 0) break;
        length += (size_t)got;
    }
    close(master);
    char *last = strstr(text, "\r\033[Kstep 3/3  loss 3.2500");
    assert_non_null(last);
    /* Cut to the width less one, then cleared. */
    char *cleared = strstr(last + 4, "\r\033[K");
    assert_non_null(cleared);
    assert_int_equal(cleared - (last + 4), 39);
}

static void test_waiting_for_data(void **state)
{
    (void)state;
    char text[512] = "";
    FILE *out = fopen("/dev/null", "w");
    assert_non_null(out);
    train_line_init(&line, &(struct train_line_options){.total_steps = 10000, .out = out});
    struct run_seconds good = {.step = 0.1, .wait_read = 0.004, .compute = 0.09};
    struct run_seconds bad = {.step = 0.1, .wait_read = 0.01, .wait_decode = 0.03, .compute = 0.06};
    struct run_seconds words = {.step = 0.1, .wait_tokenise = 0.05};
    struct run_seconds slow = {.step = 0.1, .wait_read = 0.05};
    struct run_seconds filling = {.step = 60, .wait_read = 60};
    assert_int_equal(run_steps(1, 5, filling, text, sizeof text), 0);
    assert_int_equal(run_steps(6, 49, bad, text, sizeof text), 0);
    assert_int_equal(run_steps(55, 1, bad, text, sizeof text), 1);
    assert_non_null(strstr(text, "input-bound: the last 50 steps spent 40% of their time waiting "
                                 "for data, mostly for decoding pictures (30%); raise"));
    assert_non_null(strstr(text, "weft pack --max-side"));
    /* Told once, and again only after it was well meanwhile. */
    assert_int_equal(run_steps(51, 200, bad, text, sizeof text), 0);
    assert_int_equal(run_steps(251, 60, good, text, sizeof text), 0);
    assert_int_equal(run_steps(311, 60, words, text, sizeof text), 1);
    assert_non_null(strstr(text, "mostly for tokenising (7%)"));
    assert_int_equal(run_steps(371, 60, good, text, sizeof text), 0);
    assert_int_equal(run_steps(431, 60, slow, text, sizeof text), 1);
    assert_non_null(strstr(text, "mostly for reading"));
    train_line_fini(&line);
    fclose(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_lines),
        cmocka_unit_test(test_evaluations),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_waiting_for_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
