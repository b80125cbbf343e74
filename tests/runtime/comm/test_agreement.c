/* What ranks agree on, and how disagreement is told.   np=1,2,3,4 timeout=60 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/comm/comm.h"

static struct comm *comm;

static void succeed(enum status status)
{
    if (status != STATUS_OK) fail_msg("%s: %s", status_name(status), status_message());
}

static void expect_message(const char *part)
{
    if (!strstr(status_message(), part)) fail_msg("'%s' lacks '%s'", status_message(), part);
}

static void test_one_integer(void **state)
{
    (void)state;
    struct comm_agreed agreed;
    int64_t huge = INT64_C(1) << 60;
    succeed(comm_agree(comm, "huge", huge + comm->rank, &agreed));
    assert_true(agreed.min == huge);
    assert_true(agreed.max == huge + comm->size - 1);
    succeed(comm_agree(comm, "flags", INT64_C(1) << comm->rank, &agreed));
    assert_int_equal(agreed.any, (1 << comm->size) - 1);
    assert_int_equal(agreed.all, comm->size == 1 ? 1 : 0);
    assert_int_equal(agreed.sum, (1 << comm->size) - 1);
    succeed(comm_agree(comm, "negative", -comm->rank, &agreed));
    assert_int_equal(agreed.min, 1 - comm->size);
    assert_int_equal(agreed.max, 0);
}

static void test_status(void **state)
{
    (void)state;
    succeed(comm_agree_status(comm, "all well", STATUS_OK));
    for (int bad = 0; bad < comm->size; bad++) {
        enum status mine = STATUS_OK;
        if (comm->rank == bad) mine = status_fail(STATUS_NOT_FOUND, "data.h5: no such file");
        assert_int_equal(comm_agree_status(comm, "open", mine), STATUS_NOT_FOUND);
        if (comm->rank == bad) {
            assert_string_equal(status_message(), "data.h5: no such file");
        } else {
            char expected[64];
            snprintf(expected, sizeof expected, "rank %d: data.h5: no such file", bad);
            assert_string_equal(status_message(), expected);
        }
    }
    /* All fail with reasons of their own: each keeps its own. */
    enum status mine = status_fail(STATUS_IO, "problem %d", comm->rank);
    assert_int_equal(comm_agree_status(comm, "open", mine), STATUS_IO);
    char expected[32];
    snprintf(expected, sizeof expected, "problem %d", comm->rank);
    assert_string_equal(status_message(), expected);
}

static void test_equal_bytes(void **state)
{
    (void)state;
    char config[] = "optimizer: {lr: 1e-4}";
    succeed(comm_agree_bytes(comm, "config", config, sizeof config));
    succeed(comm_agree_bytes(comm, "nothing", NULL, 0));
    if (comm->size == 1) return;
    /* One rank, and then all but rank 0, hold something else; then only the length differs. */
    if (comm->rank == comm->size - 1) config[3] = 'X';
    assert_int_equal(comm_agree_bytes(comm, "config", config, sizeof config), STATUS_INVALID);
    expect_message("'config' must be the same on all ranks");
    char expected[64];
    snprintf(expected, sizeof expected, "on rank %d", comm->size - 1);
    expect_message(expected);
    config[3] = (char)('a' + comm->rank);
    assert_int_equal(comm_agree_bytes(comm, "config", config, sizeof config), STATUS_INVALID);
    if (comm->size == 4) expect_message("on ranks 1, 2, 3");
    int64_t length = comm->rank == 1 ? 5 : 6;
    assert_int_equal(comm_agree_bytes(comm, "zeros", "\0\0\0\0\0\0", length), STATUS_INVALID);
    expect_message("on rank 1");
}

static void test_strings_at_rank_0(void **state)
{
    (void)state;
    char text[5000];
    memset(text, 'a' + comm->rank, sizeof text);
    text[comm->rank * 1301] = '\0';
    char **texts = NULL;
    succeed(comm_gather_strings(comm, "names", text, &texts));
    if (comm->rank == 0) {
        for (int r = 0; r < comm->size; r++) {
            assert_int_equal(strlen(texts[r]), r * 1301);
            assert_true(r == 0 || (texts[r][0] == 'a' + r && texts[r][r * 1301 - 1] == 'a' + r));
        }
    } else {
        assert_null(texts);
    }
    free(texts);
}

static void test_statistics(void **state)
{
    (void)state;
    struct comm_stats before = comm->stats;
    static float data[100000];
    succeed(comm_allreduce(comm, "counted", data, 100000, COMM_F32, COMM_SUM));
    assert_int_equal(comm->stats.calls, before.calls + 1);
    int64_t sent = comm->stats.bytes_sent - before.bytes_sent;
    /* 2 (p-1)/p of the data, up to the rounding of slices. */
    double expected = 2.0 * (comm->size - 1) / comm->size * 400000;
    assert_true((double)sent >= expected * 0.99 && (double)sent <= expected * 1.01);
    assert_true(comm->size == 1 || comm->stats.seconds > before.seconds);
}

int main(void)
{
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "comm_create: %s\n", status_message());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_integer), cmocka_unit_test(test_status),
        cmocka_unit_test(test_equal_bytes), cmocka_unit_test(test_strings_at_rank_0),
        cmocka_unit_test(test_statistics),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
