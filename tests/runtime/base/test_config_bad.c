/* Configs that must be refused, each with the message that a user gets. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/runtime/base/config_assert.h"

static void test_keys(void **state)
{
    (void)state;
    assert_refused("name: x\noptim:\n  lerning: 1\n",
                   "t.yaml:3:3: unknown key 'lerning' in 'optim'; valid keys: lr, warmup, betas, "
                   "ema, ema_decay");
    assert_refused("name: x\nprecison: f32\n",
                   "t.yaml:2:1: unknown key 'precison' at the top level; did you mean "
                   "'precision'?");
    assert_refused(
        "name: x\nzzzzzz: null\n",
        "t.yaml:2:1: unknown key 'zzzzzz' at the top level; valid keys: name, note, "
        "share, seed, precision, optim, depths, tags, multipliers, schedule, eval, data, "
        "suites");
    assert_refused("name: x\nname: y\n",
                   "t.yaml:2:1: key 'name' is given twice, first at t.yaml:1:1");
    assert_refused("optim: {lr: 1, ema: true, \"lr\": 1}\n",
                   "t.yaml:1:27: key 'lr' is given twice, first at t.yaml:1:9");
    assert_refused("share: true\n", "t.yaml:1:1: missing key 'name': text (Name of the run.)");
    assert_refused("name: x\ndata: [{type: synthetic}]\n",
                   "t.yaml:2:8: missing key 'data.0.samples': a whole number >= 1 and <= 1000000 "
                   "(samples) (How many are generated.)");
    assert_refused("? [a]\n: b\n", "t.yaml:1:3: a key must be plain text");
    assert_refused("? *a\n: b\n", "t.yaml:1:3: a key must be plain text");
    assert_refused("&a name: x\n", "t.yaml:1:1: a key must be plain text");
    assert_refused("!!str name: x\n", "t.yaml:1:1: a key must be plain text");
    assert_refused("'': x\n", "t.yaml:1:1: a key must be plain text");
    assert_refused("name: x\nan_extraordinarily_long_key_that_no_one_would_ever_write: 1\nb: 1\n",
                   "t.yaml:2:1: unknown key 'an_extraordinarily_long_key_that_no_one_'... at the "
                   "top level; valid keys: name, note, share, seed, precision, optim, depths, "
                   "tags, multipliers, schedule, eval, data, suites");
    assert_refused(
        "name: x\n\"a\\nb\": 1\n",
        "t.yaml:2:1: unknown key 'a\\x0Ab' at the top level; valid keys: name, note, "
        "share, seed, precision, optim, depths, tags, multipliers, schedule, eval, data, "
        "suites");
}

static void test_types(void **state)
{
    (void)state;
    assert_refused("name: [x]\n", "t.yaml:1:7: name: got a list; expected text");
    assert_refused("name: {x: 1}\n", "t.yaml:1:7: name: got a section; expected text");
    assert_refused("name:\n", "t.yaml:1:6: name: no value (null takes the default); expected text");
    assert_refused("name: x\nshare: yes\n", "t.yaml:2:8: share: got 'yes'; expected true or false");
    assert_refused("name: x\nshare: 'true'\n",
                   "t.yaml:2:8: share: got quoted text 'true'; expected true or false");
    assert_refused("name: x\nshare: True\n",
                   "t.yaml:2:8: share: got 'True'; expected true or false");
    assert_refused("name: x\nseed: many\n",
                   "t.yaml:2:7: seed: 'many' is not a number; expected a whole number");
    assert_refused("name: x\nseed: \"3\"\n",
                   "t.yaml:2:7: seed: got quoted text '3'; expected a whole number");
    assert_refused("name: x\nseed: 1.5\n",
                   "t.yaml:2:7: seed: '1.5' is not a whole number; expected a whole number");
    assert_refused("name: x\noptim: 3\n", "t.yaml:2:8: optim: got '3'; expected a section");
    assert_refused("name: x\noptim: []\n", "t.yaml:2:8: optim: got a list; expected a section");
    assert_refused("name: x\noptim:\n",
                   "t.yaml:2:7: optim: no value (null takes the default); expected a section");
    assert_refused("name: x\nprecision: f23\n",
                   "t.yaml:2:12: precision: got 'f23', did you mean 'f32'?; expected one of f32, "
                   "bf16");
    assert_refused("name: x\nprecision: double\n",
                   "t.yaml:2:12: precision: got 'double'; expected one of f32, bf16");
    assert_refused("name: x\nprecision: [f32]\n",
                   "t.yaml:2:12: precision: got a list; expected one of f32, bf16");
    assert_refused("name: x\ntags: one\n",
                   "t.yaml:2:7: tags: got 'one'; expected a list, each text");
    assert_refused("name: x\ntags: [one, [two]]\n",
                   "t.yaml:2:13: tags.1: got a list; expected text");
    assert_refused("name: x\ntags: [one, null]\n", "t.yaml:2:13: tags.1: got null; expected text");
    assert_refused("name: x\nmultipliers: [1]\n",
                   "t.yaml:2:14: multipliers: got a list; expected a section of free keys, each a "
                   "number >= 0");
    assert_refused("name: x\nmultipliers: {a: b}\n",
                   "t.yaml:2:18: multipliers.a: 'b' is not a number; expected a number >= 0");
    assert_refused("name: x\neval: 3\n", "t.yaml:2:7: eval: got '3'; expected a section");
    assert_refused("name: x\nsuites: {a: 3}\n",
                   "t.yaml:2:13: suites.a: got '3'; expected a section");
}

static void test_choices(void **state)
{
    (void)state;
    assert_refused("name: x\nschedule: cosine\n",
                   "t.yaml:2:11: schedule: got 'cosine'; expected a section with 'type' one of "
                   "cosine, constant");
    assert_refused("name: x\nschedule: {}\n",
                   "t.yaml:2:11: schedule: has no 'type'; expected a section with 'type' one of "
                   "cosine, constant");
    assert_refused("name: x\nschedule: {type: null}\n",
                   "t.yaml:2:11: schedule: has no 'type'; expected a section with 'type' one of "
                   "cosine, constant");
    assert_refused("name: x\nschedule: {type: [cosine]}\n",
                   "t.yaml:2:18: schedule: got a list; expected a section with 'type' one of "
                   "cosine, constant");
    assert_refused(
        "name: x\nschedule: {type: cosin}\n",
        "t.yaml:2:18: schedule: unknown type 'cosin', did you mean 'cosine'?; expected a "
        "section with 'type' one of cosine, constant");
    assert_refused("name: x\nschedule: {type: polynomial}\n",
                   "t.yaml:2:18: schedule: unknown type 'polynomial'; expected a section with "
                   "'type' one of cosine, constant");
    assert_refused("name: x\nschedule: {type: constant, floor: 0}\n",
                   "t.yaml:2:28: unknown key 'floor' in 'schedule' (type: constant); valid keys: "
                   "type, warmup");
    assert_refused("name: x\ndata: [3]\n",
                   "t.yaml:2:8: data.0: got '3'; expected a section with 'type' one of coco, "
                   "synthetic");
}

static void test_ranges_and_lengths(void **state)
{
    (void)state;
    assert_refused("name: x\noptim: {lr: 0}\n",
                   "t.yaml:2:13: optim.lr: '0' is out of range; expected a number > 0 and <= 1");
    assert_refused("name: x\noptim: {lr: 1.0000000000000002}\n",
                   "t.yaml:2:13: optim.lr: '1.0000000000000002' is out of range; expected a number "
                   "> 0 and <= 1");
    assert_refused("name: x\noptim: {lr: .inf}\n",
                   "t.yaml:2:13: optim.lr: '.inf' is not finite; expected a number > 0 and <= 1");
    assert_refused("name: x\noptim: {lr: NaN}\n",
                   "t.yaml:2:13: optim.lr: 'NaN' is not finite; expected a number > 0 and <= 1");
    assert_refused("name: x\noptim: {lr: 1e-400}\n",
                   "t.yaml:2:13: optim.lr: '1e-400' is too small for a double; expected a number > "
                   "0 and <= 1");
    assert_refused("name: x\noptim: {lr: 1e400}\n",
                   "t.yaml:2:13: optim.lr: '1e400' is too large for a double; expected a number > "
                   "0 and <= 1");
    assert_refused("name: x\noptim: {warmup: 1_000_001}\n",
                   "t.yaml:2:17: optim.warmup: '1_000_001' is out of range; expected a whole "
                   "number >= 0 and <= 1000000 (steps)");
    assert_refused("name: x\nseed: 9223372036854775808\n",
                   "t.yaml:2:7: seed: '9223372036854775808' is too large for a 64-bit integer; "
                   "expected a whole number");
    assert_refused("name: x\ndepths: [2, 2, 101, 2]\n",
                   "t.yaml:2:16: depths.2: '101' is out of range; expected a whole number >= 1 and "
                   "<= 100 (blocks)");
    assert_refused("name: x\ndepths: [2, 2, 18]\n",
                   "t.yaml:2:9: depths: got 3; expected a list of length 4, each a whole number >= "
                   "1 and <= 100 (blocks)");
    assert_refused("name: x\nsuites: {a: {}, b: {}, c: {}, d: {}}\n",
                   "t.yaml:2:9: suites: got 4; expected a section of free keys, count >= 0 and <= "
                   "3, each a section");
}

static void test_agreement(void **state)
{
    (void)state;
    assert_refused("name: x\noptim: {ema_decay: 0.5}\n",
                   "t.yaml:2:20: optim.ema_decay: has no effect here; it is used only if ema (null "
                   "takes it back)");
    assert_refused("name: x\noptim: {ema_decay: 0.5, ema: false}\n",
                   "t.yaml:2:20: optim.ema_decay: has no effect here; it is used only if ema (null "
                   "takes it back)");
    assert_refused("name: x\noptim: {warmup: 13}\n",
                   "t.yaml:2:17: optim.warmup: 13 steps bring bad luck");
    assert_refused("name: x\noptim: {warmup: 666}\n", "t.yaml:2:8: optim: not like that");
}

static void test_yaml(void **state)
{
    (void)state;
    assert_refused("", "t.yaml: the file is empty");
    assert_refused("# nothing\n\n", "t.yaml: no settings here; write {} to take every default");
    assert_refused("- name\n", "t.yaml:1:1: a config is a section of 'key: value' lines");
    assert_refused("name\n", "t.yaml:1:1: a config is a section of 'key: value' lines");
    assert_refused("null\n", "t.yaml:1:1: a config is a section of 'key: value' lines");
    assert_refused("name: x\n---\nname: y\n",
                   "t.yaml:2:1: a second document begins; a config is one document");
    assert_refused("name: x\n...\nname: y\n",
                   "t.yaml:3:1: not valid YAML: did not find expected <document start>");
    assert_refused("name: !!str x\n",
                   "t.yaml:1:7: tags ('!...') are not part of the config language");
    assert_refused("tags: !<x> [a]\n",
                   "t.yaml:1:7: tags ('!...') are not part of the config language");
    assert_refused("name: x\n\toptim: {}\n", "t.yaml:2:1: tab in the indentation; use spaces");
    assert_refused("optim:\r\n  \tlr: 1\r\n", "t.yaml:2:3: tab in the indentation; use spaces");
    assert_refused("name: x\n  note: y\n",
                   "t.yaml:2:7: not valid YAML: mapping values are not allowed in this context");
    assert_refused("tags: [a, b\nname: x\n",
                   "t.yaml:2:5: not valid YAML: did not find expected ',' or ']', while parsing a "
                   "flow sequence that began in line 1");
    assert_refused("name: \"x\n", "t.yaml:2:1: not valid YAML: found unexpected end of stream, "
                                  "while scanning a quoted scalar that began in line 1");
    assert_refused("name: \"a\\0b\"\n", "t.yaml:1:7: a value must not contain \\0");
    assert_refused("name: @x\n", "t.yaml:1:7: not valid YAML: found character that cannot start "
                                 "any token, while scanning for the next token that began in line "
                                 "1");
}

static void refuse_bytes(const char *bytes, size_t size, const char *message)
{
    struct recipe recipe;
    struct config *config = NULL;
    assert_int_equal(
        config_read_text(&recipe_table, "t.yaml", bytes, size, NULL, 0, &recipe, &config),
        STATUS_INVALID);
    assert_string_equal(status_message(), message);
    assert_null(config);
}

static void test_bytes(void **state)
{
    (void)state;
    refuse_bytes("name: \0x\n", 9, "t.yaml:1:7: not a text file (it contains zero bytes)");
    refuse_bytes("\0\0\0\0", 4, "t.yaml:1:1: not a text file (it contains zero bytes)");
    refuse_bytes("\xFF\xFEn\0a\0", 6, "t.yaml:1:1: not UTF-8 text (byte 0xFF)");
    refuse_bytes("\x89HDF\r\n\x1a\n", 8, "t.yaml:1:1: not UTF-8 text (byte 0x89)");
    refuse_bytes("\x7F"
                 "ELF\2\1",
                 6, "t.yaml:1:1: control character U+007F");
    static const char *const not_utf8[] = {
        "\x80",         "\xC0\x80",         "\xC1\xBF",         "\xC3",
        "\xC3\x28",     "\xE0\x80\x80",     "\xE2\x82",         "\xED\xA0\x80",
        "\xF0\x9F\x98", "\xF0\x80\x80\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
    };
    for (size_t i = 0; i < sizeof not_utf8 / sizeof not_utf8[0]; i++) {
        char text[32];
        char message[64];
        int size = snprintf(text, sizeof text, "a: \xC3\xA9%s", not_utf8[i]);
        snprintf(message, sizeof message, "t.yaml:1:5: not UTF-8 text (byte 0x%02X)",
                 (unsigned char)not_utf8[i][0]);
        refuse_bytes(text, (size_t)size, message);
    }
    assert_refused("name: x\r\nnote: a\x1B[0m\r", "t.yaml:2:8: control character U+001B");
    assert_refused("name: x\rnote: a\xC2\x9B\r", "t.yaml:2:8: control character U+009B");
    assert_refused("name: \xEF\xBF\xBF\n", "t.yaml:1:7: control character U+FFFF");
    /* A byte order mark in front is allowed, as are all planes of Unicode. */
    struct recipe recipe;
    struct config *config = read_text("\xEF\xBB\xBFname: \xF0\x9F\x98\x80\n", &recipe);
    assert_string_equal(recipe.name, "\xF0\x9F\x98\x80");
    config_destroy(&config);
}

