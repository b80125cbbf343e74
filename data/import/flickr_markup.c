/*
 * The XML reader knows what these files use: elements nested to a small depth, text, comments, a
 * declaration; attributes are read over, entities stay as they are. A document type or CDATA is
 * refused rather than misread. It gives one event at a time and allocates nothing.
 */
#include "data/import/flickr_markup.h"

#include <stdlib.h>
#include <string.h>

#include "data/import/common.h"

/* ---- sentences ----------------------------------------------------------------------------------
 */

/* Parses "/EN#283585/people/clothing A man]" from text[at] on, behind the opening bracket. */
static enum status parse_phrase(const char *line, int64_t length, int64_t *at, char *plain,
                                int64_t *used, struct flickr_sentence *sentence)
{
    int64_t open = *at - 1;
    const char *close = memchr(line + *at, ']', (size_t)(length - *at));
    CHECK(close, STATUS_INVALID, "column %lld: a bracket is opened and never closed",
          (long long)open + 1);
    int64_t end = close - line;
    const char *blank = memchr(line + *at, ' ', (size_t)(end - *at));
    bool marked = end - *at > 5 && memcmp(line + *at, "/EN#", 4) == 0 && blank && blank + 1 < close;
    CHECK(marked, STATUS_INVALID, "column %lld: a bracket without /EN#ID/TYPE and words",
          (long long)open + 1);
    CHECK(!memchr(blank, '[', (size_t)(close - blank)), STATUS_INVALID,
          "column %lld: a bracket within a bracket", (long long)open + 1);
    char digits[20] = {0};
    size_t count = strspn(line + *at + 4, "0123456789");
    CHECK(count > 0 && count < sizeof digits && line[*at + 4 + (int64_t)count] == '/',
          STATUS_INVALID, "column %lld: no number after /EN#", (long long)open + 1);
    CHECK(sentence->num_phrases < FLICKR_MAX_PHRASES, STATUS_INVALID, "more than %d phrases",
          (int)FLICKR_MAX_PHRASES);
    memcpy(digits, line + *at + 4, count);
    struct flickr_phrase *phrase = &sentence->phrase[sentence->num_phrases++];
    phrase->chain = strtoll(digits, NULL, 10);
    int64_t words = close - (blank + 1);
    phrase->begin = common_characters(plain, *used);
    memcpy(plain + *used, blank + 1, (size_t)words);
    *used += words;
    phrase->end = common_characters(plain, *used);
    *at = end + 1;
    return STATUS_OK;
}

enum status flickr_parse_sentence(const char *line, int64_t length, struct arena *arena,
                                  struct flickr_sentence *sentence)
{
    sentence->num_phrases = 0;
    /* strspn above stops at the NUL that this copy ends with. */
    char *copy = arena_strndup(arena, line, (size_t)length);
    char *plain = arena_alloc(arena, (size_t)length + 1);
    CHECK(copy && plain, STATUS_NO_MEMORY, "no memory for a sentence");
    CHECK(!memchr(copy, '\0', (size_t)length), STATUS_INVALID, "a NUL character");
    int64_t used = 0;
    for (int64_t at = 0; at < length;) {
        char c = copy[at++];
        CHECK(c != ']', STATUS_INVALID, "column %lld: a bracket is closed that was not opened",
              (long long)at);
        if (c == '[') {
            TRY(parse_phrase(copy, length, &at, plain, &used, sentence));
        } else {
            plain[used++] = c;
        }
    }
    plain[used] = '\0';
    sentence->text = plain;
    sentence->length = used;
    return STATUS_OK;
}

/* ---- XML ----------------------------------------------------------------------------------------
 */

enum xml_event { XML_OPEN, XML_CLOSE, XML_TEXT, XML_END };

struct xml {
    const char *text;
    int64_t length;
    int64_t at;
    const char *name; /* of the element, or the text */
    int64_t name_length;
    bool empty; /* <name/>: a close follows */
};

