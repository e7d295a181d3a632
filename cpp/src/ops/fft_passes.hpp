// The inner loops of the Fourier transform, built once per instruction set. Only plain data here, as in
// blind_spot_rows.hpp.
#pragma once

namespace lowdose::ops {

// Transforms that go side by side: element i of transform j lies at [i * fft_block + j].
constexpr int fft_block = 16;

struct FftPlan {
    int length;
    int n_factors;
    const int* factors;   // their product is the length
    const float* cosine;  // of 2 pi n / length
    const float* sine;
};

struct FftPasses {
    const char* name;
    // Transforms fft_block sequences; sign -1 forward, +1 backward, not normalised. The scratch memory is as large as
    // the data. Returns true when the result is there, false when it is in the place of the data.
    bool (*run)(const FftPlan& plan, int sign, float* re, float* im, float* scratch_re, float* scratch_im);
};

extern const FftPasses fft_portable;
extern const FftPasses fft_sse42;
extern const FftPasses fft_avx2;
extern const FftPasses fft_avx512;

}  // namespace lowdose::ops
