#include "rescored_top.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "../runtime/parallel.hpp"

namespace boltzmax {

namespace {

struct Scored {
  double score, error;
  int64_t id;

  double Lower() const { return score - error; }  // the error has room for the rounding of these
  double Upper() const { return score + error; }
};

bool Precedes(const Scored& a, const Scored& b) { return a.score != b.score ? a.score > b.score : a.id < b.id; }

// Candidates of all rows, in compressed rows, and their logits.
struct Chosen {
  std::vector<int64_t> begin, id;
  std::vector<double> score, error;

  explicit Chosen(const std::vector<std::vector<int64_t>>& of_row) : begin(1, 0) {
    for (const auto& ids : of_row) {
      id.insert(id.end(), ids.begin(), ids.end());
      begin.push_back(static_cast<int64_t>(id.size()));
    }
    score.resize(id.size());
    error.resize(id.size());
  }

  void Rescore(const RescoreProblem& logits) {
    RescoreProblem problem = logits;
    problem.begin = begin.data();
    problem.id = id.data();
    problem.score = score.data();
    problem.error = error.data();
    boltzmax::Rescore(problem);
  }

  size_t Begin(size_t row) const { return static_cast<size_t>(begin[row]); }
  size_t Count(size_t row) const { return Begin(row + 1) - Begin(row); }
  void AddTo(std::vector<Scored>& all, size_t row) const {
    for (size_t i = Begin(row); i < Begin(row + 1); ++i) all.push_back({score[i], error[i], id[i]});
  }
  double LeastLower(size_t row) const {
    double least = std::numeric_limits<double>::infinity();
    for (size_t i = Begin(row); i < Begin(row + 1); ++i) least = std::min(least, score[i] - error[i]);
    return least;
  }
};

class Search {
 public:
  explicit Search(const RescoredTopProblem& p) : p_(p), rows_(p.logits.rows), order_(rows_) {}

  void Run() {
    std::vector<std::vector<int64_t>> likeliest(rows_), others(rows_);
    ForRows([&](size_t r) { likeliest[r] = Likeliest(r); });
    Chosen first(likeliest);
    first.Rescore(p_.logits);
    ForRows([&](size_t r) { others[r] = Others(r, first.LeastLower(r)); });
    Chosen second(others);
    second.Rescore(p_.logits);
    ForRows([&](size_t r) {
      std::vector<Scored> all;
      all.reserve(first.Count(r) + second.Count(r));
      first.AddTo(all, r);
      second.AddTo(all, r);
      Finish(r, all);
    });
  }

 private:
  template <class F>
  void ForRows(F f) {
    const double nanoseconds = 10.0 * static_cast<double>(p_.logits.begin[rows_]);
    ParallelBlocks(rows_, 1, nanoseconds, [&](size_t begin, size_t end) {
      for (size_t r = begin; r < end; ++r) f(r);
    });
  }

  // Puts the candidates with the k largest lower bounds first, and returns these.
  std::vector<int64_t> Likeliest(size_t r) {
    auto& order = order_[r];
    for (int64_t i = p_.logits.begin[r]; i < p_.logits.begin[r + 1]; ++i) order.push_back(i);
    MoveToFront(order.begin(), order.end(), p_.k, p_.lower);
    return SortedIds(order.begin(), order.begin() + static_cast<ptrdiff_t>(p_.k));
  }

  // The other candidates that may exceed the bar, those with the largest upper bounds if there are too many.
  std::vector<int64_t> Others(size_t r, double bar) {
    auto& order = order_[r];
    const auto begin = order.begin() + static_cast<ptrdiff_t>(p_.k);
    const auto end = std::partition(begin, order.end(), [&](int64_t i) { return p_.upper[i] >= bar; });
    const auto left = static_cast<size_t>(end - begin), taken = std::min(left, p_.most);
    p_.proven[r] = taken == left;
    if (taken < left) MoveToFront(begin, end, taken, p_.upper);
    return SortedIds(begin, begin + static_cast<ptrdiff_t>(taken));
  }

  void Finish(size_t r, std::vector<Scored>& all) const {
    std::sort(all.begin(), all.end(), Precedes);
    double next = -std::numeric_limits<double>::infinity();  // the largest upper bound of those that follow
    for (size_t i = all.size(); i-- > 0;) {
      if (i < p_.k && !(all[i].Lower() > next)) p_.proven[r] = 0;
      next = std::max(next, all[i].Upper());
    }
    for (size_t i = 0; i < p_.k; ++i) {
      p_.id[r * p_.k + i] = all[i].id;
      p_.score[r * p_.k + i] = all[i].score;
      p_.error[r * p_.k + i] = all[i].error;
    }
    p_.rescored[r] = static_cast<int64_t>(all.size());
  }

  using Iterator = std::vector<int64_t>::iterator;
  static void MoveToFront(Iterator begin, Iterator end, size_t count, const double* bound) {
    if (count == 0 || count >= static_cast<size_t>(end - begin)) return;
    const auto last = begin + static_cast<ptrdiff_t>(count - 1);
    std::nth_element(begin, last, end, [&](int64_t a, int64_t b) { return bound[a] > bound[b]; });
  }
  std::vector<int64_t> SortedIds(Iterator begin, Iterator end) const {
    std::vector<int64_t> ids;
    for (; begin != end; ++begin) ids.push_back(p_.logits.id[*begin]);
    std::sort(ids.begin(), ids.end());
    return ids;
  }

  const RescoredTopProblem& p_;
  size_t rows_;
  std::vector<std::vector<int64_t>> order_;  // of each row's candidates
};

}  // namespace

void RescoredTop(const RescoredTopProblem& p) { Search(p).Run(); }

}  // namespace boltzmax
