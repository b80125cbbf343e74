/* The texts that a vocabulary is trained on, from lines, JSON lines and packed sets. */
#include "tests/data/store/fixture.h"

#include "data/tokenizer/train.h"
#include "launch/tokenizer_input.h"

enum { NUM_SAMPLES = 12 };

static char folder[PATH_MAX];

static int setup(void **state)
{
    (void)state;
    folder_make(folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static const char *place(const char *name)
{
    static char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* The texts of the packed set, as lines with `before` and `after` around each. */
static void write_texts(const char *name, const char *before, const char *after)
{
    FILE *file = fopen(place(name), "w");
    assert_non_null(file);
    struct sample sample = {0};
    for (int i = 0; i < NUM_SAMPLES; i++) {
        sample_make(&sample, i);
        for (int32_t k = 0; k < sample.num_texts; k++) {
            fprintf(file, "%s%.*s%s\n", before, (int)sample.texts[k].length, sample.texts[k].text,
                    after);
        }
        sample_clear(&sample);
    }
    sample_fini(&sample);
    fclose(file);
}

static uint64_t train_on(const char *const *paths, int num_paths, const char *field)
{
    struct bpe_trainer *trainer;
    struct tokenizer *tokenizer;
    ASSERT_OK(bpe_trainer_create(&trainer));
    ASSERT_OK(tokenizer_input_add(trainer, paths, num_paths, field));
    ASSERT_OK(bpe_trainer_train(trainer, 300, 2, &tokenizer));
    uint64_t fingerprint = tokenizer_fingerprint(tokenizer);
    tokenizer_destroy(&tokenizer);
    bpe_trainer_destroy(&trainer);
    return fingerprint;
}

/* The same texts in three forms give the same vocabulary. */
static void test_forms_agree(void **state)
{
    (void)state;
    write_texts("lines.txt", "", "\r");
    write_texts("rows.jsonl", "{\"id\": 7, \"text\": \"", "\"}");
    write_texts("lists.jsonl", "{\"text\": [\"", "\"]}\n");
    shard_make(place("set-1.h5"), 0, 5, 0, 2);
    shard_make(place("set-2.h5"), 5, NUM_SAMPLES - 5, 1, 2);
    char path[PATH_MAX + 64];
    const char *paths[] = {path};
    static const char *const names[] = {"lines.txt", "rows.jsonl", "lists.jsonl", "set-*.h5"};
    uint64_t fingerprints[4];
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s", place(names[i]));
        fingerprints[i] = train_on(paths, 1, "text");
    }
    for (int i = 1; i < 4; i++) {
        assert_true(fingerprints[i] == fingerprints[0]);
    }
    char first[PATH_MAX + 64];
    char second[PATH_MAX + 64];
    snprintf(first, sizeof first, "%s", place("set-1.h5"));
    snprintf(second, sizeof second, "%s", place("set-2.h5"));
    const char *both[] = {second, first};
    assert_true(train_on(both, 2, "text") == fingerprints[0]);
    assert_true(train_on(both, 1, "text") != fingerprints[0]); /* one shard of two is accepted */
}

static void refuse(const char *name, const char *content, enum status code, const char *message)
{
    struct bpe_trainer *trainer;
    ASSERT_OK(bpe_trainer_create(&trainer));
    if (content) file_save(place(name), content, strlen(content));
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s", place(name));
    const char *paths[] = {path};
    ASSERT_FAILS(tokenizer_input_add(trainer, paths, 1, "caption"), code, message);
    bpe_trainer_destroy(&trainer);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse("none.txt", NULL, STATUS_NOT_FOUND, "none.txt: No such file");
    refuse("none-*.h5", NULL, STATUS_NOT_FOUND, "none-*.h5");
    refuse("a.txt",
           "good\nb\xE4"
           "d\n",
           STATUS_INVALID, "a.txt:2: the text is not UTF-8 at byte 1");
    refuse("a.jsonl", "{\"caption\": \"a\"}\n{\"caption\": 1}\n", STATUS_INVALID,
           "a.jsonl:2: \"caption\" is neither a text nor a list");
    refuse("a.jsonl", "{\"caption\": [\"a\", null]}\n", STATUS_INVALID,
           "a.jsonl:1: \"caption\"[1] is not a text");
    refuse("a.jsonl", "{\"text\": \"a\"}\n", STATUS_INVALID, "--field names the texts' key");
    refuse("a.jsonl", "\n[1]\n", STATUS_INVALID, "a.jsonl:2: the line is not a JSON object");
    refuse("a.jsonl", "{\"caption\": \"a}\n", STATUS_INVALID,
           "a.jsonl:1: not valid JSON at column");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_forms_agree, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
