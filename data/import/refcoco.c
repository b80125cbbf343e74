/*
 * refcoco: RefCOCO, RefCOCO+ and RefCOCOg: referring expressions for COCO boxes. An item is a
 * picture with its expressions, each with a box of its own and a span over all its words.
 *
 * The sets come as a pickle of Python objects (refs(unc).p) and a COCO file (instances.json). The
 * pickle is turned into JSON, of the same objects, by data/import/refcoco_to_json.py.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/import/common.h"

enum { MAX_SPLIT = 32 };

struct refcoco {
    struct library library;
    struct folder folder;
    struct common_files files;
    char split[MAX_SPLIT]; /* "": all */
    bool raw;              /* the text as written, not the cleaned one */
    struct int_list ref_place;
    struct int_list ref_image;       /* image id of each */
    struct grouping items;           /* refs by image */
    struct int_map image_place;      /* of an image id */
    struct int_map annotation_place; /* of an annotation id */
    struct common_categories categories;
};

static const struct import_option options[] = {
    IMPORT_OPTION_IMAGES,
    {"split", NULL, "train, val, testA, testB, test: only the expressions of this split"},
    {"text", "sent", "sent (cleaned, lower case) or raw (as people typed it)"},
    {NULL, NULL, NULL},
};

/* ---- opening ------------------------------------------------------------------------------------
 */

static enum status scan_ref(void *context, struct json_reader *reader, int64_t place)
{
    struct refcoco *set = context;
    int64_t image = -1;
    uint64_t split = 0;
    struct common_field fields[] = {{.key = "image_id", .number = &image},
                                    {.key = "split", .text = &split}};
    TRY(common_scan_object(reader, fields, 2));
    bool wanted =
        set->split[0] == '\0' || split == group_key(set->split, (int64_t)strlen(set->split));
    if (image < 0) return json_fail(reader, "a reference without \"image_id\"");
    if (!wanted) return STATUS_OK;
    TRY(int_list_add(&set->ref_place, place));
    return int_list_add(&set->ref_image, image);
}

static enum status scan_id(struct json_reader *reader, int64_t place, struct int_map *map)
{
    int64_t id = -1;
    int64_t first = 0;
    struct common_field field = {.key = "id", .number = &id};
    TRY(common_scan_object(reader, &field, 1));
    if (id < 0) return json_fail(reader, "an entry without \"id\"");
    TRY(int_map_put(map, (uint64_t)id, place, &first));
    if (first != place) return json_fail(reader, "a second entry with id %lld", (long long)id);
    return STATUS_OK;
}

static enum status scan_image(void *context, struct json_reader *reader, int64_t place)
{
    return scan_id(reader, place, &((struct refcoco *)context)->image_place);
}

static enum status scan_annotation(void *context, struct json_reader *reader, int64_t place)
{
    return scan_id(reader, place, &((struct refcoco *)context)->annotation_place);
}

static enum status scan_category(void *context, struct json_reader *reader, int64_t place)
{
    struct refcoco *set = context;
    (void)place;
    return common_add_category(&set->categories, &set->library.arena, reader);
}

static enum status scan_files(struct refcoco *set, const struct import_args *args)
{
    static const struct common_array arrays[] = {{"images", scan_image},
                                                 {"annotations", scan_annotation},
                                                 {"categories", scan_category},
                                                 {"refs", scan_ref},
                                                 {"", scan_ref},
                                                 {NULL, NULL}};
    unsigned all = 0;
    for (int i = 0; i < args->num_sources; i++) {
        unsigned found = 0;
        TRY(common_scan(&set->library, &set->files, args->sources[i], arrays, set, &found));
        CHECK(found, STATUS_INVALID,
              "%s: neither references nor COCO instances; turn refs(...).p into JSON with "
              "data/import/refcoco_to_json.py",
              args->sources[i]);
        all |= found;
    }
    CHECK((all & 3) == 3 && (all & 24), STATUS_INVALID,
          "give both the references (refs.json) and instances.json; %s is missing",
          all & 24 ? "instances.json" : "refs.json");
    CHECK(set->ref_place.count > 0, STATUS_INVALID, "%s: no references%s%s", args->sources[0],
          set->split[0] ? " of split " : "", set->split);
    return STATUS_OK;
}

static enum status open_set(struct refcoco *set, const struct import_args *args,
                            struct import_source *source)
{
    const char *split = import_value(args, "split");
    const char *text = import_value(args, "text");
    CHECK(!split || strlen(split) < MAX_SPLIT, STATUS_INVALID, "--split %s: too long a name",
          split);
    if (split) snprintf(set->split, sizeof set->split, "%s", split);
    set->raw = strcmp(text, "raw") == 0;
    CHECK(set->raw || strcmp(text, "sent") == 0, STATUS_INVALID, "--text %s: sent or raw", text);
    TRY(common_images(&set->library, args, &set->folder));
    TRY(scan_files(set, args));
    TRY(group_rows((const uint64_t *)set->ref_image.value, set->ref_image.count, &set->items));
    source->num_items = set->items.num_groups;
    source->fingerprint = import_hash(set->raw, set->split, sizeof set->split);
    return common_hash_files(&set->files, &source->fingerprint);
}

