/*
 * The batch's own arrays are shown, never data read again: what is printed is what the model sees.
 * Only names (the picture's key, the whole text, the plan of the transform) come from the store.
 */
#include "data/loader/batch_sheet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/loader/loader_impl.h"
#include "data/store/html.h"
#include "data/store/summary.h"

enum { PNG_LEVEL = 6, MAX_TEXT = 400 };

/* What is known about a slot besides the arrays. */
struct view {
    const struct loader *loader;
    const struct loader_batch *batch;
    struct store_image image; /* with its key; size 0 when it cannot be read */
    struct store_text text;
    struct strbuf plan; /* what the transform did, as text */
    struct strbuf png;
    struct image picture;
};

static void view_fini(struct view *view)
{
    store_image_fini(&view->image);
    store_text_fini(&view->text);
    strbuf_fini(&view->plan);
    strbuf_fini(&view->png);
    image_fini(&view->picture);
}

static const struct store *slot_store(const struct view *view, int64_t slot)
{
    return view->loader->sets[view->batch->set[slot]].store;
}

static enum status load_plan(struct view *view, int64_t slot)
{
    const struct loader *loader = view->loader;
    const struct image_key key = {.seed = loader->options.seed,
                                  .sample = view->batch->sample[slot]};
    struct image_info info;
    struct image_plan plan;
    TRY(image_probe(view->image.bytes, (size_t)view->image.size, &info));
    bool turned = loader->options.decode.apply_orientation && info.orientation > 4;
    TRY(image_plan_init(&loader->transform, key, turned ? info.height : info.width,
                        turned ? info.width : info.height, &plan));
    image_plan_print(&plan, &view->plan);
    return STATUS_OK;
}

/* Reads what a slot's row is called. A row that was bad is shown as far as it can be read. */
static enum status load(struct view *view, int64_t slot)
{
    const struct loader_batch *batch = view->batch;
    const struct store *store = slot_store(view, slot);
    bool valid = batch->valid[slot];
    strbuf_clear(&view->plan);
    view->text.length = 0;
    view->image.size = 0;
    if (batch->kind[slot] >= 0) {
        enum status status = store_text_read(store, batch->row[slot], &view->text);
        if (status != STATUS_OK && valid) return status;
        if (status != STATUS_OK) view->text.length = 0;
    }
    if (batch->image[slot] < 0) return STATUS_OK;
    enum status status = store_image_read(store, batch->image[slot], &view->image);
    if (status == STATUS_OK) status = store_image_key(store, batch->image[slot], &view->image);
    if (status == STATUS_OK && batch->pixels) status = load_plan(view, slot);
    if (status != STATUS_OK && valid) return status;
    if (status != STATUS_OK) view->image.size = 0;
    return STATUS_OK;
}

static const char *token(const struct view *view, int32_t id)
{
    const char *text = tokenizer_token(view->loader->options.tokenizer, id);
    return text ? text : "?";
}

/* Tokens of a slot that are not padding. */
static int64_t num_tokens(const struct loader_batch *batch, int64_t slot)
{
    int64_t count = 0;
    for (int64_t t = 0; t < batch->text_length; t++) {
        count += batch->mask[slot * batch->text_length + t];
    }
    return count;
}

/* ---- as text ---- */

/* Text of others, without what would steer a terminal. */
static void append_plain(struct strbuf *out, const char *text, int64_t length)
{
    for (int64_t i = 0; i < length && i < MAX_TEXT; i++) {
        char c = text[i];
        if ((unsigned char)c < 0x20 || c == 0x7F) c = ' ';
        strbuf_append_bytes(out, &c, 1);
    }
    if (length > MAX_TEXT) strbuf_append(out, "...");
}

static void print_tokens(const struct view *view, int64_t slot, struct strbuf *out)
{
    const struct loader_batch *batch = view->batch;
    int64_t at = slot * batch->text_length;
    int64_t count = num_tokens(batch, slot);
    strbuf_printf(out, "  tokens %lld:", (long long)count);
    for (int64_t t = 0; t < count; t++) {
        strbuf_append(out, " ");
        append_plain(out, token(view, batch->ids[at + t]),
                     (int64_t)strlen(token(view, batch->ids[at + t])));
    }
    strbuf_append(out, "\n");
    if (!batch->mlm_ids) return;
    strbuf_append(out, "  masked:");
    for (int64_t t = 0; t < batch->text_length; t++) {
        int32_t label = batch->mlm_labels[at + t];
        if (label == MLM_IGNORE) continue;
        const char *shown = token(view, batch->mlm_ids[at + t]);
        strbuf_printf(out, " %lld ", (long long)t);
        append_plain(out, token(view, label), (int64_t)strlen(token(view, label)));
        strbuf_append(out, " as ");
        append_plain(out, shown, (int64_t)strlen(shown));
        strbuf_append(out, ";");
    }
    strbuf_append(out, "\n");
}

