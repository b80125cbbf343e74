/*
 * coco: COCO captions and instances, apart or joined by image id. An item is an image of "images".
 *
 * The files are streamed once. What stays in memory is 8 to 16 bytes for each image and annotation:
 * ids, and the places in the files to which fetching comes back. Polygons are skipped both times.
 */
#include <stdlib.h>
#include <string.h>

#include "data/import/common.h"

struct coco {
    struct library library;
    struct folder folder;
    struct common_files files;
    struct int_list image_place;      /* of each image, in its file */
    struct int_list name_key;         /* while opening: hash of each image's file name */
    struct int_map image_row;         /* of an image id */
    struct int_list annotation_place; /* of each annotation */
    struct int_list annotation_image; /* while opening: its image id */
    struct grouping by_image;         /* annotations by image id */
    struct int_list group_of_item;    /* -1: an image without annotations */
    struct common_categories categories;
    bool keep_empty;
    bool name_objects; /* a list of what is boxed is the caption of an image that has none */
};

static const struct import_option options[] = {
    IMPORT_OPTION_IMAGES,
    {"empty", "keep", "keep or skip images without any annotation"},
    {"name-objects", "no", "give images without a caption one that lists what is boxed in them"},
    {NULL, NULL, NULL},
};

/* ---- opening ------------------------------------------------------------------------------------
 */

static enum status scan_image(void *context, struct json_reader *reader, int64_t place)
{
    struct coco *coco = context;
    int64_t id = -1;
    int64_t row = 0;
    uint64_t name_key = 0;
    struct common_field fields[] = {{.key = "id", .number = &id},
                                    {.key = "file_name", .text = &name_key}};
    TRY(common_scan_object(reader, fields, 2));
    if (!fields[0].found) return json_fail(reader, "an image without \"id\"");
    TRY(int_map_put(&coco->image_row, (uint64_t)id, coco->image_place.count, &row));
    if (row < coco->image_place.count) { /* the other file's, or a repetition */
        if ((uint64_t)coco->name_key.value[row] == name_key) return STATUS_OK;
        return json_fail(reader,
                         "image %lld has another file_name here than before; pack sets "
                         "whose ids overlap one by one",
                         (long long)id);
    }
    TRY(int_list_add(&coco->image_place, place));
    return int_list_add(&coco->name_key, (int64_t)name_key);
}

static enum status scan_annotation(void *context, struct json_reader *reader, int64_t place)
{
    struct coco *coco = context;
    int64_t image = -1;
    struct common_field field = {.key = "image_id", .number = &image};
    TRY(common_scan_object(reader, &field, 1));
    if (!field.found) return json_fail(reader, "an annotation without \"image_id\"");
    TRY(int_list_add(&coco->annotation_place, place));
    return int_list_add(&coco->annotation_image, image);
}

static enum status scan_category(void *context, struct json_reader *reader, int64_t place)
{
    struct coco *coco = context;
    (void)place;
    return common_add_category(&coco->categories, &coco->library.arena, reader);
}

static enum status scan_files(struct coco *coco, const struct import_args *args)
{
    static const struct common_array arrays[] = {{"images", scan_image},
                                                 {"annotations", scan_annotation},
                                                 {"categories", scan_category},
                                                 {NULL, NULL}};
    for (int i = 0; i < args->num_sources; i++) {
        unsigned found = 0;
        TRY(common_scan(&coco->library, &coco->files, args->sources[i], arrays, coco, &found));
        CHECK((found & 3) == 3, STATUS_INVALID,
              "%s: no \"%s\"; is it a COCO file of captions or instances?", args->sources[i],
              found & 1 ? "annotations" : "images");
    }
    return STATUS_OK;
}

/* Items: the images, then the groups of annotations whose image is in no file (these fail later).
 */
