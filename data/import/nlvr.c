/*
 * nlvr: Cornell NLVR v1 (Suhr et al., ACL 2017). An item is a sentence with its six pictures, which
 * show the same three boxes in the six orders; each picture gets the sentence as a statement with
 * its label, and the box of every item drawn.
 *
 * Where items are: `structured_rep` lists the three boxes in the order of picture 0; x_loc and
 * y_loc are the top left corner within a box of 100 x 100 pixels and `size` is the side. Boxes are
 * drawn at x = 0, 150 and 300. Picture K shows them in the K-th permutation of (0, 1, 2), in
 * lexicographic order.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/import/common.h"

enum { NUM_ORDERS = 6, NUM_BOXES = 3, BOX_STEP = 150, NUM_SHAPES = 3, MAX_SPLIT = 64 };

struct nlvr {
    struct library library;
    struct folder folder;
    struct input file;
    char split[MAX_SPLIT]; /* "dev", from the name of the file */
    struct int_list lines;
    bool boxes;
    bool captions; /* true sentences alone, as captions */
};

static const struct import_option options[] = {
    {"images", NULL, "the folder with the folders 0, 1, ... (default: images beside the file)"},
    {"boxes", "yes", "store the boxes of the items drawn"},
    {"captions", "no", "true sentences become captions; the pictures of false ones have no text"},
    {NULL, NULL, NULL},
};

/* Colours as the file writes them, and the category names made from them. */
static const char *const colours[] = {"Black", "Yellow", "#0099ff"};
static const char *const shapes[NUM_SHAPES] = {"circle", "square", "triangle"};
static const char *const categories[] = {
    "black circle",    "black square", "black triangle", "yellow circle", "yellow square",
    "yellow triangle", "blue circle",  "blue square",    "blue triangle",
};
enum { NUM_COLOURS = sizeof colours / sizeof colours[0] };
enum { NUM_CATEGORIES = sizeof categories / sizeof categories[0] };

static void nlvr_close(struct import_source *source)
{
    struct nlvr *nlvr = source->state;
    if (!nlvr) return;
    library_fini(&nlvr->library);
    free(nlvr->lines.value);
    free(nlvr);
    source->state = NULL;
}

static enum status open_set(struct nlvr *nlvr, const struct import_args *args, uint64_t *hash)
{
    const char *path = args->sources[0];
    TRY(import_value_bool(args, "boxes", &nlvr->boxes));
    TRY(import_value_bool(args, "captions", &nlvr->captions));
    TRY(library_open(&nlvr->library, path, &nlvr->file));
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t length = strcspn(name, ".");
    CHECK(length > 0 && length < MAX_SPLIT, STATUS_INVALID,
          "%s: the file's name should be the split's, such as dev.json", path);
    memcpy(nlvr->split, name, length);
    const char *images = import_value(args, "images");
    if (!images) {
        const char *parent = library_parent(&nlvr->library, path);
        images = parent ? arena_printf(&nlvr->library.arena, "%s/images", parent) : NULL;
        CHECK(images, STATUS_NO_MEMORY, "no memory for a path");
    }
    TRY(library_folder(&nlvr->library, images, &nlvr->folder));
    TRY(common_lines(&nlvr->file, &nlvr->lines));
    *hash = nlvr->boxes + 2 * (uint64_t)nlvr->captions;
    return input_hash(&nlvr->file, hash);
}

