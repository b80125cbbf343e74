/*
 * A ring of the last steps gives the means. Times are summed before they are divided, so that one
 * slow step counts for what it took. The wait is split by what the loader was busy with, hence the
 * advice can name it.
 */
#include "launch/train_line.h"

#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "launch/progress.h"

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void train_line_init(struct train_line *line, const struct train_line_options *options)
{
    *line = (struct train_line){.options = *options};
    if (!line->options.out) line->options.out = stderr;
    if (line->options.every <= 0) line->options.every = TRAIN_LINE_WINDOW;
    line->terminal = !options->plain && isatty(fileno(line->options.out)) == 1;
}

void train_line_fini(struct train_line *line)
{
    if (line->visible) fputc('\n', line->options.out);
    line->visible = false;
    strbuf_fini(&line->text);
}

void train_line_clear(struct train_line *line)
{
    if (line->visible) fputs("\r\033[K", line->options.out);
    line->visible = false;
}

/* ---- sums over the last steps ---- */

static struct run_log_step *slot(struct train_line *line, int64_t back)
{
    return &line->window[(line->steps - 1 - back) % TRAIN_LINE_WINDOW];
}

static int64_t window_size(const struct train_line *line)
{
    return line->steps < TRAIN_LINE_WINDOW ? line->steps : TRAIN_LINE_WINDOW;
}

struct sums {
    int64_t count;
    double samples;
    struct run_seconds seconds;
};

static struct sums sum(struct train_line *line, int64_t count)
{
    struct sums sums = {.count = count};
    for (int64_t i = 0; i < count; i++) {
        const struct run_log_step *step = slot(line, i);
        const struct run_seconds *s = &step->seconds;
        sums.samples += step->samples_per_s * s->step;
        sums.seconds.step += s->step;
        sums.seconds.wait_read += s->wait_read;
        sums.seconds.wait_decode += s->wait_decode;
        sums.seconds.wait_tokenise += s->wait_tokenise;
        sums.seconds.compute += s->compute;
        sums.seconds.communicate += s->communicate;
        sums.seconds.update += s->update;
        sums.seconds.checkpoint += s->checkpoint;
        sums.seconds.evaluate += s->evaluate;
        sums.seconds.other += s->other;
    }
    return sums;
}

static double wait_of(const struct run_seconds *seconds)
{
    return seconds->wait_read + seconds->wait_decode + seconds->wait_tokenise;
}

/* ---- the line ---- */

static void append_losses(struct train_line *line, int64_t count)
{
    const struct run_values *last = &slot(line, 0)->losses;
    for (int i = 0; i < last->count; i++) {
        double total = 0;
        int64_t found = 0;
        for (int64_t back = 0; back < count; back++) {
            const struct run_values *losses = &slot(line, back)->losses;
            for (int j = 0; j < losses->count; j++) {
                if (strcmp(losses->items[j].name, last->items[i].name) != 0) continue;
                total += losses->items[j].value;
                found++;
            }
        }
        strbuf_printf(&line->text, "%s%s %.4f", i ? " " : "  ", last->items[i].name,
                      total / (double)found);
    }
}

static void append_part(struct strbuf *text, const char *name, double seconds, double whole)
{
    double percent = whole > 0 ? 100 * seconds / whole : 0;
    if (percent >= 0.5) strbuf_printf(text, " %s %.0f%%", name, percent);
}

static void append_duration(struct strbuf *text, double seconds)
{
    int64_t whole = (int64_t)(seconds + 0.5);
    int64_t days = whole / 86400;
    if (days > 0) strbuf_printf(text, "%lld d ", (long long)days);
    if (whole >= 3600) {
        strbuf_printf(text, "%lld:%02d:%02d", (long long)(whole / 3600 % 24),
                      (int)(whole / 60 % 60), (int)(whole % 60));
    } else {
        strbuf_printf(text, "%d:%02d", (int)(whole / 60), (int)(whole % 60));
    }
}

