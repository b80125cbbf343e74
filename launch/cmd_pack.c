/* weft pack: foreign data into a set of shards. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/import/import.h"
#include "data/store/pack.h"
#include "launch/command.h"
#include "launch/progress.h"
#include "runtime/base/strbuf.h"

static const char usage[] =
    "usage: weft pack FORMAT SRC... -o NAME-%05d.h5 [options]\n"
    "       weft pack                  lists the formats\n"
    "       weft pack FORMAT --help    tells what SRC is and the options of one format\n"
    "\n"
    "Packs images, captions, boxes, questions and answers into a set of HDF5 shards\n"
    "(docs/data-format.md). Every picture is decoded once to prove it sound. A run that was\n"
    "stopped, by Ctrl-C, a kill or a full disk, goes on where it was with the same command.\n"
    "\n"
    "  -o, --output NAME-%05d.h5  the shards; %05d becomes the shard's number\n"
    "      --shard-size N         items a shard (10000)\n"
    "      --on-bad fail          stop at the first bad item (the default)\n"
    "               skip          leave out what is bad, name it, go on\n"
    "               report        read everything, name all that is bad, write nothing\n"
    "      --max-side N           make pictures with a longer side smaller: JPEG and WebP become\n"
    "                             JPEG, PNG stays PNG; EXIF data is not carried over\n"
    "      --quality N            of JPEGs made so, 1 to 100 (92)\n"
    "      --background COLOUR    lay transparent pictures on white, black or RRGGBB and store "
    "them\n"
    "                             opaque, as PNG; otherwise decoding drops their transparency\n"
    "  -j, --threads N            threads (one per CPU)\n"
    "      --overwrite            replace shards that are there\n"
    "  -q, --quiet                no progress\n";

static volatile sig_atomic_t stopped_by;

static void stop(int number)
{
    stopped_by = number;
}

/* The second signal of a kind ends the program at once. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = stop, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    /* A file size limit is then an error of the write, like a full disk. */
    signal(SIGXFSZ, SIG_IGN);
}

static void list_formats(FILE *out)
{
    fputs("formats:\n", out);
    for (int i = 0; importers[i]; i++) {
        fprintf(out, "  %-14s %s\n", importers[i]->name, importers[i]->summary);
    }
    fputs("`weft pack FORMAT --help` tells what SRC is and the options of one format.\n", out);
}

static void help_format(const struct importer *importer)
{
    printf("usage: weft pack %s SRC... -o NAME-%%05d.h5 [options]\n\n%s\n", importer->name,
           importer->usage);
    if (importer->options) puts("\noptions of this format:");
    for (int i = 0; importer->options && importer->options[i].name; i++) {
        const struct import_option *option = &importer->options[i];
        printf("  --%-16s %s", option->name, option->help);
        if (option->value) printf(" (%s)", option->value);
        putchar('\n');
    }
    puts("\n`weft help pack` tells the options that all formats have.");
}

/* ---- arguments ---- */

enum { MAX_IMPORT_OPTIONS = 64, FIRST_IMPORT_OPTION = 1000 };

enum {
    OPTION_SHARD_SIZE = 256,
    OPTION_ON_BAD,
    OPTION_MAX_SIDE,
    OPTION_QUALITY,
    OPTION_BACKGROUND,
    OPTION_OVERWRITE,
    OPTION_HELP
};

static const struct option own_options[] = {
    {"output", required_argument, NULL, 'o'},
    {"shard-size", required_argument, NULL, OPTION_SHARD_SIZE},
    {"on-bad", required_argument, NULL, OPTION_ON_BAD},
    {"max-side", required_argument, NULL, OPTION_MAX_SIDE},
    {"quality", required_argument, NULL, OPTION_QUALITY},
    {"background", required_argument, NULL, OPTION_BACKGROUND},
    {"threads", required_argument, NULL, 'j'},
    {"overwrite", no_argument, NULL, OPTION_OVERWRITE},
    {"quiet", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, OPTION_HELP},
};
enum { NUM_OWN = sizeof own_options / sizeof own_options[0] };

struct arguments {
    struct pack_options pack;
    const char *values[MAX_IMPORT_OPTIONS];
    bool quiet;
    bool help;
};

static enum status parse_number(const char *name, const char *text, int64_t least, int64_t most,
                                int64_t *number)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    CHECK(end != text && *end == '\0' && errno == 0 && value >= least && value <= most,
          STATUS_INVALID, "%s %s: must be a whole number from %lld to %lld", name, text,
          (long long)least, (long long)most);
    *number = value;
    return STATUS_OK;
}

