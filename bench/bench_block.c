/*
 * A whole Swin block of stage 2 (the third stage: 24x24 tokens at 384 px, 512 channels, 16 heads,
 * window 12) with batch 4, forward and backward through the plan, the shifted variant.
 *
 * FLOPs: 2 per multiply-add of the linear layers and of attention, times 3 for forward and
 * backward. The ceiling is oneDNN on the block's largest product (fc1) in the same run. With
 * --detail the profile per op follows.
 */
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"
#include "runtime/backend/cpu/matmul.h"
#include "runtime/backend/executor.h"
#include "runtime/base/rng.h"
#include "runtime/ops/ops.h"

enum { BATCH = 4, SIDE = 24, TOKENS = SIDE * SIDE, WIDTH = 512, HEADS = 16, WINDOW = 12 };

static struct tensor *linear(struct graph *g, const char *name, struct tensor *x, int64_t k,
                             int64_t n, bool gelu)
{
    graph_push(g, "%s", name);
    struct tensor *w = graph_parameter(g, "weight", SHAPE(n, k), INIT(INIT_TRUNC_NORMAL, 0.02f));
    struct tensor *b = graph_parameter(g, "bias", SHAPE(n), INIT(INIT_ZEROS, 0));
    graph_pop(g);
    return gelu ? op_linear_gelu(g, x, w, b) : op_linear(g, x, w, b);
}

static struct tensor *norm(struct graph *g, const char *name, struct tensor *x)
{
    graph_push(g, "%s", name);
    struct tensor *gain = graph_parameter(g, "weight", SHAPE(WIDTH), INIT(INIT_ONES, 0));
    struct tensor *bias = graph_parameter(g, "bias", SHAPE(WIDTH), INIT(INIT_ZEROS, 0));
    graph_pop(g);
    return op_layer_norm(g, x, gain, bias, 1e-5f);
}

static struct tensor *block(struct graph *g, struct tensor *x)
{
    struct tensor *h = linear(g, "attn.qkv", norm(g, "norm1", x), WIDTH, 3 * WIDTH, false);
    struct tensor *table = graph_parameter(g, "attn.relative_position_bias_table",
                                           SHAPE(23 * 23, HEADS), INIT(INIT_TRUNC_NORMAL, 0.02f));
    h = op_reshape(g, h, SHAPE(BATCH, SIDE, SIDE, 3 * WIDTH));
    h = op_window_attention(g, h, table, HEADS, WINDOW, WINDOW / 2);
    h = op_reshape(g, h, SHAPE(BATCH, TOKENS, WIDTH));
    x = op_add(g, x, linear(g, "attn.proj", h, WIDTH, WIDTH, false));
    h = linear(g, "mlp.fc1", norm(g, "norm2", x), WIDTH, 4 * WIDTH, true);
    return op_add(g, x, linear(g, "mlp.fc2", h, 4 * WIDTH, WIDTH, false));
}

static double ceiling_gflops(enum dtype dtype, double seconds)
{
    const struct cpu_matmul_spec spec = {.batch = 1,
                                         .m = BATCH * TOKENS,
                                         .n = 4 * WIDTH,
                                         .k = WIDTH,
                                         .transpose_b = true,
                                         .dtype_a = dtype,
                                         .dtype_b = dtype,
                                         .dtype_c = dtype};
    struct cpu_matmul *matmul = NULL;
    size_t scratch = 0;
    bench_must(cpu_matmul_create(&matmul, &spec, &scratch));
    struct cpu_matmul_run run = {.a = bench_memory((size_t)(spec.m * spec.k) * 4),
                                 .b = bench_memory((size_t)(spec.k * spec.n) * 4),
                                 .c = bench_memory((size_t)(spec.m * spec.n) * 4),
                                 .scratch = bench_memory(scratch)};
    double best = 1e9;
    double begin = bench_now();
    while (bench_now() - begin < seconds) {
        double start = bench_now();
        bench_must(cpu_matmul_run(matmul, &run));
        bench_least(&best, bench_now() - start);
    }
    cpu_matmul_destroy(&matmul);
    free(run.a);
    free(run.b);
    free(run.c);
    free(run.scratch);
    return 2.0 * (double)(spec.m * spec.n) * (double)spec.k / best * 1e-9;
}

static void bench_block(enum dtype dtype, bool detail)
{
    struct graph *g = NULL;
    bench_must(graph_create(&g, NULL));
    /* The input takes part in the backward pass, as it does inside a network. */
    struct tensor *x =
        graph_parameter(g, "x", SHAPE(BATCH, TOKENS, WIDTH), INIT(INIT_NORMAL, 1.0f));
    /* And it depends on data, or the forward pass would be computed once per update. */
    struct tensor *data = graph_input(g, "data", DTYPE_F32, x->shape);
    struct tensor *y = block(g, op_cast(g, op_add(g, x, data), dtype));
    /* A projection on data, so that no gradient is a constant. */
    struct tensor *direction = graph_input(g, "direction", DTYPE_F32, x->shape);
    struct tensor *loss = op_sum(g, op_mul(g, op_cast(g, y, DTYPE_F32), direction), 0, 3);
    graph_output(g, "loss", loss);
    bench_must(graph_differentiate(g, loss));
    struct executor *e = NULL;
    bench_must(executor_create(&e, g, &(struct executor_options){.profile = detail}));
    bench_must(executor_init_parameters(e));
    rng_fill_normal(rng_key(1, RNG_TEST, 0), 0, 0, executor_data(e, data), BATCH * TOKENS * WIDTH);
    rng_fill_normal(rng_key(1, RNG_TEST, 1), 0, 0, executor_data(e, direction),
                    BATCH * TOKENS * WIDTH);
    double best = 1e9;
    double ceiling = 0;
    for (int round = 0; round < 5; round++) {
        double now = ceiling_gflops(dtype, 0.1);
        if (now > ceiling) ceiling = now;
        double begin = bench_now();
        while (bench_now() - begin < 0.6) {
            double start = bench_now();
            executor_parameters_changed(e); /* as after an update: casts are due again */
            bench_must(executor_run(e, &(struct executor_run){0}));
            bench_least(&best, bench_now() - start);
        }
    }
    double m = BATCH * TOKENS;
    double linear_flops = 2.0 * m * WIDTH * WIDTH * (3 + 1 + 4 + 4);
    double attention_flops = 4.0 * m * WINDOW * WINDOW * WIDTH;
    char name[96];
    snprintf(name, sizeof name, "swin block 24x24x512 batch %d fwd+bwd %s", BATCH,
             dtype_name(dtype));
    bench_row(name, 3 * (linear_flops + attention_flops) / best * 1e-9, "GFLOP/s", ceiling,
              "ceiling: oneDNN fc1");
    if (detail) executor_print_profile(e, stdout);
    executor_destroy(&e);
    graph_destroy(&g);
}

int main(int argc, char **argv)
{
    bool detail = argc > 1 && strcmp(argv[1], "--detail") == 0;
    bench_block(DTYPE_F32, detail);
    bench_block(DTYPE_BF16, detail);
    return 0;
}
