/*
 * Questions with answers. Answers are the usual words (never synonyms), numbers are digits, as in
 * VQAv2 after normalisation. Partly right answers ("circle" for "red circle", "top" for "top left")
 * get a part of the score.
 */
#include <stdio.h>
#include <string.h>

#include "data/scenes/phrase.h"

enum { QUESTION_STREAM = 4 << 20, QUESTION_TRIES = 40 };

/* A question being made: its sentence and its answers. */
struct draft {
    const struct scene *scene;
    struct scene_rng *rng;
    struct sentence *s;
    struct scene_answer *answers;
    int num_answers;
};

static void answer(struct draft *d, const char *text, float score)
{
    if (d->num_answers == SCENE_MAX_ANSWERS) return;
    struct scene_answer *a = &d->answers[d->num_answers++];
    snprintf(a->text, sizeof a->text, "%s", text);
    a->score = score;
}

static int draw_object(struct draft *d)
{
    return scene_rng_below(d->rng, d->scene->num_objects);
}

/* "the red circle", "the circle in the top left corner": an object by other properties than `asked`
 */
static bool put_subject(struct draft *d, int object, unsigned allowed)
{
    struct description what;
    if (!identify(d->scene, d->rng, object, allowed, &what)) return false;
    phrase_objects(d->s, d->rng, &what, ARTICLE_THE, 1, 0);
    if (what.region != ANY) {
        phrase_text(d->s, " ");
        phrase_region(d->s, d->rng, what.region);
    }
    return true;
}

static bool ask_colour(struct draft *d)
{
    int object = draw_object(d);
    phrase_text(d->s, "what colour is ");
    if (!put_subject(d, object, WITH_SIZE | WITH_SHAPE | WITH_REGION)) return false;
    answer(d, scene_colour_words[d->scene->object[object].colour].name.word[0], 1);
    return true;
}

static bool ask_shape(struct draft *d)
{
    int object = draw_object(d);
    phrase_text(d->s, "what shape is ");
    int begin = d->s->length;
    if (!put_subject(d, object, WITH_SIZE | WITH_COLOUR | WITH_REGION)) return false;
    if (strstr(d->s->text + begin, "shape")) return false; /* "what shape is the red shape" */
    answer(d, scene_shape_words[d->scene->object[object].shape].singular[0], 1);
    return true;
}

static bool ask_size(struct draft *d)
{
    static const char *const sizes[SIZE_COUNT] = {"small", "medium", "large"};
    int object = draw_object(d);
    phrase_text(d->s, scene_rng_chance(d->rng, 50) ? "what size is " : "how big is ");
    if (!put_subject(d, object, WITH_COLOUR | WITH_SHAPE | WITH_REGION)) return false;
    answer(d, sizes[d->scene->object[object].size], 1);
    return true;
}

static bool ask_count(struct draft *d)
{
    static const unsigned kinds[] = {WITH_SHAPE, WITH_COLOUR, WITH_SHAPE | WITH_COLOUR, WITH_SIZE,
                                     0};
    struct description what = describe(d->scene, draw_object(d), kinds[scene_rng_below(d->rng, 5)]);
    if (scene_rng_chance(d->rng, 15)) what.shape = (int8_t)scene_rng_below(d->rng, SHAPE_COUNT);
    unsigned objects = 0;
    scene_select(d->scene, &what, &objects);
    phrase_text(d->s, "how many ");
    phrase_objects(d->s, d->rng, &what, ARTICLE_NONE, 2, 0);
    phrase_text(d->s, scene_rng_chance(d->rng, 60) ? " are there" : " are in the picture");
    char number[16];
    snprintf(number, sizeof number, "%d", scene_mask_count(objects));
    answer(d, number, 1);
    return true;
}

static bool ask_place(struct draft *d)
{
    static const char *const places[REGION_COUNT][3] = {{"top left", "top", "left"},
                                                        {"top"},
                                                        {"top right", "top", "right"},
                                                        {"left"},
                                                        {"middle"},
                                                        {"right"},
                                                        {"bottom left", "bottom", "left"},
                                                        {"bottom"},
                                                        {"bottom right", "bottom", "right"}};
    int object = draw_object(d);
    int region = scene_region_of(d->scene, object);
    if (region == ANY) return false;
    phrase_text(d->s,
                scene_rng_chance(d->rng, 60) ? "where is " : "in which part of the picture is ");
    if (!put_subject(d, object, WITH_SIZE | WITH_COLOUR | WITH_SHAPE)) return false;
    for (int i = 0; i < 3 && places[region][i]; i++) {
        answer(d, places[region][i], i == 0 ? 1.0f : 0.3f);
    }
    return true;
}

