/*
 * Elementary functions on vectors (runtime/backend/cpu/vec.h). The largest error measured over all
 * floats of the range, against double precision (tests/runtime/ops/test_vector_kernels_math.c), in
 * units of the last place of the exact result, at any instruction set:
 *
 *   vf_exp            2   where the result is normal; subnormal results within 2^-149
 *   vf_tanh           3
 *   vf_sigmoid_scaled 3   the slope 5
 *   vf_log1p_unit     3
 *   vf_exp2_scaled    2   unless coarse
 *   vf_normal         3   for t <= 1; 40 for 1 < t <= 6, that is a relative error of 2.5e-6 of a
 *                         small value, where 1 + erf would have lost all digits
 *
 * NaN passes through. The polynomials are our own minimax fits (Remez, relative error).
 */
#ifndef WEFT_RUNTIME_BACKEND_CPU_VEC_MATH_H
#define WEFT_RUNTIME_BACKEND_CPU_VEC_MATH_H

#include "runtime/backend/cpu/vec.h"

/* x = n ln 2 + r with |r| <= ln 2 / 2: returns e^r - 1 and the whole number n. |x| < 2^20. */
VEC_INLINE vf vf_exp_reduced(vf x, vf low, vf *n)
{
    /* Adding 1.5 * 2^23 rounds to a whole number: the spacing of floats there is 1. */
    const vf magic = vf_set(0x1.8p23F);
    *n = vf_fma(x, vf_set(0x1.715476p+0F), magic) - magic;
    /* ln 2 in two parts; the first has 9 trailing zero bits, so n times it is exact. */
    vf r = vf_fnma(*n, vf_set(0x1.62e4p-1F), x);
    r = vf_fnma(*n, vf_set(0x1.7f7d1cp-20F), r) + low;
    vf p = vf_set(0.00138146006047F);
    p = vf_fma(p, r, vf_set(0.00836871690545F));
    p = vf_fma(p, r, vf_set(0.0416683880035F));
    p = vf_fma(p, r, vf_set(0.166665206315F));
    p = vf_fma(p, r, vf_set(0.49999993448F));
    return vf_fma(p, r * r, r);
}

VEC_INLINE vf vf_exp(vf x)
{
    vf n;
    x = vf_max(vf_set(-105.0F), vf_min(vf_set(90.0F), x));
    vf p = vf_exp_reduced(x, (vf){0}, &n);
    return vf_scale2(p + vf_set(1.0F), n);
}

/*
 * 2^(rate * x) for -160 <= x * rate <= 0, the exponential of softmax; from -152 on it is 0. The
 * product is not rounded before its whole part is taken off. `coarse` keeps a relative error of
 * 2^-18, for results that are rounded to bf16.
 */
VEC_INLINE vf vf_exp2_scaled(vf x, vf rate, const bool coarse)
{
    const vf magic = vf_set(0x1.8p23F);
    vf n = vf_fma(x, rate, magic) - magic;
    vf f = vf_fma(x, rate, -n);
    vf p;
    if (coarse) {
        p = vf_set(0.00958279340406F);
        p = vf_fma(p, f, vf_set(0.0559065752718F));
        p = vf_fma(p, f, vf_set(0.240241009493F));
        p = vf_fma(p, f, vf_set(0.693124178195F));
    } else {
        p = vf_set(0.000153533196924F);
        p = vf_fma(p, f, vf_set(0.00133988998099F));
        p = vf_fma(p, f, vf_set(0.00961843768499F));
        p = vf_fma(p, f, vf_set(0.0555033241133F));
        p = vf_fma(p, f, vf_set(0.240226479097F));
        p = vf_fma(p, f, vf_set(0.693147202879F));
    }
    return vf_scale2(vf_fma(p, f, vf_set(1.0F)), n);
}

/* e^x - 1 for 0 <= x <= 60. */
VEC_INLINE vf vf_expm1_positive(vf x)
{
    vf n;
    vf p = vf_exp_reduced(x, (vf){0}, &n);
    vf power = vf_scale2(vf_set(1.0F), n);
    return vf_fma(power, p, power - vf_set(1.0F));
}

