/*
 * mdetr: grounding annotations in MDETR's form, which FIBER's fine stage and GLIP use too. A COCO
 * file whose "images" are pairs of a picture and its "caption", and whose annotations have
 * "tokens_positive": character spans of the caption.
 *
 * The same picture comes with many captions, in as many entries. They are grouped by file name, so
 * that its bytes are stored once. Spans are Python string indices, that is, code points, as in
 * weft.
 */
#include <stdlib.h>
#include <string.h>

#include "data/import/common.h"

struct mdetr {
    struct library library;
    struct folder folder;
    struct common_files files;
    enum text_kind kind;
    struct int_list entry_place;    /* of each element of "images" */
    struct int_list entry_id;       /* while opening */
    struct int_list entry_name;     /* while opening: hash of its file name */
    struct int_list box_place;      /* of each annotation */
    struct int_list box_entry;      /* while opening: the id of the entry it belongs to */
    struct grouping items;          /* entries by file name */
    struct grouping boxes;          /* annotations by entry id */
    struct int_list boxes_of_entry; /* group in `boxes`, or -1 */
    struct int_list strays;         /* groups of annotations without an entry; they fail */
};

static const struct import_option options[] = {
    IMPORT_OPTION_IMAGES,
    {"kind", "caption", "caption, or expression for RefCOCO sets: what the texts are"},
    {NULL, NULL, NULL},
};

/* ---- opening ------------------------------------------------------------------------------------
 */

static enum status scan_entry(void *context, struct json_reader *reader, int64_t place)
{
    struct mdetr *set = context;
    int64_t id = -1;
    uint64_t name_key = 0;
    struct common_field fields[] = {{.key = "id", .number = &id},
                                    {.key = "file_name", .text = &name_key}};
    TRY(common_scan_object(reader, fields, 2));
    if (!fields[0].found) return json_fail(reader, "an image without \"id\"");
    TRY(int_list_add(&set->entry_place, place));
    TRY(int_list_add(&set->entry_id, id));
    return int_list_add(&set->entry_name, (int64_t)name_key);
}

static enum status scan_box(void *context, struct json_reader *reader, int64_t place)
{
    struct mdetr *set = context;
    int64_t image = -1;
    struct common_field field = {.key = "image_id", .number = &image};
    TRY(common_scan_object(reader, &field, 1));
    if (!field.found) return json_fail(reader, "an annotation without \"image_id\"");
    TRY(int_list_add(&set->box_place, place));
    return int_list_add(&set->box_entry, image);
}

/* Tells each entry its group of annotations. */
static enum status join(struct mdetr *set, struct int_map *entry_of_id)
{
    for (int64_t i = 0; i < set->entry_id.count; i++) {
        int64_t row = 0;
        TRY(int_map_put(entry_of_id, (uint64_t)set->entry_id.value[i], i, &row));
        if (row != i) {
            return common_at_place(status_fail(STATUS_INVALID, "a second image with id %lld",
                                               (long long)set->entry_id.value[i]),
                                   &set->files, set->entry_place.value[i]);
        }
        TRY(int_list_add(&set->boxes_of_entry, -1));
    }
    for (int64_t g = 0; g < set->boxes.num_groups; g++) {
        int64_t id = set->box_entry.value[set->boxes.row[set->boxes.first[g]]];
        int64_t entry = int_map_get(entry_of_id, (uint64_t)id);
        if (entry >= 0) {
            set->boxes_of_entry.value[entry] = g;
        } else {
            TRY(int_list_add(&set->strays, g));
        }
    }
    return STATUS_OK;
}

static enum status scan_files(struct mdetr *set, const struct import_args *args)
{
    static const struct common_array arrays[] = {
        {"images", scan_entry}, {"annotations", scan_box}, {NULL, NULL}};
    for (int i = 0; i < args->num_sources; i++) {
        unsigned found = 0;
        TRY(common_scan(&set->library, &set->files, args->sources[i], arrays, set, &found));
        CHECK(found == 3, STATUS_INVALID, "%s: no \"%s\"; is it a grounding file in MDETR's form?",
              args->sources[i], found & 1 ? "annotations" : "images");
    }
    return STATUS_OK;
}

static enum status open_set(struct mdetr *set, const struct import_args *args,
                            struct import_source *source)
{
    const char *kind = import_value(args, "kind");
    set->kind = strcmp(kind, "expression") == 0 ? TEXT_EXPRESSION : TEXT_CAPTION;
    CHECK(set->kind == TEXT_EXPRESSION || strcmp(kind, "caption") == 0, STATUS_INVALID,
          "--kind %s: caption or expression", kind);
    TRY(common_images(&set->library, args, &set->folder));
    TRY(scan_files(set, args));
    TRY(group_rows((const uint64_t *)set->entry_name.value, set->entry_name.count, &set->items));
    TRY(group_rows((const uint64_t *)set->box_entry.value, set->box_entry.count, &set->boxes));
    struct int_map entry_of_id = {0};
    enum status status = join(set, &entry_of_id);
    int_map_fini(&entry_of_id);
    TRY(status);
    source->num_items = set->items.num_groups + set->strays.count;
    source->fingerprint = set->kind;
    return common_hash_files(&set->files, &source->fingerprint);
}

static void free_list(struct int_list *list)
{
    free(list->value);
    *list = (struct int_list){0};
}

