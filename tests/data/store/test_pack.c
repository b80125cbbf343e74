/*
 * Packing: order and bytes whatever the threads, going on after kill -9, bad items by all three
 * policies, a full disk, a stop signal, two packs at once, pictures made smaller.
 */
#include "tests/data/store/fixture.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "data/store/pack.h"
#include "data/store/shard.h"

static char folder[PATH_MAX];
static char output[PATH_MAX + 32];

/* ---- an importer with faults ---- */

struct fake {
    int64_t num_items;
    uint64_t fingerprint;
    int slow_us; /* every fetch takes so long */
    int64_t bad_item;
    int64_t bad_box_item;
    int64_t broken_picture_item;
    int side; /* of the pictures; 0: those of the fixture */
};

static struct fake fake;
static atomic_int num_fetched;

static enum status fake_open(struct import_source *source, const struct import_args *args)
{
    (void)args;
    source->num_items = fake.num_items;
    source->fingerprint = fake.fingerprint;
    source->categories = fixture_categories;
    source->num_categories = 3;
    return STATUS_OK;
}

static enum status fake_fetch(const struct import_source *source, int64_t item,
                              struct sample *sample)
{
    (void)source;
    atomic_fetch_add(&num_fetched, 1);
    if (fake.slow_us) usleep((useconds_t)fake.slow_us);
    CHECK(item != fake.bad_item, STATUS_NOT_FOUND, "line %lld: no such picture", (long long)item);
    if (fake.side) {
        sample_add_png(sample, fake.side, fake.side / 2, 3, "large.png");
        return sample_add_box(sample, 0, (float[4]){0, 0, (float)fake.side, 10}, NULL);
    }
    sample_make(sample, (int)item);
    if (item == fake.bad_box_item) {
        TRY(sample_add_box(sample, 0, (float[4]){2, 2, 2, 5}, NULL));
        TRY(sample_reject(sample, "a phrase without its box"));
    }
    if (item == fake.broken_picture_item) sample->images[0].size /= 2;
    return STATUS_OK;
}

static void fake_close(struct import_source *source)
{
    (void)source;
}

static const struct import_option fake_options[] = {{"split", "train", "which split"}, {0}};
static const struct importer importer_fake = {.name = "fake",
                                              .options = fake_options,
                                              .open = fake_open,
                                              .fetch = fake_fetch,
                                              .close = fake_close,
                                              .max_sources = -1};
static const char *fake_values[] = {"train"};
static const char *const fake_sources[] = {"somewhere/fake.json"};

static char bad_list[4096];

static void keep_bad(void *user, const char *message)
{
    (void)user;
    strncat(bad_list, message, sizeof bad_list - strlen(bad_list) - 2);
    strcat(bad_list, "\n");
}

static struct pack_options options_make(void)
{
    bad_list[0] = '\0';
    return (struct pack_options){.importer = &importer_fake,
                                 .args = {.sources = fake_sources,
                                          .num_sources = 1,
                                          .options = fake_options,
                                          .values = fake_values},
                                 .output = output,
                                 .shard_size = 10,
                                 .num_threads = 2,
                                 .quality = 90,
                                 .bad = keep_bad};
}

static int setup(void **state)
{
    (void)state;
    folder_make(folder);
    snprintf(output, sizeof output, "%s/set-%%05d.h5", folder);
    fake = (struct fake){.num_items = 35,
                         .fingerprint = 77,
                         .bad_item = -1,
                         .bad_box_item = -1,
                         .broken_picture_item = -1};
    num_fetched = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

/* Number of directory entries whose name ends with `ending`, hidden ones included. */
static int count_files(const char *ending)
{
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        size_t length = strlen(entry->d_name);
        size_t tail = strlen(ending);
        count += length >= tail && strcmp(entry->d_name + length - tail, ending) == 0;
    }
    closedir(directory);
    return count;
}

static struct store *open_output(void)
{
    char pattern[PATH_MAX + 32];
    snprintf(pattern, sizeof pattern, "%s/set-*.h5", folder);
    const char *patterns[] = {pattern};
    struct store *store = NULL;
    ASSERT_OK(store_open(&store, patterns, 1, NULL));
    return store;
}

/* ---- tests ---- */

