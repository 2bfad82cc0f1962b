/* Windows that slide over a sequence or an image; contract: fbl_windows.h. */
#include <stdint.h>
#include <string.h>

#include "fbl_activations.h"
#include "fbl_elementwise.h"
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

/* Windows of a block: what they see and give stays in the L2 cache. */
enum { WINDOWS = 96 };

/* Tokens whose rows of a table are asked for ahead. */
enum { AHEAD = 8 };

/* Positions that the windows of n places along an axis reach over. */
static ptrdiff_t extent(const fbl_windows *at, int axis, ptrdiff_t n)
{
    return (n - 1) * at->stride[axis] + (at->taps[axis] - 1) * at->dilation[axis] + 1;
}

/* Floats of a line of the convolution. */
static ptrdiff_t line_size(const fbl_convolution *s)
{
    ptrdiff_t n = s->groups * s->filters;
    for (int axis = s->axis + 1; axis < 3; axis++)
        n *= s->at.count[axis];
    return n;
}

/* Lines of the convolution that n lines of the result are made of. */
static ptrdiff_t lines_of(const fbl_convolution *s, ptrdiff_t n) { return s->pooled ? n * s->pool.taps[s->axis] : n; }

static ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

void fbl_plan_convolution(fbl_convolution *s)
{
    s->axis = 0;
    while (s->axis < 2 && s->at.size[s->axis] == 1 && s->at.taps[s->axis] == 1 && s->at.count[s->axis] == 1)
        s->axis++;
    const ptrdiff_t windows = lines_of(s, 1) * line_size(s) / (s->groups * s->filters);
    s->lines = windows < WINDOWS ? WINDOWS / windows : 1;
    if (s->winograd) /* blocks begin where tiles do */
        s->lines += lines_of(s, s->lines) % 2;
}

/* Places along an axis, n of the outermost one, of the convolution: whole tiles where it is Winograd's. */
static ptrdiff_t places_of(const fbl_convolution *s, int axis, ptrdiff_t n)
{
    n = axis == s->axis ? n : s->at.count[axis];
    return s->winograd ? n + n % 2 : n;
}

/* Floats of the part of x, with its margins, that n lines of the convolution see. */
static ptrdiff_t seen(const fbl_convolution *s, ptrdiff_t n)
{
    ptrdiff_t size = s->at.channels;
    for (int axis = s->axis; axis < 3; axis++)
        size *= extent(&s->at, axis, places_of(s, axis, n));
    return size;
}

/* Pieces of the windows of a group: runs of floats that follow each other in x. */
static ptrdiff_t pieces_of(const fbl_windows *at, ptrdiff_t *length)
{
    const int together = at->dilation[2] == 1 && at->used_channels == at->channels;
    *length = together ? at->taps[2] * at->channels : at->used_channels;
    return at->taps[0] * at->taps[1] * (together ? 1 : at->taps[2]) * ((*length + FBL_DEPTH - 1) / FBL_DEPTH);
}

/* Floats that n indices take. */
static ptrdiff_t indices(ptrdiff_t n) { return n * (ptrdiff_t)(sizeof(ptrdiff_t) / sizeof(float)); }

/* Tiles of n lines. */
static ptrdiff_t tiles_of(const fbl_convolution *s, ptrdiff_t n)
{
    return places_of(s, 1, n) / 2 * (places_of(s, 2, n) / 2);
}

/* Floats for the transforms of n lines, their products, a byte for each tile, and a place that begins at a multiple of 64. */
static ptrdiff_t winograd_scratch(const fbl_convolution *s, ptrdiff_t n)
{
    return tiles_of(s, n) * (16 * (s->at.channels + s->filters) + 1) + 16;
}

ptrdiff_t fbl_convolution_scratch(const fbl_convolution *s)
{
    const ptrdiff_t n = lines_of(s, s->lines), windows = n * line_size(s) / (s->groups * s->filters);
    const ptrdiff_t result = s->pooled ? n * line_size(s) + 1 : 0;
    ptrdiff_t length, pieces = pieces_of(&s->at, &length);
    if (s->rows) {
        const ptrdiff_t tokens = s->embedded ? extent(&s->at, 2, n) : 0;
        return indices(s->at.taps[2] + tokens) + tokens * s->at.taps[2] * s->filters + result;
    }
    return indices(windows + 2 * pieces) + seen(s, n) + result + (s->winograd ? winograd_scratch(s, n) : 0);
}

