/* Scenes: layouts are functions of (seed, index, difficulty) and keep their promises; pixels and
 * visible boxes agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/scenes/render.h"
#include "data/scenes/scene.h"
#include "data/scenes/words.h"

enum { NUM_SCENES = 400 };

static struct scene make(uint64_t index, int difficulty)
{
    struct scene scene;
    assert_int_equal(scene_generate(11, index, difficulty, &scene), STATUS_OK);
    return scene;
}

static void test_each_scene_stands_alone(void **state)
{
    (void)state;
    struct scene first = make(123456789012, 4);
    for (uint64_t i = 0; i < 50; i++) {
        make(i, 4);
    }
    struct scene again = make(123456789012, 4);
    assert_memory_equal(&first, &again, sizeof first);
    struct scene other;
    assert_int_equal(scene_generate(12, 123456789012, 4, &other), STATUS_OK);
    assert_memory_not_equal(first.object, other.object, sizeof first.object);
    other = make(123456789012, 3);
    assert_memory_not_equal(first.object, other.object, sizeof first.object);
}

static void check_object(const struct scene *scene, int i, int *touches)
{
    const struct scene_object *o = &scene->object[i];
    assert_in_range(o->x - o->radius, 0, SCENE_UNIT);
    assert_in_range(o->x + o->radius, 0, SCENE_UNIT);
    assert_in_range(o->y - o->radius, 0, SCENE_UNIT);
    assert_in_range(o->y + o->radius, 0, SCENE_UNIT);
    assert_true(scene_contrast((enum scene_colour)o->colour, (enum scene_tone)scene->tone));
    for (int j = 0; j < i; j++) {
        const struct scene_object *p = &scene->object[j];
        int64_t dx = o->x - p->x;
        int64_t dy = o->y - p->y;
        int64_t sum = o->radius + p->radius;
        if (dx * dx + dy * dy >= sum * sum) continue;
        assert_int_equal(scene->difficulty, 4);
        assert_true(100 * (dx * dx + dy * dy) >= 64 * sum * sum);
        touches[i]++;
        touches[j]++;
    }
}

static void test_layouts_keep_their_promises(void **state)
{
    (void)state;
    static const int least[] = {0, 1, 2, 3, 4};
    static const int most[] = {0, 1, 2, 5, 8};
    for (int difficulty = 1; difficulty <= 4; difficulty++) {
        int seen[SCENE_MAX_OBJECTS + 1] = {0};
        for (uint64_t index = 0; index < NUM_SCENES; index++) {
            struct scene scene = make(index, difficulty);
            assert_in_range(scene.num_objects, least[difficulty], most[difficulty]);
            seen[scene.num_objects]++;
            int touches[SCENE_MAX_OBJECTS] = {0};
            for (int i = 0; i < scene.num_objects; i++) {
                check_object(&scene, i, touches);
            }
            for (int i = 0; i < scene.num_objects; i++) {
                assert_in_range(touches[i], 0, 1);
            }
        }
        for (int n = least[difficulty]; n <= most[difficulty]; n++) {
            assert_true(seen[n] > NUM_SCENES / 20);
        }
    }
}

static void test_every_value_occurs(void **state)
{
    (void)state;
    int shape[SHAPE_COUNT] = {0};
    int colour[COLOUR_COUNT] = {0};
    int size[SIZE_COUNT] = {0};
    int tone[TONE_COUNT] = {0};
    for (uint64_t index = 0; index < 2000; index++) {
        struct scene scene = make(index, 1);
        shape[scene.object[0].shape]++;
        colour[scene.object[0].colour]++;
        size[scene.object[0].size]++;
        tone[scene.tone]++;
    }
    for (int i = 0; i < SHAPE_COUNT; i++) {
        assert_true(shape[i] > 120);
    }
    for (int i = 0; i < COLOUR_COUNT; i++) {
        assert_true(colour[i] > 35); /* white shows on the dark tones and on grey only */
    }
    for (int i = 0; i < SIZE_COUNT; i++) {
        assert_true(size[i] > 550);
    }
    for (int i = 0; i < TONE_COUNT; i++) {
        assert_true(tone[i] > 130);
        int colours = 0;
        for (int c = 0; c < COLOUR_COUNT; c++) {
            colours += scene_contrast((enum scene_colour)c, (enum scene_tone)i);
        }
        assert_true(colours >= 8);
    }
}

