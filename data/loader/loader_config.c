/* The config's data and tokenizer sections: tables, checks, opening. */
#include "data/loader/loader_config.h"

#include <string.h>

#include "data/store/store.h"

/* ---- data ---- */

static const struct config_option set_options[] = {
    CONFIG_STRING_OR_NULL(struct data_set_config, path,
                          .help = "The set's shards: a glob, a file, or a folder of *.h5."),
    CONFIG_STRINGS(struct data_set_config, paths, .def = "[]",
                   .help = "The same in several parts, in place of path."),
    CONFIG_DOUBLE(struct data_set_config, weight, .def = "0", .range = "[0, inf)",
                  .help = "Share of the draws, at any scale; every set has one, or none has."),
};

static enum status check_set(const void *value, const struct config_section *section)
{
    const struct data_set_config *set = value;
    if (!set->path == !set->paths.count) {
        return config_refuse(section, set->path ? "paths" : NULL,
                             "give one of path and paths; they name the set's shards");
    }
    return STATUS_OK;
}

static const struct config_table set_table = {
    CONFIG_TABLE(struct data_set_config, set_options),
    .name = "set",
    .help = "One packed set.",
    .check = check_set,
};

const char *const data_transform_names[] = {"albef", "albef_crop", "albef_randaug", "clip",
                                            "fine",  "fine_keep",  "fine_test",     NULL};
static const char *const texts_names[] = {"caption",    "question", "statement",
                                          "expression", "any",      NULL};
static const char *const on_bad_names[] = {"fail", "skip", "replace", NULL};
static const char *const tail_names[] = {"drop", "wrap", NULL};

#define CROPS "transform=albef_crop|albef_randaug"
#define FINE  "transform=fine|fine_keep"

static const struct config_option data_options[] = {
    CONFIG_SECTIONS(struct data_config, sets, set_table, .length = "[1, 64]",
                    .help = "What is trained on."),
    CONFIG_SECTIONS(struct data_config, eval_sets, set_table, .def = "[]", .length = "[0, 64]",
                    .help = "What is evaluated on, in order and without anything random."),
    CONFIG_ENUM(struct data_config, transform, data_transform_names, .def = "albef",
                .help = "What becomes of a picture: data/image/transform.h lists the recipes."),
    CONFIG_INT(struct data_config, image_size, .def = "384", .range = "[1, 32768]",
               .unit = "pixels", .only_if = "transform=albef|albef_crop|albef_randaug|clip",
               .help = "Side of the square pictures that the model sees."),
    CONFIG_DOUBLES(struct data_config, crop_scale, .def = "[0.5, 1]", .range = "(0, 1]",
                   .length = "[2, 2]", .only_if = CROPS,
                   .help = "Least and greatest share of the area that a random crop keeps."),
    CONFIG_DOUBLE(struct data_config, flip, .def = "0.5", .range = "[0, 1]",
                  .only_if = "transform=albef_crop|albef_randaug|fine",
                  .help = "Probability of mirroring a picture, with its boxes."),
    CONFIG_INT(struct data_config, randaug_ops, .def = "2", .range = "[0, 8]",
               .only_if = "transform=albef_randaug", .help = "Operations of RandomAugment."),
    CONFIG_DOUBLE(struct data_config, randaug_level, .def = "7", .range = "[0, 10]",
                  .only_if = "transform=albef_randaug", .help = "Strength of RandomAugment."),
    CONFIG_INTS(struct data_config, short_sides, .def = "[480, 560, 640, 720, 800]",
                .range = "[1, 10000]", .length = "[1, 16]", .unit = "pixels", .only_if = FINE,
                .help = "The shorter side of a picture is one of these."),
    CONFIG_INT(struct data_config, max_long_side, .def = "1333", .range = "[1, 32768]",
               .unit = "pixels", .only_if = "transform=fine|fine_keep|fine_test",
               .help = "The longer side is at most this; it sets the size of a batch's pictures."),
    CONFIG_BOOL(struct data_config, apply_orientation, .def = "false",
                .help = "Turn pictures as their EXIF data says; boxes are not turned with them."),
    CONFIG_ENUM(struct data_config, texts, texts_names, .def = "caption",
                .help = "The kind of text of the rows; a row of another kind counts as bad."),
    CONFIG_INT(struct data_config, max_text_len, .def = "50", .range = "[3, 65536]",
               .unit = "tokens",
               .help = "Length of a row of tokens, the begin and the end token included."),
    CONFIG_BOOL(struct data_config, boxes, .def = "false",
                .help = "Read boxes and move them with the pixels."),
    CONFIG_ENUM(struct data_config, on_bad, on_bad_names, .def = "fail",
                .help = "A row that is damaged stops the run, leaves its place empty, or is "
                        "replaced by another row of its set."),
    CONFIG_DOUBLE(struct data_config, max_bad_rate, .def = "0.01", .range = "[0, 1]",
                  .only_if = "on_bad=skip|replace",
                  .help = "Stop when more of a rank's samples were bad, once it had 1000."),
    CONFIG_ENUM(struct data_config, tail, tail_names, .def = "drop",
                .help = "The end of an epoch that does not fill a global batch is left out, or "
                        "filled up from the next epoch."),
    CONFIG_INT(struct data_config, epoch_samples, .def = "0", .range = "[0, inf)",
               .unit = "samples",
               .help = "Length of an epoch when sets have weights; 0: the rows of all sets."),
    CONFIG_INT(struct data_config, chunk_rows, .def = "0", .range = "[0, inf)", .unit = "rows",
               .help = "Slow disks: shuffle chunks of so many rows, and rows inside windows of "
                       "chunks; 0: shuffle all rows."),
    CONFIG_INT(struct data_config, window_chunks, .def = "64", .range = "[1, inf)",
               .unit = "chunks", .only_if = "chunk_rows!=0", .help = "Chunks of a window."),
    CONFIG_BOOL(struct data_config, verify, .def = "true",
                .help = "Verify the hash of each picture when it is read."),
    CONFIG_INT(struct data_config, threads, .def = "0", .range = "[0, 1024]", .unit = "threads",
               .help = "Threads of a rank that make batches; 0: one per processor of the rank."),
    CONFIG_INT(struct data_config, prefetch, .def = "2", .range = "[1, 1000]", .unit = "batches",
               .help = "Micro-batches made ahead of the one in use."),
};

