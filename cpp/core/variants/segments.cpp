#include "segments.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "../rows/gradients.hpp"
#include "../rows/softmax.hpp"
#include "../runtime/row_blocks.hpp"

namespace boltzmax {

namespace {

// Segments this long are run alone. Shorter ones are sorted by length, kBlock at a time, and packed, so that rows of the
// same length go through the kernels in panels.
constexpr size_t kMostPacked = 64;
constexpr size_t kBlock = 2048;

// Copies between kBytes and twice as many: the first and the last kBytes, which may overlap. A call of memcpy would take
// longer than the row.
template <size_t kBytes>
struct CopyEnds {
  void operator()(char* to, const char* from, size_t bytes) const {
    char first[kBytes], last[kBytes];
    std::memcpy(first, from, kBytes);
    std::memcpy(last, from + bytes - kBytes, kBytes);
    std::memcpy(to, first, kBytes);
    std::memcpy(to + bytes - kBytes, last, kBytes);
  }
};
struct CopyAll {
  void operator()(char* to, const char* from, size_t bytes) const { std::memcpy(to, from, bytes); }
};

// Calls f with the copy for rows of that many bytes.
template <class F>
void WithCopy(size_t bytes, F f) {
  if (bytes < 4) return f(CopyEnds<2>{});
  if (bytes < 8) return f(CopyEnds<4>{});
  if (bytes < 16) return f(CopyEnds<8>{});
  if (bytes < 32) return f(CopyEnds<16>{});
  if (bytes < 64) return f(CopyEnds<32>{});
  if (bytes <= 128) return f(CopyEnds<64>{});
  f(CopyAll{});
}

// Prefetches the elements of the next block, a cache line at a time, while this one is packed: in the order of their
// lengths, segments are scattered, which the processor's own prefetchers cannot follow.
struct NextBlock {
  const char* x;
  const char* other;
  char* y;
  size_t bytes;
  size_t at = 0;

  void Prefetch() {
    constexpr size_t kLine = 64;
    if (at >= bytes) return;
    __builtin_prefetch(x + at);
    if (other != nullptr) __builtin_prefetch(other + at);
    if (y != nullptr) __builtin_prefetch(y + at, 1);
    at += kLine;
  }
};

class SegmentRunner {
 public:
  explicit SegmentRunner(const SegmentProblem& p) : p_(p), kernels_(KernelsFor(p.storage)), item_(ItemSize(p.storage)) {
    exponentials_ = exponentials_of_thread_.Get(2 * kKept * std::max(item_, sizeof(float)));
    packed_ = packed_of_thread_.Get(3 * (kPackElements + kMostPacked) * item_);
  }

  void Run(size_t begin, size_t end) {
    for (; begin < end; begin += std::min(kBlock, end - begin)) {
      const size_t next = std::min(begin + kBlock, end), bytes = PlaceOf(std::min(next + kBlock, end)) - PlaceOf(next);
      next_ = {p_.x + PlaceOf(next), OtherOf(next), Reduces() ? nullptr : OutOf(next), bytes};
      RunBlock(begin, next);
    }
  }

 private:
  size_t LengthOf(size_t s) const { return static_cast<size_t>(p_.indptr[s + 1] - p_.indptr[s]); }
  size_t PlaceOf(size_t s) const { return static_cast<size_t>(p_.indptr[s]) * item_; }
  bool Reduces() const { return boltzmax::Reduces(p_.op); }
  char* OutOf(size_t s) const { return p_.y + (Reduces() ? s * item_ : PlaceOf(s)); }

  void RunBlock(size_t begin, size_t end) {
    std::array<uint32_t, kMostPacked + 2> places = {};  // of the first segment of each length, in sorted_
    for (size_t s = begin; s < end; ++s) ++places[std::min(LengthOf(s), kMostPacked) + 1];
    const size_t first = LengthOf(begin);
    if (first < kMostPacked && places[first + 1] == end - begin) {
      return RunRows(first, end - begin, p_.x + PlaceOf(begin), OtherOf(begin), OutOf(begin));
    }
    for (size_t n = 1; n < places.size(); ++n) places[n] += places[n - 1];
    auto next = places;
    for (size_t s = begin; s < end; ++s) {
      const size_t n = LengthOf(s);
      if (n >= kMostPacked) {
        RunAlone(s);
      } else {
        sorted_[next[n]++] = static_cast<uint32_t>(s - begin);
      }
    }
    for (size_t n = 0; n < kMostPacked; ++n) {
      const size_t batch = kPackElements / std::max<size_t>(n, 1);
      for (size_t i = places[n]; i < places[n + 1]; i += batch) {
        RunPacked(n, begin, i, std::min<size_t>(i + batch, places[n + 1]));
      }
    }
  }

  const char* OtherOf(size_t s) const { return p_.other == nullptr ? nullptr : p_.other + PlaceOf(s); }

  // Segments of n elements: sorted_[begin], ... of the block from `first` on.
  void RunPacked(size_t n, size_t first, size_t begin, size_t end) {
    const size_t row = n * item_, y_row = Reduces() ? item_ : row, all = (kPackElements + kMostPacked) * item_;
    char* x = packed_;
    char* y = packed_ + all;
    char* other = p_.other == nullptr ? nullptr : packed_ + 2 * all;
    if (n != 0) {
      WithCopy(row, [&](auto copy) {
        for (size_t i = begin; i < end; ++i) {
          const size_t at = PlaceOf(first + sorted_[i]), to = (i - begin) * row;
          copy(x + to, p_.x + at, row);
          if (other != nullptr) copy(other + to, p_.other + at, row);
          next_.Prefetch();
        }
      });
    }
    RunRows(n, end - begin, x, other, y);
    if (y_row == 0) return;
    WithCopy(y_row, [&](auto copy) {
      for (size_t i = begin; i < end; ++i) copy(OutOf(first + sorted_[i]), y + (i - begin) * y_row, y_row);
    });
  }

  void RunRows(size_t n, size_t rows, const char* x, const char* other, char* y) {
    const auto row = static_cast<ptrdiff_t>(n * item_);
    if (n == 0) {
      for (size_t r = 0; r < rows && Reduces(); ++r) {
        kernels_.store_scalar(y + r * item_, -std::numeric_limits<double>::infinity());
      }
    } else if (other != nullptr) {
      kernels_.GradientOf(p_.op).rows({x, other, y, row, row, row, rows, n});
    } else {
      static constexpr double kOne = 1.0;
      const auto y_row = Reduces() ? static_cast<ptrdiff_t>(item_) : row;
      kernels_.Of(p_.op).rows({x, y, nullptr, &kOne, row, y_row, 0, 0, rows, n, exponentials_, false, false, false});
    }
  }

  void RunAlone(size_t s) {
    const size_t n = LengthOf(s);
    if (p_.other != nullptr) {
      return RunContiguous({p_.op, p_.storage, p_.x + PlaceOf(s), OtherOf(s), OutOf(s), {}, {}}, 1, n);
    }
    RunContiguous({p_.op, p_.storage, p_.storage, p_.x + PlaceOf(s), OutOf(s), nullptr, nullptr, {}, {}}, 1, n);
  }

  static thread_local Scratch exponentials_of_thread_, packed_of_thread_;
  const SegmentProblem& p_;
  const StorageKernels& kernels_;
  size_t item_;
  NextBlock next_ = {};
  char* exponentials_;
  char* packed_;
  std::array<uint32_t, kBlock> sorted_;  // segments of a block, by their length
};

thread_local Scratch SegmentRunner::exponentials_of_thread_, SegmentRunner::packed_of_thread_;

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
