/* Buffers: the layout of a batch in one allocation, and hashes of its slots. */
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "data/loader/loader_impl.h"

enum { ALIGNMENT = 64, SIDE_MULTIPLE = 32 };

/* The side of the square that holds whatever the transform gives; 0 when there is no limit. */
int64_t transform_side(const struct image_transform *transform)
{
    int64_t side = 0;
    for (int i = 0; i < transform->num_steps; i++) {
        const struct image_step *step = &transform->steps[i];
        switch (step->kind) {
        case IMAGE_STEP_RESIZE:
        case IMAGE_STEP_RANDOM_CROP:
        case IMAGE_STEP_CENTRE_CROP:
            side = step->size;
            break;
        case IMAGE_STEP_SHORT_SIDE:
            side = (step->max_long + SIDE_MULTIPLE - 1) / SIDE_MULTIPLE * SIDE_MULTIPLE;
            break;
        case IMAGE_STEP_FLIP:
        case IMAGE_STEP_RANDAUGMENT:
            break;
        }
    }
    return side;
}

/* Hands out aligned pieces of an allocation, or only adds them up when `base` is NULL. */
struct cutter {
    char *base;
    size_t used;
};

static void *cut(struct cutter *cutter, bool wanted, int64_t count, size_t size)
{
    if (!wanted) return NULL;
    char *piece = cutter->base ? cutter->base + cutter->used : NULL;
    size_t bytes = (size_t)count * size;
    cutter->used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return piece;
}

static void lay_out(const struct loader *loader, struct cutter *cutter, struct loader_batch *b)
{
    int64_t n = loader->options.batch;
    bool images = loader->side > 0;
    bool texts = loader->options.tokenizer != NULL;
    bool mlm = loader->options.mlm != NULL;
    int64_t tokens = n * loader->options.text_length;
    b->pixels = cut(cutter, images, n * loader->side * loader->side, 3);
    b->extent = cut(cutter, images, 2 * n, sizeof *b->extent);
    b->ids = cut(cutter, texts, tokens, sizeof *b->ids);
    b->mask = cut(cutter, texts, tokens, sizeof *b->mask);
    b->mlm_ids = cut(cutter, mlm, tokens, sizeof *b->mlm_ids);
    b->mlm_labels = cut(cutter, mlm, tokens, sizeof *b->mlm_labels);
    b->sample = cut(cutter, true, n, sizeof *b->sample);
    b->row = cut(cutter, true, n, sizeof *b->row);
    b->image = cut(cutter, true, n, sizeof *b->image);
    b->set = cut(cutter, true, n, sizeof *b->set);
    b->valid = cut(cutter, true, n, sizeof *b->valid);
    b->kind = cut(cutter, true, n, sizeof *b->kind);
    b->label = cut(cutter, true, n, sizeof *b->label);
    b->side = loader->side;
    b->text_length = texts ? loader->options.text_length : 0;
}

size_t buffer_size(const struct loader *loader)
{
    struct cutter cutter = {0};
    struct loader_batch batch = {0};
    lay_out(loader, &cutter, &batch);
    return cutter.used;
}

enum status buffer_init(const struct loader *loader, struct loader_buffer *buffer)
{
    const struct loader_memory *memory = &loader->options.memory;
    memset(buffer, 0, sizeof *buffer);
    buffer->turn = -1;
    if (memory->allocate) {
        TRY(memory->allocate(memory->user, loader->bytes, &buffer->memory));
    } else {
        buffer->memory = aligned_alloc(ALIGNMENT, loader->bytes);
    }
    CHECK(buffer->memory, STATUS_NO_MEMORY,
          "out of memory for a batch of %zu bytes; lower the micro-batch, or data.prefetch",
          loader->bytes);
    memset(buffer->memory, 0, loader->bytes);
    struct cutter cutter = {.base = buffer->memory};
    lay_out(loader, &cutter, &buffer->batch);
    if (loader->options.boxes) {
        buffer->boxes = calloc((size_t)loader->options.batch, sizeof *buffer->boxes);
        CHECK(buffer->boxes, STATUS_NO_MEMORY, "out of memory for the boxes of a batch");
        buffer->batch.boxes = buffer->boxes;
    }
    return STATUS_OK;
}

void buffer_fini(const struct loader *loader, struct loader_buffer *buffer)
{
    const struct loader_memory *memory = &loader->options.memory;
    for (int64_t i = 0; buffer->boxes && i < loader->options.batch; i++) {
        free(buffer->boxes[i].boxes);
        free(buffer->boxes[i].spans);
    }
    free(buffer->boxes);
    if (buffer->memory && memory->allocate) {
        memory->release(memory->user, buffer->memory);
    } else {
        free(buffer->memory);
    }
    memset(buffer, 0, sizeof *buffer);
}

/* ---- hashes ---- */

/* Extends the hash by `size` bytes of slot `slot`, and by whether there are any. */
static uint64_t extend(uint64_t hash, const void *array, int64_t slot, int64_t size)
{
    if (!array) return XXH64("", 1, hash);
    return XXH64((const char *)array + slot * size, (size_t)size, hash);
}

uint64_t loader_slot_hash(const struct loader_batch *batch, int64_t slot)
{
    int64_t row = batch->text_length * (int64_t)sizeof(int32_t);
    uint64_t hash = extend(0, batch->pixels, slot, batch->side * batch->side * 3);
    hash = extend(hash, batch->extent, slot, 2 * (int64_t)sizeof *batch->extent);
    hash = extend(hash, batch->ids, slot, row);
    hash = extend(hash, batch->mask, slot, row);
    hash = extend(hash, batch->mlm_ids, slot, row);
    hash = extend(hash, batch->mlm_labels, slot, row);
    hash = extend(hash, batch->valid, slot, 1);
    hash = extend(hash, batch->label, slot, 1);
    if (!batch->boxes) return hash;
    const struct loader_boxes *boxes = &batch->boxes[slot];
    int64_t counts[2] = {boxes->num_boxes, boxes->num_spans};
    hash = XXH64(counts, sizeof counts, hash);
    if (counts[0]) hash = extend(hash, boxes->boxes, 0, counts[0] * (int64_t)sizeof *boxes->boxes);
    if (counts[1]) hash = extend(hash, boxes->spans, 0, counts[1] * (int64_t)sizeof *boxes->spans);
    return hash;
}
