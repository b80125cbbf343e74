/* Cases of linear layers, matrix products, patch embedding and rows of tables. */
#ifndef WEFT_TESTS_RUNTIME_OPS_CASES_PRODUCT_H
#define WEFT_TESTS_RUNTIME_OPS_CASES_PRODUCT_H

#include "tests/runtime/ops/op_case.h"

/* Sums of up to some hundred products: f32 by their order, bf16 by one rounding of the result and
 * one of the incoming gradient. */
#define TOLERANCE_PRODUCT .tolerance = {4e-6, 6e-3}, .gradient_tolerance = {4e-6, 1.2e-2}
/* A product behind a product or a function: every stage rounds its result to bf16. */
#define TOLERANCE_STAGES .tolerance = {4e-6, 2e-2}, .gradient_tolerance = {6e-6, 3e-2}

static inline struct tensor *third(const struct case_build *b)
{
    return b->c->in[2].kind ? b->in[2] : NULL;
}

static inline void linear_build(const struct case_build *b)
{
    b->out[0] = op_linear(b->g, b->in[0], b->in[1], third(b));
}

static inline void linear_transposed_build(const struct case_build *b)
{
    b->out[0] = op_linear_transposed(b->g, b->in[0], b->in[1], third(b));
}

static inline void linear_gelu_build(const struct case_build *b)
{
    b->out[0] = op_linear_gelu(b->g, b->in[0], b->in[1], third(b));
}

/* w twice, so that two weight gradients add up; and x twice, so that dx does. */
static inline void linear_tied_build(const struct case_build *b)
{
    struct tensor *y = op_linear(b->g, b->in[0], b->in[1], b->in[2]);
    b->out[0] = op_linear(b->g, op_tanh(b->g, y), b->in[1], b->in[2]);
}

/* A table of words that is also the head: gather, then the product with the same matrix. */
static inline void linear_head_build(const struct case_build *b)
{
    struct tensor *x = op_embedding(b->g, b->in[0], b->in[1], b->c->n[0], b->dtype);
    b->out[0] = op_linear(b->g, op_tanh(b->g, x), b->in[0], NULL);
}

/* A residual that the product can add to its result. */
static inline void linear_residual_build(const struct case_build *b)
{
    struct tensor *residual = op_tanh(b->g, b->in[0]);
    struct tensor *hidden = op_relu(b->g, op_scale(b->g, b->in[0], 3));
    struct tensor *y = op_linear(b->g, hidden, b->in[1], b->in[2]);
    b->out[0] = op_add(b->g, residual, y);
}

/* Three readers of x: their gradients are sums that products can make. */
static inline void linear_fan_build(const struct case_build *b)
{
    struct tensor *x = op_tanh(b->g, b->in[0]);
    struct tensor *a = op_linear(b->g, x, b->in[1], NULL);
    struct tensor *c = op_linear_transposed(b->g, x, b->in[1], NULL);
    b->out[0] = op_mul(b->g, op_add(b->g, a, c), x);
}

static inline void matmul_build(const struct case_build *b)
{
    b->out[0] = op_matmul(b->g, b->in[0], b->in[1], b->c->n[0], b->c->n[1]);
}

static inline void gram_build(const struct case_build *b)
{
    b->out[0] = op_matmul(b->g, b->in[0], b->in[0], false, true);
}

static inline void patch_embed_build(const struct case_build *b)
{
    b->out[0] = op_patch_embed(b->g, b->in[0], b->in[1], third(b));
}

static inline void exchange_build(const struct case_build *b)
{
    b->out[0] = op_exchange_rows(b->g, b->in[0], b->in[1]);
}

static inline void gather_build(const struct case_build *b)
{
    b->out[0] = op_gather(b->g, b->in[0], b->in[1]);
}

static inline void embedding_build(const struct case_build *b)
{
    b->out[0] = op_embedding(b->g, b->in[0], b->in[1], b->c->n[0], b->dtype);
}

