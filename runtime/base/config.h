/*
 * Strict YAML configuration: a file is read into plain C structs described by tables of options.
 *
 * A module owns a struct and a table; the table says everything about each key, once:
 *
 *     struct optim_config {
 *         double lr;
 *         int64_t warmup;
 *     };
 *     static const struct config_option optim_options[] = {
 *         CONFIG_DOUBLE(struct optim_config, lr, .def = "1e-4", .range = "(0, 1]",
 *                       .help = "Peak learning rate."),
 *         CONFIG_INT(struct optim_config, warmup, .def = "1000", .range = "[0, inf)",
 *                    .unit = "steps", .help = "Length of the linear warm-up."),
 *     };
 *     const struct config_table optim_table = {
 *         CONFIG_TABLE(struct optim_config, optim_options), .name = "optim",
 *         .help = "The optimiser."};
 *
 * The key is the field's name, and the macros refuse at compile time a field of another C type.
 * Tables compose: CONFIG_SECTION nests one, CONFIG_SECTIONS is a list of them, CONFIG_CHOICE picks
 * one of several by a key such as `type`, CONFIG_EMBED takes over the rows of another without
 * nesting. There is no way to read a key that no table has, so every key of a file is used or
 * refused.
 *
 * The language (includes with `base`, merging, overrides, numbers): docs/config.md.
 * All functions here are not collective; every rank may call them by itself.
 */
#ifndef WEFT_RUNTIME_BASE_CONFIG_H
#define WEFT_RUNTIME_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/base/strbuf.h"

