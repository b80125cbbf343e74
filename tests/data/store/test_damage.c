/*
 * Damaged shards: every byte of a small shard is changed in turn, and the file cut at every length.
 * Each time there is a clear error or the right data; never a crash, never other data.
 */
#include "tests/data/store/fixture.h"

#include <errno.h>
#include <fcntl.h>

#include <hdf5.h>
#include <xxhash.h>

/* Sanitizers make opening some fifteen times slower; they look at every few bytes. */
#if defined(__SANITIZE_ADDRESS__)
enum { EVERY = 13 };
#else
enum { EVERY = 1 };
#endif

static char folder[PATH_MAX];
static char path[PATH_MAX + 32];
static uint8_t *sound;
static size_t sound_size;
static uint64_t sound_print;

/* A hash of all that can be read from the set. Fails when anything cannot be read. */
static enum status print_contents(const struct store *store, uint64_t *print)
{
    struct store_image image = {0};
    struct store_text text = {0};
    struct store_boxes boxes = {0};
    struct store_answers answers = {0};
    enum status status = STATUS_OK;
    uint64_t hash = store_fingerprint(store);
    for (int64_t i = 0; i < store_num_images(store); i++) {
        TRY_GOTO(status, store_image_read(store, i, &image), done);
        hash = XXH64(image.bytes, (size_t)image.size, hash + (uint64_t)image.width);
        TRY_GOTO(status, store_boxes_read(store, i, -1, &boxes), done);
        for (int32_t j = 0; j < boxes.num_boxes; j++) {
            hash = XXH64(&boxes.boxes[j], sizeof boxes.boxes[j], hash);
        }
        if (boxes.num_spans) {
            hash = XXH64(boxes.spans, (size_t)boxes.num_spans * sizeof *boxes.spans, hash);
        }
    }
    for (int64_t i = 0; i < store_num_texts(store); i++) {
        TRY_GOTO(status, store_text_read(store, i, &text), done);
        hash = XXH64(text.text, (size_t)text.length, hash + (uint64_t)text.label + text.kind);
        TRY_GOTO(status, store_answers_read(store, i, &answers), done);
        for (int32_t j = 0; j < answers.num_answers; j++) {
            hash = XXH64(answers.answers[j].answer, (size_t)answers.answers[j].length, hash);
        }
    }
    *print = hash;
done:
    store_image_fini(&image);
    store_text_fini(&text);
    store_boxes_fini(&boxes);
    store_answers_fini(&answers);
    return status;
}

static enum status read_all(uint64_t *print)
{
    struct store *store = NULL;
    const char *pattern = path;
    TRY(store_open(&store, &pattern, 1, NULL));
    enum status status = print_contents(store, print);
    store_close(&store);
    return status;
}

