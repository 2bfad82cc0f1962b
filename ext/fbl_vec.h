/* Vectors of L floats and what the kernels do with them. Included by a stub after FBL_LANES and FBL_ISA are defined.

   Where a comparison decides, NaN fails it: vmax(a, b) and vmin(a, b) give b if either is NaN, so the variable goes last.
   exp and tanh: see fbl_kernels.h for the largest errors; coefficients are weighted least squares of our own, iterated
   to equal ripples, in the form 1 + r + r^2 P(r) and x P(x^2) / Q(x^2). */
#ifndef FBL_VEC_H
#define FBL_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(FBL_ISA_AVX512) || defined(FBL_ISA_AVX2)
#include "fbl_x86.h"
#elif defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#define FBL_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * FBL_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * FBL_LANES)));
typedef float vf_unaligned __attribute__((vector_size(4 * FBL_LANES), aligned(4), may_alias));

FBL_INLINE vf vload(const float *p) { return *(const vf_unaligned *)p; }
FBL_INLINE void vstore(float *p, vf x) { *(vf_unaligned *)p = x; }

/* The first n (1 to L) floats; the other lanes are zero, and not written. A call of memcpy for a few floats costs more than
   a masked load. */
#if defined(FBL_ISA_AVX512)
FBL_INLINE __mmask16 vfirst(ptrdiff_t n) { return (__mmask16)((1u << n) - 1); }
FBL_INLINE vf vload_n(const float *p, ptrdiff_t n)
{
    return n >= FBL_LANES ? vload(p) : (vf)_mm512_maskz_loadu_ps(vfirst(n), p);
}
FBL_INLINE void vstore_n(float *p, vf x, ptrdiff_t n)
{
    if (n >= FBL_LANES)
        vstore(p, x);
    else
        _mm512_mask_storeu_ps(p, vfirst(n), (__m512)x);
}
#elif defined(FBL_ISA_AVX2)
FBL_INLINE __m256i vfirst(ptrdiff_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FBL_INLINE vf vload_n(const float *p, ptrdiff_t n)
{
    return n >= FBL_LANES ? vload(p) : (vf)_mm256_maskload_ps(p, vfirst(n));
}
FBL_INLINE void vstore_n(float *p, vf x, ptrdiff_t n)
{
    if (n >= FBL_LANES)
        vstore(p, x);
    else
        _mm256_maskstore_ps(p, vfirst(n), (__m256)x);
}
#else
FBL_INLINE vf vload_n(const float *p, ptrdiff_t n)
{
    if (n >= FBL_LANES)
        return vload(p);
    return (vf){p[0], n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, 0};
}
FBL_INLINE void vstore_n(float *p, vf x, ptrdiff_t n)
{
    if (n >= FBL_LANES)
        vstore(p, x);
    else
        for (int k = 0; k < n; k++)
            p[k] = x[k];
}
#endif

/* mask lanes are 0 or -1 */
FBL_INLINE vf vselect(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }

#if defined(FBL_ISA_AVX512)
FBL_INLINE vf vset(float x) { return (vf)_mm512_set1_ps(x); }
FBL_INLINE vf vmax(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
FBL_INLINE vf vmin(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
FBL_INLINE vf vfma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
#elif defined(FBL_ISA_AVX2)
FBL_INLINE vf vset(float x) { return (vf)_mm256_set1_ps(x); }
FBL_INLINE vf vmax(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
FBL_INLINE vf vmin(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
FBL_INLINE vf vfma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
#else
FBL_INLINE vf vset(float x) { return (vf){x, x, x, x}; }
FBL_INLINE vf vmax(vf a, vf b) { return vselect(a > b, a, b); }
FBL_INLINE vf vmin(vf a, vf b) { return vselect(a < b, a, b); }
#if defined(FBL_ISA_NEON)
FBL_INLINE vf vfma(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
FBL_INLINE vf vfma(vf a, vf b, vf c) { return a * b + c; } /* two roundings: the baseline has no FMA */
#endif
#endif

/* The largest lane, and the sum of the lanes in double. */
#if defined(FBL_ISA_AVX512)
FBL_INLINE float vtop_lane(vf x) { return _mm512_reduce_max_ps((__m512)x); }
FBL_INLINE double vsum_lanes(vf x)
{
    const __m256 low = _mm512_castps512_ps256((__m512)x), high = _mm512_extractf32x8_ps((__m512)x, 1);
    return _mm512_reduce_add_pd(_mm512_add_pd(_mm512_cvtps_pd(low), _mm512_cvtps_pd(high)));
}
#else
FBL_INLINE float vtop_lane(vf x)
{
    float top = x[0];
    for (int k = 1; k < FBL_LANES; k++)
        top = x[k] > top ? x[k] : top;
    return top;
}
FBL_INLINE double vsum_lanes(vf x)
{
    double even = 0, odd = 0; /* two sums: each waits for its last step */
    for (int k = 0; k < FBL_LANES; k += 2) {
        even += x[k];
        odd += x[k + 1];
    }
    return even + odd;
}
#endif

/* Lane c of the result is lane PICK(c, S) of a, b one behind the other. */
#if defined(__clang__)
#define FBL_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FBL_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif
#if FBL_LANES == 4
#define FBL_EACH(PICK, S) PICK(0, S), PICK(1, S), PICK(2, S), PICK(3, S)
#elif FBL_LANES == 8
#define FBL_EACH(PICK, S)                                                                                              \
    PICK(0, S), PICK(1, S), PICK(2, S), PICK(3, S), PICK(4, S), PICK(5, S), PICK(6, S), PICK(7, S)
#else
#define FBL_EACH(PICK, S)                                                                                              \
    PICK(0, S), PICK(1, S), PICK(2, S), PICK(3, S), PICK(4, S), PICK(5, S), PICK(6, S), PICK(7, S), PICK(8, S),        \
        PICK(9, S), PICK(10, S), PICK(11, S), PICK(12, S), PICK(13, S), PICK(14, S), PICK(15, S)
#endif

/* Of two rows S apart: the blocks of S lanes that change places. */
#define FBL_FIRST(c, S) ((c) & (S) ? FBL_LANES + (c) - (S) : (c))
#define FBL_SECOND(c, S) ((c) & (S) ? FBL_LANES + (c) : (c) + (S))
#define FBL_EXCHANGE(S)                                                                                                \
    _Pragma("GCC unroll 16") for (int i = 0; i < FBL_LANES; i++) if (!(i & (S)))                                       \
    {                                                                                                                  \
        vf a = row[i], b = row[i + (S)];                                                                               \
        row[i] = FBL_SHUFFLE(a, b, FBL_EACH(FBL_FIRST, S));                                                            \
        row[i + (S)] = FBL_SHUFFLE(a, b, FBL_EACH(FBL_SECOND, S));                                                     \
    }

/* Transpose L rows of L floats in place. */
FBL_INLINE void vtranspose(vf *row)
{
    FBL_EXCHANGE(1)
    FBL_EXCHANGE(2)
#if FBL_LANES > 4
    FBL_EXCHANGE(4)
#endif
#if FBL_LANES > 8
    FBL_EXCHANGE(8)
#endif
}

FBL_INLINE vi vset_int(int32_t x) { return x - (vi){0}; }

/* Whole numbers: loaded from any place, as floats, from floats (the nearest, halves to even), as bytes, whether all lanes of a
   mask are set. */
typedef int32_t vi_unaligned __attribute__((vector_size(4 * FBL_LANES), aligned(1), may_alias));
FBL_INLINE vi vload_int(const void *p) { return *(const vi_unaligned *)p; }
#if defined(FBL_ISA_AVX512)
FBL_INLINE vf vfloat(vi x) { return (vf)_mm512_cvtepi32_ps((__m512i)x); }
FBL_INLINE vi vround(vf x) { return (vi)_mm512_cvtps_epi32((__m512)x); }
FBL_INLINE void vstore_bytes(unsigned char *p, vi x) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)x)); }
FBL_INLINE int vall(vi mask) { return _mm512_movepi32_mask((__m512i)mask) == 0xFFFF; }
#elif defined(FBL_ISA_AVX2)
FBL_INLINE vf vfloat(vi x) { return (vf)_mm256_cvtepi32_ps((__m256i)x); }
FBL_INLINE vi vround(vf x) { return (vi)_mm256_cvtps_epi32((__m256)x); }
FBL_INLINE void vstore_bytes(unsigned char *p, vi x)
{
    const __m256i low = _mm256_and_si256((__m256i)x, _mm256_set1_epi32(255));
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
}
FBL_INLINE int vall(vi mask) { return _mm256_movemask_ps((__m256)mask) == 0xFF; }
#else
#if defined(__SSE2__)
FBL_INLINE vf vfloat(vi x) { return (vf)_mm_cvtepi32_ps((__m128i)x); }
FBL_INLINE vi vround(vf x) { return (vi)_mm_cvtps_epi32((__m128)x); }
#elif defined(__aarch64__)
FBL_INLINE vf vfloat(vi x) { return (vf)vcvtq_f32_s32((int32x4_t)x); }
FBL_INLINE vi vround(vf x) { return (vi)vcvtnq_s32_f32((float32x4_t)x); }
#else
FBL_INLINE vf vfloat(vi x) { return (vf){(float)x[0], (float)x[1], (float)x[2], (float)x[3]}; }
FBL_INLINE int32_t vround_lane(float x) { return (int32_t)__builtin_lrintf(x); }
FBL_INLINE vi vround(vf x)
{
    return (vi){vround_lane(x[0]), vround_lane(x[1]), vround_lane(x[2]), vround_lane(x[3])};
}
#endif
FBL_INLINE void vstore_bytes(unsigned char *p, vi x)
{
    for (int k = 0; k < FBL_LANES; k++)
        p[k] = (unsigned char)x[k];
}
FBL_INLINE int vall(vi mask) { return (mask[0] & mask[1] & mask[2] & mask[3]) != 0; }
#endif

FBL_INLINE vf vabs(vf x) { return (vf)((vi)x & vset_int(0x7FFFFFFF)); }

/* Two weights of each lane: the k-th in the lower half, the next in the upper half of 32 bits. */
FBL_INLINE void widen_bfloat16(const uint16_t *p, vf *first, vf *second)
{
    const vi both = vload_int(p);
    *first = (vf)(both << 16);
    *second = (vf)(both & vset_int((int32_t)0xFFFF0000u));
}
#if defined(FBL_ISA_AVX512)
#define FBL_HAS_FLOAT16 1
FBL_INLINE void widen_float16(const uint16_t *p, vf *first, vf *second)
{
    const vi both = vload_int(p);
    *first = (vf)_mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)both));
    *second = (vf)_mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)both, 16)));
}
#elif defined(FBL_ISA_AVX2)
#define FBL_HAS_FLOAT16 1
FBL_INLINE vf widen_lower_halves(__m256i x)
{
    const __m256i words = _mm256_packus_epi32(x, x); /* of each half twice */
    return (vf)_mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(words, 0x08)));
}
FBL_INLINE void widen_float16(const uint16_t *p, vf *first, vf *second)
{
    const __m256i both = (__m256i)vload_int(p);
    *first = widen_lower_halves(_mm256_and_si256(both, _mm256_set1_epi32(0xFFFF)));
    *second = widen_lower_halves(_mm256_srli_epi32(both, 16));
}
#elif defined(FBL_ISA_NEON)
#define FBL_HAS_FLOAT16 1
FBL_INLINE void widen_float16(const uint16_t *p, vf *first, vf *second)
{
    const uint32x4_t both = (uint32x4_t)vload_int(p);
    *first = (vf)vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(both)));
    *second = (vf)vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(both, 16)));
}
#else
#define FBL_HAS_FLOAT16 0
#endif

