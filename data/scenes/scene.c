/*
 * Layout: a background, then objects placed one after the other by rejection. All numbers come from
 * one stream in a fixed order, and a layout that does not fit is redone with the numbers that
 * follow, so the result stays a function of (seed, index, difficulty). Integer arithmetic only.
 *
 * Overlap is judged by the circles around the shapes, not by pixels: it must not depend on the
 * picture size. Two circles whose centres are 0.8 of the radii's sum apart share less than a third
 * of the smaller one, and an object overlaps at most one other, so every object stays recognisable.
 */
#include "data/scenes/scene.h"

#include <string.h>

#include "data/scenes/words.h"

enum { PLACE_TRIES = 60, PICTURE_MARGIN = 40 };

struct size_range {
    int least, span; /* radius in units: least + [0, span) */
};

/* Clearly apart (1 : 1.6 : 2.4), and a small shape still has 11 pixels at the least picture size.
 */
static const struct size_range size_ranges[SIZE_COUNT] = {
    [SIZE_SMALL] = {340, 40},
    [SIZE_MEDIUM] = {550, 60},
    [SIZE_LARGE] = {830, 100},
};

struct scene_rng scene_rng_init(const struct scene *scene, uint64_t stream)
{
    static const char *const site[SCENE_NUM_DIFFICULTIES] = {"scene.1", "scene.2", "scene.3",
                                                             "scene.4"};
    struct scene_rng rng = {.index = scene->index, .stream = stream};
    rng.key = rng_key(scene->seed, RNG_SCENE, rng_site(site[scene->difficulty - 1]));
    return rng;
}

static uint32_t next_word(struct scene_rng *rng)
{
    if (rng->used % 4 == 0) {
        rng->block = rng_at(rng->key, rng->stream, rng->index, rng->used / 4);
    }
    return rng->block.word[rng->used++ % 4];
}

int scene_rng_below(struct scene_rng *rng, int bound)
{
    return (int)rng_below(next_word(rng), (uint32_t)bound);
}

bool scene_rng_chance(struct scene_rng *rng, int percent)
{
    return scene_rng_below(rng, 100) < percent;
}

static uint8_t draw_colour(struct scene_rng *rng, enum scene_tone tone)
{
    for (;;) { /* every tone has colours that stand out; test_scene.c counts them */
        int colour = scene_rng_below(rng, COLOUR_COUNT);
        if (scene_contrast((enum scene_colour)colour, tone)) return (uint8_t)colour;
    }
}

static bool same_kind(const struct scene_object *a, const struct scene_object *b)
{
    return a->shape == b->shape && a->colour == b->colour;
}

/* Fills shape, colour and size; from difficulty 3 on often like an earlier object, for counting. */
static void draw_attributes(struct scene_rng *rng, struct scene *scene, struct scene_object *object)
{
    int earlier = scene->num_objects;
    object->shape = (uint8_t)scene_rng_below(rng, SHAPE_COUNT);
    object->colour = draw_colour(rng, (enum scene_tone)scene->tone);
    object->size = (uint8_t)scene_rng_below(rng, SIZE_COUNT);
    object->turn = (int8_t)(scene_rng_below(rng, 17) - 8);
    object->shade = (int8_t)(scene_rng_below(rng, 17) - 8);
    if (earlier == 0) return;
    const struct scene_object *model = &scene->object[scene_rng_below(rng, earlier)];
    int kind = scene_rng_below(rng, 100);
    if (scene->difficulty == 2) {
        if (kind < 20) object->shape = model->shape;
        if (kind >= 20 && kind < 40) object->colour = model->colour;
        while (same_kind(object, model)) {
            object->colour = draw_colour(rng, (enum scene_tone)scene->tone);
        }
    } else {
        if (kind < 55) object->shape = model->shape;
        if (kind < 35 || (kind >= 55 && kind < 70)) object->colour = model->colour;
    }
}

