#include "stream.hpp"

#include <cmath>
#include <string>

#include "denormals.hpp"
#include "error.hpp"
#include "lowpass.hpp"

namespace lowdose {

namespace {

constexpr double most_pixels = 1ull << 31;  // of a frame

void report(const StreamOptions& options, const char* step, double share) {
    if (options.progress && !options.progress(step, share))
        throw Error(std::string("cancelled before ") + step, Error::Kind::cancelled);
}

void check_settings(const Contract& contract, const std::optional<int>& weight_set,
                    const std::optional<float>& cutoff) {
    if (weight_set && (*weight_set < 0 || *weight_set >= contract.n_weight_sets))
        throw Error("weight set " + std::to_string(*weight_set) + " does not exist: the model has 0 to " +
                        std::to_string(contract.n_weight_sets - 1),
                    Error::Kind::argument);
    if (cutoff && !(*cutoff > 0))
        throw Error("the low-pass cutoff must be above 0 (cycles/pixel)", Error::Kind::argument);
    if (cutoff && *cutoff < cutoff_all && !contract.has_low_pass)
        throw Error("this " + contract.method + " model has no low-pass: give no cutoff", Error::Kind::argument);
}

// Throws Error for options that do not fit the model or the frames.
const StreamOptions& checked(const StreamOptions& options, const Contract& contract, int height, int width) {
    if (height < 1 || width < 1)
        throw Error("frames of " + std::to_string(height) + "x" + std::to_string(width) +
                    " pixels hold nothing to denoise");
    if (static_cast<double>(height) * width > most_pixels)
        throw Error("frames of " + std::to_string(height) + "x" + std::to_string(width) +
                        " pixels need more memory than there can be",
                    Error::Kind::memory);
    check_settings(contract, options.wanted.weight_set, options.wanted.cutoff);
    if (contract.scan && !options.scan)
        throw Error(contract.method + " denoises scans: say how many positions they have, (scan_y, scan_x)");
    if (!contract.scan && options.scan)
        throw Error(contract.method + " sees frames in the order of time and takes no scan shape");
    if (options.scan && (options.scan->n_y < 1 || options.scan->n_x < 1))
        throw Error("a scan of " + std::to_string(options.scan->n_y) + "x" + std::to_string(options.scan->n_x) +
                    " positions holds nothing to denoise");
    report(options, "opening the network", 0.0);
    return options;
}

size_t pixels(int height, int width) { return static_cast<size_t>(height) * static_cast<size_t>(width); }

}  // namespace

Stream::Stream(std::shared_ptr<const Model> model, int height, int width, const StreamOptions& options)
    : height_(height),
      width_(width),
      n_channels_(model->contract().n_channels),
      options_(checked(options, model->contract(), height, width)),
      plane_(pixels(height, width)),
      n_reference_planes_(((options.references.dark ? 1 : 0) + (options.references.gain ? 1 : 0)) * n_channels_),
      correction_(options.references, n_channels_, height, width),
      ring_(model->contract(), options.scan.value_or(ScanShape{1, 1}), plane_ * static_cast<size_t>(n_channels_)),
      open_(open(std::move(model))),
      wanted_(options.wanted) {
    options_.references = {};  // copied; the caller's memory may go
    denoised_.resize(plane_ * static_cast<size_t>(n_channels_));
    reset();
    if (options.warm_up) {
        report(options_, "warming up", 0.7);
        open_->warm_up(ring_.next(), denoised_.data());
    }
    report(options_, "the first frame", 1.0);
}

// What a stream holds beside its tiles: references, ring, result, states, blocks, and the spectrum of the low-pass
// after tiling.
std::unique_ptr<OpenModel> Stream::open(std::shared_ptr<const Model> model) const {
    const Contract& contract = model->contract();
    const int n_planes = n_reference_planes_ + (ring_.n_slots() + 1) * n_channels_ + 2 * contract.block_frames +
                         (contract.n_states > 0 ? contract.n_states + 1 : 0) * contract.state_channels +
                         (contract.has_low_pass ? 1 : 0);
    const double held_bytes = static_cast<double>(n_planes) * static_cast<double>(plane_ * sizeof(float));
    return std::make_unique<OpenModel>(std::move(model), height_, width_, options_.threads, options_.tile,
                                       options_.max_bytes, held_bytes);
}

void Stream::replace(std::shared_ptr<const Model> model, std::optional<int> weight_set, std::optional<float> cutoff) {
    const Contract& contract = model->contract();
    {
        const std::lock_guard<std::mutex> lock(exchange_);
        check_fits(this->contract(), contract);
    }
    check_settings(contract, weight_set, cutoff);
    if (contract.n_weight_sets > 1 && !weight_set)
        throw Error("say which of the model's " + std::to_string(contract.n_weight_sets) +
                        " weight sets takes over: none is chosen in a running stream",
                    Error::Kind::argument);
    if (contract.has_low_pass && !cutoff)
        throw Error("say with which low-pass cutoff the model takes over: none is chosen in a running stream",
                    Error::Kind::argument);
    Replacement next{open(model), weight_set.value_or(0), cutoff.value_or(cutoff_none)};
    const std::vector<float> frame(denoised_.size());
    std::vector<float> denoised(denoised_.size());
    next.open->warm_up(frame.data(), denoised.data());
    const std::lock_guard<std::mutex> lock(exchange_);
    next_ = std::move(next);
}

void Stream::take_replacement() {
    std::unique_ptr<OpenModel> before;  // given back when nothing is locked
    const std::lock_guard<std::mutex> lock(exchange_);
    if (!next_) return;
    before = std::move(open_);
    open_ = std::move(next_->open);
    wanted_.weight_set = next_->weight_set;
    wanted_.cutoff = next_->cutoff;
    next_.reset();
    if (choice_) choice_ = Choice{*wanted_.weight_set, *wanted_.cutoff, choice_->offset};
    statistics_.replaced += 1;
}

void Stream::reset() {
    begin_scene();
    statistics_ = Statistics{};
}

void Stream::begin_scene() {
    begin_sequence();
    choice_.reset();
    if ((wanted_.offset || !contract().percentile_offset) && (wanted_.weight_set || contract().n_weight_sets == 1) &&
        (wanted_.cutoff || !contract().has_low_pass))
        choice_ =
            Choice{wanted_.weight_set.value_or(0), wanted_.cutoff.value_or(cutoff_none), wanted_.offset.value_or(0.0f)};
}

// The next sequence must not begin with the last one's frames.
void Stream::begin_sequence() {
    ring_.clear();
    open_->clear();
    n_out_ = 0;
}

// The frames that come before the choice wait in the ring as they are; choose_settings subtracts their offset.
bool Stream::push(const void* frame, std::ptrdiff_t row_stride_bytes, std::ptrdiff_t channel_stride_bytes, void* out) {
    const Stopwatch watch;
    const float offset = choice_ ? choice_->offset : 0.0f;
    float* planes = ring_.next();
    for (int channel = 0; channel < n_channels_; ++channel) {
        float* plane = planes + static_cast<size_t>(channel) * plane_;
        to_float(static_cast<const unsigned char*>(frame) + channel * channel_stride_bytes, options_.in,
                 row_stride_bytes, height_, width_, correction_.any() ? 0.0f : offset, plane);
        if (!correction_.any()) continue;
        correction_.apply(channel, plane);
        for (size_t i = 0; i < plane_; ++i) plane[i] -= offset;
    }
    ring_.take();
    statistics_.convert.add(watch.milliseconds());
    statistics_.frames_in += 1;
    if (ring_.count() <= ring_.latency()) return false;
    emit(ring_.count() - 1 - ring_.latency(), watch, out);
    return true;
}

bool Stream::flush(void* out) {
    const long long n_in = ring_.count();
    if (n_out_ < n_in && n_in >= ring_.shortest()) {
        emit(n_out_, Stopwatch(), out);
        return true;
    }
    const bool complete = n_out_ == n_in;
    begin_sequence();
    if (!complete)
        throw Error(contract().method + " needs at least " + std::to_string(ring_.shortest()) +
                        " frames and was given " + std::to_string(n_in) + "; use a single-frame model such as wcid",
                    Error::Kind::order);
    return false;
}

void Stream::choose_settings() {
    const Stopwatch watch;
    std::vector<Window> windows;
    for (long long i = 0; i < ring_.count(); ++i) ring_.window(i, windows.emplace_back());
    choice_ = choose(open_->model(), windows, height_, width_, options_.threads, wanted_);
    for (long long i = 0; i < ring_.count(); ++i)
        for (size_t pixel = 0; pixel < plane_; ++pixel) ring_.frame(i)[pixel] -= choice_->offset;
    statistics_.choose.add(watch.milliseconds());
}

// A tile has not the frame's spectrum: with tiles the disc is kept on the whole frame.
void Stream::filter() {
    const Stopwatch watch;
    const DenormalsAsZero denormals;
    low_pass(denoised_.data(), height_, width_, choice_->cutoff, open_->model().transforms(), denoised_.data());
    statistics_.low_pass.add(watch.milliseconds());
}

void Stream::emit(long long index, const Stopwatch& since, void* out) {
    n_out_ = index + 1;  // also when it fails: the next result is that of the next frame
    take_replacement();
    if (!choice_) choose_settings();
    const Stopwatch network_watch;
    open_->run(ring_, index, *choice_, denoised_.data());
    statistics_.network.add(network_watch.milliseconds());
    if (contract().has_low_pass && !tiles().whole_frame) filter();
    const Stopwatch watch;
    from_float(denoised_.data(), denoised_.size(), choice_->offset, options_.out, out);
    statistics_.output.add(watch.milliseconds());
    statistics_.total.add(since.milliseconds());
    statistics_.frames_out += 1;
}

}  // namespace lowdose
