/*
 * What builders refuse: every shape and dtype rule with its message, sizes of zero and below, sizes
 * beyond 64 bits, and what a kernel refuses at run time. Messages begin with the module path.
 */
#include "tests/runtime/ops/op_check.h"

/* An input of any dtype, named after how many there are. */
static struct tensor *input(struct graph *g, enum dtype dtype, struct shape shape)
{
    char name[32];
    snprintf(name, sizeof name, "in%lld", (long long)graph_num_inputs(g));
    return graph_input(g, name, dtype, shape);
}

#define F32(...)  input(g, DTYPE_F32, SHAPE(__VA_ARGS__))
#define BF16(...) input(g, DTYPE_BF16, SHAPE(__VA_ARGS__))
#define I32(...)  input(g, DTYPE_I32, SHAPE(__VA_ARGS__))
#define U8(...)   input(g, DTYPE_U8, SHAPE(__VA_ARGS__))

static struct tensor *concat(struct graph *g, struct tensor *a, struct tensor *b, int axis)
{
    struct tensor *inputs[] = {a, b};
    return op_concat(g, inputs, 2, axis);
}

static struct tensor *concat_many(struct graph *g, int count)
{
    struct tensor *inputs[16];
    for (int i = 0; i < 16; i++) {
        inputs[i] = F32(1, 2);
    }
    return op_concat(g, inputs, count, 0);
}

static struct tensor *permute(struct graph *g, struct tensor *x, int a, int b)
{
    return op_permute(g, x, (int[]){a, b});
}

static struct tensor *pixels(struct graph *g, struct tensor *x, float std, enum dtype dtype)
{
    const float mean[] = {0, 0, 0};
    return op_normalize_pixels(g, x, mean, (float[]){1, std, 1}, dtype);
}

static struct tensor *norm(struct graph *g, struct tensor *x, struct tensor *gain,
                           struct tensor *bias, float eps)
{
    return op_layer_norm(g, x, gain, bias, eps);
}

static struct tensor *attention(struct graph *g, struct tensor *q, struct tensor *k,
                                struct tensor *v, struct tensor *mask,
                                struct attention_options options)
{
    return op_attention(g, q, k, v, mask, &options);
}

static struct tensor *attention_kv(struct graph *g, struct tensor *q, struct tensor *kv,
                                   int64_t heads)
{
    return op_attention_kv(g, q, kv, NULL, &(struct attention_options){.heads = heads});
}

static struct tensor *attention_qkv(struct graph *g, struct tensor *qkv, struct tensor *mask,
                                    struct attention_options options)
{
    return op_attention_qkv(g, qkv, mask, &options);
}

#define OPTIONS(...) ((struct attention_options){__VA_ARGS__})

struct refusal {
    struct tensor *(*build)(struct graph *g);
    const char *message;
    int line;
};