static enum status xml_fail(const struct xml *xml, const char *what)
{
    int64_t line = 1;
    for (int64_t i = 0; i < xml->at && i < xml->length; i++) {
        line += xml->text[i] == '\n';
    }
    return status_fail(STATUS_INVALID, "line %lld: %s", (long long)line, what);
}

static bool starts(const struct xml *xml, const char *what)
{
    int64_t n = (int64_t)strlen(what);
    return xml->length - xml->at >= n && memcmp(xml->text + xml->at, what, (size_t)n) == 0;
}

/* Moves behind the next occurrence of `what`. */
static enum status skip_past(struct xml *xml, const char *what)
{
    size_t n = strlen(what);
    const char *found = memmem(xml->text + xml->at, (size_t)(xml->length - xml->at), what, n);
    if (!found) return xml_fail(xml, "the file ends within a tag or comment");
    xml->at = found - xml->text + (int64_t)n;
    return STATUS_OK;
}

static enum status read_tag(struct xml *xml, enum xml_event *event)
{
    xml->at++;
    *event = XML_OPEN;
    if (xml->at < xml->length && xml->text[xml->at] == '/') {
        *event = XML_CLOSE;
        xml->at++;
    }
    int64_t begin = xml->at;
    TRY(skip_past(xml, ">"));
    int64_t end = xml->at - 1;
    xml->empty = *event == XML_OPEN && end > begin && xml->text[end - 1] == '/';
    int64_t stop = begin;
    while (stop < end - xml->empty && !strchr(" \t\r\n", xml->text[stop])) {
        stop++;
    }
    if (stop == begin) return xml_fail(xml, "a tag without a name");
    xml->name = xml->text + begin;
    xml->name_length = stop - begin;
    return STATUS_OK;
}

static enum status xml_next(struct xml *xml, enum xml_event *event)
{
    if (xml->empty) {
        xml->empty = false;
        *event = XML_CLOSE;
        return STATUS_OK;
    }
    while (starts(xml, "<?") || starts(xml, "<!--")) {
        TRY(skip_past(xml, starts(xml, "<?") ? "?>" : "-->"));
    }
    if (xml->at >= xml->length) {
        *event = XML_END;
        return STATUS_OK;
    }
    if (starts(xml, "<!")) return xml_fail(xml, "a document type or CDATA is not understood here");
    if (xml->text[xml->at] == '<') return read_tag(xml, event);
    const char *end = memchr(xml->text + xml->at, '<', (size_t)(xml->length - xml->at));
    xml->name = xml->text + xml->at;
    xml->name_length = end ? end - xml->name : xml->length - xml->at;
    xml->at += xml->name_length;
    *event = XML_TEXT;
    return STATUS_OK;
}

/* ---- boxes --------------------------------------------------------------------------------------
 */

enum { MAX_DEPTH = 16, MAX_CHAINS = 64 };

/* What is known of the object that is being read. */
struct object {
    int64_t chain[MAX_CHAINS];
    int num_chains;
    int64_t value[4];
    unsigned seen; /* bits of the values that are there */
};

struct boxes_reader {
    struct xml xml;
    struct arena *arena;
    struct flickr_boxes *boxes;
    const char *name[MAX_DEPTH]; /* open elements */
    int64_t name_length[MAX_DEPTH];
    int depth;
    struct object object;
};

/* True when the open element at `depth` (1: the outermost) is called `name`. */
static bool is_open(const struct boxes_reader *r, int depth, const char *name)
{
    return r->depth >= depth && r->name_length[depth - 1] == (int64_t)strlen(name) &&
           memcmp(r->name[depth - 1], name, strlen(name)) == 0;
}

static enum status parse_number(const struct boxes_reader *r, int64_t *value)
{
    const char *text = r->xml.name;
    int64_t length = r->xml.name_length;
    char digits[20] = {0};
    common_trim(&text, &length);
    if (length < 1 || length >= (int64_t)sizeof digits) return xml_fail(&r->xml, "not a number");
    memcpy(digits, text, (size_t)length);
    char *end = NULL;
    *value = strtoll(digits, &end, 10);
    if (*end) return xml_fail(&r->xml, "not a whole number");
    return STATUS_OK;
}

