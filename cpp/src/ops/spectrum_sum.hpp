// Sums of products of spectra, the inner loop of a filter over several frames, built once per instruction set. Only
// plain data here, as in blind_spot_rows.hpp.
#pragma once

#include <cstddef>

namespace lowdose::ops {

// kernel * frame, or where there is an opposite frame, kernel * frame + conj(kernel) * opposite.
struct SpectrumTerm {
    const float *kernel_re, *kernel_im;  // kernel_im: null where the kernel is real
    const float *frame_re, *frame_im;
    const float *opposite_re, *opposite_im;  // null where there is none
};

struct SpectrumSum {
    // re + i im = the sum of the terms for coefficients first ... first + n - 1.
    void (*run)(const SpectrumTerm* terms, size_t n_terms, size_t first, size_t n, float* re, float* im);
};

extern const SpectrumSum sum_portable;
extern const SpectrumSum sum_sse42;
extern const SpectrumSum sum_avx2;
extern const SpectrumSum sum_avx512;

}  // namespace lowdose::ops
