#include "sets.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <vector>

#include "../runtime/convert.hpp"
#include "../runtime/row_blocks.hpp"
#include "nucleus.hpp"

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

const SetKernels<float>& KernelsOf(const SetTable& table, float) { return table.f32; }
const SetKernels<double>& KernelsOf(const SetTable& table, double) { return table.f64; }

// Calls f with a number of the arithmetic type.
template <class F>
void WithType(DType storage, F f) {
  storage == DType::kFloat64 ? f(0.0) : f(0.0F);
}

// The rows as numbers of type T: in place, or widened one block at a time.
template <class T>
class WideRows {
 public:
  explicit WideRows(const ScoreRows& rows)
      : rows_(rows),
        widens_(ItemSize(rows.storage) != sizeof(T)),
        gather_(Gather(rows.storage, sizeof(T) == sizeof(float) ? DType::kFloat32 : DType::kFloat64)) {}

  struct View {
    const T* x;
    ptrdiff_t stride;
  };
  View Get(size_t first, size_t count) {
    const char* from = rows_.x + static_cast<ptrdiff_t>(first) * rows_.stride;
    if (!widens_) return {reinterpret_cast<const T*>(from), rows_.stride};
    wide_.resize(std::max(wide_.size(), count * rows_.n));
    for (size_t r = 0; r < count; ++r) {
      gather_(from + static_cast<ptrdiff_t>(r) * rows_.stride, static_cast<ptrdiff_t>(ItemSize(rows_.storage)), rows_.n,
              wide_.data() + r * rows_.n);
    }
    return {wide_.data(), static_cast<ptrdiff_t>(rows_.n * sizeof(T))};
  }

 private:
  const ScoreRows& rows_;
  bool widens_;
  GatherFn gather_;
  std::vector<T> wide_;
};

template <class T>
const T& At(const typename WideRows<T>::View& view, size_t r, int64_t c) {
  return *(reinterpret_cast<const T*>(reinterpret_cast<const char*>(view.x) + static_cast<ptrdiff_t>(r) * view.stride) +
           c);
}

double CostOf(const ScoreRows& rows) { return 1.5 * EstimateNanoseconds(rows.rows, rows.n, rows.storage); }

// ---- sets ----

// The sets of one row after another; memory is kept from row to row.
template <class T>
class SetBuilder {
 public:
  explicit SetBuilder(const SetsProblem& problem)
      : p_(problem),
        kernels_(KernelsOf(ActiveSets(), T())),
        rows_(problem.rows),
        n_(problem.rows.n),
        e_(n_),
        search_(kernels_, problem.rule, n_) {
    if (p_.thresholds == nullptr) return;
    threshold_ = -kInfinity;
    for (size_t c = 0; c < n_; ++c) {
      if (p_.thresholds[c] < kInfinity) threshold_ = std::max(threshold_, p_.thresholds[c]);
    }
  }

  // Writes the set of a row at a place of the results; returns its size.
  size_t Write(size_t r, size_t at) {
    const T* x = rows_.Get(r, 1).x;
    places_ = p_.classes + at;
    probabilities_ = static_cast<T*>(p_.probabilities) + at;
    const RowTerms<T> terms = kernels_.terms(x, n_, e_.data());
    search_.Begin(x, terms, p_.u[r]);
    scale_ = static_cast<T>(1.0 / terms.total);
    size_t count;
    if (terms.total != terms.total || threshold_ == kInfinity) {
      count = All();
    } else {
      count = threshold_ == -kInfinity ? 0 : Below(x, terms);
      if (p_.thresholds != nullptr) count = OfClasses(x, count);
    }
    return count;
  }

 private:
  size_t All() {
    for (size_t c = 0; c < n_; ++c) places_[c] = static_cast<int32_t>(c);
    for (size_t c = 0; c < n_; ++c) probabilities_[c] = e_[c] * scale_;
    return n_;
  }
  size_t From(const T* key, T least) {
    return kernels_.places_from(key, e_.data(), n_, least, scale_, places_, probabilities_);
  }

  // The classes whose scores are at most the threshold.
  size_t Below(const T* x, const RowTerms<T>& terms) {
    return p_.rule.kind == ScoreKind::kLac ? Likely(x, terms) : From(x, search_.Border(e_.data(), threshold_));
  }
  // Those of enough probability.
  size_t Likely(const T* x, const RowTerms<T>& terms) {
    // Scores near 1 are rounded to 2^-53; the rest of the margins is for the exponentials.
    const double p = 1.0 - threshold_, near = std::abs(p) * 0x1p-16 + 0x1p-52;
    const T bounds[2] = {static_cast<T>(std::max(0.0, p + near) * terms.total),
                         static_cast<T>(std::max(0.0, p - near) * terms.total)};
    const size_t count = From(e_.data(), bounds[1]);
    if (count > n_ / 8) {  // perhaps none of many is near the bound
      Upper uppers[2];
      kernels_.uppers(e_.data(), e_.data(), n_, bounds, uppers);
      if (uppers[0].count == uppers[1].count) return count;
    }
    size_t kept = 0;
    for (size_t i = 0; i < count; ++i) {
      const auto c = static_cast<size_t>(places_[i]);
      const double own = static_cast<double>(e_[c]);
      if (e_[c] < bounds[0] && !search_.IsIn(search_.MassOf(0.0, 0.0, own, 0.0), x[c], threshold_)) continue;
      places_[kept] = places_[i];
      probabilities_[kept++] = probabilities_[i];
    }
    return kept;
  }

