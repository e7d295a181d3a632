// What is computed in registers, for units that are compiled once per instruction set (see vector.hpp).
#pragma once

#include <cstddef>

#include "blind_features_tiles.hpp"
#include "vector.hpp"

namespace lowdose::ops {

namespace {

// Sums that fill the registers beside what they are made of (measured with GCC 12): of a correlation, of a layer, and
// of a correlation along rows.
#if LOWDOSE_VECTOR_BYTES == 64
constexpr BlockSizes sizes{4, 8};
constexpr int block_rows = 8, block_vectors = 2, layer_vectors = 2, row_rows = 4, row_vectors = 4;
#elif LOWDOSE_VECTOR_BYTES == 16  // without fused multiply-add each product takes a register
constexpr BlockSizes sizes{2, 2};
constexpr int block_rows = 2, block_vectors = 4, layer_vectors = 4, row_rows = 2, row_vectors = 4;
#elif LOWDOSE_VECTOR_BYTES > 0
constexpr BlockSizes sizes{3, 3};
constexpr int block_rows = 3, block_vectors = 4, layer_vectors = 4, row_rows = 3, row_vectors = 4;
#else
constexpr BlockSizes sizes{2, 2};
constexpr int block_rows = 2, block_vectors = 1, layer_vectors = 1, row_rows = 2, row_vectors = 1;
#endif

#if LOWDOSE_VECTOR_BYTES > 0
#define LOWDOSE_INLINE inline __attribute__((always_inline))
#define LOWDOSE_LAYER LOWDOSE_INLINE
// Keeps a value in a register: GCC would load it again for each use.
#define LOWDOSE_KEEP(vector) __asm__("" : "+v"(vector))
// Sums stay in registers only where no loop over them is left.
#define LOWDOSE_UNROLL _Pragma("GCC unroll 16")
#define LOWDOSE_FETCH(address) __builtin_prefetch(address)
#else
#define LOWDOSE_INLINE inline
// In a function of its own the compiler finds vectors in the loops: twice as fast with GCC.
#ifdef _MSC_VER
#define LOWDOSE_LAYER __declspec(noinline)
#else
#define LOWDOSE_LAYER __attribute__((noinline))
#endif
#define LOWDOSE_KEEP(vector) static_cast<void>(vector)
#define LOWDOSE_UNROLL
#define LOWDOSE_FETCH(address) static_cast<void>(address)
#endif

#if LOWDOSE_VECTOR_BYTES == 64
// What a load from one pixel later gives.
inline Vector moved_by_one(Vector a, Vector after) {
#ifdef __clang__
    return __builtin_shufflevector(a, after, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
#else
    typedef int Indices __attribute__((vector_size(LOWDOSE_VECTOR_BYTES)));
    return __builtin_shuffle(a, after, Indices{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
#endif
}
#endif

using Offset = std::ptrdiff_t;

constexpr int last_row = block_rows - 1;
constexpr int block_width = block_vectors * lanes, layer_width = layer_vectors * lanes;

// What a correlation gives for block_rows rows of block_vectors vectors.
struct Sums {
    Vector of[block_rows][block_vectors];
};

// Adds what one line of pixels gives to rows first ... last of a block. weights: at the row of the kernel that lies on
// this line for row 0 of the block; column by column, `step` floats apart.
template <int first, int last>
LOWDOSE_INLINE void add_line(const float* pixels, const float* weights, int n_columns, int step, Sums& sums) {
    for (int j = 0; j < n_columns; ++j, weights += step) {
        LOWDOSE_UNROLL
        for (int v = 0; v < block_vectors; ++v) {
            Vector pixel = load(pixels + j + v * lanes);
            LOWDOSE_KEEP(pixel);
            LOWDOSE_UNROLL
            for (int row = first; row <= last; ++row) sums.of[row][v] += weights[-row] * pixel;
        }
    }
}

// The lines at the top that only rows 0 ... row of the block see, and those at the bottom that rows row ... see.
template <int row>
LOWDOSE_INLINE void add_first_lines(const float* pixels, Offset stride, const float* weights, int n_columns, int step,
                                    Sums& sums) {
    if constexpr (row < last_row) {
        add_line<0, row>(pixels, weights, n_columns, step, sums);
        add_first_lines<row + 1>(pixels + stride, stride, weights + 1, n_columns, step, sums);
    }
}
template <int row>
LOWDOSE_INLINE void add_last_lines(const float* pixels, Offset stride, const float* weights, int n_columns, int step,
                                   Sums& sums) {
    if constexpr (row <= last_row) {
        add_line<row, last_row>(pixels, weights, n_columns, step, sums);
        add_last_lines<row + 1>(pixels + stride, stride, weights + 1, n_columns, step, sums);
    }
}

// All lines of a kernel that has fewer rows than a block, from line i on.
template <int n_rows, int i = 0>
LOWDOSE_INLINE void add_lines(const float* pixels, Offset stride, const float* weights, int n_columns, Sums& sums) {
    if constexpr (i < n_rows + last_row) {
        constexpr int first = i < n_rows ? 0 : i - n_rows + 1, last = i < last_row ? i : last_row;
        add_line<first, last>(pixels, weights, n_columns, n_rows, sums);
        add_lines<n_rows, i + 1>(pixels + stride, stride, weights + 1, n_columns, sums);
    }
}

// Adds the correlation of a kernel (n_rows, n_columns) with the pixels from the block's first one on. weights: the
// kernel column by column.
LOWDOSE_INLINE void correlate(const float* pixels, Offset stride, const float* weights, int n_rows, int n_columns,
                              Sums& sums) {
    static_assert(block_rows <= 8, "every odd number of rows below it has a case");
    if (n_rows >= block_rows) {
        add_first_lines<0>(pixels, stride, weights, n_columns, n_rows, sums);
        for (int i = last_row; i < n_rows; ++i)
            add_line<0, last_row>(pixels + i * stride, weights + i, n_columns, n_rows, sums);
        add_last_lines<1>(pixels + n_rows * stride, stride, weights + n_rows, n_columns, n_rows, sums);
    } else if (n_rows == 1) {
        add_lines<1>(pixels, stride, weights, n_columns, sums);
    } else if (n_rows == 3) {
        add_lines<3>(pixels, stride, weights, n_columns, sums);
    } else if (n_rows == 5) {
        add_lines<5>(pixels, stride, weights, n_columns, sums);
    } else {
        add_lines<7>(pixels, stride, weights, n_columns, sums);
    }
}

template <int n, int m>
LOWDOSE_INLINE void copy(const Vector (&from)[n][m], Vector (&to)[n][m]) {
    LOWDOSE_UNROLL
    for (int i = 0; i < n; ++i) {
        LOWDOSE_UNROLL
        for (int j = 0; j < m; ++j) to[i][j] = from[i][j];
    }
}

// The sums over inputs, `stride` floats apart, for n_outputs neurons and n_vectors of pixels. weights: (n_inputs,
// n_outputs).
template <int n_outputs, int n_vectors>
LOWDOSE_LAYER void add_inputs(const float* inputs, Offset stride, int n_inputs, const float* weights,
                              Vector (&results)[n_outputs][n_vectors]) {
    Vector sums[n_outputs][n_vectors];
    copy(results, sums);
    for (int in = 0; in < n_inputs; ++in, inputs += stride, weights += n_outputs) {
        LOWDOSE_UNROLL
        for (int v = 0; v < n_vectors; ++v) {
            Vector input = load(inputs + v * lanes);
            LOWDOSE_KEEP(input);
            LOWDOSE_UNROLL
            for (int out = 0; out < n_outputs; ++out) sums[out][v] += weights[out] * input;
        }
    }
    copy(sums, results);
}

inline Vector filled(float value) {
    float lane[lanes];
    for (float& each : lane) each = value;
    return load(lane);
}

template <int n, int m>
LOWDOSE_INLINE void fill(Vector (&vectors)[n][m], float value) {
    LOWDOSE_UNROLL
    for (int i = 0; i < n; ++i) {
        LOWDOSE_UNROLL
        for (int j = 0; j < m; ++j) vectors[i][j] = filled(value);
    }
}

LOWDOSE_INLINE void store_block(const Sums& sums, float* out, Offset stride) {
    LOWDOSE_UNROLL
    for (int row = 0; row < block_rows; ++row) {
        LOWDOSE_UNROLL
        for (int v = 0; v < block_vectors; ++v) store(out + row * stride + v * lanes, sums.of[row][v]);
    }
}

}  // namespace

}  // namespace lowdose::ops
