/* GRU and SimpleRNN: a part of the kernel body, included by fbl_kernels_body.h. Contract: fbl_kernels.h. */

/* From the sums of h_tm1.R, of which z and r hold the projection, to what tanh is taken of, and from that to h, for L units
   of one row; in two parts, as for LSTM. */
FBL_INLINE void fused_gru_candidate(vf *sum, const float *proj_h)
{
    sum[2] = vload(proj_h) + sum[2] / (1.0f + vexp_held(-sum[1]));
}

FBL_INLINE void fused_gru_output(const fbl_recurrent *s, ptrdiff_t r, ptrdiff_t unit, const vf *sum)
{
    const ptrdiff_t at = r * s->units_padded + unit;
    vf q, p = vtanh_ratio(sum[2], &q);
    /* z = 1 / (1 + e): both terms over one denominator. */
    vf e = vexp_held(vmin(vset(80.0f), -sum[0]));
    vf h = vfma(e, p, vload(s->h_tm1 + at) * q) / vfma(e, q, q);
    vstore(s->h + at, h);
    if (s->out)
        emit(s, r, unit, h);
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
