// Where to cut a row so that what is below, the likelier classes being above, has a given count, or a given mass.
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

// A sample of the row suggests a bracket: two logits with the cut between them. One pass sums what is below and collects
// what is between; the cut is then found among a few thousand classes. If the sample was misleading, the next bracket is
// wider, or narrower.
//
// The cut leaves out as much as it may from below, where sums are small and their errors, too.
template <class T>
class CutSearch {
 public:
  explicit CutSearch(RowPasses<T>* passes) : passes_(*passes) {
    x_.resize(kMost + kRoom);
    place_.resize(kMost + kRoom);
    found_ = {x_.data(), place_.data(), kMost, 0, 0};
  }

  // The k-th likeliest class; there are `count`, more than k.
  Cut<T> OfCount(const Range<T>& range, double k, double count) {
    by_mass_ = false;
    total_ = count;
    count_excess_ = count - k;
    return Find(range, count_excess_, 0.0);
  }

  // The class with which the mass is first at least p of the whole, below 1; `sums` are the masses of groups in the
  // unit that is set.
  Cut<T> OfMass(const Range<T>& range, double p, double temperature, const std::vector<double>& sums) {
    by_mass_ = true;
    p_ = p;
    temperature_ = temperature;
    groups_ = sums.size();
    total_ = TotalOf(sums);
    const double excess = total_ - p * total_;
    return Find(range, excess, 2.0 * excess * passes_.Error() + kRounding * total_);
  }

  // Whether the last search counted the classes down to the cut, and their number.
  bool HasCount() const { return has_count_; }
  size_t Kept() const { return kept_; }

 private:
  static constexpr size_t kMost = 16384, kRoom = 64;
  static constexpr size_t kRuns = 64, kRun = 16, kBuckets = 512, kSorted = 48;
  static constexpr int kRounds = 12;
  static constexpr double kRounding = 0x1p-50;

  struct Bracket {
    T lo, hi;
  };
  enum class Outcome : uint8_t { kFound, kNear, kHigher };

  static double TotalOf(const std::vector<double>& sums) {
    double total = 0.0;
    for (const double sum : sums) total += sum;
    return total;
  }

