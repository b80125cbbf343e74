/*
 * Rows go out in the order texts, boxes, spans, answers; each step maps old row numbers to new ones
 * (-1: taken out) for the rows that refer to it.
 */
#include "data/store/clean.h"

#include <stdlib.h>
#include <string.h>

#include "data/store/rules.h"

struct order {
    int32_t parent;
    int32_t row;
};

static int by_parent(const void *a, const void *b)
{
    const struct order *left = a;
    const struct order *right = b;
    if (left->parent != right->parent) return left->parent < right->parent ? -1 : 1;
    return left->row < right->row ? -1 : left->row > right->row;
}

static enum status allocate(struct sample *sample, int64_t count, size_t size, void *pointer)
{
    void *memory = arena_alloc(&sample->arena, (size_t)(count ? count : 1) * size);
    CHECK(memory, STATUS_NO_MEMORY, "out of memory for a sample of %lld rows", (long long)count);
    memcpy(pointer, &memory, sizeof memory);
    return STATUS_OK;
}

static const char *image_key(const struct sample *sample, int32_t image)
{
    const char *key = sample->images[image].key;
    return key ? key : "(no name)";
}

/* The first bytes of a text for a message, cut at a character. */
static int excerpt(const struct sample_text *text)
{
    int length = text->length < 48 ? (int)text->length : 48;
    while (length > 0 && length < text->length && (text->text[length] & 0xC0) == 0x80) {
        length--;
    }
    return length;
}

static enum status clean_texts(struct sample *sample, int32_t *map, int64_t *characters)
{
    struct order *order = NULL;
    struct sample_text *kept = NULL;
    TRY(allocate(sample, sample->num_texts, sizeof *order, &order));
    TRY(allocate(sample, sample->num_texts, sizeof *kept, &kept));
    for (int32_t i = 0; i < sample->num_texts; i++) {
        const struct sample_text *text = &sample->texts[i];
        CHECK(text->image >= 0 && text->image < sample->num_images && text->image2 >= -1 &&
                  text->image2 < sample->num_images,
              STATUS_INVALID, "text %d is about image %d of %d", i, text->image,
              sample->num_images);
        CHECK(text->kind < TEXT_NUM_KINDS && text->label >= -1 && text->label <= 1, STATUS_INVALID,
              "text %d has kind %d and label %d", i, (int)text->kind, text->label);
        order[i] = (struct order){text->image, i};
    }
    qsort(order, (size_t)sample->num_texts, sizeof *order, by_parent);
    int32_t count = 0;
    for (int32_t i = 0; i < sample->num_texts; i++) {
        const struct sample_text *text = &sample->texts[order[i].row];
        int64_t length = 0;
        const char *reason = rule_text(text->text, text->length, &length);
        map[order[i].row] = reason ? -1 : count;
        if (reason) {
            TRY(sample_reject(sample, "%s: text %d%s%s: %s", image_key(sample, text->image),
                              order[i].row, text->key ? " of id " : "", text->key ? text->key : "",
                              reason));
            continue;
        }
        characters[count] = length;
        kept[count++] = *text;
    }
    sample->texts = kept;
    sample->num_texts = count;
    return STATUS_OK;
}

static const char *judge_box(const struct sample *sample, struct sample_box *box,
                             const int32_t *text_map, int64_t num_categories)
{
    const struct sample_image *image = &sample->images[box->image];
    rule_clip_box(box->xyxy, image->width, image->height);
    const char *reason = rule_box(box->xyxy, image->width, image->height);
    if (reason) return reason;
    if (box->text >= 0 && text_map[box->text] < 0) return "box of a text that was left out";
    if (box->category < -1 || box->category >= num_categories) return "box of an unknown category";
    return NULL;
}

static enum status clean_boxes(struct sample *sample, const int32_t *text_map, int32_t *map,
                               int64_t num_categories)
{
    struct order *order = NULL;
    struct sample_box *kept = NULL;
    TRY(allocate(sample, sample->num_boxes, sizeof *order, &order));
    TRY(allocate(sample, sample->num_boxes, sizeof *kept, &kept));
    for (int32_t i = 0; i < sample->num_boxes; i++) {
        const struct sample_box *box = &sample->boxes[i];
        CHECK(box->image >= 0 && box->image < sample->num_images, STATUS_INVALID,
              "box %d is on image %d of %d", i, box->image, sample->num_images);
        order[i] = (struct order){box->image, i};
    }
    qsort(order, (size_t)sample->num_boxes, sizeof *order, by_parent);
    int32_t count = 0;
    for (int32_t i = 0; i < sample->num_boxes; i++) {
        struct sample_box box = sample->boxes[order[i].row];
        const char *reason = judge_box(sample, &box, text_map, num_categories);
        map[order[i].row] = reason ? -1 : count;
        if (reason) {
            TRY(sample_reject(sample, "%s: box %d [%g, %g, %g, %g] on %d x %d: %s",
                              image_key(sample, box.image), order[i].row, (double)box.xyxy[0],
                              (double)box.xyxy[1], (double)box.xyxy[2], (double)box.xyxy[3],
                              sample->images[box.image].width, sample->images[box.image].height,
                              reason));
            continue;
        }
        if (box.text >= 0) box.text = text_map[box.text];
        kept[count++] = box;
    }
    sample->boxes = kept;
    sample->num_boxes = count;
    return STATUS_OK;
}

