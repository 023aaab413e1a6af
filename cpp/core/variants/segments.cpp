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

// Segments this long are run alone. Shorter ones are packed by length, a block at a time, so that rows of the same length
// go through the kernels in panels. A block is as many segments and elements as stay in the nearer caches.
constexpr size_t kMostPacked = 64;
constexpr size_t kMostSegments = 2048;
constexpr size_t kMostElements = 16384;
// A panel has at most this many rows. Short packed rows are filled up to whole panels, since part of one takes longer.
constexpr size_t kMostPanelRows = 16;
constexpr size_t kMostFilled = 24;

size_t PackedRows(size_t n, size_t rows) {
  return n <= kMostFilled ? (rows + kMostPanelRows - 1) / kMostPanelRows * kMostPanelRows : rows;
}

// Copies kBytes, of which `bytes` are wanted, where as many may be read and written: the length of a segment cannot be
// predicted, and a branch on it would take longer than the copy.
template <size_t kBytes>
struct CopyWhole {
  static constexpr size_t kChunk = kBytes;
  void operator()(char* to, const char* from, size_t) const {
    for (size_t k = 0; k < kBytes; k += 16) std::memcpy(to + k, from + k, 16);
  }
};

// Calls f with the copy for rows of at most this many bytes.
template <class F>
void WithCopy(size_t bytes, F f) {
  if (bytes <= 16) return f(CopyWhole<16>{});
  if (bytes <= 32) return f(CopyWhole<32>{});
  if (bytes <= 64) return f(CopyWhole<64>{});
  if (bytes <= 80) return f(CopyWhole<80>{});
  if (bytes <= 96) return f(CopyWhole<96>{});
  if (bytes <= 128) return f(CopyWhole<128>{});
  if (bytes <= 256) return f(CopyWhole<256>{});
  f(CopyWhole<kMostPacked * sizeof(double)>{});
}

class SegmentRunner {
 public:
  explicit SegmentRunner(const SegmentProblem& p) : p_(p), kernels_(KernelsFor(p.storage)), item_(ItemSize(p.storage)) {
    exponentials_ = exponentials_of_thread_.Get(2 * kKept * std::max(item_, sizeof(float)));
    // Each length has its own rows, those that fill up its last panel, and room for a chunk beyond them.
    room_ = (kMostElements + kMostPacked + kMostPacked * (kMostPanelRows * kMostFilled + kMostPacked)) * item_;
    packed_ = packed_of_thread_.Get(3 * room_);
  }

  void Run(size_t begin, size_t end) {
    while (begin < end) {
      const int64_t* first = p_.indptr + begin;
      const auto most = static_cast<ptrdiff_t>(std::min(kMostSegments, end - begin));
      const int64_t* last = std::upper_bound(first + 1, first + most + 1, *first + int64_t{kMostElements});
      const size_t next = begin + std::max<size_t>(static_cast<size_t>(last - first) - 1, 1);
      RunBlock(begin, next);
      begin = next;
    }
  }

 private:
  using Places = std::array<size_t, kMostPacked>;

  size_t LengthOf(size_t s) const { return static_cast<size_t>(p_.indptr[s + 1] - p_.indptr[s]); }
  size_t PlaceOf(size_t s) const { return static_cast<size_t>(p_.indptr[s]) * item_; }
  bool Reduces() const { return boltzmax::Reduces(p_.op); }
  char* OutOf(size_t s) const { return p_.y + (Reduces() ? s * item_ : PlaceOf(s)); }
  const char* OtherOf(size_t s) const { return p_.other == nullptr ? nullptr : p_.other + PlaceOf(s); }

  void RunBlock(size_t begin, size_t end) {
    std::array<size_t, kMostPacked + 1> counts = {};
    for (size_t s = begin; s < end; ++s) ++counts[std::min(LengthOf(s), kMostPacked)];
    const size_t length = LengthOf(begin);
    if (length < kMostPacked && counts[length] == end - begin) {
      return RunRows(length, end - begin, p_.x + PlaceOf(begin), OtherOf(begin), OutOf(begin));
    }
    size_t longest = kMostPacked - 1;
    while (longest > 0 && counts[longest] == 0) --longest;
    if (counts[kMostPacked] != end - begin) {
      WithCopy(longest * item_, [&](auto copy) { RunPacked(begin, end, counts, copy); });
    }
    for (size_t s = begin; s < end && counts[kMostPacked] != 0; ++s) {
      if (LengthOf(s) >= kMostPacked) RunAlone(s);
    }
  }

