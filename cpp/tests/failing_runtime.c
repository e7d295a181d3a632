/* The ONNX Runtime that LOWDOSE_ONNXRUNTIME names, which fails to open and run sessions while
 * LOWDOSE_TEST_RUNTIME_FAILS is set. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef void* (*make_status)(int code, const char* message);
typedef void* (*open_session)(const void* env, const void* bytes, size_t n_bytes, const void* options, void** session);
typedef void* (*run_session)(void* session, const void* options, const char* const* inputs, const void* const* values,
                             size_t n_inputs, const char* const* outputs, size_t n_outputs, void** results);
typedef struct api_base {
    const void* const* (*get_api)(uint32_t version);
    const char* (*version)(void);
} api_base;

/* Positions in the function table, which only grows, and how many are there in the version that lowdose asks for. */
enum { create_status = 0, create_session = 8, run = 9, asked_version = 11, n_functions = 209 };

static const api_base* real;
static const void* table[n_functions];

static void* failure(void) {
    if (!getenv("LOWDOSE_TEST_RUNTIME_FAILS")) return NULL;
    return ((make_status)table[create_status])(1, "told to fail");
}

static void* create_session_or_fail(const void* env, const void* bytes, size_t n_bytes, const void* options,
                                    void** session) {
    void* status = failure();
    if (status) return status;
    return ((open_session)real->get_api(asked_version)[create_session])(env, bytes, n_bytes, options, session);
}

static void* run_or_fail(void* session, const void* options, const char* const* inputs, const void* const* values,
                         size_t n_inputs, const char* const* outputs, size_t n_outputs, void** results) {
    void* status = failure();
    if (status) return status;
    return ((run_session)real->get_api(asked_version)[run])(session, options, inputs, values, n_inputs, outputs,
                                                            n_outputs, results);
}

static const void* const* get_api(uint32_t version) {
    const void* const* functions = real->get_api(version);
    int i;
    if (version != asked_version || !functions) return functions;
    for (i = 0; i < n_functions; ++i) table[i] = functions[i];
    table[create_session] = (const void*)create_session_or_fail;
    table[run] = (const void*)run_or_fail;
    return table;
}

static const char* version(void) { return real->version(); }

__attribute__((visibility("default"))) const api_base* OrtGetApiBase(void);
const api_base* OrtGetApiBase(void) {
    static const api_base base = {get_api, version};
    void* library = dlopen(getenv("LOWDOSE_ONNXRUNTIME"), RTLD_NOW | RTLD_LOCAL);
    const api_base* (*get_base)(void) = library ? (const api_base* (*)(void))dlsym(library, "OrtGetApiBase") : NULL;
    real = get_base ? get_base() : NULL;
    return real ? &base : NULL;
}
