// The filters on a few classes, in the order of likelihood: the largest logits first, equal ones by their ids.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "../runtime/sampling_table.hpp"

namespace boltzmax {

// A class that is left.
struct Class {
  double x;
  int64_t id;
};
inline bool IsLikelier(const Class& a, const Class& b) { return a.x > b.x || (a.x == b.x && a.id < b.id); }

// Only the likeliest classes count for top_h.
inline constexpr size_t kTopHClasses = 100;

class FewClasses {
 public:
  void Clear() { classes_.clear(); }
  void Add(const Class& c) { classes_.push_back(c); }
  void Sort() { std::sort(classes_.begin(), classes_.end(), IsLikelier); }

  size_t Size() const { return classes_.size(); }
  const Class& operator[](size_t i) const { return classes_[i]; }

  // Keeps the classes from `first` to before `last`.
  void Keep(size_t first, size_t last) {
    classes_.resize(last);
    classes_.erase(classes_.begin(), classes_.begin() + static_cast<ptrdiff_t>(first));
  }

  // The exponentials of (x - max) / T.
  const std::vector<double>& Terms(double temperature) {
    terms_.resize(Size());
    x_.resize(Size());
    for (size_t i = 0; i < Size(); ++i) x_[i] = classes_[i].x;
    ActiveSampling().f64.exact_terms(x_.data(), Size(), classes_[0].x, temperature, terms_.data());
    return terms_;
  }

  void TopK(double k, bool all_ties) {
    if (k >= static_cast<double>(Size())) return;
    auto last = static_cast<size_t>(k);
    while (all_ties && last < Size() && classes_[last].x == classes_[last - 1].x) ++last;
    Keep(0, last);
  }

  // The same for an unsorted list, which is then in order.
  void SelectTop(size_t k, bool all_ties) {
    if (k < Size()) {
      const auto last = classes_.begin() + static_cast<ptrdiff_t>(k - 1);
      std::nth_element(classes_.begin(), last, classes_.end(), IsLikelier);
      const double least = last->x;
      const auto ties =
          all_ties ? std::partition(last + 1, classes_.end(), [&](const Class& c) { return c.x == least; }) : last + 1;
      classes_.erase(ties, classes_.end());
    }
    Sort();
  }

  void TopP(double p, double temperature) {
    if (p == 1.0) return;
    const auto& terms = Terms(temperature);
    const double least = p * Total();
    double sum = 0.0;
    size_t last = 0;
    while (last < Size() && sum < least) sum += terms[last++];
    Keep(0, std::max<size_t>(last, 1));
  }

  // Keeps the classes whose term is at least `least`, and the likeliest ones.
  void AtLeast(double least, double temperature) {
    const auto& terms = Terms(temperature);
    size_t last = 0;
    while (last < Size() && (terms[last] >= least || classes_[last].x == classes_[0].x)) ++last;
    Keep(0, last);
  }
  void FromLogit(double least) {
    size_t last = 1;
    while (last < Size() && classes_[last].x >= least) ++last;
    Keep(0, last);
  }

  // The entropy of softmax(x / T), from Terms.
  double Entropy(double temperature) const {
    double weighted = 0.0;
    for (size_t i = 0; i < Size(); ++i) {
      if (terms_[i] > 0.0) weighted += terms_[i] * ((classes_[0].x - classes_[i].x) / temperature);
    }
    const double total = Total();
    return std::log(total) + weighted / total;
  }
  double Total() const {
    double total = 0.0;
    for (const double term : terms_) total += term;
    return total;
  }

  void TypicalP(double mass, bool strictly, double temperature) {
    if (mass == 1.0) return;
    const auto& terms = Terms(temperature);
    const double total = Total(), shift = std::log(total) - Entropy(temperature);
    std::vector<std::pair<double, size_t>> nearest(Size());  // the distance of a class's information from the entropy
    for (size_t i = 0; i < Size(); ++i) {
      nearest[i] = {std::abs(shift + (classes_[0].x - classes_[i].x) / temperature), i};
    }
    std::sort(nearest.begin(), nearest.end());
    size_t last = 0;
    double sum = 0.0;
    const auto is_enough = [&] { return strictly ? sum > mass * total : sum >= mass * total; };
    while (last < Size() && !is_enough()) sum += terms[nearest[last++].second];
    while (!strictly && last < Size() && nearest[last].first == nearest[last - 1].first) ++last;
    std::vector<Class> kept;
    kept.reserve(last);
    for (size_t i = 0; i < last; ++i) kept.push_back(classes_[nearest[i].second]);
    classes_ = std::move(kept);
    Sort();
  }

  void TopNSigma(double n) {
    const double max = classes_[0].x;
    double sum = 0.0, squares = 0.0;
    for (const Class& c : classes_) sum += max - c.x;
    const double mean = sum / static_cast<double>(Size());
    for (const Class& c : classes_) squares += (max - c.x - mean) * (max - c.x - mean);
    FromLogit(max - n * std::sqrt(squares / static_cast<double>(Size())));
  }

  void TopH(double h, double temperature) {
    if (Size() > kTopHClasses) Keep(0, kTopHClasses);
    if (h == 1.0) return;
    const auto& terms = Terms(temperature);
    // Sums of equal terms have to be equal to multiples of them: one double is not enough.
    const long double total = Total(), log_total = std::log(total);
    const auto share = [&](size_t i) {
      const long double information = log_total + (classes_[0].x - classes_[i].x) / temperature;
      return terms[i] > 0.0 ? terms[i] / total * information : 0.0L;
    };
    long double entropy = 0.0L, sum = 0.0L;
    for (size_t i = 0; i < Size(); ++i) entropy += share(i);
    // A class whose share underflows comes after all of the entropy.
    size_t last = 0;
    while (last < Size() && terms[last] > 0.0 && (sum += share(last)) <= h * entropy) ++last;
    Keep(0, std::max<size_t>(last, 1));
  }

  // Leaves out all classes of at least that probability but the last.
  void Xtc(double threshold, double temperature) {
    const auto& terms = Terms(temperature);
    const double least = threshold * Total();
    size_t above = 0;
    while (above < Size() && terms[above] >= least) ++above;
    if (above >= 2) Keep(above - 1, Size());
  }

 private:
  std::vector<Class> classes_;
  std::vector<double> terms_, x_;
};

}  // namespace boltzmax
