#include "data/store/prepare.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "data/image/flatten.h"
#include "data/store/clean.h"

void prepare_scratch_fini(struct prepare_scratch *scratch)
{
    image_fini(&scratch->pixels);
    image_fini(&scratch->smaller);
    image_scratch_fini(&scratch->resize);
    strbuf_fini(&scratch->encoded);
}

static void scale_boxes(struct sample *sample, int32_t image, double x, double y)
{
    for (int32_t i = 0; i < sample->num_boxes; i++) {
        if (sample->boxes[i].image != image) continue;
        float *box = sample->boxes[i].xyxy;
        for (int j = 0; j < 4; j++) {
            box[j] = (float)((double)box[j] * (j % 2 ? y : x));
        }
    }
}

/* Puts `pixels` in the place of the picture. Photographs stay JPEG; what came lossless stays
 * lossless. */
static enum status replace(const struct pack_options *options, struct sample *sample, int32_t index,
                           enum image_format format, const struct image *pixels,
                           struct strbuf *encoded)
{
    enum { PNG_LEVEL = 6 };
    struct sample_image *image = &sample->images[index];
    struct image_view view = image_as_view(pixels);
    strbuf_clear(encoded);
    TRY(format == IMAGE_PNG ? image_encode_png(view, PNG_LEVEL, encoded)
                            : image_encode_jpeg(view, options->quality, encoded));
    uint8_t *bytes = sample_alloc(sample, (int64_t)encoded->length);
    CHECK(bytes, STATUS_NO_MEMORY, "out of memory for %zu bytes", encoded->length);
    memcpy(bytes, encoded->text, encoded->length);
    image->bytes = bytes;
    image->size = (int64_t)encoded->length;
    image->width = (int32_t)pixels->width;
    image->height = (int32_t)pixels->height;
    return STATUS_OK;
}

static enum status shrink(const struct pack_options *options, struct sample *sample, int32_t index,
                          enum image_format format, struct prepare_scratch *scratch)
{
    struct sample_image *image = &sample->images[index];
    int64_t side = image->width > image->height ? image->width : image->height;
    int64_t width = (image->width * options->max_side + side / 2) / side;
    int64_t height = (image->height * options->max_side + side / 2) / side;
    struct image_resize how = {
        .filter = IMAGE_BICUBIC, .width = width > 0 ? width : 1, .height = height > 0 ? height : 1};
    TRY(image_resize(image_as_view(&scratch->pixels), &how, &scratch->resize, &scratch->smaller));
    scale_boxes(sample, index, (double)how.width / image->width,
                (double)how.height / image->height);
    return replace(options, sample, index, format, &scratch->smaller, &scratch->encoded);
}

static enum status prove_image(const struct pack_options *options, struct sample *sample,
                               int32_t index, struct prepare_scratch *scratch)
{
    struct sample_image *image = &sample->images[index];
    struct image_info info;
    CHECK(image->size > 0, STATUS_INVALID, "the picture has no bytes");
    TRY(image_probe(image->bytes, (size_t)image->size, &info));
    TRY(image_decode(image->bytes, (size_t)image->size, NULL, &scratch->pixels));
    CHECK((image->width == 0 || image->width == info.width) &&
              (image->height == 0 || image->height == info.height),
          STATUS_INVALID, "the picture has %lld x %lld pixels and the annotations say %d x %d",
          (long long)info.width, (long long)info.height, image->width, image->height);
    image->width = (int32_t)info.width;
    image->height = (int32_t)info.height;
    bool large = image->width > options->max_side || image->height > options->max_side;
    bool flat = options->flatten && image_has_alpha(image->bytes, (size_t)image->size);
    if (flat) {
        TRY(image_flatten(image->bytes, (size_t)image->size, options->background,
                          &scratch->pixels));
        info.format = IMAGE_PNG;
    }
    if (options->max_side && large) return shrink(options, sample, index, info.format, scratch);
    if (!flat) return STATUS_OK;
    return replace(options, sample, index, IMAGE_PNG, &scratch->pixels, &scratch->encoded);
}

enum status prepare_item(const struct pack_options *options, const struct import_source *source,
                         int64_t item, struct prepare_scratch *scratch, struct sample *sample,
                         uint64_t **hashes)
{
    TRY(options->importer->fetch(source, item, sample));
    for (int32_t i = 0; i < sample->num_images; i++) {
        enum status status = prove_image(options, sample, i, scratch);
        if (status != STATUS_OK) {
            const char *key = sample->images[i].key;
            return status_prefix(status, "%s", key ? key : "picture");
        }
    }
    TRY(sample_clean(sample, source->num_categories));
    *hashes = sample_alloc(sample, sample->num_images * (int64_t)sizeof **hashes);
    CHECK(*hashes, STATUS_NO_MEMORY, "out of memory");
    for (int32_t i = 0; i < sample->num_images; i++) {
        (*hashes)[i] = XXH64(sample->images[i].bytes, (size_t)sample->images[i].size, 0);
    }
    return STATUS_OK;
}
