/* Safetensors: what is written comes back bit for bit; foreign and damaged files are refused. */
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/checkpoint/safetensors.h"
#include "tests/runtime/checkpoint/fixture.h"

static char folder[256];
static char path[512];

static int setup(void **state)
{
    (void)state;
    fixture_folder(folder, NULL);
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_remove(folder, NULL);
    return 0;
}

/* A file from its parts, as another program would write it. */
static void write_raw(const char *header, const void *data, size_t bytes)
{
    uint8_t length[8] = {0};
    length[0] = (uint8_t)strlen(header);
    length[1] = (uint8_t)(strlen(header) >> 8);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(length, 1, sizeof length, file);
    fwrite(header, 1, strlen(header), file);
    fwrite(data, 1, bytes, file);
    assert_int_equal(fclose(file), 0);
}

static void test_round_trip(void **state)
{
    (void)state;
    float a[6] = {1, -2.5f, 1e-40f, -0.0f, INFINITY, NAN};
    float scalar = 7;
    int64_t ids[3] = {-1, INT64_MAX, 5};
    const struct safetensors_tensor tensors[] = {
        {"a.weight", SAFETENSORS_F32, SHAPE(2, 3), a},
        {"ids \"quoted\"", SAFETENSORS_I64, SHAPE(1, 3), ids},
        {"scalar", SAFETENSORS_F32, SHAPE_SCALAR, &scalar},
        {"none", SAFETENSORS_F32, SHAPE(0, 4), a},
    };
    ASSERT_OK(safetensors_write(path, tensors, 4));
    struct safetensors *file;
    ASSERT_OK(safetensors_open(&file, path));
    assert_int_equal(safetensors_count(file), 4);
    const struct safetensors_entry *entry = safetensors_find(file, "a.weight");
    assert_non_null(entry);
    assert_true(shape_equal(&entry->shape, &tensors[0].shape));
    float back[6];
    ASSERT_OK(safetensors_read(file, entry, back));
    assert_memory_equal(back, a, sizeof a);
    entry = safetensors_find(file, "ids \"quoted\"");
    assert_non_null(entry);
    assert_int_equal(entry->offset % 8, 0);
    assert_false(safetensors_is_float(entry));
    ASSERT_FAILS(safetensors_read(file, entry, back), STATUS_UNSUPPORTED,
                 "is of type I64, and floats are wanted");
    entry = safetensors_find(file, "scalar");
    assert_non_null(entry);
    assert_int_equal(entry->shape.rank, 0);
    ASSERT_OK(safetensors_read(file, entry, back));
    assert_true(back[0] == 7);
    assert_null(safetensors_find(file, "a"));
    safetensors_close(&file);
    assert_null(file);
    /* The same name twice would make a file that no reader takes. */
    const struct safetensors_tensor twice[] = {tensors[0], tensors[2], tensors[0]};
    ASSERT_FAILS(safetensors_write(path, twice, 3), STATUS_INVALID, "'a.weight' would be written");
    ASSERT_OK(safetensors_open(&file, path)); /* the former file is untouched */
    safetensors_close(&file);
}

static void test_other_floats(void **state)
{
    (void)state;
    static const struct {
        uint16_t half;
        float value;
    } halves[] = {{0x0000, 0},        {0x3C00, 1},        {0xC100, -2.5f},
                  {0x7BFF, 65504},    {0x0001, 0x1p-24f}, {0x83FF, -0x1.FF8p-15f},
                  {0x0400, 0x1p-14f}, {0xFC00, -INFINITY}};
    uint8_t data[16 + 4 + 16];
    uint16_t brain[2] = {0x3F80, 0xC0A0};
    double doubles[2] = {0.1, -3};
    for (int i = 0; i < 8; i++) {
        memcpy(data + 2 * i, &halves[i].half, 2);
    }
    memcpy(data + 16, brain, 4);
    memcpy(data + 20, doubles, 16);
    write_raw("{\"d\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[20,36]},"
              "\"h\":{\"dtype\":\"F16\",\"shape\":[8],\"data_offsets\":[0,16]},"
              "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[16,20]}}",
              data, sizeof data);
    struct safetensors *file;
    float back[8];
    ASSERT_OK(safetensors_open(&file, path));
    ASSERT_OK(safetensors_read(file, safetensors_find(file, "h"), back));
    for (int i = 0; i < 8; i++) {
        assert_true(back[i] == halves[i].value);
    }
    ASSERT_OK(safetensors_read(file, safetensors_find(file, "b"), back));
    assert_true(back[0] == 1 && back[1] == -5);
    ASSERT_OK(safetensors_read(file, safetensors_find(file, "d"), back));
    assert_true(back[0] == 0.1f && back[1] == -3);
    assert_string_equal(safetensors_at(file, 0)->name, "h"); /* by place */
    safetensors_close(&file);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        enum status status;
        const char *part;
    } rows[] = {
        {"{ ", STATUS_INVALID, "its header is no JSON"},
        {"[]", STATUS_INVALID, "its header is no object"},
        {"{\"a\":1}", STATUS_CORRUPT, "'a' is not described"},
        {"{\"a\":{}}", STATUS_CORRUPT, "'a' has no dtype"},
        {"{\"a\":{\"dtype\":\"F4\"}}", STATUS_UNSUPPORTED, "'F4', which is not known"},
        {"{\"a\":{\"dtype\":\"F32\"}}", STATUS_CORRUPT, "has no shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1]}}", STATUS_CORRUPT, "a shape that is none"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296]}}", STATUS_CORRUPT,
         "a shape that is none"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1]}}", STATUS_UNSUPPORTED,
         "has 7 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", STATUS_CORRUPT, "no data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", STATUS_CORRUPT,
         "lies at bytes 0 to 16 of 8: the file was cut short or is damaged"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", STATUS_CORRUPT,
         "has 8 bytes, which is not its shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", STATUS_CORRUPT,
         "lies at bytes"},
    };
    struct safetensors *file;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_raw(rows[i].header, "12345678", 8);
        ASSERT_FAILS(safetensors_open(&file, path), rows[i].status, rows[i].part);
        assert_non_null(strstr(status_message(), path));
        assert_null(file);
    }
    write_raw("{\"a\":1,\"a\":2}", "", 0);
    ASSERT_FAILS(safetensors_open(&file, path), STATUS_INVALID, "no JSON (duplicate");
    write_raw("{}        ", "", 0);
    assert_int_equal(truncate(path, 12), 0);
    ASSERT_FAILS(safetensors_open(&file, path), STATUS_CORRUPT, "within its header");
    assert_int_equal(truncate(path, 4), 0);
    ASSERT_FAILS(safetensors_open(&file, path), STATUS_INVALID, "not a safetensors file");
    assert_int_equal(unlink(path), 0);
    ASSERT_FAILS(safetensors_open(&file, path), STATUS_NOT_FOUND, "cannot open");
    ASSERT_FAILS(safetensors_write("/dev/null/x", NULL, 0), STATUS_IO, "/dev/null/x.tmp");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_floats, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
