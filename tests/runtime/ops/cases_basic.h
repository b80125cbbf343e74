/* Cases of constants, casts, arithmetic with scalars and biases, and elementwise functions. */
#ifndef WEFT_TESTS_RUNTIME_OPS_CASES_BASIC_H
#define WEFT_TESTS_RUNTIME_OPS_CASES_BASIC_H

#include "tests/runtime/ops/op_case.h"

/* One rounding of the result in f32, a few in sums; bf16 rounds to 8 bits (2^-9 relative). */
#define TOLERANCE_MAP .tolerance = {1e-6, 4e-3}, .gradient_tolerance = {2e-6, 8e-3}
/* Gradients of tanh and sigmoid read their rounded result y: 1 - y^2 loses up to 5 bits in range.
 */
#define TOLERANCE_FUNCTION .tolerance = {2e-6, 4e-3}, .gradient_tolerance = {4e-6, 3e-2}

#define LARGE 70001 /* more than one thread takes, and no multiple of anything */

/* A reference that is a function of one element of each input. */
#define ELEMENTWISE(name_, expression)                                                             \
    static inline void name_##_reference(const struct case_reference *r)                           \
    {                                                                                              \
        const float *f = r->c->f;                                                                  \
        int64_t count = case_count(r->c, 0);                                                       \
        const double *a = r->in[0];                                                                \
        const double *b = r->c->in[1].kind ? r->in[1] : r->in[0];                                  \
        for (int64_t i = 0; i < count; i++) {                                                      \
            double x = a[i];                                                                       \
            double y = case_count(r->c, r->c->in[1].kind ? 1 : 0) == count ? b[i] : b[0];          \
            (void)x, (void)y, (void)f;                                                             \
            r->out[0][i] = (expression);                                                           \
        }                                                                                          \
    }
#define BUILDER(name_, expression)                                                                 \
    static inline void name_##_build(const struct case_build *b)                                   \
    {                                                                                              \
        struct graph *g = b->g;                                                                    \
        struct tensor *x = b->in[0];                                                               \
        struct tensor *y = b->in[1];                                                               \
        const struct op_case *c = b->c;                                                            \
        (void)g, (void)x, (void)y, (void)c;                                                        \
        b->out[0] = (expression);                                                                  \
    }

BUILDER(fill, op_fill(g, b->dtype, c->out[0], c->f[0]))
BUILDER(fill_like, op_mul(g, x, op_fill(g, b->dtype, x->shape, c->f[0])))
BUILDER(identity, op_cast(g, x, DTYPE_F32))
BUILDER(cast_down, op_cast(g, op_cast(g, op_scale(g, x, 0.5f), DTYPE_BF16), DTYPE_F32))
BUILDER(stop, op_mul(g, x, op_stop_gradient(g, x)))
BUILDER(combine, op_combine(g, x, c->f[0], y, c->f[1]))
BUILDER(add_self, op_add(g, x, x))
BUILDER(mul, op_mul(g, x, y))
BUILDER(square, op_mul(g, x, x))
BUILDER(scale, op_scale(g, x, c->f[0]))
BUILDER(scale_by, op_scale_by(g, x, y))
BUILDER(add_gated, op_add_gated(g, x, y, b->in[2]))
BUILDER(add_gated_self, op_add_gated(g, x, x, y))
BUILDER(bias, op_bias(g, x, y))
BUILDER(bias_shaped, op_bias(g, x, op_scale(g, y, 3)))
BUILDER(bias_of_itself,
        op_bias(g, x, op_reshape(g, op_slice(g, x, 0, 0, 1), SHAPE(x->shape.dim[1]))))
BUILDER(scale_by_itself, op_scale_by(g, x, op_slice(g, x, 0, 0, 1)))
BUILDER(gelu, op_gelu(g, x))
BUILDER(quick_gelu, op_quick_gelu(g, x))
BUILDER(tanh, op_tanh(g, x))
BUILDER(relu, op_relu(g, x))
BUILDER(sigmoid, op_sigmoid(g, x))
BUILDER(exp, op_exp(g, x))
BUILDER(log, op_log(g, x))
BUILDER(reciprocal, op_reciprocal(g, x))
BUILDER(clamp, op_clamp(g, x, c->f[0], c->f[1]))
BUILDER(chain, op_tanh(g, op_gelu(g, op_add(g, op_scale(g, x, 0.5f), op_mul(g, x, y)))))