/* A function expression per row would need a name each; a row number does. */
#define REFUSALS(X)                                                                                \
    X(op_fill(g, DTYPE_U8, SHAPE(2), 0), "fill: only f32, bf16 and i32")                           \
    X(op_fill(g, DTYPE_F32, SHAPE(2, 0), 0), "fill: every size must be at least 1, got [2,0]")     \
    X(op_fill(g, DTYPE_F32, SHAPE(-3), 0), "fill: every size must be at least 1, got [-3]")        \
    X(op_fill(g, DTYPE_F32, SHAPE(1LL << 40, 1LL << 40), 0),                                       \
      "fill: [1099511627776,1099511627776] has more elements than can be addressed")               \
    X(op_exchange_rows(g, F32(4, 2), F32(3)), "exchange_rows: rows of [4,2] by index f32 [3]")     \
    X(op_exchange_rows(g, F32(4, 2), I32(3, 1)),                                                   \
      "exchange_rows: rows of [4,2] by index i32 [3,1]")                                           \
    X(op_exchange_rows(g, input(g, DTYPE_U8, SHAPE_SCALAR), I32(1)),                               \
      "exchange_rows: rows of [] by index i32 [1]")                                                \
    X(op_draw_negatives(g, BF16(2, 2), true, "n", NULL), "draw_negatives: bf16 [2,2]")             \
    X(op_draw_negatives(g, F32(4), true, "n", NULL), "draw_negatives: f32 [4]")                    \
    X(op_draw_negatives(g, F32(3, 2), false, "n", NULL),                                           \
      "draw_negatives: [3,2] lacks columns of its positives")                                      \
    X(op_position_ids(g, F32(2, 3), 1), "position_ids: f32 [2,3]")                                 \
    X(op_position_ids(g, I32(6), 1), "position_ids: i32 [6]")                                      \
    X(op_row_numbers(g, 0, true), "row_numbers: every size must be at least 1, got [0]")           \
    X(F32(2, 0), "input in0: every size must be at least 1, got [2,0]")                            \
    X(F32(-1), "input in0: every size must be at least 1, got [-1]")                               \
    X(graph_parameter_named(g, "w", SHAPE(0, 3), INIT(INIT_ONES, 0)),                              \
      "parameter w: every size must be at least 1, got [0,3]")                                     \
    X(graph_parameter_named(g, "w", SHAPE(INT64_MAX, 2), INIT(INIT_ONES, 0)),                      \
      "parameter w: [9223372036854775807,2] has more elements than can be addressed")              \
    X(op_cast(g, I32(2), DTYPE_F32), "cast: i32 to f32")                                           \
    X(op_cast(g, F32(2), DTYPE_U8), "cast: f32 to u8")                                             \
    X(op_reshape(g, F32(2, 3), SHAPE(5)), "reshape: [2,3] to [5]")                                 \
    X(op_reshape(g, F32(2, 3), SHAPE(-2, -3)),                                                     \
      "reshape: every size must be at least 1, got [-2,-3]")                                       \
    X(op_reshape(g, F32(2, 3), SHAPE_SCALAR), "reshape: [2,3] to []")                              \
    X(permute(g, F32(2, 3), 0, 0), "permute: the axes are not a permutation of 0..1")              \
    X(permute(g, F32(2, 3), 1, 2), "permute: the axes are not a permutation of 0..1")              \
    X(permute(g, F32(2, 3), -1, 0), "permute: the axes are not a permutation of 0..1")             \
    X(op_slice(g, F32(4, 3), 2, 0, 1), "slice: [0, 1) on axis 2 of [4,3]")                         \
    X(op_slice(g, F32(4, 3), -1, 0, 1), "slice: [0, 1) on axis -1 of [4,3]")                       \
    X(op_slice(g, F32(4, 3), 0, 2, 5), "slice: [2, 5) on axis 0 of [4,3]")                         \
    X(op_slice(g, F32(4, 3), 1, 2, 2), "slice: [2, 2) on axis 1 of [4,3]")                         \
    X(op_slice(g, F32(4, 3), 1, -1, 2), "slice: [-1, 2) on axis 1 of [4,3]")                       \
    X(op_pad(g, F32(4, 3), 1, 2, 4), "pad: [4,3] to 4 from 2 on axis 1")                           \
    X(op_pad(g, F32(4, 3), 5, 0, 9), "pad: [4,3] to 9 from 0 on axis 5")                           \
    X(op_pad(g, F32(4, 3), 0, -1, 9), "pad: [4,3] to 9 from -1 on axis 0")                         \
    X(concat(g, F32(2, 3), F32(2, 4), 0), "concat: f32 [2,3] and f32 [2,4] on axis 0")             \
    X(concat(g, F32(2, 3), F32(2), 1), "concat: f32 [2,3] and f32 [2] on axis 1")                  \
    X(concat(g, F32(2, 3), BF16(2, 3), 0), "concat: f32 [2,3] and bf16 [2,3] on axis 0")           \
    X(concat(g, F32(2, 3), F32(2, 3), 2), "concat: axis 2 of [2,3]")                               \
    X(concat(g, F32(2, 3), F32(2, 3), -1), "concat: axis -1 of [2,3]")                             \
    X(concat_many(g, 9), "concat: takes 1 to 8 inputs, got 9")                                     \
    X(concat_many(g, 0), "concat: takes 1 to 8 inputs, got 0")                                     \
    X(op_broadcast(g, F32(2, 3), SHAPE(4, 3)), "broadcast: [2,3] to [4,3]")                        \
    X(op_broadcast(g, F32(1, 3), SHAPE(3)), "broadcast: [1,3] to [3]")                             \
    X(op_broadcast(g, F32(1, 3), SHAPE(0, 3)), "expand: every size must be at least 1, got [0,3]") \
    X(op_broadcast(g, I32(1, 3), SHAPE(2, 3)), "expand: needs f32 or bf16, not i32")               \
    X(op_roll(g, F32(2, 3), 1, 1), "roll: needs [B,Y,X,C], not [2,3]")                             \
    X(op_window_partition(g, F32(1, 4, 6, 2), 4, 0),                                               \
      "window_partition: [1,4,6,2] does not divide into windows of 4")                             \
    X(op_window_partition(g, F32(1, 4, 6, 2), 0, 0),                                               \
      "window_partition: [1,4,6,2] does not divide into windows of 0")                             \
    X(op_window_partition(g, F32(4, 6, 2), 2, 0),                                                  \
      "window_partition: [4,6,2] does not divide into windows of 2")                               \
    X(op_window_reverse(g, F32(6, 4, 2), 2, 0, 4, 5),                                              \
      "window_reverse: [6,4,2] to 4 x 5 by windows of 2")                                          \
    X(op_window_reverse(g, F32(5, 4, 2), 2, 0, 4, 6),                                              \
      "window_reverse: [5,4,2] to 4 x 6 by windows of 2")                                          \
    X(op_window_reverse(g, F32(6, 4, 2), -2, 0, 4, 6),                                             \
      "window_reverse: [6,4,2] to 4 x 6 by windows of -2")                                         \
    X(op_patch_merge(g, F32(1, 3, 4, 2)),                                                          \
      "patch_merge: needs [B,Y,X,C] with even Y and X, not [1,3,4,2]")                             \
    X(op_patch_merge(g, F32(4, 4)), "patch_merge: needs [B,Y,X,C] with even Y and X, not [4,4]")   \
    X(op_add(g, F32(2, 3), F32(3, 2)), "combine: f32 [2,3] and f32 [3,2] differ")                  \
    X(op_add(g, F32(2, 3), BF16(2, 3)), "combine: f32 [2,3] and bf16 [2,3] differ")                \
    X(op_add(g, I32(2), I32(2)), "combine: needs f32 or bf16, not i32")                            \
    X(op_mul(g, F32(2, 3), F32(6)), "mul: f32 [2,3] and f32 [6] differ")                           \
    X(op_scale(g, U8(2), 2), "scale: needs f32 or bf16, not u8")                                   \
    X(op_scale_by(g, F32(3), F32(2)),                                                              \
      "scale_by: the factor must be f32 of 1 elements, not f32 [2]")                               \
    X(op_scale_by(g, BF16(3), BF16(1)),                                                            \
      "scale_by: the factor must be f32 of 1 elements, not bf16 [1]")                              \
    X(op_add_gated(g, F32(3), F32(4), F32(1)), "add_gated: f32 [3] and f32 [4] differ")            \
    X(op_add_gated(g, F32(3), F32(3), F32(3)),                                                     \
      "add_gated: the gate must be f32 of 1 elements, not f32 [3]")                                \
    X(op_bias(g, F32(2, 3), F32(2)), "bias: the bias must be f32 of 3 elements, not f32 [2]")      \
    X(op_bias(g, BF16(2, 3), BF16(3)), "bias: the bias must be f32 of 3 elements, not bf16 [3]")   \
    X(op_gelu(g, I32(2)), "gelu: needs f32 or bf16, not i32")                                      \
    X(op_quick_gelu(g, U8(2)), "quick_gelu: needs f32 or bf16, not u8")                            \
    X(op_tanh(g, I32(2)), "tanh: needs f32 or bf16, not i32")                                      \
    X(op_relu(g, I32(2)), "relu: needs f32 or bf16, not i32")                                      \
    X(op_sigmoid(g, I32(2)), "sigmoid: needs f32 or bf16, not i32")                                \
    X(op_exp(g, I32(2)), "exp: needs f32 or bf16, not i32")                                        \
    X(op_log(g, I32(2)), "log: needs f32 or bf16, not i32")                                        \
    X(op_reciprocal(g, I32(2)), "reciprocal: needs f32 or bf16, not i32")                          \
    X(op_clamp(g, F32(2), 2, 1), "clamp: the range [2, 1] is empty")                               \
    X(op_clamp(g, F32(2), NAN, 1), "clamp: the range [nan, 1] is empty")                           \
    X(op_linear(g, F32(2, 3), F32(4, 5), NULL), "linear: [2,3] x [4,5]^T")                         \
    X(op_linear(g, F32(2, 3), F32(3), NULL), "linear: [2,3] x [3]^T")                              \
    X(op_linear(g, I32(2, 3), F32(4, 3), NULL),                                                    \
      "linear: x is i32 and w is f32; both must be f32 or both bf16")                              \
    X(op_linear(g, F32(2, 3), I32(4, 3), NULL),                                                    \
      "linear: x is f32 and w is i32; both must be f32 or both bf16")                              \
    X(op_linear(g, F32(2, 3), F32(4, 3), F32(3)), "linear: bias must be f32 [4], not f32 [3]")     \
    X(op_linear(g, F32(2, 3), F32(4, 3), F32(1, 4)),                                               \
      "linear: bias must be f32 [4], not f32 [1,4]")                                               \
    X(op_linear(g, input(g, DTYPE_F32, SHAPE_SCALAR), F32(4, 1), NULL), "linear: [] x [4,1]^T")    \
    X(op_linear_gelu(g, F32(2, 3), F32(4, 5), NULL), "linear: [2,3] x [4,5]^T")                    \
    X(op_linear_transposed(g, F32(2, 3), F32(4, 3), NULL), "linear: [2,3] x [4,3]")                \
    X(op_matmul(g, F32(2, 3), F32(4, 5), false, false), "matmul: [2,3] x [4,5]")                   \
    X(op_matmul(g, F32(2, 3), F32(4, 5), true, true), "matmul: [2,3]^T x [4,5]^T")                 \
    X(op_matmul(g, F32(2, 3), F32(3), false, false), "matmul: [2,3] x [3]")                        \
    X(op_matmul(g, F32(2, 2, 3), F32(3, 3, 2), false, false), "matmul: [2,2,3] x [3,3,2]")         \
    X(op_matmul(g, F32(2, 3), BF16(3, 2), false, false),                                           \
      "matmul: f32 x bf16; both must be f32 or both bf16")                                         \
    X(op_patch_embed(g, F32(1, 3, 8, 9), F32(5, 3, 4, 4), NULL),                                   \
      "patch_embed: image [1,3,8,9] does not divide into patches of [5,3,4,4]")                    \
    X(op_patch_embed(g, F32(1, 3, 8, 8), F32(5, 3, 4, 2), NULL),                                   \
      "patch_embed: image [1,3,8,8] does not divide into patches of [5,3,4,2]")                    \
    X(op_patch_embed(g, F32(1, 3, 8, 8), F32(5, 1, 4, 4), NULL),                                   \
      "patch_embed: image [1,3,8,8] does not divide into patches of [5,1,4,4]")                    \
    X(op_patch_embed(g, F32(3, 8, 8), F32(5, 3, 4, 4), NULL),                                      \
      "patch_embed: image [3,8,8] does not divide into patches of [5,3,4,4]")                      \
    X(pixels(g, F32(1, 2, 2, 3), 1, DTYPE_F32),                                                    \
      "normalize_pixels: needs u8 [B,Y,X,3], not f32 [1,2,2,3]")                                   \
    X(pixels(g, U8(1, 3, 2, 2), 1, DTYPE_F32),                                                     \
      "normalize_pixels: needs u8 [B,Y,X,3], not u8 [1,3,2,2]")                                    \
    X(pixels(g, U8(1, 2, 2, 3), 0, DTYPE_F32), "normalize_pixels: std must be above 0, not 0")     \
    X(pixels(g, U8(1, 2, 2, 3), 1, DTYPE_I32),                                                     \
      "normalize_pixels: result must be f32 or bf16, not i32")                                     \
    X(op_gather(g, F32(4, 3), F32(2)), "gather: table f32, index f32, result f32")                 \
    X(op_gather(g, I32(4, 3), I32(2)), "gather: table i32, index i32, result i32")                 \
    X(op_gather(g, input(g, DTYPE_F32, SHAPE_SCALAR), I32(2)), "gather: table [], index [2]")      \
    X(op_gather(g, F32(2, 2, 2, 2), I32(2, 2, 2, 2)), "gather: table [2,2,2,2], index [2,2,2,2]")  \
    X(op_embedding(g, F32(4, 3), I32(2), -1, DTYPE_I32),                                           \
      "gather: table f32, index i32, result i32")                                                  \
    X(op_embedding(g, BF16(4, 3), I32(2), -1, DTYPE_F32),                                          \
      "gather: table bf16, index i32, result f32")                                                 \
    X(op_scatter_add(g, F32(4, 3), I32(5), 9, -1, DTYPE_F32),                                      \
      "scatter_add: f32 [4,3] by index i32 [5] to f32")                                            \
    X(op_scatter_add(g, F32(4, 3), F32(4), 9, -1, DTYPE_F32),                                      \
      "scatter_add: f32 [4,3] by index f32 [4] to f32")                                            \
    X(op_scatter_add(g, F32(4, 3), I32(4), 9, -1, DTYPE_BF16),                                     \
      "scatter_add: f32 [4,3] by index i32 [4] to bf16")                                           \
    X(op_scatter_add(g, F32(4, 3), I32(4), 0, -1, DTYPE_F32),                                      \
      "scatter_add: every size must be at least 1, got [0,3]")                                     \
    X(norm(g, F32(2, 3), F32(2), F32(3), 0),                                                       \
      "layer_norm: the gain must be f32 of 3 elements, not f32 [2]")                               \
    X(norm(g, F32(2, 3), F32(3), F32(4), 0),                                                       \
      "layer_norm: the bias must be f32 of 3 elements, not f32 [4]")                               \
    X(norm(g, BF16(2, 3), BF16(3), F32(3), 0),                                                     \
      "layer_norm: the gain must be f32 of 3 elements, not bf16 [3]")                              \
    X(norm(g, F32(2, 3), F32(3), F32(3), -1), "layer_norm: eps must not be negative")              \
    X(norm(g, I32(2, 3), F32(3), F32(3), 0), "layer_norm: needs f32 or bf16, not i32")             \
    X(op_add_layer_norm(g, F32(2, 3), F32(3), F32(3), F32(3), 0, NULL),                            \
      "layer_norm: f32 [2,3] and f32 [3] differ")                                                  \
    X(op_softmax(g, input(g, DTYPE_F32, SHAPE_SCALAR)), "softmax: needs at least one dimension")   \
    X(op_softmax(g, I32(3)), "softmax: needs f32 or bf16, not i32")                                \
    X(op_log_softmax(g, input(g, DTYPE_F32, SHAPE_SCALAR)),                                        \
      "log_softmax: needs at least one dimension")                                                 \
    X(op_l2_normalize(g, input(g, DTYPE_F32, SHAPE_SCALAR), 0),                                    \
      "l2_normalize: needs at least one dimension")                                                \
    X(op_l2_normalize(g, I32(3), 0), "l2_normalize: needs f32 or bf16, not i32")                   \
    X(op_l2_normalize(g, F32(3), -1), "l2_normalize: eps must not be negative")                    \
    X(op_cosine(g, F32(2, 3), F32(3, 2), 0), "cosine: f32 [2,3] and f32 [3,2] differ")             \
    X(op_cosine(g, input(g, DTYPE_F32, SHAPE_SCALAR), input(g, DTYPE_F32, SHAPE_SCALAR), 0),       \
      "cosine: needs at least one dimension")                                                      \
    X(op_cosine(g, F32(2, 3), F32(2, 3), -1), "cosine: eps must not be negative")                  \
    X(op_sum(g, F32(2, 3), 1, 3), "sum: axes [1, 3) of [2,3]")                                     \
    X(op_sum(g, F32(2, 3), -1, 1), "sum: axes [-1, 1) of [2,3]")                                   \
    X(op_mean(g, F32(2, 3), 2, 1), "sum: axes [2, 1) of [2,3]")                                    \
    X(op_sum(g, I32(2, 3), 0, 1), "sum: needs f32 or bf16, not i32")                               \
    X(op_dropout(g, F32(4, 3), 1, 4, "d"), "dropout: the rate must be in [0, 1), not 1")           \
    X(op_dropout(g, F32(4, 3), -0.5f, 4, "d"), "dropout: the rate must be in [0, 1), not -0.5")    \
    X(op_dropout(g, F32(4, 3), NAN, 4, "d"), "dropout: the rate must be in [0, 1), not nan")       \
    X(op_dropout(g, F32(4, 3), 0.5f, 3, "d"), "dropout: [4,3] does not hold copies of 3 samples")  \
    X(op_dropout(g, F32(4, 3), 0.5f, 0, "d"), "dropout: [4,3] does not hold copies of 0 samples")  \
    X(op_dropout(g, I32(4, 3), 0.5f, 4, "d"), "dropout: needs f32 or bf16, not i32")               \
    X(op_dropout(g, input(g, DTYPE_F32, SHAPE_SCALAR), 0.5f, 1, "d"),                              \
      "dropout: [] does not hold copies of 1 samples")                                             \
    X(op_add_drop_path(g, F32(4, 3), F32(4, 2), 0.5f, 4, "d"),                                     \
      "add_drop_path: f32 [4,3] and f32 [4,2] differ")                                             \
    X(op_add_drop_path(g, F32(4, 3), F32(4, 3), 1.5f, 4, "d"),                                     \
      "add_drop_path: the rate must be in [0, 1), not 1.5")                                        \
    X(op_add_drop_path(g, F32(4, 3), F32(4, 3), 0.5f, 8, "d"),                                     \
      "add_drop_path: [4,3] does not hold copies of 8 samples")                                    \
    X(op_cross_entropy(g, F32(2, 3, 4), I32(6), -1, NULL),                                         \
      "cross_entropy: logits must be float [N,V], not f32 [2,3,4]")                                \
    X(op_cross_entropy(g, F32(2, 3), I32(3), -1, NULL),                                            \
      "cross_entropy: targets must be i32 of 2 elements, not i32 [3]")                             \
    X(op_cross_entropy(g, F32(2, 3), F32(2), -1, NULL),                                            \
      "cross_entropy: targets must be i32 of 2 elements, not f32 [2]")                             \
    X(op_target_weights(g, F32(2), -1),                                                            \
      "target_weights: targets must be i32 of 2 elements, not f32 [2]")                            \
    X(op_bce_with_logits(g, F32(2), F32(3)),                                                       \
      "bce_with_logits: logits f32 [2] must be float and targets f32 [3] f32 of the same shape")   \
    X(op_bce_with_logits(g, F32(2), BF16(2)),                                                      \
      "bce_with_logits: logits f32 [2] must be float and targets bf16 [2] f32 of the same shape")  \
    X(op_mse(g, F32(2), F32(3)), "mse: f32 [2] and f32 [3] differ")                                \
    X(op_mse(g, F32(2), BF16(2)), "mse: f32 [2] and bf16 [2] differ")                              \
    X(op_all_gather(g, input(g, DTYPE_F32, SHAPE_SCALAR)),                                         \
      "all_gather: needs at least one dimension")                                                  \
    X(op_reduce_scatter(g, I32(4)), "reduce_scatter: i32 [4] does not divide over 1 ranks")        \
    X(op_all_reduce(g, I32(4)), "all_reduce: needs f32 or bf16, not i32")

