/* scenes: pictures of coloured shapes made by weft itself (data/scenes), nothing to read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/image/image.h"
#include "data/import/import.h"
#include "data/scenes/language.h"
#include "data/scenes/render.h"
#include "data/scenes/words.h"
#include "runtime/base/strbuf.h"

/* Splits are ranges of scene numbers, far apart: no scene of one can occur in another. */
#define SPLIT_STRIDE (INT64_C(1) << 40)

enum { MAX_DIFFICULTIES = 16, MAX_TEXTS = 64, PNG_LEVEL = 4 };

struct scenes {
    int64_t seed;
    int64_t first; /* number of the first scene */
    int side;      /* pixels */
    int difficulty[MAX_DIFFICULTIES];
    int num_difficulties;
    int64_t captions, questions, statements, expressions; /* per scene */
    bool boxes;
};

static const struct import_option options[] = {
    {"count", "10000", "how many scenes"},
    {"seed", "0", "the data set's seed"},
    {"split", "train", "train, val or test: scenes that no other split has"},
    {"size", "128", "pixels a side, 64 to 512"},
    {"difficulty", "2", "1 to 4, or several to take turns: 1,2,3,4"},
    {"captions", "1", "captions a scene"},
    {"questions", "0", "questions with answers a scene"},
    {"statements", "0", "true or false statements a scene"},
    {"expressions", "0", "referring expressions a scene, each with its box"},
    {"boxes", "yes", "boxes of all objects (category: shape) and of the phrases of captions"},
    {NULL, NULL, NULL},
};

static const char *const categories[SHAPE_COUNT] = {
    "circle", "square",  "triangle", "star",  "cross",
    "ring",   "diamond", "hexagon",  "heart", "crescent",
};

static enum status parse_difficulties(struct scenes *scenes, const char *text)
{
    const char *p = text;
    for (;;) {
        CHECK(*p >= '1' && *p <= '4' && (p[1] == ',' || p[1] == '\0') &&
                  scenes->num_difficulties < MAX_DIFFICULTIES,
              STATUS_INVALID, "--difficulty %s: a number from 1 to 4, or several with commas",
              text);
        scenes->difficulty[scenes->num_difficulties++] = *p - '0';
        if (p[1] == '\0') return STATUS_OK;
        p += 2;
    }
}

static enum status parse(struct scenes *scenes, const struct import_args *args, int64_t *count)
{
    static const char *const splits[] = {"train", "val", "test"};
    int64_t side = 0;
    TRY(import_value_int(args, "count", 1, SPLIT_STRIDE, count));
    TRY(import_value_int(args, "seed", 0, INT64_MAX, &scenes->seed));
    TRY(import_value_int(args, "size", SCENE_SIDE_MIN, SCENE_SIDE_MAX, &side));
    TRY(import_value_int(args, "captions", 0, MAX_TEXTS, &scenes->captions));
    TRY(import_value_int(args, "questions", 0, MAX_TEXTS, &scenes->questions));
    TRY(import_value_int(args, "statements", 0, MAX_TEXTS, &scenes->statements));
    TRY(import_value_int(args, "expressions", 0, MAX_TEXTS, &scenes->expressions));
    TRY(import_value_bool(args, "boxes", &scenes->boxes));
    TRY(parse_difficulties(scenes, import_value(args, "difficulty")));
    scenes->side = (int)side;
    const char *split = import_value(args, "split");
    for (int i = 0; i < 3; i++) {
        if (strcmp(split, splits[i]) != 0) continue;
        scenes->first = i * SPLIT_STRIDE;
        return STATUS_OK;
    }
    return status_fail(STATUS_INVALID, "--split %s: train, val or test", split);
}

static void scenes_close(struct import_source *source)
{
    free(source->state);
    source->state = NULL;
}

static enum status scenes_open(struct import_source *source, const struct import_args *args)
{
    struct scenes *scenes = calloc(1, sizeof *scenes);
    CHECK(scenes, STATUS_NO_MEMORY, "scenes: no memory");
    source->state = scenes;
    enum status status = parse(scenes, args, &source->num_items);
    if (status != STATUS_OK) {
        scenes_close(source);
        return status;
    }
    source->categories = categories;
    source->num_categories = SHAPE_COUNT;
    source->fingerprint = import_hash(0, scenes, sizeof *scenes);
    return STATUS_OK;
}

static enum status add_picture(const struct scenes *scenes, const struct scene *scene,
                               struct sample *sample, struct scene_box *boxes)
{
    uint8_t *rgb = malloc((size_t)scenes->side * (size_t)scenes->side * 3);
    CHECK(rgb, STATUS_NO_MEMORY, "scenes: no memory for a picture");
    struct strbuf png = {0};
    struct image_view view = {rgb, scenes->side, scenes->side, (int64_t)scenes->side * 3};
    enum status status = scene_render(scene, scenes->side, rgb, boxes);
    if (status == STATUS_OK) status = image_encode_png(view, PNG_LEVEL, &png);
    uint8_t *bytes = NULL;
    if (status == STATUS_OK) {
        bytes = sample_alloc(sample, (int64_t)png.length);
        if (!bytes) status = status_fail(STATUS_NO_MEMORY, "scenes: no memory for a picture");
    }
    if (status == STATUS_OK && bytes) {
        char key[64];
        memcpy(bytes, png.text, png.length);
        snprintf(key, sizeof key, "scene-%llu-%d-%llu", (unsigned long long)scene->seed,
                 scene->difficulty, (unsigned long long)scene->index);
        status = sample_add_image(sample, bytes, (int64_t)png.length, key, NULL);
    }
    strbuf_fini(&png);
    free(rgb);
    return status;
}

