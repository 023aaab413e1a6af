// Locally typical classes: those whose surprise, -log p, is nearest to the entropy (Meister et al., TACL 2023), until
// they have a given mass.
//
// The surprise of x is (max - x) / T + log(total), and the entropy is its mean: so the distance is that of (max - x) / T
// from its own mean, and what is kept is an interval of logits. A sample of the row suggests a bracket of distances with
// the last kept class in it. One pass sums what is nearer and collects what is in the bracket, which is then searched. If
// that is too much, it is a better sample.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "row_passes.hpp"

namespace boltzmax {

template <class T>
class TypicalSearch {
 public:
  explicit TypicalSearch(RowPasses<T>* passes) : passes_(*passes), x_(kMost + kRoom), place_(kMost + kRoom) {}

  // Narrows a range, whose unit is set, to the typical classes. `strictly`: their sum exceeds the mass, and of equally
  // typical ones the likelier, then the lower ids come first; otherwise, it is at least the mass, and all equally typical
  // ones are kept. False if what is left is no range, or not found after some rounds.
  bool Narrow(Range<T>* range, double mass, double temperature, bool strictly) {
    range_ = *range;
    temperature_ = temperature;
    strictly_ = strictly;
    double total = 0.0, weighted = 0.0;
    passes_.ExactMoments(range_, &total, &weighted);
    mean_ = weighted / total;
    wanted_ = mass * total;
    const double most = std::max(mean_, Offset(range_.lo));
    open_ = {0.0, most, 0.0, total};
    is_overfull_ = false;
    TakeSample();
    for (int round = 0; round < kRounds; ++round) {
      const Bracket bracket = Suggest();
      const Range<T> nearer = Within(bracket.least, true);
      const double below = MassOf(nearer);
      if (IsEnough(below)) {
        open_.most = std::nextafter(bracket.least, -1.0);
        open_.mass_to_most = below;
      } else if (Collect(nearer, Within(bracket.most, false))) {
        if (Resolve(nearer, below)) return Keep(range);
        if (bracket.most == most) return true;
        open_.least = std::nextafter(bracket.most, kInfinity);
        open_.mass_below = below + collected_;
      } else {
        const double up_to = MassOf(Within(bracket.most, false));
        if (!IsEnough(up_to)) {
          if (bracket.most == most) return true;
          open_.least = std::nextafter(bracket.most, kInfinity);
          open_.mass_below = up_to;
        } else if (bracket.least == bracket.most) {
          return LastOfTies(nearer, bracket.most) && Keep(range);
        } else {
          is_overfull_ = true;
          open_ = {bracket.least, bracket.most, below, up_to};
          // What was found before there were too many, thinned out, is a sample of the bracket.
          sample_.clear();
          for (size_t i = 0; i < found_.count; i += kThinning) sample_.push_back(x_[i]);
        }
      }
    }
    return false;
  }

 private:
  static constexpr size_t kMost = 8192, kRoom = 64, kRuns = 64, kRun = 16, kSorted = 48, kThinning = 8;
  static constexpr int kRounds = 12;
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  // Distances from the least to the most, among which that of the last kept class is.
  struct Bracket {
    double least, most;
  };
  struct Open {
    double least, most, mass_below, mass_to_most;
  };
  struct Entry {
    double distance;
    T x;
    uint32_t place;
    double term;

    bool operator<(const Entry& other) const {
      if (distance != other.distance) return distance < other.distance;
      return x > other.x || (x == other.x && place < other.place);
    }
  };

  bool IsEnough(double sum) const { return strictly_ ? sum > wanted_ : sum >= wanted_; }

  // How much more surprising a class is than the mean; it does not increase with x.
  double Offset(T x) const { return (passes_.Max() - static_cast<double>(x)) / temperature_ - mean_; }

  // The classes nearer than a distance, or up to it. With lo > hi there are none.
  Range<T> Within(double distance, bool nearer) const {
    const auto is_up_to = [&](double offset) { return nearer ? offset < distance : offset <= distance; };
    const T lo = First(range_.lo, range_.hi, [&](T x) { return is_up_to(Offset(x)); });
    const T beyond = First(range_.lo, range_.hi, [&](T x) { return !is_up_to(-Offset(x)); });
    return RowPasses<T>::Within(range_, lo, NextBelow(beyond));
  }