static enum status check_weights(const struct data_config *data,
                                 const struct config_section *section)
{
    bool first = data->sets.items[0].weight > 0;
    for (int64_t i = 1; i < data->sets.count; i++) {
        if ((data->sets.items[i].weight > 0) == first) continue;
        return config_refuse(section, "sets",
                             "sets 0 and %lld differ: only one of them has a weight; give every "
                             "set one, or none",
                             (long long)i);
    }
    for (int64_t i = 0; i < data->eval_sets.count; i++) {
        if (data->eval_sets.items[i].weight <= 0) continue;
        return config_refuse(section, "eval_sets",
                             "set %lld has a weight, which has no effect in an evaluation",
                             (long long)i);
    }
    if (data->epoch_samples > 0 && !first) {
        return config_refuse(section, "epoch_samples", "counts only when the sets have weights");
    }
    if (data->chunk_rows > 0 && first) {
        return config_refuse(section, "chunk_rows", "works with sets that have no weights");
    }
    return STATUS_OK;
}

static enum status check_data(const void *value, const struct config_section *section)
{
    const struct data_config *data = value;
    if (data->crop_scale.count == 2 && data->crop_scale.items[0] > data->crop_scale.items[1]) {
        return config_refuse(section, "crop_scale",
                             "the least share, %g, is above the greatest, %g",
                             data->crop_scale.items[0], data->crop_scale.items[1]);
    }
    if (data->boxes && data->apply_orientation) {
        return config_refuse(section, "apply_orientation", "boxes are not turned with the picture");
    }
    return check_weights(data, section);
}

const struct config_table data_table = {
    CONFIG_TABLE(struct data_config, data_options),
    .name = "data",
    .help = "The data sets, and what becomes of their samples.",
    .check = check_data,
};

/* ---- tokenizer ---- */

static const char *const kind_names[] = {"any", "bpe", "wordpiece", NULL};

static const struct config_option tokenizer_options[] = {
    CONFIG_STRING(struct tokenizer_config, path,
                  .help = "A folder or file: tokenizer.json, vocab.json with merges.txt, or "
                          "vocab.txt."),
    CONFIG_ENUM(struct tokenizer_config, kind, kind_names, .def = "any",
                .help = "What it must be: byte-level BPE, WordPiece, or either."),
    CONFIG_STRING_OR_NULL(struct tokenizer_config, merges,
                          .help = "merges.txt, where it does not lie beside vocab.json."),
    CONFIG_BOOL(struct tokenizer_config, cased, .def = "false",
                .help = "Keep case and accents, for a vocab.txt."),
    CONFIG_BOOL(struct tokenizer_config, add_special, .def = "false",
                .help = "Add the special tokens that the vocabulary lacks, as GPT-2's does."),
};

