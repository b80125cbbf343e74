/*
 * Each picture is decoded, made smaller, its boxes are drawn into the pixels, and it is encoded
 * again into a data URI. A phrase and its boxes have one colour: that of the first box with the
 * same spans.
 */
#include "data/store/sheet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/image/image.h"
#include "data/image/resize.h"
#include "data/store/html.h"
#include "data/store/rules.h"
#include "runtime/base/strbuf.h"

enum { MAX_TEXT = 600, MAX_LISTED_BOXES = 60 };

struct sheet {
    const struct store *store;
    const struct sheet_options *options;
    struct strbuf html;
    struct store_image image;
    struct store_text text;
    struct store_boxes boxes;
    struct store_answers answers;
    struct image pixels;
    struct image small;
    struct image_scratch scratch;
    struct strbuf encoded;
};

static void sheet_fini(struct sheet *sheet)
{
    strbuf_fini(&sheet->html);
    store_image_fini(&sheet->image);
    store_text_fini(&sheet->text);
    store_boxes_fini(&sheet->boxes);
    store_answers_fini(&sheet->answers);
    image_fini(&sheet->pixels);
    image_fini(&sheet->small);
    image_scratch_fini(&sheet->scratch);
    strbuf_fini(&sheet->encoded);
}

/* ---- colours ---- */

static bool same_phrase(const struct store_boxes *boxes, const struct store_box *a,
                        const struct store_box *b)
{
    if (a->text != b->text || a->num_spans != b->num_spans || a->num_spans == 0) return false;
    return memcmp(&boxes->spans[a->first_span], &boxes->spans[b->first_span],
                  (size_t)a->num_spans * sizeof *boxes->spans) == 0;
}

static int box_colour(const struct store_boxes *boxes, int32_t index)
{
    int32_t first = 0;
    while (first < index && !same_phrase(boxes, &boxes->boxes[first], &boxes->boxes[index])) {
        first++;
    }
    return (int)(first % HTML_NUM_COLOURS);
}

/* ---- pictures ---- */

static enum status load_small(struct sheet *sheet, int64_t index, enum image_format *format,
                              double *scale)
{
    struct image_info info;
    const struct store_image *image = &sheet->image;
    TRY(store_image_read(sheet->store, index, &sheet->image));
    TRY(image_probe(image->bytes, (size_t)image->size, &info));
    TRY(image_decode(image->bytes, (size_t)image->size, NULL, &sheet->pixels));
    int64_t width = sheet->pixels.width;
    int64_t height = sheet->pixels.height;
    int64_t longest = width > height ? width : height;
    *scale = longest > sheet->options->side ? (double)sheet->options->side / (double)longest : 1;
    *format = info.format;
    struct image_resize how = {.filter = IMAGE_BICUBIC,
                               .width = (int64_t)((double)width * *scale + 0.5),
                               .height = (int64_t)((double)height * *scale + 0.5)};
    if (how.width < 1) how.width = 1;
    if (how.height < 1) how.height = 1;
    return image_resize(image_as_view(&sheet->pixels), &how, &sheet->scratch, &sheet->small);
}

static enum status append_picture(struct sheet *sheet, int64_t index, bool with_boxes)
{
    enum { QUALITY = 88, LEVEL = 6 };
    enum image_format format = IMAGE_UNKNOWN;
    double scale = 1;
    enum status status = load_small(sheet, index, &format, &scale);
    if (status != STATUS_OK) {
        int shard = 0;
        int64_t row = 0;
        store_locate_image(sheet->store, index, &shard, &row);
        return status_prefix(status, "%s: image %lld", store_shard_path(sheet->store, shard),
                             (long long)row);
    }
    for (int32_t i = 0; with_boxes && i < sheet->boxes.num_boxes; i++) {
        float box[4];
        for (int j = 0; j < 4; j++) {
            box[j] = (float)((double)sheet->boxes.boxes[i].xyxy[j] * scale);
        }
        image_draw_box(&sheet->small, box, html_colours[box_colour(&sheet->boxes, i)], 2);
    }
    struct image_view view = image_as_view(&sheet->small);
    strbuf_clear(&sheet->encoded);
    bool lossless = format == IMAGE_PNG;
    TRY(lossless ? image_encode_png(view, LEVEL, &sheet->encoded)
                 : image_encode_jpeg(view, QUALITY, &sheet->encoded));
    strbuf_append(&sheet->html, "<img alt=\"\" src=\"");
    html_append_data_uri(&sheet->html, lossless ? "image/png" : "image/jpeg", sheet->encoded.text,
                         (int64_t)sheet->encoded.length);
    strbuf_printf(&sheet->html, "\" width=\"%lld\" height=\"%lld\">", (long long)view.width,
                  (long long)view.height);
    return STATUS_OK;
}

/* ---- texts ---- */

