#include "c_api.hpp"

#include <stdexcept>

namespace lowdose::c_api {

namespace {

void copy_text(const char* text, char* buffer, size_t buffer_bytes) noexcept {
    if (buffer_bytes == 0) return;
    size_t n = std::min(std::strlen(text), buffer_bytes - 1);
    while (n > 0 && n < std::strlen(text) && (static_cast<unsigned char>(text[n]) & 0xC0u) == 0x80u) --n;  // UTF-8
    std::memcpy(buffer, text, n);
    buffer[n] = '\0';
}

}  // namespace

void Message::set(const char* text) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    copy_text(text, text_, sizeof text_);
}

lowdose_status Message::copy(char* buffer, size_t buffer_bytes) const noexcept {
    if (!buffer) return LOWDOSE_ERROR_NULL;
    if (buffer_bytes == 0) return LOWDOSE_ERROR_ARGUMENT;
    const std::lock_guard<std::mutex> lock(mutex_);
    copy_text(text_, buffer, buffer_bytes);
    return LOWDOSE_OK;
}

lowdose_status status_of(Error::Kind kind, lowdose_status otherwise) {
    switch (kind) {
        case Error::Kind::unspecified:
            return otherwise;
        case Error::Kind::argument:
            return LOWDOSE_ERROR_ARGUMENT;
        case Error::Kind::size:
            return LOWDOSE_ERROR_SIZE;
        case Error::Kind::dtype:
            return LOWDOSE_ERROR_DTYPE;
        case Error::Kind::order:
            return LOWDOSE_ERROR_ORDER;
        case Error::Kind::model:
            return LOWDOSE_ERROR_MODEL;
        case Error::Kind::runtime:
            return LOWDOSE_ERROR_RUNTIME;
        case Error::Kind::device:
            return LOWDOSE_ERROR_DEVICE;
        case Error::Kind::memory:
            return LOWDOSE_ERROR_MEMORY;
        case Error::Kind::cancelled:
            return LOWDOSE_ERROR_CANCELLED;
    }
    return LOWDOSE_ERROR_INTERNAL;
}

lowdose_status report(Message& message, const Log& log, lowdose_status otherwise) noexcept {
    const auto keep = [&](lowdose_status status, const char* text) {
        message.set(text);
        log(LOWDOSE_LOG_ERROR, text);
        return status;
    };
    try {
        throw;
    } catch (const Error& error) {
        return keep(status_of(error.kind, otherwise), error.what());
    } catch (const std::bad_alloc&) {
        return keep(LOWDOSE_ERROR_MEMORY, "out of memory");
    } catch (const std::length_error&) {
        return keep(LOWDOSE_ERROR_MEMORY, "out of memory: more than can be addressed");
    } catch (const std::exception& error) {
        return keep(LOWDOSE_ERROR_INTERNAL, error.what());
    } catch (...) {
        return keep(LOWDOSE_ERROR_INTERNAL, "an exception of an unknown type");
    }
}

void throw_struct_size(size_t given, size_t expected) {
    throw Error(
        "struct_bytes is " + std::to_string(given) + "; set it to sizeof the struct, here " + std::to_string(expected),
        Error::Kind::argument);
}

