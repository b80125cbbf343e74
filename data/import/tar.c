/*
 * One pass over the headers, skipping the members' bytes, so that indexing an archive of many
 * gigabytes reads 512 bytes a member. Names lie in one block; a sorted list of member numbers finds
 * them.
 */
#include "data/import/tar.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512, MAX_HEADER_EXTRA = 1 << 20, MAX_MEMBERS = INT32_MAX };

/* What precedes a member: names and sizes too long for its header. */
struct pending {
    char *name; /* owned; NULL: take the header's */
    int64_t size;
    bool has_size;
};

static bool parse_octal(const uint8_t *field, int width, int64_t *value)
{
    int i = 0;
    while (i < width && field[i] == ' ') {
        i++;
    }
    *value = 0;
    for (; i < width && field[i] >= '0' && field[i] <= '7'; i++) {
        if (*value > INT64_MAX >> 4) return false;
        *value = *value * 8 + (field[i] - '0');
    }
    return i == width || field[i] == '\0' || field[i] == ' ';
}

/* Octal digits, or base-256 when the first bit is set (GNU, sizes of 8 GiB and more). */
static bool parse_number(const uint8_t *field, int width, int64_t *value)
{
    if (!(field[0] & 0x80)) return parse_octal(field, width, value);
    *value = field[0] & 0x7f;
    for (int i = 1; i < width; i++) {
        if (*value > INT64_MAX >> 9) return false;
        *value = *value << 8 | field[i];
    }
    return (field[0] & 0x40) == 0; /* negative numbers make no sense here */
}

bool tar_is_header(const uint8_t *block)
{
    int64_t stated;
    if (!parse_octal(block + 148, 8, &stated)) return false;
    int64_t sum = 0;
    int64_t signed_sum = 0; /* some old programs added signed characters */
    for (int i = 0; i < BLOCK; i++) {
        uint8_t byte = i >= 148 && i < 156 ? ' ' : block[i];
        sum += byte;
        signed_sum += (int8_t)byte;
    }
    return stated == sum || stated == signed_sum;
}

static bool is_zero(const uint8_t *block)
{
    for (int i = 0; i < BLOCK; i++) {
        if (block[i]) return false;
    }
    return true;
}

/* The header's own name; `name` has room for 257 bytes. */
static void header_name(const uint8_t *block, char *name)
{
    size_t used = 0;
    bool posix = memcmp(block + 257, "ustar\0", 6) == 0; /* GNU's "ustar  " has no prefix */
    if (posix && block[345]) {
        used = strnlen((const char *)block + 345, 155);
        memcpy(name, block + 345, used);
        name[used++] = '/';
    }
    size_t length = strnlen((const char *)block, 100);
    memcpy(name + used, block, length);
    name[used + length] = '\0';
}

static enum status read_extra(const struct input *file, int64_t at, int64_t size, char **text)
{
    CHECK(size >= 0 && size <= MAX_HEADER_EXTRA, STATUS_CORRUPT,
          "%s: at byte %lld: an extended header of %lld bytes; the tar file is damaged", file->path,
          (long long)at, (long long)size);
    *text = malloc((size_t)size + 1);
    CHECK(*text, STATUS_NO_MEMORY, "%s: no memory for a header", file->path);
    enum status status = input_read(file, at, *text, size);
    if (status != STATUS_OK) {
        free(*text);
        *text = NULL;
        return status;
    }
    (*text)[size] = '\0';
    return STATUS_OK;
}

static enum status set_name(struct pending *pending, const char *name, size_t length)
{
    free(pending->name);
    pending->name = strndup(name, length);
    CHECK(pending->name, STATUS_NO_MEMORY, "no memory for a file name");
    return STATUS_OK;
}

/* "27 path=some/long/name\n", one record after the other; the number counts the whole record. */
static enum status parse_pax(const struct input *file, int64_t at, const char *text, int64_t size,
                             struct pending *pending)
{
    const char *p = text;
    const char *end = text + size;
    while (p < end && *p) {
        char *key = NULL;
        long long length = strtoll(p, &key, 10);
        CHECK(key > p && *key == ' ' && length > 0 && length <= end - p && p[length - 1] == '\n' &&
                  key < p + length,
              STATUS_CORRUPT, "%s: at byte %lld: a bad pax header; the tar file is damaged",
              file->path, (long long)at);
        key++;
        const char *stop = p + length - 1;
        const char *value = memchr(key, '=', (size_t)(stop - key));
        if (value && value - key == 4 && memcmp(key, "path", 4) == 0) {
            TRY(set_name(pending, value + 1, (size_t)(stop - value - 1)));
        } else if (value && value - key == 4 && memcmp(key, "size", 4) == 0) {
            pending->size = strtoll(value + 1, NULL, 10);
            pending->has_size = true;
        } else if (value && value - key > 10 && memcmp(key, "GNU.sparse", 10) == 0) {
            return status_fail(STATUS_UNSUPPORTED,
                               "%s: at byte %lld: a sparse member; make the archive without "
                               "--sparse",
                               file->path, (long long)at);
        }
        p += length;
    }
    return STATUS_OK;
}

