/*
 * Captions. A caption is put together from clauses: objects listed by kind with their number, one
 * object's relation to another, one object's place, and perhaps the background. A clause is drawn
 * again until what it names with "a" is the only pair or object it could mean, so that a box for
 * each mention is right; the list always works and is what remains when the others do not.
 */
#include "data/scenes/phrase.h"

enum { CAPTION_STREAM = 1 << 20, CLAUSE_TRIES = 16 };

/* Background words to say, or ANY for both. */
struct backdrop_words {
    int tone, texture;
};

static struct backdrop_words draw_backdrop(const struct scene *scene, struct scene_rng *rng,
                                           int percent)
{
    struct backdrop_words none = {ANY, ANY};
    if (!scene_rng_chance(rng, percent)) return none;
    int kind = scene_rng_below(rng, 10);
    return (struct backdrop_words){kind < 9 ? scene->tone : ANY, kind >= 3 ? scene->texture : ANY};
}

static void claim_backdrop(struct sentence *s, struct backdrop_words words)
{
    struct proposition claim = {PROP_BACKGROUND, DESCRIPTION_ANY, DESCRIPTION_ANY,
                                .tone = words.tone, .texture = words.texture};
    phrase_claim(s, &claim);
}

static void put_backdrop(struct sentence *s, struct scene_rng *rng, const char *before,
                         struct backdrop_words words, const char *after)
{
    if (words.tone == ANY && words.texture == ANY) return;
    phrase_text(s, before);
    phrase_background(s, rng, words.tone, words.texture);
    phrase_text(s, after);
    claim_backdrop(s, words);
}

static const char *on_or_against(struct scene_rng *rng)
{
    return scene_rng_chance(rng, 75) ? " on " : " against ";
}

/* ---- one object ---------------------------------------------------------------------------------
 */

static void caption_single(const struct scene *scene, struct scene_rng *rng, struct sentence *s)
{
    /* Of size, place and background at least two are said; kind and colour always. */
    static const unsigned said[] = {3, 5, 6, 7, 7, 6};
    unsigned extras = said[scene_rng_below(rng, 6)];
    struct description what = describe(scene, 0,
                                       WITH_COLOUR | WITH_SHAPE | (extras & 1 ? WITH_SIZE : 0) |
                                           (extras & 2 ? WITH_REGION : 0));
    struct backdrop_words behind = draw_backdrop(scene, rng, extras & 4 ? 100 : 0);
    bool placed = what.region != ANY;
    int form = scene_rng_below(rng, 5);
    if (form == 0 && !placed) form = 1;
    if (form == 2 && behind.tone == ANY && behind.texture == ANY) form = 3;
    if (form == 0) { /* In the top left corner there is ... */
        phrase_region(s, rng, what.region);
        phrase_text(s, " there is ");
        placed = false;
    } else if (form == 1) {
        phrase_text(s, "there is ");
    } else if (form == 2) { /* On a striped background, ... */
        put_backdrop(s, rng, "on ", behind, ", ");
        phrase_text(s, "there is ");
        behind = (struct backdrop_words){ANY, ANY};
    } else if (form == 4) {
        phrase_text(s, scene_rng_chance(rng, 50) ? "a picture of " : "an image of ");
    }
    phrase_objects(s, rng, &what, ARTICLE_A, 1, 1u);
    if (placed) {
        phrase_text(s, " ");
        phrase_region(s, rng, what.region);
    }
    put_backdrop(s, rng, on_or_against(rng), behind, "");
    struct proposition claim = {PROP_EXISTS, what, DESCRIPTION_ANY, 0, RELATION_LEFT, ANY, ANY};
    phrase_claim(s, &claim);
    phrase_finish(s, ".");
}

/* ---- clauses ------------------------------------------------------------------------------------
 */

static int draw_object(const struct scene *scene, struct scene_rng *rng)
{
    return scene_rng_below(rng, scene->num_objects);
}

