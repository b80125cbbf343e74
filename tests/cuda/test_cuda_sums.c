/*
 * Gradients of biases before a GELU or drop-path: added up by the kernel that makes what they are
 * the sums of, with the same bits as in a pass of their own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/backend/executor.h"
#include "runtime/base/rng.h"
#include "runtime/ops/ops.h"

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if ((expression) != STATUS_OK) fail_msg("%s", status_message());                           \
    } while (0)

struct sizes {
    int64_t rows, in, hidden;
    bool accumulate;
};

static int count_merged(const struct plan *plan)
{
    int count = 0;
    for (int i = 0; i < plan->num_steps; i++) {
        count += plan->steps[i].kernel.sums;
    }
    return count;
}

static struct tensor *linear(struct graph *g, const char *name, struct tensor *x, int64_t n,
                             bool gelu)
{
    graph_push(g, "%s", name);
    int64_t k = x->shape.dim[x->shape.rank - 1];
    struct tensor *w = graph_parameter(g, "weight", SHAPE(n, k), INIT(INIT_NORMAL, 0.2f));
    struct tensor *b = graph_parameter(g, "bias", SHAPE(n), INIT(INIT_NORMAL, 0.1f));
    struct tensor *y = gelu ? op_linear_gelu(g, x, w, b) : op_linear(g, x, w, b);
    graph_pop(g);
    return y;
}

/* Gradients of two layers with a GELU between and drop-path behind, after two runs; *merged
 * receives how many sums other kernels computed. */
static float *gradients_of(struct sizes s, enum dtype dtype, enum device_kind device, bool fused,
                           int64_t *count, int *merged)
{
    struct graph *g = NULL;
    struct executor *e = NULL;
    MUST(graph_create(&g, &(struct graph_options){.world_size = 1}));
    struct tensor *x = graph_input(g, "x", DTYPE_F32, SHAPE(s.rows, s.in));
    struct tensor *h = linear(g, "fc1", op_cast(g, x, dtype), s.hidden, true);
    struct tensor *branch = linear(g, "fc2", h, s.in, false);
    struct tensor *y = op_add_drop_path(g, op_cast(g, x, dtype), branch, 0.3f, s.rows, "path");
    y = op_cast(g, y, DTYPE_F32);
    MUST(graph_differentiate(g, op_mse(g, y, x)));
    struct executor_options options = {.seed = 5, .device = device, .poison = true};
    options.plan.no_fusion = !fused;
    options.plan.accumulate = s.accumulate;
    MUST(executor_create(&e, g, &options));
    MUST(plan_verify(executor_plan(e)));
    *merged = count_merged(executor_plan(e));
    MUST(executor_init_parameters(e));
    for (int run = 0; run < 2; run++) {
        rng_fill_normal(rng_key(7, RNG_TEST, 0), (uint64_t)run, 0, executor_data(e, x),
                        s.rows * s.in);
        MUST(executor_run(e, &(struct executor_run){.accumulate = s.accumulate && run > 0}));
        MUST(executor_wait(e));
    }
    MUST(executor_gradients_fetch(e));
    *count = graph_flat_elements(g);
    float *kept = malloc((size_t)*count * sizeof *kept);
    assert_non_null(kept);
    memcpy(kept, executor_gradients(e), (size_t)*count * sizeof *kept);
    executor_destroy(&e);
    graph_destroy(&g);
    return kept;
}

static void test_same_bits(void **state)
{
    (void)state;
    /* Whole 16 bytes and not, one part of the rows and several. */
    static const struct sizes all[] = {
        {300, 24, 72, false}, {300, 24, 72, true}, {37, 5, 7, false}, {130, 16, 513, false}};
    for (size_t i = 0; i < 2 * sizeof all / sizeof all[0]; i++) {
        enum dtype dtype = i % 2 ? DTYPE_BF16 : DTYPE_F32;
        int64_t count = 0;
        int merged = 0;
        float *apart = gradients_of(all[i / 2], dtype, DEVICE_CUDA, false, &count, &merged);
        assert_int_equal(merged, 0);
        float *along = gradients_of(all[i / 2], dtype, DEVICE_CUDA, true, &count, &merged);
        assert_int_equal(merged, 2);
        assert_memory_equal(apart, along, (size_t)count * sizeof *apart);
        free(apart);
        free(along);
    }
}

/* The CPU's kernels do no such thing. */
static void test_not_on_the_cpu(void **state)
{
    (void)state;
    int64_t count = 0;
    int merged = 0;
    free(gradients_of((struct sizes){30, 4, 6, false}, DTYPE_F32, DEVICE_CPU, true, &count,
                      &merged));
    assert_int_equal(merged, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_not_on_the_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
