/*
 * Every chart has the same frame (W x H units, scaled by the page), so the script needs only the
 * ranges of the axes to draw in the same place. The vertical range leaves out the half percent of
 * outliers at either end of noisy curves: a spike must not flatten the rest; it is cut off at the
 * frame instead.
 */
#include "launch/report_chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/store/html.h"
#include "launch/json_text.h"
#include "launch/progress.h"

enum { W = 420, H = 206, LEFT = 50, RIGHT = 10, TOP = 8, BOTTOM = 26 };

struct axes {
    double x0;
    double x1;
    double y0;
    double y1;
};

static double px(const struct axes *axes, double x)
{
    return LEFT + (x - axes->x0) / (axes->x1 - axes->x0) * (W - LEFT - RIGHT);
}

static double py(const struct axes *axes, double y)
{
    return TOP + (axes->y1 - y) / (axes->y1 - axes->y0) * (H - TOP - BOTTOM);
}

const char *chart_number(double value, bool percent, char *text, size_t size)
{
    double size_of = fabs(value);
    if (!isfinite(value)) {
        snprintf(text, size, "%s", isnan(value) ? "\xE2\x80\x93" : value > 0 ? "inf" : "-inf");
    } else if (percent) {
        snprintf(text, size, 100 * size_of < 1 && value != 0 ? "%.2f %%" : "%.1f %%", 100 * value);
    } else if (size_of >= 1e4 && size_of < 1e15 && floor(value) == value) {
        number_text((int64_t)value, text, size);
    } else if (size_of != 0 && (size_of < 1e-3 || size_of >= 1e6)) {
        snprintf(text, size, "%.2e", value);
    } else {
        snprintf(text, size, "%.4g", value);
    }
    return text;
}

bool chart_is_fraction(const char *name)
{
    const char *rank = strstr(name, "_r");
    return strchr(name, '@') || strstr(name, "accuracy") || strstr(name, "recall") ||
           (rank && rank[2] >= '0' && rank[2] <= '9');
}

/* ---- ranges ---- */

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return left < right ? -1 : left > right;
}

static bool value_range(const struct chart *chart, struct axes *axes)
{
    int64_t count = 0;
    double *all = malloc((size_t)(chart->count * chart->num_lines + 1) * sizeof *all);
    if (!all) return false;
    for (int i = 0; i < chart->num_lines; i++) {
        for (int64_t j = 0; j < chart->count; j++) {
            if (isfinite(chart->lines[i].values[j])) all[count++] = chart->lines[i].values[j];
        }
    }
    if (count > 0) {
        qsort(all, (size_t)count, sizeof *all, compare_doubles);
        int64_t cut = chart->smooth ? count / 200 : 0;
        axes->y0 = all[cut];
        axes->y1 = all[count - 1 - cut];
    }
    free(all);
    return count > 0;
}

static bool choose_axes(const struct chart *chart, struct axes *axes)
{
    if (chart->count == 0 || !value_range(chart, axes)) return false;
    axes->x0 = chart->x[0];
    axes->x1 = chart->x[chart->count - 1];
    if (axes->x1 <= axes->x0) {
        axes->x0 -= 1;
        axes->x1 += 1;
    }
    if (chart->stack) {
        axes->y0 = 0;
        axes->y1 = 1;
        return true;
    }
    bool positive = axes->y0 >= 0;
    if (positive && (chart->from_zero || axes->y0 < 0.3 * axes->y1)) axes->y0 = 0;
    double pad = 0.05 * (axes->y1 - axes->y0);
    /* Values that differ by rounding alone are one value. */
    if (pad <= 1e-10 * fabs(axes->y1)) pad = axes->y1 != 0 ? 0.1 * fabs(axes->y1) : 1;
    if (axes->y0 != 0 || !positive) axes->y0 -= pad;
    axes->y1 += pad;
    return true;
}

/* A step of 1, 2 or 5 times a power of ten that gives about `count` ticks. */
static double tick_step(double range, int count)
{
    double raw = range / count;
    double power = pow(10, floor(log10(raw)));
    double first = raw / power;
    return power * (first < 1.5 ? 1 : first < 3.5 ? 2 : first < 7.5 ? 5 : 10);
}

/* Counted, as a step that is small beside its values may not change them when it is added. */
struct ticks {
    double first;
    double step;
    int count;
};

static struct ticks choose_ticks(double low, double high, int wanted)
{
    enum { MOST = 32 };
    double step = tick_step(high - low, wanted);
    double first = ceil(low / step) * step;
    double count = floor((high - first) / step + 1e-6) + 1;
    return (struct ticks){first, step, count >= 1 && count <= MOST ? (int)count : 0};
}

/* ---- drawing ---- */

static void tick_text(double value, double step, bool percent, char *text, size_t size)
{
    if (fabs(value) < step * 1e-6) value = 0;
    if (percent) {
        snprintf(text, size, 100 * step < 0.99 ? "%.1f%%" : "%.0f%%", 100 * value);
    } else if (fabs(value) >= 1e6 && value / 1e6 == floor(value / 1e5) / 10) {
        snprintf(text, size, "%gM", value / 1e6);
    } else if (fabs(value) >= 1e4 && value / 1e3 == floor(value / 1e2) / 10) {
        snprintf(text, size, "%gk", value / 1e3);
    } else {
        snprintf(text, size, "%.4g", value);
    }
}

