#include "device_array.hpp"

#include <cstdint>

#include "error.hpp"

namespace py = pybind11;

namespace lowdose {

namespace {

constexpr int on_cuda = 2;
constexpr const char *capsule_name = "dltensor", *used_capsule_name = "used_dltensor";

// DLManagedTensor of dlpack.h, version 0: what every library understands.
struct Tensor {
    void* data;
    std::int32_t device_type, device_id;
    std::int32_t n_dimensions;
    std::uint8_t kind, bits;
    std::uint16_t lanes;
    std::int64_t *shape, *strides;  // in elements; no strides: contiguous
    std::uint64_t byte_offset;
};
struct ManagedTensor {
    Tensor tensor;
    void* context;
    void (*destroy)(ManagedTensor*);
};

enum Kind : std::uint8_t { integer = 0, unsigned_integer = 1, floating = 2 };

std::string type_name(const Tensor& tensor) {
    const char* kind = tensor.kind == integer ? "int" : tensor.kind == unsigned_integer ? "uint" : "float";
    if (tensor.kind > floating || tensor.lanes != 1) return "no number that lowdose knows";
    return kind + std::to_string(tensor.bits);
}

Kind kind_of(DType dtype) {
    switch (dtype) {
        case DType::f32:
        case DType::f64:
            return floating;
        case DType::i16:
            return integer;
        default:
            return unsigned_integer;
    }
}

}  // namespace

bool is_on_gpu(const py::object& object) {
    if (!py::hasattr(object, "__dlpack_device__")) return false;
    return object.attr("__dlpack_device__")().cast<py::tuple>()[0].cast<int>() == on_cuda;
}

DeviceArray take_device_array(const py::object& object, void* queue) {
    const auto stream = reinterpret_cast<std::uintptr_t>(queue);  // the array's library makes it wait for its own work
    const py::capsule capsule = object.attr("__dlpack__")(py::arg("stream") = stream);
    if (std::string(capsule.name()) != capsule_name) throw Error("a DLPack capsule that was used already");
    const Tensor& tensor = static_cast<ManagedTensor*>(capsule.get_pointer())->tensor;
    DeviceArray array{
        capsule, static_cast<const char*>(tensor.data) + tensor.byte_offset, tensor.device_id, type_name(tensor), {},
        {}};
    for (int i = 0; i < tensor.n_dimensions; ++i) array.shape.push_back(tensor.shape[i]);
    array.strides.resize(array.shape.size());
    py::ssize_t step = tensor.bits / 8;
    for (size_t i = array.shape.size(); i-- > 0; step *= array.shape[i])
        array.strides[i] = tensor.strides ? tensor.strides[i] * (tensor.bits / 8) : step;
    return array;
}

py::tuple DeviceResult::dlpack_device() const { return py::make_tuple(on_cuda, gpu_); }

py::capsule DeviceResult::dlpack() const {
    struct Shared {
        ManagedTensor managed;
        std::shared_ptr<void> memory;
        std::vector<std::int64_t> shape;
    };
    auto shared = std::make_unique<Shared>();
    shared->memory = memory_;
    shared->shape.assign(shape_.begin(), shape_.end());
    shared->managed.tensor = {memory_.get(),
                              on_cuda,
                              gpu_,
                              static_cast<std::int32_t>(shape_.size()),
                              kind_of(dtype_),
                              static_cast<std::uint8_t>(8 * size_of(dtype_)),
                              1,
                              shared->shape.data(),
                              nullptr,
                              0};
    shared->managed.context = shared.get();
    shared->managed.destroy = [](ManagedTensor* tensor) { delete static_cast<Shared*>(tensor->context); };
    PyObject* capsule = PyCapsule_New(&shared->managed, capsule_name, [](PyObject* object) {
        if (PyCapsule_IsValid(object, used_capsule_name)) return;  // the taker destroys it
        auto* tensor = static_cast<ManagedTensor*>(PyCapsule_GetPointer(object, capsule_name));
        tensor->destroy(tensor);
    });
    if (!capsule) throw py::error_already_set();
    shared.release();
    return py::reinterpret_steal<py::capsule>(capsule);
}

}  // namespace lowdose