static unsigned draw_kind(struct scene_rng *rng)
{
    return WITH_COLOUR | WITH_SHAPE | (scene_rng_chance(rng, 40) ? WITH_SIZE : 0u);
}

/* True when exactly one pair could be meant by the relation. */
static bool pair_is_unique(const struct scene *scene, const struct proposition *p)
{
    int pairs = 0;
    for (int i = 0; i < scene->num_objects; i++) {
        for (int j = 0; j < scene->num_objects; j++) {
            if (i == j || scene_matches(scene, i, &p->a) == TRUTH_NO ||
                scene_matches(scene, j, &p->b) == TRUTH_NO) {
                continue;
            }
            if (scene_related(scene, i, p->relation, j) != TRUTH_NO) pairs++;
        }
    }
    return pairs == 1;
}

/*
 * The article for one object: "a" at first, "the" when it was named before. False when it would
 * need "the" but its description fits another object too.
 */
static bool choose_article(const struct scene *scene, const struct sentence *s, int object,
                           const struct description *what, enum article *article)
{
    *article = ARTICLE_A;
    for (int i = 0; i < s->num_mentions; i++) {
        if (s->mention[i].objects == 1u << object) *article = ARTICLE_THE;
    }
    unsigned objects = 0;
    struct description kind = *what;
    kind.region = ANY;
    return *article == ARTICLE_A ||
           (scene_select(scene, &kind, &objects) && objects == 1u << object);
}

static bool draw_relation(const struct scene *scene, struct scene_rng *rng, int *first, int *second,
                          struct proposition *claim)
{
    for (int i = 0; i < CLAUSE_TRIES; i++) {
        *first = draw_object(scene, rng);
        *second = draw_object(scene, rng);
        struct proposition p = {PROP_RELATION, describe(scene, *first, draw_kind(rng)),
                                describe(scene, *second, draw_kind(rng)), .tone = ANY,
                                .texture = ANY};
        p.relation = (enum scene_relation)scene_rng_below(rng, RELATION_COUNT);
        if (*first == *second) continue;
        if (scene_related(scene, *first, p.relation, *second) != TRUTH_YES) continue;
        if (!pair_is_unique(scene, &p)) continue;
        *claim = p;
        return true;
    }
    return false;
}

/* "a red circle is above a blue star" and its relatives; `verb` false leaves the verb out. */
static bool clause_relation(const struct scene *scene, struct scene_rng *rng, struct sentence *s,
                            bool verb)
{
    int first = 0;
    int second = 0;
    struct proposition p;
    enum article a;
    enum article b;
    if (!draw_relation(scene, rng, &first, &second, &p) ||
        !choose_article(scene, s, first, &p.a, &a) || !choose_article(scene, s, second, &p.b, &b)) {
        return false;
    }
    bool alike = p.a.size == p.b.size && p.a.colour == p.b.colour && p.a.shape == p.b.shape;
    int form = verb ? scene_rng_below(rng, 4) : 3;
    if (form == 0 && a == ARTICLE_A) { /* To the left of B there is A */
        phrase_relation(s, rng, p.relation);
        phrase_text(s, " ");
        phrase_objects(s, rng, &p.b, b, 1, 1u << second);
        phrase_text(s, " there is ");
        phrase_objects(s, rng, &p.a, alike ? ARTICLE_ANOTHER : a, 1, 1u << first);
    } else {
        bool there = form == 1 && a == ARTICLE_A;
        if (there) phrase_text(s, "there is ");
        phrase_objects(s, rng, &p.a, a, 1, 1u << first);
        phrase_text(s, verb && !there ? " is " : " ");
        phrase_relation(s, rng, p.relation);
        phrase_text(s, " ");
        phrase_objects(s, rng, &p.b, alike ? ARTICLE_ANOTHER : b, 1, 1u << second);
    }
    phrase_claim(s, &p);
    return true;
}

