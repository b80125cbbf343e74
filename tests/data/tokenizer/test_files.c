/* Files that are damaged, cut off, or do not belong together: refused, with the place and the
 * reason. */
#include "tests/data/tokenizer/tokenizer_test.h"

#include "runtime/base/log.h"

static char folder[512];

static int setup(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    folder_make(folder, sizeof folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static void put(const char *name, const char *text)
{
    file_write(folder, name, text, strlen(text));
}

/* Copies the good vocabulary of the case files. */
static void put_case(const char *name)
{
    size_t size;
    char *bytes = file_read(CASES, name, &size);
    file_write(folder, name, bytes, size);
    free(bytes);
}

static void refuse(const char *name, const struct tokenizer_options *options, enum status expected,
                   const char *message)
{
    char path[1024];
    snprintf(path, sizeof path, "%s%s%s", folder, *name ? "/" : "", name);
    struct tokenizer *tokenizer;
    enum status status = tokenizer_load(path, options, &tokenizer);
    assert_null(tokenizer);
    if (!strstr(status_message(), message)) {
        fail_msg("expected '%s', the message is '%s'", message, status_message());
    }
    assert_int_equal(status, expected);
    assert_null(strchr(status_message(), '\n'));
}

static void test_what_is_there(void **state)
{
    (void)state;
    refuse("", NULL, STATUS_NOT_FOUND,
           "holds no tokenizer.json, no vocab.json with merges.txt and");
    refuse("nothing", NULL, STATUS_NOT_FOUND, "No such file");
    put("other.bin", "x");
    refuse("other.bin", NULL, STATUS_INVALID, "is neither a folder nor a .json or .txt file");
    put_case("vocab.json");
    refuse("", NULL, STATUS_NOT_FOUND, "there is no merges.txt beside it");
    put_case("merges.txt");
    refuse("merges.txt", NULL, STATUS_INVALID, "is a list of merges; give its vocab.json");
    put_case("vocab.txt");
    refuse("", NULL, STATUS_INVALID, "holds both vocab.json (BPE) and vocab.txt (WordPiece)");
    struct loaded wordpiece = load(CASES "/vocab.txt", NULL);
    assert_int_equal(tokenizer_kind(wordpiece.tokenizer), TOKENIZER_WORDPIECE);
    unload(&wordpiece);
    struct tokenizer_options options = {.special[TOKENIZER_BEGIN] = "<cls>"};
    refuse("vocab.json", &options, STATUS_NOT_FOUND,
           "has no token '<cls>', which is to be the begin token");
    options = (struct tokenizer_options){.cased = true};
    refuse("vocab.json", &options, STATUS_INVALID, "cannot be loaded as cased");
    options = (struct tokenizer_options){.merges = CASES "/merges.txt"};
    refuse("vocab.txt", &options, STATUS_INVALID, "takes no other file of merges");
    put("merges.txt", "damaged");
    char path[1024];
    snprintf(path, sizeof path, "%s/vocab.json", folder);
    struct loaded bpe = load(path, &options); /* the merges given, not those beside it */
    unload(&bpe);
}

static void test_vocab_json(void **state)
{
    (void)state;
    put_case("merges.txt");
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "is empty"},
        {"{\"a\": 0,\n\n \"b\" 1}", "vocab.json:3: not valid JSON"},
        {"[\"a\"]", "a vocabulary is an object like"},
        {"{}", "holds no tokens"},
        {"{\"a\": 0, \"b\": \"1\"}", "the id of token 'b' is not an integer"},
        {"{\"a\": 0, \"b\": 0}", "tokens 'a' and 'b' have the same id 0"},
        {"{\"a\": 0, \"b\": 2}", "token 'b' has id 2; with 2 tokens the ids must be 0 to 1"},
        {"{\"a\": 0, \"b\": -1}", "token 'b' has id -1"},
        {"{\"a\": 0, \"a\": 1}", "not valid JSON: duplicate object key"},
        {"{\"a\": 0, \"\": 1}", "a token is empty"},
        {"{\"a\": 0, \"b\xFF\": 1}", "not valid JSON"},
        {"{\"a\": 0, \"b\": 1, \"ab\": 2}",
         "is not in the vocabulary; the merges and the vocabulary"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put("vocab.json", rows[i].text);
        refuse("vocab.json", NULL, STATUS_CORRUPT, rows[i].message);
    }
}

static void test_merges_txt(void **state)
{
    (void)state;
    put_case("vocab.json");
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "merges.txt: is empty"},
        {"#version: 0.2\n\xC4\xA0 a\n\xC4\xA0\n", "merges.txt:3: a merge is two tokens"},
        {"\xC4\xA0 a b\n", "merges.txt:1: a merge is two tokens with one space between, not"},
        {"\xC4\xA0 a\n\nr e\n", "merges.txt:2: a merge is two tokens"},
        {"\xC4\xA0 a\n\xC4 t\n", "merges.txt:2: byte 1 of the line is not UTF-8"},
        {"\xC4\xA0 a\nX Y\n", "merges.txt:2: token 'XY' is not in the vocabulary"},
        {"\xC4\xA0 a\nlalala r\n", "merges.txt:2: token 'lalala' is not in the vocabulary"},
        {"\xC4\xA0 a\n\xC4\xA0 a\n",
         "merges.txt:2: the merge of '\xC4\xA0' and 'a' is there twice"},
        {"#version: 0.2\n", "no merge makes 241 of the 502 tokens"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put("merges.txt", rows[i].text);
        refuse("vocab.json", NULL, STATUS_CORRUPT, rows[i].message);
    }
    file_write(folder, "merges.txt", "a\0 b\n", 5);
    refuse("vocab.json", NULL, STATUS_CORRUPT, "merges.txt:1: the line holds a NUL byte");
}

