/* The evaluation section of the report: recall of the newest results as a table beside chance, and
 * every metric over the run. */
#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/progress.h"
#include "launch/report_impl.h"

/* ---- files ---- */

static int compare_results(const void *a, const void *b)
{
    const struct eval_result *left = a;
    const struct eval_result *right = b;
    if (left->step != right->step) return left->step < right->step ? -1 : 1;
    return strcmp(left->split ? left->split : "", right->split ? right->split : "");
}

static int is_json(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot && strcmp(dot, ".json") == 0;
}

enum status report_read_evals(struct report *report)
{
    struct dirent **entries = NULL;
    char *folder = arena_printf(&report->arena, "%s/eval", report->run);
    CHECK(folder, STATUS_NO_MEMORY, "out of memory for the report");
    int count = scandir(folder, &entries, is_json, alphasort);
    if (count <= 0) {
        free(entries);
        return STATUS_OK;
    }
    report->evals = arena_alloc(&report->arena, (size_t)count * sizeof *report->evals);
    for (int i = 0; i < count; i++) {
        char *path = arena_printf(&report->arena, "%s/%s", folder, entries[i]->d_name);
        free(entries[i]);
        if (!report->evals || !path) continue;
        struct eval_result *result = &report->evals[report->num_evals];
        if (eval_result_read(path, &report->arena, result) == STATUS_OK) {
            report->num_evals++;
        } else if (report->num_unread++ == 0) {
            snprintf(report->unread, sizeof report->unread, "%s", status_message());
        }
    }
    free(entries);
    CHECK(report->evals, STATUS_NO_MEMORY, "out of memory for the report");
    qsort(report->evals, (size_t)report->num_evals, sizeof *report->evals, compare_results);
    return STATUS_OK;
}

/* ---- names ---- */

/* "itm/tr@1" is tr@1 of the method itm. */
static const char *bare_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

static bool same_method(const char *a, const char *b)
{
    size_t length = (size_t)(bare_name(a) - a);
    return length == (size_t)(bare_name(b) - b) && memcmp(a, b, length) == 0;
}

static bool is_recall(const char *name)
{
    const char *bare = bare_name(name);
    return (strncmp(bare, "tr@", 3) == 0 || strncmp(bare, "ir@", 3) == 0) &&
           isdigit((unsigned char)bare[3]);
}

/* The chance level of `name`: under its own name, or that without the method. */
static double chance_of(const struct eval_result *result, const char *name)
{
    double found = NAN;
    for (int i = 0; i < result->chance.count; i++) {
        const struct run_value *at = &result->chance.items[i];
        if (strcmp(at->name, name) == 0) return at->value;
        if (strcmp(at->name, bare_name(name)) == 0) found = at->value;
    }
    return found;
}

/* ---- the table of recalls ---- */

static int compare_recalls(const void *a, const void *b)
{
    const char *left = *(const char *const *)a;
    const char *right = *(const char *const *)b;
    if (left[0] != right[0]) return left[0] < right[0] ? 1 : -1; /* tr before ir */
    int difference = atoi(left + 3) - atoi(right + 3);
    return difference;
}

enum { MAX_RECALLS = 16, MAX_METHODS = 8 };

static int recall_columns(const struct eval_result *result, const char *columns[MAX_RECALLS])
{
    int count = 0;
    for (int i = 0; i < result->metrics.count; i++) {
        const char *bare = bare_name(result->metrics.items[i].name);
        bool known = !is_recall(bare) || count == MAX_RECALLS;
        for (int j = 0; j < count && !known; j++) {
            known = strcmp(columns[j], bare) == 0;
        }
        if (!known) columns[count++] = bare;
    }
    qsort(columns, (size_t)count, sizeof *columns, compare_recalls);
    return count;
}

static int recall_methods(const struct eval_result *result, const char *methods[MAX_METHODS])
{
    int count = 0;
    for (int i = 0; i < result->metrics.count; i++) {
        const char *name = result->metrics.items[i].name;
        bool known = !is_recall(name) || count == MAX_METHODS;
        for (int j = 0; j < count && !known; j++) {
            known = same_method(methods[j], name);
        }
        if (!known) methods[count++] = name;
    }
    return count;
}

static void append_share(struct strbuf *html, double value, bool bar)
{
    char text[40];
    chart_number(value, true, text, sizeof text);
    if (bar && isfinite(value)) {
        strbuf_printf(html, "<td class=share style=\"--p:%.1f%%\">%s", 100 * value, text);
    } else {
        strbuf_printf(html, "<td>%s", text);
    }
}

