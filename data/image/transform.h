/*
 * Transforms: from a decoded picture to what the model sees, boxes included.
 *
 * A transform is data: a short list of steps (struct image_step), found by name or composed by the
 * caller. For one picture it is turned into a plan, a struct of numbers that holds every random
 * choice. The plan is a pure function of (transform, seed, epoch, sample, site, picture size), so
 * one picture of a batch can be made again alone, and it is printable. Then the plan is applied to
 * pixels and to boxes.
 *
 *   name            steps                                                        used for
 *   albef           resize to S x S, bicubic                                     coarse, test
 *   albef_crop      random resized crop to S x S, flip                           coarse
 *   albef_randaug   the same, then RandomAugment(2, 7)                           fine-tuning
 *   clip            shorter side to S, bicubic, central S x S                    METER
 *   fine            shorter side from 480..800, longer at most 1333, bilinear, flip
 *   fine_keep       the same without flip (referring expressions: left stays left)
 *   fine_test       shorter side 800, longer at most 1333, bilinear
 *
 * Random resized crop: torchvision's, area 0.5 to 1, ratio 3/4 to 4/3 (log-uniform), ten tries,
 * then the largest central crop within the ratios; the crop is cut out first, so the filter sees
 * nothing around it. RandomAugment(n, m): n operations drawn with replacement from the ten of
 * augment.h, each applied with probability 0.5 at level m of 10, signs +- with probability 0.5.
 *
 * Draws: key (seed, RNG_AUGMENT, site), block 64 * step + t of (epoch, sample), where `step` is the
 * position in the transform and t the try or the operation; so no draw depends on how many were
 * made before it. Thread-safe; not collective.
 */
#ifndef WEFT_DATA_IMAGE_TRANSFORM_H
#define WEFT_DATA_IMAGE_TRANSFORM_H

#include "data/image/augment.h"
#include "data/image/resize.h"

enum { IMAGE_MAX_STEPS = 4, IMAGE_MAX_SIDES = 16, IMAGE_MAX_OPS = 8 };

enum image_step_kind {
    IMAGE_STEP_RESIZE,      /* to size x size, the aspect ratio not kept */
    IMAGE_STEP_RANDOM_CROP, /* random resized crop to size x size */
    IMAGE_STEP_SHORT_SIDE,  /* shorter side to one of sides[], longer at most max_long */
    IMAGE_STEP_CENTRE_CROP, /* the central size x size of what there is */
    IMAGE_STEP_FLIP,        /* mirror left-right */
    IMAGE_STEP_RANDAUGMENT  /* num_ops operations at `level` */
};

/* One step; fields that its kind does not name are not read. */
struct image_step {
    enum image_step_kind kind;
    enum image_filter filter; /* RESIZE, RANDOM_CROP, SHORT_SIDE */
    int64_t size;             /* RESIZE, RANDOM_CROP, CENTRE_CROP: pixels a side */
    double scale[2];          /* RANDOM_CROP: least and greatest share of the area */
    double ratio[2];          /* RANDOM_CROP: least and greatest width / height */
    int num_sides;            /* SHORT_SIDE: one of these, drawn uniformly when several */
    int64_t sides[IMAGE_MAX_SIDES];
    int64_t max_long;  /* SHORT_SIDE: 0 is no limit */
    float probability; /* FLIP: of mirroring; RANDAUGMENT: of applying each operation */
    int num_ops;       /* RANDAUGMENT: up to IMAGE_MAX_OPS */
    float level;       /* RANDAUGMENT: 0 to 10 */
};

/* Exactly one step that resizes, first; then CENTRE_CROP, FLIP, RANDAUGMENT as wanted. */
struct image_transform {
    int num_steps;
    struct image_step steps[IMAGE_MAX_STEPS];
};

/*
 * Looks up a transform by name. `size` is S for those that have one, and not read for others.
 * Errors: STATUS_INVALID (unknown name, with the nearest; a size out of range).
 */
enum status image_transform_find(const char *name, int64_t size, struct image_transform *transform);

/* The name of recipe `index`, in the order of the table above; NULL past the last. */
const char *image_transform_name(int index);

/* Whether a plan depends on the key, that is, on anything but the picture's size. */
bool image_transform_is_random(const struct image_transform *transform);

/* What a random draw is for. */
struct image_key {
    uint64_t seed;   /* of the run */
    uint64_t site;   /* tells pictures of one sample apart; 0 where there is one */
    uint64_t epoch;  /* below 2^32 */
    uint64_t sample; /* global index */
};

/* Everything that will happen to one picture. */
struct image_plan {
    int64_t source_width; /* of the decoded picture */
    int64_t source_height;
    int64_t crop[4];            /* x, y, width, height cut out of the source first */
    struct image_resize resize; /* of the crop; box is unused, window and mirror are */
    int num_ops;                /* operations that are applied, in order */
    struct {
        enum image_op op;
        float argument;
    } ops[IMAGE_MAX_OPS];
};

/*
 * Draws the plan for a picture of width x height. Errors: STATUS_INVALID (a transform that does
 * not make sense, a picture without pixels or beyond IMAGE_MAX_SIDE before or after).
 */
enum status image_plan_init(const struct image_transform *transform, struct image_key key,
                            int64_t width, int64_t height, struct image_plan *plan);

/* Size of what the plan gives. */
int64_t image_plan_width(const struct image_plan *plan);
int64_t image_plan_height(const struct image_plan *plan);

/* Appends one line about the plan: "640x480 crop 12,30 500x400 -> 384x384 bicubic mirrored ...". */
void image_plan_print(const struct image_plan *plan, struct strbuf *out);

/* Memory that calls of one thread reuse. Zero-initialise; freed by image_workspace_fini. */
struct image_workspace {
    struct image_scratch scratch;
    struct image spare[2];
};

void image_workspace_fini(struct image_workspace *workspace);

/*
 * Applies the plan to `source`, whose size must be the plan's. `out` may be borrowed. Errors:
 * STATUS_INVALID (another size, a borrowed buffer that is too small), STATUS_NO_MEMORY.
 */
enum status image_plan_apply(const struct image_plan *plan, struct image_view source,
                             struct image_workspace *workspace, struct image *out);

/*
 * Moves boxes [count, 4] (x0, y0, x1, y1 in source pixels, half-open) to where the plan puts them,
 * in place, clipped to the picture; what sheared or rotated becomes the upright box around it.
 * gone[i] is set to whether nothing is left of box i (or it was empty or not a number), which is
 * then all zero. Returns the number of boxes left. `gone` may be NULL.
 */
int64_t image_plan_boxes(const struct image_plan *plan, int64_t count, float (*boxes)[4],
                         bool *gone);

#endif
