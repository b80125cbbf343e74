/* Pixel buffers, views and the outline of a box. */
#include "data/image/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct image image_borrow(uint8_t *pixels, size_t capacity)
{
    return (struct image){.pixels = pixels, .capacity = capacity, .borrowed = true};
}

enum status image_reserve(struct image *image, int64_t width, int64_t height)
{
    CHECK(width >= 1 && height >= 1 && width <= IMAGE_MAX_SIDE && height <= IMAGE_MAX_SIDE,
          STATUS_INVALID, "image of %lld x %lld pixels: each side must be 1 to %lld",
          (long long)width, (long long)height, (long long)IMAGE_MAX_SIDE);
    size_t needed = (size_t)width * (size_t)height * IMAGE_CHANNELS;
    if (needed > image->capacity) {
        CHECK(!image->borrowed, STATUS_INVALID,
              "image of %lld x %lld pixels: needs %zu bytes, the caller's buffer has %zu",
              (long long)width, (long long)height, needed, image->capacity);
        /* The old pixels are not kept, so free first: realloc would copy them. */
        free(image->pixels);
        image->capacity = 0;
        image->width = image->height = 0;
        image->pixels = malloc(needed);
        CHECK(image->pixels, STATUS_NO_MEMORY,
              "image of %lld x %lld pixels: no memory for %zu bytes", (long long)width,
              (long long)height, needed);
        image->capacity = needed;
    }
    image->width = width;
    image->height = height;
    return STATUS_OK;
}

void image_fini(struct image *image)
{
    if (!image->borrowed) free(image->pixels);
    *image = (struct image){0};
}

struct image_view image_as_view(const struct image *image)
{
    return (struct image_view){image->pixels, image->width, image->height,
                               image->width * IMAGE_CHANNELS};
}

struct image_view image_crop(struct image_view view, int64_t x, int64_t y, int64_t width,
                             int64_t height)
{
    return (struct image_view){view.pixels + y * view.stride + x * IMAGE_CHANNELS, width, height,
                               view.stride};
}

static void fill(struct image *image, const int64_t box[4], const uint8_t colour[3])
{
    for (int64_t y = box[1]; y < box[3]; y++) {
        uint8_t *pixel = image->pixels + (y * image->width + box[0]) * IMAGE_CHANNELS;
        for (int64_t x = box[0]; x < box[2]; x++, pixel += IMAGE_CHANNELS) {
            memcpy(pixel, colour, IMAGE_CHANNELS);
        }
    }
}

/* `value` as a pixel edge inside [0, limit]; NaN becomes 0. */
static int64_t clip_edge(float value, int64_t limit)
{
    if (!(value > 0)) return 0;
    return value < (float)limit ? (int64_t)lrintf(value) : limit;
}

static int64_t at_least(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void image_draw_box(struct image *image, const float box[4], const uint8_t colour[3], int thickness)
{
    /* The outer edges may lie outside; the inner ones must then stay outside as well, so they are
     * found before clipping. */
    float t = (float)thickness;
    int64_t w = image->width;
    int64_t h = image->height;
    int64_t x0 = clip_edge(box[0], w);
    int64_t y0 = clip_edge(box[1], h);
    int64_t x1 = clip_edge(box[2], w);
    int64_t y1 = clip_edge(box[3], h);
    if (x1 <= x0 || y1 <= y0) return;
    int64_t left = at_most(clip_edge(box[0] + t, w), x1);
    int64_t top = at_most(clip_edge(box[1] + t, h), y1);
    int64_t right = at_least(clip_edge(box[2] - t, w), x0);
    int64_t bottom = at_least(clip_edge(box[3] - t, h), y0);
    fill(image, (int64_t[4]){x0, y0, x1, top}, colour);
    fill(image, (int64_t[4]){x0, bottom, x1, y1}, colour);
    fill(image, (int64_t[4]){x0, y0, left, y1}, colour);
    fill(image, (int64_t[4]){right, y0, x1, y1}, colour);
}
