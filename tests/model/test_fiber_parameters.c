/*
 * FIBER-Base's parameters: names, shapes and counts of the public model, from the config's defaults
 * alone. The graph is recorded; nothing is allocated for weights or run.
 */
#include "tests/model/model_case.h"

/* Which indices a name runs over. In Base, blocks 14 to 17 of stage 2 and both of stage 3 are fused
 * with the last six text layers; layers 6 to 9 read 512 channels, 10 and 11 read 1024. */
enum over {
    ONCE,
    BLOCKS,       /* layers.STAGE.blocks.BLOCK */
    FUSED_BLOCKS, /* the same, fused ones */
    STAGES,       /* layers.STAGE.downsample, stages 0 to 2 */
    LAYERS,       /* encoder.layer.LAYER */
    FUSED_LAYERS
};

/* Sizes that depend on the index: n channels of the stage, its heads, the paired stage's channels.
 */
#define C(n)  (-(n))
#define HEADS (-100)
#define PAIR  (-101)

struct row {
    enum over over;
    const char *name; /* behind the index */
    int dim[4];       /* up to the first 0; all 0: a scalar */
};

#define LINEAR(over_, name_, n_, k_)                                                               \
    {over_, name_ ".weight", {n_, k_}},                                                            \
    {                                                                                              \
        over_, name_ ".bias",                                                                      \
        {                                                                                          \
            n_                                                                                     \
        }                                                                                          \
    }
#define NORM(over_, name_, n_)                                                                     \
    {over_, name_ ".weight", {n_}},                                                                \
    {                                                                                              \
        over_, name_ ".bias",                                                                      \
        {                                                                                          \
            n_                                                                                     \
        }                                                                                          \
    }

static const struct row rows[] = {
    {ONCE, "vit_model.patch_embed.proj.weight", {128, 3, 4, 4}},
    {ONCE, "vit_model.patch_embed.proj.bias", {128}},
    NORM(ONCE, "vit_model.patch_embed.norm", 128),
    NORM(BLOCKS, "norm1", C(1)),
    {BLOCKS, "attn.relative_position_bias_table", {529, HEADS}},
    LINEAR(BLOCKS, "attn.qkv", C(3), C(1)),
    LINEAR(BLOCKS, "attn.proj", C(1), C(1)),
    NORM(BLOCKS, "norm2", C(1)),
    LINEAR(BLOCKS, "mlp.fc1", C(4), C(1)),
    LINEAR(BLOCKS, "mlp.fc2", C(1), C(4)),
    {STAGES, "reduction.weight", {C(2), C(4)}},
    NORM(STAGES, "norm", C(4)),
    {FUSED_BLOCKS, "attn.alpha_i2t", {1}},
    LINEAR(FUSED_BLOCKS, "attn.qkv_text_i2t", C(2), 768),
    LINEAR(FUSED_BLOCKS, "attn.qkv_i2t", C(1), C(1)),
    LINEAR(FUSED_BLOCKS, "attn.proj_i2t", C(1), C(1)),
    NORM(FUSED_BLOCKS, "attn.norm_i2t_i", C(1)),
    NORM(ONCE, "vit_model.norm", 1024),
    {ONCE, "text_transformer.embeddings.word_embeddings.weight", {50265, 768}},
    {ONCE, "text_transformer.embeddings.position_embeddings.weight", {514, 768}},
    {ONCE, "text_transformer.embeddings.token_type_embeddings.weight", {1, 768}},
    NORM(ONCE, "text_transformer.embeddings.LayerNorm", 768),
    {LAYERS, "alpha_t2i", {1}},
    LINEAR(LAYERS, "attention.self.query", 768, 768),
    LINEAR(LAYERS, "attention.self.key", 768, 768),
    LINEAR(LAYERS, "attention.self.value", 768, 768),
    LINEAR(LAYERS, "attention.output.dense", 768, 768),
    NORM(LAYERS, "attention.output.LayerNorm", 768),
    LINEAR(LAYERS, "intermediate.dense", 3072, 768),
    LINEAR(LAYERS, "output.dense", 768, 3072),
    NORM(LAYERS, "output.LayerNorm", 768),
    LINEAR(FUSED_LAYERS, "crossattention_t2i.self.query", 768, 768),
    LINEAR(FUSED_LAYERS, "crossattention_t2i.self.key", 768, PAIR),
    LINEAR(FUSED_LAYERS, "crossattention_t2i.self.value", 768, PAIR),
    LINEAR(FUSED_LAYERS, "crossattention_t2i.output.dense", 768, 768),
    NORM(FUSED_LAYERS, "crossattention_t2i.output.LayerNorm", 768),
    LINEAR(ONCE, "text_transformer.pooler.dense", 768, 768),
    LINEAR(ONCE, "cross_modal_text_transform", 768, 768),
    LINEAR(ONCE, "cross_modal_image_transform", 768, 1024),
    LINEAR(ONCE, "cross_modal_text_transform_itc", 768, 768),
    LINEAR(ONCE, "cross_modal_image_transform_itc", 768, 1024),
    LINEAR(ONCE, "cross_modal_image_pooler.dense", 768, 768),
    LINEAR(ONCE, "cross_modal_text_pooler.dense", 768, 768),
    LINEAR(ONCE, "cross_modal_image_pooler_itc.dense", 768, 768),
    LINEAR(ONCE, "cross_modal_text_pooler_itc.dense", 768, 768),
    {ONCE, "temp", {0}},
    {ONCE, "mlm_score.bias", {50265}},
    LINEAR(ONCE, "mlm_score.transform.dense", 768, 768),
    NORM(ONCE, "mlm_score.transform.LayerNorm", 768),
    {ONCE, "mlm_score.decoder.weight", {50265, 768}},
    LINEAR(ONCE, "itm_score.fc", 2, 1536),
    LINEAR(ONCE, "rank_output", 1, 1536),
};