#define ATTENTION_REFUSALS(X)                                                                      \
    X(attention_qkv(g, F32(2, 48), NULL, OPTIONS(.heads = 2)),                                     \
      "attention: queries are f32 [2,48]")                                                         \
    X(attention_qkv(g, I32(1, 2, 48), NULL, OPTIONS(.heads = 2)),                                  \
      "attention: queries are i32 [1,2,48]")                                                       \
    X(attention_qkv(g, F32(1, 2, 48), NULL, OPTIONS(.heads = 5)),                                  \
      "attention: [1,2,48] does not divide into 5 heads")                                          \
    X(attention_qkv(g, F32(1, 2, 48), NULL, OPTIONS(.heads = 0)),                                  \
      "attention: [1,2,48] does not divide into 0 heads")                                          \
    X(attention_qkv(g, F32(1, 2, 48), NULL, OPTIONS(.heads = -2)),                                 \
      "attention: [1,2,48] does not divide into -2 heads")                                         \
    X(attention_qkv(g, F32(1, 2, 48), NULL, OPTIONS(.heads = INT64_MAX)),                          \
      "attention: [1,2,48] does not divide into 9223372036854775807 heads")                        \
    X(attention_qkv(g, F32(1, 2, 50), NULL, OPTIONS(.heads = 2)),                                  \
      "attention: [1,2,50] does not divide into 2 heads")                                          \
    X(attention_qkv(g, F32(1, 2, 1536), NULL, OPTIONS(.heads = 1)),                                \
      "attention: head_dim 512 is outside 1..256")                                                 \
    X(attention_qkv(g, F32(1, 2, 48), F32(1, 2), OPTIONS(.heads = 2)),                             \
      "attention: the mask must be i32 [1,2], not f32 [1,2]")                                      \
    X(attention_qkv(g, F32(1, 2, 48), I32(1, 3), OPTIONS(.heads = 2)),                             \
      "attention: the mask must be i32 [1,2], not i32 [1,3]")                                      \
    X(attention_qkv(g, F32(1, 2, 48), NULL, OPTIONS(.heads = 2, .dropout = 1)),                    \
      "attention: dropout 1 is outside [0, 1)")                                                    \
    X(attention_qkv(g, F32(3, 2, 48), NULL, OPTIONS(.heads = 2, .dropout = 0.5f, .samples = 2)),   \
      "attention: a batch of 3 does not hold copies of 2 samples")                                 \
    X(attention_qkv(g, F32(1, 2, 48), NULL, OPTIONS(.heads = 2, .scale = INFINITY)),               \
      "attention: scale inf is not finite")                                                        \
    X(attention_qkv(g, F32(1, 2, 48), NULL, OPTIONS(.heads = 2, .mask_value = 5)),                 \
      "attention: mask_value 5 is not negative")                                                   \
    X(attention(g, F32(1, 2, 16), F32(1, 3, 16), F32(1, 4, 16), NULL, OPTIONS(.heads = 2)),        \
      "attention: queries f32 [1,2,16], keys or values f32 [1,4,16]")                              \
    X(attention(g, F32(1, 2, 16), F32(2, 3, 16), F32(2, 3, 16), NULL, OPTIONS(.heads = 2)),        \
      "attention: queries f32 [1,2,16], keys or values f32 [2,3,16]")                              \
    X(attention(g, F32(1, 2, 16), F32(1, 3, 32), F32(1, 3, 32), NULL, OPTIONS(.heads = 2)),        \
      "attention: queries f32 [1,2,16], keys or values f32 [1,3,32]")                              \
    X(attention(g, F32(1, 2, 16), F32(1, 3, 16), F32(1, 3, 16), NULL,                              \
                OPTIONS(.heads = 2, .causal = true)),                                              \
      "attention: causal with 2 queries and 3 keys; it needs as many keys as queries")             \
    X(attention_kv(g, F32(1, 2, 16), F32(1, 3, 16), 2),                                            \
      "attention: queries f32 [1,2,16], keys or values f32 [1,3,16]")                              \
    X(attention_kv(g, F32(1, 2, 16), BF16(1, 3, 32), 2),                                           \
      "attention: queries f32 [1,2,16], keys or values bf16 [1,3,32]")                             \
    X(op_window_attention(g, F32(1, 4, 48), NULL, 2, 2, 0), "attention: queries are f32 [1,4,48]") \
    X(op_window_attention(g, F32(1, 4, 6, 48), NULL, 2, 4, 0),                                     \
      "attention: grid 4 x 6 is not a multiple of window 4; pad the grid first")                   \
    X(op_window_attention(g, F32(1, 4, 6, 48), NULL, 2, 0, 0),                                     \
      "attention: the window must be at least 1")                                                  \
    X(op_window_attention(g, F32(1, 4, 6, 48), NULL, 2, 2, 2),                                     \
      "attention: shift 2 is outside 0..1")                                                        \
    X(op_window_attention(g, F32(1, 4, 6, 48), NULL, 2, 2, -1),                                    \
      "attention: shift -1 is outside 0..1")                                                       \
    X(op_window_attention(g, F32(1, 4, 6, 48), F32(9, 3), 2, 2, 0),                                \
      "attention: the bias table must be f32 of 18 elements, not f32 [9,3]")