static void put_plain(hid_t file, const char *name, hid_t type, hsize_t count, const int *values)
{
    hid_t space = H5Screate_simple(1, &count, NULL);
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    hid_t id = H5Dcreate2(file, name, type, space, links, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Dwrite(id, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(id);
    H5Pclose(links);
    H5Sclose(space);
}

/* The least shard, with the library's defaults. */
static void plain_shard_make(const char *to)
{
    static const int values[] = {0, 1, 1};
    const char *format = "weft";
    hid_t file = H5Fcreate(to, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    hid_t text = H5Acreate2(file, "format", type, space, H5P_DEFAULT, H5P_DEFAULT);
    hid_t number = H5Acreate2(file, "schema", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(text, type, &format) >= 0);
    assert_true(H5Awrite(number, H5T_NATIVE_INT, &values[1]) >= 0);
    put_plain(file, "images/bytes", H5T_STD_U8LE, 1, values);
    put_plain(file, "images/offset", H5T_STD_I64LE, 2, values);
    put_plain(file, "texts/bytes", H5T_STD_U8LE, 1, values);
    put_plain(file, "texts/offset", H5T_STD_I64LE, 2, values);
    put_plain(file, "texts/image", H5T_STD_I32LE, 1, values);
    H5Aclose(text);
    H5Aclose(number);
    H5Tclose(type);
    H5Sclose(space);
    assert_true(H5Fclose(file) >= 0);
}

static int make_shard(void **state)
{
    (void)state;
    folder_make(folder);
    snprintf(path, sizeof path, "%s/small.h5", folder);
    shard_make(path, 0, 2, 0, 1);
    sound = file_load(path, &sound_size);
    ASSERT_OK(read_all(&sound_print));
    return 0;
}

static int remove_shard(void **state)
{
    (void)state;
    free(sound);
    folder_remove(folder);
    return 0;
}

static void expect_error_or_same(const char *what, size_t place, int *num_errors)
{
    uint64_t print = 0;
    enum status status = read_all(&print);
    if (status == STATUS_OK) {
        if (print != sound_print) fail_msg("%s at byte %zu: other data, no error", what, place);
        return;
    }
    (*num_errors)++;
    if (!strstr(status_message(), path)) {
        fail_msg("%s at byte %zu: the message names no file: %s", what, place, status_message());
    }
}

static void test_every_byte(void **state)
{
    (void)state;
    int file = open(path, O_RDWR);
    assert_true(file >= 0);
    int num_errors = 0;
    int num_changed = 0;
    static const uint8_t masks[] = {0xFF, 0x01};
    for (size_t m = 0; m < sizeof masks; m++) {
        for (size_t i = 0; i < sound_size - 64; i += EVERY) {
            uint8_t changed = sound[i] ^ masks[m];
            assert_int_equal(pwrite(file, &changed, 1, (off_t)i), 1);
            expect_error_or_same("changed", i, &num_errors);
            num_changed++;
            assert_int_equal(pwrite(file, &sound[i], 1, (off_t)i), 1);
        }
    }
    assert_int_equal(num_errors, num_changed);
    num_errors = 0;
    for (size_t i = sound_size - 64; i < sound_size; i++) {
        uint8_t changed = sound[i] ^ 0x10;
        assert_int_equal(pwrite(file, &changed, 1, (off_t)i), 1);
        expect_error_or_same("changed", i, &num_errors);
        assert_int_equal(pwrite(file, &sound[i], 1, (off_t)i), 1);
    }
    close(file);
    /* All but the eight bytes that make a seal a seal. */
    assert_int_equal(num_errors, 64 - 8);
    uint64_t print = 0;
    ASSERT_OK(read_all(&print));
    assert_true(print == sound_print);
}

static void test_every_length(void **state)
{
    (void)state;
    int num_errors = 0;
    int num_cuts = 0;
    for (size_t size = sound_size; size-- > 0;) {
        if (size >= 64 && size + 72 < sound_size && size % (37 * EVERY)) continue;
        assert_int_equal(truncate(path, (off_t)size), 0);
        expect_error_or_same("cut", size, &num_errors);
        num_cuts++;
    }
    assert_int_equal(num_errors, num_cuts - 64); /* the seal alone can be missing */
    file_save(path, sound, 0);
    ASSERT_FAILS(read_all(&(uint64_t){0}), STATUS_CORRUPT, "the file is empty");
    file_save(path, sound, sound_size - 100);
    ASSERT_FAILS(read_all(&(uint64_t){0}), STATUS_CORRUPT, "not a sound HDF5 file");
    file_save(path, sound, sound_size);
}

/*
 * A file in the oldest HDF5 format, without checksums and seal, as h5py writes it. Nothing can tell
 * damage to its tables, but opening it ends in a status whatever libhdf5 does (1.10.8 crashes or
 * hangs on some of these).
 */
static void test_unsealed(void **state)
{
    (void)state;
    char plain[PATH_MAX + 64];
    snprintf(plain, sizeof plain, "%s/plain.file", folder);
    const char *pattern = plain;
    plain_shard_make(plain);
    size_t size = 0;
    uint8_t *bytes = file_load(plain, &size);
    int file = open(plain, O_RDWR);
    assert_true(file >= 0);
    struct store *store = NULL;
    ASSERT_OK(store_open(&store, &pattern, 1, NULL));
    store_close(&store);
    int num_errors = 0;
    for (size_t i = 0; i < size; i += 11 * EVERY) {
        uint8_t changed = bytes[i] ^ 0xFF;
        assert_int_equal(pwrite(file, &changed, 1, (off_t)i), 1);
        if (store_open(&store, &pattern, 1, NULL) != STATUS_OK) {
            num_errors++;
            if (!strstr(status_message(), plain)) fail_msg("byte %zu: %s", i, status_message());
        }
        store_close(&store);
        assert_int_equal(pwrite(file, &bytes[i], 1, (off_t)i), 1);
    }
    assert_true(num_errors > 2);
    close(file);
    free(bytes);
}

static void test_bytes_behind(void **state)
{
    (void)state;
    uint8_t *longer = malloc(sound_size + 10);
    assert_non_null(longer);
    memcpy(longer, sound, sound_size);
    memcpy(longer + sound_size, sound, 10);
    file_save(path, longer, sound_size + 10);
    free(longer);
    int num_errors = 0;
    expect_error_or_same("longer", sound_size, &num_errors);
    file_save(path, sound, sound_size);
}

static void test_not_a_shard(void **state)
{
    (void)state;
    uint64_t print = 0;
    file_save(path, "hello", 5);
    ASSERT_FAILS(read_all(&print), STATUS_CORRUPT, "not a sound HDF5 file");
    assert_int_equal(unlink(path), 0);
    ASSERT_FAILS(read_all(&print), STATUS_NOT_FOUND, "no such file");
    assert_int_equal(mkdir(path, 0777), 0);
    ASSERT_FAILS(read_all(&print), STATUS_NOT_FOUND, "the folder holds no *.h5 files");
    assert_int_equal(rmdir(path), 0);
    file_save(path, sound, sound_size);
}

static void test_message_names_row(void **state)
{
    (void)state;
    /* The second picture begins where the first PNG ends. */
    uint8_t *copy = malloc(sound_size);
    assert_non_null(copy);
    memcpy(copy, sound, sound_size);
    size_t place = 0;
    int pictures = 0;
    for (; place + 8 < sound_size && pictures < 2; place++) {
        pictures += memcmp(copy + place, "\x89PNG\r\n\x1a\n", 8) == 0;
    }
    assert_int_equal(pictures, 2);
    copy[place + 20] ^= 4;
    file_save(path, copy, sound_size);
    free(copy);
    uint64_t print = 0;
    ASSERT_FAILS(read_all(&print), STATUS_CORRUPT,
                 "image 1 ('right-0.png'): the picture's bytes are damaged");
    file_save(path, sound, sound_size);
}

static struct store *open_rechecking(void)
{
    struct store *store = NULL;
    const char *pattern = path;
    struct store_options options = {.recheck_every = 1};
    ASSERT_OK(store_open(&store, &pattern, 1, &options));
    return store;
}

/* Reads until the next look at the file is due and returns what that read said. */
static enum status read_after_recheck(struct store *store)
{
    struct store_image image = {0};
    enum status status = STATUS_OK;
    for (int i = 0; i < 40 && status == STATUS_OK; i++) {
        usleep(50000);
        status = store_image_read(store, 0, &image);
    }
    store_image_fini(&image);
    return status;
}

static void test_replaced(void **state)
{
    (void)state;
    char other[PATH_MAX + 64];
    snprintf(other, sizeof other, "%s.new", path);
    struct store_image image = {0};
    struct store *store = open_rechecking();
    ASSERT_OK(store_image_read(store, 0, &image));
    file_save(other, sound, sound_size); /* the same bytes, but who knows that? */
    assert_int_equal(rename(other, path), 0);
    ASSERT_FAILS(read_after_recheck(store), STATUS_INVALID, "was replaced or changed");
    store_close(&store);

    store = open_rechecking();
    ASSERT_OK(store_image_read(store, 0, &image));
    assert_int_equal(unlink(path), 0);
    ASSERT_FAILS(read_after_recheck(store), STATUS_INVALID, "was removed or renamed");
    store_close(&store);
    file_save(path, sound, sound_size);

    store = open_rechecking();
    ASSERT_OK(store_image_read(store, 0, &image));
    assert_int_equal(truncate(path, 100), 0); /* noticed at once, and not by a signal */
    ASSERT_FAILS(store_image_read(store, 0, &image), STATUS_IO, "was cut short");
    store_close(&store);
    file_save(path, sound, sound_size);
    store_image_fini(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte),        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_bytes_behind),      cmocka_unit_test(test_unsealed),
        cmocka_unit_test(test_not_a_shard),       cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_message_names_row),
    };
    return cmocka_run_group_tests(tests, make_shard, remove_shard);
}