static enum status nlvr_open(struct import_source *source, const struct import_args *args)
{
    struct nlvr *nlvr = calloc(1, sizeof *nlvr);
    CHECK(nlvr, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = nlvr;
    enum status status = open_set(nlvr, args, &source->fingerprint);
    if (status != STATUS_OK) {
        nlvr_close(source);
        return status;
    }
    source->num_items = nlvr->lines.count - 1;
    source->categories = categories;
    source->num_categories = NUM_CATEGORIES;
    return STATUS_OK;
}

static enum status find_name(const struct json_value *item, const char *key,
                             const char *const *names, int count, int *found)
{
    const struct json_value *value = NULL;
    TRY(json_get_string(item, key, &value));
    for (*found = 0; *found < count; *found += 1) {
        if (strcmp(names[*found], value->text) == 0) return STATUS_OK;
    }
    return status_fail(STATUS_INVALID, "\"%s\": '%s' does not occur in NLVR", key, value->text);
}

static enum status add_item(const struct json_value *item, int32_t image, int place,
                            struct sample *sample)
{
    int colour = 0;
    int shape = 0;
    double x = 0;
    double y = 0;
    double size = 0;
    int32_t box = 0;
    TRY(find_name(item, "color", colours, NUM_COLOURS, &colour));
    TRY(find_name(item, "type", shapes, NUM_SHAPES, &shape));
    TRY(json_get_number(item, "x_loc", &x));
    TRY(json_get_number(item, "y_loc", &y));
    TRY(json_get_number(item, "size", &size));
    float left = (float)(x + BOX_STEP * place);
    const float xyxy[4] = {left, (float)y, left + (float)size, (float)(y + size)};
    TRY(sample_add_box(sample, image, xyxy, &box));
    sample->boxes[box].category = colour * NUM_SHAPES + shape;
    return STATUS_OK;
}

/* The boxes of one picture, whose order of the three boxes is `order`. */
static enum status add_items(const struct json_value *line, int32_t image, const int *order,
                             struct sample *sample)
{
    const struct json_value *boxes = NULL;
    const struct json_value *box[NUM_BOXES];
    TRY(json_get_array(line, "structured_rep", &boxes));
    CHECK(boxes->count == NUM_BOXES, STATUS_INVALID, "\"structured_rep\" has %lld boxes, not 3",
          (long long)boxes->count);
    box[0] = boxes->child;
    box[1] = box[0]->next;
    box[2] = box[1]->next;
    for (int place = 0; place < NUM_BOXES; place++) {
        for (const struct json_value *v = box[order[place]]->child; v; v = v->next) {
            TRY(add_item(v, image, place, sample));
        }
    }
    return STATUS_OK;
}

static enum status get_label(const struct json_value *line, int8_t *label)
{
    const struct json_value *value = NULL;
    TRY(json_get_string(line, "label", &value));
    bool yes = strcasecmp(value->text, "true") == 0;
    CHECK(yes || strcasecmp(value->text, "false") == 0, STATUS_INVALID,
          "\"label\" is '%s', neither true nor false", value->text);
    *label = yes ? TEXT_LABEL_TRUE : TEXT_LABEL_FALSE;
    return STATUS_OK;
}

static enum status add_line(const struct nlvr *nlvr, const struct json_value *line,
                            struct sample *sample)
{
    static const int orders[NUM_ORDERS][NUM_BOXES] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                                      {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    const struct json_value *sentence = NULL;
    const char *id = NULL;
    const char *directory = NULL;
    int8_t label = 0;
    TRY(json_get_string(line, "sentence", &sentence));
    TRY(json_get_id(line, "identifier", &sample->arena, &id));
    TRY(json_get_id(line, "directory", &sample->arena, &directory));
    TRY(get_label(line, &label));
    for (int k = 0; k < NUM_ORDERS; k++) {
        int32_t image = 0;
        int32_t text = 0;
        const char *name =
            arena_printf(&sample->arena, "%s/%s-%s-%d.png", directory, nlvr->split, id, k);
        CHECK(name, STATUS_NO_MEMORY, "no memory for a name");
        TRY(common_add_image(&nlvr->folder, name, 0, 0, sample, &image));
        if (nlvr->boxes) TRY(add_items(line, image, orders[k], sample));
        if (nlvr->captions && label == TEXT_LABEL_FALSE) continue;
        TRY(sample_add_text(sample, nlvr->captions ? TEXT_CAPTION : TEXT_STATEMENT, image,
                            sentence->text, sentence->length, id, &text));
        if (!nlvr->captions) sample->texts[text].label = label;
    }
    return STATUS_OK;
}

static enum status nlvr_fetch(const struct import_source *source, int64_t item,
                              struct sample *sample)
{
    const struct nlvr *nlvr = source->state;
    struct json_value *line = NULL;
    TRY(common_read_line(&nlvr->file, &nlvr->lines, item, &sample->arena, &line));
    enum status status = add_line(nlvr, line, sample);
    if (status == STATUS_OK) return status;
    return common_at(status, &nlvr->file, nlvr->lines.value[item]);
}

const struct importer importer_nlvr = {
    .name = "nlvr",
    .summary = "Cornell NLVR v1: sentences that are true or false of drawings",
    .usage = "weft pack nlvr nlvr/dev/dev.json -o dev-%05d.h5\n"
             "weft pack nlvr dev.tar/dev/dev.json -o dev-%05d.h5   (read inside the tar file)\n"
             "An item is a sentence with its six pictures, each with the boxes of what is drawn.",
    .options = options,
    .min_sources = 1,
    .max_sources = 1,
    .open = nlvr_open,
    .fetch = nlvr_fetch,
    .close = nlvr_close,
};
