/*
 * Products of the emulated cuBLASLt. It refuses what the library would: operands whose shapes do
 * not fit, pointers that are less aligned than the algorithm was chosen for. It spoils the
 * workspace. f32 sums run over k in eight lanes, so that a compiler can vectorise them. There are
 * several algorithms, which add the lanes in other orders; WEFT_EMULATED_FASTEST is the number of
 * the one that takes no time.
 */
#include "tests/cuda/emulator/cublasLt.h"

#include <stdlib.h>

#include <vector>

#include "runtime/base/bf16.h"

struct cublasLtContext {
    int unused;
};
struct emulated_lt_operation {
    cublasComputeType_t compute;
    cublasOperation_t transpose_a, transpose_b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
};
struct emulated_lt_layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t ld, stride;
    int32_t batch;
};
struct emulated_lt_preference {
    cublasLtMatmulAlgo_t algo;
};

size_t cublasLtGetVersion(void)
{
    return 130000;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS         ? "success"
           : status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported"
                                                   : "invalid value";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    static struct cublasLtContext context;
    *handle = &context;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *operation,
                                        cublasComputeType_t compute, cudaDataType_t scale)
{
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    *operation = new struct emulated_lt_operation();
    (*operation)->compute = compute;
    (*operation)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation)
{
    delete operation;
    return CUBLAS_STATUS_SUCCESS;
}

