/* Choices of algorithms: kept in a file, which may be damaged, and shared by ranks. np=1,2 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/backend/cuda/tuning.h"
#include "runtime/base/log.h"
#include "runtime/comm/comm.h"

static struct comm *comm;
static char folder[512];
static char log_path[640];

#define MUST(expression)                                                                           \
    do {                                                                                           \
        if ((expression) != STATUS_OK) fail_msg("%s", status_message());                           \
    } while (0)

static struct tuning_choice choice_of(const char *key, int algorithm, double microseconds)
{
    struct tuning_choice choice = {.microseconds = microseconds};
    snprintf(choice.key, sizeof choice.key, "%s", key);
    for (int i = 0; i < TUNING_ALGORITHM; i++) {
        choice.algorithm[i] = (uint8_t)(algorithm + 7 * i);
    }
    return choice;
}

static void put(struct tuning *t, const char *key, int algorithm, double microseconds)
{
    struct tuning_choice choice = choice_of(key, algorithm, microseconds);
    MUST(tuning_put(t, &choice));
}

static void expect(const struct tuning *t, const char *key, int algorithm)
{
    const struct tuning_choice *found = tuning_find(t, key);
    struct tuning_choice wanted = choice_of(key, algorithm, 1);
    assert_non_null(found);
    assert_memory_equal(found->algorithm, wanted.algorithm, TUNING_ALGORITHM);
}

/* The file's bytes; freed by the caller. */
static char *contents(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = calloc(1, 65536);
    assert_non_null(text);
    *size = fread(text, 1, 65535, file);
    fclose(file);
    return text;
}

