/* The small parts of runtime/base: status, arena, strings, log, bf16, and the choice of ISA. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/backend/cpu/isa.h"
#include "runtime/base/arena.h"
#include "runtime/base/bf16.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/base/strbuf.h"

/* ---- status --------------------------------------------------------------------------------- */

static enum status fails_at_depth(int depth)
{
    if (depth == 0) return status_fail(STATUS_CORRUPT, "byte %d is wrong", 7);
    enum status status = fails_at_depth(depth - 1);
    return status_prefix(status, "level %d", depth);
}

static enum status tries(enum status inner, int *reached)
{
    TRY(inner);
    *reached = 1;
    CHECK(inner != STATUS_OK, STATUS_INVALID, "%s is %s", "it", "ok");
    return STATUS_OK;
}

static enum status cleans_up(bool condition, int *cleaned)
{
    enum status status = STATUS_OK;
    CHECK_GOTO(condition, status, done, STATUS_IO, "condition is %d", condition);
    TRY_GOTO(status, STATUS_COMM, done);
    status = STATUS_INTERNAL;
done:
    *cleaned += 1;
    return status;
}

static void test_status(void **state)
{
    (void)state;
    assert_int_equal(fails_at_depth(2), STATUS_CORRUPT);
    assert_string_equal(status_message(), "level 2: level 1: byte 7 is wrong");
    /* The old message may be an argument of the new one. */
    assert_int_equal(status_fail(STATUS_IO, "again: %s", status_message()), STATUS_IO);
    assert_string_equal(status_message(), "again: level 2: level 1: byte 7 is wrong");
    assert_int_equal(status_prefix(STATUS_IO, "%s", status_message()), STATUS_IO);
    assert_string_equal(status_message(), "again: level 2: level 1: byte 7 is wrong: again: level "
                                          "2: level 1: byte 7 is wrong");
    int reached = 0;
    assert_int_equal(tries(STATUS_NO_MEMORY, &reached), STATUS_NO_MEMORY);
    assert_int_equal(reached, 0);
    assert_int_equal(tries(STATUS_OK, &reached), STATUS_INVALID);
    assert_int_equal(reached, 1);
    assert_string_equal(status_message(), "it is ok");
    int cleaned = 0;
    assert_int_equal(cleans_up(false, &cleaned), STATUS_IO);
    assert_string_equal(status_message(), "condition is 0");
    assert_int_equal(cleans_up(true, &cleaned), STATUS_COMM);
    assert_int_equal(cleaned, 2);
}

static void test_status_names_and_codes(void **state)
{
    (void)state;
    for (int i = 0; i < STATUS_COUNT; i++) {
        assert_non_null(status_name((enum status)i));
        assert_string_not_equal(status_name((enum status)i), "unknown");
        int expected = i == STATUS_OK ? 0 : i == STATUS_INVALID || i == STATUS_NOT_FOUND ? 2 : 1;
        assert_int_equal(status_exit_code((enum status)i), expected);
    }
    assert_string_equal(status_name(STATUS_COUNT), "unknown");
    assert_string_equal(status_name((enum status) - 1), "unknown");
}

static void test_status_truncates(void **state)
{
    (void)state;
    char text[5000];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '\0';
    status_fail(STATUS_INVALID, "%s", text);
    size_t full = strlen(status_message());
    assert_true(full > 1000 && full < sizeof text);
    /* A prefix pushes the end out, not the beginning. */
    status_prefix(STATUS_INVALID, "prefix");
    assert_int_equal(strlen(status_message()), full);
    assert_memory_equal(status_message(), "prefix: aaa", 11);
    /* A prefix that fills the message by itself. */
    for (size_t length = full - 5; length <= full + 5; length++) {
        status_fail(STATUS_INVALID, "tail");
        memset(text, 'b', length);
        text[length] = '\0';
        status_prefix(STATUS_INVALID, "%s", text);
        size_t shown = strlen(status_message());
        assert_true(shown >= full - 5 && shown <= full);
        assert_int_equal(strspn(status_message(), "b"), length < full - 2 ? length : full - 2);
    }
}

/* ---- arena ---------------------------------------------------------------------------------- */

static void test_arena(void **state)
{
    (void)state;
    struct arena arena = {0};
    enum { COUNT = 3000 };
    static unsigned char *pieces[COUNT];
    for (int i = 0; i < COUNT; i++) {
        size_t size = (size_t)(i % 100 == 99 ? 40000 + i : i % 61);
        pieces[i] = arena_alloc(&arena, size);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
        for (size_t j = 0; j < size; j++) {
            assert_int_equal(pieces[i][j], 0);
        }
        memset(pieces[i], i % 251, size);
    }
    for (int i = 0; i < COUNT; i++) {
        size_t size = (size_t)(i % 100 == 99 ? 40000 + i : i % 61);
        for (size_t j = 0; j < size; j++) {
            assert_int_equal(pieces[i][j], i % 251); /* nobody wrote into another's piece */
        }
    }
    assert_true(arena.total >= 30 * 40000);
    assert_string_equal(arena_strdup(&arena, ""), "");
    assert_string_equal(arena_strdup(&arena, "abc"), "abc");
    assert_string_equal(arena_strndup(&arena, "abcdef", 3), "abc");
    assert_string_equal(arena_printf(&arena, "%s-%05d", "x", 42), "x-00042");
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX / 2 + 1));
    arena_fini(&arena);
    assert_int_equal(arena.total, 0);
    assert_non_null(arena_alloc(&arena, 1));
    arena_fini(&arena);
    arena_fini(&arena);
}

