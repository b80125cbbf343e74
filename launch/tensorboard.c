/*
 * The messages are small, so they are encoded by hand into strings: protobuf fields are a varint
 * key (number << 3 | wire type) and a value. Of event.proto and summary.proto:
 *
 *   Event       1 wall_time double · 2 step int64 · 3 file_version string · 5 summary · 7
 * session_log Summary     1 value, repeated Value       1 tag string · 2 simple_value float
 *   SessionLog  1 status enum (1 = START)
 *
 * A step is one Event with many values, written at once.
 */
#include "launch/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- CRC-32C ---- */

static uint32_t crc_table[256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
        }
        crc_table[i] = crc;
    }
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    pthread_once(&crc_once, crc_make_table);
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc = crc >> 8 ^ crc_table[(crc ^ at[i]) & 255];
    }
    return ~crc;
}

uint32_t crc32c_masked(uint32_t crc)
{
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* ---- protobuf ---- */

enum wire { WIRE_VARINT = 0, WIRE_8_BYTES = 1, WIRE_STRING = 2, WIRE_4_BYTES = 5 };

static void put_varint(struct strbuf *out, uint64_t value)
{
    do {
        uint8_t byte = (uint8_t)((value & 127) | (value > 127 ? 128 : 0));
        strbuf_append_bytes(out, &byte, 1);
        value >>= 7;
    } while (value);
}

static void put_key(struct strbuf *out, int field, enum wire wire)
{
    put_varint(out, (uint64_t)field << 3 | (uint64_t)wire);
}

static void put_little_endian(struct strbuf *out, uint64_t value, int size)
{
    uint8_t bytes[8];
    for (int i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    strbuf_append_bytes(out, bytes, (size_t)size);
}

static int varint_size(uint64_t value)
{
    int size = 1;
    while (value >>= 7) {
        size++;
    }
    return size;
}

static void begin_event(struct tensorboard *board, int64_t step)
{
    struct timespec time;
    uint64_t bits = 0;
    clock_gettime(CLOCK_REALTIME, &time);
    double seconds = (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
    memcpy(&bits, &seconds, sizeof bits);
    strbuf_clear(&board->event);
    put_key(&board->event, 1, WIRE_8_BYTES);
    put_little_endian(&board->event, bits, 8);
    put_key(&board->event, 2, WIRE_VARINT);
    put_varint(&board->event, (uint64_t)step);
}

/* Summary.value with a tag PREFIX/NAME; the lengths come first, so they are computed. */
static void put_value(struct strbuf *out, const char *prefix, const struct run_value *value)
{
    size_t tag = strlen(prefix) + 1 + strlen(value->name);
    size_t length = 1 + (size_t)varint_size(tag) + tag + 1 + 4;
    float number = (float)value->value;
    uint32_t bits = 0;
    memcpy(&bits, &number, sizeof bits);
    put_key(out, 1, WIRE_STRING);
    put_varint(out, length);
    put_key(out, 1, WIRE_STRING);
    put_varint(out, tag);
    strbuf_append(out, prefix);
    strbuf_append(out, "/");
    strbuf_append(out, value->name);
    put_key(out, 2, WIRE_4_BYTES);
    put_little_endian(out, bits, 4);
}

/* ---- records ---- */

static enum status write_event(struct tensorboard *board)
{
    struct strbuf *record = &board->record;
    uint8_t length[8];
    for (int i = 0; i < 8; i++) {
        length[i] = (uint8_t)((uint64_t)board->event.length >> (8 * i));
    }
    strbuf_clear(record);
    strbuf_append_bytes(record, length, sizeof length);
    put_little_endian(record, crc32c_masked(crc32c(0, length, sizeof length)), 4);
    if (board->event.length) strbuf_append_bytes(record, board->event.text, board->event.length);
    put_little_endian(record, crc32c_masked(crc32c(0, board->event.text, board->event.length)), 4);
    CHECK(!record->failed && !board->event.failed, STATUS_NO_MEMORY, "%s: out of memory",
          board->path);
    const char *at = record->text;
    size_t left = record->length;
    while (left > 0) {
        ssize_t written = write(board->fd, at, left);
        if (written < 0 && errno == EINTR) continue;
        CHECK(written >= 0, STATUS_IO, "%s: cannot write: %s", board->path, strerror(errno));
        at += written;
        left -= (size_t)written;
    }
    return STATUS_OK;
}

static void put_summary(struct tensorboard *board, const struct strbuf *values)
{
    put_key(&board->event, 5, WIRE_STRING);
    put_varint(&board->event, values->length);
    if (values->length) strbuf_append_bytes(&board->event, values->text, values->length);
    if (values->failed) board->event.failed = true;
}

enum status tensorboard_values(struct tensorboard *board, int64_t step, const char *prefix,
                               const struct run_values *values)
{
    struct strbuf list = {0};
    for (int i = 0; i < values->count; i++) {
        put_value(&list, prefix, &values->items[i]);
    }
    begin_event(board, step);
    put_summary(board, &list);
    strbuf_fini(&list);
    return write_event(board);
}

enum status tensorboard_step(struct tensorboard *board, const struct run_log_step *step)
{
    const struct run_seconds *s = &step->seconds;
    const struct {
        const char *prefix;
        struct run_value value;
    } rows[] = {
        {"time", {"step", s->step}},
        {"time", {"wait_read", s->wait_read}},
        {"time", {"wait_decode", s->wait_decode}},
        {"time", {"wait_tokenise", s->wait_tokenise}},
        {"time", {"compute", s->compute}},
        {"time", {"communicate", s->communicate}},
        {"time", {"update", s->update}},
        {"time", {"checkpoint", s->checkpoint}},
        {"time", {"evaluate", s->evaluate}},
        {"time", {"other", s->other}},
        {"run", {"gradient_norm", step->gradient_norm}},
        {"run", {"samples_per_s", step->samples_per_s}},
        {"run", {"rss_mb", step->rss_mb}},
    };
    const struct {
        const char *prefix;
        const struct run_values *values;
    } groups[] = {{"loss", &step->losses}, {"metric", &step->metrics}, {"lr", &step->lr}};
    struct strbuf list = {0};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        for (int j = 0; j < groups[i].values->count; j++) {
            put_value(&list, groups[i].prefix, &groups[i].values->items[j]);
        }
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put_value(&list, rows[i].prefix, &rows[i].value);
    }
    begin_event(board, step->step);
    put_summary(board, &list);
    strbuf_fini(&list);
    return write_event(board);
}

/* ---- the file ---- */

static enum status write_head(struct tensorboard *board, int64_t step)
{
    static const char version[] = "brain.Event:2";
    begin_event(board, 0);
    put_key(&board->event, 3, WIRE_STRING);
    put_varint(&board->event, sizeof version - 1);
    strbuf_append(&board->event, version);
    TRY(write_event(board));
    /* A session start at step n makes readers drop what they have from step n on. */
    begin_event(board, step + 1);
    put_key(&board->event, 7, WIRE_STRING);
    put_varint(&board->event, 2);
    put_key(&board->event, 1, WIRE_VARINT);
    put_varint(&board->event, 1);
    return write_event(board);
}

enum status tensorboard_open(struct tensorboard *board, const char *folder, int64_t step)
{
    char host[256] = "host";
    gethostname(host, sizeof host - 1);
    *board = (struct tensorboard){.fd = -1};
    size_t size = strlen(folder) + sizeof host + 80;
    char *path = malloc(size);
    CHECK(path, STATUS_NO_MEMORY, "out of memory for the event file of %s", folder);
    /* TensorBoard reads the files of a folder in the order of their names: the time comes first. */
    snprintf(path, size, "%s/events.out.tfevents.%010lld.%s.%ld", folder, (long long)time(NULL),
             host, (long)getpid());
    board->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    board->path = path;
    if (board->fd < 0) {
        enum status status = status_fail(STATUS_IO, "%s: cannot create: %s", path, strerror(errno));
        free(path);
        board->path = NULL;
        return status;
    }
    enum status status = write_head(board, step);
    if (status != STATUS_OK) tensorboard_close(board);
    return status;
}

enum status tensorboard_close(struct tensorboard *board)
{
    if (!board || !board->path) return STATUS_OK;
    enum status status = STATUS_OK;
    if (close(board->fd) != 0) {
        status = status_fail(STATUS_IO, "%s: cannot write: %s", board->path, strerror(errno));
    }
    free(board->path);
    strbuf_fini(&board->event);
    strbuf_fini(&board->record);
    *board = (struct tensorboard){.fd = -1};
    return status;
}