static const int depths[4] = {2, 2, 18, 2};

/* A graph of all objectives at the defaults. */
static struct step *base_step(void)
{
    static struct model_case c;
    static struct step step;
    if (step.graph) return &step;
    model_case_make(&c, "family: fiber", ALL_OBJECTIVES, NULL);
    MUST(step_init(&step, &(struct step_options){.config = &c.objectives,
                                                 .model = c.model,
                                                 .dtype = DTYPE_F32,
                                                 .training = true,
                                                 .batch = 2,
                                                 .world_size = 1}));
    model_case_free(&c);
    return &step;
}

static struct shape shape_of(const struct row *row, int stage, int pair)
{
    struct shape shape = SHAPE_SCALAR;
    for (; shape.rank < 4 && row->dim[shape.rank]; shape.rank++) {
        int size = row->dim[shape.rank];
        int64_t resolved = size > 0        ? size
                           : size == HEADS ? 4LL << stage
                           : size == PAIR  ? pair
                                           : -size * (128LL << stage);
        shape.dim[shape.rank] = resolved;
    }
    return shape;
}

static void expect(const struct row *row, const char *name, int stage, int pair)
{
    const struct parameter *p = graph_parameter_find(base_step()->graph, name);
    char got[SHAPE_TEXT];
    char want[SHAPE_TEXT];
    struct shape shape = shape_of(row, stage, pair);
    if (!p) fail_msg("%s is missing", name);
    if (!shape_equal(&p->tensor->shape, &shape)) {
        fail_msg("%s is %s, not %s", name, shape_format(&p->tensor->shape, got),
                 shape_format(&shape, want));
    }
}

/* Names of one row; returns how many. */
static int64_t expect_row(const struct row *row)
{
    char name[256];
    int64_t count = 0;
    if (row->over == ONCE) {
        expect(row, row->name, 0, 0);
        return 1;
    }
    if (row->over == LAYERS || row->over == FUSED_LAYERS) {
        for (int t = row->over == LAYERS ? 0 : 6; t < 12; t++, count++) {
            snprintf(name, sizeof name, "text_transformer.encoder.layer.%d.%s", t, row->name);
            expect(row, name, 0, t < 10 ? 512 : 1024);
        }
        return count;
    }
    for (int s = 0; s < (row->over == STAGES ? 3 : 4); s++) {
        for (int b = 0; b < (row->over == STAGES ? 1 : depths[s]); b++) {
            if (row->over == FUSED_BLOCKS && !(s == 3 || (s == 2 && b >= 14))) continue;
            const char *form = "vit_model.layers.%d.blocks.%d.%s";
            if (row->over == STAGES) {
                snprintf(name, sizeof name, "vit_model.layers.%d.downsample.%s", s, row->name);
            } else {
                snprintf(name, sizeof name, form, s, b, row->name);
            }
            expect(row, name, s, 0);
            count++;
        }
    }
    return count;
}

