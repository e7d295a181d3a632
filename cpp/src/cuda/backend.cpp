#include "backend.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "error.hpp"

namespace lowdose {

namespace {

constexpr unsigned block = 256;

class CudaBackend final : public Backend {
public:
    CudaBackend(std::shared_ptr<cuda::Queue> queue, const FrameShape& shape)
        : queue_(std::move(queue)), shape_(shape), host_(host_backend(shape)) {
        const cuda::Module& kernels = queue_->device().common();
        to_float_ = kernels.function("to_float");
        from_float_ = kernels.function("from_float");
        subtract_ = kernels.function("subtract");
        blend_ = kernels.function("blend");
        add_sums_ = kernels.function("add_sums");
        const size_t largest = shape.n_values() * sizeof(double);
        raw_ = queue_->allocate(largest);
        result_ = queue_->allocate(largest);
        staged_in_ = queue_->allocate_pinned(largest);
        staged_out_ = queue_->allocate_pinned(largest);
        small_ = queue_->allocate(small_bytes());
        staged_small_ = queue_->allocate_pinned(small_bytes());
    }

    ~CudaBackend() override {
        try {
            queue_->wait();       // for what still uses this memory
        } catch (const Error&) {  // told by the call that failed
        }
    }

    bool on_gpu() const override { return true; }

    std::unique_lock<std::recursive_mutex> lock() override {
        return std::unique_lock<std::recursive_mutex>(queue_->device().preparing());
    }

    std::shared_ptr<void> fast_memory(size_t n_bytes) override {
        constexpr size_t most = 16;
        const auto locked = lock();
        for (const auto& [memory, size] : fast_)
            if (memory.use_count() == 1 && size == n_bytes) return memory;
        if (fast_.size() == most) return nullptr;
        fast_.emplace_back(queue_->allocate_pinned(n_bytes), n_bytes);
        return fast_.back().first;
    }

    Plane zeros(size_t n_values) override {
        const auto memory = queue_->allocate(n_values * sizeof(float));
        return {memory, static_cast<float*>(memory.get())};
    }

    void clear(float* values, size_t n_values) override { queue_->clear(values, n_values * sizeof(float)); }

    void copy(const float* from, size_t n_values, float* to) override {
        queue_->copy(to, from, n_values * sizeof(float));
    }

    const float* on_host(const float* values, size_t n_values, std::vector<float>& room) override {
        room.resize(n_values);
        queue_->copy(room.data(), values, n_values * sizeof(float));
        wait();
        return room.data();
    }

    void to_float(const RawFrame& frame, DType dtype, const Correction& correction, float offset, float* out) override {
        if (staging_) wait();    // for the last frame to leave the staging memory
        if (correction.any()) {  // references are not on the GPU
            if (frame.on_gpu)
                throw Error("frames on a GPU take no dark, gain or bad-pixel reference", Error::Kind::argument);
            auto* corrected = static_cast<float*>(staged_in_.get());
            host_->to_float(frame, dtype, correction, offset, corrected);
            queue_->copy(out, corrected, shape_.n_values() * sizeof(float));
            wait();
            return;
        }
        const auto n = static_cast<unsigned>(shape_.n_values());
        const RawFrame there = frame.on_gpu ? frame : uploaded(frame, size_of(dtype));
        const bool may_be_infinite = dtype == DType::f32 || dtype == DType::f64;
        auto* first_bad = static_cast<unsigned*>(small_.get());
        auto& found = *static_cast<unsigned*>(staged_small_.get());
        if (may_be_infinite) {
            found = n;
            queue_->copy(first_bad, &found, sizeof(found));
        }
        queue_->launch(to_float_, grid(n), {block}, there.data, static_cast<int>(dtype),
                       static_cast<long long>(there.row_stride_bytes),
                       static_cast<long long>(there.channel_stride_bytes), static_cast<unsigned>(shape_.height),
                       static_cast<unsigned>(shape_.width), n, offset, out, first_bad);
        if (may_be_infinite) queue_->copy(&found, first_bad, sizeof(found));
        if (may_be_infinite || !staging_) wait();  // on return the caller may change the frame
        if (!may_be_infinite || found == n) return;
        const auto width = static_cast<unsigned>(shape_.width), height = static_cast<unsigned>(shape_.height);
        throw Error("pixel (" + std::to_string(found / width % height) + ", " + std::to_string(found % width) +
                    ") is NaN, infinite or beyond float32; replace such pixels first");
    }