static void test_nesting(void **state)
{
    (void)state;
    enum { SIZE = 200000 };
    char *text = malloc(SIZE + 1);
    assert_non_null(text);
    text[SIZE] = '\0';
    memset(text, '[', SIZE);
    assert_refused(text, "t.yaml:1:65: nested more than 64 levels deep");
    memset(text, '{', SIZE);
    assert_refused(text, "t.yaml:1:2: a key must be plain text");
    for (int i = 0; i < SIZE; i += 2) {
        memcpy(text + i, "- ", 2);
    }
    assert_refused(text, "t.yaml:1:129: nested more than 64 levels deep");
    for (int i = 0; i < SIZE; i += 4) {
        memcpy(text + i, "{a: ", 4);
    }
    assert_refused(text, "t.yaml:1:257: nested more than 64 levels deep");
    free(text);
    /* Anchors that nest each other are as deep as what they stand for. */
    assert_refused("a: &a [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n"
                   "b: &b [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[*a]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
                   "t.yaml:2:4: nested more than 64 levels deep");
}

static void test_cycles_and_bombs(void **state)
{
    (void)state;
    assert_refused("tags: &a [x, *a]\n", "t.yaml:1:14: alias 'a' stands inside its own anchor");
    assert_refused("optim: &a {lr: 1, ema: {x: *a}}\n",
                   "t.yaml:1:28: alias 'a' stands inside its own anchor");
    assert_refused("optim: &a\n  <<: *a\n", "t.yaml:2:7: alias 'a' stands inside its own anchor");
    struct strbuf bomb = {0};
    strbuf_append(&bomb, "a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 10; i++) {
        strbuf_printf(&bomb, "a%d: &a%d [", i, i);
        for (int j = 0; j < 9; j++) {
            strbuf_printf(&bomb, "%s*a%d", j ? ", " : "", i - 1);
        }
        strbuf_append(&bomb, "]\n");
    }
    assert_refused(bomb.text, "t.yaml:6:15: more than 200000 values, counting what aliases repeat");
    strbuf_clear(&bomb);
    for (int i = 0; i < 1001; i++) {
        strbuf_printf(&bomb, "%s&a%d x", i ? ", " : "tags: [", i);
    }
    strbuf_append(&bomb, "]\n");
    assert_refused(bomb.text, "t.yaml:1:8898: more than 1000 anchors");
    strbuf_clear(&bomb);
    for (int i = 0; i < 1001; i++) {
        strbuf_printf(&bomb, "k%d: 1\n", i);
    }
    assert_refused(bomb.text, "t.yaml:1001:1: more than 1000 keys in one section");
    strbuf_clear(&bomb);
    strbuf_append(&bomb, "tags: [x");
    for (int i = 0; i < 200000; i++) {
        strbuf_append(&bomb, ",x");
    }
    assert_refused(bomb.text, "t.yaml:1:400004: more than 200000 values");
    strbuf_fini(&bomb);
}

