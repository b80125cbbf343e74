/*
 * Start-up: alone without mpirun, refused when a launcher promised more ranks or when the builds
 * differ.   needs=mpirun timeout=60
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/comm/comm.h"
#include "tests/runtime/comm/ranks.h"

/* ---- the rank ---- */

static int run_rank(const char *mode)
{
    struct comm_options options = {.require_launched_size = strstr(mode, "train") != NULL};
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (strstr(mode, "mixed")) options.build_id = rank && rank[0] == '1' ? "beef" : "cafe";
    struct comm *comm;
    enum status status = comm_create(&options, &comm);
    if (status == STATUS_OK) {
        double value = 1;
        status = comm_allreduce(comm, "count", &value, 1, COMM_F64, COMM_SUM);
        printf("sum %g size %d local %d of %d\n", value, comm->size, comm->local_rank,
               comm->local_size);
        if (status == STATUS_OK) status = comm_finish(&comm);
    }
    if (status != STATUS_OK) printf("%s: %s\n", status_name(status), status_message());
    return status_exit_code(status);
}

/* ---- the cases ---- */

static void expect_run(const char *command, int expected_code, const char *part)
{
    double seconds;
    struct ranks *ranks = ranks_start(command);
    int code = ranks_finish(ranks, &seconds);
    if (code != expected_code || !strstr(ranks->text, part))
        fail_msg("%s: exit %d instead of %d, or no '%s' in:\n%s", command, code, expected_code,
                 part, ranks->text);
    free(ranks);
}

static void test_alone(void **state)
{
    (void)state;
    expect_run("exec \"$0\" rank train", 0, "sum 1 size 1 local 0 of 1");
    /* ... with nothing to start a helper with. */
    expect_run("PATH=/nowhere exec \"$0\" rank train", 0, "sum 1 size 1");
}

static void test_promised_ranks_are_missing(void **state)
{
    (void)state;
    expect_run("SLURM_NTASKS=4 exec \"$0\" rank train", 2,
               "invalid: this process is alone although SLURM_NTASKS=4 promises 4 ranks: start it "
               "with `srun --mpi=pmix` or mpirun");
    expect_run("PMI_SIZE=2 exec \"$0\" rank train", 2, "PMI_SIZE=2 promises 2 ranks");
    expect_run("OMPI_COMM_WORLD_SIZE=3 exec \"$0\" rank train", 2,
               "OMPI_COMM_WORLD_SIZE=3 promises 3 ranks");
    /* Kept: one task is what was asked for, or it is a helper inside a larger job. */
    expect_run("SLURM_NTASKS=1 exec \"$0\" rank train", 0, "size 1");
    expect_run("SLURM_NTASKS=4 SLURM_STEP_NUM_TASKS=1 exec \"$0\" rank train", 0, "size 1");
    expect_run("SLURM_NTASKS=4 exec \"$0\" rank helper", 0, "size 1");
}

static void test_launched(void **state)
{
    (void)state;
    expect_run("SLURM_NTASKS=2 exec mpirun -q -np 1 \"$0\" rank train", 0, "sum 1 size 1");
    expect_run("SLURM_NTASKS=2 exec mpirun -q -np 2 \"$0\" rank train", 0,
               "sum 2 size 2 local 1 of 2");
}

static void test_mixture_of_builds(void **state)
{
    (void)state;
    char host[64] = "";
    char expected[256];
    gethostname(host, sizeof host - 1);
    snprintf(expected, sizeof expected,
             "invalid: the ranks run different builds: rank 0 has cafe on %s; rank 1 has beef on "
             "%s; start the same program everywhere",
             host, host);
    expect_run("exec mpirun -q -np 3 \"$0\" rank mixed", 2, expected);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "rank") == 0) return run_rank(argv[2]);
    ranks_prepare();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_promised_ranks_are_missing),
        cmocka_unit_test(test_launched),
        cmocka_unit_test(test_mixture_of_builds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
