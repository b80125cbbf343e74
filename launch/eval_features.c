/*
 * Features of all pictures and texts of the evaluation sets: each rank encodes its part, then
 * features are gathered.
 */
#include <math.h>
#include <string.h>

#include "launch/eval_impl.h"

/* A picture that cannot be read stops the evaluation: another one in its place, as in training,
 * would change what is measured. */
enum status eval_loader(struct evaluation *e, enum loader_rows rows, struct loader **loader)
{
    struct loader_options options = data_eval_options(e->in->data, rows);
    options.rank = e->in->comm->rank;
    options.size = e->in->comm->size;
    options.batch = e->batch;
    options.on_bad = LOADER_FAIL;
    options.seed = (uint64_t)e->in->model.values->train.seed;
    options.tokenizer = rows == LOADER_TEXTS ? e->in->tokenizer : NULL;
    if (rows == LOADER_TEXTS) options.transform = NULL;
    return loader_create(loader, &options);
}

/* A model that has gone wrong must not be ranked: NaN is neither above nor below anything. */
static enum status check_finite(const char *what, const float *features, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        CHECK(isfinite(features[i]), STATUS_CORRUPT,
              "evaluation: a feature of %s is not finite; the parameters are damaged or training "
              "diverged - evaluate an earlier checkpoint",
              what);
    }
    return STATUS_OK;
}

/* One pass over this rank's pictures or texts. */
struct encoding_pass {
    struct evaluation *e;
    struct eval_pass pass;
    struct loader *loader;
    int64_t at; /* the next row */
};

static enum status encode_images(void *user, bool *more)
{
    struct encoding_pass *p = user;
    struct evaluation *e = p->e;
    const struct loader_batch *batch;
    const void *features;
    const struct tensor *pixels = p->pass.step.pixels;
    float *out = e->image_features + p->at * e->width;
    TRY(loader_next(p->loader, &batch));
    *more = batch->count > 0;
    if (!*more) return STATUS_OK;
    memcpy(eval_pass_data(&p->pass, pixels), batch->pixels, tensor_bytes(pixels));
    TRY(eval_pass_run(&p->pass, &features));
    memcpy(out, features, (size_t)(batch->count * e->width) * sizeof *out);
    for (int64_t i = 0; i < batch->count; i++, p->at++) {
        e->set_image[p->at] = batch->row[i];
        e->set_of[p->at] = batch->set[i];
    }
    return check_finite("a picture", out, batch->count * e->width);
}

/* The number of an image of a set among those of all sets. */
static int64_t global_image(const struct evaluation *e, int32_t set, int64_t image)
{
    for (int32_t s = 0; s < set; s++) {
        image += store_num_images(e->in->data->eval_sets[s].store);
    }
    return image;
}

static enum status encode_texts(void *user, bool *more)
{
    struct encoding_pass *p = user;
    struct evaluation *e = p->e;
    const struct loader_batch *batch;
    const void *features;
    const struct step *s = &p->pass.step;
    size_t row = (size_t)e->length * sizeof(int32_t);
    float *out = e->text_features + p->at * e->width;
    TRY(loader_next(p->loader, &batch));
    *more = batch->count > 0;
    if (!*more) return STATUS_OK;
    memcpy(eval_pass_data(&p->pass, s->ids), batch->ids, tensor_bytes(s->ids));
    memcpy(eval_pass_data(&p->pass, s->mask), batch->mask, tensor_bytes(s->mask));
    TRY(eval_pass_run(&p->pass, &features));
    memcpy(out, features, (size_t)(batch->count * e->width) * sizeof *out);
    memcpy(e->ids + p->at * e->length, batch->ids, (size_t)batch->count * row);
    memcpy(e->mask + p->at * e->length, batch->mask, (size_t)batch->count * row);
    for (int64_t i = 0; i < batch->count; i++, p->at++) {
        e->image_of[p->at] = global_image(e, batch->set[i], batch->image[i]);
    }
    return check_finite("a text", out, batch->count * e->width);
}

/* Pictures, then texts. */
static enum status encode(struct evaluation *e)
{
    static const char label[] = "evaluation: features";
    struct encoding_pass images = {.e = e};
    struct encoding_pass texts = {.e = e};
    enum status status = eval_loader(e, LOADER_IMAGES, &images.loader);
    if (status == STATUS_OK) status = eval_loader(e, LOADER_TEXTS, &texts.loader);
    if (status == STATUS_OK) {
        status = eval_allocate(e, loader_num_rows(images.loader), loader_num_rows(texts.loader));
        images.at = e->first_image;
        texts.at = e->first_text;
    }
    if (status == STATUS_OK) status = eval_pass_image(&e->in->model, e->batch, &images.pass);
    status = eval_batches(e, label, status, encode_images, &images);
    eval_pass_fini(&images.pass);
    if (status == STATUS_OK) {
        status = eval_pass_text(&e->in->model, e->batch, &texts.pass);
        status = eval_batches(e, label, status, encode_texts, &texts);
    }
    eval_pass_fini(&texts.pass);
    loader_destroy(&images.loader);
    loader_destroy(&texts.loader);
    return status;
}

enum status eval_features(struct evaluation *e)
{
    int64_t feature = e->width * (int64_t)sizeof(float);
    int64_t row = e->length * (int64_t)sizeof(int32_t);
    TRY(encode(e));
    TRY(eval_gather(e, "image features", e->image_features, e->num_images, feature));
    TRY(eval_gather(e, "text features", e->text_features, e->num_texts, feature));
    TRY(eval_gather(e, "ids", e->ids, e->num_texts, row));
    TRY(eval_gather(e, "masks", e->mask, e->num_texts, row));
    TRY(eval_gather(e, "pictures of texts", e->image_of, e->num_texts, sizeof *e->image_of));
    TRY(eval_gather(e, "pictures", e->set_image, e->num_images, sizeof *e->set_image));
    return eval_gather(e, "sets", e->set_of, e->num_images, sizeof *e->set_of);
}
