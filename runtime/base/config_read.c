/*
 * From the merged tree to the caller's struct, by table.
 *
 * Every key of a section must be a row of its table, and every row takes its value from the key or
 * from its default; so there are no unread keys and no values out of nowhere. Rows are filled in
 * the order of the table, because `only_if` looks at an earlier one. Fields are written with memcpy
 * at the row's offset: the macros of config.h have checked their types.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/config_impl.h"

static enum status bind_section(struct config *config, const struct config_table *table,
                                const struct config_node *node, const struct config_node *place,
                                const char *skip, const struct config_path *path, void *value);

/* ---- refusals ------------------------------------------------------------------------------- */

enum { PATH_SIZE = 200 };

static enum status refuse_value(const struct config_option *option, bool element,
                                const struct config_node *node, const struct config_path *path,
                                const char *problem)
{
    char key[PATH_SIZE];
    struct strbuf wanted = {0};
    config_describe(option, element, &wanted);
    config_report(node, "%s: %s; expected %s", config_path_text(path, key, sizeof key), problem,
                  wanted.text ? wanted.text : "");
    strbuf_fini(&wanted);
    return STATUS_INVALID;
}

/* "unknown type 'cosin', did you mean 'cosine'?" in place of a name that is not in the list. */
static enum status refuse_name(const struct config_option *option, bool element,
                               const struct config_node *node, const struct config_path *path,
                               const char *what, const char *nearest)
{
    char problem[400];
    int length = snprintf(problem, sizeof problem, "%s %s", what, config_quote(node->text).text);
    if (nearest) {
        snprintf(problem + length, sizeof problem - (size_t)length, ", did you mean '%s'?",
                 nearest);
    }
    return refuse_value(option, element, node, path, problem);
}

/* Says what was found instead: "got the section", "got 'abc'". */
static enum status refuse_kind(const struct config_option *option, bool element,
                               const struct config_node *node, const struct config_path *path)
{
    char problem[300];
    if (node->kind == NODE_MAP) {
        snprintf(problem, sizeof problem, "got a section");
    } else if (node->kind == NODE_LIST) {
        snprintf(problem, sizeof problem, "got a list");
    } else if (node->is_plain && !node->text[0]) {
        snprintf(problem, sizeof problem, "no value (null takes the default)");
    } else if (config_node_is_null(node)) {
        snprintf(problem, sizeof problem, "got null");
    } else {
        snprintf(problem, sizeof problem, "got %s%s", node->is_plain ? "" : "quoted text ",
                 config_quote(node->text).text);
    }
    return refuse_value(option, element, node, path, problem);
}

/* Appends "; did you mean 'x'?" or "; valid keys: a, b, c". */
static void suggest(struct strbuf *out, const char *text, const char *const *names, int count)
{
    const char *nearest = string_nearest(text, names, count);
    if (nearest) {
        strbuf_printf(out, "; did you mean '%s'?", nearest);
        return;
    }
    strbuf_append(out, "; valid keys: ");
    for (int i = 0; i < count; i++) {
        if (out->length > 900) {
            strbuf_append(out, ", ...");
            break;
        }
        strbuf_printf(out, "%s%s", i ? ", " : "", names[i]);
    }
    if (count == 0) strbuf_append(out, "none");
}

static enum status refuse_unknown_key(struct config *config, const struct config_table *table,
                                      const struct config_row *rows, int num_rows, const char *skip,
                                      const struct config_path *path, const struct config_node *key)
{
    const char **names = arena_alloc(&config->arena, (size_t)(num_rows + 1) * sizeof *names);
    if (!names) return config_out_of_memory(config);
    int count = 0;
    if (skip) names[count++] = skip;
    for (int i = 0; i < num_rows; i++) {
        names[count++] = rows[i].option->key;
    }
    char section[PATH_SIZE];
    config_path_text(path, section, sizeof section);
    struct strbuf text = {0};
    strbuf_printf(&text, "unknown key %s", config_quote(key->text).text);
    if (section[0]) {
        strbuf_printf(&text, " in '%s'", section);
    } else {
        strbuf_append(&text, " at the top level");
    }
    if (skip) strbuf_printf(&text, " (%s: %s)", skip, table->name);
    suggest(&text, key->text, names, count);
    config_report(key, "%s", text.text ? text.text : "unknown key");
    strbuf_fini(&text);
    return STATUS_INVALID;
}

