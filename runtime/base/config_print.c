/*
 * From a struct back to YAML, and from tables to documentation.
 *
 * The output is a subset of the language on which reading and printing are inverse: every key in
 * table order, block style for sections, flow style for lists of values, text plain only when no
 * reader could take it for anything else. Numbers are the shortest that read back to the same bits.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/config_impl.h"

struct printer {
    struct strbuf *out;
    bool with_help;
    bool has_dash; /* the next key stands behind "- " of its list element */
};

static enum status print_section(struct printer *printer, const struct config_table *table,
                                 const void *value, const char *choose_by, int indent);

/* ---- text ----------------------------------------------------------------------------------- */

static bool is_plain_text(const char *text)
{
    static const char *const reserved[] = {"null", "true", "false", "yes", "no",
                                           "on",   "off",  "y",     "n",   "nan"};
    if (!isalpha((unsigned char)text[0]) && text[0] != '_' && text[0] != '/') return false;
    for (const char *p = text; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("_./-+", *p)) return false;
    }
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        if (strcasecmp(text, reserved[i]) == 0) return false;
    }
    return true;
}

/* Text as a YAML scalar. What libyaml counts as a line break or as unprintable is escaped. */
static void print_text(struct strbuf *out, const char *text)
{
    if (is_plain_text(text)) {
        strbuf_append(out, text);
        return;
    }
    strbuf_append(out, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\') {
            strbuf_printf(out, "\\%c", *p);
        } else if (*p == '\n') {
            strbuf_append(out, "\\n");
        } else if (*p < 0x20 || *p == 0x7F) {
            strbuf_printf(out, "\\x%02X", *p);
        } else if (p[0] == 0xC2 && p[1] < 0xA0) {
            strbuf_printf(out, "\\x%02X", p[1]); /* U+0080 to U+009F */
            p++;
        } else if (p[0] == 0xE2 && p[1] == 0x80 && (p[2] == 0xA8 || p[2] == 0xA9)) {
            strbuf_printf(out, "\\u20%02X", p[2] == 0xA8 ? 0x28 : 0x29); /* line separators */
            p += 2;
        } else if (p[0] == 0xEF && ((p[1] == 0xBB && p[2] == 0xBF) ||
                                    (p[1] == 0xBF && (p[2] == 0xBE || p[2] == 0xBF)))) {
            strbuf_append(out, p[1] == 0xBB ? "\\uFEFF" : p[2] == 0xBE ? "\\uFFFE" : "\\uFFFF");
            p += 2;
        } else {
            strbuf_append_bytes(out, p, 1);
        }
    }
    strbuf_append(out, "\"");
}

static void print_scalar(struct strbuf *out, const struct config_option *option,
                         const void *element)
{
    char buffer[32];
    const char *text = NULL;
    config_scalar_text(option, element, buffer, &text);
    if (option->type == CONFIG_TYPE_STRING || option->type == CONFIG_TYPE_ENUM) {
        print_text(out, text ? text : "");
    } else {
        strbuf_append(out, text);
    }
}

/* ---- sections ------------------------------------------------------------------------------- */

/* Begins the line of a key, behind the dash of its list element where there is one. */
static void begin_line(struct printer *printer, int indent)
{
    int spaces = printer->has_dash ? indent - 2 : indent;
    strbuf_printf(printer->out, "%*s%s", spaces, "", printer->has_dash ? "- " : "");
    printer->has_dash = false;
}

static void append_default(struct strbuf *out, const struct config_option *option)
{
    if (!option->def) return;
    bool is_empty = option->type == CONFIG_TYPE_STRING && !option->def[0];
    strbuf_printf(out, "; default %s", is_empty ? "\"\"" : option->def);
}

static void print_help(struct printer *printer, const struct config_option *option, int indent)
{
    /* A comment between a dash and its key would not be where one looks for it. */
    if (!printer->with_help || printer->has_dash) return;
    strbuf_printf(printer->out, "%*s# %s", indent, "", option->help);
    if (option->type != CONFIG_TYPE_SECTION || option->shape != CONFIG_SHAPE_ONE) {
        strbuf_append(printer->out, " [");
        config_describe(option, false, printer->out);
        append_default(printer->out, option);
        strbuf_append(printer->out, "]");
    }
    strbuf_append(printer->out, "\n");
}

