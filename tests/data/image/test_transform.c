/* Transforms: sizes, distribution of the draws, independence of keys, boxes that follow the pixels.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/image/transform.h"

static struct image_transform find(const char *name, int64_t size)
{
    struct image_transform transform;
    if (image_transform_find(name, size, &transform) != STATUS_OK) fail_msg("%s", status_message());
    return transform;
}

static struct image_plan plan_of(const struct image_transform *transform, uint64_t sample,
                                 int64_t width, int64_t height)
{
    struct image_plan plan;
    struct image_key key = {.seed = 11, .epoch = 2, .sample = sample};
    if (image_plan_init(transform, key, width, height, &plan)) fail_msg("%s", status_message());
    return plan;
}

static void assert_printed(const struct image_plan *plan, const char *expected)
{
    struct strbuf text = {0};
    image_plan_print(plan, &text);
    assert_string_equal(text.text, expected);
    strbuf_fini(&text);
}

/* ---- sizes ---- */

static void test_fixed_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t width, height;
        const char *plan;
    } rows[] = {
        {"albef", 640, 480, "640x480 -> 96x96 bicubic"},
        {"clip", 640, 480, "640x480 -> 128x96 bicubic centre 16,0 96x96"},
        {"clip", 101, 200, "101x200 -> 96x190 bicubic centre 0,47 96x96"},
        {"fine_test", 640, 480, "640x480 -> 1066x800 bilinear"},
        {"fine_test", 480, 640, "480x640 -> 800x1066 bilinear"},
        {"fine_test", 800, 800, "800x800 -> 800x800 bilinear"},
        /* 1333 * 300 / 1000 = 399.9 is the shorter side, and the longer follows from it. */
        {"fine_test", 1000, 300, "1000x300 -> 1333x400 bilinear"},
        {"fine_test", 2000, 1, "2000x1 -> 2000x1 bilinear"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct image_transform transform = find(rows[i].name, 96);
        assert_false(image_transform_is_random(&transform));
        struct image_plan plan = plan_of(&transform, i, rows[i].width, rows[i].height);
        assert_printed(&plan, rows[i].plan);
    }
}

static void test_fine_sides(void **state)
{
    (void)state;
    struct image_transform transform = find("fine", 0);
    assert_true(image_transform_is_random(&transform));
    int count[801] = {0};
    int mirrored = 0;
    enum { DRAWS = 5000 };
    for (int i = 0; i < DRAWS; i++) {
        struct image_plan plan = plan_of(&transform, (uint64_t)i, 640, 480);
        assert_int_equal(plan.resize.width, plan.resize.height * 640 / 480);
        count[plan.resize.height]++;
        mirrored += plan.resize.mirror;
    }
    for (int64_t side = 480; side <= 800; side += 80) {
        assert_true(abs(count[side] - DRAWS / 5) < 120);
    }
    assert_true(abs(mirrored - DRAWS / 2) < 150);
    transform = find("fine_keep", 0);
    for (int i = 0; i < 100; i++) {
        assert_false(plan_of(&transform, (uint64_t)i, 640, 480).resize.mirror);
    }
}

/* ---- distribution ---- */

static void test_random_crop(void **state)
{
    (void)state;
    struct image_transform transform = find("albef_crop", 384);
    enum { DRAWS = 20000 };
    double area = 0;
    double log_ratio = 0;
    double square = 0;
    int quarter[4] = {0};
    int mirrored = 0;
    for (int i = 0; i < DRAWS; i++) {
        struct image_plan plan = plan_of(&transform, (uint64_t)i, 1000, 1000);
        const int64_t *crop = plan.crop;
        assert_true(crop[0] >= 0 && crop[0] + crop[2] <= 1000);
        assert_true(crop[1] >= 0 && crop[1] + crop[3] <= 1000);
        double share = (double)(crop[2] * crop[3]) / 1e6;
        double ratio = (double)crop[2] / (double)crop[3];
        assert_true(share > 0.498 && share <= 1.002);
        assert_true(ratio > 0.748 && ratio < 1.336);
        area += share;
        log_ratio += log(ratio);
        square += log(ratio) * log(ratio);
        if (crop[2] < 1000) quarter[crop[0] * 4 / (1000 - crop[2] + 1)]++;
        mirrored += plan.resize.mirror;
        assert_int_equal(plan.resize.width, 384);
        assert_int_equal(plan.num_ops, 0);
    }
    /* A large area with an extreme ratio does not fit and is drawn again, so areas lean to the
     * small side of 0.75; the ratio stays symmetric about 1. */
    assert_true(area / DRAWS > 0.66 && area / DRAWS < 0.75);
    assert_true(fabs(log_ratio / DRAWS) < 0.005);
    assert_true(square / DRAWS > 0.015 && square / DRAWS < 0.0276);
    int positions = quarter[0] + quarter[1] + quarter[2] + quarter[3];
    for (int i = 0; i < 4; i++) {
        assert_true(abs(quarter[i] - positions / 4) < DRAWS / 50);
    }
    assert_true(abs(mirrored - DRAWS / 2) < 300);
}

