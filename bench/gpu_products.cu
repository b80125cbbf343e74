/*
 * Matrix products against the best that cuBLASLt has.
 *
 * The best is found by trying: every algorithm that the library's heuristic offers for the shape,
 * up to 32, without bias or epilogue, with any way of reducing, each timed. Ours is what the plan
 * runs (runtime/backend/cuda/matmul.h), with the bias where layers have one.
 */
#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/gpu_bench.h"
#include "runtime/backend/cuda/kernel.cuh"
#include "runtime/backend/cuda/matmul.h"
#include "runtime/backend/cuda/tuning.h"

enum { OFFERED = 32 };
static const size_t workspace_bytes = (size_t)64 << 20;

static cublasLtHandle_t handle;

static enum status lt_status(cublasStatus_t status, const char *call)
{
    if (status == CUBLAS_STATUS_SUCCESS) return STATUS_OK;
    return status_fail(STATUS_INTERNAL, "cuBLASLt: %s: %s", call, cublasLtGetStatusString(status));
}

#define LT_TRY(call) TRY(lt_status((call), #call))

/* Device memory of a product. */
struct operands {
    void *a, *b, *c, *bias, *workspace, *scratch;
};

static void operands_free(struct operands *o)
{
    cudaFree(o->a);
    cudaFree(o->b);
    cudaFree(o->c);
    cudaFree(o->bias);
    cudaFree(o->workspace);
    cudaFree(o->scratch);
}

static enum status reserve(void **memory, size_t bytes)
{
    return cuda_status(cudaMalloc(memory, bytes + 256), "cudaMalloc");
}

static enum status operands_make(struct gpu_bench *bench, struct operands *o,
                                 const struct cuda_matmul_spec *spec)
{
    bool bf16 = spec->dtype_ab == DTYPE_BF16;
    size_t element = bf16 ? 2 : 4;
    size_t a = (size_t)(spec->batch * spec->m * spec->k) * element;
    size_t b = (size_t)(spec->batch * spec->k * spec->n) * element;
    TRY(reserve(&o->a, a));
    TRY(reserve(&o->b, b));
    TRY(reserve(&o->c, (size_t)(spec->batch * spec->m * spec->n) * 4));
    TRY(reserve(&o->bias, (size_t)spec->n * 4));
    TRY(reserve(&o->workspace, bench->quick ? 4096 : workspace_bytes));
    TRY(gpu_bench_fill(bench, o->a, a, bf16));
    TRY(gpu_bench_fill(bench, o->b, b, bf16));
    return gpu_bench_fill(bench, o->bias, (size_t)spec->n * 4, false);
}

/* ---- the library, called directly ---- */

struct direct {
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t offered[OFFERED];
    int count;
    const cublasLtMatmulAlgo_t *algorithm; /* that is being timed */
    const struct operands *operands;
    size_t workspace;
};

