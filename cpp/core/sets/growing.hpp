// An array that grows at its end. Unlike a vector, it does not initialize what it grows by, and its memory can be given
// away.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace boltzmax {

template <class T>
class Growing {
 public:
  // Room for n more elements at the end.
  T* Room(size_t n) {
    if (size_ + n > capacity_) Reserve(std::max(size_ + n, capacity_ + capacity_ / 2));
    return data_.get() + size_;
  }
  void Grow(size_t n) { size_ += n; }
  size_t Size() const { return size_; }
  const T* Data() const { return data_.get(); }

  struct Free {
    void operator()(void* p) const { std::free(p); }  // NOLINT(cppcoreguidelines-no-malloc): it comes from realloc
  };
  // The memory, without what is unused; null if there is none.
  std::unique_ptr<T, Free> Release() {
    if (size_ != 0) Reserve(size_);
    return std::move(data_);
  }

 private:
  // Large blocks are not copied: the system moves their pages.
  void Reserve(size_t capacity) {
    // NOLINTNEXTLINE(cppcoreguidelines-no-malloc)
    void* moved = std::realloc(data_.get(), capacity * sizeof(T));
    if (moved == nullptr) throw std::bad_alloc();
    static_cast<void>(data_.release());
    data_.reset(static_cast<T*>(moved));
    capacity_ = capacity;
  }

  std::unique_ptr<T, Free> data_;
  size_t size_ = 0, capacity_ = 0;
};

}  // namespace boltzmax