ELEMENTWISE(fill_like, x *(double)f[0])
ELEMENTWISE(identity, x)
ELEMENTWISE(cast_down, 0.5 * x)
ELEMENTWISE(stop, x * r->base[0][i])
ELEMENTWISE(combine, (double)f[0] * x + (double)f[1] * y)
ELEMENTWISE(add_self, 2 * x)
ELEMENTWISE(mul, x *y)
ELEMENTWISE(scale_by, x *y)
ELEMENTWISE(square, x *x)
ELEMENTWISE(scale, (double)f[0] * x)
ELEMENTWISE(add_gated, x + r->in[2][0] * y)
ELEMENTWISE(add_gated_self, x + y * x)
ELEMENTWISE(scale_by_itself, x *a[0])
ELEMENTWISE(gelu, 0.5 * x * (1 + erf(x / sqrt(2))))
ELEMENTWISE(quick_gelu, x / (1 + exp(-1.702 * x)))
ELEMENTWISE(tanh, tanh(x))
ELEMENTWISE(relu, x > 0 ? x : 0)
ELEMENTWISE(sigmoid, 1 / (1 + exp(-x)))
ELEMENTWISE(exp, exp(x))
ELEMENTWISE(log, log(x))
ELEMENTWISE(reciprocal, 1 / x)
ELEMENTWISE(clamp, fmin((double)f[1], fmax((double)f[0], x)))

static inline void fill_reference(const struct case_reference *r)
{
    for (int64_t i = 0; i < shape_count(&r->c->out[0]); i++) {
        r->out[0][i] = (double)r->c->f[0];
    }
}

static inline void chain_reference(const struct case_reference *r)
{
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        double x = r->in[0][i];
        double v = 0.5 * x + x * r->in[1][i];
        r->out[0][i] = tanh(0.5 * v * (1 + erf(v / sqrt(2))));
    }
}

static inline void bias_reference(const struct case_reference *r)
{
    int64_t columns = case_count(r->c, 1);
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        r->out[0][i] =
            r->in[0][i] + (r->c->f[0] != 0 ? (double)r->c->f[0] : 1) * r->in[1][i % columns];
    }
}

static inline void bias_of_itself_reference(const struct case_reference *r)
{
    int64_t columns = r->c->in[0].shape.dim[1];
    for (int64_t i = 0; i < case_count(r->c, 0); i++) {
        r->out[0][i] = r->in[0][i] + r->in[0][i % columns];
    }
}

#define UNARY(what, name_, shape_, ...)                                                            \
    {                                                                                              \
        .name = what, .build = name_##_build, .reference = name_##_reference,                      \
        .in = {{INPUT_FLOAT, shape_, __VA_ARGS__}}, .out = {shape_}, TOLERANCE_FUNCTION            \
    }
#define BINARY(what, build_, shape_, ...)                                                          \
    {                                                                                              \
        .name = what, .build = build_##_build, .reference = build_##_reference,                    \
        .in = {{INPUT_FLOAT, shape_}, {INPUT_FLOAT, shape_}}, .out = {shape_}, TOLERANCE_MAP,      \
        __VA_ARGS__                                                                                \
    }
#define WITH_SCALAR(what, build_, shape_, scalar_)                                                 \
    {                                                                                              \
        .name = what, .build = build_##_build, .reference = build_##_reference,                    \
        .in = {{INPUT_FLOAT, shape_}, {INPUT_F32, scalar_}}, .out = {shape_},                      \
        .tolerance = {1e-6, 4e-3}, .gradient_tolerance = {                                         \
            4e-6,                                                                                  \
            1e-2                                                                                   \
        }                                                                                          \
    }
