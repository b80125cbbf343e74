/*
 * Recording through builders: equal ops are one node, different attributes are not, random sites,
 * errors that stay, and that every op of the table is reached by a case of the op tests.
 */
#include "tests/runtime/ops/cases_basic.h"
#include "tests/runtime/ops/cases_norm.h"
#include "tests/runtime/ops/cases_product.h"
#include "tests/runtime/ops/cases_random.h"
#include "tests/runtime/ops/cases_shape.h"
#include "tests/runtime/ops/op_check.h"

enum { MOST_OPS = 256 };

/* ---- coverage ---- */

static void mark_ops(const struct graph *g, bool *recorded, bool *differentiated)
{
    for (int64_t i = 0; i < graph_num_nodes(g); i++) {
        const struct node *node = graph_node_at(g, i);
        for (int o = 0; o < op_count(); o++) {
            if (op_at(o) != node->op) continue;
            recorded[o] = true;
            for (int k = 0; k < node->num_outputs; k++) {
                differentiated[o] |= graph_gradient_of(g, &node->outputs[k]) != NULL;
            }
        }
    }
}

static void mark_collectives(bool *recorded, bool *differentiated)
{
    struct graph *g = NULL;
    MUST(graph_create(&g, NULL));
    struct tensor *x = graph_parameter(g, "x", SHAPE(2, 3), INIT(INIT_ONES, 0));
    struct tensor *y = op_all_reduce(g, op_reduce_scatter(g, op_all_gather(g, x)));
    MUST(graph_differentiate(g, op_sum(g, y, 0, 2)));
    mark_ops(g, recorded, differentiated);
    graph_destroy(&g);
}

/* Integers have no gradients; test_ops_negatives.c has their values, test_train_exact.py those of
 * fetch_rows. */
static void mark_integers(bool *recorded, bool *differentiated)
{
    struct graph *g = NULL;
    struct tensor *ids = NULL;
    struct tensor *mask = NULL;
    MUST(graph_create(&g, NULL));
    struct tensor *x = graph_input(g, "x", DTYPE_F32, SHAPE(2, 3));
    struct tensor *drawn = op_draw_negatives(g, x, false, "image", NULL);
    op_fetch_rows(g, drawn, drawn, 8, 5, &ids, &mask);
    op_position_ids(g, ids, 1);
    op_row_numbers(g, 4, true);
    MUST(graph_status(g));
    mark_ops(g, recorded, differentiated);
    graph_destroy(&g);
}

static void test_all_ops_are_covered(void **state)
{
    (void)state;
    static const struct op_case *const tables[] = {cases_basic, cases_shape, cases_product,
                                                   cases_norm, cases_random};
    static const size_t counts[] = {CASES(cases_basic), CASES(cases_shape), CASES(cases_product),
                                    CASES(cases_norm), CASES(cases_random)};
    bool recorded[MOST_OPS] = {0};
    bool differentiated[MOST_OPS] = {0};
    assert_in_range(op_count(), 40, MOST_OPS);
    for (size_t t = 0; t < CASES(tables); t++) {
        for (size_t i = 0; i < counts[t]; i++) {
            struct recorded r;
            record(&r, &tables[t][i], DTYPE_F32, RECORD_STAGED, 1);
            mark_ops(r.g, recorded, differentiated);
            graph_destroy(&r.g);
        }
    }
    mark_collectives(recorded, differentiated);
    mark_integers(recorded, differentiated);
    for (int o = 0; o < op_count(); o++) {
        const struct op *op = op_at(o);
        if (!recorded[o]) fail_msg("no case records op '%s'", op->name);
        if (op->gradient && !differentiated[o]) fail_msg("no case differentiates '%s'", op->name);
    }
}

/* ---- equal and different ---- */

static struct graph *graph_new(void)
{
    struct graph *g = NULL;
    MUST(graph_create(&g, NULL));
    return g;
}

#define SAME(a, b)      assert_ptr_equal(a, b)
#define DIFFERENT(a, b) assert_ptr_not_equal(a, b)

