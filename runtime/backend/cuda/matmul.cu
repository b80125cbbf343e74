/*
 * cuBLASLt thinks in columns: a row-major [M,N] is a column-major [N,M]. So c = a b is asked for as
 * c^T = b^T a^T: the library's first operand is our b, its second our a, and a matrix that is
 * stored as it is used is "not transposed" on both sides. The bias runs along the library's rows,
 * which are our columns.
 */
#include "runtime/backend/cuda/matmul.h"

#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/backend/cuda/kernel.cuh"
#include "runtime/backend/cuda/tuning.h"

enum { MATMUL_WORKSPACE = 32 << 20 };

struct cuda_matmul {
    struct cuda_matmul_spec spec;
    size_t bias_bytes; /* of scratch, for a bias in bf16 */
    size_t workspace;  /* behind it */
    bool ready;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm[2]; /* without and with `add` */
    bool chosen[2];
};

static cublasLtHandle_t handle; /* of this process, never given back */
static struct tuning choices;
static bool choices_read;
static int64_t timed_products;
static double timed_seconds;

static_assert(sizeof(cublasLtMatmulAlgo_t) <= TUNING_ALGORITHM, "an algorithm fits its place");

static enum status lt_status(cublasStatus_t status, const char *call)
{
    if (status == CUBLAS_STATUS_SUCCESS) return STATUS_OK;
    return status_fail(STATUS_INTERNAL, "cuBLASLt: %s: %s", call, cublasLtGetStatusString(status));
}

#define LT_TRY(call) TRY(lt_status((call), #call))

static size_t align_256(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

extern "C" enum status cuda_matmul_create(struct cuda_matmul **matmul,
                                          const struct cuda_matmul_spec *spec, size_t *scratch_size)
{
    struct cuda_matmul *m = (struct cuda_matmul *)calloc(1, sizeof *m);
    *matmul = m;
    CHECK(m, STATUS_NO_MEMORY, "matmul: out of memory");
    m->spec = *spec;
    if (spec->bias && spec->dtype_c == DTYPE_BF16) {
        m->bias_bytes = align_256((size_t)spec->n * sizeof(uint16_t));
    }
    /* Room for some partial sums of the result; more is of no use to small products. */
    size_t partial = 16 * (size_t)(spec->batch * spec->m * spec->n) * sizeof(float);
    m->workspace = align_256(partial < MATMUL_WORKSPACE ? partial : (size_t)MATMUL_WORKSPACE);
    *scratch_size = m->bias_bytes + m->workspace;
    return STATUS_OK;
}

extern "C" void cuda_matmul_destroy(struct cuda_matmul **matmul)
{
    struct cuda_matmul *m = *matmul;
    if (!m) return;
    if (m->a) cublasLtMatrixLayoutDestroy(m->a);
    if (m->b) cublasLtMatrixLayoutDestroy(m->b);
    if (m->c) cublasLtMatrixLayoutDestroy(m->c);
    if (m->operation) cublasLtMatmulDescDestroy(m->operation);
    free(m);
    *matmul = NULL;
}

static cudaDataType_t type_of(enum dtype dtype)
{
    return dtype == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* A stored [rows, columns] matrix, which the library sees as columns by rows. */
static enum status make_layout(cublasLtMatrixLayout_t *layout, enum dtype dtype, int64_t rows,
                               int64_t columns, int64_t batch)
{
    LT_TRY(cublasLtMatrixLayoutCreate(layout, type_of(dtype), (uint64_t)columns, (uint64_t)rows,
                                      columns));
    if (batch == 1) return STATUS_OK;
    int32_t count = (int32_t)batch;
    int64_t stride = rows * columns;
    LT_TRY(cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                            sizeof count));
    LT_TRY(cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                            &stride, sizeof stride));
    return STATUS_OK;
}

