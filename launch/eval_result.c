#include "launch/eval_result.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/import/json_value.h"
#include "launch/json_text.h"
#include "runtime/base/file_io.h"

static const char *const kind_names[EVAL_NUM_KINDS] = {"retrieval_best", "retrieval_worst",
                                                       "hard_negative"};
static const char *const query_names[] = {"caption", "image"};

const char *eval_example_kind_name(enum eval_example_kind kind)
{
    return kind_names[kind];
}

/* ---- writing ---- */

static void put_values(struct strbuf *out, const char *key, const struct run_values *values)
{
    strbuf_printf(out, " \"%s\": {", key);
    for (int i = 0; i < values->count; i++) {
        if (i > 0) strbuf_append(out, ", ");
        json_append_string(out, values->items[i].name);
        strbuf_append(out, ": ");
        json_append_number(out, values->items[i].value);
    }
    strbuf_append(out, "},\n");
}

static void put_image(struct strbuf *out, const struct eval_image *image)
{
    if (!image->set) return;
    strbuf_append(out, ", \"image\": {\"set\": ");
    json_append_string(out, image->set);
    strbuf_printf(out, ", \"index\": %lld}", (long long)image->index);
}

static void put_caption(struct strbuf *out, const char *caption)
{
    if (!caption) return;
    strbuf_append(out, ", \"caption\": ");
    json_append_string(out, caption);
}

static void put_example(struct strbuf *out, const struct eval_example *example)
{
    strbuf_printf(out, "  {\"kind\": \"%s\", \"query\": \"%s\", \"rank\": %lld",
                  kind_names[example->kind], query_names[example->query], (long long)example->rank);
    put_caption(out, example->caption);
    put_image(out, &example->image);
    strbuf_append(out, ", \"candidates\": [");
    for (int i = 0; i < example->num_candidates; i++) {
        const struct eval_candidate *candidate = &example->candidates[i];
        strbuf_append(out, i ? ",\n    {\"score\": " : "\n    {\"score\": ");
        json_append_number(out, candidate->score);
        strbuf_printf(out, ", \"correct\": %s", candidate->correct ? "true" : "false");
        put_caption(out, candidate->caption);
        put_image(out, &candidate->image);
        strbuf_append(out, "}");
    }
    strbuf_append(out, "]}");
}

static enum status write_file(const struct strbuf *text, const char *path)
{
    struct strbuf temporary = {0};
    strbuf_printf(&temporary, "%s.tmp", path);
    CHECK(!temporary.failed, STATUS_NO_MEMORY, "%s: out of memory", path);
    enum status status = STATUS_OK;
    int file = open(temporary.text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) {
        status = status_fail(STATUS_IO, "%s: cannot create: %s", temporary.text, strerror(errno));
    } else {
        status = file_write_at(file, temporary.text, text->text, (int64_t)text->length, 0);
        if (status == STATUS_OK) status = file_sync(file, temporary.text);
        close(file);
        if (status == STATUS_OK) status = file_rename(temporary.text, path);
        if (status != STATUS_OK) remove(temporary.text);
    }
    strbuf_fini(&temporary);
    return status;
}

void eval_result_text(const struct eval_result *result, struct strbuf *out)
{
    strbuf_printf(out, "{\"step\": %lld, \"split\": ", (long long)result->step);
    json_append_string(out, result->split);
    strbuf_append(out, ", \"set\": ");
    json_append_string(out, result->set);
    strbuf_printf(out, ",\n \"images\": %lld, \"texts\": %lld, \"rerank\": %lld,\n",
                  (long long)result->num_images, (long long)result->num_texts,
                  (long long)result->rerank);
    put_values(out, "metrics", &result->metrics);
    put_values(out, "chance", &result->chance);
    strbuf_append(out, " \"examples\": [");
    for (int i = 0; i < result->num_examples; i++) {
        strbuf_append(out, i ? ",\n" : "\n");
        put_example(out, &result->examples[i]);
    }
    strbuf_append(out, "]}\n");
}

