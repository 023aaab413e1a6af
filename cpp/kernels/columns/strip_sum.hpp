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

// SumOfTerms for columns: terms(i, step, RowCount<U>).
template <class V, class Keep, class F>
inline Pair<Wide<V>> ColumnSumOfTerms(size_t n, Keep keep, F terms) {
  if constexpr (std::is_same_v<Keep, KeepNoColumn>) {
    if (n <= kShort) {
      WideSum<V> sums[V::kLanes];
      ForEachStripRow(n, [&]<size_t U>(size_t i, RowCount<U> count) {
        const auto e = terms(i, 1, count).Value();
        BOLTZMAX_UNROLL
        for (size_t u = 0; u < U; ++u) sums[(i + u) % V::kLanes].Add(e.part[u]);
      });
      return FoldColumnSums(sums);
    }
  }
  return ColumnSum<V>(n, [&](size_t i, size_t step, auto count) {
    const auto e = terms(i, step, count).Value();
    keep(i, step, e);
    return e;
  });
}

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
  // Adds up the kept exponentials, if `keep` stores them where they can be read again.
  template <class Keep>
  void AddKept(size_t n, const Keep& keep) {
    if constexpr (requires { keep.Kept(n); }) {
      for (size_t i = 0; i + 2 <= n; i += 2) {
        even.AddStored(keep.Kept(i));
        odd.AddStored(keep.Kept(i + 1));
      }
      if (n % 2 != 0) even.AddStored(keep.Kept(n - 1));
    }
  }
  Pair<Wide<V>> Lanes() {
    even.Fold(odd);
    return even.Lanes();
  }
};

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

// Reduces columns of at most kInOrder elements, given their maxima: adds the terms in order, in twice the precision. So
// few elements that a temperature is a parameter here (kScaled: there may be one).
template <bool kScaled, class StripType, class V, class Keep>
inline auto ReduceInOrder(const StripType& x, V max, const Temperature<V>& t, Keep keep) {
  const typename StripType::template ShiftAs<kScaled> shift(max, t);
  SumInOrder<V> sum;
  WithShift(shift, [&](const auto& direct) {
    ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
      const auto e = ScaledExp(x.template Rows<U>(i, 1), direct);
      keep(i, 1, e);
      if constexpr (!requires { keep.Kept(i); }) sum.Add(e);
    });
  });
  sum.AddKept(x.n, keep);
  return MakeStripSum(max, shift, sum.Lanes());
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

// ReduceInOrder for a logarithm: the largest terms are counted instead of added, so that no tiny term is lost next to
// them. Only the others are kept, with zeros in place of the largest.
template <bool kScaled, class StripType, class V, class Keep>
inline auto ReduceInOrderForLog(const StripType& x, V max, const Temperature<V>& t, Keep keep) {
  using Shift = typename StripType::template ShiftAs<kScaled>;
  using D = Wide<V>;
  const V zero = Set<V>(0), one = Set<V>(1);
  const Shift shift(max, t);
  SumInOrder<V> others;
  V count = zero;
  WithShift(shift, [&](const auto& direct) {
    ForEachStripRow(x.n, [&]<size_t U>(size_t i, RowCount<U>) {
      const auto v = x.template Rows<U>(i, 1);
      const auto terms = ExpTermsOf(v, direct);
      const auto is_largest = Eq(v, decltype(v)(max));
      BOLTZMAX_UNROLL
      for (size_t u = 0; u < U; ++u) count = IfThenElse(is_largest.part[u], count + one, count);
      const auto e = IfThenElse(is_largest, decltype(v)(zero), terms.Value());
      keep(i, 1, e);
      if constexpr (!requires { keep.Kept(i); }) others.Add(e);
      if (x.n < kTiny) others.Add(IfThenElse(is_largest, decltype(v)(zero), terms.Error()));
    });
  });
  others.AddKept(x.n, keep);
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