static enum status describe(struct cuda_matmul *m, bool allow_tf32)
{
    const struct cuda_matmul_spec *s = &m->spec;
    if (!handle) LT_TRY(cublasLtCreate(&handle));
    bool tf32 = allow_tf32 && s->dtype_ab == DTYPE_F32;
    LT_TRY(cublasLtMatmulDescCreate(
        &m->operation, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
    cublasOperation_t first = s->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t second = s->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    LT_TRY(cublasLtMatmulDescSetAttribute(m->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                          sizeof first));
    LT_TRY(cublasLtMatmulDescSetAttribute(m->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                          sizeof second));
    if (s->bias) {
        cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        LT_TRY(cublasLtMatmulDescSetAttribute(m->operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                              &epilogue, sizeof epilogue));
    }
    TRY(make_layout(&m->a, s->dtype_ab, s->transpose_a ? s->k : s->m, s->transpose_a ? s->m : s->k,
                    s->batch));
    TRY(make_layout(&m->b, s->dtype_ab, s->transpose_b ? s->n : s->k, s->transpose_b ? s->k : s->n,
                    s->batch));
    TRY(make_layout(&m->c, s->dtype_c, s->m, s->n, s->batch));
    m->ready = true;
    return STATUS_OK;
}

/* ---- choosing ---- */

extern "C" enum status cuda_matmul_choices(struct tuning **of_process)
{
    *of_process = &choices;
    if (choices_read) return STATUS_OK;
    int device = 0;
    int driver = 0;
    cudaDeviceProp properties;
    char identity[TUNING_IDENTITY];
    CUDA_TRY(cudaGetDevice(&device));
    CUDA_TRY(cudaGetDeviceProperties(&properties, device));
    CUDA_TRY(cudaDriverGetVersion(&driver));
    snprintf(identity, sizeof identity, "%s, driver %d, cuBLASLt %zu", properties.name, driver,
             cublasLtGetVersion());
    if (tuning_is_on()) TRY(tuning_open(&choices, identity));
    choices_read = true;
    return STATUS_OK;
}

extern "C" void cuda_matmul_timed(int64_t *products, double *seconds)
{
    *products = timed_products;
    *seconds = timed_seconds;
}

/* The largest power of two that divides an address, up to what the plan aligns to. */
static uint32_t alignment_of(const void *p)
{
    uint32_t alignment = 256;
    while ((uintptr_t)p % alignment) {
        alignment /= 2;
    }
    return alignment;
}

/* All that a choice depends on. */
static void make_key(const struct cuda_matmul *m, const struct cuda_matmul_run *run,
                     char key[TUNING_KEY])
{
    const struct cuda_matmul_spec *s = &m->spec;
    snprintf(key, TUNING_KEY, "%lldx %lldx%lldx%lld %c%c %s>%s%s%s%s a%u,%u,%u w%zu",
             (long long)s->batch, (long long)s->m, (long long)s->n, (long long)s->k,
             s->transpose_a ? 't' : 'n', s->transpose_b ? 't' : 'n', dtype_name(s->dtype_ab),
             dtype_name(s->dtype_c), run->tf32 && s->dtype_ab == DTYPE_F32 ? " tf32" : "",
             s->bias ? " bias" : "", run->add ? " add" : "", alignment_of(run->a),
             alignment_of(run->b), alignment_of(run->c), m->workspace);
}

/* Up to `most` algorithms, the library's favourite first. */
static enum status ask(struct cuda_matmul *m, const struct cuda_matmul_run *run, int most,
                       cublasLtMatmulHeuristicResult_t *found, int *count)
{
    const struct cuda_matmul_spec *s = &m->spec;
    cublasLtMatmulPreference_t preference = NULL;
    /* Partial sums in f32; where that is the type of the result it has another name too. */
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    if (s->dtype_c == DTYPE_F32) reductions |= CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
    uint32_t align_a = alignment_of(run->a);
    uint32_t align_b = alignment_of(run->b);
    uint32_t align_c = alignment_of(run->c);
    LT_TRY(cublasLtMatmulPreferenceCreate(&preference));
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        const void *value;
        size_t size;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &m->workspace, sizeof m->workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align_b, sizeof align_b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align_a, sizeof align_a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align_c, sizeof align_c},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align_c, sizeof align_c},
    };
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0] && status == CUBLAS_STATUS_SUCCESS;
         i++) {
        status = cublasLtMatmulPreferenceSetAttribute(preference, wishes[i].what, wishes[i].value,
                                                      wishes[i].size);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = cublasLtMatmulAlgoGetHeuristic(handle, m->operation, m->b, m->a, m->c, m->c,
                                                preference, most, found, count);
    }
    cublasLtMatmulPreferenceDestroy(preference);
    CHECK(status == CUBLAS_STATUS_SUCCESS && *count > 0, STATUS_UNSUPPORTED,
          "cuBLASLt has no algorithm for %lld x [%lld,%lld] x [%lld,%lld], %s to %s: %s",
          (long long)s->batch, (long long)s->m, (long long)s->k, (long long)s->k, (long long)s->n,
          dtype_name(s->dtype_ab), dtype_name(s->dtype_c), cublasLtGetStatusString(status));
    return STATUS_OK;
}

