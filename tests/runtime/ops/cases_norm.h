/* Cases of normalisation, softmax and losses. */
#ifndef WEFT_TESTS_RUNTIME_OPS_CASES_NORM_H
#define WEFT_TESTS_RUNTIME_OPS_CASES_NORM_H

#include "tests/runtime/ops/op_case.h"

/* Means and variances in f32; bf16 rounds the result, and the gradient on its way in and out. */
#define TOLERANCE_NORM .tolerance = {4e-6, 8e-3}, .gradient_tolerance = {1e-5, 1.6e-2}
/* Losses are f32 sums over exact bf16 logits; only their gradients are rounded. */
#define TOLERANCE_LOSS .tolerance = {4e-6, 4e-6}, .gradient_tolerance = {1e-5, 6e-3}

/* ---- builders: f[0] is eps ---- */

static inline void layer_norm_build(const struct case_build *b)
{
    b->out[0] = op_layer_norm(b->g, b->in[0], b->in[1], b->in[2], b->c->f[0]);
}

static inline void add_layer_norm_build(const struct case_build *b)
{
    b->out[0] = op_add_layer_norm(b->g, b->in[0], b->in[1], b->in[2], b->in[3], b->c->f[0], NULL);
}

/* The sum goes on in two ways, as in a pre-norm block. */
static inline void norm_sum_build(const struct case_build *b)
{
    struct tensor *sum = NULL;
    struct tensor *y =
        op_add_layer_norm(b->g, b->in[0], b->in[1], b->in[2], b->in[3], b->c->f[0], &sum);
    b->out[0] = op_add(b->g, op_tanh(b->g, y), sum);
    b->out[1] = op_scale(b->g, sum, 0.5f);
}

/* Only the sum is used. */
static inline void only_sum_build(const struct case_build *b)
{
    op_add_layer_norm(b->g, b->in[0], b->in[1], op_fill(b->g, DTYPE_F32, SHAPE(7), 1),
                      op_fill(b->g, DTYPE_F32, SHAPE(7), 0), b->c->f[0], &b->out[0]);
}

/* A residual around the norm: the backward sum is merged into the norm's kernel. */
static inline void norm_residual_build(const struct case_build *b)
{
    struct tensor *x = op_tanh(b->g, b->in[0]);
    struct tensor *y = op_layer_norm(b->g, x, b->in[1], b->in[2], b->c->f[0]);
    b->out[0] = op_add(b->g, x, op_mul(b->g, y, y));
}

static inline void l2_build(const struct case_build *b)
{
    b->out[0] = op_l2_normalize(b->g, b->in[0], b->c->f[0]);
}

static inline void cosine_build(const struct case_build *b)
{
    b->out[0] = op_cosine(b->g, b->in[0], b->in[1], b->c->f[0]);
}

static inline void softmax_build(const struct case_build *b)
{
    b->out[0] = op_softmax(b->g, b->in[0]);
}

static inline void log_softmax_build(const struct case_build *b)
{
    b->out[0] = op_log_softmax(b->g, b->in[0]);
}

/* n[0] is the ignored target. */
static inline void cross_entropy_build(const struct case_build *b)
{
    b->out[0] = op_cross_entropy(b->g, b->in[0], b->in[1], (int32_t)b->c->n[0], &b->out[1]);
}

static inline void mean_loss_build(const struct case_build *b)
{
    struct tensor *loss = op_cross_entropy(b->g, b->in[0], b->in[1], (int32_t)b->c->n[0], NULL);
    struct tensor *weight = op_target_weights(b->g, b->in[1], (int32_t)b->c->n[0]);
    b->out[0] = op_sum(b->g, op_mul(b->g, loss, weight), 0, 1);
}

static inline void target_weights_build(const struct case_build *b)
{
    b->out[0] = op_target_weights(b->g, b->in[0], (int32_t)b->c->n[0]);
}

static inline void bce_build(const struct case_build *b)
{
    b->out[0] = op_bce_with_logits(b->g, b->in[0], b->in[1]);
}

static inline void mse_build(const struct case_build *b)
{
    b->out[0] = op_mse(b->g, b->in[0], b->in[1]);
}

/* ---- references ---- */

static inline int64_t last_dim(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    return x->rank ? x->dim[x->rank - 1] : 1;
}

