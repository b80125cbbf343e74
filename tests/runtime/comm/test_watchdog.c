/*
 * A rank that is killed or stopped in the middle of an all-reduce: the others end with a code that
 * is not 0, soon, and name it. Starts three ranks per case by itself.   needs=mpirun timeout=120
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/comm/comm.h"
#include "tests/runtime/comm/ranks.h"

enum { COUNT = 100000 };

/* ---- the rank ---- */

/* Reduces until something happens. Modes: "abort" ends the job as main would, "leave" only ends
 * this process, "stuck" does not react to errors at all; "hosts" pretends that rank 0 has a host of
 * its own. */
static int run_rank(const char *mode)
{
    static float data[COUNT];
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    struct comm_options options = {.timeouts = {[COMM_PHASE_COLLECTIVE] = 3}};
    if (strstr(mode, "hosts")) options.host = rank && rank[0] == '0' ? "hostA" : "hostB";
    struct comm *comm;
    if (comm_create(&options, &comm) != STATUS_OK) comm_abort(NULL, 1, "%s", status_message());
    for (int64_t step = 0;; step++) {
        comm_step_set(comm, step);
        comm_phase_set(comm, COMM_PHASE_COMPUTE, "backward");
        enum status status =
            comm_allreduce(comm, "allreduce bucket 3", data, COUNT, COMM_F32, COMM_SUM);
        if (status != STATUS_OK) break;
        if (step == 3) {
            printf("ready %d %d\n", comm->rank, (int)getpid());
            fflush(stdout);
        }
        /* Rank 0 waits in the all-reduce nearly all the time, so a death finds it there. */
        if (step > 3 && comm->rank > 0) usleep(100000);
    }
    if (strstr(mode, "leave")) _exit(status_exit_code(STATUS_COMM));
    if (strstr(mode, "stuck")) sleep(LONGEST_RUN);
    comm_abort(comm, 3, "training: %s", status_message());
}

/* ---- the cases ---- */

static void expect_text(const struct ranks *ranks, const char *part)
{
    if (!strstr(ranks->text, part)) fail_msg("no '%s' in:\n%s", part, ranks->text);
}

/* Lines that contain both. */
static int count_lines(const struct ranks *ranks, const char *one, const char *other)
{
    int count = 0;
    char *text = strdup(ranks->text);
    assert_non_null(text);
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        if (strstr(line, one) && strstr(line, other)) count++;
    }
    free(text);
    return count;
}

static void test_killed_rank_is_named(void **state)
{
    (void)state;
    double seconds;
    struct ranks *ranks = ranks_start("exec mpirun -q -np 3 \"$0\" rank abort");
    ranks_signal(ranks, 3, 2, SIGKILL);
    assert_int_not_equal(ranks_finish(ranks, &seconds), 0);
    assert_true(seconds < 10);
    expect_text(ranks, "error: rank ");
    expect_text(ranks, "; lost rank 2 (");
    expect_text(ranks, "'allreduce bucket 3'");
    expect_text(ranks, "the process is gone (killed or crashed)");
    free(ranks);
}

static void test_stopped_rank_is_named(void **state)
{
    (void)state;
    double seconds;
    struct ranks *ranks = ranks_start("exec mpirun -q -np 3 \"$0\" rank abort");
    ranks_signal(ranks, 3, 1, SIGSTOP);
    assert_int_equal(ranks_finish(ranks, &seconds), 3);
    assert_true(seconds > 2.5 && seconds < 10);
    expect_text(ranks, "'allreduce bucket 3' has waited 3.");
    expect_text(ranks, "; ranks not heard from: 1 (");
    free(ranks);
}

/* Under a launcher that does not end the others (the shell around each rank stays): every rank
 * ends by itself, and says why. */
static void check_every_rank_ends(const char *mode, int number, int victim)
{
    char command[256];
    double seconds;
    snprintf(command, sizeof command,
             "exec mpirun -q -np 3 sh -c '\"$0\" rank %s; echo code $OMPI_COMM_WORLD_RANK $?; "
             "sleep 5' \"$0\"",
             mode);
    struct ranks *ranks = ranks_start(command);
    ranks_signal(ranks, 3, victim, number);
    char name[64];
    snprintf(name, sizeof name, "lost rank %d (", victim);
    int num_codes = 0;
    while (num_codes < 3 && ranks_read(ranks)) {
        num_codes = count_lines(ranks, "code ", "");
    }
    seconds = ranks_now() - ranks->disturbed;
    kill(ranks->mpirun, SIGTERM);
    double all;
    ranks_finish(ranks, &all);
    if (num_codes != 3) fail_msg("%d codes in:\n%s", num_codes, ranks->text);
    assert_true(seconds < 5);
    for (int r = 0; r < 3; r++) {
        char code[32];
        snprintf(code, sizeof code, "code %d %d\n", r, r == victim ? 128 + number : 1);
        expect_text(ranks, code);
        if (r == victim) continue;
        char who[32];
        snprintf(who, sizeof who, "error: rank %d on ", r);
        char report[64];
        snprintf(report, sizeof report, " %d (", victim);
        if (count_lines(ranks, who, report) != 1) fail_msg("%s not once in:\n%s", who, ranks->text);
    }
    expect_text(ranks, name);
    free(ranks);
}

static void test_ranks_end_without_a_launcher(void **state)
{
    (void)state;
    check_every_rank_ends("leave", SIGKILL, 0);
}

/* The main thread does not come back from where it is: the watchdog ends the process. */
static void test_stuck_ranks_are_ended(void **state)
{
    (void)state;
    check_every_rank_ends("stuck", SIGKILL, 1);
}

/* Across hosts the news travels by TCP: the leader of hostB dies, then rank 0. */
static void test_death_on_another_host(void **state)
{
    (void)state;
    check_every_rank_ends("leave-hosts", SIGKILL, 1);
    check_every_rank_ends("leave-hosts", SIGKILL, 2);
    check_every_rank_ends("leave-hosts", SIGKILL, 0);
}

static void test_stopped_on_another_host(void **state)
{
    (void)state;
    double seconds;
    struct ranks *ranks = ranks_start("exec mpirun -q -np 3 \"$0\" rank abort-hosts");
    ranks_signal(ranks, 3, 0, SIGSTOP);
    assert_int_equal(ranks_finish(ranks, &seconds), 3);
    assert_true(seconds > 2.5 && seconds < 10);
    expect_text(ranks, "on hostB: step ");
    expect_text(ranks, "; ranks not heard from: 0 (hostA");
    assert_int_equal(count_lines(ranks, "not heard from: 0", "not heard from: 0 (hostA"),
                     count_lines(ranks, "not heard from", ""));
    free(ranks);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "rank") == 0) return run_rank(argv[2]);
    ranks_prepare();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_rank_is_named),
        cmocka_unit_test(test_stopped_rank_is_named),
        cmocka_unit_test(test_ranks_end_without_a_launcher),
        cmocka_unit_test(test_stuck_ranks_are_ended),
        cmocka_unit_test(test_death_on_another_host),
        cmocka_unit_test(test_stopped_on_another_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