  // The first number from lo to hi from which on a condition holds; the one above hi if it does not.
  template <class F>
  static T First(T lo, T hi, F holds) {
    if (!holds(hi)) return NextAbove(hi);
    Key low = KeyOf(lo), high = KeyOf(hi);
    while (low < high) {
      const Key middle = (low & high) + ((low ^ high) >> 1);  // rounded down, without overflow
      if (holds(Number(middle))) high = middle;
      else low = middle + 1;
    }
    return Number(high);
  }
  // Integers in the order of floating-point numbers.
  using Key = std::conditional_t<sizeof(T) == sizeof(int32_t), int32_t, int64_t>;
  static Key KeyOf(T x) {
    const auto bits = std::bit_cast<Key>(x);
    return bits < 0 ? bits ^ std::numeric_limits<Key>::max() : bits;
  }
  static T Number(Key key) { return std::bit_cast<T>(key < 0 ? key ^ std::numeric_limits<Key>::max() : key); }

  // The mass of a part of the range; exact if it is too near to what is wanted for a fast sum.
  double MassOf(const Range<T>& part) {
    const double fast = MassOf(part, false);
    margin_ = fast * passes_.Error();
    if (std::abs(fast - wanted_) > 2.0 * margin_) return fast;
    margin_ = 0.0;
    return MassOf(part, true);
  }
  double MassOf(const Range<T>& part, bool exactly) { return part.lo > part.hi ? 0.0 : passes_.Mass(part, exactly); }

  // A contiguous part of the row here and there.
  void TakeSample() {
    sample_.clear();
    const size_t n = passes_.Length(), step = std::max<size_t>(n / kRuns, 1);
    for (size_t begin = 0; begin < n; begin += step) {
      const size_t count = std::min({kRun, n - begin, step});
      const T* x = passes_.Reader().Piece(begin, count);
      for (size_t i = 0; i < count; ++i) {
        if (x[i] >= range_.lo && x[i] <= range_.hi) sample_.push_back(x[i]);
      }
    }
  }

  // A bracket, from the shares of the sample's mass up to its distances, plus or minus three standard errors.
  Bracket Suggest() {
    List(sample_.data(), nullptr, sample_.size());
    std::erase_if(entries_, [&](const Entry& e) { return e.distance < open_.least || e.distance > open_.most; });
    std::sort(entries_.begin(), entries_.end());
    double total = 0.0, squares = 0.0;
    for (const Entry& e : entries_) {
      total += e.term;
      squares += e.term * e.term;
    }
    Bracket bracket = {open_.least, open_.most};
    if (!(total > 0.0)) return bracket;
    const double wanted = (wanted_ - open_.mass_below) / (open_.mass_to_most - open_.mass_below);
    double sum = 0.0, square = 0.0, guess = open_.most;
    for (const Entry& e : entries_) {
      sum += e.term;
      square += e.term * e.term;
      const double share = sum / total;
      if (share >= wanted) guess = std::min(guess, e.distance);
      const double variance = (1.0 - share) * (1.0 - share) * square + share * share * (squares - square);
      const double error = 3.0 * std::sqrt(std::max(variance, 0.0)) / total;
      if (share + error < wanted) bracket.least = e.distance;
      if (share - error > wanted) {
        bracket.most = e.distance;
        break;
      }
    }
    // Few distances, each of many classes.
    if (is_overfull_ && bracket.least <= open_.least && bracket.most >= open_.most) return {guess, guess};
    return bracket;
  }

  // Collects the classes that are in a range, but not in its inner part. False if they are too many.
  bool Collect(const Range<T>& nearer, const Range<T>& all) {
    found_ = {x_.data(), place_.data(), kMost, 0, 0};
    if (all.lo > all.hi) return true;
    const bool is_all = nearer.lo > nearer.hi;
    bool fits = true;
    passes_.ForRuns(all, false, [&](const T* x, size_t begin, size_t n, T lo, T hi) {
      const auto collect = [&](T from, T to) {
        if (fits && from <= to) fits = passes_.CollectRun(x, begin, n, {from, to, to}, &found_);
      };
      collect(lo, is_all ? hi : std::min(hi, NextBelow(nearer.lo)));
      if (!is_all) collect(std::max(lo, NextAbove(nearer.hi)), hi);
      return fits;
    });
    return fits;
  }

