/*
 * RandomAugment's operations on RGB8.
 *
 * The first four are tables per channel or a 3x3 filter in integers. The geometric ones share one
 * warp: the inverse map in fixed point (10 fraction bits, rounded to 5), as OpenCV computes it, so
 * that the bytes agree; 32 x 32 weights sum to 1024.
 */
#include "data/image/augment.h"

#include <math.h>
#include <string.h>

#include "data/image/augment_impl.h"
#include "runtime/backend/cpu/isa.h"

enum { LEVELS = 256, FILL = 128 };

/* ---- tables ---- */

typedef uint8_t channel_tables[IMAGE_CHANNELS][LEVELS];
typedef int64_t channel_counts[IMAGE_CHANNELS][LEVELS];

static void tables_apply(struct image_view source, channel_tables tables, uint8_t *out)
{
    for (int64_t y = 0; y < source.height; y++) {
        const uint8_t *in = source.pixels + y * source.stride;
        for (int64_t x = 0; x < source.width; x++, in += IMAGE_CHANNELS, out += IMAGE_CHANNELS) {
            out[0] = tables[0][in[0]];
            out[1] = tables[1][in[1]];
            out[2] = tables[2][in[2]];
        }
    }
}

static void count_levels(struct image_view source, channel_counts counts)
{
    memset(counts, 0, sizeof(channel_counts));
    for (int64_t y = 0; y < source.height; y++) {
        const uint8_t *in = source.pixels + y * source.stride;
        for (int64_t x = 0; x < source.width; x++, in += IMAGE_CHANNELS) {
            counts[0][in[0]]++;
            counts[1][in[1]]++;
            counts[2][in[2]]++;
        }
    }
}

static uint8_t clip_level(int64_t value)
{
    return (uint8_t)(value < 0 ? 0 : value > LEVELS - 1 ? LEVELS - 1 : value);
}

static void identity_table(uint8_t table[LEVELS])
{
    for (int i = 0; i < LEVELS; i++) {
        table[i] = (uint8_t)i;
    }
}

static void contrast_table(const int64_t counts[LEVELS], uint8_t table[LEVELS])
{
    int low = 0;
    int high = LEVELS - 1;
    while (low < LEVELS - 1 && counts[low] == 0)
        low++;
    while (high > 0 && counts[high] == 0)
        high--;
    if (high <= low) {
        identity_table(table);
        return;
    }
    double scale = 255.0 / (high - low);
    double offset = -low * scale;
    for (int i = 0; i < LEVELS; i++) {
        table[i] = clip_level((int64_t)(i * scale + offset));
    }
}

static void equal_table(const int64_t counts[LEVELS], uint8_t table[LEVELS])
{
    int64_t total = 0;
    int64_t last = 0; /* pixels of the highest level that occurs */
    for (int i = 0; i < LEVELS; i++) {
        total += counts[i];
        if (counts[i] > 0) last = counts[i];
    }
    int64_t step = (total - last) / (LEVELS - 1);
    if (step == 0) {
        identity_table(table);
        return;
    }
    int64_t sum = step / 2;
    for (int i = 0; i < LEVELS; i++) {
        table[i] = clip_level(sum / step);
        sum += counts[i];
    }
}

static void apply_counted(struct image_view source, uint8_t *out,
                          void (*make)(const int64_t counts[LEVELS], uint8_t table[LEVELS]))
{
    channel_counts counts;
    channel_tables tables;
    count_levels(source, counts);
    for (int c = 0; c < IMAGE_CHANNELS; c++) {
        make(counts[c], tables[c]);
    }
    tables_apply(source, tables, out);
}

static void brightness(struct image_view source, float factor, uint8_t *out)
{
    channel_tables tables;
    for (int i = 0; i < LEVELS; i++) {
        float value = (float)i * factor;
        tables[0][i] = (uint8_t)(value <= 0 ? 0 : value >= 255 ? 255 : value);
    }
    memcpy(tables[1], tables[0], LEVELS);
    memcpy(tables[2], tables[0], LEVELS);
    tables_apply(source, tables, out);
}

