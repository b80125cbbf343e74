/*
 * csv, tsv: tables with a picture's path and a caption a row. Rows with the same path are captions
 * of one picture and make one item.
 */
#include <stdlib.h>
#include <string.h>

#include "data/import/common.h"
#include "data/import/csv_table.h"
#include "runtime/base/strbuf.h"

struct table {
    struct library library;
    struct folder folder;
    struct input file;
    struct csv_dialect dialect;
    int first_row; /* 1 with a header, 0 without */
    int path_column;
    int caption_column;
    struct int_list offsets; /* of the records, with the end of the file last */
    struct grouping items;
};

#define TABLE_OPTIONS(quotes)                                                                      \
    IMPORT_OPTION_IMAGES, {"header", "yes", "the first row names the columns"},                    \
        {"path-column", "path", "name of the column of paths, or its number (from 1)"},            \
        {"caption-column", "caption", "name of the column of captions, or its number"},            \
        {"quotes", quotes, "fields may be in quotation marks"},                                    \
    {                                                                                              \
        NULL, NULL, NULL                                                                           \
    }

static const struct import_option csv_options[] = {TABLE_OPTIONS("yes")};
static const struct import_option tsv_options[] = {TABLE_OPTIONS("no")};

/* The fields of record `row`. The caller says in its message where that is. */
static enum status read_record(const struct table *table, int64_t row, struct arena *arena,
                               struct csv_field **fields, int *num_fields)
{
    int64_t begin = table->offsets.value[row];
    int64_t length = table->offsets.value[row + 1] - begin;
    char *text = arena_alloc(arena, (size_t)length + 1);
    CHECK(text, STATUS_NO_MEMORY, "%s: no memory for a row", table->file.path);
    TRY(input_read(&table->file, begin, text, length));
    return csv_split(text, length, table->dialect, arena, fields, num_fields);
}

static enum status find_column(const struct table *table, const struct import_args *args,
                               const char *option, const struct csv_field *header, int num_fields,
                               int *column)
{
    const char *wanted = import_value(args, option);
    char *end = NULL;
    long number = strtol(wanted, &end, 10);
    if (end != wanted && *end == '\0') {
        CHECK(number >= 1 && number <= 4096, STATUS_INVALID, "--%s %s: columns count from 1",
              option, wanted);
        *column = (int)number - 1;
        return STATUS_OK;
    }
    CHECK(header, STATUS_INVALID, "--%s %s: without a header (--header no) give a number", option,
          wanted);
    struct strbuf names = {0};
    for (*column = 0; *column < num_fields; *column += 1) {
        if (strcmp(header[*column].text, wanted) == 0) break;
        strbuf_printf(&names, "%s%s", *column ? ", " : "", header[*column].text);
    }
    enum status status = STATUS_OK;
    if (*column == num_fields) {
        status = status_fail(STATUS_NOT_FOUND,
                             "%s: no column '%s'; the columns are: %s (choose with --%s, or "
                             "--header no)",
                             table->file.path, wanted, names.text ? names.text : "", option);
    }
    strbuf_fini(&names);
    return status;
}

static enum status read_header(struct table *table, const struct import_args *args)
{
    bool has_header = false;
    struct csv_field *header = NULL;
    int num_fields = 0;
    struct arena arena = {0};
    TRY(import_value_bool(args, "header", &has_header));
    TRY(import_value_bool(args, "quotes", &table->dialect.quotes));
    TRY(csv_index(&table->file, table->dialect, &table->offsets));
    table->first_row = has_header;
    CHECK(table->offsets.count - 1 > table->first_row, STATUS_INVALID, "%s: no rows%s",
          table->file.path, has_header ? " below the header" : "");
    enum status status = STATUS_OK;
    if (has_header) status = read_record(table, 0, &arena, &header, &num_fields);
    if (status != STATUS_OK) status = common_at(status, &table->file, table->offsets.value[0]);
    if (status == STATUS_OK) {
        status = find_column(table, args, "path-column", header, num_fields, &table->path_column);
    }
    if (status == STATUS_OK) {
        status =
            find_column(table, args, "caption-column", header, num_fields, &table->caption_column);
    }
    arena_fini(&arena);
    return status;
}

/* Groups the rows by path. A row that cannot be read is an item of its own, which fails later. */
static enum status group_paths(struct table *table)
{
    int64_t rows = table->offsets.count - 1 - table->first_row;
    uint64_t *keys = malloc((size_t)rows * sizeof *keys);
    CHECK(keys, STATUS_NO_MEMORY, "%s: no memory for %lld rows", table->file.path, (long long)rows);
    struct arena arena = {0};
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < rows && status == STATUS_OK; i++) {
        struct csv_field *fields = NULL;
        int num_fields = 0;
        int64_t begin = table->offsets.value[i + table->first_row];
        int64_t length = table->offsets.value[i + table->first_row + 1] - begin;
        char *text = arena_alloc(&arena, (size_t)length + 1);
        status = text ? input_read(&table->file, begin, text, length)
                      : status_fail(STATUS_NO_MEMORY, "%s: no memory for a row", table->file.path);
        if (status != STATUS_OK) break;
        enum status split = csv_split(text, length, table->dialect, &arena, &fields, &num_fields);
        bool good = split == STATUS_OK && table->path_column < num_fields;
        keys[i] =
            good ? group_key(fields[table->path_column].text, fields[table->path_column].length)
                 : group_key((const char *)&i, sizeof i);
        if (arena.total > 1 << 20) arena_fini(&arena);
    }
    arena_fini(&arena);
    if (status == STATUS_OK) status = group_rows(keys, rows, &table->items);
    free(keys);
    return status;
}

