/* Pieces of HTML, appended to a string (runtime/base/strbuf.h: check `failed` at the end). */
#ifndef WEFT_DATA_STORE_HTML_H
#define WEFT_DATA_STORE_HTML_H

#include <stdint.h>

#include "runtime/base/strbuf.h"

/* Colours that tell boxes and phrases apart, RGB. */
enum { HTML_NUM_COLOURS = 10 };
extern const uint8_t html_colours[HTML_NUM_COLOURS][3];

/* Text with <, >, & and quotes escaped, control characters as spaces and bytes that are not UTF-8
 * as the replacement character, so that a caption cannot break the page. */
void html_append_text(struct strbuf *out, const char *text, int64_t length);

/* "data:MIME;base64,..." of `size` bytes. */
void html_append_data_uri(struct strbuf *out, const char *mime, const void *bytes, int64_t size);

#endif
