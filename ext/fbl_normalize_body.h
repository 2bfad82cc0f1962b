/* Normalization of rows: a part of the kernel body, included by fbl_kernels_body.h. Contract: fbl_kernels.h. */

/* The sum of (x - mean) or of its square over n elements, in double: one sum for each of 16 places, halved at the end. */
FBL_INLINE double moment(const float *x, ptrdiff_t n, double mean, int square)
{
    double sums[16] = {0};
    ptrdiff_t k = 0;
    for (; k + 16 <= n; k += 16)
        for (int j = 0; j < 16; j++) {
            const double d = (double)x[k + j] - mean;
            sums[j] += square ? d * d : d;
        }
    for (int j = 0; k + j < n; j++) {
        const double d = (double)x[k + j] - mean;
        sums[j] += square ? d * d : d;
    }
    FBL_UNROLL for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++)
            sums[j] += sums[j + half];
    return sums[0];
}

static void normalize(ptrdiff_t rows, ptrdiff_t n, const float *x, const float *gamma, const float *beta, double epsilon,
                      int keep_mean, int about_zero, float *y)
{
    double mean[32] = {0}, inverse[32];
    /* Of some rows one number after the other: rows do not wait for each other. */
    for (ptrdiff_t first = 0, count; first < rows; first += count, x += count * n, y += count * n) {
        count = least(32, rows - first);
        for (ptrdiff_t r = 0; r < count && !about_zero; r++)
            mean[r] = moment(x + r * n, n, 0, 0) / (double)n;
        for (ptrdiff_t r = 0; r < count; r++)
            inverse[r] = moment(x + r * n, n, mean[r], 1);
        for (ptrdiff_t r = 0; r < count; r++)
            inverse[r] = 1 / __builtin_sqrt(inverse[r] / (double)n + epsilon);
        for (ptrdiff_t r = 0; r < count; r++) {
            const double shift = keep_mean ? 0 : mean[r];
            for (ptrdiff_t k = 0; k < n; k++) {
                const double scale = gamma ? inverse[r] * (double)gamma[k] : inverse[r];
                y[r * n + k] = (float)((double)x[r * n + k] * scale + ((beta ? (double)beta[k] : 0) - shift * scale));
            }
        }
    }
}
