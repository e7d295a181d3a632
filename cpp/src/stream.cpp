#include "stream.hpp"

#include <cmath>
#include <map>
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

// Throws Error for options that do not fit the model or the frames.
const StreamOptions& checked(const StreamOptions& options, const Contract& contract, int height, int width) {
    if (height < 1 || width < 1)
        throw Error("frames of " + std::to_string(height) + "x" + std::to_string(width) +
                    " pixels hold nothing to denoise");
    if (static_cast<double>(height) * width > most_pixels)
        throw Error("frames of " + std::to_string(height) + "x" + std::to_string(width) +
                        " pixels need more memory than there can be",
                    Error::Kind::memory);
    const Wanted& wanted = options.wanted;
    if (wanted.weight_set && (*wanted.weight_set < 0 || *wanted.weight_set >= contract.n_weight_sets))
        throw Error("weight set " + std::to_string(*wanted.weight_set) + " does not exist: the model has 0 to " +
                    std::to_string(contract.n_weight_sets - 1));
    if (wanted.cutoff && !(*wanted.cutoff > 0)) throw Error("the low-pass cutoff must be above 0 (cycles/pixel)");
    if (wanted.cutoff && *wanted.cutoff < cutoff_all && !contract.has_low_pass)
        throw Error("this " + contract.method + " model has no low-pass: give no cutoff");
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

// What a stream holds beside its tiles: references, ring, result, states, blocks, and the spectrum of the low-pass
// after tiling.
double held_bytes(const Contract& contract, const References& references, const FrameRing& ring, size_t plane) {
    const int n_planes = ((references.dark ? 1 : 0) + (references.gain ? 1 : 0)) * contract.n_channels +
                         (ring.n_slots() + 1) * contract.n_channels + 2 * contract.block_frames +
                         (contract.n_states > 0 ? contract.n_states + 1 : 0) * contract.state_channels +
                         (contract.has_low_pass ? 1 : 0);
    return static_cast<double>(n_planes) * static_cast<double>(plane * sizeof(float));
}

}  // namespace

Stream::Stream(std::shared_ptr<const Model> model, int height, int width, const StreamOptions& options)
    : model_(std::move(model)),
      contract_(model_->contract()),
      height_(height),
      width_(width),
      options_(checked(options, contract_, height, width)),
      shape_{contract_.n_channels, height, width},
      correction_(options.references, contract_.n_channels, height, width),
      ring_(contract_, options.scan.value_or(ScanShape{1, 1}), shape_.n_values()),
      blocks_(contract_, shape_.plane()),
      network_(*model_, height, width, options.threads, options.tile, options.max_bytes,
               held_bytes(contract_, options.references, ring_, shape_.plane())),
      queue_(network_.queue()),
      backend_(queue_ ? cuda_backend(queue_, shape_) : host_backend(shape_)) {
    options_.references = {};  // copied; the caller's memory may go
    ring_.allocate(*backend_);
    blocks_.allocate(*backend_);
    denoised_ = backend_->zeros(shape_.n_values());
    if (contract_.n_states > 0) {
        state_values_ = network_.aligned_px() * static_cast<size_t>(contract_.state_channels);
        for (int i = 0; i <= contract_.n_states; ++i) states_.push_back(backend_->zeros(state_values_));
    }
    reset();
    if (choice_) network_.prepare(choice_->weight_set, cutoff_in_network());
    if (options.warm_up) warm_up();
    report(options_, "the first frame", 1.0);
}

void Stream::reset() {
    begin_scene();
    statistics_ = Statistics{};
}

void Stream::begin_scene() {
    begin_sequence();
    choice_.reset();
    const Wanted& wanted = options_.wanted;
    if ((wanted.offset || !contract_.percentile_offset) && (wanted.weight_set || contract_.n_weight_sets == 1) &&
        (wanted.cutoff || !contract_.has_low_pass))
        choice_ =
            Choice{wanted.weight_set.value_or(0), wanted.cutoff.value_or(cutoff_none), wanted.offset.value_or(0.0f)};
}

// The next sequence must not begin with the last one's frames.
void Stream::begin_sequence() {
    ring_.clear();
    blocks_.clear();
    n_out_ = 0;
    for (const Plane& state : states_) backend_->clear(state.get(), state_values_);
}

