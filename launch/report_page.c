/* What the pages of `weft report` and `weft compare` have in common. A page is written under
 * another name and renamed, so that a browser never sees half of it. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "data/store/html.h"
#include "launch/report_impl.h"
#include "runtime/base/file_io.h"

/* ---- texts ---- */

void report_text(struct strbuf *html, const char *text)
{
    if (text) html_append_text(html, text, (int64_t)strlen(text));
}

const char *report_duration(double seconds, char *text, size_t size)
{
    int64_t whole = isfinite(seconds) && seconds > 0 ? (int64_t)(seconds + 0.5) : 0;
    int64_t minutes = whole / 60;
    int64_t hours = minutes / 60;
    if (hours >= 48) {
        snprintf(text, size, "%lld d %lld h", (long long)(hours / 24), (long long)(hours % 24));
    } else if (hours > 0) {
        snprintf(text, size, "%lld h %02lld min", (long long)hours, (long long)(minutes % 60));
    } else if (minutes > 0) {
        snprintf(text, size, "%lld min %02lld s", (long long)minutes, (long long)(whole % 60));
    } else {
        snprintf(text, size, "%.3g s", seconds);
    }
    return text;
}

const char *report_time(double time, char *text, size_t size)
{
    time_t seconds = isfinite(time) ? (time_t)time : 0;
    struct tm parts;
    strftime(text, size, "%Y-%m-%d %H:%M UTC", gmtime_r(&seconds, &parts));
    return text;
}

char *report_run_name(struct arena *arena, const char *run)
{
    char *whole = realpath(run, NULL);
    const char *slash = whole ? strrchr(whole, '/') : NULL;
    char *name = arena_strdup(arena, slash && slash[1] ? slash + 1 : run);
    free(whole);
    return name;
}

/* ---- the frame ---- */

static void append_pieces(struct strbuf *html, const char *const *pieces)
{
    for (; *pieces; pieces++) {
        strbuf_append(html, *pieces);
    }
}

void report_page_begin(struct strbuf *html, const char *title, const char *kind)
{
    strbuf_append(html, "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta "
                        "name=viewport content=\"width=device-width\"><title>");
    report_text(html, title);
    strbuf_printf(html, " \xC2\xB7 %s</title><style>\n", kind);
    append_pieces(html, report_css);
    strbuf_append(html, "</style></head><body><main>\n");
}

void report_page_end(struct strbuf *html, const struct chart_page *charts)
{
    strbuf_append(html, "</main>\n<script type=\"application/json\" id=data>[");
    if (charts->data.length) strbuf_append(html, charts->data.text);
    strbuf_append(html, "]</script>\n<script>");
    append_pieces(html, report_js);
    strbuf_append(html, "</script></body></html>\n");
    if (charts->data.failed) html->failed = true;
}

enum status report_page_write(const struct strbuf *html, const char *path)
{
    char *temporary = malloc(strlen(path) + sizeof ".tmp");
    CHECK(temporary, STATUS_NO_MEMORY, "%s: out of memory", path);
    sprintf(temporary, "%s.tmp", path);
    enum status status = STATUS_OK;
    int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) {
        status = status_fail(STATUS_IO, "%s: cannot create: %s; give another file with --output",
                             temporary, strerror(errno));
    } else {
        status = file_write_at(file, temporary, html->text, (int64_t)html->length, 0);
        close(file);
        if (status == STATUS_OK) status = file_rename(temporary, path);
        if (status != STATUS_OK) remove(temporary);
    }
    free(temporary);
    return status;
}
