/* The tree of a config and messages about places in it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/config_impl.h"

void config_report_memory(const struct config *config)
{
    status_fail(STATUS_NO_MEMORY, "%s: out of memory while reading the config",
                config->name ? config->name : "config");
}

struct config_node *config_node_create(struct config *config, enum node_kind kind,
                                       const struct config_node *at)
{
    struct config_node *node = arena_alloc(&config->arena, sizeof *node);
    if (!node) return NULL;
    node->kind = kind;
    node->height = 1;
    node->weight = 1;
    node->text = "";
    if (at) {
        node->source = at->source;
        node->line = at->line;
        node->column = at->column;
    }
    return node;
}

static uint64_t hash_text(const char *text)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        hash = (hash ^ *p) * 0x100000001B3u;
    }
    return hash;
}

/* Makes room for one more: the arrays double, at counts that are 0 or powers of two from 4 on. */
static void *grown(struct config *config, void *old, int64_t count, size_t size)
{
    bool is_full = count == 0 || (count >= 4 && (count & (count - 1)) == 0);
    if (!is_full) return old;
    void *array = arena_alloc(&config->arena, (size_t)(count ? 2 * count : 4) * size);
    if (array && count) memcpy(array, old, (size_t)count * size);
    return array;
}

static enum status adopt(struct config_node *parent, const struct config_node *child)
{
    parent->weight += child->weight;
    if (child->height >= parent->height) parent->height = child->height + 1;
    if (parent->height <= CONFIG_MAX_DEPTH) return STATUS_OK;
    return config_refuse_at(parent, "nested more than %d levels deep", CONFIG_MAX_DEPTH);
}

enum status config_node_append(struct config *config, struct config_node *list,
                               const struct config_node *item)
{
    list->items =
        grown(config, (void *)list->items, list->count, sizeof(const struct config_node *));
    if (!list->items) return config_out_of_memory(config);
    list->items[list->count++] = item;
    return adopt(list, item);
}

enum status config_node_put(struct config *config, struct config_node *map,
                            const struct config_node *key, const struct config_node *value)
{
    if (map->count == CONFIG_MAX_KEYS) {
        return config_refuse_at(key, "more than %d keys in one section", CONFIG_MAX_KEYS);
    }
    map->entries = grown(config, map->entries, map->count, sizeof *map->entries);
    if (!map->entries) return config_out_of_memory(config);
    map->entries[map->count++] =
        (struct config_entry){.key = key, .value = value, .hash = hash_text(key->text)};
    return adopt(map, value);
}

struct config_entry *config_node_find(const struct config_node *map, const char *key)
{
    uint64_t hash = hash_text(key);
    for (int64_t i = 0; i < map->count; i++) {
        struct config_entry *entry = &map->entries[i];
        if (entry->hash == hash && strcmp(entry->key->text, key) == 0) return entry;
    }
    return NULL;
}

bool config_node_is_null(const struct config_node *node)
{
    return node->kind == NODE_SCALAR && node->is_plain &&
           (strcmp(node->text, "null") == 0 || strcmp(node->text, "~") == 0);
}

const char *config_place(const struct config_node *node, char *out, size_t size)
{
    if (!node || !node->source) {
        snprintf(out, size, "config");
    } else if (node->source->is_file) {
        snprintf(out, size, "%s:%lld:%lld", node->source->name, (long long)node->line,
                 (long long)node->column);
    } else {
        snprintf(out, size, "%s", node->source->name);
    }
    return out;
}

void config_report(const struct config_node *node, const char *format, ...)
{
    char text[1500];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char place[400];
    status_fail(STATUS_INVALID, "%s: %s", config_place(node, place, sizeof place), text);
}

void config_one_line(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7F) *text = '?';
    }
}

const char *config_path_text(const struct config_path *path, char *out, size_t size)
{
    /* Written from the last part to the first, at the end of the buffer, then moved. */
    size_t start = size - 1;
    out[start] = '\0';
    for (; path && path->parent; path = path->parent) {
        char number[24];
        const char *part = path->key;
        if (!part) {
            snprintf(number, sizeof number, "%lld", (long long)path->index);
            part = number;
        }
        size_t length = strlen(part) + (out[start] != '\0');
        if (length + 3 > start) {
            start -= 3;
            memcpy(out + start, "...", 3);
            break;
        }
        if (out[start] != '\0') out[--start] = '.';
        start -= strlen(part);
        memcpy(out + start, part, strlen(part));
    }
    memmove(out, out + start, size - start);
    config_one_line(out);
    return out;
}

struct config_quoted config_quote(const char *text)
{
    struct config_quoted quoted;
    size_t length = strlen(text);
    size_t shown = length > 40 ? 40 : length;
    while (shown < length && shown > 0 && ((unsigned char)text[shown] & 0xC0u) == 0x80u) {
        shown--; /* not in the middle of a UTF-8 character */
    }
    char *out = quoted.text;
    *out++ = '\'';
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7F) {
            out += snprintf(out, 5, "\\x%02X", c);
        } else {
            *out++ = (char)c;
        }
    }
    memcpy(out, shown < length ? "'..." : "'", shown < length ? 5 : 2);
    return quoted;
}
