#include "runtime/checkpoint/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "runtime/base/arena.h"
#include "runtime/base/bf16.h"
#include "runtime/base/file_io.h"

enum { LENGTH_BYTES = 8, HEADER_MAX = 100000000 /* the format's own limit */ };

struct safetensors {
    struct arena arena;
    const char *path;
    int file; /* -1: parsed from memory */
    struct safetensors_entry *entries;
    int64_t count;
};

static const struct {
    const char *name;
    enum safetensors_dtype dtype;
    int64_t size;
} dtypes[] = {
    {"F32", SAFETENSORS_F32, 4},       {"F16", SAFETENSORS_F16, 2},
    {"BF16", SAFETENSORS_BF16, 2},     {"F64", SAFETENSORS_F64, 8},
    {"I64", SAFETENSORS_I64, 8},       {"I32", SAFETENSORS_OTHER, 4},
    {"I16", SAFETENSORS_OTHER, 2},     {"I8", SAFETENSORS_OTHER, 1},
    {"U8", SAFETENSORS_OTHER, 1},      {"BOOL", SAFETENSORS_OTHER, 1},
    {"U16", SAFETENSORS_OTHER, 2},     {"U32", SAFETENSORS_OTHER, 4},
    {"U64", SAFETENSORS_OTHER, 8},     {"F8_E4M3", SAFETENSORS_OTHER, 1},
    {"F8_E5M2", SAFETENSORS_OTHER, 1}, {"C64", SAFETENSORS_OTHER, 8},
};
enum { NUM_DTYPES = sizeof dtypes / sizeof dtypes[0] };

/* ---- the header ---- */

static enum status read_dtype(struct safetensors *file, json_t *value,
                              struct safetensors_entry *entry, int64_t *size)
{
    const char *name = json_string_value(json_object_get(value, "dtype"));
    CHECK(name, STATUS_CORRUPT, "%s: '%s' has no dtype", file->path, entry->name);
    for (int i = 0; i < NUM_DTYPES; i++) {
        if (strcmp(name, dtypes[i].name) != 0) continue;
        entry->dtype = dtypes[i].dtype;
        entry->dtype_name = dtypes[i].name;
        *size = dtypes[i].size;
        return STATUS_OK;
    }
    return status_fail(STATUS_UNSUPPORTED, "%s: '%s' is of the type '%.20s', which is not known",
                       file->path, entry->name, name);
}

static enum status read_shape(struct safetensors *file, json_t *value,
                              struct safetensors_entry *entry)
{
    json_t *shape = json_object_get(value, "shape");
    CHECK(json_is_array(shape), STATUS_CORRUPT, "%s: '%s' has no shape", file->path, entry->name);
    size_t rank = json_array_size(shape);
    CHECK(rank <= SHAPE_MAX_RANK, STATUS_UNSUPPORTED, "%s: '%s' has %zu dimensions, more than %d",
          file->path, entry->name, rank, SHAPE_MAX_RANK);
    entry->shape.rank = (int)rank;
    entry->count = 1;
    for (size_t i = 0; i < rank; i++) {
        json_t *size = json_array_get(shape, i);
        int64_t dim = json_is_integer(size) ? (int64_t)json_integer_value(size) : -1;
        bool fits = dim >= 0 && !__builtin_mul_overflow(entry->count, dim, &entry->count);
        CHECK(fits, STATUS_CORRUPT, "%s: '%s' has a shape that is none", file->path, entry->name);
        entry->shape.dim[i] = dim;
    }
    return STATUS_OK;
}

static enum status read_entry(struct safetensors *file, json_t *value, int64_t data_begin,
                              int64_t data_bytes, struct safetensors_entry *entry)
{
    int64_t size = 0;
    CHECK(json_is_object(value), STATUS_CORRUPT, "%s: '%s' is not described", file->path,
          entry->name);
    TRY(read_dtype(file, value, entry, &size));
    TRY(read_shape(file, value, entry));
    json_t *range = json_object_get(value, "data_offsets");
    json_t *first = json_array_get(range, 0);
    json_t *last = json_array_get(range, 1);
    CHECK(json_array_size(range) == 2 && json_is_integer(first) && json_is_integer(last),
          STATUS_CORRUPT, "%s: '%s' has no data_offsets", file->path, entry->name);
    int64_t begin = (int64_t)json_integer_value(first);
    int64_t end = (int64_t)json_integer_value(last);
    CHECK(begin >= 0 && begin <= end && end <= data_bytes, STATUS_CORRUPT,
          "%s: '%s' lies at bytes %" PRId64 " to %" PRId64 " of %" PRId64 ": the file was cut "
          "short or is damaged",
          file->path, entry->name, begin, end, data_bytes);
    CHECK(!__builtin_mul_overflow(entry->count, size, &entry->bytes) && entry->bytes == end - begin,
          STATUS_CORRUPT, "%s: '%s' has %" PRId64 " bytes, which is not its shape", file->path,
          entry->name, end - begin);
    entry->offset = data_begin + begin;
    return STATUS_OK;
}

