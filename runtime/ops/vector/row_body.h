/* What several families do with a row. Included by vector_*.c only, before the slices. */

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
