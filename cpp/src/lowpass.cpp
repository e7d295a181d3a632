#include "lowpass.hpp"

#include <algorithm>
#include <cmath>

namespace lowdose {

bool inside_disc(int k_y, int height, int k_x, int width, float cutoff) {
    const float f_y = static_cast<float>(std::min(k_y, height - k_y)) / static_cast<float>(height);
    const float f_x = static_cast<float>(k_x) / static_cast<float>(width);
    return f_y * f_y + f_x * f_x <= cutoff * cutoff;
}

void low_pass(const float* frame, int height, int width, float cutoff, ops::InstructionSet set, float* out,
              Parallel parallel) {
    const auto n_pixels = static_cast<size_t>(height) * static_cast<size_t>(width);
    if (cutoff >= cutoff_all) {
        if (out != frame) std::copy_n(frame, n_pixels, out);
        return;
    }
    // A value near the mean goes around the transforms: rounding errors are then in proportion to the contrast.
    constexpr size_t step = 61;  // a sample is enough; prime, so that it follows no lattice
    double sum = 0;
    for (size_t i = 0; i < n_pixels; i += step) sum += static_cast<double>(frame[i]);
    const auto level = static_cast<float>(sum / static_cast<double>((n_pixels + step - 1) / step));
    const int radius = static_cast<int>(std::ceil(cutoff * static_cast<float>(width)));
    const auto reach = [&](int k_x) {
        int k_y = -1;
        while (k_y < height / 2 && inside_disc(k_y + 1, height, k_x, width, cutoff)) ++k_y;
        return k_y;
    };
    keep_frequencies(frame, height, width, std::min(radius, width / 2) + 1, level, reach, set, parallel, out);
}

}  // namespace lowdose
