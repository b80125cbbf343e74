/* Every op that runs has a CUDA kernel; what has none is refused by name when it is planned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/backend/cuda/cuda_op.h"
#include "runtime/backend/executor.h"
#include "runtime/ops/ops.h"

static void test_every_op(void **state)
{
    (void)state;
    for (int i = 0; i < op_count(); i++) {
        const struct op *op = op_at(i);
        const struct cuda_op *cuda = cuda_op_find(op);
        if (op->flags & (OP_VIEW | OP_SOURCE)) {
            assert_null(cuda);
            continue;
        }
        if (!cuda) fail_msg("op '%s' has no CUDA kernel", op->name);
        assert_ptr_equal(cuda->op, op);
        assert_non_null(cuda->run);
    }
}

static bool lonely_infer(struct graph *graph, struct node *node)
{
    return node_set_output(graph, node, 0, node->inputs[0]->dtype, node->inputs[0]->shape);
}

static void test_missing_kernel(void **state)
{
    (void)state;
    static const struct op lonely = {.name = "lonely",
                                     .min_inputs = 1,
                                     .max_inputs = 1,
                                     .flags = OP_CONSTANT,
                                     .infer = lonely_infer};
    struct graph *g = NULL;
    struct executor *e = NULL;
    assert_int_equal(graph_create(&g, NULL), STATUS_OK);
    struct tensor *x = graph_input(g, "x", DTYPE_F32, SHAPE(4));
    graph_push(g, "tower");
    graph_output(g, "y", graph_node_add(g, &lonely, &x, 1, NULL, 0));
    graph_pop(g);
    assert_int_equal(executor_create(&e, g, &(struct executor_options){.device = DEVICE_CUDA}),
                     STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_message(), "tower: op 'lonely' has no CUDA kernel"));
    graph_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_op),
        cmocka_unit_test(test_missing_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
