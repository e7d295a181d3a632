// The one exception of the core. Its message is written for the user: given, expected, what to do.
#pragma once

#include <stdexcept>

namespace lowdose {

struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace lowdose
