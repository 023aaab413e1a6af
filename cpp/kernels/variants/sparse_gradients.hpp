// Gradients of sparse maps, from the gradient dy of the result y. With s = y^(2 - alpha) on the support and 0
// elsewhere,
//
//     dx = s (dy - sum(s dy) / sum(s))
//
// (Peters, Niculae & Martins, ACL 2019, proposition 2). For sparsemax s is 1 on the support, for entmax15 sqrt(y).
#pragma once

#include "../panels/transposed.hpp"
#include "power.hpp"
#include "row_call.hpp"
#include "square_root.hpp"

namespace boltzmax::kernels {
namespace {

// s for a block or a vector of y; NaN stays NaN.
struct SparsemaxSlope {
  template <class B>
  B operator()(const B& y) const {
    using T = typename B::Scalar;
    return IfThenElse(Lt(B(Set<Vec<T>>(T(0))), y), B(Set<Vec<T>>(T(1))), y);
  }
};
struct Entmax15Slope {
  template <class B>
  B operator()(const B& y) const {
    return Sqrt(y);
  }
};

// y^e for the e of a row, or of each lane's row. Where a steep power would overflow, it is exp(600), or exp(60) for
// floats.
template <class T, class D>
struct EntmaxSlope {
  D exponent;
  Exponential exp;

