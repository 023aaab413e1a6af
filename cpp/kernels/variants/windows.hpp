// Sums of exponentials over windows: the h elements before and after each one, as far as the row has them.
//
//     windowed_softmax_i = exp(x_i) / sum_{|j - i| <= h} exp(x_j)
//     windowed_logsumexp_i = log sum_{|j - i| <= h} exp(x_j)
//
// The row is divided into blocks of 2h elements, so that a window, which has 2h + 1, ends in the block after that in
// which it begins: its sum is a suffix of the one plus a prefix of the other (van Herk, Pattern Recognition Letters
// 13(7), 1992; Gil & Werman, IEEE PAMI 15(5), 1993). The work does not depend on h, and nothing is subtracted.
#pragma once

#include "scans.hpp"

namespace boltzmax::kernels {
namespace {

// A row and its windows.
template <class S>
struct WindowedRow {
  using T = Compute<S>;
  using V = Vec<T>;
  Source<S> x;
  S* y;
  size_t n;
  size_t half;  // h < n

  // -inf beyond the row.
  template <class Lanes>
  Block<V, 1> At(size_t i, Lanes lanes) const {
    const size_t count = CountOf<V>(lanes), here = i + count <= n ? count : (i < n ? n - i : 0);
    if (here == V::kLanes) return x(i, Whole<1>{});
    return here == 0 ? Block<V, 1>(Set<V>(Source<S>::kLowest)) : x(i, Partial<1>{here});
  }
};

// Windows of at most a vector on either side are made piece by piece, in the first-level cache.
template <class S>
struct WindowPieces {
  using V = VecOf<S>;
  static constexpr size_t kMostHalf = V::kLanes;
  static constexpr size_t kLength = 512;
  static constexpr size_t kRoom = kLength + 2 * kMostHalf + 2 * V::kLanes;  // whole vectors are read and written
};

// Calls f(first, n, values) for the pieces of a row: values[k] is map(x) of element first + k - half, and `beyond`
// outside of the row.
template <class S, class Map, class F>
inline void ForEachPiece(const WindowedRow<S>& row, Compute<S> beyond, Map map, F f) {
  using V = VecOf<S>;
  using Pieces = WindowPieces<S>;
  Compute<S> values[Pieces::kRoom];
  const size_t h = row.half;
  for (size_t first = 0; first < row.n; first += Pieces::kLength) {
    const size_t n = row.n - first < Pieces::kLength ? row.n - first : Pieces::kLength, all = n + 2 * h;
    const size_t begin = first < h ? h - first : 0, end = row.n + h - first < all ? row.n + h - first : all;
    for (size_t k = 0; k < begin; ++k) values[k] = beyond;
    ForEachBlock<V, 4>(end - begin, [&](size_t k, auto lanes) {
      StoreLanes(values + begin + k, map(row.x(first + begin + k - h, lanes)), lanes);
    });
    for (size_t k = end; k < Pieces::kRoom; ++k) values[k] = beyond;
    f(first, n, values);
  }
}

// The numbers that a row needs as scratch memory.
constexpr size_t WindowScratch(size_t n) { return 3 * n + 128; }

// Walks over the blocks of a row, for half > 0. A window is named by its element i; it ends with element i + half.
//
//     Restart(is_first)         a block begins
//     Prefix(e, lanes)          adds elements from e on to the prefix
//     Window(i, e, lanes, k)    the same; windows from i on end with these elements, and begin with elements from k on
//                               of the block before, whose suffixes are known, unless the block is the first
//     Suffix(k, e, lanes)       keeps the suffixes of the block from elements e on, which are number k of it
template <class S, class Walker>
inline void WalkBlocks(const WindowedRow<S>& row, Walker& walker) {
  using V = VecOf<S>;
  const size_t length = 2 * row.half, end = row.n + row.half;
  for (size_t begin = 0; begin < end; begin += length) {
    const size_t count = end - begin < length ? end - begin : length, skipped = begin == 0 ? row.half : 0;
    walker.Restart(begin == 0);
    ForEachBlock<V, 1>(skipped, [&](size_t k, auto lanes) { walker.Prefix(begin + k, lanes); });
    ForEachBlock<V, 1>(count - skipped, [&](size_t j, auto lanes) {
      const size_t k = skipped + j, e = begin + k;
      walker.Window(e - row.half, e, lanes, k);
    });
    if (begin + length >= end) return;
    ForEachVectorBackward<V>(row.n - begin < length ? row.n - begin : length,
                             [&](size_t k, auto lanes) { walker.Suffix(k, begin + k, lanes); });
  }
}

// ---- rows in which exponentials relative to the row's maximum do not underflow ----

// By so much elements may be below the maximum: their exponentials, times kScale, are normal numbers.
template <class T>
inline constexpr T kNarrow = sizeof(T) == sizeof(float) ? T(120) : T(750);

template <class S>
struct RowRange {
  using T = Compute<S>;
  T max, min;

