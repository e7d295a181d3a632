// ONNX Runtime's interface for custom operators, as far as kernels need it. Nothing here needs the SDK's headers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lowdose::ops {

// The table of functions that an ONNX Runtime of this version or newer offers (KernelContext_ParallelFor came with it).
constexpr std::uint32_t kernel_api_version = 17;
using Table = const void* const*;

using Status = void*;  // null: success
struct Context;        // of one call of a kernel
struct ShapeContext;

// OrtCustomOp of API version 17.
struct CustomOp {
    std::uint32_t version;
    void* (*create_kernel)(const CustomOp*, const void* api, const void* info);
    const char* (*name)(const CustomOp*);
    const char* (*execution_provider)(const CustomOp*);
    int (*input_type)(const CustomOp*, size_t);
    size_t (*n_inputs)(const CustomOp*);
    int (*output_type)(const CustomOp*, size_t);
    size_t (*n_outputs)(const CustomOp*);
    void (*compute)(void* kernel, Context*);
    void (*destroy_kernel)(void* kernel);
    int (*input_characteristic)(const CustomOp*, size_t);
    int (*output_characteristic)(const CustomOp*, size_t);
    int (*input_memory)(const CustomOp*, size_t);
    int (*variadic_input_min_arity)(const CustomOp*);
    int (*variadic_input_homogeneity)(const CustomOp*);
    int (*variadic_output_min_arity)(const CustomOp*);
    int (*variadic_output_homogeneity)(const CustomOp*);
    Status (*create_kernel_v2)(const CustomOp*, const void* api, const void* info, void** kernel);
    Status (*compute_v2)(void* kernel, Context*);
    Status (*infer_output_shape)(const CustomOp*, ShapeContext*);
    int (*start_version)(const CustomOp*);
    int (*end_version)(const CustomOp*);
};

enum class ElementType { undefined = 0, float32 = 1, int64 = 7 };
enum class Characteristic { required = 0, optional = 1, variadic = 2 };

// An input of a kernel: shape without copies to the heap.
struct Input {
    static constexpr size_t most_dimensions = 5;
    ElementType type;
    size_t rank;
    std::int64_t shape[most_dimensions];
    const void* data;

    const float* floats() const { return static_cast<const float*>(data); }
};

std::string shape_text(const Input& input);  // such as 1x1x512x512

// What a kernel calls. Functions throw Failure when ONNX Runtime reports an error.
struct Failure {
    Status status;
};

class Api {
public:
    explicit Api(Table table) : table_(table) {}

    size_t n_inputs(const Context* context) const;
    // Throws Error above most_dimensions.
    Input input(const Context* context, size_t index) const;
    float* output(Context* context, const std::int64_t* shape, size_t rank) const;
    // Calls task(data, 0 ... n - 1) on the session's threads and waits for them.
    void parallel(const Context* context, void (*task)(void* data, size_t index), size_t n, void* data) const;
    // Says that output 0 has the shape of input 0, symbolic dimensions included.
    void output_like_first_input(const ShapeContext* context) const;
    Status invalid_argument(const char* message) const;

    // Calls a function of the table by its position.
    template <class Function, class... Arguments>
    auto at(int slot, Arguments... arguments) const {
        return reinterpret_cast<Function>(const_cast<void*>(table_[slot]))(arguments...);
    }

private:
    template <class... Parameters, class... Arguments>
    void call(int slot, Arguments... arguments) const;

    Table table_;
};

}  // namespace lowdose::ops
