// (operations) x (storage types), written once: the constexpr table of one ISA. Included after that
// ISA's vector header.
#pragma once

#include "../layers/units.hpp"
#include "../panels/panels.hpp"
#include "../rows/softmax.hpp"
#include "../rows/statistics.hpp"
#include "backward.hpp"

namespace boltzmax::kernels {
namespace {

template <class P, class Byte>
inline P* Offset(Byte* base, size_t i, ptrdiff_t stride) {
  return reinterpret_cast<P*>(base + static_cast<ptrdiff_t>(i) * stride);
}

// Where the exponentials of row r wait; null if nowhere.
template <class S>
inline Compute<S>* ExpBuffer(const RowBatch& b, size_t r, S* y) {
  using T = Compute<S>;
  if constexpr (sizeof(S) == sizeof(T)) {
    if (!b.stream) return y;
  }
  return b.n <= kKept ? static_cast<T*>(b.scratch) + (r % 2) * kKept : nullptr;
}
template <class S>
inline void Attach(SoftmaxOp<S>* op, const RowBatch& b, size_t r, S* y) {
  op->y = y;
  op->e = ExpBuffer(b, r, y);
}
template <class Op, class S>
inline void Attach(Op* op, const RowBatch&, size_t, S* y) {
  op->y = y;
}

// Rows of a batch in three overlapping steps: guess the maximum of one row, reduce the row before it, map the one before
// that. What a step hands to the next comes from a long chain of instructions, which ends while another row is read.
template <bool kScaled, class S, class Op>
BOLTZMAX_KERNEL inline void RunRows(const RowBatch& b) {
  struct Line {
    Source<S, Op::kCoarse> x;
    Compute<S> guess;
    double temperature;
    Op op;
  };
  Line lines[4];
  const auto begin = [&](size_t r) {
    Line& line = lines[r % 4];
    line.x.x = Offset<const S>(b.x, r, b.x_stride);
    line.x.mask = nullptr;
    if (b.mask != nullptr) line.x.mask = Offset<const uint8_t>(b.mask, r, b.mask_stride);
    line.temperature = 1.0;
    if constexpr (kScaled) {
      line.temperature = *Offset<const double>(reinterpret_cast<const char*>(b.temperature), r, b.temperature_stride);
    }
    Attach(&line.op, b, r, Offset<S>(b.y, r, b.y_stride));
    line.guess = GuessMax(line.x, b.n);
  };
  if (b.rows > 0) begin(0);
  for (size_t r = 0; r <= b.rows; ++r) {
    if (r + 1 < b.rows) begin(r + 1);
    if (r < b.rows) {
      Line& line = lines[r % 4];
      line.op.template Reduce<kScaled>(line.x, b.n, line.temperature, line.guess, b.far);
    }
    if (r > 0) {
      const Line& line = lines[(r - 1) % 4];
      line.op.template Map<kScaled>(line.x, b.n, line.temperature, b.stream);
    }
  }
  if (b.stream) StreamFence();
}

// f(panel, temperatures) for every kLanes rows of a batch.
template <class S, class F>
inline void ForEachPanel(const RowBatch& b, F f) {
  using V = VecOf<S>;
  constexpr size_t kRows = Panel<S>::kRows;
  for (size_t r = 0; r < b.rows; r += kRows) {
    const Panel<S> panel = {Offset<const S>(b.x, r, b.x_stride),
                            Offset<S>(b.y, r, b.y_stride),
                            b.mask == nullptr ? nullptr : Offset<const uint8_t>(b.mask, r, b.mask_stride),
                            b.x_stride,
                            b.y_stride,
                            b.mask_stride,
                            b.rows - r < kRows ? b.rows - r : kRows,
                            b.n,
                            b.far};
    StripTemperature<V> t;
    if (b.scaled) {
      const char* first = reinterpret_cast<const char*>(b.temperature);
      t = {Offset<const double>(first, r, b.temperature_stride), b.temperature_stride, panel.rows};
    }
    f(panel, t);
  }
  if (b.stream) StreamFence();
}

template <bool kScaled, class S>
BOLTZMAX_KERNEL inline void RunTransposed(const RowBatch& b, SoftmaxOp<S>) {
  ForEachPanel<S>(b, [](const auto& panel, const auto& t) { SoftmaxTransposed<kScaled>(panel, t); });
}
template <bool kScaled, class S>
BOLTZMAX_KERNEL inline void RunTransposed(const RowBatch& b, LogSoftmaxOp<S>) {
  ForEachPanel<S>(b, [](const auto& panel, const auto& t) { LogSoftmaxTransposed<kScaled>(panel, t); });
}
template <bool kScaled, class S>
BOLTZMAX_KERNEL inline void RunTransposed(const RowBatch& b, LogSumExpOp<S>) {
  ForEachPanel<S>(b, [](const auto& panel, const auto& t) { LogSumExpTransposed<kScaled>(panel, t); });
}
template <bool kScaled, class S>
BOLTZMAX_KERNEL inline void RunAlong(const RowBatch& b, SoftmaxOp<S>) {
  ForEachPanel<S>(b, [&](const auto& panel, const auto& t) { SoftmaxAlong<kScaled>(panel, t, b.scratch, b.stream); });
}
template <bool kScaled, class S>
BOLTZMAX_KERNEL inline void RunAlong(const RowBatch& b, LogSoftmaxOp<S>) {
  ForEachPanel<S>(b,
                  [&](const auto& panel, const auto& t) { LogSoftmaxAlong<kScaled>(panel, t, b.scratch, b.stream); });
}
template <bool kScaled, class S>
BOLTZMAX_KERNEL inline void RunAlong(const RowBatch& b, LogSumExpOp<S>) {
  ForEachPanel<S>(b, [&](const auto& panel, const auto& t) { LogSumExpAlong<kScaled>(panel, t, b.scratch); });
}

template <class S, class Op>
inline void Rows(const RowBatch& b) {
  WithBool(b.scaled, [&](auto scaled) {
    constexpr bool kScaled = decltype(scaled)::value;
    if (b.n == 0 || b.n > kPaneled<Compute<S>>) return RunRows<kScaled, S, Op>(b);
    b.n <= VecOf<S>::kInOrder ? RunTransposed<kScaled>(b, Op{}) : RunAlong<kScaled>(b, Op{});
  });
}

// f(scaled, source) for one row or a piece of one.
template <class S, class F>
inline void WithRow(const Row& row, F f) {
  const S* x = static_cast<const S*>(row.x);
  WithBool(row.temperature != 1.0, [&](auto scaled) { f(scaled, Source<S>{x, row.mask}); });
}

// f(scaled, strip, y, temperature) for every strip of kLanes columns.
template <class S, size_t kYItem, bool kCoarse, class F>
inline void ForEachStrip(const ColumnBatch& b, F f) {
  using V = VecOf<S>;
  WithBool(b.scaled, [&](auto scaled) {
    const char* t = reinterpret_cast<const char*>(b.temperature);
    for (size_t c = 0; c < b.columns; c += V::kLanes) {
      const size_t lanes = b.columns - c < V::kLanes ? b.columns - c : V::kLanes;
      const Strip<S, kCoarse> x = {b.x + c * sizeof(S), b.x_stride, b.n, lanes};
      StripTemperature<V> temperature;
      if (b.scaled) temperature = {Offset<const double>(t, c, b.temperature_stride), b.temperature_stride, lanes};
      f(scaled, x, b.y + c * kYItem, temperature);
    }
  });
}

template <class S>
struct Kernels {
  using T = Compute<S>;

