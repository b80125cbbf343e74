#include "runtime/checkpoint/weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/arena.h"
#include "runtime/checkpoint/format.h"
#include "runtime/checkpoint/safetensors.h"

enum { MAX_FILES = 16, SHOWN = 12 };

/* A file of either kind. */
struct source {
    struct safetensors *safetensors;
    struct checkpoint *checkpoint;
    const char *vector;
};

struct item {
    struct weights_tensor tensor;
    int source;
    int64_t index; /* in its source */
};

struct weights {
    struct arena arena;
    struct source sources[MAX_FILES];
    int num_sources;
    struct item *items; /* owned */
    int64_t count;
};

enum status weights_create(struct weights **weights)
{
    *weights = calloc(1, sizeof **weights);
    CHECK(*weights, STATUS_NO_MEMORY, "no memory for weights");
    return STATUS_OK;
}

void weights_destroy(struct weights **weights)
{
    if (!*weights) return;
    for (int i = 0; i < (*weights)->num_sources; i++) {
        safetensors_close(&(*weights)->sources[i].safetensors);
        checkpoint_close(&(*weights)->sources[i].checkpoint);
    }
    free((*weights)->items);
    arena_fini(&(*weights)->arena);
    free(*weights);
    *weights = NULL;
}

/* ---- files ---- */

static bool is_checkpoint(const char *path)
{
    static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1A, '\n'};
    unsigned char start[8] = {0};
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return true;
    if (checkpoint_path_is_latest(path)) return true;
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    size_t got = fread(start, 1, sizeof start, file);
    fclose(file);
    return got == sizeof start && memcmp(start, signature, sizeof start) == 0;
}

static enum status open_source(struct weights *weights, const char *path, const char *vector,
                               int64_t *count)
{
    CHECK(weights->num_sources < MAX_FILES, STATUS_INVALID, "%s: more than %d files of weights",
          path, MAX_FILES);
    struct source *source = &weights->sources[weights->num_sources];
    if (!is_checkpoint(path)) {
        TRY(safetensors_open(&source->safetensors, path));
        *count = safetensors_count(source->safetensors);
        weights->num_sources++;
        return STATUS_OK;
    }
    TRY(checkpoint_open(&source->checkpoint, path, NULL));
    weights->num_sources++;
    source->vector = arena_strdup(&weights->arena, vector);
    CHECK(source->vector, STATUS_NO_MEMORY, "%s: no memory for its names", path);
    *count = checkpoint_num_parameters(source->checkpoint);
    CHECK(checkpoint_elements(source->checkpoint, vector) >= 0, STATUS_NOT_FOUND,
          "%s: holds no vector '%s'", checkpoint_path(source->checkpoint), vector);
    return STATUS_OK;
}

static void describe_item(const struct source *source, struct item *item)
{
    struct weights_tensor *tensor = &item->tensor;
    if (source->safetensors) {
        const struct safetensors_entry *entry = safetensors_at(source->safetensors, item->index);
        tensor->name = entry->name;
        tensor->shape = entry->shape;
        tensor->is_float = safetensors_is_float(entry);
    } else {
        const struct checkpoint_parameter *parameter =
            checkpoint_parameter_at(source->checkpoint, item->index);
        tensor->name = parameter->name;
        tensor->shape = parameter->shape;
        tensor->is_float = true;
    }
    tensor->original = tensor->name;
}

enum status weights_add(struct weights *weights, const char *path, const char *vector)
{
    int64_t count;
    TRY(open_source(weights, path, vector, &count));
    const char *kept = arena_strdup(&weights->arena, path);
    struct item *items =
        realloc(weights->items, (size_t)(weights->count + count + 1) * sizeof *items);
    if (items) weights->items = items;
    CHECK(items && kept, STATUS_NO_MEMORY, "%s: no memory for its names", path);
    int source = weights->num_sources - 1;
    for (int64_t i = 0; i < count; i++) {
        struct item *item = &items[weights->count++];
        *item = (struct item){.source = source, .index = i, .tensor.path = kept};
        describe_item(&weights->sources[source], item);
    }
    return STATUS_OK;
}

