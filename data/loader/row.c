/*
 * One row into one slot: read, decode, transform, tokenise, mask.
 *
 * A failure is the row's own fault (bad bytes) unless worker->fatal says otherwise: the store
 * reports a shard that was replaced, or an index of ours out of range, as STATUS_INVALID, and no
 * other row would fare better.
 */
#include <stdlib.h>
#include <string.h>

#include "data/loader/loader_impl.h"

/* Above this a picture's memory is given back after use; so one giant does not stay for days. */
#define KEEP_BYTES ((int64_t)64 << 20)

static enum status read_failed(struct loader_worker *worker, enum status status)
{
    if (status == STATUS_INVALID) worker->fatal = true;
    return status;
}

/* Puts file, row and key in front of this thread's message. */
static enum status name_image(struct loader_worker *worker, const struct store *store,
                              enum status status)
{
    char message[MESSAGE_SIZE];
    int shard = 0;
    int64_t row = 0;
    strncpy(message, status_message(), sizeof message - 1);
    message[sizeof message - 1] = '\0';
    struct store_image *image = &worker->image;
    store_locate_image(store, image->index, &shard, &row);
    bool named = store_image_key(store, image->index, image) == STATUS_OK && image->key[0];
    return status_fail(status, "%s: image %lld%s%s%s: %s", store_shard_path(store, shard),
                       (long long)row, named ? " ('" : "", named ? image->key : "",
                       named ? "')" : "", message);
}

static enum status name_text(const struct store *store, int64_t text, enum status status)
{
    int shard = 0;
    int64_t row = 0;
    store_locate_text(store, text, &shard, &row);
    return status_prefix(status, "%s: text %lld", store_shard_path(store, shard), (long long)row);
}

/* ---- pictures ---- */

/* The transformed picture to the upper left of the slot, the rest zero. */
static enum status place(struct loader_worker *worker, const struct image_plan *plan,
                         uint8_t *pixels, int64_t side)
{
    int64_t width = image_plan_width(plan);
    int64_t height = image_plan_height(plan);
    struct image_view source = image_as_view(&worker->decoded);
    if (width == side && height == side) {
        struct image slot = image_borrow(pixels, (size_t)(side * side * 3));
        return image_plan_apply(plan, source, &worker->workspace, &slot);
    }
    CHECK(width <= side && height <= side, STATUS_INTERNAL,
          "a transform gave %lld x %lld pixels where at most %lld a side were expected",
          (long long)width, (long long)height, (long long)side);
    TRY(image_plan_apply(plan, source, &worker->workspace, &worker->moved));
    memset(pixels, 0, (size_t)(side * side * 3));
    for (int64_t y = 0; y < height; y++) {
        memcpy(pixels + y * side * 3, worker->moved.pixels + y * width * 3, (size_t)(width * 3));
    }
    return STATUS_OK;
}

static void shrink(struct image *image)
{
    if ((int64_t)image->capacity > KEEP_BYTES) image_fini(image);
}

static enum status decode(struct loader_worker *worker, uint64_t sample, struct loader_batch *batch,
                          int64_t slot, struct image_plan *plan)
{
    const struct loader *loader = worker->loader;
    int64_t side = loader->side;
    const struct image_key key = {.seed = loader->options.seed, .sample = sample};
    TRY(image_decode(worker->image.bytes, (size_t)worker->image.size, &loader->options.decode,
                     &worker->decoded));
    TRY(image_plan_init(&loader->transform, key, worker->decoded.width, worker->decoded.height,
                        plan));
    TRY(place(worker, plan, batch->pixels + slot * side * side * 3, side));
    batch->extent[2 * slot] = (int32_t)image_plan_height(plan);
    batch->extent[2 * slot + 1] = (int32_t)image_plan_width(plan);
    return STATUS_OK;
}

static enum status make_picture(struct loader_worker *worker, const struct store *store,
                                uint64_t sample, struct loader_batch *batch, int64_t slot,
                                struct image_plan *plan)
{
    worker_stage(worker, STAGE_READ);
    enum status status = store_image_read(store, batch->image[slot], &worker->image);
    if (status != STATUS_OK) return read_failed(worker, status);
    worker_stage(worker, STAGE_DECODE);
    status = decode(worker, sample, batch, slot, plan);
    if (status != STATUS_OK) status = name_image(worker, store, status);
    shrink(&worker->decoded);
    shrink(&worker->moved);
    if (worker->image.capacity > KEEP_BYTES) store_image_fini(&worker->image);
    return status;
}

