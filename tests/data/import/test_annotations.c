/* coco, mdetr, refcoco, vqa, karpathy: annotation files in the forms that the public sets have. */
#include "tests/data/import/fixture.h"

static int setup(void **state)
{
    if (fixture_setup(state) != 0) return -1;
    fixture_png("img/000000000007.jpg", 40, 30, 1);
    fixture_png("img/000000000008.jpg", 20, 20, 2);
    fixture_png("img/COCO_val2014_000000000042.jpg", 16, 16, 3);
    return 0;
}

static char images_option[600];

static const char *images(void)
{
    snprintf(images_option, sizeof images_option, "images=%s/img", fixture_folder);
    return images_option;
}

/* ---- COCO ---------------------------------------------------------------------------------------
 */

static const char instances[] =
    "{\"info\": {\"x\": [1, {\"y\": null}]},\n"
    "\"annotations\": [\n"
    "{\"id\": 5, \"image_id\": 7, \"bbox\": [1.5, 2, 10, 4], \"category_id\": 18, \"iscrowd\": 0,\n"
    "  \"segmentation\": [[1, 2, 3, 4.5]], \"area\": 40},\n"
    "{\"id\": 6, \"image_id\": 7, \"bbox\": [0, 0, 40, 30], \"category_id\": 3, \"iscrowd\": 1,\n"
    "  \"segmentation\": {\"counts\": [1, 2], \"size\": [30, 40]}},\n"
    "{\"id\": 7, \"image_id\": 7, \"bbox\": [0, 0, 4], \"category_id\": 3},\n"
    "{\"id\": 8, \"image_id\": 7, \"bbox\": [0, 0, 4, 4], \"category_id\": 99},\n"
    "{\"id\": 9, \"image_id\": 1234, \"bbox\": [0, 0, 4, 4], \"category_id\": 3}],\n"
    "\"images\": [{\"id\": 7, \"file_name\": \"000000000007.jpg\", \"width\": 40, \"height\": "
    "30},\n"
    "{\"id\": 8, \"file_name\": \"000000000008.jpg\", \"width\": 20, \"height\": 20}],\n"
    "\"categories\": [{\"id\": 3, \"name\": \"car\"}, {\"id\": 18, \"name\": \"dog\"}]}";

static const char captions[] =
    "{\"images\": [{\"id\": 7, \"file_name\": \"000000000007.jpg\"},\n"
    "{\"id\": 8, \"file_name\": \"000000000008.jpg\", \"height\": 21}],\n"
    "\"annotations\": [{\"image_id\": 7, \"id\": 100, \"caption\": \"A dog.\\n\"},\n"
    "{\"image_id\": 8, \"id\": 101, \"caption\": 5},\n"
    "{\"image_id\": 7, \"id\": 102, \"caption\": \"Two.\"}]}";

static void test_coco_joined(void **state)
{
    (void)state;
    fixture_text("instances.json", instances);
    fixture_text("captions.json", captions);
    struct fixture f;
    const char *sources[] = {fixture_path("instances.json"), fixture_path("captions.json"), NULL};
    const char *options[] = {images(), NULL};
    assert_int_equal(fixture_open(&f, "coco", sources, options), STATUS_OK);
    assert_int_equal(f.source.num_items, 3);
    assert_int_equal(f.source.num_categories, 2);
    assert_string_equal(f.source.categories[1], "dog");
    assert_int_equal(f.source.category_ids[1], 18);
    const struct sample *s = fixture_good(&f, 0);
    assert_string_equal(s->images[0].key, "000000000007.jpg");
    assert_int_equal(s->num_texts, 2);
    assert_text(s, 0, "A dog.");
    assert_string_equal(s->texts[0].key, "100");
    assert_int_equal(s->num_boxes, 2);
    assert_box(s, 0, 1.5f, 2, 11.5f, 6);
    assert_int_equal(s->boxes[0].category, 1);
    assert_false(s->boxes[0].crowd);
    assert_true(s->boxes[1].crowd);
    assert_int_equal(s->boxes[1].text, -1);
    assert_int_equal(s->num_rejects, 2);
    assert_rejects(s, 0, "instances.json: line 7, column 1: \"bbox\" is not an array of four");
    assert_rejects(s, 1, "line 8, column 1: category_id 99 is not in \"categories\"");
    s = fixture_good(&f, 1);
    assert_rejects(s, 0, "captions.json: line 4, column 1: \"caption\" is a number");
    assert_int_equal(fixture_fetch(&f, 2), STATUS_INVALID);
    assert_says("instances.json: line 9, column 1: its image_id is not in \"images\"");
    fixture_close(&f);
}

