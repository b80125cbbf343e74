/* Linear layers and batched products on a GPU; linear.c and matmul.c say what they are. */
#include "runtime/backend/cuda/matmul.h"
#include "runtime/ops/elementwise.cuh"
#include "runtime/ops/gelu.cuh"

static enum status create(struct kernel *kernel, const struct cuda_matmul_spec *spec)
{
    return cuda_matmul_create((struct cuda_matmul **)&kernel->state, spec, &kernel->scratch_size);
}

static void release(struct kernel *kernel)
{
    cuda_matmul_destroy((struct cuda_matmul **)&kernel->state);
}

static enum status multiply(const struct kernel *kernel, const struct cuda_run *run, const void *a,
                            const void *b, const void *bias)
{
    struct cuda_matmul_run product = {};
    product.a = a;
    product.b = b;
    product.bias = (const float *)bias;
    product.c = kernel->out[0];
    product.scratch = kernel->scratch;
    product.add = kernel->adds || (kernel->accumulates && run->accumulate);
    product.tf32 = run->tf32;
    product.stream = run->stream;
    struct cuda_matmul *matmul = (struct cuda_matmul *)kernel->state;
    return run->tunes ? cuda_matmul_tune(matmul, &product) : cuda_matmul_run(matmul, &product);
}

/* ---- linear ---- */

static enum status linear_prepare(struct kernel *kernel)
{
    const struct node *node = kernel->node;
    const struct linear_attrs *attrs = NODE_ATTRS(node, struct linear_attrs);
    const struct shape *x = &node->inputs[0]->shape;
    struct cuda_matmul_spec spec = {};
    spec.batch = 1;
    spec.m = rows_of(x);
    spec.k = columns_of(x);
    spec.n = columns_of(&node->outputs[0].shape);
    spec.transpose_b = !attrs->transposed;
    spec.dtype_ab = node->inputs[0]->dtype;
    spec.dtype_c = node->outputs[0].dtype;
    spec.bias = attrs->has_bias;
    return create(kernel, &spec);
}

static enum status linear_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    TRY(multiply(kernel, run, kernel->in[0], kernel->in[1], kernel->in[2]));
    if (!kernel->epilogue || kernel->adds || run->tunes) return STATUS_OK;
    struct map_pointers<1, 1> p = {
        {kernel->out[0]},
        {
            kernel->out[0]
        }
    };
    const struct tensor *y = &kernel->node->outputs[0];
    int64_t count = shape_count(&y->shape);
    FOR_FLOAT_TYPE(y->dtype, return (map_typed<T, 1, 1>(p, count, gelu_function(), run->stream)));
}

const struct cuda_op cuda_op_linear = {&op_row_linear, linear_prepare, linear_cuda, release,
                                       NULL,           false,          true};

/* dy [...,N], x [...,K] -> dy^T x [N,K], or x^T dy [K,N] when transposed. */
static enum status weight_grad_prepare(struct kernel *kernel)
{
    const struct node *node = kernel->node;
    const struct shape *dw = &node->outputs[0].shape;
    struct cuda_matmul_spec spec = {};
    spec.batch = 1;
    spec.m = dw->dim[0];
    spec.n = dw->dim[1];
    spec.k = rows_of(&node->inputs[0]->shape);
    spec.transpose_a = true;
    spec.dtype_ab = node->inputs[0]->dtype;
    spec.dtype_c = DTYPE_F32;
    return create(kernel, &spec);
}

static enum status weight_grad_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    bool transposed = NODE_ATTRS(kernel->node, struct linear_attrs)->transposed;
    return multiply(kernel, run, kernel->in[transposed ? 1 : 0], kernel->in[transposed ? 0 : 1],
                    NULL);
}

const struct cuda_op cuda_op_linear_weight_grad = {
    &op_row_linear_weight_grad, weight_grad_prepare, weight_grad_cuda, release, NULL, false, true};

/* ---- batched ---- */

static enum status matmul_prepare(struct kernel *kernel)
{
    const struct node *node = kernel->node;
    const struct matmul_attrs *attrs = NODE_ATTRS(node, struct matmul_attrs);
    const struct shape *a = &node->inputs[0]->shape;
    const struct shape *c = &node->outputs[0].shape;
    struct cuda_matmul_spec spec = {};
    spec.batch = shape_span(a, 0, a->rank - 2);
    spec.m = c->dim[c->rank - 2];
    spec.n = c->dim[c->rank - 1];
    spec.k = a->dim[a->rank - (attrs->transpose_a ? 2 : 1)];
    spec.transpose_a = attrs->transpose_a;
    spec.transpose_b = attrs->transpose_b;
    spec.dtype_ab = node->inputs[0]->dtype;
    spec.dtype_c = node->outputs[0].dtype;
    return create(kernel, &spec);
}

static enum status matmul_cuda(struct kernel *kernel, const struct cuda_run *run)
{
    return multiply(kernel, run, kernel->in[0], kernel->in[1], NULL);
}

const struct cuda_op cuda_op_matmul = {&op_row_matmul, matmul_prepare, matmul_cuda, release,
                                       NULL,           false,          true};
