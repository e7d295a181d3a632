// ONNX Runtime, loaded at run time from an explicit path and called through its C function table.
// No SDK header is needed: the positions in the append-only table are in ort.cpp.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cuda/device.hpp"
#include "ops/kernels.hpp"
#include "tensor.hpp"

namespace lowdose::ort {

// One loaded ONNX Runtime and its environment. Loading the same path twice gives the same library.
class Library {
public:
    // path: in UTF-8. Throws Error when the file cannot be loaded, is no ONNX Runtime, or is too old.
    static std::shared_ptr<Library> load(const std::string& path);
    ~Library();
    Library(const Library&) = delete;
    Library& operator=(const Library&) = delete;

    const std::string& version() const { return version_; }
    // Names such as "CPUExecutionProvider", in the library's order of preference; then plug-ins that found a device.
    std::vector<std::string> providers() const;
    // Whether a device such as "cuda:1" has its provider here.
    bool has(const std::string& device) const;
    // Loads a provider that is a library of its own, once. path: in UTF-8. Throws Error when it cannot be loaded, as
    // where the driver of its device is missing.
    void add_plugin(const std::string& provider, const std::string& path);
    bool takes_kernels() const { return kernel_table_ != nullptr; }

private:
    friend class Session;
    friend class Bindings;
    Library() = default;

    template <class Function, class... Arguments>
    void call(int slot, Arguments... arguments) const;
    template <class Function, class... Arguments>
    void call_in(const void* const* table, int slot, Arguments... arguments) const;
    template <class Function>
    Function function(int slot) const;
    std::vector<const void*> devices_of(const std::string& provider) const;  // of a plug-in

    std::string version_;
    const void* const* table_ = nullptr;
    ops::Table kernel_table_ = nullptr;  // null: too old for our kernels
    const void* const* named_provider_table_ = nullptr;
    const void* const* plugin_table_ = nullptr;   // null: too old for plug-ins
    std::map<std::string, std::string> plugins_;  // path by provider
    void* env_ = nullptr;
    void* memory_info_ = nullptr;
    void* allocator_ = nullptr;
};

struct SessionOptions {
    std::string device = "cpu";  // or "cuda", "tensorrt", "rtx", "directml", each alone or with ":N"
    int threads = 0;             // 0: one per core
    std::vector<std::pair<std::string, std::int64_t>> dimensions;  // values of named dimensions
    // Our kernels run in place of function bodies: on the CPU, and with a queue those for the GPU.
    std::optional<ops::InstructionSet> kernels;
    // On cuda, tensorrt and rtx: tensors lie on the GPU, and work goes into this queue, which must outlive the session.
    // On cuda the first runs are recorded, and later ones replay the record (a CUDA graph): every tensor must stay
    // where it was.
    cuda::Queue* queue = nullptr;
    bool half = false;  // the network computes in half precision
};

class Bindings;

// A model opened for given dimensions on a given device.
class Session {
public:
    // model: the bytes of an .onnx file. Throws Error when ONNX Runtime refuses them or the device is not there.
    Session(std::shared_ptr<Library> library, const std::string& model, const SessionOptions& options);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // The value of a metadata key; empty when there is none.
    std::string metadata(const std::string& key) const;
    std::vector<std::string> input_names() const;
    // Runs the model; outputs are written to the caller's memory.
    void run(Bindings& bindings) const;

private:
    friend class Bindings;
    void* tensor_value(const Tensor& tensor, void* data) const;
    void use_queue(const cuda::Queue& queue);
    void append_provider(const SessionOptions& options, void* settings) const;
    void append_cuda(const SessionOptions& options, const std::string& index, void* settings) const;
    void append_tensorrt(const SessionOptions& options, const std::string& index, void* settings) const;
    void append_plugin(const SessionOptions& options, const char* provider, const std::string& index,
                       void* settings) const;
    void append_directml(const std::string& index, void* settings) const;

    std::shared_ptr<Library> library_;
    std::vector<std::shared_ptr<const ops::CustomOp>> kernels_;
    std::unique_ptr<void, void (*)(void*)> domain_, run_options_, device_memory_;  // null: the CPU's
    void* session_ = nullptr;
};

// The tensors of a session's runs: their names and shapes stay, the memory may be another in each run. What ONNX
// Runtime holds of a tensor is kept for every address, so that a stream, which uses the same memory again and again,
// allocates nothing. For one session and one thread.
class Bindings {
public:
    // Their memory is set later.
    Bindings(std::vector<Tensor> inputs, std::vector<Tensor> outputs);
    ~Bindings();
    Bindings(Bindings&&) = default;

    // Tensor `index` of the inputs and, behind them, the outputs is at `data` from now on: in the computer's memory,
    // with a queue the GPU's. Inputs are not written to.
    void set(size_t index, const void* data) { bound_[index].data = const_cast<void*>(data); }

private:
    friend class Session;
    struct Bound {
        Tensor tensor;
        void* data;
        std::vector<std::pair<void*, void*>> values;  // address and ONNX Runtime's value
    };
    void* value(Bound& bound, const Session& session);
    void release(Bound& bound);

    std::vector<Bound> bound_;  // inputs, then outputs
    size_t n_inputs_;
    std::vector<const char*> names_;
    std::vector<void*> values_;
    std::shared_ptr<Library> library_;  // that made the values
};

}  // namespace lowdose::ort
