/*
 * What store_open refuses, and in which words: HDF5 files of other kinds, other versions, storage
 * that cannot be read by pread, and files that are not one set.
 */
#include "tests/data/store/fixture.h"

#include <hdf5.h>
#include <sys/resource.h>

static char folder[PATH_MAX];
static char path[PATH_MAX + 32];

static int setup(void **state)
{
    (void)state;
    folder_make(folder);
    snprintf(path, sizeof path, "%s/a.h5", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static enum status open_pattern(const char *pattern)
{
    struct store *store = NULL;
    enum status status = store_open(&store, &pattern, 1, NULL);
    store_close(&store);
    return status;
}

/* ---- files written with plain HDF5 calls ---- */

struct plain {
    const char *format; /* NULL: none */
    int version;
    hid_t offset_type;
    bool chunked;
    bool compressed;
    bool compact;
    bool unwritten;
    bool no_offset;
    bool soft_link;
    int offset_rank;
    hsize_t num_offsets;
    hsize_t num_widths; /* 0: no images/width */
    bool keys_without_offset;
    int64_t shard;
    int64_t shards; /* 0: no attributes */
};

static struct plain plain_make(void)
{
    return (struct plain){.format = "weft",
                          .version = 1,
                          .offset_type = H5T_STD_I64LE,
                          .offset_rank = 1,
                          .num_offsets = 3};
}

static void put_int(hid_t file, const char *name, int64_t value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t id = H5Acreate2(file, name, H5T_STD_I32BE, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(id, H5T_NATIVE_INT64, &value) >= 0);
    H5Aclose(id);
    H5Sclose(space);
}

static void put_text(hid_t file, const char *name, const char *text)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    hid_t id = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(id, type, &text) >= 0);
    H5Aclose(id);
    H5Tclose(type);
    H5Sclose(space);
}

