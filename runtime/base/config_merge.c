/*
 * Files, their bases, and overrides: from several trees to one.
 *
 * Merging knows nothing of tables. Sections merge key by key, anything else replaces, and null
 * takes back what a base said, so that a recipe can leave a choice of its base together with the
 * keys that belonged to it. Each node keeps its source, so an error found later names the file that
 * wrote the value. Rejected: dropping the keys of a base in silence when `type` changes; a key that
 * no longer fits is reported with its own place, and the user takes it back with null.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/config_impl.h"

/* The files being read, from the one asked for down to the present base. */
struct chain {
    const struct chain *parent;
    const char *name; /* as written in messages */
    const char *real; /* without links, to recognise a circle */
    int depth;
};

static enum status load(struct config *config, const char *path, const struct chain *parent,
                        const struct config_node **out);

/* ---- merging -------------------------------------------------------------------------------- */

static enum status merge(struct config *config, const struct config_node *base,
                         const struct config_node *over, const struct config_node **out)
{
    *out = over;
    if (!base || base->kind != NODE_MAP || over->kind != NODE_MAP) return STATUS_OK;
    struct config_node *map = config_node_create(config, NODE_MAP, over);
    if (!map) return config_out_of_memory(config);
    for (int64_t i = 0; i < base->count; i++) {
        const struct config_entry *old = &base->entries[i];
        const struct config_entry *new = config_node_find(over, old->key->text);
        if (!new) {
            TRY(config_node_put(config, map, old->key, old->value));
        } else if (!config_node_is_null(new->value)) {
            const struct config_node *value = NULL;
            TRY(merge(config, old->value, new->value, &value));
            TRY(config_node_put(config, map, new->key, value));
        }
    }
    for (int64_t i = 0; i < over->count; i++) {
        const struct config_entry *new = &over->entries[i];
        if (config_node_find(base, new->key->text)) continue;
        TRY(config_node_put(config, map, new->key, new->value));
    }
    *out = map;
    return STATUS_OK;
}

/* ---- files ---------------------------------------------------------------------------------- */

static enum status read_all(int file, const char *path, size_t limit, struct strbuf *out)
{
    char chunk[65536];
    for (;;) {
        ssize_t count = read(file, chunk, sizeof chunk);
        if (count < 0 && errno == EINTR) continue;
        CHECK(count >= 0, STATUS_IO, "%s: cannot read: %s", path, strerror(errno));
        if (count == 0) return STATUS_OK;
        strbuf_append_bytes(out, chunk, (size_t)count);
        CHECK(!out->failed, STATUS_NO_MEMORY, "%s: out of memory while reading", path);
        if (out->length > limit) return STATUS_OK; /* refused by its size later */
    }
}

static enum status read_file(const char *path, struct strbuf *out)
{
    const size_t limit = (size_t)CONFIG_MAX_FILE_MIB << 20;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return status_fail(errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: cannot open: %s",
                           path, strerror(errno));
    }
    enum status status = STATUS_OK;
    struct stat info;
    CHECK_GOTO(fstat(file, &info) == 0, status, done, STATUS_IO, "%s: cannot read: %s", path,
               strerror(errno));
    CHECK_GOTO(!S_ISDIR(info.st_mode), status, done, STATUS_INVALID,
               "%s: is a directory, not a config file", path);
    CHECK_GOTO(!S_ISREG(info.st_mode) || info.st_size <= (off_t)limit, status, done, STATUS_INVALID,
               "%s: %lld MiB; a config may have at most %d MiB", path,
               (long long)(info.st_size >> 20), CONFIG_MAX_FILE_MIB);
    status = read_all(file, path, limit, out);
done:
    close(file);
    return status;
}

/* `name` relative to the folder of the file `from`. */
static const char *path_beside(struct config *config, const char *from, const char *name)
{
    const char *slash = strrchr(from, '/');
    if (name[0] == '/' || !slash) return arena_strdup(&config->arena, name);
    return arena_printf(&config->arena, "%.*s/%s", (int)(slash - from), from, name);
}

static enum status refuse_circle(const struct chain *chain, const char *path, const char *real)
{
    /* From the file asked for to the repeated one; the chain is linked the other way. */
    const struct chain *order[CONFIG_MAX_BASE_DEPTH + 1];
    int count = 0;
    for (const struct chain *c = chain; c; c = c->parent) {
        order[count++] = c;
        if (strcmp(c->real, real) == 0) break;
    }
    struct strbuf text = {0};
    while (count > 0) {
        strbuf_printf(&text, "%s -> ", order[--count]->name);
    }
    status_fail(STATUS_INVALID, "the files include each other: %s%s", text.text ? text.text : "",
                path);
    strbuf_fini(&text);
    return STATUS_INVALID;
}

