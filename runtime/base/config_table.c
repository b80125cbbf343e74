/*
 * What tables say: rows, conditions, descriptions, and whether a table is well formed.
 *
 * Defaults, ranges and conditions are text in the table, so that documentation shows them as they
 * are read, and one code path checks defaults and files alike. The price is that a slip in a table
 * is found when it runs; config_table_check finds all of them at once, in a test.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/config_impl.h"

static int count_rows(const struct config_table *table)
{
    int count = 0;
    for (int i = 0; i < table->num_options; i++) {
        const struct config_option *option = &table->options[i];
        count += option->type == CONFIG_TYPE_EMBED ? count_rows(option->table) : 1;
    }
    return count;
}

static void fill_rows(const struct config_table *table, size_t offset, struct config_row **next)
{
    for (int i = 0; i < table->num_options; i++) {
        const struct config_option *option = &table->options[i];
        if (option->type == CONFIG_TYPE_EMBED) {
            fill_rows(option->table, offset + option->offset, next);
        } else {
            *(*next)++ = (struct config_row){.option = option, .offset = offset + option->offset};
        }
    }
}

enum status config_rows(struct arena *arena, const struct config_table *table,
                        struct config_row **rows, int *num_rows)
{
    *num_rows = count_rows(table);
    *rows = arena_alloc(arena, (size_t)*num_rows * sizeof **rows);
    CHECK(*rows, STATUS_NO_MEMORY, "table %s: out of memory", table->name);
    struct config_row *next = *rows;
    fill_rows(table, 0, &next);
    return STATUS_OK;
}

size_t config_field_size(const struct config_option *option)
{
    switch (option->shape) {
    case CONFIG_SHAPE_LIST:
        return offsetof(struct config_array, keys);
    case CONFIG_SHAPE_MAP:
        return sizeof(struct config_array);
    default:
        return option->type == CONFIG_TYPE_SECTION && option->or_null ? sizeof(void *)
                                                                      : option->size;
    }
}

/* ---- conditions ----------------------------------------------------------------------------- */

bool config_scalar_text(const struct config_option *option, const void *element, char out[32],
                        const char **text)
{
    *text = out;
    switch (option->type) {
    case CONFIG_TYPE_BOOL: {
        bool value;
        memcpy(&value, element, sizeof value);
        *text = value ? "true" : "false";
        return true;
    }
    case CONFIG_TYPE_INT: {
        int64_t value;
        memcpy(&value, element, sizeof value);
        snprintf(out, 32, "%lld", (long long)value);
        return true;
    }
    case CONFIG_TYPE_DOUBLE: {
        double value;
        memcpy(&value, element, sizeof value);
        config_format_double(value, out);
        return true;
    }
    case CONFIG_TYPE_ENUM: {
        int value;
        memcpy(&value, element, sizeof value);
        *text = "?";
        for (int i = 0; i <= value && option->names[i]; i++) {
            if (i == value) *text = option->names[i];
        }
        return true;
    }
    case CONFIG_TYPE_STRING:
        memcpy(text, element, sizeof *text);
        return true;
    default:
        return false;
    }
}

/* What a condition compares: the text of a scalar, the table of a choice, NULL for absent. */
static const char *condition_text(const struct config_option *option, const void *field,
                                  char out[32])
{
    const char *text = NULL;
    if (option->shape != CONFIG_SHAPE_ONE) {
        struct config_array array = {0};
        memcpy(&array, field, offsetof(struct config_array, keys));
        return array.count > 0 ? "" : NULL;
    }
    if (option->type == CONFIG_TYPE_CHOICE) {
        struct config_variant variant;
        memcpy(&variant, field, sizeof variant);
        return variant.table ? variant.table->name : NULL;
    }
    if (option->type == CONFIG_TYPE_SECTION) {
        const void *pointer = "";
        if (option->or_null) memcpy(&pointer, field, sizeof pointer);
        return pointer ? "" : NULL;
    }
    config_scalar_text(option, field, out, &text);
    return text;
}

/* "k", "k=a|b", "k!=a|b": the length of k, and the alternatives (NULL for the first form). */
static size_t condition_key(const char *only_if, bool *is_negated, const char **alternatives)
{
    size_t length = strcspn(only_if, "=!");
    *is_negated = only_if[length] == '!';
    *alternatives = only_if[length] ? only_if + length + 1 + *is_negated : NULL;
    return length;
}

static bool is_among(const char *text, const char *alternatives)
{
    for (const char *p = alternatives;; p++) {
        size_t length = strcspn(p, "|");
        if (strlen(text) == length && strncmp(text, p, length) == 0) return true;
        p += length;
        if (!*p) return false;
    }
}

