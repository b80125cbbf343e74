/*
 * Operands of products are matrices of 32-bit units: one f32, or, in files that define
 * ATTENTION_UNIT_BF16, two bf16 that are neighbours along the summed dimension.
 */
#ifndef WEFT_RUNTIME_OPS_ATTENTION_UNIT_H
#define WEFT_RUNTIME_OPS_ATTENTION_UNIT_H

#include "runtime/ops/attention_simd.h"

#if defined(ATTENTION_UNIT_BF16)
enum { UNIT = 2 }; /* elements of a unit */

INLINE vf unit_multiply(vf a, vf b, vf c)
{
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}
#else
enum { UNIT = 1 };

INLINE vf unit_multiply(vf a, vf b, vf c)
{
    return vf_fma(a, b, c);
}
#endif

#endif
