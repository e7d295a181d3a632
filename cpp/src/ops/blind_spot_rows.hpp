// The inner loops of the blind-spot network, built once per instruction set. Only plain data here: a unit built for
// AVX-512 must not emit inline functions that the linker could hand to the rest of the program.
#pragma once

namespace lowdose::ops {

// Features are computed three at a time; weights are padded with zeros to a multiple of it.
constexpr int feature_group = 3;
constexpr float leaky_slope = 0.1f;

struct PackedBranch {
    int size;             // K, odd
    const float* kernel;  // (n_features / 3, n_taps, K, K, 3)
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
    const PackedBranch* branches;
};

// Frames are taken in strips, so narrow that the lines around a row of blocks stay in the L1 cache.
constexpr int strip_width = 256;
constexpr int most_rows_per_block = 2;
constexpr int most_floats_per_vector = 16, most_floats_per_block = 128;

// Memory of one thread. lines: n_taps * (2 * margin + most_rows_per_block) pointers; pixels: as many lines of
// strip_width + 2 * margin; features: n_features * (most_floats_per_block + most_floats_per_vector), on 64 bytes.
struct Scratch {
    const float** lines;
    float* pixels;
    float* features;
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