namespace {

// Devices of an ONNX Runtime, fastest first.
std::vector<std::string> devices_of(const ort::Library& library) {
    const std::vector<std::string> providers = library.providers();
    const auto has = [&](const char* name) {
        return std::find(providers.begin(), providers.end(), name) != providers.end();
    };
    std::vector<std::string> devices;
    if (has("TensorrtExecutionProvider")) devices.emplace_back("tensorrt");
    if (has("CUDAExecutionProvider")) devices.emplace_back("cuda");
    devices.emplace_back("cpu");
    return devices;
}

lowdose_status open_model(lowdose_engine& engine, const std::string& name, const std::string& bytes,
                          const lowdose_model_options* given, lowdose_model** to) {
    lowdose_model_options options{};
    if (given) options = read_struct(given, LOWDOSE_BYTES_UP_TO(lowdose_model_options, without_kernels));
    const bool automatic = !options.device || std::string(options.device) == "auto";
    const std::vector<std::string> devices =
        automatic ? engine.engine->devices : std::vector<std::string>{options.device};
    auto handle = std::make_unique<lowdose_model>();
    handle->engine = engine.engine;
    for (const std::string& device : devices) {
        try {
            handle->model = std::make_shared<const OnnxModel>(name, bytes, engine.engine->library, device,
                                                              options.without_kernels == 0);
            break;
        } catch (const Error& error) {
            if (device == devices.back()) throw;  // built for a GPU, but none is here: the next one
            engine.engine->log(LOWDOSE_LOG_INFO, (device + " is not used: " + error.what()).c_str());
        }
    }
    handle->kernels = handle->model->kernels();
    engine.engine->log(LOWDOSE_LOG_INFO, (name + " opened on " + handle->model->device()).c_str());
    *to = handle.release();
    return LOWDOSE_OK;
}

}  // namespace

}  // namespace lowdose::c_api

using namespace lowdose;
using namespace lowdose::c_api;

extern "C" {

uint32_t lowdose_version(void) { return LOWDOSE_VERSION; }

const char* lowdose_status_name(lowdose_status status) {
    switch (status) {
#define LOWDOSE_NAME_OF(name) \
    case name:                \
        return #name;
        LOWDOSE_NAME_OF(LOWDOSE_DROPPED)
        LOWDOSE_NAME_OF(LOWDOSE_END)
        LOWDOSE_NAME_OF(LOWDOSE_NONE)
        LOWDOSE_NAME_OF(LOWDOSE_OK)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_NULL)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_ARGUMENT)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_SIZE)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_DTYPE)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_ORDER)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_MODEL)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_RUNTIME)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_DEVICE)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_MEMORY)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_CANCELLED)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_FRAME)
        LOWDOSE_NAME_OF(LOWDOSE_ERROR_INTERNAL)
#undef LOWDOSE_NAME_OF
    }
    return "unknown status";
}

lowdose_status lowdose_engine_create(const lowdose_engine_options* given, lowdose_engine** engine, char* message,
                                     size_t message_bytes) {
    if (message && message_bytes > 0) message[0] = '\0';
    if (engine) *engine = nullptr;
    Message problem;
    Log log;
    const lowdose_status status = guarded(problem, log, LOWDOSE_ERROR_RUNTIME, [&] {
        if (!given || !engine) throw Error("options and engine must not be NULL");
        const auto options = read_struct(given, LOWDOSE_BYTES_UP_TO(lowdose_engine_options, log_user));
        log = {options.log, options.log_user};
        if (!options.runtime_path || !*options.runtime_path)
            throw Error("runtime_path is missing: the full path of the ONNX Runtime library", Error::Kind::argument);
        auto state = std::make_shared<Engine>();
        state->library = ort::Library::load(options.runtime_path);
        state->devices = devices_of(*state->library);
        state->log = log;
        auto handle = std::make_unique<lowdose_engine>();
        handle->engine = std::move(state);
        log(LOWDOSE_LOG_INFO, ("ONNX Runtime " + handle->engine->library->version()).c_str());
        *engine = handle.release();
        return LOWDOSE_OK;
    });
    if (status != LOWDOSE_OK && message && message_bytes > 0) problem.copy(message, message_bytes);
    return !given || !engine ? LOWDOSE_ERROR_NULL : status;
}

lowdose_status lowdose_engine_destroy(lowdose_engine* engine) {
    delete engine;
    return LOWDOSE_OK;
}

lowdose_status lowdose_engine_message(const lowdose_engine* engine, char* buffer, size_t buffer_bytes) {
    return engine ? engine->message.copy(buffer, buffer_bytes) : LOWDOSE_ERROR_NULL;
}

