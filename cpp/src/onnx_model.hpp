// A model file on ONNX Runtime.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "model.hpp"
#include "ort.hpp"

namespace lowdose {

class OnnxModel final : public Model {
public:
    // name: for messages; bytes: of the .onnx file; device as in ort::SessionOptions.
    // kernels: use our compiled kernels where they can be (on the CPU and CUDA), instead of the functions in the file.
    // Throws Error when the bytes are not ONNX or break the contract, and when the device does not take all of the
    // graph.
    OnnxModel(std::string name, std::string bytes, std::shared_ptr<ort::Library> library, const std::string& device,
              bool kernels);

    std::string kernels() const override;
    ops::InstructionSet transforms() const override { return kernels_.value_or(ops::InstructionSet::portable); }
    const ort::Library& runtime() const { return *library_; }

    std::shared_ptr<cuda::Queue> new_queue() const override;
    std::unique_ptr<OpenGraph> open(const GraphOptions& options) const override;

private:
    void open_smallest() const;

    std::shared_ptr<ort::Library> library_;
    std::string bytes_;
    std::optional<ops::InstructionSet> kernels_;
};

}  // namespace lowdose
