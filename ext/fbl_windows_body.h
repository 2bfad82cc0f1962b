/* What the kernels do with windows over a sequence or an image, included in fbl_kernels_body.h: the largest number of each
   window, and the transforms of Winograd's convolution. */

/* Taps that are compared in one go. */
#define MAX_TAPS 64

/* y[w n + j] = the largest of y[w n + j], unless `first`, and x[w window_step + places[t] + j] over t < count. */
static void max_places(ptrdiff_t windows, ptrdiff_t window_step, ptrdiff_t count, const ptrdiff_t *places, int first,
                       ptrdiff_t n, const float *x, float *y)
{
    const ptrdiff_t whole = n / L * L;
    for (ptrdiff_t w = 0; w < windows; w++, x += window_step, y += n) {
        for (ptrdiff_t k = 0; k < whole; k += L) {
            vf most = first ? vset(-FLT_MAX) : vload(y + k);
            for (ptrdiff_t t = 0; t < count; t++)
                most = vmax(vload(x + places[t] + k), most);
            vstore(y + k, most);
        }
        if (whole < n) {
            vf most = first ? vset(-FLT_MAX) : vload_n(y + whole, n - whole);
            for (ptrdiff_t t = 0; t < count; t++)
                most = vmax(vload_n(x + places[t] + whole, n - whole), most);
            vstore_n(y + whole, most, n - whole);
        }
    }
}

static void max_windows(ptrdiff_t windows, ptrdiff_t window_step, const ptrdiff_t *taps, const ptrdiff_t *steps,
                        ptrdiff_t n, const float *x, float *y)
{
    ptrdiff_t places[MAX_TAPS], count = 0;
    int first = 1;
    for (ptrdiff_t a = 0; a < taps[0]; a++)
        for (ptrdiff_t b = 0; b < taps[1]; b++)
            for (ptrdiff_t c = 0; c < taps[2]; c++) {
                if (count == MAX_TAPS) {
                    max_places(windows, window_step, count, places, first, n, x, y);
                    first = 0;
                    count = 0;
                }
                places[count++] = a * steps[0] + b * steps[1] + c * steps[2];
            }
    max_places(windows, window_step, count, places, first, n, x, y);
}

/* ---- Winograd's F(2x2, 3x3) ---- */

static void winograd_in(ptrdiff_t tiles, ptrdiff_t n, const float *x, ptrdiff_t line, float *v, ptrdiff_t spread)
{
    for (ptrdiff_t t = 0; t < tiles; t++, x += 2 * n, v += n)
        for (ptrdiff_t k = 0; k < n; k += L) {
            vf half[4][4];
            FBL_UNROLL for (int j = 0; j < 4; j++) {
                vf d[4];
                FBL_UNROLL for (int i = 0; i < 4; i++) d[i] = vload_n(x + i * line + j * n + k, n - k);
                half[0][j] = d[0] - d[2];
                half[1][j] = d[1] + d[2];
                half[2][j] = d[2] - d[1];
                half[3][j] = d[1] - d[3];
            }
            FBL_UNROLL for (int i = 0; i < 4; i++) {
                float *to = v + 4 * i * spread + k;
                vstore_n(to, half[i][0] - half[i][2], n - k);
                vstore_n(to + spread, half[i][1] + half[i][2], n - k);
                vstore_n(to + 2 * spread, half[i][2] - half[i][1], n - k);
                vstore_n(to + 3 * spread, half[i][1] - half[i][3], n - k);
            }
        }
}

static void winograd_out(ptrdiff_t tiles, ptrdiff_t n, const float *m, ptrdiff_t spread, const float *bias,
                         ptrdiff_t lines, ptrdiff_t columns, float *y, ptrdiff_t line, unsigned char *finite)
{
    for (ptrdiff_t t = 0; t < tiles; t++, m += n, y += 2 * n) {
        vf none = vset(0.0f); /* 0 times each result: NaN if one is not finite */
        for (ptrdiff_t k = 0; k < n; k += L) {
            vf half[2][4], start = bias ? vload_n(bias + k, n - k) : vset(0.0f);
            FBL_UNROLL for (int j = 0; j < 4; j++) {
                vf d[4];
                FBL_UNROLL for (int i = 0; i < 4; i++) d[i] = vload_n(m + (4 * i + j) * spread + k, n - k);
                half[0][j] = d[0] + (d[1] + d[2]);
                half[1][j] = (d[1] - d[2]) - d[3];
            }
            FBL_UNROLL for (int i = 0; i < 2; i++) {
                const vf even = half[i][0] + (half[i][1] + half[i][2]) + start;
                const vf odd = (half[i][1] - half[i][2]) - half[i][3] + start;
                if (i < lines) {
                    vstore_n(y + i * line + k, even, n - k);
                    none += even * 0.0f;
                    if (2 * t + 1 < columns) {
                        vstore_n(y + i * line + n + k, odd, n - k);
                        none += odd * 0.0f;
                    }
                }
            }
        }
        float lanes[L];
        vstore(lanes, none);
        finite[t] = 1;
        for (int j = 0; j < L; j++)
            finite[t] &= lanes[j] == 0;
    }
}
