/* A failure of one rank's write is one message on all ranks.   np=1,2,3 timeout=60 */
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/runtime/checkpoint/fixture.h"

enum { ELEMENTS = 2000000 };

static struct comm *comm;
static char folder[256];

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void expect_no_leftovers(int64_t step)
{
    char path[512];
    struct stat info;
    snprintf(path, sizeof path, "%s/step-%08lld.h5.tmp", folder, (long long)step);
    ASSERT_OK(comm_barrier(comm, "failed"));
    assert_int_equal(stat(path, &info), -1);
}

static void expect_failure(enum status status, int failing, int64_t step, const char *reason)
{
    char who[32];
    char message[1024];
    snprintf(message, sizeof message, "%s", status_message());
    assert_int_equal(status, STATUS_IO);
    snprintf(who, sizeof who, "rank %d: ", failing);
    if (!strstr(message, folder) || !strstr(message, reason)) {
        fail_msg("'%s' lacks '%s'", message, reason);
    }
    assert_true(comm->rank == failing || strncmp(message, who, strlen(who)) == 0);
    expect_no_leftovers(step);
}

/* The limit is there from the start, or comes while the thread writes. */
static void test_one_rank_cannot_write(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_folder(folder, comm);
    fixture_create(&fixture, ELEMENTS, false, comm->rank, comm->size);
    struct checkpoint_saver_options options = {0};
    struct checkpoint_saver *saver;
    ASSERT_OK(checkpoint_saver_create(&saver, folder, &options, comm));
    ASSERT_OK(checkpoint_save(saver, &fixture.state));
    static const char reason[] = "File too large; raise the file size limit (ulimit -f)";
    int last = comm->size - 1;
    fixture_fill(&fixture, 1);
    if (comm->rank == last) limit_files(1 << 20);
    enum status status = checkpoint_begin(saver, &fixture.state);
    if (comm->rank == last) limit_files(RLIM_INFINITY);
    expect_failure(status, last, 1, reason);
    struct checkpoint *checkpoint;
    ASSERT_OK(checkpoint_open(&checkpoint, folder, comm));
    fixture_expect(checkpoint, ELEMENTS, 0, comm->rank, comm->size);
    checkpoint_close(&checkpoint);
    /* A thread that is quicker than the limit writes a good file instead. */
    bool failed = false;
    int64_t step = 1;
    while (!failed && step < 100) {
        bool finished;
        fixture_fill(&fixture, ++step);
        ASSERT_OK(checkpoint_begin(saver, &fixture.state));
        if (comm->rank == last) limit_files(1 << 20);
        status = checkpoint_wait(saver, &finished);
        if (comm->rank == last) limit_files(RLIM_INFINITY);
        failed = status != STATUS_OK;
        if (failed) expect_failure(status, last, step, reason);
    }
    assert_true(failed);
    ASSERT_OK(checkpoint_save(saver, &fixture.state));
    checkpoint_saver_destroy(&saver);
    ASSERT_OK(checkpoint_open(&checkpoint, folder, comm));
    fixture_expect(checkpoint, ELEMENTS, step, comm->rank, comm->size);
    checkpoint_close(&checkpoint);
    fixture_destroy(&fixture);
    fixture_remove(folder, comm);
}

/* Giving up a save that is in flight leaves nothing behind. */
static void test_given_up(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_folder(folder, comm);
    fixture_create(&fixture, ELEMENTS, true, comm->rank, comm->size);
    struct checkpoint_saver_options options = {0};
    struct checkpoint_saver *saver;
    ASSERT_OK(checkpoint_saver_create(&saver, folder, &options, comm));
    ASSERT_OK(checkpoint_begin(saver, &fixture.state));
    checkpoint_saver_destroy(&saver);
    expect_no_leftovers(0);
    fixture_destroy(&fixture);
    fixture_remove(folder, comm);
}

static void test_no_folder(void **state)
{
    (void)state;
    struct checkpoint_saver_options options = {0};
    struct checkpoint_saver *saver;
    ASSERT_FAILS(checkpoint_saver_create(&saver, "/dev/null/run", &options, comm), STATUS_IO,
                 "/dev/null");
    assert_null(saver);
}

int main(void)
{
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "comm_create: %s\n", status_message());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_rank_cannot_write),
        cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_no_folder),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