/* No crop of half the area and a ratio of at most 4/3 fits into a strip: the central fall-back. */
static void test_crop_fallback(void **state)
{
    (void)state;
    struct image_transform transform = find("albef_crop", 64);
    transform.num_steps = 1;
    struct image_plan plan = plan_of(&transform, 5, 1000, 30);
    assert_printed(&plan, "1000x30 crop 480,0 40x30 -> 64x64 bicubic");
    plan = plan_of(&transform, 5, 30, 1001);
    assert_printed(&plan, "30x1001 crop 0,480 30x40 -> 64x64 bicubic");
    plan = plan_of(&transform, 5, 1, 1);
    assert_printed(&plan, "1x1 -> 64x64 bicubic");
}

static void test_randaugment(void **state)
{
    (void)state;
    struct image_transform transform = find("albef_randaug", 384);
    enum { DRAWS = 20000 };
    int count[IMAGE_OP_COUNT] = {0};
    int negative = 0;
    int both = 0;
    for (int i = 0; i < DRAWS; i++) {
        struct image_plan plan = plan_of(&transform, (uint64_t)i, 640, 480);
        assert_true(plan.num_ops <= 2);
        both += plan.num_ops == 2;
        for (int k = 0; k < plan.num_ops; k++) {
            enum image_op op = plan.ops[k].op;
            float argument = plan.ops[k].argument;
            count[op]++;
            if (op == IMAGE_OP_ROTATE) {
                assert_true(fabsf(argument) == 21);
                negative += argument < 0;
            }
            assert_true(op != IMAGE_OP_BRIGHTNESS || argument == 1.36f);
            assert_true(op != IMAGE_OP_SHEAR_X || fabsf(argument) == 0.21f);
        }
    }
    /* Two draws, one of ten, applied half the time: each operation once in ten pictures. */
    assert_int_equal(count[IMAGE_OP_IDENTITY], 0); /* is left out of the plan */
    for (int op = 1; op < IMAGE_OP_COUNT; op++) {
        assert_true(abs(count[op] - DRAWS / 10) < 200);
    }
    assert_true(abs(negative - count[IMAGE_OP_ROTATE] / 2) < 100);
    assert_true(abs(both - (int)(DRAWS * 0.45 * 0.45)) < 250);
}

/* ---- keys ---- */

static void test_plans_are_functions_of_the_key(void **state)
{
    (void)state;
    struct image_transform transform = find("albef_randaug", 224);
    struct image_key base = {.seed = 1, .site = 0, .epoch = 3, .sample = 1234567890127};
    struct image_plan first;
    assert_int_equal(image_plan_init(&transform, base, 500, 375, &first), STATUS_OK);
    /* These numbers are a contract: a resumed run must see the same pictures. */
    assert_printed(&first, "500x375 crop 7,5 478x365 -> 224x224 bicubic mirrored Equalize "
                           "TranslateY(-7)");
    for (int field = 0; field < 5; field++) {
        struct image_key key = base;
        if (field == 1) key.seed++;
        if (field == 2) key.site++;
        if (field == 3) key.epoch++;
        if (field == 4) key.sample++;
        struct image_plan plan;
        assert_int_equal(image_plan_init(&transform, key, 500, 375, &plan), STATUS_OK);
        bool same = memcmp(plan.crop, first.crop, sizeof plan.crop) == 0;
        assert_true(same == (field == 0));
    }
}

/* ---- boxes ---- */

/* The upright box around pixels brighter than half; false when there are none. */
static bool bright_box(const struct image *image, int64_t box[4])
{
    box[0] = box[1] = INT64_MAX;
    box[2] = box[3] = -1;
    for (int64_t y = 0; y < image->height; y++) {
        for (int64_t x = 0; x < image->width; x++) {
            if (image->pixels[(y * image->width + x) * 3] <= 190) continue;
            if (x < box[0]) box[0] = x;
            if (y < box[1]) box[1] = y;
            if (x + 1 > box[2]) box[2] = x + 1;
            if (y + 1 > box[3]) box[3] = y + 1;
        }
    }
    return box[2] > box[0];
}