static enum status parse_on_bad(const char *text, enum pack_on_bad *on_bad)
{
    static const char *const names[] = {"fail", "skip", "report"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(names[i], text) == 0) {
            *on_bad = (enum pack_on_bad)i;
            return STATUS_OK;
        }
    }
    return status_fail(STATUS_INVALID, "--on-bad %s: must be fail, skip or report", text);
}

static enum status parse_colour(const char *text, uint8_t rgb[3])
{
    const char *digits = strcmp(text, "white") == 0   ? "ffffff"
                         : strcmp(text, "black") == 0 ? "000000"
                                                      : text;
    CHECK(strlen(digits) == 6 && strspn(digits, "0123456789abcdefABCDEF") == 6, STATUS_INVALID,
          "--background %s: must be white, black or six hexadecimal digits RRGGBB", text);
    unsigned long value = strtoul(digits, NULL, 16);
    for (int c = 0; c < 3; c++) {
        rgb[c] = (uint8_t)(value >> (16 - 8 * c));
    }
    return STATUS_OK;
}

static enum status parse_option(struct arguments *arguments, int option, const char *value)
{
    struct pack_options *pack = &arguments->pack;
    int64_t number = 0;
    switch (option) {
    case 'o':
        pack->output = value;
        return STATUS_OK;
    case OPTION_SHARD_SIZE:
        return parse_number("--shard-size", value, 1, 1000000000, &pack->shard_size);
    case OPTION_ON_BAD:
        return parse_on_bad(value, &pack->on_bad);
    case OPTION_MAX_SIDE:
        return parse_number("--max-side", value, 1, 100000, &pack->max_side);
    case OPTION_QUALITY:
        TRY(parse_number("--quality", value, 1, 100, &number));
        pack->quality = (int)number;
        return STATUS_OK;
    case OPTION_BACKGROUND:
        pack->flatten = true;
        return parse_colour(value, pack->background);
    case 'j':
        TRY(parse_number("--threads", value, 1, 1024, &number));
        pack->num_threads = (int)number;
        return STATUS_OK;
    case OPTION_OVERWRITE:
        pack->overwrite = true;
        return STATUS_OK;
    case 'q':
        arguments->quiet = true;
        return STATUS_OK;
    case OPTION_HELP:
        arguments->help = true;
        return STATUS_OK;
    default:
        if (option >= FIRST_IMPORT_OPTION) {
            arguments->values[option - FIRST_IMPORT_OPTION] = value;
            return STATUS_OK;
        }
        return STATUS_INVALID;
    }
}

/* getopt has printed nothing yet: its messages do not know the format. */
static enum status refuse_option(const struct option *options, const char *word, int code)
{
    const char *names[NUM_OWN + MAX_IMPORT_OPTIONS];
    int count = 0;
    for (; options[count].name; count++) {
        names[count] = options[count].name;
    }
    CHECK(code != ':', STATUS_INVALID, "%s needs a value", word);
    const char *name = strncmp(word, "--", 2) == 0 ? word + 2 : word;
    const char *nearest = string_nearest(name, names, count);
    return status_fail(STATUS_INVALID, "no option %s%s%s%s", word,
                       nearest ? "; did you mean --" : "", nearest ? nearest : "",
                       nearest ? "?" : "");
}

static enum status parse(int argc, char **argv, const struct importer *importer,
                         struct arguments *arguments)
{
    struct option options[NUM_OWN + MAX_IMPORT_OPTIONS + 1] = {0};
    memcpy(options, own_options, sizeof own_options);
    const struct import_option *extra = importer->options;
    for (int i = 0; extra && extra[i].name && i < MAX_IMPORT_OPTIONS; i++) {
        options[NUM_OWN + i] =
            (struct option){extra[i].name, required_argument, NULL, FIRST_IMPORT_OPTION + i};
        arguments->values[i] = extra[i].value;
    }
    optind = 1;
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":o:j:q", options, NULL);
        if (option == -1) break;
        if (option == '?' || option == ':') {
            return refuse_option(options, argv[optind - 1], option);
        }
        TRY(parse_option(arguments, option, optarg));
    }
    struct pack_options *pack = &arguments->pack;
    pack->args = (struct import_args){.sources = (const char *const *)argv + optind,
                                      .num_sources = argc - optind,
                                      .options = importer->options,
                                      .values = arguments->values};
    if (arguments->help) return STATUS_OK;
    CHECK(pack->args.num_sources >= importer->min_sources, STATUS_INVALID,
          "%s needs at least %d SRC; `weft pack %s --help` tells what it is", importer->name,
          importer->min_sources, importer->name);
    CHECK(importer->max_sources < 0 || pack->args.num_sources <= importer->max_sources,
          STATUS_INVALID, "%s takes at most %d SRC, and %d were given", importer->name,
          importer->max_sources, pack->args.num_sources);
    CHECK(pack->output || pack->on_bad == PACK_REPORT, STATUS_INVALID,
          "-o NAME-%%05d.h5 is missing: where do the shards go?");
    if (!pack->output) pack->output = "report-%05d.h5"; /* names nothing that is written */
    return STATUS_OK;
}

