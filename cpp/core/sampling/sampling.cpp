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
  using Base::has_sums_, Base::kept_, Base::mass_split_, Base::sums_, Base::temperature_, Base::Unit;

  // ---- draws ----

  double TotalOfFew() {
    few_.Terms(Unit());
    return few_.Total();
  }

  // Sums the terms of what is left: of single classes, if they are few, or of groups. Returns the number of classes.
  size_t Prepare() {
    size_t kept = few_.Size();
    if (is_few_) {
      sums_ = few_.Terms(Unit());
    } else if (has_sums_) {
      kept = kept_;
    } else {
      passes_.SetUnit(range_, temperature_);
      passes_.Masses(range_, false, &sums_);
      kept = passes_.Count(range_);
    }
    double total = 0.0;
    for (double& sum : sums_) sum = total += sum;
    log_total_ = std::log(total);
    return kept;
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

  // One number selects a group by its share of the mass, another a class of it.
  Class OneOfRange(size_t draw) {
    const PhiloxBlock random = Philox(key_, counter_, Purpose::kSample, draw);
    group_.clear();
    group_sums_.clear();
    double total = 0.0;
    const auto add = [&](double term, size_t i, T x) {
      group_.push_back({static_cast<double>(x), static_cast<int64_t>(i)});
      group_sums_.push_back(total += term);
    };
    const size_t group = PlaceOf(ShareOf(random.Lower()), sums_);
    if (has_sums_) mass_split_->ForTermsOf(range_, group, add);
    else passes_.ForTermsOfGroup(range_, group, add);
    Class c = group_[PlaceOf(ShareOf(random.Upper()), group_sums_)];
    if (has_sums_) c.id = static_cast<int64_t>(mass_split_->IdOf(group, static_cast<size_t>(c.id)));
    return c;
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

  double log_total_ = 0.0;
  std::unordered_set<int64_t> is_drawn_;
  std::vector<Class> group_;
  std::vector<double> group_sums_;
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