static int compare_places(const void *a, const void *b)
{
    const struct safetensors_entry *x = a;
    const struct safetensors_entry *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return strcmp(x->name, y->name);
}

static enum status read_entries(struct safetensors *file, json_t *root, int64_t data_begin,
                                int64_t data_bytes)
{
    size_t room = json_object_size(root) + 1;
    file->entries = arena_alloc(&file->arena, room * sizeof *file->entries);
    CHECK(file->entries, STATUS_NO_MEMORY, "%s: no memory for its header", file->path);
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (strcmp(key, "__metadata__") == 0) continue;
        struct safetensors_entry *entry = &file->entries[file->count++];
        entry->name = arena_strdup(&file->arena, key);
        CHECK(entry->name, STATUS_NO_MEMORY, "%s: no memory for its header", file->path);
        TRY(read_entry(file, value, data_begin, data_bytes, entry));
    }
    qsort(file->entries, (size_t)file->count, sizeof *file->entries, compare_places);
    return STATUS_OK;
}

/* Bytes of the JSON, from the first eight of the file. */
static enum status header_bytes(const char *path, const uint8_t *head, int64_t size,
                                int64_t file_bytes, int64_t *bytes)
{
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0 && size >= LENGTH_BYTES; i--) {
        length = length << 8 | head[i];
    }
    CHECK(size >= LENGTH_BYTES && length >= 2 && length <= HEADER_MAX, STATUS_INVALID,
          "%s: not a safetensors file", path);
    CHECK((int64_t)length <= file_bytes - LENGTH_BYTES, STATUS_CORRUPT,
          "%s: the file ends within its header: it was cut short", path);
    *bytes = (int64_t)length;
    return STATUS_OK;
}

static enum status parse(struct safetensors *file, const uint8_t *head, int64_t size,
                         int64_t file_bytes)
{
    int64_t length;
    TRY(header_bytes(file->path, head, size, file_bytes, &length));
    CHECK(length <= size - LENGTH_BYTES, STATUS_INTERNAL, "%s: the header is not whole",
          file->path);
    json_error_t error;
    json_t *root = json_loadb((const char *)head + LENGTH_BYTES, (size_t)length,
                              JSON_REJECT_DUPLICATES, &error);
    CHECK(root, STATUS_INVALID, "%s: not a safetensors file: its header is no JSON (%s)",
          file->path, error.text);
    enum status status = STATUS_OK;
    int64_t begin = LENGTH_BYTES + length;
    if (!json_is_object(root)) {
        status = status_fail(STATUS_INVALID, "%s: not a safetensors file: its header is no object",
                             file->path);
    } else {
        status = read_entries(file, root, begin, file_bytes - begin);
    }
    json_decref(root);
    return status;
}

/* ---- opening ---- */

static enum status create(struct safetensors **created, const char *path)
{
    struct safetensors *file = calloc(1, sizeof *file);
    CHECK(file, STATUS_NO_MEMORY, "%s: no memory to open it", path);
    file->file = -1;
    file->path = arena_strdup(&file->arena, path);
    if (!file->path) {
        safetensors_close(&file);
        status_fail(STATUS_NO_MEMORY, "%s: no memory to open it", path);
        return STATUS_NO_MEMORY;
    }
    *created = file;
    return STATUS_OK;
}

enum status safetensors_parse(struct safetensors **parsed, const char *path, const void *head,
                              int64_t size, int64_t file_bytes)
{
    *parsed = NULL;
    struct safetensors *file = NULL;
    TRY(create(&file, path));
    enum status status = parse(file, head, size, file_bytes);
    if (status != STATUS_OK) {
        safetensors_close(&file);
        return status;
    }
    *parsed = file;
    return STATUS_OK;
}

