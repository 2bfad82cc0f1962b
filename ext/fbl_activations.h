/* Keras' activations, in place over one row of units, in float (suffix _f32) and double (suffix _f64):

       fbl_activate_f32(float *x, ptrdiff_t n, int code, const float *p)
       fbl_activate_f64(double *x, ptrdiff_t n, int code, const double *p)

   The meaning of each is the NumPy function of its name in fastbilstm/activations.py, NaN and inf included. Plain C99,
   everything is static and there is no state: include it where it is needed, nothing has to be defined before. The
   loops over linear, tanh, sigmoid, exponential, the relu, elu and hard families are free of branches and calls, so
   that compilers turn them into vector code (GCC needs -fno-math-errno -fno-trapping-math); the others call libm.

   Largest errors in units in the last place over all arguments, as tests/ext/test_activations.py checks:

               exp    tanh   sigmoid   e^x - 1 of x <= 0
       float   1.1    1.1    2.5       1.0
       double  1.2    1.5    2.5       1.5
*/
#ifndef FBL_ACTIVATIONS_H
#define FBL_ACTIVATIONS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The codes, and the parameters p[0..2] of those that have any (else p is not read). fastbilstm/activations.py has the
   table from functions, whose names these are, to codes and parameters. */
enum fbl_activation {
    FBL_LINEAR = 0,
    FBL_TANH = 1,
    FBL_SIGMOID = 2,
    FBL_RELU = 3,                /* without options */
    FBL_CLIP_HARD_SIGMOID = 4,   /* clip(0.2x + 0.5, 0, 1): Keras 1, Keras 2 and tf.keras */
    FBL_RELU6_HARD_SIGMOID = 5,  /* relu6(x + 3) / 6: Keras 3 */
    FBL_ELU = 6,                 /* alpha */
    FBL_SOFTSIGN = 7,
    FBL_EXPONENTIAL = 8,
    FBL_SOFTPLUS = 9,
    FBL_RELU_OPTIONS = 10,       /* max_value (NaN: none), negative_slope, threshold */
    FBL_LEAKY_RELU = 11,         /* negative_slope, rounded to float as TensorFlow does */
    FBL_SELU = 12,
    FBL_CELU = 13,               /* alpha */
    FBL_GELU = 14,
    FBL_GELU_TANH = 15,          /* gelu(approximate=True) */
    FBL_SILU = 16,
    FBL_HARD_SILU = 17,
    FBL_RELU6 = 18,
    FBL_MISH = 19,
    FBL_SOFTMAX = 20,            /* over the row */
    FBL_LOG_SOFTMAX = 21,        /* over the row */
    FBL_LOG_SIGMOID = 22,
    FBL_HARD_TANH = 23,
    FBL_TANH_SHRINK = 24,
    FBL_HARD_SHRINK = 25,        /* threshold */
    FBL_SOFT_SHRINK = 26,        /* threshold */
    FBL_SPARSE_PLUS = 27,
    FBL_SPARSE_SIGMOID = 28,
    FBL_SQUAREPLUS = 29,         /* b */
    FBL_SPARSEMAX = 30,          /* over the row */
    FBL_ACTIVATION_COUNT = 31
};

/* ---- exp and tanh in float ------------------------------------------------------------------------------- */

/* The float or double with this exponent field: 2^(biased - 127), 2^(biased - 1023). */
static inline float fbl_power_of_two_f32(uint32_t biased) {
    float y;
    biased <<= 23;
    memcpy(&y, &biased, sizeof y);
    return y;
}

/* x = n ln(2) + r with |r| <= ln(2)/2; returns r, and n as an integer plus 0x4B400000 in *bits. |x| < 2^21. */
static inline float fbl_reduce_f32(float x, uint32_t *bits) {
    /* 1.5 * 2^23: added to a small number, it leaves the rounded integer in the low bits. */
    const float shift = 12582912.0f;
    const float shifted = x * 1.44269504f + shift;
    const float n = shifted - shift;
    memcpy(bits, &shifted, sizeof shifted);
    return (x - n * 0.693145751953125f) - n * 1.42860682e-06f; /* ln(2) in two parts, the first times n is exact */
}

/* e^r - 1 = r + r^2 (1/2! + r/3! + ...) for |r| <= ln(2)/2, by Taylor's series: its next term is below 2^-27. */
static inline float fbl_expm1_reduced_f32(float r) {
    float y = (float)(1. / 720) + r * (float)(1. / 5040);
    y = (float)(1. / 120) + r * y;
    y = (float)(1. / 24) + r * y;
    y = (float)(1. / 6) + r * y;
    y = 0.5f + r * y;
    return r + r * r * y;
}

/* e^x = 2^n e^r, subnormal results included. */
static inline float fbl_exp_f32(float x) {
    uint32_t bits, half;
    float y;
    x = x < -104 ? -104 : (x > 89 ? 89 : x); /* beyond: exactly 0 and inf */
    y = 1 + fbl_expm1_reduced_f32(fbl_reduce_f32(x, &bits));
    /* 2^n in two factors, as n runs from -150 to 128. NaN gives some factors here, and NaN again as the product. */
    bits = bits - 0x4B400000u + 256;
    half = (bits >> 1) & 0xFF;
    return y * fbl_power_of_two_f32(half - 1) * fbl_power_of_two_f32(bits - half - 1);
}

