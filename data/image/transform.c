/*
 * Recipes, and the plan of one picture.
 *
 * Steps fold into the fields of one image_resize: the crop is a view, the flip reverses the order
 * in which the horizontal filter writes, the central crop is a window of the output. So whatever
 * the transform, pixels are touched once by the resizer and then once per picture operation.
 */
#include "data/image/transform.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/rng.h"

enum { BLOCKS_A_STEP = 64, CROP_TRIES = 10 };

/* ---- recipes ---- */

#define RANDOM_CROP                                                                                \
    {                                                                                              \
        .kind = IMAGE_STEP_RANDOM_CROP, .filter = IMAGE_BICUBIC, .scale = {0.5, 1.0}, .ratio = {   \
            3.0 / 4.0,                                                                             \
            4.0 / 3.0                                                                              \
        }                                                                                          \
    }
#define FLIP                                                                                       \
    {                                                                                              \
        .kind = IMAGE_STEP_FLIP, .probability = 0.5f                                               \
    }
#define FINE_SIDES                                                                                 \
    {                                                                                              \
        .kind = IMAGE_STEP_SHORT_SIDE, .filter = IMAGE_BILINEAR, .num_sides = 5,                   \
        .sides = {480, 560, 640, 720, 800}, .max_long = 1333                                       \
    }

static const struct {
    const char *name;
    struct image_transform transform;
} recipes[] = {
    {"albef", {1, {{.kind = IMAGE_STEP_RESIZE, .filter = IMAGE_BICUBIC}}}},
    {"albef_crop", {2, {RANDOM_CROP, FLIP}}},
    {"albef_randaug",
     {3,
      {RANDOM_CROP,
       FLIP,
       {.kind = IMAGE_STEP_RANDAUGMENT, .probability = 0.5f, .num_ops = 2, .level = 7}}}},
    {"clip",
     {2,
      {{.kind = IMAGE_STEP_SHORT_SIDE, .filter = IMAGE_BICUBIC, .num_sides = 1},
       {.kind = IMAGE_STEP_CENTRE_CROP}}}},
    {"fine", {2, {FINE_SIDES, FLIP}}},
    {"fine_keep", {1, {FINE_SIDES}}},
    {"fine_test",
     {1,
      {{.kind = IMAGE_STEP_SHORT_SIDE,
        .filter = IMAGE_BILINEAR,
        .num_sides = 1,
        .sides = {800},
        .max_long = 1333}}}},
};
enum { NUM_RECIPES = sizeof recipes / sizeof recipes[0] };

const char *image_transform_name(int index)
{
    return index >= 0 && index < NUM_RECIPES ? recipes[index].name : NULL;
}

static enum status check_side(int64_t side)
{
    CHECK(side >= 1 && side <= IMAGE_MAX_SIDE, STATUS_INVALID,
          "image transform: a size of %lld pixels is not 1 to %lld", (long long)side,
          (long long)IMAGE_MAX_SIDE);
    return STATUS_OK;
}

static enum status refuse_name(const char *name)
{
    const char *names[NUM_RECIPES];
    char list[256] = "";
    size_t used = 0;
    for (int i = 0; i < NUM_RECIPES; i++) {
        names[i] = recipes[i].name;
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
    }
    const char *nearest = string_nearest(name, names, NUM_RECIPES);
    return status_fail(STATUS_INVALID, "image transform '%s' is unknown%s%s; there are %s", name,
                       nearest ? ", did you mean " : "", nearest ? nearest : "", list);
}

