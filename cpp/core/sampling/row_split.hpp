// What a row has above a bracket, and in it.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "../../kernels/sampling_types.hpp"
#include "row_parts.hpp"

namespace boltzmax {

// Two logits.
template <class T>
struct Bracket {
  T lo, hi;
};

template <class T>
class RowSplit {
 public:
  // At most that many elements may be in the bracket.
  explicit RowSplit(size_t most) : most_(most), x_(std::make_unique_for_overwrite<T[]>(most + kRoom)) {}

  // Divides a row without NaN. False if there is too much in the bracket. The mass is that of the kernel, of all
  // numbers of threads the same.
  bool Divide(RowParts<T>* row, size_t n, const SamplingKernels<T>& kernels, const Bracket<T>& bracket, T max,
              const FastExp<T>& fast) {
    bracket_ = bracket;
    masses_.assign((n + kPiece - 1) / kPiece, 0.0);
    parts_.resize(std::max(parts_.size(), row->Count()));
    row->ForEach([&](size_t i, RowReader<T>* reader, size_t from, size_t to) {
      Part& part = parts_[i];
      if (i > 0 && !part.x) part.x = std::make_unique_for_overwrite<T[]>(most_ + kRoom);
      part.found = {i > 0 ? part.x.get() : x_.get(), nullptr, most_, 0, 0};
      RowParts<T>::ForPieces(from, to, [&](size_t begin, size_t count) {
        return kernels.split(reader->Piece(begin, count), count, {bracket.lo, bracket.hi, max}, fast, &part.found,
                             &masses_[begin / kPiece]);
      });
    });
    return Join(row->Count());
  }

  const Bracket<T>& Within() const { return bracket_; }
  // What is in the bracket, in the order of ids.
  const T* Data() const { return x_.get(); }
  size_t Count() const { return count_; }
  size_t CountAbove() const { return count_above_; }
  // The mass in the bracket and above.
  double Mass() const { return std::accumulate(masses_.begin(), masses_.end(), 0.0); }

 private:
  static constexpr size_t kPiece = RowReader<T>::kPiece, kRoom = 1024 + 64;

  // What one thread found.
  struct Part {
    std::unique_ptr<T[]> x;
    FoundElements<T> found;
  };

  // Appends what the other threads found to what the first one did.
  bool Join(size_t parts) {
    count_ = count_above_ = 0;
    for (size_t i = 0; i < parts; ++i) {
      const FoundElements<T>& found = parts_[i].found;
      if (count_ + found.count > most_) return false;
      if (i > 0) std::copy_n(found.x, found.count, x_.get() + count_);
      count_ += found.count;
      count_above_ += found.above;
    }
    return true;
  }

  const size_t most_;
  Bracket<T> bracket_ = {};
  std::unique_ptr<T[]> x_;
  std::vector<double> masses_;  // of pieces
  std::vector<Part> parts_;
  size_t count_ = 0, count_above_ = 0;
};

}  // namespace boltzmax
