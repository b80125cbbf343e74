#include "data/import/csv_table.h"

#include <stdlib.h>
#include <string.h>

enum { INDEX_BUFFER = 1 << 20, MAX_FIELDS = 4096 };

/* Where the index pass stands; it sees the file in pieces. */
struct scan {
    struct csv_dialect dialect;
    struct int_list *offsets;
    bool quoted;    /* inside a quoted field */
    bool may_open;  /* a quote here opens: at a field's start, or right after a closing one */
    bool blank;     /* nothing of the current record was seen */
    int64_t record; /* where the current record begins */
    int64_t quote;  /* where the open quote is */
};

static enum status scan_piece(struct scan *s, const char *text, int64_t length, int64_t position)
{
    for (int64_t i = 0; i < length; i++) {
        char c = text[i];
        if (s->quoted) {
            /* A doubled quote closes and opens again, which comes to the same here. */
            if (c == '"') {
                s->quoted = false;
                s->may_open = true;
            }
        } else if (c == '\n') {
            if (!s->blank) TRY(int_list_add(s->offsets, s->record));
            s->record = position + i + 1;
            s->blank = true;
            s->may_open = true;
        } else {
            if (c == '"' && s->dialect.quotes && s->may_open) {
                s->quoted = true;
                s->quote = position + i;
            }
            if (c != '\r') s->blank = false;
            s->may_open = c == s->dialect.separator;
        }
    }
    return STATUS_OK;
}

static enum status finish_scan(struct scan *s, const struct input *input)
{
    if (s->quoted) {
        int64_t line;
        int64_t column;
        input_locate(input, s->quote, &line, &column);
        return status_fail(
            STATUS_CORRUPT,
            "%s: line %lld, column %lld: a quote is opened and never closed (--quotes "
            "no if quotation marks are plain characters here)",
            input->path, (long long)line, (long long)column);
    }
    if (!s->blank) TRY(int_list_add(s->offsets, s->record));
    return int_list_add(s->offsets, input->size);
}

enum status csv_index(const struct input *input, struct csv_dialect dialect,
                      struct int_list *offsets)
{
    struct scan scan = {.dialect = dialect, .offsets = offsets, .may_open = true, .blank = true};
    char *buffer = malloc(INDEX_BUFFER);
    CHECK(buffer, STATUS_NO_MEMORY, "%s: no memory to read it", input->path);
    enum status status = STATUS_OK;
    int64_t at = 0;
    if (input->size >= 3) { /* a byte order mark is no part of the first field */
        status = input_read(input, 0, buffer, 3);
        if (status == STATUS_OK && memcmp(buffer, "\xef\xbb\xbf", 3) == 0) at = scan.record = 3;
    }
    while (status == STATUS_OK && at < input->size) {
        int64_t n = input->size - at < INDEX_BUFFER ? input->size - at : INDEX_BUFFER;
        status = input_read(input, at, buffer, n);
        if (status == STATUS_OK) status = scan_piece(&scan, buffer, n, at);
        at += n;
    }
    free(buffer);
    return status == STATUS_OK ? finish_scan(&scan, input) : status;
}

/* ---- one record ---------------------------------------------------------------------------------
 */

/* Reads the quoted field that opens at text[*at] into `out`, and moves *at behind its quote. */
static enum status split_quoted(const char *text, int64_t length, int64_t *at, char *out,
                                int64_t *used)
{
    for (int64_t i = *at + 1; i < length; i++) {
        if (text[i] == '"') {
            if (i + 1 == length || text[i + 1] != '"') {
                *at = i + 1;
                return STATUS_OK;
            }
            i++;
        }
        out[(*used)++] = text[i];
    }
    return status_fail(STATUS_INVALID, "a quote is opened and not closed");
}

static enum status split_field(const char *text, int64_t length, struct csv_dialect dialect,
                               int64_t *at, struct arena *arena, struct csv_field *field)
{
    int64_t start = *at;
    if (dialect.quotes && start < length && text[start] == '"') {
        char *out = arena_alloc(arena, (size_t)(length - start) + 1);
        CHECK(out, STATUS_NO_MEMORY, "no memory for a field");
        field->length = 0;
        TRY(split_quoted(text, length, at, out, &field->length));
        CHECK(*at == length || text[*at] == dialect.separator, STATUS_INVALID,
              "'%c' after a closing quote, where '%s' should be", text[*at],
              dialect.separator == '\t' ? "a tab" : ",");
        field->text = out;
        return STATUS_OK;
    }
    const char *end = memchr(text + start, dialect.separator, (size_t)(length - start));
    field->length = (end ? end - text : length) - start;
    field->text = arena_strndup(arena, text + start, (size_t)field->length);
    CHECK(field->text, STATUS_NO_MEMORY, "no memory for a field");
    *at = start + field->length;
    return STATUS_OK;
}

enum status csv_split(const char *text, int64_t length, struct csv_dialect dialect,
                      struct arena *arena, struct csv_field **fields, int *num_fields)
{
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r')) {
        length--;
    }
    int64_t most = 1;
    for (int64_t i = 0; i < length; i++) {
        most += text[i] == dialect.separator;
    }
    CHECK(most <= MAX_FIELDS, STATUS_INVALID, "more than %d fields", (int)MAX_FIELDS);
    *fields = arena_alloc(arena, (size_t)most * sizeof **fields);
    CHECK(*fields, STATUS_NO_MEMORY, "no memory for %lld fields", (long long)most);
    *num_fields = 0;
    int64_t at = 0;
    for (;;) {
        TRY(split_field(text, length, dialect, &at, arena, &(*fields)[*num_fields]));
        *num_fields += 1;
        if (at >= length) return STATUS_OK;
        at++; /* the separator; if it ends the record, an empty field follows */
    }
}