/* 2^n r-part of e^x: returns e^r, |r| <= ln(2)/2, and in `bits` 0x4B400000 + n as an integer or 1.5 * 2^23 + n as a float;
   |x| <= 104. */
FBL_INLINE vf vexp_reduced(vf x, vi *bits)
{
    const vf shift = vset(12582912.0f); /* 1.5 * 2^23: added to a small number, it leaves the integer in the low bits */
    vf shifted = vfma(x, vset(1.44269504f), shift);
    vf n = shifted - shift;
    /* ln(2) in two parts, the first times n is exact */
    vf r = vfma(n, vset(-0.693145751953125f), x);
    r = vfma(n, vset(-1.42860682e-06f), r);
    /* P by pairs of coefficients: few steps wait for the one before; relative error of the whole 4.3e-9 */
    vf s = r * r;
    vf p = vfma(vset(0.00836878044f), r, vset(0.0416683942f));
    p = vfma(vset(0.00138144666f), s, p);
    p = vfma(p, s, vfma(vset(0.166665201f), r, vset(0.499999934f)));
    *bits = (vi)shifted;
    return vfma(p, s, r) + 1.0f;
}

/* e^x for every float: 0 and subnormals below, inf above, NaN stays NaN. */
FBL_INLINE vf vexp(vf x)
{
    vi bits;
    vf y = vexp_reduced(vmin(vset(89.0f), vmax(vset(-104.0f), x)), &bits);
#if defined(FBL_ISA_AVX512)
    return (vf)_mm512_scalef_ps((__m512)y, (__m512)((vf)bits - 12582912.0f)); /* the same bits as below */
#else
    /* 2^n in two factors, as n runs from -150 to 128; NaN gives some factors here, and NaN again as the product */
    vi n = bits - 0x4B400000;
    vi half = n >> 1;
    return y * (vf)((half + 127) << 23) * (vf)((n - half + 127) << 23);
#endif
}

