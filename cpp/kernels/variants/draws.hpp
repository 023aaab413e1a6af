// Draws of classes: the sums of exponentials that a class is drawn from, and bounds of perturbed scores.
#pragma once

#include "../draw_types.hpp"
#include "../panels/transposed.hpp"
#include "../rows/softmax.hpp"
#include "noise_source.hpp"
#include "row_call.hpp"

namespace boltzmax::kernels {
namespace {

// Adds up the exponentials of chunks, lane by lane: chunk c has the kLanes numbers at lanes[c * kLanes]. A block of
// exponentials is part of one chunk.
template <class V>
struct KeepChunks {
  using T = typename V::Scalar;
  static constexpr bool kForLog = false;
  T* lanes;

  template <class Lanes>
  void operator()(size_t i, Lanes, const Block<V, Lanes::kVectors>& e) const {
    static_assert(kDrawChunk % (V::kUnroll * V::kLanes) == 0);
    V sum = e.part[0];
    if constexpr (Lanes::kVectors > 1) sum = Tree(e.part[0], e.part[1], e.part[2], e.part[3]);
    if constexpr (Lanes::kVectors > 4) sum = sum + Tree(e.part[4], e.part[5], e.part[6], e.part[7]);
    T* chunk = lanes + i / kDrawChunk * V::kLanes;
    Store(chunk, i % kDrawChunk == 0 ? sum : Load(chunk) + sum);
  }
};

// Replaces chunks of lanes by their sums.
template <class V, class T>
inline void FoldChunks(T* lanes, size_t chunks) {
  size_t c = 0;
  for (; c + 4 <= chunks; c += 4) {
    V v[4];
    for (size_t j = 0; j < 4; ++j) v[j] = Load(lanes + (c + j) * V::kLanes);
    T sums[4];
    ReduceAdd4(v, sums);
    for (size_t j = 0; j < 4; ++j) lanes[c + j] = sums[j];
  }
  for (; c < chunks; ++c) {
    T sum = 0;
    for (size_t j = 0; j < V::kLanes; ++j) sum += lanes[c * V::kLanes + j];
    lanes[c] = sum;
  }
}

template <class T>
RowSum ChunkSums(const T* x, size_t n, double temperature, T* sums) {
  using V = Vec<T>;
  const Source<T> row = {x, nullptr};
  const RowSum sum = ReduceRow(row, n, {temperature, temperature != 1.0}, GuessMax(row, n), KeepChunks<V>{sums}, true);
  FoldChunks<V>(sums, (n + kDrawChunk - 1) / kDrawChunk);
  return sum;
}

template <class T>
BOLTZMAX_KERNEL void Terms(const T* x, size_t n, double temperature, const RowSum& sum, T* terms) {
  using V = Vec<T>;
  const Source<T> row = {x, nullptr};
  const typename Source<T>::Shift row_shift(sum, MakeTemperature<V>(RowTemperature{temperature, temperature != 1.0}));
  WithShift(row_shift, [&](const auto& shift) {
    MapTo<V>(terms, n, false, [&](size_t i, auto lanes) { return ScaledExp(row(i, lanes), shift); });
  });
}

// The lowest id whose sum of exponentials, with those before it, exceeds a uniform share of the whole. It is open where
// some sum is too near that share: the sums of few terms, and the uniform number, are rounded to kNear of the whole.
template <class T>
BOLTZMAX_KERNEL void DrawShortRows(const ShortDraws<T>& call, const PhiloxKey& key) {
  using V = Vec<T>;
  constexpr T kNear = sizeof(T) == sizeof(float) ? T(0x1p-16) : T(0x1p-30);
  RowBatch batch = {};
  batch.x = reinterpret_cast<const char*>(call.x);
  batch.x_stride = static_cast<ptrdiff_t>(call.n * sizeof(T));
  batch.rows = call.rows;
  batch.n = call.n;
  batch.temperature = call.temperature;
  batch.temperature_stride = call.temperature_stride;
  batch.scaled = call.scaled;
  batch.far = true;
  size_t first = 0;
  ForEachPanel<T>(batch, [&](const Panel<T>& panel, const StripTemperature<V>& t) {
    Columns<T> columns, terms;
    const V max = LoadTransposed(panel, columns.at);
    alignas(64) uint32_t words[4 * F32::kLanes];
    alignas(64) T share[F32::kLanes];
    WordsOfRows(key, call.first_row + first, Purpose::kDraw, 0, words);
    for (size_t j = 0; j < F32::kLanes; j += V::kLanes) {
      // The upper word of the element's number: words 2 and 3 of the block.
      const V s = LoadSigned(words + 3 * F32::kLanes + j, V{}) * Set<V>(T(0x1p-32));
      Store(share + j, IfThenElse(Lt(s, Set<V>(0)), s + Set<V>(1), s));
    }
    const auto x = AsStrip<T, false>(columns.at, panel.n);
    V id = Set<V>(0), nearest = Set<V>(0);
    const auto strip = ReduceShort<true>(x, max, t.vector, KeepInColumns<V>{terms.at}, x.n);
    V sum = Set<V>(0);
    for (size_t i = 0; i < panel.n; ++i) {
      sum = sum + Load(terms.at + i * V::kLanes);
      Store(terms.at + i * V::kLanes, sum);
    }
    const V target = sum * Load(share), near = sum * Set<V>(kNear);
    const V zero = Set<V>(0), one = Set<V>(1);
    V previous = zero;
    for (size_t i = 0; i < panel.n; ++i) {
      const V edge = Load(terms.at + i * V::kLanes), distance = Abs(edge - target);
      id = IfThenElse(Lt(target, edge), id, id + one);
      // A class whose exponential is 0 adds no edge.
      nearest = IfThenElse(Lt(distance, near), IfThenElse(Lt(previous, edge), one, nearest), nearest);
      previous = edge;
    }
    // The lower edge of the first class is 0.
    nearest = IfThenElse(Lt(near, target), nearest, one);
    const auto degenerate = DegenerateLanes(strip.sum);
    nearest = IfThenElse(Lt(Demote(degenerate), Set<V>(T(0.5))), nearest, one);
    T ids[V::kLanes], open[V::kLanes];
    Store(ids, id);
    Store(open, nearest);
    for (size_t j = 0; j < panel.rows; ++j) {
      call.id[first + j] = static_cast<int64_t>(ids[j]);
      call.open[first + j] = open[j] != 0;
    }
    first += panel.rows;
  });
}

template <class T>
BOLTZMAX_KERNEL T MaxOrNan(const T* x, size_t n) {
  using V = Vec<T>;
  const V zero = Set<V>(0), one = Set<V>(1);
  V max = Set<V>(Source<T>::kLowest), nan = zero;
  ForEachBlock<V, 4>(n, [&](size_t i, auto lanes) {
    const auto v = LoadLanes<V>(x + i, lanes, Source<T>::kLowest);
    max = MaxOf(v, max);
    BOLTZMAX_UNROLL
    for (size_t u = 0; u < lanes.kVectors; ++u) nan = IfThenElse(Eq(v.part[u], v.part[u]), nan, one);
  });
  return ReduceMax(nan) > T(0) ? static_cast<T>(__builtin_nanf("")) : ReduceMax(max);
}

// Since E = -log(1 - w) exceeds w, and log2 is above the line between powers of two that a float's bits are on,
//
//     key / ln 2 = d - log2(E) < d - log2(w) < d - (bits of w as a number)
//
// Max error of that bound by rounding 2^-14 + 2^-21 |d|.
inline F32 LogOfWord(const uint32_t* word) {
  // w = word 2^-32; halved, it is a signed integer.
  const F32 w = ToFloat(Halve(LoadBits(word)));
  return MulAdd(ToFloat(BitsOf(w)), Set<F32>(0x1p-23f), Set<F32>(-127.0f - 31.0f));
}
// (x - max) scale; -inf only for x = -inf: where the quotient overflows, the class still has a probability.
template <class V>
inline V Distance(V x, V max, V scale) {
  const V lowest = Set<V>(-static_cast<typename V::Scalar>(__builtin_inff()));
  return IfThenElse(Eq(x, lowest), lowest, Max((x - max) * scale, Set<V>(-0x1p126f)));
}
inline F32 Distances(const float* x, size_t n, float max, double scale) {
  return Distance(LoadN(x, n, Source<float>::kLowest), Set<F32>(max), Set<F32>(static_cast<float>(scale)));
}
inline F32 Distances(const double* x, size_t n, double max, double scale) {
  const auto half = [&](size_t from) {
    const size_t rest = n <= from ? 0 : n - from, count = rest < F64::kLanes ? rest : F64::kLanes;
    return Distance(LoadN(x + from, count, Source<double>::kLowest), Set<F64>(max), Set<F64>(scale));
  };
  return Demote(half(0), half(F64::kLanes));
}

template <class T>
BOLTZMAX_KERNEL float KeyBounds(const T* x, size_t n, T max, double temperature, const PhiloxKey& key, uint64_t row,
                                size_t element, float* bounds) {
  const double scale = 1.4426950408889634 / temperature;
  F32 largest = Set<F32>(-__builtin_inff());
  for (size_t first = 0; first < n; first += kNoisePiece) {
    const size_t piece = n - first < kNoisePiece ? n - first : kNoisePiece;
    alignas(64) uint32_t words[kNoisePiece];
    for (size_t i = 0; i < piece; i += kRowWords) WordsOfRow(key, row, element + first + i, words + i);
    for (size_t i = 0; i < piece; i += F32::kLanes) {
      const size_t count = piece - i < F32::kLanes ? piece - i : F32::kLanes;
      const F32 bound = Distances(x + first + i, count, max, scale) - LogOfWord(words + i);
      StoreN(bounds + first + i, bound, count);
      largest = Max(bound, largest);
    }
  }
  return ReduceMax(largest);
}

template <class T>
constexpr DrawKernels<T> DrawKernelsOf() {
  return {ChunkSums<T>, Terms<T>, DrawShortRows<T>, Vec<T>::kInOrder, MaxOrNan<T>, KeyBounds<T>};
}

}  // namespace
}  // namespace boltzmax::kernels
