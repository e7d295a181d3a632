#include "custom_op.hpp"

#include "error.hpp"

namespace lowdose::ops {

namespace {

constexpr int create_status = 0, tensor_data = 51, element_type = 60, n_dimensions = 61, dimensions = 62,
              type_and_shape = 65, input_count = 88, get_input = 90, get_output = 91, release_type_and_shape = 99,
              input_type_shape = 268, set_output_type_shape = 270, parallel_for = 274;

}  // namespace

template <class... Parameters, class... Arguments>
void Api::call(int slot, Arguments... arguments) const {
    if (const Status status = at<Status (*)(Parameters...)>(slot, arguments...)) throw Failure{status};
}

size_t Api::n_inputs(const Context* context) const {
    size_t n = 0;
    call<const Context*, size_t*>(input_count, context, &n);
    return n;
}

Input Api::input(const Context* context, size_t index) const {
    void* value = nullptr;  // belongs to ONNX Runtime, like the data
    call<const Context*, size_t, void**>(get_input, context, index, &value);
    void* info = nullptr;
    call<const void*, void**>(type_and_shape, value, &info);
    Input input{};
    int type = 0;
    void* data = nullptr;
    Status status = at<Status (*)(const void*, int*)>(element_type, info, &type);
    if (!status) status = at<Status (*)(const void*, size_t*)>(n_dimensions, info, &input.rank);
    const bool fits = input.rank <= Input::most_dimensions;
    if (!status && fits)
        status = at<Status (*)(const void*, std::int64_t*, size_t)>(dimensions, info, &input.shape[0], input.rank);
    if (!status) status = at<Status (*)(void*, void**)>(tensor_data, value, &data);
    at<void (*)(void*)>(release_type_and_shape, info);
    if (status) throw Failure{status};
    if (!fits)
        throw Error("input " + std::to_string(index) + " has " + std::to_string(input.rank) +
                    " dimensions, more than " + std::to_string(Input::most_dimensions));
    input.type = static_cast<ElementType>(type);
    input.data = data;
    return input;
}

float* Api::output(Context* context, const std::int64_t* shape, size_t rank) const {
    void *value = nullptr, *data = nullptr;
    call<Context*, size_t, const std::int64_t*, size_t, void**>(get_output, context, size_t{0}, shape, rank, &value);
    call<void*, void**>(tensor_data, value, &data);
    return static_cast<float*>(data);
}

void Api::parallel(const Context* context, void (*task)(void*, size_t), size_t n, void* data) const {
    constexpr size_t one_by_one = 0;
    call<const Context*, void (*)(void*, size_t), size_t, size_t, void*>(parallel_for, context, task, n, one_by_one,
                                                                         data);
}

void Api::output_like_first_input(const ShapeContext* context) const {
    void* info = nullptr;  // belongs to the context
    call<const ShapeContext*, size_t, void**>(input_type_shape, context, size_t{0}, &info);
    call<const ShapeContext*, size_t, const void*>(set_output_type_shape, context, size_t{0}, info);
}

Status Api::invalid_argument(const char* message) const {
    constexpr int code = 2;
    return at<Status (*)(int, const char*)>(create_status, code, message);
}

std::string shape_text(const Input& input) {
    std::string text;
    for (size_t i = 0; i < input.rank; ++i) text += (i ? "x" : "") + std::to_string(input.shape[i]);
    return input.rank ? text : "a scalar";
}

}  // namespace lowdose::ops
