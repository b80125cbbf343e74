/* The streaming JSON reader: values, strictness, places in messages; buffers of all sizes. */
#include "tests/data/import/fixture.h"

#include "data/import/json_value.h"

/* Reads one value of `text` as a tree, in steps of `buffer` bytes. */
static enum status parse(const char *text, int64_t buffer, struct arena *arena,
                         struct json_value **value)
{
    struct library library = {0};
    struct input input;
    struct json_reader reader;
    fixture_text("value.json", text);
    assert_int_equal(library_open(&library, fixture_path("value.json"), &input), STATUS_OK);
    enum status status = json_open(&reader, &input, 0, -1, buffer);
    if (status == STATUS_OK) status = json_read(&reader, arena, value);
    if (status == STATUS_OK) status = json_finish(&reader);
    json_close(&reader);
    library_fini(&library);
    return status;
}

static enum status skip_over(const char *text, int64_t buffer)
{
    struct library library = {0};
    struct input input;
    struct json_reader reader;
    fixture_text("value.json", text);
    assert_int_equal(library_open(&library, fixture_path("value.json"), &input), STATUS_OK);
    enum status status = json_open(&reader, &input, 0, -1, buffer);
    if (status == STATUS_OK) status = json_skip(&reader);
    if (status == STATUS_OK) status = json_finish(&reader);
    json_close(&reader);
    library_fini(&library);
    return status;
}

static void test_values(void **state)
{
    (void)state;
    const char *text = "\xef\xbb\xbf {\"a\": [1, -2.5, 1e3, 9007199254740993, true, null], \n"
                       "\"s\": \"x\\n\\\"\\u00e9\\ud83d\\ude00/\", \"o\": {}, \"n\": []}  ";
    for (int64_t buffer = 1; buffer < 40; buffer++) {
        struct arena arena = {0};
        struct json_value *value = NULL;
        assert_int_equal(parse(text, buffer, &arena, &value), STATUS_OK);
        assert_int_equal(skip_over(text, buffer), STATUS_OK);
        const struct json_value *a = json_get(value, "a");
        assert_int_equal(a->count, 6);
        const struct json_value *v = a->child;
        assert_true(v->whole && v->integer == 1);
        v = v->next;
        assert_true(!v->whole && v->number == -2.5);
        v = v->next;
        assert_true(v->whole && v->integer == 1000);
        v = v->next;
        assert_true(v->whole && v->integer == 9007199254740993);
        assert_true(v->next->boolean);
        assert_int_equal(v->next->next->type, JSON_NULL);
        const struct json_value *s = json_get(value, "s");
        assert_string_equal(s->text, "x\n\"\xc3\xa9\xf0\x9f\x98\x80/");
        assert_int_equal(s->length, 10);
        assert_int_equal(json_get(value, "o")->count, 0);
        assert_null(json_get(value, "z"));
        arena_fini(&arena);
    }
}

static void test_lone_surrogates_are_kept(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct json_value *value = NULL;
    assert_int_equal(parse("\"\\ud800\\n\\ud800\\ud801\\udc01z\"", 64, &arena, &value), STATUS_OK);
    assert_string_equal(value->text, "\xed\xa0\x80\n\xed\xa0\x80\xf0\x90\x90\x81z");
    arena_fini(&arena);
}

static void test_what_is_not_json(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"", "line 1, column 1"},
        {"{\"a\": 1,}", "line 1, column 9: '}' where a string"},
        {"[1, 2", "the text ends where ',' or ']'"},
        {"[1 2]", "'2' where ',' or ']'"},
        {"{\n \"a\" 1}", "line 2, column 6: '1' where ':'"},
        {"{a: 1}", "'a' where a string"},
        {"NaN", "'N' where a value"},
        {"[01]", "'01' is not a number"},
        {"[1.]", "'1.' is not a number"},
        {"[-]", "'-' is not a number"},
        {"[1e]", "'1e' is not a number"},
        {"[.5]", "'.' where a value"},
        {"nul", "where null"},
        {"trueish", "'i' where the end of the file"},
        {"\"a\nb\"", "byte 0x0a where the rest of a string"},
        {"\"abc", "the text ends where the rest of a string"},
        {"\"\\x\"", "'x' where an escape"},
        {"\"\\u12g4\"", "'g' where a hexadecimal digit"},
        {"1 2", "'2' where the end of the file"},
        {"'a'", "where a value"},
        {"[1]]", "']' where the end of the file"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct arena arena = {0};
        struct json_value *value = NULL;
        assert_int_equal(parse(rows[i].text, 3, &arena, &value), STATUS_CORRUPT);
        assert_says(rows[i].message);
        assert_says("value.json");
        arena_fini(&arena);
        /* Skipping is as strict, but for escapes, which it does not decode. */
        if (strstr(rows[i].text, "\\")) continue;
        assert_int_equal(skip_over(rows[i].text, 3), STATUS_CORRUPT);
    }
    struct arena arena = {0};
    struct json_value *value = NULL;
    assert_int_equal(parse("1e999", 8, &arena, &value), STATUS_CORRUPT);
    assert_says("out of range");
    arena_fini(&arena);
}

static void test_depth_is_bounded(void **state)
{
    (void)state;
    char text[4096];
    memset(text, '[', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct arena arena = {0};
    struct json_value *value = NULL;
    assert_int_equal(parse(text, 64, &arena, &value), STATUS_CORRUPT);
    assert_says("nested more than 128 deep");
    assert_int_equal(skip_over(text, 64), STATUS_CORRUPT);
    arena_fini(&arena);
}

static void test_typed_access(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct json_value *value = NULL;
    const struct json_value *found = NULL;
    const char *id = NULL;
    int64_t number = 0;
    double box[4];
    assert_int_equal(
        parse("{\"n\": 1.5, \"s\": \"x\", \"i\": 12, \"b\": [1, 2, 3, 4.5], \"c\": [1]}", 64,
              &arena, &value),
        STATUS_OK);
    assert_int_equal(json_get_string(value, "n", &found), STATUS_INVALID);
    assert_says("\"n\" is a number where a string should be");
    assert_int_equal(json_get_string(value, "q", &found), STATUS_INVALID);
    assert_says("there is no \"q\"");
    assert_int_equal(json_get_int(value, "n", &number), STATUS_INVALID);
    assert_says("1.5 where a whole number");
    assert_int_equal(json_get_id(value, "i", &arena, &id), STATUS_OK);
    assert_string_equal(id, "12");
    assert_int_equal(json_get_id(value, "s", &arena, &id), STATUS_OK);
    assert_string_equal(id, "x");
    assert_int_equal(json_four_numbers(json_get(value, "b"), "b", box), STATUS_OK);
    assert_true(box[3] == 4.5);
    assert_int_equal(json_four_numbers(json_get(value, "c"), "c", box), STATUS_INVALID);
    assert_int_equal(json_get_string(json_get(value, "b"), "q", &found), STATUS_INVALID);
    assert_says("an array where an object");
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),           cmocka_unit_test(test_lone_surrogates_are_kept),
        cmocka_unit_test(test_what_is_not_json), cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_typed_access),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
