/* Pieces of JSON, appended to a string (runtime/base/strbuf.h: check `failed` at the end). */
#ifndef WEFT_LAUNCH_JSON_TEXT_H
#define WEFT_LAUNCH_JSON_TEXT_H

#include "runtime/base/strbuf.h"

/*
 * Appends `value` with 9 digits when these read back to the same double, otherwise with 17: values
 * of f32 and f64 come back bit for bit. NaN and infinities, which JSON lacks, become the strings
 * "nan", "inf" and "-inf".
 */
void json_append_number(struct strbuf *out, double value);

/* Appends the NUL-terminated `text` as a JSON string, null when it is NULL. Bytes that are not
 * UTF-8 become U+FFFD, so that every reader takes the result. */
void json_append_string(struct strbuf *out, const char *text);

/* Reads what json_append_number wrote into a string: "nan", "inf" or "-inf". False for another. */
bool json_text_number(const char *text, double *value);

#endif