/* ---- texts ---- */

static enum status encode(struct loader_worker *worker, const char *text, int64_t length)
{
    const struct encode_options how = {.max_length = worker->loader->options.text_length,
                                       .add_special = true};
    return tokenizer_encode(worker->loader->options.tokenizer, worker->scratch, text,
                            (size_t)length, &how, &worker->encoding);
}

static enum status make_tokens(struct loader_worker *worker, const char *text, int64_t length,
                               uint64_t sample, struct loader_batch *batch, int64_t slot)
{
    const struct loader *loader = worker->loader;
    int64_t at = slot * batch->text_length;
    worker_stage(worker, STAGE_TOKENISE);
    TRY(encode(worker, text, length));
    TRY(tokenizer_pad(loader->options.tokenizer, &worker->encoding, batch->text_length,
                      batch->ids + at, batch->mask + at));
    if (!batch->mlm_ids) return STATUS_OK;
    return mlm_mask(&loader->mlm, 0, sample, &worker->encoding, batch->text_length,
                    batch->mlm_ids + at, batch->mlm_labels + at);
}

static enum status check_text(const struct loader *loader, const struct store_text *text)
{
    static const char *const names[] = {"a caption", "a question", "a statement", "an expression"};
    unsigned wanted = loader->options.text_kinds;
    CHECK(!wanted || wanted >> text->kind & 1, STATUS_INVALID,
          "is %s, and data.texts asks for others; pack the kinds into sets of their own, or set "
          "data.texts: any",
          names[text->kind]);
    CHECK(text->image2 < 0 || loader->side == 0, STATUS_UNSUPPORTED,
          "is about a pair of pictures, which batches do not hold; leave pairs out of this set");
    return STATUS_OK;
}

/* ---- boxes ---- */

static enum status reserve(struct loader_worker *worker, struct loader_boxes *out, int32_t boxes,
                           int32_t spans)
{
    if (boxes > out->box_capacity) {
        struct loader_box *bigger = realloc(out->boxes, 2 * (size_t)boxes * sizeof *bigger);
        CHECK(bigger, STATUS_NO_MEMORY, "out of memory for %d boxes", boxes);
        out->boxes = bigger;
        out->box_capacity = 2 * boxes;
    }
    if (spans > out->span_capacity) {
        struct loader_span *bigger = realloc(out->spans, 2 * (size_t)spans * sizeof *bigger);
        CHECK(bigger, STATUS_NO_MEMORY, "out of memory for %d spans", spans);
        out->spans = bigger;
        out->span_capacity = 2 * spans;
    }
    if (boxes > worker->corner_capacity) {
        free(worker->corners);
        free(worker->gone);
        worker->corner_capacity = 0;
        worker->corners = malloc(2 * (size_t)boxes * sizeof *worker->corners);
        worker->gone = malloc(2 * (size_t)boxes * sizeof *worker->gone);
        CHECK(worker->corners && worker->gone, STATUS_NO_MEMORY, "out of memory for %d boxes",
              boxes);
        worker->corner_capacity = 2 * boxes;
    }
    return STATUS_OK;
}

static void add_spans(struct loader_worker *worker, const struct store_box *box,
                      struct loader_boxes *out)
{
    struct loader_box *to = &out->boxes[out->num_boxes];
    to->first_span = out->num_spans;
    for (int32_t i = 0; to->of_text && i < box->num_spans; i++) {
        const struct store_span *span = &worker->boxes.spans[box->first_span + i];
        int64_t first = -1;
        int64_t last = -1;
        if (!encoding_find_span(&worker->encoding, (struct text_span){span->begin, span->end},
                                &first, &last)) {
            first = last = -1;
        }
        out->spans[out->num_spans++] =
            (struct loader_span){span->begin, span->end, (int32_t)first, (int32_t)last};
    }
    to->num_spans = out->num_spans - to->first_span;
}

