/*
 * A growing string. Zero-initialise, append, read `.text`, free with strbuf_fini. After a failed
 * allocation `failed` is set and later appends do nothing, so a caller checks once at the end.
 */
#ifndef WEFT_RUNTIME_BASE_STRBUF_H
#define WEFT_RUNTIME_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct strbuf {
    char *text; /* owned, NUL-terminated; NULL while empty */
    size_t length;
    size_t capacity;
    bool failed;
};

void strbuf_append(struct strbuf *buffer, const char *text);
void strbuf_append_bytes(struct strbuf *buffer, const void *bytes, size_t length);
void strbuf_printf(struct strbuf *buffer, const char *format, ...) STATUS_PRINTF(2, 3);

/* Appends `text` as a JSON string with its quotes. Bytes that are not UTF-8 pass unchanged. */
void strbuf_append_json(struct strbuf *buffer, const char *text, size_t length);

/* Empties the buffer and keeps its memory. */
void strbuf_clear(struct strbuf *buffer);
void strbuf_fini(struct strbuf *buffer);

/*
 * The entry of `names` (`count` of them) closest to `text` by edit distance, for "did you mean"
 * messages. NULL when nothing is close (distance above a third of the longer name, at least 2).
 */
const char *string_nearest(const char *text, const char *const *names, int count);

/* Whether `pattern` fits `name`: one without '*' must occur anywhere in it, one with '*' (any
 * characters) must fit the whole of it; '?' and [..] are as in the shell. */
bool string_matches(const char *name, const char *pattern);

#ifdef __cplusplus
}
#endif
#endif