static inline void scatter_build(const struct case_build *b)
{
    enum dtype dtype = b->c->n[2] ? DTYPE_F32 : b->dtype;
    b->out[0] = op_scatter_add(b->g, b->in[0], b->in[1], b->c->n[0], b->c->n[1], dtype);
}

/* ---- references ---- */

/* y [m,n] = x [m,k] times w, stored [n,k], or [k,n] when transposed, plus bias. */
static inline void product(const double *x, const double *w, const double *bias, double *y,
                           int64_t m, int64_t n, int64_t k, bool transposed)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = bias ? bias[j] : 0;
            for (int64_t l = 0; l < k; l++) {
                sum += x[i * k + l] * (transposed ? w[l * n + j] : w[j * k + l]);
            }
            y[i * n + j] = sum;
        }
    }
}

static inline void linear_sizes(const struct case_reference *r, int64_t *m, int64_t *n, int64_t *k)
{
    const struct shape *x = &r->c->in[0].shape;
    const struct shape *y = &r->c->out[0];
    *k = x->dim[x->rank - 1];
    *n = y->dim[y->rank - 1];
    *m = shape_count(x) / *k;
}

static inline void linear_reference(const struct case_reference *r)
{
    int64_t m, n, k;
    linear_sizes(r, &m, &n, &k);
    const double *bias = r->c->in[2].kind ? r->in[2] : NULL;
    product(r->in[0], r->in[1], bias, r->out[0], m, n, k, false);
}

static inline void linear_transposed_reference(const struct case_reference *r)
{
    int64_t m, n, k;
    linear_sizes(r, &m, &n, &k);
    const double *bias = r->c->in[2].kind ? r->in[2] : NULL;
    product(r->in[0], r->in[1], bias, r->out[0], m, n, k, true);
}

static inline void linear_gelu_reference(const struct case_reference *r)
{
    linear_reference(r);
    for (int64_t i = 0; i < shape_count(&r->c->out[0]); i++) {
        double x = r->out[0][i];
        r->out[0][i] = 0.5 * x * (1 + erf(x / sqrt(2)));
    }
}

static inline void linear_tied_reference(const struct case_reference *r)
{
    int64_t m, n, k;
    linear_sizes(r, &m, &n, &k);
    double *y = case_doubles(m * n);
    product(r->in[0], r->in[1], r->in[2], y, m, n, k, false);
    for (int64_t i = 0; i < m * n; i++) {
        y[i] = tanh(y[i]);
    }
    product(y, r->in[1], r->in[2], r->out[0], m, n, k, false);
    free(y);
}

static inline void linear_head_reference(const struct case_reference *r)
{
    int64_t rows = r->c->in[0].shape.dim[0];
    int64_t columns = r->c->in[0].shape.dim[1];
    int64_t count = case_count(r->c, 1);
    double *x = case_doubles(count * columns);
    for (int64_t i = 0; i < count * columns; i++) {
        int64_t index = (int64_t)r->in[1][i / columns];
        /* The padding row is read, but gets no gradient by that way. */
        const double *table = index == r->c->n[0] ? r->base[0] : r->in[0];
        x[i] = tanh(table[index * columns + i % columns]);
    }
    product(x, r->in[0], NULL, r->out[0], count, rows, columns, false);
    free(x);
}

static inline void linear_residual_reference(const struct case_reference *r)
{
    int64_t m, n, k;
    linear_sizes(r, &m, &n, &k);
    double *hidden = case_doubles(m * k);
    for (int64_t i = 0; i < m * k; i++) {
        hidden[i] = fmax(0, 3 * r->in[0][i]);
    }
    product(hidden, r->in[1], r->in[2], r->out[0], m, n, k, false);
    for (int64_t i = 0; i < m * k; i++) {
        r->out[0][i] += tanh(r->in[0][i]);
    }
    free(hidden);
}

static inline void linear_fan_reference(const struct case_reference *r)
{
    int64_t m, n, k;
    linear_sizes(r, &m, &n, &k);
    double *x = case_doubles(m * k);
    double *y = case_doubles(m * k);
    for (int64_t i = 0; i < m * k; i++) {
        x[i] = tanh(r->in[0][i]);
    }
    product(x, r->in[1], NULL, r->out[0], m, n, k, false);
    product(x, r->in[1], NULL, y, m, n, k, true);
    for (int64_t i = 0; i < m * k; i++) {
        r->out[0][i] = (r->out[0][i] + y[i]) * x[i];
    }
    free(x);
    free(y);
}

