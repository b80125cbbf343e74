/*
 * Fetching samples from a packed set in the page cache, on one core: a text, its picture with the
 * hash verified, and its boxes. The ceiling is one pread of the picture's bytes at the same random
 * places, in the same run. Also how fast a set is written and opened.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <unistd.h>

#include "bench/bench.h"
#include "data/store/store.h"
#include "data/store/store_impl.h"
#include "data/store/writer.h"
#include "runtime/base/rng.h"

enum { CAPTIONS = 2, BOXES = 3, READS = 4000, REPEATS = 12 };

static uint32_t draw(uint32_t i, uint32_t below)
{
    return rng_below(rng_at(rng_key(1, RNG_TEST, 0), 0, i, 0).word[0], below);
}

static void write_set(const char *path, int num_images, int64_t bytes)
{
    struct shard_head head = {.set = "bench", .set_id = "", .origin = "", .shards = 1};
    struct shard_writer *writer = NULL;
    uint8_t *picture = bench_memory((size_t)bytes);
    struct sample sample = {0};
    bench_must(shard_writer_create(&writer, path, &head));
    for (int i = 0; i < num_images; i++) {
        memcpy(picture, &i, sizeof i);
        bench_must(sample_add_image(&sample, picture, bytes, "000000123456.jpg", NULL));
        for (int j = 0; j < CAPTIONS; j++) {
            bench_must(sample_add_text(&sample, TEXT_CAPTION, 0,
                                       "a man in a red shirt rides a horse along the beach", 50,
                                       NULL, NULL));
        }
        for (int j = 0; j < BOXES; j++) {
            bench_must(sample_add_box(&sample, 0, (float[4]){1, 2, 3, 4}, NULL));
        }
        bench_must(shard_writer_add(writer, &sample, NULL));
        sample_clear(&sample);
    }
    bench_must(shard_writer_finish(&writer, 0));
    free(picture);
}

static double time_raw(const struct store *store, int64_t bytes)
{
    const struct shard *shard = &store->shards[0];
    int64_t base = shard->columns[TABLE_IMAGES_BYTES].offset;
    uint8_t *room = bench_memory((size_t)bytes);
    double begin = bench_now();
    for (uint32_t i = 0; i < READS; i++) {
        int64_t image = draw(i, (uint32_t)store_num_texts(store)) / CAPTIONS;
        if (pread(shard->file, room, (size_t)bytes, base + image * bytes) != bytes) exit(1);
    }
    double seconds = bench_now() - begin;
    free(room);
    return seconds;
}

static double time_fetch(const struct store *store, bool with_boxes)
{
    struct store_text text = {0};
    struct store_image image = {0};
    struct store_boxes boxes = {0};
    double begin = bench_now();
    for (uint32_t i = 0; i < READS; i++) {
        bench_must(store_text_read(store, draw(i, (uint32_t)store_num_texts(store)), &text));
        bench_must(store_image_read(store, text.image, &image));
        if (with_boxes) bench_must(store_boxes_read(store, text.image, -1, &boxes));
    }
    double seconds = bench_now() - begin;
    store_text_fini(&text);
    store_image_fini(&image);
    store_boxes_fini(&boxes);
    return seconds;
}

static void bench_set(const char *path, int num_images, int64_t bytes)
{
    const struct store_options options = {.recheck_every = 10};
    struct store *store = NULL;
    double write = bench_now();
    write_set(path, num_images, bytes);
    write = bench_now() - write;
    double open = bench_now();
    bench_must(store_open(&store, &path, 1, &options));
    open = bench_now() - open;
    double raw = 1e9;
    double fetch = 1e9;
    double boxed = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        bench_least(&raw, time_raw(store, bytes));
        bench_least(&fetch, time_fetch(store, false));
        bench_least(&boxed, time_fetch(store, true));
    }
    char name[64];
    int kib = (int)(bytes / 1024);
    snprintf(name, sizeof name, "store: fetch, %d KiB pictures", kib);
    bench_row(name, READS / fetch, "samples/s", READS / raw, "text + image + hash; one core");
    snprintf(name, sizeof name, "store: fetch with boxes, %d KiB pictures", kib);
    bench_row(name, READS / boxed, "samples/s", READS / raw, "text + image + hash + 3 boxes");
    snprintf(name, sizeof name, "store: write, %d KiB pictures", kib);
    bench_row(name, (double)num_images * (double)bytes / write / 1e6, "MB/s", 0,
              "hash, write, seal, flush to disk");
    snprintf(name, sizeof name, "store: open, %d images", num_images);
    bench_row(name, open * 1e3, "ms", 0, "verifies the seal: all tables hashed");
    store_close(&store);
    remove(path);
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/weft-bench-store-%d.h5", base ? base : "/tmp", (int)getpid());
    bench_set(path, 40000, 4096);
    bench_set(path, 4000, 65536);
    return 0;
}
