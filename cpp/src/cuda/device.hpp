// One NVIDIA GPU: its memory, queues of work for it, and kernels that are compiled for it when it is opened. Driver and
// compiler (NVRTC) are loaded at run time; nothing here needs NVIDIA's headers.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace lowdose::cuda {

struct Driver;

// The N of "cuda:N", "rtx:N"; 0 where there is none.
int index_of(const std::string& device);

// Compiled kernels, on the GPU as long as the object lives.
class Module {
public:
    Module(const Driver& driver, void* context, const std::string& machine_code);
    ~Module();
    Module(Module&& other) noexcept
        : driver_(other.driver_), context_(other.context_), module_(std::exchange(other.module_, nullptr)) {}
    Module& operator=(Module&&) = delete;

    void* function(const char* name) const;

private:
    const Driver& driver_;
    void *context_, *module_ = nullptr;
};

class Device {
public:
    // index: of the GPU. The same GPU opened twice is the same object, and stays
    // open. Throws Error where there is no such GPU, driver
    // or compiler.
    static std::shared_ptr<Device> open(int index);
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    int index() const { return index_; }
    int capability() const { return capability_; }  // 89: 8.9
    // Makes the GPU the calling thread's.
    void use() const;

    // Held while a session is opened and memory is taken: another thread's calls spoil the recording of a CUDA graph.
    std::recursive_mutex& preparing() const { return preparing_; }

    // Compiles the text of a .cu file; options such as "-DN_TAPS=3". Throws Error with the compiler's words.
    Module compile(const char* text, const std::vector<std::string>& options) const;
    const Module& common() const { return *common_; }  // common.cu

private:
    friend class Queue;
    Device(const Driver& driver, int index);

    const Driver& driver_;
    int index_, device_ = 0, capability_ = 0;
    void* context_ = nullptr;
    std::unique_ptr<Module> common_;
    mutable std::recursive_mutex preparing_;
};

// What is put into a queue is done in that order; only wait() waits. Not for two threads at once.
class Queue {
public:
    explicit Queue(std::shared_ptr<Device> device);
    ~Queue();
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;

    const Device& device() const { return *device_; }
    void* handle() const { return stream_; }  // a CUstream

    // Memory of the GPU, filled with zeros, and memory of the computer that the GPU reads and writes itself. Both keep
    // the GPU open.
    std::shared_ptr<void> allocate(size_t n_bytes);
    std::shared_ptr<void> allocate_pinned(size_t n_bytes);
    // Whether the GPU reads and writes this memory of the computer itself.
    bool is_pinned(const void* memory) const;

    void copy(void* to, const void* from, size_t n_bytes);  // from and to either memory
    void clear(void* memory, size_t n_bytes);
    void wait();

    struct Size {
        unsigned x, y = 1;
    };
    // Arguments must have exactly the types of the kernel's parameters.
    template <class... Arguments>
    void launch(void* kernel, Size grid, Size block, Arguments... arguments) {
        void* pointers[] = {&arguments...};
        start(kernel, grid, block, pointers);
    }
    void start(void* kernel, Size grid, Size block, void** arguments);  // pointers to the arguments

private:
    std::shared_ptr<Device> device_;
    void* stream_ = nullptr;
};

}  // namespace lowdose::cuda
