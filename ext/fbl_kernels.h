/* The contract of the float32 vector kernels: one table of function pointers for each instruction set.

   Names: B batch rows, T timesteps, F features, U units; L lanes of a vector, W = 4 L the width of a panel. All matrices
   are row-major, `float` and aligned to 4 bytes at least; packed weights and scratch are aligned to 64 bytes. No kernel
   allocates, checks or keeps anything: callers have checked sizes and pointers. Written arrays overlap no other array.
   Every kernel computes each row by itself with one order of operations, so that a row's result does not depend on the
   number of rows or on its place among them.

   Packed matrices. `gemm` reads B (K, N) as panels of W columns, each [k][W], then, for the columns left over, panels of
   L columns, each [k][L], the last one padded with zeros. `lstm_step` reads the recurrent kernel (U, 4U) as blocks of L
   units, each [k][gate i f g o][L], padded with zeros: `units_padded` = U rounded up to a multiple of L; if at most L / 4
   or L / 2 units are left for the last block, lstm_step reads it as one or two panels of L columns, [gate i f g o][L / 4]
   or, of the first two gates and the others, [gate][L / 2], and the width is smaller. `gru_step` reads a
   kernel (U, 3U) as blocks [k][gate z r h][L]. A projection row has the same order, [block][gate][L]: it is a gemm over
   the packed columns. For gru_gates, gru_cell and rnn_cell the order is [gate][units_padded]. */
#ifndef FBL_KERNELS_H
#define FBL_KERNELS_H

#include <stddef.h>

/* Values of K whose panel of weights stays in the L1 or L2 cache while the rows of a block go by. */
#define FBL_DEPTH 256

/* What a step does with h at the output's place (merge modes of Bidirectional). */
enum { FBL_STORE = 0, FBL_ADD = 1, FBL_MUL = 2, FBL_AVERAGE = 3 };

typedef struct {
    ptrdiff_t rows, units, units_padded;
    const float *recurrent;      /* packed, see above */
    const float *recurrent_bias; /* (units_padded), added to h_tm1.R of gate h in gru_step; of `multiply`, see fbl_narrow.h */
    const float *proj;           /* projections; row r at proj + proj_index[r] * width, or r without index */
    ptrdiff_t width;             /* gates * units_padded, or less where lstm_step reads a narrow last block */
    const ptrdiff_t *proj_index;
    const float *h_tm1;          /* (rows, units_padded) */
    float *h;                    /* (rows, units_padded); padding may be written */
    float *c;                    /* (rows, units_padded), in place */
    float *out;                  /* row r at out + out_index[r] * out_stride, `units` floats; NULL: h is not emitted */
    const ptrdiff_t *out_index;
    ptrdiff_t out_stride;
    int merge;                   /* FBL_STORE ... */
    int backwards;               /* walk the blocks from the last to the first: part of them is still in the cache */
    ptrdiff_t blocks_before, blocks_behind; /* how many of the first and last blocks of L units a step leaves out */
    int activation, recurrent_activation; /* codes of fbl_activations.h; used by the functions that take z */
    const float *activation_parameters, *recurrent_activation_parameters; /* 3 each */
    float *z;                    /* (rows, gates, units_padded): written by lstm_gates or a gemm, used up by the cell */
    float *reset;                /* (rows, units_padded): r h_tm1; NULL: r is applied to the product (reset_after) */
    /* For the functions of fbl_narrow.h, see there. */
    const void *narrow;          /* in place of `recurrent` */
    const float *scales;         /* for each packed column */
    const int *zeros;            /* for each packed column */
    ptrdiff_t columns;           /* of z that `multiply` writes, a multiple of L */
    unsigned char *codes;        /* (rows, units_padded): h_tm1 as bytes; written and used up by a step */
    float *largest;              /* (rows), as `codes` */
} fbl_recurrent;

typedef void (*fbl_step)(const fbl_recurrent *s);