static void test_order_and_bytes(void **state)
{
    (void)state;
    struct pack_totals totals;
    struct pack_options options = options_make();
    uint8_t *bytes[4];
    size_t sizes[4];
    char path[PATH_MAX];
    options.num_threads = 1;
    ASSERT_OK(pack_run(&options, &totals));
    assert_int_equal(totals.items, 35);
    assert_int_equal(totals.images, 35 + 12);
    assert_int_equal(totals.shards_written, 4);
    for (int i = 0; i < 4; i++) {
        ASSERT_OK(pack_shard_path(output, i, path, sizeof path));
        bytes[i] = file_load(path, &sizes[i]);
    }
    options.num_threads = 5;
    options.overwrite = true;
    ASSERT_OK(pack_run(&options, &totals));
    for (int i = 0; i < 4; i++) {
        size_t size = 0;
        ASSERT_OK(pack_shard_path(output, i, path, sizeof path));
        uint8_t *again = file_load(path, &size);
        assert_int_equal(size, sizes[i]);
        assert_memory_equal(again, bytes[i], size);
        free(again);
        free(bytes[i]);
    }
    struct store *store = open_output();
    assert_string_equal(store_name(store), "set");
    assert_int_equal(store_num_images(store), 35 + 12);
    struct store_image image = {0};
    ASSERT_OK(store_image_key(store, store_num_images(store) - 1, &image));
    assert_string_equal(image.key, "picture-34.png");
    store_image_fini(&image);
    store_close(&store);
    assert_int_equal(count_files(".tmp"), 0);
    assert_int_equal(count_files(".lock"), 0);
}

static void test_goes_on_after_kill(void **state)
{
    (void)state;
    struct pack_totals totals;
    struct pack_options options = options_make();
    char path[PATH_MAX];
    ASSERT_OK(pack_shard_path(output, 1, path, sizeof path));
    fake.slow_us = 4000;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        pack_run(&options, &totals);
        _exit(0);
    }
    /* Killed in the middle of the third shard. */
    char torn[PATH_MAX + 16];
    ASSERT_OK(pack_shard_path(output, 2, path, sizeof path));
    snprintf(torn, sizeof torn, "%s.tmp", path);
    for (int i = 0; i < 1000 && access(torn, F_OK) != 0; i++) {
        usleep(2000);
    }
    usleep(10000);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(count_files(".h5"), 2);
    assert_int_equal(count_files(".tmp"), 1);
    struct stat before;
    struct stat after;
    ASSERT_OK(pack_shard_path(output, 1, path, sizeof path));
    assert_int_equal(stat(path, &before), 0);
    fake.slow_us = 0;
    ASSERT_OK(pack_run(&options, &totals));
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(totals.shards_kept, 2);
    assert_int_equal(totals.shards_written, 2);
    assert_int_equal(totals.items, 15);
    assert_int_equal(num_fetched, 15); /* only what was missing is read again */
    assert_int_equal(count_files(".tmp"), 0);
    struct store *store = open_output();
    assert_int_equal(store_num_images(store), 35 + 12);
    store_close(&store);
}

static void test_other_source_is_refused(void **state)
{
    (void)state;
    struct pack_totals totals;
    struct pack_options options = options_make();
    ASSERT_OK(pack_run(&options, &totals));
    fake.fingerprint++;
    ASSERT_FAILS(pack_run(&options, &totals), STATUS_INVALID, "packed from another source");
    fake.fingerprint--;
    fake_values[0] = "val";
    ASSERT_FAILS(pack_run(&options, &totals), STATUS_INVALID, "packed from another source");
    fake_values[0] = "train";
    options.shard_size = 20;
    ASSERT_FAILS(pack_run(&options, &totals), STATUS_INVALID, "--overwrite");
    options.shard_size = 10;
    ASSERT_OK(pack_run(&options, &totals));
    assert_int_equal(totals.shards_kept, 4);
    char path[PATH_MAX];
    ASSERT_OK(pack_shard_path(output, 3, path, sizeof path));
    assert_int_equal(truncate(path, 3000), 0);
    ASSERT_FAILS(pack_run(&options, &totals), STATUS_CORRUPT, "in the way of this pack");
    options.overwrite = true;
    ASSERT_OK(pack_run(&options, &totals));
    assert_int_equal(totals.shards_written, 4);
}

