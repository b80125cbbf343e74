#include "data/import/input.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/import/import.h"
#include "data/import/tar.h"

enum { HASH_BUFFER = 1 << 20, LOCATE_BUFFER = 1 << 16, MAX_FILE = 1 << 30 };

static enum status no_memory(const char *path)
{
    return status_fail(STATUS_NO_MEMORY, "%s: no memory", path);
}

static enum status system_error(const char *path)
{
    bool missing = errno == ENOENT || errno == ENOTDIR;
    return status_fail(missing ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s", path,
                       missing ? "no such file" : strerror(errno));
}

enum status input_read(const struct input *input, int64_t at, void *bytes, int64_t size)
{
    CHECK(at >= 0 && size >= 0 && size <= input->size && at <= input->size - size, STATUS_CORRUPT,
          "%s: bytes %lld to %lld of %lld: the file ends before", input->path, (long long)at,
          (long long)(at + size), (long long)input->size);
    int64_t done = 0;
    while (done < size) {
        ssize_t n = pread(input->fd, (char *)bytes + done, (size_t)(size - done),
                          input->offset + at + done);
        if (n < 0 && errno == EINTR) continue;
        CHECK(n >= 0, STATUS_IO, "%s: %s", input->path, strerror(errno));
        CHECK(n > 0, STATUS_CORRUPT, "%s: the file became shorter while it was read", input->path);
        done += n;
    }
    return STATUS_OK;
}

enum status input_hash(const struct input *input, uint64_t *hash)
{
    uint8_t *buffer = malloc(HASH_BUFFER);
    if (!buffer) return no_memory(input->path);
    enum status status = STATUS_OK;
    for (int64_t at = 0; at < input->size && status == STATUS_OK; at += HASH_BUFFER) {
        int64_t n = input->size - at < HASH_BUFFER ? input->size - at : HASH_BUFFER;
        status = input_read(input, at, buffer, n);
        if (status == STATUS_OK) *hash = import_hash(*hash, buffer, n);
    }
    free(buffer);
    return status;
}

void input_locate(const struct input *input, int64_t position, int64_t *line, int64_t *column)
{
    uint8_t buffer[LOCATE_BUFFER];
    *line = 1;
    *column = 1;
    for (int64_t at = 0; at < position; at += LOCATE_BUFFER) {
        int64_t n = position - at < LOCATE_BUFFER ? position - at : LOCATE_BUFFER;
        if (input_read(input, at, buffer, n) != STATUS_OK) return;
        for (int64_t i = 0; i < n; i++) {
            *column += 1;
            if (buffer[i] != '\n') continue;
            *line += 1;
            *column = 1;
        }
    }
}

/* ---- library ------------------------------------------------------------------------------------
 */

/* Opens a regular file on disk; the library closes it. */
static enum status open_disk(struct library *library, const char *path, struct input *input)
{
    int *fds = realloc(library->fds, (size_t)(library->num_fds + 1) * sizeof *fds);
    if (!fds) return no_memory(path);
    library->fds = fds;
    input->path = arena_strdup(&library->arena, path);
    if (!input->path) return no_memory(path);
    input->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (input->fd < 0) return system_error(path);
    fds[library->num_fds++] = input->fd;
    struct stat info;
    if (fstat(input->fd, &info) != 0) return system_error(path);
    CHECK(!S_ISDIR(info.st_mode), STATUS_INVALID, "%s: a folder where a file is expected", path);
    CHECK(S_ISREG(info.st_mode), STATUS_INVALID, "%s: not a regular file; save it to disk first",
          path);
    input->offset = 0;
    input->size = info.st_size;
    return STATUS_OK;
}

/* The length of the part of `path` that is a regular file on disk with more to come, or 0. */
static size_t file_prefix(const char *path)
{
    char part[4096];
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t length = (size_t)(slash - path);
        if (length == 0) continue;
        if (length >= sizeof part) return 0;
        memcpy(part, path, length);
        part[length] = '\0';
        struct stat info;
        if (stat(part, &info) != 0) return 0;
        if (S_ISREG(info.st_mode)) return length;
    }
    return 0;
}

enum status library_tar(struct library *library, const char *path, const struct tar **tar)
{
    for (int i = 0; i < library->num_tars; i++) {
        if (strcmp(library->tars[i]->file.path, path) == 0) {
            *tar = library->tars[i];
            return STATUS_OK;
        }
    }
    struct input file;
    TRY(open_disk(library, path, &file));
    struct tar **tars = realloc(library->tars, (size_t)(library->num_tars + 1) * sizeof *tars);
    if (!tars) return no_memory(path);
    library->tars = tars;
    struct tar *opened = calloc(1, sizeof *opened);
    if (!opened) return no_memory(path);
    tars[library->num_tars++] = opened;
    TRY(tar_init(opened, &file));
    *tar = opened;
    return STATUS_OK;
}