static inline void norm_rows(const double *x, const double *gain, const double *bias, double eps,
                             double *y, int64_t rows, int64_t columns)
{
    for (int64_t r = 0; r < rows; r++) {
        double mean = 0;
        double variance = 0;
        for (int64_t i = 0; i < columns; i++) {
            mean += x[r * columns + i] / (double)columns;
        }
        for (int64_t i = 0; i < columns; i++) {
            variance += pow(x[r * columns + i] - mean, 2) / (double)columns;
        }
        for (int64_t i = 0; i < columns; i++) {
            double normal = (x[r * columns + i] - mean) / sqrt(variance + eps);
            y[r * columns + i] = normal * gain[i] + bias[i];
        }
    }
}

static inline void layer_norm_reference(const struct case_reference *r)
{
    int64_t columns = last_dim(r);
    norm_rows(r->in[0], r->in[1], r->in[2], (double)r->c->f[0], r->out[0],
              case_count(r->c, 0) / columns, columns);
}

static inline void add_layer_norm_reference(const struct case_reference *r)
{
    int64_t columns = last_dim(r);
    int64_t count = case_count(r->c, 0);
    double *sum = case_doubles(count);
    for (int64_t i = 0; i < count; i++) {
        sum[i] = r->in[0][i] + r->in[1][i];
    }
    norm_rows(sum, r->in[2], r->in[3], (double)r->c->f[0], r->out[0], count / columns, columns);
    free(sum);
}

static inline void norm_sum_reference(const struct case_reference *r)
{
    add_layer_norm_reference(r);
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        double sum = r->in[0][i] + r->in[1][i];
        r->out[0][i] = tanh(r->out[0][i]) + sum;
        r->out[1][i] = 0.5 * sum;
    }
}

static inline void only_sum_reference(const struct case_reference *r)
{
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        r->out[0][i] = r->in[0][i] + r->in[1][i];
    }
}

static inline void norm_residual_reference(const struct case_reference *r)
{
    int64_t columns = last_dim(r);
    int64_t count = case_count(r->c, 0);
    double *x = case_doubles(count);
    for (int64_t i = 0; i < count; i++) {
        x[i] = tanh(r->in[0][i]);
    }
    norm_rows(x, r->in[1], r->in[2], (double)r->c->f[0], r->out[0], count / columns, columns);
    for (int64_t i = 0; i < count; i++) {
        r->out[0][i] = x[i] + r->out[0][i] * r->out[0][i];
    }
    free(x);
}

static inline double row_norm(const double *x, int64_t columns)
{
    double sum = 0;
    for (int64_t i = 0; i < columns; i++) {
        sum += x[i] * x[i];
    }
    return sqrt(sum);
}

static inline void l2_reference(const struct case_reference *r)
{
    int64_t columns = last_dim(r);
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        double norm = row_norm(r->in[0] + i / columns * columns, columns);
        double eps = (double)r->c->f[0];
        r->out[0][i] = r->in[0][i] / (norm > eps ? norm : eps);
    }
}

static inline void cosine_reference(const struct case_reference *r)
{
    int64_t columns = last_dim(r);
    double eps = (double)r->c->f[0];
    for (int64_t i = 0; i < case_count(r->c, 0) / columns; i++) {
        const double *a = r->in[0] + i * columns;
        const double *b = r->in[1] + i * columns;
        double dot = 0;
        for (int64_t k = 0; k < columns; k++) {
            dot += a[k] * b[k];
        }
        r->out[0][i] = dot / (fmax(row_norm(a, columns), eps) * fmax(row_norm(b, columns), eps));
    }
}

static inline double log_sum_exp(const double *x, int64_t count)
{
    double most = x[0];
    double sum = 0;
    for (int64_t i = 1; i < count; i++) {
        most = fmax(most, x[i]);
    }
    for (int64_t i = 0; i < count; i++) {
        sum += exp(x[i] - most);
    }
    return most + log(sum);
}

static inline void log_softmax_reference(const struct case_reference *r)
{
    int64_t columns = last_dim(r);
    for (int64_t row = 0; row < case_count(r->c, 0) / columns; row++) {
        const double *x = r->in[0] + row * columns;
        double lse = log_sum_exp(x, columns);
        for (int64_t i = 0; i < columns; i++) {
            r->out[0][row * columns + i] = x[i] - lse;
        }
    }
}

