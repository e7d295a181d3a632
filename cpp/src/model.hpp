// What is opened from a file and denoises: its metadata, and graphs for a frame size.
#pragma once

#include <memory>
#include <string>

#include "contract.hpp"
#include "open_graph.hpp"
#include "ops/instruction_set.hpp"

namespace lowdose {

// The bytes of a file; path in UTF-8. Throws Error.
std::string read_file(const std::string& path);

class Model {
public:
    virtual ~Model() = default;

    const std::string& metadata() const { return metadata_; }  // JSON
    const Contract& contract() const { return contract_; }
    const std::string& device() const { return device_; }
    bool has_settings() const { return contract_.has_low_pass || contract_.n_weight_sets > 1; }
    // Of our kernels, such as "avx2" or "cuda"; empty: none are used.
    virtual std::string kernels() const = 0;
    // For the transforms that the core itself computes.
    virtual ops::InstructionSet transforms() const = 0;

    // Throws Error when frames are below min_size_px or not of the size that the graph takes.
    virtual void check_size(int height, int width) const;
    // Where graphs on an NVIDIA GPU put their work; null for other devices. Throws Error where the GPU cannot be
    // opened.
    virtual std::shared_ptr<cuda::Queue> new_queue() const = 0;
    // The model must outlive the graph. Throws Error for shapes and settings that it does not take.
    virtual std::unique_ptr<OpenGraph> open(const GraphOptions& options) const = 0;

protected:
    std::string device_, metadata_;
    Contract contract_;
};

}  // namespace lowdose
