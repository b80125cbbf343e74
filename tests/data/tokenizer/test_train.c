/* Training: a hand-worked example, independence of order, the layout, saving and loading. */
#include "tests/data/tokenizer/tokenizer_test.h"

#include "data/tokenizer/train.h"

static void add(struct bpe_trainer *trainer, const char *text)
{
    assert_ok(bpe_trainer_add(trainer, text, strlen(text)));
}

/*
 * The words of Sennrich et al., algorithm 1: low x5, lower x2, newest x6, widest x3. At the start
 * e s and s t occur 9 times each; ids of letters are alphabetical, so e s goes first, then es t
 * with
 * 9. Of l o and o w (7 each) l o goes first, then lo w. Then e w, n e and w est occur 6 times each;
 * e w goes first, which leaves n ew and ew est, of which n has the smaller id.
 */
static void test_hand_worked(void **state)
{
    (void)state;
    struct bpe_trainer *trainer;
    assert_ok(bpe_trainer_create(&trainer));
    for (int i = 0; i < 6; i++) {
        if (i < 5) add(trainer, "low");
        if (i < 2) add(trainer, "lower");
        if (i < 3) add(trainer, "widest");
        add(trainer, "newest");
    }
    struct tokenizer *tokenizer;
    assert_ok(bpe_trainer_train(trainer, TRAIN_FIXED_TOKENS + 6, 2, &tokenizer));
    static const char *const expected[] = {"es", "est", "lo", "low", "ew", "new", "<mask>"};
    for (int i = 0; i < 7; i++) {
        assert_string_equal(tokenizer_token(tokenizer, 4 + 256 + i), expected[i]);
    }
    static const char *const special[] = {"<s>", "<pad>", "</s>", "<unk>"};
    for (int i = 0; i < 4; i++) {
        assert_string_equal(tokenizer_token(tokenizer, i), special[i]);
    }
    assert_int_equal(tokenizer_special(tokenizer, TOKENIZER_MASK),
                     tokenizer_vocab_size(tokenizer) - 1);
    assert_string_equal(tokenizer_token(tokenizer, 4), "!");
    struct bpe_trainer_stats stats = bpe_trainer_stats(trainer);
    assert_int_equal(stats.num_texts, 16);
    assert_int_equal(stats.num_distinct, 4);
    assert_int_equal(stats.num_bytes, 5 * 3 + 2 * 5 + 9 * 6);
    tokenizer_destroy(&tokenizer);
    bpe_trainer_destroy(&trainer);
}

/* Trains on the case file's lines, `step` apart, starting over until all were taken. */
static struct tokenizer *train_captions(int step, int32_t vocab_size)
{
    struct bpe_trainer *trainer;
    assert_ok(bpe_trainer_create(&trainer));
    size_t size;
    char *text = file_read(CASES, "captions.txt", &size);
    char *lines[64];
    int count = 0;
    for (char *at = strtok(text, "\n"); at; at = strtok(NULL, "\n")) {
        lines[count++] = at;
    }
    assert_int_equal(count, 54);
    for (int start = 0; start < step; start++) {
        for (int i = start; i < count; i += step) {
            add(trainer, lines[i]);
        }
    }
    struct tokenizer *tokenizer;
    assert_ok(bpe_trainer_train(trainer, vocab_size, 2, &tokenizer));
    free(text);
    bpe_trainer_destroy(&trainer);
    return tokenizer;
}

static void test_order_does_not_matter(void **state)
{
    (void)state;
    struct tokenizer *first = train_captions(1, 400);
    struct tokenizer *second = train_captions(7, 400);
    struct tokenizer *smaller = train_captions(1, 399);
    assert_int_equal(tokenizer_vocab_size(first), 400);
    assert_true(tokenizer_fingerprint(first) == tokenizer_fingerprint(second));
    assert_true(tokenizer_fingerprint(first) != tokenizer_fingerprint(smaller));
    tokenizer_destroy(&first);
    tokenizer_destroy(&second);
    tokenizer_destroy(&smaller);
}

static void check_same(const struct tokenizer *expected, const char *path)
{
    struct tokenizer *loaded;
    assert_ok(tokenizer_load(path, NULL, &loaded));
    assert_true(tokenizer_fingerprint(expected) == tokenizer_fingerprint(loaded));
    tokenizer_destroy(&loaded);
}

