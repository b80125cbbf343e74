/* weft inspect: what is inside a set of shards, as text and as a contact sheet. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/store/sheet.h"
#include "data/store/store.h"
#include "data/store/store_impl.h"
#include "data/store/summary.h"
#include "launch/command.h"
#include "launch/inspect_batch.h"
#include "launch/progress.h"

static const char usage[] =
    "usage: weft inspect FILE... [options]\n"
    "       weft inspect --batch STEP --config C [--ranks N --rank R --micro M] [--html OUT]\n"
    "\n"
    "FILE... are the shards of one set: files, quoted globs, or a folder. Prints what is inside.\n"
    "\n"
    "      --rows N       also print the first N images with all that belongs to them (2)\n"
    "      --first I      begin with image I, for --rows and --html; the sheet then shows images\n"
    "                     from there on in place of some spread over the set\n"
    "      --shards       list the shards\n"
    "      --categories   list all categories with their number of boxes\n"
    "      --html OUT     write a contact sheet: one HTML file with pictures, captions and boxes\n"
    "      --count N      pictures on the contact sheet (60)\n"
    "      --side N       longest side of a picture on it, in pixels (320)\n"
    "\n"
    "With --batch: the pixels, tokens, masks, labels and boxes of one micro-batch of a training\n"
    "run, exactly as the model gets them, with a hash of each sample.\n"
    "\n"
    "      --batch NUMBER which micro-batch, from 0; with A of them to a step, step s begins at "
    "s*A\n"
    "      --config C     the run's config\n"
    "      --set K=V      overrides a key of it; may be repeated\n"
    "      --ranks N      of a run on N ranks (1)\n"
    "      --rank R       the part of rank R (0)\n"
    "      --micro M      micro-batch M of a step that accumulates (0)\n";

enum {
    OPTION_ROWS = 256,
    OPTION_FIRST,
    OPTION_SHARDS,
    OPTION_CATEGORIES,
    OPTION_HTML,
    OPTION_COUNT,
    OPTION_SIDE,
    OPTION_BATCH,
    OPTION_CONFIG,
    OPTION_SET,
    OPTION_RANKS,
    OPTION_RANK,
    OPTION_MICRO
};

static const struct option long_options[] = {
    {"rows", required_argument, NULL, OPTION_ROWS},
    {"first", required_argument, NULL, OPTION_FIRST},
    {"shards", no_argument, NULL, OPTION_SHARDS},
    {"categories", no_argument, NULL, OPTION_CATEGORIES},
    {"html", required_argument, NULL, OPTION_HTML},
    {"count", required_argument, NULL, OPTION_COUNT},
    {"side", required_argument, NULL, OPTION_SIDE},
    {"batch", required_argument, NULL, OPTION_BATCH},
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"set", required_argument, NULL, OPTION_SET},
    {"ranks", required_argument, NULL, OPTION_RANKS},
    {"rank", required_argument, NULL, OPTION_RANK},
    {"micro", required_argument, NULL, OPTION_MICRO},
    {0},
};

struct arguments {
    const char *const *files;
    int num_files;
    int64_t rows;
    int64_t first; /* -1: not given */
    bool shards;
    bool categories;
    const char *html;
    int64_t count;
    int64_t side;
    bool shows_set;             /* an option was given that speaks of a set */
    struct inspect_batch batch; /* step -1: not asked for */
};

static enum status parse_number(const char *name, const char *text, int64_t least, int64_t *number)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    CHECK(end != text && *end == '\0' && errno == 0 && value >= least && value <= 1000000000000,
          STATUS_INVALID, "%s %s: must be a whole number, at least %lld", name, text,
          (long long)least);
    *number = value;
    return STATUS_OK;
}

static enum status parse_batch_option(struct inspect_batch *batch, int option)
{
    switch (option) {
    case OPTION_BATCH:
        return parse_number("--batch", optarg, 0, &batch->step);
    case OPTION_MICRO:
        return parse_number("--micro", optarg, 0, &batch->micro);
    case OPTION_RANKS:
        TRY(parse_number("--ranks", optarg, 1, &batch->ranks));
        CHECK(batch->ranks <= 1 << 24, STATUS_INVALID, "--ranks %s: too many", optarg);
        return STATUS_OK;
    case OPTION_RANK:
        return parse_number("--rank", optarg, 0, &batch->rank);
    case OPTION_SET:
        CHECK(batch->num_overrides < INSPECT_MAX_OVERRIDES, STATUS_INVALID,
              "--set %s: at most %d of them", optarg, INSPECT_MAX_OVERRIDES);
        batch->overrides[batch->num_overrides++] = optarg;
        return STATUS_OK;
    default:
        batch->config = optarg;
        return STATUS_OK;
    }
}