static enum status print_one(struct printer *printer, const struct config_option *option,
                             const void *element, int indent)
{
    if (option->type == CONFIG_TYPE_SECTION) {
        return print_section(printer, option->table, element, NULL, indent);
    }
    if (option->type == CONFIG_TYPE_CHOICE) {
        struct config_variant variant;
        memcpy(&variant, element, sizeof variant);
        return print_section(printer, variant.table, variant.value, option->choose_by, indent);
    }
    strbuf_append(printer->out, " ");
    print_scalar(printer->out, option, element);
    strbuf_append(printer->out, "\n");
    return STATUS_OK;
}

static enum status print_list(struct printer *printer, const struct config_option *option,
                              const struct config_array *array, int indent)
{
    const char *items = array->items;
    if (option->type != CONFIG_TYPE_SECTION && option->type != CONFIG_TYPE_CHOICE) {
        strbuf_append(printer->out, " [");
        for (int64_t i = 0; i < array->count; i++) {
            if (i) strbuf_append(printer->out, ", ");
            print_scalar(printer->out, option, items + (size_t)i * option->size);
        }
        strbuf_append(printer->out, "]\n");
        return STATUS_OK;
    }
    strbuf_append(printer->out, array->count ? "\n" : " []\n");
    for (int64_t i = 0; i < array->count; i++) {
        printer->has_dash = true;
        TRY(print_one(printer, option, items + (size_t)i * option->size, indent + 4));
    }
    return STATUS_OK;
}

static enum status print_map(struct printer *printer, const struct config_option *option,
                             const struct config_array *array, int indent)
{
    strbuf_append(printer->out, array->count ? "\n" : " {}\n");
    for (int64_t i = 0; i < array->count; i++) {
        begin_line(printer, indent + 2);
        print_text(printer->out, array->keys[i]);
        strbuf_append(printer->out, ":");
        const char *item = (const char *)array->items + (size_t)i * option->size;
        bool is_section = option->type == CONFIG_TYPE_SECTION || option->type == CONFIG_TYPE_CHOICE;
        if (is_section) strbuf_append(printer->out, "\n");
        TRY(print_one(printer, option, item, indent + 4));
    }
    return STATUS_OK;
}

/* Whether a field holds NULL, and so is not printed. */
static bool is_absent(const struct config_option *option, const void *field)
{
    const void *pointer = NULL;
    if (!option->or_null) return false;
    if (option->type == CONFIG_TYPE_CHOICE) {
        struct config_variant variant;
        memcpy(&variant, field, sizeof variant);
        pointer = variant.table;
    } else {
        memcpy(&pointer, field, sizeof pointer);
    }
    return pointer == NULL;
}

static enum status print_field(struct printer *printer, const struct config_option *option,
                               const void *field, int indent)
{
    print_help(printer, option, indent);
    begin_line(printer, indent);
    strbuf_printf(printer->out, "%s:", option->key);
    if (option->shape != CONFIG_SHAPE_ONE) {
        struct config_array array = {0};
        memcpy(&array, field, config_field_size(option));
        return option->shape == CONFIG_SHAPE_MAP ? print_map(printer, option, &array, indent)
                                                 : print_list(printer, option, &array, indent);
    }
    if (option->type != CONFIG_TYPE_SECTION && option->type != CONFIG_TYPE_CHOICE) {
        return print_one(printer, option, field, indent);
    }
    const void *element = field;
    if (option->type == CONFIG_TYPE_SECTION && option->or_null) {
        memcpy(&element, field, sizeof element);
    }
    strbuf_append(printer->out, "\n");
    return print_one(printer, option, element, indent + 2);
}

