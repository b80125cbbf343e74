/*
 * Texts are encoded once. For each batch of pictures: features, then the part of the image tower
 * below fusion, which all pairs of a picture share; then pairs, a batch at a time.
 */
#include "launch/infer.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/loader/loader_config.h"
#include "runtime/base/arena.h"
#include "runtime/base/file_io.h"

enum { MAX_FILE = 1 << 30 };

struct infer {
    const struct trained *trained;
    const struct infer_options *options;
    const struct infer_sink *sink;
    struct arena arena;
    struct data data; /* its transforms alone */
    int64_t batch;
    int64_t side;
    int64_t length;
    int64_t width;
    bool similar; /* the model has features */
    bool matches; /* and a matching head */

    struct infer_text *texts; /* [num_texts] */
    int32_t *ids;             /* [num_texts, length] */
    int32_t *mask;
    float *text_features; /* [num_texts, width] */

    struct eval_pass image;
    struct eval_pass prefix;
    struct eval_pass match;
    struct infer_picture *pictures; /* [batch] */
    uint8_t *pixels;                /* [batch, side, side, 3] */
    float *similarity;              /* [batch, num_texts] */
    float *probability;
    int64_t num_bad;

    uint8_t *file; /* the file at hand */
    struct image decoded;
    struct image_workspace workspace;
};

#define ALLOCATE(infer, pointer, count)                                                            \
    do {                                                                                           \
        (pointer) = arena_alloc(&(infer)->arena, (size_t)(count) * sizeof *(pointer));             \
        CHECK(pointer, STATUS_NO_MEMORY, "out of memory");                                         \
    } while (0)

/* ---- texts ---- */

static enum status encode_text(struct infer *in, struct tokenizer_scratch *scratch,
                               struct encoding *encoding, int64_t text)
{
    const struct tokenizer *tokenizer = in->trained->tokenizer;
    const char *words = in->options->texts[text];
    const struct encode_options how = {.max_length = in->length, .add_special = true};
    TRY(tokenizer_encode(tokenizer, scratch, words, strlen(words), &how, encoding));
    in->texts[text] = (struct infer_text){
        .text = words, .num_tokens = encoding->count, .truncated = encoding->truncated};
    return tokenizer_pad(tokenizer, encoding, in->length, in->ids + text * in->length,
                         in->mask + text * in->length);
}

static enum status encode_texts(struct infer *in)
{
    struct tokenizer_scratch *scratch = NULL;
    struct encoding encoding = {0};
    int64_t count = in->options->num_texts;
    ALLOCATE(in, in->texts, count);
    ALLOCATE(in, in->ids, count * in->length);
    ALLOCATE(in, in->mask, count * in->length);
    enum status status = tokenizer_scratch_create(in->trained->tokenizer, &scratch);
    for (int64_t t = 0; t < count && status == STATUS_OK; t++) {
        status = encode_text(in, scratch, &encoding, t);
        if (status != STATUS_OK) status_prefix(status, "text %lld", (long long)t + 1);
    }
    encoding_fini(&encoding);
    tokenizer_scratch_destroy(&scratch);
    TRY(status);
    return in->sink->texts ? in->sink->texts(in->sink->user, in->texts, count) : STATUS_OK;
}

static enum status run_text_features(struct infer *in, struct eval_pass *pass)
{
    const struct step *s = &pass->step;
    const void *features;
    for (int64_t t = 0; t < in->options->num_texts; t += in->batch) {
        int64_t count = in->options->num_texts - t;
        if (count > in->batch) count = in->batch;
        size_t bytes = (size_t)(count * in->length) * sizeof(int32_t);
        memcpy(eval_pass_data(pass, s->ids), in->ids + t * in->length, bytes);
        memcpy(eval_pass_data(pass, s->mask), in->mask + t * in->length, bytes);
        TRY(eval_pass_run(pass, &features));
        memcpy(in->text_features + t * in->width, features,
               (size_t)(count * in->width) * sizeof(float));
    }
    return STATUS_OK;
}

static enum status find_text_features(struct infer *in)
{
    struct eval_pass pass;
    if (!in->similar) return STATUS_OK;
    ALLOCATE(in, in->text_features, in->options->num_texts * in->width);
    enum status status = eval_pass_text(&in->trained->model, in->batch, &pass);
    if (status == STATUS_OK) status = run_text_features(in, &pass);
    eval_pass_fini(&pass);
    return status;
}

/* ---- pictures ---- */

