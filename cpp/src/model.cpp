#include "model.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <utility>

#include "error.hpp"
#include "model_bytes.hpp"
#include "tiles.hpp"

namespace lowdose {

std::string read_file(const std::string& path) {
    const auto name = std::filesystem::u8path(path);
    std::error_code unknown;
    std::string bytes;
    std::ifstream file;
    if (std::filesystem::is_regular_file(name, unknown)) file.open(name, std::ios::binary);
    if (file.is_open()) bytes.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (bytes.empty()) throw Error("cannot read the model file " + path, Error::Kind::model);
    return bytes;
}

namespace {

std::vector<std::int64_t> planes(const RunShape& shape, int n) { return {shape.batch, n, shape.height, shape.width}; }

std::vector<ort::Tensor> inputs_of(const Contract& contract, const RunShape& shape, bool constant_settings) {
    using Type = ort::Tensor::Type;
    const std::vector<std::int64_t> per_channel{shape.batch, contract.n_channels, 1, 1};
    std::vector<ort::Tensor> inputs;
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

std::vector<ort::Tensor> outputs_of(const Contract& contract, const RunShape& shape) {
    using Type = ort::Tensor::Type;
    std::vector<ort::Tensor> outputs{{"denoised", Type::float32, planes(shape, contract.n_outputs())}};
    if (contract.n_states > 0) outputs.push_back({"state", Type::float32, planes(shape, contract.state_channels)});
    return outputs;
}

std::shared_ptr<void> host_memory(size_t n_bytes) {
    return {::operator new(n_bytes), [](void* memory) { ::operator delete(memory); }};
}

bool is_cuda(const std::string& device) { return device.rfind("cuda", 0) == 0; }

// The N of "cuda:N".
int index_of(const std::string& device) {
    const auto colon = device.find(':');
    return colon == std::string::npos ? 0 : static_cast<int>(std::strtol(device.c_str() + colon + 1, nullptr, 10));
}

}  // namespace

Network::Network(const Model& model, const RunShape& shape, int threads, const std::string& device,
                 std::shared_ptr<cuda::Queue> queue)
    : model_(model), shape_(shape), queue_(std::move(queue)) {
    model.check_size(shape.height, shape.width);
    const Contract& contract = model.contract_;
    const bool on_cpu = device == "cpu";
    constant_settings_ = !on_cpu && (contract.has_low_pass || contract.n_weight_sets > 1);
    options_.device = device;
    options_.threads = threads;
    options_.dimensions = {{"batch", shape.batch}, {"height", shape.height}, {"width", shape.width}};
    options_.half = contract.half;
    inputs_ = inputs_of(contract, shape, constant_settings_);
    outputs_ = outputs_of(contract, shape);
    options_.queue = queue_.get();
    if (on_cpu || queue_) options_.kernels = model.kernels_;
    if (queue_ || shape.batch > 1)
        for (const std::vector<ort::Tensor>* tensors : {&inputs_, &outputs_})
            for (const ort::Tensor& tensor : *tensors)
                fixed_.push_back(queue_ ? queue_->allocate(tensor.n_bytes()) : host_memory(tensor.n_bytes()));
    given_.resize(inputs_.size() + outputs_.size());
    if (!constant_settings_) open(0, 0);
}

void Network::prepare(int weight_set, float cutoff) {
    if (!constant_settings_ || (session_ && weight_set == weight_set_ && cutoff == cutoff_)) return;
    open(weight_set, cutoff);
}

void Network::open(int weight_set, float cutoff) {
    weight_set_ = weight_set;
    cutoff_ = cutoff;
    std::unique_lock<std::recursive_mutex> lock;
    if (queue_) lock = std::unique_lock<std::recursive_mutex>(queue_->device().preparing());
    bindings_.reset();
    session_.reset();
    const std::string& bytes = model_.bytes_;
    session_ = std::make_unique<ort::Session>(
        model_.library_, constant_settings_ ? with_settings(bytes, weight_set, cutoff) : bytes, options_);
    bindings_ = std::make_unique<ort::Bindings>(inputs_, outputs_);
    for (size_t i = 0; i < fixed_.size(); ++i) bindings_->set(i, fixed_[i].get());
    if (!queue_) return;
    constexpr int until_recorded = 3;
    for (int i = 0; i < until_recorded; ++i) session_->run(*bindings_);
    queue_->wait();
}

void Network::run(const Run& run) {
    prepare(run.weight_set, run.cutoff);
    bind(run);
    if (!fixed_.empty()) {
        run_gathered(run);
        return;
    }
    for (size_t i = 0; i < given_.size(); ++i) bindings_->set(i, given_[i]);
    session_->run(*bindings_);
}

// In the order of inputs_of and outputs_of; the first frame of a batch stands for all.
void Network::bind(const Run& run) {
    const Contract& contract = model_.contract_;
    size_t i = 0;
    for (size_t at = 0; at < run.frames.size(); at += static_cast<size_t>(shape_.batch)) given_[i++] = run.frames[at];
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
    const auto batch = static_cast<size_t>(shape_.batch), n_taps = run.frames.size() / batch;
    for (size_t i = 0; i < run.frames.size(); ++i) {
        const size_t n_bytes = inputs_[i / batch].n_bytes() / batch;
        copy(static_cast<char*>(fixed_[i / batch].get()) + i % batch * n_bytes, run.frames[i], n_bytes);
    }
    for (size_t i = n_taps; i < inputs_.size(); ++i) copy(fixed_[i].get(), given_[i], inputs_[i].n_bytes());
    session_->run(*bindings_);
    for (size_t i = 0; i < outputs_.size(); ++i) {
        const size_t at = inputs_.size() + i;
        copy(const_cast<void*>(given_[at]), fixed_[at].get(), outputs_[i].n_bytes());
    }
    if (queue_ && !run.on_gpu) queue_->wait();
}

void Network::copy(void* to, const void* from, size_t n_bytes) {
    if (queue_)
        queue_->copy(to, from, n_bytes);
    else
        std::memcpy(to, from, n_bytes);
}

Model::Model(std::string name, std::string bytes, std::shared_ptr<ort::Library> library, const std::string& device,
             bool kernels)
    : library_(std::move(library)), bytes_(std::move(bytes)), device_(device) {
    if (kernels && library_->takes_kernels()) kernels_ = ops::instruction_set();
    ort::SessionOptions options;  // on the CPU, which takes the graph whatever the size
    options.kernels = kernels_;
    try {
        check_functions(bytes_);
        const ort::Session session(library_, bytes_, options);
        metadata_ = session.metadata("lowdose");
        contract_ = read_contract(name, metadata_);
        const std::vector<std::string> names = session.input_names();
        const auto has = [&](const std::string& input) {
            return std::find(names.begin(), names.end(), input) != names.end();
        };
        bool complete = true;  // weight_set and cutoff have defaults, so they are not in this list
        for (int tap = 0; tap < contract_.n_taps(); ++tap) complete = complete && has("frame_" + std::to_string(tap));
        complete = complete && !has("frame_" + std::to_string(contract_.n_taps()));
        for (int i = 0; i < contract_.n_states; ++i) complete = complete && has("state_" + std::to_string(i));
        complete = complete && (!contract_.takes_offset || has("offset")) && (!contract_.takes_scale || has("scale"));
        if (!complete) throw Error(name + ": the graph's inputs are not those that its metadata names");
        if (device != "cpu") open_smallest();
    } catch (const Error& error) {
        const std::string message = error.what();
        if (message.find(name) != std::string::npos || error.kind == Error::Kind::device) throw;
        throw Error("cannot open the model file " + name + ": " + message,
                    error.kind == Error::Kind::runtime ? Error::Kind::model : error.kind);
    }
}

void Model::check_size(int height, int width) const {
    const int smallest = contract_.min_size_px;
    if (height < smallest || width < smallest)
        throw Error("frames of " + std::to_string(height) + "x" + std::to_string(width) + " pixels are too small for " +
                        contract_.method + ": its kernels need at least " + std::to_string(smallest) + "x" +
                        std::to_string(smallest),
                    Error::Kind::size);
    if (contract_.height > 0 && (height != contract_.height || width != contract_.width))
        throw Error(contract_.method + " was fitted to frames of " + std::to_string(contract_.height) + "x" +
                        std::to_string(contract_.width) + " pixels and takes no others, nor tiles of them; given " +
                        std::to_string(height) + "x" + std::to_string(width),
                    Error::Kind::size);
}

std::shared_ptr<cuda::Queue> Model::new_queue() const {
    const std::vector<std::string> there = library_->providers();
    const bool has_provider = std::find(there.begin(), there.end(), "CUDAExecutionProvider") != there.end();
    if (!is_cuda(device_) || !has_provider) return nullptr;  // without it the session says what there is
    return std::make_shared<cuda::Queue>(cuda::Device::open(index_of(device_)));
}

std::string Model::kernels() const {
    if (kernels_ && device_ == "cpu") return ops::name_of(*kernels_);
    return kernels_ && is_cuda(device_) ? "cuda" : "";
}

// Whether the device is there, and takes all of the graph, must be known before the first stream.
void Model::open_smallest() const {
    const int side = round_up(contract_.min_size_px, contract_.align_px);
    const bool any_size = contract_.height == 0;
    constexpr float some_cutoff = 0.1f;  // so that a low-pass is computed
    const RunShape smallest{any_size ? side : contract_.height, any_size ? side : contract_.width};
    Network(*this, smallest, 0, device_, new_queue()).prepare(0, some_cutoff);
}

}  // namespace lowdose