static enum status print_section(struct printer *printer, const struct config_table *table,
                                 const void *value, const char *choose_by, int indent)
{
    struct arena arena = {0};
    struct config_row *rows = NULL;
    int num_rows = 0;
    int num_printed = 0;
    enum status status = config_rows(&arena, table, &rows, &num_rows);
    if (status == STATUS_OK && choose_by) {
        begin_line(printer, indent);
        strbuf_printf(printer->out, "%s: ", choose_by);
        print_text(printer->out, table->name);
        strbuf_append(printer->out, "\n");
        num_printed++;
    }
    for (int i = 0; i < num_rows && status == STATUS_OK; i++) {
        const void *field = (const char *)value + rows[i].offset;
        if (is_absent(rows[i].option, field)) continue;
        if (!config_row_counts(rows, num_rows, i, value)) continue;
        status = print_field(printer, rows[i].option, field, indent);
        num_printed++;
    }
    if (num_printed == 0) {
        begin_line(printer, indent);
        strbuf_append(printer->out, "{}\n");
    }
    arena_fini(&arena);
    return status;
}

enum status config_print(const struct config_table *table, const void *value, bool with_help,
                         struct strbuf *out)
{
    struct printer printer = {.out = out, .with_help = with_help};
    TRY(print_section(&printer, table, value, NULL, 0));
    CHECK(!out->failed, STATUS_NO_MEMORY, "out of memory while printing the config");
    return STATUS_OK;
}

/* Beside the old file and then renamed, so that a reader never sees half a config. */
static enum status write_file(const char *path, const struct strbuf *text)
{
    struct strbuf temporary = {0};
    strbuf_printf(&temporary, "%s.%ld.tmp", path, (long)getpid());
    CHECK(!temporary.failed, STATUS_NO_MEMORY, "%s: out of memory", path);
    enum status status = STATUS_OK;
    FILE *file = fopen(temporary.text, "w");
    CHECK_GOTO(file, status, done, STATUS_IO, "%s: cannot write: %s", path, strerror(errno));
    bool is_written = fwrite(text->text, 1, text->length, file) == text->length;
    is_written = fclose(file) == 0 && is_written;
    if (!is_written || rename(temporary.text, path) != 0) {
        status = status_fail(STATUS_IO, "%s: cannot write: %s", path, strerror(errno));
        unlink(temporary.text);
    }
done:
    strbuf_fini(&temporary);
    return status;
}

enum status config_write(const struct config_table *table, const void *value, bool with_help,
                         const char *path)
{
    struct strbuf text = {0};
    enum status status = config_print(table, value, with_help, &text);
    if (status == STATUS_OK) status = write_file(path, &text);
    strbuf_fini(&text);
    return status;
}

/* ---- documentation -------------------------------------------------------------------------- */

static enum status document(const struct config_table *table, int indent, struct strbuf *out)
{
    struct arena arena = {0};
    struct config_row *rows = NULL;
    int num_rows = 0;
    enum status status = config_rows(&arena, table, &rows, &num_rows);
    for (int i = 0; i < num_rows && status == STATUS_OK; i++) {
        const struct config_option *option = rows[i].option;
        strbuf_printf(out, "%*s%s: ", indent, "", option->key);
        config_describe(option, false, out);
        append_default(out, option);
        bool is_section = option->type == CONFIG_TYPE_SECTION || option->type == CONFIG_TYPE_CHOICE;
        bool is_required = !option->def && !option->or_null && !is_section;
        strbuf_append(out, option->or_null ? "; optional" : is_required ? "; required" : "");
        if (option->only_if) strbuf_printf(out, "; only if %s", option->only_if);
        strbuf_printf(out, "\n%*s%s\n", indent + 6, "", option->help);
        if (option->type == CONFIG_TYPE_SECTION) {
            status = document(option->table, indent + 2, out);
        }
        for (int c = 0;
             option->type == CONFIG_TYPE_CHOICE && option->choices[c] && status == STATUS_OK; c++) {
            const struct config_table *choice = option->choices[c];
            strbuf_printf(out, "%*s%s: %s\n%*s%s\n", indent + 2, "", option->choose_by,
                          choice->name, indent + 8, "", choice->help);
            status = document(choice, indent + 4, out);
        }
    }
    arena_fini(&arena);
    return status;
}

enum status config_document(const struct config_table *table, struct strbuf *out)
{
    TRY(document(table, 0, out));
    CHECK(!out->failed, STATUS_NO_MEMORY, "out of memory while printing the options");
    return STATUS_OK;
}
