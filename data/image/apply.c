/* Plans applied: to pixels, and to boxes. */
#include <math.h>
#include <string.h>

#include "data/image/transform.h"

void image_workspace_fini(struct image_workspace *workspace)
{
    image_scratch_fini(&workspace->scratch);
    image_fini(&workspace->spare[0]);
    image_fini(&workspace->spare[1]);
}

enum status image_plan_apply(const struct image_plan *plan, struct image_view source,
                             struct image_workspace *workspace, struct image *out)
{
    CHECK(source.width == plan->source_width && source.height == plan->source_height,
          STATUS_INVALID, "image plan for %lld x %lld pixels applied to %lld x %lld",
          (long long)plan->source_width, (long long)plan->source_height, (long long)source.width,
          (long long)source.height);
    const int64_t *crop = plan->crop;
    struct image_view cut = image_crop(source, crop[0], crop[1], crop[2], crop[3]);
    /* Pixels go through the spares and reach `out` with the last operation. */
    struct image *now = plan->num_ops > 0 ? &workspace->spare[0] : out;
    TRY(image_resize(cut, &plan->resize, &workspace->scratch, now));
    for (int i = 0; i < plan->num_ops; i++) {
        struct image *next = i + 1 < plan->num_ops ? &workspace->spare[(i + 1) % 2] : out;
        TRY(image_op_apply(plan->ops[i].op, plan->ops[i].argument, image_as_view(now), next));
        now = next;
    }
    return STATUS_OK;
}

/* ---- boxes, in double: x0, y0, x1, y1 ---- */

static void clip(double box[4], double width, double height)
{
    box[0] = fmin(fmax(box[0], 0), width);
    box[1] = fmin(fmax(box[1], 0), height);
    box[2] = fmin(fmax(box[2], 0), width);
    box[3] = fmin(fmax(box[3], 0), height);
}

static bool is_empty(const double box[4])
{
    return !(box[2] > box[0] && box[3] > box[1]); /* also when one is NaN */
}

/* The upright box around the four moved corners. The map is of pixel centres, which lie half a
 * pixel inside the half-open box. */
static void move_affine(const double m[6], double box[4])
{
    double moved[4] = {INFINITY, INFINITY, -INFINITY, -INFINITY};
    for (int corner = 0; corner < 4; corner++) {
        double x = box[corner & 1 ? 2 : 0] - 0.5;
        double y = box[corner & 2 ? 3 : 1] - 0.5;
        double at[2] = {m[0] * x + m[1] * y + m[2] + 0.5, m[3] * x + m[4] * y + m[5] + 0.5};
        for (int axis = 0; axis < 2; axis++) {
            moved[axis] = fmin(moved[axis], at[axis]);
            moved[axis + 2] = fmax(moved[axis + 2], at[axis]);
        }
    }
    memcpy(box, moved, sizeof moved);
}

static bool move_box(const struct image_plan *plan, float box[4])
{
    double b[4] = {box[0], box[1], box[2], box[3]};
    if (is_empty(b)) return false;
    double width = (double)image_plan_width(plan);
    double height = (double)image_plan_height(plan);
    for (int i = 0; i < 4; i++) {
        int axis = i & 1;
        double size = (double)(axis == 0 ? plan->resize.width : plan->resize.height);
        b[i] = (b[i] - (double)plan->crop[axis]) * (size / (double)plan->crop[axis + 2]) -
               (double)plan->resize.window[axis];
    }
    if (plan->resize.mirror) {
        double left = width - b[2];
        b[2] = width - b[0];
        b[0] = left;
    }
    clip(b, width, height);
    for (int i = 0; i < plan->num_ops && !is_empty(b); i++) {
        double m[6];
        if (!image_op_affine(plan->ops[i].op, plan->ops[i].argument, image_plan_width(plan),
                             image_plan_height(plan), m)) {
            continue;
        }
        move_affine(m, b);
        clip(b, width, height);
    }
    for (int i = 0; i < 4; i++) {
        box[i] = (float)b[i];
    }
    return box[2] > box[0] && box[3] > box[1];
}

int64_t image_plan_boxes(const struct image_plan *plan, int64_t count, float (*boxes)[4],
                         bool *gone)
{
    int64_t left = 0;
    for (int64_t i = 0; i < count; i++) {
        bool kept = move_box(plan, boxes[i]);
        if (!kept) memset(boxes[i], 0, sizeof boxes[i]);
        if (gone) gone[i] = !kept;
        left += kept;
    }
    return left;
}
