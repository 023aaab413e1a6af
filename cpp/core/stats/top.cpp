#include "top.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr size_t kFound = 8;  // how many candidates are taken before the threshold is raised

bool Precedes(const Candidate& a, const Candidate& b) { return a.score != b.score ? a.score > b.score : a.id < b.id; }

// A threshold just below the k-th largest of these maxima, so that at least k elements exceed it; -inf if there are
// fewer.
double ThresholdBelow(std::vector<double>& maxima, size_t k) {
  if (k > maxima.size()) return -kInfinity;
  std::nth_element(maxima.begin(), maxima.begin() + static_cast<ptrdiff_t>(k - 1), maxima.end(), std::greater<>());
  const double threshold = maxima[k - 1];
  return threshold - threshold == 0.0 ? threshold - (std::abs(threshold) * 0x1p-7 + 0x1p-100) : -kInfinity;
}

}  // namespace

// ---- Top ----

Top::Top(size_t k) : k_(k) { best_.reserve(IsSorted() ? k + 1 : 2 * k); }

void Top::Clear(double threshold) {
  threshold_ = threshold;
  best_.clear();
}

void Top::Offer(double score, int64_t id) {
  if (!(score > Threshold())) return;
  if (IsSorted()) {
    const auto below = [](const Candidate& c, double s) { return c.score >= s; };
    best_.insert(std::lower_bound(best_.begin(), best_.end(), score, below), {score, id});
    if (best_.size() > k_) best_.pop_back();
  } else {
    best_.push_back({score, id});
    if (best_.size() == 2 * k_) Prune();
  }
}

void Top::Prune() {
  const auto last = best_.begin() + static_cast<ptrdiff_t>(k_ - 1);
  std::nth_element(best_.begin(), last, best_.end(), Precedes);
  threshold_ = last->score;
  best_.resize(k_);
}

std::vector<Candidate>& Top::Best() {
  if (!IsSorted()) {
    std::sort(best_.begin(), best_.end(), Precedes);
    if (best_.size() > k_) best_.resize(k_);
  }
  return best_;
}

// ---- TopSearch ----

void TopSearch::Begin(const Part& part) {
  top_.Clear(FirstThreshold(part));
  Add(part);
}

void TopSearch::Resume(const int64_t* ids, const double* scores, size_t count, const Part& part) {
  top_.Clear(-kInfinity);
  for (size_t j = 0; j < count; ++j) top_.Offer(scores[j], ids[j]);
  Add(part);
}

// Every candidate costs some mispredicted branches, and most would come while the threshold is still low. So it starts
// high: at the k-th largest maximum of the pieces or, if there are few pieces, of groups of elements in the best piece.
// Only a few pieces reach it; those are read again, from the second-level cache.
double TopSearch::FirstThreshold(const Part& part) {
  maxima_.clear();
  for (const RowSum& sum : part.sums) maxima_.push_back(sum.hi == sum.hi ? sum.max : -kInfinity);
  if (k_ > maxima_.size()) {
    const auto best = std::max_element(maxima_.begin(), maxima_.end()) - maxima_.begin();
    maxima_.resize(kGroups);
    maxima_.resize(kernels_.group_maxima(part.piece(static_cast<size_t>(best)), maxima_.data()));
  }
  return ThresholdBelow(maxima_, k_);
}

void TopSearch::Add(const Part& part) {
  for (size_t s = 0; s < part.sums.size(); ++s) {
    if (part.sums[s].max > top_.Threshold()) OfferAll(part.piece(s), part.first + s * part.length);
  }
}

void TopSearch::OfferAll(const Row& piece, size_t first) {
  Element found[kFound];
  for (size_t i = 0; i < piece.n;) {
    size_t count;
    i = kernels_.find_above(piece, top_.Threshold(), i, kFound, found, &count);
    for (size_t j = 0; j < count; ++j) top_.Offer(found[j].score, static_cast<int64_t>(first + found[j].index));
  }
}

}  // namespace boltzmax
