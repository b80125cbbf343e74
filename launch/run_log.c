/*
 * A line is put together in memory and handed to the system in one write with O_APPEND: a killed
 * process leaves whole lines, and nobody else's line is torn apart should two processes ever write
 * (the run's lock forbids it). No stdio, whose buffer would be lost at a kill.
 */
#include "launch/run_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "launch/json_text.h"

/* ---- pieces of a line ---- */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    int64_t milliseconds = (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
    return (double)milliseconds / 1000;
}

static void begin(struct run_log *log, const char *kind, int64_t step)
{
    strbuf_clear(&log->line);
    strbuf_printf(&log->line, "{\"kind\":\"%s\",\"time\":%.3f,\"step\":%lld", kind, now(),
                  (long long)step);
}

static void add_int(struct run_log *log, const char *key, int64_t value)
{
    strbuf_printf(&log->line, ",\"%s\":%lld", key, (long long)value);
}

static void add_number(struct run_log *log, const char *key, double value)
{
    strbuf_printf(&log->line, ",\"%s\":", key);
    json_append_number(&log->line, value);
}

static void add_string(struct run_log *log, const char *key, const char *text)
{
    strbuf_printf(&log->line, ",\"%s\":", key);
    json_append_string(&log->line, text);
}

static void add_values(struct run_log *log, const char *key, const struct run_values *values)
{
    strbuf_printf(&log->line, ",\"%s\":{", key);
    for (int i = 0; i < values->count; i++) {
        if (i > 0) strbuf_append(&log->line, ",");
        json_append_string(&log->line, values->items[i].name);
        strbuf_append(&log->line, ":");
        json_append_number(&log->line, values->items[i].value);
    }
    strbuf_append(&log->line, "}");
}

static enum status write_all(const struct run_log *log)
{
    const char *bytes = log->line.text;
    size_t left = log->line.length;
    while (left > 0) {
        ssize_t written = write(log->fd, bytes, left);
        if (written < 0 && errno == EINTR) continue;
        CHECK(written >= 0, STATUS_IO, "%s: cannot write: %s", log->path, strerror(errno));
        bytes += written;
        left -= (size_t)written;
    }
    return STATUS_OK;
}

static enum status end(struct run_log *log)
{
    strbuf_append(&log->line, "}\n");
    CHECK(!log->line.failed, STATUS_NO_MEMORY, "%s: out of memory for a line", log->path);
    return write_all(log);
}

/* ---- the file ---- */

/* A line that an earlier process could not finish must not swallow the next one. */
static enum status end_torn_line(struct run_log *log)
{
    char last = '\n';
    off_t size = lseek(log->fd, 0, SEEK_END);
    CHECK(size >= 0, STATUS_IO, "%s: %s", log->path, strerror(errno));
    if (size == 0) return STATUS_OK;
    CHECK(pread(log->fd, &last, 1, size - 1) == 1, STATUS_IO, "%s: cannot read: %s", log->path,
          strerror(errno));
    if (last == '\n') return STATUS_OK;
    strbuf_clear(&log->line);
    strbuf_append(&log->line, "\n");
    CHECK(!log->line.failed, STATUS_NO_MEMORY, "%s: out of memory for a line", log->path);
    return write_all(log);
}

enum status run_log_open(struct run_log *log, const char *folder)
{
    *log = (struct run_log){.fd = -1};
    size_t size = strlen(folder) + sizeof "/log.jsonl";
    log->path = malloc(size);
    CHECK(log->path, STATUS_NO_MEMORY, "out of memory for the log of %s", folder);
    snprintf(log->path, size, "%s/log.jsonl", folder);
    log->fd = open(log->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    enum status status = STATUS_OK;
    if (log->fd < 0) {
        status =
            status_fail(STATUS_IO, "%s: cannot open for appending: %s", log->path, strerror(errno));
    } else {
        status = end_torn_line(log);
    }
    if (status != STATUS_OK) {
        if (log->fd >= 0) close(log->fd);
        log->fd = -1;
        free(log->path);
        log->path = NULL;
        strbuf_fini(&log->line);
    }
    return status;
}

enum status run_log_close(struct run_log *log)
{
    if (!log || !log->path) return STATUS_OK;
    enum status status = STATUS_OK;
    bool flushed = fsync(log->fd) == 0 || errno == EINVAL || errno == EROFS;
    int error = errno;
    if (close(log->fd) != 0) {
        flushed = false;
        error = errno;
    }
    if (!flushed) {
        status = status_fail(STATUS_IO, "%s: cannot write: %s", log->path, strerror(error));
    }
    free(log->path);
    strbuf_fini(&log->line);
    *log = (struct run_log){.fd = -1};
    return status;
}

/* ---- lines ---- */

enum status run_log_start(struct run_log *log, const struct run_log_start *start)
{
    begin(log, "start", start->step);
    add_int(log, "total_steps", start->total_steps);
    add_string(log, "host", start->host);
    add_int(log, "ranks", start->ranks);
    add_int(log, "hosts", start->hosts);
    add_int(log, "threads", start->threads);
    add_int(log, "global_batch", start->global_batch);
    add_string(log, "build", start->build);
    add_string(log, "config_fingerprint", start->config_fingerprint);
    add_string(log, "resumed_from", start->resumed_from);
    return end(log);
}

enum status run_log_step(struct run_log *log, const struct run_log_step *step)
{
    const struct run_seconds *s = &step->seconds;
    const struct run_value seconds[] = {
        {"step", s->step},
        {"wait_read", s->wait_read},
        {"wait_decode", s->wait_decode},
        {"wait_tokenise", s->wait_tokenise},
        {"compute", s->compute},
        {"communicate", s->communicate},
        {"update", s->update},
        {"checkpoint", s->checkpoint},
        {"evaluate", s->evaluate},
        {"other", s->other},
    };
    const struct run_values list = {seconds, sizeof seconds / sizeof seconds[0]};
    begin(log, "step", step->step);
    add_int(log, "epoch", step->epoch);
    add_int(log, "index", step->index);
    strbuf_printf(&log->line, ",\"draws\":\"%016" PRIx64 "\"", step->draws);
    add_values(log, "losses", &step->losses);
    add_values(log, "metrics", &step->metrics);
    add_values(log, "lr", &step->lr);
    add_number(log, "gradient_norm", step->gradient_norm);
    add_number(log, "samples_per_s", step->samples_per_s);
    add_values(log, "seconds", &list);
    add_number(log, "rss_mb", step->rss_mb);
    return end(log);
}

enum status run_log_eval(struct run_log *log, const struct run_log_eval *eval)
{
    begin(log, "eval", eval->step);
    add_string(log, "split", eval->split);
    add_number(log, "seconds", eval->seconds);
    add_values(log, "metrics", &eval->metrics);
    return end(log);
}

enum status run_log_checkpoint(struct run_log *log, const struct run_log_checkpoint *checkpoint)
{
    begin(log, "checkpoint", checkpoint->step);
    add_string(log, "path", checkpoint->path);
    add_number(log, "seconds", checkpoint->seconds);
    add_number(log, "stall_s", checkpoint->stall_s);
    add_int(log, "bytes", checkpoint->bytes);
    return end(log);
}

enum status run_log_warning(struct run_log *log, int64_t step, const char *text)
{
    begin(log, "warning", step);
    add_string(log, "text", text);
    return end(log);
}

enum status run_log_end(struct run_log *log, const struct run_log_end *last)
{
    begin(log, "end", last->step);
    add_string(log, "reason", last->reason);
    add_int(log, "exit_code", last->exit_code);
    return end(log);
}
