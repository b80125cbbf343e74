/*
 * The loader on one core: JPEGs of COCO128 packed on the fly (generated ones where ../shared is not
 * there), read, decoded, cropped to 384, tokenised and masked into batches, beside libjpeg-turbo
 * decoding the same files with nothing of ours around it. Then whether memory grows over 200,000
 * small samples, and what the sampler costs.
 *
 * Figures count the processor time of the loader's one thread, which is what one core does, also
 * while others use the machine; decoding alone takes turns with the batches.
 */
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include <jpeglib.h>

#include "bench/bench.h"
#include "data/loader/loader.h"
#include "data/store/writer.h"
#include "tests/data/image/tar_read.h"

enum { MAX_FILES = 128, GENERATED = 16, SIDE = 384, LENGTH = 50, BATCH = 16, ROUNDS = 6 };
enum { SMALL_SIDE = 16, SMALL_SAMPLES = 200000, SMALL_EARLY = 20000 };

#define VOCAB "tests/data/tokenizer/cases/vocab.json"

struct file {
    const uint8_t *bytes;
    size_t size;
};

struct files {
    struct file file[MAX_FILES];
    int count;
    const char *origin;
    uint8_t *archive;
    struct strbuf generated[GENERATED];
};

/* ---- input ---- */

static void load_shared(struct files *files)
{
    const char *shared = getenv("WEFT_SHARED");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/data/coco128/coco128.tar", shared ? shared : "../shared");
    size_t size = 0;
    files->archive = tar_load(path, &size);
    if (!files->archive) return;
    struct tar_member member;
    for (size_t at = 0; tar_next(files->archive, size, &at, &member);) {
        if (!strstr(member.name, ".jpg") || files->count == MAX_FILES) continue;
        files->file[files->count++] = (struct file){member.bytes, member.size};
    }
    files->origin = "COCO128";
}

static void generate(struct files *files, int count, int64_t width, int64_t height)
{
    struct image image = {0};
    bench_must(image_reserve(&image, width, height));
    for (int n = 0; n < count; n++) {
        for (int64_t i = 0; i < width * height * 3; i++) {
            double x = (double)(i / 3 % width);
            double y = (double)(i / 3 / width);
            double wave = sin(x * (0.05 + n * 0.01) + (double)(i % 3)) * cos(y * 0.002 * (n + 1));
            image.pixels[i] = (uint8_t)(120 + 80 * wave + ((uint32_t)i * 2654435761u >> 28));
        }
        struct strbuf *jpeg = &files->generated[n];
        bench_must(image_encode_jpeg(image_as_view(&image), 90, jpeg));
        files->file[n] = (struct file){(const uint8_t *)jpeg->text, jpeg->length};
    }
    files->count = count;
    files->origin = "generated";
    image_fini(&image);
}

/* Packs `repeat` copies of the files, each with a caption of usual length. */
static void pack(const struct files *files, int repeat, const char *path)
{
    static const char *const captions[] = {
        "A man in a red shirt rides a brown horse along the beach while two dogs run behind him.",
        "Two plates of food and a glass of water stand on a wooden table next to a window.",
        "A small bird sits on a branch."};
    struct shard_head head = {.set = "bench", .set_id = "", .origin = "bench", .shards = 1};
    struct shard_writer *writer = NULL;
    struct sample sample = {0};
    bench_must(shard_writer_create(&writer, path, &head));
    for (int i = 0; i < files->count * repeat; i++) {
        const struct file *file = &files->file[i % files->count];
        const char *caption = captions[i % 3];
        bench_must(sample_add_image(&sample, file->bytes, (int64_t)file->size, "x.jpg", NULL));
        bench_must(sample_add_text(&sample, TEXT_CAPTION, 0, caption, (int64_t)strlen(caption),
                                   NULL, NULL));
        bench_must(shard_writer_add(writer, &sample, NULL));
        sample_clear(&sample);
    }
    sample_fini(&sample);
    bench_must(shard_writer_finish(&writer, 0));
}

/* ---- the ceiling ---- */

