/* Two jobs cannot write one run; a dead one does not lock it out.   timeout=30 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/checkpoint/run_lock.h"
#include "tests/runtime/checkpoint/fixture.h"

static char folder[256];

static int setup(void **state)
{
    (void)state;
    fixture_folder(folder, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_remove(folder, NULL);
    return 0;
}

/* A process that holds the lock until it is killed. */
static pid_t start_holder(void)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct run_lock *lock;
        setenv("SLURM_JOB_ID", "4711", 1);
        char good = run_lock_acquire(&lock, folder, NULL) == STATUS_OK ? 'y' : 'n';
        if (write(ready[1], &good, 1) != 1) _exit(1);
        for (;;) {
            pause();
        }
    }
    char good = 'n';
    assert_int_equal(read(ready[0], &good, 1), 1);
    assert_int_equal(good, 'y');
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void test_second_job_is_told_who(void **state)
{
    (void)state;
    struct run_lock *lock;
    pid_t holder = start_holder();
    char expected[64];
    snprintf(expected, sizeof expected, "being written by process %d on ", (int)holder);
    for (int i = 0; i < 2; i++) { /* being refused does not change who is named */
        ASSERT_FAILS(run_lock_acquire(&lock, folder, NULL), STATUS_INVALID, expected);
        assert_non_null(strstr(status_message(), "job 4711 since 2"));
        assert_null(lock);
    }
    /* Killed, not released: the next one gets it. */
    assert_int_equal(kill(holder, SIGKILL), 0);
    assert_int_equal(waitpid(holder, NULL, 0), holder);
    ASSERT_OK(run_lock_acquire(&lock, folder, NULL));
    snprintf(expected, sizeof expected, "being written by process %d on ", (int)getpid());
    struct run_lock *second;
    ASSERT_FAILS(run_lock_acquire(&second, folder, NULL), STATUS_INVALID, expected);
    run_lock_release(&lock);
    assert_null(lock);
    run_lock_release(&lock);
    ASSERT_OK(run_lock_acquire(&lock, folder, NULL));
    run_lock_release(&lock);
}

static void test_text_that_is_damaged(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/lock", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("host a pid", file);
    fclose(file);
    struct run_lock *lock;
    ASSERT_OK(run_lock_acquire(&lock, folder, NULL));
    run_lock_release(&lock);
}

static void test_no_folder(void **state)
{
    (void)state;
    char missing[512];
    snprintf(missing, sizeof missing, "%s/missing", folder);
    struct run_lock *lock;
    ASSERT_FAILS(run_lock_acquire(&lock, missing, NULL), STATUS_IO, "missing/lock: cannot open");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_second_job_is_told_who, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text_that_is_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_folder, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
