/* The page of a comparison. Runs have steps of their own: their curves are put on a common grid of
 * stretches of steps, their evaluations on the union of their steps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launch/compare_impl.h"
#include "launch/report_impl.h"

enum { CURVE_POINTS = 600 };

static void append_rows(struct strbuf *html, const struct compare *compare,
                        const struct compare_rows *rows)
{
    strbuf_append(html, "<div class=scroll><table><thead><tr><th>");
    for (int i = 0; i < compare->num_runs; i++) {
        strbuf_append(html, "<th>");
        report_text(html, compare->names[i]);
    }
    strbuf_append(html, "</thead>");
    for (int i = 0; i < rows->count; i++) {
        const struct compare_row *row = &rows->rows[i];
        strbuf_append(html, "<tr><td>");
        report_text(html, row->label);
        for (int j = 0; j < compare->num_runs; j++) {
            strbuf_append(html, row->best == j ? "<td class=best>" : "<td>");
            report_text(html, row->texts[j]);
        }
    }
    strbuf_append(html, "</table></div>\n");
}

/* The column on a grid of `count` stretches of `width` steps; NaN where the run has no step. */
static double *on_grid(struct compare *compare, const struct run_history *history,
                       const struct run_series *series, int64_t count, double width)
{
    double *sums = arena_alloc(&compare->arena, (size_t)(count + 1) * sizeof *sums);
    int64_t *found = arena_alloc(&compare->arena, (size_t)(count + 1) * sizeof *found);
    if (!sums || !found) return NULL;
    for (int64_t i = 0; series && i < history->num_steps; i++) {
        int64_t at = (int64_t)((double)(history->steps[i] - 1) / width);
        if (at < 0 || at >= count || !isfinite(series->values[i])) continue;
        sums[at] += series->values[i];
        found[at]++;
    }
    for (int64_t i = 0; i < count; i++) {
        sums[i] = found[i] ? sums[i] / (double)found[i] : NAN;
    }
    return sums;
}

static enum status series_chart(struct compare *compare, struct chart_page *page,
                                const struct run_series *series)
{
    int64_t last = 1;
    for (int i = 0; i < compare->num_runs; i++) {
        const struct run_history *history = &compare->histories[i];
        if (history->num_steps && history->steps[history->num_steps - 1] > last) {
            last = history->steps[history->num_steps - 1];
        }
    }
    int64_t count = last < CURVE_POINTS ? last : CURVE_POINTS;
    double width = (double)last / (double)count;
    double *x = arena_alloc(&compare->arena, (size_t)count * sizeof *x);
    CHECK(x, STATUS_NO_MEMORY, "out of memory for the comparison");
    struct chart chart = {.title = series->name,
                          .x = x,
                          .count = count,
                          .smooth = true,
                          .percent = chart_is_fraction(series->name)};
    for (int64_t i = 0; i < count; i++) {
        x[i] = width * ((double)i + 0.5) + 0.5;
    }
    for (int i = 0; i < compare->num_runs; i++) {
        const struct run_history *history = &compare->histories[i];
        double *values = on_grid(
            compare, history, run_history_find(history, series->group, series->name), count, width);
        CHECK(values, STATUS_NO_MEMORY, "out of memory for the comparison");
        chart.lines[chart.num_lines++] = (struct chart_line){compare->names[i], values};
    }
    chart_append(page, &chart);
    return STATUS_OK;
}

static int compare_numbers(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return left < right ? -1 : left > right;
}

