/*
 * Tar files: an index of the members, which are then read in place.
 *
 * Understood: v7, ustar (with prefix), GNU long names, pax headers (path, size), base-256 sizes.
 * Refused with a message: compressed archives, sparse members, damaged headers, a file that ends
 * within a member. Links are listed but cannot be read.
 */
#ifndef WEFT_DATA_IMPORT_TAR_H
#define WEFT_DATA_IMPORT_TAR_H

#include <stdbool.h>
#include <stdint.h>

#include "data/import/input.h"
#include "runtime/base/status.h"

struct tar_member {
    int64_t name;   /* offset of its name in the index */
    int64_t offset; /* of its bytes in the file */
    int64_t size;   /* bytes */
    int64_t mtime;  /* seconds since 1970 */
    bool link;      /* a hard or symbolic link: no bytes of its own */
};

/* A member while walking; `name` is valid during the visit. */
struct tar_entry {
    const char *name; /* without a leading "./" */
    int64_t header;   /* offset of its first header, where a walk can begin again */
    int64_t offset;   /* of its bytes in the file */
    int64_t size;     /* bytes */
    int64_t mtime;    /* seconds since 1970 */
    bool link;        /* a hard or symbolic link: no bytes of its own */
};

typedef enum status tar_visitor(void *context, const struct tar_entry *entry, bool *stop);

/*
 * Calls `visit` for each member (no directories) from the header at byte `begin` on, until it sets
 * *stop or fails. Thread-safe. Errors: STATUS_CORRUPT with member and offset, STATUS_UNSUPPORTED,
 * STATUS_INVALID (not a tar file), STATUS_IO, STATUS_NO_MEMORY, those of `visit`.
 */
enum status tar_walk(const struct input *file, int64_t begin, tar_visitor *visit, void *context);

/* Members in the order of the file. Names lack a leading "./". Directories are left out. */
struct tar {
    struct input file;
    struct tar_member *members; /* [num_members], owned */
    int64_t num_members;
    int64_t room;
    char *names; /* owned; NUL-terminated names one after the other */
    int64_t names_size;
    int64_t names_room;
    int32_t *by_name; /* [num_members], owned: member numbers in the order of their names */
};

/*
 * Indexes the tar file `file`, which must stay open. Free with tar_fini also after a failure.
 * Errors: those of tar_walk.
 */
enum status tar_init(struct tar *tar, const struct input *file);
void tar_fini(struct tar *tar);

const char *tar_name(const struct tar *tar, const struct tar_member *member);

/* The member called `name`, the last one if there are several (as tar extracts), or NULL. */
const struct tar_member *tar_find(const struct tar *tar, const char *name);

/* The first position in by_name whose name is not below `prefix`. */
int64_t tar_lower_bound(const struct tar *tar, const char *prefix);

/* True when `block` [512] is a tar header with the right checksum. */
bool tar_is_header(const uint8_t *block);

#endif