static void test_coco_alone(void **state)
{
    (void)state;
    fixture_text("instances.json", instances);
    fixture_text("captions.json", captions);
    struct fixture f;
    const char *boxes[] = {fixture_path("instances.json"), NULL};
    const char *skip_empty[] = {images(), "empty=skip", NULL};
    assert_int_equal(fixture_open(&f, "coco", boxes, skip_empty), STATUS_OK);
    assert_int_equal(f.source.num_items, 2); /* image 8 has no annotation */
    fixture_good(&f, 0);
    assert_int_equal(fixture_fetch(&f, 1), STATUS_INVALID);
    fixture_close(&f);
    const char *texts[] = {fixture_path("captions.json"), NULL};
    const char *options[] = {images(), NULL};
    assert_int_equal(fixture_open(&f, "coco", texts, options), STATUS_OK);
    assert_int_equal(f.source.num_categories, 0);
    assert_int_equal(fixture_fetch(&f, 1), STATUS_INVALID);
    assert_says("captions.json: line 2, column 1: 000000000008.jpg: the picture is 20 x 20, the "
                "annotations say 0 x 21; use the pictures");
    fixture_close(&f);
}

/* Each category once, in the order of the boxes; a picture with a caption of its own keeps it, one
 * without boxes stays without. */
static void test_coco_names_objects(void **state)
{
    (void)state;
    fixture_text("named.json",
                 "{\"images\": [{\"id\": 7, \"file_name\": \"000000000007.jpg\"},\n"
                 "{\"id\": 8, \"file_name\": \"000000000008.jpg\"},\n"
                 "{\"id\": 42, \"file_name\": \"COCO_val2014_000000000042.jpg\"}],\n"
                 "\"categories\": [{\"id\": 3, \"name\": \"car\"}, {\"id\": 18, \"name\": "
                 "\"dog\"}, {\"id\": 1, \"name\": \"person\"}],\n"
                 "\"annotations\": ["
                 "{\"id\": 1, \"image_id\": 7, \"bbox\": [0, 0, 4, 4], \"category_id\": 18},"
                 "{\"id\": 2, \"image_id\": 7, \"bbox\": [1, 1, 4, 4], \"category_id\": 1},"
                 "{\"id\": 3, \"image_id\": 7, \"bbox\": [2, 2, 4, 4], \"category_id\": 18},"
                 "{\"id\": 4, \"image_id\": 7, \"bbox\": [3, 3, 4, 4], \"category_id\": 3},"
                 "{\"id\": 5, \"image_id\": 8, \"bbox\": [0, 0, 4, 4], \"category_id\": 3}]}");
    fixture_text("own.json", "{\"images\": [{\"id\": 8, \"file_name\": \"000000000008.jpg\"}],\n"
                             "\"annotations\": [{\"id\": 9, \"image_id\": 8, \"caption\": "
                             "\"A red car.\"}]}");
    struct fixture f;
    const char *sources[] = {fixture_path("named.json"), fixture_path("own.json"), NULL};
    const char *options[] = {images(), "name-objects=yes", NULL};
    assert_int_equal(fixture_open(&f, "coco", sources, options), STATUS_OK);
    assert_int_equal(f.source.num_items, 3);
    const struct sample *s = fixture_good(&f, 0);
    assert_int_equal(s->num_texts, 1);
    assert_text(s, 0, "dog, person and car");
    assert_int_equal(s->texts[0].kind, TEXT_CAPTION);
    assert_int_equal(s->num_boxes, 4);
    assert_int_equal(s->boxes[0].text, -1);
    s = fixture_good(&f, 1);
    assert_int_equal(s->num_texts, 1);
    assert_text(s, 0, "A red car.");
    assert_int_equal(fixture_good(&f, 2)->num_texts, 0);
    fixture_close(&f);
    const char *alone[] = {fixture_path("named.json"), NULL};
    assert_int_equal(fixture_open(&f, "coco", alone, options), STATUS_OK);
    assert_text(fixture_good(&f, 1), 0, "car");
    fixture_close(&f);
    const char *without[] = {images(), NULL};
    assert_int_equal(fixture_open(&f, "coco", alone, without), STATUS_OK);
    assert_int_equal(fixture_good(&f, 0)->num_texts, 0);
    fixture_close(&f);
}

