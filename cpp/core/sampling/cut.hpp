// Where to cut a row so that the classes above have a given count, or a given mass.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "row_passes.hpp"

namespace boltzmax {

// The last class that is kept.
template <class T>
struct Cut {
  T x;
  size_t id;
};

// A sample of the row suggests a bracket: two logits with the cut between them. One pass sums what is above and collects
// what is between; the cut is then found among a few thousand classes. If the sample was misleading, the next bracket
// is wider, or narrower.
template <class T>
class CutSearch {
 public:
  explicit CutSearch(RowPasses<T>* passes) : passes_(*passes) {
    x_.resize(kMost + kRoom);
    place_.resize(kMost + kRoom);
    found_ = {x_.data(), place_.data(), kMost, 0};
  }

  // The k-th largest logit that is left; there are more than k.
  Cut<T> OfCount(const Range<T>& range, double k, double count) {
    by_mass_ = false;
    count_ = k;
    return Find(range, k, count, 0.0);
  }

  // The class with which the mass is first at least p of the whole.
  Cut<T> OfMass(const Range<T>& range, double p, double temperature) {
    by_mass_ = true;
    p_ = p;
    temperature_ = temperature;
    top_ = static_cast<double>(range.hi);
    passes_.SetUnit(range, temperature);
    passes_.Masses(range, false, &sums_);
    double total = 0.0;
    for (const double sum : sums_) total += sum;
    // With A above and B below, (1 - p) A is compared with p B: the error is that of both.
    const double margin = total * (2.0 * p * (1.0 - p) * passes_.Error() + 0x1p-45);
    return Find(range, p * total, total, margin);
  }

 private:
  static constexpr size_t kMost = 16384, kRoom = 64;
  static constexpr size_t kRuns = 64, kRun = 16, kBuckets = 512, kSorted = 48;

  struct Bracket {
    T lo, hi;
  };

  Cut<T> Find(const Range<T>& range, double target, double total, double margin) {
    TakeSample(range);
    const double scale = static_cast<double>(passes_.Length()) / (kRuns * kRun);
    Range<T> open = range;  // the cut is in it
    double spread = 1.0;
    Bracket bracket = Suggest(open, target / scale, (total - target) / scale, spread);
    for (int round = 0; round < 12; ++round) {
      const double above = MeasureAbove(range, bracket.hi);
      const bool fits = passes_.Collect(passes_.Within(range, bracket.lo, bracket.hi), &found_);
      if (above >= target + margin) {
        open = passes_.Above(range, bracket.hi);
      } else if (!fits) {
        if (bracket.lo == bracket.hi) return OfTies(range, bracket.lo, above, target, margin);
        open = passes_.Within(range, bracket.lo, bracket.hi);
        // What was found before there were too many is a sample of the bracket.
        sample_.assign(x_.begin(), x_.begin() + static_cast<ptrdiff_t>(found_.count));
        const double covered = static_cast<double>(place_[found_.count - 1]) + 1.0;
        const double part = covered / static_cast<double>(passes_.Length());
        bracket = Suggest(open, std::max(target - above, 0.0) * part, kInfinity, spread = 0.25);
        continue;
      } else {
        Cut<T> cut;
        const Outcome outcome = Resolve(above, target, margin, &cut);
        if (outcome == Outcome::kFound) return cut;
        if (outcome == Outcome::kNear) return Exactly(range, bracket);
        open = passes_.Within(open, open.lo, NextBelow(bracket.lo));
      }
      spread *= 4.0;
      bracket = round < 2 ? Suggest(open, target / scale, (total - target) / scale, spread) : Halve(open);
    }
    return BySorting(range);
  }

  // A contiguous part of the row here and there.
  void TakeSample(const Range<T>& range) {
    sample_.clear();
    const size_t n = passes_.Length(), step = std::max<size_t>(n / kRuns, 1);
    for (size_t begin = 0; begin < n; begin += step) {
      const size_t count = std::min(kRun, n - begin);
      const T* x = passes_.Reader().Piece(begin, count);
      for (size_t i = 0; i < count; ++i) {
        if (x[i] >= range.lo && x[i] <= range.hi) sample_.push_back(x[i]);
      }
    }
  }

