/*
 * Megabytes of text a second on one core: byte-level BPE, WordPiece, masking, training; against the
 * Hugging Face library where python3 has it.
 *
 * Two texts. "captions": the sentences of NLVR and the emoji captions of ../shared, else the lines
 * of a test file. "rare": words whose frequency falls as 1 / rank over 30,000 of them, more than
 * the cache of words holds, as in web captions. The ceiling of encoding is the split rule alone,
 * which finds the words and does nothing with them. Variants take turns, so that noise hits all
 * alike.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "data/tokenizer/mlm.h"
#include "data/tokenizer/split.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train.h"
#include "tests/data/image/tar_read.h"

enum { ROUNDS = 7, ROW = 40, NUM_RARE = 30000, RARE_WORDS = 400000, CAPTION_BYTES = 1500000 };

struct text {
    const char *name;
    struct strbuf lines; /* captions, each ended by a line feed */
    int64_t count;
    char origin[64];
};

/* Seconds that this thread has computed: what one core does, also while others use the machine. */
static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void check(enum status status)
{
    if (status == STATUS_OK) return;
    fprintf(stderr, "bench_tokenizer: %s\n", status_message());
    exit(1);
}

static const char *shared_path(const char *name)
{
    static char path[1024];
    const char *shared = getenv("WEFT_SHARED");
    snprintf(path, sizeof path, "%s/%s", shared ? shared : "../shared", name);
    return path;
}

/* ---- texts ---------------------------------------------------------------------------------- */

static void add_line(struct text *text, const char *line, size_t length)
{
    strbuf_append_bytes(&text->lines, line, length);
    strbuf_append(&text->lines, "\n");
    text->count++;
}

/* Adds the value of `key` of every JSON line of a file in a tar archive. */
static void add_archive(struct text *text, const char *archive, const char *file, const char *key)
{
    size_t size = 0;
    uint8_t *bytes = tar_load(shared_path(archive), &size);
    struct tar_member member;
    for (size_t at = 0; bytes && tar_next(bytes, size, &at, &member);) {
        if (!strstr(member.name, file)) continue;
        const char *line = (const char *)member.bytes;
        const char *end = line + member.size;
        while (line < end) {
            const char *stop = memchr(line, '\n', (size_t)(end - line));
            if (!stop) stop = end;
            json_t *row = json_loadb(line, (size_t)(stop - line), 0, NULL);
            const char *value = json_string_value(json_object_get(row, key));
            if (value) add_line(text, value, strlen(value));
            json_decref(row);
            line = stop + 1;
        }
    }
    free(bytes);
}

static void make_captions(struct text *text)
{
    text->name = "captions";
    snprintf(text->origin, sizeof text->origin, "NLVR and emoji");
    add_archive(text, "data/nlvr/dev.tar", "dev.json", "sentence");
    add_archive(text, "data/nlvr/test.tar", "test.json", "sentence");
    add_archive(text, "data/emoji/train.tar", "captions.jsonl", "name");
    FILE *file = text->count ? NULL : fopen("tests/data/tokenizer/cases/captions.txt", "r");
    char line[1024];
    while (file && fgets(line, sizeof line, file)) {
        snprintf(text->origin, sizeof text->origin, "lines of a test");
        add_line(text, line, strcspn(line, "\n"));
    }
    if (file) fclose(file);
    size_t once = text->lines.length;
    int64_t count = text->count;
    while (text->lines.length > 0 && text->lines.length < CAPTION_BYTES) {
        char *copy = strndup(text->lines.text, once);
        strbuf_append_bytes(&text->lines, copy, once);
        free(copy);
        text->count += count;
    }
}

/* Word `rank`: more letters the rarer it is, as in languages. */
static size_t make_word(uint32_t rank, char *out)
{
    struct rng_block draw = rng_at(rng_key(1, RNG_TEST, 0), 0, rank, 0);
    size_t length = 2;
    for (uint32_t r = rank; r > 8; r /= 4) {
        length++;
    }
    length += draw.word[0] % 4;
    for (size_t i = 0; i < length; i++) {
        struct rng_block letter = rng_at(rng_key(1, RNG_TEST, 1), 0, rank, (uint32_t)i);
        out[i] = "etaoinshrdlucmfwypvbgkqjxz"[letter.word[0] % 26 * (letter.word[1] % 100) / 100];
    }
    return length;
}