static enum status parse_option(struct arguments *arguments, int option)
{
    if (option >= OPTION_BATCH) return parse_batch_option(&arguments->batch, option);
    if (option != OPTION_HTML) arguments->shows_set = true;
    switch (option) {
    case OPTION_ROWS:
        return parse_number("--rows", optarg, 0, &arguments->rows);
    case OPTION_FIRST:
        return parse_number("--first", optarg, 0, &arguments->first);
    case OPTION_COUNT:
        return parse_number("--count", optarg, 1, &arguments->count);
    case OPTION_SIDE:
        TRY(parse_number("--side", optarg, 16, &arguments->side));
        CHECK(arguments->side <= 10000, STATUS_INVALID, "--side %s: must be at most 10000", optarg);
        return STATUS_OK;
    case OPTION_SHARDS:
        arguments->shards = true;
        return STATUS_OK;
    case OPTION_CATEGORIES:
        arguments->categories = true;
        return STATUS_OK;
    default:
        arguments->html = optarg;
        return STATUS_OK;
    }
}

static enum status parse(int argc, char **argv, struct arguments *arguments)
{
    optind = 1;
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":", long_options, NULL);
        if (option == -1) break;
        CHECK(option != ':', STATUS_INVALID, "%s needs a value", argv[optind - 1]);
        CHECK(option != '?', STATUS_INVALID, "no option %s; see `weft help inspect`",
              argv[optind - 1]);
        TRY(parse_option(arguments, option));
    }
    arguments->files = (const char *const *)argv + optind;
    arguments->num_files = argc - optind;
    struct inspect_batch *batch = &arguments->batch;
    batch->html = arguments->html;
    if (batch->step >= 0) {
        CHECK(batch->config, STATUS_INVALID, "--batch needs the run's config: --config C");
        CHECK(arguments->num_files == 0 && !arguments->shows_set, STATUS_INVALID,
              "--batch takes its sets from the config; leave %s out",
              arguments->num_files ? arguments->files[0] : "the options for files");
        CHECK(batch->rank < batch->ranks, STATUS_INVALID, "--rank %lld: there are ranks 0 to %lld",
              (long long)batch->rank, (long long)batch->ranks - 1);
        return STATUS_OK;
    }
    CHECK(!batch->config && !batch->num_overrides && batch->ranks == 1 && batch->rank == 0 &&
              batch->micro == 0,
          STATUS_INVALID, "--config, --set, --ranks, --rank and --micro go with --batch STEP");
    CHECK(arguments->num_files > 0, STATUS_INVALID, "which files? see `weft help inspect`");
    return STATUS_OK;
}

/* ---- the set ---- */

static void print_head(const struct store *store, const struct summary *summary)
{
    const struct shard_info *info = &store->shards[0].info;
    char text[32];
    printf("set %s, %d shard%s", info->set[0] ? info->set : "without a name",
           store_num_shards(store), store_num_shards(store) == 1 ? "" : "s");
    if (store_num_shards(store) < info->shards) printf(" of %lld", (long long)info->shards);
    printf(", %s", summary->num_sealed == store_num_shards(store) ? "sealed"
                   : summary->num_sealed                          ? "partly sealed"
                                                                  : "not sealed");
    if (info->origin[0]) printf(", made by %s", info->origin);
    putchar('\n');
    if (summary->num_skipped) {
        printf("  left out    %s bad items or parts at packing\n",
               number_text(summary->num_skipped, text, sizeof text));
    }
}

static void print_images(const struct store *store, const struct summary *summary)
{
    char text[3][32];
    int64_t images = store_num_images(store);
    printf("  images      %-12s", number_text(images, text[0], sizeof text[0]));
    if (images) {
        printf(" %s, %s each", bytes_text(summary->image_bytes, text[1], sizeof text[1]),
               bytes_text(summary->image_bytes / images, text[2], sizeof text[2]));
    }
    for (int i = 0; i <= IMAGE_WEBP; i++) {
        if (!summary->num_format[i]) continue;
        printf(", %.3g %% %s",
               100.0 * (double)summary->num_format[i] / (double)summary->num_looked_at,
               image_format_name((enum image_format)i));
    }
    if (summary->num_sized) {
        printf(", %d x %d to %d x %d pixels", summary->least_side[0], summary->least_side[1],
               summary->most_side[0], summary->most_side[1]);
    }
    putchar('\n');
}

