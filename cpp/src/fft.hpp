// Discrete Fourier transforms of real frames, any size, single precision.
#pragma once

#include <cstddef>
#include <vector>

#include "function_ref.hpp"
#include "ops/instruction_set.hpp"

namespace lowdose {

// The columns 0..n_columns-1 of a real frame's transform, one after the other: (n_columns, height).
struct Spectrum {
    int height, width, n_columns;
    ops::InstructionSet set;  // that computes it
    std::vector<float> re, im;
};

// frame: (height, width), row-major. 1 <= n_columns <= width / 2 + 1.
Spectrum forward_transform(const float* frame, int height, int width, int n_columns, ops::InstructionSet set);

// All columns of a spectrum in blocks of sixteen, as the transforms along the columns take them: coefficient k of
// column 16 b + j is at [(b * height + k) * 16 + j], zero for columns that do not exist. It spares two transpositions
// where the spectrum is only multiplied.
size_t n_blocked_coefficients(int height, int width);
void forward_transform_blocked(const float* frame, int height, int width, ops::InstructionSet set, float* re,
                               float* im);

// The frame (height, width) of a spectrum that fill(first, n, re, im) writes, a block after the other: its coefficients
// first ... first + n - 1 to re[0 ... n - 1] + i im[0 ... n - 1].
void backward_transform_blocked(FunctionRef<void(size_t first, size_t n, float* re, float* im)> fill, int height,
                                int width, ops::InstructionSet set, float* out);

// Calls task(0 ... n - 1), in any order and by any threads, and returns when all are done.
using Parallel = FunctionRef<void(size_t n, FunctionRef<void(size_t)> task)>;

// Keeps the frequencies -reach(k) ... reach(k) of each column k < n_columns of the transform of frame - level, and
// nothing of the other columns; nothing of column k where reach(k) is negative. out: the result + level; it may be
// frame itself. No value depends on how the work is shared out.
void keep_frequencies(const float* frame, int height, int width, int n_columns, float level,
                      FunctionRef<int(int)> reach, ops::InstructionSet set, Parallel parallel, float* out);

}  // namespace lowdose
