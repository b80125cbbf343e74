#include "model/model.h"

#include <stdarg.h>
#include <stdio.h>

#include "model/fiber.h"

/* One row a family. */
static const struct model_family *const families[] = {&fiber_family};

const struct config_table *const model_choices[] = {&fiber_table, NULL};

enum status model_init(struct model *model, const struct config_variant *choice, int64_t samples)
{
    *model = (struct model){.family = families[choice->index],
                            .config = choice->value,
                            .dtype = DTYPE_F32,
                            .samples = samples};
    return model->family->check(model->config, &model->facts);
}

struct tensor *model_image_prefix(const struct model *model, struct graph *g, struct tensor *pixels)
{
    return model->family->image_prefix(model, g, pixels);
}

struct model_text model_text_prefix(const struct model *model, struct graph *g, struct tensor *ids,
                                    struct tensor *mask)
{
    return model->family->text_prefix(model, g, ids, mask);
}

/* Similarities need f32 whatever the activations are. */
static struct tensor *unit_length(struct graph *g, struct tensor *x)
{
    return x ? op_l2_normalize(g, op_cast(g, x, DTYPE_F32), 0.0f) : NULL;
}

struct tensor *model_image_feature(const struct model *model, struct graph *g,
                                   struct tensor *prefix)
{
    return unit_length(g, model->family->image_feature(model, g, prefix));
}

struct tensor *model_text_feature(const struct model *model, struct graph *g,
                                  const struct model_text *prefix)
{
    return unit_length(g, model->family->text_feature(model, g, prefix));
}

struct model_pair model_fuse(const struct model *model, struct graph *g, struct tensor *image,
                             const struct model_text *text)
{
    return model->family->fuse(model, g, image, text);
}

void model_keep(const struct model *model, struct graph *g, struct tensor *tensor,
                const char *format, ...)
{
    if (!model->trace || !tensor) return;
    char name[256];
    int used = snprintf(name, sizeof name, "%s/", model->trace);
    va_list args;
    va_start(args, format);
    vsnprintf(name + used, sizeof name - (size_t)used, format, args);
    va_end(args);
    graph_output(g, name, tensor);
}