#define GATED(what, a_, b_, s_)                                                                    \
    {                                                                                              \
        .name = what, .build = add_gated_build, .reference = add_gated_reference,                  \
        .in = {{a_, DIMS(3, 37)}, {b_, DIMS(3, 37)}, {s_, DIMS(1)}}, .out = {DIMS(3, 37)},         \
        .tolerance = {1e-6, 4e-3}, .gradient_tolerance = {                                         \
            4e-6,                                                                                  \
            1e-2                                                                                   \
        }                                                                                          \
    }
#define BIAS(what, build_, shape_, bias_, ...)                                                     \
    {                                                                                              \
        .name = what, .build = build_##_build, .reference = bias_reference,                        \
        .in = {{INPUT_FLOAT, shape_}, {INPUT_F32, bias_}}, .out = {shape_},                        \
        .tolerance = {1e-6, 4e-3}, .gradient_tolerance = {4e-6, 1e-2}, __VA_ARGS__                 \
    }

/* An elementwise function in the shapes that find remainders, single elements and thread borders.
 */
#define FUNCTION_CASES(name_, ...)                                                                 \
    UNARY(#name_ " scalar", name_, DIMS0, __VA_ARGS__),                                            \
        UNARY(#name_ " [1,1]", name_, DIMS(1, 1), __VA_ARGS__),                                    \
        UNARY(#name_ " [3,5,17]", name_, DIMS(3, 5, 17), __VA_ARGS__),                             \
        UNARY(#name_ " large", name_, DIMS(LARGE), __VA_ARGS__)

static const struct op_case cases_basic[] = {
    {.name = "fill",
     .build = fill_build,
     .reference = fill_reference,
     .out = {DIMS(3, 1, 7)},
     .f = {-1.5f},
     .no_gradient = true,
     TOLERANCE_MAP},
    {.name = "fill large",
     .build = fill_build,
     .reference = fill_reference,
     .out = {DIMS(LARGE)},
     .f = {0.1f},
     .no_gradient = true,
     TOLERANCE_MAP},
    UNARY("cast to f32", identity, DIMS(3, 17), -2, 2),
    {.name = "cast there and back",
     .build = cast_down_build,
     .reference = cast_down_reference,
     .in = {{INPUT_F32, DIMS(5, 13)}},
     .out = {DIMS(5, 13)},
     .tolerance = {4e-3, 4e-3},
     .gradient_tolerance = {4e-3, 4e-3}},
    BINARY("combine sum", combine, DIMS(3, 5, 7), .f = {1, 1}),
    BINARY("combine 1 and -0.5", combine, DIMS(3, 5, 7), .f = {1, -0.5f}),
    BINARY("combine 0.75 and 1", combine, DIMS(3, 5, 7), .f = {0.75f, 1}),
    BINARY("combine 2 and -3", combine, DIMS(1, 5, 7), .f = {2, -3}),
    BINARY("combine scalar", combine, DIMS0, .f = {2, -3}),
    BINARY("combine large", combine, DIMS(LARGE), .f = {2, -3}, .checks = 20),
    UNARY("add to itself", add_self, DIMS(7, 3), -2, 2),
    BINARY("mul", mul, DIMS(2, 3, 31), .f = {0}),
    BINARY("mul scalar", mul, DIMS0, .f = {0}),
    BINARY("mul large", mul, DIMS(LARGE), .checks = 20),
    UNARY("mul by itself", square, DIMS(5, 5), -2, 2),
    UNARY("mul by its stopped self", stop, DIMS(5, 5), -2, 2),
    {.name = "mul by fill",
     .build = fill_like_build,
     .reference = fill_like_reference,
     .in = {{INPUT_FLOAT, DIMS(2, 9)}},
     .out = {DIMS(2, 9)},
     .f = {0.25f},
     TOLERANCE_MAP},
    {.name = "scale",
     .build = scale_build,
     .reference = scale_reference,
     .in = {{INPUT_FLOAT, DIMS(4, 1, 11)}},
     .out = {DIMS(4, 1, 11)},
     .f = {-0.375f},
     TOLERANCE_MAP},
    {.name = "scale by 1",
     .build = scale_build,
     .reference = scale_reference,
     .in = {{INPUT_FLOAT, DIMS(4, 1, 11)}},
     .out = {DIMS(4, 1, 11)},
     .f = {1},
     TOLERANCE_MAP},
    WITH_SCALAR("scale_by", scale_by, DIMS(3, 37), DIMS(1)),
    WITH_SCALAR("scale_by scalar", scale_by, DIMS0, DIMS0),
    WITH_SCALAR("scale_by a [1,1] factor", scale_by, DIMS(5), DIMS(1, 1)),
    WITH_SCALAR("add_gated to itself", add_gated_self, DIMS(3, 37), DIMS(1)),
    {.name = "scale_by its own first element",
     .build = scale_by_itself_build,
     .reference = scale_by_itself_reference,
     .in = {{INPUT_FLOAT, DIMS(LARGE)}},
     .out = {DIMS(LARGE)},
     .f32_only = true,
     .checks = 8,
     .tolerance = {1e-6, 0},
     .gradient_tolerance = {4e-6, 0}},
    GATED("add_gated", INPUT_FLOAT, INPUT_FLOAT, INPUT_F32),
    GATED("add_gated, constant gate", INPUT_FLOAT, INPUT_FLOAT, INPUT_F32_CONSTANT),
    GATED("add_gated, constant branch", INPUT_FLOAT, INPUT_CONSTANT, INPUT_F32),
    GATED("add_gated, constant residual", INPUT_CONSTANT, INPUT_FLOAT, INPUT_F32),
    GATED("add_gated, only the gate", INPUT_CONSTANT, INPUT_CONSTANT, INPUT_F32),
    GATED("add_gated, only the residual", INPUT_FLOAT, INPUT_CONSTANT, INPUT_F32_CONSTANT),
    BIAS("bias [3,5,17]", bias, DIMS(3, 5, 17), DIMS(17), .f = {0}),
    BIAS("bias of one row", bias, DIMS(17), DIMS(17), .f = {0}),
    BIAS("bias of one column", bias, DIMS(9, 1), DIMS(1), .f = {0}),
    BIAS("bias [1,C]", bias, DIMS(3, 7), DIMS(1, 7), .f = {0}),
    BIAS("bias [1,C], computed", bias_shaped, DIMS(3, 7), DIMS(1, 7), .f = {3}),
    BIAS("bias large", bias, DIMS(301, 233), DIMS(233), .checks = 20),
    {.name = "bias that is the first row",
     .build = bias_of_itself_build,
     .reference = bias_of_itself_reference,
     .in = {{INPUT_FLOAT, DIMS(5, 9)}},
     .out = {DIMS(5, 9)},
     .f32_only = true,
     .tolerance = {1e-6, 0},
     .gradient_tolerance = {4e-6, 0}},
    FUNCTION_CASES(gelu, -6, 6),
    FUNCTION_CASES(quick_gelu, -6, 6),
    FUNCTION_CASES(tanh, -1.5, 1.5),
    FUNCTION_CASES(relu, -4, 4, .on_grid = true),
    FUNCTION_CASES(sigmoid, -3, 3),
    FUNCTION_CASES(exp, -3, 2),
    FUNCTION_CASES(log, 0.25, 4),
    FUNCTION_CASES(reciprocal, 0.5, 4),
    {.name = "clamp",
     .build = clamp_build,
     .reference = clamp_reference,
     .in = {{INPUT_FLOAT, DIMS(3, 41), .on_grid = true}},
     .out = {DIMS(3, 41)},
     .f = {-1, 0.5f},
     TOLERANCE_FUNCTION},
    {.name = "clamp from above",
     .build = clamp_build,
     .reference = clamp_reference,
     .in = {{INPUT_FLOAT, DIMS(1), .low = 1, .high = 1.1, .on_grid = true}},
     .out = {DIMS(1)},
     .f = {-INFINITY, 1.5f},
     TOLERANCE_FUNCTION},
    {.name = "chain of elementwise ops",
     .build = chain_build,
     .reference = chain_reference,
     .in = {{INPUT_FLOAT, DIMS(9, 29)}, {INPUT_FLOAT, DIMS(9, 29)}},
     .out = {DIMS(9, 29)},
     .tolerance = {2e-6, 2e-2},
     .gradient_tolerance = {4e-6, 3e-2}},
};

#endif
