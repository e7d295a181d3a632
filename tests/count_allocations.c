// Preloaded into a Python process: counts the allocations that lowdose's compiled core asks for, not those that ONNX
// Runtime, NumPy or Python make for themselves.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static atomic_int counting;
static atomic_long count;
static __thread int inside;  // backtrace may allocate

// The innermost caller that is neither this file nor a standard library is the one who asked.
static void note(void) {
    if (!atomic_load(&counting) || inside) return;
    inside = 1;
    void *callers[12];
    const int n = backtrace(callers, 12);
    for (int i = 2; i < n; ++i) {
        Dl_info info;
        if (!dladdr(callers[i], &info) || !info.dli_fname) break;
        if (strstr(info.dli_fname, "libstdc++") || strstr(info.dli_fname, "libc.so")) continue;
        if (strstr(info.dli_fname, "/_core.")) atomic_fetch_add(&count, 1);
        break;
    }
    inside = 0;
}

void *malloc(size_t size) {
    note();
    return __libc_malloc(size);
}
void *calloc(size_t n, size_t size) {
    note();
    return __libc_calloc(n, size);
}
void *realloc(void *old, size_t size) {
    note();
    return __libc_realloc(old, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
    note();
    return __libc_memalign(alignment, size);
}

void count_begin(void) {
    void *callers[1];
    backtrace(callers, 1);  // its first call loads a library
    atomic_store(&count, 0);
    atomic_store(&counting, 1);
}

long count_end(void) {
    atomic_store(&counting, 0);
    return atomic_load(&count);
}
