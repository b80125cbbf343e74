/*
 * Merging against the definition carried out literally, for random merges over a small alphabet (so
 * that ties and overlaps are everywhere) and pieces on both sides of the limit between the two ways
 * in which bpe_encode works.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "data/tokenizer/bpe.h"
#include "runtime/base/rng.h"

enum { ALPHABET = 3, MAX_MERGES = 60, MAX_LENGTH = 150 };

struct rule {
    int32_t left, right, id;
};

/* While any rule applies: the first rule of the list that does, at its leftmost place. */
static int64_t encode_literally(const struct rule *rules, int num_rules, int32_t *ids,
                                int64_t count)
{
    for (int r = 0; r < num_rules;) {
        int64_t at = 0;
        while (at + 1 < count && (ids[at] != rules[r].left || ids[at + 1] != rules[r].right)) {
            at++;
        }
        if (at + 1 >= count) {
            r++;
            continue;
        }
        ids[at] = rules[r].id;
        memmove(ids + at + 1, ids + at + 2, (size_t)(count - at - 2) * sizeof *ids);
        count--;
        r = 0;
    }
    return count;
}

static void make_rules(struct bpe *bpe, struct rule *rules, int *num_rules, struct rng_key key,
                       uint64_t trial)
{
    assert_int_equal(bpe_init(bpe, MAX_MERGES), STATUS_OK);
    for (int i = 0; i < ALPHABET; i++) {
        bpe->byte_id['a' + i] = i;
    }
    *num_rules = 0;
    for (uint32_t i = 0; i < MAX_MERGES; i++) {
        struct rng_block draw = rng_at(key, 0, trial, i);
        uint32_t known = (uint32_t)(ALPHABET + *num_rules);
        int32_t left = (int32_t)rng_below(draw.word[0], known);
        int32_t right = (int32_t)rng_below(draw.word[1], known);
        int32_t id = ALPHABET + *num_rules;
        if (bpe_add_merge(bpe, left, right, id)) {
            rules[(*num_rules)++] = (struct rule){left, right, id};
        }
    }
    assert_int_equal(bpe->num_merges, *num_rules);
}

static void test_against_definition(void **state)
{
    (void)state;
    struct rng_key key = rng_key(3, RNG_TEST, 0);
    struct bpe_work work = {0};
    for (uint64_t trial = 0; trial < 200; trial++) {
        struct bpe bpe;
        struct rule rules[MAX_MERGES];
        int num_rules;
        make_rules(&bpe, rules, &num_rules, key, trial);
        for (uint32_t k = 0; k < 40; k++) {
            char text[MAX_LENGTH];
            int32_t ids[MAX_LENGTH];
            int32_t expected[MAX_LENGTH];
            struct rng_block draw = rng_at(key, 1, trial, k);
            size_t length = 1 + rng_below(draw.word[0], MAX_LENGTH);
            uint32_t letters = 1 + rng_below(draw.word[1], ALPHABET);
            for (uint32_t i = 0; i < length; i++) {
                uint32_t letter = rng_below(rng_at(key, 2 + k, trial, i).word[0], letters);
                text[i] = (char)('a' + letter);
                expected[i] = (int32_t)letter;
            }
            int64_t count = bpe_encode(&bpe, &work, text, length, ids);
            assert_int_equal(count, encode_literally(rules, num_rules, expected, (int64_t)length));
            assert_memory_equal(ids, expected, (size_t)count * sizeof *ids);
        }
        bpe_fini(&bpe);
    }
    bpe_work_fini(&work);
}

/* Bytes that no token stands for are -1 and no merge goes across them. */
static void test_bytes_without_token(void **state)
{
    (void)state;
    struct bpe bpe;
    assert_int_equal(bpe_init(&bpe, 1), STATUS_OK);
    memset(bpe.byte_id, 0xFF, sizeof bpe.byte_id);
    bpe.byte_id['a'] = 0;
    assert_true(bpe_add_merge(&bpe, 0, 0, 1));
    assert_false(bpe_add_merge(&bpe, 0, 0, 2)); /* the pair has a rank */
    struct bpe_work work = {0};
    int32_t ids[6];
    static const int32_t expected[] = {1, -1, -1, 0};
    assert_int_equal(bpe_encode(&bpe, &work, "aaxya", 5, ids), 4);
    assert_memory_equal(ids, expected, sizeof expected);
    bpe_work_fini(&work);
    bpe_fini(&bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_definition),
        cmocka_unit_test(test_bytes_without_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
