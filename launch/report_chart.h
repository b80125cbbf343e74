/*
 * Charts as SVG, with their numbers as JSON for the page's script (smoothing, values under the
 * pointer). Without the script the SVG shows the same curves at the default smoothing.
 */
#ifndef WEFT_LAUNCH_REPORT_CHART_H
#define WEFT_LAUNCH_REPORT_CHART_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/strbuf.h"

enum { CHART_COLOURS = 8, CHART_LINES = 16 };

/* Weight of the past in the exponential mean that is drawn at first. It is meant for a curve of
 * CHART_SMOOTHING_POINTS points; of fewer points, the mean goes over as much of the width. */
#define CHART_SMOOTHING 0.9
enum { CHART_SMOOTHING_POINTS = 700 };

struct chart_line {
    const char *label;
    const double *values; /* [count], NaN where there is none; borrowed */
};

struct chart {
    const char *title;
    const char *note; /* small, after the title; NULL: none */
    const double *x;  /* [count], ascending; borrowed */
    int64_t count;
    struct chart_line lines[CHART_LINES];
    int num_lines;
    bool smooth;         /* draw the values faintly and their mean above */
    bool stack;          /* areas on top of each other, 0 to 1 */
    bool percent;        /* values are fractions */
    bool bridge;         /* lines go over values that are missing */
    bool from_zero;      /* the axis begins at 0 */
    const double *marks; /* x of vertical lines: where a run was resumed */
    int num_marks;
};

/* What is drawn so far. Zero-initialise; `data` holds the JSON of all charts. */
struct chart_page {
    struct strbuf *html; /* borrowed */
    struct strbuf data;
    int num_charts;
};

/* Appends a chart as a <figure> to page->html. Nothing when there is no finite value. */
void chart_append(struct chart_page *page, const struct chart *chart);

/* `value` as people read it: 0.3125, 61.2 % when `percent`, 1.2e-05; "–" for NaN. Returns `text`.
 */
const char *chart_number(double value, bool percent, char *text, size_t size);

/* Whether the values of a metric are fractions, shown as percent, by its name: accuracies, recalls,
 * tr@1, r1. */
bool chart_is_fraction(const char *name);

#endif
