#include "cuda/device.hpp"

#include <cstdlib>
#include <map>

#include "cuda/sources.hpp"
#include "error.hpp"
#include "shared_library.hpp"

namespace lowdose::cuda {

int index_of(const std::string& device) {
    const auto colon = device.find(':');
    return colon == std::string::npos ? 0 : static_cast<int>(std::strtol(device.c_str() + colon + 1, nullptr, 10));
}

// The functions of libcuda that are used; names without the prefix "cu" and the suffix "_v2".
struct Driver {
    int (*init)(unsigned flags);
    int (*error_text)(int result, const char** text);
    int (*get_device)(int* device, int index);
    int (*device_attribute)(int* value, int attribute, int device);
    int (*retain_context)(void** context, int device);
    int (*set_context)(void* context);
    int (*create_stream)(void** stream, unsigned flags);
    int (*destroy_stream)(void* stream);
    int (*wait_for_stream)(void* stream);
    int (*allocate)(void** memory, size_t n_bytes);
    int (*release)(void* memory);
    int (*allocate_host)(void** memory, size_t n_bytes, unsigned flags);
    int (*release_host)(void* memory);
    int (*pointer_attribute)(void* value, int attribute, const void* memory);
    int (*copy)(void* to, const void* from, size_t n_bytes, void* stream);
    int (*fill)(void* memory, unsigned char value, size_t n_bytes, void* stream);
    int (*load_module)(void** module, const void* image);
    int (*unload_module)(void* module);
    int (*get_function)(void** function, void* module, const char* name);
    int (*launch)(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                  unsigned block_z, unsigned shared_bytes, void* stream, void** arguments, void** extra);