  bool IsNarrow() const { return IsFinite(static_cast<double>(max)) && max - min <= kNarrow<T>; }
};

// NaN is ignored; and -inf, too, if kFinite.
template <bool kFinite, class S>
inline RowRange<S> RangeOf(const WindowedRow<S>& row) {
  using V = VecOf<S>;
  const V lowest = Set<V>(Source<S>::kLowest), zero = Set<V>(0);
  V max = lowest, minus_min = lowest;
  ForEachBlock<V, 4>(row.n, [&](size_t i, auto lanes) {
    const auto x = row.x(i, lanes);
    using B = decltype(x - x);
    max = MaxOf(x, max);
    B minus = B(zero) - x;
    if constexpr (kFinite) minus = IfThenElse(Eq(x, B(lowest)), B(lowest), minus);
    minus_min = MaxOf(minus, minus_min);
  });
  return {ReduceMax(max), -ReduceMax(minus_min)};
}

// An element of probability 0 has it whatever its window.
template <class B>
inline B ShareOf(const B& term, const B& sum) {
  const B zero = Set<Vec<typename B::Scalar>>(0);
  return IfThenElse(Eq(term, zero), zero, term / sum);
}

// Windows of at most a vector on either side. Sums of 2, 4, 8, ... neighbouring elements are made by doubling; that of a
// window is the sum of one of them for each bit of its length.
template <class S, class Shift>
inline void ShortWindowedSoftmax(const WindowedRow<S>& row, const Shift& shift) {
  using T = Compute<S>;
  using V = Vec<T>;
  using Pieces = WindowPieces<S>;
  T powers[Pieces::kRoom], sums[Pieces::kLength + V::kLanes];
  const auto term = [&](const auto& x) { return ScaledExp(x, shift); };
  ForEachPiece(row, T(0), term, [&](size_t first, size_t n, const T* terms) {
    const T* power = terms;
    for (size_t k = 0; k < n; k += V::kLanes) Store(sums + k, Load(terms + k));
    size_t length = 1, done = 1;  // of a power; of the part of the window in `sums`
    for (size_t bits = row.half; bits != 0; bits >>= 1) {
      const size_t count = n + 2 * row.half - 2 * length + 1;
      for (size_t k = 0; k < count; k += V::kLanes) Store(powers + k, Load(power + k) + Load(power + k + length));
      power = powers;
      length *= 2;
      if ((bits & 1) == 0) continue;
      for (size_t k = 0; k < n; k += V::kLanes) Store(sums + k, Load(sums + k) + Load(power + k + done));
      done += length;
    }
    ForEachBlock<V, 4>(n, [&](size_t k, auto lanes) {
      const auto own = LoadLanes<V>(terms + row.half + k, lanes, T(0)), sum = LoadLanes<V>(sums + k, lanes, T(1));
      StoreLanes(row.y + first + k, ShareOf(own, sum), lanes);
    });
  });
}

// Longer windows. `scratch` has the terms, then zeros for what windows have beyond the row, and the suffixes.
template <class S>
class WindowedTerms {
  using T = Compute<S>;
  using V = Vec<T>;

 public:
  template <class Shift>
  WindowedTerms(const WindowedRow<S>& row, const Shift& shift, void* scratch)
      : row_(row), terms_(static_cast<T*>(scratch)), suffixes_(terms_ + row.n + row.half + V::kLanes) {
    ForEachBlock<V, 4>(row.n,
                       [&](size_t i, auto lanes) { StoreLanes(terms_ + i, ScaledExp(row.x(i, lanes), shift), lanes); });
    for (size_t i = row.n; i < row.n + row.half; ++i) terms_[i] = T(0);
  }

