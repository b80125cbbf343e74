#include "data/import/json.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NUMBER = 512 };

enum status json_open(struct json_reader *reader, const struct input *input, int64_t begin,
                      int64_t end, int64_t buffer_size)
{
    memset(reader, 0, sizeof *reader);
    reader->input = *input;
    reader->end = end < 0 || end > input->size ? input->size : end;
    reader->position = begin;
    reader->capacity = buffer_size;
    reader->buffer = malloc((size_t)buffer_size);
    CHECK(reader->buffer, STATUS_NO_MEMORY, "%s: no memory to read it", input->path);
    uint8_t mark[3];
    if (begin == 0 && reader->end >= 3) {
        TRY(input_read(input, 0, mark, 3));
        if (memcmp(mark, "\xef\xbb\xbf", 3) == 0) reader->position = 3;
    }
    return STATUS_OK;
}

void json_close(struct json_reader *reader)
{
    free(reader->buffer);
    strbuf_fini(&reader->key);
    strbuf_fini(&reader->text);
    reader->buffer = NULL;
}

enum status json_fail(struct json_reader *reader, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    int64_t line = 0;
    int64_t column = 0;
    input_locate(&reader->input, reader->position + reader->at, &line, &column);
    status_fail(STATUS_CORRUPT, "%s: line %lld, column %lld: %s", reader->input.path,
                (long long)line, (long long)column, text);
    return STATUS_CORRUPT;
}

/* ---- bytes --------------------------------------------------------------------------------------
 */

/* Reads on when the buffer is used up; filled stays at `at` when the range is. */
static enum status refill(struct json_reader *r)
{
    if (r->at < r->filled) return STATUS_OK;
    r->position += r->filled;
    r->at = 0;
    r->filled = 0;
    int64_t left = r->end - r->position;
    int64_t n = left < r->capacity ? left : r->capacity;
    if (n <= 0) return STATUS_OK;
    TRY(input_read(&r->input, r->position, r->buffer, n));
    r->filled = n;
    return STATUS_OK;
}

/* The next byte, or -1 at the end. */
static inline enum status peek_byte(struct json_reader *r, int *byte)
{
    if (r->at >= r->filled) TRY(refill(r));
    *byte = r->at < r->filled ? r->buffer[r->at] : -1;
    return STATUS_OK;
}

static enum status skip_space(struct json_reader *r, int *byte)
{
    for (;;) {
        TRY(peek_byte(r, byte));
        if (*byte != ' ' && *byte != '\n' && *byte != '\t' && *byte != '\r') return STATUS_OK;
        r->at++;
    }
}

static enum status unexpected(struct json_reader *r, int byte, const char *wanted)
{
    if (byte < 0) {
        json_fail(r, "the text ends where %s should be", wanted);
    } else if (byte < 0x20 || byte >= 0x7f) {
        json_fail(r, "byte 0x%02x where %s should be", byte, wanted);
    } else {
        json_fail(r, "'%c' where %s should be", byte, wanted);
    }
    return STATUS_CORRUPT;
}

static enum status expect(struct json_reader *r, char wanted, const char *name)
{
    int byte;
    TRY(skip_space(r, &byte));
    if (byte != wanted) return unexpected(r, byte, name);
    r->at++;
    return STATUS_OK;
}

/* ---- structure ----------------------------------------------------------------------------------
 */

enum status json_peek(struct json_reader *reader, enum json_type *type)
{
    int byte;
    TRY(skip_space(reader, &byte));
    switch (byte) {
    case '{':
        *type = JSON_OBJECT;
        return STATUS_OK;
    case '[':
        *type = JSON_ARRAY;
        return STATUS_OK;
    case '"':
        *type = JSON_STRING;
        return STATUS_OK;
    case 't':
    case 'f':
        *type = JSON_BOOL;
        return STATUS_OK;
    case 'n':
        *type = JSON_NULL;
        return STATUS_OK;
    case -1:
        *type = JSON_END;
        return STATUS_OK;
    default:
        if (byte != '-' && (byte < '0' || byte > '9')) return unexpected(reader, byte, "a value");
        *type = JSON_NUMBER;
        return STATUS_OK;
    }
}

