/*
 * nlvr2: Cornell NLVR2 (Suhr et al., ACL 2019). Sentences that are true or false of a pair of
 * photos. An item is a pair with all its sentences.
 *
 * The identifier "dev-850-0-3" means sentence 3 about pair 850-0 of dev, whose pictures are
 * dev-850-0-img0.png (left) and dev-850-0-img1.png; train lays them in numbered folders
 * ("directory").
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/import/common.h"

struct nlvr2 {
    struct library library;
    struct folder folder;
    struct input file;
    struct int_list lines;
    struct grouping pairs; /* lines by pair */
};

static const struct import_option options[] = {
    IMPORT_OPTION_IMAGES,
    {NULL, NULL, NULL},
};

/* The length of "dev-850-0" in "dev-850-0-3"; 0 when there is no such part. */
static int64_t pair_length(const char *identifier)
{
    const char *dash = strrchr(identifier, '-');
    return dash ? dash - identifier : 0;
}

/* Lines without an identifier are items of their own, which fail when fetched. */
static enum status group_pairs(struct nlvr2 *nlvr)
{
    int64_t rows = nlvr->lines.count - 1;
    uint64_t *keys = malloc((size_t)rows * sizeof *keys);
    CHECK(keys, STATUS_NO_MEMORY, "%s: no memory for %lld lines", nlvr->file.path, (long long)rows);
    struct arena arena = {0};
    for (int64_t i = 0; i < rows; i++) {
        struct json_value *line = NULL;
        const struct json_value *id = NULL;
        bool good = common_read_line(&nlvr->file, &nlvr->lines, i, &arena, &line) == STATUS_OK &&
                    json_get_string(line, "identifier", &id) == STATUS_OK;
        keys[i] = good ? group_key(id->text, pair_length(id->text))
                       : group_key((const char *)&i, sizeof i);
        arena_fini(&arena);
    }
    enum status status = group_rows(keys, rows, &nlvr->pairs);
    free(keys);
    return status;
}

static void nlvr2_close(struct import_source *source)
{
    struct nlvr2 *nlvr = source->state;
    if (!nlvr) return;
    library_fini(&nlvr->library);
    group_fini(&nlvr->pairs);
    free(nlvr->lines.value);
    free(nlvr);
    source->state = NULL;
}

static enum status open_set(struct nlvr2 *nlvr, const struct import_args *args, uint64_t *hash)
{
    TRY(library_open(&nlvr->library, args->sources[0], &nlvr->file));
    TRY(common_images(&nlvr->library, args, &nlvr->folder));
    TRY(common_lines(&nlvr->file, &nlvr->lines));
    TRY(group_pairs(nlvr));
    return input_hash(&nlvr->file, hash);
}

static enum status nlvr2_open(struct import_source *source, const struct import_args *args)
{
    struct nlvr2 *nlvr = calloc(1, sizeof *nlvr);
    CHECK(nlvr, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = nlvr;
    enum status status = open_set(nlvr, args, &source->fingerprint);
    source->num_items = nlvr->pairs.num_groups;
    if (status != STATUS_OK) nlvr2_close(source);
    return status;
}

static enum status add_picture(const struct nlvr2 *nlvr, const char *pair, const char *directory,
                               int which, struct sample *sample)
{
    const char *name = arena_printf(&sample->arena, "%s-img%d.png", pair, which);
    const char *nested = arena_printf(&sample->arena, "%s/%s", directory ? directory : ".", name);
    CHECK(name && nested, STATUS_NO_MEMORY, "no memory for a name");
    bool inside = directory && folder_has(&nlvr->folder, nested);
    return common_add_image(&nlvr->folder, inside ? nested : name, 0, 0, sample, NULL);
}

static enum status add_line(const struct nlvr2 *nlvr, const struct json_value *line,
                            struct sample *sample)
{
    const struct json_value *sentence = NULL;
    const struct json_value *label = NULL;
    const struct json_value *id = NULL;
    const char *directory = NULL;
    int32_t text = 0;
    TRY(json_get_string(line, "identifier", &id));
    TRY(json_get_string(line, "sentence", &sentence));
    TRY(json_get_string(line, "label", &label));
    bool yes = strcasecmp(label->text, "true") == 0;
    CHECK(yes || strcasecmp(label->text, "false") == 0, STATUS_INVALID,
          "\"label\" is '%s', neither True nor False", label->text);
    int64_t length = pair_length(id->text);
    CHECK(length > 0, STATUS_INVALID, "identifier '%s': not of the form split-set-pair-sentence",
          id->text);
    if (sample->num_images == 0) {
        const char *pair = arena_strndup(&sample->arena, id->text, (size_t)length);
        CHECK(pair, STATUS_NO_MEMORY, "no memory for a name");
        if (json_get(line, "directory")) {
            TRY(json_get_id(line, "directory", &sample->arena, &directory));
        }
        TRY(add_picture(nlvr, pair, directory, 0, sample));
        TRY(add_picture(nlvr, pair, directory, 1, sample));
    }
    TRY(sample_add_text(sample, TEXT_STATEMENT, 0, sentence->text, sentence->length, id->text,
                        &text));
    sample->texts[text].image2 = 1;
    sample->texts[text].label = yes ? TEXT_LABEL_TRUE : TEXT_LABEL_FALSE;
    return STATUS_OK;
}

static enum status nlvr2_fetch(const struct import_source *source, int64_t item,
                               struct sample *sample)
{
    const struct nlvr2 *nlvr = source->state;
    for (int64_t i = nlvr->pairs.first[item]; i < nlvr->pairs.first[item + 1]; i++) {
        int64_t row = nlvr->pairs.row[i];
        struct json_value *line = NULL;
        TRY(common_read_line(&nlvr->file, &nlvr->lines, row, &sample->arena, &line));
        enum status status = add_line(nlvr, line, sample);
        if (status != STATUS_OK) {
            return common_at(status, &nlvr->file, nlvr->lines.value[row]);
        }
    }
    return STATUS_OK;
}

const struct importer importer_nlvr2 = {
    .name = "nlvr2",
    .summary = "Cornell NLVR2: sentences that are true or false of a pair of photos",
    .usage = "weft pack nlvr2 nlvr2/data/dev.json --images nlvr2/dev -o dev-%05d.h5\n"
             "An item is a pair of pictures with its sentences.",
    .options = options,
    .min_sources = 1,
    .max_sources = 1,
    .open = nlvr2_open,
    .fetch = nlvr2_fetch,
    .close = nlvr2_close,
};
