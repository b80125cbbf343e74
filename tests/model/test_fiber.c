/*
 * FIBER at small sizes: what is fused with what, closed gates against separate towers, windows
 * against resolutions, refused configs.   timeout=60
 */
#include "model/heads.h"
#include "model/layers.h"
#include "tests/model/model_case.h"

/* A model on a graph of its own, with its inputs. */
struct recorded {
    struct model_case c;
    struct model model;
    struct graph *g;
    struct tensor *pixels, *ids, *mask;
};

enum { BATCH = 2, LAYERS = 5 };

/* TINY_FIBER with overrides, ended by NULL. */
static void recorded_make(struct recorded *r, const char *const *overrides)
{
    *r = (struct recorded){0};
    model_case_make(&r->c, TINY_FIBER, ALL_OBJECTIVES, overrides);
    MUST(model_init(&r->model, &r->c.model, BATCH));
    MUST(graph_create(&r->g, NULL));
    const struct model_facts *f = &r->model.facts;
    r->pixels =
        graph_input(r->g, "pixels", DTYPE_F32, SHAPE(BATCH, 3, f->image_size, f->image_size));
    r->ids = graph_input(r->g, "ids", DTYPE_I32, SHAPE(BATCH, f->max_text_len));
    r->mask = graph_input(r->g, "mask", DTYPE_I32, SHAPE(BATCH, f->max_text_len));
}

static void recorded_free(struct recorded *r)
{
    graph_destroy(&r->g);
    model_case_free(&r->c);
}

static struct model_pair record_fused(struct recorded *r)
{
    struct tensor *image = model_image_prefix(&r->model, r->g, r->pixels);
    struct model_text text = model_text_prefix(&r->model, r->g, r->ids, r->mask);
    struct model_pair pair = model_fuse(&r->model, r->g, image, &text);
    MUST(graph_status(r->g));
    return pair;
}

/* The one node that reads the parameter; NULL where there is no such parameter. */
static const struct node *reader_of(const struct graph *g, const char *format, ...)
    STATUS_PRINTF(2, 3);
static const struct node *reader_of(const struct graph *g, const char *format, ...)
{
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const struct parameter *p = graph_parameter_find(g, name);
    const struct node *reader = NULL;
    for (int64_t i = 0; p && i < graph_num_nodes(g); i++) {
        const struct node *node = graph_node_at(g, i);
        for (int k = 0; k < node->num_inputs; k++) {
            if (node->inputs[k] != p->tensor) continue;
            if (reader && reader != node) fail_msg("%s is read twice", name);
            reader = node;
        }
    }
    return reader;
}

/* ---- pairing ---- */

#define BLOCK "vit_model.layers.%d.blocks.%d."
#define LAYER "text_transformer.encoder.layer.%d."

/* Block (stage, index) and text layer t read each other's input. */
static void assert_paired(const struct graph *g, int stage, int index, int t)
{
    const struct node *block = reader_of(g, BLOCK "norm1.weight", stage, index);
    const struct node *layer = reader_of(g, LAYER "attention.self.query.weight", t);
    const struct node *to_text = reader_of(g, BLOCK "attn.qkv_text_i2t.weight", stage, index);
    const struct node *to_image = reader_of(g, LAYER "crossattention_t2i.self.key.weight", t);
    assert_non_null(block);
    assert_non_null(layer);
    assert_non_null(to_text);
    assert_non_null(to_image);
    assert_ptr_equal(to_text->inputs[0], layer->inputs[0]);
    const struct node *flat = to_image->inputs[0]->node;
    assert_string_equal(flat->op->name, "reshape");
    assert_ptr_equal(flat->inputs[0], block->inputs[0]);
}

