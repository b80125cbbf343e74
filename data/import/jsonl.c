/*
 * jsonl: one JSON object a line, with a picture's path, captions, and perhaps boxes. Lines with the
 * same path belong to one picture and make one item.
 *
 * The index holds 8 bytes a line; a line is parsed once to group it, and again when it is fetched.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/import/common.h"
#include "runtime/base/strbuf.h"

enum { MAX_FIELDS = 16, MAX_NAME = 64 };

struct lines {
    struct library library;
    struct folder folder;
    struct input file;
    char image_field[MAX_NAME];
    char boxes_field[MAX_NAME];
    const char *caption_field[MAX_FIELDS];
    int num_caption_fields;
    const char *template;        /* NULL: none */
    struct int_list offsets;     /* of the lines that are not blank, and the end of the file */
    struct grouping items;       /* of lines, by path */
    struct int_map category;     /* row of a category, by the hash of its name */
    const char **category_names; /* [category.count], owned, names in the library's arena */
};

static const struct import_option options[] = {
    IMPORT_OPTION_IMAGES,
    {"image-field", "image", "the field with the picture's path"},
    {"caption-field", "caption,captions",
     "fields with captions (a string, or an array of them), separated by commas"},
    {"template", NULL, "one caption made from fields instead: \"a drawing of {name}, {keywords}\""},
    {"boxes-field", "boxes", "the field with an array of boxes"},
    {NULL, NULL, NULL},
};

/* ---- opening ------------------------------------------------------------------------------------
 */

static enum status copy_name(const struct import_args *args, const char *option, char *name)
{
    const char *value = import_value(args, option);
    CHECK(strlen(value) < MAX_NAME && *value, STATUS_INVALID, "--%s '%s': a name of 1 to %d bytes",
          option, value, MAX_NAME - 1);
    snprintf(name, MAX_NAME, "%s", value);
    return STATUS_OK;
}

static enum status parse_options(struct lines *set, const struct import_args *args)
{
    TRY(copy_name(args, "image-field", set->image_field));
    TRY(copy_name(args, "boxes-field", set->boxes_field));
    const char *template = import_value(args, "template");
    if (template) {
        set->template = arena_strdup(&set->library.arena, template);
        CHECK(set->template, STATUS_NO_MEMORY, "no memory for a template");
    }
    char *fields = arena_strdup(&set->library.arena, import_value(args, "caption-field"));
    CHECK(fields, STATUS_NO_MEMORY, "no memory for a list of fields");
    for (char *rest = fields, *field = strsep(&rest, ","); field; field = strsep(&rest, ",")) {
        CHECK(set->num_caption_fields < MAX_FIELDS, STATUS_INVALID,
              "--caption-field: more than %d fields", (int)MAX_FIELDS);
        set->caption_field[set->num_caption_fields++] = field;
    }
    return STATUS_OK;
}

static enum status add_categories(struct lines *set, const struct json_value *line)
{
    const struct json_value *boxes = json_get(line, set->boxes_field);
    if (!boxes || boxes->type != JSON_ARRAY) return STATUS_OK;
    for (const struct json_value *box = boxes->child; box; box = box->next) {
        const struct json_value *name = json_get(box, "category");
        if (!name || name->type != JSON_STRING) continue;
        int64_t count = set->category.count;
        int64_t row = 0;
        TRY(int_map_put(&set->category, group_key(name->text, name->length), count, &row));
        if (row < count) continue;
        const char **names =
            realloc(set->category_names, (size_t)(count + 1) * sizeof *set->category_names);
        CHECK(names, STATUS_NO_MEMORY, "no memory for %lld categories", (long long)count + 1);
        set->category_names = names;
        names[count] = arena_strdup(&set->library.arena, name->text);
        CHECK(names[count], STATUS_NO_MEMORY, "no memory for a category");
    }
    return STATUS_OK;
}

/* Groups lines by path and collects categories. A line that cannot be read, or has no path, is an
 * item of its own, which fails when it is fetched. */
