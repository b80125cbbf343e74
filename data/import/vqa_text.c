/*
 * What the VQA evaluation does to an answer, as functions of our own: the tables are facts of that
 * benchmark, and answers are only comparable when every oddity is kept.
 */
#include "data/import/vqa_text.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct word_pair {
    const char *from, *to;
};

/* Contractions that lack an apostrophe, by `from`. Words that are written right are left alone, and
 * so are "im" and "ive": the benchmark's own table has them with a capital only, which never occurs
 * after lower-casing. "somebody'd" is the benchmark's slip. */
static const struct word_pair contractions[] = {{"'ow'sat", "'ow's'at"},
                                                {"'ows'at", "'ow's'at"},
                                                {"aint", "ain't"},
                                                {"arent", "aren't"},
                                                {"cant", "can't"},
                                                {"couldn'tve", "couldn't've"},
                                                {"couldnt", "couldn't"},
                                                {"couldnt've", "couldn't've"},
                                                {"couldve", "could've"},
                                                {"didnt", "didn't"},
                                                {"doesnt", "doesn't"},
                                                {"dont", "don't"},
                                                {"hadn'tve", "hadn't've"},
                                                {"hadnt", "hadn't"},
                                                {"hadnt've", "hadn't've"},
                                                {"hasnt", "hasn't"},
                                                {"havent", "haven't"},
                                                {"he'dve", "he'd've"},
                                                {"hed", "he'd"},
                                                {"hed've", "he'd've"},
                                                {"hes", "he's"},
                                                {"howd", "how'd"},
                                                {"howll", "how'll"},
                                                {"hows", "how's"},
                                                {"isnt", "isn't"},
                                                {"it'dve", "it'd've"},
                                                {"itd", "it'd"},
                                                {"itd've", "it'd've"},
                                                {"itll", "it'll"},
                                                {"maam", "ma'am"},
                                                {"mightn'tve", "mightn't've"},
                                                {"mightnt", "mightn't"},
                                                {"mightnt've", "mightn't've"},
                                                {"mightve", "might've"},
                                                {"mustnt", "mustn't"},
                                                {"mustve", "must've"},
                                                {"neednt", "needn't"},
                                                {"notve", "not've"},
                                                {"oclock", "o'clock"},
                                                {"oughtnt", "oughtn't"},
                                                {"ow's'at", "'ow's'at"},
                                                {"shant", "shan't"},
                                                {"she'dve", "she'd've"},
                                                {"shed've", "she'd've"},
                                                {"shouldn'tve", "shouldn't've"},
                                                {"shouldnt", "shouldn't"},
                                                {"shouldnt've", "shouldn't've"},
                                                {"shouldve", "should've"},
                                                {"somebody'd", "somebodyd"},
                                                {"somebody'dve", "somebody'd've"},
                                                {"somebodyd've", "somebody'd've"},
                                                {"somebodyll", "somebody'll"},
                                                {"somebodys", "somebody's"},
                                                {"someone'dve", "someone'd've"},
                                                {"someoned", "someone'd"},
                                                {"someoned've", "someone'd've"},
                                                {"someonell", "someone'll"},
                                                {"someones", "someone's"},
                                                {"something'dve", "something'd've"},
                                                {"somethingd", "something'd"},
                                                {"somethingd've", "something'd've"},
                                                {"somethingll", "something'll"},
                                                {"thats", "that's"},
                                                {"there'dve", "there'd've"},
                                                {"thered", "there'd"},
                                                {"thered've", "there'd've"},
                                                {"therere", "there're"},
                                                {"theres", "there's"},
                                                {"they'dve", "they'd've"},
                                                {"theyd", "they'd"},
                                                {"theyd've", "they'd've"},
                                                {"theyll", "they'll"},
                                                {"theyre", "they're"},
                                                {"theyve", "they've"},
                                                {"twas", "'twas"},
                                                {"wasnt", "wasn't"},
                                                {"we'dve", "we'd've"},
                                                {"wed've", "we'd've"},
                                                {"werent", "weren't"},
                                                {"weve", "we've"},
                                                {"whatll", "what'll"},
                                                {"whatre", "what're"},
                                                {"whats", "what's"},
                                                {"whatve", "what've"},
                                                {"whens", "when's"},
                                                {"whered", "where'd"},
                                                {"wheres", "where's"},
                                                {"whereve", "where've"},
                                                {"who'dve", "who'd've"},
                                                {"whod", "who'd"},
                                                {"whod've", "who'd've"},
                                                {"wholl", "who'll"},
                                                {"whos", "who's"},
                                                {"whove", "who've"},
                                                {"whyll", "why'll"},
                                                {"whyre", "why're"},
                                                {"whys", "why's"},
                                                {"wont", "won't"},
                                                {"wouldn'tve", "wouldn't've"},
                                                {"wouldnt", "wouldn't"},
                                                {"wouldnt've", "wouldn't've"},
                                                {"wouldve", "would've"},
                                                {"y'all'dve", "y'all'd've"},
                                                {"y'alld've", "y'all'd've"},
                                                {"y'allll", "y'all'll"},
                                                {"yall", "y'all"},
                                                {"yall'd've", "y'all'd've"},
                                                {"yall'll", "y'all'll"},
                                                {"you'dve", "you'd've"},
                                                {"youd", "you'd"},
                                                {"youd've", "you'd've"},
                                                {"youll", "you'll"},
                                                {"youre", "you're"},
                                                {"youve", "you've"}};

