/*
 * The plan: no two live buffers overlap, plans without reuse, with poisoned memory, without fusion
 * and with recomputation give the same numbers, the same graph gives the same plan, print-outs are
 * complete.
 */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/runtime/tiny_model.h"

static void must(enum status status)
{
    if (status != STATUS_OK) fail_msg("%s", status_message());
}

static const struct tiny_options f32_options = {
    .batch = 3, .world_size = 1, .dtype = DTYPE_F32, .dropout = 0.2f};
static const struct tiny_options bf16_options = {
    .batch = 3, .world_size = 1, .dtype = DTYPE_BF16, .dropout = 0.2f};

/* Runs three steps of plain descent; returns the flat gradients and losses of all of them. */
static float *train(const struct tiny_options *options, const struct executor_options *how,
                    int64_t *count)
{
    struct tiny t;
    tiny_build(&t, options);
    must(graph_differentiate(t.graph, t.loss));
    struct executor *e = NULL;
    must(executor_create(&e, t.graph, how));
    must(plan_verify(executor_plan(e)));
    must(executor_init_parameters(e));
    int64_t n = graph_flat_elements(t.graph);
    float *record = malloc((size_t)(n + 1) * 3 * sizeof *record);
    for (int s = 0; s < 3; s++) {
        tiny_fill(&t, e, s * options->batch);
        must(executor_run(
            e, &(struct executor_run){.step = (uint64_t)s, .sample_base = (uint64_t)(s * 3)}));
        float *row = record + s * (n + 1);
        memcpy(row, executor_gradients(e), (size_t)n * sizeof *row);
        row[n] = *(float *)executor_data(e, t.loss);
        assert_true(isfinite(row[n]));
        float *p = executor_parameters(e);
        for (int64_t i = 0; i < n; i++) {
            p[i] -= 0.1f * row[i];
        }
        executor_parameters_changed(e);
    }
    executor_destroy(&e);
    graph_destroy(&t.graph);
    *count = (n + 1) * 3;
    return record;
}

static void same_as_default(const struct tiny_options *options, const struct executor_options *how)
{
    int64_t n = 0;
    int64_t m = 0;
    float *a = train(options, &(struct executor_options){.seed = 11}, &n);
    float *b = train(options, how, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, (size_t)n * sizeof *a);
    free(a);
    free(b);
}

static void test_no_reuse(void **state)
{
    (void)state;
    struct executor_options how = {.seed = 11, .plan = {.no_reuse = true}};
    same_as_default(&f32_options, &how);
    same_as_default(&bf16_options, &how);
}

static void test_poison(void **state)
{
    (void)state;
    struct executor_options how = {.seed = 11, .poison = true};
    same_as_default(&f32_options, &how);
    same_as_default(&bf16_options, &how);
}

static void test_recompute(void **state)
{
    (void)state;
    struct executor_options how = {.seed = 11, .poison = true};
    how.plan.recompute = PLAN_RECOMPUTE_CHEAP;
    same_as_default(&f32_options, &how);
    same_as_default(&bf16_options, &how);
    how.plan.recompute = PLAN_RECOMPUTE_BLOCKS;
    same_as_default(&f32_options, &how);
    same_as_default(&bf16_options, &how);
}

/* Fused sums round once instead of twice: equal to rounding, not to the bit. */
static void test_no_fusion(void **state)
{
    (void)state;
    int64_t n = 0;
    float *a = train(&f32_options, &(struct executor_options){.seed = 11}, &n);
    struct executor_options how = {.seed = 11, .plan = {.no_fusion = true}};
    float *b = train(&f32_options, &how, &n);
    double difference = 0;
    double size = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)a[i] * a[i];
    }
    assert_true(sqrt(difference / size) < 1e-5);
    free(a);
    free(b);
}

static struct plan *make_plan(struct tiny *t, const struct tiny_options *options,
                              enum plan_recompute recompute)
{
    tiny_build(t, options);
    must(graph_differentiate(t->graph, t->loss));
    struct plan *plan = NULL;
    struct plan_options plan_options = {.recompute = recompute, .bucket_bytes = 4096};
    must(plan_create(&plan, t->graph, &plan_options, &cpu_plan_backend));
    must(plan_verify(plan));
    return plan;
}

static void test_same_plan_on_rebuild(void **state)
{
    (void)state;
    for (int r = PLAN_KEEP; r <= PLAN_RECOMPUTE_BLOCKS; r++) {
        struct tiny ta;
        struct tiny tb;
        struct plan *a = make_plan(&ta, &f32_options, (enum plan_recompute)r);
        struct plan *b = make_plan(&tb, &f32_options, (enum plan_recompute)r);
        assert_int_equal(a->num_steps, b->num_steps);
        assert_int_equal(a->num_buffers, b->num_buffers);
        assert_memory_equal(a->buffers, b->buffers, (size_t)a->num_buffers * sizeof *a->buffers);
        assert_memory_equal(a->buckets, b->buckets, (size_t)a->num_buckets * sizeof *a->buckets);
        plan_destroy(&a, &cpu_plan_backend);
        plan_destroy(&b, &cpu_plan_backend);
        graph_destroy(&ta.graph);
        graph_destroy(&tb.graph);
    }
}