  // The segments of a block that are not run alone. Where their rows are packed, the rows of a length follow each other in
  // the order of the segments.
  template <class Copy>
  void RunPacked(size_t begin, size_t end, const std::array<size_t, kMostPacked + 1>& counts, Copy copy) {
    Places rows, results;
    size_t at = 0, result = 0;
    for (size_t n = 0; n < kMostPacked; ++n) {
      rows[n] = at;
      results[n] = result;
      at += counts[n] == 0 ? 0 : PackedRows(n, counts[n]) * n * item_ + Copy::kChunk;
      result += PackedRows(n, counts[n]) * item_;
    }
    char* x = packed_;
    char* y = packed_ + room_;
    char* other = p_.other == nullptr ? nullptr : packed_ + 2 * room_;
    Pack(begin, end, rows, p_.x, x, copy);
    if (other != nullptr) Pack(begin, end, rows, p_.other, other, copy);
    for (size_t n = 0; n < kMostPacked; ++n) {
      if (counts[n] == 0) continue;
      const size_t whole = PackedRows(n, counts[n]);
      FillUp(x + rows[n], n, counts[n], whole);
      if (other != nullptr) FillUp(other + rows[n], n, counts[n], whole);
      RunRows(n, whole, x + rows[n], other == nullptr ? nullptr : other + rows[n],
              y + (Reduces() ? results[n] : rows[n]));
    }
    Reduces() ? UnpackResults(begin, end, results, y) : Unpack(begin, end, rows, y, copy);
  }

  // Calls f(s, n, at) for every segment that is packed, with its length and its place.
  template <class F>
  void ForEachPacked(size_t begin, size_t end, Places next, F f) const {
    for (size_t s = begin; s < end; ++s) {
      const size_t n = LengthOf(s);
      if (n < kMostPacked) f(s, n, &next[n]);
    }
  }
  // No chunk reaches beyond the block, where another thread may write. Prefetches what the processor's own prefetchers are too late for: input
  // some segments ahead, and the place of the results.
  template <class Copy>
  void Pack(size_t begin, size_t end, const Places& rows, const char* from, char* to, Copy copy) const {
    const size_t limit = PlaceOf(end);
    ForEachPacked(begin, end, rows, [&](size_t s, size_t n, size_t* at) {
      constexpr size_t kAhead = 2048;
      const size_t place = PlaceOf(s);
      __builtin_prefetch(from + place + kAhead);
      if (!Reduces()) __builtin_prefetch(p_.y + place, 1);
      place + Copy::kChunk <= limit ? copy(to + *at, from + place, n * item_)
                                    : static_cast<void>(std::memcpy(to + *at, from + place, n * item_));
      *at += n * item_;
    });
  }
  // What a chunk writes beyond its segment is written again with the next one, unless the next one is run alone, from its
  // place in x, which may be that in y; or is another block's.
  template <class Copy>
  void Unpack(size_t begin, size_t end, const Places& rows, const char* from, Copy copy) const {
    size_t limit = 0, next = begin;
    ForEachPacked(begin, end, rows, [&](size_t s, size_t n, size_t* at) {
      if (next <= s) {
        next = s;
        while (next < end && LengthOf(next) < kMostPacked) ++next;
        limit = PlaceOf(next);
      }
      const size_t place = PlaceOf(s);
      place + Copy::kChunk <= limit ? copy(p_.y + place, from + *at, n * item_)
                                    : static_cast<void>(std::memcpy(p_.y + place, from + *at, n * item_));
      *at += n * item_;
    });
  }
  void UnpackResults(size_t begin, size_t end, const Places& results, const char* from) const {
    ForEachPacked(begin, end, results, [&](size_t s, size_t, size_t* at) {
      std::memcpy(OutOf(s), from + *at, item_);
      *at += item_;
    });
  }
  // Rows beyond the first `rows` are copies of the first.
  void FillUp(char* packed, size_t n, size_t rows, size_t whole) const {
    for (size_t r = rows; r < whole; ++r) std::memcpy(packed + r * n * item_, packed, n * item_);
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
  size_t room_;  // bytes
  char* exponentials_;
  char* packed_;
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
