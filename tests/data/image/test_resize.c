/* Resizing: against a direct evaluation of the definition, boxes, windows, mirroring, memory
 * limits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/image/resize.h"
#include "data/image/resize_impl.h"
#include "runtime/backend/cpu/isa.h"
#include "runtime/base/rng.h"

static struct image_scratch scratch;

static uint32_t noise(uint64_t i)
{
    return rng_at(rng_key(1, RNG_TEST, 0), 0, i, 0).word[0];
}

static void make_image(struct image *image, int64_t width, int64_t height)
{
    assert_int_equal(image_reserve(image, width, height), STATUS_OK);
    for (int64_t i = 0; i < width * height * 3; i++) {
        image->pixels[i] = (uint8_t)noise((uint64_t)i);
    }
}

static void resize(struct image_view source, const struct image_resize *how, struct image *out)
{
    if (image_resize(source, how, &scratch, out) != STATUS_OK) fail_msg("%s", status_message());
}

/* ---- the definition: no padding, no rounding of weights, one pass over both axes ---- */

static double filter_weight(enum image_filter filter, double x)
{
    x = fabs(x);
    if (filter == IMAGE_BILINEAR) return x < 1 ? 1 - x : 0;
    if (x < 1) return 1.5 * x * x * x - 2.5 * x * x + 1;
    return x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2 : 0;
}

/* Weights of the `in` source samples for output `index`; their sum is 1. */
static void direct_weights(enum image_filter filter, int64_t in, double begin, double end,
                           int64_t out, int64_t index, double *weights)
{
    double scale = (end - begin) / (double)out;
    double stretch = scale < 1 ? 1 : scale;
    double support = (filter == IMAGE_BILINEAR ? 1 : 2) * stretch;
    double centre = begin + ((double)index + 0.5) * scale;
    double sum = 0;
    for (int64_t i = 0; i < in; i++) {
        /* Samples whose centre is within the support, which Pillow rounds to whole samples. */
        bool within =
            (double)i >= trunc(centre - support + 0.5) && (double)i < trunc(centre + support + 0.5);
        weights[i] = within ? filter_weight(filter, ((double)i + 0.5 - centre) / stretch) : 0;
        sum += weights[i];
    }
    for (int64_t i = 0; i < in; i++) {
        weights[i] /= sum;
    }
}

static double clip_round(double value)
{
    value = floor(value + 0.5);
    return value < 0 ? 0 : value > 255 ? 255 : value;
}

/* The value at one output, channel c, with rows rounded to bytes in between but not at the end. */
static double direct_value(struct image_view source, const double *across, const double *down,
                           int c)
{

    double sum = 0;
    for (int64_t y = 0; y < source.height; y++) {
        if (down[y] == 0) continue;
        double row = 0;
        for (int64_t x = 0; x < source.width; x++) {
            row += across[x] * source.pixels[y * source.stride + x * 3 + c];
        }
        sum += down[y] * clip_round(row);
    }
    return sum;
}

static void test_against_the_definition(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {{7, 5, 3, 2},  {7, 5, 15, 11}, {1, 1, 4, 3},
                                       {1, 9, 5, 2},  {40, 3, 7, 3},  {16, 16, 16, 5},
                                       {13, 9, 5, 9}, {33, 21, 1, 1}, {50, 40, 17, 63}};
    struct image source = {0};
    struct image out = {0};
    double across[64];
    double down[64];
    int64_t total = 0;
    int64_t different = 0;
    for (size_t n = 0; n < 4 * sizeof sizes / sizeof sizes[0]; n++) {
        const int64_t *size = sizes[n / 4];
        struct image_resize how = {
            .filter = n & 1 ? IMAGE_BICUBIC : IMAGE_BILINEAR, .width = size[2], .height = size[3]};
        make_image(&source, size[0], size[1]);
        float box[4] = {0, 0, (float)size[0], (float)size[1]};
        if (n & 2) {
            box[0] = 0.3f;
            box[1] = 0.25f * (float)size[1];
            box[2] -= 0.21f;
            memcpy(how.box, box, sizeof box);
        }
        struct image_view view = image_as_view(&source);
        resize(view, &how, &out);
        for (int64_t y = 0; y < size[3]; y++) {
            direct_weights(how.filter, size[1], box[1], box[3], size[3], y, down);
            for (int64_t x = 0; x < size[2]; x++) {
                direct_weights(how.filter, size[0], box[0], box[2], size[2], x, across);
                for (int c = 0; c < 3; c++) {
                    double expected = direct_value(view, across, down, c);
                    double actual = out.pixels[(y * size[2] + x) * 3 + c];
                    assert_true(fabs(clip_round(expected) - actual) <= 1);
                    /* A sum that is a half in theory may go either way. */
                    if (fabs(expected - floor(expected) - 0.5) < 1e-4) continue;
                    different += clip_round(expected) != actual;
                    total++;
                }
            }
        }
    }
    /* What is left: rows whose sum is a half in theory. */
    assert_true(total > 10000);
    assert_true(different * 1000 < total);
    image_fini(&source);
    image_fini(&out);
}

