/*
 * Lines are parsed one by one and rows kept in the order of the file, each with as many values as
 * there were columns when it came. A start line cuts off the rows it supersedes; at the end the
 * rows are sorted by step, the last of each step is kept, and the columns are filled.
 */
#include "launch/run_history.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/json_text.h"

struct row {
    int64_t step;
    int64_t order; /* in the file */
    double time;
    int count;
    double *values; /* [count], by column */
};

/* A list in the arena; what it outgrows stays there until the end. */
struct list {
    void *items;
    int64_t count;
    int64_t capacity;
};

struct reader {
    struct run_history *history;
    struct list rows;
    struct list series;
    struct list evals;
    struct list checkpoints;
    struct list warnings;
    struct list starts;
    int64_t num_lines;
};

/* Room for one more element of `size` bytes, zeroed; NULL when memory is out. */
static void *list_add(struct reader *reader, struct list *list, size_t size)
{
    if (list->count == list->capacity) {
        int64_t capacity = list->capacity ? 2 * list->capacity : 16;
        void *items = arena_alloc(&reader->history->arena, (size_t)capacity * size);
        if (!items) return NULL;
        if (list->count) memcpy(items, list->items, (size_t)list->count * size);
        list->items = items;
        list->capacity = capacity;
    }
    void *item = (char *)list->items + (size_t)list->count++ * size;
    memset(item, 0, size);
    return item;
}

#define ADD(variable, list)                                                                        \
    do {                                                                                           \
        (variable) = list_add(reader, (list), sizeof *(variable));                                 \
        CHECK(variable, STATUS_NO_MEMORY, "out of memory for the log");                            \
    } while (0)

/* ---- values of a line ---- */

static double number_of(const json_t *value)
{
    double number = NAN;
    if (json_is_number(value)) return json_number_value(value);
    if (json_is_string(value)) json_text_number(json_string_value(value), &number);
    return number;
}

static int64_t whole_of(const json_t *line, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(line, key));
}

static enum status text_of(struct reader *reader, const json_t *line, const char *key,
                           const char **text)
{
    const char *value = json_string_value(json_object_get(line, key));
    *text = value ? arena_strdup(&reader->history->arena, value) : NULL;
    CHECK(!value || *text, STATUS_NO_MEMORY, "out of memory for the log");
    return STATUS_OK;
}

static enum status values_of(struct reader *reader, json_t *map, struct run_values *values)
{
    struct arena *arena = &reader->history->arena;
    const char *name = NULL;
    json_t *value = NULL;
    struct run_value *items = arena_alloc(arena, (json_object_size(map) + 1) * sizeof *items);
    CHECK(items, STATUS_NO_MEMORY, "out of memory for the log");
    *values = (struct run_values){.items = items};
    json_object_foreach(map, name, value)
    {
        items[values->count] = (struct run_value){arena_strdup(arena, name), number_of(value)};
        CHECK(items[values->count].name, STATUS_NO_MEMORY, "out of memory for the log");
        values->count++;
    }
    return STATUS_OK;
}

/* ---- step lines ---- */

/* The column of `name`, made when it is new. `guess` is where it probably is. */
static enum status column_of(struct reader *reader, const char *group, const char *name,
                             int64_t guess, int64_t *column)
{
    const struct run_series *series = reader->series.items;
    for (int64_t i = 0; i < reader->series.count; i++) {
        *column = (guess + i) % reader->series.count;
        const struct run_series *at = &series[*column];
        if (strcmp(at->name, name) == 0 && strcmp(at->group, group) == 0) return STATUS_OK;
    }
    struct run_series *added = NULL;
    *column = reader->series.count;
    ADD(added, &reader->series);
    added->group = group;
    added->name = arena_strdup(&reader->history->arena, name);
    CHECK(added->name, STATUS_NO_MEMORY, "out of memory for the log");
    return STATUS_OK;
}

enum { MAX_COLUMNS = 512 };

static enum status put(struct reader *reader, double values[MAX_COLUMNS], const char *group,
                       const char *name, const json_t *value, int64_t *guess)
{
    int64_t column = 0;
    TRY(column_of(reader, group, name, *guess, &column));
    CHECK(column < MAX_COLUMNS, STATUS_UNSUPPORTED, "the log has more than %d kinds of values",
          MAX_COLUMNS);
    values[column] = number_of(value);
    *guess = column + 1;
    return STATUS_OK;
}

