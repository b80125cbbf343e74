/*
 * The words and paints of scenes: one table a property, so that a new shape, colour or synonym is
 * one row.
 */
#ifndef WEFT_DATA_SCENES_WORDS_H
#define WEFT_DATA_SCENES_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "data/scenes/scene.h"

enum { WORD_SYNONYMS = 3 };

/* Ways to say one thing; [0] is the usual one and always present, unused ones are NULL. */
struct scene_noun {
    const char *singular[WORD_SYNONYMS];
    const char *plural[WORD_SYNONYMS];
};

struct scene_adjective {
    const char *word[WORD_SYNONYMS];
};

struct scene_paint {
    struct scene_adjective name;
    uint8_t rgb[3];
};

extern const struct scene_noun scene_shape_words[SHAPE_COUNT];
extern const struct scene_noun scene_any_shape_words; /* "object", "shape" */
extern const struct scene_paint scene_colour_words[COLOUR_COUNT];
extern const struct scene_paint scene_tone_words[TONE_COUNT];
extern const struct scene_adjective scene_size_words[SIZE_COUNT];
extern const struct scene_adjective scene_texture_words[TEXTURE_COUNT];
extern const char *const scene_number_words[SCENE_MAX_OBJECTS + 1]; /* "no", "one", "two", ... */

/* True when an object of this colour stands out clearly from a background of this tone. */
bool scene_contrast(enum scene_colour colour, enum scene_tone tone);

#endif
