/* Bases, overrides, anchors and merge keys: which value wins, and who is named when it is wrong. */
#include <sys/stat.h>

#include "tests/runtime/base/config_assert.h"

static void test_aliases_and_merge_keys(void **state)
{
    (void)state;
    struct recipe recipe;
    struct config *config = read_text("name: &n run\n"
                                      "note: *n\n"
                                      "data:\n"
                                      "  - &a {type: coco, path: a, weight: 2}\n"
                                      "  - &b {type: coco, path: b, captions: c}\n"
                                      "  - <<: *a\n"
                                      "    path: own\n"
                                      "  - {path: own, <<: [*a, *b]}\n"
                                      "  - <<: {type: synthetic}\n"
                                      "    samples: 5\n",
                                      &recipe);
    assert_string_equal(recipe.note, "run");
    assert_int_equal(recipe.data.count, 5);
    const struct coco *single = recipe.data.items[2].value;
    assert_string_equal(single->path, "own");
    assert_true(single->common.weight == 2);
    assert_null(single->captions);
    const struct coco *both = recipe.data.items[3].value;
    assert_string_equal(both->path, "own");
    assert_true(both->common.weight == 2);
    assert_string_equal(both->captions, "c");
    const struct synthetic *inlined = recipe.data.items[4].value;
    assert_int_equal(inlined->samples, 5);
    config_destroy(&config);

    assert_refused("name: x\noptim: {<<: 3}\n",
                   "t.yaml:2:9: '<<' needs an alias of a section, or a list of them");
    assert_refused("name: x\noptim: {<<: [{lr: 1}, 3]}\n",
                   "t.yaml:2:9: '<<' needs an alias of a section, or a list of them");
    assert_refused("name: x\noptim: {<<: {lr: 1}, <<: {ema: true}}\n",
                   "t.yaml:2:22: '<<' is given twice; write '<<: [*a, *b]'");
    assert_refused("name: x\noptim: {'<<': {lr: 1}}\n",
                   "t.yaml:2:9: unknown key '<<' in 'optim'; did you mean 'lr'?");
    assert_refused("note: *n\nname: &n x\n", "t.yaml:1:7: no anchor 'n' before this alias");
    assert_refused("name: &n x\nnote: &n y\n",
                   "t.yaml:2:7: anchor 'n' is already defined at t.yaml:1:7");
    /* An error in a value that came through a merge names the line that wrote it. */
    assert_refused(
        "name: x\ndata:\n  - &a {type: coco, path: p, wight: 2}\n  - *a\n",
        "t.yaml:3:30: unknown key 'wight' in 'data.0' (type: coco); did you mean 'weight'?");
    assert_refused("name: x\neval: &e {every: 3}\nsuites: {a: *e, b: {<<: *e, every: 0}}\n",
                   "t.yaml:3:36: suites.b.every: '0' is out of range; expected a whole number >= 1 "
                   "(steps)");
}

static void test_bases(void **state)
{
    (void)state;
    struct folder folder = folder_create();
    char sub[128];
    snprintf(sub, sizeof sub, "%s/sub", folder.path);
    assert_int_equal(mkdir(sub, 0755), 0);
    folder_write(&folder, "root.yaml", "name: root\noptim: {lr: 0.1, warmup: 5}\ntags: [a, b]\n");
    folder_write(&folder, "side.yaml",
                 "optim: {lr: 0.2, ema: true}\nschedule: {type: cosine, "
                 "floor: 0.5, period: 9}\nmultipliers: {a: 1, b: 2}\n");
    folder_write(&folder, "sub/mid.yaml", "base: ../root.yaml\nnote: mid\noptim: {warmup: 6}\n");
    const char *path = folder_write(&folder, "top.yaml",
                                    "base: [sub/mid.yaml, side.yaml]\n"
                                    "name: top\n"
                                    "optim: {ema_decay: 0.5}\n"
                                    "tags: [c]\n"
                                    "note: null\n"
                                    "schedule: {type: constant, floor: null, period: ~}\n"
                                    "multipliers: {b: 3, c: 4}\n");
    struct recipe recipe;
    struct config *config = NULL;
    assert_ok(config_read(&recipe_table, path, NULL, 0, &recipe, &config));
    assert_string_equal(recipe.name, "top");
    assert_null(recipe.note);
    assert_true(recipe.optim.lr == 0.2);
    assert_int_equal(recipe.optim.warmup, 6);
    assert_true(recipe.optim.ema);
    assert_true(recipe.optim.ema_decay == 0.5);
    assert_int_equal(recipe.tags.count, 1);
    assert_int_equal(recipe.schedule.index, 1);
    assert_int_equal(recipe.multipliers.count, 3);
    assert_true(recipe.multipliers.items[1] == 3);
    char place[160];
    snprintf(place, sizeof place, "%s/sub/../root.yaml:2:13", folder.path);
    snprintf(place, sizeof place, "%s/sub/mid.yaml:3:17", folder.path);
    assert_string_equal(config_where(config, "optim.warmup"), place);
    snprintf(place, sizeof place, "%s/side.yaml:1:13", folder.path);
    assert_string_equal(config_where(config, "optim.%s", "lr"), place);
    snprintf(place, sizeof place, "%s/top.yaml:3:8", folder.path);
    assert_string_equal(config_where(config, "optim.betas.0"), place);
    assert_string_equal(config_where(config, "seed"), path);
    config_destroy(&config);
    folder_remove(&folder);
}

