/* weft tokenizer: train a vocabulary, turn text into ids and ids into text. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train.h"
#include "launch/command.h"
#include "launch/tokenizer_input.h"

static const char usage[] =
    "usage: weft tokenizer train --vocab-size N -o FOLDER [--min-frequency N] [--field KEY] "
    "FILE...\n"
    "       weft tokenizer encode TOKENIZER [OPTION...] [TEXT...]\n"
    "       weft tokenizer decode TOKENIZER [--skip-special] [ID...]\n"
    "\n"
    "TOKENIZER is a folder or file: tokenizer.json, vocab.json with merges.txt beside it "
    "(byte-level\n"
    "BPE as GPT-2 and RoBERTa), or vocab.txt (WordPiece as BERT).\n"
    "\n"
    "train counts the words of FILEs and writes FOLDER/vocab.json, merges.txt and tokenizer.json, "
    "a\n"
    "byte-level BPE with <s> <pad> </s> <unk> as ids 0 to 3 and <mask> as the last. The same "
    "texts\n"
    "give the same files, in whatever order they come. FILE: packed sets (*.h5), JSON lines\n"
    "(*.jsonl), or one text a line; - is standard input.\n"
    "  -n, --vocab-size N      tokens in all, at least 261\n"
    "  -o, --output FOLDER     made when it is not there\n"
    "  -m, --min-frequency N   no token for what occurs less often (2)\n"
    "  -k, --field KEY         where JSON lines have the text, or a list of texts (caption)\n"
    "\n"
    "encode prints one line of ids for each TEXT, or for each line of standard input.\n"
    "  -s, --special           put the begin and end tokens around\n"
    "  -l, --max-length N      cut after N tokens, special ones included, keeping the end token\n"
    "  -t, --tokens            print the tokens instead of their ids\n"
    "  -j, --json              print an object with ids, tokens and character spans\n"
    "  -p, --parse-special     read <mask>, [SEP] and the like in the text as special tokens\n"
    "  -b, --allow-bytes       take text that is not UTF-8\n"
    "\n"
    "decode prints the text of the ids given, or of each line of ids of standard input.\n"
    "  -x, --skip-special      leave special tokens out\n"
    "\n"
    "For both:\n"
    "  -M, --merges FILE       the merges.txt of a vocab.json that has none beside it\n"
    "  -c, --cased             a vocab.txt keeps case and accents\n"
    "  -a, --add-special       add the special tokens that the vocabulary lacks";

struct arguments {
    int64_t vocab_size;
    int64_t min_frequency;
    const char *output;
    const char *field;
    bool tokens;
    bool json;
    bool skip_special;
    struct tokenizer_options load;
    struct encode_options encode;
};

static const struct option long_options[] = {{"vocab-size", required_argument, NULL, 'n'},
                                             {"output", required_argument, NULL, 'o'},
                                             {"min-frequency", required_argument, NULL, 'm'},
                                             {"field", required_argument, NULL, 'k'},
                                             {"special", no_argument, NULL, 's'},
                                             {"max-length", required_argument, NULL, 'l'},
                                             {"tokens", no_argument, NULL, 't'},
                                             {"json", no_argument, NULL, 'j'},
                                             {"parse-special", no_argument, NULL, 'p'},
                                             {"allow-bytes", no_argument, NULL, 'b'},
                                             {"skip-special", no_argument, NULL, 'x'},
                                             {"merges", required_argument, NULL, 'M'},
                                             {"cased", no_argument, NULL, 'c'},
                                             {"add-special", no_argument, NULL, 'a'},
                                             {NULL, 0, NULL, 0}};

static enum status read_number(const char *what, const char *text, int64_t least, int64_t most,
                               int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    CHECK(end != text && *end == '\0' && errno == 0 && value >= least && value <= most,
          STATUS_INVALID, "%s must be a number from %" PRId64 " to %" PRId64 ", not '%s'", what,
          least, most, text);
    *out = value;
    return STATUS_OK;
}

static enum status read_option(struct arguments *arguments, int option)
{
    switch (option) {
    case 'n':
        return read_number("--vocab-size", optarg, TRAIN_FIXED_TOKENS, 1 << 24,
                           &arguments->vocab_size);
    case 'm':
        return read_number("--min-frequency", optarg, 1, INT64_MAX, &arguments->min_frequency);
    case 'l':
        return read_number("--max-length", optarg, 1, INT32_MAX, &arguments->encode.max_length);
    case 'o':
        arguments->output = optarg;
        return STATUS_OK;
    case 'k':
        arguments->field = optarg;
        return STATUS_OK;
    case 's':
        arguments->encode.add_special = true;
        return STATUS_OK;
    case 't':
        arguments->tokens = true;
        return STATUS_OK;
    case 'j':
        arguments->json = true;
        return STATUS_OK;
    case 'p':
        arguments->encode.special_in_text = true;
        return STATUS_OK;
    case 'b':
        arguments->encode.allow_bytes = true;
        return STATUS_OK;
    case 'x':
        arguments->skip_special = true;
        return STATUS_OK;
    case 'M':
        arguments->load.merges = optarg;
        return STATUS_OK;
    case 'c':
        arguments->load.cased = true;
        return STATUS_OK;
    default:
        arguments->load.add_special = true;
        return STATUS_OK;
    }
}

/* ---- train ---------------------------------------------------------------------------------- */