static void check_pairing(const int *depths, int layers, int fused)
{
    struct recorded r;
    char text[3][64];
    snprintf(text[0], sizeof text[0], "model.depths=[%d, %d, %d, %d]", depths[0], depths[1],
             depths[2], depths[3]);
    snprintf(text[1], sizeof text[1], "model.text_layers=%d", layers);
    snprintf(text[2], sizeof text[2], "model.num_fuse=%d", fused);
    recorded_make(&r, (const char *[]){text[0], text[1], text[2], NULL});
    record_fused(&r);
    int total = depths[2] + depths[3];
    int pairs = 0;
    for (int k = 0; k < depths[0] + depths[1]; k++) {
        int stage = k >= depths[0];
        assert_null(reader_of(r.g, BLOCK "attn.qkv_i2t.weight", stage, stage ? k - depths[0] : k));
    }
    for (int k = 0; k < total; k++) {
        int stage = k < depths[2] ? 2 : 3;
        int index = k < depths[2] ? k : k - depths[2];
        if (k < total - fused) {
            assert_null(reader_of(r.g, BLOCK "attn.qkv_i2t.weight", stage, index));
            continue;
        }
        assert_paired(r.g, stage, index, layers - fused + pairs);
        pairs++;
    }
    assert_int_equal(pairs, fused);
    for (int t = 0; t < layers; t++) {
        bool is_fused = t >= layers - fused;
        assert_true(is_fused ==
                    (reader_of(r.g, LAYER "crossattention_t2i.self.query.weight", t) != NULL));
        /* Every layer but the last ends with its norm. */
        assert_true((t < layers - 1) ==
                    (reader_of(r.g, LAYER "output.LayerNorm.weight", t) != NULL));
    }
    assert_null(reader_of(r.g, "vit_model.norm.weight"));
    recorded_free(&r);
}

static void test_pairing(void **state)
{
    (void)state;
    static const int base[4] = {2, 2, 18, 2};
    static const int small[4] = {1, 2, 5, 2};
    static const int heavy_top[4] = {1, 1, 1, 4};
    check_pairing(base, 12, 6);
    check_pairing(base, 12, 12);
    check_pairing(small, 5, 0);
    check_pairing(small, 5, 1);
    check_pairing(small, 5, 2);
    check_pairing(small, 5, 3);
    check_pairing(small, 5, 5);
    check_pairing(small, 7, 7);
    check_pairing(small, 9, 7);
    check_pairing(small, 1, 1);
    check_pairing(heavy_top, 6, 4);
    check_pairing(heavy_top, 6, 5);
    check_pairing(heavy_top, 3, 0);
}

/* ---- closed gates ---- */

static void fill_inputs(struct executor *e, const struct recorded *r)
{
    float *pixels = executor_data(e, r->pixels);
    for (int64_t i = 0; i < shape_count(&r->pixels->shape); i++) {
        pixels[i] = 2 * value_at("pixels", i);
    }
    int64_t length = r->model.facts.max_text_len;
    for (int64_t i = 0; i < BATCH * length; i++) {
        bool is_token = i % length < length - 2 * (i / length); /* the second text is shorter */
        float pick = 0.5f * (value_at("ids", i) + 1);
        ((int32_t *)executor_data(e, r->mask))[i] = is_token;
        ((int32_t *)executor_data(e, r->ids))[i] =
            is_token ? 2 + (int32_t)(pick * (float)(r->model.facts.vocab - 2)) : 1;
    }
}

/* The dual text feature, continued from fused tokens by the norm that the fused mode leaves out. */
static struct tensor *finish_text(struct recorded *r, struct tensor *hidden)
{
    struct graph *g = r->g;
    const struct layer_linear normal = {.init = INIT(INIT_NORMAL, 0.02f)};
    graph_push(g, "text_transformer.encoder.layer.%d.output", LAYERS - 1);
    struct tensor *x = layer_norm(g, "LayerNorm", hidden, 1e-5f);
    graph_pop(g);
    x = layer_linear(g, "cross_modal_text_transform_itc", x, r->model.facts.hidden, &normal);
    x = op_reshape(g, op_slice(g, x, 1, 0, 1), SHAPE(BATCH, r->model.facts.hidden));
    return op_l2_normalize(g, head_pooler(g, "cross_modal_text_pooler_itc", x, 0.02f), 0);
}

