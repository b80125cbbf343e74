/*
 * flickr30k: Flickr30k Entities (Plummer et al., ICCV 2015). An item is a picture with its five
 * captions; the boxes of each phrase come with the phrase's span.
 *
 * Phrases and boxes are linked by chain ids: boxes of a chain belong to each mention of it, in all
 * captions. Corners in the XML count pixels from 1 and include the last one, so the box
 * xmin .. xmax is the columns [xmin - 1, xmax).
 */
#include <stdlib.h>
#include <string.h>

#include "data/import/common.h"
#include "data/import/flickr_markup.h"

struct flickr {
    struct library library;
    struct folder images;
    struct folder entities;
    char *names; /* owned; ids with a NUL each, one after the other */
    int64_t names_size;
    int64_t names_room;
    struct int_list id; /* offsets in `names`, one an item */
    uint64_t hash;
};

static const struct import_option options[] = {
    {"images", NULL, "where the pictures lie (default: flickr30k-images beside the entities)"},
    {"split", NULL, "a file of picture ids, one a line, such as train.txt (default: all)"},
    {NULL, NULL, NULL},
};

/* ---- opening ------------------------------------------------------------------------------------
 */

static enum status add_id(struct flickr *set, const char *id, int64_t length)
{
    if (set->names_size + length + 1 > set->names_room) {
        int64_t room = 2 * set->names_room + length + 4096;
        char *names = realloc(set->names, (size_t)room);
        CHECK(names, STATUS_NO_MEMORY, "no memory for the names of pictures");
        set->names = names;
        set->names_room = room;
    }
    TRY(int_list_add(&set->id, set->names_size));
    memcpy(set->names + set->names_size, id, (size_t)length);
    set->names[set->names_size + length] = '\0';
    set->names_size += length + 1;
    return STATUS_OK;
}

static enum status visit(void *context, int place, const char *name, int64_t size, int64_t mtime)
{
    struct flickr *set = context;
    (void)place;
    int64_t facts[2] = {size, mtime};
    int64_t length = (int64_t)strlen(name);
    set->hash = import_hash(set->hash, name, length);
    set->hash = import_hash(set->hash, facts, sizeof facts);
    bool sentence = length > 14 && strncmp(name, "Sentences/", 10) == 0 &&
                    strcmp(name + length - 4, ".txt") == 0;
    return sentence ? add_id(set, name + 10, length - 14) : STATUS_OK;
}

static enum status read_split(struct flickr *set, const char *path)
{
    struct input file;
    TRY(library_open(&set->library, path, &file));
    char *text = malloc((size_t)file.size + 1);
    CHECK(text, STATUS_NO_MEMORY, "%s: no memory to read it", path);
    enum status status = input_read(&file, 0, text, file.size);
    const char *rest = text;
    const char *end = text + file.size;
    while (status == STATUS_OK && rest < end) {
        const char *stop = memchr(rest, '\n', (size_t)(end - rest));
        int64_t length = (stop ? stop : end) - rest;
        const char *id = rest;
        rest += length + 1;
        common_trim(&id, &length);
        if (length > 0) status = add_id(set, id, length);
    }
    free(text);
    TRY(status);
    return input_hash(&file, &set->hash);
}

static enum status open_set(struct flickr *set, const struct import_args *args)
{
    const char *images = import_value(args, "images");
    const char *split = import_value(args, "split");
    if (!images) {
        images = arena_printf(&set->library.arena, "%s/flickr30k-images", args->sources[0]);
        CHECK(images, STATUS_NO_MEMORY, "no memory for a path");
    }
    TRY(library_folder(&set->library, args->sources[0], &set->entities));
    TRY(library_folder(&set->library, images, &set->images));
    if (split) {
        TRY(read_split(set, split));
    } else {
        TRY(folder_walk(&set->entities, visit, set));
    }
    CHECK(set->id.count > 0, STATUS_NOT_FOUND, "%s: no %s", split ? split : args->sources[0],
          split ? "ids in it" : "Sentences/ID.txt in it");
    return STATUS_OK;
}

static void flickr_close(struct import_source *source)
{
    struct flickr *set = source->state;
    if (!set) return;
    free(set->names);
    free(set->id.value);
    library_fini(&set->library);
    free(set);
    source->state = NULL;
}

