/*
 * Pictures of the report: what retrieval found, and what fooled the model. A picture that cannot be
 * shown (data set moved, shard damaged) leaves its place with the reason in it; the report is made
 * all the same, for it may be made on another machine than the training.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/store/html.h"
#include "launch/progress.h"
#include "launch/report_impl.h"

enum { SHOT_SIDE = 160, QUERY_SIDE = 260, MOST_EXAMPLES = 12, MOST_CANDIDATES = 6 };

/* ---- one picture ---- */

void report_pictures_fini(struct report_pictures *pictures)
{
    for (int i = 0; i < pictures->num_sets; i++) {
        if (pictures->sets[i].store) store_close(&pictures->sets[i].store);
    }
    store_image_fini(&pictures->image);
    image_fini(&pictures->pixels);
    image_fini(&pictures->small);
    image_scratch_fini(&pictures->scratch);
    strbuf_fini(&pictures->encoded);
}

/* The set that `pattern` names, opened at the first call; NULL when there are too many. */
static const struct report_set *find_set(struct report_pictures *pictures, const char *pattern)
{
    for (int i = 0; i < pictures->num_sets; i++) {
        if (strcmp(pictures->sets[i].pattern, pattern) == 0) return &pictures->sets[i];
    }
    if (pictures->num_sets == REPORT_SETS) return NULL;
    struct report_set *set = &pictures->sets[pictures->num_sets++];
    const struct store_options options = {.unverified = true, .partial = true};
    set->pattern = pattern;
    if (store_open(&set->store, &pattern, 1, &options) != STATUS_OK) {
        set->store = NULL;
        snprintf(set->reason, sizeof set->reason, "%s", status_message());
    }
    return set;
}

static enum status load_small(struct report_pictures *pictures, const struct store *store,
                              int64_t index, int side, bool *lossless)
{
    struct image_info info;
    struct store_image *image = &pictures->image;
    TRY(store_image_read(store, index, image));
    TRY(image_probe(image->bytes, (size_t)image->size, &info));
    TRY(image_decode(image->bytes, (size_t)image->size, NULL, &pictures->pixels));
    int64_t width = pictures->pixels.width;
    int64_t height = pictures->pixels.height;
    int64_t longest = width > height ? width : height;
    double scale = longest > side ? (double)side / (double)longest : 1;
    struct image_resize how = {.filter = IMAGE_BICUBIC,
                               .width = (int64_t)fmax(1, floor((double)width * scale + 0.5)),
                               .height = (int64_t)fmax(1, floor((double)height * scale + 0.5))};
    *lossless = info.format == IMAGE_PNG;
    return image_resize(image_as_view(&pictures->pixels), &how, &pictures->scratch,
                        &pictures->small);
}

static enum status encode_small(struct report_pictures *pictures, bool lossless)
{
    enum { QUALITY = 84, LEVEL = 6 };
    struct image_view view = image_as_view(&pictures->small);
    strbuf_clear(&pictures->encoded);
    return lossless ? image_encode_png(view, LEVEL, &pictures->encoded)
                    : image_encode_jpeg(view, QUALITY, &pictures->encoded);
}

static void append_missing(struct strbuf *html, const char *reason)
{
    strbuf_append(html, "<span class=missing>no picture: ");
    report_text(html, reason);
    strbuf_append(html, "</span>");
}

enum status report_picture(struct report *report, const struct eval_image *image, int side)
{
    struct report_pictures *pictures = &report->pictures;
    struct strbuf *html = &report->html;
    bool lossless = false;
    if (!image->set) {
        append_missing(html, "the evaluation names none");
        return STATUS_OK;
    }
    const struct report_set *set = find_set(pictures, image->set);
    if (!set || !set->store) {
        append_missing(html, set ? set->reason : "too many data sets");
        return STATUS_OK;
    }
    enum status status = load_small(pictures, set->store, image->index, side, &lossless);
    if (status == STATUS_OK) status = encode_small(pictures, lossless);
    if (status != STATUS_OK) {
        append_missing(html, status_message());
        return status == STATUS_NO_MEMORY ? status : STATUS_OK;
    }
    strbuf_printf(html, "<img alt=\"image %lld\" src=\"", (long long)image->index);
    html_append_data_uri(html, lossless ? "image/png" : "image/jpeg", pictures->encoded.text,
                         (int64_t)pictures->encoded.length);
    strbuf_append(html, "\">");
    return STATUS_OK;
}