static enum status load_base(struct config *config, const struct config_node *base,
                             const struct chain *chain, const struct config_node **merged)
{
    if (base->kind != NODE_SCALAR || !base->text[0] || config_node_is_null(base)) {
        return config_refuse_at(base, "base: expected the path of a file, or a list of paths");
    }
    const char *path = path_beside(config, chain->name, base->text);
    if (!path) return config_out_of_memory(config);
    const struct config_node *tree = NULL;
    char place[400];
    enum status status = STATUS_OK;
    if (chain->depth == CONFIG_MAX_BASE_DEPTH) {
        return config_refuse_at(base, "base: more than %d bases one below the other",
                                CONFIG_MAX_BASE_DEPTH);
    }
    int files_before = config->num_files;
    status = load(config, path, chain, &tree);
    if (status != STATUS_OK) {
        /* A file that could not even be opened is the mistake of the line that names it. */
        if (config->num_files == files_before) {
            status_prefix(status, "%s: base", config_place(base, place, sizeof place));
        }
        return status;
    }
    return merge(config, *merged, tree, merged);
}

/* Loads the bases that `tree` names, and merges the rest of `tree` over them. */
static enum status apply_bases(struct config *config, const struct config_node *tree,
                               const struct chain *chain, const struct config_node **out)
{
    *out = tree;
    const struct config_entry *base = config_node_find(tree, "base");
    if (!base) return STATUS_OK;
    struct config_node *own = config_node_create(config, NODE_MAP, tree);
    if (!own) return config_out_of_memory(config);
    for (int64_t i = 0; i < tree->count; i++) {
        const struct config_entry *entry = &tree->entries[i];
        if (entry != base) TRY(config_node_put(config, own, entry->key, entry->value));
    }
    const struct config_node *merged = NULL;
    if (base->value->kind == NODE_LIST) {
        for (int64_t i = 0; i < base->value->count; i++) {
            TRY(load_base(config, base->value->items[i], chain, &merged));
        }
    } else {
        TRY(load_base(config, base->value, chain, &merged));
    }
    return merge(config, merged, own, out);
}

static enum status load(struct config *config, const char *path, const struct chain *parent,
                        const struct config_node **out)
{
    struct strbuf bytes = {0};
    enum status status = read_file(path, &bytes);
    char *real = status == STATUS_OK ? realpath(path, NULL) : NULL;
    struct chain chain = {.parent = parent,
                          .name = path,
                          .real = real ? real : path,
                          .depth = parent ? parent->depth + 1 : 0};
    if (status != STATUS_OK) goto done;
    for (const struct chain *c = parent; c; c = c->parent) {
        if (strcmp(c->real, chain.real) == 0) {
            status = refuse_circle(parent, path, chain.real);
            goto done;
        }
    }
    CHECK_GOTO(config->num_files < CONFIG_MAX_FILES, status, done, STATUS_INVALID,
               "%s: more than %d files are read through 'base'", path, CONFIG_MAX_FILES);
    config->num_files++;
    struct config_source *source = arena_alloc(&config->arena, sizeof *source);
    CHECK_GOTO(source, status, done, STATUS_NO_MEMORY, "%s: out of memory", path);
    *source = (struct config_source){.name = path, .is_file = true};
    const struct config_node *tree = NULL;
    TRY_GOTO(status, config_parse(config, source, bytes.text, bytes.length, &tree), done);
    status = apply_bases(config, tree, &chain, out);
done:
    free(real);
    strbuf_fini(&bytes);
    return status;
}

enum status config_load(struct config *config, const char *path, const struct config_node **out)
{
    const char *name = arena_strdup(&config->arena, path);
    if (!name) return config_out_of_memory(config);
    return load(config, name, NULL, out);
}

/* ---- overrides ------------------------------------------------------------------------------ */

struct override {
    struct config *config;
    const char *parts[CONFIG_MAX_PATH_PARTS]; /* the dotted key */
    int num_parts;
    const struct config_node *place;
    const struct config_node *value;
};

/* Takes one part of the dotted key off *text: up to a dot or '=', or anything between quotes. */
static enum status scan_part(struct override *override, const char **text)
{
    const char *start = *text;
    const char *end = NULL;
    const char *next = NULL;
    if (*start == '"' || *start == '\'') {
        end = strchr(start + 1, *start);
        next = end ? end + 1 : NULL;
        start++;
    } else {
        end = start + strcspn(start, ".=");
        next = end;
    }
    if (!end || end == start || (*next != '.' && *next != '=') ||
        override->num_parts == CONFIG_MAX_PATH_PARTS) {
        return config_refuse_at(override->place, "expected key=value, such as optim.lr=1e-4 or "
                                                 "data.0.path=x.h5");
    }
    if (!config_is_text(start, (size_t)(end - start))) {
        return config_refuse_at(override->place, "the key is not UTF-8 text");
    }
    const char *part = arena_strndup(&override->config->arena, start, (size_t)(end - start));
    if (!part) return config_out_of_memory(override->config);
    override->parts[override->num_parts++] = part;
    *text = next;
    return STATUS_OK;
}

