// A row in parts: one, or one for each thread if the row is long and not one of many.
#pragma once

#include <algorithm>

#include "../runtime/row_blocks.hpp"
#include "row_reader.hpp"

namespace boltzmax {

template <class T>
class RowParts {
 public:
  static constexpr size_t kPiece = RowReader<T>::kPiece;

  explicit RowParts(const SampleProblem& p) : n_(p.n), cost_(EstimateNanoseconds(p.n, p.storage)), reader_(p) {}

  void Open(size_t row) {
    reader_.Open(row);
    count_ = n_ < 2 * kLeast ? 1 : std::min(n_ / kLeast, static_cast<size_t>(UsableThreads(cost_)));
  }
  size_t Count() const { return count_; }
  RowReader<T>& Reader() { return reader_; }

  // Calls f(part, reader, begin, end) for all parts. A part begins with a piece.
  template <class F>
  void ForEach(F f) {
    if (count_ == 1) return f(size_t{0}, &reader_, size_t{0}, n_);
    const size_t pieces = (n_ + kPiece - 1) / kPiece;
    ParallelFor(count_, cost_, [&](size_t part) {
      RowReader<T> reader = reader_;
      const auto begin_of = [&](size_t i) { return std::min(pieces * i / count_ * kPiece, n_); };
      f(part, &reader, begin_of(part), begin_of(part + 1));
    });
  }
  // Calls f(begin, count) for the pieces from one element to another until it is false.
  template <class F>
  static void ForPieces(size_t from, size_t to, F f) {
    for (size_t begin = from; begin < to; begin += kPiece) {
      if (!f(begin, std::min(kPiece, to - begin))) return;
    }
  }

 private:
  static constexpr size_t kLeast = 65536;  // elements of a part

  const size_t n_;
  const double cost_;
  RowReader<T> reader_;
  size_t count_ = 1;
};

}  // namespace boltzmax