static inline void softmax_reference(const struct case_reference *r)
{
    log_softmax_reference(r);
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        r->out[0][i] = exp(r->out[0][i]);
    }
}

static inline void cross_entropy_reference(const struct case_reference *r)
{
    int64_t columns = last_dim(r);
    for (int64_t row = 0; row < case_count(r->c, 1); row++) {
        const double *x = r->in[0] + row * columns;
        int64_t target = (int64_t)r->in[1][row];
        if (target == r->c->n[0]) continue;
        r->out[0][row] = log_sum_exp(x, columns) - x[target];
        r->out[1][row] = 1;
        for (int64_t i = 0; i < columns; i++) {
            if (x[i] > x[target] || (x[i] == x[target] && i < target)) r->out[1][row] = 0;
        }
    }
}

static inline double target_weight(const struct case_reference *r, int input, int64_t row)
{
    int64_t valid = 0;
    for (int64_t i = 0; i < case_count(r->c, input); i++) {
        valid += (int64_t)r->in[input][i] != r->c->n[0];
    }
    return (int64_t)r->in[input][row] != r->c->n[0] ? 1 / (double)valid : 0;
}

static inline void mean_loss_reference(const struct case_reference *r)
{
    int64_t columns = last_dim(r);
    for (int64_t row = 0; row < case_count(r->c, 1); row++) {
        double weight = target_weight(r, 1, row);
        const double *x = r->in[0] + row * columns;
        if (weight == 0) continue;
        r->out[0][0] += weight * (log_sum_exp(x, columns) - x[(int64_t)r->in[1][row]]);
    }
}

static inline void target_weights_reference(const struct case_reference *r)
{
    for (int64_t row = 0; row < case_count(r->c, 0); row++) {
        r->out[0][row] = target_weight(r, 0, row);
    }
}

static inline void bce_reference(const struct case_reference *r)
{
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        double p = 1 / (1 + exp(-r->in[0][i]));
        r->out[0][i] = -r->in[1][i] * log(p) - (1 - r->in[1][i]) * log(1 - p);
    }
}

static inline void mse_reference(const struct case_reference *r)
{
    int64_t count = case_count(r->c, 0);
    for (int64_t i = 0; i < count; i++) {
        r->out[0][0] += pow(r->in[0][i] - r->in[1][i], 2) / (double)count;
    }
}

/* ---- tables ---- */

#define NORM(what, x_, columns_, eps_)                                                             \
    {                                                                                              \
        .name = what, .build = layer_norm_build, .reference = layer_norm_reference,                \
        .in = {{INPUT_FLOAT, x_}, {INPUT_F32, DIMS(columns_)}, {INPUT_F32, DIMS(columns_)}},       \
        .out = {x_}, .f = {eps_}, TOLERANCE_NORM                                                   \
    }
#define ADD_NORM(what, name_, x_, columns_, eps_, outputs_)                                        \
    {                                                                                              \
        .name = what, .build = name_##_build, .reference = name_##_reference,                      \
        .in = {{INPUT_FLOAT, x_},                                                                  \
               {INPUT_FLOAT, x_},                                                                  \
               {INPUT_F32, DIMS(columns_)},                                                        \
               {INPUT_F32, DIMS(columns_)}},                                                       \
        .out = {x_, x_}, .num_outputs = outputs_, .f = {eps_}, .tolerance = {4e-6, 1.6e-2},        \
        .gradient_tolerance = {                                                                    \
            1e-5,                                                                                  \
            2.5e-2                                                                                 \
        }                                                                                          \
    }
#define ROWS(what, name_, x_, low_, high_)                                                         \
    {                                                                                              \
        .name = what, .build = name_##_build, .reference = name_##_reference,                      \
        .in = {{INPUT_FLOAT, x_, low_, high_}}, .out = {x_}, TOLERANCE_NORM                        \
    }
#define L2(what, x_, eps_, low_, high_)                                                            \
    {                                                                                              \
        .name = what, .build = l2_build, .reference = l2_reference,                                \
        .in = {{INPUT_FLOAT, x_, low_, high_}}, .out = {x_}, .f = {eps_}, TOLERANCE_NORM           \
    }
