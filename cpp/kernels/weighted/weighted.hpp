// Sums of weighted exponentials, sum_j b_j exp(x_j), and of the sizes of their terms, which tell how many digits are
// left where weights of both signs cancel.
#pragma once

#include "../rows/reduce.hpp"
#include "../weighted_types.hpp"

namespace boltzmax::kernels {
namespace {

template <class V, size_t U>
inline V SumOfSizes(const Block<V, U>& terms) {
  V sizes = Abs(terms.part[0]);
  BOLTZMAX_UNROLL
  for (size_t u = 1; u < U; ++u) sizes = sizes + Abs(terms.part[u]);
  return sizes;
}

// The maximum of m and of the sizes in a block.
template <class V, size_t U>
inline V MaxOfSizes(const Block<V, U>& block, V m) {
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) m = Max(Abs(block.part[u]), m);
  return m;
}

template <class V>
struct SignedSum {
  WideSum<V> sum;
  V size = Set<V>(0);

  template <size_t U>
  void Add(const Block<V, U>& terms) {
    AddTrees(&sum, terms);
    size = size + SumOfSizes(terms);
  }

  // Without trees: their rounding would keep equal and opposite terms from cancelling exactly.
  template <size_t U>
  void AddSingly(const Block<V, U>& terms) {
    AddEach(&sum, terms);
    size = size + SumOfSizes(terms);
  }

  double Size() const {
    const V none = Set<V>(0), sizes[4] = {size, none, none, none};
    typename V::Scalar totals[4];
    ReduceAdd4(sizes, totals);
    return static_cast<double>(totals[0]);
  }
};

// A bound of what n terms with weights of at most this size may have lost: exponentials below 2^-190 for floats. For
// doubles they would be below 2^-1150 (see ExpConstants::kFloor), but subnormal numbers are slow to compute with.
template <class T>
inline double SizeOfVanished(size_t n, T weight) {
  constexpr double kLeast = sizeof(T) == sizeof(float) ? 0x1p-188 : 0x1p-900;
  return static_cast<double>(n) * (static_cast<double>(weight) * kLeast);
}

template <class Shift>
inline WeightedSum MakeWeightedSum(const Shift& shift, const Sum& sum, double size, double lost) {
  constexpr double kUnscale = Shift::C::kUnscale;
  return {static_cast<double>(FirstLane(shift.offset)),
          static_cast<double>(FirstLane(shift.exponent)),
          sum.hi * kUnscale,
          sum.lo * kUnscale,
          size * kUnscale,
          lost};
}

// Adds up the terms of a row, in vectors V, in one pass if the first elements give a good guess of the maximum, as in
// ReduceRow. add(shift, total, running) adds them to a new Total, and raises `running` to the maximum of the row.
template <class V, bool kCoarse, class Total, class T, class Add>
inline WeightedSum SumOfRow(const T* x, size_t n, Add add) {
  using C = ExpConstants<T>;
  using Shift = ExpShift<V, false, ReductionOf<V, kCoarse>>;
  const Source<T> source = {x, nullptr};
  const auto shift_at = [](T max) {
    return Shift(Set<V>(static_cast<typename V::Scalar>(max)), MakeTemperature<V>(1.0));
  };
  const auto is_direct = [](T v) { return v <= C::kDirectLimit && v >= -C::kDirectLimit; };
  Vec<T> running = Set<Vec<T>>(Source<T>::kLowest);
  const T guess = GuessMax(source, n);
  if (is_direct(guess)) {
    const Shift shift = shift_at(guess);
    Total total;
    add(DirectShift(shift), total, running);
    const T max = ReduceMax(running);
    if (max - guess <= C::kHeadroom && is_direct(max)) return total.Of(shift, n);
  }
  const T max = MaxOver<Vec<T>>(n, source);
  if (!IsFinite(static_cast<double>(max))) return {0.0, 0.0, 0.0, 0.0, __builtin_nan(""), 0.0};
  const Shift shift = shift_at(max);
  Total total;
  add(shift, total, running);
  return total.Of(shift, n);
}

// A SignedSum, and the largest size of a weight.
template <class V>
struct WeightedTotal {
  SignedSum<V> sum;
  V weights = Set<V>(0);