static double thread_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void decode_file(struct file file, struct image *decoded)
{
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr error;
    info.err = jpeg_std_error(&error);
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, file.bytes, (unsigned long)file.size);
    jpeg_read_header(&info, TRUE);
    info.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info);
    bench_must(image_reserve(decoded, info.output_width, info.output_height));
    while (info.output_scanline < info.output_height) {
        JSAMPROW row = decoded->pixels + (size_t)info.output_scanline * info.output_width * 3;
        jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
}

/* Seconds of this thread for decoding every file once. */
static double decode_all(const struct files *files, struct image *decoded)
{
    double begin = thread_seconds();
    for (int i = 0; i < files->count; i++) {
        decode_file(files->file[i], decoded);
    }
    return thread_seconds() - begin;
}

/* ---- the loader ---- */

static double process_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

struct pipeline {
    struct store *store;
    struct tokenizer *tokenizer;
    struct loader_set set;
    struct image_transform transform;
};

/* The loader's samples of one epoch: processor seconds of this process, which does nothing else. */
static double load_epoch(struct pipeline *p, int round)
{
    struct loader_options options = {.sets = &p->set,
                                     .num_sets = 1,
                                     .size = 1,
                                     .batch = BATCH,
                                     .seed = (uint64_t)round,
                                     .transform = &p->transform,
                                     .tokenizer = p->tokenizer,
                                     .text_length = LENGTH,
                                     .mlm = &mlm_defaults,
                                     .num_threads = 1};
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    bench_must(loader_create(&loader, &options));
    /* The first batches warm the caches of tokenizer and memory up. */
    bench_must(loader_next(loader, &batch));
    int64_t batches = loader_num_batches(loader) * 2;
    double begin = process_seconds();
    struct loader_stats before = loader_stats(loader);
    for (int64_t i = 0; i < batches; i++) {
        bench_must(loader_next(loader, &batch));
    }
    double seconds = (process_seconds() - begin) / (double)(batches * BATCH);
    struct loader_stats after = loader_stats(loader);
    if (round == 0) {
        double busy = after.busy_read + after.busy_decode + after.busy_tokenise - before.busy_read -
                      before.busy_decode - before.busy_tokenise;
        printf("# of the loader's time %.1f %% reading, %.1f %% decoding and transforming, %.1f %% "
               "tokenising\n",
               100 * (after.busy_read - before.busy_read) / busy,
               100 * (after.busy_decode - before.busy_decode) / busy,
               100 * (after.busy_tokenise - before.busy_tokenise) / busy);
    }
    loader_destroy(&loader);
    return seconds;
}

static void bench_pipelines(const struct files *files, const char *path)
{
    static const struct {
        const char *name;
        const char *transform;
        const char *note;
    } rows[] = {
        {"loader.crop384", "albef_crop",
         "read, decode, random crop 384, tokenise, mask; bar 350, 0.6"},
        {"loader.randaug384", "albef_randaug", "the same and RandomAugment(2,7); bar 200"},
        {"loader.resize384", "albef", "the same with resizing to 384 in place of cropping"},
    };
    enum { NUM_ROWS = sizeof rows / sizeof rows[0] };
    struct pipeline p = {0};
    struct image decoded = {0};
    double least[NUM_ROWS];
    double ceiling = 1e9;
    bench_must(store_open(&p.store, &path, 1, NULL));
    bench_must(tokenizer_load(VOCAB, NULL, &p.tokenizer));
    p.set.store = p.store;
    for (int round = 0; round < ROUNDS; round++) {
        bench_least(&ceiling, decode_all(files, &decoded) / files->count);
        for (int i = 0; i < NUM_ROWS; i++) {
            if (round == 0) least[i] = 1e9;
            bench_must(image_transform_find(rows[i].transform, SIDE, &p.transform));
            bench_least(&least[i], load_epoch(&p, round));
        }
    }
    char note[256];
    snprintf(note, sizeof note, "libjpeg-turbo alone on the same %d files of %s, one core",
             files->count, files->origin);
    bench_row("loader.libjpeg", 1 / ceiling, "samples/s", 0, note);
    for (int i = 0; i < NUM_ROWS; i++) {
        bench_row(rows[i].name, 1 / least[i], "samples/s", 1 / ceiling, rows[i].note);
    }
    image_fini(&decoded);
    tokenizer_destroy(&p.tokenizer);
    store_close(&p.store);
}

