/* Tables are made of texts once and printed twice, to the terminal and into the page. */
#include "launch/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/compare_impl.h"
#include "launch/report_impl.h"

enum { LAST_STEPS = 50, MAX_ROWS = 4096 };

/* ---- rows ---- */

enum status compare_add_row(struct compare *compare, struct compare_rows *rows, const char *label,
                            struct compare_row **added)
{
    if (!rows->rows) rows->rows = arena_alloc(&compare->arena, MAX_ROWS * sizeof *rows->rows);
    CHECK(rows->rows, STATUS_NO_MEMORY, "out of memory for the comparison");
    CHECK(rows->count < MAX_ROWS, STATUS_UNSUPPORTED, "more than %d rows to compare", MAX_ROWS);
    struct compare_row *row = &rows->rows[rows->count++];
    *row = (struct compare_row){.label = arena_strdup(&compare->arena, label), .best = -1};
    CHECK(row->label, STATUS_NO_MEMORY, "out of memory for the comparison");
    for (int i = 0; i < COMPARE_RUNS; i++) {
        row->texts[i] = "";
    }
    *added = row;
    return STATUS_OK;
}

/* 1: more is better, -1: less is, 0: neither. */
static int direction_of(const char *name)
{
    if (strstr(name, "loss") || strstr(name, "wait")) return -1;
    if (strchr(name, '@') || strstr(name, "accuracy") || strstr(name, "recall") ||
        strstr(name, "samples a second")) {
        return 1;
    }
    return 0;
}

static enum status add_numbers(struct compare *compare, const char *label, bool percent,
                               const double *values)
{
    struct compare_row *row = NULL;
    int direction = direction_of(label);
    bool differ = false;
    TRY(compare_add_row(compare, &compare->metrics, label, &row));
    for (int i = 0; i < compare->num_runs; i++) {
        char text[40];
        if (isnan(values[i])) continue;
        row->texts[i] =
            arena_strdup(&compare->arena, chart_number(values[i], percent, text, sizeof text));
        CHECK(row->texts[i], STATUS_NO_MEMORY, "out of memory for the comparison");
        bool better = row->best < 0 || direction * values[i] > direction * values[row->best];
        if (row->best >= 0 && strcmp(row->texts[i], row->texts[row->best]) != 0) differ = true;
        if (better) row->best = i;
    }
    if (direction == 0 || !differ) row->best = -1;
    return STATUS_OK;
}

/* ---- what runs reached ---- */

static double tail_mean(const struct run_history *history, const struct run_series *series)
{
    double sum = 0;
    int64_t count = 0;
    int64_t from = history->num_steps > LAST_STEPS ? history->num_steps - LAST_STEPS : 0;
    for (int64_t i = from; series && i < history->num_steps; i++) {
        if (!isfinite(series->values[i])) continue;
        sum += series->values[i];
        count++;
    }
    return count ? sum / (double)count : NAN;
}

static double total_of(const struct run_history *history, const char *name)
{
    const struct run_series *series = run_history_find(history, "seconds", name);
    double sum = 0;
    for (int64_t i = 0; series && i < history->num_steps; i++) {
        if (isfinite(series->values[i])) sum += series->values[i];
    }
    return sum;
}

bool compare_seen_before(const struct compare *compare, int run, const struct run_series *series)
{
    for (int i = 0; i < run; i++) {
        if (run_history_find(&compare->histories[i], series->group, series->name)) return true;
    }
    return false;
}

static enum status add_series_rows(struct compare *compare, const char *group, const char *format)
{
    for (int i = 0; i < compare->num_runs; i++) {
        for (int j = 0; j < compare->histories[i].num_series; j++) {
            const struct run_series *series = &compare->histories[i].series[j];
            double values[COMPARE_RUNS] = {0};
            if (strcmp(series->group, group) != 0 || compare_seen_before(compare, i, series))
                continue;
            for (int k = 0; k < compare->num_runs; k++) {
                const struct run_history *history = &compare->histories[k];
                values[k] = tail_mean(history, run_history_find(history, group, series->name));
            }
            char *label = arena_printf(&compare->arena, format, series->name);
            CHECK(label, STATUS_NO_MEMORY, "out of memory for the comparison");
            TRY(add_numbers(compare, label, chart_is_fraction(series->name), values));
        }
    }
    return STATUS_OK;
}