/* The colour of the phrase that character `at` of text `text` belongs to, -1 for none. */
static int phrase_colour(const struct store_boxes *boxes, int64_t text, int64_t at)
{
    for (int32_t i = 0; i < boxes->num_boxes; i++) {
        const struct store_box *box = &boxes->boxes[i];
        if (box->text != text) continue;
        for (int32_t j = 0; j < box->num_spans; j++) {
            const struct store_span *span = &boxes->spans[box->first_span + j];
            if (at >= span->begin && at < span->end) return box_colour(boxes, i);
        }
    }
    return -1;
}

static void open_mark(struct strbuf *html, int colour)
{
    strbuf_printf(html, "<b style=\"color:#%02x%02x%02x\">", html_colours[colour][0],
                  html_colours[colour][1], html_colours[colour][2]);
}

static int64_t character_end(const struct store_text *text, int64_t at)
{
    at++;
    while (at < text->length && (text->text[at] & 0xC0) == 0x80) {
        at++;
    }
    return at;
}

static void append_words(struct sheet *sheet)
{
    const struct store_text *text = &sheet->text;
    struct strbuf *html = &sheet->html;
    int64_t at = 0;
    int64_t begin = 0; /* of the run of one colour */
    int colour = -1;
    for (int64_t i = 0; at < text->length && i < MAX_TEXT; i++) {
        int next = phrase_colour(&sheet->boxes, text->index, i);
        if (next != colour) {
            html_append_text(html, text->text + begin, at - begin);
            if (colour >= 0) strbuf_append(html, "</b>");
            if (next >= 0) open_mark(html, next);
            colour = next;
            begin = at;
        }
        at = character_end(text, at);
    }
    html_append_text(html, text->text + begin, at - begin);
    if (colour >= 0) strbuf_append(html, "</b>");
    if (at < text->length) {
        strbuf_printf(html, " <i>... %lld bytes more</i>", (long long)(text->length - at));
    }
}

static enum status append_answers(struct sheet *sheet)
{
    TRY(store_answers_read(sheet->store, sheet->text.index, &sheet->answers));
    for (int32_t i = 0; i < sheet->answers.num_answers; i++) {
        const struct store_answer *answer = &sheet->answers.answers[i];
        strbuf_append(&sheet->html, i ? ", " : " <span class=answer>");
        html_append_text(&sheet->html, answer->answer, answer->length);
        if (answer->score < 1) strbuf_printf(&sheet->html, " %.2g", (double)answer->score);
    }
    if (sheet->answers.num_answers) strbuf_append(&sheet->html, "</span>");
    return STATUS_OK;
}

static enum status append_text(struct sheet *sheet, int64_t index)
{
    struct strbuf *html = &sheet->html;
    TRY(store_text_read(sheet->store, index, &sheet->text));
    const struct store_text *text = &sheet->text;
    strbuf_append(html, "<p>");
    if (text->kind != TEXT_CAPTION) {
        strbuf_printf(html, "<span class=kind>%s</span> ", text_kind_name(text->kind));
    }
    append_words(sheet);
    if (text->label >= 0) {
        strbuf_printf(html, " <span class=%s>%s</span>", text->label ? "true" : "false",
                      text->label ? "true" : "false");
    }
    TRY(append_answers(sheet));
    if (text->image2 >= 0) {
        strbuf_append(html, "<br><span class=kind>right picture</span><br>");
        TRY(append_picture(sheet, text->image2, false));
    }
    strbuf_append(html, "</p>\n");
    return STATUS_OK;
}

/* ---- boxes ---- */

static void append_box(struct sheet *sheet, int32_t index)
{
    const struct store_box *box = &sheet->boxes.boxes[index];
    struct strbuf *html = &sheet->html;
    strbuf_append(html, "<li>");
    open_mark(html, box_colour(&sheet->boxes, index));
    const char *category = store_category_name(sheet->store, box->category);
    strbuf_append(html, "&#9632;</b> ");
    html_append_text(html, category, (int64_t)strlen(category));
    if (box->crowd) strbuf_append(html, " (crowd)");
    strbuf_printf(html, " <small>%.0f, %.0f to %.0f, %.0f</small></li>\n", (double)box->xyxy[0],
                  (double)box->xyxy[1], (double)box->xyxy[2], (double)box->xyxy[3]);
}

static void append_boxes(struct sheet *sheet)
{
    int32_t count = sheet->boxes.num_boxes;
    if (count == 0) return;
    strbuf_printf(&sheet->html, "<details><summary>%d box%s</summary><ul>\n", count,
                  count == 1 ? "" : "es");
    for (int32_t i = 0; i < count && i < MAX_LISTED_BOXES; i++) {
        append_box(sheet, i);
    }
    if (count > MAX_LISTED_BOXES) strbuf_append(&sheet->html, "<li>...</li>\n");
    strbuf_append(&sheet->html, "</ul></details>\n");
}

/* ---- the page ---- */