static enum status read_header(struct safetensors *file)
{
    struct stat info;
    uint8_t start[LENGTH_BYTES];
    CHECK(fstat(file->file, &info) == 0, STATUS_IO, "%s: cannot look at it: %s", file->path,
          strerror(errno));
    CHECK(S_ISREG(info.st_mode) && info.st_size > LENGTH_BYTES, STATUS_INVALID,
          "%s: not a safetensors file", file->path);
    TRY(file_read_at(file->file, file->path, start, sizeof start, 0));
    int64_t length;
    TRY(header_bytes(file->path, start, sizeof start, info.st_size, &length));
    uint8_t *head = malloc((size_t)(LENGTH_BYTES + length));
    CHECK(head, STATUS_NO_MEMORY, "%s: no memory for a header of %" PRId64 " bytes", file->path,
          length);
    enum status status = file_read_at(file->file, file->path, head, LENGTH_BYTES + length, 0);
    if (status == STATUS_OK) status = parse(file, head, LENGTH_BYTES + length, info.st_size);
    free(head);
    return status;
}

enum status safetensors_open(struct safetensors **opened, const char *path)
{
    *opened = NULL;
    struct safetensors *file = NULL;
    TRY(create(&file, path));
    file->file = open(path, O_RDONLY | O_CLOEXEC);
    enum status status = STATUS_OK;
    if (file->file < 0) {
        status = status_fail(errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: cannot open: %s",
                             path, strerror(errno));
    }
    if (status == STATUS_OK) status = read_header(file);
    if (status != STATUS_OK) {
        safetensors_close(&file);
        return status;
    }
    *opened = file;
    return STATUS_OK;
}

void safetensors_close(struct safetensors **file)
{
    if (!*file) return;
    if ((*file)->file >= 0) close((*file)->file);
    arena_fini(&(*file)->arena);
    free(*file);
    *file = NULL;
}

int64_t safetensors_count(const struct safetensors *file)
{
    return file->count;
}

const struct safetensors_entry *safetensors_at(const struct safetensors *file, int64_t index)
{
    return &file->entries[index];
}

const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name)
{
    for (int64_t i = 0; i < file->count; i++) {
        if (strcmp(file->entries[i].name, name) == 0) return &file->entries[i];
    }
    return NULL;
}

/* ---- values ---- */

static float f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = half >> 10 & 0x1Fu;
    uint32_t fraction = half & 0x3FFu;
    uint32_t bits;
    float value;
    if (exponent == 0) { /* zero and subnormal: exact in f32 */
        value = (float)fraction * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
        bits |= sign;
    } else if (exponent == 0x1F) {
        bits = sign | 0x7F800000u | fraction << 13;
    } else {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

bool safetensors_is_float(const struct safetensors_entry *entry)
{
    return entry->dtype == SAFETENSORS_F32 || entry->dtype == SAFETENSORS_F16 ||
           entry->dtype == SAFETENSORS_BF16 || entry->dtype == SAFETENSORS_F64;
}

static void convert(enum safetensors_dtype dtype, const void *raw, int64_t count, float *out)
{
    for (int64_t i = 0; i < count; i++) {
        if (dtype == SAFETENSORS_F64) {
            out[i] = (float)((const double *)raw)[i];
        } else if (dtype == SAFETENSORS_F16) {
            out[i] = f16_to_f32(((const uint16_t *)raw)[i]);
        } else {
            out[i] = bf16_to_f32(((const uint16_t *)raw)[i]);
        }
    }
}

enum status safetensors_read(const struct safetensors *file, const struct safetensors_entry *entry,
                             float *out)
{
    CHECK(safetensors_is_float(entry), STATUS_UNSUPPORTED,
          "%s: '%s' is of type %s, and floats are wanted", file->path, entry->name,
          entry->dtype_name);
    if (entry->dtype == SAFETENSORS_F32) {
        return file_read_at(file->file, file->path, out, entry->bytes, entry->offset);
    }
    enum { PART = 1 << 16 };
    int64_t size = entry->dtype == SAFETENSORS_F64 ? 8 : 2;
    void *raw = malloc((size_t)(PART * size));
    CHECK(raw, STATUS_NO_MEMORY, "%s: no memory to read '%s'", file->path, entry->name);
    enum status status = STATUS_OK;
    for (int64_t at = 0; at < entry->count && status == STATUS_OK; at += PART) {
        int64_t count = entry->count - at < PART ? entry->count - at : PART;
        status = file_read_at(file->file, file->path, raw, count * size, entry->offset + at * size);
        if (status == STATUS_OK) convert(entry->dtype, raw, count, out + at);
    }
    free(raw);
    return status;
}