enum status eval_result_write(const struct eval_result *result, const char *path)
{
    struct strbuf out = {0};
    eval_result_text(result, &out);
    enum status status = out.failed ? status_fail(STATUS_NO_MEMORY, "%s: out of memory", path)
                                    : write_file(&out, path);
    strbuf_fini(&out);
    return status;
}

enum status eval_result_save(const struct eval_result *result, const char *run)
{
    struct strbuf path = {0};
    strbuf_printf(&path, "%s/eval", run);
    CHECK(!path.failed, STATUS_NO_MEMORY, "%s: out of memory", run);
    enum status status = STATUS_OK;
    if (mkdir(path.text, 0777) != 0 && errno != EEXIST) {
        status = status_fail(STATUS_IO, "%s: cannot create: %s", path.text, strerror(errno));
    } else {
        strbuf_printf(&path, "/step-%08lld.json", (long long)result->step);
        status = path.failed ? status_fail(STATUS_NO_MEMORY, "%s: out of memory", run)
                             : eval_result_write(result, path.text);
    }
    strbuf_fini(&path);
    return status;
}

/* ---- reading ---- */

static enum status get_number(const struct json_value *value, double *number)
{
    if (value->type == JSON_STRING && json_text_number(value->text, number)) return STATUS_OK;
    CHECK(value->type == JSON_NUMBER, STATUS_INVALID, "'%s' must be a number, not %s",
          value->key ? value->key : "", json_type_name(value->type));
    *number = value->number;
    return STATUS_OK;
}

/* A string that may be missing or null: NULL then. */
static enum status get_text(const struct json_value *object, const char *key, const char **text)
{
    const struct json_value *value = json_get(object, key);
    *text = NULL;
    if (!value || value->type == JSON_NULL) return STATUS_OK;
    CHECK(value->type == JSON_STRING, STATUS_INVALID, "'%s' must be a string, not %s", key,
          json_type_name(value->type));
    *text = value->text;
    return STATUS_OK;
}

static enum status get_whole(const struct json_value *object, const char *key, int64_t *value)
{
    *value = 0;
    return json_get(object, key) ? json_get_int(object, key, value) : STATUS_OK;
}

static enum status get_values(const struct json_value *object, const char *key, struct arena *arena,
                              struct run_values *values)
{
    const struct json_value *map = json_get(object, key);
    *values = (struct run_values){0};
    if (!map) return STATUS_OK;
    CHECK(map->type == JSON_OBJECT, STATUS_INVALID, "'%s' must be an object, not %s", key,
          json_type_name(map->type));
    struct run_value *items = arena_alloc(arena, (size_t)(map->count + 1) * sizeof *items);
    CHECK(items, STATUS_NO_MEMORY, "out of memory");
    for (const struct json_value *at = map->child; at; at = at->next) {
        items[values->count].name = at->key;
        TRY(get_number(at, &items[values->count].value));
        values->count++;
    }
    values->items = items;
    return STATUS_OK;
}

static enum status get_image(const struct json_value *object, struct eval_image *image)
{
    const struct json_value *value = json_get(object, "image");
    *image = (struct eval_image){0};
    if (!value || value->type == JSON_NULL) return STATUS_OK;
    CHECK(value->type == JSON_OBJECT, STATUS_INVALID, "'image' must be an object, not %s",
          json_type_name(value->type));
    const struct json_value *set = NULL;
    TRY(json_get_string(value, "set", &set));
    image->set = set->text;
    return json_get_int(value, "index", &image->index);
}