static void test_vocab_txt(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
        enum status status;
    } rows[] = {
        {"[PAD]\n[UNK]\na\n\nb\n", "vocab.txt:4: the line is empty", STATUS_CORRUPT},
        {"[PAD]\n[UNK]\na\nb\na\n", "vocab.txt:5: token 'a' is on line 3 already", STATUS_CORRUPT},
        {"[PAD]\n[UNK]\na\xFF\n", "vocab.txt:3: byte 2 of the line is not UTF-8", STATUS_CORRUPT},
        {"[PAD]\na\nb\n", "has no token [UNK], which WordPiece needs", STATUS_NOT_FOUND},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put("vocab.txt", rows[i].text);
        refuse("vocab.txt", NULL, rows[i].status, rows[i].message);
    }
    /* Windows line ends, a byte order mark and a last line without an end are fine. */
    put("vocab.txt", "\xEF\xBB\xBF[PAD]\r\n[UNK]\r\nred");
    char path[1024];
    snprintf(path, sizeof path, "%s/vocab.txt", folder);
    struct loaded loaded = load(path, NULL);
    assert_int_equal(tokenizer_vocab_size(loaded.tokenizer), 3);
    assert_int_equal(tokenizer_special(loaded.tokenizer, TOKENIZER_PAD), 0);
    encode_text(&loaded, "Red", NULL);
    assert_int_equal(loaded.encoding.ids[0], 2);
    int32_t id;
    assert_int_equal(tokenizer_require(loaded.tokenizer, TOKENIZER_BEGIN, &id), STATUS_NOT_FOUND);
    unload(&loaded);
}

#define BYTE_LEVEL "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}, "

static void test_tokenizer_json(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
        enum status status;
    } rows[] = {
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}",
         "model.type is Unigram; supported are BPE", STATUS_UNSUPPORTED},
        {"{\"model\": {\"type\": \"BPE\", \"dropout\": 0.1}}", "model.dropout is set",
         STATUS_UNSUPPORTED},
        {"{\"model\": {\"type\": \"BPE\", \"byte_fallback\": true}}", "model.byte_fallback is set",
         STATUS_UNSUPPORTED},
        {"{\"normalizer\": {\"type\": \"NFC\"}, \"model\": {\"type\": \"BPE\"}}",
         "normalizer is NFC", STATUS_UNSUPPORTED},
        {"{\"pre_tokenizer\": {\"type\": \"Metaspace\"}, \"model\": {\"type\": \"BPE\"}}",
         "pre_tokenizer is Metaspace", STATUS_UNSUPPORTED},
        {"{\"model\": {\"type\": \"BPE\"}}", "pre_tokenizer is null", STATUS_UNSUPPORTED},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"use_regex\": false}, \"model\": "
         "{\"type\": "
         "\"BPE\"}}",
         "pre_tokenizer.use_regex is false", STATUS_UNSUPPORTED},
        {"{" BYTE_LEVEL "\"model\": {\"type\": \"BPE\", \"vocab\": [1]}}",
         "model.vocab must be an object", STATUS_CORRUPT},
        {"{" BYTE_LEVEL "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}}",
         "model.merges must be a list", STATUS_CORRUPT},
        {"{" BYTE_LEVEL
         "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a\"]}}",
         "model.merges[0]: a merge is two tokens", STATUS_CORRUPT},
        {"{" BYTE_LEVEL
         "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [[\"a\", "
         "1]]}}",
         "model.merges[0]: a merge is a list of two texts", STATUS_CORRUPT},
        {"{" BYTE_LEVEL
         "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [[\"a\", "
         "\"b\"]]}}",
         "model.merges[0]: token 'b' is not in the vocabulary", STATUS_CORRUPT},
        {"{" BYTE_LEVEL "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}",
         "has no token for byte 0x00 and no unknown token", STATUS_UNSUPPORTED},
        {"{" BYTE_LEVEL
         "\"added_tokens\": [{\"id\": 0, \"content\": \"b\"}], \"model\": {\"type\": "
         "\"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}",
         "tokens 'a' and 'b' have the same id 0", STATUS_CORRUPT},
        {"{" BYTE_LEVEL
         "\"added_tokens\": [{\"id\": 1, \"content\": \"b\", \"single_word\": true}], "
         "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}",
         "added token 'b' has single_word set", STATUS_UNSUPPORTED},
        {"{" BYTE_LEVEL "\"added_tokens\": [{\"id\": 0, \"content\": \"aa\", \"special\": true}], "
         "\"model\": {\"type\": \"BPE\", \"unk_token\": \"aa\", \"vocab\": {\"aa\": 0, \"a\": 1}, "
         "\"merges\": [\"a a\"]}}",
         "the merges make the special token 'aa' out of plain text", STATUS_UNSUPPORTED},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {}}}", "normalizer is null",
         STATUS_UNSUPPORTED},
        {"{\"normalizer\": {\"type\": \"BertNormalizer\"}, \"pre_tokenizer\": {\"type\": "
         "\"BertPreTokenizer\"}, \"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}}",
         "has no token [UNK]", STATUS_NOT_FOUND},
        {"{\"model\": {", "not valid JSON", STATUS_CORRUPT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put("tokenizer.json", rows[i].text);
        refuse("", NULL, rows[i].status, rows[i].message);
    }
}

