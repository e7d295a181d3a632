// A model's network, opened for one shape.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model.hpp"

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

// On the CPU weight set and cutoff are inputs. A device that must take all of a graph has them as constants, and a
// graph for those that it was last asked for.
class Network {
public:
    // The model must outlive the network. The other arguments are those of GraphOptions. Throws Error.
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
    bool constant_settings_;
    std::shared_ptr<cuda::Queue> queue_;
    GraphOptions options_;
    // Memory of the inputs and, behind them, the outputs: on the GPU, and where the planes of a batch are brought
    // together. Else the graph reads and writes that of the run.
    std::vector<std::shared_ptr<void>> fixed_;
    std::unique_ptr<OpenGraph> graph_;
    std::vector<const void*> given_;  // by the run: the data of all inputs and outputs
    std::int64_t weight_set_ = 0;     // scalars need an address too
    float cutoff_ = 0;
};

}  // namespace lowdose
