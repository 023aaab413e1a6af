// The result of reducing a strip of columns or a panel of rows, lane by lane, and the reduction of short ones.
#pragma once

#include "../rows/softmax.hpp"
#include "column_passes.hpp"

namespace boltzmax::kernels {
namespace {

// A strip's temperatures, one per lane.
template <class V>
struct StripTemperature {
  using T = typename V::Scalar;
  Wide<V> value;
  Temperature<V> vector;

  // Temperature 1.
  StripTemperature() : value(Const(1)), vector(MakeTemperature<V>(RowTemperature{})) {}
  StripTemperature(const double* first, ptrdiff_t stride, size_t lanes) {
    double values[V::kLanes];
    T t[V::kLanes], hi[V::kLanes], lo[V::kLanes];
    for (size_t j = 0; j < V::kLanes; ++j) {
      const char* p = reinterpret_cast<const char*>(first) + static_cast<ptrdiff_t>(j < lanes ? j : 0) * stride;
      values[j] = *reinterpret_cast<const double*>(p);
      t[j] = static_cast<T>(values[j]);
      InvertTemperature(values[j], &hi[j], &lo[j]);
    }
    value = LoadLanes<F64>(values, Whole<V::kLanes / F64::kLanes>{}, 0.0);
    vector = {Load(t), Load(hi), Load(lo), true};
  }
};

// x / T; without a temperature, x.
template <class V>
inline Wide<V> Scaled(const Wide<V>& x, const StripTemperature<V>& t) {
  return t.vector.scaled ? x / t.value : x;
}

// The result of reducing a strip, lane by lane.
template <class Shift>
struct StripSum {
  using V = typename Shift::Vector;
  V max;
  Shift shift;
  SumOfExp<Wide<V>> sum;
  Wide<V> top_error;  // the rounding error of the largest term
};

template <class V, class Shift>
inline StripSum<Shift> MakeStripSum(V max, const Shift& shift, const Pair<Wide<V>>& sum) {
  const Wide<V> unscale = Const(ExpConstants<typename V::Scalar>::kUnscale);
  const auto top = ExpTermsOf(max, shift);
  return {max,
          shift,
          {Promote(max), Promote(shift.offset), Promote(shift.exponent), Promote(top.Value()) * unscale,
           sum.hi * unscale, sum.lo * unscale},
          Promote(top.Error()) * unscale};
}

struct KeepNoColumn {
  template <class B>
  void operator()(size_t, size_t, const B&) const {}
};

// The sum of a short column, in order; even and odd rows apart, which halves the chain of additions.
template <class V>
struct SumInOrder {
  WideSum<V> even, odd;

  // Adds rows that begin with an even one.
  template <size_t U>
  void Add(const Block<V, U>& e) {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < U; ++u) (u % 2 == 0 ? even : odd).Add(e.part[u]);
  }
  // Adds up the kept exponentials [begin, end), if `keep` stores them where they can be read again.
  template <class Keep>
  void AddKept(size_t begin, size_t end, const Keep& keep) {
    if constexpr (requires { keep.Kept(end); }) {
      size_t i = begin;
      for (; i + 2 <= end; i += 2) {
        even.AddStored(keep.Kept(i));
        odd.AddStored(keep.Kept(i + 1));
      }
      if (i < end) even.AddStored(keep.Kept(i));
    }
  }
  Pair<Wide<V>> Lanes() {
    even.Fold(odd);
    return even.Lanes();
  }
};

// How many of a row's last elements are added in order, after the sum of those before them: all of a short row; and up
// to a square beyond whole vectors, since in a panel they take a vector for each of them instead of one for each row.
template <class V, bool kForLog>
constexpr size_t InOrder(size_t n) {
  constexpr size_t kMostVectors = 14;  // Longer rows do not always go by panels.
  if (n <= (kForLog ? V::kInOrder : V::kTransposed)) return n;
  const size_t rest = n % V::kLanes;
  return n <= kMostVectors * V::kLanes && rest <= V::kPart ? rest : 0;
}

// The sum of a row's two parts.
template <class V>
inline Pair<Wide<V>> Plus(const Pair<Wide<V>>& a, const Pair<Wide<V>>& b) {
  if constexpr (kNeedsLow<typename V::Scalar>) return Settle(Merge(a, b));
  if constexpr (!kNeedsLow<typename V::Scalar>) return {a.hi + b.hi, Const(0)};
}

// SumOfTerms for columns: terms(i, step, RowCount<U>). Without `keep`, for a logarithm.
template <class V, class Keep, class F>
inline Pair<Wide<V>> ColumnSumOfTerms(size_t n, Keep keep, F terms) {
  constexpr bool kForLog = std::is_same_v<Keep, KeepNoColumn>;
  const size_t first = n - InOrder<V, kForLog>(n);  // of those that are added in order
  const auto term = [&](size_t i, size_t step, auto count) {
    const auto e = terms(i, step, count);
    keep(i, step, e);
    return e;
  };
  const auto sum_before = [&]() -> Pair<Wide<V>> {
    if (!kForLog || n > kShort) return ColumnSum<V>(first, term);
    WideSum<V> sums[V::kLanes];
    ForEachStripRow(first, [&]<size_t U>(size_t i, RowCount<U> count) {
      const auto e = term(i, 1, count);
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < U; ++u) sums[(i + u) % V::kLanes].Add(e.part[u]);
    });
    return FoldColumnSums(sums);
  };
  const auto sum = sum_before();
  if (first == n) return sum;
  SumInOrder<V> last;
  ForEachStripRow(n - first, [&](size_t i, auto count) { last.Add(term(first + i, 1, count)); });
  return Plus<V>(sum, last.Lanes());
}

