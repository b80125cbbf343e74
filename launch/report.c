/*
 * The page is put together in one string: curves are thinned out beforehand and pictures are small,
 * so it stays at a few megabytes whatever the run was. It is written under another name and
 * renamed, so that a browser never sees half of it.
 */
#include "launch/report.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/store/html.h"
#include "launch/progress.h"
#include "launch/report_impl.h"

enum { REQUEUE_EXIT_CODE = 75 };

/* ---- head ---- */

static const struct run_log_start *last_start(const struct report *report)
{
    const struct run_history *history = &report->history;
    return history->num_starts ? &history->starts[history->num_starts - 1].start : NULL;
}

static void append_state(struct report *report)
{
    const struct run_history *history = &report->history;
    struct strbuf *html = &report->html;
    char text[64];
    if (!history->ended) {
        strbuf_append(html, "<span class=\"state warn\">no end in the log</span> <small>still "
                            "running, or killed; last line ");
        strbuf_append(html, report_time(history->last_time, text, sizeof text));
        strbuf_append(html, "</small>");
        return;
    }
    int code = history->end.exit_code;
    const char *class = code == 0 ? "good" : code == REQUEUE_EXIT_CODE ? "warn" : "bad";
    strbuf_printf(html, "<span class=\"state %s\">", class);
    if (code == 0) {
        strbuf_append(html, "finished");
    } else if (code == REQUEUE_EXIT_CODE) {
        strbuf_append(html, "saved and stopped, to be continued");
    } else {
        strbuf_printf(html, "failed, exit code %d", code);
    }
    strbuf_append(html, "</span> <small>");
    report_text(html, history->end.reason);
    strbuf_printf(html, " \xC2\xB7 %s</small>", report_time(history->end_time, text, sizeof text));
}

static void append_head(struct report *report)
{
    struct strbuf *html = &report->html;
    char *name = report_run_name(&report->arena, report->run);
    if (!name) {
        html->failed = true;
        return;
    }
    report_page_begin(html, name, "weft report");
    strbuf_append(html, "<header><h1>");
    report_text(html, name);
    strbuf_append(html, "</h1>");
    append_state(report);
    strbuf_append(html, "</header>\n");
}

/* ---- tiles ---- */

static void tile(struct strbuf *html, const char *what, const char *format, ...)
    STATUS_PRINTF(3, 4);

static void tile(struct strbuf *html, const char *what, const char *format, ...)
{
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    strbuf_append(html, "<div><b>");
    report_text(html, text);
    strbuf_append(html, "</b><span>");
    report_text(html, what);
    strbuf_append(html, "</span></div>");
}

/* Sum of the finite values from row `from` on; 0 when there is no such column. */
static double sum_of(const struct report *report, const char *group, const char *name, int64_t from)
{
    const struct run_series *series = run_history_find(&report->history, group, name);
    double sum = 0;
    for (int64_t i = from; series && i < report->history.num_steps; i++) {
        if (isfinite(series->values[i])) sum += series->values[i];
    }
    return sum;
}

static double largest_of(const struct report *report, const char *group, const char *name)
{
    const struct run_series *series = run_history_find(&report->history, group, name);
    double most = 0;
    for (int64_t i = 0; series && i < report->history.num_steps; i++) {
        if (series->values[i] > most) most = series->values[i];
    }
    return most;
}

static void append_loss_tile(struct report *report)
{
    enum { LAST = 50 };
    int64_t count = report->history.num_steps;
    int64_t from = count > LAST ? count - LAST : 0;
    char text[64];
    if (!run_history_find(&report->history, "losses", "loss") || count == 0) return;
    double mean = sum_of(report, "losses", "loss", from) / (double)(count - from);
    tile(&report->html, "loss, mean of the last steps", "%s",
         chart_number(mean, false, text, sizeof text));
}

/* The first recall at 1 of each direction in the newest evaluation. */
static void append_recall_tiles(struct report *report)
{
    static const char *const keys[] = {"ir@1", "tr@1"};
    static const char *const names[] = {"text \xE2\x86\x92 image R@1",
                                        "image \xE2\x86\x92 text R@1"};
    const struct run_history *history = &report->history;
    if (history->num_evals == 0) return;
    const struct run_values *metrics = &history->evals[history->num_evals - 1].metrics;
    for (int i = 0; i < 2; i++) {
        double best = NAN;
        for (int j = 0; j < metrics->count; j++) {
            const char *name = strrchr(metrics->items[j].name, '/');
            name = name ? name + 1 : metrics->items[j].name;
            if (strcmp(name, keys[i]) != 0) continue;
            if (!(best >= metrics->items[j].value)) best = metrics->items[j].value;
        }
        if (isfinite(best)) tile(&report->html, names[i], "%.1f %%", 100 * best);
    }
}