static enum status refuse_missing(const struct config_option *option,
                                  const struct config_node *place, const struct config_path *path)
{
    char key[PATH_SIZE];
    struct strbuf wanted = {0};
    config_describe(option, false, &wanted);
    config_report(place, "missing key '%s': %s (%s)", config_path_text(path, key, sizeof key),
                  wanted.text ? wanted.text : "", option->help ? option->help : "");
    strbuf_fini(&wanted);
    return STATUS_INVALID;
}

static enum status refuse_unused(const struct config_option *option, const struct config_node *node,
                                 const struct config_path *path)
{
    char key[PATH_SIZE];
    return config_refuse_at(node,
                            "%s: has no effect here; it is used only if %s (null takes it "
                            "back)",
                            config_path_text(path, key, sizeof key), option->only_if);
}

enum status config_refuse(const struct config_section *section, const char *key, const char *format,
                          ...)
{
    char text[1000];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    struct config_path path = {.parent = section->path, .key = key};
    const struct config_node *place = section->place;
    if (key && section->node) {
        const struct config_entry *entry = config_node_find(section->node, key);
        if (entry) place = entry->value;
    }
    char name[PATH_SIZE];
    config_path_text(key ? &path : section->path, name, sizeof name);
    return config_refuse_at(place, "%s%s%s", name, name[0] ? ": " : "", text);
}

/* ---- values --------------------------------------------------------------------------------- */

static enum status bind_number(const struct config_option *option, bool element,
                               const struct config_node *node, const struct config_path *path,
                               void *out)
{
    if (node->kind != NODE_SCALAR || !node->is_plain || !node->text[0]) {
        return refuse_kind(option, element, node, path);
    }
    int64_t integer = 0;
    double number = 0;
    bool is_int = option->type == CONFIG_TYPE_INT;
    const char *problem =
        is_int ? config_scan_int(node->text, &integer) : config_scan_double(node->text, &number);
    struct config_range range;
    if (!problem && option->range && config_range_parse(option->range, &range) &&
        !config_range_holds(&range, is_int ? (long double)integer : (long double)number)) {
        problem = "out of range";
    }
    if (problem) {
        char text[300];
        snprintf(text, sizeof text, "%s is %s", config_quote(node->text).text, problem);
        return refuse_value(option, element, node, path, text);
    }
    memcpy(out, is_int ? (const void *)&integer : (const void *)&number, option->size);
    return STATUS_OK;
}

static enum status bind_enum(const struct config_option *option, bool element,
                             const struct config_node *node, const struct config_path *path,
                             void *out)
{
    if (node->kind != NODE_SCALAR) return refuse_kind(option, element, node, path);
    int count = 0;
    for (; option->names[count]; count++) {
        if (strcmp(option->names[count], node->text) == 0) {
            memcpy(out, &count, sizeof count);
            return STATUS_OK;
        }
    }
    return refuse_name(option, element, node, path, "got",
                       string_nearest(node->text, option->names, count));
}

/* The table that `choose_by` names. */
static enum status choose(const struct config_option *option, bool element,
                          const struct config_node *node, const struct config_path *path,
                          int *index)
{
    if (node->kind != NODE_MAP) return refuse_kind(option, element, node, path);
    const struct config_entry *entry = config_node_find(node, option->choose_by);
    char problem[300];
    if (!entry || config_node_is_null(entry->value)) {
        snprintf(problem, sizeof problem, "has no '%s'", option->choose_by);
        return refuse_value(option, element, node, path, problem);
    }
    const struct config_node *name = entry->value;
    if (name->kind != NODE_SCALAR) return refuse_kind(option, element, name, path);
    enum { MAX_NAMES = 256 };
    const char *names[MAX_NAMES];
    int count = 0;
    for (int i = 0; option->choices[i]; i++) {
        const char *known = option->choices[i]->name;
        if (count < MAX_NAMES) names[count++] = known;
        if (strcmp(known, name->text) != 0) continue;
        *index = i;
        return STATUS_OK;
    }
    snprintf(problem, sizeof problem, "unknown %s", option->choose_by);
    return refuse_name(option, element, name, path, problem,
                       string_nearest(name->text, names, count));
}

