// The k largest elements of a row that is read in pieces.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "../runtime/dispatch.hpp"

namespace boltzmax {

struct Candidate {
  double score;
  int64_t id;
};

// The k largest of the elements that it is offered; of equal ones, those with the lowest ids. Elements of -inf and NaN
// are ignored.
class Top {
 public:
  explicit Top(size_t k);
  // Starts over; the caller knows that at least k elements will exceed `threshold`.
  void Clear(double threshold);
  // Elements at or below this cannot be among the k largest.
  double Threshold() const { return IsSorted() && best_.size() == k_ ? best_.back().score : threshold_; }
  // Ids must come in increasing order.
  void Offer(double score, int64_t id);
  // The largest first.
  std::vector<Candidate>& Best();

 private:
  // A small k is kept sorted. For a large one, up to 2 k elements are kept unsorted.
  static constexpr size_t kFew = 64;
  bool IsSorted() const { return k_ <= kFew; }
  void Prune();

  size_t k_;
  double threshold_ = 0.0;
  std::vector<Candidate> best_;
};

// Searches a row's pieces for the largest, but only those whose maximum, known from their sums, is high enough.
class TopSearch {
 public:
  TopSearch(const StorageKernels& kernels, size_t k) : kernels_(kernels), k_(k), top_(k) {}

  // Some elements of a row: pieces of `length` each, except the last, their sums, and the id of the first element.
  struct Part {
    const std::vector<RowSum>& sums;
    std::function<Row(size_t)> piece;
    size_t length, first;
  };
  // The first elements of a row.
  void Begin(const Part& part);
  // More elements of the row, after `count` results from those before.
  void Resume(const int64_t* ids, const double* scores, size_t count, const Part& part);

  std::vector<Candidate>& Best() { return top_.Best(); }

 private:
  double FirstThreshold(const Part& part);
  void Add(const Part& part);
  void OfferAll(const Row& piece, size_t first);

  const StorageKernels& kernels_;
  size_t k_;
  Top top_;
  std::vector<double> maxima_;
};

}  // namespace boltzmax