static void append_method_name(struct strbuf *html, const struct eval_result *result,
                               const char *name)
{
    int length = (int)(bare_name(name) - name);
    if (length == 0) {
        strbuf_append(html, "retrieval");
    } else if (strncmp(name, "dual/", 5) == 0) {
        strbuf_append(html, "dual features");
    } else if (strncmp(name, "itm/", 4) == 0 && result->rerank > 0) {
        strbuf_printf(html, "first %lld re-ranked by ITM", (long long)result->rerank);
    } else {
        char text[64];
        snprintf(text, sizeof text, "%.*s", length - 1, name);
        report_text(html, text);
    }
}

static void append_recalls(struct report *report, const struct eval_result *result)
{
    struct strbuf *html = &report->html;
    const char *columns[MAX_RECALLS];
    const char *methods[MAX_METHODS];
    int num_columns = recall_columns(result, columns);
    int num_methods = recall_methods(result, methods);
    if (num_columns == 0) return;
    strbuf_append(html, "<div class=scroll><table><thead><tr><th>");
    for (int i = 0; i < num_columns; i++) {
        strbuf_printf(html, "<th>%s R%s",
                      columns[i][0] == 't' ? "image \xE2\x86\x92 text" : "text \xE2\x86\x92 image",
                      columns[i] + 2);
    }
    strbuf_append(html, "</thead>");
    for (int i = 0; i < num_methods; i++) {
        strbuf_append(html, "<tr><td>");
        append_method_name(html, result, methods[i]);
        for (int j = 0; j < num_columns; j++) {
            double value = NAN;
            for (int k = 0; k < result->metrics.count; k++) {
                const struct run_value *at = &result->metrics.items[k];
                if (strcmp(bare_name(at->name), columns[j]) == 0 &&
                    same_method(at->name, methods[i])) {
                    value = at->value;
                }
            }
            append_share(html, value, true);
        }
    }
    strbuf_append(html, "<tr class=chance><td>chance");
    for (int j = 0; j < num_columns; j++) {
        append_share(html, chance_of(result, columns[j]), false);
    }
    strbuf_append(html, "</table></div>\n");
}

static void append_others(struct report *report, const struct eval_result *result)
{
    struct strbuf *html = &report->html;
    bool begun = false;
    char text[40];
    for (int i = 0; i < result->metrics.count; i++) {
        const struct run_value *at = &result->metrics.items[i];
        if (is_recall(at->name)) continue;
        if (!begun) {
            strbuf_append(html, "<div class=scroll style=\"margin-top:10px\"><table><thead><tr><th>"
                                "metric<th>value<th>chance</thead>");
        }
        begun = true;
        strbuf_append(html, "<tr><td>");
        report_text(html, at->name);
        strbuf_printf(html, "<td>%s",
                      chart_number(at->value, chart_is_fraction(at->name), text, sizeof text));
        strbuf_printf(html, "<td>%s",
                      chart_number(chance_of(result, at->name), chart_is_fraction(at->name), text,
                                   sizeof text));
    }
    if (begun) strbuf_append(html, "</table></div>\n");
}

static void append_result(struct report *report, const struct eval_result *result)
{
    struct strbuf *html = &report->html;
    char text[3][32];
    strbuf_append(html, "<p>");
    if (result->split) {
        strbuf_append(html, "<b>");
        report_text(html, result->split);
        strbuf_append(html, "</b> ");
    }
    strbuf_printf(html, "at step %s: %s images, %s texts",
                  number_text(result->step, text[0], sizeof text[0]),
                  number_text(result->num_images, text[1], sizeof text[1]),
                  number_text(result->num_texts, text[2], sizeof text[2]));
    if (result->set) {
        strbuf_append(html, " <small>");
        report_text(html, result->set);
        strbuf_append(html, "</small>");
    }
    strbuf_append(html, "</p>\n");
    append_recalls(report, result);
    append_others(report, result);
}

/* ---- curves ---- */

/* Whether two metrics go into one chart: recalls at the same K do. */
static bool same_chart(const char *a, const char *b)
{
    if (!is_recall(a) || !is_recall(b)) return strcmp(a, b) == 0;
    return strcmp(bare_name(a) + 2, bare_name(b) + 2) == 0;
}

