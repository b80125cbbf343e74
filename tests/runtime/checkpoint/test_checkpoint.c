/* What is saved comes back, on any number of ranks.   np=1,2,3 timeout=60 */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/runtime/checkpoint/fixture.h"

static struct comm *comm;
static char folder[256];

static struct checkpoint_saver *create_saver(int64_t keep, int64_t keep_every)
{
    struct checkpoint_saver_options options = {.keep = keep, .keep_every = keep_every};
    struct checkpoint_saver *saver;
    ASSERT_OK(checkpoint_saver_create(&saver, folder, &options, comm));
    return saver;
}

static int setup(void **state)
{
    (void)state;
    fixture_folder(folder, comm);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_remove(folder, comm);
    return 0;
}

static bool exists(const char *name)
{
    char path[512];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &info) == 0;
}

/* Opens the folder with all ranks and then alone, whose slices are those of other counts. */
static void expect_saved(int64_t elements, int64_t step)
{
    struct checkpoint *checkpoint;
    ASSERT_OK(checkpoint_open(&checkpoint, folder, comm));
    fixture_expect(checkpoint, elements, step, comm->rank, comm->size);
    checkpoint_close(&checkpoint);
    ASSERT_OK(checkpoint_open(&checkpoint, folder, NULL));
    for (int size = 1; size <= 4; size++) {
        for (int rank = 0; rank < size; rank++) {
            fixture_expect(checkpoint, elements, step, rank, size);
        }
    }
    checkpoint_close(&checkpoint);
    assert_null(checkpoint);
}

static void expect_by_latest(int64_t elements, int64_t step)
{
    struct checkpoint *checkpoint;
    char latest[sizeof folder + 8];
    snprintf(latest, sizeof latest, "%s/latest", folder);
    ASSERT_OK(checkpoint_open(&checkpoint, latest, comm));
    fixture_expect(checkpoint, elements, step, comm->rank, comm->size);
    checkpoint_close(&checkpoint);
}

static void save_and_load(int64_t elements, bool sharded)
{
    struct fixture fixture;
    fixture_create(&fixture, elements, sharded, comm->rank, comm->size);
    fixture_fill(&fixture, 7);
    struct checkpoint_saver *saver = create_saver(0, 0);
    ASSERT_OK(checkpoint_save(saver, &fixture.state));
    struct checkpoint_report report = checkpoint_report(saver);
    assert_int_equal(report.step, 7);
    assert_true(report.bytes > 3 * elements * 4);
    checkpoint_saver_destroy(&saver);
    assert_null(saver);
    expect_saved(elements, 7);
    expect_by_latest(elements, 7);
    fixture_destroy(&fixture);
}

static void test_whole(void **state)
{
    (void)state;
    save_and_load(100003, false);
}

static void test_sharded(void **state)
{
    (void)state;
    save_and_load(100003, true);
}

static void test_smaller_than_ranks(void **state)
{
    (void)state;
    save_and_load(65, true);
}

/* More than one piece a vector, and the state changes while the thread writes. */
static void test_changes_after_settling(void **state)
{
    (void)state;
    const int64_t elements = 4200011; /* two pieces */
    struct fixture fixture;
    fixture_create(&fixture, elements, true, comm->rank, comm->size);
    struct checkpoint_saver *saver = create_saver(0, 0);
    for (int64_t step = 1; step <= 2; step++) {
        fixture_fill(&fixture, step);
        ASSERT_OK(checkpoint_begin(saver, &fixture.state));
        /* Some steps leave the thread time before they ask for their memory back. */
        if (step == 2) usleep(3000);
        ASSERT_OK(checkpoint_settle(saver));
        ASSERT_OK(checkpoint_settle(saver));
        fixture_fill(&fixture, 1000 + step);
        bool finished = false;
        for (int i = 0; i < 100000 && !finished; i++) {
            ASSERT_OK(checkpoint_progress(saver, &finished));
        }
        if (!finished) ASSERT_OK(checkpoint_wait(saver, &finished));
        assert_true(finished);
        assert_int_equal(checkpoint_report(saver).step, step);
        struct checkpoint *checkpoint;
        ASSERT_OK(checkpoint_open(&checkpoint, checkpoint_report(saver).path, comm));
        fixture_expect(checkpoint, elements, step, comm->rank, comm->size);
        checkpoint_close(&checkpoint);
    }
    checkpoint_saver_destroy(&saver);
    fixture_destroy(&fixture);
}