static enum status train(const struct arguments *arguments, char **paths, int num_paths)
{
    CHECK(arguments->output, STATUS_INVALID, "train needs -o FOLDER");
    CHECK(arguments->vocab_size > 0, STATUS_INVALID, "train needs --vocab-size N");
    CHECK(num_paths > 0, STATUS_INVALID, "train needs files with texts");
    struct bpe_trainer *trainer = NULL;
    struct tokenizer *tokenizer = NULL;
    enum status status;
    TRY_GOTO(status, bpe_trainer_create(&trainer), done);
    TRY_GOTO(status,
             tokenizer_input_add(trainer, (const char *const *)paths, num_paths, arguments->field),
             done);
    struct bpe_trainer_stats stats = bpe_trainer_stats(trainer);
    fprintf(stderr,
            "%" PRId64 " texts, %" PRId64 " bytes, %" PRId64 " words, %" PRId64 " different ones\n",
            stats.num_texts, stats.num_bytes, stats.num_pieces, stats.num_distinct);
    if (stats.num_left_out > 0) {
        fprintf(stderr, "%" PRId64 " words of more than %d bytes were left out\n",
                stats.num_left_out, TRAIN_MAX_PIECE);
    }
    TRY_GOTO(status,
             bpe_trainer_train(trainer, (int32_t)arguments->vocab_size, arguments->min_frequency,
                               &tokenizer),
             done);
    TRY_GOTO(status, tokenizer_save(tokenizer, arguments->output), done);
    int32_t size = tokenizer_vocab_size(tokenizer);
    fprintf(stderr, "%s: %" PRId32 " tokens%s\n", arguments->output, size,
            size < arguments->vocab_size ? "; no other pair of tokens occurs often enough" : "");
done:
    tokenizer_destroy(&tokenizer);
    bpe_trainer_destroy(&trainer);
    return status;
}

/* ---- encode --------------------------------------------------------------------------------- */

static void print_json(const struct tokenizer *tokenizer, const struct encoding *encoding)
{
    printf("{\"ids\": [");
    for (int64_t i = 0; i < encoding->count; i++) {
        printf("%s%" PRId32, i ? ", " : "", encoding->ids[i]);
    }
    printf("], \"tokens\": [");
    struct strbuf quoted = {0};
    for (int64_t i = 0; i < encoding->count; i++) {
        const char *token = tokenizer_token(tokenizer, encoding->ids[i]);
        if (i) strbuf_append(&quoted, ", ");
        strbuf_append_json(&quoted, token, strlen(token));
    }
    printf("%s], \"spans\": [", quoted.text ? quoted.text : "");
    strbuf_fini(&quoted);
    for (int64_t i = 0; i < encoding->count; i++) {
        printf("%s[%" PRId32 ", %" PRId32 "]", i ? ", " : "", encoding->spans[i].begin,
               encoding->spans[i].end);
    }
    printf("], \"truncated\": %s}\n", encoding->truncated ? "true" : "false");
}

static void print_encoding(const struct arguments *arguments, const struct tokenizer *tokenizer,
                           const struct encoding *encoding)
{
    if (arguments->json) {
        print_json(tokenizer, encoding);
        return;
    }
    for (int64_t i = 0; i < encoding->count; i++) {
        if (i) putchar(' ');
        if (arguments->tokens) {
            fputs(tokenizer_token(tokenizer, encoding->ids[i]), stdout);
        } else {
            printf("%" PRId32, encoding->ids[i]);
        }
    }
    putchar('\n');
}

/* ---- what encode and decode share ----------------------------------------------------------- */

struct session {
    const struct arguments *arguments;
    struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    struct encoding encoding;
    int32_t *ids;
    int64_t num_ids;
    int64_t ids_capacity;
    struct strbuf text;
};

static enum status encode_line(struct session *session, const char *text, size_t length)
{
    TRY(tokenizer_encode(session->tokenizer, session->scratch, text, length,
                         &session->arguments->encode, &session->encoding));
    print_encoding(session->arguments, session->tokenizer, &session->encoding);
    return STATUS_OK;
}

static enum status add_id(struct session *session, int64_t id)
{
    if (session->num_ids == session->ids_capacity) {
        int64_t capacity = session->ids_capacity ? 2 * session->ids_capacity : 64;
        int32_t *ids = realloc(session->ids, (size_t)capacity * sizeof *ids);
        CHECK(ids, STATUS_NO_MEMORY, "no memory for %" PRId64 " ids", capacity);
        session->ids = ids;
        session->ids_capacity = capacity;
    }
    session->ids[session->num_ids++] = (int32_t)id;
    return STATUS_OK;
}

