/* What the parts of the report share. */
#ifndef WEFT_LAUNCH_REPORT_IMPL_H
#define WEFT_LAUNCH_REPORT_IMPL_H

#include "data/image/image.h"
#include "data/image/resize.h"
#include "data/store/store.h"
#include "launch/eval_result.h"
#include "launch/report_chart.h"
#include "launch/run_history.h"

/* The style sheet and the script, in pieces ended by NULL. */
extern const char *const report_css[];
extern const char *const report_js[];

enum { REPORT_SETS = 16 };

/* The data sets that pictures come from, each opened once, and the buffers of one picture. */
struct report_pictures {
    int num_sets;
    struct report_set {
        const char *pattern;
        struct store *store; /* NULL: could not be opened */
        char reason[400];
    } sets[REPORT_SETS];
    struct store_image image;
    struct image pixels;
    struct image small;
    struct image_scratch scratch;
    struct strbuf encoded;
};

struct report {
    const char *run;
    struct run_history history;
    struct arena arena;
    struct strbuf html;
    struct chart_page charts;
    struct eval_result *evals; /* [num_evals], of eval/, by step */
    int num_evals;
    int num_unread;   /* files of eval/ that could not be read */
    char unread[512]; /* why, of the first */
    struct report_pictures pictures;
};

/* HTML-escaped text; nothing for NULL. */
void report_text(struct strbuf *html, const char *text);

/* "8 min 20 s". Returns `text`. */
const char *report_duration(double seconds, char *text, size_t size);

/* "2026-11-22 14:03 UTC". Returns `text`. */
const char *report_time(double time, char *text, size_t size);

/* The last part of the run's real path, in the arena; NULL when memory is out. */
char *report_run_name(struct arena *arena, const char *run);

/* The page up to its <main>, with "TITLE - KIND" as the title; and from there to its end, with the
 * charts' numbers and the script. */
void report_page_begin(struct strbuf *html, const char *title, const char *kind);
void report_page_end(struct strbuf *html, const struct chart_page *charts);

/* Writes the page to `path`, replaced as a whole. Errors: STATUS_IO, STATUS_NO_MEMORY. */
enum status report_page_write(const struct strbuf *html, const char *path);

/* Reads the results in RUN/eval. What cannot be read is counted. Errors: STATUS_NO_MEMORY. */
enum status report_read_evals(struct report *report);

/* The section of tables and curves of evaluations; of pictures. Nothing when there is none. */
enum status report_evaluation(struct report *report);
enum status report_examples(struct report *report);

/* An <img> of the picture, at most `side` pixels on a side, or the reason why there is none. */
enum status report_picture(struct report *report, const struct eval_image *image, int side);
void report_pictures_fini(struct report_pictures *pictures);

/* The sections of charts of training: losses and metrics; rates, time and memory. */
enum status report_curves(struct report *report);
enum status report_machine(struct report *report);

#endif