static enum status set(struct override *override, const struct config_node *node, int part,
                       const struct config_node **out);

static enum status set_in_list(struct override *override, const struct config_node *list, int part,
                               const struct config_node **out)
{
    int64_t index = 0;
    const char *text = override->parts[part];
    if (config_scan_int(text, &index) != NULL || index < 0 || index >= list->count) {
        char place[400];
        return config_refuse_at(override->place,
                                "%s is not an index into a list of %lld elements, counted from 0 "
                                "(%s)",
                                config_quote(text).text, (long long)list->count,
                                config_place(list, place, sizeof place));
    }
    struct config_node *copy = config_node_create(override->config, NODE_LIST, list);
    if (!copy) return config_out_of_memory(override->config);
    for (int64_t i = 0; i < list->count; i++) {
        const struct config_node *item = list->items[i];
        if (i == index) TRY(set(override, item, part + 1, &item));
        TRY(config_node_append(override->config, copy, item));
    }
    *out = copy;
    return STATUS_OK;
}

static enum status set_in_map(struct override *override, const struct config_node *map, int part,
                              const struct config_node **out)
{
    struct config_node *copy = config_node_create(override->config, NODE_MAP, map);
    struct config_node *key = config_node_create(override->config, NODE_SCALAR, override->place);
    if (!copy || !key) return config_out_of_memory(override->config);
    key->text = override->parts[part];
    const struct config_entry *old = config_node_find(map, key->text);
    const struct config_node *value = old ? old->value : NULL;
    TRY(set(override, value, part + 1, &value));
    bool is_taken_back = old && config_node_is_null(value);
    for (int64_t i = 0; i < map->count; i++) {
        const struct config_entry *entry = &map->entries[i];
        if (entry != old) {
            TRY(config_node_put(override->config, copy, entry->key, entry->value));
        } else if (!is_taken_back) {
            TRY(config_node_put(override->config, copy, key, value));
        }
    }
    if (!old) TRY(config_node_put(override->config, copy, key, value));
    *out = copy;
    return STATUS_OK;
}

/* `node` with the value set at the rest of the dotted key. */
static enum status set(struct override *override, const struct config_node *node, int part,
                       const struct config_node **out)
{
    if (part == override->num_parts) return merge(override->config, node, override->value, out);
    if (node && node->kind == NODE_LIST) return set_in_list(override, node, part, out);
    if (node && node->kind == NODE_MAP) return set_in_map(override, node, part, out);
    if (!node || config_node_is_null(node)) {
        int64_t index = 0;
        if (config_scan_int(override->parts[part], &index) == NULL) {
            return config_refuse_at(override->place,
                                    "there is no list to take element %s of; give the whole list",
                                    config_quote(override->parts[part]).text);
        }
        struct config_node *empty = config_node_create(override->config, NODE_MAP, override->place);
        if (!empty) return config_out_of_memory(override->config);
        return set_in_map(override, empty, part, out);
    }
    char place[400];
    return config_refuse_at(override->place, "%s is a value, not a section or list (%s)",
                            config_quote(override->parts[part - 1]).text,
                            config_place(node, place, sizeof place));
}

enum status config_override(struct config *config, const char *text,
                            const struct config_node **root)
{
    struct config_source *source = arena_alloc(&config->arena, sizeof *source);
    struct config_node *place = config_node_create(config, NODE_SCALAR, NULL);
    if (!source || !place) return config_out_of_memory(config);
    char *name = arena_printf(&config->arena, "--set %s", text);
    if (!name) return config_out_of_memory(config);
    config_one_line(name);
    source->name = name;
    place->source = source;
    struct override override = {.config = config, .place = place};
    const char *rest = text;
    TRY(scan_part(&override, &rest));
    while (*rest == '.') {
        rest++;
        TRY(scan_part(&override, &rest));
    }
    rest++; /* the '=' */
    if (strcmp(override.parts[0], "base") == 0) {
        return config_refuse_at(place, "'base' can only be written in a file");
    }
    TRY(config_parse(config, source, rest, strlen(rest), &override.value));
    return set(&override, *root, 0, root);
}
