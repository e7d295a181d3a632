// What a detector's pixels need before they are denoised: dark and gain references and a map of bad pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lowdose {

// Planes (channels, height, width); null where there is none.
struct References {
    const float* dark = nullptr;        // subtracted from the raw frame
    const float* gain = nullptr;        // what is left is multiplied by it
    const std::uint8_t* bad = nullptr;  // not 0: the pixel is replaced
    bool any() const { return dark || gain || bad; }
};

// A bad pixel becomes the mean of the good ones at the least distance max(|dy|, |dx|).
class Correction {
public:
    // Copies the planes. Throws Error where one holds NaN or infinity or the good pixels are missing.
    Correction(const References& references, int n_channels, int height, int width);

    bool any() const { return !dark_.empty() || !gain_.empty() || !bad_.empty(); }

    // frame: (height, width) of one channel, in place. Throws Error when a pixel leaves float32.
    void apply(int channel, float* frame) const;

private:
    struct BadPixel {
        size_t channel, at;
        std::vector<size_t> from;
    };
    void find_sources(const std::uint8_t* bad, int n_channels);

    int height_, width_;
    size_t plane_;
    std::vector<float> dark_, gain_;
    std::vector<BadPixel> bad_;
};

}  // namespace lowdose
