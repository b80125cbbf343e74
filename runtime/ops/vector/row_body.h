/* What several families do with a row. Included by vector_*.c only, before the slices. */

/*
 * Kernels with several passes over a row take a few short rows at a time, each pass over all of
 * them before the next: the time to add the lanes at the end of one row's pass then hides behind
 * the next row's. Together they stay in the first-level cache.
 */
enum { ROWS_AT_ONCE = 4 };

VEC_INLINE int64_t rows_at_once(int64_t cols)
{
    return cols <= 512 ? ROWS_AT_ONCE : cols <= 1024 ? 2 : 1;
}

/* Sums of blocks go over to f64: a long row loses nothing to the growth of its sum. */
VEC_INLINE float row_dot_of(const void *a, const void *b, int64_t at, int64_t cols, const bool half)
{
    double total = 0;
    for (int64_t c = 0; c < cols; c += VECTOR_BLOCK) {
        vf sum = {0};
#define STEP(i, n) sum = vf_fma(vx_load(a, at + (i), n, half), vx_load(b, at + (i), n, half), sum)
        VEC_FOR(c, c + VECTOR_BLOCK < cols ? c + VECTOR_BLOCK : cols, STEP);
#undef STEP
        total += (double)vf_sum(sum);
    }
    return (float)total;
}

VEC_INLINE double row_sum_of(const void *a, int64_t at, int64_t cols, const bool half)
{
    double total = 0;
    for (int64_t c = 0; c < cols; c += VECTOR_BLOCK) {
        vf sum = {0};
#define STEP(i, n) sum += vx_load(a, at + (i), n, half)
        VEC_FOR(c, c + VECTOR_BLOCK < cols ? c + VECTOR_BLOCK : cols, STEP);
#undef STEP
        total += (double)vf_sum(sum);
    }
    return total;
}