struct towers {
    struct recorded r;
    struct executor *e;
    struct tensor *fused_image, *dual_image, *fused_text, *dual_text;
};

static void towers_make(struct towers *t, const char *num_fuse, float gate)
{
    struct recorded *r = &t->r;
    char name[64];
    recorded_make(r, (const char *[]){num_fuse, NULL});
    struct tensor *image = model_image_prefix(&r->model, r->g, r->pixels);
    struct model_text text = model_text_prefix(&r->model, r->g, r->ids, r->mask);
    r->model.trace = "fused";
    model_fuse(&r->model, r->g, image, &text);
    r->model.trace = "dual";
    model_image_feature(&r->model, r->g, image);
    r->model.trace = NULL;
    t->dual_text = model_text_feature(&r->model, r->g, &text);
    t->fused_image = graph_tensor_find(r->g, "fused/image/stage3.block1");
    t->dual_image = graph_tensor_find(r->g, "dual/image/stage3.block1");
    snprintf(name, sizeof name, "fused/text/layer%d", LAYERS - 1);
    t->fused_text = finish_text(r, graph_tensor_find(r->g, name));
    MUST(graph_status(r->g));
    graph_output(r->g, "from fused", t->fused_text);
    graph_output(r->g, "from dual", t->dual_text);
    MUST(executor_create(&t->e, r->g, &(struct executor_options){.poison = true}));
    init_weights(t->e, r->g, gate);
    fill_inputs(t->e, r);
    MUST(executor_run(t->e, &(struct executor_run){0}));
}

static void towers_free(struct towers *t)
{
    executor_destroy(&t->e);
    recorded_free(&t->r);
}

static double difference(const struct towers *t, const struct tensor *a, const struct tensor *b)
{
    const float *x = executor_data(t->e, a);
    const float *y = executor_data(t->e, b);
    double most = 0;
    for (int64_t i = 0; i < shape_count(&a->shape); i++) {
        most = fmax(most, fabs((double)x[i] - (double)y[i]));
    }
    return most;
}

/* With all gates at zero, fused towers are the separate ones up to their last norms. */
static void check_gates(const char *num_fuse)
{
    struct towers t;
    towers_make(&t, num_fuse, 0.0f);
    int64_t count = shape_count(&t.fused_image->shape);
    assert_ptr_not_equal(t.fused_image, t.dual_image);
    close_to("image", executor_data(t.e, t.fused_image), executor_data(t.e, t.dual_image), count,
             1e-5);
    close_to("text", executor_data(t.e, t.fused_text), executor_data(t.e, t.dual_text),
             shape_count(&t.dual_text->shape), 1e-6);
    towers_free(&t);
    towers_make(&t, num_fuse, 0.7f);
    assert_true(difference(&t, t.fused_image, t.dual_image) > 1e-2);
    assert_true(difference(&t, t.fused_text, t.dual_text) > 1e-3);
    towers_free(&t);
}

static void test_closed_gates(void **state)
{
    (void)state;
    check_gates("model.num_fuse=1");
    check_gates("model.num_fuse=3");
    check_gates("model.num_fuse=5");
}

/* Nothing fused: both modes are the same nodes up to the last norms, whatever the gates. */
static void test_nothing_fused(void **state)
{
    (void)state;
    struct towers t;
    towers_make(&t, "model.num_fuse=0", 0.7f);
    assert_true(difference(&t, t.fused_text, t.dual_text) < 1e-6);
    assert_null(graph_parameter_find(t.r.g, "vit_model.layers.3.blocks.1.attn.alpha_i2t"));
    assert_null(graph_tensor_find(t.r.g, "fused/image/stage3.block1"));
    assert_non_null(graph_tensor_find(t.r.g, "fused/text/layer4"));
    for (int i = 0; i < 5; i++) {
        char name[64];
        snprintf(name, sizeof name, "text_transformer.encoder.layer.%d.alpha_t2i", i);
        const struct parameter *p = graph_parameter_find(t.r.g, name);
        assert_non_null(p);
        assert_false(p->trainable);
    }
    towers_free(&t);
}