static enum status add_step(struct reader *reader, json_t *line)
{
    static const char *const groups[] = {"losses", "metrics", "lr", "seconds"};
    static const char *const singles[] = {"gradient_norm", "samples_per_s", "rss_mb", "epoch",
                                          "index"};
    double values[MAX_COLUMNS];
    int64_t guess = 0;
    struct row *row = NULL;
    for (int i = 0; i < MAX_COLUMNS; i++) {
        values[i] = NAN;
    }
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        const char *name = NULL;
        json_t *value = NULL;
        json_object_foreach(json_object_get(line, groups[i]), name, value)
        {
            TRY(put(reader, values, groups[i], name, value, &guess));
        }
    }
    for (size_t i = 0; i < sizeof singles / sizeof singles[0]; i++) {
        const json_t *value = json_object_get(line, singles[i]);
        if (value) TRY(put(reader, values, "run", singles[i], value, &guess));
    }
    ADD(row, &reader->rows);
    row->step = whole_of(line, "step");
    row->order = reader->num_lines;
    row->time = number_of(json_object_get(line, "time"));
    row->count = (int)reader->series.count;
    row->values = arena_alloc(&reader->history->arena, (size_t)(row->count + 1) * sizeof(double));
    CHECK(row->values, STATUS_NO_MEMORY, "out of memory for the log");
    memcpy(row->values, values, (size_t)row->count * sizeof(double));
    return STATUS_OK;
}

/* ---- other lines ---- */

/* Drops what lies beyond `step`: it was done by a process that died before it was saved. */
static void cut(struct reader *reader, int64_t step)
{
    struct row *rows = reader->rows.items;
    struct run_history_eval *evals = reader->evals.items;
    struct run_history_checkpoint *checkpoints = reader->checkpoints.items;
    int64_t kept = 0;
    for (int64_t i = 0; i < reader->rows.count; i++) {
        if (rows[i].step <= step) rows[kept++] = rows[i];
    }
    reader->history->num_superseded += reader->rows.count - kept;
    reader->rows.count = kept;
    kept = 0;
    for (int64_t i = 0; i < reader->evals.count; i++) {
        if (evals[i].step <= step) evals[kept++] = evals[i];
    }
    reader->evals.count = kept;
    kept = 0;
    for (int64_t i = 0; i < reader->checkpoints.count; i++) {
        if (checkpoints[i].step <= step) checkpoints[kept++] = checkpoints[i];
    }
    reader->checkpoints.count = kept;
}

static enum status add_start(struct reader *reader, json_t *line, double time)
{
    struct run_history_start *added = NULL;
    ADD(added, &reader->starts);
    struct run_log_start *start = &added->start;
    added->time = time;
    start->step = whole_of(line, "step");
    start->total_steps = whole_of(line, "total_steps");
    start->global_batch = whole_of(line, "global_batch");
    start->ranks = (int)whole_of(line, "ranks");
    start->hosts = (int)whole_of(line, "hosts");
    start->threads = (int)whole_of(line, "threads");
    TRY(text_of(reader, line, "host", &start->host));
    TRY(text_of(reader, line, "build", &start->build));
    TRY(text_of(reader, line, "config_fingerprint", &start->config_fingerprint));
    TRY(text_of(reader, line, "resumed_from", &start->resumed_from));
    cut(reader, start->step);
    reader->history->ended = false;
    return STATUS_OK;
}

static enum status add_eval(struct reader *reader, json_t *line, double time)
{
    struct run_history_eval *added = NULL;
    const char *split = NULL;
    TRY(text_of(reader, line, "split", &split));
    if (!split) split = "";
    int64_t step = whole_of(line, "step");
    struct run_history_eval *evals = reader->evals.items;
    for (int64_t i = 0; i < reader->evals.count && !added; i++) {
        if (evals[i].step == step && strcmp(evals[i].split, split) == 0) added = &evals[i];
    }
    if (!added) ADD(added, &reader->evals);
    added->step = step;
    added->time = time;
    added->split = split;
    return values_of(reader, json_object_get(line, "metrics"), &added->metrics);
}

static enum status add_checkpoint(struct reader *reader, json_t *line, double time)
{
    struct run_history_checkpoint *added = NULL;
    ADD(added, &reader->checkpoints);
    added->step = whole_of(line, "step");
    added->time = time;
    added->seconds = number_of(json_object_get(line, "seconds"));
    added->stall_s = number_of(json_object_get(line, "stall_s"));
    added->bytes = whole_of(line, "bytes");
    return text_of(reader, line, "path", &added->path);
}

static enum status add_warning(struct reader *reader, json_t *line, double time)
{
    struct run_history_warning *added = NULL;
    ADD(added, &reader->warnings);
    added->step = whole_of(line, "step");
    added->time = time;
    TRY(text_of(reader, line, "text", &added->text));
    if (!added->text) added->text = "";
    return STATUS_OK;
}

static enum status add_end(struct reader *reader, json_t *line, double time)
{
    struct run_history *history = reader->history;
    history->ended = true;
    history->end_time = time;
    history->end.step = whole_of(line, "step");
    history->end.exit_code = (int)whole_of(line, "exit_code");
    return text_of(reader, line, "reason", &history->end.reason);
}

