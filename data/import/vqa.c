/*
 * vqa: VQAv2 questions and annotations. An item is a picture with its questions.
 *
 * Answers and scores are the reference's: the vocabulary is every answer that is the (normalised)
 * majority answer of at least --min-count questions, over all annotation files given, so train and
 * val are packed together to get its 3,129. A question's answers are those of the ten raw ones that
 * are in the vocabulary, scored by how many gave them. A question with none is left out; their
 * number is logged at the end.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/import/common.h"
#include "data/import/vqa_text.h"
#include "runtime/base/log.h"

enum { MAX_PATTERNS = 16, MAX_ANSWERS = 64 };

struct vqa {
    struct library library;
    struct folder folder;
    struct common_files files;
    const char *pattern[MAX_PATTERNS]; /* with one %d each */
    int num_patterns;
    int64_t min_count;
    bool annotated;                   /* there are annotations at all */
    struct int_list question_place;   /* of each question */
    struct int_list question_image;   /* its image id */
    struct grouping items;            /* questions by image */
    struct int_map annotation_place;  /* of a question id */
    struct int_map answer_count;      /* by the key of a normalised majority answer: its row */
    struct int_list answer_questions; /* questions of each such row */
    atomic_llong left_out;
};

static const struct import_option options[] = {
    IMPORT_OPTION_IMAGES,
    {"pattern", "COCO_train2014_%012d.jpg,COCO_val2014_%012d.jpg,COCO_test2015_%012d.jpg",
     "names of pictures by image id; of several the one that exists"},
    {"min-count", "9",
     "answers are kept that are the majority answer of so many questions; 0: all"},
    {NULL, NULL, NULL},
};

/* ---- opening ------------------------------------------------------------------------------------
 */

/* Accepts file names with exactly one %d or %0Nd. */
static bool is_pattern(const char *text)
{
    const char *percent = strchr(text, '%');
    if (!percent || strchr(percent + 1, '%')) return false;
    const char *p = percent + 1;
    while (*p >= '0' && *p <= '9') {
        p++;
    }
    return *p == 'd' && p - percent <= 4; /* up to 3 digits */
}

static enum status parse_patterns(struct vqa *vqa, const struct import_args *args)
{
    char *list = arena_strdup(&vqa->library.arena, import_value(args, "pattern"));
    CHECK(list, STATUS_NO_MEMORY, "no memory for a pattern");
    for (char *rest = list, *one = strsep(&rest, ","); one; one = strsep(&rest, ",")) {
        CHECK(is_pattern(one) && strlen(one) < 256 && vqa->num_patterns < MAX_PATTERNS,
              STATUS_INVALID, "--pattern '%s': a name with one %%d in it, such as %%012d.jpg", one);
        vqa->pattern[vqa->num_patterns++] = one;
    }
    return STATUS_OK;
}

static enum status scan_question(void *context, struct json_reader *reader, int64_t place)
{
    struct vqa *vqa = context;
    int64_t image = -1;
    struct common_field field = {.key = "image_id", .number = &image};
    TRY(common_scan_object(reader, &field, 1));
    if (image < 0) return json_fail(reader, "a question without \"image_id\"");
    TRY(int_list_add(&vqa->question_place, place));
    return int_list_add(&vqa->question_image, image);
}

/* Counts the question for its majority answer. */
static enum status count_answer(struct vqa *vqa, const char *text, int64_t length)
{
    struct strbuf normal = {0};
    int64_t row = 0;
    vqa_normalise(text, length, &normal);
    enum status status =
        normal.failed ? status_fail(STATUS_NO_MEMORY, "no memory for an answer") : STATUS_OK;
    if (status == STATUS_OK) {
        status = int_map_put(&vqa->answer_count, group_key(normal.text, (int64_t)normal.length),
                             vqa->answer_questions.count, &row);
    }
    strbuf_fini(&normal);
    TRY(status);
    if (row == vqa->answer_questions.count) TRY(int_list_add(&vqa->answer_questions, 0));
    vqa->answer_questions.value[row]++;
    return STATUS_OK;
}

static enum status scan_annotation(void *context, struct json_reader *reader, int64_t place)
{
    struct vqa *vqa = context;
    const char *key = NULL;
    int64_t question = -1;
    int64_t known = 0;
    TRY(json_begin(reader, JSON_OBJECT));
    for (;;) {
        TRY(json_next_key(reader, &key));
        if (!key) break;
        if (strcmp(key, "question_id") == 0) {
            TRY(json_int(reader, &question));
        } else if (strcmp(key, "multiple_choice_answer") == 0) {
            const char *text = NULL;
            int64_t length = 0;
            TRY(json_string(reader, &text, &length));
            TRY(count_answer(vqa, text, length));
        } else {
            TRY(json_skip(reader));
        }
    }
    if (question < 0) return json_fail(reader, "an annotation without \"question_id\"");
    TRY(int_map_put(&vqa->annotation_place, (uint64_t)question, place, &known));
    if (known != place) {
        return json_fail(reader, "a second annotation of question %lld", (long long)question);
    }
    return STATUS_OK;
}

