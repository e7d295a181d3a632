#include "stream.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

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
    if (options.batch < 1)
        throw Error("a batch holds 1 or more frames, not " + std::to_string(options.batch), Error::Kind::argument);
    if (options.batch > 1 && (contract.n_states > 0 || contract.block_frames > 0))
        throw Error(
            contract.method +
                (contract.n_states > 0 ? " takes results of one frame for the next" : " denoises blocks of frames") +
                ": it has no batches, leave the batch at 1",
            Error::Kind::argument);
    report(options, "opening the network", 0.0);
    return options;
}

}  // namespace

Stream::Stream(std::shared_ptr<const Model> model, int height, int width, const StreamOptions& options)
    : height_(height),
      width_(width),
      n_channels_(model->contract().n_channels),
      device_(model->device()),
      options_(checked(options, model->contract(), height, width)),
      shape_{n_channels_, height, width},
      n_reference_planes_(((options.references.dark ? 1 : 0) + (options.references.gain ? 1 : 0)) * n_channels_),
      correction_(options.references, n_channels_, height, width),
      ring_(model->contract(), options.scan.value_or(ScanShape{1, 1}), shape_.n_values(), options_.batch),
      queue_(model->new_queue()),
      open_(open(std::move(model))),
      backend_(queue_ && tiles().whole_frame ? cuda_backend(queue_, shape_) : host_backend(shape_)),
      wanted_(options.wanted) {
    options_.references = {};  // copied; the caller's memory may go
    const auto lock = backend_->lock();
    ring_.allocate(*backend_);
    open_->allocate(*backend_);
    denoised_ = backend_->zeros(shape_.n_values() * static_cast<size_t>(options_.batch));
    reset();
    const std::optional<Choice> settings = given_settings();
    if (settings) open_->prepare(*settings);
    if (options.warm_up) {
        report(options_, "warming up", 0.7);
        open_->warm_up(ring_.next(), denoised_.get(), settings);
    }
    report(options_, "the first frame", 1.0);
}

// What a stream holds beside its tiles: references, ring, results, states, blocks, the planes of a batch in one piece,
// and the spectrum of the low-pass after tiling.
std::unique_ptr<OpenModel> Stream::open(std::shared_ptr<const Model> model) const {
    const Contract& contract = model->contract();
    const int gathered = options_.batch > 1 ? options_.batch * (contract.n_taps() + 1) : 0;
    const int n_planes =
        n_reference_planes_ + (ring_.n_slots() + options_.batch + gathered) * n_channels_ + 2 * contract.block_frames +
        (contract.n_states > 0 ? contract.n_states + 1 : 0) * contract.state_channels + (contract.has_low_pass ? 1 : 0);
    const double held_bytes = static_cast<double>(n_planes) * static_cast<double>(shape_.plane() * sizeof(float));
    const Opening opening{
        {height_, width_, options_.batch}, options_.threads, options_.tile, options_.max_bytes, held_bytes, queue_};
    return std::make_unique<OpenModel>(std::move(model), opening);
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
    if (queue_ && model->device() != device_)
        throw Error("this model is on the device '" + model->device() + "', the stream on '" + device_ + "'",
                    Error::Kind::argument);
    const auto opening = backend_->lock();
    Replacement next{open(model), weight_set.value_or(0), cutoff.value_or(cutoff_none)};
    if (backend_->on_gpu() && !next.open->tiles().whole_frame)
        throw Error("this model does not take the frames whole, and those of the stream stay on the GPU",
                    Error::Kind::argument);
    const Plane frame = backend_->zeros(shape_.n_values());
    const Plane denoised = backend_->zeros(shape_.n_values() * static_cast<size_t>(options_.batch));
    next.open->allocate(*backend_);
    next.open->warm_up(frame.get(), denoised.get(), Choice{next.weight_set, next.cutoff, 0.0f});
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
    if (wanted_.offset || !contract().percentile_offset) choice_ = given_settings();
}

