// What a network takes or gives, in memory of the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lowdose {

// `shape` is empty for a scalar.
struct Tensor {
    enum class Type { float32 = 1, int64 = 7 };
    std::string name;
    Type type;
    std::vector<std::int64_t> shape;

    size_t n_bytes() const {
        size_t bytes = type == Type::int64 ? 8 : 4;
        for (const std::int64_t length : shape) bytes *= static_cast<size_t>(length);
        return bytes;
    }
};

}  // namespace lowdose