const struct config_table tokenizer_table = {
    CONFIG_TABLE(struct tokenizer_config, tokenizer_options),
    .name = "tokenizer",
    .help = "How texts become tokens.",
};

enum status tokenizer_config_load(const struct tokenizer_config *settings, struct config *config,
                                  const char *section, struct tokenizer **tokenizer)
{
    const struct tokenizer_options options = {
        .merges = settings->merges, .cased = settings->cased, .add_special = settings->add_special};
    static const char *const titles[] = {"byte-level BPE", "WordPiece"};
    *tokenizer = NULL;
    enum status status = tokenizer_load(settings->path, &options, tokenizer);
    if (status == STATUS_OK && settings->kind != TOKENIZER_ANY_KIND) {
        enum tokenizer_kind wanted =
            settings->kind == TOKENIZER_WANT_BPE ? TOKENIZER_BPE : TOKENIZER_WORDPIECE;
        enum tokenizer_kind found = tokenizer_kind(*tokenizer);
        if (found != wanted) {
            tokenizer_destroy(tokenizer);
            status = status_fail(STATUS_INVALID, "%s is %s and not %s; change path or kind",
                                 settings->path, titles[found], titles[wanted]);
        }
    }
    if (status == STATUS_OK) return STATUS_OK;
    return status_prefix(status, "%s: %s.path", config_where(config, "%s.path", section), section);
}

/* ---- opening ---- */

static enum status open_set(const struct data_config *settings, const struct data_set_config *set,
                            bool needs_texts, struct store **store)
{
    const struct store_options options = {.no_hash = !settings->verify};
    const char *const *patterns = set->path ? &set->path : set->paths.items;
    int count = set->path ? 1 : (int)set->paths.count;
    TRY(store_open(store, patterns, count, &options));
    enum status status = STATUS_OK;
    if (store_num_images(*store) == 0) {
        status = status_fail(STATUS_INVALID, "the set holds no pictures");
    } else if (needs_texts && store_num_texts(*store) == 0) {
        status = status_fail(STATUS_INVALID,
                             "the set holds %lld pictures and no texts; pack it with its captions, "
                             "or leave it out",
                             (long long)store_num_images(*store));
    } else if (settings->boxes && store_num_boxes(*store) == 0) {
        status = status_fail(STATUS_INVALID, "data.boxes asks for boxes, and the set holds none");
    }
    if (status != STATUS_OK) store_close(store);
    return status;
}

struct list {
    const struct data_set_config *items;
    int64_t count;
    const char *key;
};

static enum status open_sets(const struct data_config *settings, struct config *config,
                             const char *section, struct list list, bool needs_texts,
                             struct store **stores, struct loader_set *sets, int *num_sets)
{
    for (int i = 0; i < (int)list.count; i++) {
        const struct data_set_config *set = &list.items[i];
        enum status status = open_set(settings, set, needs_texts, &stores[i]);
        if (status != STATUS_OK) {
            const char *where = config_where(config, "%s.%s.%d.%s", section, list.key, i,
                                             set->path ? "path" : "paths");
            return status_prefix(status, "%s: %s.%s.%d", where, section, list.key, i);
        }
        sets[i] = (struct loader_set){.store = stores[i], .weight = set->weight};
        *num_sets = i + 1;
    }
    return STATUS_OK;
}

/* The recipe with the section's own numbers in it. */
static void fill_in(const struct data_config *settings, struct image_transform *transform)
{
    for (int i = 0; i < transform->num_steps; i++) {
        struct image_step *step = &transform->steps[i];
        switch (step->kind) {
        case IMAGE_STEP_RANDOM_CROP:
            step->scale[0] = settings->crop_scale.items[0];
            step->scale[1] = settings->crop_scale.items[1];
            break;
        case IMAGE_STEP_FLIP:
            step->probability = (float)settings->flip;
            break;
        case IMAGE_STEP_RANDAUGMENT:
            step->num_ops = (int)settings->randaug_ops;
            step->level = (float)settings->randaug_level;
            break;
        case IMAGE_STEP_SHORT_SIDE:
            if (step->max_long == 0) break; /* clip: the crop's side */
            step->max_long = settings->max_long_side;
            if (step->num_sides == 1) break; /* fine_test */
            step->num_sides = (int)settings->short_sides.count;
            memcpy(step->sides, settings->short_sides.items,
                   (size_t)step->num_sides * sizeof *step->sides);
            break;
        case IMAGE_STEP_RESIZE:
        case IMAGE_STEP_CENTRE_CROP:
            break;
        }
    }
}