static bool ask_neighbour(struct draft *d)
{
    int landmark = draw_object(d);
    enum scene_relation relation = (enum scene_relation)scene_rng_below(d->rng, RELATION_COUNT);
    int found = ANY;
    for (int i = 0; i < d->scene->num_objects; i++) {
        if (i == landmark) continue;
        enum truth truth = scene_related(d->scene, i, relation, landmark);
        if (truth == TRUTH_UNCLEAR || (truth == TRUTH_YES && found != ANY)) return false;
        if (truth == TRUTH_YES) found = i;
    }
    if (found == ANY) return false;
    phrase_text(d->s, "what is ");
    phrase_relation(d->s, d->rng, relation);
    phrase_text(d->s, " ");
    if (!put_subject(d, landmark, WITH_SIZE | WITH_COLOUR | WITH_SHAPE)) return false;
    const struct scene_object *o = &d->scene->object[found];
    const char *shape = scene_shape_words[o->shape].singular[0];
    char both[32];
    snprintf(both, sizeof both, "%s %s", scene_colour_words[o->colour].name.word[0], shape);
    answer(d, both, 1);
    answer(d, shape, 0.6f);
    return true;
}

static void answer_yes_no(struct draft *d, bool yes)
{
    answer(d, yes ? "yes" : "no", 1);
}

static bool ask_related(struct draft *d)
{
    int a = draw_object(d);
    int b = draw_object(d);
    enum scene_relation relation = (enum scene_relation)scene_rng_below(d->rng, RELATION_COUNT);
    if (a == b) return false;
    enum truth truth = scene_related(d->scene, a, relation, b);
    enum truth wanted = scene_rng_chance(d->rng, 50) ? TRUTH_YES : TRUTH_NO;
    if (truth != wanted) return false;
    phrase_text(d->s, "is ");
    if (!put_subject(d, a, WITH_SIZE | WITH_COLOUR | WITH_SHAPE)) return false;
    phrase_text(d->s, " ");
    phrase_relation(d->s, d->rng, relation);
    phrase_text(d->s, " ");
    if (!put_subject(d, b, WITH_SIZE | WITH_COLOUR | WITH_SHAPE)) return false;
    answer_yes_no(d, truth == TRUTH_YES);
    return true;
}

static bool ask_exists(struct draft *d)
{
    bool wanted = scene_rng_chance(d->rng, 50);
    struct description what = describe(d->scene, draw_object(d), WITH_COLOUR | WITH_SHAPE);
    if (!wanted && scene_rng_chance(d->rng, 50)) {
        what.colour = (int8_t)scene_rng_below(d->rng, COLOUR_COUNT);
    } else if (!wanted) {
        what.shape = (int8_t)scene_rng_below(d->rng, SHAPE_COUNT);
    }
    unsigned objects = 0;
    scene_select(d->scene, &what, &objects);
    if ((objects != 0) != wanted) return false;
    phrase_text(d->s, "is there ");
    phrase_objects(d->s, d->rng, &what, ARTICLE_A, 1, 0);
    if (scene_rng_chance(d->rng, 30)) phrase_text(d->s, " in the picture");
    answer_yes_no(d, wanted);
    return true;
}

static bool ask_more(struct draft *d)
{
    unsigned property = scene_rng_chance(d->rng, 50) ? WITH_SHAPE : WITH_COLOUR;
    struct proposition p = {PROP_MORE, describe(d->scene, draw_object(d), property),
                            describe(d->scene, draw_object(d), property), .tone = ANY,
                            .texture = ANY};
    if (p.a.shape == p.b.shape && p.a.colour == p.b.colour) return false;
    bool wanted = scene_rng_chance(d->rng, 50);
    if ((scene_judge(d->scene, &p) == TRUTH_YES) != wanted) return false;
    phrase_text(d->s, "are there more ");
    phrase_objects(d->s, d->rng, &p.a, ARTICLE_NONE, 2, 0);
    phrase_text(d->s, " than ");
    phrase_objects(d->s, d->rng, &p.b, ARTICLE_NONE, 2, 0);
    answer_yes_no(d, wanted);
    return true;
}

static bool ask_background(struct draft *d)
{
    if (scene_rng_chance(d->rng, 60)) {
        phrase_text(d->s, "what colour is the background");
        answer(d, scene_tone_words[d->scene->tone].name.word[0], 1);
    } else {
        phrase_text(d->s, "is the background plain, striped, dotted, or checkered");
        answer(d, scene_texture_words[d->scene->texture].word[0], 1);
    }
    return true;
}

void scene_question(const struct scene *scene, int k, struct sentence *sentence,
                    struct scene_answer *answers, int *num_answers)
{
    static bool (*const asks[])(struct draft *) = {
        ask_background, ask_colour,  ask_shape,   ask_size, ask_place,     ask_exists,   ask_count,
        ask_count,      ask_related, ask_related, ask_more, ask_neighbour, ask_neighbour};
    enum { NUM_ASKS = sizeof asks / sizeof asks[0], NUM_SINGLE = 6 };
    struct scene_rng rng = scene_rng_init(scene, (uint64_t)QUESTION_STREAM + (uint64_t)k);
    struct draft draft = {scene, &rng, sentence, answers, 0};
    for (int i = 0;; i++) {
        *sentence = (struct sentence){0};
        draft.num_answers = 0;
        int kind = scene_rng_below(&rng, scene->num_objects == 1 ? NUM_SINGLE : NUM_ASKS);
        if (i >= QUESTION_TRIES) kind = 0; /* the background can always be asked for */
        if (asks[kind](&draft)) break;
    }
    *num_answers = draft.num_answers;
    phrase_finish(sentence, "?");
}
