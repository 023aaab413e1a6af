// The k largest elements of a row that is taken in pieces.
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

// The k largest of what it is shown; of equal ones those of the least ids. Elements of -inf and NaN are passed over.
class Top {
 public:
  explicit Top(size_t k);
  // Begins anew; at least k elements will exceed `bar`.
  void Clear(double bar);
  // What an element has to exceed.
  double Bar() const { return IsSorted() && best_.size() == k_ ? best_.back().score : bar_; }
  // Ids come in increasing order.
  void Offer(double score, int64_t id);
  // The largest first.
  std::vector<Candidate>& Best();

 private:
  // A few are kept in order. Of many, up to twice as many are kept in none.
  static constexpr size_t kFew = 64;
  bool IsSorted() const { return k_ <= kFew; }
  void Prune();

  size_t k_;
  double bar_ = 0.0;
  std::vector<Candidate> best_;
};

// Looks for them where they can be: the sums of the pieces tell.
class TopSearch {
 public:
  TopSearch(const StorageKernels& kernels, size_t k) : kernels_(kernels), k_(k), top_(k) {}

  // Some elements of a row: its pieces, of `length` each but for the last, their sums, and the id of the first.
  struct Part {
    const std::vector<RowSum>& sums;
    std::function<Row(size_t)> piece;
    size_t length, first;
  };
  // The first elements of a row.
  void Begin(const Part& part);
  // Further ones, after `count` have been found in those before.
  void Resume(const int64_t* ids, const double* scores, size_t count, const Part& part);

  std::vector<Candidate>& Best() { return top_.Best(); }

 private:
  double FirstBar(const Part& part);
  void Add(const Part& part);
  void OfferAll(const Row& piece, size_t first);

  const StorageKernels& kernels_;
  size_t k_;
  Top top_;
  std::vector<double> maxima_;
};

}  // namespace boltzmax
