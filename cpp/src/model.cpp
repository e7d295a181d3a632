#include "model.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

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

std::vector<ort::Tensor> inputs_of(const Contract& contract, int height, int width) {
    using Type = ort::Tensor::Type;
    const std::vector<std::int64_t> per_channel{1, contract.n_channels, 1, 1};
    std::vector<ort::Tensor> inputs;
    for (int tap = 0; tap < contract.n_taps(); ++tap)
        inputs.push_back({"frame_" + std::to_string(tap), Type::float32, {1, contract.n_channels, height, width}});
    for (int i = 0; i < contract.n_states; ++i)
        inputs.push_back({"state_" + std::to_string(i), Type::float32, {1, contract.state_channels, height, width}});
    if (contract.takes_offset) inputs.push_back({"offset", Type::float32, per_channel});
    if (contract.takes_scale) inputs.push_back({"scale", Type::float32, per_channel});
    if (contract.n_weight_sets > 1) inputs.push_back({"weight_set", Type::int64, {}});
    if (contract.has_low_pass) inputs.push_back({"cutoff", Type::float32, {}});
    return inputs;
}

std::vector<ort::Tensor> outputs_of(const Contract& contract, int height, int width) {
    using Type = ort::Tensor::Type;
    std::vector<ort::Tensor> outputs{{"denoised", Type::float32, {1, contract.n_outputs(), height, width}}};
    if (contract.n_states > 0) outputs.push_back({"state", Type::float32, {1, contract.state_channels, height, width}});
    return outputs;
}

}  // namespace

Network::Network(std::unique_ptr<ort::Session> session, const Contract& contract, int height, int width)
    : session_(std::move(session)),
      contract_(contract),
      bindings_(inputs_of(contract, height, width), outputs_of(contract, height, width)) {}

// In the order of inputs_of and outputs_of.
void Network::run(const Run& run) {
    size_t i = 0;
    for (const float* frame : run.frames) bindings_.set(i++, frame);
    for (const float* state : run.states) bindings_.set(i++, state);
    if (contract_.takes_offset) bindings_.set(i++, run.offset.data());
    if (contract_.takes_scale) bindings_.set(i++, run.scale.data());
    weight_set_ = run.weight_set;
    if (contract_.n_weight_sets > 1) bindings_.set(i++, &weight_set_);
    cutoff_ = run.cutoff;
    if (contract_.has_low_pass) bindings_.set(i++, &cutoff_);
    bindings_.set(i++, run.denoised);
    if (contract_.n_states > 0) bindings_.set(i, run.state);
    session_->run(bindings_);
}

Model::Model(std::string name, std::string bytes, std::shared_ptr<ort::Library> library, const std::string& device,
             bool kernels)
    : library_(std::move(library)), bytes_(std::move(bytes)), device_(device) {
    if (kernels && device == "cpu" && library_->takes_kernels()) kernels_ = ops::instruction_set();
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

// Whether the device is there, and takes all of the graph, must be known before the first stream.
void Model::open_smallest() const {
    const int side = round_up(contract_.min_size_px, contract_.align_px);
    const bool any_size = contract_.height == 0;
    open(any_size ? side : contract_.height, any_size ? side : contract_.width, 0);
}

Network Model::open(int height, int width, int threads) const {
    check_size(height, width);
    ort::SessionOptions options;
    options.device = device_;
    options.threads = threads;
    options.kernels = kernels_;
    options.dimensions = {{"batch", 1}, {"height", height}, {"width", width}};
    return Network(std::make_unique<ort::Session>(library_, bytes_, options), contract_, height, width);
}

}  // namespace lowdose