static int find_row(const struct config_row *rows, int num_rows, const char *key, size_t length)
{
    for (int i = 0; i < num_rows; i++) {
        const char *name = rows[i].option->key;
        if (strlen(name) == length && strncmp(name, key, length) == 0) return i;
    }
    return -1;
}

bool config_row_counts(const struct config_row *rows, int num_rows, int index, const void *value)
{
    const char *only_if = rows[index].option->only_if;
    if (!only_if) return true;
    bool is_negated = false;
    const char *alternatives = NULL;
    size_t length = condition_key(only_if, &is_negated, &alternatives);
    int other = find_row(rows, num_rows, only_if, length);
    if (other < 0 || other >= index) return true; /* config_table_check refuses such a table */
    if (!config_row_counts(rows, num_rows, other, value)) return false;
    char buffer[32];
    const char *text =
        condition_text(rows[other].option, (const char *)value + rows[other].offset, buffer);
    if (!alternatives) return text && strcmp(text, "false") != 0;
    return (text && is_among(text, alternatives)) != is_negated;
}

/* ---- descriptions --------------------------------------------------------------------------- */

static void describe_range(const char *text, const char *noun, struct strbuf *out)
{
    struct config_range range;
    if (!text || !config_range_parse(text, &range)) return;
    bool has_min = isfinite(range.min);
    bool has_max = isfinite(range.max);
    if (has_min && has_max && range.min == range.max) {
        strbuf_printf(out, "%s %.18Lg", noun, range.min);
        return;
    }
    if (has_min) strbuf_printf(out, "%s %s %.18Lg", noun, range.min_open ? ">" : ">=", range.min);
    if (has_max) {
        strbuf_printf(out, "%s %s %.18Lg", has_min ? " and" : noun,
                      range.max_open ? "<" : "<=", range.max);
    }
}

static void describe_element(const struct config_option *option, struct strbuf *out)
{
    static const char *const words[] = {
        [CONFIG_TYPE_BOOL] = "true or false", [CONFIG_TYPE_INT] = "a whole number",
        [CONFIG_TYPE_DOUBLE] = "a number",    [CONFIG_TYPE_STRING] = "text",
        [CONFIG_TYPE_ENUM] = "one of ",       [CONFIG_TYPE_SECTION] = "a section",
        [CONFIG_TYPE_CHOICE] = "a section",   [CONFIG_TYPE_EMBED] = "a section",
    };
    strbuf_append(out, words[option->type]);
    describe_range(option->range, "", out);
    if (option->type == CONFIG_TYPE_ENUM) {
        for (int i = 0; option->names[i]; i++) {
            strbuf_printf(out, "%s%s", i ? ", " : "", option->names[i]);
        }
    }
    if (option->type == CONFIG_TYPE_CHOICE) {
        strbuf_printf(out, " with '%s' one of ", option->choose_by);
        for (int i = 0; option->choices[i]; i++) {
            strbuf_printf(out, "%s%s", i ? ", " : "", option->choices[i]->name);
        }
    }
    if (option->unit) strbuf_printf(out, " (%s)", option->unit);
}

void config_describe(const struct config_option *option, bool element, struct strbuf *out)
{
    if (!element && option->shape != CONFIG_SHAPE_ONE) {
        bool is_list = option->shape == CONFIG_SHAPE_LIST;
        strbuf_append(out, is_list ? "a list" : "a section of free keys");
        describe_range(option->length, is_list ? " of length" : ", count", out);
        strbuf_append(out, ", each ");
    }
    describe_element(option, out);
}

/* ---- well-formedness ------------------------------------------------------------------------ */

enum { MAX_TABLE_DEPTH = 16 };

static enum status check_table(struct config *config, const struct config_table *table, int depth);

#define CHECK_ROW(condition, ...)                                                                  \
    CHECK(condition, STATUS_INTERNAL, "option table '%s', row '%s': " __VA_ARGS__, table->name,    \
          option->key)

static bool is_line(const char *text)
{
    return text && text[0] && !strpbrk(text, "\n\r\t");
}

static enum status check_condition(const struct config_table *table, const struct config_row *rows,
                                   int index)
{
    const struct config_option *option = rows[index].option;
    if (!option->only_if) return STATUS_OK;
    bool is_negated = false;
    const char *alternatives = NULL;
    size_t length = condition_key(option->only_if, &is_negated, &alternatives);
    CHECK_ROW(find_row(rows, index, option->only_if, length) >= 0,
              "only_if must name an earlier key");
    CHECK_ROW(!alternatives || alternatives[0], "only_if compares with nothing");
    return STATUS_OK;
}