static enum status list_items(struct coco *coco, int64_t *num_items)
{
    int64_t images = coco->image_place.count;
    TRY(group_rows((const uint64_t *)coco->annotation_image.value, coco->annotation_image.count,
                   &coco->by_image));
    for (int64_t i = 0; i < images; i++) {
        TRY(int_list_add(&coco->group_of_item, -1));
    }
    for (int64_t g = 0; g < coco->by_image.num_groups; g++) {
        int64_t id = coco->annotation_image.value[coco->by_image.row[coco->by_image.first[g]]];
        int64_t row = int_map_get(&coco->image_row, (uint64_t)id);
        if (row >= 0) {
            coco->group_of_item.value[row] = g;
        } else {
            TRY(int_list_add(&coco->image_place, -1));
            TRY(int_list_add(&coco->group_of_item, g));
        }
    }
    if (!coco->keep_empty) {
        int64_t kept = 0;
        for (int64_t i = 0; i < coco->group_of_item.count; i++) {
            if (coco->group_of_item.value[i] < 0) continue;
            coco->group_of_item.value[kept] = coco->group_of_item.value[i];
            coco->image_place.value[kept++] = coco->image_place.value[i];
        }
        coco->group_of_item.count = coco->image_place.count = kept;
    }
    *num_items = coco->group_of_item.count;
    return STATUS_OK;
}

static enum status open_set(struct coco *coco, const struct import_args *args,
                            struct import_source *source)
{
    const char *empty = import_value(args, "empty");
    coco->keep_empty = strcmp(empty, "keep") == 0;
    CHECK(coco->keep_empty || strcmp(empty, "skip") == 0, STATUS_INVALID,
          "--empty %s: keep or skip", empty);
    TRY(common_images(&coco->library, args, &coco->folder));
    TRY(scan_files(coco, args));
    TRY(list_items(coco, &source->num_items));
    TRY(import_value_bool(args, "name-objects", &coco->name_objects));
    source->fingerprint = coco->keep_empty + 2 * (uint64_t)coco->name_objects;
    return common_hash_files(&coco->files, &source->fingerprint);
}

static void free_list(struct int_list *list)
{
    free(list->value);
    *list = (struct int_list){0};
}

/* What only opening needs. */
static void free_temporaries(struct coco *coco)
{
    free_list(&coco->name_key);
    free_list(&coco->annotation_image);
    int_map_fini(&coco->image_row);
}

static void coco_close(struct import_source *source)
{
    struct coco *coco = source->state;
    if (!coco) return;
    free_temporaries(coco);
    free_list(&coco->image_place);
    free_list(&coco->annotation_place);
    free_list(&coco->group_of_item);
    group_fini(&coco->by_image);
    common_categories_fini(&coco->categories);
    library_fini(&coco->library);
    free(coco);
    source->state = NULL;
}

