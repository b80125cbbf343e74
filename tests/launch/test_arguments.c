/* Overrides keep their order and survive what they were made from; counts and operands refuse what
 * is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "launch/arguments.h"

static void many_overrides(void **state)
{
    (void)state;
    struct overrides overrides = {0};
    char text[32];
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "train.steps=%d", i);
        overrides_add(&overrides, "%s", text);
    }
    assert_false(overrides.failed);
    assert_int_equal(overrides.count, 100);
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "train.steps=%d", i);
        assert_string_equal(overrides.items[i], text);
    }
    overrides_fini(&overrides);
    assert_int_equal(overrides.count, 0);
}

static void text_is_quoted(void **state)
{
    (void)state;
    struct overrides overrides = {0};
    overrides_add_text(&overrides, "run", "a \"b\": [c]");
    overrides_add(&overrides, "x=%d", 7);
    assert_int_equal(overrides.count, 2);
    assert_string_equal(overrides.items[0], "run=\"a \\\"b\\\": [c]\"");
    assert_string_equal(overrides.items[1], "x=7");
    overrides_fini(&overrides);
}

static void counts(void **state)
{
    (void)state;
    int count = 5;
    assert_true(command_count("plan", "ranks", "12", 12, &count));
    assert_int_equal(count, 12);
    static const char *const bad[] = {"", "0", "-1", "13", "1x", "x", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(command_count("plan", "ranks", bad[i], 12, &count));
    }
    assert_int_equal(count, 12);
}

static void one_operand(void **state)
{
    (void)state;
    struct overrides overrides = {0};
    char *argv[] = {"plan", "a.yaml", "b.yaml", NULL};
    const char *operand = NULL;
    optind = 1;
    assert_int_equal(command_operand(2, argv, "usage\n", &overrides, &operand), COMMAND_GO_ON);
    assert_string_equal(operand, "a.yaml");
    assert_int_equal(command_operand(1, argv, "usage\n", &overrides, &operand), COMMAND_BAD_USAGE);
    assert_int_equal(command_operand(3, argv, "usage\n", &overrides, &operand), COMMAND_BAD_USAGE);
    overrides.failed = true;
    assert_int_equal(command_operand(2, argv, "usage\n", &overrides, &operand), 1);
}

static void codes(void **state)
{
    (void)state;
    assert_int_equal(command_usage("help goes out\n", 'h'), 0);
    assert_int_equal(command_usage("usage\n", '?'), COMMAND_BAD_USAGE);
    assert_int_equal(command_end(STATUS_OK), 0);
    assert_int_equal(command_end(status_fail(STATUS_INVALID, "bad")), 2);
    assert_int_equal(command_end(status_fail(STATUS_IO, "disk")), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_overrides), cmocka_unit_test(text_is_quoted),
        cmocka_unit_test(counts),         cmocka_unit_test(one_operand),
        cmocka_unit_test(codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
