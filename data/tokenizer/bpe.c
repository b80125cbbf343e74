/*
 * Two ways to the same result. Short pieces, which is nearly all: an array of tokens beside an
 * array of the ranks of adjacent pairs, scanned for its least, shifted after each merge. Long
 * pieces (one "word" of a million letters must not stop a loader): a linked list of tokens in
 * arrays, and a heap of (rank, position); an entry that the list no longer bears out is dropped
 * when it surfaces. Positions are those of a token's first byte, so that the order of the heap
 * among equal ranks is left to right in both.
 */
#include "data/tokenizer/bpe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FREE_SLOT UINT64_MAX
#define NO_RANK   UINT32_MAX

enum { SHORT_PIECE = 48, KEEP_WORK = 1 << 20 };

static uint64_t make_pair(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static uint32_t slot_of(const struct bpe *bpe, uint64_t pair)
{
    uint64_t hash = pair * 0x9E3779B97F4A7C15u;
    return (uint32_t)(hash >> 32) & (bpe->num_slots - 1);
}

enum status bpe_init(struct bpe *bpe, int64_t num_merges)
{
    *bpe = (struct bpe){0};
    memset(bpe->byte_id, 0xFF, sizeof bpe->byte_id);
    uint32_t num_slots = 64;
    while (num_slots < 2 * num_merges) {
        num_slots *= 2;
    }
    bpe->slots = malloc(num_slots * sizeof *bpe->slots);
    CHECK(bpe->slots, STATUS_NO_MEMORY, "no memory for %lld merges", (long long)num_merges);
    memset(bpe->slots, 0xFF, num_slots * sizeof *bpe->slots);
    bpe->num_slots = num_slots;
    return STATUS_OK;
}

void bpe_fini(struct bpe *bpe)
{
    free(bpe->slots);
    *bpe = (struct bpe){0};
}

static const struct merge *find_merge(const struct bpe *bpe, int32_t left, int32_t right)
{
    if (left < 0 || right < 0) return NULL;
    uint64_t pair = make_pair(left, right);
    uint32_t slot = slot_of(bpe, pair);
    while (bpe->slots[slot].pair != pair) {
        if (bpe->slots[slot].pair == FREE_SLOT) return NULL;
        slot = (slot + 1) & (bpe->num_slots - 1);
    }
    return &bpe->slots[slot];
}

bool bpe_add_merge(struct bpe *bpe, int32_t left, int32_t right, int32_t id)
{
    assert(left >= 0 && right >= 0 && 2 * (int64_t)bpe->num_merges < bpe->num_slots);
    uint64_t pair = make_pair(left, right);
    uint32_t slot = slot_of(bpe, pair);
    for (; bpe->slots[slot].pair != FREE_SLOT; slot = (slot + 1) & (bpe->num_slots - 1)) {
        if (bpe->slots[slot].pair == pair) return false;
    }
    bpe->slots[slot] = (struct merge){pair, (uint32_t)bpe->num_merges, id};
    bpe->num_merges++;
    return true;
}

static uint32_t rank_of(const struct bpe *bpe, int32_t left, int32_t right)
{
    const struct merge *merge = find_merge(bpe, left, right);
    return merge ? merge->rank : NO_RANK;
}

static int64_t encode_short(const struct bpe *bpe, int64_t count, int32_t *ids)
{
    uint32_t ranks[SHORT_PIECE];
    for (int64_t i = 0; i + 1 < count; i++) {
        ranks[i] = rank_of(bpe, ids[i], ids[i + 1]);
    }
    while (count > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < count; i++) {
            if (ranks[i] < ranks[best]) best = i;
        }
        if (ranks[best] == NO_RANK) break;
        ids[best] = find_merge(bpe, ids[best], ids[best + 1])->id;
        count--;
        for (int64_t i = best + 1; i < count; i++) {
            ids[i] = ids[i + 1];
            ranks[i - 1] = ranks[i];
        }
        if (best > 0) ranks[best - 1] = rank_of(bpe, ids[best - 1], ids[best]);
        if (best + 1 < count) ranks[best] = rank_of(bpe, ids[best], ids[best + 1]);
    }
    return count;
}

