// The inner loops of the blind-feature network, built once per instruction set. Only plain data here, as in
// blind_spot_rows.hpp.
#pragma once

#include <cstddef>

namespace lowdose::ops {

// What is computed together: the part of a frame whose features stay in the cache.
constexpr int tile_rows = 24, tile_columns = 256;
constexpr int most_pixels_per_block = 64;  // widest block of any instruction set; tiles hold whole blocks

// An image; beyond its borders it is zero.
struct Plane {
    const float* pixels;
    int height, width, stride;
};

// Where to compute: the first pixel, in coordinates of the frame (negative: outside), and how many.
struct Tile {
    int top, left, rows, columns;
};

// The networks of one output channel, in the order in which its numbers are used. Lengths are padded with zeros as the
// BlockSizes of the instruction set ask for.
struct PackedFeatures {
    int n_planes;                     // of the frames, those with weights
    int linear_height, linear_width;  // odd
    const float* linear;              // (n_planes, linear_width, linear_height)
    float linear_bias;
    int n_mixed;                    // n_planes, and one more when a feature looks at the linear filter's result
    int n_features, height, width;  // odd
    const float* mix;               // (n_features / mix_outputs, n_mixed, mix_outputs)
    const float* vertical;          // (n_features, height)
    const float* horizontal;        // (n_features, width)
    int own_plane, own_side;        // pixels that the perceptron takes away from the features
    int n_inputs;  // of the perceptron: the linear filter's result, own_side x own_side pixels, the features
    int n_hidden_1, n_hidden_2;
    const float* w1;  // (n_hidden_1 / layer_outputs, n_inputs, layer_outputs)
    const float* b1;  // (n_hidden_1)
    const float* w2;  // (n_hidden_2 / layer_outputs, n_hidden_1, layer_outputs)
    const float* b2;  // (n_hidden_2)
    // Of the last layer, which sees the inputs and both hidden layers.
    const float* w3_inputs;    // (n_inputs)
    const float* w3_hidden_1;  // (n_hidden_1)
    const float* w3_hidden_2;  // (n_hidden_2)
    float b3;
};

struct BlockSizes {
    int mix_outputs;    // features that are mixed together
    int layer_outputs;  // neurons that are computed together
};

struct FeatureKernel {
    const char* name;
    BlockSizes sizes;
    // The linear filter's result on a tile, to `out` with rows of `stride` floats, whole blocks of them.
    void (*filter)(const PackedFeatures& network, const Plane* planes, const Tile& tile, float* scratch, float* out,
                   int stride);
    // The network's result on a tile. filtered: the linear filter's result, which begins margin_y rows and margin_x
    // columns outside the frame.
    void (*denoise)(const PackedFeatures& network, const Plane* planes, const Plane& filtered, int margin_y,
                    int margin_x, const Tile& tile, float* scratch, float* out, int stride);
    // Floats of scratch memory, on 64 bytes, for any tile.
    std::size_t (*scratch_size)(const PackedFeatures& network);
};

extern const FeatureKernel features_portable;
extern const FeatureKernel features_sse42;
extern const FeatureKernel features_avx2;
extern const FeatureKernel features_avx512;

}  // namespace lowdose::ops