static bool value_of(const struct run_values *values, const char *name, double *value)
{
    for (int i = 0; i < values->count; i++) {
        if (strcmp(values->items[i].name, name) == 0) {
            *value = values->items[i].value;
            return true;
        }
    }
    return false;
}

/* The chart of all metrics that go with `name`, over the evaluations of `split`. */
static enum status metric_chart(struct report *report, const char *split, const char *name)
{
    const struct run_history *history = &report->history;
    const struct run_history_eval *last = NULL;
    double *x = arena_alloc(&report->arena, (size_t)(history->num_evals + 1) * sizeof *x);
    char *title = is_recall(name)
                      ? arena_printf(&report->arena, "recall %s, %s", bare_name(name) + 2, split)
                      : arena_printf(&report->arena, "%s, %s", name, split);
    CHECK(x && title, STATUS_NO_MEMORY, "out of memory for the report");
    struct chart chart = {.title = title, .x = x, .percent = chart_is_fraction(name)};
    for (int i = 0; i < history->num_evals; i++) {
        if (strcmp(history->evals[i].split, split) != 0) continue;
        x[chart.count++] = (double)history->evals[i].step;
        last = &history->evals[i];
    }
    if (!last || chart.count < 2) return STATUS_OK;
    for (int j = 0; j < last->metrics.count && chart.num_lines < CHART_LINES; j++) {
        const char *other = last->metrics.items[j].name;
        if (!same_chart(name, other)) continue;
        double *values = arena_alloc(&report->arena, (size_t)chart.count * sizeof *values);
        CHECK(values, STATUS_NO_MEMORY, "out of memory for the report");
        int64_t at = 0;
        for (int i = 0; i < history->num_evals; i++) {
            if (strcmp(history->evals[i].split, split) != 0) continue;
            values[at] = NAN;
            value_of(&history->evals[i].metrics, other, &values[at]);
            at++;
        }
        chart.lines[chart.num_lines++] = (struct chart_line){other, values};
    }
    chart_append(&report->charts, &chart);
    return STATUS_OK;
}

static enum status split_charts(struct report *report, const char *split)
{
    const struct run_history *history = &report->history;
    const struct run_history_eval *last = NULL;
    for (int i = 0; i < history->num_evals; i++) {
        if (strcmp(history->evals[i].split, split) == 0) last = &history->evals[i];
    }
    for (int i = 0; last && i < last->metrics.count; i++) {
        bool drawn = false;
        for (int j = 0; j < i && !drawn; j++) {
            drawn = same_chart(last->metrics.items[j].name, last->metrics.items[i].name);
        }
        if (!drawn) TRY(metric_chart(report, split, last->metrics.items[i].name));
    }
    return STATUS_OK;
}

/* ---- the section ---- */

static bool same_split(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

/* The evaluations of the log as results, where the files of eval/ are not there. */
static void append_logged(struct report *report, const struct run_history_eval *eval)
{
    const struct eval_result result = {
        .step = eval->step, .split = eval->split, .metrics = eval->metrics};
    append_recalls(report, &result);
    append_others(report, &result);
}

enum status report_evaluation(struct report *report)
{
    const struct run_history *history = &report->history;
    struct strbuf *html = &report->html;
    if (history->num_evals == 0 && report->num_evals == 0) return STATUS_OK;
    strbuf_append(html, "<h2>Evaluation</h2>\n");
    for (int i = 0; i < report->num_evals; i++) {
        bool newest = true;
        for (int j = i + 1; j < report->num_evals; j++) {
            if (same_split(report->evals[i].split, report->evals[j].split)) newest = false;
        }
        if (newest) append_result(report, &report->evals[i]);
    }
    if (report->num_evals == 0) {
        append_logged(report, &history->evals[history->num_evals - 1]);
    }
    size_t before = html->length;
    int charts = report->charts.num_charts;
    strbuf_append(html, "<div class=charts style=\"margin-top:12px\">\n");
    for (int i = 0; i < history->num_evals; i++) {
        bool first = true;
        for (int j = 0; j < i; j++) {
            if (strcmp(history->evals[i].split, history->evals[j].split) == 0) first = false;
        }
        if (first) TRY(split_charts(report, history->evals[i].split));
    }
    if (report->charts.num_charts == charts && !html->failed) {
        html->length = before;
        html->text[before] = '\0';
        return STATUS_OK;
    }
    strbuf_append(html, "</div>\n");
    return STATUS_OK;
}