static void append_tiles(struct report *report)
{
    const struct run_history *history = &report->history;
    const struct run_log_start *start = last_start(report);
    struct strbuf *html = &report->html;
    char text[2][64];
    int64_t step = history->num_steps ? history->steps[history->num_steps - 1] : 0;
    double seconds = sum_of(report, "seconds", "step", 0);
    double waits = sum_of(report, "seconds", "wait_read", 0) +
                   sum_of(report, "seconds", "wait_decode", 0) +
                   sum_of(report, "seconds", "wait_tokenise", 0);
    const struct run_series *rate = run_history_find(history, "run", "samples_per_s");
    const struct run_series *time = run_history_find(history, "seconds", "step");
    strbuf_append(html, "<div class=tiles>");
    if (start && start->total_steps > 0) {
        char what[64];
        snprintf(what, sizeof what, "of %s steps",
                 number_text(start->total_steps, text[1], sizeof text[1]));
        tile(html, what, "%s", number_text(step, text[0], sizeof text[0]));
    } else {
        tile(html, "steps", "%s", number_text(step, text[0], sizeof text[0]));
    }
    append_loss_tile(report);
    append_recall_tiles(report);
    tile(html, "training took", "%s", report_duration(seconds, text[0], sizeof text[0]));
    if (rate && time && seconds > 0) {
        double samples = 0;
        for (int64_t i = 0; i < history->num_steps; i++) {
            double more = rate->values[i] * time->values[i];
            if (isfinite(more)) samples += more;
        }
        tile(html, "samples a second", "%s",
             chart_number(samples / seconds, false, text[0], sizeof text[0]));
        tile(html, "of it waiting for data", "%.1f %%", 100 * waits / seconds);
    }
    if (start) {
        char what[96];
        snprintf(what, sizeof what, "rank%s \xC3\x97 %d thread%s on %d host%s",
                 start->ranks == 1 ? "" : "s", start->threads, start->threads == 1 ? "" : "s",
                 start->hosts, start->hosts == 1 ? "" : "s");
        tile(html, what, "%d", start->ranks);
        if (start->global_batch > 0) {
            tile(html, "samples a step", "%s",
                 number_text(start->global_batch, text[0], sizeof text[0]));
        }
    }
    double memory = largest_of(report, "run", "rss_mb");
    if (memory > 0) {
        tile(html, "peak memory of rank 0", "%s",
             bytes_text((int64_t)(memory * 1e6), text[0], sizeof text[0]));
    }
    strbuf_append(html, "</div>\n");
}

/* ---- lists ---- */

static void append_warnings(struct report *report)
{
    enum { MOST = 50 };
    const struct run_history *history = &report->history;
    struct strbuf *html = &report->html;
    if (history->num_warnings == 0 && history->num_bad == 0 && report->num_unread == 0) return;
    strbuf_append(html, "<h2>Warnings</h2><div class=panel><ul class=plain>");
    if (history->num_bad > 0) {
        strbuf_printf(html,
                      "<li>%lld line%s of log.jsonl could not be read, the first is line %lld</li>",
                      (long long)history->num_bad, history->num_bad == 1 ? "" : "s",
                      (long long)history->first_bad);
    }
    if (report->num_unread > 0) {
        strbuf_printf(html, "<li>%d evaluation file%s could not be read: ", report->num_unread,
                      report->num_unread == 1 ? "" : "s");
        report_text(html, report->unread);
        strbuf_append(html, "</li>");
    }
    for (int i = 0; i < history->num_warnings && i < MOST; i++) {
        char text[32];
        strbuf_printf(html, "<li><small>step %s</small> ",
                      number_text(history->warnings[i].step, text, sizeof text));
        report_text(html, history->warnings[i].text);
        strbuf_append(html, "</li>");
    }
    if (history->num_warnings > MOST) {
        strbuf_printf(html, "<li>and %d more</li>", history->num_warnings - MOST);
    }
    strbuf_append(html, "</ul></div>\n");
}