static enum status clean_spans(struct sample *sample, const int32_t *box_map, int32_t num_boxes,
                               const int64_t *characters)
{
    struct order *order = NULL;
    struct sample_span *kept = NULL;
    TRY(allocate(sample, sample->num_spans, sizeof *order, &order));
    TRY(allocate(sample, sample->num_spans, sizeof *kept, &kept));
    int32_t left = 0;
    for (int32_t i = 0; i < sample->num_spans; i++) {
        int32_t box = sample->spans[i].box;
        CHECK(box >= 0 && box < num_boxes, STATUS_INVALID, "a span refers to box %d of %d", box,
              num_boxes);
        if (box_map[box] >= 0) order[left++] = (struct order){box_map[box], i};
    }
    qsort(order, (size_t)left, sizeof *order, by_parent);
    int32_t count = 0;
    for (int32_t i = 0; i < left; i++) {
        struct sample_span span = sample->spans[order[i].row];
        const struct sample_box *box = &sample->boxes[order[i].parent];
        CHECK(box->text >= 0, STATUS_INVALID, "box %d has spans but no text", span.box);
        const struct sample_text *text = &sample->texts[box->text];
        const char *reason =
            rule_span(text->text, text->length, characters[box->text], span.begin, span.end);
        if (reason) {
            TRY(sample_reject(sample, "%s: span [%d, %d) of \"%.*s\": %s",
                              image_key(sample, box->image), span.begin, span.end, excerpt(text),
                              text->text, reason));
            continue;
        }
        span.box = order[i].parent;
        kept[count++] = span;
    }
    sample->spans = kept;
    sample->num_spans = count;
    return STATUS_OK;
}

static enum status clean_answers(struct sample *sample, const int32_t *text_map, int32_t num_texts)
{
    struct order *order = NULL;
    struct sample_answer *kept = NULL;
    TRY(allocate(sample, sample->num_answers, sizeof *order, &order));
    TRY(allocate(sample, sample->num_answers, sizeof *kept, &kept));
    int32_t left = 0;
    for (int32_t i = 0; i < sample->num_answers; i++) {
        int32_t text = sample->answers[i].text;
        CHECK(text >= 0 && text < num_texts, STATUS_INVALID, "an answer refers to text %d of %d",
              text, num_texts);
        if (text_map[text] >= 0) order[left++] = (struct order){text_map[text], i};
    }
    qsort(order, (size_t)left, sizeof *order, by_parent);
    int32_t count = 0;
    for (int32_t i = 0; i < left; i++) {
        struct sample_answer answer = sample->answers[order[i].row];
        int64_t characters = 0;
        const char *reason = rule_text(answer.answer, answer.length, &characters);
        if (!reason) reason = rule_score(answer.score);
        if (reason) {
            const struct sample_text *text = &sample->texts[order[i].parent];
            TRY(sample_reject(sample, "%s: answer to \"%.*s\": %s", image_key(sample, text->image),
                              excerpt(text), text->text, reason));
            continue;
        }
        answer.text = order[i].parent;
        kept[count++] = answer;
    }
    sample->answers = kept;
    sample->num_answers = count;
    return STATUS_OK;
}

enum status sample_clean(struct sample *sample, int64_t num_categories)
{
    CHECK(sample->num_images > 0, STATUS_INVALID, "the item has no image");
    int32_t num_texts = sample->num_texts;
    int32_t num_boxes = sample->num_boxes;
    int32_t *text_map = NULL;
    int32_t *box_map = NULL;
    int64_t *characters = NULL;
    TRY(allocate(sample, num_texts, sizeof *text_map, &text_map));
    TRY(allocate(sample, num_boxes, sizeof *box_map, &box_map));
    TRY(allocate(sample, num_texts, sizeof *characters, &characters));
    for (int32_t i = 0; i < num_boxes; i++) {
        int32_t text = sample->boxes[i].text;
        CHECK(text >= -1 && text < num_texts, STATUS_INVALID, "box %d refers to text %d of %d", i,
              text, num_texts);
    }
    TRY(clean_texts(sample, text_map, characters));
    TRY(clean_boxes(sample, text_map, box_map, num_categories));
    TRY(clean_spans(sample, box_map, num_boxes, characters));
    return clean_answers(sample, text_map, num_texts);
}