/* A tokenizer.json with unknown bytes, a prefix space, and added tokens of both kinds. */
static void test_tokenizer_json_options(void **state)
{
    (void)state;
    put("tokenizer.json",
        "{\"added_tokens\": [{\"id\": 4, \"content\": \"new york\", \"special\": false, "
        "\"rstrip\": true}],"
        "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true},"
        "\"model\": {\"type\": \"BPE\", \"unk_token\": \"?\", \"vocab\": {\"?\": 0, \"a\": 1, "
        "\"\xC4\xA0\": 2, \"\xC4\xA0\x61\": 3}, \"merges\": [[\"\xC4\xA0\", \"a\"]]}}");
    struct loaded loaded = load(folder, NULL);
    encode_text(&loaded, "a \xC3\xA9new york  aa", NULL);
    static const int32_t ids[] = {3, 2, 0, 0, 4, 3, 1};
    static const struct text_span spans[] = {{0, 1},  {2, 2},   {2, 3},  {2, 3},
                                             {3, 11}, {13, 14}, {14, 15}};
    assert_int_equal(loaded.encoding.count, 7);
    assert_memory_equal(loaded.encoding.ids, ids, sizeof ids);
    assert_memory_equal(loaded.encoding.spans, spans, sizeof spans);
    unload(&loaded);
}

/* A file that was cut off anywhere is refused, or (whole lines missing) still means something. */
static void test_cut_off(void **state)
{
    (void)state;
    put_case("vocab.json");
    put_case("merges.txt");
    char path[1024];
    snprintf(path, sizeof path, "%s/vocab.json", folder);
    static const char *const names[] = {"vocab.json", "merges.txt"};
    for (int i = 0; i < 2; i++) {
        size_t size;
        char *bytes = file_read(folder, names[i], &size);
        for (size_t cut = 1; cut + 2 < size; cut += 7) {
            file_write(folder, names[i], bytes, size - 1 - cut);
            struct tokenizer *tokenizer;
            enum status status = tokenizer_load(path, NULL, &tokenizer);
            bool few_lines = i == 1 && cut < 60;
            if (status == STATUS_OK && !few_lines) fail_msg("%s short of %zu bytes", names[i], cut);
            tokenizer_destroy(&tokenizer);
        }
        file_write(folder, names[i], bytes, size);
        free(bytes);
    }
}

/* Any bit of the files flipped: an error or another vocabulary, and then texts still round trip. */
static void test_flipped_bytes(void **state)
{
    (void)state;
    put_case("vocab.json");
    put_case("merges.txt");
    char path[1024];
    snprintf(path, sizeof path, "%s/vocab.json", folder);
    static const char *const names[] = {"vocab.json", "merges.txt"};
    static const char text[] = "A small, red square's shadow!";
    int loads = 0;
    for (int i = 0; i < 2; i++) {
        size_t size;
        char *bytes = file_read(folder, names[i], &size);
        for (size_t at = 0; at < size; at += 5) {
            bytes[at] ^= (char)(1 << at % 8);
            file_write(folder, names[i], bytes, size);
            bytes[at] ^= (char)(1 << at % 8);
            struct loaded loaded = {0};
            if (tokenizer_load(path, NULL, &loaded.tokenizer) != STATUS_OK) continue;
            loads++;
            assert_ok(tokenizer_scratch_create(loaded.tokenizer, &loaded.scratch));
            encode_text(&loaded, text, NULL);
            struct strbuf decoded = {0};
            assert_ok(tokenizer_decode(loaded.tokenizer, loaded.encoding.ids, loaded.encoding.count,
                                       false, &decoded));
            assert_string_equal(decoded.text, text);
            strbuf_fini(&decoded);
            unload(&loaded);
        }
        file_write(folder, names[i], bytes, size);
        free(bytes);
    }
    assert_true(loads > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vocab_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_merges_txt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vocab_txt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tokenizer_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tokenizer_json_options, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flipped_bytes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
