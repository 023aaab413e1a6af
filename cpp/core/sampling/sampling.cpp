#include "sampling.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_set>
#include <vector>

#include "../runtime/row_blocks.hpp"
#include "filtered_row.hpp"

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();

// Draws from what the filters of a row leave, or writes it.
template <class T>
class RowSampler : public FilteredRow<T> {
 public:
  using Base = FilteredRow<T>;
  using Base::Base;

  void Draw() {
    const size_t at = row_ * p_.draws, kept = Prepare();
    p_.kept[row_] = static_cast<int64_t>(kept);
    if (!p_.replace && p_.draws > kept) {
      p_.state[row_] = RowState::kTooFew;
      return;
    }
    is_drawn_.clear();
    size_t done = 0;
    // Without replacement, classes that come again are passed over. For many draws, a race takes less time.
    const size_t most = p_.replace ? p_.draws : p_.draws > kept / 8 ? 0 : 4 * p_.draws + 64;
    for (size_t attempt = 0; done < p_.draws && attempt < most; ++attempt) {
      const Class c = is_few_ ? OneOfFew(attempt) : OneOfRange(attempt);
      if (p_.replace || is_drawn_.insert(c.id).second) Put(at + done++, c);
    }
    if (done < p_.draws) Race(at + done, p_.draws - done);
  }

  // Writes the logits that are left, or their probabilities.
  void Write() {
    const GatherFn store = Gather(DType::kFloat64, p_.storage);
    const size_t item = ItemSize(p_.storage);
    char* y = p_.y + row_ * p_.n * item;
    const double missing = p_.probabilities ? 0.0 : -kInfinity;
    double total = 0.0;
    if (is_few_) {
      total = p_.probabilities ? TotalOfFew() : 1.0;
    } else {
      passes_.SetUnit(range_, temperature_);
      if (p_.probabilities) passes_.ForTerms(range_, [&](double, double term, size_t) { total += term; });
    }
    std::vector<double> buffer(std::min(p_.n, RowReader<T>::kPiece));
    if (is_few_) {
      for (size_t begin = 0; begin < p_.n; begin += buffer.size()) {
        const size_t count = std::min(buffer.size(), p_.n - begin);
        store(reinterpret_cast<const char*>(&missing), 0, count, y + begin * item);
      }
      const std::vector<double>* terms = p_.probabilities ? &few_.Terms(Unit()) : nullptr;
      for (size_t i = 0; i < few_.Size(); ++i) {
        const double value = terms != nullptr ? (*terms)[i] / total : few_[i].x / Unit();
        store(reinterpret_cast<const char*>(&value), sizeof value, 1, y + static_cast<size_t>(few_[i].id) * item);
      }
      return;
    }
    passes_.WritePieces(
        range_, p_.probabilities, [&](const T* x, const double* terms, size_t begin, size_t n, auto is_left) {
          for (size_t i = 0; i < n; ++i) {
            const double left = p_.probabilities ? terms[i] / total : static_cast<double>(x[i]) / temperature_;
            buffer[i] = is_left(x[i], begin + i) ? left : missing;
          }
          store(reinterpret_cast<const char*>(buffer.data()), sizeof(double), n, y + begin * item);
        });
  }

 private:
  using Base::counter_, Base::few_, Base::is_few_, Base::key_, Base::p_, Base::passes_, Base::range_, Base::row_;
  using Base::has_left_, Base::has_sums_, Base::left_, Base::sums_, Base::TakeSums, Base::temperature_, Base::Unit;

  // ---- draws ----

  double TotalOfFew() {
    few_.Terms(Unit());
    return few_.Total();
  }

  // Sums the terms: of single classes that are left, if they are few, or of groups, which may have others, too. Returns
  // the number of classes that are left.
  size_t Prepare() {
    if (is_few_) {
      sums_ = few_.Terms(Unit());
      left_ = {few_.Size(), few_.Total()};
    } else {
      passes_.SetUnit(range_, temperature_);
      if (has_left_ && left_.mass < kLeastShare * RowPasses<T>::Sum(sums_)) has_sums_ = false;
      TakeSums();
      if (!has_left_) left_ = {passes_.Count(range_), RowPasses<T>::Sum(sums_)};
    }
    double total = 0.0;
    for (double& sum : sums_) sum = total += sum;
    log_total_ = std::log(left_.mass);
    return left_.count;
  }

  // The logarithm of the exact term of a class.
  double LogTerm(double x) const { return (x - (is_few_ ? few_[0].x : static_cast<double>(range_.hi))) / Unit(); }

  void Put(size_t at, const Class& c) {
    p_.id[at] = c.id;
    p_.log_prob[at] = LogTerm(c.x) - log_total_;
  }

  Class OneOfFew(size_t draw) {
    return few_[PlaceOf(ShareOf(Philox(key_, counter_, Purpose::kSample, draw).Lower()), sums_)];
  }