/* e^x with x held to [-87, 87]: what the gates need, since 1 + e^-87 is 1 and 1 / (1 + e^87) is 1.6e-38. */
FBL_INLINE vf vexp_held(vf x)
{
    vi bits;
    vf y = vexp_reduced(vmin(vset(87.0f), vmax(vset(-87.0f), x)), &bits);
#if defined(FBL_ISA_AVX512)
    return (vf)_mm512_scalef_ps((__m512)y, (__m512)((vf)bits - 12582912.0f));
#else
    return y * (vf)((bits - (0x4B400000 - 127)) << 23);
#endif
}

/* 1 / (1 + e^-x), as e^-|x| / (1 + e^-|x|) below zero, so that the small tail keeps its precision. */
FBL_INLINE vf vsigmoid(vf x)
{
    vf e = vexp(-vabs(x));
    return vselect(x < 0, e, vset(1.0f)) / (1.0f + e);
}

/* tanh(x) = p / q with q >= 1: relative error 5.3e-8 with these coefficients, rounded to float as they are; sums and
   products add more, up to 7.5 ulp beyond 4. The quotient is 1 beyond 9.02, as tanh is. */
FBL_INLINE vf vtanh_ratio(vf x, vf *q)
{
    x = vmin(vset(9.02f), vmax(vset(-9.02f), x));
    vf u = x * x, s = u * u;
    vf a = vfma(vset(5.09010369e-08f), u, vset(3.16312085e-05f));
    a = vfma(a, s, vfma(vset(0.00401051875f), u, vset(0.137869596f)));
    vf b = vfma(vset(1.62065939e-06f), u, vset(0.000421098889f));
    b = vfma(vset(7.40125412e-10f), s, b);
    b = vfma(b, s, vfma(vset(0.0277448387f), u, vset(0.471202924f)));
    *q = vfma(b, u, vset(1.0f)); /* the only sum near 1: each one rounds it */
    return vfma(a, u * x, x);
}

/* The ratio below 0.625, 1 - 2 / (e^2|x| + 1) above. */
FBL_INLINE vf vtanh(vf x)
{
    vf q, size = vabs(x);
    vf small = vtanh_ratio(x, &q);
    small = small / q;
    vi sign = (vi)x & vset_int((int32_t)0x80000000u);
    vf large = (vf)((vi)(1.0f - 2.0f / (vexp(size + size) + 1.0f)) | sign);
    return vselect(size > 0.625f, large, small);
}

#endif
