#include "blind_features.hpp"

#include <algorithm>
#include <cstdlib>

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

// A matrix (n_outputs, n_inputs) becomes (n_outputs / group, n_inputs, group).
void pack_matrix(const float* from, int n_outputs, int n_inputs, int group, std::vector<float>& packed) {
    packed.clear();
    for (int first = 0; first < n_outputs; first += group)
        for (int in = 0; in < n_inputs; ++in)
            for (int out = first; out < first + group; ++out)
                packed.push_back(out < n_outputs ? from[count(out, n_inputs) + count(in)] : 0.0f);
}

bool not_zero(float weight) { return weight != 0; }

// The planes, over all frames, that any linear filter or mixture gives a weight; the frame that is denoised is needed
// for its own pixels.
std::vector<int> planes_with_weights(const BlindFeaturesWeights& weights) {
    const int n_planes = weights.n_taps * weights.n_channels, n_mixtures = weights.n_channels * weights.n_features;
    const size_t kernel_size = count(weights.linear_height, weights.linear_width);
    const auto is_used = [&](int plane) {
        if (plane / weights.n_channels == weights.n_taps / 2) return true;
        for (int f = 0; f < n_mixtures; ++f)
            if (not_zero(weights.mix[count(f, n_planes + 1) + count(plane)])) return true;
        for (int c = 0; c < weights.n_channels; ++c) {
            const float* kernel = weights.linear + (count(c, n_planes) + count(plane)) * kernel_size;
            if (std::any_of(kernel, kernel + kernel_size, not_zero)) return true;
        }
        return false;
    };
    std::vector<int> used;
    for (int plane = 0; plane < n_planes; ++plane)
        if (is_used(plane)) used.push_back(plane);
    return used;
}

// The sides of a kernel, odd.
struct Sides {
    int height, width;
};

// Of the smallest window in the middle that holds all weights of a linear filter that are not zero.
Sides sides_with_weights(const BlindFeaturesWeights& weights, const std::vector<int>& planes) {
    const int height = weights.linear_height, width = weights.linear_width;
    const int n_planes = weights.n_taps * weights.n_channels;
    int reach_y = 0, reach_x = 0;
    for (int c = 0; c < weights.n_channels; ++c)
        for (const int plane : planes) {
            const float* row = weights.linear + (count(c, n_planes) + count(plane)) * count(height, width);
            for (int y = 0; y < height; ++y, row += width) {
                const auto first = static_cast<int>(std::find_if(row, row + width, not_zero) - row);
                if (first == width) continue;
                int last = width - 1;
                while (!not_zero(row[last])) --last;
                reach_y = std::max(reach_y, std::abs(y - height / 2));
                reach_x = std::max({reach_x, width / 2 - first, last - width / 2});
            }
        }
    return {2 * reach_y + 1, 2 * reach_x + 1};
}

// Appends the middle of a kernel (height, width) column by column.
void append_kernel(const float* from, const Sides& all, const Sides& kept, std::vector<float>& packed) {
    const int top = (all.height - kept.height) / 2, left = (all.width - kept.width) / 2;
    for (int x = left; x < left + kept.width; ++x)
        for (int y = top; y < top + kept.height; ++y) packed.push_back(from[count(y, all.width) + count(x)]);
}

void pack_vector(const float* from, int n, int group, std::vector<float>& packed) {
    packed.assign(from, from + n);
    packed.resize(count(tiles_along(n, group), group), 0.0f);
}