  template <class Shift>
  WeightedSum Of(const Shift& shift, size_t n) const {
    return MakeWeightedSum(shift, sum.sum.Total(), sum.Size(), SizeOfVanished(n, ReduceMax(weights)));
  }
};

template <class T>
BOLTZMAX_KERNEL inline WeightedSum SumWeighted(const T* x, const T* b, size_t n) {
  using V = Vec<T>;
  const Source<T> source = {x, nullptr};
  return SumOfRow<V, false, WeightedTotal<V>>(x, n, [&](const auto& shift, WeightedTotal<V>& total, V& running) {
    ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
      const auto v = source(i, lanes);
      running = MaxOf(v, running);
      const auto w = LoadLanes<V>(b + i, lanes, T(0));
      total.weights = MaxOfSizes(w, total.weights);
      total.sum.Add(w * ScaledExp(v, shift));
    });
  });
}

// ---- the same for floats, in double, with terms that have no more digits than floats need where weights cancel ----

// U vectors of doubles from floats.
template <size_t U>
inline Block<F64, U> LoadPromotedLanes(const float* p) {
  Block<F64, U> b;
  BOLTZMAX_UNROLL
  for (size_t u = 0; u < U; ++u) b.part[u] = LoadPromoted(p + u * F64::kLanes);
  return b;
}

struct CoarseTotal {
  static constexpr size_t kVectors = 4;
  Block<F64, kVectors> sum = Const(0), size = Const(0);

  void Add(const Block<F64, kVectors>& e, const Block<F64, kVectors>& w) {
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < kVectors; ++u) {
      sum.part[u] = MulAdd(w.part[u], e.part[u], sum.part[u]);
      size.part[u] = MulAdd(Abs(w.part[u]), e.part[u], size.part[u]);
    }
  }
  template <class Shift>
  WeightedSum Of(const Shift& shift, size_t n) const {
    const auto folded = [](const Block<F64, kVectors>& b) { return (b.part[0] + b.part[1]) + (b.part[2] + b.part[3]); };
    const F64 none = Const(0), sums[4] = {folded(sum), folded(size), none, none};
    double totals[4];
    ReduceAdd4(sums, totals);
    constexpr double kMostWeight = ExpConstants<float>::kHuge;
    return MakeWeightedSum(shift, Sum{totals[0], 0.0}, totals[1], SizeOfVanished(n, kMostWeight));
  }
};

BOLTZMAX_KERNEL inline WeightedSum SumWeightedCoarsely(const float* x, const float* b, size_t n) {
  constexpr size_t kStep = CoarseTotal::kVectors * F64::kLanes, kFloats = kStep / F32::kLanes;
  return SumOfRow<F64, true, CoarseTotal>(x, n, [&](const auto& shift, CoarseTotal& total, F32& running) {
    const auto add = [&](const float* p, const float* q) {
      running = MaxOf(LoadLanes<F32>(p, Whole<kFloats>{}, 0.0f), running);
      total.Add(ScaledExp(LoadPromotedLanes<CoarseTotal::kVectors>(p), shift),
                LoadPromotedLanes<CoarseTotal::kVectors>(q));
    };
    size_t i = 0;
    for (; i + kStep <= n; i += kStep) add(x + i, b + i);
    if (i == n) return;
    alignas(64) float last_x[kStep], last_b[kStep];
    const Partial<kFloats> rest = {n - i};
    StoreLanes(last_x, LoadLanes<F32>(x + i, rest, Source<float>::kLowest), Whole<kFloats>{});
    StoreLanes(last_b, LoadLanes<F32>(b + i, rest, 0.0f), Whole<kFloats>{});
    add(last_x, last_b);
  });
}

