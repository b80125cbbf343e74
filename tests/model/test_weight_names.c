/* What other people's files call the weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/weight_names.h"

static void expect(enum weight_names_scheme scheme, const char *name, const char *expected)
{
    char ours[256] = "";
    bool taken = weight_names_map(scheme, name, ours, sizeof ours);
    assert_int_equal(taken, expected != NULL);
    if (expected) assert_string_equal(ours, expected);
}

static void test_recognised(void **state)
{
    (void)state;
    const char *const reference[] = {"temp", "vit_model.patch_embed.proj.weight",
                                     "roberta.encoder.layer.0.output.dense.weight"};
    const char *const roberta[] = {"lm_head.bias", "roberta.encoder.layer.0.output.dense.weight"};
    const char *const bare[] = {"embeddings.LayerNorm.bias", "encoder.layer.0.output.dense.bias"};
    const char *const old[] = {"patch_embed.proj.bias", "layers.0.downsample.norm.bias",
                               "layers.2.downsample.norm.bias"};
    const char *const new[] = {"patch_embed.proj.bias", "layers.1.downsample.norm.bias",
                               "layers.3.downsample.norm.bias"};
    const char *const other[] = {"a", "b"};
    assert_int_equal(weight_names_detect(reference, 3), WEIGHT_NAMES_REFERENCE);
    assert_int_equal(weight_names_detect(roberta, 2), WEIGHT_NAMES_ROBERTA);
    assert_int_equal(weight_names_detect(bare, 2), WEIGHT_NAMES_ROBERTA);
    assert_int_equal(weight_names_detect(old, 3), WEIGHT_NAMES_SWIN);
    assert_int_equal(weight_names_detect(new, 3), WEIGHT_NAMES_SWIN_MERGE_FIRST);
    assert_int_equal(weight_names_detect(other, 2), WEIGHT_NAMES_REFERENCE);
}

static void test_reference(void **state)
{
    (void)state;
    expect(WEIGHT_NAMES_REFERENCE, "temp", "temp");
    expect(WEIGHT_NAMES_REFERENCE, "itm_score.fc.weight", "itm_score.fc.weight");
    expect(WEIGHT_NAMES_REFERENCE, "rank_output.weight", "rank_output.weight");
    expect(WEIGHT_NAMES_REFERENCE, "image_queue", NULL);
    expect(WEIGHT_NAMES_REFERENCE, "queue_ptr", NULL);
    expect(WEIGHT_NAMES_REFERENCE, "vit_model.layers.0.blocks.1.attn_mask", NULL);
    expect(WEIGHT_NAMES_REFERENCE, "text_transformer.embeddings.position_ids", NULL);
    expect(WEIGHT_NAMES_REFERENCE, "vit_model.layers.1.blocks.0.attn.relative_position_index",
           NULL);
}

static void test_roberta(void **state)
{
    (void)state;
    expect(WEIGHT_NAMES_ROBERTA, "roberta.encoder.layer.11.attention.self.query.weight",
           "text_transformer.encoder.layer.11.attention.self.query.weight");
    expect(WEIGHT_NAMES_ROBERTA, "embeddings.word_embeddings.weight",
           "text_transformer.embeddings.word_embeddings.weight");
    expect(WEIGHT_NAMES_ROBERTA, "roberta.pooler.dense.bias", "text_transformer.pooler.dense.bias");
    expect(WEIGHT_NAMES_ROBERTA, "lm_head.dense.weight", NULL);
    expect(WEIGHT_NAMES_ROBERTA, "roberta.embeddings.position_ids", NULL);
    expect(WEIGHT_NAMES_ROBERTA, "adapter.weight", "adapter.weight"); /* left over, told */
}

static void test_swin(void **state)
{
    (void)state;
    expect(WEIGHT_NAMES_SWIN, "layers.2.downsample.reduction.weight",
           "vit_model.layers.2.downsample.reduction.weight");
    expect(WEIGHT_NAMES_SWIN_MERGE_FIRST, "layers.3.downsample.reduction.weight",
           "vit_model.layers.2.downsample.reduction.weight");
    expect(WEIGHT_NAMES_SWIN_MERGE_FIRST, "layers.1.blocks.0.norm1.weight",
           "vit_model.layers.1.blocks.0.norm1.weight");
    expect(WEIGHT_NAMES_SWIN, "norm.weight", "vit_model.norm.weight");
    expect(WEIGHT_NAMES_SWIN, "head.weight", NULL);
    expect(WEIGHT_NAMES_SWIN_MERGE_FIRST, "head.fc.weight", NULL);
    expect(WEIGHT_NAMES_SWIN, "layers.0.blocks.1.attn_mask", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recognised),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_roberta),
        cmocka_unit_test(test_swin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