static enum status add_speed_rows(struct compare *compare)
{
    double steps[COMPARE_RUNS] = {0};
    double rates[COMPARE_RUNS] = {0};
    double waits[COMPARE_RUNS] = {0};
    for (int i = 0; i < compare->num_runs; i++) {
        const struct run_history *history = &compare->histories[i];
        const struct run_series *rate = run_history_find(history, "run", "samples_per_s");
        const struct run_series *time = run_history_find(history, "seconds", "step");
        double seconds = total_of(history, "step");
        double samples = 0;
        for (int64_t j = 0; rate && time && j < history->num_steps; j++) {
            double more = rate->values[j] * time->values[j];
            if (isfinite(more)) samples += more;
        }
        steps[i] = history->num_steps ? (double)history->steps[history->num_steps - 1] : 0;
        rates[i] = seconds > 0 ? samples / seconds : NAN;
        waits[i] = seconds > 0
                       ? (total_of(history, "wait_read") + total_of(history, "wait_decode") +
                          total_of(history, "wait_tokenise")) /
                             seconds
                       : NAN;
    }
    TRY(add_numbers(compare, "steps", false, steps));
    TRY(add_numbers(compare, "samples a second", false, rates));
    return add_numbers(compare, "time waiting for data", true, waits);
}

/* The metric `name` in the newest evaluation of `split`, NaN when there is none. */
static double newest_metric(const struct run_history *history, const char *split, const char *name)
{
    double value = NAN;
    for (int i = 0; i < history->num_evals; i++) {
        const struct run_history_eval *eval = &history->evals[i];
        if (strcmp(eval->split, split) != 0) continue;
        value = NAN;
        for (int j = 0; j < eval->metrics.count; j++) {
            if (strcmp(eval->metrics.items[j].name, name) == 0)
                value = eval->metrics.items[j].value;
        }
    }
    return value;
}

bool compare_has_row(const struct compare_rows *rows, const char *label)
{
    for (int i = 0; i < rows->count; i++) {
        if (strcmp(rows->rows[i].label, label) == 0) return true;
    }
    return false;
}

static enum status add_eval_rows(struct compare *compare)
{
    for (int i = 0; i < compare->num_runs; i++) {
        const struct run_history *history = &compare->histories[i];
        for (int j = 0; j < history->num_evals; j++) {
            const struct run_history_eval *eval = &history->evals[j];
            for (int k = 0; k < eval->metrics.count; k++) {
                const char *name = eval->metrics.items[k].name;
                double values[COMPARE_RUNS] = {0};
                char *label = arena_printf(&compare->arena, "%s %s", eval->split, name);
                CHECK(label, STATUS_NO_MEMORY, "out of memory for the comparison");
                if (compare_has_row(&compare->metrics, label)) continue;
                for (int run = 0; run < compare->num_runs; run++) {
                    values[run] = newest_metric(&compare->histories[run], eval->split, name);
                }
                TRY(add_numbers(compare, label, chart_is_fraction(name), values));
            }
        }
    }
    return STATUS_OK;
}

/* ---- configs ---- */

struct flat_config {
    const char *(*pairs)[2];
    int count;
};

static const char *value_of(const struct flat_config *config, const char *key)
{
    for (int i = 0; i < config->count; i++) {
        if (strcmp(config->pairs[i][0], key) == 0) return config->pairs[i][1];
    }
    return "";
}

static enum status add_config_row(struct compare *compare, const struct flat_config *configs,
                                  const char *key)
{
    const char *values[COMPARE_RUNS];
    bool equal = true;
    struct compare_row *row = NULL;
    for (int i = 0; i < compare->num_runs; i++) {
        values[i] = value_of(&configs[i], key);
        equal = equal && strcmp(values[i], values[0]) == 0;
    }
    if (equal) {
        compare->num_equal++;
        return STATUS_OK;
    }
    TRY(compare_add_row(compare, &compare->configs, key, &row));
    memcpy(row->texts, values, (size_t)compare->num_runs * sizeof *values);
    return STATUS_OK;
}