static enum status group_lines(struct lines *set)
{
    int64_t rows = set->offsets.count - 1;
    uint64_t *keys = malloc((size_t)rows * sizeof *keys);
    CHECK(keys, STATUS_NO_MEMORY, "%s: no memory for %lld lines", set->file.path, (long long)rows);
    struct arena arena = {0};
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < rows && status == STATUS_OK; i++) {
        struct json_value *line = NULL;
        enum status read = common_read_line(&set->file, &set->offsets, i, &arena, &line);
        if (read == STATUS_IO || read == STATUS_NO_MEMORY) status = read;
        const struct json_value *path = NULL;
        if (read == STATUS_OK && json_get_string(line, set->image_field, &path) == STATUS_OK) {
            keys[i] = group_key(path->text, path->length);
            status = add_categories(set, line);
        } else {
            keys[i] = group_key((const char *)&i, sizeof i);
        }
        arena_fini(&arena);
    }
    if (status == STATUS_OK) status = group_rows(keys, rows, &set->items);
    free(keys);
    return status;
}

static void jsonl_close(struct import_source *source)
{
    struct lines *set = source->state;
    if (!set) return;
    library_fini(&set->library);
    group_fini(&set->items);
    int_map_fini(&set->category);
    free(set->category_names);
    free(set->offsets.value);
    free(set);
    source->state = NULL;
}

static enum status open_set(struct lines *set, const struct import_args *args, uint64_t *hash)
{
    TRY(parse_options(set, args));
    TRY(library_open(&set->library, args->sources[0], &set->file));
    TRY(common_images(&set->library, args, &set->folder));
    TRY(common_lines(&set->file, &set->offsets));
    TRY(group_lines(set));
    for (int i = 0; args->options[i].name; i++) {
        const char *value = args->values[i] ? args->values[i] : "";
        if (strcmp(args->options[i].name, "images") == 0) continue;
        *hash = import_hash(*hash, value, (int64_t)strlen(value));
    }
    return input_hash(&set->file, hash);
}