enum status image_transform_find(const char *name, int64_t size, struct image_transform *transform)
{
    int index = 0;
    while (index < NUM_RECIPES && strcmp(recipes[index].name, name) != 0)
        index++;
    if (index == NUM_RECIPES) return refuse_name(name);
    *transform = recipes[index].transform;
    for (int i = 0; i < transform->num_steps; i++) {
        struct image_step *step = &transform->steps[i];
        switch (step->kind) {
        case IMAGE_STEP_RESIZE:
        case IMAGE_STEP_RANDOM_CROP:
        case IMAGE_STEP_CENTRE_CROP:
            TRY(check_side(size));
            step->size = size;
            break;
        case IMAGE_STEP_SHORT_SIDE:
            if (step->sides[0] == 0) step->sides[0] = size;
            break;
        case IMAGE_STEP_FLIP:
        case IMAGE_STEP_RANDAUGMENT:
            break;
        }
    }
    return STATUS_OK;
}

bool image_transform_is_random(const struct image_transform *transform)
{
    for (int i = 0; i < transform->num_steps; i++) {
        const struct image_step *step = &transform->steps[i];
        switch (step->kind) {
        case IMAGE_STEP_RESIZE:
        case IMAGE_STEP_CENTRE_CROP:
            break;
        case IMAGE_STEP_RANDOM_CROP:
        case IMAGE_STEP_RANDAUGMENT:
            return true;
        case IMAGE_STEP_SHORT_SIDE:
            if (step->num_sides > 1) return true;
            break;
        case IMAGE_STEP_FLIP:
            if (step->probability > 0 && step->probability < 1) return true;
            break;
        }
    }
    return false;
}

/* ---- the plan ---- */

struct planner {
    struct rng_key stream;
    struct image_key key;
    const struct image_step *step;
    int position; /* of the step in the transform */
    struct image_plan *plan;
};

static struct rng_block draw(const struct planner *planner, int item)
{
    return rng_at(planner->stream, planner->key.epoch, planner->key.sample,
                  (uint32_t)(planner->position * BLOCKS_A_STEP + item));
}

static double between(uint32_t word, const double range[2])
{
    return range[0] + (range[1] - range[0]) * (double)rng_uniform(word);
}

/* Python's round(): halves go to the even neighbour. */
static int64_t round_even(double value)
{
    return llrint(value);
}

static enum status plan_resize(struct planner *planner)
{
    TRY(check_side(planner->step->size));
    planner->plan->resize.width = planner->plan->resize.height = planner->step->size;
    planner->plan->resize.filter = planner->step->filter;
    return STATUS_OK;
}

/* torchvision.transforms.RandomResizedCrop.get_params. */
static void choose_crop(struct planner *planner)
{
    const struct image_step *step = planner->step;
    int64_t width = planner->plan->source_width;
    int64_t height = planner->plan->source_height;
    int64_t *crop = planner->plan->crop;
    double log_ratio[2] = {log(step->ratio[0]), log(step->ratio[1])};
    for (int i = 0; i < CROP_TRIES; i++) {
        struct rng_block block = draw(planner, i);
        double area = (double)width * (double)height * between(block.word[0], step->scale);
        double ratio = exp(between(block.word[1], log_ratio));
        int64_t w = round_even(sqrt(area * ratio));
        int64_t h = round_even(sqrt(area / ratio));
        if (w < 1 || w > width || h < 1 || h > height) continue;
        crop[0] = rng_below(block.word[2], (uint32_t)(width - w + 1));
        crop[1] = rng_below(block.word[3], (uint32_t)(height - h + 1));
        crop[2] = w;
        crop[3] = h;
        return;
    }
    double ratio = (double)width / (double)height;
    crop[2] = ratio > step->ratio[1] ? round_even((double)height * step->ratio[1]) : width;
    crop[3] = ratio < step->ratio[0] ? round_even((double)width / step->ratio[0]) : height;
    crop[0] = (width - crop[2]) / 2;
    crop[1] = (height - crop[3]) / 2;
}

