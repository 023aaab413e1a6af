// A sample of a row, and what it says of where the row is to be cut: a bracket, two logits with the cut between them.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "row_passes.hpp"

namespace boltzmax {

template <class T>
struct Bracket {
  T lo, hi;
};

// What the elements of a sample below the cut should have together, and those above it; how uncertain that is, relative
// to it, besides the sample's own error; and a factor of all uncertainty.
struct WantedMass {
  double below, above, uncertain, spread;
};

// Elements count by their mass, or each as one.
template <class T>
class RowSample {
 public:
  explicit RowSample(RowPasses<T>* passes) : passes_(*passes) {}

  // Reads a contiguous part of the row here and there.
  void Take(const Range<T>& range, bool by_mass) {
    by_mass_ = by_mass;
    x_.clear();
    place_.clear();
    weights_.clear();
    const size_t n = passes_.Length(), step = std::max<size_t>(n / kRuns, 1);
    for (size_t begin = 0; begin < n; begin += step) {
      const size_t count = std::min(kRun, n - begin);
      const T* x = passes_.Reader().Piece(begin, count);
      for (size_t i = 0; i < count; ++i) {
        if (!(x[i] >= range.lo && x[i] <= range.hi)) continue;
        x_.push_back(x[i]);
        place_.push_back(begin + i);
      }
    }
  }
  // Takes n elements that were found in the first part of a row instead.
  void TakeFound(const T* x, size_t n) {
    x_.assign(x, x + n);
    weights_.clear();
  }
  // The part of the row that is in the sample.
  double Part() const { return static_cast<double>(kRuns * kRun) / static_cast<double>(passes_.Length()); }
  double CountIn(const Bracket<T>& bracket) const {
    return static_cast<double>(
        std::count_if(x_.begin(), x_.end(), [&](T x) { return x >= bracket.lo && x <= bracket.hi; }));
  }

  // An estimate of the row's mass: that of the largest elements of groups, and what the sample says of the others.
  struct Mass {
    double total, uncertain;  // the second relative to the first
    double share_of_few;      // what the largest elements of a few groups have of it
  };
  Mass EstimateMass(size_t few) {
    const std::vector<T>& maxima = passes_.GroupMaxima();
    std::vector<double>& largest = largest_;
    Weigh(maxima, &largest);
    const double sum = RowPasses<T>::Sum(largest);
    const auto last = largest.begin() + static_cast<ptrdiff_t>(std::min(few, largest.size()));
    std::nth_element(largest.begin(), last, largest.end(), std::greater<>());
    Weigh(x_, &weights_);
    double others = 0.0, squares = 0.0;
    for (size_t i = 0; i < x_.size(); ++i) {
      const double weight = x_[i] == maxima[place_[i] / kSampleGroup] ? 0.0 : weights_[i];
      others += weight;
      squares += weight * weight;
    }
    const double total = sum + others / Part();
    return {total, 2.0 * std::sqrt(squares) / Part() / total, std::accumulate(largest.begin(), last, 0.0) / total};
  }

  // A bracket around the cut, which is in `open`; elements below `floor` matter little. It is found from that side of
  // the cut where less is wanted.
  Bracket<T> Suggest(const Range<T>& open, T floor, const WantedMass& mass) {
    T least = open.hi, most = open.lo;
    for (const T x : x_) {
      if (x < open.lo || x > open.hi) continue;
      least = std::min(least, std::max(x, floor));
      most = std::max(most, x);
    }
    if (least > most) return {open.lo, open.hi};
    if (least == most) return {least, most};
    const double low = static_cast<double>(least), width = (static_cast<double>(most) - low) / kBuckets;
    Fill(open, low, width);
    const bool from_above = mass.above < mass.below;
    const double wanted = from_above ? mass.above : mass.below;
    size_t near = kBuckets, far = kBuckets;  // buckets, counted from that side
    double sum = 0.0, square = 0.0;
    for (size_t j = 0; j < kBuckets && far == kBuckets; ++j) {
      const size_t b = from_above ? kBuckets - 1 - j : j;
      sum += bucket_[b];
      square += squares_[b];
      const double error = mass.spread * (3.0 * std::sqrt(square) + mass.uncertain * wanted);
      if (near == kBuckets && sum + error >= wanted) near = j;
      if (sum - error > wanted) far = j;
    }
    const auto edge = [&](size_t b) { return static_cast<T>(low + width * static_cast<double>(b)); };
    Bracket<T> bracket = {open.lo, open.hi};
    if (from_above) {
      if (near > 0 && near < kBuckets) bracket.hi = edge(kBuckets - near);
      if (far < kBuckets - 1) bracket.lo = edge(kBuckets - 1 - far);
    } else {
      if (near > 0 && near < kBuckets) bracket.lo = edge(near);
      if (far < kBuckets - 1) bracket.hi = edge(far + 1);
    }
    bracket.lo = std::clamp(bracket.lo, open.lo, open.hi);
    bracket.hi = std::clamp(bracket.hi, bracket.lo, open.hi);
    return bracket;
  }

 private:
  static constexpr size_t kRuns = 128, kRun = 16, kBuckets = 512;

  void Weigh(const std::vector<T>& x, std::vector<double>* weights) const {
    weights->assign(x.size(), 1.0);
    if (by_mass_) passes_.ExactTerms(x.data(), x.size(), weights->data());
  }
  // Adds the weights of the sample, and their squares, to buckets of logits.
  void Fill(const Range<T>& open, double low, double width) {
    if (weights_.empty()) Weigh(x_, &weights_);
    std::fill(bucket_.begin(), bucket_.end(), 0.0);
    std::fill(squares_.begin(), squares_.end(), 0.0);
    for (size_t i = 0; i < x_.size(); ++i) {
      if (x_[i] < open.lo || x_[i] > open.hi) continue;
      const double x = static_cast<double>(x_[i]);
      const size_t b = x <= low ? 0 : std::min(static_cast<size_t>((x - low) / width), kBuckets - 1);
      bucket_[b] += weights_[i];
      squares_[b] += weights_[i] * weights_[i];
    }
  }

  RowPasses<T>& passes_;
  bool by_mass_ = false;
  std::vector<T> x_;
  std::vector<size_t> place_;
  std::vector<double> weights_, largest_;
  std::vector<double> bucket_ = std::vector<double>(kBuckets), squares_ = std::vector<double>(kBuckets);
};

}  // namespace boltzmax
