// The thresholds of sparse maps. With b = alpha - 1 and s = b (x - max x) / T, alpha-entmax is
//
//     p = max(0, s - t)^(1/b),   where the threshold t, from -1 to 0, makes the sum of p one
//
// (Peters, Niculae & Martins, ACL 2019): sparsemax for b = 1, entmax15 for b = 1/2. The threshold of some elements of a
// row is at most that of the whole row, since every element adds to the sum. So it bounds the support from below.
//
// For b <= 1, Newton's method runs on q = (-t)^(1/b), the probability of the largest element. Each p is a convex
// function of q, linear for the largest elements (and for all, as b -> 0), so steps from above never pass the root, and
// equal elements need only one. A few steps already give a bound.
#pragma once

#include "../rows/softmax.hpp"
#include "power.hpp"
#include "square_root.hpp"

namespace boltzmax::kernels {
namespace {

// More steps than any row takes; a limit only for safety.
inline constexpr int kMostSteps = 200;

// Elements of a row, and -inf beyond its end.
template <class V, class T, class Lanes>
inline auto LoadUpTo(const T* x, Lanes lanes) {
  return LoadLanes<V>(x, lanes, -static_cast<T>(__builtin_inff()));
}

// The vectors of a row that go through a step in double together: a power is a long chain of dependent instructions.
template <class V>
inline constexpr size_t kTogether = 4 / kWide<V>;

// A threshold in units of x, less a margin for rounding. It is finite, so that nothing at -inf is above it: neither
// masked elements nor what is beyond the end of a row.
template <class V>
inline V BoundOf(double max, double distance) {
  using T = typename V::Scalar;
  constexpr double kLowest = sizeof(T) == sizeof(float) ? -0x1.fffffep127 : -0x1.fffffffffffffp1023;
  const double size = max < 0 ? -max : max, bound = max - (distance * (1 + 0x1p-18) + size * 0x1p-20);
  return Set<V>(static_cast<T>(bound > kLowest ? bound : kLowest));
}

// max - x; 0 beyond the end of a row.
template <class V, class T, size_t U>
inline Block<V, U> DistancesBelow(const T* x, Whole<U> lanes, V max) {
  return Block<V, U>(max) - LoadLanes<V>(x, lanes, T(0));
}
template <class V, class T, size_t U>
inline Block<V, U> DistancesBelow(const T* x, Partial<U> lanes, V max) {
  return Block<V, U>(max) - LoadLanes<V>(x, lanes, FirstLane(max));
}

// ---- sparsemax and entmax15 ----

// b (x - max) / T, clipped below -4, so that the low half of b / T cannot turn -inf into NaN.
template <class V, bool kSquare>
struct Distances {
  using T = typename V::Scalar;
  V max, floor, hi, lo;

  Distances(V row_max, const Temperature<V>& t) : max(row_max) {
    const V b = Set<V>(kSquare ? T(0.5) : T(1));
    floor = t.value * Set<V>(kSquare ? T(-8) : T(-4));
    hi = t.inverse_hi * b;
    lo = t.inverse_lo * b;
  }
  template <class B>
  B Shifted(const B& x) const {
    return Max(B(floor), x - B(max));
  }
};

// The threshold of a row: p = r (sparsemax) or r^2 (entmax15) with r = max(0, s - t). It has twice the digits of V, so
// that many elements near it add up to the right sum.
template <class V, bool kSquare>
class PowerThreshold {
 public:
  using T = typename V::Scalar;

  PowerThreshold(double, double temperature, T max)
      : max_(static_cast<double>(max)),
        temperature_(temperature),
        distances_(Set<V>(max), MakeTemperature<V>(temperature)) {
    Split();
  }

  // Steps on n elements, until the threshold no longer moves.
  BOLTZMAX_KERNEL void Solve(const T* x, size_t n, int most = kMostSteps) {
    // A step of entmax15 doubles the correct digits.
    constexpr double kEnough =
        kSquare ? (sizeof(T) == sizeof(float) ? 0x1p-16 : 0x1p-30) : (sizeof(T) == sizeof(float) ? 0x1p-25 : 0x1p-54);
    for (int step = 0; step < most; ++step) {
      WideSum<V> sum, slopes;
      ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
        const auto r = Root(LoadUpTo<V>(x + i, lanes));
        using B = decltype(r);
        if constexpr (kSquare) {
          AddTrees(&sum, r * r);
          AddTrees(&slopes, r);
        } else {
          AddTrees(&sum, r);
          AddTrees(&slopes, IfThenElse(Lt(B(Set<V>(T(0))), r), B(Set<V>(T(1))), B(Set<V>(T(0)))));
        }
      });
      const Sum total = sum.Total();
      const double size = -t_.hi, relative = ((total.hi - 1.0) + total.lo) / (slopes.Total().hi * size);
      double moved = size * relative;
      if constexpr (kSquare) moved = moved / (1.0 + FirstLane(Sqrt(Const(1.0 - relative))));
      t_ = Normalize(Pair<double>{t_.hi, t_.lo + moved});
      Split();
      if (!(moved > kEnough * size)) return;
    }
  }

