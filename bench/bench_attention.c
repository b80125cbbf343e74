/*
 * Fused attention against oneDNN's batched matrix products of the same sizes.
 *
 * FLOPs are those of the two products, 2 per multiply-add, and 3 x forward for forward + backward
 * (the scores that the backward computes again are not counted). The ceiling is oneDNN's rate for
 * the two products alone: q k^T into scores and p v, all heads in one call, with the same
 * instructions (WEFT_ISA lowers both). One row per shape, dtype and direction; the note has the
 * rate by processor time, which other load on the machine disturbs less, and the time of a call.
 */
#include <dnnl.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/bf16.h"
#include "runtime/ops/attention_impl.h"

struct row {
    const char *name;
    int64_t batch, query_len, key_len, heads, head_dim;
    int64_t window, shift, grid;
    bool masked;
};

static const struct row rows[] = {
    {"window core 16x16x144x32", 16, 144, 144, 16, 32, 12, 0, 12, false},
    {"swin stage 0, 64x4 heads", 1, 9216, 9216, 4, 32, 12, 6, 96, false},
    {"swin stage 1, 16x8 heads", 1, 2304, 2304, 8, 32, 12, 6, 48, false},
    {"swin stage 2, 4x16 heads", 4, 576, 576, 16, 32, 12, 6, 24, false},
    {"swin stage 3, 1x32 heads", 4, 144, 144, 32, 32, 12, 0, 12, false},
    {"text 8x40, 12x64", 8, 40, 40, 12, 64, 0, 0, 0, true},
    {"image to text 576x40, 16x32", 4, 576, 40, 16, 32, 0, 0, 0, true},
    {"text to image 40x576, 12x64", 8, 40, 576, 12, 64, 0, 0, 0, false},
};

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Least wall and processor seconds of a call. */
struct timing {
    double wall, cpu;
};

static struct timing least(struct timing best, double wall, double cpu)
{
    return (struct timing){fmin(best.wall, wall), fmin(best.cpu, cpu)};
}

static void *allocate(size_t size)
{
    void *data = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!data) {
        fprintf(stderr, "bench_attention: no memory for %zu bytes\n", size);
        exit(1);
    }
    memset(data, 0, size);
    return data;
}

static void *random_tensor(int64_t count, bool is_bf16, uint64_t seed)
{
    float *data = allocate((size_t)count * 4);
    rng_fill_normal(rng_key(seed, RNG_TEST, 0), 0, 0, data, count);
    if (!is_bf16) return data;
    bf16 *narrow = (bf16 *)data;
    for (int64_t i = 0; i < count; i++) {
        narrow[i] = bf16_from_f32(data[i]);
    }
    return data;
}

struct problem {
    struct attention_shape shape;
    struct attention_tensors tensors;
    void *memory[12];
    int count;
};

static void *keep(struct problem *p, void *data)
{
    return p->memory[p->count++] = data;
}

/* q, k, v as slices of packed tensors, the way a model has them. */
static void problem_init(struct problem *p, const struct row *row, bool is_bf16, int threads)
{
    int64_t width = row->heads * row->head_dim;
    bool self = row->query_len == row->key_len;
    int64_t q_token = self ? 3 * width : width;
    int64_t k_token = self ? 3 * width : 2 * width;
    size_t size = is_bf16 ? 2 : 4;
    struct attention_stride q = {row->query_len * q_token, q_token};
    struct attention_stride k = {row->key_len * k_token, k_token};
    struct attention_stride o = {row->query_len * width, width};
    memset(p, 0, sizeof *p);
    p->shape = (struct attention_shape){.batch = row->batch,
                                        .query_len = row->query_len,
                                        .key_len = row->key_len,
                                        .heads = row->heads,
                                        .head_dim = row->head_dim,
                                        .bf16 = is_bf16,
                                        .scale = 1 / sqrtf((float)row->head_dim),
                                        .mask_value = -10000,
                                        .window = row->window,
                                        .shift = row->shift,
                                        .grid_h = row->grid,
                                        .grid_w = row->grid,
                                        .q = q,
                                        .k = k,
                                        .v = k,
                                        .o = o,
                                        .dq = q,
                                        .dk = k,
                                        .dv = k,
                                        .dout = o};
    if (attention_shape_check(&p->shape) != STATUS_OK) {
        fprintf(stderr, "bench_attention: %s\n", status_message());
        exit(1);
    }
    struct attention_tensors *t = &p->tensors;
    char *qkv = keep(p, random_tensor(row->batch * q.batch, is_bf16, 1));
    char *kv = self ? qkv : keep(p, random_tensor(row->batch * k.batch, is_bf16, 2));
    char *dqkv = keep(p, random_tensor(row->batch * q.batch, is_bf16, 3));
    char *dkv = self ? dqkv : keep(p, random_tensor(row->batch * k.batch, is_bf16, 4));
    size_t first = self ? (size_t)width * size : 0;
    t->q = qkv;
    t->k = kv + first;
    t->v = kv + first + (size_t)width * size;
    t->dq = dqkv;
    t->dk = dkv + first;
    t->dv = dkv + first + (size_t)width * size;
    t->dout = keep(p, random_tensor(row->batch * o.batch, is_bf16, 5));
    t->o = keep(p, random_tensor(row->batch * o.batch, is_bf16, 6));
    t->lse = keep(p, allocate((size_t)(row->batch * row->heads * row->query_len) * 4));
    if (row->window) {
        int64_t table = (2 * row->window - 1) * (2 * row->window - 1) * row->heads;
        t->bias_table = keep(p, random_tensor(table, false, 7));
        t->dbias_table = keep(p, random_tensor(table, false, 8));
    }
    if (row->masked) {
        int32_t *mask = keep(p, allocate((size_t)(row->batch * row->key_len) * 4));
        for (int64_t i = 0; i < row->batch * row->key_len; i++) {
            mask[i] = i % row->key_len < row->key_len * 3 / 4;
        }
        t->key_mask = mask;
    }
    t->scratch = keep(p, allocate(attention_scratch_size(&p->shape, threads)));
}

