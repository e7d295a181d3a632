#include "model_bytes.hpp"

#include <cstdint>
#include <set>
#include <string_view>

#include "error.hpp"

namespace lowdose {

namespace {

// Field numbers of onnx.proto.
constexpr std::uint64_t model_graph = 7, model_functions = 25, graph_node = 1, function_name = 1, function_node = 7,
                        node_op_type = 4, node_domain = 7;

[[noreturn]] void cut_short() { throw Error("the file is damaged or cut short", Error::Kind::model); }

std::uint64_t take_varint(std::string_view& bytes) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (bytes.empty()) cut_short();
        const auto byte = static_cast<unsigned char>(bytes.front());
        bytes.remove_prefix(1);
        value |= static_cast<std::uint64_t>(byte & 0x7Fu) << shift;
        if (byte < 0x80) return value;
    }
    cut_short();
}

// Calls action(field, content) for every field of a message that has a length.
template <class Action>
void for_each_field(std::string_view message, Action action) {
    constexpr std::uint64_t varint = 0, eight_bytes = 1, with_length = 2, four_bytes = 5;
    while (!message.empty()) {
        const std::uint64_t key = take_varint(message), type = key & 7u;
        std::uint64_t length = type == eight_bytes ? 8 : type == four_bytes ? 4 : 0;
        if (type == varint)
            take_varint(message);
        else if (type == with_length)
            length = take_varint(message);
        else if (length == 0)
            cut_short();
        if (length > message.size()) cut_short();
        if (type == with_length) action(key >> 3, message.substr(0, length));
        message.remove_prefix(length);
    }
}

}  // namespace

void check_functions(const std::string& bytes) {
    std::set<std::string_view> called, held;
    const auto read_node = [&](std::string_view node) {
        std::string_view op, domain;
        for_each_field(node, [&](std::uint64_t field, std::string_view content) {
            if (field == node_op_type) op = content;
            if (field == node_domain) domain = content;
        });
        if (domain == "lowdose") called.insert(op);
    };
    for_each_field(bytes, [&](std::uint64_t field, std::string_view content) {
        if (field != model_graph && field != model_functions) return;
        const std::uint64_t nodes = field == model_graph ? graph_node : function_node;
        for_each_field(content, [&](std::uint64_t inner, std::string_view part) {
            if (inner == nodes) read_node(part);
            if (field == model_functions && inner == function_name) held.insert(part);
        });
    });
    for (const std::string_view op : called)
        if (held.count(op) == 0)
            throw Error("the file calls " + std::string(op) + " and does not hold it: it was cut short",
                        Error::Kind::model);
}

}  // namespace lowdose
