/*
 * What NCCL and a GPU can do to a run of two ranks: a start that hangs, an error that comes up
 * later, a GPU that fails. All ranks end soon, with a message that names rank, host and what was
 * being done. Starts the ranks by itself.   needs=mpirun timeout=120
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/comm/comm.h"
#include "tests/runtime/comm/ranks.h"
#include "tests/runtime/tiny_model.h"

/* ---- the rank ---- */

/* Runs steps for ever; ends the job as main would. */
static int run_rank(void)
{
    struct comm_options comm_options = {.timeouts = {[COMM_PHASE_COLLECTIVE] = 3}};
    struct comm *comm = NULL;
    struct executor *e = NULL;
    struct tiny t;
    if (comm_create(&comm_options, &comm) != STATUS_OK) comm_abort(NULL, 1, "%s", status_message());
    tiny_build(&t, &(struct tiny_options){.batch = 2, .world_size = comm->size});
    enum status status = graph_differentiate(t.graph, t.loss);
    struct executor_options options = {.device = DEVICE_CUDA, .comm = comm};
    options.plan.bucket_bytes = 16384;
    if (status == STATUS_OK) status = executor_create(&e, t.graph, &options);
    if (status == STATUS_OK) {
        executor_init_parameters(e);
        tiny_fill(&t, e, comm->rank * 2);
    }
    for (uint64_t step = 0; status == STATUS_OK; step++) {
        comm_step_set(comm, (int64_t)step);
        status = executor_run(e, &(struct executor_run){.step = step, .reduce = true});
        if (status == STATUS_OK) status = executor_wait(e);
        if (step == 0 && comm->rank == 0) printf("began\n");
        fflush(stdout);
    }
    comm_abort(comm, 3, "training: %s", status_message());
}

/* ---- the cases ---- */

static void check(const char *environment, bool begins, const char *const parts[])
{
    char command[512];
    double seconds = 0;
    snprintf(command, sizeof command, "exec env %s mpirun -q -np 2 \"$0\" rank", environment);
    struct ranks *ranks = ranks_start(command);
    int code = ranks_finish(ranks, &seconds);
    for (int i = 0; parts[i]; i++) {
        if (!strstr(ranks->text, parts[i])) fail_msg("no '%s' in:\n%s", parts[i], ranks->text);
    }
    if (begins != (strstr(ranks->text, "began") != NULL)) fail_msg("%s", ranks->text);
    assert_int_not_equal(code, 0);
    if (seconds > 30) fail_msg("took %.1f s:\n%s", seconds, ranks->text);
    free(ranks);
}

static void test_start_hangs(void **state)
{
    (void)state;
    check("WEFT_EMULATED_NCCL_HANG=1:1", false,
          (const char *const[]){"'NCCL start'", "has waited 3", NULL});
}

static void test_nccl_fails(void **state)
{
    (void)state;
    check("WEFT_EMULATED_NCCL_ERROR=1:20", true,
          (const char *const[]){"rank 1 on ", "NCCL: forward and backward, in '",
                                "remote process exited", "(emulated failure)", NULL});
}

static void test_gpu_fails(void **state)
{
    (void)state;
    check("WEFT_EMULATED_FAILURE=1:1200", true,
          (const char *const[]){"rank 1 on ", "GPU 1, emulated GPU, failed in forward and backward",
                                "unspecified launch failure", NULL});
}

int main(int argc, char **argv)
{
    (void)argv;
    setenv("WEFT_EMULATED_DEVICES", "2", 0);
    if (argc > 1) return run_rank();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_hangs),
        cmocka_unit_test(test_nccl_fails),
        cmocka_unit_test(test_gpu_fails),
    };
#if !defined(WEFT_CUDA_EMULATED)
    printf(
        "ok 1 - failures of NCCL and the GPU # SKIP only the emulator fails when it is asked to\n");
    return 0;
#endif
    ranks_prepare();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
