// Panels as stored: the rows are read one after the other, and their partial sums and maxima are folded side by side.
#pragma once

#include "transposed.hpp"

namespace boltzmax::kernels {
namespace {

// A temperature per lane; [lane] broadcasts one of them to all lanes.
template <class V>
struct LaneTemperatures {
  using T = typename V::Scalar;
  T value[V::kLanes], inverse_hi[V::kLanes], inverse_lo[V::kLanes];
  bool scaled;

  explicit LaneTemperatures(const Temperature<V>& t) : scaled(t.scaled) {
    Store(value, t.value);
    Store(inverse_hi, t.inverse_hi);
    Store(inverse_lo, t.inverse_lo);
  }
  Temperature<V> operator[](size_t lane) const {
    return {Set<V>(value[lane]), Set<V>(inverse_hi[lane]), Set<V>(inverse_lo[lane]), scaled};
  }
};

// The same for shifts.
template <class Shift>
struct LaneShifts {
  using V = typename Shift::Vector;
  using T = typename V::Scalar;
  T unit[V::kLanes], floor[V::kLanes], offset[V::kLanes];
  LaneTemperatures<V> temperatures;
  Shift all;

  explicit LaneShifts(const Shift& shift) : temperatures(shift.temperature), all(shift) {
    Store(unit, shift.unit);
    Store(floor, shift.floor);
    Store(offset, shift.offset);
  }
  Shift operator[](size_t lane) const {
    Shift shift = all;
    shift.unit = Set<V>(unit[lane]);
    shift.floor = Set<V>(floor[lane]);
    shift.offset = Set<V>(offset[lane]);
    shift.temperature = temperatures[lane];
    return shift;
  }
};
template <class V, class R>
struct LaneShifts<DirectShift<V, R>> {
  typename V::Scalar unit[V::kLanes], floor[V::kLanes];

  explicit LaneShifts(const DirectShift<V, R>& shift) {
    Store(unit, shift.unit);
    Store(floor, shift.floor);
  }
  DirectShift<V, R> operator[](size_t lane) const { return {Set<V>(unit[lane]), Set<V>(floor[lane])}; }
};
template <class V, class R>
struct LaneShifts<PlainShift<V, R>> {
  PlainShift<V, R> all;

  explicit LaneShifts(const PlainShift<V, R>& shift) : all(shift) {}
  const PlainShift<V, R>& operator[](size_t) const { return all; }
};

// The lanes of a sum that has yet to be folded.
inline F64 PartialSum(F32 sum) { return PromoteLower(sum) + PromoteUpper(sum); }
inline Pair<F64> PartialSum(F64 sum) { return {sum, Set<F64>(0.0)}; }
inline F64 PartialSum(const WideSum<F32>& sum) { return sum.lower + sum.upper; }
inline Pair<F64> PartialSum(const WideSum<F64>& sum) { return sum.sum; }

inline Pair<Wide<F32>> FoldSums(const F64* partial, F32) {
  const auto add = [](F64 a, F64 b) { return a + b; };
  Wide<F32> sum;
  sum.part[0] = FoldRows<F64>(partial, add);
  sum.part[1] = FoldRows<F64>(partial + F64::kLanes, add);
  return {sum, Const(0)};
}
inline Pair<Wide<F64>> FoldSums(const Pair<F64>* partial, F64) {
  const auto sum = FoldRows<F64>(partial, Merge<F64>);
  return Settle(Pair<Wide<F64>>{sum.hi, sum.lo});
}

// The sum of `vectors` kept vectors at e, by trees.
template <class V, class T>
inline WideSum<V> SumOfTrees(const T* e, size_t vectors) {
  WideSum<V> sum;
  size_t u = 0;
  for (; u + 4 <= vectors; u += 4) sum.Add(Tree(LoadLanes<V>(e + u * V::kLanes, Whole<4>{}, T(0))));
  e += u * V::kLanes;
  if (vectors - u == 3) sum.Add(Tree(LoadLanes<V>(e, Whole<3>{}, T(0))));
  if (vectors - u == 2) sum.Add(Tree(LoadLanes<V>(e, Whole<2>{}, T(0))));
  if (vectors - u == 1) sum.Add(Load(e));
  return sum;
}

// Room for the exponentials of a panel's rows, in whole vectors padded with zeros: what is stored in pieces of a vector
// could not be loaded as a whole at once.
template <class T>
struct KeptTerms {
  using V = Vec<T>;
  T* at;
  size_t vectors;

