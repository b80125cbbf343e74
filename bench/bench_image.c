/*
 * Pictures a second on one core: decode, random resized crop to 384, RandomAugment; resize against
 * Pillow. Reads COCO128 from ../shared when it is there, else JPEGs that it generates itself.
 *
 * The ceiling of the pipelines is libjpeg-turbo alone, decoding the same files with nothing of ours
 * around it. Variants take turns picture by picture, so that noise of the machine hits all alike.
 */
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <jpeglib.h>

#include "data/image/transform.h"
#include "runtime/backend/cpu/isa.h"
#include "tests/data/image/tar_read.h"

enum { MAX_FILES = 128, GENERATED = 16, SIZE = 384, PILLOW_ROUNDS = 30, PIPELINE_SECONDS = 15 };

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
    fprintf(stderr, "bench_image: %s\n", status_message());
    exit(1);
}

/* ---- input ---- */

static void load_shared(struct files *files)
{
    const char *shared = getenv("WEFT_SHARED");
    char path[512];
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

/* Waves and edges: about as many bytes a pixel as a photograph. */
static void generate(struct files *files)
{
    struct image image = {0};
    check(image_reserve(&image, 640, 480));
    for (int n = 0; n < GENERATED; n++) {
        for (int i = 0; i < 640 * 480 * 3; i++) {
            double x = i / 3 % 640;
            double y = (double)(i / 3) / 640;
            double wave = sin(x * (0.05 + n * 0.01) + i % 3) * cos(y * 0.07 * (n + 1));
            int noise = (int)((unsigned)i * 2654435761u >> 28);
            image.pixels[i] =
                (uint8_t)(120 + 80 * wave + noise + ((int)x / 40 + (int)y / 40) % 2 * 30);
        }
        check(image_encode_jpeg(image_as_view(&image), 90, &files->generated[n]));
        files->file[n] =
            (struct file){(const uint8_t *)files->generated[n].text, files->generated[n].length};
    }
    files->count = GENERATED;
    files->origin = "generated";
    image_fini(&image);
}

/* ---- variants ---- */

struct worker {
    struct image decoded;
    struct image out;
    struct image_workspace workspace;
    struct image_transform crop;
    struct image_transform randaug;
    uint64_t sample;
};

static void run_libjpeg(struct worker *worker, struct file file)
{
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr error;
    info.err = jpeg_std_error(&error);
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, file.bytes, (unsigned long)file.size);
    jpeg_read_header(&info, TRUE);
    info.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info);
    check(image_reserve(&worker->decoded, info.output_width, info.output_height));
    while (info.output_scanline < info.output_height) {
        JSAMPROW row =
            worker->decoded.pixels + (size_t)info.output_scanline * info.output_width * 3;
        jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
}

static void run_decode(struct worker *worker, struct file file)
{
    check(image_decode(file.bytes, file.size, NULL, &worker->decoded));
}

static void run_transform(struct worker *worker, struct file file,
                          const struct image_transform *transform)
{
    run_decode(worker, file);
    struct image_plan plan;
    struct image_key key = {.seed = 1, .sample = worker->sample};
    check(image_plan_init(transform, key, worker->decoded.width, worker->decoded.height, &plan));
    check(
        image_plan_apply(&plan, image_as_view(&worker->decoded), &worker->workspace, &worker->out));
}

static void run_crop(struct worker *worker, struct file file)
{
    run_transform(worker, file, &worker->crop);
}

static void run_randaug(struct worker *worker, struct file file)
{
    run_transform(worker, file, &worker->randaug);
}

static const struct {
    const char *name;
    void (*run)(struct worker *worker, struct file file);
    const char *note;
} variants[] = {
    {"image.libjpeg", run_libjpeg, "libjpeg-turbo alone: the ceiling of the rows below"},
    {"image.decode", run_decode, "image_decode, RGB8"},
    {"image.crop384", run_crop, "decode, random resized crop 384 bicubic, flip; bar 350 and 0.6"},
    {"image.randaug384", run_randaug, "the same and RandomAugment(2,7); bar 200"},
};
enum { NUM_VARIANTS = sizeof variants / sizeof variants[0] };

