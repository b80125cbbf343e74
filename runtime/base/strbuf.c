#include "runtime/base/strbuf.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(struct strbuf *buffer, size_t extra)
{
    if (buffer->failed) return false;
    size_t need = buffer->length + extra + 1;
    if (need <= buffer->capacity) return true;
    size_t capacity = buffer->capacity ? buffer->capacity : 64;
    while (capacity < need) {
        capacity *= 2;
    }
    char *text = realloc(buffer->text, capacity);
    if (!text) {
        buffer->failed = true;
        return false;
    }
    buffer->text = text;
    buffer->capacity = capacity;
    return true;
}

void strbuf_append_bytes(struct strbuf *buffer, const void *bytes, size_t length)
{
    if (!reserve(buffer, length)) return;
    if (length) memcpy(buffer->text + buffer->length, bytes, length);
    buffer->length += length;
    buffer->text[buffer->length] = '\0';
}

void strbuf_append(struct strbuf *buffer, const char *text)
{
    strbuf_append_bytes(buffer, text, strlen(text));
}

void strbuf_printf(struct strbuf *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || !reserve(buffer, (size_t)length)) return;
    va_start(arguments, format);
    vsnprintf(buffer->text + buffer->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    buffer->length += (size_t)length;
}

void strbuf_append_json(struct strbuf *buffer, const char *text, size_t length)
{
    strbuf_append(buffer, "\"");
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            char escaped[2] = {'\\', (char)c};
            strbuf_append_bytes(buffer, escaped, 2);
        } else if (c < 0x20) {
            strbuf_printf(buffer, "\\u%04x", c);
        } else {
            strbuf_append_bytes(buffer, text + i, 1);
        }
    }
    strbuf_append(buffer, "\"");
}

void strbuf_clear(struct strbuf *buffer)
{
    buffer->length = 0;
    if (buffer->text) buffer->text[0] = '\0';
}

void strbuf_fini(struct strbuf *buffer)
{
    free(buffer->text);
    *buffer = (struct strbuf){0};
}

/* Levenshtein distance of two names, capped at 255 characters a name. */
static int edit_distance(const char *a, const char *b)
{
    int row[256];
    int columns = (int)strnlen(b, 255);
    for (int j = 0; j <= columns; j++) {
        row[j] = j;
    }
    for (int i = 1; a[i - 1] && i < 256; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= columns; j++) {
            int substitution = diagonal + (a[i - 1] != b[j - 1]);
            int best = row[j] + 1 < row[j - 1] + 1 ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = substitution < best ? substitution : best;
        }
    }
    return row[columns];
}

const char *string_nearest(const char *text, const char *const *names, int count)
{
    const char *nearest = NULL;
    int least = 0;
    for (int i = 0; i < count; i++) {
        int distance = edit_distance(text, names[i]);
        size_t longer = strlen(text) > strlen(names[i]) ? strlen(text) : strlen(names[i]);
        int limit = longer / 3 > 2 ? (int)(longer / 3) : 2;
        if (distance <= limit && (!nearest || distance < least)) {
            nearest = names[i];
            least = distance;
        }
    }
    return nearest;
}

bool string_matches(const char *name, const char *pattern)
{
    return strchr(pattern, '*') ? fnmatch(pattern, name, 0) == 0 : strstr(name, pattern) != NULL;
}
