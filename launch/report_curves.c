/*
 * Curves of training. A run has up to millions of steps and a chart a few hundred pixels: columns
 * are thinned out to the means of as many stretches of steps as are worth drawing, all of the same
 * number of steps.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/report_impl.h"

enum { CURVE_POINTS = 700, SHARE_POINTS = 140 };

/* ---- thinning ---- */

static int64_t thin_count(const struct report *report, int most)
{
    return report->history.num_steps < most ? report->history.num_steps : most;
}

/* The means of `values` over `count` stretches; without `values`, of the steps' numbers. NULL when
 * memory is out. */
static double *thin(struct report *report, const double *values, int64_t count)
{
    const struct run_history *history = &report->history;
    double *means = arena_alloc(&report->arena, (size_t)(count + 1) * sizeof *means);
    for (int64_t i = 0; means && i < count; i++) {
        int64_t begin = i * history->num_steps / count;
        int64_t end = (i + 1) * history->num_steps / count;
        double sum = 0;
        int64_t found = 0;
        for (int64_t j = begin; j < end; j++) {
            double value = values ? values[j] : (double)history->steps[j];
            if (!isfinite(value)) continue;
            sum += value;
            found++;
        }
        means[i] = found ? sum / (double)found : NAN;
    }
    return means;
}

static enum status resume_marks(struct report *report, struct chart *chart)
{
    const struct run_history *history = &report->history;
    double *marks = arena_alloc(&report->arena, (size_t)(history->num_starts + 1) * sizeof *marks);
    CHECK(marks, STATUS_NO_MEMORY, "out of memory for the report");
    for (int i = 0; i < history->num_starts; i++) {
        if (history->starts[i].start.step > 0) {
            marks[chart->num_marks++] = (double)history->starts[i].start.step;
        }
    }
    chart->marks = marks;
    return STATUS_OK;
}

static enum status begin_chart(struct report *report, struct chart *chart, int most)
{
    chart->count = thin_count(report, most);
    chart->x = thin(report, NULL, chart->count);
    CHECK(chart->x, STATUS_NO_MEMORY, "out of memory for the report");
    return resume_marks(report, chart);
}

static enum status add_line(struct report *report, struct chart *chart, const char *label,
                            const double *values)
{
    if (chart->num_lines == CHART_LINES) return STATUS_OK;
    double *means = thin(report, values, chart->count);
    CHECK(means, STATUS_NO_MEMORY, "out of memory for the report");
    chart->lines[chart->num_lines++] = (struct chart_line){label, means};
    return STATUS_OK;
}

/* ---- losses and metrics ---- */

static enum status one_chart(struct report *report, const struct run_series *series,
                             const char *title)
{
    struct chart chart = {.title = title,
                          .smooth = strcmp(series->name, "rss_mb") != 0,
                          .percent = chart_is_fraction(series->name)};
    TRY(begin_chart(report, &chart, CURVE_POINTS));
    TRY(add_line(report, &chart, series->name, series->values));
    chart_append(&report->charts, &chart);
    return STATUS_OK;
}

static bool has_group(const struct report *report, const char *group)
{
    for (int i = 0; i < report->history.num_series; i++) {
        if (strcmp(report->history.series[i].group, group) == 0) return true;
    }
    return false;
}

/* A heading with the slider that sets the smoothing of all charts. */
static void append_heading(struct report *report, const char *title)
{
    const struct run_history *history = &report->history;
    bool resumed = false;
    for (int i = 0; i < history->num_starts; i++) {
        resumed |= history->starts[i].start.step > 0;
    }
    strbuf_printf(&report->html,
                  "<h2 class=bar>%s%s<label class=control>smoothing <input type=range min=0 max=99 "
                  "value=%d><output>%.2f</output></label></h2><div class=charts>\n",
                  title, resumed ? "<small>&nbsp; dashed: resumed</small>" : "",
                  (int)(100 * CHART_SMOOTHING), CHART_SMOOTHING);
}