typedef struct {
    const char *isa;
    ptrdiff_t lanes;

    /* C = A.B + bias. A row r at a + index[r] * lda (r without index), `depth` floats; B packed; bias padded to whole
       panels or NULL; C (rows, columns), row r at c + r * ldc.
       Each element is the bias, to which the sums over FBL_DEPTH values of k are added, one after the other; a sum begins
       at zero, goes in the order of k and is rounded once a step where there is FMA. */
    void (*gemm)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, ptrdiff_t lda,
                 const ptrdiff_t *index, const float *packed, const float *bias, float *c, ptrdiff_t ldc);

    /* The same, added to C: each element of C in place of the bias. */
    void (*gemm_onto)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, ptrdiff_t lda,
                      const ptrdiff_t *index, const float *packed, float *c, ptrdiff_t ldc);

    /* gemm where row r of A lies in pieces: floats a[start[r] + offset[p] + k], k < length[p] <= FBL_DEPTH, one piece
       behind the other, `depth` in all. */
    void (*gemm_pieces)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t columns, const float *a, const ptrdiff_t *start,
                        ptrdiff_t pieces, const ptrdiff_t *offset, const ptrdiff_t *length, const float *packed,
                        const float *bias, float *c, ptrdiff_t ldc);

    /* One timestep of LSTM with activation tanh and recurrent_activation sigmoid: z = proj + h_tm1.R,
       c = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c).
       Largest errors for gates above -80: sigmoid(f) 2.6 ulp, sigmoid(i) and sigmoid(o) 3.5, tanh 2.6 below 0.8 and 6
       above (7.5 without FMA; it may exceed 1 by 2), the products 8. Below -80 a gate is wrong by less than 2e-36;
       sigmoid(f) is never 0, so that sigmoid(-inf) inf is inf. tanh is 1 from 9.02 on, sigmoid from 16.7 on. */
    void (*lstm_step)(const fbl_recurrent *s);

    /* The same for every other activation, in two parts: z = proj + h_tm1.R, then the cell. */
    void (*lstm_gates)(const fbl_recurrent *s);
    void (*lstm_cell)(const fbl_recurrent *s);

    /* One timestep of GRU with reset_after, tanh and sigmoid: z r = sigmoid(proj + h_tm1.R),
       h = z h_tm1 + (1 - z) tanh(proj_h + r (h_tm1.R_h + recurrent_bias)). Errors of the functions as in lstm_step; z below
       e^-80 is wrong by less than 2e-35. */
    void (*gru_step)(const fbl_recurrent *s);

    /* Every other GRU. z holds h_tm1.R, with reset_after and its bias for all gates, else for z and r. gru_gates:
       z r = recurrent_activation(z + proj), and reset = r h_tm1 unless it is NULL; then gate h of z is set to reset.R_h.
       gru_cell: h = z h_tm1 + (1 - z) activation(proj_h + z_h, times r if reset is NULL). */
    void (*gru_gates)(const fbl_recurrent *s);
    void (*gru_cell)(const fbl_recurrent *s);

    /* SimpleRNN: z holds h_tm1.R; h = activation(z + proj). */
    void (*rnn_cell)(const fbl_recurrent *s);

    /* x = activation(x) over one row of n elements, by the codes of fbl_activations.h.
       Largest errors over all floats, on every instruction set: exp 1.1 ulp, tanh 2.6 ulp, sigmoid 2.5 ulp. */
    void (*activate)(float *x, ptrdiff_t n, int code, const float *parameters);

    /* to[c * to_stride + r] = x[r * stride + c] for r < rows, c < columns. */
    void (*transpose)(ptrdiff_t rows, ptrdiff_t columns, const float *x, ptrdiff_t stride, float *to,
                      ptrdiff_t to_stride);

    /* softmax(scale * x) over each row of (rows, n), row r at x + r * stride, in two factors: x = e^(scale x - max) and
       inverse[r] = 1 / sum, summed in double over the lanes. */
    void (*softmax)(float *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, float scale, float *inverse);

    /* y[j] += sum over r of weights[r] * x[r * stride + j], j < n, in the order of r. */
    void (*add_rows)(ptrdiff_t rows, ptrdiff_t n, const float *weights, const float *x, ptrdiff_t stride, float *y);

    /* y[j] = bias[j] (0 if NULL) + x[0][j] + x[1][j] + ..., j < n, in this order. */
    void (*sum_rows)(ptrdiff_t rows, ptrdiff_t n, const float *const *x, const float *bias, float *y);

    /* y[j] = bias[j] (0 if NULL) + sum over r of weights[taps[r] * n + j] * x[places[r] + j], j < n, in the order of r; the
       bias may be y. */
    void (*weigh_rows)(ptrdiff_t rows, ptrdiff_t n, const float *weights, const ptrdiff_t *taps, const float *x,
                       const ptrdiff_t *places, const float *bias, float *y);

    /* Each of `rows` rows x (n) normalized in double precision, rounded once: y = x scale + offset with
       scale[k] = gamma[k] / sqrt(variance + epsilon), offset[k] = beta[k] - mean scale[k]; gamma or beta NULL: 1 or 0.
       keep_mean: the mean stays, offset = beta. about_zero: mean is 0, and variance that of x about 0. */
    void (*normalize)(ptrdiff_t rows, ptrdiff_t n, const float *x, const float *gamma, const float *beta, double epsilon,
                      int keep_mean, int about_zero, float *y);

    /* y[w n + j] = the largest of x[w window_step + a steps[0] + b steps[1] + c steps[2] + j] over all a < taps[0],
       b < taps[1], c < taps[2], for j < n and each of `windows` windows w; -FLT_MAX if none is larger, as NaN never is. */
    void (*max_windows)(ptrdiff_t windows, ptrdiff_t window_step, const ptrdiff_t *taps, const ptrdiff_t *steps,
                        ptrdiff_t n, const float *x, float *y);

    /* Winograd's F(2x2, 3x3) (Lavin and Gray, arXiv:1509.09308): a tile of 2 x 2 results of a 3 x 3 convolution sees 4 x 4
       positions of x. Tile t of `tiles` begins at x + 2 t n; lines of x lie `line` floats apart, positions n.
       winograd_in: element p of B'dB, 16 of n channels, at v + p * spread + t * n. winograd_out: A'mA + bias of n filters,
       m placed as v, at y + i * line + (2 t + j) * n for i < lines (1 or 2) and 2 t + j < columns; finite[t] = 0 if one of
       them is not. */
    void (*winograd_in)(ptrdiff_t tiles, ptrdiff_t n, const float *x, ptrdiff_t line, float *v, ptrdiff_t spread);
    void (*winograd_out)(ptrdiff_t tiles, ptrdiff_t n, const float *m, ptrdiff_t spread, const float *bias,
                         ptrdiff_t lines, ptrdiff_t columns, float *y, ptrdiff_t line, unsigned char *finite);
} fbl_kernels;

/* Ask for n floats to be brought into the L2 cache. */
static inline void fbl_prefetch(const float *x, ptrdiff_t n)
{
#if defined(__GNUC__) || defined(__clang__)
    for (ptrdiff_t k = 0; k < n; k += 16)
        __builtin_prefetch(x + k, 0, 2);
#else
    (void)x;
    (void)n;
#endif
}

/* The tables that this build holds, best first; `fbl_usable` says whether CPU and operating system run one. */
extern const fbl_kernels *const fbl_tables[];
extern const int fbl_table_count;
int fbl_usable(const fbl_kernels *table);

#endif
