#include "runtime/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static struct {
    pthread_mutex_t lock;
    int rank;
    int size;
    bool level_is_set;
    enum log_level level;
    FILE *file;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .size = 1};

void log_set_rank(int rank, int size)
{
    pthread_mutex_lock(&state.lock);
    state.rank = rank;
    state.size = size;
    pthread_mutex_unlock(&state.lock);
}

void log_set_level(enum log_level level)
{
    pthread_mutex_lock(&state.lock);
    state.level = level;
    state.level_is_set = true;
    pthread_mutex_unlock(&state.lock);
}

enum status log_set_file(const char *path)
{
    FILE *file = NULL;
    if (path) {
        file = fopen(path, "a");
        CHECK(file, STATUS_IO, "%s: cannot open the log for appending: %s", path, strerror(errno));
    }
    pthread_mutex_lock(&state.lock);
    FILE *previous = state.file;
    state.file = file;
    pthread_mutex_unlock(&state.lock);
    if (previous) fclose(previous);
    return STATUS_OK;
}

void log_print(enum log_level level, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    pthread_mutex_lock(&state.lock);
    enum log_level least = LOG_INFO;
    if (state.level_is_set) {
        least = state.level;
    } else if (state.rank != 0) {
        least = LOG_WARNING;
    }
    char who[32] = "";
    if (state.size > 1) snprintf(who, sizeof who, "[%d] ", state.rank);
    if (level >= least) {
        const char *label = level == LOG_INFO ? "" : names[level];
        fprintf(stderr, "%s%s%s%s\n", who, label, level == LOG_INFO ? "" : ": ", text);
    }
    if (state.file) {
        char stamp[32];
        time_t now = time(NULL);
        struct tm parts;
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
        fprintf(state.file, "%s %s%s: %s\n", stamp, who, names[level], text);
        fflush(state.file);
    }
    pthread_mutex_unlock(&state.lock);
}