#define COSINE(what, x_, y_, eps_)                                                                 \
    {                                                                                              \
        .name = what, .build = cosine_build, .reference = cosine_reference,                        \
        .in = {{INPUT_FLOAT, x_}, {INPUT_FLOAT, x_}}, .out = {y_}, .f = {eps_}, TOLERANCE_LOSS     \
    }
#define CROSS(what, rows_, classes_, low_, ignore_)                                                \
    {                                                                                              \
        .name = what, .build = cross_entropy_build, .reference = cross_entropy_reference,          \
        .in = {{INPUT_FLOAT, DIMS(rows_, classes_), -4, 4},                                        \
               {INPUT_INDEX, DIMS(rows_), low_, classes_}},                                        \
        .out = {DIMS(rows_), DIMS(rows_)}, .num_outputs = 2, .is_value = {false, true},            \
        .n = {ignore_}, TOLERANCE_LOSS                                                             \
    }
#define WEIGHTS(what, shape_, low_, high_, ignore_)                                                \
    {                                                                                              \
        .name = what, .build = target_weights_build, .reference = target_weights_reference,        \
        .in = {{INPUT_INDEX, shape_, low_, high_}}, .out = {shape_}, .n = {ignore_},               \
        .no_gradient = true, .f32_only = true, .tolerance = {                                      \
            1e-7,                                                                                  \
            0                                                                                      \
        }                                                                                          \
    }
#define PAIR(what, name_, kind_, x_, y_)                                                           \
    {                                                                                              \
        .name = what, .build = name_##_build, .reference = name_##_reference,                      \
        .in = {{INPUT_FLOAT, x_, -6, 6}, {kind_, x_, 0, 1}}, .out = {y_}, TOLERANCE_LOSS           \
    }

static const double small_and_zero_rows[] = {0, 0, 0, 0.125, -0.25, 0.0625, 3, -4, 1};
static const double tied_logits[] = {3, 3, 1, 3, 3, 1, 0, -1, 0};
static const double tied_targets[] = {0, 1, 2};
static const double hidden_logits[] = {-INFINITY, 0, 1, 2, -INFINITY, -INFINITY};
static const double zero_row[] = {0, 0, 3, 4};

