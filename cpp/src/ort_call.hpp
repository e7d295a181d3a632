// Calls through ONNX Runtime's function table; for ort.cpp and ort_devices.cpp alone.
#pragma once

#include <string>

#include "error.hpp"
#include "ort.hpp"

namespace lowdose::ort {

using Status = void*;  // null: success
using Release = void (*)(void*);

// Calls a releasing function of the table when the scope ends.
class Guard {
public:
    Guard(Release release, void* object) : release_(release), object_(object) {}
    ~Guard() {
        if (object_) release_(object_);
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

private:
    Release release_;
    void* object_;
};

constexpr int get_error_message = 2, release_status = 93;

template <class Function>
Function Library::function(int slot) const {
    return reinterpret_cast<Function>(const_cast<void*>(table_[slot]));
}

// Calls a function that returns a status; an error status becomes an Error.
template <class Function, class... Arguments>
void Library::call(int slot, Arguments... arguments) const {
    call_in<Function>(table_, slot, arguments...);
}

template <class Function, class... Arguments>
void Library::call_in(const void* const* table, int slot, Arguments... arguments) const {
    const Status status = reinterpret_cast<Function>(const_cast<void*>(table[slot]))(arguments...);
    if (!status) return;
    const std::string message = function<const char* (*)(Status)>(get_error_message)(status);
    function<Release>(release_status)(status);
    const bool out_of_memory =
        message.find("bad_alloc") != std::string::npos || message.find("allocate memory") != std::string::npos;
    throw Error("ONNX Runtime " + version_ + ": " + message,
                out_of_memory ? Error::Kind::memory : Error::Kind::runtime);
}

}  // namespace lowdose::ort