lowdose_status lowdose_engine_device(const lowdose_engine* engine, size_t index, const char** name) {
    if (!engine || !name) return LOWDOSE_ERROR_NULL;
    const std::vector<std::string>& devices = engine->engine->devices;
    *name = index < devices.size() ? devices[index].c_str() : nullptr;
    return *name ? LOWDOSE_OK : LOWDOSE_END;
}

lowdose_status lowdose_engine_runtime(const lowdose_engine* engine, const char** version) {
    if (!engine || !version) return LOWDOSE_ERROR_NULL;
    *version = engine->engine->library->version().c_str();
    return LOWDOSE_OK;
}

lowdose_status lowdose_model_open(lowdose_engine* engine, const char* path, const lowdose_model_options* options,
                                  lowdose_model** model) {
    if (model) *model = nullptr;
    if (!engine || !path || !model) return LOWDOSE_ERROR_NULL;
    return guarded(engine->message, engine->engine->log, LOWDOSE_ERROR_MODEL,
                   [&] { return open_model(*engine, path, read_file(path), options, model); });
}

lowdose_status lowdose_model_open_memory(lowdose_engine* engine, const void* bytes, size_t n_bytes,
                                         const lowdose_model_options* options, lowdose_model** model) {
    if (model) *model = nullptr;
    if (!engine || !bytes || !model) return LOWDOSE_ERROR_NULL;
    return guarded(engine->message, engine->engine->log, LOWDOSE_ERROR_MODEL, [&] {
        if (n_bytes == 0) throw Error("the model in memory has no bytes");
        return open_model(*engine, "in memory", std::string(static_cast<const char*>(bytes), n_bytes), options, model);
    });
}

lowdose_status lowdose_model_close(lowdose_model* model) {
    delete model;
    return LOWDOSE_OK;
}

lowdose_status lowdose_model_message(const lowdose_model* model, char* buffer, size_t buffer_bytes) {
    return model ? model->message.copy(buffer, buffer_bytes) : LOWDOSE_ERROR_NULL;
}

lowdose_status lowdose_model_query(const lowdose_model* model, lowdose_model_info* info) {
    if (!model || !info) return LOWDOSE_ERROR_NULL;
    return guarded(model->message, model->engine->log, LOWDOSE_ERROR_INTERNAL, [&] {
        if (info->struct_bytes < LOWDOSE_BYTES_UP_TO(lowdose_model_info, has_low_pass))
            throw_struct_size(info->struct_bytes, sizeof *info);
        const Contract& contract = model->model->contract();
        lowdose_model_info values{};
        values.method = contract.method.c_str();
        values.device = model->model->device().c_str();
        values.kernels = model->kernels.empty() ? nullptr : model->kernels.c_str();
        values.metadata = model->model->metadata().c_str();
        values.n_taps = contract.n_taps();
        values.is_scan = contract.scan;
        values.n_channels = contract.n_channels;
        values.margin_px = contract.margin_px;
        values.align_px = contract.align_px;
        values.min_height = values.min_width = contract.min_size_px;
        values.fixed_height = contract.height;
        values.fixed_width = contract.width;
        values.latency_frames =
            contract.scan ? -1 : FrameRing(contract, {1, 1}, size_t(contract.n_channels), 1).latency();
        values.n_weight_sets = contract.n_weight_sets;
        values.has_low_pass = contract.has_low_pass;
        write_struct(info, values);
        return LOWDOSE_OK;
    });
}

lowdose_status lowdose_model_tap(const lowdose_model* model, size_t index, int32_t* dy, int32_t* dx) {
    if (!model || !dy || !dx) return LOWDOSE_ERROR_NULL;
    const std::vector<Tap>& taps = model->model->contract().taps;
    if (index >= taps.size()) return LOWDOSE_END;
    *dy = taps[index].dy;
    *dx = taps[index].dx;
    return LOWDOSE_OK;
}

}  // extern "C"
