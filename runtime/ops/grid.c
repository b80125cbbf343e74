/*
 * Ops on image grids: pixels to floats, cyclic rolls, and Swin's window and merge maps made of
 * roll, reshape and permute.
 */
#include "runtime/base/bf16.h"
#include "runtime/ops/attrs.h"
#include "runtime/ops/ops_impl.h"

/* ---- roll ---- */

static bool roll_infer(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    char text[SHAPE_TEXT];
    INFER_CHECK(x->shape.rank == 4, "roll: needs [B,Y,X,C], not %s", shape_format(&x->shape, text));
    return infer_same(graph, node);
}

static void roll_gradient(struct graph *g, const struct node *node, struct tensor *const *d_outputs,
                          struct tensor **d_inputs)
{
    const struct roll_attrs *attrs = NODE_ATTRS(node, struct roll_attrs);
    d_inputs[0] = op_roll(g, d_outputs[0], -attrs->dy, -attrs->dx);
}

static enum status roll_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct roll_attrs *attrs = NODE_ATTRS(kernel->node, struct roll_attrs);
    const struct tensor *x = kernel->node->inputs[0];
    int64_t height = x->shape.dim[1];
    int64_t width = x->shape.dim[2];
    size_t pixel = (size_t)x->shape.dim[3] * dtype_size(x->dtype);
    int64_t rows = x->shape.dim[0] * height;
    size_t split = (size_t)attrs->dx * pixel;
    size_t row_bytes = (size_t)width * pixel;
    const char *from = kernel->in[0];
    char *to = kernel->out[0];
#pragma omp parallel for schedule(static) if ((size_t)rows * row_bytes > 131072)
    for (int64_t r = 0; r < rows; r++) {
        int64_t y = r % height;
        int64_t target = r - y + (y + attrs->dy) % height;
        const char *source = from + (size_t)r * row_bytes;
        char *row = to + (size_t)target * row_bytes;
        memcpy(row + split, source, row_bytes - split);
        memcpy(row, source + row_bytes - split, split);
    }
    return STATUS_OK;
}

const struct op op_row_roll = {
    .name = "roll",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = roll_infer,
    .gradient = roll_gradient,
    .cpu_run = roll_run,
};

struct tensor *op_roll(struct graph *g, struct tensor *x, int64_t dy, int64_t dx)
{
    if (!x) return NULL;
    if (x->shape.rank == 4) {
        /* Into [0, size), so that equal rolls are equal nodes. */
        dy = (dy % x->shape.dim[1] + x->shape.dim[1]) % x->shape.dim[1];
        dx = (dx % x->shape.dim[2] + x->shape.dim[2]) % x->shape.dim[2];
        if (dy == 0 && dx == 0) return x;
    }
    struct roll_attrs attrs = {dy, dx};
    return graph_node_add(g, &op_row_roll, &x, 1, &attrs, sizeof attrs);
}

/* ---- windows and merging ---- */

struct tensor *op_window_partition(struct graph *g, struct tensor *x, int64_t window, int64_t shift)
{
    if (!x) return NULL;
    char text[SHAPE_TEXT];
    const struct shape *s = &x->shape;
    if (s->rank != 4 || window < 1 || s->dim[1] % window || s->dim[2] % window) {
        return graph_fail(g, "window_partition: %s does not divide into windows of %lld",
                          shape_format(s, text), (long long)window);
    }
    int64_t rows = s->dim[1] / window;
    int64_t columns = s->dim[2] / window;
    int64_t channels = s->dim[3];
    int64_t batch = s->dim[0];
    static const int axes[] = {0, 1, 3, 2, 4, 5};
    x = op_roll(g, x, -shift, -shift);
    x = op_reshape(g, x, SHAPE(batch, rows, window, columns, window, channels));
    x = op_permute(g, x, axes);
    return op_reshape(g, x, SHAPE(batch * rows * columns, window * window, channels));
}

struct tensor *op_window_reverse(struct graph *g, struct tensor *windows, int64_t window,
                                 int64_t shift, int64_t height, int64_t width)
{
    if (!windows) return NULL;
    char text[SHAPE_TEXT];
    const struct shape *s = &windows->shape;
    int64_t count = height > 0 && width > 0 && window > 0 ? height / window * (width / window) : 0;
    if (s->rank != 3 || count == 0 || height % window || width % window || s->dim[0] % count ||
        s->dim[1] != window * window) {
        return graph_fail(g, "window_reverse: %s to %lld x %lld by windows of %lld",
                          shape_format(s, text), (long long)height, (long long)width,
                          (long long)window);
    }
    int64_t batch = s->dim[0] / count;
    int64_t channels = s->dim[2];
    static const int axes[] = {0, 1, 3, 2, 4, 5};
    struct tensor *x = op_reshape(
        g, windows, SHAPE(batch, height / window, width / window, window, window, channels));
    x = op_permute(g, x, axes);
    x = op_reshape(g, x, SHAPE(batch, height, width, channels));
    return op_roll(g, x, shift, shift);
}