static void copy(struct image_view source, uint8_t *out)
{
    int64_t bytes = source.width * IMAGE_CHANNELS;
    for (int64_t y = 0; y < source.height; y++, out += bytes) {
        memcpy(out, source.pixels + y * source.stride, (size_t)bytes);
    }
}

/* ---- sharpness ---- */

void augment_sharpen_scalar(const uint8_t *above, const uint8_t *row, const uint8_t *below,
                            int64_t bytes, float factor, uint8_t *out)
{
    enum { LEFT = -IMAGE_CHANNELS, RIGHT = IMAGE_CHANNELS };
    for (int64_t i = IMAGE_CHANNELS; i < bytes - IMAGE_CHANNELS; i++) {
        uint32_t sum = above[i + LEFT] + above[i] + above[i + RIGHT] + row[i + LEFT] + 5u * row[i] +
                       row[i + RIGHT] + below[i + LEFT] + below[i] + below[i + RIGHT];
        int32_t smooth = (int32_t)((sum + 6) / 13); /* the nearest; there are no ties */
        float value = (float)smooth + factor * (float)(row[i] - smooth);
        value = value < 0 ? 0 : value;
        value = value > 255 ? 255 : value;
        out[i] = (uint8_t)(int32_t)value;
    }
}

static void sharpness(struct image_view source, float factor, uint8_t *out)
{
    augment_sharpen *sharpen = augment_sharpen_scalar;
#if defined(__x86_64__)
    if (cpu_isa() >= CPU_ISA_AVX2) sharpen = augment_sharpen_avx2;
#endif
    int64_t bytes = source.width * IMAGE_CHANNELS;
    for (int64_t y = 0; y < source.height; y++, out += bytes) {
        const uint8_t *row = source.pixels + y * source.stride;
        memcpy(out, row, (size_t)bytes);
        if (y == 0 || y == source.height - 1 || source.width < 3) continue;
        sharpen(row - source.stride, row, row + source.stride, bytes, factor, out);
    }
}

/* ---- geometry ---- */

bool image_op_affine(enum image_op op, float argument, int64_t width, int64_t height, double m[6])
{
    memcpy(m, (double[6]){1, 0, 0, 0, 1, 0}, 6 * sizeof *m);
    switch (op) {
    case IMAGE_OP_SHEAR_X:
        m[1] = argument;
        return true;
    case IMAGE_OP_SHEAR_Y:
        m[3] = argument;
        return true;
    case IMAGE_OP_TRANSLATE_X:
        m[2] = -argument;
        return true;
    case IMAGE_OP_TRANSLATE_Y:
        m[5] = -argument;
        return true;
    case IMAGE_OP_ROTATE: {
        double angle = argument * (3.1415926535897932 / 180);
        double a = cos(angle);
        double b = sin(angle);
        double x = (double)width / 2;
        double y = (double)height / 2;
        memcpy(m, (double[6]){a, b, (1 - a) * x - b * y, -b, a, b * x + (1 - a) * y},
               6 * sizeof *m);
        return true;
    }
    default:
        return false;
    }
}

static void invert(const double m[6], double inverse[6])
{
    double determinant = m[0] * m[4] - m[1] * m[3];
    double d = determinant != 0 ? 1 / determinant : 0;
    inverse[0] = m[4] * d;
    inverse[1] = m[1] * -d;
    inverse[3] = m[3] * -d;
    inverse[4] = m[0] * d;
    inverse[2] = -inverse[0] * m[2] - inverse[1] * m[5];
    inverse[5] = -inverse[3] * m[2] - inverse[4] * m[5];
}

/* Rounded and, for absurd arguments, clipped to what fits. */
static int32_t to_fixed(double value)
{
    if (value >= INT32_MAX) return INT32_MAX;
    if (value <= INT32_MIN) return INT32_MIN;
    return (int32_t)lrint(value);
}