  // Where all n elements are in the support, the threshold follows from the sums of d = x - max and of its squares: with
  // c = b / T,
  //
  //     c sum(d) - n t = 1   (sparsemax),    c^2 sum(d^2) - 2 c sum(d) t + n t^2 = 1   (entmax15)
  //
  // Returns whether it is known now.
  BOLTZMAX_KERNEL bool SolveWhole(const T* x, size_t n) {
    WideSum<V> sums, squares;
    V largest = Set<V>(0);  // of -d
    ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
      const auto minus_d = DistancesBelow<V>(x + i, lanes, distances_.max);
      largest = MaxOf(minus_d, largest);
      const auto wide = InDouble(minus_d);
      AddWide(&sums, wide);
      if constexpr (kSquare) AddWide(&squares, wide * wide);
    });
    const double c = (kSquare ? 0.5 : 1.0) / temperature_, count = static_cast<double>(n), sum = c * sums.Total().hi;
    double size;  // -t
    if constexpr (kSquare) {
      const double rest = 1.0 - c * c * squares.Total().hi;
      const double root = FirstLane(Sqrt(Const(sum * sum + count * rest)));
      size = (sum + root) / count;
    } else {
      size = (1.0 + sum) / count;
    }
    if (!(c * static_cast<double>(ReduceMax(largest)) < size)) return false;
    t_ = {-size, 0.0};
    Split();
    return sizeof(T) == sizeof(float);  // doubles want a step of Newton's method
  }

  bool IsNan() const { return t_.hi != t_.hi; }

  // A bound in units of x: all elements of the support are above it.
  V Bound() const { return BoundOf<V>(max_, -t_.hi * temperature_ * (kSquare ? 2.0 : 1.0)); }

  template <class B>
  B operator()(const B& x) const {
    const B r = Root(x);
    if constexpr (kSquare) return r * r;
    return r;
  }

 private:
  template <class B>
  B Root(const B& x) const {
    const B d = distances_.Shifted(x);
    const B r = MulAdd(d, B(distances_.hi), B(minus_hi_)) + MulAdd(d, B(distances_.lo), B(minus_lo_));
    return Max(B(Set<V>(T(0))), r);
  }
  void Split() {
    const T hi = static_cast<T>(t_.hi);
    minus_hi_ = Set<V>(-hi);
    minus_lo_ = Set<V>(-static_cast<T>((t_.hi - static_cast<double>(hi)) + t_.lo));
  }

  double max_, temperature_;
  Distances<V, kSquare> distances_;
  Pair<double> t_ = {-1.0, 0.0};
  V minus_hi_, minus_lo_;
};

// ---- any alpha from 1 to 2 ----

// p = q ratio with ratio = (1 + u)^(1/b) and u = s / q^b, in double precision; D is a vector or a block of doubles,
// with the parameters of a row in all lanes, or of a row in each.
template <class T, class D>
struct EntmaxRatio {
  D max, floor, inverse_b, scale;
  Exponential exp;

  // The ratio, and the slope (1 + u)^(1/b - 1) of p as a function of q.
  template <class B>
  B operator()(const B& x, B* slope) const {
    // Clipped, so that 0 * inf does not occur.
    const B u = Max(B(floor), x - B(max)) * B(scale);
    const B one = Const(1), zero = Const(0), w = one + u;
    const auto outside = Lt(w, B(Const(0x1p-100)));
    const B ratio = exp(LogOf<T>(w, u) * B(inverse_b)) + (w - w);  // NaN, if w is NaN
    *slope = IfThenElse(outside, zero, Quotient<T>(ratio, w));
    return IfThenElse(outside, zero, ratio);
  }
};

// p for rows of nearly equal numbers: with z = (x - max) / (T q^b), a few terms of the series
//
//     p / q = (1 + b z)^(1/b) = 1 + sum_k a_k z^k,   a_1 = 1,   a_{k+1} = a_k (1 - k b) / (k + 1)
//
// are enough for |z| <= kMostDistance; what is left out is below 2^-30 (float) or 2^-58 (double).
template <class V>
struct EntmaxSeries {
  using T = typename V::Scalar;
  static constexpr size_t kTerms = 4;
  static constexpr double kMostDistance = sizeof(T) == sizeof(float) ? 0x1p-5 : 0x1p-11;
  double a[kTerms];
  V max, gain;  // z = gain (x - max)
  V q_hi, q_lo;

  explicit EntmaxSeries(double b) : a{1.0} {
    for (size_t k = 1; k < kTerms; ++k)
      a[k] = a[k - 1] * (1.0 - static_cast<double>(k) * b) / static_cast<double>(k + 1);
  }