static enum status append_card(struct sheet *sheet, int64_t index)
{
    struct strbuf *html = &sheet->html;
    int64_t first = 0;
    int64_t count = 0;
    TRY(store_boxes_read(sheet->store, index, -1, &sheet->boxes));
    strbuf_append(html, "<div class=card>");
    TRY(append_picture(sheet, index, true));
    TRY(store_image_key(sheet->store, index, &sheet->image));
    strbuf_printf(html, "<h2>%lld ", (long long)index);
    html_append_text(html, sheet->image.key, (int64_t)strlen(sheet->image.key));
    strbuf_printf(html, " <small>%d x %d</small></h2>\n", (int)sheet->pixels.width,
                  (int)sheet->pixels.height);
    TRY(store_image_texts(sheet->store, index, &first, &count));
    for (int64_t i = first; i < first + count; i++) {
        TRY(append_text(sheet, i));
    }
    append_boxes(sheet);
    strbuf_append(html, "</div>\n");
    CHECK(!html->failed, STATUS_NO_MEMORY, "out of memory for the contact sheet");
    return STATUS_OK;
}

static void append_head(struct sheet *sheet, const struct summary *summary)
{
    struct strbuf *html = &sheet->html;
    const struct store *store = sheet->store;
    const char *name = store_name(store)[0] ? store_name(store) : store_shard_path(store, 0);
    strbuf_append(html, "<!doctype html><html lang=en><meta charset=utf-8><title>");
    html_append_text(html, name, (int64_t)strlen(name));
    strbuf_append(html,
                  "</title><style>body{font:15px/1.4 system-ui,sans-serif;margin:24px;color:#222;"
                  "background:#f4f4f2}.grid{display:flex;flex-wrap:wrap;gap:16px;"
                  "align-items:flex-start}.card{background:#fff;border:1px solid #ddd;"
                  "border-radius:6px;padding:10px;width:340px;overflow-wrap:anywhere}"
                  "img{display:block;max-width:100%;height:auto}h2{font-size:13px;margin:6px 0}"
                  "p{margin:6px 0}small{color:#888;font-weight:normal}.kind{color:#888}"
                  ".answer{color:#06c}.true{color:#080}.false{color:#c00}ul{margin:4px 0;"
                  "padding-left:4px;list-style:none}</style>\n<h1>");
    html_append_text(html, name, (int64_t)strlen(name));
    strbuf_printf(html,
                  "</h1><p>%lld images, %lld texts, %lld boxes, %lld answers, %lld spans in %d "
                  "shards</p>\n",
                  (long long)store_num_images(store), (long long)store_num_texts(store),
                  (long long)store_num_boxes(store), (long long)store_num_answers(store),
                  (long long)summary->num_spans, store_num_shards(store));
    int64_t order[12];
    int64_t top = summary_top_categories(store, summary, 12, order);
    for (int64_t i = 0; i < top; i++) {
        const char *category = store_category_name(store, order[i]);
        strbuf_append(html, i ? ", " : "<p>Most boxes: ");
        html_append_text(html, category, (int64_t)strlen(category));
        strbuf_printf(html, " %lld", (long long)summary->num_category[order[i]]);
    }
    strbuf_append(html, "</p>\n<div class=grid>\n");
}

static enum status flush(struct sheet *sheet, FILE *file, const char *path)
{
    CHECK(!sheet->html.failed, STATUS_NO_MEMORY, "out of memory for the contact sheet");
    size_t length = sheet->html.length;
    CHECK(length == 0 || fwrite(sheet->html.text, 1, length, file) == length, STATUS_IO,
          "%s: cannot write: %s", path, strerror(errno));
    strbuf_clear(&sheet->html);
    return STATUS_OK;
}

static enum status write_page(struct sheet *sheet, const struct summary *summary, FILE *file,
                              const char *path)
{
    const struct sheet_options *options = sheet->options;
    int64_t images = store_num_images(sheet->store);
    int64_t first = options->first >= 0 ? options->first : 0;
    CHECK(images == 0 || first < images, STATUS_INVALID, "there is no image %lld in a set of %lld",
          (long long)first, (long long)images);
    int64_t count = options->count < images - first ? options->count : images - first;
    append_head(sheet, summary);
    for (int64_t i = 0; i < count; i++) {
        int64_t index =
            options->first >= 0 ? first + i : (int64_t)((double)i / (double)count * (double)images);
        TRY(append_card(sheet, index));
        TRY(flush(sheet, file, path));
    }
    strbuf_append(&sheet->html, "</div></html>\n");
    return flush(sheet, file, path);
}

enum status sheet_write(const struct store *store, const struct summary *summary,
                        const struct sheet_options *options, const char *path)
{
    FILE *file = fopen(path, "wb");
    CHECK(file, STATUS_IO, "%s: cannot create: %s", path, strerror(errno));
    struct sheet sheet = {.store = store, .options = options};
    enum status status = write_page(&sheet, summary, file, path);
    sheet_fini(&sheet);
    int closed = fclose(file);
    int error = errno;
    if (status == STATUS_OK && closed != 0) {
        status = status_fail(STATUS_IO, "%s: cannot write: %s", path, strerror(error));
    }
    if (status != STATUS_OK) remove(path);
    return status;
}