static void test_bad_items(void **state)
{
    (void)state;
    struct pack_totals totals;
    struct pack_options options = options_make();
    fake.bad_item = 12;
    fake.bad_box_item = 4;
    fake.broken_picture_item = 33;
    ASSERT_FAILS(pack_run(&options, &totals), STATUS_INVALID,
                 "item 4: a phrase without its box; --on-bad skip");
    assert_int_equal(count_files(".h5"), 0);
    assert_int_equal(count_files(".tmp"), 0);

    options.on_bad = PACK_REPORT;
    ASSERT_OK(pack_run(&options, &totals));
    assert_int_equal(totals.bad_items, 2);
    assert_int_equal(totals.bad_parts, 2);
    assert_int_equal(totals.items, 35);
    assert_int_equal(count_files(".h5") + count_files(".lock"), 0);
    assert_non_null(strstr(bad_list, "item 4: a phrase without its box\n"));
    assert_non_null(strstr(bad_list, "item 4: picture-4.png: box 2 [2, 2, 2, 5] on 12 x 9: box "
                                     "without an area\n"));
    assert_non_null(strstr(bad_list, "item 12: line 12: no such picture\n"));
    assert_non_null(strstr(bad_list, "item 33: picture-33.png: "));

    options = options_make();
    options.on_bad = PACK_SKIP;
    ASSERT_OK(pack_run(&options, &totals));
    assert_int_equal(totals.bad_items, 2);
    assert_int_equal(totals.images, 35 + 12 - 4);
    assert_int_equal(totals.boxes, 66);
    assert_non_null(strstr(bad_list, "item 12: "));
    struct store *store = open_output();
    assert_int_equal(store_num_images(store), 35 + 12 - 4);
    assert_int_equal(store_num_boxes(store), 66);
    store_close(&store);
    struct shard shard;
    char path[PATH_MAX];
    ASSERT_OK(pack_shard_path(output, 0, path, sizeof path));
    ASSERT_OK(shard_open(&shard, path, true));
    assert_int_equal(shard.info.skipped, 2);
    assert_string_equal(shard.info.origin, "weft pack fake fake.json");
    shard_close(&shard);
}

static void test_stop(void **state)
{
    (void)state;
    static volatile sig_atomic_t stop;
    struct pack_totals totals;
    struct pack_options options = options_make();
    options.stop = &stop;
    stop = 1;
    ASSERT_FAILS(pack_run(&options, &totals), STATUS_CANCELLED,
                 "stopped; 0 finished shards are kept, and the same command goes on from there");
    assert_int_equal(count_files(".h5") + count_files(".tmp") + count_files(".lock"), 0);
    stop = 0;
    ASSERT_OK(pack_run(&options, &totals));
}

static void *pack_slowly(void *argument)
{
    struct pack_totals totals;
    return pack_run(argument, &totals) == STATUS_OK ? argument : NULL;
}

static void test_two_at_once(void **state)
{
    (void)state;
    struct pack_totals totals;
    struct pack_options options = options_make();
    fake.slow_us = 10000;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, pack_slowly, &options), 0);
    while (count_files(".lock") == 0) {
        usleep(1000);
    }
    usleep(5000);
    ASSERT_FAILS(pack_run(&options, &totals), STATUS_INVALID, "another weft pack is writing there");
    void *result = NULL;
    pthread_join(thread, &result);
    assert_non_null(result);
    assert_int_equal(count_files(".h5"), 4);
    assert_int_equal(count_files(".lock"), 0);
}

/* A file size limit fails a write as a full disk does, with another errno. */
static void test_file_limit(void **state)
{
    (void)state;
    struct pack_totals totals;
    struct pack_options options = options_make();
    struct rlimit old;
    struct rlimit low;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    for (rlim_t limit = 100; limit < 80000; limit = limit * 3 / 2) {
        low = old;
        low.rlim_cur = limit;
        setrlimit(RLIMIT_FSIZE, &low);
        enum status status = pack_run(&options, &totals);
        setrlimit(RLIMIT_FSIZE, &old);
        if (status != STATUS_IO) fail_msg("limit %ld: %s", (long)limit, status_message());
        assert_non_null(strstr(status_message(), "File too large"));
        assert_int_equal(count_files(".h5") + count_files(".tmp"), 0);
    }
    ASSERT_OK(pack_run(&options, &totals));
}