/* "a red circle is in the top left corner" */
static bool clause_place(const struct scene *scene, struct scene_rng *rng, struct sentence *s)
{
    for (int i = 0; i < CLAUSE_TRIES; i++) {
        int object = draw_object(scene, rng);
        struct description what = describe(scene, object, draw_kind(rng) | WITH_REGION);
        unsigned objects = 0;
        enum article article;
        if (what.region == ANY || !scene_select(scene, &what, &objects) ||
            objects != 1u << object || !choose_article(scene, s, object, &what, &article)) {
            continue;
        }
        if (article == ARTICLE_A && scene_rng_chance(rng, 30)) {
            phrase_region(s, rng, what.region);
            phrase_text(s, " there is ");
            phrase_objects(s, rng, &what, ARTICLE_A, 1, objects);
        } else {
            phrase_objects(s, rng, &what, article, 1, objects);
            phrase_text(s, " is ");
            phrase_region(s, rng, what.region);
        }
        struct proposition claim = {PROP_EXISTS, what, DESCRIPTION_ANY, .tone = ANY,
                                    .texture = ANY};
        phrase_claim(s, &claim);
        return true;
    }
    return false;
}

/* "there are three stars", of some property that at least two objects share */
static bool clause_count(const struct scene *scene, struct scene_rng *rng, struct sentence *s)
{
    static const unsigned kinds[] = {WITH_SHAPE, WITH_COLOUR, WITH_SHAPE | WITH_COLOUR,
                                     WITH_SHAPE | WITH_SIZE};
    for (int i = 0; i < CLAUSE_TRIES; i++) {
        struct description what =
            describe(scene, draw_object(scene, rng), kinds[scene_rng_below(rng, 4)]);
        unsigned objects = 0;
        scene_select(scene, &what, &objects);
        int count = scene_mask_count(objects);
        if (count < 2) continue;
        phrase_text(s, "there are ");
        phrase_objects(s, rng, &what, ARTICLE_A, count, objects);
        struct proposition claim = {PROP_COUNT, what, DESCRIPTION_ANY, count, RELATION_LEFT,
                                    ANY,        ANY};
        phrase_claim(s, &claim);
        return true;
    }
    return false;
}

/* The kinds of object in the scene, each with those of its kind, in random order. */
struct group {
    struct description what;
    unsigned objects;
};

static int draw_groups(const struct scene *scene, struct scene_rng *rng, unsigned properties,
                       struct group *groups)
{
    unsigned seen = 0;
    int count = 0;
    for (int i = 0; i < scene->num_objects; i++) {
        if (seen & 1u << i) continue;
        struct group group = {describe(scene, i, properties), 0};
        scene_select(scene, &group.what, &group.objects);
        seen |= group.objects;
        int at = scene_rng_below(rng, count + 1);
        groups[count++] = groups[at];
        groups[at] = group;
    }
    return count;
}

/* "two red circles, a blue square, and a green star" */
static void clause_list(const struct scene *scene, struct scene_rng *rng, struct sentence *s)
{
    struct group groups[SCENE_MAX_OBJECTS + 1];
    unsigned properties = WITH_COLOUR | WITH_SHAPE;
    if (scene_rng_chance(rng, 40)) properties |= WITH_SIZE;
    int count = draw_groups(scene, rng, properties, groups);
    for (int i = 0; i < count; i++) {
        if (i > 0) phrase_text(s, count == 2 ? " and " : i == count - 1 ? ", and " : ", ");
        int members = scene_mask_count(groups[i].objects);
        phrase_objects(s, rng, &groups[i].what, ARTICLE_A, members, groups[i].objects);
        struct proposition claim = {
            PROP_COUNT, groups[i].what, DESCRIPTION_ANY, members, RELATION_LEFT, ANY, ANY};
        phrase_claim(s, &claim);
    }
}

/* ---- several objects ----------------------------------------------------------------------------
 */