  static void SoftmaxColumns(const ColumnBatch& b) {
    ForEachStrip<S, sizeof(S), SoftmaxOp<S>::kCoarse>(b, [&](auto scaled, const auto& x, char* y, const auto& t) {
      SoftmaxStrip<decltype(scaled)::value>(x, y, b.y_stride, t);
    });
  }
  static void LogSoftmaxColumns(const ColumnBatch& b) {
    ForEachStrip<S, sizeof(S), LogSoftmaxOp<S>::kCoarse>(b, [&](auto scaled, const auto& x, char* y, const auto& t) {
      LogSoftmaxStrip<decltype(scaled)::value>(x, y, b.y_stride, t);
    });
  }
  static void LogSumExpColumns(const ColumnBatch& b) {
    ForEachStrip<S, sizeof(S), LogSumExpOp<S>::kCoarse>(b, [&](auto scaled, const auto& x, char* y, const auto& t) {
      LogSumExpStrip<decltype(scaled)::value>(x, y, b.y_stride, t);
    });
  }

  BOLTZMAX_KERNEL static RowSum Reduce(const Row& row) {
    RowSum sum;
    WithRow<S>(row, [&](auto scaled, const auto& x) {
      sum = ReduceRow<decltype(scaled)::value>(x, row.n, row.temperature, GuessMax(x, row.n), KeepNothing{}, row.far);
    });
    return sum;
  }
  static Sum ReduceWithoutLargest(const Row& row, const RowSum& sum) {
    Sum rest;
    WithRow<S>(row, [&](auto scaled, const auto& x) {
      rest = ReduceRest<decltype(scaled)::value>(x, row.n, row.temperature, sum);
    });
    return rest;
  }
  BOLTZMAX_KERNEL static RowSum ReduceToMean(const Row& row, double* mean) {
    RowSum sum;
    WithRow<S>(row, [&](auto scaled, const auto& x) {
      sum = ReduceMean<decltype(scaled)::value>(x, row.n, row.temperature, row.far, mean);
    });
    return sum;
  }
  BOLTZMAX_KERNEL static double SumDistances(const Row& row, double from) {
    return SumOfDistances(Source<S>{static_cast<const S*>(row.x), nullptr}, row.n, from);
  }
  static size_t CountGreater(const Row& row, double limit) {
    return CountAbove(Source<S>{static_cast<const S*>(row.x), nullptr}, row.n, limit);
  }
  static size_t GroupMaxima(const Row& row, double* maxima) {
    return MaximaOfGroups(Source<S>{static_cast<const S*>(row.x), nullptr}, row.n, maxima);
  }
  static size_t FindGreater(const Row& row, double limit, size_t begin, size_t most, Element* found, size_t* count) {
    const Source<S> x = {static_cast<const S*>(row.x), nullptr};
    return FindAbove(x, row.n, limit, begin, most, found, count);
  }
  BOLTZMAX_KERNEL static void MapSoftmax(const Row& row, const RowSum& sum) {
    WithRow<S>(row, [&](auto scaled, const auto& x) {
      SoftmaxMap<decltype(scaled)::value>(x, static_cast<S*>(row.y), row.n, row.temperature, sum, row.stream);
    });
    if (row.stream) StreamFence();
  }
  BOLTZMAX_KERNEL static void MapAffineSoftmax(const Row& row, const RowSum& sum, double gain, double add) {
    WithRow<S>(row, [&](auto scaled, const auto& x) {
      AffineSoftmaxMap<decltype(scaled)::value>(x, static_cast<S*>(row.y), row.n, row.temperature, sum, gain, add,
                                                row.stream);
    });
    if (row.stream) StreamFence();
  }
  BOLTZMAX_KERNEL static void MapLogSoftmax(const Row& row, const RowSum& sum, const Sum& log_sum) {
    WithRow<S>(row, [&](auto scaled, const auto& x) {
      LogSoftmaxMap<decltype(scaled)::value>(x, static_cast<S*>(row.y), row.n, row.temperature, sum, log_sum,
                                             row.stream);
    });
    if (row.stream) StreamFence();
  }
  static void StoreOne(void* y, double value) { StoreScalar(static_cast<S*>(y), value); }

