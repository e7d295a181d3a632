#include "cuda/sources.hpp"

#include <memory>

#include "error.hpp"
#include "shared_library.hpp"

namespace lowdose::cuda {

namespace {

// The functions of NVRTC that are used.
struct Compiler {
    int (*create)(void** program, const char* text, const char* name, int n_headers, const char* const* headers,
                  const char* const* names);
    int (*compile)(void* program, int n_options, const char* const* options);
    int (*destroy)(void** program);
    int (*log_size)(void* program, size_t* size);
    int (*log)(void* program, char* text);
    int (*code_size)(void* program, size_t* size);
    int (*code)(void* program, char* code);
    const char* (*error_text)(int result);

    Compiler() {
        void* library = open_first({
#ifdef _WIN32
            "nvrtc64_130_0.dll", "nvrtc64_120_0.dll"
#else
            "libnvrtc.so.13", "libnvrtc.so.12"
#endif
        });
        find(library, "nvrtcCreateProgram", create);
        find(library, "nvrtcCompileProgram", compile);
        find(library, "nvrtcDestroyProgram", destroy);
        find(library, "nvrtcGetProgramLogSize", log_size);
        find(library, "nvrtcGetProgramLog", log);
        find(library, "nvrtcGetCUBINSize", code_size);
        find(library, "nvrtcGetCUBIN", code);
        find(library, "nvrtcGetErrorString", error_text);
        // Older ones do not find it where it is (seen with 13.0).
        open_beside(reinterpret_cast<const void*>(compile), "libnvrtc-builtins.so");
    }

    void check(int result, const std::string& log_text = {}) const {
        if (result != 0)
            throw Error(std::string("compiling kernels for the GPU: ") + error_text(result) +
                            (log_text.empty() ? "" : "\n" + log_text),
                        Error::Kind::device);
    }
};

}  // namespace

std::string compiled(const char* text, const std::vector<std::string>& options, int capability) {
    static const Compiler compiler;
    const std::string target = "--gpu-architecture=sm_" + std::to_string(capability);
    std::vector<const char*> arguments{target.c_str(), "--std=c++17"};
    for (const std::string& option : options) arguments.push_back(option.c_str());
    void* program = nullptr;
    compiler.check(compiler.create(&program, text, "lowdose.cu", 0, nullptr, nullptr));
    const auto destroy = [&](void**) { compiler.destroy(&program); };
    const std::unique_ptr<void*, decltype(destroy)> owner(&program, destroy);
    const int result = compiler.compile(program, static_cast<int>(arguments.size()), arguments.data());
    size_t size = 0;
    compiler.check(compiler.log_size(program, &size));
    std::string log(size, '\0');
    compiler.check(compiler.log(program, log.data()));
    compiler.check(result, log);
    compiler.check(compiler.code_size(program, &size));
    std::string code(size, '\0');
    compiler.check(compiler.code(program, code.data()));
    return code;
}

}  // namespace lowdose::cuda