// The features enter a neuron linearly, so the own pixels that are taken away from them become further inputs of it.
// neuron: its weights of L and the features. Appends those of L, the own pixels and the features.
void fold_own(const float* neuron, const float* own, int n_features, int n_own, std::vector<float>& folded) {
    folded.push_back(neuron[0]);
    for (int i = 0; i < n_own; ++i) {
        double sum = 0;
        for (int f = 0; f < n_features; ++f)
            sum -= static_cast<double>(neuron[f + 1]) * static_cast<double>(own[count(f, n_own) + count(i)]);
        folded.push_back(static_cast<float>(sum));
    }
    folded.insert(folded.end(), neuron + 1, neuron + n_features + 1);
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
    used_planes_ = planes_with_weights(weights);
    const Sides all{weights.linear_height, weights.linear_width}, kept = sides_with_weights(weights, used_planes_);
    std::vector<int> mixed = used_planes_;
    if (sees_filtered) mixed.push_back(n_planes);
    const int n_used = static_cast<int>(used_planes_.size()), n_mixed = static_cast<int>(mixed.size());
    packed_.resize(n_channels);
    networks_.clear();
    std::vector<float> rows;
    for (size_t c = 0; c < n_channels; ++c) {
        Packed& packed = packed_[c];
        packed.linear.clear();
        for (const int plane : used_planes_)
            append_kernel(weights.linear + (c * count(n_planes) + count(plane)) * count(all.height, all.width), all,
                          kept, packed.linear);
        const float* mix = weights.mix + c * count(n, n_planes + 1);
        rows.clear();
        for (int f = 0; f < n; ++f, mix += n_planes + 1)
            for (const int plane : mixed) rows.push_back(mix[plane]);
        pack_matrix(rows.data(), n, n_mixed, sizes.mix_outputs, packed.mix);
        pack_vector(weights.vertical + c * count(n, weights.height), n * weights.height, 1, packed.vertical);
        pack_vector(weights.horizontal + c * count(n, weights.width), n * weights.width, 1, packed.horizontal);
        const int n_own = weights.own_side * weights.own_side, n_inputs = 1 + n_own + n;
        const float* own = weights.own + c * count(n, n_own);
        const float* w1 = weights.w1 + c * count(h1, 1 + n);
        const float* w3 = weights.w3 + c * count(1 + n + h1 + h2);
        rows.clear();
        for (int out = 0; out < h1; ++out) fold_own(w1 + count(out, 1 + n), own, n, n_own, rows);
        pack_matrix(rows.data(), h1, n_inputs, sizes.layer_outputs, packed.w1);
        pack_vector(weights.b1 + c * count(h1), h1, sizes.layer_outputs, packed.b1);
        pack_matrix(weights.w2 + c * count(h2, h1), h2, h1, sizes.layer_outputs, packed.w2);
        pack_vector(weights.b2 + c * count(h2), h2, sizes.layer_outputs, packed.b2);
        rows.clear();
        fold_own(w3, own, n, n_own, rows);
        pack_vector(rows.data(), n_inputs, 1, packed.w3_inputs);
        pack_vector(w3 + 1 + n, h1, sizes.layer_outputs, packed.w3_hidden_1);
        pack_vector(w3 + 1 + n + h1, h2, sizes.layer_outputs, packed.w3_hidden_2);
        const int own_plane = weights.n_taps / 2 * weights.n_channels + static_cast<int>(c);
        const auto own_place = std::find(used_planes_.begin(), used_planes_.end(), own_plane) - used_planes_.begin();
        networks_.push_back({n_used,
                             kept.height,
                             kept.width,
                             packed.linear.data(),
                             weights.linear_bias[c],
                             n_mixed,
                             n,
                             weights.height,
                             weights.width,
                             packed.mix.data(),
                             packed.vertical.data(),
                             packed.horizontal.data(),
                             static_cast<int>(own_place),
                             weights.own_side,
                             n_inputs,
                             h1,
                             h2,
                             packed.w1.data(),
                             packed.b1.data(),
                             packed.w2.data(),
                             packed.b2.data(),
                             packed.w3_inputs.data(),
                             packed.w3_hidden_1.data(),
                             packed.w3_hidden_2.data(),
                             weights.b3[c]});
    }
}

void BlindFeatures::begin(const float* const* planes, int height, int width, float* out) {
    height_ = height;
    width_ = width;
    out_ = out;
    planes_.clear();
    for (const int plane : used_planes_) planes_.push_back({planes[plane], height, width, width});
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