/* Splits a path into a tar file and what follows it; *tar NULL when it does not lead into one. */
static enum status split_path(struct library *library, const char *path, const struct tar **tar,
                              const char **rest)
{
    size_t length = file_prefix(path);
    *tar = NULL;
    *rest = path;
    if (length == 0) return STATUS_OK;
    char *part = arena_strndup(&library->arena, path, length);
    if (!part) return no_memory(path);
    enum status status = library_tar(library, part, tar);
    if (status == STATUS_INVALID) return status_prefix(status, "%s", path);
    *rest = path + length + 1;
    return status;
}

static enum status member_input(const struct tar *tar, const char *name, const char *path,
                                struct input *input)
{
    const struct tar_member *member = tar_find(tar, name);
    CHECK(member, STATUS_NOT_FOUND, "%s: no member '%s' in the tar file", tar->file.path, name);
    CHECK(!member->link, STATUS_UNSUPPORTED,
          "%s: '%s' is a link; make the archive with --dereference --hard-dereference",
          tar->file.path, name);
    *input = (struct input){tar->file.fd, tar->file.offset + member->offset, member->size, path};
    return STATUS_OK;
}

enum status library_open(struct library *library, const char *path, struct input *input)
{
    const struct tar *tar;
    const char *rest;
    TRY(split_path(library, path, &tar, &rest));
    if (!tar) return open_disk(library, path, input);
    char *kept = arena_strdup(&library->arena, path);
    if (!kept) return no_memory(path);
    return member_input(tar, rest, kept, input);
}

bool library_is_tar(const char *path)
{
    if (file_prefix(path)) return true;
    uint8_t block[512];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, block, sizeof block);
    close(fd);
    return n == (ssize_t)sizeof block && block[0] && tar_is_header(block);
}

static enum status open_place(struct library *library, char *path, struct folder_place *place)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') {
        path[--length] = '\0';
    }
    place->path = path;
    place->prefix = "";
    struct stat info;
    const char *rest = "";
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return STATUS_OK;
        CHECK(library_is_tar(path), STATUS_INVALID, "%s: neither a folder nor a tar file", path);
        return library_tar(library, path, &place->tar);
    }
    TRY(split_path(library, path, &place->tar, &rest));
    CHECK(place->tar, STATUS_NOT_FOUND, "%s: no such folder", path);
    place->prefix = arena_printf(&library->arena, "%s/", rest);
    if (!place->prefix) return no_memory(path);
    int64_t first = tar_lower_bound(place->tar, place->prefix);
    bool any = first < place->tar->num_members &&
               strncmp(tar_name(place->tar, &place->tar->members[place->tar->by_name[first]]),
                       place->prefix, strlen(place->prefix)) == 0;
    CHECK(any, STATUS_NOT_FOUND, "%s: no folder '%s' in the tar file", place->tar->file.path, rest);
    return STATUS_OK;
}

enum status library_folder(struct library *library, const char *paths, struct folder *folder)
{
    int count = 1;
    for (const char *p = paths; *p; p++) {
        count += *p == ',';
    }
    char *list = arena_strdup(&library->arena, paths);
    folder->place = arena_alloc(&library->arena, (size_t)count * sizeof *folder->place);
    if (!list || !folder->place) return no_memory(paths);
    folder->num_places = 0;
    for (char *rest = list, *path = strsep(&rest, ","); path; path = strsep(&rest, ",")) {
        CHECK(*path, STATUS_INVALID, "'%s': an empty name in a list of folders", paths);
        TRY(open_place(library, path, &folder->place[folder->num_places]));
        folder->num_places++;
    }
    return STATUS_OK;
}

const char *library_parent(struct library *library, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return ".";
    if (slash == path) return "/";
    return arena_strndup(&library->arena, path, (size_t)(slash - path));
}

void library_fini(struct library *library)
{
    for (int i = 0; i < library->num_tars; i++) {
        tar_fini(library->tars[i]);
        free(library->tars[i]);
    }
    for (int i = 0; i < library->num_fds; i++) {
        close(library->fds[i]);
    }
    free(library->tars);
    free(library->fds);
    arena_fini(&library->arena);
    *library = (struct library){0};
}

/* ---- folders ------------------------------------------------------------------------------------
 */