int64_t weights_count(const struct weights *weights)
{
    return weights->count;
}

const struct weights_tensor *weights_at(const struct weights *weights, int64_t index)
{
    return &weights->items[index].tensor;
}

enum status weights_rename(struct weights *weights, int64_t index, const char *name)
{
    struct weights_tensor *tensor = &weights->items[index].tensor;
    tensor->name = NULL;
    if (!name) return STATUS_OK;
    tensor->name = arena_strdup(&weights->arena, name);
    CHECK(tensor->name, STATUS_NO_MEMORY, "%s: no memory for its names", tensor->path);
    return STATUS_OK;
}

static enum status read_item(const struct weights *weights, const struct item *item, float *out)
{
    const struct source *source = &weights->sources[item->source];
    if (source->safetensors) {
        return safetensors_read(source->safetensors,
                                safetensors_at(source->safetensors, item->index), out);
    }
    const struct checkpoint_parameter *parameter =
        checkpoint_parameter_at(source->checkpoint, item->index);
    return checkpoint_read_flat(source->checkpoint, source->vector, parameter->offset,
                                parameter->count, out);
}

/* ---- tables of relative positions ---- */

/* Four weights and places of a resized coordinate. */
struct tap {
    int64_t at[4];
    double weight[4];
};

static double cubic(double x)
{
    const double a = -0.75;
    x = fabs(x);
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0;
}

static struct tap make_tap(int64_t place, int64_t from, int64_t to)
{
    struct tap tap;
    double at = ((double)place + 0.5) * (double)from / (double)to - 0.5;
    int64_t first = (int64_t)floor(at);
    for (int k = 0; k < 4; k++) {
        int64_t source = first + k - 1;
        tap.weight[k] = cubic(at - (double)source);
        tap.at[k] = source < 0 ? 0 : source >= from ? from - 1 : source;
    }
    return tap;
}

void weights_resize_table(const float *in, int64_t from, float *out, int64_t to, int64_t heads)
{
    for (int64_t y = 0; y < to; y++) {
        struct tap rows = make_tap(y, from, to);
        for (int64_t x = 0; x < to; x++) {
            struct tap columns = make_tap(x, from, to);
            for (int64_t h = 0; h < heads; h++) {
                double sum = 0;
                for (int i = 0; i < 4; i++) {
                    double row = 0;
                    for (int k = 0; k < 4; k++) {
                        row += columns.weight[k] *
                               (double)in[(rows.at[i] * from + columns.at[k]) * heads + h];
                    }
                    sum += rows.weight[i] * row;
                }
                out[(y * to + x) * heads + h] = (float)sum;
            }
        }
    }
}

static int64_t odd_root(int64_t rows)
{
    int64_t root = (int64_t)llround(sqrt((double)rows));
    return root * root == rows && root % 2 == 1 ? root : 0;
}

/* Sides of two tables that differ by their window alone. */
static bool is_resizable(const char *name, const struct shape *from, const struct shape *to,
                         int64_t *side_from, int64_t *side_to)
{
    static const char suffix[] = "relative_position_bias_table";
    size_t length = strlen(name);
    if (length < sizeof suffix - 1 || strcmp(name + length - (sizeof suffix - 1), suffix) != 0 ||
        from->rank != 2 || to->rank != 2 || from->dim[1] != to->dim[1]) {
        return false;
    }
    *side_from = odd_root(from->dim[0]);
    *side_to = odd_root(to->dim[0]);
    return *side_from > 0 && *side_to > 0;
}