static const struct op_case cases_norm[] = {
    NORM("layer_norm", DIMS(5, 7), 7, 1e-5f),
    NORM("layer_norm of one row", DIMS(16), 16, 1e-5f),
    NORM("layer_norm of one column", DIMS(5, 1), 1, 1e-5f),
    NORM("layer_norm of rank 4", DIMS(2, 1, 3, 33), 33, 1e-12f),
    NORM("layer_norm wide", DIMS(67, 771), 771, 1e-6f),
    /* Rows of whole 16 bytes, of every length that is held in registers another way on a GPU. */
    NORM("layer_norm of 128 columns", DIMS(70, 128), 128, 1e-5f),
    NORM("layer_norm of 200 columns", DIMS(33, 200), 200, 1e-5f),
    NORM("layer_norm of 384 columns", DIMS(40, 384), 384, 1e-5f),
    NORM("layer_norm of 512 columns", DIMS(9, 512), 512, 1e-5f),
    NORM("layer_norm of 768 columns", DIMS(37, 768), 768, 1e-5f),
    NORM("layer_norm of 1024 columns", DIMS(5, 1024), 1024, 1e-5f),
    NORM("layer_norm of 2048 columns", DIMS(35, 2048), 2048, 1e-5f),
    NORM("layer_norm of 4096 columns", DIMS(3, 4096), 4096, 1e-5f),
    NORM("layer_norm of 4104 columns", DIMS(2, 4104), 4104, 1e-5f),
    {.name = "layer_norm far from zero",
     .build = layer_norm_build,
     .reference = layer_norm_reference,
     .in = {{INPUT_FLOAT, DIMS(3, 100), 1000, 1001},
            {INPUT_F32, DIMS(100)},
            {INPUT_F32, DIMS(100)}},
     .out = {DIMS(3, 100)},
     .f = {1e-5f},
     .f32_only = true,
     .tolerance = {2e-4, 0}, /* the mean of such rows is known to 2^-14 */
     .gradient_tolerance = {2e-4, 0}},
    {.name = "layer_norm, constant gain and bias",
     .build = layer_norm_build,
     .reference = layer_norm_reference,
     .in = {{INPUT_FLOAT, DIMS(5, 7)},
            {INPUT_F32_CONSTANT, DIMS(7)},
            {INPUT_F32_CONSTANT, DIMS(7)}},
     .out = {DIMS(5, 7)},
     .f = {1e-5f},
     TOLERANCE_NORM},
    {.name = "layer_norm, constant input",
     .build = layer_norm_build,
     .reference = layer_norm_reference,
     .in = {{INPUT_CONSTANT, DIMS(5, 7)}, {INPUT_F32, DIMS(7)}, {INPUT_F32, DIMS(7)}},
     .out = {DIMS(5, 7)},
     .f = {1e-5f},
     TOLERANCE_NORM},
    {.name = "layer_norm in a residual",
     .build = norm_residual_build,
     .reference = norm_residual_reference,
     .in = {{INPUT_FLOAT, DIMS(5, 19)}, {INPUT_F32, DIMS(19)}, {INPUT_F32, DIMS(19)}},
     .out = {DIMS(5, 19)},
     .f = {1e-5f},
     .tolerance = {4e-6, 2e-2},
     .gradient_tolerance = {1e-5, 3e-2}},
    {.name = "layer_norm in a residual, aligned",
     .build = norm_residual_build,
     .reference = norm_residual_reference,
     .in = {{INPUT_FLOAT, DIMS(35, 136)}, {INPUT_F32, DIMS(136)}, {INPUT_F32, DIMS(136)}},
     .out = {DIMS(35, 136)},
     .f = {1e-5f},
     .tolerance = {4e-6, 2e-2},
     .gradient_tolerance = {1e-5, 3e-2}},
    ADD_NORM("add_layer_norm", add_layer_norm, DIMS(5, 7), 7, 1e-5f, 1),
    ADD_NORM("add_layer_norm wide", add_layer_norm, DIMS(3, 1, 259), 259, 1e-5f, 1),
    ADD_NORM("add_layer_norm and its sum", norm_sum, DIMS(5, 7), 7, 1e-5f, 2),
    {.name = "add_layer_norm, only its sum",
     .build = only_sum_build,
     .reference = only_sum_reference,
     .in = {{INPUT_FLOAT, DIMS(5, 7)}, {INPUT_FLOAT, DIMS(5, 7)}},
     .out = {DIMS(5, 7)},
     .f = {1e-5f},
     TOLERANCE_NORM},
    L2("l2_normalize", DIMS(5, 7), 1e-12f, -2, 2),
    L2("l2_normalize of one row", DIMS(33), 0, -2, 2),
    L2("l2_normalize of one column", DIMS(5, 1), 1e-12f, 1, 2),
    L2("l2_normalize wide", DIMS(67, 515), 0, -2, 2),
    {.name = "l2_normalize, rows below eps",
     .build = l2_build,
     .reference = l2_reference,
     .in = {{INPUT_FLOAT, DIMS(3, 3), .given = small_and_zero_rows}},
     .out = {DIMS(3, 3)},
     .f = {0.5f},
     TOLERANCE_NORM},
    {.name = "l2_normalize of zero without eps",
     .build = l2_build,
     .reference = l2_reference,
     .in = {{INPUT_CONSTANT, DIMS(2, 2), .given = zero_row}},
     .out = {DIMS(2, 2)},
     .no_gradient = true,
     TOLERANCE_NORM},
    COSINE("cosine", DIMS(5, 7), DIMS(5), 1e-8f),
    COSINE("cosine of vectors", DIMS(33), DIMS0, 1e-8f),
    COSINE("cosine of rank 3", DIMS(2, 3, 129), DIMS(2, 3), 1e-8f),
    COSINE("cosine below eps", DIMS(4, 3), DIMS(4), 16),
    ROWS("softmax", softmax, DIMS(5, 7), -4, 4),
    ROWS("softmax of one row", softmax, DIMS(33), -4, 4),
    ROWS("softmax of one column", softmax, DIMS(5, 1), -4, 4),
    ROWS("softmax of rank 3", softmax, DIMS(2, 3, 65), -4, 4),
    ROWS("softmax of large values", softmax, DIMS(3, 9), -200, 200),
    ROWS("softmax wide", softmax, DIMS(37, 1001), -4, 4),
    ROWS("log_softmax", log_softmax, DIMS(5, 7), -4, 4),
    ROWS("log_softmax of one row", log_softmax, DIMS(33), -4, 4),
    ROWS("log_softmax of one column", log_softmax, DIMS(5, 1), -4, 4),
    ROWS("log_softmax of large values", log_softmax, DIMS(3, 9), -200, 200),
    ROWS("log_softmax wide", log_softmax, DIMS(37, 1001), -4, 4),
    {.name = "softmax with hidden entries",
     .build = softmax_build,
     .reference = softmax_reference,
     .in = {{INPUT_CONSTANT, DIMS(2, 3), .given = hidden_logits}},
     .out = {DIMS(2, 3)},
     .no_gradient = true,
     TOLERANCE_NORM},
    {.name = "log_softmax with hidden entries",
     .build = log_softmax_build,
     .reference = log_softmax_reference,
     .in = {{INPUT_CONSTANT, DIMS(2, 3), .given = hidden_logits}},
     .out = {DIMS(2, 3)},
     .no_gradient = true,
     TOLERANCE_NORM},
    CROSS("cross_entropy", 5, 7, 0, -100),
    CROSS("cross_entropy with ignored rows", 9, 5, -1, -1),
    CROSS("cross_entropy ignoring class 0", 9, 3, 0, 0),
    CROSS("cross_entropy of one class", 2, 1, 0, -100),
    CROSS("cross_entropy of one row", 1, 33, 0, -100),
    CROSS("cross_entropy of RoBERTa's head", 3, 50265, 0, -100),
    CROSS("cross_entropy of many rows", 257, 130, -1, -1),
    {.name = "cross_entropy with ties",
     .build = cross_entropy_build,
     .reference = cross_entropy_reference,
     .in = {{INPUT_FLOAT, DIMS(3, 3), .given = tied_logits},
            {INPUT_INDEX, DIMS(3), .given = tied_targets}},
     .out = {DIMS(3), DIMS(3)},
     .num_outputs = 2,
     .is_value = {false, true},
     .n = {-100},
     TOLERANCE_LOSS},
    {.name = "cross_entropy, all ignored",
     .build = cross_entropy_build,
     .reference = cross_entropy_reference,
     .in = {{INPUT_FLOAT, DIMS(3, 5)}, {INPUT_INDEX, DIMS(3), -100, -99}},
     .out = {DIMS(3), DIMS(3)},
     .num_outputs = 2,
     .is_value = {false, true},
     .n = {-100},
     TOLERANCE_LOSS},
    {.name = "mean cross_entropy",
     .build = mean_loss_build,
     .reference = mean_loss_reference,
     .in = {{INPUT_FLOAT, DIMS(9, 5)}, {INPUT_INDEX, DIMS(9), -1, 5}},
     .out = {DIMS0},
     .n = {-1},
     TOLERANCE_LOSS},
    {.name = "mean cross_entropy, all ignored",
     .build = mean_loss_build,
     .reference = mean_loss_reference,
     .in = {{INPUT_FLOAT, DIMS(3, 5)}, {INPUT_INDEX, DIMS(3), -1, 0}},
     .out = {DIMS0},
     .n = {-1},
     TOLERANCE_LOSS},
    WEIGHTS("target_weights", DIMS(9), -1, 3, -1),
    WEIGHTS("target_weights of rank 2", DIMS(3, 4), 0, 3, 1),
    WEIGHTS("target_weights, all ignored", DIMS(4), -1, 0, -1),
    PAIR("bce_with_logits", bce, INPUT_F32_CONSTANT, DIMS(5, 7), DIMS(5, 7)),
    PAIR("bce_with_logits scalar", bce, INPUT_F32_CONSTANT, DIMS0, DIMS0),
    PAIR("bce_with_logits large", bce, INPUT_F32_CONSTANT, DIMS(40001), DIMS(40001)),
    PAIR("mse", mse, INPUT_FLOAT, DIMS(5, 7), DIMS0),
    PAIR("mse of scalars", mse, INPUT_FLOAT, DIMS0, DIMS0),
    PAIR("mse to a constant", mse, INPUT_CONSTANT, DIMS(3, 4), DIMS0),
    PAIR("mse large", mse, INPUT_FLOAT, DIMS(40001), DIMS0),
};

#endif