/* ---- strings -------------------------------------------------------------------------------- */

static void test_strbuf(void **state)
{
    (void)state;
    struct strbuf text = {0};
    assert_null(text.text);
    for (int i = 0; i < 1000; i++) {
        strbuf_printf(&text, "%d,", i);
    }
    assert_int_equal(text.length, 3890);
    assert_int_equal(strlen(text.text), text.length);
    assert_memory_equal(text.text, "0,1,2,", 6);
    strbuf_clear(&text);
    assert_string_equal(text.text, "");
    strbuf_append(&text, "ab");
    strbuf_append_bytes(&text, "c\0d", 3);
    strbuf_append_bytes(&text, NULL, 0);
    assert_int_equal(text.length, 5);
    assert_memory_equal(text.text, "abc\0d", 6);
    strbuf_clear(&text);
    strbuf_append_json(&text, "a\"b\\c\n\x01\xC3\xA9", 9);
    assert_string_equal(text.text, "\"a\\\"b\\\\c\\u000a\\u0001\xC3\xA9\"");
    strbuf_fini(&text);
    assert_null(text.text);
    struct strbuf failed = {.failed = true};
    strbuf_append(&failed, "x");
    strbuf_printf(&failed, "%d", 1);
    assert_null(failed.text);
    assert_int_equal(failed.length, 0);
}

static void test_string_nearest(void **state)
{
    (void)state;
    static const char *const names[] = {"learning_rate", "warmup", "lr", "layers", "betas"};
    static const struct {
        const char *text;
        const char *nearest;
    } rows[] = {
        {"lerning_rate", "learning_rate"},
        {"learning-rate", "learning_rate"},
        {"learnrate", "learning_rate"},
        {"warm_up", "warmup"},
        {"lrr", "lr"},
        {"l", "lr"},
        {"layer", "layers"},
        {"betas", "betas"},
        {"optimiser", NULL},
        {"zzzzzz", NULL},
        {"", "lr"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *nearest = string_nearest(rows[i].text, names, 5);
        if (!rows[i].nearest) {
            assert_null(nearest);
        } else {
            assert_non_null(nearest);
            assert_string_equal(nearest, rows[i].nearest);
        }
    }
    assert_null(string_nearest("x", names, 0));
    /* Names longer than the table of distances. */
    char long_name[600];
    memset(long_name, 'a', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    const char *const long_names[] = {long_name};
    assert_ptr_equal(string_nearest(long_name + 1, long_names, 1), long_name);
    assert_null(string_nearest("b", long_names, 1));
}

/* ---- log ------------------------------------------------------------------------------------ */

/* Runs `body` with standard error in a file, and returns what it printed. */
static void capture(void (*body)(void), char *out, size_t size)
{
    char path[] = "/tmp/weft-test-base-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    int saved = dup(STDERR_FILENO);
    assert_true(saved >= 0);
    fflush(stderr);
    dup2(file, STDERR_FILENO);
    body();
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t length = pread(file, out, size - 1, 0);
    close(file);
    unlink(path);
    assert_true(length >= 0);
    out[length] = '\0';
}

static char log_path[] = "/tmp/weft-test-log-XXXXXX";

static void write_log_lines(void)
{
    log_debug("hidden %d", 1);
    log_info("loss %.1f", 2.5);
    log_warning("slow");
    log_error("broken");
    log_set_rank(3, 4);
    log_info("not on this rank");
    log_warning("other rank");
    log_set_level(LOG_DEBUG);
    log_debug("shown");
    log_set_rank(0, 1);
    log_set_level(LOG_INFO);
}

static void test_log(void **state)
{
    (void)state;
    char printed[2000];
    int file = mkstemp(log_path);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(log_set_file(log_path), STATUS_OK);
    capture(write_log_lines, printed, sizeof printed);
    assert_string_equal(printed, "loss 2.5\nwarning: slow\nerror: broken\n"
                                 "[3] warning: other rank\n[3] debug: shown\n");
    assert_int_equal(log_set_file(NULL), STATUS_OK);
    capture(write_log_lines, printed, sizeof printed); /* no longer into the file */

    /* The file has every line of every level, with the time and the rank. */
    static const char *const expected[] = {"debug: hidden 1",
                                           "info: loss 2.5",
                                           "warning: slow",
                                           "error: broken",
                                           "[3] info: not on this rank",
                                           "[3] warning: other rank",
                                           "[3] debug: shown"};
    FILE *lines = fopen(log_path, "r");
    assert_non_null(lines);
    char line[200];
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_non_null(fgets(line, sizeof line, lines));
        line[strcspn(line, "\n")] = '\0';
        int year = 0;
        int consumed = 0;
        assert_int_equal(sscanf(line, "%4d-%*2d-%*2dT%*2d:%*2d:%*2dZ %n", &year, &consumed), 1);
        assert_true(year >= 2024 && consumed == 21);
        assert_string_equal(line + consumed, expected[i]);
    }
    assert_null(fgets(line, sizeof line, lines));
    fclose(lines);
    unlink(log_path);
    assert_int_equal(log_set_file("/nonexistent/x.log"), STATUS_IO);
    assert_string_equal(
        status_message(),
        "/nonexistent/x.log: cannot open the log for appending: No such file or directory");
}

/* ---- bf16 ----------------------------------------------------------------------------------- */

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void test_bf16_every_value(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        float wide = bf16_to_f32((bf16)i);
        uint32_t bits;
        memcpy(&bits, &wide, sizeof bits);
        assert_int_equal(bits, i << 16);
        bf16 back = bf16_from_f32(wide);
        if (isnan(wide)) {
            assert_true(isnan(bf16_to_f32(back)));
            assert_int_equal(back & 0x8000u, i & 0x8000u);
        } else {
            assert_int_equal(back, i);
        }
    }
}