static void test_errors_name_the_file_that_wrote_the_value(void **state)
{
    (void)state;
    struct folder folder = folder_create();
    folder_write(&folder, "b.yaml", "name: b\noptim:\n  lr: 2\n");
    folder_write(&folder, "a.yaml", "base: b.yaml\noptim: {warmup: 1}\n");
    assert_file_refused(&folder, "a.yaml", STATUS_INVALID,
                        "@/b.yaml:3:7: optim.lr: '2' is out of range; expected a number > 0 and "
                        "<= 1");
    folder_write(&folder, "b.yaml", "name: b\nschedule: {type: cosine, period: 3}\n");
    folder_write(&folder, "a.yaml", "base: b.yaml\nschedule: {type: constant}\n");
    assert_file_refused(
        &folder, "a.yaml", STATUS_INVALID,
        "@/b.yaml:2:26: unknown key 'period' in 'schedule' (type: constant); valid keys: type, "
        "warmup");
    folder_write(&folder, "b.yaml", "name: b\noptim: [\n");
    assert_file_refused(&folder, "a.yaml", STATUS_INVALID,
                        "@/b.yaml:3:1: not valid YAML: did not find expected node content, while "
                        "parsing a flow node that began in line 3");
    folder_remove(&folder);
}

static void test_bad_bases(void **state)
{
    (void)state;
    struct folder folder = folder_create();
    folder_write(&folder, "a.yaml", "name: a\nbase: none.yaml\n");
    assert_file_refused(&folder, "a.yaml", STATUS_NOT_FOUND,
                        "@/a.yaml:2:7: base: @/none.yaml: cannot open: No such file or directory");
    folder_write(&folder, "a.yaml", "base: .\n");
    assert_file_refused(&folder, "a.yaml", STATUS_INVALID,
                        "@/a.yaml:1:7: base: @/.: is a directory, not a config file");
    folder_write(&folder, "a.yaml", "base: {x: 1}\n");
    assert_file_refused(&folder, "a.yaml", STATUS_INVALID,
                        "@/a.yaml:1:7: base: expected the path of a file, or a list of paths");
    folder_write(&folder, "a.yaml", "base: [b.yaml, ~]\n");
    folder_write(&folder, "b.yaml", "name: b\n");
    assert_file_refused(&folder, "a.yaml", STATUS_INVALID,
                        "@/a.yaml:1:16: base: expected the path of a file, or a list of paths");
    folder_write(&folder, "a.yaml", "base: a.yaml\n");
    assert_file_refused(&folder, "a.yaml", STATUS_INVALID,
                        "@/a.yaml:1:7: base: the files include each other: @/a.yaml -> @/a.yaml");
    folder_write(&folder, "a.yaml", "base: b.yaml\n");
    folder_write(&folder, "b.yaml", "base: ./c.yaml\n");
    folder_write(&folder, "c.yaml", "base: b.yaml\n");
    assert_file_refused(
        &folder, "a.yaml", STATUS_INVALID,
        "@/./c.yaml:1:7: base: the files include each other: @/b.yaml -> @/./c.yaml -> @/./b.yaml");
    folder_remove(&folder);
    assert_refused("name: x\nbase: y.yaml\n", "t.yaml:2:1: 'base' can only be written in a file");
}

static void test_many_bases(void **state)
{
    (void)state;
    struct folder folder = folder_create();
    char name[32];
    char text[64];
    /* A chain one longer than allowed, then a tree that doubles at every level. */
    for (int i = 0; i < 18; i++) {
        snprintf(name, sizeof name, "c%d.yaml", i);
        snprintf(text, sizeof text, "base: c%d.yaml\n", i + 1);
        folder_write(&folder, name, text);
    }
    assert_file_refused(&folder, "c0.yaml", STATUS_INVALID,
                        "@/c16.yaml:1:7: base: more than 16 bases one below the other");
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "d%d.yaml", i);
        snprintf(text, sizeof text, "base: [d%d.yaml, d%d.yaml]\n", i + 1, i + 1);
        folder_write(&folder, name, text);
    }
    folder_write(&folder, "d10.yaml", "name: x\n");
    assert_file_refused(&folder, "d0.yaml", STATUS_INVALID,
                        "@/d9.yaml:1:18: base: @/d10.yaml: more than 64 files are read through "
                        "'base'");
    folder_remove(&folder);
}

static const char text_for_overrides[] = "name: x\n"
                                         "tags: [a, b]\n"
                                         "data:\n"
                                         "  - {type: coco, path: a}\n"
                                         "  - {type: synthetic, samples: 2}\n"
                                         "multipliers: {image.*: 1}\n";

