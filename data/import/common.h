/*
 * What several importers share: image folders, annotation files, categories.
 */
#ifndef WEFT_DATA_IMPORT_COMMON_H
#define WEFT_DATA_IMPORT_COMMON_H

#include <stdbool.h>
#include <stdint.h>

#include "data/import/group.h"
#include "data/import/import.h"
#include "data/import/input.h"
#include "data/import/json_value.h"
#include "data/store/sample.h"

/* The option that most formats have. */
#define IMPORT_OPTION_IMAGES                                                                       \
    {                                                                                              \
        "images", NULL,                                                                            \
            "where the pictures lie: folders or tar files, separated by commas "                   \
            "(default: the folder of the annotation file)"                                         \
    }

/* Opens the folders of --images, or else the folder that the first source lies in. Errors:
 * library_folder's. */
enum status common_images(struct library *library, const struct import_args *args,
                          struct folder *folder);

/*
 * Reads picture `name` of the folder and adds it to the sample with its name as key. `width` and
 * `height`, when not 0, are what the annotations say: another size is an error, because boxes would
 * not fit. Errors: folder_read's, image_probe's, STATUS_INVALID, each naming the picture.
 */
enum status common_add_image(const struct folder *folder, const char *name, int64_t width,
                             int64_t height, struct sample *sample, int32_t *image);

/* True for the names of pictures: .jpg, .jpeg, .png, .webp, in any case. */
bool common_is_picture(const char *name);

/* A box given as x, y, width, height, as corners. */
void common_xywh(const double xywh[4], float xyxy[4]);

/* Adds the spans of a box from an array of [begin, end] in characters; `what` is the array's key
 * for messages. Errors: STATUS_INVALID. */
enum status common_add_spans(struct sample *sample, int32_t box, const struct json_value *spans,
                             const char *what);

/* The number of characters (code points) in the first `bytes` bytes of a text. */
int32_t common_characters(const char *text, int64_t bytes);

/* The bytes of the text without white space at both ends. */
void common_trim(const char **text, int64_t *length);

/* ---- annotation files of one JSON object a line ---- */

/* Finds the lines that are not blank: their byte offsets, and the size of the input as the last
 * one. Errors: STATUS_INVALID (no lines), STATUS_IO, STATUS_NO_MEMORY. */
enum status common_lines(const struct input *input, struct int_list *offsets);

/* Reads line `row`, which must be an object. Errors: json.h's, with line and column. Thread-safe.
 */
enum status common_read_line(const struct input *input, const struct int_list *offsets, int64_t row,
                             struct arena *arena, struct json_value **value);

/* ---- annotation files that are one JSON object of arrays
 * -------------------------------------------- */

/*
 * A place in one of several annotation files, in one number, so that an index costs 8 bytes a row.
 * Files are numbered from 0; offsets are below 2^48.
 */
int64_t common_place(int file, int64_t offset);
int common_place_file(int64_t place);
int64_t common_place_offset(int64_t place);

enum { COMMON_MAX_FILES = 64 };

/* The annotation files of one set; their descriptors belong to the library. */
struct common_files {
    struct input file[COMMON_MAX_FILES];
    int count;
};

/* Reads the value at a place into the arena. Errors: json.h's. Thread-safe. */
enum status common_read(const struct common_files *files, int64_t place, struct arena *arena,
                        struct json_value **value);

/* Puts file, line and column of the place in front of this thread's message, unless it has them. */
enum status common_at_place(enum status status, const struct common_files *files, int64_t place);

/* Extends a fingerprint by the bytes of all files. Errors: input_read's. */
enum status common_hash_files(const struct common_files *files, uint64_t *hash);

/* What is done with the elements of one array of the file. The reader stands in front of the
 * element and must be moved behind it. `place` is the element's. */
struct common_array {
    const char *key;
    enum status (*element)(void *context, struct json_reader *reader, int64_t place);
};

/*
 * Opens the annotation file `path` as the next one of `files` and reads it: each element of the
 * arrays named in `arrays` (ended by a NULL key) goes to its function, everything else is skipped.
 * `found` gets a bit for each array that is there. The key "" stands for a file that is an array.
 * Errors: library_open's, json.h's, those of the functions.
 */
enum status common_scan(struct library *library, struct common_files *files, const char *path,
                        const struct common_array *arrays, void *context, unsigned *found);

/* A key that a scan takes out of an element; one of `number` and `text` says what it must be. */
struct common_field {
    const char *key;
    int64_t *number; /* a number without fraction */
    uint64_t *text;  /* group_key of a string */
    bool found;      /* out */
};

/* Reads an object for its `fields` [count]; everything else is skipped, and what is not there keeps
 * its value. Errors: json.h's. */
enum status common_scan_object(struct json_reader *reader, struct common_field *fields, int count);

/* COCO's categories: ids and names in the order of the file. Zero-initialise. */
struct common_categories {
    const char **name; /* [count], owned, names in the arena */
    int64_t *id;       /* [count], owned */
    int64_t count;
    int64_t room;
    struct int_map row; /* of an id */
};

/* For common_scan: reads an element of "categories" into `categories`. Errors: a repeated id is
 * fine with the same name, STATUS_INVALID with another. */
enum status common_add_category(struct common_categories *categories, struct arena *arena,
                                struct json_reader *reader);
void common_categories_fini(struct common_categories *categories);

/* Puts "FILE: line L, column C: " in front of this thread's message; the place is only looked up
 * here. */
enum status common_at(enum status status, const struct input *input, int64_t offset);

#endif