enum status json_position(struct json_reader *reader, int64_t *position)
{
    int byte;
    TRY(skip_space(reader, &byte));
    *position = reader->position + reader->at;
    return STATUS_OK;
}

enum status json_begin(struct json_reader *reader, enum json_type type)
{
    if (type == JSON_OBJECT) {
        TRY(expect(reader, '{', "an object '{'"));
    } else {
        TRY(expect(reader, '[', "an array '['"));
    }
    if (reader->depth == JSON_MAX_DEPTH) {
        return json_fail(reader, "nested more than %d deep", JSON_MAX_DEPTH);
    }
    reader->first[reader->depth] = true;
    reader->object[reader->depth] = type == JSON_OBJECT;
    reader->depth++;
    return STATUS_OK;
}

/* Steps over the comma, or over `close`, which ends the container. */
static enum status next_element(struct json_reader *r, char close, bool *more)
{
    int byte;
    bool *first = &r->first[r->depth - 1];
    TRY(skip_space(r, &byte));
    if (byte == close) {
        r->at++;
        r->depth--;
        *more = false;
        return STATUS_OK;
    }
    if (!*first) {
        if (byte != ',') return unexpected(r, byte, close == ']' ? "',' or ']'" : "',' or '}'");
        r->at++;
    }
    *first = false;
    *more = true;
    return STATUS_OK;
}

enum status json_next(struct json_reader *reader, bool *more)
{
    return next_element(reader, ']', more);
}

static enum status read_string(struct json_reader *r, struct strbuf *out);

enum status json_next_key(struct json_reader *reader, const char **key)
{
    bool more = false;
    TRY(next_element(reader, '}', &more));
    *key = NULL;
    if (!more) return STATUS_OK;
    TRY(read_string(reader, &reader->key));
    TRY(expect(reader, ':', "':'"));
    *key = reader->key.text;
    return STATUS_OK;
}

/* ---- strings ------------------------------------------------------------------------------------
 */

static enum status read_hex4(struct json_reader *r, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++) {
        int byte;
        TRY(peek_byte(r, &byte));
        int digit = byte >= '0' && byte <= '9'   ? byte - '0'
                    : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10
                    : byte >= 'A' && byte <= 'F' ? byte - 'A' + 10
                                                 : -1;
        if (digit < 0) return unexpected(r, byte, "a hexadecimal digit");
        *value = *value * 16 + (uint32_t)digit;
        r->at++;
    }
    return STATUS_OK;
}