static enum status get_candidate(const struct json_value *object, struct eval_candidate *candidate)
{
    CHECK(object->type == JSON_OBJECT, STATUS_INVALID, "a candidate must be an object");
    const struct json_value *score = json_get(object, "score");
    const struct json_value *correct = json_get(object, "correct");
    CHECK(score, STATUS_INVALID, "a candidate has no 'score'");
    TRY(get_number(score, &candidate->score));
    candidate->correct = correct && correct->type == JSON_BOOL && correct->boolean;
    TRY(get_text(object, "caption", &candidate->caption));
    return get_image(object, &candidate->image);
}

/* The place of the string `key` in `names`. */
static enum status get_name(const struct json_value *object, const char *key,
                            const char *const *names, int count, int *place)
{
    const struct json_value *text = NULL;
    TRY(json_get_string(object, key, &text));
    for (int i = 0; i < count; i++) {
        if (strcmp(text->text, names[i]) == 0) {
            *place = i;
            return STATUS_OK;
        }
    }
    return status_fail(STATUS_INVALID, "'%s' is '%s', which is none of its values", key,
                       text->text);
}

static enum status get_example(const struct json_value *object, struct arena *arena,
                               struct eval_example *example)
{
    int place = 0;
    CHECK(object->type == JSON_OBJECT, STATUS_INVALID, "must be an object");
    TRY(get_name(object, "kind", kind_names, EVAL_NUM_KINDS, &place));
    example->kind = (enum eval_example_kind)place;
    TRY(get_name(object, "query", query_names, 2, &place));
    example->query = (enum eval_query)place;
    TRY(get_whole(object, "rank", &example->rank));
    TRY(get_text(object, "caption", &example->caption));
    TRY(get_image(object, &example->image));
    const struct json_value *list = NULL;
    TRY(json_get_array(object, "candidates", &list));
    struct eval_candidate *candidates =
        arena_alloc(arena, (size_t)(list->count + 1) * sizeof *candidates);
    CHECK(candidates, STATUS_NO_MEMORY, "out of memory");
    for (const struct json_value *at = list->child; at; at = at->next) {
        TRY(get_candidate(at, &candidates[example->num_candidates++]));
    }
    example->candidates = candidates;
    return STATUS_OK;
}

static enum status get_result(const struct json_value *root, struct arena *arena,
                              struct eval_result *result)
{
    CHECK(root->type == JSON_OBJECT, STATUS_INVALID, "must be an object, not %s",
          json_type_name(root->type));
    TRY(json_get_int(root, "step", &result->step));
    TRY(get_text(root, "split", &result->split));
    TRY(get_text(root, "set", &result->set));
    TRY(get_whole(root, "images", &result->num_images));
    TRY(get_whole(root, "texts", &result->num_texts));
    TRY(get_whole(root, "rerank", &result->rerank));
    TRY(get_values(root, "metrics", arena, &result->metrics));
    TRY(get_values(root, "chance", arena, &result->chance));
    if (!json_get(root, "examples")) return STATUS_OK;
    const struct json_value *list = NULL;
    TRY(json_get_array(root, "examples", &list));
    struct eval_example *examples =
        arena_alloc(arena, (size_t)(list->count + 1) * sizeof *examples);
    CHECK(examples, STATUS_NO_MEMORY, "out of memory");
    for (const struct json_value *at = list->child; at; at = at->next) {
        enum status status = get_example(at, arena, &examples[result->num_examples]);
        if (status != STATUS_OK) {
            return status_prefix(status, "example %d", result->num_examples);
        }
        result->num_examples++;
    }
    result->examples = examples;
    return STATUS_OK;
}

enum status eval_result_read(const char *path, struct arena *arena, struct eval_result *result)
{
    struct library library = {0};
    struct input input;
    struct json_value *root = NULL;
    *result = (struct eval_result){0};
    enum status status = library_open(&library, path, &input);
    if (status == STATUS_OK) status = json_read_at(&input, 0, input.size, arena, &root);
    if (status == STATUS_OK) {
        status = get_result(root, arena, result);
        if (status != STATUS_OK) status_prefix(status, "%s", path);
    }
    library_fini(&library);
    return status;
}
