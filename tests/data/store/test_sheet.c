/* The contact sheet: escaped texts, marked phrases, boxes drawn into the pixels; and the summary.
 */
#include "tests/data/store/fixture.h"

#include "data/store/html.h"
#include "data/store/sheet.h"
#include "data/store/summary.h"

static char folder[PATH_MAX];
static char path[PATH_MAX + 32];
static char page_path[PATH_MAX + 32];

static int setup(void **state)
{
    (void)state;
    folder_make(folder);
    snprintf(path, sizeof path, "%s/set.h5", folder);
    snprintf(page_path, sizeof page_path, "%s/sheet.html", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static struct store *open_set(void)
{
    struct store *store = NULL;
    const char *pattern = path;
    ASSERT_OK(store_open(&store, &pattern, 1, NULL));
    return store;
}

static char *make_page(const struct sheet_options *options)
{
    struct store *store = open_set();
    struct summary summary;
    size_t size = 0;
    ASSERT_OK(summary_make(store, &summary));
    ASSERT_OK(sheet_write(store, &summary, options, page_path));
    summary_fini(&summary);
    store_close(&store);
    char *page = (char *)file_load(page_path, &size);
    page[size] = '\0';
    return page;
}

static int count_parts(const char *text, const char *part)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, part)); at++) {
        count++;
    }
    return count;
}

static void test_html(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t length;
        const char *escaped;
    } rows[] = {
        {"a<b> & \"c\"", 10, "a&lt;b&gt; &amp; &quot;c&quot;"},
        {"x\0\ny\x1b[", 6, "x  y ["},
        {"caf\xC3\xA9 \xC3", 7, "caf\xC3\xA9 \xEF\xBF\xBD"},
        {"\xFF\xFFz", 3, "\xEF\xBF\xBD\xEF\xBF\xBDz"},
        {"", 0, ""},
    };
    struct strbuf out = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        strbuf_clear(&out);
        strbuf_append(&out, "");
        html_append_text(&out, rows[i].text, rows[i].length);
        assert_string_equal(out.text ? out.text : "", rows[i].escaped);
    }
    static const char *const encoded[] = {"", "TQ==", "TWE=", "TWFu", "TWFu/w=="}; /* RFC 4648 */
    static const int lengths[] = {0, 1, 2, 3, 4};
    for (int i = 0; i < 5; i++) {
        strbuf_clear(&out);
        html_append_data_uri(&out, "a/b", "Man\xFF", lengths[i]);
        assert_string_equal(out.text + strlen("data:a/b;base64,"), encoded[i]);
    }
    strbuf_fini(&out);
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* Decodes the first picture of the page. */
static void first_picture(const char *page, struct image *image)
{
    const char *from = strstr(page, "data:image/png;base64,");
    assert_non_null(from);
    from += strlen("data:image/png;base64,");
    uint8_t *bytes = malloc(strlen(from));
    assert_non_null(bytes);
    size_t size = 0;
    uint32_t word = 0;
    for (int i = 0; base64_digit(from[i]) >= 0; i++) {
        word = word << 6 | (uint32_t)base64_digit(from[i]);
        if (i % 4) bytes[size++] = (uint8_t)(word >> (6 - 2 * (i % 4)));
    }
    ASSERT_OK(image_decode(bytes, size, NULL, image));
    free(bytes);
}

static void assert_pixel(const struct image *image, int64_t x, int64_t y, const uint8_t colour[3])
{
    assert_memory_equal(image->pixels + (y * image->width + x) * 3, colour, 3);
}

