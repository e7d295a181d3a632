#include "model.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "error.hpp"

namespace lowdose {

std::string read_file(const std::string& path) {
    const auto name = std::filesystem::u8path(path);
    std::error_code unknown;
    std::string bytes;
    std::ifstream file;
    if (std::filesystem::is_regular_file(name, unknown)) file.open(name, std::ios::binary);
    if (file.is_open()) bytes.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (bytes.empty()) throw Error("cannot read the model file " + path, Error::Kind::model);
    return bytes;
}

void Model::check_size(int height, int width) const {
    const int smallest = contract_.min_size_px;
    if (height < smallest || width < smallest)
        throw Error("frames of " + std::to_string(height) + "x" + std::to_string(width) + " pixels are too small for " +
                        contract_.method + ": its kernels need at least " + std::to_string(smallest) + "x" +
                        std::to_string(smallest),
                    Error::Kind::size);
    if (contract_.height > 0 && (height != contract_.height || width != contract_.width))
        throw Error(contract_.method + " was fitted to frames of " + std::to_string(contract_.height) + "x" +
                        std::to_string(contract_.width) + " pixels and takes no others, nor tiles of them; given " +
                        std::to_string(height) + "x" + std::to_string(width),
                    Error::Kind::size);
}

}  // namespace lowdose