enum status data_find_transforms(const struct data_config *settings, struct data *data)
{
    const char *name = data_transform_names[settings->transform];
    const char *still = name;
    if (strncmp(name, "albef", 5) == 0) still = "albef";
    if (strncmp(name, "fine", 4) == 0) still = "fine_test";
    TRY(image_transform_find(name, settings->image_size, &data->transform));
    TRY(image_transform_find(still, settings->image_size, &data->eval_transform));
    fill_in(settings, &data->transform);
    fill_in(settings, &data->eval_transform);
    return STATUS_OK;
}

static enum status open_eval(const struct data_config *settings, struct config *config,
                             const char *section, bool needs_texts, struct data *data)
{
    const struct list eval = {settings->eval_sets.items, settings->eval_sets.count, "eval_sets"};
    return open_sets(settings, config, section, eval, needs_texts, data->eval_stores,
                     data->eval_sets, &data->num_eval_sets);
}

static enum status begin(const struct data_config *settings, struct config *config,
                         const char *section, struct data *data)
{
    memset(data, 0, sizeof *data);
    data->settings = settings;
    data->where = config_where(config, "%s", section);
    return data_find_transforms(settings, data);
}

enum status data_open_eval(const struct data_config *settings, struct config *config,
                           const char *section, bool needs_texts, struct data *data)
{
    enum status status = begin(settings, config, section, data);
    if (status == STATUS_OK) status = open_eval(settings, config, section, needs_texts, data);
    if (status != STATUS_OK) data_close(data);
    return status;
}

enum status data_open(const struct data_config *settings, struct config *config,
                      const char *section, bool needs_texts, struct data *data)
{
    const struct list train = {settings->sets.items, settings->sets.count, "sets"};
    enum status status = begin(settings, config, section, data);
    if (status == STATUS_OK) {
        status = open_sets(settings, config, section, train, needs_texts, data->stores, data->sets,
                           &data->num_sets);
    }
    if (status == STATUS_OK) status = open_eval(settings, config, section, needs_texts, data);
    if (status != STATUS_OK) data_close(data);
    return status;
}

void data_close(struct data *data)
{
    for (int i = 0; i < SAMPLER_MAX_SETS; i++) {
        store_close(&data->stores[i]);
        store_close(&data->eval_stores[i]);
    }
    data->num_sets = data->num_eval_sets = 0;
}

static struct loader_options common_options(const struct data *data)
{
    const struct data_config *settings = data->settings;
    return (struct loader_options){
        .decode = {.apply_orientation = settings->apply_orientation},
        .text_length = settings->max_text_len,
        .text_kinds = settings->texts == DATA_ANY ? 0 : 1u << settings->texts,
        .on_bad = settings->on_bad,
        .max_bad_rate = settings->max_bad_rate,
        .num_threads = (int)settings->threads,
        .prefetch = (int)settings->prefetch,
    };
}

struct loader_options data_loader_options(const struct data *data)
{
    const struct data_config *settings = data->settings;
    struct loader_options options = common_options(data);
    options.sets = data->sets;
    options.num_sets = data->num_sets;
    options.transform = &data->transform;
    options.tail = settings->tail;
    options.epoch_samples = settings->epoch_samples;
    options.chunk_rows = settings->chunk_rows;
    options.window_chunks = settings->window_chunks;
    options.boxes = settings->boxes;
    return options;
}

struct loader_options data_eval_options(const struct data *data, enum loader_rows rows)
{
    struct loader_options options = common_options(data);
    options.sets = data->eval_sets;
    options.num_sets = data->num_eval_sets;
    options.order = LOADER_SEQUENTIAL;
    options.rows = rows;
    if (rows == LOADER_IMAGES) {
        options.transform = &data->eval_transform;
        options.text_kinds = 0;
    }
    return options;
}

enum status data_loader_create(const struct data *data, const struct loader_options *options,
                               struct loader **loader)
{
    enum status status = loader_create(loader, options);
    return status == STATUS_OK ? status : status_prefix(status, "%s: data", data->where);
}