static enum status group_charts(struct report *report, const char *group, const char *title)
{
    struct strbuf *html = &report->html;
    if (!has_group(report, group)) return STATUS_OK;
    append_heading(report, title);
    for (int i = 0; i < report->history.num_series; i++) {
        const struct run_series *series = &report->history.series[i];
        if (strcmp(series->group, group) == 0) TRY(one_chart(report, series, series->name));
    }
    strbuf_append(html, "</div>\n");
    return STATUS_OK;
}

enum status report_curves(struct report *report)
{
    if (report->history.num_steps == 0) {
        strbuf_append(&report->html, "<p class=soft>No step has been logged.</p>\n");
        return STATUS_OK;
    }
    TRY(group_charts(report, "losses", "Losses"));
    return group_charts(report, "metrics", "Metrics of training batches");
}

/* ---- rates, time, memory ---- */

static enum status rates_chart(struct report *report)
{
    struct chart chart = {.title = "learning rate", .from_zero = true};
    TRY(begin_chart(report, &chart, CURVE_POINTS));
    for (int i = 0; i < report->history.num_series; i++) {
        const struct run_series *series = &report->history.series[i];
        if (strcmp(series->group, "lr") != 0) continue;
        TRY(add_line(report, &chart, series->name, series->values));
    }
    if (chart.num_lines) chart_append(&report->charts, &chart);
    return STATUS_OK;
}

/* Which share of the time of steps went where. */
static enum status share_chart(struct report *report)
{
    static const struct {
        const char *name;
        const char *label;
    } parts[] = {{"compute", "compute"},
                 {"communicate", "communicate"},
                 {"update", "update"},
                 {"checkpoint", "checkpoint"},
                 {"evaluate", "evaluate"},
                 {"wait_read", "wait: read"},
                 {"wait_decode", "wait: decode"},
                 {"wait_tokenise", "wait: tokenise"}};
    enum { NUM_PARTS = sizeof parts / sizeof parts[0] };
    const struct run_series *whole = run_history_find(&report->history, "seconds", "step");
    struct chart chart = {.title = "where the time goes", .stack = true};
    if (!whole) return STATUS_OK;
    TRY(begin_chart(report, &chart, SHARE_POINTS));
    double *step = thin(report, whole->values, chart.count);
    double *rest = arena_alloc(&report->arena, (size_t)(chart.count + 1) * sizeof *rest);
    CHECK(step && rest, STATUS_NO_MEMORY, "out of memory for the report");
    for (int64_t i = 0; i < chart.count; i++) {
        rest[i] = 1;
    }
    for (int i = 0; i < NUM_PARTS; i++) {
        const struct run_series *series =
            run_history_find(&report->history, "seconds", parts[i].name);
        if (!series) continue;
        double *share = thin(report, series->values, chart.count);
        CHECK(share, STATUS_NO_MEMORY, "out of memory for the report");
        double sum = 0;
        for (int64_t j = 0; j < chart.count; j++) {
            share[j] = step[j] > 0 && isfinite(share[j]) ? fmin(share[j] / step[j], rest[j]) : 0;
            rest[j] -= share[j];
            sum += share[j];
        }
        if (sum > 5e-4 * (double)chart.count) {
            chart.lines[chart.num_lines++] = (struct chart_line){parts[i].label, share};
        }
    }
    chart.lines[chart.num_lines++] = (struct chart_line){"other", rest};
    chart_append(&report->charts, &chart);
    return STATUS_OK;
}

enum status report_machine(struct report *report)
{
    static const struct {
        const char *group;
        const char *name;
        const char *title;
    } singles[] = {{"run", "samples_per_s", "samples a second"},
                   {"seconds", "step", "seconds a step"},
                   {"run", "gradient_norm", "gradient norm"},
                   {"run", "rss_mb", "memory of rank 0, MB"}};
    if (report->history.num_steps == 0) return STATUS_OK;
    append_heading(report, "Optimiser, time and memory");
    TRY(rates_chart(report));
    TRY(share_chart(report));
    for (size_t i = 0; i < sizeof singles / sizeof singles[0]; i++) {
        const struct run_series *series =
            run_history_find(&report->history, singles[i].group, singles[i].name);
        if (series) TRY(one_chart(report, series, singles[i].title));
    }
    strbuf_append(&report->html, "</div>\n");
    return STATUS_OK;
}