/* Gates start closed unless the config opens them, in both towers. */
static void test_gate_init(void **state)
{
    (void)state;
    static const char *const names[] = {"vit_model.layers.3.blocks.1.attn.alpha_i2t",
                                        "text_transformer.encoder.layer.4.alpha_t2i"};
    for (int open = 0; open < 2; open++) {
        struct recorded r;
        const char *const overrides[] = {"model.num_fuse=1", open ? "model.gate_init=0.5" : NULL,
                                         NULL};
        recorded_make(&r, overrides);
        struct model_pair pair = record_fused(&r);
        graph_output(r.g, "image", pair.image);
        graph_output(r.g, "text", pair.text);
        struct executor *e;
        MUST(executor_create(&e, r.g, NULL));
        executor_init_parameters(e);
        for (int i = 0; i < 2; i++) {
            const struct parameter *p = graph_parameter_find(r.g, names[i]);
            assert_non_null(p);
            assert_float_equal(executor_parameters(e)[p->offset], open ? 0.5f : 0.0f, 0);
        }
        executor_destroy(&e);
        recorded_free(&r);
    }
}

/* ---- windows ---- */

/* Sides of 16, 8, 4, 2 tokens; a window at least that large is the whole stage, unshifted. */
static void check_windows(int window, const int64_t *expected)
{
    struct recorded r;
    char text[32];
    static const int depths[4] = {2, 2, 5, 2};
    static const int heads[4] = {1, 2, 2, 4};
    snprintf(text, sizeof text, "model.window=%d", window);
    recorded_make(&r, (const char *[]){"model.num_fuse=2", text, NULL});
    record_fused(&r);
    for (int s = 0; s < 4; s++) {
        int64_t side = 16 >> s;
        int64_t w = expected[s];
        for (int b = 0; b < depths[s]; b++) {
            const struct node *node =
                reader_of(r.g, BLOCK "attn.relative_position_bias_table", s, b);
            assert_non_null(node);
            assert_int_equal(node->inputs[1]->shape.dim[0], (2 * w - 1) * (2 * w - 1));
            int64_t shift = b % 2 == 1 && w < side ? w / 2 : 0;
            const struct tensor *same =
                op_window_attention(r.g, node->inputs[0], node->inputs[1], heads[s], w, shift);
            assert_ptr_equal(same->node, node);
        }
    }
    recorded_free(&r);
}

static void test_windows(void **state)
{
    (void)state;
    check_windows(1, (int64_t[]){1, 1, 1, 1});
    check_windows(2, (int64_t[]){2, 2, 2, 2});
    check_windows(4, (int64_t[]){4, 4, 4, 2});
    check_windows(8, (int64_t[]){8, 8, 4, 2});
    check_windows(16, (int64_t[]){16, 8, 4, 2});
    check_windows(100, (int64_t[]){16, 8, 4, 2});
    check_windows(0, (int64_t[]){1, 1, 1, 1}); /* image_size / 32 */
}

/* ---- refused configs ---- */

struct refusal {
    const char *model;
    const char *message;
};