static void make_rare(struct text *text)
{
    text->name = "rare words";
    snprintf(text->origin, sizeof text->origin, "%d words by 1/rank", NUM_RARE);
    char line[512];
    size_t length = 0;
    for (uint32_t i = 0; i < RARE_WORDS; i++) {
        double u = rng_uniform(rng_at(rng_key(1, RNG_TEST, 2), 0, i, 0).word[0]);
        uint32_t rank = (uint32_t)exp(u * log(NUM_RARE));
        if (length > 0) line[length++] = ' ';
        length += make_word(rank, line + length);
        if (i % 11 == 10) {
            line[length++] = '.';
            add_line(text, line, length);
            length = 0;
        }
    }
}

/* ---- variants ------------------------------------------------------------------------------- */

struct coder {
    struct tokenizer *tokenizer;
    struct tokenizer_scratch *scratch;
    struct encoding encoding;
    struct mlm mlm;
};

enum variant { SPLIT, BPE, WORDPIECE, BATCH, NUM_VARIANTS };
static const char *const variant_names[] = {"split", "bpe encode", "wordpiece encode",
                                            "bpe rows of 40, masked"};

static uint64_t run_line(enum variant variant, struct coder *bpe, struct coder *wordpiece,
                         const char *line, size_t length, uint64_t sample)
{
    static int32_t ids[ROW];
    static int32_t labels[ROW];
    struct encode_options options = {0};
    uint64_t sum = 0;
    switch (variant) {
    case SPLIT:
        while (length > 0) {
            struct piece piece = split_next(line, length);
            line += piece.bytes;
            length -= piece.bytes;
            sum++;
        }
        return sum;
    case BPE:
        check(
            tokenizer_encode(bpe->tokenizer, bpe->scratch, line, length, &options, &bpe->encoding));
        return (uint64_t)bpe->encoding.count;
    case WORDPIECE:
        check(tokenizer_encode(wordpiece->tokenizer, wordpiece->scratch, line, length, &options,
                               &wordpiece->encoding));
        return (uint64_t)wordpiece->encoding.count;
    default:
        options = (struct encode_options){.max_length = ROW, .add_special = true};
        check(
            tokenizer_encode(bpe->tokenizer, bpe->scratch, line, length, &options, &bpe->encoding));
        check(mlm_mask(&bpe->mlm, 0, sample, &bpe->encoding, ROW, ids, labels));
        return (uint64_t)(ids[0] + labels[0]);
    }
}

/* Seconds for one pass over the text. */
static double run_text(enum variant variant, const struct text *text, struct coder *bpe,
                       struct coder *wordpiece)
{
    const char *line = text->lines.text;
    const char *end = line + text->lines.length;
    uint64_t sum = 0;
    double start = now();
    for (uint64_t i = 0; line < end; i++) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        sum += run_line(variant, bpe, wordpiece, line, (size_t)(stop - line), i);
        line = stop + 1;
    }
    double seconds = now() - start;
    if (sum == 1) printf(" "); /* the result is used */
    return seconds;
}

static void print_row(const char *name, const char *text, double value, double ceiling,
                      const char *note)
{
    printf("tokenizer %s, %s\t%.1f\tMB/s\t%.1f\t%.2f\t%s\n", name, text, value, ceiling,
           value / ceiling, note);
}

static double measure(const struct text *text, struct coder *bpe, struct coder *wordpiece)
{
    double best[NUM_VARIANTS];
    for (int round = 0; round < ROUNDS; round++) {
        for (int variant = 0; variant < NUM_VARIANTS; variant++) {
            double seconds = run_text((enum variant)variant, text, bpe, wordpiece);
            if (round == 0 || seconds < best[variant]) best[variant] = seconds;
        }
    }
    double size = (double)text->lines.length * 1e-6;
    for (int variant = 1; variant < NUM_VARIANTS; variant++) {
        char note[160];
        snprintf(note, sizeof note, "%s; ceiling: split rule alone; asked for: 3 MB/s a core",
                 text->origin);
        print_row(variant_names[variant], text->name, size / best[variant], size / best[SPLIT],
                  note);
    }
    return size / best[BPE];
}

/* ---- the Hugging Face library --------------------------------------------------------------- */