static void test_same_size_is_a_copy(void **state)
{
    (void)state;
    struct image source = {0};
    struct image out = {0};
    make_image(&source, 19, 7);
    resize(image_as_view(&source), &(struct image_resize){.width = 19, .height = 7}, &out);
    assert_memory_equal(out.pixels, source.pixels, 19 * 7 * 3);
    image_fini(&source);
    image_fini(&out);
}

static void test_window_and_mirror(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{31, 23}, {17, 40}, {64, 48}};
    struct image source = {0};
    struct image whole = {0};
    struct image part = {0};
    make_image(&source, 64, 48);
    for (int n = 0; n < 6; n++) {
        struct image_resize how = {
            .filter = IMAGE_BICUBIC, .width = sizes[n / 2][0], .height = sizes[n / 2][1]};
        resize(image_as_view(&source), &how, &whole);
        int64_t window[4] = {3, 5, how.width - 1, how.height - 4};
        memcpy(how.window, window, sizeof window);
        how.mirror = n & 1;
        resize(image_as_view(&source), &how, &part);
        assert_int_equal(part.width, window[2] - window[0]);
        assert_int_equal(part.height, window[3] - window[1]);
        for (int64_t y = 0; y < part.height; y++) {
            for (int64_t x = 0; x < part.width; x++) {
                int64_t from = window[0] + (how.mirror ? part.width - 1 - x : x);
                assert_memory_equal(part.pixels + (y * part.width + x) * 3,
                                    whole.pixels + ((y + window[1]) * whole.width + from) * 3, 3);
            }
        }
    }
    image_fini(&source);
    image_fini(&whole);
    image_fini(&part);
}

/* Kernels read ahead; never beyond the picture. Its last byte lies before a page without access. */
static void test_reads_stay_inside(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = 8 * page;
    uint8_t *memory =
        mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    assert_int_equal(mprotect(memory + room, page, PROT_NONE), 0);
    struct image out = {0};
    for (int64_t width = 1; width < 40; width++) {
        for (int64_t height = 1; height < 8; height++) {
            size_t bytes = (size_t)(width * height * 3);
            struct image_view view = {memory + room - bytes, width, height, width * 3};
            for (int64_t size = 1; size < 60; size += 11) {
                struct image_resize how = {
                    .filter = IMAGE_BICUBIC, .width = size, .height = 1 + size / 3};
                resize(view, &how, &out);
                how.height = height; /* the horizontal pass alone, then the vertical one */
                resize(view, &how, &out);
                how.height = size;
                how.width = width;
                resize(view, &how, &out);
            }
        }
    }
    image_fini(&out);
    munmap(memory, room + page);
}

#if defined(__x86_64__)
/* Each vector kernel against the plain one, on random weights and every tail. */
static void test_vertical_kernels(void **state)
{
    (void)state;
    enum { ROWS = 9, BYTES = 200 };
    uint8_t *rows = malloc(ROWS * BYTES);
    for (int i = 0; i < ROWS * BYTES; i++) {
        rows[i] = (uint8_t)noise((uint64_t)i);
    }
    for (int64_t bytes = 1; bytes <= BYTES; bytes++) {
        for (int64_t count = 1; count <= ROWS; count++) {
            const uint8_t *in[ROWS];
            int32_t weights[ROWS];
            for (int64_t i = 0; i < count; i++) {
                in[i] = rows + i * BYTES + (BYTES - bytes);
                weights[i] = (int32_t)(noise((uint64_t)(bytes * 16 + i)) % (1u << 22)) - (1 << 21);
                weights[i] = weights[i] / (int32_t)count + (i == 0 ? 3 << 20 : 0);
            }
            uint8_t expected[BYTES];
            uint8_t actual[BYTES + 64];
            resize_vertical_scalar(in, weights, count, expected, bytes);
            for (int level = CPU_ISA_AVX2; level <= CPU_ISA_AVX512; level++) {
                if (cpu_isa() < (enum cpu_isa)level) continue;
                memset(actual, 0x5A, sizeof actual);
                (level == CPU_ISA_AVX2 ? resize_vertical_avx2
                                       : resize_vertical_avx512)(in, weights, count, actual, bytes);
                assert_memory_equal(actual, expected, bytes);
                assert_int_equal(actual[bytes], 0x5A);
            }
        }
    }
    free(rows);
}