// A buffer for up to kLanes columns of at most kInOrder numbers, line by line. It is padded so that the last square of
// a transposition fits.
template <class T>
struct Columns {
  using V = Vec<T>;
  static constexpr size_t kLanes = V::kLanes;
  alignas(64) T at[(V::kInOrder + V::kPart - 1) * kLanes];
};

template <class S, bool kCoarse>
inline Strip<Compute<S>, kCoarse> AsStrip(Compute<S>* columns, size_t n) {
  constexpr size_t kLanes = VecOf<S>::kLanes;
  return {reinterpret_cast<char*>(columns), kLanes * sizeof(Compute<S>), n, kLanes};
}

// Keeps exponentials in columns, from where they are added up.
template <class V>
struct KeepInColumns {
  using T = typename V::Scalar;
  T* columns;

  template <size_t U>
  void operator()(size_t i, size_t, const Block<V, U>& e) const {
    StoreLanes(columns + i * V::kLanes, e, Whole<U>{});
  }
  const T* Kept(size_t i) const { return columns + i * V::kLanes; }
};

// The sum of the exponentials of columns, in order.
template <class V, class StripType, class Shift>
inline Pair<Wide<V>> SumOfTermsInOrder(const StripType& x, const Shift& shift) {
  SumInOrder<V> sum;
  ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) { sum.Add(ScaledExp(x.template Rows<U>(i, 1), shift)); });
  return sum.Lanes();
}

// The sum of the exponentials of short columns, which are kept: in order from element `first` on, after the sum of those
// before it by trees.
template <class V, class StripType, class Shift, class Keep>
inline Pair<Wide<V>> SumOfKeptTerms(const StripType& x, const Shift& shift, size_t first, Keep keep) {
  ForEachStripRow(x.n,
                  [&]<size_t U>(size_t i, RowCount<U>) { keep(i, 1, ScaledExp(x.template Rows<U>(i, 1), shift)); });
  SumInOrder<V> last;
  last.AddKept(first, x.n, keep);
  if (first == 0) return last.Lanes();
  using T = typename V::Scalar;
  const Strip<T, false> terms = {reinterpret_cast<const char*>(keep.Kept(0)), V::kLanes * sizeof(T), x.n, V::kLanes};
  const auto sum = ColumnSum<V>(
      first, [&]<size_t U>(size_t i, size_t step, RowCount<U>) { return terms.template Rows<U>(i, step); });
  return first == x.n ? sum : Plus<V>(sum, last.Lanes());
}

// Reduces columns of at most kInOrder elements, given their maxima and how many of the last are added in order. So few
// elements that a temperature is a parameter here (kScaled: there may be one).
template <bool kScaled, class StripType, class V, class Keep>
inline auto ReduceShort(const StripType& x, V max, const Temperature<V>& t, Keep keep, size_t in_order) {
  typename StripType::template ShiftAs<kScaled> shift(max, t);
  shift.Simplify();
  Pair<Wide<V>> sum;
  WithShift(shift, [&](const auto& narrowed) { sum = SumOfKeptTerms<V>(x, narrowed, x.n - in_order, keep); });
  return MakeStripSum(max, shift, sum);
}

