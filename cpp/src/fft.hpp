// Discrete Fourier transforms of real frames, any size, single precision.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

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

// The frame (height, width) of a spectrum; columns it does not hold count as zero. Uses the spectrum as scratch memory.
void backward_transform(Spectrum& spectrum, float* out);

// Calls task(0 ... n - 1), in any order and by any threads, and returns when all are done.
using Parallel = std::function<void(size_t n, const std::function<void(size_t)>& task)>;

// Keeps the frequencies -reach(k) ... reach(k) of each column k < n_columns of the transform of frame - level, and
// nothing of the other columns; nothing of column k where reach(k) is negative. out: the result + level; it may be
// frame itself. No value depends on how the work is shared out.
void keep_frequencies(const float* frame, int height, int width, int n_columns, float level,
                      const std::function<int(int)>& reach, ops::InstructionSet set, const Parallel& parallel,
                      float* out);

}  // namespace lowdose
