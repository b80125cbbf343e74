/*
 * Every collective against plain computation, for odd, empty and uneven sizes, all dtypes, and
 * chunk limits that split messages many times.   np=1,2,3,4 timeout=60
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <mpi.h>

#include "runtime/base/bf16.h"
#include "runtime/base/rng.h"
#include "runtime/comm/comm.h"

static const int64_t chunk_limits[] = {0, 64, 1000, 20000};
enum { NUM_LIMITS = sizeof chunk_limits / sizeof chunk_limits[0] };
static struct comm *comms[NUM_LIMITS];

static const int64_t sizes[] = {0, 1, 2, 31, 1023, 4099, 30011};
enum { NUM_SIZES = sizeof sizes / sizeof sizes[0], MOST = 30011 };

static void succeed(enum status status)
{
    if (status != STATUS_OK) fail_msg("%s: %s", status_name(status), status_message());
}

/* The value of element i on a rank: magnitudes differ, so that the order of a sum shows. */
static float value_at(int rank, int64_t i)
{
    struct rng_block counter = {{(uint32_t)i, (uint32_t)rank, 0, 0}};
    struct rng_block block = rng_philox(counter, rng_key(3, RNG_TEST, 0));
    float unit = (float)block.word[0] / 4294967296.0f - 0.5f;
    return ldexpf(unit, (int)(block.word[1] % 20));
}

static void store(enum comm_dtype dtype, void *data, int64_t i, double value)
{
    switch (dtype) {
    case COMM_F32:
        ((float *)data)[i] = (float)value;
        break;
    case COMM_BF16:
        ((bf16 *)data)[i] = bf16_from_f32((float)value);
        break;
    case COMM_F64:
        ((double *)data)[i] = value * (1 + 1e-9);
        break;
    case COMM_I64:
        ((int64_t *)data)[i] = (int64_t)(value * 1e9);
        break;
    case COMM_I32:
        ((int32_t *)data)[i] = (int32_t)value;
        break;
    default:
        ((uint8_t *)data)[i] = (uint8_t)(int64_t)value;
        break;
    }
}

static void fill(enum comm_dtype dtype, int rank, int64_t first, void *data, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        store(dtype, data, i, value_at(rank, first + i));
    }
}

/* The plain computation: rank 0, 1, 2, ... in order, one element at a time. */
#define REDUCE_PLAIN(type, wide, load, store_back)                                                 \
    for (int64_t i = 0; i < count; i++) {                                                          \
        wide sum = load(((type *)input)[i]);                                                       \
        for (int r = 1; r < size; r++) {                                                           \
            wide x = load(((type *)input)[r * count + i]);                                         \
            if (how == COMM_SUM) sum += x;                                                         \
            if (how == COMM_MIN && x < sum) sum = x;                                               \
            if (how == COMM_MAX && x > sum) sum = x;                                               \
        }                                                                                          \
        ((type *)output)[i] = store_back(sum);                                                     \
    }
#define SAME(x) (x)

static void expect_reduced(enum comm_dtype dtype, enum comm_reduction how, int size, int64_t count,
                           void *output)
{
    int64_t element = comm_dtype_size(dtype);
    char *input = malloc((size_t)(size * count * element) + 1);
    assert_non_null(input);
    for (int r = 0; r < size; r++) {
        fill(dtype, r, 0, input + r * count * element, count);
    }
    switch (dtype) {
    case COMM_F32:
        REDUCE_PLAIN(float, float, SAME, SAME) break;
    case COMM_BF16:
        REDUCE_PLAIN(bf16, float, bf16_to_f32, bf16_from_f32) break;
    case COMM_F64:
        REDUCE_PLAIN(double, double, SAME, SAME) break;
    case COMM_I64:
        REDUCE_PLAIN(int64_t, int64_t, SAME, SAME) break;
    case COMM_I32:
        REDUCE_PLAIN(int32_t, int32_t, SAME, SAME) break;
    default:
        fail();
    }
    free(input);
}

static void test_allreduce(void **state)
{
    (void)state;
    char *data = malloc(MOST * 8);
    char *expected = malloc(MOST * 8);
    for (int dtype = COMM_F32; dtype <= COMM_I32; dtype++) {
        for (int s = 0; s < NUM_SIZES; s++) {
            for (int limit = 0; limit < NUM_LIMITS; limit++) {
                if (sizes[s] > 1100 && chunk_limits[limit] == 64) continue;
                struct comm *comm = comms[limit];
                enum comm_reduction how = (enum comm_reduction)((s + limit) % 3);
                if (dtype == COMM_F32) how = COMM_SUM;
                fill((enum comm_dtype)dtype, comm->rank, 0, data, sizes[s]);
                expect_reduced((enum comm_dtype)dtype, how, comm->size, sizes[s], expected);
                succeed(comm_allreduce(comm, "all", data, sizes[s], (enum comm_dtype)dtype, how));
                assert_memory_equal(data, expected,
                                    (size_t)(sizes[s] * comm_dtype_size((enum comm_dtype)dtype)));
            }
        }
    }
    free(data);
    free(expected);
}