/* Between each value and the next: below the middle down, above it up, the middle to even. */
static void test_bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    static const uint32_t lows[] = {0x0000, 0x0001, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
    for (uint32_t sign = 0; sign < 2; sign++) {
        for (uint32_t i = 0; i < 0x7F80; i++) {
            uint32_t high = i | sign << 15;
            for (size_t j = 0; j < sizeof lows / sizeof lows[0]; j++) {
                uint32_t low = lows[j];
                bool up = low > 0x8000 || (low == 0x8000 && (high & 1));
                assert_int_equal(bf16_from_f32(float_of_bits(high << 16 | low)), high + up);
            }
        }
    }
    /* The largest floats round to infinity, as IEEE 754 has it. */
    assert_int_equal(bf16_from_f32(float_of_bits(0x7F7F8000)), 0x7F80);
    assert_int_equal(bf16_from_f32(float_of_bits(0xFF7FFFFF)), 0xFF80);
}

static void test_bf16_keeps_nan(void **state)
{
    (void)state;
    static const uint32_t nans[] = {0x7F800001, 0x7F80FFFF, 0x7FC00000, 0x7FFFFFFF,
                                    0xFF800001, 0xFFC00001, 0xFFFFFFFF, 0x7F808000};
    for (size_t i = 0; i < sizeof nans / sizeof nans[0]; i++) {
        bf16 value = bf16_from_f32(float_of_bits(nans[i]));
        assert_true(isnan(bf16_to_f32(value)));
        assert_int_equal(value >> 15, nans[i] >> 31);
    }
}

/* ---- instruction sets ----------------------------------------------------------------------- */

/* The choice is made once a process, so each setting is tried in a child. */
static int isa_in_child(const char *setting, char *printed, size_t size)
{
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(pipes[1], STDERR_FILENO);
        if (setting) {
            setenv("WEFT_ISA", setting, 1);
        } else {
            unsetenv("WEFT_ISA");
        }
        int first = cpu_isa();
        _exit(first == (int)cpu_isa() ? first : 99);
    }
    close(pipes[1]);
    ssize_t length = read(pipes[0], printed, size - 1);
    printed[length > 0 ? length : 0] = '\0';
    close(pipes[0]);
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    return WEXITSTATUS(result);
}

static void test_isa_override(void **state)
{
    (void)state;
    char printed[400];
    int best = isa_in_child(NULL, printed, sizeof printed);
    assert_in_range(best, CPU_ISA_SCALAR, CPU_ISA_COUNT - 1);
    assert_string_equal(printed, "");
    for (int i = 0; i < CPU_ISA_COUNT; i++) {
        const char *name = cpu_isa_name((enum cpu_isa)i);
        char expected[400] = "";
        int chosen = isa_in_child(name, printed, sizeof printed);
        assert_int_equal(chosen, i < best ? i : best);
        if (i > best) {
            snprintf(expected, sizeof expected,
                     "warning: WEFT_ISA=%s: this machine has only %s; using that\n", name,
                     cpu_isa_name((enum cpu_isa)best));
        }
        assert_string_equal(printed, expected);
    }
    assert_int_equal(isa_in_child("", printed, sizeof printed), best);
    assert_string_equal(printed, "");
    assert_int_equal(isa_in_child("sse9", printed, sizeof printed), best);
    assert_string_equal(printed, "warning: WEFT_ISA=sse9: unknown; use scalar, avx2, avx512, "
                                 "avx512bf16 or amx\n");
    assert_string_equal(cpu_isa_name(CPU_ISA_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_status_names_and_codes),
        cmocka_unit_test(test_status_truncates),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_strbuf),
        cmocka_unit_test(test_string_nearest),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_bf16_every_value),
        cmocka_unit_test(test_bf16_rounds_to_nearest_even),
        cmocka_unit_test(test_bf16_keeps_nan),
        cmocka_unit_test(test_isa_override),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
