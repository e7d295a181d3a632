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
    std::vector<const float*> frames;  // in the order of the taps, for each those of the batch
    std::vector<const float*> states;  // oldest first
    std::vector<float> offset, scale;  // per frame of the batch and channel, where the network takes them
    int weight_set = 0;
    float cutoff = 0;           // where the network takes it
    float* denoised = nullptr;  // (batch, n_outputs, height, width)
    float* state = nullptr;     // (state_channels, height, width), where the network gives it
    bool on_gpu = false;        // so are the planes, and the results need not be there on return
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
    // Of our kernels, such as "avx2" or "cuda"; empty: none are used.
    std::string kernels() const;
    // For the transforms that the core itself computes.
    ops::InstructionSet transforms() const { return kernels_.value_or(ops::InstructionSet::portable); }
    const ort::Library& runtime() const { return *library_; }

    // Throws Error when the size is below min_size_px or not the one that the graph takes.
    void check_size(int height, int width) const;
    // Where sessions on CUDA put their work; null for other devices. Throws Error where the GPU cannot be opened.
    std::shared_ptr<cuda::Queue> new_queue() const;

private:
    friend class Network;
    void open_smallest() const;

    std::shared_ptr<ort::Library> library_;
    std::string bytes_, device_, metadata_;
    std::optional<ops::InstructionSet> kernels_;
    Contract contract_;
};

// Frames or tiles that one run takes.
struct RunShape {
    int height, width;
    int batch = 1;
};

// Sessions for one shape. On the CPU weight set and cutoff are inputs. A device that must take all of a
// graph has them as constants, and a session for those that it was last asked for.
class Network {
public:
    // The model must outlive the network. threads: 0 for one per core. device: the model's, or "cpu" for what must be
    // the same on every device. queue: of Model::new_queue, for the model's. Throws Error as Model::check_size does.
    Network(const Model& model, const RunShape& shape, int threads, const std::string& device,
            std::shared_ptr<cuda::Queue> queue);

    void prepare(int weight_set, float cutoff);
    void run(const Run& run);

private:
    void open(int weight_set, float cutoff);
    void bind(const Run& run);
    void run_gathered(const Run& run);
    void copy(void* to, const void* from, size_t n_bytes);

    const Model& model_;
    RunShape shape_;
    ort::SessionOptions options_;
    bool constant_settings_;
    std::vector<ort::Tensor> inputs_, outputs_;
    std::shared_ptr<cuda::Queue> queue_;
    // Memory of the inputs and, behind them, the outputs: on the GPU, and where the planes of a batch are brought
    // together. Else the session reads and writes that of the run.
    std::vector<std::shared_ptr<void>> fixed_;
    std::unique_ptr<ort::Session> session_;
    std::unique_ptr<ort::Bindings> bindings_;
    std::vector<const void*> given_;  // by the run: the data of all inputs and outputs
    std::int64_t weight_set_ = 0;     // scalars need an address too
    float cutoff_ = 0;
};

}  // namespace lowdose
