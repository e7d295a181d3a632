// Vertical Toom-Cook convolution: four rows of the output from k rows of a kernel and k + 3 lines of pixels, in k + 3
// multiplications per column instead of 4 k (Winograd, Arithmetic Complexity of Computations, SIAM 1980, chapter V).
//
// The product of two polynomials follows from its values at enough points. They are 0, +-1, +-1/2, +-2 and, where the
// number is even, infinity: a part of a kernel has at most five rows, so that the transforms hold small sums of powers
// of two, which are exact, and float32 results err no more than direct sums. Opposite points share their even and odd
// halves. Everything is in an unnamed namespace, see vector.hpp.
#pragma once

namespace lowdose::ops {

namespace {

constexpr int tile_rows = 4;
constexpr int most_part_rows = 5;
constexpr int most_pairs = 3;
constexpr double pair_points[most_pairs] = {1, 0.5, 2};

// A kernel is cut into parts of at most five rows, as even as can be, the longer ones first.
constexpr int n_parts(int size) { return (size + most_part_rows - 1) / most_part_rows; }
constexpr int part_rows(int size, int part) { return size / n_parts(size) + (part < size % n_parts(size) ? 1 : 0); }
constexpr int n_points(int rows) { return rows + tile_rows - 1; }
constexpr int n_points_of_kernel(int size) { return size + n_parts(size) * (tile_rows - 1); }

// The points of a part, in this order: pairs of opposite ones, the positive first; 0; infinity.
constexpr int n_pairs(int rows) { return (n_points(rows) - 1) / 2; }
constexpr bool has_infinity(int rows) { return n_points(rows) % 2 == 0; }

// Coefficients of x^0, x^2, ... of the product of x^2 - point^2 over all pairs, and over all pairs but one.
struct Polynomials {
    double all[most_pairs + 1] = {}, without[most_pairs][most_pairs + 1] = {};

    explicit constexpr Polynomials(int pairs) {
        multiply(pairs, -1, all);
        for (int pair = 0; pair < pairs; ++pair) multiply(pairs, pair, without[pair]);
    }

private:
    static constexpr void multiply(int pairs, int left_out, double (&product)[most_pairs + 1]) {
        product[0] = 1;
        for (int pair = 0; pair < pairs; ++pair)
            if (pair != left_out)
                for (int i = most_pairs; i >= 0; --i)
                    product[i] = (i > 0 ? product[i - 1] : 0) - pair_points[pair] * pair_points[pair] * product[i];
    }
};

}  // namespace

}  // namespace lowdose::ops