/* A metric over the evaluations of all runs, at the union of their steps. */
static enum status eval_chart(struct compare *compare, struct chart_page *page, const char *split,
                              const char *name)
{
    int64_t most = 0;
    int64_t count = 0;
    for (int i = 0; i < compare->num_runs; i++) {
        most += compare->histories[i].num_evals;
    }
    double *x = arena_alloc(&compare->arena, (size_t)(most + 1) * sizeof *x);
    char *title = arena_printf(&compare->arena, "%s, %s", name, split);
    CHECK(x && title, STATUS_NO_MEMORY, "out of memory for the comparison");
    for (int i = 0; i < compare->num_runs; i++) {
        const struct run_history *history = &compare->histories[i];
        for (int j = 0; j < history->num_evals; j++) {
            x[count++] = (double)history->evals[j].step;
        }
    }
    qsort(x, (size_t)count, sizeof *x, compare_numbers);
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++) {
        if (kept == 0 || x[i] != x[kept - 1]) x[kept++] = x[i];
    }
    struct chart chart = {
        .title = title, .x = x, .count = kept, .percent = chart_is_fraction(name), .bridge = true};
    for (int i = 0; i < compare->num_runs; i++) {
        const struct run_history *history = &compare->histories[i];
        double *values = arena_alloc(&compare->arena, (size_t)(kept + 1) * sizeof *values);
        CHECK(values, STATUS_NO_MEMORY, "out of memory for the comparison");
        for (int64_t at = 0; at < kept; at++) {
            values[at] = NAN;
            for (int j = 0; j < history->num_evals; j++) {
                const struct run_history_eval *eval = &history->evals[j];
                if ((double)eval->step != x[at] || strcmp(eval->split, split) != 0) continue;
                for (int k = 0; k < eval->metrics.count; k++) {
                    const struct run_value *value = &eval->metrics.items[k];
                    if (strcmp(value->name, name) == 0) values[at] = value->value;
                }
            }
        }
        chart.lines[chart.num_lines++] = (struct chart_line){compare->names[i], values};
    }
    chart_append(page, &chart);
    return STATUS_OK;
}

static enum status eval_charts(struct compare *compare, struct chart_page *page)
{
    struct compare_rows drawn = {0};
    struct compare_row *row = NULL;
    for (int i = 0; i < compare->num_runs; i++) {
        const struct run_history *history = &compare->histories[i];
        for (int j = 0; j < history->num_evals; j++) {
            const struct run_history_eval *eval = &history->evals[j];
            for (int k = 0; k < eval->metrics.count; k++) {
                const char *name = eval->metrics.items[k].name;
                char *label = arena_printf(&compare->arena, "%s %s", eval->split, name);
                CHECK(label, STATUS_NO_MEMORY, "out of memory for the comparison");
                if (compare_has_row(&drawn, label)) continue;
                TRY(compare_add_row(compare, &drawn, label, &row));
                TRY(eval_chart(compare, page, eval->split, name));
            }
        }
    }
    return STATUS_OK;
}

static enum status series_charts(struct compare *compare, struct chart_page *page,
                                 const char *group)
{
    for (int i = 0; i < compare->num_runs; i++) {
        for (int j = 0; j < compare->histories[i].num_series; j++) {
            const struct run_series *series = &compare->histories[i].series[j];
            if (strcmp(series->group, group) != 0 || compare_seen_before(compare, i, series))
                continue;
            TRY(series_chart(compare, page, series));
        }
    }
    return STATUS_OK;
}

static enum status make_page(struct compare *compare, struct chart_page *page)
{
    struct strbuf *html = page->html;
    report_page_begin(html, "comparison", "weft compare");
    strbuf_append(html, "<header><h1>");
    for (int i = 0; i < compare->num_runs; i++) {
        if (i) strbuf_append(html, " <small>and</small> ");
        report_text(html, compare->names[i]);
    }
    strbuf_append(html, "</h1></header>\n<h2>What they reached <small>training: mean of the last "
                        "steps; bold: best</small></h2>\n");
    append_rows(html, compare, &compare->metrics);
    strbuf_append(html, "<h2>Configuration</h2>\n");
    if (compare->unread[0]) {
        strbuf_append(html, "<p class=soft>not compared: ");
        report_text(html, compare->unread);
        strbuf_append(html, "</p>\n");
    } else {
        strbuf_printf(html, "<p class=soft>%d keys differ, %d are the same</p>\n",
                      compare->configs.count, compare->num_equal);
        if (compare->configs.count) append_rows(html, compare, &compare->configs);
    }
    strbuf_append(html, "<h2 class=bar>Curves<label class=control>smoothing <input type=range "
                        "min=0 max=99 value=90><output>0.90</output></label></h2><div "
                        "class=charts>\n");
    TRY(series_charts(compare, page, "losses"));
    TRY(series_charts(compare, page, "metrics"));
    TRY(eval_charts(compare, page));
    strbuf_append(html, "</div>\n");
    report_page_end(html, page);
    CHECK(!html->failed, STATUS_NO_MEMORY, "out of memory for the comparison");
    return STATUS_OK;
}

enum status compare_write(struct compare *compare, const char *path)
{
    struct strbuf html = {0};
    struct chart_page page = {.html = &html};
    enum status status = make_page(compare, &page);
    if (status == STATUS_OK) status = report_page_write(&html, path);
    strbuf_fini(&html);
    strbuf_fini(&page.data);
    return status;
}
