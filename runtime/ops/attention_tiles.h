/*
 * The products of attention_gemm.h on AMX tiles: 16 rows of 16 units (32 bf16) each.
 *
 * One instruction multiplies a tile of A, 16 rows of 32 bf16, with a tile of B, 16 units of row
 * pairs by 16 columns, into a tile of C, 16 x 16 f32. Tiles 0-3 hold a 32 x 32 block of C, tiles 4
 * and 5 two of A and 6 and 7 two of B, so that each tile loaded is used twice. A must be read by
 * rows here; where A^T B is wanted, (B^T A)^T is computed.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_TILES_H
#define WEFT_RUNTIME_OPS_ATTENTION_TILES_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

/* Memory operand of the tile configuration instruction. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* All eight tiles 16 rows of 64 bytes. */
static inline void tiles_begin(void)
{
    struct tile_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
}

static inline void tiles_end(void)
{
    _tile_release();
}

enum { TILE = 16 }; /* rows, and units of a row */

/* Loads (`add`) or clears tiles 0-3 for the C at c, or two or one of them where less is left. */
#define TILES_START(add, two_rows, two_columns)                                                    \
    do {                                                                                           \
        if (add) {                                                                                 \
            _tile_loadd(0, c, ldc * 4);                                                            \
            if (two_columns) _tile_loadd(1, c + TILE, ldc * 4);                                    \
            if (two_rows) _tile_loadd(2, c + TILE * ldc, ldc * 4);                                 \
            if ((two_rows) && (two_columns)) _tile_loadd(3, c + TILE * ldc + TILE, ldc * 4);       \
        } else {                                                                                   \
            _tile_zero(0);                                                                         \
            _tile_zero(1);                                                                         \
            _tile_zero(2);                                                                         \
            _tile_zero(3);                                                                         \
        }                                                                                          \
    } while (0)

/* A block of C of one or two tiles each way, over `depth` units (a multiple of TILE). */
static inline __attribute__((always_inline)) void
tile_block(bool two_rows, bool two_columns, bool add, int64_t depth, const float *a, int64_t lda,
           const float *b, int64_t ldb, float *c, int64_t ldc)
{
    TILES_START(add, two_rows, two_columns);
    for (int64_t k = 0; k < depth; k += TILE) {
        _tile_loadd(4, a + k, lda * 4);
        _tile_loadd(6, b + k * ldb, ldb * 4);
        _tile_dpbf16ps(0, 4, 6);
        if (two_columns) {
            _tile_loadd(7, b + k * ldb + TILE, ldb * 4);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (two_rows) {
            _tile_loadd(5, a + k + TILE * lda, lda * 4);
            _tile_dpbf16ps(2, 5, 6);
            if (two_columns) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, c, ldc * 4);
    if (two_columns) _tile_stored(1, c + TILE, ldc * 4);
    if (two_rows) _tile_stored(2, c + TILE * ldc, ldc * 4);
    if (two_rows && two_columns) _tile_stored(3, c + TILE * ldc + TILE, ldc * 4);
}

/* C[rows, columns] (+)= A B; rows, columns and depth are multiples of TILE. */
static inline __attribute__((always_inline)) void tile_gemm(bool add, int64_t rows, int64_t columns,
                                                            int64_t depth, const float *a,
                                                            int64_t lda, const float *b,
                                                            int64_t ldb, float *c, int64_t ldc)
{
    for (int64_t i = 0; i < rows; i += 2 * TILE) {
        const float *left = a + i * lda;
        bool two_rows = i + TILE < rows;
        for (int64_t j = 0; j < columns; j += 2 * TILE) {
            float *out = c + i * ldc + j;
            if (j + TILE < columns) {
                if (two_rows) {
                    tile_block(true, true, add, depth, left, lda, b + j, ldb, out, ldc);
                } else {
                    tile_block(false, true, add, depth, left, lda, b + j, ldb, out, ldc);
                }
            } else if (two_rows) {
                tile_block(true, false, add, depth, left, lda, b + j, ldb, out, ldc);
            } else {
                tile_block(false, false, add, depth, left, lda, b + j, ldb, out, ldc);
            }
        }
    }
}

enum { PRODUCT_DEEP_PAD = 2 * TILE };

/* As in attention_gemm.h; computes up to TILE - 1 more rows of C, and reads A and B up to a depth
 * that is a multiple of TILE. */
static void product_rows(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t lda,
                         const float *b, float *c)
{
    rows = (rows + TILE - 1) / TILE * TILE;
    depth = (depth + TILE - 1) / TILE * TILE;
    tile_gemm(false, rows, columns, depth, a, lda, b, columns, c, columns);
}

/* C^T[columns, lda] += B^T A for A[depth, lda] and B^T[columns, depth], depth a multiple of TILE.
 */
static void product_columns(int64_t columns, int64_t depth, const float *a, int64_t lda,
                            const float *bt, float *ct)
{
    tile_gemm(true, columns, lda, depth, bt, depth, a, lda, ct, lda);
}

#endif
