// Discrete Fourier transforms of real frames, any size, single precision.
#pragma once

#include <cstddef>
#include <vector>

#include "function_ref.hpp"
#include "ops/instruction_set.hpp"

namespace lowdose {

// A spectrum, as below, in memory that others keep.
struct SpectrumView {
    int height, width, n_columns;
    size_t step;  // from column to column
    ops::InstructionSet set;
    float *re, *im;
};

// The columns 0..n_columns-1 of a real frame's transform, one after the other: (n_columns, height).
struct Spectrum {
    int height, width, n_columns;
    ops::InstructionSet set;  // that computes it
    std::vector<float> re, im;

    SpectrumView view();
};

// frame: (height, width), row-major. 1 <= n_columns <= width / 2 + 1.
Spectrum forward_transform(const float* frame, int height, int width, int n_columns, ops::InstructionSet set);
void forward_transform(const float* frame, const SpectrumView& spectrum);

// The frame (height, width) of a spectrum; columns it does not hold count as zero. Uses the spectrum as scratch memory.
void backward_transform(const SpectrumView& spectrum, float* out);

// Calls task(0 ... n - 1), in any order and by any threads, and returns when all are done.
using Parallel = FunctionRef<void(size_t n, FunctionRef<void(size_t)> task)>;

// Keeps the frequencies -reach(k) ... reach(k) of each column k < n_columns of the transform of frame - level, and
// nothing of the other columns; nothing of column k where reach(k) is negative. out: the result + level; it may be
// frame itself. No value depends on how the work is shared out.
void keep_frequencies(const float* frame, int height, int width, int n_columns, float level,
                      FunctionRef<int(int)> reach, ops::InstructionSet set, Parallel parallel, float* out);

}  // namespace lowdose
