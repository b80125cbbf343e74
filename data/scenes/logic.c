#include "data/scenes/logic.h"

static enum truth both(enum truth a, enum truth b)
{
    return a < b ? a : b;
}

static enum truth either(enum truth a, enum truth b)
{
    return a > b ? a : b;
}

/* The thirds of one axis that a coordinate may be said to lie in: bits 0 (low), 1 (middle), 2. */
static unsigned thirds(int32_t position)
{
    static const struct {
        int percent; /* upper end of the band */
        unsigned bits;
    } bands[] = {{36, 1}, {43, 3}, {57, 2}, {64, 6}, {101, 4}};
    int i = 0;
    while ((int64_t)position * 100 >= (int64_t)bands[i].percent * SCENE_UNIT) {
        i++;
    }
    return bands[i].bits;
}

static enum truth in_region(const struct scene_object *object, int region)
{
    unsigned column = thirds(object->x);
    unsigned row = thirds(object->y);
    unsigned wanted_column = 1u << region % 3;
    unsigned wanted_row = 1u << region / 3;
    if (column == wanted_column && row == wanted_row) return TRUTH_YES;
    bool column_fits = (column & wanted_column) != 0;
    bool row_fits = (row & wanted_row) != 0;
    /* "At the top" is not false of the top left corner, nor "on the left". */
    if (region == REGION_TOP || region == REGION_BOTTOM) {
        return row_fits ? TRUTH_UNCLEAR : TRUTH_NO;
    }
    if (region == REGION_LEFT || region == REGION_RIGHT) {
        return column_fits ? TRUTH_UNCLEAR : TRUTH_NO;
    }
    return column_fits && row_fits ? TRUTH_UNCLEAR : TRUTH_NO;
}

enum truth scene_matches(const struct scene *scene, int object,
                         const struct description *description)
{
    const struct scene_object *o = &scene->object[object];
    if (description->size != ANY && (int)description->size != (int)o->size) return TRUTH_NO;
    if (description->colour != ANY && (int)description->colour != (int)o->colour) return TRUTH_NO;
    if (description->shape != ANY && (int)description->shape != (int)o->shape) return TRUTH_NO;
    return description->region == ANY ? TRUTH_YES : in_region(o, description->region);
}

/*
 * `ahead` is how far a lies in the direction of the relation as seen from b, `aside` how far off
 * that line. Clear when well ahead and not mostly aside; clearly not when not ahead at all.
 */
static enum truth directed(int ahead, int aside)
{
    int off = aside < 0 ? -aside : aside;
    if (ahead >= SCENE_UNIT / 10 && 2 * ahead >= off) return TRUTH_YES;
    return ahead <= SCENE_UNIT / 50 ? TRUTH_NO : TRUTH_UNCLEAR;
}

enum truth scene_related(const struct scene *scene, int a, enum scene_relation relation, int b)
{
    int dx = scene->object[a].x - scene->object[b].x;
    int dy = scene->object[a].y - scene->object[b].y;
    enum truth left = directed(-dx, dy);
    enum truth right = directed(dx, dy);
    enum truth above = directed(-dy, dx);
    enum truth below = directed(dy, dx);
    switch (relation) {
    case RELATION_LEFT:
        return left;
    case RELATION_RIGHT:
        return right;
    case RELATION_ABOVE:
        return above;
    case RELATION_BELOW:
        return below;
    case RELATION_ABOVE_LEFT:
        return both(above, left);
    case RELATION_ABOVE_RIGHT:
        return both(above, right);
    case RELATION_BELOW_LEFT:
        return both(below, left);
    case RELATION_BELOW_RIGHT:
        return both(below, right);
    case RELATION_COUNT:
        break;
    }
    return TRUTH_UNCLEAR;
}

bool scene_select(const struct scene *scene, const struct description *description,
                  unsigned *objects)
{
    *objects = 0;
    for (int i = 0; i < scene->num_objects; i++) {
        enum truth match = scene_matches(scene, i, description);
        if (match == TRUTH_UNCLEAR) return false;
        if (match == TRUTH_YES) *objects |= 1u << i;
    }
    return true;
}

static enum truth judge_relation(const struct scene *scene, const struct proposition *p)
{
    enum truth any = TRUTH_NO;
    for (int i = 0; i < scene->num_objects; i++) {
        for (int j = 0; j < scene->num_objects; j++) {
            if (i == j) continue;
            enum truth pair = both(scene_matches(scene, i, &p->a), scene_matches(scene, j, &p->b));
            any = either(any, both(pair, scene_related(scene, i, p->relation, j)));
        }
    }
    return any;
}

static enum truth judge_background(const struct scene *scene, const struct proposition *p)
{
    bool tone = p->tone == ANY || p->tone == scene->tone;
    bool texture = p->texture == ANY || p->texture == scene->texture;
    return tone && texture ? TRUTH_YES : TRUTH_NO;
}

enum truth scene_judge(const struct scene *scene, const struct proposition *p)
{
    if (p->kind == PROP_RELATION) return judge_relation(scene, p);
    if (p->kind == PROP_BACKGROUND) return judge_background(scene, p);
    bool compares = p->kind == PROP_MORE || p->kind == PROP_SAME || p->kind == PROP_ALL;
    unsigned a = 0;
    unsigned b = 0;
    if (!scene_select(scene, &p->a, &a)) return TRUTH_UNCLEAR;
    if (compares && !scene_select(scene, &p->b, &b)) return TRUTH_UNCLEAR;
    int num_a = scene_mask_count(a);
    int num_b = scene_mask_count(b);
    bool holds = false;
    if (p->kind == PROP_EXISTS) holds = num_a > 0;
    if (p->kind == PROP_COUNT) holds = num_a == p->count;
    if (p->kind == PROP_MORE) holds = num_a > num_b;
    if (p->kind == PROP_SAME) holds = num_a == num_b;
    if (p->kind == PROP_ALL) {
        if (num_a < 2) return TRUTH_UNCLEAR; /* "all the stars" of one star, or of none */
        holds = (a & ~b) == 0;
    }
    return holds ? TRUTH_YES : TRUTH_NO;
}

int scene_region_of(const struct scene *scene, int object)
{
    for (int region = 0; region < REGION_COUNT; region++) {
        if (in_region(&scene->object[object], region) == TRUTH_YES) return region;
    }
    return ANY;
}

int scene_mask_count(unsigned objects)
{
    return __builtin_popcount(objects);
}