/* Sixteen MiB of the worst: each must be refused within seconds. */
static void test_large_text(void **state)
{
    (void)state;
    static const struct {
        const char *unit;
        const char *message;
    } rows[] = {
        {"a", "t.yaml:1:1: a config is a section of 'key: value' lines"},
        {"#", "t.yaml: no settings here; write {} to take every default"},
        {"\n", "t.yaml: no settings here; write {} to take every default"},
        {"? ", "t.yaml:1:3: a key must be plain text"},
        {"[],", "t.yaml:1:3: not valid YAML: did not find expected <document start>"},
        {"[a,", "t.yaml:1:191: nested more than 64 levels deep"},
    };
    enum { SIZE = 16 << 20 };
    char *text = malloc(SIZE + 1);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t length = strlen(rows[i].unit);
        for (size_t at = 0; at < SIZE; at++) {
            text[at] = rows[i].unit[at % length];
        }
        struct timespec begin;
        struct timespec end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        refuse_bytes(text, SIZE, rows[i].message);
        clock_gettime(CLOCK_MONOTONIC, &end);
        assert_true(end.tv_sec - begin.tv_sec < 20);
    }
    refuse_bytes(text, SIZE + 1, "t.yaml: larger than 16 MiB; is this a config?");
    free(text);
}

