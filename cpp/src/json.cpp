#include "json.hpp"

#include <charconv>
#include <cmath>
#include <locale>
#include <sstream>
#include <system_error>

#include "error.hpp"

namespace lowdose {

class JsonReader {
public:
    explicit JsonReader(const std::string& text) : text_(text) {}

    Json document() {
        Json value = read_value(0);
        skip_space();
        if (position_ != text_.size()) fail("text after the value");
        return value;
    }

private:
    static constexpr int max_depth = 64;

    [[noreturn]] void fail(const std::string& what) const {
        throw Error("model metadata is not JSON: " + what + " at byte " + std::to_string(position_));
    }

    void skip_space() {
        while (position_ < text_.size() && std::string(" \t\r\n").find(text_[position_]) != std::string::npos)
            ++position_;
    }

    char peek() {
        skip_space();
        if (position_ == text_.size()) fail("unexpected end");
        return text_[position_];
    }

    void expect(char wanted) {
        if (peek() != wanted) fail(std::string("expected '") + wanted + "'");
        ++position_;
    }

    bool take_word(const std::string& word) {
        if (text_.compare(position_, word.size(), word) != 0) return false;
        position_ += word.size();
        return true;
    }

    Json read_value(int depth) {
        if (depth > max_depth) fail("nested too deeply");
        Json value;
        const char first = peek();
        if (first == '{') {
            read_object(value, depth);
        } else if (first == '[') {
            read_array(value, depth);
        } else if (first == '"') {
            value.type_ = Json::Type::string;
            value.string_ = read_string();
        } else if (take_word("true") || take_word("false")) {
            value.type_ = Json::Type::boolean;
            value.number_ = first == 't';
        } else if (take_word("null")) {
            value.type_ = Json::Type::null;
        } else {
            value.type_ = Json::Type::number;
            value.number_ = read_number();
        }
        return value;
    }

    void read_object(Json& value, int depth) {
        value.type_ = Json::Type::object;
        expect('{');
        if (peek() == '}') {
            ++position_;
            return;
        }
        while (true) {
            if (peek() != '"') fail("expected a key");
            std::string key = read_string();
            expect(':');
            value.members_[key] = read_value(depth + 1);
            if (peek() == '}') {
                ++position_;
                return;
            }
            expect(',');
        }
    }

    void read_array(Json& value, int depth) {
        value.type_ = Json::Type::array;
        expect('[');
        if (peek() == ']') {
            ++position_;
            return;
        }
        while (true) {
            value.items_.push_back(read_value(depth + 1));
            if (peek() == ']') {
                ++position_;
                return;
            }
            expect(',');
        }
    }

    std::string read_string() {
        expect('"');
        std::string result;
        while (true) {
            if (position_ >= text_.size()) fail("unfinished string");
            char c = text_[position_++];
            if (c == '"') return result;
            if (c == '\\') {
                if (position_ >= text_.size()) fail("unfinished string");
                c = text_[position_++];
                const std::string plain = "\"\\/", escaped = "bfnrt", controls = "\b\f\n\r\t";
                if (const auto found = escaped.find(c); found != std::string::npos)
                    c = controls[found];
                else if (c == 'u')
                    result += '\\';
                else if (plain.find(c) == std::string::npos)
                    fail("unknown escape");
            }
            result += c;
        }
    }

    double read_number() {
        const size_t start = position_;
        while (position_ < text_.size() && std::string("+-.0123456789eE").find(text_[position_]) != std::string::npos)
            ++position_;
        double number = 0;
        // The host's decimal comma must not matter.
#ifdef __cpp_lib_to_chars
        // No stream: one of a libstdc++ that is linked statically crashes where PyTorch has loaded another (seen).
        const char* end = text_.data() + position_;
        const auto read = std::from_chars(text_.data() + start, end, number);
        if (read.ec != std::errc() || read.ptr != end) fail("not a number");
#else
        std::istringstream stream(text_.substr(start, position_ - start));
        stream.imbue(std::locale::classic());
        if (!(stream >> number) || stream.peek() != std::istringstream::traits_type::eof()) fail("not a number");
#endif
        return number;
    }

    const std::string& text_;
    size_t position_ = 0;
};

Json Json::parse(const std::string& text) { return JsonReader(text).document(); }

const Json& Json::at(const std::string& key) const {
    const auto found = members_.find(key);
    if (found == members_.end()) throw Error("model metadata lacks the entry '" + key + "'");
    return found->second;
}

double Json::number() const {
    if (type_ != Type::number) throw Error("model metadata: expected a number");
    return number_;
}

int Json::integer() const {
    const double value = number();
    if (value != std::floor(value) || std::fabs(value) > 1e9) throw Error("model metadata: expected an integer");
    return static_cast<int>(value);
}

const std::string& Json::string() const {
    if (type_ != Type::string) throw Error("model metadata: expected a string");
    return string_;
}

const std::vector<Json>& Json::array() const {
    if (type_ != Type::array) throw Error("model metadata: expected an array");
    return items_;
}

}  // namespace lowdose