static void write_contents(const char *path, const char *text, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* What was logged since the last call, or a part of it that must be there; NULL: nothing. */
static void expect_warning(const char *part)
{
    static size_t seen;
    size_t size = 0;
    char *text = contents(log_path, &size);
    if (part && !strstr(text + seen, part)) fail_msg("'%s' lacks '%s'", text + seen, part);
    if (!part && size != seen) fail_msg("unexpected: %s", text + seen);
    seen = size;
    free(text);
}

static void test_kept(void **state)
{
    (void)state;
    char path[640];
    struct tuning t;
    snprintf(path, sizeof path, "%s/deep/er/file", folder);
    setenv("WEFT_CUDA_TUNING", path, 1);
    assert_true(tuning_is_on());
    MUST(tuning_open(&t, "GPU, driver 1"));
    assert_int_equal(t.count, 0);
    put(&t, "first", 1, 10);
    put(&t, "second", 2, 0.5);
    put(&t, "not timed", 3, 0);
    put(&t, "first", 4, 9); /* replaces */
    tuning_save(&t);
    assert_false(t.changed);
    tuning_close(&t);
    MUST(tuning_open(&t, "GPU, driver 1"));
    expect(&t, "first", 4);
    expect(&t, "second", 2);
    assert_null(tuning_find(&t, "not timed"));
    assert_int_equal(t.count, 2);
    /* Nothing new: nothing is written. */
    unlink(path);
    tuning_save(&t);
    assert_int_not_equal(access(path, F_OK), 0);
    /* Many. */
    for (int i = 0; i < 300; i++) {
        char key[32];
        snprintf(key, sizeof key, "product %d", i);
        put(&t, key, i, 1 + i);
    }
    tuning_save(&t);
    tuning_close(&t);
    MUST(tuning_open(&t, "GPU, driver 1"));
    assert_int_equal(t.count, 302);
    expect(&t, "product 299", 299);
    tuning_close(&t);
    expect_warning(NULL);
}

/* Any byte that is changed, any length: told once, and counts as nothing known. */
static void test_damaged(void **state)
{
    (void)state;
    char path[640];
    struct tuning t;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/damaged", folder);
    setenv("WEFT_CUDA_TUNING", path, 1);
    MUST(tuning_open(&t, "GPU, driver 1"));
    put(&t, "first", 1, 10);
    put(&t, "second", 2, 10);
    tuning_save(&t);
    tuning_close(&t);
    char *text = contents(path, &size);
    for (size_t i = 0; i < size; i += 3) {
        text[i] ^= 4;
        write_contents(path, text, size);
        text[i] ^= 4;
        MUST(tuning_open(&t, "GPU, driver 1"));
        assert_int_equal(t.count, 0);
        tuning_close(&t);
        expect_warning("damaged: holds no algorithms for this GPU (it is damaged)");
        write_contents(path, text, i);
        MUST(tuning_open(&t, "GPU, driver 1"));
        assert_int_equal(t.count, 0);
        tuning_close(&t);
        expect_warning("products are timed anew");
    }
    write_contents(path, text, size);
    MUST(tuning_open(&t, "GPU, driver 2"));
    assert_int_equal(t.count, 0);
    expect_warning("it is of another GPU, driver or cuBLASLt");
    /* It is replaced. */
    put(&t, "first", 5, 10);
    tuning_save(&t);
    tuning_close(&t);
    MUST(tuning_open(&t, "GPU, driver 2"));
    expect(&t, "first", 5);
    tuning_close(&t);
    free(text);
    setenv("WEFT_CUDA_TUNING", folder, 1);
    MUST(tuning_open(&t, "GPU, driver 2"));
    expect_warning("it is no file");
    put(&t, "first", 5, 10);
    tuning_save(&t);
    expect_warning("products are timed again in the next run");
    put(&t, "second", 5, 10);
    tuning_save(&t);
    expect_warning(NULL);
    tuning_close(&t);
}

static void test_places(void **state)
{
    (void)state;
    struct tuning t;
    char wanted[640];
    setenv("WEFT_CUDA_TUNING", "off", 1);
    assert_false(tuning_is_on());
    unsetenv("WEFT_CUDA_TUNING");
    assert_true(tuning_is_on());
    setenv("XDG_CACHE_HOME", folder, 1);
    MUST(tuning_open(&t, "one GPU"));
    snprintf(wanted, sizeof wanted, "%s/weft/cublaslt-", folder);
    assert_int_equal(strncmp(t.path, wanted, strlen(wanted)), 0);
    char first[640];
    snprintf(first, sizeof first, "%s", t.path);
    tuning_close(&t);
    MUST(tuning_open(&t, "another GPU"));
    assert_string_not_equal(t.path, first);
    tuning_close(&t);
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", folder, 1);
    MUST(tuning_open(&t, "one GPU"));
    snprintf(wanted, sizeof wanted, "%s/.cache/weft/", folder);
    assert_int_equal(strncmp(t.path, wanted, strlen(wanted)), 0);
    tuning_close(&t);
    unsetenv("HOME");
    MUST(tuning_open(&t, "one GPU"));
    assert_null(t.path);
    put(&t, "first", 1, 1);
    tuning_save(&t);
    tuning_close(&t);
    expect_warning(NULL);
}

/* Rank 0's choices win, also over other ones; not between different GPUs. */
static void test_shared(void **state)
{
    (void)state;
    struct tuning t;
    bool shared = false;
    char path[640];
    snprintf(path, sizeof path, "%s/rank", folder);
    setenv("WEFT_CUDA_TUNING", path, 1);
    MUST(tuning_open(&t, "the same"));
    put(&t, "all", comm->rank, 10);
    if (comm->rank == 0) put(&t, "first alone", 7, 10);
    if (comm->rank > 0) put(&t, "another alone", 8, 10);
    MUST(tuning_share(&t, comm, &shared));
    assert_true(shared);
    expect(&t, "all", 0);
    expect(&t, "first alone", 7);
    assert_int_equal(tuning_find(&t, "another alone") != NULL, comm->rank > 0);
    tuning_close(&t);
    MUST(tuning_open(&t, comm->rank == 0 ? "GPU" : "another GPU"));
    put(&t, "all", comm->rank, 10);
    MUST(tuning_share(&t, comm, &shared));
    assert_int_equal(shared, comm->size == 1);
    expect(&t, "all", comm->rank);
    if (comm->size > 1 && comm->rank == 0) expect_warning("the ranks' GPUs, drivers or libraries");
    tuning_close(&t);
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/weft-tuning-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder) || comm_create(NULL, &comm) != STATUS_OK) return 1;
    snprintf(log_path, sizeof log_path, "%s/log", folder);
    if (log_set_file(log_path) != STATUS_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_shared),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    log_set_file(NULL);
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0) failed++;
    return comm_finish(&comm) == STATUS_OK && !failed ? 0 : 1;
}