static const char script[] =
    "import os,sys,time\n"
    "os.environ['TOKENIZERS_PARALLELISM']='false'\n"
    "from tokenizers import ByteLevelBPETokenizer\n"
    "t=ByteLevelBPETokenizer(sys.argv[1]+'/vocab.json',sys.argv[1]+'/merges.txt')\n"
    "lines=open(sys.argv[2],encoding='utf-8').read().split('\\n')\n"
    "best=1e9\n"
    "for i in range(3):\n"
    "    s=time.process_time(); t.encode_batch(lines); best=min(best,time.process_time()-s)\n"
    "print(os.path.getsize(sys.argv[2])/best*1e-6)\n";

static void compare_library(const char *folder, const struct text *text, double mine)
{
    char path[1024];
    char command[4096];
    snprintf(path, sizeof path, "%s/text", folder);
    FILE *file = fopen(path, "wb");
    if (!file) return;
    fwrite(text->lines.text, 1, text->lines.length, file);
    fclose(file);
    const char *python = getenv("PYTHON");
    snprintf(command, sizeof command, "%s -c \"%s\" %s %s 2>/dev/null", python ? python : "python3",
             script, folder, path);
    double theirs = 0;
    FILE *pipe = popen(command, "r");
    bool found = pipe && fscanf(pipe, "%lf", &theirs) == 1;
    if (pipe) pclose(pipe);
    unlink(path);
    if (found) {
        print_row("bpe encode", text->name, mine, theirs,
                  "ceiling: the Hugging Face library, one thread");
    } else {
        printf("# tokenizer against the Hugging Face library: absent, python3 has no tokenizers\n");
    }
}

/* ---- vocabularies --------------------------------------------------------------------------- */

/* Trains on both texts, prints the speed, and leaves the files in `folder`. */
static void train(const struct text *texts, const char *folder, struct tokenizer **out)
{
    struct bpe_trainer *trainer;
    double start = now();
    check(bpe_trainer_create(&trainer));
    for (int i = 0; i < 2; i++) {
        check(bpe_trainer_add(trainer, texts[i].lines.text, texts[i].lines.length));
    }
    double counted = now();
    check(bpe_trainer_train(trainer, 8000, 2, out));
    double done = now();
    double size = (double)bpe_trainer_stats(trainer).num_bytes * 1e-6;
    print_row("train, 8000 tokens", "both texts", size / (done - start), size / (counted - start),
              "ceiling: counting words alone");
    check(tokenizer_save(*out, folder));
    bpe_trainer_destroy(&trainer);
}

static void remove_folder(const char *folder)
{
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json"};
    char path[1024];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void load_time(const char *path)
{
    struct tokenizer *tokenizer;
    double start = now();
    if (tokenizer_load(path, NULL, &tokenizer) != STATUS_OK) return;
    printf("tokenizer load, GPT-2\t%.1f\tms\t\t\t%" PRId32 " tokens\n", (now() - start) * 1e3,
           tokenizer_vocab_size(tokenizer));
    tokenizer_destroy(&tokenizer);
}

int main(void)
{
    struct text texts[2] = {0};
    make_captions(&texts[0]);
    make_rare(&texts[1]);
    char folder[256];
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/weft-bench-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder)) return 1;
    struct coder bpe = {0};
    struct coder wordpiece = {0};
    train(texts, folder, &bpe.tokenizer);
    check(mlm_init(&bpe.mlm, bpe.tokenizer, NULL));
    check(tokenizer_scratch_create(bpe.tokenizer, &bpe.scratch));
    check(tokenizer_load("tests/data/tokenizer/cases/vocab.txt", NULL, &wordpiece.tokenizer));
    check(tokenizer_scratch_create(wordpiece.tokenizer, &wordpiece.scratch));
    for (int i = 0; i < 2; i++) {
        double speed = measure(&texts[i], &bpe, &wordpiece);
        compare_library(folder, &texts[i], speed);
        strbuf_fini(&texts[i].lines);
    }
    load_time(shared_path("data/gpt2-bpe"));
    encoding_fini(&bpe.encoding);
    encoding_fini(&wordpiece.encoding);
    tokenizer_scratch_destroy(&bpe.scratch);
    tokenizer_scratch_destroy(&wordpiece.scratch);
    tokenizer_destroy(&bpe.tokenizer);
    tokenizer_destroy(&wordpiece.tokenizer);
    remove_folder(folder);
    return 0;
}
