/*
 * folder: pictures with a text file of the same name beside each (a/cat.jpg and a/cat.txt).
 *
 * A text without a picture is an item that fails, so that a mistyped ending does not go unnoticed.
 */
#include <stdlib.h>
#include <string.h>

#include "data/import/common.h"

struct folder_set {
    struct library library;
    struct folder folder;
    struct int_list name; /* offsets in `names`, one an item */
    char *names;          /* owned; NUL-terminated, one after the other */
    int64_t names_size;
    int64_t names_room;
    bool lines; /* each line is a caption; else the whole text is one */
    uint64_t hash;
    struct int_map stems;       /* while opening: pictures by their name without ending */
    struct int_list text_names; /* while opening: offsets of the names of texts */
};

static const struct import_option options[] = {
    {"lines", "yes", "yes: each line of a text is a caption; no: the whole text is one"},
    {NULL, NULL, NULL},
};

static const char *item_name(const struct folder_set *set, int64_t offset)
{
    return set->names + offset;
}

static int64_t stem_length(const char *name)
{
    return strrchr(name, '.') - name;
}

static enum status keep_name(struct folder_set *set, const char *name, int64_t *offset)
{
    int64_t length = (int64_t)strlen(name) + 1;
    if (set->names_size + length > set->names_room) {
        int64_t room = 2 * set->names_room + length + 4096;
        char *names = realloc(set->names, (size_t)room);
        CHECK(names, STATUS_NO_MEMORY, "no memory for the names of files");
        set->names = names;
        set->names_room = room;
    }
    *offset = set->names_size;
    memcpy(set->names + set->names_size, name, (size_t)length);
    set->names_size += length;
    return STATUS_OK;
}

static enum status visit(void *context, int place, const char *name, int64_t size, int64_t mtime)
{
    struct folder_set *set = context;
    (void)place;
    bool picture = common_is_picture(name);
    const char *dot = strrchr(name, '.');
    bool text = dot && strcmp(dot, ".txt") == 0;
    if (!picture && !text) return STATUS_OK;
    int64_t facts[2] = {size, mtime};
    int64_t offset = 0;
    int64_t row = 0;
    set->hash = import_hash(set->hash, name, (int64_t)strlen(name));
    set->hash = import_hash(set->hash, facts, sizeof facts);
    TRY(keep_name(set, name, &offset));
    if (text) return int_list_add(&set->text_names, offset);
    TRY(int_map_put(&set->stems, group_key(name, stem_length(name)), set->name.count, &row));
    CHECK(row == set->name.count, STATUS_INVALID,
          "%s and %s share one text; give them different names",
          item_name(set, set->name.value[row]), name);
    return int_list_add(&set->name, offset);
}

static enum status open_set(struct folder_set *set, const struct import_args *args)
{
    TRY(import_value_bool(args, "lines", &set->lines));
    TRY(library_folder(&set->library, args->sources[0], &set->folder));
    TRY(folder_walk(&set->folder, visit, set));
    CHECK(set->name.count > 0, STATUS_NOT_FOUND, "%s: no .jpg, .jpeg, .png or .webp file in it",
          args->sources[0]);
    for (int64_t i = 0; i < set->text_names.count; i++) {
        const char *name = item_name(set, set->text_names.value[i]);
        if (int_map_get(&set->stems, group_key(name, stem_length(name))) >= 0) continue;
        TRY(int_list_add(&set->name, set->text_names.value[i]));
    }
    return STATUS_OK;
}

static void folder_close(struct import_source *source)
{
    struct folder_set *set = source->state;
    if (!set) return;
    library_fini(&set->library);
    int_map_fini(&set->stems);
    free(set->name.value);
    free(set->text_names.value);
    free(set->names);
    free(set);
    source->state = NULL;
}

static enum status folder_open(struct import_source *source, const struct import_args *args)
{
    struct folder_set *set = calloc(1, sizeof *set);
    CHECK(set, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = set;
    enum status status = open_set(set, args);
    source->num_items = set->name.count;
    source->fingerprint = import_hash(set->hash, &set->lines, sizeof set->lines);
    int_map_fini(&set->stems); /* only for opening */
    if (status != STATUS_OK) folder_close(source);
    return status;
}

static enum status add_texts(struct sample *sample, const char *text, int64_t length, bool lines)
{
    while (length > 0) {
        const char *end = lines ? memchr(text, '\n', (size_t)length) : NULL;
        int64_t n = end ? end - text : length;
        const char *line = text;
        int64_t line_length = n;
        common_trim(&line, &line_length);
        if (line_length > 0) {
            TRY(sample_add_text(sample, TEXT_CAPTION, 0, line, line_length, NULL, NULL));
        }
        if (!end) break;
        text += n + 1;
        length -= n + 1;
    }
    return STATUS_OK;
}

static enum status folder_fetch(const struct import_source *source, int64_t item,
                                struct sample *sample)
{
    const struct folder_set *set = source->state;
    const char *name = item_name(set, set->name.value[item]);
    CHECK(common_is_picture(name), STATUS_INVALID,
          "%s: there is no picture of this name (.jpg, .jpeg, .png, .webp) beside it", name);
    int64_t stem = stem_length(name);
    char *text_name = sample_alloc(sample, stem + 5);
    CHECK(text_name, STATUS_NO_MEMORY, "%s: no memory", name);
    memcpy(text_name, name, (size_t)stem);
    memcpy(text_name + stem, ".txt", 5);
    const uint8_t *text = NULL;
    int64_t length = 0;
    TRY(common_add_image(&set->folder, name, 0, 0, sample, NULL));
    enum status status = folder_read(&set->folder, text_name, sample, &text, &length);
    if (status != STATUS_OK) return status_prefix(status, "%s", name);
    TRY(add_texts(sample, (const char *)text, length, set->lines));
    CHECK(sample->num_texts > 0, STATUS_INVALID, "%s: the text is only white space", text_name);
    return STATUS_OK;
}

const struct importer importer_folder = {
    .name = "folder",
    .summary = "a folder (or tar file) of pictures, each with a .txt file of the same name",
    .usage = "weft pack folder DIR -o OUT-%05d.h5\n"
             "DIR/a/cat.jpg goes with DIR/a/cat.txt, each line of which is a caption. Subfolders\n"
             "are read too; other files are left alone.",
    .options = options,
    .min_sources = 1,
    .max_sources = 1,
    .open = folder_open,
    .fetch = folder_fetch,
    .close = folder_close,
};
