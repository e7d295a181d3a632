/* A library that looks like an ONNX Runtime of long ago. */
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

typedef struct api_base {
    const void* (*get_api)(uint32_t version);
    const char* (*version)(void);
} api_base;

static const void* get_api(uint32_t version) {
    (void)version;
    return NULL;
}

static const char* version(void) { return "1.5.3"; }

EXPORT const api_base* OrtGetApiBase(void);
EXPORT const api_base* OrtGetApiBase(void) {
    static const api_base base = {get_api, version};
    return &base;
}
