/*
 * Bytes to tree, on the events of libyaml.
 *
 * The bytes are checked first (UTF-8, control characters, tabs in indentation), because libyaml
 * reports these without a line or in words that do not help. Then events are turned into nodes by
 * recursive descent, at most CONFIG_MAX_DEPTH deep. An alias shares the node of its anchor; what it
 * would add if it were copied is counted, so a file that multiplies itself by aliases is refused
 * when the count passes CONFIG_MAX_VALUES, before any memory is spent on it. An anchor is known
 * from its start and usable from its end, so an alias inside its own anchor is told apart from an
 * unknown one. Tags, several documents and keys that are not plain text are refused: no option
 * needs them.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "runtime/base/config_impl.h"

struct anchor {
    const char *name;
    const struct config_node *place;
    const struct config_node *node; /* NULL while its value is being read */
};

/* What is kept of a yaml_event_t, which is freed at once. Text lives in the arena. */
struct event {
    yaml_event_type_t type;
    struct config_node *node; /* the place, and the text of scalars */
    const char *anchor;       /* also the target of an alias */
    bool has_tag;
};

struct parser {
    yaml_parser_t yaml;
    struct config *config;
    const struct config_source *source;
    int64_t num_values;
    int num_anchors;
    struct anchor anchors[CONFIG_MAX_ANCHORS];
};

static enum status parse_value(struct parser *parser, const struct event *event, int depth,
                               const struct config_node **out);

/* ---- bytes ---------------------------------------------------------------------------------- */

/* The code point at `text`, or -1 when the bytes are not UTF-8; its length in *length. */
static int32_t decode_utf8(const unsigned char *text, size_t size, size_t *length)
{
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = text[0];
    *length = 1;
    if (first < 0x80) return first;
    size_t count = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || count > size) return -1;
    int32_t code = first & (0x7F >> count);
    for (size_t i = 1; i < count; i++) {
        if ((text[i] & 0xC0u) != 0x80u) return -1;
        code = code << 6 | (text[i] & 0x3F);
    }
    if (code < least[count] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return -1;
    *length = count;
    return code;
}

static bool is_allowed(int32_t code)
{
    if (code < 0x20) return code == '\t' || code == '\n' || code == '\r';
    if (code >= 0x7F && code < 0xA0) return code == 0x85;
    return code != 0xFFFE && code != 0xFFFF;
}

bool config_is_text(const char *bytes, size_t size)
{
    const unsigned char *text = (const unsigned char *)bytes;
    size_t length = 1;
    for (size_t i = 0; i < size; i += length) {
        int32_t code = decode_utf8(text + i, size - i, &length);
        if (code <= 0 || !is_allowed(code)) return false;
    }
    return true;
}

static enum status check_bytes(const struct config_source *source, const char *bytes, size_t size)
{
    struct config_node at = {.source = source, .line = 1, .column = 1};
    const unsigned char *text = (const unsigned char *)bytes;
    bool is_indentation = true;
    for (size_t i = 0; i < size;) {
        size_t length = 1;
        int32_t code = decode_utf8(text + i, size - i, &length);
        if (code < 0) return config_refuse_at(&at, "not UTF-8 text (byte 0x%02X)", text[i]);
        if (code == 0) return config_refuse_at(&at, "not a text file (it contains zero bytes)");
        if (!is_allowed(code)) {
            return config_refuse_at(&at, "control character U+%04X", (unsigned)code);
        }
        if (code == '\t' && is_indentation) {
            return config_refuse_at(&at, "tab in the indentation; use spaces");
        }
        bool is_break = code == '\n' || (code == '\r' && (i + 1 == size || text[i + 1] != '\n'));
        is_indentation = is_break || (is_indentation && code == ' ');
        at.line += is_break;
        at.column = is_break ? 1 : at.column + 1;
        i += length;
    }
    return STATUS_OK;
}

/* ---- events --------------------------------------------------------------------------------- */

static void report_syntax(const struct parser *parser)
{
    const yaml_parser_t *yaml = &parser->yaml;
    struct config_node at = {.source = parser->source,
                             .line = (int64_t)yaml->problem_mark.line + 1,
                             .column = (int64_t)yaml->problem_mark.column + 1};
    const char *problem = yaml->problem ? yaml->problem : "unknown problem";
    if (!yaml->context) {
        config_report(&at, "not valid YAML: %s", problem);
    } else if (!parser->source->is_file) {
        config_report(&at, "not valid YAML: %s, %s", problem, yaml->context);
    } else {
        config_report(&at, "not valid YAML: %s, %s that began in line %lld", problem, yaml->context,
                      (long long)yaml->context_mark.line + 1);
    }
}

static enum status copy_scalar(struct parser *parser, const yaml_event_t *from,
                               struct config_node *node)
{
    const char *text = (const char *)from->data.scalar.value;
    size_t length = from->data.scalar.length;
    if (memchr(text, '\0', length)) {
        return config_refuse_at(node, "a value must not contain \\0");
    }
    node->is_plain = from->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->text = arena_strndup(&parser->config->arena, text, length);
    return node->text ? STATUS_OK : config_out_of_memory(parser->config);
}

