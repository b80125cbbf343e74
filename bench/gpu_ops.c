/*
 * Every op that runs on a GPU: those of FIBER-Base's step in bf16 and f32 (gpu_walk.cu), then those
 * that other models and objectives use, on activations of one stage. Names what is left over.
 */
#include <stdio.h>

#include "bench/gpu_bench.h"
#include "bench/step.h"
#include "runtime/backend/cuda/cuda_op.h"
#include "runtime/ops/ops.h"

enum { SHOWN = 60 };

static enum status walk_whole_step(struct gpu_bench *bench, const char *precision, int batch)
{
    const struct bench_step_options options = {.micro = batch,
                                               .device = DEVICE_CUDA,
                                               .precision = precision,
                                               .recompute = "none",
                                               .tiny = bench->quick};
    struct bench_step step;
    char label[96];
    snprintf(label, sizeof label, "FIBER-Base step %s, micro-batch %d", precision, batch);
    enum status status = bench_step_init(&step, &options);
    if (status == STATUS_OK) status = gpu_walk(bench, step.executor, label, SHOWN);
    bench_step_fini(&step);
    return status;
}

/* ---- ops that FIBER-Base does without ---- */

struct other {
    struct graph *g;
    struct tensor *x;    /* float [N,C] */
    struct tensor *loss; /* f32 scalar */
};

/* Adds the sum of y to the loss, by way of a product so that its gradient is not constant. */
static void use(struct other *o, struct tensor *y)
{
    y = op_cast(o->g, y, DTYPE_F32);
    struct tensor *sum = op_sum(o->g, op_mul(o->g, y, y), 0, y ? y->shape.rank : 0);
    o->loss = o->loss ? op_add(o->g, o->loss, sum) : sum;
}

static void record_functions(struct other *o)
{
    struct graph *g = o->g;
    struct tensor *x = o->x;
    struct tensor *positive = op_exp(g, op_clamp(g, x, -2, 2));
    use(o, positive);
    use(o, op_log(g, positive));
    use(o, op_reciprocal(g, positive));
    use(o, op_gelu(g, x));
    use(o, op_quick_gelu(g, x));
    use(o, op_tanh(g, x));
    use(o, op_relu(g, x));
    use(o, op_sigmoid(g, x));
    use(o, op_dropout(g, x, 0.1f, x->shape.dim[0], "dropout"));
    use(o, op_add_drop_path(g, x, op_scale(g, x, 0.5f), 0.1f, x->shape.dim[0], "path"));
    use(o, op_softmax(g, x));
    use(o, op_log_softmax(g, x));
    use(o, op_l2_normalize(g, x, 1e-6f));
    struct tensor *scalar = graph_parameter(g, "scalar", SHAPE(1), INIT(INIT_ONES, 0));
    use(o, op_scale_by(g, x, scalar));
    use(o, op_add_gated(g, x, positive, scalar));
    use(o, op_cosine(g, x, positive, 1e-6f));
    use(o, op_mse(g, x, positive));
    struct tensor *bias = graph_parameter(g, "bias", SHAPE(x->shape.dim[1]), INIT(INIT_ZEROS, 0));
    use(o, op_bias(g, x, bias));
    struct tensor *sum = op_mean(g, x, 0, 1);
    use(o, op_broadcast(g, op_reshape(g, sum, SHAPE(1, x->shape.dim[1])), x->shape));
}

static void record_shapes(struct other *o, int64_t side)
{
    struct graph *g = o->g;
    struct tensor *x = o->x;
    int64_t channels = x->shape.dim[1];
    int64_t batch = x->shape.dim[0] / (side * side);
    struct tensor *grid = op_reshape(g, x, SHAPE(batch, side, side, channels));
    struct tensor *both[2] = {x, op_scale(g, x, 2)};
    use(o, op_roll(g, grid, -2, -2));
    use(o, op_patch_merge(g, grid));
    use(o, op_concat(g, both, 2, 1));
    use(o, op_slice(g, x, 1, 0, channels / 2));
    use(o, op_permute(g, grid, (const int[]){0, 3, 1, 2}));
    struct tensor *rows = op_reshape(g, x, SHAPE(batch, side * side, channels));
    use(o, op_matmul(g, rows, rows, true, false));
    struct tensor *classes = op_fill(g, DTYPE_I32, SHAPE(x->shape.dim[0]), 1);
    struct tensor *weights = op_target_weights(g, classes, -100);
    use(o, op_mul(g, op_cross_entropy(g, x, classes, -100, NULL), weights));
    use(o, op_bce_with_logits(g, x, op_fill(g, DTYPE_F32, x->shape, 1)));
}

static enum status record_others(struct other *o, enum dtype dtype, int64_t batch, int64_t side,
                                 int64_t channels)
{
    TRY(graph_create(&o->g, NULL));
    struct shape shape = SHAPE(batch * side * side, channels);
    struct tensor *gain = graph_parameter(o->g, "gain", SHAPE(channels), INIT(INIT_ONES, 0));
    struct tensor *data = graph_input(o->g, "data", DTYPE_F32, shape);
    /* Beginning with a parameter, so that everything has a gradient. */
    o->x = op_cast(o->g, op_bias(o->g, data, gain), dtype);
    CHECK(o->x, STATUS_INTERNAL, "%s", status_message());
    record_functions(o);
    record_shapes(o, side);
    graph_output(o->g, "loss", o->loss);
    return graph_differentiate(o->g, o->loss);
}

static enum status walk_others(struct gpu_bench *bench, enum dtype dtype, int batch)
{
    struct other o = {0};
    struct executor *executor = NULL;
    char label[96];
    snprintf(label, sizeof label, "ops of other models %s", dtype_name(dtype));
    enum status status =
        record_others(&o, dtype, batch, bench->quick ? 4 : 48, bench->quick ? 16 : 256);
    if (status == STATUS_OK) {
        status = executor_create(&executor, o.g, &(struct executor_options){.device = DEVICE_CUDA});
    }
    if (status == STATUS_OK) status = executor_init_parameters(executor);
    if (status == STATUS_OK) status = gpu_walk(bench, executor, label, 100);
    executor_destroy(&executor);
    graph_destroy(&o.g);
    return status;
}

static void print_left_over(const struct gpu_bench *bench)
{
    printf("# ops with a CUDA kernel that were not timed:");
    for (int i = 0; i < op_count(); i++) {
        if (cuda_op_find(op_at(i)) && !bench->timed[i]) printf(" %s", op_at(i)->name);
    }
    printf("\n");
}

enum status gpu_ops(struct gpu_bench *bench, int batch)
{
    TRY(walk_whole_step(bench, "bf16", batch));
    TRY(walk_whole_step(bench, "f32", batch / 2 > 2 ? batch / 2 : 2));
    TRY(walk_others(bench, DTYPE_BF16, batch));
    TRY(walk_others(bench, DTYPE_F32, batch));
    print_left_over(bench);
    return STATUS_OK;
}
