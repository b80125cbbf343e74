#include "data/scenes/phrase.h"

#include <ctype.h>
#include <string.h>

void phrase_text(struct sentence *s, const char *text)
{
    size_t length = strlen(text);
    size_t room = sizeof s->text - 1 - (size_t)s->length;
    if (length > room)
        length = room; /* never: the longest sentence is far shorter, see the tests */
    memcpy(s->text + s->length, text, length);
    s->length += (int)length;
    s->text[s->length] = '\0';
}

void phrase_word(struct sentence *s, struct scene_rng *rng, const char *const synonyms[])
{
    int count = 1;
    while (count < WORD_SYNONYMS && synonyms[count]) {
        count++;
    }
    int choice = scene_rng_chance(rng, 66) ? 0 : scene_rng_below(rng, count);
    phrase_text(s, synonyms[choice]);
}

static bool starts_with_vowel(const char *word)
{
    return strchr("aeiou", word[0]) != NULL;
}

/* Puts "a " or "an " in front of what was written from `start` on. */
static void insert_article(struct sentence *s, int start)
{
    const char *article = starts_with_vowel(s->text + start) ? "an " : "a ";
    size_t length = strlen(article);
    if ((size_t)s->length + length >= sizeof s->text) return;
    memmove(s->text + start + length, s->text + start, (size_t)(s->length - start) + 1);
    memcpy(s->text + start, article, length);
    s->length += (int)length;
}

static void mention(struct sentence *s, int begin, unsigned objects)
{
    if (!objects || s->num_mentions == SENTENCE_MENTIONS) return;
    s->mention[s->num_mentions++] = (struct mention){begin, s->length, objects};
}

void phrase_objects(struct sentence *s, struct scene_rng *rng, const struct description *what,
                    enum article article, int count, unsigned objects)
{
    int begin = s->length;
    if (article == ARTICLE_THE) phrase_text(s, "the ");
    if (article == ARTICLE_ANOTHER) phrase_text(s, "another ");
    if (article == ARTICLE_A && count != 1) {
        phrase_text(s, scene_number_words[count]);
        phrase_text(s, " ");
    }
    int start = s->length;
    if (what->size != ANY) {
        phrase_word(s, rng, scene_size_words[what->size].word);
        phrase_text(s, " ");
    }
    if (what->colour != ANY) {
        phrase_word(s, rng, scene_colour_words[what->colour].name.word);
        phrase_text(s, " ");
    }
    const struct scene_noun *noun =
        what->shape == ANY ? &scene_any_shape_words : &scene_shape_words[what->shape];
    phrase_word(s, rng, count == 1 ? noun->singular : noun->plural);
    if (article == ARTICLE_A && count == 1) insert_article(s, start);
    mention(s, begin, objects);
}

void phrase_region(struct sentence *s, struct scene_rng *rng, int region)
{
    static const char *const words[REGION_COUNT][WORD_SYNONYMS] = {
        [REGION_TOP_LEFT] = {"in the top left corner", "in the upper left", "at the top left"},
        [REGION_TOP] = {"at the top", "near the top edge", "in the top middle"},
        [REGION_TOP_RIGHT] = {"in the top right corner", "in the upper right", "at the top right"},
        [REGION_LEFT] = {"on the left", "on the left side", "near the left edge"},
        [REGION_MIDDLE] = {"in the middle", "in the centre", "in the centre of the picture"},
        [REGION_RIGHT] = {"on the right", "on the right side", "near the right edge"},
        [REGION_BOTTOM_LEFT] = {"in the bottom left corner", "in the lower left",
                                "at the bottom left"},
        [REGION_BOTTOM] = {"at the bottom", "near the bottom edge", "in the bottom middle"},
        [REGION_BOTTOM_RIGHT] = {"in the bottom right corner", "in the lower right",
                                 "at the bottom right"},
    };
    phrase_word(s, rng, words[region]);
}

void phrase_relation(struct sentence *s, struct scene_rng *rng, enum scene_relation relation)
{
    static const char *const words[RELATION_COUNT][WORD_SYNONYMS] = {
        [RELATION_LEFT] = {"to the left of", "left of"},
        [RELATION_RIGHT] = {"to the right of", "right of"},
        [RELATION_ABOVE] = {"above"},
        [RELATION_BELOW] = {"below", "beneath"},
        [RELATION_ABOVE_LEFT] = {"above and to the left of"},
        [RELATION_ABOVE_RIGHT] = {"above and to the right of"},
        [RELATION_BELOW_LEFT] = {"below and to the left of"},
        [RELATION_BELOW_RIGHT] = {"below and to the right of"},
    };
    phrase_word(s, rng, words[relation]);
}

void phrase_background(struct sentence *s, struct scene_rng *rng, int tone, int texture)
{
    int start = s->length;
    if (texture != ANY) {
        phrase_word(s, rng, scene_texture_words[texture].word);
        phrase_text(s, " ");
    }
    if (tone != ANY) {
        phrase_word(s, rng, scene_tone_words[tone].name.word);
        phrase_text(s, " ");
    }
    phrase_text(s, "background");
    insert_article(s, start);
}

void phrase_claim(struct sentence *s, const struct proposition *claim)
{
    if (s->num_claims < SENTENCE_CLAIMS) s->claim[s->num_claims++] = *claim;
}

void phrase_finish(struct sentence *s, const char *stop)
{
    s->text[0] = (char)toupper((unsigned char)s->text[0]);
    phrase_text(s, stop);
}

struct description describe(const struct scene *scene, int object, unsigned mask)
{
    const struct scene_object *o = &scene->object[object];
    struct description what = DESCRIPTION_ANY;
    if (mask & WITH_SIZE) what.size = (int8_t)o->size;
    if (mask & WITH_COLOUR) what.colour = (int8_t)o->colour;
    if (mask & WITH_SHAPE) what.shape = (int8_t)o->shape;
    if (mask & WITH_REGION) what.region = (int8_t)scene_region_of(scene, object);
    return what;
}

bool identify(const struct scene *scene, struct scene_rng *rng, int object, unsigned allowed,
              struct description *what)
{
    /* All subsets, those with fewer properties first; among equals from a random start. */
    unsigned turn = (unsigned)scene_rng_below(rng, 16);
    for (int wanted = 1; wanted <= 4; wanted++) {
        for (unsigned i = 0; i < 16; i++) {
            unsigned mask = i ^ turn;
            if ((mask & ~allowed) || scene_mask_count(mask) != wanted) continue;
            struct description candidate = describe(scene, object, mask);
            if ((mask & WITH_REGION) && candidate.region == ANY) continue;
            unsigned objects = 0;
            if (scene_select(scene, &candidate, &objects) && objects == 1u << object) {
                *what = candidate;
                return true;
            }
        }
    }
    return false;
}