static enum status jsonl_open(struct import_source *source, const struct import_args *args)
{
    struct lines *set = calloc(1, sizeof *set);
    CHECK(set, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = set;
    enum status status = open_set(set, args, &source->fingerprint);
    source->num_items = set->items.num_groups;
    source->categories = set->category_names;
    source->num_categories = set->category.count;
    if (status != STATUS_OK) jsonl_close(source);
    return status;
}

/* ---- captions -----------------------------------------------------------------------------------
 */

static enum status add_caption(struct sample *sample, const char *text, int64_t length)
{
    return sample_add_text(sample, TEXT_CAPTION, 0, text, length, NULL, NULL);
}

static enum status add_captions(const struct lines *set, const struct json_value *line,
                                struct sample *sample)
{
    for (int i = 0; i < set->num_caption_fields; i++) {
        const struct json_value *field = json_get(line, set->caption_field[i]);
        if (!field || field->type == JSON_NULL) continue;
        if (field->type == JSON_STRING) {
            TRY(add_caption(sample, field->text, field->length));
            continue;
        }
        CHECK(field->type == JSON_ARRAY, STATUS_INVALID,
              "\"%s\" is %s where a caption or an array of captions should be",
              set->caption_field[i], json_type_name(field->type));
        for (const struct json_value *text = field->child; text; text = text->next) {
            CHECK(text->type == JSON_STRING, STATUS_INVALID,
                  "\"%s\" has %s where a caption should be", set->caption_field[i],
                  json_type_name(text->type));
            TRY(add_caption(sample, text->text, text->length));
        }
    }
    return STATUS_OK;
}

/* Appends a field's value: strings and numbers as they are, arrays with ", " between. */
static enum status put_field(struct strbuf *out, const struct json_value *value, const char *name)
{
    const char *comma = "";
    if (value->type == JSON_STRING) {
        strbuf_append_bytes(out, value->text, (size_t)value->length);
    } else if (value->type == JSON_NUMBER && value->whole) {
        strbuf_printf(out, "%lld", (long long)value->integer);
    } else if (value->type == JSON_NUMBER) {
        strbuf_printf(out, "%g", value->number);
    } else if (value->type == JSON_ARRAY) {
        for (const struct json_value *v = value->child; v; v = v->next) {
            strbuf_append(out, comma);
            TRY(put_field(out, v, name));
            comma = ", ";
        }
    } else {
        return status_fail(STATUS_INVALID, "\"%s\" is %s, which makes no text", name,
                           json_type_name(value->type));
    }
    return STATUS_OK;
}

static enum status fill_template(const struct lines *set, const struct json_value *line,
                                 struct strbuf *out)
{
    for (const char *p = set->template; *p;) {
        const char *close = *p == '{' ? strchr(p, '}') : NULL;
        if (!close) {
            strbuf_append_bytes(out, p++, 1);
            continue;
        }
        char name[MAX_NAME];
        size_t length = (size_t)(close - p - 1);
        CHECK(length < sizeof name, STATUS_INVALID,
              "--template: a field name of more than %d bytes", MAX_NAME - 1);
        memcpy(name, p + 1, length);
        name[length] = '\0';
        const struct json_value *value = json_get(line, name);
        CHECK(value, STATUS_INVALID, "there is no \"%s\", which --template asks for", name);
        TRY(put_field(out, value, name));
        p = close + 1;
    }
    CHECK(!out->failed, STATUS_NO_MEMORY, "no memory for a caption");
    return STATUS_OK;
}

static enum status add_template(const struct lines *set, const struct json_value *line,
                                struct sample *sample)
{
    struct strbuf text = {0};
    enum status status = fill_template(set, line, &text);
    if (status == STATUS_OK) {
        status = add_caption(sample, text.text ? text.text : "", (int64_t)text.length);
    }
    strbuf_fini(&text);
    return status;
}

/* ---- boxes --------------------------------------------------------------------------------------
 */

static enum status box_corners(const struct json_value *box, float xyxy[4])
{
    const struct json_value *corners = json_get(box, "xyxy");
    const struct json_value *extent = json_get(box, "bbox");
    double v[4];
    CHECK(!corners != !extent, STATUS_INVALID,
          "a box needs one of \"bbox\" [x, y, width, height] and \"xyxy\" [x0, y0, x1, y1]");
    TRY(json_four_numbers(corners ? corners : extent, corners ? "xyxy" : "bbox", v));
    if (extent) {
        common_xywh(v, xyxy);
        return STATUS_OK;
    }
    for (int i = 0; i < 4; i++) {
        xyxy[i] = (float)v[i];
    }
    return STATUS_OK;
}

/* The span of `phrase`, which must occur once in the text. */
static enum status add_phrase(struct sample *sample, int32_t box, const struct sample_text *text,
                              const struct json_value *phrase)
{
    size_t length = (size_t)phrase->length;
    const char *found = memmem(text->text, (size_t)text->length, phrase->text, length);
    CHECK(length > 0 && found, STATUS_INVALID, "the phrase \"%s\" does not occur in its caption",
          phrase->text);
    size_t rest = (size_t)(text->text + text->length - found - 1);
    CHECK(!memmem(found + 1, rest, phrase->text, length), STATUS_INVALID,
          "the phrase \"%s\" occurs more than once in its caption; give \"spans\"", phrase->text);
    int32_t begin = common_characters(text->text, found - text->text);
    return sample_add_span(sample, box, begin, begin + common_characters(found, phrase->length));
}

static enum status add_box(const struct lines *set, const struct json_value *value,
                           int32_t first_text, struct sample *sample)
{
    float xyxy[4];
    int32_t box = 0;
    int64_t caption = 0;
    CHECK(value->type == JSON_OBJECT, STATUS_INVALID, "a box is %s where an object should be",
          json_type_name(value->type));
    TRY(box_corners(value, xyxy));
    const struct json_value *spans = json_get(value, "spans");
    const struct json_value *phrase = json_get(value, "phrase");
    const struct json_value *category = json_get(value, "category");
    if (json_get(value, "caption")) TRY(json_get_int(value, "caption", &caption));
    TRY(sample_add_box(sample, 0, xyxy, &box));
    if (category) {
        CHECK(category->type == JSON_STRING, STATUS_INVALID, "\"category\" is %s, not a name",
              json_type_name(category->type));
        uint64_t key = group_key(category->text, category->length);
        sample->boxes[box].category = (int32_t)int_map_get(&set->category, key);
    }
    if (!spans && !phrase) return STATUS_OK;
    CHECK(caption >= 0 && caption < sample->num_texts - first_text, STATUS_INVALID,
          "a box belongs to caption %lld of %d", (long long)caption,
          sample->num_texts - first_text);
    sample->boxes[box].text = first_text + (int32_t)caption;
    if (spans) return common_add_spans(sample, box, spans, "spans");
    CHECK(phrase->type == JSON_STRING, STATUS_INVALID, "\"phrase\" is %s, not a text",
          json_type_name(phrase->type));
    return add_phrase(sample, box, &sample->texts[sample->boxes[box].text], phrase);
}

/* A bad box costs itself, not the picture. Spans that it left behind go with it when packing. */
static enum status add_boxes(const struct lines *set, const struct json_value *line,
                             int32_t first_text, struct sample *sample)
{
    const struct json_value *boxes = json_get(line, set->boxes_field);
    if (!boxes || boxes->type == JSON_NULL) return STATUS_OK;
    CHECK(boxes->type == JSON_ARRAY, STATUS_INVALID, "\"%s\" is %s where an array should be",
          set->boxes_field, json_type_name(boxes->type));
    for (const struct json_value *box = boxes->child; box; box = box->next) {
        int32_t num_boxes = sample->num_boxes;
        int32_t num_spans = sample->num_spans;
        enum status status = add_box(set, box, first_text, sample);
        if (status == STATUS_OK) continue;
        if (status == STATUS_NO_MEMORY) return status;
        sample->num_boxes = num_boxes;
        sample->num_spans = num_spans;
        TRY(sample_reject(sample, "%s: %s", sample->images[0].key, status_message()));
    }
    return STATUS_OK;
}

/* ---- items --------------------------------------------------------------------------------------
 */

static enum status add_line(const struct lines *set, const struct json_value *line,
                            struct sample *sample)
{
    const struct json_value *path = NULL;
    TRY(json_get_string(line, set->image_field, &path));
    CHECK(path->length > 0 && (int64_t)strlen(path->text) == path->length, STATUS_INVALID,
          "\"%s\" is not a file name", set->image_field);
    if (sample->num_images == 0) {
        TRY(common_add_image(&set->folder, path->text, 0, 0, sample, NULL));
    }
    CHECK(strcmp(sample->images[0].key, path->text) == 0, STATUS_INTERNAL,
          "two paths with one hash: '%s' and '%s'", sample->images[0].key, path->text);
    int32_t first_text = sample->num_texts;
    TRY(set->template ? add_template(set, line, sample) : add_captions(set, line, sample));
    TRY(add_boxes(set, line, first_text, sample));
    const struct json_value *boxes = json_get(line, set->boxes_field);
    CHECK(sample->num_texts > first_text || boxes, STATUS_INVALID,
          "neither a caption (--caption-field) nor boxes; the line has no use");
    return STATUS_OK;
}

static enum status jsonl_fetch(const struct import_source *source, int64_t item,
                               struct sample *sample)
{
    const struct lines *set = source->state;
    for (int64_t i = set->items.first[item]; i < set->items.first[item + 1]; i++) {
        int64_t row = set->items.row[i];
        struct json_value *line = NULL;
        TRY(common_read_line(&set->file, &set->offsets, row, &sample->arena, &line));
        enum status status = add_line(set, line, sample);
        if (status != STATUS_OK) return common_at(status, &set->file, set->offsets.value[row]);
    }
    return STATUS_OK;
}

const struct importer importer_jsonl = {
    .name = "jsonl",
    .summary = "JSON lines: a picture's path, captions, and perhaps boxes",
    .usage =
        "weft pack jsonl FILE.jsonl [--images DIR] -o OUT-%05d.h5\n"
        "{\"image\": \"a.jpg\", \"caption\": \"a cat on a mat\",\n"
        " \"boxes\": [{\"bbox\": [x, y, width, height], \"phrase\": \"a cat\", \"category\": "
        "\"cat\"}]}\n"
        "\"captions\" may hold an array. A box has \"bbox\" or \"xyxy\" in pixels; for its words\n"
        "\"phrase\", or \"spans\": [[begin, end], ...] in characters, and \"caption\": N when it\n"
        "is not caption 0; \"category\" is optional. Lines with the same image are one item.",
    .options = options,
    .min_sources = 1,
    .max_sources = 1,
    .open = jsonl_open,
    .fetch = jsonl_fetch,
    .close = jsonl_close,
};