// The first run allocates what later ones use again.
void Stream::warm_up() {
    report(options_, "warming up", 0.7);
    Run run;
    run.frames.assign(contract_.taps.size(), ring_.next());
    for (int i = 0; i < contract_.n_states; ++i) run.states.push_back(states_[0].get());
    if (contract_.n_states > 0) run.state = states_[1].get();
    run.offset.assign(static_cast<size_t>(contract_.n_channels), 0.0f);
    run.scale.assign(static_cast<size_t>(contract_.n_channels), 1.0f);
    run.weight_set = choice_ ? choice_->weight_set : 0;
    run.cutoff = choice_ ? cutoff_in_network() : 0.1f;  // so that a low-pass is computed
    run.on_gpu = queue_ != nullptr;
    const Plane block = backend_->zeros(shape_.plane() * static_cast<size_t>(contract_.block_frames));
    run.denoised = contract_.block_frames > 0 ? block.get() : denoised_.get();
    network_.run(run);
    begin_sequence();
}

// The frames that come before the choice wait in the ring as they are; choose_settings subtracts their offset.
bool Stream::push(const RawFrame& frame, void* out) {
    if (options_.scan && ring_.count() == static_cast<long long>(options_.scan->n_y) * options_.scan->n_x)
        throw Error("the scan of " + std::to_string(options_.scan->n_y) + "x" + std::to_string(options_.scan->n_x) +
                        " positions is complete: flush before the next one",
                    Error::Kind::order);
    const Stopwatch watch;
    on_gpu_ = frame.on_gpu;
    backend_->to_float(frame, options_.in, correction_, choice_ ? choice_->offset : 0.0f, ring_.next());
    if (contract_.takes_offset) backend_->sums(ring_.next(), ring_.next_sums());
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
        throw Error(contract_.method + " needs at least " + std::to_string(ring_.shortest()) +
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
    choice_ = choose(*model_, windows, height_, width_, options_.threads, options_.wanted);
    for (long long i = 0; i < ring_.count(); ++i)
        backend_->subtract(ring_.frame(i), shape_.n_values(), choice_->offset);
    network_.prepare(choice_->weight_set, cutoff_in_network());
    statistics_.choose.add(watch.milliseconds());
}

// A tile has not the frame's spectrum.
float Stream::cutoff_in_network() const { return tiles().whole_frame ? choice_->cutoff : cutoff_none; }

// Runs the network on the window around frame `index`; before the first frame too, to fill the states.
void Stream::run_network(long long index, float* out) {
    ring_.window(index, run_.frames);
    if (contract_.takes_offset) {
        ring_.moments(index, run_.offset, run_.scale);
        for (float& scale : run_.scale)
            scale = scale > 0 ? scale * static_cast<float>(contract_.scale_stds) : 1.0f;  // a constant frame
    }
    const auto n_slots = static_cast<long long>(states_.size());
    const auto state = [&](long long step) {  // the first step is -n_states, and it takes n_states more
        return states_[static_cast<size_t>((step + 2 * n_slots) % n_slots)].get();
    };
    run_.states.clear();
    for (int i = contract_.n_states; i > 0; --i) run_.states.push_back(state(index - i));
    if (contract_.n_states > 0) run_.state = state(index);
    run_.weight_set = choice_->weight_set;
    run_.cutoff = cutoff_in_network();
    run_.on_gpu = queue_ != nullptr;
    run_.denoised = out;
    network_.run(run_);
}

void Stream::run_step(long long index, float* out) {
    if (contract_.block_frames > 0) {
        if (const auto start = blocks_.wanted(index, ring_.count())) run_network(*start, blocks_.begin(*start));
        blocks_.frame(*backend_, index, out);
        return;
    }
    if (index == 0)
        for (int step = -contract_.n_states; step < 0; ++step) run_network(step, out);
    run_network(index, out);
}

// With tiles the disc is kept on the whole frame.
void Stream::filter() {
    const Stopwatch watch;
    const DenormalsAsZero denormals;
    low_pass(denoised_.get(), height_, width_, choice_->cutoff, model_->transforms(), denoised_.get());
    statistics_.low_pass.add(watch.milliseconds());
}

void Stream::emit(long long index, const Stopwatch& since, void* out) {
    n_out_ = index + 1;  // also when it fails: the next result is that of the next frame
    if (!choice_) choose_settings();
    const Stopwatch network_watch;
    run_step(index, denoised_.get());
    statistics_.network.add(network_watch.milliseconds());
    if (contract_.has_low_pass && !tiles().whole_frame) filter();
    const Stopwatch watch;
    backend_->from_float(denoised_.get(), shape_.n_values(), choice_->offset, options_.out, out, on_gpu_);
    statistics_.output.add(watch.milliseconds());
    statistics_.total.add(since.milliseconds());
    statistics_.frames_out += 1;
}

}  // namespace lowdose