static enum status copy_event(struct parser *parser, const yaml_event_t *from, struct event *event)
{
    struct config_node place = {.source = parser->source,
                                .line = (int64_t)from->start_mark.line + 1,
                                .column = (int64_t)from->start_mark.column + 1};
    enum node_kind kind = from->type == YAML_SEQUENCE_START_EVENT  ? NODE_LIST
                          : from->type == YAML_MAPPING_START_EVENT ? NODE_MAP
                                                                   : NODE_SCALAR;
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;
    *event = (struct event){.type = from->type,
                            .node = config_node_create(parser->config, kind, &place)};
    if (!event->node) return config_out_of_memory(parser->config);
    switch (from->type) {
    case YAML_SCALAR_EVENT:
        anchor = from->data.scalar.anchor;
        tag = from->data.scalar.tag;
        TRY(copy_scalar(parser, from, event->node));
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = from->data.sequence_start.anchor;
        tag = from->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = from->data.mapping_start.anchor;
        tag = from->data.mapping_start.tag;
        break;
    case YAML_ALIAS_EVENT:
        anchor = from->data.alias.anchor;
        assert(anchor);
        break;
    default:
        break;
    }
    event->has_tag = tag != NULL;
    if (anchor) {
        event->anchor = arena_strdup(&parser->config->arena, (const char *)anchor);
        if (!event->anchor) return config_out_of_memory(parser->config);
    }
    return STATUS_OK;
}

static enum status next_event(struct parser *parser, struct event *event)
{
    yaml_event_t from;
    if (!yaml_parser_parse(&parser->yaml, &from)) {
        if (parser->yaml.error == YAML_MEMORY_ERROR) return config_out_of_memory(parser->config);
        report_syntax(parser);
        return STATUS_INVALID;
    }
    enum status status = copy_event(parser, &from, event);
    yaml_event_delete(&from);
    return status;
}

/* ---- anchors and merges --------------------------------------------------------------------- */

static enum status count_values(struct parser *parser, const struct config_node *at, int64_t count)
{
    parser->num_values += count;
    if (parser->num_values <= CONFIG_MAX_VALUES) return STATUS_OK;
    return config_refuse_at(at, "more than %d values%s", CONFIG_MAX_VALUES,
                            parser->num_anchors ? ", counting what aliases repeat" : "");
}

static struct anchor *anchor_find(struct parser *parser, const char *name)
{
    for (int i = 0; i < parser->num_anchors; i++) {
        if (strcmp(parser->anchors[i].name, name) == 0) return &parser->anchors[i];
    }
    return NULL;
}

static enum status anchor_open(struct parser *parser, const struct event *event)
{
    const struct anchor *old = anchor_find(parser, event->anchor);
    if (old) {
        char place[400];
        return config_refuse_at(event->node, "anchor %s is already defined at %s",
                                config_quote(event->anchor).text,
                                config_place(old->place, place, sizeof place));
    }
    if (parser->num_anchors == CONFIG_MAX_ANCHORS) {
        return config_refuse_at(event->node, "more than %d anchors", CONFIG_MAX_ANCHORS);
    }
    parser->anchors[parser->num_anchors++] =
        (struct anchor){.name = event->anchor, .place = event->node};
    return STATUS_OK;
}

static enum status resolve_alias(struct parser *parser, const struct event *event,
                                 const struct config_node **out)
{
    const struct anchor *anchor = anchor_find(parser, event->anchor);
    struct config_quoted name = config_quote(event->anchor);
    if (!anchor) {
        return config_refuse_at(event->node, "no anchor %s before this alias", name.text);
    }
    if (!anchor->node) {
        return config_refuse_at(event->node, "alias %s stands inside its own anchor", name.text);
    }
    *out = anchor->node;
    return count_values(parser, event->node, anchor->node->weight);
}

/* Adds the keys of `source` that `map` has not; keys written in the map itself win. */
static enum status merge_map(struct parser *parser, struct config_node *map,
                             const struct config_node *source, const struct config_node *place)
{
    if (source->kind != NODE_MAP) {
        return config_refuse_at(place, "'<<' needs an alias of a section, or a list of them");
    }
    for (int64_t i = 0; i < source->count; i++) {
        const struct config_entry *entry = &source->entries[i];
        if (config_node_find(map, entry->key->text)) continue;
        TRY(config_node_put(parser->config, map, entry->key, entry->value));
    }
    return STATUS_OK;
}

static enum status merge_value(struct parser *parser, struct config_node *map,
                               const struct config_node *value, const struct config_node *place)
{
    if (value->kind != NODE_LIST) return merge_map(parser, map, value, place);
    for (int64_t i = 0; i < value->count; i++) {
        TRY(merge_map(parser, map, value->items[i], place));
    }
    return STATUS_OK;
}

/* ---- values --------------------------------------------------------------------------------- */