static void refcoco_close(struct import_source *source)
{
    struct refcoco *set = source->state;
    if (!set) return;
    free(set->ref_place.value);
    free(set->ref_image.value);
    group_fini(&set->items);
    int_map_fini(&set->image_place);
    int_map_fini(&set->annotation_place);
    common_categories_fini(&set->categories);
    library_fini(&set->library);
    free(set);
    source->state = NULL;
}

static enum status refcoco_open(struct import_source *source, const struct import_args *args)
{
    struct refcoco *set = calloc(1, sizeof *set);
    CHECK(set, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = set;
    enum status status = open_set(set, args, source);
    if (status != STATUS_OK) {
        refcoco_close(source);
        return status;
    }
    source->categories = set->categories.name;
    source->category_ids = set->categories.id;
    source->num_categories = set->categories.count;
    return STATUS_OK;
}

/* ---- one picture --------------------------------------------------------------------------------
 */

static enum status add_picture(const struct refcoco *set, int64_t image_id, struct sample *sample)
{
    struct json_value *image = NULL;
    const struct json_value *name = NULL;
    int64_t width = 0;
    int64_t height = 0;
    int64_t place = int_map_get(&set->image_place, (uint64_t)image_id);
    CHECK(place >= 0, STATUS_INVALID, "image %lld is not in instances.json", (long long)image_id);
    TRY(common_read(&set->files, place, &sample->arena, &image));
    TRY(json_get_string(image, "file_name", &name));
    if (json_get(image, "width")) TRY(json_get_int(image, "width", &width));
    if (json_get(image, "height")) TRY(json_get_int(image, "height", &height));
    return common_add_image(&set->folder, name->text, width, height, sample, NULL);
}

struct target {
    float xyxy[4];
    int32_t category;
};

static enum status find_target(const struct refcoco *set, const struct json_value *ref,
                               struct arena *arena, struct target *target)
{
    struct json_value *annotation = NULL;
    const struct json_value *bbox = NULL;
    double extent[4];
    int64_t id = 0;
    int64_t category = 0;
    TRY(json_get_int(ref, "ann_id", &id));
    int64_t place = int_map_get(&set->annotation_place, (uint64_t)id);
    CHECK(place >= 0, STATUS_INVALID, "annotation %lld is not in instances.json", (long long)id);
    TRY(common_read(&set->files, place, arena, &annotation));
    TRY(json_get_array(annotation, "bbox", &bbox));
    TRY(json_four_numbers(bbox, "bbox", extent));
    TRY(json_get_int(annotation, "category_id", &category));
    common_xywh(extent, target->xyxy);
    target->category = (int32_t)int_map_get(&set->categories.row, (uint64_t)category);
    return STATUS_OK;
}

static enum status add_ref(const struct refcoco *set, const struct json_value *ref,
                           struct sample *sample)
{
    struct target target;
    const struct json_value *sentences = NULL;
    TRY(find_target(set, ref, &sample->arena, &target));
    TRY(json_get_array(ref, "sentences", &sentences));
    for (const struct json_value *v = sentences->child; v; v = v->next) {
        const struct json_value *words = NULL;
        const char *key = NULL;
        int32_t text = 0;
        int32_t box = 0;
        TRY(json_get_string(v, set->raw ? "raw" : "sent", &words));
        if (json_get(v, "sent_id")) TRY(json_get_id(v, "sent_id", &sample->arena, &key));
        TRY(sample_add_text(sample, TEXT_EXPRESSION, 0, words->text, words->length, key, &text));
        TRY(sample_add_box(sample, 0, target.xyxy, &box));
        sample->boxes[box].text = text;
        sample->boxes[box].category = target.category;
        TRY(sample_add_span(sample, box, 0, common_characters(words->text, words->length)));
    }
    return STATUS_OK;
}

static enum status refcoco_fetch(const struct import_source *source, int64_t item,
                                 struct sample *sample)
{
    const struct refcoco *set = source->state;
    for (int64_t i = set->items.first[item]; i < set->items.first[item + 1]; i++) {
        struct json_value *ref = NULL;
        int64_t row = set->items.row[i];
        int64_t place = set->ref_place.value[row];
        enum status status = STATUS_OK;
        if (sample->num_images == 0) {
            status = add_picture(set, set->ref_image.value[row], sample);
            if (status != STATUS_OK) return common_at_place(status, &set->files, place);
        }
        status = common_read(&set->files, place, &sample->arena, &ref);
        if (status == STATUS_OK) status = add_ref(set, ref, sample);
        if (status == STATUS_NO_MEMORY) return status;
        if (status == STATUS_OK) continue;
        common_at_place(status, &set->files, place);
        TRY(sample_reject(sample, "%s", status_message()));
    }
    return STATUS_OK;
}

const struct importer importer_refcoco = {
    .name = "refcoco",
    .summary = "RefCOCO, RefCOCO+, RefCOCOg: referring expressions for COCO boxes",
    .usage = "python3 data/import/refcoco_to_json.py 'refs(unc).p' refs.json\n"
             "weft pack refcoco refs.json instances.json --images train2014 --split train\n"
             "       -o OUT-%05d.h5",
    .options = options,
    .min_sources = 2,
    .max_sources = COMMON_MAX_FILES,
    .open = refcoco_open,
    .fetch = refcoco_fetch,
    .close = refcoco_close,
};