/* to (size[0], size[1], size[2], channels): the part of x that begins at from[], zeros outside of x. */
static void copy_part(const fbl_windows *at, const float *x, const ptrdiff_t *from, const ptrdiff_t *size, float *to)
{
    const ptrdiff_t channels = at->channels, line = size[2] * channels;
    const ptrdiff_t low = from[2] < 0 ? smaller(-from[2], size[2]) : 0;
    const ptrdiff_t room = at->size[2] - from[2], high = room < low ? low : smaller(room, size[2]);
    for (ptrdiff_t p = from[0]; p < from[0] + size[0]; p++)
        for (ptrdiff_t q = from[1]; q < from[1] + size[1]; q++, to += line) {
            if (p < 0 || p >= at->size[0] || q < 0 || q >= at->size[1]) {
                memset(to, 0, (size_t)line * sizeof(float));
                continue;
            }
            memset(to, 0, (size_t)(low * channels) * sizeof(float));
            copy(to + low * channels, x + ((p * at->size[1] + q) * at->size[2] + from[2] + low) * channels,
                 (high - low) * channels);
            memset(to + high * channels, 0, (size_t)((size[2] - high) * channels) * sizeof(float));
        }
}

/* What the windows of n lines from `begun` on see, x itself or a copy with margins of zeros in `part`; the floats between
   positions along each axis. */
static const float *see(const fbl_convolution *s, const float *x, ptrdiff_t begun, ptrdiff_t n, float *part, ptrdiff_t *step)
{
    const fbl_windows *at = &s->at;
    ptrdiff_t from[3] = {0, 0, 0}, size[3] = {1, 1, 1};
    int inside_x = 1;
    for (int axis = s->axis; axis < 3; axis++) {
        from[axis] = (axis == s->axis ? begun * at->stride[axis] : 0) - at->before[axis];
        size[axis] = extent(at, axis, places_of(s, axis, n));
        inside_x &= from[axis] >= 0 && from[axis] + size[axis] <= at->size[axis];
    }
    if (inside_x) {
        x += ((from[0] * at->size[1] + from[1]) * at->size[2] + from[2]) * at->channels;
        for (int axis = 1; axis < 3; axis++)
            size[axis] = at->size[axis];
    } else {
        copy_part(at, x, from, size, part);
        x = part;
    }
    step[0] = size[1] * size[2] * at->channels;
    step[1] = size[2] * at->channels;
    step[2] = at->channels;
    return x;
}

/* 16 products over the tiles of n lines, x as `see` gives it. A tile with a result that is not finite is computed again
   from `pieces`: here a window has part in more than what it sees. */
static void convolve_tiles(const fbl_convolution *s, const float *x, const ptrdiff_t *step, ptrdiff_t n, ptrdiff_t pieces,
                           const ptrdiff_t *offset, const ptrdiff_t *length, float *result, float *scratch)
{
    const ptrdiff_t across = places_of(s, 2, n) / 2, tiles = tiles_of(s, n), columns = s->at.count[2];
    const ptrdiff_t line = columns * s->filters;
    float *v = scratch, *m = v + 16 * tiles * s->at.channels;
    unsigned char *finite = (unsigned char *)(m + 16 * tiles * s->filters);
    for (ptrdiff_t a = 0; a < n; a += 2)
        s->table->winograd_in(across, s->at.channels, x + a * step[1], step[1], v + a / 2 * across * s->at.channels,
                              tiles * s->at.channels);
    for (int p = 0; p < 16; p++)
        s->table->gemm(tiles, s->at.channels, s->filters, v + p * tiles * s->at.channels, s->at.channels, NULL,
                       s->winograd[p], NULL, m + p * tiles * s->filters, s->filters);
    for (ptrdiff_t a = 0; a < n; a += 2) {
        s->table->winograd_out(across, s->filters, m + a / 2 * across * s->filters, tiles * s->filters, s->bias[0],
                               smaller(2, n - a), columns, result + a * line, line, finite);
        for (ptrdiff_t t = 0; t < across; t++)
            for (ptrdiff_t i = a; !finite[t] && i < smaller(a + 2, n); i++) {
                const ptrdiff_t start[2] = {i * step[1] + 2 * t * step[2], i * step[1] + (2 * t + 1) * step[2]};
                s->table->gemm_pieces(smaller(2, columns - 2 * t), s->depth, s->filters, x, start, pieces, offset, length,
                                      s->packed[0], s->bias[0], result + i * line + 2 * t * s->filters, s->filters);
            }
    }
}

