/*
 * Scenes: sentences about a layout, each a pure function of (scene, k).
 *
 * Texts are ASCII, so character spans are byte spans. Each sentence carries the propositions that
 * it states (logic.h); a test judges them against the scene, and against other scenes to know how
 * well captions can be told apart at best.
 */
#ifndef WEFT_DATA_SCENES_LANGUAGE_H
#define WEFT_DATA_SCENES_LANGUAGE_H

#include <stdbool.h>

#include "data/scenes/logic.h"
#include "data/scenes/scene.h"

enum { SENTENCE_SIZE = 640, SENTENCE_MENTIONS = 16, SENTENCE_CLAIMS = 16, SCENE_MAX_ANSWERS = 4 };

/* A phrase that names objects: characters [begin, end) of the text. */
struct mention {
    int begin, end;
    unsigned objects; /* bit mask */
};

struct sentence {
    char text[SENTENCE_SIZE]; /* NUL-terminated */
    int length;
    struct mention mention[SENTENCE_MENTIONS];
    int num_mentions;
    struct proposition claim[SENTENCE_CLAIMS];
    int num_claims;
};

struct scene_answer {
    char text[32];
    float score; /* 1 for the answer, less for one that is only partly right */
};

/* Caption `k` (0, 1, ...): what a person might write under the picture. Every claim is true, and a
 * mention with "a" fits one object only. */
void scene_caption(const struct scene *scene, int k, struct sentence *sentence);

/* Statement `k` and whether it is true; about half are. False ones are close to the truth. */
void scene_statement(const struct scene *scene, int k, struct sentence *sentence, bool *truth);

/* Question `k` with its 1..SCENE_MAX_ANSWERS answers, the right one first. */
void scene_question(const struct scene *scene, int k, struct sentence *sentence,
                    struct scene_answer *answers, int *num_answers);

/* Referring expression `k`, which fits exactly `object` and clearly no other. False when no object
 * could be told apart with the words at hand (rare). */
bool scene_expression(const struct scene *scene, int k, struct sentence *sentence, int *object);

#endif