static void put_dataset(hid_t file, const char *name, hid_t type, int rank, hsize_t count,
                        const struct plain *plain, const int64_t *values)
{
    hsize_t shape[3] = {count, 1, 1};
    hid_t space = H5Screate_simple(rank, shape, NULL);
    hid_t how = H5Pcreate(H5P_DATASET_CREATE);
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    if (plain->chunked || plain->compressed) H5Pset_chunk(how, rank, shape);
    if (plain->compressed) H5Pset_shuffle(how);
    if (plain->compact) H5Pset_layout(how, H5D_COMPACT);
    hid_t dataset = H5Dcreate2(file, name, type, space, links, how, H5P_DEFAULT);
    assert_true(dataset >= 0);
    if (values) {
        assert_true(H5Dwrite(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >=
                    0);
    }
    H5Dclose(dataset);
    H5Pclose(links);
    H5Pclose(how);
    H5Sclose(space);
}

static void write_plain(const char *to, const struct plain *plain)
{
    static const int64_t bytes[] = {1, 2, 3, 4, 5};
    static const int64_t offsets[] = {0, 2, 5, 5};
    struct plain usual = plain_make();
    hid_t file = H5Fcreate(to, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    if (plain->format) put_text(file, "format", plain->format);
    put_int(file, "schema", plain->version);
    if (plain->shards) {
        put_int(file, "shard", plain->shard);
        put_int(file, "shards", plain->shards);
    }
    put_dataset(file, "images/bytes", H5T_STD_U8LE, 1, 5, &usual, plain->unwritten ? NULL : bytes);
    if (!plain->no_offset) {
        put_dataset(file, plain->soft_link ? "elsewhere" : "images/offset", plain->offset_type,
                    plain->offset_rank, plain->num_offsets, plain, offsets);
    }
    if (plain->soft_link) {
        assert_true(H5Lcreate_soft("/elsewhere", file, "images/offset", H5P_DEFAULT, H5P_DEFAULT) >=
                    0);
    }
    if (plain->num_widths) {
        put_dataset(file, "images/width", H5T_STD_I16LE, 1, plain->num_widths, &usual, offsets);
    }
    if (plain->keys_without_offset) {
        put_dataset(file, "images/key", H5T_STD_U8LE, 1, 5, &usual, bytes);
    }
    assert_true(H5Fclose(file) >= 0);
}

static void expect_refused(const struct plain *plain, enum status status, const char *message)
{
    write_plain(path, plain);
    ASSERT_FAILS(open_pattern(path), status, message);
    ASSERT_FAILS(open_pattern(path), status, "a.h5: ");
}

static void test_plain_file(void **state)
{
    (void)state;
    struct plain plain = plain_make();
    struct store_image image = {0};
    const char *pattern = path;
    static const int types = 4;
    const hid_t offset_types[] = {H5T_STD_I64LE, H5T_STD_U16LE, H5T_STD_I8BE, H5T_STD_U32LE};
    for (int i = 0; i < types; i++) {
        struct store *store = NULL;
        plain.offset_type = offset_types[i];
        write_plain(path, &plain);
        ASSERT_OK(store_open(&store, &pattern, 1, NULL));
        assert_int_equal(store_num_images(store), 2);
        assert_int_equal(store_num_texts(store), 0);
        ASSERT_OK(store_image_read(store, 1, &image));
        assert_int_equal(image.size, 3);
        assert_memory_equal(image.bytes, "\3\4\5", 3);
        assert_int_equal(image.width, 0);
        store_close(&store);
    }
    store_image_fini(&image);
}

static void test_not_this_format(void **state)
{
    (void)state;
    struct plain plain = plain_make();
    plain.format = NULL;
    expect_refused(&plain, STATUS_INVALID, "without the attribute 'format', so not a weft shard");
    plain.format = "other";
    expect_refused(&plain, STATUS_INVALID, "'format' is 'other' and not 'weft'");
    plain = plain_make();
    plain.version = 2;
    expect_refused(&plain, STATUS_UNSUPPORTED,
                   "schema version 2, and this weft reads version 1; use a newer weft");
    plain.version = 0;
    expect_refused(&plain, STATUS_UNSUPPORTED, "pack the set again with this weft");
    plain = plain_make();
    plain.shards = 2;
    plain.shard = 2;
    expect_refused(&plain, STATUS_INVALID, "says that it is shard 2 of 2");
}

static void test_storage(void **state)
{
    (void)state;
    struct plain plain = plain_make();
    plain.chunked = true;
    expect_refused(&plain, STATUS_UNSUPPORTED, "images/offset is stored in chunks, and weft reads");
    plain.compressed = true;
    expect_refused(&plain, STATUS_UNSUPPORTED, "is stored compressed");
    ASSERT_FAILS(open_pattern(path), STATUS_UNSUPPORTED, "h5repack -l CONTI -f NONE");
    plain = plain_make();
    plain.compact = true;
    expect_refused(&plain, STATUS_UNSUPPORTED, "in a compact or virtual layout");
    plain = plain_make();
    plain.unwritten = true;
    expect_refused(&plain, STATUS_CORRUPT, "images/bytes was created but its data were never");
    plain = plain_make();
    plain.offset_type = H5T_STD_I64BE;
    expect_refused(&plain, STATUS_UNSUPPORTED, "images/offset is big-endian; write it as little");
    plain.offset_type = H5T_IEEE_F64LE;
    expect_refused(&plain, STATUS_UNSUPPORTED, "images/offset must be of an integer type");
    plain = plain_make();
    plain.soft_link = true;
    expect_refused(&plain, STATUS_INVALID, "the dataset images/offset is missing");
}

static void test_shapes(void **state)
{
    (void)state;
    struct plain plain = plain_make();
    plain.no_offset = true;
    expect_refused(&plain, STATUS_INVALID, "the dataset images/offset is missing");
    plain = plain_make();
    plain.offset_rank = 2;
    expect_refused(&plain, STATUS_INVALID, "images/offset must have the shape [rows]");
    plain = plain_make();
    plain.num_widths = 3;
    expect_refused(&plain, STATUS_INVALID,
                   "images/width has 3 elements and must have 2, as there are 2 images");
    plain = plain_make();
    plain.keys_without_offset = true;
    expect_refused(&plain, STATUS_INVALID, "images/key is there but images/key_offset is missing");
}

/* ---- sets ---- */

static void shard_path(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s/%s", folder, name);
}

static void test_incomplete_sets(void **state)
{
    (void)state;
    char other[PATH_MAX + 32];
    shard_make(path, 0, 3, 0, 3);
    shard_path(other, sizeof other, "b.h5");
    shard_make(other, 3, 3, 1, 3);
    ASSERT_FAILS(open_pattern(folder), STATUS_NOT_FOUND, "3 shards and 2 were given: shard 2 is");
    shard_path(other, sizeof other, "c.h5");
    shard_make(other, 3, 3, 1, 3);
    ASSERT_FAILS(open_pattern(folder), STATUS_INVALID, "are both shard 1 of the set; remove one");
    shard_make(other, 3, 3, 2, 3);
    ASSERT_OK(open_pattern(folder));
    const char *twice[] = {folder, path}; /* a file that two patterns name is one file */
    struct store *store = NULL;
    ASSERT_OK(store_open(&store, twice, 2, NULL));
    assert_int_equal(store_num_shards(store), 3);
    store_close(&store);
    shard_make(other, 3, 3, 2, 4);
    ASSERT_FAILS(open_pattern(folder), STATUS_INVALID, "are of different sets");
}

static void test_mixed_sets(void **state)
{
    (void)state;
    char other[PATH_MAX + 32];
    struct plain plain = plain_make();
    shard_make(path, 0, 3, 0, 2);
    shard_path(other, sizeof other, "b.h5");
    plain.shard = 1;
    plain.shards = 2;
    write_plain(other, &plain);
    ASSERT_FAILS(open_pattern(folder), STATUS_INVALID, "are of different sets; name one set here");
    plain.version = 7;
    write_plain(other, &plain);
    ASSERT_FAILS(open_pattern(folder), STATUS_UNSUPPORTED, "b.h5: schema version 7");
    /* The same set by name, but without its categories. */
    struct shard_head head = {
        .set = "small", .set_id = "0123456789abcdef", .origin = "", .shard = 1, .shards = 2};
    struct shard_writer *writer = NULL;
    ASSERT_OK(shard_writer_create(&writer, other, &head));
    ASSERT_OK(shard_writer_finish(&writer, 0));
    ASSERT_FAILS(open_pattern(folder), STATUS_INVALID, "a.h5 has 3 categories and");
    static const char *const wrong[] = {"cat", "dig", "bird"};
    head.categories = wrong;
    head.num_categories = 3;
    ASSERT_OK(shard_writer_create(&writer, other, &head));
    ASSERT_OK(shard_writer_finish(&writer, 0));
    ASSERT_FAILS(open_pattern(folder), STATUS_INVALID, "b.h5: category 1 is 'dig', and 'dog' in");
}

static void test_patterns(void **state)
{
    (void)state;
    char pattern[PATH_MAX + 32];
    ASSERT_FAILS(open_pattern("/nowhere/x-*.h5"), STATUS_NOT_FOUND,
                 "/nowhere/x-*.h5: no such file, and as a pattern it matches nothing");
    ASSERT_FAILS(open_pattern(folder), STATUS_NOT_FOUND, "the folder holds no *.h5 files");
    shard_make(path, 0, 1, 0, 1);
    shard_path(pattern, sizeof pattern, "?.h5");
    ASSERT_OK(open_pattern(pattern));
    struct store *store = NULL;
    ASSERT_FAILS(store_open(&store, NULL, 0, NULL), STATUS_INVALID, "no data files were named");
}

/* More shards than the usual limit of open files. */
static void test_many_shards(void **state)
{
    (void)state;
    enum { SHARDS = 60, LIMIT = 40 };
    char name[PATH_MAX + 32];
    struct rlimit old;
    for (int i = 0; i < SHARDS; i++) {
        snprintf(name, sizeof name, "%s/many-%d.h5", folder, i);
        shard_make(name, i, 1, i, SHARDS);
    }
    getrlimit(RLIMIT_NOFILE, &old);
    struct rlimit low = {LIMIT, old.rlim_max};
    setrlimit(RLIMIT_NOFILE, &low);
    enum status status = open_pattern(folder);
    ASSERT_OK(status);
    getrlimit(RLIMIT_NOFILE, &low);
    assert_true(low.rlim_cur > SHARDS);
    setrlimit(RLIMIT_NOFILE, &old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plain_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_this_format, setup, teardown),
        cmocka_unit_test_setup_teardown(test_storage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shapes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_incomplete_sets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mixed_sets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_patterns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_shards, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
