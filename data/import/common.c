#include "data/import/common.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/image/image.h"

enum { SCAN_BUFFER = 1 << 20 };

/* ---- pictures -----------------------------------------------------------------------------------
 */

enum status common_images(struct library *library, const struct import_args *args,
                          struct folder *folder)
{
    const char *paths = import_value(args, "images");
    if (!paths) paths = library_parent(library, args->sources[0]);
    CHECK(paths, STATUS_NO_MEMORY, "no memory for a path");
    return library_folder(library, paths, folder);
}

enum status common_add_image(const struct folder *folder, const char *name, int64_t width,
                             int64_t height, struct sample *sample, int32_t *image)
{
    const uint8_t *bytes = NULL;
    int64_t size = 0;
    struct image_info info = {0};
    TRY(folder_read(folder, name, sample, &bytes, &size));
    enum status status = image_probe(bytes, (size_t)size, &info);
    if (status != STATUS_OK) return status_prefix(status, "%s", name);
    bool differs = (width && width != info.width) || (height && height != info.height);
    CHECK(!differs, STATUS_INVALID,
          "%s: the picture is %lld x %lld, the annotations say %lld x %lld; use the pictures that "
          "the annotations were made for",
          name, (long long)info.width, (long long)info.height, (long long)width, (long long)height);
    return sample_add_image(sample, bytes, size, name, image);
}

bool common_is_picture(const char *name)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".webp"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof endings[0]; i++) {
        if (strcasecmp(dot, endings[i]) == 0) return true;
    }
    return false;
}

void common_xywh(const double xywh[4], float xyxy[4])
{
    xyxy[0] = (float)xywh[0];
    xyxy[1] = (float)xywh[1];
    xyxy[2] = (float)(xywh[0] + xywh[2]);
    xyxy[3] = (float)(xywh[1] + xywh[3]);
}

enum status common_add_spans(struct sample *sample, int32_t box, const struct json_value *spans,
                             const char *what)
{
    CHECK(spans->type == JSON_ARRAY, STATUS_INVALID, "\"%s\" is not an array", what);
    for (const struct json_value *span = spans->child; span; span = span->next) {
        const struct json_value *begin = span->child;
        bool pair = span->type == JSON_ARRAY && span->count == 2;
        bool good = pair && begin->whole && begin->next->whole && begin->integer >= 0 &&
                    begin->integer <= INT32_MAX && begin->next->integer >= 0 &&
                    begin->next->integer <= INT32_MAX;
        CHECK(good, STATUS_INVALID, "\"%s\" holds something else than [begin, end] in characters",
              what);
        TRY(sample_add_span(sample, box, (int32_t)begin->integer, (int32_t)begin->next->integer));
    }
    return STATUS_OK;
}