static enum status resize_item(const struct weights *weights, const struct item *item,
                               int64_t side_from, int64_t side_to, float *out)
{
    float *table = malloc((size_t)shape_count(&item->tensor.shape) * sizeof *table);
    CHECK(table, STATUS_NO_MEMORY, "%s: no memory for '%s'", item->tensor.path, item->tensor.name);
    enum status status = read_item(weights, item, table);
    if (status == STATUS_OK) {
        weights_resize_table(table, side_from, out, side_to, item->tensor.shape.dim[1]);
    }
    free(table);
    return status;
}

/* ---- loading ---- */

static int compare_items(const void *a, const void *b)
{
    const struct item *x = *(const struct item *const *)a;
    const struct item *y = *(const struct item *const *)b;
    int order = strcmp(x->tensor.name, y->tensor.name);
    return order ? order : x->source - y->source;
}

static int find_item(const void *name, const void *element)
{
    return strcmp(name, (*(const struct item *const *)element)->tensor.name);
}

/* Items that are not dropped, by name. */
struct index {
    const struct item **items;
    int64_t count;
    bool *used; /* [count] */
};

static void index_fini(struct index *index)
{
    free(index->items);
    free(index->used);
}

static enum status index_init(struct index *index, const struct weights *weights,
                              struct weights_report *report)
{
    index->count = 0;
    index->items = calloc((size_t)weights->count + 1, sizeof(const void *));
    index->used = calloc((size_t)weights->count + 1, sizeof *index->used);
    CHECK(index->items && index->used, STATUS_NO_MEMORY, "no memory for names of weights");
    for (int64_t i = 0; i < weights->count; i++) {
        if (weights->items[i].tensor.name) index->items[index->count++] = &weights->items[i];
    }
    report->dropped = weights->count - index->count;
    qsort(index->items, (size_t)index->count, sizeof(const void *), compare_items);
    for (int64_t i = 1; i < index->count; i++) {
        const struct weights_tensor *a = &index->items[i - 1]->tensor;
        const struct weights_tensor *b = &index->items[i]->tensor;
        CHECK(strcmp(a->name, b->name) != 0, STATUS_INVALID,
              "'%s' comes from '%s' of %s and from '%s' of %s", a->name, a->original, a->path,
              b->original, b->path);
    }
    return STATUS_OK;
}

static enum status load_one(const struct weights *weights, const struct item *item,
                            const struct checkpoint_parameter *parameter, float *out,
                            enum weights_fate *fate, struct weights_report *report)
{
    const struct weights_tensor *tensor = &item->tensor;
    char theirs[SHAPE_TEXT];
    char ours[SHAPE_TEXT];
    int64_t from;
    int64_t to;
    shape_format(&tensor->shape, theirs);
    shape_format(&parameter->shape, ours);
    CHECK(tensor->is_float, STATUS_INVALID, "%s: '%s' is not of floats", tensor->path,
          tensor->original);
    if (shape_equal(&tensor->shape, &parameter->shape)) {
        TRY(read_item(weights, item, out));
        *fate = WEIGHTS_LOADED;
        report->loaded++;
        return STATUS_OK;
    }
    CHECK(is_resizable(tensor->name, &tensor->shape, &parameter->shape, &from, &to), STATUS_INVALID,
          "%s: '%s' is %s there and %s in the model; use a config that fits the weights",
          tensor->path, tensor->original, theirs, ours);
    TRY(resize_item(weights, item, from, to, out));
    *fate = WEIGHTS_RESIZED;
    report->resized++;
    strbuf_printf(&report->text, "  resized  %s %s -> %s\n", parameter->name, theirs, ours);
    return STATUS_OK;
}

static bool is_allowed(const char *name, const char *const *allow, int64_t num_allow)
{
    for (int64_t i = 0; i < num_allow; i++) {
        if (string_matches(name, allow[i])) return true;
    }
    return false;
}

/* Names that nobody allowed, for the message. */
struct refused {
    struct strbuf names;
    int64_t count;
};

