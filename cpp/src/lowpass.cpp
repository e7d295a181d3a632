#include "lowpass.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fft.hpp"

namespace lowdose {

bool inside_disc(int k_y, int height, int k_x, int width, float cutoff) {
    const float f_y = static_cast<float>(std::min(k_y, height - k_y)) / static_cast<float>(height);
    const float f_x = static_cast<float>(k_x) / static_cast<float>(width);
    return f_y * f_y + f_x * f_x <= cutoff * cutoff;
}

void low_pass(float* frame, int height, int width, float cutoff) {
    if (cutoff >= cutoff_all) return;
    // The mean goes around the transforms: their rounding errors are then in proportion to the contrast.
    const auto n_pixels = static_cast<size_t>(height) * static_cast<size_t>(width);
    const double sum = std::accumulate(frame, frame + n_pixels, 0.0);
    const auto level = static_cast<float>(sum / static_cast<double>(n_pixels));
    for (size_t i = 0; i < n_pixels; ++i) frame[i] -= level;
    const int radius = static_cast<int>(std::ceil(cutoff * static_cast<float>(width)));
    Spectrum spectrum = forward_transform(frame, height, width, std::min(radius, width / 2) + 1);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < spectrum.n_columns; ++x)
            if (!inside_disc(y, height, x, width, cutoff)) {
                const size_t at =
                    static_cast<size_t>(y) * static_cast<size_t>(spectrum.n_columns) + static_cast<size_t>(x);
                spectrum.re[at] = spectrum.im[at] = 0.0f;
            }
    backward_transform(spectrum, frame);
    for (size_t i = 0; i < n_pixels; ++i) frame[i] += level;
}

}  // namespace lowdose
