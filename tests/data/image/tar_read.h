/* Members of a ustar file, for tests and benchmarks that read ../shared/data. */
#ifndef WEFT_TESTS_DATA_IMAGE_TAR_READ_H
#define WEFT_TESTS_DATA_IMAGE_TAR_READ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tar_member {
    char name[101];
    const uint8_t *bytes; /* inside the archive */
    size_t size;
};

/* The whole file as malloc'ed bytes, NULL when it cannot be read. */
static inline uint8_t *tar_load(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*size + 1);
    if (bytes && fread(bytes, 1, *size, file) != *size) {
        free(bytes);
        bytes = NULL;
    }
    fclose(file);
    return bytes;
}

/* The member at offset `*at`, which moves to the next one. Returns 0 at the end. */
static inline int tar_next(const uint8_t *archive, size_t size, size_t *at,
                           struct tar_member *member)
{
    if (*at + 512 > size || archive[*at] == 0) return 0;
    const char *header = (const char *)archive + *at;
    memcpy(member->name, header, 100);
    member->name[100] = '\0';
    char length[13] = "";
    memcpy(length, header + 124, 12);
    member->size = (size_t)strtoull(length, NULL, 8);
    member->bytes = archive + *at + 512;
    if (member->size > size - *at - 512) return 0;
    *at += 512 + (member->size + 511) / 512 * 512;
    return 1;
}

#endif
