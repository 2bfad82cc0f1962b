/* GRU and SimpleRNN: a part of the kernel body, included by fbl_kernels_body.h. Contract: fbl_kernels.h. */

/* From the sums of h_tm1.R, of which z and r hold the projection, to h in registers, for L units of one row. */
FBL_INLINE void fused_gru_cell(const fbl_recurrent *s, ptrdiff_t r, ptrdiff_t unit, const vf *sum, const float *proj_h)
{
    const ptrdiff_t at = r * s->units_padded + unit;
    vf q, p = vtanh_ratio(vload(proj_h) + sum[2] / (1.0f + vexp_held(-sum[1])), &q);
    /* z = 1 / (1 + e): both terms over one denominator. */
    vf e = vexp_held(vmin(vset(80.0f), -sum[0]));
    vf h = vfma(e, p, vload(s->h_tm1 + at) * q) / vfma(e, q, q);
    vstore(s->h + at, h);
    if (s->out)
        emit(s, r, unit, h);
}

static void gru_step(const fbl_recurrent *s)
{
    const ptrdiff_t blocks = s->units_padded / L, block_size = s->units * 3 * L;
    const tiles parts = cut(s->rows);
    ptrdiff_t done = 0;
    if (s->rows == 1)
        for (; done + 2 <= blocks; done += 2) {
            const ptrdiff_t block = s->backwards ? blocks - done - 2 : done;
            const float *from[1] = {s->h_tm1}, *proj = proj_row(s, 0) + block * 3 * L;
            vf acc[1][6];
            for (int b = 0; b < 2; b++) {
                acc[0][3 * b] = vload(proj + 3 * b * L);
                acc[0][3 * b + 1] = vload(proj + (3 * b + 1) * L);
                acc[0][3 * b + 2] = vload(s->recurrent_bias + (block + b) * L);
            }
            tile_1x3x2(s->units, from, s->recurrent + block * block_size, block_size, acc);
            for (int b = 0; b < 2; b++)
                fused_gru_cell(s, 0, (block + b) * L, acc[0] + 3 * b, proj + (3 * b + 2) * L);
        }
    for (; done < blocks; done++) {
        const ptrdiff_t block = s->backwards ? blocks - done - 1 : done;
        FOR_TILES(parts, 0, s->rows, row, count) {
            const float *from[FBL_ROWS], *proj[FBL_ROWS];
            vf acc[FBL_ROWS][3];
            for (int r = 0; r < count; r++) {
                proj[r] = proj_row(s, row + r) + block * 3 * L;
                from[r] = s->h_tm1 + (row + r) * s->units_padded;
                acc[r][0] = vload(proj[r]);
                acc[r][1] = vload(proj[r] + L);
                acc[r][2] = vload(s->recurrent_bias + block * L);
            }
            TILE(count, 3, s->units, from, s->recurrent + block * block_size, 0, acc)
            for (int r = 0; r < count; r++)
                fused_gru_cell(s, row + r, block * L, acc[r], proj[r] + 2 * L);
        }
    }
}

/* x += y over n floats. */
FBL_INLINE void add_row(float *x, const float *y, ptrdiff_t n)
{
    for (ptrdiff_t k = 0; k < n; k += L)
        vstore_n(x + k, vload_n(x + k, n - k) + vload_n(y + k, n - k), n - k);
}

static void gru_gates(const fbl_recurrent *s)
{
    for (ptrdiff_t row = 0; row < s->rows; row++) {
        float *z = s->z + row * s->width, *r = z + s->units_padded;
        const float *proj = proj_row(s, row), *h = s->h_tm1 + row * s->units_padded;
        add_row(z, proj, s->units);
        add_row(r, proj + s->units_padded, s->units);
        activate(z, s->units, s->recurrent_activation, s->recurrent_activation_parameters);
        activate(r, s->units, s->recurrent_activation, s->recurrent_activation_parameters);
        if (s->reset)
            for (ptrdiff_t u = 0; u < s->units; u += L) {
                const ptrdiff_t n = least(L, s->units - u);
                vstore_n(s->reset + row * s->units_padded + u, vload_n(r + u, n) * vload_n(h + u, n), n);
            }
    }
}

static void gru_cell(const fbl_recurrent *s)
{
    for (ptrdiff_t row = 0; row < s->rows; row++) {
        const float *z = s->z + row * s->width, *r = z + s->units_padded, *h_tm1 = s->h_tm1 + row * s->units_padded;
        float *g = s->z + row * s->width + 2 * s->units_padded, *h = s->h + row * s->units_padded;
        if (!s->reset)
            for (ptrdiff_t u = 0; u < s->units; u += L)
                vstore_n(g + u, vload_n(r + u, s->units - u) * vload_n(g + u, s->units - u), s->units - u);
        add_row(g, proj_row(s, row) + 2 * s->units_padded, s->units);
        activate(g, s->units, s->activation, s->activation_parameters);
        for (ptrdiff_t u = 0; u < s->units; u += L) {
            const ptrdiff_t n = least(L, s->units - u);
            vf gate = vload_n(z + u, n), y = gate * vload_n(h_tm1 + u, n) + (1.0f - gate) * vload_n(g + u, n);
            vstore_n(h + u, y, n);
            if (s->out)
                emit(s, row, u, y);
        }
    }
}

static void rnn_cell(const fbl_recurrent *s)
{
    for (ptrdiff_t row = 0; row < s->rows; row++) {
        float *z = s->z + row * s->width, *h = s->h + row * s->units_padded;
        add_row(z, proj_row(s, row), s->units);
        activate(z, s->units, s->activation, s->activation_parameters);
        for (ptrdiff_t u = 0; u < s->units; u += L) {
            const ptrdiff_t n = least(L, s->units - u);
            vf y = vload_n(z + u, n);
            vstore_n(h + u, y, n);
            if (s->out)
                emit(s, row, u, y);
        }
    }
}