static void print_boxes(const struct view *view, int64_t slot, struct strbuf *out)
{
    if (!view->batch->boxes) return;
    const struct loader_boxes *boxes = &view->batch->boxes[slot];
    for (int32_t i = 0; i < boxes->num_boxes; i++) {
        const struct loader_box *box = &boxes->boxes[i];
        const char *category = store_category_name(slot_store(view, slot), box->category);
        strbuf_printf(out, "  box [%.2f, %.2f, %.2f, %.2f] ", (double)box->xyxy[0],
                      (double)box->xyxy[1], (double)box->xyxy[2], (double)box->xyxy[3]);
        append_plain(out, category, (int64_t)strlen(category));
        if (box->crowd) strbuf_append(out, " crowd");
        for (int32_t j = 0; j < box->num_spans; j++) {
            const struct loader_span *span = &boxes->spans[box->first_span + j];
            strbuf_printf(out, " characters [%d, %d) tokens %d to %d", span->begin, span->end,
                          span->first_token, span->last_token);
        }
        strbuf_append(out, "\n");
    }
}

static void print_head(const struct view *view, int64_t slot, struct strbuf *out)
{
    const struct loader_batch *batch = view->batch;
    const struct store *store = slot_store(view, slot);
    strbuf_printf(out, "sample %llu  hash %016llx  set %d", (unsigned long long)batch->sample[slot],
                  (unsigned long long)loader_slot_hash(batch, slot), batch->set[slot]);
    if (store_name(store)[0]) strbuf_printf(out, " (%s)", store_name(store));
    if (batch->kind[slot] >= 0) {
        strbuf_printf(out, "  text %lld (%s)", (long long)batch->row[slot],
                      text_kind_name((enum text_kind)batch->kind[slot]));
    }
    if (batch->label[slot] >= 0) strbuf_append(out, batch->label[slot] ? " true" : " false");
    strbuf_printf(out, "  image %lld", (long long)batch->image[slot]);
    if (view->image.size > 0 && view->image.key[0]) {
        strbuf_append(out, " (");
        append_plain(out, view->image.key, (int64_t)strlen(view->image.key));
        strbuf_append(out, ")");
    }
    strbuf_append(out, batch->valid[slot] ? "\n" : "  LEFT OUT\n");
}

static void describe_batch(const struct view *view, struct strbuf *out)
{
    const struct loader_batch *batch = view->batch;
    const struct loader_options *options = &view->loader->options;
    strbuf_printf(out, "micro-batch %lld, rank %d of %d: epoch %lld, index %lld; %lld samples",
                  (long long)batch->number, options->rank, options->size, (long long)batch->epoch,
                  (long long)batch->index, (long long)batch->count);
    if (batch->pixels) {
        strbuf_printf(out, ", %lld x %lld pixels", (long long)batch->side, (long long)batch->side);
    }
    if (batch->ids) strbuf_printf(out, ", %lld tokens", (long long)batch->text_length);
    if (batch->num_bad) strbuf_printf(out, ", %lld bad rows", (long long)batch->num_bad);
}

enum status batch_print(const struct loader *loader, const struct loader_batch *batch,
                        struct strbuf *out)
{
    struct view view = {.loader = loader, .batch = batch};
    enum status status = STATUS_OK;
    describe_batch(&view, out);
    strbuf_append(out, "\n");
    for (int64_t i = 0; i < batch->count && status == STATUS_OK; i++) {
        status = load(&view, i);
        if (status != STATUS_OK) break;
        print_head(&view, i, out);
        if (view.plan.length) strbuf_printf(out, "  picture %s\n", view.plan.text);
        if (view.text.length) {
            strbuf_append(out, "  text ");
            append_plain(out, view.text.text, view.text.length);
            strbuf_append(out, "\n");
        }
        if (batch->ids) print_tokens(&view, i, out);
        print_boxes(&view, i, out);
    }
    view_fini(&view);
    if (status == STATUS_OK && out->failed) {
        return status_fail(STATUS_NO_MEMORY, "out of memory for the text of a batch");
    }
    return status;
}