// A strip, and the sum of its terms without one of the largest of each column. It is constructed in place: copying so
// many vectors would take as long as adding up a short row.
template <class Shift>
struct StripRest {
  StripSum<Shift> strip;
  Pair<Wide<typename Shift::Vector>> rest;

  template <class Strip, class Rest>
  StripRest(Strip strip_of, Rest rest_of) : strip(strip_of()), rest(rest_of(strip)) {}
};

// ReduceShort for a logarithm, all in order: the largest terms are counted instead of added, so that no tiny term is lost next to
// them. Only the others are kept, with zeros in place of the largest.
template <bool kScaled, class StripType, class V, class Keep>
inline auto ReduceInOrderForLog(const StripType& x, V max, const Temperature<V>& t, Keep keep) {
  using Shift = typename StripType::template ShiftAs<kScaled>;
  using D = Wide<V>;
  const V zero = Set<V>(0), one = Set<V>(1);
  Shift shift(max, t);
  shift.Simplify();
  SumInOrder<V> others;
  V count = zero;
  WithShift(shift, [&](const auto& direct) {
    ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
      const auto v = x.template Rows<U>(i, 1);
      const auto is_largest = Eq(v, decltype(v)(max));
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < U; ++u) count = IfThenElse(is_largest.part[u], count + one, count);
      const auto e = IfThenElse(is_largest, decltype(v)(zero), ScaledExp(v, direct));
      keep(i, 1, e);
      if constexpr (!requires { keep.Kept(i); }) others.Add(e);
      if (x.n < kTiny) others.Add(IfThenElse(is_largest, decltype(v)(zero), ExpTermsOf(v, direct).Error()));
    });
  });
  others.AddKept(0, x.n, keep);
  const auto add_largest = [&](StripSum<Shift>& strip) -> Pair<D> {
    const D top = strip.sum.top, equals = Promote(count) - D(Const(1)), ties = equals * top;
    if constexpr (!kNeedsLow<typename V::Scalar>) {
      const D rest = strip.sum.hi + MulAdd(equals, strip.top_error, ties);
      strip.sum.hi = rest + top;
      return {rest, Const(0)};
    }
    D error;
    Pair<D> rest = {TwoSum(strip.sum.hi, ties, &error), strip.sum.lo + (error + equals * strip.top_error)};
    rest.lo = rest.lo - Remainder(ties, equals, top);
    rest = Normalize(rest);
    strip.sum.hi = TwoSum(rest.hi, top, &error);
    strip.sum.lo = rest.lo + error;
    return rest;
  };
  return StripRest<Shift>([&] { return MakeStripSum(max, shift, others.Lanes()); }, add_largest);
}

// log(sum exp(x/T)) - offset/T for every lane, for rows that go by panels; `rest` is the sum without one
// largest term.
template <class T, class D>
inline Pair<D> LogOfShort(const SumOfExp<D>& sum, const D& top_error, const Pair<D>& rest) {
  if constexpr (!kNeedsLow<T>) {
    // A float has digits to spare: one formula covers every row.
    return LogOfTopAndRest(sum.max - sum.offset, sum.exponent, sum.top + top_error, rest.hi);
  } else {
    const auto usual = LogPartsOfSum<T>(sum);
    const auto is_peaked = Lt(sum.hi, sum.top * Const(kPeakedHere));
    if (!Any(is_peaked)) return Join<T>(usual);
    const auto peaked = LogPartsOfPeakedSum<T>(sum, rest);
    const auto choose = [&](const D& a, const D& b) { return IfThenElse(is_peaked, a, b); };
    return Join<T>(
        LogParts<D>{choose(peaked.base, usual.base), choose(peaked.f, usual.f), choose(peaked.extra, usual.extra)});
  }
}
template <class Shift, class D = Wide<typename Shift::Vector>>
inline Pair<D> LogOfShort(const StripSum<Shift>& strip, const Pair<D>& rest) {
  return LogOfShort<typename Shift::T>(strip.sum, strip.top_error, rest);
}

}  // namespace
}  // namespace boltzmax::kernels