/* clang-format off */
#define BUILD(expression, message_)                                                                \
    if (row-- == 0) { *message = (message_); return (expression); }
/* clang-format on */

/* Builds row `row` of the table; *message is NULL behind the last. */
static struct tensor *build_row(struct graph *g, int row, const char **message)
{
    *message = NULL;
    REFUSALS(BUILD)
    ATTENTION_REFUSALS(BUILD)
    return NULL;
}

static void test_refused(void **state)
{
    (void)state;
    int failures = 0;
    for (int row = 0;; row++) {
        const char *message = NULL;
        char wanted[512];
        struct graph *g = NULL;
        MUST(graph_create(&g, NULL));
        graph_push(g, "encoder");
        graph_push(g, "layer.%d", row);
        struct tensor *result = build_row(g, row, &message);
        enum status status = graph_status(g);
        const char *got = status == STATUS_OK ? "accepted" : status_message();
        snprintf(wanted, sizeof wanted, "encoder.layer.%d: %s", row, message ? message : "");
        if (message && (result || status != STATUS_INVALID || strcmp(got, wanted) != 0)) {
            printf("# row %d: \"%s\" instead of \"%s\"\n", row, got, wanted);
            failures++;
        }
        graph_destroy(&g);
        if (!message) break;
    }
    assert_int_equal(failures, 0);
}