static enum status bind_choice(struct config *config, const struct config_option *option,
                               bool element, const struct config_node *node,
                               const struct config_path *path, void *out)
{
    int index = 0;
    TRY(choose(option, element, node, path, &index));
    const struct config_table *table = option->choices[index];
    void *value = arena_alloc(&config->arena, table->size);
    if (!value) return config_out_of_memory(config);
    TRY(bind_section(config, table, node, node, option->choose_by, path, value));
    struct config_variant variant = {.table = table, .index = index, .value = value};
    memcpy(out, &variant, sizeof variant);
    return STATUS_OK;
}

/* One value or one element of a list or map. */
static enum status bind_value(struct config *config, const struct config_option *option,
                              bool element, const struct config_node *node,
                              const struct config_path *path, void *out)
{
    if (config_node_is_null(node)) return refuse_kind(option, element, node, path);
    switch (option->type) {
    case CONFIG_TYPE_BOOL: {
        bool value = false;
        if (node->kind != NODE_SCALAR || !node->is_plain ||
            config_scan_bool(node->text, &value) != NULL) {
            return refuse_kind(option, element, node, path);
        }
        memcpy(out, &value, sizeof value);
        return STATUS_OK;
    }
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_DOUBLE:
        return bind_number(option, element, node, path, out);
    case CONFIG_TYPE_STRING:
        if (node->kind != NODE_SCALAR || (node->is_plain && !node->text[0])) {
            return refuse_kind(option, element, node, path);
        }
        memcpy(out, &node->text, sizeof node->text);
        return STATUS_OK;
    case CONFIG_TYPE_ENUM:
        return bind_enum(option, element, node, path, out);
    case CONFIG_TYPE_SECTION:
        if (node->kind != NODE_MAP) return refuse_kind(option, element, node, path);
        return bind_section(config, option->table, node, node, NULL, path, out);
    case CONFIG_TYPE_CHOICE:
        return bind_choice(config, option, element, node, path, out);
    default:
        return status_fail(STATUS_INTERNAL, "option '%s' has no type", option->key);
    }
}

/* ---- fields --------------------------------------------------------------------------------- */

enum status config_default_node(struct config *config, const struct config_option *option,
                                const struct config_node **out)
{
    struct config_source *source = arena_alloc(&config->arena, sizeof *source);
    struct config_node *node = config_node_create(config, NODE_SCALAR, NULL);
    if (!source || !node) return config_out_of_memory(config);
    source->name = arena_printf(&config->arena, "default of '%s'", option->key);
    if (!source->name) return config_out_of_memory(config);
    node->source = source;
    node->text = option->def;
    node->is_plain = option->type != CONFIG_TYPE_STRING && option->type != CONFIG_TYPE_ENUM;
    *out = node;
    if (option->shape == CONFIG_SHAPE_ONE && option->type != CONFIG_TYPE_CHOICE) return STATUS_OK;
    return config_parse(config, source, option->def, strlen(option->def), out);
}

static enum status check_length(const struct config_option *option, const struct config_node *node,
                                const struct config_path *path)
{
    struct config_range range;
    if (!option->length || !config_range_parse(option->length, &range) ||
        config_range_holds(&range, (long double)node->count)) {
        return STATUS_OK;
    }
    char problem[60];
    snprintf(problem, sizeof problem, "got %lld", (long long)node->count);
    return refuse_value(option, false, node, path, problem);
}