  void List(const T* x, const uint32_t* place, size_t n) {
    terms_.resize(n);
    passes_.ExactTerms(x, n, terms_.data());
    entries_.resize(n);
    for (size_t i = 0; i < n; ++i) {
      entries_[i] = {std::abs(Offset(x[i])), x[i], place == nullptr ? 0 : place[i], terms_[i]};
    }
  }

  // Finds the last kept class among those collected; false if all of them are not enough.
  bool Resolve(const Range<T>& nearer, double below) {
    List(x_.data(), place_.data(), found_.count);
    if (Select(below)) return true;
    if (!is_near_) return false;
    margin_ = 0.0;
    return Select(MassOf(nearer, true));
  }

  // The same, given the mass of what is nearer. False also if that has to be exact.
  bool Select(double below) {
    is_near_ = false;
    collected_ = 0.0;
    const auto is_enough = [&](double sum) {
      is_near_ |= std::abs(sum - wanted_) <= margin_;
      return IsEnough(sum);
    };
    auto first = entries_.begin(), last = entries_.end();
    while (last - first > static_cast<ptrdiff_t>(kSorted)) {
      const auto middle = first + (last - first) / 2;
      std::nth_element(first, middle, last);
      double sum = 0.0;
      for (auto e = first; e != middle; ++e) sum += e->term;
      if (is_enough(below + collected_ + sum)) {
        last = middle;
      } else {
        collected_ += sum;
        first = middle;
      }
    }
    std::sort(first, last);
    for (; first != last; ++first) {
      collected_ += first->term;
      if (!is_enough(below + collected_)) continue;
      last_ = *first;
      return !is_near_;
    }
    // All of the last part is necessary if what comes after it was enough before.
    if (last != entries_.end() && !is_near_) {
      last_ = *(last - 1);
      return true;
    }
    return false;
  }

  // The last class is among many of the same distance.
  bool LastOfTies(const Range<T>& nearer, double distance) {
    entries_.clear();
    last_ = {distance, 0, 0, 0.0};
    if (!strictly_) return true;
    const Range<T> all = Within(distance, false);
    const T hi = nearer.lo > nearer.hi ? all.hi : NextBelow(nearer.lo);
    const Range<T> ties = RowPasses<T>::Within(all, all.lo, hi);
    const size_t count = passes_.Count(ties);
    if (Offset(ties.lo) < 0.0 || count == 0 || count != passes_.Count(all) - passes_.Count(nearer)) return false;
    last_.x = First(ties.lo, ties.hi, [&](T x) { return passes_.Count(RowPasses<T>::Within(ties, x, hi)) < count; });
    last_.x = NextBelow(last_.x);
    if (passes_.Count(RowPasses<T>::Within(ties, last_.x, last_.x)) != count) return false;
    passes_.ExactTerms(&last_.x, 1, &last_.term);
    const double wanted = std::floor((wanted_ - MassOf(nearer, true)) / last_.term) + 1.0;
    const double most = static_cast<double>(count);
    last_.place = static_cast<uint32_t>(passes_.PlaceOf(RowPasses<T>::Within(ties, last_.x, last_.x),
                                                        static_cast<size_t>(std::clamp(wanted, 1.0, most))));
    return true;
  }

  // The range of what is kept. Its bounds have to be logits of classes.
  bool Keep(Range<T>* range) {
    Range<T> kept = Within(last_.distance, false);
    if (strictly_) {
      if (Offset(last_.x) < 0.0) {
        for (const Entry& e : entries_) {
          // A class like the last one, of a higher id, is left out; the others are a range only without it.
          if (e.distance == last_.distance && last_ < e && Offset(e.x) < 0.0) return false;
        }
        kept = RowPasses<T>::Within(kept, Within(last_.distance, true).lo, kept.hi);
      } else {
        kept.lo = last_.x;
        kept.lo_id = last_.place;
      }
    }
    if (kept.hi < range->hi) kept.hi = passes_.Largest(kept);
    *range = kept;
    return true;
  }

  RowPasses<T>& passes_;
  Range<T> range_ = {};
  double temperature_ = 1.0, mean_ = 0.0, wanted_ = 0.0, margin_ = 0.0, collected_ = 0.0;
  bool strictly_ = false, is_near_ = false, is_overfull_ = false;
  Open open_ = {};
  Entry last_ = {};
  std::vector<T> x_, sample_;
  std::vector<uint32_t> place_;
  std::vector<double> terms_;
  std::vector<Entry> entries_;
  FoundElements<T> found_ = {};
};

}  // namespace boltzmax
