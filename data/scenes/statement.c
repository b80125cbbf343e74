/*
 * Statements. A true one is read off the scene. A false one starts from a true one and has one
 * thing changed (a colour, a relation, a number), which is what makes it hard to tell apart. Both
 * are judged, and drawn again until the verdict is the wanted one and clear.
 */
#include "data/scenes/phrase.h"

enum { STATEMENT_STREAM = 2 << 20, STATEMENT_TRIES = 200 };

static int draw_object(const struct scene *scene, struct scene_rng *rng)
{
    return scene_rng_below(rng, scene->num_objects);
}

/* A colour, shape or size other than `old`, that of another object more often than not. */
static int8_t draw_other(const struct scene *scene, struct scene_rng *rng, unsigned property,
                         int old, int bound)
{
    if (scene_rng_chance(rng, 60)) {
        struct description other = describe(scene, draw_object(scene, rng), property);
        int value = property == WITH_COLOUR  ? other.colour
                    : property == WITH_SHAPE ? other.shape
                                             : other.size;
        if (value != old) return (int8_t)value;
    }
    return (int8_t)((old + 1 + scene_rng_below(rng, bound - 1)) % bound);
}

/* Changes one property that the description has. */
static void spoil(const struct scene *scene, struct scene_rng *rng, struct description *what)
{
    for (;;) {
        int property = scene_rng_below(rng, 4);
        if (property == 0 && what->size != ANY) {
            what->size = draw_other(scene, rng, WITH_SIZE, what->size, SIZE_COUNT);
        } else if (property == 1 && what->colour != ANY) {
            what->colour = draw_other(scene, rng, WITH_COLOUR, what->colour, COLOUR_COUNT);
        } else if (property == 2 && what->shape != ANY) {
            what->shape = draw_other(scene, rng, WITH_SHAPE, what->shape, SHAPE_COUNT);
        } else if (property == 3 && what->region != ANY) {
            what->region = (int8_t)((what->region + 1 + scene_rng_below(rng, REGION_COUNT - 1)) %
                                    REGION_COUNT);
        } else {
            continue;
        }
        return;
    }
}

static unsigned draw_kind(struct scene_rng *rng)
{
    static const unsigned kinds[] = {WITH_COLOUR | WITH_SHAPE,
                                     WITH_COLOUR | WITH_SHAPE,
                                     WITH_COLOUR | WITH_SHAPE | WITH_SIZE,
                                     WITH_SHAPE,
                                     WITH_COLOUR,
                                     WITH_SHAPE | WITH_SIZE};
    return kinds[scene_rng_below(rng, 6)];
}

static struct description draw_description(const struct scene *scene, struct scene_rng *rng,
                                           unsigned more)
{
    return describe(scene, draw_object(scene, rng), draw_kind(rng) | more);
}

static struct proposition draw_background(const struct scene *scene, struct scene_rng *rng,
                                          bool want)
{
    struct proposition p = {PROP_BACKGROUND, DESCRIPTION_ANY, DESCRIPTION_ANY, .tone = ANY,
                            .texture = ANY};
    if (scene_rng_chance(rng, 50)) {
        p.tone = (scene->tone + (want ? 0 : 1 + scene_rng_below(rng, TONE_COUNT - 1))) % TONE_COUNT;
    } else {
        p.texture = (scene->texture + (want ? 0 : 1 + scene_rng_below(rng, TEXTURE_COUNT - 1))) %
                    TEXTURE_COUNT;
    }
    return p;
}

static struct proposition draw_all(const struct scene *scene, struct scene_rng *rng, bool want)
{
    static const unsigned kinds[] = {WITH_SHAPE, WITH_COLOUR, WITH_SIZE};
    int group = scene_rng_below(rng, 3);
    int common = (group + 1 + scene_rng_below(rng, 2)) % 3;
    int object = draw_object(scene, rng);
    struct proposition p = {PROP_ALL, describe(scene, object, kinds[group]),
                            describe(scene, object, kinds[common]), .tone = ANY, .texture = ANY};
    if (!want && scene_rng_chance(rng, 40)) spoil(scene, rng, &p.b);
    return p;
}

static struct proposition draw_proposition(const struct scene *scene, struct scene_rng *rng,
                                           bool want)
{
    int kind = scene_rng_below(rng, scene->num_objects == 1 ? 5 : 16);
    struct proposition p = {PROP_EXISTS, DESCRIPTION_ANY, DESCRIPTION_ANY, .tone = ANY,
                            .texture = ANY};
    if (kind == 0) return draw_background(scene, rng, want);
    if (kind < 5) {
        p.a = draw_description(scene, rng, kind < 3 ? WITH_REGION : 0);
        if (!want) spoil(scene, rng, &p.a);
    } else if (kind < 10) {
        p.kind = PROP_RELATION;
        p.a = draw_description(scene, rng, 0);
        p.b = draw_description(scene, rng, 0);
        p.relation = (enum scene_relation)scene_rng_below(rng, RELATION_COUNT);
        if (!want && scene_rng_chance(rng, 40)) spoil(scene, rng, &p.a);
    } else if (kind < 12) {
        p.kind = PROP_COUNT;
        p.a = draw_description(scene, rng, 0);
        p.count = 1 + scene_rng_below(rng, scene->num_objects);
    } else if (kind < 15) {
        p.kind = kind < 14 ? PROP_MORE : PROP_SAME;
        unsigned property = scene_rng_chance(rng, 50) ? WITH_SHAPE : WITH_COLOUR;
        p.a = describe(scene, draw_object(scene, rng), property);
        p.b = describe(scene, draw_object(scene, rng), property);
        if (scene_rng_chance(rng, 25)) spoil(scene, rng, &p.b);
        if (p.a.shape == p.b.shape && p.a.colour == p.b.colour)
            p = draw_background(scene, rng, want);
    } else {
        return draw_all(scene, rng, want);
    }
    return p;
}

