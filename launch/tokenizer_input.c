#include "launch/tokenizer_input.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "data/store/store.h"

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);
    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

static enum status add_row(struct bpe_trainer *trainer, const json_t *row, const char *field)
{
    CHECK(json_is_object(row), STATUS_INVALID, "the line is not a JSON object");
    const json_t *value = json_object_get(row, field);
    CHECK(value, STATUS_INVALID, "the object has no key \"%s\"; --field names the texts' key",
          field);
    if (json_is_string(value)) {
        return bpe_trainer_add(trainer, json_string_value(value), json_string_length(value));
    }
    CHECK(json_is_array(value), STATUS_INVALID, "\"%s\" is neither a text nor a list of texts",
          field);
    size_t index;
    json_t *text;
    json_array_foreach(value, index, text)
    {
        CHECK(json_is_string(text), STATUS_INVALID, "\"%s\"[%zu] is not a text", field, index);
        TRY(bpe_trainer_add(trainer, json_string_value(text), json_string_length(text)));
    }
    return STATUS_OK;
}

static enum status add_json_line(struct bpe_trainer *trainer, const char *line, size_t length,
                                 const char *field)
{
    if (strspn(line, " \t\r") == length) return STATUS_OK;
    json_error_t error;
    json_t *row = json_loadb(line, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    CHECK(row, STATUS_INVALID, "not valid JSON at column %d: %s", error.column, error.text);
    enum status status = add_row(trainer, row, field);
    json_decref(row);
    return status;
}

static enum status add_lines(struct bpe_trainer *trainer, const char *path, const char *field)
{
    bool standard = strcmp(path, "-") == 0;
    bool json = ends_with(path, ".jsonl") || ends_with(path, ".json");
    FILE *file = standard ? stdin : fopen(path, "rb");
    CHECK(file, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s", path, strerror(errno));
    char *line = NULL;
    size_t capacity = 0;
    int64_t number = 0;
    ssize_t length;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (length = getline(&line, &capacity, file)) > 0) {
        number++;
        if (line[length - 1] == '\n') line[--length] = '\0';
        if (length > 0 && line[length - 1] == '\r') line[--length] = '\0';
        status = json ? add_json_line(trainer, line, (size_t)length, field)
                      : bpe_trainer_add(trainer, line, (size_t)length);
        if (status != STATUS_OK) status = status_prefix(status, "%s:%" PRId64, path, number);
    }
    if (status == STATUS_OK && ferror(file)) {
        status = status_fail(STATUS_IO, "%s:%" PRId64 ": %s", path, number + 1, strerror(errno));
    }
    free(line);
    if (!standard) fclose(file);
    return status;
}

static enum status add_store(struct bpe_trainer *trainer, const char *const *paths, int num_paths)
{
    struct store *store;
    /* A vocabulary may come from some shards of a set. */
    TRY(store_open(&store, paths, num_paths, &(struct store_options){.partial = true}));
    struct store_text text = {0};
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < store_num_texts(store) && status == STATUS_OK; i++) {
        status = store_text_read(store, i, &text);
        if (status == STATUS_OK) status = bpe_trainer_add(trainer, text.text, (size_t)text.length);
        if (status == STATUS_INVALID) {
            int shard;
            int64_t row;
            store_locate_text(store, i, &shard, &row);
            status =
                status_prefix(status, "%s: text %" PRId64, store_shard_path(store, shard), row);
        }
    }
    store_text_fini(&text);
    store_close(&store);
    return status;
}

enum status tokenizer_input_add(struct bpe_trainer *trainer, const char *const *paths,
                                int num_paths, const char *field)
{
    const char **shards = calloc((size_t)num_paths + 1, sizeof *shards);
    CHECK(shards, STATUS_NO_MEMORY, "no memory for %d paths", num_paths);
    int num_shards = 0;
    enum status status = STATUS_OK;
    for (int i = 0; i < num_paths && status == STATUS_OK; i++) {
        if (ends_with(paths[i], ".h5")) {
            shards[num_shards++] = paths[i];
        } else {
            status = add_lines(trainer, paths[i], field);
        }
    }
    if (status == STATUS_OK && num_shards > 0) status = add_store(trainer, shards, num_shards);
    free(shards);
    return status;
}