static enum status parse_list(struct parser *parser, struct config_node *list, int depth)
{
    struct event event;
    for (;;) {
        TRY(next_event(parser, &event));
        if (event.type == YAML_SEQUENCE_END_EVENT) return STATUS_OK;
        const struct config_node *item = NULL;
        TRY(parse_value(parser, &event, depth + 1, &item));
        TRY(config_node_append(parser->config, list, item));
    }
}

static enum status check_key(const struct config_node *map, const struct event *event)
{
    const struct config_node *key = event->node;
    if (event->type != YAML_SCALAR_EVENT || event->anchor || event->has_tag || !key->text[0]) {
        return config_refuse_at(key, "a key must be plain text");
    }
    const struct config_entry *old = config_node_find(map, key->text);
    if (!old) return STATUS_OK;
    char place[400];
    return config_refuse_at(key, "key %s is given twice, first at %s", config_quote(key->text).text,
                            config_place(old->key, place, sizeof place));
}

static enum status parse_map(struct parser *parser, struct config_node *map, int depth)
{
    const struct config_node *merge_key = NULL;
    const struct config_node *merged = NULL;
    for (;;) {
        struct event key;
        struct event event;
        TRY(next_event(parser, &key));
        if (key.type == YAML_MAPPING_END_EVENT) break;
        TRY(check_key(map, &key));
        bool is_merge = key.node->is_plain && strcmp(key.node->text, "<<") == 0;
        if (is_merge && merge_key) {
            return config_refuse_at(key.node, "'<<' is given twice; write '<<: [*a, *b]'");
        }
        TRY(next_event(parser, &event));
        const struct config_node *value = NULL;
        TRY(parse_value(parser, &event, depth + 1, &value));
        if (is_merge) {
            merge_key = key.node;
            merged = value;
        } else {
            TRY(config_node_put(parser->config, map, key.node, value));
        }
    }
    return merged ? merge_value(parser, map, merged, merge_key) : STATUS_OK;
}

static enum status parse_value(struct parser *parser, const struct event *event, int depth,
                               const struct config_node **out)
{
    struct config_node *node = event->node;
    if (event->type == YAML_ALIAS_EVENT) return resolve_alias(parser, event, out);
    if (event->has_tag) {
        return config_refuse_at(node, "tags ('!...') are not part of the config language");
    }
    if (depth > CONFIG_MAX_DEPTH) {
        return config_refuse_at(node, "nested more than %d levels deep", CONFIG_MAX_DEPTH);
    }
    int64_t before = parser->num_values;
    TRY(count_values(parser, node, 1));
    int anchor = parser->num_anchors;
    if (event->anchor) TRY(anchor_open(parser, event));
    if (node->kind == NODE_LIST) TRY(parse_list(parser, node, depth));
    if (node->kind == NODE_MAP) TRY(parse_map(parser, node, depth));
    node->weight = parser->num_values - before;
    if (event->anchor) parser->anchors[anchor].node = node;
    *out = node;
    return STATUS_OK;
}

static enum status parse_document(struct parser *parser, const struct config_node **out)
{
    struct event event;
    TRY(next_event(parser, &event)); /* stream start */
    TRY(next_event(parser, &event));
    if (event.type == YAML_STREAM_END_EVENT) {
        return status_fail(STATUS_INVALID, "%s: no settings here; write {} to take every default",
                           parser->source->name);
    }
    TRY(next_event(parser, &event));
    TRY(parse_value(parser, &event, 1, out));
    TRY(next_event(parser, &event)); /* document end */
    TRY(next_event(parser, &event));
    if (event.type == YAML_STREAM_END_EVENT) return STATUS_OK;
    return config_refuse_at(event.node, "a second document begins; a config is one document");
}

enum status config_parse(struct config *config, const struct config_source *source,
                         const char *bytes, size_t size, const struct config_node **out)
{
    CHECK(size > 0, STATUS_INVALID, "%s: %s", source->name,
          source->is_file ? "the file is empty" : "no value");
    CHECK(size <= (size_t)CONFIG_MAX_FILE_MIB << 20, STATUS_INVALID,
          "%s: larger than %d MiB; is this a config?", source->name, CONFIG_MAX_FILE_MIB);
    TRY(check_bytes(source, bytes, size));
    struct parser *parser = calloc(1, sizeof *parser);
    if (!parser) return config_out_of_memory(config);
    parser->config = config;
    parser->source = source;
    enum status status = STATUS_OK;
    if (yaml_parser_initialize(&parser->yaml)) {
        yaml_parser_set_encoding(&parser->yaml, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser->yaml, (const unsigned char *)bytes, size);
        status = parse_document(parser, out);
        yaml_parser_delete(&parser->yaml);
    } else {
        status = config_out_of_memory(config);
    }
    free(parser);
    if (status == STATUS_OK && source->is_file && (*out)->kind != NODE_MAP) {
        status = config_refuse_at(*out, "a config is a section of 'key: value' lines");
    }
    return status;
}
