// A sample of a row, and what it says of where the row is to be cut: a bracket, two logits with the cut between them.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "row_passes.hpp"

namespace boltzmax {

// What the elements of a sample below the cut should have together, and those above it; how uncertain that is, relative
// to it, besides the sample's own error; and a factor of all uncertainty.
struct WantedMass {
  double below, above, uncertain, spread;
};

// Elements below this have together less than a third of the mass below a cut at p.
template <class T>
T FloorOfMass(const RowPasses<T>& passes, const Range<T>& open, double p, double temperature) {
  const double depth = std::log(static_cast<double>(passes.Length()) / std::max(1.0 - p, 0x1p-53)) + 1.0;
  const double floor = passes.Max() - depth * temperature;
  return floor > static_cast<double>(open.lo) ? static_cast<T>(floor) : open.lo;
}

// Elements count by their mass, or each as one.
template <class T>
class RowSample {
 public:
  explicit RowSample(RowPasses<T>* passes)
      : passes_(*passes), runs_(std::clamp(passes->Length() / kSpacing, kLeastRuns, kMostRuns)) {}

  // Reads a contiguous part of the row here and there.
  void Take(const Range<T>& range, bool by_mass) {
    by_mass_ = by_mass;
    weights_.clear();
    const size_t n = passes_.Length(), step = std::max<size_t>(n / runs_, 1);
    x_.resize((n + step - 1) / step * kRun);
    size_t taken = 0;
    for (size_t begin = 0; begin < n; begin += step) {
      const size_t count = std::min(kRun, n - begin);
      const T* x = passes_.Reader().Piece(begin, count);
      for (size_t i = 0; i < count; ++i) {
        x_[taken] = x[i];
        taken += static_cast<size_t>(x[i] >= range.lo) & static_cast<size_t>(x[i] <= range.hi);
      }
    }
    x_.resize(taken);
  }
  // Takes n elements that were found in the first part of a row instead.
  void TakeFound(const T* x, size_t n) {
    x_.assign(x, x + n);
    weights_.clear();
  }
  // The part of the row that is in the sample.
  double Part() const { return static_cast<double>(runs_ * kRun) / static_cast<double>(passes_.Length()); }
  double CountIn(const Bracket<T>& bracket) const {
    return static_cast<double>(passes_.CountOf(x_.data(), x_.size(), bracket.lo, bracket.hi));
  }

  // A bracket around the cut, which is in `open`; elements below `floor` matter little. It is found from that side of
  // the cut where less is wanted.
  Bracket<T> Suggest(const Range<T>& open, T floor, const WantedMass& mass) {
    T least = open.hi, most = open.lo;
    for (const T x : x_) {
      const bool is_open = x >= open.lo && x <= open.hi;
      least = std::min(least, is_open ? x : least);
      most = std::max(most, is_open ? x : most);
    }
    least = std::max(least, std::min(floor, most));
    if (least > most) return {open.lo, open.hi};
    if (least == most) return {least, most};
    const double low = static_cast<double>(least), width = (static_cast<double>(most) - low) / kBuckets;
    Fill(open, low, width);
    const bool from_above = mass.above < mass.below;
    const double wanted = from_above ? mass.above : mass.below;
    const double sure = mass.spread * mass.uncertain * wanted, squares = 9.0 * mass.spread * mass.spread;
    // Whether three standard errors and the other uncertainty reach over a distance.
    const auto reaches = [&](double distance, double square) {
      const double rest = distance - sure;
      return rest <= 0.0 || squares * square >= rest * rest;
    };
    size_t near = kBuckets, far = kBuckets;  // buckets, counted from that side
    double sum = 0.0, square = 0.0;
    for (size_t j = 0; j < kBuckets && far == kBuckets; ++j) {
      const size_t b = from_above ? kBuckets - 1 - j : j;
      sum += buckets_[b].weight;
      square += buckets_[b].square;
      if (near == kBuckets && reaches(wanted - sum, square)) near = j;
      if (!reaches(sum - wanted, square)) far = j;
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
  static constexpr size_t kSpacing = 1024, kLeastRuns = 128, kMostRuns = 512, kRun = 8, kBuckets = 256;

  void Weigh(const std::vector<T>& x, std::vector<double>* weights) const {
    weights->assign(x.size(), 1.0);
    if (by_mass_) passes_.ExactTerms(x.data(), x.size(), weights->data());
  }
  // Adds the weights of the sample, and their squares, to buckets of logits.
  void Fill(const Range<T>& open, double low, double width) {
    if (weights_.empty()) Weigh(x_, &weights_);
    std::fill(buckets_.begin(), buckets_.end(), Bucket{});
    const double scale = 1.0 / width;
    for (size_t i = 0; i < x_.size(); ++i) {
      if (x_[i] < open.lo || x_[i] > open.hi) continue;
      const double at = (static_cast<double>(x_[i]) - low) * scale;  // NaN if the width is that of no number
      Bucket& bucket = buckets_[at > 0.0 ? static_cast<size_t>(std::min(at, kBuckets - 1.0)) : 0];
      bucket.weight += weights_[i];
      bucket.square += weights_[i] * weights_[i];
    }
  }

  struct Bucket {
    double weight = 0.0, square = 0.0;
  };

  RowPasses<T>& passes_;
  const size_t runs_;
  bool by_mass_ = false;
  std::vector<T> x_;
  std::vector<double> weights_;
  std::vector<Bucket> buckets_ = std::vector<Bucket>(kBuckets);
};

}  // namespace boltzmax
