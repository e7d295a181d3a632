#include "network.hpp"

#include <cstring>
#include <new>
#include <utility>

namespace lowdose {

namespace {

std::vector<std::int64_t> planes(const RunShape& shape, int n) { return {shape.batch, n, shape.height, shape.width}; }

std::vector<Tensor> inputs_of(const Contract& contract, const RunShape& shape, bool constant_settings) {
    using Type = Tensor::Type;
    const std::vector<std::int64_t> per_channel{shape.batch, contract.n_channels, 1, 1};
    std::vector<Tensor> inputs;
    for (int tap = 0; tap < contract.n_taps(); ++tap)
        inputs.push_back({"frame_" + std::to_string(tap), Type::float32, planes(shape, contract.n_channels)});
    for (int i = 0; i < contract.n_states; ++i)
        inputs.push_back({"state_" + std::to_string(i), Type::float32, planes(shape, contract.state_channels)});
    if (contract.takes_offset) inputs.push_back({"offset", Type::float32, per_channel});
    if (contract.takes_scale) inputs.push_back({"scale", Type::float32, per_channel});
    if (contract.n_weight_sets > 1 && !constant_settings) inputs.push_back({"weight_set", Type::int64, {}});
    if (contract.has_low_pass && !constant_settings) inputs.push_back({"cutoff", Type::float32, {}});
    return inputs;
}

std::vector<Tensor> outputs_of(const Contract& contract, const RunShape& shape) {
    using Type = Tensor::Type;
    std::vector<Tensor> outputs{{"denoised", Type::float32, planes(shape, contract.n_outputs())}};
    if (contract.n_states > 0) outputs.push_back({"state", Type::float32, planes(shape, contract.state_channels)});
    return outputs;
}

std::shared_ptr<void> host_memory(size_t n_bytes) {
    return {::operator new(n_bytes), [](void* memory) { ::operator delete(memory); }};
}

}  // namespace

Network::Network(const Model& model, const RunShape& shape, int threads, const std::string& device,
                 std::shared_ptr<cuda::Queue> queue)
    : model_(model), constant_settings_(device != "cpu" && model.has_settings()), queue_(std::move(queue)) {
    options_ = {shape,
                inputs_of(model.contract(), shape, constant_settings_),
                outputs_of(model.contract(), shape),
                device,
                threads,
                {},
                queue_.get()};
    if (queue_ || shape.batch > 1)
        for (const std::vector<Tensor>* tensors : {&options_.inputs, &options_.outputs})
            for (const Tensor& tensor : *tensors)
                fixed_.push_back(queue_ ? queue_->allocate(tensor.n_bytes()) : host_memory(tensor.n_bytes()));
    given_.resize(options_.inputs.size() + options_.outputs.size());
    if (!constant_settings_) open(0, 0);
}

void Network::prepare(int weight_set, float cutoff) {
    if (!constant_settings_ || (graph_ && weight_set == weight_set_ && cutoff == cutoff_)) return;
    open(weight_set, cutoff);
}

void Network::open(int weight_set, float cutoff) {
    weight_set_ = weight_set;
    cutoff_ = cutoff;
    std::unique_lock<std::recursive_mutex> lock;
    if (queue_) lock = std::unique_lock<std::recursive_mutex>(queue_->device().preparing());
    graph_.reset();
    if (constant_settings_) options_.constant = {weight_set, cutoff};
    graph_ = model_.open(options_);
    for (size_t i = 0; i < fixed_.size(); ++i) graph_->set(i, fixed_[i].get());
    if (!queue_) return;
    constexpr int until_recorded = 3;
    for (int i = 0; i < until_recorded; ++i) graph_->run();
    queue_->wait();
}

void Network::run(const Run& run) {
    prepare(run.weight_set, run.cutoff);
    bind(run);
    if (!fixed_.empty()) {
        run_gathered(run);
        return;
    }
    for (size_t i = 0; i < given_.size(); ++i) graph_->set(i, given_[i]);
    graph_->run();
}

// In the order of inputs_of and outputs_of; the first frame of a batch stands for all.
void Network::bind(const Run& run) {
    const Contract& contract = model_.contract();
    size_t i = 0;
    for (size_t at = 0; at < run.frames.size(); at += static_cast<size_t>(options_.shape.batch))
        given_[i++] = run.frames[at];
    for (const float* state : run.states) given_[i++] = state;
    if (contract.takes_offset) given_[i++] = run.offset.data();
    if (contract.takes_scale) given_[i++] = run.scale.data();
    if (!constant_settings_) {
        weight_set_ = run.weight_set;
        cutoff_ = run.cutoff;
        if (contract.n_weight_sets > 1) given_[i++] = &weight_set_;
        if (contract.has_low_pass) given_[i++] = &cutoff_;
    }
    given_[i++] = run.denoised;
    if (contract.n_states > 0) given_[i] = run.state;
}

// A replayed record reads and writes the same memory every time, and a batch lies in one piece, so each run brings its
// planes there.
void Network::run_gathered(const Run& run) {
    std::unique_lock<std::recursive_mutex> lock;
    if (queue_) lock = std::unique_lock<std::recursive_mutex>(queue_->device().preparing());
    const auto batch = static_cast<size_t>(options_.shape.batch), n_taps = run.frames.size() / batch;
    for (size_t i = 0; i < run.frames.size(); ++i) {
        const size_t n_bytes = options_.inputs[i / batch].n_bytes() / batch;
        copy(static_cast<char*>(fixed_[i / batch].get()) + i % batch * n_bytes, run.frames[i], n_bytes);
    }
    for (size_t i = n_taps; i < options_.inputs.size(); ++i)
        copy(fixed_[i].get(), given_[i], options_.inputs[i].n_bytes());
    graph_->run();
    for (size_t i = 0; i < options_.outputs.size(); ++i) {
        const size_t at = options_.inputs.size() + i;
        copy(const_cast<void*>(given_[at]), fixed_[at].get(), options_.outputs[i].n_bytes());
    }
    if (queue_ && !run.on_gpu) queue_->wait();
}

void Network::copy(void* to, const void* from, size_t n_bytes) {
    if (queue_)
        queue_->copy(to, from, n_bytes);
    else
        std::memcpy(to, from, n_bytes);
}

}  // namespace lowdose