static enum status plan_random_crop(struct planner *planner)
{
    const struct image_step *step = planner->step;
    CHECK(
        step->scale[0] > 0 && step->scale[0] <= step->scale[1] && step->scale[1] <= 1 &&
            step->ratio[0] > 0 && step->ratio[0] <= step->ratio[1] && isfinite(step->ratio[1]),
        STATUS_INVALID,
        "random crop: scale %g to %g must lie in (0, 1] and ratio %g to %g above 0, each in order",
        step->scale[0], step->scale[1], step->ratio[0], step->ratio[1]);
    TRY(plan_resize(planner));
    choose_crop(planner);
    return STATUS_OK;
}

/* The size rule of detection code: the shorter side as drawn, unless the longer would be above its
 * limit. */
static enum status plan_short_side(struct planner *planner)
{
    const struct image_step *step = planner->step;
    CHECK(step->num_sides >= 1 && step->num_sides <= IMAGE_MAX_SIDES, STATUS_INVALID,
          "image transform: %d short sides, must be 1 to %d", step->num_sides, IMAGE_MAX_SIDES);
    uint32_t choice = rng_below(draw(planner, 0).word[0], (uint32_t)step->num_sides);
    int64_t side = step->sides[choice];
    TRY(check_side(side));
    int64_t w = planner->plan->source_width;
    int64_t h = planner->plan->source_height;
    double shorter = (double)(w < h ? w : h);
    double longer = (double)(w < h ? h : w);
    if (step->max_long > 0 && longer / shorter * (double)side > (double)step->max_long) {
        side = round_even((double)step->max_long * shorter / longer);
        if (side < 1) side = 1; /* a strip thinner than a pixel; the reference fails here */
    }
    struct image_resize *resize = &planner->plan->resize;
    resize->filter = step->filter;
    resize->width = w < h ? side : side * w / h;
    resize->height = w < h ? side * h / w : side;
    TRY(check_side(resize->width));
    return check_side(resize->height);
}

static enum status plan_centre_crop(struct planner *planner)
{
    struct image_resize *resize = &planner->plan->resize;
    int64_t size = planner->step->size;
    CHECK(size >= 1 && size <= resize->width && size <= resize->height, STATUS_INVALID,
          "image transform: no central %lld x %lld in %lld x %lld pixels", (long long)size,
          (long long)size, (long long)resize->width, (long long)resize->height);
    /* torchvision's center_crop: int(round((height - size) / 2.0)). */
    int64_t x = round_even((double)(resize->width - size) / 2);
    int64_t y = round_even((double)(resize->height - size) / 2);
    memcpy(resize->window, (int64_t[4]){x, y, x + size, y + size}, sizeof resize->window);
    return STATUS_OK;
}

static enum status plan_flip(struct planner *planner)
{
    CHECK(planner->step->probability >= 0 && planner->step->probability <= 1, STATUS_INVALID,
          "image transform: a flip probability of %g", (double)planner->step->probability);
    planner->plan->resize.mirror =
        rng_uniform(draw(planner, 0).word[0]) < planner->step->probability;
    return STATUS_OK;
}

static enum status plan_randaugment(struct planner *planner)
{
    const struct image_step *step = planner->step;
    CHECK(step->num_ops >= 0 && step->num_ops <= IMAGE_MAX_OPS && step->level >= 0 &&
              step->level <= 10,
          STATUS_INVALID, "RandomAugment(%d, %g): at most %d operations, level 0 to 10",
          step->num_ops, (double)step->level, IMAGE_MAX_OPS);
    struct image_plan *plan = planner->plan;
    for (int i = 0; i < step->num_ops; i++) {
        struct rng_block block = draw(planner, i);
        enum image_op op = (enum image_op)rng_below(block.word[0], IMAGE_OP_COUNT);
        bool applied = rng_uniform(block.word[1]) < step->probability;
        if (!applied || op == IMAGE_OP_IDENTITY) continue;
        plan->ops[plan->num_ops].op = op;
        plan->ops[plan->num_ops].argument =
            image_op_argument(op, step->level, rng_uniform(block.word[2]) < 0.5f);
        plan->num_ops++;
    }
    return STATUS_OK;
}

