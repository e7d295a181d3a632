// A model file: its metadata, and networks opened from it for a frame size.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "contract.hpp"
#include "ort.hpp"

namespace lowdose {

// One run of a network: planes (channels, height, width) float32, of the network's height and width.
struct Run {
    std::vector<const float*> frames;  // in the order of the taps
    std::vector<const float*> states;  // oldest first
    std::vector<float> offset, scale;  // per channel, where the network takes them
    int weight_set = 0;
    float cutoff = 0;           // where the network takes it
    float* denoised = nullptr;  // (n_outputs, height, width)
    float* state = nullptr;     // (state_channels, height, width), where the network gives it
};

// A session for one frame or tile size.
class Network {
public:
    Network(std::unique_ptr<ort::Session> session, const Contract& contract, int height, int width);

    void run(const Run& run);

private:
    std::unique_ptr<ort::Session> session_;
    Contract contract_;
    ort::Bindings bindings_;
    std::int64_t weight_set_ = 0;  // scalars need an address too
    float cutoff_ = 0;
};

// The bytes of a file; path in UTF-8. Throws Error.
std::string read_file(const std::string& path);

class Model {
public:
    // name: for messages; bytes: of the .onnx file; device as in ort::SessionOptions.
    // kernels: use our compiled kernels where they can be (on the CPU), instead of the functions in the file.
    // Throws Error when the bytes are not ONNX or break the contract, and when the device does not take all of the
    // graph.
    Model(std::string name, std::string bytes, std::shared_ptr<ort::Library> library, const std::string& device,
          bool kernels);

    const std::string& metadata() const { return metadata_; }  // JSON
    const Contract& contract() const { return contract_; }
    const std::string& device() const { return device_; }
    const std::optional<ops::InstructionSet>& kernels() const { return kernels_; }  // empty: none are used
    // For the transforms that the core itself computes.
    ops::InstructionSet transforms() const { return kernels_.value_or(ops::InstructionSet::portable); }
    const ort::Library& runtime() const { return *library_; }

    // Throws Error when the size is below min_size_px or not the one that the graph takes.
    void check_size(int height, int width) const;
    // threads: 0 for one per core. Throws Error as check_size does.
    Network open(int height, int width, int threads) const;

private:
    void open_smallest() const;

    std::shared_ptr<ort::Library> library_;
    std::string bytes_, device_, metadata_;
    std::optional<ops::InstructionSet> kernels_;
    Contract contract_;
};

}  // namespace lowdose
