#include "blind_features.hpp"

#include <algorithm>

#include "spares.hpp"

namespace lowdose::ops {

namespace {

const FeatureKernel& kernel_for([[maybe_unused]] InstructionSet set) {
#ifdef LOWDOSE_X86_KERNELS
    if (set == InstructionSet::sse42) return features_sse42;
    if (set == InstructionSet::avx2) return features_avx2;
    if (set == InstructionSet::avx512) return features_avx512;
#endif
    return features_portable;
}

size_t count(int a, int b = 1, int c = 1) {
    return static_cast<size_t>(a) * static_cast<size_t>(b) * static_cast<size_t>(c);
}

int tiles_along(int length, int per_tile) { return (length + per_tile - 1) / per_tile; }

// A matrix (n_outputs, n_inputs) with rows `stride` apart becomes (n_outputs / group, n_inputs, group).
void pack_matrix(const float* from, int n_outputs, int n_inputs, int stride, int group, std::vector<float>& packed) {
    packed.clear();
    for (int first = 0; first < n_outputs; first += group)
        for (int in = 0; in < n_inputs; ++in)
            for (int out = first; out < first + group; ++out)
                packed.push_back(out < n_outputs ? from[count(out, stride) + count(in)] : 0.0f);
}

// Kernels (n, height, width) become (n, width, height).
void pack_kernels(const float* from, int n, int height, int width, std::vector<float>& packed) {
    packed.clear();
    for (int i = 0; i < n; ++i, from += count(height, width))
        for (int x = 0; x < width; ++x)
            for (int y = 0; y < height; ++y) packed.push_back(from[count(y, width) + count(x)]);
}

void pack_vector(const float* from, int n, int group, std::vector<float>& packed) {
    packed.assign(from, from + n);
    packed.resize(count(tiles_along(n, group), group), 0.0f);
}

struct alignas(64) Line {
    float pixels[16];
};

// Scratch memory of one tile; it only grows.
struct TileMemory {
    std::vector<Line> lines;