// What is known before any frame; the offset may be missing, which the network does not see.
std::optional<Choice> Stream::given_settings() const {
    if ((!wanted_.weight_set && contract().n_weight_sets > 1) || (!wanted_.cutoff && contract().has_low_pass))
        return std::nullopt;
    return Choice{wanted_.weight_set.value_or(0), wanted_.cutoff.value_or(cutoff_none), wanted_.offset.value_or(0.0f)};
}

// The next sequence must not begin with the last one's frames.
void Stream::begin_sequence() {
    ring_.clear();
    open_->clear();
    n_out_ = n_denoised_ = 0;
}

// The frames that come before the choice wait in the ring as they are; choose_settings subtracts their offset.
bool Stream::push(const RawFrame& frame, void* out) {
    const auto lock = backend_->lock();
    const Stopwatch watch;
    on_gpu_ = frame.on_gpu;
    float* planes = ring_.next();
    backend_->to_float(frame, options_.in, correction_, choice_ ? choice_->offset : 0.0f, planes);
    if (contract().takes_offset) backend_->sums(planes, ring_.next_sums());
    ring_.take();
    statistics_.convert.add(watch.milliseconds());
    statistics_.frames_in += 1;
    if (n_out_ == n_denoised_) {
        if (ring_.count() < n_denoised_ + options_.batch + ring_.latency()) return false;
        run_batch();
    }
    give(watch, out);
    return true;
}

bool Stream::flush(void* out) {
    const auto lock = backend_->lock();
    const Stopwatch watch;
    const long long n_in = ring_.count();
    if (n_out_ < n_in && n_in >= ring_.shortest()) {
        if (n_out_ == n_denoised_) run_batch();
        give(watch, out);
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
    std::vector<std::vector<float>> copies(static_cast<size_t>(ring_.count()));
    std::map<const float*, const float*> on_host;
    for (size_t i = 0; i < copies.size(); ++i) {
        const float* frame = ring_.frame(static_cast<long long>(i));
        on_host[frame] = backend_->on_host(frame, shape_.n_values(), copies[i]);
    }
    std::vector<Window> windows;
    for (long long i = 0; i < ring_.count(); ++i) {
        ring_.window(i, windows.emplace_back());
        for (const float*& frame : windows.back()) frame = on_host[frame];
    }
    choice_ = choose(open_->model(), windows, height_, width_, options_.threads, wanted_);
    for (long long i = 0; i < ring_.count(); ++i)
        backend_->subtract(ring_.frame(i), shape_.n_values(), choice_->offset);
    open_->prepare(*choice_);
    statistics_.choose.add(watch.milliseconds());
}

// A tile has not the frame's spectrum: with tiles the disc is kept on the whole frame.
void Stream::filter(float* frame) {
    const Stopwatch watch;
    const DenormalsAsZero denormals;
    low_pass(frame, height_, width_, choice_->cutoff, open_->model().transforms(), frame);
    statistics_.low_pass.add(watch.milliseconds());
}

// Denoises the next frames: a whole batch, or what is there at the end.
void Stream::run_batch() {
    batch_begins_ = n_denoised_;
    n_denoised_ = std::min(n_denoised_ + options_.batch, ring_.count());
    const long long given = std::exchange(n_out_, n_denoised_);  // when it fails, the next results are those behind it
    take_replacement();
    if (!choice_) choose_settings();
    const Stopwatch watch;
    open_->run(ring_, batch_begins_, n_denoised_ - 1, *choice_, denoised_.get());
    statistics_.network.add(watch.milliseconds());
    n_out_ = given;
}

void Stream::give(const Stopwatch& since, void* out) {
    float* denoised = denoised_.get() + static_cast<size_t>(n_out_ - batch_begins_) * shape_.n_values();
    n_out_ += 1;  // also when it fails
    if (contract().has_low_pass && !tiles().whole_frame) filter(denoised);
    const Stopwatch watch;
    backend_->from_float(denoised, shape_.n_values(), choice_->offset, options_.out, out, on_gpu_);
    statistics_.output.add(watch.milliseconds());
    statistics_.total.add(since.milliseconds());
    statistics_.frames_out += 1;
}

}  // namespace lowdose
