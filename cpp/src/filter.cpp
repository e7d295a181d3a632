#include "filter.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <string>
#include <utility>

#include "error.hpp"

namespace lowdose {

namespace {

// The next length without a prime factor above 7.
int quick_length(int length) {
    for (int n = length;; ++n) {
        int rest = n;
        for (const int p : {2, 3, 5, 7})
            while (rest % p == 0) rest /= p;
        if (rest == 1) return n;
    }
}

// Mirrored about the first and last of `length` pixels, as often as it takes.
int mirrored(int index, int length) {
    const int twice = std::max(1, 2 * (length - 1));
    const int rest = ((index % twice) + twice) % twice;
    return rest < length ? rest : twice - rest;
}

Contract ring_contract(const FilterShape& shape) {
    Contract contract;
    contract.method = "this filter";
    contract.scan = shape.scan.has_value();
    contract.taps = shape.taps;
    return contract;
}

const ops::SpectrumSum& sum_for([[maybe_unused]] ops::InstructionSet set) {
#ifdef LOWDOSE_X86_KERNELS
    if (set == ops::InstructionSet::sse42) return ops::sum_sse42;
    if (set == ops::InstructionSet::avx2) return ops::sum_avx2;
    if (set == ops::InstructionSet::avx512) return ops::sum_avx512;
#endif
    return ops::sum_portable;
}

}  // namespace

int FilterShape::reach() const {
    int reach = 0;
    for (const Tap& tap : taps) reach = std::max(reach, std::abs(tap.dx));
    return reach;
}

Kernels::Kernels(const FilterShape& shape, std::vector<float> weights, std::vector<float> level,
                 std::vector<float> scale, ops::InstructionSet set)
    : shape_(shape), weights_(std::move(weights)), level_(std::move(level)), scale_(std::move(scale)), set_(set) {
    if (!use_one_scale_per_channel()) per_pixel_ = true;
    const int inside = shape_.scan ? 0 : shape_.reach();
    for (int out = 0; out < shape_.n_channels; ++out) inside_.push_back(transform_all(inside, out));
}

// Where level and scale are the same all over each channel, the weights take the scales in, so that no pixel is
// multiplied, and one level per channel is left.
bool Kernels::use_one_scale_per_channel() {
    const auto n = static_cast<size_t>(shape_.n_channels), plane = level_.size() / n;
    std::vector<float> levels, scales;
    for (size_t c = 0; c < n; ++c) {
        levels.push_back(level_[c * plane]);
        scales.push_back(scale_[c * plane]);
        for (size_t i = c * plane; i < (c + 1) * plane; ++i)
            if (level_[i] != levels[c] || scale_[i] != scales[c]) return false;
    }
    const auto side = static_cast<size_t>(2 * shape_.radius_px + 1), taps = static_cast<size_t>(shape_.n_taps());
    for (size_t i = 0; i < weights_.size(); ++i) {  // (place, out, tap, in, y, x)
        const size_t in = i / (side * side) % n, out = i / (side * side * n * taps) % n;
        weights_[i] *= scales[out] / scales[in];
    }
    level_ = levels;
    scale_.clear();
    return true;
}

bool Kernels::normalises_like(const Kernels& others) const {
    return per_pixel_ == others.per_pixel_ && level_ == others.level_ && scale_ == others.scale_;
}

const float* Kernels::weights(int place, int out, int tap, int in) const {
    const int side = 2 * shape_.radius_px + 1, n = shape_.n_channels;
    return &weights_[static_cast<size_t>(((place * n + out) * shape_.n_taps() + tap) * n + in) *
                     static_cast<size_t>(side * side)];
}

// The tap on the other side that has the same weights turned round, as those fitted to one channel have; or -1.
int Kernels::opposite_of(int place, int out, int tap, int in) const {
    const Tap& to = shape_.taps[static_cast<size_t>(tap)];
    const int n_weights = (2 * shape_.radius_px + 1) * (2 * shape_.radius_px + 1);
    for (int other = 0; other < shape_.n_taps(); ++other) {
        const Tap& from = shape_.taps[static_cast<size_t>(other)];
        const float *here = weights(place, out, tap, in), *there = weights(place, out, other, in);
        if (from.dy == -to.dy && from.dx == -to.dx &&
            std::equal(here, here + n_weights, std::make_reverse_iterator(there + n_weights)))
            return other;
    }
    return -1;
}

// The kernel is turned round, because the product of spectra is a convolution and the filter a correlation.
Kernels::Kernel Kernels::transform(int place, int out, int tap, int in, int opposite) const {
    const int radius = shape_.radius_px, side = 2 * radius + 1;
    const int height = quick_length(shape_.height + 2 * radius), width = quick_length(shape_.width + 2 * radius);
    const float* from = weights(place, out, tap, in);
    std::vector<float> plane(static_cast<size_t>(height) * static_cast<size_t>(width));
    for (int y = -radius; y <= radius; ++y)
        for (int x = -radius; x <= radius; ++x) {
            const int row = (height - y) % height, column = (width - x) % width;
            plane[static_cast<size_t>(row) * static_cast<size_t>(width) + static_cast<size_t>(column)] =
                from[(y + radius) * side + x + radius];
        }
    const size_t n = n_blocked_coefficients(height, width);
    Kernel kernel{tap, in, opposite, std::vector<float>(n), std::vector<float>(n)};
    forward_transform_blocked(plane.data(), height, width, set_, kernel.re.data(), kernel.im.data());
    if (opposite == tap) kernel.im = {};
    return kernel;
}

std::vector<Kernels::Kernel> Kernels::transform_all(int place, int out) const {
    std::vector<Kernel> kernels;
    for (int tap = 0; tap < shape_.n_taps(); ++tap)
        for (int in = 0; in < shape_.n_channels; ++in) {
            int opposite = opposite_of(place, out, tap, in);
            if (opposite >= 0 && opposite_of(place, out, opposite, in) != tap) opposite = -1;  // a tap given twice
            if (opposite < 0 || opposite >= tap) kernels.push_back(transform(place, out, tap, in, opposite));
        }
    return kernels;
}

const std::vector<Kernels::Kernel>& Kernels::at(int place, int out) const {
    if (shape_.scan || place == shape_.reach()) return inside_[static_cast<size_t>(out)];
    if (place != end_place_) {
        at_end_.clear();
        for (int i = 0; i < shape_.n_channels; ++i) at_end_.push_back(transform_all(place, i));
        end_place_ = place;
    }
    return at_end_[static_cast<size_t>(out)];
}

FilterStream::FilterStream(const FilterShape& shape, DType in, DType out, ops::InstructionSet set)
    : shape_(shape),
      in_(in),
      out_(out),
      set_(set),
      padded_height_(quick_length(shape.height + 2 * shape.radius_px)),
      padded_width_(quick_length(shape.width + 2 * shape.radius_px)),
      n_coefficients_(n_blocked_coefficients(padded_height_, padded_width_)),
      ring_(ring_contract(shape), shape.scan.value_or(ScanShape{1, 1}),
            2 * n_coefficients_ * static_cast<size_t>(shape.n_channels), 1) {
    ring_.allocate(*host_backend({shape.n_channels, shape.height, shape.width}));
    padded_.resize(static_cast<size_t>(padded_height_) * static_cast<size_t>(padded_width_));
    filtered_.resize(padded_.size());
}

void FilterStream::use(std::shared_ptr<const Kernels> kernels) {
    const std::lock_guard<std::mutex> lock(exchange_);
    if (kernels_ && !kernels_->normalises_like(*kernels))
        throw Error("the filter was fitted with another level or scale than the one in use; fit it with the same");
    if (!kernels_)
        kernels_ = std::move(kernels);
    else
        next_kernels_ = std::move(kernels);
}

void FilterStream::take_kernels() {
    std::shared_ptr<const Kernels> before;  // given back when nothing is locked
    const std::lock_guard<std::mutex> lock(exchange_);
    if (!next_kernels_) return;
    before = std::move(kernels_);
    kernels_ = std::move(next_kernels_);
    statistics_.replaced += 1;
}

void FilterStream::reset() {
    ring_.clear();
    n_out_ = 0;
    ended_ = false;
    statistics_ = Statistics{};
}

// The frame, less its level, stands in the middle of mirrored borders.
void FilterStream::transform_frame(const unsigned char* frame, std::ptrdiff_t row_stride_bytes, int channel,
                                   float* spectrum) {
    const Kernels& kernels = *kernels_;
    const int radius = shape_.radius_px, height = shape_.height, width = shape_.width;
    const auto columns = static_cast<size_t>(width), step = static_cast<size_t>(padded_width_);
    const auto line = [&](int y) { return padded_.data() + static_cast<size_t>(y + radius) * step; };
    const float level = kernels.per_pixel_ ? 0.0f : kernels.level_[static_cast<size_t>(channel)];
    to_float(frame, in_, row_stride_bytes, height, width, level, line(0) + radius, step);
    for (int y = 0; y < height; ++y) {
        float* pixel = line(y) + radius;
        if (kernels.per_pixel_) {
            const size_t row = static_cast<size_t>(channel * height + y) * columns;
            for (size_t x = 0; x < columns; ++x)
                pixel[x] = (pixel[x] - kernels.level_[row + x]) / kernels.scale_[row + x];
        }
        for (int x = 1; x <= radius; ++x) {
            pixel[-x] = pixel[mirrored(-x, width)];
            pixel[width - 1 + x] = pixel[mirrored(width - 1 + x, width)];
        }
    }
    const size_t n_copied = columns + 2 * static_cast<size_t>(radius);
    for (int y = 1; y <= radius; ++y) {
        std::copy_n(line(mirrored(-y, height)), n_copied, line(-y));
        std::copy_n(line(mirrored(height - 1 + y, height)), n_copied, line(height - 1 + y));
    }
    forward_transform_blocked(padded_.data(), padded_height_, padded_width_, set_, spectrum,
                              spectrum + n_coefficients_);
}

bool FilterStream::push(const void* frame, std::ptrdiff_t row_stride_bytes, std::ptrdiff_t channel_stride_bytes,
                        void* out) {
    const Stopwatch watch;
    float* spectra = ring_.next();
    for (int channel = 0; channel < shape_.n_channels; ++channel)
        transform_frame(static_cast<const unsigned char*>(frame) + channel * channel_stride_bytes, row_stride_bytes,
                        channel, spectra + 2 * n_coefficients_ * static_cast<size_t>(channel));
    ring_.take();
    statistics_.convert.add(watch.milliseconds());
    statistics_.frames_in += 1;
    if (ring_.count() <= ring_.latency()) return false;
    emit(ring_.count() - 1 - ring_.latency(), watch, out);
    return true;
}

bool FilterStream::flush(void* out) {
    if (n_out_ < ring_.count() && ring_.count() >= ring_.shortest()) {
        ended_ = true;
        emit(n_out_, Stopwatch(), out);
        return true;
    }
    const long long n_in = ring_.count();
    const bool complete = n_out_ == n_in;
    ring_.clear();
    n_out_ = 0;
    ended_ = false;
    if (!complete)
        throw Error("this filter needs at least " + std::to_string(ring_.shortest()) + " frames and was given " +
                    std::to_string(n_in));
    return false;
}

// The ends of a sequence have kernels of their own, which do without the frames that are not there. A sequence with
// fewer frames than the window takes those of the inside, and mirrored frames.
int FilterStream::place_of(long long index) const {
    const int reach = shape_.reach();
    if (shape_.scan) return 0;
    if (ended_ && ring_.count() <= 2 * reach) return reach;
    if (index < reach) return static_cast<int>(index);
    const long long behind = ring_.count() - 1 - index;
    return ended_ && behind < reach ? 2 * reach - static_cast<int>(behind) : reach;
}

// filtered_ = the sum over taps and channels, on padded frames.
void FilterStream::filter(int place, int out) {
    terms_.clear();
    for (const Kernels::Kernel& kernel : kernels_->at(place, out)) {
        const size_t channel = 2 * n_coefficients_ * static_cast<size_t>(kernel.in);
        const bool real = kernel.opposite == kernel.tap, pair = kernel.opposite >= 0 && !real;
        const float* frame = window_[static_cast<size_t>(kernel.tap)] + channel;
        const float* opposite = pair ? window_[static_cast<size_t>(kernel.opposite)] + channel : nullptr;
        terms_.push_back({kernel.re.data(), real ? nullptr : kernel.im.data(), frame, frame + n_coefficients_, opposite,
                          pair ? opposite + n_coefficients_ : nullptr});
    }
    const ops::SpectrumSum& sum = sum_for(set_);
    backward_transform_blocked(
        [&](size_t first, size_t n, float* re, float* im) { sum.run(terms_.data(), terms_.size(), first, n, re, im); },
        padded_height_, padded_width_, set_, filtered_.data());
}

void FilterStream::emit(long long index, const Stopwatch& since, void* out) {
    take_kernels();
    ring_.window(index, window_);
    Stopwatch watch;
    double filter_ms = 0;
    auto* to = static_cast<unsigned char*>(out);
    const size_t row_bytes = static_cast<size_t>(shape_.width) * size_of(out_);
    for (int channel = 0; channel < shape_.n_channels; ++channel) {
        const Stopwatch filter_watch;
        filter(place_of(index), channel);
        filter_ms += filter_watch.milliseconds();
        for (int y = 0; y < shape_.height; ++y, to += row_bytes) write_row(channel, y, to);
    }
    statistics_.network.add(filter_ms);
    statistics_.output.add(watch.milliseconds() - filter_ms);
    statistics_.total.add(since.milliseconds());
    statistics_.frames_out += 1;
    n_out_ = index + 1;
}

void FilterStream::write_row(int channel, int y, void* out) {
    const Kernels& kernels = *kernels_;
    const auto columns = static_cast<size_t>(shape_.width), radius = static_cast<size_t>(shape_.radius_px);
    float* pixel = &filtered_[(static_cast<size_t>(y) + radius) * static_cast<size_t>(padded_width_) + radius];
    if (kernels.per_pixel_) {
        const size_t row = static_cast<size_t>(channel * shape_.height + y) * columns;
        for (size_t x = 0; x < columns; ++x) pixel[x] = kernels.level_[row + x] + kernels.scale_[row + x] * pixel[x];
    }
    from_float(pixel, columns, kernels.per_pixel_ ? 0.0f : kernels.level_[static_cast<size_t>(channel)], out_, out);
}

}  // namespace lowdose