  KeptTerms(void* scratch, size_t n) : at(static_cast<T*>(scratch)), vectors((n + V::kLanes - 1) / V::kLanes) {}
  T* Row(size_t j) const { return at + j * vectors * V::kLanes; }
  // Scratch memory holds those of the longest rows that go by panels.
  static_assert(kPaneledForLogs<T> * V::kLanes <= 2 * kKept);
};

// Whether one store fills each line of the result, which is then not read first: prefetching such lines would displace
// kept exponentials from the first-level cache.
template <class S>
inline bool FillsLines(const Panel<S>& panel) {
  constexpr size_t kLeast = 128;
  return VecOf<S>::kLanes * sizeof(S) == 64 && panel.n >= kLeast;
}

// The vectors of a block one by one, which takes fewer registers than side by side.
template <class V, size_t U, class Shift>
inline Block<V, U> ScaledExpSingly(const Block<V, U>& x, const Shift& shift) {
  Block<V, U> e;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) e.part[u] = ScaledExp(x.part[u], shift);
  return e;
}

// Whether a term that is too large is infinite, so that it shows in the sum.
template <class V>
inline constexpr bool kOverflows = kScales<V>;

// The exponentials of a panel: those of whole vectors row by row, the others as columns.
template <class S>
class PanelTerms {
 public:
  using T = Compute<S>;
  using V = Vec<T>;
  const Panel<S>& panel;
  const size_t in_order, n;  // the number of last elements that are columns, and of those before them
  const KeptTerms<T> kept;   // of all rows or, if they are not wanted, of one
  Columns<T> last;           // of the columns; or these as they are, if a logarithm is wanted

  PanelTerms(const Panel<S>& of, void* scratch, size_t last_in_order = 0)
      : panel(of), in_order(last_in_order), n(of.n - in_order), kept(scratch, n) {}

  Panel<S> LastPart() const { return panel.After(n); }

  // The sums of trees, and the maxima if PlainTrial needs them.
  template <class Shift>
  Pair<Wide<V>> Sum(const Shift& shift, V* max) {
    const LaneShifts<Shift> shifts(shift);
    V largest = *max;
    const Pair<Wide<V>> sum = SumRows<Shift>(
        !FillsLines(panel),
        [&](size_t j, const Source<S>& x, size_t whole, auto ending) {
          T* const e = kept.Row(j);
          const auto own = shifts[j];
          const auto tree = [&]<class Lanes>(size_t i, Lanes lanes) {
            const auto v = x(i, lanes);
            if constexpr (!kOverflows<V>) largest = MaxOf(v, largest);
            const auto terms = ScaledExpSingly(v, own);
            StoreLanes(e + i, terms, Whole<Lanes::kVectors>{});
            return Tree(terms);
          };
          if (whole == 0) return PartialSum(tree(0, ending));
          WideSum<V> total;
          for (size_t i = 0; i < whole; i += 4 * V::kLanes) total.Add(tree(i, Whole<4>{}));
          total.Add(tree(whole, ending));
          return PartialSum(total);
        },
        [&](size_t j) {
          T* const e = kept.Row(j);
          KeepTerms(panel.Row(j), shifts[j], e, [&](const auto& v) {
            if constexpr (!kOverflows<V>) largest = MaxOf(v, largest);
          });
          return PartialSum(SumOfTrees<V>(e, kept.vectors));
        });
    *max = largest;
    if (in_order == 0) return sum;
    const V last_max = LoadTransposed(LastPart(), last.at);
    if constexpr (!kOverflows<V>) *max = Max(last_max, *max);
    return Plus<V>(sum, SumOfKeptTerms<V>(LastColumns(shift), shift, 0, KeepInColumns<V>{last.at}));
  }

