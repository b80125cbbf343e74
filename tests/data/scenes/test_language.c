/* Sentences about scenes: true, well formed, varied. Phrases are read back by a small reader of its
 * own, which knows words and coordinates but nothing of how the sentences were made. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/scenes/language.h"
#include "data/scenes/words.h"
#include "runtime/base/rng.h"

enum { NUM_SCENES = 400 };

static struct scene make(uint64_t index, int difficulty)
{
    struct scene scene;
    assert_int_equal(scene_generate(3, index, difficulty, &scene), STATUS_OK);
    return scene;
}

/* ---- the reader ---------------------------------------------------------------------------------
 */

struct reading {
    int size, colour, shape, count; /* ANY: not said */
};

/* The row of a table whose word (of any synonym) begins `text`, the longest one; ANY for none. */
static int match_word(const char *text, const char *const *(*synonyms)(int), int rows,
                      size_t *length)
{
    int found = ANY;
    *length = 0;
    for (int row = 0; row < rows; row++) {
        const char *const *words = synonyms(row);
        for (int i = 0; i < WORD_SYNONYMS && words[i]; i++) {
            size_t n = strlen(words[i]);
            if (n > *length && strncmp(text, words[i], n) == 0 &&
                !isalpha((unsigned char)text[n])) {
                found = row;
                *length = n;
            }
        }
    }
    return found;
}

static const char *const *size_words(int row)
{
    return scene_size_words[row].word;
}

static const char *const *colour_words(int row)
{
    return scene_colour_words[row].name.word;
}

static const char *const *singular_words(int row)
{
    return row == SHAPE_COUNT ? scene_any_shape_words.singular : scene_shape_words[row].singular;
}

static const char *const *plural_words(int row)
{
    return row == SHAPE_COUNT ? scene_any_shape_words.plural : scene_shape_words[row].plural;
}

/* Reads "[a|the|two] [size] [colour] noun" and gives what follows it; fails on anything else. */
static const char *read_phrase(const char *text, struct reading *reading)
{
    static const char *const openings[] = {"a ", "an ", "the ", "another ", "A ", "An ", "The "};
    size_t n = 0;
    *reading = (struct reading){ANY, ANY, ANY, 1};
    for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++) {
        size_t length = strlen(openings[i]);
        if (strncmp(text, openings[i], length) == 0) {
            if (tolower((unsigned char)text[0]) == 'a' && length < 4) {
                assert_int_equal(length == 3, strchr("aeiou", text[length]) != NULL);
            }
            text += length;
            break;
        }
    }
    for (int i = 2; i <= SCENE_MAX_OBJECTS; i++) {
        n = strlen(scene_number_words[i]);
        if (strncasecmp(text, scene_number_words[i], n) == 0 && text[n] == ' ') {
            reading->count = i;
            text += n + 1;
        }
    }
    reading->size = match_word(text, size_words, SIZE_COUNT, &n);
    text += n ? n + 1 : 0;
    reading->colour = match_word(text, colour_words, COLOUR_COUNT, &n);
    text += n ? n + 1 : 0;
    reading->shape =
        match_word(text, reading->count == 1 ? singular_words : plural_words, SHAPE_COUNT + 1, &n);
    assert_true(n > 0);
    if (reading->shape == SHAPE_COUNT) reading->shape = ANY;
    return text + n;
}

static bool fits(const struct scene_object *o, const struct reading *r)
{
    return (r->size == ANY || r->size == o->size) && (r->colour == ANY || r->colour == o->colour) &&
           (r->shape == ANY || r->shape == o->shape);
}

/* ---- form ---------------------------------------------------------------------------------------
 */

static void check_form(const char *text, int length, char stop)
{
    assert_int_equal(strlen(text), length);
    assert_true(length > 3 && length < SENTENCE_SIZE - 64);
    if (stop) {
        assert_true(isupper((unsigned char)text[0]));
        assert_int_equal(text[length - 1], stop);
    } else {
        assert_true(islower((unsigned char)text[0]));
        assert_true(isalpha((unsigned char)text[length - 1]));
    }
    assert_null(strstr(text, "  "));
    assert_null(strstr(text, " ,"));
    assert_null(strstr(text, " ."));
    assert_null(strstr(text, "(null)"));
    for (const char *p = text; *p; p++) {
        assert_in_range(*p, 32, 126);
    }
    /* "a" before a vowel, "an" before a consonant, anywhere */
    for (const char *p = strstr(text, " a "); p; p = strstr(p + 1, " a ")) {
        assert_null(strchr("aeiou", p[3]));
    }
    for (const char *p = strstr(text, " an "); p; p = strstr(p + 1, " an ")) {
        assert_non_null(strchr("aeiou", p[4]));
    }
}