template <typename T> static cublasStatus_t set(T *field, const void *value, size_t size)
{
    if (size != sizeof *field) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t size)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set(&operation->transpose_a, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set(&operation->transpose_b, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set(&operation->epilogue, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set(&operation->bias, value, size);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t columns, int64_t ld)
{
    if (ld < (int64_t)rows || rows == 0 || columns == 0) return CUBLAS_STATUS_INVALID_VALUE;
    *layout = new emulated_lt_layout{type, rows, columns, ld, 0, 1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t size)
{
    if (attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) return set(&layout->batch, value, size);
    return set(&layout->stride, value, size);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    *preference = new emulated_lt_preference{{{256, 256, 256}, 0, 0, {}}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t size)
{
    uint32_t mask = 0;
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set(&preference->algo.workspace, value, size);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return set(&mask, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return set(&preference->algo.align[0], value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return set(&preference->algo.align[1], value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return set(&preference->algo.align[2], value, size);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

/* Whether d [m,n] = op(a) op(b) fits, and types that the library has. */
static bool fits(cublasLtMatmulDesc_t o, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                 cublasLtMatrixLayout_t d)
{
    uint64_t m = o->transpose_a == CUBLAS_OP_T ? a->columns : a->rows;
    uint64_t k = o->transpose_a == CUBLAS_OP_T ? a->rows : a->columns;
    uint64_t k_b = o->transpose_b == CUBLAS_OP_T ? b->columns : b->rows;
    uint64_t n = o->transpose_b == CUBLAS_OP_T ? b->rows : b->columns;
    return m == d->rows && n == d->columns && k == k_b && a->batch == d->batch &&
           b->batch == d->batch && a->type == b->type &&
           (a->type == CUDA_R_16BF || d->type == CUDA_R_32F);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t *results, int *count)
{
    (void)handle;
    (void)c;
    if (requested < 1 || !fits(operation, a, b, d)) return CUBLAS_STATUS_NOT_SUPPORTED;
    for (*count = 0; *count < requested && *count < EMULATED_LT_ALGORITHMS; ++*count) {
        results[*count].algo = preference->algo;
        results[*count].algo.number = (uint32_t)*count;
        results[*count].workspaceSize = preference->algo.workspace;
        results[*count].state = CUBLAS_STATUS_SUCCESS;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    (void)handle;
    (void)c;
    if (algo->number >= EMULATED_LT_ALGORITHMS || !fits(operation, a, b, d)) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    result->algo = *algo;
    result->workspaceSize = algo->workspace;
    result->state = CUBLAS_STATUS_SUCCESS;
    return CUBLAS_STATUS_SUCCESS;
}

static float load(const void *data, cudaDataType_t type, int64_t i)
{
    return type == CUDA_R_16BF ? bf16_to_f32(((const bf16 *)data)[i]) : ((const float *)data)[i];
}

/* The ten bits of mantissa that TF32 keeps, rounded. */
static float tf32_of(float x)
{
    uint32_t word = __float_as_uint(x);
    if ((word & 0x7F800000u) == 0x7F800000u) return x;
    return __uint_as_float((word + 0x1000u) & 0xFFFFE000u);
}

/* op(x) as rows of length k: column-major storage, transposed or not. */
static std::vector<float> rows_of(const void *x, const struct emulated_lt_layout *layout,
                                  bool rows_are_columns, int batch, bool tf32)
{
    int64_t rows = (int64_t)(rows_are_columns ? layout->columns : layout->rows);
    int64_t depth = (int64_t)(rows_are_columns ? layout->rows : layout->columns);
    std::vector<float> out((size_t)(rows * depth));
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < depth; i++) {
            int64_t at = rows_are_columns ? r * layout->ld + i : i * layout->ld + r;
            float value = load(x, layout->type, batch * layout->stride + at);
            out[(size_t)(r * depth + i)] = tf32 ? tf32_of(value) : value;
        }
    }
    return out;
}

static float dot(const float *a, const float *b, int64_t depth, uint32_t algorithm)
{
    float lanes[8] = {};
    int64_t i = 0;
    for (; i + 8 <= depth; i += 8) {
        for (int l = 0; l < 8; l++) {
            lanes[l] += a[i + l] * b[i + l];
        }
    }
    for (; i < depth; i++) {
        lanes[0] += a[i] * b[i];
    }
    if (algorithm > 0) {
        float sum = 0.0f;
        for (int l = 0; l < 8; l++) {
            sum += lanes[(l + algorithm) % 8];
        }
        return sum;
    }
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
           ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

static void multiply(const struct emulated_lt_operation &o, uint32_t algorithm, const void *a,
                     const struct emulated_lt_layout &la, const void *b,
                     const struct emulated_lt_layout &lb, float beta, void *d,
                     const struct emulated_lt_layout &ld)
{
    int64_t depth = (int64_t)(o.transpose_a == CUBLAS_OP_T ? la.rows : la.columns);
    bool tf32 = o.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    for (int batch = 0; batch < ld.batch; batch++) {
        std::vector<float> rows = rows_of(a, &la, o.transpose_a == CUBLAS_OP_T, batch, tf32);
        std::vector<float> columns = rows_of(b, &lb, o.transpose_b == CUBLAS_OP_N, batch, tf32);
        for (int64_t n = 0; n < (int64_t)ld.columns; n++) {
            for (int64_t m = 0; m < (int64_t)ld.rows; m++) {
                int64_t at = batch * ld.stride + n * ld.ld + m;
                float sum = dot(&rows[(size_t)(m * depth)], &columns[(size_t)(n * depth)], depth,
                                algorithm);
                if (beta != 0.0f) sum += beta * load(d, ld.type, at);
                /* The bias has the type of the result. */
                if (o.epilogue == CUBLASLT_EPILOGUE_BIAS) sum += load(o.bias, ld.type, m);
                if (ld.type == CUDA_R_16BF) {
                    ((bf16 *)d)[at] = bf16_from_f32(sum);
                } else {
                    ((float *)d)[at] = sum;
                }
            }
        }
    }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void *alpha, const void *a, cublasLtMatrixLayout_t a_layout,
                              const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
                              const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    (void)handle;
    if (!fits(operation, a_layout, b_layout, d_layout) || c != d || c_layout != d_layout ||
        *(const float *)alpha != 1.0f || workspace_bytes < algo->workspace ||
        (uintptr_t)a % algo->align[0] || (uintptr_t)b % algo->align[1] ||
        (uintptr_t)d % algo->align[2]) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    /* What a launch takes over: descriptors may change afterwards. */
    struct emulated_lt_operation o = *operation;
    struct emulated_lt_layout la = *a_layout;
    struct emulated_lt_layout lb = *b_layout;
    struct emulated_lt_layout ld = *d_layout;
    float scale = *(const float *)beta;
    uint32_t number = algo->number;
    const char *fastest = getenv("WEFT_EMULATED_FASTEST");
    bool is_slow = number != (fastest ? (uint32_t)atoi(fastest) : 0);
    emulated_submit(stream, [=]() {
        multiply(o, number, a, la, b, lb, scale, d, ld);
        if (is_slow) emulated_delay(1.0);
        memset(workspace, 0xFF, workspace_bytes < 4096 ? workspace_bytes : 4096);
    });
    return CUBLAS_STATUS_SUCCESS;
}