  // One number selects a group by its mass, another a class of it by exact terms. Where that is one that was left out, the
  // next two numbers decide. The mass is made a little larger, so that no term is beyond it.
  Class OneOfRange(size_t draw) {
    for (uint32_t attempt = 0;; ++attempt) {
      const PhiloxBlock random = Philox(key_, counter_, Purpose::kSample, draw, attempt);
      const size_t group = PlaceOf(ShareOf(random.Lower()), sums_);
      const double mass = sums_[group] - (group == 0 ? 0.0 : sums_[group - 1]);
      double rest = ShareOf(random.Upper()) * mass * (1.0 + 2.0 * passes_.Error());
      Class drawn = {0.0, -1};
      passes_.ForTermsOfGroup(range_, group, [&](double term, size_t i, T x) {
        if (rest >= 0.0 && rest < term) drawn = {static_cast<double>(x), static_cast<int64_t>(i)};
        rest -= term;
      });
      if (drawn.id >= 0) return drawn;
    }
  }

  // The place of the first sum that exceeds a share of the whole: never one of a term of 0.
  static size_t PlaceOf(double share, const std::vector<double>& sums) {
    auto at = std::upper_bound(sums.begin(), sums.end(), share * sums.back());
    if (at == sums.end()) at = std::lower_bound(sums.begin(), sums.end(), sums.back());
    return static_cast<size_t>(at - sums.begin());
  }

  // Draws without replacement from what has not been drawn: the first arrivals of a race, at rates that are the terms.
  // Times are logarithms, so that no term is too small to arrive. Late runners are dropped now and then.
  void Race(size_t at, size_t draws) {
    runners_.clear();
    const auto add = [&](double x, size_t i) {
      const auto id = static_cast<int64_t>(i);
      if (is_drawn_.contains(id)) return;
      const double u = ShareOf(Philox(key_, counter_, Purpose::kRace, i).Lower());
      runners_.push_back({std::log(-std::log1p(-u)) - LogTerm(x), {x, id}});
      if (runners_.size() < 2 * draws + 64) return;
      std::nth_element(runners_.begin(), runners_.begin() + static_cast<ptrdiff_t>(draws), runners_.end());
      runners_.resize(draws);
    };
    if (is_few_) {
      for (size_t i = 0; i < few_.Size(); ++i) add(few_[i].x, static_cast<size_t>(few_[i].id));
    } else {
      passes_.ForClasses(range_, add);
    }
    std::partial_sort(runners_.begin(), runners_.begin() + static_cast<ptrdiff_t>(draws), runners_.end());
    for (size_t i = 0; i < draws; ++i) Put(at + i, runners_[i].c);
  }

  struct Runner {
    double time;
    Class c;

    bool operator<(const Runner& other) const { return time < other.time || (time == other.time && c.id < other.c.id); }
  };

  static constexpr double kLeastShare = 0.25;  // of draws that are not made again

  double log_total_ = 0.0;
  std::unordered_set<int64_t> is_drawn_;
  std::vector<Runner> runners_;
};

template <class T, class Run>
void RunRows(const SampleProblem& p, size_t begin, size_t end, Run run) {
  RowSampler<T> sampler(p);
  for (size_t r = begin; r < end; ++r) {
    p.state[r] = RowState::kDrawn;
    if (sampler.Filter(r)) run(sampler);
    else p.state[r] = RowState::kBad;
  }
}

template <class Run>
void ForRows(const SampleProblem& p, Run run) {
  ForEachRowBlock(p.rows, p.n, EstimateNanoseconds(p.rows, p.n, p.storage), [&](size_t begin, size_t end) {
    if (p.storage == DType::kFloat64) return RunRows<double>(p, begin, end, run);
    RunRows<float>(p, begin, end, run);
  });
}

}  // namespace

void SampleRows(const SampleProblem& p) {
  ForRows(p, [](auto& sampler) { sampler.Draw(); });
  for (size_t r = 0; r < p.rows; ++r) {
    if (p.state[r] != RowState::kBad) continue;
    std::fill_n(p.id + r * p.draws, p.draws, -1);
    std::fill_n(p.log_prob + r * p.draws, p.draws, kNan);
    p.kept[r] = 0;
  }
}

void FilterRows(const SampleProblem& p) {
  ForRows(p, [](auto& sampler) { sampler.Write(); });
  const GatherFn store = Gather(DType::kFloat64, p.storage);
  for (size_t r = 0; r < p.rows; ++r) {
    if (p.state[r] != RowState::kBad) continue;
    const size_t item = ItemSize(p.storage);
    store(reinterpret_cast<const char*>(&kNan), 0, p.n, p.y + r * p.n * item);
  }
}

}  // namespace boltzmax
