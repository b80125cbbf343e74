/* nlvr, nlvr2, flickr30k, webdataset, scenes: importers with formats of their own. needs=tar */
#include "tests/data/import/fixture.h"

#include "data/import/flickr_markup.h"
#include "data/import/vqa_text.h"

/* ---- NLVR ---------------------------------------------------------------------------------------
 */

static void make_nlvr(void)
{
    char name[64];
    for (int k = 0; k < 6; k++) {
        snprintf(name, sizeof name, "nlvr/dev/images/4/dev-12-0-%d.png", k);
        fixture_png(name, 400, 100, k);
    }
    fixture_text(
        "nlvr/dev/dev.json",
        "{\"sentence\": \"There is a black square.\", \"label\": \"true\", \"identifier\": "
        "\"12-0\", \"directory\": \"4\", \"evals\": {\"r0\": \"true\"}, \"structured_rep\": "
        "[[{\"y_loc\": 80, \"type\": \"triangle\", \"color\": \"#0099ff\", \"x_loc\": 70, "
        "\"size\": 20}], [], [{\"y_loc\": 5, \"type\": \"square\", \"color\": \"Black\", "
        "\"x_loc\": 1, \"size\": 10}]]}\n"
        "{\"sentence\": \"x\", \"label\": \"maybe\", \"identifier\": \"12-0\", "
        "\"directory\": \"4\", \"structured_rep\": [[], [], []]}\n"
        "{\"sentence\": \"x\", \"label\": \"false\", \"identifier\": \"12-0\", "
        "\"directory\": \"4\", \"structured_rep\": [[], []]}\n"
        "{\"sentence\": \"x\", \"label\": \"false\", \"identifier\": \"12-0\", "
        "\"directory\": \"4\", \"structured_rep\": [[], [], [{\"type\": \"star\", \"color\": "
        "\"Black\"}]]}\n"
        "{\"sentence\": \"x\", \"label\": \"false\", \"identifier\": \"12-1\", "
        "\"directory\": \"4\", \"structured_rep\": [[], [], []]}\n");
}

static void check_nlvr(const char *path, const char *const *options)
{
    struct fixture f;
    const char *sources[] = {path, NULL};
    assert_int_equal(fixture_open(&f, "nlvr", sources, options), STATUS_OK);
    assert_int_equal(f.source.num_items, 5);
    assert_int_equal(f.source.num_categories, 9);
    const struct sample *s = fixture_good(&f, 0);
    assert_int_equal(s->num_images, 6);
    assert_int_equal(s->num_texts, 6);
    assert_int_equal(s->num_boxes, 12);
    for (int k = 0; k < 6; k++) {
        assert_int_equal(s->texts[k].image, k);
        assert_int_equal(s->texts[k].kind, TEXT_STATEMENT);
        assert_int_equal(s->texts[k].label, TEXT_LABEL_TRUE);
        assert_string_equal(s->texts[k].key, "12-0");
    }
    assert_string_equal(s->images[3].key, "4/dev-12-0-3.png");
    /* Picture 0 shows the boxes in order 0 1 2, picture 3 in order 1 2 0. */
    assert_box(s, 0, 70, 80, 90, 100);
    assert_string_equal(f.source.categories[s->boxes[0].category], "blue triangle");
    assert_box(s, 1, 301, 5, 311, 15);
    assert_string_equal(f.source.categories[s->boxes[1].category], "black square");
    assert_int_equal(s->boxes[6].image, 3);
    assert_box(s, 6, 151, 5, 161, 15);
    assert_box(s, 7, 370, 80, 390, 100);
    assert_int_equal(fixture_fetch(&f, 1), STATUS_INVALID);
    assert_says("dev.json: line 2, column 1: \"label\" is 'maybe'");
    assert_int_equal(fixture_fetch(&f, 2), STATUS_INVALID);
    assert_says("\"structured_rep\" has 2 boxes, not 3");
    assert_int_equal(fixture_fetch(&f, 3), STATUS_INVALID);
    assert_says("\"type\": 'star' does not occur");
    assert_int_equal(fixture_fetch(&f, 4), STATUS_NOT_FOUND);
    assert_says("no file '4/dev-12-1-0.png'");
    fixture_close(&f);
}

