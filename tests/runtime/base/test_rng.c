/* Philox4x32-10 against the known-answer vectors published with Random123 (kat_vectors). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/rng.h"

static void test_known_answers(void **state)
{
    (void)state;
    static const struct {
        struct rng_block counter;
        struct rng_key key;
        struct rng_block expected;
    } rows[] = {
        {{{0, 0, 0, 0}}, {{0, 0}}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
        {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
         {{0xffffffff, 0xffffffff}},
         {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
         {{0xa4093822, 0x299f31d0}},
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rng_block block = rng_philox(rows[i].counter, rows[i].key);
        assert_memory_equal(&block, &rows[i].expected, sizeof block);
    }
}

static void test_streams_are_functions(void **state)
{
    (void)state;
    struct rng_key a = rng_key(7, RNG_DROPOUT, rng_site("layer.0"));
    struct rng_key b = rng_key(7, RNG_DROPOUT, rng_site("layer.1"));
    struct rng_key c = rng_key(7, RNG_INIT, rng_site("layer.0"));
    assert_memory_not_equal(&a, &b, sizeof a);
    assert_memory_not_equal(&a, &c, sizeof a);
    float whole[37];
    float part[8];
    rng_fill_uniform(a, 3, 5, whole, 37);
    rng_fill_uniform(a, 3, 5, part, 8);
    assert_memory_equal(whole, part, sizeof part);
}

static void test_normal_moments(void **state)
{
    (void)state;
    enum { COUNT = 100003 };
    static float value[COUNT];
    rng_fill_normal(rng_key(1, RNG_TEST, 0), 0, 0, value, COUNT);
    double sum = 0;
    double square = 0;
    double fourth = 0;
    for (int i = 0; i < COUNT; i++) {
        double v = value[i];
        sum += v;
        square += v * v;
        fourth += v * v * v * v;
    }
    assert_true(fabs(sum / COUNT) < 0.02);
    assert_true(fabs(square / COUNT - 1) < 0.02);
    assert_true(fabs(fourth / COUNT - 3) < 0.15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_streams_are_functions),
        cmocka_unit_test(test_normal_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