/* ---- one example ---- */

static enum status append_query(struct report *report, const struct eval_example *example)
{
    struct strbuf *html = &report->html;
    strbuf_append(html, "<div class=query>");
    if (example->query == EVAL_QUERY_CAPTION) {
        strbuf_append(html, "<p>");
        report_text(html, example->caption);
        strbuf_append(html, "</p>");
    } else {
        strbuf_append(html, "<div class=frame>");
        TRY(report_picture(report, &example->image, QUERY_SIDE));
        strbuf_append(html, "</div>");
    }
    strbuf_append(html, "</div>");
    return STATUS_OK;
}

/* A candidate as a picture in a frame: green for right, red for wrong where that was the question.
 */
static enum status append_shot(struct report *report, const struct eval_example *example, int place,
                               const struct eval_candidate *candidate, bool framed)
{
    struct strbuf *html = &report->html;
    bool negative = example->kind == EVAL_HARD_NEGATIVE;
    const char *class = candidate->correct ? " right" : framed && negative ? " wrong" : "";
    const struct eval_image *image = candidate->image.set ? &candidate->image : &example->image;
    strbuf_printf(html, "<div class=\"shot%s\"><div class=frame>", class);
    TRY(report_picture(report, image, SHOT_SIDE));
    strbuf_append(html, "</div><p>");
    if (negative) {
        strbuf_printf(html, candidate->correct ? "<span class=good>belongs together</span> "
                                               : "<span class=bad>taken for a match</span> ");
    } else if (place > 0) {
        strbuf_printf(html, "<span class=soft>%d</span> ", place);
    }
    strbuf_printf(html, "%.4f%s</p>", candidate->score,
                  candidate->correct && !negative ? " <span class=good>right</span>" : "");
    if (candidate->caption) {
        strbuf_append(html, "<p class=soft>");
        report_text(html, candidate->caption);
        strbuf_append(html, "</p>");
    }
    strbuf_append(html, "</div>");
    return STATUS_OK;
}

/* The right picture of a caption when it is not among those shown. */
static enum status append_right_one(struct report *report, const struct eval_example *example,
                                    int shown)
{
    for (int i = 0; i < shown; i++) {
        if (example->candidates[i].correct) return STATUS_OK;
    }
    if (!example->image.set) return STATUS_OK;
    strbuf_append(&report->html, "<div class=\"shot right\"><div class=frame>");
    TRY(report_picture(report, &example->image, SHOT_SIDE));
    strbuf_append(&report->html, "</div><p class=good>the right one");
    if (example->rank > 0) {
        strbuf_printf(&report->html, ", place %lld", (long long)example->rank);
    }
    strbuf_append(&report->html, "</p></div>");
    return STATUS_OK;
}

static void append_captions(struct report *report, const struct eval_example *example, int shown)
{
    struct strbuf *html = &report->html;
    bool has_right = false;
    strbuf_append(html, "<ul class=said>");
    for (int i = 0; i < shown; i++) {
        const struct eval_candidate *candidate = &example->candidates[i];
        has_right |= candidate->correct;
        bool fooled = example->kind == EVAL_HARD_NEGATIVE && !candidate->correct;
        strbuf_printf(html, "<li><span class=n>%d</span><span>%.4f</span><span%s>", i + 1,
                      candidate->score, candidate->correct ? " class=right" : "");
        report_text(html, candidate->caption ? candidate->caption : "(no text)");
        strbuf_printf(html, "</span><span class=%s>%s</span></li>", fooled ? "bad" : "good",
                      candidate->correct ? "\xE2\x9C\x93"
                      : fooled           ? "\xE2\x9C\x97"
                                         : "");
    }
    if (!has_right && example->caption) {
        strbuf_append(html, "<li><span class=n>");
        if (example->rank > 0) strbuf_printf(html, "%lld", (long long)example->rank);
        strbuf_append(html, "</span><span></span><span class=right>");
        report_text(html, example->caption);
        strbuf_append(html, "</span><span class=good>\xE2\x9C\x93</span></li>");
    }
    strbuf_append(html, "</ul>");
}

