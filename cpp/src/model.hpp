// A model file: its contract, read from the metadata, and networks opened from it for a frame size.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ort.hpp"

namespace lowdose {

// The part of the metadata (key "lowdose") that the core acts on. README.md of export/ describes the whole.
struct Contract {
    std::string method;
    std::vector<int> taps;  // offsets along time, ascending, 0 among them
    int margin_px;          // how far an output pixel sees
    int min_size_px;        // smallest height and width
    int n_weight_sets;      // sizes of the bank; 1 when there is no choice
    bool has_low_pass;      // takes the input `cutoff`
    double bytes_per_px;    // memory of one run, measured at export

    int reach() const { return taps.back(); }  // frames needed before and after
    int n_taps() const { return static_cast<int>(taps.size()); }
};

// A session for one frame or tile size.
class Network {
public:
    Network(std::unique_ptr<ort::Session> session, const Contract& contract, int height, int width);

    // frames: n_taps pointers to (height, width) float32 in the order of the taps; out: (height, width).
    void run(const std::vector<const float*>& frames, int weight_set, float cutoff, float* out) const;

private:
    std::unique_ptr<ort::Session> session_;
    Contract contract_;
    int height_, width_;
};

class Model {
public:
    // path: the .onnx file; ort_path: the ONNX Runtime library; device as in ort::SessionOptions.
    // kernels: use our compiled kernels where they can be (on the CPU), instead of the functions in the file.
    // Throws Error when the file cannot be read, is not ONNX, or breaks the contract.
    Model(const std::string& path, const std::string& ort_path, const std::string& device, bool kernels);

    const std::string& metadata() const { return metadata_; }  // JSON
    const Contract& contract() const { return contract_; }
    const std::string& device() const { return device_; }
    const std::optional<ops::InstructionSet>& kernels() const { return kernels_; }  // empty: none are used
    // For the transforms that the core itself computes.
    ops::InstructionSet transforms() const { return kernels_.value_or(ops::InstructionSet::portable); }
    const ort::Library& runtime() const { return *library_; }

    // Throws Error when the size is below min_size_px.
    void check_size(int height, int width) const;
    // threads: 0 for one per core. Throws Error as check_size does.
    Network open(int height, int width, int threads) const;

private:
    std::shared_ptr<ort::Library> library_;
    std::string path_, bytes_, device_, metadata_;
    std::optional<ops::InstructionSet> kernels_;
    Contract contract_;
};

}  // namespace lowdose
