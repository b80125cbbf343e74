#include "data/import/json_value.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_VALUES = 1000000, ITEM_BUFFER = 4096 };

struct builder {
    struct json_reader *reader;
    struct arena *arena;
    int64_t values;
};

static enum status no_memory(const struct builder *b)
{
    return status_fail(STATUS_NO_MEMORY, "%s: no memory for a value", b->reader->input.path);
}

static enum status read_value(struct builder *b, struct json_value **out);

static enum status read_container(struct builder *b, struct json_value *value)
{
    struct json_value **link = &value->child;
    TRY(json_begin(b->reader, value->type));
    for (;;) {
        const char *key = NULL;
        bool more = true;
        if (value->type == JSON_OBJECT) {
            TRY(json_next_key(b->reader, &key));
            more = key != NULL;
        } else {
            TRY(json_next(b->reader, &more));
        }
        if (!more) return STATUS_OK;
        if (key) {
            key = arena_strdup(b->arena, key);
            if (!key) return no_memory(b);
        }
        TRY(read_value(b, link));
        (*link)->key = key;
        link = &(*link)->next;
        value->count++;
    }
}

/* Recursion is bounded by JSON_MAX_DEPTH. */
static enum status read_value(struct builder *b, struct json_value **out)
{
    const char *text;
    struct json_value *value = arena_alloc(b->arena, sizeof *value);
    if (!value) return no_memory(b);
    if (++b->values > MAX_VALUES) {
        return json_fail(b->reader, "one item of more than %d values", (int)MAX_VALUES);
    }
    *out = value;
    TRY(json_peek(b->reader, &value->type));
    switch (value->type) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        return read_container(b, value);
    case JSON_STRING:
        TRY(json_string(b->reader, &text, &value->length));
        value->text = arena_strndup(b->arena, text, (size_t)value->length);
        return value->text ? STATUS_OK : no_memory(b);
    case JSON_NUMBER:
        return json_any_number(b->reader, &value->number, &value->whole, &value->integer);
    case JSON_BOOL:
        return json_bool(b->reader, &value->boolean);
    case JSON_NULL:
        return json_null(b->reader);
    case JSON_END:
        break;
    }
    return json_fail(b->reader, "the text ends where a value should be");
}

enum status json_read(struct json_reader *reader, struct arena *arena, struct json_value **value)
{
    struct builder builder = {reader, arena, 0};
    return read_value(&builder, value);
}

enum status json_read_at(const struct input *input, int64_t begin, int64_t end, struct arena *arena,
                         struct json_value **value)
{
    struct json_reader reader;
    enum status status = json_open(&reader, input, begin, end, ITEM_BUFFER);
    if (status == STATUS_OK) status = json_read(&reader, arena, value);
    if (status == STATUS_OK && end >= 0) status = json_finish(&reader);
    json_close(&reader);
    return status;
}

const struct json_value *json_get(const struct json_value *object, const char *key)
{
    const struct json_value *found = NULL;
    if (object->type != JSON_OBJECT) return NULL;
    for (const struct json_value *v = object->child; v; v = v->next) {
        if (strcmp(v->key, key) == 0) found = v;
    }
    return found;
}

const char *json_type_name(enum json_type type)
{
    static const char *const names[] = {
        [JSON_NULL] = "null",       [JSON_BOOL] = "true or false", [JSON_NUMBER] = "a number",
        [JSON_STRING] = "a string", [JSON_ARRAY] = "an array",     [JSON_OBJECT] = "an object",
        [JSON_END] = "nothing",
    };
    return names[type];
}

static enum status get_typed(const struct json_value *object, const char *key, enum json_type type,
                             const struct json_value **value)
{
    CHECK(object->type == JSON_OBJECT, STATUS_INVALID, "%s where an object should be",
          json_type_name(object->type));
    *value = json_get(object, key);
    CHECK(*value, STATUS_INVALID, "there is no \"%s\"", key);
    CHECK((*value)->type == type, STATUS_INVALID, "\"%s\" is %s where %s should be", key,
          json_type_name((*value)->type), json_type_name(type));
    return STATUS_OK;
}

enum status json_get_string(const struct json_value *object, const char *key,
                            const struct json_value **string)
{
    return get_typed(object, key, JSON_STRING, string);
}

enum status json_get_int(const struct json_value *object, const char *key, int64_t *value)
{
    const struct json_value *found = NULL;
    TRY(get_typed(object, key, JSON_NUMBER, &found));
    CHECK(found->whole, STATUS_INVALID, "\"%s\" is %g where a whole number should be", key,
          found->number);
    *value = found->integer;
    return STATUS_OK;
}

enum status json_get_number(const struct json_value *object, const char *key, double *value)
{
    const struct json_value *found = NULL;
    TRY(get_typed(object, key, JSON_NUMBER, &found));
    *value = found->number;
    return STATUS_OK;
}

enum status json_get_array(const struct json_value *object, const char *key,
                           const struct json_value **array)
{
    return get_typed(object, key, JSON_ARRAY, array);
}

enum status json_get_id(const struct json_value *object, const char *key, struct arena *arena,
                        const char **id)
{
    const struct json_value *found = json_get(object, key);
    CHECK(found, STATUS_INVALID, "there is no \"%s\"", key);
    bool whole = found->type == JSON_NUMBER && found->whole;
    CHECK(whole || found->type == JSON_STRING, STATUS_INVALID,
          "\"%s\" is %s where a whole number or a string should be", key,
          json_type_name(found->type));
    *id = whole ? arena_printf(arena, "%lld", (long long)found->integer)
                : arena_strdup(arena, found->text);
    CHECK(*id, STATUS_NO_MEMORY, "no memory for an id");
    return STATUS_OK;
}

enum status json_four_numbers(const struct json_value *array, const char *what, double value[4])
{
    CHECK(array->type == JSON_ARRAY && array->count == 4, STATUS_INVALID,
          "\"%s\" is not an array of four numbers", what);
    int i = 0;
    for (const struct json_value *v = array->child; v; v = v->next) {
        CHECK(v->type == JSON_NUMBER, STATUS_INVALID, "\"%s\" has %s among its four numbers", what,
              json_type_name(v->type));
        value[i++] = v->number;
    }
    return STATUS_OK;
}