  void Restart(bool is_first) {
    is_first_ = is_first;
    prefix_ = {};
    suffix_ = {};
  }
  template <class Lanes>
  void Prefix(size_t e, Lanes lanes) {
    prefix_.Next(LoadLanes<V>(terms_ + e, lanes, T(0)).part[0]);
  }
  template <class Lanes>
  void Window(size_t i, size_t e, Lanes lanes, size_t k) {
    Block<V, 1> sum = prefix_.Next(LoadLanes<V>(terms_ + e, lanes, T(0)).part[0]);
    if (!is_first_) sum = sum + LoadLanes<V>(suffixes_ + k, lanes, T(0));
    StoreLanes(row_.y + i, ShareOf(LoadLanes<V>(terms_ + i, lanes, T(0)), sum), lanes);
  }
  template <class Lanes>
  void Suffix(size_t k, size_t e, Lanes lanes) {
    StoreLanes(suffixes_ + k, Block<V, 1>(suffix_.Next(LoadLanes<V>(terms_ + e, lanes, T(0)).part[0])), lanes);
  }

 private:
  WindowedRow<S> row_;
  T* terms_;
  T* suffixes_;
  bool is_first_ = true;
  RunningSums<V, false> prefix_;
  RunningSums<V, true> suffix_;
};

// ---- any rows ----

// (m, s) of two sets without common elements.
template <class V>
inline PartialSums<V, 1> Merge(const PartialSums<V, 1>& a, const PartialSums<V, 1>& b) {
  using D = WideBlock<V, 1>;
  const Block<V, 1> larger = Max(a.max, b.max);
  const D max = InDouble(larger), one = Const(1);
  const auto rescaled = [&](const PartialSums<V, 1>& p) {
    const D from = InDouble(p.max);
    return p.sum * IfThenElse(Eq(from, max), one, ExpOf(from - max));  // also where both are the same infinity
  };
  return {larger, rescaled(a) + rescaled(b)};
}

// Calls emit(i, lanes, p) with the (m, s) of windows i, ...
template <class S, class Emit>
class WindowedSums {
  using T = Compute<S>;
  using V = Vec<T>;

 public:
  WindowedSums(const WindowedRow<S>& row, void* scratch, Emit emit)
      : row_(row),
        sums_(static_cast<double*>(scratch)),
        maxima_(reinterpret_cast<T*>(sums_ + row.n + V::kLanes)),
        emit_(emit) {}

  void Restart(bool is_first) {
    is_first_ = is_first;
    prefix_ = {};
    suffix_ = {};
  }
  template <class Lanes>
  void Prefix(size_t e, Lanes lanes) {
    prefix_.Next(row_.At(e, lanes));
  }
  template <class Lanes>
  void Window(size_t i, size_t e, Lanes lanes, size_t k) {
    const PartialSums<V, 1> prefix = prefix_.Next(row_.At(e, lanes));
    if (is_first_) return emit_(i, lanes, prefix);
    emit_(i, lanes,
          Merge<V>({LoadLanes<V>(maxima_ + k, lanes, T(0)), LoadLanes<F64>(sums_ + k, WideLanes<V>(lanes), 0.0)},
                   prefix));
  }
  template <class Lanes>
  void Suffix(size_t k, size_t e, Lanes lanes) {
    const PartialSums<V, 1> suffix = suffix_.Next(row_.At(e, lanes));
    StoreLanes(maxima_ + k, suffix.max, lanes);
    StoreLanes(sums_ + k, suffix.sum, WideLanes<V>(lanes));
  }