static enum status bind_array(struct config *config, const struct config_option *option,
                              const struct config_node *node, const struct config_path *path,
                              void *field)
{
    bool is_map = option->shape == CONFIG_SHAPE_MAP;
    if (node->kind != (is_map ? NODE_MAP : NODE_LIST)) {
        return refuse_kind(option, false, node, path);
    }
    TRY(check_length(option, node, path));
    char *items = arena_alloc(&config->arena, (size_t)node->count * option->size);
    const char **keys = NULL;
    if (is_map) keys = arena_alloc(&config->arena, (size_t)node->count * sizeof *keys);
    if (!items || (is_map && !keys)) return config_out_of_memory(config);
    for (int64_t i = 0; i < node->count; i++) {
        const struct config_node *item = is_map ? node->entries[i].value : node->items[i];
        if (is_map) keys[i] = node->entries[i].key->text;
        struct config_path below = {.parent = path, .key = is_map ? keys[i] : NULL, .index = i};
        TRY(bind_value(config, option, true, item, &below, items + (size_t)i * option->size));
    }
    struct config_array array = {.items = items, .count = node->count, .keys = keys};
    memcpy(field, &array, config_field_size(option));
    return STATUS_OK;
}

enum status config_bind_field(struct config *config, const struct config_option *option,
                              const struct config_node *node, const struct config_node *parent,
                              const struct config_path *path, void *field)
{
    bool is_section = option->type == CONFIG_TYPE_SECTION && option->shape == CONFIG_SHAPE_ONE;
    if (!node || config_node_is_null(node)) {
        if (option->or_null) return STATUS_OK;
        if (is_section) {
            return bind_section(config, option->table, NULL, parent, NULL, path, field);
        }
        if (!option->def) return refuse_missing(option, parent, path);
        TRY(config_default_node(config, option, &node));
    }
    if (option->shape != CONFIG_SHAPE_ONE) return bind_array(config, option, node, path, field);
    if (!is_section || !option->or_null) {
        return bind_value(config, option, false, node, path, field);
    }
    void *value = arena_alloc(&config->arena, option->table->size);
    if (!value) return config_out_of_memory(config);
    TRY(bind_value(config, option, false, node, path, value));
    memcpy(field, &value, sizeof(void *));
    return STATUS_OK;
}

/* ---- sections ------------------------------------------------------------------------------- */

static enum status check_keys(struct config *config, const struct config_table *table,
                              const struct config_row *rows, int num_rows, const char *skip,
                              const struct config_node *node, const struct config_path *path)
{
    for (int64_t i = 0; i < node->count; i++) {
        const struct config_node *key = node->entries[i].key;
        bool is_known = skip && strcmp(skip, key->text) == 0;
        for (int r = 0; r < num_rows && !is_known; r++) {
            is_known = strcmp(rows[r].option->key, key->text) == 0;
        }
        if (!is_known) return refuse_unknown_key(config, table, rows, num_rows, skip, path, key);
    }
    return STATUS_OK;
}

/*
 * Fills `value` from the map `node` (NULL: every row takes its default). `place` is where a missing
 * key is reported; `skip` is the key that chose this table.
 */
static enum status bind_section(struct config *config, const struct config_table *table,
                                const struct config_node *node, const struct config_node *place,
                                const char *skip, const struct config_path *path, void *value)
{
    struct config_row *rows = NULL;
    int num_rows = 0;
    TRY(config_rows(&config->arena, table, &rows, &num_rows));
    if (node) TRY(check_keys(config, table, rows, num_rows, skip, node, path));
    for (int i = 0; i < num_rows; i++) {
        const struct config_option *option = rows[i].option;
        const struct config_entry *entry = node ? config_node_find(node, option->key) : NULL;
        const struct config_node *given = entry ? entry->value : NULL;
        struct config_path below = {.parent = path, .key = option->key};
        if (!config_row_counts(rows, num_rows, i, value)) {
            if (given && !config_node_is_null(given)) return refuse_unused(option, given, &below);
            if (!option->def) continue;
        }
        TRY(config_bind_field(config, option, given, place, &below,
                              (char *)value + rows[i].offset));
    }
    if (!table->check) return STATUS_OK;
    const struct config_section section = {.node = node, .place = place, .path = path};
    return table->check(value, &section);
}

