// Arrays on a GPU, in and out without a copy, by the DLPack protocol (dmlc/dlpack): CuPy, PyTorch and JAX speak it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "convert.hpp"

namespace lowdose {

// Whether an object says that it lies on an NVIDIA GPU.
bool is_on_gpu(const pybind11::object& object);

// An array that another library owns. It is ready for work in `queue`, a CUstream; keep the object while it is used.
struct DeviceArray {
    pybind11::object owner;
    const void* data;
    int gpu;
    std::string dtype;
    std::vector<pybind11::ssize_t> shape, strides;  // strides in bytes
};

DeviceArray take_device_array(const pybind11::object& object, void* queue);

// A result on the GPU, finished: contiguous, of the stream's output type. `torch.from_dlpack` and `cupy.from_dlpack`
// take it without a copy.
class DeviceResult {
public:
    DeviceResult(std::shared_ptr<void> memory, int gpu, DType dtype, std::vector<pybind11::ssize_t> shape)
        : memory_(std::move(memory)), gpu_(gpu), dtype_(dtype), shape_(std::move(shape)) {}

    pybind11::capsule dlpack() const;
    pybind11::tuple dlpack_device() const;
    const std::vector<pybind11::ssize_t>& shape() const { return shape_; }
    std::string dtype() const { return name_of(dtype_); }

private:
    std::shared_ptr<void> memory_;
    int gpu_;
    DType dtype_;
    std::vector<pybind11::ssize_t> shape_;
};

}  // namespace lowdose