/* The three files say the same, and are the committed ones that the library was asked about. */
static void test_save(void **state)
{
    (void)state;
    char folder[512];
    char path[1024];
    folder_make(folder, sizeof folder);
    struct tokenizer *tokenizer = train_captions(1, 512);
    assert_ok(tokenizer_save(tokenizer, folder));
    check_same(tokenizer, folder);
    snprintf(path, sizeof path, "%s/vocab.json", folder);
    check_same(tokenizer, path);
    check_same(tokenizer, CASES "/vocab.json");
    static const char *const names[] = {"vocab.json", "merges.txt"};
    for (int i = 0; i < 2; i++) {
        size_t size[2];
        char *mine = file_read(folder, names[i], &size[0]);
        char *committed = file_read(CASES, names[i], &size[1]);
        assert_int_equal(size[0], size[1]);
        assert_memory_equal(mine, committed, size[0]);
        free(mine);
        free(committed);
    }
    assert_ok(tokenizer_save(tokenizer, folder)); /* over the files that are there */
    check_same(tokenizer, folder);
    assert_int_equal(tokenizer_save(tokenizer, "/dev/null/x"), STATUS_IO);
    tokenizer_destroy(&tokenizer);
    folder_remove(folder);
    struct loaded wordpiece = load(CASES "/vocab.txt", NULL);
    assert_int_equal(tokenizer_save(wordpiece.tokenizer, folder), STATUS_UNSUPPORTED);
    unload(&wordpiece);
}

/* Texts that spell a special token must not teach the merges to make it. */
static void test_special_names_are_text(void **state)
{
    (void)state;
    struct bpe_trainer *trainer;
    assert_ok(bpe_trainer_create(&trainer));
    for (int i = 0; i < 50; i++) {
        add(trainer, "</s></s>");
        add(trainer, "unk");
    }
    struct loaded loaded = {0};
    assert_ok(bpe_trainer_train(trainer, 400, 2, &loaded.tokenizer));
    assert_ok(tokenizer_scratch_create(loaded.tokenizer, &loaded.scratch));
    encode_text(&loaded, "</s> <unk>", NULL);
    for (int64_t i = 0; i < loaded.encoding.count; i++) {
        assert_false(tokenizer_is_special(loaded.tokenizer, loaded.encoding.ids[i]));
    }
    assert_true(tokenizer_id(loaded.tokenizer, "unk") > 4 + 256);
    unload(&loaded);
    bpe_trainer_destroy(&trainer);
}

/* Runs of one letter: pairs overlap with themselves. */
static void test_runs(void **state)
{
    (void)state;
    struct bpe_trainer *trainer;
    assert_ok(bpe_trainer_create(&trainer));
    char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for (size_t length = 1; length < sizeof text; length++) {
        assert_ok(bpe_trainer_add(trainer, text, length));
    }
    struct loaded loaded = {0};
    assert_ok(bpe_trainer_train(trainer, 300, 1, &loaded.tokenizer));
    assert_ok(tokenizer_scratch_create(loaded.tokenizer, &loaded.scratch));
    encode_text(&loaded, text, NULL);
    assert_true(loaded.encoding.count <= 4);
    struct strbuf decoded = {0};
    assert_ok(tokenizer_decode(loaded.tokenizer, loaded.encoding.ids, loaded.encoding.count, false,
                               &decoded));
    assert_string_equal(decoded.text, text);
    strbuf_fini(&decoded);
    unload(&loaded);
    bpe_trainer_destroy(&trainer);
}

static void test_refusals(void **state)
{
    (void)state;
    struct bpe_trainer *trainer;
    struct tokenizer *tokenizer;
    assert_ok(bpe_trainer_create(&trainer));
    assert_int_equal(bpe_trainer_train(trainer, 400, 2, &tokenizer), STATUS_INVALID);
    assert_message("there is no text to train on");
    assert_int_equal(bpe_trainer_add(trainer, "ab\xC3", 3), STATUS_INVALID);
    assert_message("not UTF-8 at byte 2 (0xC3)");
    assert_int_equal(bpe_trainer_stats(trainer).num_texts, 0);
    char *huge = malloc(TRAIN_MAX_PIECE + 2);
    assert_non_null(huge);
    memset(huge, 'x', TRAIN_MAX_PIECE + 1);
    huge[TRAIN_MAX_PIECE + 1] = ' ';
    assert_ok(bpe_trainer_add(trainer, huge, TRAIN_MAX_PIECE + 2));
    assert_int_equal(bpe_trainer_stats(trainer).num_left_out, 1);
    assert_int_equal(bpe_trainer_stats(trainer).num_pieces, 1);
    free(huge);
    assert_int_equal(bpe_trainer_train(trainer, 260, 2, &tokenizer), STATUS_INVALID);
    assert_message("it needs 261 for bytes and special tokens");
    bpe_trainer_destroy(&trainer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hand_worked), cmocka_unit_test(test_order_does_not_matter),
        cmocka_unit_test(test_save),        cmocka_unit_test(test_special_names_are_text),
        cmocka_unit_test(test_runs),        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