static void check_box(const struct image_transform *transform, uint64_t sample,
                      struct image_workspace *workspace, struct image *out)
{
    static const float boxes[][4] = {
        {20, 30, 60, 50}, {0, 0, 35, 40}, {70, 5, 120, 90}, {95, 70, 119, 89}};
    float box[1][4];
    memcpy(box[0], boxes[sample % 4], sizeof box[0]);
    struct image source = {0};
    assert_int_equal(image_reserve(&source, 120, 90), STATUS_OK);
    memset(source.pixels, 0, 120 * 90 * 3);
    for (int64_t y = (int64_t)box[0][1]; y < (int64_t)box[0][3]; y++) {
        for (int64_t x = (int64_t)box[0][0]; x < (int64_t)box[0][2]; x++) {
            memset(source.pixels + (y * 120 + x) * 3, 255, 3);
        }
    }
    struct image_plan plan = plan_of(transform, sample, 120, 90);
    if (image_plan_apply(&plan, image_as_view(&source), workspace, out)) {
        fail_msg("%s", status_message());
    }
    assert_int_equal(out->width, image_plan_width(&plan));
    assert_int_equal(out->height, image_plan_height(&plan));
    bool gone = false;
    int64_t left = image_plan_boxes(&plan, 1, box, &gone);
    assert_int_equal(left, !gone);
    int64_t seen[4];
    bool visible = bright_box(out, seen);
    if (gone) {
        assert_false(visible);
    } else if (box[0][2] - box[0][0] > 3 && box[0][3] - box[0][1] > 3) {
        assert_true(visible);
        for (int i = 0; i < 4; i++) {
            float tolerance = 2.0f; /* bicubic edges, and a threshold above the middle */
            if (fabsf((float)seen[i] - box[0][i]) > tolerance) {
                struct strbuf text = {0};
                image_plan_print(&plan, &text);
                fail_msg("%s: edge %d seen at %lld, box says %g", text.text, i, (long long)seen[i],
                         (double)box[0][i]);
            }
        }
    }
    image_fini(&source);
}

static void test_boxes_follow_pixels(void **state)
{
    (void)state;
    struct image_workspace workspace = {0};
    struct image out = {0};
    for (int n = 0; image_transform_name(n); n++) {
        struct image_transform transform = find(image_transform_name(n), 80);
        bool random = image_transform_is_random(&transform);
        for (int s = 0; s < transform.num_steps; s++) {
            struct image_step *step = &transform.steps[s];
            /* Small pictures for speed, and no operation that changes what counts as bright. */
            for (int i = 0; i < step->num_sides; i++) {
                if (step->sides[i] > 80) step->sides[i] = 60 + 17 * i;
            }
            if (step->kind == IMAGE_STEP_RANDAUGMENT) step->probability = 1;
        }
        for (uint64_t sample = 0; sample < (random ? 60 : 4); sample++) {
            struct image_plan plan = plan_of(&transform, sample, 120, 90);
            double m[6];
            bool slanted = false;
            for (int i = 0; i < plan.num_ops; i++) {
                slanted |= image_op_affine(plan.ops[i].op, plan.ops[i].argument, 80, 80, m);
                slanted |= plan.ops[i].op == IMAGE_OP_BRIGHTNESS;
                slanted |= plan.ops[i].op == IMAGE_OP_EQUALIZE;
            }
            /* Sheared boxes clipped by the border have corners outside: tested alone below. */
            if (!slanted) check_box(&transform, sample, &workspace, &out);
        }
    }
    image_fini(&out);
    image_workspace_fini(&workspace);
}

