// Softmax of perturbed scores (Jang, Gu & Poole, ICLR 2017; Maddison, Mnih & Teh, ICLR 2017).
//
//     z_i = (x_i - max x) + noise_i;  gumbel_softmax = softmax(z / T), or 1 at the largest z and 0 elsewhere
//
// The scores are taken from their maximum, so that large ones do not swallow the noise.
#pragma once

#include "../panels/transposed.hpp"
#include "../rows/softmax.hpp"
#include "noise_source.hpp"
#include "row_call.hpp"

namespace boltzmax::kernels {
namespace {

// RowOptions::count
enum class NoiseKind : int64_t { kGumbel = 0, kNormal = 1 };

template <class F>
inline void WithNoise(const RowOptions& options, F f) {
  static_cast<NoiseKind>(options.count) == NoiseKind::kNormal ? f(Normal{}) : f(Gumbel{});
}

// The first element that equals max; there must be one.
template <class Src>
inline size_t FindFirst(const Src& x, size_t n, typename Src::T max) {
  using V = typename Src::V;
  const V wanted = Set<V>(max);
  size_t i = 0;
  while (i + V::kLanes <= n && !Any(Eq(x(i, Whole<1>{}).part[0], wanted))) i += V::kLanes;
  while (x.x[i] != max || (x.mask != nullptr && x.mask[i] == 0)) ++i;
  return i;
}

template <class Src, class S>
inline void OneHotRow(const Src& z, S* y, size_t n, typename Src::T max) {
  using V = typename Src::V;
  using T = typename Src::T;
  if (!IsFinite(static_cast<double>(max)) || AnyNan(z, n)) return SoftmaxMapDegenerate(z, y, n);
  const size_t first = FindFirst(z, n, max);
  MapTo<V>(y, n, false, [](size_t, auto lanes) { return Block<V, decltype(lanes)::kVectors>(Set<V>(T(0))); });
  StoreScalar(y + first, 1.0);
}

template <class Kind, class S>
BOLTZMAX_KERNEL inline void GumbelSoftmaxRow(const RowOf<S>& row, const PhiloxKey& key, bool hard, bool scaled) {
  using V = VecOf<S>;
  using T = Compute<S>;
  T* z = row.y;
  const V max = Set<V>(MaxOver<V>(row.n, row.x)), lowest = Set<V>(Source<S>::kLowest);
  V running = lowest;
  ForEachNoisePiece<T, Kind>(key, row.number, row.n, [&](size_t first, size_t n, const T* piece) {
    MapTo<V>(z + first, n, false, [&](size_t i, auto lanes) {
      const auto x = row.x(first + i, lanes);
      const auto sum = (x - max) + LoadLanes<V>(piece + i, lanes, T(0));
      const auto kept = row.x.Keep(first + i, lanes, sum, lowest);
      running = MaxOf(kept, running);
      return kept;
    });
  });
  const Source<T, kCoarseWillDo<S>> perturbed = {z, row.x.mask};
  const T largest = ReduceMax(running);
  if (hard) return OneHotRow(perturbed, row.y, row.n, largest);
  const RowTemperature temperature = {row.temperature, scaled};
  const RowSum sum = ReduceRow(perturbed, row.n, temperature, largest, KeepAll<T>{z}, false);
  SoftmaxOp<S>{row.y, z, sum}.Map(perturbed, row.n, temperature, false);
}

// Without a temperature, exp(x + g) = exp(x) / E with E = exp(-g), an exponential variate, so that no Gumbel variate is
// needed.
template <class S>
BOLTZMAX_KERNEL inline void ExponentialRaceRow(const RowOf<S>& row, const PhiloxKey& key) {
  using V = VecOf<S>;
  using T = Compute<S>;
  const T largest = MaxOver<V>(row.n, row.x);
  if (!IsFinite(static_cast<double>(largest))) return SoftmaxMapDegenerate(row.x, row.y, row.n);
  const V max = Set<V>(largest);
  const DirectShift shift(ExpShift<V, false>(Set<V>(0), MakeTemperature<V>(1)));
  WideSum<V> total;
  ForEachNoisePiece<T, ScaledExponential>(key, row.number, row.n, [&](size_t first, size_t n, const T* variates) {
    ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
      const auto x = row.x(first + i, lanes);
      const auto term = Ratio(ScaledExp(x - decltype(x)(max), shift), LoadLanes<V>(variates + i, lanes, T(1)));
      StoreLanes(row.y + first + i, term, lanes);
      AddTrees(&total, term);
    });
  });
  const Sum sum = total.Total();
  if (sum.hi != sum.hi) return SoftmaxMapDegenerate(row.x, row.y, row.n);
  const Wide<V> unscale = Const(ExpConstants<T>::kUnscale), hi = Const(sum.hi), lo = Const(sum.lo);
  const Divisor<V> divisor(hi * unscale, lo * unscale);
  MapTo<V>(row.y, row.n, false,
           [&](size_t i, auto lanes) { return Divide(LoadLanes<V>(row.y + i, lanes, T(0)), divisor); });
}