/* ---- words --------------------------------------------------------------------------------------
 */

static void say_exists(struct sentence *s, struct scene_rng *rng, const struct proposition *p)
{
    static const char *const openings[] = {"there is ", "there is ", "the picture shows ",
                                           "the picture contains ", "there is "};
    bool placed = p->a.region != ANY;
    if (placed && scene_rng_chance(rng, 40)) { /* A red circle is in the top left corner */
        phrase_objects(s, rng, &p->a, ARTICLE_A, 1, 0);
        phrase_text(s, " is ");
        phrase_region(s, rng, p->a.region);
        return;
    }
    phrase_text(s, openings[scene_rng_below(rng, 5)]);
    phrase_objects(s, rng, &p->a, ARTICLE_A, 1, 0);
    if (placed) {
        phrase_text(s, " ");
        phrase_region(s, rng, p->a.region);
    }
}

static void say_count(struct sentence *s, struct scene_rng *rng, const struct proposition *p)
{
    phrase_text(s, p->count == 1 ? "there is exactly one " : "there are exactly ");
    phrase_objects(s, rng, &p->a, p->count == 1 ? ARTICLE_NONE : ARTICLE_A, p->count, 0);
}

static void say_all(struct sentence *s, struct scene_rng *rng, const struct proposition *p)
{
    bool every = scene_rng_chance(rng, 35);
    phrase_text(s, every ? "every " : "all the ");
    phrase_objects(s, rng, &p->a, ARTICLE_NONE, every ? 1 : 2, 0);
    phrase_text(s, every ? " is " : " are ");
    if (p->b.shape != ANY) {
        phrase_objects(s, rng, &p->b, every ? ARTICLE_A : ARTICLE_NONE, every ? 1 : 2, 0);
    } else if (p->b.colour != ANY) {
        phrase_word(s, rng, scene_colour_words[p->b.colour].name.word);
    } else {
        phrase_word(s, rng, scene_size_words[p->b.size].word);
    }
}

static void say_background(struct sentence *s, struct scene_rng *rng, const struct proposition *p)
{
    phrase_text(s, "the background is ");
    phrase_word(s, rng,
                p->tone != ANY ? scene_tone_words[p->tone].name.word
                               : scene_texture_words[p->texture].word);
}

static void say(struct sentence *s, struct scene_rng *rng, const struct proposition *p)
{
    switch (p->kind) {
    case PROP_EXISTS:
        say_exists(s, rng, p);
        break;
    case PROP_COUNT:
        say_count(s, rng, p);
        break;
    case PROP_RELATION:
        phrase_objects(s, rng, &p->a, ARTICLE_A, 1, 0);
        phrase_text(s, " is ");
        phrase_relation(s, rng, p->relation);
        phrase_text(s, " ");
        phrase_objects(s, rng, &p->b, ARTICLE_A, 1, 0);
        break;
    case PROP_MORE:
    case PROP_SAME:
        phrase_text(s, p->kind == PROP_MORE ? "there are more " : "there are as many ");
        phrase_objects(s, rng, &p->a, ARTICLE_NONE, 2, 0);
        phrase_text(s, p->kind == PROP_MORE ? " than " : " as ");
        phrase_objects(s, rng, &p->b, ARTICLE_NONE, 2, 0);
        break;
    case PROP_ALL:
        say_all(s, rng, p);
        break;
    case PROP_BACKGROUND:
    case PROP_NUM_KINDS:
        say_background(s, rng, p);
        break;
    }
}

void scene_statement(const struct scene *scene, int k, struct sentence *sentence, bool *truth)
{
    struct scene_rng rng = scene_rng_init(scene, (uint64_t)STATEMENT_STREAM + (uint64_t)k);
    *sentence = (struct sentence){0};
    *truth = scene_rng_chance(&rng, 50);
    enum truth wanted = *truth ? TRUTH_YES : TRUTH_NO;
    struct proposition p = draw_proposition(scene, &rng, *truth);
    for (int i = 0; scene_judge(scene, &p) != wanted; i++) {
        /* The background's verdict is always clear, so this ends. */
        p = i < STATEMENT_TRIES ? draw_proposition(scene, &rng, *truth)
                                : draw_background(scene, &rng, *truth);
    }
    say(sentence, &rng, &p);
    phrase_claim(sentence, &p);
    phrase_finish(sentence, ".");
}
