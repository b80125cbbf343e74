/* The sampler: permutations, epochs, mixtures, locality, rank counts, resuming, and a set of two
 * billion rows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "data/sampler/sampler.h"

static void must(enum status status)
{
    if (status != STATUS_OK) fail_msg("%s", status_message());
}

static void test_permutations(void **state)
{
    (void)state;
    static const uint64_t counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 100, 1023, 1025, 30000};
    unsigned char *seen = malloc(30000);
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        for (uint64_t key = 0; key < 3; key++) {
            struct permutation p = permutation_make(key * 0x9E3779B97F4A7C15u, counts[c]);
            memset(seen, 0, counts[c]);
            uint64_t fixed = 0;
            for (uint64_t i = 0; i < counts[c]; i++) {
                uint64_t to = permutation_at(&p, i);
                assert_true(to < counts[c]);
                assert_int_equal(seen[to], 0);
                seen[to] = 1;
                fixed += to == i;
            }
            if (counts[c] >= 100) assert_true(fixed < 10);
        }
    }
    free(seen);
}

/* First draws of many keys are spread evenly: chi-squared over 64 cells stays below a generous
 * bound. */
static void test_permutations_are_even(void **state)
{
    (void)state;
    int cells[64] = {0};
    enum { KEYS = 64000 };
    for (uint64_t key = 0; key < KEYS; key++) {
        struct permutation p = permutation_make(key * 0xD1342543DE82EF95u + 1, 64);
        cells[permutation_at(&p, key % 64)]++;
    }
    double chi = 0;
    for (int i = 0; i < 64; i++) {
        chi += pow(cells[i] - KEYS / 64.0, 2) / (KEYS / 64.0);
    }
    assert_true(chi < 140);
}

static const int64_t rows3[] = {1000, 37, 413};

static void check_epoch(const struct sampler *s, int64_t epoch)
{
    unsigned char *seen = calloc(1450, 1);
    for (int64_t i = 0; i < s->epoch_samples; i++) {
        struct sampler_draw d = sampler_draw_at(s, epoch, i);
        assert_true(d.set >= 0 && d.set < 3 && d.row >= 0 && d.row < rows3[d.set]);
        int64_t at = s->set_begin[d.set] + d.row;
        assert_int_equal(seen[at], 0);
        seen[at] = 1;
    }
    free(seen);
}

static void test_every_row_once(void **state)
{
    (void)state;
    struct sampler s;
    struct sampler_options o = {.set_rows = rows3, .num_sets = 3, .seed = 5, .global_batch = 10};
    must(sampler_init(&s, &o));
    check_epoch(&s, 0);
    check_epoch(&s, 7);
    int same = 0;
    for (int64_t i = 0; i < 1450; i++) {
        struct sampler_draw a = sampler_draw_at(&s, 0, i);
        struct sampler_draw b = sampler_draw_at(&s, 1, i);
        same += a.set == b.set && a.row == b.row;
    }
    assert_true(same < 20);
    /* Locality, with chunks that do and do not divide the rows, and windows beyond the end. */
    for (o.chunk_rows = 1; o.chunk_rows < 2000; o.chunk_rows = o.chunk_rows * 3 + 1) {
        for (o.window_chunks = 1; o.window_chunks < 100; o.window_chunks *= 7) {
            must(sampler_init(&s, &o));
            check_epoch(&s, 2);
        }
    }
}

static void test_locality_is_local(void **state)
{
    (void)state;
    int64_t rows = 100000;
    struct sampler_options o = {.set_rows = &rows,
                                .num_sets = 1,
                                .global_batch = 10,
                                .chunk_rows = 100,
                                .window_chunks = 8};
    struct sampler s;
    must(sampler_init(&s, &o));
    for (int64_t window = 0; window < 20; window++) {
        int64_t chunks[1000] = {0};
        int used = 0;
        for (int64_t i = 0; i < 800; i++) {
            int64_t chunk = sampler_draw_at(&s, 0, window * 800 + i).row / 100;
            used += chunks[chunk]++ == 0;
        }
        assert_int_equal(used, 8);
    }
}

static void test_mixture_shares(void **state)
{
    (void)state;
    const double weights[] = {1, 2, 1};
    struct sampler s;
    struct sampler_options o = {.set_rows = rows3,
                                .set_weights = weights,
                                .num_sets = 3,
                                .seed = 9,
                                .global_batch = 64,
                                .epoch_samples = 10000};
    must(sampler_init(&s, &o));
    int64_t drawn[3] = {0};
    int64_t first_set[37] = {0};
    for (int64_t i = 0; i < 2 * SAMPLER_BLOCK; i++) {
        struct sampler_draw d = sampler_draw_at(&s, i / 10000, i % 10000);
        drawn[d.set]++;
        if (d.set == 1) first_set[d.row]++;
        assert_int_equal(d.sample, i);
    }
    assert_int_equal(drawn[0], SAMPLER_BLOCK / 2);
    assert_int_equal(drawn[1], SAMPLER_BLOCK);
    /* Rows of the small set come round equally often. */
    for (int r = 0; r < 37; r++) {
        assert_in_range(first_set[r], SAMPLER_BLOCK / 37, SAMPLER_BLOCK / 37 + 1);
    }
}