static cudaDataType_t type_of(enum dtype dtype)
{
    return dtype == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static enum status direct_layout(cublasLtMatrixLayout_t *layout, enum dtype dtype, int64_t rows,
                                 int64_t columns)
{
    LT_TRY(cublasLtMatrixLayoutCreate(layout, type_of(dtype), (uint64_t)columns, (uint64_t)rows,
                                      columns));
    return STATUS_OK;
}

/* As in matmul.cu: the library's first operand is our second. */
static enum status direct_make(struct direct *d, const struct cuda_matmul_spec *spec, bool tf32)
{
    cublasOperation_t first = spec->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t second = spec->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    if (!handle) LT_TRY(cublasLtCreate(&handle));
    LT_TRY(cublasLtMatmulDescCreate(
        &d->operation, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
    LT_TRY(cublasLtMatmulDescSetAttribute(d->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                          sizeof first));
    LT_TRY(cublasLtMatmulDescSetAttribute(d->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                          sizeof second));
    TRY(direct_layout(&d->a, spec->dtype_ab, spec->transpose_a ? spec->k : spec->m,
                      spec->transpose_a ? spec->m : spec->k));
    TRY(direct_layout(&d->b, spec->dtype_ab, spec->transpose_b ? spec->n : spec->k,
                      spec->transpose_b ? spec->k : spec->n));
    TRY(direct_layout(&d->c, spec->dtype_c, spec->m, spec->n));
    LT_TRY(cublasLtMatmulPreferenceCreate(&d->preference));
    LT_TRY(cublasLtMatmulPreferenceSetAttribute(d->preference,
                                                CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                &d->workspace, sizeof d->workspace));
    LT_TRY(cublasLtMatmulAlgoGetHeuristic(handle, d->operation, d->b, d->a, d->c, d->c,
                                          d->preference, OFFERED, d->offered, &d->count));
    return STATUS_OK;
}

static void direct_free(struct direct *d)
{
    if (d->preference) cublasLtMatmulPreferenceDestroy(d->preference);
    if (d->a) cublasLtMatrixLayoutDestroy(d->a);
    if (d->b) cublasLtMatrixLayoutDestroy(d->b);
    if (d->c) cublasLtMatrixLayoutDestroy(d->c);
    if (d->operation) cublasLtMatmulDescDestroy(d->operation);
}

static enum status enqueue_direct(void *user, cudaStream_t stream)
{
    const struct direct *d = (const struct direct *)user;
    const struct operands *o = d->operands;
    const float one = 1.0f;
    const float zero = 0.0f;
    LT_TRY(cublasLtMatmul(handle, d->operation, &one, o->b, d->b, o->a, d->a, &zero, o->c, d->c,
                          o->c, d->c, d->algorithm, o->workspace, d->workspace, stream));
    return STATUS_OK;
}

/* Each algorithm a few times, the best of them again with all repetitions. */
static enum status direct_best(struct gpu_bench *bench, struct direct *d, double *best)
{
    const cublasLtMatmulAlgo_t *fastest = NULL;
    struct gpu_work work = {enqueue_direct, d};
    *best = 1e30;
    for (int i = 0; i < d->count; i++) {
        double seconds = 0;
        d->algorithm = &d->offered[i].algo;
        /* Some are offered and then refused. */
        if (gpu_bench_time(bench, work, 3, &seconds) != STATUS_OK) {
            cudaGetLastError();
            continue;
        }
        if (seconds < *best) {
            *best = seconds;
            fastest = d->algorithm;
        }
    }
    CHECK(fastest, STATUS_UNSUPPORTED, "cuBLASLt runs none of the %d algorithms that it offers",
          d->count);
    d->algorithm = fastest;
    double seconds = 0;
    TRY(gpu_bench_time(bench, work, bench->repeats, &seconds));
    if (seconds < *best) *best = seconds;
    return STATUS_OK;
}

/* ---- ours ---- */

struct ours {
    struct cuda_matmul *matmul;
    struct cuda_matmul_run run;
};

static enum status enqueue_ours(void *user, cudaStream_t stream)
{
    struct ours *ours = (struct ours *)user;
    ours->run.stream = stream;
    return cuda_matmul_run(ours->matmul, &ours->run);
}

static enum status time_ours(struct gpu_bench *bench, const struct cuda_matmul_spec *spec,
                             bool tf32, struct operands *o, double *seconds)
{
    struct ours ours = {};
    size_t scratch = 0;
    enum status status = cuda_matmul_create(&ours.matmul, spec, &scratch);
    if (status == STATUS_OK) status = reserve(&o->scratch, scratch);
    ours.run.a = o->a;
    ours.run.b = o->b;
    ours.run.c = o->c;
    ours.run.bias = spec->bias ? (const float *)o->bias : NULL;
    ours.run.scratch = o->scratch;
    ours.run.tf32 = tf32;
    ours.run.stream = bench->stream;
    /* As before the first run of a step. */
    if (status == STATUS_OK && tuning_is_on()) status = cuda_matmul_tune(ours.matmul, &ours.run);
    if (status == STATUS_OK) {
        status = gpu_bench_time(bench, gpu_work{enqueue_ours, &ours}, bench->repeats, seconds);
    }
    cuda_matmul_destroy(&ours.matmul);
    return status;
}

/* Seconds of one product: ours (unless NULL) and the library's best. */
static enum status time_product(struct gpu_bench *bench, const struct cuda_matmul_spec *spec,
                                bool tf32, double *ours, double *best)
{
    struct operands operands = {};
    struct direct direct = {};
    direct.operands = &operands;
    direct.workspace = bench->quick ? 4096 : workspace_bytes;
    enum status status = operands_make(bench, &operands, spec);
    if (status == STATUS_OK) status = direct_make(&direct, spec, tf32);
    if (status == STATUS_OK) status = direct_best(bench, &direct, best);
    if (status == STATUS_OK && ours) status = time_ours(bench, spec, tf32, &operands, ours);
    direct_free(&direct);
    operands_free(&operands);
    return status;
}

static double flops_of(const struct cuda_matmul_spec *spec)
{
    return 2.0 * (double)spec->batch * (double)spec->m * (double)spec->n * (double)spec->k;
}

/* ---- ceilings ---- */

extern "C" enum status gpu_products(struct gpu_bench *bench)
{
    static const char *const names[GPU_PRODUCTS] = {"bf16", "TF32", "f32"};
    /* Square, and as tall as activations are. */
    static const int64_t sizes[2][3] = {{8192, 8192, 8192}, {65536, 2048, 2048}};
    for (int p = 0; p < GPU_PRODUCTS; p++) {
        for (int i = 0; i < 2; i++) {
            struct cuda_matmul_spec spec = {};
            double seconds = 0;
            int64_t shrink = bench->quick ? 256 : p == GPU_F32 ? 2 : 1;
            spec.batch = 1;
            spec.m = sizes[i][0] / shrink;
            spec.n = (sizes[i][1] + shrink - 1) / shrink;
            spec.k = (sizes[i][2] + shrink - 1) / shrink;
            spec.transpose_b = true;
            spec.dtype_ab = spec.dtype_c = p == GPU_BF16 ? DTYPE_BF16 : DTYPE_F32;
            TRY(time_product(bench, &spec, p == GPU_TF32, NULL, &seconds));
            double rate = flops_of(&spec) / seconds;
            if (rate > bench->product[p]) bench->product[p] = rate;
            char name[96];
            snprintf(name, sizeof name, "product %s %lldx%lldx%lld", names[p], (long long)spec.m,
                     (long long)spec.n, (long long)spec.k);
            struct gpu_row row = {name, rate * 1e-12, "TFLOP/s", 0, 0, 0, "cuBLASLt's best"};
            if (p == GPU_BF16 && bench->peak > 0) {
                row.ceiling = bench->peak * 1e-12;
                row.note = "cuBLASLt's best; ceiling: the data sheet";
            }
            gpu_bench_row(bench, row);
        }
    }
    return STATUS_OK;
}

/* ---- FIBER-Base's layers ---- */

/* Rows for one sample at 384 px and 40 tokens. */
static const struct {
    const char *name;
    int64_t rows, k, n;
} layers[] = {
    {"stage 0 qkv", 9216, 128, 384},
    {"stage 0 fc1", 9216, 128, 512},
    {"stage 0 fc2", 9216, 512, 128},
    {"stage 0 merge", 2304, 512, 256},
    {"stage 1 qkv", 2304, 256, 768},
    {"stage 1 fc1", 2304, 256, 1024},
    {"stage 1 fc2", 2304, 1024, 256},
    {"stage 2 qkv", 576, 512, 1536},
    {"stage 2 proj", 576, 512, 512},
    {"stage 2 fc1", 576, 512, 2048},
    {"stage 2 fc2", 576, 2048, 512},
    {"stage 3 qkv", 144, 1024, 3072},
    {"stage 3 fc1", 144, 1024, 4096},
    {"stage 3 fc2", 144, 4096, 1024},
    {"text query", 40, 768, 768},
    {"text fc1", 40, 768, 3072},
    {"text fc2", 40, 3072, 768},
    {"fused keys and values", 40, 768, 1024},
    {"words of the vocabulary", 8, 768, 50265},
};

static enum status measure_layer(struct gpu_bench *bench, const char *name, int64_t m, int64_t k,
                                 int64_t n, enum dtype dtype)
{
    static const char *const kinds[3] = {"forward", "input gradient", "weight gradient"};
    struct cuda_matmul_spec specs[3] = {};
    for (int i = 0; i < 3; i++) {
        specs[i].batch = 1;
        specs[i].dtype_ab = specs[i].dtype_c = dtype;
    }
    /* y [m,n] = x w^T + bias; dx [m,k] = dy w; dw [n,k] = dy^T x, in f32. */
    specs[0].m = m, specs[0].n = n, specs[0].k = k;
    specs[0].transpose_b = specs[0].bias = true;
    specs[1].m = m, specs[1].n = k, specs[1].k = n;
    specs[2].m = n, specs[2].n = k, specs[2].k = m;
    specs[2].transpose_a = true;
    specs[2].dtype_c = DTYPE_F32;
    for (int i = 0; i < 3; i++) {
        double ours = 0;
        double best = 0;
        TRY(time_product(bench, &specs[i], false, &ours, &best));
        char text[160];
        snprintf(text, sizeof text, "%s %s, %s %lldx%lldx%lld", name, kinds[i], dtype_name(dtype),
                 (long long)specs[i].m, (long long)specs[i].n, (long long)specs[i].k);
        double flops = flops_of(&specs[i]);
        struct gpu_row row = {
            text, flops / ours * 1e-12,           "TFLOP/s",        flops / best * 1e-12,
            0,    dtype == DTYPE_BF16 ? 0.95 : 0, "cuBLASLt's best"};
        gpu_bench_row(bench, row);
    }
    return STATUS_OK;
}

extern "C" enum status gpu_layers(struct gpu_bench *bench, int batch)
{
    size_t count = bench->quick ? 2 : sizeof layers / sizeof layers[0];
    int64_t shrink = bench->quick ? 16 : 1;
    for (int f32 = 0; f32 < 2; f32++) {
        for (size_t i = 0; i < count; i++) {
            /* In f32, those that take the time. */
            if (f32 && strncmp(layers[i].name, "stage 2", 7) != 0 && !bench->quick) continue;
            TRY(measure_layer(bench, layers[i].name, layers[i].rows * batch / shrink / shrink,
                              layers[i].k / shrink, layers[i].n / shrink,
                              f32 ? DTYPE_F32 : DTYPE_BF16));
        }
    }
    return STATUS_OK;
}