// Lanes with their largest element first found marked by 1.
template <class V, class T>
inline void OneHotColumns(T* columns, size_t n) {
  V max = Set<V>(-static_cast<T>(__builtin_inff())), one = Set<V>(1);
  for (size_t i = 0; i < n; ++i) max = Max(Load(columns + i * V::kLanes), max);
  for (size_t i = 0; i < n; ++i) {
    const V is_largest = IfThenElse(Eq(Load(columns + i * V::kLanes), max), one, Set<V>(0));
    Store(columns + i * V::kLanes, is_largest);
    max = IfThenElse(Eq(is_largest, one), Set<V>(static_cast<T>(__builtin_inff())), max);
  }
}

template <class Kind, class S>
BOLTZMAX_KERNEL inline void GumbelSoftmaxPanel(const Panel<S>& panel, const StripTemperature<VecOf<S>>& t,
                                               const PhiloxKey& key, uint64_t first, bool hard) {
  using V = VecOf<S>;
  using T = Compute<S>;
  Columns<T> columns, noise;
  const V max = LoadTransposed(panel, columns.at), lowest = Set<V>(Source<S>::kLowest);
  NoiseOfRows<T, Kind>(key, first, panel.n, noise.at);
  const auto x = AsStrip<S, kCoarseWillDo<S>>(columns.at, panel.n);
  for (size_t i = 0; i < panel.n; ++i) {
    T* at = columns.at + i * V::kLanes;
    // A masked element stays -inf next to +inf.
    const V v = Load(at), z = (v - max) + Load(noise.at + i * V::kLanes);
    Store(at, IfThenElse(Eq(v, lowest), lowest, z));
  }
  const auto strip = ReduceShort<true>(x, StripMax(x, x.n), t.vector, KeepInColumns<V>{noise.at}, x.n);
  if (hard) {
    OneHotColumns<V>(columns.at, panel.n);
  } else {
    const Divisor<V> divisor(strip.sum.hi, strip.sum.lo);
    for (size_t i = 0; i < panel.n; ++i) {
      Store(columns.at + i * V::kLanes, Divide(Load(noise.at + i * V::kLanes), divisor));
    }
  }
  StoreTransposed(columns.at, panel);
  ForEachMarked(panel, DegenerateLanes(strip.sum),
                [&](size_t j) { SoftmaxMapDegenerate(panel.Row(j), panel.Out(j), panel.n); });
}

template <class S>
void GumbelSoftmax(const RowCall& call) {
  const PhiloxKey key = MakePhiloxKey(call.options.key);
  const bool hard = call.options.flag, scaled = call.batch.scaled;
  WithNoise(call.options, [&]<class Kind>(Kind) {
    if (call.batch.n <= VecOf<S>::kInOrder) {
      uint64_t number = call.options.first_row;
      return ForEachPanel<S>(call.batch, [&](const Panel<S>& panel, const StripTemperature<VecOf<S>>& t) {
        GumbelSoftmaxPanel<Kind>(panel, t, key, number, hard);
        number += panel.rows;
      });
    }
    for (size_t r = 0; r < call.batch.rows; ++r) {
      const RowOf<S> row = RowAt<S>(call, r);
      if constexpr (std::is_same_v<Kind, Gumbel>) {
        if (!hard && !scaled) {
          ExponentialRaceRow(row, key);
          continue;
        }
      }
      GumbelSoftmaxRow<Kind>(row, key, hard, scaled);
    }
  });
}

// The noise itself, for every element of x; x is not read.
template <class S>
void Noise(const RowCall& call) {
  using T = Compute<S>;
  const PhiloxKey key = MakePhiloxKey(call.options.key);
  WithNoise(call.options, [&]<class Kind>(Kind) {
    if (call.batch.n <= VecOf<S>::kInOrder) {
      uint64_t number = call.options.first_row;
      return ForEachPanel<S>(call.batch, [&](const Panel<S>& panel, const auto&) {
        Columns<T> noise;
        NoiseOfRows<T, Kind>(key, number, panel.n, noise.at);
        StoreTransposed(noise.at, panel);
        number += panel.rows;
      });
    }
    for (size_t r = 0; r < call.batch.rows; ++r) {
      const RowOf<S> row = RowAt<S>(call, r);
      ForEachNoisePiece<T, Kind>(key, row.number, row.n, [&](size_t first, size_t n, const T* piece) {
        MapTo<VecOf<S>>(row.y + first, n, false,
                        [&](size_t i, auto lanes) { return LoadLanes<VecOf<S>>(piece + i, lanes, T(0)); });
      });
    }
  });
}

constexpr RowFunction kNoiseFunctions[] = {
    {.name = "gumbel_softmax",
     .has_other = false,
     .reduces = false,
     .scratch = NoScratch,
     .cost = 3.0,
     BOLTZMAX_ROW_KERNELS(GumbelSoftmax)},
    {.name = "noise",
     .has_other = false,
     .reduces = false,
     .scratch = NoScratch,
     .cost = 2.0,
     BOLTZMAX_ROW_KERNELS(Noise)},
};

}  // namespace
}  // namespace boltzmax::kernels
