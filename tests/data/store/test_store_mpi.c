/*
 * Ranks open the same set, sealed and unsealed: libhdf5 works between MPI_Init and MPI_Finalize,
 * and so does the child process that reads the metadata of unsealed files.   np=2
 */
#include "tests/data/store/fixture.h"

#include <mpi.h>

#include "runtime/comm/comm.h"

static char folder[PATH_MAX];

static void read_set(const char *path, int64_t num_images)
{
    struct store *store = NULL;
    struct store_image image = {0};
    ASSERT_OK(store_open(&store, &path, 1, NULL));
    assert_int_equal(store_num_images(store), num_images);
    for (int64_t i = 0; i < num_images; i++) {
        ASSERT_OK(store_image_read(store, i, &image));
    }
    store_image_fini(&image);
    store_close(&store);
}

static void test_ranks(void **state)
{
    (void)state;
    int rank = 0;
    char path[2][PATH_MAX + 32];
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0) folder_make(folder);
    MPI_Bcast(folder, sizeof folder, MPI_CHAR, 0, MPI_COMM_WORLD);
    snprintf(path[0], sizeof path[0], "%s/sealed.h5", folder);
    snprintf(path[1], sizeof path[1], "%s/unsealed.h5", folder);
    if (rank == 0) {
        for (int i = 0; i < 2; i++) {
            shard_make(path[i], 0, 6, 0, 1);
        }
        struct stat info;
        assert_int_equal(stat(path[1], &info), 0);
        assert_int_equal(truncate(path[1], info.st_size - 64), 0);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; i < 10; i++) {
        read_set(path[i % 2], 8);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) folder_remove(folder);
}

int main(void)
{
    struct comm *comm = NULL;
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranks)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return comm_finish(&comm) == STATUS_OK ? failed : 1;
}
