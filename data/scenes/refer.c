/*
 * Referring expressions: properties that single an object out ("the small red circle", "the circle
 * in the top left corner"), its relation to one that can be singled out ("the circle above the blue
 * star"), or the outermost of its kind ("the leftmost circle"). Each is judged against every
 * object: it must fit its own clearly and all others clearly not.
 */
#include "data/scenes/phrase.h"

enum { REFER_STREAM = 3 << 20, REFER_TRIES = 40 };

static bool refer_properties(const struct scene *scene, struct scene_rng *rng, struct sentence *s,
                             int object)
{
    struct description what;
    bool place = scene_rng_chance(rng, 40);
    unsigned allowed = WITH_SIZE | WITH_COLOUR | WITH_SHAPE | (place ? WITH_REGION : 0u);
    if (!identify(scene, rng, object, allowed, &what)) return false;
    /* People say more than they must: the kind, and often the colour. */
    if (scene_rng_chance(rng, 80)) what.shape = (int8_t)scene->object[object].shape;
    if (scene_rng_chance(rng, 60)) what.colour = (int8_t)scene->object[object].colour;
    phrase_objects(s, rng, &what, ARTICLE_THE, 1, 0);
    if (what.region != ANY) {
        phrase_text(s, " ");
        phrase_region(s, rng, what.region);
    }
    return true;
}

static unsigned draw_kind(struct scene_rng *rng)
{
    static const unsigned kinds[] = {WITH_SHAPE, WITH_COLOUR | WITH_SHAPE, WITH_COLOUR,
                                     WITH_SHAPE | WITH_SIZE};
    return kinds[scene_rng_below(rng, 4)];
}

static bool refer_relation(const struct scene *scene, struct scene_rng *rng, struct sentence *s,
                           int object)
{
    int landmark = scene_rng_below(rng, scene->num_objects);
    struct description what = describe(scene, object, draw_kind(rng));
    struct description mark;
    enum scene_relation relation = (enum scene_relation)scene_rng_below(rng, RELATION_COUNT);
    if (landmark == object ||
        !identify(scene, rng, landmark, WITH_SIZE | WITH_COLOUR | WITH_SHAPE, &mark)) {
        return false;
    }
    for (int i = 0; i < scene->num_objects; i++) {
        if (i == landmark || scene_matches(scene, i, &what) != TRUTH_YES) continue;
        enum truth wanted = i == object ? TRUTH_YES : TRUTH_NO;
        if (scene_related(scene, i, relation, landmark) != wanted) return false;
    }
    phrase_objects(s, rng, &what, ARTICLE_THE, 1, 0);
    phrase_text(s, " ");
    phrase_relation(s, rng, relation);
    phrase_text(s, " ");
    phrase_objects(s, rng, &mark, ARTICLE_THE, 1, 0);
    return true;
}

/* How far the object lies in one of the four directions. */
static int reach(const struct scene_object *object, int direction)
{
    const int reaches[4] = {-object->x, object->x, -object->y, object->y};
    return reaches[direction];
}

static bool refer_outermost(const struct scene *scene, struct scene_rng *rng, struct sentence *s,
                            int object)
{
    static const char *const words[4][WORD_SYNONYMS] = {
        {"leftmost"}, {"rightmost"}, {"topmost", "uppermost", "highest"}, {"lowest", "bottommost"}};
    struct description what = describe(scene, object, draw_kind(rng));
    int direction = scene_rng_below(rng, 4);
    int others = 0;
    for (int i = 0; i < scene->num_objects; i++) {
        if (i == object || scene_matches(scene, i, &what) != TRUTH_YES) continue;
        int ahead = reach(&scene->object[object], direction) - reach(&scene->object[i], direction);
        if (ahead < SCENE_UNIT / 16) return false;
        others++;
    }
    if (others == 0) return false;
    phrase_text(s, "the ");
    phrase_word(s, rng, words[direction]);
    phrase_text(s, " ");
    phrase_objects(s, rng, &what, ARTICLE_NONE, 1, 0);
    return true;
}

static bool refer(const struct scene *scene, struct scene_rng *rng, struct sentence *s, int object)
{
    int sort = scene_rng_below(rng, 10);
    if (sort < 4) return refer_properties(scene, rng, s, object);
    if (sort < 7) return refer_relation(scene, rng, s, object);
    return refer_outermost(scene, rng, s, object);
}

bool scene_expression(const struct scene *scene, int k, struct sentence *sentence, int *object)
{
    struct scene_rng rng = scene_rng_init(scene, (uint64_t)REFER_STREAM + (uint64_t)k);
    /* Each k prefers its own object, so that several expressions cover several objects. */
    int start = scene_rng_below(&rng, scene->num_objects);
    for (int i = 0; i < scene->num_objects; i++) {
        *object = (start + i + k) % scene->num_objects;
        for (int tries = 0; tries < REFER_TRIES; tries++) {
            *sentence = (struct sentence){0};
            if (!refer(scene, &rng, sentence, *object)) continue;
            sentence->mention[0] = (struct mention){0, sentence->length, 1u << *object};
            sentence->num_mentions = 1;
            return true;
        }
    }
    return false;
}