static void append_axes(struct strbuf *html, const struct chart *chart, const struct axes *axes)
{
    char text[40];
    struct ticks ticks = choose_ticks(axes->y0, axes->y1, 4);
    for (int i = 0; i < ticks.count; i++) {
        double y = ticks.first + i * ticks.step;
        double at = py(axes, y);
        tick_text(y, ticks.step, chart->percent || chart->stack, text, sizeof text);
        strbuf_printf(html,
                      "<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f /><text class=tick x=%d "
                      "y=%.1f text-anchor=end>%s</text>",
                      LEFT, W - RIGHT, at, at, LEFT - 6, at + 4.5, text);
    }
    ticks = choose_ticks(axes->x0, axes->x1, 5);
    for (int i = 0; i < ticks.count; i++) {
        double x = ticks.first + i * ticks.step;
        double at = px(axes, x);
        tick_text(x, ticks.step, false, text, sizeof text);
        strbuf_printf(html, "<text class=tick x=%.1f y=%d text-anchor=%s>%s</text>", at, H - 7,
                      at > W - RIGHT - 16 ? "end" : "middle", text);
    }
    for (int i = 0; i < chart->num_marks; i++) {
        double at = px(axes, chart->marks[i]);
        if (at <= LEFT || at >= W - RIGHT) continue;
        strbuf_printf(html,
                      "<line class=mark x1=%.1f x2=%.1f y1=%d y2=%d><title>resumed at step "
                      "%.0f</title></line>",
                      at, at, TOP, H - BOTTOM, chart->marks[i]);
    }
}

static void append_points(struct strbuf *html, const struct axes *axes, const struct chart *chart,
                          const double *y)
{
    const double *x = chart->x;
    bool pen = false;
    for (int64_t i = 0; i < chart->count; i++) {
        if (!isfinite(y[i])) {
            pen = pen && chart->bridge;
            continue;
        }
        double at = py(axes, y[i]);
        at = at < -2 * H ? -2 * H : at > 3 * H ? 3 * H : at;
        strbuf_printf(html, "%c%.1f %.1f", pen ? 'L' : 'M', px(axes, x[i]), at);
        pen = true;
    }
}

/* Exponential mean without the bias of its beginning, as the script computes it. */
static void smooth(const double *values, int64_t count, double *out)
{
    double past = pow(CHART_SMOOTHING, (double)CHART_SMOOTHING_POINTS / (double)count);
    double sum = 0;
    double weight = 0;
    for (int64_t i = 0; i < count; i++) {
        out[i] = values[i];
        if (!isfinite(values[i])) continue;
        sum = past * sum + (1 - past) * values[i];
        weight = past * weight + (1 - past);
        out[i] = sum / weight;
    }
}

static void append_dots(struct strbuf *html, const struct axes *axes, const struct chart *chart,
                        int line)
{
    for (int64_t i = 0; i < chart->count; i++) {
        double y = chart->lines[line].values[i];
        if (!isfinite(y)) continue;
        strbuf_printf(html, "<circle class=\"dot c%d\" cx=%.1f cy=%.1f r=2.6 />",
                      line % CHART_COLOURS, px(axes, chart->x[i]), py(axes, y));
    }
}

static void append_line(struct strbuf *html, const struct axes *axes, const struct chart *chart,
                        int line)
{
    const double *values = chart->lines[line].values;
    int colour = line % CHART_COLOURS;
    if (!chart->smooth) {
        strbuf_printf(html, "<path class=\"line c%d\" d=\"", colour);
        append_points(html, axes, chart, values);
        strbuf_append(html, "\"/>");
        if (chart->count <= 40) append_dots(html, axes, chart, line);
        return;
    }
    double *mean = malloc((size_t)chart->count * sizeof *mean);
    if (!mean) {
        html->failed = true;
        return;
    }
    smooth(values, chart->count, mean);
    strbuf_printf(html, "<path class=\"raw c%d\" d=\"", colour);
    append_points(html, axes, chart, values);
    strbuf_printf(html, "\"/><path class=\"line c%d\" data-line=%d d=\"", colour, line);
    append_points(html, axes, chart, mean);
    strbuf_append(html, "\"/>");
    free(mean);
}

/* The area between the sum of the lines before and with `line`. */
static void append_area(struct strbuf *html, const struct axes *axes, const struct chart *chart,
                        int line)
{
    strbuf_printf(html, "<path class=\"area c%d\" d=\"", line % CHART_COLOURS);
    for (int upper = 1; upper >= 0; upper--) {
        for (int64_t i = 0; i < chart->count; i++) {
            int64_t at = upper ? i : chart->count - 1 - i;
            double sum = 0;
            for (int j = 0; j < line + upper; j++) {
                double value = chart->lines[j].values[at];
                sum += isfinite(value) ? value : 0;
            }
            strbuf_printf(html, "%c%.1f %.1f", upper && i == 0 ? 'M' : 'L', px(axes, chart->x[at]),
                          py(axes, sum));
        }
    }
    strbuf_append(html, "Z\"/>");
}