/* Every name of the list with its shape, and no name beyond the list. */
static void test_names(void **state)
{
    (void)state;
    int64_t count = 0;
    for (size_t i = 0; i < CASES(rows); i++) {
        count += expect_row(&rows[i]);
    }
    assert_int_equal(count, graph_num_parameters(base_step()->graph));
}

static int64_t count_of(const char *prefix)
{
    int64_t sum = 0;
    const struct graph *g = base_step()->graph;
    for (int64_t i = 0; i < graph_num_parameters(g); i++) {
        const struct parameter *p = graph_parameter_at(g, i);
        if (strncmp(p->name, prefix, strlen(prefix)) == 0) sum += p->count;
    }
    return sum;
}

static void test_counts(void **state)
{
    (void)state;
    assert_int_equal(count_of("vit_model."), 99486078);
    assert_int_equal(count_of("text_transformer."), 138042636);
    assert_int_equal(count_of("cross_modal_"), 5117952);
    assert_int_equal(count_of("mlm_score."), 39245913);
    assert_int_equal(count_of("itm_score."), 3074);
    assert_int_equal(count_of("rank_output."), 1537);
    assert_int_equal(count_of("temp"), 1);
    assert_int_equal(count_of(""), 281897191);
}

/* What the public model stores without a gradient in the three-loss pre-training, and only that. */
static bool is_dead(const char *name)
{
    int layer;
    int end = 0;
    if (strncmp(name, "rank_output.", 12) == 0) return true;
    if (strncmp(name, "text_transformer.pooler.", 24) == 0) return true;
    if (strstr(name, "crossattention_t2i.output.LayerNorm")) return true;
    return sscanf(name, "text_transformer.encoder.layer.%d.alpha_t2i%n", &layer, &end) == 1 &&
           end > 0 && layer < 6;
}

static void test_dead_parameters(void **state)
{
    (void)state;
    const struct graph *g = base_step()->graph;
    for (int64_t i = 0; i < graph_num_parameters(g); i++) {
        const struct parameter *p = graph_parameter_at(g, i);
        if (is_dead(p->name) != !p->gradient) {
            fail_msg("%s: %s a gradient", p->name, p->gradient ? "has" : "lacks");
        }
        assert_int_equal(p->trainable, !is_dead(p->name));
    }
}

/* Shifts: floor(12 / 2) at odd blocks, none in the
 * last stage. They are attributes, so asking for the expected op gives the node that is there. */
static const struct node *reader_of(const struct graph *g, const char *name)
{
    const struct parameter *p = graph_parameter_find(g, name);
    assert_non_null(p);
    for (int64_t i = 0; i < graph_num_nodes(g); i++) {
        const struct node *node = graph_node_at(g, i);
        for (int k = 0; k < node->num_inputs; k++) {
            if (node->inputs[k] == p->tensor) return node;
        }
    }
    fail_msg("nothing reads %s", name);
    return NULL;
}

static void test_shifts(void **state)
{
    (void)state;
    struct graph *g = base_step()->graph;
    for (int s = 0; s < 4; s++) {
        for (int b = 0; b < depths[s]; b++) {
            char name[256];
            snprintf(name, sizeof name,
                     "vit_model.layers.%d.blocks.%d.attn.relative_position_bias_table", s, b);
            const struct node *node = reader_of(g, name);
            int64_t nodes = graph_num_nodes(g);
            graph_push(g, "test");
            struct tensor *same = op_window_attention(g, node->inputs[0], node->inputs[1], 4 << s,
                                                      12, s < 3 && b % 2 == 1 ? 6 : 0);
            graph_pop(g);
            assert_ptr_equal(same->node, node);
            assert_int_equal(graph_num_nodes(g), nodes);
        }
    }
}

static int finish(void **state)
{
    (void)state;
    step_fini(base_step());
    return 0;
}

int main(int argc, char **argv)
{
    (void)argc;
    wait_passively(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_dead_parameters),
        cmocka_unit_test(test_shifts),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