static void check_mention(const struct scene *scene, const struct sentence *s,
                          const struct mention *m)
{
    struct reading reading;
    assert_true(m->begin >= 0 && m->begin < m->end && m->end < s->length);
    const char *end = read_phrase(s->text + m->begin, &reading);
    assert_ptr_equal(end, s->text + m->end);
    assert_int_equal(reading.count, scene_mask_count(m->objects));
    for (int i = 0; i < scene->num_objects; i++) {
        if (m->objects & 1u << i) assert_true(fits(&scene->object[i], &reading));
        /* A plural names all that fit. */
        if (reading.count > 1 && !(m->objects & 1u << i)) {
            assert_false(fits(&scene->object[i], &reading));
        }
    }
}

static void test_captions(void **state)
{
    (void)state;
    for (int difficulty = 1; difficulty <= 4; difficulty++) {
        for (uint64_t index = 0; index < NUM_SCENES; index++) {
            struct scene scene = make(index, difficulty);
            for (int k = 0; k < 4; k++) {
                struct sentence s;
                scene_caption(&scene, k, &s);
                check_form(s.text, s.length, '.');
                assert_true(s.num_mentions >= 1 && s.num_mentions < SENTENCE_MENTIONS);
                assert_true(s.num_claims >= 1 && s.num_claims < SENTENCE_CLAIMS);
                for (int i = 0; i < s.num_mentions; i++) {
                    check_mention(&scene, &s, &s.mention[i]);
                }
                for (int i = 0; i < s.num_claims; i++) {
                    assert_int_equal(scene_judge(&scene, &s.claim[i]), TRUTH_YES);
                }
            }
        }
    }
}

static void test_sentences_stand_alone(void **state)
{
    (void)state;
    struct scene scene = make(9, 4);
    struct sentence first;
    struct sentence again;
    scene_caption(&scene, 3, &first);
    scene_caption(&scene, 0, &again);
    assert_string_not_equal(first.text, again.text);
    scene_caption(&scene, 3, &again);
    assert_string_equal(first.text, again.text);
}

/* The share of captions that name their scene at the first place among 500, if all is understood:
 * 1 / (number of scenes that the caption is not false of). */