static void print_texts(const struct store *store, const struct summary *summary)
{
    char text[32];
    int64_t texts = store_num_texts(store);
    printf("  texts       %-12s", number_text(texts, text, sizeof text));
    if (texts) {
        printf(" %lld to %lld bytes, %.1f each", (long long)summary->least_text,
               (long long)summary->most_text, (double)summary->text_bytes / (double)texts);
    }
    putchar('\n');
    for (int i = 0; i < TEXT_NUM_KINDS; i++) {
        if (!summary->num_kind[i]) continue;
        printf("    %-9s %-12s", text_kind_name((enum text_kind)i),
               number_text(summary->num_kind[i], text, sizeof text));
        if (i == TEXT_STATEMENT) {
            printf(" true %lld, false %lld", (long long)summary->num_label[1],
                   (long long)summary->num_label[0]);
            if (summary->num_pairs) printf(", of pairs %lld", (long long)summary->num_pairs);
        }
        putchar('\n');
    }
    if (summary->num_text_keys) {
        printf("    keys      %-12s different\n",
               number_text(summary->num_text_keys, text, sizeof text));
    }
}

static void print_boxes(const struct store *store, const struct summary *summary)
{
    char text[32];
    if (store_num_boxes(store)) {
        printf("  boxes       %-12s %lld with a text, %lld crowd, %lld spans\n",
               number_text(store_num_boxes(store), text, sizeof text),
               (long long)summary->num_boxes_with_text, (long long)summary->num_crowd,
               (long long)summary->num_spans);
    }
    if (store_num_answers(store)) {
        printf("  answers     %s\n", number_text(store_num_answers(store), text, sizeof text));
    }
}

static void print_categories(const struct store *store, const struct summary *summary, bool all)
{
    enum { TOP = 8 };
    int64_t order[TOP];
    if (store_num_categories(store) == 0) return;
    int64_t top = summary_top_categories(store, summary, TOP, order);
    printf("  categories  %lld", (long long)store_num_categories(store));
    for (int64_t i = 0; i < top; i++) {
        printf("%s%s %lld", i ? ", " : ": ", store_category_name(store, order[i]),
               (long long)summary->num_category[order[i]]);
    }
    puts(top == TOP ? ", ..." : "");
    for (int64_t i = 0; all && i < store_num_categories(store); i++) {
        printf("    %-6lld id %-8lld %-30s %lld\n", (long long)i,
               (long long)store_category_id(store, i), store_category_name(store, i),
               (long long)summary->num_category[i]);
    }
}

static void print_shards(const struct store *store)
{
    for (int i = 0; i < store_num_shards(store); i++) {
        const struct shard *shard = &store->shards[i];
        char text[3][32];
        printf("  shard %-5lld %s images, %s texts, %s%s: %s\n", (long long)shard->info.shard,
               number_text(shard->rows[GROUP_IMAGES], text[0], sizeof text[0]),
               number_text(shard->rows[GROUP_TEXTS], text[1], sizeof text[1]),
               bytes_text(shard->file_bytes, text[2], sizeof text[2]),
               shard->sealed ? "" : ", not sealed", shard->path);
    }
}

/* ---- rows ---- */

struct rows {
    struct store_image image;
    struct store_text text;
    struct store_boxes boxes;
    struct store_answers answers;
};

static enum status print_text(const struct store *store, int64_t index, struct rows *rows)
{
    enum { MOST = 300 };
    TRY(store_text_read(store, index, &rows->text));
    TRY(store_text_key(store, index, &rows->text));
    TRY(store_answers_read(store, index, &rows->answers));
    const struct store_text *text = &rows->text;
    printf("  text %lld, %s", (long long)index, text_kind_name(text->kind));
    if (text->label >= 0) printf(", %s", text->label ? "true" : "false");
    if (text->image2 >= 0) printf(", right picture %lld", (long long)text->image2);
    if (text->key[0]) printf(", id %s", text->key);
    fputs(": ", stdout);
    for (int64_t i = 0; i < text->length && i < MOST; i++) {
        char c = text->text[i]; /* a caption shall not steer the terminal */
        putchar((unsigned char)c < 0x20 || c == 0x7F ? ' ' : c);
    }
    puts(text->length > MOST ? "..." : "");
    for (int32_t i = 0; i < rows->answers.num_answers; i++) {
        printf("    answer %s (%g)\n", rows->answers.answers[i].answer,
               (double)rows->answers.answers[i].score);
    }
    return STATUS_OK;
}

