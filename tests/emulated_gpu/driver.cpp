// A GPU that is none: what lowdose calls of NVIDIA's driver (libcuda) and compiler (NVRTC), on the computer's memory. The
// kernels of common.cu run as they are, see ../cuda_on_threads.cpp. Everything is finished when a call returns. For
// ../test_emulated_gpu.py.
#include <cstdlib>
#include <map>
#include <string>

#include "../cuda_on_threads.cpp"

namespace {

enum Result { success = 0, invalid_value = 1, out_of_memory = 2, not_found = 500 };

std::map<void*, size_t> on_gpu, pinned;  // memory by its first byte
std::string chosen;                      // the GPU that a context was set for

int take(std::map<void*, size_t>& owner, void** memory, size_t n_bytes) {
    *memory = std::aligned_alloc(256, (n_bytes + 255) / 256 * 256);
    if (!*memory) return out_of_memory;
    std::memset(*memory, 0xa5, n_bytes);  // what was not written shows
    owner[*memory] = n_bytes;
    return success;
}

int give_back(std::map<void*, size_t>& owner, void* memory) {
    if (owner.erase(memory) == 0) return invalid_value;
    std::free(memory);
    return success;
}

bool inside(const std::map<void*, size_t>& owner, const void* memory) {
    auto after = owner.upper_bound(const_cast<void*>(memory));
    if (after == owner.begin()) return false;
    --after;
    return static_cast<const char*>(memory) < static_cast<const char*>(after->first) + after->second;
}

template <class T>
T argument(void** arguments, int index) {
    return *static_cast<T*>(arguments[index]);
}

// For kernels whose threads do not wait for each other.
template <class Kernel>
void run_each(Index grid, Index block, Kernel kernel) {
    gridDim = grid;
    blockDim = block;
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
            for (threadIdx = {0, 0}; threadIdx.x < block.x; ++threadIdx.x) kernel();
}

const char* const kernels[] = {"to_float", "from_float", "subtract", "blend", "add_sums"};

}  // namespace

extern "C" {

int cuInit(unsigned) { return success; }
int cuGetErrorString(int, const char** text) {
    *text = "an error of the emulated GPU";
    return success;
}
int cuDeviceGet(int* device, int index) {
    *device = index;
    return index == 0 ? success : invalid_value;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
    constexpr int capability_major = 75;
    *value = attribute == capability_major ? 8 : 9;
    return success;
}
int cuDevicePrimaryCtxRetain(void** context, int) {
    *context = &chosen;
    return success;
}
int cuCtxSetCurrent(void* context) { return context == &chosen ? success : invalid_value; }
int cuStreamCreate(void** stream, unsigned) {
    *stream = new char;
    return success;
}
int cuStreamDestroy_v2(void* stream) {
    delete static_cast<char*>(stream);
    return success;
}
int cuStreamSynchronize(void*) { return success; }

int cuMemAlloc_v2(void** memory, size_t n_bytes) { return take(on_gpu, memory, n_bytes); }
int cuMemFree_v2(void* memory) { return give_back(on_gpu, memory); }
int cuMemHostAlloc(void** memory, size_t n_bytes, unsigned) { return take(pinned, memory, n_bytes); }
int cuMemFreeHost(void* memory) { return give_back(pinned, memory); }
int cuPointerGetAttribute(void* value, int, const void* memory) {
    enum Kind : unsigned { of_the_computer = 1, of_the_gpu = 2 };
    if (!inside(pinned, memory) && !inside(on_gpu, memory)) return invalid_value;
    *static_cast<unsigned*>(value) = inside(pinned, memory) ? of_the_computer : of_the_gpu;
    return success;
}
int cuMemcpyAsync(void* to, const void* from, size_t n_bytes, void*) {
    std::memmove(to, from, n_bytes);
    return success;
}
int cuMemsetD8Async(void* memory, unsigned char value, size_t n_bytes, void*) {
    if (!inside(on_gpu, memory)) return invalid_value;
    std::memset(memory, value, n_bytes);
    return success;
}

int cuModuleLoadData(void** module, const void*) {
    *module = &chosen;
    return success;
}
int cuModuleUnload(void*) { return success; }
int cuModuleGetFunction(void** function, void*, const char* name) {
    for (const char* const& kernel : kernels)
        if (std::strcmp(kernel, name) == 0) {
            *function = const_cast<char*>(kernel);
            return success;
        }
    return not_found;
}
int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned, unsigned block_x, unsigned block_y,
                   unsigned, unsigned, void*, void** a, void**) {
    const std::string name = static_cast<const char*>(function);
    const Index grid{grid_x, grid_y}, block{block_x, block_y};
    if (name == "to_float")
        run_each(grid, block, [&] {
            to_float(argument<const unsigned char*>(a, 0), argument<int>(a, 1), argument<long long>(a, 2),
                     argument<long long>(a, 3), argument<unsigned>(a, 4), argument<unsigned>(a, 5),
                     argument<unsigned>(a, 6), argument<float>(a, 7), argument<float*>(a, 8),
                     argument<unsigned*>(a, 9));
        });
    else if (name == "from_float")
        run_each(grid, block, [&] {
            from_float(argument<const float*>(a, 0), argument<unsigned>(a, 1), argument<float>(a, 2),
                       argument<int>(a, 3), argument<void*>(a, 4));
        });
    else if (name == "subtract")
        run_each(grid, block,
                 [&] { subtract(argument<float*>(a, 0), argument<unsigned>(a, 1), argument<float>(a, 2)); });
    else if (name == "blend")
        run_each(grid, block, [&] {
            blend(argument<const float*>(a, 0), argument<const float*>(a, 1), argument<float>(a, 2),
                  argument<unsigned>(a, 3), argument<float*>(a, 4));
        });
    else  // add_sums: its loop over the pixels takes any grid, and this one does not take a second
        run({1, grid.y}, {32, 1},
            [&] { add_sums(argument<const float*>(a, 0), argument<unsigned>(a, 1), argument<double*>(a, 2)); });
    return success;
}

int nvrtcCreateProgram(void** program, const char*, const char*, int, const char* const*, const char* const*) {
    *program = &chosen;
    return success;
}
int nvrtcCompileProgram(void*, int, const char* const*) { return success; }
int nvrtcDestroyProgram(void**) { return success; }
int nvrtcGetProgramLogSize(void*, size_t* size) {
    *size = 0;
    return success;
}
int nvrtcGetProgramLog(void*, char*) { return success; }
int nvrtcGetCUBINSize(void*, size_t* size) {
    *size = 1;
    return success;
}
int nvrtcGetCUBIN(void*, char* code) {
    *code = 0;
    return success;
}
const char* nvrtcGetErrorString(int) { return "an error of the emulated compiler"; }

// For the tests: how much memory of the GPU is taken.
size_t emulated_bytes_in_use() {
    size_t sum = 0;
    for (const auto& [memory, n_bytes] : on_gpu) sum += n_bytes;
    return sum;
}
}
