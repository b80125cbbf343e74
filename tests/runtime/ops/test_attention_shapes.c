/* What the attention kernels refuse, with which words; and the sizes they report. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/ops/attention_kernel.h"

static struct attention_shape text_shape(void)
{
    struct attention_stride qkv = {40 * 3 * 128, 3 * 128};
    return (struct attention_shape){.batch = 2,
                                    .query_len = 40,
                                    .key_len = 40,
                                    .heads = 2,
                                    .head_dim = 64,
                                    .scale = 0.125f,
                                    .mask_value = -10000,
                                    .q = qkv,
                                    .k = qkv,
                                    .v = qkv,
                                    .o = {40 * 128, 128},
                                    .dq = qkv,
                                    .dk = qkv,
                                    .dv = qkv,
                                    .dout = {40 * 128, 128}};
}

static struct attention_shape window_shape(void)
{
    struct attention_shape s = text_shape();
    s.query_len = s.key_len = 24 * 36;
    s.window = 12;
    s.shift = 6;
    s.grid_h = 24;
    s.grid_w = 36;
    struct attention_stride rows = {24 * 36 * 3 * 128, 3 * 128};
    s.q = s.k = s.v = s.o = rows;
    return s;
}

static void refused(struct attention_shape s, const char *words)
{
    assert_int_equal(attention_shape_check(&s), STATUS_INVALID);
    if (!strstr(status_message(), words)) {
        fail_msg("\"%s\" does not say \"%s\"", status_message(), words);
    }
}

#define REFUSED(base, field, value, words)                                                         \
    do {                                                                                           \
        struct attention_shape shape = base();                                                     \
        shape.field = value;                                                                       \
        refused(shape, words);                                                                     \
    } while (0)

static void test_accepted(void **state)
{
    (void)state;
    struct attention_shape text = text_shape();
    struct attention_shape window = window_shape();
    assert_int_equal(attention_shape_check(&text), STATUS_OK);
    assert_int_equal(attention_shape_check(&window), STATUS_OK);
}

static void test_refused_sizes(void **state)
{
    (void)state;
    REFUSED(text_shape, batch, 0, "batch 0");
    REFUSED(text_shape, query_len, -1, "query_len -1");
    REFUSED(text_shape, key_len, 0, "key_len 0");
    REFUSED(text_shape, heads, 0, "heads 0");
    REFUSED(text_shape, head_dim, 0, "head_dim 0 is outside 1..256");
    REFUSED(text_shape, head_dim, 257, "head_dim 257 is outside 1..256");
    REFUSED(text_shape, query_len, INT64_C(1) << 32, "at most 2^31 - 1 tokens");
    REFUSED(text_shape, q.token, 127, "q has 127 elements between tokens");
    REFUSED(text_shape, k.batch, 40 * 3 * 128 - 300, "k has 15060 elements between batch rows");
    REFUSED(text_shape, v.token, 0, "v has 0 elements");
    REFUSED(text_shape, o.batch, 128, "o has 128 elements between batch rows");
}

static void test_refused_numbers(void **state)
{
    (void)state;
    REFUSED(text_shape, scale, INFINITY, "scale inf");
    REFUSED(text_shape, scale, NAN, "nan is not finite");
    REFUSED(text_shape, mask_value, 1, "mask_value 1");
    REFUSED(text_shape, mask_value, NAN, "mask_value");
    REFUSED(text_shape, dropout, 1, "dropout 1 is outside [0, 1)");
    REFUSED(text_shape, dropout, -0.1f, "dropout -0.1");
    REFUSED(text_shape, dropout, NAN, "is outside [0, 1)");
    struct attention_shape many = text_shape();
    many.dropout = 0.1f;
    many.batch = INT64_C(1) << 23;
    refused(many, "exceeds the generator's 2^34");
    struct attention_shape cross = text_shape();
    cross.causal = true;
    cross.key_len = 39;
    refused(cross, "causal with 40 queries and 39 keys");
}

static void test_refused_windows(void **state)
{
    (void)state;
    REFUSED(window_shape, window, -1, "window -1 is negative");
    REFUSED(window_shape, window, 65, "window 65 is above 64");
    REFUSED(window_shape, window, 7, "24 x 36 is not a multiple of window 7; pad the grid first");
    REFUSED(window_shape, grid_h, 0, "0 x 36 is not a multiple");
    REFUSED(window_shape, grid_h, 12, "864 query and 864 key tokens are not the 12 x 36 grid");
    REFUSED(window_shape, key_len, 863, "863 key tokens are not the 24 x 36 grid");
    REFUSED(window_shape, shift, 12, "shift 12 is outside 0..11");
    REFUSED(window_shape, shift, -1, "shift -1 is outside 0..11");
    REFUSED(window_shape, causal, true, "windows cannot be causal");
}

static void test_sizes(void **state)
{
    (void)state;
    struct attention_shape text = text_shape();
    struct attention_shape window = window_shape();
    assert_true(attention_flops(&text) == 4.0 * 2 * 2 * 40 * 40 * 64);
    assert_true(attention_flops(&window) == 4.0 * 2 * 2 * 6 * 144 * 144 * 64);
    size_t one = attention_scratch_size(&text, 1);
    size_t two = attention_scratch_size(&text, 2);
    assert_true(one > 0 && two > one && two < 2 * one + 1);
    assert_int_equal(one % 64, 0);
    /* Without a stored score matrix scratch does not grow with the batch. */
    text.batch = 200;
    assert_int_equal(attention_scratch_size(&text, 2), two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),        cmocka_unit_test(test_refused_sizes),
        cmocka_unit_test(test_refused_numbers), cmocka_unit_test(test_refused_windows),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