static double last_value(const struct chart *chart, int line)
{
    double mean = NAN;
    const double *values = chart->lines[line].values;
    double *out = malloc((size_t)chart->count * sizeof *out);
    if (!out) return NAN;
    smooth(values, chart->count, out);
    for (int64_t i = 0; i < chart->count; i++) {
        if (isfinite(out[i])) mean = chart->smooth ? out[i] : values[i];
    }
    free(out);
    return mean;
}

/* Of a stack the mean share, otherwise the last value. */
static double legend_value(const struct chart *chart, int line)
{
    if (!chart->stack) return last_value(chart, line);
    double sum = 0;
    for (int64_t i = 0; i < chart->count; i++) {
        double value = chart->lines[line].values[i];
        sum += isfinite(value) ? value : 0;
    }
    return sum / (double)chart->count;
}

static void append_head(struct strbuf *html, const struct chart *chart)
{
    char text[40];
    strbuf_append(html, "<figcaption><b>");
    html_append_text(html, chart->title, (int64_t)strlen(chart->title));
    strbuf_append(html, "</b>");
    if (chart->note) {
        strbuf_append(html, " <small>");
        html_append_text(html, chart->note, (int64_t)strlen(chart->note));
        strbuf_append(html, "</small>");
    }
    strbuf_append(html, "<span class=legend>");
    for (int i = 0; i < chart->num_lines; i++) {
        strbuf_printf(html, "<span><i class=\"c%d\"></i>", i % CHART_COLOURS);
        if (chart->num_lines > 1) {
            html_append_text(html, chart->lines[i].label, (int64_t)strlen(chart->lines[i].label));
            strbuf_append(html, " ");
        }
        strbuf_printf(html, "<em>%s</em></span>",
                      chart_number(legend_value(chart, i), chart->percent || chart->stack, text,
                                   sizeof text));
    }
    strbuf_append(html, "</span></figcaption>");
}

/* ---- numbers for the script ---- */

/* Six digits are more than a pixel shows; JSON has no NaN. */
static void append_numbers(struct strbuf *data, const double *values, int64_t count)
{
    strbuf_append(data, "[");
    for (int64_t i = 0; i < count; i++) {
        if (i) strbuf_append(data, ",");
        if (isfinite(values[i])) {
            strbuf_printf(data, "%.6g", values[i]);
        } else {
            strbuf_append(data, "null");
        }
    }
    strbuf_append(data, "]");
}

static void append_data(struct chart_page *page, const struct chart *chart, const struct axes *axes)
{
    struct strbuf *data = &page->data;
    strbuf_printf(data, "%s{\"axes\":[%.9g,%.9g,%.9g,%.9g],\"percent\":%d,\"smooth\":%d,\"x\":",
                  page->num_charts ? ",\n" : "", axes->x0, axes->x1, axes->y0, axes->y1,
                  chart->percent || chart->stack, chart->smooth);
    append_numbers(data, chart->x, chart->count);
    strbuf_append(data, ",\"lines\":[");
    for (int i = 0; i < chart->num_lines; i++) {
        struct strbuf label = {0};
        /* "</script>" in a name must not end the element. */
        html_append_text(&label, chart->lines[i].label, (int64_t)strlen(chart->lines[i].label));
        strbuf_append(data, i ? ",{\"label\":" : "{\"label\":");
        json_append_string(data, label.text ? label.text : "");
        strbuf_fini(&label);
        strbuf_append(data, ",\"values\":");
        append_numbers(data, chart->lines[i].values, chart->count);
        strbuf_append(data, "}");
    }
    strbuf_append(data, "]}");
}

void chart_append(struct chart_page *page, const struct chart *chart)
{
    struct strbuf *html = page->html;
    struct axes axes;
    if (!choose_axes(chart, &axes)) return;
    append_data(page, chart, &axes);
    strbuf_append(html, "<figure class=chart>");
    append_head(html, chart);
    strbuf_printf(html,
                  "<svg viewBox=\"0 0 %d %d\" data-chart=%d role=img><clipPath id=clip%d><rect "
                  "x=%d y=%d width=%d height=%d /></clipPath>",
                  W, H, page->num_charts, page->num_charts, LEFT, TOP - 2, W - LEFT - RIGHT,
                  H - TOP - BOTTOM + 4);
    if (!chart->stack) append_axes(html, chart, &axes);
    strbuf_printf(html, "<g clip-path=\"url(#clip%d)\">", page->num_charts);
    for (int i = 0; i < chart->num_lines; i++) {
        if (chart->stack) {
            append_area(html, &axes, chart, i);
        } else {
            append_line(html, &axes, chart, i);
        }
    }
    strbuf_append(html, "</g>");
    if (chart->stack) append_axes(html, chart, &axes);
    strbuf_append(html, "</svg></figure>\n");
    page->num_charts++;
}