/* ---- showing ---- */

struct display {
    struct progress progress;
    bool quiet;
};

static void show_progress(void *user, const struct pack_totals *totals)
{
    struct display *display = user;
    if (display->quiet) return;
    char note[64] = "";
    int64_t bad = totals->bad_items + totals->bad_parts;
    if (bad > 0) snprintf(note, sizeof note, "%lld bad", (long long)bad);
    progress_show(&display->progress, totals->items, totals->num_items, note);
}

static void show_bad(void *user, const char *message)
{
    struct display *display = user;
    progress_clear(&display->progress);
    fprintf(stderr, "bad: %s\n", message);
}

static void show_totals(const struct arguments *arguments, const struct pack_totals *totals,
                        double seconds)
{
    char text[5][32];
    bool report = arguments->pack.on_bad == PACK_REPORT;
    printf("%s %s images (%s), %s texts, %s boxes, %s answers", report ? "found" : "packed",
           number_text(totals->images, text[0], sizeof text[0]),
           bytes_text(totals->bytes, text[1], sizeof text[1]),
           number_text(totals->texts, text[2], sizeof text[2]),
           number_text(totals->boxes, text[3], sizeof text[3]),
           number_text(totals->answers, text[4], sizeof text[4]));
    if (!report) {
        printf(" into %lld shard%s", (long long)totals->shards_written,
               totals->shards_written == 1 ? "" : "s");
    }
    printf(" in %.1f s\n", seconds);
    if (totals->shards_kept) {
        printf("kept %lld shards that an earlier run had finished\n",
               (long long)totals->shards_kept);
    }
    if (totals->transparent) {
        printf("note: %lld pictures have an alpha channel, which decoding drops; to lay them on a "
               "colour instead, pack with --background white\n",
               (long long)totals->transparent);
    }
    if (totals->bad_items + totals->bad_parts) {
        printf("bad: %lld items and %lld parts of items%s\n", (long long)totals->bad_items,
               (long long)totals->bad_parts, report ? "" : ", left out");
    }
}

static int pack(struct arguments *arguments)
{
    struct display display = {.quiet = arguments->quiet};
    struct pack_totals totals;
    progress_start(&display.progress, "packing", "items");
    arguments->pack.progress = show_progress;
    arguments->pack.bad = show_bad;
    arguments->pack.user = &display;
    arguments->pack.stop = &stopped_by;
    catch_signals();
    enum status status = pack_run(&arguments->pack, &totals);
    progress_clear(&display.progress);
    if (status != STATUS_OK) {
        fprintf(stderr, "weft pack: %s\n", status_message());
        return status == STATUS_CANCELLED ? 128 + (int)stopped_by : status_exit_code(status);
    }
    show_totals(arguments, &totals, progress_seconds(&display.progress));
    bool found_bad = totals.bad_items + totals.bad_parts > 0;
    return arguments->pack.on_bad == PACK_REPORT && found_bad ? 1 : 0;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        list_formats(stdout);
        return 0;
    }
    const struct importer *importer = NULL;
    struct arguments arguments = {.pack = {.shard_size = 10000, .quality = 92}};
    enum status status = importer_find(argv[1], &importer);
    if (status == STATUS_OK) {
        arguments.pack.importer = importer;
        status = parse(argc - 1, argv + 1, importer, &arguments);
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "weft pack: %s\n", status_message());
        return 2;
    }
    if (arguments.help) {
        help_format(importer);
        return 0;
    }
    return pack(&arguments);
}

const struct command command_pack = {
    .name = "pack",
    .summary = "pack images, captions, boxes and questions into HDF5 shards",
    .usage = usage,
    .run = run,
};
