// Compiled once per instruction set. CMakeLists.txt defines LOWDOSE_FFT (the name of the result), LOWDOSE_NAME (as
// text) and LOWDOSE_VECTOR_BYTES (0: plain loops for any compiler).
#include "fft_passes.hpp"

#include <cstddef>

#include "vector.hpp"

namespace lowdose::ops {

namespace {

static_assert(fft_block % lanes == 0, "a row of the block holds whole vectors");

// A pass of the self-sorting (Stockham) form joins `radix` transforms of length `done` to one. in: value j of
// sub-sequence q for frequency k lies in line (k * radix + q), at j * fft_block; out: for frequency k + p * done, in
// that line. A line is `line` floats long.
struct Pass {
    const float *in_re, *in_im;
    float *out_re, *out_im;
    std::ptrdiff_t line, in_step, out_step;
};

struct Complex {
    Vector re, im;
};

inline Complex turned(const float* re, const float* im, float c, float s) {
    const Vector a = load(re), b = load(im);
    return {c * a - s * b, c * b + s * a};
}

inline void put(const Pass& pass, int p, std::ptrdiff_t i, const Complex& value) {
    store(pass.out_re + p * pass.out_step + i, value.re);
    store(pass.out_im + p * pass.out_step + i, value.im);
}

inline Complex sum(const Complex& a, const Complex& b) { return {a.re + b.re, a.im + b.im}; }
inline Complex difference(const Complex& a, const Complex& b) { return {a.re - b.re, a.im - b.im}; }

// twiddle, root: cosines, then sines, radix each.
void join_two(const Pass& pass, const float* twiddle) {
    for (std::ptrdiff_t i = 0; i < pass.line; i += lanes) {
        const Complex a{load(pass.in_re + i), load(pass.in_im + i)};
        const Complex b = turned(pass.in_re + pass.in_step + i, pass.in_im + pass.in_step + i, twiddle[1], twiddle[3]);
        put(pass, 0, i, sum(a, b));
        put(pass, 1, i, difference(a, b));
    }
}

void join_four(const Pass& pass, const float* twiddle, float sign) {
    for (std::ptrdiff_t i = 0; i < pass.line; i += lanes) {
        const float *re = pass.in_re + i, *im = pass.in_im + i;
        const Complex a{load(re), load(im)};
        const Complex b = turned(re + pass.in_step, im + pass.in_step, twiddle[1], twiddle[5]);
        const Complex c = turned(re + 2 * pass.in_step, im + 2 * pass.in_step, twiddle[2], twiddle[6]);
        const Complex d = turned(re + 3 * pass.in_step, im + 3 * pass.in_step, twiddle[3], twiddle[7]);
        const Complex even = sum(a, c), odd = difference(a, c), both = sum(b, d), apart = difference(b, d);
        const Complex quarter{(-sign) * apart.im, sign * apart.re};  // sign * i * (b - d)
        put(pass, 0, i, sum(even, both));
        put(pass, 1, i, sum(odd, quarter));
        put(pass, 2, i, difference(even, both));
        put(pass, 3, i, difference(odd, quarter));
    }
}

// Any small radix that is known at compile time, so that the values stay in registers.
template <int radix>
void join(const Pass& pass, const float* twiddle, const float* root) {
    for (std::ptrdiff_t i = 0; i < pass.line; i += lanes) {
        Complex value[radix];
        for (int q = 0; q < radix; ++q)
            value[q] = turned(pass.in_re + q * pass.in_step + i, pass.in_im + q * pass.in_step + i, twiddle[q],
                              twiddle[radix + q]);
        for (int p = 0; p < radix; ++p) {
            Complex total = value[0];
            for (int q = 1; q < radix; ++q) {
                const float c = root[q * p % radix], s = root[radix + q * p % radix];
                total.re += c * value[q].re - s * value[q].im;
                total.im += c * value[q].im + s * value[q].re;
            }
            put(pass, p, i, total);
        }
    }
}

// Any radix, for large prime factors: the sums stay in memory.
void join_any(const Pass& pass, int radix, const FftPlan& plan, std::ptrdiff_t turn, float sign) {
    const std::ptrdiff_t root_turn = plan.length / radix;
    for (int p = 0; p < radix; ++p)
        for (int q = 0; q < radix; ++q) {
            const auto at = static_cast<std::ptrdiff_t>(
                (static_cast<long long>(q) * turn + static_cast<long long>(q) * p % radix * root_turn) % plan.length);
            const float c = plan.cosine[at], s = sign * plan.sine[at];
            for (std::ptrdiff_t i = 0; i < pass.line; i += lanes) {
                Complex value = turned(pass.in_re + q * pass.in_step + i, pass.in_im + q * pass.in_step + i, c, s);
                if (q > 0) {
                    value.re += load(pass.out_re + p * pass.out_step + i);
                    value.im += load(pass.out_im + p * pass.out_step + i);
                }
                put(pass, p, i, value);
            }
        }
}

void run_pass(const FftPlan& plan, int radix, int done, float sign, const float* in_re, const float* in_im,
              float* out_re, float* out_im) {
    constexpr int largest = 7;
    const std::ptrdiff_t rest = plan.length / (done * radix), line = rest * fft_block;
    float root[2 * largest] = {}, twiddle[2 * largest] = {};
    for (int q = 0; q < radix && radix <= largest; ++q) {
        root[q] = plan.cosine[q * (plan.length / radix)];
        root[radix + q] = sign * plan.sine[q * (plan.length / radix)];
    }
    for (int k = 0; k < done; ++k) {
        const std::ptrdiff_t turn = k * rest;
        for (int q = 0; q < radix && radix <= largest; ++q) {
            twiddle[q] = plan.cosine[q * turn];
            twiddle[radix + q] = sign * plan.sine[q * turn];
        }
        const Pass pass{in_re + k * radix * line,
                        in_im + k * radix * line,
                        out_re + k * line,
                        out_im + k * line,
                        line,
                        line,
                        done * line};
        if (radix == 2)
            join_two(pass, twiddle);
        else if (radix == 3)
            join<3>(pass, twiddle, root);
        else if (radix == 4)
            join_four(pass, twiddle, sign);
        else if (radix == 5)
            join<5>(pass, twiddle, root);
        else if (radix == 7)
            join<7>(pass, twiddle, root);
        else
            join_any(pass, radix, plan, turn, sign);
    }
}

bool run(const FftPlan& plan, int sign, float* re, float* im, float* scratch_re, float* scratch_im) {
    float *from_re = re, *from_im = im, *to_re = scratch_re, *to_im = scratch_im;
    int done = 1;
    for (int i = 0; i < plan.n_factors; ++i) {
        run_pass(plan, plan.factors[i], done, static_cast<float>(sign), from_re, from_im, to_re, to_im);
        done *= plan.factors[i];
        float *re_before = from_re, *im_before = from_im;
        from_re = to_re;
        from_im = to_im;
        to_re = re_before;
        to_im = im_before;
    }
    return from_re != re;
}

}  // namespace

const FftPasses LOWDOSE_FFT{LOWDOSE_NAME, &run};

}  // namespace lowdose::ops
