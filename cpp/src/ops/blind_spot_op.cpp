#include "blind_spot_op.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <new>
#include <string>

#include "error.hpp"

namespace lowdose::ops {

namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error("BlindSpot: " + what); }

void expect(const Input& input, const char* name, std::initializer_list<std::int64_t> shape) {
    if (input.type != ElementType::float32) refuse(std::string(name) + " must be float32");
    if (input.rank == shape.size() && std::equal(shape.begin(), shape.end(), input.shape)) return;
    std::string wanted;
    for (const std::int64_t length : shape) wanted += (wanted.empty() ? "" : "x") + std::to_string(length);
    refuse(std::string(name) + " is " + shape_text(input) + ", not " + wanted);
}

// The share of one thread in a call.
struct Job {
    const BlindSpot& network;
    const float* const* frames;
    int n_taps, height, width, n_bands;
    float* out;
    std::atomic<bool> out_of_memory{false};

    void run(size_t index) {
        const size_t n = static_cast<size_t>(n_bands);
        const size_t item = index / n;
        float* to = out + item * static_cast<size_t>(height) * static_cast<size_t>(width);
        try {
            network.run_band(frames + item * static_cast<size_t>(n_taps), height, width, static_cast<int>(index % n),
                             to);
        } catch (const std::bad_alloc&) {  // must not pass through ONNX Runtime
            out_of_memory = true;
        }
    }
};

}  // namespace

void BlindSpotKernel::compute(Context* context) {
    const std::lock_guard<std::mutex> lock(mutex_);
    read_inputs(context);
    read_frames();
    read_weights();
    float* out = api_.output(context, inputs_[0].shape, 4);
    if (frames_.empty() || height_ == 0 || width_ == 0) return;
    network_.prepare(weights_);
    Job job{network_, frames_.data(), weights_.n_taps, height_, width_, BlindSpot::n_bands(height_), out};
    const size_t n = static_cast<size_t>(batch_) * static_cast<size_t>(job.n_bands);
    api_.parallel(context, [](void* data, size_t index) { static_cast<Job*>(data)->run(index); }, n, &job);
    if (job.out_of_memory) throw std::bad_alloc();
}

// Inputs in order: the frames, the index of the weight set, (kernel, mixing, head) per branch, the shares.
void BlindSpotKernel::read_inputs(const Context* context) {
    inputs_.clear();
    for (size_t i = 0, n = api_.n_inputs(context); i < n; ++i) inputs_.push_back(api_.input(context, i));
    const auto index = std::find_if(inputs_.begin(), inputs_.end(),
                                    [](const Input& input) { return input.type == ElementType::int64; });
    const auto n_frames = index - inputs_.begin(), n_weights = inputs_.end() - index - 1;
    if (index == inputs_.end() || n_frames < 1 || n_weights < 4 || n_weights % 3 != 1)
        refuse(
            "takes frames, the int64 index of a weight set, three weights per branch and the shares of the branches");
    if (index->rank != 0) refuse("the index of the weight set is " + shape_text(*index) + ", not a scalar");
    weights_.n_taps = static_cast<int>(n_frames);
}

void BlindSpotKernel::read_frames() {
    const Input& first = inputs_[0];
    const auto& shape = first.shape;
    if (first.rank != 4 || shape[1] != 1) refuse("frame_0 is " + shape_text(first) + ", not (batch, 1, height, width)");
    constexpr std::int64_t longest = std::numeric_limits<int>::max() / 4;
    if (std::max({shape[0], shape[2], shape[3]}) > longest) refuse("frame_0 is too large: " + shape_text(first));
    batch_ = static_cast<int>(shape[0]);
    height_ = static_cast<int>(shape[2]);
    width_ = static_cast<int>(shape[3]);
    frames_.clear();
    for (int tap = 0; tap < weights_.n_taps; ++tap)
        expect(inputs_[static_cast<size_t>(tap)], "a frame", {shape[0], 1, shape[2], shape[3]});
    for (std::int64_t item = 0; item < shape[0]; ++item)
        for (int tap = 0; tap < weights_.n_taps; ++tap)
            frames_.push_back(inputs_[static_cast<size_t>(tap)].floats() + item * shape[2] * shape[3]);
}

void BlindSpotKernel::read_weights() {
    const auto n_taps = static_cast<size_t>(weights_.n_taps);
    const Input* of_branches = inputs_.data() + n_taps + 1;
    const size_t n_branches = (inputs_.size() - n_taps - 2) / 3;
    const Input &kernel = of_branches[0], &mixing = of_branches[1], &shares = inputs_.back();
    if (kernel.rank != 5 || mixing.rank != 4)
        refuse("a kernel is " + shape_text(kernel) + " and a mixing matrix " + shape_text(mixing));
    const std::int64_t n_sets = kernel.shape[0], n_features = kernel.shape[1], n_mixing = mixing.shape[1];
    constexpr std::int64_t most = 1 << 15;
    if (n_features < 1 || n_features > most || n_mixing > most)
        refuse("a kernel is " + shape_text(kernel) + " and a mixing matrix " + shape_text(mixing));
    std::int64_t set = *static_cast<const std::int64_t*>(inputs_[n_taps].data);
    if (set < -n_sets || set >= n_sets)
        refuse("weight set " + std::to_string(set) + " of " + std::to_string(n_sets) + " does not exist");
    if (set < 0) set += n_sets;  // as Gather does
    weights_.n_features = static_cast<int>(n_features);
    weights_.n_mixing = static_cast<int>(n_mixing);
    weights_.branches.clear();
    expect(shares, "branch_weights", {n_sets, static_cast<std::int64_t>(n_branches)});
    for (size_t b = 0; b < n_branches; ++b, of_branches += 3) {
        const std::int64_t size = of_branches[0].shape[4];
        if (of_branches[0].rank != 5 || size % 2 != 1 || size > most)
            refuse("a kernel is " + shape_text(of_branches[0]) + "; its sides must be odd");
        expect(of_branches[0], "a kernel", {n_sets, n_features, weights_.n_taps, size, size});
        expect(of_branches[1], "a mixing matrix", {n_sets, n_mixing, n_features, n_features});
        expect(of_branches[2], "a head", {n_sets, n_features});
        weights_.branches.push_back(
            {static_cast<int>(size), of_branches[0].floats() + set * n_features * weights_.n_taps * size * size,
             of_branches[1].floats() + set * n_mixing * n_features * n_features,
             of_branches[2].floats() + set * n_features,
             shares.floats()[set * static_cast<std::int64_t>(n_branches) + static_cast<std::int64_t>(b)]});
    }
}

}  // namespace lowdose::ops
