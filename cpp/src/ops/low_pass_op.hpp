// The inputs of a node LowPass, checked, and its kernel.
#pragma once

#include "custom_op.hpp"
#include "instruction_set.hpp"

namespace lowdose::ops {

class LowPassKernel {
public:
    static constexpr const char* name = "LowPass";
    static constexpr const char* provider = "CPUExecutionProvider";

    LowPassKernel(Api api, InstructionSet set) : api_(api), set_(set) {}

    // Throws Error when the inputs are not a frame and a cutoff, Failure when ONNX Runtime reports an error.
    void compute(Context* context);

private:
    Api api_;
    InstructionSet set_;
};

}  // namespace lowdose::ops
