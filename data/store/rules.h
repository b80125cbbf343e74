/*
 * What a sound row is. One place for packing (which refuses or drops bad parts) and for weft check
 * (which finds them in files). Each function returns NULL when the row is sound and otherwise the
 * reason as a static string. Thread-safe.
 */
#ifndef WEFT_DATA_STORE_RULES_H
#define WEFT_DATA_STORE_RULES_H

#include <stdint.h>

/* Counts characters (code points). Returns the offset of the first byte that is not valid UTF-8
 * (overlong forms, surrogates and values above U+10FFFF are not), or -1 when all is. */
int64_t rule_utf8(const char *text, int64_t length, int64_t *characters);

/* A text: valid UTF-8, not empty and not only white space. `characters` as rule_utf8. */
const char *rule_text(const char *text, int64_t length, int64_t *characters);

/* A span of characters [begin, end) of a valid text: in order, inside, and not only white space. */
const char *rule_span(const char *text, int64_t length, int64_t characters, int64_t begin,
                      int64_t end);

/* A box: numbers, in order, with an area, inside width x height (0: not known). */
const char *rule_box(const float xyxy[4], int64_t width, int64_t height);

/* An answer's soft score: within [0, 1]. */
const char *rule_score(float score);

/* Moves corners that lie outside by at most one pixel (rounding in the source) to the border. */
void rule_clip_box(float xyxy[4], int64_t width, int64_t height);

#endif
