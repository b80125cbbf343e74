/*
 * The driver of image_resize: weights, the order of rows, and the plain C kernels.
 *
 * The two passes are fused over a ring of rows: before an output row is summed, the source rows
 * under it have been filtered horizontally into the ring, in groups of four so that a vector kernel
 * loads each weight once for four rows. The ring holds as many rows as the vertical filter spans,
 * so the intermediate picture never leaves the cache and no row outside the box is touched.
 *
 * Kernels may read a little behind a row. That is the next row of the picture, with weight zero;
 * the last rows, behind which memory ends, are copied to padded ones first (padded_row).
 *
 * Rejected: 16-bit weights as in Pillow-SIMD (one pixel in a hundred differs by a level), floating
 * point (30 significant bits do not fit f32).
 */
#include "data/image/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/image/resize_impl.h"
#include "runtime/backend/cpu/isa.h"

void image_scratch_fini(struct image_scratch *scratch)
{
    free(scratch->memory);
    *scratch = (struct image_scratch){0};
}

/* ---- weights ---- */

static double bilinear(double x)
{
    if (x < 0.0) x = -x;
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double bicubic(double x)
{
    const double a = -0.5;
    if (x < 0.0) x = -x;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static const struct {
    double (*weight)(double);
    double support;
} filters[] = {
    [IMAGE_BILINEAR] = {bilinear, 1.0},
    [IMAGE_BICUBIC] = {bicubic, 2.0},
};

/* One axis as the caller asked for it. */
struct axis_request {
    enum image_filter filter;
    int64_t in;  /* source samples */
    float begin; /* the box */
    float end;
    int64_t out; /* samples that the box becomes */
    int64_t window_begin;
    int64_t window_end;
    bool mirror;
};

static bool is_identity(const struct axis_request *request)
{
    return request->in == request->out && request->begin == 0 && request->end == (float)request->in;
}

static int64_t axis_taps(const struct axis_request *request)
{
    double scale = (double)(request->end - request->begin) / (double)request->out;
    double support = filters[request->filter].support * (scale < 1.0 ? 1.0 : scale);
    int64_t taps = (int64_t)ceil(support) * 2 + 1;
    return (taps + RESIZE_TAPS - 1) / RESIZE_TAPS * RESIZE_TAPS;
}

/* Weights of output sample `index` as Pillow's precompute_coeffs and normalize_coeffs_8bpc have
 * them, operation by operation: another order of the same sums would round otherwise. */
static void sample_weights(const struct axis_request *request, int64_t index, double *work,
                           int32_t *first, int32_t *count, int32_t *weights)
{
    double scale = (double)(request->end - request->begin) / (double)request->out;
    double filter_scale = scale < 1.0 ? 1.0 : scale;
    double support = filters[request->filter].support * filter_scale;
    double centre = request->begin + ((double)index + 0.5) * scale;
    double step = 1.0 / filter_scale;
    int64_t low = (int64_t)(centre - support + 0.5);
    if (low < 0) low = 0;
    int64_t high = (int64_t)(centre + support + 0.5);
    if (high > request->in) high = request->in;
    int64_t n = high - low;
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double position = (double)(i + low) - centre + 0.5;
        work[i] = filters[request->filter].weight(position * step);
        sum += work[i];
    }
    for (int64_t i = 0; i < n; i++) {
        if (sum != 0.0) work[i] /= sum;
        double fixed = work[i] * (1 << RESIZE_FRACTION_BITS);
        weights[i] = (int32_t)(work[i] < 0 ? -0.5 + fixed : 0.5 + fixed);
    }
    *first = (int32_t)low;
    *count = (int32_t)n;
}

static void axis_fill(struct resize_axis *axis, const struct axis_request *request, double *work)
{
    memset(axis->weights, 0, (size_t)(axis->size * axis->taps) * sizeof *axis->weights);
    for (int64_t i = 0; i < axis->size; i++) {
        int64_t index = request->mirror ? request->window_end - 1 - i : request->window_begin + i;
        sample_weights(request, index, work, &axis->first[i], &axis->count[i],
                       axis->weights + i * axis->taps);
    }
}

static void axis_split(struct resize_axis *axis)
{
    int16_t *out = axis->split;
    for (int64_t i = 0; i < axis->size * axis->taps; i += RESIZE_TAPS, out += 2 * RESIZE_TAPS) {
        for (int j = 0; j < RESIZE_TAPS; j++) {
            out[j] = (int16_t)resize_high(axis->weights[i + j]);
            out[RESIZE_TAPS + j] = (int16_t)resize_low(axis->weights[i + j]);
        }
    }
}

/* ---- plain C kernels ---- */

void resize_horizontal_scalar(const struct resize_axis *axis, const uint8_t *const in[RESIZE_GROUP],
                              uint8_t *const out[RESIZE_GROUP])
{
    for (int row = 0; row < RESIZE_GROUP; row++) {
        for (int64_t x = 0; x < axis->size; x++) {
            const uint8_t *pixel = in[row] + (int64_t)axis->first[x] * IMAGE_CHANNELS;
            const int32_t *weights = axis->weights + x * axis->taps;
            int32_t sum[3] = {RESIZE_ROUND, RESIZE_ROUND, RESIZE_ROUND};
            for (int32_t i = 0; i < axis->count[x]; i++, pixel += IMAGE_CHANNELS) {
                sum[0] += pixel[0] * weights[i];
                sum[1] += pixel[1] * weights[i];
                sum[2] += pixel[2] * weights[i];
            }
            for (int c = 0; c < 3; c++) {
                out[row][x * IMAGE_CHANNELS + c] = resize_clip(sum[c]);
            }
        }
    }
}

void resize_vertical_scalar(const uint8_t *const *in, const int32_t *weights, int64_t count,
                            uint8_t *out, int64_t bytes)
{
    enum { BLOCK = 64 };
    for (int64_t begin = 0; begin < bytes; begin += BLOCK) {
        int64_t n = bytes - begin < BLOCK ? bytes - begin : BLOCK;
        int32_t sum[BLOCK];
        for (int64_t i = 0; i < n; i++) {
            sum[i] = RESIZE_ROUND;
        }
        for (int64_t row = 0; row < count; row++) {
            const uint8_t *source = in[row] + begin;
            for (int64_t i = 0; i < n; i++) {
                sum[i] += source[i] * weights[row];
            }
        }
        for (int64_t i = 0; i < n; i++) {
            out[begin + i] = resize_clip(sum[i]);
        }
    }
}

/* ---- the driver ---- */

struct resize_job {
    struct image_view source;
    struct resize_axis x;
    struct resize_axis y;
    bool filter_x; /* false: that pass would change nothing */
    bool filter_y;
    resize_horizontal *horizontal;
    resize_vertical *vertical;
    int64_t ring_rows;
    int64_t ring_stride;
    uint8_t *ring;   /* [ring_rows, ring_stride] */
    uint8_t *padded; /* [RESIZE_GROUP, padded_stride] copies of rows at the end of memory */
    int64_t padded_stride;
    int64_t read_bytes;   /* what a horizontal kernel may read of a row */
    double *work;         /* one sample's weights */
    const uint8_t **rows; /* [y.taps] the rows under one output row */
};

/* Hands out pieces of the scratch memory; with a NULL base it only counts. */
struct carver {
    uint8_t *base;
    size_t used;
};

static void *carve(struct carver *carver, int64_t count, size_t size)
{
    void *piece = carver->base ? carver->base + carver->used : NULL;
    carver->used += ((size_t)count * size + 63) / 64 * 64;
    return piece;
}

static void carve_axis(struct carver *carver, struct resize_axis *axis, bool split)
{
    int64_t weights = axis->size * axis->taps;
    axis->first = carve(carver, axis->size, sizeof *axis->first);
    axis->count = carve(carver, axis->size, sizeof *axis->count);
    axis->weights = carve(carver, weights, sizeof *axis->weights);
    axis->split = split ? carve(carver, 2 * weights, sizeof *axis->split) : NULL;
}

static void carve_all(struct carver *carver, struct resize_job *job)
{
    int64_t taps = job->x.taps > job->y.taps ? job->x.taps : job->y.taps;
    carve_axis(carver, &job->x, job->horizontal != resize_horizontal_scalar);
    carve_axis(carver, &job->y, false);
    job->work = carve(carver, taps, sizeof *job->work);
    job->rows = carve(carver, job->y.taps, sizeof *job->rows);
    job->ring = carve(carver, job->ring_rows, (size_t)job->ring_stride);
    job->padded = carve(carver, RESIZE_GROUP, (size_t)job->padded_stride);
}

static enum status reserve_scratch(struct image_scratch *scratch, size_t bytes)
{
    if (bytes <= scratch->capacity) return STATUS_OK;
    image_scratch_fini(scratch);
    scratch->memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    CHECK(scratch->memory, STATUS_NO_MEMORY, "resize: no memory for %zu bytes", bytes);
    scratch->capacity = bytes;
    return STATUS_OK;
}

static void choose_kernels(struct resize_job *job)
{
    job->horizontal = resize_horizontal_scalar;
    job->vertical = resize_vertical_scalar;
#if defined(__x86_64__)
    enum cpu_isa isa = cpu_isa();
    if (isa >= CPU_ISA_AVX2) {
        job->horizontal = resize_horizontal_avx2;
        job->vertical = resize_vertical_avx2;
    }
    if (isa >= CPU_ISA_AVX512) {
        job->horizontal = resize_horizontal_avx512;
        job->vertical = resize_vertical_avx512;
    }
#endif
}

static enum status job_init(struct resize_job *job, struct image_view source,
                            const struct axis_request *x, const struct axis_request *y,
                            struct image_scratch *scratch)
{
    *job = (struct resize_job){.source = source};
    choose_kernels(job);
    job->filter_x = !is_identity(x);
    job->filter_y = !is_identity(y);
    job->x.size = x->window_end - x->window_begin;
    job->y.size = y->window_end - y->window_begin;
    job->x.taps = axis_taps(x);
    job->y.taps = axis_taps(y);
    job->ring_rows = job->y.taps + RESIZE_GROUP;
    job->ring_stride = (job->x.size * IMAGE_CHANNELS + RESIZE_ROW_PADDING + 63) / 64 * 64;
    job->read_bytes = (source.width + RESIZE_TAPS) * IMAGE_CHANNELS + RESIZE_OVERREAD;
    job->padded_stride = (job->read_bytes + 63) / 64 * 64;
    struct carver carver = {0};
    carve_all(&carver, job);
    TRY(reserve_scratch(scratch, carver.used));
    carver = (struct carver){.base = scratch->memory};
    carve_all(&carver, job);
    axis_fill(&job->x, x, job->work);
    axis_fill(&job->y, y, job->work);
    if (job->x.split) axis_split(&job->x);
    return STATUS_OK;
}

/* Row `y` of the source, or a copy of it where reading behind it would leave the picture. */
static const uint8_t *padded_row(const struct resize_job *job, int64_t y, int slot)
{
    const struct image_view *source = &job->source;
    int64_t bytes = source->width * IMAGE_CHANNELS;
    const uint8_t *row = source->pixels + y * source->stride;
    int64_t left = (source->height - 1 - y) * source->stride + bytes;
    if (left >= job->read_bytes) return row;
    uint8_t *copy = job->padded + slot * job->padded_stride;
    memcpy(copy, row, (size_t)bytes);
    memset(copy + bytes, 0, (size_t)(job->read_bytes - bytes));
    return copy;
}

/* Filters source rows [y, y + count) into the ring, count <= RESIZE_GROUP. */
static void fill_ring(const struct resize_job *job, int64_t y, int64_t count)
{
    const uint8_t *in[RESIZE_GROUP];
    uint8_t *out[RESIZE_GROUP];
    for (int64_t i = 0; i < RESIZE_GROUP; i++) {
        /* A group that is not full repeats its last row. */
        int64_t row = y + (i < count ? i : count - 1);
        in[i] = padded_row(job, row, (int)i);
        out[i] = job->ring + row % job->ring_rows * job->ring_stride;
    }
    job->horizontal(&job->x, in, out);
}

static const uint8_t *filtered_row(const struct resize_job *job, int64_t y)
{
    if (job->filter_x) return job->ring + y % job->ring_rows * job->ring_stride;
    return job->source.pixels + y * job->source.stride;
}

static void run(const struct resize_job *job, int64_t first_row, uint8_t *out)
{
    int64_t bytes = job->x.size * IMAGE_CHANNELS;
    int64_t filled = 0; /* source rows below this are in the ring, or are past */
    for (int64_t y = 0; y < job->y.size; y++, out += bytes) {
        int64_t first = job->filter_y ? job->y.first[y] : first_row + y;
        int64_t count = job->filter_y ? job->y.count[y] : 1;
        if (filled < first) filled = first;
        while (job->filter_x && filled < first + count) {
            int64_t rows = job->source.height - filled;
            if (rows > RESIZE_GROUP) rows = RESIZE_GROUP;
            fill_ring(job, filled, rows);
            filled += rows;
        }
        if (!job->filter_y) {
            memcpy(out, filtered_row(job, first), (size_t)bytes);
            continue;
        }
        for (int64_t i = 0; i < count; i++) {
            job->rows[i] = filtered_row(job, first + i);
        }
        job->vertical(job->rows, job->y.weights + y * job->y.taps, count, out, bytes);
    }
}

static enum status check_axis(const char *name, const struct axis_request *request)
{
    CHECK(request->in >= 1 && request->in <= IMAGE_MAX_SIDE, STATUS_INVALID,
          "resize: source %s of %lld pixels is not 1 to %lld", name, (long long)request->in,
          (long long)IMAGE_MAX_SIDE);
    CHECK(request->out >= 1 && request->out <= IMAGE_MAX_SIDE, STATUS_INVALID,
          "resize: output %s of %lld pixels is not 1 to %lld", name, (long long)request->out,
          (long long)IMAGE_MAX_SIDE);
    CHECK(request->begin >= 0 && request->end <= (float)request->in &&
              request->begin < request->end,
          STATUS_INVALID, "resize: box from %g to %g does not lie in a %s of %lld pixels",
          (double)request->begin, (double)request->end, name, (long long)request->in);
    CHECK(request->window_begin >= 0 && request->window_end <= request->out &&
              request->window_begin < request->window_end,
          STATUS_INVALID, "resize: window from %lld to %lld does not lie in a %s of %lld pixels",
          (long long)request->window_begin, (long long)request->window_end, name,
          (long long)request->out);
    return STATUS_OK;
}

static struct axis_request axis_request(const struct image_resize *how, int axis, int64_t in)
{
    bool whole_box = how->box[0] == 0 && how->box[1] == 0 && how->box[2] == 0 && how->box[3] == 0;
    bool whole_window =
        how->window[0] == 0 && how->window[1] == 0 && how->window[2] == 0 && how->window[3] == 0;
    int64_t out = axis == 0 ? how->width : how->height;
    return (struct axis_request){
        .filter = how->filter,
        .in = in,
        .begin = how->box[axis],
        .end = whole_box ? (float)in : how->box[axis + 2],
        .out = out,
        .window_begin = how->window[axis],
        .window_end = whole_window ? out : how->window[axis + 2],
        .mirror = axis == 0 && how->mirror,
    };
}

enum status image_resize(struct image_view source, const struct image_resize *how,
                         struct image_scratch *scratch, struct image *out)
{
    CHECK(how->filter == IMAGE_BILINEAR || how->filter == IMAGE_BICUBIC, STATUS_INVALID,
          "resize: no filter %d", (int)how->filter);
    struct axis_request x = axis_request(how, 0, source.width);
    struct axis_request y = axis_request(how, 1, source.height);
    TRY(check_axis("width", &x));
    TRY(check_axis("height", &y));
    struct resize_job job;
    TRY(job_init(&job, source, &x, &y, scratch));
    TRY(image_reserve(out, job.x.size, job.y.size));
    /* The horizontal pass also mirrors and cuts the window. */
    if (x.mirror || job.x.size != x.out) job.filter_x = true;
    run(&job, y.window_begin, out->pixels);
    return STATUS_OK;
}
