// Pieces of a row of logits as floats or doubles, with the bias, and -inf where the mask is false.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>
#include <vector>

#include "../runtime/convert.hpp"
#include "sampling.hpp"

namespace boltzmax {

template <class T>
class RowReader {
 public:
  static constexpr size_t kPiece = 4096;

  explicit RowReader(const SampleProblem& p)
      : p_(p),
        gather_(Gather(p.storage, std::is_same_v<T, float> ? DType::kFloat32 : DType::kFloat64)),
        item_(ItemSize(p.storage)),
        is_plain_(p.mask == nullptr && p.bias_count == 0 && item_ == sizeof(T)) {
    if (!is_plain_) buffer_.resize(kPiece);
  }

  void Open(size_t row) {
    row_ = row;
    x_ = p_.x + static_cast<ptrdiff_t>(row) * p_.row_stride;
  }

  // At most kPiece elements, until the next call.
  const T* Piece(size_t begin, size_t count) {
    const char* from = x_ + begin * item_;
    if (is_plain_) return reinterpret_cast<const T*>(from);
    gather_(from, static_cast<ptrdiff_t>(item_), count, buffer_.data());
    for (size_t b = 0; b < p_.bias_count; ++b) Add(p_.biases[b], begin, count);
    if (p_.mask != nullptr) {
      const uint8_t* mask = p_.mask + static_cast<ptrdiff_t>(row_) * p_.mask_row_stride;
      for (size_t i = 0; i < count; ++i) {
        if (mask[static_cast<ptrdiff_t>(begin + i) * p_.mask_stride] == 0) buffer_[i] = -kInfinity;
      }
    }
    return buffer_.data();
  }

 private:
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  void Add(const BiasTerms& bias, size_t begin, size_t count) {
    const auto add = [](T* x, double b) { *x = static_cast<T>(static_cast<double>(*x) + b); };
    if (bias.id == nullptr) {
      const auto* value = reinterpret_cast<const char*>(bias.value) + static_cast<ptrdiff_t>(row_) * bias.row_stride;
      for (size_t i = 0; i < count; ++i) {
        add(&buffer_[i], *reinterpret_cast<const double*>(value + static_cast<ptrdiff_t>(begin + i) * bias.stride));
      }
      return;
    }
    const int64_t* end = bias.id + bias.count;
    for (const int64_t* id = std::lower_bound(bias.id, end, static_cast<int64_t>(begin));
         id != end && *id < static_cast<int64_t>(begin + count); ++id) {
      add(&buffer_[static_cast<size_t>(*id) - begin], bias.value[id - bias.id]);
    }
  }

  const SampleProblem& p_;
  const GatherFn gather_;
  const size_t item_;
  const bool is_plain_;
  std::vector<T> buffer_;
  size_t row_ = 0;
  const char* x_ = nullptr;
};

}  // namespace boltzmax