/* ---- as a page ---- */

static enum status append_picture(struct view *view, struct image_view pixels, struct strbuf *html)
{
    strbuf_clear(&view->png);
    TRY(image_encode_png(pixels, PNG_LEVEL, &view->png));
    strbuf_append(html, "<img alt=\"\" src=\"");
    html_append_data_uri(html, "image/png", view->png.text, (int64_t)view->png.length);
    strbuf_append(html, "\">");
    return STATUS_OK;
}

static enum status append_pictures(struct view *view, int64_t slot, struct strbuf *html)
{
    const struct loader_batch *batch = view->batch;
    int64_t side = batch->side;
    const struct image_view pixels = {batch->pixels + slot * side * side * 3, side, side, side * 3};
    TRY(append_picture(view, pixels, html));
    if (!batch->boxes || batch->boxes[slot].num_boxes == 0) return STATUS_OK;
    TRY(image_reserve(&view->picture, side, side));
    memcpy(view->picture.pixels, pixels.pixels, (size_t)(side * side * 3));
    for (int32_t i = 0; i < batch->boxes[slot].num_boxes; i++) {
        image_draw_box(&view->picture, batch->boxes[slot].boxes[i].xyxy,
                       html_colours[i % HTML_NUM_COLOURS], 2);
    }
    return append_picture(view, image_as_view(&view->picture), html);
}

static void append_chip(const struct view *view, int32_t id, const char *class, struct strbuf *html)
{
    const char *text = token(view, id);
    strbuf_printf(html, "<span class=\"t %s\">", class);
    html_append_text(html, text, (int64_t)strlen(text));
    strbuf_append(html, "</span>");
}

/* The tokens as the model gets them; a hidden one with what it was. */
static void append_tokens(const struct view *view, int64_t slot, struct strbuf *html)
{
    const struct loader_batch *batch = view->batch;
    int64_t at = slot * batch->text_length;
    int64_t count = num_tokens(batch, slot);
    strbuf_append(html, "<p class=tokens>");
    for (int64_t t = 0; t < count; t++) {
        bool hidden = batch->mlm_labels && batch->mlm_labels[at + t] != MLM_IGNORE;
        if (!hidden) {
            append_chip(view, batch->ids[at + t], "", html);
            continue;
        }
        strbuf_append(html, "<span class=hidden>");
        append_chip(view, batch->mlm_ids[at + t], "shown", html);
        append_chip(view, batch->mlm_labels[at + t], "label", html);
        strbuf_append(html, "</span>");
    }
    strbuf_printf(html, " <small>and %lld of padding</small></p>\n",
                  (long long)(batch->text_length - count));
}

static void append_boxes(const struct view *view, int64_t slot, struct strbuf *html)
{
    const struct loader_boxes *boxes = &view->batch->boxes[slot];
    if (boxes->num_boxes == 0) return;
    strbuf_append(html, "<ul>");
    for (int32_t i = 0; i < boxes->num_boxes; i++) {
        const struct loader_box *box = &boxes->boxes[i];
        const uint8_t *colour = html_colours[i % HTML_NUM_COLOURS];
        const char *category = store_category_name(slot_store(view, slot), box->category);
        strbuf_printf(html, "<li><b style=\"color:#%02x%02x%02x\">&#9632;</b> ", colour[0],
                      colour[1], colour[2]);
        html_append_text(html, category, (int64_t)strlen(category));
        if (box->crowd) strbuf_append(html, " (crowd)");
        for (int32_t j = 0; j < box->num_spans; j++) {
            const struct loader_span *span = &boxes->spans[box->first_span + j];
            strbuf_printf(html, " tokens %d to %d", span->first_token, span->last_token);
        }
        strbuf_printf(html, " <small>%.1f, %.1f to %.1f, %.1f</small></li>\n", (double)box->xyxy[0],
                      (double)box->xyxy[1], (double)box->xyxy[2], (double)box->xyxy[3]);
    }
    strbuf_append(html, "</ul>");
}

