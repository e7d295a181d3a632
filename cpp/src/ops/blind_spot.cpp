#include "blind_spot.hpp"

#include <algorithm>

#include "spares.hpp"

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

// The kernel of three features, the first mixing layer included: (n_taps, K, K, 3).
void pack_kernel(const BlindSpotWeights& weights, const BlindSpotBranch& branch, int first_feature, float* out) {
    const size_t n_products = count(weights.n_taps, branch.size, branch.size);
    for (size_t i = 0; i < n_products; ++i)
        for (int f = first_feature; f < first_feature + feature_group; ++f) {
            double sum = 0;
            if (f < weights.n_features) {
                if (weights.n_mixing == 0) sum = branch.kernel[count(f) * n_products + i];
                for (int in = 0; in < weights.n_features && weights.n_mixing > 0; ++in)
                    sum += static_cast<double>(branch.mixing[f * weights.n_features + in]) *
                           static_cast<double>(branch.kernel[count(in) * n_products + i]);
            }
            *out++ = static_cast<float>(sum);
        }
}

struct alignas(64) Line {
    float pixels[16];
};

// Scratch memory of one band; it only grows.
struct BandMemory {
    std::vector<const float*> lines;
    std::vector<float> pixels;
    std::vector<Line> features;

    Scratch reserve(const PackedNetwork& network) {
        const size_t n_lines = count(network.n_taps, 2 * network.margin + most_rows_per_block);
        const size_t n_pixels = n_lines * count(strip_width + 2 * network.margin);
        const size_t n_features = count(network.n_features, most_floats_per_block + most_floats_per_vector) / 16;
        if (lines.size() < n_lines) lines.resize(n_lines);
        if (pixels.size() < n_pixels) pixels.resize(n_pixels);
        if (features.size() < n_features) features.resize(n_features);
        return {lines.data(), pixels.data(), features.data()->pixels};
    }
};

}  // namespace

BlindSpot::BlindSpot(InstructionSet set) : rows_(rows_for(set)) {}

void BlindSpot::prepare(const BlindSpotWeights& weights) {
    const int n = weights.n_features;
    const int n_padded = (n + feature_group - 1) / feature_group * feature_group;
    const int n_layers = std::max(weights.n_mixing - 1, 0);
    network_ = {weights.n_taps,
                n_padded,
                static_cast<int>(weights.branches.size()),
                n_layers,
                weights.n_mixing > 0 ? leaky_slope : 1.0f,
                0,
                nullptr};
    size_t total = 0;
    for (const BlindSpotBranch& branch : weights.branches) {
        network_.margin = std::max(network_.margin, branch.size / 2);
        total += count(n_padded) * (count(weights.n_taps, branch.size, branch.size) + count(n_layers, n_padded) + 1);
    }
    packed_.assign(total, 0.0f);
    branches_.clear();
    float* to = packed_.data();
    for (const BlindSpotBranch& branch : weights.branches) {
        PackedBranch packed{branch.size, to, nullptr, nullptr, branch.share};
        for (int f = 0; f < n; f += feature_group, to += feature_group * weights.n_taps * branch.size * branch.size)
            pack_kernel(weights, branch, f, to);
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