/* Configs that cannot be read leave a note instead of the table. */
static enum status compare_configs(struct compare *compare)
{
    struct flat_config configs[COMPARE_RUNS] = {0};
    for (int i = 0; i < compare->num_runs; i++) {
        char *path = arena_printf(&compare->arena, "%s/config.yaml", compare->folders[i]);
        CHECK(path, STATUS_NO_MEMORY, "out of memory for the comparison");
        if (compare_flatten(path, &compare->arena, &configs[i].pairs, &configs[i].count) !=
            STATUS_OK) {
            snprintf(compare->unread, sizeof compare->unread, "%s", status_message());
            return STATUS_OK;
        }
    }
    for (int i = 0; i < compare->num_runs; i++) {
        for (int j = 0; j < configs[i].count; j++) {
            const char *key = configs[i].pairs[j][0];
            bool seen = false;
            for (int k = 0; k < i && !seen; k++) {
                seen = value_of(&configs[k], key)[0] != '\0';
            }
            if (!seen) TRY(add_config_row(compare, configs, key));
        }
    }
    return STATUS_OK;
}

/* ---- reading ---- */

static enum status name_runs(struct compare *compare)
{
    bool twice = false;
    for (int i = 0; i < compare->num_runs; i++) {
        compare->names[i] = report_run_name(&compare->arena, compare->folders[i]);
        CHECK(compare->names[i], STATUS_NO_MEMORY, "out of memory for the comparison");
        for (int j = 0; j < i; j++) {
            twice = twice || strcmp(compare->names[i], compare->names[j]) == 0;
        }
    }
    for (int i = 0; i < compare->num_runs && twice; i++) {
        compare->names[i] = compare->folders[i];
    }
    return STATUS_OK;
}

enum status compare_read(struct compare *compare, const char *const *folders, int num_runs)
{
    *compare = (struct compare){0};
    CHECK(num_runs <= COMPARE_RUNS, STATUS_INVALID, "%d runs; at most %d can be compared", num_runs,
          COMPARE_RUNS);
    for (int i = 0; i < num_runs; i++) {
        compare->folders[i] = folders[i];
        compare->num_runs++;
        TRY(run_history_read(&compare->histories[i], folders[i]));
    }
    TRY(name_runs(compare));
    TRY(add_eval_rows(compare));
    TRY(add_series_rows(compare, "losses", "%s (training loss)"));
    TRY(add_series_rows(compare, "metrics", "%s (training)"));
    TRY(add_speed_rows(compare));
    return compare_configs(compare);
}

void compare_fini(struct compare *compare)
{
    for (int i = 0; i < compare->num_runs; i++) {
        run_history_fini(&compare->histories[i]);
    }
    arena_fini(&compare->arena);
    *compare = (struct compare){0};
}

/* ---- printing ---- */

/* Columns that a terminal needs for UTF-8 text, near enough. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++) {
        width += (*text & 0xC0) != 0x80;
    }
    return width;
}

static void print_cell(const char *text, int width, bool right)
{
    int space = width - width_of(text);
    printf("%*s%s%*s", right && space > 0 ? space : 0, "", text, !right && space > 0 ? space : 0,
           "");
}

static void print_rows(const struct compare *compare, const struct compare_rows *rows, bool right)
{
    int label = 0;
    int widths[COMPARE_RUNS];
    for (int i = 0; i < compare->num_runs; i++) {
        widths[i] = width_of(compare->names[i]);
    }
    for (int i = 0; i < rows->count; i++) {
        const struct compare_row *row = &rows->rows[i];
        if (width_of(row->label) > label) label = width_of(row->label);
        for (int j = 0; j < compare->num_runs; j++) {
            int width = width_of(row->texts[j]) + (right ? 2 : 0);
            if (width > widths[j]) widths[j] = width;
        }
    }
    print_cell("", label, false);
    for (int i = 0; i < compare->num_runs; i++) {
        printf("  ");
        print_cell(compare->names[i], widths[i], right);
    }
    for (int i = 0; i < rows->count; i++) {
        const struct compare_row *row = &rows->rows[i];
        printf("\n");
        print_cell(row->label, label, false);
        for (int j = 0; j < compare->num_runs; j++) {
            printf("%s", row->best == j ? " *" : "  ");
            print_cell(row->texts[j], widths[j], right);
        }
    }
    printf("\n");
}

void compare_print(const struct compare *compare)
{
    print_rows(compare, &compare->metrics, true);
    if (compare->unread[0]) {
        printf("\nconfigurations not compared: %s\n", compare->unread);
    } else if (compare->configs.count == 0) {
        printf("\nthe configurations are the same\n");
    } else {
        printf("\nconfigurations differ in %d keys (%d are the same):\n\n", compare->configs.count,
               compare->num_equal);
        print_rows(compare, &compare->configs, false);
    }
}