 private:
  WindowedRow<S> row_;
  double* sums_;
  T* maxima_;
  Emit emit_;
  bool is_first_ = true;
  RunningLogSum<V, false, true> prefix_;
  RunningLogSum<V, true, true> suffix_;
};

// The same for windows of few elements, one by one. Beyond kMostDirect on either side, blocks take less time.
inline constexpr size_t kMostDirect = 4;

template <class S, class Emit>
inline void ForEachShortWindow(const WindowedRow<S>& row, Emit emit) {
  using T = Compute<S>;
  using V = Vec<T>;
  using B = Block<V, 1>;
  using D = WideBlock<V, 1>;
  ForEachPiece(
      row, Source<S>::kLowest, [](const auto& x) { return x; },
      [&](size_t first, size_t n, const T* x) {
        ForEachBlock<V, 1>(n, [&](size_t k, auto lanes) {
          const auto element = [&](size_t j) { return B(Load(x + k + j)); };
          B largest = element(0);
          for (size_t j = 1; j <= 2 * row.half; ++j) largest = Max(element(j), largest);
          const D max = InDouble(largest), one = Const(1);
          PartialSums<V, 1> p = {largest, D(Const(0))};
          for (size_t j = 0; j <= 2 * row.half; ++j) {
            const D e = InDouble(element(j));
            p.sum = p.sum + IfThenElse(Eq(e, max), one, ExpOf(e - max));  // also where both are the same infinity
          }
          emit(first + k, lanes, p);
        });
      });
}

template <class S, class Emit>
inline void ForEachWindow(const WindowedRow<S>& row, void* scratch, Emit emit) {
  if (row.half <= kMostDirect) return ForEachShortWindow(row, emit);
  WindowedSums<S, Emit> sums(row, scratch, emit);
  WalkBlocks(row, sums);
}

// exp(x - m) / s; NaN if m is infinite.
template <class S>
inline void WideWindowedSoftmax(const WindowedRow<S>& row, void* scratch) {
  using T = Compute<S>;
  using V = Vec<T>;
  ForEachWindow(row, scratch, [&](size_t i, auto lanes, const PartialSums<V, 1>& p) {
    using D = WideBlock<V, 1>;
    const auto x = row.x(i, lanes), lowest = Block<V, 1>(Set<V>(Source<S>::kLowest));
    const D max = InDouble(p.max), share = ExpOf(InDouble(x) - max) / p.sum;
    const auto y = Rounded<V>(MulAdd(max, D(Const(0)), share));
    StoreLanes(row.y + i, IfThenElse(Eq(x, lowest), Block<V, 1>(Set<V>(0)), y), lanes);
  });
}

// ---- kernels ----

template <class S>
inline WindowedRow<S> WindowedRowAt(const RowCall& call, size_t r) {
  const RowOf<S> row = RowAt<S>(call, r);
  const auto half = static_cast<size_t>(call.options.count);
  return {row.x, row.y, row.n, half < row.n ? half : row.n - 1};
}

template <class S>
BOLTZMAX_KERNEL inline void WindowedSoftmax(const RowCall& call) {
  using V = VecOf<S>;
  using T = Compute<S>;
  for (size_t r = 0; r < call.batch.rows; ++r) {
    const auto row = WindowedRowAt<S>(call, r);
    RowRange<S> range = RangeOf<false>(row);
    if (!range.IsNarrow()) range = RangeOf<true>(row);
    if (range.max == Source<S>::kLowest && !AnyNan(row.x, row.n)) {
      SoftmaxMapDegenerate(row.x, row.y, row.n);
    } else if (!range.IsNarrow()) {
      WideWindowedSoftmax(row, call.batch.scratch);
    } else {
      const ExpShift<V, false> shift(Set<V>(range.max), MakeTemperature<V>(T(1)));
      if (row.half <= WindowPieces<S>::kMostHalf) {
        ShortWindowedSoftmax(row, shift);
      } else {
        WindowedTerms<S> terms(row, shift, call.batch.scratch);
        WalkBlocks(row, terms);
      }
    }
  }
}

template <class S>
BOLTZMAX_KERNEL inline void WindowedLogSumExp(const RowCall& call) {
  using V = VecOf<S>;
  for (size_t r = 0; r < call.batch.rows; ++r) {
    const auto row = WindowedRowAt<S>(call, r);
    ForEachWindow(row, call.batch.scratch, [&](size_t i, auto lanes, const PartialSums<V, 1>& p) {
      StoreLanes(row.y + i, LogSumExpOf(p), lanes);
    });
  }
}

}  // namespace
}  // namespace boltzmax::kernels
