/*
 * Attention: checks, the division of work and the choice of kernels (attention_item.h).
 *
 * The unit of work is an item: one head of one window of one batch row (without windows the whole
 * row is the window). Items are numbered head-major, so that a thread, which takes one contiguous
 * range of them, meets few heads and the bias of a head is prepared once for many windows. The
 * ranges depend only on the shape and the thread count; with the fixed order inside an item and the
 * reduction of the bias gradient in thread order this makes results reproducible.
 */
#include "runtime/ops/attention_kernel.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "runtime/ops/attention_impl.h"

enum { MAX_HEAD_DIM = 256, MAX_WINDOW = 64 };

static int64_t round_up(int64_t value, int64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Tokens that see each other in one item. */
static int64_t item_queries(const struct attention_shape *s)
{
    return s->window ? s->window * s->window : s->query_len;
}

static int64_t item_keys(const struct attention_shape *s)
{
    return s->window ? s->window * s->window : s->key_len;
}

static int64_t num_windows(const struct attention_shape *s)
{
    return s->window ? (s->grid_h / s->window) * (s->grid_w / s->window) : 1;
}

static int64_t table_rows(const struct attention_shape *s)
{
    return s->window ? (2 * s->window - 1) * (2 * s->window - 1) : 0;
}

static enum status check_stride(const char *name, struct attention_stride stride, int64_t tokens,
                                const struct attention_shape *s)
{
    int64_t width = s->heads * s->head_dim;
    CHECK(stride.token >= width, STATUS_INVALID,
          "attention: %s has %lld elements between tokens, less than heads x head_dim = %lld", name,
          (long long)stride.token, (long long)width);
    CHECK(stride.batch >= (tokens - 1) * stride.token + width || s->batch == 1, STATUS_INVALID,
          "attention: %s has %lld elements between batch rows, less than its %lld tokens need",
          name, (long long)stride.batch, (long long)tokens);
    return STATUS_OK;
}

static enum status check_window(const struct attention_shape *s)
{
    CHECK(s->window <= MAX_WINDOW, STATUS_INVALID, "attention: window %lld is above %d",
          (long long)s->window, MAX_WINDOW);
    CHECK(s->grid_h >= 1 && s->grid_w >= 1 && s->grid_h % s->window == 0 &&
              s->grid_w % s->window == 0,
          STATUS_INVALID,
          "attention: grid %lld x %lld is not a multiple of window %lld; pad the grid first",
          (long long)s->grid_h, (long long)s->grid_w, (long long)s->window);
    CHECK(s->query_len == s->grid_h * s->grid_w && s->key_len == s->query_len, STATUS_INVALID,
          "attention: %lld query and %lld key tokens are not the %lld x %lld grid",
          (long long)s->query_len, (long long)s->key_len, (long long)s->grid_h,
          (long long)s->grid_w);
    CHECK(s->shift >= 0 && s->shift < s->window, STATUS_INVALID,
          "attention: shift %lld is outside 0..%lld", (long long)s->shift,
          (long long)s->window - 1);
    CHECK(!s->causal, STATUS_INVALID, "attention: windows cannot be causal");
    return STATUS_OK;
}

enum status attention_shape_check(const struct attention_shape *s)
{
    CHECK(
        s->batch >= 1 && s->query_len >= 1 && s->key_len >= 1 && s->heads >= 1, STATUS_INVALID,
        "attention: batch %lld, query_len %lld, key_len %lld, heads %lld: each must be at least 1",
        (long long)s->batch, (long long)s->query_len, (long long)s->key_len, (long long)s->heads);
    CHECK(s->head_dim >= 1 && s->head_dim <= MAX_HEAD_DIM, STATUS_INVALID,
          "attention: head_dim %lld is outside 1..%d", (long long)s->head_dim, MAX_HEAD_DIM);
    CHECK(s->query_len <= INT32_MAX && s->key_len <= INT32_MAX, STATUS_INVALID,
          "attention: query_len %lld, key_len %lld: at most 2^31 - 1 tokens",
          (long long)s->query_len, (long long)s->key_len);
    CHECK(isfinite(s->scale), STATUS_INVALID, "attention: scale %g is not finite", s->scale);
    CHECK(s->mask_value <= 0, STATUS_INVALID, "attention: mask_value %g is not negative",
          s->mask_value);
    CHECK(s->dropout >= 0 && s->dropout < 1, STATUS_INVALID,
          "attention: dropout %g is outside [0, 1)", s->dropout);
    CHECK(!s->causal || s->query_len == s->key_len, STATUS_INVALID,
          "attention: causal with %lld queries and %lld keys; it needs as many keys as queries",
          (long long)s->query_len, (long long)s->key_len);
    CHECK(s->window >= 0, STATUS_INVALID, "attention: window %lld is negative",
          (long long)s->window);
    if (s->window) TRY(check_window(s));
    if (s->dropout > 0) {
        double words =
            (double)s->batch * (double)s->heads * (double)s->query_len * (double)item_keys(s) / 4;
        CHECK(words < 0x1p32, STATUS_INVALID,
              "attention: dropout of %g probabilities exceeds the generator's 2^34", words * 4);
    }
    TRY(check_stride("q", s->q, s->query_len, s));
    TRY(check_stride("k", s->k, s->key_len, s));
    TRY(check_stride("v", s->v, s->key_len, s));
    TRY(check_stride("o", s->o, s->query_len, s));
    return STATUS_OK;
}

double attention_flops(const struct attention_shape *s)
{
    return 4.0 * (double)s->batch * (double)s->heads * (double)num_windows(s) *
           (double)item_queries(s) * (double)item_keys(s) * (double)s->head_dim;
}

static struct attention_job make_job(const struct attention_shape *s,
                                     const struct attention_tensors *t, int64_t deep_key_pad,
                                     int64_t dim_pad)
{
    const double log2e = 1.4426950408889634;
    int64_t nq = item_queries(s);
    int64_t nk = item_keys(s);
    return (struct attention_job){.shape = s,
                                  .tensors = t,
                                  .nq = nq,
                                  .nk = nk,
                                  .tokens = nq > nk ? nq : nk,
                                  .keys = round_up(nk, 16),
                                  .deep_keys = round_up(nk, deep_key_pad),
                                  .dim = round_up(s->head_dim, dim_pad),
                                  .windows = num_windows(s),
                                  .table = table_rows(s),
                                  .scale2 = (float)(s->scale * log2e),
                                  .mask2 = (float)(s->mask_value * log2e),
                                  .drop_below = (uint32_t)ceil(s->dropout * 0x1p24) << 8,
                                  .keep_scale = 1 / (1 - s->dropout)};
}

size_t attention_scratch_size(const struct attention_shape *shape, int num_threads)
{
    struct attention_job job = make_job(shape, NULL, ATTENTION_PAD, ATTENTION_PAD);
    struct attention_thread thread = {0};
    return attention_job_init(&job, NULL) +
           attention_thread_init(&job, &thread, NULL) * (size_t)num_threads;
}

static const struct attention_kernels *find_kernels(enum cpu_isa isa, bool is_bf16)
{
#if defined(__x86_64__)
    if (is_bf16 && isa >= CPU_ISA_AMX) return &attention_amx;
    if (is_bf16 && isa >= CPU_ISA_AVX512BF16) return &attention_avx512bf16;
    if (isa >= CPU_ISA_AVX512) return &attention_avx512;
    if (isa >= CPU_ISA_AVX2) return &attention_avx2;
#else
    (void)isa;
    (void)is_bf16;
#endif
    return &attention_portable;
}

static struct attention_item item_at(const struct attention_job *job, int64_t i)
{
    int64_t batch = job->shape->batch;
    return (struct attention_item){.head = i / (job->windows * batch),
                                   .b = i / job->windows % batch,
                                   .window = i % job->windows};
}

/* Items [first, end) on one thread with scratch at `base`. */
static void run_items(const struct attention_job *job, const struct attention_kernels *kernels,
                      void *base, int64_t first, int64_t end, bool backward)
{
    struct attention_thread thread = {.batch = -1, .head = -1};
    attention_thread_init(job, &thread, base);
    /* The padding of its rows stays 0. */
    memset(thread.rows16, 0, (size_t)(ATTENTION_ROWS * job->deep_keys) * sizeof(float));
    memset(thread.table, 0, (size_t)(job->shape->heads * job->table) * sizeof *thread.table);
    for (int64_t i = first; i < end; i++) {
        thread.has_next = i + 1 < end;
        if (thread.has_next) thread.next = item_at(job, i + 1);
        (backward ? kernels->backward : kernels->forward)(job, &thread, item_at(job, i));
    }
    if (job->want_dbias) attention_leave_head(job, &thread);
}

/* Sums the threads' tables in thread order. */
static void reduce_tables(const struct attention_job *job, char *base, size_t thread_size,
                          int num_threads)
{
    int64_t heads = job->shape->heads;
    float *out = job->tensors->dbias_table;
    memset(out, 0, (size_t)(heads * job->table) * sizeof *out);
    for (int n = 0; n < num_threads; n++) {
        struct attention_thread thread = {0};
        attention_thread_init(job, &thread, base + (size_t)n * thread_size);
        for (int64_t row = 0; row < job->table; row++) {
            for (int64_t head = 0; head < heads; head++) {
                out[row * heads + head] += thread.table[head * job->table + row];
            }
        }
    }
}

void attention_run(const struct attention_shape *s, const struct attention_tensors *t,
                   int num_threads, enum cpu_isa isa, bool backward)
{
    assert(((uintptr_t)t->scratch & 63) == 0);
    const struct attention_kernels *kernels = find_kernels(isa, s->bf16);
    struct attention_job job = make_job(s, t, kernels->deep_key_pad, kernels->dim_pad);
    job.want_dbias = backward && t->dbias_table;
    char *base = (char *)t->scratch + attention_job_init(&job, t->scratch);
    struct attention_thread counted = {0};
    size_t size = attention_thread_init(&job, &counted, NULL);
    int64_t items = s->heads * s->batch * job.windows;
#pragma omp parallel for schedule(static, 1) num_threads(num_threads)
    for (int n = 0; n < num_threads; n++) {
        run_items(&job, kernels, base + (size_t)n * size, items * n / num_threads,
                  items * (n + 1) / num_threads, backward);
    }
    if (job.want_dbias) reduce_tables(&job, base, size, num_threads);
}

void attention_forward(const struct attention_shape *shape, const struct attention_tensors *tensors,
                       int num_threads)
{
    attention_run(shape, tensors, num_threads, cpu_isa(), false);
}

void attention_backward(const struct attention_shape *shape,
                        const struct attention_tensors *tensors, int num_threads)
{
    attention_run(shape, tensors, num_threads, cpu_isa(), true);
}