static void check_open_fails(const char *format, const char *text, enum status status,
                             const char *message)
{
    fixture_text("broken.json", text);
    struct fixture f;
    const char *sources[] = {fixture_path("broken.json"), NULL};
    const char *options[] = {images(), NULL};
    assert_int_equal(fixture_open(&f, format, sources, options), status);
    assert_says("broken.json");
    assert_says(message);
    fixture_close(&f);
}

static void test_coco_refuses(void **state)
{
    (void)state;
    check_open_fails("coco", "{\"images\": []}", STATUS_INVALID, "no \"annotations\"");
    check_open_fails("coco", "[]", STATUS_CORRUPT, "line 1, column 1: '[' where an object");
    check_open_fails("coco", "{\"images\": [{\"file_name\": \"a\"}]}", STATUS_CORRUPT,
                     "an image without \"id\"");
    check_open_fails("coco", "{\"images\": [{\"id\": 1.5}]}", STATUS_CORRUPT,
                     "1.5 where a whole number");
    check_open_fails("coco", "{\"annotations\": [{\"id\": 1}]}", STATUS_CORRUPT,
                     "an annotation without \"image_id\"");
    check_open_fails("coco",
                     "{\"images\": [{\"id\": 1, \"file_name\": \"a\"}, {\"id\": 1, "
                     "\"file_name\": \"b\"}]}",
                     STATUS_CORRUPT, "image 1 has another file_name");
    check_open_fails("coco",
                     "{\"categories\": [{\"id\": 1, \"name\": \"a\"}, {\"id\": 1, \"name\": "
                     "\"b\"}]}",
                     STATUS_INVALID, "category 1 is 'b' here and 'a' before");
    check_open_fails("coco", "{\"images\": [{\"id\": 1}", STATUS_CORRUPT, "the text ends");
    struct fixture f;
    const char *sources[] = {fixture_path("broken.json"), NULL};
    const char *empty[] = {"empty=maybe", NULL};
    assert_int_equal(fixture_open(&f, "coco", sources, empty), STATUS_INVALID);
    assert_says("--empty maybe: keep or skip");
    fixture_close(&f);
}

/* ---- MDETR --------------------------------------------------------------------------------------
 */

