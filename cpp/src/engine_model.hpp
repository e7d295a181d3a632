// A built engine on TensorRT's own runtime, which the caller brings: no ONNX Runtime is in the path.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "model.hpp"

namespace lowdose {

// What is final in an engine.
struct BuiltIn {
    RunShape frames;  // not rounded up to the alignment
    ConstantSettings settings;
};

class EngineModel final : public Model {
public:
    // Puts one run into a queue, a CUstream.
    using Start = std::function<void(std::uintptr_t queue)>;
    // Makes an engine ready for tensors at these addresses on the GPU, by name. That GPU is the calling thread's.
    using Open = std::function<Start(const std::map<std::string, std::uintptr_t>& addresses)>;

    // name: for messages; metadata: of the model file that the engine was built from; device: "rtx", with or without
    // ":N". Throws Error when the metadata break the contract.
    EngineModel(const std::string& name, std::string metadata, const BuiltIn& built_in, const std::string& device,
                Open open);

    std::string kernels() const override { return {}; }
    ops::InstructionSet transforms() const override { return ops::instruction_set(); }
    void check_size(int height, int width) const override;
    std::shared_ptr<cuda::Queue> new_queue() const override;
    std::unique_ptr<OpenGraph> open(const GraphOptions& options) const override;

private:
    BuiltIn built_in_;
    Open open_;
};

}  // namespace lowdose
