/*
 * cuBLASLt thinks in columns: a row-major [M,N] is a column-major [N,M]. So c = a b is asked for as
 * c^T = b^T a^T: the library's first operand is our b, its second our a, and a matrix that is
 * stored as it is used is "not transposed" on both sides. The bias runs along the library's rows,
 * which are our columns.
 */
#include "runtime/backend/cuda/matmul.h"

#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/backend/cuda/kernel.cuh"

enum { MATMUL_WORKSPACE = 32 << 20, MATMUL_CACHE = 512 };

/* What the choice of an algorithm depends on; compared as bytes. */
struct matmul_key {
    struct cuda_matmul_spec spec;
    uint32_t align_a, align_b, align_c;
    bool tf32, add;
    size_t workspace;
};

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
static struct matmul_key cache_keys[MATMUL_CACHE];
static cublasLtMatmulAlgo_t cache_algorithms[MATMUL_CACHE];
static int cache_count;

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

/* The largest power of two that divides an address, up to 256. */
static uint32_t alignment_of(const void *p)
{
    uint32_t alignment = 256;
    while ((uintptr_t)p % alignment) {
        alignment /= 2;
    }
    return alignment;
}

static enum status ask_for_algorithm(struct cuda_matmul *m, const struct matmul_key *key,
                                     cublasLtMatmulAlgo_t *algorithm)
{
    const struct cuda_matmul_spec *s = &m->spec;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    uint32_t reductions =
        CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
    LT_TRY(cublasLtMatmulPreferenceCreate(&preference));
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        const void *value;
        size_t size;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &key->workspace, sizeof key->workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &key->align_b, sizeof key->align_b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &key->align_a, sizeof key->align_a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &key->align_c, sizeof key->align_c},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &key->align_c, sizeof key->align_c},
    };
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0] && status == CUBLAS_STATUS_SUCCESS;
         i++) {
        status = cublasLtMatmulPreferenceSetAttribute(preference, wishes[i].what, wishes[i].value,
                                                      wishes[i].size);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = cublasLtMatmulAlgoGetHeuristic(handle, m->operation, m->b, m->a, m->c, m->c,
                                                preference, 1, &found, &count);
    }
    cublasLtMatmulPreferenceDestroy(preference);
    CHECK(status == CUBLAS_STATUS_SUCCESS && count > 0, STATUS_UNSUPPORTED,
          "cuBLASLt has no algorithm for %lld x [%lld,%lld] x [%lld,%lld], %s to %s: %s",
          (long long)s->batch, (long long)s->m, (long long)s->k, (long long)s->k, (long long)s->n,
          dtype_name(s->dtype_ab), dtype_name(s->dtype_c), cublasLtGetStatusString(status));
    *algorithm = found.algo;
    return STATUS_OK;
}

/* Equal products ask once: the library's answer takes longer than small products. */
static enum status choose(struct cuda_matmul *m, const struct cuda_matmul_run *run)
{
    struct matmul_key key;
    memset(&key, 0, sizeof key);
    memcpy(&key.spec, &m->spec, sizeof key.spec);
    key.align_a = alignment_of(run->a);
    key.align_b = alignment_of(run->b);
    key.align_c = alignment_of(run->c);
    key.tf32 = run->tf32 && m->spec.dtype_ab == DTYPE_F32;
    key.add = run->add;
    key.workspace = m->workspace;
    for (int i = 0; i < cache_count; i++) {
        if (memcmp(&cache_keys[i], &key, sizeof key) != 0) continue;
        m->algorithm[run->add] = cache_algorithms[i];
        m->chosen[run->add] = true;
        return STATUS_OK;
    }
    TRY(ask_for_algorithm(m, &key, &m->algorithm[run->add]));
    m->chosen[run->add] = true;
    if (cache_count == MATMUL_CACHE) return STATUS_OK;
    memcpy(&cache_keys[cache_count], &key, sizeof key);
    cache_algorithms[cache_count++] = m->algorithm[run->add];
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

extern "C" enum status cuda_matmul_run(struct cuda_matmul *m, const struct cuda_matmul_run *run)
{
    const struct cuda_matmul_spec *s = &m->spec;
    if (s->batch * s->m * s->n == 0) return STATUS_OK;
    if (!m->ready) TRY(describe(m, run->tf32));
    if (s->bias) TRY(set_bias(m, run));
    if (!m->chosen[run->add]) TRY(choose(m, run));
    const float one = 1.0f;
    const float beta = run->add ? 1.0f : 0.0f;
    void *workspace = (char *)run->scratch + m->bias_bytes;
    LT_TRY(cublasLtMatmul(handle, m->operation, &one, run->b, m->b, run->a, m->a, &beta, run->c,
                          m->c, run->c, m->c, &m->algorithm[run->add], workspace, m->workspace,
                          run->stream));
    return STATUS_OK;
}