  template <class Gradient>
  BOLTZMAX_KERNEL static Sum ReduceGradient(const GradRow& row) {
    return BackwardReduce<S, Gradient>(static_cast<const S*>(row.dy), static_cast<const S*>(row.y), row.n);
  }
  template <class Gradient>
  BOLTZMAX_KERNEL static void MapGradient(const GradRow& row, const Sum& sum) {
    BackwardMap<S, Gradient>(static_cast<const S*>(row.dy), static_cast<const S*>(row.y), static_cast<S*>(row.dx),
                             row.n, Set<Vec<T>>(static_cast<T>(sum.hi)));
  }
  using OfSoftmax = SoftmaxGradient<Vec<T>>;
  using OfLogSoftmax = LogSoftmaxGradient<Vec<T>>;

  static constexpr StorageKernels kTable = {
      Rows<S, SoftmaxOp<S>>,
      Rows<S, LogSoftmaxOp<S>>,
      Rows<S, LogSumExpOp<S>>,
      BackwardRows<S, OfSoftmax>,
      BackwardRows<S, OfLogSoftmax>,
      SoftmaxColumns,
      LogSoftmaxColumns,
      LogSumExpColumns,
      Reduce,
      ReduceWithoutLargest,
      ReduceToMean,
      SumDistances,
      CountGreater,
      GroupMaxima,
      FindGreater,
      LogOfSum<T>,
      LogOfPeakedSum<T>,
      MapSoftmax,
      MapAffineSoftmax,
      MapLogSoftmax,
      StoreOne,
      ReduceGradient<OfSoftmax>,
      ReduceGradient<OfLogSoftmax>,
      MapGradient<OfSoftmax>,
      MapGradient<OfLogSoftmax>,
  };
};

template <class T>
constexpr UnitKernels<T> kUnits = {DotRows<T>, AddRows<T>, LogSigmoid<T>};

constexpr KernelTable MakeTable(const char* isa) {
  return {isa,
          Kernels<float>::kTable,
          Kernels<double>::kTable,
          Kernels<Half>::kTable,
          Kernels<BFloat16>::kTable,
          kUnits<float>,
          kUnits<double>,
          &BOLTZMAX_ISA::kLosses,
          &BOLTZMAX_ISA::kPointwise,
          &BOLTZMAX_ISA::kTiles,
          &BOLTZMAX_ISA::kWeighted};
}

}  // namespace
}  // namespace boltzmax::kernels
