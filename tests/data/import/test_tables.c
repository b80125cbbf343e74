/* csv, tsv, folder and jsonl: what users bring themselves. */
#include "tests/data/import/fixture.h"

#include "data/import/csv_table.h"

static int setup(void **state)
{
    if (fixture_setup(state) != 0) return -1;
    fixture_png("pics/a.png", 20, 10, 1);
    fixture_png("pics/b c.png", 8, 8, 2);
    fixture_png("pics/sub/d.PNG", 8, 8, 3);
    return 0;
}

/* ---- CSV ----------------------------------------------------------------------------------------
 */

static void check_split(const char *text, struct csv_dialect dialect, int count,
                        const char *const *expected)
{
    struct arena arena = {0};
    struct csv_field *fields = NULL;
    int num_fields = 0;
    assert_int_equal(csv_split(text, (int64_t)strlen(text), dialect, &arena, &fields, &num_fields),
                     STATUS_OK);
    assert_int_equal(num_fields, count);
    for (int i = 0; i < count; i++) {
        assert_string_equal(fields[i].text, expected[i]);
        assert_int_equal(fields[i].length, strlen(expected[i]));
    }
    arena_fini(&arena);
}

static void test_csv_fields(void **state)
{
    (void)state;
    const struct csv_dialect comma = {',', true};
    const struct csv_dialect tab = {'\t', false};
    check_split("a,b", comma, 2, (const char *[]){"a", "b"});
    check_split("a,,\r\n", comma, 3, (const char *[]){"a", "", ""});
    check_split("\"a,\"\"b\"\"\n\",c", comma, 2, (const char *[]){"a,\"b\"\n", "c"});
    check_split("\"\",x\"y", comma, 2, (const char *[]){"", "x\"y"});
    check_split("\"a\tb,c", tab, 2, (const char *[]){"\"a", "b,c"});
    struct arena arena = {0};
    struct csv_field *fields = NULL;
    int num_fields = 0;
    assert_int_equal(csv_split("\"a\"b,c", 6, comma, &arena, &fields, &num_fields), STATUS_INVALID);
    assert_says("'b' after a closing quote");
    assert_int_equal(csv_split("a,\"b", 4, comma, &arena, &fields, &num_fields), STATUS_INVALID);
    assert_says("not closed");
    arena_fini(&arena);
}

static void test_csv(void **state)
{
    (void)state;
    fixture_text("pics/list.csv", "\xef\xbb\xbfpath,note,caption\r\n"
                                  "a.png,,\"a cat, \"\"asleep\"\"\nand dreaming\"\r\n"
                                  "b c.png,,plain\r\n"
                                  "\r\n"
                                  "a.png,,second\r\n"
                                  "a.png,short\r\n"
                                  "gone.png,,nothing\r\n"
                                  "b c.png,,\"x\"y\r\n"
                                  ",,empty path");
    struct fixture f;
    const char *sources[] = {fixture_path("pics/list.csv"), NULL};
    assert_int_equal(fixture_open(&f, "csv", sources, NULL), STATUS_OK);
    assert_int_equal(f.source.num_items, 5);
    const struct sample *s = fixture_good(&f, 0);
    assert_int_equal(s->num_images, 1);
    assert_string_equal(s->images[0].key, "a.png");
    assert_int_equal(s->num_texts, 2);
    assert_text(s, 0, "a cat, \"asleep\"\nand dreaming");
    assert_text(s, 1, "second");
    assert_int_equal(s->num_rejects, 1);
    assert_rejects(s, 0, "list.csv: line 7, column 1: 2 fields, and the caption would be number 3");
    s = fixture_good(&f, 1);
    assert_text(s, 0, "plain");
    assert_int_equal(fixture_fetch(&f, 2), STATUS_NOT_FOUND);
    assert_says("list.csv: line 8, column 1: no file 'gone.png' in");
    assert_int_equal(fixture_fetch(&f, 3), STATUS_INVALID);
    assert_says("line 9, column 1: 'y' after a closing quote");
    assert_int_equal(fixture_fetch(&f, 4), STATUS_INVALID);
    assert_says("the path of the picture is empty");
    fixture_close(&f);
}

