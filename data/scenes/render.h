/*
 * Scenes: pixels and visible boxes of a layout.
 */
#ifndef WEFT_DATA_SCENES_RENDER_H
#define WEFT_DATA_SCENES_RENDER_H

#include <stdint.h>

#include "data/scenes/scene.h"

/* Pixels, half-open: columns [x0, x1), rows [y0, y1). Empty (all 0) when nothing is visible. */
struct scene_box {
    int32_t x0, y0, x1, y1;
};

/*
 * Paints `scene` antialiased into `rgb` [side, side, 3], 8 bits a channel, and gives the box of
 * what is visible of each object in `boxes` [scene->num_objects]: the least rectangle that holds
 * every pixel of which the object covers at least an eighth after what lies in front of it. Errors:
 * STATUS_INVALID for a side outside SCENE_SIDE_MIN..SCENE_SIDE_MAX.
 */
enum status scene_render(const struct scene *scene, int side, uint8_t *rgb,
                         struct scene_box *boxes);

#endif