  // `excess` is what may be left out.
  Cut<T> Find(const Range<T>& range, double excess, double margin) {
    has_count_ = false;
    TakeSample(range);
    const double part = static_cast<double>(kRuns * kRun) / static_cast<double>(passes_.Length());
    Range<T> open = range;  // the cut is in it
    double spread = 1.0;
    Bracket bracket = Suggest(open, excess * part, (total_ - excess) * part, spread);
    for (int round = 0; round < kRounds; ++round) {
      const bool fits = Pass(range, bracket);
      if (below_ > excess + margin) {
        open = passes_.Within(open, open.lo, NextBelow(bracket.lo));
      } else if (!fits) {
        if (bracket.lo == bracket.hi) return OfTies(range, bracket.lo, excess, margin);
        open = passes_.Within(open, bracket.lo, bracket.hi);
        // What was found before there were too many is a sample of the bracket.
        sample_.assign(x_.begin(), x_.begin() + static_cast<ptrdiff_t>(found_.count));
        const double covered = static_cast<double>(place_[found_.count - 1]) + 1.0;
        const double rest = std::max(excess - below_, 0.0) * covered / static_cast<double>(passes_.Length());
        bracket = Suggest(open, rest, std::numeric_limits<double>::infinity(), spread = 0.25);
        continue;
      } else {
        Cut<T> cut;
        const Outcome outcome = Resolve(excess, margin, &cut);
        if (outcome == Outcome::kFound) return cut;
        if (outcome == Outcome::kNear) return Exactly(range, bracket);
        open = passes_.Within(open, NextAbove(bracket.hi), open.hi);
      }
      spread *= 4.0;
      bracket = round < 2 ? Suggest(open, excess * part, (total_ - excess) * part, spread) : Halve(open);
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

  // A bracket around the cut, given what the sample should have below it or above it: the smaller of both counts.
  Bracket Suggest(const Range<T>& open, double below, double above, double spread) {
    T least = open.hi, most = open.lo;
    const T floor = by_mass_ ? FloorOfMass(open) : open.lo;
    for (const T x : sample_) {
      if (x < open.lo || x > open.hi) continue;
      least = std::min(least, std::max(x, floor));
      most = std::max(most, x);
    }
    if (least > most) return {open.lo, open.hi};
    if (least == most) return {least, most};
    const double low = static_cast<double>(least), width = (static_cast<double>(most) - low) / kBuckets;
    Weigh(sample_.data(), sample_.size());
    std::fill(bucket_.begin(), bucket_.end(), 0.0);
    std::fill(squares_.begin(), squares_.end(), 0.0);
    for (size_t i = 0; i < sample_.size(); ++i) {
      if (sample_[i] < open.lo || sample_[i] > open.hi) continue;
      const size_t b = BucketOf(static_cast<double>(sample_[i]), low, width);
      bucket_[b] += weights_[i];
      squares_[b] += weights_[i] * weights_[i];
    }
    const bool from_above = above < below;
    const double wanted = from_above ? above : below;
    size_t near = kBuckets, far = kBuckets;  // buckets, counted from that side
    double sum = 0.0, square = 0.0;
    for (size_t j = 0; j < kBuckets && far == kBuckets; ++j) {
      const size_t b = from_above ? kBuckets - 1 - j : j;
      sum += bucket_[b];
      square += squares_[b];
      const double error = spread * (3.0 * std::sqrt(square) + 0.01 * wanted);
      if (near == kBuckets && sum + error >= wanted) near = j;
      if (sum - error > wanted) far = j;
    }
    const auto edge = [&](size_t b) { return static_cast<T>(low + width * static_cast<double>(b)); };
    Bracket bracket = {open.lo, open.hi};
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

  // Elements below this have together less than a third of the mass below the cut.
  T FloorOfMass(const Range<T>& open) const {
    const double depth = std::log(static_cast<double>(passes_.Length()) / std::max(1.0 - p_, 0x1p-53)) + 1.0;
    const double floor = passes_.Max() - depth * temperature_;
    return floor > static_cast<double>(open.lo) ? static_cast<T>(floor) : open.lo;
  }

  // The upper half of what is open.
  static Bracket Halve(const Range<T>& open) {
    const T middle = open.lo / 2 + open.hi / 2;
    return {std::clamp(middle, open.lo, open.hi), open.hi};
  }

  static size_t BucketOf(double x, double low, double width) {
    return x <= low ? 0 : std::min(static_cast<size_t>((x - low) / width), kBuckets - 1);
  }

  void Weigh(const T* x, size_t n) {
    weights_.resize(n);
    if (by_mass_) passes_.ExactTerms(x, n, weights_.data());
    else std::fill(weights_.begin(), weights_.end(), 1.0);
  }

  // Sums what is below a bracket, collects what is in it, and counts what is above. False if there is too much in it.
  bool Pass(const Range<T>& range, const Bracket& bracket) {
    bracket_ = bracket;
    below_sums_.assign(by_mass_ ? groups_ : 0, 0.0);
    found_.count = found_.above = 0;
    bool fits = true;
    const T bound = NextBelow(bracket.lo);
    passes_.ForRuns(range, false, [&](const T* x, size_t begin, size_t n, T lo, T hi) {
      if (by_mass_ && bound >= lo) passes_.AddMasses(x, begin, n, lo, std::min(bound, hi), below_sums_.data());
      if (fits)
        fits = passes_.CollectRun(x, begin, n, {std::max(lo, bracket.lo), std::min(hi, bracket.hi), hi}, &found_);
      return true;
    });
    if (by_mass_) {
      passes_.Scale(&below_sums_);
      below_ = TotalOf(below_sums_);
    } else if (fits) {
      below_ = total_ - static_cast<double>(found_.above + found_.count);
    } else {
      below_ = static_cast<double>(passes_.Count(passes_.Within(range, range.lo, bound)));
    }
    return fits;
  }

  // Looks for the cut among what was found. First the bracket is halved until it has few elements.
  Outcome Resolve(double excess, double margin, Cut<T>* cut) {
    const size_t n = found_.count;
    Weigh(x_.data(), n);
    double below = below_;
    size_t count = n;
    T lo = bracket_.lo, hi = bracket_.hi;
    for (int halving = 0; count > kSorted && halving < 64; ++halving) {
      const T middle = lo / 2 + hi / 2;
      if (!(lo <= middle && middle < hi)) break;
      const size_t up_to = passes_.CountOf(x_.data(), n, lo, middle);
      double sum = static_cast<double>(up_to);
      if (by_mass_) {
        sum = passes_.MassOf(x_.data(), n, lo, middle);
        margin += margin > 0.0 ? sum * passes_.Error() : 0.0;
      }
      if (below + sum <= excess) {
        below += sum;
        count -= up_to;
        lo = NextAbove(middle);
      } else {
        count = up_to;
        hi = middle;
      }
    }
    entries_.clear();
    for (size_t i = 0; i < n; ++i) {
      if (x_[i] >= lo && x_[i] <= hi) entries_.push_back({x_[i], place_[i], weights_[i]});
    }
    std::sort(entries_.begin(), entries_.end());
    for (const Entry& e : entries_) {
      if (below + e.weight <= excess) {
        below += e.weight;
        continue;
      }
      if (margin > 0.0 && (below >= excess - margin || below + e.weight <= excess + margin)) return Outcome::kNear;
      *cut = {e.x, e.place};
      CountKept(*cut);
      return Outcome::kFound;
    }
    return below >= excess - margin && margin > 0.0 ? Outcome::kNear : Outcome::kHigher;
  }

  // Makes the number of classes above the bracket that of the classes that are kept.
  void CountKept(const Cut<T>& cut) {
    kept_ = found_.above;
    for (size_t i = 0; i < found_.count; ++i) {
      // No branch: half of the classes are kept.
      kept_ += static_cast<size_t>(x_[i] > cut.x) |
               (static_cast<size_t>(x_[i] == cut.x) & static_cast<size_t>(place_[i] <= cut.id));
    }
    has_count_ = true;
  }

  // Replaces fast sums by exact ones: of the whole, and below a logit.
  double ExactSums(const Range<T>& range, T lo) {
    passes_.ExactSums(range, NextBelow(lo), &total_, &below_);
    return total_ - p_ * total_;
  }

  Cut<T> Exactly(const Range<T>& range, const Bracket& bracket) {
    const double excess = ExactSums(range, bracket.lo);
    Cut<T> cut;
    if (below_ <= excess && Resolve(excess, 0.0, &cut) == Outcome::kFound) return cut;
    return BySorting(range);
  }

  // The cut is among the elements equal to x, which are too many to be collected.
  Cut<T> OfTies(const Range<T>& range, T x, double excess, double margin) {
    if (margin > 0.0) excess = ExactSums(range, x);
    Weigh(&x, 1);
    const Range<T> ties = passes_.Within(range, x, x);
    const auto count = static_cast<double>(passes_.Count(ties));
    const double left_out = std::floor((excess - below_) / weights_[0]);
    if (!(left_out >= 0.0 && left_out < count)) return BySorting(range);
    return {x, passes_.PlaceOf(ties, static_cast<size_t>(count - left_out))};
  }

  // The last resort.
  Cut<T> BySorting(const Range<T>& range) {
    entries_.clear();
    double total = 0.0;
    passes_.ForTerms(range, [&](double x, double term, size_t id) {
      const double weight = by_mass_ ? term : 1.0;
      entries_.push_back({static_cast<T>(x), static_cast<uint32_t>(id), weight});
      total += weight;
    });
    std::sort(entries_.begin(), entries_.end());
    const double excess = by_mass_ ? total - p_ * total : count_excess_;
    double below = 0.0;
    size_t i = 0;
    while (i + 1 < entries_.size() && below + entries_[i].weight <= excess) below += entries_[i++].weight;
    return {entries_[i].x, entries_[i].place};
  }

  // The least likely ones first.
  struct Entry {
    T x;
    uint32_t place;
    double weight;

    bool operator<(const Entry& other) const { return x < other.x || (x == other.x && place > other.place); }
  };

  RowPasses<T>& passes_;
  bool by_mass_ = false, has_count_ = false;
  double temperature_ = 1.0, p_ = 0.0, total_ = 0.0, below_ = 0.0, count_excess_ = 0.0;
  size_t kept_ = 0, groups_ = 0;
  Bracket bracket_ = {};  // of what was found
  std::vector<T> x_, sample_;
  std::vector<uint32_t> place_;
  std::vector<double> weights_, below_sums_;
  std::vector<double> bucket_ = std::vector<double>(kBuckets), squares_ = std::vector<double>(kBuckets);
  std::vector<Entry> entries_;
  FoundElements<T> found_ = {};
};

}  // namespace boltzmax