static void make_text(struct train_line *line, int64_t count)
{
    struct sums sums = sum(line, count);
    const struct run_seconds *seconds = &sums.seconds;
    const struct run_log_step *step = slot(line, 0);
    struct strbuf *text = &line->text;
    char number[2][32];
    double rate = seconds->step > 0 ? sums.samples / seconds->step : 0;
    int64_t left = line->options.total_steps - step->step;
    double training = seconds->step - seconds->evaluate;
    strbuf_clear(text);
    strbuf_printf(text, "step %s/%s", number_text(step->step, number[0], sizeof number[0]),
                  number_text(line->options.total_steps, number[1], sizeof number[1]));
    append_losses(line, count);
    strbuf_printf(text, rate < 10 ? "  %.2f samples/s " : "  %.0f samples/s ", rate);
    append_part(text, "read", seconds->wait_read, seconds->step);
    append_part(text, "decode", seconds->wait_decode, seconds->step);
    append_part(text, "tokenise", seconds->wait_tokenise, seconds->step);
    append_part(text, "compute", seconds->compute, seconds->step);
    append_part(text, "communicate", seconds->communicate, seconds->step);
    append_part(text, "update", seconds->update, seconds->step);
    append_part(text, "checkpoint", seconds->checkpoint, seconds->step);
    append_part(text, "evaluate", seconds->evaluate, seconds->step);
    append_part(text, "other", seconds->other, seconds->step);
    strbuf_append(text, "  left ");
    append_duration(text, left > 0 ? (double)left * training / (double)count : 0);
}

/* What fits into the terminal's width: a line that wraps cannot be rewritten. */
static int terminal_width(FILE *out)
{
    struct winsize size;
    if (ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 200;
    return size.ws_col - 1;
}

static void show(struct train_line *line, int64_t step)
{
    bool last = step >= line->options.total_steps;
    FILE *out = line->options.out;
    if (line->terminal) {
        double time = now();
        if (time - line->shown < 0.2 && !last) return;
        line->shown = time;
        make_text(line, window_size(line));
        if (line->text.failed) return;
        fprintf(out, "\r\033[K%.*s", terminal_width(out), line->text.text);
        line->visible = true;
    } else {
        if (line->steps > 1 && step % line->options.every != 0 && !last) return;
        int64_t count = line->unshown < TRAIN_LINE_WINDOW ? line->unshown : TRAIN_LINE_WINDOW;
        make_text(line, count);
        if (line->text.failed) return;
        fprintf(out, "%s\n", line->text.text);
        line->unshown = 0;
    }
    fflush(out);
}

/* ---- waiting for data ---- */

static const char *watch(struct train_line *line)
{
    /* The first steps wait for the loader to fill up; that says nothing. */
    enum { START = 5 };
    if (line->steps < TRAIN_LINE_WINDOW + START) return NULL;
    struct sums sums = sum(line, TRAIN_LINE_WINDOW);
    const struct run_seconds *seconds = &sums.seconds;
    double share = seconds->step > 0 ? wait_of(seconds) / seconds->step : 0;
    if (share < 0.05) line->waits = false;
    if (share <= 0.1 || line->waits) return NULL;
    line->waits = true;
    const char *what = "reading";
    const char *remedy = "put the shards on a faster disk or stripe them (lfs setstripe), or raise "
                         "data.threads and data.prefetch";
    double most = seconds->wait_read;
    if (seconds->wait_decode > most) {
        most = seconds->wait_decode;
        what = "decoding pictures";
        remedy = "raise data.threads, give each rank more cores, or pack the pictures smaller "
                 "(weft pack --max-side)";
    }
    if (seconds->wait_tokenise > most) {
        most = seconds->wait_tokenise;
        what = "tokenising";
        remedy = "raise data.threads, or give each rank more cores";
    }
    snprintf(line->warning, sizeof line->warning,
             "input-bound: the last %d steps spent %.0f%% of their time waiting for data, mostly "
             "for %s (%.0f%%); %s",
             TRAIN_LINE_WINDOW, 100 * share, what, 100 * most / seconds->step, remedy);
    return line->warning;
}

const char *train_line_step(struct train_line *line, const struct run_log_step *step)
{
    line->steps++;
    line->unshown++;
    struct run_log_step *copy = slot(line, 0);
    struct run_value *losses = line->losses[copy - line->window];
    int count = step->losses.count < TRAIN_LINE_LOSSES ? step->losses.count : TRAIN_LINE_LOSSES;
    *copy = *step;
    if (count > 0) memcpy(losses, step->losses.items, (size_t)count * sizeof *losses);
    copy->losses = (struct run_values){losses, count};
    if (!line->options.no_output) show(line, step->step);
    return watch(line);
}
