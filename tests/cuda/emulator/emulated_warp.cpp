/*
 * Warp functions of the emulator that are not plain shuffles.
 *
 * Fragment layouts are those of the PTX ISA, section "Matrix multiply-accumulate operation using
 * mma instruction": with g = lane / 4 and t = lane % 4,
 *
 *   m16n8k16, 16-bit:  a[r] holds rows g + 8 * (r & 1), columns 2t, 2t+1 (+ 8 for r >= 2)
 *                      b[r] holds column g, rows 2t, 2t+1 (+ 8 for r = 1)
 *   m16n8k8, tf32:     a[r] holds row g + 8 * (r & 1), column t + 4 * (r >> 1); b[r] row t + 4r
 *   both:              d[i] is row g + 8 * (i >> 1), column 2t + (i & 1)
 */
#include "tests/cuda/emulator/cuda_runtime.h"
#include "tests/cuda/emulator/emulated_kernel.h"

unsigned __ballot_sync(unsigned mask, int predicate)
{
    struct ballot {
        int predicate;
        unsigned result;
    } payload = {predicate, 0};
    emulated_warp(
        "__ballot_sync", mask,
        [](void *const *all, unsigned lanes) {
            unsigned result = 0;
            for (int i = 0; i < 32; i++) {
                if (lanes >> i & 1 && ((struct ballot *)all[i])->predicate) result |= 1u << i;
            }
            for (int i = 0; i < 32; i++) {
                if (lanes >> i & 1) ((struct ballot *)all[i])->result = result;
            }
        },
        &payload);
    return payload.result;
}

/* The matrices of a product, gathered from the fragments of all lanes. */
struct fragments {
    float *d;
    const uint32_t *a, *b;
    const float *c;
};

static float half_of(uint32_t pair, int which)
{
    return __uint_as_float(which ? pair & 0xFFFF0000u : pair << 16);
}

/* The tensor core reads 19 bits of a tf32 operand. */
static float tf32_of(uint32_t word)
{
    return __uint_as_float(word & 0xFFFFE000u);
}

static void multiply(const float *a, const float *b, int depth, void *const *all)
{
    for (int lane = 0; lane < 32; lane++) {
        struct fragments *f = (struct fragments *)all[lane];
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + 8 * (i >> 1);
            int column = lane % 4 * 2 + (i & 1);
            float sum = f->c[i];
            for (int k = 0; k < depth; k++) {
                sum += a[row * depth + k] * b[k * 8 + column];
            }
            f->d[i] = sum;
        }
    }
}

static void apply_bf16(void *const *all, unsigned mask)
{
    (void)mask;
    float a[16 * 16];
    float b[16 * 8];
    for (int lane = 0; lane < 32; lane++) {
        const struct fragments *f = (const struct fragments *)all[lane];
        int g = lane / 4;
        int t = lane % 4;
        for (int r = 0; r < 4; r++) {
            for (int h = 0; h < 2; h++) {
                a[(g + 8 * (r & 1)) * 16 + 2 * t + h + 8 * (r >> 1)] = half_of(f->a[r], h);
                if (r < 2) b[(2 * t + h + 8 * r) * 8 + g] = half_of(f->b[r], h);
            }
        }
    }
    multiply(a, b, 16, all);
}

static void apply_tf32(void *const *all, unsigned mask)
{
    (void)mask;
    float a[16 * 8];
    float b[8 * 8];
    for (int lane = 0; lane < 32; lane++) {
        const struct fragments *f = (const struct fragments *)all[lane];
        int g = lane / 4;
        int t = lane % 4;
        for (int r = 0; r < 4; r++) {
            a[(g + 8 * (r & 1)) * 8 + t + 4 * (r >> 1)] = tf32_of(f->a[r]);
            if (r < 2) b[(t + 4 * r) * 8 + g] = tf32_of(f->b[r]);
        }
    }
    multiply(a, b, 8, all);
}

void emulated_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4])
{
    float result[4];
    struct fragments payload = {result, a, b, c};
    emulated_warp("mma.m16n8k16.bf16", 0xFFFFFFFFu, apply_bf16, &payload);
    memcpy(d, result, sizeof result);
}

void emulated_mma_tf32(float d[4], const uint32_t a[4], const uint32_t b[2], const float c[4])
{
    float result[4];
    struct fragments payload = {result, a, b, c};
    emulated_warp("mma.m16n8k8.tf32", 0xFFFFFFFFu, apply_tf32, &payload);
    memcpy(d, result, sizeof result);
}

struct matrices {
    uint32_t *d;
    int count;
    bool transposed;
    const void *row;
};

/* Lane 8m + i brings the address of row i of matrix m; d[m] of a lane is row lane / 4, columns 2 *
 * (lane % 4) and the next (of the transposed matrix: rows and columns swapped). */
static void apply_ldmatrix(void *const *all, unsigned mask)
{
    (void)mask;
    int count = ((const struct matrices *)all[0])->count;
    bool transposed = ((const struct matrices *)all[0])->transposed;
    uint16_t matrix[4][8][8];
    for (int m = 0; m < count; m++) {
        for (int i = 0; i < 8; i++) {
            const struct matrices *from = (const struct matrices *)all[8 * m + i];
            emulated_check_aligned(from->row, 16);
            memcpy(matrix[m][i], from->row, 16);
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        int g = lane / 4;
        int t = lane % 4 * 2;
        for (int m = 0; m < count; m++) {
            uint32_t low = transposed ? matrix[m][t][g] : matrix[m][g][t];
            uint32_t high = transposed ? matrix[m][t + 1][g] : matrix[m][g][t + 1];
            ((struct matrices *)all[lane])->d[m] = low | high << 16;
        }
    }
}

void emulated_ldmatrix(uint32_t *d, int count, bool transposed, const void *row)
{
    uint32_t result[4];
    struct matrices payload = {result, count, transposed, row};
    emulated_warp("ldmatrix", 0xFFFFFFFFu, apply_ldmatrix, &payload);
    memcpy(d, result, (size_t)count * sizeof *d);
}

void emulated_check_aligned(const void *address, unsigned bytes)
{
    if ((uintptr_t)address % bytes) {
        emulated_fail("a %u-byte access to the misaligned address %p", bytes, address);
    }
}