/* What one walk over the headers knows. */
struct walk {
    const struct input *file;
    int64_t at;    /* of the next header */
    int64_t start; /* of the first header of the next member, extended ones included */
    struct pending pending;
};

/* Takes in an extended header, of `size` bytes at `at`: it says something about what follows. */
static enum status take_extra(struct walk *walk, char type, int64_t at, int64_t size)
{
    char *text = NULL;
    if (type == 'K' || type == 'g') return STATUS_OK; /* link targets and defaults: not needed */
    TRY(read_extra(walk->file, at, size, &text));
    enum status status = type == 'L' ? set_name(&walk->pending, text, strnlen(text, (size_t)size))
                                     : parse_pax(walk->file, at, text, size, &walk->pending);
    free(text);
    return status;
}

/* Moves past the member whose bytes begin at `offset`. */
static enum status step_over(struct walk *walk, const char *name, int64_t offset, int64_t size)
{
    const struct input *file = walk->file;
    int64_t left = file->size - offset;
    CHECK(size <= left, STATUS_CORRUPT,
          "%s: the file ends within '%s' (at byte %lld, %lld bytes are missing); copy it again",
          file->path, name, (long long)walk->at, (long long)(size - left));
    int64_t padded = (size + BLOCK - 1) / BLOCK * BLOCK;
    walk->at = padded > left ? file->size : offset + padded;
    return STATUS_OK;
}

/* Reads the header at walk->at; `entry` is filled in when `*found`. Its name lives in `own_name` or
 * in walk->pending. */
static enum status read_header(struct walk *walk, const uint8_t *block, char *own_name,
                               struct tar_entry *entry, bool *found)
{
    const struct input *file = walk->file;
    header_name(block, own_name);
    const char *name = walk->pending.name ? walk->pending.name : own_name;
    char type = (char)block[156];
    bool extra = type == 'L' || type == 'K' || type == 'x' || type == 'g';
    int64_t size = 0;
    int64_t mtime = 0;
    bool sound = parse_number(block + 124, 12, &size) && parse_number(block + 136, 12, &mtime);
    if (walk->pending.has_size && !extra) size = walk->pending.size;
    CHECK(sound && size >= 0, STATUS_CORRUPT,
          "%s: '%s', at byte %lld: a bad size; the tar file is damaged", file->path, name,
          (long long)walk->at);
    CHECK(type != 'S', STATUS_UNSUPPORTED,
          "%s: '%s' is a sparse member; make the archive without --sparse", file->path, name);
    bool link = type == '1' || type == '2';
    if (link || (type >= '3' && type <= '6')) size = 0; /* what has a size here has no bytes */
    int64_t offset = walk->at + BLOCK;
    TRY(step_over(walk, name, offset, size));
    *found = false;
    if (extra) return take_extra(walk, type, offset, size);
    while (strncmp(name, "./", 2) == 0) {
        name += 2;
    }
    size_t length = strlen(name);
    bool regular = type == '0' || type == '\0' || type == '7' || link;
    *found = regular && length > 0 && name[length - 1] != '/';
    *entry = (struct tar_entry){name, walk->start, offset, size, mtime, link};
    return STATUS_OK;
}

static enum status refuse_start(const struct input *file, const uint8_t *block)
{
    static const struct {
        const char *bytes;
        size_t length;
    } compressed[] = {{"\x1f\x8b", 2}, {"BZh", 3}, {"\xfd\x37zXZ", 5}, {"\x28\xb5\x2f\xfd", 4}};
    for (size_t i = 0; i < sizeof compressed / sizeof compressed[0]; i++) {
        if (memcmp(block, compressed[i].bytes, compressed[i].length) != 0) continue;
        return status_fail(STATUS_UNSUPPORTED, "%s: a compressed archive; decompress it first",
                           file->path);
    }
    return status_fail(STATUS_INVALID, "%s: not a tar file", file->path);
}

