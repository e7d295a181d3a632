#include "kernels.hpp"

#include <exception>

#include "blind_features_op.hpp"
#include "blind_spot_op.hpp"
#include "low_pass_op.hpp"

namespace lowdose::ops {

namespace {

// A kernel's work; what it throws becomes a status.
template <class Work>
Status guarded(const Api& api, Work work) {
    try {
        work();
        return nullptr;
    } catch (const Failure& failure) {
        return failure.status;
    } catch (const std::exception& error) {
        return api.invalid_argument(error.what());
    }
}

template <class Work>
struct Kernel {
    Api api;
    Work work;
};

// Work has a name, a constructor (Api, InstructionSet) and compute(Context*); its output is shaped like its first
// input.
template <class Work>
struct KernelOp : CustomOp {
    KernelOp(Api table, InstructionSet instructions) : CustomOp{}, api(table), set(instructions) {
        version = kernel_api_version;
        name = [](const CustomOp*) { return Work::name; };
        execution_provider = [](const CustomOp*) { return "CPUExecutionProvider"; };
        // One variadic input, because models differ in the number of frames and branches.
        n_inputs = [](const CustomOp*) { return size_t{1}; };
        input_type = [](const CustomOp*, size_t) { return static_cast<int>(ElementType::undefined); };
        input_characteristic = [](const CustomOp*, size_t) { return static_cast<int>(Characteristic::variadic); };
        variadic_input_min_arity = [](const CustomOp*) { return 1; };
        variadic_input_homogeneity = [](const CustomOp*) { return 0; };
        input_memory = [](const CustomOp*, size_t) { return 0; };
        n_outputs = [](const CustomOp*) { return size_t{1}; };
        output_type = [](const CustomOp*, size_t) { return static_cast<int>(ElementType::float32); };
        output_characteristic = [](const CustomOp*, size_t) { return static_cast<int>(Characteristic::required); };
        variadic_output_min_arity = [](const CustomOp*) { return 1; };
        variadic_output_homogeneity = [](const CustomOp*) { return 1; };
        start_version = end_version = [](const CustomOp*) { return 1; };
        infer_output_shape = [](const CustomOp* op, ShapeContext* context) {
            const Api& used = static_cast<const KernelOp*>(op)->api;
            return guarded(used, [&] { used.output_like_first_input(context); });
        };
        create_kernel_v2 = [](const CustomOp* op, const void*, const void*, void** kernel) {
            const auto* self = static_cast<const KernelOp*>(op);
            return guarded(self->api, [&] { *kernel = new Kernel<Work>{self->api, {self->api, self->set}}; });
        };
        compute_v2 = [](void* kernel, Context* context) {
            auto* self = static_cast<Kernel<Work>*>(kernel);
            return guarded(self->api, [&] { self->work.compute(context); });
        };
        destroy_kernel = [](void* kernel) { delete static_cast<Kernel<Work>*>(kernel); };
    }

    Api api;
    InstructionSet set;
};

}  // namespace

std::vector<std::shared_ptr<const CustomOp>> kernel_ops(Table table, InstructionSet set) {
    return {std::make_shared<const KernelOp<BlindFeaturesKernel>>(Api(table), set),
            std::make_shared<const KernelOp<BlindSpotKernel>>(Api(table), set),
            std::make_shared<const KernelOp<LowPassKernel>>(Api(table), set)};
}

}  // namespace lowdose::ops
