#include "onnx_model.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "error.hpp"
#include "model_bytes.hpp"
#include "network.hpp"
#include "tiles.hpp"

namespace lowdose {

namespace {

constexpr char engine_magic[] = "LOWDENG1";  // of runtime/lowdose/engine_file.py

std::string kind_of(const std::string& device) { return device.substr(0, device.find(':')); }

bool is_cuda(const std::string& device) { return kind_of(device) == "cuda"; }

class OpenSession final : public OpenGraph {
public:
    OpenSession(std::unique_ptr<ort::Session> session, const GraphOptions& options)
        : session_(std::move(session)), bindings_(options.inputs, options.outputs) {}

    void set(size_t index, const void* data) override { bindings_.set(index, data); }
    void run() override { session_->run(bindings_); }

private:
    std::unique_ptr<ort::Session> session_;
    ort::Bindings bindings_;
};

}  // namespace

OnnxModel::OnnxModel(std::string name, std::string bytes, std::shared_ptr<ort::Library> library,
                     const std::string& device, bool kernels)
    : library_(std::move(library)), bytes_(std::move(bytes)) {
    device_ = device;
    if (kernels && library_->takes_kernels()) kernels_ = ops::instruction_set();
    ort::SessionOptions options;  // on the CPU, which takes the graph whatever the size
    options.kernels = kernels_;
    try {
        if (bytes_.rfind(engine_magic, 0) == 0)
            throw Error("it is an engine, which lowdose.load opens in Python; give the model file that it was built of",
                        Error::Kind::model);
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

std::unique_ptr<OpenGraph> OnnxModel::open(const GraphOptions& options) const {
    const RunShape& shape = options.shape;
    check_size(shape.height, shape.width);
    ort::SessionOptions session;
    session.device = options.device;
    session.threads = options.threads;
    session.dimensions = {{"batch", shape.batch}, {"height", shape.height}, {"width", shape.width}};
    session.half = contract_.half;
    session.queue = options.queue;
    if (options.device == "cpu" || (options.queue && is_cuda(device_))) session.kernels = kernels_;
    const std::string& bytes =
        options.constant ? with_settings(bytes_, options.constant->weight_set, options.constant->cutoff) : bytes_;
    return std::make_unique<OpenSession>(std::make_unique<ort::Session>(library_, bytes, session), options);
}

std::shared_ptr<cuda::Queue> OnnxModel::new_queue() const {
    const std::string kind = kind_of(device_);
    const bool on_nvidia = kind == "cuda" || kind == "tensorrt" || kind == "rtx";
    if (!on_nvidia || !library_->has(device_)) return nullptr;  // without its provider the session says what there is
    return std::make_shared<cuda::Queue>(cuda::Device::open(cuda::index_of(device_)));
}

std::string OnnxModel::kernels() const {
    if (kernels_ && device_ == "cpu") return ops::name_of(*kernels_);
    return kernels_ && is_cuda(device_) ? "cuda" : "";
}

// Whether the device is there, and takes all of the graph, must be known before the first stream.
void OnnxModel::open_smallest() const {
    const int side = round_up(contract_.min_size_px, contract_.align_px);
    const bool any_size = contract_.height == 0;
    constexpr float some_cutoff = 0.1f;  // so that a low-pass is computed
    const RunShape smallest{any_size ? side : contract_.height, any_size ? side : contract_.width};
    Network(*this, smallest, 0, device_, new_queue()).prepare(0, some_cutoff);
}

}  // namespace lowdose
