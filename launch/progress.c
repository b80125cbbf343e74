#include "launch/progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

const char *number_text(int64_t number, char *text, size_t size)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%lld", (long long)number);
    size_t length = strlen(digits);
    size_t used = 0;
    for (size_t i = 0; i < length && used + 2 < size; i++) {
        text[used++] = digits[i];
        size_t left = length - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-') text[used++] = ',';
    }
    text[used] = '\0';
    return text;
}

const char *bytes_text(int64_t bytes, char *text, size_t size)
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB", "PB"};
    double value = (double)bytes;
    int unit = 0;
    while (value >= 1000 && unit < 5) {
        value /= 1000;
        unit++;
    }
    snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

void progress_start(struct progress *progress, const char *what, const char *unit)
{
    *progress = (struct progress){
        .what = what, .unit = unit, .begin = now(), .terminal = isatty(STDERR_FILENO) == 1};
    progress->shown = progress->begin;
}

double progress_seconds(const struct progress *progress)
{
    return now() - progress->begin;
}

static void print_duration(double seconds)
{
    int64_t whole = (int64_t)(seconds + 0.5);
    if (whole >= 3600) {
        fprintf(stderr, "%lld:%02d:%02d", (long long)(whole / 3600), (int)(whole / 60 % 60),
                (int)(whole % 60));
    } else {
        fprintf(stderr, "%d:%02d", (int)(whole / 60), (int)(whole % 60));
    }
}

static void print_bar(double fraction)
{
    enum { WIDTH = 24 };
    int full = (int)(fraction * WIDTH);
    fputc('[', stderr);
    for (int i = 0; i < WIDTH; i++) {
        fputc(i < full ? '#' : '.', stderr);
    }
    fputs("] ", stderr);
}

void progress_show(struct progress *progress, int64_t done, int64_t total, const char *note)
{
    double time = now();
    double pause = progress->terminal ? 0.1 : 30;
    if (time - progress->shown < pause && !(progress->terminal && done == total)) return;
    progress->shown = time;
    double elapsed = time - progress->begin;
    double fraction = total > 0 ? (double)done / (double)total : 1;
    double rate = elapsed > 0 ? (double)done / elapsed : 0;
    char text[2][32];
    if (progress->terminal) fputs("\r\033[K", stderr);
    fprintf(stderr, "%s ", progress->what);
    if (progress->terminal) print_bar(fraction);
    fprintf(stderr, "%3.0f%% %s of %s %s, %.0f/s, left ", 100 * fraction,
            number_text(done, text[0], sizeof text[0]), number_text(total, text[1], sizeof text[1]),
            progress->unit, rate);
    print_duration(rate > 0 ? (double)(total - done) / rate : 0);
    if (note && note[0]) fprintf(stderr, ", %s", note);
    if (!progress->terminal) fputc('\n', stderr);
    progress->visible = progress->terminal;
    fflush(stderr);
}

void progress_clear(struct progress *progress)
{
    if (progress->visible) fputs("\r\033[K", stderr);
    progress->visible = false;
}