static enum status read_bytes(struct infer *in, int file, const char *path, int64_t *size)
{
    struct stat info;
    CHECK(fstat(file, &info) == 0, STATUS_IO, "%s", strerror(errno));
    CHECK(S_ISREG(info.st_mode), STATUS_INVALID, "is not a file");
    CHECK(info.st_size > 0, STATUS_CORRUPT, "the file is empty");
    CHECK(info.st_size <= MAX_FILE, STATUS_INVALID, "is larger than 1 GiB");
    *size = info.st_size;
    free(in->file);
    in->file = malloc((size_t)*size);
    CHECK(in->file, STATUS_NO_MEMORY, "out of memory for %lld bytes", (long long)*size);
    return file_read_at(file, path, in->file, *size, 0);
}

static enum status read_file(struct infer *in, const char *path, int64_t *size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0, STATUS_NOT_FOUND, "cannot open: %s", strerror(errno));
    enum status status = read_bytes(in, file, path, size);
    close(file);
    return status;
}

static enum status read_picture(struct infer *in, int64_t slot, struct infer_picture *picture)
{
    const struct image_decode_options decode = {.apply_orientation =
                                                    in->trained->values.data.apply_orientation};
    struct image_plan plan;
    int64_t size = 0;
    size_t bytes = (size_t)(in->side * in->side * 3);
    struct image out = image_borrow(in->pixels + (size_t)slot * bytes, bytes);
    TRY(read_file(in, picture->path, &size));
    TRY(image_decode(in->file, (size_t)size, &decode, &in->decoded));
    picture->width = in->decoded.width;
    picture->height = in->decoded.height;
    TRY(image_plan_init(&in->data.eval_transform, (struct image_key){0}, in->decoded.width,
                        in->decoded.height, &plan));
    CHECK(image_plan_width(&plan) == in->side && image_plan_height(&plan) == in->side,
          STATUS_INVALID, "data.transform gives %lld x %lld pixels, and the model takes squares",
          (long long)image_plan_width(&plan), (long long)image_plan_height(&plan));
    return image_plan_apply(&plan, image_as_view(&in->decoded), &in->workspace, &out);
}

static void find_similarity(struct infer *in, const float *features, int64_t count)
{
    int64_t texts = in->options->num_texts;
    for (int64_t i = 0; i < count * texts; i++) {
        const float *image = features + i / texts * in->width;
        const float *text = in->text_features + i % texts * in->width;
        double sum = 0;
        for (int64_t k = 0; k < in->width; k++) {
            sum += (double)image[k] * (double)text[k];
        }
        in->similarity[i] = (float)sum;
    }
}

/* Pairs [pair, pair + count) of the batch's pictures with all texts. */
static enum status score_pairs(struct infer *in, const uint8_t *prefixes, int64_t pair,
                               int64_t count)
{
    struct eval_pass *pass = &in->match;
    const struct step *s = &pass->step;
    int64_t texts = in->options->num_texts;
    size_t prefix = tensor_bytes(pass->prefix) / (size_t)in->batch;
    size_t row = (size_t)in->length * sizeof(int32_t);
    char *prefix_input = eval_pass_data(pass, pass->prefix);
    char *ids = eval_pass_data(pass, s->ids);
    char *mask = eval_pass_data(pass, s->mask);
    for (int64_t i = 0; i < count; i++) {
        size_t image = (size_t)((pair + i) / texts);
        int64_t text = (pair + i) % texts;
        memcpy(prefix_input + (size_t)i * prefix, prefixes + image * prefix, prefix);
        memcpy(ids + (size_t)i * row, in->ids + text * in->length, row);
        memcpy(mask + (size_t)i * row, in->mask + text * in->length, row);
    }
    const void *values;
    TRY(eval_pass_run(pass, &values));
    const float *logits = values;
    for (int64_t i = 0; i < count; i++) {
        in->probability[pair + i] = 1.0f / (1.0f + expf(logits[2 * i] - logits[2 * i + 1]));
    }
    return STATUS_OK;
}

static enum status match(struct infer *in, int64_t count)
{
    const void *prefixes;
    struct eval_pass *pass = &in->prefix;
    memcpy(eval_pass_data(pass, pass->step.pixels), in->pixels, tensor_bytes(pass->step.pixels));
    TRY(eval_pass_run(pass, &prefixes));
    int64_t pairs = count * in->options->num_texts;
    for (int64_t p = 0; p < pairs; p += in->batch) {
        TRY(score_pairs(in, prefixes, p, pairs - p < in->batch ? pairs - p : in->batch));
    }
    return STATUS_OK;
}