static void expect_latest(const char *expected)
{
    char path[512];
    char line[64] = "";
    snprintf(path, sizeof path, "%s/latest", folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    assert_string_equal(line, expected);
    ASSERT_OK(comm_barrier(comm, "latest read"));
}

static void test_keeps_the_newest(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_create(&fixture, 1000, false, comm->rank, comm->size);
    struct checkpoint_saver *saver = create_saver(2, 20);
    for (int64_t step = 10; step <= 60; step += 10) {
        fixture_fill(&fixture, step);
        ASSERT_OK(checkpoint_save(saver, &fixture.state));
    }
    checkpoint_saver_destroy(&saver);
    assert_false(exists("step-00000010.h5"));
    assert_true(exists("step-00000020.h5"));
    assert_false(exists("step-00000030.h5"));
    assert_true(exists("step-00000040.h5"));
    assert_true(exists("step-00000050.h5"));
    assert_true(exists("step-00000060.h5"));
    assert_false(exists("latest.tmp"));
    expect_latest("step-00000060.h5\n");
    if (comm->rank == 0) {
        char path[512];
        snprintf(path, sizeof path, "%s/latest", folder);
        assert_int_equal(unlink(path), 0);
    }
    ASSERT_OK(comm_barrier(comm, "latest removed"));
    expect_saved(1000, 60); /* `latest` is not needed */

    /* A run that continues from step 40 sets what came after it aside. */
    struct checkpoint_saver_options options = {.keep = 2, .resumed_step = 40};
    ASSERT_OK(checkpoint_saver_create(&saver, folder, &options, comm));
    assert_true(exists("step-00000060.h5.aside"));
    expect_latest("step-00000040.h5\n");
    expect_saved(1000, 40);
    fixture_fill(&fixture, 45);
    ASSERT_OK(checkpoint_save(saver, &fixture.state));
    checkpoint_saver_destroy(&saver);
    expect_saved(1000, 45);
    fixture_destroy(&fixture);
}

/* Parameters in another order and place are found by name; gaps are zero. */
static void test_other_layout(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_create(&fixture, 80, false, comm->rank, comm->size);
    struct checkpoint_saver *saver = create_saver(0, 0);
    ASSERT_OK(checkpoint_save(saver, &fixture.state));
    checkpoint_saver_destroy(&saver);
    struct checkpoint_parameter parameters[3] = {fixture.parameters[2], fixture.parameters[0],
                                                 fixture.parameters[1]};
    parameters[0].offset = 0;
    parameters[1].offset = 16;
    parameters[2].offset = 64;
    struct checkpoint *checkpoint;
    ASSERT_OK(checkpoint_open(&checkpoint, folder, comm));
    ASSERT_OK(checkpoint_check_model(checkpoint, fixture.parameters, 3));
    ASSERT_OK(checkpoint_check_model(checkpoint, parameters, 3));
    float values[80];
    for (int64_t begin = 0; begin < 80; begin += 16) { /* slices cut through parameters */
        ASSERT_OK(checkpoint_read(checkpoint, "moment1", parameters, 3, begin, 16, values + begin));
    }
    assert_true(values[0] == fixture_value(1, 64, 0));
    assert_true(values[1] == 0 && values[15] == 0 && values[51] == 0 && values[79] == 0);
    for (int i = 0; i < 35; i++) {
        assert_true(values[16 + i] == fixture_value(1, i, 0));
    }
    for (int i = 0; i < 5; i++) {
        assert_true(values[64 + i] == fixture_value(1, 48 + i, 0));
    }
    /* Another model is refused by its first difference. */
    ASSERT_FAILS(checkpoint_check_model(checkpoint, parameters, 2), STATUS_INVALID,
                 "its parameter 'a.bias' does not exist here");
    parameters[1].shape = SHAPE(7, 5);
    ASSERT_FAILS(checkpoint_check_model(checkpoint, parameters, 3), STATUS_INVALID,
                 "'a.weight' is [5,7] there and [7,5] here");
    parameters[1].name = "b.weight";
    ASSERT_FAILS(checkpoint_check_model(checkpoint, parameters, 3), STATUS_INVALID,
                 "it has no parameter 'b.weight'");
    ASSERT_FAILS(checkpoint_read_flat(checkpoint, "ema", 0, 1, values), STATUS_NOT_FOUND,
                 "holds no vector 'ema'");
    ASSERT_FAILS(checkpoint_read_flat(checkpoint, "moment1", 79, 2, values), STATUS_INVALID,
                 "which has 80");
    checkpoint_close(&checkpoint);
    fixture_destroy(&fixture);
}

static void test_refused_states(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_create(&fixture, 1000, true, comm->rank, comm->size);
    struct checkpoint_saver *saver = create_saver(0, 0);
    fixture.vectors[1].name = "a/b";
    ASSERT_FAILS(checkpoint_save(saver, &fixture.state), STATUS_INVALID, "not a name");
    fixture.vectors[1].name = "moment1";
    fixture.vectors[1].elements = 2000;
    ASSERT_FAILS(checkpoint_save(saver, &fixture.state), STATUS_INVALID,
                 "the slices of the ranks end at 1000 of 2000 elements");
    fixture.vectors[1].elements = 1000;
    if (comm->size > 1) {
        fixture.vectors[1].count -= 1;
        ASSERT_FAILS(checkpoint_save(saver, &fixture.state), STATUS_INVALID,
                     "do not follow each other: rank 1's");
        fixture.vectors[1].count += 1;
        fixture.state.step = comm->rank;
        ASSERT_FAILS(checkpoint_save(saver, &fixture.state), STATUS_INVALID,
                     "must be the same on all ranks");
    }
    /* Nothing is left, and the saver still works. */
    fixture.state.step = 3;
    fixture_fill(&fixture, 3);
    ASSERT_OK(checkpoint_save(saver, &fixture.state));
    assert_false(exists("step-00000003.h5.tmp"));
    checkpoint_saver_destroy(&saver);
    expect_saved(1000, 3);
    fixture_destroy(&fixture);
}

int main(void)
{
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "comm_create: %s\n", status_message());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sharded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_smaller_than_ranks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes_after_settling, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keeps_the_newest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_layout, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_states, setup, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