/* ---- gradients that are refused ---- */

static void assert_differentiate_fails(struct graph *g, struct tensor *loss, const char *message)
{
    assert_int_not_equal(graph_differentiate(g, loss), STATUS_OK);
    assert_string_equal(status_message(), message);
    graph_destroy(&g);
}

static struct graph *new_graph(void)
{
    struct graph *g = NULL;
    MUST(graph_create(&g, NULL));
    return g;
}

static void test_refused_gradients(void **state)
{
    (void)state;
    struct graph *g = new_graph();
    struct tensor *w = graph_parameter(g, "w", SHAPE(3), INIT(INIT_ONES, 0));
    assert_differentiate_fails(g, w, "the loss must be one f32 number, not [3]");

    g = new_graph();
    assert_differentiate_fails(g, NULL, "the loss must be one f32 number, not missing");

    g = new_graph();
    assert_differentiate_fails(
        g, op_sum(g, F32(3), 0, 1),
        "the loss does not depend on any trainable parameter through ops that have a gradient");

    g = new_graph();
    w = graph_parameter(g, "w", SHAPE(3), INIT(INIT_ONES, 0));
    graph_push(g, "head");
    struct tensor *loss = op_sum(g, op_bce_with_logits(g, F32(3), w), 0, 1);
    graph_pop(g);
    assert_differentiate_fails(
        g, loss, "head: bce_with_logits: the target has no gradient; stop it with stop_gradient");

    g = new_graph();
    w = graph_parameter(g, "w", SHAPE(3, 2), INIT(INIT_ONES, 0));
    loss = op_sum(g, op_scatter_add(g, w, I32(3), 4, 1, DTYPE_F32), 0, 2);
    assert_differentiate_fails(g, loss, "scatter_add: no gradient with a padding index");
}

