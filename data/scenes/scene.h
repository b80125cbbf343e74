/*
 * Scenes: generated pictures of coloured shapes, the layout.
 *
 * A scene is a pure function of (seed, index, difficulty): scene 7,000,000 is made without the ones
 * before it, on any machine, and at any picture size. Geometry is integer, in units of 1 /
 * SCENE_UNIT of the picture's side, so that everything said about a scene (captions, truth values,
 * answers) is the same whatever it is rendered at. Rendering: render.h. Sentences: language.h.
 */
#ifndef WEFT_DATA_SCENES_SCENE_H
#define WEFT_DATA_SCENES_SCENE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/rng.h"
#include "runtime/base/status.h"

enum {
    SCENE_UNIT = 4096,          /* the picture's side */
    SCENE_MAX_OBJECTS = 8,      /* objects are numbered 0..7 from back to front */
    SCENE_NUM_DIFFICULTIES = 4, /* 1..4 */
    SCENE_SIDE_MIN = 64,        /* pictures are square; pixels a side */
    SCENE_SIDE_MAX = 512
};

enum scene_shape {
    SHAPE_CIRCLE,
    SHAPE_SQUARE,
    SHAPE_TRIANGLE,
    SHAPE_STAR,
    SHAPE_CROSS,
    SHAPE_RING,
    SHAPE_DIAMOND,
    SHAPE_HEXAGON,
    SHAPE_HEART,
    SHAPE_CRESCENT,
    SHAPE_COUNT
};

enum scene_colour {
    COLOUR_RED,
    COLOUR_ORANGE,
    COLOUR_YELLOW,
    COLOUR_GREEN,
    COLOUR_CYAN,
    COLOUR_BLUE,
    COLOUR_PURPLE,
    COLOUR_PINK,
    COLOUR_BROWN,
    COLOUR_BLACK,
    COLOUR_WHITE,
    COLOUR_GREY,
    COLOUR_COUNT
};

enum scene_size { SIZE_SMALL, SIZE_MEDIUM, SIZE_LARGE, SIZE_COUNT };

enum scene_tone {
    TONE_WHITE,
    TONE_GREY,
    TONE_BEIGE,
    TONE_LIGHT_BLUE,
    TONE_LIGHT_GREEN,
    TONE_LIGHT_PINK,
    TONE_LAVENDER,
    TONE_NAVY,
    TONE_BLACK,
    TONE_DARK_GREEN,
    TONE_COUNT
};

enum scene_texture {
    TEXTURE_PLAIN,
    TEXTURE_STRIPED,
    TEXTURE_DOTTED,
    TEXTURE_CHECKED,
    TEXTURE_COUNT
};

struct scene_object {
    uint8_t shape;  /* enum scene_shape */
    uint8_t colour; /* enum scene_colour */
    uint8_t size;   /* enum scene_size */
    int8_t turn;    /* rotation in degrees, small */
    int8_t shade;   /* lightness offset, small */
    int32_t x, y;   /* centre */
    int32_t radius; /* of the circle that the shape fits into */
};

struct scene {
    uint64_t seed;
    uint64_t index;
    int difficulty; /* 1..4 */
    int num_objects;
    struct scene_object object[SCENE_MAX_OBJECTS]; /* from back to front */
    uint8_t tone;                                  /* enum scene_tone, of the background */
    uint8_t texture;                               /* enum scene_texture */
    uint8_t texture_variant;                       /* direction and pitch of the texture */
};

/*
 * Lays out scene `index` of `seed`.
 *
 *   difficulty 1  one object; colour, shape, size and place tell scenes apart
 *   difficulty 2  two objects and how they stand to each other
 *   difficulty 3  3 to 5 objects, with repeated shapes and colours to count
 *   difficulty 4  4 to 8 objects, some overlapping by at most about a third
 *
 * Objects lie inside the picture, differ clearly in size class, and contrast with the background.
 * Errors: STATUS_INVALID for a difficulty outside 1..4.
 */
enum status scene_generate(uint64_t seed, uint64_t index, int difficulty, struct scene *scene);

/*
 * Numbers for one purpose of one scene, drawn one after the other. `stream` tells purposes apart
 * (the layout, caption 0, caption 1, ...), so that drawing more for one leaves the others alone.
 */
struct scene_rng {
    struct rng_key key;
    uint64_t index;
    uint64_t stream;
    uint32_t used;
    struct rng_block block;
};

enum { SCENE_STREAM_LAYOUT = 0 };

struct scene_rng scene_rng_init(const struct scene *scene, uint64_t stream);

/* An integer in [0, bound). */
int scene_rng_below(struct scene_rng *rng, int bound);

/* True with probability percent / 100. */
bool scene_rng_chance(struct scene_rng *rng, int percent);

#endif