/* Writes "place/name" to `path` (4096 bytes); false when it does not fit. */
static bool join(char *path, const char *place, const char *name)
{
    int length = name[0] == '/' ? snprintf(path, 4096, "%s", name)
                                : snprintf(path, 4096, "%s/%s", place, name);
    return length > 0 && length < 4096;
}

/* The name within the tar, without a leading "./". */
static bool join_member(char *path, const struct folder_place *place, const char *name)
{
    while (strncmp(name, "./", 2) == 0) {
        name += 2;
    }
    int length = snprintf(path, 4096, "%s%s", place->prefix, name);
    return length > 0 && length < 4096;
}

static const struct folder_place *find_place(const struct folder *folder, const char *name,
                                             char *path)
{
    for (int i = 0; i < folder->num_places; i++) {
        const struct folder_place *place = &folder->place[i];
        if (place->tar && name[0] != '/') {
            if (join_member(path, place, name) && tar_find(place->tar, path)) return place;
        } else if (join(path, place->path, name) && access(path, F_OK) == 0) {
            return place;
        }
    }
    return NULL;
}

bool folder_has(const struct folder *folder, const char *name)
{
    char path[4096];
    return find_place(folder, name, path) != NULL;
}

static enum status read_member(const struct folder_place *place, const char *name,
                               struct sample *sample, const uint8_t **bytes, int64_t *size)
{
    struct input input = {0};
    TRY(member_input(place->tar, name, place->tar->file.path, &input));
    CHECK(input.size > 0 && input.size <= MAX_FILE, STATUS_INVALID, "%s: '%s' has %lld bytes",
          input.path, name, (long long)input.size);
    uint8_t *memory = sample_alloc(sample, input.size);
    if (!memory) return no_memory(name);
    enum status status = input_read(&input, 0, memory, input.size);
    if (status != STATUS_OK) return status_prefix(status, "%s", name);
    *bytes = memory;
    *size = input.size;
    return STATUS_OK;
}

enum status folder_read(const struct folder *folder, const char *name, struct sample *sample,
                        const uint8_t **bytes, int64_t *size)
{
    char path[4096];
    const struct folder_place *place = find_place(folder, name, path);
    if (!place) {
        const char *first = folder->num_places ? folder->place[0].path : ".";
        return status_fail(STATUS_NOT_FOUND, "no file '%s' in %s%s", name, first,
                           folder->num_places > 1 ? " or the other folders" : "");
    }
    if (place->tar && name[0] != '/') return read_member(place, path, sample, bytes, size);
    return sample_read_file(sample, path, bytes, size);
}

typedef enum status visitor(void *context, int place, const char *name, int64_t size,
                            int64_t mtime);

static enum status walk_tar(const struct folder_place *place, int number, visitor *visit,
                            void *context)
{
    const struct tar *tar = place->tar;
    size_t length = strlen(place->prefix);
    for (int64_t i = tar_lower_bound(tar, place->prefix); i < tar->num_members; i++) {
        const struct tar_member *member = &tar->members[tar->by_name[i]];
        const char *name = tar_name(tar, member);
        if (strncmp(name, place->prefix, length) != 0) break;
        if (member->link || tar_find(tar, name) != member) continue;
        TRY(visit(context, number, name + length, member->size, member->mtime));
    }
    return STATUS_OK;
}

static int compare_entries(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static enum status walk_disk(const struct folder_place *place, int number, visitor *visit,
                             void *context)
{
    char *paths[2] = {strdup(place->path), NULL};
    if (!paths[0]) return no_memory(place->path);
    FTS *walk = fts_open(paths, FTS_LOGICAL | FTS_NOCHDIR, compare_entries);
    enum status status = walk ? STATUS_OK : system_error(place->path);
    size_t length = strlen(place->path) + 1;
    if (strcmp(place->path, "/") == 0) length = 1;
    for (FTSENT *entry; status == STATUS_OK && (entry = fts_read(walk)) != NULL;) {
        if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS) {
            errno = entry->fts_errno;
            status = status_fail(STATUS_IO, "%s: %s", entry->fts_path, strerror(errno));
        } else if (entry->fts_info == FTS_F) {
            status = visit(context, number, entry->fts_path + length, entry->fts_statp->st_size,
                           entry->fts_statp->st_mtim.tv_sec);
        }
    }
    if (walk) fts_close(walk);
    free(paths[0]);
    return status;
}

enum status folder_walk(const struct folder *folder, visitor *visit, void *context)
{
    for (int i = 0; i < folder->num_places; i++) {
        const struct folder_place *place = &folder->place[i];
        TRY(place->tar ? walk_tar(place, i, visit, context) : walk_disk(place, i, visit, context));
    }
    return STATUS_OK;
}
