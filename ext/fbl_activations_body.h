/* The activations of fbl_activations.h for one type; included by that header alone, once for each type.

   It defines FBL_REAL, the type; FBL_NAME(name), our function for that type; FBL_LIBM(name), the function of <math.h>.
   Each comparison is written so that NaN fails it and passes through. */

#define FBL_C(value) ((FBL_REAL)(value))

/* max(x, 0) and min(max(x, low), high). */
static inline FBL_REAL FBL_NAME(fbl_relu)(FBL_REAL x) { return x < 0 ? 0 : x; }

static inline FBL_REAL FBL_NAME(fbl_clip)(FBL_REAL x, FBL_REAL low, FBL_REAL high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* 1 / (1 + e^-x), written with e^-|x|: no overflow, and full relative accuracy down to the subnormal numbers. */
static inline FBL_REAL FBL_NAME(fbl_sigmoid)(FBL_REAL x) {
    const FBL_REAL e = FBL_NAME(fbl_exp)(-FBL_LIBM(fabs)(x));
    return (x >= 0 ? 1 : e) / (1 + e);
}

/* log(1 + e^x) = max(x, 0) + log(1 + e^-|x|). */
static inline FBL_REAL FBL_NAME(fbl_softplus)(FBL_REAL x) {
    return FBL_NAME(fbl_relu)(x) + FBL_LIBM(log1p)(FBL_NAME(fbl_exp)(-FBL_LIBM(fabs)(x)));
}

/* e^min(x, 0) - 1. */
static inline FBL_REAL FBL_NAME(fbl_expm1_below)(FBL_REAL x) { return FBL_NAME(fbl_exp_plus)(x > 0 ? 0 : x, -1); }

static inline FBL_REAL FBL_NAME(fbl_relu_options)(
    FBL_REAL x, FBL_REAL max_value, FBL_REAL negative_slope, FBL_REAL threshold) {
    FBL_REAL y = x <= threshold ? 0 : x;
    if (max_value == max_value)
        y = FBL_NAME(fbl_clip)(y, 0, max_value);
    return negative_slope != 0 ? y - negative_slope * FBL_NAME(fbl_relu)(threshold - x) : y;
}

/* TensorFlow rounds 0.044715 and, in fbl_gelu, sqrt(1/2) to float before use. */
static inline FBL_REAL FBL_NAME(fbl_gelu_tanh)(FBL_REAL x) {
    const FBL_REAL cubic = x + FBL_C(0.044715f) * x * x * x;
    return FBL_C(0.5) * x * (1 + FBL_NAME(fbl_tanh)(FBL_C(0.7978845608028654) * cubic));
}

static inline FBL_REAL FBL_NAME(fbl_gelu)(FBL_REAL x) {
    return FBL_C(0.5) * x * FBL_C(erfc((double)(-x * FBL_C(0.70710678f))));
}

static inline FBL_REAL FBL_NAME(fbl_soft_shrink)(FBL_REAL x, FBL_REAL threshold) {
    return x > threshold ? x - threshold : (x < -threshold ? x + threshold : 0);
}

static inline FBL_REAL FBL_NAME(fbl_sparse_plus)(FBL_REAL x) {
    return x <= -1 ? 0 : (x < 1 ? FBL_C(0.25) * (x + 1) * (x + 1) : x);
}

static inline FBL_REAL FBL_NAME(fbl_sparse_sigmoid)(FBL_REAL x) {
    return x <= -1 ? 0 : (x >= 1 ? 1 : FBL_C(0.5) * (x + 1));
}

/* x -= max(x); NaN anywhere may stay NaN there alone: the sum over the row carries it on. */
static inline void FBL_NAME(fbl_subtract_max)(FBL_REAL *x, ptrdiff_t n) {
    FBL_REAL largest = x[0];
    ptrdiff_t k;
    for (k = 1; k < n; ++k)
        largest = x[k] > largest ? x[k] : largest;
    for (k = 0; k < n; ++k)
        x[k] -= largest;
}

/* e^(x - max) / sum(e^(x - max)). */
static inline void FBL_NAME(fbl_softmax)(FBL_REAL *x, ptrdiff_t n) {
    double sum = 0;
    ptrdiff_t k;
    FBL_NAME(fbl_subtract_max)(x, n);
    for (k = 0; k < n; ++k)
        x[k] = FBL_NAME(fbl_exp)(x[k]);
    for (k = 0; k < n; ++k)
        sum += (double)x[k];
    for (k = 0; k < n; ++k)
        x[k] /= FBL_C(sum);
}

static inline void FBL_NAME(fbl_log_softmax)(FBL_REAL *x, ptrdiff_t n) {
    double sum = 0;
    FBL_REAL log_sum;
    ptrdiff_t k;
    FBL_NAME(fbl_subtract_max)(x, n);
    for (k = 0; k < n; ++k)
        sum += (double)FBL_NAME(fbl_exp)(x[k]);
    log_sum = FBL_C(log(sum));
    for (k = 0; k < n; ++k)
        x[k] -= log_sum;
}

/* max(x - tau, 0), where Keras takes for tau (sum of the cumulated sums over the support - 1) / size of the support.

   The support are the largest elements z_1 >= z_2 >= ... with z_j > (z_1 + ... + z_j - 1) / j; where one fails, all
   after it do. It is small as a rule, so the next largest is looked for instead of sorting: no second array. */
static inline void FBL_NAME(fbl_sparsemax)(FBL_REAL *x, ptrdiff_t n) {
    double cumulated = 0, total = 0;
    FBL_REAL tau, largest = 0;
    ptrdiff_t k, same, found = 0;
    do {
        const FBL_REAL before = largest;
        const int first = found == 0;
        same = 0;
        for (k = 0; k < n; ++k) {
            if (!first && !(x[k] < before))
                continue;
            if (same == 0 ? x[k] == x[k] : x[k] > largest) {
                largest = x[k];
                same = 1;
            } else if (same != 0 && x[k] == largest) {
                ++same;
            }
        }
        for (k = 0; k < same; ++k) {
            cumulated += (double)largest;
            if (!((double)largest - (cumulated - 1) / (double)(found + 1) > 0))
                break;
            total += cumulated;
            ++found;
        }
    } while (same != 0 && k == same);
    tau = FBL_C((total - 1) / (double)found); /* of an empty support (inf, NaN): -inf */
    for (k = 0; k < n; ++k)
        x[k] = FBL_NAME(fbl_relu)(x[k] - tau);
}

/* x[k] = value, an expression in v = x[k], for all k. */
#define FBL_EACH(value) \
    for (k = 0; k < n; ++k) { \
        const FBL_REAL v = x[k]; \
        x[k] = (value); \
    } \
    break

/* x = activation(x) over a row of n units. A code outside the enum is the identity: callers refuse it before. */
static inline void FBL_NAME(fbl_activate)(FBL_REAL *x, ptrdiff_t n, int code, const FBL_REAL *p) {
    ptrdiff_t k;
    if (n <= 0)
        return;
    switch (code) {
    case FBL_TANH:
        FBL_EACH(FBL_NAME(fbl_tanh)(v));
    case FBL_SIGMOID:
        FBL_EACH(FBL_NAME(fbl_sigmoid)(v));
    case FBL_RELU:
        FBL_EACH(FBL_NAME(fbl_relu)(v));
    case FBL_CLIP_HARD_SIGMOID:
        FBL_EACH(FBL_NAME(fbl_clip)(FBL_C(0.2) * v + FBL_C(0.5), 0, 1));
    case FBL_RELU6_HARD_SIGMOID:
        FBL_EACH(FBL_NAME(fbl_clip)(v + 3, 0, 6) / 6);
    case FBL_ELU: {
        const FBL_REAL alpha = p[0];
        FBL_EACH(v > 0 ? v : alpha * FBL_NAME(fbl_expm1_below)(v));
    }
    case FBL_SOFTSIGN:
        FBL_EACH(v / (1 + FBL_LIBM(fabs)(v)));
    case FBL_EXPONENTIAL:
        FBL_EACH(FBL_NAME(fbl_exp)(v));
    case FBL_SOFTPLUS:
        FBL_EACH(FBL_NAME(fbl_softplus)(v));
    case FBL_RELU_OPTIONS: {
        const FBL_REAL max_value = p[0], negative_slope = p[1], threshold = p[2];
        FBL_EACH(FBL_NAME(fbl_relu_options)(v, max_value, negative_slope, threshold));
    }
    case FBL_LEAKY_RELU: {
        const FBL_REAL negative_slope = p[0];
        FBL_EACH(v > 0 ? v : negative_slope * v);
    }
    case FBL_SELU:
        FBL_EACH(FBL_C(1.0507009873554805) * (v > 0 ? v : FBL_C(1.6732632423543772) * FBL_NAME(fbl_expm1_below)(v)));
    case FBL_CELU: {
        const FBL_REAL alpha = p[0];
        FBL_EACH(FBL_NAME(fbl_relu)(v) + alpha * FBL_LIBM(expm1)((v > 0 ? 0 : v) / alpha)); /* alpha < 0: any sign */
    }
    case FBL_GELU:
        FBL_EACH(FBL_NAME(fbl_gelu)(v));
    case FBL_GELU_TANH:
        FBL_EACH(FBL_NAME(fbl_gelu_tanh)(v));
    case FBL_SILU:
        FBL_EACH(v * FBL_NAME(fbl_sigmoid)(v));
    case FBL_HARD_SILU:
        FBL_EACH(v * (FBL_NAME(fbl_clip)(v + 3, 0, 6) / 6));
    case FBL_RELU6:
        FBL_EACH(FBL_NAME(fbl_clip)(v, 0, 6));
    case FBL_MISH:
        FBL_EACH(v * FBL_NAME(fbl_tanh)(FBL_NAME(fbl_softplus)(v)));
    case FBL_SOFTMAX:
        FBL_NAME(fbl_softmax)(x, n);
        break;
    case FBL_LOG_SOFTMAX:
        FBL_NAME(fbl_log_softmax)(x, n);
        break;
    case FBL_LOG_SIGMOID:
        FBL_EACH(-FBL_NAME(fbl_softplus)(-v));
    case FBL_HARD_TANH:
        FBL_EACH(FBL_NAME(fbl_clip)(v, -1, 1));
    case FBL_TANH_SHRINK:
        FBL_EACH(v - FBL_NAME(fbl_tanh)(v));
    case FBL_HARD_SHRINK: {
        const FBL_REAL threshold = p[0];
        FBL_EACH(FBL_LIBM(fabs)(v) > threshold ? v : 0);
    }
    case FBL_SOFT_SHRINK: {
        const FBL_REAL threshold = p[0];
        FBL_EACH(FBL_NAME(fbl_soft_shrink)(v, threshold));
    }
    case FBL_SPARSE_PLUS:
        FBL_EACH(FBL_NAME(fbl_sparse_plus)(v));
    case FBL_SPARSE_SIGMOID:
        FBL_EACH(FBL_NAME(fbl_sparse_sigmoid)(v));
    case FBL_SQUAREPLUS: {
        const FBL_REAL b = p[0];
        FBL_EACH((v + FBL_LIBM(sqrt)(v * v + b)) / 2);
    }
    case FBL_SPARSEMAX:
        FBL_NAME(fbl_sparsemax)(x, n);
        break;
    default:
        break;
    }
}

#undef FBL_C
#undef FBL_EACH