static void test_captions_tell_scenes_apart(void **state)
{
    (void)state;
    enum { POOL = 500 };
    static struct scene scenes[POOL];
    for (int difficulty = 1; difficulty <= 4; difficulty++) {
        double recall = 0;
        for (int i = 0; i < POOL; i++) {
            scenes[i] = make(1000000 + (uint64_t)i, difficulty);
        }
        for (int i = 0; i < POOL; i++) {
            struct sentence s;
            scene_caption(&scenes[i], 0, &s);
            int candidates = 0;
            for (int j = 0; j < POOL; j++) {
                bool possible = true;
                for (int c = 0; c < s.num_claims && possible; c++) {
                    possible = scene_judge(&scenes[j], &s.claim[c]) != TRUTH_NO;
                }
                candidates += possible;
            }
            recall += 1.0 / candidates / POOL;
        }
        assert_true(recall > 0.9);
    }
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void test_captions_are_varied(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static char *texts[COUNT];
    for (int difficulty = 1; difficulty <= 4; difficulty++) {
        for (int i = 0; i < COUNT; i++) {
            struct scene scene = make((uint64_t)i, difficulty);
            struct sentence s;
            scene_caption(&scene, 0, &s);
            texts[i] = strdup(s.text);
        }
        qsort(texts, COUNT, sizeof *texts, compare_texts);
        int distinct = 1;
        for (int i = 1; i < COUNT; i++) {
            distinct += strcmp(texts[i], texts[i - 1]) != 0;
        }
        assert_true(distinct > COUNT * 95 / 100);
        for (int i = 0; i < COUNT; i++) {
            free(texts[i]);
        }
    }
}

static void test_statements(void **state)
{
    (void)state;
    for (int difficulty = 1; difficulty <= 4; difficulty++) {
        int num_true = 0;
        int kinds[2][PROP_NUM_KINDS] = {{0}};
        for (uint64_t index = 0; index < NUM_SCENES; index++) {
            struct scene scene = make(index, difficulty);
            for (int k = 0; k < 4; k++) {
                struct sentence s;
                bool truth;
                scene_statement(&scene, k, &s, &truth);
                check_form(s.text, s.length, '.');
                assert_int_equal(s.num_claims, 1);
                enum truth verdict = scene_judge(&scene, &s.claim[0]);
                assert_int_equal(verdict, truth ? TRUTH_YES : TRUTH_NO);
                num_true += truth;
                kinds[truth][s.claim[0].kind]++;
            }
        }
        assert_in_range(num_true, NUM_SCENES * 4 * 45 / 100, NUM_SCENES * 4 * 55 / 100);
        /* Both verdicts occur for each kind, so that the kind does not give the verdict away. */
        for (int kind = 0; kind < PROP_NUM_KINDS && difficulty > 2; kind++) {
            assert_true(kinds[0][kind] > 0 && kinds[1][kind] > 0);
        }
    }
}

/* "There is a small red circle." read back and looked for among the objects. */
static void test_plain_statements_read_back(void **state)
{
    (void)state;
    int seen = 0;
    for (uint64_t index = 0; index < 2 * NUM_SCENES; index++) {
        struct scene scene = make(index, 3);
        struct sentence s;
        bool truth;
        scene_statement(&scene, 0, &s, &truth);
        if (strncmp(s.text, "There is a", 10) != 0) continue;
        struct reading reading;
        const char *rest = read_phrase(s.text + 9, &reading);
        if (strcmp(rest, ".") != 0) continue;
        bool found = false;
        for (int i = 0; i < scene.num_objects; i++) {
            found |= fits(&scene.object[i], &reading);
        }
        assert_int_equal(found, truth);
        seen++;
    }
    assert_true(seen > 30);
}

static void test_questions(void **state)
{
    (void)state;
    int yes = 0;
    int no = 0;
    for (int difficulty = 1; difficulty <= 4; difficulty++) {
        for (uint64_t index = 0; index < NUM_SCENES; index++) {
            struct scene scene = make(index, difficulty);
            for (int k = 0; k < 4; k++) {
                struct sentence s;
                struct scene_answer answers[SCENE_MAX_ANSWERS];
                int count = 0;
                scene_question(&scene, k, &s, answers, &count);
                check_form(s.text, s.length, '?');
                assert_in_range(count, 1, SCENE_MAX_ANSWERS);
                assert_true(answers[0].score == 1);
                for (int i = 1; i < count; i++) {
                    assert_true(answers[i].score > 0 && answers[i].score < 1);
                    assert_string_not_equal(answers[i].text, answers[0].text);
                }
                yes += strcmp(answers[0].text, "yes") == 0;
                no += strcmp(answers[0].text, "no") == 0;
            }
        }
    }
    assert_true(abs(yes - no) < (yes + no) / 5);
}

/* "How many red stars are there?" counted again. */
static void test_count_questions_read_back(void **state)
{
    (void)state;
    int seen = 0;
    for (uint64_t index = 0; index < NUM_SCENES; index++) {
        struct scene scene = make(index, 4);
        for (int k = 0; k < 4; k++) {
            struct sentence s;
            struct scene_answer answers[SCENE_MAX_ANSWERS];
            int count = 0;
            scene_question(&scene, k, &s, answers, &count);
            if (strncmp(s.text, "How many ", 9) != 0) continue;
            char plural[3 * SENTENCE_SIZE]; /* a number makes the reader expect a plural */
            snprintf(plural, sizeof plural, "two %s", s.text + 9);
            struct reading reading;
            read_phrase(plural, &reading);
            int number = 0;
            for (int i = 0; i < scene.num_objects; i++) {
                number += fits(&scene.object[i], &reading);
            }
            assert_int_equal(atoi(answers[0].text), number);
            seen++;
        }
    }
    assert_true(seen > 100);
}

/* ---- referring expressions ----------------------------------------------------------------------
 */

/* Takes `word` from the front of *text when it is there. */
static bool take(const char **text, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(*text, word, n) != 0) return false;
    *text += n;
    return true;
}

/* The objects that fit the words, judged by bare coordinates: half planes for places and relations.
 */