static inline void matmul_reference(const struct case_reference *r)
{
    const struct shape *a = &r->c->in[0].shape;
    const struct shape *y = &r->c->out[0];
    int rank = y->rank;
    bool ta = r->c->n[0];
    bool tb = r->c->n[1];
    int64_t m = y->dim[rank - 2];
    int64_t n = y->dim[rank - 1];
    int64_t k = a->dim[rank - (ta ? 2 : 1)];
    for (int64_t i = 0; i < shape_count(y); i++) {
        int64_t batch = i / (m * n);
        int64_t row = i / n % m;
        int64_t column = i % n;
        for (int64_t l = 0; l < k; l++) {
            double x = r->in[0][batch * m * k + (ta ? l * m + row : row * k + l)];
            r->out[0][i] += x * r->in[1][batch * k * n + (tb ? column * k + l : l * n + column)];
        }
    }
}

static inline void gram_reference(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    product(r->in[0], r->in[0], NULL, r->out[0], x->dim[0], x->dim[0], x->dim[1], false);
}

/* The convolution by its definition. */
static inline void patch_embed_reference(const struct case_reference *r)
{
    const struct shape *x = &r->c->in[0].shape;
    const struct shape *w = &r->c->in[1].shape;
    int64_t p = w->dim[3];
    int64_t columns = x->dim[3] / p;
    int64_t at[3];
    for (int64_t i = 0; i < shape_count(&r->c->out[0]); i++) {
        case_unravel(&r->c->out[0], i, at);
        double sum = r->c->in[2].kind ? r->in[2][at[2]] : 0;
        for (int64_t c = 0; c < x->dim[1]; c++) {
            for (int64_t dy = 0; dy < p; dy++) {
                for (int64_t dx = 0; dx < p; dx++) {
                    int64_t pixel[] = {at[0], c, at[1] / columns * p + dy,
                                       at[1] % columns * p + dx};
                    int64_t tap[] = {at[2], c, dy, dx};
                    sum += r->in[0][case_ravel(x, pixel)] * r->in[1][case_ravel(w, tap)];
                }
            }
        }
        r->out[0][i] = sum;
    }
}

static inline void embedding_reference(const struct case_reference *r)
{
    int64_t columns = case_count(r->c, 0) / r->c->in[0].shape.dim[0];
    for (int64_t i = 0; i < shape_count(&r->c->out[0]); i++) {
        int64_t index = (int64_t)r->in[1][i / columns];
        bool is_padding = r->c->build == embedding_build && index == r->c->n[0];
        r->out[0][i] = (is_padding ? r->base[0] : r->in[0])[index * columns + i % columns];
    }
}

static inline void gather_reference(const struct case_reference *r)
{
    embedding_reference(r);
}

static inline void scatter_reference(const struct case_reference *r)
{
    int64_t columns = r->c->out[0].dim[1];
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        int64_t index = (int64_t)r->in[1][i / columns];
        if (index != r->c->n[1]) r->out[0][index * columns + i % columns] += r->in[0][i];
    }
}

/* ---- tables ---- */

#define LINEAR(what, name_, x_, w_, y_)                                                            \
    {                                                                                              \
        .name = what, .build = name_##_build, .reference = name_##_reference,                      \
        .in = {{INPUT_FLOAT, x_}, {INPUT_FLOAT, w_, -0.5, 0.5}}, .out = {y_}, TOLERANCE_PRODUCT    \
    }
#define LINEAR_BIAS(what, name_, x_, w_, bias_, y_)                                                \
    {                                                                                              \
        .name = what, .build = name_##_build, .reference = name_##_reference,                      \
        .in = {{INPUT_FLOAT, x_}, {INPUT_F32, w_, -0.5, 0.5}, {INPUT_F32, bias_}}, .out = {y_},    \
        TOLERANCE_STAGES                                                                           \
    }
