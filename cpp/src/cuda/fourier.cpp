#include "cuda/fourier.hpp"

#include "error.hpp"
#include "shared_library.hpp"

namespace lowdose::cuda {

namespace {

constexpr int real_to_complex = 0x2a, complex_to_real = 0x2c;

// The functions of cuFFT that are used.
struct Library {
    int (*plan)(int* plan, int rank, int* lengths, int* in_embed, int in_stride, int in_distance, int* out_embed,
                int out_stride, int out_distance, int type, int batch);
    int (*set_stream)(int plan, void* stream);
    int (*forward)(int plan, float* in, void* out);
    int (*backward)(int plan, void* in, float* out);
    int (*destroy)(int plan);

    Library() {
        void* library = open_first({
#ifdef _WIN32
            "cufft64_12.dll", "cufft64_11.dll"
#else
            "libcufft.so.12", "libcufft.so.11"
#endif
        });
        find(library, "cufftPlanMany", plan);
        find(library, "cufftSetStream", set_stream);
        find(library, "cufftExecR2C", forward);
        find(library, "cufftExecC2R", backward);
        find(library, "cufftDestroy", destroy);
    }

    void check(int result) const {
        if (result != 0) throw Error("cuFFT: error " + std::to_string(result), Error::Kind::device);
    }
};

const Library& library() {
    static const Library loaded;
    return loaded;
}

}  // namespace

Fourier::Fourier(Queue& queue, int batch, int height, int width) {
    const Library& fft = library();
    queue.device().use();
    int lengths[] = {height, width};
    for (const auto& [plan, type] : {std::pair{&forward_, real_to_complex}, std::pair{&backward_, complex_to_real}}) {
        fft.check(fft.plan(plan, 2, lengths, nullptr, 1, 0, nullptr, 1, 0, type, batch));
        fft.check(fft.set_stream(*plan, queue.handle()));
    }
}

Fourier::~Fourier() {
    if (forward_) library().destroy(forward_);
    if (backward_) library().destroy(backward_);
}

void Fourier::forward(float* planes, void* spectrum) const {
    library().check(library().forward(forward_, planes, spectrum));
}

void Fourier::backward(void* spectrum, float* planes) const {
    library().check(library().backward(backward_, spectrum, planes));
}

}  // namespace lowdose::cuda