/* What `size` ranks draw over two epochs, in the order of the global index. */
static int64_t draw_all(const struct sampler *s, int size, struct sampler_position from,
                        uint64_t *out)
{
    int64_t count = 0;
    for (struct sampler_position p = from; p.epoch < 2; p = sampler_next(s, p)) {
        for (int rank = 0; rank < size; rank++) {
            int64_t begin = rank * s->global_batch / size;
            int64_t end = (rank + 1) * s->global_batch / size;
            for (int64_t i = begin; i < end; i++) {
                struct sampler_draw d = sampler_batch_at(s, p, i);
                out[count++] = (uint64_t)d.set << 32 | (uint64_t)d.row;
            }
        }
    }
    return count;
}

static void test_any_rank_count(void **state)
{
    (void)state;
    for (int tail = SAMPLER_TAIL_DROP; tail <= SAMPLER_TAIL_WRAP; tail++) {
        struct sampler_options o = {.set_rows = rows3,
                                    .num_sets = 3,
                                    .seed = 5,
                                    .global_batch = 42,
                                    .tail = (enum sampler_tail)tail};
        struct sampler s;
        must(sampler_init(&s, &o));
        uint64_t *one = malloc(4000 * sizeof *one);
        uint64_t *many = malloc(4000 * sizeof *many);
        int64_t count = draw_all(&s, 1, (struct sampler_position){0, 0}, one);
        static const int sizes[] = {2, 3, 7};
        for (int k = 0; k < 3; k++) {
            assert_int_equal(draw_all(&s, sizes[k], (struct sampler_position){0, 0}, many), count);
            assert_memory_equal(one, many, (size_t)count * sizeof *one);
        }
        /* Stop after 17 steps, resume on 7 ranks: the rest is the rest. */
        struct sampler_position p = sampler_at_step(&s, 17);
        int64_t rest = draw_all(&s, 7, p, many);
        assert_int_equal(rest, count - 17 * 42);
        assert_memory_equal(one + (count - rest), many, (size_t)rest * sizeof *one);
        struct sampler_position walked = {0, 0};
        for (int step = 0; step < 90; step++) {
            struct sampler_position direct = sampler_at_step(&s, step);
            assert_int_equal(walked.epoch, direct.epoch);
            assert_int_equal(walked.index, direct.index);
            walked = sampler_next(&s, walked);
        }
        free(one);
        free(many);
    }
}

static void test_two_billion_rows(void **state)
{
    (void)state;
    int64_t rows = 2000000000;
    struct sampler_options o = {.set_rows = &rows, .num_sets = 1, .global_batch = 4096};
    struct timespec begin;
    struct timespec end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    struct sampler s;
    must(sampler_init(&s, &o));
    uint64_t sum = 0;
    for (int64_t i = 0; i < 200000; i++) {
        struct sampler_draw d = sampler_draw_at(&s, 3, i * 9973);
        assert_true(d.row >= 0 && d.row < rows);
        sum += (uint64_t)d.row;
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    double mean = (double)sum / 200000 / (double)rows;
    assert_true(mean > 0.495 && mean < 0.505);
    double seconds =
        (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    print_message("# %.2f million draws a second\n", 0.2 / seconds);
    assert_true(sizeof s < 4096);
}

static void refuse(struct sampler_options o, const char *part)
{
    struct sampler s;
    assert_int_equal(sampler_init(&s, &o), STATUS_INVALID);
    if (!strstr(status_message(), part)) fail_msg("'%s' not in '%s'", part, status_message());
}

static void test_refusals(void **state)
{
    (void)state;
    int64_t few = 5;
    int64_t none = 0;
    const double weights[] = {1, 1e-9};
    const double negative[] = {1, -1};
    refuse((struct sampler_options){.set_rows = &few, .num_sets = 1, .global_batch = 8},
           "fewer than one global batch of 8");
    refuse((struct sampler_options){.set_rows = &none, .num_sets = 1, .global_batch = 1},
           "set 0 has 0 rows");
    refuse((struct sampler_options){.set_rows = &few, .num_sets = 0, .global_batch = 1}, "1 to 64");
    refuse((struct sampler_options){.set_rows = &few, .num_sets = 1, .global_batch = 0},
           "at least 1");
    refuse(
        (struct sampler_options){
            .set_rows = rows3, .num_sets = 2, .global_batch = 1, .set_weights = weights},
        "weight of set 1 is below");
    refuse(
        (struct sampler_options){
            .set_rows = rows3, .num_sets = 2, .global_batch = 1, .set_weights = negative},
        "must be above 0");
    refuse(
        (struct sampler_options){
            .set_rows = rows3, .num_sets = 2, .global_batch = 1, .chunk_rows = 4},
        "windows of at least 1 chunk");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permutations),     cmocka_unit_test(test_permutations_are_even),
        cmocka_unit_test(test_every_row_once),   cmocka_unit_test(test_locality_is_local),
        cmocka_unit_test(test_mixture_shares),   cmocka_unit_test(test_any_rank_count),
        cmocka_unit_test(test_two_billion_rows), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