static int difference(const uint8_t *a, const uint8_t *b)
{
    int most = 0;
    for (int c = 0; c < 3; c++) {
        most = abs(a[c] - b[c]) > most ? abs(a[c] - b[c]) : most;
    }
    return most;
}

/* The background alone, for comparison. */
static void render_empty(struct scene scene, int side, uint8_t *rgb)
{
    struct scene_box none[1];
    scene.num_objects = 0;
    assert_int_equal(scene_render(&scene, side, rgb, none), STATUS_OK);
}

static bool inside(const struct scene_box *box, int x, int y)
{
    return x >= box->x0 && x < box->x1 && y >= box->y0 && y < box->y1;
}

static void check_boxes(const struct scene *scene, int side)
{
    uint8_t *rgb = malloc((size_t)side * (size_t)side * 3);
    uint8_t *empty = malloc((size_t)side * (size_t)side * 3);
    struct scene_box boxes[SCENE_MAX_OBJECTS];
    assert_int_equal(scene_render(scene, side, rgb, boxes), STATUS_OK);
    render_empty(*scene, side, empty);
    int edges[SCENE_MAX_OBJECTS] = {0}; /* bit per side of the box that has a painted pixel */
    for (int y = 0; y < side; y++) {
        for (int x = 0; x < side; x++) {
            int64_t at = 3 * ((int64_t)y * side + x);
            int change = difference(rgb + at, empty + at);
            bool covered = false;
            for (int i = 0; i < scene->num_objects; i++) {
                const struct scene_box *box = &boxes[i];
                if (!inside(box, x, y)) continue;
                covered = true;
                if (change == 0) continue;
                edges[i] |= (x == box->x0) | (x == box->x1 - 1) << 1 | (y == box->y0) << 2 |
                            (y == box->y1 - 1) << 3;
            }
            /* Outside all boxes at most an eighth of a pixel, of two objects at the worst. */
            if (!covered) assert_in_range(change, 0, 64);
        }
    }
    for (int i = 0; i < scene->num_objects; i++) {
        assert_int_equal(edges[i], 15);
        int width = boxes[i].x1 - boxes[i].x0;
        int full = 2 * scene->object[i].radius * side / SCENE_UNIT;
        assert_in_range(width, full / 4, full + 2); /* nothing vanishes, even under another */
    }
    free(rgb);
    free(empty);
}

static void test_boxes_hold_what_is_visible(void **state)
{
    (void)state;
    for (int difficulty = 1; difficulty <= 4; difficulty++) {
        for (uint64_t index = 0; index < 30; index++) {
            struct scene scene = make(index, difficulty);
            check_boxes(&scene, 64);
            check_boxes(&scene, 149);
        }
    }
}

static void test_sizes_agree(void **state)
{
    (void)state;
    static uint8_t rgb[SCENE_SIDE_MAX * SCENE_SIDE_MAX * 3];
    struct scene scene = make(5, 4);
    struct scene_box small[SCENE_MAX_OBJECTS];
    struct scene_box large[SCENE_MAX_OBJECTS];
    assert_int_equal(scene_render(&scene, 64, rgb, small), STATUS_OK);
    assert_int_equal(scene_render(&scene, 512, rgb, large), STATUS_OK);
    for (int i = 0; i < scene.num_objects; i++) {
        assert_true(abs(8 * small[i].x0 - large[i].x0) <= 16);
        assert_true(abs(8 * small[i].y1 - large[i].y1) <= 16);
    }
}

static void test_bad_arguments(void **state)
{
    (void)state;
    struct scene scene;
    struct scene_box boxes[SCENE_MAX_OBJECTS];
    uint8_t rgb[3];
    assert_int_equal(scene_generate(1, 1, 5, &scene), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "difficulty 5"));
    assert_int_equal(scene_generate(1, 1, 0, &scene), STATUS_INVALID);
    scene = make(1, 1);
    assert_int_equal(scene_render(&scene, 63, rgb, boxes), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "64 to 512"));
    assert_int_equal(scene_render(&scene, 513, rgb, boxes), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_scene_stands_alone),
        cmocka_unit_test(test_layouts_keep_their_promises),
        cmocka_unit_test(test_every_value_occurs),
        cmocka_unit_test(test_boxes_hold_what_is_visible),
        cmocka_unit_test(test_sizes_agree),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