/* Lines `begun` to `begun + n` of the convolution: products of windows of floats. */
static void convolve(const fbl_convolution *s, const float *x, ptrdiff_t begun, ptrdiff_t n, float *result,
                     float *scratch)
{
    const fbl_windows *at = &s->at;
    const ptrdiff_t channels = s->groups * s->filters, windows = n * line_size(s) / channels;
    ptrdiff_t longest, pieces = pieces_of(at, &longest), step[3];
    ptrdiff_t *start = (ptrdiff_t *)(void *)scratch, *offset = start + windows, *length = offset + pieces;
    float *part = (float *)(length + pieces);
    x = see(s, x, begun, n, part, step);
    const ptrdiff_t inner = pieces / (at->taps[0] * at->taps[1] * ((longest + FBL_DEPTH - 1) / FBL_DEPTH));
    ptrdiff_t p = 0;
    for (ptrdiff_t a = 0; a < at->taps[0]; a++)
        for (ptrdiff_t b = 0; b < at->taps[1]; b++)
            for (ptrdiff_t c = 0; c < inner; c++)
                for (ptrdiff_t k = 0; k < longest; k += FBL_DEPTH, p++) {
                    offset[p] = a * at->dilation[0] * step[0] + b * at->dilation[1] * step[1] +
                                c * at->dilation[2] * step[2] + k;
                    length[p] = smaller(longest - k, FBL_DEPTH);
                }
    if (s->winograd) {
        float *room = part + seen(s, n);
        room += (16 - (ptrdiff_t)((uintptr_t)room / sizeof(float) % 16)) % 16;
        convolve_tiles(s, x, step, n, pieces, offset, length, result, room);
        return;
    }
    ptrdiff_t places[3] = {1, 1, 1}, *next = start;
    for (int axis = s->axis; axis < 3; axis++)
        places[axis] = places_of(s, axis, n);
    for (ptrdiff_t a = 0; a < places[0]; a++)
        for (ptrdiff_t b = 0; b < places[1]; b++)
            for (ptrdiff_t c = 0; c < places[2]; c++)
                *next++ = a * at->stride[0] * step[0] + b * at->stride[1] * step[1] + c * at->stride[2] * step[2];
    for (ptrdiff_t g = 0; g < s->groups; g++) {
        const float *from = x + g * at->used_channels;
        float *to = result + g * s->filters;
        if (s->narrow)
            s->narrow->gemm_pieces(windows, s->depth, s->filters, from, start, pieces, offset, length, &s->codes[g],
                                   s->bias[g], to, channels);
        else
            s->table->gemm_pieces(windows, s->depth, s->filters, from, start, pieces, offset, length, s->packed[g],
                                  s->bias[g], to, channels);
    }
}

/* The same for token ids: sums of what each token adds to its tap. */
static void convolve_ids(const fbl_convolution *s, const int32_t *ids, ptrdiff_t begun, ptrdiff_t n, float *result,
                         float *scratch)
{
    const fbl_windows *at = &s->at;
    const ptrdiff_t width = at->taps[2] * s->filters, size = at->size[2];
    const float **rows = (const float **)(void *)scratch, *table = s->rows;
    ptrdiff_t *index = (ptrdiff_t *)(rows + at->taps[2]), skipped = 0;
    if (s->embedded) { /* make the rows that this part needs */
        ptrdiff_t low = begun * at->stride[2] - at->before[2], high = low + extent(at, 2, n);
        low = low < 0 ? 0 : low;
        high = smaller(high, size);
        float *made = (float *)(void *)(index + extent(at, 2, n));
        for (ptrdiff_t t = low; t < high; t++)
            index[t - low] = ids[t];
        if (high > low)
            s->table->gemm(high - low, s->embedded, width, s->rows, s->embedded, index, s->packed[0], NULL, made,
                           width);
        table = made;
        skipped = low;
    }
    for (ptrdiff_t w = begun; w < begun + n; w++) {
        ptrdiff_t from = w * at->stride[2] - at->before[2], low, high;
        inside(at, 2, from, &low, &high);
        for (ptrdiff_t tap = low; tap < high; tap++) {
            const ptrdiff_t t = from + tap * at->dilation[2];
            rows[tap - low] = table + (s->embedded ? t - skipped : ids[t]) * width + tap * s->filters;
        }
        /* Rows of the table come from far. */
        const ptrdiff_t ahead = from + (at->taps[2] - 1) * at->dilation[2] + AHEAD;
        if (!s->embedded && ahead >= 0 && ahead < size)
            fbl_prefetch(table + ids[ahead] * width, width);
        s->table->sum_rows(high - low, s->filters, rows, s->bias[0], result + (w - begun) * s->filters);
    }
}

