/*
 * Threads are pinned to processors of their own, ranks of one host divide what they share, large
 * memory is zeroed and refused with its size, packed weights follow the parameters.
 */
#include <omp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/backend/cpu/memory.h"
#include "runtime/backend/cpu/threads.h"
#include "runtime/backend/executor.h"
#include "runtime/ops/ops.h"

/* Runs in a child, because pinning lasts: prints one bit per processor its threads are on. */
static uint64_t child_mask(int local_rank, int local_size, struct cpu_threads *threads)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        unsetenv("OMP_NUM_THREADS");
        struct cpu_threads t;
        uint64_t mask = 0;
        if (cpu_threads_start(local_rank, local_size, &t) != STATUS_OK) _exit(1);
#pragma omp parallel reduction(| : mask)
        mask |= (uint64_t)1 << sched_getcpu();
        if (write(ends[1], &t, sizeof t) < 0 || write(ends[1], &mask, sizeof mask) < 0) _exit(1);
        _exit(0);
    }
    close(ends[1]);
    uint64_t mask = 0;
    assert_int_equal(read(ends[0], threads, sizeof *threads), sizeof *threads);
    assert_int_equal(read(ends[0], &mask, sizeof mask), sizeof mask);
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    return mask;
}

static void test_pinning(void **state)
{
    (void)state;
    cpu_set_t all;
    sched_getaffinity(0, sizeof all, &all);
    int processors = CPU_COUNT(&all);
    if (processors > 64) skip();
    struct cpu_threads t;
    uint64_t mask = child_mask(0, 1, &t);
    assert_int_equal(t.num_threads, processors);
    assert_true(t.pinned);
    assert_int_equal(__builtin_popcountll(mask), processors);
    if (processors < 2 || processors < (int)sysconf(_SC_NPROCESSORS_ONLN)) return;
    uint64_t first = child_mask(0, 2, &t);
    assert_int_equal(t.num_threads, processors / 2);
    uint64_t second = child_mask(1, 2, &t);
    assert_int_equal(first & second, 0);
    /* More ranks than processors: one thread each, as few pinned as fit. */
    child_mask(processors, 2 * processors, &t);
    assert_int_equal(t.num_threads, 1);
    assert_false(t.pinned);
}

static void test_memory(void **state)
{
    (void)state;
    void *memory = NULL;
    assert_int_equal(memory_map(&memory, 1 << 20, "a test"), STATUS_OK);
    assert_int_equal((uintptr_t)memory % 64, 0);
    for (int i = 0; i < 1 << 20; i += 4096) {
        assert_int_equal(((char *)memory)[i], 0);
    }
    memory_unmap(&memory, 1 << 20);
    assert_null(memory);
    assert_int_equal(memory_map(&memory, (size_t)1 << 60, "a test"), STATUS_NO_MEMORY);
    assert_non_null(strstr(status_message(), "MiB for a test"));
    assert_int_equal(memory_map(&memory, 0, "nothing"), STATUS_OK);
    assert_null(memory);
}

/* A weight that several products read is packed; the copy is renewed when the parameters change. */
static void test_packed_weights(void **state)
{
    (void)state;
    enum { N = 48 };
    struct graph *g = NULL;
    assert_int_equal(graph_create(&g, NULL), STATUS_OK);
    struct tensor *x = graph_input(g, "x", DTYPE_F32, SHAPE(N, N));
    struct tensor *w = graph_parameter(g, "w", SHAPE(N, N), INIT(INIT_CONSTANT, 1.0f));
    struct tensor *y =
        op_linear(g, op_linear_transposed(g, op_linear(g, x, w, NULL), w, NULL), w, NULL);
    graph_output(g, "y", y);
    struct executor *e = NULL;
    assert_int_equal(executor_create(&e, g, NULL), STATUS_OK);
    executor_init_parameters(e);
    float *in = executor_data(e, x);
    for (int i = 0; i < N * N; i++) {
        in[i] = 1.0f;
    }
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < N * N; i++) {
            executor_parameters(e)[i] = (float)round;
        }
        executor_parameters_changed(e);
        assert_int_equal(executor_run(e, &(struct executor_run){0}), STATUS_OK);
        float expected = (float)(N * round) * (float)(N * round) * (float)(N * round);
        assert_true(*(float *)executor_data(e, y) == expected);
    }
    executor_destroy(&e);
    graph_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pinning),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_packed_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