/* Adds the object's box; `text` is what its spans point into, -1 for a box of its own. */
static enum status add_box(struct sample *sample, const struct scene *scene, int object,
                           const struct scene_box *boxes, int32_t text, int32_t *index)
{
    const struct scene_box *b = &boxes[object];
    const float xyxy[4] = {(float)b->x0, (float)b->y0, (float)b->x1, (float)b->y1};
    TRY(sample_add_box(sample, 0, xyxy, index));
    sample->boxes[*index].text = text;
    sample->boxes[*index].category = scene->object[object].shape;
    return STATUS_OK;
}

/* The boxes of all objects that the sentence mentions, with a span for each mention. */
static enum status add_mentions(struct sample *sample, const struct scene *scene,
                                const struct sentence *s, const struct scene_box *boxes,
                                int32_t text)
{
    for (int object = 0; object < scene->num_objects; object++) {
        int32_t box = -1;
        for (int m = 0; m < s->num_mentions; m++) {
            if (!(s->mention[m].objects & 1u << object)) continue;
            if (box < 0) TRY(add_box(sample, scene, object, boxes, text, &box));
            TRY(sample_add_span(sample, box, s->mention[m].begin, s->mention[m].end));
        }
    }
    return STATUS_OK;
}

static enum status add_captions(const struct scenes *scenes, const struct scene *scene,
                                const struct scene_box *boxes, struct sample *sample)
{
    struct sentence s;
    int32_t text = 0;
    for (int k = 0; k < scenes->captions; k++) {
        scene_caption(scene, k, &s);
        TRY(sample_add_text(sample, TEXT_CAPTION, 0, s.text, s.length, NULL, &text));
        if (scenes->boxes) TRY(add_mentions(sample, scene, &s, boxes, text));
    }
    return STATUS_OK;
}

static enum status add_tasks(const struct scenes *scenes, const struct scene *scene,
                             const struct scene_box *boxes, struct sample *sample)
{
    struct sentence s;
    int32_t text = 0;
    for (int k = 0; k < scenes->questions; k++) {
        struct scene_answer answers[SCENE_MAX_ANSWERS];
        int count = 0;
        scene_question(scene, k, &s, answers, &count);
        TRY(sample_add_text(sample, TEXT_QUESTION, 0, s.text, s.length, NULL, &text));
        for (int i = 0; i < count; i++) {
            TRY(sample_add_answer(sample, text, answers[i].text, (int64_t)strlen(answers[i].text),
                                  answers[i].score));
        }
    }
    for (int k = 0; k < scenes->statements; k++) {
        bool truth = false;
        scene_statement(scene, k, &s, &truth);
        TRY(sample_add_text(sample, TEXT_STATEMENT, 0, s.text, s.length, NULL, &text));
        sample->texts[text].label = truth ? TEXT_LABEL_TRUE : TEXT_LABEL_FALSE;
    }
    for (int k = 0; k < scenes->expressions; k++) {
        int object = 0;
        if (!scene_expression(scene, k, &s, &object)) continue; /* nothing can be told apart */
        TRY(sample_add_text(sample, TEXT_EXPRESSION, 0, s.text, s.length, NULL, &text));
        TRY(add_mentions(sample, scene, &s, boxes, text));
    }
    return STATUS_OK;
}

static enum status scenes_fetch(const struct import_source *source, int64_t item,
                                struct sample *sample)
{
    const struct scenes *scenes = source->state;
    struct scene scene;
    struct scene_box boxes[SCENE_MAX_OBJECTS];
    int difficulty = scenes->difficulty[item % scenes->num_difficulties];
    TRY(scene_generate((uint64_t)scenes->seed, (uint64_t)(scenes->first + item), difficulty,
                       &scene));
    TRY(add_picture(scenes, &scene, sample, boxes));
    for (int i = 0; scenes->boxes && i < scene.num_objects; i++) {
        int32_t box = 0;
        TRY(add_box(sample, &scene, i, boxes, -1, &box));
    }
    TRY(add_captions(scenes, &scene, boxes, sample));
    return add_tasks(scenes, &scene, boxes, sample);
}

const struct importer importer_scenes = {
    .name = "scenes",
    .summary = "generated pictures of coloured shapes with captions, questions and boxes",
    .usage =
        "weft pack scenes -o DIR/scenes-%05d.h5 [--count N] [--difficulty 1..4] ...\n"
        "No source is read. Scene i is the same whatever the count and on every machine.\n"
        "Difficulty 1: one object; 2: two and how they stand to each other; 3: three to five,\n"
        "with counting; 4: up to eight, some overlapping.",
    .options = options,
    .min_sources = 0,
    .max_sources = 0,
    .open = scenes_open,
    .fetch = scenes_fetch,
    .close = scenes_close,
};