static void test_recompute_saves_memory(void **state)
{
    (void)state;
    size_t bytes[3];
    for (int r = PLAN_KEEP; r <= PLAN_RECOMPUTE_BLOCKS; r++) {
        struct tiny t;
        struct plan *plan = make_plan(&t, &f32_options, (enum plan_recompute)r);
        bytes[r] = plan->class_bytes[PLAN_CLASS_STEP];
        assert_true(bytes[r] >= plan->step_peak);
        assert_true((double)bytes[r] <= 1.1 * (double)plan->step_peak);
        struct plan_totals totals = plan_totals(plan);
        assert_true((totals.recompute_flops > 0) == (r != PLAN_KEEP));
        plan_destroy(&plan, &cpu_plan_backend);
        graph_destroy(&t.graph);
    }
    assert_true(bytes[PLAN_RECOMPUTE_CHEAP] < bytes[PLAN_KEEP]);
    assert_true(bytes[PLAN_RECOMPUTE_BLOCKS] < bytes[PLAN_RECOMPUTE_CHEAP]);
}

static void test_fusion_happens(void **state)
{
    (void)state;
    struct tiny t;
    struct plan *plan = make_plan(&t, &f32_options, PLAN_KEEP);
    int sums = 0;
    int stores = 0;
    for (int i = 0; i < plan->num_steps; i++) {
        sums += plan->steps[i].kernel.adds;
        stores += !plan->steps[i].node;
    }
    /* The tied table's two gradients and the residual paths of the norms, at the least. */
    assert_true(sums >= 4);
    /* Every gradient is computed in its slot; nothing is copied there afterwards. */
    assert_int_equal(stores, 0);
    plan_destroy(&plan, &cpu_plan_backend);
    graph_destroy(&t.graph);
}

/* Without gradients, GELU is computed by the product before it. */
static void test_gelu_epilogue(void **state)
{
    (void)state;
    struct tiny t;
    tiny_build(&t, &f32_options);
    struct plan *plan = NULL;
    must(plan_create(&plan, t.graph, NULL, &cpu_plan_backend));
    int fused = 0;
    for (int i = 0; i < plan->num_steps; i++) {
        const struct node *epilogue = plan->steps[i].kernel.epilogue;
        fused += epilogue && strcmp(epilogue->op->name, "gelu") == 0;
        assert_false(plan->steps[i].node && strcmp(plan->steps[i].node->op->name, "gelu") == 0);
    }
    assert_int_equal(fused, 3);
    plan_destroy(&plan, &cpu_plan_backend);
    graph_destroy(&t.graph);
}

static void test_buckets_cover_the_gradient(void **state)
{
    (void)state;
    struct tiny t;
    tiny_build(&t, &f32_options);
    must(graph_differentiate(t.graph, t.loss));
    for (int slices = 1; slices <= 5; slices++) {
        struct plan_options options = {.bucket_bytes = 5000, .num_slices = slices};
        struct plan *plan = NULL;
        must(plan_create(&plan, t.graph, &options, &cpu_plan_backend));
        int64_t elements = graph_flat_elements(t.graph);
        unsigned char *seen = calloc((size_t)elements, 1);
        for (int i = 0; i < plan->num_buckets; i++) {
            const struct plan_bucket *b = &plan->buckets[i];
            assert_true(i == 0 || b->ready >= plan->buckets[i - 1].ready);
            assert_true(b->offset >= plan_slice_begin(elements, slices, b->slice));
            assert_true(b->offset + b->count <= plan_slice_begin(elements, slices, b->slice + 1));
            for (int64_t k = b->offset; k < b->offset + b->count; k++) {
                seen[k]++;
            }
        }
        for (int64_t k = 0; k < elements; k++) {
            assert_int_equal(seen[k], 1);
        }
        free(seen);
        plan_destroy(&plan, &cpu_plan_backend);
    }
    graph_destroy(&t.graph);
}

static void test_print(void **state)
{
    (void)state;
    struct tiny t;
    struct plan *plan = make_plan(&t, &f32_options, PLAN_RECOMPUTE_BLOCKS);
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    plan_print_json(plan, file, true);
    fclose(file);
    json_error_t error;
    json_t *json = json_loads(text, 0, &error);
    if (!json) fail_msg("%s", error.text);
    struct plan_totals totals = plan_totals(plan);
    json_t *flops = json_object_get(json, "flops");
    assert_true(json_number_value(json_object_get(flops, "distinct")) == totals.distinct_flops);
    assert_true(json_number_value(json_object_get(flops, "executed")) >
                json_number_value(json_object_get(flops, "distinct")));
    assert_int_equal(json_array_size(json_object_get(json, "steps")), plan->num_steps);
    json_decref(json);
    free(text);
    file = open_memstream(&text, &size);
    plan_print(plan, file, true);
    fclose(file);
    assert_non_null(strstr(text, "activations"));
    assert_non_null(strstr(text, "image.block.1.qkv"));
    assert_non_null(strstr(text, "again"));
    free(text);
    plan_destroy(&plan, &cpu_plan_backend);
    graph_destroy(&t.graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_reuse),
        cmocka_unit_test(test_poison),
        cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_no_fusion),
        cmocka_unit_test(test_same_plan_on_rebuild),
        cmocka_unit_test(test_recompute_saves_memory),
        cmocka_unit_test(test_fusion_happens),
        cmocka_unit_test(test_gelu_epilogue),
        cmocka_unit_test(test_buckets_cover_the_gradient),
        cmocka_unit_test(test_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
