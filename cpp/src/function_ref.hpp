// A function that the caller keeps: what std::function does, without a copy on the heap.
#pragma once

#include <type_traits>
#include <utility>

namespace lowdose {

template <class Signature>
class FunctionRef;

template <class Result, class... Arguments>
class FunctionRef<Result(Arguments...)> {
public:
    FunctionRef() = default;  // refers to nothing

    template <class Function, class = std::enable_if_t<!std::is_same_v<std::decay_t<Function>, FunctionRef>>>
    FunctionRef(const Function& function)
        : function_(&function), call_([](const void* kept, Arguments... arguments) -> Result {
              return (*static_cast<const Function*>(kept))(std::forward<Arguments>(arguments)...);
          }) {}

    Result operator()(Arguments... arguments) const { return call_(function_, std::forward<Arguments>(arguments)...); }
    explicit operator bool() const { return call_ != nullptr; }

private:
    const void* function_ = nullptr;
    Result (*call_)(const void*, Arguments...) = nullptr;
};

}  // namespace lowdose