void fbl_convolve_lines(const fbl_convolution *s, const void *x, ptrdiff_t first, ptrdiff_t stop, float *y,
                        float *scratch)
{
    const ptrdiff_t channels = s->groups * s->filters, line = line_size(s);
    /* Of the convolution: its lines first to stop, less than the pooling asks for where its last window is cut off. */
    const ptrdiff_t begun = lines_of(s, first), end = smaller(lines_of(s, stop), s->at.count[s->axis]);
    const ptrdiff_t n = end - begun, windows = n * line / channels;
    float *result = s->pooled ? scratch : y;
    scratch += s->pooled ? lines_of(s, s->lines) * line + (lines_of(s, s->lines) * line & 1) : 0;
    if (s->rows)
        convolve_ids(s, x, begun, n, result, scratch);
    else
        convolve(s, x, begun, n, result, scratch);
    if (s->whole && (s->code == FBL_TANH || s->code == FBL_SIGMOID)) {
        /* They grow with their argument: the largest number is that of the largest one. */
        fbl_reduce_floats(FBL_MAX, windows, channels, result, NULL, y);
        s->table->activate(y, channels, s->code, s->parameters);
        return;
    }
    for (ptrdiff_t r = 0; s->code != FBL_LINEAR && r < (s->by_row ? windows : 1); r++)
        s->table->activate(result + r * channels, s->by_row ? channels : windows * channels, s->code, s->parameters);
    if (s->whole)
        fbl_reduce_floats(FBL_MAX, windows, channels, result, NULL, y);
    else if (s->pooled) {
        fbl_windows pool = s->pool;
        pool.size[s->axis] = n;
        pool.count[s->axis] = stop - first;
        ptrdiff_t pooled = stop - first;
        for (int axis = s->axis + 1; axis < 3; axis++)
            pooled *= pool.count[axis];
        fbl_pool_windows(s->table, &pool, result, 0, pooled, s->mean, y);
    }
}

/* How many windows from place c along the innermost axis on see only positions inside of x. */
static ptrdiff_t whole_windows(const fbl_windows *at, ptrdiff_t c)
{
    const ptrdiff_t last = at->size[2] - 1 + at->before[2] - (at->taps[2] - 1) * at->dilation[2];
    return c * at->stride[2] < at->before[2] || last < 0 ? 0 : smaller(last / at->stride[2] + 1, at->count[2]) - c;
}

void fbl_pool_windows(const fbl_kernels *table, const fbl_windows *at, const float *x, ptrdiff_t first, ptrdiff_t n,
                      int mean, float *y)
{
    static const float ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const ptrdiff_t channels = at->channels, step = at->dilation[2] * channels, line = at->size[2] * channels;
    const ptrdiff_t steps[3] = {at->dilation[0] * at->size[1] * line, at->dilation[1] * line, step};
    for (ptrdiff_t window = first, run; window < first + n; window += run, y += run * channels) {
        ptrdiff_t from[3], low[3], high[3], taps[3];
        begin(at, window, from);
        for (int axis = 0; axis < 3; axis++) {
            inside(at, axis, from[axis], &low[axis], &high[axis]);
            taps[axis] = high[axis] - low[axis];
        }
        const float *seen = x + (from[0] * at->size[1] + from[1]) * line + from[2] * channels;
        seen += low[0] * steps[0] + low[1] * steps[1] + low[2] * step;
        run = 1;
        if (!mean) {
            const ptrdiff_t whole = whole_windows(at, window % at->count[2]);
            if (whole > 1)
                run = smaller(whole, first + n - window);
            table->max_windows(run, at->stride[2] * channels, taps, steps, channels, seen, y);
            continue;
        }
        for (ptrdiff_t k = 0; k < channels; k++)
            y[k] = 0;
        for (ptrdiff_t a = 0; a < taps[0]; a++)
            for (ptrdiff_t b = 0; b < taps[1]; b++) {
                const float *row = seen + a * steps[0] + b * steps[1];
                for (ptrdiff_t c = 0; c < taps[2]; c += 16, row += 16 * step)
                    table->add_rows(smaller(taps[2] - c, 16), channels, ones, row, step, y);
            }
        const float count = (float)(taps[0] * taps[1] * taps[2]);
        for (ptrdiff_t k = 0; k < channels; k++)
            y[k] /= count;
    }
}

