/*
 * Whole importers: any bytes as an annotation file open or are refused, and each item is fetched or
 * refused, and then judged as packing does. The first byte chooses the format.
 * runs=28000
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/image/image.h"
#include "data/import/import.h"
#include "data/store/clean.h"
#include "runtime/base/log.h"

enum { MAX_FETCHED = 64, MAX_OPTIONS = 16 };

static char folder[64];
static char file[80];

static void write_file(const char *name, const void *bytes, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    if (!out || fwrite(bytes, 1, size, out) != size || fclose(out) != 0) abort();
}

static void clean_up(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0) perror(folder);
}

/* A folder with the pictures that the seeds speak of. */
static void set_up(void)
{
    uint8_t rgb[8 * 6 * 3] = {0};
    char name[64];
    struct strbuf png = {0};
    struct image_view view = {rgb, 8, 6, 24};
    snprintf(folder, sizeof folder, "%s/weft-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder) || image_encode_png(view, 1, &png) != STATUS_OK) abort();
    atexit(clean_up);
    log_set_level(LOG_ERROR);
    snprintf(file, sizeof file, "%s/dev.json", folder);
    snprintf(name, sizeof name, "%s/0", folder);
    mkdir(name, 0777);
    write_file("a.png", png.text, png.length);
    write_file("COCO_val2014_000000000001.jpg", png.text, png.length);
    write_file("dev-1-0-img0.png", png.text, png.length);
    write_file("dev-1-0-img1.png", png.text, png.length);
    for (int k = 0; k < 6; k++) {
        snprintf(name, sizeof name, "0/dev-1-0-%d.png", k);
        write_file(name, png.text, png.length);
    }
    strbuf_fini(&png);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {"jsonl", "csv",      "tsv",       "coco",
                                          "mdetr", "karpathy", "vqa",       "nlvr",
                                          "nlvr2", "refcoco",  "webdataset"};
    enum { NUM_FORMATS = sizeof formats / sizeof formats[0] };
    if (size < 1) return 0;
    if (!folder[0]) set_up();
    const struct importer *importer = NULL;
    const char *format = formats[data[0] % NUM_FORMATS];
    if (importer_find(format, &importer) != STATUS_OK) abort();
    write_file("dev.json", data + 1, size - 1);
    const char *sources[] = {file, file};
    const char *values[MAX_OPTIONS];
    for (int i = 0; importer->options[i].name; i++) {
        values[i] = importer->options[i].value;
        if (strcmp(importer->options[i].name, "images") == 0) values[i] = folder;
        if (strcmp(importer->options[i].name, "min-count") == 0) values[i] = "0";
    }
    /* refcoco takes the parts of one file as well as two files. */
    struct import_args args = {sources, 1, importer->options, values};
    struct import_source source = {0};
    struct sample sample = {0};
    if (importer->open(&source, &args) == STATUS_OK) {
        for (int64_t i = 0; i < source.num_items && i < MAX_FETCHED; i++) {
            sample_clear(&sample);
            enum status status = importer->fetch(&source, i, &sample);
            if (status != STATUS_OK) {
                if (!status_message()[0]) abort();
                continue;
            }
            if (sample.num_images == 0) abort();
            for (int32_t k = 0; k < sample.num_images; k++) {
                sample.images[k].width = 8;
                sample.images[k].height = 6;
            }
            if (sample_clean(&sample, source.num_categories) != STATUS_OK) abort();
        }
    }
    importer->close(&source);
    sample_fini(&sample);
    return 0;
}