static void test_page(void **state)
{
    (void)state;
    struct sheet_options options = {.count = 100, .first = -1, .side = 320};
    shard_make(path, 0, 6, 0, 1); /* samples 0 and 3 are pairs */
    char *page = make_page(&options);
    assert_int_equal(count_parts(page, "<div class=card>"), 8);
    assert_int_equal(count_parts(page, "<img "), 8 + 2); /* and the right pictures of two pairs */
    assert_non_null(strstr(page, "<h2>0 picture-0.png <small>8 x 9</small></h2>"));
    assert_non_null(strstr(page, "a <b style=\"color:#e63c32\">caf\xC3\xA9</b> <b style"));
    assert_non_null(strstr(page, "<span class=answer>two, 2 0.3</span>"));
    assert_non_null(strstr(page, "<span class=false>false</span>"));
    assert_non_null(strstr(page, "Most boxes: cat 2, dog 2, bird 2</p>"));
    assert_non_null(strstr(page, "(crowd) <small>1, 1 to 3, 3</small>"));
    assert_null(strstr(page, "http"));
    struct image image = {0};
    first_picture(page, &image);
    assert_int_equal(image.width, 8);
    assert_pixel(&image, 0, 8, (uint8_t[]){230, 60, 50});  /* first box: [0, 1, 4.5, 9] */
    assert_pixel(&image, 2, 1, (uint8_t[]){40, 110, 220}); /* second: [1, 1, 3, 3] on top of it */
    image_fini(&image);
    free(page);
}

static void test_part_of_set(void **state)
{
    (void)state;
    struct sheet_options options = {.count = 3, .first = 4, .side = 4};
    shard_make(path, 0, 6, 0, 1);
    char *page = make_page(&options);
    assert_int_equal(count_parts(page, "<div class=card>"), 3);
    assert_non_null(strstr(page, "<h2>4 "));
    assert_non_null(strstr(page, "width=\"4\" height=\"4\""));
    free(page);
    options.first = 100;
    struct store *store = open_set();
    struct summary summary;
    ASSERT_OK(summary_make(store, &summary));
    ASSERT_FAILS(sheet_write(store, &summary, &options, page_path), STATUS_INVALID,
                 "there is no image 100 in a set of 8");
    assert_int_equal(access(page_path, F_OK), -1);
    options.first = 0;
    ASSERT_FAILS(sheet_write(store, &summary, &options, "/nowhere/x.html"), STATUS_IO,
                 "/nowhere/x.html: cannot create");
    summary_fini(&summary);
    store_close(&store);
}

static void test_summary(void **state)
{
    (void)state;
    shard_make(path, 0, 30, 0, 1);
    struct store *store = open_set();
    struct summary summary;
    ASSERT_OK(summary_make(store, &summary));
    assert_int_equal(summary.num_kind[TEXT_CAPTION], 60);
    assert_int_equal(summary.num_kind[TEXT_QUESTION], 15);
    assert_int_equal(summary.num_kind[TEXT_STATEMENT], 10);
    assert_int_equal(summary.num_kind[TEXT_EXPRESSION], 10);
    assert_int_equal(summary.num_label[0], 5);
    assert_int_equal(summary.num_label[1], 5);
    assert_int_equal(summary.num_pairs, 10);
    assert_int_equal(summary.num_boxes_with_text, 30);
    assert_int_equal(summary.num_crowd, 30);
    assert_int_equal(summary.num_spans, 60);
    assert_int_equal(summary.num_format[IMAGE_PNG], 40);
    assert_int_equal(summary.num_category[2], 10);
    assert_int_equal(summary.least_side[0], 5);
    assert_int_equal(summary.most_side[0], 12);
    assert_int_equal(summary.num_sealed, 1);
    assert_int_equal(summary.num_text_keys, 0);
    summary.num_category[1] = 40;
    summary.num_category[0] = 0;
    int64_t order[2];
    assert_int_equal(summary_top_categories(store, &summary, 2, order), 2);
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 2);
    assert_int_equal(summary_top_categories(store, &summary, 1, order), 1);
    assert_int_equal(order[0], 1);
    summary_fini(&summary);
    store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_html),
        cmocka_unit_test_setup_teardown(test_page, setup, teardown),
        cmocka_unit_test_setup_teardown(test_part_of_set, setup, teardown),
        cmocka_unit_test_setup_teardown(test_summary, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
