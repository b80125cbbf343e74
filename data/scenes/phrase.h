/*
 * Scenes: the building blocks of sentences (internal to data/scenes).
 *
 * A sentence grows from left to right; phrases about objects record the span of their words.
 */
#ifndef WEFT_DATA_SCENES_PHRASE_H
#define WEFT_DATA_SCENES_PHRASE_H

#include "data/scenes/language.h"
#include "data/scenes/words.h"

enum article { ARTICLE_NONE, ARTICLE_A, ARTICLE_THE, ARTICLE_ANOTHER };

/* Appends text as it is. */
void phrase_text(struct sentence *s, const char *text);

/* Appends one of the synonyms; the usual word two times in three. */
void phrase_word(struct sentence *s, struct scene_rng *rng, const char *const synonyms[]);

/*
 * Appends "a large red circle", "the red circle", "two red circles" or "red circles" (a count other
 * than 1 makes a plural; ARTICLE_A then gives the number word) and records the mention of `objects`
 * when that is not 0. The region, if any, is not said here.
 */
void phrase_objects(struct sentence *s, struct scene_rng *rng, const struct description *what,
                    enum article article, int count, unsigned objects);

/* Appends "in the top left corner", "at the bottom", ... */
void phrase_region(struct sentence *s, struct scene_rng *rng, int region);

/* Appends "to the left of", "above", ... */
void phrase_relation(struct sentence *s, struct scene_rng *rng, enum scene_relation relation);

/* Appends "a striped light blue background" with article; ANY leaves tone or texture unsaid. */
void phrase_background(struct sentence *s, struct scene_rng *rng, int tone, int texture);

/* Records that the sentence states `claim`. */
void phrase_claim(struct sentence *s, const struct proposition *claim);

/* Makes the first letter a capital and appends `stop`. */
void phrase_finish(struct sentence *s, const char *stop);

/* The description of an object by the properties in `mask` (bits WITH_*), region ANY when unclear.
 */
enum { WITH_SIZE = 1, WITH_COLOUR = 2, WITH_SHAPE = 4, WITH_REGION = 8 };
struct description describe(const struct scene *scene, int object, unsigned mask);

/*
 * Finds properties among `allowed` that single `object` out: few rather than many, otherwise at
 * random. False when even all of them fit another object or one is unclear.
 */
bool identify(const struct scene *scene, struct scene_rng *rng, int object, unsigned allowed,
              struct description *what);

#endif