static void test_csv_columns(void **state)
{
    (void)state;
    fixture_text("list.csv", "file,title\na.png,one\n");
    struct fixture f;
    const char *sources[] = {fixture_path("list.csv"), NULL};
    assert_int_equal(fixture_open(&f, "csv", sources, NULL), STATUS_NOT_FOUND);
    assert_says("no column 'path'; the columns are: file, title");
    fixture_close(&f);
    char images[600];
    snprintf(images, sizeof images, "images=%s/pics", fixture_folder);
    const char *named[] = {"path-column=file", "caption-column=2", images, NULL};
    assert_int_equal(fixture_open(&f, "csv", sources, named), STATUS_OK);
    assert_text(fixture_good(&f, 0), 0, "one");
    fixture_close(&f);
    const char *numbered[] = {"header=no", "path-column=1", "caption-column=2", images, NULL};
    assert_int_equal(fixture_open(&f, "csv", sources, numbered), STATUS_OK);
    assert_int_equal(f.source.num_items, 2);
    fixture_close(&f);
    const char *without[] = {"header=no", images, NULL};
    assert_int_equal(fixture_open(&f, "csv", sources, without), STATUS_INVALID);
    assert_says("give a number");
    fixture_close(&f);
    fixture_text("open.csv", "path,caption\na.png,\"never closed\n");
    const char *open_quote[] = {fixture_path("open.csv"), NULL};
    assert_int_equal(fixture_open(&f, "csv", open_quote, NULL), STATUS_CORRUPT);
    assert_says("open.csv: line 2, column 7: a quote is opened and never closed");
    fixture_close(&f);
    fixture_text("head.csv", "path,caption\n\n");
    const char *header_only[] = {fixture_path("head.csv"), NULL};
    assert_int_equal(fixture_open(&f, "csv", header_only, NULL), STATUS_INVALID);
    assert_says("no rows below the header");
    fixture_close(&f);
    const char *absent[] = {fixture_path("absent.csv"), NULL};
    assert_int_equal(fixture_open(&f, "csv", absent, NULL), STATUS_NOT_FOUND);
    assert_says("absent.csv: no such file");
    fixture_close(&f);
}

static void test_tsv(void **state)
{
    (void)state;
    fixture_text("pics/list.tsv", "path\tcaption\nsub/d.PNG\t\"quoted, as written\n");
    struct fixture f;
    const char *sources[] = {fixture_path("pics/list.tsv"), NULL};
    assert_int_equal(fixture_open(&f, "tsv", sources, NULL), STATUS_OK);
    assert_text(fixture_good(&f, 0), 0, "\"quoted, as written");
    fixture_close(&f);
}

/* ---- a folder -----------------------------------------------------------------------------------
 */

static void test_folder(void **state)
{
    (void)state;
    fixture_png("set/1/cat.png", 9, 9, 5);
    fixture_text("set/1/cat.txt", "  a cat \r\n\r\nanother line\n");
    fixture_png("set/dog.png", 9, 9, 6);
    fixture_png("set/empty.png", 9, 9, 7);
    fixture_text("set/empty.txt", " \n \n");
    fixture_text("set/orphan.txt", "no picture");
    fixture_text("set/notes.md", "left alone");
    struct fixture f;
    const char *sources[] = {fixture_path("set"), NULL};
    assert_int_equal(fixture_open(&f, "folder", sources, NULL), STATUS_OK);
    assert_int_equal(f.source.num_items, 4);
    const struct sample *s = fixture_good(&f, 0);
    assert_string_equal(s->images[0].key, "1/cat.png");
    assert_int_equal(s->num_texts, 2);
    assert_text(s, 0, "a cat");
    assert_text(s, 1, "another line");
    assert_int_equal(fixture_fetch(&f, 1), STATUS_NOT_FOUND);
    assert_says("dog.png: no file 'dog.txt'");
    assert_int_equal(fixture_fetch(&f, 2), STATUS_INVALID);
    assert_says("empty.txt: the text is only white space");
    assert_int_equal(fixture_fetch(&f, 3), STATUS_INVALID);
    assert_says("orphan.txt: there is no picture of this name");
    fixture_close(&f);
    const char *whole[] = {"lines=no", NULL};
    assert_int_equal(fixture_open(&f, "folder", sources, whole), STATUS_OK);
    assert_text(fixture_good(&f, 0), 0, "a cat \r\n\r\nanother line");
    fixture_close(&f);
    fixture_text("bare/readme.md", "x");
    const char *bare[] = {fixture_path("bare"), NULL};
    assert_int_equal(fixture_open(&f, "folder", bare, NULL), STATUS_NOT_FOUND);
    assert_says("no .jpg, .jpeg, .png or .webp");
    fixture_close(&f);
    fixture_png("twins/a.png", 9, 9, 6);
    fixture_png("twins/a.jpeg", 9, 9, 6);
    const char *twins[] = {fixture_path("twins"), NULL};
    assert_int_equal(fixture_open(&f, "folder", twins, NULL), STATUS_INVALID);
    assert_says("share one text");
    fixture_close(&f);
}

