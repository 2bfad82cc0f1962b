/* Windows that slide over a sequence or an image; contract: fbl_windows.h. */
#include <float.h>
#include <string.h>

#include "fbl_windows.h"

/* A call of memcpy costs more than a few floats. */
static void copy(float *to, const float *from, ptrdiff_t n)
{
    if (n >= 16)
        memcpy(to, from, (size_t)n * sizeof(float));
    else
        for (ptrdiff_t k = 0; k < n; k++)
            to[k] = from[k];
}

/* The position along each axis of the first tap of a window. */
static void begin(const fbl_windows *at, ptrdiff_t window, ptrdiff_t *first)
{
    for (int axis = 2; axis >= 0; axis--) {
        first[axis] = window % at->count[axis] * at->stride[axis] - at->before[axis];
        window /= at->count[axis];
    }
}

/* The taps [low, high) along an axis that lie inside of x. */
static void inside(const fbl_windows *at, int axis, ptrdiff_t first, ptrdiff_t *low, ptrdiff_t *high)
{
    const ptrdiff_t dilation = at->dilation[axis], room = at->size[axis] - 1 - first;
    *low = first < 0 ? (-first + dilation - 1) / dilation : 0;
    *high = room < 0 ? 0 : room / dilation + 1;
    if (*high > at->taps[axis])
        *high = at->taps[axis];
    if (*low > *high)
        *low = *high;
}

void fbl_gather_windows(const fbl_windows *at, const float *x, ptrdiff_t first, ptrdiff_t n, float *panel)
{
    const ptrdiff_t used = at->used_channels, line = at->taps[2] * used;
    const int together = at->dilation[2] == 1 && used == at->channels;
    x += at->first_channel;
    for (ptrdiff_t window = first; window < first + n; window++) {
        ptrdiff_t from[3], low, high;
        begin(at, window, from);
        inside(at, 2, from[2], &low, &high);
        for (ptrdiff_t a = 0; a < at->taps[0]; a++) {
            const ptrdiff_t p = from[0] + a * at->dilation[0];
            for (ptrdiff_t b = 0; b < at->taps[1]; b++, panel += line) {
                const ptrdiff_t q = from[1] + b * at->dilation[1];
                if (p < 0 || p >= at->size[0] || q < 0 || q >= at->size[1] || low == high) {
                    memset(panel, 0, (size_t)line * sizeof(float));
                    continue;
                }
                const float *row = x + (p * at->size[1] + q) * at->size[2] * at->channels;
                for (ptrdiff_t k = 0; k < low * used; k++)
                    panel[k] = 0;
                if (together)
                    copy(panel + low * used, row + (from[2] + low) * used, (high - low) * used);
                else
                    for (ptrdiff_t c = low; c < high; c++)
                        copy(panel + c * used, row + (from[2] + c * at->dilation[2]) * at->channels, used);
                for (ptrdiff_t k = high * used; k < line; k++)
                    panel[k] = 0;
            }
        }
    }
}

void fbl_pool_windows(const fbl_kernels *table, const fbl_windows *at, const float *x, ptrdiff_t first, ptrdiff_t n,
                      int mean, float *y)
{
    static const float ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const ptrdiff_t channels = at->channels, step = at->dilation[2] * channels;
    for (ptrdiff_t window = first; window < first + n; window++, y += channels) {
        ptrdiff_t from[3], low[3], high[3];
        begin(at, window, from);
        for (int axis = 0; axis < 3; axis++)
            inside(at, axis, from[axis], &low[axis], &high[axis]);
        for (ptrdiff_t k = 0; k < channels; k++)
            y[k] = mean ? 0 : -FLT_MAX;
        for (ptrdiff_t a = low[0]; a < high[0]; a++)
            for (ptrdiff_t b = low[1]; b < high[1]; b++) {
                const ptrdiff_t p = from[0] + a * at->dilation[0], q = from[1] + b * at->dilation[1];
                const float *row = x + (p * at->size[1] + q) * at->size[2] * channels;
                row += from[2] * channels + low[2] * step;
                if (!mean) {
                    table->max_rows(high[2] - low[2], channels, row, step, y);
                    continue;
                }
                for (ptrdiff_t c = low[2]; c < high[2]; c += 16, row += 16 * step)
                    table->add_rows(high[2] - c < 16 ? high[2] - c : 16, channels, ones, row, step, y);
            }
        if (mean) {
            const float count = (float)((high[0] - low[0]) * (high[1] - low[1]) * (high[2] - low[2]));
            for (ptrdiff_t k = 0; k < channels; k++)
                y[k] /= count;
        }
    }
}