/* Uneven counts with zeros among them. */
static int64_t uneven(int64_t base, int rank)
{
    return rank % 3 == 1 ? 0 : base / (rank + 1) + rank;
}

static void check_reduce_scatter(struct comm *comm, enum comm_dtype dtype, int64_t base,
                                 bool is_even, bool in_place)
{
    int64_t counts[8];
    int64_t offsets[9] = {0};
    for (int r = 0; r < comm->size; r++) {
        counts[r] = is_even ? base : uneven(base, r);
        offsets[r + 1] = offsets[r] + counts[r];
    }
    int64_t total = offsets[comm->size];
    int64_t element = comm_dtype_size(dtype);
    int64_t first = offsets[comm->rank];
    char *send = malloc((size_t)(total * element) + 1);
    char *slice = malloc((size_t)(counts[comm->rank] * element) + 1);
    char *gathered = malloc((size_t)(total * element) + 1);
    char *expected = malloc((size_t)(total * element) + 1);
    fill(dtype, comm->rank, 0, send, total);
    expect_reduced(dtype, COMM_SUM, comm->size, total, expected);
    char *mine = in_place ? send + first * element : slice;
    char *whole = in_place ? send : gathered;
    succeed(comm_reduce_scatter(comm, "scatter", send, mine, is_even ? base : 0,
                                is_even ? NULL : counts, dtype, COMM_SUM));
    assert_memory_equal(mine, expected + first * element, (size_t)(counts[comm->rank] * element));
    /* ... and gathered again it is the all-reduce, bit for bit. */
    succeed(comm_allgather(comm, "gather", mine, whole, is_even ? base : 0, is_even ? NULL : counts,
                           dtype));
    assert_memory_equal(whole, expected, (size_t)(total * element));
    free(send);
    free(slice);
    free(gathered);
    free(expected);
}

static void test_reduce_scatter_and_gather(void **state)
{
    (void)state;
    static const int64_t bases[] = {0, 1, 5, 777, 5003};
    for (int limit = 0; limit < NUM_LIMITS; limit++) {
        for (size_t b = 0; b < sizeof bases / sizeof bases[0]; b++) {
            for (int way = 0; way < 4; way++) {
                check_reduce_scatter(comms[limit], COMM_F32, bases[b], way & 1, way & 2);
                check_reduce_scatter(comms[limit], COMM_BF16, bases[b], way & 1, way & 2);
            }
        }
    }
}

static void test_broadcast(void **state)
{
    (void)state;
    uint8_t *data = malloc(MOST);
    uint8_t *expected = malloc(MOST);
    for (int limit = 0; limit < NUM_LIMITS; limit++) {
        struct comm *comm = comms[limit];
        for (int root = 0; root < comm->size; root++) {
            for (int s = 0; s < NUM_SIZES; s++) {
                fill(COMM_U8, comm->rank, 0, data, sizes[s]);
                fill(COMM_U8, root, 0, expected, sizes[s]);
                succeed(comm_broadcast(comm, "tell", data, sizes[s], COMM_U8, root));
                assert_memory_equal(data, expected, (size_t)sizes[s]);
            }
        }
    }
    free(data);
    free(expected);
}

/* Rows that rank `from` has for rank `to`. */
static int64_t rows_between(int from, int to)
{
    return (from * 7 + to * 5) % 4 == 0 ? 0 : from * 131 + to * 17 + 1;
}

static void test_exchange(void **state)
{
    (void)state;
    for (int limit = 0; limit < NUM_LIMITS; limit++) {
        struct comm *comm = comms[limit];
        int64_t send_counts[8];
        int64_t recv_counts[8];
        int64_t num_send = 0;
        int64_t num_recv = 0;
        for (int r = 0; r < comm->size; r++) {
            send_counts[r] = rows_between(comm->rank, r);
            num_send += send_counts[r];
        }
        succeed(comm_exchange_counts(comm, "counts", send_counts, recv_counts));
        for (int r = 0; r < comm->size; r++) {
            assert_int_equal(recv_counts[r], rows_between(r, comm->rank));
            num_recv += recv_counts[r];
        }
        int64_t *send = malloc((size_t)num_send * 8 + 1);
        int64_t *recv = malloc((size_t)num_recv * 8 + 1);
        int64_t at = 0;
        for (int r = 0; r < comm->size; r++) {
            for (int64_t i = 0; i < send_counts[r]; i++) {
                send[at++] = comm->rank * 1000000 + r * 10000 + i;
            }
        }
        succeed(comm_exchange(comm, "rows", send, send_counts, recv, recv_counts, COMM_I64));
        at = 0;
        for (int r = 0; r < comm->size; r++) {
            for (int64_t i = 0; i < recv_counts[r]; i++) {
                assert_int_equal(recv[at++], r * 1000000 + comm->rank * 10000 + i);
            }
        }
        free(send);
        free(recv);
    }
}