static void append_code_point(struct strbuf *out, uint32_t c)
{
    char bytes[4];
    size_t n = 0;
    if (c < 0x80) {
        bytes[n++] = (char)c;
    } else if (c < 0x800) {
        bytes[n++] = (char)(0xc0 | c >> 6);
        bytes[n++] = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        bytes[n++] = (char)(0xe0 | c >> 12);
        bytes[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        bytes[n++] = (char)(0x80 | (c & 0x3f));
    } else {
        bytes[n++] = (char)(0xf0 | c >> 18);
        bytes[n++] = (char)(0x80 | (c >> 12 & 0x3f));
        bytes[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        bytes[n++] = (char)(0x80 | (c & 0x3f));
    }
    strbuf_append_bytes(out, bytes, n);
}

/*
 * After "\u": one code unit, and a second one when the first is a high surrogate. `again` is set
 * when looking for the second one consumed the backslash of another escape.
 */
static enum status read_unicode(struct json_reader *r, struct strbuf *out, bool *again)
{
    *again = false;
    uint32_t unit;
    TRY(read_hex4(r, &unit));
    while (unit >= 0xd800 && unit < 0xdc00) { /* a high surrogate: look for its low one */
        int byte;
        TRY(peek_byte(r, &byte));
        if (byte != '\\') break;
        r->at++;
        TRY(peek_byte(r, &byte));
        if (byte != 'u') {
            *again = true;
            break;
        }
        r->at++;
        uint32_t low;
        TRY(read_hex4(r, &low));
        if (low >= 0xdc00 && low < 0xe000) {
            unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        } else {
            append_code_point(out, unit);
            unit = low;
        }
    }
    append_code_point(out, unit);
    return STATUS_OK;
}

/* After a backslash. */
static enum status read_escape(struct json_reader *r, struct strbuf *out)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    for (;;) {
        int byte;
        TRY(peek_byte(r, &byte));
        if (byte == 'u') {
            bool again;
            r->at++;
            TRY(read_unicode(r, out, &again));
            if (again) continue;
            return STATUS_OK;
        }
        const char *found = byte > 0 ? strchr(from, byte) : NULL;
        if (!found) return unexpected(r, byte, "an escape such as \\n");
        strbuf_append_bytes(out, to + (found - from), 1);
        r->at++;
        return STATUS_OK;
    }
}

static enum status read_string(struct json_reader *r, struct strbuf *out)
{
    TRY(expect(r, '"', "a string"));
    strbuf_clear(out);
    strbuf_append_bytes(out, "", 0);
    for (;;) {
        int byte;
        TRY(peek_byte(r, &byte));
        /* The plain bytes up to the next special one, at once. */
        int64_t start = r->at;
        while (r->at < r->filled && r->buffer[r->at] >= 0x20 && r->buffer[r->at] != '"' &&
               r->buffer[r->at] != '\\') {
            r->at++;
        }
        if (r->at > start) {
            strbuf_append_bytes(out, r->buffer + start, (size_t)(r->at - start));
        }
        if (r->at >= r->filled && byte >= 0) continue;
        byte = byte < 0 ? -1 : r->buffer[r->at];
        if (byte == '"') break;
        if (byte != '\\') return unexpected(r, byte, "the rest of a string");
        r->at++;
        TRY(read_escape(r, out));
    }
    r->at++;
    CHECK(!out->failed, STATUS_NO_MEMORY, "%s: no memory for a string", r->input.path);
    return STATUS_OK;
}

enum status json_string(struct json_reader *reader, const char **text, int64_t *length)
{
    TRY(read_string(reader, &reader->text));
    *text = reader->text.text;
    if (length) *length = (int64_t)reader->text.length;
    return STATUS_OK;
}

/* Over a string without decoding it; escapes are checked no further than needed to find the end. */
static enum status skip_string(struct json_reader *r)
{
    TRY(expect(r, '"', "a string"));
    for (;;) {
        int byte;
        TRY(peek_byte(r, &byte));
        while (r->at < r->filled && r->buffer[r->at] >= 0x20 && r->buffer[r->at] != '"' &&
               r->buffer[r->at] != '\\') {
            r->at++;
        }
        if (r->at >= r->filled && byte >= 0) continue;
        byte = byte < 0 ? -1 : r->buffer[r->at];
        if (byte == '"') break;
        if (byte != '\\') return unexpected(r, byte, "the rest of a string");
        r->at++;
        TRY(peek_byte(r, &byte));
        if (byte < 0x20) return unexpected(r, byte, "an escape such as \\n");
        r->at++;
    }
    r->at++;
    return STATUS_OK;
}

/* ---- numbers and words --------------------------------------------------------------------------
 */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_digits(const char *p, const char *end)
{
    while (p < end && is_digit(*p)) {
        p++;
    }
    return p;
}

/* Whether [p, end) is -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)? */
static bool is_number(const char *p, const char *end)
{
    const char *digits;
    if (p < end && *p == '-') p++;
    if (p == end || !is_digit(*p)) return false;
    p = *p == '0' ? p + 1 : skip_digits(p, end);
    if (p < end && *p == '.') {
        digits = ++p;
        p = skip_digits(p, end);
        if (p == digits) return false;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        digits = p;
        p = skip_digits(p, end);
        if (p == digits) return false;
    }
    return p == end;
}

static inline bool in_number(int c)
{
    return (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E';
}

static enum status read_number(struct json_reader *r, char text[MAX_NUMBER])
{
    int byte;
    int length = 0;
    TRY(skip_space(r, &byte));
    if (byte != '-' && (byte < '0' || byte > '9')) return unexpected(r, byte, "a number");
    for (;;) {
        TRY(peek_byte(r, &byte));
        if (!in_number(byte)) break;
        if (length == MAX_NUMBER - 1) return json_fail(r, "a number of more than 500 digits");
        text[length++] = (char)byte;
        r->at++;
    }
    text[length] = '\0';
    if (!is_number(text, text + length)) return json_fail(r, "'%s' is not a number", text);
    return STATUS_OK;
}

enum status json_any_number(struct json_reader *reader, double *value, bool *whole,
                            int64_t *integer)
{
    char text[MAX_NUMBER];
    char *end;
    TRY(read_number(reader, text));
    *value = strtod(text, NULL);
    if (!isfinite(*value)) return json_fail(reader, "%s is out of range", text);
    errno = 0;
    *integer = strtoll(text, &end, 10);
    *whole = *end == '\0' && errno == 0;
    if (!*whole && *value == floor(*value) && fabs(*value) <= 0x1p53) { /* 3.0, 1e6 */
        *integer = (int64_t)*value;
        *whole = true;
    }
    return STATUS_OK;
}

enum status json_number(struct json_reader *reader, double *value)
{
    bool whole;
    int64_t integer;
    return json_any_number(reader, value, &whole, &integer);
}

enum status json_int(struct json_reader *reader, int64_t *value)
{
    double number = 0;
    bool whole = false;
    TRY(json_any_number(reader, &number, &whole, value));
    if (!whole) return json_fail(reader, "%.17g where a whole number should be", number);
    return STATUS_OK;
}

static enum status read_word(struct json_reader *r, const char *word)
{
    for (const char *p = word; *p; p++) {
        int byte;
        TRY(peek_byte(r, &byte));
        if (byte != *p) return unexpected(r, byte, word);
        r->at++;
    }
    return STATUS_OK;
}

enum status json_bool(struct json_reader *reader, bool *value)
{
    int byte;
    TRY(skip_space(reader, &byte));
    if (byte != 't' && byte != 'f') return unexpected(reader, byte, "true or false");
    *value = byte == 't';
    return read_word(reader, *value ? "true" : "false");
}

enum status json_null(struct json_reader *reader)
{
    int byte;
    TRY(skip_space(reader, &byte));
    return read_word(reader, "null");
}

/* ---- skipping -----------------------------------------------------------------------------------
 */

/* Over a number without copying it, unless it crosses the buffer's end. Polygons are what large
 * annotation files consist of. */
static enum status skip_number(struct json_reader *r)
{
    char text[MAX_NUMBER];
    int64_t i = r->at;
    while (i < r->filled && in_number(r->buffer[i])) {
        i++;
    }
    const char *start = (const char *)r->buffer + r->at;
    const char *end = (const char *)r->buffer + i;
    if (i == r->filled || !is_number(start, end)) return read_number(r, text);
    r->at = i;
    return STATUS_OK;
}

static enum status skip_scalar(struct json_reader *r, enum json_type type)
{
    bool value;
    if (type == JSON_STRING) return skip_string(r);
    if (type == JSON_NUMBER) return skip_number(r);
    if (type == JSON_BOOL) return json_bool(r, &value);
    if (type == JSON_NULL) return json_null(r);
    return json_fail(r, "the text ends where a value should be");
}

/* Containers without recursion: the reader's own stack says where we are. */
enum status json_skip(struct json_reader *reader)
{
    int outer = reader->depth;
    do {
        enum json_type type;
        if (reader->depth > outer) {
            bool more = false;
            bool object = reader->object[reader->depth - 1];
            TRY(next_element(reader, object ? '}' : ']', &more));
            if (!more) continue;
            if (object) {
                TRY(skip_string(reader));
                TRY(expect(reader, ':', "':'"));
            }
        }
        TRY(json_peek(reader, &type));
        if (type == JSON_OBJECT || type == JSON_ARRAY) {
            TRY(json_begin(reader, type));
        } else {
            TRY(skip_scalar(reader, type));
        }
    } while (reader->depth > outer);
    return STATUS_OK;
}

enum status json_finish(struct json_reader *reader)
{
    int byte;
    TRY(skip_space(reader, &byte));
    if (byte >= 0) return unexpected(reader, byte, "the end of the file");
    return STATUS_OK;
}
