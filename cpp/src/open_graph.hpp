// A model's graph, opened for final shapes: a session of ONNX Runtime, or an engine on TensorRT's own runtime.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cuda/device.hpp"
#include "tensor.hpp"

namespace lowdose {

// Frames or tiles that one run takes.
struct RunShape {
    int height, width;
    int batch = 1;
};

// Of the graph, where they are constants and not inputs.
struct ConstantSettings {
    int weight_set;
    float cutoff;
};

struct GraphOptions {
    RunShape shape;
    std::vector<Tensor> inputs, outputs;
    std::string device;  // the model's, or "cpu" for what must be the same on every device
    int threads = 0;     // 0: one per core
    std::optional<ConstantSettings> constant;
    // Of Model::new_queue, must outlive the graph. With it, tensors lie on the GPU and stay where they were in the
    // first run, and a run only puts its work into the queue.
    cuda::Queue* queue = nullptr;
};

class OpenGraph {
public:
    virtual ~OpenGraph() = default;

    // Tensor `index` of the inputs and, behind them, the outputs is at `data` from now on. Inputs are not written to.
    virtual void set(size_t index, const void* data) = 0;
    virtual void run() = 0;
};

}  // namespace lowdose
