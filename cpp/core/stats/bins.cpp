#include "bins.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "../runtime/parallel.hpp"

namespace boltzmax {

namespace {

// Neighbouring rows are often in the same bin; each of several copies of the sums gets every fourth row, so that one
// addition need not wait for the one before it.
constexpr size_t kCopies = 4;
// Rows that are added up together. Their sums are added in order, so that threads change no bit.
constexpr size_t kPiece = size_t{1} << 18;

struct Cell {
  double p;
  uint64_t pairs;  // the count, and in the upper half how often the event happened
};

class Bins {
 public:
  Bins(const double* edges, size_t bins)
      : bins_(bins), edges_(edges, edges + bins + 1), cells_(kCopies * (bins + 1), Cell{0.0, 0}) {
    edges_.front() = -std::numeric_limits<double>::infinity();  // rounding never leads beyond the ends
    edges_.back() = std::numeric_limits<double>::infinity();
  }

  template <class T>
  void Add(const T* p, const uint8_t* happened, size_t rows) {
    for (size_t r = 0; r < rows; ++r) {
      const auto v = static_cast<double>(p[r]);
      const bool valid = v >= 0.0 && v <= 1.0;
      // Those that are not valid have a bin of their own.
      Cell& cell = cells_[kCopies * (valid ? Index(v) : bins_) + r % kCopies];
      cell.p += v;
      cell.pairs += 1 + (static_cast<uint64_t>(happened[r] != 0) << 32);
    }
  }
  size_t MoveTo(BinSums sums) {
    size_t invalid = 0;
    for (size_t b = 0; b <= bins_; ++b) {
      for (size_t c = 0; c < kCopies; ++c) {
        Cell& cell = cells_[kCopies * b + c];
        const uint64_t count = cell.pairs & 0xffffffffU;
        if (b == bins_) {
          invalid += count;
        } else {
          sums.p[b] += cell.p;
          sums.count[b] += static_cast<double>(count);
          sums.happened[b] += static_cast<double>(cell.pairs >> 32);
        }
        cell = {0.0, 0};
      }
    }
    return invalid;
  }

 private:
  // The product with the number of bins is at most one bin off, at an edge.
  size_t Index(double v) const {
    const size_t at = std::min(static_cast<size_t>(static_cast<int64_t>(v * static_cast<double>(bins_))), bins_ - 1);
    return at - static_cast<size_t>(v <= edges_[at]) + static_cast<size_t>(v > edges_[at + 1]);
  }

  size_t bins_;
  std::vector<double> edges_;
  std::vector<Cell> cells_;
};

template <class T>
size_t AddPieces(const T* p, const uint8_t* happened, size_t rows, const double* edges, size_t bins, BinSums sums) {
  const size_t pieces = (rows + kPiece - 1) / kPiece;
  std::vector<double> parts(3 * pieces * bins);
  std::vector<size_t> invalid(pieces);
  ParallelBlocks(pieces, 1, 2.0 * static_cast<double>(rows), [&](size_t begin, size_t end) {
    Bins found(edges, bins);
    for (size_t i = begin; i < end; ++i) {
      const size_t first = i * kPiece;
      found.Add(p + first, happened + first, std::min(kPiece, rows - first));
      double* at = parts.data() + 3 * i * bins;
      invalid[i] = found.MoveTo({at, at + bins, at + 2 * bins});
    }
  });
  size_t total = 0;
  for (size_t i = 0; i < pieces; ++i) {
    const double* at = parts.data() + 3 * i * bins;
    for (size_t b = 0; b < bins; ++b) {
      sums.count[b] += at[b];
      sums.happened[b] += at[bins + b];
      sums.p[b] += at[2 * bins + b];
    }
    total += invalid[i];
  }
  return total;
}

}  // namespace

size_t AddToBins(const float* p, const uint8_t* happened, size_t rows, const double* edges, size_t bins, BinSums sums) {
  return AddPieces(p, happened, rows, edges, bins, sums);
}
size_t AddToBins(const double* p, const uint8_t* happened, size_t rows, const double* edges, size_t bins,
                 BinSums sums) {
  return AddPieces(p, happened, rows, edges, bins, sums);
}

}  // namespace boltzmax
