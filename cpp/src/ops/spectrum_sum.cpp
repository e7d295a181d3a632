// Compiled once per instruction set. CMakeLists.txt defines LOWDOSE_SUM (the name of the result) and
// LOWDOSE_VECTOR_BYTES (0: plain loops for any compiler).
#include "spectrum_sum.hpp"

#include "vector.hpp"

namespace lowdose::ops {

namespace {

void add(const SpectrumTerm& term, size_t first, size_t n, float* re, float* im) {
    const float *k_re = term.kernel_re + first, *f_re = term.frame_re + first, *f_im = term.frame_im + first;
    if (!term.kernel_im) {
        for (size_t i = 0; i < n; i += lanes) {
            const Vector k = load(k_re + i);
            store(re + i, load(re + i) + k * load(f_re + i));
            store(im + i, load(im + i) + k * load(f_im + i));
        }
        return;
    }
    const float* k_im = term.kernel_im + first;
    if (!term.opposite_re) {
        for (size_t i = 0; i < n; i += lanes) {
            const Vector k = load(k_re + i), l = load(k_im + i), a = load(f_re + i), b = load(f_im + i);
            store(re + i, load(re + i) + k * a - l * b);
            store(im + i, load(im + i) + k * b + l * a);
        }
        return;
    }
    const float *o_re = term.opposite_re + first, *o_im = term.opposite_im + first;
    for (size_t i = 0; i < n; i += lanes) {
        const Vector k = load(k_re + i), l = load(k_im + i), a = load(f_re + i), b = load(f_im + i);
        const Vector c = load(o_re + i), d = load(o_im + i);
        store(re + i, load(re + i) + k * (a + c) - l * (b - d));
        store(im + i, load(im + i) + k * (b + d) + l * (a - c));
    }
}

// A part of the sum stays in the L1 cache until it is done.
void run(const SpectrumTerm* terms, size_t n_terms, size_t first, size_t n, float* re, float* im) {
    constexpr size_t part = 2048;
    for (size_t done = 0; done < n; done += part) {
        const size_t count = n - done < part ? n - done : part;
        for (size_t i = 0; i < count; ++i) re[done + i] = im[done + i] = 0.0f;
        for (size_t t = 0; t < n_terms; ++t) add(terms[t], first + done, count, re + done, im + done);
    }
}

}  // namespace

const SpectrumSum LOWDOSE_SUM{&run};

}  // namespace lowdose::ops