static void tell(struct weights_report *report, struct refused *refused, const char *what,
                 const char *name, bool allowed)
{
    strbuf_printf(&report->text, "  %-8s %s%s\n", what, name, allowed ? "" : "  (not allowed)");
    if (allowed) return;
    if (refused->count < SHOWN) {
        strbuf_printf(&refused->names, "%s%s '%s'", refused->count ? ", " : " ", what, name);
    }
    refused->count++;
}

static void tell_counts(struct weights_report *report)
{
    struct strbuf text = {0};
    strbuf_printf(&text,
                  "%" PRId64 " loaded, %" PRId64 " resized, %" PRId64 " missing, %" PRId64
                  " unused, %" PRId64 " buffers and heads dropped\n",
                  report->loaded, report->resized, report->missing, report->unused,
                  report->dropped);
    if (report->text.text) strbuf_append(&text, report->text.text);
    strbuf_fini(&report->text);
    report->text = text;
}

static enum status judge(const struct index *index, const struct checkpoint_parameter *parameters,
                         int64_t num_parameters, const char *const *allow, int64_t num_allow,
                         struct weights_report *report)
{
    struct refused refused = {0};
    for (int64_t i = 0; i < num_parameters; i++) {
        if (report->fates[i] != WEIGHTS_MISSING) continue;
        report->missing++;
        tell(report, &refused, "missing", parameters[i].name,
             is_allowed(parameters[i].name, allow, num_allow));
    }
    for (int64_t i = 0; i < index->count; i++) {
        if (index->used[i]) continue;
        const struct weights_tensor *tensor = &index->items[i]->tensor;
        report->unused++;
        tell(report, &refused, "unused", tensor->original,
             is_allowed(tensor->original, allow, num_allow) ||
                 is_allowed(tensor->name, allow, num_allow));
    }
    enum status status = STATUS_OK;
    if (refused.count > 0) {
        char more[48] = "";
        if (refused.count > SHOWN) {
            snprintf(more, sizeof more, " and %" PRId64 " more", refused.count - SHOWN);
        }
        status = status_fail(STATUS_INVALID,
                             "the weights do not fit the model:%s%s; allow what is meant to differ "
                             "by patterns",
                             refused.names.failed ? "" : refused.names.text, more);
    }
    strbuf_fini(&refused.names);
    return status;
}

static enum status load_all(const struct weights *weights, struct index *index,
                            const struct checkpoint_parameter *parameters, int64_t num_parameters,
                            float *vector, struct weights_report *report)
{
    TRY(index_init(index, weights, report));
    report->fates = calloc((size_t)num_parameters + 1, sizeof *report->fates);
    CHECK(report->fates, STATUS_NO_MEMORY, "no memory for a report of weights");
    for (int64_t i = 0; i < num_parameters; i++) {
        const struct item **found = bsearch(parameters[i].name, index->items, (size_t)index->count,
                                            sizeof(const void *), find_item);
        if (!found) continue;
        index->used[found - index->items] = true;
        TRY(load_one(weights, *found, &parameters[i], vector + parameters[i].offset,
                     &report->fates[i], report));
    }
    return STATUS_OK;
}

enum status weights_load(const struct weights *weights,
                         const struct checkpoint_parameter *parameters, int64_t num_parameters,
                         const char *const *allow, int64_t num_allow, float *vector,
                         struct weights_report *report)
{
    struct index index = {0};
    memset(report, 0, sizeof *report);
    enum status status = load_all(weights, &index, parameters, num_parameters, vector, report);
    if (status == STATUS_OK) {
        status = judge(&index, parameters, num_parameters, allow, num_allow, report);
        tell_counts(report);
        if (status == STATUS_OK && report->text.failed) {
            status = status_fail(STATUS_NO_MEMORY, "no memory for a report of weights");
        }
    }
    index_fini(&index);
    return status;
}

void weights_report_fini(struct weights_report *report)
{
    free(report->fates);
    report->fates = NULL;
    strbuf_fini(&report->text);
}
