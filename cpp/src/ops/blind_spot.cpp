#include "blind_spot.hpp"

#include <algorithm>
#include <utility>

#include "spares.hpp"
#include "toom_cook.hpp"

namespace lowdose::ops {

namespace {

constexpr int band_rows = 32;

const RowKernel& rows_for([[maybe_unused]] InstructionSet set) {
#ifdef LOWDOSE_X86_KERNELS
    if (set == InstructionSet::sse42) return rows_sse42;
    if (set == InstructionSet::avx2) return rows_avx2;
    if (set == InstructionSet::avx512) return rows_avx512;
#endif
    return rows_portable;
}

size_t count(int a, int b = 1, int c = 1) {
    return static_cast<size_t>(a) * static_cast<size_t>(b) * static_cast<size_t>(c);
}

// The kernels of all features with the first mixing layer in them: (n_features, n_taps, K, K).
std::vector<double> mixed_kernel(const BlindSpotWeights& weights, const BlindSpotBranch& branch) {
    const size_t n = count(weights.n_features), n_products = count(weights.n_taps, branch.size, branch.size);
    if (weights.n_mixing == 0) return {branch.kernel, branch.kernel + n * n_products};
    std::vector<double> mixed(n * n_products);
    for (size_t out = 0; out < n; ++out)
        for (size_t in = 0; in < n; ++in)
            for (size_t i = 0; i < n_products; ++i)
                mixed[out * n_products + i] += static_cast<double>(branch.mixing[out * n + in]) *
                                               static_cast<double>(branch.kernel[in * n_products + i]);
    return mixed;
}

// What the rows of a part of a kernel become at one of its points; `step` from row to row.
double value_at(int point, int rows, const double* column, size_t step) {
    const int pairs = n_pairs(rows);
    const Polynomials polynomials(pairs);
    if (point == 2 * pairs) return column[0] / polynomials.all[0];
    if (point > 2 * pairs) return column[count(rows - 1) * step];  // infinity
    const double size = pair_points[point / 2], x = point % 2 == 0 ? size : -size;
    double value = 0, others = 0;
    for (int i = rows - 1; i >= 0; --i) value = value * x + column[count(i) * step];
    for (int i = pairs - 1; i >= 0; --i) others = others * x * x + polynomials.without[point / 2][i];
    return value / (2 * x * x * others);
}

// The kernel of a group of features for the rows' inner loop: (n_points, n_taps, K, 3), zero beyond the last feature.
void pack_kernel(const std::vector<double>& kernel, const BlindSpotWeights& weights, int size, int first_feature,
                 float* out) {
    const int n_columns = weights.n_taps * size;
    for (int part = 0, line = 0; part < n_parts(size); line += part_rows(size, part), ++part)
        for (int point = 0; point < n_points(part_rows(size, part)); ++point)
            for (int column = 0; column < n_columns; ++column)
                for (int f = first_feature; f < first_feature + feature_group; ++f, ++out) {
                    if (f >= weights.n_features) continue;
                    const int tap = column / size, x = column % size;
                    const double* from = &kernel[count(((f * weights.n_taps + tap) * size + line) * size + x)];
                    *out = static_cast<float>(value_at(point, part_rows(size, part), from, count(size)));
                }
}

struct alignas(64) Line {
    float pixels[16];
};

// Scratch memory of one band; it only grows.
class BandMemory {
public:
    Scratch reserve(const PackedNetwork& network) {
        const size_t line = count(floats_per_line(network.margin)), n_features = count(network.n_features);
        const size_t n_lines = count(network.n_taps, 2 * network.margin + tile_rows);
        const size_t n_points = count(network.n_points);
        const size_t pixels = n_lines * line, transformed = n_points * count(network.n_taps) * line;
        const size_t sums = n_points * n_features * most_floats_per_block;
        const size_t features = 2 * n_features * tile_rows * most_floats_per_vector;
        const size_t result = tile_rows * strip_width;
        if (lines_.size() < n_lines) lines_.resize(n_lines);
        const size_t total = (pixels + transformed + sums + features + result) / 16;  // all are multiples of 16
        if (memory_.size() < total) memory_.resize(total);
        float* at = memory_.data()->pixels;
        const auto next = [&at](size_t n) { return std::exchange(at, at + n); };
        return {lines_.data(), next(pixels), next(transformed), next(sums), next(features), next(result)};
    }

private:
    std::vector<const float*> lines_;
    std::vector<Line> memory_;
};

}  // namespace

BlindSpot::BlindSpot(InstructionSet set) : rows_(rows_for(set)) {}

bool BlindSpot::is_new(const BlindSpotWeights& weights) {
    const int n = weights.n_features;
    asked_ = {static_cast<float>(weights.n_taps), static_cast<float>(n), static_cast<float>(weights.n_mixing)};
    for (const BlindSpotBranch& branch : weights.branches) {
        asked_.insert(asked_.end(), {static_cast<float>(branch.size), branch.share});
        asked_.insert(asked_.end(), branch.kernel,
                      branch.kernel + count(n, weights.n_taps) * count(branch.size, branch.size));
        asked_.insert(asked_.end(), branch.mixing, branch.mixing + count(weights.n_mixing, n, n));
        asked_.insert(asked_.end(), branch.head, branch.head + n);
    }
    if (asked_ == prepared_) return false;
    prepared_ = asked_;
    return true;
}

void BlindSpot::prepare(const BlindSpotWeights& weights) {
    if (!is_new(weights)) return;
    const int n = weights.n_features;
    const int n_padded = (n + feature_group - 1) / feature_group * feature_group;
    const int n_layers = std::max(weights.n_mixing - 1, 0);
    network_ = {weights.n_taps,
                n_padded,
                static_cast<int>(weights.branches.size()),
                n_layers,
                weights.n_mixing > 0 ? leaky_slope : 1.0f,
                0,
                0,
                nullptr};
    size_t total = 0;
    for (const BlindSpotBranch& branch : weights.branches) {
        network_.margin = std::max(network_.margin, branch.size / 2);
        network_.n_points = std::max(network_.n_points, n_points_of_kernel(branch.size));
        total += count(n_padded) *
                 (count(n_points_of_kernel(branch.size), weights.n_taps, branch.size) + count(n_layers, n_padded) + 1);
    }
    packed_.assign(total, 0.0f);
    branches_.clear();
    float* to = packed_.data();
    for (const BlindSpotBranch& branch : weights.branches) {
        PackedBranch packed{branch.size, to, nullptr, nullptr, branch.share};
        const std::vector<double> kernel = mixed_kernel(weights, branch);
        const int n_products = n_points_of_kernel(branch.size) * weights.n_taps * branch.size;
        for (int f = 0; f < n; f += feature_group, to += feature_group * n_products)
            pack_kernel(kernel, weights, branch.size, f, to);
        packed.mixing = to;
        for (int layer = 0; layer < n_layers; ++layer, to += n_padded * n_padded)
            for (int out = 0; out < n; ++out)
                std::copy_n(branch.mixing + count((layer + 1) * n + out, n), n, to + out * n_padded);
        packed.head = to;
        to = std::copy_n(branch.head, n, to) + (n_padded - n);
        branches_.push_back(packed);
    }
    network_.branches = branches_.data();
}

int BlindSpot::n_bands(int height) { return (height + band_rows - 1) / band_rows; }

void BlindSpot::run_band(const float* const* frames, int height, int width, int band, float* out) const {
    static Spares<BandMemory> spares;
    const auto memory = spares.take();
    const int first = band * band_rows;
    rows_.run(network_, frames, height, width, first, std::min(first + band_rows, height), memory->reserve(network_),
              out);
}

}  // namespace lowdose::ops