/* The sum over pictures of each one's least time: what the core does when nothing disturbs it. */
static void bench_pipelines(const struct files *files, struct worker *worker)
{
    static double least[NUM_VARIANTS][MAX_FILES];
    int rounds = 0;
    for (double begin = now(); now() - begin < PIPELINE_SECONDS || rounds < 2; rounds++) {
        for (int i = 0; i < files->count; i++) {
            worker->sample = (uint64_t)i;
            for (int v = 0; v < NUM_VARIANTS; v++) {
                double start = now();
                variants[v].run(worker, files->file[i]);
                double seconds = now() - start;
                if (rounds == 0 || seconds < least[v][i]) least[v][i] = seconds;
            }
        }
    }
    double spent[NUM_VARIANTS] = {0};
    for (int v = 0; v < NUM_VARIANTS; v++) {
        for (int i = 0; i < files->count; i++) {
            spent[v] += least[v][i];
        }
    }
    for (int v = 0; v < NUM_VARIANTS; v++) {
        printf("%s\t%.0f\timages/s\t%.0f\t%.2f\t%s; %d pictures of %s, least of %d rounds\n",
               variants[v].name, files->count / spent[v], files->count / spent[0],
               spent[0] / spent[v], variants[v].note, files->count, files->origin, rounds);
    }
}

/* ---- resize against Pillow ---- */

/* Milliseconds that Pillow needs for the same resize, the least of PILLOW_ROUNDS; 0 without it. */
static double pillow_ms(int64_t width, int64_t height, int64_t out_width, int64_t out_height,
                        enum image_filter filter)
{
    char command[640];
    snprintf(command, sizeof command,
             "python3 -c \"\nimport time, os\nfrom PIL import Image\n"
             "im = Image.frombytes('RGB', (%lld, %lld), os.urandom(%lld))\nbest = 9.0\n"
             "for i in range(%d):\n    t = time.thread_time()\n"
             "    im.resize((%lld, %lld), Image.%s)\n"
             "    best = min(best, time.thread_time() - t)\nprint(best * 1000)\" 2>/dev/null",
             (long long)width, (long long)height, (long long)(width * height * 3), PILLOW_ROUNDS,
             (long long)out_width, (long long)out_height,
             filter == IMAGE_BICUBIC ? "BICUBIC" : "BILINEAR");
    FILE *pipe = popen(command, "r");
    double ms = 0;
    if (pipe && fscanf(pipe, "%lf", &ms) != 1) ms = 0;
    if (pipe) pclose(pipe);
    return ms;
}

static void bench_resize(struct worker *worker)
{
    static const struct {
        int64_t width, height, out_width, out_height;
        enum image_filter filter;
    } rows[] = {
        {640, 480, 384, 384, IMAGE_BICUBIC},
        {500, 375, 384, 384, IMAGE_BICUBIC},
        {640, 480, 1066, 800, IMAGE_BILINEAR},
        {2000, 1500, 384, 384, IMAGE_BICUBIC},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check(image_reserve(&worker->decoded, rows[i].width, rows[i].height));
        for (int64_t p = 0; p < rows[i].width * rows[i].height * 3; p++) {
            worker->decoded.pixels[p] = (uint8_t)((uint64_t)p * 2654435761u >> 13);
        }
        struct image_resize how = {
            .filter = rows[i].filter, .width = rows[i].out_width, .height = rows[i].out_height};
        double best = 1e9;
        for (int round = 0; round < 3 * PILLOW_ROUNDS; round++) {
            double start = now();
            check(image_resize(image_as_view(&worker->decoded), &how, &worker->workspace.scratch,
                               &worker->out));
            double seconds = now() - start;
            if (seconds < best) best = seconds;
        }
        double pillow = pillow_ms(rows[i].width, rows[i].height, rows[i].out_width,
                                  rows[i].out_height, rows[i].filter);
        double rate = 1 / best;
        printf("image.resize.%lldx%lld-%lldx%lld\t%.0f\timages/s\t", (long long)rows[i].width,
               (long long)rows[i].height, (long long)rows[i].out_width,
               (long long)rows[i].out_height, rate);
        if (pillow > 0) {
            printf("%.0f\t%.2f\tPillow; bar 3, %s\n", 1000 / pillow, rate * pillow / 1000,
                   cpu_isa_name(cpu_isa()));
        } else {
            printf("-\t-\tpython3 has no PIL to compare with, %s\n", cpu_isa_name(cpu_isa()));
        }
    }
}

int main(void)
{
    static struct files files;
    load_shared(&files);
    if (files.count == 0) generate(&files);
    struct worker worker = {0};
    check(image_transform_find("albef_crop", SIZE, &worker.crop));
    check(image_transform_find("albef_randaug", SIZE, &worker.randaug));
    bench_pipelines(&files, &worker);
    bench_resize(&worker);
    image_fini(&worker.decoded);
    image_fini(&worker.out);
    image_workspace_fini(&worker.workspace);
    for (int i = 0; i < GENERATED; i++) {
        strbuf_fini(&files.generated[i]);
    }
    free(files.archive);
    return 0;
}
