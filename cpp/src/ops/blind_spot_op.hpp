// The inputs of a node BlindSpot, checked, and its kernel.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "blind_spot.hpp"
#include "custom_op.hpp"

namespace lowdose::ops {

class BlindSpotKernel {
public:
    static constexpr const char* name = "BlindSpot";
    static constexpr const char* provider = "CPUExecutionProvider";

    BlindSpotKernel(Api api, InstructionSet set) : api_(api), network_(set) {}

    // Throws Error when the inputs do not fit together, Failure when ONNX Runtime reports an error.
    void compute(Context* context);

private:
    void read_inputs(const Context* context);
    void read_frames();
    void read_weights();

    Api api_;
    BlindSpot network_;
    std::mutex mutex_;  // a session may be run by several threads at once
    std::vector<Input> inputs_;
    BlindSpotWeights weights_;
    std::vector<const float*> frames_;  // batch by batch, n_taps each
    int batch_ = 0, height_ = 0, width_ = 0;
};

}  // namespace lowdose::ops