/* Whether the choice, which may come from a file or another rank, can compute this product. */
static bool recall(struct cuda_matmul *m, const struct tuning_choice *choice,
                   cublasLtMatmulAlgo_t *algorithm)
{
    cublasLtMatmulHeuristicResult_t checked;
    if (!choice) return false;
    memcpy(algorithm, choice->algorithm, sizeof *algorithm);
    return cublasLtMatmulAlgoCheck(handle, m->operation, m->b, m->a, m->c, m->c, algorithm,
                                   &checked) == CUBLAS_STATUS_SUCCESS &&
           checked.workspaceSize <= m->workspace;
}

static enum status keep(const char *key, const cublasLtMatmulAlgo_t *algorithm, double microseconds)
{
    struct tuning_choice choice;
    memset(&choice, 0, sizeof choice);
    snprintf(choice.key, sizeof choice.key, "%s", key);
    memcpy(choice.algorithm, algorithm, sizeof *algorithm);
    choice.microseconds = microseconds;
    return tuning_put(&choices, &choice);
}

/* Equal products ask once: the library's answer takes longer than small products. */
static enum status choose(struct cuda_matmul *m, const struct cuda_matmul_run *run)
{
    char key[TUNING_KEY];
    struct tuning *of_process = NULL;
    cublasLtMatmulAlgo_t *algorithm = &m->algorithm[run->add];
    TRY(cuda_matmul_choices(&of_process));
    make_key(m, run, key);
    if (!recall(m, tuning_find(of_process, key), algorithm)) {
        cublasLtMatmulHeuristicResult_t found;
        int count = 0;
        TRY(ask(m, run, 1, &found, &count));
        *algorithm = found.algo;
        TRY(keep(key, algorithm, 0.0));
    }
    m->chosen[run->add] = true;
    return STATUS_OK;
}

static __global__ void round_bias_kernel(const float *bias, uint16_t *rounded, int64_t count)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) rounded[i] = bf16_of_f32(bias[i]);
}

static enum status set_bias(struct cuda_matmul *m, const struct cuda_matmul_run *run)
{
    const void *bias = run->bias;
    if (m->bias_bytes) {
        TRY(CUDA_LAUNCH(round_bias_kernel, (unsigned)ceil_div(m->spec.n, 256), 256, 0, run->stream,
                        run->bias, (uint16_t *)run->scratch, m->spec.n));
        bias = run->scratch;
    }
    LT_TRY(cublasLtMatmulDescSetAttribute(m->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                          sizeof bias));
    return STATUS_OK;
}

static cublasStatus_t launch(struct cuda_matmul *m, const struct cuda_matmul_run *run,
                             const cublasLtMatmulAlgo_t *algorithm)
{
    const float one = 1.0f;
    const float beta = run->add ? 1.0f : 0.0f;
    return cublasLtMatmul(handle, m->operation, &one, run->b, m->b, run->a, m->a, &beta, run->c,
                          m->c, run->c, m->c, algorithm, (char *)run->scratch + m->bias_bytes,
                          m->workspace, run->stream);
}

static bool is_empty(const struct cuda_matmul *m)
{
    return m->spec.batch * m->spec.m * m->spec.n == 0;
}

extern "C" enum status cuda_matmul_run(struct cuda_matmul *m, const struct cuda_matmul_run *run)
{
    if (is_empty(m)) return STATUS_OK;
    if (!m->ready) TRY(describe(m, run->tf32));
    if (m->spec.bias) TRY(set_bias(m, run));
    if (!m->chosen[run->add]) TRY(choose(m, run));
    LT_TRY(launch(m, run, &m->algorithm[run->add]));
    return STATUS_OK;
}

/* ---- timing ---- */

enum { CANDIDATES = 16, ROUNDS = 3, MOST_REPEATS = 20 };

/* What a time must be below of the first candidate's to be chosen: less is noise. */
#define CLEARLY_FASTER      0.98
#define WANTED_MICROSECONDS 300.0 /* of repeats that are timed together */

struct stopwatch {
    cudaEvent_t begin, end;
};

