// The one exception of the core. Its message is written for the user: given, expected, what to do.
#pragma once

#include <stdexcept>
#include <string>

namespace lowdose {

struct Error : std::runtime_error {
    // What went wrong, where the call that failed does not say it already.
    enum class Kind { unspecified, argument, size, dtype, order, model, runtime, device, memory, cancelled };

    explicit Error(const std::string& message, Kind what = Kind::unspecified)
        : std::runtime_error(message), kind(what) {}

    Kind kind;
};

}  // namespace lowdose
