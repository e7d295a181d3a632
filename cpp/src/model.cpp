#include "model.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "error.hpp"
#include "json.hpp"

namespace lowdose {

namespace {

constexpr int newest_spec = 1;

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error("cannot read the model file " + path);
    return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

Contract read_contract(const std::string& path, const std::string& metadata) {
    if (metadata.empty())
        throw Error(path + " is an ONNX file without lowdose metadata: make model files with 'lowdose export'");
    const Json json = Json::parse(metadata);
    if (const int spec = json.at("spec").integer(); spec > newest_spec)
        throw Error(path + " follows spec " + std::to_string(spec) + " of the model file; this lowdose reads up to " +
                    std::to_string(newest_spec) + ": update lowdose");
    Contract contract;
    contract.method = json.at("method").string();
    if (json.at("taps").at("axis").string() != "time") throw Error(path + ": taps must lie along time");
    for (const Json& offset : json.at("taps").at("offsets").array()) contract.taps.push_back(offset.integer());
    const auto& taps = contract.taps;
    if (taps.empty() || !std::is_sorted(taps.begin(), taps.end()) || taps.front() != -taps.back() ||
        std::find(taps.begin(), taps.end(), 0) == taps.end())
        throw Error(path + ": tap offsets must ascend, be symmetrical and hold 0");
    if (json.at("boundary").string() != "periodic" || json.at("ends").string() != "mirror")
        throw Error(path + ": the boundary rule must be 'periodic' and the rule for the ends 'mirror'");
    contract.margin_px = json.at("margin_px").integer();
    contract.min_size_px = json.at("min_size_px").integer();
    contract.n_weight_sets = static_cast<int>(json.at("weight_sets").array().size());
    contract.has_low_pass = json.at("low_pass").type() == Json::Type::object;
    contract.bytes_per_px = json.at("bytes_per_px").number();
    if (contract.margin_px < 0 || contract.min_size_px < 1 || contract.n_weight_sets < 1 || contract.bytes_per_px <= 0)
        throw Error(path + ": margin_px, min_size_px, weight_sets or bytes_per_px is out of range");
    return contract;
}

}  // namespace

Network::Network(std::unique_ptr<ort::Session> session, const Contract& contract, int height, int width)
    : session_(std::move(session)), contract_(contract), height_(height), width_(width) {}

void Network::run(const std::vector<const float*>& frames, int weight_set, float cutoff, float* out) const {
    const std::vector<std::int64_t> shape{1, 1, height_, width_};
    std::vector<ort::Tensor> inputs;
    for (size_t tap = 0; tap < frames.size(); ++tap)  // ONNX Runtime does not write to its inputs
        inputs.push_back(
            {"frame_" + std::to_string(tap), ort::Tensor::Type::float32, const_cast<float*>(frames[tap]), shape});
    std::int64_t set = weight_set;
    inputs.push_back({"weight_set", ort::Tensor::Type::int64, &set, {}});
    if (contract_.has_low_pass) inputs.push_back({"cutoff", ort::Tensor::Type::float32, &cutoff, {}});
    session_->run(inputs, {{"denoised", ort::Tensor::Type::float32, out, shape}});
}

Model::Model(const std::string& path, const std::string& ort_path, const std::string& device, bool kernels)
    : library_(ort::Library::load(ort_path)), path_(path), bytes_(read_file(path)), device_(device) {
    if (kernels && device == "cpu" && library_->takes_kernels()) kernels_ = ops::instruction_set();
    ort::SessionOptions options;
    options.device = device;
    options.kernels = kernels_;
    try {
        const ort::Session session(library_, bytes_, options);
        metadata_ = session.metadata("lowdose");
        contract_ = read_contract(path, metadata_);
        const std::vector<std::string> names = session.input_names();
        const auto has = [&](const std::string& name) {
            return std::find(names.begin(), names.end(), name) != names.end();
        };
        bool complete = true;  // weight_set and cutoff have defaults, so they are not in this list
        for (int tap = 0; tap < contract_.n_taps(); ++tap) complete = complete && has("frame_" + std::to_string(tap));
        if (!complete) throw Error(path + ": the graph's inputs are not those that its metadata names");
    } catch (const Error& error) {
        const std::string message = error.what();
        if (message.find(path) != std::string::npos || message.find("device '") == 0) throw;
        throw Error("cannot open the model file " + path + ": " + message);
    }
}

void Model::check_size(int height, int width) const {
    const int smallest = contract_.min_size_px;
    if (height < smallest || width < smallest)
        throw Error("frames of " + std::to_string(height) + "x" + std::to_string(width) + " pixels are too small for " +
                    contract_.method + ": its kernels need at least " + std::to_string(smallest) + "x" +
                    std::to_string(smallest));
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
