// One integer per row, as arrays hold them: the classes that rows belong to.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "dispatch.hpp"

namespace boltzmax {

// Aligned integers of any type, `stride` bytes apart; null for none.
struct IntegerColumn {
  const char* at;
  ptrdiff_t stride;
  DType type;

  // The integers as kernels read them, if that is how they are stored.
  const int64_t* Plain() const {
    return type == DType::kInt64 && stride == sizeof(int64_t) ? reinterpret_cast<const int64_t*>(at) : nullptr;
  }
};

// Calls f(row, integer) for rows [begin, end), in order. One beyond int64 is read as the largest.
template <class T, class F>
void ForEachIntegerAs(const IntegerColumn& column, size_t begin, size_t end, F f) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const auto read = [&](ptrdiff_t stride) {
    for (size_t r = begin; r < end; ++r) {
      const T value = *reinterpret_cast<const T*>(column.at + static_cast<ptrdiff_t>(r) * stride);
      if constexpr (sizeof(T) == sizeof(int64_t) && std::is_unsigned_v<T>) {
        f(r, value > static_cast<T>(kMost) ? kMost : static_cast<int64_t>(value));
      } else {
        f(r, static_cast<int64_t>(value));
      }
    }
  };
  if (column.stride == static_cast<ptrdiff_t>(sizeof(T)))
    read(sizeof(T));  // a constant, so that the compiler vectorizes
  else read(column.stride);
}
template <class F>
void ForEachInteger(const IntegerColumn& column, size_t begin, size_t end, F f) {
  switch (column.type) {
    case DType::kInt8: return ForEachIntegerAs<int8_t>(column, begin, end, f);
    case DType::kUInt8: return ForEachIntegerAs<uint8_t>(column, begin, end, f);
    case DType::kInt16: return ForEachIntegerAs<int16_t>(column, begin, end, f);
    case DType::kUInt16: return ForEachIntegerAs<uint16_t>(column, begin, end, f);
    case DType::kInt32: return ForEachIntegerAs<int32_t>(column, begin, end, f);
    case DType::kUInt32: return ForEachIntegerAs<uint32_t>(column, begin, end, f);
    case DType::kUInt64: return ForEachIntegerAs<uint64_t>(column, begin, end, f);
    default: return ForEachIntegerAs<int64_t>(column, begin, end, f);
  }
}

// Has the sign bit unless low <= x <= high; both bounds are below 2^63. Nothing is compared, so a loop that combines
// these by "or" vectorizes on every processor.
inline uint64_t SignIfOutside(uint64_t x, uint64_t low, uint64_t high) { return x | (x - low) | (high - x); }
inline bool HasSign(uint64_t x) { return static_cast<int64_t>(x) < 0; }

// Whether all are one of n classes.
inline bool AreClasses(const IntegerColumn& column, size_t begin, size_t end, size_t n) {
  uint64_t outside = 0;
  ForEachInteger(column, begin, end,
                 [&](size_t, int64_t i) { outside |= SignIfOutside(static_cast<uint64_t>(i), 0, n - 1); });
  return !HasSign(outside);
}

}  // namespace boltzmax
