/*
 * karpathy: the caption splits that retrieval is measured on (dataset_coco.json,
 * dataset_flickr30k.json). One JSON object whose "images" have a file name, a split and sentences.
 */
#include <stdlib.h>
#include <string.h>

#include "data/import/common.h"

enum { MAX_SPLITS = 8 };

struct karpathy {
    struct library library;
    struct folder folder;
    struct common_files files;
    const char *split[MAX_SPLITS];
    int num_splits; /* 0: all */
    struct int_list place;
};

static const struct import_option options[] = {
    IMPORT_OPTION_IMAGES,
    {"split", NULL, "train, val, test, restval, or several with commas (default: all)"},
    {NULL, NULL, NULL},
};

static bool is_wanted(const struct karpathy *set, const char *split)
{
    for (int i = 0; i < set->num_splits; i++) {
        if (strcmp(set->split[i], split) == 0) return true;
    }
    return set->num_splits == 0;
}

static enum status scan_image(void *context, struct json_reader *reader, int64_t place)
{
    struct karpathy *set = context;
    const char *key = NULL;
    bool wanted = set->num_splits == 0;
    TRY(json_begin(reader, JSON_OBJECT));
    for (;;) {
        TRY(json_next_key(reader, &key));
        if (!key) break;
        if (strcmp(key, "split") == 0) {
            const char *split = NULL;
            TRY(json_string(reader, &split, NULL));
            wanted = is_wanted(set, split);
        } else {
            TRY(json_skip(reader));
        }
    }
    return wanted ? int_list_add(&set->place, place) : STATUS_OK;
}

static enum status open_set(struct karpathy *set, const struct import_args *args, uint64_t *hash)
{
    static const struct common_array arrays[] = {{"images", scan_image}, {NULL, NULL}};
    const char *splits = import_value(args, "split");
    unsigned found = 0;
    if (splits) {
        char *list = arena_strdup(&set->library.arena, splits);
        CHECK(list, STATUS_NO_MEMORY, "no memory for a list of splits");
        for (char *rest = list, *one = strsep(&rest, ","); one; one = strsep(&rest, ",")) {
            CHECK(set->num_splits < MAX_SPLITS, STATUS_INVALID, "--split %s: too many", splits);
            set->split[set->num_splits++] = one;
        }
        *hash = import_hash(0, splits, (int64_t)strlen(splits));
    }
    TRY(common_images(&set->library, args, &set->folder));
    TRY(common_scan(&set->library, &set->files, args->sources[0], arrays, set, &found));
    CHECK(found, STATUS_INVALID, "%s: no \"images\"; is it dataset_coco.json or the like?",
          args->sources[0]);
    CHECK(set->place.count > 0, STATUS_INVALID, "%s: no images%s%s", args->sources[0],
          splits ? " of split " : "", splits ? splits : "");
    return common_hash_files(&set->files, hash);
}

static void karpathy_close(struct import_source *source)
{
    struct karpathy *set = source->state;
    if (!set) return;
    free(set->place.value);
    library_fini(&set->library);
    free(set);
    source->state = NULL;
}

static enum status karpathy_open(struct import_source *source, const struct import_args *args)
{
    struct karpathy *set = calloc(1, sizeof *set);
    CHECK(set, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = set;
    enum status status = open_set(set, args, &source->fingerprint);
    source->num_items = set->place.count;
    if (status != STATUS_OK) karpathy_close(source);
    return status;
}

/* COCO's pictures are in folders ("filepath"); a flat folder will do as well. */
static enum status add_picture(const struct karpathy *set, const struct json_value *image,
                               struct sample *sample)
{
    const struct json_value *name = NULL;
    const struct json_value *path = json_get(image, "filepath");
    TRY(json_get_string(image, "filename", &name));
    const char *nested = name->text;
    if (path && path->type == JSON_STRING && path->length > 0) {
        nested = arena_printf(&sample->arena, "%s/%s", path->text, name->text);
        CHECK(nested, STATUS_NO_MEMORY, "no memory for a name");
    }
    bool inside = folder_has(&set->folder, nested);
    return common_add_image(&set->folder, inside ? nested : name->text, 0, 0, sample, NULL);
}

static enum status add_image(const struct karpathy *set, int64_t place, struct sample *sample)
{
    struct json_value *image = NULL;
    const struct json_value *sentences = NULL;
    TRY(common_read(&set->files, place, &sample->arena, &image));
    TRY(add_picture(set, image, sample));
    TRY(json_get_array(image, "sentences", &sentences));
    for (const struct json_value *v = sentences->child; v; v = v->next) {
        const struct json_value *raw = NULL;
        const char *key = NULL;
        TRY(json_get_string(v, "raw", &raw));
        if (json_get(v, "sentid")) TRY(json_get_id(v, "sentid", &sample->arena, &key));
        const char *text = raw->text;
        int64_t length = raw->length;
        common_trim(&text, &length);
        TRY(sample_add_text(sample, TEXT_CAPTION, 0, text, length, key, NULL));
    }
    return STATUS_OK;
}

static enum status karpathy_fetch(const struct import_source *source, int64_t item,
                                  struct sample *sample)
{
    const struct karpathy *set = source->state;
    enum status status = add_image(set, set->place.value[item], sample);
    if (status == STATUS_OK) return status;
    return common_at_place(status, &set->files, set->place.value[item]);
}

const struct importer importer_karpathy = {
    .name = "karpathy",
    .summary = "Karpathy's caption splits of COCO and Flickr30k (dataset_coco.json)",
    .usage = "weft pack karpathy dataset_coco.json --images coco --split train,restval\n"
             "       -o OUT-%05d.h5",
    .options = options,
    .min_sources = 1,
    .max_sources = 1,
    .open = karpathy_open,
    .fetch = karpathy_fetch,
    .close = karpathy_close,
};