static enum status append_slot(struct view *view, int64_t slot, struct strbuf *html)
{
    struct strbuf head = {0};
    TRY(load(view, slot));
    strbuf_append(html, "<div class=card>");
    if (view->batch->pixels) TRY(append_pictures(view, slot, html));
    print_head(view, slot, &head);
    strbuf_append(html, "<p class=head>");
    if (head.text) html_append_text(html, head.text, (int64_t)head.length);
    if (view->plan.length) {
        strbuf_append(html, "<br>");
        html_append_text(html, view->plan.text, (int64_t)view->plan.length);
    }
    strbuf_append(html, "</p>\n");
    if (view->text.length) {
        strbuf_append(html, "<p>");
        html_append_text(html, view->text.text,
                         view->text.length < MAX_TEXT ? view->text.length : MAX_TEXT);
        strbuf_append(html, "</p>\n");
    }
    if (view->batch->ids) append_tokens(view, slot, html);
    if (view->batch->boxes) append_boxes(view, slot, html);
    strbuf_append(html, "</div>\n");
    bool failed = head.failed || html->failed;
    strbuf_fini(&head);
    CHECK(!failed, STATUS_NO_MEMORY, "out of memory for the page of a batch");
    return STATUS_OK;
}

static void append_top(const struct view *view, const char *title, struct strbuf *html)
{
    struct strbuf what = {0};
    describe_batch(view, &what);
    strbuf_append(html, "<!doctype html><html lang=en><meta charset=utf-8><title>");
    html_append_text(html, title, (int64_t)strlen(title));
    strbuf_append(
        html,
        "</title><style>:root{color-scheme:light dark;--card:#fff;--line:#ddd;--soft:#777;"
        "--chip:#eceae4}@media(prefers-color-scheme:dark){:root{--card:#222;--line:#444;"
        "--soft:#999;--chip:#383838}}body{font:15px/1.45 system-ui,sans-serif;margin:24px}"
        ".grid{display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start}"
        ".card{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:10px;"
        "width:400px;overflow-wrap:anywhere}img{display:block;width:100%;margin-bottom:6px;"
        "image-rendering:pixelated}p{margin:6px 0}.head,small{color:var(--soft);font-size:12px}"
        ".tokens{line-height:1.9}.t{background:var(--chip);display:inline-block;line-height:1.5;"
        "border-radius:4px;padding:0 5px;"
        "margin-right:3px;font:13px ui-monospace,monospace}.hidden{white-space:nowrap}"
        ".shown{background:#d64933;color:#fff;margin-right:0;border-radius:4px 0 0 4px}"
        ".label{background:#2a7f62;color:#fff;border-radius:0 4px 4px 0}"
        "ul{margin:4px 0;padding:0;list-style:none}</style>\n<h1>");
    html_append_text(html, title, (int64_t)strlen(title));
    strbuf_append(html, "</h1><p>");
    if (what.text) html_append_text(html, what.text, (int64_t)what.length);
    strbuf_append(html, ". Pictures are the batch's own pixels.");
    if (view->batch->mlm_ids) {
        strbuf_append(html, " Hidden tokens: <span class=\"t shown\">what the model sees</span>"
                            "<span class=\"t label\">what it shall say</span>");
    }
    strbuf_append(html, "</p>\n<div class=grid>\n");
    strbuf_fini(&what);
}

enum status batch_sheet_write(const struct loader *loader, const struct loader_batch *batch,
                              const char *title, const char *path)
{
    struct view view = {.loader = loader, .batch = batch};
    struct strbuf html = {0};
    FILE *file = fopen(path, "wb");
    CHECK(file, STATUS_IO, "%s: cannot create: %s", path, strerror(errno));
    enum status status = STATUS_OK;
    append_top(&view, title, &html);
    for (int64_t i = 0; i <= batch->count && status == STATUS_OK; i++) {
        if (i < batch->count) status = append_slot(&view, i, &html);
        if (i == batch->count) strbuf_append(&html, "</div></html>\n");
        if (status == STATUS_OK && fwrite(html.text, 1, html.length, file) != html.length) {
            status = status_fail(STATUS_IO, "%s: cannot write: %s", path, strerror(errno));
        }
        strbuf_clear(&html);
    }
    strbuf_fini(&html);
    view_fini(&view);
    int closed = fclose(file);
    if (status == STATUS_OK && closed != 0) {
        status = status_fail(STATUS_IO, "%s: cannot write: %s", path, strerror(errno));
    }
    if (status != STATUS_OK) remove(path);
    return status;
}
