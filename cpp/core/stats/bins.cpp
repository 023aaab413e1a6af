#include "bins.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "../runtime/parallel.hpp"

namespace boltzmax {

namespace {

// Each of several copies of the sums gets every fourth row, so that one addition need not wait for the one before it.
constexpr size_t kCopies = 4;
// Rows whose bins are found together, before anything is added.
constexpr size_t kBlock = 256;
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
    for (size_t r = 0; r < rows; r += kBlock) AddBlock(p + r, happened + r, std::min(kBlock, rows - r));
  }
  size_t MoveTo(BinSums sums) {
    size_t invalid = 0;
    for (size_t c = 0; c < kCopies; ++c) {
      Cell* cells = Copy(c);
      for (size_t b = 0; b < bins_; ++b) {
        sums.p[b] += cells[b].p;
        sums.count[b] += static_cast<double>(cells[b].pairs & 0xffffffffU);
        sums.happened[b] += static_cast<double>(cells[b].pairs >> 32);
      }
      invalid += cells[bins_].pairs & 0xffffffffU;
      std::fill_n(cells, bins_ + 1, Cell{0.0, 0});
    }
    return invalid;
  }

 private:
  // The cells of one copy; the last is for numbers that are not from 0 to 1.
  Cell* Copy(size_t c) { return cells_.data() + c * (bins_ + 1); }

  template <class T>
  void AddBlock(const T* p, const uint8_t* happened, size_t rows) {
    uint32_t bin[kBlock];
    FindBins(p, rows, bin);
    Cell *first = Copy(0), *second = Copy(1), *third = Copy(2), *fourth = Copy(3);
    const auto add = [&](Cell* cells, size_t r) {
      Cell& cell = cells[bin[r]];
      cell.p += static_cast<double>(p[r]);
      cell.pairs += 1 + (static_cast<uint64_t>(happened[r]) << 32);
    };
    size_t r = 0;
    for (; r + kCopies <= rows; r += kCopies) {
      add(first, r);
      add(second, r + 1);
      add(third, r + 2);
      add(fourth, r + 3);
    }
    for (; r < rows; ++r) add(first, r);
  }

  // A number is in the bin that its product with the number of bins names, unless it is near an edge.
  template <class T>
  void FindBins(const T* p, size_t rows, uint32_t* bin) const {
    constexpr double kNear = 1e-9;  // more than what rounding can do with 2^20 bins
    const auto scale = static_cast<double>(bins_);
    int unclear = 0;
    for (size_t r = 0; r < rows; ++r) {
      const double at = static_cast<double>(p[r]) * scale;
      const auto whole = static_cast<int32_t>(std::min(std::max(0.0, at), scale));
      const double rest = at - whole;
      unclear |= static_cast<int>(!(rest > kNear)) | static_cast<int>(!(rest < 1.0 - kNear));
      bin[r] = static_cast<uint32_t>(whole);
    }
    for (size_t r = 0; unclear != 0 && r < rows; ++r) bin[r] = BinOf(static_cast<double>(p[r]));
  }
  uint32_t BinOf(double p) const {
    if (!(p >= 0.0 && p <= 1.0)) return static_cast<uint32_t>(bins_);
    const size_t at = std::min(static_cast<size_t>(p * static_cast<double>(bins_)), bins_ - 1);
    const auto low = static_cast<size_t>(p <= edges_[at]), high = static_cast<size_t>(p > edges_[at + 1]);
    return static_cast<uint32_t>(at - low + high);
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