static void test_nlvr(void **state)
{
    (void)state;
    make_nlvr();
    check_nlvr(fixture_path("nlvr/dev/dev.json"), NULL);
    char command[512];
    snprintf(command, sizeof command, "cd '%s/nlvr' && tar -cf ../dev.tar dev", fixture_folder);
    assert_int_equal(system(command), 0);
    check_nlvr(fixture_path("dev.tar/dev/dev.json"), NULL);
    struct fixture f;
    const char *sources[] = {fixture_path("nlvr/dev/dev.json"), NULL};
    const char *without[] = {"boxes=no", NULL};
    assert_int_equal(fixture_open(&f, "nlvr", sources, without), STATUS_OK);
    assert_int_equal(fixture_good(&f, 0)->num_boxes, 0);
    fixture_close(&f);
}

/* Only true sentences are captions; the pictures of a false one stay, without a text. */
static void test_nlvr_captions(void **state)
{
    (void)state;
    char name[64];
    for (int k = 0; k < 12; k++) {
        snprintf(name, sizeof name, "true/dev/images/4/dev-12-%d-%d.png", k / 6, k % 6);
        fixture_png(name, 400, 100, k);
    }
    fixture_text("true/dev/dev.json",
                 "{\"sentence\": \"There is a box.\", \"label\": \"True\", \"identifier\": "
                 "\"12-0\", \"directory\": \"4\", \"structured_rep\": [[], [], []]}\n"
                 "{\"sentence\": \"There is a dog.\", \"label\": \"false\", \"identifier\": "
                 "\"12-1\", \"directory\": \"4\", \"structured_rep\": [[], [], []]}\n");
    struct fixture f;
    const char *sources[] = {fixture_path("true/dev/dev.json"), NULL};
    const char *options[] = {"captions=yes", NULL};
    assert_int_equal(fixture_open(&f, "nlvr", sources, options), STATUS_OK);
    const struct sample *s = fixture_good(&f, 0);
    assert_int_equal(s->num_images, 6);
    assert_int_equal(s->num_texts, 6);
    for (int k = 0; k < 6; k++) {
        assert_text(s, k, "There is a box.");
        assert_int_equal(s->texts[k].image, k);
        assert_int_equal(s->texts[k].kind, TEXT_CAPTION);
        assert_int_equal(s->texts[k].label, TEXT_LABEL_NONE);
    }
    s = fixture_good(&f, 1);
    assert_int_equal(s->num_images, 6);
    assert_int_equal(s->num_texts, 0);
    uint64_t fingerprint = f.source.fingerprint;
    fixture_close(&f);
    assert_int_equal(fixture_open(&f, "nlvr", sources, NULL), STATUS_OK);
    assert_true(f.source.fingerprint != fingerprint);
    s = fixture_good(&f, 1);
    assert_int_equal(s->num_texts, 6);
    assert_int_equal(s->texts[0].kind, TEXT_STATEMENT);
    fixture_close(&f);
    const char *bad[] = {"captions=perhaps", NULL};
    assert_int_equal(fixture_open(&f, "nlvr", sources, bad), STATUS_INVALID);
    assert_says("captions");
    fixture_close(&f);
}