/* (e^2|x| - 1) / (e^2|x| + 1), which keeps its relative precision near zero. */
VEC_INLINE vf vf_tanh(vf x)
{
    vf t = vf_min(vf_set(10.0F), vf_abs(x)); /* tanh(10) rounds to 1 */
    vf e = vf_expm1_positive(t + t);
    return vf_with_sign(e * vf_recip(e + vf_set(2.0F)), x);
}

/* a * b as a sum of two floats: the result and `low`. */
VEC_INLINE vf vf_product(vf a, vf b, vf *low)
{
#if defined(VEC_PORTABLE)
    /* Without a fused multiply-add: the product of the upper 12 bits of each is exact. */
    vf high_a = (vf)((vu)a & vu_set(0xFFFFF000u));
    vf high_b = (vf)((vu)b & vu_set(0xFFFFF000u));
    *low = high_a * (b - high_b) + (a - high_a) * b;
    return high_a * high_b;
#else
    vf product = a * b;
    *low = vf_fma(a, b, -product);
    return product;
#endif
}

/*
 * s = 1 / (1 + e^-z) for z = factor * x (also a result), and its slope s (1 - s). The exponential
 * is that of -|z|, which cannot overflow; the rounding error of z is carried into it.
 */
VEC_INLINE vf vf_sigmoid_scaled(vf x, const float factor, vf *z, vf *slope)
{
    vf a = vf_max(vf_set(-105.0F / factor), -vf_abs(x));
    vf low = {0};
    if (factor != 1.0F) {
        a = vf_product(a, vf_set(factor), &low);
    }
    vf n;
    vf e = vf_exp_reduced(a, low, &n);
    e = vf_scale2(e + vf_set(1.0F), n);
    vf r = vf_recip(e + vf_set(1.0F));
    *z = x * vf_set(factor);
    *slope = e * r * r;
    return vf_select(vf_lt(x, (vf){0}), e * r, r);
}

VEC_INLINE vf vf_sigmoid(vf x)
{
    vf z;
    vf slope;
    return vf_sigmoid_scaled(x, 1.0F, &z, &slope);
}

/* log(1 + x) for 0 <= x <= 1, as 2 atanh(x / (2 + x)). */
VEC_INLINE vf vf_log1p_unit(vf x)
{
    vf s = x * vf_recip(x + vf_set(2.0F));
    vf q = s * s;
    vf p = vf_set(0.121504640101F);
    p = vf_fma(p, q, vf_set(0.10713829916F));
    p = vf_fma(p, q, vf_set(0.143084422957F));
    p = vf_fma(p, q, vf_set(0.199994388759F));
    p = vf_fma(p, q, vf_set(0.333333378109F));
    s = s + s;
    return vf_fma(p * q, s, s);
}

/*
 * The two halves of the normal distribution at t = |x|: `*tail` = Phi(-t), and the density
 * exp(-t^2 / 2) / sqrt(2 pi) as the result. Phi(-t) is exp(-t^2 / 2) R(t) with R smooth (Mills'
 * ratio up to a factor), fitted as 1/2 plus a polynomial without constant term in t / (1 + 0.3 t);
 * so the tail keeps its relative precision, and one exponential serves both results. Beyond 6 the
 * fit leaves its interval: the relative error grows to 1e-3, of values under 1e-9.
 */
VEC_INLINE vf vf_normal(vf t, vf *tail)
{
    t = vf_min(vf_set(14.5F), t);
    vf w = t * vf_recip(vf_fma(t, vf_set(0.3F), vf_set(1.0F)));
    vf r = vf_set(1.91695198194e-6F);
    r = vf_fma(r, w, vf_set(-2.4547696479e-5F));
    r = vf_fma(r, w, vf_set(6.54332252314e-5F));
    r = vf_fma(r, w, vf_set(0.000304990780883F));
    r = vf_fma(r, w, vf_set(-0.000408194746389F));
    r = vf_fma(r, w, vf_set(-0.0189059314508F));
    r = vf_fma(r, w, vf_set(0.130321762305F));
    r = vf_fma(r, w, vf_set(-0.398942621609F));
    r = vf_fma(r, w, vf_set(0.5F));
    vf e = vf_exp2_scaled(t * t, vf_set(-0.72134752044F), false);
    *tail = e * r;
    return e * vf_set(0.398942280401F);
}

#endif