static enum status open_set(struct vqa *vqa, const struct import_args *args,
                            struct import_source *source)
{
    static const struct common_array arrays[] = {
        {"questions", scan_question}, {"annotations", scan_annotation}, {NULL, NULL}};
    TRY(parse_patterns(vqa, args));
    TRY(import_value_int(args, "min-count", 0, INT32_MAX, &vqa->min_count));
    TRY(common_images(&vqa->library, args, &vqa->folder));
    for (int i = 0; i < args->num_sources; i++) {
        unsigned found = 0;
        TRY(common_scan(&vqa->library, &vqa->files, args->sources[i], arrays, vqa, &found));
        CHECK(found == 1 || found == 2, STATUS_INVALID,
              "%s: neither \"questions\" nor \"annotations\"; is it a VQAv2 file?",
              args->sources[i]);
        vqa->annotated = vqa->annotated || found == 2;
    }
    CHECK(vqa->question_place.count > 0, STATUS_INVALID,
          "%s: no questions; give the questions file, and its annotations file if there is one",
          args->sources[0]);
    TRY(group_rows((const uint64_t *)vqa->question_image.value, vqa->question_image.count,
                   &vqa->items));
    source->num_items = vqa->items.num_groups;
    source->fingerprint = import_hash(0, &vqa->min_count, sizeof vqa->min_count);
    return common_hash_files(&vqa->files, &source->fingerprint);
}

static void vqa_close(struct import_source *source)
{
    struct vqa *vqa = source->state;
    if (!vqa) return;
    long long left_out = atomic_load(&vqa->left_out);
    if (left_out > 0) {
        log_info("vqa: questions left out: %lld, because none of their answers is the majority "
                 "answer of %lld questions (--min-count)",
                 left_out, (long long)vqa->min_count);
    }
    free(vqa->question_place.value);
    free(vqa->question_image.value);
    free(vqa->answer_questions.value);
    group_fini(&vqa->items);
    int_map_fini(&vqa->annotation_place);
    int_map_fini(&vqa->answer_count);
    library_fini(&vqa->library);
    free(vqa);
    source->state = NULL;
}

static enum status vqa_open(struct import_source *source, const struct import_args *args)
{
    struct vqa *vqa = calloc(1, sizeof *vqa);
    CHECK(vqa, STATUS_NO_MEMORY, "no memory for a data set");
    source->state = vqa;
    enum status status = open_set(vqa, args, source);
    if (status != STATUS_OK) vqa_close(source);
    return status;
}

/* ---- one picture --------------------------------------------------------------------------------
 */

struct tally {
    const char *text;
    int64_t length;
    int64_t count;
};

/* The raw answers of a question, each once with its count, in the order in which they come. */
static enum status tally_answers(const struct json_value *annotation, struct tally *tallies,
                                 int *num_tallies)
{
    const struct json_value *answers = NULL;
    *num_tallies = 0;
    TRY(json_get_array(annotation, "answers", &answers));
    CHECK(answers->count <= MAX_ANSWERS, STATUS_INVALID, "%lld answers to one question",
          (long long)answers->count);
    for (const struct json_value *v = answers->child; v; v = v->next) {
        const struct json_value *answer = NULL;
        TRY(json_get_string(v, "answer", &answer));
        int i = 0;
        while (i < *num_tallies &&
               (tallies[i].length != answer->length ||
                memcmp(tallies[i].text, answer->text, (size_t)answer->length) != 0)) {
            i++;
        }
        if (i == *num_tallies) {
            tallies[(*num_tallies)++] = (struct tally){answer->text, answer->length, 0};
        }
        tallies[i].count++;
    }
    return STATUS_OK;
}

static bool in_vocabulary(const struct vqa *vqa, const struct tally *tally)
{
    if (vqa->min_count == 0) return tally->length > 0;
    int64_t row = int_map_get(&vqa->answer_count, group_key(tally->text, tally->length));
    return row >= 0 && vqa->answer_questions.value[row] >= vqa->min_count;
}