static void test_nlvr2(void **state)
{
    (void)state;
    fixture_png("n2/7/train-5-1-img0.png", 9, 9, 1);
    fixture_png("n2/7/train-5-1-img1.png", 8, 9, 2);
    fixture_png("n2/dev-850-0-img0.png", 9, 9, 3);
    fixture_png("n2/dev-850-0-img1.png", 9, 9, 4);
    fixture_text("n2/all.json",
                 "{\"identifier\": \"train-5-1-0\", \"sentence\": \"a\", \"label\": \"True\", "
                 "\"directory\": 7}\n"
                 "{\"identifier\": \"dev-850-0-0\", \"sentence\": \"b\", \"label\": \"False\"}\n"
                 "{\"identifier\": \"train-5-1-1\", \"sentence\": \"c\", \"label\": \"False\", "
                 "\"directory\": 7}\n"
                 "{\"identifier\": \"dev-9-0-0\", \"sentence\": \"b\", \"label\": \"False\"}\n"
                 "{\"sentence\": \"b\", \"label\": \"False\"}\n"
                 "not json\n");
    struct fixture f;
    const char *sources[] = {fixture_path("n2/all.json"), NULL};
    assert_int_equal(fixture_open(&f, "nlvr2", sources, NULL), STATUS_OK);
    assert_int_equal(f.source.num_items, 5);
    const struct sample *s = fixture_good(&f, 0);
    assert_int_equal(s->num_images, 2);
    assert_string_equal(s->images[1].key, "7/train-5-1-img1.png");
    assert_int_equal(s->num_texts, 2);
    assert_text(s, 1, "c");
    assert_int_equal(s->texts[0].label, TEXT_LABEL_TRUE);
    assert_int_equal(s->texts[1].label, TEXT_LABEL_FALSE);
    assert_int_equal(s->texts[1].image, 0);
    assert_int_equal(s->texts[1].image2, 1);
    assert_string_equal(fixture_good(&f, 1)->images[0].key, "dev-850-0-img0.png");
    assert_int_equal(fixture_fetch(&f, 2), STATUS_NOT_FOUND);
    assert_says("all.json: line 4, column 1: no file 'dev-9-0-img0.png'");
    assert_int_equal(fixture_fetch(&f, 3), STATUS_INVALID);
    assert_says("there is no \"identifier\"");
    assert_int_equal(fixture_fetch(&f, 4), STATUS_CORRUPT);
    assert_says("all.json: line 6");
    fixture_close(&f);
}

/* ---- Flickr30k Entities -------------------------------------------------------------------------
 */

