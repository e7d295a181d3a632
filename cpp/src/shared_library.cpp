#include "shared_library.hpp"

#include <filesystem>
#include <system_error>

#include "error.hpp"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace lowdose {

void* open_library(const std::string& name, std::string& problem) {
#ifdef _WIN32
    const int length = MultiByteToWideChar(CP_UTF8, 0, name.c_str(), -1, nullptr, 0);
    std::wstring wide(static_cast<size_t>(length), L'\0');
    MultiByteToWideChar(CP_UTF8, 0, name.c_str(), -1, wide.data(), length);
    const bool is_path = name.find_first_of("/\\") != std::string::npos;
    void* handle = LoadLibraryExW(wide.c_str(), nullptr, is_path ? LOAD_WITH_ALTERED_SEARCH_PATH : 0);
    if (!handle) problem = name + ": cannot open, Windows error " + std::to_string(GetLastError());
    return handle;
#else
    void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) problem = dlerror();
    return handle;
#endif
}

void* symbol(void* library, const char* name) {
#ifdef _WIN32
    return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
#else
    return dlsym(library, name);
#endif
}

void close_library(void* library) {
#ifdef _WIN32
    FreeLibrary(static_cast<HMODULE>(library));
#else
    dlclose(library);
#endif
}

void open_beside(const void* function, const std::string& beginning) {
#ifdef _WIN32
    (void)function, (void)beginning;  // Windows looks there itself
#else
    Dl_info info{};
    if (dladdr(function, &info) == 0 || !info.dli_fname) return;
    std::error_code unreadable;
    std::string problem;
    const auto folder = std::filesystem::path(info.dli_fname).parent_path();
    for (const auto& entry : std::filesystem::directory_iterator(folder, unreadable))
        if (entry.path().filename().string().rfind(beginning, 0) == 0) open_library(entry.path().string(), problem);
#endif
}

void* open_first(std::initializer_list<const char*> names) {
    std::string first, problem;
    for (const char* name : names) {
        if (void* library = open_library(name, problem)) return library;
        if (first.empty()) first = problem;
    }
    throw Error(first, Error::Kind::device);
}

void missing_symbol(const char* name) {
    throw Error(std::string("a library of NVIDIA's is too old: it has no ") + name, Error::Kind::device);
}

}  // namespace lowdose
