// The blind-spot network (WCVD, WCID) on the CPU: what the function BlindSpot of the model file computes, in one pass.
#pragma once

#include <cstddef>
#include <vector>

#include "blind_spot_rows.hpp"
#include "instruction_set.hpp"

namespace lowdose::ops {

// One branch of one weight set, as the model file holds it.
struct BlindSpotBranch {
    int size;             // K, odd
    const float* kernel;  // (n_features, n_taps, K, K)
    const float* mixing;  // (n_mixing, n_features, n_features), [layer, out, in]
    const float* head;    // (n_features)
    float share;
};

struct BlindSpotWeights {
    int n_taps, n_features, n_mixing;
    std::vector<BlindSpotBranch> branches;
};

class BlindSpot {
public:
    explicit BlindSpot(InstructionSet set);

    // Transforms the weights and puts them into the order in which they are used; weights equal to the last ones cost
    // a comparison.
    void prepare(const BlindSpotWeights& weights);

    // A frame is computed in bands of rows, in any order and by any threads: no pixel depends on how.
    static int n_bands(int height);
    // frames: n_taps planes (height, width), periodic beyond their borders; out: (height, width).
    void run_band(const float* const* frames, int height, int width, int band, float* out) const;

private:
    bool is_new(const BlindSpotWeights& weights);

    const RowKernel& rows_;
    PackedNetwork network_{};
    std::vector<PackedBranch> branches_;
    std::vector<float> packed_;
    std::vector<float> prepared_, asked_;  // all that BlindSpotWeights holds, in a row
};

}  // namespace lowdose::ops
