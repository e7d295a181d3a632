#include "engine_model.hpp"

#include <utility>
#include <vector>

#include "error.hpp"
#include "tiles.hpp"

namespace lowdose {

namespace {

class OpenedEngine final : public OpenGraph {
public:
    OpenedEngine(const EngineModel::Open& open, const GraphOptions& options) : open_(open), queue_(*options.queue) {
        for (const std::vector<Tensor>* tensors : {&options.inputs, &options.outputs})
            for (const Tensor& tensor : *tensors) names_.push_back(tensor.name);
    }

    void set(size_t index, const void* data) override {
        addresses_[names_[index]] = reinterpret_cast<std::uintptr_t>(data);
    }

    void run() override {
        queue_.device().use();
        if (!start_) start_ = open_(addresses_);
        start_(reinterpret_cast<std::uintptr_t>(queue_.handle()));
    }

private:
    const EngineModel::Open& open_;
    cuda::Queue& queue_;
    std::vector<std::string> names_;
    std::map<std::string, std::uintptr_t> addresses_;
    EngineModel::Start start_;
};

std::string text_of(int height, int width) { return std::to_string(height) + "x" + std::to_string(width); }

}  // namespace

EngineModel::EngineModel(const std::string& name, std::string metadata, const BuiltIn& built_in,
                         const std::string& device, Open open)
    : built_in_(built_in), open_(std::move(open)) {
    device_ = device;
    metadata_ = std::move(metadata);
    contract_ = read_contract(name, metadata_);
    contract_.bytes_per_px = 0;  // what it takes of the GPU is final, and no cap makes it less
}

void EngineModel::check_size(int height, int width) const {
    const RunShape& only = built_in_.frames;
    if (height != only.height || width != only.width)
        throw Error("this engine was built for frames of " + text_of(only.height, only.width) + " pixels, given " +
                        text_of(height, width) + ": build one for that size",
                    Error::Kind::size);
}

std::shared_ptr<cuda::Queue> EngineModel::new_queue() const {
    return std::make_shared<cuda::Queue>(cuda::Device::open(cuda::index_of(device_)));
}

std::unique_ptr<OpenGraph> EngineModel::open(const GraphOptions& options) const {
    const auto refuse = [](const std::string& has, const std::string& wanted) {
        throw Error("this engine was built for " + has + ", not for " + wanted + ": build one for that",
                    Error::Kind::argument);
    };
    const RunShape &shape = options.shape, &only = built_in_.frames;
    const int height = round_up(only.height, contract_.align_px), width = round_up(only.width, contract_.align_px);
    if (shape.batch != only.batch)
        refuse("batches of " + std::to_string(only.batch), "batches of " + std::to_string(shape.batch));
    if (shape.height != height || shape.width != width)
        refuse("whole frames", "tiles of " + text_of(shape.height, shape.width) + " pixels");
    if (options.constant && options.constant->weight_set != built_in_.settings.weight_set)
        refuse("weight set " + std::to_string(built_in_.settings.weight_set),
               "weight set " + std::to_string(options.constant->weight_set));
    if (options.constant && options.constant->cutoff != built_in_.settings.cutoff)
        refuse("the cutoff " + std::to_string(built_in_.settings.cutoff),
               "the cutoff " + std::to_string(options.constant->cutoff));
    return std::make_unique<OpenedEngine>(open_, options);
}

}  // namespace lowdose
