#include "blind_features_op.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <new>
#include <string>

#include "error.hpp"
#include "function_ref.hpp"

namespace lowdose::ops {

namespace {

enum Weight : size_t { linear, linear_bias, mix, vertical, horizontal, own, w1, b1, w2, b2, w3, b3, n_weights };

constexpr const char* names[] = {"linear", "linear_bias", "mix", "vertical", "horizontal", "own",
                                 "w1",     "b1",          "w2",  "b2",       "w3",         "b3"};

[[noreturn]] void refuse(const std::string& what) { throw Error("BlindFeatures: " + what); }

void expect(const Input& input, const char* name, std::initializer_list<std::int64_t> shape) {
    if (input.type != ElementType::float32) refuse(std::string(name) + " must be float32");
    if (input.rank == shape.size() && std::equal(shape.begin(), shape.end(), input.shape)) return;
    std::string wanted;
    for (const std::int64_t length : shape) wanted += (wanted.empty() ? "" : "x") + std::to_string(length);
    refuse(std::string(name) + " is " + shape_text(input) + ", not " + wanted);
}

// The tasks of one call, on the session's threads.
struct Job {
    FunctionRef<void(size_t)> task;
    std::atomic<bool> out_of_memory{false};

    void run(size_t index) {
        try {
            task(index);
        } catch (const std::bad_alloc&) {  // must not pass through ONNX Runtime
            out_of_memory = true;
        }
    }
};

}  // namespace

void BlindFeaturesKernel::compute(Context* context) {
    const std::lock_guard<std::mutex> lock(mutex_);
    read_inputs(context);
    read_frames();
    read_weights();
    float* out = api_.output(context, inputs_[0].shape, 4);
    if (planes_.empty() || height_ == 0 || width_ == 0) return;
    network_.prepare(weights_);
    const auto parallel = [&](size_t n, FunctionRef<void(size_t)> task) {
        Job job{task};
        api_.parallel(
            context, [](void* data, size_t index) { static_cast<Job*>(data)->run(index); }, n, &job);
        if (job.out_of_memory) throw std::bad_alloc();
    };
    const size_t n_planes = planes_.size() / static_cast<size_t>(batch_);
    const size_t n_pixels =
        static_cast<size_t>(weights_.n_channels) * static_cast<size_t>(height_) * static_cast<size_t>(width_);
    for (size_t item = 0; item < static_cast<size_t>(batch_); ++item) {
        network_.begin(planes_.data() + item * n_planes, height_, width_, out + item * n_pixels);
        parallel(network_.n_filter_tiles(), [&](size_t tile) { network_.filter(tile); });
        parallel(network_.n_tiles(), [&](size_t tile) { network_.denoise(tile); });
    }
}

// Inputs in order: the frames, then the weights.
void BlindFeaturesKernel::read_inputs(const Context* context) {
    inputs_.clear();
    for (size_t i = 0, n = api_.n_inputs(context); i < n; ++i) inputs_.push_back(api_.input(context, i));
    if (inputs_.size() <= n_weights) refuse("takes frames and then " + std::to_string(n_weights) + " weights");
    weights_.n_taps = static_cast<int>(inputs_.size() - n_weights);
}

void BlindFeaturesKernel::read_frames() {
    const Input& first = inputs_[0];
    const auto& shape = first.shape;
    if (first.rank != 4) refuse("frame_0 is " + shape_text(first) + ", not (batch, channels, height, width)");
    constexpr std::int64_t longest = std::numeric_limits<int>::max() / 4;
    if (std::max({shape[0], shape[2], shape[3]}) > longest || shape[1] > 1 << 10)
        refuse("frame_0 is too large: " + shape_text(first));
    batch_ = static_cast<int>(shape[0]);
    weights_.n_channels = static_cast<int>(shape[1]);
    height_ = static_cast<int>(shape[2]);
    width_ = static_cast<int>(shape[3]);
    planes_.clear();
    for (int tap = 0; tap < weights_.n_taps; ++tap)
        expect(inputs_[static_cast<size_t>(tap)], "a frame", {shape[0], shape[1], shape[2], shape[3]});
    for (std::int64_t item = 0; item < shape[0]; ++item)
        for (int tap = 0; tap < weights_.n_taps; ++tap)
            for (std::int64_t channel = 0; channel < shape[1]; ++channel)
                planes_.push_back(inputs_[static_cast<size_t>(tap)].floats() +
                                  (item * shape[1] + channel) * shape[2] * shape[3]);
}

void BlindFeaturesKernel::read_weights() {
    const Input* of = inputs_.data() + weights_.n_taps;
    const auto length = [&](Weight weight, size_t rank, size_t axis) {
        constexpr std::int64_t most = 1 << 12;
        const Input& input = of[weight];
        if (input.rank != rank || input.shape[axis] < 1 || input.shape[axis] > most)
            refuse(std::string(names[weight]) + " is " + shape_text(input));
        return static_cast<int>(input.shape[axis]);
    };
    const auto odd = [&](Weight weight, size_t rank, size_t axis) {
        const int n = length(weight, rank, axis);
        if (n % 2 == 0)
            refuse(std::string(names[weight]) + " is " + shape_text(of[weight]) + "; its sides must be odd");
        return n;
    };
    BlindFeaturesWeights& w = weights_;
    w.n_features = length(mix, 3, 1);
    w.linear_height = odd(linear, 4, 2);
    w.linear_width = odd(linear, 4, 3);
    w.height = odd(vertical, 3, 2);
    w.width = odd(horizontal, 3, 2);
    w.own_side = odd(own, 4, 3);
    w.n_hidden_1 = length(w1, 3, 1);
    w.n_hidden_2 = length(w2, 3, 1);
    const std::int64_t n_channels = w.n_channels, n_planes = n_channels * w.n_taps;
    expect(of[linear], "linear", {n_channels, n_planes, w.linear_height, w.linear_width});
    expect(of[linear_bias], "linear_bias", {n_channels});
    expect(of[mix], "mix", {n_channels, w.n_features, n_planes + 1});
    expect(of[vertical], "vertical", {n_channels, w.n_features, w.height});
    expect(of[horizontal], "horizontal", {n_channels, w.n_features, w.width});
    expect(of[own], "own", {n_channels, w.n_features, w.own_side, w.own_side});
    expect(of[w1], "w1", {n_channels, w.n_hidden_1, 1 + w.n_features});
    expect(of[b1], "b1", {n_channels, w.n_hidden_1});
    expect(of[w2], "w2", {n_channels, w.n_hidden_2, w.n_hidden_1});
    expect(of[b2], "b2", {n_channels, w.n_hidden_2});
    expect(of[w3], "w3", {n_channels, 1 + w.n_features + w.n_hidden_1 + w.n_hidden_2});
    expect(of[b3], "b3", {n_channels});
    const float** to[] = {&w.linear, &w.linear_bias, &w.mix, &w.vertical, &w.horizontal, &w.own,
                          &w.w1,     &w.b1,          &w.w2,  &w.b2,       &w.w3,         &w.b3};
    for (size_t i = 0; i < n_weights; ++i) *to[i] = of[i].floats();
}

}  // namespace lowdose::ops
