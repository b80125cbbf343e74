/*
 * webdataset: tar shards in which members with the same name up to the first dot of the last part,
 * one after the other, are one sample (000123.jpg, 000123.txt, 000123.json).
 *
 * Such sets have hundreds of millions of samples, so the index is 8 bytes a sample: the place of
 * its first header. What belongs to it is found again by walking on from there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/import/common.h"
#include "data/import/tar.h"

enum { MAX_NAME = 64, MAX_STEM = 1024 };

struct web {
    struct library library;
    struct input *shards; /* [num_shards], owned; paths in the library */
    int num_shards;
    char field[MAX_NAME];       /* of captions in .json members */
    char text_ending[MAX_NAME]; /* of members that are captions */
    struct int_list start;      /* common_place (shard, first header) of each sample */
};

static const struct import_option options[] = {
    {"text", "txt", "ending of the members that are captions"},
    {"caption-field", "caption",
     "field with the caption in a .json member, where there is no text"},
    {NULL, NULL, NULL},
};

/* The length of what members of one sample have in common: up to the first dot of the last part. */
static size_t stem_length(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *dot = strchr(slash ? slash : name, '.');
    return dot ? (size_t)(dot - name) : strlen(name);
}

/* ---- opening ------------------------------------------------------------------------------------
 */

struct indexing {
    struct web *web;
    int shard;
    char stem[MAX_STEM];
    size_t length;
    uint64_t *hash;
};

static enum status index_member(void *context, const struct tar_entry *entry, bool *stop)
{
    struct indexing *at = context;
    (void)stop;
    size_t length = stem_length(entry->name);
    CHECK(length < MAX_STEM, STATUS_UNSUPPORTED, "%s: a member's name has more than %d bytes",
          at->web->shards[at->shard].path, MAX_STEM - 1);
    int64_t facts[2] = {entry->offset, entry->size};
    *at->hash = import_hash(*at->hash, entry->name, (int64_t)strlen(entry->name));
    *at->hash = import_hash(*at->hash, facts, sizeof facts);
    if (length == at->length && memcmp(entry->name, at->stem, length) == 0) return STATUS_OK;
    memcpy(at->stem, entry->name, length);
    at->length = length;
    return int_list_add(&at->web->start, common_place(at->shard, entry->header));
}

static enum status open_shards(struct web *web, const struct import_args *args, uint64_t *hash)
{
    const char *field = import_value(args, "caption-field");
    const char *text = import_value(args, "text");
    CHECK(strlen(field) < MAX_NAME && strlen(text) < MAX_NAME, STATUS_INVALID,
          "--caption-field and --text take names of up to %d bytes", MAX_NAME - 1);
    snprintf(web->field, sizeof web->field, "%s", field);
    snprintf(web->text_ending, sizeof web->text_ending, "%s", text);
    *hash = import_hash(import_hash(0, field, (int64_t)strlen(field)), text, (int64_t)strlen(text));
    web->shards = calloc((size_t)args->num_sources, sizeof *web->shards);
    CHECK(web->shards, STATUS_NO_MEMORY, "no memory for %d shards", args->num_sources);
    for (web->num_shards = 0; web->num_shards < args->num_sources; web->num_shards++) {
        struct input *shard = &web->shards[web->num_shards];
        TRY(library_open(&web->library, args->sources[web->num_shards], shard));
        struct indexing indexing = {
            .web = web, .shard = web->num_shards, .length = SIZE_MAX, .hash = hash};
        TRY(tar_walk(shard, 0, index_member, &indexing));
    }
    CHECK(web->start.count > 0, STATUS_INVALID, "%s: the tar file is empty", args->sources[0]);
    return STATUS_OK;
}

static void webdataset_close(struct import_source *source)
{
    struct web *web = source->state;
    if (!web) return;
    library_fini(&web->library);
    free(web->start.value);
    free(web->shards);
    free(web);
    source->state = NULL;
}