static void append_starts(struct report *report)
{
    const struct run_history *history = &report->history;
    struct strbuf *html = &report->html;
    char text[64];
    strbuf_append(html, "<h3>Started</h3><div class=scroll><table><thead><tr><th>when<th>step<th>"
                        "ranks<th>hosts<th>threads<th class=left>host<th class=left>build<th "
                        "class=left>config<th class=left>resumed from</thead>");
    for (int i = 0; i < history->num_starts; i++) {
        const struct run_log_start *start = &history->starts[i].start;
        strbuf_printf(html, "<tr><td>%s", report_time(history->starts[i].time, text, sizeof text));
        strbuf_printf(html, "<td>%s", number_text(start->step, text, sizeof text));
        strbuf_printf(html, "<td>%d<td>%d<td>%d<td class=left>", start->ranks, start->hosts,
                      start->threads);
        report_text(html, start->host);
        strbuf_append(html, "<td class=left>");
        report_text(html, start->build);
        strbuf_append(html, "<td class=left>");
        report_text(html, start->config_fingerprint);
        strbuf_append(html, "<td class=left>");
        report_text(html, start->resumed_from ? start->resumed_from : "\xE2\x80\x93");
    }
    strbuf_append(html, "</table></div>\n");
    if (history->num_superseded > 0) {
        strbuf_printf(html,
                      "<p class=soft>%s logged steps were done again after a resume; the curves "
                      "show what became part of the run.</p>",
                      number_text(history->num_superseded, text, sizeof text));
    }
}

static void append_checkpoints(struct report *report)
{
    enum { MOST = 12 };
    const struct run_history *history = &report->history;
    struct strbuf *html = &report->html;
    char text[64];
    if (history->num_checkpoints == 0) return;
    int first = history->num_checkpoints > MOST ? history->num_checkpoints - MOST : 0;
    strbuf_printf(html,
                  "<h3>Checkpoints%s</h3><div class=scroll><table><thead><tr><th>step<th>size"
                  "<th>written in<th>training stood still<th class=left>file</thead>",
                  first ? ", the last ones" : "");
    for (int i = first; i < history->num_checkpoints; i++) {
        const struct run_history_checkpoint *at = &history->checkpoints[i];
        strbuf_printf(html, "<tr><td>%s", number_text(at->step, text, sizeof text));
        strbuf_printf(html, "<td>%s", bytes_text(at->bytes, text, sizeof text));
        strbuf_printf(html, "<td>%.3g s<td>%.3g s<td class=left>", at->seconds, at->stall_s);
        report_text(html, at->path);
    }
    strbuf_append(html, "</table></div>\n");
}

/* config.yaml as it lies in the folder. */
static void append_config(struct report *report)
{
    enum { MOST = 1 << 20 };
    struct strbuf *html = &report->html;
    char *path = arena_printf(&report->arena, "%s/config.yaml", report->run);
    char *text = arena_alloc(&report->arena, MOST);
    if (!path || !text) {
        html->failed = true;
        return;
    }
    strbuf_append(html, "<h2>Configuration</h2>");
    FILE *file = fopen(path, "rb");
    if (!file) {
        strbuf_append(html, "<p class=soft>");
        report_text(html, path);
        strbuf_printf(html, ": %s</p>\n", strerror(errno));
        return;
    }
    size_t length = fread(text, 1, MOST, file);
    fclose(file);
    strbuf_append(html, "<details open><summary>config.yaml, resolved</summary><pre>");
    /* Line by line: what escapes text takes line ends for control characters. */
    for (size_t at = 0; at < length;) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t line = end ? (size_t)(end - text) - at : length - at;
        html_append_text(html, text + at, (int64_t)line);
        strbuf_append(html, "\n");
        at += line + 1;
    }
    strbuf_append(html, "</pre></details>\n");
}

/* ---- the page ---- */

static enum status make_page(struct report *report)
{
    struct strbuf *html = &report->html;
    report->charts.html = html;
    append_head(report);
    append_tiles(report);
    append_warnings(report);
    TRY(report_evaluation(report));
    TRY(report_curves(report));
    TRY(report_examples(report));
    TRY(report_machine(report));
    strbuf_append(html, "<h2>Process</h2>");
    append_starts(report);
    append_checkpoints(report);
    append_config(report);
    report_page_end(html, &report->charts);
    CHECK(!html->failed, STATUS_NO_MEMORY, "%s: out of memory for the report", report->run);
    return STATUS_OK;
}

static void report_fini(struct report *report)
{
    run_history_fini(&report->history);
    arena_fini(&report->arena);
    strbuf_fini(&report->html);
    strbuf_fini(&report->charts.data);
    report_pictures_fini(&report->pictures);
}

enum status report_write(const char *run, const char *path)
{
    struct report *report = calloc(1, sizeof *report);
    CHECK(report, STATUS_NO_MEMORY, "%s: out of memory", run);
    report->run = run;
    enum status status = run_history_read(&report->history, run);
    if (status == STATUS_OK) status = report_read_evals(report);
    if (status == STATUS_OK) status = make_page(report);
    if (status == STATUS_OK) {
        const char *to = path ? path : arena_printf(&report->arena, "%s/report.html", run);
        status = to ? report_page_write(&report->html, to)
                    : status_fail(STATUS_NO_MEMORY, "%s: out of memory", run);
    }
    report_fini(report);
    free(report);
    return status;
}