static void test_flickr_sentences(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct flickr_sentence s;
    const char *line = "[/EN#1/people A m\xc3\xa4n] in [/EN#22/clothing/other a shirt] .";
    assert_int_equal(flickr_parse_sentence(line, (int64_t)strlen(line), &arena, &s), STATUS_OK);
    assert_string_equal(s.text, "A m\xc3\xa4n in a shirt .");
    assert_int_equal(s.num_phrases, 2);
    assert_int_equal(s.phrase[0].begin, 0);
    assert_int_equal(s.phrase[0].end, 5);
    assert_int_equal(s.phrase[1].chain, 22);
    assert_int_equal(s.phrase[1].begin, 9);
    assert_int_equal(s.phrase[1].end, 16);
    static const struct {
        const char *line, *message;
    } rows[] = {
        {"a [/EN#1/people man", "column 3: a bracket is opened and never closed"},
        {"a man] b", "column 6: a bracket is closed that was not opened"},
        {"[/EN#1/people]", "column 1: a bracket without"},
        {"[/EN#1/people ]", "column 1: a bracket without"},
        {"[a man]", "column 1: a bracket without"},
        {"[/EN#x/people a]", "column 1: no number after"},
        {"[/EN#12 a man]", "no number after"},
        {"[/EN#99999999999999999999999/x a]", "no number after"},
        {"[/EN#1/people a [b]", "column 1: a bracket within a bracket"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t length = (int64_t)strlen(rows[i].line);
        assert_int_equal(flickr_parse_sentence(rows[i].line, length, &arena, &s), STATUS_INVALID);
        assert_says(rows[i].message);
    }
    arena_fini(&arena);
}

static void test_flickr_boxes(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct flickr_boxes boxes;
    const char *xml =
        "<?xml version=\"1.0\"?>\n<!-- note -->\n<annotation>\n<filename>1.jpg</filename>\n"
        "<size><width> 500 </width><height>375</height><depth>3</depth></size>\n"
        "<object><name>1</name><name>2</name><bndbox id=\"a\"><xmin>3</xmin><ymin>4</ymin>"
        "<xmax>50</xmax><ymax>60</ymax></bndbox></object>\n"
        "<object><name>9</name><scene>1</scene><nobndbox>1</nobndbox></object>\n<empty/>\n"
        "<object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
        "<name>1</name></object>\n</annotation>\n";
    assert_int_equal(flickr_parse_boxes(xml, (int64_t)strlen(xml), &arena, &boxes), STATUS_OK);
    assert_int_equal(boxes.width, 500);
    assert_int_equal(boxes.height, 375);
    assert_int_equal(boxes.count, 3);
    assert_int_equal(boxes.first->chain, 1);
    assert_int_equal(boxes.first->next->chain, 2);
    assert_int_equal(boxes.first->next->xyxy[3], 60);
    assert_int_equal(boxes.first->next->next->xyxy[0], 1);
    static const struct {
        const char *xml, *message;
    } rows[] = {
        {"<a>", "line 1: the file ends within an element"},
        {"<a><b></a></b>", "an element is closed that is not open"},
        {"</a>", "an element is closed that is not open"},
        {"<a\n", "the file ends within a tag"},
        {"<>", "a tag without a name"},
        {"<!DOCTYPE x><a/>", "a document type"},
        {"<a>\n<object><name>x</name></object></a>", "line 2: not a whole number"},
        {"<a><object><name>1</name><bndbox><xmin>1</xmin></bndbox></object></a>", "lacks a corner"},
        {"<a><object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
         "</object></a>",
         "a bndbox without a name"},
        {"<a><!-- ", "ends within a tag or comment"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t length = (int64_t)strlen(rows[i].xml);
        assert_int_equal(flickr_parse_boxes(rows[i].xml, length, &arena, &boxes), STATUS_INVALID);
        assert_says(rows[i].message);
    }
    arena_fini(&arena);
}

static void test_flickr(void **state)
{
    (void)state;
    fixture_png("ent/flickr30k-images/36.jpg", 50, 40, 1);
    fixture_text("ent/Sentences/36.txt",
                 "[/EN#5/people A man] and [/EN#5/people his twin] sit .\r\n"
                 "[/EN#6/scene A room] .\n"
                 "broken ]\n"
                 "plain\n");
    fixture_text(
        "ent/Annotations/36.xml",
        "<annotation><size><width>50</width><height>40</height></size><object><name>5"
        "</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>20</ymax></bndbox>"
        "</object><object><name>5</name><bndbox><xmin>11</xmin><ymin>2</ymin><xmax>20"
        "</xmax><ymax>20</ymax></bndbox></object></annotation>");
    fixture_text("ent/Sentences/37.txt", "text\n");
    fixture_text("ent/val.txt", "36\r\n\n");
    struct fixture f;
    const char *sources[] = {fixture_path("ent"), NULL};
    assert_int_equal(fixture_open(&f, "flickr30k", sources, NULL), STATUS_OK);
    assert_int_equal(f.source.num_items, 2);
    const struct sample *s = fixture_good(&f, 0);
    assert_int_equal(s->num_texts, 3);
    assert_text(s, 0, "A man and his twin sit .");
    assert_string_equal(s->texts[2].key, "36#3");
    assert_int_equal(s->num_boxes, 2);
    assert_box(s, 0, 0, 1, 10, 20);
    assert_int_equal(s->num_spans, 4);
    assert_span(s, 0, 0, 0, 5);
    assert_span(s, 1, 0, 10, 18);
    assert_rejects(s, 0, "Sentences/36.txt: line 3: column 8: a bracket is closed");
    assert_int_equal(fixture_fetch(&f, 1), STATUS_NOT_FOUND);
    assert_says("no file 'Annotations/37.xml'");
    fixture_close(&f);
    char split[600];
    snprintf(split, sizeof split, "split=%s/ent/val.txt", fixture_folder);
    const char *options[] = {split, NULL};
    assert_int_equal(fixture_open(&f, "flickr30k", sources, options), STATUS_OK);
    assert_int_equal(f.source.num_items, 1);
    fixture_close(&f);
    fixture_png("ent/flickr30k-images/36.jpg", 51, 40, 1);
    assert_int_equal(fixture_open(&f, "flickr30k", sources, options), STATUS_OK);
    assert_int_equal(fixture_fetch(&f, 0), STATUS_INVALID);
    assert_says("the picture is 51 x 40, the annotations say 50 x 40");
    fixture_close(&f);
}

/* ---- WebDataset ---------------------------------------------------------------------------------
 */

static void test_webdataset(void **state)
{
    (void)state;
    fixture_png("web/s/000.jpg", 9, 9, 1);
    fixture_text("web/s/000.txt", "first\n");
    fixture_text("web/s/000.json", "{\"caption\": \"unused\"}");
    fixture_png("web/s/001.x.png", 9, 9, 2);
    fixture_text("web/s/001.json", "{\"caption\": \"from json\", \"url\": 1}");
    fixture_text("web/s/002.txt", "no picture");
    fixture_png("web/s/003.png", 9, 9, 2);
    fixture_png("web/s/004.png", 9, 9, 2);
    fixture_png("web/s/004.jpg", 9, 9, 2);
    fixture_text("web/s/004.txt", "two pictures");
    fixture_png("web/s/005.png", 9, 9, 2);
    fixture_text("web/s/005.json", "{\"text\": \"other field\"}");
    char command[512];
    snprintf(
        command, sizeof command,
        "cd '%s/web' && tar --sort=name -cf ../w0.tar s && tar -cf ../w1.tar s/000.jpg s/000.txt",
        fixture_folder);
    assert_int_equal(system(command), 0);
    struct fixture f;
    const char *sources[] = {fixture_path("w0.tar"), fixture_path("w1.tar"), NULL};
    assert_int_equal(fixture_open(&f, "webdataset", sources, NULL), STATUS_OK);
    assert_int_equal(f.source.num_items, 7);
    const struct sample *s = fixture_good(&f, 0);
    assert_int_equal(s->num_texts, 1);
    assert_text(s, 0, "first");
    assert_string_equal(s->images[0].key, "s/000.jpg");
    assert_text(fixture_good(&f, 1), 0, "from json");
    assert_int_equal(fixture_fetch(&f, 2), STATUS_INVALID);
    assert_says("w0.tar: s/002 has no picture");
    assert_int_equal(fixture_fetch(&f, 3), STATUS_INVALID);
    assert_says("s/003 has no caption (neither .txt nor .json)");
    assert_int_equal(fixture_fetch(&f, 4), STATUS_INVALID);
    assert_says("two members of one kind: s/004.jpg and s/004.png");
    assert_int_equal(fixture_fetch(&f, 5), STATUS_INVALID);
    assert_says("w0.tar: s/005.json: there is no \"caption\"");
    assert_text(fixture_good(&f, 6), 0, "first");
    fixture_close(&f);
    fixture_text("w2.tar",
                 "this is no archive, but it is long enough to have a header, is it not? "
                 "this is no archive, but it is long enough to have a header, is it not? "
                 "this is no archive, but it is long enough to have a header, is it not? "
                 "this is no archive, but it is long enough to have a header, is it not? "
                 "this is no archive, but it is long enough to have a header, is it not? "
                 "this is no archive, but it is long enough to have a header, is it not? "
                 "this is no archive, but it is long enough to have a header, is it not? "
                 "this is no archive, but it is long enough to have a header, is it not? ");
    const char *bad[] = {fixture_path("w2.tar"), NULL};
    assert_int_equal(fixture_open(&f, "webdataset", bad, NULL), STATUS_INVALID);
    assert_says("w2.tar: not a tar file");
    fixture_close(&f);
}

/* ---- scenes -------------------------------------------------------------------------------------
 */

static void test_scenes(void **state)
{
    (void)state;
    struct fixture f;
    const char *none[] = {NULL};
    const char *options[] = {"count=40",    "difficulty=1,4", "size=64",       "captions=2",
                             "questions=3", "statements=2",   "expressions=2", NULL};
    assert_int_equal(fixture_open(&f, "scenes", none, options), STATUS_OK);
    assert_int_equal(f.source.num_items, 40);
    assert_int_equal(f.source.num_categories, 10);
    for (int item = 0; item < 40; item++) {
        fixture_good(&f, item);
        f.sample.images[0].width = f.sample.images[0].height = 64;
        assert_int_equal(sample_clean(&f.sample, 10), STATUS_OK);
        assert_int_equal(f.sample.num_rejects, 0);
        assert_in_range(f.sample.num_texts, 8, 9);
        struct image_info info;
        assert_int_equal(
            image_probe(f.sample.images[0].bytes, (size_t)f.sample.images[0].size, &info),
            STATUS_OK);
        assert_int_equal(info.width, 64);
    }
    fixture_fetch(&f, 7);
    char kept[2][700];
    snprintf(kept[0], sizeof kept[0], "%s %s", f.sample.images[0].key, f.sample.texts[0].text);
    fixture_close(&f);
    /* The same scene in a smaller set; another one in the other splits. */
    const char *fewer[] = {"count=8", "difficulty=1,4", "size=100", NULL};
    assert_int_equal(fixture_open(&f, "scenes", none, fewer), STATUS_OK);
    fixture_good(&f, 7);
    snprintf(kept[1], sizeof kept[1], "%s %s", f.sample.images[0].key, f.sample.texts[0].text);
    assert_string_equal(kept[0], kept[1]);
    fixture_close(&f);
    const char *test_split[] = {"count=8", "difficulty=1,4", "split=test", NULL};
    assert_int_equal(fixture_open(&f, "scenes", none, test_split), STATUS_OK);
    fixture_good(&f, 7);
    assert_string_equal(f.sample.images[0].key, "scene-0-4-2199023255559");
    fixture_close(&f);
}

static void test_scenes_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *option, *message;
    } rows[] = {
        {"difficulty=5", "--difficulty 5: a number from 1 to 4"},
        {"difficulty=1,", "--difficulty 1,"},
        {"difficulty=12", "--difficulty 12"},
        {"split=dev", "--split dev: train, val or test"},
        {"size=32", "--size 32: must be within 64 and 512"},
        {"count=0", "--count 0"},
        {"captions=x", "--captions x: not a whole number"},
        {"boxes=maybe", "--boxes maybe: must be yes or no"},
    };
    const char *none[] = {NULL};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fixture f;
        const char *options[] = {rows[i].option, NULL};
        assert_int_equal(fixture_open(&f, "scenes", none, options), STATUS_INVALID);
        assert_says(rows[i].message);
        fixture_close(&f);
    }
}