static enum status check_finite(const struct infer *in, const float *scores, int64_t count)
{
    for (int64_t i = 0; i < count && scores; i++) {
        CHECK(isfinite(scores[i]), STATUS_CORRUPT,
              "%s: a score is not finite; the parameters are damaged or training diverged",
              in->trained->path);
    }
    return STATUS_OK;
}

/* The first `count` slots hold pictures, of which bad ones are black. */
static enum status score_batch(struct infer *in, int64_t count)
{
    int64_t texts = in->options->num_texts;
    if (in->similar) {
        const void *features;
        struct eval_pass *pass = &in->image;
        memcpy(eval_pass_data(pass, pass->step.pixels), in->pixels,
               tensor_bytes(pass->step.pixels));
        TRY(eval_pass_run(pass, &features));
        find_similarity(in, features, count);
    }
    if (in->matches) TRY(match(in, count));
    TRY(check_finite(in, in->similarity, count * texts));
    TRY(check_finite(in, in->probability, count * texts));
    for (int64_t i = 0; i < count; i++) {
        struct infer_picture *picture = &in->pictures[i];
        if (in->similar) picture->similarity = in->similarity + i * texts;
        if (in->matches) picture->probability = in->probability + i * texts;
        TRY(in->sink->picture(in->sink->user, picture));
    }
    return STATUS_OK;
}

static enum status take_picture(struct infer *in, int64_t slot, const char *path)
{
    struct infer_picture *picture = &in->pictures[slot];
    *picture = (struct infer_picture){.path = path};
    enum status status = read_picture(in, slot, picture);
    if (status == STATUS_OK) return STATUS_OK;
    if (status == STATUS_NO_MEMORY) return status_prefix(status, "%s", path);
    picture->error = arena_strndup(&in->arena, status_message(), strlen(status_message()));
    CHECK(picture->error, STATUS_NO_MEMORY, "out of memory");
    memset(in->pixels + (size_t)(slot * in->side * in->side * 3), 0,
           (size_t)(in->side * in->side * 3));
    in->num_bad++;
    return STATUS_OK;
}

static enum status score_pictures(struct infer *in)
{
    int64_t paths = in->options->num_paths;
    for (int64_t p = 0; p < paths; p += in->batch) {
        int64_t count = paths - p < in->batch ? paths - p : in->batch;
        for (int64_t i = 0; i < count; i++) {
            TRY(take_picture(in, i, in->options->paths[p + i]));
        }
        TRY(score_batch(in, count));
    }
    return STATUS_OK;
}

/* ---- the whole ---- */

static enum status prepare(struct infer *in)
{
    const struct train_config *values = &in->trained->values;
    const struct eval_model *model = &in->trained->model;
    int64_t texts = in->options->num_texts;
    in->similar = objectives_find(&values->objectives, "itc") != NULL;
    in->matches = objectives_find(&values->objectives, "itm") != NULL;
    CHECK(in->similar || in->matches, STATUS_INVALID,
          "%s: was trained without itc and itm, so it has no scores of pairs", in->trained->path);
    struct model facts;
    TRY(model_init(&facts, &values->model, 1));
    in->side = facts.facts.image_size;
    in->length = facts.facts.max_text_len;
    in->width = facts.facts.hidden;
    TRY(data_find_transforms(&values->data, &in->data));
    ALLOCATE(in, in->pictures, in->batch);
    ALLOCATE(in, in->pixels, in->batch * in->side * in->side * 3);
    memset(in->pixels, 0, (size_t)(in->batch * in->side * in->side * 3));
    if (in->similar) {
        ALLOCATE(in, in->similarity, in->batch * texts);
        TRY(eval_pass_image(model, in->batch, &in->image));
    }
    if (in->matches) {
        ALLOCATE(in, in->probability, in->batch * texts);
        TRY(eval_pass_prefix(model, in->batch, &in->prefix));
        TRY(eval_pass_match(model, in->batch, &in->match));
    }
    return STATUS_OK;
}

enum status infer_run(const struct trained *trained, const struct infer_options *options,
                      const struct infer_sink *sink, int64_t *num_bad)
{
    struct infer in = {
        .trained = trained, .options = options, .sink = sink, .batch = options->batch};
    enum status status = prepare(&in);
    if (status == STATUS_OK) status = encode_texts(&in);
    if (status == STATUS_OK) status = find_text_features(&in);
    if (status == STATUS_OK) status = score_pictures(&in);
    *num_bad = in.num_bad;
    eval_pass_fini(&in.image);
    eval_pass_fini(&in.prefix);
    eval_pass_fini(&in.match);
    image_workspace_fini(&in.workspace);
    image_fini(&in.decoded);
    free(in.file);
    arena_fini(&in.arena);
    return status;
}
