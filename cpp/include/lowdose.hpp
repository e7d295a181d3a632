// lowdose.hpp - lowdose.h for C++17: handles that give themselves back, errors as exceptions. Header only; everything
// that lowdose.h says of threads, memory, aliasing and units holds here too.
//
//     lowdose::Engine engine("/opt/onnxruntime/lib/libonnxruntime.so");
//     lowdose::Model model = engine.open_model("wcvd.onnx");
//     lowdose::Stream stream = model.open_stream(lowdose::stream_options<uint16_t, float>(512, 512));
//     stream.push(lowdose::frame(pixels, 512, 512));
#ifndef LOWDOSE_HPP
#define LOWDOSE_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "lowdose.h"

namespace lowdose {

// A status that is an error, with the message of the handle.
class Error : public std::runtime_error {
public:
    Error(lowdose_status status, const std::string& message)
        : std::runtime_error(message.empty() ? lowdose_status_name(status) : message), status_(status) {}
    lowdose_status status() const noexcept { return status_; }

private:
    lowdose_status status_;
};

// lowdose_dtype of a C++ type.
template <class T>
struct dtype_of;
template <>
struct dtype_of<std::uint8_t> : std::integral_constant<lowdose_dtype, LOWDOSE_UINT8> {};
template <>
struct dtype_of<std::uint16_t> : std::integral_constant<lowdose_dtype, LOWDOSE_UINT16> {};
template <>
struct dtype_of<std::int16_t> : std::integral_constant<lowdose_dtype, LOWDOSE_INT16> {};
template <>
struct dtype_of<std::uint32_t> : std::integral_constant<lowdose_dtype, LOWDOSE_UINT32> {};
template <>
struct dtype_of<float> : std::integral_constant<lowdose_dtype, LOWDOSE_FLOAT32> {};
template <>
struct dtype_of<double> : std::integral_constant<lowdose_dtype, LOWDOSE_FLOAT64> {};

// Options of a stream of In frames and Out results; the other members are 0, the defaults.
template <class In, class Out = float>
lowdose_stream_options stream_options(std::int32_t height, std::int32_t width) {
    lowdose_stream_options options{};
    options.struct_bytes = sizeof options;
    options.height = height;
    options.width = width;
    options.dtype_in = dtype_of<In>::value;
    options.dtype_out = dtype_of<Out>::value;
    return options;
}

template <class T>
lowdose_frame frame(const T* data, std::int32_t height, std::int32_t width, std::uint64_t sequence = 0,
                    std::int64_t timestamp = 0, std::ptrdiff_t row_stride_bytes = 0) {
    lowdose_frame frame{};
    frame.struct_bytes = sizeof frame;
    frame.data = data;
    frame.height = height;
    frame.width = width;
    frame.dtype = dtype_of<T>::value;
    frame.row_stride_bytes = row_stride_bytes;
    frame.sequence = sequence;
    frame.timestamp = timestamp;
    return frame;
}

template <class T>
lowdose_result result(T* data, std::int32_t height, std::int32_t width, std::ptrdiff_t row_stride_bytes = 0) {
    lowdose_result result{};
    result.struct_bytes = sizeof result;
    result.data = data;
    result.height = height;
    result.width = width;
    result.dtype = dtype_of<T>::value;
    result.row_stride_bytes = row_stride_bytes;
    return result;
}

namespace detail {

using Log = std::function<void(lowdose_log_level, const char*)>;

// Throws Error for an error; other statuses are returned.
template <class Handle>
lowdose_status check(lowdose_status status, const Handle* handle,
                     lowdose_status (LOWDOSE_CALL* message)(const Handle*, char*, std::size_t)) {
    if (status >= LOWDOSE_OK) return status;
    char text[2048] = "";
    if (handle && status != LOWDOSE_ERROR_NULL) message(handle, text, sizeof text);
    throw Error(status, text);
}

template <class Handle, lowdose_status (LOWDOSE_CALL* give_back)(Handle*)>
struct GiveBack {
    void operator()(Handle* handle) const noexcept { give_back(handle); }
};

}  // namespace detail

class Model;

class Stream {
public:
    // False: the frame was dropped, for the queue had no room until the deadline.
    bool push(const lowdose_frame& frame) { return check(lowdose_stream_push(get(), &frame)) == LOWDOSE_OK; }
    // LOWDOSE_OK, LOWDOSE_NONE or LOWDOSE_END.
    lowdose_status pop(lowdose_result& result, double timeout_ms = 0) {
        return check(lowdose_stream_pop(get(), &result, timeout_ms));
    }
    void flush() { check(lowdose_stream_flush(get())); }
    void reset() { check(lowdose_stream_reset(get())); }
    // Another model takes over between two frames. given, weight_set, cutoff: as in lowdose_replace_options.
    void replace(const Model& model, std::uint32_t given = 0, std::int32_t weight_set = 0, float cutoff = 0);
    void denoise(const std::vector<lowdose_frame>& frames, std::vector<lowdose_result>& results) {
        if (frames.size() != results.size()) throw Error(LOWDOSE_ERROR_SIZE, "as many results as frames are needed");
        check(lowdose_stream_denoise(get(), frames.size(), frames.data(), results.data()));
    }
    lowdose_stream_info info() const {
        lowdose_stream_info info{};
        info.struct_bytes = sizeof info;
        check(lowdose_stream_query(get(), &info));
        return info;
    }
    lowdose_statistics statistics() const {
        lowdose_statistics statistics{};
        statistics.struct_bytes = sizeof statistics;
        check(lowdose_stream_statistics(get(), &statistics));
        return statistics;
    }
    lowdose_stream* get() const noexcept { return handle_.get(); }

private:
    friend class Model;
    Stream(lowdose_stream* handle, std::shared_ptr<detail::Log> log) : log_(std::move(log)), handle_(handle) {}
    lowdose_status check(lowdose_status status) const {
        return detail::check<lowdose_stream>(status, get(), lowdose_stream_message);
    }

