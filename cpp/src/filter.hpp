// A linear filter over neighbouring frames and pixels, applied to a stream in the Fourier domain: a new frame costs one
// transform, a product per frame of the window and one transform back, whatever the size of the kernels.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "contract.hpp"
#include "convert.hpp"
#include "fft.hpp"
#include "frames.hpp"
#include "ops/spectrum_sum.hpp"
#include "statistics.hpp"

namespace lowdose {

struct FilterShape {
    int height, width, n_channels;
    std::vector<Tap> taps;
    std::optional<ScanShape> scan;
    int radius_px;  // of the kernels: 2 * radius_px + 1 a side

    int n_taps() const { return static_cast<int>(taps.size()); }
    int reach() const;  // largest |dx|, for frames along time
    // Kernels for as many places of a sequence: its first `reach` frames, those inside, its last `reach` frames.
    // The positions of a scan all have the same.
    int n_places() const { return scan ? 1 : 2 * reach() + 1; }
};

// What a filter computes, for one stream: for output channel c, at place p of the sequence,
// level + scale * sum of weights[p][c][tap][channel][y][x] * (frame - level) / scale around the pixel.
class Kernels {
public:
    // weights: (n_places, channels, taps, channels, side, side); level, scale: (channels, height, width).
    Kernels(const FilterShape& shape, std::vector<float> weights, std::vector<float> level, std::vector<float> scale,
            ops::InstructionSet set);

private:
    friend class FilterStream;
    // Whether frames that were normalised for these can be filtered by others.
    bool normalises_like(const Kernels& others) const;

    // The spectrum of the kernel of a tap and channel. With an opposite tap, that one has the same kernel turned round,
    // so its spectrum is the conjugate; where that is the tap itself, the spectrum is real.
    struct Kernel {
        int tap, in;
        int opposite;               // -1: none
        std::vector<float> re, im;  // blocked, see fft.hpp; im: empty for a real one
    };

    const std::vector<Kernel>& at(int place, int out) const;
    bool use_one_scale_per_channel();
    std::vector<Kernel> transform_all(int place, int out) const;
    Kernel transform(int place, int out, int tap, int in, int opposite) const;
    const float* weights(int place, int out, int tap, int in) const;
    int opposite_of(int place, int out, int tap, int in) const;

    FilterShape shape_;
    std::vector<float> weights_, level_, scale_;
    bool per_pixel_ = false;  // level and scale: (channels, height, width); else one level per channel and no scale
    ops::InstructionSet set_;
    std::vector<std::vector<Kernel>> inside_;          // per output channel, of the place inside a sequence
    mutable std::vector<std::vector<Kernel>> at_end_;  // of the place asked for last
    mutable int end_place_ = -1;
};

// Not thread-safe, but `use` may be called by another thread: the next result comes from the new kernels.
class FilterStream {
public:
    FilterStream(const FilterShape& shape, DType in, DType out, ops::InstructionSet set);

    // Throws Error for kernels with another level or scale than those in use: the frames that wait are normalised
    // already.
    void use(std::shared_ptr<const Kernels> kernels);

    // As Stream::push and Stream::flush.
    bool push(const void* frame, std::ptrdiff_t row_stride_bytes, std::ptrdiff_t channel_stride_bytes, void* out);
    bool flush(void* out);
    void reset();

    int latency_frames() const { return ring_.latency(); }
    const FilterShape& shape() const { return shape_; }
    ops::InstructionSet instruction_set() const { return set_; }
    DType in() const { return in_; }
    DType out() const { return out_; }
    const Statistics& statistics() const { return statistics_; }

private:
    void take_kernels();
    void transform_frame(const unsigned char* frame, std::ptrdiff_t row_stride_bytes, int channel, float* spectrum);
    void emit(long long index, const Stopwatch& since, void* out);
    void filter(int place, int out);
    void write_row(int channel, int y, void* out);
    int place_of(long long index) const;

    FilterShape shape_;
    DType in_, out_;
    ops::InstructionSet set_;
    std::shared_ptr<const Kernels> kernels_, next_kernels_;
    std::mutex exchange_;  // of the two
    int padded_height_, padded_width_;
    size_t n_coefficients_;
    FrameRing ring_;  // of spectra: per channel real parts, then imaginary parts
    std::vector<float> padded_, filtered_;
    std::vector<const float*> window_;  // spectra
    std::vector<ops::SpectrumTerm> terms_;
    Statistics statistics_;
    bool ended_ = false;
    long long n_out_ = 0;
};

}  // namespace lowdose