static enum status check_below(struct config *config, const struct config_table *table,
                               const struct config_option *option, int depth)
{
    if (option->type == CONFIG_TYPE_SECTION || option->type == CONFIG_TYPE_EMBED) {
        CHECK_ROW(option->table, "has no table");
        CHECK_ROW(option->table->size == option->size, "its field is not the struct of its table");
        TRY(check_table(config, option->table, depth + 1));
    }
    if (option->type == CONFIG_TYPE_CHOICE) {
        CHECK_ROW(option->choices && option->choices[0] && option->choose_by, "has no choices");
        for (int i = 0; option->choices[i]; i++) {
            TRY(check_table(config, option->choices[i], depth + 1));
        }
    }
    return STATUS_OK;
}

static enum status check_default(struct config *config, const struct config_table *table,
                                 const struct config_option *option)
{
    bool is_section = option->type == CONFIG_TYPE_SECTION && option->shape == CONFIG_SHAPE_ONE;
    CHECK_ROW(!option->def || (!is_section && !option->or_null), "cannot have a default");
    CHECK_ROW(!option->or_null || (option->shape == CONFIG_SHAPE_ONE &&
                                   (is_section || option->type == CONFIG_TYPE_STRING ||
                                    option->type == CONFIG_TYPE_CHOICE)),
              "cannot be null");
    if (!option->def) return STATUS_OK;
    void *field = arena_alloc(&config->arena, config_field_size(option));
    if (!field) return config_out_of_memory(config);
    const struct config_path root = {0};
    const struct config_path path = {.parent = &root, .key = option->key};
    enum status status = config_bind_field(config, option, NULL, NULL, &path, field);
    if (status == STATUS_OK) return STATUS_OK;
    status_prefix(STATUS_INTERNAL, "option table '%s'", table->name);
    return STATUS_INTERNAL;
}

static enum status check_row(struct config *config, const struct config_table *table,
                             const struct config_row *row, int depth)
{
    const struct config_option *option = row->option;
    CHECK_ROW(is_line(option->help), "has no help of one line");
    CHECK_ROW(row->offset + config_field_size(option) <= table->size, "is outside the struct");
    bool is_number = option->type == CONFIG_TYPE_INT || option->type == CONFIG_TYPE_DOUBLE;
    struct config_range range;
    CHECK_ROW(!option->range || (is_number && config_range_parse(option->range, &range)),
              "has a range that is not an interval of numbers, such as [0, 1)");
    CHECK_ROW(!option->length ||
                  (option->shape != CONFIG_SHAPE_ONE && config_range_parse(option->length, &range)),
              "has a length that is not an interval, such as [4, 4]");
    if (option->type == CONFIG_TYPE_ENUM) {
        CHECK_ROW(option->names && option->names[0], "has no names");
        CHECK_ROW(option->size == sizeof(int), "its field is not an int or enum");
    }
    TRY(check_below(config, table, option, depth));
    return check_default(config, table, option);
}

static enum status check_table(struct config *config, const struct config_table *table, int depth)
{
    CHECK(is_line(table->name) && is_line(table->help), STATUS_INTERNAL,
          "option table '%s': has no name or no help of one line", table->name ? table->name : "?");
    CHECK(depth < MAX_TABLE_DEPTH, STATUS_INTERNAL,
          "option table '%s': tables nested more than %d deep", table->name, MAX_TABLE_DEPTH);
    for (int i = 0; i < table->num_options; i++) {
        const struct config_option *option = &table->options[i];
        if (option->type == CONFIG_TYPE_EMBED) TRY(check_below(config, table, option, depth));
    }
    struct config_row *rows = NULL;
    int num_rows = 0;
    TRY(config_rows(&config->arena, table, &rows, &num_rows));
    for (int i = 0; i < num_rows; i++) {
        const struct config_option *option = rows[i].option;
        CHECK(option->key, STATUS_INTERNAL, "option table '%s', row %d: no key", table->name, i);
        CHECK_ROW(find_row(rows, i, option->key, strlen(option->key)) < 0, "is there twice");
        CHECK_ROW(depth > 0 || strcmp(option->key, "base") != 0, "'base' names included files");
        TRY(check_row(config, table, &rows[i], depth));
        TRY(check_condition(table, rows, i));
    }
    return STATUS_OK;
}

enum status config_table_check(const struct config_table *table)
{
    struct config config = {.name = table->name};
    enum status status = check_table(&config, table, 0);
    arena_fini(&config.arena);
    return status;
}
