#include "data/store/rules.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

/* Length of the valid UTF-8 character at `text`, 0 when there is none. */
static int utf8_character(const unsigned char *text, int64_t left)
{
    unsigned first = text[0];
    if (first < 0x80) return 1;
    int size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || left < size) return 0;
    for (int i = 1; i < size; i++) {
        if ((text[i] & 0xC0) != 0x80) return 0;
    }
    unsigned second = text[1];
    if (first == 0xE0 && second < 0xA0) return 0; /* overlong */
    if (first == 0xED && second > 0x9F) return 0; /* surrogate */
    if (first == 0xF0 && second < 0x90) return 0; /* overlong */
    if (first == 0xF4 && second > 0x8F) return 0; /* above U+10FFFF */
    return size;
}

int64_t rule_utf8(const char *text, int64_t length, int64_t *characters)
{
    int64_t count = 0;
    int64_t at = 0;
    while (at < length) {
        int size = utf8_character((const unsigned char *)text + at, length - at);
        if (size == 0) {
            *characters = count;
            return at;
        }
        at += size;
        count++;
    }
    *characters = count;
    return -1;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

const char *rule_text(const char *text, int64_t length, int64_t *characters)
{
    if (rule_utf8(text, length, characters) >= 0) return "not valid UTF-8";
    for (int64_t i = 0; i < length; i++) {
        if (!is_space(text[i])) return NULL;
    }
    return "empty text";
}

/* The byte offset of character `index`, found from byte `at` of character `from`. */
static int64_t character_offset(const char *text, int64_t length, int64_t at, int64_t from,
                                int64_t index)
{
    while (from < index && at < length) {
        at += utf8_character((const unsigned char *)text + at, length - at);
        from++;
    }
    return at;
}

const char *rule_span(const char *text, int64_t length, int64_t characters, int64_t begin,
                      int64_t end)
{
    if (begin < 0 || end > characters) return "span outside its text";
    if (begin > end) return "span that ends before it begins";
    int64_t first = character_offset(text, length, 0, 0, begin);
    int64_t last = character_offset(text, length, first, begin, end);
    for (int64_t i = first; i < last; i++) {
        if (!is_space(text[i])) return NULL;
    }
    return "empty phrase";
}

const char *rule_box(const float xyxy[4], int64_t width, int64_t height)
{
    for (int i = 0; i < 4; i++) {
        if (!isfinite(xyxy[i])) return "box with a coordinate that is not a number";
    }
    if (xyxy[0] > xyxy[2] || xyxy[1] > xyxy[3]) return "box with its corners out of order";
    if (xyxy[0] == xyxy[2] || xyxy[1] == xyxy[3]) return "box without an area";
    if (xyxy[0] < 0 || xyxy[1] < 0 || (width > 0 && xyxy[2] > (float)width) ||
        (height > 0 && xyxy[3] > (float)height)) {
        return "box outside its image";
    }
    return NULL;
}

const char *rule_score(float score)
{
    return score >= 0 && score <= 1 ? NULL : "answer score outside [0, 1]";
}

void rule_clip_box(float xyxy[4], int64_t width, int64_t height)
{
    const float most[4] = {(float)width, (float)height, (float)width, (float)height};
    for (int i = 0; i < 4; i++) {
        if (xyxy[i] < 0 && xyxy[i] >= -1) xyxy[i] = 0;
        if (xyxy[i] > most[i] && xyxy[i] <= most[i] + 1) xyxy[i] = most[i];
    }
}