  // A bracket around the cut, given what the sample should have above it or below it: the smaller of both counts.
  Bracket Suggest(const Range<T>& open, double above, double below, double spread) {
    T least = open.hi, most = open.lo;
    const T floor = by_mass_ ? FloorOfMass(open) : open.lo;
    for (const T x : sample_) {
      if (x < open.lo || x > open.hi) continue;
      least = std::min(least, std::max(x, floor));
      most = std::max(most, x);
    }
    if (!(least < most)) return {open.lo, open.hi};
    const double low = static_cast<double>(least), width = (static_cast<double>(most) - low) / kBuckets;
    weights_.resize(sample_.size());
    if (by_mass_) passes_.ExactTerms(sample_.data(), sample_.size(), weights_.data());
    else std::fill(weights_.begin(), weights_.end(), 1.0);
    double bucket[kBuckets] = {}, squares[kBuckets] = {};
    for (size_t i = 0; i < sample_.size(); ++i) {
      if (sample_[i] < open.lo || sample_[i] > open.hi) continue;
      const size_t b = BucketOf(static_cast<double>(sample_[i]), low, width);
      bucket[b] += weights_[i];
      squares[b] += weights_[i] * weights_[i];
    }
    const bool from_above = above <= below;
    const double wanted = from_above ? above : below;
    size_t near = kBuckets, far = kBuckets;  // buckets, counted from that side
    double sum = 0.0, square = 0.0;
    for (size_t j = 0; j < kBuckets; ++j) {
      const size_t b = from_above ? kBuckets - 1 - j : j;
      sum += bucket[b];
      square += squares[b];
      const double error = spread * (3.0 * std::sqrt(square) + 0.01 * wanted);
      if (near == kBuckets && sum + error >= wanted) near = j;
      if (sum - error > wanted) {
        far = j;
        break;
      }
    }
    const auto edge = [&](size_t b) {
      return b == 0 ? static_cast<double>(least) : low + width * static_cast<double>(b);
    };
    Bracket bracket = {open.lo, open.hi};
    if (from_above) {
      if (near > 0 && near < kBuckets) bracket.hi = static_cast<T>(edge(kBuckets - near));
      if (far < kBuckets - 1) bracket.lo = static_cast<T>(edge(kBuckets - 1 - far));
    } else {
      if (near > 0 && near < kBuckets) bracket.lo = static_cast<T>(edge(near));
      if (far < kBuckets - 1) bracket.hi = static_cast<T>(edge(far + 1));
    }
    bracket.lo = std::clamp(bracket.lo, open.lo, open.hi);
    bracket.hi = std::clamp(bracket.hi, bracket.lo, open.hi);
    return bracket;
  }

  // Elements below this have together less than a third of the mass below the cut.
  T FloorOfMass(const Range<T>& open) const {
    const double depth = std::log(static_cast<double>(passes_.Length()) / std::max(1.0 - p_, 0x1p-53)) + 1.0;
    const double floor = top_ - depth * temperature_;
    return floor > static_cast<double>(open.lo) ? static_cast<T>(floor) : open.lo;
  }

  static size_t BucketOf(double x, double low, double width) {
    return x <= low ? 0 : std::min(static_cast<size_t>((x - low) / width), kBuckets - 1);
  }

  double MeasureAbove(const Range<T>& range, T bound) {
    if (!(bound < range.hi)) return 0.0;
    const Range<T> above = passes_.Above(range, bound);
    if (!by_mass_) return static_cast<double>(passes_.Count(above));
    passes_.Masses(above, false, &sums_);
    double total = 0.0;
    for (const double sum : sums_) total += sum;
    return total;
  }

  enum class Outcome : uint8_t { kFound, kNear, kBelow };

