// Reads the JSON that a model file carries in its metadata (RFC 8259, UTF-8, \u escapes kept as they stand).
#pragma once

#include <map>
#include <string>
#include <vector>

namespace lowdose {

class Json {
public:
    enum class Type { null, boolean, number, string, array, object };

    // Throws Error when `text` is not one JSON value.
    static Json parse(const std::string& text);

    Type type() const { return type_; }
    bool has(const std::string& key) const { return members_.count(key) != 0; }

    // Each throws Error when the value has another type or the key is not there.
    const Json& at(const std::string& key) const;
    double number() const;
    int integer() const;
    const std::string& string() const;
    const std::vector<Json>& array() const;

private:
    friend class JsonReader;
    Type type_ = Type::null;
    double number_ = 0;
    std::string string_;
    std::vector<Json> items_;
    std::map<std::string, Json> members_;
};

}  // namespace lowdose