/* True when `object` keeps its distance from all placed ones; counts overlaps per object. */
static bool fits(const struct scene *scene, const struct scene_object *object, bool *overlapped)
{
    int touched = -1;
    for (int i = 0; i < scene->num_objects; i++) {
        const struct scene_object *other = &scene->object[i];
        int64_t dx = object->x - other->x;
        int64_t dy = object->y - other->y;
        int64_t sum = object->radius + other->radius;
        int64_t square = dx * dx + dy * dy;
        int64_t apart = sum + 60;
        if (square >= apart * apart) continue;
        if (scene->difficulty < 4 || touched >= 0 || overlapped[i]) return false;
        if (100 * square < 64 * sum * sum) return false; /* 0.8 of the radii's sum, squared */
        touched = i;
    }
    overlapped[scene->num_objects] = touched >= 0;
    if (touched >= 0) overlapped[touched] = true;
    return true;
}

static bool place(struct scene_rng *rng, struct scene *scene, struct scene_object *object,
                  bool *overlapped)
{
    const struct size_range *range = &size_ranges[object->size];
    object->radius = range->least + scene_rng_below(rng, range->span);
    int least = object->radius + PICTURE_MARGIN;
    for (int i = 0; i < PLACE_TRIES; i++) {
        object->x = least + scene_rng_below(rng, SCENE_UNIT - 2 * least);
        object->y = least + scene_rng_below(rng, SCENE_UNIT - 2 * least);
        if (fits(scene, object, overlapped)) return true;
    }
    return false;
}

/* One object alone: a cell of the 3 x 3 grid is drawn first, so that all nine are equally likely.
 */
static void place_alone(struct scene_rng *rng, struct scene_object *object)
{
    const struct size_range *range = &size_ranges[object->size];
    object->radius = range->least + scene_rng_below(rng, range->span);
    int least = object->radius + PICTURE_MARGIN;
    int cell = scene_rng_below(rng, 9);
    int32_t *axis[2] = {&object->x, &object->y};
    int place[2] = {cell % 3, cell / 3};
    for (int i = 0; i < 2; i++) {
        int outer =
            SCENE_UNIT * 34 / 100 - least; /* the room of an outer cell; > 0 for all sizes */
        int inner = SCENE_UNIT * 12 / 100;
        int low = least + scene_rng_below(rng, outer);
        int middle = SCENE_UNIT / 2 - inner / 2 + scene_rng_below(rng, inner);
        *axis[i] = place[i] == 0 ? low : place[i] == 1 ? middle : SCENE_UNIT - low;
    }
}

static bool lay_out(struct scene_rng *rng, struct scene *scene, int wanted)
{
    bool overlapped[SCENE_MAX_OBJECTS] = {false};
    int larges = 0;
    scene->num_objects = 0;
    scene->tone = (uint8_t)scene_rng_below(rng, TONE_COUNT);
    scene->texture = (uint8_t)scene_rng_below(rng, TEXTURE_COUNT);
    scene->texture_variant = (uint8_t)scene_rng_below(rng, 12);
    while (scene->num_objects < wanted) {
        struct scene_object object = {0};
        draw_attributes(rng, scene, &object);
        if (wanted > 3 && object.size == SIZE_LARGE && larges++ >= 2) object.size = SIZE_SMALL;
        if (wanted == 1) {
            place_alone(rng, &object);
        } else if (!place(rng, scene, &object, overlapped)) {
            return false;
        }
        scene->object[scene->num_objects++] = object;
    }
    return true;
}

enum status scene_generate(uint64_t seed, uint64_t index, int difficulty, struct scene *scene)
{
    CHECK(difficulty >= 1 && difficulty <= SCENE_NUM_DIFFICULTIES, STATUS_INVALID,
          "scene difficulty %d: it is 1, 2, 3 or 4", difficulty);
    memset(scene, 0, sizeof *scene);
    scene->seed = seed;
    scene->index = index;
    scene->difficulty = difficulty;
    struct scene_rng rng = scene_rng_init(scene, SCENE_STREAM_LAYOUT);
    int wanted = difficulty;
    if (difficulty == 3) wanted = 3 + scene_rng_below(&rng, 3);
    if (difficulty == 4) wanted = 4 + scene_rng_below(&rng, 5);
    while (!lay_out(&rng, scene, wanted)) {
        /* Some draws do not fit (three large shapes across the middle): draw all again. */
    }
    return STATUS_OK;
}