#ifdef __cplusplus
extern "C" {
#endif

struct config;
struct config_section;

enum config_type {
    CONFIG_TYPE_BOOL,    /* bool */
    CONFIG_TYPE_INT,     /* int64_t */
    CONFIG_TYPE_DOUBLE,  /* double, always finite */
    CONFIG_TYPE_STRING,  /* const char *, owned by the config */
    CONFIG_TYPE_ENUM,    /* int or an enum type: index into `names` */
    CONFIG_TYPE_SECTION, /* a struct of `table` in place; `or_null`: a pointer to one */
    CONFIG_TYPE_CHOICE,  /* struct config_variant */
    CONFIG_TYPE_EMBED,   /* a struct of `table` in place whose keys are keys of this table */
};

enum config_shape {
    CONFIG_SHAPE_ONE,
    CONFIG_SHAPE_LIST, /* CONFIG_LIST_OF(type) */
    CONFIG_SHAPE_MAP,  /* CONFIG_MAP_OF(type): keys are free */
};

/* Field types for lists and maps; the arrays are owned by the config. Strings: (const char *). */
#define CONFIG_LIST_OF(ctype)                                                                      \
    struct {                                                                                       \
        ctype const *items;                                                                        \
        int64_t count;                                                                             \
    }
#define CONFIG_MAP_OF(ctype)                                                                       \
    struct {                                                                                       \
        ctype const *items;                                                                        \
        int64_t count;                                                                             \
        const char *const *keys; /* in the order of the file */                                    \
    }

/* What a CONFIG_CHOICE stores. */
struct config_variant {
    const struct config_table *table; /* the one chosen; NULL when absent and `or_null` */
    int index;                        /* its place in `choices` */
    const void *value;                /* a struct of that table, owned by the config */
};

/* One key. Write rows with the macros below; the fields after `size` are given by name. */
struct config_option {
    const char *key;
    enum config_type type;
    enum config_shape shape;
    bool or_null;  /* may be absent; then the pointer stored is NULL (strings, sections, choices) */
    size_t offset; /* of the field in the table's struct */
    size_t size;   /* of one element, bytes */

    /* The value when the key is absent, as YAML text ("0.1", "[1, 2]"; strings and enums literal).
     * NULL: the key is required. Sections have none: theirs are inside. */
    const char *def;
    const char *range;        /* numbers: an interval, "[0, 1)", "(0, inf)"; for each element */
    const char *length;       /* lists and maps: interval of the element count, "[4, 4]" */
    const char *unit;         /* "steps", "pixels", ...; NULL for none */
    const char *only_if;      /* the key counts only when an earlier key of the table says so: */
                              /* "k" (true or present), "k=a", "k=a|b", "k!=a"; refused otherwise */
    const char *help;         /* one sentence, one line */
    const char *const *names; /* enums: ended by NULL */
    const struct config_table *table;          /* sections, embeds */
    const struct config_table *const *choices; /* choices: ended by NULL */
    const char *choose_by;                     /* choices: the key that holds the table's name */
};

struct config_table {
    size_t size; /* of the struct, bytes */
    const struct config_option *options;
    int num_options;
    const char *name; /* what the choosing key says; also in documentation */
    const char *help; /* one sentence, one line */
    /*
     * Optional: whether the values agree with each other, called once all are read. Refuses with
     * config_refuse(section, key, ...), which knows the place in the file.
     */
    enum status (*check)(const void *value, const struct config_section *section);
};

/* The first fields of a table: its struct type and its array of rows. */
#define CONFIG_TABLE(strct, rows)                                                                  \
    .size = sizeof(strct), .options = (rows), .num_options = (int)(sizeof(rows) / sizeof((rows)[0]))

/* Rows. `ctype` is what the field (or an element of it) must be; another type does not compile. */
#define CONFIG_ROW(strct, field, ctype, option_type, ...)                                          \
    {                                                                                              \
        .key = #field, .type = (option_type), .size = sizeof(ctype),                               \
        .offset = _Generic(((strct *)0)->field, ctype                                              \
                           : offsetof(strct, field)),                                              \
        __VA_ARGS__                                                                                \
    }
#define CONFIG_ROW_OF(strct, field, ctype, option_type, ...)                                            \
    {                                                                                                   \
        .key = #field, .type = (option_type), .size = sizeof(ctype),                                  \
     .offset = _Generic(((strct *)0)->field.items, ctype const *: offsetof(strct, field)),         \
     __VA_ARGS__ \
    }
#define CONFIG_ROW_SIZED(strct, field, bytes, option_type, ...)                                    \
    {                                                                                              \
        .key = #field, .type = (option_type), .size = (bytes), .offset = offsetof(strct, field),   \
        __VA_ARGS__                                                                                \
    }

/* Single values. Arguments: struct type, field, ..., at least .help. */
#define CONFIG_BOOL(strct, field, ...) CONFIG_ROW(strct, field, bool, CONFIG_TYPE_BOOL, __VA_ARGS__)
#define CONFIG_INT(strct, field, ...)                                                              \
    CONFIG_ROW(strct, field, int64_t, CONFIG_TYPE_INT, __VA_ARGS__)
#define CONFIG_DOUBLE(strct, field, ...)                                                           \
    CONFIG_ROW(strct, field, double, CONFIG_TYPE_DOUBLE, __VA_ARGS__)
#define CONFIG_STRING(strct, field, ...)                                                           \
    CONFIG_ROW(strct, field, const char *, CONFIG_TYPE_STRING, __VA_ARGS__)
#define CONFIG_STRING_OR_NULL(strct, field, ...)                                                   \
    CONFIG_ROW(strct, field, const char *, CONFIG_TYPE_STRING, .or_null = true, __VA_ARGS__)
#define CONFIG_ENUM(strct, field, name_list, ...)                                                  \
    CONFIG_ROW_SIZED(strct, field, sizeof(((strct *)0)->field), CONFIG_TYPE_ENUM,                  \
                     .names = (name_list), __VA_ARGS__)

/* Lists of values: CONFIG_LIST_OF(int64_t), (double), (const char *). */
#define CONFIG_INTS(strct, field, ...)                                                             \
    CONFIG_ROW_OF(strct, field, int64_t, CONFIG_TYPE_INT, .shape = CONFIG_SHAPE_LIST, __VA_ARGS__)
#define CONFIG_DOUBLES(strct, field, ...)                                                          \
    CONFIG_ROW_OF(strct, field, double, CONFIG_TYPE_DOUBLE, .shape = CONFIG_SHAPE_LIST, __VA_ARGS__)
#define CONFIG_STRINGS(strct, field, ...)                                                          \
    CONFIG_ROW_OF(strct, field, const char *, CONFIG_TYPE_STRING, .shape = CONFIG_SHAPE_LIST,      \
                  __VA_ARGS__)

/* Maps with free keys: CONFIG_MAP_OF(double), (const char *). */
#define CONFIG_DOUBLE_MAP(strct, field, ...)                                                       \
    CONFIG_ROW_OF(strct, field, double, CONFIG_TYPE_DOUBLE, .shape = CONFIG_SHAPE_MAP, __VA_ARGS__)
#define CONFIG_STRING_MAP(strct, field, ...)                                                       \
    CONFIG_ROW_OF(strct, field, const char *, CONFIG_TYPE_STRING, .shape = CONFIG_SHAPE_MAP,       \
                  __VA_ARGS__)

/*
 * Sections of table `tbl`. The field is the table's struct, a const pointer to one (OR_NULL), a
 * CONFIG_LIST_OF or a CONFIG_MAP_OF it.
 */
#define CONFIG_SECTION(strct, field, tbl, ...)                                                     \
    CONFIG_ROW_SIZED(strct, field, sizeof(((strct *)0)->field), CONFIG_TYPE_SECTION,               \
                     .table = &(tbl), __VA_ARGS__)
#define CONFIG_SECTION_OR_NULL(strct, field, tbl, ...)                                             \
    CONFIG_ROW_SIZED(strct, field, sizeof(*((strct *)0)->field), CONFIG_TYPE_SECTION,              \
                     .or_null = true, .table = &(tbl), __VA_ARGS__)
#define CONFIG_SECTIONS(strct, field, tbl, ...)                                                    \
    CONFIG_ROW_SIZED(strct, field, sizeof(*((strct *)0)->field.items), CONFIG_TYPE_SECTION,        \
                     .shape = CONFIG_SHAPE_LIST, .table = &(tbl), __VA_ARGS__)
#define CONFIG_SECTION_MAP(strct, field, tbl, ...)                                                 \
    CONFIG_ROW_SIZED(strct, field, sizeof(*((strct *)0)->field.items), CONFIG_TYPE_SECTION,        \
                     .shape = CONFIG_SHAPE_MAP, .table = &(tbl), __VA_ARGS__)
#define CONFIG_EMBED(strct, field, tbl)                                                            \
    CONFIG_ROW_SIZED(strct, field, sizeof(((strct *)0)->field), CONFIG_TYPE_EMBED, .table = &(tbl))

/*
 * A section whose key `by` (a string, "type") names one of `table_list` (ended by NULL). The field
 * is a struct config_variant, or a CONFIG_LIST_OF it.
 */
#define CONFIG_CHOICE(strct, field, by, table_list, ...)                                           \
    CONFIG_ROW(strct, field, struct config_variant, CONFIG_TYPE_CHOICE, .choose_by = (by),         \
               .choices = (table_list), __VA_ARGS__)
#define CONFIG_CHOICE_OR_NULL(strct, field, by, table_list, ...)                                   \
    CONFIG_ROW(strct, field, struct config_variant, CONFIG_TYPE_CHOICE, .choose_by = (by),         \
               .choices = (table_list), .or_null = true, __VA_ARGS__)
#define CONFIG_CHOICES(strct, field, by, table_list, ...)                                          \
    CONFIG_ROW_OF(strct, field, struct config_variant, CONFIG_TYPE_CHOICE, .choose_by = (by),      \
                  .choices = (table_list), .shape = CONFIG_SHAPE_LIST, __VA_ARGS__)

/*
 * Reads the file `path`, merges it over its bases, applies `num_overrides` texts of the form
 * "a.b=value" (NULL when there are none) in order, and fills `value`, a struct of `table`.
 * On success *out owns every string and array that `value` points to; keep it as long as `value` is
 * used. On failure `value` is zeroed and *out is NULL.
 * Errors: STATUS_INVALID with "file:line:column: key: what is wrong" (the file that the value
 * really came from, or the text of the override); STATUS_NOT_FOUND, STATUS_IO for files.
 */
enum status config_read(const struct config_table *table, const char *path,
                        const char *const *overrides, int num_overrides, void *value,
                        struct config **out);

/*
 * The same from `size` bytes of text. `name` stands for the file in messages and is copied; `base`
 * is refused. Rank 0 may read the files, config_print the result, and the others read that.
 */
enum status config_read_text(const struct config_table *table, const char *name, const char *text,
                             size_t size, const char *const *overrides, int num_overrides,
                             void *value, struct config **out);

/* Frees the config with all strings and arrays of the struct it filled. NULL-safe. */
void config_destroy(struct config **config);

/*
 * Where a value came from, for messages of code that uses it later: "configs/x.yaml:12:5" or
 * "--set data.0.path=x". `format` gives the dotted key ("data.%d.path"); for a value that took its
 * default, the nearest section that was written. Owned by the config. Never NULL.
 */
const char *config_where(struct config *config, const char *format, ...) STATUS_PRINTF(2, 3);

/*
 * For config_table.check: returns STATUS_INVALID with "file:line:column: section.key: message". A
 * NULL key speaks of the section as a whole.
 */
enum status config_refuse(const struct config_section *section, const char *key, const char *format,
                          ...) STATUS_PRINTF(3, 4);

/*
 * Appends `value`, a struct of `table`, as YAML that reads back to the same values and prints to
 * the same bytes: every key in the order of the table, without the ones that `only_if` rules out.
 * `with_help` puts each option's help, unit, range and default above it as a comment.
 */
enum status config_print(const struct config_table *table, const void *value, bool with_help,
                         struct strbuf *out);

/* config_print into the file `path`, replaced as a whole. Errors: STATUS_IO. */
enum status config_write(const struct config_table *table, const void *value, bool with_help,
                         const char *path);

/* Appends the documentation of every option of `table`, nested like the YAML, as plain text. */
enum status config_document(const struct config_table *table, struct strbuf *out);

/*
 * Whether `table` and all tables below it are well formed: help everywhere, no key twice, defaults
 * that pass their own type and range, sizes that agree, `only_if` naming an earlier key. For the
 * test of the module that owns the table. Errors: STATUS_INTERNAL naming table and row.
 */
enum status config_table_check(const struct config_table *table);

#ifdef __cplusplus
}
#endif
#endif
