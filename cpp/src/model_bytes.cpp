#include "model_bytes.hpp"

#include <cstdint>
#include <set>
#include <string_view>
#include <utility>

#include "error.hpp"
#include "tensor.hpp"

namespace lowdose {

namespace {

// Field numbers of onnx.proto.
constexpr std::uint64_t model_graph = 7, model_functions = 25, graph_node = 1, graph_initializer = 5, graph_input = 11,
                        function_name = 1, function_node = 7, node_op_type = 4, node_domain = 7, input_name = 1,
                        tensor_type = 2, tensor_name = 8, tensor_bytes = 9;
constexpr std::uint64_t varint = 0, eight_bytes = 1, with_length = 2, four_bytes = 5;  // types of fields

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

// Calls action(field, content, whole) for every field of a message: its content, empty for those without a length, and
// all of its bytes.
template <class Action>
void for_each_field(std::string_view message, Action action) {
    while (!message.empty()) {
        const std::string_view start = message;
        const std::uint64_t key = take_varint(message), type = key & 7u;
        std::uint64_t length = type == eight_bytes ? 8 : type == four_bytes ? 4 : 0;
        if (type == varint)
            take_varint(message);
        else if (type == with_length)
            length = take_varint(message);
        else if (length == 0)
            cut_short();
        if (length > message.size()) cut_short();
        const std::string_view content = message.substr(0, type == with_length ? length : 0);
        message.remove_prefix(length);
        action(key >> 3, content, start.substr(0, start.size() - message.size()));
    }
}

void put_varint(std::string& bytes, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
    bytes += static_cast<char>(value);
}

void put_field(std::string& bytes, std::uint64_t field, std::string_view content) {
    put_varint(bytes, field << 3 | with_length);
    put_varint(bytes, content.size());
    bytes += content;
}

std::string_view content_of(std::string_view message, std::uint64_t wanted) {
    std::string_view found;
    for_each_field(message, [&](std::uint64_t field, std::string_view content, std::string_view) {
        if (field == wanted) found = content;
    });
    return found;
}

// A scalar.
template <class T>
std::string tensor(std::string_view name, Tensor::Type type, T value) {
    std::string bytes;
    put_varint(bytes, tensor_type << 3 | varint);
    put_varint(bytes, static_cast<std::uint64_t>(type));
    put_field(bytes, tensor_name, name);
    put_field(bytes, tensor_bytes, std::string_view(reinterpret_cast<const char*>(&value), sizeof(value)));
    return bytes;
}

}  // namespace

std::string with_settings(const std::string& bytes, std::int64_t weight_set, float cutoff) {
    const std::pair<std::string_view, std::string> constants[] = {
        {"weight_set", tensor("weight_set", Tensor::Type::int64, weight_set)},
        {"cutoff", tensor("cutoff", Tensor::Type::float32, cutoff)}};
    std::string graph, rest;
    for_each_field(bytes, [&](std::uint64_t model_field, std::string_view message, std::string_view whole) {
        if (model_field != model_graph) {
            rest += whole;
            return;
        }
        for_each_field(message, [&](std::uint64_t field, std::string_view content, std::string_view kept) {
            const std::uint64_t name_field = field == graph_input ? input_name : tensor_name;
            const bool named = field == graph_input || field == graph_initializer;
            const std::string_view name = named ? content_of(content, name_field) : std::string_view();
            for (const auto& [constant, value] : constants)
                if (named && name == constant) {
                    if (field == graph_initializer) put_field(graph, graph_initializer, value);
                    return;
                }
            graph += kept;
        });
    });
    put_field(rest, model_graph, graph);
    return rest;
}

void check_functions(const std::string& bytes) {
    std::set<std::string_view> called, held;
    const auto read_node = [&](std::string_view node) {
        std::string_view op, domain;
        for_each_field(node, [&](std::uint64_t field, std::string_view content, std::string_view) {
            if (field == node_op_type) op = content;
            if (field == node_domain) domain = content;
        });
        if (domain == "lowdose") called.insert(op);
    };
    for_each_field(bytes, [&](std::uint64_t field, std::string_view content, std::string_view) {
        if (field != model_graph && field != model_functions) return;
        const std::uint64_t nodes = field == model_graph ? graph_node : function_node;
        for_each_field(content, [&](std::uint64_t inner, std::string_view part, std::string_view) {
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