static void test_mdetr(void **state)
{
    (void)state;
    fixture_text(
        "mdetr.json",
        "{\"images\": [\n"
        "{\"id\": 1, \"file_name\": \"000000000007.jpg\", \"caption\": \"a d\\u00f6g and a cat\", "
        "\"width\": 40, \"height\": 30, \"dataset_name\": \"flickr\", \"tokens_negative\": [[0, "
        "5]]},\n"
        "{\"id\": 2, \"file_name\": \"000000000008.jpg\", \"caption\": \"a bird\"},\n"
        "{\"id\": 3, \"file_name\": \"000000000007.jpg\", \"caption\": \"two\"}],\n"
        "\"annotations\": [\n"
        "{\"image_id\": 1, \"bbox\": [1, 2, 3, 4], \"tokens_positive\": [[0, 5], [10, 15]]},\n"
        "{\"image_id\": 3, \"bbox\": [5, 5, 5, 5], \"tokens_positive\": [[0, 3]]},\n"
        "{\"image_id\": 2, \"bbox\": [5, 5, 5, 5], \"tokens_positive\": []},\n"
        "{\"image_id\": 2, \"bbox\": [5, 5, 5, 5], \"tokens_positive\": [[0, \"x\"]]},\n"
        "{\"image_id\": 9, \"bbox\": [5, 5, 5, 5], \"tokens_positive\": [[0, 3]]}]}");
    struct fixture f;
    const char *sources[] = {fixture_path("mdetr.json"), NULL};
    const char *options[] = {images(), NULL};
    assert_int_equal(fixture_open(&f, "mdetr", sources, options), STATUS_OK);
    assert_int_equal(f.source.num_items, 3);
    const struct sample *s = fixture_good(&f, 0);
    assert_int_equal(s->num_images, 1);
    assert_int_equal(s->num_texts, 2);
    assert_int_equal(s->texts[0].kind, TEXT_CAPTION);
    assert_text(s, 0, "a d\xc3\xb6g and a cat");
    assert_string_equal(s->texts[1].key, "3");
    assert_int_equal(s->num_boxes, 2);
    assert_box(s, 0, 1, 2, 4, 6);
    assert_int_equal(s->boxes[0].text, 0);
    assert_int_equal(s->boxes[1].text, 1);
    assert_int_equal(s->num_spans, 3);
    assert_span(s, 1, 0, 10, 15);
    assert_span(s, 2, 1, 0, 3);
    s = fixture_good(&f, 1);
    assert_int_equal(s->num_boxes, 0);
    assert_int_equal(s->num_spans, 0);
    assert_rejects(s, 0, "mdetr.json: line 8, column 1: \"tokens_positive\" is empty");
    assert_rejects(s, 1, "line 9, column 1: \"tokens_positive\" holds something else");
    assert_int_equal(fixture_fetch(&f, 2), STATUS_INVALID);
    assert_says("line 10, column 1: its image_id is not in \"images\"");
    fixture_close(&f);
    const char *expression[] = {images(), "kind=expression", NULL};
    assert_int_equal(fixture_open(&f, "mdetr", sources, expression), STATUS_OK);
    assert_int_equal(fixture_good(&f, 0)->texts[0].kind, TEXT_EXPRESSION);
    fixture_close(&f);
    check_open_fails("mdetr", "{\"images\": [{\"id\": 1}, {\"id\": 1}], \"annotations\": []}",
                     STATUS_INVALID, "a second image with id 1");
    check_open_fails("mdetr", "{\"annotations\": []}", STATUS_INVALID, "no \"images\"");
}

/* ---- RefCOCO ------------------------------------------------------------------------------------
 */

static void test_refcoco(void **state)
{
    (void)state;
    fixture_text("instances.json", instances);
    fixture_text(
        "refs.json",
        "[{\"ref_id\": 1, \"ann_id\": 5, \"image_id\": 7, \"split\": \"train\", "
        "\"sentences\": [{\"sent\": \"the d\\u00f6g\", \"raw\": \"The d\\u00f6g!\", "
        "\"sent_id\": 11}, {\"sent\": \"left one\", \"raw\": \"left one\", \"sent_id\": 12}]},\n"
        "{\"ref_id\": 2, \"ann_id\": 77, \"image_id\": 7, \"split\": \"train\", "
        "\"sentences\": []},\n"
        "{\"ref_id\": 3, \"ann_id\": 6, \"image_id\": 8, \"split\": \"val\", "
        "\"sentences\": [{\"sent\": \"car\", \"raw\": \"car\"}]},\n"
        "{\"ref_id\": 4, \"ann_id\": 6, \"image_id\": 55, \"split\": \"train\", "
        "\"sentences\": []}]");
    struct fixture f;
    const char *sources[] = {fixture_path("refs.json"), fixture_path("instances.json"), NULL};
    const char *options[] = {images(), "split=train", NULL};
    assert_int_equal(fixture_open(&f, "refcoco", sources, options), STATUS_OK);
    assert_int_equal(f.source.num_items, 2);
    const struct sample *s = fixture_good(&f, 0);
    assert_int_equal(s->num_texts, 2);
    assert_int_equal(s->texts[0].kind, TEXT_EXPRESSION);
    assert_text(s, 0, "the d\xc3\xb6g");
    assert_string_equal(s->texts[0].key, "11");
    assert_int_equal(s->num_boxes, 2);
    assert_box(s, 1, 1.5f, 2, 11.5f, 6);
    assert_int_equal(s->boxes[1].text, 1);
    assert_int_equal(s->boxes[1].category, 1);
    assert_span(s, 0, 0, 0, 7);
    assert_rejects(s, 0, "refs.json: line 2, column 1: annotation 77 is not in instances.json");
    assert_int_equal(fixture_fetch(&f, 1), STATUS_INVALID);
    assert_says("refs.json: line 4, column 1: image 55 is not in instances.json");
    fixture_close(&f);
    const char *raw[] = {images(), "text=raw", NULL};
    assert_int_equal(fixture_open(&f, "refcoco", sources, raw), STATUS_OK);
    assert_int_equal(f.source.num_items, 3);
    assert_text(fixture_good(&f, 0), 0, "The d\xc3\xb6g!");
    fixture_close(&f);
    const char *none[] = {images(), "split=testC", NULL};
    assert_int_equal(fixture_open(&f, "refcoco", sources, none), STATUS_INVALID);
    assert_says("no references of split testC");
    fixture_close(&f);
    const char *half[] = {fixture_path("instances.json"), NULL};
    assert_int_equal(fixture_open(&f, "refcoco", half, options), STATUS_INVALID);
    assert_says("refs.json is missing");
    fixture_close(&f);
}