struct tensor *op_patch_merge(struct graph *g, struct tensor *x)
{
    if (!x) return NULL;
    char text[SHAPE_TEXT];
    const struct shape *s = &x->shape;
    if (s->rank != 4 || s->dim[1] % 2 || s->dim[2] % 2) {
        return graph_fail(g, "patch_merge: needs [B,Y,X,C] with even Y and X, not %s",
                          shape_format(s, text));
    }
    int64_t batch = s->dim[0];
    int64_t rows = s->dim[1] / 2;
    int64_t columns = s->dim[2] / 2;
    int64_t channels = s->dim[3];
    /* Row parity runs fastest among the four neighbours: (0,0), (1,0), (0,1), (1,1). */
    static const int axes[] = {0, 1, 3, 4, 2, 5};
    x = op_reshape(g, x, SHAPE(batch, rows, 2, columns, 2, channels));
    x = op_permute(g, x, axes);
    return op_reshape(g, x, SHAPE(batch, rows, columns, 4 * channels));
}

/* ---- pixels ---- */

static bool pixels_infer(struct graph *graph, struct node *node)
{
    const struct tensor *x = node->inputs[0];
    char text[SHAPE_TEXT];
    enum dtype dtype = (enum dtype)NODE_ATTRS(node, struct pixel_attrs)->dtype;
    INFER_CHECK(dtype_is_float(dtype), "normalize_pixels: result must be f32 or bf16, not %s",
                dtype_name(dtype));
    INFER_CHECK(x->dtype == DTYPE_U8 && x->shape.rank == 4 && x->shape.dim[3] == 3,
                "normalize_pixels: needs u8 [B,Y,X,3], not %s %s", dtype_name(x->dtype),
                shape_format(&x->shape, text));
    struct shape shape = SHAPE(x->shape.dim[0], 3, x->shape.dim[1], x->shape.dim[2]);
    return node_set_output(graph, node, 0, dtype, shape);
}

static enum status pixels_run(struct kernel *kernel, const struct run_context *run)
{
    (void)run;
    const struct pixel_attrs *attrs = NODE_ATTRS(kernel->node, struct pixel_attrs);
    const struct shape *shape = &kernel->node->inputs[0]->shape;
    int64_t plane = shape->dim[1] * shape->dim[2];
    int64_t planes = shape->dim[0] * 3;
    const uint8_t *from = kernel->in[0];
    bool is_f32 = attrs->dtype == DTYPE_F32;
#pragma omp parallel for schedule(static) if (planes * plane > 32768)
    for (int64_t p = 0; p < planes; p++) {
        const uint8_t *pixels = from + p / 3 * plane * 3 + p % 3;
        float scale = attrs->scale[p % 3];
        float offset = attrs->offset[p % 3];
        float *to = (float *)kernel->out[0] + p * plane;
        bf16 *narrow = (bf16 *)kernel->out[0] + p * plane;
        for (int64_t i = 0; i < plane; i++) {
            float value = (float)pixels[i * 3] * scale + offset;
            if (is_f32) {
                to[i] = value;
            } else {
                narrow[i] = bf16_from_f32(value);
            }
        }
    }
    return STATUS_OK;
}

const struct op op_row_normalize_pixels = {
    .name = "normalize_pixels",
    .min_inputs = 1,
    .max_inputs = 1,
    .flags = OP_CONSTANT,
    .infer = pixels_infer,
    .cpu_run = pixels_run,
};

struct tensor *op_normalize_pixels(struct graph *g, struct tensor *pixels, const float mean[3],
                                   const float std[3], enum dtype dtype)
{
    struct pixel_attrs attrs;
    ATTRS_CLEAR(attrs);
    attrs.dtype = dtype;
    for (int i = 0; i < 3; i++) {
        if (!(std[i] > 0)) {
            return graph_fail(g, "normalize_pixels: std must be above 0, not %g", std[i]);
        }
        attrs.scale[i] = 1.0f / (255.0f * std[i]);
        attrs.offset[i] = -mean[i] / std[i];
    }
    return graph_node_add(g, &op_row_normalize_pixels, &pixels, 1, &attrs, sizeof attrs);
}