static void blend(const uint8_t *const corner[4], int64_t at_x, int64_t at_y, uint8_t *out)
{
    int32_t x = (int32_t)(at_x & AUGMENT_WEIGHT_MASK);
    int32_t y = (int32_t)(at_y & AUGMENT_WEIGHT_MASK);
    for (int c = 0; c < IMAGE_CHANNELS; c++) {
        int32_t upper = corner[0][c] * (AUGMENT_WEIGHT_ONE - x) + corner[1][c] * x;
        int32_t lower = corner[2][c] * (AUGMENT_WEIGHT_ONE - x) + corner[3][c] * x;
        int32_t sum = upper * (AUGMENT_WEIGHT_ONE - y) + lower * y;
        int32_t half = 1 << (2 * AUGMENT_WEIGHT_BITS - 1);
        out[c] = (uint8_t)((sum + half) >> (2 * AUGMENT_WEIGHT_BITS));
    }
}

void augment_warp_scalar(struct image_view source, const struct augment_span *span, uint8_t *out)
{
    for (int i = 0; i < AUGMENT_BLOCK; i++, out += IMAGE_CHANNELS) {
        int64_t x = (span->x + span->dx[i]) >> AUGMENT_SHIFT;
        int64_t y = (span->y + span->dy[i]) >> AUGMENT_SHIFT;
        const uint8_t *pixel = source.pixels + (y >> AUGMENT_WEIGHT_BITS) * source.stride +
                               (x >> AUGMENT_WEIGHT_BITS) * IMAGE_CHANNELS;
        const uint8_t *const corner[4] = {pixel, pixel + IMAGE_CHANNELS, pixel + source.stride,
                                          pixel + source.stride + IMAGE_CHANNELS};
        blend(corner, x, y, out);
    }
}

/* The same for `count` pixels anywhere, also outside. */
static void warp_border(struct image_view source, const struct augment_span *span, int64_t count,
                        uint8_t *out)
{
    static const uint8_t outside[IMAGE_CHANNELS] = {FILL, FILL, FILL};
    const int64_t right = source.width * AUGMENT_WEIGHT_ONE;
    const int64_t bottom = source.height * AUGMENT_WEIGHT_ONE;
    for (int64_t i = 0; i < count; i++, out += IMAGE_CHANNELS) {
        int64_t x = (span->x + span->dx[i]) >> AUGMENT_SHIFT;
        int64_t y = (span->y + span->dy[i]) >> AUGMENT_SHIFT;
        if (x < -AUGMENT_WEIGHT_ONE || y < -AUGMENT_WEIGHT_ONE || x >= right || y >= bottom) {
            memcpy(out, outside, IMAGE_CHANNELS);
            continue;
        }
        const uint8_t *corner[4];
        for (int k = 0; k < 4; k++) {
            int64_t px = (x >> AUGMENT_WEIGHT_BITS) + (k & 1);
            int64_t py = (y >> AUGMENT_WEIGHT_BITS) + (k >> 1);
            bool inside = px >= 0 && py >= 0 && px < source.width && py < source.height;
            corner[k] = inside ? source.pixels + py * source.stride + px * IMAGE_CHANNELS : outside;
        }
        blend(corner, x, y, out);
    }
}

/* Whether pixel `i` of the span keeps the distances that augment_warp asks for. */
static bool is_inner(struct image_view source, const struct augment_span *span, int64_t i)
{
    int64_t x = (span->x + span->dx[i]) >> AUGMENT_MAP_BITS;
    int64_t y = (span->y + span->dy[i]) >> AUGMENT_MAP_BITS;
    return x >= 0 && y >= 0 && x < source.width - 2 && y < source.height - 1;
}