static enum status add_line(struct reader *reader, json_t *line)
{
    const char *kind = json_string_value(json_object_get(line, "kind"));
    double time = number_of(json_object_get(line, "time"));
    if (isfinite(time)) reader->history->last_time = time;
    if (!kind) return STATUS_OK;
    if (strcmp(kind, "step") == 0) return add_step(reader, line);
    if (strcmp(kind, "start") == 0) return add_start(reader, line, time);
    if (strcmp(kind, "eval") == 0) return add_eval(reader, line, time);
    if (strcmp(kind, "checkpoint") == 0) return add_checkpoint(reader, line, time);
    if (strcmp(kind, "warning") == 0) return add_warning(reader, line, time);
    if (strcmp(kind, "end") == 0) return add_end(reader, line, time);
    return STATUS_OK; /* a kind of a later version */
}

/* ---- columns ---- */

static int compare_rows(const void *a, const void *b)
{
    const struct row *left = a;
    const struct row *right = b;
    if (left->step != right->step) return left->step < right->step ? -1 : 1;
    return left->order < right->order ? -1 : left->order > right->order;
}

static enum status fill_columns(struct reader *reader)
{
    struct run_history *history = reader->history;
    struct row *rows = reader->rows.items;
    struct run_series *series = reader->series.items;
    int64_t kept = 0;
    if (reader->rows.count) qsort(rows, (size_t)reader->rows.count, sizeof *rows, compare_rows);
    for (int64_t i = 0; i < reader->rows.count; i++) {
        bool again = i + 1 < reader->rows.count && rows[i + 1].step == rows[i].step;
        if (!again) rows[kept++] = rows[i];
    }
    history->num_superseded += reader->rows.count - kept;
    history->num_steps = kept;
    history->steps = arena_alloc(&history->arena, (size_t)(kept + 1) * sizeof *history->steps);
    history->times = arena_alloc(&history->arena, (size_t)(kept + 1) * sizeof *history->times);
    CHECK(history->steps && history->times, STATUS_NO_MEMORY, "out of memory for the log");
    for (int64_t i = 0; i < kept; i++) {
        history->steps[i] = rows[i].step;
        history->times[i] = rows[i].time;
    }
    for (int64_t j = 0; j < reader->series.count; j++) {
        double *values = arena_alloc(&history->arena, (size_t)(kept + 1) * sizeof *values);
        CHECK(values, STATUS_NO_MEMORY, "out of memory for the log");
        for (int64_t i = 0; i < kept; i++) {
            values[i] = j < rows[i].count ? rows[i].values[j] : NAN;
        }
        series[j].values = values;
    }
    return STATUS_OK;
}

static void hand_over(struct reader *reader)
{
    struct run_history *history = reader->history;
    history->series = reader->series.items;
    history->num_series = (int)reader->series.count;
    history->evals = reader->evals.items;
    history->num_evals = (int)reader->evals.count;
    history->checkpoints = reader->checkpoints.items;
    history->num_checkpoints = (int)reader->checkpoints.count;
    history->warnings = reader->warnings.items;
    history->num_warnings = (int)reader->warnings.count;
    history->starts = reader->starts.items;
    history->num_starts = (int)reader->starts.count;
}

static enum status read_lines(struct reader *reader, FILE *file, const char *path)
{
    struct run_history *history = reader->history;
    char *text = NULL;
    size_t capacity = 0;
    enum status status = STATUS_OK;
    for (;;) {
        ssize_t length = getline(&text, &capacity, file);
        if (length < 0) break;
        reader->num_lines++;
        if (length == 1 && text[0] == '\n') continue;
        json_error_t error;
        json_t *line = json_loadb(text, (size_t)length, 0, &error);
        if (json_is_object(line)) {
            status = add_line(reader, line);
        } else if (history->num_bad++ == 0) {
            history->first_bad = reader->num_lines;
        }
        json_decref(line);
        if (status != STATUS_OK) break;
    }
    if (status == STATUS_OK && ferror(file)) {
        status = status_fail(STATUS_IO, "%s: cannot read: %s", path, strerror(errno));
    }
    free(text);
    return status;
}

enum status run_history_read(struct run_history *history, const char *run)
{
    *history = (struct run_history){0};
    struct reader reader = {.history = history};
    char *path = arena_printf(&history->arena, "%s/log.jsonl", run);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for the log");
    FILE *file = fopen(path, "rb");
    if (!file) {
        bool missing = errno == ENOENT || errno == ENOTDIR;
        return status_fail(missing ? STATUS_NOT_FOUND : STATUS_IO, "%s: %s%s", path,
                           strerror(errno), missing ? "; is this the folder of a run?" : "");
    }
    enum status status = read_lines(&reader, file, path);
    fclose(file);
    if (status == STATUS_OK) status = fill_columns(&reader);
    if (status == STATUS_OK) hand_over(&reader);
    return status;
}

void run_history_fini(struct run_history *history)
{
    arena_fini(&history->arena);
    *history = (struct run_history){0};
}

const struct run_series *run_history_find(const struct run_history *history, const char *group,
                                          const char *name)
{
    for (int i = 0; i < history->num_series; i++) {
        const struct run_series *series = &history->series[i];
        if (strcmp(series->group, group) == 0 && strcmp(series->name, name) == 0) return series;
    }
    return NULL;
}