static void free_temporaries(struct mdetr *set)
{
    free_list(&set->entry_id);
    free_list(&set->entry_name);
    free_list(&set->box_entry);
}

static void mdetr_close(struct import_source *source)
{
    struct mdetr *set = source->state;
    if (!set) return;
    free_temporaries(set);
    free_list(&set->entry_place);
    free_list(&set->box_place);
    free_list(&set->boxes_of_entry);
    free_list(&set->strays);
    group_fini(&set->items);
    group_fini(&set->boxes);
    library_fini(&set->library);
    free(set);
    source->state = NULL;
}

static enum status mdetr_open(struct import_source *source, const struct import_args *args)
{
    struct mdetr *set = calloc(1, sizeof *set);
    CHECK(set, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = set;
    enum status status = open_set(set, args, source);
    free_temporaries(set);
    if (status != STATUS_OK) mdetr_close(source);
    return status;
}

/* ---- one picture --------------------------------------------------------------------------------
 */

static enum status add_box(const struct mdetr *set, int64_t place, int32_t text,
                           struct sample *sample)
{
    struct json_value *annotation = NULL;
    const struct json_value *bbox = NULL;
    const struct json_value *spans = NULL;
    double extent[4];
    float xyxy[4];
    int32_t box = 0;
    TRY(common_read(&set->files, place, &sample->arena, &annotation));
    TRY(json_get_array(annotation, "bbox", &bbox));
    TRY(json_four_numbers(bbox, "bbox", extent));
    TRY(json_get_array(annotation, "tokens_positive", &spans));
    CHECK(spans->count > 0, STATUS_INVALID, "\"tokens_positive\" is empty: the box has no words");
    common_xywh(extent, xyxy);
    TRY(sample_add_box(sample, 0, xyxy, &box));
    sample->boxes[box].text = text;
    return common_add_spans(sample, box, spans, "tokens_positive");
}

static enum status add_entry(const struct mdetr *set, int64_t row, struct sample *sample)
{
    struct json_value *entry = NULL;
    const struct json_value *name = NULL;
    const struct json_value *caption = NULL;
    const char *id = NULL;
    int64_t width = 0;
    int64_t height = 0;
    int32_t text = 0;
    TRY(common_read(&set->files, set->entry_place.value[row], &sample->arena, &entry));
    TRY(json_get_string(entry, "file_name", &name));
    TRY(json_get_id(entry, "id", &sample->arena, &id));
    if (json_get(entry, "width")) TRY(json_get_int(entry, "width", &width));
    if (json_get(entry, "height")) TRY(json_get_int(entry, "height", &height));
    if (sample->num_images == 0) {
        TRY(common_add_image(&set->folder, name->text, width, height, sample, NULL));
    }
    CHECK(strcmp(sample->images[0].key, name->text) == 0, STATUS_INTERNAL,
          "two file names with one hash: '%s' and '%s'", sample->images[0].key, name->text);
    TRY(json_get_string(entry, "caption", &caption));
    TRY(sample_add_text(sample, set->kind, 0, caption->text, caption->length, id, &text));
    int64_t group = set->boxes_of_entry.value[row];
    if (group < 0) return STATUS_OK;
    for (int64_t i = set->boxes.first[group]; i < set->boxes.first[group + 1]; i++) {
        int32_t num_boxes = sample->num_boxes;
        int32_t num_spans = sample->num_spans;
        int64_t place = set->box_place.value[set->boxes.row[i]];
        enum status status = add_box(set, place, text, sample);
        if (status == STATUS_OK) continue;
        if (status == STATUS_NO_MEMORY) return status;
        sample->num_boxes = num_boxes;
        sample->num_spans = num_spans;
        common_at_place(status, &set->files, place);
        TRY(sample_reject(sample, "%s", status_message()));
    }
    return STATUS_OK;
}

static enum status mdetr_fetch(const struct import_source *source, int64_t item,
                               struct sample *sample)
{
    const struct mdetr *set = source->state;
    if (item >= set->items.num_groups) {
        int64_t group = set->strays.value[item - set->items.num_groups];
        int64_t place = set->box_place.value[set->boxes.row[set->boxes.first[group]]];
        return common_at_place(status_fail(STATUS_INVALID, "its image_id is not in \"images\""),
                               &set->files, place);
    }
    for (int64_t i = set->items.first[item]; i < set->items.first[item + 1]; i++) {
        int64_t row = set->items.row[i];
        enum status status = add_entry(set, row, sample);
        if (status != STATUS_OK) {
            return common_at_place(status, &set->files, set->entry_place.value[row]);
        }
    }
    return STATUS_OK;
}

const struct importer importer_mdetr = {
    .name = "mdetr",
    .summary = "grounding JSON in MDETR's form: captions, boxes, tokens_positive",
    .usage =
        "weft pack mdetr final_flickr_separateGT_train.json --images DIR[,DIR...]\n"
        "       -o OUT-%05d.h5\n"
        "Entries of one file_name become one picture with several captions. For RefCOCO sets in\n"
        "this form say --kind expression.",
    .options = options,
    .min_sources = 1,
    .max_sources = COMMON_MAX_FILES,
    .open = mdetr_open,
    .fetch = mdetr_fetch,
    .close = mdetr_close,
};
