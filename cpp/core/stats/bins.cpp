#include "bins.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "../runtime/bin_table.hpp"
#include "../runtime/parallel.hpp"

namespace boltzmax {

namespace {

// Each of several copies of the sums gets every eighth row, so that one addition need not wait for the one before it. The
// copies of few bins fit the first-level cache; of many bins there is one copy, in which few additions follow each other.
constexpr size_t kCopies = 8, kFewBins = 128;
// Rows whose bins are found together, before anything is added.
constexpr size_t kBlock = 256;
// Rows that are added up together, or for many bins more of them. Their sums are added in order, so that threads change
// no bit.
constexpr size_t kPiece = size_t{1} << 18, kPieceOfBin = 16;

// The sums over the rows of a bin in which the event happened, or over those in which it did not.
struct Cell {
  double p, count;
};

const BinKernels<float>& KernelsOf(const BinTable& table, float) { return table.f32; }
const BinKernels<double>& KernelsOf(const BinTable& table, double) { return table.f64; }

class Bins {
 public:
  Bins(const double* edges, size_t bins)
      : bins_(bins),
        edges_(edges, edges + bins + 1),
        copy_(bins <= kFewBins ? 2 * (bins + 1) : 0),
        cells_(bins <= kFewBins ? kCopies * copy_ : 2 * (bins + 1), Cell{0.0, 0.0}) {
    edges_.front() = -std::numeric_limits<double>::infinity();  // rounding never leads beyond the ends
    edges_.back() = std::numeric_limits<double>::infinity();
  }

  template <class T>
  void Add(const T* p, const uint8_t* happened, size_t rows) {
    for (size_t r = 0; r < rows; r += kBlock) AddBlock(p + r, happened + r, std::min(kBlock, rows - r));
  }
  // Adds what was added to `sums`, and begins again. Returns how many numbers are not from 0 to 1.
  size_t MoveTo(BinSums sums) {
    size_t invalid = 0;
    for (size_t first = 0; first < cells_.size(); first += 2 * (bins_ + 1)) {
      const Cell* cells = cells_.data() + first;
      for (size_t b = 0; b < bins_; ++b) {
        const Cell &miss = cells[2 * b], &hit = cells[2 * b + 1];
        sums.p[b] += miss.p + hit.p;
        sums.count[b] += miss.count + hit.count;
        sums.happened[b] += hit.count;
      }
      invalid += static_cast<size_t>(cells[2 * bins_].count + cells[2 * bins_ + 1].count);
    }
    std::fill(cells_.begin(), cells_.end(), Cell{0.0, 0.0});
    return invalid;
  }

 private:
  template <class T>
  void AddBlock(const T* p, const uint8_t* happened, size_t rows) {
    int64_t bin[kBlock];
    if (!KernelsOf(ActiveBins(), T()).find(p, rows, bins_, bin)) {
      for (size_t r = 0; r < rows; ++r) bin[r] = BinOf(static_cast<double>(p[r]));
    }
    const auto add = [&](size_t copy, size_t r) {
      const size_t at = 2 * static_cast<size_t>(bin[r]) + static_cast<size_t>(happened[r] != 0);
      Cell& cell = cells_[copy * copy_ + at];
      cell.p += static_cast<double>(p[r]);
      cell.count += 1.0;
    };
    size_t r = 0;
    for (; r + kCopies <= rows; r += kCopies) {
      for (size_t c = 0; c < kCopies; ++c) add(c, r + c);
    }
    for (; r < rows; ++r) add(0, r);
  }

  // The bin of a number that may be near an edge; one more is for numbers that are not from 0 to 1.
  int64_t BinOf(double p) const {
    if (!(p >= 0.0 && p <= 1.0)) return static_cast<int64_t>(bins_);
    const size_t at = std::min(static_cast<size_t>(p * static_cast<double>(bins_)), bins_ - 1);
    const auto low = static_cast<size_t>(p <= edges_[at]), high = static_cast<size_t>(p > edges_[at + 1]);
    return static_cast<int64_t>(at - low + high);
  }

  size_t bins_;
  std::vector<double> edges_;
  size_t copy_;  // from one copy's cells to the next one's
  // Two for each bin, then two for numbers that are not from 0 to 1.
  std::vector<Cell> cells_;
};

template <class T>
size_t AddPieces(const T* p, const uint8_t* happened, size_t rows, const double* edges, size_t bins, BinSums sums) {
  const size_t piece = std::max(kPiece, kPieceOfBin * bins), pieces = (rows + piece - 1) / piece;
  std::vector<double> parts(3 * pieces * bins);
  std::vector<size_t> invalid(pieces);
  ParallelBlocks(pieces, 1, 2.0 * static_cast<double>(rows), [&](size_t begin, size_t end) {
    Bins found(edges, bins);
    for (size_t i = begin; i < end; ++i) {
      const size_t first = i * piece;
      found.Add(p + first, happened + first, std::min(piece, rows - first));
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