static void test_equal_ops_are_one(void **state)
{
    (void)state;
    struct graph *g = graph_new();
    struct tensor *x = graph_input(g, "x", DTYPE_F32, SHAPE(4, 6));
    struct tensor *z = graph_input(g, "z", DTYPE_F32, SHAPE(4, 6));
    struct tensor *w = graph_parameter(g, "w", SHAPE(6, 6), INIT(INIT_ONES, 0));
    struct tensor *b = graph_parameter(g, "b", SHAPE(6), INIT(INIT_ONES, 0));
    SAME(op_gelu(g, x), op_gelu(g, x));
    DIFFERENT(op_gelu(g, x), op_gelu(g, z));
    DIFFERENT(op_gelu(g, x), op_quick_gelu(g, x));
    SAME(op_add(g, x, z), op_combine(g, x, 1, z, 1));
    DIFFERENT(op_add(g, x, z), op_add(g, z, x));
    DIFFERENT(op_combine(g, x, 1, z, 2), op_combine(g, x, 2, z, 1));
    SAME(op_scale(g, x, 0.1f), op_scale(g, x, 0.1f));
    DIFFERENT(op_scale(g, x, 0.1f), op_scale(g, x, 0.2f));
    SAME(op_linear(g, x, w, b), op_linear(g, x, w, b));
    DIFFERENT(op_linear(g, x, w, b), op_linear(g, x, w, NULL));
    DIFFERENT(op_linear(g, x, w, b), op_linear_transposed(g, x, w, b));
    SAME(op_slice(g, x, 1, 2, 4), op_slice(g, x, 1, 2, 4));
    DIFFERENT(op_slice(g, x, 1, 2, 4), op_slice(g, x, 1, 1, 3));
    DIFFERENT(op_slice(g, x, 0, 1, 3), op_slice(g, x, 1, 1, 3));
    DIFFERENT(op_sum(g, x, 0, 1), op_mean(g, x, 0, 1));
    DIFFERENT(op_sum(g, x, 0, 1), op_sum(g, x, 1, 2));
    DIFFERENT(op_layer_norm(g, x, b, b, 1e-5f), op_layer_norm(g, x, b, b, 1e-6f));
    DIFFERENT(op_fill(g, DTYPE_F32, SHAPE(2), 0), op_fill(g, DTYPE_BF16, SHAPE(2), 0));
    DIFFERENT(op_fill(g, DTYPE_F32, SHAPE(6), 0), op_fill(g, DTYPE_F32, SHAPE(2, 3), 0));
    SAME(op_fill(g, DTYPE_F32, SHAPE(6), 2), op_fill(g, DTYPE_F32, SHAPE(6), 2));
    SAME(op_cast(g, x, DTYPE_BF16), op_cast(g, x, DTYPE_BF16));
    MUST(graph_status(g));
    graph_destroy(&g);
}

static void test_nothing_to_do_is_x(void **state)
{
    (void)state;
    struct graph *g = graph_new();
    struct tensor *x = graph_input(g, "x", DTYPE_F32, SHAPE(2, 4, 4, 6));
    const int same[] = {0, 1, 2, 3};
    SAME(op_cast(g, x, DTYPE_F32), x);
    SAME(op_scale(g, x, 1), x);
    SAME(op_reshape(g, x, SHAPE(2, 4, 4, 6)), x);
    SAME(op_reshape(g, op_reshape(g, x, SHAPE(192)), SHAPE(2, 4, 4, 6)), x);
    SAME(op_permute(g, x, same), x);
    SAME(op_slice(g, x, 2, 0, 4), x);
    SAME(op_concat(g, &x, 1, 3), x);
    SAME(op_broadcast(g, x, x->shape), x);
    SAME(op_roll(g, x, 4, -8), x);
    SAME(op_roll(g, x, 1, 5), op_roll(g, x, -3, 1));
    SAME(op_sum(g, x, 2, 2), x);
    SAME(op_dropout(g, x, 0, 2, "d"), x);
    SAME(op_stop_gradient(g, x), x);
    /* A partition and its reverse end where they began, as one node each. */
    struct tensor *windows = op_window_partition(g, x, 2, 1);
    SAME(windows, op_window_partition(g, x, 2, 1));
    DIFFERENT(windows, op_window_partition(g, x, 2, 0));
    MUST(graph_status(g));
    graph_destroy(&g);
}

/* ---- random sites ---- */

static struct tensor *drop_at(struct graph *g, struct tensor *x, const char *scope,
                              const char *module, const char *name)
{
    graph_random_scope(g, scope);
    graph_push(g, "%s", module);
    struct tensor *y = op_dropout(g, x, 0.5f, 2, name);
    graph_pop(g);
    return y;
}