/* ---- memory over many samples ---- */

static double resident_mb(void)
{
    long pages = 0;
    long all = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) return 0;
    if (fscanf(file, "%ld %ld", &all, &pages) != 2) pages = 0;
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

static void bench_memory_use(const char *path)
{
    struct pipeline p = {0};
    struct loader *loader = NULL;
    const struct loader_batch *batch = NULL;
    bench_must(store_open(&p.store, &path, 1, NULL));
    bench_must(tokenizer_load(VOCAB, NULL, &p.tokenizer));
    bench_must(image_transform_find("albef_randaug", SMALL_SIDE, &p.transform));
    p.set.store = p.store;
    struct loader_options options = {.sets = &p.set,
                                     .num_sets = 1,
                                     .size = 1,
                                     .batch = 64,
                                     .transform = &p.transform,
                                     .tokenizer = p.tokenizer,
                                     .text_length = LENGTH,
                                     .mlm = &mlm_defaults};
    bench_must(loader_create(&loader, &options));
    double early = 0;
    double begin = bench_now();
    for (int64_t done = 0; done < SMALL_SAMPLES; done += batch->count) {
        if (early == 0 && done >= SMALL_EARLY) early = resident_mb();
        bench_must(loader_next(loader, &batch));
    }
    double seconds = bench_now() - begin;
    double late = resident_mb();
    bench_row("loader.small", SMALL_SAMPLES / seconds, "samples/s", 0,
              "pictures of 16 x 16, all threads: what batching costs beside decoding");
    bench_row("loader.memory.20k", early, "MB", 0, "resident after 20,000 samples");
    bench_row("loader.memory.200k", late, "MB", early, "after 200,000; a ratio above 1 is growth");
    loader_destroy(&loader);
    tokenizer_destroy(&p.tokenizer);
    store_close(&p.store);
}

/* ---- the sampler ---- */

static void bench_sampler(void)
{
    enum { DRAWS = 1000000 };
    const int64_t rows = 2000000000;
    struct sampler sampler;
    double begin = bench_now();
    bench_must(sampler_init(&sampler, &(struct sampler_options){
                                          .set_rows = &rows, .num_sets = 1, .global_batch = 1024}));
    double start = bench_now() - begin;
    volatile uint64_t sum = 0; /* so that draws are not left out */
    double least = 1e9;
    for (int round = 0; round < 5; round++) {
        begin = thread_seconds();
        for (int64_t i = 0; i < DRAWS; i++) {
            sum = sum + (uint64_t)sampler_draw_at(&sampler, round, i * 1999).row;
        }
        bench_least(&least, thread_seconds() - begin);
    }
    char note[128];
    snprintf(note, sizeof note, "2,000,000,000 rows, start-up %.1f us, %zu bytes; bar 1,000,000",
             start * 1e6, sizeof sampler);
    bench_row("sampler.draw", DRAWS / least, "draws/s", 0, note);
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    char path[PATH_MAX];
    static struct files files;
    static struct files small;
    snprintf(path, sizeof path, "%s/weft-bench-loader-%d.h5", base ? base : "/tmp", (int)getpid());
    load_shared(&files);
    if (files.count == 0) generate(&files, GENERATED, 640, 480);
    pack(&files, files.count < 100 ? 8 : 1, path);
    bench_pipelines(&files, path);
    generate(&small, GENERATED, SMALL_SIDE, SMALL_SIDE);
    pack(&small, 256, path);
    bench_memory_use(path);
    bench_sampler();
    remove(path);
    for (int i = 0; i < GENERATED; i++) {
        strbuf_fini(&files.generated[i]);
        strbuf_fini(&small.generated[i]);
    }
    free(files.archive);
    return 0;
}