#define MATMUL(what, a_, b_, y_, ta_, tb_)                                                         \
    {                                                                                              \
        .name = what, .build = matmul_build, .reference = matmul_reference,                        \
        .in = {{INPUT_FLOAT, a_}, {INPUT_FLOAT, b_}}, .out = {y_}, .n = {ta_, tb_},                \
        TOLERANCE_PRODUCT                                                                          \
    }
#define PATCH(what, x_, w_, y_)                                                                    \
    {                                                                                              \
        .name = what, .build = patch_embed_build, .reference = patch_embed_reference,              \
        .in = {{INPUT_FLOAT, x_}, {INPUT_F32, w_, -0.5, 0.5}}, .out = {y_}, TOLERANCE_PRODUCT      \
    }
#define GATHER(what, table_, index_, y_, rows_)                                                    \
    {                                                                                              \
        .name = what, .build = gather_build, .reference = gather_reference,                        \
        .in = {{INPUT_FLOAT, table_}, {INPUT_INDEX, index_, 0, rows_}}, .out = {y_},               \
        .tolerance = {0, 0}, .gradient_tolerance = {                                               \
            2e-6,                                                                                  \
            8e-3                                                                                   \
        }                                                                                          \
    }
/* On one rank, rows of all ranks are a table's rows. */
#define EXCHANGE(what, table_, index_, y_, rows_)                                                  \
    {                                                                                              \
        .name = what, .build = exchange_build, .reference = gather_reference,                      \
        .in = {{INPUT_FLOAT, table_}, {INPUT_INDEX, index_, 0, rows_}}, .out = {y_},               \
        .tolerance = {0, 0}, .gradient_tolerance = {                                               \
            2e-6,                                                                                  \
            8e-3                                                                                   \
        }                                                                                          \
    }
#define EMBEDDING(what, table_, index_, y_, rows_, padding_)                                       \
    {                                                                                              \
        .name = what, .build = embedding_build, .reference = embedding_reference,                  \
        .in = {{INPUT_F32, table_}, {INPUT_INDEX, index_, 0, rows_}}, .out = {y_},                 \
        .n = {padding_}, .tolerance = {0, 0}, .gradient_tolerance = {                              \
            2e-6,                                                                                  \
            8e-3                                                                                   \
        }                                                                                          \
    }
#define SCATTER(what, x_, index_, y_, padding_, to_f32_, fixed_)                                   \
    {                                                                                              \
        .name = what, .build = scatter_build, .reference = scatter_reference,                      \
        .in = {{fixed_ ? INPUT_CONSTANT : INPUT_FLOAT, x_}, {INPUT_INDEX, index_, 0, 5}},          \
        .out = {y_}, .n = {5, padding_, to_f32_}, .no_gradient = fixed_,                           \
        .tolerance = {2e-6, 4e-3}, .gradient_tolerance = {                                         \
            2e-6,                                                                                  \
            4e-3                                                                                   \
        }                                                                                          \
    }