static void test_boxes_follow_geometry(void **state)
{
    (void)state;
    struct image source = {0};
    struct image out = {0};
    assert_int_equal(image_reserve(&source, 100, 100), STATUS_OK);
    memset(source.pixels, 0, 100 * 100 * 3);
    for (int y = 40; y < 62; y++) {
        memset(source.pixels + (y * 100 + 45) * 3, 255, 15 * 3);
    }
    for (int op = IMAGE_OP_SHEAR_X; op < IMAGE_OP_COUNT; op++) {
        for (int negative = 0; negative < 2; negative++) {
            struct image_plan plan = {.source_width = 100, .source_height = 100};
            memcpy(plan.crop, (int64_t[4]){0, 0, 100, 100}, sizeof plan.crop);
            plan.resize.width = plan.resize.height = 100;
            plan.num_ops = 1;
            plan.ops[0].op = (enum image_op)op;
            plan.ops[0].argument = image_op_argument((enum image_op)op, 7, negative);
            struct image_workspace workspace = {0};
            assert_int_equal(image_plan_apply(&plan, image_as_view(&source), &workspace, &out),
                             STATUS_OK);
            float box[1][4] = {{45, 40, 60, 62}};
            assert_int_equal(image_plan_boxes(&plan, 1, box, NULL), 1);
            int64_t seen[4];
            assert_true(bright_box(&out, seen));
            for (int i = 0; i < 4; i++) {
                assert_true(fabsf((float)seen[i] - box[0][i]) <= 2);
            }
            image_workspace_fini(&workspace);
        }
    }
    image_fini(&source);
    image_fini(&out);
}

static void test_box_arithmetic(void **state)
{
    (void)state;
    struct image_plan plan = {.source_width = 100, .source_height = 80};
    memcpy(plan.crop, (int64_t[4]){10, 20, 50, 40}, sizeof plan.crop);
    plan.resize.width = 100;
    plan.resize.height = 40;
    plan.resize.mirror = true;
    float boxes[6][4] = {
        {20, 30, 30, 40}, /* inside */
        {0, 0, 100, 80},  /* all around: clipped to the crop */
        {70, 30, 90, 40}, /* right of the crop */
        {60, 30, 90, 40}, /* touching it, half-open: nothing left */
        {30, 30, 30, 40}, /* empty */
        {NAN, 30, 50, 40},
    };
    bool gone[6];
    assert_int_equal(image_plan_boxes(&plan, 6, boxes, gone), 2);
    static const float expected[6][4] = {{60, 10, 80, 20}, {0, 0, 100, 40}};
    static const bool expected_gone[6] = {false, false, true, true, true, true};
    assert_memory_equal(boxes, expected, sizeof boxes);
    assert_memory_equal(gone, expected_gone, sizeof gone);
}

/* ---- refusals ---- */

static void test_refusals(void **state)
{
    (void)state;
    struct image_transform transform;
    assert_int_equal(image_transform_find("albef_randug", 384, &transform), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "did you mean albef_randaug"));
    assert_non_null(strstr(status_message(), "fine_test"));
    assert_int_equal(image_transform_find("albef", 0, &transform), STATUS_INVALID);

    struct image_plan plan;
    struct image_key key = {0};
    transform = find("albef_crop", 64);
    assert_int_equal(image_plan_init(&transform, key, 0, 5, &plan), STATUS_INVALID);
    transform.steps[0].scale[1] = 1.5;
    assert_int_equal(image_plan_init(&transform, key, 9, 9, &plan), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "scale 0.5 to 1.5"));
    transform = find("albef_crop", 64);
    transform.steps[0] = transform.steps[1];
    assert_int_equal(image_plan_init(&transform, key, 9, 9, &plan), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "the first step must resize"));
    transform = find("clip", 64);
    transform.steps[1].size = 65;
    assert_int_equal(image_plan_init(&transform, key, 90, 90, &plan), STATUS_INVALID);
    transform = find("fine_test", 0);
    transform.steps[0].max_long = 0;
    assert_int_equal(image_plan_init(&transform, key, 100000, 1, &plan), STATUS_INVALID);

    transform = find("albef", 8);
    plan = plan_of(&transform, 0, 10, 10);
    uint8_t pixels[9 * 10 * 3] = {0};
    struct image_view view = {pixels, 9, 10, 27};
    struct image_workspace workspace = {0};
    struct image out = {0};
    assert_int_equal(image_plan_apply(&plan, view, &workspace, &out), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "plan for 10 x 10 pixels applied to 9 x 10"));
    image_workspace_fini(&workspace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed_sizes),
        cmocka_unit_test(test_fine_sides),
        cmocka_unit_test(test_random_crop),
        cmocka_unit_test(test_crop_fallback),
        cmocka_unit_test(test_randaugment),
        cmocka_unit_test(test_plans_are_functions_of_the_key),
        cmocka_unit_test(test_boxes_follow_pixels),
        cmocka_unit_test(test_boxes_follow_geometry),
        cmocka_unit_test(test_box_arithmetic),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
