/* Any bytes as a picture: an error or an image, which then goes through a transform.
 * runs=400000
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "data/image/transform.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Options vary with the length, so that corpus files stay pictures as they are. */
    struct image_decode_options options = {
        .max_pixels = 1 << 18,
        .apply_orientation = true,
        .half_size = size & 1,
        .allow_extraneous = size & 2,
    };
    struct image_info info;
    struct image image = {0};
    enum status probed = image_probe(data, size, &info);
    enum status status = image_decode(data, size, &options, &image);
    if (probed != STATUS_OK && status == STATUS_OK) abort();
    if (status == STATUS_OK) {
        struct image_transform transform;
        struct image_plan plan;
        struct image_workspace workspace = {0};
        struct image out = {0};
        struct image_key key = {.sample = size};
        float boxes[1][4] = {{0, 0, 1, 1}};
        if (image_transform_find("albef_randaug", 16, &transform) ||
            image_plan_init(&transform, key, image.width, image.height, &plan) ||
            image_plan_apply(&plan, image_as_view(&image), &workspace, &out)) {
            abort();
        }
        image_plan_boxes(&plan, 1, boxes, NULL);
        image_fini(&out);
        image_workspace_fini(&workspace);
    }
    image_fini(&image);
    return 0;
}
