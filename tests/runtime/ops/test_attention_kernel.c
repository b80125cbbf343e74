/*
 * The attention kernels at every instruction level of this machine against f64, for all features
 * and their combinations, with sizes that leave remainders. timeout=120
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/runtime/ops/attention_rows.h"

static void check_row(const struct case_row *row, bool is_bf16)
{
    struct attention_case c;
    case_init(&c, case_row_shape(row, is_bf16), row->window > 0, row->masked,
              (uint64_t)(row - case_rows));
    assert_int_equal(attention_shape_check(&c.shape), STATUS_OK);
    naive_run(&c.naive);
    for (enum cpu_isa isa = CPU_ISA_SCALAR; isa <= cpu_isa(); isa++) {
        case_reset(&c);
        attention_run(&c.shape, &c.tensors, CASE_THREADS, isa, false);
        attention_run(&c.shape, &c.tensors, CASE_THREADS, isa, true);
        case_check(&c, row->name, cpu_isa_name(isa));
    }
    case_fini(&c);
}

static void check_all(bool is_bf16)
{
    for (int i = 0; i < CASE_ROWS; i++) {
        check_row(&case_rows[i], is_bf16);
    }
}

static void test_f32(void **state)
{
    (void)state;
    check_all(false);
}

static void test_bf16(void **state)
{
    (void)state;
    check_all(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