static enum status add_question(struct vqa *vqa, int64_t row, struct sample *sample)
{
    struct json_value *question = NULL;
    struct json_value *annotation = NULL;
    const struct json_value *text = NULL;
    const char *key = NULL;
    struct tally tallies[MAX_ANSWERS];
    int num_tallies = 0;
    int64_t id = 0;
    int32_t index = 0;
    int64_t place = vqa->question_place.value[row];
    TRY(common_read(&vqa->files, place, &sample->arena, &question));
    TRY(json_get_string(question, "question", &text));
    TRY(json_get_int(question, "question_id", &id));
    TRY(json_get_id(question, "question_id", &sample->arena, &key));
    int64_t annotated = int_map_get(&vqa->annotation_place, (uint64_t)id);
    CHECK(annotated >= 0 || !vqa->annotated, STATUS_INVALID,
          "question %lld has no annotation; give the annotations of all questions, or of none",
          (long long)id);
    if (annotated >= 0) {
        TRY(common_read(&vqa->files, annotated, &sample->arena, &annotation));
        enum status status = tally_answers(annotation, tallies, &num_tallies);
        if (status != STATUS_OK) return common_at_place(status, &vqa->files, annotated);
    }
    int kept = 0;
    for (int i = 0; i < num_tallies; i++) {
        if (in_vocabulary(vqa, &tallies[i])) tallies[kept++] = tallies[i];
    }
    if (annotated >= 0 && kept == 0) {
        atomic_fetch_add(&vqa->left_out, 1);
        return STATUS_OK;
    }
    TRY(sample_add_text(sample, TEXT_QUESTION, 0, text->text, text->length, key, &index));
    for (int i = 0; i < kept; i++) {
        TRY(sample_add_answer(sample, index, tallies[i].text, tallies[i].length,
                              vqa_score(tallies[i].count)));
    }
    return STATUS_OK;
}

/* Fills in the pattern's number. is_pattern saw to it that there is one %d with at most 3 digits.
 */
static const char *fill_pattern(const char *pattern, int64_t id, struct arena *arena)
{
    const char *percent = strchr(pattern, '%');
    char *end = NULL;
    bool zeros = percent[1] == '0';
    long width = strtol(percent + 1, &end, 10);
    if (*end != 'd') end = strchr(percent, 'd');
    return zeros ? arena_printf(arena, "%.*s%0*lld%s", (int)(percent - pattern), pattern,
                                (int)width, (long long)id, end + 1)
                 : arena_printf(arena, "%.*s%*lld%s", (int)(percent - pattern), pattern, (int)width,
                                (long long)id, end + 1);
}

static enum status add_picture(const struct vqa *vqa, int64_t id, struct sample *sample)
{
    const char *name = NULL;
    for (int i = 0; i < vqa->num_patterns; i++) {
        name = fill_pattern(vqa->pattern[i], id, &sample->arena);
        CHECK(name, STATUS_NO_MEMORY, "no memory for a name");
        if (folder_has(&vqa->folder, name)) break;
    }
    return common_add_image(&vqa->folder, name, 0, 0, sample, NULL);
}

static enum status vqa_fetch(const struct import_source *source, int64_t item,
                             struct sample *sample)
{
    struct vqa *vqa = source->state;
    int64_t begin = vqa->items.first[item];
    enum status status = add_picture(vqa, vqa->question_image.value[vqa->items.row[begin]], sample);
    if (status != STATUS_OK) {
        return common_at_place(status, &vqa->files,
                               vqa->question_place.value[vqa->items.row[begin]]);
    }
    for (int64_t i = begin; i < vqa->items.first[item + 1]; i++) {
        int64_t row = vqa->items.row[i];
        status = add_question(vqa, row, sample);
        if (status == STATUS_NO_MEMORY) return status;
        if (status == STATUS_OK) continue;
        common_at_place(status, &vqa->files, vqa->question_place.value[row]);
        TRY(sample_reject(sample, "%s", status_message()));
    }
    return STATUS_OK;
}

const struct importer importer_vqa = {
    .name = "vqa",
    .summary = "VQAv2: questions with answers and their soft scores",
    .usage = "weft pack vqa v2_OpenEnded_mscoco_train2014_questions.json\n"
             "       v2_mscoco_train2014_annotations.json --images train2014 -o OUT-%05d.h5\n"
             "Give train and val together for the usual vocabulary of 3,129 answers. Questions\n"
             "without annotations (the test split) are packed without answers.",
    .options = options,
    .min_sources = 1,
    .max_sources = COMMON_MAX_FILES,
    .open = vqa_open,
    .fetch = vqa_fetch,
    .close = vqa_close,
};
