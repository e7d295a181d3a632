#include <lowdose.hpp>

int main() {
    try {
        lowdose::Engine("no such library");
    } catch (const lowdose::Error& error) {
        return error.status() == LOWDOSE_ERROR_RUNTIME ? 0 : 1;
    }
    return 2;
}
