#include "runtime/graph/tensor.h"

#include <stdio.h>

size_t dtype_size(enum dtype dtype)
{
    static const size_t sizes[DTYPE_COUNT] = {
        [DTYPE_F32] = 4, [DTYPE_BF16] = 2, [DTYPE_I32] = 4, [DTYPE_U8] = 1};
    return sizes[dtype];
}

const char *dtype_name(enum dtype dtype)
{
    static const char *const names[DTYPE_COUNT] = {
        [DTYPE_F32] = "f32", [DTYPE_BF16] = "bf16", [DTYPE_I32] = "i32", [DTYPE_U8] = "u8"};
    return (unsigned)dtype < DTYPE_COUNT ? names[dtype] : "unknown";
}

bool dtype_is_float(enum dtype dtype)
{
    return dtype == DTYPE_F32 || dtype == DTYPE_BF16;
}

int64_t shape_span(const struct shape *shape, int begin, int end)
{
    int64_t count = 1;
    for (int i = begin; i < end; i++) {
        count *= shape->dim[i];
    }
    return count;
}

int64_t shape_count(const struct shape *shape)
{
    return shape_span(shape, 0, shape->rank);
}

bool shape_equal(const struct shape *a, const struct shape *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++) {
        if (a->dim[i] != b->dim[i]) return false;
    }
    return true;
}

const char *shape_format(const struct shape *shape, char *text)
{
    int used = snprintf(text, SHAPE_TEXT, "[");
    for (int i = 0; i < shape->rank; i++) {
        used += snprintf(text + used, SHAPE_TEXT - (size_t)used, "%s%lld", i ? "," : "",
                         (long long)shape->dim[i]);
    }
    snprintf(text + used, SHAPE_TEXT - (size_t)used, "]");
    return text;
}