/* ---- indices that only a run can refuse ---- */

static void assert_run_fails(struct tensor *(*build)(struct graph *, struct tensor *),
                             const int32_t *values, const char *message)
{
    struct graph *g = new_graph();
    struct executor *e = NULL;
    struct tensor *index = I32(3);
    graph_push(g, "table");
    graph_output(g, "y", build(g, index));
    graph_pop(g);
    MUST(executor_create(&e, g, NULL));
    memcpy(executor_data(e, index), values, 3 * sizeof *values);
    const struct executor_run run = {0};
    assert_int_equal(executor_run(e, &run), STATUS_INVALID);
    assert_string_equal(status_message(), message);
    executor_destroy(&e);
    graph_destroy(&g);
}

static struct tensor *look_up(struct graph *g, struct tensor *index)
{
    return op_gather(g, op_fill(g, DTYPE_F32, SHAPE(5, 2), 1), index);
}

static struct tensor *look_up_narrow(struct graph *g, struct tensor *index)
{
    return op_gather(g, op_fill(g, DTYPE_BF16, SHAPE(5, 2), 1), index);
}

static struct tensor *scatter(struct graph *g, struct tensor *index)
{
    return op_scatter_add(g, op_fill(g, DTYPE_F32, SHAPE(3, 2), 1), index, 5, -1, DTYPE_F32);
}

