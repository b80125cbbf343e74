/*
 * Files of a foreign data set, also inside tar files.
 *
 * A path may run on into a tar file: `set.tar/annotations/captions.json` is a member of set.tar,
 * and `set.tar/train2017` (or `set.tar` itself) is a folder. Importers use these functions for all
 * they read, so each format can be packed without extracting archives.
 *
 * `struct library` keeps what is open. Opening is for one thread (an importer's open), reading is
 * thread-safe afterwards. Not collective.
 */
#ifndef WEFT_DATA_IMPORT_INPUT_H
#define WEFT_DATA_IMPORT_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/store/sample.h"
#include "runtime/base/arena.h"
#include "runtime/base/status.h"

struct tar;

/* A range of bytes of an open file: a whole file, or a member of a tar file. */
struct input {
    int fd;           /* owned by the library */
    int64_t offset;   /* of the first byte */
    int64_t size;     /* bytes */
    const char *path; /* for messages; lives as long as the library */
};

/* Zero-initialise; free with library_fini. */
struct library {
    struct arena arena;
    struct tar **tars; /* [num_tars], owned */
    int num_tars;
    int *fds; /* [num_fds], owned */
    int num_fds;
};

/* One place, or several that are searched in order, where named files lie. */
struct folder {
    int num_places;
    struct folder_place {
        const char *path;      /* as given */
        const struct tar *tar; /* NULL: a directory on disk */
        const char *prefix;    /* within the tar: "" or "train2017/" */
    } * place;
};

/* Opens the file at `path`. Errors: STATUS_NOT_FOUND, STATUS_IO,
 * STATUS_INVALID (a directory), STATUS_CORRUPT (a damaged tar file on the way). */
enum status library_open(struct library *library, const char *path, struct input *input);

/* Opens the folders of the comma-separated list `paths`. Errors as library_open. */
enum status library_folder(struct library *library, const char *paths, struct folder *folder);

/* True when `path` is, or leads into, a tar file. */
bool library_is_tar(const char *path);

/* The tar file that is `path` itself. Errors as library_open; STATUS_INVALID for other files. */
enum status library_tar(struct library *library, const char *path, const struct tar **tar);

/* The folder that `path` lies in: "a/b.json" gives "a"; a bare name gives ".". In the library's
 * memory; NULL when memory is out. */
const char *library_parent(struct library *library, const char *path);

void library_fini(struct library *library);

/* Reads exactly `size` bytes at `at` of the input. Errors: STATUS_IO, STATUS_CORRUPT (the file is
 * shorter than it was), naming the path. Thread-safe. */
enum status input_read(const struct input *input, int64_t at, void *bytes, int64_t size);

/* Extends a fingerprint (import_hash) by all bytes of the input. Errors as input_read. */
enum status input_hash(const struct input *input, uint64_t *hash);

/* Line and column (both from 1, the column in bytes) of byte `position`, for messages: it reads all
 * that comes before. */
void input_locate(const struct input *input, int64_t position, int64_t *line, int64_t *column);

/*
 * Reads the file `name` of the folder into the sample's memory. An absolute name is read from disk
 * as it is. Errors: STATUS_NOT_FOUND (naming the places searched), STATUS_IO, STATUS_INVALID (an
 * empty file, or one above 1 GiB). Thread-safe.
 */
enum status folder_read(const struct folder *folder, const char *name, struct sample *sample,
                        const uint8_t **bytes, int64_t *size);

/* True when the folder has a file `name`. Thread-safe. */
bool folder_has(const struct folder *folder, const char *name);

/*
 * Calls `visit` for each regular file below the folder's places, in a fixed order
 * (bytewise), which are relative to the place. Stops at the first failure and returns it. Errors:
 * STATUS_IO, STATUS_NO_MEMORY, those of `visit`.
 */
enum status folder_walk(const struct folder *folder,
                        enum status (*visit)(void *context, int place, const char *name,
                                             int64_t size, int64_t mtime),
                        void *context);

#endif
