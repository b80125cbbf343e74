/* Element types and static shapes. */
#ifndef WEFT_RUNTIME_GRAPH_TENSOR_H
#define WEFT_RUNTIME_GRAPH_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_I32, DTYPE_U8, DTYPE_COUNT };

#define SHAPE_MAX_RANK 6

/* A static shape, outermost dimension first (row-major). Rank 0 is a scalar of one element. */
struct shape {
    int rank;
    int64_t dim[SHAPE_MAX_RANK];
};

/* A shape from its dimensions: SHAPE(8, 12, 64). Too many are a compile error. */
#define SHAPE(...)                                                                                 \
    ((struct shape){.rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),             \
                    .dim = {__VA_ARGS__}})
#define SHAPE_SCALAR ((struct shape){.rank = 0})

/* Bytes of one element. */
size_t dtype_size(enum dtype dtype);

/* "f32", "bf16", "i32" or "u8". */
const char *dtype_name(enum dtype dtype);

/* f32 and bf16 carry gradients, the others do not. */
bool dtype_is_float(enum dtype dtype);

/* Number of elements; 1 for rank 0. Shapes in a graph were checked to not overflow. */
int64_t shape_count(const struct shape *shape);

/* Product of the dimensions [begin, end). */
int64_t shape_span(const struct shape *shape, int begin, int end);

bool shape_equal(const struct shape *a, const struct shape *b);

/* Writes "[8,12,197,64]" to `text` (at least SHAPE_TEXT bytes) and returns it. */
#define SHAPE_TEXT 160
const char *shape_format(const struct shape *shape, char *text);

#ifdef __cplusplus
}
#endif
#endif
