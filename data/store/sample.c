#include "data/store/sample.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE_BYTES ((int64_t)1 << 30)

enum { ROOM_IMAGES, ROOM_TEXTS, ROOM_BOXES, ROOM_SPANS, ROOM_ANSWERS, ROOM_REJECTS };

/* Makes room for one more row. The arena cannot resize, so a full array moves to one of double
 * size; what it leaves behind is at most as much again. */
static enum status grow(struct sample *sample, int which, void **array, int32_t count, size_t size)
{
    if (count < sample->room[which]) return STATUS_OK;
    CHECK(count < INT32_MAX / 2, STATUS_INVALID, "sample with more than %d rows of one kind",
          count);
    int32_t room = count ? 2 * count : 8;
    void *bigger = arena_alloc(&sample->arena, (size_t)room * size);
    CHECK(bigger, STATUS_NO_MEMORY, "out of memory for a sample of %d rows", room);
    if (count) memcpy(bigger, *array, (size_t)count * size);
    *array = bigger;
    sample->room[which] = room;
    return STATUS_OK;
}

static enum status copy_text(struct sample *sample, const char *text, int64_t length,
                             const char **copy)
{
    *copy = arena_strndup(&sample->arena, text, (size_t)length);
    CHECK(*copy, STATUS_NO_MEMORY, "out of memory for a text of %lld bytes", (long long)length);
    return STATUS_OK;
}

enum status sample_add_image(struct sample *sample, const void *bytes, int64_t size,
                             const char *key, int32_t *index)
{
    void *array = sample->images;
    TRY(grow(sample, ROOM_IMAGES, &array, sample->num_images, sizeof *sample->images));
    sample->images = array;
    struct sample_image row = {.bytes = bytes, .size = size};
    if (key) TRY(copy_text(sample, key, (int64_t)strlen(key), &row.key));
    if (index) *index = sample->num_images;
    sample->images[sample->num_images++] = row;
    return STATUS_OK;
}

enum status sample_add_text(struct sample *sample, enum text_kind kind, int32_t image,
                            const char *text, int64_t length, const char *key, int32_t *index)
{
    void *array = sample->texts;
    TRY(grow(sample, ROOM_TEXTS, &array, sample->num_texts, sizeof *sample->texts));
    sample->texts = array;
    struct sample_text row = {
        .length = length, .kind = kind, .label = TEXT_LABEL_NONE, .image = image, .image2 = -1};
    TRY(copy_text(sample, text, length, &row.text));
    if (key) TRY(copy_text(sample, key, (int64_t)strlen(key), &row.key));
    if (index) *index = sample->num_texts;
    sample->texts[sample->num_texts++] = row;
    return STATUS_OK;
}

enum status sample_add_box(struct sample *sample, int32_t image, const float xyxy[4],
                           int32_t *index)
{
    void *array = sample->boxes;
    TRY(grow(sample, ROOM_BOXES, &array, sample->num_boxes, sizeof *sample->boxes));
    sample->boxes = array;
    struct sample_box row = {.image = image, .text = -1, .category = -1};
    memcpy(row.xyxy, xyxy, sizeof row.xyxy);
    if (index) *index = sample->num_boxes;
    sample->boxes[sample->num_boxes++] = row;
    return STATUS_OK;
}

enum status sample_add_span(struct sample *sample, int32_t box, int32_t begin, int32_t end)
{
    void *array = sample->spans;
    TRY(grow(sample, ROOM_SPANS, &array, sample->num_spans, sizeof *sample->spans));
    sample->spans = array;
    sample->spans[sample->num_spans++] = (struct sample_span){box, begin, end};
    return STATUS_OK;
}

enum status sample_add_answer(struct sample *sample, int32_t text, const char *answer,
                              int64_t length, float score)
{
    void *array = sample->answers;
    TRY(grow(sample, ROOM_ANSWERS, &array, sample->num_answers, sizeof *sample->answers));
    sample->answers = array;
    struct sample_answer row = {.text = text, .length = length, .score = score};
    TRY(copy_text(sample, answer, length, &row.answer));
    sample->answers[sample->num_answers++] = row;
    return STATUS_OK;
}

enum status sample_reject(struct sample *sample, const char *format, ...)
{
    void *array = sample->rejects;
    TRY(grow(sample, ROOM_REJECTS, &array, sample->num_rejects, sizeof *sample->rejects));
    sample->rejects = array;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const char *copy = NULL;
    TRY(copy_text(sample, text, (int64_t)strlen(text), &copy));
    sample->rejects[sample->num_rejects++] = copy;
    return STATUS_OK;
}

void *sample_alloc(struct sample *sample, int64_t size)
{
    return arena_alloc(&sample->arena, (size_t)size);
}

static enum status read_whole(int file, const char *path, uint8_t *bytes, int64_t size)
{
    int64_t done = 0;
    while (done < size) {
        ssize_t got = read(file, bytes + done, (size_t)(size - done));
        if (got < 0 && errno == EINTR) continue;
        CHECK(got >= 0, STATUS_IO, "%s: cannot read: %s", path, strerror(errno));
        CHECK(got > 0, STATUS_IO, "%s: became shorter while it was read", path);
        done += got;
    }
    return STATUS_OK;
}

static enum status read_open_file(struct sample *sample, int file, const char *path,
                                  const uint8_t **bytes, int64_t *size)
{
    struct stat info;
    CHECK(fstat(file, &info) == 0, STATUS_IO, "%s: %s", path, strerror(errno));
    CHECK(S_ISREG(info.st_mode), STATUS_INVALID, "%s: not a regular file", path);
    CHECK(info.st_size > 0, STATUS_INVALID, "%s: the file is empty", path);
    CHECK(info.st_size <= MAX_FILE_BYTES, STATUS_INVALID,
          "%s: %lld bytes are more than the 1 GiB allowed for one picture", path,
          (long long)info.st_size);
    uint8_t *room = sample_alloc(sample, info.st_size);
    CHECK(room, STATUS_NO_MEMORY, "%s: out of memory for %lld bytes", path,
          (long long)info.st_size);
    TRY(read_whole(file, path, room, info.st_size));
    *bytes = room;
    *size = info.st_size;
    return STATUS_OK;
}

enum status sample_read_file(struct sample *sample, const char *path, const uint8_t **bytes,
                             int64_t *size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: cannot open: %s", path,
          strerror(errno));
    enum status status = read_open_file(sample, file, path, bytes, size);
    close(file);
    return status;
}

void sample_clear(struct sample *sample)
{
    sample_fini(sample);
}

void sample_fini(struct sample *sample)
{
    arena_fini(&sample->arena);
    memset(sample, 0, sizeof *sample);
}
