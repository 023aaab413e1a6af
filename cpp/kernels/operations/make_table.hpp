// The kernel table of one ISA: every form of every operation in operations.hpp, for every storage type. Included after
// that ISA's vector header.
#pragma once

#include "../columns/strip_groups.hpp"
#include "../layers/units.hpp"
#include "../panels/panels.hpp"
#include "../panels/widened.hpp"
#include "../rows/softmax.hpp"
#include "../rows/statistics.hpp"
#include "backward.hpp"
#include "rows_of_one.hpp"

namespace boltzmax::kernels {
namespace {

// Where the exponentials of row r are kept; null if nowhere.
template <class S>
inline Compute<S>* ExpBuffer(const RowBatch& b, size_t r, S* y) {
  using T = Compute<S>;
  if constexpr (sizeof(S) == sizeof(T)) {
    if (!b.stream) return y;
  }
  return b.n <= kKept ? static_cast<T*>(b.scratch) + (r % 2) * kKept : nullptr;
}
template <class S, class Operation>
inline void Attach(Operation* op, const RowBatch& b, size_t r, S* y) {
  op->y = y;
  if constexpr (requires { op->e; }) op->e = ExpBuffer(b, r, y);
}

// Runs the rows of a batch in three overlapping steps: guess the maximum of one row, reduce the row before it, map the
// one before that. A step's result comes at the end of a long chain of instructions, during which another row is read.
template <class S, class Operation>
BOLTZMAX_KERNEL inline void RunOverlapping(const RowBatch& b) {
  struct Line {
    Source<S, Operation::kCoarse> x;
    Compute<S> guess;
    RowTemperature temperature;
    Operation op;
  };
  Line lines[4];
  const auto begin = [&](size_t r) {
    Line& line = lines[r % 4];
    line.x.x = Offset<const S>(b.x, r, b.x_stride);
    line.x.mask = nullptr;
    if (b.mask != nullptr) line.x.mask = Offset<const uint8_t>(b.mask, r, b.mask_stride);
    line.temperature = {};
    if (b.scaled) {
      const auto* first = reinterpret_cast<const char*>(b.temperature);
      line.temperature = {*Offset<const double>(first, r, b.temperature_stride), true};
    }
    Attach(&line.op, b, r, Offset<S>(b.y, r, b.y_stride));
    line.guess = GuessMax(line.x, b.n);
  };
  if (b.rows > 0) begin(0);
  for (size_t r = 0; r <= b.rows; ++r) {
    if (r + 1 < b.rows) begin(r + 1);
    if (r < b.rows) {
      Line& line = lines[r % 4];
      line.op.Reduce(line.x, b.n, line.temperature, line.guess, b.far);
    }
    if (r > 0) {
      const Line& line = lines[(r - 1) % 4];
      line.op.Map(line.x, b.n, line.temperature, b.stream);
    }
  }
  if (b.stream) StreamFence();
}

// Rows of 16 bits may have no temperature even if kScaled.
template <bool kScaled, class S>
using TrialFor = std::conditional_t<kScaled && sizeof(S) == sizeof(Compute<S>), NoTrial, PlainTrial>;

// The forms of each operation, under the names that they have in the headers: one row, a strip of columns, and both
// kinds of panels.
#define BOLTZMAX_FORMS(name, Name, kind, ...)                                        \
  struct Name##Forms {                                                               \
    template <class S>                                                               \
    using OnRow = Name##Op<S>;                                                       \
    template <class Columns, class T>                                                \
    static void OnStrip(const Columns& x, char* y, ptrdiff_t y_stride, const T& t) { \
      Name##Strip(x, y, y_stride, t);                                                \
    }                                                                                \
    using Groups = GroupOf<Op::k##Name>;                                             \
    static constexpr bool kReduces = Reduces(Op::k##Name);                           \
    static constexpr bool kNeedsLogSum = NeedsLogSum(Op::k##Name);                   \
    BOLTZMAX_PANELS_##kind(Name)                                                     \
  };
// A map runs each panel by itself.
#define BOLTZMAX_PANELS_kMap(Name)                                                                                 \
  template <bool kCoarse, bool kScaled, class S>                                                                   \
  static void Transposed(const RowBatch& b) {                                                                      \
    ForEachPanel<S>(b, [](const auto& panel, const auto& t) { Name##Transposed<kCoarse, kScaled>(panel, t); });    \
  }                                                                                                                \
  template <bool kCoarse, bool kScaled, class S>                                                                   \
  static void Along(const RowBatch& b) {                                                                           \
    TrialFor<kScaled, S> trial;                                                                                    \
    ForEachPanel<S>(                                                                                               \
        b, [&](const auto& panel, const auto& t) { Name##Along<kCoarse, kScaled>(panel, t, b.scratch, &trial); }); \
  }
#define BOLTZMAX_PANELS_kMapWithGradient(Name) BOLTZMAX_PANELS_kMap(Name)
// A reduction finishes the sums of several panels together.
#define BOLTZMAX_PANELS_kReduction(Name)                                                                \
  template <bool kCoarse, bool kScaled, class S>                                                        \
  static void Transposed(const RowBatch& b) {                                                           \
    Name##Panels<S> panels;                                                                             \
    ForEachPanel<S>(b, [&](const auto& panel, const auto& t) {                                          \
      Columns<Compute<S>> columns, terms;                                                               \
      panels.Add(panel, t, ReduceTransposedTo<PanelSum, kCoarse, kScaled>(panel, &columns, &terms, t)); \
    });                                                                                                 \
    panels.Finish();                                                                                    \
  }                                                                                                     \
  template <bool kCoarse, bool kScaled, class S>                                                        \
  static void Along(const RowBatch& b) {                                                                \
    TrialFor<kScaled, S> trial;                                                                         \
    Name##Panels<S> panels;                                                                             \
    ForEachPanel<S>(b, [&](const auto& panel, const auto& t) {                                          \
      PanelTerms<S> terms(panel, b.scratch, InOrder<VecOf<S>, true>(panel.n));                          \
      panels.Add(panel, t, ReduceStoredTo<PanelSum, kCoarse, kScaled>(&terms, t, &trial));              \
    });                                                                                                 \
    panels.Finish();                                                                                    \
  }
BOLTZMAX_FOR_EACH_OPERATION(BOLTZMAX_FORMS)
#undef BOLTZMAX_FORMS
#undef BOLTZMAX_PANELS_kMap
#undef BOLTZMAX_PANELS_kMapWithGradient
#undef BOLTZMAX_PANELS_kReduction

template <bool kCoarse, bool kScaled, class S, class Forms>
BOLTZMAX_KERNEL inline void RunTransposed(const RowBatch& b) {
  Forms::template Transposed<kCoarse, kScaled, S>(b);
}
template <bool kCoarse, bool kScaled, class S, class Forms>
BOLTZMAX_KERNEL inline void RunAlong(const RowBatch& b) {
  Forms::template Along<kCoarse, kScaled, S>(b);
}

// Calls `run` for rows of 16 bits as floats; `length` is that of a result. The results replace rows that have been
// read.
template <Storage16 S>
BOLTZMAX_KERNEL inline void RunWidened(const RowBatch& b, size_t length, void (*run)(const RowBatch&)) {
  constexpr auto kItem = static_cast<ptrdiff_t>(sizeof(float));
  const Rows<const S> all_x = {reinterpret_cast<const S*>(b.x), b.x_stride, b.x_places};
  const Rows<S> all_y = {reinterpret_cast<S*>(b.y), b.y_stride, b.y_places};
  ForEachWidenedBlock<S>(all_x, b.rows, b.n, b.far, [&](size_t r, size_t rows, float* x) {
    RowBatch wide = b;
    wide.x = reinterpret_cast<const char*>(x);
    wide.x_stride = static_cast<ptrdiff_t>(b.n) * kItem;
    wide.y = reinterpret_cast<char*>(x);
    wide.y_stride = static_cast<ptrdiff_t>(length) * kItem;
    wide.x_places = wide.y_places = nullptr;
    if (b.mask != nullptr) wide.mask = Offset<const uint8_t>(b.mask, r, b.mask_stride);
    wide.temperature = Offset<const double>(reinterpret_cast<const char*>(b.temperature), r, b.temperature_stride);
    wide.rows = rows;
    wide.far = wide.stream = false;
    run(wide);
    NarrowRows(x, all_y.From(r), rows, length, b.stream);
  });
  if (b.stream) StreamFence();
}

template <class S, class Forms>
inline void RunRows(const RowBatch& b) {
  using Operation = typename Forms::template OnRow<S>;
  using T = Compute<S>;
  if constexpr (requires { ResultOfOne<Operation>::Of(VecOf<S>{}); }) {
    if (IsBatchOfOnes<S>(b)) return RunRowsOfOne<S, ResultOfOne<Operation>>(b);
  }
  constexpr size_t kMost = Forms::kNeedsLogSum ? kPaneledForLogs<T> : kPaneled<T>;
  // One of more than 14 KB, with its exponentials and results, leaves no room for the next one in the first-level
  // cache.
  constexpr size_t kMostFar = Forms::kNeedsLogSum ? kMost : 14336 / (sizeof(S) * VecOf<S>::kLanes);
  if (b.n == 0 || b.n > kMost || (b.far && b.n > kMostFar)) return RunOverlapping<S, Operation>(b);
  constexpr bool kCoarse = Operation::kCoarse;
  WithBool(b.scaled, [&]<bool kScaled>(Bool<kScaled>) {
    const bool is_transposed = InOrder<VecOf<S>, Forms::kNeedsLogSum>(b.n) == b.n;
    const auto run = is_transposed ? RunTransposed<kCoarse, kScaled, T, Forms> : RunAlong<kCoarse, kScaled, T, Forms>;
    if constexpr (sizeof(S) == sizeof(T)) {
      run(b);
    } else {
      // With vectors of 64 bytes, panels take so few instructions that widening is a tenth to a third of the time.
      if constexpr (VecOf<S>::kLanes == 16) {
        if (!is_transposed) return RunAlong<kCoarse, true, S, Forms>(b);
      }
      RunWidened<S>(b, Forms::kReduces ? 1 : b.n, run);
    }
  });
}

// A row or a piece of one.
template <class S>
inline Source<S> SourceOf(const Row& row) {
  return {static_cast<const S*>(row.x), row.mask};
}

// Runs a group of strips, if there are as many; false if a strip must run by itself.
template <class S, class Forms, class Columns>
inline bool RunGroup(const ColumnBatch& b, const Columns& x, size_t left, char* y) {
  using V = VecOf<S>;
  if constexpr (Forms::Groups::kExists) {
    if (x.n > V::kInOrder || b.scaled || x.lanes < V::kLanes || left < kStripsOfGroup * V::kLanes) return false;
    return Forms::Groups::Run(x, y, b.y_stride);
  }
  return false;
}

// Runs strips of kLanes columns, one after another, or short ones in groups. The first is narrower if that lets the
// results of others begin where cache lines do: then each of their stores fills a line, which is not read first.
template <class S, class Forms>
inline void RunColumns(const ColumnBatch& b) {
  using V = VecOf<S>;
  constexpr size_t kBytes = V::kLanes * sizeof(S), kLeast = 16 * V::kLanes;
  const char* t = reinterpret_cast<const char*>(b.temperature);
  StripTemperature<V> temperature;
  const bool alignable = !Forms::kReduces && b.columns >= kLeast && b.y_stride % static_cast<ptrdiff_t>(kBytes) == 0;
  size_t lanes = alignable ? ToAligned<V>(reinterpret_cast<const S*>(b.y)) : 0;
  if (lanes == 0) lanes = V::kLanes;
  for (size_t c = 0; c < b.columns; c += lanes, lanes = V::kLanes) {
    const size_t left = b.columns - c;
    lanes = left < lanes ? left : lanes;
    const Strip<S, Forms::template OnRow<S>::kCoarse> x = {b.x + c * sizeof(S), b.x_stride, b.n, lanes};
    char* y = b.y + c * sizeof(S);
    if (RunGroup<S, Forms>(b, x, left, y)) {
      lanes *= kStripsOfGroup;
      continue;
    }
    if (b.scaled) temperature = {Offset<const double>(t, c, b.temperature_stride), b.temperature_stride, lanes};
    Forms::OnStrip(x, y, b.y_stride, temperature);
  }
}

template <class S>
struct Kernels {
  using T = Compute<S>;

  BOLTZMAX_KERNEL static RowSum Reduce(const Row& row) {
    const auto x = SourceOf<S>(row);
    return ReduceRow(x, row.n, TemperatureOf(row), GuessMax(x, row.n), KeepNothing{}, row.far);
  }
  static Sum ReduceWithoutLargest(const Row& row, const RowSum& sum) {
    return ReduceRest(SourceOf<S>(row), row.n, TemperatureOf(row), sum);
  }
  BOLTZMAX_KERNEL static RowSum ReduceToMean(const Row& row, double* mean) {
    return ReduceMean(SourceOf<S>(row), row.n, TemperatureOf(row), row.far, mean);
  }
  BOLTZMAX_KERNEL static double SumDistances(const Row& row, double from) {
    return SumOfDistances(Source<S>{static_cast<const S*>(row.x), nullptr}, row.n, from);
  }
  static size_t CountAbove(const Row& row, double limit) {
    return kernels::CountAbove(Source<S>{static_cast<const S*>(row.x), nullptr}, row.n, limit);
  }
  static size_t GroupMaxima(const Row& row, double* maxima) {
    return MaximaOfGroups(Source<S>{static_cast<const S*>(row.x), nullptr}, row.n, maxima);
  }
  static size_t FindAbove(const Row& row, double limit, size_t begin, size_t most, Element* found, size_t* count) {
    const Source<S> x = {static_cast<const S*>(row.x), nullptr};
    return kernels::FindAbove(x, row.n, limit, begin, most, found, count);
  }
  template <class Operation>
  BOLTZMAX_KERNEL static void Finish(const Row& row, const RowSum& sum, const Sum& log_sum) {
    Operation::Finish(SourceOf<S>(row), static_cast<S*>(row.y), row, sum, log_sum);
    if (row.stream) StreamFence();
  }
  BOLTZMAX_KERNEL static void MapAffineSoftmax(const Row& row, const RowSum& sum, double gain, double add) {
    AffineSoftmaxMap(SourceOf<S>(row), static_cast<S*>(row.y), row.n, TemperatureOf(row), sum, gain, add, row.stream);
    if (row.stream) StreamFence();
  }
  static void StoreOne(void* y, double value) { StoreScalar(static_cast<S*>(y), value); }

  template <class Gradient>
  BOLTZMAX_KERNEL static Sum ReduceGradient(const GradRow& row) {
    return BackwardReduce<S, Gradient>(static_cast<const S*>(row.dy), static_cast<const S*>(row.y), row.n);
  }
  template <class Gradient>
  BOLTZMAX_KERNEL static void MapGradient(const GradRow& row, const Sum& sum) {
    BackwardMapRow(Gradient(), static_cast<const S*>(row.dy), static_cast<const S*>(row.y), static_cast<S*>(row.dx),
                   row.n, static_cast<T>(sum.hi));
  }

#define BOLTZMAX_OP_KERNELS(name, Name, ...) \
  {.rows = RunRows<S, Name##Forms>, .columns = RunColumns<S, Name##Forms>, .finish = Finish<Name##Op<S>>},
#define BOLTZMAX_GRADIENT_KERNELS(name, Name)           \
  table.gradients[static_cast<size_t>(Op::k##Name)] = { \
      .rows = BackwardRows<S, Name##Gradient<Vec<T>>>,  \
      .reduce = ReduceGradient<Name##Gradient<Vec<T>>>, \
      .map = MapGradient<Name##Gradient<Vec<T>>>,       \
  };
  static constexpr StorageKernels MakeTable() {
    StorageKernels table = {
        .ops = {BOLTZMAX_FOR_EACH_OPERATION(BOLTZMAX_OP_KERNELS)},
        .gradients = {},
        .reduce = Reduce,
        .reduce_rest = ReduceWithoutLargest,
        .log_of_sum = LogOfSum<T>,
        .log_of_peaked_sum = LogOfPeakedSum<T>,
        .affine_softmax_map = MapAffineSoftmax,
        .store_scalar = StoreOne,
        .reduce_mean = ReduceToMean,
        .sum_distances = SumDistances,
        .count_above = CountAbove,
        .find_above = FindAbove,
        .group_maxima = GroupMaxima,
        .read_once = Vec<T>::kLanes * sizeof(S) == 64 ? Vec<T>::kInOrder : 0,
    };
    BOLTZMAX_FOR_EACH_GRADIENT(BOLTZMAX_GRADIENT_KERNELS)
    return table;
  }
#undef BOLTZMAX_OP_KERNELS
#undef BOLTZMAX_GRADIENT_KERNELS
};
template <class S>
constexpr StorageKernels kStorageKernels = Kernels<S>::MakeTable();

template <class T>
constexpr UnitKernels<T> kUnits = {DotRows<T>, AddRows<T>, LogSigmoid<T>};

constexpr KernelTable MakeTable(const char* isa) {
  return {
      .isa = isa,
      .losses = &BOLTZMAX_ISA::kLosses,
      .pointwise = &BOLTZMAX_ISA::kPointwise,
      .tiles = &BOLTZMAX_ISA::kTiles,
      .weighted = &BOLTZMAX_ISA::kWeighted,
      .units_f32 = kUnits<float>,
      .units_f64 = kUnits<double>,
      BOLTZMAX_FOR_EACH_STORAGE(BOLTZMAX_VALUE, kStorageKernels)  //
  };
}

}  // namespace
}  // namespace boltzmax::kernels