static void test_files(void **state)
{
    (void)state;
    struct folder folder = folder_create();
    assert_file_refused(&folder, "none.yaml", STATUS_NOT_FOUND,
                        "@/none.yaml: cannot open: No such file or directory");
    assert_file_refused(&folder, "", STATUS_INVALID, "@/: is a directory, not a config file");
    const char *path = folder_write(&folder, "large.yaml", "");
    assert_file_refused(&folder, "large.yaml", STATUS_INVALID, "@/large.yaml: the file is empty");
    assert_int_equal(truncate(path, 100 << 20), 0);
    assert_file_refused(&folder, "large.yaml", STATUS_INVALID,
                        "@/large.yaml: 100 MiB; a config may have at most 16 MiB");
    folder_write(&folder, "bad.yaml", "name: x\nseed: -x\n");
    assert_file_refused(&folder, "bad.yaml", STATUS_INVALID,
                        "@/bad.yaml:2:7: seed: '-x' is not a number; expected a whole number");
    folder_remove(&folder);
    struct recipe recipe;
    struct config *config = NULL;
    assert_int_equal(config_read(&recipe_table, "/dev/zero", NULL, 0, &recipe, &config),
                     STATUS_INVALID);
    assert_string_equal(status_message(), "/dev/zero: larger than 16 MiB; is this a config?");
    assert_null(config);
}

/* Root reads every file whatever its mode, so root's test does this as nobody. */
static void test_unreadable_file(void **state)
{
    (void)state;
    enum { NOBODY = 65534 };
    struct folder folder = folder_create();
    const char *path = folder_write(&folder, "secret.yaml", "name: x\n");
    char message[160];
    snprintf(message, sizeof message, "%s: cannot open: Permission denied", path);
    assert_int_equal(chmod(folder.path, 0755), 0);
    assert_int_equal(chmod(path, 0), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct recipe recipe;
        struct config *config = NULL;
        if (geteuid() == 0 && setuid(NOBODY) != 0) _exit(1);
        if (config_read(&recipe_table, path, NULL, 0, &recipe, &config) != STATUS_IO) _exit(2);
        _exit(strcmp(status_message(), message) == 0 ? 0 : 3);
    }
    int result = -1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_ranges_and_lengths),
        cmocka_unit_test(test_agreement),
        cmocka_unit_test(test_yaml),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_cycles_and_bombs),
        cmocka_unit_test(test_large_text),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_unreadable_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
