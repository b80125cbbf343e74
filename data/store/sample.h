/*
 * Sample: one item of a data set in memory, as an importer produces it and weft pack stores it.
 *
 * The model is relational and flat. A sample owns 1 or more images; texts point at an image (or at
 * a pair), boxes at an image and perhaps at a text, spans at a box, answers at a text. Rows refer
 * to each other by their index within the sample, in the order of the sample_add_* calls. Whatever
 * the task, a training row is a text with its image(s), or an image alone:
 *
 *   captions              text kind CAPTION, several to an image
 *   detection             boxes with category and no text
 *   grounding             boxes with text and spans into it
 *   matching, NLVR        text kind STATEMENT with label 0 or 1 (NLVR2: image2 is the right
 * picture) VQA                   text kind QUESTION with answers and their soft scores referring
 * expression  text kind EXPRESSION and one box that points at it
 *
 * A sample is the unit that packing skips, shards and resumes by; what belongs together (the images
 * of a pair, the questions of an image) goes in one sample. Not safe for concurrent use; different
 * threads use different samples.
 */
#ifndef WEFT_DATA_STORE_SAMPLE_H
#define WEFT_DATA_STORE_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/arena.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Values are part of schema v1: append, never renumber. */
enum text_kind {
    TEXT_CAPTION = 0,
    TEXT_QUESTION = 1,
    TEXT_STATEMENT = 2,
    TEXT_EXPRESSION = 3,
    TEXT_NUM_KINDS
};

enum { TEXT_LABEL_NONE = -1, TEXT_LABEL_FALSE = 0, TEXT_LABEL_TRUE = 1 };

struct sample_image {
    const uint8_t *bytes; /* the encoded file as is: JPEG, PNG or WebP */
    int64_t size;         /* bytes */
    const char *key;      /* source name, e.g. the file name within the data set; NULL: none */
    int32_t width;        /* pixels; 0: not known, packing fills it in */
    int32_t height;
};

struct sample_text {
    const char *text; /* UTF-8, not necessarily NUL-terminated */
    int64_t length;   /* bytes */
    const char *key;  /* id of the source (question id, sentence id); NULL: none */
    enum text_kind kind;
    int8_t label;   /* TEXT_LABEL_* */
    int32_t image;  /* image of this sample that the text is about */
    int32_t image2; /* second picture of a pair, -1 for none */
};

struct sample_box {
    float xyxy[4];    /* pixels, half-open: columns [x0, x1), rows [y0, y1) */
    int32_t image;    /* image of this sample */
    int32_t text;     /* text of this sample that the spans point into, -1 for none */
    int32_t category; /* row of the source's category list, -1 for none */
    bool crowd;       /* COCO's iscrowd: a region of many objects */
};

struct sample_span {
    int32_t box;
    int32_t begin; /* characters (Unicode code points) of the box's text: [begin, end) */
    int32_t end;
};

struct sample_answer {
    int32_t text;
    const char *answer; /* UTF-8 */
    int64_t length;     /* bytes */
    float score;        /* soft score in [0, 1] */
};

/* Zero-initialise to create an empty sample. The arrays and all they point at live in `arena`. */
struct sample {
    struct arena arena;
    struct sample_image *images;
    struct sample_text *texts;
    struct sample_box *boxes;
    struct sample_span *spans;
    struct sample_answer *answers;
    const char **rejects; /* messages of sample_reject */
    int32_t num_images;
    int32_t num_texts;
    int32_t num_boxes;
    int32_t num_spans;
    int32_t num_answers;
    int32_t num_rejects;
    int32_t room[6]; /* capacity of the arrays above, in their order */
};

/*
 * Each of these appends a row and gives its index in `index` (may be NULL). Errors:
 * STATUS_NO_MEMORY. What a row says is judged when the sample is packed, not here; an importer
 * hands over what its source says.
 *
 * sample_add_image takes `bytes` without copying: allocate them with sample_alloc, or keep them
 * alive as long as the sample. Keys, texts and answers are copied.
 */
enum status sample_add_image(struct sample *sample, const void *bytes, int64_t size,
                             const char *key, int32_t *index);
enum status sample_add_text(struct sample *sample, enum text_kind kind, int32_t image,
                            const char *text, int64_t length, const char *key, int32_t *index);
enum status sample_add_box(struct sample *sample, int32_t image, const float xyxy[4],
                           int32_t *index);
enum status sample_add_span(struct sample *sample, int32_t box, int32_t begin, int32_t end);
enum status sample_add_answer(struct sample *sample, int32_t text, const char *answer,
                              int64_t length, float score);

/* `size` uninitialised bytes that live as long as the sample's contents, NULL when memory is out.
 */
void *sample_alloc(struct sample *sample, int64_t size);

/*
 * Reads the file `path` into the sample's memory. Errors: STATUS_NOT_FOUND, STATUS_IO, naming the
 * path; STATUS_INVALID for an empty file or one above 1 GiB.
 */
enum status sample_read_file(struct sample *sample, const char *path, const uint8_t **bytes,
                             int64_t *size);

/*
 * Reports a part of the item that the importer had to leave out (a phrase without its box, say)
 * while the rest is good. Packing treats it by --on-bad like any bad part: it stops, or counts and
 * names it.
 */
enum status sample_reject(struct sample *sample, const char *format, ...) STATUS_PRINTF(2, 3);

/* Empties the sample for the next item. */
void sample_clear(struct sample *sample);

/* Frees everything. The sample is empty and usable again. */
void sample_fini(struct sample *sample);

#ifdef __cplusplus
}
#endif
#endif
