/* A YAML file as a flat list of keys, for the differences of resolved configs. These are written by
 * weft, so they hold no aliases; one in a file of a person's is followed like what it names. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <yaml.h>

#include "launch/compare.h"

enum { MAX_DEPTH = 64, MAX_PAIRS = 100000 };

struct flattener {
    const char *path;
    struct arena *arena;
    yaml_document_t *document;
    const char *(*pairs)[2];
    int count;
    int capacity;
};

static enum status add_pair(struct flattener *flat, const char *key, const char *value)
{
    CHECK(flat->count < MAX_PAIRS, STATUS_UNSUPPORTED, "%s: more than %d values", flat->path,
          MAX_PAIRS);
    if (flat->count == flat->capacity) {
        int capacity = flat->capacity ? 2 * flat->capacity : 64;
        const char *(*pairs)[2] = arena_alloc(flat->arena, (size_t)capacity * sizeof *pairs);
        CHECK(pairs, STATUS_NO_MEMORY, "%s: out of memory", flat->path);
        if (flat->count) memcpy(pairs, flat->pairs, (size_t)flat->count * sizeof *pairs);
        flat->pairs = pairs;
        flat->capacity = capacity;
    }
    flat->pairs[flat->count][0] = arena_strdup(flat->arena, key);
    flat->pairs[flat->count][1] = arena_strdup(flat->arena, value);
    CHECK(flat->pairs[flat->count][0] && flat->pairs[flat->count][1], STATUS_NO_MEMORY,
          "%s: out of memory", flat->path);
    flat->count++;
    return STATUS_OK;
}

static enum status walk(struct flattener *flat, const yaml_node_t *node, const char *key,
                        int depth);

/* Goes on below `key` with one more part. */
static enum status walk_part(struct flattener *flat, int index, const char *key, const char *part,
                             int depth)
{
    const yaml_node_t *node = yaml_document_get_node(flat->document, index);
    char *below = arena_printf(flat->arena, "%s%s%s", key, key[0] ? "." : "", part);
    CHECK(below && node, STATUS_NO_MEMORY, "%s: out of memory", flat->path);
    return walk(flat, node, below, depth + 1);
}

static enum status walk(struct flattener *flat, const yaml_node_t *node, const char *key, int depth)
{
    CHECK(depth < MAX_DEPTH, STATUS_UNSUPPORTED, "%s: nested too deeply", flat->path);
    if (node->type == YAML_SCALAR_NODE) {
        return add_pair(flat, key, (const char *)node->data.scalar.value);
    }
    if (node->type == YAML_SEQUENCE_NODE) {
        const yaml_node_item_t *begin = node->data.sequence.items.start;
        int64_t count = node->data.sequence.items.top - begin;
        if (count == 0) return add_pair(flat, key, "[]");
        for (int64_t i = 0; i < count; i++) {
            char part[24];
            snprintf(part, sizeof part, "%lld", (long long)i);
            TRY(walk_part(flat, begin[i], key, part, depth));
        }
        return STATUS_OK;
    }
    const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
    if (pair == node->data.mapping.pairs.top) return add_pair(flat, key, "{}");
    for (; pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *name = yaml_document_get_node(flat->document, pair->key);
        bool scalar = name && name->type == YAML_SCALAR_NODE;
        TRY(walk_part(flat, pair->value, key, scalar ? (const char *)name->data.scalar.value : "?",
                      depth));
    }
    return STATUS_OK;
}

enum status compare_flatten(const char *path, struct arena *arena, const char *(**pairs)[2],
                            int *count)
{
    yaml_parser_t parser;
    yaml_document_t document;
    struct flattener flat = {.path = path, .arena = arena, .document = &document};
    FILE *file = fopen(path, "rb");
    CHECK(file, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s", path, strerror(errno));
    enum status status = STATUS_OK;
    if (!yaml_parser_initialize(&parser)) {
        fclose(file);
        return status_fail(STATUS_NO_MEMORY, "%s: out of memory", path);
    }
    yaml_parser_set_input_file(&parser, file);
    if (!yaml_parser_load(&parser, &document)) {
        status = status_fail(STATUS_CORRUPT, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                             parser.problem ? parser.problem : "not YAML");
    } else {
        const yaml_node_t *root = yaml_document_get_root_node(&document);
        if (root) status = walk(&flat, root, "", 0);
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    fclose(file);
    *pairs = flat.pairs;
    *count = flat.count;
    return status;
}