/* ---- VQA ----------------------------------------------------------------------------------------
 */

static void test_vqa(void **state)
{
    (void)state;
    fixture_text("q.json",
                 "{\"data_subtype\": \"val2014\", \"questions\": [\n"
                 "{\"image_id\": 42, \"question\": \"What is it?\", \"question_id\": 1},\n"
                 "{\"image_id\": 42, \"question\": \"How many?\", \"question_id\": 2},\n"
                 "{\"image_id\": 42, \"question\": \"Why?\", \"question_id\": 3},\n"
                 "{\"image_id\": 43, \"question\": \"Where?\", \"question_id\": 4}]}");
    fixture_text("a.json",
                 "{\"annotations\": [\n"
                 "{\"question_id\": 1, \"multiple_choice_answer\": \"The Dog.\", \"answers\": ["
                 "{\"answer\": \"dog\"}, {\"answer\": \"dog\"}, {\"answer\": \"dog\"}, "
                 "{\"answer\": \"dog\"}, "
                 "{\"answer\": \"dog\"}, {\"answer\": \"2\"}, {\"answer\": \"2\"}, {\"answer\": "
                 "\"The Dog.\"}]},\n"
                 "{\"question_id\": 2, \"multiple_choice_answer\": \"two\", \"answers\": ["
                 "{\"answer\": \"2\"}, {\"answer\": \"two\"}]},\n"
                 "{\"question_id\": 3, \"multiple_choice_answer\": \"because\", \"answers\": ["
                 "{\"answer\": \"who knows\"}]},\n"
                 "{\"question_id\": 4, \"multiple_choice_answer\": \"dog\", \"answers\": []}]}");
    struct fixture f;
    const char *sources[] = {fixture_path("q.json"), fixture_path("a.json"), NULL};
    const char *options[] = {images(), "min-count=1", NULL};
    assert_int_equal(fixture_open(&f, "vqa", sources, options), STATUS_OK);
    assert_int_equal(f.source.num_items, 2);
    const struct sample *s = fixture_good(&f, 0);
    assert_string_equal(s->images[0].key, "COCO_val2014_000000000042.jpg");
    assert_int_equal(s->num_texts, 2); /* "who knows" is no majority answer of any question */
    assert_int_equal(s->texts[0].kind, TEXT_QUESTION);
    assert_text(s, 0, "What is it?");
    assert_string_equal(s->texts[1].key, "2");
    assert_int_equal(s->num_answers, 3);
    assert_string_equal(s->answers[0].answer, "dog");
    assert_true(s->answers[0].score == 1.0f);
    assert_string_equal(s->answers[1].answer, "2");
    assert_true(s->answers[1].score == 0.6f);
    assert_int_equal(s->answers[2].text, 1);
    assert_true(s->answers[2].score == 0.3f);
    assert_int_equal(fixture_fetch(&f, 1), STATUS_NOT_FOUND);
    assert_says("q.json: line 5, column 1: no file 'COCO_test2015_000000000043.jpg'");
    fixture_close(&f);
    const char *often[] = {images(), "min-count=2", NULL};
    assert_int_equal(fixture_open(&f, "vqa", sources, often), STATUS_OK);
    s = fixture_good(&f, 0);
    assert_int_equal(s->num_texts, 1);
    assert_int_equal(s->num_answers, 1);
    fixture_close(&f);
    const char *all[] = {images(), "min-count=0", NULL};
    assert_int_equal(fixture_open(&f, "vqa", sources, all), STATUS_OK);
    s = fixture_good(&f, 0);
    assert_int_equal(s->num_texts, 3);
    assert_int_equal(s->num_answers, 6);
    fixture_close(&f);
    const char *test_split[] = {fixture_path("q.json"), NULL};
    assert_int_equal(fixture_open(&f, "vqa", test_split, options), STATUS_OK);
    s = fixture_good(&f, 0);
    assert_int_equal(s->num_texts, 3);
    assert_int_equal(s->num_answers, 0);
    fixture_close(&f);
}