static unsigned resolve(const struct scene *scene, const char *text)
{
    struct reading reading;
    int outermost = ANY;
    const char *p = text;
    assert_true(take(&p, "the "));
    static const char *const superlatives[4][3] = {{"leftmost ", "leftmost ", "leftmost "},
                                                   {"rightmost ", "rightmost ", "rightmost "},
                                                   {"topmost ", "uppermost ", "highest "},
                                                   {"lowest ", "bottommost ", "lowest "}};
    for (int d = 0; d < 4; d++) {
        for (int i = 0; i < 3; i++) {
            if (take(&p, superlatives[d][i])) outermost = d;
        }
    }
    p = read_phrase(p, &reading);
    bool relation = strstr(p, " of the ") || strstr(p, "above the ") || strstr(p, "below the ") ||
                    strstr(p, "beneath the ");
    relation = relation && !strstr(p, "of the picture");
    bool word[4] = {strstr(p, "left") != NULL, strstr(p, "right") != NULL,
                    strstr(p, "above") || strstr(p, "top") || strstr(p, "upper"),
                    strstr(p, "below") || strstr(p, "beneath") || strstr(p, "bottom") ||
                        strstr(p, "lower")};
    int mark_x = SCENE_UNIT / 2;
    int mark_y = SCENE_UNIT / 2;
    if (relation) {
        const char *mark = strrchr(p, 't');
        while (strncmp(mark, "the ", 4) != 0) {
            mark--;
        }
        unsigned marks = resolve(scene, mark);
        assert_int_equal(scene_mask_count(marks), 1);
        mark_x = scene->object[__builtin_ctz(marks)].x;
        mark_y = scene->object[__builtin_ctz(marks)].y;
    }
    unsigned found = 0;
    int best = -SCENE_UNIT;
    for (int i = 0; i < scene->num_objects; i++) {
        const struct scene_object *o = &scene->object[i];
        int reach[4] = {mark_x - o->x, o->x - mark_x, mark_y - o->y, o->y - mark_y};
        bool good = fits(o, &reading);
        for (int d = 0; d < 4; d++) {
            int least = relation ? SCENE_UNIT / 50 : SCENE_UNIT * 7 / 100;
            if (word[d] && reach[d] <= least) good = false;
        }
        if (!relation && (word[0] || word[1]) && !word[2] && !word[3]) {
            good = good && abs(o->y - mark_y) < SCENE_UNIT * 7 / 100;
        }
        if (!relation && (word[2] || word[3]) && !word[0] && !word[1]) {
            good = good && abs(o->x - mark_x) < SCENE_UNIT * 7 / 100;
        }
        if (strstr(p, "middle") || strstr(p, "centre")) {
            good = good && (abs(o->x - mark_x) < SCENE_UNIT * 7 / 100 || word[0] || word[1]) &&
                   (abs(o->y - mark_y) < SCENE_UNIT * 7 / 100 || word[2] || word[3]);
        }
        if (!good) continue;
        if (outermost == ANY) {
            found |= 1u << i;
        } else if (reach[outermost] > best) {
            best = reach[outermost];
            found = 1u << i;
        }
    }
    return found;
}

static void test_expressions(void **state)
{
    (void)state;
    for (int difficulty = 1; difficulty <= 4; difficulty++) {
        int missing = 0;
        unsigned different = 0;
        for (uint64_t index = 0; index < NUM_SCENES; index++) {
            struct scene scene = make(index, difficulty);
            for (int k = 0; k < 3; k++) {
                struct sentence s;
                int object = -1;
                if (!scene_expression(&scene, k, &s, &object)) {
                    missing++;
                    continue;
                }
                check_form(s.text, s.length, 0);
                assert_int_equal(s.num_mentions, 1);
                assert_int_equal(s.mention[0].end, s.length);
                unsigned meant = resolve(&scene, s.text);
                if (meant != 1u << object) print_error("scene %d: %s\n", (int)index, s.text);
                assert_int_equal(meant, 1u << object);
                different |= 1u << object;
            }
        }
        assert_in_range(missing, 0, 3);
        if (difficulty == 4) assert_int_equal(different, 0xff);
    }
}

/* ---- the contract -------------------------------------------------------------------------------
 */

/* Layouts and sentences are integers and ASCII: these sums hold on every machine. A change here
 * changes what everyone's generated data sets contain, so it is to be made knowingly. */
static void test_contents_are_fixed(void **state)
{
    (void)state;
    static const uint64_t expected[5] = {0, 0xc4eb5c2d6c343df5, 0x9816c926203a409a,
                                         0xf7e76fe5e7781ab7, 0xcdefa03a492c8322};
    for (int difficulty = 1; difficulty <= 4; difficulty++) {
        uint64_t sum = 0;
        for (uint64_t index = 0; index < 200; index++) {
            struct scene scene = make(index, difficulty);
            struct sentence s;
            bool truth;
            struct scene_answer answers[SCENE_MAX_ANSWERS];
            int count;
            scene_caption(&scene, 0, &s);
            sum = sum * 31 + rng_site(s.text);
            scene_statement(&scene, 0, &s, &truth);
            sum = sum * 31 + rng_site(s.text) + truth;
            scene_question(&scene, 0, &s, answers, &count);
            sum = sum * 31 + rng_site(s.text) + rng_site(answers[0].text);
            int object = 0;
            if (scene_expression(&scene, 0, &s, &object)) sum = sum * 31 + rng_site(s.text);
            for (int i = 0; i < scene.num_objects; i++) {
                sum = sum * 31 + (uint64_t)(scene.object[i].x * 4096 + scene.object[i].y);
            }
        }
        if (sum != expected[difficulty]) {
            print_error("difficulty %d: sum 0x%llx\n", difficulty, (unsigned long long)sum);
        }
        assert_true(sum == expected[difficulty]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_captions),
        cmocka_unit_test(test_sentences_stand_alone),
        cmocka_unit_test(test_captions_tell_scenes_apart),
        cmocka_unit_test(test_captions_are_varied),
        cmocka_unit_test(test_statements),
        cmocka_unit_test(test_plain_statements_read_back),
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_count_questions_read_back),
        cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_contents_are_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