/* Taps that are weighed together. */
enum { TAPS = 64 };

void fbl_weigh_windows(const fbl_kernels *table, const fbl_windows *at, const float *weights, const float *bias,
                       const float *x, ptrdiff_t first, ptrdiff_t n, float *y)
{
    const ptrdiff_t channels = at->channels, all = at->taps[0] * at->taps[1] * at->taps[2];
    ptrdiff_t taps[TAPS], places[TAPS], kept = -1; /* kept: taps of the window before, if it lies inside of x */
    for (ptrdiff_t window = first; window < first + n; window++, y += channels) {
        ptrdiff_t from[3], low[3], high[3], count = 0, whole = 1;
        const float *start = bias;
        begin(at, window, from);
        for (int axis = 0; axis < 3; axis++) {
            inside(at, axis, from[axis], &low[axis], &high[axis]);
            whole = whole && high[axis] - low[axis] == at->taps[axis];
        }
        const ptrdiff_t base = ((from[0] * at->size[1] + from[1]) * at->size[2] + from[2]) * channels;
        if (whole && kept == all) {
            table->weigh_rows(all, channels, weights, taps, x + base, places, start, y);
            continue;
        }
        for (ptrdiff_t a = low[0]; a < high[0]; a++)
            for (ptrdiff_t b = low[1]; b < high[1]; b++)
                for (ptrdiff_t c = low[2]; c < high[2]; c++) {
                    const ptrdiff_t line = a * at->dilation[0] * at->size[1] + b * at->dilation[1];
                    if (count == TAPS) {
                        table->weigh_rows(count, channels, weights, taps, x + base, places, start, y);
                        start = y;
                        count = 0;
                    }
                    taps[count] = (a * at->taps[1] + b) * at->taps[2] + c;
                    places[count++] = (line * at->size[2] + c * at->dilation[2]) * channels;
                }
        table->weigh_rows(count, channels, weights, taps, x + base, places, start, y);
        kept = whole ? count : -1;
    }
}

void fbl_scatter_windows(const fbl_windows *at, const float *panel, ptrdiff_t first, ptrdiff_t n, float *y)
{
    const ptrdiff_t channels = at->channels, step = at->dilation[2];
    for (ptrdiff_t window = first; window < first + n; window++) {
        ptrdiff_t from[3], low[3], high[3];
        begin(at, window, from);
        for (int axis = 0; axis < 3; axis++)
            inside(at, axis, from[axis], &low[axis], &high[axis]);
        for (ptrdiff_t a = low[0]; a < high[0]; a++)
            for (ptrdiff_t b = low[1]; b < high[1]; b++) {
                const ptrdiff_t p = from[0] + a * at->dilation[0], q = from[1] + b * at->dilation[1];
                const float *row = panel + ((a * at->taps[1] + b) * at->taps[2]) * channels;
                float *to = y + ((p * at->size[1] + q) * at->size[2] + from[2]) * channels;
                /* Taps side by side in y are one run. */
                const ptrdiff_t run = step == 1 ? high[2] - low[2] : 1;
                for (ptrdiff_t c = low[2]; c < high[2]; c += run)
                    for (ptrdiff_t k = 0; k < run * channels; k++)
                        to[c * step * channels + k] += row[c * channels + k];
            }
        panel += at->taps[0] * at->taps[1] * at->taps[2] * channels;
    }
}
