#include "ort.hpp"

#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>

#include "cuda/ops.hpp"
#include "denormals.hpp"
#include "error.hpp"
#include "ort_call.hpp"
#include "shared_library.hpp"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#endif

namespace lowdose::ort {

namespace {

// The oldest table that holds every position used below (ONNX Runtime 1.11 and later).
constexpr std::uint32_t api_version = 11;

constexpr int create_env = 3, disable_telemetry = 6, create_session_from_array = 8, run_session = 9,
              create_session_options = 10, set_log_severity = 22, set_intra_op_threads = 24, create_op_domain = 26,
              add_op = 27, add_op_domain = 28, session_input_count = 30, session_input_name = 36,
              create_tensor_with_data = 49, create_run_options = 39, create_memory_info = 68,
              create_cpu_memory_info = 69, allocator_free = 76, default_allocator = 78, release_env = 92,
              release_memory_info = 94, release_session = 95, release_value = 96, release_run_options = 97,
              release_session_options = 100, release_op_domain = 101, session_metadata = 111, metadata_lookup = 116,
              release_metadata = 118, override_dimension = 124, add_config_entry = 130, add_run_config_entry = 165;
constexpr std::uint32_t named_provider_api_version = 12, plugin_api_version = 22;

// Only what ends the process is printed: errors come back as statuses, and a host's console is not ours.
constexpr int silent = 4;

// Since 1.29, ONNX Runtime tells its maker over the network of models and runs, and has threads for it, unless this
// variable is set when it starts. A microscope's PC must not; who wants it sets the variable to 0.
void refuse_telemetry() {
#ifdef _WIN32
    if (GetEnvironmentVariableW(L"ORT_DISABLE_TELEMETRY", nullptr, 0) == 0)
        SetEnvironmentVariableW(L"ORT_DISABLE_TELEMETRY", L"1");
#else
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
#endif
}

// The N of version 1.N.x.
std::uint32_t newest_api(const std::string& version) {
    std::uint32_t minor = 0;
    if (version.rfind("1.", 0) == 0)
        for (size_t i = 2; i < version.size() && version[i] >= '0' && version[i] <= '9'; ++i)
            minor = minor * 10 + static_cast<std::uint32_t>(version[i] - '0');
    return minor;
}

struct ApiBase {
    const void* const* (*get_api)(std::uint32_t version);
    const char* (*version)();
};

}  // namespace

std::shared_ptr<Library> Library::load(const std::string& given) {
    static std::mutex mutex;
    static std::map<std::string, std::weak_ptr<Library>> loaded;
    const std::lock_guard<std::mutex> lock(mutex);
    // A bare name would be searched for, and found in a folder of the system.
    const std::string path = std::filesystem::absolute(std::filesystem::u8path(given)).u8string();
    if (auto known = loaded[path].lock()) return known;

    refuse_telemetry();
    std::string problem;
    void* handle = open_library(path, problem);
    if (!handle) throw Error("cannot load ONNX Runtime from " + path + ": " + problem, Error::Kind::runtime);
    const auto get_base = reinterpret_cast<const ApiBase* (*)()>(symbol(handle, "OrtGetApiBase"));
    if (!get_base) {
        close_library(handle);
        throw Error(path + " is not ONNX Runtime: it has no OrtGetApiBase", Error::Kind::runtime);
    }
    const ApiBase* base = get_base();

    std::shared_ptr<Library> library(new Library);
    library->version_ = base->version();
    const std::uint32_t newest = newest_api(library->version_);  // asked for more, it prints
    if (newest >= api_version) library->table_ = base->get_api(api_version);
    if (!library->table_) {
        const std::string version = library->version_;
        close_library(handle);
        throw Error("ONNX Runtime " + version + " in " + path + " is too old; 1.11 or later is needed",
                    Error::Kind::runtime);
    }
    if (newest >= ops::kernel_api_version) library->kernel_table_ = base->get_api(ops::kernel_api_version);
    if (newest >= named_provider_api_version)
        library->named_provider_table_ = base->get_api(named_provider_api_version);
    if (newest >= plugin_api_version) library->plugin_table_ = base->get_api(plugin_api_version);
    constexpr int device_allocator = 0, default_memory = 0;
    library->call<Status (*)(int, const char*, void**)>(create_env, silent, "lowdose", &library->env_);
    library->call<Status (*)(void*)>(disable_telemetry, library->env_);  // events for the system's tracing, too
    library->call<Status (*)(int, int, void**)>(create_cpu_memory_info, device_allocator, default_memory,
                                                &library->memory_info_);
    library->call<Status (*)(void**)>(default_allocator, &library->allocator_);
    loaded[path] = library;
    return library;
}

// The shared library itself stays loaded: its threads may outlive the last session.
Library::~Library() {
    if (memory_info_) function<Release>(release_memory_info)(memory_info_);
    if (env_) function<Release>(release_env)(env_);
}

Session::Session(std::shared_ptr<Library> library, const std::string& model, const SessionOptions& options)
    : library_(std::move(library)),
      domain_(nullptr, library_->function<Release>(release_op_domain)),
      run_options_(nullptr, library_->function<Release>(release_run_options)),
      device_memory_(nullptr, library_->function<Release>(release_memory_info)) {
    const DenormalsAsZero denormals;  // ONNX Runtime changes the thread that opens its first session; this undoes it
    const Library& api = *library_;
    void* settings = nullptr;
    api.call<Status (*)(void**)>(create_session_options, &settings);
    const Guard release_settings(api.function<Release>(release_session_options), settings);
    api.call<Status (*)(void*, int)>(set_log_severity, settings, silent);
    api.call<Status (*)(void*, int)>(set_intra_op_threads, settings, options.threads);
    const auto configure = [&](const char* key, const char* value) {
        api.call<Status (*)(void*, const char*, const char*)>(add_config_entry, settings, key, value);
    };
    configure("session.set_denormal_as_zero", "1");
    for (const auto& [name, value] : options.dimensions)
        api.call<Status (*)(void*, const char*, std::int64_t)>(override_dimension, settings, name.c_str(), value);

    append_provider(options, settings);
    if (options.queue) use_queue(*options.queue);
    if (options.kernels) {
        kernels_ = options.queue ? cuda::kernel_ops(api.kernel_table_, *options.queue)
                                 : ops::kernel_ops(api.kernel_table_, *options.kernels);
        void* domain = nullptr;
        api.call<Status (*)(const char*, void**)>(create_op_domain, "lowdose", &domain);
        domain_.reset(domain);
        for (const auto& op : kernels_) api.call<Status (*)(void*, const void*)>(add_op, domain, op.get());
        api.call<Status (*)(void*, void*)>(add_op_domain, settings, domain);
    }
    try {
        api.call<Status (*)(const void*, const void*, size_t, const void*, void**)>(
            create_session_from_array, api.env_, model.data(), model.size(), settings, &session_);
    } catch (const Error& error) {
        if (options.device == "cpu") throw;
        throw Error("device '" + options.device + "' cannot run the model: " + error.what(), Error::Kind::device);
    }
}

// Tensors lie on the GPU from now on, and a run only puts its work into the queue.
void Session::use_queue(const cuda::Queue& queue) {
    const Library& api = *library_;
    constexpr int device_allocator = 0, default_memory = 0;
    void* memory = nullptr;
    api.call<Status (*)(const char*, int, int, int, void**)>(create_memory_info, "Cuda", device_allocator,
                                                             queue.device().index(), default_memory, &memory);
    device_memory_.reset(memory);
    void* run_options = nullptr;
    api.call<Status (*)(void**)>(create_run_options, &run_options);
    run_options_.reset(run_options);
    api.call<Status (*)(void*, const char*, const char*)>(add_run_config_entry, run_options,
                                                          "disable_synchronize_execution_providers", "1");
}

Session::~Session() {
    if (session_) library_->function<Release>(release_session)(session_);
}

std::string Session::metadata(const std::string& key) const {
    const Library& api = *library_;
    void* map = nullptr;
    api.call<Status (*)(const void*, void**)>(session_metadata, session_, &map);
    const Guard release_map(api.function<Release>(release_metadata), map);
    char* value = nullptr;
    api.call<Status (*)(const void*, void*, const char*, char**)>(metadata_lookup, map, api.allocator_, key.c_str(),
                                                                  &value);
    if (!value) return {};
    std::string text(value);
    api.call<Status (*)(void*, void*)>(allocator_free, api.allocator_, static_cast<void*>(value));
    return text;
}

std::vector<std::string> Session::input_names() const {
    const Library& api = *library_;
    size_t count = 0;
    api.call<Status (*)(const void*, size_t*)>(session_input_count, session_, &count);
    std::vector<std::string> names;
    for (size_t i = 0; i < count; ++i) {
        char* name = nullptr;
        api.call<Status (*)(const void*, size_t, void*, char**)>(session_input_name, session_, i, api.allocator_,
                                                                 &name);
        names.emplace_back(name);
        api.call<Status (*)(void*, void*)>(allocator_free, api.allocator_, static_cast<void*>(name));
    }
    return names;
}

void* Session::tensor_value(const Tensor& tensor, void* data) const {
    const size_t bytes = tensor.n_bytes();
    void* value = nullptr;
    library_->call<Status (*)(const void*, void*, size_t, const std::int64_t*, size_t, int, void**)>(
        create_tensor_with_data, device_memory_ ? device_memory_.get() : library_->memory_info_, data, bytes,
        tensor.shape.data(), tensor.shape.size(), static_cast<int>(tensor.type), &value);
    return value;
}

void Session::run(Bindings& bindings) const {
    const DenormalsAsZero denormals;
    bindings.library_ = library_;
    for (size_t i = 0; i < bindings.bound_.size(); ++i) bindings.values_[i] = bindings.value(bindings.bound_[i], *this);
    const size_t n_in = bindings.n_inputs_, n_out = bindings.bound_.size() - n_in;
    library_->call<Status (*)(void*, const void*, const char* const*, const void* const*, size_t, const char* const*,
                              size_t, void**)>(run_session, session_, run_options_.get(), bindings.names_.data(),
                                               bindings.values_.data(), n_in, bindings.names_.data() + n_in, n_out,
                                               bindings.values_.data() + n_in);
}

Bindings::Bindings(std::vector<Tensor> inputs, std::vector<Tensor> outputs)
    : n_inputs_(inputs.size()), values_(inputs.size() + outputs.size()) {
    for (std::vector<Tensor>* tensors : {&inputs, &outputs})
        for (Tensor& tensor : *tensors) bound_.push_back({std::move(tensor), nullptr, {}});
    for (const Bound& bound : bound_) names_.push_back(bound.tensor.name.c_str());
}

Bindings::~Bindings() {
    for (Bound& bound : bound_) release(bound);
}

void Bindings::release(Bound& bound) {
    for (const auto& known : bound.values) library_->function<Release>(release_value)(known.second);
    bound.values.clear();
}

void* Bindings::value(Bound& bound, const Session& session) {
    for (const auto& known : bound.values)
        if (known.first == bound.data) return known.second;
    constexpr size_t most = 2048;  // more than a stream of a movie or a usual scan has buffers
    if (bound.values.size() == most) release(bound);
    bound.values.emplace_back(bound.data, session.tensor_value(bound.tensor, bound.data));
    return bound.values.back().second;
}

}  // namespace lowdose::ort