static void table_close(struct import_source *source)
{
    struct table *table = source->state;
    if (!table) return;
    library_fini(&table->library);
    group_fini(&table->items);
    free(table->offsets.value);
    free(table);
    source->state = NULL;
}

static enum status open_table(struct table *table, const struct import_args *args,
                              uint64_t *fingerprint)
{
    TRY(library_open(&table->library, args->sources[0], &table->file));
    TRY(common_images(&table->library, args, &table->folder));
    TRY(read_header(table, args));
    TRY(group_paths(table));
    int columns[3] = {table->path_column, table->caption_column, table->dialect.quotes};
    *fingerprint = import_hash(0, columns, sizeof columns);
    return input_hash(&table->file, fingerprint);
}

static enum status table_open(struct import_source *source, const struct import_args *args,
                              char separator)
{
    struct table *table = calloc(1, sizeof *table);
    CHECK(table, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = table;
    table->dialect.separator = separator;
    enum status status = open_table(table, args, &source->fingerprint);
    source->num_items = table->items.num_groups;
    if (status != STATUS_OK) table_close(source);
    return status;
}

static enum status csv_open(struct import_source *source, const struct import_args *args)
{
    return table_open(source, args, ',');
}

static enum status tsv_open(struct import_source *source, const struct import_args *args)
{
    return table_open(source, args, '\t');
}

/* Adds row `row` of the item, the first of which brings the picture. */
static enum status add_row(const struct table *table, int64_t row, struct sample *sample)
{
    struct csv_field *fields = NULL;
    int num_fields = 0;
    TRY(read_record(table, row, &sample->arena, &fields, &num_fields));
    CHECK(table->path_column < num_fields, STATUS_INVALID,
          "%d fields, and the path of the picture would be number %d", num_fields,
          table->path_column + 1);
    const struct csv_field *path = &fields[table->path_column];
    CHECK(path->length > 0 && !memchr(path->text, '\0', (size_t)path->length), STATUS_INVALID,
          "the path of the picture is %s", path->length ? "not a name" : "empty");
    if (sample->num_images == 0) {
        TRY(common_add_image(&table->folder, path->text, 0, 0, sample, NULL));
    }
    CHECK(strcmp(sample->images[0].key, path->text) == 0, STATUS_INTERNAL,
          "two paths with one hash: '%s' and '%s'", sample->images[0].key, path->text);
    CHECK(table->caption_column < num_fields, STATUS_INVALID,
          "%d fields, and the caption would be number %d", num_fields, table->caption_column + 1);
    const struct csv_field *caption = &fields[table->caption_column];
    return sample_add_text(sample, TEXT_CAPTION, 0, caption->text, caption->length, NULL, NULL);
}

/* A bad row costs its caption; the item fails when none is left. */
static enum status table_fetch(const struct import_source *source, int64_t item,
                               struct sample *sample)
{
    const struct table *table = source->state;
    for (int64_t i = table->items.first[item]; i < table->items.first[item + 1]; i++) {
        int64_t row = table->items.row[i] + table->first_row;
        enum status status = add_row(table, row, sample);
        if (status == STATUS_OK) continue;
        status = common_at(status, &table->file, table->offsets.value[row]);
        bool last = i + 1 == table->items.first[item + 1];
        if (sample->num_images == 0 || (last && sample->num_texts == 0)) return status;
        TRY(sample_reject(sample, "%s", status_message()));
    }
    return STATUS_OK;
}

const struct importer importer_csv = {
    .name = "csv",
    .summary = "a table with a picture's path and a caption a row, separated by commas",
    .usage = "weft pack csv TABLE.csv [--images DIR] [--path-column NAME] [--caption-column NAME]\n"
             "       -o OUT-%05d.h5\n"
             "Quoting as in RFC 4180. Rows with the same path are captions of one picture.",
    .options = csv_options,
    .min_sources = 1,
    .max_sources = 1,
    .open = csv_open,
    .fetch = table_fetch,
    .close = table_close,
};

const struct importer importer_tsv = {
    .name = "tsv",
    .summary = "a table with a picture's path and a caption a row, separated by tabs",
    .usage = "weft pack tsv TABLE.tsv [--images DIR] [--path-column NAME] [--caption-column NAME]\n"
             "       -o OUT-%05d.h5\n"
             "Rows with the same path are captions of one picture.",
    .options = tsv_options,
    .min_sources = 1,
    .max_sources = 1,
    .open = tsv_open,
    .fetch = table_fetch,
    .close = table_close,
};
