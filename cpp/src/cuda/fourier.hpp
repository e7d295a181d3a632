// Real Fourier transforms on a GPU, by cuFFT, loaded at run time.
#pragma once

#include "cuda/device.hpp"

namespace lowdose::cuda {

// Transforms of `batch` planes (height, width), put into `queue`. Making one takes memory.
class Fourier {
public:
    Fourier(Queue& queue, int batch, int height, int width);
    ~Fourier();
    Fourier(const Fourier&) = delete;
    Fourier& operator=(const Fourier&) = delete;

    // spectrum: (batch, height, width / 2 + 1) complex numbers.
    void forward(float* planes, void* spectrum) const;
    // What comes out is height * width times larger; the spectrum is overwritten.
    void backward(void* spectrum, float* planes) const;

private:
    int forward_ = 0, backward_ = 0;
};

}  // namespace lowdose::cuda
