#include "data/import/group.h"

#include <stdlib.h>
#include <string.h>

#include "data/import/import.h"

static enum status no_memory(int64_t count)
{
    status_fail(STATUS_NO_MEMORY, "no memory for an index of %lld rows", (long long)count);
    return STATUS_NO_MEMORY;
}

/* ---- map: open addressing, linear probing, at most three quarters full
 * ----------------------------- */

static int64_t slot_of(const struct int_map *map, uint64_t key)
{
    uint64_t hash = key * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
    int64_t slot = (int64_t)(hash & (uint64_t)(map->slots - 1));
    while (map->value[slot] >= 0 && map->key[slot] != key) {
        slot = (slot + 1) & (map->slots - 1);
    }
    return slot;
}

static enum status rehash(struct int_map *map)
{
    struct int_map next = {.slots = map->slots ? 2 * map->slots : 64, .count = map->count};
    next.key = malloc((size_t)next.slots * sizeof *next.key);
    next.value = malloc((size_t)next.slots * sizeof *next.value);
    if (!next.key || !next.value) {
        free(next.key);
        free(next.value);
        return no_memory(next.slots);
    }
    memset(next.value, 0xff, (size_t)next.slots * sizeof *next.value);
    for (int64_t i = 0; i < map->slots; i++) {
        if (map->value[i] < 0) continue;
        int64_t slot = slot_of(&next, map->key[i]);
        next.key[slot] = map->key[i];
        next.value[slot] = map->value[i];
    }
    int_map_fini(map);
    *map = next;
    return STATUS_OK;
}

enum status int_map_put(struct int_map *map, uint64_t key, int64_t fresh, int64_t *value)
{
    if (4 * (map->count + 1) > 3 * map->slots) TRY(rehash(map));
    int64_t slot = slot_of(map, key);
    if (map->value[slot] < 0) {
        map->key[slot] = key;
        map->value[slot] = fresh;
        map->count++;
    }
    *value = map->value[slot];
    return STATUS_OK;
}

int64_t int_map_get(const struct int_map *map, uint64_t key)
{
    return map->slots ? map->value[slot_of(map, key)] : -1;
}

void int_map_fini(struct int_map *map)
{
    free(map->key);
    free(map->value);
    *map = (struct int_map){0};
}

/* ---- lists and groups ---------------------------------------------------------------------------
 */

enum status int_list_add(struct int_list *list, int64_t value)
{
    if (list->count == list->room) {
        int64_t room = list->room ? 2 * list->room : 64;
        int64_t *memory = realloc(list->value, (size_t)room * sizeof *memory);
        if (!memory) return no_memory(room);
        list->value = memory;
        list->room = room;
    }
    list->value[list->count++] = value;
    return STATUS_OK;
}

/* Gives each row its group's number and counts the groups' rows in first[group + 1]. */
static enum status number_groups(const uint64_t *keys, int64_t num_rows, struct int_map *map,
                                 int64_t *group, struct grouping *out)
{
    for (int64_t i = 0; i < num_rows; i++) {
        TRY(int_map_put(map, keys[i], out->num_groups, &group[i]));
        if (group[i] == out->num_groups) out->num_groups++;
        out->first[group[i] + 1]++;
    }
    return STATUS_OK;
}

enum status group_rows(const uint64_t *keys, int64_t num_rows, struct grouping *grouping)
{
    struct int_map map = {0};
    int64_t *group = malloc((size_t)(num_rows + 1) * sizeof *group);
    *grouping = (struct grouping){0};
    grouping->first = calloc((size_t)num_rows + 2, sizeof *grouping->first);
    grouping->row = malloc((size_t)(num_rows + 1) * sizeof *grouping->row);
    enum status status = STATUS_OK;
    if (!group || !grouping->first || !grouping->row) status = no_memory(num_rows);
    if (status == STATUS_OK) status = number_groups(keys, num_rows, &map, group, grouping);
    int_map_fini(&map);
    if (status == STATUS_OK) {
        for (int64_t g = 0; g < grouping->num_groups; g++) {
            grouping->first[g + 1] += grouping->first[g];
        }
        /* Filling moves each first[g] to the start of the next group; then shift back. */
        for (int64_t i = 0; i < num_rows; i++) {
            grouping->row[grouping->first[group[i]]++] = i;
        }
        for (int64_t g = grouping->num_groups; g > 0; g--) {
            grouping->first[g] = grouping->first[g - 1];
        }
        grouping->first[0] = 0;
    } else {
        group_fini(grouping);
    }
    free(group);
    return status;
}

void group_fini(struct grouping *grouping)
{
    free(grouping->first);
    free(grouping->row);
    *grouping = (struct grouping){0};
}

uint64_t group_key(const char *text, int64_t length)
{
    return import_hash(0, text, length);
}