  D Power(const D& y, const D& log_y) const {
    const D zero = Const(0), most = Const(sizeof(T) == sizeof(float) ? 60 : 600);
    const D v = zero - Max(zero - most, zero - log_y * exponent);
    return IfThenElse(Lt(zero, y), exp(v), y);
  }
  D operator()(const D& y) const { return Power(y, LogOf<T>(Max(Smallest(), y))); }
  // Logarithms are of normal numbers.
  static D Smallest() { return Const(0x1p-1022); }
};

// The weighted mean of dy; 0 where nothing has a weight.
template <class D>
inline D MeanOf(const D& products, const D& weights) {
  const D zero = Const(0);
  return IfThenElse(Eq(weights, zero), zero, products / weights);
}

// dy where s is not 0: elsewhere the result does not depend on it, and it may be infinite.
template <class B>
inline B WhereSupported(const B& s, const B& dy) {
  const B zero = Set<Vec<typename B::Scalar>>(0);
  return IfThenElse(Eq(s, zero), zero, dy);
}

// dy at the element with the largest s. The gradient does not change if a constant is subtracted from dy; without this
// one, an s that outweighs all others would be multiplied by a difference that has no digits left.
template <class S, class Slope>
inline Compute<S> GradientAtLargest(const RowOf<S>& row, Slope slope) {
  using V = VecOf<S>;
  using T = Compute<S>;
  const auto s = [&](size_t i, auto lanes) { return slope(LoadLanes<V>(row.other + i, lanes, T(0))); };
  const T largest = MaxOver<V>(row.n, s);
  if (!(largest > 0)) return T(0);
  for (size_t i = 0; i < row.n; i += V::kLanes) {
    T lanes[V::kLanes];
    const size_t n = row.n - i < V::kLanes ? row.n - i : V::kLanes;
    Store(lanes, s(i, Partial<1>{n}).part[0]);
    for (size_t j = 0; j < n; ++j) {
      if (lanes[j] == largest) return FirstLane(LoadN(row.x.x + i + j, 1, T(0)));
    }
  }
  return T(0);
}

// Rows longer than kInOrder: slope(block of y) gives a block of s. `is_steep` if the largest s may outweigh the others.
template <class S, class Slope>
inline void SparseGradientRow(const RowOf<S>& row, Slope slope, bool is_steep) {
  using V = VecOf<S>;
  using T = Compute<S>;
  const S *dy = row.x.x, *y = row.other;
  const T at_largest = is_steep ? GradientAtLargest(row, slope) : T(0);
  const V origin = Set<V>(at_largest - at_largest == T(0) ? at_largest : T(0));
  WideSum<V> products, weights;
  const auto both = [&](size_t i, auto lanes, auto f) {
    const auto p = LoadLanes<V>(y + i, lanes, T(0));
    using B = decltype(p);
    // Most of the row is zeros.
    if (!Any(Eq(IfThenElse(Eq(p, B(Set<V>(T(0)))), B(Set<V>(T(0))), B(Set<V>(T(1)))), B(Set<V>(T(1)))))) return;
    const auto s = slope(p);
    f(s, WhereSupported(s, LoadLanes<V>(dy + i, lanes, T(0)) - B(origin)));
  };
  ForEachBlock<V, 4>(row.n, [&](size_t i, auto lanes) {
    both(i, lanes, [&](const auto& s, const auto& g) {
      AddTrees(&products, s * g);
      AddTrees(&weights, s);
    });
  });
  const V mean = Set<V>(static_cast<T>(FirstLane(MeanOf(Const(products.Total().hi), Const(weights.Total().hi)))));
  const V nothing = Set<V>(static_cast<T>(0.0 * weights.Total().hi));  // NaN if y has NaN, as for softmax
  ForEachBlock<V, 4>(row.n, [&]<class Lanes>(size_t i, Lanes lanes) {
    using B = Block<V, Lanes::kVectors>;
    B dx = nothing;
    both(i, lanes,
         [&](const auto& s, const auto& g) { dx = IfThenElse(Eq(s, B(Set<V>(T(0)))), B(nothing), s * (g - B(mean))); });
    StoreLanes(row.y + i, dx, lanes);
  });
}

// A panel of dy, and one of y: a lane is a row. In double precision, since dy - mean is small where one probability is
// nearly one.
template <class S, class Slope>
inline void SparseGradientPanel(const Panel<S>& dy, const Panel<S>& y, Slope slope) {
  using V = VecOf<S>;
  using T = Compute<S>;
  using D = Wide<V>;
  Columns<T> g, s;
  LoadTransposed(dy, g.at);
  LoadTransposed(y, s.at);
  const V zero = Set<V>(0);
  V largest = zero, origin = zero;  // see GradientAtLargest
  for (size_t at = 0; at < dy.n * V::kLanes; at += V::kLanes) {
    const V weight = slope(Load(s.at + at)), gradient = WhereSupported(weight, Load(g.at + at));
    Store(s.at + at, weight);
    Store(g.at + at, gradient);
    origin = IfThenElse(Lt(largest, weight), gradient, origin);
    largest = Max(weight, largest);
  }
  origin = IfThenElse(Eq(origin - origin, zero), origin, zero);
  D products = Const(0), weights = Const(0);
  const auto distance = [&](size_t at) {
    return WhereSupported(D(Promote(Load(s.at + at))), D(Promote(Load(g.at + at)) - Promote(origin)));
  };
  for (size_t at = 0; at < dy.n * V::kLanes; at += V::kLanes) {
    const D weight = Promote(Load(s.at + at));
    products = MulAdd(weight, distance(at), products);
    weights = weights + weight;
  }
  const D mean = MeanOf(products, weights);
  const V nothing = Demote(D(weights * D(Const(0))));  // NaN if y has NaN, as for softmax
  for (size_t at = 0; at < dy.n * V::kLanes; at += V::kLanes) {
    const V weight = Load(s.at + at);
    Store(g.at + at, IfThenElse(Eq(weight, zero), nothing, weight * Demote(D(distance(at) - mean))));
  }
  StoreTransposed(g.at, dy);
}

// slope_of(numbers) makes the slopes of rows from their numbers in the batch, a vector of doubles or a block of them.
template <class S, class SlopeOf>
inline void SparseGradients(const RowCall& call, bool has_alpha, SlopeOf slope_of) {
  using V = VecOf<S>;
  if (call.batch.n > V::kInOrder) {
    for (size_t r = 0; r < call.batch.rows; ++r) {
      const RowOf<S> row = RowAt<S>(call, r);
      SparseGradientRow(row, slope_of(Const(row.temperature)), has_alpha && row.temperature > 2);
    }
    return;
  }
  size_t first = 0;
  ForEachPanel<S>(call.batch, [&](const Panel<S>& dy, const StripTemperature<V>& t) {
    Panel<S> y = dy;
    y.x = Offset<const S>(call.other, first, call.other_stride);
    y.x_stride = call.other_stride;
    SparseGradientPanel(dy, y, slope_of(t.value));
    first += dy.rows;
  });
}

template <class S>
BOLTZMAX_KERNEL inline void SparsemaxBackward(const RowCall& call) {
  SparseGradients<S>(call, false, [](const auto&) { return SparsemaxSlope{}; });
}
template <class S>
BOLTZMAX_KERNEL inline void Entmax15Backward(const RowCall& call) {
  SparseGradients<S>(call, false, [](const auto&) { return Entmax15Slope{}; });
}

// The number of a row is its alpha.
template <class S>
BOLTZMAX_KERNEL inline void EntmaxBackward(const RowCall& call) {
  using V = VecOf<S>;
  using T = Compute<S>;
  SparseGradients<S>(call, true, []<class D>(const D& alpha) {
    // The exponents of a vector's lanes, or one for all of them.
    Wide<V> exponent;
    if constexpr (sizeof(D) == sizeof(exponent)) {
      exponent = D(Const(2)) - alpha;
    } else {
      exponent = Const(2) - alpha;
    }
    return [slope = EntmaxSlope<T, Wide<V>>{exponent, {}}]<class B>(const B& y) {
      if constexpr (sizeof(B) == sizeof(V)) {
        V v;
        memcpy(&v, &y, sizeof v);
        return B(Demote(slope(Promote(v))));
      } else {
        B s;
        BOLTZMAX_UNROLL
        for (size_t u = 0; u < sizeof(B) / sizeof(V); ++u) s.part[u] = Demote(slope(Promote(y.part[u])));
        return s;
      }
    };
  });
}

// The derivative by alpha of sum(dy y). With b = alpha - 1, l = log y, and means weighted by s = y^(1 - b) (Correia,
// Niculae & Martins, EMNLP 2019, proposition 1, which this form keeps from cancelling for small b),
//
//     dy_i / d alpha = -s_i (chi_i - mean chi),   chi = (1 - e^v (1 - v)) / b^2 = l^2 psi(v),   v = b l
//
// whose limit at b = 0 has chi = l^2 / 2.
template <class D>
inline D AlphaPsi(const D& v) {
  // sum of (j + 1) / (j + 2)! v^j, to an error of 2^-53 where |v| <= 1/2; elsewhere by its definition.
  constexpr double kPoly[] = {14.0 / 1307674368000,
                              13.0 / 87178291200,
                              12.0 / 6227020800,
                              11.0 / 479001600,
                              10.0 / 39916800,
                              9.0 / 3628800,
                              8.0 / 362880,
                              7.0 / 40320,
                              6.0 / 5040,
                              5.0 / 720,
                              4.0 / 120,
                              3.0 / 24,
                              2.0 / 6,
                              1.0 / 2};
  D p = Const(kPoly[0]);
  BOLTZMAX_UNROLL
  for (size_t i = 1; i < sizeof(kPoly) / sizeof(kPoly[0]); ++i) p = MulAdd(p, v, Const(kPoly[i]));
  const D one = Const(1), direct = (one - Exponential{}(v) * (one - v)) / (v * v);
  return IfThenElse(Lt(v, Const(-0.5)), direct, p);
}

// A number that is larger where y is smaller, and 0 outside the support.
struct SmallestFirst {
  template <class B>
  B operator()(const B& y) const {
    using V = Vec<typename B::Scalar>;
    const B zero = Set<V>(0);
    return IfThenElse(Lt(zero, y), B(Set<V>(1)) / y, zero);
  }
};

template <class S>
BOLTZMAX_KERNEL inline void EntmaxAlphaGrad(const RowCall& call) {
  using V = VecOf<S>;
  using T = Compute<S>;
  using D = Wide<V>;
  using SlopeOf = EntmaxSlope<double, D>;
  for (size_t r = 0; r < call.batch.rows; ++r) {
    const RowOf<S> row = RowAt<S>(call, r);
    const double b = row.temperature - 1.0;
    const SlopeOf slope = {D(Const(1.0 - b)), {}};
    // See GradientAtLargest: the largest s is that of the smallest y if b > 1.
    const T at_largest = b > 1 ? GradientAtLargest(row, SmallestFirst{}) : T(0);
    const D origin = Promote(Set<V>(at_largest - at_largest == T(0) ? at_largest : T(0)));
    WideSum<F64> weights, of_dy, of_chi, of_both;
    ForEachBlock<V, 1>(row.n, [&](size_t i, auto lanes) {
      const D from_origin = Promote(LoadLanes<V>(row.x.x + i, lanes, T(0)).part[0]) - origin;
      const D y = Promote(LoadLanes<V>(row.other + i, lanes, T(0)).part[0]);
      const D log_y = LogOf<double>(Max(SlopeOf::Smallest(), y));
      const D s = slope.Power(y, log_y), weighted = s * (log_y * log_y) * AlphaPsi(D(log_y * D(Const(b))));
      const D dy = WhereSupported(s, from_origin);
      AddEach(&weights, Block<F64, sizeof(D) / sizeof(F64)>(s));
      AddEach(&of_dy, Block<F64, sizeof(D) / sizeof(F64)>(s * dy));
      AddEach(&of_chi, Block<F64, sizeof(D) / sizeof(F64)>(weighted));
      AddEach(&of_both, Block<F64, sizeof(D) / sizeof(F64)>(weighted * dy));
    });
    const double mean = FirstLane(MeanOf(Const(of_dy.Total().hi), Const(weights.Total().hi)));
    StoreScalar(row.y, mean * of_chi.Total().hi - of_both.Total().hi);
  }
}

}  // namespace
}  // namespace boltzmax::kernels
