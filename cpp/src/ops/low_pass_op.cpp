#include "low_pass_op.hpp"

#include <atomic>
#include <limits>
#include <new>

#include "error.hpp"
#include "lowpass.hpp"

namespace lowdose::ops {

namespace {

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

void LowPassKernel::compute(Context* context) {
    if (api_.n_inputs(context) != 2) throw Error("LowPass takes a frame and a cutoff");
    const Input frame = api_.input(context, 0), cutoff = api_.input(context, 1);
    constexpr std::int64_t longest = std::numeric_limits<int>::max() / 4;
    if (frame.type != ElementType::float32 || frame.rank != 4 || frame.shape[2] > longest || frame.shape[3] > longest)
        throw Error("LowPass: the frame is " + shape_text(frame) + ", not float32 (batch, channel, height, width)");
    if (cutoff.type != ElementType::float32 || cutoff.rank != 0 || !(*cutoff.floats() > 0))
        throw Error("LowPass: the cutoff must be a float32 scalar above 0");
    float* out = api_.output(context, frame.shape, 4);
    const auto height = static_cast<int>(frame.shape[2]), width = static_cast<int>(frame.shape[3]);
    if (height == 0 || width == 0) return;
    const auto parallel = [&](size_t n, FunctionRef<void(size_t)> task) {
        Job job{task};
        api_.parallel(context, [](void* data, size_t index) { static_cast<Job*>(data)->run(index); }, n, &job);
        if (job.out_of_memory) throw std::bad_alloc();
    };
    const std::int64_t n_pixels = frame.shape[2] * frame.shape[3];
    for (std::int64_t plane = 0; plane < frame.shape[0] * frame.shape[1]; ++plane)
        low_pass(frame.floats() + plane * n_pixels, height, width, *cutoff.floats(), set_, out + plane * n_pixels,
                 parallel);
}

}  // namespace lowdose::ops