static enum status append_example(struct report *report, const struct eval_example *example)
{
    struct strbuf *html = &report->html;
    int shown =
        example->num_candidates < MOST_CANDIDATES ? example->num_candidates : MOST_CANDIDATES;
    bool wide = example->query == EVAL_QUERY_CAPTION;
    strbuf_append(html, wide ? "<div class=\"example wide\">" : "<div class=example>");
    TRY(append_query(report, example));
    if (!wide) {
        append_captions(report, example, shown);
    } else {
        strbuf_append(html, "<div class=ranked>");
        for (int i = 0; i < shown; i++) {
            TRY(append_shot(report, example, i + 1, &example->candidates[i], true));
        }
        TRY(append_right_one(report, example, shown));
        strbuf_append(html, "</div>");
    }
    strbuf_append(html, "</div>\n");
    return STATUS_OK;
}

/* ---- the section ---- */

static enum status append_kind(struct report *report, const struct eval_result *result,
                               enum eval_example_kind kind, enum eval_query query,
                               const char *title)
{
    struct strbuf *html = &report->html;
    int shown = 0;
    for (int i = 0; i < result->num_examples && shown < MOST_EXAMPLES; i++) {
        const struct eval_example *example = &result->examples[i];
        if (example->kind != kind || example->query != query) continue;
        bool narrow = kind == EVAL_HARD_NEGATIVE && query == EVAL_QUERY_CAPTION;
        if (shown++ == 0) {
            strbuf_printf(html, "<h3>%s</h3><div class=%s>\n", title, narrow ? "four" : "two");
        }
        TRY(append_example(report, example));
    }
    if (shown) strbuf_append(html, "</div>\n");
    return STATUS_OK;
}

static enum status append_result(struct report *report, const struct eval_result *result)
{
    static const struct {
        enum eval_example_kind kind;
        enum eval_query query;
        const char *title;
    } rows[] = {
        {EVAL_RETRIEVAL_BEST, EVAL_QUERY_CAPTION, "Found: pictures for a text"},
        {EVAL_RETRIEVAL_BEST, EVAL_QUERY_IMAGE, "Found: texts for a picture"},
        {EVAL_RETRIEVAL_WORST, EVAL_QUERY_CAPTION, "Missed: pictures for a text"},
        {EVAL_RETRIEVAL_WORST, EVAL_QUERY_IMAGE, "Missed: texts for a picture"},
        {EVAL_HARD_NEGATIVE, EVAL_QUERY_CAPTION,
         "Fooled: wrong pictures that the model took for a match"},
        {EVAL_HARD_NEGATIVE, EVAL_QUERY_IMAGE,
         "Fooled: wrong texts that the model took for a match"},
    };
    char text[32];
    strbuf_append(&report->html, "<h2>What it finds");
    if (result->split && result->split[0]) {
        strbuf_append(&report->html, " in ");
        report_text(&report->html, result->split);
    }
    strbuf_printf(&report->html,
                  " <small>step %s, best first, with the score of each</small></h2>\n",
                  number_text(result->step, text, sizeof text));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        TRY(append_kind(report, result, rows[i].kind, rows[i].query, rows[i].title));
    }
    return STATUS_OK;
}

/* Of each split the newest result that has examples. */
enum status report_examples(struct report *report)
{
    for (int i = 0; i < report->num_evals; i++) {
        const struct eval_result *result = &report->evals[i];
        bool newest = result->num_examples > 0;
        for (int j = i + 1; j < report->num_evals; j++) {
            const struct eval_result *other = &report->evals[j];
            bool same =
                strcmp(result->split ? result->split : "", other->split ? other->split : "") == 0;
            if (same && other->num_examples > 0) newest = false;
        }
        if (newest) TRY(append_result(report, result));
    }
    return STATUS_OK;
}