  // Of `count` classes, those whose own threshold allows them; and all those without one.
  size_t OfClasses(const T* x, size_t count) {
    ScoreMembers(x, count);
    size_t kept = 0;
    for (size_t c = 0, i = 0; c < n_; ++c) {
      const bool is_member = i < members_.size() && static_cast<size_t>(members_[i].place) == c;
      const bool is_in = is_member && members_[i].is_in;
      i += is_member;
      if (!is_in && p_.thresholds[c] < kInfinity) continue;
      places_[kept] = static_cast<int32_t>(c);
      probabilities_[kept++] = e_[c] * scale_;
    }
    return kept;
  }

  struct Member {
    T x, e;
    int32_t place;
    bool is_in;
  };
  // Scores the members of a set, largest first, ties together; they are left in the order of their places.
  void ScoreMembers(const T* x, size_t count) {
    members_.clear();
    for (size_t i = 0; i < count; ++i)
      members_.push_back({x[places_[i]], e_[static_cast<size_t>(places_[i])], places_[i], false});
    std::sort(members_.begin(), members_.end(), [](const Member& a, const Member& b) { return a.x > b.x; });
    MassSum mass;
    for (size_t i = 0; i < members_.size();) {
      const double above = mass.Total();
      size_t end = i;
      for (; end < members_.size() && members_[end].x == members_[i].x; ++end) {
        mass.Add(static_cast<double>(members_[end].e));
      }
      const LabelMass known =
          search_.MassOf(above, mass.Total(), static_cast<double>(members_[i].e), static_cast<double>(i));
      for (size_t j = i; j < end; ++j) {
        const double threshold = p_.thresholds[members_[j].place];
        members_[j].is_in = threshold == kInfinity || search_.IsIn(known, members_[j].x, threshold);
      }
      i = end;
    }
    std::sort(members_.begin(), members_.end(), [](const Member& a, const Member& b) { return a.place < b.place; });
  }

  const SetsProblem& p_;
  const SetKernels<T>& kernels_;
  WideRows<T> rows_;
  size_t n_;
  double threshold_ = p_.threshold;  // the largest of all classes' finite ones
  std::vector<T> e_;
  int32_t* places_ = nullptr;   // of the classes of the row's set, at the end of the result
  T* probabilities_ = nullptr;  // theirs
  T scale_ = 0;                 // from exponentials to probabilities
  std::vector<Member> members_;
  NucleusSearch<T> search_;
};

}  // namespace

void LabelScores(const ScoreRows& rows, const ScoreRule& rule, const int64_t* label, const double* u, double* score) {
  if (rows.rows == 0 || rows.n == 0) return;
  constexpr size_t kBatch = 64;
  WithType(rows.storage, [&]<class T>(T) {
    const SetKernels<T>& kernels = KernelsOf(ActiveSets(), T());
    ForEachRowBlock(rows.rows, rows.n, CostOf(rows), [&](size_t begin, size_t end) {
      WideRows<T> wide(rows);
      for (size_t first = begin; first < end; first += kBatch) {
        const size_t count = std::min(kBatch, end - first);
        const auto view = wide.Get(first, count);
        T at[kBatch];
        LabelMass mass[kBatch];
        for (size_t r = 0; r < count; ++r) at[r] = At<T>(view, r, label[first + r]);
        kernels.label_masses(view.x, view.stride, count, rows.n, at, mass);
        for (size_t r = 0; r < count; ++r) score[first + r] = rule.Score(mass[r], u[first + r]);
      }
    });
  });
}

size_t PredictSets(const SetsProblem& problem) {
  const ScoreRows& rows = problem.rows;
  if (rows.rows == 0 || rows.n == 0) return 0;
  // A block of rows writes where its sets would be if all were full; then they are moved together.
  struct Block {
    size_t at, size;
  };
  std::vector<Block> blocks;
  std::mutex mutex;
  size_t total = 0;
  WithType(rows.storage, [&]<class T>(T) {
    ForEachRowBlock(rows.rows, rows.n, 2.0 * CostOf(rows), [&](size_t begin, size_t end) {
      SetBuilder<T> builder(problem);
      const size_t at = begin * rows.n;
      size_t size = 0;
      for (size_t r = begin; r < end; ++r) {
        const size_t count = builder.Write(r, at + size);
        problem.size[r] = static_cast<int64_t>(count);
        size += count;
      }
      const std::scoped_lock lock(mutex);
      blocks.push_back({at, size});
    });
    std::sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) { return a.at < b.at; });
    auto* p = static_cast<T*>(problem.probabilities);
    for (const Block& block : blocks) {
      std::copy_n(problem.classes + block.at, block.size, problem.classes + total);
      std::copy_n(p + block.at, block.size, p + total);
      total += block.size;
    }
  });
  return total;
}

}  // namespace boltzmax