static void caption_list(const struct scene *scene, struct scene_rng *rng, struct sentence *s)
{
    struct backdrop_words behind = draw_backdrop(scene, rng, 45);
    int form = scene_rng_below(rng, 3);
    if (form == 0) put_backdrop(s, rng, "on ", behind, ", ");
    if (form == 1) {
        struct proposition claim = {
            PROP_COUNT, DESCRIPTION_ANY, DESCRIPTION_ANY, scene->num_objects, RELATION_LEFT, ANY,
            ANY};
        phrase_objects(s, rng, &DESCRIPTION_ANY, ARTICLE_A, scene->num_objects,
                       (1u << scene->num_objects) - 1);
        put_backdrop(s, rng, " on ", behind, "");
        phrase_text(s, ": ");
        phrase_claim(s, &claim);
    }
    clause_list(scene, rng, s);
    if (form == 2) put_backdrop(s, rng, on_or_against(rng), behind, "");
    phrase_finish(s, ".");
}

/* Writes one clause of a random sort; false when none could be found in some tries. */
static bool clause_any(const struct scene *scene, struct scene_rng *rng, struct sentence *s,
                       bool *counted)
{
    for (int i = 0; i < 4; i++) {
        int sort = scene_rng_below(rng, *counted ? 8 : 10);
        bool done = sort < 5   ? clause_relation(scene, rng, s, true)
                    : sort < 8 ? clause_place(scene, rng, s)
                               : clause_count(scene, rng, s);
        if (done && sort >= 8) *counted = true;
        if (done) return true;
    }
    return false;
}

static void caption_clauses(const struct scene *scene, struct scene_rng *rng, struct sentence *s,
                            int clauses)
{
    static const char *const joints[] = {", and ", ", and ", ", while ", "; "};
    struct backdrop_words behind = draw_backdrop(scene, rng, 25);
    put_backdrop(s, rng, "on ", behind, ", ");
    bool counted = scene->num_objects == 2; /* two objects are not worth a count; later once */
    int written = 0;
    for (int i = 0; i < clauses; i++) {
        struct sentence kept = *s; /* a joint with nothing after it is taken back */
        if (written > 0) phrase_text(s, joints[scene_rng_below(rng, written == 1 ? 4 : 2)]);
        if (clause_any(scene, rng, s, &counted)) {
            written++;
        } else {
            *s = kept;
        }
    }
    if (written == 0) clause_list(scene, rng, s);
    phrase_finish(s, ".");
}

static void caption_pair(const struct scene *scene, struct scene_rng *rng, struct sentence *s)
{
    struct backdrop_words behind = draw_backdrop(scene, rng, 40);
    int form = scene_rng_below(rng, 10);
    if (form == 0) {
        caption_list(scene, rng, s);
    } else if (form == 1) {
        caption_clauses(scene, rng, s, 2);
    } else if (form < 6) { /* no verb: A above B on a striped background. */
        if (!clause_relation(scene, rng, s, false)) clause_list(scene, rng, s);
        put_backdrop(s, rng, on_or_against(rng), behind, "");
        phrase_finish(s, ".");
    } else {
        put_backdrop(s, rng, "on ", behind, ", ");
        if (!clause_relation(scene, rng, s, true)) clause_list(scene, rng, s);
        phrase_finish(s, ".");
    }
}

void scene_caption(const struct scene *scene, int k, struct sentence *sentence)
{
    struct scene_rng rng = scene_rng_init(scene, (uint64_t)CAPTION_STREAM + (uint64_t)k);
    *sentence = (struct sentence){0};
    if (scene->num_objects == 1) {
        caption_single(scene, &rng, sentence);
    } else if (scene->num_objects == 2) {
        caption_pair(scene, &rng, sentence);
    } else if (scene_rng_chance(&rng, scene->num_objects <= 5 ? 35 : 15)) {
        caption_list(scene, &rng, sentence);
    } else {
        caption_clauses(scene, &rng, sentence, scene->num_objects <= 5 ? 2 : 3);
    }
}