/* ---- the public functions ------------------------------------------------------------------- */

static enum status read_tree(struct config *config, const struct config_table *table,
                             const struct config_node *root, const char *const *overrides,
                             int num_overrides, void *value)
{
    for (int i = 0; i < num_overrides; i++) {
        TRY(config_override(config, overrides[i], &root));
    }
    config->root = root;
    const struct config_path path = {0};
    return bind_section(config, table, root, root, NULL, &path, value);
}

static enum status finish(enum status status, struct config **config, size_t size, void *value)
{
    if (status == STATUS_OK) return STATUS_OK;
    config_destroy(config);
    memset(value, 0, size);
    return status;
}

static enum status create(const char *name, size_t size, void *value, struct config **out)
{
    memset(value, 0, size);
    *out = calloc(1, sizeof **out);
    CHECK(*out, STATUS_NO_MEMORY, "%s: out of memory", name);
    (*out)->name = arena_strdup(&(*out)->arena, name);
    CHECK((*out)->name, STATUS_NO_MEMORY, "%s: out of memory", name);
    return STATUS_OK;
}

enum status config_read(const struct config_table *table, const char *path,
                        const char *const *overrides, int num_overrides, void *value,
                        struct config **out)
{
    const struct config_node *root = NULL;
    enum status status = create(path, table->size, value, out);
    if (status == STATUS_OK) status = config_load(*out, path, &root);
    if (status == STATUS_OK) {
        status = read_tree(*out, table, root, overrides, num_overrides, value);
    }
    return finish(status, out, table->size, value);
}

static enum status parse_text(struct config *config, const char *text, size_t size,
                              const struct config_node **root)
{
    struct config_source *source = arena_alloc(&config->arena, sizeof *source);
    if (!source) return config_out_of_memory(config);
    *source = (struct config_source){.name = config->name, .is_file = true};
    TRY(config_parse(config, source, text, size, root));
    const struct config_entry *base = config_node_find(*root, "base");
    if (!base) return STATUS_OK;
    return config_refuse_at(base->key, "'base' can only be written in a file");
}

enum status config_read_text(const struct config_table *table, const char *name, const char *text,
                             size_t size, const char *const *overrides, int num_overrides,
                             void *value, struct config **out)
{
    const struct config_node *root = NULL;
    enum status status = create(name, table->size, value, out);
    if (status == STATUS_OK) status = parse_text(*out, text, size, &root);
    if (status == STATUS_OK) {
        status = read_tree(*out, table, root, overrides, num_overrides, value);
    }
    return finish(status, out, table->size, value);
}

void config_destroy(struct config **config)
{
    if (!*config) return;
    arena_fini(&(*config)->arena);
    free(*config);
    *config = NULL;
}

/* The node one part of a dotted key below `node`, or NULL. */
static const struct config_node *step(const struct config_node *node, const char *part)
{
    if (node->kind == NODE_MAP) {
        const struct config_entry *entry = config_node_find(node, part);
        return entry ? entry->value : NULL;
    }
    int64_t index = 0;
    bool is_index = node->kind == NODE_LIST && config_scan_int(part, &index) == NULL &&
                    index >= 0 && index < node->count;
    return is_index ? node->items[index] : NULL;
}

const char *config_where(struct config *config, const char *format, ...)
{
    char key[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(key, sizeof key, format, arguments);
    va_end(arguments);
    const struct config_node *node = config->root;
    char *rest = NULL;
    for (char *part = strtok_r(key, ".", &rest); part; part = strtok_r(NULL, ".", &rest)) {
        const struct config_node *below = step(node, part);
        if (!below) break;
        node = below;
    }
    if (node == config->root) return config->name;
    char place[400];
    const char *text = arena_strdup(&config->arena, config_place(node, place, sizeof place));
    return text ? text : config->name;
}
