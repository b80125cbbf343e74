/*
 * Arena: many small allocations with one lifetime, freed as a whole. Not safe for concurrent use.
 */
#ifndef WEFT_RUNTIME_BASE_ARENA_H
#define WEFT_RUNTIME_BASE_ARENA_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct arena_block;

/* Zero-initialise to create an empty arena. */
struct arena {
    struct arena_block *head; /* owned; the block that allocations come from */
    size_t total;             /* bytes taken from the system */
};

/* Returns `size` zeroed bytes aligned for any type, or NULL when memory is out. Freed by
 * arena_fini. */
void *arena_alloc(struct arena *arena, size_t size);

/* Returns a copy of the NUL-terminated `text` in the arena, or NULL when memory is out. */
char *arena_strdup(struct arena *arena, const char *text);

/* Returns a copy of `length` bytes of `text` with a NUL added, or NULL when memory is out. */
char *arena_strndup(struct arena *arena, const char *text, size_t length);

/* Formats into the arena like sprintf; NULL when memory is out. */
char *arena_printf(struct arena *arena, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Frees everything that was allocated; the arena is empty and usable again. */
void arena_fini(struct arena *arena);

#ifdef __cplusplus
}
#endif
#endif
