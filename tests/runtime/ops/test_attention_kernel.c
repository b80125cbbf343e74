/*
 * The attention kernels at every instruction level of this machine against f64, for all features
 * and their combinations, with sizes that leave remainders. timeout=120
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/runtime/ops/attention_case.h"

/*
 * Largest error allowed relative to the largest magnitude of the result. f32: sums of up to 600
 * products and the exponential, a few units of 2^-24 times the square root of that. bf16: results
 * are rounded (2^-9), and so are the softmax and the score gradients as operands.
 */
static const double tolerance[2][CASE_RESULTS] = {
    /*          o     lse   dq    dk    dv    dbias */
    [false] = {4e-6, 2e-6, 8e-6, 8e-6, 8e-6, 8e-6},
    [true] = {8e-3, 2e-6, 1.5e-2, 1.5e-2, 1e-2, 1.5e-2},
};

struct row {
    const char *name;
    int64_t batch, query_len, key_len, heads, head_dim;
    int64_t window, shift, grid_h, grid_w;
    bool causal, masked;
    float dropout;
};

static const struct row rows[] = {
    {"one token", 1, 1, 1, 1, 1, 0, 0, 0, 0, false, false, 0},
    {"one key", 2, 5, 1, 2, 16, 0, 0, 0, 0, false, false, 0},
    {"one query", 2, 1, 7, 2, 32, 0, 0, 0, 0, false, true, 0},
    {"text", 2, 40, 40, 3, 64, 0, 0, 0, 0, false, true, 0.1f},
    {"text, causal", 2, 40, 40, 2, 64, 0, 0, 0, 0, true, false, 0},
    {"causal, masked, dropout", 3, 37, 37, 2, 32, 0, 0, 0, 0, true, true, 0.25f},
    {"image to text", 2, 100, 40, 2, 32, 0, 0, 0, 0, false, true, 0},
    {"text to image", 2, 19, 131, 2, 64, 0, 0, 0, 0, false, false, 0.1f},
    {"long", 1, 65, 577, 1, 64, 0, 0, 0, 0, false, false, 0},
    {"odd head", 2, 13, 21, 3, 7, 0, 0, 0, 0, false, true, 0.5f},
    {"head 24", 1, 33, 17, 1, 24, 0, 0, 0, 0, false, false, 0},
    {"head 80", 1, 17, 35, 2, 80, 0, 0, 0, 0, false, true, 0},
    {"head 256", 1, 9, 18, 1, 256, 0, 0, 0, 0, false, false, 0},
    {"window 12", 1, 576, 576, 2, 32, 12, 0, 24, 24, false, false, 0},
    {"window 12 shifted", 2, 576, 576, 2, 32, 12, 6, 24, 24, false, false, 0},
    {"window 12, one window", 3, 144, 144, 2, 32, 12, 0, 12, 12, false, false, 0},
    {"window 7, oblong", 2, 294, 294, 2, 16, 7, 3, 14, 21, false, false, 0},
    {"window 2", 2, 24, 24, 3, 32, 2, 1, 4, 6, false, false, 0},
    {"window 1", 2, 6, 6, 2, 32, 1, 0, 2, 3, false, false, 0},
    {"window 5, all", 3, 150, 150, 2, 24, 5, 2, 10, 15, false, true, 0.2f},
    {"window 18", 1, 324, 324, 1, 32, 18, 0, 18, 18, false, false, 0},
    {"window 24", 1, 576, 576, 1, 32, 24, 0, 24, 24, false, false, 0},
};

static void check_results(const struct attention_case *c, const char *name, enum cpu_isa isa)
{
    static const char *const names[CASE_RESULTS] = {"o", "lse", "dq", "dk", "dv", "dbias"};
    bool is_bf16 = c->shape.bf16;
    double error[CASE_RESULTS];
    case_errors(c, error);
    for (int i = 0; i < CASE_RESULTS; i++) {
        if (error[i] <= tolerance[is_bf16][i]) continue;
        fail_msg("%s, %s, %s: %s is off by %.3g, allowed %.3g", name, cpu_isa_name(isa),
                 is_bf16 ? "bf16" : "f32", names[i], error[i], tolerance[is_bf16][i]);
    }
    assert_true(packed_gaps_intact(&c->out) && packed_gaps_intact(&c->din));
    assert_true(packed_gaps_intact(&c->dkv));
}

static void check_row(const struct row *row, bool is_bf16)
{
    struct attention_shape shape = {.batch = row->batch,
                                    .query_len = row->query_len,
                                    .key_len = row->key_len,
                                    .heads = row->heads,
                                    .head_dim = row->head_dim,
                                    .bf16 = is_bf16,
                                    .scale = 1 / sqrtf((float)row->head_dim),
                                    .causal = row->causal,
                                    .mask_value = -10000,
                                    .window = row->window,
                                    .shift = row->shift,
                                    .grid_h = row->grid_h,
                                    .grid_w = row->grid_w,
                                    .dropout = row->dropout};
    struct attention_case c;
    case_init(&c, shape, row->window > 0, row->masked, (uint64_t)(row - rows));
    assert_int_equal(attention_shape_check(&c.shape), STATUS_OK);
    naive_run(&c.naive);
    for (enum cpu_isa isa = CPU_ISA_SCALAR; isa <= cpu_isa(); isa++) {
        case_reset(&c);
        attention_run(&c.shape, &c.tensors, CASE_THREADS, isa, false);
        attention_run(&c.shape, &c.tensors, CASE_THREADS, isa, true);
        check_results(&c, row->name, isa);
    }
    case_fini(&c);
}

static void check_all(bool is_bf16)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_row(&rows[i], is_bf16);
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
