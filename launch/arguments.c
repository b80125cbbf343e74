#include "launch/arguments.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/base/strbuf.h"

/* Takes a text of the arena; NULL: there was no memory for it. */
static void take(struct overrides *o, const char *text)
{
    enum { FIRST = 8 };
    bool full = o->count == 0 || (o->count >= FIRST && (o->count & (o->count - 1)) == 0);
    if (o->failed || !text) {
        o->failed = true;
        return;
    }
    if (full) {
        size_t room = o->count ? 2 * (size_t)o->count : FIRST;
        const char **grown = realloc(o->items, room * sizeof *grown);
        o->failed = !grown;
        if (!grown) return;
        o->items = grown;
    }
    o->items[o->count++] = text;
}

void overrides_add(struct overrides *overrides, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int length = vsnprintf(NULL, 0, format, list);
    va_end(list);
    char *copy = arena_alloc(&overrides->arena, (size_t)length + 1);
    if (copy) {
        va_start(list, format);
        vsnprintf(copy, (size_t)length + 1, format, list);
        va_end(list);
    }
    take(overrides, copy);
}

void overrides_add_text(struct overrides *overrides, const char *key, const char *text)
{
    struct strbuf quoted = {0};
    strbuf_append_json(&quoted, text, strlen(text));
    if (quoted.failed) overrides->failed = true;
    if (!quoted.failed) overrides_add(overrides, "%s=%s", key, quoted.text);
    strbuf_fini(&quoted);
}

void overrides_fini(struct overrides *overrides)
{
    free(overrides->items);
    arena_fini(&overrides->arena);
    *overrides = (struct overrides){0};
}

int command_usage(const char *usage, int option)
{
    fputs(usage, option == 'h' ? stdout : stderr);
    return option == 'h' ? 0 : COMMAND_BAD_USAGE;
}

int command_operand(int argc, char **argv, const char *usage, const struct overrides *overrides,
                    const char **operand)
{
    if (overrides->failed) return command_end(status_fail(STATUS_NO_MEMORY, "out of memory"));
    if (optind != argc - 1) return command_usage(usage, '?');
    *operand = argv[optind];
    return COMMAND_GO_ON;
}

bool command_count(const char *command, const char *option, const char *text, int most, int *count)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*text && !*end && value >= 1 && value <= most) {
        *count = (int)value;
        return true;
    }
    fprintf(stderr, "weft %s: --%s %s: expected a whole number from 1 to %d\n", command, option,
            text, most);
    return false;
}

int command_end(enum status status)
{
    if (status != STATUS_OK) log_error("%s", status_message());
    return status_exit_code(status);
}