/* Buckets in flight, progressed between pieces of work, waited for out of order, with a blocking
 * call in between. */
static void test_overlap(void **state)
{
    (void)state;
    enum { NUM_BUCKETS = 24, BUCKET = 5000 };
    for (int limit = 0; limit < NUM_LIMITS; limit++) {
        struct comm *comm = comms[limit];
        struct comm_handle *handles[NUM_BUCKETS];
        float *data = malloc(NUM_BUCKETS * BUCKET * sizeof *data);
        float *expected = malloc(BUCKET * sizeof *expected);
        int64_t count[NUM_BUCKETS];
        for (int b = 0; b < NUM_BUCKETS; b++) {
            count[b] = b % 5 == 4 ? 0 : BUCKET / (b % 7 + 1);
            if (chunk_limits[limit] == 64) count[b] /= 8;
            fill(COMM_F32, comm->rank, 0, data + b * BUCKET, count[b]);
            char label[32];
            snprintf(label, sizeof label, "bucket %d", b);
            succeed(comm_allreduce_start(comm, label, data + b * BUCKET, count[b], COMM_F32,
                                         COMM_SUM, &handles[b]));
            succeed(comm_progress(comm));
        }
        struct comm_agreed agreed;
        succeed(comm_agree(comm, "in between", comm->rank + 1, &agreed));
        assert_int_equal(agreed.sum, comm->size * (comm->size + 1) / 2);
        bool done = false;
        while (!done) {
            succeed(comm_test(comm, &handles[7], &done));
        }
        assert_null(handles[7]);
        for (int b = NUM_BUCKETS - 1; b >= 0; b--) {
            succeed(comm_wait(comm, &handles[b]));
            assert_null(handles[b]);
            expect_reduced(COMM_F32, COMM_SUM, comm->size, count[b], expected);
            assert_memory_equal(data + b * BUCKET, expected, (size_t)count[b] * sizeof(float));
        }
        free(data);
        free(expected);
    }
}

static void test_nan_is_kept(void **state)
{
    (void)state;
    struct comm *comm = comms[0];
    for (int bad = 0; bad < comm->size; bad++) {
        float data[3] = {1, 1, comm->rank == bad ? NAN : 1};
        succeed(comm_allreduce(comm, "nan", data, 3, COMM_F32, bad % 2 ? COMM_MIN : COMM_MAX));
        assert_true(data[1] == 1);
        assert_true(isnan(data[2]));
    }
}

static void expect_refusal(enum status status, const char *part)
{
    assert_int_equal(status, STATUS_INVALID);
    if (!strstr(status_message(), part)) fail_msg("'%s' lacks '%s'", status_message(), part);
}

static void test_bad_calls_are_refused(void **state)
{
    (void)state;
    struct comm *comm = comms[0];
    int64_t counts[8] = {-5, 0, 0, 0, 0, 0, 0, 0};
    float data[1] = {0};
    expect_refusal(comm_allreduce(comm, "x", data, -1, COMM_F32, COMM_SUM),
                   "'x': count -1 is below 0");
    expect_refusal(comm_allreduce(comm, "x", data, 1, COMM_U8, COMM_SUM), "cannot be reduced");
    expect_refusal(comm_broadcast(comm, "x", data, 1, COMM_F32, comm->size), "root");
    expect_refusal(comm_broadcast(comm, "x", data, 1, COMM_F32, -1), "root -1");
    expect_refusal(comm_allgather(comm, "x", data, data, 0, counts, COMM_F32),
                   "count of rank 0 is -5");
    expect_refusal(comm_exchange(comm, "x", data, NULL, data, counts, COMM_F32), "below 0");
    expect_refusal(comm_exchange(comm, "x", data, NULL, data, NULL, COMM_F32), "both counts");
    /* A refused call leaves the comm usable. */
    succeed(comm_barrier(comm, "after"));
}

static void test_place(void **state)
{
    (void)state;
    int rank = -1;
    int size = -1;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    struct comm *comm = comms[0];
    assert_int_equal(comm->rank, rank);
    assert_int_equal(comm->size, size);
    assert_int_equal(comm->local_size, size);
    assert_int_equal(comm->local_rank, rank);
    assert_true(comm->host[0] != '\0');
}

int main(void)
{
    /* The first one starts MPI and ends it. */
    for (int i = 0; i < NUM_LIMITS; i++) {
        struct comm_options options = {.chunk_bytes = chunk_limits[i]};
        if (comm_create(&options, &comms[i]) != STATUS_OK) {
            fprintf(stderr, "comm_create: %s\n", status_message());
            return 1;
        }
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_allreduce),
        cmocka_unit_test(test_reduce_scatter_and_gather),
        cmocka_unit_test(test_broadcast),
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_nan_is_kept),
        cmocka_unit_test(test_bad_calls_are_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = NUM_LIMITS - 1; i >= 0; i--) {
        if (comm_finish(&comms[i]) != STATUS_OK) failed++;
    }
    return failed;
}