  // The sums of terms that are added singly, for a logarithm, and the maxima. (A function of its own, as many kernels
  // call it.)
  template <class Shift>
  BOLTZMAX_KERNEL Pair<Wide<V>> SumSingly(const Shift& shift, bool keeps_all, V* max) {
    const LaneShifts<Shift> shifts(shift);
    V maxima[V::kLanes];
    const Pair<Wide<V>> sum = SumRows<Shift>(
        true,
        [&](size_t j, const Source<S>& x, size_t whole, auto ending) {
          T* const e = kept.Row(keeps_all ? j : 0);
          const auto own = shifts[j];
          V largest = Set<V>(Source<S>::kLowest);
          WideSum<V> total;
          const auto add = [&]<class Lanes>(size_t i, Lanes lanes) {
            const auto v = x(i, lanes);
            largest = MaxOf(v, largest);
            StoreLanes(e + i, ScaledExpSingly(v, own), Whole<Lanes::kVectors>{});
            BOLTZMAX_UNROLL
            for (size_t u = 0; u < Lanes::kVectors; ++u) total.AddStored(e + i + u * V::kLanes);
          };
          for (size_t i = 0; i < whole; i += 4 * V::kLanes) add(i, Whole<4>{});
          add(whole, ending);
          maxima[j] = largest;
          return PartialSum(total);
        },
        [&](size_t j) {
          T* const e = kept.Row(keeps_all ? j : 0);
          V largest = Set<V>(Source<S>::kLowest);
          KeepTerms(panel.Row(j), shifts[j], e, [&](const auto& v) { largest = MaxOf(v, largest); });
          maxima[j] = largest;
          WideSum<V> total;
          for (size_t u = 0; u < kept.vectors; ++u) total.AddStored(e + u * V::kLanes);
          return PartialSum(total);
        });
    for (size_t j = panel.rows; j < V::kLanes; ++j) maxima[j] = maxima[0];
    *max = FoldRows<V>(maxima, [](V a, V b) { return Max(a, b); });
    if (in_order == 0) return sum;
    *max = Max(LoadTransposed(LastPart(), last.at), *max);
    return Plus<V>(sum, SumOfTermsInOrder<V>(LastColumns(shift), shift));
  }

 private:
  template <class Shift>
  auto LastColumns(const Shift&) {
    return AsStrip<S, Shift::Reduction::kIsCoarse>(last.at, in_order);
  }
  // Keeps the exponentials of a row of any kind.
  template <class Shift, class F>
  void KeepTerms(const Source<S>& x, const Shift& own, T* e, F look) {
    ForEachVectorOf<V>(n, [&]<class Lanes>(size_t i, Lanes lanes) {
      const auto v = x(i, lanes);
      look(v);
      StoreLanes(e + i, ScaledExpSingly(v, own), Whole<Lanes::kVectors>{});
    });
  }
  // The sum of each row, of which usual(j, x, whole, ending) returns the lanes for rows at a stride and without a mask,
  // which a PlainShift does for; and any(j) for all others. So the longer code is compiled for few cases.
  template <class Shift, class Usual, class Any>
  Pair<Wide<V>> SumRows(bool prefetches_y, Usual usual, Any any) {
    decltype(PartialSum(WideSum<V>{})) partial[V::kLanes];
    const auto each_row = [&](auto f) {
      for (size_t j = 0; j < panel.rows; ++j) {
        if (panel.far) PrefetchBeyond(panel, j, prefetches_y);
        partial[j] = f(j);
      }
    };
    if (kIsPlain<Shift> && panel.mask == nullptr && panel.x_places == nullptr) {
      if constexpr (kIsPlain<Shift>) {
        WithEnding<V>(n, [&](size_t whole, auto ending) {
          each_row([&, x = panel.x, stride = panel.x_stride](size_t j) {
            return usual(j, Source<S>{RowAt(x, stride, j), nullptr}, whole, ending);
          });
        });
      }
    } else {
      each_row(any);
    }
    for (size_t j = panel.rows; j < V::kLanes; ++j) partial[j] = partial[0];
    return FoldSums(partial, V{});
  }
};

// The maximum of each row of a panel.
template <class S, class V = VecOf<S>>
inline V MaximaAlong(const Panel<S>& panel) {
  V maxima[V::kLanes];
  for (size_t j = 0; j < panel.rows; ++j) {
    const auto x = panel.Row(j);
    V max = Set<V>(Source<S>::kLowest);
    ForEachVectorOf<V>(panel.n, [&](size_t i, auto lanes) { max = MaxOf(x(i, lanes), max); });
    maxima[j] = max;
  }
  for (size_t j = panel.rows; j < V::kLanes; ++j) maxima[j] = maxima[0];
  return FoldRows<V>(maxima, [](V a, V b) { return Max(a, b); });
}

// Whether a panel is summed with K = 0 before its maxima are known. That does for rows whose maxima are within some 25
// of 0, as those of most logits are; else it was in vain, and some of the next panels are not tried.
class PlainTrial {
 public:
  bool IsDue() {
    if (wait_ == 0) return true;
    --wait_;
    return false;
  }
  // Whether all sums, in units of 1 / kScale, are near enough to 1 for terms to be in range. `max` is at least the
  // maximum of each row, in any lane, unless too large a term overflows.
  template <class V>
  bool Succeeds(const Pair<Wide<V>>& sum, V max) {
    constexpr double kLn2 = static_cast<double>(ExpConstants<typename V::Scalar>::kLn2);
    constexpr double kNear = int64_t{1} << kPlainPower,
                     kScale = static_cast<double>(ExpConstants<typename V::Scalar>::kScale);
    const Wide<V> zero = Const(0), one = Const(1);
    const auto below = IfThenElse(Lt(sum.hi, Wide<V>(Const(kNear * kScale))), one, zero);  // 0 for NaN
    const auto near = IfThenElse(Lt(Wide<V>(Const(kScale / kNear)), sum.hi), below, zero);
    const V most = Set<V>(static_cast<typename V::Scalar>(kPlainPower * kLn2));
    const bool succeeds = !Any(Eq(near, zero)) && !Any(Lt(most, max));
    penalty_ = succeeds ? 0 : (penalty_ == 0 ? kLeastPenalty : kMostPenalty);
    wait_ = penalty_;
    return succeeds;
  }

