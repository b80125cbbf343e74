/* weft check: proves a set of shards sound, or says what is wrong and where. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/store/check.h"
#include "data/store/reseal.h"
#include "data/store/store.h"
#include "launch/command.h"
#include "launch/progress.h"

static const char usage[] =
    "usage: weft check FILE... [options]\n"
    "\n"
    "FILE... are the shards of one set: files, quoted globs, or a folder. Every row is read and\n"
    "every picture decoded: offsets, hashes, references, UTF-8, empty texts, spans inside their\n"
    "text, empty phrases, boxes in order and inside their picture, answer scores, duplicate\n"
    "pictures. Of each kind of fault the number and the first row are printed. Exit code 0: "
    "sound.\n"
    "\n"
    "      --against FILE   another set (test against train) that must share no picture with this\n"
    "                       one; may be given more than once\n"
    "      --seal           when sound: add the hashes and the seal that shards of other programs\n"
    "                       lack, so that later damage is noticed\n"
    "      --partial        do not mind missing shards\n"
    "      --no-decode      do not decode the pictures (hashes are verified all the same)\n"
    "  -j, --threads N      threads (one per CPU)\n"
    "  -q, --quiet          no progress\n";

static volatile sig_atomic_t stopped_by;

static void stop(int number)
{
    stopped_by = number;
}

enum { OPTION_AGAINST = 256, OPTION_SEAL, OPTION_PARTIAL, OPTION_NO_DECODE };

static const struct option long_options[] = {
    {"against", required_argument, NULL, OPTION_AGAINST},
    {"seal", no_argument, NULL, OPTION_SEAL},
    {"partial", no_argument, NULL, OPTION_PARTIAL},
    {"no-decode", no_argument, NULL, OPTION_NO_DECODE},
    {"threads", required_argument, NULL, 'j'},
    {"quiet", no_argument, NULL, 'q'},
    {0},
};

enum { MAX_AGAINST = 64 };

struct arguments {
    struct check_options check;
    const char *against[MAX_AGAINST];
    bool seal;
    bool quiet;
};

static enum status parse(int argc, char **argv, struct arguments *arguments)
{
    struct check_options *check = &arguments->check;
    optind = 1;
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":j:q", long_options, NULL);
        if (option == -1) break;
        switch (option) {
        case OPTION_AGAINST:
            CHECK(check->num_against < MAX_AGAINST, STATUS_INVALID,
                  "--against may be given %d times; use a glob", MAX_AGAINST);
            arguments->against[check->num_against++] = optarg;
            break;
        case OPTION_SEAL:
            arguments->seal = true;
            break;
        case OPTION_PARTIAL:
            check->partial = true;
            break;
        case OPTION_NO_DECODE:
            check->no_decode = true;
            break;
        case 'j':
            check->num_threads = atoi(optarg);
            CHECK(check->num_threads >= 1 && check->num_threads <= 1024, STATUS_INVALID,
                  "--threads %s: must be a whole number from 1 to 1024", optarg);
            break;
        case 'q':
            arguments->quiet = true;
            break;
        case ':':
            return status_fail(STATUS_INVALID, "%s needs a value", argv[optind - 1]);
        default:
            return status_fail(STATUS_INVALID, "no option %s; see `weft help check`",
                               argv[optind - 1]);
        }
    }
    check->against = arguments->against;
    check->files = (const char *const *)argv + optind;
    check->num_files = argc - optind;
    CHECK(check->num_files > 0, STATUS_INVALID, "which files? see `weft help check`");
    return STATUS_OK;
}

static void show_progress(void *user, int64_t done, int64_t total)
{
    progress_show(user, done, total, NULL);
}

static void print_findings(const struct findings *findings, bool errors)
{
    for (int i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->list[i];
        char text[32];
        if (finding->is_error != errors) continue;
        printf("%s: %s: %s, first: %s\n", errors ? "error" : "note", finding->kind,
               number_text(finding->count, text, sizeof text), finding->first);
    }
}

static enum status seal_files(const struct check_options *check)
{
    const struct store_options options = {.partial = true, .unverified = true};
    struct store *store = NULL;
    TRY(store_open(&store, check->files, check->num_files, &options));
    enum status status = STATUS_OK;
    for (int i = 0; i < store_num_shards(store) && status == STATUS_OK; i++) {
        bool sealed = false;
        status = reseal(store_shard_path(store, i), &sealed);
        if (status == STATUS_OK) {
            printf("%s: %s\n", store_shard_path(store, i), sealed ? "sealed" : "was sealed");
        }
    }
    store_close(&store);
    return status;
}

static void print_sound(const struct check_options *check, double seconds)
{
    const struct store_options options = {.partial = check->partial, .unverified = true};
    struct store *store = NULL;
    char text[4][32];
    if (store_open(&store, check->files, check->num_files, &options) != STATUS_OK) return;
    printf("sound: %s images, %s texts, %s boxes, %s answers in %d shard%s (%.1f s)\n",
           number_text(store_num_images(store), text[0], sizeof text[0]),
           number_text(store_num_texts(store), text[1], sizeof text[1]),
           number_text(store_num_boxes(store), text[2], sizeof text[2]),
           number_text(store_num_answers(store), text[3], sizeof text[3]), store_num_shards(store),
           store_num_shards(store) == 1 ? "" : "s", seconds);
    store_close(&store);
}

static int fail(enum status status)
{
    fprintf(stderr, "weft check: %s\n", status_message());
    return status == STATUS_CANCELLED ? 128 + (int)stopped_by : status_exit_code(status);
}

static int check(struct arguments *arguments, struct findings *findings)
{
    struct progress progress;
    progress_start(&progress, "checking", "images");
    if (!arguments->quiet) arguments->check.progress = show_progress;
    arguments->check.user = &progress;
    enum status status = check_run(&arguments->check, findings);
    progress_clear(&progress);
    if (status != STATUS_OK) return fail(status);
    print_findings(findings, false);
    print_findings(findings, true);
    int errors = findings_errors(findings);
    if (errors) {
        printf("not sound: %d kind%s of errors\n", errors, errors == 1 ? "" : "s");
        return 1;
    }
    if (arguments->seal) {
        status = seal_files(&arguments->check);
        if (status != STATUS_OK) return fail(status);
    }
    print_sound(&arguments->check, progress_seconds(&progress));
    return 0;
}

static int run(int argc, char **argv)
{
    struct arguments arguments = {.check.stop = &stopped_by};
    enum status status = parse(argc, argv, &arguments);
    if (status != STATUS_OK) return fail(status);
    struct sigaction action = {.sa_handler = stop, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct findings *findings = malloc(sizeof *findings);
    if (!findings) return fail(status_fail(STATUS_NO_MEMORY, "out of memory"));
    findings_init(findings);
    int code = check(&arguments, findings);
    findings_fini(findings);
    free(findings);
    return code;
}

const struct command command_check = {
    .name = "check",
    .summary = "prove that shards are sound, or name what is wrong",
    .usage = usage,
    .run = run,
};
