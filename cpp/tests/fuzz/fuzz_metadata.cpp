// What a model file says of itself may be anything: an error or a contract, no crash. The first byte chooses the part that
// reads the rest.
#include <cstdint>
#include <string>

#include "contract.hpp"
#include "error.hpp"
#include "model_bytes.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
    try {
        if (data[0] == 'm')
            lowdose::read_contract("fuzzed", text);
        else
            lowdose::check_functions(text);
    } catch (const lowdose::Error&) {
    }
    return 0;
}