    Driver();
    void check(int result, const char* action) const;
};

Driver::Driver() {
    void* library = open_first({
#ifdef _WIN32
        "nvcuda.dll"
#else
        "libcuda.so.1"
#endif
    });
    find(library, "cuInit", init);
    find(library, "cuGetErrorString", error_text);
    find(library, "cuDeviceGet", get_device);
    find(library, "cuDeviceGetAttribute", device_attribute);
    find(library, "cuDevicePrimaryCtxRetain", retain_context);
    find(library, "cuCtxSetCurrent", set_context);
    find(library, "cuStreamCreate", create_stream);
    find(library, "cuStreamDestroy_v2", destroy_stream);
    find(library, "cuStreamSynchronize", wait_for_stream);
    find(library, "cuMemAlloc_v2", allocate);
    find(library, "cuMemFree_v2", release);
    find(library, "cuMemHostAlloc", allocate_host);
    find(library, "cuMemFreeHost", release_host);
    find(library, "cuPointerGetAttribute", pointer_attribute);
    find(library, "cuMemcpyAsync", copy);
    find(library, "cuMemsetD8Async", fill);
    find(library, "cuModuleLoadData", load_module);
    find(library, "cuModuleUnload", unload_module);
    find(library, "cuModuleGetFunction", get_function);
    find(library, "cuLaunchKernel", launch);
    check(init(0), "the driver");
}

void Driver::check(int result, const char* action) const {
    constexpr int out_of_memory = 2;
    if (result == 0) return;
    const char* text = nullptr;
    error_text(result, &text);
    throw Error(
        std::string("CUDA, ") + action + ": " + (text ? text : "unknown error") + " (" + std::to_string(result) + ")",
        result == out_of_memory ? Error::Kind::memory : Error::Kind::device);
}

Module::Module(const Driver& driver, void* context, const std::string& machine_code)
    : driver_(driver), context_(context) {
    driver_.check(driver_.set_context(context_), "choosing the GPU");
    driver_.check(driver_.load_module(&module_, machine_code.data()), "loading kernels");
}

Module::~Module() {
    if (!module_) return;
    driver_.set_context(context_);
    driver_.unload_module(module_);
}

void* Module::function(const char* name) const {
    void* function = nullptr;
    driver_.check(driver_.get_function(&function, module_, name), name);
    return function;
}

std::shared_ptr<Device> Device::open(int index) {
    static std::mutex mutex;
    // Never closed: CUDA's other libraries hold on to the context without being counted.
    static auto* opened = new std::map<int, std::shared_ptr<Device>>;
    const std::lock_guard<std::mutex> lock(mutex);
    if (const auto known = opened->find(index); known != opened->end()) return known->second;
    static const Driver driver;
    std::shared_ptr<Device> device(new Device(driver, index));
    device->common_ =
        std::make_unique<Module>(driver, device->context_, compiled(common_source, {}, device->capability_));
    (*opened)[index] = device;
    return device;
}

Device::Device(const Driver& driver, int index) : driver_(driver), index_(index) {
    constexpr int major = 75, minor = 76;
    driver_.check(driver_.get_device(&device_, index), ("GPU " + std::to_string(index)).c_str());
    int high = 0, low = 0;
    driver_.check(driver_.device_attribute(&high, major, device_), "compute capability");
    driver_.check(driver_.device_attribute(&low, minor, device_), "compute capability");
    capability_ = 10 * high + low;
    driver_.check(driver_.retain_context(&context_, device_), "opening the GPU");
    use();
}

void Device::use() const { driver_.check(driver_.set_context(context_), "choosing the GPU"); }

Module Device::compile(const char* text, const std::vector<std::string>& options) const {
    return Module(driver_, context_, compiled(text, options, capability_));
}

Queue::Queue(std::shared_ptr<Device> device) : device_(std::move(device)) {
    constexpr unsigned not_blocking = 1;  // waits for no work of others
    device_->use();
    device_->driver_.check(device_->driver_.create_stream(&stream_, not_blocking), "a queue");
}

Queue::~Queue() {
    device_->driver_.set_context(device_->context_);
    device_->driver_.wait_for_stream(stream_);
    device_->driver_.destroy_stream(stream_);
}

std::shared_ptr<void> Queue::allocate(size_t n_bytes) {
    const std::lock_guard<std::recursive_mutex> lock(device_->preparing());
    device_->use();
    void* memory = nullptr;
    device_->driver_.check(device_->driver_.allocate(&memory, n_bytes ? n_bytes : 1), "allocating memory");
    const std::shared_ptr<void> owner(memory, [device = device_](void* owned) {
        device->driver_.set_context(device->context_);
        device->driver_.release(owned);
    });
    clear(memory, n_bytes);
    return owner;
}

std::shared_ptr<void> Queue::allocate_pinned(size_t n_bytes) {
    const std::lock_guard<std::recursive_mutex> lock(device_->preparing());
    device_->use();
    void* memory = nullptr;
    device_->driver_.check(device_->driver_.allocate_host(&memory, n_bytes ? n_bytes : 1, 0), "pinning memory");
    return {memory, [device = device_](void* owned) {
                device->driver_.set_context(device->context_);
                device->driver_.release_host(owned);
            }};
}

bool Queue::is_pinned(const void* memory) const {
    constexpr int memory_type = 2;
    constexpr unsigned of_the_computer = 1;
    device_->use();
    unsigned type = 0;  // an error is the answer for memory that the driver does not know
    return device_->driver_.pointer_attribute(&type, memory_type, memory) == 0 && type == of_the_computer;
}

void Queue::copy(void* to, const void* from, size_t n_bytes) {
    device_->use();
    if (n_bytes) device_->driver_.check(device_->driver_.copy(to, from, n_bytes, stream_), "copying");
}

void Queue::clear(void* memory, size_t n_bytes) {
    device_->use();
    if (n_bytes) device_->driver_.check(device_->driver_.fill(memory, 0, n_bytes, stream_), "clearing");
}

void Queue::wait() {
    device_->use();
    device_->driver_.check(device_->driver_.wait_for_stream(stream_), "waiting for the GPU");
}

void Queue::start(void* kernel, Size grid, Size block, void** arguments) {
    device_->use();
    device_->driver_.check(
        device_->driver_.launch(kernel, grid.x, grid.y, 1, block.x, block.y, 1, 0, stream_, arguments, nullptr),
        "starting a kernel");
}

}  // namespace lowdose::cuda
