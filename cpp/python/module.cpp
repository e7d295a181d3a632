// The private extension lowdose._core: checks arguments, releases the GIL, calls the core, returns.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "choice.hpp"
#include "cuda/sources.hpp"
#include "device_array.hpp"
#include "engine_model.hpp"
#include "error.hpp"
#include "filter.hpp"
#include "lowpass.hpp"
#include "model_bytes.hpp"
#include "onnx_model.hpp"
#include "stream.hpp"

namespace py = pybind11;
using namespace lowdose;

namespace {

std::string dtype_name(const py::array& array) {
    if (array.dtype().byteorder() == '>') throw Error("big-endian pixels: convert to the native byte order first");
    return py::str(array.dtype().attr("name"));
}

std::string shape_text(const std::vector<py::ssize_t>& shape) {
    std::string text;
    for (const py::ssize_t length : shape) text += (text.empty() ? "" : "x") + std::to_string(length);
    return text;
}

std::vector<py::ssize_t> shape_of(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

using Stack = py::array_t<float, py::array::c_style>;

Stack as_stack(const py::array& frames, py::ssize_t n_dimensions, const char* axes) {
    Stack stack = Stack::ensure(frames);
    if (!stack || stack.ndim() != n_dimensions || stack.size() == 0)
        throw Error(std::string("expected a float32 array ") + axes + ", given " + shape_text(shape_of(frames)));
    return stack;
}

Choice choose_from(const Model& model, const py::array& array, const Wanted& wanted, int threads) {
    const Stack windows = as_stack(array, 4, "(n_windows, n_taps, height, width)");
    const Contract& contract = model.contract();
    const bool whole = contract.has_low_pass || contract.n_weight_sets > 1;  // else the frame itself is enough
    if (windows.shape(1) != (whole ? contract.n_taps() : 1))
        throw Error("windows hold " + std::to_string(windows.shape(1)) + " frames, the model takes " +
                    std::to_string(contract.n_taps()));
    std::vector<Window> views;
    for (py::ssize_t i = 0; i < windows.shape(0); ++i) {
        Window window(static_cast<size_t>(contract.n_taps()), windows.data(i, 0));
        for (py::ssize_t tap = 1; tap < windows.shape(1); ++tap)
            window[static_cast<size_t>(tap)] = windows.data(i, tap);
        views.push_back(window);
    }
    const py::gil_scoped_release released;
    return choose(model, views, static_cast<int>(windows.shape(2)), static_cast<int>(windows.shape(3)), threads,
                  wanted);
}

// (height, width), with several channels (channels, height, width).
std::vector<py::ssize_t> frame_shape(int n_channels, int height, int width) {
    if (n_channels == 1) return {height, width};
    return {n_channels, height, width};
}

std::vector<py::ssize_t> frame_shape(const Stream& stream) {
    return frame_shape(stream.n_channels(), stream.height(), stream.width());
}

std::vector<py::ssize_t> frame_shape(const FilterStream& stream) {
    return frame_shape(stream.shape().n_channels, stream.shape().height, stream.shape().width);
}

DType type_in(const Stream& stream) { return stream.options().in; }
DType type_in(const FilterStream& stream) { return stream.in(); }
DType type_out(const Stream& stream) { return stream.options().out; }
DType type_out(const FilterStream& stream) { return stream.out(); }

// Any array, buffer or DLPack object in the CPU's memory, without a copy.
py::array as_array(const py::object& object) {
    if (py::isinstance<py::array>(object)) return object;
    const py::module_ numpy = py::module_::import("numpy");
    const bool only_dlpack = !PyObject_CheckBuffer(object.ptr()) && py::hasattr(object, "__dlpack__");
    return numpy.attr(only_dlpack ? "from_dlpack" : "asarray")(object);
}

// An array of a frame's shape; one for a GPU lies where the GPU reads and writes it itself, as long as there is room.
template <class AnyStream>
py::array new_array(AnyStream& stream, DType dtype, const std::vector<py::ssize_t>& shape) {
    if constexpr (std::is_same_v<AnyStream, Stream>) {
        std::shared_ptr<void> memory;
        {
            const py::gil_scoped_release released;
            memory = stream.fast_memory(stream.n_values() * size_of(dtype));
        }
        if (memory) {
            void* data = memory.get();
            const py::capsule owner(new std::shared_ptr<void>(std::move(memory)),
                                    [](void* kept) { delete static_cast<std::shared_ptr<void>*>(kept); });
            return py::array(py::dtype(name_of(dtype)), shape, data, owner);
        }
    }
    return py::array(py::dtype(name_of(dtype)), shape);
}

py::object push_from_gpu(Stream& stream, const py::object& object);

template <class AnyStream>
py::object push(AnyStream& stream, const py::object& object) {
    if constexpr (std::is_same_v<AnyStream, Stream>)
        if (!py::isinstance<py::array>(object) && is_on_gpu(object)) return push_from_gpu(stream, object);
    const py::array frame = as_array(object);
    const std::vector<py::ssize_t> shape = frame_shape(stream), given = shape_of(frame);
    if (given != shape || dtype_name(frame) != name_of(type_in(stream)))
        throw Error("the stream takes frames of " + shape_text(shape) + " " + name_of(type_in(stream)) + ", given " +
                    shape_text(given) + " " + dtype_name(frame));
    const bool dense = frame.strides(frame.ndim() - 1) == frame.itemsize();
    const py::array rows = dense ? frame : py::array::ensure(frame, py::array::c_style);
    py::array out = new_array(stream, type_out(stream), shape);
    bool ready = false;
    {
        const void* data = rows.data();
        const auto row_stride = rows.strides(rows.ndim() - 2);
        const auto channel_stride = rows.ndim() == 3 ? rows.strides(0) : 0;
        void* to = out.mutable_data();
        const py::gil_scoped_release released;
        ready = stream.push(data, row_stride, channel_stride, to);
    }
    return ready ? py::object(out) : py::none();
}

// The memory of a result on the GPU, and what Python is given when `work` has written to it.
template <class Work>
py::object result_on_gpu(const Stream& stream, Work work) {
    std::shared_ptr<void> memory;
    bool ready = false;
    {
        const py::gil_scoped_release released;
        memory = stream.queue()->allocate(stream.n_values() * size_of(type_out(stream)));
        ready = work(memory.get());
    }
    if (!ready) return py::none();
    return py::cast(
        DeviceResult(std::move(memory), stream.queue()->device().index(), type_out(stream), frame_shape(stream)));
}

// A frame on a GPU: the result is there too.
py::object push_from_gpu(Stream& stream, const py::object& object) {
    if (!stream.queue())
        throw Error("frames on a GPU need a model on that GPU (--device cuda, tensorrt or rtx) that takes them whole");
    const DeviceArray frame = take_device_array(object, stream.queue()->handle());
    const std::vector<py::ssize_t> shape = frame_shape(stream);
    if (frame.shape != shape || frame.dtype != name_of(type_in(stream)))
        throw Error("the stream takes frames of " + shape_text(shape) + " " + name_of(type_in(stream)) + ", given " +
                    shape_text(frame.shape) + " " + frame.dtype);
    if (const int gpu = stream.queue()->device().index(); frame.gpu != gpu)
        throw Error("the stream is on GPU " + std::to_string(gpu) + ", the frame on GPU " + std::to_string(frame.gpu));
    if (frame.strides.back() != static_cast<py::ssize_t>(size_of(type_in(stream))))
        throw Error("the pixels of a row on a GPU must follow each other: make the array contiguous");
    const size_t n = shape.size();
    const RawFrame raw{frame.data, frame.strides[n - 2], n == 3 ? frame.strides[0] : 0, true};
    return result_on_gpu(stream, [&](void* out) { return stream.push(raw, out); });
}

template <class AnyStream>
py::object flush(AnyStream& stream) {
    if constexpr (std::is_same_v<AnyStream, Stream>)
        if (stream.last_on_gpu()) return result_on_gpu(stream, [&](void* out) { return stream.flush(out); });
    py::array out = new_array(stream, type_out(stream), frame_shape(stream));
    void* to = out.mutable_data();
    bool ready = false;
    {
        const py::gil_scoped_release released;
        ready = stream.flush(to);
    }
    return ready ? py::object(out) : py::none();
}

py::dict latency(const Latency& stage) {
    py::dict values;
    values["count"] = stage.count();
    values["mean_ms"] = stage.mean_ms();
    values["p50_ms"] = stage.percentile_ms(0.50);
    values["p95_ms"] = stage.percentile_ms(0.95);
    values["p99_ms"] = stage.percentile_ms(0.99);
    values["max_ms"] = stage.max_ms();
    return values;
}

template <class AnyStream>
py::dict statistics(const AnyStream& stream) {
    const Statistics& all = stream.statistics();
    py::dict values;
    values["frames_in"] = all.frames_in;
    values["frames_out"] = all.frames_out;
    values["replaced"] = all.replaced;
    values["total"] = latency(all.total);
    values["convert"] = latency(all.convert);
    values["choose"] = latency(all.choose);
    values["network"] = latency(all.network);
    values["low_pass"] = latency(all.low_pass);
    values["output"] = latency(all.output);
    return values;
}

py::array cast(const py::array& frame, float offset, const std::string& dtype) {
    const auto pixels = py::array_t<float, py::array::c_style>::ensure(frame);
    if (!pixels) throw Error("expected a float32 array");
    const DType wanted = parse_dtype(dtype);
    py::array out(py::dtype(dtype), std::vector<py::ssize_t>(pixels.shape(), pixels.shape() + pixels.ndim()));
    from_float(pixels.data(), static_cast<size_t>(pixels.size()), offset, wanted, out.mutable_data());
    return out;
}

FilterShape filter_shape(int height, int width, int n_channels, const std::vector<std::pair<int, int>>& taps,
                         std::optional<std::pair<int, int>> scan, int radius_px) {
    FilterShape shape{height, width, n_channels, {}, std::nullopt, radius_px};
    for (const auto& [dy, dx] : taps) shape.taps.push_back({dy, dx});
    if (scan) shape.scan = ScanShape{scan->first, scan->second};
    return shape;
}

std::shared_ptr<Kernels> make_kernels(const FilterStream& stream, const py::array& weights, const py::array& level,
                                      const py::array& scale) {
    const FilterShape& shape = stream.shape();
    const py::ssize_t side = 2 * shape.radius_px + 1;
    const auto copied = [](const py::array& array, const std::vector<py::ssize_t>& wanted, const char* axes) {
        const Stack values = as_stack(array, static_cast<py::ssize_t>(wanted.size()), axes);
        if (shape_of(values) != wanted)
            throw Error("expected " + std::string(axes) + " of " + shape_text(wanted) + ", given " +
                        shape_text(shape_of(values)));
        return std::vector<float>(values.data(), values.data() + values.size());
    };
    std::vector<float> all =
        copied(weights, {shape.n_places(), shape.n_channels, shape.n_taps(), shape.n_channels, side, side},
               "(places, channels, taps, channels, side, side)");
    const std::vector<py::ssize_t> frame{shape.n_channels, shape.height, shape.width};
    std::vector<float> levels = copied(level, frame, "(channels, height, width)");
    std::vector<float> scales = copied(scale, frame, "(channels, height, width)");
    const py::gil_scoped_release released;
    return std::make_shared<Kernels>(shape, std::move(all), std::move(levels), std::move(scales),
                                     stream.instruction_set());
}

Stack filtered(const py::array& frame, float cutoff) {
    if (!(cutoff > 0)) throw Error("the low-pass cutoff must be above 0 (cycles/pixel)");
    const Stack from = as_stack(frame, 2, "(height, width)");
    Stack out({from.shape(0), from.shape(1)});
    float* to = out.mutable_data();
    const py::gil_scoped_release released;
    low_pass(from.data(), static_cast<int>(out.shape(0)), static_cast<int>(out.shape(1)), cutoff,
             ops::instruction_set(), to);
    return out;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
    module.attr("CUTOFF_NONE") = cutoff_none;

    py::register_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) std::rethrow_exception(pointer);
        } catch (const Error& error) {
            const py::object type = py::module_::import("lowdose.errors").attr("LowdoseError");
            PyErr_SetString(type.ptr(), error.what());
        }
    });

    module.def(
        "runtime_info",
        [](const std::string& ort_path) {
            const auto library = ort::Library::load(ort_path);
            return py::make_tuple(library->version(), library->providers());
        },
        py::arg("ort_path"));
    module.def(
        "add_plugin",
        [](const std::string& ort_path, const std::string& provider, const std::string& path) {
            // Kept: ONNX Runtime forgets its plug-ins with the last environment.
            static auto* kept = new std::vector<std::shared_ptr<ort::Library>>;
            auto library = ort::Library::load(ort_path);
            library->add_plugin(provider, path);
            kept->push_back(std::move(library));
        },
        py::arg("ort_path"), py::arg("provider"), py::arg("path"));
    module.def(
        "with_settings",
        [](const std::string& bytes, std::int64_t weight_set, float cutoff) {
            return py::bytes(with_settings(bytes, weight_set, cutoff));
        },
        py::arg("bytes"), py::arg("weight_set"), py::arg("cutoff"));
    module.def(
        "gpu_kernels",
        [](int capability) {
            const std::vector<std::string> architecture{"-DN_TAPS=3",     "-DN_FEATURES=3",
                                                        "-DN_MIXING=4",   "-DLARGEST=7",
                                                        "-DN_BRANCHES=2", "-DBRANCHES=BRANCH(0,3)BRANCH(1,7)"};
            return std::map<std::string, size_t>{
                {"common", cuda::compiled(cuda::common_source, {}, capability).size()},
                {"blind_spot", cuda::compiled(cuda::blind_spot_source, architecture, capability).size()},
                {"low_pass", cuda::compiled(cuda::low_pass_source, {}, capability).size()}};
        },
        py::arg("capability"));
    module.def(
        "use_gpu",
        [](const std::string& device) {
            const py::gil_scoped_release released;
            const auto gpu = cuda::Device::open(cuda::index_of(device));
            gpu->use();
            return std::to_string(gpu->capability() / 10) + "." + std::to_string(gpu->capability() % 10);
        },
        py::arg("device"));
    module.def("cast", &cast, py::arg("frame"), py::arg("offset"), py::arg("dtype"));
    module.def("low_pass", &filtered, py::arg("frame"), py::arg("cutoff"));

    py::class_<DeviceResult>(module, "DeviceFrame")
        .def(
            "__dlpack__", [](const DeviceResult& result, const py::kwargs&) { return result.dlpack(); },
            "Its memory as a DLPack capsule; it is finished, whatever the stream.")
        .def("__dlpack_device__", &DeviceResult::dlpack_device)
        .def_property_readonly("shape", [](const DeviceResult& result) { return py::tuple(py::cast(result.shape())); })
        .def_property_readonly("dtype", &DeviceResult::dtype);

    py::class_<Choice>(module, "Choice")
        .def_readonly("weight_set", &Choice::weight_set)
        .def_readonly("cutoff", &Choice::cutoff)
        .def_readonly("offset", &Choice::offset);

    py::class_<Model, std::shared_ptr<Model>>(module, "Model")
        .def_property_readonly("metadata", &Model::metadata)
        .def_property_readonly("device", &Model::device)
        .def_property_readonly("kernels",
                               [](const Model& model) {
                                   return model.kernels().empty() ? py::none() : py::object(py::str(model.kernels()));
                               })
        .def(
            "choose",
            [](const Model& model, const py::array& windows, std::optional<int> weight_set, std::optional<float> cutoff,
               std::optional<float> offset, int threads) {
                return choose_from(model, windows, {weight_set, cutoff, offset}, threads);
            },
            py::arg("windows"), py::arg("weight_set"), py::arg("cutoff"), py::arg("offset"), py::arg("threads"));
    py::class_<OnnxModel, Model, std::shared_ptr<OnnxModel>>(module, "OnnxModel")
        .def(
            py::init([](const std::string& path, const std::string& ort_path, const std::string& device, bool kernels) {
                const py::gil_scoped_release released;
                return std::make_shared<OnnxModel>(path, read_file(path), ort::Library::load(ort_path), device,
                                                   kernels);
            }),
            py::arg("path"), py::arg("ort_path"), py::arg("device"), py::arg("kernels"))
        .def_property_readonly("runtime_version", [](const OnnxModel& model) { return model.runtime().version(); });
    py::class_<EngineModel, Model, std::shared_ptr<EngineModel>>(module, "EngineModel")
        .def(py::init([](const std::string& name, const std::string& metadata, int height, int width, int batch,
                         int weight_set, float cutoff, const std::string& device, EngineModel::Open open) {
                 const BuiltIn built_in{{height, width, batch}, {weight_set, cutoff}};
                 return std::make_shared<EngineModel>(name, metadata, built_in, device, std::move(open));
             }),
             py::arg("name"), py::arg("metadata"), py::kw_only(), py::arg("height"), py::arg("width"), py::arg("batch"),
             py::arg("weight_set"), py::arg("cutoff"), py::arg("device"), py::arg("open"));

    py::class_<Stream>(module, "Stream")
        .def(py::init([](std::shared_ptr<Model> model, int height, int width, const std::string& dtype_in,
                         const std::string& dtype_out, int threads, int tile, double max_bytes, int batch,
                         std::optional<int> weight_set, std::optional<float> cutoff, std::optional<float> offset,
                         std::optional<std::pair<int, int>> scan) {
                 StreamOptions options{parse_dtype(dtype_in),
                                       parse_dtype(dtype_out),
                                       threads,
                                       tile,
                                       max_bytes,
                                       batch,
                                       {weight_set, cutoff, offset},
                                       {}};
                 if (scan) options.scan = ScanShape{scan->first, scan->second};
                 const py::gil_scoped_release released;
                 return std::make_unique<Stream>(std::move(model), height, width, options);
             }),
             py::arg("model"), py::arg("height"), py::arg("width"), py::kw_only(), py::arg("dtype_in"),
             py::arg("dtype_out"), py::arg("threads"), py::arg("tile"), py::arg("max_bytes"), py::arg("batch"),
             py::arg("weight_set"), py::arg("cutoff"), py::arg("offset"), py::arg("scan"))
        .def("push", &push<Stream>, py::arg("frame"))
        .def("flush", &flush<Stream>)
        .def("new_frame", [](Stream& stream) { return new_array(stream, type_in(stream), frame_shape(stream)); })
        .def("reset", &Stream::reset)
        .def(
            "replace",
            [](Stream& stream, std::shared_ptr<Model> model, std::optional<int> weight_set,
               std::optional<float> cutoff) {
                const py::gil_scoped_release released;
                stream.replace(std::move(model), weight_set, cutoff);
            },
            py::arg("model"), py::arg("weight_set"), py::arg("cutoff"))
        .def("statistics", &statistics<Stream>)
        .def_property_readonly("latency_frames", &Stream::latency_frames)
        .def_property_readonly("choice", [](const Stream& stream) { return stream.choice(); })
        .def_property_readonly("n_tiles", [](const Stream& stream) { return stream.tiles().tiles.size(); });

    py::class_<Kernels, std::shared_ptr<Kernels>>(module, "FilterKernels");
    py::class_<FilterStream>(module, "FilterStream")
        .def(py::init([](int height, int width, int n_channels, const std::vector<std::pair<int, int>>& taps,
                         int radius_px, const std::string& dtype_in, const std::string& dtype_out,
                         std::optional<std::pair<int, int>> scan) {
                 return std::make_unique<FilterStream>(filter_shape(height, width, n_channels, taps, scan, radius_px),
                                                       parse_dtype(dtype_in), parse_dtype(dtype_out),
                                                       ops::instruction_set());
             }),
             py::arg("height"), py::arg("width"), py::kw_only(), py::arg("n_channels"), py::arg("taps"),
             py::arg("radius_px"), py::arg("dtype_in"), py::arg("dtype_out"), py::arg("scan"))
        .def("prepare", &make_kernels, py::arg("weights"), py::arg("level"), py::arg("scale"))
        .def(
            "use", [](FilterStream& stream, std::shared_ptr<Kernels> kernels) { stream.use(std::move(kernels)); },
            py::arg("kernels"))
        .def("push", &push<FilterStream>, py::arg("frame"))
        .def("flush", &flush<FilterStream>)
        .def("reset", &FilterStream::reset)
        .def("statistics", &statistics<FilterStream>)
        .def_property_readonly("latency_frames", &FilterStream::latency_frames);
}
