/*
 * Scenes: what is true of a layout.
 *
 * Everything said about a scene is first a proposition, a small struct, and then words.
 * Propositions are judged with three values: what a person could argue about ("is it left, or
 * rather below?", an object between the middle and the edge) is UNCLEAR and is never said, neither
 * as true nor as false. Connectives are Kleene's.
 */
#ifndef WEFT_DATA_SCENES_LOGIC_H
#define WEFT_DATA_SCENES_LOGIC_H

#include <stdbool.h>
#include <stdint.h>

#include "data/scenes/scene.h"

enum truth { TRUTH_NO, TRUTH_UNCLEAR, TRUTH_YES };

/* Cells of the 3 x 3 grid, row by row. */
enum scene_region {
    REGION_TOP_LEFT,
    REGION_TOP,
    REGION_TOP_RIGHT,
    REGION_LEFT,
    REGION_MIDDLE,
    REGION_RIGHT,
    REGION_BOTTOM_LEFT,
    REGION_BOTTOM,
    REGION_BOTTOM_RIGHT,
    REGION_COUNT
};

enum scene_relation {
    RELATION_LEFT,
    RELATION_RIGHT,
    RELATION_ABOVE,
    RELATION_BELOW,
    RELATION_ABOVE_LEFT,
    RELATION_ABOVE_RIGHT,
    RELATION_BELOW_LEFT,
    RELATION_BELOW_RIGHT,
    RELATION_COUNT
};

enum { ANY = -1 };

/* Which objects are meant; ANY leaves a property open. */
struct description {
    int8_t size;   /* enum scene_size */
    int8_t colour; /* enum scene_colour */
    int8_t shape;  /* enum scene_shape */
    int8_t region; /* enum scene_region */
};

static const struct description DESCRIPTION_ANY = {ANY, ANY, ANY, ANY};

enum proposition_kind {
    PROP_EXISTS,     /* there is an `a` */
    PROP_COUNT,      /* there are exactly `count` `a` */
    PROP_RELATION,   /* an `a` stands in `relation` to a `b` */
    PROP_MORE,       /* there are more `a` than `b` */
    PROP_SAME,       /* there are as many `a` as `b` */
    PROP_ALL,        /* every `a` is `b`, and there are at least two `a` */
    PROP_BACKGROUND, /* the background's tone and texture; ANY leaves one open */
    PROP_NUM_KINDS
};

struct proposition {
    enum proposition_kind kind;
    struct description a, b;
    int count;
    enum scene_relation relation;
    int tone, texture;
};

/* Whether object `object` fits the description. */
enum truth scene_matches(const struct scene *scene, int object,
                         const struct description *description);

/* Whether object a stands in `relation` to object b. */
enum truth scene_related(const struct scene *scene, int a, enum scene_relation relation, int b);

enum truth scene_judge(const struct scene *scene, const struct proposition *proposition);

/*
 * The objects that fit, as a bit mask. False when one is unclear, in which case nothing should be
 * said with this description.
 */
bool scene_select(const struct scene *scene, const struct description *description,
                  unsigned *objects);

/* The region whose description fits the object clearly, ANY when none does. */
int scene_region_of(const struct scene *scene, int object);

int scene_mask_count(unsigned objects);

#endif