/* *microseconds of one product, infinite when the algorithm fails. */
static enum status time_algorithm(struct cuda_matmul *m, const struct cuda_matmul_run *run,
                                  const cublasLtMatmulAlgo_t *algorithm, int repeats,
                                  const struct stopwatch *watch, double *microseconds)
{
    float milliseconds = 0.0f;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    CUDA_TRY(cudaEventRecord(watch->begin, run->stream));
    for (int i = 0; i < repeats && status == CUBLAS_STATUS_SUCCESS; i++) {
        status = launch(m, run, algorithm);
    }
    /* What an algorithm that cannot run leaves behind is not the next launch's. */
    if (status != CUBLAS_STATUS_SUCCESS) (void)cudaGetLastError();
    CUDA_TRY(cudaEventRecord(watch->end, run->stream));
    CUDA_TRY(cudaEventSynchronize(watch->end));
    CUDA_TRY(cudaEventElapsedTime(&milliseconds, watch->begin, watch->end));
    *microseconds =
        status == CUBLAS_STATUS_SUCCESS ? 1e3 * (double)milliseconds / repeats : INFINITY;
    return STATUS_OK;
}

/* The fastest of `count`: each is run once to load it, then in turns, of which its shortest counts.
 * What took twice as long as another by then is not looked at any further. */
static enum status find_fastest(struct cuda_matmul *m, const struct cuda_matmul_run *run,
                                const cublasLtMatmulHeuristicResult_t *found, int count,
                                const struct stopwatch *watch, int *fastest, double *microseconds)
{
    double best[CANDIDATES];
    double first = INFINITY;
    for (int i = 0; i < count; i++) {
        TRY(time_algorithm(m, run, &found[i].algo, 1, watch, &best[i]));
        TRY(time_algorithm(m, run, &found[i].algo, 1, watch, &best[i]));
        if (best[i] < first) first = best[i];
    }
    double repeats = WANTED_MICROSECONDS / (first > 1.0 ? first : 1.0);
    int times = repeats < 1 ? 1 : repeats > MOST_REPEATS ? MOST_REPEATS : (int)repeats;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < count; i++) {
            double now = 0.0;
            if (best[i] > 2.0 * first) continue;
            TRY(time_algorithm(m, run, &found[i].algo, times, watch, &now));
            if (round == 0 || now < best[i]) best[i] = now;
        }
    }
    *fastest = 0;
    for (int i = 1; i < count; i++) {
        if (best[i] < best[*fastest] && best[i] < CLEARLY_FASTER * best[0]) *fastest = i;
    }
    *microseconds = best[*fastest];
    return STATUS_OK;
}

static enum status choose_by_time(struct cuda_matmul *m, const struct cuda_matmul_run *run,
                                  const char *key)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    struct stopwatch watch = {};
    int count = 0;
    int fastest = 0;
    double microseconds = 0.0;
    TRY(ask(m, run, CANDIDATES, found, &count));
    CUDA_TRY(cudaEventCreateWithFlags(&watch.begin, 0));
    enum status status =
        cuda_status(cudaEventCreateWithFlags(&watch.end, 0), "cudaEventCreateWithFlags");
    if (status == STATUS_OK) {
        status = find_fastest(m, run, found, count, &watch, &fastest, &microseconds);
    }
    cudaEventDestroy(watch.begin);
    if (watch.end) cudaEventDestroy(watch.end);
    TRY(status);
    CHECK(microseconds < INFINITY, STATUS_INTERNAL, "cuBLASLt: every algorithm for %s fails", key);
    return keep(key, &found[fastest].algo, microseconds > 0 ? microseconds : 1e-3);
}

static double now_in_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

extern "C" enum status cuda_matmul_tune(struct cuda_matmul *m, const struct cuda_matmul_run *run)
{
    char key[TUNING_KEY];
    struct tuning *of_process = NULL;
    cublasLtMatmulAlgo_t algorithm;
    if (is_empty(m)) return STATUS_OK;
    if (!m->ready) TRY(describe(m, run->tf32));
    if (m->spec.bias) TRY(set_bias(m, run));
    TRY(cuda_matmul_choices(&of_process));
    make_key(m, run, key);
    const struct tuning_choice *known = tuning_find(of_process, key);
    if (known && known->microseconds > 0 && recall(m, known, &algorithm)) return STATUS_OK;
    double begin = now_in_seconds();
    TRY(choose_by_time(m, run, key));
    timed_products++;
    timed_seconds += now_in_seconds() - begin;
    return STATUS_OK;
}