static void problem_fini(struct problem *p)
{
    for (int i = 0; i < p->count; i++) {
        free(p->memory[i]);
    }
}

/* ---- the ceiling ---- */

struct product {
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
};

struct ceiling {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct product product[2];
    void *memory[6];
};

static void must(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success) return;
    fprintf(stderr, "bench_attention: oneDNN %s: status %d\n", what, (int)status);
    exit(1);
}

/* `batch` products [m, k] x [k, n]; B is stored [n, k] when `transposed`. */
static void product_init(struct ceiling *c, struct product *p, void **memory, int64_t batch,
                         int64_t m, int64_t n, int64_t k, bool is_bf16, bool transposed)
{
    dnnl_data_type_t type = is_bf16 ? dnnl_bf16 : dnnl_f32;
    dnnl_dims_t dims[3] = {{batch, m, k}, {batch, k, n}, {batch, m, n}};
    dnnl_memory_desc_t a;
    dnnl_memory_desc_t b;
    dnnl_memory_desc_t out;
    must(dnnl_memory_desc_init_by_tag(&a, 3, dims[0], type, dnnl_abc), "memory");
    must(dnnl_memory_desc_init_by_tag(&b, 3, dims[1], type, transposed ? dnnl_acb : dnnl_abc),
         "memory");
    must(dnnl_memory_desc_init_by_tag(&out, 3, dims[2], transposed ? dnnl_f32 : type, dnnl_abc),
         "memory");
    memory[0] = random_tensor(batch * m * k, is_bf16, 1);
    memory[1] = random_tensor(batch * k * n, is_bf16, 2);
    memory[2] = random_tensor(batch * m * n, false, 3);
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t made;
    must(dnnl_matmul_desc_init(&desc, &a, &b, NULL, &out), "matmul");
    must(dnnl_primitive_desc_create(&made, &desc, NULL, c->engine, NULL), "matmul");
    must(dnnl_primitive_create(&p->primitive, made), "matmul");
    dnnl_primitive_desc_destroy(made);
    must(dnnl_memory_create(&p->a, &a, c->engine, memory[0]), "memory");
    must(dnnl_memory_create(&p->b, &b, c->engine, memory[1]), "memory");
    must(dnnl_memory_create(&p->c, &out, c->engine, memory[2]), "memory");
}

static void ceiling_init(struct ceiling *c, const struct attention_shape *s)
{
    int64_t windows = s->window ? s->query_len / (s->window * s->window) : 1;
    int64_t nq = s->window ? s->window * s->window : s->query_len;
    int64_t nk = s->window ? s->window * s->window : s->key_len;
    int64_t batch = s->batch * s->heads * windows;
    must(dnnl_engine_create(&c->engine, dnnl_cpu, 0), "engine");
    must(dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags), "stream");
    product_init(c, &c->product[0], c->memory, batch, nq, nk, s->head_dim, s->bf16, true);
    product_init(c, &c->product[1], c->memory + 3, batch, nq, s->head_dim, nk, s->bf16, false);
}