static void test_vqa_refuses(void **state)
{
    (void)state;
    struct fixture f;
    fixture_text("q.json", "{\"questions\": [{\"image_id\": 42, \"question_id\": 1, \"question\": "
                           "\"x\"}, {\"image_id\": 42, \"question_id\": 2}]}");
    fixture_text("a.json", "{\"annotations\": [{\"question_id\": 7, \"answers\": []}]}");
    const char *sources[] = {fixture_path("q.json"), fixture_path("a.json"), NULL};
    const char *options[] = {images(), NULL};
    assert_int_equal(fixture_open(&f, "vqa", sources, options), STATUS_OK);
    const struct sample *s = fixture_good(&f, 0);
    assert_rejects(s, 0, "q.json: line 1, column 16: question 1 has no annotation");
    assert_rejects(s, 1, "there is no \"question\"");
    fixture_close(&f);
    const char *pattern[] = {images(), "pattern=%s.jpg", NULL};
    assert_int_equal(fixture_open(&f, "vqa", sources, pattern), STATUS_INVALID);
    assert_says("--pattern '%s.jpg': a name with one %d in it");
    fixture_close(&f);
    const char *only_answers[] = {fixture_path("a.json"), NULL};
    assert_int_equal(fixture_open(&f, "vqa", only_answers, options), STATUS_INVALID);
    assert_says("no questions; give the questions file");
    fixture_close(&f);
    check_open_fails("vqa", "{\"annotations\": [{\"question_id\": 7}, {\"question_id\": 7}]}",
                     STATUS_CORRUPT, "a second annotation of question 7");
    check_open_fails("vqa", "{\"other\": []}", STATUS_INVALID,
                     "neither \"questions\" nor \"annotations\"");
}

/* ---- Karpathy -----------------------------------------------------------------------------------
 */

static void test_karpathy(void **state)
{
    (void)state;
    fixture_png("img/val2014/n.png", 9, 9, 3);
    fixture_text(
        "split.json",
        "{\"images\": [{\"filepath\": \"val2014\", \"filename\": \"n.png\", \"split\": "
        "\"test\", \"sentences\": [{\"raw\": \"One. \", \"sentid\": 3, \"tokens\": []}, "
        "{\"raw\": \"Two.\", \"sentid\": 4}]},\n"
        "{\"filename\": \"000000000007.jpg\", \"split\": \"train\", \"sentences\": []},\n"
        "{\"filename\": \"000000000008.jpg\", \"split\": \"restval\", \"sentences\": [{}]}], "
        "\"dataset\": \"coco\"}");
    struct fixture f;
    const char *sources[] = {fixture_path("split.json"), NULL};
    const char *test[] = {images(), "split=test,restval", NULL};
    assert_int_equal(fixture_open(&f, "karpathy", sources, test), STATUS_OK);
    assert_int_equal(f.source.num_items, 2);
    const struct sample *s = fixture_good(&f, 0);
    assert_string_equal(s->images[0].key, "val2014/n.png");
    assert_text(s, 0, "One.");
    assert_string_equal(s->texts[1].key, "4");
    assert_int_equal(fixture_fetch(&f, 1), STATUS_INVALID);
    assert_says("split.json: line 3, column 1: there is no \"raw\"");
    fixture_close(&f);
    const char *none[] = {images(), "split=dev", NULL};
    assert_int_equal(fixture_open(&f, "karpathy", sources, none), STATUS_INVALID);
    assert_says("no images of split dev");
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coco_joined),
        cmocka_unit_test(test_coco_alone),
        cmocka_unit_test(test_coco_names_objects),
        cmocka_unit_test(test_coco_refuses),
        cmocka_unit_test(test_mdetr),
        cmocka_unit_test(test_refcoco),
        cmocka_unit_test(test_vqa),
        cmocka_unit_test(test_vqa_refuses),
        cmocka_unit_test(test_karpathy),
    };
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
