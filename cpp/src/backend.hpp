// Where the frames of a stream lie, and the arithmetic on them beside the network: in the computer's memory, or on a
// GPU, where they stay and only the newest frame and the result cross the bus.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "convert.hpp"
#include "correction.hpp"
#include "cuda/device.hpp"

namespace lowdose {

using Plane = std::shared_ptr<float>;  // to the first value; not to be read by the CPU where a GPU is the backend

// Frames of a detector: rows and channels that many bytes apart.
struct FrameShape {
    int n_channels, height, width;
    size_t plane() const { return static_cast<size_t>(height) * static_cast<size_t>(width); }
    size_t n_values() const { return plane() * static_cast<size_t>(n_channels); }
};
struct RawFrame {
    const void* data;
    std::ptrdiff_t row_stride_bytes, channel_stride_bytes;
    bool on_gpu = false;
};

class Backend {
public:
    virtual ~Backend() = default;

    virtual bool on_gpu() const = 0;
    // Held while a stream works: one GPU, one after the other.
    virtual std::unique_lock<std::recursive_mutex> lock() = 0;
    // Memory of the computer that the GPU reads and writes itself, used again when it is given back; null where there
    // is no GPU, and where as much is in use that more would be missed elsewhere.
    virtual std::shared_ptr<void> fast_memory(size_t n_bytes) = 0;

    virtual Plane zeros(size_t n_values) = 0;
    virtual void clear(float* values, size_t n_values) = 0;
    virtual void copy(const float* from, size_t n_values, float* to) = 0;
    // The values where the CPU reads them: themselves, or copied to `room`.
    virtual const float* on_host(const float* values, size_t n_values, std::vector<float>& room) = 0;

    // out = the corrected frame - offset, (channels, height, width). Throws Error when a pixel is NaN or infinite.
    virtual void to_float(const RawFrame& frame, DType dtype, const Correction& correction, float offset,
                          float* out) = 0;
    virtual void subtract(float* values, size_t n_values, float offset) = 0;
    // Per channel the sum of a frame and the sum of its squares.
    virtual void sums(const float* frame, std::vector<double>& sums) = 0;
    // out = before + share * (from - before)
    virtual void blend(const float* before, const float* from, float share, size_t n_values, float* out) = 0;
    // As from_float of convert.hpp, to the memory of the computer or, with on_gpu, of the GPU. It is there on return.
    virtual void from_float(const float* in, size_t n_values, float offset, DType dtype, void* out, bool on_gpu) = 0;
};

std::unique_ptr<Backend> host_backend(const FrameShape& shape);
// queue: that of the network.
std::unique_ptr<Backend> cuda_backend(std::shared_ptr<cuda::Queue> queue, const FrameShape& shape);

}  // namespace lowdose