static const struct {
    enum status (*plan)(struct planner *planner);
    bool resizes;
} kinds[] = {
    [IMAGE_STEP_RESIZE] = {plan_resize, true},
    [IMAGE_STEP_RANDOM_CROP] = {plan_random_crop, true},
    [IMAGE_STEP_SHORT_SIDE] = {plan_short_side, true},
    [IMAGE_STEP_CENTRE_CROP] = {plan_centre_crop, false},
    [IMAGE_STEP_FLIP] = {plan_flip, false},
    [IMAGE_STEP_RANDAUGMENT] = {plan_randaugment, false},
};
enum { NUM_KINDS = sizeof kinds / sizeof kinds[0] };

enum status image_plan_init(const struct image_transform *transform, struct image_key key,
                            int64_t width, int64_t height, struct image_plan *plan)
{
    TRY(check_side(width));
    TRY(check_side(height));
    CHECK(transform->num_steps >= 1 && transform->num_steps <= IMAGE_MAX_STEPS, STATUS_INVALID,
          "image transform: %d steps, must be 1 to %d", transform->num_steps, IMAGE_MAX_STEPS);
    *plan = (struct image_plan){.source_width = width, .source_height = height};
    memcpy(plan->crop, (int64_t[4]){0, 0, width, height}, sizeof plan->crop);
    struct planner planner = {
        .stream = rng_key(key.seed, RNG_AUGMENT, key.site), .key = key, .plan = plan};
    for (int i = 0; i < transform->num_steps; i++) {
        planner.step = &transform->steps[i];
        planner.position = i;
        enum image_step_kind kind = planner.step->kind;
        CHECK((unsigned)kind < NUM_KINDS, STATUS_INVALID, "image transform: no step kind %d",
              (int)kind);
        CHECK(kinds[kind].resizes == (i == 0), STATUS_INVALID,
              "image transform: the first step must resize, and only the first");
        TRY(kinds[kind].plan(&planner));
    }
    return STATUS_OK;
}

static bool has_window(const struct image_plan *plan)
{
    return plan->resize.window[2] > 0;
}

int64_t image_plan_width(const struct image_plan *plan)
{
    const int64_t *window = plan->resize.window;
    return has_window(plan) ? window[2] - window[0] : plan->resize.width;
}

int64_t image_plan_height(const struct image_plan *plan)
{
    const int64_t *window = plan->resize.window;
    return has_window(plan) ? window[3] - window[1] : plan->resize.height;
}

void image_plan_print(const struct image_plan *plan, struct strbuf *out)
{
    const int64_t *crop = plan->crop;
    const int64_t *window = plan->resize.window;
    strbuf_printf(out, "%lldx%lld", (long long)plan->source_width, (long long)plan->source_height);
    if (crop[2] != plan->source_width || crop[3] != plan->source_height) {
        strbuf_printf(out, " crop %lld,%lld %lldx%lld", (long long)crop[0], (long long)crop[1],
                      (long long)crop[2], (long long)crop[3]);
    }
    strbuf_printf(out, " -> %lldx%lld %s", (long long)plan->resize.width,
                  (long long)plan->resize.height,
                  plan->resize.filter == IMAGE_BICUBIC ? "bicubic" : "bilinear");
    if (has_window(plan)) {
        strbuf_printf(out, " centre %lld,%lld %lldx%lld", (long long)window[0],
                      (long long)window[1], (long long)image_plan_width(plan),
                      (long long)image_plan_height(plan));
    }
    if (plan->resize.mirror) strbuf_append(out, " mirrored");
    for (int i = 0; i < plan->num_ops; i++) {
        strbuf_printf(out, " %s", image_op_name(plan->ops[i].op));
        float argument = plan->ops[i].argument;
        if (argument != 0) strbuf_printf(out, "(%g)", (double)argument);
    }
}