/* ---- JSON lines ---------------------------------------------------------------------------------
 */

static void test_jsonl(void **state)
{
    (void)state;
    fixture_text(
        "pics/list.jsonl",
        "{\"image\": \"a.png\", \"captions\": [\"\\u00e9in dog, a cat\", \"two\"], \"boxes\": ["
        "{\"bbox\": [1, 2, 3, 4], \"phrase\": \"a cat\", \"category\": \"cat\"}, "
        "{\"xyxy\": [1, 2, 3.5, 4], \"spans\": [[0, 3]], \"caption\": 1, \"category\": \"dog\"}, "
        "{\"bbox\": [0, 0, 5, 5], \"category\": \"cat\"}, "
        "{\"bbox\": [0, 0, 5, 5], \"phrase\": \"bird\"}, "
        "{\"bbox\": [0, 0, 5]}, "
        "{\"bbox\": [0, 0, 5, 5], \"spans\": [[1]]}, "
        "{\"spans\": []}, "
        "{\"bbox\": [0, 0, 5, 5], \"spans\": [[0, 1]], \"caption\": 2}]}\n"
        "\n"
        "{\"image\": \"b c.png\", \"caption\": \"plain\"}\n"
        "{\"image\": \"a.png\", \"caption\": \"third\"}\n"
        "{\"image\": \"a.png\"\n"
        "{\"image\": \"b c.png\", \"boxes\": []}\n"
        "{\"image\": \"gone.png\", \"caption\": \"x\"}\n"
        "[1]\n"
        "{\"caption\": \"no image\"}\n"
        "{\"image\": \"sub/d.PNG\"}");
    struct fixture f;
    const char *sources[] = {fixture_path("pics/list.jsonl"), NULL};
    assert_int_equal(fixture_open(&f, "jsonl", sources, NULL), STATUS_OK);
    assert_int_equal(f.source.num_items, 7);
    assert_int_equal(f.source.num_categories, 2);
    assert_string_equal(f.source.categories[1], "dog");
    const struct sample *s = fixture_good(&f, 0);
    assert_int_equal(s->num_texts, 3);
    assert_text(s, 0, "\xc3\xa9in dog, a cat");
    assert_text(s, 2, "third");
    assert_int_equal(s->num_boxes, 3);
    assert_box(s, 0, 1, 2, 4, 6);
    assert_box(s, 1, 1, 2, 3.5f, 4);
    assert_int_equal(s->boxes[0].category, 0);
    assert_int_equal(s->boxes[1].category, 1);
    assert_int_equal(s->boxes[0].text, 0);
    assert_int_equal(s->boxes[1].text, 1);
    assert_int_equal(s->boxes[2].text, -1);
    assert_int_equal(s->num_spans, 2);
    assert_span(s, 0, 0, 9, 14);
    assert_span(s, 1, 1, 0, 3);
    assert_int_equal(s->num_rejects, 5);
    assert_rejects(s, 0, "a.png: the phrase \"bird\" does not occur");
    assert_rejects(s, 1, "\"bbox\" is not an array of four numbers");
    assert_rejects(s, 2, "\"spans\" holds something else");
    assert_rejects(s, 3, "a box needs one of");
    assert_rejects(s, 4, "a box belongs to caption 2 of 2");
    assert_text(fixture_good(&f, 1), 0, "plain");
    assert_int_equal(fixture_fetch(&f, 2), STATUS_CORRUPT);
    assert_says("list.jsonl: line 5, column 18: the text ends where ',' or '}'");
    assert_int_equal(fixture_fetch(&f, 3), STATUS_NOT_FOUND);
    assert_says("list.jsonl: line 7, column 1: no file 'gone.png'");
    assert_int_equal(fixture_fetch(&f, 4), STATUS_INVALID);
    assert_says("line 8, column 1: an array where an object");
    assert_int_equal(fixture_fetch(&f, 5), STATUS_INVALID);
    assert_says("line 9, column 1: there is no \"image\"");
    assert_int_equal(fixture_fetch(&f, 6), STATUS_INVALID);
    assert_says("neither a caption (--caption-field) nor boxes");
    fixture_close(&f);
}

