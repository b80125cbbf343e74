/* The eight EXIF orientations: transposition, then mirroring of either axis. */
#include <string.h>

#include "data/image/decode_impl.h"

enum status orient_image(const struct image *from, int orientation, struct image *to)
{
    /* What the stored picture must undergo, in this order, to stand upright (EXIF 2.3, tag 0x0112;
     * the same as Pillow's exif_transpose). */
    static const struct {
        bool transpose;
        bool mirror_x;
        bool mirror_y;
    } rows[9] = {
        [2] = {false, true, false}, [3] = {false, true, true}, [4] = {false, false, true},
        [5] = {true, false, false}, [6] = {true, true, false}, [7] = {true, true, true},
        [8] = {true, false, true},
    };
    CHECK(orientation >= 1 && orientation <= 8, STATUS_INTERNAL, "orientation %d", orientation);
    bool transpose = rows[orientation].transpose;
    int64_t width = transpose ? from->height : from->width;
    int64_t height = transpose ? from->width : from->height;
    TRY(image_reserve(to, width, height));
    int64_t step = (transpose ? from->width : 1) * IMAGE_CHANNELS; /* in `from`, for x + 1 */
    int64_t turn = (transpose ? 1 : from->width) * IMAGE_CHANNELS; /* in `from`, for y + 1 */
    for (int64_t y = 0; y < height; y++) {
        int64_t source_y = rows[orientation].mirror_y ? height - 1 - y : y;
        const uint8_t *source = from->pixels + source_y * turn;
        int64_t stride = step;
        if (rows[orientation].mirror_x) {
            source += (width - 1) * step;
            stride = -step;
        }
        uint8_t *target = to->pixels + y * width * IMAGE_CHANNELS;
        for (int64_t x = 0; x < width; x++, source += stride, target += IMAGE_CHANNELS) {
            memcpy(target, source, IMAGE_CHANNELS);
        }
    }
    return STATUS_OK;
}
