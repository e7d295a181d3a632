// The blind-feature network on the CPU: what the function BlindFeatures of the model file computes, tile by tile.
#pragma once

#include <cstddef>
#include <vector>

#include "blind_features_tiles.hpp"
#include "instruction_set.hpp"

namespace lowdose::ops {

// As the model file holds them (export/lowdose_export/blind_features.py): a network per channel, one after another.
struct BlindFeaturesWeights {
    int n_taps, n_channels, n_features;
    int linear_height, linear_width, height, width, own_side;
    int n_hidden_1, n_hidden_2;
    const float *linear, *linear_bias, *mix, *vertical, *horizontal, *own, *w1, *b1, *w2, *b2, *w3, *b3;
};

class BlindFeatures {
public:
    explicit BlindFeatures(InstructionSet set);

    // Copies the weights into the order in which they are used. Planes without weights and the margin of the linear
    // filters' window that holds zeros alone are left out.
    void prepare(const BlindFeaturesWeights& weights);

    // planes: n_taps * n_channels of (height, width); out: n_channels of them. Both must stay until the last tile is
    // done. First every tile of the linear filter is computed, then every tile of the result, in any order and by any
    // threads: no pixel depends on how.
    void begin(const float* const* planes, int height, int width, float* out);
    size_t n_filter_tiles() const { return networks_.size() * tiles_per_channel(margin_y_, margin_x_); }
    size_t n_tiles() const { return networks_.size() * tiles_per_channel(0, 0); }
    void filter(size_t tile);
    void denoise(size_t tile) const;

private:
    // A network's weights in the order in which they are used.
    struct Packed {
        std::vector<float> linear, mix, vertical, horizontal, w1, b1, w2, b2, w3_inputs, w3_hidden_1, w3_hidden_2;
    };

    size_t tiles_per_channel(int margin_y, int margin_x) const;
    Tile tile_at(size_t index, int margin_y, int margin_x) const;

    const FeatureKernel& kernel_;
    std::vector<Packed> packed_;
    std::vector<PackedFeatures> networks_;
    int margin_y_ = 0, margin_x_ = 0;  // around the frame, where features look at the linear filter's result
    std::vector<int> used_planes_;     // of the frames, in order
    std::vector<Plane> planes_;        // those
    std::vector<float> filtered_;      // the linear filter's results, margins included
    int height_ = 0, width_ = 0;
    float* out_ = nullptr;
};

}  // namespace lowdose::ops
