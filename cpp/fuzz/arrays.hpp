// Arrays of any layout in memory of exactly their size, so that AddressSanitizer catches every byte beyond.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "bytes.hpp"
#include "numbers.hpp"

namespace boltzmax::fuzz {

using Shape = std::vector<ptrdiff_t>;

inline size_t Count(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), size_t{1},
                         [](size_t n, ptrdiff_t side) { return n * static_cast<size_t>(side); });
}

enum class Use { kInput, kAlignedInput, kOutput };

class Array {
 public:
  Array(Bytes& bytes, int dtype, const Shape& shape, Use use) : dtype_(dtype), shape_(shape) {
    const bool any_address = use != Use::kAlignedInput;
    const auto item = static_cast<ptrdiff_t>(SizeOf(dtype)), odd = ptrdiff_t{any_address && bytes.Once(8)};
    std::vector<size_t> order(shape.size());
    std::iota(order.begin(), order.end(), 0);
    for (size_t d = 1; d < order.size(); ++d) std::swap(order[d], order[d - bytes.Below(d + 1)]);
    strides_.resize(shape.size());
    ptrdiff_t run = item * (bytes.Once(4) ? 2 : 1) + odd;
    for (const size_t d : order) {
      strides_[d] = bytes.Once(5) ? -run : run;
      if (use != Use::kOutput && bytes.Once(10)) strides_[d] = 0;
      run = run * std::max<ptrdiff_t>(shape[d], 1) + (bytes.Once(6) ? 3 * item : 0);
    }
    Allocate(any_address && bytes.Once(8) ? bytes.Below(8) : 0);
  }
  // Contiguous rows.
  Array(int dtype, const Shape& shape) : dtype_(dtype), shape_(shape), strides_(shape.size()) {
    auto run = static_cast<ptrdiff_t>(SizeOf(dtype));
    for (size_t d = shape.size(); d-- > 0;) {
      strides_[d] = run;
      run *= shape[d];
    }
    Allocate(0);
  }

  const Shape& shape() const { return shape_; }
  const Shape& strides() const { return strides_; }
  int dtype() const { return dtype_; }
  char* data() const { return base_; }

  char* At(size_t i) const {
    char* p = base_;
    for (size_t d = shape_.size(); d-- > 0;) {
      p += static_cast<ptrdiff_t>(i % static_cast<size_t>(shape_[d])) * strides_[d];
      i /= static_cast<size_t>(shape_[d]);
    }
    return p;
  }
  Real operator[](size_t i) const { return Read(dtype_, At(i)); }

  // Fills the array with the fuzzer's bits, or with small numbers.
  void Fill(Bytes& bytes, bool small) {
    const size_t count = Count(shape_), item = SizeOf(dtype_);
    for (size_t i = 0; i < count; ++i) {
      if (small && dtype_ <= BOLTZMAX_BFLOAT16) {
        WriteSmall(dtype_, static_cast<int8_t>(bytes.Next()), At(i));
      } else {
        for (size_t b = 0; b < item; ++b)
          At(i)[b] = static_cast<char>(bytes.Next() & (dtype_ == BOLTZMAX_BOOL ? 1 : 255));
      }
    }
  }

  std::vector<char> Save() const { return {memory_.get(), memory_.get() + bytes_}; }
  void Restore(const std::vector<char>& saved) { std::copy(saved.begin(), saved.end(), memory_.get()); }
  void Mark() { std::fill_n(memory_.get(), bytes_, kMark); }

  // Whether no byte between the elements has changed.
  bool IsUntouchedBetween(const std::vector<char>& saved) const {
    std::vector<bool> written(bytes_);
    for (size_t i = 0; i < Count(shape_); ++i) {
      std::fill_n(written.begin() + (At(i) - memory_.get()), SizeOf(dtype_), true);
    }
    for (size_t b = 0; b < bytes_; ++b) {
      if (!written[b] && memory_[b] != saved[b]) return false;
    }
    return true;
  }

 private:
  static constexpr char kMark = 0x5a;

  void Allocate(size_t shift) {
    ptrdiff_t low = 0, high = static_cast<ptrdiff_t>(SizeOf(dtype_));
    for (size_t d = 0; d < shape_.size(); ++d) {
      const ptrdiff_t reach = strides_[d] * std::max<ptrdiff_t>(shape_[d] - 1, 0);
      (reach < 0 ? low : high) += reach;
    }
    bytes_ = Count(shape_) == 0 ? shift : static_cast<size_t>(high - low) + shift;
    memory_ = std::make_unique<char[]>(bytes_);
    base_ = memory_.get() + static_cast<ptrdiff_t>(shift) - (Count(shape_) == 0 ? 0 : low);
  }

  int dtype_;
  Shape shape_, strides_;
  size_t bytes_ = 0;
  std::unique_ptr<char[]> memory_;
  char* base_ = nullptr;
};

}  // namespace boltzmax::fuzz