static enum status flickr_open(struct import_source *source, const struct import_args *args)
{
    struct flickr *set = calloc(1, sizeof *set);
    CHECK(set, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = set;
    enum status status = open_set(set, args);
    source->num_items = set->id.count;
    source->fingerprint = set->hash;
    if (status != STATUS_OK) flickr_close(source);
    return status;
}

/* ---- one picture --------------------------------------------------------------------------------
 */

/* The sentence's phrases get the boxes of their chains; a box with several phrases of one chain
 * gets all their spans. */
static enum status add_boxes(const struct flickr_sentence *sentence,
                             const struct flickr_boxes *boxes, int32_t text, struct sample *sample)
{
    for (const struct flickr_box *b = boxes->first; b; b = b->next) {
        int32_t box = -1;
        for (int i = 0; i < sentence->num_phrases; i++) {
            const struct flickr_phrase *phrase = &sentence->phrase[i];
            if (phrase->chain != b->chain) continue;
            if (box < 0) {
                const float xyxy[4] = {(float)(b->xyxy[0] - 1), (float)(b->xyxy[1] - 1),
                                       (float)b->xyxy[2], (float)b->xyxy[3]};
                TRY(sample_add_box(sample, 0, xyxy, &box));
                sample->boxes[box].text = text;
            }
            TRY(sample_add_span(sample, box, phrase->begin, phrase->end));
        }
    }
    return STATUS_OK;
}

static enum status add_sentence(const char *line, int64_t length, const struct flickr_boxes *boxes,
                                const char *key, struct sample *sample)
{
    struct flickr_sentence sentence;
    int32_t text = 0;
    TRY(flickr_parse_sentence(line, length, &sample->arena, &sentence));
    TRY(sample_add_text(sample, TEXT_CAPTION, 0, sentence.text, sentence.length, key, &text));
    return add_boxes(&sentence, boxes, text, sample);
}

static enum status add_sentences(const char *name, const char *id, const char *text, int64_t length,
                                 const struct flickr_boxes *boxes, struct sample *sample)
{
    for (int number = 0; length > 0; number++) {
        const char *end = memchr(text, '\n', (size_t)length);
        int64_t n = end ? end - text : length;
        const char *line = text;
        int64_t line_length = n;
        common_trim(&line, &line_length);
        text += end ? n + 1 : n;
        length -= end ? n + 1 : n;
        if (line_length == 0) continue;
        const char *key = arena_printf(&sample->arena, "%s#%d", id, number);
        CHECK(key, STATUS_NO_MEMORY, "no memory for a key");
        enum status status = add_sentence(line, line_length, boxes, key, sample);
        if (status == STATUS_NO_MEMORY) return status;
        if (status != STATUS_OK) {
            TRY(sample_reject(sample, "%s: line %d: %s", name, number + 1, status_message()));
        }
    }
    CHECK(sample->num_texts > 0, STATUS_INVALID, "%s: no sentences", name);
    return STATUS_OK;
}

static enum status flickr_fetch(const struct import_source *source, int64_t item,
                                struct sample *sample)
{
    const struct flickr *set = source->state;
    const char *id = set->names + set->id.value[item];
    struct arena *arena = &sample->arena;
    const char *picture = arena_printf(arena, "%s.jpg", id);
    const char *sentences = arena_printf(arena, "Sentences/%s.txt", id);
    const char *annotations = arena_printf(arena, "Annotations/%s.xml", id);
    CHECK(picture && sentences && annotations, STATUS_NO_MEMORY, "no memory for a name");
    const uint8_t *text = NULL;
    const uint8_t *xml = NULL;
    int64_t text_size = 0;
    int64_t xml_size = 0;
    struct flickr_boxes boxes;
    TRY(folder_read(&set->entities, annotations, sample, &xml, &xml_size));
    enum status status = flickr_parse_boxes((const char *)xml, xml_size, arena, &boxes);
    if (status != STATUS_OK) return status_prefix(status, "%s", annotations);
    TRY(common_add_image(&set->images, picture, boxes.width, boxes.height, sample, NULL));
    TRY(folder_read(&set->entities, sentences, sample, &text, &text_size));
    return add_sentences(sentences, id, (const char *)text, text_size, &boxes, sample);
}

const struct importer importer_flickr30k = {
    .name = "flickr30k",
    .summary = "Flickr30k Entities: captions whose phrases have boxes",
    .usage = "weft pack flickr30k flickr30k_entities --images flickr30k-images\n"
             "       [--split flickr30k_entities/train.txt] -o OUT-%05d.h5\n"
             "The folder holds Sentences/ID.txt and Annotations/ID.xml.",
    .options = options,
    .min_sources = 1,
    .max_sources = 1,
    .open = flickr_open,
    .fetch = flickr_fetch,
    .close = flickr_close,
};
