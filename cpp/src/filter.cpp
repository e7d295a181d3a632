#include "filter.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "error.hpp"

namespace lowdose {

namespace {

// The next length without a prime factor above 5.
int quick_length(int length) {
    for (int n = length;; ++n) {
        int rest = n;
        for (const int p : {2, 3, 5})
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

Spectrum zeros(int height, int width, ops::InstructionSet set) {
    const int n_columns = width / 2 + 1;
    const auto size = static_cast<size_t>(height) * static_cast<size_t>(n_columns);
    return {height, width, n_columns, set, std::vector<float>(size), std::vector<float>(size)};
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
    for (int out = 0; out < shape_.n_channels; ++out)
        for (int tap = 0; tap < shape_.n_taps(); ++tap)
            for (int in = 0; in < shape_.n_channels; ++in) inside_.push_back(transform(inside, out, tap, in));
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

// The kernel is turned round, because the product of spectra is a convolution and the filter a correlation.
Spectrum Kernels::transform(int place, int out, int tap, int in) const {
    const int radius = shape_.radius_px, side = 2 * radius + 1, n = shape_.n_channels;
    const int height = quick_length(shape_.height + 2 * radius), width = quick_length(shape_.width + 2 * radius);
    const size_t first = static_cast<size_t>(((place * n + out) * shape_.n_taps() + tap) * n + in) *
                         static_cast<size_t>(side) * static_cast<size_t>(side);
    std::vector<float> plane(static_cast<size_t>(height) * static_cast<size_t>(width));
    for (int y = -radius; y <= radius; ++y)
        for (int x = -radius; x <= radius; ++x) {
            const int row = (height - y) % height, column = (width - x) % width;
            plane[static_cast<size_t>(row) * static_cast<size_t>(width) + static_cast<size_t>(column)] =
                weights_[first + static_cast<size_t>((y + radius) * side + x + radius)];
        }
    return forward_transform(plane.data(), height, width, width / 2 + 1, set_);
}

const Spectrum& Kernels::spectrum(int place, int out, int tap, int in) const {
    const int n = shape_.n_channels, n_taps = shape_.n_taps();
    const auto at = static_cast<size_t>((out * n_taps + tap) * n + in);
    if (shape_.scan || place == shape_.reach()) return inside_[at];
    if (place != end_place_) {
        at_end_.clear();
        for (int i = 0; i < n * n_taps * n; ++i)
            at_end_.push_back(transform(place, i / (n_taps * n), i / n % n_taps, i % n));
        end_place_ = place;
    }
    return at_end_[at];
}

FilterStream::FilterStream(const FilterShape& shape, DType in, DType out, ops::InstructionSet set)
    : shape_(shape),
      in_(in),
      out_(out),
      set_(set),
      padded_height_(quick_length(shape.height + 2 * shape.radius_px)),
      padded_width_(quick_length(shape.width + 2 * shape.radius_px)),
      n_coefficients_(static_cast<size_t>(padded_height_) * static_cast<size_t>(padded_width_ / 2 + 1)),
      ring_(ring_contract(shape), shape.scan.value_or(ScanShape{1, 1}),
            2 * n_coefficients_ * static_cast<size_t>(shape.n_channels)),
      sum_(zeros(padded_height_, padded_width_, set)) {
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
    forward_transform(padded_.data(),
                      {padded_height_, padded_width_, padded_width_ / 2 + 1, static_cast<size_t>(padded_height_), set_,
                       spectrum, spectrum + n_coefficients_});
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

// filtered_ = the sum over taps and channels, on padded frames. A part of the sum stays in the cache until it is done.
void FilterStream::filter(int place, int out) {
    constexpr size_t part = 2048;  // coefficients
    for (size_t first = 0; first < n_coefficients_; first += part) {
        const size_t n = std::min(part, n_coefficients_ - first);
        float *to_re = sum_.re.data() + first, *to_im = sum_.im.data() + first;
        std::fill_n(to_re, n, 0.0f);
        std::fill_n(to_im, n, 0.0f);
        for (size_t tap = 0; tap < window_.size(); ++tap)
            for (int in = 0; in < shape_.n_channels; ++in) {
                const Spectrum& kernel = kernels_->spectrum(place, out, static_cast<int>(tap), in);
                const float* re = window_[tap] + 2 * n_coefficients_ * static_cast<size_t>(in) + first;
                const float* im = re + n_coefficients_;
                const float *k_re = kernel.re.data() + first, *k_im = kernel.im.data() + first;
                for (size_t i = 0; i < n; ++i) {
                    to_re[i] += re[i] * k_re[i] - im[i] * k_im[i];
                    to_im[i] += re[i] * k_im[i] + im[i] * k_re[i];
                }
            }
    }
    backward_transform(sum_.view(), filtered_.data());
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