static const struct refusal refusals[] = {
    {"family: fiber, image_size: 100",
     "case.yaml:1:36: model.image_size: image_size 100 is not a multiple of 32 (patch_size 4, "
     "halved three times)"},
    {"family: fiber, patch_size: 64",
     "case.yaml:1:8: model.image_size: image_size 384 is not a multiple of 512 (patch_size 64, "
     "halved three times)"},
    {"family: fiber, image_size: 16, patch_size: 2",
     "case.yaml:1:8: model.window: image_size 16 is below 32, so its window is empty; set "
     "model.window"},
    {"family: fiber, window: 5",
     "case.yaml:1:32: model.window: window 5 does not divide the 96 tokens a side of stage 0 "
     "(image_size 384)"},
    {"family: fiber, image_size: 96, window: 8",
     "case.yaml:1:48: model.window: window 8 does not divide the 12 tokens a side of stage 1 "
     "(image_size 96)"},
    {"family: fiber, heads: [4, 8, 16, 24]",
     "case.yaml:1:31: model.heads: 24 heads do not divide the 1024 channels of stage 3"},
    {"family: fiber, text_heads: 7",
     "case.yaml:1:36: model.text_heads: text_heads 7 does not divide hidden 768"},
    {"family: fiber, positions: 41",
     "case.yaml:1:35: model.positions: positions 41 is too few for texts of 40 tokens; it takes "
     "max_text_len + 2"},
    {"family: fiber, num_fuse: 13",
     "case.yaml:1:34: model.num_fuse: num_fuse 13 is more than the 12 text layers or the 20 blocks "
     "of the last two Swin stages"},
    {"family: fiber, text_layers: 30, num_fuse: 21",
     "case.yaml:1:51: model.num_fuse: num_fuse 21 is more than the 30 text layers or the 20 blocks "
     "of the last two Swin stages"},
    {"family: fiber, depths: [2, 2, 18]",
     "case.yaml:1:32: model.depths: got 3; expected a list of length 4, each a whole number >= 1 "
     "and <= 1000"},
    {"family: fibre", "case.yaml:1:17: model: unknown family 'fibre', did you mean 'fiber'?; "
                      "expected a section with 'family' one of fiber"},
};

static void test_refused(void **state)
{
    (void)state;
    int failures = 0;
    for (size_t i = 0; i < CASES(refusals); i++) {
        struct model_case c;
        enum status status = model_case_read(&c, refusals[i].model, ALL_OBJECTIVES, NULL);
        const char *got = status == STATUS_OK ? "accepted" : status_message();
        if (status != STATUS_INVALID || strcmp(got, refusals[i].message) != 0) {
            printf("# %s: \"%s\" instead of \"%s\"\n", refusals[i].model, got, refusals[i].message);
            failures++;
        }
    }
    assert_int_equal(failures, 0);
}

/* A config that was not read from a file is refused when the model is made. */
static void test_refused_without_file(void **state)
{
    (void)state;
    struct recorded r;
    recorded_make(&r, (const char *[]){"model.num_fuse=2", NULL});
    struct model model;
    struct config_variant choice = r.c.model;
    int64_t *num_fuse = NULL;
    unsigned char copy[512];
    assert_in_range(choice.table->size, 1, sizeof copy);
    memcpy(copy, choice.value, choice.table->size);
    for (int i = 0; i < choice.table->num_options; i++) {
        if (strcmp(choice.table->options[i].key, "num_fuse") == 0)
            num_fuse = (int64_t *)(void *)(copy + choice.table->options[i].offset);
    }
    assert_non_null(num_fuse);
    *num_fuse = 6;
    choice.value = copy;
    assert_int_equal(model_init(&model, &choice, BATCH), STATUS_INVALID);
    assert_string_equal(status_message(),
                        "model: num_fuse 6 is more than the 5 text layers or the 7 blocks of the "
                        "last two Swin stages");
    recorded_free(&r);
}

static void test_table(void **state)
{
    (void)state;
    MUST(config_table_check(&model_case_table));
}

int main(int argc, char **argv)
{
    (void)argc;
    wait_passively(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairing),       cmocka_unit_test(test_closed_gates),
        cmocka_unit_test(test_nothing_fused), cmocka_unit_test(test_windows),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_refused_without_file),
        cmocka_unit_test(test_table),         cmocka_unit_test(test_gate_init),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