  // Looks for the cut among what was found.
  Outcome Resolve(double above, double target, double margin, Cut<T>* cut) {
    size_t n = found_.count;
    weights_.resize(n);
    if (by_mass_) passes_.ExactTerms(x_.data(), n, weights_.data());
    else std::fill(weights_.begin(), weights_.end(), 1.0);
    entries_.resize(n);
    for (size_t i = 0; i < n; ++i) entries_[i] = {x_[i], place_[i], weights_[i]};
    while (entries_.size() > kSorted) {
      T least = entries_[0].x, most = least;
      for (const Entry& e : entries_) {
        least = std::min(least, e.x);
        most = std::max(most, e.x);
      }
      if (least == most) break;
      const double low = static_cast<double>(least), width = (static_cast<double>(most) - low) / kBuckets;
      if (!(width > 0.0)) break;
      double bucket[kBuckets] = {};
      for (const Entry& e : entries_) bucket[BucketOf(static_cast<double>(e.x), low, width)] += e.weight;
      size_t b = kBuckets;
      while (b > 0 && above + bucket[b - 1] < target) above += bucket[--b];
      if (b == 0) return margin > 0.0 && above + margin >= target ? Outcome::kNear : Outcome::kBelow;
      --b;
      if (margin > 0.0 && (above > target - margin || above + bucket[b] < target + margin)) return Outcome::kNear;
      std::erase_if(entries_, [&](const Entry& e) { return BucketOf(static_cast<double>(e.x), low, width) != b; });
    }
    std::sort(entries_.begin(), entries_.end());
    for (const Entry& e : entries_) {
      if (above + e.weight < target) {
        above += e.weight;
        continue;
      }
      if (margin > 0.0 && (above > target - margin || above + e.weight < target + margin)) return Outcome::kNear;
      *cut = {e.x, e.place};
      return Outcome::kFound;
    }
    return margin > 0.0 && above + margin >= target ? Outcome::kNear : Outcome::kBelow;
  }

  // The same with exact masses.
  Cut<T> Exactly(const Range<T>& range, const Bracket& bracket) {
    double above = 0.0, total = 0.0;
    passes_.ForTerms(range, [&](double x, double term, size_t) {
      total += term;
      if (x > static_cast<double>(bracket.hi)) above += term;
    });
    Cut<T> cut;
    if (above < p_ * total && Resolve(above, p_ * total, 0.0, &cut) == Outcome::kFound) return cut;
    return BySorting(range);
  }

  // The cut is among the elements equal to x, which are too many to be collected.
  Cut<T> OfTies(const Range<T>& range, T x, double above, double target, double margin) {
    double weight = 1.0;
    if (by_mass_) {
      passes_.ExactTerms(&x, 1, &weight);
      if (margin > 0.0) {
        double total = 0.0;
        above = 0.0;
        passes_.ForTerms(range, [&](double z, double term, size_t) {
          total += term;
          if (z > static_cast<double>(x)) above += term;
        });
        target = p_ * total;
      }
    }
    size_t last = range.lo_id;
    bool is_found = false;
    passes_.ForRuns(passes_.Within(range, x, x), true, [&](const T* z, size_t begin, size_t n, T lo, T hi) {
      for (size_t i = 0; i < n; ++i) {
        if (z[i] < lo || z[i] > hi) continue;
        last = begin + i;
        above += weight;
        if (above >= target) return !(is_found = true);
      }
      return true;
    });
    return is_found ? Cut<T>{x, last} : BySorting(range);
  }

  // The upper half of what is open.
  static Bracket Halve(const Range<T>& open) {
    const T middle = open.lo / 2 + open.hi / 2;
    return {std::clamp(middle, open.lo, open.hi), open.hi};
  }

  // The last resort.
  Cut<T> BySorting(const Range<T>& range) {
    std::vector<Entry> all;
    double total = 0.0;
    passes_.ForTerms(range, [&](double x, double term, size_t id) {
      const double weight = by_mass_ ? term : 1.0;
      all.push_back({static_cast<T>(x), static_cast<uint32_t>(id), weight});
      total += weight;
    });
    std::sort(all.begin(), all.end());
    const double target = by_mass_ ? p_ * total : count_;
    double sum = 0.0;
    for (const Entry& e : all) {
      sum += e.weight;
      if (sum >= target) return {e.x, e.place};
    }
    return {all.back().x, all.back().place};
  }

  struct Entry {
    T x;
    uint32_t place;
    double weight;

    bool operator<(const Entry& other) const { return x > other.x || (x == other.x && place < other.place); }
  };

  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  RowPasses<T>& passes_;
  bool by_mass_ = false;
  double temperature_ = 1.0, p_ = 0.0, count_ = 0.0, top_ = 0.0;
  std::vector<T> x_, sample_;
  std::vector<uint32_t> place_;
  std::vector<double> weights_, sums_;
  std::vector<Entry> entries_;
  FoundElements<T> found_ = {};
};

}  // namespace boltzmax