static void test_random_sites(void **state)
{
    (void)state;
    struct graph *g = graph_new();
    struct tensor *x = graph_input(g, "x", DTYPE_F32, SHAPE(2, 3));
    struct tensor *base = drop_at(g, x, "", "a", "d");
    SAME(base, drop_at(g, x, "", "a", "d"));
    DIFFERENT(base, drop_at(g, x, "", "b", "d"));
    DIFFERENT(base, drop_at(g, x, "", "a", "e"));
    DIFFERENT(base, drop_at(g, x, "itm", "a", "d"));
    SAME(drop_at(g, x, "itm", "a", "d"), drop_at(g, x, "itm", "a", "d"));
    DIFFERENT(drop_at(g, x, "mlm", "a", "d"), drop_at(g, x, "itm", "a", "d"));
    graph_random_scope(g, "");
    DIFFERENT(op_dropout(g, x, 0.5f, 2, "d"), op_dropout(g, x, 0.5f, 1, "d"));
    DIFFERENT(op_dropout(g, x, 0.5f, 2, "d"), op_dropout(g, x, 0.25f, 2, "d"));

    /* Attention without dropout does not care where it is; with dropout it does. */
    struct tensor *qkv = graph_input(g, "qkv", DTYPE_F32, SHAPE(2, 3, 48));
    struct tensor *plain[2];
    struct tensor *random[2];
    for (int i = 0; i < 2; i++) {
        graph_push(g, "layer%d", i);
        plain[i] = op_attention_qkv(g, qkv, NULL, &(struct attention_options){.heads = 2});
        random[i] = op_attention_qkv(g, qkv, NULL,
                                     &(struct attention_options){.heads = 2, .dropout = 0.5f});
        graph_pop(g);
    }
    SAME(plain[0], plain[1]);
    DIFFERENT(random[0], random[1]);
    MUST(graph_status(g));
    graph_destroy(&g);
}

/* ---- errors stay ---- */

static void test_errors_stay(void **state)
{
    (void)state;
    struct graph *g = graph_new();
    struct tensor *x = graph_input(g, "x", DTYPE_F32, SHAPE(2, 3));
    graph_push(g, "vision");
    graph_push(g, "block.3");
    struct tensor *bad = op_add(g, x, op_reshape(g, x, SHAPE(3, 2)));
    graph_pop(g);
    assert_null(bad);
    int64_t nodes = graph_num_nodes(g);
    /* All that follows is NULL, and the first message stays. */
    struct tensor *sum = x;
    assert_null(op_gelu(g, bad));
    assert_null(op_gelu(g, x));
    assert_null(op_linear(g, bad, x, NULL));
    assert_null(op_concat(g, (struct tensor *[]){x, bad}, 2, 0));
    assert_null(op_add_layer_norm(g, x, bad, x, x, 1e-5f, &sum));
    assert_null(sum);
    assert_null(op_cross_entropy(g, bad, x, -1, &sum));
    assert_null(op_window_partition(g, bad, 2, 0));
    assert_null(op_patch_merge(g, bad));
    assert_null(op_mean(g, bad, 0, 1));
    assert_null(op_dropout(g, bad, 0.5f, 2, "d"));
    assert_null(op_attention_qkv(g, bad, NULL, &(struct attention_options){.heads = 2}));
    assert_null(op_window_attention(g, bad, NULL, 2, 2, 0));
    assert_null(graph_parameter(g, "w", SHAPE(2), INIT(INIT_ONES, 0)));
    assert_null(op_fill(g, DTYPE_F32, SHAPE(0), 0));
    graph_output(g, "y", bad);
    assert_int_equal(graph_num_nodes(g), nodes);
    static const char message[] = "vision.block.3: combine: f32 [2,3] and f32 [3,2] differ";
    assert_int_equal(graph_status(g), STATUS_INVALID);
    assert_string_equal(status_message(), message);
    assert_int_equal(graph_differentiate(g, bad), STATUS_INVALID);
    assert_string_equal(status_message(), message);
    struct executor *e = NULL;
    assert_int_equal(executor_create(&e, g, NULL), STATUS_INVALID);
    assert_string_equal(status_message(), message);
    assert_null(e);
    graph_destroy(&g);
}

static void test_missing_inputs(void **state)
{
    (void)state;
    struct graph *g = graph_new();
    struct tensor *x = graph_input(g, "x", DTYPE_F32, SHAPE(2, 3));
    graph_push(g, "head");
    assert_null(op_mul(g, x, NULL));
    assert_int_equal(graph_status(g), STATUS_INVALID);
    assert_string_equal(status_message(), "head: mul: input 1 is missing");
    graph_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_ops_are_covered), cmocka_unit_test(test_equal_ops_are_one),
        cmocka_unit_test(test_nothing_to_do_is_x),  cmocka_unit_test(test_random_sites),
        cmocka_unit_test(test_errors_stay),         cmocka_unit_test(test_missing_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
