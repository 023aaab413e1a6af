// A row in three: what is below a bracket, what is in it, and what is above.
#pragma once

#include <algorithm>
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
  explicit RowSplit(size_t most) : most_(most), x_(most + kRoom) {}

  // Divides a row without NaN. False if there is too much in the bracket. The masses are those of the kernel, of all
  // numbers of threads the same.
  bool Divide(RowParts<T>* row, size_t n, const SamplingKernels<T>& kernels, const Bracket<T>& bracket, T max,
              const FastExp<T>& fast) {
    bracket_ = bracket;
    const size_t groups = (n + kSampleGroup - 1) / kSampleGroup;
    above_.assign(groups, 0.0);
    starts_.resize(groups + 1);
    below_.assign((n + kPiece - 1) / kPiece, 0.0);
    parts_.resize(std::max(parts_.size(), row->Count()));
    row->ForEach([&](size_t i, RowReader<T>* reader, size_t from, size_t to) {
      Part& part = parts_[i];
      if (i > 0) part.x.resize(x_.size());
      part.found = {i > 0 ? part.x.data() : x_.data(), nullptr, most_, 0, 0};
      part.first_group = from / kSampleGroup;
      RowParts<T>::ForPieces(from, to, [&](size_t begin, size_t count) {
        const size_t group = begin / kSampleGroup;
        return kernels.split(reader->Piece(begin, count), count, {bracket.lo, bracket.hi, max}, fast, &part.found,
                             starts_.data() + group, above_.data() + group, &below_[begin / kPiece]);
      });
    });
    return Join(row->Count());
  }

  const Bracket<T>& Within() const { return bracket_; }
  // What is in the bracket, in the order of ids.
  const T* Data() const { return x_.data(); }
  size_t Count() const { return count_; }
  size_t CountAbove() const { return count_above_; }
  // The masses above, of groups, and below, of pieces.
  std::vector<double>& Above() { return above_; }
  std::vector<double>& Below() { return below_; }

  // The id of the i-th element in the bracket.
  size_t IdOf(size_t i, RowReader<T>* reader, size_t n) const {
    const auto after = std::upper_bound(starts_.begin(), starts_.end() - 1, i);
    const auto group = static_cast<size_t>(after - starts_.begin()) - 1;
    const size_t begin = group * kSampleGroup, count = std::min(kSampleGroup, n - begin);
    const T* x = reader->Piece(begin, count);
    size_t left = i - starts_[group], j = 0;
    for (; j + 1 < count; ++j) {
      const bool is_inside = x[j] >= bracket_.lo && x[j] <= bracket_.hi;
      if (is_inside && left-- == 0) break;
    }
    return begin + j;
  }

 private:
  static constexpr size_t kPiece = RowReader<T>::kPiece, kRoom = kSampleGroup + 64;

  // What one thread found.
  struct Part {
    std::vector<T> x;
    FoundElements<T> found;
    size_t first_group;
  };

  // Appends what the other threads found to what the first one did.
  bool Join(size_t parts) {
    count_ = count_above_ = 0;
    for (size_t i = 0; i < parts; ++i) {
      const FoundElements<T>& found = parts_[i].found;
      if (count_ + found.count > most_) return false;
      const size_t end = i + 1 < parts ? parts_[i + 1].first_group : above_.size();
      if (i > 0) {
        std::copy_n(found.x, found.count, x_.data() + count_);
        for (size_t g = parts_[i].first_group; g < end; ++g) starts_[g] += static_cast<uint32_t>(count_);
      }
      count_ += found.count;
      count_above_ += found.above;
    }
    starts_.back() = static_cast<uint32_t>(count_);
    return true;
  }

  const size_t most_;
  Bracket<T> bracket_ = {};
  std::vector<T> x_;
  std::vector<uint32_t> starts_;  // how many elements in the bracket come before each group
  std::vector<double> above_, below_;
  std::vector<Part> parts_;
  size_t count_ = 0, count_above_ = 0;
};

}  // namespace boltzmax
