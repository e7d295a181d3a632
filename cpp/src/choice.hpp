// Chooses weights, low-pass cutoff and offset from noisy frames alone.
#pragma once

#include <optional>
#include <vector>

#include "model.hpp"

namespace lowdose {

// Values that are given are kept, the others are chosen.
struct Wanted {
    std::optional<int> weight_set;
    std::optional<float> cutoff;  // cycles/pixel; cutoff_none for no low-pass
    std::optional<float> offset;  // subtracted before the network, added after it
};

struct Choice {
    int weight_set = 0;
    float cutoff = 0;
    float offset = 0;
};

// frames of one window in the order of the taps, (height, width) float32, offset not subtracted.
using Window = std::vector<const float*>;

// The share of pixels below the automatic offset.
constexpr double offset_share = 0.001;

// Risk: for a blind network f, mean (f(y) - y)^2 is the mean squared error plus the noise variance, so the
// smallest one marks the best weights without any truth (Batson and Royer 2019). A low-pass L mixes outputs
// that have seen the pixel, which adds twice the covariance of L f(y) with the noise; it is measured by one
// more run on y + b, where b is a tenth of the residual with random signs (Monte-Carlo divergence,
// Ramani et al. 2008): 2 mean b (L f(y + b) - L f(y)), brought from the size of b to that of the noise. All cutoffs are
// scored at once in the Fourier domain. The offset is the 0.1 percentile of the centre frames. Windows are cropped to
// at most 512 pixels a side.
Choice choose(const Model& model, const std::vector<Window>& windows, int height, int width, int threads,
              const Wanted& wanted);

}  // namespace lowdose
