// The handles behind lowdose.h and what all its functions share: no exception passes, every error leaves its message.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "error.hpp"
#include "live_stream.hpp"
#include "lowdose.h"
#include "onnx_model.hpp"

namespace lowdose::c_api {

// The last error of a handle; of fixed size, so that it can be kept when memory is out.
class Message {
public:
    void set(const char* text) noexcept;
    lowdose_status copy(char* buffer, size_t buffer_bytes) const noexcept;

private:
    mutable std::mutex mutex_;
    char text_[2048] = "";
};

struct Log {
    lowdose_log_callback callback = nullptr;
    void* user = nullptr;

    void operator()(lowdose_log_level level, const char* message) const {
        if (callback) callback(user, level, message);
    }
};

// What models and streams keep of their engine.
struct Engine {
    std::shared_ptr<ort::Library> library;
    std::vector<std::string> devices;
    Log log;
};

lowdose_status status_of(Error::Kind kind, lowdose_status otherwise);

// Reports the exception that is being handled. otherwise: for errors that do not say what they are.
lowdose_status report(Message& message, const Log& log, lowdose_status otherwise) noexcept;

// Runs `work`, which returns a status and may throw.
template <class Work>
lowdose_status guarded(Message& message, const Log& log, lowdose_status otherwise, Work work) noexcept {
    try {
        return work();
    } catch (...) {
        return report(message, log, otherwise);
    }
}

[[noreturn]] void throw_struct_size(size_t given, size_t expected);

// Copies a caller's struct: one of an older header is filled up with 0, one of a newer header must hold 0 in what is
// not known here. first_bytes: its size up to the last member of the first release. Throws Error.
template <class Struct>
Struct read_struct(const Struct* given, size_t first_bytes) {
    size_t n_bytes = 0;
    std::memcpy(&n_bytes, given, sizeof n_bytes);
    constexpr size_t longest = 1 << 16;
    if (n_bytes < first_bytes || n_bytes > longest) throw_struct_size(n_bytes, sizeof(Struct));
    const auto* bytes = reinterpret_cast<const unsigned char*>(given);
    if (n_bytes > sizeof(Struct) &&
        !std::all_of(bytes + sizeof(Struct), bytes + n_bytes, [](unsigned char byte) { return byte == 0; }))
        throw Error("an option is set that this version of lowdose does not know; update the library",
                    Error::Kind::argument);
    Struct copy{};
    std::memcpy(&copy, given, std::min(n_bytes, sizeof(Struct)));
    copy.struct_bytes = n_bytes;
    return copy;
}

// Fills in as much of a caller's struct as the caller knows, from byte `from` on.
template <class Struct>
void write_struct(Struct* to, const Struct& values, size_t from = sizeof(size_t)) {
    std::memcpy(reinterpret_cast<unsigned char*>(to) + from, reinterpret_cast<const unsigned char*>(&values) + from,
                std::min(to->struct_bytes, sizeof(Struct)) - from);
}

// Size of a struct up to and with a member.
#define LOWDOSE_BYTES_UP_TO(type, member) (offsetof(type, member) + sizeof(type::member))

}  // namespace lowdose::c_api

struct lowdose_engine {
    std::shared_ptr<const lowdose::c_api::Engine> engine;
    mutable lowdose::c_api::Message message;
};

struct lowdose_model {
    std::shared_ptr<const lowdose::c_api::Engine> engine;
    std::shared_ptr<const lowdose::Model> model;
    std::string kernels;
    mutable lowdose::c_api::Message message;
};

struct lowdose_stream {
    std::shared_ptr<const lowdose::c_api::Engine> engine;
    std::unique_ptr<lowdose::LiveStream> live;
    mutable lowdose::c_api::Message message;
};