/* Reads ids between spaces, commas and brackets, as encode and Python print them. */
static enum status read_ids(struct session *session, const char *text)
{
    static const char between[] = " \t\r\n,[]";
    for (text += strspn(text, between); *text; text += strspn(text, between)) {
        char *end;
        errno = 0;
        long long id = strtoll(text, &end, 10);
        bool whole = end > text && (*end == '\0' || strchr(between, *end)) && errno == 0;
        CHECK(whole && id >= INT32_MIN && id <= INT32_MAX, STATUS_INVALID,
              "'%.20s' is not an id; ids are numbers with spaces or commas between", text);
        TRY(add_id(session, id));
        text = end;
    }
    return STATUS_OK;
}

static enum status decode_ids(struct session *session)
{
    strbuf_clear(&session->text);
    TRY(tokenizer_decode(session->tokenizer, session->ids, session->num_ids,
                         session->arguments->skip_special, &session->text));
    session->num_ids = 0;
    fwrite(session->text.text, 1, session->text.length, stdout);
    putchar('\n');
    return STATUS_OK;
}

static enum status decode_line(struct session *session, const char *text, size_t length)
{
    CHECK(strlen(text) == length, STATUS_INVALID, "the line holds a NUL byte");
    TRY(read_ids(session, text));
    return decode_ids(session);
}

static enum status each_line(struct session *session,
                             enum status (*apply)(struct session *, const char *, size_t))
{
    char *line = NULL;
    size_t capacity = 0;
    int64_t number = 0;
    ssize_t length;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (length = getline(&line, &capacity, stdin)) > 0) {
        number++;
        if (line[length - 1] == '\n') line[--length] = '\0';
        status = apply(session, line, (size_t)length);
        if (status != STATUS_OK) {
            status = status_prefix(status, "standard input, line %" PRId64, number);
        }
    }
    free(line);
    return status;
}

static enum status run_session(struct session *session, bool encode, char **texts, int count)
{
    if (count == 0) return each_line(session, encode ? encode_line : decode_line);
    for (int i = 0; i < count; i++) {
        TRY(encode ? encode_line(session, texts[i], strlen(texts[i]))
                   : read_ids(session, texts[i]));
    }
    return encode ? STATUS_OK : decode_ids(session);
}

static enum status code(const struct arguments *arguments, bool encode, char **operands, int count)
{
    CHECK(count > 0, STATUS_INVALID, "%s needs a tokenizer: a folder or file",
          encode ? "encode" : "decode");
    struct session session = {.arguments = arguments};
    enum status status;
    TRY_GOTO(status, tokenizer_load(operands[0], &arguments->load, &session.tokenizer), done);
    TRY_GOTO(status, tokenizer_scratch_create(session.tokenizer, &session.scratch), done);
    status = run_session(&session, encode, operands + 1, count - 1);
    if (fflush(stdout) != 0 && status == STATUS_OK) {
        status = status_fail(STATUS_IO, "standard output: %s", strerror(errno));
    }
done:
    encoding_fini(&session.encoding);
    free(session.ids);
    strbuf_fini(&session.text);
    tokenizer_scratch_destroy(&session.scratch);
    tokenizer_destroy(&session.tokenizer);
    return status;
}

/* ---- the command ---------------------------------------------------------------------------- */

/* The options each subcommand takes, as getopt spells them. */
static const struct {
    const char *name;
    const char *options;
} subcommands[] = {{"train", "n:o:m:k:"}, {"encode", "sl:tjpbM:ca"}, {"decode", "xM:ca"}};

static enum status run_subcommand(int index, int argc, char **argv)
{
    struct arguments arguments = {.min_frequency = 2, .field = "caption"};
    const char *name = subcommands[index].name;
    int option;
    optind = 0; /* getopt starts anew */
    while ((option = getopt_long(argc, argv, "n:o:m:k:sl:tjpbxM:ca", long_options, NULL)) != -1) {
        CHECK(option != '?', STATUS_INVALID, "`weft help tokenizer` lists the options");
        CHECK(strchr(subcommands[index].options, option), STATUS_INVALID,
              "%s does not take -%c; `weft help tokenizer` lists the options", name, option);
        TRY(read_option(&arguments, option));
    }
    if (index == 0) return train(&arguments, argv + optind, argc - optind);
    return code(&arguments, index == 1, argv + optind, argc - optind);
}

static int run(int argc, char **argv)
{
    for (int i = 0; i < 3 && argc > 1; i++) {
        if (strcmp(argv[1], subcommands[i].name) != 0) continue;
        enum status status = run_subcommand(i, argc - 1, argv + 1);
        if (status != STATUS_OK) fprintf(stderr, "weft tokenizer: %s\n", status_message());
        return status_exit_code(status);
    }
    if (argc > 1) fprintf(stderr, "weft tokenizer: unknown subcommand '%s'\n", argv[1]);
    fprintf(stderr, "%s\n", usage);
    return 2;
}

const struct command command_tokenizer = {
    .name = "tokenizer",
    .summary = "train a vocabulary, encode text, decode ids",
    .usage = usage,
    .run = run,
};