    void subtract(float* values, size_t n_values, float offset) override {
        const auto n = static_cast<unsigned>(n_values);
        queue_->launch(subtract_, grid(n), {block}, values, n, offset);
    }

    void sums(const float* frame, std::vector<double>& sums) override {
        constexpr unsigned blocks = 128;
        const size_t n_bytes = sums.size() * sizeof(double);
        auto* there = static_cast<double*>(small_.get());
        queue_->clear(there, n_bytes);
        queue_->launch(add_sums_, {blocks, static_cast<unsigned>(shape_.n_channels)}, {block}, frame,
                       static_cast<unsigned>(shape_.plane()), there);
        queue_->copy(staged_small_.get(), there, n_bytes);
        wait();
        std::memcpy(sums.data(), staged_small_.get(), n_bytes);
    }

    void blend(const float* before, const float* from, float share, size_t n_values, float* out) override {
        const auto n = static_cast<unsigned>(n_values);
        queue_->launch(blend_, grid(n), {block}, before, from, share, n, out);
    }

    void from_float(const float* in, size_t n_values, float offset, DType dtype, void* out, bool on_gpu) override {
        const size_t n_bytes = n_values * size_of(dtype);
        const auto n = static_cast<unsigned>(n_values);
        void* there = on_gpu ? out : result_.get();
        queue_->launch(from_float_, grid(n), {block}, in, n, offset, static_cast<int>(dtype), there);
        const bool direct = !on_gpu && queue_->is_pinned(out);
        if (!on_gpu) queue_->copy(direct ? out : staged_out_.get(), there, n_bytes);
        wait();
        if (!on_gpu && !direct) std::memcpy(out, staged_out_.get(), n_bytes);
    }

private:
    void wait() {
        queue_->wait();
        staging_ = false;
    }
    static cuda::Queue::Size grid(unsigned n) { return {(n + block - 1) / block}; }
    size_t small_bytes() const { return 2 * sizeof(double) * static_cast<size_t>(shape_.n_channels); }

    // The frame on the GPU, dense: straight from memory that the GPU reads itself, else through such memory.
    RawFrame uploaded(const RawFrame& frame, size_t pixel_bytes) {
        const auto row_bytes = static_cast<std::ptrdiff_t>(pixel_bytes) * shape_.width;
        const std::ptrdiff_t channel_bytes = row_bytes * shape_.height;
        const auto* from = static_cast<const unsigned char*>(frame.data);
        auto* staged = static_cast<unsigned char*>(staged_in_.get());
        auto* to = static_cast<unsigned char*>(raw_.get());
        const bool dense = frame.row_stride_bytes == row_bytes;
        const bool direct = dense && queue_->is_pinned(from);
        for (int channel = 0; channel < shape_.n_channels; ++channel) {
            const unsigned char* plane = from + channel * frame.channel_stride_bytes;
            if (direct) {
                queue_->copy(to, plane, static_cast<size_t>(channel_bytes));
            } else {
                // In parts, so that the GPU fetches one while the next is staged.
                const int rows = std::max(1, static_cast<int>((1 << 20) / row_bytes));
                for (int y = 0; y < shape_.height; y += rows) {
                    const int n = std::min(rows, shape_.height - y);
                    for (int row = y; row < y + (dense ? 1 : n); ++row)
                        std::memcpy(staged + row * row_bytes, plane + row * frame.row_stride_bytes,
                                    static_cast<size_t>((dense ? n : 1) * row_bytes));
                    queue_->copy(to + y * row_bytes, staged + y * row_bytes, static_cast<size_t>(n * row_bytes));
                }
                staged += channel_bytes;
                staging_ = true;
            }
            to += channel_bytes;
        }
        return {raw_.get(), row_bytes, channel_bytes, true};
    }

    std::shared_ptr<cuda::Queue> queue_;
    FrameShape shape_;
    std::unique_ptr<Backend> host_;
    void *to_float_, *from_float_, *subtract_, *blend_, *add_sums_;
    std::vector<std::pair<std::shared_ptr<void>, size_t>> fast_;
    bool staging_ = false;                                         // a copy from staged_in_ may be under way
    std::shared_ptr<void> raw_, result_, small_;                   // on the GPU
    std::shared_ptr<void> staged_in_, staged_out_, staged_small_;  // pinned
};

}  // namespace

std::unique_ptr<Backend> cuda_backend(std::shared_ptr<cuda::Queue> queue, const FrameShape& shape) {
    return std::make_unique<CudaBackend>(std::move(queue), shape);
}

}  // namespace lowdose
