/* needs=tar
 * Tar files of several kinds, made by tar itself, and damaged ones; folders on disk and inside. */
#include "tests/data/import/fixture.h"

#include "data/import/tar.h"

static const char long_name[] =
    "a-folder-with-quite-a-long-name/another-folder-with-a-long-name/and-one-more-for-good-measure/"
    "a-file-whose-whole-path-is-longer-than-the-hundred-bytes-of-a-tar-header.txt";

static int setup(void **state)
{
    if (fixture_setup(state) != 0) return -1;
    char name[600];
    fixture_text("tree/one.txt", "first");
    fixture_text("tree/sub/two.txt", "second");
    fixture_text("tree/sub/empty.txt", "");
    snprintf(name, sizeof name, "tree/%s", long_name);
    fixture_text(name, "far");
    return 0;
}

static void run(const char *format, const char *name)
{
    char command[1024];
    snprintf(command, sizeof command, "cd '%s' && tar --format=%s -cf %s -C tree . 2>/dev/null",
             fixture_folder, format, name);
    assert_int_equal(system(command), 0);
}

static void check_member(const struct tar *tar, const char *name, const char *text)
{
    char bytes[64] = {0};
    const struct tar_member *member = tar_find(tar, name);
    assert_non_null(member);
    assert_int_equal(member->size, strlen(text));
    assert_int_equal(input_read(&tar->file, member->offset, bytes, member->size), STATUS_OK);
    assert_string_equal(bytes, text);
}

static void test_formats(void **state)
{
    (void)state;
    static const char *const formats[] = {"gnu", "pax", "ustar", "posix"};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        run(formats[i], "set.tar");
        struct library library = {0};
        const struct tar *tar = NULL;
        assert_int_equal(library_tar(&library, fixture_path("set.tar"), &tar), STATUS_OK);
        assert_int_equal(tar->num_members, 4);
        check_member(tar, "one.txt", "first");
        check_member(tar, "sub/two.txt", "second");
        check_member(tar, long_name, "far");
        assert_int_equal(tar_find(tar, "sub/empty.txt")->size, 0);
        assert_null(tar_find(tar, "sub"));
        assert_null(tar_find(tar, "on"));
        library_fini(&library);
    }
}

static void test_v7(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command, "cd '%s' && tar --format=v7 -cf v7.tar tree/one.txt",
             fixture_folder);
    assert_int_equal(system(command), 0);
    struct library library = {0};
    const struct tar *tar = NULL;
    assert_int_equal(library_tar(&library, fixture_path("v7.tar"), &tar), STATUS_OK);
    check_member(tar, "tree/one.txt", "first");
    library_fini(&library);
}

static void test_paths_into_tar_files(void **state)
{
    (void)state;
    run("gnu", "set.tar");
    struct library library = {0};
    struct input input;
    char text[8] = {0};
    assert_int_equal(library_open(&library, fixture_path("set.tar/sub/two.txt"), &input),
                     STATUS_OK);
    assert_int_equal(input.size, 6);
    assert_int_equal(input_read(&input, 0, text, 6), STATUS_OK);
    assert_string_equal(text, "second");
    assert_int_equal(input_read(&input, 1, text, 6), STATUS_CORRUPT);
    assert_says("the file ends before");
    assert_int_equal(library_open(&library, fixture_path("set.tar/three.txt"), &input),
                     STATUS_NOT_FOUND);
    assert_says("no member 'three.txt'");
    assert_int_equal(library_open(&library, fixture_path("nowhere.tar/x"), &input),
                     STATUS_NOT_FOUND);
    assert_int_equal(library_open(&library, fixture_path("tree"), &input), STATUS_INVALID);
    assert_says("a folder where a file");
    assert_int_equal(library_open(&library, fixture_path("tree/one.txt/x"), &input),
                     STATUS_INVALID);
    assert_says("not a tar file");
    assert_true(library_is_tar(fixture_path("set.tar")));
    assert_false(library_is_tar(fixture_path("tree/one.txt")));
    library_fini(&library);
}

struct seen {
    char names[1024];
};

static enum status note(void *context, int place, const char *name, int64_t size, int64_t mtime)
{
    struct seen *seen = context;
    assert_true(size >= 0 && mtime > 0);
    size_t length = strlen(seen->names);
    if (strlen(name) > 40) name = "(long)";
    snprintf(seen->names + length, sizeof seen->names - length, "%d:%s ", place, name);
    return STATUS_OK;
}

