// Libraries that are loaded at run time.
#pragma once

#include <initializer_list>
#include <string>

namespace lowdose {

// Loads a library and keeps it loaded; null, and `problem` says why, where that fails. name: in UTF-8; a bare name is
// looked for where the system does.
void* open_library(const std::string& name, std::string& problem);

// Null where the library has no such function.
void* symbol(void* library, const char* name);

void close_library(void* library);

// Loads, and keeps, the libraries that lie beside the one with this function and whose names begin so.
void open_beside(const void* function, const std::string& beginning);

// The first of `names` that can be loaded. Throws Error with what the system says of the first.
void* open_first(std::initializer_list<const char*> names);

// Sets `function` to the library's one of that name. Throws Error where there is none.
template <class Function>
void find(void* library, const char* name, Function& function);

[[noreturn]] void missing_symbol(const char* name);

template <class Function>
void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(symbol(library, name));
    if (!function) missing_symbol(name);
}

}  // namespace lowdose