/* ---- VQA's answers ------------------------------------------------------------------------------
 */

/* Expectations from the public evaluation code's rules, worked by hand. */
static void test_vqa_normalise(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } rows[] = {
        {"Yes", "yes"},
        {"The red dog", "red dog"},
        {"a an the", ""},
        {"two", "2"},
        {"None", "0"},
        {"ten men", "10 men"},
        {"eleven", "eleven"},
        {"dont know", "don't know"},
        {"Isnt", "isn't"},
        {"it's", "it's"},
        {"Im here", "im here"},
        {"St. Louis", "st louis"},
        {"3.5", "3.5"},
        {"3. 5", "3 5"},
        {"red/blue", "red blue"},
        {"red / blue", "red blue"},
        {"yes, sir", "yes sir"},
        {"a-b, c", "b c"},
        {"1,000", "1000"},
        {"1,000-2", "10002"},
        {"what?!", "what"},
        {"  two   words\t\n", "2 words"},
        {"(left)", "left"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct strbuf out = {0};
        vqa_normalise(rows[i].from, (int64_t)strlen(rows[i].from), &out);
        assert_string_equal(out.text, rows[i].to);
        strbuf_fini(&out);
    }
    static const float scores[] = {0.0f, 0.3f, 0.6f, 0.9f, 1.0f, 1.0f};
    for (int count = 0; count <= 5; count++) {
        assert_true(vqa_score(count) == scores[count]);
    }
    assert_true(vqa_score(10) == 1.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nlvr),           cmocka_unit_test(test_nlvr_captions),
        cmocka_unit_test(test_nlvr2),          cmocka_unit_test(test_flickr_sentences),
        cmocka_unit_test(test_flickr_boxes),   cmocka_unit_test(test_flickr),
        cmocka_unit_test(test_webdataset),     cmocka_unit_test(test_scenes),
        cmocka_unit_test(test_scenes_refuses), cmocka_unit_test(test_vqa_normalise),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
