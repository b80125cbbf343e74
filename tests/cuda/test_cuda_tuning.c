/*
 * Algorithms of products chosen by time: what was found is kept and taken again, whatever is
 * fastest then, and an executor computes as if it had not been timed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/backend/cuda/matmul.h"
#include "runtime/backend/cuda/tuning.h"
#include "runtime/backend/executor.h"
#include "tests/runtime/tiny_model.h"

enum { BATCH = 2 };

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if ((expression) != STATUS_OK) fail_msg("%s", status_message());                           \
    } while (0)

static char path[512];

/* Only the emulator says which algorithm is the fastest. */
#if defined(WEFT_CUDA_EMULATED)
static const bool is_emulated = true;
#else
static const bool is_emulated = false;
#endif

static int64_t num_timed(void)
{
    int64_t products = 0;
    double seconds = 0;
    cuda_matmul_timed(&products, &seconds);
    assert_true(products == 0 || seconds > 0);
    return products;
}

/* As if the process had started anew. */
static void forget(void)
{
    struct tuning *choices = NULL;
    MUST(cuda_matmul_choices(&choices));
    char identity[TUNING_IDENTITY];
    snprintf(identity, sizeof identity, "%s", choices->identity);
    tuning_close(choices);
    MUST(tuning_open(choices, identity));
}

/* Two micro-steps: the gradients, allocated. With `adds_first` the first run adds to gradients. */
static float *gradients_of(enum dtype dtype, bool adds_first, int64_t *count)
{
    struct tiny t;
    struct executor *e = NULL;
    tiny_build(&t, &(struct tiny_options){.batch = BATCH, .world_size = 1, .dtype = dtype});
    MUST(graph_differentiate(t.graph, t.loss));
    struct executor_options options = {.seed = 3, .device = DEVICE_CUDA};
    options.plan.runs_per_update = 2;
    MUST(executor_create(&e, t.graph, &options));
    MUST(executor_init_parameters(e));
    for (int m = adds_first ? 1 : 0; m < 3; m++) {
        tiny_fill(&t, e, m * BATCH);
        MUST(executor_run(
            e, &(struct executor_run){.sample_base = (uint64_t)(m * BATCH), .accumulate = m == 1}));
        MUST(executor_wait(e));
    }
    MUST(executor_gradients_fetch(e));
    *count = graph_flat_elements(t.graph);
    float *kept = malloc((size_t)*count * sizeof *kept);
    assert_non_null(kept);
    memcpy(kept, executor_gradients(e), (size_t)*count * sizeof *kept);
    executor_destroy(&e);
    graph_destroy(&t.graph);
    return kept;
}

static bool same(const float *a, const float *b, int64_t count)
{
    return memcmp(a, b, (size_t)count * sizeof *a) == 0;
}

static void test_chosen_and_kept(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        enum dtype dtype = d ? DTYPE_BF16 : DTYPE_F32;
        int64_t count = 0;
        setenv("WEFT_CUDA_TUNING", "off", 1);
        int64_t before = num_timed();
        forget();
        float *untimed = gradients_of(dtype, false, &count);
        assert_int_equal(num_timed(), before);
        setenv("WEFT_CUDA_TUNING", path, 1);
        unlink(path);
        forget();
        setenv("WEFT_EMULATED_FASTEST", "0", 1);
        float *first = gradients_of(dtype, false, &count);
        int64_t products = num_timed() - before;
        assert_true(products > 10);
        /* The library's first choice is the fastest: as without timing. */
        if (is_emulated) assert_true(same(untimed, first, count));
        unlink(path);
        forget();
        setenv("WEFT_EMULATED_FASTEST", "2", 1);
        float *second = gradients_of(dtype, false, &count);
        assert_int_equal(num_timed() - before, 2 * products);
        /* Sums in another order differ in their last bits, at least in f32. */
        if (is_emulated && dtype == DTYPE_F32) assert_false(same(first, second, count));
        /* In this process, and in another: nothing is timed, and the choice is that of before. */
        for (int again = 0; again < 2; again++) {
            setenv("WEFT_EMULATED_FASTEST", "1", 1);
            float *third = gradients_of(dtype, false, &count);
            assert_int_equal(num_timed() - before, 2 * products);
            assert_true(same(second, third, count));
            free(third);
            forget();
        }
        free(untimed);
        free(first);
        free(second);
    }
    unsetenv("WEFT_EMULATED_FASTEST");
}

/* A file whose algorithms this library cannot run: they are timed again. */
static void test_foreign_algorithms(void **state)
{
    (void)state;
    int64_t count = 0;
    struct tuning *choices = NULL;
    setenv("WEFT_CUDA_TUNING", path, 1);
    unlink(path);
    forget();
    float *first = gradients_of(DTYPE_F32, false, &count);
    int64_t timed = num_timed();
    MUST(cuda_matmul_choices(&choices));
    for (int i = 0; i < choices->count; i++) {
        memset(choices->choices[i].algorithm, 0xEE, TUNING_ALGORITHM);
    }
    float *second = gradients_of(DTYPE_F32, false, &count);
    assert_true(num_timed() > timed);
    if (is_emulated) assert_true(same(first, second, count));
    free(first);
    free(second);
}

/* A first run that adds to gradients is not timed, as it needs them; the next one is. */
static void test_adding_first(void **state)
{
    (void)state;
    int64_t count = 0;
    setenv("WEFT_CUDA_TUNING", "off", 1);
    forget();
    float *untimed = gradients_of(DTYPE_F32, true, &count);
    setenv("WEFT_CUDA_TUNING", path, 1);
    unlink(path);
    forget();
    int64_t before = num_timed();
    float *timed = gradients_of(DTYPE_F32, true, &count);
    assert_true(num_timed() > before);
    if (is_emulated) assert_true(same(untimed, timed, count));
    free(untimed);
    free(timed);
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/weft-tuning-%ld", base ? base : "/tmp", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chosen_and_kept),
        cmocka_unit_test(test_foreign_algorithms),
        cmocka_unit_test(test_adding_first),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