static const struct word_pair numbers[] = {
    {"eight", "8"}, {"five", "5"}, {"four", "4"}, {"nine", "9"},  {"none", "0"}, {"one", "1"},
    {"seven", "7"}, {"six", "6"},  {"ten", "10"}, {"three", "3"}, {"two", "2"},  {"zero", "0"}};

static int compare_pairs(const void *a, const void *b)
{
    return strcmp(((const struct word_pair *)a)->from, ((const struct word_pair *)b)->from);
}

static const char *look_up(const char *word, const struct word_pair *table, size_t count)
{
    struct word_pair key = {word, NULL};
    const struct word_pair *found = bsearch(&key, table, count, sizeof key, compare_pairs);
    return found ? found->to : word;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool has_grouped_number(const char *text)
{
    for (const char *comma = strchr(text, ','); comma; comma = strchr(comma + 1, ',')) {
        if (comma > text && is_digit(comma[-1]) && is_digit(comma[1])) return true;
    }
    return false;
}

/* Whether `mark` stands beside a blank anywhere; then all of its kind vanish, else become blanks.
 */
static bool beside_blank(const char *text, char mark)
{
    for (const char *p = strchr(text, mark); p; p = strchr(p + 1, mark)) {
        if (p[1] == ' ' || (p > text && p[-1] == ' ')) return true;
    }
    return false;
}

/* Takes punctuation out of `text`, in place; `original` decides how. */
static void strip_punctuation(char *text, const char *original)
{
    static const char marks[] = ";/[]\"{}()=+\\_-><@`,?!";
    bool grouped = has_grouped_number(original);
    bool vanishes[sizeof marks];
    for (size_t i = 0; marks[i]; i++) {
        vanishes[i] = grouped || beside_blank(original, marks[i]);
    }
    char *out = text;
    for (const char *p = text; *p; p++) {
        const char *mark = strchr(marks, *p);
        if (!mark) {
            *out++ = *p;
        } else if (!vanishes[mark - marks]) {
            *out++ = ' ';
        }
    }
    *out = '\0';
    out = text; /* then the full stops, except before a digit */
    for (const char *p = text; *p; p++) {
        if (*p != '.' || is_digit(p[1])) *out++ = *p;
    }
    *out = '\0';
}

static void append_words(char *text, struct strbuf *out)
{
    size_t start = out->length;
    char *rest = NULL;
    for (char *p = text; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    for (char *word = strtok_r(text, " \t\n\v\f\r", &rest); word;
         word = strtok_r(NULL, " \t\n\v\f\r", &rest)) {
        const char *said = look_up(word, numbers, sizeof numbers / sizeof numbers[0]);
        if (strcmp(said, "a") == 0 || strcmp(said, "an") == 0 || strcmp(said, "the") == 0) continue;
        if (out->length > start) strbuf_append(out, " ");
        strbuf_append(out,
                      look_up(said, contractions, sizeof contractions / sizeof contractions[0]));
    }
}

void vqa_normalise(const char *text, int64_t length, struct strbuf *out)
{
    char *original = strndup(text, (size_t)length);
    char *copy = strndup(text, (size_t)length);
    strbuf_append_bytes(out, "", 0);
    if (original && copy) {
        strip_punctuation(copy, original);
        append_words(copy, out);
    } else {
        out->failed = true;
    }
    free(original);
    free(copy);
}

float vqa_score(int64_t count)
{
    static const float scores[] = {0.0f, 0.3f, 0.6f, 0.9f, 1.0f};
    return scores[count < 0 ? 0 : count > 4 ? 4 : count];
}