/* ---- long pieces ---------------------------------------------------------------------------- */

struct chain {
    const struct bpe *bpe;
    int32_t *ids;       /* by position; of a token's first byte */
    uint32_t *next;     /* position of the next token; the length at the end */
    uint32_t *previous; /* position of the token before; NO_RANK at the start */
    uint32_t *rank;     /* of the pair that starts here; NO_RANK for none or no token */
    uint64_t *heap;     /* rank << 32 | position, least first */
    int64_t heap_size;
    uint32_t length;
};

static void heap_push(struct chain *chain, uint64_t entry)
{
    int64_t i = chain->heap_size++;
    for (; i > 0 && chain->heap[(i - 1) / 2] > entry; i = (i - 1) / 2) {
        chain->heap[i] = chain->heap[(i - 1) / 2];
    }
    chain->heap[i] = entry;
}

static uint64_t heap_pop(struct chain *chain)
{
    uint64_t *heap = chain->heap;
    uint64_t least = heap[0];
    int64_t size = --chain->heap_size;
    uint64_t entry = heap[size];
    int64_t i = 0;
    for (int64_t child = 1; child < size; child = 2 * i + 1) {
        if (child + 1 < size && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= entry) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = entry;
    return least;
}

/* Looks the pair at `position` up again and enters it in the heap. */
static void update_pair(struct chain *chain, uint32_t position)
{
    uint32_t next = chain->next[position];
    uint32_t rank = NO_RANK;
    if (next < chain->length) rank = rank_of(chain->bpe, chain->ids[position], chain->ids[next]);
    chain->rank[position] = rank;
    if (rank != NO_RANK) heap_push(chain, (uint64_t)rank << 32 | position);
}

static void merge_at(struct chain *chain, uint32_t position)
{
    uint32_t right = chain->next[position];
    uint32_t after = chain->next[right];
    chain->ids[position] = find_merge(chain->bpe, chain->ids[position], chain->ids[right])->id;
    chain->rank[right] = NO_RANK;
    chain->next[position] = after;
    if (after < chain->length) chain->previous[after] = position;
    update_pair(chain, position);
    if (position > 0) update_pair(chain, chain->previous[position]);
}

static int64_t encode_long(const struct bpe *bpe, struct bpe_work *work, size_t length,
                           int32_t *ids)
{
    /* Each merge enters two pairs, and there are at most `length` merges. */
    size_t size = length * (3 * sizeof(uint64_t) + 3 * sizeof(uint32_t));
    if (work->size < size) {
        void *memory = realloc(work->memory, size);
        if (!memory) return -1;
        work->memory = memory;
        work->size = size;
    }
    struct chain chain = {.bpe = bpe, .ids = ids, .heap = work->memory, .length = (uint32_t)length};
    chain.next = (uint32_t *)(chain.heap + 3 * length);
    chain.previous = chain.next + length;
    chain.rank = chain.previous + length;
    for (uint32_t i = 0; i < chain.length; i++) {
        chain.next[i] = i + 1;
        chain.previous[i] = i - 1;
        update_pair(&chain, i);
    }
    while (chain.heap_size > 0) {
        uint64_t entry = heap_pop(&chain);
        uint32_t position = (uint32_t)entry;
        if (chain.rank[position] == (uint32_t)(entry >> 32)) merge_at(&chain, position);
    }
    int64_t count = 0;
    for (uint32_t i = 0; i < chain.length; i = chain.next[i]) {
        ids[count++] = ids[i];
    }
    return count;
}

int64_t bpe_encode(const struct bpe *bpe, struct bpe_work *work, const char *bytes, size_t length,
                   int32_t *ids)
{
    for (size_t i = 0; i < length; i++) {
        ids[i] = bpe->byte_id[(uint8_t)bytes[i]];
    }
    if (length <= SHORT_PIECE) return encode_short(bpe, (int64_t)length, ids);
    return encode_long(bpe, work, length, ids);
}

void bpe_work_trim(struct bpe_work *work)
{
    if (work->size > KEEP_WORK) bpe_work_fini(work);
}

void bpe_work_fini(struct bpe_work *work)
{
    free(work->memory);
    *work = (struct bpe_work){0};
}
