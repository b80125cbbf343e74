#include "data/store/check_tables.h"

#include <inttypes.h>

#include "data/store/check.h"
#include "data/store/sample.h"

enum { BLOCK = 4096 };

/* What the values of an integer dataset may be. */
struct rule {
    enum schema_table table;
    bool is_reference;
    enum schema_group parent; /* of a reference */
    bool optional;            /* -1 is allowed */
    bool sorted;
    int64_t most; /* of other values */
};

static const struct rule rules[] = {
    {TABLE_TEXTS_IMAGE, true, GROUP_IMAGES, false, true, 0},
    {TABLE_TEXTS_IMAGE2, true, GROUP_IMAGES, true, false, 0},
    {TABLE_TEXTS_KIND, false, GROUP_TEXTS, false, false, TEXT_NUM_KINDS - 1},
    {TABLE_TEXTS_LABEL, false, GROUP_TEXTS, true, false, 1},
    {TABLE_BOXES_IMAGE, true, GROUP_IMAGES, false, true, 0},
    {TABLE_BOXES_TEXT, true, GROUP_TEXTS, true, false, 0},
    {TABLE_BOXES_CATEGORY, true, GROUP_CATEGORIES, true, false, 0},
    {TABLE_BOXES_CROWD, false, GROUP_BOXES, false, false, 1},
    {TABLE_SPANS_BOX, true, GROUP_BOXES, false, true, 0},
    {TABLE_ANSWERS_TEXT, true, GROUP_TEXTS, false, true, 0},
};

static void check_values(const struct shard *shard, const struct rule *rule, int64_t place,
                         struct findings *findings)
{
    const struct schema_row *row = &schema[rule->table];
    if (!shard->columns[rule->table].present) return;
    int64_t rows = shard->rows[row->group];
    int64_t most = rule->is_reference ? shard->rows[rule->parent] - 1 : rule->most;
    int64_t least = rule->optional ? -1 : 0;
    int64_t before = INT64_MIN;
    int64_t values[BLOCK];
    for (int64_t first = 0; first < rows; first += BLOCK) {
        int64_t count = rows - first < BLOCK ? rows - first : BLOCK;
        if (shard_read_ints(shard, rule->table, first, count, values) != STATUS_OK) {
            findings_add(findings, true, FOUND_ROW, place, "%s", status_message());
            return;
        }
        for (int64_t i = 0; i < count; i++) {
            int64_t value = values[i];
            if (value < least || value > most) {
                findings_add(findings, true, rule->is_reference ? FOUND_REFERENCE : FOUND_VALUE,
                             place,
                             "%s: %s[%" PRId64 "] is %" PRId64 " and must be within %" PRId64
                             " and %" PRId64,
                             shard->path, row->name, first + i, value, least, most);
            } else if (rule->sorted && value < before) {
                findings_add(findings, true, FOUND_ORDER, place,
                             "%s: %s[%" PRId64 "] is %" PRId64 " after %" PRId64
                             "; rows must be sorted by it",
                             shard->path, row->name, first + i, value, before);
            }
            before = value;
        }
    }
}

static void check_offsets(const struct shard *shard, int table, int64_t place,
                          struct findings *findings)
{
    const struct schema_row *row = &schema[table];
    if (!shard->columns[table].present) return;
    int64_t rows = shard->rows[row->group];
    int64_t bytes = shard->columns[table - 1].elements;
    int64_t before = 0;
    int64_t values[BLOCK];
    for (int64_t first = 0; first <= rows; first += BLOCK) {
        int64_t count = rows + 1 - first < BLOCK ? rows + 1 - first : BLOCK;
        if (shard_read_ints(shard, (enum schema_table)table, first, count, values) != STATUS_OK) {
            findings_add(findings, true, FOUND_ROW, place, "%s", status_message());
            return;
        }
        for (int64_t i = 0; i < count; i++) {
            bool wrong = values[i] < before || values[i] > bytes ||
                         (first + i == 0 && values[i] != 0) ||
                         (first + i == rows && values[i] != bytes);
            if (wrong) {
                findings_add(findings, true, FOUND_OFFSET, place,
                             "%s: %s[%" PRId64 "] is %" PRId64 " after %" PRId64
                             "; offsets rise from 0 to %" PRId64 ", the "
                             "length of %s",
                             shard->path, row->name, first + i, values[i], before, bytes,
                             schema[table - 1].name);
            }
            before = values[i];
        }
    }
}

void check_tables(const struct shard *shard, int64_t place, struct findings *findings)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        check_values(shard, &rules[i], place, findings);
    }
    for (int i = 0; i < TABLE_COUNT; i++) {
        if (schema[i].type == SCHEMA_OFFSET) check_offsets(shard, i, place, findings);
    }
}