/* Column blocks outside, rows inside, so that the columns' share of the map is computed once. */
static void warp(struct image_view source, const double forward[6], uint8_t *out)
{
    enum { ROUND = 1 << (AUGMENT_SHIFT - 1) };
    augment_warp *inner = augment_warp_scalar;
#if defined(__x86_64__)
    if (cpu_isa() >= CPU_ISA_AVX2) inner = augment_warp_avx2;
#endif
    const double one = 1 << AUGMENT_MAP_BITS;
    double m[6];
    invert(forward, m);
    for (int64_t begin = 0; begin < source.width; begin += AUGMENT_BLOCK) {
        int64_t count = source.width - begin;
        if (count > AUGMENT_BLOCK) count = AUGMENT_BLOCK;
        int32_t dx[AUGMENT_BLOCK];
        int32_t dy[AUGMENT_BLOCK];
        for (int64_t i = 0; i < count; i++) {
            dx[i] = to_fixed(m[0] * (double)(begin + i) * one);
            dy[i] = to_fixed(m[3] * (double)(begin + i) * one);
        }
        for (int64_t y = 0; y < source.height; y++) {
            uint8_t *row = out + (y * source.width + begin) * IMAGE_CHANNELS;
            struct augment_span span = {(int64_t)to_fixed((m[1] * (double)y + m[2]) * one) + ROUND,
                                        (int64_t)to_fixed((m[4] * (double)y + m[5]) * one) + ROUND,
                                        dx, dy};
            /* The map is monotone along a row: what holds for both ends holds between. */
            if (count == AUGMENT_BLOCK && is_inner(source, &span, 0) &&
                is_inner(source, &span, AUGMENT_BLOCK - 1)) {
                inner(source, &span, row);
            } else {
                warp_border(source, &span, count, row);
            }
        }
    }
}

/* ---- the table of operations ---- */

static const struct {
    const char *name;
    double scale; /* argument = level / 10 * scale + offset */
    double offset;
    bool has_sign;
} ops[IMAGE_OP_COUNT] = {
    [IMAGE_OP_IDENTITY] = {"Identity", 0, 0, false},
    [IMAGE_OP_AUTO_CONTRAST] = {"AutoContrast", 0, 0, false},
    [IMAGE_OP_EQUALIZE] = {"Equalize", 0, 0, false},
    [IMAGE_OP_BRIGHTNESS] = {"Brightness", 1.8, 0.1, false},
    [IMAGE_OP_SHARPNESS] = {"Sharpness", 1.8, 0.1, false},
    [IMAGE_OP_SHEAR_X] = {"ShearX", 0.3, 0, true},
    [IMAGE_OP_SHEAR_Y] = {"ShearY", 0.3, 0, true},
    [IMAGE_OP_TRANSLATE_X] = {"TranslateX", 10, 0, true},
    [IMAGE_OP_TRANSLATE_Y] = {"TranslateY", 10, 0, true},
    [IMAGE_OP_ROTATE] = {"Rotate", 30, 0, true},
};

const char *image_op_name(enum image_op op)
{
    return (unsigned)op < IMAGE_OP_COUNT ? ops[op].name : "unknown";
}

float image_op_argument(enum image_op op, float level, bool negative)
{
    double argument = (double)level / 10 * ops[op].scale + ops[op].offset;
    return (float)(negative && ops[op].has_sign ? -argument : argument);
}

enum status image_op_apply(enum image_op op, float argument, struct image_view source,
                           struct image *out)
{
    CHECK((unsigned)op < IMAGE_OP_COUNT, STATUS_INVALID, "no picture operation %d", (int)op);
    CHECK(isfinite(argument), STATUS_INVALID, "%s: argument %g", ops[op].name, (double)argument);
    TRY(image_reserve(out, source.width, source.height));
    double m[6];
    switch (op) {
    case IMAGE_OP_AUTO_CONTRAST:
        apply_counted(source, out->pixels, contrast_table);
        break;
    case IMAGE_OP_EQUALIZE:
        apply_counted(source, out->pixels, equal_table);
        break;
    case IMAGE_OP_BRIGHTNESS:
        brightness(source, argument, out->pixels);
        break;
    case IMAGE_OP_SHARPNESS:
        sharpness(source, argument, out->pixels);
        break;
    default:
        if (image_op_affine(op, argument, source.width, source.height, m)) {
            warp(source, m, out->pixels);
        } else {
            copy(source, out->pixels);
        }
    }
    return STATUS_OK;
}
