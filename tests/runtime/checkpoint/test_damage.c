/* Damaged, foreign and unfinished checkpoints: named, and the one before is taken.   timeout=60 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "runtime/base/log.h"
#include "runtime/checkpoint/format.h"
#include "tests/runtime/checkpoint/fixture.h"

enum { ELEMENTS = 3000 };

static char folder[256];
static char newest[512]; /* the path of step 20; step 10 is the one before */
static char messages[512];
static uint8_t *sound; /* the bytes of step 20 */
static int64_t sound_bytes;

static uint8_t *read_file(const char *path, int64_t *size)
{
    struct stat info;
    int file = open(path, O_RDONLY);
    assert_true(file >= 0 && fstat(file, &info) == 0);
    uint8_t *bytes = malloc((size_t)info.st_size + 1);
    assert_non_null(bytes);
    assert_int_equal(read(file, bytes, (size_t)info.st_size), info.st_size);
    bytes[info.st_size] = '\0';
    close(file);
    *size = info.st_size;
    return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, int64_t size)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(file >= 0);
    assert_int_equal(write(file, bytes, (size_t)size), size);
    close(file);
}

static int setup(void **state)
{
    (void)state;
    fixture_folder(folder, NULL);
    struct fixture fixture;
    fixture_create(&fixture, ELEMENTS, false, 0, 1);
    struct checkpoint_saver_options options = {0};
    struct checkpoint_saver *saver;
    ASSERT_OK(checkpoint_saver_create(&saver, folder, &options, NULL));
    for (int64_t step = 10; step <= 20; step += 10) {
        fixture_fill(&fixture, step);
        ASSERT_OK(checkpoint_save(saver, &fixture.state));
    }
    snprintf(newest, sizeof newest, "%s/step-00000020.h5", folder);
    checkpoint_saver_destroy(&saver);
    fixture_destroy(&fixture);
    sound = read_file(newest, &sound_bytes);
    snprintf(messages, sizeof messages, "%s/messages", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(sound);
    fixture_remove(folder, NULL);
    return 0;
}

/* Opens the folder: step 10 with a warning about step 20 that has `part`. */
static void expect_fallback(const char *part)
{
    struct checkpoint *checkpoint;
    (void)unlink(messages);
    ASSERT_OK(log_set_file(messages));
    ASSERT_OK(checkpoint_open(&checkpoint, folder, NULL));
    ASSERT_OK(log_set_file(NULL));
    fixture_expect(checkpoint, ELEMENTS, 10, 0, 1);
    checkpoint_close(&checkpoint);
    int64_t size;
    char *text = (char *)read_file(messages, &size);
    if (!strstr(text, "step-00000020.h5") || !strstr(text, part) ||
        !strstr(text, "trying the one before")) {
        fail_msg("'%s' lacks '%s'", text, part);
    }
    free(text);
}

static void test_flipped_bytes(void **state)
{
    (void)state;
    int64_t flips = 0;
    log_set_level(LOG_ERROR);
    /* The whole of HDF5's head, then everywhere. */
    for (int64_t at = 0; at < sound_bytes; at += at < 256 ? 7 : 397) {
        sound[at] ^= 0x10;
        write_file(newest, sound, sound_bytes);
        sound[at] ^= 0x10;
        expect_fallback("damaged");
        flips++;
    }
    for (int64_t at = sound_bytes - CHECKPOINT_SEAL_BYTES; at < sound_bytes; at += 3) {
        sound[at] ^= 0x01;
        write_file(newest, sound, sound_bytes);
        sound[at] ^= 0x01;
        expect_fallback(at < sound_bytes - CHECKPOINT_SEAL_BYTES + 8 ? "no seal" : "damaged");
    }
    assert_true(flips > 100);
}

static void test_cut_short(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    write_file(newest, sound, sound_bytes - 1);
    expect_fallback("cut short");
    write_file(newest, sound, sound_bytes / 2);
    expect_fallback("cut short");
    write_file(newest, sound, 40);
    expect_fallback("has only 40 bytes");
    write_file(newest, sound, 0);
    expect_fallback("has only 0 bytes");
    assert_int_equal(unlink(newest), 0);
    assert_int_equal(mkdir(newest, 0777), 0);
    struct checkpoint *checkpoint;
    ASSERT_FAILS(checkpoint_open(&checkpoint, newest, NULL), STATUS_NOT_FOUND, "no checkpoint");
}

static void test_all_damaged(void **state)
{
    (void)state;
    char older[512];
    log_set_level(LOG_ERROR);
    snprintf(older, sizeof older, "%s/step-00000010.h5", folder);
    sound[5000] ^= 1;
    write_file(newest, sound, sound_bytes);
    write_file(older, sound, sound_bytes);
    struct checkpoint *checkpoint;
    ASSERT_FAILS(checkpoint_open(&checkpoint, folder, NULL), STATUS_CORRUPT,
                 "none of the 2 checkpoints there is sound");
    ASSERT_FAILS(checkpoint_open(&checkpoint, newest, NULL), STATUS_CORRUPT, "damaged: the ");
}

/* A sound seal with another version is not damage: an older file must not be taken. */
static void test_other_version(void **state)
{
    (void)state;
    uint8_t *seal = sound + sound_bytes - CHECKPOINT_SEAL_BYTES;
    seal[8] = CHECKPOINT_VERSION + 1;
    uint64_t hash = XXH3_64bits(seal, CHECKPOINT_SEAL_BYTES - 8);
    memcpy(seal + CHECKPOINT_SEAL_BYTES - 8, &hash, sizeof hash);
    write_file(newest, sound, sound_bytes);
    struct checkpoint *checkpoint;
    ASSERT_FAILS(checkpoint_open(&checkpoint, folder, NULL), STATUS_UNSUPPORTED,
                 "version 2, and this weft reads version 1; use a newer weft");
    assert_null(checkpoint);
}

static void test_being_written(void **state)
{
    (void)state;
    char temporary[600];
    snprintf(temporary, sizeof temporary, "%s/step-00000030.h5.tmp", folder);
    write_file(temporary, sound, sound_bytes - CHECKPOINT_SEAL_BYTES);
    struct checkpoint *checkpoint;
    ASSERT_OK(checkpoint_open(&checkpoint, folder, NULL));
    fixture_expect(checkpoint, ELEMENTS, 20, 0, 1);
    checkpoint_close(&checkpoint);
    ASSERT_FAILS(checkpoint_open(&checkpoint, temporary, NULL), STATUS_CORRUPT, "never finished");
    /* The next start removes it. */
    struct checkpoint_saver_options options = {.resumed_step = 20};
    struct checkpoint_saver *saver;
    log_set_level(LOG_ERROR);
    ASSERT_OK(checkpoint_saver_create(&saver, folder, &options, NULL));
    checkpoint_saver_destroy(&saver);
    struct stat info;
    assert_int_equal(stat(temporary, &info), -1);
    assert_int_equal(stat(newest, &info), 0);
}

static void test_nothing_there(void **state)
{
    (void)state;
    char path[512];
    struct checkpoint *checkpoint;
    snprintf(path, sizeof path, "%s/missing", folder);
    ASSERT_FAILS(checkpoint_open(&checkpoint, path, NULL), STATUS_NOT_FOUND, "cannot find");
    assert_int_equal(mkdir(path, 0777), 0);
    ASSERT_FAILS(checkpoint_open(&checkpoint, path, NULL), STATUS_NOT_FOUND, "no checkpoint");
    snprintf(path, sizeof path, "%s/text", folder);
    write_file(path, (const uint8_t *)"hello", 5);
    ASSERT_FAILS(checkpoint_open(&checkpoint, path, NULL), STATUS_CORRUPT, "has only 5 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_flipped_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_short, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_version, setup, teardown),
        cmocka_unit_test_setup_teardown(test_being_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_there, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