    float* reserve(size_t n_floats) {
        const size_t n_lines = n_floats / 16 + 1;
        if (lines.size() < n_lines) lines.resize(n_lines);
        return lines.data()->pixels;
    }
};

Spares<TileMemory>& spares() {
    static Spares<TileMemory> all;
    return all;
}

}  // namespace

BlindFeatures::BlindFeatures(InstructionSet set) : kernel_(kernel_for(set)) {}

// The features enter the perceptron's first layer linearly, so the own pixels that are taken away from them become
// further inputs of it: w1 of L, the own pixels, the features.
void BlindFeatures::fold_own(const BlindFeaturesWeights& weights, size_t channel) {
    const int n_own = weights.own_side * weights.own_side, n = weights.n_features;
    const float* own = weights.own + channel * count(n, n_own);
    w1_.clear();
    for (int out = 0; out < weights.n_hidden_1; ++out) {
        const float* w1 = weights.w1 + channel * count(weights.n_hidden_1, n + 1) + count(out, n + 1);
        w1_.push_back(w1[0]);
        for (int i = 0; i < n_own; ++i) {
            double sum = 0;
            for (int f = 0; f < n; ++f)
                sum -= static_cast<double>(w1[f + 1]) * static_cast<double>(own[count(f, n_own) + count(i)]);
            w1_.push_back(static_cast<float>(sum));
        }
        w1_.insert(w1_.end(), w1 + 1, w1 + n + 1);
    }
}

void BlindFeatures::prepare(const BlindFeaturesWeights& weights) {
    const BlockSizes& sizes = kernel_.sizes;
    const int n = weights.n_features, h1 = weights.n_hidden_1, h2 = weights.n_hidden_2;
    const int n_planes = weights.n_taps * weights.n_channels;
    const auto n_channels = count(weights.n_channels);
    bool sees_filtered = false;  // is there a feature that looks at the linear filter's result?
    for (size_t f = 0; f < n_channels * count(n); ++f)
        sees_filtered = sees_filtered || weights.mix[f * count(n_planes + 1) + count(n_planes)] != 0;
    margin_y_ = sees_filtered ? weights.height / 2 : 0;
    margin_x_ = sees_filtered ? weights.width / 2 : 0;
    packed_.resize(n_channels);
    networks_.clear();
    for (size_t c = 0; c < n_channels; ++c) {
        Packed& packed = packed_[c];
        const int n_mixed = sees_filtered ? n_planes + 1 : n_planes;
        pack_kernels(weights.linear + c * count(n_planes, weights.linear_height, weights.linear_width), n_planes,
                     weights.linear_height, weights.linear_width, packed.linear);
        pack_matrix(weights.mix + c * count(n, n_planes + 1), n, n_mixed, n_planes + 1, sizes.mix_outputs, packed.mix);
        pack_vector(weights.vertical + c * count(n, weights.height), n * weights.height, 1, packed.vertical);
        pack_vector(weights.horizontal + c * count(n, weights.width), n * weights.width, 1, packed.horizontal);
        fold_own(weights, c);
        const int n_inputs = 1 + weights.own_side * weights.own_side + n;
        pack_matrix(w1_.data(), h1, n_inputs, n_inputs, sizes.layer_outputs, packed.w1);
        pack_vector(weights.b1 + c * count(h1), h1, sizes.layer_outputs, packed.b1);
        pack_matrix(weights.w2 + c * count(h2, h1), h2, h1, h1, sizes.layer_outputs, packed.w2);
        pack_vector(weights.b2 + c * count(h2), h2, sizes.layer_outputs, packed.b2);
        pack_vector(weights.w3 + c * count(h2), h2, sizes.layer_outputs, packed.w3);
        networks_.push_back({n_planes,
                             weights.linear_height,
                             weights.linear_width,
                             packed.linear.data(),
                             weights.linear_bias[c],
                             n_mixed,
                             n,
                             weights.height,
                             weights.width,
                             packed.mix.data(),
                             packed.vertical.data(),
                             packed.horizontal.data(),
                             weights.n_taps / 2 * weights.n_channels + static_cast<int>(c),
                             weights.own_side,
                             n_inputs,
                             h1,
                             h2,
                             packed.w1.data(),
                             packed.b1.data(),
                             packed.w2.data(),
                             packed.b2.data(),
                             packed.w3.data(),
                             weights.b3[c]});
    }
}

void BlindFeatures::begin(const float* const* planes, int height, int width, float* out) {
    height_ = height;
    width_ = width;
    out_ = out;
    planes_.clear();
    for (int p = 0; p < networks_[0].n_planes; ++p) planes_.push_back({planes[p], height, width, width});
    filtered_.resize(networks_.size() * count(height + 2 * margin_y_, width + 2 * margin_x_));
}

size_t BlindFeatures::tiles_per_channel(int margin_y, int margin_x) const {
    return count(tiles_along(height_ + 2 * margin_y, tile_rows), tiles_along(width_ + 2 * margin_x, tile_columns));
}

Tile BlindFeatures::tile_at(size_t index, int margin_y, int margin_x) const {
    const int across = tiles_along(width_ + 2 * margin_x, tile_columns), number = static_cast<int>(index);
    const int row = number / across * tile_rows, column = number % across * tile_columns;
    return {row - margin_y, column - margin_x, std::min(tile_rows, height_ + 2 * margin_y - row),
            std::min(tile_columns, width_ + 2 * margin_x - column)};
}

void BlindFeatures::filter(size_t index) {
    const size_t n = tiles_per_channel(margin_y_, margin_x_), channel = index / n;
    const Tile tile = tile_at(index % n, margin_y_, margin_x_);
    const int stride = width_ + 2 * margin_x_;
    float* out = filtered_.data() + channel * count(height_ + 2 * margin_y_, stride) +
                 count(tile.top + margin_y_, stride) + count(tile.left + margin_x_);
    const PackedFeatures& network = networks_[channel];
    const auto memory = spares().take();
    kernel_.filter(network, planes_.data(), tile, memory->reserve(kernel_.scratch_size(network)), out, stride);
}

void BlindFeatures::denoise(size_t index) const {
    const size_t n = tiles_per_channel(0, 0), channel = index / n;
    const Tile tile = tile_at(index % n, 0, 0);
    const int height = height_ + 2 * margin_y_, width = width_ + 2 * margin_x_;
    const Plane filtered{filtered_.data() + channel * count(height, width), height, width, width};
    const PackedFeatures& network = networks_[channel];
    const auto memory = spares().take();
    kernel_.denoise(network, planes_.data(), filtered, margin_y_, margin_x_, tile,
                    memory->reserve(kernel_.scratch_size(network)),
                    out_ + (channel * count(height_) + count(tile.top)) * count(width_) + count(tile.left), width_);
}

}  // namespace lowdose::ops
