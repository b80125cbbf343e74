/*
 * What is a failure and what is not: busy ranks are waited for; stuck phases, mismatched calls,
 * early leavers and aborts end the job with a message that says who.   needs=mpirun timeout=120
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <mpi.h>

#include "runtime/comm/comm.h"
#include "tests/runtime/comm/ranks.h"

/* ---- the rank ---- */

static enum status reduce(struct comm *comm, const char *label, int64_t count)
{
    static float data[10000];
    return comm_allreduce(comm, label, data, count, COMM_F32, COMM_SUM);
}

/* What rank 1 does wrong; the others only reduce. */
static enum status misbehave(struct comm *comm, const char *mode)
{
    if (strcmp(mode, "busy") == 0) {
        comm_phase_set(comm, COMM_PHASE_COMPUTE, "a long kernel");
        usleep(2500000);
    } else if (strcmp(mode, "slow-data") == 0) {
        comm_phase_set(comm, COMM_PHASE_DATA, "read batch");
        sleep(LONGEST_RUN);
    } else if (strcmp(mode, "stuck-file") == 0) {
        comm_phase_set(comm, COMM_PHASE_FILE, "creating a checkpoint");
        MPI_Barrier(MPI_COMM_WORLD); /* as inside libhdf5: the others never come */
    } else if (strcmp(mode, "other-call") == 0) {
        return reduce(comm, "loss", 100);
    } else if (strcmp(mode, "fewer") == 0) {
        return reduce(comm, "gradient", 50);
    } else if (strcmp(mode, "more") == 0) {
        return reduce(comm, "gradient", 200);
    } else if (strcmp(mode, "crash") == 0) {
        _exit(0);
    } else if (strcmp(mode, "abort") == 0) {
        comm_abort(comm, 7, "disk full on rank %d", comm->rank);
    }
    return reduce(comm, "gradient", 100);
}

static int run_rank(const char *mode)
{
    struct comm_options options = {
        .timeouts = {
            [COMM_PHASE_COLLECTIVE] = 1.5, [COMM_PHASE_DATA] = 1.8, [COMM_PHASE_FILE] = 2}};
    struct comm *comm;
    if (comm_create(&options, &comm) != STATUS_OK) comm_abort(NULL, 1, "%s", status_message());
    if (strcmp(mode, "suspend") == 0) comm_timeout_set(comm, COMM_PHASE_COLLECTIVE, 2);
    comm_step_set(comm, 41);
    printf("ready %d %d\n", comm->rank, (int)getpid());
    fflush(stdout);
    enum status status = reduce(comm, "warm up", 10);
    for (int i = 0; i < 600 && status == STATUS_OK && strcmp(mode, "suspend") == 0; i++) {
        status = reduce(comm, "gradient", 100);
        usleep(2000);
    }
    if (strcmp(mode, "leaver") == 0 && comm->rank == 1) {
        status = comm_finish(&comm);
    } else if (status == STATUS_OK) {
        status = comm->rank == 1 ? misbehave(comm, mode) : reduce(comm, "gradient", 100);
    }
    if (status != STATUS_OK) comm_abort(comm, 3, "training: %s", status_message());
    return comm_finish(&comm) == STATUS_OK ? 0 : 4;
}

/* ---- the cases ---- */

/* Where the launcher's kill races with a rank's own exit code. */
enum { ANY_FAILURE = -1 };

static struct ranks *run(const char *mode, int expected_code)
{
    char command[128];
    double seconds;
    snprintf(command, sizeof command, "exec mpirun -q -np 3 \"$0\" rank %s", mode);
    struct ranks *ranks = ranks_start(command);
    int code = ranks_finish(ranks, &seconds);
    if (expected_code == ANY_FAILURE && code != 0) expected_code = code;
    if (code != expected_code || seconds > 12)
        fail_msg("%s: exit %d after %.1f s:\n%s", mode, code, seconds, ranks->text);
    return ranks;
}

static void expect_failure(const char *mode, int code, const char *part)
{
    struct ranks *ranks = run(mode, code);
    if (!strstr(ranks->text, part)) fail_msg("%s: no '%s' in:\n%s", mode, part, ranks->text);
    free(ranks);
}

static void test_busy_rank_is_waited_for(void **state)
{
    (void)state;
    struct ranks *ranks = run("busy", 0);
    if (strstr(ranks->text, "error")) fail_msg("an error in:\n%s", ranks->text);
    free(ranks);
}

static void test_stuck_phase_ends_the_job(void **state)
{
    (void)state;
    expect_failure("slow-data", ANY_FAILURE, "step 41: data 'read batch' has taken 1.");
}

static void test_stuck_file_ends_the_job(void **state)
{
    (void)state;
    expect_failure("stuck-file", ANY_FAILURE, "step 41: file 'creating a checkpoint' has taken 2.");
}

static void test_mismatched_calls(void **state)
{
    (void)state;
    expect_failure("other-call", 3, " waits while another collective is called by rank ");
}

static void test_mismatched_sizes(void **state)
{
    (void)state;
    expect_failure("fewer", 3, "'gradient': rank 1 sent 200 bytes where 400 are expected");
    expect_failure("more", 3, "'gradient': rank 0 sent 400 bytes where 800 are expected");
}

static void test_early_leaver(void **state)
{
    (void)state;
    expect_failure("leaver", 3, "'finish'");
}

static void test_exit_without_finish(void **state)
{
    (void)state;
    expect_failure("crash", ANY_FAILURE, "; lost rank 1 (");
}

static void test_abort(void **state)
{
    (void)state;
    struct ranks *ranks = run("abort", ANY_FAILURE);
    if (!strstr(ranks->text, "error: disk full on rank 1") ||
        !strstr(ranks->text, "; the job was ended by rank 1 ("))
        fail_msg("not told by both sides:\n%s", ranks->text);
    free(ranks);
}

/* A job that is stopped as a whole for longer than the time-out and continued goes on. */
static void test_suspended_job_goes_on(void **state)
{
    (void)state;
    double seconds;
    struct ranks *ranks = ranks_start("exec mpirun -q -np 3 \"$0\" rank suspend");
    ranks_signal(ranks, 3, 0, SIGSTOP);
    kill(ranks->pids[1], SIGSTOP);
    kill(ranks->pids[2], SIGSTOP);
    usleep(3000000);
    for (int r = 0; r < 3; r++) {
        kill(ranks->pids[r], SIGCONT);
    }
    int code = ranks_finish(ranks, &seconds);
    if (code != 0) fail_msg("exit %d:\n%s", code, ranks->text);
    free(ranks);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "rank") == 0) return run_rank(argv[2]);
    ranks_prepare();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_busy_rank_is_waited_for),
        cmocka_unit_test(test_stuck_phase_ends_the_job),
        cmocka_unit_test(test_stuck_file_ends_the_job),
        cmocka_unit_test(test_mismatched_calls),
        cmocka_unit_test(test_mismatched_sizes),
        cmocka_unit_test(test_early_leaver),
        cmocka_unit_test(test_exit_without_finish),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_suspended_job_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