int32_t common_characters(const char *text, int64_t bytes)
{
    int32_t count = 0;
    for (int64_t i = 0; i < bytes; i++) {
        count += ((unsigned char)text[i] & 0xc0) != 0x80; /* all but continuation bytes */
    }
    return count;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

void common_trim(const char **text, int64_t *length)
{
    while (*length > 0 && is_space((*text)[0])) {
        *text += 1;
        *length -= 1;
    }
    while (*length > 0 && is_space((*text)[*length - 1])) {
        *length -= 1;
    }
}

/* ---- lines ---- */

static enum status scan_lines(const struct input *input, char *buffer, struct int_list *offsets)
{
    bool blank = true; /* nothing but white space since the line's begin */
    int64_t begin = 0;
    for (int64_t at = 0; at < input->size; at += SCAN_BUFFER) {
        int64_t n = input->size - at < SCAN_BUFFER ? input->size - at : SCAN_BUFFER;
        TRY(input_read(input, at, buffer, n));
        for (int64_t i = 0; i < n; i++) {
            if (blank && !is_space(buffer[i])) {
                TRY(int_list_add(offsets, begin));
                blank = false;
            }
            if (buffer[i] == '\n') {
                begin = at + i + 1;
                blank = true;
            }
        }
    }
    CHECK(offsets->count > 0, STATUS_INVALID, "%s: the file has no lines", input->path);
    return int_list_add(offsets, input->size);
}

enum status common_lines(const struct input *input, struct int_list *offsets)
{
    char *buffer = malloc(SCAN_BUFFER);
    CHECK(buffer, STATUS_NO_MEMORY, "%s: no memory to read it", input->path);
    enum status status = scan_lines(input, buffer, offsets);
    free(buffer);
    return status;
}

enum status common_read_line(const struct input *input, const struct int_list *offsets, int64_t row,
                             struct arena *arena, struct json_value **value)
{
    int64_t begin = offsets->value[row];
    int64_t end = offsets->value[row + 1];
    char last = ' '; /* without its line end, so that a line cut short is reported on that line */
    while (end > begin && is_space(last)) {
        TRY(input_read(input, --end, &last, 1));
    }
    TRY(json_read_at(input, begin, end + 1, arena, value));
    if ((*value)->type == JSON_OBJECT) return STATUS_OK;
    return common_at(
        status_fail(STATUS_INVALID, "%s where an object should be", json_type_name((*value)->type)),
        input, begin);
}

/* ---- annotation files ---------------------------------------------------------------------------
 */

int64_t common_place(int file, int64_t offset)
{
    return (int64_t)file << 48 | offset;
}

int common_place_file(int64_t place)
{
    return (int)(place >> 48);
}

int64_t common_place_offset(int64_t place)
{
    return place & ((INT64_C(1) << 48) - 1);
}

static enum status scan_array(struct json_reader *reader, int file,
                              const struct common_array *array, void *context)
{
    TRY(json_begin(reader, JSON_ARRAY));
    for (;;) {
        bool more = false;
        int64_t offset = 0;
        TRY(json_next(reader, &more));
        if (!more) return STATUS_OK;
        TRY(json_position(reader, &offset));
        TRY(array->element(context, reader, common_place(file, offset)));
    }
}

/* A file that is an array itself goes to the entry with the key "", when there is one. */
static enum status scan_object(struct json_reader *reader, int file,
                               const struct common_array *arrays, void *context, unsigned *found)
{
    const char *key = NULL;
    enum json_type type = JSON_NULL;
    TRY(json_peek(reader, &type));
    for (int i = 0; type == JSON_ARRAY && arrays[i].key; i++) {
        if (arrays[i].key[0]) continue;
        *found |= 1u << i;
        TRY(scan_array(reader, file, &arrays[i], context));
        return json_finish(reader);
    }
    TRY(json_begin(reader, JSON_OBJECT));
    for (;;) {
        TRY(json_next_key(reader, &key));
        if (!key) return json_finish(reader);
        int i = 0;
        while (arrays[i].key && strcmp(arrays[i].key, key) != 0) {
            i++;
        }
        if (arrays[i].key) {
            *found |= 1u << i;
            TRY(scan_array(reader, file, &arrays[i], context));
        } else {
            TRY(json_skip(reader));
        }
    }
}

enum status common_scan(struct library *library, struct common_files *files, const char *path,
                        const struct common_array *arrays, void *context, unsigned *found)
{
    struct json_reader reader;
    CHECK(files->count < COMMON_MAX_FILES, STATUS_INVALID, "%s: more than %d annotation files",
          path, (int)COMMON_MAX_FILES);
    struct input *input = &files->file[files->count];
    TRY(library_open(library, path, input));
    files->count++;
    *found = 0;
    enum status status = json_open(&reader, input, 0, -1, SCAN_BUFFER);
    if (status == STATUS_OK) {
        status = scan_object(&reader, files->count - 1, arrays, context, found);
    }
    json_close(&reader);
    return status;
}

enum status common_read(const struct common_files *files, int64_t place, struct arena *arena,
                        struct json_value **value)
{
    return json_read_at(&files->file[common_place_file(place)], common_place_offset(place), -1,
                        arena, value);
}

enum status common_at_place(enum status status, const struct common_files *files, int64_t place)
{
    const struct input *file = &files->file[common_place_file(place)];
    if (strncmp(status_message(), file->path, strlen(file->path)) == 0) return status;
    return common_at(status, file, common_place_offset(place));
}

enum status common_hash_files(const struct common_files *files, uint64_t *hash)
{
    for (int i = 0; i < files->count; i++) {
        TRY(input_hash(&files->file[i], hash));
    }
    return STATUS_OK;
}

static enum status scan_field(struct json_reader *reader, struct common_field *field)
{
    field->found = true;
    if (field->number) return json_int(reader, field->number);
    const char *text = NULL;
    int64_t length = 0;
    TRY(json_string(reader, &text, &length));
    *field->text = group_key(text, length);
    return STATUS_OK;
}

enum status common_scan_object(struct json_reader *reader, struct common_field *fields, int count)
{
    const char *key = NULL;
    TRY(json_begin(reader, JSON_OBJECT));
    for (;;) {
        TRY(json_next_key(reader, &key));
        if (!key) return STATUS_OK;
        int i = 0;
        while (i < count && strcmp(fields[i].key, key) != 0) {
            i++;
        }
        TRY(i < count ? scan_field(reader, &fields[i]) : json_skip(reader));
    }
}

enum status common_add_category(struct common_categories *categories, struct arena *arena,
                                struct json_reader *reader)
{
    struct json_value *value = NULL;
    const struct json_value *name = NULL;
    int64_t id = 0;
    int64_t row = 0;
    TRY(json_read(reader, arena, &value));
    TRY(json_get_int(value, "id", &id));
    TRY(json_get_string(value, "name", &name));
    TRY(int_map_put(&categories->row, (uint64_t)id, categories->count, &row));
    if (row < categories->count) {
        CHECK(strcmp(categories->name[row], name->text) == 0, STATUS_INVALID,
              "%s: category %lld is '%s' here and '%s' before", reader->input.path, (long long)id,
              name->text, categories->name[row]);
        return STATUS_OK;
    }
    if (categories->count == categories->room) {
        int64_t room = categories->room ? 2 * categories->room : 64;
        void *names = realloc(categories->name, (size_t)room * sizeof *categories->name);
        if (names) categories->name = names;
        void *ids = realloc(categories->id, (size_t)room * sizeof *categories->id);
        if (ids) categories->id = ids;
        CHECK(names && ids, STATUS_NO_MEMORY, "no memory for %lld categories", (long long)room);
        categories->room = room;
    }
    categories->name[categories->count] = name->text;
    categories->id[categories->count++] = id;
    return STATUS_OK;
}

void common_categories_fini(struct common_categories *categories)
{
    free(categories->name);
    free(categories->id);
    int_map_fini(&categories->row);
    *categories = (struct common_categories){0};
}

enum status common_at(enum status status, const struct input *input, int64_t offset)
{
    int64_t line = 0;
    int64_t column = 0;
    char message[1024];
    strncpy(message, status_message(), sizeof message - 1);
    message[sizeof message - 1] = '\0';
    input_locate(input, offset, &line, &column);
    return status_fail(status, "%s: line %lld, column %lld: %s", input->path, (long long)line,
                       (long long)column, message);
}