static void ceiling_run(struct ceiling *c)
{
    for (int i = 0; i < 2; i++) {
        struct product *p = &c->product[i];
        dnnl_exec_arg_t args[3] = {
            {DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
        must(dnnl_primitive_execute(p->primitive, c->stream, 3, args), "execute");
    }
    must(dnnl_stream_wait(c->stream), "wait");
}

static void ceiling_fini(struct ceiling *c)
{
    for (int i = 0; i < 2; i++) {
        dnnl_memory_destroy(c->product[i].a);
        dnnl_memory_destroy(c->product[i].b);
        dnnl_memory_destroy(c->product[i].c);
        dnnl_primitive_destroy(c->product[i].primitive);
    }
    dnnl_stream_destroy(c->stream);
    dnnl_engine_destroy(c->engine);
    for (int i = 0; i < 6; i++) {
        free(c->memory[i]);
    }
}

/* ---- measuring ---- */

enum { FORWARD, BACKWARD, CEILING, PARTS };

static void run_part(int part, struct problem *p, struct ceiling *c, int threads)
{
    if (part == CEILING) {
        ceiling_run(c);
    } else {
        (part == FORWARD ? attention_forward : attention_backward)(&p->shape, &p->tensors, threads);
    }
}

static void print_row(const struct row *row, bool is_bf16, const char *what, double flops,
                      struct timing time, struct timing ceiling, double ceiling_flops, int threads)
{
    double rate = flops / time.wall / 1e9;
    double top = ceiling_flops / ceiling.wall / 1e9;
    printf(
        "attention %s %s %s\t%.1f\tGFLOP/s\t%.1f\t%.2f\tby processor time %.1f of %.1f, %.3f ms\n",
        row->name, is_bf16 ? "bf16" : "f32", what, rate, top, rate / top,
        flops * threads / time.cpu / 1e9, ceiling_flops * threads / ceiling.cpu / 1e9,
        1e3 * time.wall);
}

static void measure(const struct row *row, bool is_bf16, int threads, double seconds)
{
    struct problem problem;
    struct ceiling ceiling;
    problem_init(&problem, row, is_bf16, threads);
    ceiling_init(&ceiling, &problem.shape);
    struct timing best[PARTS] = {{1e9, 1e9}, {1e9, 1e9}, {1e9, 1e9}};
    double end = now(CLOCK_MONOTONIC) + seconds;
    /* The parts take turns, so that a busy neighbour slows all of them. */
    for (int turn = 0; turn < 3 || now(CLOCK_MONOTONIC) < end; turn++) {
        for (int part = 0; part < PARTS; part++) {
            double wall = now(CLOCK_MONOTONIC);
            double cpu = now(CLOCK_PROCESS_CPUTIME_ID);
            run_part(part, &problem, &ceiling, threads);
            if (turn == 0) continue;
            best[part] =
                least(best[part], now(CLOCK_MONOTONIC) - wall, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
        }
    }
    struct timing both = {best[FORWARD].wall + best[BACKWARD].wall,
                          best[FORWARD].cpu + best[BACKWARD].cpu};
    double flops = attention_flops(&problem.shape);
    print_row(row, is_bf16, "forward", flops, best[FORWARD], best[CEILING], flops, threads);
    print_row(row, is_bf16, "both", 3 * flops, both, best[CEILING], flops, threads);
    fflush(stdout);
    ceiling_fini(&ceiling);
    problem_fini(&problem);
}

int main(int argc, char **argv)
{
    static const dnnl_cpu_isa_t isa[CPU_ISA_COUNT] = {
        [CPU_ISA_SCALAR] = dnnl_cpu_isa_sse41,
        [CPU_ISA_AVX2] = dnnl_cpu_isa_avx2,
        [CPU_ISA_AVX512] = dnnl_cpu_isa_avx512_core,
        [CPU_ISA_AVX512BF16] = dnnl_cpu_isa_avx512_core_bf16,
        [CPU_ISA_AMX] = dnnl_cpu_isa_all,
    };
    if (!getenv("OMP_WAIT_POLICY")) {
        /* A thread that spins between calls would count as processor time; OpenMP reads this before
         * main. */
        setenv("OMP_WAIT_POLICY", "passive", 1);
        execv("/proc/self/exe", argv);
    }
    const char *only = argc > 1 ? argv[1] : "";
    double seconds = argc > 2 ? atof(argv[2]) : 1;
    int threads = omp_get_max_threads();
    dnnl_set_max_cpu_isa(isa[cpu_isa()]);
    printf("# attention, %s, %d threads\n", cpu_isa_name(cpu_isa()), threads);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!strstr(rows[i].name, only)) continue;
        measure(&rows[i], false, threads, seconds);
        /* oneDNN has no bf16 below AVX-512. */
        if (cpu_isa() >= CPU_ISA_AVX512) measure(&rows[i], true, threads, seconds);
    }
    return 0;
}
