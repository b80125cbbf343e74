/*
 * Shared by the files of the config reader, not for others.
 *
 * A config is read in three passes: bytes become a tree of nodes that know where they were written
 * (config_parse.c); the trees of the bases, the file and the overrides are merged
 * (config_merge.c); the merged tree fills a struct by its table (config_read.c). Nodes never change
 * once made, so an alias or a merge shares them instead of copying.
 */
#ifndef WEFT_RUNTIME_BASE_CONFIG_IMPL_H
#define WEFT_RUNTIME_BASE_CONFIG_IMPL_H

#include "runtime/base/arena.h"
#include "runtime/base/config.h"

/* Limits far above any real config; each refusal says its number. */
enum {
    CONFIG_MAX_FILE_MIB = 16,
    CONFIG_MAX_DEPTH = 64,      /* levels of nesting */
    CONFIG_MAX_VALUES = 200000, /* values in a file, each alias counted with all it stands for */
    CONFIG_MAX_KEYS = 1000,     /* keys of one section */
    CONFIG_MAX_ANCHORS = 1000,  /* anchors of one file */
    CONFIG_MAX_FILES = 64,      /* files read through `base` */
    CONFIG_MAX_BASE_DEPTH = 16, /* a base of a base of ... */
    CONFIG_MAX_PATH_PARTS = 32, /* parts of a dotted key */
};

/* Where text comes from: a file, or an override ("--set a.b=c"), which has no lines. */
struct config_source {
    const char *name;
    bool is_file;
};

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct config_node {
    enum node_kind kind;
    bool is_plain; /* scalars: written without quotes */
    int height;    /* 1 + the largest of the children */
    const struct config_source *source;
    int64_t line; /* from 1 */
    int64_t column;
    int64_t weight;   /* values below and including this one, shared ones counted each time */
    const char *text; /* scalars: NUL-terminated, without NUL inside */
    int64_t count;    /* elements of a list, keys of a map */
    const struct config_node **items;
    struct config_entry *entries;
};

struct config_entry {
    const struct config_node *key; /* a scalar */
    const struct config_node *value;
    uint64_t hash; /* of the key's text */
};

struct config {
    struct arena arena;
    const char *name;               /* of the file, for messages about the whole */
    const struct config_node *root; /* after merging */
    int num_files;
};

/* One step of the way from the root to a value; lives on the stack of the reader. */
struct config_path {
    const struct config_path *parent; /* NULL at the root */
    const char *key;                  /* NULL for a list element */
    int64_t index;
};

struct config_section {
    const struct config_node *node;  /* the map that was written, or NULL */
    const struct config_node *place; /* for messages: the map, or the nearest one above it */
    const struct config_path *path;
};

/* ---- config_node.c -------------------------------------------------------------------------- */

/*
 * Returning the code here rather than from the function lets compilers and analysers see that it is
 * not STATUS_OK.
 */
void config_report_memory(const struct config *config);
#define config_out_of_memory(config) (config_report_memory(config), STATUS_NO_MEMORY)

/* A new node at the place of `at` (NULL: nowhere); NULL when memory is out. */
struct config_node *config_node_create(struct config *config, enum node_kind kind,
                                       const struct config_node *at);

/* Appends to a list or map under construction. Errors: STATUS_NO_MEMORY, too many keys. */
enum status config_node_append(struct config *config, struct config_node *list,
                               const struct config_node *item);
enum status config_node_put(struct config *config, struct config_node *map,
                            const struct config_node *key, const struct config_node *value);

/* The entry of `key` in a map, or NULL. */
struct config_entry *config_node_find(const struct config_node *map, const char *key);

/* Plain `null` or `~`: the key counts as not given. */
bool config_node_is_null(const struct config_node *node);

/* STATUS_INVALID with "file:line:column: message". */
void config_report(const struct config_node *node, const char *format, ...) STATUS_PRINTF(2, 3);
#define config_refuse_at(...) (config_report(__VA_ARGS__), STATUS_INVALID)

/* "a file:line:column" or the override, into `out`. */
const char *config_place(const struct config_node *node, char *out, size_t size);

/* Replaces control characters by '?', in place, for messages. */
void config_one_line(char *text);

/* The dotted path, "data.0.path", shortened at the front when it does not fit; "" at the root. */
const char *config_path_text(const struct config_path *path, char *out, size_t size);

/* `text` in single quotes for a message: at most 40 bytes, control characters shown as \xNN. */
struct config_quoted {
    char text[200];
};
struct config_quoted config_quote(const char *text);

/* ---- config_parse.c ------------------------------------------------------------------------- */
/* Whether the bytes are UTF-8 without control characters, as a config file has to be. */
bool config_is_text(const char *bytes, size_t size);

/* Parses `size` bytes of YAML, one document. Text of a source that is a file must be a map. */
enum status config_parse(struct config *config, const struct config_source *source,
                         const char *bytes, size_t size, const struct config_node **out);

/* ---- config_merge.c ------------------------------------------------------------------------- */

/* Reads a file with its bases. */
enum status config_load(struct config *config, const char *path, const struct config_node **out);

/* Applies "a.b=value" to the tree at *root. */
enum status config_override(struct config *config, const char *text,
                            const struct config_node **root);

/* ---- config_scalar.c ------------------------------------------------------------------------ */

/* Exact conversions of a plain scalar; NULL on success, else what is wrong with it. */
const char *config_scan_bool(const char *text, bool *out);
const char *config_scan_int(const char *text, int64_t *out);
const char *config_scan_double(const char *text, double *out);

/* The shortest decimal that reads back to `value`. */
void config_format_double(double value, char out[32]);

/* An interval: "[0, 1)", "(-inf, 3]". */
struct config_range {
    long double min, max;
    bool min_open, max_open;
};
bool config_range_parse(const char *text, struct config_range *out);
bool config_range_holds(const struct config_range *range, long double value);

/* ---- config_table.c ------------------------------------------------------------------------- */

/* A row of a table with the rows of its embeds in place; `offset` is from the start of the outer
 * struct. */
struct config_row {
    const struct config_option *option;
    size_t offset;
};

/* All rows of `table`, in order, in `arena`. */
enum status config_rows(struct arena *arena, const struct config_table *table,
                        struct config_row **rows, int *num_rows);

/* Whether `only_if` of row `index` holds for the struct `value`. */
bool config_row_counts(const struct config_row *rows, int num_rows, int index, const void *value);

/* What an option wants, for messages: "a number > 0 and <= 1 (seconds)". */
void config_describe(const struct config_option *option, bool element, struct strbuf *out);

/* Bytes of one field in the outer struct. */
size_t config_field_size(const struct config_option *option);

/* The beginning of every list and map field. */
struct config_array {
    const void *items;
    int64_t count;
    const char *const *keys; /* maps only */
};

/* The YAML of a scalar of a bool, int, double or enum; false for other types. */
bool config_scalar_text(const struct config_option *option, const void *element, char out[32],
                        const char **text);

/* ---- config_read.c -------------------------------------------------------------------------- */

/* The default of an option as a node. */
enum status config_default_node(struct config *config, const struct config_option *option,
                                const struct config_node **out);

/* Fills one whole field from a node (NULL: absent). */
enum status config_bind_field(struct config *config, const struct config_option *option,
                              const struct config_node *node, const struct config_node *parent,
                              const struct config_path *path, void *field);

#endif