static void print_box(const struct store *store, const struct store_boxes *boxes, int32_t index)
{
    const struct store_box *box = &boxes->boxes[index];
    printf("  box [%g, %g, %g, %g]", (double)box->xyxy[0], (double)box->xyxy[1],
           (double)box->xyxy[2], (double)box->xyxy[3]);
    if (box->category >= 0) printf(" %s", store_category_name(store, box->category));
    if (box->crowd) printf(" crowd");
    if (box->text >= 0) printf(" of text %lld", (long long)box->text);
    for (int32_t i = 0; i < box->num_spans; i++) {
        const struct store_span *span = &boxes->spans[box->first_span + i];
        printf(" [%d, %d)", span->begin, span->end);
    }
    putchar('\n');
}

static enum status print_image(const struct store *store, int64_t index, struct rows *rows)
{
    enum { MOST_BOXES = 20 };
    int64_t first = 0;
    int64_t count = 0;
    struct image_info info = {0};
    TRY(store_image_read(store, index, &rows->image));
    TRY(store_image_key(store, index, &rows->image));
    TRY(store_boxes_read(store, index, -1, &rows->boxes));
    TRY(store_image_texts(store, index, &first, &count));
    if (image_probe(rows->image.bytes, (size_t)rows->image.size, &info) != STATUS_OK) {
        info.format = IMAGE_UNKNOWN;
    }
    printf("image %lld %s: %s, %d x %d, %lld bytes\n", (long long)index, rows->image.key,
           image_format_name(info.format), (int)info.width, (int)info.height,
           (long long)rows->image.size);
    for (int64_t i = first; i < first + count; i++) {
        TRY(print_text(store, i, rows));
    }
    for (int32_t i = 0; i < rows->boxes.num_boxes && i < MOST_BOXES; i++) {
        print_box(store, &rows->boxes, i);
    }
    if (rows->boxes.num_boxes > MOST_BOXES) {
        printf("  and %d boxes more\n", rows->boxes.num_boxes - MOST_BOXES);
    }
    return STATUS_OK;
}

static enum status print_rows(const struct store *store, const struct arguments *arguments)
{
    struct rows rows = {0};
    enum status status = STATUS_OK;
    int64_t first = arguments->first > 0 ? arguments->first : 0;
    for (int64_t i = 0; i < arguments->rows && status == STATUS_OK; i++) {
        if (first + i >= store_num_images(store)) break;
        status = print_image(store, first + i, &rows);
    }
    store_image_fini(&rows.image);
    store_text_fini(&rows.text);
    store_boxes_fini(&rows.boxes);
    store_answers_fini(&rows.answers);
    return status;
}

/* ---- the whole ---- */

static enum status show(const struct store *store, const struct summary *summary,
                        const struct arguments *arguments)
{
    CHECK(arguments->first < store_num_images(store), STATUS_INVALID,
          "--first %lld: the set has %lld images", (long long)arguments->first,
          (long long)store_num_images(store));
    print_head(store, summary);
    print_images(store, summary);
    print_texts(store, summary);
    print_boxes(store, summary);
    print_categories(store, summary, arguments->categories);
    if (arguments->shards) print_shards(store);
    TRY(print_rows(store, arguments));
    if (!arguments->html) return STATUS_OK;
    struct sheet_options sheet = {
        .count = arguments->count, .first = arguments->first, .side = (int)arguments->side};
    TRY(sheet_write(store, summary, &sheet, arguments->html));
    printf("contact sheet: %s\n", arguments->html);
    return STATUS_OK;
}

static enum status inspect(const struct arguments *arguments)
{
    const struct store_options options = {.partial = true};
    struct store *store = NULL;
    struct summary summary;
    TRY(store_open(&store, arguments->files, arguments->num_files, &options));
    enum status status = summary_make(store, &summary);
    if (status == STATUS_OK) {
        status = show(store, &summary, arguments);
        summary_fini(&summary);
    }
    store_close(&store);
    return status;
}

static int run(int argc, char **argv)
{
    struct arguments arguments = {
        .rows = 2, .first = -1, .count = 60, .side = 320, .batch = {.step = -1, .ranks = 1}};
    enum status status = parse(argc, argv, &arguments);
    if (status == STATUS_OK && arguments.batch.step >= 0) {
        status = inspect_batch_run(&arguments.batch);
    } else if (status == STATUS_OK) {
        status = inspect(&arguments);
    }
    if (status == STATUS_OK) return 0;
    fflush(stdout);
    fprintf(stderr, "weft inspect: %s\n", status_message());
    return status_exit_code(status);
}

const struct command command_inspect = {
    .name = "inspect",
    .summary = "show what is inside shards, also as a contact sheet",
    .usage = usage,
    .run = run,
};