static const struct op_case cases_product[] = {
    LINEAR("linear", linear, DIMS(5, 7), DIMS(3, 7), DIMS(5, 3)),
    LINEAR("linear of rank 1", linear, DIMS(7), DIMS(3, 7), DIMS(3)),
    LINEAR("linear of rank 4", linear, DIMS(2, 1, 3, 5), DIMS(4, 5), DIMS(2, 1, 3, 4)),
    LINEAR("linear to one", linear, DIMS(5, 7), DIMS(1, 7), DIMS(5, 1)),
    LINEAR("linear from one", linear, DIMS(5, 1), DIMS(3, 1), DIMS(5, 3)),
    LINEAR("linear 1 x 1", linear, DIMS(1, 1), DIMS(1, 1), DIMS(1, 1)),
    LINEAR("linear wide", linear, DIMS(33, 65), DIMS(129, 65), DIMS(33, 129)),
    LINEAR("linear_transposed", linear_transposed, DIMS(5, 7), DIMS(7, 3), DIMS(5, 3)),
    LINEAR("linear_transposed wide", linear_transposed, DIMS(33, 65), DIMS(65, 129), DIMS(33, 129)),
    LINEAR_BIAS("linear, bias", linear, DIMS(2, 5, 7), DIMS(3, 7), DIMS(3), DIMS(2, 5, 3)),
    LINEAR_BIAS("linear, bias, one row", linear, DIMS(1, 7), DIMS(3, 7), DIMS(3), DIMS(1, 3)),
    LINEAR_BIAS("linear, bias, wide", linear, DIMS(33, 65), DIMS(129, 65), DIMS(129),
                DIMS(33, 129)),
    LINEAR_BIAS("linear_transposed, bias", linear_transposed, DIMS(2, 5, 7), DIMS(7, 3), DIMS(3),
                DIMS(2, 5, 3)),
    {.name = "linear_gelu",
     .build = linear_gelu_build,
     .reference = linear_gelu_reference,
     .in = {{INPUT_FLOAT, DIMS(5, 7)}, {INPUT_FLOAT, DIMS(16, 7), -0.5, 0.5}},
     .out = {DIMS(5, 16)},
     .block_fuses = true,
     TOLERANCE_STAGES},
    {.name = "linear_gelu, bias",
     .build = linear_gelu_build,
     .reference = linear_gelu_reference,
     .in = {{INPUT_FLOAT, DIMS(9, 7)}, {INPUT_F32, DIMS(17, 7), -0.5, 0.5}, {INPUT_F32, DIMS(17)}},
     .out = {DIMS(9, 17)},
     .block_fuses = true,
     TOLERANCE_STAGES},
    LINEAR_BIAS("linear tied", linear_tied, DIMS(4, 6), DIMS(6, 6), DIMS(6), DIMS(4, 6)),
    {.name = "linear with residual",
     .build = linear_residual_build,
     .reference = linear_residual_reference,
     .in = {{INPUT_FLOAT, DIMS(4, 9)}, {INPUT_F32, DIMS(9, 9), -0.5, 0.5}, {INPUT_F32, DIMS(9)}},
     .out = {DIMS(4, 9)},
     .block_fuses = true,
     TOLERANCE_STAGES},
    {.name = "linear fan",
     .build = linear_fan_build,
     .reference = linear_fan_reference,
     .in = {{INPUT_FLOAT, DIMS(4, 9)}, {INPUT_F32, DIMS(9, 9), -0.5, 0.5}},
     .out = {DIMS(4, 9)},
     TOLERANCE_STAGES},
    {.name = "linear with the table as head",
     .build = linear_head_build,
     .reference = linear_head_reference,
     .in = {{INPUT_F32, DIMS(11, 6)}, {INPUT_INDEX, DIMS(2, 4), 0, 11}},
     .out = {DIMS(2, 4, 11)},
     .n = {2},
     TOLERANCE_STAGES},
    MATMUL("matmul", DIMS(3, 5), DIMS(5, 7), DIMS(3, 7), 0, 0),
    MATMUL("matmul a^T", DIMS(5, 3), DIMS(5, 7), DIMS(3, 7), 1, 0),
    MATMUL("matmul b^T", DIMS(3, 5), DIMS(7, 5), DIMS(3, 7), 0, 1),
    MATMUL("matmul a^T b^T", DIMS(5, 3), DIMS(7, 5), DIMS(3, 7), 1, 1),
    MATMUL("matmul batched", DIMS(4, 3, 5), DIMS(4, 5, 2), DIMS(4, 3, 2), 0, 0),
    MATMUL("matmul batched a^T", DIMS(4, 5, 3), DIMS(4, 5, 2), DIMS(4, 3, 2), 1, 0),
    MATMUL("matmul batched b^T", DIMS(4, 3, 5), DIMS(4, 2, 5), DIMS(4, 3, 2), 0, 1),
    MATMUL("matmul batched a^T b^T", DIMS(2, 2, 5, 3), DIMS(2, 2, 2, 5), DIMS(2, 2, 3, 2), 1, 1),
    MATMUL("matmul batch of one", DIMS(1, 1, 3, 5), DIMS(1, 1, 5, 2), DIMS(1, 1, 3, 2), 0, 0),
    MATMUL("matmul of ones", DIMS(1, 1), DIMS(1, 1), DIMS(1, 1), 0, 0),
    MATMUL("matmul dots", DIMS(3, 1, 9), DIMS(3, 9, 1), DIMS(3, 1, 1), 0, 0),
    MATMUL("matmul outer", DIMS(3, 9, 1), DIMS(3, 1, 9), DIMS(3, 9, 9), 0, 0),
    MATMUL("matmul wide", DIMS(2, 65, 33), DIMS(2, 33, 67), DIMS(2, 65, 67), 0, 0),
    {.name = "matmul with its own transpose",
     .build = gram_build,
     .reference = gram_reference,
     .in = {{INPUT_FLOAT, DIMS(5, 9)}},
     .out = {DIMS(5, 5)},
     TOLERANCE_PRODUCT},
    PATCH("patch_embed", DIMS(2, 3, 8, 12), DIMS(5, 3, 4, 4), DIMS(2, 6, 5)),
    PATCH("patch_embed of pixels", DIMS(1, 3, 2, 3), DIMS(4, 3, 1, 1), DIMS(1, 6, 4)),
    PATCH("patch_embed of one patch", DIMS(2, 1, 3, 3), DIMS(2, 1, 3, 3), DIMS(2, 1, 2)),
    {.name = "patch_embed, bias",
     .build = patch_embed_build,
     .reference = patch_embed_reference,
     .in = {{INPUT_CONSTANT, DIMS(2, 3, 4, 6)},
            {INPUT_F32, DIMS(5, 3, 2, 2), -0.5, 0.5},
            {INPUT_F32, DIMS(5)}},
     .out = {DIMS(2, 6, 5)},
     TOLERANCE_PRODUCT},
    GATHER("gather", DIMS(7, 5), DIMS(3, 4), DIMS(3, 4, 5), 7),
    GATHER("gather one", DIMS(7, 5), DIMS0, DIMS(5), 7),
    GATHER("gather scalars", DIMS(7), DIMS(9), DIMS(9), 7),
    GATHER("gather from one row", DIMS(1, 3), DIMS(6), DIMS(6, 3), 1),
    GATHER("gather of rank 3", DIMS(4, 3, 2), DIMS(5), DIMS(5, 3, 2), 4),
    EXCHANGE("exchange rows", DIMS(7, 5), DIMS(9), DIMS(9, 5), 7),
    EXCHANGE("exchange scalars", DIMS(7), DIMS(4), DIMS(4), 7),
    EXCHANGE("exchange one row", DIMS(1, 3), DIMS(6), DIMS(6, 3), 1),
    EXCHANGE("exchange of rank 3", DIMS(4, 3, 2), DIMS(5), DIMS(5, 3, 2), 4),
    GATHER("gather large", DIMS(50, 129), DIMS(700), DIMS(700, 129), 50),
    EMBEDDING("embedding", DIMS(9, 5), DIMS(3, 4), DIMS(3, 4, 5), 9, -1),
    EMBEDDING("embedding with padding", DIMS(4, 5), DIMS(3, 6), DIMS(3, 6, 5), 4, 1),
    EMBEDDING("embedding of padding alone", DIMS(4, 5), DIMS(6), DIMS(6, 5), 1, 0),
    EMBEDDING("embedding large", DIMS(1000, 33), DIMS(9, 77), DIMS(9, 77, 33), 1000, 7),
    SCATTER("scatter_add", DIMS(3, 4, 6), DIMS(3, 4), DIMS(5, 6), -1, false, false),
    SCATTER("scatter_add to f32", DIMS(12, 6), DIMS(12), DIMS(5, 6), -1, true, false),
    SCATTER("scatter_add of one", DIMS(1, 6), DIMS(1), DIMS(5, 6), -1, false, false),
    SCATTER("scatter_add with padding", DIMS(12, 6), DIMS(12), DIMS(5, 6), 3, true, true),
};

#endif