static enum status webdataset_open(struct import_source *source, const struct import_args *args)
{
    struct web *web = calloc(1, sizeof *web);
    CHECK(web, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = web;
    enum status status = open_shards(web, args, &source->fingerprint);
    source->num_items = web->start.count;
    if (status != STATUS_OK) webdataset_close(source);
    return status;
}

/* ---- one sample ---------------------------------------------------------------------------------
 */

struct members {
    const struct web *web;
    struct arena *arena;
    char *stem;
    struct tar_entry picture, text, json; /* size 0: there is none */
};

static enum status collect(void *context, const struct tar_entry *entry, bool *stop)
{
    struct members *members = context;
    size_t length = stem_length(entry->name);
    if (!members->stem) {
        members->stem = arena_strndup(members->arena, entry->name, length);
        CHECK(members->stem, STATUS_NO_MEMORY, "no memory for a name");
    }
    *stop = strlen(members->stem) != length || memcmp(members->stem, entry->name, length) != 0;
    if (*stop) return STATUS_OK;
    const char *ending = entry->name + length + (entry->name[length] == '.');
    struct tar_entry *into = common_is_picture(entry->name)                   ? &members->picture
                             : strcmp(ending, members->web->text_ending) == 0 ? &members->text
                             : strcmp(ending, "json") == 0                    ? &members->json
                                                                              : NULL;
    if (!into) return STATUS_OK;
    CHECK(!into->name, STATUS_INVALID, "two members of one kind: %s and %s", into->name,
          entry->name);
    *into = *entry;
    into->name = arena_strdup(members->arena, entry->name);
    CHECK(into->name, STATUS_NO_MEMORY, "no memory for a name");
    return STATUS_OK;
}

static enum status read_member(const struct input *shard, const struct tar_entry *entry,
                               struct sample *sample, const uint8_t **bytes)
{
    CHECK(!entry->link, STATUS_UNSUPPORTED,
          "%s is a link; make the archive with --dereference --hard-dereference", entry->name);
    CHECK(entry->size > 0, STATUS_INVALID, "%s is empty", entry->name);
    uint8_t *memory = sample_alloc(sample, entry->size);
    CHECK(memory, STATUS_NO_MEMORY, "%s: no memory for %lld bytes", entry->name,
          (long long)entry->size);
    *bytes = memory;
    return input_read(shard, entry->offset, memory, entry->size);
}

static enum status add_json_caption(const struct web *web, const struct input *shard,
                                    const struct tar_entry *entry, struct sample *sample)
{
    struct json_value *value = NULL;
    const struct json_value *caption = NULL;
    struct input member = {shard->fd, shard->offset + entry->offset, entry->size, entry->name};
    TRY(json_read_at(&member, 0, entry->size, &sample->arena, &value));
    enum status status = json_get_string(value, web->field, &caption);
    if (status != STATUS_OK) return status_prefix(status, "%s", entry->name);
    return sample_add_text(sample, TEXT_CAPTION, 0, caption->text, caption->length, NULL, NULL);
}

static enum status fetch_members(const struct web *web, const struct input *shard, int64_t begin,
                                 struct sample *sample)
{
    struct members members = {.web = web, .arena = &sample->arena};
    const uint8_t *bytes = NULL;
    TRY(tar_walk(shard, begin, collect, &members));
    CHECK(members.picture.name, STATUS_INVALID, "%s has no picture (.jpg, .jpeg, .png, .webp)",
          members.stem);
    CHECK(members.text.name || members.json.name, STATUS_INVALID,
          "%s has no caption (neither .%s nor .json)", members.stem, web->text_ending);
    TRY(read_member(shard, &members.picture, sample, &bytes));
    TRY(sample_add_image(sample, bytes, members.picture.size, members.picture.name, NULL));
    if (!members.text.name) return add_json_caption(web, shard, &members.json, sample);
    TRY(read_member(shard, &members.text, sample, &bytes));
    const char *text = (const char *)bytes;
    int64_t length = members.text.size;
    common_trim(&text, &length);
    return sample_add_text(sample, TEXT_CAPTION, 0, text, length, NULL, NULL);
}

static enum status webdataset_fetch(const struct import_source *source, int64_t item,
                                    struct sample *sample)
{
    const struct web *web = source->state;
    const struct input *shard = &web->shards[common_place_file(web->start.value[item])];
    enum status status =
        fetch_members(web, shard, common_place_offset(web->start.value[item]), sample);
    bool named = strncmp(status_message(), shard->path, strlen(shard->path)) == 0;
    return status == STATUS_OK || named ? status : status_prefix(status, "%s", shard->path);
}

const struct importer importer_webdataset = {
    .name = "webdataset",
    .summary = "WebDataset tar shards: members 000123.jpg and 000123.txt are one sample",
    .usage = "weft pack webdataset SHARD.tar... -o OUT-%05d.h5\n"
             "The caption is the .txt member, or else a field of the .json member. Members of one\n"
             "sample follow each other, as in every WebDataset.",
    .options = options,
    .min_sources = 1,
    .max_sources = -1,
    .open = webdataset_open,
    .fetch = webdataset_fetch,
    .close = webdataset_close,
};