static void test_jsonl_fields(void **state)
{
    (void)state;
    fixture_text("pics/emoji.jsonl",
                 "{\"file\": \"a.png\", \"name\": \"cat face\", \"keywords\": [\"cat\", \"pet\"], "
                 "\"n\": 3, \"sub\": {}}\n");
    struct fixture f;
    const char *sources[] = {fixture_path("pics/emoji.jsonl"), NULL};
    const char *fields[] = {"image-field=file", "caption-field=name,keywords", NULL};
    assert_int_equal(fixture_open(&f, "jsonl", sources, fields), STATUS_OK);
    const struct sample *s = fixture_good(&f, 0);
    assert_int_equal(s->num_texts, 3);
    assert_text(s, 2, "pet");
    fixture_close(&f);
    const char *template[] = {"image-field=file",
                              "template=a drawing of {n}: {name} ({keywords}) {", NULL};
    assert_int_equal(fixture_open(&f, "jsonl", sources, template), STATUS_OK);
    s = fixture_good(&f, 0);
    assert_int_equal(s->num_texts, 1);
    assert_text(s, 0, "a drawing of 3: cat face (cat, pet) {");
    fixture_close(&f);
    const char *absent[] = {"image-field=file", "template={title}", NULL};
    assert_int_equal(fixture_open(&f, "jsonl", sources, absent), STATUS_OK);
    assert_int_equal(fixture_fetch(&f, 0), STATUS_INVALID);
    assert_says("there is no \"title\", which --template asks for");
    fixture_close(&f);
    const char *object[] = {"image-field=file", "template={sub}", NULL};
    assert_int_equal(fixture_open(&f, "jsonl", sources, object), STATUS_OK);
    assert_int_equal(fixture_fetch(&f, 0), STATUS_INVALID);
    assert_says("\"sub\" is an object, which makes no text");
    fixture_close(&f);
    const char *number[] = {"image-field=file", "caption-field=n", NULL};
    assert_int_equal(fixture_open(&f, "jsonl", sources, number), STATUS_OK);
    assert_int_equal(fixture_fetch(&f, 0), STATUS_INVALID);
    assert_says("\"n\" is a number where a caption");
    fixture_close(&f);
    fixture_text("blank.jsonl", " \n\n");
    const char *blank[] = {fixture_path("blank.jsonl"), NULL};
    assert_int_equal(fixture_open(&f, "jsonl", blank, NULL), STATUS_INVALID);
    assert_says("the file has no lines");
    fixture_close(&f);
}

/* Bad UTF-8 and bad spans pass through to packing, whose rules name them. */
static void test_bad_texts_are_left_to_packing(void **state)
{
    (void)state;
    fixture_text("pics/bad.jsonl", "{\"image\": \"a.png\", \"captions\": [\"caf\xe9\", \"good\"], "
                                   "\"boxes\": [{\"bbox\": [0, 0, 0, 5]}, "
                                   "{\"bbox\": [0, 0, 2, 2], \"caption\": 1, \"spans\": [[2, 9]]}, "
                                   "{\"bbox\": [90, 0, 2, 2]}]}\n");
    struct fixture f;
    const char *sources[] = {fixture_path("pics/bad.jsonl"), NULL};
    assert_int_equal(fixture_open(&f, "jsonl", sources, NULL), STATUS_OK);
    fixture_good(&f, 0);
    f.sample.images[0].width = 20;
    f.sample.images[0].height = 10;
    assert_int_equal(sample_clean(&f.sample, 0), STATUS_OK);
    assert_int_equal(f.sample.num_texts, 1);
    assert_int_equal(f.sample.num_rejects, 4);
    assert_rejects(&f.sample, 0, "UTF-8");
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv_fields),   cmocka_unit_test(test_csv),
        cmocka_unit_test(test_csv_columns),  cmocka_unit_test(test_tsv),
        cmocka_unit_test(test_folder),       cmocka_unit_test(test_jsonl),
        cmocka_unit_test(test_jsonl_fields), cmocka_unit_test(test_bad_texts_are_left_to_packing),
    };
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