static void test_horizontal_kernels(void **state)
{
    (void)state;
    enum { WIDTH = 70, SIZE = 33, TAPS = 12, STRIDE = (WIDTH + 8) * 3 + 16 };
    uint8_t *pixels = malloc(RESIZE_GROUP * STRIDE);
    int32_t first[SIZE];
    int32_t count[SIZE];
    int32_t weights[SIZE * TAPS] = {0};
    int16_t split[SIZE * TAPS * 2];
    for (int i = 0; i < RESIZE_GROUP * STRIDE; i++) {
        pixels[i] = (uint8_t)noise((uint64_t)i);
    }
    for (int x = 0; x < SIZE; x++) {
        count[x] = 1 + (int32_t)(noise((uint64_t)x + 7) % TAPS);
        first[x] = (int32_t)(noise((uint64_t)x + 99) % (WIDTH - TAPS));
        for (int i = 0; i < count[x]; i++) {
            int32_t weight = (int32_t)(noise((uint64_t)(x * TAPS + i)) % (1u << 22)) - (1 << 21);
            weights[x * TAPS + i] = weight / count[x] + (i == 0 ? 3 << 20 : 0);
        }
        for (int i = 0; i < TAPS; i++) {
            int32_t weight = weights[x * TAPS + i];
            split[(x * TAPS + i / 4 * 4) * 2 + i % 4] = (int16_t)resize_high(weight);
            split[(x * TAPS + i / 4 * 4) * 2 + 4 + i % 4] = (int16_t)resize_low(weight);
        }
    }
    struct resize_axis axis = {SIZE, TAPS, first, count, weights, split};
    uint8_t expected[RESIZE_GROUP][SIZE * 3 + 64];
    uint8_t actual[RESIZE_GROUP][SIZE * 3 + 64];
    const uint8_t *in[RESIZE_GROUP];
    uint8_t *out[RESIZE_GROUP];
    uint8_t *vector_out[RESIZE_GROUP];
    for (int row = 0; row < RESIZE_GROUP; row++) {
        in[row] = pixels + row * STRIDE;
        out[row] = expected[row];
        vector_out[row] = actual[row];
    }
    resize_horizontal_scalar(&axis, in, out);
    for (int level = CPU_ISA_AVX2; level <= CPU_ISA_AVX512; level++) {
        if (cpu_isa() < (enum cpu_isa)level) continue;
        memset(actual, 0x5A, sizeof actual);
        (level == CPU_ISA_AVX2 ? resize_horizontal_avx2 : resize_horizontal_avx512)(&axis, in,
                                                                                    vector_out);
        for (int row = 0; row < RESIZE_GROUP; row++) {
            assert_memory_equal(actual[row], expected[row], SIZE * 3);
        }
    }
    free(pixels);
}
#endif

static void test_refusals(void **state)
{
    (void)state;
    struct image source = {0};
    struct image out = {0};
    make_image(&source, 10, 6);
    struct image_view view = image_as_view(&source);
    static const struct {
        struct image_resize how;
        const char *message;
    } rows[] = {
        {{.width = 0, .height = 4}, "output width of 0 pixels"},
        {{.width = 4, .height = 2000000}, "output height of 2000000 pixels"},
        {{.width = 4, .height = 4, .box = {-1, 0, 5, 5}}, "box from -1 to 5"},
        {{.width = 4, .height = 4, .box = {0, 0, 5, 6.5f}}, "box from 0 to 6.5"},
        {{.width = 4, .height = 4, .box = {NAN, 0, 5, 5}}, "box from nan"},
        {{.width = 4, .height = 4, .window = {0, 0, 5, 4}}, "window from 0 to 5"},
        {{.width = 4, .height = 4, .filter = (enum image_filter)7}, "no filter 7"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(image_resize(view, &rows[i].how, &scratch, &out), STATUS_INVALID);
        if (!strstr(status_message(), rows[i].message)) fail_msg("%s", status_message());
    }
    struct image_view empty = {source.pixels, 0, 6, 30};
    struct image_resize how = {.width = 4, .height = 4};
    assert_int_equal(image_resize(empty, &how, &scratch, &out), STATUS_INVALID);
    uint8_t memory[4 * 4 * 3 - 1];
    out = image_borrow(memory, sizeof memory);
    assert_int_equal(image_resize(view, &how, &scratch, &out), STATUS_INVALID);
    image_fini(&source);
}

static int tear_down(void **state)
{
    (void)state;
    image_scratch_fini(&scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_the_definition),
        cmocka_unit_test(test_same_size_is_a_copy),
        cmocka_unit_test(test_window_and_mirror),
        cmocka_unit_test(test_reads_stay_inside),
#if defined(__x86_64__)
        cmocka_unit_test(test_vertical_kernels),
        cmocka_unit_test(test_horizontal_kernels),
#endif
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
