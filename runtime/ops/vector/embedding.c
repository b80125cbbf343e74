#include "runtime/ops/vector/embedding.h"

#include <assert.h>
#include <string.h>

#include "runtime/ops/vector/jobs.h"

static int64_t first_bad_id(const int32_t *ids, int64_t count, int64_t num_rows)
{
    for (int64_t t = 0; t < count; t++) {
        if (ids[t] < 0 || ids[t] >= num_rows) return t;
    }
    return -1;
}

int64_t embedding_fwd_cpu(const float *table, const int32_t *ids, void *out, int64_t count,
                          int64_t vocab, int64_t cols, enum vector_dtype dtype)
{
    struct rows_by_id_job job = {.x = table, .ids = ids, .y = out, .num_rows = vocab, .cols = cols};
    vector_run_rows(VECTOR_OP_embedding_fwd, dtype, &job, count, cols);
    return first_bad_id(ids, count, vocab);
}

int64_t gather_rows_cpu(const void *x, const int32_t *ids, void *y, int64_t count, int64_t num_rows,
                        int64_t cols, enum vector_dtype dtype)
{
    struct rows_by_id_job job = {.x = x, .ids = ids, .y = y, .num_rows = num_rows, .cols = cols};
    vector_run_rows(VECTOR_OP_gather_rows, dtype, &job, count, cols);
    return first_bad_id(ids, count, num_rows);
}

size_t scatter_add_rows_scratch(int64_t count, int64_t num_rows)
{
    return ((size_t)count + (size_t)num_rows + 2) * sizeof(int32_t);
}

/*
 * Counting sort of the good rows by destination: start[i] .. start[i + 1] delimits those of row i
 * in `order`. start has num_rows + 2 entries, so that placing rows can count up start[i + 1] from
 * where row i begins.
 */
static void sort_rows(const struct scatter_add_rows *a, int32_t *start, int32_t *order)
{
    memset(start, 0, (size_t)(a->num_rows + 2) * sizeof *start);
    for (int64_t t = 0; t < a->count; t++) {
        int64_t id = a->ids[t];
        if (id >= 0 && id < a->num_rows && id != a->padding) start[id + 2]++;
    }
    for (int64_t i = 2; i < a->num_rows + 2; i++) {
        start[i] += start[i - 1];
    }
    for (int64_t t = 0; t < a->count; t++) {
        int64_t id = a->ids[t];
        if (id >= 0 && id < a->num_rows && id != a->padding) order[start[id + 1]++] = (int32_t)t;
    }
}

int64_t scatter_add_rows_cpu(const struct scatter_add_rows *args)
{
    assert(args->count < INT32_MAX);
    assert(args->d_dtype == VECTOR_F32 || args->d_dtype == args->dtype);
    int32_t *start = args->scratch;
    int32_t *order = start + args->num_rows + 2;
    if (args->num_rows > 0) sort_rows(args, start, order);
    struct scatter_job job = {.a = *args, .start = start, .order = order};
    /* Ids crowd together (positions, frequent words), columns never do: share those out if there
     * are enough of them. */
    job.by_columns = args->cols >= 2 * VECTOR_ALIGN;
    const int64_t rows = args->accumulate ? args->count : args->count + args->num_rows;
    if (job.by_columns) {
        int64_t grain = VECTOR_GRAIN / VECTOR_ALIGN / (rows > 0 ? rows : 1);
        vector_run(VECTOR_OP_scatter_add_rows, args->dtype, &job,
                   (args->cols + VECTOR_ALIGN - 1) / VECTOR_ALIGN, grain > 0 ? grain : 1, 1);
    } else {
        vector_run_rows(VECTOR_OP_scatter_add_rows, args->dtype, &job, args->num_rows, args->cols);
    }
    return first_bad_id(args->ids, args->count, args->num_rows);
}