  template <class B>
  B operator()(const B& x) const {
    const B z = (x - B(max)) * B(gain);
    B sum = Set<V>(static_cast<T>(a[kTerms - 1]));
    BOLTZMAX_UNROLL
    for (size_t k = kTerms - 1; k > 0; --k) sum = MulAdd(sum, z, B(Set<V>(static_cast<T>(a[k - 1]))));
    return B(q_hi) + MulAdd(sum * z, B(q_hi), B(q_lo));
  }
};

template <class V>
class EntmaxThreshold {
 public:
  using T = typename V::Scalar;

  EntmaxThreshold(double alpha, double temperature, T max)
      : b_(alpha - 1.0), temperature_(temperature), max_(static_cast<double>(max)), series_(alpha - 1.0) {
    Scale();
  }

  BOLTZMAX_KERNEL void Solve(const T* x, size_t n, int most = kMostSteps) {
    constexpr double kEnough = sizeof(T) == sizeof(float) ? 0x1p-20 : 0x1p-30;
    for (int step = 0; step < most; ++step) {
      WideSum<V> sum, slopes;
      ForEachBlock<V, kTogether<V>>(n, [&](size_t i, auto lanes) {
        WideBlock<V, lanes.kVectors> slope;
        AddWide(&sum, ratio_(InDouble(LoadUpTo<V>(x + i, lanes)), &slope));
        AddWide(&slopes, slope);
      });
      const Sum total = sum.Total();
      const double moved = ((total.hi - 1.0 / q_) + total.lo) / slopes.Total().hi;
      q_ -= q_ * moved;
      Scale();
      if (!(moved > kEnough)) return;
    }
  }

  // Where all n elements are nearly equal, the sum of p follows from the power sums of z. Returns whether q is known now.
  //
  // q is at least 1 / n, so that z with n^b in place of q^-b is not smaller. With h = n q, and m_k the means of its powers,
  // h (1 + sum_k a_k m_k h^(-k b)) = 1.
  BOLTZMAX_KERNEL bool SolveWhole(const T* x, size_t n) {
    constexpr size_t kTerms = EntmaxSeries<V>::kTerms;
    const double count = static_cast<double>(n), gain = ExpOf(b_ * LogOf(count)) / temperature_;
    const V max = Set<V>(static_cast<T>(max_)), scale = Set<V>(static_cast<T>(gain));
    WideSum<V> sums[kTerms];
    V largest = Set<V>(0);  // of -z
    ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
      const auto z = DistancesBelow<V>(x + i, lanes, max) * scale;
      auto power = z;
      largest = MaxOf(z, largest);
      BOLTZMAX_UNROLL
      for (size_t k = 0; k < kTerms; ++k) {
        AddTrees(&sums[k], power);
        power = power * z;
      }
    });
    if (!(static_cast<double>(ReduceMax(largest)) <= EntmaxSeries<V>::kMostDistance)) return false;
    double terms[kTerms];
    for (size_t k = 0; k < kTerms; ++k)
      terms[k] = (k % 2 == 0 ? -1.0 : 1.0) * series_.a[k] * sums[k].Total().hi / count;
    double h = 1.0, ratio = 1.0;  // h^-b
    for (int step = 0; step < 6; ++step) {
      double sum = 1.0, slope = 1.0, power = 1.0;
      for (size_t k = 0; k < kTerms; ++k) {
        power *= ratio;
        sum += terms[k] * power;
        slope += terms[k] * power * (1.0 - static_cast<double>(k + 1) * b_);
      }
      h -= (h * sum - 1.0) / slope;
      ratio = ExpOf(-b_ * LogOf(h));
    }
    if (!(h < 2.0)) return false;
    q_ = h / count;
    series_.max = max;
    series_.gain = Set<V>(static_cast<T>(gain * ratio));
    series_.q_hi = Set<V>(static_cast<T>(q_));
    series_.q_lo = Set<V>(static_cast<T>(q_ - static_cast<double>(FirstLane(series_.q_hi))));
    is_series_ = true;
    return true;
  }

  bool IsNan() const { return q_ != q_; }
  V Bound() const { return BoundOf<V>(max_, 1.0 / scale_); }

  template <size_t U>
  Block<V, U> operator()(const Block<V, U>& x) const {
    if (is_series_) return series_(x);
    WideBlock<V, U> slope;
    return Rounded<V>(ratio_(InDouble(x), &slope) * WideBlock<V, U>(Const(q_)));
  }

 private:
  void Scale() {
    scale_ = b_ / temperature_ * ExpOf(-b_ * LogOf(q_));
    ratio_ = {Const(max_), Const(-8.0 * temperature_ / b_), Const(1.0 / b_), Const(scale_), {}};
  }

  double b_, temperature_, max_, q_ = 1.0, scale_;
  EntmaxRatio<T, F64> ratio_;
  EntmaxSeries<V> series_;
  bool is_series_ = false;
};

}  // namespace
}  // namespace boltzmax::kernels