static struct tensor *cross_entropy(struct graph *g, struct tensor *index)
{
    return op_cross_entropy(g, op_fill(g, DTYPE_F32, SHAPE(3, 5), 1), index, -1, NULL);
}

static void test_refused_indices(void **state)
{
    (void)state;
    assert_run_fails(look_up, (int32_t[]){0, 5, 9},
                     "table: gather: index 5 at position 1 is outside the table's 0..4");
    assert_run_fails(look_up_narrow, (int32_t[]){0, 1, -1},
                     "table: gather: index -1 at position 2 is outside the table's 0..4");
    assert_run_fails(scatter, (int32_t[]){-7, 1, 2},
                     "table: scatter_add: index -7 at position 0 is outside the table's 0..4");
    assert_run_fails(cross_entropy, (int32_t[]){-1, 4, 5},
                     "table: cross_entropy: target 5 of row 2 is outside the 5 classes");
    assert_run_fails(cross_entropy, (int32_t[]){-2, 4, 5},
                     "table: cross_entropy: target -2 of row 0 is outside the 5 classes");
}

/* Adding to gradients needs a plan that was made for it. */
static void test_refused_accumulation(void **state)
{
    (void)state;
    struct graph *g = new_graph();
    struct executor *e = NULL;
    struct tensor *w = graph_parameter(g, "w", SHAPE(3), INIT(INIT_ONES, 0));
    struct tensor *loss = op_sum(g, op_mul(g, w, F32(3)), 0, 1);
    graph_output(g, "loss", loss);
    MUST(graph_differentiate(g, loss));
    MUST(executor_create(&e, g, NULL));
    const struct executor_run run = {.accumulate = true};
    assert_int_equal(executor_run(e, &run), STATUS_INVALID);
    assert_string_equal(status_message(), "executor: adding to gradients needs a plan with the "
                                          "option accumulate or runs_per_update above 1");
    executor_destroy(&e);
    graph_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_refused_gradients),
        cmocka_unit_test(test_refused_indices),
        cmocka_unit_test(test_refused_accumulation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