// ---- the same with terms in pairs of doubles ----

// a + b and its rounding error, where |a| >= |b| (Dekker).
template <class D>
inline Pair<D> FastTwoSum(const D& a, const D& b) {
  const D sum = a + b;
  return {sum, b - (sum - a)};
}

// a * b and its rounding error.
template <class D>
inline Pair<D> TwoProduct(const D& a, const D& b) {
  const D product = a * b;
  return {product, Const(0) - Remainder(product, a, b)};
}

// The rest of ln(2) beyond ExpReduction's kStepHi and kStepLo: together 160 bits.
template <int kNodes>
inline constexpr double kStepLeast = 0;
template <>
inline constexpr double kStepLeast<1> = 0x1.cc01f97b57a08p-87;
template <>
inline constexpr double kStepLeast<8> = -0x1.9ff0342542fc3p-90;

template <class D>
inline Pair<D> Product(const Pair<D>& a, const Pair<D>& b) {
  const Pair<D> high = TwoProduct(a.hi, b.hi);
  return FastTwoSum(high.hi, high.lo + MulAdd(a.hi, b.lo, a.lo * b.hi));
}

// a + b, where |a.hi| >= |b.hi|.
template <class D>
inline Pair<D> AddSmaller(const Pair<D>& a, const Pair<D>& b) {
  const Pair<D> high = FastTwoSum(a.hi, b.hi);
  return FastTwoSum(high.hi, high.lo + (a.lo + b.lo));
}

// exp(r) - 1 = r + r^2 / 2 + r^3 q(r). Max error 2^-67, or 2^-95 if careful, valid for |r| <= ln(2) / 16 = 0.0433. With
// q in double, the last summand, at most 1.4e-5, is rounded three times. The careful variant takes the first
// coefficients, up to r^9 / 9!, in pairs.
template <bool kCareful, class D>
inline Pair<D> Expm1OfPair(const Pair<D>& r) {
  constexpr double kPoly[] = {1.0 / 87178291200, 1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800,
                              1.0 / 3628800,     1.0 / 362880,     1.0 / 40320,     1.0 / 5040,
                              1.0 / 720,         1.0 / 120,        1.0 / 24,        1.0 / 6};
  // The rounding errors of the last seven of these.
  constexpr double kLow[] = {-0x1.c154f8ddc6c00p-73, 0x1.a01a01a01a01ap-76, 0x1.a01a01a01a01ap-73,
                             -0x1.f49f49f49f49fp-65, 0x1.1111111111111p-63, 0x1.5555555555555p-59,
                             0x1.5555555555555p-57};
  constexpr size_t kTerms = sizeof(kPoly) / sizeof(kPoly[0]), kPairs = sizeof(kLow) / sizeof(kLow[0]);
  const D half = Const(0.5);
  const Pair<D> square = Product(r, r), halved = {square.hi * half, square.lo * half};
  constexpr size_t kFirst = kCareful ? 0 : 4, kDoubles = kCareful ? kTerms - kPairs : kTerms;
  D p = Const(kPoly[kFirst]);
  BOLTZMAX_UNROLL
  for (size_t i = kFirst + 1; i < kDoubles; ++i) p = MulAdd(p, r.hi, Const(kPoly[i]));
  Pair<D> q = {p, Const(0)};
  if constexpr (kCareful) {
    BOLTZMAX_UNROLL
    for (size_t i = 0; i < kPairs; ++i) {
      q = AddSmaller(Pair<D>{Const(kPoly[kDoubles + i]), Const(kLow[i])}, Product(q, r));
    }
    return AddSmaller(r, AddSmaller(halved, Product(Product(square, r), q)));
  }
  const Pair<D> two = FastTwoSum(r.hi, halved.hi), three = FastTwoSum(two.hi, r.hi * square.hi * p);
  return {three.hi, (three.lo + two.lo) + (r.lo + halved.lo)};
}

