/* Numbers of configs: exact integers, doubles that survive the round trip, intervals. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/config_impl.h"
#include "runtime/base/rng.h"

static const char not_a_number[] = "not a number";
static const char not_whole[] = "not a whole number";
static const char not_finite[] = "not finite";
static const char too_large[] = "too large for a 64-bit integer";
static const char leading_zero[] = "a number with a leading zero is ambiguous";

static void test_integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } rows[] = {
        {"0", 0},
        {"-0", 0},
        {"+7", 7},
        {"1_000_000", 1000000},
        {"1e6", 1000000},
        {"1E+6", 1000000},
        {"1.5e3", 1500},
        {"2.50e1", 25},
        {"1200e-2", 12},
        {"3.0", 3},
        {"3.", 3},
        {"0e99999999999", 0},
        {"0.0", 0},
        {".5e1", 5},
        {"9007199254740993", 9007199254740993},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
        {"922337203685477580.7e1", INT64_MAX},
        {"1e18", 1000000000000000000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t value = -1;
        const char *problem = config_scan_int(rows[i].text, &value);
        if (problem) fail_msg("%s: %s", rows[i].text, problem);
        assert_true(value == rows[i].value);
    }
}

static void test_refused_integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *problem;
    } rows[] = {
        {"", not_a_number},
        {"-", not_a_number},
        {".", not_a_number},
        {"e5", not_a_number},
        {"1e", not_a_number},
        {"1e+", not_a_number},
        {"1e5x", not_a_number},
        {"1 000", not_a_number},
        {"_1", not_a_number},
        {"1_", not_a_number},
        {"1__0", not_a_number},
        {"1_.5", not_a_number},
        {"1._5", not_a_number},
        {"1_e5", not_a_number},
        {"0x10", not_a_number},
        {"--1", not_a_number},
        {"12k", not_a_number},
        {"1,5", not_a_number},
        {"1:30", not_a_number},
        {"\xD9\xA1", not_a_number},
        {"007", leading_zero},
        {"-01.5", leading_zero},
        {"1.5", not_whole},
        {"1e-1", not_whole},
        {"1e-99999999999", not_whole},
        {".inf", not_finite},
        {"-.INF", not_finite},
        {"nan", not_finite},
        {"Infinity", not_finite},
        {"9223372036854775808", too_large},
        {"-9223372036854775809", too_large},
        {"1e19", too_large},
        {"1e99999999999", too_large},
        {"99999999999999999999999999", too_large},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t value = 0;
        const char *problem = config_scan_int(rows[i].text, &value);
        if (!problem) fail_msg("'%s' was accepted", rows[i].text);
        assert_string_equal(problem, rows[i].problem);
    }
}

static void test_doubles(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } rows[] = {
        {"0", 0},
        {"1e-4", 1e-4},
        {"-2.5", -2.5},
        {"1_000.000_1", 1000.0001},
        {".5", 0.5},
        {"5.", 5},
        {"1.7976931348623157e308", DBL_MAX},
        {"4.9406564584124654e-324", 0x1p-1074},
        {"0e-999999", 0},
        {"9007199254740993", 9007199254740992.0},
        {"0.1000000000000000055511151231257827021181583404541015625", 0.1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double value = NAN;
        const char *problem = config_scan_double(rows[i].text, &value);
        if (problem) fail_msg("%s: %s", rows[i].text, problem);
        assert_true(value == rows[i].value);
    }
    double value = 0;
    assert_string_equal(config_scan_double("1e309", &value), "too large for a double");
    assert_string_equal(config_scan_double("-1e99999999", &value), "too large for a double");
    assert_string_equal(config_scan_double("1e-324", &value), "too small for a double");
    assert_string_equal(config_scan_double("0x1p3", &value), not_a_number);
    assert_string_equal(config_scan_double("-.nan", &value), not_finite);
    assert_string_equal(config_scan_double("00.5", &value), leading_zero);
    assert_null(config_scan_double("-0", &value));
    assert_true(signbit(value) != 0);
    char digits[500];
    memset(digits, '1', sizeof digits);
    digits[sizeof digits - 1] = '\0';
    assert_string_equal(config_scan_double(digits, &value), not_a_number);
}

static void test_double_round_trip(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0.1, "0.1"},       {0.1 + 0.2, "0.30000000000000004"}, {1e22, "1e+22"},
        {123456, "123456"}, {1.0 / 3, "0.3333333333333333"},    {-0.0, "-0"},
    };
    char text[32];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        config_format_double(rows[i].value, text);
        assert_string_equal(text, rows[i].text);
    }
    struct rng_key key = rng_key(1, RNG_TEST, 0);
    for (uint32_t i = 0; i < 20000; i++) {
        struct rng_block block = rng_at(key, 0, 0, i);
        double value;
        double again = 0;
        memcpy(&value, block.word, sizeof value);
        if (!isfinite(value)) continue;
        config_format_double(value, text);
        assert_null(config_scan_double(text, &again));
        assert_memory_equal(&again, &value, sizeof value);
    }
}

static void test_intervals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double inside;
        double outside;
    } rows[] = {
        {"[0, 1]", 0, -0x1p-1074},   {"(0, 1]", 0x1p-1074, 0},      {"[0, 1)", 1 - 0x1p-53, 1},
        {"(-inf,5]", -DBL_MAX, 5.5}, {"[ 1e3, inf)", DBL_MAX, 999}, {"[2, 2]", 2, 3},
    };
    struct config_range range;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_true(config_range_parse(rows[i].text, &range));
        assert_true(config_range_holds(&range, rows[i].inside));
        assert_false(config_range_holds(&range, rows[i].outside));
    }
    static const char *const malformed[] = {"",      "0, 1", "[0 1]",    "[0, 1", "[0, 1]x",
                                            "[, 1]", "[0,]", "[nan, 1]", "[2, 1]"};
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        assert_false(config_range_parse(malformed[i], &range));
    }
    assert_true(config_range_parse("[-9223372036854775808, 9223372036854775806]", &range));
    assert_true(config_range_holds(&range, (long double)INT64_MIN));
    assert_false(config_range_holds(&range, (long double)INT64_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),  cmocka_unit_test(test_refused_integers),
        cmocka_unit_test(test_doubles),   cmocka_unit_test(test_double_round_trip),
        cmocka_unit_test(test_intervals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
