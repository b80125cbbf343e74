/*
 * The file: a line that says what it is, the identity, a line for each choice (key, microseconds,
 * algorithm in hexadecimal, tabs between), and a checksum of all that. It is written beside its
 * place and renamed, under a name of this process, so that several may do so at once: the last one
 * stays, and what it lacks is timed again some day.
 */
#include "runtime/backend/cuda/tuning.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "runtime/base/file_io.h"
#include "runtime/base/log.h"
#include "runtime/base/strbuf.h"
#include "runtime/comm/comm.h"

static const char first_line[] = "weft: algorithms of cuBLASLt, 1\n";

enum { MOST_BYTES = 16 << 20 };

#define OUT_OF_MEMORY status_fail(STATUS_NO_MEMORY, "tuning: out of memory")

bool tuning_is_on(void)
{
    const char *wish = getenv("WEFT_CUDA_TUNING");
    return !wish || strcmp(wish, "off") != 0;
}

/* ---- the place ---- */

static enum status choose_path(struct tuning *t)
{
    const char *wish = getenv("WEFT_CUDA_TUNING");
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    struct strbuf path = {0};
    if (wish && *wish) {
        strbuf_append(&path, wish);
    } else if (cache && *cache) {
        strbuf_append(&path, cache);
    } else if (home && *home) {
        strbuf_printf(&path, "%s/.cache", home);
    } else {
        return STATUS_OK;
    }
    if (!wish || !*wish) {
        uint64_t hash = XXH3_64bits(t->identity, strlen(t->identity));
        strbuf_printf(&path, "/weft/cublaslt-%016llx.txt", (unsigned long long)hash);
    }
    if (!path.failed) t->path = strdup(path.text);
    strbuf_fini(&path);
    return t->path ? STATUS_OK : OUT_OF_MEMORY;
}

/* mkdir -p of what holds the file. */
static enum status make_folder(const char *path)
{
    char *part = strdup(path);
    if (!part) return OUT_OF_MEMORY;
    enum status status = STATUS_OK;
    for (char *at = strchr(part + 1, '/'); at && status == STATUS_OK; at = strchr(at + 1, '/')) {
        *at = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            status =
                status_fail(STATUS_IO, "%s: cannot make the folder: %s", part, strerror(errno));
        }
        *at = '/';
    }
    free(part);
    return status;
}

/* ---- reading ---- */

/* Takes a line that ends with \n; NULL when there is none. */
static char *take_line(char **text)
{
    char *line = *text;
    char *end = strchr(line, '\n');
    if (!end) return NULL;
    *end = '\0';
    *text = end + 1;
    return line;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_algorithm(const char *text, uint8_t *bytes)
{
    if (strlen(text) != (size_t)2 * TUNING_ALGORITHM) return false;
    for (int i = 0; i < TUNING_ALGORITHM; i++) {
        int high = hex_digit(text[2 * i]);
        int low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        bytes[i] = (uint8_t)(16 * high + low);
    }
    return true;
}

static bool read_choice(char *line, struct tuning_choice *choice)
{
    char *seconds = strchr(line, '\t');
    char *algorithm = seconds ? strchr(seconds + 1, '\t') : NULL;
    if (!algorithm) return false;
    *seconds++ = '\0';
    *algorithm++ = '\0';
    *choice = (struct tuning_choice){.microseconds = strtod(seconds, NULL)};
    if (strlen(line) >= TUNING_KEY || !(choice->microseconds > 0)) return false;
    memcpy(choice->key, line, strlen(line) + 1);
    return read_algorithm(algorithm, choice->algorithm);
}

/* Splits off the last line, which must be the checksum of what is before it. */
static bool is_whole(char *text, size_t size)
{
    unsigned long long stored = 0;
    char *last = size > 0 && text[size - 1] == '\n' ? memrchr(text, '\n', size - 1) : NULL;
    if (!last || strlen(text) != size || sscanf(last + 1, "checksum %llx", &stored) != 1) {
        return false;
    }
    last[1] = '\0';
    return XXH3_64bits(text, (size_t)(last + 1 - text)) == stored;
}

static enum status parse(struct tuning *t, char *text, size_t size, const char **why)
{
    *why = "it is damaged";
    if (!is_whole(text, size)) return STATUS_OK;
    *why = "it is something else";
    if (strncmp(text, first_line, strlen(first_line)) != 0) return STATUS_OK;
    char *begin = text + strlen(first_line);
    const char *identity = take_line(&begin);
    *why = "it is of another GPU, driver or cuBLASLt";
    if (!identity || strcmp(identity, t->identity) != 0) return STATUS_OK;
    *why = "it is damaged";
    for (char *line; (line = take_line(&begin));) {
        struct tuning_choice choice;
        if (!read_choice(line, &choice)) return STATUS_OK;
        TRY(tuning_put(t, &choice));
    }
    *why = NULL;
    return STATUS_OK;
}

/* The whole file, with a 0 behind it; NULL with *why when it cannot be read. */
static char *read_whole(int file, const char *path, size_t *size, const char **why)
{
    struct stat info;
    *why = "it is no file";
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) return NULL;
    *why = "it is too large";
    if (info.st_size > MOST_BYTES) return NULL;
    char *text = calloc(1, (size_t)info.st_size + 1);
    *why = "it cannot be read";
    *size = (size_t)info.st_size;
    if (text && file_read_at(file, path, text, info.st_size, 0) == STATUS_OK) return text;
    free(text);
    return NULL;
}

