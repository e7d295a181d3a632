// Which devices an ONNX Runtime has, and sessions on them.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <mutex>
#include <set>

#include "ort_call.hpp"

namespace lowdose::ort {

namespace {

// Up to disable_mem_pattern of the oldest table, the others of newer ones.
constexpr int available_providers = 125, release_providers = 126, add_config_entry = 130,
              append_tensorrt_provider = 170, create_tensorrt = 171, update_tensorrt = 172, release_tensorrt = 174,
              append_cuda_provider = 204, create_cuda = 205, update_cuda = 206, release_cuda = 208,
              disable_mem_pattern = 17, append_named = 216, register_plugin_library = 301, plugin_devices = 303,
              append_plugin_devices = 304, plugin_device_provider = 312;

struct Kind {
    const char *device, *provider;
};
constexpr Kind kinds[] = {{"cpu", "CPUExecutionProvider"},
                          {"cuda", "CUDAExecutionProvider"},
                          {"tensorrt", "TensorrtExecutionProvider"},
                          {"rtx", "NvTensorRTRTXExecutionProvider"},
                          {"directml", "DmlExecutionProvider"}};

// Of a device such as "cuda:1"; null where its provider is not among `there`.
const Kind* find_kind(const std::string& device, const std::vector<std::string>& there) {
    const std::string name = device.substr(0, device.find(':'));
    const auto found = std::find_if(std::begin(kinds), std::end(kinds), [&](const Kind& known) {
        return name == known.device && std::find(there.begin(), there.end(), known.provider) != there.end();
    });
    return found == std::end(kinds) ? nullptr : found;
}

// Providers must not be unloaded: what they leave in CUDA's libraries and in threads would point into nothing.
void keep(const std::shared_ptr<Library>& library) {
    static std::mutex mutex;
    static auto* kept = new std::set<std::shared_ptr<Library>>;
    const std::lock_guard<std::mutex> lock(mutex);
    kept->insert(library);
}

std::string join(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

}  // namespace

bool Library::has(const std::string& device) const { return find_kind(device, providers()) != nullptr; }

std::vector<std::string> Library::providers() const {
    char** names = nullptr;
    int count = 0;
    call<Status (*)(char***, int*)>(available_providers, &names, &count);
    std::vector<std::string> result(names, names + count);
    call<Status (*)(char**, int)>(release_providers, names, count);
    for (const auto& [provider, path] : plugins_)
        if (!devices_of(provider).empty()) result.push_back(provider);
    return result;
}

void Library::add_plugin(const std::string& provider, const std::string& path) {
    if (plugins_.count(provider)) return;
    if (!plugin_table_)
        throw Error("ONNX Runtime " + version_ + " takes no plug-ins; 1.22 or later does", Error::Kind::device);
    const auto file = std::filesystem::absolute(std::filesystem::u8path(path));
    using Char = std::filesystem::path::value_type;
    call_in<Status (*)(void*, const char*, const Char*)>(plugin_table_, register_plugin_library, env_, provider.c_str(),
                                                         file.c_str());
    plugins_[provider] = path;
}

std::vector<const void*> Library::devices_of(const std::string& provider) const {
    const void* const* devices = nullptr;
    size_t count = 0;
    call_in<Status (*)(const void*, const void* const**, size_t*)>(plugin_table_, plugin_devices, env_, &devices,
                                                                   &count);
    const auto name_of =
        reinterpret_cast<const char* (*)(const void*)>(const_cast<void*>(plugin_table_[plugin_device_provider]));
    std::vector<const void*> found;
    for (size_t i = 0; i < count; ++i)
        if (provider == name_of(devices[i])) found.push_back(devices[i]);
    return found;
}

// What the device does not take would run on the CPU without a word, were that not forbidden here.
void Session::append_provider(const SessionOptions& options, void* settings) const {
    const Library& api = *library_;
    const std::string& device = options.device;
    const auto colon = device.find(':');
    const std::string name = device.substr(0, colon),
                      index = colon == std::string::npos ? "0" : device.substr(colon + 1);
    const std::vector<std::string> there = api.providers();
    const Kind* kind = find_kind(device, there);
    if (!kind)
        throw Error(
            "device '" + device + "' is not available: this ONNX Runtime " + api.version() + " has " + join(there),
            Error::Kind::device);
    if (name == "cpu") return;
    keep(library_);
    api.call<Status (*)(void*, const char*, const char*)>(add_config_entry, settings, "session.disable_cpu_ep_fallback",
                                                          "1");
    try {
        if (name == "rtx")
            append_plugin(options, kind->provider, index, settings);
        else if (name == "directml")
            append_directml(index, settings);
        else if (name == "cuda")
            append_cuda(options, index, settings);
        else
            append_tensorrt(options, index, settings);
    } catch (const Error& error) {
        throw Error("device '" + device + "' cannot be used: " + error.what(), Error::Kind::device);
    }
}

namespace {

// Provider options, with the values that they point to.
class Pairs {
public:
    void add(const char* key, std::string value) {
        keys_.push_back(key);
        texts_.push_back(std::move(value));
    }
    // Work goes into the queue; all providers for NVIDIA's GPUs call it so.
    void add_queue(const cuda::Queue* queue) {
        if (!queue) return;
        add("has_user_compute_stream", "1");
        add("user_compute_stream", std::to_string(reinterpret_cast<std::uintptr_t>(queue->handle())));
    }
    const char* const* keys() const { return keys_.data(); }
    const char* const* values() {
        values_.clear();
        for (const std::string& text : texts_) values_.push_back(text.c_str());
        return values_.data();
    }
    size_t size() const { return keys_.size(); }

private:
    std::vector<const char*> keys_, values_;
    std::vector<std::string> texts_;
};

}  // namespace

// float32 means float32: TF32, the default on newer GPUs, has 10 bits, which show. Convolutions: for float32 cuDNN's
// exhaustive search finds the fastest; for float16 it looks at none that use the tensor cores, the heuristic does (seen
// with ONNX Runtime 1.31.1 and cuDNN 9.19).
void Session::append_cuda(const SessionOptions& options, const std::string& index, void* settings) const {
    const Library& api = *library_;
    void* device_options = nullptr;
    api.call<Status (*)(void**)>(create_cuda, &device_options);
    const Guard release_device(api.function<Release>(release_cuda), device_options);
    Pairs pairs;
    pairs.add("device_id", index);
    pairs.add("use_tf32", "0");
    pairs.add("cudnn_conv_algo_search", options.half ? "HEURISTIC" : "EXHAUSTIVE");
    pairs.add_queue(options.queue);
    if (options.queue) pairs.add("enable_cuda_graph", "1");
    api.call<Status (*)(void*, const char* const*, const char* const*, size_t)>(
        update_cuda, device_options, pairs.keys(), pairs.values(), pairs.size());
    api.call<Status (*)(void*, const void*)>(append_cuda_provider, settings, device_options);
}

void Session::append_tensorrt(const SessionOptions& options, const std::string& index, void* settings) const {
    const Library& api = *library_;
    void* device_options = nullptr;
    api.call<Status (*)(void**)>(create_tensorrt, &device_options);
    const Guard release_device(api.function<Release>(release_tensorrt), device_options);
    Pairs pairs;
    pairs.add("device_id", index);
    pairs.add_queue(options.queue);
    api.call<Status (*)(void*, const char* const*, const char* const*, size_t)>(
        update_tensorrt, device_options, pairs.keys(), pairs.values(), pairs.size());
    api.call<Status (*)(void*, const void*)>(append_tensorrt_provider, settings, device_options);
}

void Session::append_plugin(const SessionOptions& options, const char* provider, const std::string& index,
                            void* settings) const {
    const std::vector<const void*> devices = library_->devices_of(provider);
    const size_t chosen = index.size() < 6 ? std::stoul(index) : devices.size();
    if (chosen >= devices.size()) throw Error("there are " + std::to_string(devices.size()) + " of them");
    Pairs pairs;
    pairs.add_queue(options.queue);
    library_
        ->call_in<Status (*)(void*, void*, const void* const*, size_t, const char* const*, const char* const*, size_t)>(
            library_->plugin_table_, append_plugin_devices, settings, library_->env_, &devices[chosen], size_t{1},
            pairs.keys(), pairs.values(), pairs.size());
}

void Session::append_directml(const std::string& index, void* settings) const {
    const char *key = "device_id", *value = index.c_str();
    library_->call<Status (*)(void*)>(disable_mem_pattern, settings);  // DirectML plans its own memory
    library_->call_in<Status (*)(void*, const char*, const char* const*, const char* const*, size_t)>(
        library_->named_provider_table_, append_named, settings, "DML", &key, &value, size_t{1});
}

}  // namespace lowdose::ort
