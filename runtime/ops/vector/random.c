#include "runtime/ops/vector/random.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "runtime/ops/vector/jobs.h"

void dropout_cpu(const struct dropout *args)
{
    assert(args->samples > 0 && args->p >= 0 && args->p <= 1);
    const int64_t count = args->rows * args->per_row;
    if (args->p >= 1) {
        memset(args->y, 0, (size_t)count * vector_dtype_size(args->dtype));
        return;
    }
    struct dropout_job job = {.a = *args};
    /*
     * rng_uniform(word) >= p, that is (word >> 8) * 2^-24 >= p, as a comparison of whole numbers:
     * (word >> 8) >= ceil(p * 2^24), and the low 8 bits of the word do not matter.
     */
    job.threshold = (uint32_t)ceil((double)args->p * 0x1p24) << 8;
    job.scale = 1.0F / (1.0F - args->p);
    for (uint32_t round = 0; round < 10; round++) {
        job.keys[2 * round] = args->key.word[0] + round * 0x9E3779B9u;
        job.keys[2 * round + 1] = args->key.word[1] + round * 0xBB67AE85u;
    }
    /* Rows of whole chunks only: others begin in the middle of a vector. */
    job.stream = args->per_row % 64 == 0 &&
                 vector_streams(args->y, count, args->per_row, args->dtype, args->y == args->x);
    vector_run_elements(VECTOR_OP_dropout, args->dtype, &job, count);
}

void drop_path_cpu(const struct drop_path *args)
{
    assert(args->samples > 0 && args->p >= 0 && args->p <= 1);
    struct drop_path_job job = {.a = *args};
    job.scale = args->p < 1 ? 1.0F / (1.0F - args->p) : 0;
    vector_run_elements(VECTOR_OP_drop_path, args->dtype, &job, args->rows * args->per_row);
}