    std::shared_ptr<detail::Log> log_;  // must outlive the handle
    std::unique_ptr<lowdose_stream, detail::GiveBack<lowdose_stream, lowdose_stream_close>> handle_;
};

class Model {
public:
    // progress(step, share): false cancels. What it throws cancels too, and is not passed on.
    Stream open_stream(lowdose_stream_options options,
                       const std::function<bool(const char*, double)>& progress = {}) const {
        if (progress) {
            options.progress_user = const_cast<std::function<bool(const char*, double)>*>(&progress);
            options.progress = [](void* user, const char* step, double share) -> std::int32_t {
                try {
                    return (*static_cast<const std::function<bool(const char*, double)>*>(user))(step, share) ? 0 : 1;
                } catch (...) {
                    return 1;
                }
            };
        }
        lowdose_stream* stream = nullptr;
        check(lowdose_stream_open(get(), &options, &stream));
        return Stream(stream, log_);
    }
    // The strings belong to the model.
    lowdose_model_info info() const {
        lowdose_model_info info{};
        info.struct_bytes = sizeof info;
        check(lowdose_model_query(get(), &info));
        return info;
    }
    struct Tap {
        std::int32_t dy, dx;
    };
    std::vector<Tap> taps() const {
        std::vector<Tap> taps;
        Tap tap{};
        while (check(lowdose_model_tap(get(), taps.size(), &tap.dy, &tap.dx)) == LOWDOSE_OK) taps.push_back(tap);
        return taps;
    }
    lowdose_model* get() const noexcept { return handle_.get(); }

private:
    friend class Engine;
    Model(lowdose_model* handle, std::shared_ptr<detail::Log> log) : log_(std::move(log)), handle_(handle) {}
    lowdose_status check(lowdose_status status) const {
        return detail::check<lowdose_model>(status, get(), lowdose_model_message);
    }

    std::shared_ptr<detail::Log> log_;
    std::unique_ptr<lowdose_model, detail::GiveBack<lowdose_model, lowdose_model_close>> handle_;
};

inline void Stream::replace(const Model& model, std::uint32_t given, std::int32_t weight_set, float cutoff) {
    const lowdose_replace_options options{sizeof options, given, weight_set, cutoff};
    check(lowdose_stream_replace(get(), model.get(), &options));
}

class Engine {
public:
    // runtime_path: the ONNX Runtime library. log: called by any thread; what it throws is lost.
    explicit Engine(const std::string& runtime_path, detail::Log log = {})
        : log_(log ? std::make_shared<detail::Log>(std::move(log)) : nullptr) {
        lowdose_engine_options options{};
        options.struct_bytes = sizeof options;
        options.runtime_path = runtime_path.c_str();
        if (log_) {
            options.log_user = log_.get();
            options.log = [](void* user, lowdose_log_level level, const char* message) {
                try {
                    (*static_cast<detail::Log*>(user))(level, message);
                } catch (...) {
                }
            };
        }
        char message[2048] = "";
        lowdose_engine* engine = nullptr;
        const lowdose_status status = lowdose_engine_create(&options, &engine, message, sizeof message);
        if (status < LOWDOSE_OK) throw Error(status, message);
        handle_.reset(engine);
    }

    Model open_model(const std::string& path, const std::string& device = "auto", bool kernels = true) const {
        const lowdose_model_options options = model_options(device, kernels);
        lowdose_model* model = nullptr;
        check(lowdose_model_open(get(), path.c_str(), &options, &model));
        return Model(model, log_);
    }
    Model open_model(const void* bytes, std::size_t n_bytes, const std::string& device = "auto",
                     bool kernels = true) const {
        const lowdose_model_options options = model_options(device, kernels);
        lowdose_model* model = nullptr;
        check(lowdose_model_open_memory(get(), bytes, n_bytes, &options, &model));
        return Model(model, log_);
    }
    std::vector<std::string> devices() const {
        std::vector<std::string> devices;
        const char* name = nullptr;
        while (check(lowdose_engine_device(get(), devices.size(), &name)) == LOWDOSE_OK) devices.emplace_back(name);
        return devices;
    }
    std::string runtime_version() const {
        const char* version = nullptr;
        check(lowdose_engine_runtime(get(), &version));
        return version;
    }
    lowdose_engine* get() const noexcept { return handle_.get(); }

private:
    static lowdose_model_options model_options(const std::string& device, bool kernels) {
        lowdose_model_options options{};
        options.struct_bytes = sizeof options;
        options.device = device.c_str();
        options.without_kernels = kernels ? 0 : 1;
        return options;
    }
    lowdose_status check(lowdose_status status) const {
        return detail::check<lowdose_engine>(status, get(), lowdose_engine_message);
    }

    std::shared_ptr<detail::Log> log_;
    std::unique_ptr<lowdose_engine, detail::GiveBack<lowdose_engine, lowdose_engine_destroy>> handle_;
};

}  // namespace lowdose

#endif