static enum status coco_open(struct import_source *source, const struct import_args *args)
{
    struct coco *coco = calloc(1, sizeof *coco);
    CHECK(coco, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = coco;
    enum status status = open_set(coco, args, source);
    if (status != STATUS_OK) {
        coco_close(source);
        return status;
    }
    free_temporaries(coco);
    source->categories = coco->categories.name;
    source->category_ids = coco->categories.id;
    source->num_categories = coco->categories.count;
    return STATUS_OK;
}

/* ---- one image ----------------------------------------------------------------------------------
 */

static enum status add_picture(const struct coco *coco, int64_t place, struct sample *sample)
{
    struct json_value *image = NULL;
    const struct json_value *name = NULL;
    int64_t width = 0;
    int64_t height = 0;
    TRY(common_read(&coco->files, place, &sample->arena, &image));
    TRY(json_get_string(image, "file_name", &name));
    if (json_get(image, "width")) TRY(json_get_int(image, "width", &width));
    if (json_get(image, "height")) TRY(json_get_int(image, "height", &height));
    return common_add_image(&coco->folder, name->text, width, height, sample, NULL);
}

static enum status add_box(const struct coco *coco, const struct json_value *annotation,
                           const struct json_value *bbox, struct sample *sample)
{
    double extent[4];
    float xyxy[4];
    int32_t box = 0;
    int64_t category = 0;
    TRY(json_four_numbers(bbox, "bbox", extent));
    TRY(json_get_int(annotation, "category_id", &category));
    int64_t row = int_map_get(&coco->categories.row, (uint64_t)category);
    CHECK(row >= 0, STATUS_INVALID, "category_id %lld is not in \"categories\"",
          (long long)category);
    common_xywh(extent, xyxy);
    TRY(sample_add_box(sample, 0, xyxy, &box));
    sample->boxes[box].category = (int32_t)row;
    const struct json_value *crowd = json_get(annotation, "iscrowd");
    sample->boxes[box].crowd = crowd && (crowd->boolean || crowd->number != 0);
    return STATUS_OK;
}

static enum status add_annotation(const struct coco *coco, int64_t place, struct sample *sample)
{
    struct json_value *annotation = NULL;
    TRY(common_read(&coco->files, place, &sample->arena, &annotation));
    const struct json_value *caption = json_get(annotation, "caption");
    const struct json_value *bbox = json_get(annotation, "bbox");
    CHECK(caption || bbox, STATUS_INVALID, "an annotation with neither \"caption\" nor \"bbox\"");
    if (bbox) TRY(add_box(coco, annotation, bbox, sample));
    if (!caption) return STATUS_OK;
    const char *id = NULL;
    TRY(json_get_string(annotation, "caption", &caption));
    if (json_get(annotation, "id")) TRY(json_get_id(annotation, "id", &sample->arena, &id));
    const char *text = caption->text;
    int64_t length = caption->length;
    common_trim(&text, &length); /* COCO's captions often end with a line feed */
    return sample_add_text(sample, TEXT_CAPTION, 0, text, length, id, NULL);
}

/* "dog, person and car": the categories boxed in the image, each once, in the order of the boxes.
 */
static enum status name_objects(const struct coco *coco, struct sample *sample)
{
    int32_t names[16];
    int count = 0;
    for (int64_t i = 0; i < sample->num_boxes && count < 16; i++) {
        int seen = 0;
        while (seen < count && names[seen] != sample->boxes[i].category) {
            seen++;
        }
        if (seen == count) names[count++] = sample->boxes[i].category;
    }
    const char *text = "";
    for (int i = 0; i < count; i++) {
        const char *join = i == 0 ? "" : i == count - 1 ? " and " : ", ";
        text = arena_printf(&sample->arena, "%s%s%s", text, join, coco->categories.name[names[i]]);
        CHECK(text, STATUS_NO_MEMORY, "no memory for a caption");
    }
    if (count == 0) return STATUS_OK;
    return sample_add_text(sample, TEXT_CAPTION, 0, text, (int64_t)strlen(text), NULL, NULL);
}

static enum status coco_fetch(const struct import_source *source, int64_t item,
                              struct sample *sample)
{
    const struct coco *coco = source->state;
    int64_t group = coco->group_of_item.value[item];
    int64_t begin = group < 0 ? 0 : coco->by_image.first[group];
    int64_t end = group < 0 ? 0 : coco->by_image.first[group + 1];
    if (coco->image_place.value[item] < 0) {
        int64_t place = coco->annotation_place.value[coco->by_image.row[begin]];
        return common_at_place(status_fail(STATUS_INVALID, "its image_id is not in \"images\""),
                               &coco->files, place);
    }
    enum status status = add_picture(coco, coco->image_place.value[item], sample);
    if (status != STATUS_OK)
        return common_at_place(status, &coco->files, coco->image_place.value[item]);
    for (int64_t i = begin; i < end; i++) {
        int64_t place = coco->annotation_place.value[coco->by_image.row[i]];
        status = add_annotation(coco, place, sample);
        if (status == STATUS_NO_MEMORY) return status;
        if (status == STATUS_OK) continue;
        common_at_place(status, &coco->files, place);
        TRY(sample_reject(sample, "%s", status_message()));
    }
    if (coco->name_objects && sample->num_texts == 0) return name_objects(coco, sample);
    return STATUS_OK;
}

const struct importer importer_coco = {
    .name = "coco",
    .summary = "COCO annotations: captions, instances, or both joined by image id",
    .usage = "weft pack coco FILE.json... --images DIR -o OUT-%05d.h5\n"
             "Several files are joined: captions_train2017.json instances_train2017.json gives\n"
             "each image its captions, and its boxes with category and crowd flag.",
    .options = options,
    .min_sources = 1,
    .max_sources = COMMON_MAX_FILES,
    .open = coco_open,
    .fetch = coco_fetch,
    .close = coco_close,
};