/* Run in a child with a mount namespace of its own. Exit codes: 0 as expected, 77 may not mount. */
static int fill_disk(void)
{
    struct pack_totals totals;
    struct pack_options options = options_make();
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "size=120k") != 0) {
        return 77;
    }
    /* One shard fits (its tables and the reserve of 64 kB), the next does not. */
    fake.num_items = 40;
    enum status status = pack_run(&options, &totals);
    if (status != STATUS_IO || !strstr(status_message(), "No space left on device") ||
        totals.shards_written < 1 || totals.shards_written > 3) {
        fprintf(stderr, "# %lld shards: %s\n", (long long)totals.shards_written, status_message());
        return 1;
    }
    if (count_files(".h5") != totals.shards_written || count_files(".tmp") != 0) return 2;
    if (mount("tmpfs", folder, "tmpfs", MS_REMOUNT, "size=8m") != 0) return 77;
    int64_t written = totals.shards_written;
    if (pack_run(&options, &totals) != STATUS_OK || totals.shards_kept != written) return 3;
    return 0;
}

static void test_full_disk(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(fill_disk());
    int result = 0;
    waitpid(child, &result, 0);
    assert_true(WIFEXITED(result));
    if (WEXITSTATUS(result) == 77) skip();
    assert_int_equal(WEXITSTATUS(result), 0);
}

static void test_max_side(void **state)
{
    (void)state;
    struct pack_totals totals;
    struct pack_options options = options_make();
    fake.side = 100;
    fake.num_items = 2;
    options.max_side = 64;
    ASSERT_OK(pack_run(&options, &totals));
    struct store *store = open_output();
    struct store_image image = {0};
    struct store_boxes boxes = {0};
    struct image_info info;
    ASSERT_OK(store_image_read(store, 1, &image));
    ASSERT_OK(image_probe(image.bytes, (size_t)image.size, &info));
    assert_int_equal(info.format, IMAGE_PNG);
    assert_int_equal(info.width, 64);
    assert_int_equal(info.height, 32);
    assert_int_equal(image.width, 64);
    ASSERT_OK(store_boxes_read(store, 1, -1, &boxes));
    assert_true(boxes.boxes[0].xyxy[2] == 64.0f);
    assert_true(boxes.boxes[0].xyxy[3] == 6.4f);
    store_image_fini(&image);
    store_boxes_fini(&boxes);
    store_close(&store);
}

static void test_names(void **state)
{
    (void)state;
    char path[64];
    struct pack_totals totals;
    struct pack_options options = options_make();
    ASSERT_OK(pack_shard_path("a/b-%05d.h5", 7, path, sizeof path));
    assert_string_equal(path, "a/b-00007.h5");
    ASSERT_OK(pack_shard_path("b%d", 12, path, sizeof path));
    assert_string_equal(path, "b12");
    ASSERT_FAILS(pack_shard_path("%s", 1, path, sizeof path), STATUS_INVALID, "one %d or %05d");
    ASSERT_FAILS(pack_shard_path("%d%d", 1, path, sizeof path), STATUS_INVALID, "one %d or %05d");
    ASSERT_FAILS(pack_shard_path("x%", 1, path, sizeof path), STATUS_INVALID, "one %d or %05d");
    ASSERT_FAILS(pack_shard_path("xxxx", 1, path, 4), STATUS_INVALID, "too long");
    snprintf(output, sizeof output, "%s/one.h5", folder);
    ASSERT_FAILS(pack_run(&options, &totals), STATUS_INVALID, "35 items make 4 shards of 10");
    options.shard_size = 100;
    ASSERT_OK(pack_run(&options, &totals));
    snprintf(output, sizeof output, "%s/missing/one.h5", folder);
    ASSERT_FAILS(pack_run(&options, &totals), STATUS_IO, "No such file or directory");
    fake.num_items = 0;
    snprintf(output, sizeof output, "%s/none.h5", folder);
    ASSERT_FAILS(pack_run(&options, &totals), STATUS_INVALID, "nothing to pack");
    assert_int_equal(count_files(".lock"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order_and_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_goes_on_after_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_source_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_items, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_max_side, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
