#include "segments.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "../rows/gradients.hpp"
#include "../rows/softmax.hpp"
#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

// Segments this long are run alone. Shorter ones wait in bins, those of each length in their own, and a full bin goes
// through the kernels as a panel of rows of one length, without a copy. All that wait stay in the first-level cache.
constexpr size_t kShortest = 64;
constexpr size_t kBin = 16;
// Up to this length, part of a panel takes longer than a whole one.
constexpr size_t kMostFilled = 24;
static_assert(kShortest <= kMostPaneled);

class SegmentRunner {
 public:
  explicit SegmentRunner(const SegmentProblem& p)
      : p_(p), kernels_(KernelsFor(p.storage)), item_(ItemSize(p.storage)), reduces_(Reduces(p.op)) {
    exponentials_ = exponentials_of_thread_.Get(2 * kKept * std::max(item_, sizeof(float)));
  }

  void Run(size_t begin, size_t end) {
    for (size_t s = begin; s < end; ++s) {
      const size_t n = LengthOf(s);
      if (n >= kShortest) {
        RunAlone(s, n);
      } else if (Put(s, n) == kBin) {
        RunBin(n);
      }
    }
    for (size_t n = 0; n < kShortest; ++n) {
      if (counts_[n] == 0) continue;
      if (n <= kMostFilled) FillUp(n);
      RunBin(n);
    }
  }

 private:
  size_t LengthOf(size_t s) const { return static_cast<size_t>(p_.indptr[s + 1] - p_.indptr[s]); }
  ptrdiff_t PlaceOf(size_t s) const { return static_cast<ptrdiff_t>(p_.indptr[s]) * static_cast<ptrdiff_t>(item_); }
  ptrdiff_t ResultOf(size_t s) const { return reduces_ ? static_cast<ptrdiff_t>(s * item_) : PlaceOf(s); }

  // Returns the number of segments that wait with this one. Prefetches what the processor's own prefetchers are too late
  // for: input some segments ahead, and the place of the results.
  size_t Put(size_t s, size_t n) {
    constexpr ptrdiff_t kAhead = 2048;
    const ptrdiff_t place = PlaceOf(s), result = ResultOf(s);
    __builtin_prefetch(p_.x + place + kAhead);
    if (p_.other != nullptr) __builtin_prefetch(p_.other + place + kAhead);
    __builtin_prefetch(p_.y + result, 1);
    const size_t at = counts_[n]++;
    places_[n][at] = place;
    if (reduces_) results_[n][at] = result;
    return at + 1;
  }

  // Rows beyond those of a bin are its first once more, with the same result, unless that replaces what is read.
  void FillUp(size_t n) {
    if (p_.y == p_.x || p_.y == p_.other) return;
    for (; counts_[n] < kBin; ++counts_[n]) {
      places_[n][counts_[n]] = places_[n][0];
      if (reduces_) results_[n][counts_[n]] = results_[n][0];
    }
  }

  void RunBin(size_t n) {
    const size_t rows = counts_[n];
    counts_[n] = 0;
    const ptrdiff_t* places = places_[n];
    const auto row = static_cast<ptrdiff_t>(n * item_);
    // Segments that are neighbours, as those of one length all are, are rows at a stride.
    const bool adjoin = places[rows - 1] - places[0] == static_cast<ptrdiff_t>(rows - 1) * row;
    const ptrdiff_t stride = adjoin ? row : 0, first = adjoin ? places[0] : 0;
    if (p_.other != nullptr) {
      if (n == 0) return;
      return kernels_.GradientOf(p_.op).rows(
          {p_.x + first, p_.other + first, p_.y + first, stride, stride, stride, rows, n, adjoin ? nullptr : places});
    }
    static constexpr double kOne = 1.0;
    RowBatch batch = {p_.x + first,
                      p_.y + first,
                      nullptr,
                      &kOne,
                      stride,
                      stride,
                      0,
                      0,
                      rows,
                      n,
                      exponentials_,
                      false,
                      false,
                      false,
                      adjoin ? nullptr : places,
                      adjoin ? nullptr : places};
    if (reduces_) {
      batch.y = p_.y;
      batch.y_stride = 0;
      batch.y_places = results_[n];
    }
    if (n > 0) return kernels_.Of(p_.op).rows(batch);
    for (size_t r = 0; r < rows && reduces_; ++r) {
      kernels_.store_scalar(p_.y + results_[n][r], -std::numeric_limits<double>::infinity());
    }
  }

  void RunAlone(size_t s, size_t n) {
    const char* x = p_.x + PlaceOf(s);
    char* y = p_.y + ResultOf(s);
    if (p_.other != nullptr) {
      return RunContiguous({p_.op, p_.storage, x, p_.other + PlaceOf(s), y, {}, {}}, 1, n);
    }
    RunContiguous({p_.op, p_.storage, p_.storage, x, y, nullptr, nullptr, {}, {}}, 1, n);
  }

  static thread_local Scratch exponentials_of_thread_;
  const SegmentProblem& p_;
  const StorageKernels& kernels_;
  size_t item_;
  bool reduces_;
  char* exponentials_;
  std::array<size_t, kShortest> counts_ = {};
  ptrdiff_t places_[kShortest][kBin];   // in bytes, as for RowBatch
  ptrdiff_t results_[kShortest][kBin];  // of reductions
};

thread_local Scratch SegmentRunner::exponentials_of_thread_;

}  // namespace

void Run(const SegmentProblem& p) {
  if (p.segments == 0) return;
  const auto elements = static_cast<size_t>(p.indptr[p.segments] - p.indptr[0]);
  const double cost = EstimateNanoseconds(p.segments, 0, p.storage) + 1.5 * EstimateNanoseconds(elements, p.storage);
  ForEachRowBlock(p.segments, elements / p.segments, cost,
                  [&](size_t begin, size_t end) { SegmentRunner(p).Run(begin, end); });
}

size_t SortBySegment(const int64_t* ids, size_t count, size_t segments, int64_t* order, int64_t* indptr) {
  std::fill(indptr, indptr + segments + 1, 0);
  for (size_t i = 0; i < count; ++i) {
    if (ids[i] < 0 || static_cast<size_t>(ids[i]) >= segments) return i;
    ++indptr[ids[i] + 1];
  }
  for (size_t s = 0; s < segments; ++s) indptr[s + 1] += indptr[s];
  // indptr[s] is the next free place of segment s, and in the end that of s + 1.
  for (size_t i = 0; i < count; ++i) order[indptr[ids[i]]++] = static_cast<int64_t>(i);
  for (size_t s = segments; s > 0; --s) indptr[s] = indptr[s - 1];
  indptr[0] = 0;
  return count;
}

}  // namespace boltzmax
