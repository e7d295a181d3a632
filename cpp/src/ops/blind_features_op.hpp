// The inputs of a node BlindFeatures, checked, and its kernel.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "blind_features.hpp"
#include "custom_op.hpp"

namespace lowdose::ops {

class BlindFeaturesKernel {
public:
    static constexpr const char* name = "BlindFeatures";

    BlindFeaturesKernel(Api api, InstructionSet set) : api_(api), network_(set) {}

    // Throws Error when the inputs do not fit together, Failure when ONNX Runtime reports an error.
    void compute(Context* context);

private:
    void read_inputs(const Context* context);
    void read_frames();
    void read_weights();

    Api api_;
    BlindFeatures network_;
    std::mutex mutex_;  // a session may be run by several threads at once
    std::vector<Input> inputs_;
    BlindFeaturesWeights weights_{};
    std::vector<const float*> planes_;  // batch by batch, tap by tap, channel by channel
    int batch_ = 0, height_ = 0, width_ = 0;
};

}  // namespace lowdose::ops