static void test_folders(void **state)
{
    (void)state;
    run("pax", "set.tar");
    struct library library = {0};
    struct folder folder;
    struct sample sample = {0};
    const uint8_t *bytes = NULL;
    int64_t size = 0;
    char paths[2048];
    snprintf(paths, sizeof paths, "%s/set.tar/sub/,%s/tree", fixture_folder, fixture_folder);
    assert_int_equal(library_folder(&library, paths, &folder), STATUS_OK);
    assert_int_equal(folder.num_places, 2);
    assert_int_equal(folder_read(&folder, "two.txt", &sample, &bytes, &size), STATUS_OK);
    assert_memory_equal(bytes, "second", 6);
    assert_int_equal(folder_read(&folder, "./one.txt", &sample, &bytes, &size), STATUS_OK);
    assert_memory_equal(bytes, "first", 5);
    assert_int_equal(folder_read(&folder, "none.txt", &sample, &bytes, &size), STATUS_NOT_FOUND);
    assert_says("no file 'none.txt' in");
    assert_says("or the other folders");
    assert_int_equal(folder_read(&folder, "empty.txt", &sample, &bytes, &size), STATUS_INVALID);
    assert_says("has 0 bytes");
    assert_true(folder_has(&folder, "one.txt"));
    assert_false(folder_has(&folder, "onetxt"));
    struct seen seen = {""};
    assert_int_equal(folder_walk(&folder, note, &seen), STATUS_OK);
    assert_string_equal(seen.names, "0:empty.txt 0:two.txt 1:(long) 1:one.txt 1:sub/empty.txt "
                                    "1:sub/two.txt ");
    assert_int_equal(library_folder(&library, fixture_path("set.tar/nothing"), &folder),
                     STATUS_NOT_FOUND);
    assert_says("no folder 'nothing'");
    assert_int_equal(library_folder(&library, fixture_path("absent"), &folder), STATUS_NOT_FOUND);
    assert_int_equal(library_folder(&library, "a,,b", &folder), STATUS_NOT_FOUND);
    assert_int_equal(library_folder(&library, fixture_path("tree/one.txt"), &folder),
                     STATUS_INVALID);
    assert_says("neither a folder nor a tar file");
    sample_fini(&sample);
    library_fini(&library);
}

/* Reads set.tar, changes a byte, writes bad.tar of `size` bytes (or of all, with -1). */
static void damage(int64_t at, int value, int64_t size)
{
    char bytes[65536];
    FILE *file = fopen(fixture_path("set.tar"), "rb");
    size_t length = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    if (at >= 0) bytes[at] = (char)value;
    fixture_bytes("bad.tar", bytes, size < 0 ? length : (size_t)size);
}

static void check_bad(enum status expected, const char *message)
{
    struct library library = {0};
    const struct tar *tar = NULL;
    assert_int_equal(library_tar(&library, fixture_path("bad.tar"), &tar), expected);
    assert_says(message);
    assert_says("bad.tar");
    library_fini(&library);
}

static void test_damage(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command,
             "cd '%s' && tar --format=gnu -cf set.tar tree/one.txt tree/sub", fixture_folder);
    assert_int_equal(system(command), 0);
    damage(3, 'Q', -1);
    check_bad(STATUS_INVALID, "not a tar file");
    damage(1024 + 20, 'x', -1);
    check_bad(STATUS_CORRUPT, "at byte 1024: no member header");
    damage(-1, 0, 514);
    check_bad(STATUS_CORRUPT, "ends within 'tree/one.txt'");
    damage(-1, 0, 1100);
    check_bad(STATUS_CORRUPT, "ends within a header");
    damage(-1, 0, 100);
    check_bad(STATUS_INVALID, "not a tar file");
    fixture_bytes("bad.tar", "", 0);
    struct library library = {0};
    struct folder folder;
    assert_int_equal(library_folder(&library, fixture_path("bad.tar"), &folder), STATUS_INVALID);
    library_fini(&library);
    snprintf(command, sizeof command, "cd '%s' && gzip -c set.tar > bad.tar", fixture_folder);
    if (system(command) == 0) check_bad(STATUS_INVALID, "not a tar file"); /* below 512 bytes */
    char zeros[2048] = "\x1f\x8b";
    fixture_bytes("bad.tar", zeros, sizeof zeros);
    check_bad(STATUS_UNSUPPORTED, "decompress it first");
}

static void test_links(void **state)
{
    (void)state;
    char command[512];
    snprintf(command, sizeof command,
             "cd '%s' && ln -s one.txt tree/soft.txt && tar -cf link.tar -C tree one.txt soft.txt; "
             "rm tree/soft.txt",
             fixture_folder);
    assert_int_equal(system(command), 0);
    struct library library = {0};
    struct input input;
    assert_int_equal(library_open(&library, fixture_path("link.tar/soft.txt"), &input),
                     STATUS_UNSUPPORTED);
    assert_says("'soft.txt' is a link");
    library_fini(&library);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_v7),
        cmocka_unit_test(test_paths_into_tar_files),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_links),
    };
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