// (1 + s)^2 - 1
template <class D>
inline Pair<D> SquareLessOne(const Pair<D>& s) {
  const Pair<D> square = TwoProduct(s.hi, s.hi);
  const D twice = s.hi + s.hi;
  const Pair<D> sum = FastTwoSum(twice, square.hi);
  return {sum.hi, sum.lo + (square.lo + MulAdd(twice, s.lo, s.lo + s.lo))};
}

// 2^kScale exp(x - offset) 2^-K as hi + lo. Max error 2^-63, or 2^-91 if careful, relatively. Without a table of
// powers, exp(r / 8) is computed and squared three times, which multiplies its error by eight.
template <bool kCareful, class B, class Shift>
inline Pair<B> PairTermsOf(const B& x, const Shift& shift) {
  using V = typename Shift::Vector;
  using R = typename Shift::Reduction;
  const ExpArgument<B, Shift> argument(x, shift);
  const B& k = argument.k;
  const B high = NegMulAdd(k, B(Set<V>(R::kStepHi)), argument.a);  // exact
  const Pair<B> low = TwoProduct(k, B(Set<V>(R::kStepLo)));
  Pair<B> r;
  r.hi = TwoSum(high, B(Const(0)) - low.hi, &r.lo);
  r.lo = NegMulAdd(k, B(Set<V>(kStepLeast<V::kNodes>)), r.lo - low.lo);
  const auto times = [](const B& power, const Pair<B>& s) -> Pair<B> {  // power (1 + s)
    const Pair<B> product = TwoProduct(power, s.hi), sum = FastTwoSum(power, product.hi);
    return {sum.hi, sum.lo + MulAdd(power, s.lo, product.lo)};
  };
  if constexpr (kScales<V>) {
    const Pair<B> s = Expm1OfPair<kCareful>(r), e = times(NodePower(argument.t), s);
    const B rest = NodeRest(argument.t), power = shift.PowerOf(k);
    const auto counts = argument.Counts(shift);
    return {ScaleIf(counts, e.hi, power), ScaleIf(counts, e.lo + MulAdd(rest, s.hi, rest), power)};
  } else {
    const B eighth = Const(0.125);
    Pair<B> s = Expm1OfPair<kCareful>(Pair<B>{r.hi * eighth, r.lo * eighth});
    BOLTZMAX_UNROLL
    for (int i = 0; i < 3; ++i) s = SquareLessOne(s);
    return times(Pow2(argument.t), s);
  }
}

inline double MaxOfDoubles(const double* x, size_t n) { return MaxOver<Vec<double>>(n, Source<double>{x, nullptr}); }

template <bool kCareful>
BOLTZMAX_KERNEL inline WeightedSum SumWeightedPairs(const double* x, const double* b, size_t n, double max) {
  using V = Vec<double>;
  const Source<double> source = {x, nullptr};
  const ExpShift<V, false> shift(Set<V>(max), MakeTemperature<V>(1.0));
  SignedSum<V> total;
  V weights = Set<V>(0);
  ForEachBlock<V, 2>(n, [&](size_t i, auto lanes) {
    const auto e = PairTermsOf<kCareful>(source(i, lanes), shift);
    const auto w = LoadLanes<V>(b + i, lanes, 0.0);
    weights = MaxOfSizes(w, weights);
    const auto term = TwoProduct(e.hi, w);
    const auto low = MulAdd(e.lo, w, term.lo);
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < lanes.kVectors; ++u) {
      total.sum.Add(term.hi.part[u]);
      total.sum.sum.lo = total.sum.sum.lo + low.part[u];
      total.size = total.size + Abs(term.hi.part[u]);
    }
  });
  return MakeWeightedSum(shift, total.sum.Total(), total.Size(), SizeOfVanished(n, ReduceMax(weights)));
}

}  // namespace
}  // namespace boltzmax::kernels
