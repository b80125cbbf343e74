/* Threads of a loader: their processors, which are the process's and not the consumer's one; their
 * clocks; and signals, which stay with the consumer. */
#include "tests/data/loader/loader_fixture.h"

#include <sched.h>

#include "data/loader/loader_impl.h"

static pthread_barrier_t pinned;
static pthread_barrier_t leave;

static void pin(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
}

/* A thread on one processor, or with NULL one that is not pinned. */
static void *stay(void *cpu)
{
    if (cpu) pin(*(int *)cpu);
    pthread_barrier_wait(&pinned);
    pthread_barrier_wait(&leave);
    return NULL;
}

static cpu_set_t worker_mask;
static sigset_t worker_signals;

static void *look(void *worker)
{
    (void)worker;
    sched_getaffinity(0, sizeof worker_mask, &worker_mask);
    pthread_sigmask(SIG_SETMASK, NULL, &worker_signals);
    return NULL;
}

static void test_processors(void **state)
{
    (void)state;
    cpu_set_t before;
    int cpus[2];
    int count = 0;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE && count < 2; cpu++) {
        if (CPU_ISSET(cpu, &before)) cpus[count++] = cpu;
    }
    if (count < 2) skip(); /* one processor: nothing to tell apart */
    pthread_t thread;
    pthread_t helper;
    struct loader loader = {0};
    struct loader_worker worker = {0};
    pthread_barrier_init(&pinned, NULL, 2);
    pthread_barrier_init(&leave, NULL, 3);
    assert_int_equal(worker_processors(), CPU_COUNT(&before));
    assert_int_equal(pthread_create(&helper, NULL, stay, NULL), 0);
    pthread_barrier_wait(&pinned);
    pin(cpus[0]);
    assert_int_equal(worker_processors(), 1); /* the helper's do not count */
    assert_int_equal(pthread_create(&thread, NULL, stay, &cpus[1]), 0);
    pthread_barrier_wait(&pinned);
    assert_int_equal(worker_processors(), 2);
    ASSERT_OK(worker_init(&worker, &loader));
    ASSERT_OK(worker_start(&worker, look));
    pthread_join(worker.thread, NULL);
    assert_true(CPU_ISSET(cpus[0], &worker_mask) && CPU_ISSET(cpus[1], &worker_mask));
    assert_int_equal(sigismember(&worker_signals, SIGTERM), 1);
    assert_int_equal(sigismember(&worker_signals, SIGUSR1), 1);
    sigset_t mine;
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    assert_int_equal(sigismember(&mine, SIGTERM), 0);
    worker_fini(&worker);
    pthread_barrier_wait(&leave);
    pthread_join(thread, NULL);
    pthread_join(helper, NULL);
    sched_setaffinity(0, sizeof before, &before);
    pthread_barrier_destroy(&pinned);
    pthread_barrier_destroy(&leave);
}

/* Seconds count for the stage that was on, the running one included. */
static void test_clock(void **state)
{
    (void)state;
    struct loader loader = {0};
    struct loader_worker worker = {0};
    double seconds[NUM_STAGES] = {0};
    struct timespec pause = {.tv_nsec = 20000000};
    ASSERT_OK(worker_init(&worker, &loader));
    double begin = worker_now();
    worker_stage(&worker, STAGE_READ);
    nanosleep(&pause, NULL);
    worker_stage(&worker, STAGE_DECODE);
    nanosleep(&pause, NULL);
    nanosleep(&pause, NULL);
    worker_seconds(&worker, seconds);
    double whole = worker_now() - begin;
    assert_true(seconds[STAGE_READ] >= 0.02 && seconds[STAGE_DECODE] >= 0.04);
    assert_true(seconds[STAGE_TOKENISE] == 0);
    assert_true(seconds[STAGE_READ] + seconds[STAGE_DECODE] <= whole);
    worker_fini(&worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_processors),
        cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
