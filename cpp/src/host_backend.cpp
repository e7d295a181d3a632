#include <algorithm>

#include "backend.hpp"
#include "error.hpp"

namespace lowdose {

namespace {

class HostBackend final : public Backend {
public:
    explicit HostBackend(const FrameShape& shape) : shape_(shape) {}

    bool on_gpu() const override { return false; }

    std::unique_lock<std::recursive_mutex> lock() override { return {}; }

    std::shared_ptr<void> fast_memory(size_t) override { return nullptr; }

    Plane zeros(size_t n_values) override {
        auto values = std::make_shared<std::vector<float>>(n_values);
        return {values, values->data()};
    }

    void clear(float* values, size_t n_values) override { std::fill_n(values, n_values, 0.0f); }

    void copy(const float* from, size_t n_values, float* to) override { std::copy_n(from, n_values, to); }

    const float* on_host(const float* values, size_t, std::vector<float>&) override { return values; }

    void to_float(const RawFrame& frame, DType dtype, const Correction& correction, float offset, float* out) override {
        refuse(frame.on_gpu);
        for (int channel = 0; channel < shape_.n_channels; ++channel, out += shape_.plane()) {
            lowdose::to_float(static_cast<const unsigned char*>(frame.data) + channel * frame.channel_stride_bytes,
                              dtype, frame.row_stride_bytes, shape_.height, shape_.width,
                              correction.any() ? 0.0f : offset, out);
            if (!correction.any()) continue;
            correction.apply(channel, out);
            subtract(out, shape_.plane(), offset);
        }
    }

    void subtract(float* values, size_t n_values, float offset) override {
        for (size_t i = 0; i < n_values; ++i) values[i] -= offset;
    }

    void sums(const float* frame, std::vector<double>& sums) override {
        for (size_t channel = 0; channel < sums.size(); channel += 2) {
            double sum = 0, squares = 0;
            for (size_t i = 0; i < shape_.plane(); ++i, ++frame) {
                sum += static_cast<double>(*frame);
                squares += static_cast<double>(*frame) * static_cast<double>(*frame);
            }
            sums[channel] = sum;
            sums[channel + 1] = squares;
        }
    }

    void blend(const float* before, const float* from, float share, size_t n_values, float* out) override {
        for (size_t i = 0; i < n_values; ++i) out[i] = before[i] + share * (from[i] - before[i]);
    }

    void from_float(const float* in, size_t n_values, float offset, DType dtype, void* out, bool on_gpu) override {
        refuse(on_gpu);
        lowdose::from_float(in, n_values, offset, dtype, out);
    }

private:
    static void refuse(bool on_gpu) {
        if (on_gpu)
            throw Error(
                "frames on a GPU need a model on that GPU (--device cuda, tensorrt or rtx) that takes them whole",
                Error::Kind::argument);
    }

    FrameShape shape_;
};

}  // namespace

std::unique_ptr<Backend> host_backend(const FrameShape& shape) { return std::make_unique<HostBackend>(shape); }

}  // namespace lowdose
