/* kill -9 at any moment of a save, a full disk, a read-only one: the former checkpoint stays.
 * timeout=60 alone=yes */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/rng.h"
#include "tests/runtime/checkpoint/fixture.h"

enum { ELEMENTS = 500000, KILLS = 20 };

static char folder[256];
static bool has_own_mounts;

/* What the killed program does: saves step after step, and a letter for each, until it is gone. */
static int save_for_ever(const char *path, int64_t step)
{
    struct fixture fixture;
    fixture_create(&fixture, ELEMENTS, false, 0, 1);
    struct checkpoint_saver_options options = {.keep = 2, .resumed_step = step};
    struct checkpoint_saver *saver;
    if (checkpoint_saver_create(&saver, path, &options, NULL) != STATUS_OK) return 1;
    for (;;) {
        fixture_fill(&fixture, ++step);
        if (checkpoint_save(saver, &fixture.state) != STATUS_OK) return 1;
        if (write(STDOUT_FILENO, "s", 1) != 1) return 1;
    }
}

/* A small checkpoint of step 1000 for test_h5py.py. */
static int save_example(const char *path)
{
    struct fixture fixture;
    fixture_create(&fixture, 80, false, 0, 1);
    fixture_fill(&fixture, 1000);
    fixture.parameters[2].name = "temp";
    struct checkpoint_saver_options options = {0};
    struct checkpoint_saver *saver;
    bool good = checkpoint_saver_create(&saver, path, &options, NULL) == STATUS_OK &&
                checkpoint_save(saver, &fixture.state) == STATUS_OK;
    checkpoint_saver_destroy(&saver);
    fixture_destroy(&fixture);
    return good ? 0 : 1;
}

static pid_t start_saving(int64_t step, int *output)
{
    char text[32];
    int ends[2];
    snprintf(text, sizeof text, "%lld", (long long)step);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        if (!freopen("/dev/null", "w", stderr)) _exit(1);
        execl("/proc/self/exe", "test_interrupted", "--save", folder, text, (char *)NULL);
        _exit(1);
    }
    close(ends[1]);
    *output = ends[0];
    return child;
}

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

static void test_killed(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    int64_t step = 0;
    int64_t leftovers = 0;
    for (uint32_t i = 0; i < KILLS; i++) {
        int output;
        char letter;
        pid_t child = start_saving(step, &output);
        assert_int_equal(read(output, &letter, 1), 1);
        /* A save takes some milliseconds: the moment is anywhere in a later one. */
        usleep(rng_below(rng_at(rng_key(1, RNG_TEST, 0), 0, i, 0).word[0], 40000));
        assert_int_equal(kill(child, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        close(output);
        struct checkpoint *checkpoint;
        ASSERT_OK(checkpoint_open(&checkpoint, folder, NULL));
        assert_true(checkpoint_step(checkpoint) > step);
        step = checkpoint_step(checkpoint);
        fixture_expect(checkpoint, ELEMENTS, step, 0, 1);
        checkpoint_close(&checkpoint);
        char command[320];
        snprintf(command, sizeof command, "ls '%s'/*.tmp >/dev/null 2>&1", folder);
        if (system(command) == 0) leftovers++;
        struct checkpoint_saver_options options = {.resumed_step = step};
        struct checkpoint_saver *saver;
        ASSERT_OK(checkpoint_saver_create(&saver, folder, &options, NULL));
        checkpoint_saver_destroy(&saver);
        assert_int_not_equal(system(command), 0);
    }
    assert_true(leftovers > 0); /* some were killed inside a write */
    assert_true(step >= KILLS);
}

/* A small disk of our own, where the system allows it; root is not stopped by permissions. */
static void mount_disk(const char *options)
{
    if (!has_own_mounts || mount("weft", folder, "tmpfs", 0, options) != 0) {
        print_message("# no mounts in this environment\n");
        skip();
    }
}

static void test_full_disk(void **state)
{
    (void)state;
    mount_disk("size=10m");
    struct fixture fixture;
    fixture_create(&fixture, ELEMENTS, false, 0, 1); /* 6 MB */
    struct checkpoint_saver_options options = {.keep = 1};
    struct checkpoint_saver *saver;
    ASSERT_OK(checkpoint_saver_create(&saver, folder, &options, NULL));
    ASSERT_OK(checkpoint_save(saver, &fixture.state));
    for (int64_t step = 1; step <= 2; step++) {
        fixture_fill(&fixture, step);
        ASSERT_FAILS(checkpoint_save(saver, &fixture.state), STATUS_IO,
                     "No space left on device; free space there or keep fewer checkpoints");
        assert_non_null(strstr(status_message(), folder));
    }
    struct checkpoint *checkpoint;
    ASSERT_OK(checkpoint_open(&checkpoint, folder, NULL));
    fixture_expect(checkpoint, ELEMENTS, 0, 0, 1);
    checkpoint_close(&checkpoint);
    /* Once there is space, the same saver goes on. */
    char path[512];
    snprintf(path, sizeof path, "%s/step-00000000.h5", folder);
    assert_int_equal(unlink(path), 0);
    ASSERT_OK(checkpoint_save(saver, &fixture.state));
    checkpoint_saver_destroy(&saver);
    ASSERT_OK(checkpoint_open(&checkpoint, folder, NULL));
    fixture_expect(checkpoint, ELEMENTS, 2, 0, 1);
    checkpoint_close(&checkpoint);
    fixture_destroy(&fixture);
    assert_int_equal(umount(folder), 0);
}

static void test_read_only(void **state)
{
    (void)state;
    mount_disk("size=10m");
    struct fixture fixture;
    fixture_create(&fixture, 1000, false, 0, 1);
    struct checkpoint_saver_options options = {.keep = 1};
    struct checkpoint_saver *saver;
    ASSERT_OK(checkpoint_saver_create(&saver, folder, &options, NULL));
    ASSERT_OK(checkpoint_save(saver, &fixture.state));
    assert_int_equal(mount("weft", folder, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), 0);
    fixture_fill(&fixture, 1);
    ASSERT_FAILS(checkpoint_save(saver, &fixture.state), STATUS_IO,
                 "Read-only file system; make the folder writable or choose another run folder");
    checkpoint_saver_destroy(&saver);
    ASSERT_FAILS(checkpoint_saver_create(&saver, folder, &options, NULL), STATUS_IO,
                 "Read-only file system; make the folder writable or choose another run folder");
    assert_null(saver);
    struct checkpoint *checkpoint;
    ASSERT_OK(checkpoint_open(&checkpoint, folder, NULL));
    fixture_expect(checkpoint, 1000, 0, 0, 1);
    checkpoint_close(&checkpoint);
    fixture_destroy(&fixture);
    assert_int_equal(umount(folder), 0);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--save") == 0) {
        return save_for_ever(argv[2], strtoll(argv[3], NULL, 10));
    }
    if (argc == 3 && strcmp(argv[1], "--example") == 0) return save_example(argv[2]);
    /* Before any thread exists. Mounts made from here on are ours alone and go with us. */
    bool alone = unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0;
    has_own_mounts = alone && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
