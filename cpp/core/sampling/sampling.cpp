#include "sampling.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
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
    const size_t at = row_ * p_.draws;
    const size_t kept = is_few_ ? few_.Size() : has_sums_ ? Search().Kept() : passes_.Count(range_);
    p_.kept[row_] = static_cast<int64_t>(kept);
    if (!p_.replace && p_.draws > kept) {
      p_.state[row_] = RowState::kTooFew;
      return;
    }
    is_few_ ? DrawFromFew(p_.id + at, p_.log_prob + at) : DrawFromRange(p_.id + at, p_.log_prob + at);
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
  using Base::counter_, Base::few_, Base::has_sums_, Base::is_few_, Base::key_, Base::p_, Base::passes_, Base::range_;
  using Base::row_, Base::Search, Base::sums_, Base::sums_temperature_, Base::temperature_, Base::Unit;

  // ---- draws ----

  double TotalOfFew() {
    few_.Terms(Unit());
    return few_.Total();
  }

  void DrawFromFew(int64_t* id, double* log_prob) {
    std::vector<double>& terms = sums_;
    terms = few_.Terms(Unit());
    double total = few_.Total();
    const double log_total = std::log(total);
    for (size_t d = 0; d < p_.draws; ++d) {
      const double target = ShareOf(Philox(key_, counter_, Purpose::kSample, d).Lower()) * total;
      double sum = 0.0;
      size_t chosen = 0;
      for (size_t i = 0; i < terms.size(); ++i) {
        if (terms[i] > 0.0) chosen = i;
        sum += terms[i];
        if (sum > target) break;
      }
      id[d] = few_[chosen].id;
      log_prob[d] = (few_[chosen].x - few_[0].x) / Unit() - log_total;
      if (!p_.replace) {
        terms[chosen] = 0.0;
        total = 0.0;
        for (const double term : terms) total += term;
      }
    }
  }

  void DrawFromRange(int64_t* id, double* log_prob) {
    passes_.SetUnit(range_, temperature_);
    if (has_sums_ && temperature_ == sums_temperature_) sums_ = Search().Sums();
    else passes_.Masses(range_, false, &sums_);
    Accumulate(&sums_);
    exact_sums_.clear();
    const double log_total = std::log(sums_.back());
    size_t done = 0, attempts = 0;
    const size_t most = p_.replace ? p_.draws : 4 * p_.draws + 64;
    for (; done < p_.draws && attempts < most; ++attempts) {
      const Class c = DrawOne(attempts);
      if (!p_.replace && std::find(id, id + done, c.id) != id + done) continue;
      id[done] = c.id;
      log_prob[done++] = (c.x - static_cast<double>(range_.hi)) / temperature_ - log_total;
    }
    if (done < p_.draws) Race(id, log_prob, done, log_total);
  }

  static void Accumulate(std::vector<double>* sums) {
    double total = 0.0;
    for (double& sum : *sums) sum = total += sum;
  }

  // One number selects a group by its share of the mass, another a class of it.
  Class DrawOne(size_t draw) {
    const PhiloxBlock random = Philox(key_, counter_, Purpose::kSample, draw);
    size_t group = 0;
    const double share = ShareOf(random.Lower()), margin = 8.0 * passes_.Error();
    if (!Choose(exact_sums_.empty() ? sums_ : exact_sums_, share, exact_sums_.empty() ? margin : 0.0, &group)) {
      passes_.Masses(range_, true, &exact_sums_);
      Accumulate(&exact_sums_);
      Choose(exact_sums_, share, 0.0, &group);
    }
    group_.clear();
    double total = 0.0;
    passes_.ForTermsOfGroup(range_, group, [&](double term, size_t i, T x) {
      if (!(term > 0.0)) return;
      group_.push_back({total += term, {static_cast<double>(x), static_cast<int64_t>(i)}});
    });
    const double target = ShareOf(random.Upper()) * total;
    const auto above = [&](const Edge& e) { return e.sum <= target; };
    const auto chosen = std::partition_point(group_.begin(), group_.end(), above);
    return chosen == group_.end() ? group_.back().c : chosen->c;
  }

  // The first group whose sum exceeds a share of the whole; false if that is too near to an edge.
  static bool Choose(const std::vector<double>& sums, double share, double margin, size_t* group) {
    const double target = share * sums.back(), near = margin * sums.back();
    auto edge = std::upper_bound(sums.begin(), sums.end(), target);
    if (edge == sums.end()) edge = std::lower_bound(sums.begin(), sums.end(), sums.back());
    *group = static_cast<size_t>(edge - sums.begin());
    const double lower = edge == sums.begin() ? 0.0 : edge[-1];
    return margin == 0.0 || (*edge - target > near && target - lower > near);
  }

  // The rest of draws without replacement: the first arrivals of a race, at rates that are the terms.
  void Race(int64_t* id, double* log_prob, size_t done, double log_total) {
    struct Runner {
      double time;
      Class c;
    };
    std::vector<Runner> runners;
    passes_.ForTerms(range_, [&](double x, double term, size_t i) {
      const auto c = static_cast<int64_t>(i);
      if (!(term > 0.0) || std::find(id, id + done, c) != id + done) return;
      const double u = ShareOf(Philox(key_, counter_, Purpose::kRace, i).Lower());
      runners.push_back({-std::log1p(-u) / term, {x, c}});
    });
    const size_t rest = std::min(p_.draws - done, runners.size());
    std::partial_sort(runners.begin(), runners.begin() + static_cast<ptrdiff_t>(rest), runners.end(),
                      [](const Runner& a, const Runner& b) { return a.time < b.time; });
    for (size_t i = 0; i < rest; ++i, ++done) {
      id[done] = runners[i].c.id;
      log_prob[done] = (runners[i].c.x - static_cast<double>(range_.hi)) / temperature_ - log_total;
    }
    if (done < p_.draws) p_.state[row_] = RowState::kTooFew;  // the others have probability 0
  }

  // The sum of terms up to a class.
  struct Edge {
    double sum;
    Class c;
  };

  std::vector<double> exact_sums_;
  std::vector<Edge> group_;
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