enum status tuning_open(struct tuning *t, const char *identity)
{
    const char *why = NULL;
    size_t size = 0;
    *t = (struct tuning){0};
    snprintf(t->identity, sizeof t->identity, "%s", identity);
    TRY(choose_path(t));
    int file = t->path ? open(t->path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return STATUS_OK;
    char *text = read_whole(file, t->path, &size, &why);
    close(file);
    enum status status = text ? parse(t, text, size, &why) : STATUS_OK;
    free(text);
    if (why) {
        t->count = 0;
        log_warning("%s: holds no algorithms for this GPU (%s); products are timed anew", t->path,
                    why);
    }
    t->changed = false;
    return status;
}

void tuning_close(struct tuning *t)
{
    free(t->path);
    free(t->choices);
    *t = (struct tuning){0};
}

/* ---- choices ---- */

static int index_of(const struct tuning *t, const char *key)
{
    for (int i = 0; i < t->count; i++) {
        if (strcmp(t->choices[i].key, key) == 0) return i;
    }
    return -1;
}

const struct tuning_choice *tuning_find(const struct tuning *t, const char *key)
{
    int i = index_of(t, key);
    return i < 0 ? NULL : &t->choices[i];
}

enum status tuning_put(struct tuning *t, const struct tuning_choice *choice)
{
    int i = index_of(t, choice->key);
    if (i < 0 && t->count == t->capacity) {
        int capacity = t->capacity ? 2 * t->capacity : 64;
        struct tuning_choice *more = realloc(t->choices, (size_t)capacity * sizeof *more);
        if (!more) return OUT_OF_MEMORY;
        t->choices = more;
        t->capacity = capacity;
    }
    t->choices[i < 0 ? t->count++ : i] = *choice;
    if (choice->microseconds > 0) t->changed = true;
    return STATUS_OK;
}

/* ---- writing ---- */

static void print(const struct tuning *t, struct strbuf *text)
{
    strbuf_printf(text, "%s%s\n", first_line, t->identity);
    for (int i = 0; i < t->count; i++) {
        const struct tuning_choice *choice = &t->choices[i];
        if (!(choice->microseconds > 0)) continue;
        strbuf_printf(text, "%s\t%.3f\t", choice->key, choice->microseconds);
        for (int k = 0; k < TUNING_ALGORITHM; k++) {
            strbuf_printf(text, "%02x", choice->algorithm[k]);
        }
        strbuf_append(text, "\n");
    }
    if (text->failed) return;
    strbuf_printf(text, "checksum %016llx\n",
                  (unsigned long long)XXH3_64bits(text->text, text->length));
}

static enum status write_file(const struct tuning *t)
{
    struct strbuf text = {0};
    struct strbuf own = {0};
    print(t, &text);
    strbuf_printf(&own, "%s.%ld", t->path, (long)getpid());
    enum status status = text.failed || own.failed ? OUT_OF_MEMORY : make_folder(t->path);
    if (status == STATUS_OK) {
        status = file_replace(own.text, text.text, (int64_t)text.length);
        if (status == STATUS_OK) status = file_rename(own.text, t->path);
        if (status != STATUS_OK) unlink(own.text);
    }
    strbuf_fini(&text);
    strbuf_fini(&own);
    return status;
}

void tuning_save(struct tuning *t)
{
    if (!t->changed || !t->path) return;
    t->changed = false;
    if (write_file(t) == STATUS_OK) return;
    log_warning("%s; products are timed again in the next run (WEFT_CUDA_TUNING names another "
                "file)",
                status_message());
    free(t->path);
    t->path = NULL;
}

/* ---- several ranks ---- */

enum status tuning_share(struct tuning *t, struct comm *comm, bool *shared)
{
    struct comm_agreed identity;
    /* 48 bits: the sign and the order of what is compared do not matter. */
    int64_t hash = (int64_t)(XXH3_64bits(t->identity, strlen(t->identity)) >> 16);
    TRY(comm_agree(comm, "GPUs", hash, &identity));
    *shared = identity.min == identity.max;
    if (!*shared) {
        if (comm->rank == 0) {
            log_warning("the ranks' GPUs, drivers or libraries differ: each rank chooses "
                        "algorithms for itself, and the same product may have other last bits on "
                        "another rank");
        }
        return STATUS_OK;
    }
    int64_t count = t->count;
    TRY(comm_broadcast(comm, "algorithms", &count, 1, COMM_I64, 0));
    struct tuning_choice *choices = calloc((size_t)count + 1, sizeof *choices);
    enum status status = choices ? STATUS_OK : OUT_OF_MEMORY;
    TRY_GOTO(status, comm_agree_status(comm, "algorithms", status), done);
    if (comm->rank == 0) memcpy(choices, t->choices, (size_t)count * sizeof *choices);
    TRY_GOTO(
        status,
        comm_broadcast(comm, "algorithms", choices, count * (int64_t)sizeof *choices, COMM_U8, 0),
        done);
    for (int64_t i = 0; i < count && comm->rank > 0 && status == STATUS_OK; i++) {
        status = tuning_put(t, &choices[i]);
    }
done:
    free(choices);
    return status;
}