static enum status take_text(struct boxes_reader *r)
{
    static const char *const corners[4] = {"xmin", "ymin", "xmax", "ymax"};
    const char *text = r->xml.name;
    int64_t length = r->xml.name_length;
    common_trim(&text, &length);
    if (length == 0) return STATUS_OK;
    if (is_open(r, 2, "size") && is_open(r, 3, "width")) return parse_number(r, &r->boxes->width);
    if (is_open(r, 2, "size") && is_open(r, 3, "height")) return parse_number(r, &r->boxes->height);
    if (!is_open(r, 2, "object")) return STATUS_OK;
    if (r->depth == 3 && is_open(r, 3, "name")) {
        if (r->object.num_chains == MAX_CHAINS)
            return xml_fail(&r->xml, "an object of too many names");
        return parse_number(r, &r->object.chain[r->object.num_chains++]);
    }
    for (int i = 0; i < 4 && is_open(r, 3, "bndbox"); i++) {
        if (!is_open(r, 4, corners[i])) continue;
        r->object.seen |= 1u << i;
        return parse_number(r, &r->object.value[i]);
    }
    return STATUS_OK;
}

static enum status finish_object(struct boxes_reader *r)
{
    if (r->object.seen == 0) return STATUS_OK; /* a scene, or not boxed */
    if (r->object.seen != 15) return xml_fail(&r->xml, "a bndbox that lacks a corner");
    if (r->object.num_chains == 0) return xml_fail(&r->xml, "a bndbox without a name");
    for (int i = 0; i < r->object.num_chains; i++) {
        struct flickr_box *box = arena_alloc(r->arena, sizeof *box);
        CHECK(box, STATUS_NO_MEMORY, "no memory for a box");
        box->chain = r->object.chain[i];
        memcpy(box->xyxy, r->object.value, sizeof box->xyxy);
        box->next = r->boxes->first;
        r->boxes->first = box;
        r->boxes->count++;
    }
    return STATUS_OK;
}

static enum status take_tag(struct boxes_reader *r, enum xml_event event)
{
    if (event == XML_OPEN) {
        if (r->depth == MAX_DEPTH) return xml_fail(&r->xml, "elements nested too deep");
        r->name[r->depth] = r->xml.name;
        r->name_length[r->depth++] = r->xml.name_length;
        if (r->depth == 2 && is_open(r, 2, "object")) r->object = (struct object){0};
        return STATUS_OK;
    }
    bool matches = r->depth > 0 && r->name_length[r->depth - 1] == r->xml.name_length &&
                   memcmp(r->name[r->depth - 1], r->xml.name, (size_t)r->xml.name_length) == 0;
    if (!matches) return xml_fail(&r->xml, "an element is closed that is not open");
    if (r->depth == 2 && is_open(r, 2, "object")) TRY(finish_object(r));
    r->depth--;
    return STATUS_OK;
}

/* Boxes were put in front one by one: turn the list round. */
static void reverse(struct flickr_boxes *boxes)
{
    struct flickr_box *turned = NULL;
    while (boxes->first) {
        struct flickr_box *box = boxes->first;
        boxes->first = box->next;
        box->next = turned;
        turned = box;
    }
    boxes->first = turned;
}

enum status flickr_parse_boxes(const char *xml, int64_t length, struct arena *arena,
                               struct flickr_boxes *boxes)
{
    struct boxes_reader r = {
        .xml = {.text = xml, .length = length}, .arena = arena, .boxes = boxes};
    enum xml_event event = XML_TEXT;
    *boxes = (struct flickr_boxes){0};
    for (;;) {
        TRY(xml_next(&r.xml, &event));
        if (event == XML_END) break;
        TRY(event == XML_TEXT ? take_text(&r) : take_tag(&r, event));
    }
    if (r.depth > 0) return xml_fail(&r.xml, "the file ends within an element");
    reverse(boxes);
    return STATUS_OK;
}