/* e^x + c = 2^n (e^r - 1) + (2^n + c) for |x| <= 50 and c = 1 or -1; beyond, the value at 50 or -50. */
static inline float fbl_exp_plus_f32(float x, float c) {
    uint32_t bits;
    float y, power;
    x = x < -50 ? -50 : (x > 50 ? 50 : x);
    y = fbl_expm1_reduced_f32(fbl_reduce_f32(x, &bits));
    power = fbl_power_of_two_f32(bits + 127); /* the shift drops 0x4B400000 */
    return power * y + (power + c);
}

/* x + x^3 P(x^2) below 0.75, 1 - 2 / (e^2|x| + 1) above. */
static inline float fbl_tanh_f32(float x) {
    const float size = fabsf(x), square = x * x;
    float small, large;
    /* P interpolates (tanh(x) - x) / x^3 at 6 Chebyshev points; relative error of tanh below 2^-26. */
    small = -0.007933808f + square * 0.0019095024f;
    small = 0.021615319f + square * small;
    small = -0.053935852f + square * small;
    small = 0.13333179f + square * small;
    small = -0.3333333f + square * small;
    large = 1 - 2 / fbl_exp_plus_f32(2 * size, 1);
    large = x < 0 ? -large : large;
    return size > 0.75f ? large : x + x * square * small;
}

/* ---- exp and tanh in double: the same in 64 bits ---------------------------------------------------------- */

static inline double fbl_power_of_two_f64(uint64_t biased) {
    double y;
    biased <<= 52;
    memcpy(&y, &biased, sizeof y);
    return y;
}

/* As fbl_reduce_f32, with n plus 0x4338000000000000 in *bits. */
static inline double fbl_reduce_f64(double x, uint64_t *bits) {
    const double shift = 6755399441055744.0; /* 1.5 * 2^52 */
    const double shifted = x * 1.4426950408889634 + shift;
    const double n = shifted - shift;
    memcpy(bits, &shifted, sizeof shifted);
    return (x - n * 0.69314718036912381649) - n * 1.90821492927058770002e-10; /* the first part has 33 bits */
}

/* e^r - 1 = r + r^2 Q(r). Q interpolates at 10 Chebyshev points; its error is below 2^-56 of e^r. */
static inline double fbl_expm1_reduced_f64(double r) {
    double y = 2.7620088445409746e-07 + r * 2.510038549551032e-08;
    y = 2.7557268459997064e-06 + r * y;
    y = 2.4801521295954376e-05 + r * y;
    y = 0.00019841269863053618 + r * y;
    y = 0.0013888888917213717 + r * y;
    y = 0.008333333333330062 + r * y;
    y = 0.04166666666662413 + r * y;
    y = 0.16666666666666669 + r * y;
    y = 0.5 + r * y;
    return r + r * r * y;
}

static inline double fbl_exp_f64(double x) {
    uint64_t bits, half;
    double y;
    x = x < -746 ? -746 : (x > 710 ? 710 : x);
    y = 1 + fbl_expm1_reduced_f64(fbl_reduce_f64(x, &bits));
    bits = bits - 0x4338000000000000u + 2048;
    half = (bits >> 1) & 0x7FF;
    return y * fbl_power_of_two_f64(half - 1) * fbl_power_of_two_f64(bits - half - 1);
}

static inline double fbl_exp_plus_f64(double x, double c) {
    uint64_t bits;
    double y, power;
    x = x < -50 ? -50 : (x > 50 ? 50 : x);
    y = fbl_expm1_reduced_f64(fbl_reduce_f64(x, &bits));
    power = fbl_power_of_two_f64(bits + 1023);
    return power * y + (power + c);
}

/* |x| + |x|^3 P(x^2) / Q(x^2) below 0.625, 1 - 2 / (e^2|x| + 1) above, with one division for both. */
static inline double fbl_tanh_f64(double x) {
    const double size = fabs(x), square = x * x;
    /* P / Q interpolates (tanh(x) - x) / x^3 at 6 Chebyshev points; relative error of tanh below 2^-56. */
    double p = -99.25157970735542 + square * -0.9643850249801493;
    double q = 112.77252888384996 + square;
    p = -1613.941322073366 + square * p;
    q = 2234.484325610089 + square * q;
    q = 4841.823966220099 + square * q;
    p = size > 0.625 ? -2 : size * square * p;
    q = size > 0.625 ? fbl_exp_plus_f64(2 * size, 1) : q;
    return copysign((size > 0.625 ? 1 : size) + p / q, x);
}

/* ---- the activations, once for each type ------------------------------------------------------------------------- */

#define FBL_REAL float
#define FBL_NAME(name) name##_f32
#define FBL_LIBM(name) name##f
#include "fbl_activations_body.h"
#undef FBL_REAL
#undef FBL_NAME
#undef FBL_LIBM

#define FBL_REAL double
#define FBL_NAME(name) name##_f64
#define FBL_LIBM(name) name
#include "fbl_activations_body.h"
#undef FBL_REAL
#undef FBL_NAME
#undef FBL_LIBM

#endif
