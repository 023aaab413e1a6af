#include "row_stats.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "../rows/segment_sums.hpp"
#include "../runtime/convert.hpp"
#include "../runtime/row_blocks.hpp"
#include "top.hpp"

namespace boltzmax {

namespace {

constexpr size_t kPieceBytes = 32768;

class Worker {
 public:
  explicit Worker(const RowStatsProblem& problem)
      : p_(problem),
        kernels_(KernelsFor(problem.storage)),
        item_(ItemSize(problem.storage)),
        piece_(kPieceBytes / item_),
        load_(Gather(problem.storage, DType::kFloat64)),
        sums_((problem.n + piece_ - 1) / piece_),
        means_(sums_.size()),
        top_(kernels_, problem.k) {}

  void Run(size_t r) {
    const bool has_target = p_.target != nullptr;
    const double at_target = has_target ? Logit(r, p_.target[r]) : 0.0;
    size_t rank = 1;
    for (size_t s = 0; s < sums_.size(); ++s) {
      const Row piece = Piece(r, s);
      sums_[s] = p_.entropy == nullptr ? kernels_.reduce(piece) : kernels_.reduce_mean(piece, &means_[s]);
      if (has_target && sums_[s].max > at_target) rank += kernels_.count_above(piece, at_target);
    }
    const LongSum sum = Combine(sums_, p_.temperature, true, kernels_,
                                [&](size_t s) { return kernels_.reduce_rest(Piece(r, s), sums_[s]); });
    p_.lse[r] = LogSumExpOf(sum.total, sum.log_sum, p_.temperature);
    const auto log_prob = [&](double logit) {
      if (IsDegenerate(sum.total)) return std::nan("");
      return ((logit - sum.total.offset) / p_.temperature - sum.log_sum.hi) - sum.log_sum.lo;
    };
    if (p_.entropy != nullptr) p_.entropy[r] = IsDegenerate(sum.total) ? std::nan("") : Entropy(sum);
    if (has_target) {
      p_.target_log_prob[r] = log_prob(at_target);
      p_.target_rank[r] = static_cast<int64_t>(rank);
    }
    if (p_.k > 0) {
      top_.Begin({sums_, [&](size_t s) { return Piece(r, s); }, piece_, 0});
      StoreTop(r, log_prob);
    }
  }

 private:
  Row Piece(size_t r, size_t s) const {
    const size_t begin = s * piece_;
    return {p_.logits + static_cast<ptrdiff_t>(r) * p_.stride + static_cast<ptrdiff_t>(begin * item_),
            nullptr,
            nullptr,
            std::min(piece_, p_.n - begin),
            p_.temperature,
            true,
            false};
  }
  double Load(const void* x) const {
    double value;
    load_(static_cast<const char*>(x), 0, 1, &value);
    return value;
  }
  double Logit(size_t r, int64_t c) const {
    return Load(p_.logits + static_cast<ptrdiff_t>(r) * p_.stride + c * static_cast<ptrdiff_t>(item_));
  }

  // lse less the mean score. Both are nearly the maximum if the entropy is small, so the maximum is never added to
  // them.
  double Entropy(const LongSum& sum) const {
    const double to_max = sum.log_sum.hi - (sum.total.max - sum.total.offset) / p_.temperature;
    return std::max(0.0, (to_max - MeanBelowMax(sum.total) / p_.temperature) + sum.log_sum.lo);
  }
  // The mean of score - max over the row, from the means of its pieces.
  double MeanBelowMax(const RowSum& total) const {
    double weighted = 0.0, weights = 0.0;
    for (size_t s = 0; s < sums_.size(); ++s) {
      if (!(sums_[s].hi > 0.0)) continue;
      const double weight = sums_[s].hi * UnitRatio(sums_[s], total, p_.temperature);
      weights += weight;
      weighted += weight * ((sums_[s].max - total.max) + means_[s]);
    }
    return weighted / weights;
  }

  // Elements of -inf or NaN exceed nothing: they fill the remaining ranks, in order of their index.
  void Fill(size_t r, std::vector<Candidate>& best) {
    if (best.size() == p_.k) return;
    found_.clear();
    for (const Candidate& candidate : best) found_.push_back(candidate.id);
    std::sort(found_.begin(), found_.end());
    auto next = found_.begin();
    for (int64_t id = 0; best.size() < p_.k; ++id) {
      if (next != found_.end() && *next == id) {
        ++next;
      } else {
        best.push_back({Logit(r, id), id});
      }
    }
  }

  template <class LogProb>
  void StoreTop(size_t r, LogProb log_prob) {
    std::vector<Candidate>& best = top_.Best();
    Fill(r, best);
    for (size_t j = 0; j < p_.k; ++j) {
      p_.top_id[r * p_.k + j] = best[j].id;
      p_.top_log_prob[r * p_.k + j] = log_prob(best[j].score);
    }
  }

  const RowStatsProblem& p_;
  const StorageKernels& kernels_;
  size_t item_, piece_;
  GatherFn load_;
  std::vector<RowSum> sums_;
  std::vector<double> means_;
  std::vector<int64_t> found_;  // the ids of the top, in their order
  TopSearch top_;
};

thread_local Scratch kept_terms;

// Short rows of which only the results of panels are wanted.
void RunShortRows(const RowStatsProblem& p, const LossKernels& kernels, size_t begin, size_t end) {
  const auto from = [begin](auto* column) { return column == nullptr ? nullptr : column + begin; };
  kernels.row_stats_rows({p.logits + static_cast<ptrdiff_t>(begin) * p.stride, p.stride, end - begin, p.n,
                          p.temperature, from(p.target), p.lse + begin, from(p.k == 0 ? nullptr : p.top_id),
                          from(p.top_log_prob), from(p.target_log_prob), from(p.target_rank),
                          kept_terms.Get(2 * kKept * sizeof(double)), p.rows * p.n * ItemSize(p.storage) > kFarBytes});
}

}  // namespace

void Run(const RowStatsProblem& problem) {
  if (problem.rows == 0 || problem.n == 0) return;
  const LossKernels& kernels = LossKernelsFor(problem.storage);
  // The largest element of a panel's row is searched for in all of it, of others in pieces.
  const bool by_panels = problem.n <= std::min(kernels.most, kKept) && problem.k <= 1 && problem.entropy == nullptr;
  const double cost = EstimateNanoseconds(problem.rows * problem.n, problem.storage) +
                      (by_panels ? 5.0 : 50.0) * static_cast<double>(problem.rows);
  ForEachRowBlock(problem.rows, problem.n, cost, [&](size_t begin, size_t end) {
    if (by_panels) return RunShortRows(problem, kernels, begin, end);
    Worker worker(problem);
    for (size_t r = begin; r < end; ++r) worker.Run(r);
  });
}

}  // namespace boltzmax
