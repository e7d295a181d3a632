#include "correction.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "error.hpp"

namespace lowdose {

namespace {

std::vector<float> copied(const float* plane, size_t n_values, const char* name) {
    if (!plane) return {};
    std::vector<float> values(plane, plane + n_values);
    for (const float value : values)
        if (!std::isfinite(value))
            throw Error(std::string("the ") + name + " reference holds NaN or infinity", Error::Kind::argument);
    return values;
}

}  // namespace

Correction::Correction(const References& references, int n_channels, int height, int width)
    : height_(height), width_(width), plane_(static_cast<size_t>(height) * static_cast<size_t>(width)) {
    const size_t n_values = plane_ * static_cast<size_t>(n_channels);
    dark_ = copied(references.dark, n_values, "dark");
    gain_ = copied(references.gain, n_values, "gain");
    if (references.bad) find_sources(references.bad, n_channels);
}

void Correction::find_sources(const std::uint8_t* bad, int n_channels) {
    for (size_t channel = 0; channel < static_cast<size_t>(n_channels); ++channel, bad += plane_) {
        if (std::all_of(bad, bad + plane_, [](std::uint8_t value) { return value != 0; }))
            throw Error("the map of bad pixels leaves no good one", Error::Kind::argument);
        for (int y = 0; y < height_; ++y)
            for (int x = 0; x < width_; ++x) {
                const auto index = [&](int row, int column) {
                    return static_cast<size_t>(row) * static_cast<size_t>(width_) + static_cast<size_t>(column);
                };
                if (!bad[index(y, x)]) continue;
                BadPixel pixel{channel, index(y, x), {}};
                for (int distance = 1; pixel.from.empty(); ++distance)
                    for (int row = std::max(0, y - distance); row <= std::min(height_ - 1, y + distance); ++row) {
                        const bool edge = std::abs(row - y) == distance;
                        for (int column = x - distance; column <= x + distance; column += edge ? 1 : 2 * distance)
                            if (column >= 0 && column < width_ && !bad[index(row, column)])
                                pixel.from.push_back(index(row, column));
                    }
                bad_.push_back(std::move(pixel));
            }
    }
}

void Correction::apply(int channel, float* frame) const {
    const size_t first = static_cast<size_t>(channel) * plane_;
    if (!dark_.empty())
        for (size_t i = 0; i < plane_; ++i) frame[i] -= dark_[first + i];
    if (!gain_.empty())
        for (size_t i = 0; i < plane_; ++i) frame[i] *= gain_[first + i];
    for (const BadPixel& pixel : bad_) {
        if (pixel.channel != static_cast<size_t>(channel)) continue;
        double sum = 0;
        for (const size_t source : pixel.from) sum += static_cast<double>(frame[source]);
        frame[pixel.at] = static_cast<float>(sum / static_cast<double>(pixel.from.size()));
    }
    for (size_t i = 0; i < plane_; ++i)
        if (!std::isfinite(frame[i])) throw Error("a pixel is beyond float32 after the gain reference");
}

}  // namespace lowdose