static void test_overrides(void **state)
{
    (void)state;
    static const char *const overrides[] = {
        "optim.lr=0.5",
        "tags.1=z",
        "data.0.path=b=c",
        "data.1={samples: 3}",
        "multipliers.\"image.*\"=0.25",
        "multipliers.'x=y'=2",
        "optim.betas=[0.1, 0.2]",
        "optim.betas.1=0.3",
        "name=\"\"",
        "schedule.type=cosine",
        "schedule.period=1e2",
        "note=first",
        "note=null",
    };
    struct recipe recipe;
    struct config *config = NULL;
    assert_ok(config_read_text(&recipe_table, "t.yaml", text_for_overrides,
                               sizeof text_for_overrides - 1, overrides,
                               sizeof overrides / sizeof overrides[0], &recipe, &config));
    assert_true(recipe.optim.lr == 0.5);
    assert_int_equal(recipe.tags.count, 2);
    assert_string_equal(recipe.tags.items[1], "z");
    assert_string_equal(((const struct coco *)recipe.data.items[0].value)->path, "b=c");
    assert_int_equal(((const struct synthetic *)recipe.data.items[1].value)->samples, 3);
    assert_int_equal(recipe.multipliers.count, 2);
    assert_true(recipe.multipliers.items[0] == 0.25);
    assert_string_equal(recipe.multipliers.keys[1], "x=y");
    assert_true(recipe.optim.betas.items[1] == 0.3);
    assert_string_equal(recipe.name, "");
    assert_int_equal(((const struct cosine *)recipe.schedule.value)->period, 100);
    assert_null(recipe.note);
    assert_string_equal(config_where(config, "data.%d.path", 0), "--set data.0.path=b=c");
    assert_string_equal(config_where(config, "data.%d.path", 7), "t.yaml:4:3");
    config_destroy(&config);
}

static void test_bad_overrides(void **state)
{
    (void)state;
    static const char usage[] = ": expected key=value, such as optim.lr=1e-4 or data.0.path=x.h5";
    static const char *const no_key[] = {"",     "x",     "=3",     "a..b=3",  ".a=3",
                                         "a.=3", "\"a=3", "\"\"=3", "\"a\"b=3"};
    for (size_t i = 0; i < sizeof no_key / sizeof no_key[0]; i++) {
        char message[128];
        snprintf(message, sizeof message, "--set %s%s", no_key[i], usage);
        assert_refused_with("name: x\n", no_key[i], message);
    }
    static const struct {
        const char *override;
        const char *message;
    } rows[] = {
        {"optim.lrr=1", "--set optim.lrr=1: unknown key 'lrr' in 'optim'; did you mean 'lr'?"},
        {"optim.lr=2", "--set optim.lr=2: optim.lr: '2' is out of range; expected a number > 0 and "
                       "<= 1"},
        {"optim={lr: 3}", "--set optim={lr: 3}: optim.lr: '3' is out of range; expected a number > "
                          "0 and <= 1"},
        {"data.2.path=x", "--set data.2.path=x: '2' is not an index into a list of 2 elements, "
                          "counted from 0 (t.yaml:4:3)"},
        {"data.-1.path=x", "--set data.-1.path=x: '-1' is not an index into a list of 2 elements, "
                           "counted from 0 (t.yaml:4:3)"},
        {"data.x=x", "--set data.x=x: 'x' is not an index into a list of 2 elements, counted from "
                     "0 (t.yaml:4:3)"},
        {"data.0.weight=heavy", "--set data.0.weight=heavy: data.0.weight: 'heavy' is not a number;"
                                " expected a number > 0"},
        {"data.0=null", "--set data.0=null: data.0: got null; expected a section with 'type' one "
                        "of coco, synthetic"},
        {"name.x=3", "--set name.x=3: 'name' is a value, not a section or list (t.yaml:1:7)"},
        {"optim.betas.0=1", "--set optim.betas.0=1: there is no list to take element '0' of; give "
                            "the whole list"},
        {"base=x.yaml", "--set base=x.yaml: 'base' can only be written in a file"},
        {"optim=", "--set optim=: no value"},
        {"optim= #", "--set optim= #: no settings here; write {} to take every default"},
        {"optim=[", "--set optim=[: not valid YAML: did not find expected node content, while "
                    "parsing a flow node"},
        {"optim.lr=\x01", "--set optim.lr=?: control character U+0001"},
        {"name=null", "t.yaml:1:1: missing key 'name': text (Name of the run.)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_refused_with(text_for_overrides, rows[i].override, rows[i].message);
    }
    char deep[200] = "";
    for (int i = 0; i < 33; i++) {
        strcat(deep, i ? ".k" : "k");
    }
    strcat(deep, "=1");
    char message[300];
    snprintf(message, sizeof message, "--set %s%s", deep, usage);
    assert_refused_with("name: x\n", deep, message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aliases_and_merge_keys),
        cmocka_unit_test(test_bases),
        cmocka_unit_test(test_errors_name_the_file_that_wrote_the_value),
        cmocka_unit_test(test_bad_bases),
        cmocka_unit_test(test_many_bases),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_bad_overrides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