/* The boxes of the picture, and those of this text; other texts' boxes are not the row's. */
static enum status make_boxes(struct loader_worker *worker, const struct store *store, int64_t text,
                              const struct image_plan *plan, int64_t image,
                              struct loader_boxes *out)
{
    const struct store_boxes *in = &worker->boxes;
    worker_stage(worker, STAGE_READ);
    enum status status = store_boxes_read(store, image, -1, &worker->boxes);
    if (status != STATUS_OK) return read_failed(worker, status);
    TRY(reserve(worker, out, in->num_boxes, in->num_spans));
    worker_stage(worker, STAGE_DECODE);
    for (int32_t i = 0; i < in->num_boxes; i++) {
        memcpy(worker->corners[i], in->boxes[i].xyxy, sizeof worker->corners[i]);
    }
    image_plan_boxes(plan, in->num_boxes, worker->corners, worker->gone);
    for (int32_t i = 0; i < in->num_boxes; i++) {
        const struct store_box *box = &in->boxes[i];
        bool other = text >= 0 && box->text >= 0 && box->text != text;
        if (worker->gone[i] || other) continue;
        struct loader_box *to = &out->boxes[out->num_boxes];
        *to = (struct loader_box){.category = box->category,
                                  .crowd = box->crowd,
                                  .of_text = text >= 0 && box->text == text};
        memcpy(to->xyxy, worker->corners[i], sizeof to->xyxy);
        add_spans(worker, box, out);
        out->num_boxes++;
    }
    return STATUS_OK;
}

/* ---- rows ---- */

static enum status read_row_text(struct loader_worker *worker, const struct store *store,
                                 const struct loader_draw *draw, struct loader_batch *batch,
                                 int64_t slot)
{
    struct store_text *text = &worker->text;
    worker_stage(worker, STAGE_READ);
    enum status status = store_text_read(store, draw->row, text);
    if (status != STATUS_OK) return read_failed(worker, status);
    batch->image[slot] = text->image;
    batch->kind[slot] = (int8_t)text->kind;
    batch->label[slot] = text->label;
    status = check_text(worker->loader, text);
    if (status == STATUS_OK && batch->ids) {
        status = make_tokens(worker, text->text, text->length, draw->sample, batch, slot);
    }
    if (text->capacity > KEEP_BYTES) store_text_fini(text);
    return status == STATUS_OK ? status : name_text(store, draw->row, status);
}

enum status row_make(struct loader_worker *worker, struct loader_draw draw,
                     struct loader_buffer *buffer, int64_t slot)
{
    const struct loader *loader = worker->loader;
    const struct store *store = loader->sets[draw.set].store;
    struct loader_batch *batch = &buffer->batch;
    bool texts = loader->options.rows == LOADER_TEXTS;
    struct image_plan plan;
    worker->fatal = false;
    batch->sample[slot] = draw.sample;
    batch->set[slot] = draw.set;
    batch->row[slot] = draw.row;
    batch->image[slot] = texts ? -1 : draw.row;
    batch->kind[slot] = -1;
    batch->label[slot] = TEXT_LABEL_NONE;
    batch->valid[slot] = 1;
    if (buffer->boxes) buffer->boxes[slot].num_boxes = buffer->boxes[slot].num_spans = 0;
    if (texts) TRY(read_row_text(worker, store, &draw, batch, slot));
    if (loader->side == 0 || worker->texts) return STATUS_OK;
    TRY(make_picture(worker, store, draw.sample, batch, slot, &plan));
    if (!buffer->boxes) return STATUS_OK;
    return make_boxes(worker, store, texts ? draw.row : -1, &plan, batch->image[slot],
                      &buffer->boxes[slot]);
}

enum status row_blank(struct loader_worker *worker, struct loader_buffer *buffer, int64_t slot)
{
    struct loader_batch *batch = &buffer->batch;
    int64_t bytes = batch->side * batch->side * 3;
    batch->valid[slot] = 0;
    if (batch->pixels) {
        memset(batch->pixels + slot * bytes, 0, (size_t)bytes);
        batch->extent[2 * slot] = batch->extent[2 * slot + 1] = 0;
    }
    if (buffer->boxes) buffer->boxes[slot].num_boxes = buffer->boxes[slot].num_spans = 0;
    /* No token of an empty text can be masked, so the labels come out as MLM_IGNORE. */
    return batch->ids ? make_tokens(worker, "", 0, 0, batch, slot) : STATUS_OK;
}
