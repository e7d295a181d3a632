// Scratch memory that is used again: taken for a call, given back at its end. As much is kept as was in use at once. It
// needs no thread-local objects: their destructors crash when a thread ends in a DLL of MinGW's (seen with GCC 12).
#pragma once

#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace lowdose {

template <class T>
class Spares {
public:
    // What is used; goes back when the lease ends.
    class Lease {
    public:
        Lease(Spares& spares, std::unique_ptr<T> object) : spares_(spares), object_(std::move(object)) {}
        ~Lease() { spares_.give_back(std::move(object_)); }
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;
        T& operator*() const { return *object_; }
        T* operator->() const { return object_.get(); }

    private:
        Spares& spares_;
        std::unique_ptr<T> object_;
    };

    // The one given back last of those that fit(object), or else make(), which returns a std::unique_ptr<T>.
    template <class Fits, class Make>
    Lease take(Fits fits, Make make) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            for (auto spare = objects_.rbegin(); spare != objects_.rend(); ++spare)
                if (fits(**spare)) {
                    std::unique_ptr<T> object = std::move(*spare);
                    objects_.erase(std::next(spare).base());
                    return Lease(*this, std::move(object));
                }
        }
        return Lease(*this, make());
    }
    Lease take() {
        return take([](const T&) { return true; }, [] { return std::make_unique<T>(); });
    }

private:
    static constexpr size_t most = 64;  // enough for as many threads, and no hoard of sizes that are gone

    void give_back(std::unique_ptr<T> object) noexcept {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (objects_.size() == most) objects_.erase(objects_.begin());
        try {
            objects_.push_back(std::move(object));
        } catch (const std::bad_alloc&) {  // then it is not kept
        }
    }

    std::mutex mutex_;
    std::vector<std::unique_ptr<T>> objects_;
};

}  // namespace lowdose
