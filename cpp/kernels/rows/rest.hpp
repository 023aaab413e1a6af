// The logarithm of a row's sum; where one term makes up much of it, from the sum of the others.
#pragma once

#include "../math/log_sum.hpp"
#include "reduce.hpp"

namespace boltzmax::kernels {
namespace {

// A rest below this share of the largest term is summed again; above it, the sum has kept enough of its digits.
template <class T>
inline constexpr double kTinyRest = sizeof(T) == sizeof(float) ? 0x1p-24 : 0x1p-48;

// The sum without its largest term. That term spoils only the digits of the four that it was added up with: their tree
// is subtracted, and the other three are added again, each with its own rounding error. The largest is v.part[slot],
// lane by lane.
template <class V, class Shift>
inline Pair<Wide<V>> WithoutLargest(Pair<Wide<V>> sum, const Block<V, 4>& v, V slot, const Shift& shift) {
  using T = typename V::Scalar;
  using D = Wide<V>;
  const auto terms = ExpTermsOf(v, shift);
  const auto values = terms.Value(), errors = terms.Error();
  const D unscale = Const(ExpConstants<T>::kUnscale);
  const D tree = Promote(Tree(values.part[0], values.part[1], values.part[2], values.part[3])) * unscale;
  D others[4], lost = Const(0);
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < 4; ++u) {
    const auto is_largest = Eq(slot, Set<V>(static_cast<T>(u)));
    others[u] = Promote(IfThenElse(is_largest, Set<V>(0), values.part[u])) * unscale;
    lost = lost + Promote(IfThenElse(is_largest, Set<V>(0), errors.part[u]));
  }
  lost = lost * unscale;
  if constexpr (!kNeedsLow<T>) {
    return {(sum.hi - tree) + (Tree(others[0], others[1], others[2], others[3]) + lost), Const(0)};
  }
  const auto add = [&sum](const D& term) {
    D error;
    sum.hi = TwoSum(sum.hi, term, &error);
    sum.lo = sum.lo + error;
  };
  add(D(Const(0)) - tree);
  for (const D& term : others) add(term);
  sum.lo = sum.lo + lost;
  return Normalize(sum);
}

// 0, 1, 2, ...
template <class V>
inline V LaneIndex() {
  typename V::Scalar index[V::kLanes];
  for (size_t i = 0; i < V::kLanes; ++i) index[i] = static_cast<typename V::Scalar>(i);
  return Load(index);
}

// The index of the last element that equals max; there must be one.
template <class Src>
inline size_t FindLast(const Src& x, size_t n, typename Src::V max) {
  using V = typename Src::V;
  using T = typename Src::T;
  constexpr size_t kStep = 4 * V::kLanes;
  size_t begin = (n - 1) / kStep * kStep;
  Block<V, 4> v = x(begin, Partial<4>{n - begin});
  while (begin > 0 && !Any(Eq(v, Block<V, 4>(max)))) {
    begin -= kStep;
    v = x(begin, Whole<4>{});
  }
  V last = Set<V>(-1);
  V index = LaneIndex<V>();
  for (const V& part : v.part) {
    last = IfThenElse(Eq(part, max), index, last);
    index = index + Set<V>(static_cast<T>(V::kLanes));
  }
  return begin + static_cast<size_t>(ReduceMax(last));
}

// A short row was summed without trees: its largest term can be subtracted as it was added.
template <class V, class Shift>
inline Pair<Wide<V>> WithoutLargestOfShort(const Pair<Wide<V>>& sum, size_t n, V max, const Shift& shift) {
  const Wide<V> unscale = Const(ExpConstants<typename V::Scalar>::kUnscale), zero = Const(0);
  const auto largest = ExpTermsOf(max, shift);
  const Wide<V> top = Promote(largest.Value()) * unscale;
  const Wide<V> lost = n < kTiny ? Promote(largest.Error()) * unscale : zero;
  if constexpr (!kNeedsLow<typename V::Scalar>) return {(sum.hi - top) - lost, zero};
  Wide<V> error;
  const Wide<V> hi = TwoSum(sum.hi, zero - top, &error);
  return Normalize(Pair<Wide<V>>{hi, (sum.lo + error) - lost});
}

template <class Src, class Shift>
BOLTZMAX_RARE inline Sum SumRest(const Src& x, size_t n, typename Src::V max, const Shift& shift) {
  using V = typename Src::V;
  using C = ExpConstants<typename Src::T>;
  const Sum sum = SumOver<V>(n, [&](size_t i, auto lanes) {
    const auto v = x(i, lanes);
    return IfThenElse(Eq(v, decltype(v)(max)), Set<V>(0), ScaledExp(v, shift));
  });
  return {sum.hi * C::kUnscale, sum.lo * C::kUnscale};
}

template <class Src>
BOLTZMAX_KERNEL inline Sum ReduceRest(const Src& x, size_t n, RowTemperature temperature, const RowSum& row) {
  using V = typename Src::V;
  using T = typename Src::T;
  const V max = Set<V>(static_cast<T>(row.max));
  const typename Src::Shift shift(row, MakeTemperature<V>(temperature));
  const auto choose = [&](const Pair<Wide<V>>& rest) -> Sum {
    const Sum sum = {FirstLane(rest.hi.part[0]), FirstLane(rest.lo.part[0])};
    return sum.hi > kTinyRest<T> * row.top ? sum : SumRest(x, n, max, shift);
  };
  const Pair<Wide<V>> whole = {Const(row.hi), Const(row.lo)};
  if (n <= kShort) return choose(WithoutLargestOfShort(whole, n, max, shift));
  const size_t at = FindLast(x, n, max);
  const size_t slot = at % (4 * V::kLanes) / V::kLanes, first = at - slot * V::kLanes;
  Block<V, 4> v = Set<V>(Src::kLowest);
  for (size_t u = 0; u < 4 && first + u * V::kLanes < n; ++u) {
    v.part[u] = Set<V>(FirstLane(x(first + u * V::kLanes, Partial<1>{1}).part[0]));
  }
  return choose(WithoutLargest(whole, v, Set<V>(static_cast<T>(slot)), shift));
}

inline SumOfExp<F64> Broadcast(const RowSum& sum) {
  return {Const(sum.max), Const(sum.offset), Const(sum.exponent), Const(sum.top), Const(sum.hi), Const(sum.lo)};
}
inline Sum OfFirstLane(const Pair<F64>& pair) { return {FirstLane(pair.hi), FirstLane(pair.lo)}; }

// log(sum exp(x/T)) - offset/T
template <class T>
inline Sum LogOfSum(const RowSum& sum) {
  return OfFirstLane(Join<T>(LogPartsOfSum<T>(Broadcast(sum))));
}
template <class T>
inline Sum LogOfPeakedSum(const RowSum& sum, const Sum& rest) {
  return OfFirstLane(Join<T>(LogPartsOfPeakedSum<T>(Broadcast(sum), {Const(rest.hi), Const(rest.lo)})));
}
template <class Src>
inline Sum LogSum(const Src& x, size_t n, RowTemperature temperature, const RowSum& sum) {
  if (IsDegenerate(sum)) return {0.0, 0.0};
  using T = typename Src::T;
  if (IsPeaked(sum, kPeakedHere)) return LogOfPeakedSum<T>(sum, ReduceRest(x, n, temperature, sum));
  return LogOfSum<T>(sum);
}

}  // namespace
}  // namespace boltzmax::kernels
