#include "sampling.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "../runtime/row_blocks.hpp"
#include "cut.hpp"
#include "few_classes.hpp"
#include "row_passes.hpp"

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();

constexpr Purpose kRacePurpose = static_cast<Purpose>(5);

double ShareOf(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

// The classes of a row that the steps leave: a range of the row, or, once they are few, a list of them.
template <class T>
class RowSampler {
 public:
  explicit RowSampler(const SampleProblem& p) : p_(p), passes_(p), key_(MakePhiloxKey(p.key)) {}

  // Applies the program; false for a row of which nothing can be drawn.
  bool Filter(size_t row) {
    row_ = row;
    counter_ = p_.counters == nullptr ? row : p_.counters[row];
    temperature_ = 1.0;
    is_few_ = false;
    is_hi_cut_ = has_sums_ = false;
    if (p_.n == 0 || !passes_.Open(row, &range_)) return false;
    if (p_.n <= kShortRow) CollectFew();
    for (size_t i = 0; i < p_.line_count; ++i) Apply(p_.lines[i], i);
    return true;
  }

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
  // A list is sorted, and more than this takes longer than another pass over a row.
  static constexpr size_t kFew = 512, kTopFew = 64, kFound = 16384, kRoom = 64, kShortRow = 128;

  // ---- steps ----

  void Apply(const FilterLine& line, size_t place) {
    const double number = line.number[row_];
    switch (line.filter) {
      case Filter::kTemperature: return ApplyTemperature(number);
      case Filter::kTopK: return TopK(number, line.rule != 0);
      case Filter::kTopP: return TopP(number);
      case Filter::kMinP: return MinP(number, line.rule != 0);
      case Filter::kTypicalP: return TypicalP(number, line.rule != 0);
      case Filter::kEpsilon: return AtLeast([&](double total, double) { return number * total; }, false);
      case Filter::kEta:
        return AtLeast([&](double total,
                           double entropy) { return std::min(number, std::sqrt(number) * std::exp(-entropy)) * total; },
                       true);
      case Filter::kTopNSigma: return TopNSigma(number);
      case Filter::kTopH: return TopH(number);
      case Filter::kXtc: return Xtc(number, line.other[row_], place);
    }
  }

  void ApplyTemperature(double t) {
    if (t == 0.0) TopK(1.0, false);
    else temperature_ *= t;
  }

  // A single class has the same probability at any temperature, and keeps its logit at 0.
  double Unit() const { return temperature_; }

  void TopK(double k, bool all_ties) {
    if (is_few_) return few_.TopK(k, all_ties);
    if (!(k < static_cast<double>(p_.n))) return;
    if (k <= static_cast<double>(kFew) && TopFew(static_cast<size_t>(k), all_ties)) return;
    const size_t count = passes_.Count(range_);
    if (k >= static_cast<double>(count)) return;
    const Cut<T> cut = Search().OfCount(range_, k, static_cast<double>(count));
    CutAfter(all_ties ? Cut<T>{cut.x, p_.n - 1} : cut);
    if (k <= static_cast<double>(kFew)) CollectFew();
  }

  bool TopFew(size_t k, bool all_ties) {
    if (!CollectTop(k)) return false;
    few_.SelectTop(k, all_ties);
    return is_few_ = true;
  }

  // Lists the likeliest classes, at least k if there are as many. The k-th largest maximum of a group is a bound below
  // the k-th largest logit. False if that are too many.
  bool CollectTop(size_t k) {
    const std::vector<T>& maxima = passes_.GroupMaxima();
    T bound = range_.lo;
    if (!is_hi_cut_ && maxima.size() >= k) {
      sorted_maxima_ = maxima;
      const auto last = sorted_maxima_.begin() + static_cast<ptrdiff_t>(k - 1);
      std::nth_element(sorted_maxima_.begin(), last, sorted_maxima_.end(), std::greater<>());
      bound = std::max(bound, *last);
    } else if (p_.n > kFound / 4) {
      return false;
    }
    if (!passes_.Collect(passes_.Within(range_, bound, range_.hi), Found())) return false;
    few_.Clear();
    for (size_t i = 0; i < found_.count; ++i) few_.Add({static_cast<double>(x_[i]), place_[i]});
    return true;
  }

  void TopP(double p) {
    if (p == 1.0) return;
    if (is_few_) return few_.TopP(p, Unit());
    passes_.SetUnit(range_, temperature_);
    passes_.Masses(range_, false, &sums_);
    if (TopFewOfMass(p)) return;
    CutAfter(Search().OfMass(range_, p, temperature_, sums_));
    has_sums_ = Search().HasSums();
    sums_temperature_ = temperature_;
    if (!has_sums_ || Search().Kept() <= kFew) CollectFew();
  }

  // Often a few classes have most of the mass. False if they do not.
  bool TopFewOfMass(double p) {
    if (is_hi_cut_ || !CollectTop(kTopFew) || few_.Size() > kFew) return false;
    few_.Sort();
    const std::vector<double>& terms = few_.Terms(Unit());
    double total = 0.0;
    for (const double group : sums_) total += group;
    // Whether some sum is too near to the border for a fast total.
    const double margin = p * total * passes_.Error();
    double sum = 0.0;
    bool is_near = false;
    for (const double term : terms) is_near |= std::abs((sum += term) - p * total) <= margin;
    if (is_near) {
      std::vector<double> exact;
      passes_.Masses(range_, true, &exact);
      total = 0.0;
      for (const double group : exact) total += group;
    }
    size_t count = 0;
    sum = 0.0;
    while (count < few_.Size() && sum < p * total) sum += terms[count++];
    if (sum < p * total) return false;
    few_.Keep(0, count);
    return is_few_ = true;
  }

  void MinP(double p, bool by_logarithm) {
    if (p == 0.0) return;
    const double max = is_few_ ? few_[0].x : static_cast<double>(range_.hi);
    const double bound = max + std::log(p) * temperature_;
    if (by_logarithm) return FromLogit(bound);
    if (is_few_) return few_.AtLeast(p, Unit());
    FromTerm(bound, p);
  }

  // Keeps the classes whose term is at least `least`, a number that depends on the sum of terms and the entropy.
  template <class Least>
  void AtLeast(Least least, bool with_entropy) {
    if (is_few_) {
      few_.Terms(Unit());
      return few_.AtLeast(least(few_.Total(), with_entropy ? few_.Entropy(Unit()) : 0.0), Unit());
    }
    double total = 0.0, entropy = 0.0;
    if (with_entropy) entropy = Entropy(&total);
    else total = ExactTotal();
    const double bound = least(total, entropy);
    FromTerm(static_cast<double>(range_.hi) + std::log(bound) * temperature_, std::min(bound, 1.0));
  }

  // Keeps the classes whose exact term is at least `least`, that is whose logit is about `bound`.
  void FromTerm(double bound, double least) {
    passes_.SetUnit(range_, temperature_);
    const auto term = [&](T x) {
      double e;
      passes_.ExactTerms(&x, 1, &e);
      return e;
    };
    T lo = std::clamp(static_cast<T>(bound), range_.lo, range_.hi);
    for (int i = 0; i < 64 && lo > range_.lo && term(NextBelow(lo)) >= least; ++i) lo = NextBelow(lo);
    for (int i = 0; i < 64 && lo < range_.hi && term(lo) < least; ++i) lo = NextAbove(lo);
    RaiseTo(lo);
  }

  void FromLogit(double bound) {
    if (is_few_) return few_.FromLogit(bound);
    // The least number of that type that is not below the bound.
    T lo = std::clamp(static_cast<T>(bound), range_.lo, range_.hi);
    if (static_cast<double>(lo) < bound && lo < range_.hi) lo = NextAbove(lo);
    RaiseTo(lo);
  }

  void RaiseTo(T lo) {
    if (lo > range_.lo) has_sums_ = false;
    range_ = passes_.Within(range_, lo, range_.hi);
    CollectFew();
  }

  void TopNSigma(double n) {
    if (is_few_) return few_.TopNSigma(n);
    const double max = static_cast<double>(range_.hi);
    double count = 0.0, sum = 0.0, squares = 0.0;
    passes_.ForRuns(range_, false, [&](const T* x, size_t, size_t size, T lo, T hi) {
      for (size_t i = 0; i < size; ++i) {
        if (x[i] < lo || x[i] > hi) continue;
        count += 1.0;
        sum += max - static_cast<double>(x[i]);
      }
      return true;
    });
    const double mean = sum / count;
    passes_.ForRuns(range_, false, [&](const T* x, size_t, size_t size, T lo, T hi) {
      for (size_t i = 0; i < size; ++i) {
        if (x[i] < lo || x[i] > hi) continue;
        const double distance = max - static_cast<double>(x[i]) - mean;
        squares += distance * distance;
      }
      return true;
    });
    FromLogit(max - n * std::sqrt(squares / count));
  }

  void TopH(double h) {
    TopK(static_cast<double>(kTopHClasses), false);
    if (!is_few_) CollectFew();
    few_.TopH(h, Unit());
  }

  void TypicalP(double mass, bool strictly) {
    if (mass == 1.0) return;
    if (!is_few_) CollectAll();
    few_.TypicalP(mass, strictly, Unit());
  }

  void Xtc(double probability, double threshold, size_t place) {
    if (!(ShareOf(Philox(key_, counter_, kFilterPurpose, place).Lower()) < probability)) return;
    if (is_few_) return few_.Xtc(threshold, Unit());
    // At most 1 / threshold classes are above it.
    const double total = ExactTotal();
    const double bound = static_cast<double>(range_.hi) + std::log(threshold * total) * temperature_;
    const T lo = std::clamp(static_cast<T>(bound), range_.lo, range_.hi);
    std::vector<Class> above;
    passes_.ForTerms(passes_.Within(range_, NextBelow(lo), range_.hi), [&](double x, double term, size_t id) {
      if (term >= threshold * total) above.push_back({x, static_cast<int64_t>(id)});
    });
    if (above.size() < 2) return;
    const Class last = *std::max_element(above.begin(), above.end(), IsLikelier);
    range_.hi = static_cast<T>(last.x);
    range_.hi_id = static_cast<size_t>(last.id);
    is_hi_cut_ = true;
    has_sums_ = false;
  }

  // ---- the range ----

  CutSearch<T>& Search() {
    if (!search_) search_.emplace(&passes_);
    return *search_;
  }
  FoundElements<T>* Found() {
    x_.resize(std::min(p_.n, kFound) + kRoom);
    place_.resize(x_.size());
    found_ = {x_.data(), place_.data(), std::min(p_.n, kFound), 0, 0};
    return &found_;
  }

  void CutAfter(const Cut<T>& cut) {
    has_sums_ = false;
    if (cut.x > range_.lo) range_.lo_id = p_.n - 1;
    range_.lo = cut.x;
    range_.lo_id = std::min(range_.lo_id, cut.id);
  }

  // Lists the classes if they are few.
  void CollectFew() {
    Found();
    found_.most = std::min(kFew, found_.most);
    if (!passes_.Collect(range_, &found_)) return;
    few_.Clear();
    for (size_t i = 0; i < found_.count; ++i) few_.Add({static_cast<double>(x_[i]), place_[i]});
    few_.Sort();
    is_few_ = true;
  }
  void CollectAll() {
    few_.Clear();
    passes_.SetUnit(range_, temperature_);
    passes_.ForTerms(range_, [&](double x, double, size_t id) { few_.Add({x, static_cast<int64_t>(id)}); });
    few_.Sort();
    is_few_ = true;
  }

  double ExactTotal() {
    passes_.SetUnit(range_, temperature_);
    passes_.Masses(range_, true, &sums_);
    double total = 0.0;
    for (const double sum : sums_) total += sum;
    return total;
  }
  // The entropy, and the sum of exact terms.
  double Entropy(double* total) {
    passes_.SetUnit(range_, temperature_);
    double weighted = 0.0;
    const double max = static_cast<double>(range_.hi);
    passes_.ForTerms(range_, [&](double x, double term, size_t) {
      *total += term;
      weighted += term * ((max - x) / temperature_);
    });
    return std::log(*total) + weighted / *total;
  }

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
      const double target = ShareOf(Philox(key_, counter_, kSamplePurpose, d).Lower()) * total;
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
    const PhiloxBlock random = Philox(key_, counter_, kSamplePurpose, draw);
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
      const double u = ShareOf(Philox(key_, counter_, kRacePurpose, i).Lower());
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

  const SampleProblem& p_;
  RowPasses<T> passes_;
  const PhiloxKey key_;
  std::optional<CutSearch<T>> search_;
  Range<T> range_ = {};
  bool is_few_ = false, is_hi_cut_ = false;
  bool has_sums_ = false;  // the search has those of the range, at the temperature sums_temperature_
  FewClasses few_;
  size_t row_ = 0;
  uint64_t counter_ = 0;
  double temperature_ = 1.0, sums_temperature_ = 1.0;
  std::vector<T> x_, sorted_maxima_;
  std::vector<uint32_t> place_;
  FoundElements<T> found_ = {};
  std::vector<double> sums_, exact_sums_;
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