 private:
  static constexpr size_t kLeastPenalty = 15, kMostPenalty = 63;
  size_t wait_ = 0, penalty_ = 0;
};

// For rows that all have a temperature.
struct NoTrial {};

// Reduces the rows of a panel: their maxima first, and then sum(shift, &max).
template <class Shift, class S, class Sum, class V = VecOf<S>>
BOLTZMAX_KERNEL inline StripSum<Shift> ReduceInTwoPasses(const Panel<S>& panel, const Temperature<V>& t, Sum sum) {
  const V max = MaximaAlong(panel);
  const Shift shift(max, t);
  Pair<Wide<V>> sums;
  V again = max;
  WithShift(shift, [&](const auto& narrowed) { sums = sum(narrowed, &again); });
  return MakeStripSum(max, shift, sums);
}

// Reduces the rows of a panel, in one pass if K = 0 does: sum(shift, &max) returns their sums, and may find their maxima.
template <bool kCoarse, bool kScaled, class S, class Trial, class Sum, class V = VecOf<S>>
inline auto ReduceAlong(const Panel<S>& panel, const Temperature<V>& t, Trial* trial, Sum sum) {
  using Shift = typename Source<S, kCoarse>::template ShiftAs<kScaled>;
  V max = Set<V>(0);
  if constexpr (std::is_same_v<Trial, PlainTrial>) {
    if (!(kScaled && t.scaled) && trial->IsDue()) {
      const auto sums = sum(PlainShift<V, ReductionOf<V, kCoarse>>(), &max);
      if (trial->template Succeeds<V>(sums, max)) return MakeStripSum(max, Shift(RowSum{}, t), sums);
    }
  }
  return ReduceInTwoPasses<Shift>(panel, t, sum);
}

// The least bytes of a row that is stored by lines: see ForEachVectorTo. By measurement.
template <class S>
inline constexpr size_t kLeastByLines = VecOf<S>::kLanes * sizeof(S) == 64 ? 384 : 1024;
// y = f for the first n elements of row j, past the cache if the panel is streamed.
template <class S, class F>
inline void MapRow(const Panel<S>& panel, size_t n, size_t j, F f) {
  S* const y = panel.Out(j);
  if (panel.stream) return MapTo<VecOf<S>>(y, n, true, f);
  ForEachVectorTo<VecOf<S>, kLeastByLines<S>>(y, n,
                                              [&](size_t i, auto lanes) { StoreLanes(y + i, f(i, lanes), lanes); });
}
// The same for all rows: of(j, map) calls map with the f of row j.
template <class S, class F>
inline void MapRows(const Panel<S>& panel, size_t n, F of) {
  if (panel.stream || panel.y_places != nullptr || n * sizeof(S) >= kLeastByLines<S>) {
    for (size_t j = 0; j < panel.rows; ++j) of(j, [&](auto f) { MapRow(panel, n, j, f); });
    return;
  }
  constexpr size_t kStep = 4 * VecOf<S>::kLanes;
  WithEnding<VecOf<S>>(n, [&](size_t whole, auto ending) {
    for (size_t j = 0; j < panel.rows; ++j) {
      S* const y = RowAt(panel.y, panel.y_stride, j);
      of(j, [&](auto f) {
        for (size_t i = 0; i < whole; i += kStep) StoreLanes(y + i, f(i, Whole<4>{}), Whole<4>{});
        StoreLanes(y + whole, f(whole, ending), ending);
      });
    }
  });
}

}  // namespace
}  // namespace boltzmax::kernels