static enum status walk_on(struct walk *walk, tar_visitor *visit, void *context)
{
    const struct input *file = walk->file;
    uint8_t block[BLOCK];
    bool stop = false;
    while (!stop && walk->at < file->size) {
        CHECK(file->size - walk->at >= BLOCK, walk->at ? STATUS_CORRUPT : STATUS_INVALID,
              walk->at ? "%s: the tar file ends within a header; copy it again"
                       : "%s: not a tar file",
              file->path);
        TRY(input_read(file, walk->at, block, BLOCK));
        if (is_zero(block)) break; /* the end; whatever follows is padding */
        if (!tar_is_header(block)) {
            if (walk->at == 0) return refuse_start(file, block);
            return status_fail(STATUS_CORRUPT,
                               "%s: at byte %lld: no member header where one should be; the tar "
                               "file is damaged",
                               file->path, (long long)walk->at);
        }
        char own_name[260];
        struct tar_entry entry;
        bool found = false;
        TRY(read_header(walk, block, own_name, &entry, &found));
        char type = (char)block[156];
        if (found) TRY(visit(context, &entry, &stop));
        if (type == 'L' || type == 'K' || type == 'x' || type == 'g') continue;
        free(walk->pending.name);
        walk->pending = (struct pending){0};
        walk->start = walk->at;
    }
    return STATUS_OK;
}

enum status tar_walk(const struct input *file, int64_t begin, tar_visitor *visit, void *context)
{
    struct walk walk = {.file = file, .at = begin, .start = begin};
    enum status status = walk_on(&walk, visit, context);
    free(walk.pending.name);
    return status;
}

/* ---- the index ----------------------------------------------------------------------------------
 */

static enum status grow(void **array, int64_t *room, int64_t need, size_t width)
{
    if (need <= *room) return STATUS_OK;
    int64_t next = *room ? *room : 64;
    while (next < need) {
        next *= 2;
    }
    void *memory = realloc(*array, (size_t)next * width);
    CHECK(memory, STATUS_NO_MEMORY, "no memory for an index of %lld bytes",
          (long long)next * (long long)width);
    *array = memory;
    *room = next;
    return STATUS_OK;
}

static enum status add_member(void *context, const struct tar_entry *entry, bool *stop)
{
    struct tar *tar = context;
    (void)stop;
    int64_t length = (int64_t)strlen(entry->name);
    CHECK(tar->num_members < MAX_MEMBERS, STATUS_UNSUPPORTED, "%s: more than %lld members",
          tar->file.path, (long long)MAX_MEMBERS);
    void *names = tar->names;
    void *members = tar->members;
    TRY(grow(&names, &tar->names_room, tar->names_size + length + 1, 1));
    tar->names = names;
    TRY(grow(&members, &tar->room, tar->num_members + 1, sizeof *tar->members));
    tar->members = members;
    memcpy(tar->names + tar->names_size, entry->name, (size_t)length + 1);
    tar->members[tar->num_members++] =
        (struct tar_member){tar->names_size, entry->offset, entry->size, entry->mtime, entry->link};
    tar->names_size += length + 1;
    return STATUS_OK;
}

static int compare_names(const void *a, const void *b, void *context)
{
    const struct tar *tar = context;
    int32_t i = *(const int32_t *)a;
    int32_t j = *(const int32_t *)b;
    int order = strcmp(tar_name(tar, &tar->members[i]), tar_name(tar, &tar->members[j]));
    return order ? order : (i > j) - (i < j);
}

enum status tar_init(struct tar *tar, const struct input *file)
{
    *tar = (struct tar){.file = *file};
    TRY(tar_walk(file, 0, add_member, tar));
    tar->by_name = malloc((size_t)(tar->num_members + 1) * sizeof *tar->by_name);
    CHECK(tar->by_name, STATUS_NO_MEMORY, "%s: no memory for an index of %lld members", file->path,
          (long long)tar->num_members);
    for (int64_t i = 0; i < tar->num_members; i++) {
        tar->by_name[i] = (int32_t)i;
    }
    qsort_r(tar->by_name, (size_t)tar->num_members, sizeof *tar->by_name, compare_names, tar);
    return STATUS_OK;
}

void tar_fini(struct tar *tar)
{
    free(tar->members);
    free(tar->names);
    free(tar->by_name);
    *tar = (struct tar){0};
}

const char *tar_name(const struct tar *tar, const struct tar_member *member)
{
    return tar->names + member->name;
}

int64_t tar_lower_bound(const struct tar *tar, const char *prefix)
{
    int64_t low = 0;
    int64_t high = tar->num_members;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (strcmp(tar_name(tar, &tar->members[tar->by_name[middle]]), prefix) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct tar_member *tar_find(const struct tar *tar, const char *name)
{
    const struct tar_member *found = NULL;
    for (int64_t i = tar_lower_bound(tar, name); i < tar->num_members; i++) {
        const struct tar_member *member = &tar->members[tar->by_name[i]];
        if (strcmp(tar_name(tar, member), name) != 0) break;
        found = member;
    }
    return found;
}
