/*
 * The f64 definition that the kernels are tested against: its gradients against central
 * differences, and one hand-worked softmax.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/runtime/ops/attention_naive.h"

static const double step = 1e-5;
static const double allowed = 1e-8; /* step^2 times third derivatives, and 1e-16 / step */

static double *random_f64(int64_t count, uint64_t seed)
{
    float *narrow = malloc((size_t)count * sizeof *narrow);
    double *wide = naive_zeros(count);
    assert_non_null(narrow);
    rng_fill_normal(rng_key(seed, RNG_TEST, 0), 0, 0, narrow, count);
    for (int64_t i = 0; i < count; i++) {
        wide[i] = narrow[i];
    }
    free(narrow);
    return wide;
}

/* sum of dout * o, of which dq .. dbias are the gradients. */
static double loss(struct naive *n, int64_t count)
{
    double *keep[] = {n->dq, n->dk, n->dv, n->dbias};
    double *dout = n->dout;
    n->dout = n->dq = n->dk = n->dv = n->dbias = NULL;
    memset(n->o, 0, (size_t)count * sizeof *n->o);
    naive_run(n);
    n->dq = keep[0];
    n->dk = keep[1];
    n->dv = keep[2];
    n->dbias = keep[3];
    n->dout = dout;
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += n->o[i] * dout[i];
    }
    return sum;
}

static void check_gradient(struct naive *n, int64_t outputs, double *at, const double *gradient,
                           int64_t count, const char *what)
{
    for (int64_t i = 0; i < count; i++) {
        double value = at[i];
        at[i] = value + step;
        double up = loss(n, outputs);
        at[i] = value - step;
        double down = loss(n, outputs);
        at[i] = value;
        double difference = (up - down) / (2 * step) - gradient[i];
        if (!(fabs(difference) <= allowed)) {
            fail_msg("%s[%d]: %g by definition, off by %g", what, (int)i, gradient[i], difference);
        }
    }
}

static void check_shape(struct attention_shape shape, const int32_t *mask, uint64_t seed)
{
    int64_t C = shape.heads * shape.head_dim;
    int64_t num_q = shape.batch * shape.query_len * C;
    int64_t num_k = shape.batch * shape.key_len * C;
    int64_t side = 2 * shape.window - 1;
    int64_t table = shape.window ? side * side * shape.heads : 0;
    struct naive n = {.shape = shape,
                      .q = random_f64(num_q, seed),
                      .k = random_f64(num_k, seed + 1),
                      .v = random_f64(num_k, seed + 2),
                      .dout = random_f64(num_q, seed + 3),
                      .o = naive_zeros(num_q),
                      .dq = naive_zeros(num_q),
                      .dk = naive_zeros(num_k),
                      .dv = naive_zeros(num_k),
                      .lse = naive_zeros(shape.batch * shape.heads * shape.query_len),
                      .bias = table ? random_f64(table, seed + 4) : NULL,
                      .dbias = table ? naive_zeros(table) : NULL,
                      .mask = mask,
                      .random = {rng_key(seed, RNG_DROPOUT, 1), 2, 3, shape.batch}};
    naive_run(&n);
    check_gradient(&n, num_q, n.q, n.dq, num_q, "dq");
    check_gradient(&n, num_q, n.k, n.dk, num_k, "dk");
    check_gradient(&n, num_q, n.v, n.dv, num_k, "dv");
    if (table) check_gradient(&n, num_q, n.bias, n.dbias, table, "dbias");
    double *all[] = {n.q, n.k, n.v, n.dout, n.o, n.dq, n.dk, n.dv, n.lse, n.bias, n.dbias};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        free(all[i]);
    }
}

static void test_cross(void **state)
{
    (void)state;
    static const int32_t mask[] = {1, 0, 1, 1, 0, 0, 0, 0};
    check_shape((struct attention_shape){.batch = 2,
                                         .query_len = 3,
                                         .key_len = 4,
                                         .heads = 2,
                                         .head_dim = 3,
                                         .scale = 0.6f,
                                         .mask_value = -2,
                                         .dropout = 0.3f},
                mask, 10);
}

static void test_causal(void **state)
{
    (void)state;
    static const int32_t mask[] = {0, 1, 1, 0, 1};
    check_shape((struct attention_shape){.batch = 1,
                                         .query_len = 5,
                                         .key_len = 5,
                                         .heads = 2,
                                         .head_dim = 2,
                                         .scale = 0.7f,
                                         .causal = true,
                                         .mask_value = -10000},
                mask, 20);
}

static void test_windows(void **state)
{
    (void)state;
    check_shape((struct attention_shape){.batch = 1,
                                         .query_len = 24,
                                         .key_len = 24,
                                         .heads = 2,
                                         .head_dim = 2,
                                         .scale = 0.7f,
                                         .window = 2,
                                         .shift = 1,
                                         .grid_h = 4,
                                         .grid_w = 6,
                                         .dropout = 0.2f},
                NULL, 30);
}

/* Scores 0 and ln 3: probabilities 1/4 and 3/4, log-sum-exp ln 4. */
static void test_by_hand(void **state)
{
    (void)state;
    double q = 1, k[2] = {0, log(3)}, v[2] = {8, 4}, o = 0, lse = 0;
    struct naive n = {
        .shape = {.batch = 1, .query_len = 1, .key_len = 2, .heads = 1, .head_dim = 1, .scale = 1},
        .q = &q,
        .k = k,
        .v = v,
        .o = &o,
        .lse = &lse};
    naive_run(&n);
    assert_true(fabs(o - 5) < 1e-14 && fabs(lse - log(4)) < 1e-14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_cross),
        cmocka_unit_test(test_causal),
        cmocka_unit_test(test_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
