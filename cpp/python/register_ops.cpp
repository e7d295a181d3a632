// Makes the extension a custom-op library: onnxruntime.SessionOptions.register_custom_ops_library(path of
// lowdose._core) gives a plain ONNX Runtime session our kernels.
#include <exception>

#include "ops/kernels.hpp"

using namespace lowdose::ops;

#ifdef _WIN32
#define LOWDOSE_EXPORT __declspec(dllexport)
#else
#define LOWDOSE_EXPORT __attribute__((visibility("default")))
#endif

namespace {

struct ApiBase {
    Table (*get_api)(std::uint32_t version);
    const char* (*version)();
};

constexpr int create_domain = 26, add_op = 27, add_domain = 28;

}  // namespace

extern "C" LOWDOSE_EXPORT Status RegisterCustomOps(void* session_options, const ApiBase* base) {
    const Table oldest = base->get_api(1);
    const Table table = base->get_api(kernel_api_version);
    if (!table) return Api(oldest).invalid_argument("lowdose's kernels need ONNX Runtime 1.17 or newer");
    const Api api(table);
    try {
        // Never released: nothing tells when the last session that uses it is gone.
        const auto* ops = new std::vector<std::shared_ptr<const CustomOp>>(kernel_ops(table, instruction_set()));
        void* domain = nullptr;
        if (const Status status = api.at<Status (*)(const char*, void**)>(create_domain, "lowdose", &domain))
            return status;
        for (const auto& op : *ops)
            if (const Status status = api.at<Status (*)(void*, const CustomOp*)>(add_op, domain, op.get()))
                return status;
        return api.at<Status (*)(void*, void*)>(add_domain, session_options, domain);
    } catch (const std::exception& error) {
        return api.invalid_argument(error.what());
    }
}
