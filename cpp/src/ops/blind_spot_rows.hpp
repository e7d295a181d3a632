// The inner loops of the blind-spot network, built once per instruction set. Only plain data here: a unit built for
// AVX-512 must not emit inline functions that the linker could hand to the rest of the program.
#pragma once

namespace lowdose::ops {

// Features are computed three at a time; weights are padded with zeros to a multiple of it.
constexpr int feature_group = 3;
constexpr float leaky_slope = 0.1f;

struct PackedBranch {
    int size;             // K, odd
    const float* kernel;  // (n_features / 3, n_points, n_taps, K, 3), see toom_cook.hpp
    const float* mixing;  // (n_mixing, n_features, n_features), [layer, out, in]
    const float* head;    // (n_features)
    float share;
};

// Nothing nonlinear comes between the convolution and the first mixing layer, so that layer is in the kernel here.
struct PackedNetwork {
    int n_taps, n_features, n_branches;
    int n_mixing;       // without the first
    float first_slope;  // of the LeakyReLU after the convolution; 1: there is none
    int margin;         // half the largest kernel size
    int n_points;       // of the largest kernel
    const PackedBranch* branches;
};

// Frames are taken in strips, so narrow that the lines around four rows, transformed, stay in the L1 cache.
constexpr int strip_width = 256;
constexpr int most_floats_per_vector = 16, most_floats_per_block = 64;

// A strip with its margins, read in whole vectors from any of its first columns, in multiples of 64 bytes.
constexpr int floats_per_line(int margin) {
    return (strip_width + 2 * margin + 2 * (most_floats_per_vector - 1)) / 16 * 16;
}

// Memory of one thread, on 64 bytes where not said otherwise.
struct Scratch {
    const float** lines;  // n_taps * (2 * margin + 4), on any address
    float* pixels;        // as many lines of floats_per_line(margin)
    float* transformed;   // n_points * n_taps lines
    float* sums;          // n_points * n_features * most_floats_per_block
    float* features;      // n_features * 8 * most_floats_per_vector
    float* result;        // 4 * strip_width
};

struct RowKernel {
    const char* name;
    // Writes rows first_row ... last_row - 1 of `out` (height, width). frames: n_taps planes (height, width), which
    // repeat periodically beyond their borders.
    void (*run)(const PackedNetwork& network, const float* const* frames, int height, int width, int first_row,
                int last_row, const Scratch& scratch, float* out);
};

extern const RowKernel rows_portable;
extern const RowKernel rows_sse42;
extern const RowKernel rows_avx2;
extern const RowKernel rows_avx512;

}  // namespace lowdose::ops
